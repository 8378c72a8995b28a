/* SPDX-License-Identifier: mpich2 */
/*
 * The inbox of core/queue.c. Each access to shared memory is one step; a slot's word is one access. Producer 0 may stop
 * for ever between any two of them. Checked:
 *   - each producer's messages arrive once, all of them, in order;
 *   - no slot is overwritten that the consumer has not read;
 *   - when no step is possible any more, everything published has been read, and every producer that has not stopped
 *     has published all of its messages: nobody waits for one that has stopped.
 *
 * Memory is sequentially consistent here. Whether core's memory orders suffice is checked by ThreadSanitizer. Positions
 * start at 0; test_queue.c covers their wraparound.
 *
 *   -DLIAR   a hostile process writes nonsense into the hint
 * Broken variants, each of which must fail:
 *   -DNO_PREDECESSOR (with LIAR)  believes the hint without checking the slot before
 *   -DNO_FULL_CHECK               does not check how far the consumer has read
 *   -DHEAD_EARLY                  the consumer frees a slot before it has read it
 *   -DBLIND_STORE                 checks, then stores, instead of compare-and-swap
 *   -DTICKET                      reserves a position first and fills it later, as most queues do
 */
#ifndef PRODUCERS
#define PRODUCERS 2
#endif
#ifndef MESSAGES
#define MESSAGES 3
#endif
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef LAG
#define LAG 1 /* how many positions the published head may lag behind */
#endif

typedef slot_t { byte lap; byte who; byte number };
slot_t slot[SLOTS];
byte head, hint;

/* For the checks only. */
byte consumed;                /* the consumer's own head */
byte published[PRODUCERS];
byte expected[PRODUCERS];
bool done[PRODUCERS];         /* has published all, or has stopped */
byte stopped = 255;

#define LAP(p) ((p) / SLOTS + 1)
#define MAY_STOP if :: id == 0 -> stopped = 0; goto out :: true fi

inline refresh_head()
{
    limit = head;
    if :: next < limit -> next = limit :: else fi
}

proctype producer(byte id)
{
    byte next, limit, position, seen, steps, number;
    slot_t found;

    do
    :: number == MESSAGES -> break
    :: number < MESSAGES ->
again:
        MAY_STOP;
#ifdef TICKET
        atomic { position = hint; hint++ };
        MAY_STOP;
        position < head + SLOTS; /* until there is room */
        d_step {
            slot[position % SLOTS].who = id;
            slot[position % SLOTS].number = number;
            slot[position % SLOTS].lap = LAP(position);
            assert(position < consumed + SLOTS);
            published[id]++
        }
#else
        if /* as after another attach: it knows only the head */
        :: number == 1 -> next = head; limit = next
        :: true
        fi;
        seen = hint;
        if
        :: seen < next || seen - next > SLOTS -> refresh_head()
        :: else
        fi;
        position = next;
        if
        :: seen >= position && seen - position <= SLOTS ->
#ifdef NO_PREDECESSOR
            position = seen
#else
            if
            :: seen == 0 -> position = seen
            :: seen > 0 && slot[(seen - 1) % SLOTS].lap >= LAP(seen - 1) -> position = seen
            :: else
            fi
#endif
        :: else
        fi;
        MAY_STOP;
        steps = 0;
        do
        :: steps > SLOTS -> goto again /* -EAGAIN */
        :: else ->
            steps++;
#ifndef NO_FULL_CHECK
            if
            :: position < limit || position - limit >= SLOTS ->
                refresh_head();
                if
                :: position < limit -> goto again
                :: position >= limit && position - limit >= SLOTS ->
                    head != limit; /* -EAGAIN: the caller tries again after the consumer has moved on */
                    goto again
                :: else
                fi
            :: else
            fi;
#endif
            d_step {
                found.lap = slot[position % SLOTS].lap;
                found.who = slot[position % SLOTS].who;
                found.number = slot[position % SLOTS].number
            }
            MAY_STOP;
            if
            :: found.lap > LAP(position) -> refresh_head(); position = next
            :: found.lap == LAP(position) -> position++
            :: else ->
                atomic {
                    if
#ifdef BLIND_STORE
                    :: true ->
#else
                    :: slot[position % SLOTS].lap == found.lap &&
                       slot[position % SLOTS].who == found.who &&
                       slot[position % SLOTS].number == found.number ->
#endif
                        assert(position < consumed + SLOTS);
                        slot[position % SLOTS].lap = LAP(position);
                        slot[position % SLOTS].who = id;
                        slot[position % SLOTS].number = number;
                        published[id]++;
                        break
#ifndef BLIND_STORE
                    :: else
#endif
                    fi
                }
            fi
        od;
        next = position + 1;
        MAY_STOP;
        hint = position + 1;
#endif
        d_step { /* clears what no longer matters: fewer states */
            number++;
            seen = 0;
            position = 0;
            steps = 0;
            found.lap = 0;
            found.who = 0;
            found.number = 0
        }
    od;
out:
    done[id] = true
}

proctype consumer()
{
    byte free;
end:
    do
    :: slot[consumed % SLOTS].lap == LAP(consumed) ->
#ifdef HEAD_EARLY
        head = consumed + 1;
#endif
        atomic {
            assert(slot[consumed % SLOTS].number == expected[slot[consumed % SLOTS].who]);
            expected[slot[consumed % SLOTS].who]++;
            consumed++
        }
        if
        :: consumed - free >= LAG -> head = consumed; free = consumed
        :: else
        fi
    od
}

#ifdef LIAR
proctype liar()
{
    byte lie;
    select (lie : 0 .. 2 * SLOTS + 1);
    hint = lie
}
#endif

init {
    byte i;
    atomic {
        run consumer();
#ifdef LIAR
        run liar();
#endif
        for (i : 0 .. PRODUCERS - 1) { run producer(i) }
    }
    /* When no step is possible any more. */
    timeout;
    for (i : 0 .. PRODUCERS - 1) {
        assert(done[i]);
        assert(expected[i] == published[i]);
        assert(published[i] == MESSAGES || i == stopped)
    }
}
