/* SPDX-License-Identifier: mpich2 */
/*
 * malloc CASE: a program that knows nothing of the region. libivshmem-malloc allocates its large
 * blocks there. Ranks 0 and 1 run the case. The counters tell how many of the messages were copied
 * once.
 */
#define _GNU_SOURCE
#define EAGER_LIMIT 12000 /* of a program that has libivshmem-malloc */
#include "mpitest.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

#define LARGE 300000
#define PAGE 4096
#define SINGLE_COPY_MIN                                                                            \
    12288 /* a message from a block of the region, of that size, is copied once */

static long long single_copies;
static bool is_malloc_served = true; /* else it belongs to another rank, or to the C library */

static void *checked(void *block, size_t bytes, size_t alignment)
{
    CHECK(block, "no memory for %zu bytes", bytes);
    if (alignment > bytes && alignment <= 16) /* as others see it */
        alignment = 8;
    CHECK((uintptr_t) block % alignment == 0, "%p is not aligned to %zu", block, alignment);
    CHECK(malloc_usable_size(block) >= bytes, "%zu bytes have room for %zu", bytes,
          malloc_usable_size(block));
    return block;
}

/* A block of `bytes` from each function that allocates one. */
static void *make(int by, size_t bytes)
{
    void *block = NULL;
    size_t alignment = _Alignof(max_align_t);

    switch (by) {
    case 0:
        block = malloc(bytes);
        break;
    case 1:
        block = calloc(bytes / 4 + 1, 4);
        for (size_t i = 0; i < bytes; i++)
            CHECK(((char *) block)[i] == 0, "byte %zu of calloc is not 0", i);
        break;
    case 2: /* from the C library into the region */
        block = malloc(100);
        fill(block, 100, 99);
        block = realloc(block, bytes);
        CHECK_PATTERN(block, bytes < 100 ? bytes : 100, 99, "after realloc");
        break;
    case 3:
        block = reallocarray(NULL, bytes / 8 + 1, 8);
        break;
    case 4:
        alignment = 4096;
        CHECK(posix_memalign(&block, alignment, bytes) == 0, "%zu bytes", bytes);
        break;
    case 5:
        alignment = 64;
        block = aligned_alloc(alignment, (bytes + 63) / 64 * 64);
        break;
    case 6:
        alignment = 512;
        block = memalign(alignment, bytes);
        break;
    case 7:
        alignment = 4096;
        block = valloc(bytes);
        break;
    case 8:
        alignment = 4096;
        block = pvalloc(bytes);
        break;
    default:
        return NULL;
    }
    return checked(block, bytes, alignment);
}

/* A message from a block, and one into it. */
static void echo(void *block, int bytes, int seed)
{
    if (rank == 0) {
        fill(block, bytes, seed);
        MPI_Send(block, bytes, MPI_BYTE, 1, 1, MPI_COMM_WORLD);
        memset(block, 0, bytes);
        MPI_Recv(block, bytes, MPI_BYTE, 1, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        CHECK_PATTERN(block, bytes, seed, "%d bytes, which came back", bytes);
    } else if (rank == 1) {
        memset(block, 0, bytes);
        MPI_Recv(block, bytes, MPI_BYTE, 0, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        CHECK_PATTERN(block, bytes, seed, "%d bytes", bytes);
        MPI_Send(block, bytes, MPI_BYTE, 0, 2, MPI_COMM_WORLD);
    }
    if (rank < 2) {
        expect_sent(1 - rank, 1, bytes);
        single_copies += is_malloc_served && bytes >= SINGLE_COPY_MIN && is_remote(1 - rank);
    }
}

/* Messages out of one block, which is in the region or not. */
static void served(void)
{
    void *block = malloc(LARGE);
    for (int i = 0; i < 20; i++)
        echo(block, LARGE, i);
    free(block);
}

/* Blocks from every function, freed and allocated again. */
static void kinds(void)
{
    static const size_t sizes[] = {16384, 20001, 65536, LARGE, 1000003};
    for (int round = 0; round < 3; round++)
        for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
            void *block;
            for (int by = 0; (block = make(by, sizes[i])); by++) {
                echo(block, sizes[i], by);
                echo(block, SINGLE_COPY_MIN, by);
                free(block);
            }
        }
}

/* Blocks keep their contents, whatever happens to others. Compared with a copy in other memory. */
static void changes(unsigned seed)
{
    enum { BLOCKS = 24, BYTES = 200000, STEPS = 3000 };
    char *blocks[BLOCKS] = {NULL};
    size_t bytes[BLOCKS] = {0};
    int seeds[BLOCKS] = {0};
    int kinds = is_malloc_served ? 9 : 8; /* no other has pvalloc */

    for (int step = 0; step < STEPS; step++) {
        int i = rand_r(&seed) % BLOCKS;
        size_t kept, wanted = rand_r(&seed) % (step % 2 ? 3000 : BYTES);
        if (blocks[i])
            CHECK_PATTERN(blocks[i], bytes[i], seeds[i], "block %d at step %d", i, step);
        switch (rand_r(&seed) % 3) {
        case 0:
            free(blocks[i]);
            blocks[i] = NULL;
            bytes[i] = 0;
            continue;
        case 1:
            blocks[i] = checked(realloc(blocks[i], wanted + 1), wanted + 1, _Alignof(max_align_t));
            kept = wanted < bytes[i] ? wanted : bytes[i];
            CHECK_PATTERN(blocks[i], kept, seeds[i], "%zu of %zu bytes at step %d", kept, bytes[i],
                          step);
            break;
        default:
            free(blocks[i]);
            blocks[i] = make(rand_r(&seed) % kinds, wanted + 1);
        }
        bytes[i] = wanted + 1;
        seeds[i] = step;
        fill(blocks[i], bytes[i], seeds[i]);
    }
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
}

static void *change_in_thread(void *seed)
{
    changes((unsigned) (uintptr_t) seed);
    return NULL;
}

static atomic_bool enough;

static void make_and_free(void)
{
    void *volatile block = malloc(LARGE); /* or the compiler omits it */
    free(block);
}

static void *hammer(void *unused)
{
    while (!enough)
        make_and_free();
    return unused;
}

/* Other threads, which MPI does not know of, while this one sends. */
static void threads(void)
{
    enum { THREADS = 3 };
    pthread_t ids[THREADS], hammering;
    void *block = malloc(LARGE);

    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&ids[i], NULL, change_in_thread, (void *) (10 * i + rank)) == 0,
              "no thread");
    CHECK(pthread_create(&hammering, NULL, hammer, NULL) == 0, "no thread");
    for (int i = 0; i < 200; i++) {
        int status;
        pid_t child = i % 10 ? -1 : fork(); /* while others are in malloc */
        if (child == 0) {
            make_and_free();
            _exit(0);
        }
        echo(block, LARGE, i);
        CHECK(child < 0 || (waitpid(child, &status, 0) == child && status == 0), "a child");
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(ids[i], NULL);
    enough = true;
    pthread_join(hammering, NULL);
    free(block);
}

/* Each side has its own copy after a fork, and the child continues with its copy. */
static void forks(void)
{
    char *block = malloc(LARGE), *freed = malloc(LARGE);
    int status, to_child[2];

    fill(block, LARGE, 1);
    for (int round = 0; round < 3; round++) {
        CHECK(pipe(to_child) == 0, "no pipe");
        pid_t child = fork();
        CHECK(child >= 0, "no fork");
        if (child == 0) {
            char go;
            if (read(to_child[0], &go, 1) != 1 || differs(block, LARGE, 1) >= 0)
                _exit(1);
            fill(block, LARGE, 3);
            free(freed);
            char *more = malloc(LARGE);
            fill(more, LARGE, 4);
            block = realloc(block, 2 * LARGE);
            if (fork() == 0) {
                memset(block, 0, LARGE);
                memset(more, 0, LARGE);
                _exit(0);
            }
            wait(&status);
            _exit(differs(block, LARGE, 3) >= 0 ? 2 : differs(more, LARGE, 4) >= 0 ? 3 : 0);
        }
        fill(block, LARGE, 2);
        CHECK(write(to_child[1], "", 1) == 1, "no pipe");
        CHECK(waitpid(child, &status, 0) == child && status == 0, "the child's status is %d",
              status);
        CHECK_PATTERN(block, LARGE, 2, "the child has written it");
        close(to_child[0]);
        close(to_child[1]);
        echo(block, LARGE, round);
        fill(block, LARGE, 1);
    }
    free(block);
    free(freed);
}

