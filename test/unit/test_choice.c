/* SPDX-License-Identifier: mpich2 */
/* How the way to copy and the size of pieces are chosen, driven by recorded times. */
#include "unit.h"

#include "core/choice.h"

static const uint32_t eager[] = {2176, 16624}, pipeline[] = {4096, 16384};

/*
 * What pieces take, in ticks for each KiB, and for each piece: from AMD EPYC processors, about 55
 * and 130 ns apart, and one whose receiver reads from slow memory what was written by non-temporal
 * stores.
 */
struct machine {
    uint32_t writing[IVSHM_COPIES], reading[IVSHM_COPIES], each;
};

static const struct machine near = {{250, 120, 160}, {75, 80, 160}, 20},
                            far = {{1200, 1150, 160}, {180, 180, 180}, 20},
                            slow_reads = {{400, 300, 100}, {300, 200, 2000}, 20};

/* A sender, with its choice, and a receiver. */
struct pair {
    struct ivshm_choice choice;
    uint64_t answer, now, receiver_at, began;
    uint64_t ticks;   /* that all messages took */
    uint32_t samples; /* among the messages */
    bool silent;      /* the receiver does not answer */
};

static struct pair pair_new(int way, int piece)
{
    struct pair p = {0};
    ivshm_choice_init(&p.choice, eager, pipeline, way, piece);
    return p;
}

/* Sends a message; the receiver reads a piece while the next one is written. Returns how it went.
 */
static ivshm_plan send(struct pair *p, const struct machine *m, enum ivshm_choice_kind kind,
                       size_t bytes)
{
    const uint32_t *pieces = kind == IVSHM_CHOICE_EAGER ? eager : pipeline;
    ivshm_plan plan = ivshm_choice_plan(&p->choice, kind, bytes, p->answer);
    bool begins = true;

    /* As a sender does that finds that a message does not go in one piece. */
    if (ivshm_choice_next(&p->choice, kind, plan, bytes, 0, true).piece < bytes)
        plan = ivshm_choice_plan(&p->choice, kind, bytes, p->answer);

    assert_true(plan.option < IVSHM_OPTIONS);
    uint64_t begin = p->receiver_at = p->now;
    for (size_t piece; bytes > 0; bytes -= piece) {
        struct ivshm_how how = ivshm_choice_next(&p->choice, kind, plan, bytes, 0, begins);
        assert_true(how.piece == pieces[0] || (how.piece == pieces[1] && bytes > pieces[0]));
        assert_int_equal(how.note & IVSHM_NOTE_WAY, how.way);
        piece = bytes < how.piece ? bytes : how.piece;
        assert_int_equal(!!(how.note & IVSHM_NOTE_BEGINS), plan.is_sample && begins);
        assert_int_equal(!!(how.note & IVSHM_NOTE_ENDS), plan.is_sample && piece == bytes);
        uint64_t write = piece * m->writing[how.way] / 1024 + m->each,
                 read = piece * m->reading[how.way] / 1024 + m->each;
        p->now += write;
        ivshm_choice_sent(&p->choice, how.note, write);
        if (p->receiver_at < p->now)
            p->receiver_at = p->now;
        if (how.note & IVSHM_NOTE_BEGINS)
            p->began = p->receiver_at;
        p->receiver_at += read;
        if (how.note & IVSHM_NOTE_ENDS && !p->silent)
            p->answer = ivshm_choice_answer(p->answer, p->receiver_at - p->began);
        begins = false;
    }
    p->now = p->receiver_at;
    p->ticks += p->now - begin;
    p->samples += plan.is_sample;
    return plan;
}

static const size_t sizes[] = {256, 300, 1000, 2048, 2177, 4096, 10000, 16384, 40000, 1 << 20};

static void assert_usual(const struct pair *p, enum ivshm_choice_kind kind, size_t bytes,
                         enum ivshm_copy way)
{
    assert_int_equal(ivshm_choice_usual(&p->choice, kind, bytes).option % IVSHM_COPIES, way);
}

TEST(test_best_way_is_found)
{
    const struct {
        const struct machine *machine;
        enum ivshm_copy best;
    } cases[] = {
        {&near, IVSHM_COPY_AHEAD}, {&far, IVSHM_COPY_STREAM}, {&slow_reads, IVSHM_COPY_AHEAD}};
    for (size_t c = 0; c < LENGTH(cases); c++)
        for (size_t s = 0; s < LENGTH(sizes); s++)
            for (int kind = 0; kind < IVSHM_CHOICE_KINDS; kind++) {
                struct pair p = pair_new(-1, -1);
                for (int n = 0; n < 400; n++)
                    send(&p, cases[c].machine, (enum ivshm_choice_kind) kind, sizes[s]);
                assert_usual(&p, (enum ivshm_choice_kind) kind, sizes[s], cases[c].best);
            }
}

