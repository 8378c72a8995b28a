/* SPDX-License-Identifier: mpich2 */
/*
 * Parked rings and knocks, of core/channel.c and core/ring.h: a receiver that looks at WARM of its rings in each
 * turn and at one of the others, and senders that knock when they find their ring parked. Each access to shared
 * memory is one step; a sender may stop after any. A ring is the number of records in it: ring.pml is about what
 * is inside. Checked:
 *   - found: what was published is received in the end, also when the sender has stopped, and its knock was never
 *     sent, came too late or found a full inbox;
 *   - a sender that finds its ring parked has knocked since that was done, and but once.
 *
 * Broken on purpose, and expected to fail:
 *   -DNO_TURNS         the receiver does not look at parked rings without a knock
 *   -DBLIND_IDLE       the receiver takes no record in a warm ring for none at all
 *   -DONE_BIT          parked is a flag, and does not count
 *   -DKNOCK_EACH_TIME  the sender does not remember that it has knocked
 *   -DSTUCK_TURN       the receiver looks at the same parked ring in each turn
 */
#ifndef RINGS
#define RINGS 2
#endif
#ifndef WARM
#define WARM 1 /* IVSHM_RINGS_WARM */
#endif
#ifndef MESSAGES
#define MESSAGES 2 /* of a sender */
#endif
#ifndef INBOX
#define INBOX 1 /* knocks that it has room for */
#endif

/* In shared memory. */
byte published[RINGS], parked[RINGS];
chan inbox = [INBOX] of { byte };

byte received[RINGS];

/* For the checks alone: how often a ring was parked, when it was last knocked for. */
byte parkings[RINGS], knocked_at[RINGS], knocks[RINGS];

#define FOUND(r) (received[r] == published[r])
#if RINGS == 2
ltl found { <> [] (FOUND(0) && FOUND(1)) }
#else
ltl found { <> [] (FOUND(0) && FOUND(1) && FOUND(2)) }
#endif

#define MAY_STOP if :: goto out :: true fi

proctype sender(byte id)
{
    byte rung, seen, number;
    do
    :: number == MESSAGES -> break
    :: number < MESSAGES ->
        MAY_STOP;
        published[id]++; /* ivshm_ring_publish_spsc */
        number++;
        MAY_STOP;
        atomic { /* ivshm_ring_wants_knock: one load */
            seen = parked[id];
            if
            :: seen % 2 == 0 -> seen = 0
#ifndef KNOCK_EACH_TIME
            :: seen % 2 == 1 && seen == rung -> assert(knocked_at[id] == parkings[id]); seen = 0
#endif
            :: else ->
                rung = seen;
                knocked_at[id] = parkings[id];
                knocks[id]++;
                assert(knocks[id] <= parkings[id])
            fi
        };
        if
        :: seen != 0 ->
            MAY_STOP;
            if /* ivshm_channel_knock */
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

/* ivshm_ring_park: nobody else stores it. */
inline park(r)
{
    atomic {
        if
        :: parked[r] % 2 == 0 ->
            parkings[r]++;
#ifdef ONE_BIT
            parked[r] = 1
#else
            parked[r]++
#endif
        :: else
        fi
    }
}

inline unpark(r)
{
    atomic {
        if
        :: parked[r] % 2 == 1 ->
#ifdef ONE_BIT
            parked[r] = 0
#else
            parked[r]++
#endif
        :: else
        fi
    }
}

/* Ring r goes to place `to`, and the one that was there to r's. */
inline swap(r, to)
{
    atomic {
        other = rings[to];
        hole = place[r];
        rings[to] = r;
        rings[hole] = other;
        place[r] = to;
        place[other] = hole;
        other = 0;
        hole = 0
    }
}

/* warm(): private, but for what it stores into the two rings. */
inline warm(r)
{
    if
    :: place[r] < warm_count -> skip
    :: place[r] >= warm_count && warm_count < WARM -> swap(r, warm_count); warm_count++; unpark(r)
    :: place[r] >= warm_count && warm_count == WARM ->
        victim = next_warm % WARM;
        park(rings[victim]);
        swap(r, victim);
        victim = 0;
        unpark(r)
    fi
}

/* A record of ring r is taken, as ivshm_ring_peek_spsc finds it. */
#define PEEK(r) (published[r] > received[r])

inline from_rings()
{
    n = warm_count;
    do
    :: n == 0 || got -> break
    :: n > 0 && !got ->
        atomic {
            if :: next_warm >= warm_count -> next_warm = 0 :: else fi;
            ring = rings[next_warm];
            next_warm++;
            n--
        }
        atomic { if :: PEEK(ring) -> received[ring]++; got = true :: else fi }
    od;
    if
#ifndef NO_TURNS
    :: !got && RINGS > warm_count ->
        atomic {
            if :: next_parked < warm_count || next_parked >= RINGS -> next_parked = warm_count :: else fi;
            ring = rings[next_parked];
#ifndef STUCK_TURN
            next_parked++
#endif
        }
        if
        :: PEEK(ring) -> warm(ring); received[ring]++; got = true
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
    :: !got && nempty(inbox) -> inbox ? knocker; warm(knocker); knocker = 0; from_rings()
    od
}

/* ivshm_transport_is_idle */
inline look()
{
    idle = true;
    n = 0;
    do
    :: n == warm_count -> break
    :: n < warm_count -> atomic { if :: PEEK(rings[n]) -> idle = false :: else fi; n++ }
    od;
    n = 0;
#ifndef BLIND_IDLE
    if :: warm_count != RINGS -> idle = false :: else fi;
#endif
    if :: nempty(inbox) -> idle = false :: empty(inbox) fi
}

proctype receiver()
{
    byte rings[RINGS], place[RINGS];
    byte warm_count, next_warm, next_parked, n, ring, victim, other, hole, knocker;
    bool got, idle, ring_was_last;

    for (n : 0 .. RINGS - 1) { rings[n] = n; place[n] = n }
    for (n : 0 .. RINGS - 1) { warm(n) } /* add_ring */
    n = 0;
    do
    :: look();
        if
        :: idle -> skip
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
