/* SPDX-License-Identifier: mpich2 */
#include "unit.h"

#define SLOTS 16

static struct ivshm_inbox_shm *inbox_new(uint64_t slots)
{
    size_t size = sizeof(struct ivshm_inbox_shm) + slots * sizeof(ivshm_a64);
    struct ivshm_inbox_shm *shm = aligned_alloc(IVSHM_LINE, (size + 63) / 64 * 64);
    must(shm);
    memset(shm, 0, size);
    return shm;
}

static struct ivshm_ref ref_of(uint32_t n)
{
    return (struct ivshm_ref){.endpoint = (uint16_t) (n >> 16), .cell = (uint16_t) n};
}

static uint32_t number_of(struct ivshm_ref ref)
{
    return (uint32_t) ref.endpoint << 16 | ref.cell;
}

/* Positions at which something wraps: 0, the 32-bit lap, the 64-bit position. */
static const uint64_t starts[] = {
    0,
    1,
    SLOTS - 1,
    (UINT64_C(1) << 31) * SLOTS - SLOTS - 3, /* the lap becomes negative */
    (UINT64_C(1) << 32) * SLOTS - 2 * SLOTS, /* lap 0 comes again */
    (UINT64_C(1) << 32) * SLOTS - 5,
    UINT64_C(0) - 2 * SLOTS,
    UINT64_C(0) - 3,
    UINT64_C(0) - 1,
};

struct pair {
    struct ivshm_inbox_shm *shm;
    struct ivshm_queue_consumer in;
    struct ivshm_queue_producer out;
};

static struct pair pair_new(uint64_t start)
{
    struct pair p = {.shm = inbox_new(SLOTS)};
    inbox_reset(p.shm, SLOTS, start);
    ivshm_queue_consumer_init(&p.in, p.shm, SLOTS);
    ivshm_queue_producer_init(&p.out, p.shm, SLOTS);
    return p;
}

TEST(test_zeroed_memory_is_an_empty_queue)
{
    struct pair p = {.shm = inbox_new(SLOTS)};
    struct ivshm_ref ref = {1, 2};
    ivshm_queue_consumer_init(&p.in, p.shm, SLOTS);
    ivshm_queue_producer_init(&p.out, p.shm, SLOTS);
    assert_false(ivshm_queue_pop_mpsc(&p.in, &ref));
    assert_int_equal(ivshm_queue_push_mpsc(&p.out, ref), 0);
    assert_true(ivshm_queue_pop_mpsc(&p.in, &ref));
    assert_int_equal(ref.endpoint, 1);
    assert_int_equal(ref.cell, 2);
    assert_false(ivshm_queue_pop_mpsc(&p.in, &ref));
    free(p.shm);
}

/* The slot's word is as doc/layout.md defines it. */
TEST(test_slot_word)
{
    struct pair p = pair_new(2 * SLOTS + 3);
    assert_int_equal(
        ivshm_queue_push_mpsc(&p.out, (struct ivshm_ref){.endpoint = 0xfffe, .cell = 0xffff}), 0);
    assert_int_equal(ivshm_a64_load_relaxed(&p.shm->slot[3]), UINT64_C(0x00000003fffeffff));
    assert_int_equal(ivshm_a64_load_relaxed(&p.shm->tail_hint), 2 * SLOTS + 4);
    free(p.shm);
}

TEST(test_full_then_room)
{
    for (size_t s = 0; s < LENGTH(starts); s++) {
        struct pair p = pair_new(starts[s]);
        struct ivshm_ref ref;
        uint32_t sent = 0, got = 0;
        for (int round = 0; round < 5; round++) {
            while (sent - got <= SLOTS && ivshm_queue_push_mpsc(&p.out, ref_of(sent)) == 0)
                sent++;
            /* Full: never more than the slots, and at least those that the lagging head leaves. */
            assert_in_range(sent - got, SLOTS - SLOTS / 4 + 1, SLOTS);
            assert_int_equal(ivshm_queue_push_mpsc(&p.out, ref_of(sent)), -EAGAIN);
            while (ivshm_queue_pop_mpsc(&p.in, &ref))
                assert_int_equal(number_of(ref), got++);
            assert_int_equal(got, sent);
        }
        free(p.shm);
    }
}

/* Without any pop exactly `slots` fit: an unread slot is never overwritten. */
TEST(test_capacity)
{
    for (size_t s = 0; s < LENGTH(starts); s++) {
        struct pair p = pair_new(starts[s]);
        struct ivshm_ref ref;
        for (uint32_t i = 0; i < SLOTS; i++)
            assert_int_equal(ivshm_queue_push_mpsc(&p.out, ref_of(i)), 0);
        for (int i = 0; i < 3; i++)
            assert_int_equal(ivshm_queue_push_mpsc(&p.out, ref_of(99)), -EAGAIN);
        for (uint32_t i = 0; i < SLOTS; i++) {
            assert_true(ivshm_queue_pop_mpsc(&p.in, &ref));
            assert_int_equal(number_of(ref), i);
        }
        assert_false(ivshm_queue_pop_mpsc(&p.in, &ref));
        free(p.shm);
    }
}

