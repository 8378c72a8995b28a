/* SPDX-License-Identifier: mpich2 */
/*
 * Explores all interleavings of a few actors that run the real code of core/, within a bound. A
 * case sets up shared memory. Its actors run as coroutines of one thread. core/ calls
 * ivshm_access_step before each access to a shared word; this function decides which actor
 * continues, or dies. The search is depth-first and runs each schedule from the start. Memory is
 * sequentially consistent, or, in programs that are compiled with weak.h, weakly ordered:
 * weak_memory.h.
 *
 * What the search leaves out cannot change the outcome:
 *   - Actors switch only before words that one actor writes and another one accesses. The search
 *     learns which these are as it runs, and starts again whenever it finds another. An access to
 *     any other word can be moved to the actor's next access to such a word.
 *   - A state that was seen before, with no fewer preemptions left, is not explored again. What an
 *     actor has read determines its local state, so these histories and the contents of the words
 *     above are the state. A case must not pass information to its actors in any other way.
 *   - An actor that polls in vain waits until another actor writes.
 *
 * A counterexample is an assertion, a crash, a call that does not end, or a state in which no actor
 * can continue. (Actors that wake each other for ever are not detected.) It is printed as a
 * schedule. `PROGRAM -c CASE -r SCHEDULE` runs that schedule again, step by step, and aborts where
 * it fails. a3,b2,a! means three steps of the first actor, two of the second, and the death of the
 * first. a3,~1 means that the third step finds the last store but one.
 */
#ifndef EXPLORE_H
#define EXPLORE_H

#define _GNU_SOURCE

#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "core/atomic.h"

#ifdef WEAK_H
#define EXPLORE_IS_WEAK true
#else
#define EXPLORE_IS_WEAK false
#endif

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

#define EXPLORE_ACTORS 3
#define EXPLORE_ALL 255                    /* preemptions: no bound */
#define EXPLORE_MEMORY (UINT64_C(4) << 20) /* bytes that a case may share */

struct explore_case {
    const char *name;
    void (*setup)(const void *arg); /* before each schedule; the shared memory is zero */
    const void *arg;
    void (*actors[EXPLORE_ACTORS])(void); /* terminated by NULL */
    unsigned mortal;                      /* a bit for each actor; one of these may die */
    void (*check)(void);                  /* after each schedule: checks the final state */
    uint8_t preemptions, deep;            /* upper bounds; `deep` applies if EXPLORE_DEEP is set */
    bool fails;                           /* the search must find a failure */
};

enum explore_fate { EXPLORE_RUNS = 0, EXPLORE_ENDED = 1, EXPLORE_DIED = 2 };

#define must(cond) ((cond) ? (void) 0 : explore_fail(__FILE__, __LINE__, #cond))

/*
 * `local` is all that the actor knows at this line of its code. Whatever else it has read no longer
 * matters, and does not make a different state.
 */
#define explore_knows(local) explore_knows_at(__LINE__, local, sizeof(*(local)))

/*
 * The same for an actor that has polled in vain. It continues when another actor has written
 * something, unless `local` has changed, so that polling again may help.
 */
#define explore_idle(local) explore_idle_at(__LINE__, local, sizeof(*(local)))

/*
 * Memory that is no word of core/'s, like the payload of a message. Where memory is weakly ordered,
 * a case fails if these are not ordered, instead of acting between them.
 */
#ifdef WEAK_H
#define explore_plain_load(word) weak_plain_load(word)
#define explore_plain_store(word, value) weak_plain_store(word, value)
#else
#define explore_plain_load(word) ivshm_a64_load_relaxed(word)
#define explore_plain_store(word, value) ivshm_a64_store_relaxed(word, value)
#endif

#define STEPS_MAX 200000 /* of a schedule; a correct one takes less than half of this */
#define STACK_BYTES (64 << 10)
#define CHECKER EXPLORE_ACTORS /* accesses words after the actors have ended */
#define NOBODY (-1)
#define KILL EXPLORE_ACTORS /* transitions: run an actor, or kill it */
#define STOP (-1)
#define OLD_STORE (2 * EXPLORE_ACTORS) /* in a trail: plus how much older than the newest */

struct explore_actor {
    ucontext_t context;
    uint64_t history;   /* hash of all that it has read */
    uint64_t last_idle; /* of what it knew when it last polled in vain; 0 if it knows more now */
    bool waits, news;   /* waits for another actor's store; there was one */
};

/* A decision on the way to the current state. */
struct explore_node {
    uint8_t choice, untried;
};

