/* SPDX-License-Identifier: mpich2 */
/*
 * crowded FILE
 *
 * Each rank has many large messages in flight, again and again, until FILE exists: more at once
 * than the region has room for.
 */
#include "mpitest.h"

#include <sys/stat.h>

enum { MESSAGES = 40, LENGTH = 1 << 20 };

int main(int argc, char **argv)
{
    MPI_Request requests[2 * MESSAGES];
    struct stat st;
    int over = 0;

    start(&argc, &argv);
    CHECK(argc == 2 && size >= 2, "a file, and 2 ranks, are expected");
    char *in = malloc((size_t) MESSAGES * LENGTH), *out = malloc(LENGTH);
    CHECK(in && out, "no memory");
    fill(out, LENGTH, rank);
    while (!over) {
        for (int i = 0; i < MESSAGES; i++) {
            int from = (rank + size - 1 - i % (size - 1)) % size;
            MPI_Irecv(in + (size_t) i * LENGTH, LENGTH, MPI_BYTE, from, i, MPI_COMM_WORLD,
                      &requests[i]);
        }
        for (int i = 0; i < MESSAGES; i++)
            MPI_Isend(out, LENGTH, MPI_BYTE, (rank + 1 + i % (size - 1)) % size, i, MPI_COMM_WORLD,
                      &requests[MESSAGES + i]);
        MPI_Waitall(2 * MESSAGES, requests, MPI_STATUSES_IGNORE);
        for (int i = 0; i < MESSAGES; i++) {
            int from = (rank + size - 1 - i % (size - 1)) % size;
            CHECK_PATTERN(in + (size_t) i * LENGTH, LENGTH, from, "from rank %d", from);
        }
        over = stat(argv[1], &st) == 0;
        MPI_Bcast(&over, 1, MPI_INT, 0, MPI_COMM_WORLD);
    }
    free(in);
    free(out);
    expected.lmt_max = 1LL << 50; /* until FILE exists */
    finish();
    return 0;
}
