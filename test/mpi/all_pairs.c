/* SPDX-License-Identifier: mpich2 */
/*
 * all_pairs BYTES...
 *
 * For each argument, each rank sends a message of that size to each other one, all at once. For
 * many ranks.
 */
#include "mpitest.h"

static char *in, *out;

static void exchange(int len, int round)
{
    MPI_Request *requests = malloc(2 * (size_t) size * sizeof(*requests));
    for (int i = 0; i < size; i++) {
        int from = (rank + size - i) % size;
        MPI_Irecv(in + (size_t) from * len, len, MPI_BYTE, from, round, MPI_COMM_WORLD,
                  &requests[i]);
    }
    for (int i = 0; i < size; i++) {
        int to = (rank + i) % size;
        fill(out + (size_t) to * len, len, (uint64_t) rank << 32 | to);
        MPI_Isend(out + (size_t) to * len, len, MPI_BYTE, to, round, MPI_COMM_WORLD,
                  &requests[size + i]);
        expect_sent(to, 1, len);
    }
    MPI_Waitall(2 * size, requests, MPI_STATUSES_IGNORE);
    for (int from = 0; from < size; from++)
        CHECK_PATTERN(in + (size_t) from * len, len, (uint64_t) from << 32 | rank,
                      "%d bytes from %d", len, from);
    free(requests);
}

int main(int argc, char **argv)
{
    start(&argc, &argv);
    for (int i = 1; i < argc; i++) {
        int len = atoi(argv[i]);
        in = malloc((size_t) size * len);
        out = malloc((size_t) size * len);
        exchange(len, i);
        free(in);
        free(out);
    }
    finish();
    return 0;
}
