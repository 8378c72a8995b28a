/* SPDX-License-Identifier: mpich2 */
/*
 * mpibench [OPTION...] TEST...: short samples of MPI's speed, each between two readings of the
 * current cost of communication between processors.
 *
 *   -s BYTES,...     sizes other than the test's own
 *   -n SAMPLES       at each size, default 1
 *   -t MILLISECONDS  of a sample, about, default 4
 *   -a               rank 0's buffers come from MPI_Alloc_mem
 *
 * One program for every MPI: it uses nothing but MPI and, for the readings, a page that bench/run
 * shares among the ranks (MPIBENCH_PAGE, a file of zeroes). Ranks 0 and 1 send a cache line back
 * and forth in it, while the others sleep. On a machine whose virtual processors move, a sample is
 * valid only if its two readings agree, and can be compared only with samples of the same reading.
 * Without a page the readings are 0.
 *
 * A sample is one line: test, bytes, ranks, value, unit, reading before and after in nanoseconds;
 * the first one is for MPI_Init. A comment at each test says what it measures. Rank r runs on
 * processor r modulo their number.
 */
#define _GNU_SOURCE
#include <mpi.h>

#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* gcc takes MPI_STATUSES_IGNORE for an array of no length. */
#pragma GCC diagnostic ignored "-Wstringop-overflow"

#define BYTES_MAX (16 << 20)
#define WINDOW_MAX 64
#define WINDOW_BYTES (4 << 20) /* in flight, if that is at least 4 messages */
#define HOPS 1000

static int rank, size;
static char *sendbuf, *recvbuf;
static double sample_seconds = 0.004;
static int samples = 1;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("mpibench: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    MPI_Abort(MPI_COMM_WORLD, 1);
    abort();
}

/* The reading */

static struct page {
    _Alignas(128) atomic_ulong arrived; /* ranks at a reading, over all readings */
    _Alignas(128) atomic_ulong done;    /* readings that are over */
    _Alignas(128) atomic_ulong ping;
    _Alignas(128) atomic_ulong pong;
} * page;

static void nap(void)
{
    nanosleep(&(struct timespec){0, 50000}, NULL);
}

static void map_page(const char *file)
{
    int fd;
    if (!file)
        return;
    fd = open(file, O_RDWR);
    page =
        fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        die("cannot map %s, which MPIBENCH_PAGE names", file);
    close(fd);
}

static void wait_for(atomic_ulong *counter, unsigned long value)
{
    while (atomic_load_explicit(counter, memory_order_acquire) != value)
        __builtin_ia32_pause();
}

/* Nanoseconds that a cache line takes from one processor to the other: collective, on rank 0. */
static double hop(void)
{
    static unsigned long reading;
    double start;

    if (!page || size < 2)
        return 0;
    reading++;
    atomic_fetch_add(&page->arrived, 1);
    if (rank > 1) {
        while (atomic_load(&page->done) != reading)
            nap();
        return 0;
    }
    while (atomic_load(&page->arrived) != reading * (unsigned long) size)
        sched_yield();
    start = now();
    for (unsigned long i = (reading - 1) * HOPS + 1; i <= reading * HOPS; i++) {
        if (rank == 0) {
            atomic_store_explicit(&page->ping, i, memory_order_release);
            wait_for(&page->pong, i);
        } else {
            wait_for(&page->ping, i);
            atomic_store_explicit(&page->pong, i, memory_order_release);
        }
    }
    if (rank == 0)
        atomic_store(&page->done, reading);
    return (now() - start) / HOPS / 2 * 1e9;
}

/*
 * Between two ranks. With more, each rank of the lower half is paired with one in the upper half.
 */

static int partner(void)
{
    return rank < size / 2 ? rank + size / 2 : rank - size / 2;
}

