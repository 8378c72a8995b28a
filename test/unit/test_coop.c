/* SPDX-License-Identifier: mpich2 */
#include "unit.h"

static const struct ivshm_owner owner = {2, 9}, helper = {3, 1};

/* A region, and in it words that `owner` has. */
static struct ivshm_coop_shm *words_new(struct ivshm_region *r, ivshm_off *off)
{
    *r = region_new(4 * MIB);
    assert_int_equal(ivshm_extent_alloc(r, owner, IVSHM_KIND_USER, 4096, off), 0);
    return (struct ivshm_coop_shm *) ((char *) r->map.base + off->bytes);
}

/* Both sides cut alike, and every byte is in one piece. */
TEST(test_pieces)
{
    struct ivshm_region r;
    ivshm_off off;
    struct ivshm_coop_shm *words = words_new(&r, &off);
    const uint64_t sizes[] = {1,       4095,     32768,     32769,      131072,           131073,
                              1000003, 16 * MIB, 300 * MIB, 8192 * MIB, UINT64_C(1) << 45};
    for (size_t i = 0; i < LENGTH(sizes); i++) {
        struct ivshm_coop mine, its;
        struct ivshm_piece piece;
        uint64_t at = 0;
        uint32_t taken = 0;
        ivshm_coop_begin(words, sizes[i], &mine);
        assert_int_equal(ivshm_coop_attach(&r, owner, off, mine.number, sizes[i], &its, NULL), 0);
        assert_int_equal(mine.pieces, its.pieces);
        assert_in_range(mine.pieces, sizes[i] >= 32768 ? 4 : 1, 32768);
        for (int turn = 0; ivshm_coop_take_piece(turn % 3 ? &its : &mine, &piece); turn++) {
            assert_int_equal(piece.first, at);
            assert_in_range(piece.bytes, 1, its.piece_bytes);
            at += piece.bytes;
            if (turn % 3)
                ivshm_coop_finish(&its);
            else
                taken++;
            assert_int_equal(ivshm_coop_remaining(&mine, taken), mine.pieces - (uint32_t) turn - 1);
        }
        assert_int_equal(at, sizes[i]);
        assert_false(ivshm_coop_take_piece(&mine, &piece));
        assert_int_equal(ivshm_coop_remaining(&mine, taken), 0);
    }
    ivshm_region_close(&r);
}

/* A helper that comes when the next copy is under way takes nothing of it. */
TEST(test_late)
{
    struct ivshm_region r;
    ivshm_off off;
    struct ivshm_coop_shm *words = words_new(&r, &off);
    struct ivshm_coop mine, late;
    struct ivshm_piece piece;
    words[1].word.word = UINT64_MAX << 32; /* the number wraps */
    off.bytes += sizeof(*words);
    for (int round = 0; round < 3; round++) {
        ivshm_coop_begin(&words[1], 1, &mine);
        assert_int_equal(ivshm_coop_attach(&r, owner, off, mine.number, 1, &late, NULL), 0);
        assert_int_equal(ivshm_coop_remaining(&mine, 0), 1);
        assert_true(ivshm_coop_take_piece(&mine, &piece));
        assert_int_equal(ivshm_coop_remaining(&mine, 1), 0);
        ivshm_coop_begin(&words[1], 1, &mine);
        assert_false(ivshm_coop_take_piece(&late, &piece));
        assert_int_equal(ivshm_coop_remaining(&mine, 0), 1);
    }
    ivshm_region_close(&r);
}

TEST(test_attach)
{
    struct ivshm_region r;
    ivshm_off off, pipeline;
    words_new(&r, &off);
    struct ivshm_coop coop;
    struct ivshm_diag diag;
    assert_int_equal(ivshm_coop_attach(&r, owner, off, 1, 1, &coop, &diag), 0);
    assert_int_equal(ivshm_coop_attach(&r, helper, off, 1, 1, &coop, &diag), -EBADMSG);
    assert_says(diag, "endpoint 3 proposed a cooperative copy");
    assert_int_equal(ivshm_coop_attach(&r, owner, off, 1, 0, &coop, &diag), -EBADMSG);
    assert_int_equal(ivshm_extent_alloc(&r, owner, IVSHM_KIND_PIPELINE, 4096, &pipeline), 0);
    const uint64_t bad[] = {0,          off.bytes + 8, off.bytes + 4096, pipeline.bytes,
                            r.geo.size, UINT64_MAX,    UINT64_MAX - 63};
    for (size_t i = 0; i < LENGTH(bad); i++)
        assert_int_equal(ivshm_coop_attach(&r, owner, (ivshm_off){bad[i]}, 1, 1, &coop, NULL),
                         -EBADMSG);
    ivshm_region_close(&r);
}

