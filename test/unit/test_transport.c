/* SPDX-License-Identifier: mpich2 */
#include "messages.h"

/* More than half of either size. Freed cells no longer count. */
TEST(test_half_in_flight)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport a = transport_without_rings(&r, 0), b = transport_without_rings(&r, 1);
    struct ivshm_channel *ab = channel_to(&a, &b);
    for (int is_large = 0; is_large < 2; is_large++) {
        uint32_t len = is_large ? r.geo.small_size : 10;
        uint32_t half = (is_large ? r.geo.large_cells : r.geo.small_cells) / 2;
        for (uint32_t i = 0; i < half; i++)
            assert_true(send_numbered(&a, ab, len, i));
        assert_false(ivshm_transport_is_half_in_flight(&a));
        assert_true(send_numbered(&a, ab, len, half));
        assert_true(ivshm_transport_is_half_in_flight(&a));
        receive_numbered(&b, &a, len, 0);
        assert_false(ivshm_transport_is_half_in_flight(&a));
        for (uint32_t i = 1; i <= half; i++)
            receive_numbered(&b, &a, len, i);
    }
    ivshm_transport_close(&b);
    ivshm_transport_close(&a);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* A peer's messages from before it left still arrive, if we knew it. Then it is forgotten. */
TEST(test_sent_before_it_left)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport a = transport_new(&r, 0), b = transport_new(&r, 1);
    struct ivshm_channel *ab = channel_to(&a, &b);
    struct ivshm_owner gone = a.endpoint.owner;
    assert_true(send_numbered(&a, ab, 10, 1));
    receive_numbered(&b, &a, 10, 1);
    assert_true(send_numbered(&a, ab, 10, 2));
    assert_true(send_numbered(&a, ab, 5000, 3));
    ivshm_transport_close(&a);
    ivshm_transport_watch(&b);
    assert_non_null(b.channels[gone.endpoint]);
    struct ivshm_transport c =
        transport_new(&r, 2); /* gets other memory, as ours is still attached */
    receive_numbered(&b, &(struct ivshm_transport){.endpoint.owner = gone}, 10, 2);
    receive_numbered(&b, &(struct ivshm_transport){.endpoint.owner = gone}, 5000, 3);
    ivshm_transport_watch(&b);
    assert_null(b.channels[gone.endpoint]);
    ivshm_transport_close(&c);
    ivshm_transport_close(&b);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* A sender leaves before its first message is read, and another one takes its entry and memory. */
TEST(test_stale_reference)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport b = transport_new(&r, 0), a = transport_new(&r, 1);
    struct ivshm_channel *ab = channel_to(&a, &b);
    struct ivshm_outgoing out;
    assert_int_equal(ivshm_message_reserve(&a, ab, 10, 1, &out), 0);
    ivshm_message_publish(&a, ab, &out, 10);
    struct ivshm_owner before = a.endpoint.owner;
    ivshm_transport_close(&a);
    struct ivshm_transport c = transport_new(&r, 1);
    assert_int_equal(c.endpoint.owner.endpoint, before.endpoint);
    assert_nothing_comes(&b);
    ivshm_transport_close(&c);
    ivshm_transport_close(&b);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* A peer that sends nonsense: it is reported and dropped, and nothing else is touched. */
