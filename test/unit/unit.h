/* SPDX-License-Identifier: mpich2 */
/*
 * Shared by the unit tests: cmocka, regions in memory files, which need no cleanup, and threads and
 * children that act as processes. Assertions of cmocka work in the main thread of the first process
 * only; use must() everywhere else.
 */
#ifndef UNIT_H
#define UNIT_H

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/coop.h"
#include "core/pipeline.h"
#include "core/lock.h"
#include "core/transport.h"
#include "inbox.h"

#define MIB (UINT64_C(1) << 20)
#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

#define TEST(name) static void name(void **state __attribute__((unused)))
/* A test that hangs is ended together with its program. */
#define RUN(tests) (alarm(LIMIT_SECONDS), cmocka_run_group_tests(tests, NULL, NULL))
#define LIMIT_SECONDS 600

#define must(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                             \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#define assert_says(diag, words)                                                                   \
    do {                                                                                           \
        if (!strstr((diag).text, words))                                                           \
            fail_msg("\"%s\" does not say \"%s\"", (diag).text, words);                            \
    } while (0)

/*
 * A reaper may check for attachments in the memory of an endpoint that has just left, and that
 * another process has begun to use. Whatever it reads there does no harm (doc/ordering.md, A1).
 */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:is_attached_to\n";
}

/* For calls that wait for another process' store: far longer than any correct run takes. */
#define PATIENCE_SECONDS 120

/* A file of zeroes that disappears with its last descriptor. */
static inline int file_new(uint64_t size)
{
    int fd = memfd_create("ivshm-test", MFD_CLOEXEC);
    must(fd >= 0 && ftruncate(fd, (off_t) size) == 0);
    return fd;
}

/* Its name, valid until the next call; children can open it by that name as well. */
static inline const char *file_name(int fd)
{
    static char name[32];
    snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
    return name;
}

static inline struct ivshm_region region_of_file(int fd)
{
    struct ivshm_region region;
    struct ivshm_diag diag = {""};
    int err = ivshm_region_open(file_name(fd), &region, &diag);
    if (err)
        fail_msg("region: %s", diag.text);
    return region;
}

static inline struct ivshm_region region_new(uint64_t size)
{
    int fd = file_new(size);
    struct ivshm_region region = region_of_file(fd);
    close(fd); /* the mapping keeps the file */
    return region;
}

static inline uint64_t free_blocks(const struct ivshm_region *region)
{
    struct ivshm_extent_usage usage;
    ivshm_extent_usage(region, &usage);
    return usage.free_blocks;
}

/* All endpoints FREE, all blocks free. */
static inline void assert_all_freed(const struct ivshm_region *region)
{
    for (uint32_t i = 0; i < region->geo.endpoints; i++)
        assert_int_equal(ivshm_endpoint_claim(region, i).state, IVSHM_CLAIM_FREE);
    assert_int_equal(free_blocks(region), region->geo.blocks);
}

/* The word of a claim, packed as doc/layout.md defines it. */
static inline uint64_t claim_word_of(enum ivshm_claim_state state, uint32_t pid, uint32_t host,
                                     uint32_t generation)
{
    return (uint64_t) state | (uint64_t) pid << 3 | (uint64_t) host << 25 |
           (uint64_t) generation << 45;
}

/* The seal of an entry's identity, as doc/layout.md defines it. */
static inline uint64_t seal_of_entry(const struct ivshm_endpoint_shm *e, uint64_t generation)
{
    const ivshm_a64 *const words[] = {
        &e->boot_id[0],
        &e->boot_id[1],
        &e->vm_uuid[0],
        &e->vm_uuid[1],
        &e->vm_generation[0],
        &e->vm_generation[1],
        &e->traits,
        &e->pid_ns,
        &e->pid,
        &e->start_time,
        &e->bell,
    };
    uint64_t h = generation;
    for (size_t i = 0; i < LENGTH(words); i++) {
        h = (h ^ ivshm_a64_load_relaxed(words[i])) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 32;
    }
    return h;
}

static inline void seal(const struct ivshm_region *region, uint32_t index)
{
    struct ivshm_endpoint_shm *e = &region->endpoints[index];
    ivshm_a64_store_relaxed(&e->seal, seal_of_entry(e, ivshm_a64_load_relaxed(&e->claim) >> 45));
}

/*
 * The word of a block, packed as doc/layout.md defines it; first_of is the extent's length in its
 * first block.
 */
static inline uint64_t block_word_of(struct ivshm_owner owner, int kind, uint64_t first_of)
{
    return (uint64_t) (owner.endpoint + 1) | (uint64_t) owner.generation << 16 |
           (uint64_t) kind << 35 | (uint64_t) (first_of > 0) << 40 | first_of << 41;
}

/* Runs `count` threads over an array of arguments, and waits for all. */
static inline void threads_run(int count, void *(*body)(void *), void *args, size_t arg_size)
{
    pthread_t threads[64];
    must(count <= 64);
    for (int i = 0; i < count; i++)
        must(pthread_create(&threads[i], NULL, body, (char *) args + (size_t) i * arg_size) == 0);
    for (int i = 0; i < count; i++)
        must(pthread_join(threads[i], NULL) == 0);
}

/* A child that dies with its parent. If `body` returns, the child calls _exit(0). */
static inline pid_t child_start(void (*body)(void *), void *arg)
{
    fflush(NULL);
    pid_t pid = fork();
    must(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        body(arg);
        _exit(0);
    }
    return pid;
}

static inline void child_exits(void *arg)
{
    (void) arg;
}

static inline int child_wait(pid_t pid)
{
    int status;
    must(waitpid(pid, &status, 0) == pid);
    return status;
}

static inline void child_kill(pid_t pid)
{
    must(kill(pid, SIGKILL) == 0);
    child_wait(pid);
}

/* One byte through a pipe: the child reports that it has started. */
static inline void tell(int fd)
{
    must(write(fd, "", 1) == 1);
}

static inline void await(int fd)
{
    char byte;
    must(read(fd, &byte, 1) == 1);
}

/* A small generator: the same numbers in each run. */
static inline uint32_t random_next(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t) (*state >> 33);
}

#endif
