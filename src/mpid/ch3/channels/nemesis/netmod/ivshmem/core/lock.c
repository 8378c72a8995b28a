/* SPDX-License-Identifier: mpich2 */
#include "lock.h"

#define GENERATION_SHIFT 32

static uint64_t word_of(struct ivshm_owner owner)
{
    return (uint64_t) owner.generation << GENERATION_SHIFT | (owner.endpoint + 1);
}

bool ivshm_lock_try(struct ivshm_lock_shm *lock, struct ivshm_owner self,
                    struct ivshm_owner *holder)
{
    /* Relaxed: the CAS checks it again, but would move the line each time. */
    uint64_t word = ivshm_a64_load_relaxed(&lock->holder);
    if (word == 0 && ivshm_a64_cas_seqcst(&lock->holder, 0, word_of(self))) { /* acquire K1 */
        IVSHM_TRACEPOINT(locked);
        return true;
    }
    *holder = (struct ivshm_owner){(uint32_t) word - 1, (uint32_t) (word >> GENERATION_SHIFT)};
    return false;
}

bool ivshm_lock_inherit(struct ivshm_lock_shm *lock, struct ivshm_owner self,
                        struct ivshm_owner holder)
{
    return ivshm_a64_cas_seqcst(&lock->holder, word_of(holder), word_of(self)); /* acquire K1 */
}

void ivshm_lock_init(struct ivshm_lock_shm *lock)
{
    ivshm_a64_store_relaxed(&lock->turns, 0); /* relaxed: others learn of it by a message */
    ivshm_a64_store_relaxed(&lock->holder, 0);
}

void ivshm_lock_watch_update(struct ivshm_lock_shm *lock, struct ivshm_lock_watch *watch,
                             struct ivshm_owner holder, uint64_t now)
{
    /* Relaxed: seen late, it only makes the wait longer. */
    uint64_t turns = ivshm_a64_load_relaxed(&lock->turns);
    bool is_kept = watch->begun && watch->turns == turns &&
                   watch->holder.endpoint == holder.endpoint &&
                   watch->holder.generation == holder.generation;
    uint64_t passed = watch->begun && now != watch->last;

    *watch = (struct ivshm_lock_watch){.holder = holder,
                                       .turns = turns,
                                       .last = now,
                                       .kept = is_kept ? watch->kept + passed : 0,
                                       .waited = watch->waited + passed,
                                       .begun = true};
}

void ivshm_lock_release(struct ivshm_lock_shm *lock)
{
    IVSHM_TRACEPOINT(unlock);
    ivshm_a64_store_relaxed(&lock->turns, ivshm_a64_load_relaxed(&lock->turns) + 1);
    ivshm_a64_store_release(&lock->holder, 0); /* release K1 */
}
