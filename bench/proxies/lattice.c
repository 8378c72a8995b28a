/* SPDX-License-Identifier: mpich2 */
/*
 * lattice [N [SOLVES]]: conjugate gradients on a lattice of four dimensions, the pattern of milc.
 *
 * N x N x N x N sites, periodic, divided among the ranks in four dimensions, with a vector of three
 * complex numbers each. The matrix couples a site to its eight neighbours by a phase for each link.
 * An iteration exchanges eight faces and has two MPI_Allreduce of one number. The right-hand side
 * is made from a known solution.
 */
#include "proxy.h"

#include <complex.h>

#define COLOURS 3
#define MASS 1.0
#define MOST_ITERATIONS 500

static MPI_Comm grid;
static int n, size[4], first[4], wide[4], low[4], high[4];
static size_t sites;               /* with the halo */
static double complex *link_of[4]; /* from a site to the next one in that dimension */
static size_t stride[4];
static MPI_Datatype first_face[4], last_face[4], low_halo[4], high_halo[4];

typedef double complex vector[COLOURS];

/* For each site of this rank, with `at` its number. */
#define EACH_SITE(at)                                                                              \
    for (int x0 = 1; x0 <= size[0]; x0++)                                                          \
        for (int x1 = 1; x1 <= size[1]; x1++)                                                      \
            for (int x2 = 1; x2 <= size[2]; x2++)                                                  \
                for (size_t x3 = 1, at = site(x0, x1, x2, 1); x3 <= (size_t) size[3]; x3++, at++)

static size_t site(int a, int b, int c, int d)
{
    return ((((size_t) a * wide[1]) + b) * wide[2] + c) * wide[3] + d;
}

static MPI_Datatype face(int dimension, int place)
{
    int whole[4], part[4], from[4] = {1, 1, 1, 1};
    MPI_Datatype one, type;
    for (int d = 0; d < 4; d++) {
        whole[d] = wide[d];
        part[d] = size[d];
    }
    part[dimension] = 1;
    from[dimension] = place;
    MPI_Type_contiguous(2 * COLOURS, MPI_DOUBLE, &one);
    MPI_Type_create_subarray(4, whole, part, from, MPI_ORDER_C, one, &type);
    MPI_Type_commit(&type);
    return type;
}

static void exchange(vector *x)
{
    MPI_Request requests[16];
    for (int d = 0, r = 0; d < 4; d++) {
        MPI_Irecv(x, 1, low_halo[d], low[d], d, grid, &requests[r++]);
        MPI_Irecv(x, 1, high_halo[d], high[d], 4 + d, grid, &requests[r++]);
        MPI_Isend(x, 1, last_face[d], high[d], d, grid, &requests[r++]);
        MPI_Isend(x, 1, first_face[d], low[d], 4 + d, grid, &requests[r++]);
    }
    MPI_Waitall(16, requests, MPI_STATUSES_IGNORE);
}

/* y = A x; returns x A x. The matrix is Hermitian and, as MASS is positive, definite. */
static double apply(vector *x, vector *y)
{
    double mine = 0, all;
    exchange(x);
    EACH_SITE(at)
    for (int c = 0; c < COLOURS; c++) {
        double complex sum = (8 + MASS) * x[at][c];
        for (int d = 0; d < 4; d++)
            sum -= link_of[d][at] * x[at + stride[d]][c] +
                   conj(link_of[d][at - stride[d]]) * x[at - stride[d]][c];
        y[at][c] = sum;
        mine += creal(conj(x[at][c]) * sum);
    }
    MPI_Allreduce(&mine, &all, 1, MPI_DOUBLE, MPI_SUM, grid);
    return all;
}

static double square(vector *x)
{
    double mine = 0, all;
    EACH_SITE(at)
    for (int c = 0; c < COLOURS; c++)
        mine += creal(x[at][c] * conj(x[at][c]));
    MPI_Allreduce(&mine, &all, 1, MPI_DOUBLE, MPI_SUM, grid);
    return all;
}

