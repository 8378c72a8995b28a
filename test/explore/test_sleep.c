/* SPDX-License-Identifier: mpich2 */
/*
 * A receiver that sleeps, on a futex or until its bell rings, and one or two senders, each of which
 * publishes a message and then wakes the receiver if that has announced its sleep. The receiver
 * gets every message: it never sleeps for good, although here no sleep ends by itself unless a
 * sender has died. (In reality, each does, after a while.)
 *
 * Without the time between the announcement and the last look, a weakly ordered sender may look for
 * the announcement first, and publish then. The last case must find that.
 *
 * Faults that this has been seen to find: an announcement after the last look; a sender that looks
 * before it publishes; one that wakes without taking the announcement back, and so wakes nobody but
 * the first sleep.
 */
#include "explore.h"

#include "core/sleep.h"

/* In shared memory. */
struct stage {
    ivshm_a64 slots[EXPLORE_ACTORS - 1];
    ivshm_a64 asleep; /* the kernel's list of sleepers */
    ivshm_a64 rung;   /* the bell's eventfd */
    struct ivshm_inbox_shm inbox;
};

/* How the receiver sleeps, and whether it looks on for a while before. */
struct way {
    enum ivshm_sleep kind;
    bool has_grace;
};

static uint32_t received, tries;
static struct way way;

static struct stage *stage(void)
{
    return (struct stage *) explore_memory;
}

static void setup(const void *w)
{
    received = tries = 0;
    way = *(const struct way *) w;
}

static bool a_sender_died(void)
{
    for (int i = 1; i < explore.count; i++)
        if (explore_fate(i) == EXPLORE_DIED)
            return true;
    return false;
}

/* Both under the kernel's lock: nobody acts between the entry in the list and the comparison. */
void ivshm_sleep_futex_wait(ivshm_a64 *word, uint64_t ns)
{
    (void) ns;
    ivshm_a64_or_seqcst(&stage()->asleep, 1);
    if (word->word != 1)
        ivshm_a64_and_seqcst(&stage()->asleep, 0);
    while (ivshm_a64_load_seqcst(&stage()->asleep)) {
        explore_idle(&received);
        if (a_sender_died())
            return;
    }
}

void ivshm_sleep_futex_wake(ivshm_a64 *word)
{
    (void) word;
    ivshm_a64_and_seqcst(&stage()->asleep, 0);
}

/* As bell.c: a ring is kept until the next wait. */
static void wait_for_bell(void)
{
    while (!ivshm_a64_load_seqcst(&stage()->rung)) {
        explore_idle(&received);
        if (a_sender_died())
            return;
    }
    ivshm_a64_and_seqcst(&stage()->rung, 0);
}

/* So much time passes that every store so far can be seen by everyone. */
static void pass_time(void)
{
#ifdef WEAK_H
    for (int actor = 0; actor < explore.count; actor++)
        for (uint32_t i = 0; i < 2 * explore.conflict_count; i++)
            if (weak.histories[i].count)
                weak_raise(&weak.views[actor], &weak.hashes[actor], i, weak.histories[i].count - 1);
#endif
}

/* Whether one was there that had not been received. */
static bool receive(void)
{
    uint32_t before = received;
    for (int i = 1; i < explore.count; i++)
        if (ivshm_a64_load_acquire(&stage()->slots[i - 1]))
            received |= 1u << i;
    return received != before;
}

static bool all_came(void)
{
    for (int i = 1; i < explore.count; i++)
        if (!(received & 1u << i) && explore_fate(i) != EXPLORE_DIED)
            return false;
    return true;
}

static void receiver(void)
{
    while (!all_came()) {
        if (receive())
            continue;
        must(tries++ < 20);
        ivshm_sleep_announce(&stage()->inbox, way.kind);
        if (way.has_grace)
            pass_time();
        if (!receive()) {
            if (way.kind == IVSHM_SLEEP_ON_BELL)
                wait_for_bell();
            else
                ivshm_sleep_until_woken(&stage()->inbox, 1);
        }
        ivshm_sleep_withdraw(&stage()->inbox);
    }
}

static void sender(void)
{
    ivshm_a64_store_release(&stage()->slots[explore.self - 1], 1);
    if (ivshm_sleep_announced(&stage()->inbox) == way.kind &&
        ivshm_sleep_wake(&stage()->inbox, way.kind) && way.kind == IVSHM_SLEEP_ON_BELL)
        ivshm_a64_or_seqcst(&stage()->rung, 1);
}

static void check(void)
{
    must(all_came());
}

int main(int argc, char **argv)
{
    static const struct way futex = {IVSHM_SLEEP_ON_FUTEX, true},
                            bell = {IVSHM_SLEEP_ON_BELL, true},
                            hasty = {IVSHM_SLEEP_ON_FUTEX, false};
    static const struct explore_case cases[] = {
        {"one sender",
         setup,
         &futex,
         {receiver, sender},
         2,
         check,
         EXPLORE_ALL,
         EXPLORE_ALL,
         false},
        {"two",
         setup,
         &futex,
         {receiver, sender, sender},
         0,
         check,
         EXPLORE_ALL,
         EXPLORE_ALL,
         false},
        {"two, who may die",
         setup,
         &futex,
         {receiver, sender, sender},
         6,
         check,
         3,
         EXPLORE_ALL,
         false},
        {"one with a bell",
         setup,
         &bell,
         {receiver, sender},
         2,
         check,
         EXPLORE_ALL,
         EXPLORE_ALL,
         false},
        {"two with a bell",
         setup,
         &bell,
         {receiver, sender, sender},
         0,
         check,
         EXPLORE_ALL,
         EXPLORE_ALL,
         false},
        {"two with a bell, who may die",
         setup,
         &bell,
         {receiver, sender, sender},
         6,
         check,
         3,
         EXPLORE_ALL,
         false},
        {"without grace",
         setup,
         &hasty,
         {receiver, sender},
         0,
         check,
         EXPLORE_ALL,
         EXPLORE_ALL,
         EXPLORE_IS_WEAK},
    };
    return explore_main(argc, argv, cases, LENGTH(cases));
}
