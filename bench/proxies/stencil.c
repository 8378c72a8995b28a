/* SPDX-License-Identifier: mpich2 */
/*
 * stencil [N [STEPS]]: explicit time steps on a grid with halos, the pattern of leslie3d, zeusmp2
 * and GemsFDTD.
 *
 * The heat equation on N x N x N points, divided among the ranks in three dimensions. A step
 * exchanges six faces and computes each point from itself and its six neighbours. It starts with a
 * mode of which each step leaves a known part.
 */
#include "proxy.h"

#define R 0.1 /* diffusion in a step */

static MPI_Comm grid;
static int size[3], first[3]; /* this rank's part, without its halo */

/* Points that follow each other are neighbours in dimension 2; 0 is in the halo. */
static size_t at(int i, int j, int k)
{
    return ((size_t) i * (size[1] + 2) + j) * (size[2] + 2) + k;
}

/* The face of dimension d that is at the place p there: the points of the halo, or those next to
 * it. */
static MPI_Datatype face(int d, int p)
{
    int whole[3], part[3], from[3] = {1, 1, 1};
    MPI_Datatype type;
    for (int i = 0; i < 3; i++) {
        whole[i] = size[i] + 2;
        part[i] = size[i];
    }
    part[d] = 1;
    from[d] = p;
    MPI_Type_create_subarray(3, whole, part, from, MPI_ORDER_C, MPI_DOUBLE, &type);
    MPI_Type_commit(&type);
    return type;
}

int main(int argc, char **argv)
{
    int ranks, rank, dims[3] = {0, 0, 0}, periods[3] = {0, 0, 0}, place[3], low[3], high[3];
    MPI_Datatype first_face[3], last_face[3], low_halo[3], high_halo[3];
    double error = 0, started, *mode[3];
    MPI_Init(&argc, &argv);
    int n = argument(argc, argv, 1, 128), steps = argument(argc, argv, 2, 200);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    MPI_Dims_create(ranks, 3, dims);
    MPI_Cart_create(MPI_COMM_WORLD, 3, dims, periods, 0, &grid);
    MPI_Comm_rank(grid, &rank);
    MPI_Cart_coords(grid, rank, 3, place);
    for (int d = 0; d < 3; d++) {
        MPI_Cart_shift(grid, d, 1, &low[d], &high[d]);
        first[d] = first_of(n, place[d], dims[d]);
        size[d] = first_of(n, place[d] + 1, dims[d]) - first[d];
        mode[d] = allocate(size[d] + 2, sizeof(double));
        for (int i = 1; i <= size[d]; i++)
            mode[d][i] = sin(M_PI * (d + 1) * (first[d] + i) / (n + 1));
    }
    for (int d = 0; d < 3; d++) {
        low_halo[d] = face(d, 0);
        first_face[d] = face(d, 1);
        last_face[d] = face(d, size[d]);
        high_halo[d] = face(d, size[d] + 1);
    }
    size_t points = (size_t) (size[0] + 2) * (size[1] + 2) * (size[2] + 2);
    double *u = allocate(points, sizeof(double)), *next = allocate(points, sizeof(double));
    for (int i = 1; i <= size[0]; i++)
        for (int j = 1; j <= size[1]; j++)
            for (int k = 1; k <= size[2]; k++)
                u[at(i, j, k)] = mode[0][i] * mode[1][j] * mode[2][k];
    MPI_Barrier(grid);
    started = MPI_Wtime();
    for (int step = 0; step < steps; step++) {
        MPI_Request requests[12];
        for (int d = 0, r = 0; d < 3; d++) {
            MPI_Irecv(u, 1, low_halo[d], low[d], d, grid, &requests[r++]);
            MPI_Irecv(u, 1, high_halo[d], high[d], 3 + d, grid, &requests[r++]);
            MPI_Isend(u, 1, last_face[d], high[d], d, grid, &requests[r++]);
            MPI_Isend(u, 1, first_face[d], low[d], 3 + d, grid, &requests[r++]);
        }
        MPI_Waitall(12, requests, MPI_STATUSES_IGNORE);
        for (int i = 1; i <= size[0]; i++)
            for (int j = 1; j <= size[1]; j++)
                for (int k = 1; k <= size[2]; k++) {
                    size_t p = at(i, j, k);
                    next[p] = (1 - 6 * R) * u[p] +
                              R * (u[at(i - 1, j, k)] + u[at(i + 1, j, k)] + u[at(i, j - 1, k)] +
                                   u[at(i, j + 1, k)] + u[p - 1] + u[p + 1]);
                }
        double *old = u;
        u = next;
        next = old;
    }
    double left = 1 - 6 * R;
    for (int d = 0; d < 3; d++)
        left += 2 * R * cos(M_PI * (d + 1) / (n + 1));
    left = pow(left, steps);
    for (int i = 1; i <= size[0]; i++)
        for (int j = 1; j <= size[1]; j++)
            for (int k = 1; k <= size[2]; k++)
                error =
                    fmax(error, fabs(u[at(i, j, k)] - left * mode[0][i] * mode[1][j] * mode[2][k]));
    if (rank == 0)
        printf("stencil: %d x %d x %d points, %d x %d x %d ranks, %d steps\n", n, n, n, dims[0],
               dims[1], dims[2], steps);
    return finish("stencil", started, error, 1e-12);
}
