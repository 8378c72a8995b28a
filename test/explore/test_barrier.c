/* SPDX-License-Identifier: mpich2 */
/*
 * A barrier: two or three members pass it twice; one of them may die. Whoever passes finds what the
 * others had written before they arrived. The others of a member that has died are told, and go on
 * without it.
 *
 * Faults that this has been seen to find: a member that waits for those that have passed already; a
 * place that is counted as arrived before its member has come.
 */
#include "alike.h"
#include "fates.h"

#include <errno.h>

#define TURNS 2

/* In shared memory. */
struct stage {
    struct ivshm_barrier_shm barrier;
    ivshm_a64 written[EXPLORE_ACTORS][TURNS];
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

/* False if it waits for somebody who has died before it was a member. */
static bool pass(uint32_t self, uint32_t members)
{
    const struct ivshm_owner me = {self, 1};
    uint32_t turn;
    int state;
    must(ivshm_barrier_arrive(&stage()->barrier, members, me, &fates, &turn) == 0);
    must(turn == 2 * turns[self] + 1);
    while ((state = ivshm_barrier_check(&stage()->barrier, members, &fates, turn)) != 0) {
        if (state == -EOWNERDEAD) {
            must(has_died());
            ivshm_barrier_drop(&stage()->barrier, members, &fates);
            continue;
        }
        if (has_died())
            return false;
        explore_idle(&turns[self]);
    }
    ivshm_barrier_pass(&stage()->barrier, members, me);
    return true;
}

static void act(uint32_t self)
{
    const uint32_t members = (uint32_t) explore.count;
    for (; turns[self] < TURNS; turns[self]++) {
        explore_plain_store(&stage()->written[self][turns[self]], 1);
        if (!pass(self, members))
            return;
        for (uint32_t i = 0; i < members && !has_died(); i++)
            must(explore_plain_load(&stage()->written[i][turns[self]]) == 1 || has_died());
    }
}

static void check(void)
{
    for (int i = 0; i < explore.count; i++)
        must(turns[i] == TURNS || has_died());
}

int main(int argc, char **argv)
{
    static const struct explore_case cases[] = {
        {"two", setup, NULL, {first, second}, 3, check, 3, EXPLORE_ALL, false},
        {"three", setup, NULL, {first, second, third}, 0, check, 1, 2, false},
    };
    return explore_main(argc, argv, cases, LENGTH(cases));
}