TEST(test_nonsense)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport a = transport_without_rings(&r, 0), b = transport_without_rings(&r, 1);
    struct ivshm_channel *ab = channel_to(&a, &b);
    struct ivshm_incoming in;
    struct ivshm_diag diag = {""};
    const uint16_t me = (uint16_t) a.endpoint.owner.endpoint;
    const uint16_t generation = (uint16_t) (a.endpoint.owner.generation << 8);
    const struct ivshm_ref refs[] = {
        {64, 0},
        {UINT16_MAX, 0},
        {9, 0}, /* beyond the table; nobody's */
        {me, (uint16_t) (generation | (r.geo.small_cells + r.geo.large_cells))},
        {me, (uint16_t) (generation | 254)}};
    for (size_t i = 0; i < LENGTH(refs); i++) {
        assert_int_equal(ivshm_queue_push_mpsc(&ab->inbox, refs[i]), 0);
        in.channel = (void *) &in;
        diag.text[0] = 0;
        assert_int_equal(ivshm_transport_receive(&b, &in, &diag), -EBADMSG);
        assert_true(strlen(diag.text) > 10);
        if (i < 3) {
            assert_null(in.channel);
        } else {
            assert_int_equal(in.channel->peer.endpoint, me);
            in.channel->broken = false; /* as if it had not been */
        }
        assert_nothing_comes(&b);
    }
    assert_says(diag, "cell 254, but has only 136 cells");

    /* A length beyond the cell, for both sizes, and at 2^31 and above. */
    const struct {
        uint32_t want, len;
    } lies[] = {
        {10, 241}, {10, UINT32_MAX}, {10, 1u << 31}, {1000, 16625}, {1000, UINT32_MAX - 15}};
    for (size_t i = 0; i < LENGTH(lies); i++) {
        struct ivshm_outgoing out;
        assert_int_equal(ivshm_message_reserve(&a, ab, lies[i].want, 1, &out), 0);
        ivshm_message_publish(&a, ab, &out, lies[i].len);
        assert_int_equal(ivshm_transport_receive(&b, &in, &diag), -EBADMSG);
        assert_says(diag, "bytes in a cell of");
        in.channel->in.received = ab->sent;
        in.channel->broken = false;
    }

    /* A cell twice, or one left out. */
    struct ivshm_outgoing twice;
    assert_int_equal(ivshm_message_reserve(&a, ab, 10, 1, &twice), 0);
    ivshm_message_publish(&a, ab, &twice, 10);
    const struct ivshm_ref again = {me, (uint16_t) (generation | twice.cell)};
    assert_int_equal(ivshm_queue_push_mpsc(&ab->inbox, again), 0);
    assert_int_equal(ivshm_transport_receive(&b, &in, &diag), 1);
    assert_int_equal(ivshm_transport_receive(&b, &in, &diag), -EBADMSG);
    assert_says(diag, "messages are lost");
    in.channel->broken = false;
    ab->sent++;
    assert_true(send_numbered(&a, ab, 10, 2));
    assert_int_equal(ivshm_transport_receive(&b, &in, &diag), -EBADMSG);
    assert_says(diag, "messages are lost");

    /* From now on it is ignored, and the others are heard. */
    struct ivshm_transport c = transport_new(&r, 2);
    struct ivshm_channel *cb = channel_to(&c, &b);
    assert_true(send_numbered(&a, ab, 10, 3));
    assert_true(send_numbered(&c, cb, 10, 4));
    receive_numbered(&b, &c, 10, 4);
    assert_nothing_comes(&b);
    ivshm_transport_close(&a);
    ivshm_transport_close(&b);
    ivshm_transport_close(&c);
    ivshm_region_close(&r);
}

/* A short poll sees what is in the inbox and in the polled rings, and knows of the others. */
TEST(test_is_empty)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport a = transport_new(&r, 0), b = transport_new(&r, 1);
    struct ivshm_channel *ab = channel_to(&a, &b);
    for (uint32_t n = 0; n < 20; n++) {
        assert_true(ivshm_transport_is_empty(&b));
        assert_true(send_plain(&a, ab, 8, n));
        assert_false(ivshm_transport_is_empty(&b));
        assert_true(receive_plain(&b, 8, n));
    }
    assert_int_equal(b.poll_set.polled_count, 1);
    assert_true(ivshm_transport_is_empty(&b));
    b.poll_set.polled_count = 0; /* idle */
    assert_false(ivshm_transport_is_empty(&b));
    ivshm_transport_close(&a);
    ivshm_transport_close(&b);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* More senders than polled rings: each is heard soon after its doorbell. */
