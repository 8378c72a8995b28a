/* SPDX-License-Identifier: mpich2 */
/*
 * What the proxies share: the part of a grid that a rank has, and the last line, which says whether
 * the result is right.
 */
#include <mpi.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* The first of n points that rank `at` of `parts` has; the next one's first is where they end. */
static inline int first_of(int n, int at, int parts)
{
    return (int) ((long) n * at / parts);
}

static inline int argument(int argc, char **argv, int i, int otherwise)
{
    int value = i < argc ? atoi(argv[i]) : otherwise;
    if (value < 1) {
        fprintf(stderr, "%s: argument %d is %s, expected a number from 1\n", argv[0], i, argv[i]);
        exit(2);
    }
    return value;
}

static inline void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (!memory) {
        fprintf(stderr, "no memory for %zu times %zu bytes: use a smaller grid\n", count, size);
        exit(1);
    }
    return memory;
}

/* Ends MPI; returns the program's exit status. `error` is this rank's, the largest of all counts.
 */
static inline int finish(const char *name, double started, double error, double allowed)
{
    double mine[2] = {MPI_Wtime() - started, isfinite(error) ? error : 1e300}, all[2];
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Allreduce(mine, all, 2, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    if (rank == 0)
        printf("%s: error %.2e, allowed %.0e: %s\n%s: %.6f seconds\n", name, all[1], allowed,
               all[1] <= allowed ? "verified" : "WRONG", name, all[0]);
    MPI_Finalize();
    return all[1] <= allowed ? 0 : 1;
}
