/* SPDX-License-Identifier: mpich2 */
/*
 * libivshmem: what processes wait for each other by. What changes is in core/lock.h; here are the
 * waits around it, and what a program may do wrong.
 */
#include "lib.h"

#include <errno.h>

_Static_assert(sizeof(ivshmem_mutex) == sizeof(struct ivshm_mutex_shm), "as core has it");
_Static_assert(sizeof(ivshmem_cond) == sizeof(struct ivshm_cond_shm), "as core has it");
_Static_assert(sizeof(ivshmem_rwlock) == sizeof(struct ivshm_rwlock_shm), "as core has it");
_Static_assert(sizeof(ivshmem_barrier) == sizeof(struct ivshm_barrier_shm), "as core has it");
_Static_assert(IVSHMEM_READERS_MAX == IVSHM_READERS_MAX, "as core has it");
_Static_assert(IVSHMEM_MEMBERS_MAX == IVSHM_MEMBERS_MAX, "as core has it");

/* Whether a lock may be used: it lies in a block that the handle may write. */
static int check_place(const struct ivshmem *h, const void *lock, size_t bytes, const char *what)
{
    const struct ivshmem_block *b = h->blocks;
    while (b && ((const char *) lock < b->data || (const char *) lock >= b->data + b->bytes))
        b = b->next;
    if (!b || bytes > b->bytes - (size_t) ((const char *) lock - b->data) ||
        (uintptr_t) lock % IVSHM_LINE)
        return lib_fail(EINVAL,
                        "the %s at %p is not at a multiple of %d bytes in a block that this handle "
                        "has",
                        what, lock, IVSHM_LINE);
    if (b->view.base)
        return lib_fail(EACCES,
                        "the %s at %p is in a block that is attached for reading only: attach it "
                        "without IVSHMEM_READ_ONLY",
                        what, lock);
    return 0;
}

#define CHECK_PLACE(h, lock, what) check_place(h, lock, sizeof(*(lock)), what)

static bool is_self(const struct ivshmem *h, struct ivshm_owner owner)
{
    return owner.endpoint == lib_self(h).endpoint && owner.generation == lib_self(h).generation;
}

static bool is_over(const void *region, struct ivshm_owner owner)
{
    return !ivshm_endpoint_is_live(region, owner);
}

static struct ivshm_fates fates_of(const struct ivshmem *h)
{
    return (struct ivshm_fates){is_over, &h->region};
}

static int fail_timeout(const char *what, struct ivshm_owner holder)
{
    return lib_fail(ETIMEDOUT, "the %s was not free in time: endpoint %u has it, which is alive",
                    what, holder.endpoint);
}

static int fail_self(const char *what)
{
    return lib_fail(EDEADLK, "this handle has the %s already: each thread needs its own handle",
                    what);
}

static int fail_owner_dead(const char *what)
{
    return lib_fail(EOWNERDEAD,
                    "a process died that had the %s for writing: check the data, then call "
                    "ivshmem_%s_consistent",
                    what, what);
}

/* Mutex, and the writer's part of a reader-writer lock */

/* Acquires it; whether it is damaged is another question. */
static int acquire(struct ivshmem *h, struct ivshm_mutex_shm *m, struct lib_wait *wait,
                   const char *what)
{
    const struct ivshm_owner self = lib_self(h);
    struct ivshm_owner holder;
    while (!ivshm_lock_try(&m->lock, self, &holder)) {
        if (is_self(h, holder))
            return fail_self(what);
        if (is_over(&h->region, holder) && ivshm_lock_inherit(&m->lock, self, holder)) {
            ivshm_a64_store_relaxed(&m->damaged, 1);
            break;
        }
        if (lib_wait_more(h, wait) != 0)
            return fail_timeout(what, holder);
    }
    return 0;
}

static void release(struct ivshmem *h, struct ivshm_mutex_shm *m)
{
    ivshm_lock_release(&m->lock);
    lib_wake(h, m->waiter, IVSHM_WAITERS_MUTEX);
}

static int tell_damage(const struct ivshm_mutex_shm *m, const char *what)
{
    return ivshm_a64_load_relaxed(&m->damaged) ? fail_owner_dead(what) : 0;
}

static int check_held(const struct ivshmem *h, const struct ivshm_mutex_shm *m, const char *what)
{
    return ivshm_lock_is_held(&m->lock, lib_self(h))
               ? 0
               : lib_fail(EPERM, "this handle does not have the %s", what);
}

static int lock_mutex(struct ivshmem *h, struct ivshm_mutex_shm *m, int timeout_ms)
{
    struct lib_wait wait;
    int err = lib_wait_begin(&wait, m->waiter, IVSHM_WAITERS_MUTEX, timeout_ms);
    if (err)
        return err;
    err = acquire(h, m, &wait, "mutex");
    lib_wait_end(h, &wait);
    return err ? err : tell_damage(m, "mutex");
}

int ivshmem_mutex_lock(ivshmem *h, ivshmem_mutex *mutex, int timeout_ms)
{
    int err = CHECK_PLACE(h, mutex, "mutex");
    return err ? err : lock_mutex(h, (struct ivshm_mutex_shm *) mutex, timeout_ms);
}

