/* SPDX-License-Identifier: mpich2 */
#include "unit.h"

#define SIZE 256

struct fixture {
    unsigned char *cells;
    struct ivshm_pool pool;
};

static struct fixture pool_new(uint32_t count)
{
    struct fixture f = {.cells = aligned_alloc(IVSHM_LINE, (size_t) count * SIZE)};
    must(f.cells);
    memset(f.cells, 0, (size_t) count * SIZE);
    must(ivshm_pool_init(&f.pool, f.cells, count, SIZE) == 0);
    return f;
}

static void pool_free(struct fixture *f)
{
    ivshm_pool_destroy(&f->pool);
    free(f->cells);
}

static void send(struct ivshm_pool *pool, uint32_t holder)
{
    int cell = ivshm_pool_alloc(pool);
    must(cell >= 0);
    ivshm_pool_set_in_flight(pool, (uint32_t) cell, holder);
}

static void release_cell(struct ivshm_pool *pool, uint32_t index)
{
    ivshm_a32_store_release(&ivshm_pool_cell(pool, index)->state, IVSHM_CELL_FREE);
}

/* Allocates all cells, each once. Frees them. */
static uint32_t count_free(struct ivshm_pool *pool)
{
    bool seen[256] = {false};
    int taken[256], n = 0, cell;
    while ((cell = ivshm_pool_alloc(pool)) >= 0) {
        assert_in_range(cell, 0, pool->count - 1);
        assert_false(seen[cell]);
        seen[cell] = true;
        taken[n++] = cell;
    }
    for (int i = 0; i < n; i++)
        ivshm_pool_free(pool, (uint32_t) taken[i]);
    return (uint32_t) n;
}

TEST(test_alloc_and_free)
{
    struct fixture f = pool_new(7);
    assert_int_equal(count_free(&f.pool), 7);
    assert_int_equal(count_free(&f.pool), 7);
    assert_ptr_equal(ivshm_pool_cell(&f.pool, 0), f.cells);
    assert_ptr_equal(ivshm_pool_cell(&f.pool, 6), f.cells + (size_t) 6 * SIZE);
    pool_free(&f);
}

TEST(test_one_cell)
{
    struct fixture f = pool_new(1);
    assert_int_equal(ivshm_pool_alloc(&f.pool), 0);
    assert_int_equal(ivshm_pool_alloc(&f.pool), -1);
    ivshm_pool_set_in_flight(&f.pool, 0, 5);
    assert_int_equal(ivshm_a32_load_relaxed(&ivshm_pool_cell(&f.pool, 0)->state),
                     IVSHM_CELL_IN_FLIGHT);
    assert_int_equal(ivshm_pool_alloc(&f.pool), -1);
    release_cell(&f.pool, 0);
    assert_int_equal(ivshm_pool_alloc(&f.pool), 0);
    pool_free(&f);
}

/* The cell that was freed last is still in the cache. */
TEST(test_last_freed_first)
{
    struct fixture f = pool_new(4);
    int a = ivshm_pool_alloc(&f.pool), b = ivshm_pool_alloc(&f.pool);
    ivshm_pool_free(&f.pool, (uint32_t) a);
    ivshm_pool_free(&f.pool, (uint32_t) b);
    assert_int_equal(ivshm_pool_alloc(&f.pool), b);
    assert_int_equal(ivshm_pool_alloc(&f.pool), a);
    pool_free(&f);
}

/* Cells that are freed in any order are all found. */
TEST(test_free_in_any_order)
{
    uint64_t seed = 1;
    struct fixture f = pool_new(8);
    for (int round = 0; round < 2000; round++) {
        while (f.pool.free_count > 0 || f.pool.in_flight_count < 4)
            send(&f.pool, random_next(&seed) % 3);
        uint32_t came = 0;
        for (uint32_t i = 0; i < 8; i++)
            if (random_next(&seed) % 2) {
                came += ivshm_a32_load_relaxed(&ivshm_pool_cell(&f.pool, i)->state) ==
                        IVSHM_CELL_IN_FLIGHT;
                release_cell(&f.pool, i);
            }
        assert_int_equal(count_free(&f.pool), came);
        assert_int_equal(f.pool.free_count + f.pool.in_flight_count, 8);
    }
    pool_free(&f);
}

/* A cell that is kept for long does not block those behind it. */
TEST(test_slow_holder)
{
    struct fixture f = pool_new(8);
    for (int i = 0; i < 8; i++)
        send(&f.pool, 1);
    for (int i = 1; i < 8; i++)
        release_cell(&f.pool, f.pool.in_flight[i]);
    assert_int_equal(count_free(&f.pool), 7);
    pool_free(&f);
}

/* Whatever a peer writes into cells that are not in flight has no effect. */
TEST(test_release_of_what_is_free)
{
    struct fixture f = pool_new(4);
    for (uint32_t i = 0; i < 4; i++)
        release_cell(&f.pool, i);
    assert_int_equal(count_free(&f.pool), 4);
    send(&f.pool, 1);
    for (int round = 0; round < 3; round++)
        for (uint32_t i = 0; i < 4; i++)
            release_cell(&f.pool, i);
    assert_int_equal(count_free(&f.pool), 4);
    /* Any other value does not mean free. */
    send(&f.pool, 1);
    ivshm_a32_store_release(&ivshm_pool_cell(&f.pool, f.pool.in_flight[0])->state, 77);
    assert_int_equal(count_free(&f.pool), 3);
    pool_free(&f);
}

