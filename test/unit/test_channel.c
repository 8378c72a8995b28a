/* SPDX-License-Identifier: mpich2 */
#include "messages.h"

TEST(test_round_trip)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport a = transport_new(&r, 0), b = transport_new(&r, 1);
    struct ivshm_channel *ab = channel_to(&a, &b);
    uint32_t small = r.geo.small_size - (uint32_t) sizeof(struct ivshm_cell_shm);
    uint32_t large = r.geo.large_size - (uint32_t) sizeof(struct ivshm_cell_shm);
    const uint32_t lens[] = {0, 1, 48, 49, small - 1, small, small + 1, large - 1, large};
    assert_ptr_equal(ab->base, b.endpoint.base);
    for (uint32_t i = 0; i < LENGTH(lens); i++) {
        struct ivshm_outgoing out = {0};
        assert_int_equal(ivshm_message_reserve(&a, ab, lens[i], 1, &out), 0);
        assert_int_equal(out.capacity, lens[i] <= small ? small : large);
        ivshm_message_discard(&a, &out);
        assert_true(send_numbered(&a, ab, lens[i], i));
        receive_numbered(&b, &a, lens[i], i);
        assert_nothing_comes(&b);
    }
    /* More than fits: the caller sends what there is room for, and the rest in the next cell. */
    struct ivshm_outgoing out = {0};
    assert_int_equal(ivshm_message_reserve(&a, ab, SIZE_MAX, 1, &out), 0);
    assert_int_equal(out.capacity, large);
    ivshm_message_discard(&a, &out);
    /* The way back needs no open of its own kind. */
    struct ivshm_channel *ba = channel_to(&b, &a);
    assert_true(send_numbered(&b, ba, 100, 7));
    receive_numbered(&a, &b, 100, 7);
    ivshm_transport_close(&a);
    ivshm_transport_close(&b);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

TEST(test_to_oneself)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport a = transport_new(&r, 0);
    struct ivshm_channel *ch = channel_to(&a, &a);
    for (uint32_t i = 0; i < 300; i++) {
        assert_true(send_numbered(&a, ch, 20, i));
        receive_numbered(&a, &a, 20, i);
    }
    ivshm_transport_close(&a);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

TEST(test_open_errors)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport a = transport_new(&r, 0), b = transport_new(&r, 1), c;
    struct ivshm_channel *ch, *again;
    struct ivshm_diag diag;
    assert_int_equal(ivshm_channel_open(&a, (struct ivshm_owner){64, 1}, &ch, &diag), -EBADMSG);
    assert_int_equal(ivshm_channel_open(&a, (struct ivshm_owner){9, 1}, &ch, &diag), -ESHUTDOWN);
    assert_int_equal(ivshm_channel_open(&a, (struct ivshm_owner){1, 2}, &ch, &diag), -ESHUTDOWN);
    ch = channel_to(&a, &b);
    again = channel_to(&a, &b);
    assert_ptr_equal(ch, again);
    assert_int_equal(ch->users, 2);
    assert_int_equal(ivshm_channel_open(&a, (struct ivshm_owner){1, 2}, &again, &diag), -ESHUTDOWN);
    assert_says(diag, "has left");
    assert_true(ivshm_channel_is_live(&a, ch));
    ivshm_channel_close(&a, ch);
    assert_int_equal(ch->users, 1);

    /* Leaves memory for this many transports, and no more. */
    uint32_t n = 0;
    struct ivshm_transport *more = calloc(64, sizeof(*more));
    while (ivshm_transport_open(&more[n], &r, "job", n, 9, &diag) == 0)
        n++;
    assert_says(diag, "is full");
    assert_int_equal(ivshm_transport_open(&c, &r, "job", 0, 9, &diag), -ENOSPC);
    while (n > 0)
        ivshm_transport_close(&more[--n]);
    free(more);
    ivshm_transport_close(&b);
    assert_false(ivshm_channel_is_live(&a, ch));
    ivshm_transport_close(&a);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* All cells in flight: later. If the small ones are in flight, large ones replace them. */