/* Small pieces overlap, large ones save what each costs. */
TEST(test_pieces)
{
    const struct machine cheap = {{300, 300, 300}, {300, 300, 300}, 20},
                         dear = {{300, 300, 300}, {300, 300, 300}, 2000};
    struct pair p = pair_new(-1, -1), q = pair_new(-1, -1);
    for (int n = 0; n < 400; n++) {
        send(&p, &cheap, IVSHM_CHOICE_EAGER, 16384);
        send(&q, &dear, IVSHM_CHOICE_EAGER, 16384);
    }
    assert_true(ivshm_choice_usual(&p.choice, IVSHM_CHOICE_EAGER, 16384).option < IVSHM_COPIES);
    assert_true(ivshm_choice_usual(&q.choice, IVSHM_CHOICE_EAGER, 16384).option >= IVSHM_COPIES);
}

/* Where a message must not be cut into too many pieces. */
TEST(test_least)
{
    struct pair p = pair_new(IVSHM_COPY_PLAIN, 0);
    const struct {
        size_t least, piece;
    } cases[] = {{0, 4096}, {4096, 4096}, {5000, 5000}, {16384, 16384}, {1 << 20, 16384}};
    for (size_t i = 0; i < LENGTH(cases); i++) {
        ivshm_plan plan = {IVSHM_COPY_PLAIN, true};
        struct ivshm_how how =
            ivshm_choice_next(&p.choice, IVSHM_CHOICE_PIPELINE, plan, 100000, cases[i].least, true);
        assert_int_equal(how.piece, cases[i].piece);
        assert_false(how.note & IVSHM_NOTE_ENDS);
        how = ivshm_choice_next(&p.choice, IVSHM_CHOICE_PIPELINE, plan, cases[i].piece,
                                cases[i].least, false);
        assert_true(how.note & IVSHM_NOTE_ENDS);
    }
}

/* Trials become rare, so that what they cost more than the best way hardly counts. */
TEST(test_trials_are_rare)
{
    struct pair p = pair_new(-1, -1), best = pair_new(IVSHM_COPY_STREAM, 0);
    for (int n = 0; n < 100000; n++) {
        send(&p, &far, IVSHM_CHOICE_EAGER, 1000);
        send(&best, &far, IVSHM_CHOICE_EAGER, 1000);
    }
    assert_true(p.ticks < best.ticks + best.ticks / 50);
    assert_int_equal(best.samples, 0);
}

/* One of the processes is moved to another processor. */
TEST(test_moved)
{
    const size_t some[] = {300, 4096, 16384};
    struct pair p = pair_new(-1, -1);
    for (int turn = 0; turn < 4; turn++) {
        const struct machine *m = turn % 2 ? &far : &near;
        /* Far away is noticed soon; what does not depend on the distance, when others are tried. */
        for (int n = 0; n < (turn % 2 ? 1000 : 25000); n++)
            for (size_t s = 0; s < LENGTH(some); s++)
                send(&p, m, IVSHM_CHOICE_EAGER, some[s]);
        for (size_t s = 0; s < LENGTH(some); s++)
            assert_usual(&p, IVSHM_CHOICE_EAGER, some[s],
                         turn % 2 ? IVSHM_COPY_STREAM : IVSHM_COPY_AHEAD);
    }
}

/* A sample that was interrupted says nothing. */
TEST(test_interrupt)
{
    const struct machine interrupted = {{1000000, 1000000, 1000000}, {1, 1, 1}, 1};
    struct pair p = pair_new(-1, -1);
    for (int n = 0; n < 1000; n++)
        send(&p, &near, IVSHM_CHOICE_EAGER, 1000);
    for (uint32_t before = p.samples; p.samples == before;)
        send(&p, &interrupted, IVSHM_CHOICE_EAGER, 1000);
    for (int n = 0; n < 1000; n++)
        send(&p, &near, IVSHM_CHOICE_EAGER, 1000);
    assert_usual(&p, IVSHM_CHOICE_EAGER, 1000, IVSHM_COPY_AHEAD);
    assert_int_equal(p.choice.usual[IVSHM_CHOICE_EAGER][ivshm_class_of(1000)].rounds, 3);
}