static int solve(vector *x, vector *b, vector *r, vector *p, vector *q)
{
    int iterations;
    EACH_SITE(at)
    for (int c = 0; c < COLOURS; c++) {
        x[at][c] = 0;
        r[at][c] = p[at][c] = b[at][c];
    }
    double rr = square(r), end = rr * 1e-24;
    for (iterations = 0; iterations < MOST_ITERATIONS && rr > end; iterations++) {
        double alpha = rr / apply(p, q), before = rr;
        EACH_SITE(at)
        for (int c = 0; c < COLOURS; c++) {
            x[at][c] += alpha * p[at][c];
            r[at][c] -= alpha * q[at][c];
        }
        rr = square(r);
        EACH_SITE(at)
        for (int c = 0; c < COLOURS; c++)
            p[at][c] = r[at][c] + rr / before * p[at][c];
    }
    return iterations;
}

/* A number that every rank knows for a site (halo included) and a use of it. */
static double hash(const int *x, int use)
{
    unsigned v = use * 2654435761u;
    for (int d = 0; d < 4; d++)
        v = (v ^ ((first[d] + x[d] - 1 + n) % n)) * 2246822519u, v ^= v >> 13;
    return v / 4294967296.0;
}

int main(int argc, char **argv)
{
    int ranks, rank, dims[4] = {0}, periods[4] = {1, 1, 1, 1}, place[4], iterations = 0;
    double error = 0, started;
    MPI_Init(&argc, &argv);
    n = argument(argc, argv, 1, 16);
    int solves = argument(argc, argv, 2, 5);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    MPI_Dims_create(ranks, 4, dims);
    MPI_Cart_create(MPI_COMM_WORLD, 4, dims, periods, 0, &grid);
    MPI_Comm_rank(grid, &rank);
    MPI_Cart_coords(grid, rank, 4, place);
    for (int d = 0; d < 4; d++) {
        MPI_Cart_shift(grid, d, 1, &low[d], &high[d]);
        first[d] = first_of(n, place[d], dims[d]);
        size[d] = first_of(n, place[d] + 1, dims[d]) - first[d];
        wide[d] = size[d] + 2;
    }
    sites = (size_t) wide[0] * wide[1] * wide[2] * wide[3];
    for (int d = 0; d < 4; d++) {
        stride[d] = site(d == 0, d == 1, d == 2, d == 3);
        low_halo[d] = face(d, 0);
        first_face[d] = face(d, 1);
        last_face[d] = face(d, size[d]);
        high_halo[d] = face(d, size[d] + 1);
        link_of[d] = allocate(sites, sizeof(*link_of[d]));
    }
    vector *known = allocate(sites, sizeof(vector)), *x = allocate(sites, sizeof(vector)),
           *b = allocate(sites, sizeof(vector)), *r = allocate(sites, sizeof(vector)),
           *p = allocate(sites, sizeof(vector)), *q = allocate(sites, sizeof(vector));
    int at[4];
    for (at[0] = 0; at[0] < wide[0]; at[0]++)
        for (at[1] = 0; at[1] < wide[1]; at[1]++)
            for (at[2] = 0; at[2] < wide[2]; at[2]++)
                for (at[3] = 0; at[3] < wide[3]; at[3]++) {
                    size_t s = site(at[0], at[1], at[2], at[3]);
                    for (int d = 0; d < 4; d++)
                        link_of[d][s] = cexp(2 * M_PI * I * hash(at, d));
                    for (int c = 0; c < COLOURS; c++)
                        known[s][c] = hash(at, 4 + c) + I * hash(at, 8 + c);
                }
    apply(known, b);
    MPI_Barrier(grid);
    started = MPI_Wtime();
    for (int i = 0; i < solves; i++)
        iterations += solve(x, b, r, p, q);
    EACH_SITE(s)
    for (int c = 0; c < COLOURS; c++)
        error = fmax(error, cabs(x[s][c] - known[s][c]));
    if (rank == 0)
        printf("lattice: %d^4 sites, %d x %d x %d x %d ranks, %d iterations\n", n, dims[0], dims[1],
               dims[2], dims[3], iterations);
    return finish("lattice", started, error, 1e-9);
}
