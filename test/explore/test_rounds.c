/* SPDX-License-Identifier: mpich2 */
/*
 * Rounds: two or three members go through the same exchanges and broadcasts, one of them may die.
 * Each finds what the others provide in that round, and nothing that they provided in another one.
 * Whoever provided the memory writes to it again once the others have left.
 *
 * Faults that this has been seen to find: a root that does not wait for room; a slot that is
 * written again in the next exchange; a member that is so far when it has only begun to take.
 */
#include "alike.h"

#include "core/rounds.h"

#define SLOT IVSHM_LINE
#define STEPS_OF_LAP (IVSHM_ROUNDS_SEGMENTS + 2)

enum step { END, SMALL, LARGE, TWICE, FIRST_SENDS, SECOND_SENDS, FIRST_FILLS };

static const enum step *script;

static struct side {
    struct ivshm_rounds rounds;
    uint32_t step;
} sides[EXPLORE_ACTORS];

static void setup(const void *arg)
{
    script = arg;
    memset(sides, 0, sizeof(sides));
    for (uint32_t i = 0; i < (uint32_t) explore.count; i++)
        ivshm_rounds_init(&sides[i].rounds, explore_memory, (uint32_t) explore.count, i, SLOT);
}

static uint64_t contents(const struct side *s, uint32_t member)
{
    return (s->step + 1) * 10 + member;
}

/* False if it waits for somebody who may have died. A macro, as for explore_idle. */
#define WAIT(s)                                                                                    \
    ({                                                                                             \
        bool over_;                                                                                \
        while (!(over_ = ivshm_rounds_is_over(&(s)->rounds)) && !has_died())                       \
            explore_idle(s);                                                                       \
        over_ || ivshm_rounds_is_over(&(s)->rounds);                                               \
    })

static ivshm_a64 *word(const struct side *s, uint32_t member, uint32_t bytes, int i)
{
    return (ivshm_a64 *) ivshm_rounds_slot(&s->rounds, member, bytes) + i;
}

static bool exchange(struct side *s, uint32_t self, uint32_t bytes)
{
    explore_plain_store(word(s, self, bytes, 0), contents(s, self));
    ivshm_rounds_arrive(&s->rounds, s->step);
    if (!WAIT(s))
        return false;
    for (uint32_t i = 0; i < s->rounds.count; i++) {
        must(ivshm_rounds_what(&s->rounds, i) == s->step);
        must(explore_plain_load(word(s, i, bytes, 0)) == contents(s, i));
    }
    return true;
}

/* Each writes its part of its own slot, of what it has found in those of all. */
static bool exchange_again(struct side *s, uint32_t self)
{
    explore_plain_store(word(s, self, SLOT, 1 + (int) self), contents(s, self) + 5);
    ivshm_rounds_again(&s->rounds);
    ivshm_rounds_arrive(&s->rounds, s->step);
    if (!WAIT(s))
        return false;
    for (uint32_t i = 0; i < s->rounds.count; i++)
        must(explore_plain_load(word(s, i, SLOT, 1 + (int) i)) == contents(s, i) + 5);
    return true;
}

static bool broadcast(struct side *s, uint32_t self, uint32_t root, uint32_t bytes)
{
    if (self == root)
        ivshm_rounds_reserve(&s->rounds, bytes);
    else
        ivshm_rounds_expect(&s->rounds, root);
    if (!WAIT(s))
        return false;
    ivshm_a64 *chunk = (ivshm_a64 *) ivshm_rounds_chunk(&s->rounds, bytes);
    if (self == root) {
        explore_plain_store(chunk, contents(s, root));
        ivshm_rounds_publish(&s->rounds, bytes, s->step);
        return true;
    }
    must(ivshm_a64_load_relaxed(ivshm_rounds_chunk_what(&s->rounds, bytes)) == s->step);
    must(explore_plain_load(chunk) == contents(s, root));
    ivshm_rounds_take(&s->rounds, bytes);
    return true;
}

static bool go(struct side *s, uint32_t self)
{
    switch (script[s->step]) {
    case SMALL:
        if (!exchange(s, self, 8))
            return false;
        ivshm_rounds_pass(&s->rounds);
        return true;
    case LARGE:
    case TWICE:
        if (!exchange(s, self, SLOT) || (script[s->step] == TWICE && !exchange_again(s, self)))
            return false;
        ivshm_rounds_pass(&s->rounds);
        return true;
    case FIRST_SENDS:
        return broadcast(s, self, 0, 8);
    case SECOND_SENDS:
        return broadcast(s, self, 1, 8);
    default:
        return broadcast(s, self, 0, IVSHM_ROUNDS_CHUNK);
    }
}

static void act(uint32_t self)
{
    struct side *s = &sides[self];

    for (; script[s->step] != END; s->step++)
        if (!go(s, self))
            return;
    if (self != 0) {
        ivshm_rounds_leave(&s->rounds);
        return;
    }
    for (uint32_t i = 1; i < s->rounds.count; i++)
        while (!ivshm_rounds_has_left(&s->rounds, i)) {
            if (has_died())
                return;
            explore_idle(s);
        }
    for (uint32_t i = 0; i < s->rounds.count; i++)
        for (int part = 0; part < 2; part++)
            explore_plain_store((ivshm_a64 *) s->rounds.shm->members[i].part[part].small, 0);
}

static void check(void)
{
    for (int i = 0; i < explore.count; i++)
        must(script[sides[i].step] == END || has_died());
}

int main(int argc, char **argv)
{
    static const enum step exchanges[] = {SMALL, SMALL, SMALL, END};
    static const enum step slots[] = {TWICE, LARGE, TWICE, END};
    static const enum step mixed[] = {FIRST_SENDS, SMALL, SECOND_SENDS, FIRST_SENDS, LARGE, END};
    static enum step lap[STEPS_OF_LAP + 1];
    static const struct explore_case cases[] = {
        {"exchanges", setup, exchanges, {first, second}, 3, check, EXPLORE_ALL, EXPLORE_ALL, false},
        {"slots", setup, slots, {first, second}, 3, check, 2, EXPLORE_ALL, false},
        {"mixed", setup, mixed, {first, second}, 3, check, EXPLORE_ALL, EXPLORE_ALL, false},
        {"lap", setup, lap, {first, second}, 0, check, 2, 3, false},
        {"three", setup, exchanges, {first, second, third}, 0, check, 1, 2, false},
        {"three, mixed", setup, mixed, {first, second, third}, 0, check, 1, 2, false},
    };

    for (int i = 0; i < STEPS_OF_LAP; i++)
        lap[i] = FIRST_FILLS;
    return explore_main(argc, argv, cases, LENGTH(cases));
}