int ivshmem_mutex_unlock(ivshmem *h, ivshmem_mutex *mutex)
{
    struct ivshm_mutex_shm *m = (struct ivshm_mutex_shm *) mutex;
    int err = CHECK_PLACE(h, mutex, "mutex");
    if (!err)
        err = check_held(h, m, "mutex");
    if (!err)
        release(h, m);
    return err;
}

int ivshmem_mutex_consistent(ivshmem *h, ivshmem_mutex *mutex)
{
    struct ivshm_mutex_shm *m = (struct ivshm_mutex_shm *) mutex;
    int err = CHECK_PLACE(h, mutex, "mutex");
    if (!err)
        err = check_held(h, m, "mutex");
    if (!err)
        ivshm_a64_store_relaxed(&m->damaged, 0);
    return err;
}

/* Reader-writer lock */

/* A writer has died: who finds that marks the lock, and lets go of it again. */
static void bury_writer(struct ivshmem *h, struct ivshm_rwlock_shm *l, struct ivshm_owner holder)
{
    if (!is_over(&h->region, holder) || !ivshm_lock_inherit(&l->writer.lock, lib_self(h), holder))
        return;
    ivshm_a64_store_relaxed(&l->writer.damaged, 1);
    release(h, &l->writer);
}

int ivshmem_rwlock_rdlock(ivshmem *h, ivshmem_rwlock *lock, int timeout_ms)
{
    struct ivshm_rwlock_shm *l = (struct ivshm_rwlock_shm *) lock;
    struct lib_wait wait;
    struct ivshm_owner holder = lib_self(h);
    int got, err = CHECK_PLACE(h, lock, "rwlock");
    if (!err && ivshm_rwlock_is_read(l, holder))
        err = fail_self("rwlock");
    if (!err)
        err = lib_wait_begin(&wait, l->writer.waiter, IVSHM_WAITERS_MUTEX, timeout_ms);
    if (err)
        return err;
    const struct ivshm_fates fates = fates_of(h);
    while ((got = ivshm_rwlock_try_read(l, lib_self(h), &holder)) != 0) {
        if (got == -EBUSY && is_self(h, holder))
            err = fail_self("rwlock");
        else if (got == -EBUSY)
            bury_writer(h, l, holder);
        else
            ivshm_rwlock_has_no_readers(l, &fates); /* or those that are alive */
        if (!err && lib_wait_more(h, &wait) != 0)
            err = got == -EBUSY
                      ? fail_timeout("rwlock", holder)
                      : lib_fail(ETIMEDOUT, "the rwlock has %d readers, as many as it can have",
                                 IVSHM_READERS_MAX);
        if (err)
            break;
    }
    lib_wait_end(h, &wait);
    return err ? err : tell_damage(&l->writer, "rwlock");
}

/* For who has the writer's part. */
static int await_readers(struct ivshmem *h, struct ivshm_rwlock_shm *l, struct lib_wait *wait)
{
    const struct ivshm_fates fates = fates_of(h);
    while (!ivshm_rwlock_has_no_readers(l, &fates))
        if (lib_wait_more(h, wait) != 0)
            return lib_fail(ETIMEDOUT, "the rwlock was not free in time: it has readers, which are "
                                       "alive");
    return 0;
}

int ivshmem_rwlock_wrlock(ivshmem *h, ivshmem_rwlock *lock, int timeout_ms)
{
    struct ivshm_rwlock_shm *l = (struct ivshm_rwlock_shm *) lock;
    struct lib_wait wait;
    int err = CHECK_PLACE(h, lock, "rwlock");
    if (!err && ivshm_rwlock_is_read(l, lib_self(h)))
        err = fail_self("rwlock");
    if (!err)
        err = lib_wait_begin(&wait, l->writer.waiter, IVSHM_WAITERS_MUTEX, timeout_ms);
    if (err)
        return err;
    err = acquire(h, &l->writer, &wait, "rwlock");
    if (!err) {
        err = await_readers(h, l, &wait);
        if (err)
            release(h, &l->writer);
    }
    lib_wait_end(h, &wait);
    return err ? err : tell_damage(&l->writer, "rwlock");
}

int ivshmem_rwlock_unlock(ivshmem *h, ivshmem_rwlock *lock)
{
    struct ivshm_rwlock_shm *l = (struct ivshm_rwlock_shm *) lock;
    int err = CHECK_PLACE(h, lock, "rwlock");
    if (err)
        return err;
    if (ivshm_lock_is_held(&l->writer.lock, lib_self(h)))
        release(h, &l->writer);
    else if (ivshm_rwlock_end_read(l, lib_self(h)))
        lib_wake(h, l->writer.waiter, IVSHM_WAITERS_MUTEX);
    else
        err = lib_fail(EPERM, "this handle does not have the rwlock");
    return err;
}

