/* SPDX-License-Identifier: mpich2 */
#include "unit.h"

static const struct ivshm_owner receiver = {2, 9}, sender = {3, 9};

struct pair {
    struct ivshm_ring_producer out;
    struct ivshm_ring_consumer in;
    uint32_t sent, received;
};

static struct pair pair_new(struct ivshm_region *r)
{
    struct pair p = {.sent = 0};
    must(ivshm_ring_alloc(r, sender, &p.out) == 0);
    must(ivshm_ring_attach(r, sender, p.out.off, &p.in, NULL) == 0);
    return p;
}

/* Longer ones take a buffer, if there is one. */
static bool put(struct pair *p, uint32_t len)
{
    struct ivshm_record record = {p->sent, IVSHM_RECORD_INLINE, len, 0};
    unsigned char *payload = ivshm_ring_reserve_spsc(&p->out);
    if (payload && len > p->out.slot_size - 8) {
        record.kind = IVSHM_RECORD_BUFFER;
        payload = ivshm_ring_buffer_spsc(&p->out);
    }
    if (!payload)
        return false;
    memset(payload, (int) (p->sent & 255), len);
    ivshm_ring_publish_spsc(&p->out, record);
    p->sent++;
    return true;
}

static bool get(struct pair *p, uint32_t len)
{
    struct ivshm_record record;
    if (!ivshm_ring_peek_spsc(&p->in, p->received, &record))
        return false;
    must(record.value == len);
    must(record.kind == (len > p->in.slot_size - 8 ? IVSHM_RECORD_BUFFER : IVSHM_RECORD_INLINE));
    const unsigned char *payload = ivshm_ring_payload(&p->in, record);
    for (uint32_t i = 0; i < len; i++)
        must(payload[i] == (p->received & 255));
    ivshm_ring_consume_spsc(&p->in);
    p->received++;
    return true;
}

TEST(test_alloc_and_free)
{
    struct ivshm_region r = region_new(16 * MIB);
    struct pair p = pair_new(&r);
    struct ivshm_ring_consumer ring;
    struct ivshm_diag diag;
    assert_true(ivshm_extent_owned(&r, sender, IVSHM_KIND_RING, p.out.off, r.geo.ring_bytes));
    assert_ptr_equal(p.out.shm, (char *) r.map.base + p.out.off.bytes);
    assert_ptr_equal(p.in.shm, p.out.shm);

    /* A ring of another endpoint, not a ring, or not even in the region. */
    assert_int_equal(ivshm_ring_attach(&r, receiver, p.out.off, &ring, &diag), -EBADMSG);
    assert_says(diag, "endpoint 2 announced a ring at");
    const uint64_t offs[] = {0, 64, r.geo.data, p.out.off.bytes + 64, r.geo.size - 64, UINT64_MAX};
    for (size_t i = 0; i < LENGTH(offs); i++)
        if (offs[i] != p.out.off.bytes)
            assert_int_equal(ivshm_ring_attach(&r, sender, (ivshm_off){offs[i]}, &ring, &diag),
                             -EBADMSG);
    ivshm_off pipeline;
    assert_int_equal(
        ivshm_extent_alloc(&r, sender, IVSHM_KIND_PIPELINE, r.geo.ring_bytes, &pipeline), 0);
    assert_int_equal(ivshm_ring_attach(&r, sender, pipeline, &ring, &diag), -EBADMSG);
    ivshm_extent_free(&r, sender, pipeline, r.geo.ring_bytes);

    ivshm_ring_free(&r, sender, &p.out);
    assert_null(p.out.shm);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

TEST(test_no_memory)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_ring_producer ring;
    while (ivshm_ring_alloc(&r, sender, &ring) == 0)
        ;
    assert_int_equal(ivshm_ring_alloc(&r, sender, &ring), -ENOSPC);
    ivshm_extent_reclaim(&r, sender);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* Old contents of the memory are not taken for records. */
TEST(test_dirty_memory)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_record record;
    for (size_t i = 0; i < r.geo.ring_bytes / 8; i++)
        ((uint64_t *) ((char *) r.map.base + r.geo.data))[i] = (uint64_t) IVSHM_RECORD_INLINE << 48;
    struct pair p = pair_new(&r);
    assert_false(ivshm_ring_peek_spsc(&p.in, 0, &record));
    assert_false(ivshm_ring_wants_doorbell(&p.out));
    assert_true(put(&p, 1));
    assert_true(get(&p, 1));
    assert_false(get(&p, 1));
    ivshm_region_close(&r);
}

/* Full, then the slots are freed a few at a time; records of every length, several times round. */
TEST(test_full)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct pair p = pair_new(&r);
    for (uint32_t i = 0; i < r.geo.ring_slots; i++)
        assert_true(put(&p, ivshm_slot_room(r.geo.slot_size)));
    assert_false(put(&p, 1));
    assert_true(get(&p, ivshm_slot_room(r.geo.slot_size)));
    uint32_t read = 1;
    while (!put(&p, ivshm_slot_room(r.geo.slot_size))) {
        assert_true(get(&p, ivshm_slot_room(r.geo.slot_size)));
        read++;
    }
    assert_true(read <= r.geo.ring_slots / 4 + 1);
    while (p.received < p.sent)
        assert_true(get(&p, ivshm_slot_room(r.geo.slot_size)));
    assert_false(get(&p, 0));
    for (uint32_t n = 0; n < 1000; n++) {
        assert_true(put(&p, n % (ivshm_slot_room(r.geo.slot_size) + 1)));
        assert_true(get(&p, n % (ivshm_slot_room(r.geo.slot_size) + 1)));
    }
    ivshm_region_close(&r);
}

