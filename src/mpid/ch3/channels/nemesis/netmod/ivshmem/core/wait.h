/* SPDX-License-Identifier: mpich2 */
/*
 * How a process waits for its peers: it looks again and again, gives its processor away in between,
 * or sleeps. This decides; the caller acts. What comes soon is found soonest by looking. What comes
 * late leaves the processor to others meanwhile, at a price: a sleep that nobody can end early
 * lasts a sixteenth of the time waited so far, so it makes the wait longer by as much at most.
 *
 * Where there are fewer processors than peers, those that look keep the others from working. There
 * a process gives its processor away after each look, and looks the longer the more of them share
 * it, as each may have something to do before the one that is waited for. But if others use it, who
 * are no peers, they keep it for milliseconds. Then it is better to sleep at once, as whoever is
 * woken usually goes first. A processor that is gone for long may have served a peer; if that
 * happens again soon, it served somebody else, and the process sleeps at once in its next waits: so
 * many at first, and four times as many each time that it was too early to try again.
 *
 * One thread at a time. Constant cost, no system call. No ordering edge.
 */
#ifndef IVSHM_WAIT_H
#define IVSHM_WAIT_H

#include <stdbool.h>
#include <stdint.h>

enum ivshm_wait_mode {
    IVSHM_WAIT_AUTO,
    IVSHM_WAIT_SPIN,  /* only looks */
    IVSHM_WAIT_YIELD, /* never sleeps */
    IVSHM_WAIT_SLEEP, /* at once */
};

enum ivshm_wait_step {
    IVSHM_WAIT_LOOK,
    IVSHM_WAIT_GIVE,     /* the processor to whoever is ready; and look */
    IVSHM_WAIT_ANNOUNCE, /* the sleep, as in sleep.h; and look */
    IVSHM_WAIT_DOZE,     /* until woken, for the given time at most; a look came since the grace */
    IVSHM_WAIT_NAP,      /* for the given time */
};

struct ivshm_wait {
    enum ivshm_wait_mode mode;
    bool waits;             /* nothing has come since `began` */
    bool announced;         /* at `announced_at` */
    bool is_late;           /* the grace of that is over; the next look is the last one */
    bool slept;             /* since `looked` */
    unsigned looks;         /* in vain, before the next call of ivshm_wait_next */
    uint64_t began, looked; /* times in ns, as those below */
    uint64_t total;         /* of all waits that are over */
    uint64_t announced_at;
    /* Losses of the processor. Waits: until these are forgotten; that begin with sleep; next time.
     */
    uint32_t losses, suspicious, wary, wary_next;
};

/* What is waited for, and where. */
struct ivshm_wait_for {
    bool can_be_woken; /* by everyone who may end this wait with a message */
    bool is_moving; /* the next part of a transfer, on which a peer is working: that wakes nobody */
    unsigned sharers; /* of a processor: peers for each, rounded up */
    unsigned looks;   /* after a sleep, until everything that has come was found */
};

/* So many that the clock, which is read then, costs little. */
#define IVSHM_WAIT_LOOKS 32

#define IVSHM_WAIT_WARY_MIN 2048

/* How long the present wait has lasted at the last look, in ns; and all waits together. */
static inline uint64_t ivshm_wait_lasted(const struct ivshm_wait *wait)
{
    return wait->waits ? wait->looked - wait->began : 0;
}

static inline uint64_t ivshm_wait_total(const struct ivshm_wait *wait)
{
    return wait->total + ivshm_wait_lasted(wait);
}

/* After a sleep, which counts as waited even if no look in vain comes after it. */
static inline void ivshm_wait_woke(struct ivshm_wait *wait, uint64_t now)
{
    wait->looked = now;
}

static inline void ivshm_wait_init(struct ivshm_wait *wait, enum ivshm_wait_mode mode)
{
    *wait = (struct ivshm_wait){
        .mode = mode, .looks = IVSHM_WAIT_LOOKS, .wary_next = IVSHM_WAIT_WARY_MIN};
}

/* Something has come: the next wait is a new one. Returns whether a sleep was announced. */
bool ivshm_wait_end(struct ivshm_wait *wait);

/*
 * The next step, at the time `now` in ns, after wait->looks vain looks, which it sets anew. For NAP
 * and DOZE, *nap is the time in ns. After DOZE the announcement has to be withdrawn.
 */
enum ivshm_wait_step ivshm_wait_next(struct ivshm_wait *wait, uint64_t now,
                                     const struct ivshm_wait_for *what, uint64_t *nap);

#endif
