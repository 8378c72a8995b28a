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
#include "point.h"

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
    uint64_t turns, since;
    bool begun;
};

/*
 * Whether `holder`, whom the last try named, has had the lock for `limit` or more without giving it
 * up once, as far as one can tell who looks at times `now`, in the same unit.
 */
bool ivshm_lock_is_stuck(struct ivshm_lock_shm *lock, struct ivshm_lock_watch *watch,
                         struct ivshm_owner holder, uint64_t now, uint64_t limit);

#endif
