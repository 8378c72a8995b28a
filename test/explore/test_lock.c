/* SPDX-License-Identifier: mpich2 */
/*
 * A lock: two or three actors take it twice each; one of them may die. Two live actors never hold
 * it at once. All live actors get it, even from a dead holder.
 *
 * Faults that this has been seen to find: a lock that is taken by a store after it was seen free;
 * one that is inherited from whoever holds it by then; one that is not inherited.
 */
#include "alike.h"

#include "core/lock.h"

#define TURNS 2

/* In shared memory. */
struct stage {
    struct ivshm_lock_shm lock;
    ivshm_a64 inside; /* the holder, according to itself; 0: nobody */
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

static void take(uint32_t self)
{
    const struct ivshm_owner me = {self, 1};
    struct ivshm_owner holder = {0, 0};
    while (!ivshm_lock_try(&stage()->lock, me, &holder)) {
        bool is_named = holder.endpoint < EXPLORE_ACTORS;
        if (is_named && explore_fate((int) holder.endpoint) == EXPLORE_DIED &&
            ivshm_lock_inherit(&stage()->lock, me, holder))
            return;
        explore_idle(&turns[self]);
    }
}

static void act(uint32_t self)
{
    for (; turns[self] < TURNS; turns[self]++) {
        take(self);
        uint64_t before = explore_plain_load(&stage()->inside);
        must(before == 0 || explore_fate((int) before - 1) == EXPLORE_DIED);
        explore_plain_store(&stage()->inside, self + 1);
        must(explore_plain_load(&stage()->inside) == self + 1);
        explore_plain_store(&stage()->inside, 0);
        ivshm_lock_release(&stage()->lock);
    }
}

static void check(void)
{
    for (int i = 0; i < explore.count; i++)
        must(turns[i] == TURNS || explore_fate(i) == EXPLORE_DIED);
}

int main(int argc, char **argv)
{
    static const struct explore_case cases[] = {
        {"two", setup, NULL, {first, second}, 3, check, EXPLORE_ALL, EXPLORE_ALL, false},
        {"three", setup, NULL, {first, second, third}, 7, check, 2, EXPLORE_ALL, false},
    };
    return explore_main(argc, argv, cases, LENGTH(cases));
}