/* A fork on a stack that is a block: a coroutine's, and a signal handler's. */

static void fork_on_block(void)
{
    enum { BYTES = 9000 };
    volatile int count = 0;
    unsigned char mine[BYTES];
    int status, to_child[2];

    for (int round = 0; round < 3; round++) {
        fill(mine, BYTES, round);
        CHECK(pipe(to_child) == 0, "no pipe");
        pid_t child = fork();
        CHECK(child >= 0, "no fork: %s", strerror(errno));
        if (child == 0) {
            char go;
            if (read(to_child[0], &go, 1) != 1 || differs(mine, BYTES, round) >= 0 ||
                count != round)
                _exit(1);
            fill(mine, BYTES, 8);
            count = 20;
            make_and_free();
            if (fork() == 0)
                _exit(differs(mine, BYTES, 8) >= 0);
            _exit(wait(&status) < 0 || status ? 2 : differs(mine, BYTES, 8) >= 0 ? 3 : 0);
        }
        fill(mine, BYTES, 9);
        count++;
        CHECK(write(to_child[1], "", 1) == 1, "no pipe");
        CHECK(waitpid(child, &status, 0) == child && status == 0, "the child's status is %x",
              status);
        CHECK_PATTERN(mine, BYTES, 9, "the child has written it");
        CHECK(count == round + 1, "%d in round %d", count, round);
        close(to_child[0]);
        close(to_child[1]);
    }
}

static void handle_signal(int unused)
{
    (void) unused;
    fork_on_block();
}

static void stacks(void)
{
    enum { BYTES = 1 << 18 };
    ucontext_t here, there;
    stack_t stack = {.ss_sp = malloc(BYTES), .ss_size = BYTES};
    struct sigaction action = {.sa_handler = handle_signal, .sa_flags = SA_ONSTACK};

    CHECK(getcontext(&there) == 0, "no context");
    there.uc_stack = (stack_t){.ss_sp = malloc(BYTES), .ss_size = BYTES};
    there.uc_link = &here;
    makecontext(&there, fork_on_block, 0);
    CHECK(swapcontext(&here, &there) == 0, "no context");
    CHECK(sigaltstack(&stack, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0, "no stack");
    raise(SIGUSR1);
    echo(stack.ss_sp, LARGE / 2, 1);
    stack.ss_flags = SS_DISABLE;
    CHECK(sigaltstack(&stack, NULL) == 0, "sigaltstack");
    free(stack.ss_sp);
    /* MPI ends on such a stack. */
    getcontext(&there);
    there.uc_link = &here;
    makecontext(&there, finish, 0);
    CHECK(swapcontext(&here, &there) == 0, "no context");
    free(there.uc_stack.ss_sp);
}

/* All that the region has, and more. */
static void full(void)
{
    enum { BLOCKS = 400 };
    static char *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = checked(malloc(LARGE), LARGE, _Alignof(max_align_t));
        fill(blocks[i], LARGE, i);
    }
    for (int i = 0; i < BLOCKS; i++)
        CHECK_PATTERN(blocks[i], LARGE, i, "block %d", i);
    echo(blocks[0], LARGE, 1); /* one of the first, which came from the region */
    /* What has been refused can be had again, once some is free, for sizes up to that. */
    MPI_Barrier(MPI_COMM_WORLD);
    char *volatile refused = malloc(LARGE);
    free(blocks[0]);
    blocks[0] = malloc(LARGE);
    echo(blocks[0], LARGE, 1);
    free(blocks[0]);
    blocks[0] = malloc(LARGE / 2);
    echo(blocks[0], LARGE / 2, 1);
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    free(refused);
    MPI_Barrier(MPI_COMM_WORLD);
    blocks[0] = malloc(3 * LARGE);
    echo(blocks[0], 3 * LARGE, 1);
    free(blocks[0]);
}

