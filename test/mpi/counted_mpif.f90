! SPDX-License-Identifier: mpich2
!
! Calls whose number and sizes are known, by mpif.h: for the tests of ivshmem-bench.
program counted
    implicit none
    include 'mpif.h'
    integer :: ierror, rank, ranks, i, out(4) = 0, in(4), total
    call MPI_Init(ierror)
    call MPI_Comm_rank(MPI_COMM_WORLD, rank, ierror)
    call MPI_Comm_size(MPI_COMM_WORLD, ranks, ierror)
    do i = 1, 6
        call MPI_Sendrecv(out, 4, MPI_INTEGER, mod(rank + 1, ranks), 0, in, 4, MPI_INTEGER, &
            mod(rank + ranks - 1, ranks), 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE, ierror)
    end do
    do i = 1, 2
        call MPI_Allreduce(out(1), total, 1, MPI_INTEGER, MPI_SUM, MPI_COMM_WORLD, ierror)
    end do
    call MPI_Barrier(MPI_COMM_WORLD, ierror)
    call MPI_Finalize(ierror)
end program