TEST(test_all_cells_in_flight)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport a = transport_without_rings(&r, 0), b = transport_without_rings(&r, 1);
    struct ivshm_channel *ab = channel_to(&a, &b);
    struct ivshm_outgoing out = {0};
    struct ivshm_incoming in;
    uint32_t cells = r.geo.small_cells + r.geo.large_cells;
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < cells; i++)
            assert_true(send_numbered(&a, ab, 10, round * cells + i));
        assert_int_equal(ivshm_message_reserve(&a, ab, 0, 1, &out), -EAGAIN);
        assert_int_equal(ivshm_message_reserve(&a, ab, 10, 1, &out), -EAGAIN);
        assert_int_equal(ivshm_message_reserve(&a, ab, 1000, 1, &out), -EAGAIN);
        assert_int_equal(ivshm_transport_receive(&b, &in, NULL), 1);
        assert_int_equal(ivshm_message_reserve(&a, ab, 10, 1, &out),
                         -EAGAIN); /* not released yet */
        assert_true(is_numbered(&in, 10, round * cells));
        ivshm_message_release(&in);
        assert_int_equal(ivshm_message_reserve(&a, ab, 10, 1, &out), 0);
        ivshm_message_discard(&a, &out);
        for (uint32_t i = 1; i < cells; i++)
            receive_numbered(&b, &a, 10, round * cells + i);
        assert_nothing_comes(&b);
    }
    ivshm_transport_close(&b);
    ivshm_transport_close(&a);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* Moves both sides of an empty inbox to another position: near a wrap, or with few slots left. */
static void inbox_begin_at(struct ivshm_transport *t, uint64_t start)
{
    inbox_reset(t->inbox.shm, t->inbox.slots, start);
    ivshm_queue_consumer_init(&t->inbox, t->inbox.shm, t->inbox.slots);
}

/* Counters start near their wrap: positions, laps, sequence numbers. */
TEST(test_wraps)
{
    struct ivshm_region r = region_new(4 * MIB);
    const uint64_t slots = r.geo.inbox_slots;
    const uint64_t starts[] = {0, (UINT64_C(1) << 32) * slots - 2048,
                               (UINT64_C(1) << 31) * slots - 5, UINT64_MAX - 2047, UINT64_MAX - 4};
    const uint32_t sequences[] = {UINT32_MAX - 5, UINT32_MAX, INT32_MAX};
    for (size_t s = 0; s < LENGTH(starts); s++)
        for (size_t q = 0; q < LENGTH(sequences); q++) {
            struct ivshm_transport a = transport_without_rings(&r, 0),
                                   b = transport_without_rings(&r, 1);
            inbox_begin_at(&b, starts[s]);
            struct ivshm_channel *ab = channel_to(&a, &b), *ba = channel_to(&b, &a);
            ab->sent = ba->in.received = sequences[q];
            for (uint32_t i = 0; i < 3000; i++) {
                assert_true(send_numbered(&a, ab, 8, i));
                receive_numbered(&b, &a, 8, i);
            }
            ivshm_transport_close(&a);
            ivshm_transport_close(&b);
            assert_all_freed(&r);
        }
    ivshm_region_close(&r);
}

/* Fills the inbox of `t`, as if other senders had done it, with cells that nobody will read. */
static uint32_t inbox_fill(struct ivshm_transport *t)
{
    struct ivshm_queue_producer filler;
    uint32_t count = 0;
    ivshm_queue_producer_init(&filler, t->inbox.shm, t->inbox.slots);
    while (ivshm_queue_push_mpsc(&filler, (struct ivshm_ref){UINT16_MAX, 0}) == 0)
        count++;
    return count;
}

static void inbox_drain(struct ivshm_transport *t, uint32_t count)
{
    struct ivshm_ref ref;
    for (uint32_t i = 0; i < count; i++) {
        assert_true(ivshm_queue_pop_mpsc(&t->inbox, &ref));
        assert_int_equal(ref.endpoint, UINT16_MAX);
    }
}