/* A window in memory from malloc is shared. */
static void window(void)
{
    char *block = malloc(LARGE);
    MPI_Win win;

    MPI_Win_create(block, LARGE, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    fill(block, LARGE, rank);
    MPI_Win_fence(0, win);
    char *from = malloc(LARGE);
    MPI_Get(from, LARGE, MPI_BYTE, (rank + 1) % size, 0, LARGE, MPI_BYTE, win);
    MPI_Win_fence(0, win);
    CHECK_PATTERN(from, LARGE, (rank + 1) % size, "what was got");
    MPI_Win_free(&win);
    free(from);
    free(block);
}

/*
 * A sender that never comes to help keeps nobody waiting. That holds whatever else is sent to it,
 * even if there is so much that it cannot even be asked.
 */
static void alone(void)
{
    enum { BYTES = 70003, SMALL_MAX = 100 };
    static char private[BYTES];
    /* The second message has no need to ask, and uses what the first one has left. */
    char *blocks[2] = {malloc(BYTES), private};
    atomic_int *received;
    MPI_Aint bytes;
    MPI_Request large[2], small[SMALL_MAX];
    MPI_Win win;
    int unit;

    MPI_Win_allocate_shared(rank == 0 ? sizeof(*received) : 0, 1, MPI_INFO_NULL, MPI_COMM_WORLD,
                            &received, &win);
    MPI_Win_shared_query(win, 0, &bytes, &unit, &received);
    *received = 0;
    MPI_Barrier(MPI_COMM_WORLD);
    for (int n = 0; rank < 2 && n < SMALL_MAX; n++) {
        if (rank == 0) {
            for (int i = 0; i < 2; i++) {
                fill(blocks[i], BYTES, 2 * n + i);
                MPI_Isend(blocks[i], BYTES, MPI_BYTE, 1, 1, MPI_COMM_WORLD, &large[i]);
            }
            while (*received <= n) /* without any MPI call */
                usleep(100);
            MPI_Waitall(2, large, MPI_STATUSES_IGNORE);
            expect_sent(1, 2, BYTES);
            single_copies++;
            for (int i = 0; i < n; i++)
                MPI_Recv(&unit, 1, MPI_INT, 1, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        } else {
            for (int i = 0; i < n; i++)
                MPI_Isend(&unit, 1, MPI_INT, 0, 2, MPI_COMM_WORLD, &small[i]);
            for (int i = 0; i < 2; i++)
                MPI_Recv(blocks[i], BYTES, MPI_BYTE, 0, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            ++*received;
            MPI_Waitall(n, small, MPI_STATUSES_IGNORE);
            for (int i = 0; i < 2; i++)
                CHECK_PATTERN(blocks[i], BYTES, 2 * n + i,
                              "received alone, %d small ones beside it", n);
            expect_sent(0, n, sizeof(int));
        }
    }
    echo(blocks[0], BYTES, 8);
    MPI_Win_free(&win);
    free(blocks[0]);
}

/*
 * The region's memory belongs to others again; what the program had there is still the program's.
 */
static void after_finalize(void)
{
    char *block = malloc(LARGE), *other = malloc(LARGE);
    struct stat st;

    fill(block, LARGE, 5);
    fill(other, LARGE, 6);
    finish();
    int fd = open(getenv("MPIR_CVAR_NEMESIS_IVSHMEM_REGION"), O_RDWR);
    CHECK(fd >= 0 && fstat(fd, &st) == 0, "no region");
    char *region = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(region != MAP_FAILED, "cannot map the region");
    for (off_t at = st.st_size / 4; at < st.st_size; at++) /* the other rank may still be leaving */
        if (region[at])
            region[at] ^= 0x55;
    CHECK_PATTERN(block, LARGE, 5, "after finalize");
    block = realloc(block, 2 * LARGE);
    CHECK_PATTERN(block, LARGE, 5, "after realloc");
    free(block);
    CHECK_PATTERN(other, LARGE, 6, "after finalize and free");
    pid_t child = fork(), status;
    if (child == 0) {
        int wrong = differs(other, LARGE, 6) >= 0;
        fill(other, LARGE, 7);
        _exit(wrong);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0, "the child's status is %x", status);
    CHECK_PATTERN(other, LARGE, 6, "the child has written it");
    free(other);
    changes(rank);
    printf("done\n");
}

/* A receiver that has begun and then makes no call: its sender copies the rest. */
static void together(void)
{
    enum { BYTES = 4 << 20 };
    unsigned char *block = malloc(BYTES);
    MPI_Request request;
    int done = 0, tries = 0;

    for (int i = 0; i < 300; i++) /* so that each has a ring to the other */
        echo(block, 100, i);
    if (rank == 0) {
        fill(block, BYTES, 3);
        MPI_Ssend(block, BYTES, MPI_BYTE, 1, 1, MPI_COMM_WORLD);
        expect_sent(1, 1, BYTES);
        single_copies++;
    } else if (rank == 1) {
        volatile unsigned char *last = block + BYTES - 1;
        memset(block, 0, BYTES);
        MPI_Irecv(block, BYTES, MPI_BYTE, 0, 1, MPI_COMM_WORLD, &request);
        /* One progress call copies only a part. The pattern's first and last byte are not 0. */
        while (!done && !*(volatile unsigned char *) block)
            MPI_Test(&request, &done, MPI_STATUS_IGNORE);
        while (!done && !*last) {
            CHECK(tries++ < 120000, "no help");
            usleep(1000);
        }
        MPI_Wait(&request, MPI_STATUS_IGNORE);
        CHECK_PATTERN(block, BYTES, 3, "copied by both");
    }
    free(block);
}

/* An impossible request is refused as by the C library, and errno is as malloc(3) says. */
static void limits(void)
{
    void *volatile block = malloc(LARGE), *found;
    volatile size_t huge = SIZE_MAX - 100, half = PTRDIFF_MAX;

    errno = 0;
    CHECK(!malloc(huge) && errno == ENOMEM, "malloc: %d", errno);
    errno = 0;
    CHECK(!malloc(half + 1) && errno == ENOMEM, "malloc: %d", errno);
    errno = 0;
    CHECK(!calloc(half, 4) && errno == ENOMEM, "calloc: %d", errno);
    errno = 0;
    CHECK(!reallocarray(block, half, 4) && errno == ENOMEM, "reallocarray: %d", errno);
    errno = 0;
    CHECK(!realloc(block, huge) && errno == ENOMEM, "realloc: %d", errno);
    errno = 0;
    CHECK(!realloc(block, half) && errno == ENOMEM, "realloc: %d", errno);
    errno = 0;
    CHECK(!valloc(huge) && errno == ENOMEM, "valloc: %d", errno);
    errno = 0;
    CHECK(!pvalloc(huge) && errno == ENOMEM, "pvalloc: %d", errno);
    errno = 0;
    CHECK(!aligned_alloc(64, huge) && errno == ENOMEM, "aligned_alloc: %d", errno);
    errno = 7;
    CHECK(posix_memalign((void **) &found, 24, LARGE) == EINVAL && errno == 7, "posix_memalign");
    CHECK(posix_memalign((void **) &found, 4, LARGE) == EINVAL && errno == 7, "posix_memalign");
    CHECK(posix_memalign((void **) &found, 64, huge) == ENOMEM, "posix_memalign");
    CHECK(posix_memalign((void **) &found, 1 << 21, LARGE) == 0, "posix_memalign");
    free(checked(found, LARGE, 1 << 21));
    CHECK(malloc_usable_size(NULL) == 0, "NULL has room");
    errno = 7;
    free(block);
    free(NULL);
    CHECK(errno == 7, "free has set errno: %d", errno);
    block = malloc(LARGE);
    CHECK(!realloc(block, 0), "realloc to nothing");
    free(checked(malloc(0), 0, 1));
    free(checked(realloc(NULL, LARGE), LARGE, 1));
    /* A block that grows in small steps is not copied each time. */
    unsigned moves = 0;
    char *growing = malloc(16384);
    for (size_t bytes = 16384; bytes < 4000000; bytes += 4096) {
        char *moved = realloc(growing, bytes);
        moves += moved != growing;
        growing = moved;
        growing[bytes - 1] = 1;
    }
    CHECK(moves < 60, "moved %u times", moves);
    free(growing);
}

static int mappings(void)
{
    FILE *f = fopen("/proc/self/maps", "r");
    int lines = 0;
    for (int c; (c = fgetc(f)) != EOF;)
        lines += c == '\n';
    fclose(f);
    return lines;
}

/* Creates as many mappings as the kernel allows. */
static void map_all(void)
{
    for (int i = 0; i < 1 << 20; i++)
        if (mmap(NULL, 4096, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
            return;
    CHECK(0, "no limit of mappings");
}

/* Many live blocks, or hardly a mapping left: a fork and MPI_Finalize need only a few mappings. */
static void many(int count, bool is_tight)
{
    enum { BYTES = 16384, MORE = 12 };
    char **blocks = calloc(count, sizeof(*blocks));
    int status, before;

    for (int i = 0; i < count; i++) {
        blocks[i] = malloc(BYTES);
        fill(blocks[i], 64, i);
    }
    echo(blocks[0], BYTES, 1);
    fill(blocks[0], 64, 0);
    if (is_tight)
        map_all();
    before = mappings();
    pid_t child = fork();
    CHECK(child >= 0, "no fork");
    if (child == 0) {
        int wrong = mappings() > before + MORE;
        for (int i = 0; i < count; i++) {
            wrong |= 2 * (differs(blocks[i], 64, i) >= 0);
            memset(blocks[i], 0, BYTES);
        }
        for (int i = 0; i < count; i++)
            free(blocks[i]);
        _exit(wrong);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0, "the child's status is %x", status);
    CHECK(mappings() <= before + MORE, "%d mappings, were %d", mappings(), before);
    for (int i = 0; i < count; i++)
        CHECK_PATTERN(blocks[i], 64, i, "block %d after fork", i);
    free(malloc(LARGE));
    finish();
    CHECK(mappings() <= before + MORE, "%d mappings, were %d", mappings(), before);
    for (int i = 0; i < count; i++)
        CHECK_PATTERN(blocks[i], 64, i, "block %d after finalize", i);
    for (int i = 0; i < count; i++)
        free(blocks[i]);
    free(blocks);
}

/* A value in /proc/self/status, in KiB. */
static rlim_t kilobytes_of(const char *what)
{
    char line[200];
    rlim_t found = RLIM_INFINITY;
    FILE *f = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof(line), f))
        if (strncmp(line, what, strlen(what)) == 0)
            found = strtoul(line + strlen(what), NULL, 10);
    fclose(f);
    CHECK(found != RLIM_INFINITY, "no %s", what);
    return found;
}

/* The memory limit hardly exceeds what the blocks have. A child has all of them nevertheless. */
static void scarce(void)
{
    enum { BLOCKS = 20, MORE = 48 << 20 };
    static const struct {
        int resource;
        const char *what;
    } limits[] = {{RLIMIT_DATA, "VmData:"}, {RLIMIT_AS, "VmSize:"}};
    char *blocks[BLOCKS];
    struct rlimit limit;
    int status;

    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = malloc(LARGE + i * 50000);
    for (int i = 0; i < 2; i++) {
        CHECK(getrlimit(limits[i].resource, &limit) == 0, "no limit");
        rlim_t before = limit.rlim_cur;
        for (int k = 0; k < BLOCKS; k++)
            if (k % 7 == 1) { /* some gaps */
                free(blocks[k]);
                blocks[k] = malloc(LARGE + 7 * k * 50000);
            }
        for (int k = 0; k < BLOCKS; k++)
            fill(blocks[k], LARGE, k);
        limit.rlim_cur = kilobytes_of(limits[i].what) * 1024 + MORE;
        CHECK(setrlimit(limits[i].resource, &limit) == 0, "cannot set a limit");
        pid_t child = fork();
        if (child == 0) {
            int wrong = 0;
            for (int k = 0; k < BLOCKS; k++) {
                wrong |= differs(blocks[k], LARGE, k) >= 0;
                fill(blocks[k], LARGE, 100);
            }
            for (int k = 0; k < BLOCKS; k++) {
                wrong |= 2 * (differs(blocks[k], LARGE, 100) >= 0);
                free(blocks[k]);
            }
            make_and_free();
            _exit(wrong);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0, "%s the child's status is %x",
              limits[i].what, status);
        limit.rlim_cur = before;
        CHECK(setrlimit(limits[i].resource, &limit) == 0, "cannot unset a limit");
        for (int k = 0; k < BLOCKS; k++)
            CHECK_PATTERN(blocks[k], LARGE, k, "the child has written it");
    }
    echo(blocks[0], LARGE, 1);
    for (int k = 0; k < BLOCKS; k++)
        free(blocks[k]);
}

/* Leaves data in all memory of the region that a job can have. Runs alone on it. */
static void leave_dirt(void)
{
    struct stat st;

    finish();
    int fd = open(getenv("MPIR_CVAR_NEMESIS_IVSHMEM_REGION"), O_RDWR);
    CHECK(fd >= 0 && fstat(fd, &st) == 0, "no region");
    char *region = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(region != MAP_FAILED, "cannot map the region");
    memset(region + st.st_size / 16, 0x5a, st.st_size - st.st_size / 16);
}

static void check_zero(const char *block, size_t bytes, const char *what)
{
    for (size_t i = 0; i < bytes; i++)
        CHECK(block[i] == 0, "byte %zu of %zu of %s", i, bytes, what);
}

/*
 * What leave_dirt has left, in 64 bytes. A block may well hold what this process had there before.
 */
static void check_clean(const char *block, size_t bytes, const char *what)
{
    char dirt[64];
    memset(dirt, 0x5a, sizeof(dirt));
    for (size_t i = 0; i + sizeof(dirt) <= bytes; i += sizeof(dirt))
        CHECK(memcmp(block + i, dirt, sizeof(dirt)) != 0, "byte %zu of %zu of %s", i, bytes, what);
}

/* Memory that a program gets for the first time holds no other process' data. */
static void clean(void)
{
    enum { BLOCKS = 40 };
    char *blocks[BLOCKS], *base;
    MPI_Win win;

    for (int i = 0; i < BLOCKS; i++) {
        size_t bytes = 16384 + i * 7001;
        blocks[i] = i % 10 == 9 ? NULL : make(i % 10, bytes);
        if (i % 10 == 9)
            MPI_Alloc_mem(bytes, MPI_INFO_NULL, &blocks[i]);
        check_clean(blocks[i], i % 10 == 9 ? bytes : malloc_usable_size(blocks[i]), "a block");
        fill(blocks[i], bytes, i);
        if (i % 3 == 0 && i % 10 != 9) { /* the same again, and then something else */
            free(blocks[i]);
            blocks[i] = calloc(1, bytes / 2);
            check_zero(blocks[i], bytes / 2, "calloc");
            free(blocks[i]);
            blocks[i] = malloc(bytes);
        }
    }
    char *grown = malloc(20000);
    memset(grown, 0, 20000);
    grown = realloc(grown, 900000);
    check_clean(grown, malloc_usable_size(grown), "what has grown");
    echo(grown, 900000, 1);
    MPI_Win_allocate(300000, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &base, &win);
    check_zero(base, 300000, "a window");
    memset(base, 1, 300000);
    MPI_Win_free(&win);
    MPI_Win_allocate(300000, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &base, &win);
    check_zero(base, 300000, "a window");
    MPI_Win_free(&win);
    free(grown);
    for (int i = 0; i < BLOCKS; i++)
        if (i % 10 == 9)
            MPI_Free_mem(blocks[i]);
        else
            free(blocks[i]);
}

/*
 * madvise has the same effect on a block as on the C library's memory, also in a child, and after
 * MPI_Finalize.
 */
static void advise(char *block, size_t bytes)
{
    fill(block, bytes, 1);
    CHECK(madvise(block + 4096, 8000, MADV_DONTNEED) == 0, "DONTNEED: %s", strerror(errno));
    check_zero(block + 4096, 8192, "what is not needed");
    CHECK_PATTERN(block, 4096, 1, "before what is not needed");
    char before = block[12288];
    fill(block, bytes, 1);
    CHECK(block[12288] == before, "behind what is not needed");
    if (madvise(block + 4096, 8000, MADV_DONTNEED_LOCKED) == 0)
        check_zero(block + 4096, 8192, "what is not needed, though it may be locked");
    else
        CHECK(errno == EINVAL, "DONTNEED_LOCKED: %s", strerror(errno)); /* before Linux 5.18 */
    CHECK(block[12288] == before, "behind what is not needed");
    CHECK(madvise(block, bytes, MADV_FREE) == 0, "FREE: %s", strerror(errno));
    fill(block, bytes, 2);
    CHECK(madvise(block, bytes, MADV_WILLNEED) == 0, "WILLNEED: %s", strerror(errno));
    CHECK(madvise(block, bytes, MADV_NORMAL) == 0, "NORMAL: %s", strerror(errno));
    CHECK(madvise(block + 1, bytes, MADV_DONTNEED) == -1 && errno == EINVAL, "not aligned");
    CHECK_PATTERN(block, bytes, 2, "after madvise");
}

static void advice(void)
{
    char *blocks[3], *mapped;
    int status;

    for (int i = 0; i < 3; i++)
        CHECK(posix_memalign((void **) &blocks[i], 4096, LARGE) == 0, "no memory");
    fill(blocks[0], LARGE, 5);
    fill(blocks[2], LARGE, 6);
    advise(blocks[1], LARGE);
    if (fork() == 0) {
        advise(blocks[1], LARGE);
        _exit(0);
    }
    CHECK(wait(&status) > 0 && status == 0, "the child's status is %x", status);
    echo(blocks[1], LARGE, 3);
    CHECK_PATTERN(blocks[0], LARGE, 5, "a neighbour");
    CHECK_PATTERN(blocks[2], LARGE, 6, "a neighbour");
    mapped = mmap(NULL, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    advise(mapped, LARGE);
    finish();
    advise(blocks[1], LARGE);
}

/*
 * Pages that the program has made inaccessible, as guards: a fork, madvise, free and MPI_Finalize
 * treat the block as a whole, accessible or not.
 */

static void protect(char *page, int protection)
{
    CHECK(mprotect(page, PAGE, protection) == 0, "mprotect: %s", strerror(errno));
}

static char *guarded(int seed)
{
    char *block;
    CHECK(posix_memalign((void **) &block, PAGE, 16 * PAGE) == 0, "no memory");
    fill(block, 16 * PAGE, seed);
    protect(block, PROT_NONE);
    protect(block + 5 * PAGE, PROT_READ);
    return block;
}

/* Zero, and as inaccessible as before. */
static void drop_guarded(char *block)
{
    CHECK(madvise(block, 8 * PAGE, MADV_DONTNEED) == 0, "DONTNEED: %s", strerror(errno));
    CHECK(access(block, F_OK) == -1 && errno == EFAULT, "a guard can be read");
    check_zero(block + PAGE, 7 * PAGE, "what is not needed");
    protect(block, PROT_READ | PROT_WRITE);
    check_zero(block, PAGE, "a guard that is not needed");
    protect(block, PROT_NONE);
}

static void guards(void)
{
    enum { BLOCKS = 4 };
    char *blocks[BLOCKS];
    int status;

    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = guarded(i);
    pid_t child = fork();
    if (child == 0) {
        int wrong = 0;
        for (int i = 0; i < BLOCKS; i++) {
            CHECK(mprotect(blocks[i], PAGE, PROT_READ | PROT_WRITE) == 0, "a guard stays");
            wrong |= differs(blocks[i], 16 * PAGE, i) >= 0;
            fill(blocks[i], 16 * PAGE, 9);
        }
        _exit(wrong);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0, "the child's status is %x", status);
    drop_guarded(blocks[0]);
    /* A block that is freed while inaccessible is like any other when it is allocated again. */
    for (int i = 0; i < 2; i++) {
        free(blocks[i]);
        blocks[i] = malloc(16 * PAGE);
        fill(blocks[i], 16 * PAGE, i);
        echo(blocks[i], 16 * PAGE, i);
        fill(blocks[i], 16 * PAGE, i);
        protect((char *) ((uintptr_t) (blocks[i] + PAGE) & ~(uintptr_t) (PAGE - 1)), PROT_NONE);
    }
    finish();
    for (int i = 2; i < BLOCKS; i++) {
        protect(blocks[i], PROT_READ | PROT_WRITE);
        CHECK_PATTERN(blocks[i], 16 * PAGE, i, "block %d after finalize", i);
    }
    protect(blocks[2], PROT_NONE);
    protect(blocks[2] + 5 * PAGE, PROT_READ);
    drop_guarded(blocks[2]);
    CHECK_PATTERN(blocks[3], 16 * PAGE, 3, "a neighbour");
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
}

/*
 * The same with pkey_mprotect, in a program that never calls mprotect: otherwise guards would be
 * known.
 */
static void keys(void)
{
    char *block;

    for (int i = 0; i < 4; i++) {
        CHECK(posix_memalign((void **) &block, PAGE, 16 * PAGE) == 0, "no memory");
        CHECK(pkey_mprotect(block + PAGE, 2 * PAGE, PROT_NONE, -1) == 0 || errno == ENOSYS,
              "pkey_mprotect: %s", strerror(errno));
        free(block);
        block = malloc(16 * PAGE);
        fill(block, 16 * PAGE, i);
        echo(block, 16 * PAGE, i);
        free(block);
    }
}

/* Freed memory is no longer locked in memory. */
static void locked(void)
{
    enum { LOCKED = 8 * PAGE }; /* half of what the least limit allows */
    rlim_t before = kilobytes_of("VmLck:");
    char *block;

    for (int by = 0; by < 2; by++) {
        CHECK(posix_memalign((void **) &block, PAGE, 16 * PAGE) == 0, "no memory");
        CHECK((by ? mlock2(block, LOCKED, MLOCK_ONFAULT) : mlock(block, LOCKED)) == 0, "mlock: %s",
              strerror(errno));
        CHECK(kilobytes_of("VmLck:") == before + LOCKED / 1024, "not locked");
        fill(block, 16 * PAGE, by);
        echo(block, 16 * PAGE, by);
        free(block);
        CHECK(kilobytes_of("VmLck:") == before, "%llu KiB are locked, were %llu",
              (unsigned long long) kilobytes_of("VmLck:"), (unsigned long long) before);
    }
}

/*
 * A fork waits for the locks of streams. One thread holds a stream's lock and uses malloc; another
 * one waits for it with all streams locked.
 */

static void *read_lines(void *unused)
{
    enum { BYTES = 50000 };
    char *text = malloc(BYTES + 2), *line;

    memset(text, 'x', BYTES);
    strcpy(text + BYTES, "\n");
    FILE *f = fmemopen(text, BYTES + 1, "r");
    while (!enough) {
        size_t room = 0;
        line = NULL;
        rewind(f);
        CHECK(getline(&line, &room, f) == BYTES + 1 && line[BYTES - 1] == 'x', "no line");
        free(line);
        usleep(10); /* the C library's locks are not fair */
    }
    fclose(f);
    free(text);
    return unused;
}

static void *flush_all(void *unused)
{
    while (!enough) {
        fflush(NULL);
        usleep(10);
    }
    return unused;
}

static void streams(void)
{
    void *(*const calls[])(void *) = {read_lines, read_lines, flush_all};
    enum { THREADS = sizeof(calls) / sizeof(*calls) };
    pthread_t ids[THREADS];
    int status;

    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&ids[i], NULL, calls[i], NULL) == 0, "no thread");
    for (int i = 0; i < 500; i++) {
        pid_t child = fork();
        if (child == 0) {
            make_and_free();
            _exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0, "a child");
    }
    enough = true;
    for (int i = 0; i < THREADS; i++)
        pthread_join(ids[i], NULL);
    served();
}

/*
 * A thread is cancelled while it waits for another thread's fork: others can still allocate. The
 * other fork is held while it copies, where it calls munlock.
 */

static atomic_int thread_ids[2];
static atomic_bool is_cancelled, is_holding, is_held;

int munlock(const void *start, size_t bytes)
{
    while (is_holding) {
        is_held = true;
        usleep(100);
    }
    return (int) syscall(SYS_munlock, start, bytes);
}

/* Waits until the thread has started, and then sleeps or has ended. */
static void until_asleep(int thread)
{
    char path[100], text[400];

    while (!thread_ids[thread])
        usleep(100);
    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", thread_ids[thread]);
    for (char *state = NULL; !state || state[2] != 'S';) {
        usleep(100);
        int fd = open(path, O_RDONLY);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
        if (fd >= 0)
            close(fd);
        if (n <= 0)
            return;
        text[n] = 0;
        state = strrchr(text, ')');
        CHECK(state, "no state in %s", text);
    }
}

/* The second one is cancelled before it forks. */
static void *fork_in_thread(void *thread)
{
    int status, was;

    if (thread == &thread_ids[1]) {
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &was);
        while (!is_cancelled)
            usleep(100);
        pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &was);
    }
    *(atomic_int *) thread = (int) syscall(SYS_gettid);
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &was);
    return child > 0 && waitpid(child, &status, 0) == child && status == 0 ? "a child" : NULL;
}

