/* SPDX-License-Identifier: mpich2 */
/*
 * The weakly ordered memory of the explorer itself: the litmus tests of the literature, each with
 * orders that forbid the outcome in question and with the next weaker ones, which allow it. The
 * verdicts are those of C11. In sequentially consistent memory, nothing of this happens.
 */
#include "explore.h"

enum order { RELAXED, RELEASES, ACQUIRES = RELEASES, SEQ_CST };

static ivshm_a64 *word(int i)
{
    return (ivshm_a64 *) explore_memory + i;
}

enum { X, Y };

static enum order store_order, load_order;
static uint64_t found[EXPLORE_ACTORS][2];

struct orders {
    enum order store, load;
};

static void setup(const void *arg)
{
    const struct orders *orders = arg;
    memset(found, 0, sizeof(found));
    store_order = orders->store;
    load_order = orders->load;
}

static void store(int i, uint64_t value)
{
    if (store_order == RELAXED)
        ivshm_a64_store_relaxed(word(i), value);
    else if (store_order == RELEASES)
        ivshm_a64_store_release(word(i), value);
    else
        ivshm_a64_add_seqcst(word(i), value);
}

static uint64_t load(int i)
{
    return load_order == RELAXED    ? ivshm_a64_load_relaxed(word(i))
           : load_order == ACQUIRES ? ivshm_a64_load_acquire(word(i))
                                    : ivshm_a64_load_seqcst(word(i));
}

static void load_two(int first, int second)
{
    found[explore.self][0] = load(first);
    found[explore.self][1] = load(second);
}

/* MP: a message is passed. */
static void pass(void)
{
    ivshm_a64_store_relaxed(word(X), 1);
    store(Y, 1);
}

static void get(void)
{
    found[1][0] = load(Y);
    found[1][1] = ivshm_a64_load_relaxed(word(X));
}

static void check_passed(void)
{
    must(found[1][0] == 0 || found[1][1] == 1);
}

/* SB: each stores, then loads what the other one stores. */
static void meet(void)
{
    int self = explore.self;
    store(self, 1);
    found[self][0] = load(1 - self);
}

static void check_met(void)
{
    must(found[0][0] || found[1][0]);
}

/* CoRR: loads of one word do not go back, whatever their order. */
static void count(void)
{
    store(X, 1);
    store(X, 2);
}

static void look_twice(void)
{
    load_two(X, X);
}

static void check_forward(void)
{
    must(found[1][1] >= found[1][0]);
}

/* WRC: what another actor has passed on. */
static void originate(void)
{
    ivshm_a64_store_relaxed(word(X), 1);
}

static void pass_on(void)
{
    if (load(X))
        store(Y, 1);
}

static void get_passed(void)
{
    found[2][0] = load(Y);
    found[2][1] = ivshm_a64_load_relaxed(word(X));
}

static void check_cause(void)
{
    must(found[2][0] == 0 || found[2][1] == 1);
}

/* A read-modify-write in between passes a release on. */
static void add(void)
{
    ivshm_a64_add_seqcst(word(Y), 1);
}

static void get_second(void)
{
    found[2][0] = ivshm_a64_load_acquire(word(Y)) == 2;
    found[2][1] = ivshm_a64_load_relaxed(word(X));
}

/* A swap may fail on an old value, but never finds the expected one a second time. */
static void swap(void)
{
    found[explore.self][0] = ivshm_a64_cas_seqcst(word(X), 0, 1);
}

static void check_one_swap(void)
{
    must(found[0][0] + found[1][0] == 1);
}

int main(int argc, char **argv)
{
    static const struct orders relaxed = {RELAXED, RELAXED}, no_release = {RELAXED, ACQUIRES},
                               no_acquire = {RELEASES, RELAXED}, both = {RELEASES, ACQUIRES},
                               no_seq_cst_load = {SEQ_CST, ACQUIRES},
                               no_seq_cst_store = {RELEASES, SEQ_CST}, strong = {SEQ_CST, SEQ_CST};
#define LITMUS(name, orders, check, fails, ...)                                                    \
    {                                                                                              \
        name, setup, &orders, {__VA_ARGS__}, 0, check, EXPLORE_ALL, EXPLORE_ALL, fails             \
    }
#define MAY_FAIL(name, orders, check, ...) LITMUS(name, orders, check, EXPLORE_IS_WEAK, __VA_ARGS__)
#define HOLDS(name, orders, check, ...) LITMUS(name, orders, check, false, __VA_ARGS__)
    static const struct explore_case cases[] = {
        MAY_FAIL("MP, relaxed", relaxed, check_passed, pass, get),
        MAY_FAIL("MP without release", no_release, check_passed, pass, get),
        MAY_FAIL("MP without acquire", no_acquire, check_passed, pass, get),
        HOLDS("MP", both, check_passed, pass, get),
        MAY_FAIL("SB, release and acquire", both, check_met, meet, meet),
        MAY_FAIL("SB, load is not seq_cst", no_seq_cst_load, check_met, meet, meet),
        MAY_FAIL("SB, store is not seq_cst", no_seq_cst_store, check_met, meet, meet),
        HOLDS("SB", strong, check_met, meet, meet),
        HOLDS("CoRR, relaxed", relaxed, check_forward, count, look_twice),
        MAY_FAIL("WRC, relaxed", relaxed, check_cause, originate, pass_on, get_passed),
        HOLDS("WRC", both, check_cause, originate, pass_on, get_passed),
        HOLDS("a release is passed on", both, check_cause, pass, add, get_second),
        HOLDS("swaps", relaxed, check_one_swap, swap, swap),
    };
    return explore_main(argc, argv, cases, LENGTH(cases));
}
