/* SPDX-License-Identifier: mpich2 */
/*
 * ocean [N [SOLVES]]: the barotropic solver of an ocean model, the pattern of pop2.
 *
 * Conjugate gradients for the height of the surface, (1 + K) x - K (mean of 4 neighbours) x = b, on
 * N x N points that are divided among the ranks in two dimensions. An iteration exchanges four
 * halos, and has one MPI_Allreduce of two numbers (the form of Chronopoulos and Gear, which such
 * models use). The right-hand side is made from a known solution.
 */
#include "proxy.h"

#define K 400.0
#define MOST_ITERATIONS 400

static MPI_Comm grid;
static MPI_Datatype column;
static int n, rows, columns,
    wide; /* of this rank; a line has `wide` points, with two of the halo */
static int top, left, up, down, west, east;

static double *field(void)
{
    return allocate((size_t) (rows + 2) * wide, sizeof(double));
}

/* Points of one line follow each other; (0, 0) is in the halo. */
#define AT(i, j) ((size_t) (i) *wide + (j))

static void exchange(double *x)
{
    MPI_Request requests[8];
    MPI_Irecv(&x[AT(0, 1)], columns, MPI_DOUBLE, up, 0, grid, &requests[0]);
    MPI_Irecv(&x[AT(rows + 1, 1)], columns, MPI_DOUBLE, down, 1, grid, &requests[1]);
    MPI_Irecv(&x[AT(1, 0)], 1, column, west, 2, grid, &requests[2]);
    MPI_Irecv(&x[AT(1, columns + 1)], 1, column, east, 3, grid, &requests[3]);
    MPI_Isend(&x[AT(rows, 1)], columns, MPI_DOUBLE, down, 0, grid, &requests[4]);
    MPI_Isend(&x[AT(1, 1)], columns, MPI_DOUBLE, up, 1, grid, &requests[5]);
    MPI_Isend(&x[AT(1, columns)], 1, column, east, 2, grid, &requests[6]);
    MPI_Isend(&x[AT(1, 1)], 1, column, west, 3, grid, &requests[7]);
    MPI_Waitall(8, requests, MPI_STATUSES_IGNORE);
}

/* y = A x. Beyond the coast, x is zero. */
static void apply(double *x, double *y)
{
    exchange(x);
    for (int i = 1; i <= rows; i++)
        for (int j = 1; j <= columns; j++)
            y[AT(i, j)] =
                (1 + K) * x[AT(i, j)] -
                K / 4 * (x[AT(i - 1, j)] + x[AT(i + 1, j)] + x[AT(i, j - 1)] + x[AT(i, j + 1)]);
}

static void dots(const double *r, const double *w, double *rr, double *rw)
{
    double mine[2] = {0, 0}, all[2];
    for (int i = 1; i <= rows; i++)
        for (int j = 1; j <= columns; j++) {
            mine[0] += r[AT(i, j)] * r[AT(i, j)];
            mine[1] += r[AT(i, j)] * w[AT(i, j)];
        }
    MPI_Allreduce(mine, all, 2, MPI_DOUBLE, MPI_SUM, grid);
    *rr = all[0];
    *rw = all[1];
}

static double known(int i, int j)
{
    return sin(0.013 * (top + i) * (left + j + 3)) + 0.5;
}

/* x, which comes in as the first guess; returns the number of iterations. */
static int solve(double *x, const double *b, double *r, double *w, double *p, double *s)
{
    double rr, rw, alpha, beta = 0, before = 1, first;
    int iterations;
    apply(x, w);
    for (int i = 1; i <= rows; i++)
        for (int j = 1; j <= columns; j++) {
            r[AT(i, j)] = b[AT(i, j)] - w[AT(i, j)];
            p[AT(i, j)] = s[AT(i, j)] = 0;
        }
    apply(r, w);
    dots(r, w, &rr, &rw);
    first = rr;
    alpha = rr / rw;
    for (iterations = 0; iterations < MOST_ITERATIONS && rr > first * 1e-24; iterations++) {
        for (int i = 1; i <= rows; i++)
            for (int j = 1; j <= columns; j++) {
                size_t at = AT(i, j);
                p[at] = r[at] + beta * p[at];
                s[at] = w[at] + beta * s[at];
                x[at] += alpha * p[at];
                r[at] -= alpha * s[at];
            }
        before = rr;
        apply(r, w);
        dots(r, w, &rr, &rw);
        beta = rr / before;
        alpha = rr / (rw - beta * rr / alpha);
    }
    return iterations;
}

int main(int argc, char **argv)
{
    int ranks, rank, dims[2] = {0, 0}, periods[2] = {0, 0}, at[2], iterations = 0;
    double error = 0, started;
    MPI_Init(&argc, &argv);
    n = argument(argc, argv, 1, 512);
    int solves = argument(argc, argv, 2, 10);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    MPI_Dims_create(ranks, 2, dims);
    MPI_Cart_create(MPI_COMM_WORLD, 2, dims, periods, 0, &grid);
    MPI_Comm_rank(grid, &rank);
    MPI_Cart_coords(grid, rank, 2, at);
    MPI_Cart_shift(grid, 0, 1, &up, &down);
    MPI_Cart_shift(grid, 1, 1, &west, &east);
    top = first_of(n, at[0], dims[0]);
    left = first_of(n, at[1], dims[1]);
    rows = first_of(n, at[0] + 1, dims[0]) - top;
    columns = first_of(n, at[1] + 1, dims[1]) - left;
    wide = columns + 2;
    MPI_Type_vector(rows, 1, wide, MPI_DOUBLE, &column);
    MPI_Type_commit(&column);
    double *x = field(), *b = field(), *r = field(), *w = field(), *p = field(), *s = field();
    for (int i = 1; i <= rows; i++)
        for (int j = 1; j <= columns; j++)
            x[AT(i, j)] = known(i, j);
    apply(x, b);
    MPI_Barrier(grid);
    started = MPI_Wtime();
    for (int k = 0; k < solves; k++) {
        for (size_t i = 0; i < (size_t) (rows + 2) * wide; i++)
            x[i] = 0;
        iterations += solve(x, b, r, w, p, s);
        for (int i = 1; i <= rows; i++)
            for (int j = 1; j <= columns; j++)
                error = fmax(error, fabs(x[AT(i, j)] - known(i, j)));
    }
    if (rank == 0)
        printf("ocean: %d x %d points, %d x %d ranks, %d iterations\n", n, n, dims[0], dims[1],
               iterations);
    return finish("ocean", started, error, 1e-8);
}
