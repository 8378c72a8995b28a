/* SPDX-License-Identifier: mpich2 */
/*
 * exchange ROUNDS|FILE [BYTES [survive]]
 *
 * A job that passes all tracepoints of core/tracepoint.h. In each of ROUNDS rounds, or until FILE
 * exists, every rank exchanges messages of all kinds, of up to BYTES, with every other rank, some
 * of them from memory of the region. It checks every byte. With "survive", the others continue when
 * a peer is lost.
 */
#include "../mpi/mpitest.h"

#include <stdbool.h>

#define PEERS_MAX 64

/* More of those without rendezvous than a ring has buffers for. */
static const int lengths[] = {0,     8,     180,   1800,  6000,   11000,
                              11200, 11400, 11600, 40000, 300000, 1000000};
enum { LENGTHS = sizeof(lengths) / sizeof(lengths[0]) };

static int largest = 1000000, total;
static bool survive, lost[PEERS_MAX];
static char *out[PEERS_MAX], *in[PEERS_MAX];

static uint64_t seed(int round, int from, int to, int i)
{
    return ((uint64_t) round * PEERS_MAX + (uint64_t) from) * PEERS_MAX * LENGTHS +
           (uint64_t) to * LENGTHS + (uint64_t) i;
}

/* Whether a call has succeeded; with a dead peer it need not. */
static bool begun(int err, int peer)
{
    char text[MPI_MAX_ERROR_STRING];
    if (err == MPI_SUCCESS)
        return true;
    if (lost[peer])
        return false;
    error_line(err, text);
    printf("rank %d lost rank %d: %s\n", rank, peer, text);
    lost[peer] = true;
    return false;
}

static bool ended(MPI_Request *req, MPI_Status *status, int peer)
{
    bool was_begun = *req != MPI_REQUEST_NULL;
    return begun(MPI_Wait(req, status), peer) && was_begun;
}

static void exchange(int round)
{
    MPI_Request req[PEERS_MAX][LENGTHS][2];
    MPI_Status status;
    bool open[PEERS_MAX];
    int count;

    for (int d = 1; d < size; d++) {
        int to = (rank + d) % size;
        open[to] = !lost[to];
        for (int i = 0, at = 0; open[to] && i < LENGTHS && lengths[i] <= largest; i++) {
            req[to][i][0] = MPI_REQUEST_NULL;
            begun(
                MPI_Irecv(in[to] + at, lengths[i], MPI_BYTE, to, i, MPI_COMM_WORLD, &req[to][i][0]),
                to);
            at += lengths[i];
        }
    }
    for (int d = 1; d < size; d++) {
        int to = (rank + d) % size;
        for (int i = 0, at = 0; open[to] && i < LENGTHS && lengths[i] <= largest; i++) {
            fill(out[to] + at, lengths[i], seed(round, rank, to, i));
            req[to][i][1] = MPI_REQUEST_NULL;
            begun(MPI_Isend(out[to] + at, lengths[i], MPI_BYTE, to, i, MPI_COMM_WORLD,
                            &req[to][i][1]),
                  to);
            at += lengths[i];
        }
    }
    for (int d = 1; d < size; d++) {
        int peer = (rank + d) % size;
        for (int i = 0, at = 0; open[peer] && i < LENGTHS && lengths[i] <= largest; i++) {
            if (ended(&req[peer][i][0], &status, peer)) {
                MPI_Get_count(&status, MPI_BYTE, &count);
                CHECK(count == lengths[i], "round %d: %d bytes from %d, sent %d", round, count,
                      peer, lengths[i]);
                CHECK_PATTERN(in[peer] + at, count, seed(round, peer, rank, i),
                              "round %d: message %d from %d", round, i, peer);
            }
            ended(&req[peer][i][1], &status, peer);
            at += lengths[i];
        }
    }
}

/* A message from rank to rank, while nobody has anything else to do. */
static void pass_on(int round)
{
    int len = total < 300000 ? total : 300000;

    for (int from = 0; size > 1 && from < size; from++) {
        int to = (from + 1) % size;
        if (rank == from && !lost[to]) {
            fill(out[to], len, seed(round, from, to, 1));
            begun(MPI_Send(out[to], len, MPI_BYTE, to, LENGTHS + 1, MPI_COMM_WORLD), to);
        } else if (rank == to && !lost[from] &&
                   begun(MPI_Recv(in[from], len, MPI_BYTE, from, LENGTHS + 1, MPI_COMM_WORLD,
                                  MPI_STATUS_IGNORE),
                         from)) {
            CHECK_PATTERN(in[from], len, seed(round, from, to, 1), "round %d: passed on by %d",
                          round, from);
        }
    }
}

