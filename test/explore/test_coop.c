/* SPDX-License-Identifier: mpich2 */
/*
 * Two cooperative copies, one after the other, with the same word. The helper may come at any time,
 * even to a copy that is over. When the owner sees the end, each piece has been copied exactly
 * once. If one of the two dies, the other one touches nothing that it must not touch, and ends.
 *
 * Faults that this has been seen to find: a helper that does not check the copy's number; a piece
 * that is finished before it is copied; an owner that does not wait for the helper's pieces; a
 * count that is stored instead of swapped.
 */
#include "explore.h"

#include "core/coop.h"

#define PIECES 2
#define COPIES 2
#define OWNER 0
#define HELPER 1

/* In shared memory. */
struct stage {
    struct ivshm_coop_shm coop;
    ivshm_a64 asked;          /* number of the copy that the helper is asked to join, or 0 */
    ivshm_a64 copied[PIECES]; /* what the receiver's buffer holds */
};

static struct stage *stage(void)
{
    return (struct stage *) explore_memory;
}

static struct side {
    struct ivshm_coop coop;
    uint32_t copy, taken;
    bool lost; /* the owner waits for what a dead helper has taken */
} sides[2];

static void setup(const void *unused)
{
    (void) unused;
    memset(sides, 0, sizeof(sides));
}

static struct ivshm_coop coop_of(uint32_t number)
{
    return (struct ivshm_coop){&stage()->coop, number, PIECES, PIECES, 1};
}

static void copy(const struct ivshm_piece *piece, uint32_t number)
{
    must(piece->bytes == 1 && piece->first < PIECES);
    must(explore_plain_load(&stage()->copied[piece->first]) == number - 1); /* not yet */
    explore_plain_store(&stage()->copied[piece->first], number);
}

static void own(void)
{
    struct side *s = &sides[OWNER];
    struct ivshm_piece piece;
    for (; s->copy < COPIES; s->copy++) {
        ivshm_coop_begin(&stage()->coop, 1, &s->coop);
        s->coop = coop_of(s->coop.number);
        s->taken = 0;
        ivshm_a64_store_release(&stage()->asked, s->coop.number);
        for (;;) {
            explore_knows(s);
            if (ivshm_coop_take_piece(&s->coop, &piece)) {
                copy(&piece, s->coop.number);
                s->taken++;
            }
            int64_t left = ivshm_coop_remaining(&s->coop, s->taken);
            must(left >= 0);
            if (left == 0)
                break;
            if (explore_fate(HELPER) == EXPLORE_DIED &&
                (ivshm_a64_load_relaxed(&stage()->coop.word) & 0xffff) == PIECES) {
                s->lost = ivshm_coop_remaining(&s->coop, s->taken) > 0;
                if (s->lost)
                    return;
                break;
            }
            if ((ivshm_a64_load_relaxed(&stage()->coop.word) & 0xffff) == PIECES)
                explore_idle(s);
        }
        for (int i = 0; i < PIECES; i++)
            must(explore_plain_load(&stage()->copied[i]) == s->coop.number);
    }
}

static void help(void)
{
    struct side *s = &sides[HELPER];
    struct ivshm_piece piece;
    for (; s->copy < COPIES; s->copy++) {
        uint64_t number;
        while ((number = ivshm_a64_load_acquire(&stage()->asked)) <= s->coop.number) {
            if (explore_fate(OWNER) != EXPLORE_RUNS)
                return;
            explore_idle(s);
        }
        s->coop = coop_of((uint32_t) number);
        while (ivshm_coop_take_piece(&s->coop, &piece)) {
            copy(&piece, s->coop.number);
            ivshm_coop_finish(&s->coop);
            explore_knows(s);
        }
    }
}

static void check(void)
{
    if (explore_fate(OWNER) != EXPLORE_DIED)
        must(sides[OWNER].copy == COPIES ||
             (sides[OWNER].lost && explore_fate(HELPER) == EXPLORE_DIED));
}

int main(int argc, char **argv)
{
    static const struct explore_case cases[] = {
        {"two copies", setup, NULL, {own, help}, 3, check, EXPLORE_ALL, EXPLORE_ALL, false},
    };
    return explore_main(argc, argv, cases, LENGTH(cases));
}
