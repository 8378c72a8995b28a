/* SPDX-License-Identifier: mpich2 */
/*
 * idle_ranks SECONDS
 *
 * A token goes round, stays with the last rank for that long, and goes round again. All others are
 * idle meanwhile, and check whether their peers have died.
 */
#include "mpitest.h"

#define BYTES 1000

static void send_to(int to, int round)
{
    unsigned char data[BYTES];
    fill(data, BYTES, (uint64_t) round);
    MPI_Send(data, BYTES, MPI_BYTE, to, round, MPI_COMM_WORLD);
    expect_sent(to, 1, BYTES);
}

static void receive_from(int from, int round)
{
    unsigned char data[BYTES];
    MPI_Recv(data, BYTES, MPI_BYTE, from, round, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    CHECK_PATTERN(data, BYTES, (uint64_t) round, "round %d", round);
}

int main(int argc, char **argv)
{
    start(&argc, &argv);
    CHECK(argc == 2 && size > 1, "quiet SECONDS, with two ranks or more");
    for (int round = 0; round < 3; round++) {
        if (rank > 0)
            receive_from(rank - 1, round);
        if (rank == size - 1)
            usleep((unsigned) (atof(argv[1]) * 1e6));
        send_to((rank + 1) % size, round);
        if (rank == 0)
            receive_from(size - 1, round);
    }
    finish();
    return 0;
}
