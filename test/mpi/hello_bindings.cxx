// SPDX-License-Identifier: mpich2
// The C++ bindings, which the standard no longer has, and old codes use: objects, an operation, an exception.
#include <algorithm>
#include <iostream>
#include <mpi.h>
#include <vector>

static void largest(const void *from, void *to, int len, const MPI::Datatype &)
{
    for (int i = 0; i < len; i++)
        static_cast<int *>(to)[i] =
            std::max(static_cast<int *>(to)[i], static_cast<const int *>(from)[i]);
}

int main(int argc, char **argv)
{
    MPI::Init(argc, argv);
    MPI::Intracomm world = MPI::COMM_WORLD.Dup();
    world.Set_errhandler(MPI::ERRORS_THROW_EXCEPTIONS);
    int rank = world.Get_rank(), size = world.Get_size();

    std::vector<int> mine(100000, rank), all(100000, -1);
    MPI::Op op;
    op.Init(largest, true);
    world.Allreduce(mine.data(), all.data(), 100000, MPI::INT, op);
    op.Free();
    for (int i : all)
        if (i != size - 1)
            MPI::COMM_WORLD.Abort(3);

    MPI::Status status;
    int before = (rank + size - 1) % size;
    world.Sendrecv(mine.data(), 100000, MPI::INT, (rank + 1) % size, 1, all.data(), 100000, MPI::INT,
                   before, 1, status);
    if (all[99999] != before || status.Get_count(MPI::INT) != 100000)
        MPI::COMM_WORLD.Abort(4);

    bool thrown = false;
    try {
        world.Send(mine.data(), 1, MPI::INT, size, 1);
    } catch (MPI::Exception &e) {
        thrown = e.Get_error_class() == MPI::ERR_RANK;
    }
    if (!thrown)
        MPI::COMM_WORLD.Abort(5);
    if (rank == 0)
        std::cout << "No errors" << std::endl;
    world.Free();
    MPI::Finalize();
}