/* A dead holder's cells are reclaimed, whatever their state. Those of others stay in flight. */
TEST(test_reclaim)
{
    struct fixture f = pool_new(9);
    for (uint32_t i = 0; i < 9; i++)
        send(&f.pool, i % 3);
    ivshm_pool_reclaim(&f.pool, 4);
    assert_int_equal(f.pool.free_count, 0);
    ivshm_pool_reclaim(&f.pool, 1);
    assert_int_equal(f.pool.free_count, 3);
    assert_int_equal(f.pool.in_flight_count, 6);
    for (uint32_t i = 0; i < f.pool.in_flight_count; i++)
        assert_int_not_equal(f.pool.holder[f.pool.in_flight[i]], 1);
    assert_int_equal(count_free(&f.pool), 3);
    ivshm_pool_reclaim(&f.pool, 1);
    assert_int_equal(f.pool.free_count, 3);
    ivshm_pool_reclaim(&f.pool, 0);
    ivshm_pool_reclaim(&f.pool, 2);
    assert_int_equal(count_free(&f.pool), 9);
    /* Sent again, a reclaimed cell is in flight. */
    send(&f.pool, 8);
    assert_int_equal(count_free(&f.pool), 8);
    pool_free(&f);
}

/*
 * Threads: cells pass through a queue and are freed. The payload is plain memory, so that
 * ThreadSanitizer notices if one side writes or reads too early: edges Q1 and C1.
 */

#define CELLS 24
#define ROUND_TRIPS 60000
#define SLOTS 32

struct sides {
    struct ivshm_inbox_shm *inbox;
    unsigned char *cells;
    bool sender;
};

static void fill(unsigned char *payload, uint32_t n)
{
    for (uint32_t i = 0; i < 40; i++)
        payload[i] = (unsigned char) (n * 31 + i);
}

static void *round_trips(void *arg)
{
    struct sides *s = arg;
    if (s->sender) {
        struct ivshm_queue_producer out;
        struct ivshm_pool pool;
        ivshm_queue_producer_init(&out, s->inbox, SLOTS);
        must(ivshm_pool_init(&pool, s->cells, CELLS, SIZE) == 0);
        for (uint32_t n = 0; n < ROUND_TRIPS; n++) {
            int cell;
            while ((cell = ivshm_pool_alloc(&pool)) < 0)
                sched_yield();
            fill(ivshm_pool_cell(&pool, (uint32_t) cell)->payload, n);
            ivshm_pool_set_in_flight(&pool, (uint32_t) cell, 1);
            while (ivshm_queue_push_mpsc(&out, (struct ivshm_ref){0, (uint16_t) cell}) != 0)
                sched_yield();
        }
        /* All are freed in the end. */
        for (int n = 0; n < CELLS;)
            if (ivshm_pool_alloc(&pool) >= 0)
                n++;
            else
                sched_yield();
        ivshm_pool_destroy(&pool);
        return NULL;
    }
    struct ivshm_queue_consumer in;
    struct ivshm_ref kept[4];
    unsigned char expected[40];
    uint32_t n_kept = 0;
    ivshm_queue_consumer_init(&in, s->inbox, SLOTS);
    for (uint32_t n = 0; n < ROUND_TRIPS;) {
        struct ivshm_ref ref;
        if (ivshm_queue_pop_mpsc(&in, &ref)) {
            struct ivshm_cell_shm *cell =
                (struct ivshm_cell_shm *) (s->cells + (size_t) ref.cell * SIZE);
            fill(expected, n++);
            must(memcmp(cell->payload, expected, sizeof(expected)) == 0);
            kept[n_kept++] = ref; /* released later, the last one first */
        } else {
            sched_yield();
        }
        if (n_kept == 4 || n == ROUND_TRIPS)
            while (n_kept > 0) {
                struct ivshm_cell_shm *cell =
                    (struct ivshm_cell_shm *) (s->cells + (size_t) kept[--n_kept].cell * SIZE);
                ivshm_a32_store_release(&cell->state, IVSHM_CELL_FREE);
            }
    }
    return NULL;
}

TEST(test_round_trips)
{
    size_t size = sizeof(struct ivshm_inbox_shm) + SLOTS * sizeof(ivshm_a64);
    struct sides sides[2];
    sides[0].inbox = aligned_alloc(IVSHM_LINE, size);
    sides[0].cells = aligned_alloc(IVSHM_LINE, (size_t) CELLS * SIZE);
    must(sides[0].inbox && sides[0].cells);
    memset(sides[0].inbox, 0, size);
    memset(sides[0].cells, 0, (size_t) CELLS * SIZE);
    sides[1] = sides[0];
    sides[0].sender = true;
    sides[1].sender = false;
    threads_run(2, round_trips, sides, sizeof(sides[0]));
    free(sides[0].inbox);
    free(sides[0].cells);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc_and_free),   cmocka_unit_test(test_one_cell),
        cmocka_unit_test(test_last_freed_first), cmocka_unit_test(test_free_in_any_order),
        cmocka_unit_test(test_slow_holder),      cmocka_unit_test(test_release_of_what_is_free),
        cmocka_unit_test(test_reclaim),          cmocka_unit_test(test_round_trips),
    };
    return RUN(tests);
}
