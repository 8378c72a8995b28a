/* SPDX-License-Identifier: mpich2 */
/*
 * A process sleeps until a peer wakes it. Both must run in one kernel and map the region from a
 * file: there are no futexes in the memory of a device, nor between kernels.
 *
 * The sleeper announces itself in its inbox, looks on for IVSHM_SLEEP_GRACE_NS, and sleeps. A
 * sender publishes, then looks at the announcement. A fence between these two would make each
 * message slower, and so there is none: the sender may look first, and publish then. But a store
 * does not stay in a processor for long, so the sleeper finds that message while it looks on. No
 * architecture promises how long that is, so no sleep lasts longer than IVSHM_SLEEP_MAX_NS, which
 * also bounds what the death of a sender between its two steps costs. Edge W1.
 *
 * The announcement is only a hint: a peer that changes it costs its receiver or senders a system
 * call, and a message at most IVSHM_SLEEP_MAX_NS. Any thread; constant costs.
 */
#ifndef IVSHM_SLEEP_H
#define IVSHM_SLEEP_H

#include "layout.h"

#define IVSHM_SLEEP_GRACE_NS 5000
#define IVSHM_SLEEP_MAX_NS 20000000

/* Sleeper: announces it (seq_cst W1). Ends with withdraw, or by the peer that wakes it. */
void ivshm_sleep_announce(struct ivshm_inbox_shm *own);
void ivshm_sleep_withdraw(struct ivshm_inbox_shm *own);

/*
 * Sleeper: sleeps for at most IVSHM_SLEEP_MAX_NS; less if it is woken, a signal is handled, or the
 * announcement is gone.
 */
void ivshm_sleep_until_woken(struct ivshm_inbox_shm *own);

/* Sender, after publishing: whether the owner of that inbox sleeps, or is about to (W1). */
static inline bool ivshm_sleep_is_announced(const struct ivshm_inbox_shm *inbox)
{
    return ivshm_a64_load_relaxed(&inbox->sleeper) != 0;
}

/* Sender: wakes the owner. Returns whether it was this call that did. Cost: a system call. */
bool ivshm_sleep_wake(struct ivshm_inbox_shm *inbox);

/*
 * The kernel's part: sleeps while the word is 1, until it is woken or IVSHM_SLEEP_MAX_NS are over;
 * wakes one sleeper. Weak, so that a model can take that part.
 */
void ivshm_sleep_futex_wait(ivshm_a64 *word);
void ivshm_sleep_futex_wake(ivshm_a64 *word);

#endif