/* A receiver that does not answer; a message that never ends; then others. */
TEST(test_no_answer)
{
    struct pair p = pair_new(-1, -1);
    p.silent = true;
    for (int n = 0; n < 3000; n++)
        send(&p, &far, IVSHM_CHOICE_EAGER, 1000);
    assert_in_range(p.samples, 3, 10);
    p.silent = false;
    for (int n = 0; n < 3000; n++)
        send(&p, &far, IVSHM_CHOICE_EAGER, 1000);
    assert_usual(&p, IVSHM_CHOICE_EAGER, 1000, IVSHM_COPY_STREAM);

    p = pair_new(-1, -1);
    while (!ivshm_choice_plan(&p.choice, IVSHM_CHOICE_PIPELINE, 1 << 20, 0).is_sample)
        ;
    for (int n = 0; n < 3000; n++)
        send(&p, &far, IVSHM_CHOICE_EAGER, 1000);
    assert_usual(&p, IVSHM_CHOICE_EAGER, 1000, IVSHM_COPY_STREAM);
}

TEST(test_pinned)
{
    for (int way = -1; way < IVSHM_COPIES; way++)
        for (int piece = -1; piece < 2; piece++) {
            struct pair p = pair_new(way, piece);
            for (int n = 0; n < 500; n++) {
                int option = send(&p, &near, IVSHM_CHOICE_EAGER, 30000).option;
                assert_true(way < 0 || option % IVSHM_COPIES == way);
                assert_true(piece < 0 || option / IVSHM_COPIES == piece);
            }
            assert_int_equal(p.samples > 0, way < 0 || piece < 0);
        }
}

/* The receiver can answer anything at any time, and a clock can go anywhere. */
TEST(test_any_numbers)
{
    struct pair p = pair_new(-1, -1);
    uint64_t seed = 1;
    for (int n = 0; n < 500000; n++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t bytes = (size_t) (seed >> 20) % (1u << (seed >> 59)) + 1;
        enum ivshm_choice_kind kind = (enum ivshm_choice_kind)(seed >> 40 & 1);
        ivshm_plan plan = ivshm_choice_plan(&p.choice, kind, bytes, n % 5 ? 7 : seed);
        assert_true(plan.option < IVSHM_OPTIONS);
        struct ivshm_how how =
            ivshm_choice_next(&p.choice, kind, plan, bytes, (size_t) (seed >> 50), n % 11 > 0);
        assert_true(how.way < IVSHM_COPIES && how.piece >= eager[0] && how.piece <= eager[1]);
        if (n % 7)
            ivshm_choice_sent(&p.choice, how.note, n % 3 ? seed >> 30 : UINT64_MAX);
    }
}

TEST(test_classes)
{
    assert_int_equal(ivshm_class_of(0), 0);
    assert_int_equal(ivshm_class_of(511), 0);
    assert_int_equal(ivshm_class_of(512), 1);
    assert_int_equal(ivshm_class_of(16384), 6);
    assert_int_equal(ivshm_class_of(SIZE_MAX), IVSHM_CLASSES - 1);
    assert_true(ivshm_choice_answer(7, 0) != 7);
    assert_int_equal(ivshm_choice_answer(UINT64_MAX, UINT64_MAX), (UINT64_C(1) << 48) - 1);
}

/* Each way copies exactly what it should, wherever it begins and ends. */
TEST(test_copies)
{
    static unsigned char from[20000], to[20200];
    for (size_t i = 0; i < sizeof(from); i++)
        from[i] = (unsigned char) (i * 7 + i / 255);
    const size_t lens[] = {0,    1,    15,   63,   64,   65,   127,   128,
                           1000, 2047, 2048, 2049, 3072, 5001, 16384, 19000};
    for (int way = 0; way < IVSHM_COPIES; way++)
        for (size_t l = 0; l < LENGTH(lens); l++)
            for (size_t at = 0; at < 70; at += 7) {
                size_t len = lens[l], off = at * 3 % 64;
                memset(to, 0xa5, sizeof(to));
                ivshm_copy_in(to + 64 + at, from + off, len, (enum ivshm_copy) way);
                assert_memory_equal(to + 64 + at, from + off, len);
                for (size_t i = 0; i < 64 + at; i++)
                    assert_int_equal(to[i], 0xa5);
                for (size_t i = 64 + at + len; i < sizeof(to); i++)
                    assert_int_equal(to[i], 0xa5);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_best_way_is_found),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_trials_are_rare),
        cmocka_unit_test(test_least),
        cmocka_unit_test(test_moved),
        cmocka_unit_test(test_interrupt),
        cmocka_unit_test(test_no_answer),
        cmocka_unit_test(test_pinned),
        cmocka_unit_test(test_any_numbers),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_copies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
