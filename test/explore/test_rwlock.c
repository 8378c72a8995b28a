/* SPDX-License-Identifier: mpich2 */
/*
 * A reader-writer lock: writers and readers take it once or twice each; one of them may die. Nobody
 * is inside with a live writer but that writer. All live actors get it, after the dead as well.
 *
 * Faults that this has been seen to find: a reader that does not look at the writer's word again
 * after it has entered; a writer that does not wait for readers; one that clears the word of a
 * reader that is alive.
 */
#include "fates.h"

#include <errno.h>

#define TURNS 2

/* In shared memory. */
struct stage {
    struct ivshm_rwlock_shm lock;
    ivshm_a64 first, second; /* equal, unless a writer has died between the two */
};

static struct stage *stage(void)
{
    return (struct stage *) explore_memory;
}

static uint32_t turns[EXPLORE_ACTORS];

static void setup(const void *unused)
{
    (void) unused;
    memset(turns, 0, sizeof(turns));
}

static void write_once(uint32_t self)
{
    const struct ivshm_owner me = {self, 1};
    struct ivshm_lock_shm *lock = &stage()->lock.writer.lock;
    struct ivshm_owner holder = {0, 0};
    while (!ivshm_lock_try(lock, me, &holder)) {
        if (is_over(NULL, holder) && ivshm_lock_inherit(lock, me, holder))
            break;
        explore_idle(&turns[self]);
    }
    while (!ivshm_rwlock_has_no_readers(&stage()->lock, &fates))
        explore_idle(&turns[self]);
    uint64_t value = explore_plain_load(&stage()->first);
    must(value == explore_plain_load(&stage()->second) || has_died());
    explore_plain_store(&stage()->first, value + 1);
    explore_plain_store(&stage()->second, value + 1);
    ivshm_lock_release(lock);
}

static void read_once(uint32_t self)
{
    const struct ivshm_owner me = {self, 1};
    struct ivshm_lock_shm *lock = &stage()->lock.writer.lock;
    struct ivshm_owner holder = {0, 0};
    int got;
    while ((got = ivshm_rwlock_try_read(&stage()->lock, me, &holder)) != 0) {
        must(got == -EBUSY);
        if (is_over(NULL, holder) && ivshm_lock_inherit(lock, me, holder))
            ivshm_lock_release(lock);
        else
            explore_idle(&turns[self]);
    }
    must(explore_plain_load(&stage()->first) == explore_plain_load(&stage()->second) || has_died());
    must(ivshm_rwlock_end_read(&stage()->lock, me));
}

static void first(void)
{
    for (; turns[0] < TURNS; turns[0]++)
        write_once(0);
}

static void second(void)
{
    for (; turns[1] < TURNS; turns[1]++)
        read_once(1);
}

static void third(void)
{
    for (; turns[2] < TURNS; turns[2]++)
        if (turns[2] % 2)
            write_once(2);
        else
            read_once(2);
}

static void check(void)
{
    for (int i = 0; i < explore.count; i++)
        must(turns[i] == TURNS || explore_fate(i) == EXPLORE_DIED);
}

int main(int argc, char **argv)
{
    static const struct explore_case cases[] = {
        {"one of each", setup, NULL, {first, second}, 3, check, EXPLORE_ALL, EXPLORE_ALL, false},
        {"and one that does both", setup, NULL, {first, second, third}, 7, check, 1, 2, false},
    };
    return explore_main(argc, argv, cases, LENGTH(cases));
}
