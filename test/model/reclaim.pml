/* SPDX-License-Identifier: mpich2 */
/*
 * How memory is reclaimed, of core/endpoint.c and core/extent.c. Owners claim an entry, allocate blocks, free some, and
 * leave or die at any step. Reapers, which may die too, reclaim what the dead held. Each access to shared memory is one
 * step. Attachments are left out: attach.pml models them. Checked:
 *   - no block is taken from a claim whose process lives;
 *   - an old reaper does not change a claim that was FREE and whose entry has the next owner;
 *   - each allocated block is freed exactly once, and in the end all blocks and entries are free.
 *
 * Broken variants, each of which must fail:
 *   -DANY_GENERATION  the reaper frees by endpoint, whatever the generation
 *   -DNO_GENERATION   the next claim has the generation of the last
 *   -DFREE_FIRST      the reaper frees the entry, then its blocks
 *   -DBLIND_STORE     the reaper checks a block, then stores, instead of compare-and-swap
 *   -DBLIND_FREE      the reaper stores FREE into the claim, instead of compare-and-swap
 *   -DSILENCE         the reaper takes a process that is merely slow for dead
 */
#ifndef ENTRIES
#define ENTRIES 1
#endif
#ifndef OWNERS
#define OWNERS 3
#endif
#ifndef REAPERS
#define REAPERS 2
#endif
#ifndef BLOCKS
#define BLOCKS 2
#endif
#define WANT 2 /* blocks of an extent */

/* A claim: a word of state, generation and pid. */
#define FREE 0
#define JOINING 1
#define LIVE 2
#define DEAD 3
#define STATE(word) ((word) & 3)
#define GENERATION(word) ((word) >> 2 & 7)
#define PID(word) ((word) >> 5)
#define CLAIM(state, generation, pid) ((state) | (generation) << 2 | (pid) << 5)

/* A block's word: who owns it; 0 is free. */
#define BLOCK(entry, generation) (1 + (entry) + ENTRIES * (generation))
#define OWNER_ENTRY(word) (((word) - 1) % ENTRIES)
#define OWNER_GENERATION(word) (((word) - 1) / ENTRIES)

byte claim[ENTRIES], map[BLOCKS];
bool gone[OWNERS + 1]; /* by pid, which begins at 1 */

/* For the checks only: which claims are over, and how many blocks were allocated and freed. */
bool over[ENTRIES * 8];
byte taken, returned;

inline cas(target, was, wanted)
{
    atomic { if :: target == was -> target = wanted; ok = true :: else -> ok = false fi }
}

#define MAY_DIE if :: goto dead :: true fi
#define REAPER_MAY_DIE if :: mortal -> goto dead :: true fi

/* ivshm_endpoint_watch: a process is proved dead by having ended. */
inline watch()
{
    e = 0;
    do
    :: e == ENTRIES -> break
    :: e < ENTRIES ->
        word = claim[e];
        if
#ifdef SILENCE
        :: STATE(word) == JOINING || STATE(word) == LIVE ->
#else
        :: (STATE(word) == JOINING || STATE(word) == LIVE) && gone[PID(word)] ->
#endif
            atomic {
                cas(claim[e], word, word | DEAD);
                if :: ok -> over[e * 8 + GENERATION(word)] = true :: else fi
            }
        :: else
        fi;
        e++
    od;
    e = 0
}

/* ivshm_extent_reclaim, of the claim `word` of entry e. */
inline reclaim_blocks()
{
    i = BLOCKS;
    do
    :: i == 0 -> break
    :: i > 0 ->
        i--;
        found = map[i];
        if
#ifdef ANY_GENERATION
        :: found != 0 && OWNER_ENTRY(found) == e ->
#else
        :: found == BLOCK(e, GENERATION(word)) ->
#endif
            atomic {
#ifdef BLIND_STORE
                skip
            }
            atomic {
                map[i] = 0;
                ok = true;
#else
                cas(map[i], found, 0);
#endif
                if
                :: ok ->
                    assert(over[OWNER_ENTRY(found) * 8 + OWNER_GENERATION(found)]);
                    returned++
                :: else
                fi
            }
        :: else
        fi
    od;
    found = 0
}

