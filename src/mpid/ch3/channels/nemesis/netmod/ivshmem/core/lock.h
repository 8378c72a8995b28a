/* SPDX-License-Identifier: mpich2 */
/*
 * A lock in the region, held for some hundred instructions at a time. Like a robust mutex, its word
 * names the holder, so it can be taken over from a process that has died; what that process left
 * half done stays as it is. A spin lock: there is no queue, nobody sleeps, and no call waits.
 *
 * Any number of processes, but only one thread in each: so if a word names the waiting process
 * itself, that process did not write it. Every call costs constant time. Edge K1: whoever acquires
 * the lock sees everything that was done under it before.
 */
#ifndef IVSHM_LOCK_H
#define IVSHM_LOCK_H

#include "extent.h"
#include "tracepoint.h"

/*
 * Acquires the lock (acquire K1). False if another process holds it, or was faster: *holder is what
 * the word said, which may be nonsense that a peer has written.
 */
bool ivshm_lock_try(struct ivshm_lock_shm *lock, struct ivshm_owner self,
                    struct ivshm_owner *holder);

/*
 * Takes the lock over from `holder`, which must be dead (acquire K1). False if that process does
 * not hold it any more.
 */
bool ivshm_lock_inherit(struct ivshm_lock_shm *lock, struct ivshm_owner self,
                        struct ivshm_owner holder);

/* Releases the lock (release K1). Only the holder may call it. */
void ivshm_lock_release(struct ivshm_lock_shm *lock);

/* Initialises a lock that nobody else knows yet. Others learn of it by a message (Q1 or R1). */
void ivshm_lock_init(struct ivshm_lock_shm *lock);

/*
 * What a waiter has seen of a lock. All-zero at the beginning of the wait. For reading: `kept` and
 * `waited`, in the unit of `now`.
 */
struct ivshm_lock_watch {
    struct ivshm_owner holder;
    uint64_t turns, last;
    uint64_t kept;   /* how long the same holder has held it without a release */
    uint64_t waited; /* how long it was not available, whoever held it */
    bool begun;
};

/*
 * For a waiter, now and then: `holder` is what the last try returned, `now` a time in any unit.
 * Counts the units of time in which it was called, not those that have passed. So a process that
 * was stopped has not waited meanwhile, and a job that was stopped as a whole may continue.
 */
void ivshm_lock_watch_update(struct ivshm_lock_shm *lock, struct ivshm_lock_watch *watch,
                             struct ivshm_owner holder, uint64_t now);

#endif
