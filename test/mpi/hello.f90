! SPDX-License-Identifier: mpich2
! mpi_f08: handles, a status, a derived type, and a large message.
program hello
    use mpi_f08
    implicit none
    integer, parameter :: n = 200
    type(MPI_Status) :: status
    type(MPI_Datatype) :: columns
    integer :: rank, ranks, next, before, count, i
    double precision :: a(n, n), b(n, n)

    call MPI_Init()
    call MPI_Comm_rank(MPI_COMM_WORLD, rank)
    call MPI_Comm_size(MPI_COMM_WORLD, ranks)
    next = mod(rank + 1, ranks)
    before = mod(rank + ranks - 1, ranks)
    do i = 1, n
        a(:, i) = rank * n + i
    end do
    b = -1
    ! every other column
    call MPI_Type_vector(n / 2, n, 2 * n, MPI_DOUBLE_PRECISION, columns)
    call MPI_Type_commit(columns)
    call MPI_Sendrecv(a, 1, columns, next, 1, b, n * n / 2, MPI_DOUBLE_PRECISION, before, 1, MPI_COMM_WORLD, status)
    call MPI_Get_count(status, MPI_DOUBLE_PRECISION, count)
    if (count /= n * n / 2 .or. status%MPI_SOURCE /= before) call MPI_Abort(MPI_COMM_WORLD, 3)
    do i = 1, n / 2
        if (any(b(:, i) /= before * n + 2 * i - 1)) call MPI_Abort(MPI_COMM_WORLD, 4)
    end do
    call MPI_Type_free(columns)
    if (rank == 0) print '(a)', 'No errors'
    call MPI_Finalize()
end program