static void cancelled(void)
{
    pthread_t ids[2];
    char *block;
    void *found;

    is_holding = true;
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&ids[i], NULL, fork_in_thread, &thread_ids[i]) == 0, "no thread");
    CHECK(pthread_cancel(ids[1]) == 0, "pthread_cancel");
    for (int tries = 0; !is_held; tries++) {
        CHECK(tries < 1200000, "a fork does not call munlock any more: hold it elsewhere");
        usleep(100);
    }
    is_cancelled = true;
    until_asleep(1);
    is_holding = false;
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_join(ids[i], &found) == 0, "pthread_join");
        CHECK(found && found != PTHREAD_CANCELED, "thread %d has no child", i);
    }
    make_and_free();
    MPI_Alloc_mem(LARGE, MPI_INFO_NULL, &block);
    MPI_Free_mem(block);
    CHECK(fork_in_thread(&thread_ids[0]), "no child");
}

/* A signal handler forks, wherever in malloc the signal comes. */

static char *watched;
static volatile sig_atomic_t handler_forks;

static void fork_in_handler(int unused)
{
    int saved = errno, status;

    (void) unused;
    pid_t child = fork();
    if (child == 0)
        _exit(differs(watched, LARGE, 7) >= 0);
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0, "a child");
    handler_forks++;
    struct itimerval next = {.it_value.tv_usec = 100 + handler_forks * 37 % 300};
    setitimer(ITIMER_REAL, &next, NULL);
    errno = saved;
}

