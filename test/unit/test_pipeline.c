/* SPDX-License-Identifier: mpich2 */
#include "unit.h"

static const struct ivshm_owner receiver = {2, 9}, sender = {3, 9};

TEST(test_alloc_and_free)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_pipeline pipeline;
    assert_int_equal(ivshm_pipeline_alloc(&r, receiver, &pipeline), 0);
    assert_int_equal(pipeline.count, r.geo.pipeline_chunks);
    assert_int_equal(pipeline.size, r.geo.chunk_size);
    assert_int_equal(pipeline.next, 0);
    assert_true(
        ivshm_extent_owned(&r, receiver, IVSHM_KIND_PIPELINE, pipeline.off, r.geo.pipeline_bytes));
    assert_ptr_equal(pipeline.words, (char *) r.map.base + pipeline.off.bytes);
    assert_ptr_equal(pipeline.chunks, (char *) r.map.base + pipeline.off.bytes + r.geo.chunk_data);
    ivshm_pipeline_free(&r, receiver, &pipeline);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* Memory that held something else becomes a pipeline of empty chunks. */
TEST(test_dirty_memory)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_pipeline pipeline;
    uint32_t len;
    memset((char *) r.map.base + r.geo.data, 0xff, r.geo.pipeline_bytes);
    assert_int_equal(ivshm_pipeline_alloc(&r, receiver, &pipeline), 0);
    for (uint32_t i = 0; i < pipeline.count; i++)
        assert_int_equal(ivshm_a64_load_relaxed(&pipeline.words[i].len), 0);
    assert_null(ivshm_pipeline_peek_spsc(&pipeline, &len, NULL));
    ivshm_region_close(&r);
}

TEST(test_no_memory)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_pipeline pipeline;
    uint64_t pipelines = 0, each = (r.geo.pipeline_bytes + r.geo.block_size - 1) / r.geo.block_size;
    while (ivshm_pipeline_alloc(&r, receiver, &pipeline) == 0)
        pipelines++;
    assert_int_equal(pipelines, r.geo.blocks / each);
    assert_int_equal(ivshm_pipeline_alloc(&r, sender, &pipeline), -ENOSPC);
    assert_int_equal(ivshm_extent_reclaim(&r, receiver), pipelines * each);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

TEST(test_attach)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_pipeline pipeline, mine, base;
    struct ivshm_diag diag;
    assert_int_equal(ivshm_pipeline_alloc(&r, receiver, &pipeline), 0);
    assert_int_equal(ivshm_pipeline_attach(&r, receiver, pipeline.off, 0, &mine, &diag), 0);
    assert_ptr_equal(mine.words, pipeline.words);
    assert_ptr_equal(mine.chunks, pipeline.chunks);
    assert_int_equal(mine.count, pipeline.count);
    assert_int_equal(mine.size, pipeline.size);
    assert_int_equal(mine.next, 0);
    assert_int_equal(
        ivshm_pipeline_attach(&r, receiver, pipeline.off, pipeline.count - 1, &mine, &diag), 0);
    assert_int_equal(mine.next, pipeline.count - 1);
    assert_int_equal(
        ivshm_pipeline_attach(&r, receiver, pipeline.off, pipeline.count, &mine, &diag), -EBADMSG);
    assert_says(diag, "from chunk");

    /* Not a pipeline of that endpoint: never written. */
    ivshm_off off;
    uint64_t bs = r.geo.block_size;
    assert_int_equal(ivshm_extent_alloc(&r, receiver, IVSHM_KIND_BASE, r.geo.pipeline_bytes, &off),
                     0);
    assert_int_equal(ivshm_pipeline_attach(&r, receiver, off, 0, &base, &diag), -EBADMSG);
    assert_says(diag, "endpoint 2 provided a pipeline");
    assert_says(diag, "has no such pipeline");
    assert_int_equal(ivshm_extent_alloc(&r, receiver, IVSHM_KIND_PIPELINE, bs, &off),
                     0); /* too short */
    assert_int_equal(ivshm_pipeline_attach(&r, receiver, off, 0, &base, &diag), -EBADMSG);
    assert_int_equal(ivshm_pipeline_attach(&r, sender, pipeline.off, 0, &base, &diag), -EBADMSG);
    assert_int_equal(
        ivshm_pipeline_attach(&r, (struct ivshm_owner){2, 10}, pipeline.off, 0, &base, &diag),
        -EBADMSG);
    uint64_t bad[] = {0,          8,          pipeline.off.bytes + 64, pipeline.off.bytes + bs,
                      r.geo.size, UINT64_MAX, UINT64_MAX - bs + 1};
    for (size_t i = 0; i < LENGTH(bad); i++)
        assert_int_equal(ivshm_pipeline_attach(&r, receiver, (ivshm_off){bad[i]}, 0, &base, &diag),
                         -EBADMSG);
    assert_int_equal(ivshm_pipeline_attach(&r, receiver, (ivshm_off){bad[0]}, 0, &base, NULL),
                     -EBADMSG);
    ivshm_region_close(&r);
}

