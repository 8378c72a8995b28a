/* SPDX-License-Identifier: mpich2 */
/*
 * exchange [SEED]: exchanges messages of all kinds among all ranks and checks each byte and number,
 * in rounds, until the standard input of rank 0 ends. SEED distinguishes the messages of two jobs.
 * Rank 0 prints "running" after the first round.
 *
 * Each rank prints how many bytes it has sent, point to point, to ranks on other machines, so that
 * a test can compare the netmod's counters.
 */
#include <mpi.h>

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int rank, size, seed;
static int *remote; /* for each rank: whether it is on another machine */
static long long remote_bytes;

/* One write, so that the lines of several ranks stay whole. */
static void fail(const char *format, ...)
{
    char text[200];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    fprintf(stderr, "exchange: rank %d: %s\n", rank, text);
    MPI_Abort(MPI_COMM_WORLD, 1);
}

static void *allocate(size_t bytes)
{
    void *memory = calloc(bytes ? bytes : 1, 1);
    if (!memory)
        fail("out of memory");
    return memory;
}

static void find_remote(void)
{
    char mine[MPI_MAX_PROCESSOR_NAME] = "", *all = allocate((size_t) size * sizeof(mine));
    int len;

    MPI_Get_processor_name(mine, &len);
    MPI_Allgather(mine, sizeof(mine), MPI_CHAR, all, sizeof(mine), MPI_CHAR, MPI_COMM_WORLD);
    remote = allocate((size_t) size * sizeof(remote[0]));
    for (int i = 0; i < size; i++)
        remote[i] = strcmp(mine, all + (size_t) i * sizeof(mine)) != 0;
    free(all);
}

static unsigned char pattern(int from, int to, size_t i)
{
    return (unsigned char) (seed * 101 + from * 31 + to * 17 + (int) (i % 251) + (int) (i >> 12));
}

/* All to all at once, then checked byte by byte. */
static void all_pairs(int bytes)
{
    unsigned char *out = allocate((size_t) bytes * (size_t) size);
    unsigned char *in = allocate((size_t) bytes * (size_t) size);
    MPI_Request *requests = allocate(2 * (size_t) size * sizeof(requests[0]));
    MPI_Status *statuses = allocate(2 * (size_t) size * sizeof(statuses[0]));
    int count = 0;

    for (int peer = 0; peer < size; peer++) {
        unsigned char *message = out + (size_t) peer * (size_t) bytes;
        for (int i = 0; i < bytes; i++)
            message[i] = pattern(rank, peer, (size_t) i);
        MPI_Irecv(in + (size_t) peer * (size_t) bytes, bytes, MPI_BYTE, peer, bytes, MPI_COMM_WORLD,
                  &requests[count++]);
        MPI_Isend(message, bytes, MPI_BYTE, peer, bytes, MPI_COMM_WORLD, &requests[count++]);
        remote_bytes += remote[peer] ? bytes : 0;
    }
    MPI_Waitall(count, requests, statuses);
    for (int peer = 0; peer < size; peer++) {
        int got;
        MPI_Get_count(&statuses[2 * peer], MPI_BYTE, &got);
        if (got != bytes || statuses[2 * peer].MPI_SOURCE != peer)
            fail("%d bytes from %d, expected %d", got, peer, bytes);
        for (int i = 0; i < bytes; i++)
            if (in[(size_t) peer * (size_t) bytes + (size_t) i] != pattern(peer, rank, (size_t) i))
                fail("byte %d of %d from rank %d is wrong", i, bytes, peer);
    }
    free(statuses);
    free(requests);
    free(in);
    free(out);
}

