/* SPDX-License-Identifier: mpich2 */
#include "unit.h"

#include "core/runs.h"

#define UNITS 4000

static struct ivshm_run table[UNITS + 1];
static struct ivshm_runs runs;

static void begin_runs(void)
{
    memset(table, 0, sizeof(table));
    ivshm_runs_init(&runs, table);
}

TEST(test_alloc_and_free)
{
    begin_runs();
    assert_true(ivshm_runs_alloc(&runs, 1) == IVSHM_RUN_NONE);
    ivshm_runs_add(&runs, 10, 100);
    assert_int_equal(runs.free_span_units, 100);
    assert_true(ivshm_runs_largest(&runs) >= 100);
    assert_true(ivshm_runs_largest(&runs) < 128);
    assert_true(ivshm_runs_alloc(&runs, 101) == IVSHM_RUN_NONE);
    uint32_t a = ivshm_runs_alloc(&runs, 60), b = ivshm_runs_alloc(&runs, 1),
             c = ivshm_runs_alloc(&runs, 39);
    assert_int_equal(a, 10);
    assert_int_equal(b, 70);
    assert_int_equal(c, 71);
    assert_int_equal(runs.free_span_units, 0);
    assert_int_equal(ivshm_runs_largest(&runs), 0);
    assert_true(ivshm_runs_alloc(&runs, 1) == IVSHM_RUN_NONE);
    assert_int_equal(ivshm_runs_used(&runs, a), 60);
    assert_int_equal(ivshm_runs_used(&runs, a + 1), 0);
    assert_int_equal(ivshm_runs_used(&runs, a + 59), 0);
    assert_int_equal(ivshm_runs_used(&runs, b), 1);
    assert_int_equal(ivshm_runs_free(&runs, a), 10);
    assert_int_equal(ivshm_runs_used(&runs, a), 0);
    assert_int_equal(ivshm_runs_free(&runs, c), 71);
    assert_false(ivshm_runs_is_span(&runs, 10));
    assert_int_equal(ivshm_runs_free(&runs, b), 10); /* joins both sides */
    assert_true(ivshm_runs_is_span(&runs, 10));
    assert_int_equal(runs.free_span_units, 100);
    assert_int_equal(ivshm_runs_alloc(&runs, 100), 10);
    ivshm_runs_free(&runs, 10);
    assert_int_equal(ivshm_runs_remove(&runs, 10), 100);
    assert_int_equal(runs.free_span_units, 0);
    assert_true(ivshm_runs_alloc(&runs, 1) == IVSHM_RUN_NONE);
    for (int i = 0; i <= UNITS; i++)
        assert_int_equal(table[i].state, 0);
}

/* Adjacent in memory, yet each can be removed as it was added. */
TEST(test_spans_stay_apart)
{
    begin_runs();
    ivshm_runs_add(&runs, 0, 8);
    ivshm_runs_add(&runs, 16, 8);
    ivshm_runs_add(&runs, 8, 8);
    assert_true(ivshm_runs_alloc(&runs, 9) == IVSHM_RUN_NONE);
    uint32_t got[3] = {ivshm_runs_alloc(&runs, 8), ivshm_runs_alloc(&runs, 8),
                       ivshm_runs_alloc(&runs, 8)};
    for (int i = 0; i < 3; i++)
        assert_int_equal(ivshm_runs_free(&runs, got[i]), got[i]);
    for (uint32_t first = 0; first < 24; first += 8)
        assert_true(ivshm_runs_is_span(&runs, first));
    assert_int_equal(ivshm_runs_remove(&runs, 8), 8);
    assert_int_equal(runs.free_span_units, 16);
    uint32_t part = ivshm_runs_alloc(&runs, 3);
    assert_int_equal(runs.free_span_units, 8);
    assert_true(ivshm_runs_is_span(&runs, ivshm_runs_free(&runs, part)));
}

/* A freed run is found again, even where its bin has shorter ones. */
TEST(test_same_size_again)
{
    begin_runs();
    ivshm_runs_add(&runs, 0, 90);
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(ivshm_runs_alloc(&runs, 9), 9 * i);
    ivshm_runs_free(&runs, 36);
    assert_int_equal(ivshm_runs_alloc(&runs, 9), 36);
    ivshm_runs_free(&runs, 36);
    assert_int_equal(ivshm_runs_alloc(&runs, 8), 36);
    assert_int_equal(ivshm_runs_alloc(&runs, 1), 44);
}

