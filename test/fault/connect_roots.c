/* SPDX-License-Identifier: mpich2 */
/*
 * connect_roots accept|connect FILE [PROGRAM ARG...]
 *
 * Two jobs of one rank each meet at the port in FILE. One of them may spawn a companion with that
 * command. Whichever process is struck, anywhere after the tracepoint `called`: the calls of the
 * others end, and so does their MPI_Finalize.
 */
#include "../../src/mpid/ch3/channels/nemesis/netmod/ivshmem/core/tracepoint.h"
#include "../mpi/mpitest.h"

#include <signal.h>

int main(int argc, char **argv)
{
    MPI_Comm parent, spawned, all = MPI_COMM_SELF, inter = MPI_COMM_NULL;
    char port[MPI_MAX_PORT_NAME] = "", text[MPI_MAX_ERROR_STRING] = "";
    int class = MPI_SUCCESS, err;

    start(&argc, &argv);
    CHECK(argc >= 3, "see the head of the source");
    int accepts = strcmp(argv[1], "accept") == 0;
    signal(SIGUSR1, SIG_IGN); /* the process manager's signal that a rank has died */
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    MPI_Comm_get_parent(&parent);
    if (parent != MPI_COMM_NULL) {
        MPI_Intercomm_merge(parent, 1, &all);
    } else if (argc > 3) {
        MPI_Comm_spawn(argv[3], argv + 4, 1, MPI_INFO_NULL, 0, MPI_COMM_SELF, &spawned,
                       MPI_ERRCODES_IGNORE);
        MPI_Comm_set_errhandler(spawned, MPI_ERRORS_RETURN);
        MPI_Intercomm_merge(spawned, 0, &all);
    }
    MPI_Comm_set_errhandler(all, MPI_ERRORS_RETURN);
    if (parent == MPI_COMM_NULL && accepts) {
        MPI_Open_port(MPI_INFO_NULL, port);
        write_line(argv[2], port);
    } else if (parent == MPI_COMM_NULL) {
        read_line(argv[2], port);
    }
    IVSHM_TRACEPOINT(called);
    if (accepts)
        err = MPI_Comm_accept(port, MPI_INFO_NULL, 0, all, &inter);
    else
        err = MPI_Comm_connect(port, MPI_INFO_NULL, 0, all, &inter);
    if (err) {
        MPI_Error_class(err, &class);
        error_line(err, text);
    }
    printf("%s ended with class %d %s\n", argv[1], class, text);
    fflush(stdout);
    if (parent == MPI_COMM_NULL && accepts)
        MPI_Close_port(port);
    MPI_Finalize();
    printf("%s finalized\n", argv[1]);
    return 0;
}
