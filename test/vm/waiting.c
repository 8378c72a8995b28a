/* SPDX-License-Identifier: mpich2 */
/*
 * waiting [PORT]: without PORT, prints a port, and each rank waits for a message of the job that
 * connects to it. With PORT, the one rank connects, and its message never comes. Two jobs, so that
 * no process manager knows of the other one's end.
 */
#include <mpi.h>
#include <stdio.h>

static void wait_for_messages(void)
{
    char port[MPI_MAX_PORT_NAME], text[MPI_MAX_ERROR_STRING];
    int rank, value, len;
    MPI_Comm peer;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (rank == 0) {
        MPI_Open_port(MPI_INFO_NULL, port);
        printf("port=%s\n", port);
        fflush(stdout);
    }
    MPI_Comm_accept(port, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &peer);
    MPI_Comm_set_errhandler(peer, MPI_ERRORS_RETURN);
    MPI_Recv(&value, 1, MPI_INT, 0, 0, peer, MPI_STATUS_IGNORE);
    printf("waiting: rank %d\n", rank);
    fflush(stdout);
    double begin = MPI_Wtime();
    int err = MPI_Recv(&value, 1, MPI_INT, 0, 1, peer, MPI_STATUS_IGNORE);
    MPI_Error_string(err, text, &len);
    printf("waiting: rank %d %s after %.1f s: %s\n", rank,
           err == MPI_SUCCESS ? "got a message" : "got an error", MPI_Wtime() - begin, text);
    fflush(stdout);
}

static void keep_them_waiting(const char *port)
{
    int ranks, value = 0;
    MPI_Comm peer;
    MPI_Comm_connect(port, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &peer);
    MPI_Comm_remote_size(peer, &ranks);
    for (int i = 0; i < ranks; i++)
        MPI_Send(&value, 1, MPI_INT, i, 0, peer);
    MPI_Recv(&value, 1, MPI_INT, 0, 1, peer, MPI_STATUS_IGNORE);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    if (argc > 1)
        keep_them_waiting(argv[1]);
    else
        wait_for_messages();
    MPI_Finalize();
    return 0;
}
