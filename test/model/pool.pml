/* SPDX-License-Identifier: mpich2 */
/*
 * The cells of core/pool.c, from one sender to several receivers and back. Each access to shared memory is one step. A
 * receiver may die at any step; the sender then reclaims its cells. The inbox is a channel here: inbox.pml models it.
 * Checked:
 *   - a receiver reads what was sent, whole, and nobody writes a cell that somebody may still read or release;
 *   - messages arrive in order, and all of them if the receiver lives;
 *   - in the end all cells are free: none is lost, none is there twice;
 *   - progress: while a message is due, the sender does not wait for ever.
 *
 * Broken variants, each of which must fail:
 *   -DFREE_EARLY      the receiver releases a cell, then reads it
 *   -DIN_FLIGHT_LATE  the sender marks a cell as in flight after it has published it
 *   -DSILENCE         the sender reclaims what a slow receiver holds
 *   -DNO_RECLAIM      the sender reclaims nothing from the dead
 *   -DBLIND_ALLOC     the sender allocates the cell that has been in flight the longest, free or not
 *   -DRECLAIM_ALL     the sender reclaims what other receivers hold, too
 */
#ifndef CELLS
#define CELLS 2
#endif
#ifndef RECEIVERS
#define RECEIVERS 2
#endif
#ifndef MESSAGES
#define MESSAGES 4
#endif
#define NONE 255

/* A cell: `in_flight` is its state; two words of payload, so that it can be seen half written. */
bool in_flight[CELLS];
byte one[CELLS], two[CELLS];
chan inbox[RECEIVERS] = [MESSAGES] of { byte }; /* a reference: the cell */

bool gone[RECEIVERS]; /* the process has died, which the sender can prove */

/* For the checks only. */
byte sent[RECEIVERS], received[RECEIVERS]; /* messages */

#define PAYLOAD(to, number) ((to) * 16 + (number))

/* The sender's private state: lists of cells, as in struct ivshm_pool. */
byte free_list[CELLS], free_count = CELLS;
byte in_flight_list[CELLS], in_flight_count;
byte holder[CELLS];

inline put_free(c)
{
    assert(free_count < CELLS);
    free_list[free_count] = c;
    free_count++;
}

/* collect(all = true), which finds everything that the quick variant does. */
inline collect()
{
    i = 0;
    kept = 0;
    do
    :: i == in_flight_count -> break
    :: i < in_flight_count ->
        is_in_flight = in_flight[in_flight_list[i]]; /* load of the state */
        atomic {
            if
#ifdef BLIND_ALLOC
            :: true -> put_free(in_flight_list[i])
#else
            :: !is_in_flight -> put_free(in_flight_list[i])
            :: else -> in_flight_list[kept] = in_flight_list[i]; kept++
#endif
            fi;
            i++
        }
    od;
    atomic { in_flight_count = kept; i = 0; kept = 0; is_in_flight = false }
}

/* ivshm_pool_reclaim, from detach: private, except for the proof, which comes before it. */
inline reclaim(who)
{
    atomic {
        i = 0;
        kept = 0;
        do
        :: i == in_flight_count -> break
        :: i < in_flight_count ->
            if
#ifdef RECLAIM_ALL
            :: true -> put_free(in_flight_list[i])
#else
            :: holder[in_flight_list[i]] == who -> put_free(in_flight_list[i])
            :: else -> in_flight_list[kept] = in_flight_list[i]; kept++
#endif
            fi;
            i++
        od;
        in_flight_count = kept;
        i = 0;
        kept = 0
    }
}

/* ivshm_transport_watch: forgets a peer that is gone. */
inline watch()
{
    to = 0;
    do
    :: to == RECEIVERS -> break
    :: to < RECEIVERS ->
        if
#ifdef SILENCE
        :: !forgotten[to] -> forgotten[to] = true; reclaim(to)
        :: true
#else
        :: gone[to] && !forgotten[to] ->
            forgotten[to] = true;
#ifndef NO_RECLAIM
            reclaim(to)
#endif
        :: else
#endif
        fi;
        to++
    od;
    to = 0
}

proctype sender()
{
    byte i, kept, to, cell, number;
    bool is_in_flight;
    bool forgotten[RECEIVERS];

    for (i : 0 .. CELLS - 1) { free_list[i] = i }
    i = 0;
    do
    :: number == MESSAGES -> break
    :: number < MESSAGES ->
        watch();
        /* ivshm_pool_alloc */
        if :: free_count == 0 -> collect() :: else fi;
        if
        :: free_count == 0 -> skip /* -EAGAIN: later */
        :: else ->
            atomic { free_count--; cell = free_list[free_count]; free_list[free_count] = 0 }
            select (to : 0 .. RECEIVERS - 1);
            if
            :: forgotten[to] -> /* ivshm_message_discard */
                atomic { put_free(cell); number++ }
            :: else ->
                one[cell] = PAYLOAD(to, sent[to]);
                two[cell] = PAYLOAD(to, sent[to]);
                /* ivshm_pool_set_in_flight, then ivshm_queue_push_mpsc */
#ifndef IN_FLIGHT_LATE
                in_flight[cell] = true;
#endif
                d_step { holder[cell] = to; in_flight_list[in_flight_count] = cell; in_flight_count++ }
                atomic { inbox[to] ! cell; sent[to]++; number++ }
#ifdef IN_FLIGHT_LATE
                in_flight[cell] = true;
#endif
            fi;
            d_step { cell = 0; to = 0 }
progress:   skip
        fi
    od;
    /* When no step is possible any more. */
    timeout;
    atomic {
        to = 0;
        do
        :: to == RECEIVERS -> break
        :: to < RECEIVERS ->
            assert(gone[to] || forgotten[to] || received[to] == sent[to]);
            to++
        od;
        to = 0
    }
#ifndef NO_RECLAIM
    do
    :: to == RECEIVERS -> break
    :: to < RECEIVERS -> if :: gone[to] && !forgotten[to] -> reclaim(to) :: else fi; to++
    od;
#endif
    collect();
    assert(free_count == CELLS && in_flight_count == 0);
    i = 1;
    do
    :: i == CELLS -> break
    :: i < CELLS -> assert(free_list[i] != free_list[i - 1]); i++
    od
}

#define MAY_DIE if :: atomic { true -> gone[id] = true; goto dead } :: true fi

proctype receiver(byte id)
{
    byte cell;
end:
    do
    :: inbox[id] ? cell ->
        MAY_DIE;
#ifdef FREE_EARLY
        in_flight[cell] = false;
#endif
        assert(one[cell] == PAYLOAD(id, received[id])); /* open_cell, and the caller */
        MAY_DIE;
        assert(two[cell] == PAYLOAD(id, received[id]));
        received[id]++;
        MAY_DIE;
#ifndef FREE_EARLY
        in_flight[cell] = false; /* ivshm_message_release */
#endif
        cell = 0
    od;
dead:
    skip
}

init {
    byte i;
    atomic {
        run sender();
        for (i : 0 .. RECEIVERS - 1) { run receiver(i) }
    }
}
