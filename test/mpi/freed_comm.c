/* SPDX-License-Identifier: mpich2 */
/*
 * freed_comm BYTES
 *
 * Messages of communicators that their receiver has freed without receiving them. The sender
 * cancels them, when other communicators have the same contexts.
 */
#include "mpitest.h"

enum { ROUNDS = 20, MANY = 100 };

static char *message;
static int bytes;

static void take_back(MPI_Request *req)
{
    MPI_Status status;
    int cancelled;

    MPI_Cancel(req);
    MPI_Wait(req, &status);
    MPI_Test_cancelled(&status, &cancelled);
    CHECK(cancelled, "a message that nobody receives was not cancelled");
}

/* `first`: rank 0 cancels its messages before the others free the communicators. */
static void in_turn(int first)
{
    MPI_Comm comms[MANY];
    MPI_Request reqs[MANY];

    for (int i = 0; i < MANY; i++)
        MPI_Comm_dup(MPI_COMM_WORLD, &comms[i]);
    for (int i = 0; rank == 0 && i < MANY; i++)
        MPI_Isend(message, bytes, MPI_BYTE, 1, 5, comms[i], &reqs[i]);
    if (first)
        MPI_Barrier(MPI_COMM_WORLD);
    for (int i = 0; rank != 0 && i < MANY; i++)
        MPI_Comm_free(&comms[i]);
    MPI_Barrier(MPI_COMM_WORLD);
    for (int i = 0; rank == 0 && i < MANY; i++) {
        take_back(&reqs[i]);
        MPI_Comm_free(&comms[i]);
    }
    MPI_Barrier(MPI_COMM_WORLD);
}

/* Their ranks are others, and each is used. */
static void make_others(void)
{
    for (int i = 0; i < ROUNDS; i++) {
        MPI_Comm comm;
        int one = 1, sum = 0;
        MPI_Comm_split(MPI_COMM_WORLD, 0, size - rank, &comm);
        MPI_Allreduce(&one, &sum, 1, MPI_INT, MPI_SUM, comm);
        CHECK(sum == size, "a sum of %d, not %d", sum, size);
        MPI_Comm_free(&comm);
    }
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    bytes = argc > 1 ? atoi(argv[1]) : 4;
    message = calloc(1, (size_t) bytes);
    for (int first = 0; first < 2; first++) {
        in_turn(first);
        make_others();
    }
    MPI_Finalize();
    return 0;
}