static void interrupted(void)
{
    enum { BLOCKS = 8, FORKS = 200 };
    struct itimerval none = {.it_value.tv_sec = 0};
    char *made[BLOCKS], *given[BLOCKS];

    MPI_Alloc_mem(LARGE, MPI_INFO_NULL, &watched);
    fill(watched, LARGE, 7);
    signal(SIGALRM, fork_in_handler);
    raise(SIGALRM);
    while (handler_forks < FORKS) {
        for (int i = 0; i < BLOCKS; i++) {
            int bytes = 20000 + i * PAGE;
            made[i] = malloc(bytes);
            MPI_Alloc_mem(bytes, MPI_INFO_NULL, &given[i]);
            fill(made[i], 64, i);
            fill(given[i], 64, BLOCKS + i);
        }
        for (int i = 0; i < BLOCKS; i++) {
            CHECK_PATTERN(made[i], 64, i, "malloc");
            CHECK_PATTERN(given[i], 64, BLOCKS + i, "MPI_Alloc_mem");
            free(made[i]);
            MPI_Free_mem(given[i]);
        }
    }
    setitimer(ITIMER_REAL, &none, NULL);
    CHECK_PATTERN(watched, LARGE, 7, "after %d forks", (int) handler_forks);
    is_malloc_served = true; /* at least what is in the region */
    echo(watched, LARGE, 7);
    MPI_Free_mem(watched);
}