TEST(test_idle_rings)
{
    enum { SENDERS = IVSHM_RINGS_POLLED + 9 };
    struct ivshm_region r = region_new(64 * MIB);
    struct ivshm_transport b = transport_new(&r, 0), a[SENDERS];
    struct ivshm_channel *ab[SENDERS];
    for (uint32_t i = 0; i < SENDERS; i++) {
        a[i] = transport_new(&r, 1 + i);
        ab[i] = channel_to(&a[i], &b);
        for (uint32_t n = 0; n < 10; n++) {
            assert_true(send_plain(&a[i], ab[i], 8, n));
            assert_true(receive_plain(&b, 8, n));
        }
    }
    assert_int_equal(b.poll_set.count, SENDERS);
    assert_int_equal(b.poll_set.polled_count, IVSHM_RINGS_POLLED);
    for (uint32_t round = 0; round < 5; round++)
        for (uint32_t i = 0; i < SENDERS; i++) {
            assert_true(send_plain(&a[i], ab[i], 8, i));
            assert_true(
                receive_plain(&b, 8, i)); /* at once: it was polled, or has rung the doorbell */
        }
    /* All send at once, and none starves. */
    uint32_t got[SENDERS] = {0};
    for (uint32_t n = 0; n < 10; n++)
        for (uint32_t i = 0; i < SENDERS; i++)
            assert_true(send_plain(&a[i], ab[i], 4, n));
    for (uint32_t left = 10 * SENDERS, calls = 0; left > 0; calls++) {
        struct ivshm_incoming in;
        assert_true(calls < 100 * SENDERS);
        if (ivshm_transport_receive(&b, &in, NULL) != 1)
            continue;
        uint32_t from = 0;
        while (ab[from]->ring_out.shm != in.channel->in.ring.shm)
            from++;
        assert_int_equal(in.payload[0], got[from]++);
        ivshm_message_release(&in);
        left--;
    }
    /* They leave in any order. One of them leaves a message in flight that nobody has read. */
    uint32_t last = a[3].endpoint.owner.endpoint;
    assert_true(send_plain(&a[3], ab[3], 8, 77));
    for (uint32_t i = 0; i < SENDERS; i++)
        ivshm_transport_close(&a[(i * 7) % SENDERS]);
    ivshm_transport_watch(&b);
    assert_non_null(b.channels[last]);
    assert_true(receive_plain(&b, 8, 77));
    ivshm_transport_watch(&b);
    assert_int_equal(b.poll_set.count, 0);
    assert_int_equal(b.poll_set.polled_count, 0);
    ivshm_transport_close(&b);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* A missing doorbell costs time only: each receive checks one idle ring in turn. */
TEST(test_lost_doorbell)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport a = transport_new(&r, 0), b = transport_new(&r, 1);
    struct ivshm_channel *ab = channel_to(&a, &b);
    for (uint32_t n = 0; n < 10; n++) {
        assert_true(send_plain(&a, ab, 8, n));
        assert_true(receive_plain(&b, 8, n));
    }
    assert_int_equal(b.poll_set.polled_count, 1);
    b.poll_set.polled_count = 0; /* idle, but the sender has not seen that yet */
    assert_true(send_plain(&a, ab, 8, 1));
    assert_true(receive_plain(&b, 8, 1));
    assert_int_equal(b.poll_set.polled_count, 1);
    ivshm_transport_close(&a);
    ivshm_transport_close(&b);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* Whatever is sent wakes its receiver: a cell, a slot, a buffer, a cell in a ring, what was
 * pending. */
TEST(test_wake)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport a = transport_new(&r, 0), b = transport_new(&r, 1);
    struct ivshm_channel *ab = channel_to(&a, &b);
    const uint32_t lens[] = {8, 8, 8, 8, 8, 1000, 1000, 5000};
    for (uint32_t n = 0; n < LENGTH(lens); n++) {
        ivshm_transport_announce_sleep(&b, IVSHM_SLEEP_ON_FUTEX);
        assert_true(send_plain(&a, ab, lens[n], n));
        assert_false(ivshm_sleep_announced(b.inbox.shm));
        assert_int_equal(a.wakes, n + 1);
        while (!receive_plain(&b, lens[n], n))
            ;
    }
    assert_non_null(ab->ring_out.shm);
    /* Nobody is woken who is awake, or who changed its mind. */
    ivshm_transport_announce_sleep(&b, IVSHM_SLEEP_ON_FUTEX);
    ivshm_transport_withdraw_sleep(&b);
    assert_true(send_plain(&a, ab, 8, 1));
    assert_int_equal(a.wakes, LENGTH(lens));
    /* Nor does the receiver sleep while there is a message. */
    ivshm_transport_announce_sleep(&b, IVSHM_SLEEP_ON_FUTEX);
    ivshm_transport_sleep(&b, 20000000, NULL, 0);
    assert_false(ivshm_sleep_announced(b.inbox.shm));
    assert_true(receive_plain(&b, 8, 1));
    ivshm_transport_close(&a);
    ivshm_transport_close(&b);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* The wake of another kernel would be lost, and with it the announcement. */
TEST(test_wake_from_elsewhere)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport a = transport_new(&r, 0), b = transport_new(&r, 1);
    struct ivshm_channel *ab = channel_to(&a, &b);
    assert_int_equal(ivshm_transport_crowd(&a).sleep, IVSHM_SLEEP_ON_FUTEX);
    assert_int_equal(ivshm_transport_crowd(&a).here, 2);
    a.endpoint.process.boot_id[0] ^= 1;
    assert_int_equal(ivshm_transport_crowd(&a).sleep, IVSHM_SLEEP_NOT);
    assert_int_equal(ivshm_transport_crowd(&a).elsewhere, 2);
    ivshm_transport_announce_sleep(&b, IVSHM_SLEEP_ON_FUTEX);
    assert_true(send_plain(&a, ab, 8, 1));
    assert_true(ivshm_sleep_announced(b.inbox.shm));
    assert_int_equal(a.wakes, 0);
    a.endpoint.process.boot_id[0] ^= 1;
    r.map.is_device = true; /* of which there are no futexes */
    assert_int_equal(ivshm_transport_crowd(&a).sleep, IVSHM_SLEEP_NOT);
    assert_int_equal(ivshm_transport_crowd(&a).here, 2);
    assert_true(send_plain(&a, ab, 8, 1));
    assert_int_equal(a.wakes, 0);
    r.map.is_device = false;
    ivshm_transport_close(&a);
    ivshm_transport_close(&b);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

static void *sleep_on(void *arg)
{
    ivshm_transport_announce_sleep(arg, IVSHM_SLEEP_ON_FUTEX);
    ivshm_transport_sleep(arg, 20000000, NULL, 0);
    return NULL;
}

/* A sleep that something else than a message has ended. */
TEST(test_end_sleep)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport t = transport_new(&r, 0);
    ivshm_transport_end_sleep(&t);
    assert_false(ivshm_sleep_announced(t.inbox.shm));
    ivshm_transport_announce_sleep(&t, IVSHM_SLEEP_ON_FUTEX);
    ivshm_transport_end_sleep(&t);
    assert_false(ivshm_sleep_announced(t.inbox.shm));
    assert_int_equal(t.wakes, 0);
    ivshm_transport_sleep(&t, 20000000, NULL, 0);
    ivshm_transport_close(&t);
    ivshm_region_close(&r);
}

