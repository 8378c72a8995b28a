/* SPDX-License-Identifier: mpich2 */
/*
 * malloc CASE: a program that knows nothing of the region, whose large blocks libivshmem-malloc
 * takes from there. Ranks 0 and 1 do it; what of it was copied once, the counters say.
 */
#define _GNU_SOURCE
#define EAGER_LIMIT 12000 /* of a program that has libivshmem-malloc */
#include "mpitest.h"

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define LARGE 300000
#define DIRECT_MIN 12288 /* a message from a block of the region, of that size, is copied once */

static long long direct;

static void *checked(void *block, size_t bytes, size_t alignment)
{
    CHECK(block, "no memory for %zu bytes", bytes);
    CHECK((uintptr_t) block % alignment == 0, "%p is not aligned to %zu", block, alignment);
    CHECK(malloc_usable_size(block) >= bytes, "%zu bytes have room for %zu", bytes,
          malloc_usable_size(block));
    return block;
}

/* One block of `bytes` by each function that makes one. */
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
    default:
        return NULL;
    }
    return checked(block, bytes, alignment);
}

/* A message out of a block, and one into it. */
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
        sent(1 - rank, 1, bytes);
        direct += bytes >= DIRECT_MIN && is_remote(1 - rank);
    }
}

/* Every function's blocks, freed and made again. */
static void kinds(void)
{
    static const size_t sizes[] = {16384, 20001, 65536, LARGE, 1000003};
    for (int round = 0; round < 3; round++)
        for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
            void *block;
            for (int by = 0; (block = make(by, sizes[i])); by++) {
                echo(block, sizes[i], by);
                echo(block, DIRECT_MIN, by);
                free(block);
            }
        }
}

/* What blocks hold stays, whatever happens to others; against a copy in memory of another kind. */
static void changes(unsigned seed)
{
    enum { BLOCKS = 24, BYTES = 200000, STEPS = 3000 };
    char *blocks[BLOCKS] = {NULL};
    size_t bytes[BLOCKS] = {0};
    int seeds[BLOCKS] = {0};

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
            blocks[i] = make(rand_r(&seed) % 7, wanted + 1);
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
    void *volatile block = malloc(LARGE); /* or the compiler does without */
    free(block);
}

static void *hammer(void *unused)
{
    while (!enough)
        make_and_free();
    return unused;
}

/* Other threads, of which MPI knows nothing, while this one sends. */
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

/* What a fork has copied is each side's own; in it the child works on. */
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
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
}

/* A window of what malloc has given is shared. */
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
 * A sender that does not come to help keeps nobody waiting; whatever else is on its way to it, also
 * as much as there is room for, so that it cannot even be asked.
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
            while (*received <= n) /* no call of MPI */
                usleep(100);
            MPI_Waitall(2, large, MPI_STATUSES_IGNORE);
            sent(1, 2, BYTES);
            direct++;
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
            sent(0, n, sizeof(int));
        }
    }
    echo(blocks[0], BYTES, 8);
    MPI_Win_free(&win);
    free(blocks[0]);
}

/* The region is everybody else's again, what the program had there is still the program's. */
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
    free(other);
    changes(rank);
    printf("done\n");
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

int main(int argc, char **argv)
{
    const char *what = argc == 2 ? argv[1] : "";
    void *early = malloc(LARGE); /* before there is a region */

    start(&argc, &argv);
    CHECK(size >= 2, "two ranks or more");
    if (strcmp(what, "finalize") == 0) {
        after_finalize();
        return 0;
    }
    if (strcmp(what, "kinds") == 0)
        kinds();
    else if (strcmp(what, "changes") == 0)
        changes(rank);
    else if (strcmp(what, "threads") == 0)
        threads();
    else if (strcmp(what, "forks") == 0)
        forks();
    else if (strcmp(what, "full") == 0)
        full();
    else if (strcmp(what, "window") == 0)
        window();
    else if (strcmp(what, "alone") == 0)
        alone();
    else if (strcmp(what, "killed") == 0)
        killed();
    else if (strcmp(what, "wrong") == 0)
        free_inside();
    else
        CHECK(0, "unknown case %s", what);
    free(early);
    MPI_Reduce(rank == 0 ? MPI_IN_PLACE : &direct, &direct, 1, MPI_LONG_LONG, MPI_SUM, 0,
               MPI_COMM_WORLD);
    if (rank == 0)
        printf("expected: direct>=%lld direct<=%lld\n", direct, direct);
    finish();
    return 0;
}