struct explore_seen {
    uint64_t state; /* hash; 0 means empty */
    uint8_t preempted;
};

/* A bit for each case that takes too long for `check` in weakly ordered memory: left out there. */
static unsigned explore_slow;

/* Words from this offset on matter to no actor. The fates are behind all. */
static uint64_t explore_limit = EXPLORE_MEMORY;

static char *explore_memory;     /* shared by the actors */
static ivshm_a64 *explore_fates; /* behind it: a word for each actor */

static struct {
    const struct explore_case *now;
    struct explore_actor actors[EXPLORE_ACTORS];
    int count, self; /* number of actors; the one that runs */
    enum { QUIET, STARTING, RUNNING, CHECKING } phase;
    ucontext_t main, out; /* where a schedule ends; where a failed case ends */
    bool failed;
    const char *program;
    int number;    /* of the case */
    uint64_t used; /* bytes of the memory that a schedule may have written */

    uint32_t steps; /* of this schedule */
    uint8_t trail[STEPS_MAX + EXPLORE_ACTORS + 256];
    uint32_t trailed;
    const char *replay; /* the rest of the schedule to replay, else NULL */
    int replayed;       /* whose steps these are */
    uint32_t replay_steps;

    struct explore_node nodes[STEPS_MAX];
    uint32_t node_count, depth;
    unsigned bound, preempted;
    bool death; /* there was a store */
    struct explore_seen *seen;
    uint64_t seen_count, seen_size, schedules, ends;

    uint8_t readers[EXPLORE_MEMORY / 8 + EXPLORE_ACTORS]; /* for each word, a bit for each actor */
    uint8_t writers[EXPLORE_MEMORY / 8 + EXPLORE_ACTORS];
    bool conflicts[EXPLORE_MEMORY / 8 + EXPLORE_ACTORS];
    uint32_t conflicting[4096], conflict_count;
    bool learnt; /* a conflict was found in this schedule */
} explore;