/* A sleep ends by itself. */
TEST(test_sleep_ends)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport t = transport_new(&r, 0);
    pthread_t thread;
    must(pthread_create(&thread, NULL, sleep_on, &t) == 0);
    pthread_join(thread, NULL);
    assert_false(ivshm_sleep_announced(t.inbox.shm));
    ivshm_transport_close(&t);
    ivshm_region_close(&r);
}

/* Neither a flood through a ring nor one through the inbox keeps the other waiting. */
TEST(test_ring_and_inbox_take_turns)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport a = transport_new(&r, 0), b = transport_new(&r, 1);
    struct ivshm_transport c = transport_without_rings(&r, 2);
    struct ivshm_channel *ab = channel_to(&a, &b), *cb = channel_to(&c, &b);
    struct ivshm_incoming in;
    uint32_t from_a = 0, from_c = 0;
    for (uint32_t n = 0; n < 6; n++) {
        assert_true(send_plain(&a, ab, 8, n));
        assert_true(receive_plain(&b, 8, n));
    }
    for (uint32_t n = 0; n < 40; n++) {
        while (send_plain(&a, ab, 8, 0))
            ;
        while (send_plain(&c, cb, 8, 0))
            ;
        assert_int_equal(ivshm_transport_receive(&b, &in, NULL), 1);
        *(in.channel->in.ring.shm ? &from_a : &from_c) += 1;
        ivshm_message_release(&in);
    }
    assert_true(from_a >= 15 && from_c >= 15);
    ivshm_transport_close(&a);
    ivshm_transport_close(&c);
    ivshm_transport_close(&b);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* Records that no correct sender writes. */