/* One at a time, many laps, over every wrap. */
TEST(test_many_laps)
{
    for (size_t s = 0; s < LENGTH(starts); s++) {
        struct pair p = pair_new(starts[s]);
        struct ivshm_ref ref;
        for (uint32_t i = 0; i < 20 * SLOTS; i++) {
            assert_int_equal(ivshm_queue_push_mpsc(&p.out, ref_of(i)), 0);
            assert_true(ivshm_queue_pop_mpsc(&p.in, &ref));
            assert_int_equal(number_of(ref), i);
            assert_false(ivshm_queue_pop_mpsc(&p.in, &ref));
        }
        free(p.shm);
    }
}

/* The head is published every quarter of the slots, and never beyond what was read. */
TEST(test_head_lags)
{
    struct pair p = pair_new(0);
    struct ivshm_ref ref;
    for (uint32_t i = 0; i < 4 * SLOTS; i++) {
        assert_int_equal(ivshm_queue_push_mpsc(&p.out, ref_of(i)), 0);
        assert_true(ivshm_queue_pop_mpsc(&p.in, &ref));
        uint64_t head = ivshm_a64_load_relaxed(&p.shm->head);
        assert_true(head <= i + 1 && i + 1 - head < SLOTS / 4);
    }
    free(p.shm);
}

/* Two producers that alternate; each starts where the other's hint says. */
TEST(test_two_producers_in_turn)
{
    for (size_t s = 0; s < LENGTH(starts); s++) {
        struct pair p = pair_new(starts[s]);
        struct ivshm_queue_producer other;
        struct ivshm_ref ref;
        ivshm_queue_producer_init(&other, p.shm, SLOTS);
        for (uint32_t i = 0; i < 10 * SLOTS; i++) {
            assert_int_equal(ivshm_queue_push_mpsc(i % 3 ? &p.out : &other, ref_of(i)), 0);
            if (i % 2) {
                for (uint32_t j = i - 1; j <= i; j++) {
                    assert_true(ivshm_queue_pop_mpsc(&p.in, &ref));
                    assert_int_equal(number_of(ref), j);
                }
            }
        }
        free(p.shm);
    }
}

/* The hint is only a hint: whatever it says, messages arrive in order and without a gap. */
TEST(test_any_hint)
{
    static const int64_t lies[] = {0,      1,         -1,         SLOTS - 1, SLOTS,     SLOTS + 1,
                                   -SLOTS, 5 * SLOTS, -5 * SLOTS, INT64_MAX, INT64_MIN, 7};
    for (size_t s = 0; s < LENGTH(starts); s++)
        for (size_t l = 0; l < LENGTH(lies); l++) {
            struct pair p = pair_new(starts[s]);
            struct ivshm_ref ref;
            uint32_t got = 0;
            for (uint32_t i = 0; i < 4 * SLOTS; i++) {
                uint64_t lie = starts[s] + i + (uint64_t) lies[l];
                ivshm_a64_store_relaxed(&p.shm->tail_hint, lie);
                int err = ivshm_queue_push_mpsc(&p.out, ref_of(i));
                if (err) /* a search is bounded, so it may fail once; the next one starts again */
                    err = ivshm_queue_push_mpsc(&p.out, ref_of(i));
                assert_int_equal(err, 0);
                if (i % 8 == 7)
                    while (ivshm_queue_pop_mpsc(&p.in, &ref))
                        assert_int_equal(number_of(ref), got++);
            }
            assert_int_equal(got, 4 * SLOTS);
            free(p.shm);
        }
}

/* The same with two producers, one of which knows only an old head. */
TEST(test_stale_producer)
{
    for (size_t s = 0; s < LENGTH(starts); s++) {
        struct pair p = pair_new(starts[s]);
        struct ivshm_queue_producer stale;
        struct ivshm_ref ref;
        uint32_t sent = 0, got = 0;
        ivshm_queue_producer_init(&stale, p.shm, SLOTS);
        for (int round = 0; round < 30; round++) {
            for (int i = 0; i < SLOTS / 2 + round % 5; i++)
                assert_int_equal(ivshm_queue_push_mpsc(&p.out, ref_of(sent++)), 0);
            /* As left by a producer that was stopped, laps ago, between its CAS and its hint. */
            ivshm_a64_store_relaxed(&p.shm->tail_hint, stale.next);
            assert_int_equal(ivshm_queue_push_mpsc(&stale, ref_of(sent)), 0);
            sent++;
            while (ivshm_queue_pop_mpsc(&p.in, &ref))
                assert_int_equal(number_of(ref), got++);
            assert_int_equal(got, sent);
        }
        free(p.shm);
    }
}