/*
 * Children by clone(2), for which no fork handler runs: what they allocate is their own, and what
 * they free stays their parent's.
 */

static bool tells(int to)
{
    return write(to, "", 1) == 1;
}

static bool hears(int from)
{
    char go;
    return read(from, &go, 1) == 1;
}

enum { STRANGERS_BLOCKS = 6, STRANGERS_BIG = 4 << 20 };

/* Returns its exit status. */
static int be_stranger(int from, int to, char *const freed[3], char *given)
{
    char *mine[STRANGERS_BLOCKS + 2];
    int status, wrong = 0;

    if (!hears(from))
        return 8;
    for (int i = 0; i < STRANGERS_BLOCKS; i++) {
        mine[i] = malloc(LARGE);
        fill(mine[i], LARGE, 50 + i);
    }
    mine[STRANGERS_BLOCKS] = malloc(STRANGERS_BIG); /* more than there is without asking for it */
    fill(mine[STRANGERS_BLOCKS], LARGE, 50 + STRANGERS_BLOCKS);
    MPI_Alloc_mem(LARGE, MPI_INFO_NULL, &mine[STRANGERS_BLOCKS + 1]);
    fill(mine[STRANGERS_BLOCKS + 1], LARGE, 51 + STRANGERS_BLOCKS);
    free(freed[0]);
    free(freed[1]);
    char *moved = realloc(freed[2], 2 * STRANGERS_BIG);
    wrong |= differs(moved, STRANGERS_BIG, 2) >= 0;
    free(moved);
    MPI_Free_mem(given);
    if (!tells(to) || !hears(from))
        return 16;
    pid_t child = fork();
    for (int i = 0; i < STRANGERS_BLOCKS + 2; i++) {
        wrong |= 2 * (differs(mine[i], LARGE, 50 + i) >= 0);
        if (child == 0)
            fill(mine[i], LARGE, 90);
        else if (i <= STRANGERS_BLOCKS)
            free(mine[i]);
    }
    make_and_free();
    if (child == 0)
        _exit(wrong);
    MPI_Free_mem(mine[STRANGERS_BLOCKS + 1]);
    wrong |= 4 * (child < 0 || waitpid(child, &status, 0) != child || status != 0);
    return wrong;
}

static void strangers(void)
{
    char *blocks[STRANGERS_BLOCKS], *big[3], *given;
    int status, to_child[2], to_parent[2];

    for (int i = 0; i < 3; i++) {
        big[i] = malloc(STRANGERS_BIG);
        fill(big[i], STRANGERS_BIG, i);
    }
    MPI_Alloc_mem(LARGE, MPI_INFO_NULL, &given);
    fill(given, LARGE, 3);
    make_and_free();
    for (int round = 0; round < 3; round++) {
        CHECK(pipe(to_child) == 0 && pipe(to_parent) == 0, "no pipe");
        pid_t child = (pid_t) syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        CHECK(child >= 0, "no child: %s", strerror(errno));
        if (child == 0)
            _exit(be_stranger(to_child[0], to_parent[1], big, given));
        /* Its end is then the child's, too. */
        close(to_parent[1]);
        for (int i = 0; i < STRANGERS_BLOCKS; i++) { /* half before the child's */
            if (i == STRANGERS_BLOCKS / 2)
                CHECK(tells(to_child[1]) && hears(to_parent[0]), "the child is no more");
            if (i % 2)
                MPI_Alloc_mem(LARGE, MPI_INFO_NULL, &blocks[i]);
            else
                blocks[i] = malloc(LARGE);
            fill(blocks[i], LARGE, 20 + i);
        }
        CHECK(tells(to_child[1]), "no pipe");
        CHECK(waitpid(child, &status, 0) == child && status == 0, "the child's status is %x",
              status);
        for (int i = 0; i < STRANGERS_BLOCKS; i++) {
            CHECK_PATTERN(blocks[i], LARGE, 20 + i, "the child has written it");
            if (i % 2)
                MPI_Free_mem(blocks[i]);
            else
                free(blocks[i]);
        }
        for (int i = 0; i < 3; i++)
            CHECK_PATTERN(big[i], STRANGERS_BIG, i, "the child has freed it");
        CHECK_PATTERN(given, LARGE, 3, "the child has freed it");
        echo(big[0], LARGE, 0);
        fill(big[0], LARGE, 0);
        close(to_child[0]);
        close(to_child[1]);
        close(to_parent[0]);
    }
    for (int i = 0; i < 3; i++)
        free(big[i]);
    MPI_Free_mem(given);
}

/* Fork handlers of other parts of the program use malloc, and blocks, in parent and child. */

static char *handled[3];

static void handler(void *in)
{
    char *volatile block = malloc(LARGE);
    memset(in, 9, LARGE);
    free(handled[2]);
    handled[2] = block;
}

static void handle_before(void)
{
    handler(handled[0]);
}

static void handle_parent(void)
{
    handler(handled[2]);
}

static void handle_child(void)
{
    handler(handled[1]);
}

static void handlers(void)
{
    int status;

    for (int i = 0; i < 3; i++) {
        handled[i] = malloc(LARGE);
        memset(handled[i], 1, LARGE);
    }
    pid_t child = fork();
    if (child == 0)
        _exit(handled[0][LARGE - 1] != 9 ? 1 : handled[1][5] != 9 ? 2 : 0);
    CHECK(waitpid(child, &status, 0) == child && status == 0, "the child's status is %x", status);
    CHECK(handled[0][5] == 9, "the handler's writing");
    CHECK(handled[1][5] == 1, "written by the child");
    for (int i = 0; i < 3; i++)
        free(handled[i]);
    pthread_t id;
    CHECK(pthread_create(&id, NULL, hammer, NULL) == 0, "no thread");
    handled[0] = handled[1] = malloc(LARGE);
    handled[2] = NULL;
    for (int i = 0; i < 100; i++) {
        child = fork();
        if (child == 0)
            _exit(0);
        CHECK(waitpid(child, &status, 0) == child && status == 0, "a child");
    }
    enough = true;
    pthread_join(id, NULL);
    echo(handled[0], LARGE, 1);
    free(handled[0]);
    free(handled[2]);
}

/* A thread that writes all the time: nothing that it writes is lost while MPI ends. */

enum { WORDS = 1 << 17 };
static atomic_long rounds;

