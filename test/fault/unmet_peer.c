/* SPDX-License-Identifier: mpich2 */
/*
 * unmet_peer accept|connect FILE wait|part, as a job of two ranks and a job of one
 *
 * Rank 1 of the first job dies before it has exchanged a message with the second job. If the second
 * waits for a message from it, it gets an error, and continues with rank 0. If it is about to
 * disconnect from the first job, it can.
 */
#include "../mpi/mpitest.h"

#include <signal.h>

#define LEN 1000

static void wait_for_the_dead(MPI_Comm inter)
{
    MPI_Request req;
    char byte;
    int class;

    /* One of the two receives is posted while its sender lives. */
    MPI_Irecv(&byte, 1, MPI_BYTE, 1, 1, inter, &req);
    MPI_Send("die", 4, MPI_BYTE, 0, 1, inter);
    int err = MPI_Wait(&req, MPI_STATUS_IGNORE);
    CHECK(err != MPI_SUCCESS, "a message of the dead");
    MPI_Error_class(err, &class);
    CHECK(class == MPIX_ERR_PROC_FAILED, "class %d", class);
    err = MPI_Recv(&byte, 1, MPI_BYTE, 1, 2, inter, MPI_STATUS_IGNORE);
    CHECK(err != MPI_SUCCESS, "a message of the dead");
}

static void meet(MPI_Comm inter, int side)
{
    char text[MPI_MAX_ERROR_STRING], out[LEN], in[LEN];

    fill(out, LEN, side);
    int err =
        MPI_Sendrecv(out, LEN, MPI_BYTE, 0, 3, in, LEN, MPI_BYTE, 0, 3, inter, MPI_STATUS_IGNORE);
    if (err)
        error_line(err, text);
    CHECK(err == MPI_SUCCESS, "from the living: %s", text);
    CHECK_PATTERN(in, LEN, !side, "from the living");
}

int main(int argc, char **argv)
{
    MPI_Comm inter;
    char port[MPI_MAX_PORT_NAME], die[4], told[1000];

    start(&argc, &argv);
    CHECK(argc == 4, "see the head of the source");
    int accepts = strcmp(argv[1], "accept") == 0, parts = strcmp(argv[3], "part") == 0;
    signal(SIGUSR1, SIG_IGN); /* the process manager's signal that a rank has died */
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    if (accepts) {
        if (rank == 0) {
            MPI_Open_port(MPI_INFO_NULL, port);
            write_line(argv[2], port);
        }
        MPI_Comm_accept(port, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &inter);
        snprintf(told, sizeof(told), "%s.die", argv[2]);
        if (rank == 1) {
            read_line(told, port);
            raise(SIGKILL);
        }
    } else {
        read_line(argv[2], port);
        MPI_Comm_connect(port, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &inter);
    }
    MPI_Comm_set_errhandler(inter, MPI_ERRORS_RETURN);
    if (accepts) {
        MPI_Recv(die, 4, MPI_BYTE, 0, 1, inter, MPI_STATUS_IGNORE);
        write_line(told, die);
    } else if (parts) {
        MPI_Send("die", 4, MPI_BYTE, 0, 1, inter);
    } else {
        wait_for_the_dead(inter);
    }
    if (parts) {
        if (accepts)
            sleep(4); /* the other side finds out while it waits for this one */
        MPI_Comm_disconnect(&inter);
    } else {
        meet(inter, accepts);
    }
    fputs("the living have met\n", stdout);
    fflush(stdout);
    _exit(0);
}