/* The peer's inbox is full: one cell waits, and is sent first when there is room. */
TEST(test_full_inbox)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport a = transport_without_rings(&r, 0), b = transport_without_rings(&r, 1);
    struct ivshm_channel *ab = channel_to(&a, &b);
    struct ivshm_outgoing out;
    uint32_t filled = inbox_fill(&b);
    assert_true(send_numbered(&a, ab, 10, 1));
    assert_int_equal(a.pending, 1);
    assert_int_equal(ivshm_message_reserve(&a, ab, 10, 1, &out), -EAGAIN);
    ivshm_transport_flush(&a);
    assert_int_equal(a.pending, 1);
    inbox_drain(&b, filled);
    assert_true(send_numbered(&a, ab, 10, 2)); /* the reserve has flushed */
    assert_int_equal(a.pending, 0);
    receive_numbered(&b, &a, 10, 1);
    receive_numbered(&b, &a, 10, 2);

    filled = inbox_fill(&b);
    assert_true(send_numbered(&a, ab, 10, 3));
    inbox_drain(&b, filled);
    assert_nothing_comes(&b);
    ivshm_transport_announce_sleep(&b, IVSHM_SLEEP_ON_FUTEX);
    ivshm_transport_flush(&a);
    assert_int_equal(a.pending, 0);
    assert_false(ivshm_sleep_announced(b.inbox.shm)); /* the peer is woken */
    receive_numbered(&b, &a, 10, 3);
    ivshm_transport_close(&a);
    ivshm_transport_close(&b);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* Whatever was sent before a close arrives, including the cell that was waiting. */
TEST(test_close_with_waiting_cell)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport a = transport_new(&r, 0), b = transport_new(&r, 1);
    struct ivshm_channel *ab = channel_to(&a, &b);
    uint32_t filled = inbox_fill(&b);
    assert_true(send_numbered(&a, ab, 10, 1));
    ivshm_channel_close(&a, ab);
    assert_int_equal(a.pending, 1);
    inbox_drain(&b, filled);
    ivshm_transport_flush(&a);
    receive_numbered(&b, &a, 10, 1);
    ivshm_transport_close(&a);
    ivshm_transport_close(&b);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* One side closes and opens again, as often as it likes. The other one need not know. */
TEST(test_reopen)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport a = transport_new(&r, 0), b = transport_new(&r, 1);
    struct ivshm_channel *ba = channel_to(&b, &a);
    for (uint32_t i = 0; i < 5; i++) {
        struct ivshm_channel *ab = channel_to(&a, &b);
        assert_true(send_numbered(&a, ab, 10, i));
        receive_numbered(&b, &a, 10, i);
        ivshm_channel_close(&a, ab);
        /* Closed here, while the other side still sends. */
        assert_true(send_numbered(&b, ba, 10, 100 + i));
        receive_numbered(&a, &b, 10, 100 + i);
    }
    ivshm_transport_close(&a);
    ivshm_transport_close(&b);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* A long message reserves one ring buffer at a time; once all are full, it uses a cell. */
TEST(test_long_message_in_pieces)
{
    struct ivshm_region r = region_new(16 * MIB);
    struct ivshm_transport a = transport_new(&r, 0), b = transport_new(&r, 1);
    ivshm_transport_choose(&a, IVSHM_COPY_AHEAD, 0);
    struct ivshm_channel *ab = channel_to(&a, &b);
    const uint32_t buffer = r.geo.buffer_size;
    const uint32_t large = r.geo.large_size - (uint32_t) sizeof(struct ivshm_cell_shm);
    struct ivshm_outgoing out;
    uint32_t sent = 0, got = 0;

    assert_int_equal(ivshm_message_reserve(&a, ab, SIZE_MAX, 0, &out), 0);
    assert_int_equal(out.capacity, large); /* there is no ring yet */
    ivshm_message_discard(&a, &out);
    while (!ab->ring_out.shm)
        assert_true(send_plain(&a, ab, 8, sent++));
    while (receive_plain(&b, 8, got))
        got++;
    for (sent = 0; sent < r.geo.ring_buffers; sent++) {
        assert_int_equal(ivshm_message_reserve(&a, ab, SIZE_MAX, 0, &out), 0);
        assert_int_equal(out.cell, IVSHM_IN_BUFFER);
        assert_int_equal(out.capacity, buffer);
        ivshm_message_discard(&a, &out); /* and is the next message's */
        assert_true(send_plain(&a, ab, buffer, sent));
    }
    assert_int_equal(ivshm_message_reserve(&a, ab, SIZE_MAX, 0, &out), 0);
    assert_int_equal(out.capacity, large);
    memset(out.payload, (int) sent, large);
    ivshm_message_publish(&a, ab, &out, large);
    for (got = 0; got < sent; got++)
        assert_true(receive_plain(&b, buffer, got));
    assert_true(receive_plain(&b, large, sent));
    assert_nothing_comes(&b);
    ivshm_transport_close(&a);
    ivshm_transport_close(&b);
    ivshm_region_close(&r);
}