static void *count_up(void *start)
{
    volatile long *words = start;
    for (long round = 1; !enough; round++, rounds++)
        for (int i = 0; i < WORDS; i++) {
            if (words[i] != round - 1)
                return "lost";
            words[i] = round;
        }
    return NULL;
}

static void writers(void)
{
    enum { THREADS = 2 };
    pthread_t ids[THREADS];
    void *blocks[THREADS], *lost = NULL, *found;
    char *volatile more[20];

    for (int i = 0; i < THREADS; i++) {
        blocks[i] = calloc(WORDS, sizeof(long));
        CHECK(pthread_create(&ids[i], NULL, count_up, blocks[i]) == 0, "no thread");
    }
    for (int i = 0; i < 20; i++)
        memset(more[i] = malloc(LARGE), 1, LARGE);
    finish();
    for (long begin = rounds; rounds < begin + 4;)
        sched_yield();
    enough = true;
    for (int i = 0; i < THREADS; i++) {
        pthread_join(ids[i], &found);
        lost = lost ? lost : found;
        free(blocks[i]);
    }
    if (lost) {
        fprintf(stderr, "what a thread wrote was lost\n");
        abort();
    }
}

/*
 * A child outlives its parent, and writes into the memory from MPI_Alloc_mem and from a window when
 * that belongs to the next job. Files in the folder `argument` keep the two jobs in step.
 */

static const char *argument = "";

static const char *in_folder(const char *name)
{
    static char path[1000];
    snprintf(path, sizeof(path), "%s/%s", argument, name);
    return path;
}

static void tell(const char *name)
{
    int fd = open(in_folder(name), O_CREAT | O_WRONLY, 0600);
    CHECK(fd >= 0, "cannot create %s", in_folder(name));
    close(fd);
}

static void wait_for(const char *name)
{
    int tries = 0;
    while (access(in_folder(name), F_OK) != 0) {
        CHECK(tries++ < 12000, "no %s", in_folder(name));
        usleep(10000);
    }
}

static void orphan(void)
{
    char *blocks[2], answer;
    int to_child[2], to_parent[2];
    MPI_Win win;

    MPI_Alloc_mem(LARGE, MPI_INFO_NULL, &blocks[0]);
    MPI_Win_allocate(LARGE, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &blocks[1], &win);
    for (int i = 0; i < 2; i++)
        fill(blocks[i], LARGE, i);
    CHECK(pipe(to_child) == 0 && pipe(to_parent) == 0, "no pipe");
    pid_t parent = getpid(), child = fork();
    CHECK(child >= 0, "no fork");
    if (child == 0) {
        bool is_right = read(to_child[0], &answer, 1) == 1;
        for (int i = 0; i < 2; i++) {
            is_right = is_right && differs(blocks[i], LARGE, i) < 0;
            fill(blocks[i], LARGE, 20 + i);
            is_right = is_right && differs(blocks[i], LARGE, 20 + i) < 0;
        }
        char *more;
        MPI_Alloc_mem(LARGE, MPI_INFO_NULL, &more); /* from malloc, where stock MPICH is used */
        fill(more, LARGE, 4);
        is_right = is_right && write(to_parent[1], is_right ? "y" : "n", 1) == 1;
        setsid();
        for (int fd = 0; fd < 1024; fd++)
            close(fd);
        while (getppid() == parent)
            usleep(10000);
        wait_for("go");
        for (int i = 0; i < 2; i++)
            memset(blocks[i], 0xee, LARGE);
        MPI_Free_mem(blocks[0]);
        tell(rank == 0 ? "done0" : "done1");
        _exit(0);
    }
    for (int i = 0; i < 2; i++)
        fill(blocks[i], LARGE, 10 + i);
    CHECK(write(to_child[1], "", 1) == 1 && read(to_parent[0], &answer, 1) == 1, "no answer");
    CHECK(answer == 'y', "the child has not what there was at the fork");
    for (int i = 0; i < 2; i++)
        CHECK_PATTERN(blocks[i], LARGE, 10 + i, "the child has written it");
    is_malloc_served = true; /* at least what is in the region */
    echo(blocks[0], LARGE, 1);
    MPI_Win_free(&win);
    MPI_Free_mem(blocks[0]);
}

static void heir(void)
{
    enum { BLOCKS = 30 };
    char *blocks[BLOCKS];

    for (int i = 0; i < BLOCKS; i++) {
        MPI_Alloc_mem(LARGE, MPI_INFO_NULL, &blocks[i]);
        fill(blocks[i], LARGE, i);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0)
        tell("go");
    wait_for("done0");
    wait_for("done1");
    for (int i = 0; i < BLOCKS; i++)
        CHECK_PATTERN(blocks[i], LARGE, i, "block %d", i);
    is_malloc_served = true; /* at least what is in the region */
    echo(blocks[0], LARGE, 1);
    for (int i = 0; i < BLOCKS; i++)
        MPI_Free_mem(blocks[i]);
}

/* Memory from malloc belongs to the process after MPI_Finalize, even if the file is cut then. */
static void cut(void)
{
    char *block = malloc(LARGE), *other = malloc(LARGE), name[] = "left0";
    pid_t status;

    fill(block, LARGE, 5);
    fill(other, LARGE, 6);
    echo(block, LARGE, 5);
    fill(block, LARGE, 5);
    finish();
    name[4] = (char) ('0' + rank);
    tell(name);
    wait_for("left0");
    wait_for("left1");
    if (rank == 0) {
        int fd = open(getenv("MPIR_CVAR_NEMESIS_IVSHMEM_REGION"), O_RDWR);
        CHECK(fd >= 0 && ftruncate(fd, 0) == 0, "cannot cut the region");
        close(fd);
        tell("cut");
    }
    wait_for("cut");
    CHECK_PATTERN(block, LARGE, 5, "after the cut");
    block = realloc(block, 2 * LARGE);
    CHECK_PATTERN(block, LARGE, 5, "after realloc");
    pid_t child = fork();
    if (child == 0)
        _exit(differs(other, LARGE, 6) >= 0);
    CHECK(waitpid(child, &status, 0) == child && status == 0, "the child's status is %x", status);
    CHECK_PATTERN(other, LARGE, 6, "after a fork");
    free(block);
    free(other);
    changes(rank);
    printf("done\n");
}

/*
 * While a rank allocates and frees memory, a peer erases what the region's map says of it. So what
 * is free there may be this rank's already. No block is allocated twice. Only rank 0 allocates. It
 * plays the peer, too, if `argument` says how many blocks the map has, and where it is.
 */

static uint64_t *map_words;
static size_t map_blocks;
static long erased;

static void erase(void)
{
    enum { USER = 4 }; /* a kind of doc/layout.md, in its position in the word */
    for (size_t i = 0; i < map_blocks; i++)
        if ((map_words[i] >> 35 & 31) == USER) {
            map_words[i] = 0;
            erased++;
        }
}

static void alloc_and_free(void)
{
    enum { BLOCKS = 64, STEPS = 2000, EACH = 50 };
    char *blocks[BLOCKS] = {NULL};
    size_t bytes[BLOCKS];
    unsigned seed = 1;
    int status, wrong = 0;

    for (int step = 0; step < STEPS; step++) {
        int i = rand_r(&seed) % BLOCKS;
        if (blocks[i]) {
            CHECK_PATTERN(blocks[i], bytes[i], i, "block %d at step %d", i, step);
            if (i % 4)
                MPI_Free_mem(blocks[i]);
            else
                free(blocks[i]);
            blocks[i] = NULL;
        } else {
            bytes[i] = 16384 + rand_r(&seed) % 400000;
            if (i % 4)
                MPI_Alloc_mem(bytes[i], MPI_INFO_NULL, &blocks[i]);
            else
                blocks[i] = malloc(bytes[i]);
            fill(blocks[i], bytes[i], i);
        }
        if (step % EACH == 0)
            erase();
    }
    pid_t child = fork();
    for (int i = 0; i < BLOCKS; i++)
        if (blocks[i])
            wrong |= differs(blocks[i], bytes[i], i) >= 0;
    if (child == 0)
        _exit(wrong);
    CHECK(waitpid(child, &status, 0) == child && status == 0, "the child's status is %x", status);
    CHECK(!wrong, "a block is wrong in the end");
    for (int i = 0; i < BLOCKS; i++)
        if (i % 4 && blocks[i])
            MPI_Free_mem(blocks[i]);
        else
            free(blocks[i]);
}

