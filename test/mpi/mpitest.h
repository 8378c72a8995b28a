/* SPDX-License-Identifier: mpich2 */
/*
 * Shared by the MPI tests: a check that ends the job, patterns that reveal every misplaced byte,
 * and an account of what was sent, which mpi.bash compares with the netmod's own counters.
 */
#ifndef MPITEST_H
#define MPITEST_H

#include <mpi.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* gcc takes MPI_STATUSES_IGNORE for an array of no length. */
#pragma GCC diagnostic ignored "-Wstringop-overflow"

/* A packet's header counts against the eager limit; its size is MPICH's. */
#define HEADER_MAX 64
#ifndef EAGER_LIMIT
#define EAGER_LIMIT 32768
#endif

static int rank, size;

/*
 * What must have gone through the region. Bytes without headers; lmt_max includes sizes at the
 * limit.
 */
static struct {
    long long messages, bytes, lmt_min, lmt_max, waits;
} expected;

__attribute__((noreturn, format(printf, 4, 5))) static inline void
failed(const char *file, int line, const char *what, const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    fprintf(stderr, "rank %d: %s:%d: %s: %s\n", rank, file, line, what, text);
    fflush(stderr);
    MPI_Abort(MPI_COMM_WORLD, 3);
    abort();
}

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition))                                                                          \
            failed(__FILE__, __LINE__, #condition, __VA_ARGS__);                                   \
    } while (0)

/* The eight bytes of the pattern `seed` at byte 8 * i. */
static inline uint64_t pattern_word(uint64_t seed, uint64_t i)
{
    uint64_t x = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15) + i * UINT64_C(0xd1342543de82ef95);
    x ^= x >> 29;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    return x ^ x >> 32;
}

static inline void fill(void *buf, size_t len, uint64_t seed)
{
    unsigned char *p = buf;
    for (size_t i = 0; i * 8 < len; i++) {
        uint64_t w = pattern_word(seed, i);
        memcpy(p + i * 8, &w, len - i * 8 < 8 ? len - i * 8 : 8);
    }
}

/* The first byte that differs from the pattern, or -1. */
static inline long long differs(const void *buf, size_t len, uint64_t seed)
{
    const unsigned char *p = buf;
    for (size_t i = 0; i * 8 < len; i++) {
        uint64_t w = pattern_word(seed, i);
        size_t n = len - i * 8 < 8 ? len - i * 8 : 8;
        if (memcmp(p + i * 8, &w, n) == 0)
            continue;
        for (size_t k = 0; k < n; k++)
            if (p[i * 8 + k] != ((unsigned char *) &w)[k])
                return (long long) (i * 8 + k);
    }
    return -1;
}

#define CHECK_PATTERN(buf, len, seed, ...)                                                         \
    do {                                                                                           \
        long long at_ = differs(buf, len, seed);                                                   \
        char what_[80];                                                                            \
        snprintf(what_, sizeof(what_), "byte %lld of %zu is wrong", at_, (size_t) (len));          \
        if (at_ >= 0)                                                                              \
            failed(__FILE__, __LINE__, what_, __VA_ARGS__);                                        \
    } while (0)

/*
 * Whether messages to that rank of MPI_COMM_WORLD go through the netmod, as the test has set it up.
 */
static inline int is_remote(int peer)
{
    const char *nolocal = getenv("MPIR_CVAR_NOLOCAL"),
               *cliques = getenv("MPIR_CVAR_ODD_EVEN_CLIQUES");
    if (nolocal && atoi(nolocal))
        return peer != rank;
    return cliques && atoi(cliques) && (peer ^ rank) & 1;
}

/* Expects `count` messages of `len` bytes to a rank. */
static inline void expect_sent(int peer, long long count, long long len)
{
    if (!is_remote(peer))
        return;
    expected.messages += count;
    expected.bytes += count * len;
    if (len > EAGER_LIMIT)
        expected.lmt_min += count * len;
    if (len > EAGER_LIMIT - HEADER_MAX)
        expected.lmt_max += count * len;
}

static inline void start(int *argc, char ***argv)
{
    MPI_Init(argc, argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
}

/* MPI's text of an error, in one line. */
static inline void error_line(int err, char text[MPI_MAX_ERROR_STRING])
{
    int len;
    MPI_Error_string(err, text, &len);
    for (char *c = text; *c; c++)
        if (*c == '\n')
            *c = ' ';
}

/*
 * Passes a line, such as the name of a port, from one job to another by a file that is never seen
 * half written.
 */
static inline void write_line(const char *path, const char *line)
{
    char tmp[1000];
    int len = snprintf(tmp, sizeof(tmp), "%s.tmp", path);
    CHECK(len < (int) sizeof(tmp), "too long: %s", path);
    FILE *f = fopen(tmp, "w");
    CHECK(f && fputs(line, f) >= 0 && fclose(f) == 0 && rename(tmp, path) == 0, "cannot write %s",
          path);
}

/* Reads a line of at most MPI_MAX_PORT_NAME bytes; waits two minutes for the file. */
static inline void read_line(const char *path, char *line)
{
    FILE *f;
    for (int i = 0; !(f = fopen(path, "r")) && i < 12000; i++)
        usleep(10000);
    CHECK(f && fgets(line, MPI_MAX_PORT_NAME, f), "nothing in %s", path);
    fclose(f);
}

/* Rank 0 prints what the counters of all ranks must add up to. */
static inline void finish(void)
{
    long long sum[5];
    MPI_Reduce(&expected, sum, 5, MPI_LONG_LONG, MPI_SUM, 0, MPI_COMM_WORLD);
    if (rank == 0)
        printf("expected: messages>=%lld bytes>=%lld lmt_sent_bytes>=%lld lmt_sent_bytes<=%lld "
               "waits>=%lld\nNo errors\n",
               sum[0], sum[1], sum[2], sum[3], sum[4]);
    MPI_Finalize();
}

#endif