TEST(test_ring_nonsense)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport a, b = transport_new(&r, 1);
    struct ivshm_channel *ab;
    struct ivshm_incoming in;
    struct ivshm_diag diag = {""};
    const struct {
        uint32_t kind, value;
        const char *words;
    } lies[] = {{IVSHM_RECORD_INLINE, ivshm_slot_room(r.geo.slot_size) + 1,
                 "invalid record, of kind 1 and 249 bytes"},
                {IVSHM_RECORD_INLINE, 0xffff, "65535 bytes"},
                {IVSHM_RECORD_BUFFER, 2177, "record, of kind 3"},
                {4, 8, "record, of kind 4"},
                {0xff, 8, "record, of kind 255"},
                {IVSHM_RECORD_CELL, 136, "cell 136, but has only 136"},
                {IVSHM_RECORD_CELL, 0xffff, "cell 65535, but has only 136"}};
    for (size_t i = 0; i < LENGTH(lies); i++) {
        a = transport_new(&r, 0);
        ab = channel_to(&a, &b);
        for (uint32_t n = 0; n < 6; n++) {
            assert_true(send_plain(&a, ab, 8, n));
            assert_true(receive_plain(&b, 8, n));
        }
        assert_non_null(ivshm_ring_reserve_spsc(&ab->ring_out));
        ivshm_ring_publish_spsc(
            &ab->ring_out, (struct ivshm_record){ab->sent, (enum ivshm_record_kind) lies[i].kind,
                                                 lies[i].value, 0});
        assert_int_equal(ivshm_transport_receive(&b, &in, &diag), -EBADMSG);
        assert_int_equal(in.channel->peer.endpoint, a.endpoint.owner.endpoint);
        assert_says(diag, lies[i].words);
        assert_true(send_plain(&a, ab, 8, 6)); /* nobody receives that any more */
        assert_nothing_comes(&b);
        ivshm_transport_close(&a);
        ivshm_transport_watch(&b);
    }
    /* A second ring, and one of the wrong size. */
    a = transport_new(&r, 0);
    ab = channel_to(&a, &b);
    for (uint32_t n = 0; n < 6; n++) {
        assert_true(send_plain(&a, ab, 8, n));
        assert_true(receive_plain(&b, 8, n));
    }
    struct ivshm_ring_producer ring = ab->ring_out;
    for (int second = 0; second < 2; second++) {
        struct ivshm_transport c = transport_without_rings(&r, 2);
        struct ivshm_channel *cb = channel_to(&c, &b);
        struct ivshm_outgoing out;
        assert_int_equal(ivshm_message_reserve(&c, cb, 8, IVSHM_STREAM_RING, &out), 0);
        memcpy(out.payload, &ring.off, sizeof(ring.off)); /* a's */
        ivshm_message_publish(&c, cb, &out, second ? 8 : 7);
        assert_int_equal(ivshm_transport_receive(&b, &in, &diag), -EBADMSG);
        assert_says(diag, second ? "has no such ring" : "announced a ring in a message of 7 bytes");
        ivshm_transport_close(&c);
        ivshm_transport_watch(&b);
    }
    ivshm_transport_close(&a);
    ivshm_transport_close(&b);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

