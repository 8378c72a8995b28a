/* SPDX-License-Identifier: mpich2 */
/*
 * late_broadcast DIR
 *
 * Rank 0 broadcasts. Rank 3 dies before that. Rank 1 comes late, when the others have long known of
 * the death and may use their buffers for something else. Rank 1 must not take that for the
 * broadcast. All lose the communicator, but another one works as before. Each rank creates a file
 * in DIR when it is done.
 */
#include "../mpi/mpitest.h"

#include <signal.h>

#define LEN 400000

static char *buf, *other;

static void tell(const char *what, int err)
{
    int class = MPI_SUCCESS;
    if (err)
        MPI_Error_class(err, &class);
    /* Rank 1 may have the whole broadcast, or an error. */
    printf("rank %d: %s %s class %d\n", rank, what, rank == 1 ? "came to" : "ended with", class);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    MPI_Comm comm;
    char path[1000];
    int done = 0;

    start(&argc, &argv);
    CHECK(argc == 2 && size == 4, "DIR and four ranks are expected");
    signal(SIGUSR1, SIG_IGN); /* the process manager's signal that a rank has died */
    buf = calloc(1, LEN);
    other = calloc(1, LEN);
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    /* All have met, and will find out about rank 3. */
    MPI_Alltoall(buf, 8, MPI_BYTE, other, 8, MPI_BYTE, MPI_COMM_WORLD);
    if (rank == 3)
        raise(SIGKILL);
    if (rank == 1)
        sleep(5);
    fill(buf, LEN, rank == 0 ? 1 : 2);
    int err = MPI_Bcast(buf, LEN, MPI_BYTE, 0, MPI_COMM_WORLD);
    if (err == MPI_SUCCESS && differs(buf, LEN, 1) >= 0)
        printf("rank %d: MPI_SUCCESS, and no right result\n", rank);
    tell("broadcast", err);
    fill(buf, LEN, 3);
    if (rank < 2) {
        /* A rank that does not know of the death yet learns of it here, and not in what follows. */
        err = MPI_Recv(other, 1, MPI_BYTE, 3, 0, comm, MPI_STATUS_IGNORE);
        CHECK(err, "a message of the dead");
        err = MPI_Sendrecv(buf, LEN, MPI_BYTE, !rank, 0, other, LEN, MPI_BYTE, !rank, 0, comm,
                           MPI_STATUS_IGNORE);
        CHECK(!err && differs(other, LEN, 3) < 0, "error %d on the other communicator", err);
        tell("the next collective", MPI_Barrier(MPI_COMM_WORLD));
    }
    snprintf(path, sizeof(path), "%s/%d", argv[1], rank);
    write_line(path, "done");
    for (int i = 0; done < size - 1 && i < 12000; i++) {
        usleep(10000);
        for (int r = done = 0; r < size; r++) {
            snprintf(path, sizeof(path), "%s/%d", argv[1], r);
            done += access(path, F_OK) == 0;
        }
    }
    _exit(done < size - 1);
}
