/* SPDX-License-Identifier: mpich2 */
/*
 * Edge A1, attach against reap, of core/endpoint.c. Each access to shared memory is one step. An owner joins, leaves
 * and joins again. Attachers write into its memory, and leave or die at any step. Reapers reap. Checked:
 *   - an attached process writes into memory of the generation that it attached to;
 *   - when all have ended, a last reap frees everything.
 *
 * Broken variants, each of which must fail:
 *   -DCHECK_FIRST     attach checks the claim, then sets its bit
 *   -DBLIND_REAP      the reaper does not check for attachments
 *   -DSILENCE         the reaper takes a process that is merely slow for dead
 *   -DANY_GENERATION  the reaper frees by endpoint, whatever the generation
 */
#ifndef ATTACHERS
#define ATTACHERS 2
#endif
#ifndef REAPERS
#define REAPERS 2
#endif
#ifndef ROUNDS
#define ROUNDS 1 /* of an attacher, and of a reaper */
#endif
#ifndef LIVES
#define LIVES 2 /* of the owner's entry */
#endif

mtype = { FREE, JOINING, LIVE, DEAD };

/* The owner's entry, a word: state and generation. Its memory: the generation that holds it; 0 is free. */
mtype state = FREE;
byte generation, memory;

/* The attachers: the state of their own entry, whether they are alive, and the bit of their attachment. */
mtype attacher[ATTACHERS] = LIVE;
bool gone[ATTACHERS], announced[ATTACHERS];
bool owner_done;

inline reap()
{
    d_step { it_state = state; it = generation };
    if
    :: it_state == DEAD ->
        attached = false;
#ifndef BLIND_REAP
        for (i : 0 .. ATTACHERS - 1) {
            if /* the claim, then the bit: two reads */
            :: attacher[i] == LIVE ->
                if :: announced[i] -> attached = true :: else fi
            :: else
            fi
        }
#endif
        if
        :: !attached ->
#ifdef ANY_GENERATION
            memory = 0;
#else
            atomic { if :: memory == it -> memory = 0 :: else fi };
#endif
            atomic { if :: state == DEAD && generation == it -> state = FREE :: else fi }
        :: else
        fi
    :: else
    fi
}

/* The dead are marked first. A process is proved dead by having ended. */
inline watch()
{
    for (i : 0 .. ATTACHERS - 1) {
#ifdef SILENCE
        if :: attacher[i] == LIVE -> attacher[i] = DEAD :: true fi
#else
        if :: gone[i] && attacher[i] == LIVE -> attacher[i] = DEAD :: else fi
#endif
    }
}

proctype owner()
{
    byte life, mine;
    for (life : 1 .. LIVES) {
        atomic { state == FREE -> state = JOINING; generation++; mine = generation };
        atomic { assert(memory == 0); memory = mine };
        atomic { assert(memory == mine && state == JOINING); state = LIVE }; /* has filled it */
        atomic { assert(memory == mine && state == LIVE); state = DEAD } /* has used it */
    }
    owner_done = true
}

#define MAY_DIE if :: goto dead :: true fi

proctype attach(byte id)
{
    mtype seen;
    byte peer, tries;
    for (tries : 1 .. ROUNDS) {
#ifdef CHECK_FIRST
        d_step { seen = state; peer = generation };
        MAY_DIE;
        announced[id] = true;
#else
        announced[id] = true;
        MAY_DIE;
        d_step { seen = state; peer = generation };
#endif
        if
        :: seen == LIVE ->
            assert(memory == peer); /* writes */
            MAY_DIE;
            assert(memory == peer) /* and writes */
        :: else
        fi;
        announced[id] = false;
        d_step { seen = 0; peer = 0 }
        MAY_DIE
    }
    /* Leaves. */
    announced[id] = false;
    attacher[id] = DEAD;
dead:
    gone[id] = true
}

proctype reaper()
{
    byte it, i, round;
    mtype it_state;
    bool attached;
    for (round : 1 .. ROUNDS) {
        watch();
        reap();
        d_step { it = 0; i = 0; it_state = 0; attached = false }
    }
}

init {
    byte it, i;
    mtype it_state;
    bool attached;
    atomic {
        run owner();
        for (i : 0 .. ATTACHERS - 1) { run attach(i) }
        for (i : 0 .. REAPERS - 1) { run reaper() }
    }
    /* When no step is possible any more: the next process reaps. */
    do
    :: timeout ->
        watch();
        reap();
        if :: owner_done && state == FREE -> break :: else fi
    od;
    assert(memory == 0)
}