TEST(test_find_and_keep)
{
    begin_runs();
    ivshm_runs_add(&runs, 5, 30);
    uint32_t a = ivshm_runs_alloc(&runs, 10), b = ivshm_runs_alloc(&runs, 10);
    assert_true(ivshm_runs_find(&runs, 0) == IVSHM_RUN_NONE);
    assert_int_equal(ivshm_runs_find(&runs, 5), a);
    assert_int_equal(ivshm_runs_find(&runs, 14), a);
    assert_int_equal(ivshm_runs_find(&runs, 15), b);
    assert_true(ivshm_runs_find(&runs, 25) == IVSHM_RUN_NONE);
    assert_true(ivshm_runs_find(&runs, 40) == IVSHM_RUN_NONE);
    ivshm_runs_keep(&runs, a);
    assert_int_equal(ivshm_runs_used(&runs, a), 10);
    ivshm_runs_free(&runs, a);
    assert_int_equal(ivshm_runs_used(&runs, a), 0);
    assert_true(ivshm_runs_find(&runs, 14) == IVSHM_RUN_NONE);
    assert_int_equal(ivshm_runs_free(&runs, b), b); /* joins only what is behind it */
    assert_false(ivshm_runs_is_span(&runs, b));
    assert_int_equal(ivshm_runs_alloc(&runs, 20), b);
    assert_true(ivshm_runs_alloc(&runs, 1) == IVSHM_RUN_NONE);
}

/* Every unit of every run, wherever runs began and ended before. */
TEST(test_find_in_all_positions)
{
    enum { SPAN = 150 };
    unsigned seed = 3;

    for (int round = 0; round < 300; round++) {
        uint32_t first[SPAN], units[SPAN], origin = (uint32_t) rand_r(&seed) % (UNITS - SPAN),
                                           n = 0;
        if (round % 10 == 0)
            begin_runs(); /* else with what the last ones have left in the table */
        else
            ivshm_runs_init(&runs, table);
        ivshm_runs_add(&runs, origin, SPAN);
        for (int tries = 0; tries < 20; tries++) {
            uint32_t wanted = 1 + (uint32_t) rand_r(&seed) % (round % 2 ? 10 : SPAN);
            if ((first[n] = ivshm_runs_alloc(&runs, wanted)) != IVSHM_RUN_NONE)
                units[n++] = wanted;
        }
        uint32_t found = 0;
        for (uint32_t i = 0; i < n; i++) {
            bool is_freed = i % 3 == 2;
            if (is_freed)
                ivshm_runs_free(&runs, first[i]);
            for (uint32_t unit = first[i]; unit < first[i] + units[i]; unit++) {
                assert_int_equal(ivshm_runs_find(&runs, unit),
                                 is_freed ? IVSHM_RUN_NONE : first[i]);
                found += !is_freed;
            }
        }
        for (uint32_t unit = 0; unit < UNITS; unit++)
            found -= ivshm_runs_find(&runs, unit) != IVSHM_RUN_NONE;
        assert_int_equal(found, 0);
        for (uint32_t i = 0; i < n; i++)
            if (i % 3 != 2)
                ivshm_runs_free(&runs, first[i]);
        ivshm_runs_remove(&runs, origin);
    }
}

/* Against a map of who has what. */
TEST(test_at_random)
{
    enum { BLOCKS = 200, STEPS = 200000 };
    static unsigned char owner[UNITS];
    uint32_t first[BLOCKS], units[BLOCKS] = {0};
    unsigned seed = 7;
    uint64_t used = 0, taken = 0;

    begin_runs();
    memset(owner, 0, sizeof(owner));
    for (uint32_t at = 0, span; at < UNITS; at += span) { /* some apart, some not */
        span = at + 500 > UNITS ? UNITS - at : 500;
        ivshm_runs_add(&runs, at, span - (at / 500 % 2 && span > 1));
        memset(owner + at + span - (at / 500 % 2), 1, at / 500 % 2);
    }
    for (int step = 0; step < STEPS; step++) {
        int i = rand_r(&seed) % BLOCKS;
        if (units[i]) {
            assert_int_equal(ivshm_runs_used(&runs, first[i]), units[i]);
            memset(owner + first[i], 0, units[i]);
            used -= units[i];
            units[i] = 0;
            ivshm_runs_free(&runs, first[i]);
            continue;
        }
        uint32_t wanted = 1 + (uint32_t) rand_r(&seed) % (step % 3 ? 20 : 200);
        first[i] = ivshm_runs_alloc(&runs, wanted);
        if (first[i] == IVSHM_RUN_NONE)
            continue;
        taken++;
        units[i] = wanted;
        used += wanted;
        for (uint32_t k = first[i]; k < first[i] + wanted; k++) {
            assert_int_equal(owner[k], 0);
            owner[k] = 1;
        }
        assert_true(first[i] / 500 == (first[i] + wanted - 1) / 500);
    }
    assert_true(taken > STEPS / 4);
    assert_true(runs.free_span_units <= UNITS - used);
    for (int i = 0; i < BLOCKS; i++)
        if (units[i])
            ivshm_runs_free(&runs, first[i]);
    assert_int_equal(runs.free_span_units, UNITS - UNITS / 1000);
    for (uint32_t at = 0; at < UNITS; at += 500) {
        assert_true(ivshm_runs_is_span(&runs, at));
        ivshm_runs_remove(&runs, at);
    }
    assert_int_equal(runs.free_span_units, 0);
}

