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
    assert_false(ivshm_lock_try(&lock, one, &holder)); /* not even its holder, once more */
    ivshm_lock_release(&lock);
    assert_true(ivshm_lock_try(&lock, other, &holder));
    assert_false(ivshm_lock_try(&lock, one, &holder));
    assert_true(is(holder, other));
}

/* Of several who find the holder dead, one inherits; and never from another holder. */
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

/* Whatever a peer writes into the word: the lock can be had of who is named there. */
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

/* Stuck is who has it for the limit, and has not given it up in between. */
TEST(test_stuck)
{
    struct ivshm_lock_shm lock;
    struct ivshm_lock_watch watch = {0};
    struct ivshm_owner holder;

    memset(&lock, 0xff, sizeof(lock)); /* what another had there */
    ivshm_lock_init(&lock);
    assert_true(ivshm_lock_try(&lock, one, &holder));
    assert_false(ivshm_lock_try(&lock, other, &holder));
    assert_false(ivshm_lock_is_stuck(&lock, &watch, holder, 1000, 60)); /* the first look */
    assert_false(ivshm_lock_is_stuck(&lock, &watch, holder, 1059, 60));
    assert_true(ivshm_lock_is_stuck(&lock, &watch, holder, 1060, 60));

    ivshm_lock_release(&lock); /* and has it again, of which the waiter sees nothing else */
    assert_true(ivshm_lock_try(&lock, one, &holder));
    assert_false(ivshm_lock_try(&lock, other, &holder));
    assert_false(ivshm_lock_is_stuck(&lock, &watch, holder, 1061, 60));
    assert_false(ivshm_lock_is_stuck(&lock, &watch, holder, 1120, 60));
    assert_true(ivshm_lock_is_stuck(&lock, &watch, holder, 1121, 60));

    assert_true(ivshm_lock_inherit(&lock, other, one)); /* now it is another's */
    assert_false(ivshm_lock_try(&lock, one, &holder));
    assert_false(ivshm_lock_is_stuck(&lock, &watch, holder, 2000, 60));
    assert_true(ivshm_lock_is_stuck(&lock, &watch, holder, 2060, 60));
    holder.generation++; /* or of another process on the same endpoint */
    assert_false(ivshm_lock_is_stuck(&lock, &watch, holder, 3000, 60));
}

/* However often it was given up. */
TEST(test_stuck_at_the_wrap)
{
    struct ivshm_lock_shm lock = {{0}, {UINT64_MAX}};
    struct ivshm_lock_watch watch = {0};
    struct ivshm_owner holder;

    assert_true(ivshm_lock_try(&lock, one, &holder));
    assert_false(ivshm_lock_is_stuck(&lock, &watch, one, 0, 60));
    ivshm_lock_release(&lock);
    assert_true(ivshm_lock_try(&lock, one, &holder));
    assert_false(ivshm_lock_is_stuck(&lock, &watch, one, 100, 60));
    assert_true(ivshm_lock_is_stuck(&lock, &watch, one, 160, 60));
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
        cmocka_unit_test(test_try_and_release),   cmocka_unit_test(test_inherit),
        cmocka_unit_test(test_nonsense),          cmocka_unit_test(test_stuck),
        cmocka_unit_test(test_stuck_at_the_wrap), cmocka_unit_test(test_threads),
    };
    return RUN(tests);
}