struct mortal {
    struct ivshm_region *r;
    struct ivshm_transport *survivor;
    int to_parent[2], to_child[2];
};

/* Opens, sends one message, receives nothing, and waits to be killed. */
static void send_and_wait(void *arg)
{
    struct mortal *m = arg;
    struct ivshm_transport t = transport_new(m->r, 9);
    struct ivshm_channel *ch = channel_to(&t, m->survivor);
    must(send_numbered(&t, ch, 10, 1));
    must(write(m->to_parent[1], &t.endpoint.owner, sizeof(struct ivshm_owner)) > 0);
    for (;;)
        pause();
}

/* The cells that it held are free again, its memory is freed, and the entry can be used again. */
TEST(test_peer_dies_with_our_cells)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport a = transport_without_rings(&r, 0);
    for (int closed_before = 0; closed_before < 2; closed_before++) {
        struct mortal m = {.r = &r, .survivor = &a};
        struct ivshm_owner owner;
        struct ivshm_channel *ch;
        uint32_t sent = 0;
        assert_int_equal(pipe(m.to_parent), 0);
        pid_t pid = child_start(send_and_wait, &m);
        assert_int_equal(read(m.to_parent[0], &owner, sizeof(owner)), sizeof(owner));
        receive_numbered(&a, &(struct ivshm_transport){.endpoint.owner = owner}, 10, 1);
        assert_int_equal(ivshm_channel_open(&a, owner, &ch, NULL), 0);
        while (send_numbered(&a, ch, 10, sent))
            sent++;
        assert_int_equal(sent, r.geo.small_cells + r.geo.large_cells);
        if (closed_before)
            ivshm_channel_close(&a, ch);
        ivshm_transport_watch(&a);
        assert_true(ivshm_endpoint_is_live(&r, owner)); /* it sends nothing, but is alive */
        assert_int_equal(ivshm_pool_alloc(&a.small), -1);

        child_kill(pid);
        ivshm_transport_watch(&a);
        assert_false(ivshm_endpoint_is_live(&r, owner));
        if (!closed_before) {
            assert_false(ivshm_channel_is_live(&a, ch));
            /* The user of the channel closes it, and may need the cells for that. */
            assert_int_equal(a.small.free_count, r.geo.small_cells);
            ivshm_channel_close(&a, ch);
            ivshm_transport_watch(&a);
        }
        assert_null(a.channels[owner.endpoint]);
        assert_int_equal(a.small.free_count, r.geo.small_cells);
        assert_int_equal(a.large.free_count, r.geo.large_cells);
        close(m.to_parent[0]);
        close(m.to_parent[1]);
    }
    struct ivshm_reaped reaped;
    ivshm_endpoint_reap(&r, &a.endpoint.process, &reaped);
    assert_int_equal(reaped.waiting, 0);
    ivshm_transport_close(&a);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* A peer in use stays known until we close, dead or not. */
TEST(test_used_channel_is_not_forgotten)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport a = transport_new(&r, 0), b = transport_new(&r, 1);
    struct ivshm_channel *ab = channel_to(&a, &b);
    uint32_t index = b.endpoint.owner.endpoint;
    ivshm_transport_close(&b);
    ivshm_transport_watch(&a);
    assert_ptr_equal(a.channels[index], ab);
    assert_int_equal(ivshm_endpoint_claim(&r, index).state, IVSHM_CLAIM_DEAD); /* we are attached */
    ivshm_channel_close(&a, ab);
    ivshm_transport_watch(&a);
    assert_null(a.channels[index]);
    ivshm_transport_close(&a);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* Threads: all send to all, numbered messages of both sizes. */

#define RANKS 4
#define MESSAGES 3000

