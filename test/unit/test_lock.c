/* SPDX-License-Identifier: mpich2 */
#include "unit.h"

static const struct ivshm_owner one = {0, 0}, other = {4095, (1u << 19) - 1};

static bool is(struct ivshm_owner a, struct ivshm_owner b)
{
    return a.endpoint == b.endpoint && a.generation == b.generation;
}

TEST(test_try_and_release)
{
    struct ivshm_lock_shm lock = {{0}, {0}};
    struct ivshm_owner holder;
    assert_true(ivshm_lock_try(&lock, one, &holder));
    assert_false(ivshm_lock_try(&lock, other, &holder));
    assert_true(is(holder, one));
    assert_false(ivshm_lock_try(&lock, one, &holder)); /* not even by its holder a second time */
    ivshm_lock_release(&lock);
    assert_true(ivshm_lock_try(&lock, other, &holder));
    assert_false(ivshm_lock_try(&lock, one, &holder));
    assert_true(is(holder, other));
}

/* If several find the holder dead, one inherits; and never from another holder. */
TEST(test_inherit)
{
    struct ivshm_lock_shm lock = {{0}, {0}};
    struct ivshm_owner holder, reborn = {one.endpoint, one.generation + 1}, third = {7, 7};
    assert_true(ivshm_lock_try(&lock, one, &holder));
    assert_false(ivshm_lock_inherit(&lock, third, reborn));
    assert_true(ivshm_lock_inherit(&lock, other, one));
    assert_false(ivshm_lock_inherit(&lock, third, one));
    assert_false(ivshm_lock_try(&lock, third, &holder));
    assert_true(is(holder, other));
    ivshm_lock_release(&lock);
    assert_false(ivshm_lock_inherit(&lock, third, other));
    assert_true(ivshm_lock_try(&lock, third, &holder));
}

/* Whatever a peer writes into the word, the lock can be had from the holder that it names. */
TEST(test_nonsense)
{
    const uint64_t words[] = {1, UINT32_MAX, UINT64_C(1) << 32, UINT64_MAX, UINT64_C(5) << 60};
    for (size_t i = 0; i < LENGTH(words); i++) {
        struct ivshm_lock_shm lock = {{words[i]}, {0}};
        struct ivshm_owner holder;
        assert_false(ivshm_lock_try(&lock, one, &holder));
        assert_true(ivshm_lock_inherit(&lock, one, holder) || is(holder, one));
    }
}

/* A lock counts as kept if its holder has not released it in between. */
TEST(test_kept)
{
    struct ivshm_lock_shm lock;
    struct ivshm_lock_watch watch = {0};
    struct ivshm_owner holder;
#define POLL(now) (ivshm_lock_watch_update(&lock, &watch, holder, now), watch.kept)

    memset(&lock, 0xff, sizeof(lock)); /* what another lock's state had left there */
    ivshm_lock_init(&lock);
    assert_true(ivshm_lock_try(&lock, one, &holder));
    assert_false(ivshm_lock_try(&lock, other, &holder));
    assert_int_equal(POLL(1000), 0); /* the first poll */
    for (uint64_t i = 1; i <= 60; i++) {
        assert_int_equal(POLL(1000 + i), i);
        assert_int_equal(POLL(1000 + i), i); /* twice in a second counts once */
    }
    assert_int_equal(POLL(9000),
                     61); /* the waiter was stopped in between, as the holder may have been */

    ivshm_lock_release(&lock); /* released and taken again, which the waiter sees only by `turns` */
    assert_true(ivshm_lock_try(&lock, one, &holder));
    assert_false(ivshm_lock_try(&lock, other, &holder));
    assert_int_equal(POLL(9001), 0);
    assert_int_equal(POLL(9002), 1);

    assert_true(ivshm_lock_inherit(&lock, other, one)); /* now another holder has it */
    assert_false(ivshm_lock_try(&lock, one, &holder));
    assert_int_equal(POLL(9003), 0);
    assert_int_equal(POLL(9004), 1);
    holder.generation++; /* or another process on the same endpoint */
    assert_int_equal(POLL(9005), 0);
}

/* However often it was released. */
TEST(test_kept_at_the_wrap)
{
    struct ivshm_lock_shm lock = {{0}, {UINT64_MAX}};
    struct ivshm_lock_watch watch = {0};
    struct ivshm_owner holder = one;

    assert_true(ivshm_lock_try(&lock, one, &holder));
    assert_int_equal(POLL(0), 0);
    assert_int_equal(POLL(1), 1);
    ivshm_lock_release(&lock);
    assert_true(ivshm_lock_try(&lock, one, &holder));
    assert_int_equal(POLL(2), 0);
    assert_int_equal(POLL(3), 1);
}

