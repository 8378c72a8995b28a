! SPDX-License-Identifier: mpich2
!
! coarray N STEPS: the heat equation on N x N points by Coarray Fortran, in one band of columns for each image. In each
! step every image puts its edges into its neighbours' halos, and all sum their heat every ten steps. The first state is
! an eigenvector of the step, so that each later state is known.
program coarray
    use, intrinsic :: iso_fortran_env, only: int64, real64
    implicit none
    real(real64), parameter :: pi = 3.14159265358979323846_real64, r = 0.2_real64
    real(real64), allocatable :: u(:, :, :)[:]
    real(real64) :: h, left, heat, error
    integer(int64) :: began, ended, rate
    integer :: n, steps, me, images, first, columns, wide, i, j, step, now, next

    me = this_image()
    images = num_images()
    n = argument(1)
    steps = argument(2)
    if (n < images .or. steps < 1) then
        if (me == 1) then
            write (0, '(a)') 'coarray: wants N, at least the number of images, and STEPS'
            flush (0)
            error stop 2
        end if
        sync all ! what ends first ends all
    end if
    first = int(int(n, int64)*(me - 1)/images)
    columns = int(int(n, int64)*me/images) - first
    wide = (n + images - 1)/images
    allocate (u(0:n + 1, 0:wide + 1, 2)[*])
    u = 0
    h = pi/(n + 1)
    do j = 1, columns
        do i = 1, n
            u(i, j, 1) = sin(i*h)*sin((first + j)*h)
        end do
    end do

    sync all
    call system_clock(began, rate)
    do step = 1, steps
        now = 2 - mod(step, 2)
        next = 3 - now
        if (me > 1) u(1:n, right_halo(me - 1), now)[me - 1] = u(1:n, 1, now)
        if (me < images) u(1:n, 0, now)[me + 1] = u(1:n, columns, now)
        call sync_neighbours()
        do j = 1, columns
            do i = 1, n
                u(i, j, next) = (1 - 4*r)*u(i, j, now) + r*(u(i - 1, j, now) + u(i + 1, j, now) + &
                                                            u(i, j - 1, now) + u(i, j + 1, now))
            end do
        end do
        if (mod(step, 10) == 0) then
            heat = sum(u(1:n, 1:columns, next))
            call co_sum(heat)
        end if
    end do
    sync all
    call system_clock(ended)

    left = (1 - 4*r + 4*r*cos(h))**steps
    next = 2 - mod(steps + 1, 2)
    error = 0
    do j = 1, columns
        do i = 1, n
            error = max(error, abs(u(i, j, next) - left*sin(i*h)*sin((first + j)*h)))
        end do
    end do
    call co_max(error)
    if (me == 1) then
        print '(a,i0,a,i0,a,i0,a,i0,a)', 'coarray: ', n, ' x ', n, ' points, ', images, ' images, ', steps, ' steps'
        print '(a,f0.6,a)', 'coarray: ', real(ended - began, real64)/real(rate, real64), ' seconds'
        print '(a,es9.2,a)', 'coarray: error ', error, trim(merge(': verified', ': WRONG   ', error < 1e-12_real64))
    end if
    if (error >= 1e-12_real64) error stop 1

contains

    integer function argument(which)
        integer, intent(in) :: which
        character(len=20) :: text
        integer :: status

        call get_command_argument(which, text)
        read (text, *, iostat=status) argument
        if (status /= 0) argument = 0
    end function

    ! The column behind the last one of an image.
    integer function right_halo(image)
        integer, intent(in) :: image

        right_halo = int(int(n, int64)*image/images) - int(int(n, int64)*(image - 1)/images) + 1
    end function

    subroutine sync_neighbours()
        if (me > 1 .and. me < images) then
            sync images([me - 1, me + 1])
        else if (me > 1) then
            sync images(me - 1)
        else if (images > 1) then
            sync images(me + 1)
        end if
    end subroutine
end program