/* The longest possible run: each unit of it is found without any search before it. */
TEST(test_large)
{
    enum { LARGE = 1 << 24 };
    struct ivshm_run *large = mmap(NULL, (LARGE + 1) * sizeof(*large), PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(large != MAP_FAILED);
    ivshm_runs_init(&runs, large);
    for (uint32_t length = 1; length <= LARGE; length += 1 + length / 7) {
        ivshm_runs_add(&runs, 0, length);
        assert_true(ivshm_runs_largest(&runs) >= length);
        assert_true(ivshm_runs_largest(&runs) <= length + length / 4);
        ivshm_runs_remove(&runs, 0);
    }
    ivshm_runs_add(&runs, 0, LARGE);
    uint32_t first = 0, units = 1;
    for (uint32_t at = 0; at + units <= LARGE - 1; at += units, units = units * 2 + 1)
        assert_int_equal(first = ivshm_runs_alloc(&runs, units), at);
    units /= 2;
    assert_true(units > LARGE / 4);
    for (uint32_t i = 0; i < units; i++)
        assert_true(ivshm_runs_find(&runs, first + i) == first);
    munmap(large, (LARGE + 1) * sizeof(*large));
}

/* Runs, allocated or not, follow each other up to the end of the last span. */
TEST(test_next)
{
    begin_runs();
    ivshm_runs_add(&runs, 0, 8);
    ivshm_runs_add(&runs, 8, 4);
    uint32_t kept = ivshm_runs_alloc(&runs, 3), used = ivshm_runs_alloc(&runs, 5), at = 0;
    ivshm_runs_keep(&runs, kept);
    ivshm_runs_free(&runs, kept);
    int count = 0, found = 0;
    for (; at < 12; at = ivshm_runs_next(&runs, at), count++)
        found += (at == kept) + (at == used);
    assert_int_equal(at, 12);
    assert_int_equal(found, 2);
    assert_int_equal(count, 4); /* and what is left of each span */
    assert_int_equal(ivshm_runs_free_span_units(&runs), runs.free_span_units);
}

/* A list gives back what was put there, each run once, and a run can be on it again. */
TEST(test_list)
{
    enum { COUNT = 5 };
    uint32_t list = IVSHM_RUN_NONE, got[COUNT];

    begin_runs();
    ivshm_runs_add(&runs, 0, 100);
    assert_true(ivshm_runs_pop(&runs, &list) == IVSHM_RUN_NONE);
    for (int turn = 0; turn < 2; turn++) {
        for (uint32_t i = 0; i < COUNT; i++) {
            got[i] = ivshm_runs_alloc(&runs, i + 1);
            assert_true(ivshm_runs_push(&runs, &list, got[i]));
            for (uint32_t k = 0; k <= i; k++)
                assert_false(ivshm_runs_push(&runs, &list, got[k]));
        }
        for (uint32_t i = COUNT; i-- > 0;) {
            assert_int_equal(ivshm_runs_pop(&runs, &list), got[i]);
            assert_int_equal(ivshm_runs_used(&runs, got[i]), i + 1);
            if (i == 2) {
                assert_true(ivshm_runs_push(&runs, &list, got[i]));
                assert_int_equal(ivshm_runs_pop(&runs, &list), got[i]);
            }
            ivshm_runs_free(&runs, got[i]);
        }
        assert_true(ivshm_runs_pop(&runs, &list) == IVSHM_RUN_NONE);
        assert_true(ivshm_runs_is_span(&runs, 0));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc_and_free),
        cmocka_unit_test(test_spans_stay_apart),
        cmocka_unit_test(test_same_size_again),
        cmocka_unit_test(test_find_and_keep),
        cmocka_unit_test(test_find_in_all_positions),
        cmocka_unit_test(test_at_random),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_next),
        cmocka_unit_test(test_list),
    };
    return RUN(tests);
}