/* Columns of a matrix become rows on the other side, and what lies between them stays untouched. */
static void columns(int rows, int cols)
{
    int next = (rank + 1) % size, last = (rank + size - 1) % size;
    size_t cells = (size_t) rows * (size_t) cols;
    int *out = allocate(cells * sizeof(out[0])), *in = allocate(cells * sizeof(in[0]));
    int *back = allocate(cells * sizeof(back[0]));
    MPI_Datatype every_other; /* column */

    MPI_Type_vector(rows, 1, cols, MPI_INT, &every_other);
    MPI_Type_create_resized(every_other, 0, 2 * sizeof(int), &every_other);
    MPI_Type_commit(&every_other);
    for (size_t i = 0; i < cells; i++)
        out[i] = (int) i * 3 + rank + seed;
    MPI_Sendrecv(out, cols / 2, every_other, next, 1, in, (int) cells / 2, MPI_INT, last, 1,
                 MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    for (int c = 0; c < cols / 2; c++)
        for (int r = 0; r < rows; r++)
            if (in[c * rows + r] != (r * cols + 2 * c) * 3 + last + seed)
                fail("row %d of column %d from rank %d is wrong", r, c, last);
    MPI_Sendrecv(in, (int) cells / 2, MPI_INT, last, 2, back, cols / 2, every_other, next, 2,
                 MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    for (size_t i = 0; i < cells; i++)
        if (back[i] != (i % (size_t) cols % 2 == 0 ? out[i] : 0))
            fail("number %zu of a matrix is wrong after there and back", i);
    remote_bytes += (long long) (cells / 2 * sizeof(int)) * (remote[next] + remote[last]);
    MPI_Type_free(&every_other);
    free(back);
    free(in);
    free(out);
}

/* Rank 0 receives numbered messages from any rank; those of each rank must be in order. */
static void any_source(int each)
{
    if (rank != 0) {
        for (int i = 0; i < each; i++)
            MPI_Send(&i, 1, MPI_INT, 0, 7, MPI_COMM_WORLD);
        remote_bytes += remote[0] ? each * (long long) sizeof(int) : 0;
        return;
    }
    int *expected = allocate((size_t) size * sizeof(expected[0]));
    for (int i = 0; i < each * (size - 1); i++) {
        int number;
        MPI_Status status;
        MPI_Recv(&number, 1, MPI_INT, MPI_ANY_SOURCE, 7, MPI_COMM_WORLD, &status);
        if (number != expected[status.MPI_SOURCE]++)
            fail("number %d of rank %d out of order", number, status.MPI_SOURCE);
    }
    free(expected);
}

static void collectives(int count)
{
    long *mine = allocate((size_t) count * (size_t) size * sizeof(mine[0]));
    long *all = allocate((size_t) count * (size_t) size * sizeof(all[0]));

    for (int i = 0; i < count; i++)
        mine[i] = (long) rank * 1000003 + i + seed;
    MPI_Allreduce(mine, all, count, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    for (int i = 0; i < count; i++)
        if (all[i] != 1000003L * size * (size - 1) / 2 + ((long) i + seed) * size)
            fail("number %d of a sum of %d is wrong", i, count);

    for (int root = 0; root < size; root++) {
        for (int i = 0; i < count; i++)
            all[i] = rank == root ? (long) root * 7 + i + seed : -1;
        MPI_Bcast(all, count, MPI_LONG, root, MPI_COMM_WORLD);
        for (int i = 0; i < count; i++)
            if (all[i] != (long) root * 7 + i + seed)
                fail("number %d of a broadcast from %d is wrong", i, root);
    }

    for (int i = 0; i < count * size; i++)
        mine[i] = (long) rank * size + i / count + i % count * 100L + seed;
    MPI_Alltoall(mine, count, MPI_LONG, all, count, MPI_LONG, MPI_COMM_WORLD);
    for (int i = 0; i < count * size; i++)
        if (all[i] != (long) (i / count) * size + rank + i % count * 100L + seed)
            fail("number %d from rank %d to all is wrong", i % count, i / count);
    MPI_Barrier(MPI_COMM_WORLD);
    free(all);
    free(mine);
}

/* The same answer in all ranks. */
static int input_has_ended(void)
{
    int ended = 0;
    if (rank == 0) {
        struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
        char byte;
        ended = poll(&in, 1, 0) > 0 && read(STDIN_FILENO, &byte, 1) <= 0;
    }
    MPI_Bcast(&ended, 1, MPI_INT, 0, MPI_COMM_WORLD);
    return ended;
}

int main(int argc, char **argv)
{
    /*
     * Around the sizes at which the netmod changes its method: cells, eager limit, chunks, whole
     * pipelines.
     */
    static const int sizes[] = {0,     1,     64,    200,   240,    1000,   16000,
                                16400, 32700, 32800, 65537, 262144, 300001, 1 << 20};

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    seed = argc > 1 ? atoi(argv[1]) : 1;
    find_remote();
    for (int round = 0; round == 0 || !input_has_ended(); round++) {
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
            all_pairs(sizes[i]);
        columns(5, 8);
        columns(700, 100);
        any_source(200);
        collectives(1);
        collectives(20000);
        if (round == 0 && rank == 0) {
            printf("exchange: rank=%d running\n", rank);
            fflush(stdout);
        }
    }
    printf("exchange: rank=%d remote_bytes=%lld good\n", rank, remote_bytes);
    free(remote);
    MPI_Finalize();
    return 0;
}
