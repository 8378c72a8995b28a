/* SPDX-License-Identifier: mpich2 */
/*
 * The ring of core/ring.c, and how it takes over from the inbox in core/channel.c, step by step: each
 * access to shared memory is one step. The sender may stop for ever between any two of them. Checked:
 *   - messages arrive once, in order, whole, whichever way they went;
 *   - no slot is written that the receiver is reading;
 *   - when nothing moves any more, all that was published has been read, and a sender that did not stop
 *     has published all: neither waits for the other for ever.
 *
 * A payload is two words, so that it can be seen half written.
 *
 * Broken on purpose, and expected to fail:
 *   -DWORD_FIRST     the sender stores the word before the payload
 *   -DNO_FULL_CHECK  the sender does not ask how far the receiver is
 *   -DHEAD_EARLY     the receiver frees a slot before it has read it
 *   -DNO_NUMBER      the receiver takes any record for the next
 *   -DNO_OFFER       the sender uses the ring without telling the receiver
 */
#ifndef MESSAGES
#define MESSAGES 7
#endif
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef LAG
#define LAG 1 /* records that the published head may be behind */
#endif
#define FIRST 2 /* messages that go by the inbox; the next one is the offer of the ring */
#define OFFER 99

typedef slot_t { byte number; byte one; byte two }; /* number + 1; 0 is none */
slot_t slot[SLOTS];
byte head;
chan inbox = [FIRST + 1] of { byte };

/* For the checks alone. */
byte published, received;
bool stopped, reading;
byte read_slot;

#define MAY_STOP if :: stopped = true; goto out :: true fi

inline write(at, value)
{
    assert(!(reading && read_slot == at));
    slot[at].one = value;
    MAY_STOP;
    assert(!(reading && read_slot == at));
    slot[at].two = value;
    MAY_STOP
}

proctype sender()
{
    byte number, tail, seen;

    do
    :: number == MESSAGES -> break
    :: number < FIRST ->
        MAY_STOP;
        atomic { inbox ! number; number++; published = number }
    :: number == FIRST ->
        MAY_STOP;
#ifndef NO_OFFER
        inbox ! OFFER;
#endif
        number++
    :: number > FIRST && number < MESSAGES ->
        MAY_STOP;
#ifndef NO_FULL_CHECK
        if
        :: tail - seen >= SLOTS ->
            head != seen; /* -EAGAIN: the caller tries again after the receiver has moved */
            seen = head
        :: else
        fi;
#endif
#ifdef WORD_FIRST
        slot[tail % SLOTS].number = number + 1;
        MAY_STOP;
        write(tail % SLOTS, number);
#else
        write(tail % SLOTS, number);
        slot[tail % SLOTS].number = number + 1;
#endif
        d_step { tail++; number++; published = number }
    od;
out:
    skip
}

proctype receiver()
{
    byte next, free, got;
    bool bound;
end:
    do
    :: inbox ? got ->
        if
        :: got == OFFER -> bound = true; received++
        :: else -> assert(got == received); received++
        fi
#ifdef NO_OFFER
    :: slot[next % SLOTS].number == received + 1 && received > FIRST ->
#else
#ifdef NO_NUMBER
    :: bound && slot[next % SLOTS].number != 0 && received < MESSAGES ->
#else
    :: bound && slot[next % SLOTS].number == received + 1 ->
#endif
#endif
        atomic { reading = true; read_slot = next % SLOTS };
#ifdef HEAD_EARLY
        head = next + 1;
        reading = false;
#endif
        assert(slot[next % SLOTS].one == received);
        assert(slot[next % SLOTS].two == received);
        d_step { reading = false; next++; received++ }
#ifndef HEAD_EARLY
        if
        :: next - free >= LAG -> head = next; free = next
        :: else
        fi
#endif
    od
}

/* Nothing moves any more. */
proctype observer()
{
    timeout;
    assert(received >= published);
    assert(stopped || published == MESSAGES)
}

init {
    atomic { run sender(); run receiver(); run observer() }
}
