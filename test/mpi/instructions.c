/* SPDX-License-Identifier: mpich2 */
/*
 * instructions FILE
 *
 * Messages of 8 bytes, to be run by callgrind, which counts inside counted_send and
 * counted_receive. Each receive finds its message already there: rank 1 learns from FILE, a page of
 * zeroes, that it has been sent. So no rank polls in vain, and the counts are the same each time.
 */
#include "mpitest.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define POLLED 20 /* rounds, in which the pair may still set up its connection */
#define COUNTED 200

/* Functions with these names, which are really called, not jumped to: callgrind needs both. */
__attribute__((noipa)) static void counted_send(long long *data)
{
    MPI_Send(data, 8, MPI_BYTE, 1, 0, MPI_COMM_WORLD);
    __asm__ volatile("" : : : "memory");
}

__attribute__((noipa)) static void counted_receive(long long *data)
{
    MPI_Recv(data, 8, MPI_BYTE, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    __asm__ volatile("" : : : "memory");
}

int main(int argc, char **argv)
{
    start(&argc, &argv);
    CHECK(argc == 2 && size == 2, "a file, and two ranks");
    int fd = open(argv[1], O_RDWR);
    atomic_int *done = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(done != MAP_FAILED, "cannot map %s", argv[1]);
    for (int i = 0; i < POLLED + COUNTED; i++) {
        long long data = i;
        if (rank == 0) {
            if (i < POLLED)
                MPI_Send(&data, 8, MPI_BYTE, 1, 0, MPI_COMM_WORLD);
            else
                counted_send(&data);
            atomic_store(&done[0], i + 1);
            while (atomic_load(&done[1]) <= i)
                usleep(10);
            expect_sent(1, 1, 8);
        } else {
            while (atomic_load(&done[0]) <= i)
                usleep(10);
            data = -1;
            if (i < POLLED)
                MPI_Recv(&data, 8, MPI_BYTE, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            else
                counted_receive(&data);
            CHECK(data == i, "%lld in round %d", data, i);
            atomic_store(&done[1], i + 1);
        }
    }
    munmap(done, 4096);
    close(fd);
    finish();
    return 0;
}