static void wiped(void)
{
    struct stat st;
    size_t at;

    if (rank == 0 && !*argument) {
        alloc_and_free();
    } else if (rank == 0) {
        int fd = open(getenv("MPIR_CVAR_NEMESIS_IVSHMEM_REGION"), O_RDWR);
        CHECK(fd >= 0 && fstat(fd, &st) == 0, "no region");
        CHECK(sscanf(argument, "%zu %zu", &map_blocks, &at) == 2, "which map?");
        char *region = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        CHECK(region != MAP_FAILED, "cannot map the region");
        map_words = (uint64_t *) (region + at);
        alloc_and_free();
        CHECK(erased > 0, "nothing was erased");
        munmap(region, st.st_size);
        close(fd);
    }
    MPI_Barrier(MPI_COMM_WORLD);
}

static void killed(void)
{
    char *volatile block = malloc(LARGE);
    block[0] = 1;
    MPI_Barrier(MPI_COMM_WORLD);
    raise(SIGKILL);
}

static void free_inside(void)
{
    char *volatile block = malloc(LARGE);
    block += 8192;
    free(block);
}

/* Whether this is memory of the region. */
static bool is_of_region(const void *start)
{
    static char line[4096];
    FILE *maps = fopen("/proc/self/maps", "r");
    struct stat st;
    unsigned long first, end, inode;
    bool found = false;

    CHECK(maps && stat(getenv("MPIR_CVAR_NEMESIS_IVSHMEM_REGION"), &st) == 0,
          "cannot read /proc/self/maps, or no region");
    while (!found && fgets(line, sizeof(line), maps))
        found = sscanf(line, "%lx-%lx %*s %*s %*s %lu", &first, &end, &inode) == 3 &&
                (unsigned long) start >= first && (unsigned long) start < end && inode == st.st_ino;
    fclose(maps);
    return found;
}

/* A block that grows step by step, to more than half of the region. */
static void grows(void)
{
    enum { STEP = 65536, STEPS = 384 };
    char *block = malloc(STEP);
    int changes = 0;

    fill(block, STEP, rank);
    for (int i = 2; i <= STEPS; i++) {
        bool was = is_of_region(block);
        block = realloc(block, (size_t) i * STEP);
        CHECK_PATTERN(block, STEP, rank, "a block that has grown to %d KiB", i * (STEP >> 10));
        changes += was != is_of_region(block);
    }
    CHECK(changes > 0, "the block was never in the region");
    CHECK(changes <= 8, "the block moved %d times into the region, or out of it", changes);
    free(block);
}

/*
 * A large block that is freed and allocated again at once is not zeroed. Others get its memory
 * after a while.
 */
static void scratch(void)
{
    enum { BYTES = 10 << 20, MOST = 40 << 20, TRIES = 1200 };

    if (rank == 0) {
        for (int i = 0; i < 3; i++) {
            volatile char *block = malloc(BYTES);
            CHECK(is_of_region((void *) block), "a block of %d bytes is not in the region", BYTES);
            CHECK(i == 0 || block[BYTES / 2] == 'x', "the block was zeroed");
            block[BYTES / 2] = 'x';
            free((void *) block);
        }
        char *block = malloc(MOST);
        CHECK(is_of_region(block), "a block of %d bytes is not in the region", MOST);
        free(block);
        MPI_Send(NULL, 0, MPI_BYTE, 1, 0, MPI_COMM_WORLD);
        MPI_Recv(NULL, 0, MPI_BYTE, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    } else if (rank == 1) {
        bool found = false;
        MPI_Recv(NULL, 0, MPI_BYTE, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        for (int i = 0; i < TRIES && !found; i++) {
            char *block = malloc(MOST);
            found = is_of_region(block);
            free(block);
            if (!found)
                usleep(100000);
        }
        CHECK(found, "memory that another rank has freed does not come back");
        MPI_Send(NULL, 0, MPI_BYTE, 0, 0, MPI_COMM_WORLD);
    }
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    void *early = malloc(LARGE); /* before there is a region */

    if (strcmp(what, "handlers") == 0) {
        for (int i = 0; i < 3; i++)
            handled[i] = malloc(LARGE);
        pthread_atfork(handle_before, handle_parent, handle_child);
    }
    if (argc > 2)
        argument = argv[2];
    is_malloc_served = !getenv("ANOTHER_MALLOC");
    start(&argc, &argv);
    if (strcmp(what, "dirt") == 0) {
        leave_dirt();
        return 0;
    }
    CHECK(size >= 2, "two ranks or more");
    if (strcmp(what, "finalize") == 0)
        after_finalize();
    else if (strcmp(what, "many") == 0)
        many(3000, false);
    else if (strcmp(what, "tight") == 0)
        many(100, true);
    else if (strcmp(what, "advice") == 0)
        advice();
    else if (strcmp(what, "stacks") == 0)
        stacks();
    else if (strcmp(what, "guards") == 0)
        guards();
    else if (strcmp(what, "writers") == 0)
        writers();
    else if (strcmp(what, "cut") == 0)
        cut();
    else
        goto other;
    return 0;

other:
    if (strcmp(what, "kinds") == 0)
        kinds();
    else if (strcmp(what, "grows") == 0)
        grows();
    else if (strcmp(what, "scratch") == 0)
        scratch();
    else if (strcmp(what, "changes") == 0)
        changes(rank);
    else if (strcmp(what, "threads") == 0)
        threads();
    else if (strcmp(what, "forks") == 0)
        forks();
    else if (strcmp(what, "streams") == 0)
        streams();
    else if (strcmp(what, "full") == 0)
        full();
    else if (strcmp(what, "scarce") == 0)
        scarce();
    else if (strcmp(what, "window") == 0)
        window();
    else if (strcmp(what, "alone") == 0)
        alone();
    else if (strcmp(what, "together") == 0)
        together();
    else if (strcmp(what, "served") == 0)
        served();
    else if (strcmp(what, "limits") == 0)
        limits();
    else if (strcmp(what, "clean") == 0)
        clean();
    else if (strcmp(what, "handlers") == 0)
        handlers();
    else if (strcmp(what, "orphan") == 0)
        orphan();
    else if (strcmp(what, "heir") == 0)
        heir();
    else if (strcmp(what, "keys") == 0)
        keys();
    else if (strcmp(what, "locked") == 0)
        locked();
    else if (strcmp(what, "cancelled") == 0)
        cancelled();
    else if (strcmp(what, "interrupted") == 0)
        interrupted();
    else if (strcmp(what, "strangers") == 0)
        strangers();
    else if (strcmp(what, "wiped") == 0)
        wiped();
    else if (strcmp(what, "killed") == 0)
        killed();
    else if (strcmp(what, "wrong") == 0)
        free_inside();
    else
        CHECK(0, "unknown case %s", what);
    void (*volatile release)(void *) = free; /* by its address, as a library would be told */
    release(early);
    MPI_Reduce(rank == 0 ? MPI_IN_PLACE : &single_copies, &single_copies, 1, MPI_LONG_LONG, MPI_SUM,
               0, MPI_COMM_WORLD);
    if (rank == 0)
        printf("expected: single_copy>=%lld single_copy<=%lld\n", single_copies, single_copies);
    finish();
    return 0;
}
