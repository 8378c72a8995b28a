/* SPDX-License-Identifier: mpich2 */
#include "wait.h"

#include "sleep.h"

#define US UINT64_C(1000)
#define MS (1000 * US)

/* About what a sleep costs: who looks as long as that loses at most as much again. */
#define PATIENCE (100 * US)
/* A peer that works on a transfer usually has its next part ready within microseconds. */
#define PATIENCE_MOVING (10 * MS)
/* Below that, a nap would be shorter than the time in which a kernel wakes a process. */
#define NAPS_AFTER (1 * MS)
#define NAP_SHARE 16
#define NAP_SHORT (1 * MS)
#define NAP_SHORT_SHARE 1024
#define NAP_MAX (5 * MS)
/* A message whose sender did not wake us, as can hardly happen, makes the wait this much longer. */
#define DOZE_SHARE 50
#define DOZE_MIN (20 * MS)
#define DOZE_MAX (200 * MS)
/*
 * So long between two looks: the processor has worked for somebody who does not give it back. Where
 * several peers share it, each may have worked for a while; but a kernel takes the processor from
 * whoever keeps it only every few milliseconds.
 */
#define TAKEN_AWAY (500 * US)
#define TAKEN_AWAY_MAX (2 * MS)
/* So often within so many waits. Peers, too, keep a processor for long, as when they start. */
#define LOSSES 2
#define LOSSES_CROWDED 32
#define SUSPICIOUS 512
#define WARY_MAX (128 << 10)

static uint64_t min_time(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static bool is_crowded(const struct ivshm_wait_for *what)
{
    return what->sharers > 1;
}

/* What is done while a peer needs the processor takes the longer, the more of them share it. */
static uint64_t shared_time(const struct ivshm_wait_for *what, uint64_t ns)
{
    return is_crowded(what) ? ns * what->sharers / 2 : ns;
}

/* The processor was away for long. */
static void lose_processor(struct ivshm_wait *wait, const struct ivshm_wait_for *what)
{
    wait->losses = wait->suspicious ? wait->losses + 1 : 1;
    if (wait->losses >= (is_crowded(what) ? LOSSES_CROWDED : LOSSES)) {
        wait->wary = wait->wary_next;
        wait->wary_next = (uint32_t) min_time(4 * wait->wary_next, WARY_MAX);
    }
    wait->suspicious = SUSPICIOUS;
}

bool ivshm_wait_end(struct ivshm_wait *wait)
{
    bool announced = wait->announced;
    if (!wait->waits)
        return false;
    wait->total += ivshm_wait_lasted(wait);
    wait->waits = wait->announced = false;
    if (wait->wary)
        wait->wary--;
    else if (wait->suspicious && --wait->suspicious == 0)
        wait->wary_next = IVSHM_WAIT_WARY_MIN;
    return announced;
}

/* A sleep of either kind. */
static enum ivshm_wait_step sleep_by(struct ivshm_wait *wait, const struct ivshm_wait_for *what,
                                     enum ivshm_wait_step step)
{
    wait->slept = true;
    wait->looks = what->looks;
    return step;
}

/* A doze, step by step. */
static enum ivshm_wait_step fall_asleep(struct ivshm_wait *wait, uint64_t now,
                                        const struct ivshm_wait_for *what, uint64_t *most)
{
    if (!wait->announced) {
        wait->announced = true;
        wait->is_late = false;
        wait->announced_at = now;
        return IVSHM_WAIT_ANNOUNCE;
    }
    if (now - wait->announced_at < IVSHM_SLEEP_GRACE_NS)
        return IVSHM_WAIT_LOOK;
    if (!wait->is_late) {
        wait->is_late = true;
        return IVSHM_WAIT_LOOK;
    }
    wait->announced = false;
    *most = min_time((now - wait->began) / DOZE_SHARE, DOZE_MAX);
    *most = *most < DOZE_MIN ? DOZE_MIN : *most;
    return sleep_by(wait, what, IVSHM_WAIT_DOZE);
}

static uint64_t patience_of(const struct ivshm_wait *wait, const struct ivshm_wait_for *what)
{
    if (wait->mode == IVSHM_WAIT_SLEEP || wait->wary)
        return 0;
    return what->is_moving ? PATIENCE_MOVING : shared_time(what, PATIENCE);
}

/* A sixteenth of a short wait, less of a long one. */
static uint64_t nap_after(uint64_t waited)
{
    uint64_t most = waited / NAP_SHORT_SHARE;
    most = most < NAP_SHORT ? NAP_SHORT : min_time(most, NAP_MAX);
    return min_time(waited / NAP_SHARE, most);
}

enum ivshm_wait_step ivshm_wait_next(struct ivshm_wait *wait, uint64_t now,
                                     const struct ivshm_wait_for *what, uint64_t *nap)
{
    if (!wait->waits) {
        wait->waits = true;
        wait->began = wait->looked = now;
    }
    if (!wait->slept &&
        now - wait->looked > min_time(shared_time(what, TAKEN_AWAY), TAKEN_AWAY_MAX))
        lose_processor(wait, what);
    wait->looked = now;
    wait->slept = false;
    uint64_t waited = now - wait->began;
    bool gives =
        wait->mode == IVSHM_WAIT_YIELD || (wait->mode != IVSHM_WAIT_SPIN && is_crowded(what));
    wait->looks = gives ? 1 : IVSHM_WAIT_LOOKS;

    if (wait->mode == IVSHM_WAIT_SPIN || wait->mode == IVSHM_WAIT_YIELD ||
        waited < patience_of(wait, what))
        return gives ? IVSHM_WAIT_GIVE : IVSHM_WAIT_LOOK;
    if (what->can_be_woken && !what->is_moving)
        return fall_asleep(wait, now, what, nap);
    if (waited < NAPS_AFTER)
        return IVSHM_WAIT_GIVE;
    *nap = nap_after(waited);
    return sleep_by(wait, what, IVSHM_WAIT_NAP);
}
