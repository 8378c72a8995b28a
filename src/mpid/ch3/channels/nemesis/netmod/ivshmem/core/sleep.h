/* SPDX-License-Identifier: mpich2 */
/*
 * A process sleeps until a peer wakes it: on a futex in the region, if both run in one kernel and
 * map the region from a file, or until its bell is rung (bell.h). There are no futexes in the
 * memory of a device, nor between kernels.
 *
 * The sleeper announces itself in its inbox, looks on for IVSHM_SLEEP_GRACE_NS, and sleeps. A
 * sender publishes, then looks at the announcement. A fence between these two would make each
 * message slower, and so there is none: the sender may look first, and publish then. But a store
 * does not stay in a processor for long, so the sleeper finds that message while it looks on. No
 * architecture promises how long that is, so each sleep ends by itself after a while, which also
 * bounds what the death of a sender between its two steps costs. Edge W1.
 *
 * The announcement is only a hint: a peer that changes it costs its receiver or senders a system
 * call, and a message the length of a sleep. Any thread; constant costs.
 */
#ifndef IVSHM_SLEEP_H
#define IVSHM_SLEEP_H

#include "layout.h"

#define IVSHM_SLEEP_GRACE_NS 5000

/* Sleeper: announces it (seq_cst W1). Ends with withdraw, or by the peer that wakes it. */
void ivshm_sleep_announce(struct ivshm_inbox_shm *own, enum ivshm_sleep kind);
void ivshm_sleep_withdraw(struct ivshm_inbox_shm *own);

/*
 * Sleeper: sleeps on the futex for at most `ns`, less than a second; less if it is woken, a signal
 * is handled, or the announcement is gone.
 */
void ivshm_sleep_until_woken(struct ivshm_inbox_shm *own, uint64_t ns);

/*
 * Sender, after publishing: how the owner of that inbox sleeps, or is about to (W1). As untrusted
 * as all that peers write: it may be no value of enum ivshm_sleep.
 */
static inline uint64_t ivshm_sleep_announced(const struct ivshm_inbox_shm *inbox)
{
    return ivshm_a64_load_relaxed(&inbox->sleeper);
}

/*
 * Sender: ends the sleep of this kind. Of several senders only one gets true. One that sleeps on
 * the futex has been woken then; for another, the caller rings its bell. Cost: a system call.
 */
bool ivshm_sleep_wake(struct ivshm_inbox_shm *inbox, enum ivshm_sleep kind);

/*
 * The kernel's part: sleeps while the word is IVSHM_SLEEP_ON_FUTEX, until it is woken or `ns` are
 * over; wakes one sleeper. Weak, so that a model can take that part.
 */
void ivshm_sleep_futex_wait(ivshm_a64 *word, uint64_t ns);
void ivshm_sleep_futex_wake(ivshm_a64 *word);

#endif