/* A window in memory of the region, and a sum in it, under its lock. */
static void put(int round)
{
    int len = total < 70000 ? total : 70000, to = (rank + 1) % size,
        from = (rank + size - 1) % size;
    char *base;
    long long sum, ten = 10;
    MPI_Win win;
    MPI_Win_allocate(8 + len, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &base, &win);
    memset(base, 0, sizeof(sum));
    MPI_Win_fence(0, win);
    fill(out[to], len, seed(round, rank, to, 0));
    MPI_Put(out[to], len, MPI_BYTE, to, 8, len, MPI_BYTE, win);
    for (int i = 0; i < size; i++)
        MPI_Accumulate(&ten, 1, MPI_LONG_LONG, i, 0, 1, MPI_LONG_LONG, MPI_SUM, win);
    MPI_Win_fence(0, win);
    CHECK_PATTERN(base + 8, len, seed(round, from, rank, 0), "round %d: put by %d", round, from);
    memcpy(&sum, base, sizeof(sum));
    CHECK(sum == 10 * size, "round %d: sum %lld", round, sum);
    MPI_Win_free(&win);
}

/* Through the region without messages, from the second call on. */
static void collectives(int round)
{
    static char chunk[40000];
    int ones[100], sums[100], root = round % size;
    size_t len = largest < (int) sizeof(chunk) ? (size_t) largest : sizeof(chunk);

    fill(chunk, len, rank == root ? seed(round, root, 0, 0) : 0);
    MPI_Bcast(chunk, (int) len, MPI_BYTE, root, MPI_COMM_WORLD);
    CHECK_PATTERN(chunk, len, seed(round, root, 0, 0), "round %d: broadcast", round);
    for (int i = 0; i < 100; i++)
        ones[i] = round + i;
    MPI_Allreduce(ones, sums, 100, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    for (int i = 0; i < 100; i++)
        CHECK(sums[i] == size * (round + i), "round %d: allreduce: %d", round, sums[i]);
    MPI_Barrier(MPI_COMM_WORLD);
}

int main(int argc, char **argv)
{
    int round = 0, go = 1;

    start(&argc, &argv);
    CHECK(argc > 1 && size <= PEERS_MAX, "how many rounds, with up to %d ranks?", PEERS_MAX);
    int rounds = atoi(argv[1]);
    if (argc > 2)
        largest = atoi(argv[2]);
    survive = argc > 3;
    if (survive)
        MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);

    for (int i = 0; i < LENGTHS && lengths[i] <= largest; i++)
        total += lengths[i];
    /* So that there are connections that the other side began. */
    if (rank == 0)
        for (int to = 1; to < size; to++)
            MPI_Send(&go, 1, MPI_INT, to, LENGTHS, MPI_COMM_WORLD);
    else
        MPI_Recv(&go, 1, MPI_INT, 0, LENGTHS, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    for (; go; round++) {
        for (int i = 0; i < size; i++) {
            /* In turn: both buffers, the sender's, the receiver's, and none. */
            if (round & 1)
                out[i] = malloc((size_t) total);
            else
                MPI_Alloc_mem(total, MPI_INFO_NULL, &out[i]);
            if (round & 2)
                in[i] = malloc((size_t) total);
            else
                MPI_Alloc_mem(total, MPI_INFO_NULL, &in[i]);
        }
        exchange(round);
        pass_on(round);
        if (!survive) {
            put(round);
            collectives(round);
        }
        for (int i = 0; i < size; i++) {
            if (round & 1)
                free(out[i]);
            else
                MPI_Free_mem(out[i]);
            if (round & 2)
                free(in[i]);
            else
                MPI_Free_mem(in[i]);
        }
        if (rounds > 0) {
            go = round + 1 < rounds;
        } else {
            usleep(20000); /* leaves the processors to the jobs that are struck */
            go = access(argv[1], F_OK) != 0;
            MPI_Bcast(&go, 1, MPI_INT, 0, MPI_COMM_WORLD);
        }
        if (round == 0 && rank == 0) {
            printf("running\n");
            fflush(stdout);
        }
    }
    printf("rank %d: %d rounds, every byte right\n", rank, round);
    fflush(stdout);
    MPI_Finalize();
    return 0;
}
