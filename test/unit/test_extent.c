/* SPDX-License-Identifier: mpich2 */
#include "unit.h"

static const struct ivshm_owner me = {3, 5}, other = {4, 5}, later = {3, 6};

static uint64_t word_of(const struct ivshm_region *r, uint64_t block)
{
    return ivshm_a64_load_relaxed(&r->block_map[block]);
}

TEST(test_alloc_and_free)
{
    struct ivshm_region r = region_new(4 * MIB);
    uint64_t bs = r.geo.block_size;
    ivshm_off a, b;
    assert_int_equal(ivshm_extent_alloc(&r, me, IVSHM_KIND_BASE, 3 * bs, &a), 0);
    assert_int_equal(a.bytes, r.geo.data);
    /* The words are as doc/layout.md defines them. */
    assert_int_equal(word_of(&r, 0), block_word_of(me, IVSHM_KIND_BASE, 3));
    assert_int_equal(word_of(&r, 1), block_word_of(me, IVSHM_KIND_BASE, 0));
    assert_int_equal(word_of(&r, 2), block_word_of(me, IVSHM_KIND_BASE, 0));
    assert_int_equal(word_of(&r, 3), 0);

    assert_int_equal(ivshm_extent_alloc(&r, other, IVSHM_KIND_PIPELINE, 2 * bs + 1, &b), 0);
    assert_int_equal(b.bytes, a.bytes + 3 * bs);
    assert_int_equal(ivshm_extent_held(&r, me), 3);
    assert_int_equal(ivshm_extent_held(&r, other), 3);
    assert_int_equal(ivshm_extent_held(&r, later), 0);

    struct ivshm_extent_usage u;
    ivshm_extent_usage(&r, &u);
    assert_int_equal(u.base_blocks, 3);
    assert_int_equal(u.pipeline_blocks, 3);
    assert_int_equal(u.free_blocks, r.geo.blocks - 6);
    assert_int_equal(u.longest_free, r.geo.blocks - 6);

    ivshm_extent_free(&r, me, a, 3 * bs);
    assert_int_equal(ivshm_extent_held(&r, me), 0);
    assert_int_equal(ivshm_extent_held(&r, other), 3);
    ivshm_extent_free(&r, other, b, 2 * bs + 1);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* The largest endpoint and generation fit side by side into a block's word. */
TEST(test_extreme_owners)
{
    struct ivshm_region r = region_new(4 * MIB);
    static const struct ivshm_owner owners[] = {{0, 0},
                                                {0, (1 << 19) - 1},
                                                {IVSHM_ENDPOINTS_MAX - 1, 0},
                                                {IVSHM_ENDPOINTS_MAX - 1, (1 << 19) - 1}};
    ivshm_off offs[LENGTH(owners)];
    for (size_t i = 0; i < LENGTH(owners); i++)
        assert_int_equal(ivshm_extent_alloc(&r, owners[i], IVSHM_KIND_PIPELINE, 8192, &offs[i]), 0);
    for (size_t i = 0; i < LENGTH(owners); i++)
        for (size_t j = 0; j < LENGTH(owners); j++) {
            assert_int_equal(ivshm_extent_owned(&r, owners[i], IVSHM_KIND_PIPELINE, offs[j], 8192),
                             i == j);
            assert_int_equal(ivshm_extent_held(&r, owners[i]), 2);
        }
    for (size_t i = 0; i < LENGTH(owners); i++)
        assert_int_equal(ivshm_extent_reclaim(&r, owners[i]), 2);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

TEST(test_covers)
{
    struct ivshm_region r = region_new(4 * MIB);
    uint64_t bs = r.geo.block_size;
    ivshm_off a, b, pipeline;
    assert_int_equal(ivshm_extent_alloc(&r, me, IVSHM_KIND_USER, 3 * bs, &a), 0);
    assert_int_equal(ivshm_extent_alloc(&r, me, IVSHM_KIND_USER, bs, &b), 0);
    assert_int_equal(ivshm_extent_alloc(&r, me, IVSHM_KIND_PIPELINE, bs, &pipeline), 0);
    const struct {
        uint64_t off, bytes;
        bool covered;
    } rows[] = {
        {a.bytes, 3 * bs, true},
        {a.bytes, 4 * bs, true}, /* and the next extent */
        {a.bytes, 4 * bs + 1, false},
        {a.bytes + 1, 4 * bs - 1, true},
        {a.bytes + bs + 77, 1, true},
        {b.bytes + bs - 1, 1, true},
        {b.bytes + bs - 1, 2, false},
        {a.bytes, 0, false},
        {a.bytes, UINT64_MAX, false},
        {a.bytes - 1, 2, false},
        {0, 1, false},
        {r.geo.size, 1, false},
        {UINT64_MAX, 2, false},
        {b.bytes, UINT64_MAX - bs + 1, false},
    };
    for (size_t i = 0; i < LENGTH(rows); i++) {
        ivshm_off off = {rows[i].off};
        if (ivshm_extent_covers(&r, me, IVSHM_KIND_USER, off, rows[i].bytes) != rows[i].covered)
            fail_msg("row %zu", i);
        assert_false(ivshm_extent_covers(&r, other, IVSHM_KIND_USER, off, rows[i].bytes));
        assert_false(ivshm_extent_covers(&r, later, IVSHM_KIND_USER, off, rows[i].bytes));
    }
    ivshm_region_close(&r);
}

/* A quarter stays free. */
TEST(test_can_spare)
{
    struct ivshm_region r = region_new(4 * MIB);
    uint64_t bs = r.geo.block_size, most = (r.geo.blocks - r.geo.blocks / 4) * bs;
    ivshm_off off;
    assert_true(ivshm_extent_can_spare(&r, most));
    assert_false(ivshm_extent_can_spare(&r, most + 1));
    assert_int_equal(ivshm_extent_alloc(&r, me, IVSHM_KIND_USER, most - bs, &off), 0);
    assert_true(ivshm_extent_can_spare(&r, bs));
    assert_false(ivshm_extent_can_spare(&r, bs + 1));
    struct ivshm_extent_usage u;
    ivshm_extent_usage(&r, &u);
    assert_int_equal(u.user_blocks, most / bs - 1);
    ivshm_region_close(&r);
}

TEST(test_all_memory)
{
    struct ivshm_region r = region_new(4 * MIB);
    uint64_t all = r.geo.blocks * r.geo.block_size;
    ivshm_off off = {77};
    assert_int_equal(ivshm_extent_alloc(&r, me, IVSHM_KIND_BASE, all + 1, &off), -ENOSPC);
    assert_int_equal(ivshm_extent_alloc(&r, me, IVSHM_KIND_BASE, UINT64_C(1) << 50, &off), -ENOSPC);
    assert_int_equal(ivshm_extent_alloc(&r, me, IVSHM_KIND_BASE, UINT64_MAX, &off), -ENOSPC);
    assert_int_equal(off.bytes, 77);
    assert_all_freed(&r);
    assert_int_equal(ivshm_extent_alloc(&r, me, IVSHM_KIND_BASE, all, &off), 0);
    assert_int_equal(free_blocks(&r), 0);
    assert_int_equal(ivshm_extent_alloc(&r, other, IVSHM_KIND_BASE, 1, &off), -ENOSPC);
    ivshm_extent_free(&r, me, off, all);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* Holes of 1, 2, 3.. blocks: each size goes into the first hole that it fits; nothing is lost. */
TEST(test_holes)
{
    struct ivshm_region r = region_new(4 * MIB);
    uint64_t bs = r.geo.block_size, block = 0;
    uint64_t first_of[12];
    for (uint64_t hole = 1; hole < 12; hole++) {
        first_of[hole] = block;
        block += hole;
        ivshm_a64_store_relaxed(&r.block_map[block++], block_word_of(other, IVSHM_KIND_BASE, 1));
    }
    /* All blocks beyond are allocated, too. */
    for (uint64_t i = block; i < r.geo.blocks; i++)
        ivshm_a64_store_relaxed(&r.block_map[i], block_word_of(other, IVSHM_KIND_BASE, 0));
    uint64_t free_before = free_blocks(&r);
    for (uint64_t want = 1; want < 12; want++) {
        ivshm_off off;
        assert_int_equal(ivshm_extent_alloc(&r, me, IVSHM_KIND_PIPELINE, want * bs, &off), 0);
        assert_int_equal(off.bytes, r.geo.data + first_of[want] * bs);
        assert_int_equal(ivshm_extent_held(&r, me), want);
        assert_true(ivshm_extent_owned(&r, me, IVSHM_KIND_PIPELINE, off, want * bs));
        ivshm_extent_free(&r, me, off, want * bs);
        assert_int_equal(free_blocks(&r), free_before);
    }
    ivshm_off off;
    assert_int_equal(ivshm_extent_alloc(&r, me, IVSHM_KIND_PIPELINE, 12 * bs, &off), -ENOSPC);
    assert_int_equal(free_blocks(&r), free_before);
    /* A hole at the very end. */
    for (uint64_t i = 0; i < 12; i++)
        ivshm_a64_store_relaxed(&r.block_map[r.geo.blocks - 1 - i], 0);
    assert_int_equal(ivshm_extent_alloc(&r, me, IVSHM_KIND_PIPELINE, 13 * bs, &off), -ENOSPC);
    assert_int_equal(ivshm_extent_alloc(&r, me, IVSHM_KIND_PIPELINE, 12 * bs, &off), 0);
    assert_int_equal(off.bytes, r.geo.data + (r.geo.blocks - 12) * bs);
    struct ivshm_extent_usage u;
    ivshm_extent_usage(&r, &u);
    assert_int_equal(u.longest_free, 11);
    ivshm_region_close(&r);
}

TEST(test_owned)
{
    struct ivshm_region r = region_new(4 * MIB);
    uint64_t bs = r.geo.block_size;
    ivshm_off a, b;
    assert_int_equal(ivshm_extent_alloc(&r, me, IVSHM_KIND_PIPELINE, 4 * bs, &a), 0);
    assert_int_equal(ivshm_extent_alloc(&r, me, IVSHM_KIND_PIPELINE, 2 * bs, &b), 0);
#define OWNED(owner, kind, off, bytes) ivshm_extent_owned(&r, owner, kind, (ivshm_off){off}, bytes)
    assert_true(OWNED(me, IVSHM_KIND_PIPELINE, a.bytes, 4 * bs));
    assert_true(OWNED(me, IVSHM_KIND_PIPELINE, a.bytes, 1));
    assert_false(OWNED(me, IVSHM_KIND_PIPELINE, a.bytes, 0));
    assert_false(
        OWNED(me, IVSHM_KIND_PIPELINE, a.bytes, 4 * bs + 1)); /* runs into the next extent */
    assert_false(OWNED(me, IVSHM_KIND_PIPELINE, b.bytes, 2 * bs + 1));
    assert_false(OWNED(me, IVSHM_KIND_PIPELINE, a.bytes + bs, bs)); /* begins in the middle */
    assert_false(OWNED(me, IVSHM_KIND_PIPELINE, a.bytes + 64, bs));
    assert_false(OWNED(me, IVSHM_KIND_BASE, a.bytes, bs));
    assert_false(OWNED(other, IVSHM_KIND_PIPELINE, a.bytes, bs));
    assert_false(OWNED(later, IVSHM_KIND_PIPELINE, a.bytes, bs));
    assert_false(OWNED(me, IVSHM_KIND_PIPELINE, 0, bs));
    assert_false(OWNED(me, IVSHM_KIND_PIPELINE, r.geo.data - bs, bs));
    assert_false(OWNED(me, IVSHM_KIND_PIPELINE, r.geo.data + r.geo.blocks * bs, bs));
    assert_false(OWNED(me, IVSHM_KIND_PIPELINE, UINT64_MAX - bs + 1, bs));
    assert_false(OWNED(me, IVSHM_KIND_PIPELINE, a.bytes, UINT64_C(1) << 62));
    assert_false(OWNED(me, IVSHM_KIND_PIPELINE, a.bytes, UINT64_MAX));
    ivshm_region_close(&r);
}

/* Freeing memory that belongs to others, or does not exist, has no effect. */
/* The map's memory is larger than the map: a word beyond its end is no block. */
TEST(test_owned_at_the_end)
{
    struct ivshm_region r = region_new(4 * MIB);
    const uint64_t last = r.geo.blocks - 1, bs = r.geo.block_size;
    const ivshm_off off = {r.geo.data + last * bs};
    assert_true(r.geo.block_map + (last + 2) * 8 <= r.geo.data);
    ivshm_a64_store_relaxed(&r.block_map[last], block_word_of(me, IVSHM_KIND_USER, 1));
    ivshm_a64_store_relaxed(&r.block_map[last + 1], block_word_of(me, IVSHM_KIND_USER, 0));
    assert_true(ivshm_extent_owned(&r, me, IVSHM_KIND_USER, off, bs));
    assert_false(ivshm_extent_owned(&r, me, IVSHM_KIND_USER, off, 2 * bs));
    ivshm_region_close(&r);
}

TEST(test_free_of_others)
{
    struct ivshm_region r = region_new(4 * MIB);
    uint64_t bs = r.geo.block_size;
    ivshm_off a;
    assert_int_equal(ivshm_extent_alloc(&r, other, IVSHM_KIND_BASE, 4 * bs, &a), 0);
    ivshm_extent_free(&r, me, a, 4 * bs);
    ivshm_extent_free(&r, (struct ivshm_owner){other.endpoint, other.generation + 1}, a, 4 * bs);
    ivshm_extent_free(&r, other, (ivshm_off){a.bytes + 64}, bs);
    ivshm_extent_free(&r, other, (ivshm_off){0}, bs);
    ivshm_extent_free(&r, other, a, r.geo.size);
    ivshm_extent_free(&r, other, a, UINT64_C(1) << 62);
    assert_int_equal(ivshm_extent_held(&r, other), 4);
    assert_int_equal(ivshm_extent_reclaim(&r, me), 0);
    assert_int_equal(ivshm_extent_held(&r, other), 4);
    assert_int_equal(ivshm_extent_reclaim(&r, other), 4);
    assert_int_equal(ivshm_extent_reclaim(&r, other), 0);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* Nonsense in the map: the work is bounded, and only free blocks are allocated. */
TEST(test_hostile_map)
{
    struct ivshm_region r = region_new(4 * MIB);
    uint64_t seed = 11;
    for (int round = 0; round < 500; round++) {
        ivshm_off off;
        for (uint64_t i = 0; i < r.geo.blocks; i++) {
            uint64_t word = (uint64_t) random_next(&seed) << 33 | random_next(&seed);
            ivshm_a64_store_relaxed(&r.block_map[i], random_next(&seed) % 4 ? 0 : word);
        }
        if (ivshm_extent_alloc(&r, me, IVSHM_KIND_BASE, r.geo.block_size, &off) == 0)
            assert_non_null(ivshm_region_resolve(&r, off, r.geo.block_size));
        ivshm_extent_reclaim(&r, me);
        assert_int_equal(ivshm_extent_held(&r, me), 0);
    }
    ivshm_region_close(&r);
}

/* Threads: every byte that is allocated is filled with its owner's number, and must keep it. */

#define WORKERS 8

struct worker {
    struct ivshm_region *r;
    pthread_barrier_t *barrier;
    uint32_t id;
    int failures;
};

static void *alloc_and_free(void *arg)
{
    struct worker *w = arg;
    struct ivshm_owner owner = {w->id, 1};
    uint64_t seed = w->id, bs = w->r->geo.block_size;
    for (int round = 0; round < 1500; round++) {
        uint64_t count = 1 + random_next(&seed) % 24;
        ivshm_off off;
        if (ivshm_extent_alloc(w->r, owner, IVSHM_KIND_PIPELINE, count * bs, &off) != 0)
            continue;
        /* Plain accesses: alloc and free have to order them. */
        uint32_t *memory = ivshm_region_resolve(w->r, off, count * bs);
        must(memory);
        for (uint64_t i = 0; i < count; i++)
            memory[i * bs / 4] = w->id;
        if (round % 8 == 0)
            sched_yield();
        for (uint64_t i = 0; i < count; i++)
            must(memory[i * bs / 4] == w->id);
        must(ivshm_extent_owned(w->r, owner, IVSHM_KIND_PIPELINE, off, count * bs));
        must(ivshm_extent_held(w->r, owner) == count);
        if (round % 2)
            ivshm_extent_free(w->r, owner, off, count * bs);
        else
            must(ivshm_extent_reclaim(w->r, owner) == count);
    }
    return NULL;
}

TEST(test_no_overlap)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct worker workers[WORKERS];
    for (uint32_t i = 0; i < WORKERS; i++)
        workers[i] = (struct worker){.r = &r, .id = i};
    threads_run(WORKERS, alloc_and_free, workers, sizeof(workers[0]));
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/*
 * As many at once as there is room for, and not one more: all get their blocks, as when a job
 * starts.
 */
static void *alloc_one(void *arg)
{
    struct worker *w = arg;
    ivshm_off off;
    pthread_barrier_wait(w->barrier);
    w->failures += ivshm_extent_alloc(w->r, (struct ivshm_owner){w->id, 1}, IVSHM_KIND_BASE,
                                      w->r->geo.base_bytes, &off) != 0;
    return NULL;
}

TEST(test_enough_for_all)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct worker workers[WORKERS] = {0};
    pthread_barrier_t barrier;
    uint64_t each = (r.geo.base_bytes + r.geo.block_size - 1) / r.geo.block_size;
    int failures = 0;
    assert_true(r.geo.blocks >= WORKERS * each);
    pthread_barrier_init(&barrier, NULL, WORKERS);
    for (int round = 0; round < 300; round++) {
        /* Exactly enough. */
        for (uint64_t i = WORKERS * each; i < r.geo.blocks; i++)
            ivshm_a64_store_relaxed(&r.block_map[i], block_word_of(me, IVSHM_KIND_PIPELINE, 0));
        for (uint32_t i = 0; i < WORKERS; i++)
            workers[i] = (struct worker){.r = &r, .barrier = &barrier, .id = 10 + i};
        threads_run(WORKERS, alloc_one, workers, sizeof(workers[0]));
        for (uint32_t i = 0; i < WORKERS; i++) {
            failures += workers[i].failures;
            ivshm_extent_reclaim(&r, (struct ivshm_owner){10 + i, 1});
        }
    }
    if (failures)
        fail_msg("%d of %d allocations found no memory, though there is enough", failures,
                 300 * WORKERS);
    pthread_barrier_destroy(&barrier);
    ivshm_region_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc_and_free), cmocka_unit_test(test_extreme_owners),
        cmocka_unit_test(test_covers),         cmocka_unit_test(test_can_spare),
        cmocka_unit_test(test_all_memory),     cmocka_unit_test(test_holes),
        cmocka_unit_test(test_owned),          cmocka_unit_test(test_owned_at_the_end),
        cmocka_unit_test(test_free_of_others), cmocka_unit_test(test_hostile_map),
        cmocka_unit_test(test_no_overlap),     cmocka_unit_test(test_enough_for_all),
    };
    return RUN(tests);
}
