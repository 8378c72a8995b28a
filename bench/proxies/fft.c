/* SPDX-License-Identifier: mpich2 */
/*
 * fft [N [STEPS]]: a field that moves, computed by its Fourier transform, the pattern of plane-wave
 * codes.
 *
 * N x N points, N a power of two, of which each rank has some rows. A step transforms rows and
 * columns, turns each wave as far as it moves, and transforms back. Twice in it the matrix is
 * transposed, in which all ranks exchange with all. The field after each step is known.
 */
#include "proxy.h"

#include <complex.h>

static int n, ranks, rows, first;
static int *counts, *starts; /* of the points for each rank, and of those from it */
static double complex *field, *outgoing, *incoming, *roots;

/* n points in place, not scaled. */
static void transform(double complex *x, int back)
{
    for (int i = 1, j = 0; i < n; i++) {
        int bit = n / 2;
        for (; j & bit; bit /= 2)
            j -= bit;
        j += bit;
        if (i < j) {
            double complex other = x[i];
            x[i] = x[j];
            x[j] = other;
        }
    }
    for (int half = 1; half < n; half *= 2)
        for (int at = 0; at < n; at += 2 * half)
            for (int i = 0; i < half; i++) {
                double complex root = roots[n / 2 / half * i];
                double complex odd = x[at + half + i] * (back ? root : conj(root));
                x[at + half + i] = x[at + i] - odd;
                x[at + i] += odd;
            }
}

static void transpose(void)
{
    double complex *p = outgoing;
    for (int r = 0; r < ranks; r++)
        for (int j = first_of(n, r, ranks); j < first_of(n, r + 1, ranks); j++)
            for (int i = 0; i < rows; i++)
                *p++ = field[(size_t) i * n + j];
    if (n % ranks == 0)
        MPI_Alltoall(outgoing, rows * rows, MPI_C_DOUBLE_COMPLEX, incoming, rows * rows,
                     MPI_C_DOUBLE_COMPLEX, MPI_COMM_WORLD);
    else
        MPI_Alltoallv(outgoing, counts, starts, MPI_C_DOUBLE_COMPLEX, incoming, counts, starts,
                      MPI_C_DOUBLE_COMPLEX, MPI_COMM_WORLD);
    p = incoming;
    for (int r = 0; r < ranks; r++)
        for (int j = 0; j < rows; j++)
            for (int i = first_of(n, r, ranks); i < first_of(n, r + 1, ranks); i++)
                field[(size_t) j * n + i] = *p++;
}

static void transform_rows(int back)
{
    for (int i = 0; i < rows; i++)
        transform(&field[(size_t) i * n], back);
}

/* The field at a point, in radians; and how far it moves in a step. */
static double known(double x, double y)
{
    return exp(sin(x) + cos(y));
}
#define MOVE_X 0.011
#define MOVE_Y 0.007

/* The wave of that index. */
static int wave(int i)
{
    return i < n / 2 ? i : i - n;
}

int main(int argc, char **argv)
{
    int rank;
    double error = 0;
    MPI_Init(&argc, &argv);
    n = argument(argc, argv, 1, 256);
    int steps = argument(argc, argv, 2, 100);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    if (n & (n - 1) || n < 32 || n < ranks) {
        fprintf(stderr,
                "fft: %d x %d points for %d ranks, expected a power of two, at least 32, and a "
                "row for each rank\n",
                n, n, ranks);
        exit(2);
    }
    first = first_of(n, rank, ranks);
    rows = first_of(n, rank + 1, ranks) - first;
    counts = allocate(ranks, sizeof(*counts));
    starts = allocate(ranks + 1, sizeof(*starts));
    for (int r = 0; r < ranks; r++) {
        counts[r] = rows * (first_of(n, r + 1, ranks) - first_of(n, r, ranks));
        starts[r + 1] = starts[r] + counts[r];
    }
    field = allocate((size_t) rows * n, sizeof(*field));
    outgoing = allocate((size_t) rows * n, sizeof(*field));
    incoming = allocate((size_t) rows * n, sizeof(*field));
    roots = allocate(n / 2, sizeof(*roots));
    for (int i = 0; i < n / 2; i++)
        roots[i] = cexp(2 * M_PI * I * i / n);
    const double point = 2 * M_PI / n;
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < n; j++)
            field[(size_t) i * n + j] = known(point * j, point * (first + i));
    MPI_Barrier(MPI_COMM_WORLD);
    double started = MPI_Wtime();
    for (int step = 0; step < steps; step++) {
        transform_rows(0);
        transpose();
        transform_rows(0);
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < n; j++)
                field[(size_t) i * n + j] *=
                    cexp(-I * (MOVE_X * wave(first + i) + MOVE_Y * wave(j))) / ((double) n * n);
        transform_rows(1);
        transpose();
        transform_rows(1);
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < n; j++)
            error =
                fmax(error,
                     cabs(field[(size_t) i * n + j] -
                          known(point * j - MOVE_X * steps, point * (first + i) - MOVE_Y * steps)));
    if (rank == 0)
        printf("fft: %d x %d points, %d ranks, %d steps\n", n, n, ranks, steps);
    return finish("fft", started, error, 1e-10);
}
