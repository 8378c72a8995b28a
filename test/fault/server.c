/* SPDX-License-Identifier: mpich2 */
/*
 * server send|receive PORT-FILE CLIENTS DONE-FILE
 * server client send|receive PORT-FILE
 *
 * A server that outlives its clients. Each client connects and dies in the middle of a large
 * message from the server (send) or to it (receive). After the N-th client the server creates
 * DONE-FILE.N, and continues when that file is gone.
 */
#include "../mpi/mpitest.h"

enum {
    LEN = 4000000,
    OWN_PIPELINES = 4 /* which a sender fills first; then it uses one of the receiver's */
};

static char *buf;

static void message(int server_sends, int is_server, MPI_Comm comm)
{
    if (server_sends == is_server)
        MPI_Send(buf, LEN, MPI_BYTE, 0, 1, comm);
    else
        MPI_Recv(buf, LEN, MPI_BYTE, 0, 1, comm, MPI_STATUS_IGNORE);
}

static void client(int server_sends, const char *path)
{
    char port[MPI_MAX_PORT_NAME];
    MPI_Request reqs[OWN_PIPELINES];
    MPI_Comm comm;

    read_line(path, port);
    MPI_Comm_connect(port, MPI_INFO_NULL, 0, MPI_COMM_SELF, &comm);
    for (int i = 0; !server_sends && i < OWN_PIPELINES; i++)
        MPI_Isend(buf, LEN, MPI_BYTE, 0, 2, comm, &reqs[i]);
    message(server_sends, 0, comm);
    CHECK(0, "the client lives");
}

int main(int argc, char **argv)
{
    char port[MPI_MAX_PORT_NAME], name[500];
    MPI_Comm comm;

    start(&argc, &argv);
    buf = malloc(LEN);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    CHECK(argc >= 4, "%d arguments", argc - 1);
    if (strcmp(argv[1], "client") == 0)
        client(strcmp(argv[2], "send") == 0, argv[3]);
    MPI_Open_port(MPI_INFO_NULL, port);
    write_line(argv[2], port);
    for (int n = 1; n <= atoi(argv[3]); n++) {
        while (MPI_Comm_accept(port, MPI_INFO_NULL, 0, MPI_COMM_SELF, &comm) != MPI_SUCCESS)
            continue; /* an error from the last client */
        MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
        message(strcmp(argv[1], "send") == 0, 1, comm);
        snprintf(name, sizeof(name), "%s.%d", argv[4], n);
        write_line(name, "done");
        while (access(name, F_OK) == 0)
            usleep(5000);
        MPI_Comm_free(&comm);
    }
    printf("No errors\n");
    fflush(NULL);
    _exit(0);
}