struct rank {
    struct ivshm_region *r;
    pthread_barrier_t *barrier;
    struct ivshm_owner *owners;
    uint32_t id;
};

static uint32_t len_of(uint32_t from, uint32_t to, uint32_t n)
{
    uint32_t h = (from * 7 + to * 13 + n) * 2654435761u >> 8;
    return n % 8 == 0 ? h % 9000 : h % 300;
}

static void *all_to_all(void *arg)
{
    struct rank *me = arg;
    struct ivshm_transport t = transport_new(me->r, me->id);
    struct ivshm_channel *to[RANKS];
    uint32_t sent[RANKS] = {0}, got[RANKS] = {0}, left = 2 * RANKS * MESSAGES;
    me->owners[me->id] = t.endpoint.owner;
    pthread_barrier_wait(me->barrier);
    for (uint32_t i = 0; i < RANKS; i++)
        must(ivshm_channel_open(&t, me->owners[i], &to[i], NULL) == 0);
    while (left > 0) {
        bool idle = true;
        struct ivshm_incoming in;
        struct ivshm_diag diag = {""};
        for (uint32_t i = 0; i < RANKS; i++)
            if (sent[i] < MESSAGES &&
                send_numbered(&t, to[i], len_of(me->id, i, sent[i]), sent[i])) {
                sent[i]++;
                left--;
                idle = false;
            }
        int err = ivshm_transport_receive(&t, &in, &diag);
        if (err < 0)
            fprintf(stderr, "%s\n", diag.text);
        must(err >= 0);
        if (err) {
            uint32_t from = 0;
            while (me->owners[from].endpoint != in.channel->peer.endpoint)
                from++;
            must(is_numbered(&in, len_of(from, me->id, got[from]), got[from]));
            got[from]++;
            left--;
            idle = false;
            ivshm_message_release(&in);
        }
        if (t.pending)
            ivshm_transport_flush(&t);
        if (idle)
            sched_yield();
    }
    pthread_barrier_wait(me->barrier); /* all of ours have arrived */
    must(t.pending == 0);
    for (uint32_t i = 0; i < RANKS; i++)
        ivshm_channel_close(&t, to[i]);
    ivshm_transport_close(&t);
    return NULL;
}

TEST(test_all_to_all)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct rank ranks[RANKS];
    struct ivshm_owner owners[RANKS];
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, RANKS);
    for (uint32_t i = 0; i < RANKS; i++)
        ranks[i] = (struct rank){.r = &r, .barrier = &barrier, .owners = owners, .id = i};
    threads_run(RANKS, all_to_all, ranks, sizeof(ranks[0]));
    pthread_barrier_destroy(&barrier);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/*
 * The messages of a dead peer are within one lap of the inbox, so that no other traffic hides its
 * death.
 */
TEST(test_death_amid_traffic)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport a = transport_without_rings(&r, 0), b = transport_without_rings(&r, 1);
    struct ivshm_transport c = transport_without_rings(&r, 2);
    struct ivshm_channel *cb = channel_to(&c, &b), *ba = channel_to(&b, &a);
    ivshm_transport_close(&a);
    uint32_t position = ivshm_transport_inbox_position(&b);
    assert_true(send_numbered(&c, cb, 10, 1));
    for (uint32_t i = 0; i < r.geo.inbox_slots; i++) {
        assert_true(ivshm_channel_has_more(&b, ba, position));
        assert_true(send_numbered(&c, cb, 10, 1));
        receive_numbered(&b, &c, 10, 1);
    }
    assert_false(ivshm_channel_has_more(&b, ba, position));
    ivshm_transport_close(&b);
    ivshm_transport_close(&c);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* What a process tells is read as long as it is there, and its entry is sound. */
