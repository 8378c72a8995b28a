/* SPDX-License-Identifier: mpich2 */
/*
 * A process manager that loses the end of a business card: rank 1 hands it only the first bytes of
 * its own, as many as the argument says. Prints "whole" if that was all of it.
 */
#define _GNU_SOURCE
#include "mpitest.h"

#include <sys/syscall.h>

static size_t keep;
static int whole = 1;

/* Of the C library; here it stands between libmpi and the process manager. */
ssize_t write(int fd, const void *buf, size_t len)
{
    static const char start_of_value[] = "P1-businesscard value=";
    const char *value = memmem(buf, len, start_of_value, sizeof(start_of_value) - 1);
    if (value) {
        value += sizeof(start_of_value) - 1;
        size_t kept = (size_t) (value - (const char *) buf) + keep;
        /* The separator at the end of it may go. */
        if (kept + 2 < len) {
            char cut[4096];
            CHECK(kept < sizeof(cut), "a long card");
            memcpy(cut, buf, kept);
            cut[kept] = '\n';
            whole = 0;
            return syscall(SYS_write, fd, cut, kept + 1) == (ssize_t) kept + 1 ? (ssize_t) len : -1;
        }
    }
    return syscall(SYS_write, fd, buf, len);
}

int main(int argc, char **argv)
{
    char byte = 0;

    keep = argc > 1 ? (size_t) atoi(argv[1]) : SIZE_MAX / 2;
    start(&argc, &argv);
    if (rank == 1) {
        if (whole)
            fputs("whole\n", stdout); /* in one write, as Hydra may mix lines of several */
        MPI_Recv(&byte, 1, MPI_BYTE, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    } else {
        MPI_Send(&byte, 1, MPI_BYTE, 1, 0, MPI_COMM_WORLD);
        sent(1, 1, 1);
    }
    finish();
    return 0;
}
