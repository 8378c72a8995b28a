/* SPDX-License-Identifier: mpich2 */
/*
 * A lock in the region, held for some hundred instructions at a time, and what programs make of it.
 * Like a robust mutex, its word names the holder, so it can be taken over from a process that has
 * died; what that process left half done stays as it is. A spin lock: there is no queue, nobody
 * sleeps, and no call waits.
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

/* Whether it is held by `self`. Relaxed: only `self` itself makes that true or false. */
bool ivshm_lock_is_held(const struct ivshm_lock_shm *lock, struct ivshm_owner self);

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

/*
 * The following lie in named blocks (named.h), in the programs' own memory: their layout is that of
 * the blocks' version. All-zero is the valid first state of each. They are made of words that name
 * processes, so that nobody waits for the dead; and every call costs constant time, and waits for
 * nobody. A peer may write any word: it can break the lock, and no more.
 */

/* Who asks to be woken when the state changes: a hint, as an announced sleep is. Edge W1. */
#define IVSHM_WAITERS_MUTEX 5
#define IVSHM_WAITERS_COND 7
#define IVSHM_WAITERS_BARRIER 8

/* Free or held by the process that the lock names; `damaged` if a holder has died since. */
struct ivshm_mutex_shm {
    struct ivshm_lock_shm lock;
    ivshm_a64 damaged;                     /* holder stores and loads, relaxed: ordered by K1 */
    ivshm_a64 waiter[IVSHM_WAITERS_MUTEX]; /* waiters CAS, whoever changes the state loads */
};

struct ivshm_cond_shm {
    ivshm_a64 sequence; /* number of notifications; notifier adds, waiters load, relaxed */
    ivshm_a64 waiter[IVSHM_WAITERS_COND];
};

/* As the mutex, with readers beside each other. They stay out while somebody has the mutex. */
#define IVSHM_READERS_MAX 56
struct ivshm_rwlock_shm {
    struct ivshm_mutex_shm writer;
    ivshm_a64 reader[IVSHM_READERS_MAX]; /* as `holder` of a lock; K2 */
};

/*
 * A member's word: bits 0-15 endpoint index + 1 | 16-34 generation | 35-63 how often it has arrived
 * and passed; odd while it waits. Arrival K3.
 */
#define IVSHM_MEMBERS_MAX 56
struct ivshm_barrier_shm {
    ivshm_a64 waiter[IVSHM_WAITERS_BARRIER];
    ivshm_a64 member[IVSHM_MEMBERS_MAX];
};

_Static_assert(sizeof(struct ivshm_mutex_shm) == IVSHM_LINE, "programs have the size");
_Static_assert(sizeof(struct ivshm_cond_shm) == IVSHM_LINE, "programs have the size");
_Static_assert(sizeof(struct ivshm_rwlock_shm) == 8 * IVSHM_LINE, "programs have the size");
_Static_assert(sizeof(struct ivshm_barrier_shm) == 8 * IVSHM_LINE, "programs have the size");

/* Whether a claim is over: its process has left or died. */
struct ivshm_fates {
    bool (*is_over)(const void *arg, struct ivshm_owner owner);
    const void *arg;
};

/* Enters `self` among the waiters: returns its place, or -1 if there is none. */
int ivshm_waiters_add(ivshm_a64 *waiters, int count, struct ivshm_owner self);
void ivshm_waiters_remove(ivshm_a64 *waiters, int place, struct ivshm_owner self);
/* False if nobody is at that place; else *owner, which may be nonsense. */
bool ivshm_waiters_get(const ivshm_a64 *waiters, int place, struct ivshm_owner *owner);

/*
 * Acquires it for reading. 0; -EBUSY *holder has it for writing; -EAGAIN it has as many readers as
 * can be. Stores its own word, then loads the writer's, seq_cst both, and the writer does the
 * contrary (K2), so at least one of two sees the other.
 */
int ivshm_rwlock_try_read(struct ivshm_rwlock_shm *lock, struct ivshm_owner self,
                          struct ivshm_owner *holder);
/* Ends that (release K2). False if `self` is no reader. */
bool ivshm_rwlock_end_read(struct ivshm_rwlock_shm *lock, struct ivshm_owner self);
/* Whether no reader is left (acquire K2), for who has the writer's lock. The dead are no readers.
 */
bool ivshm_rwlock_has_no_readers(struct ivshm_rwlock_shm *lock, const struct ivshm_fates *fates);
bool ivshm_rwlock_is_read(const struct ivshm_rwlock_shm *lock, struct ivshm_owner self);

/*
 * Arrives (release K3), unless `self` has arrived and not passed. Takes the place of a member that
 * is over, if it has none. 0 and *turn, for the calls below; -ENOSPC all `members` have theirs.
 */
int ivshm_barrier_arrive(struct ivshm_barrier_shm *barrier, uint32_t members,
                         struct ivshm_owner self, const struct ivshm_fates *fates, uint32_t *turn);

/*
 * Whether all have arrived in that turn (acquire K3): 0; -EAGAIN not yet; -EOWNERDEAD nor will they
 * ever, as one is over.
 */
int ivshm_barrier_check(const struct ivshm_barrier_shm *barrier, uint32_t members,
                        const struct ivshm_fates *fates, uint32_t turn);

/* Passes; what follows is the next turn. */
void ivshm_barrier_pass(struct ivshm_barrier_shm *barrier, uint32_t members,
                        struct ivshm_owner self);

/* From now on it is one of those members less that are over. */
void ivshm_barrier_drop(struct ivshm_barrier_shm *barrier, uint32_t members,
                        const struct ivshm_fates *fates);

#endif
