/* SPDX-License-Identifier: mpich2 */
#include "unit.h"

static const struct ivshm_owner receiver = {2, 9}, sender = {3, 9};

TEST(test_alloc_and_free)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_lane lane;
    assert_int_equal(ivshm_lane_alloc(&r, receiver, &lane), 0);
    assert_int_equal(lane.count, r.geo.lane_chunks);
    assert_int_equal(lane.size, r.geo.chunk_size);
    assert_int_equal(lane.next, 0);
    assert_true(ivshm_extent_owned(&r, receiver, IVSHM_KIND_LANE, lane.off, r.geo.lane_bytes));
    assert_ptr_equal(lane.words, (char *) r.map.base + lane.off.bytes);
    assert_ptr_equal(lane.chunks, (char *) r.map.base + lane.off.bytes + r.geo.chunk_data);
    ivshm_lane_free(&r, receiver, &lane);
    assert_all_given_back(&r);
    ivshm_region_close(&r);
}

/* Memory that was something else before is a lane of empty chunks. */
TEST(test_dirty_memory)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_lane lane;
    uint32_t len;
    memset((char *) r.map.base + r.geo.data, 0xff, r.geo.lane_bytes);
    assert_int_equal(ivshm_lane_alloc(&r, receiver, &lane), 0);
    for (uint32_t i = 0; i < lane.count; i++)
        assert_int_equal(ivshm_load64_relaxed(&lane.words[i].len), 0);
    assert_null(ivshm_lane_peek_spsc(&lane, &len));
    ivshm_region_close(&r);
}

TEST(test_no_memory)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_lane lane;
    uint64_t lanes = 0, each = (r.geo.lane_bytes + r.geo.block_size - 1) / r.geo.block_size;
    while (ivshm_lane_alloc(&r, receiver, &lane) == 0)
        lanes++;
    assert_int_equal(lanes, r.geo.blocks / each);
    assert_int_equal(ivshm_lane_alloc(&r, sender, &lane), -ENOSPC);
    assert_int_equal(ivshm_extent_reclaim(&r, receiver), lanes * each);
    assert_all_given_back(&r);
    ivshm_region_close(&r);
}

TEST(test_attach)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_lane lane, mine, base;
    struct ivshm_diag diag;
    assert_int_equal(ivshm_lane_alloc(&r, receiver, &lane), 0);
    assert_int_equal(ivshm_lane_attach(&r, receiver, lane.off, 0, &mine, &diag), 0);
    assert_ptr_equal(mine.words, lane.words);
    assert_ptr_equal(mine.chunks, lane.chunks);
    assert_int_equal(mine.count, lane.count);
    assert_int_equal(mine.size, lane.size);
    assert_int_equal(mine.next, 0);
    assert_int_equal(ivshm_lane_attach(&r, receiver, lane.off, lane.count - 1, &mine, &diag), 0);
    assert_int_equal(mine.next, lane.count - 1);
    assert_int_equal(ivshm_lane_attach(&r, receiver, lane.off, lane.count, &mine, &diag), -EBADMSG);
    assert_says(diag, "from chunk");

    /* Not a lane of that endpoint's: never written. */
    ivshm_off off;
    uint64_t bs = r.geo.block_size;
    assert_int_equal(ivshm_extent_alloc(&r, receiver, IVSHM_KIND_BASE, r.geo.lane_bytes, &off), 0);
    assert_int_equal(ivshm_lane_attach(&r, receiver, off, 0, &base, &diag), -EBADMSG);
    assert_says(diag, "endpoint 2 lent a lane");
    assert_says(diag, "not its own");
    assert_int_equal(ivshm_extent_alloc(&r, receiver, IVSHM_KIND_LANE, bs, &off),
                     0); /* too short */
    assert_int_equal(ivshm_lane_attach(&r, receiver, off, 0, &base, &diag), -EBADMSG);
    assert_int_equal(ivshm_lane_attach(&r, sender, lane.off, 0, &base, &diag), -EBADMSG);
    assert_int_equal(ivshm_lane_attach(&r, (struct ivshm_owner){2, 10}, lane.off, 0, &base, &diag),
                     -EBADMSG);
    uint64_t bad[] = {0,          8,          lane.off.bytes + 64, lane.off.bytes + bs,
                      r.geo.size, UINT64_MAX, UINT64_MAX - bs + 1};
    for (size_t i = 0; i < LENGTH(bad); i++)
        assert_int_equal(ivshm_lane_attach(&r, receiver, (ivshm_off){bad[i]}, 0, &base, &diag),
                         -EBADMSG);
    assert_int_equal(ivshm_lane_attach(&r, receiver, (ivshm_off){bad[0]}, 0, &base, NULL),
                     -EBADMSG);
    ivshm_region_close(&r);
}

