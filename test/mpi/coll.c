/* SPDX-License-Identifier: mpich2 */
/*
 * Collectives, communicators and groups, one-sided communication: what MPI builds on messages. Any
 * number of ranks.
 */
#include "mpitest.h"

#define LARGE 50000 /* ints */

static int *a, *b; /* of LARGE * size ints */

/* Values that identify sender and receiver. */
static int value(int from, int to, int i)
{
    return (from * 64 + to) * LARGE + i;
}

/* Bytes that pass between all pairs, whatever the algorithm; `large`: as large messages. */
static void passed(long long len, int large)
{
    for (int to = 0; to < size; to++)
        if (is_remote(to)) {
            expected.bytes += len;
            expected.lmt_min += large ? len : 0;
        }
}

static void all_to_all(MPI_Comm comm, int n)
{
    int *counts = malloc(size * sizeof(int)), *at = malloc(size * sizeof(int));
    MPI_Request request;
    for (int way = 0; way < 3; way++) {
        for (int to = 0; to < size; to++) {
            counts[to] = n;
            at[to] = to * n;
            for (int i = 0; i < n; i++)
                a[to * n + i] = value(rank, to, i);
        }
        memset(b, 0xff, sizeof(int) * n * size);
        if (way == 0) {
            MPI_Alltoall(a, n, MPI_INT, b, n, MPI_INT, comm);
        } else if (way == 1) {
            MPI_Alltoallv(a, counts, at, MPI_INT, b, counts, at, MPI_INT, comm);
        } else {
            MPI_Ialltoall(a, n, MPI_INT, b, n, MPI_INT, comm, &request);
            MPI_Wait(&request, MPI_STATUS_IGNORE);
        }
        for (int from = 0; from < size; from++)
            for (int i = 0; i < n; i++)
                CHECK(b[from * n + i] == value(from, rank, i), "%d ints, way %d, from %d: %d", n,
                      way, from, b[from * n + i]);
        passed(n * 4LL, n == LARGE && way > 0); /* the first may go without messages */
    }
    free(counts);
    free(at);
}

static void rooted(MPI_Comm comm, int n)
{
    for (int root = 0; root<size; root += size> 1 ? size - 1 : 1) {
        for (int i = 0; i < n; i++)
            a[i] = rank == root ? value(root, 0, i) : -1;
        MPI_Bcast(a, n, MPI_INT, root, comm);
        for (int i = 0; i < n; i++)
            CHECK(a[i] == value(root, 0, i), "bcast of %d ints from %d: %d", n, root, a[i]);

        for (int to = 0; to < size && rank == root; to++)
            for (int i = 0; i < n; i++)
                b[to * n + i] = value(root, to, i);
        MPI_Scatter(b, n, MPI_INT, a, n, MPI_INT, root, comm);
        for (int i = 0; i < n; i++) {
            CHECK(a[i] == value(root, rank, i), "scatter of %d ints from %d: %d", n, root, a[i]);
            a[i] = value(rank, root, i);
        }
        MPI_Gather(a, n, MPI_INT, b, n, MPI_INT, root, comm);
        for (int from = 0; from < size && rank == root; from++)
            for (int i = 0; i < n; i++)
                CHECK(b[from * n + i] == value(from, root, i), "gather of %d ints from %d", n,
                      from);
    }
}