static uint64_t explore_mix(uint64_t a, uint64_t b)
{
    uint64_t z = (a ^ b * UINT64_C(0x9e3779b97f4a7c15)) + UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint64_t explore_value(uint32_t word)
{
    return *(const volatile uint64_t *) (explore_memory + (uint64_t) word * 8);
}

static void explore_print_trail(void)
{
    for (uint32_t i = 0, run; i < explore.trailed; i += run) {
        uint8_t who = explore.trail[i];
        for (run = 1; i + run < explore.trailed && explore.trail[i + run] == who;)
            run++;
        if (who > OLD_STORE)
            printf(",~%d", who - OLD_STORE);
        else if (who >= KILL)
            printf("%s%c!", i ? "," : "", 'a' + who - KILL);
        else
            printf("%s%c%" PRIu32, i ? "," : "", 'a' + who, run);
    }
}

static void explore_tell(const char *what)
{
    printf("# %s: %s\n# again: %s -c %d -r ", explore.now->name, what, explore.program,
           explore.number);
    explore_print_trail();
    printf("\n");
    fflush(stdout);
}

__attribute__((noreturn)) static void explore_fail(const char *file, int line, const char *what)
{
    char text[512];
    snprintf(text, sizeof(text), "%s:%d: %s", file, line, what);
    bool is_early = false;
#ifdef WEAK_H
    is_early = explore.learnt;
#endif
    if (explore.replay || !explore.now->fails)
        explore_tell(text);
    if (explore.replay && !explore.now->fails && !is_early)
        abort();
    explore.failed = true;
    setcontext(&explore.out);
    abort(); /* not reached */
}

/* The first time at this point: makes that choice, and leaves the rest of `can` for later. */
static void explore_first_choice(unsigned can, uint8_t choice)
{
    must(explore.node_count < LENGTH(explore.nodes));
    explore.nodes[explore.node_count++] =
        (struct explore_node){choice, (uint8_t) (can & ~(1u << choice))};
}

#ifdef WEAK_H
#include "weak_memory.h"
#endif

/* Records an access. Two actors, one of which writes, are a conflict. */
static void explore_touch(uint32_t word, int who, bool writes)
{
    explore.readers[word] |= (uint8_t) (1 << who);
    if (writes)
        explore.writers[word] |= (uint8_t) (1 << who);
    uint8_t all = explore.readers[word];
    if (writes && word < EXPLORE_MEMORY / 8 && explore.used < (uint64_t) (word + 1) * 8)
        explore.used = (uint64_t) (word + 1) * 8;
    if (!explore.conflicts[word] && explore.writers[word] && (all & (all - 1))) {
        explore.conflicts[word] = true;
        must(explore.conflict_count < LENGTH(explore.conflicting));
#ifdef WEAK_H
        must(2 * explore.conflict_count + 1 < WEAK_PLACES);
        weak.index[word] = (uint16_t) explore.conflict_count;
#endif
        explore.conflicting[explore.conflict_count++] = word;
        explore.learnt = true;
    }
}

static void explore_wake_others(int writer)
{
    for (int i = 0; i < explore.count; i++)
        if (i != writer)
            explore.actors[i].news = true;
}

static enum explore_fate explore_fate_now(int actor)
{
    return (enum explore_fate) explore_fates[actor].word;
}

static uint32_t explore_fate_word(int actor)
{
    return (uint32_t) (EXPLORE_MEMORY / 8) + (uint32_t) actor;
}

static void explore_kill(int actor)
{
    explore.trail[explore.trailed++] = (uint8_t) (KILL + actor);
    explore.death = true;
    explore_fates[actor].word = EXPLORE_DIED;
    explore_touch(explore_fate_word(actor), actor, true);
    explore_wake_others(actor);
}

/* The state in which the choice is made. `staying` would be preempted. */
static uint64_t explore_state(int staying)
{
    uint64_t state = explore.bound == EXPLORE_ALL ? 1 : (uint64_t) staying + 2;
    for (int i = 0; i < explore.count; i++) {
        const struct explore_actor *a = &explore.actors[i];
        state = explore_mix(explore_mix(state, a->history), a->last_idle);
        state = explore_mix(state, (uint64_t) explore_fate_now(i) << 2 | a->waits << 1 | a->news);
    }
    for (uint32_t i = 0; i < explore.conflict_count; i++)
        state = explore_mix(state, explore_value(explore.conflicting[i]));
#ifdef WEAK_H
    state = weak_state(state);
#endif
    return state ? state : 1;
}

static struct explore_seen *explore_find(uint64_t state)
{
    uint64_t i = state;
    while (explore.seen[i & (explore.seen_size - 1)].state &&
           explore.seen[i & (explore.seen_size - 1)].state != state)
        i++;
    return &explore.seen[i & (explore.seen_size - 1)];
}

static void explore_forget(uint64_t size)
{
    free(explore.seen);
    explore.seen = calloc(size, sizeof(*explore.seen));
    if (!explore.seen)
        abort();
    explore.seen_size = size;
    explore.seen_count = 0;
}

/* Whether the state is new, or there are more preemptions left than when it was seen. */
static bool explore_is_new(uint64_t state)
{
    if (2 * explore.seen_count >= explore.seen_size) {
        struct explore_seen *old = explore.seen;
        uint64_t size = explore.seen_size, count = explore.seen_count;
        explore.seen = NULL;
        explore_forget(2 * size);
        for (uint64_t i = 0; i < size; i++)
            if (old[i].state)
                *explore_find(old[i].state) = old[i];
        explore.seen_count = count;
        free(old);
    }
    struct explore_seen *seen = explore_find(state);
    if (seen->state && seen->preempted <= explore.preempted)
        return false;
    explore.seen_count += !seen->state;
    *seen = (struct explore_seen){state, (uint8_t) explore.preempted};
    return true;
}

/* The next transition among those that are possible: as last time, or a new one. */
static int explore_choose(unsigned can, int staying)
{
    if (explore.depth == explore.node_count) {
        bool stays = staying != NOBODY && can >> staying & 1;
        if (!explore_is_new(explore_state(staying)))
            return STOP;
        if (stays && explore.preempted == explore.bound)
            can &= ~((1u << KILL) - 1) | 1u << staying;
        explore_first_choice(can, (uint8_t) (stays ? staying : __builtin_ctz(can)));
    }
    return explore.nodes[explore.depth++].choice;
}

/* The next transition of the schedule that is replayed; after its end, any. */
static int explore_follow(unsigned can, int staying)
{
    if (explore.replay_steps == 0 && *explore.replay) {
        char *end;
        explore.replayed = explore.replay[0] - 'a';
        bool is_schedule = explore.replayed >= 0 && explore.replayed < explore.count;
        must(is_schedule);
        explore.replay_steps = (uint32_t) strtoul(explore.replay + 1, &end, 10);
        bool death = *end == '!';
        end += death;
        explore.replay = end + (*end == ',');
        if (death)
            return KILL + explore.replayed;
    }
    if (explore.replay_steps)
        return explore.replayed;
    return staying != NOBODY ? staying : __builtin_ctz(can);
}

static void explore_switch(int to)
{
    int from = explore.self;
    explore.self = to;
    ucontext_t *here = from == NOBODY ? &explore.main : &explore.actors[from].context;
    ucontext_t *there = to == NOBODY ? &explore.main : &explore.actors[to].context;
    if (here != there)
        swapcontext(here, there);
}

/*
 * Decides which actor continues. Returns when that is the caller. `yields`: the caller cannot, or
 * need not, continue.
 */
static void explore_reschedule(bool yields)
{
    if (explore.phase == STARTING) {
        explore_switch(NOBODY);
        return;
    }
    int self = explore.self, staying = yields ? NOBODY : self, next;
    do {
        unsigned can = 0;
        bool all_ended = true;
        for (int i = 0; i < explore.count; i++) {
            const struct explore_actor *a = &explore.actors[i];
            if (explore_fate_now(i) != EXPLORE_RUNS)
                continue;
            all_ended = false;
            if (!a->waits || a->news)
                can |= 1u << i;
        }
        if (all_ended) {
            explore_switch(NOBODY);
            return;
        }
        /*
         * While conflicts are still being learnt, an actor may not know yet that something has
         * changed.
         */
        bool stuck = !can, somebody_can_go_on = can || (explore.learnt && !explore.replay);
        must(somebody_can_go_on);
        for (int i = 0; i < explore.count && !explore.death; i++)
            if (explore.now->mortal >> i & 1 && explore_fate_now(i) == EXPLORE_RUNS)
                can |= 1u << (KILL + i);
        next = stuck            ? STOP
               : explore.replay ? explore_follow(can, staying)
                                : explore_choose(can, staying);
        if (next == STOP) {
            explore.phase = QUIET;
            explore_switch(NOBODY);
            return;
        }
        if (next >= KILL) {
            explore_kill(next - KILL);
            if (next - KILL == staying)
                staying = NOBODY;
        } else if (staying != NOBODY && next != staying) {
            explore.preempted++;
        }
    } while (next >= KILL);
    explore_switch(next);
}

static void explore_access(uint32_t word, bool writes)
{
    if (explore.replay) {
        if (explore.replay_steps == 0)
            explore_reschedule(false);
        if (explore.replay_steps)
            explore.replay_steps--;
        printf("# %c %s %#" PRIx64 " (%#" PRIx64 ")\n", 'a' + explore.self,
               writes ? "writes" : "reads", (uint64_t) word * 8, explore_value(word));
        explore_wake_others(writes ? explore.self : NOBODY);
    } else if (explore.conflicts[word]) {
        explore_reschedule(false);
#ifndef WEAK_H
        struct explore_actor *a = &explore.actors[explore.self];
        a->history = explore_mix(a->history, explore_value(word));
#endif
        if (writes)
            explore_wake_others(explore.self);
    }
    bool all_calls_end = explore.steps < STEPS_MAX;
    must(all_calls_end);
    explore.trail[explore.trailed++] = (uint8_t) explore.self;
    explore.steps++;
    explore_touch(word, explore.self, writes);
}

void ivshm_access_step(const void *address, bool writes)
{
    uint64_t offset = (uintptr_t) address - (uintptr_t) explore_memory;
    if (offset >= EXPLORE_MEMORY + EXPLORE_ACTORS * sizeof(*explore_fates) ||
        (offset >= explore_limit && offset < EXPLORE_MEMORY))
        return; /* of this actor alone, or left out */
    if (explore.phase == CHECKING)
        explore_touch((uint32_t) (offset / 8), CHECKER, writes);
    else if (explore.phase != QUIET)
        explore_access((uint32_t) (offset / 8), writes);
}

/* Plain stores count as well: this replaces memset at link time. */
void *__real_memset(void *start, int byte, size_t size);
void *__wrap_memset(void *start, int byte, size_t size);
void *__wrap_memset(void *start, int byte, size_t size)
{
    uint64_t offset = (uintptr_t) start - (uintptr_t) explore_memory;
    if (explore.phase == QUIET || offset >= EXPLORE_MEMORY)
        return __real_memset(start, byte, size);
    for (size_t i = 0; i < size; i += 8) {
        size_t part = size - i < 8 ? size - i : 8;
#ifdef WEAK_H
        weak_clear((char *) start + i, byte, part);
#else
        ivshm_access_step((char *) start + i, true);
        __real_memset((char *) start + i, byte, part);
#endif
    }
    return start;
}

static inline uint64_t explore_knows_at(int line, const void *local, size_t size)
{
    struct explore_actor *a = &explore.actors[explore.self];
    uint64_t knows = 1;
    for (size_t i = 0; i < size; i += 8) {
        uint64_t part = 0;
        memcpy(&part, (const char *) local + i, size - i < 8 ? size - i : 8);
        knows = explore_mix(knows, part);
    }
    if (knows != a->last_idle)
        a->last_idle = 0;
    a->history = explore_mix(knows, (uint64_t) line);
    return knows;
}

static inline void explore_idle_at(int line, const void *local, size_t size)
{
    struct explore_actor *a = &explore.actors[explore.self];
    uint64_t knows = explore_knows_at(line, local, size);
    a->waits = knows == a->last_idle;
    a->last_idle = knows;
#ifdef WEAK_H
    a->waits &= !weak.behind[explore.self]; /* another look may show what is there already */
    weak.behind[explore.self] = false;
#endif
    explore_reschedule(true);
    a->waits = a->news = false;
}

/* What has become of an actor. Known for certain, like a proof of death. */
static inline enum explore_fate explore_fate(int actor)
{
#ifdef WEAK_H
    ivshm_access_step(&explore_fates[actor], false);
    enum explore_fate fate = explore_fate_now(actor);
    struct explore_actor *self = explore.self == NOBODY ? NULL : &explore.actors[explore.self];
    if (self && explore.phase == RUNNING) {
        self->history = explore_mix(self->history, fate);
        if (fate != EXPLORE_RUNS)
            weak_join(explore.self, &weak.views[actor]);
    }
    return fate;
#else
    return (enum explore_fate) ivshm_a64_load_seqcst(&explore_fates[actor]);
#endif
}

static inline bool has_died(void)
{
    for (int i = 0; i < explore.count; i++)
        if (explore_fate(i) == EXPLORE_DIED)
            return true;
    return false;
}

static void explore_body(void)
{
    explore.now->actors[explore.self]();
    ivshm_a64_store_release(&explore_fates[explore.self], EXPLORE_ENDED);
    explore_reschedule(true);
}

/* Runs one schedule: the decisions of the nodes, then defaults. */
static void explore_run(void)
{
    const struct explore_case *now = explore.now;
    explore.phase = QUIET;
    memset(explore_memory, 0, explore.used);
    memset(explore_fates, 0, EXPLORE_ACTORS * sizeof(*explore_fates));
    explore.steps = explore.trailed = explore.depth = explore.preempted = 0;
#ifdef WEAK_H
    weak_reset();
#endif
    explore.death = explore.learnt = false;
    explore.self = NOBODY;
    explore.schedules++;
    now->setup(now->arg);
    for (int i = 0; i < explore.count; i++) {
        struct explore_actor *a = &explore.actors[i];
        a->history = a->last_idle = 0;
        a->waits = a->news = false;
        makecontext(&a->context, explore_body, 0);
    }
    /* up to where it matters which actor continues */
    explore.phase = STARTING;
    for (int i = 0; i < explore.count && !explore.replay; i++)
        explore_switch(i);
    explore.phase = RUNNING;
    explore_reschedule(true);
    if (explore.phase == RUNNING) {
        explore.phase = CHECKING;
        now->check();
        explore.ends++;
    }
    explore.phase = QUIET;
}

/* Advances to the next choice that was not tried; false if there is none. */
static bool explore_backtrack(void)
{
    while (explore.node_count && !explore.nodes[explore.node_count - 1].untried)
        explore.node_count--;
    if (explore.node_count == 0)
        return false;
    struct explore_node *node = &explore.nodes[explore.node_count - 1];
    node->choice = (uint8_t) __builtin_ctz(node->untried);
    node->untried &= (uint8_t) (node->untried - 1);
    return true;
}

static void explore_search(void)
{
    do {
        explore_run();
        if (explore.learnt) {
            explore.node_count = 0;
            explore.schedules = explore.ends = 0;
            explore_forget(explore.seen_size);
        }
    } while (explore.learnt || explore_backtrack());
}

/*
 * Searches, or replays `schedule` if there is one. Returns whether everything is as it should be.
 */
static bool explore_case(const struct explore_case *now, const char *schedule)
{
    explore.now = now;
    for (explore.count = 0; explore.count < EXPLORE_ACTORS && now->actors[explore.count];)
        explore.count++;
    explore.bound = getenv("EXPLORE_DEEP") ? now->deep : now->preemptions;
#ifdef WEAK_H
    weak.bound = getenv("EXPLORE_DEEP") ? 2 : 1;
    unsigned most = (explore.count > 2 ? 1 : 2) + weak.bound - 1;
    if (explore.bound > most)
        explore.bound = most;
    memset(weak.halved, 0, sizeof(weak.halved));
    weak.plain_count = 0;
#endif
    explore.failed = false;
    explore.node_count = explore.conflict_count = 0;
    explore.schedules = explore.ends = 0;
    memset(explore.readers, 0, sizeof(explore.readers));
    memset(explore.writers, 0, sizeof(explore.writers));
    memset(explore.conflicts, 0, sizeof(explore.conflicts));
    explore_forget(1 << 16);
    explore.replay = schedule;
    explore.replay_steps = 0;

    getcontext(&explore.out);
#ifdef WEAK_H
    /* A schedule is right only when it is known which words are shared. */
    if (explore.failed && schedule && explore.learnt) {
        printf("# again, with %" PRIu32 " words that are shared\n", explore.conflict_count);
        explore.failed = false;
        explore.replay = schedule;
        explore.replay_steps = 0;
    }
#endif
    if (explore.failed)
        return now->fails;
    if (schedule)
        explore_run();
    else
        explore_search();
    return !now->fails;
}

static void explore_crash(int signal)
{
    (void) signal;
    if (!explore.replay)
        explore_tell("crash");
    _exit(1);
}

static void explore_init(void)
{
    uint64_t bytes = EXPLORE_MEMORY + sysconf(_SC_PAGESIZE);
    explore_memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (explore_memory == MAP_FAILED)
        abort();
    explore_fates = (ivshm_a64 *) (explore_memory + EXPLORE_MEMORY);
    static char stacks[EXPLORE_ACTORS + 1][STACK_BYTES] __attribute__((aligned(64)));
    ucontext_t context;
    getcontext(&context);
    for (int i = 0; i < EXPLORE_ACTORS; i++) {
        context.uc_stack = (stack_t){.ss_sp = stacks[i], .ss_size = STACK_BYTES};
        explore.actors[i].context = context;
    }
    sigaltstack(&(stack_t){.ss_sp = stacks[EXPLORE_ACTORS], .ss_size = STACK_BYTES}, NULL);
    struct sigaction action = {.sa_handler = explore_crash, .sa_flags = SA_ONSTACK};
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
    for (size_t i = 0; i < LENGTH(signals); i++)
        sigaction(signals[i], &action, NULL);
}

static bool explore_is_slow(int i)
{
    return EXPLORE_IS_WEAK && explore_slow >> i & 1 && !getenv("EXPLORE_DEEP");
}

/*
 * Prints TAP. -c N runs that case only; -r SCHEDULE runs only that schedule of it. In weakly
 * ordered memory, -w FILE:FIRST-LAST=ORDER weakens the accesses in those lines to that order.
 */
static int explore_main(int argc, char **argv, const struct explore_case *cases, int count)
{
    const char *schedule = NULL;
    int only = 0, bad = 0, option;
    explore.program = argv[0];
    while ((option = getopt(argc, argv, "c:r:w:")) != -1)
        if (option == 'c')
            only = atoi(optarg);
        else if (option == 'r')
            schedule = optarg;
#ifdef WEAK_H
        else if (option == 'w' && weak_parse(optarg))
            ;
#endif
        else
            return 2;
    explore_init();
    int planned = 0;
    for (int i = 0; i < count; i++)
        planned += !explore_is_slow(i);
    printf("1..%d\n", only ? 1 : planned);
    for (int i = 0; i < count; i++) {
        explore.number = i + 1;
        if (only && explore.number != only)
            continue;
        if (!only && explore_is_slow(i))
            continue;
        bool good = explore_case(&cases[i], schedule);
        bad += !good;
        printf("# %" PRIu64 " schedules, %" PRIu64 " to the end, %" PRIu64 " states",
               explore.schedules, explore.ends, explore.seen_count);
        if (explore.bound != EXPLORE_ALL)
            printf(", at most %u preemptions", explore.bound);
        printf("\n%s %d - %s\n", good ? "ok" : "not ok", only ? 1 : i + 1, cases[i].name);
        fflush(stdout);
    }
#ifdef WEAK_H
    if (!weak_all_met())
        return 3;
#endif
    return bad != 0;
}

#endif