/* Full and empty, many times round, with every length at the edges. */
TEST(test_ring)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_lane in, out;
    uint32_t sent = 0, got = 0, len;
    assert_int_equal(ivshm_lane_alloc(&r, receiver, &in), 0);
    assert_int_equal(ivshm_lane_attach(&r, receiver, in.off, 0, &out, NULL), 0);
    const uint32_t lens[] = {1, 63, 64, out.size - 1, out.size};
    for (uint32_t round = 0; round < 40; round++) {
        unsigned char *chunk;
        uint32_t at_once = 1 + round % out.count;
        for (uint32_t i = 0; i < at_once; i++) {
            chunk = ivshm_lane_reserve_spsc(&out);
            assert_ptr_equal(chunk, out.chunks + (size_t) (sent % out.count) * out.size);
            assert_ptr_equal(ivshm_lane_reserve_spsc(&out), chunk); /* until it is published */
            memset(chunk, (int) sent, lens[sent % LENGTH(lens)]);
            ivshm_lane_publish_spsc(&out, lens[sent % LENGTH(lens)]);
            sent++;
        }
        if (at_once == out.count)
            assert_null(ivshm_lane_reserve_spsc(&out));
        for (uint32_t i = 0; i < at_once; i++) {
            const unsigned char *found = ivshm_lane_peek_spsc(&in, &len);
            assert_non_null(found);
            assert_ptr_equal(ivshm_lane_peek_spsc(&in, &len), found);
            assert_int_equal(len, lens[got % LENGTH(lens)]);
            assert_int_equal(found[0], got & 0xff);
            assert_int_equal(found[len - 1], got & 0xff);
            ivshm_lane_consume_spsc(&in);
            got++;
        }
        assert_null(ivshm_lane_peek_spsc(&in, &len));
    }
    ivshm_lane_free(&r, receiver, &in);
    assert_all_given_back(&r);
    ivshm_region_close(&r);
}

/* A sender that claims more than a chunk holds. */
TEST(test_hostile_length)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_lane in;
    assert_int_equal(ivshm_lane_alloc(&r, receiver, &in), 0);
    const uint64_t lies[] = {(uint64_t) in.size + 1, UINT64_C(1) << 31, UINT64_C(1) << 32,
                             (UINT64_C(1) << 32) + 1, UINT64_MAX};
    for (size_t i = 0; i < LENGTH(lies); i++) {
        uint32_t len = 77;
        ivshm_store64_relaxed(&in.words[in.next].len, lies[i]);
        assert_non_null(ivshm_lane_peek_spsc(&in, &len));
        assert_int_equal(len, 0);
        ivshm_lane_consume_spsc(&in);
    }
    ivshm_region_close(&r);
}

/* Two threads, both copying; chunks are plain memory: edges L1 and L2. */

#define TRANSFERS 40
#define MESSAGE (300 * 1024 + 17)

struct side {
    struct ivshm_region *r;
    struct ivshm_lane lane;
    bool sends;
};

static unsigned char byte_at(uint32_t transfer, uint32_t at)
{
    return (unsigned char) (at * 7 + (at >> 8) + transfer);
}