static void reductions(MPI_Comm comm, int n)
{
    int ranks = size * (size - 1) / 2;
    MPI_Request request;
    for (int i = 0; i < n; i++)
        a[i] = rank + i;
    MPI_Allreduce(a, b, n, MPI_INT, MPI_SUM, comm);
    for (int i = 0; i < n; i++)
        CHECK(b[i] == ranks + size * i, "allreduce of %d ints: %d", n, b[i]);
    MPI_Iallreduce(a, b, n, MPI_INT, MPI_MAX, comm, &request);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    for (int i = 0; i < n; i++)
        CHECK(b[i] == size - 1 + i, "iallreduce of %d ints: %d", n, b[i]);
    MPI_Reduce(a, b, n, MPI_INT, MPI_SUM, size - 1, comm);
    for (int i = 0; i < n && rank == size - 1; i++)
        CHECK(b[i] == ranks + size * i, "reduce of %d ints: %d", n, b[i]);
    MPI_Scan(a, b, n, MPI_INT, MPI_SUM, comm);
    for (int i = 0; i < n; i++)
        CHECK(b[i] == rank * (rank + 1) / 2 + (rank + 1) * i, "scan of %d ints: %d", n, b[i]);
    MPI_Allgather(a, n, MPI_INT, b, n, MPI_INT, comm);
    for (int from = 0; from < size; from++)
        for (int i = 0; i < n; i++)
            CHECK(b[from * n + i] == from + i, "allgather of %d ints from %d", n, from);
    passed(n * 4LL, 0);
    for (int i = 0; i < n * size; i++)
        b[i] = rank + i;
    MPI_Reduce_scatter_block(b, a, n, MPI_INT, MPI_SUM, comm);
    for (int i = 0; i < n; i++)
        CHECK(a[i] == ranks + size * (rank * n + i), "reduce_scatter of %d ints: %d", n, a[i]);
    MPI_Barrier(comm);
}