/*
 * A hint one too far, before a slot that nobody has filled: a producer that believed it would leave
 * a gap at which the consumer stops for ever.
 */
TEST(test_no_gap)
{
    for (size_t s = 0; s < LENGTH(starts); s++)
        for (uint64_t ahead = 1; ahead < SLOTS; ahead++) {
            struct pair p = pair_new(starts[s]);
            struct ivshm_ref ref;
            ivshm_a64_store_relaxed(&p.shm->tail_hint, starts[s] + ahead);
            assert_int_equal(ivshm_queue_push_mpsc(&p.out, ref_of(5)), 0);
            assert_true(ivshm_queue_pop_mpsc(&p.in, &ref));
            assert_int_equal(number_of(ref), 5);
            free(p.shm);
        }
}

/* Garbage in the slots: bounded work, and no success that overwrites a message. */
TEST(test_hostile_slots)
{
    uint64_t seed = 1;
    for (int round = 0; round < 2000; round++) {
        struct pair p = pair_new(starts[(size_t) round % LENGTH(starts)]);
        struct ivshm_ref ref;
        for (int i = 0; i < SLOTS; i++)
            if (random_next(&seed) % 2)
                ivshm_a64_store_relaxed(&p.shm->slot[i],
                                        (uint64_t) random_next(&seed) << 33 | random_next(&seed));
        ivshm_a64_store_relaxed(&p.shm->tail_hint, (uint64_t) random_next(&seed) << (seed >> 60));
        if (round % 3 == 0)
            ivshm_a64_store_relaxed(&p.shm->head, (uint64_t) random_next(&seed) << (seed >> 59));
        for (int i = 0; i < 4; i++) {
            int err = ivshm_queue_push_mpsc(&p.out, ref_of(7));
            assert_true(err == 0 || err == -EAGAIN);
        }
        for (int i = 0; i < 2 * SLOTS; i++)
            ivshm_queue_pop_mpsc(&p.in, &ref);
        free(p.shm);
    }
}

/* Threads. Each producer numbers what it sends; payload goes with it, as with cells. */

#define PRODUCERS 4
#define MESSAGES 20000

struct stage {
    struct ivshm_inbox_shm *shm;
    uint32_t (*payload)[MESSAGES];
    uint16_t id;
    uint64_t slots, start;
};

static void *produce(void *arg)
{
    struct stage *s = arg;
    struct ivshm_queue_producer out;
    uint64_t seed = s->id;
    ivshm_queue_producer_init(&out, s->shm, s->slots);
    for (uint32_t i = 0; i < MESSAGES; i++) {
        s->payload[s->id][i] = i * 3 + s->id; /* plain: the push has to release it, Q1 */
        struct ivshm_ref ref = {.endpoint = s->id, .cell = (uint16_t) i};
        while (ivshm_queue_push_mpsc(&out, ref) != 0)
            sched_yield();
        if (random_next(&seed) % 64 == 0)
            sched_yield();
        if (random_next(&seed) % 512 == 0) /* as after a reconnect */
            ivshm_queue_producer_init(&out, s->shm, s->slots);
    }
    return NULL;
}

static void *consume(void *arg)
{
    struct stage *s = arg;
    struct ivshm_queue_consumer in;
    uint32_t next[PRODUCERS] = {0};
    ivshm_queue_consumer_init(&in, s->shm, s->slots);
    for (uint32_t total = 0; total < PRODUCERS * MESSAGES;) {
        struct ivshm_ref ref;
        if (!ivshm_queue_pop_mpsc(&in, &ref)) {
            sched_yield();
            continue;
        }
        must(ref.endpoint < PRODUCERS);
        uint32_t n = next[ref.endpoint]++;
        must(ref.cell == (uint16_t) n);
        must(s->payload[ref.endpoint][n] == n * 3 + ref.endpoint);
        total++;
    }
    struct ivshm_ref ref;
    must(!ivshm_queue_pop_mpsc(&in, &ref));
    return NULL;
}

static void *produce_or_consume(void *arg)
{
    struct stage *s = arg;
    return s->id == PRODUCERS ? consume(arg) : produce(arg);
}