/* If holder, or turns, or both change, the wait as a whole still counts on. */
TEST(test_waited)
{
    struct ivshm_lock_shm lock = {{0}, {0}};
    struct ivshm_lock_watch watch = {0};
    struct ivshm_owner holder = one;

    for (uint64_t i = 0; i < 1000; i++) {
        holder = i % 3 == 0 ? one : other;
        ivshm_a64_store_relaxed(&lock.turns, i / 2);
        assert_in_range(POLL(50 + i), 0, 1);
        assert_int_equal(watch.waited, i);
    }
    assert_in_range(POLL(100000), 0, 1);
    assert_int_equal(watch.waited, 1000);
}

#define THREADS 4
#define ROUNDS 20000

static struct ivshm_lock_shm shared;
static uint64_t plain; /* what the lock protects */

static void *count(void *arg)
{
    struct ivshm_owner self = {(uint32_t) (uintptr_t) arg, 1}, holder;
    for (int i = 0; i < ROUNDS; i++) {
        while (!ivshm_lock_try(&shared, self, &holder))
            sched_yield();
        plain++;
        ivshm_lock_release(&shared);
    }
    return NULL;
}

TEST(test_threads)
{
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        must(pthread_create(&threads[i], NULL, count, (void *) i) == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(plain, THREADS * ROUNDS);
}

/* What programs make of it */

static struct ivshm_owner gone = {UINT32_MAX, 0}; /* the one that is over */

static bool is_gone(const void *arg, struct ivshm_owner owner)
{
    (void) arg;
    return is(owner, gone);
}

static const struct ivshm_fates fates = {is_gone, NULL};

static struct ivshm_owner number(uint32_t n)
{
    return (struct ivshm_owner){n, n * 7 % (1u << 19)};
}

TEST(test_is_held)
{
    struct ivshm_lock_shm lock = {{0}, {0}};
    struct ivshm_owner holder;
    assert_false(ivshm_lock_is_held(&lock, one));
    assert_true(ivshm_lock_try(&lock, one, &holder));
    assert_true(ivshm_lock_is_held(&lock, one));
    assert_false(ivshm_lock_is_held(&lock, other));
}

TEST(test_waiters)
{
    struct ivshm_cond_shm cond = {0};
    struct ivshm_owner owner;
    for (int i = 0; i < IVSHM_WAITERS_COND; i++)
        assert_int_equal(ivshm_waiters_add(cond.waiter, IVSHM_WAITERS_COND, number(i)), i);
    assert_int_equal(ivshm_waiters_add(cond.waiter, IVSHM_WAITERS_COND, one), -1);
    ivshm_waiters_remove(cond.waiter, 3, one); /* it is another one's */
    assert_true(ivshm_waiters_get(cond.waiter, 3, &owner));
    assert_true(is(owner, number(3)));
    ivshm_waiters_remove(cond.waiter, 3, number(3));
    assert_false(ivshm_waiters_get(cond.waiter, 3, &owner));
    assert_int_equal(ivshm_waiters_add(cond.waiter, IVSHM_WAITERS_COND, one), 3);
}

TEST(test_readers)
{
    struct ivshm_rwlock_shm lock = {0};
    struct ivshm_owner holder;
    for (uint32_t i = 0; i < IVSHM_READERS_MAX; i++)
        assert_int_equal(ivshm_rwlock_try_read(&lock, number(i * 57), &holder), 0);
    assert_int_equal(ivshm_rwlock_try_read(&lock, one, &holder), -EAGAIN);
    assert_true(ivshm_rwlock_is_read(&lock, number(57)));
    assert_true(ivshm_lock_try(&lock.writer.lock, other, &holder));
    assert_false(ivshm_rwlock_has_no_readers(&lock, &fates));
    for (uint32_t i = 1; i < IVSHM_READERS_MAX; i++)
        assert_true(ivshm_rwlock_end_read(&lock, number(i * 57)));
    assert_false(ivshm_rwlock_end_read(&lock, number(57)));
    assert_false(ivshm_rwlock_has_no_readers(&lock, &fates));
    gone = number(0); /* the last one dies */
    assert_true(ivshm_rwlock_has_no_readers(&lock, &fates));
    assert_int_equal(ivshm_rwlock_try_read(&lock, one, &holder), -EBUSY);
    assert_true(is(holder, other));
    ivshm_lock_release(&lock.writer.lock);
    assert_int_equal(ivshm_rwlock_try_read(&lock, one, &holder), 0);
}

/* Whatever a peer writes, a call ends, and touches nothing but the lock. */
TEST(test_readers_and_nonsense)
{
    struct ivshm_owner holder;
    uint64_t seed = 1;
    for (int i = 0; i < 1000; i++) {
        struct ivshm_rwlock_shm *lock = malloc(sizeof(*lock));
        for (size_t k = 0; k < sizeof(*lock); k++)
            ((char *) lock)[k] = (char) random_next(&seed);
        ivshm_rwlock_try_read(lock, one, &holder);
        ivshm_rwlock_end_read(lock, one);
        ivshm_rwlock_has_no_readers(lock, &fates);
        free(lock);
    }
}

static int arrive(struct ivshm_barrier_shm *b, uint32_t members, struct ivshm_owner self,
                  uint32_t *turn)
{
    return ivshm_barrier_arrive(b, members, self, &fates, turn);
}

/* Near the wrap of the turns, too. */
TEST(test_barrier)
{
    const uint64_t begins[] = {0, ((1u << 29) - 4)};
    gone = (struct ivshm_owner){UINT32_MAX, 0};
    for (size_t k = 0; k < LENGTH(begins); k++) {
        struct ivshm_barrier_shm b = {0};
        uint32_t turn[2];
        for (uint64_t i = 0; i < 2; i++)
            b.member[i].word =
                (number(i).endpoint + 1) | (uint64_t) number(i).generation << 16 | begins[k] << 35;
        for (int round = 0; round < 8; round++) {
            assert_int_equal(arrive(&b, 2, number(0), &turn[0]), 0);
            assert_int_equal(ivshm_barrier_check(&b, 2, &fates, turn[0]), -EAGAIN);
            assert_int_equal(arrive(&b, 2, number(0), &turn[0]), 0); /* it still waits */
            assert_int_equal(ivshm_barrier_check(&b, 2, &fates, turn[0]), -EAGAIN);
            assert_int_equal(arrive(&b, 2, number(1), &turn[1]), 0);
            assert_int_equal(turn[0], turn[1]);
            assert_int_equal(ivshm_barrier_check(&b, 2, &fates, turn[1]), 0);
            ivshm_barrier_pass(&b, 2, number(1));
            assert_int_equal(arrive(&b, 2, number(1), &turn[1]), 0); /* and comes again at once */
            assert_int_equal(ivshm_barrier_check(&b, 2, &fates, turn[0]), 0);
            ivshm_barrier_pass(&b, 2, number(0));
            assert_int_equal(ivshm_barrier_check(&b, 2, &fates, turn[1]), -EAGAIN);
            assert_int_equal(arrive(&b, 2, number(0), &turn[0]), 0);
            assert_int_equal(ivshm_barrier_check(&b, 2, &fates, turn[0]), 0);
            ivshm_barrier_pass(&b, 2, number(0));
            assert_int_equal(ivshm_barrier_check(&b, 2, &fates, turn[1]), 0);
            ivshm_barrier_pass(&b, 2, number(1));
        }
    }
}

TEST(test_barrier_and_death)
{
    struct ivshm_barrier_shm b = {0};
    uint32_t turn, other_turn;
    gone = (struct ivshm_owner){UINT32_MAX, 0};
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(arrive(&b, 3, number(i), &turn), 0);
    for (uint32_t i = 0; i < 3; i++)
        ivshm_barrier_pass(&b, 3, number(i));
    assert_int_equal(arrive(&b, 3, number(9), &turn), -ENOSPC);
    assert_int_equal(arrive(&b, 3, number(1), &turn), 0);
    assert_int_equal(arrive(&b, 3, number(2), &turn), 0);
    gone = number(0); /* before it arrives */
    assert_int_equal(ivshm_barrier_check(&b, 3, &fates, turn), -EOWNERDEAD);
    /* Another one takes its place. */
    assert_int_equal(arrive(&b, 3, other, &other_turn), 0);
    assert_int_equal(other_turn, turn);
    assert_int_equal(ivshm_barrier_check(&b, 3, &fates, turn), 0);
    /* It dies after it has arrived: nobody waits for it, this time. */
    gone = other;
    assert_int_equal(ivshm_barrier_check(&b, 3, &fates, turn), 0);
    ivshm_barrier_pass(&b, 3, number(1));
    ivshm_barrier_pass(&b, 3, number(2));
    assert_int_equal(arrive(&b, 3, number(1), &turn), 0);
    assert_int_equal(arrive(&b, 3, number(2), &turn), 0);
    assert_int_equal(ivshm_barrier_check(&b, 3, &fates, turn), -EOWNERDEAD);
    ivshm_barrier_drop(&b, 3, &fates);
    assert_int_equal(ivshm_barrier_check(&b, 3, &fates, turn), 0);
    assert_int_equal(arrive(&b, 3, number(9), &turn), -ENOSPC); /* there are two now */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_try_and_release),   cmocka_unit_test(test_inherit),
        cmocka_unit_test(test_nonsense),          cmocka_unit_test(test_kept),
        cmocka_unit_test(test_kept_at_the_wrap),  cmocka_unit_test(test_waited),
        cmocka_unit_test(test_threads),           cmocka_unit_test(test_is_held),
        cmocka_unit_test(test_waiters),           cmocka_unit_test(test_readers),
        cmocka_unit_test(test_barrier),           cmocka_unit_test(test_readers_and_nonsense),
        cmocka_unit_test(test_barrier_and_death),
    };
    return RUN(tests);
}