/* reclaim(): keeps the generation. */
inline free_entry()
{
    atomic {
#ifdef BLIND_FREE
        assert(claim[e] == word || claim[e] == CLAIM(FREE, GENERATION(word), 0));
        claim[e] = CLAIM(FREE, GENERATION(word), 0)
#else
        cas(claim[e], word, CLAIM(FREE, GENERATION(word), 0))
#endif
    }
}

/* ivshm_endpoint_reap */
inline reap()
{
    watch();
    do
    :: e == ENTRIES -> break
    :: e < ENTRIES ->
        word = claim[e];
        if
        :: STATE(word) == DEAD ->
#ifdef FREE_FIRST
            free_entry();
            REAPER_MAY_DIE;
            reclaim_blocks()
#else
            reclaim_blocks();
            REAPER_MAY_DIE;
            free_entry()
#endif
        :: else
        fi;
        e++
    od;
    atomic { e = 0; word = 0 }
}

/* ivshm_extent_alloc: leaves `first`, the first block, or BLOCKS if there is no room. */
inline alloc()
{
    atomic { first = 0; run_length = 0 }
    do
    :: run_length == WANT -> break
    :: run_length < WANT && first + WANT > BLOCKS -> first = BLOCKS; break
    :: run_length < WANT && first + WANT <= BLOCKS ->
        MAY_DIE;
        atomic {
            cas(map[first + run_length], 0, mine);
            if :: ok -> taken++; run_length++ :: else fi
        }
        if
        :: ok
        :: else ->
            give_back(first, run_length);
            first = first + run_length + 1;
            run_length = 0
        fi
    od;
    run_length = 0
}

/* Our own blocks, the last first. */
inline give_back(start, count)
{
    i = count;
    do
    :: i == 0 -> break
    :: i > 0 ->
        i--;
        MAY_DIE;
        atomic { assert(map[start + i] == mine); map[start + i] = 0; returned++ }
    od
}

proctype owner(byte id)
{
    byte e, i, word, found, mine, first, run_length, at;
    bool ok;

    /* claim_entry */
    do
    :: e == ENTRIES -> goto dead
    :: e < ENTRIES ->
        word = claim[e];
        if
        :: STATE(word) == FREE ->
#ifdef NO_GENERATION
            at = 1;
#else
            at = GENERATION(word) + 1;
#endif
            atomic {
                cas(claim[e], word, CLAIM(JOINING, at, id));
                if :: ok -> over[e * 8 + at] = false :: else fi
            }
            if :: ok -> break :: else fi
        :: else
        fi;
        e++
    od;
    atomic { mine = BLOCK(e, at); word = CLAIM(JOINING, at, id); at = e; found = 0 }

    alloc();
    if
    :: first < BLOCKS ->
        MAY_DIE;
        assert(map[first] == mine && map[first + 1] == mine); /* writes */
        cas(claim[at], word, word + 1); /* ivshm_endpoint_publish */
        assert(ok);
        word++;
        MAY_DIE;
        assert(map[first] == mine && map[first + 1] == mine);
        if
        :: give_back(first, WANT) /* ivshm_extent_free */
        :: true
        fi
    :: else
    fi;
    /* give_up */
    atomic {
        MAY_DIE;
        cas(claim[at], word, word | DEAD);
        assert(ok);
        over[at * 8 + GENERATION(word)] = true
    }
    atomic { e = 0; word = 0; mine = 0; first = 0; at = 0; i = 0 }
dead:
    gone[id] = true
}

proctype reaper()
{
    byte e, i, word, found;
    bool ok, mortal = true;
    reap();
dead:
    skip
}

init {
    byte e, i, word, found;
    bool ok, mortal;
    atomic {
        for (i : 1 .. OWNERS) { run owner(i) }
        for (i : 1 .. REAPERS) { run reaper() }
    }
    /* When no step is possible any more: the next process reaps. */
    timeout;
    reap();
dead:
    for (e : 0 .. ENTRIES - 1) { assert(STATE(claim[e]) == FREE) }
    for (i : 0 .. BLOCKS - 1) { assert(map[i] == 0) }
    assert(taken == returned)
}