/*
 * All buffers are in use, while slots remain. They are freed a few at a time, even if each record
 * takes one.
 */
TEST(test_buffers)
{
    struct ivshm_region r = region_new(16 * MIB);
    struct pair p = pair_new(&r);
    for (uint32_t round = 0; round < 5; round++) {
        while (put(&p, r.geo.buffer_size))
            ;
        assert_true(p.sent - p.received <= r.geo.ring_buffers);
        assert_non_null(ivshm_ring_reserve_spsc(&p.out));
        assert_true(put(&p, 8));
        uint32_t read = 0;
        while (!put(&p, r.geo.buffer_size)) {
            assert_true(p.received < p.sent);
            assert_true(get(&p, read < r.geo.ring_buffers ? r.geo.buffer_size : 8));
            read++;
        }
        assert_true(read <= r.geo.ring_buffers / 2 + 2);
        while (p.received < p.sent) {
            struct ivshm_record record;
            assert_true(ivshm_ring_peek_spsc(&p.in, p.received, &record));
            assert_true(get(&p, record.value));
        }
    }
    for (uint32_t n = 0; n < 10000; n++) {
        assert_true(put(&p, n % (r.geo.buffer_size + 1)));
        assert_true(put(&p, n * 7 % (r.geo.buffer_size + 1)));
        assert_true(get(&p, n % (r.geo.buffer_size + 1)));
        assert_true(get(&p, n * 7 % (r.geo.buffer_size + 1)));
    }
    ivshm_region_close(&r);

    r = region_new(4 * MIB); /* has none */
    p = pair_new(&r);
    assert_non_null(ivshm_ring_reserve_spsc(&p.out));
    assert_null(ivshm_ring_buffer_spsc(&p.out));
    ivshm_region_close(&r);
}

/* The sequence numbers of records wrap, and positions do not depend on them. */
TEST(test_wrap)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct pair p = pair_new(&r);
    p.sent = p.received = UINT32_MAX - 50;
    for (uint32_t n = 0; n < 100; n++) {
        assert_true(put(&p, 8));
        assert_true(put(&p, 9));
        assert_true(get(&p, 8));
        assert_true(get(&p, 9));
        assert_false(get(&p, 8));
    }
    assert_int_equal(p.sent, 149);
    ivshm_region_close(&r);
}

/* A record with another sequence number stays: what was sent before it came another way. */
TEST(test_other_sequence_number)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct pair p = pair_new(&r);
    p.sent = 5;
    assert_true(put(&p, 8));
    for (p.received = 0; p.received < 5; p.received++)
        assert_false(get(&p, 8));
    assert_true(get(&p, 8));
    ivshm_region_close(&r);
}

/*
 * A consumer that lies about its head: no slot is reserved that it may still read, nothing breaks.
 */
TEST(test_lying_consumer)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct pair p = pair_new(&r);
    const uint64_t lies[] = {1000, UINT64_MAX, UINT64_C(1) << 63};
    for (uint32_t i = 0; i < r.geo.ring_slots; i++)
        assert_true(put(&p, 1));
    for (size_t i = 0; i < LENGTH(lies); i++) {
        ivshm_a64_store_release(&p.in.shm->head, lies[i]);
        assert_null(ivshm_ring_reserve_spsc(&p.out));
    }
    ivshm_region_close(&r);

    r = region_new(16 * MIB);
    p = pair_new(&r);
    while (put(&p, 2000))
        ;
    for (size_t i = 0; i < LENGTH(lies); i++) {
        ivshm_a64_store_release(&p.in.shm->head, lies[i]);
        assert_null(ivshm_ring_buffer_spsc(&p.out));
    }
    ivshm_region_close(&r);
}

TEST(test_doorbell)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct pair p = pair_new(&r);
    for (int i = 0; i < 3; i++) {
        assert_false(ivshm_ring_wants_doorbell(&p.out));
        ivshm_ring_set_idle(&p.in, true);
        ivshm_ring_set_idle(&p.in, true); /* no change */
        assert_true(ivshm_ring_wants_doorbell(&p.out));
        assert_false(ivshm_ring_wants_doorbell(&p.out)); /* once is enough */
        ivshm_ring_set_idle(&p.in, false);
        assert_false(ivshm_ring_wants_doorbell(&p.out));
    }
    ivshm_region_close(&r);
}

#define MESSAGES 20000

static void *produce(void *arg)
{
    struct pair *p = arg;
    while (p->sent < MESSAGES)
        if (!put(p, p->sent % 997))
            sched_yield();
    return NULL;
}

/* Payloads are plain memory: ThreadSanitizer checks whether R1 and R2 order them. */
TEST(test_two_threads)
{
    struct ivshm_region r = region_new(16 * MIB);
    struct pair p = pair_new(&r), out = p;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, produce, &out), 0);
    while (p.received < MESSAGES)
        if (!get(&p, p.received % 997))
            sched_yield();
    pthread_join(thread, NULL);
    ivshm_region_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc_and_free),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_dirty_memory),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_buffers),
        cmocka_unit_test(test_wrap),
        cmocka_unit_test(test_other_sequence_number),
        cmocka_unit_test(test_lying_consumer),
        cmocka_unit_test(test_doorbell),
        cmocka_unit_test(test_two_threads),
    };
    return RUN(tests);
}