/*
 * The first messages go through the inbox, then the ring takes over. All arrive in order, while
 * changes of size change the way.
 */
TEST(test_ring_takes_over)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport a = transport_new(&r, 0), b = transport_new(&r, 1);
    struct ivshm_channel *ab = channel_to(&a, &b);
    const uint32_t lens[] = {
        8, ivshm_slot_room(r.geo.slot_size), ivshm_slot_room(r.geo.slot_size) + 1, 0, 5000, 1};
    for (uint32_t n = 0; n < 60; n += 6) { /* six in flight at once */
        for (uint32_t i = 0; i < 6; i++)
            assert_true(send_plain(&a, ab, lens[i], n + i));
        for (uint32_t i = 0; i < 6; i++)
            assert_true(receive_plain(&b, lens[i], n + i));
        assert_nothing_comes(&b);
    }
    assert_non_null(ab->ring_out.shm);
    assert_int_equal(b.poll_set.count, 1);
    assert_true(ab->ring_out.tail >= 50);
    struct ivshm_extent_usage usage;
    ivshm_extent_usage(&r, &usage);
    assert_int_equal(usage.ring_blocks,
                     (r.geo.ring_bytes + r.geo.block_size - 1) / r.geo.block_size);

    /* A slot that was reserved and not used serves the next message. */
    struct ivshm_outgoing out;
    assert_int_equal(ivshm_message_reserve(&a, ab, 8, 0, &out), 0);
    assert_int_equal(out.cell, IVSHM_IN_SLOT);
    ivshm_message_discard(&a, &out);
    assert_true(send_plain(&a, ab, 8, 9));
    assert_true(receive_plain(&b, 8, 9));

    /* Full: later. */
    uint32_t sent = 0, got = 0;
    while (send_plain(&a, ab, 8, sent))
        sent++;
    assert_true(sent > 0 && sent <= r.geo.ring_slots);
    assert_int_equal(ivshm_message_reserve(&a, ab, 5000, 0, &out), -EAGAIN);
    while (receive_plain(&b, 8, got))
        got++;
    assert_int_equal(got, sent);
    assert_true(send_plain(&a, ab, 8, 0));
    assert_true(receive_plain(&b, 8, 0));
    ivshm_transport_close(&a);
    ivshm_transport_close(&b);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/*
 * The cell that announced a ring is freed, and so is the ring's memory once its receiver is gone.
 */
