! SPDX-License-Identifier: mpich2
! use mpi: also the constants that MPI knows by their address, which lie in common blocks of its library.
program hello
    use mpi
    implicit none
    integer, parameter :: n = 50000
    integer :: rank, ranks, next, before, i, ierr, requests(2)
    integer :: mine(n), theirs(n)

    call MPI_Init(ierr)
    call MPI_Comm_rank(MPI_COMM_WORLD, rank, ierr)
    call MPI_Comm_size(MPI_COMM_WORLD, ranks, ierr)
    next = mod(rank + 1, ranks)
    before = mod(rank + ranks - 1, ranks)
    mine = rank
    theirs = -1
    call MPI_Irecv(theirs, n, MPI_INTEGER, before, 1, MPI_COMM_WORLD, requests(1), ierr)
    call MPI_Isend(mine, n, MPI_INTEGER, next, 1, MPI_COMM_WORLD, requests(2), ierr)
    call MPI_Waitall(2, requests, MPI_STATUSES_IGNORE, ierr)
    if (any(theirs /= before)) call MPI_Abort(MPI_COMM_WORLD, 3, ierr)
    call MPI_Allreduce(MPI_IN_PLACE, mine, n, MPI_INTEGER, MPI_SUM, MPI_COMM_WORLD, ierr)
    if (any(mine /= ranks * (ranks - 1) / 2)) call MPI_Abort(MPI_COMM_WORLD, 4, ierr)
    theirs = [(rank * n + i, i = 1, n)]
    call MPI_Sendrecv_replace(theirs, n, MPI_INTEGER, next, 2, before, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE, ierr)
    if (theirs(n) /= before * n + n) call MPI_Abort(MPI_COMM_WORLD, 5, ierr)
    if (rank == 0) print '(a)', 'No errors'
    call MPI_Finalize(ierr)
end program
