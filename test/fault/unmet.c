/* SPDX-License-Identifier: mpich2 */
/*
 * unmet accept|connect FILE, as a job of two ranks and a job of one: rank 1 of the first dies
 * before it has exchanged a message with the second. Who waits there for one from it gets an error,
 * and goes on with rank 0.
 */
#include "../mpi/mpitest.h"

#include <signal.h>

#define LEN 1000

static void wait_for_the_dead(MPI_Comm inter)
{
    MPI_Request req;
    char byte;
    int class;

    /* Of two receives the one is posted while its sender lives. */
    MPI_Irecv(&byte, 1, MPI_BYTE, 1, 1, inter, &req);
    MPI_Send("die", 4, MPI_BYTE, 0, 1, inter);
    int err = MPI_Wait(&req, MPI_STATUS_IGNORE);
    CHECK(err != MPI_SUCCESS, "a message of the dead");
    MPI_Error_class(err, &class);
    CHECK(class == MPIX_ERR_PROC_FAILED, "class %d", class);
    err = MPI_Recv(&byte, 1, MPI_BYTE, 1, 2, inter, MPI_STATUS_IGNORE);
    CHECK(err != MPI_SUCCESS, "a message of the dead");
}

int main(int argc, char **argv)
{
    MPI_Comm inter;
    char text[MPI_MAX_ERROR_STRING], port[MPI_MAX_PORT_NAME], out[LEN], in[LEN], die[4], told[1000];

    start(&argc, &argv);
    CHECK(argc == 3, "see the head of the source");
    int accepts = strcmp(argv[1], "accept") == 0;
    signal(SIGUSR1, SIG_IGN); /* the process manager's word that a rank is dead */
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
    } else {
        wait_for_the_dead(inter);
    }
    fill(out, LEN, accepts);
    int err =
        MPI_Sendrecv(out, LEN, MPI_BYTE, 0, 3, in, LEN, MPI_BYTE, 0, 3, inter, MPI_STATUS_IGNORE);
    if (err)
        error_line(err, text);
    CHECK(err == MPI_SUCCESS, "from the living: %s", text);
    CHECK_PATTERN(in, LEN, !accepts, "from the living");
    puts("the living have met");
    fflush(stdout);
    _exit(0);
}