TEST(test_telling)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport a = transport_new(&r, 0);
    const struct ivshm_owner self = a.endpoint.owner;
    const struct ivshm_counts counts = {.eager_sent = 1, .tcp_sent_bytes = 2, .waited = UINT64_MAX};
    struct ivshm_endpoint_info info;
    struct ivshm_told told;
    assert_int_equal(ivshm_endpoint_read(&r, self.endpoint, &info), 0);
    assert_true(ivshm_endpoint_told(&r, self.endpoint, &info, &told));
    assert_memory_equal(&told, &(struct ivshm_told){0}, sizeof(told));
    ivshm_transport_tell(&a, 7, &counts);
    ivshm_transport_tell_doing(&a, IVSHM_DOING_NAP);
    assert_true(ivshm_endpoint_told(&r, self.endpoint, &info, &told));
    assert_int_equal(told.doing, IVSHM_DOING_NAP);
    assert_int_equal(told.time, 7);
    assert_memory_equal(&told.counts, &counts, sizeof(counts));
    ivshm_transport_tell_work(&a);
    assert_true(ivshm_endpoint_told(&r, self.endpoint, &info, &told));
    assert_int_equal(told.doing, IVSHM_DOING_WORK);
    info.base.bytes = r.geo.size - IVSHM_PAGE; /* as a peer may write it */
    assert_false(ivshm_endpoint_told(&r, self.endpoint, &info, &told));
    assert_int_equal(ivshm_endpoint_read(&r, self.endpoint, &info), 0);
    info.claim.generation++;
    assert_false(ivshm_endpoint_told(&r, self.endpoint, &info, &told));
    info.claim.generation--;
    ivshm_transport_close(&a);
    assert_false(ivshm_endpoint_told(&r, self.endpoint, &info, &told));
    /* The next one has told nothing. */
    a = transport_new(&r, 0);
    assert_int_equal(ivshm_endpoint_read(&r, a.endpoint.owner.endpoint, &info), 0);
    assert_true(ivshm_endpoint_told(&r, a.endpoint.owner.endpoint, &info, &told));
    assert_memory_equal(&told, &(struct ivshm_told){0}, sizeof(told));
    ivshm_transport_close(&a);
    ivshm_region_close(&r);
}

/* A wait is told once it has lasted; what comes before that costs nothing. */
TEST(test_telling_of_waits)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_transport a = transport_new(&r, 0);
    const struct ivshm_wait_for what = {.looks = 1};
    struct ivshm_wait wait;
    uint64_t nap;
    ivshm_wait_init(&wait, IVSHM_WAIT_SPIN);
    ivshm_transport_tell_wait(&a, &wait, ivshm_wait_next(&wait, 1000, &what, &nap));
    assert_int_equal(a.doing, IVSHM_DOING_WORK);
    ivshm_transport_tell_wait(&a, &wait, ivshm_wait_next(&wait, 1001000, &what, &nap));
    assert_int_equal(a.doing, IVSHM_DOING_SPIN);
    ivshm_transport_end_wait(&a, &wait);
    assert_int_equal(a.doing, IVSHM_DOING_WORK);
    assert_int_equal(ivshm_wait_total(&wait), 1000000);
    ivshm_transport_close(&a);
    ivshm_region_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_telling),
        cmocka_unit_test(test_telling_of_waits),
        cmocka_unit_test(test_half_in_flight),
        cmocka_unit_test(test_sent_before_it_left),
        cmocka_unit_test(test_stale_reference),
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_is_empty),
        cmocka_unit_test(test_idle_rings),
        cmocka_unit_test(test_lost_doorbell),
        cmocka_unit_test(test_wake),
        cmocka_unit_test(test_wake_from_elsewhere),
        cmocka_unit_test(test_end_sleep),
        cmocka_unit_test(test_sleep_ends),

        cmocka_unit_test(test_ring_and_inbox_take_turns),
        cmocka_unit_test(test_ring_nonsense),
        cmocka_unit_test(test_peer_dies_with_our_cells),
        cmocka_unit_test(test_used_channel_is_not_forgotten),
        cmocka_unit_test(test_all_to_all),
        cmocka_unit_test(test_death_amid_traffic),
    };
    return RUN(tests);
}