TEST(test_ring_leaves_nothing)
{
    struct ivshm_region r = region_new(16 * MIB);
    struct ivshm_transport a = transport_new(&r, 0), b = transport_new(&r, 1);
    struct ivshm_channel *ab = channel_to(&a, &b);
    struct ivshm_extent_usage usage;
    for (uint32_t n = 0; n <= a.ring_after; n++) {
        assert_true(send_plain(&a, ab, 8, n));
        assert_true(receive_plain(&b, 8, n));
    }
    assert_non_null(ab->ring_out.shm);
    for (uint32_t i = 0; i < a.small.count; i++)
        assert_true(ivshm_pool_alloc(&a.small) >= 0);
    ivshm_extent_usage(&r, &usage);
    assert_true(usage.ring_blocks > 0);

    ivshm_channel_close(&a, ab);
    ivshm_transport_close(&b);
    ivshm_transport_watch(&a);
    ivshm_extent_usage(&r, &usage);
    assert_int_equal(usage.ring_blocks, 0);
    ivshm_transport_close(&a);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* Where memory is short, there is no ring, and everything goes through the inbox. */
TEST(test_no_memory_for_a_ring)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport a = transport_new(&r, 0), b = transport_new(&r, 1);
    struct ivshm_channel *ab = channel_to(&a, &b);
    const struct ivshm_owner other = {5, 1};
    ivshm_off off;
    while (ivshm_extent_alloc(&r, other, IVSHM_KIND_PIPELINE, 32 * r.geo.block_size, &off) == 0)
        ;
    for (uint32_t n = 0; n < 20; n++) {
        assert_true(send_plain(&a, ab, 8, n));
        assert_true(receive_plain(&b, 8, n));
    }
    assert_true(ab->ring_tried);
    assert_null(ab->ring_out.shm);
    ivshm_extent_reclaim(&r, other);
    ivshm_transport_close(&a);
    ivshm_transport_close(&b);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* A receiver that cannot process a message yet keeps it, and receives others meanwhile. */
TEST(test_paused)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport a = transport_new(&r, 0), b = transport_new(&r, 1);
    struct ivshm_transport c = transport_new(&r, 2);
    struct ivshm_channel *ab = channel_to(&a, &b), *cb = channel_to(&c, &b);
    struct ivshm_incoming kept, in;
    for (uint32_t i = 0; i < 20; i++) {
        assert_true(send_numbered(&a, ab, 20, 0));
        receive_numbered(&b, &a, 20, 0);
        assert_true(send_numbered(&c, cb, 20, 0));
        receive_numbered(&b, &c, 20, 0);
    }
    for (int round = 0; round < 3; round++) {
        assert_true(send_numbered(&a, ab, 10, 0));
        assert_true(send_numbered(&a, ab, 1000, 0));
        assert_true(send_numbered(&a, ab, 11, 0));
        assert_int_equal(ivshm_transport_receive(&b, &kept, NULL), 1);
        ivshm_channel_pause(&b, kept.channel);
        ivshm_channel_pause(&b, kept.channel);
        assert_int_equal(b.poll_set.count, 1);
        ivshm_channel_ring_doorbell(&a, ab);
        for (int i = 0; i < 10; i++) {
            assert_nothing_comes(&b);
            assert_true(send_numbered(&c, cb, 12, 0));
            receive_numbered(&b, &c, 12, 0);
        }
        assert_true(is_numbered(&kept, 10, 0));
        ivshm_channel_resume(&b, kept.channel);
        ivshm_channel_resume(&b, kept.channel);
        assert_int_equal(b.poll_set.count, 2);
        ivshm_message_release(&kept);
        receive_numbered(&b, &a, 1000, 0);
        receive_numbered(&b, &a, 11, 0);
        assert_nothing_comes(&b);
    }
    /* Paused for ever. */
    assert_true(send_numbered(&a, ab, 10, 0));
    assert_int_equal(ivshm_transport_receive(&b, &kept, NULL), 1);
    ivshm_channel_pause(&b, kept.channel);
    ivshm_transport_close(&a);
    assert_int_equal(ivshm_transport_receive(&b, &in, NULL), 0);
    ivshm_transport_watch(&b);
    assert_null(b.channels[a.endpoint.owner.endpoint]);
    ivshm_transport_close(&b);
    ivshm_transport_close(&c);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_to_oneself),
        cmocka_unit_test(test_open_errors),
        cmocka_unit_test(test_all_cells_in_flight),
        cmocka_unit_test(test_wraps),
        cmocka_unit_test(test_full_inbox),
        cmocka_unit_test(test_close_with_waiting_cell),
        cmocka_unit_test(test_reopen),
        cmocka_unit_test(test_long_message_in_pieces),
        cmocka_unit_test(test_ring_takes_over),
        cmocka_unit_test(test_ring_leaves_nothing),
        cmocka_unit_test(test_no_memory_for_a_ring),
        cmocka_unit_test(test_paused),
    };
    return RUN(tests);
}
