/* SPDX-License-Identifier: mpich2 */
/*
 * Whatever a peer has written is read once. Otherwise the peer could change a word between two
 * reads, and the value in use would not be the one that was checked. The code that reads is
 * compiled into this file, with a hook that counts.
 */
#define IVSHM_STEPS
#include "unit.h"

#include "core/channel.c"
#include "core/pipeline.c"
#include "core/ring.c"
#include "core/transport.c"

#define READS_MAX 256

static const void *reads[READS_MAX];
static uint32_t read_count;
static const char *watched, *watched_end; /* the peer's memory */

void ivshm_access_step(const void *word, bool writes)
{
    const char *at = word;
    if (writes || at < watched || at >= watched_end)
        return;
    must(read_count < READS_MAX);
    reads[read_count++] = word;
}

static void watch(const void *start, uint64_t bytes)
{
    watched = start;
    watched_end = watched + bytes;
    read_count = 0;
}

/* Something was read, and nothing was read twice. */
static void assert_read_once(void)
{
    watched = watched_end = NULL;
    assert_true(read_count > 0);
    for (uint32_t i = 0; i < read_count; i++)
        for (uint32_t j = 0; j < i; j++)
            assert_ptr_not_equal(reads[i], reads[j]);
}

static void send(struct ivshm_transport *t, struct ivshm_channel *ch, uint32_t len, uint32_t stream)
{
    struct ivshm_outgoing out;
    assert_int_equal(ivshm_message_reserve(t, ch, len, stream, &out), 0);
    memset(out.payload, 0, len);
    ivshm_message_publish(t, ch, &out, len);
}

/* Cells through the inbox, then records of all kinds: in slots, in buffers, in cells. */
TEST(test_messages)
{
    struct ivshm_region r = region_new(16 * MIB);
    struct ivshm_transport a, b;
    struct ivshm_channel *ab;
    struct ivshm_incoming in;
    assert_int_equal(ivshm_transport_open(&a, &r, "job", 0, 2, NULL), 0);
    assert_int_equal(ivshm_transport_open(&b, &r, "job", 1, 2, NULL), 0);
    ivshm_transport_choose(&a, IVSHM_COPY_AHEAD, 1); /* long messages go whole */
    ivshm_transport_choose(&b, IVSHM_COPY_AHEAD, 1);
    assert_int_equal(ivshm_channel_open(&a, b.endpoint.owner, &ab, NULL), 0);
    const uint32_t lens[] = {8, 5000, 8, 5000, 8, 1000, 5000, 8, 1000, 5000};
    for (uint32_t i = 0; i < LENGTH(lens); i++) {
        send(&a, ab, lens[i], 0);
        send(&a, ab, lens[i], 1);
    }
    for (uint32_t i = 0; i < 2 * LENGTH(lens); i++) {
        bool by_ring = ab->ring_out.shm && i >= a.ring_after;
        watch(by_ring ? (void *) ab->ring_out.shm : a.endpoint.base,
              by_ring ? r.geo.ring_bytes : r.geo.base_bytes);
        /* The announcement of the ring arrives in one call with the first record in it. */
        assert_int_equal(ivshm_transport_receive(&b, &in, NULL), 1);
        assert_read_once();
        assert_int_equal(in.len, lens[i / 2]);
        ivshm_message_release(&in);
    }
    ivshm_transport_close(&a);
    ivshm_transport_close(&b);
    ivshm_region_close(&r);
}

TEST(test_chunks)
{
    struct ivshm_region r = region_new(4 * MIB);
    const struct ivshm_owner owner = {0, 1};
    struct ivshm_pipeline out, in;
    uint32_t len;
    assert_int_equal(ivshm_pipeline_alloc(&r, owner, &out), 0);
    assert_int_equal(ivshm_pipeline_attach(&r, owner, out.off, 0, &in, NULL), 0);
    assert_non_null(ivshm_pipeline_reserve_spsc(&out));
    ivshm_pipeline_publish_spsc(&out, 7, 0);
    watch(in.words, r.geo.pipeline_bytes);
    assert_non_null(ivshm_pipeline_peek_spsc(&in, &len, NULL));
    assert_read_once();
    assert_int_equal(len, 7);
    ivshm_region_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_chunks),
    };
    return RUN(tests);
}
