! SPDX-License-Identifier: mpich2
!
! Calls whose number and sizes are known, by mpi_f08: for the tests of ivshmem-bench.
program counted
    use mpi_f08
    implicit none
    integer :: rank, ranks, i, out(4) = 0, in(4), total
    call MPI_Init()
    call MPI_Comm_rank(MPI_COMM_WORLD, rank)
    call MPI_Comm_size(MPI_COMM_WORLD, ranks)
    do i = 1, 6
        call MPI_Sendrecv(out, 4, MPI_INTEGER, mod(rank + 1, ranks), 0, in, 4, MPI_INTEGER, &
            mod(rank + ranks - 1, ranks), 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE)
    end do
    do i = 1, 2
        call MPI_Allreduce(out(1), total, 1, MPI_INTEGER, MPI_SUM, MPI_COMM_WORLD)
    end do
    call MPI_Barrier(MPI_COMM_WORLD)
    call MPI_Finalize()
end program
