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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_try_and_release),  cmocka_unit_test(test_inherit),
        cmocka_unit_test(test_nonsense),         cmocka_unit_test(test_kept),
        cmocka_unit_test(test_kept_at_the_wrap), cmocka_unit_test(test_waited),
        cmocka_unit_test(test_threads),
    };
    return RUN(tests);
}
