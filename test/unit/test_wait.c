/* SPDX-License-Identifier: mpich2 */
#include "unit.h"

#include "core/sleep.h"
#include "core/wait.h"

#define US UINT64_C(1000)
#define MS (1000 * US)

static const struct ivshm_wait_for nothing = {.looks = 3},
                                   a_waker = {.can_be_woken = true, .looks = 3},
                                   a_part = {.can_be_woken = true, .is_moving = true},
                                   room = {.sharers = 2},
                                   room_and_waker = {.can_be_woken = true, .sharers = 2};

/* The steps until `until`, looked at each `every`, as letters; a nap takes its time. */
static const char *steps(struct ivshm_wait *wait, const struct ivshm_wait_for *what, uint64_t every,
                         uint64_t until)
{
    static const char letters[] = {[IVSHM_WAIT_LOOK] = 'l',
                                   [IVSHM_WAIT_GIVE] = 'g',
                                   [IVSHM_WAIT_ANNOUNCE] = 'a',
                                   [IVSHM_WAIT_DOZE] = 'd',
                                   [IVSHM_WAIT_NAP] = 'n'};
    static char text[64];
    size_t len = 0;
    char last = 0;
    for (uint64_t now = 1; now < until; now += every) {
        uint64_t nap = 0;
        enum ivshm_wait_step step = ivshm_wait_next(wait, now, what, &nap);
        now += nap;
        /* A run of one letter counts once. */
        if (letters[step] != last && len < sizeof(text) - 1)
            text[len++] = last = letters[step];
        text[len] = 0;
    }
    return text;
}

static const char *steps_of(enum ivshm_wait_mode mode, const struct ivshm_wait_for *what,
                            uint64_t every, uint64_t until)
{
    struct ivshm_wait wait;
    ivshm_wait_init(&wait, mode);
    return steps(&wait, what, every, until);
}

TEST(test_spin_and_yield)
{
    assert_string_equal(steps_of(IVSHM_WAIT_SPIN, &room_and_waker, US, 5000 * MS), "l");
    assert_string_equal(steps_of(IVSHM_WAIT_YIELD, &room_and_waker, US, 5000 * MS), "g");
}

/* What comes within about the time that a sleep costs is found by looking. */
TEST(test_patience)
{
    assert_string_equal(steps_of(IVSHM_WAIT_AUTO, &a_waker, US, 90 * US), "l");
    assert_string_equal(steps_of(IVSHM_WAIT_AUTO, &a_waker, US, 10 * MS), "lald");
    assert_string_equal(steps_of(IVSHM_WAIT_AUTO, &nothing, US, 900 * US), "lg");
    assert_string_equal(steps_of(IVSHM_WAIT_AUTO, &nothing, US, 50 * MS), "lgn");
    assert_string_equal(steps_of(IVSHM_WAIT_AUTO, &a_part, US, 9 * MS), "l");
    assert_string_equal(steps_of(IVSHM_WAIT_AUTO, &a_part, US, 50 * MS), "ln");
}

/* With too few processors, others need ours at once. */
TEST(test_crowd)
{
    struct ivshm_wait wait;
    uint64_t nap;
    assert_string_equal(steps_of(IVSHM_WAIT_AUTO, &room_and_waker, US, 90 * US), "g");
    assert_string_equal(steps_of(IVSHM_WAIT_AUTO, &room_and_waker, US, 10 * MS), "gald");
    assert_string_equal(steps_of(IVSHM_WAIT_AUTO, &room, US, 900 * US), "g");
    assert_string_equal(steps_of(IVSHM_WAIT_AUTO, &room, US, 50 * MS), "gn");
    assert_string_equal(steps_of(IVSHM_WAIT_SPIN, &room, US, 50 * MS), "l");
    ivshm_wait_init(&wait, IVSHM_WAIT_AUTO);
    assert_int_equal(wait.looks, IVSHM_WAIT_LOOKS);
    ivshm_wait_next(&wait, 1, &room, &nap);
    assert_int_equal(wait.looks, 1);
}

TEST(test_sleep)
{
    assert_string_equal(steps_of(IVSHM_WAIT_SLEEP, &a_waker, US, 15 * US), "ald");
    assert_string_equal(steps_of(IVSHM_WAIT_SLEEP, &room_and_waker, US, 15 * US), "ald");
    assert_string_equal(steps_of(IVSHM_WAIT_SLEEP, &nothing, US, 900 * US), "g");
}

/* Between the grace of an announcement and the sleep there is a look, whatever the looks are at. */
TEST(test_last_look)
{
    struct ivshm_wait wait;
    uint64_t nap, now = 1;
    ivshm_wait_init(&wait, IVSHM_WAIT_SLEEP);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(ivshm_wait_next(&wait, now, &a_waker, &nap), IVSHM_WAIT_ANNOUNCE);
        now += IVSHM_SLEEP_GRACE_NS;
        assert_int_equal(ivshm_wait_next(&wait, now, &a_waker, &nap), IVSHM_WAIT_LOOK);
        assert_int_equal(ivshm_wait_next(&wait, now, &a_waker, &nap), IVSHM_WAIT_DOZE);
    }
}

