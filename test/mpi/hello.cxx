// SPDX-License-Identifier: mpich2
// The C++ wrapper compiler, and its bindings if MPICH has them.
#include <iostream>
#include <mpi.h>
#include <vector>

int main(int argc, char **argv)
{
    int rank, size;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    std::vector<double> mine(100000, rank), sum(100000);
    MPI_Allreduce(mine.data(), sum.data(), 100000, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    for (double d : sum)
        if (d != size * (size - 1) / 2)
            MPI_Abort(MPI_COMM_WORLD, 3);
    if (rank == 0)
        std::cout << "No errors" << std::endl;
    MPI_Finalize();
}
