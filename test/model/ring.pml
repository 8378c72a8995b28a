/* SPDX-License-Identifier: mpich2 */
/*
 * The ring of core/ring.c, and how it takes over from the inbox in core/channel.c and core/transport.c. Each access to
 * shared memory is one step. The sender may stop for ever between any two of them. Checked:
 *   - messages arrive once, in order, whole, whichever way they went;
 *   - no slot or buffer is written that holds what the receiver has not read;
 *   - when no step is possible any more, everything published has been read, and a sender that has not stopped has
 *     published everything: neither waits for the other for ever.
 *
 * A payload is in the slot or in the next buffer, as the sender chooses. It is two words, so that it can be seen half
 * written.
 *
 * Broken variants, each of which must fail:
 *   -DWORD_FIRST       the sender stores the word before the payload
 *   -DNO_FULL_CHECK    the sender does not check how far the receiver has read
 *   -DHEAD_EARLY       the receiver frees a slot before it has read it
 *   -DNO_NUMBER        the receiver takes any record for the next
 *   -DUNANNOUNCED      the sender uses the ring without telling the receiver
 *   -DNO_BUFFER_CHECK  the sender does not check whether the buffer has been read
 */
#ifndef MESSAGES
#define MESSAGES 7
#endif
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef BUFFERS
#define BUFFERS 2
#endif
#ifndef LAG
#define LAG 1 /* how many records the published head may lag behind */
#endif
#define FIRST 2 /* messages that go by the inbox; the next one is the word of the ring */
#define ANNOUNCE 99

typedef slot_t { byte number; bool buffer; byte one; byte two }; /* number + 1; 0 is none */
typedef buffer_t { byte one; byte two };
slot_t slot[SLOTS];
buffer_t buffer[BUFFERS];
byte head;
chan inbox = [FIRST + 1] of { byte };

/* For the checks alone. */
byte published, received;
bool stopped;
bool unread[SLOTS], buffer_unread[BUFFERS];

#define MAY_STOP if :: stopped = true; goto out :: true fi

proctype sender()
{
    byte number, tail, seen, next_buffer;
    byte last_use[BUFFERS];
    bool in_buffer;

    do
    :: number == MESSAGES -> break
    :: number < FIRST ->
        MAY_STOP;
        atomic { inbox ! number; number++; published = number }
    :: number == FIRST ->
        MAY_STOP;
#ifndef UNANNOUNCED
        inbox ! ANNOUNCE;
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
        in_buffer = false;
        if
#ifdef NO_BUFFER_CHECK
        :: in_buffer = true
#else
        :: seen >= last_use[next_buffer] -> in_buffer = true
        :: seen < last_use[next_buffer] ->
            seen = head;
            if
            :: seen >= last_use[next_buffer] -> in_buffer = true
            :: else /* a cell */
            fi
#endif
        :: true
        fi;
        assert(!unread[tail % SLOTS]);
#ifdef WORD_FIRST
        slot[tail % SLOTS].buffer = in_buffer;
        slot[tail % SLOTS].number = number + 1;
        MAY_STOP;
#endif
        if
        :: in_buffer ->
            assert(!buffer_unread[next_buffer]);
            buffer[next_buffer].one = number;
            MAY_STOP;
            buffer[next_buffer].two = number
        :: else ->
            slot[tail % SLOTS].one = number;
            MAY_STOP;
            slot[tail % SLOTS].two = number
        fi;
        MAY_STOP;
        d_step {
#ifndef WORD_FIRST
            slot[tail % SLOTS].buffer = in_buffer;
            slot[tail % SLOTS].number = number + 1;
#endif
            unread[tail % SLOTS] = true;
            tail++;
            if
            :: in_buffer ->
                buffer_unread[next_buffer] = true;
                last_use[next_buffer] = tail;
                next_buffer = (next_buffer + 1) % BUFFERS
            :: else
            fi;
            number++;
            published = number
        }
    od;
out:
    skip
}

proctype receiver()
{
    byte next, free, got, next_buffer, used;
    bool bound;
end:
    do
    :: inbox ? got ->
        if
        :: got == ANNOUNCE -> bound = true; received++
        :: else -> assert(got == received); received++
        fi
#ifdef UNANNOUNCED
    :: slot[next % SLOTS].number == received + 1 && received > FIRST ->
#else
#ifdef NO_NUMBER
    :: bound && slot[next % SLOTS].number != 0 && received < MESSAGES ->
#else
    :: bound && slot[next % SLOTS].number == received + 1 ->
#endif
#endif
#ifdef HEAD_EARLY
        head = next + 1;
#endif
        if
        :: slot[next % SLOTS].buffer ->
            assert(buffer[next_buffer].one == received);
            assert(buffer[next_buffer].two == received);
            d_step {
                buffer_unread[next_buffer] = false;
                next_buffer = (next_buffer + 1) % BUFFERS;
                used++
            }
        :: else ->
            assert(slot[next % SLOTS].one == received);
            assert(slot[next % SLOTS].two == received)
        fi;
        d_step { unread[next % SLOTS] = false; next++; received++ };
#ifndef HEAD_EARLY
        if
        :: next - free >= LAG || 2 * used > BUFFERS -> head = next; free = next; used = 0
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