/* A wait in which the processor is away for so long before the second look; how that one acts. */
static enum ivshm_wait_step step_after(struct ivshm_wait *wait, uint64_t *now, uint64_t away)
{
    uint64_t nap;
    ivshm_wait_next(wait, *now, &a_waker, &nap);
    *now += away;
    enum ivshm_wait_step step = ivshm_wait_next(wait, *now, &a_waker, &nap);
    *now += 10 * US;
    ivshm_wait_end(wait);
    return step;
}

/* How many waits in a row begin with a sleep. */
static unsigned wary_waits(struct ivshm_wait *wait, uint64_t *now)
{
    unsigned n = 0;
    uint64_t nap;
    while (ivshm_wait_next(wait, *now, &a_waker, &nap) == IVSHM_WAIT_ANNOUNCE) {
        assert_true(ivshm_wait_end(wait));
        *now += 10 * US;
        n++;
    }
    ivshm_wait_end(wait);
    return n;
}

/* Where peers share a processor, they keep it for long when they start. */
TEST(test_lost_to_peers)
{
    struct ivshm_wait wait;
    uint64_t now = 7 * MS, nap;
    ivshm_wait_init(&wait, IVSHM_WAIT_AUTO);
    for (int i = 0; i < 32; i++) {
        assert_int_equal(ivshm_wait_next(&wait, now, &room_and_waker, &nap), IVSHM_WAIT_GIVE);
        now += 3 * MS;
        ivshm_wait_next(&wait, now, &room_and_waker, &nap);
        ivshm_wait_end(&wait);
    }
    assert_int_equal(ivshm_wait_next(&wait, now, &room_and_waker, &nap), IVSHM_WAIT_ANNOUNCE);
}

/* A peer may need the processor for long once. Who loses it again soon shares it with strangers. */
TEST(test_lost_processor)
{
    struct ivshm_wait wait;
    uint64_t now = 7 * MS;
    ivshm_wait_init(&wait, IVSHM_WAIT_AUTO);
    for (int i = 0; i < 5; i++) {
        step_after(&wait, &now, 3 * MS);
        for (int k = 0; k < 512; k++)
            assert_int_equal(step_after(&wait, &now, US), IVSHM_WAIT_LOOK);
    }
    step_after(&wait, &now, 3 * MS);
    for (unsigned wary = 2048; wary <= 1u << 19; wary *= 4) {
        step_after(&wait, &now, 3 * MS);
        unsigned most = wary < 1u << 17 ? wary : 1u << 17;
        assert_in_range(wary_waits(&wait, &now), most - 1, most);
        assert_int_equal(step_after(&wait, &now, US), IVSHM_WAIT_LOOK);
    }
    /* It is forgotten in the end. */
    for (int k = 0; k < 512; k++)
        step_after(&wait, &now, US);
    step_after(&wait, &now, 3 * MS);
    step_after(&wait, &now, 3 * MS);
    assert_in_range(wary_waits(&wait, &now), 2047, 2048);
}

/* Naps make a wait longer by a sixteenth at most, and leave nearly all of a processor. */
TEST(test_naps)
{
    struct ivshm_wait wait;
    uint64_t asleep = 0, now = 1;
    ivshm_wait_init(&wait, IVSHM_WAIT_AUTO);
    while (now < 60000 * MS) {
        uint64_t nap = 0;
        if (ivshm_wait_next(&wait, now, &nothing, &nap) == IVSHM_WAIT_NAP) {
            assert_int_equal(wait.looks, 3);
            assert_true(nap > 0 && nap <= now / 16);
            assert_true(nap <= 5 * MS && (nap <= MS || nap <= now / 1000));
            asleep += nap;
        }
        now += nap + 5 * US;
    }
    assert_true(asleep > now / 1000 * 998);
}

/* Each wait begins anew: how long the one before lasted does not matter. */
TEST(test_end)
{
    struct ivshm_wait wait;
    uint64_t nap;
    ivshm_wait_init(&wait, IVSHM_WAIT_AUTO);
    assert_string_equal(steps(&wait, &nothing, US, 50 * MS), "lgn");
    assert_false(ivshm_wait_end(&wait));
    assert_int_equal(ivshm_wait_next(&wait, 60 * MS, &nothing, &nap), IVSHM_WAIT_LOOK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spin_and_yield),
        cmocka_unit_test(test_patience),
        cmocka_unit_test(test_crowd),
        cmocka_unit_test(test_sleep),
        cmocka_unit_test(test_last_look),
        cmocka_unit_test(test_lost_to_peers),
        cmocka_unit_test(test_lost_processor),
        cmocka_unit_test(test_naps),
        cmocka_unit_test(test_end),
    };
    return RUN(tests);
}
