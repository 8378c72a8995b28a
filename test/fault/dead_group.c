/* SPDX-License-Identifier: mpich2 */
/*
 * dead_group CALL DIR
 *
 * A call on an intercommunicator whose other group is dead. Only rank 0 has ever talked to that
 * group. The other ranks have to learn of its death from rank 0. Each creates a file in DIR when
 * its call has ended. "list" lists the calls.
 */
#include "../mpi/mpitest.h"

#include <signal.h>

static MPI_Comm parent, children, comm;

static int call_merge(void)
{
    return MPI_Intercomm_merge(children, 0, &comm);
}
static int call_dup(void)
{
    return MPI_Comm_dup(children, &comm);
}
static int call_split(void)
{
    return MPI_Comm_split(children, 0, 0, &comm);
}
static int call_create(void)
{
    MPI_Group group;
    MPI_Comm_group(children, &group);
    return MPI_Comm_create(children, group, &comm);
}
/* The leader of the other group is dead; the peer communicator connects the two leaders. */
static int call_intercomm_create(void)
{
    return MPI_Intercomm_create(MPI_COMM_WORLD, 0, children, 0, 1, &comm);
}

static const struct {
    const char *name;
    int (*call)(void);
} calls[] = {
    {"merge", call_merge},
    {"dup", call_dup},
    {"split", call_split},
    {"create", call_create},
    {"intercomm-create", call_intercomm_create},
};
enum { CALLS = sizeof(calls) / sizeof(calls[0]) };

int main(int argc, char **argv)
{
    int at = 0, class = MPI_SUCCESS, done = 0, hello;
    char path[1000];

    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        for (int i = 0; i < CALLS; i++)
            puts(calls[i].name);
        return 0;
    }
    start(&argc, &argv);
    MPI_Comm_get_parent(&parent);
    if (parent != MPI_COMM_NULL) {
        MPI_Send(&rank, 1, MPI_INT, 0, 0, parent);
        usleep(300000);
        raise(SIGKILL);
    }
    CHECK(argc == 3, "CALL DIR are expected");
    while (at < CALLS && strcmp(argv[1], calls[at].name) != 0)
        at++;
    CHECK(at < CALLS, "no call %s", argv[1]);
    signal(SIGUSR1, SIG_IGN); /* the process manager's signal that a rank has died */
    MPI_Comm_spawn(argv[0], MPI_ARGV_NULL, 1, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &children,
                   MPI_ERRCODES_IGNORE);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(children, MPI_ERRORS_RETURN);
    if (rank == 0)
        MPI_Recv(&hello, 1, MPI_INT, 0, 0, children, MPI_STATUS_IGNORE);
    int err = calls[at].call();
    if (err)
        MPI_Error_class(err, &class);
    printf("rank %d: %s ended with class %d\n", rank, argv[1], class);
    fflush(stdout);
    snprintf(path, sizeof(path), "%s/%d", argv[2], rank);
    write_line(path, "done");
    for (int i = 0; done < size && i < 12000; i++) {
        usleep(10000);
        for (int r = done = 0; r < size; r++) {
            snprintf(path, sizeof(path), "%s/%d", argv[2], r);
            done += access(path, F_OK) == 0;
        }
    }
    _exit(done < size);
}
