/* SPDX-License-Identifier: mpich2 */
/* More at once than there are cells, inbox slots and pipelines; made for a small region. */
#include "mpitest.h"

/* Every rank sends to every other one, before anybody receives. */
static void small(void)
{
    enum { N = 1500 };
    int len = 120, *out = malloc((size_t) size * N * len), *in = malloc(len);
    MPI_Request *requests = malloc((size_t) size * N * sizeof(*requests));
    int n = 0;

    for (int i = 0; i < N; i++)
        for (int d = 1; d < size; d++) {
            int to = (rank + d) % size;
            char *p = (char *) out + (size_t) n * len;
            fill(p, len, rank * 100000 + i);
            MPI_Isend(p, len, MPI_BYTE, to, 1, MPI_COMM_WORLD, &requests[n++]);
        }
    for (int d = 1; d < size; d++)
        expect_sent((rank + d) % size, N, len);
    expected.waits = size > 1 && is_remote((rank + 1) % size);
    for (int i = 0; i < N; i++)
        for (int d = 1; d < size; d++) {
            int from = (rank + size - d) % size;
            MPI_Recv(in, len, MPI_BYTE, from, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            CHECK_PATTERN(in, len, from * 100000 + i, "message %d from %d", i, from);
        }
    MPI_Waitall(n, requests, MPI_STATUSES_IGNORE);
    free(requests);
    free(out);
    free(in);
}

/* All to one: all senders share the inbox, and the cells that its owner releases. */
static void incast(void)
{
    enum { N = 3000 };
    long long value;
    if (rank != 0) {
        for (int i = 0; i < N; i++) {
            value = (long long) rank << 32 | i;
            MPI_Send(&value, 1, MPI_LONG_LONG, 0, 2, MPI_COMM_WORLD);
        }
        expect_sent(0, N, 8);
        return;
    }
    int *next = calloc(size, sizeof(*next));
    for (int i = 0; i < N * (size - 1); i++) {
        MPI_Status status;
        MPI_Recv(&value, 1, MPI_LONG_LONG, MPI_ANY_SOURCE, 2, MPI_COMM_WORLD, &status);
        CHECK(value == ((long long) status.MPI_SOURCE << 32 | next[status.MPI_SOURCE]),
              "%llx from %d where number %d was due", value, status.MPI_SOURCE,
              next[status.MPI_SOURCE]);
        next[status.MPI_SOURCE]++;
    }
    free(next);
}

/*
 * Many large messages with all others at once, in both directions: they have to wait for pipelines.
 */
static void large(void)
{
    enum { N = 12, LEN = 200000 };
    size_t total = (size_t) size * N * LEN;
    char *out = malloc(total), *in = malloc(total);
    MPI_Request *requests = malloc((size_t) 2 * size * N * sizeof(*requests));
    int n = 0;

    fill(out, LEN, rank);
    for (int i = 0; i < N; i++)
        for (int d = 1; d < size; d++) {
            int to = (rank + d) % size, from = (rank + size - d) % size;
            char *p = out + ((size_t) to * N + i) * LEN;
            fill(p, LEN, rank * 1000 + i);
            MPI_Irecv(in + ((size_t) from * N + i) * LEN, LEN, MPI_BYTE, from, i, MPI_COMM_WORLD,
                      &requests[n++]);
            MPI_Isend(p, LEN, MPI_BYTE, to, i, MPI_COMM_WORLD, &requests[n++]);
            expect_sent(to, 1, LEN);
        }
    MPI_Waitall(n, requests, MPI_STATUSES_IGNORE);
    for (int d = 1; d < size; d++)
        for (int i = 0; i < N; i++) {
            int from = (rank + d) % size;
            CHECK_PATTERN(in + ((size_t) from * N + i) * LEN, LEN, from * 1000 + i,
                          "large %d from %d", i, from);
        }
    free(requests);
    free(out);
    free(in);
}

/* Large and small messages in both directions between neighbours, at the same time. */
static void both_ways(void)
{
    enum { N = 6, LEN = 3 << 20 };
    char *out = malloc(LEN), *in = malloc(LEN);
    int peer = rank ^ 1;
    for (int i = 0; i < N && peer < size; i++) {
        int number = i, got;
        MPI_Request request[2];
        fill(out, LEN, rank + i);
        MPI_Irecv(&got, 1, MPI_INT, peer, 4, MPI_COMM_WORLD, &request[0]);
        MPI_Isend(&number, 1, MPI_INT, peer, 4, MPI_COMM_WORLD, &request[1]);
        MPI_Sendrecv(out, LEN, MPI_BYTE, peer, 3, in, LEN, MPI_BYTE, peer, 3, MPI_COMM_WORLD,
                     MPI_STATUS_IGNORE);
        MPI_Waitall(2, request, MPI_STATUSES_IGNORE);
        expect_sent(peer, 1, LEN);
        expect_sent(peer, 1, 4);
        CHECK(got == i, "%d where %d was due", got, i);
        CHECK_PATTERN(in, LEN, peer + i, "round %d", i);
    }
    free(out);
    free(in);
}

int main(int argc, char **argv)
{
    start(&argc, &argv);
    small();
    incast();
    MPI_Barrier(MPI_COMM_WORLD);
    large();
    both_ways();
    finish();
    return 0;
}
