/* SPDX-License-Identifier: mpich2 */
/*
 * cut_card BYTES | cut_card endpoint N.G | cut_card release WORD
 *
 * A process manager that loses the end of a business card: it gets only the first BYTES of rank
 * 1's. Prints "whole" if that was the whole card. Or one that changes the endpoint and generation
 * in the card, or the release.
 */
#define _GNU_SOURCE
#include "mpitest.h"

#include <ctype.h>
#include <sys/syscall.h>

static size_t keep;
static int whole = 1;
static const char *other_parts;
static int first, count;

/* The byte after so many dots. */
static const char *skip_parts(const char *from, const char *end, int parts)
{
    while (parts-- > 0) {
        const char *dot = memchr(from, '.', (size_t) (end - from));
        CHECK(dot, "no part of ours in the card, or too few: %s", from);
        from = dot + 1;
    }
    return from;
}

/* The parts from the `first` on become the other ones. */
static ssize_t write_other(int fd, const char *buf, size_t len)
{
    static const char key[] = "ivshmem#";
    char other[4096];
    const char *from = memmem(buf, len, key, sizeof(key) - 1);
    CHECK(from, "no part of ours in the card: %.*s", (int) len, buf);
    from = skip_parts(from + sizeof(key) - 1, buf + len, first);
    const char *to = skip_parts(from, buf + len, count) - 1;
    int n = snprintf(other, sizeof(other), "%.*s%s%.*s", (int) (from - buf), buf, other_parts,
                     (int) (buf + len - to), to);
    CHECK(n > 0 && (size_t) n < sizeof(other), "a long card");
    return syscall(SYS_write, fd, other, (size_t) n) == n ? (ssize_t) len : -1;
}

/* Replaces the C library's; here it is between libmpi and the process manager. */
ssize_t write(int fd, const void *buf, size_t len)
{
    static const char start_of_value[] = "P1-businesscard value=";
    const char *value = memmem(buf, len, start_of_value, sizeof(start_of_value) - 1);
    if (value && other_parts)
        return write_other(fd, buf, len);
    if (value) {
        value += sizeof(start_of_value) - 1;
        size_t kept = (size_t) (value - (const char *) buf) + keep;
        /* The separator at its end may be missing. */
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

    keep = argc > 1 && isdigit((unsigned char) argv[1][0]) ? (size_t) atoi(argv[1]) : SIZE_MAX / 2;
    other_parts = argc > 2 ? argv[2] : NULL;
    first = argc > 1 && strcmp(argv[1], "release") == 0 ? 5 : 1;
    count = first == 5 ? 1 : 2;
    start(&argc, &argv);
    if (rank == 1) {
        if (whole)
            fputs("whole\n", stdout); /* in one write, as Hydra may mix lines of several */
        MPI_Recv(&byte, 1, MPI_BYTE, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    } else {
        MPI_Send(&byte, 1, MPI_BYTE, 1, 0, MPI_COMM_WORLD);
        expect_sent(1, 1, 1);
    }
    finish();
    return 0;
}
