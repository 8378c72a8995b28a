! SPDX-License-Identifier: mpich2
! mpif.h, as old codes use it.
      program hello
      implicit none
      include 'mpif.h'
      integer rank, ranks, ierr, i, status(MPI_STATUS_SIZE)
      integer a(50000), total(50000)
      call MPI_INIT(ierr)
      call MPI_COMM_RANK(MPI_COMM_WORLD, rank, ierr)
      call MPI_COMM_SIZE(MPI_COMM_WORLD, ranks, ierr)
      do i = 1, 50000
        a(i) = rank + i
      end do
      call MPI_ALLREDUCE(a, total, 50000, MPI_INTEGER, MPI_SUM,
     &                   MPI_COMM_WORLD, ierr)
      do i = 1, 50000
        if (total(i) .ne. ranks * (ranks - 1) / 2 + ranks * i)
     &    call MPI_ABORT(MPI_COMM_WORLD, 3, ierr)
      end do
      call MPI_SENDRECV(a, 50000, MPI_INTEGER, mod(rank + 1, ranks), 1,
     &                  total, 50000, MPI_INTEGER,
     &                  mod(rank + ranks - 1, ranks), 1,
     &                  MPI_COMM_WORLD, status, ierr)
      if (total(1) .ne. mod(rank + ranks - 1, ranks) + 1)
     &  call MPI_ABORT(MPI_COMM_WORLD, 4, ierr)
      if (rank .eq. 0) print '(a)', 'No errors'
      call MPI_FINALIZE(ierr)
      end