/* Messages stay in their communicator; groups and the order of ranks are kept. */
static void communicators(void)
{
    MPI_Comm dup, half, reversed, inter, merged, made;
    MPI_Group world, odd;
    int n, r, v = rank, got = -1;
    MPI_Request request[2];

    MPI_Comm_dup(MPI_COMM_WORLD, &dup);
    int next = (rank + 1) % size, before = (rank + size - 1) % size, w = rank + 100, got_dup = -1;
    MPI_Isend(&v, 1, MPI_INT, next, 7, MPI_COMM_WORLD, &request[0]);
    MPI_Isend(&w, 1, MPI_INT, next, 7, dup, &request[1]);
    MPI_Recv(&got_dup, 1, MPI_INT, before, 7, dup, MPI_STATUS_IGNORE);
    MPI_Recv(&got, 1, MPI_INT, before, 7, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Waitall(2, request, MPI_STATUSES_IGNORE);
    CHECK(got == before && got_dup == before + 100, "%d %d from %d", got, got_dup, before);

    MPI_Comm_split(MPI_COMM_WORLD, 0, size - rank, &reversed);
    MPI_Comm_rank(reversed, &r);
    CHECK(r == size - 1 - rank, "rank %d in the reversed communicator", r);
    MPI_Bcast(&v, 1, MPI_INT, 0, reversed);
    CHECK(v == size - 1, "bcast in the reversed communicator: %d", v);
    MPI_Comm_free(&reversed);

    MPI_Comm_group(MPI_COMM_WORLD, &world);
    int range[1][3] = {{1, size - 1, 2}};
    if (size > 1) {
        MPI_Group_range_incl(world, 1, range, &odd);
        MPI_Group_size(odd, &n);
        CHECK(n == size / 2, "%d odd ranks of %d", n, size);
        MPI_Comm_create(MPI_COMM_WORLD, odd, &made);
        if (rank % 2) {
            MPI_Allreduce(&rank, &v, 1, MPI_INT, MPI_SUM, made);
            CHECK(v == n * n, "sum of the odd ranks: %d", v);
            MPI_Comm_free(&made);
        }
        MPI_Group_free(&odd);

        MPI_Comm_split(dup, rank % 2, rank, &half);
        MPI_Intercomm_create(half, 0, MPI_COMM_WORLD, 1 - rank % 2, 5, &inter);
        MPI_Comm_remote_size(inter, &n);
        CHECK(n == (rank % 2 ? (size + 1) / 2 : size / 2), "%d on the other side", n);
        int ones = 1;
        MPI_Allreduce(&ones, &v, 1, MPI_INT, MPI_SUM, inter);
        CHECK(v == n, "allreduce between the halves: %d", v);
        MPI_Intercomm_merge(inter, rank % 2, &merged);
        MPI_Comm_size(merged, &n);
        CHECK(n == size, "%d merged", n);
        all_to_all(dup, 10);
        MPI_Comm_free(&merged);
        MPI_Comm_free(&inter);
        MPI_Comm_free(&half);
    }
    MPI_Group_free(&world);
    MPI_Comm_free(&dup);
}

static void one_sided(void)
{
    int *mine, *counter, next = (rank + 1) % size, before = (rank + size - 1) % size, one = 1, old;
    MPI_Win window, counters;
    MPI_Win_allocate(LARGE * sizeof(int), sizeof(int), MPI_INFO_NULL, MPI_COMM_WORLD, &mine,
                     &window);
    for (int i = 0; i < LARGE; i++) {
        mine[i] = -1;
        a[i] = value(rank, next, i);
    }
    MPI_Win_fence(0, window);
    MPI_Put(a, LARGE, MPI_INT, next, 0, LARGE, MPI_INT, window);
    MPI_Win_fence(0, window);
    for (int i = 0; i < LARGE; i++)
        CHECK(mine[i] == value(before, rank, i), "put by %d at %d: %d", before, i, mine[i]);
    MPI_Get(b, LARGE, MPI_INT, next, 0, LARGE, MPI_INT, window);
    MPI_Win_fence(0, window);
    for (int i = 0; i < LARGE; i++)
        CHECK(b[i] == value(rank, next, i), "got back from %d at %d: %d", next, i, b[i]);
    if (is_remote(next))
        expected.bytes += LARGE * 4LL;
    if (is_remote(before))
        expected.bytes += LARGE * 4LL;
    for (int i = 0; i < LARGE; i++)
        mine[i] = a[i] = 1;
    MPI_Win_fence(0, window);
    for (int to = 0; to < size; to++)
        MPI_Accumulate(a, 1000, MPI_INT, to, 5, 1000, MPI_INT, MPI_SUM, window);
    MPI_Win_fence(0, window);
    for (int i = 0; i < 1010; i++)
        CHECK(mine[i] == (i >= 5 && i < 1005 ? size + 1 : 1), "accumulated at %d: %d", i, mine[i]);
    MPI_Win_free(&window);

    /* A shared counter: every number is drawn once. */
    MPI_Win_allocate(sizeof(int), sizeof(int), MPI_INFO_NULL, MPI_COMM_WORLD, &counter, &counters);
    *counter = 0;
    MPI_Barrier(MPI_COMM_WORLD);
    memset(a, 0, size * 50 * sizeof(int));
    for (int i = 0; i < 50; i++) {
        MPI_Win_lock(MPI_LOCK_SHARED, 0, 0, counters);
        MPI_Fetch_and_op(&one, &old, MPI_INT, 0, 0, MPI_SUM, counters);
        MPI_Win_unlock(0, counters);
        CHECK(old >= 0 && old < size * 50, "drew %d", old);
        a[old]++;
    }
    MPI_Allreduce(a, b, size * 50, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    for (int i = 0; i < size * 50; i++)
        CHECK(b[i] == 1, "number %d was drawn %d times", i, b[i]);
    MPI_Win_free(&counters);
}

int main(int argc, char **argv)
{
    static const int counts[] = {1, 40, 700, 9000, LARGE};
    start(&argc, &argv);
    a = malloc(sizeof(int) * LARGE * size);
    b = malloc(sizeof(int) * LARGE * size);
    for (int i = 0; i < 5; i++) {
        all_to_all(MPI_COMM_WORLD, counts[i]);
        rooted(MPI_COMM_WORLD, counts[i]);
        reductions(MPI_COMM_WORLD, counts[i]);
    }
    communicators();
    one_sided();
    expected.lmt_max = 1LL << 40; /* algorithms differ */
    finish();
    return 0;
}