int ivshmem_rwlock_consistent(ivshmem *h, ivshmem_rwlock *lock)
{
    struct ivshm_rwlock_shm *l = (struct ivshm_rwlock_shm *) lock;
    int err = CHECK_PLACE(h, lock, "rwlock");
    if (!err && !ivshm_lock_is_held(&l->writer.lock, lib_self(h)))
        err = lib_fail(EPERM, "this handle does not have the rwlock for writing");
    if (!err)
        ivshm_a64_store_relaxed(&l->writer.damaged, 0);
    return err;
}

/* Condition */

/* Until the mutex is there again; what became of the condition is `err`. */
static int acquire_again(struct ivshmem *h, struct ivshm_mutex_shm *m, int timeout_ms, int err)
{
    enum { LEAST_MS = 1000 };
    struct ivshm_diag before = *lib_diag();
    int got = lock_mutex(h, m, timeout_ms < LEAST_MS ? LEAST_MS : timeout_ms);
    if (got == -ETIMEDOUT)
        return lib_fail(EBUSY, "after the wait for a condition, the mutex was not free in time: "
                               "this handle does not have it");
    if (!got)
        *lib_diag() = before;
    return got ? got : err;
}

int ivshmem_cond_wait(ivshmem *h, ivshmem_cond *cond, ivshmem_mutex *mutex, int timeout_ms)
{
    struct ivshm_cond_shm *c = (struct ivshm_cond_shm *) cond;
    struct ivshm_mutex_shm *m = (struct ivshm_mutex_shm *) mutex;
    struct lib_wait wait;
    int err = CHECK_PLACE(h, cond, "condition");
    if (!err)
        err = CHECK_PLACE(h, mutex, "mutex");
    if (!err)
        err = check_held(h, m, "mutex");
    if (!err)
        err = lib_wait_begin(&wait, c->waiter, IVSHM_WAITERS_COND, timeout_ms);
    if (err)
        return err;
    /* Relaxed: who notifies has changed the data in the mutex, from which they are read. */
    uint64_t before = ivshm_a64_load_relaxed(&c->sequence);
    release(h, m);
    while (!err && ivshm_a64_load_relaxed(&c->sequence) == before)
        if (lib_wait_more(h, &wait) != 0)
            err = lib_fail(ETIMEDOUT, "nobody has notified the condition in time");
    lib_wait_end(h, &wait);
    return acquire_again(h, m, timeout_ms, err);
}

int ivshmem_cond_broadcast(ivshmem *h, ivshmem_cond *cond)
{
    struct ivshm_cond_shm *c = (struct ivshm_cond_shm *) cond;
    int err = CHECK_PLACE(h, cond, "condition");
    if (err)
        return err;
    ivshm_a64_add_seqcst(&c->sequence, 1);
    lib_wake(h, c->waiter, IVSHM_WAITERS_COND);
    return 0;
}

/* Barrier */

static int check_barrier(const struct ivshmem *h, const ivshmem_barrier *barrier, unsigned members)
{
    int err = CHECK_PLACE(h, barrier, "barrier");
    if (!err && (members < 1 || members > IVSHM_MEMBERS_MAX))
        err = lib_fail(EINVAL, "a barrier of %u members: expected 1 to %d", members,
                       IVSHM_MEMBERS_MAX);
    return err;
}

int ivshmem_barrier_wait(ivshmem *h, ivshmem_barrier *barrier, unsigned members, int timeout_ms)
{
    struct ivshm_barrier_shm *b = (struct ivshm_barrier_shm *) barrier;
    const struct ivshm_fates fates = fates_of(h);
    struct lib_wait wait;
    uint32_t turn;
    int err = check_barrier(h, barrier, members);
    if (!err)
        err = lib_wait_begin(&wait, b->waiter, IVSHM_WAITERS_BARRIER, timeout_ms);
    if (err)
        return err;
    if (ivshm_barrier_arrive(b, members, lib_self(h), &fates, &turn) != 0)
        return lib_fail(ENOSPC, "the barrier has its %u members already, which are alive", members);
    lib_wake(h, b->waiter, IVSHM_WAITERS_BARRIER);
    while ((err = ivshm_barrier_check(b, members, &fates, turn)) == -EAGAIN)
        if (lib_wait_more(h, &wait) != 0) {
            err = lib_fail(ETIMEDOUT, "not all %u members came to the barrier in time", members);
            break;
        }
    lib_wait_end(h, &wait);
    if (!err)
        ivshm_barrier_pass(b, members, lib_self(h));
    else if (err == -EOWNERDEAD)
        lib_fail(EOWNERDEAD, "a member of the barrier has died or left: start another one, or go "
                             "on without it by ivshmem_barrier_consistent");
    return err;
}

int ivshmem_barrier_consistent(ivshmem *h, ivshmem_barrier *barrier, unsigned members)
{
    struct ivshm_barrier_shm *b = (struct ivshm_barrier_shm *) barrier;
    const struct ivshm_fates fates = fates_of(h);
    int err = check_barrier(h, barrier, members);
    if (err)
        return err;
    ivshm_barrier_drop(b, members, &fates);
    lib_wake(h, b->waiter, IVSHM_WAITERS_BARRIER);
    return 0;
}
