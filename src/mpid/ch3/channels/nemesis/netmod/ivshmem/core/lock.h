/* SPDX-License-Identifier: mpich2 */
/*
 * A lock in the region, for who holds it some hundred instructions long. Its word names the holder,
 * so that it can be taken from one that has died; what that one left half done stays as it is. No
 * queue, and nobody sleeps. Any number of processes; one thread a process, so that a word that
 * names the very process that waits was not written by it.
 */
#ifndef IVSHM_LOCK_H
#define IVSHM_LOCK_H

#include "extent.h"
#include "tracepoint.h"

/* Takes the lock. False if somebody has it: *holder is who, or nonsense that a peer has written. */
bool ivshm_lock_try(struct ivshm_lock_shm *lock, struct ivshm_owner self,
                    struct ivshm_owner *holder);

/* Takes it from `holder`, who must be dead. False if it is not its any more. */
bool ivshm_lock_inherit(struct ivshm_lock_shm *lock, struct ivshm_owner self,
                        struct ivshm_owner holder);

void ivshm_lock_release(struct ivshm_lock_shm *lock);

/* Of a lock that nobody else knows yet. */
void ivshm_lock_init(struct ivshm_lock_shm *lock);

/* What one who waits has seen of a lock; zero before it has looked. */
struct ivshm_lock_watch {
    struct ivshm_owner holder;
    uint64_t turns, last;
    uint64_t kept;   /* how long the same holder has had it, without giving it up once */
    uint64_t waited; /* how long it was not to be had, whoever had it */
    bool begun;
};

/*
 * Whoever waits looks now and then, at times `now`, of any unit: `holder` is who the last try has
 * named. Counted are units in which it has looked, not those that have passed: who was stopped in
 * between has not waited, and a job that was stopped as a whole may go on.
 */
void ivshm_lock_watch_update(struct ivshm_lock_shm *lock, struct ivshm_lock_watch *watch,
                             struct ivshm_owner holder, uint64_t now);

#endif
