/* SPDX-License-Identifier: mpich2 */
/*
 * Idle rings and doorbells, of core/poll_set.h, core/transport.c and core/ring.h. In each receive, a receiver checks
 * its POLLED polled rings and one idle ring. Senders ring the doorbell when they find their ring idle. Each access to
 * shared memory is one step; a sender may stop after any. A ring is reduced to the number of records in it: ring.pml
 * models what is inside. Checked:
 *   - whatever was published is received in the end, even if the sender has stopped, and its doorbell was never sent,
 *     came too late, or found a full inbox;
 *   - a sender that finds its ring idle has rung the doorbell since then, and only once.
 *
 * Broken variants, each of which must fail:
 *   -DNO_IDLE_POLL         the receiver does not check idle rings without a doorbell
 *   -DSTUCK_POLL           the receiver checks the same idle ring each time
 *   -DBLIND_EMPTY          the receiver finds nothing to do if no polled ring has a record
 *   -DONE_BIT              `idle` is a flag instead of a counter
 *   -DDOORBELL_EACH_TIME   the sender does not remember that it has rung the doorbell
 */
#ifndef RINGS
#define RINGS 2
#endif
#ifndef POLLED
#define POLLED 1 /* IVSHM_RINGS_POLLED */
#endif
#ifndef MESSAGES
#define MESSAGES 2 /* of a sender */
#endif
#ifndef INBOX
#define INBOX 1 /* the number of doorbells that it has room for */
#endif

/* In shared memory. */
byte published[RINGS], idle[RINGS];
chan inbox = [INBOX] of { byte };

byte received[RINGS];

/* For the checks only: how often a ring was idle, and when its doorbell was last rung. */
byte times_idle[RINGS], doorbell_at[RINGS], doorbells[RINGS];

#define FOUND(r) (received[r] == published[r])
#if RINGS == 2
ltl found { <> [] (FOUND(0) && FOUND(1)) }
#else
ltl found { <> [] (FOUND(0) && FOUND(1) && FOUND(2)) }
#endif

#define MAY_STOP if :: goto out :: true fi

proctype sender(byte id)
{
    byte doorbell_seen, seen, number;
    do
    :: number == MESSAGES -> break
    :: number < MESSAGES ->
        MAY_STOP;
        published[id]++; /* ivshm_ring_publish_spsc */
        number++;
        MAY_STOP;
        atomic { /* ivshm_ring_wants_doorbell: one load */
            seen = idle[id];
            if
            :: seen % 2 == 0 -> seen = 0
#ifndef DOORBELL_EACH_TIME
            :: seen % 2 == 1 && seen == doorbell_seen -> assert(doorbell_at[id] == times_idle[id]); seen = 0
#endif
            :: else ->
                doorbell_seen = seen;
                doorbell_at[id] = times_idle[id];
                doorbells[id]++;
                assert(doorbells[id] <= times_idle[id])
            fi
        };
        if
        :: seen != 0 ->
            MAY_STOP;
            if /* ivshm_channel_ring_doorbell */
            :: nfull(inbox) -> inbox ! id
            :: full(inbox)
            fi
        :: else
        fi;
        seen = 0
    od;
out:
    skip
}

/* ivshm_ring_set_idle: no other process stores it. */
inline set_idle(r)
{
    atomic {
        if
        :: idle[r] % 2 == 0 ->
            times_idle[r]++;
#ifdef ONE_BIT
            idle[r] = 1
#else
            idle[r]++
#endif
        :: else
        fi
    }
}

inline clear_idle(r)
{
    atomic {
        if
        :: idle[r] % 2 == 1 ->
#ifdef ONE_BIT
            idle[r] = 0
#else
            idle[r]++
#endif
        :: else
        fi
    }
}

/* Ring r moves to index `to`, and the ring that was there to r's. */
inline swap(r, to)
{
    atomic {
        other = rings[to];
        hole = index_of[r];
        rings[to] = r;
        rings[hole] = other;
        index_of[r] = to;
        index_of[other] = hole;
        other = 0;
        hole = 0
    }
}

/* ivshm_poll_set_promote: private, except for what it stores into the two rings. */
inline promote(r)
{
    if
    :: index_of[r] < polled_count -> skip
    :: index_of[r] >= polled_count && polled_count < POLLED -> swap(r, polled_count); polled_count++; clear_idle(r)
    :: index_of[r] >= polled_count && polled_count == POLLED ->
        victim = next_polled % POLLED;
        set_idle(rings[victim]);
        swap(r, victim);
        victim = 0;
        clear_idle(r)
    fi
}

/* Receives a record of ring r, as ivshm_ring_peek_spsc finds it. */
#define PEEK(r) (published[r] > received[r])

/* ivshm_poll_set_next */
inline from_rings()
{
    n = polled_count;
    do
    :: n == 0 || got -> break
    :: n > 0 && !got ->
        atomic {
            if :: next_polled >= polled_count -> next_polled = 0 :: else fi;
            ring = rings[next_polled];
            next_polled++;
            n--
        }
        atomic { if :: PEEK(ring) -> received[ring]++; got = true :: else fi }
    od;
    if
#ifndef NO_IDLE_POLL
    :: !got && RINGS > polled_count ->
        atomic {
            if :: next_idle < polled_count || next_idle >= RINGS -> next_idle = polled_count :: else fi;
            ring = rings[next_idle];
#ifndef STUCK_POLL
            next_idle++
#endif
        }
        if
        :: PEEK(ring) -> promote(ring); received[ring]++; got = true
        :: else
        fi
#endif
    :: else
    fi;
    atomic { n = 0; ring = 0 }
}

inline from_inbox()
{
    do
    :: got -> break
    :: !got && empty(inbox) -> break
    :: !got && nempty(inbox) -> inbox ? bell_sender; promote(bell_sender); bell_sender = 0; from_rings()
    od
}

/* ivshm_transport_is_empty */
inline is_empty()
{
    finds_nothing = true;
    n = 0;
    do
    :: n == polled_count -> break
    :: n < polled_count -> atomic { if :: PEEK(rings[n]) -> finds_nothing = false :: else fi; n++ }
    od;
    n = 0;
#ifndef BLIND_EMPTY
    if :: polled_count != RINGS -> finds_nothing = false :: else fi;
#endif
    if :: nempty(inbox) -> finds_nothing = false :: empty(inbox) fi
}

proctype receiver()
{
    byte rings[RINGS], index_of[RINGS];
    byte polled_count, next_polled, next_idle, n, ring, victim, other, hole, bell_sender;
    bool got, finds_nothing, ring_was_last;

    for (n : 0 .. RINGS - 1) { rings[n] = n; index_of[n] = n }
    for (n : 0 .. RINGS - 1) { promote(n) } /* ivshm_poll_set_add */
    n = 0;
    do
    :: is_empty();
        if
        :: finds_nothing -> skip
        :: else -> /* ivshm_transport_receive */
            if :: ring_was_last -> from_inbox() :: else fi;
            ring_was_last = false;
            if :: !got -> from_rings(); ring_was_last = got :: else fi;
            if :: !got -> from_inbox() :: else fi;
            got = false
        fi
    od
}

init {
    byte i;
    atomic {
        run receiver();
        for (i : 0 .. RINGS - 1) { run sender(i) }
    }
}