TEST(test_many_producers)
{
    static const uint64_t sizes[] = {4, 16, 1024};
    for (size_t z = 0; z < LENGTH(sizes); z++)
        for (int wrap = 0; wrap < 3; wrap++) {
            uint64_t slots = sizes[z];
            struct stage stages[PRODUCERS + 1];
            struct ivshm_inbox_shm *shm = inbox_new(slots);
            uint32_t(*payload)[MESSAGES] = calloc(PRODUCERS, sizeof(*payload));
            uint64_t start = wrap == 0   ? 0
                             : wrap == 1 ? (UINT64_C(1) << 32) * slots - MESSAGES
                                         : UINT64_C(0) - MESSAGES;
            inbox_reset(shm, slots, start / slots * slots);
            for (uint16_t i = 0; i <= PRODUCERS; i++)
                stages[i] = (struct stage){.shm = shm, .payload = payload, .id = i, .slots = slots};
            threads_run(PRODUCERS + 1, produce_or_consume, stages, sizeof(stages[0]));
            free(payload);
            free(shm);
        }
}

/* A producer that is killed at any instruction does not block others. */

/* An old hint, which the consumer has passed, does not make the inbox look full. */
TEST(test_old_hint)
{
    enum { slots = SLOTS };
    struct ivshm_inbox_shm *shm = inbox_new(slots);
    struct ivshm_queue_producer p, q;
    struct ivshm_queue_consumer in;
    struct ivshm_ref ref;
    inbox_reset(shm, slots, 0);
    ivshm_queue_producer_init(&p, shm, slots);
    ivshm_queue_producer_init(&q, shm, slots);
    ivshm_queue_consumer_init(&in, shm, slots);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(ivshm_queue_push_mpsc(i == 15 ? &p : &q, (struct ivshm_ref){1, 1}), 0);
        assert_true(ivshm_queue_pop_mpsc(&in, &ref));
    }
    ivshm_a64_store_relaxed(&shm->tail_hint, 19); /* its producer has died before the last store */
    assert_int_equal(ivshm_queue_push_mpsc(&p, (struct ivshm_ref){1, 2}), 0);
    assert_true(ivshm_queue_pop_mpsc(&in, &ref));
    assert_int_equal(ref.cell, 2);
    free(shm);
}

struct killed {
    struct ivshm_inbox_shm *shm;
    uint64_t slots;
};

static void produce_until_killed(void *arg)
{
    struct killed *k = arg;
    struct ivshm_queue_producer out;
    ivshm_queue_producer_init(&out, k->shm, k->slots);
    for (uint32_t i = 0;;)
        if (ivshm_queue_push_mpsc(&out, (struct ivshm_ref){1, (uint16_t) i}) == 0)
            i++;
        else
            sched_yield();
}

TEST(test_killed_producer)
{
    enum { slots = 16 };
    size_t size = sizeof(struct ivshm_inbox_shm) + slots * sizeof(ivshm_a64);
    struct ivshm_inbox_shm *shm =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct killed k = {shm, slots};
    struct ivshm_queue_producer out;
    struct ivshm_queue_consumer in;
    struct ivshm_ref ref;
    assert_ptr_not_equal(shm, MAP_FAILED);
    ivshm_queue_producer_init(&out, shm, slots);
    ivshm_queue_consumer_init(&in, shm, slots);
    uint16_t ours_sent = 0, ours_got = 0;
    for (int round = 0; round < 40; round++) {
        uint16_t its = 0;
        pid_t pid = child_start(produce_until_killed, &k);
        for (uint32_t got = 0; got < 200u + (uint32_t) round * 7;) {
            ours_sent += ivshm_queue_push_mpsc(&out, (struct ivshm_ref){2, ours_sent}) == 0;
            if (!ivshm_queue_pop_mpsc(&in, &ref)) {
                sched_yield();
                continue;
            }
            got++;
            assert_int_equal(ref.cell, ref.endpoint == 1 ? its++ : ours_got++);
        }
        child_kill(pid);
        while (ivshm_queue_pop_mpsc(&in, &ref))
            assert_int_equal(ref.cell, ref.endpoint == 1 ? its++ : ours_got++);
        assert_int_equal(ours_got, ours_sent);
        /* Nothing blocks the inbox. */
        assert_int_equal(ivshm_queue_push_mpsc(&out, (struct ivshm_ref){2, ours_sent++}), 0);
        assert_true(ivshm_queue_pop_mpsc(&in, &ref));
        assert_int_equal(ref.cell, ours_got++);
    }
    munmap(shm, size);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zeroed_memory_is_an_empty_queue),
        cmocka_unit_test(test_slot_word),
        cmocka_unit_test(test_full_then_room),
        cmocka_unit_test(test_capacity),
        cmocka_unit_test(test_many_laps),
        cmocka_unit_test(test_head_lags),
        cmocka_unit_test(test_two_producers_in_turn),
        cmocka_unit_test(test_any_hint),
        cmocka_unit_test(test_stale_producer),
        cmocka_unit_test(test_no_gap),
        cmocka_unit_test(test_hostile_slots),
        cmocka_unit_test(test_many_producers),
        cmocka_unit_test(test_old_hint),
        cmocka_unit_test(test_killed_producer),
    };
    return RUN(tests);
}
