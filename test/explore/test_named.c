/* SPDX-License-Identifier: mpich2 */
/*
 * A named block: its creator publishes it, removes it, and frees it when nobody holds it; others
 * hold it if they find it, use it, and let go. Whoever holds it finds what its creator has written,
 * and nobody uses it once it is freed. One of the holders may die.
 *
 * A fault that this has been seen to find: a holder that does not look at the state again once it
 * holds the block.
 */
#include "explore.h"

#include "core/named.h"

#define ZEROED 1
#define FREED 2

/* In shared memory. */
struct stage {
    ivshm_a64 state;
    ivshm_a64 hold[EXPLORE_ACTORS];
    ivshm_a64 content;
};

static const ivshm_off block = {4096};
static uint32_t step;

static struct stage *stage(void)
{
    return (struct stage *) explore_memory;
}

static void setup(const void *unused)
{
    (void) unused;
    step = 0;
}

static bool is_held(void)
{
    for (int i = 1; i < explore.count; i++)
        if (ivshm_hold_is_of(&stage()->hold[i], block) && explore_fate(i) != EXPLORE_DIED)
            return true;
    return false;
}

static void create(void)
{
    explore_plain_store(&stage()->content, ZEROED);
    must(ivshm_named_change(&stage()->state, IVSHM_NAMED_NONE, IVSHM_NAMED_LIVE));
    must(ivshm_named_change(&stage()->state, IVSHM_NAMED_LIVE, IVSHM_NAMED_REMOVED));
    while (is_held())
        explore_idle(&step);
    for (int i = 1; i < explore.count; i++)
        if (explore_fate(i) == EXPLORE_DIED)
            return; /* here, nothing orders its accesses before this */
    explore_plain_store(&stage()->content, FREED);
}

static void use(int self)
{
    ivshm_a64 *hold = &stage()->hold[self];
    if (!ivshm_hold_enter(hold, block, &stage()->state, IVSHM_NAMED_LIVE))
        return;
    must(explore_plain_load(&stage()->content) == ZEROED);
    ivshm_hold_leave(hold);
}

static void second(void)
{
    use(1);
}

static void third(void)
{
    use(2);
}

static void check(void)
{
    must(stage()->content.word == FREED || explore_fate(1) == EXPLORE_DIED ||
         explore_fate(2) == EXPLORE_DIED);
}

int main(int argc, char **argv)
{
    static const struct explore_case cases[] = {
        {"one holder", setup, NULL, {create, second}, 2, check, EXPLORE_ALL, EXPLORE_ALL, false},
        {"two holders", setup, NULL, {create, second, third}, 6, check, 3, EXPLORE_ALL, false},
    };
    return explore_main(argc, argv, cases, LENGTH(cases));
}