/* Whatever a peer writes into the word. */
TEST(test_nonsense)
{
    struct ivshm_region r;
    ivshm_off off;
    struct ivshm_coop_shm *words = words_new(&r, &off);
    struct ivshm_coop mine;
    struct ivshm_piece piece;
    ivshm_coop_begin(words, 1000000, &mine);
    assert_true(ivshm_coop_take_piece(&mine, &piece));
    const uint64_t number = (uint64_t) mine.number << 32, next = mine.pieces;
    const struct {
        uint64_t word;
        int64_t left; /* when we have copied one */
    } rows[] = {
        {0, -1},
        {number, -1},                     /* nobody has taken ours */
        {number | 1, (int64_t) next - 1}, /* unchanged */
        {number | 1 << 16 | 1, -1},       /* the helper has finished what it did not take */
        {number | 1 << 16 | 2, (int64_t) next - 2},
        {number | (next - 1) << 16 | next, 0},
        {number | next << 16 | next, -1},
        {number | (next + 1), -1},
        {number | 0xffffffff, -1},
        {number + (UINT64_C(1) << 32) + 1, -1},
        {UINT64_MAX, -1},
    };
    for (size_t i = 0; i < LENGTH(rows); i++) {
        words->word.word = rows[i].word;
        if (ivshm_coop_remaining(&mine, 1) != rows[i].left)
            fail_msg("row %zu: %lld left", i, (long long) ivshm_coop_remaining(&mine, 1));
        for (int tries = 0; ivshm_coop_take_piece(&mine, &piece); tries++)
            assert_true(tries < 32768 && piece.first + piece.bytes <= 1000000);
    }
    ivshm_region_close(&r);
}

/*
 * Two threads copy one message after the other. Each byte is written once a round, by one of them.
 */

#define ROUNDS 300
#define BYTES 300000

static struct ivshm_region shared;
static ivshm_off shared_off;
static char from[BYTES], to[BYTES];
static ivshm_a64 asked; /* bits 0-31 the copy's number | 32-63 the round: replaces a message */
static ivshm_a64 seen;  /* the last round that the helper has finished */

static void *help(void *unused)
{
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        struct ivshm_coop coop;
        struct ivshm_piece piece;
        uint64_t message;
        while ((message = ivshm_a64_load_acquire(&asked)) >> 32 != round)
            sched_yield();
        must(ivshm_coop_attach(&shared, owner, shared_off, (uint32_t) message, BYTES, &coop,
                               NULL) == 0);
        while (ivshm_coop_take_piece(&coop, &piece)) {
            memcpy(to + piece.first, from + piece.first, piece.bytes);
            ivshm_coop_finish(&coop);
        }
        ivshm_a64_store_release(&seen, round);
    }
    return unused;
}

TEST(test_threads)
{
    pthread_t thread;
    struct ivshm_coop_shm *words = words_new(&shared, &shared_off);
    must(pthread_create(&thread, NULL, help, NULL) == 0);
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        struct ivshm_coop coop;
        struct ivshm_piece piece;
        uint32_t taken = 0;
        int64_t left;
        memset(from, (int) round, sizeof(from));
        ivshm_coop_begin(words, BYTES, &coop);
        ivshm_a64_store_release(&asked, round << 32 | coop.number);
        while ((left = ivshm_coop_remaining(&coop, taken)) != 0) {
            must(left > 0);
            if (ivshm_coop_take_piece(&coop, &piece)) {
                memcpy(to + piece.first, from + piece.first, piece.bytes);
                taken++;
            }
            if (round % 4 == 0)
                sched_yield();
        }
        for (int i = 0; i < BYTES; i++)
            must(to[i] == (char) round);
        while (ivshm_a64_load_acquire(&seen) != round) /* nobody still reads `from` */
            sched_yield();
    }
    pthread_join(thread, NULL);
    ivshm_region_close(&shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),  cmocka_unit_test(test_late),
        cmocka_unit_test(test_attach),  cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_threads),
    };
    return RUN(tests);
}