/* Full and empty, many times round, with every length at the limits. */
TEST(test_ring)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_pipeline in, out;
    uint32_t sent = 0, got = 0, len;
    assert_int_equal(ivshm_pipeline_alloc(&r, receiver, &in), 0);
    assert_int_equal(ivshm_pipeline_attach(&r, receiver, in.off, 0, &out, NULL), 0);
    const uint32_t lens[] = {1, 63, 64, out.size - 1, out.size};
    for (uint32_t round = 0; round < 40; round++) {
        unsigned char *chunk;
        uint32_t at_once = 1 + round % out.count;
        for (uint32_t i = 0; i < at_once; i++) {
            chunk = ivshm_pipeline_reserve_spsc(&out);
            assert_ptr_equal(chunk, out.chunks + (size_t) (sent % out.count) * out.size);
            assert_ptr_equal(ivshm_pipeline_reserve_spsc(&out), chunk); /* until it is published */
            memset(chunk, (int) sent, lens[sent % LENGTH(lens)]);
            ivshm_pipeline_publish_spsc(&out, lens[sent % LENGTH(lens)], 0);
            sent++;
        }
        if (at_once == out.count)
            assert_null(ivshm_pipeline_reserve_spsc(&out));
        /* As many as are empty and lie behind each other in memory. */
        uint32_t free = out.count - at_once, to_end = out.count - out.next;
        assert_int_equal(ivshm_pipeline_room_spsc(&out, UINT32_MAX), free < to_end ? free : to_end);
        assert_int_equal(ivshm_pipeline_room_spsc(&out, 1), free > 0);
        assert_int_equal(ivshm_pipeline_room_spsc(&out, 0), 0);
        for (uint32_t i = 0; i < at_once; i++) {
            const unsigned char *found = ivshm_pipeline_peek_behind_spsc(&in, i, &len);
            assert_non_null(found);
            assert_int_equal(len, lens[(got + i) % LENGTH(lens)]);
            assert_int_equal(found[len - 1], (got + i) & 0xff);
        }
        assert_null(ivshm_pipeline_peek_behind_spsc(&in, at_once, &len));
        assert_null(ivshm_pipeline_peek_behind_spsc(&in, UINT32_MAX, &len));
        for (uint32_t i = 0; i < at_once; i++) {
            const unsigned char *found = ivshm_pipeline_peek_spsc(&in, &len, NULL);
            assert_non_null(found);
            assert_ptr_equal(ivshm_pipeline_peek_spsc(&in, &len, NULL), found);
            assert_int_equal(len, lens[got % LENGTH(lens)]);
            assert_int_equal(found[0], got & 0xff);
            assert_int_equal(found[len - 1], got & 0xff);
            ivshm_pipeline_consume_spsc(&in);
            got++;
        }
        assert_null(ivshm_pipeline_peek_spsc(&in, &len, NULL));
    }
    ivshm_pipeline_free(&r, receiver, &in);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* A sender that claims more than a chunk holds. */
TEST(test_hostile_length)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_pipeline in;
    assert_int_equal(ivshm_pipeline_alloc(&r, receiver, &in), 0);
    const uint64_t lies[] = {(uint64_t) in.size + 1, UINT64_C(1) << 31, UINT64_C(1) << 32,
                             (UINT64_C(1) << 32) + in.size + 1, UINT64_MAX};
    for (size_t i = 0; i < LENGTH(lies); i++) {
        uint32_t len = 77;
        ivshm_a64_store_relaxed(&in.words[in.next].len, lies[i]);
        assert_non_null(ivshm_pipeline_peek_spsc(&in, &len, NULL));
        assert_int_equal(len, 0);
        len = 77;
        assert_non_null(ivshm_pipeline_peek_behind_spsc(&in, 0, &len));
        assert_int_equal(len, 0);
        ivshm_pipeline_consume_spsc(&in);
    }
    ivshm_region_close(&r);
}

/* Two threads copy. Chunks are plain memory: edges L1 and L2. */

#define TRANSFERS 40
#define MESSAGE (300 * 1024 + 17)

