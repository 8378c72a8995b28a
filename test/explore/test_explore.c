/* SPDX-License-Identifier: mpich2 */
/*
 * The explorer itself: it finds what there is to find, and explores everything. Relaxed accesses
 * find more in weakly ordered memory.
 */
#include "explore.h"

static ivshm_a64 *word(int i)
{
    return (ivshm_a64 *) explore_memory + i;
}

static uint64_t sum; /* what the search has to find */

static void set_sum(const void *arg)
{
    sum = (uintptr_t) arg;
}

/* Actors that add to a word. */
static void add_badly(void)
{
    ivshm_a64_store_relaxed(word(0), ivshm_a64_load_relaxed(word(0)) + 1);
}

#define ADD3 add_badly, add_badly, add_badly

static void add(void)
{
    ivshm_a64_add_seqcst(word(0), 1);
}

static void check_sum(void)
{
    uint64_t ended = 0, found = ivshm_a64_load_relaxed(word(0));
    for (int i = 0; i < explore.count; i++)
        ended += explore_fate(i) == EXPLORE_ENDED;
    must(found == ended || (explore.death && found == ended + 1));
}

static void check_other_sum(void)
{
    must(ivshm_a64_load_relaxed(word(0)) != sum);
}

/*
 * Each stores, then loads the other's word: they cannot both miss each other. If they load first,
 * they can.
 */
static bool missed[2];

static void forget(const void *arg)
{
    (void) arg;
    missed[0] = missed[1] = false;
}

static void meet(int self)
{
    ivshm_a64_store_relaxed(word(self), 1);
    missed[self] = ivshm_a64_load_relaxed(word(1 - self)) == 0;
}

static void pass(int self)
{
    missed[self] = ivshm_a64_load_relaxed(word(1 - self)) == 0;
    ivshm_a64_store_relaxed(word(self), 1);
}

static void meet_0(void)
{
    meet(0);
}

static void meet_1(void)
{
    meet(1);
}

static void pass_0(void)
{
    pass(0);
}

static void pass_1(void)
{
    pass(1);
}

static void check_met(void)
{
    must(!missed[0] || !missed[1]);
}

/* A lock whose holder may die. */
static void hold_lock(void)
{
    int local = explore.self;
    while (!ivshm_a64_cas_seqcst(word(0), 0, 1))
        explore_idle(&local);
    ivshm_a64_store_release(word(0), 0);
}

static void spin(void)
{
    while (ivshm_a64_load_relaxed(word(1)) == 0)
        ;
}

static void check_unlocked(void)
{
    must(ivshm_a64_load_relaxed(word(0)) == 0);
}

int main(int argc, char **argv)
{
#define ALL EXPLORE_ALL
    static const struct explore_case cases[] = {
        {"an atomic sum", set_sum, NULL, {add, add, add}, 7, check_sum, ALL, ALL, false},
        {"finds the sum 1", set_sum, (void *) 1, {ADD3}, 0, check_other_sum, ALL, ALL, true},
        {"finds the sum 2", set_sum, (void *) 2, {ADD3}, 0, check_other_sum, ALL, ALL, true},
        {"finds the sum 3", set_sum, (void *) 3, {ADD3}, 0, check_other_sum, ALL, ALL, true},
        {"finds no other sum", set_sum, (void *) 4, {ADD3}, 0, check_other_sum, ALL, ALL, false},
        {"without a preemption nothing is lost",
         set_sum,
         NULL,
         {ADD3},
         0,
         check_sum,
         0,
         0,
         EXPLORE_IS_WEAK},
        {"finds a lost one with one", set_sum, NULL, {ADD3}, 0, check_sum, 1, 1, true},
        {"store, then load",
         forget,
         NULL,
         {meet_0, meet_1},
         0,
         check_met,
         ALL,
         ALL,
         EXPLORE_IS_WEAK},
        {"finds load, then store", forget, NULL, {pass_0, pass_1}, 0, check_met, 1, 1, true},
        {"a lock",
         set_sum,
         NULL,
         {hold_lock, hold_lock, hold_lock},
         0,
         check_unlocked,
         ALL,
         ALL,
         false},
        {"finds a lock that a death leaves",
         set_sum,
         0,
         {hold_lock, hold_lock},
         1,
         check_unlocked,
         0,
         0,
         true},
        {"finds a call without an end",
         set_sum,
         NULL,
         {hold_lock, spin},
         0,
         check_unlocked,
         1,
         1,
         true},
    };
    return explore_main(argc, argv, cases, LENGTH(cases));
}