static void *transfer(void *arg)
{
    struct side *s = arg;
    uint64_t seed = s->sends;
    for (uint32_t t = 0; t < TRANSFERS; t++) {
        for (uint32_t done = 0; done < MESSAGE;) {
            uint32_t len;
            if (s->sends) {
                unsigned char *chunk = ivshm_lane_reserve_spsc(&s->lane);
                if (!chunk) {
                    sched_yield();
                    continue;
                }
                len = MESSAGE - done < s->lane.size ? MESSAGE - done : s->lane.size;
                if (random_next(&seed) % 2)
                    len = 1 + random_next(&seed) % len;
                for (uint32_t i = 0; i < len; i++)
                    chunk[i] = byte_at(t, done + i);
                ivshm_lane_publish_spsc(&s->lane, len);
            } else {
                const unsigned char *chunk = ivshm_lane_peek_spsc(&s->lane, &len);
                if (!chunk) {
                    sched_yield();
                    continue;
                }
                must(len > 0 && len <= MESSAGE - done);
                for (uint32_t i = 0; i < len; i++)
                    must(chunk[i] == byte_at(t, done + i));
                ivshm_lane_consume_spsc(&s->lane);
            }
            done += len;
        }
        if (s->sends) { /* may do with it what it likes, once it is drained */
            while (!ivshm_lane_is_drained(&s->lane))
                sched_yield();
            memset(s->lane.chunks, 0, (size_t) s->lane.count * s->lane.size);
        }
    }
    return NULL;
}

TEST(test_transfers)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct side sides[2] = {{.r = &r}, {.r = &r, .sends = true}};
    assert_int_equal(ivshm_lane_alloc(&r, receiver, &sides[0].lane), 0);
    assert_int_equal(ivshm_lane_attach(&r, receiver, sides[0].lane.off, 0, &sides[1].lane, NULL),
                     0);
    threads_run(2, transfer, sides, sizeof(sides[0]));
    ivshm_lane_free(&r, receiver, &sides[0].lane);
    assert_all_given_back(&r);
    ivshm_region_close(&r);
}

/* What can be read without waiting: up to the first chunk that is empty, or nonsense. */
TEST(test_waiting)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_lane out, in;
    assert_int_equal(ivshm_lane_alloc(&r, sender, &out), 0);
    for (uint32_t first = 0; first < out.count; first++) {
        out.next = first;
        assert_int_equal(ivshm_lane_attach(&r, sender, out.off, first, &in, NULL), 0);
        for (uint32_t n = 0; n < out.count; n++) {
            assert_int_equal(ivshm_lane_waiting(&in), 7 * n);
            assert_non_null(ivshm_lane_reserve_spsc(&out));
            ivshm_lane_publish_spsc(&out, 7);
        }
        assert_int_equal(ivshm_lane_waiting(&in), 7 * out.count);
        ivshm_store64_relaxed(&out.words[(first + 2) % out.count].len, out.size + 1);
        assert_int_equal(ivshm_lane_waiting(&in), 14);
        ivshm_lane_reset(&out);
    }
    ivshm_region_close(&r);
}

TEST(test_drained_and_reset)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_lane out, in;
    uint32_t len;
    assert_int_equal(ivshm_lane_alloc(&r, receiver, &out), 0); /* here the owner sends */
    assert_int_equal(ivshm_lane_attach(&r, receiver, out.off, 0, &in, NULL), 0);
    for (uint32_t round = 0; round < 2 * out.count; round++) {
        assert_true(ivshm_lane_is_drained(&out));
        for (int i = 0; i < 2; i++) {
            assert_non_null(ivshm_lane_reserve_spsc(&out));
            ivshm_lane_publish_spsc(&out, 1);
        }
        for (int i = 0; i < 2; i++) {
            assert_false(ivshm_lane_is_drained(&out));
            assert_non_null(ivshm_lane_peek_spsc(&in, &len));
            ivshm_lane_consume_spsc(&in);
        }
    }
    while (ivshm_lane_reserve_spsc(&out))
        ivshm_lane_publish_spsc(&out, 1);
    ivshm_lane_reset(&out);
    assert_int_equal(ivshm_lane_attach(&r, receiver, out.off, 0, &in, NULL), 0);
    assert_null(ivshm_lane_peek_spsc(&in, &len));
    assert_non_null(ivshm_lane_reserve_spsc(&out));
    ivshm_lane_publish_spsc(&out, 7);
    assert_non_null(ivshm_lane_peek_spsc(&in, &len));
    assert_int_equal(len, 7);
    ivshm_region_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc_and_free), cmocka_unit_test(test_dirty_memory),
        cmocka_unit_test(test_no_memory),      cmocka_unit_test(test_attach),
        cmocka_unit_test(test_ring),           cmocka_unit_test(test_hostile_length),
        cmocka_unit_test(test_transfers),      cmocka_unit_test(test_drained_and_reset),
        cmocka_unit_test(test_waiting),
    };
    return RUN(tests);
}