struct side {
    struct ivshm_region *r;
    struct ivshm_pipeline pipeline;
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
                unsigned char *chunk = ivshm_pipeline_reserve_spsc(&s->pipeline);
                if (!chunk) {
                    sched_yield();
                    continue;
                }
                len = MESSAGE - done < s->pipeline.size ? MESSAGE - done : s->pipeline.size;
                if (random_next(&seed) % 2)
                    len = 1 + random_next(&seed) % len;
                for (uint32_t i = 0; i < len; i++)
                    chunk[i] = byte_at(t, done + i);
                ivshm_pipeline_publish_spsc(&s->pipeline, len, 0);
            } else {
                const unsigned char *chunk = ivshm_pipeline_peek_spsc(&s->pipeline, &len, NULL);
                if (!chunk) {
                    sched_yield();
                    continue;
                }
                must(len > 0 && len <= MESSAGE - done);
                for (uint32_t i = 0; i < len; i++)
                    must(chunk[i] == byte_at(t, done + i));
                ivshm_pipeline_consume_spsc(&s->pipeline);
            }
            done += len;
        }
        if (s->sends) { /* may do what it likes with it once it is drained */
            while (!ivshm_pipeline_is_drained(&s->pipeline))
                sched_yield();
            memset(s->pipeline.chunks, 0, (size_t) s->pipeline.count * s->pipeline.size);
        }
    }
    return NULL;
}

TEST(test_transfers)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct side sides[2] = {{.r = &r}, {.r = &r, .sends = true}};
    assert_int_equal(ivshm_pipeline_alloc(&r, receiver, &sides[0].pipeline), 0);
    assert_int_equal(
        ivshm_pipeline_attach(&r, receiver, sides[0].pipeline.off, 0, &sides[1].pipeline, NULL), 0);
    threads_run(2, transfer, sides, sizeof(sides[0]));
    ivshm_pipeline_free(&r, receiver, &sides[0].pipeline);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* What can be read without waiting: up to the first chunk that is empty or nonsense. */
TEST(test_waiting)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_pipeline out, in;
    assert_int_equal(ivshm_pipeline_alloc(&r, sender, &out), 0);
    for (uint32_t first = 0; first < out.count; first++) {
        out.next = first;
        assert_int_equal(ivshm_pipeline_attach(&r, sender, out.off, first, &in, NULL), 0);
        for (uint32_t n = 0; n < out.count; n++) {
            assert_int_equal(ivshm_pipeline_waiting(&in), 7 * n);
            assert_non_null(ivshm_pipeline_reserve_spsc(&out));
            ivshm_pipeline_publish_spsc(&out, 7, 0);
        }
        assert_int_equal(ivshm_pipeline_waiting(&in), 7 * out.count);
        ivshm_a64_store_relaxed(&out.words[(first + 2) % out.count].len, out.size + 1);
        assert_int_equal(ivshm_pipeline_waiting(&in), 14);
        ivshm_pipeline_reset(&out);
    }
    ivshm_region_close(&r);
}

TEST(test_drained_and_reset)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_pipeline out, in;
    uint32_t len;
    assert_int_equal(ivshm_pipeline_alloc(&r, receiver, &out), 0); /* here the owner sends */
    assert_int_equal(ivshm_pipeline_attach(&r, receiver, out.off, 0, &in, NULL), 0);
    for (uint32_t round = 0; round < 2 * out.count; round++) {
        assert_true(ivshm_pipeline_is_drained(&out));
        for (int i = 0; i < 2; i++) {
            assert_non_null(ivshm_pipeline_reserve_spsc(&out));
            ivshm_pipeline_publish_spsc(&out, 1, 0);
        }
        for (int i = 0; i < 2; i++) {
            assert_false(ivshm_pipeline_is_drained(&out));
            assert_non_null(ivshm_pipeline_peek_spsc(&in, &len, NULL));
            ivshm_pipeline_consume_spsc(&in);
        }
    }
    while (ivshm_pipeline_reserve_spsc(&out))
        ivshm_pipeline_publish_spsc(&out, 1, 0);
    ivshm_pipeline_reset(&out);
    assert_int_equal(ivshm_pipeline_attach(&r, receiver, out.off, 0, &in, NULL), 0);
    assert_null(ivshm_pipeline_peek_spsc(&in, &len, NULL));
    assert_non_null(ivshm_pipeline_reserve_spsc(&out));
    ivshm_pipeline_publish_spsc(&out, 7, 0);
    assert_non_null(ivshm_pipeline_peek_spsc(&in, &len, NULL));
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
