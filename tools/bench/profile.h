/* SPDX-License-Identifier: mpich2 */
/*
 * Time in MPI, by call: what each rank prints at MPI_Finalize. profile.py writes a file that
 * includes this one and has a wrapper for each call of an MPI's mpi.h, and compiles that to a
 * library that is preloaded. MPICH's Fortran libraries call those of C, some by their names with a
 * P: a wrapper has both names, and finds the call itself behind them.
 *
 * Any thread may call: the counters are atomic, and what MPI calls inside of a call is not counted
 * (`depth`). The times of threads that are in MPI at the same time add up.
 */
#include <mpi.h>

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SIZES 48 /* classes of message sizes: class i has those below 2^i bytes */

static struct {
    _Atomic unsigned long count;
    _Atomic unsigned long bytes;
    _Atomic unsigned long ns;
} calls[CALLS];
static _Atomic unsigned long sizes[SIZES];
static _Atomic unsigned long ready; /* when MPI_Init has returned */
static _Thread_local int depth;

static unsigned long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000UL + t.tv_nsec;
}

static unsigned long enter(void)
{
    depth++;
    return depth == 1 ? now() : 0;
}

/* The call has nothing to send if `bytes` is negative. */
static void leave(int call, unsigned long start, long bytes)
{
    if (--depth)
        return;
    atomic_fetch_add_explicit(&calls[call].ns, now() - start, memory_order_relaxed);
    atomic_fetch_add_explicit(&calls[call].count, 1, memory_order_relaxed);
    if (bytes < 0)
        return;
    atomic_fetch_add_explicit(&calls[call].bytes, bytes, memory_order_relaxed);
    int i = 0;
    while (i < SIZES - 1 && bytes >> i)
        i++;
    atomic_fetch_add_explicit(&sizes[i], 1, memory_order_relaxed);
}

static long size_of(MPI_Datatype type)
{
    int size = 0;
    if (type == MPI_DATATYPE_NULL || PMPI_Type_size(type, &size) != MPI_SUCCESS || size < 0)
        return 0;
    return size;
}

/* What this rank sends by a call that has a count. To MPI_PROC_NULL, nothing. */
static long one(long count, MPI_Datatype type, int dest)
{
    return dest == MPI_PROC_NULL ? -1 : count * size_of(type);
}

/* By a call that has a count for each rank of the communicator, or for those of the other group. */
static long each(const int *counts, MPI_Datatype type, MPI_Comm comm)
{
    int ranks = 0, inter = 0;
    long sum = 0;
    PMPI_Comm_test_inter(comm, &inter);
    if (inter)
        PMPI_Comm_remote_size(comm, &ranks);
    else
        PMPI_Comm_size(comm, &ranks);
    for (int i = 0; i < ranks; i++)
        sum += counts[i];
    return sum * size_of(type);
}

static int is_root(int root, MPI_Comm comm)
{
    int rank = -1;
    PMPI_Comm_rank(comm, &rank);
    return root == MPI_ROOT || root == rank;
}

/* The whole time between MPI_Init and MPI_Finalize counts, so that starting a job does not. */
static void begin(void)
{
    memset(calls, 0, sizeof(calls));
    memset(sizes, 0, sizeof(sizes));
    ready = now();
}

/* Lines of their own, each by one write, so that those of several ranks do not mix. */
static void print(void)
{
    unsigned long end = now(), in_mpi = 0;
    int rank = -1, length;
    char line[2048];
    PMPI_Comm_rank(MPI_COMM_WORLD, &rank);
    for (int i = 0; i < CALLS; i++)
        in_mpi += calls[i].ns;
    length =
        snprintf(line, sizeof(line), "\nivshmem-profile: rank=%d ns=%lu mpi_ns=%lu sizes=", rank,
                 end - ready, in_mpi);
    for (int i = 0; i < SIZES && length < (int) sizeof(line) - 64; i++)
        if (sizes[i])
            length += snprintf(line + length, sizeof(line) - length, "%d:%lu,", i, sizes[i]);
    line[length++] = '\n';
    for (int i = 0; write(STDERR_FILENO, line, length) > 0 && i < CALLS; i++) {
        while (i < CALLS && !calls[i].count)
            i++;
        if (i == CALLS)
            break;
        length = snprintf(line, sizeof(line),
                          "ivshmem-profile: rank=%d call=%s count=%lu ns=%lu bytes=%lu\n", rank,
                          names[i], calls[i].count, calls[i].ns, calls[i].bytes);
    }
}
