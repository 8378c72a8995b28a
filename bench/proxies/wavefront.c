/* SPDX-License-Identifier: mpich2 */
/*
 * wavefront [N [SWEEPS]]: pipelined sweeps over a grid, the pattern of lu.
 *
 * N x N x N points, divided among the ranks in two dimensions. A point needs its neighbours to the
 * north, to the west and below (on the way back, those of the other sides), so a rank waits for two
 * small messages in each plane, computes the plane and sends two. The right-hand side is made from
 * a known solution, from which each sweep must not depart.
 */
#include "proxy.h"

#define A 0.3
#define B 0.3
#define C 0.3

static MPI_Comm grid;
static int n, rows, columns, top, left;
static double *u; /* one plane after the other, without a halo */

/* Nothing but what a table says: a sine for each point would take longer than the rest. Zero
 * outside of the grid. */
static double *wave;
static double known(int i, int j, int k)
{
    if (i < 0 || j < 0 || k < 0 || i >= n || j >= n || k >= n)
        return 0;
    return wave[i] * wave[j] + wave[k];
}

/* One sweep: step is 1 from the north-west and from below, -1 back. */
static void sweep(int step, double *north, double *west)
{
    int up, down, before, after, i_first = step > 0 ? 0 : rows - 1,
                                 j_first = step > 0 ? 0 : columns - 1;
    MPI_Cart_shift(grid, 0, step, &up, &down);
    MPI_Cart_shift(grid, 1, step, &before, &after);
    for (int plane = 0; plane < n; plane++) {
        int k = step > 0 ? plane : n - 1 - plane;
        for (int j = 0; j < columns; j++)
            north[j] = 0;
        for (int i = 0; i < rows; i++)
            west[i] = 0;
        MPI_Recv(north, columns, MPI_DOUBLE, up, 0, grid, MPI_STATUS_IGNORE);
        MPI_Recv(west, rows, MPI_DOUBLE, before, 1, grid, MPI_STATUS_IGNORE);
        for (int a = 0; a < rows; a++) {
            int i = i_first + a * step, y = top + i;
            for (int c = 0; c < columns; c++) {
                int j = j_first + c * step, x = left + j;
                double right = known(y, x, k) - A * known(y - step, x, k) -
                               B * known(y, x - step, k) - C * known(y, x, k - step);
                double *here = &u[((size_t) k * rows + i) * columns + j];
                double below = plane > 0 ? here[-(long) step * rows * columns] : 0;
                /* north and west hold what the last point of the column and of the line has now. */
                north[j] = west[i] = *here = right + A * north[j] + B * west[i] + C * below;
            }
        }
        MPI_Send(north, columns, MPI_DOUBLE, down, 0, grid);
        MPI_Send(west, rows, MPI_DOUBLE, after, 1, grid);
    }
}

int main(int argc, char **argv)
{
    int ranks, rank, dims[2] = {0, 0}, periods[2] = {0, 0}, at[2];
    double error = 0, started;
    MPI_Init(&argc, &argv);
    n = argument(argc, argv, 1, 160);
    int sweeps = argument(argc, argv, 2, 40);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    MPI_Dims_create(ranks, 2, dims);
    MPI_Cart_create(MPI_COMM_WORLD, 2, dims, periods, 0, &grid);
    MPI_Comm_rank(grid, &rank);
    MPI_Cart_coords(grid, rank, 2, at);
    top = first_of(n, at[0], dims[0]);
    left = first_of(n, at[1], dims[1]);
    rows = first_of(n, at[0] + 1, dims[0]) - top;
    columns = first_of(n, at[1] + 1, dims[1]) - left;
    u = allocate((size_t) n * rows * columns, sizeof(double));
    wave = allocate(n, sizeof(double));
    double *north = allocate(columns, sizeof(double)), *west = allocate(rows, sizeof(double));
    for (int i = 0; i < n; i++)
        wave[i] = 1 + sin(0.37 * i);
    MPI_Barrier(grid);
    started = MPI_Wtime();
    for (int s = 0; s < sweeps; s++) {
        for (size_t i = 0; i < (size_t) n * rows * columns; i++)
            u[i] = -1;
        sweep(s % 2 ? -1 : 1, north, west);
        for (int k = 0; k < n; k++)
            for (int i = 0; i < rows; i++)
                for (int j = 0; j < columns; j++)
                    error = fmax(error, fabs(u[((size_t) k * rows + i) * columns + j] -
                                             known(top + i, left + j, k)));
    }
    if (rank == 0)
        printf("wavefront: %d x %d x %d points, %d x %d ranks, %d sweeps\n", n, n, n, dims[0],
               dims[1], sweeps);
    return finish("wavefront", started, error, 1e-10);
}