static double ping_pong(const char *out, char *in, int bytes, int n)
{
    double start = now();
    for (int i = 0; i < n; i++) {
        if (rank == 0) {
            MPI_Send(out, bytes, MPI_BYTE, 1, 0, MPI_COMM_WORLD);
            MPI_Recv(in, bytes, MPI_BYTE, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        } else if (rank == 1) {
            MPI_Recv(in, bytes, MPI_BYTE, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            MPI_Send(out, bytes, MPI_BYTE, 0, 0, MPI_COMM_WORLD);
        }
    }
    return (now() - start) / n / 2 * 1e6;
}

static double latency(int bytes, int n)
{
    return ping_pong(sendbuf, recvbuf, bytes, n);
}

static double echo(int bytes, int n)
{
    return ping_pong(recvbuf, recvbuf, bytes, n);
}

static int window(int bytes)
{
    int w = bytes > 0 ? WINDOW_BYTES / bytes : WINDOW_MAX;
    return w > WINDOW_MAX ? WINDOW_MAX : w < 4 ? 4 : w;
}

/*
 * Messages a second, of all pairs together, by windows: in both directions, or from the lower half
 * to the upper, which ends each window by an answer.
 */
static double windows(int bytes, int n, int both)
{
    MPI_Request requests[2 * WINDOW_MAX];
    int w = window(bytes), sends = both || rank < size / 2, receives = both || rank >= size / 2;
    double start;

    MPI_Barrier(MPI_COMM_WORLD);
    start = now();
    for (int i = 0; i < n; i++) {
        int used = 0;
        for (int k = 0; receives && k < w; k++)
            MPI_Irecv(recvbuf, bytes, MPI_BYTE, partner(), 1, MPI_COMM_WORLD, &requests[used++]);
        for (int k = 0; sends && k < w; k++)
            MPI_Isend(sendbuf, bytes, MPI_BYTE, partner(), 1, MPI_COMM_WORLD, &requests[used++]);
        MPI_Waitall(used, requests, MPI_STATUSES_IGNORE);
        if (!receives)
            MPI_Recv(NULL, 0, MPI_BYTE, partner(), 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        else if (!sends)
            MPI_Send(NULL, 0, MPI_BYTE, partner(), 2, MPI_COMM_WORLD);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    return (double) n * w * (both ? size : size / 2) / (now() - start);
}

static double messages(int bytes, int n)
{
    return windows(bytes, n, 0);
}

static double bandwidth(int bytes, int n)
{
    return windows(bytes, n, 0) * bytes / 1e6;
}

static double bidirectional(int bytes, int n)
{
    return windows(bytes, n, 1) * bytes / 1e6;
}

static void compute(double seconds)
{
    for (double end = now() + seconds; now() < end;)
        ;
}

static double exchanges(int bytes, int n, double seconds)
{
    MPI_Request requests[2];
    double start = now();
    for (int i = 0; i < n; i++) {
        MPI_Irecv(recvbuf, bytes, MPI_BYTE, partner(), 0, MPI_COMM_WORLD, &requests[0]);
        MPI_Isend(sendbuf, bytes, MPI_BYTE, partner(), 0, MPI_COMM_WORLD, &requests[1]);
        compute(seconds);
        MPI_Waitall(2, requests, MPI_STATUSES_IGNORE);
    }
    return (now() - start) / n;
}

/* The part of an exchange, in percent, that is hidden behind a computation of the same length. */
static double overlap(int bytes, int n)
{
    double alone = exchanges(bytes, n, 0);
    MPI_Bcast(&alone, 1, MPI_DOUBLE, 0, MPI_COMM_WORLD);
    return 100 * (2 - exchanges(bytes, n, alone) / alone);
}

/* All ranks: microseconds an operation, the last of n ended by a barrier. */

#define COLLECTIVE(name, call)                                                                     \
    static double name(int bytes, int n)                                                           \
    {                                                                                              \
        double start;                                                                              \
        (void) bytes;                                                                              \
        MPI_Barrier(MPI_COMM_WORLD);                                                               \
        start = now();                                                                             \
        for (int i = 0; i < n; i++)                                                                \
            call;                                                                                  \
        MPI_Barrier(MPI_COMM_WORLD);                                                               \
        return (now() - start) / n * 1e6;                                                          \
    }

COLLECTIVE(barrier, MPI_Barrier(MPI_COMM_WORLD))
COLLECTIVE(bcast, MPI_Bcast(sendbuf, bytes, MPI_BYTE, 0, MPI_COMM_WORLD))
COLLECTIVE(allreduce,
           MPI_Allreduce(sendbuf, recvbuf, bytes / 8, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD))
COLLECTIVE(alltoall, MPI_Alltoall(sendbuf, bytes / size, MPI_BYTE, recvbuf, bytes / size, MPI_BYTE,
                                  MPI_COMM_WORLD))

/* One-sided: rank 0 on rank 1's memory, microseconds until it has been done there. */

static MPI_Win win;

#define FENCE(name, call)                                                                          \
    static double name(int bytes, int n)                                                           \
    {                                                                                              \
        double start;                                                                              \
        MPI_Win_fence(0, win);                                                                     \
        start = now();                                                                             \
        for (int i = 0; i < n; i++) {                                                              \
            if (rank == 0)                                                                         \
                call;                                                                              \
            MPI_Win_fence(0, win);                                                                 \
        }                                                                                          \
        (void) bytes;                                                                              \
        return (now() - start) / n * 1e6;                                                          \
    }
#define PASSIVE(name, call)                                                                        \
    static double name(int bytes, int n)                                                           \
    {                                                                                              \
        double start = now();                                                                      \
        (void) bytes;                                                                              \
        if (rank == 0) {                                                                           \
            MPI_Win_lock(MPI_LOCK_SHARED, 1, 0, win);                                              \
            for (int i = 0; i < n; i++) {                                                          \
                call;                                                                              \
                MPI_Win_flush(1, win);                                                             \
            }                                                                                      \
            MPI_Win_unlock(1, win);                                                                \
        }                                                                                          \
        start = now() - start;                                                                     \
        MPI_Barrier(MPI_COMM_WORLD);                                                               \
        return start / n * 1e6;                                                                    \
    }
#define PUT MPI_Put(sendbuf, bytes, MPI_BYTE, 1, 0, bytes, MPI_BYTE, win)
#define GET MPI_Get(recvbuf, bytes, MPI_BYTE, 1, 0, bytes, MPI_BYTE, win)
#define ACCUMULATE                                                                                 \
    MPI_Accumulate(sendbuf, bytes / 8, MPI_INT64_T, 1, 0, bytes / 8, MPI_INT64_T, MPI_SUM, win)
#define FETCH_AND_OP MPI_Fetch_and_op(sendbuf, recvbuf, MPI_INT64_T, 1, 0, MPI_SUM, win)

FENCE(put_fence, PUT)
FENCE(get_fence, GET)
FENCE(accumulate_fence, ACCUMULATE)
FENCE(fetch_and_op_fence, FETCH_AND_OP)
PASSIVE(put_passive, PUT)
PASSIVE(get_passive, GET)
PASSIVE(accumulate_passive, ACCUMULATE)
PASSIVE(fetch_and_op_passive, FETCH_AND_OP)

/* Without MPI: one processor copies in its own memory. */
static double copy(int bytes, int n)
{
    double start = now();
    if (rank == 0)
        for (int i = 0; i < n; i++) {
            memcpy(recvbuf, sendbuf, (size_t) bytes);
            __asm__ volatile("" : : "r"(recvbuf) : "memory");
        }
    return (now() - start) / n * 1e6;
}

#define LADDER                                                                                     \
    "8,64,128,256,512,1024,2048,4096,8192,16384,32768,65536,131072,262144,524288,1048576,"         \
    "2097152,4194304,8388608,16777216"
#define LARGE "65536,262144,1048576,4194304"
#define FEW "8,1024,65536,1048576"

static const struct test {
    const char *name;
    double (*run)(int bytes, int n); /* n times; its value in: */
    const char *unit;
    const char *bytes;
} tests[] = {
    {"latency", latency, "us", "0," LADDER}, /* half a round trip */
    {"echo", echo, "us", "0," LADDER},       /* the same, of what was just received */
    {"bandwidth", bandwidth, "MB/s", LADDER},
    {"bidirectional", bidirectional, "MB/s", LARGE},
    {"rate", messages, "1/s", "0,8,64,512"},
    {"overlap", overlap, "%", LARGE},
    {"barrier", barrier, "us", "0"},
    {"bcast", bcast, "us", FEW},
    {"allreduce", allreduce, "us", FEW},
    {"alltoall", alltoall, "us", FEW}, /* bytes that a rank sends, to all together */
    {"put_fence", put_fence, "us", FEW},
    {"get_fence", get_fence, "us", FEW},
    {"accumulate_fence", accumulate_fence, "us", FEW},
    {"fetch_and_op_fence", fetch_and_op_fence, "us", "8"},
    {"put_passive", put_passive, "us", FEW},
    {"get_passive", get_passive, "us", FEW},
    {"accumulate_passive", accumulate_passive, "us", FEW},
    {"fetch_and_op_passive", fetch_and_op_passive, "us", "8"},
    {"copy", copy, "us", LADDER},
};

static void print(const char *test, int bytes, double value, const char *unit, double before,
                  double after)
{
    if (rank == 0)
        printf("%s,%d,%d,%.6g,%s,%.1f,%.1f\n", test, bytes, size, value, unit, before, after);
}

/* How many times, for one sample; by rank 0's clock. */
static int calibrate(const struct test *test, int bytes)
{
    int n = 1;
    for (;;) {
        double start, seconds;
        MPI_Barrier(MPI_COMM_WORLD);
        start = now();
        test->run(bytes, n);
        seconds = now() - start;
        MPI_Bcast(&seconds, 1, MPI_DOUBLE, 0, MPI_COMM_WORLD);
        if (seconds >= sample_seconds || n >= 1 << 20)
            return n;
        /* The first ones are slow: at most four times as many. */
        n = seconds < sample_seconds / 4 ? 4 * n : (int) (n * sample_seconds * 1.1 / seconds) + 1;
    }
}

/* What rank 0 sends round must come back. */
static void verify(int bytes, int salt)
{
    if (size < 2)
        return;
    for (int i = 0; i < bytes; i++)
        sendbuf[i] = (char) (i * 7 + i / 251 + salt);
    memset(recvbuf, 0, (size_t) bytes);
    MPI_Barrier(MPI_COMM_WORLD);
    latency(bytes, 1);
    for (int i = 0; rank < 2 && i < bytes; i++)
        if (recvbuf[i] != sendbuf[i])
            die("byte %d of %d is wrong", i, bytes);
    MPI_Barrier(MPI_COMM_WORLD);
}

static void measure(const struct test *test, int bytes)
{
    int n;
    verify(bytes, 1);
    n = calibrate(test, bytes);
    for (int i = 0; i < samples; i++) {
        double before = hop(), value, after;
        MPI_Barrier(MPI_COMM_WORLD);
        value = test->run(bytes, n);
        after = hop();
        print(test->name, bytes, value, test->unit, before, after);
    }
    verify(bytes, 2);
}

static void pin(void)
{
    static const char *const names[] = {"PMI_RANK", "OMPI_COMM_WORLD_RANK"};
    cpu_set_t all, one;
    int number = 0, wanted, cpu;

    for (int i = 0; i < 2; i++)
        if (getenv(names[i]))
            number = atoi(getenv(names[i]));
    if (sched_getaffinity(0, sizeof(all), &all) != 0)
        return;
    wanted = number % CPU_COUNT(&all);
    for (cpu = 0; !CPU_ISSET(cpu, &all) || wanted-- > 0; cpu++)
        ;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof(one), &one);
}

static void run(const char *name, const char *sizes)
{
    for (unsigned i = 0; i < sizeof(tests) / sizeof(*tests); i++) {
        if (strcmp(tests[i].name, name) != 0)
            continue;
        for (const char *p = sizes ? sizes : tests[i].bytes;; p++) {
            char *end;
            long bytes = strtol(p, &end, 10);
            if (end == p || bytes < 0 || bytes > BYTES_MAX || (*end && *end != ','))
                die("what size is %s? At most %d, and commas between", p, BYTES_MAX);
            measure(&tests[i], (int) bytes);
            p = end;
            if (!*p)
                return;
        }
    }
    die("there is no test %s", name);
}

/* Written once, so that no page is missing. */
static char *allocate(int by_mpi)
{
    char *p = NULL;
    if (by_mpi ? MPI_Alloc_mem(BYTES_MAX, MPI_INFO_NULL, &p) != MPI_SUCCESS
               : posix_memalign((void **) &p, 4096, BYTES_MAX) != 0)
        die("no memory");
    return memset(p, 1, BYTES_MAX);
}

int main(int argc, char **argv)
{
    const char *sizes = NULL;
    int option, by_mpi = 0;
    double init;
    void *base;

    pin();
    init = now();
    MPI_Init(&argc, &argv);
    init = now() - init;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    while ((option = getopt(argc, argv, "an:t:s:")) != -1)
        switch (option) {
        case 'a':
            by_mpi = rank == 0;
            break;
        case 'n':
            samples = atoi(optarg);
            break;
        case 't':
            sample_seconds = atof(optarg) / 1000;
            break;
        case 's':
            sizes = optarg;
            break;
        default:
            die("usage: mpibench [-a] [-n SAMPLES] [-t MILLISECONDS] [-s BYTES,...] TEST...");
        }
    map_page(getenv("MPIBENCH_PAGE"));
    sendbuf = allocate(by_mpi);
    recvbuf = allocate(by_mpi);
    MPI_Win_allocate(BYTES_MAX, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &base, &win);
    print("init", 0, init * 1e6, "us", hop(), hop());
    for (; optind < argc; optind++)
        run(argv[optind], sizes);
    MPI_Win_free(&win);
    if (by_mpi) {
        MPI_Free_mem(sendbuf);
        MPI_Free_mem(recvbuf);
    }
    MPI_Finalize();
    return 0;
}
