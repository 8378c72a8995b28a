/* SPDX-License-Identifier: mpich2 */
#include "unit.h"

enum { RINGS = IVSHM_RINGS_POLLED + 9 };

/* Of each ring only its head and one slot, which always is the next. */
struct one_slot {
    struct ivshm_ring_shm ring;
    struct ivshm_slot_shm slot;
};

static struct one_slot shared[RINGS];
static struct ivshm_poll_entry entries[RINGS];

static struct ivshm_poll_set set_of(uint32_t count)
{
    struct ivshm_poll_set set;
    must(ivshm_poll_set_init(&set, RINGS) == 0);
    memset(shared, 0, sizeof(shared));
    for (uint32_t i = 0; i < count; i++) {
        entries[i] = (struct ivshm_poll_entry){
            .ring = {.shm = &shared[i].ring, .next = &shared[i].slot}, .received = i};
        ivshm_ring_set_idle(&entries[i].ring, true);
        ivshm_poll_set_add(&set, &entries[i]);
    }
    return set;
}

static void put_record(uint32_t i)
{
    ivshm_a64_store_release(&shared[i].slot.word,
                            (uint64_t) entries[i].received | (uint64_t) IVSHM_RECORD_INLINE << 48);
}

/* Which ring the next record is from; it is taken. -1 if none is found. */
static int take(struct ivshm_poll_set *set)
{
    struct ivshm_record record;
    struct ivshm_poll_entry *from = ivshm_poll_set_next(set, &record);
    if (!from)
        return -1;
    must(record.sequence == from->received++);
    return (int) (from - entries);
}

static bool is_idle(uint32_t i)
{
    return ivshm_a64_load_relaxed(&shared[i].ring.idle) % 2 != 0;
}

/* Each of `entries` is at its index, and the sender of each can tell whether its ring is polled. */
static void assert_consistent(const struct ivshm_poll_set *set, uint32_t count)
{
    assert_int_equal(set->count, count);
    assert_true(set->polled_count <= count && set->polled_count <= IVSHM_RINGS_POLLED);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(set->entries[i]->index, i);
        assert_true(i >= set->polled_count || !is_idle((uint32_t) (set->entries[i] - entries)));
    }
}

TEST(test_empty)
{
    struct ivshm_poll_set set = set_of(0), zero = {0};
    assert_true(ivshm_poll_set_is_empty(&set));
    assert_int_equal(take(&set), -1);
    ivshm_poll_set_destroy(&set);
    ivshm_poll_set_destroy(&zero);
}

/* Polled rings are heard in turn, whichever sends most. */
TEST(test_turns)
{
    struct ivshm_poll_set set = set_of(3);
    assert_true(ivshm_poll_set_is_empty(&set));
    for (int turn = 0; turn < 9; turn++) {
        for (uint32_t i = 0; i < 3; i++)
            put_record(i);
        assert_false(ivshm_poll_set_is_empty(&set));
        assert_int_equal(take(&set), turn % 3);
    }
    assert_consistent(&set, 3);
    ivshm_poll_set_destroy(&set);
}

/* A ring that is one too many makes another one idle, and an idle one is found without a doorbell.
 */
TEST(test_idle)
{
    struct ivshm_poll_set set = set_of(RINGS);
    uint32_t idle = 0;
    for (uint32_t i = 0; i < RINGS; i++)
        idle += is_idle(i);
    assert_int_equal(idle, RINGS - IVSHM_RINGS_POLLED);
    assert_int_equal(set.polled_count, IVSHM_RINGS_POLLED);
    assert_consistent(&set, RINGS);
    assert_false(ivshm_poll_set_is_empty(&set)); /* as far as it can tell */
    for (uint32_t i = 0; i < RINGS; i++) {
        int got = -1;
        put_record(i);
        for (uint32_t looks = 0; got < 0; looks++) {
            assert_true(looks <= RINGS - IVSHM_RINGS_POLLED);
            got = take(&set);
        }
        assert_int_equal(got, i);
        assert_false(is_idle(i));
        assert_consistent(&set, RINGS);
    }
    for (uint32_t i = 0; i < RINGS; i++) {
        ivshm_poll_set_promote(&set, &entries[i]);
        put_record(i);
        assert_int_equal(take(&set), i); /* at once */
    }
    ivshm_poll_set_destroy(&set);
}

/* Whichever is removed, polled or idle, the others stay; it can be added again. */
TEST(test_remove)
{
    for (uint32_t first = 0; first < RINGS; first++) {
        struct ivshm_poll_set set = set_of(RINGS);
        ivshm_poll_set_remove(&set, &entries[first]);
        assert_consistent(&set, RINGS - 1);
        put_record(first);
        for (uint32_t i = 0; i < 2 * RINGS; i++)
            assert_int_equal(take(&set), -1);
        ivshm_poll_set_add(&set, &entries[first]);
        assert_consistent(&set, RINGS);
        assert_int_equal(take(&set), first);
        for (uint32_t left = RINGS; left > 0; left--) {
            ivshm_poll_set_remove(&set, &entries[(first + left * 7) % RINGS]);
            assert_consistent(&set, left - 1);
        }
        assert_true(ivshm_poll_set_is_empty(&set));
        ivshm_poll_set_destroy(&set);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_remove),
    };
    return RUN(tests);
}
