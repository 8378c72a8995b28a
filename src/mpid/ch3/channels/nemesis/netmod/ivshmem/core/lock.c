/* SPDX-License-Identifier: mpich2 */
#include "lock.h"

#include <errno.h>

#define GENERATION_SHIFT 32

static uint64_t word_of(struct ivshm_owner owner)
{
    return (uint64_t) owner.generation << GENERATION_SHIFT | (owner.endpoint + 1);
}

static struct ivshm_owner owner_of(uint64_t word)
{
    return (struct ivshm_owner){(uint32_t) word - 1, (uint32_t) (word >> GENERATION_SHIFT)};
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
    *holder = owner_of(word);
    return false;
}

bool ivshm_lock_is_held(const struct ivshm_lock_shm *lock, struct ivshm_owner self)
{
    return ivshm_a64_load_relaxed(&lock->holder) == word_of(self);
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

/* Waiters */

int ivshm_waiters_add(ivshm_a64 *waiters, int count, struct ivshm_owner self)
{
    for (int i = 0; i < count; i++)
        if (ivshm_a64_load_relaxed(&waiters[i]) == 0 &&
            ivshm_a64_cas_seqcst(&waiters[i], 0, word_of(self)))
            return i;
    return -1;
}

void ivshm_waiters_remove(ivshm_a64 *waiters, int place, struct ivshm_owner self)
{
    ivshm_a64_cas_seqcst(&waiters[place], word_of(self), 0);
}

bool ivshm_waiters_get(const ivshm_a64 *waiters, int place, struct ivshm_owner *owner)
{
    uint64_t word = ivshm_a64_load_relaxed(&waiters[place]); /* relaxed: a hint, as in sleep.h */
    *owner = owner_of(word);
    return word != 0;
}

/* Readers and a writer */

/* Where a reader's word is, if another process has not been faster. */
static uint32_t first_place(struct ivshm_owner self)
{
    return self.endpoint % IVSHM_READERS_MAX;
}

static ivshm_a64 *find_reader(const struct ivshm_rwlock_shm *lock, uint64_t word, uint32_t from)
{
    for (uint32_t i = 0; i < IVSHM_READERS_MAX; i++) {
        const ivshm_a64 *reader = &lock->reader[(from + i) % IVSHM_READERS_MAX];
        if (ivshm_a64_load_relaxed(reader) == word) /* relaxed: a CAS, or its owner, follows */
            return (ivshm_a64 *) (uintptr_t) reader;
    }
    return NULL;
}

int ivshm_rwlock_try_read(struct ivshm_rwlock_shm *lock, struct ivshm_owner self,
                          struct ivshm_owner *holder)
{
    ivshm_a64 *reader = NULL;
    /* Relaxed: it is loaded again. Who wants to write comes first. */
    uint64_t writer = ivshm_a64_load_relaxed(&lock->writer.lock.holder);
    for (int tries = 0; writer == 0 && !reader && tries < IVSHM_READERS_MAX; tries++) {
        reader = find_reader(lock, 0, first_place(self));
        if (!reader)
            return -EAGAIN;
        if (!ivshm_a64_cas_seqcst(reader, 0, word_of(self))) /* K2 */
            reader = NULL;
    }
    if (writer == 0 && !reader)
        return -EAGAIN;
    if (reader) {
        writer = ivshm_a64_load_seqcst(&lock->writer.lock.holder); /* K2, and acquire K1 */
        if (writer == 0)
            return 0;
        ivshm_a64_store_release(reader, 0);
    }
    *holder = owner_of(writer);
    return -EBUSY;
}

bool ivshm_rwlock_is_read(const struct ivshm_rwlock_shm *lock, struct ivshm_owner self)
{
    return find_reader(lock, word_of(self), first_place(self));
}

bool ivshm_rwlock_end_read(struct ivshm_rwlock_shm *lock, struct ivshm_owner self)
{
    ivshm_a64 *reader = find_reader(lock, word_of(self), first_place(self));
    if (reader)
        ivshm_a64_store_release(reader, 0); /* release K2 */
    return reader;
}

bool ivshm_rwlock_has_no_readers(struct ivshm_rwlock_shm *lock, const struct ivshm_fates *fates)
{
    for (uint32_t i = 0; i < IVSHM_READERS_MAX; i++) {
        uint64_t word = ivshm_a64_load_seqcst(&lock->reader[i]); /* K2 */
        if (word == 0)
            continue;
        if (!fates->is_over(fates->arg, owner_of(word)))
            return false;
        ivshm_a64_cas_seqcst(&lock->reader[i], word, 0);
    }
    return true;
}

/* Barrier */

#define MEMBER_SHIFT 35
#define MEMBER_MASK ((UINT64_C(1) << MEMBER_SHIFT) - 1)
#define TURN_BITS 29
#define TURN_MASK ((UINT32_C(1) << TURN_BITS) - 1)
#define DROPPED UINT64_MAX /* names no endpoint that can be */

static uint64_t member_bits(struct ivshm_owner owner)
{
    return (uint64_t) (owner.endpoint + 1) | (uint64_t) owner.generation << 16;
}

static struct ivshm_owner member_of(uint64_t word)
{
    return (struct ivshm_owner){(uint32_t) (word & 0xffff) - 1, (uint32_t) (word >> 16 & 0x7ffff)};
}

static uint32_t turn_of(uint64_t word)
{
    return (uint32_t) (word >> MEMBER_SHIFT);
}

static uint64_t with_turn(struct ivshm_owner owner, uint32_t turn)
{
    return member_bits(owner) | (uint64_t) (turn & TURN_MASK) << MEMBER_SHIFT;
}

static bool is_over(const struct ivshm_fates *fates, uint64_t word)
{
    return word != 0 && word != DROPPED && fates->is_over(fates->arg, member_of(word));
}

/* `self`'s word, or NULL. */
static ivshm_a64 *find_member(const struct ivshm_barrier_shm *barrier, uint32_t members,
                              struct ivshm_owner self)
{
    for (uint32_t i = 0; i < members; i++)
        /* Relaxed: nobody else stores it. */
        if ((ivshm_a64_load_relaxed(&barrier->member[i]) & MEMBER_MASK) == member_bits(self))
            return (ivshm_a64 *) (uintptr_t) &barrier->member[i];
    return NULL;
}

/* A place that is empty, or whose member is over, with its turn. */
static ivshm_a64 *take_place(struct ivshm_barrier_shm *barrier, uint32_t members,
                             struct ivshm_owner self, const struct ivshm_fates *fates)
{
    for (uint32_t i = 0; i < members; i++) {
        uint64_t word = ivshm_a64_load_relaxed(&barrier->member[i]); /* relaxed: the CAS checks */
        if ((word == 0 || is_over(fates, word)) &&
            ivshm_a64_cas_seqcst(&barrier->member[i], word, with_turn(self, turn_of(word))))
            return &barrier->member[i];
    }
    return NULL;
}

int ivshm_barrier_arrive(struct ivshm_barrier_shm *barrier, uint32_t members,
                         struct ivshm_owner self, const struct ivshm_fates *fates, uint32_t *turn)
{
    ivshm_a64 *place = find_member(barrier, members, self);
    if (!place)
        place = take_place(barrier, members, self, fates);
    if (!place)
        return -ENOSPC;
    *turn = turn_of(ivshm_a64_load_relaxed(place)); /* relaxed: our own */
    if (*turn % 2 == 0) {
        *turn = (*turn + 1) & TURN_MASK;
        ivshm_a64_store_release(place, with_turn(self, *turn)); /* release K3 */
    }
    return 0;
}

int ivshm_barrier_check(const struct ivshm_barrier_shm *barrier, uint32_t members,
                        const struct ivshm_fates *fates, uint32_t turn)
{
    int state = 0;
    for (uint32_t i = 0; i < members; i++) {
        uint64_t word = ivshm_a64_load_acquire(&barrier->member[i]); /* acquire K3 */
        uint32_t ahead = (turn_of(word) - turn) & TURN_MASK;
        if (word == DROPPED || (word != 0 && ahead <= TURN_MASK / 2))
            continue;
        if (is_over(fates, word))
            return -EOWNERDEAD;
        state = -EAGAIN;
    }
    return state;
}

void ivshm_barrier_pass(struct ivshm_barrier_shm *barrier, uint32_t members,
                        struct ivshm_owner self)
{
    ivshm_a64 *place = find_member(barrier, members, self);
    if (place) /* Release K3, as others may see it before they see that it had arrived. */
        ivshm_a64_store_release(place, with_turn(self, turn_of(ivshm_a64_load_relaxed(place)) + 1));
}

void ivshm_barrier_drop(struct ivshm_barrier_shm *barrier, uint32_t members,
                        const struct ivshm_fates *fates)
{
    for (uint32_t i = 0; i < members; i++) {
        uint64_t word = ivshm_a64_load_relaxed(&barrier->member[i]); /* relaxed: the CAS checks */
        if (is_over(fates, word))
            ivshm_a64_cas_seqcst(&barrier->member[i], word, DROPPED);
    }
}
