/* SPDX-License-Identifier: mpich2 */
/*
 * Three ranks add to a word of rank 0's, under the lock of a shared window. Rank 1 dies meanwhile,
 * perhaps while it holds the lock. The others get the lock, and add everything that they have to.
 */
#include "../mpi/mpitest.h"

#define TURNS 2000

int main(int argc, char **argv)
{
    long long *word, one = 1, ended = 0;
    MPI_Win win;

    start(&argc, &argv);
    CHECK(size == 3, "three ranks are needed");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Win_allocate(8, 8, MPI_INFO_NULL, MPI_COMM_WORLD, &word, &win);
    MPI_Win_lock_all(MPI_MODE_NOCHECK, win);
    *word = 0;
    MPI_Win_sync(win);
    MPI_Barrier(MPI_COMM_WORLD);
    for (int i = 0; i < TURNS; i++) {
        MPI_Accumulate(&one, 1, MPI_LONG_LONG, 0, 0, 1, MPI_LONG_LONG, MPI_SUM, win);
        MPI_Win_flush(0, win);
    }
    if (rank == 2)
        MPI_Send(&one, 1, MPI_LONG_LONG, 0, 0, MPI_COMM_WORLD);
    if (rank == 0) {
        MPI_Recv(&ended, 1, MPI_LONG_LONG, 2, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Win_sync(win);
        CHECK(ended == 1 && *word >= 2 * TURNS && *word < 3 * TURNS, "the sum is %lld", *word);
    }
    printf("rank %d has added all\n", rank);
    fflush(stdout);
    MPI_Finalize();
    return 0;
}
