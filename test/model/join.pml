/* SPDX-License-Identifier: mpich2 */
/*
 * How a process becomes an endpoint, of core/region.c and core/endpoint.c. It opens the region, formats it if nobody
 * has, reaps the dead, claims an entry, writes its identity into it, becomes NAMED, allocates memory and becomes LIVE.
 * It may die at any step. Each access to shared memory is one step. Checked:
 *   - nobody takes a region, or a partial format, for foreign data, or finds a wrong word in it;
 *   - all who open it see the same id;
 *   - an entry, and the memory that it names, is written by its owner only; no live process is marked dead;
 *   - whoever reads an entry gets what one owner wrote;
 *   - in the end, the next process to join reclaims everything.
 *
 *   -DFORMATTED      the region has been formatted already
 * Broken variants, each of which must fail:
 *   -DMAGIC_FIRST    the magic is written before the rest
 *   -DMARK_LAST      the mark is written after the words
 *   -DMARK_ONCE      what follows the first page is judged by an earlier value of the mark
 *   -DBLIND_FORMAT   words are stored instead of swapped
 *   -DBLIND_CLAIM    the claim is stored instead of swapped
 *   -DNO_PID         the claim does not say who joins: only a LIVE process can be proved dead
 *   -DENTRY_PID      a joiner is judged by the pid in its entry
 *   -DBLOCKS_FIRST   memory is allocated before the entry names its owner: the pid may be another process' by then
 *   -DLIVE_FIRST     LIVE is stored before the entry is complete
 *   -DONE_CHECK      the entry is read without checking the claim again
 */
#ifndef JOINERS
#define JOINERS 2
#endif
#ifndef ENTRIES
#define ENTRIES 1
#endif

/* The superblock. Memory is 0 at first. One word represents all that are constant. */
#define MAGIC 7
#define MARK 6
#define WORD 5
byte magic, mark, version, region_id;

/* A claim: a word of state, generation and pid. */
#define FREE 0
#define JOINING 1
#define LIVE 2
#define DEAD 3
#define NAMED 4
#define STATE(word) ((word) & 7)
#define GENERATION(word) ((word) >> 3 & 7)
#define PID(word) ((word) >> 6)
#define CLAIM(state, generation, pid) ((state) | (generation) << 3 | (pid) << 6)
#define WITH(state, word) CLAIM(state, GENERATION(word), PID(word))
short claim[ENTRIES];

/* The rest of an entry, and the block that it may name, one for each entry: 0, or the word of its owner. */
byte entry_pid[ENTRIES], entry_base[ENTRIES], map[ENTRIES];
#define BLOCK(entry, generation) (1 + (entry) + ENTRIES * (generation))

/* For the checks only: pids begin at 1. */
bool gone[JOINERS + 2];
byte id_seen;

inline cas(target, was, wanted)
{
    atomic { if :: target == was -> target = wanted; ok = true :: else -> ok = false fi }
}

#ifdef BLIND_FORMAT
#define WRITE(target, wanted) target = wanted
#else
#define WRITE(target, wanted) cas(target, 0, wanted)
#endif

#define MAY_DIE if :: mortal -> goto dead :: true fi

/* ivshm_region_probe: `mine` becomes whether the region is there. Each word is empty, or as ours would be. */
#define CHECK(target, wanted) \
    word = target; \
    if \
    :: word == 0 \
    :: word != 0 -> assert(wanted); word = mark; assert(word == MARK) /* is_marked */ \
    fi

inline probe()
{
    word = magic;
    if
    :: word == MAGIC -> ok = true
    :: else ->
        word = magic; /* the loop over the page begins with it, and accepts it as it is */
        CHECK(mark, word == MARK);
        CHECK(version, word == WORD);
        CHECK(region_id, true);
        word = mark;
        if
        :: word != MARK -> /* is_zero of the tables */
            e = 0;
            found = 0;
            do
            :: e == ENTRIES || found != 0 -> break
            :: e < ENTRIES && found == 0 -> found = claim[e]; e++
            od;
            e = 0;
            do
            :: e == ENTRIES || found != 0 -> break
            :: e < ENTRIES && found == 0 -> found = map[e]; e++
            od;
            if
#ifdef MARK_ONCE
            :: found != 0 -> assert(false)
#else
            :: found != 0 -> word = mark; assert(word == MARK)
#endif
            :: else
            fi
        :: else
        fi;
        ok = false
    fi;
    atomic { word = 0; e = 0; found = 0 }
}

/* write_superblock */
inline format()
{
#ifndef MARK_LAST
    WRITE(mark, MARK);
    MAY_DIE;
#endif
#ifdef MAGIC_FIRST
    WRITE(magic, MAGIC);
    MAY_DIE;
#endif
    WRITE(version, WORD);
    MAY_DIE;
    WRITE(region_id, id); /* at random: a different one for each */
    MAY_DIE;
#ifdef MARK_LAST
    WRITE(mark, MARK);
    MAY_DIE;
#endif
    WRITE(magic, MAGIC)
}

/* load() */
inline load()
{
    word = mark;
    assert(word == MARK);
    word = version;
    assert(word == WORD);
    atomic {
        word = region_id;
        assert(word != 0 && (id_seen == 0 || id_seen == word));
        id_seen = word;
        word = 0
    }
}

/* ivshm_endpoint_read, as proved_dead needs it: `found` is the pid, or 0 if the entry has changed. */
inline read_entry()
{
    found = entry_pid[e];
    base = entry_base[e];
#ifndef ONE_CHECK
    if :: claim[e] == word -> skip :: claim[e] != word -> found = 0 fi;
#endif
    assert(found == 0 || (found == PID(word) && (STATE(word) == NAMED || base == BLOCK(e, GENERATION(word)))));
    base = 0
}

inline is_proved_dead()
{
    found = 0;
    if
    :: STATE(word) == JOINING ->
#ifdef ENTRY_PID
        found = entry_pid[e]
#else
#ifndef NO_PID
        found = PID(word)
#else
        skip
#endif
#endif
    :: STATE(word) == LIVE || STATE(word) == NAMED -> read_entry()
    :: else
    fi
}

/* ivshm_endpoint_reap: marks the dead, and reclaims what they held. */
inline reap()
{
    e = 0;
    do
    :: e == ENTRIES -> break
    :: e < ENTRIES ->
        word = claim[e];
        is_proved_dead();
        if
        :: found != 0 && gone[found] ->
            atomic {
                cas(claim[e], word, WITH(DEAD, word));
                assert(!ok || gone[PID(word)]);
                /* Only the claim tells of it: a pid that may be in use again. */
                assert(!ok || STATE(word) != JOINING || map[e] != BLOCK(e, GENERATION(word)))
            }
        :: else
        fi;
        found = 0;
        e++
    od;
    e = 0;
    do
    :: e == ENTRIES -> break
    :: e < ENTRIES ->
        word = claim[e];
        if
        :: STATE(word) == DEAD ->
            MAY_DIE;
            if /* ivshm_extent_reclaim */
            :: map[e] == BLOCK(e, GENERATION(word)) ->
                cas(map[e], BLOCK(e, GENERATION(word)), 0)
            :: else
            fi;
            MAY_DIE;
            cas(claim[e], word, CLAIM(FREE, GENERATION(word), 0))
        :: else
        fi;
        e++
    od;
    atomic { e = 0; word = 0 }
}

proctype joiner(byte id; bool mortal)
{
    byte found, e, base;
    short word, mine;
    bool ok;

#ifndef FORMATTED
    probe(); /* ivshm_region_open */
    MAY_DIE;
    if :: !ok -> format() :: else fi;
    load();
#endif
    reap();
    MAY_DIE;
    do /* claim_entry */
    :: e == ENTRIES -> goto dead
    :: e < ENTRIES ->
        word = claim[e];
        if
        :: STATE(word) == FREE ->
            mine = CLAIM(JOINING, GENERATION(word) + 1, id);
#ifdef BLIND_CLAIM
            claim[e] = mine;
            ok = true;
#else
            cas(claim[e], word, mine);
#endif
            if :: ok -> break :: else fi
        :: else
        fi;
        e++
    od;
    word = 0;
    MAY_DIE;
#ifdef BLOCKS_FIRST
    cas(map[e], 0, BLOCK(e, GENERATION(mine)));
    MAY_DIE;
#endif
#ifdef LIVE_FIRST
    cas(claim[e], mine, WITH(LIVE, mine));
    mine = WITH(LIVE, mine);
    MAY_DIE;
#endif
    assert(claim[e] == mine);
    entry_pid[e] = id;
    MAY_DIE;
#ifndef LIVE_FIRST
    cas(claim[e], mine, WITH(NAMED, mine));
    assert(ok);
    mine = WITH(NAMED, mine);
    MAY_DIE;
#endif
#ifndef BLOCKS_FIRST
    cas(map[e], 0, BLOCK(e, GENERATION(mine))); /* ivshm_extent_alloc */
    assert(ok);
    MAY_DIE;
#endif
    /* Zeroes the memory. */
    assert(map[e] == BLOCK(e, GENERATION(mine)) && claim[e] == mine);
    entry_base[e] = BLOCK(e, GENERATION(mine));
    MAY_DIE;
#ifndef LIVE_FIRST
    cas(claim[e], mine, WITH(LIVE, mine)); /* ivshm_endpoint_publish */
    assert(ok);
    mine = WITH(LIVE, mine);
    MAY_DIE;
#endif
    assert(map[e] == BLOCK(e, GENERATION(mine)));
    /* ivshm_endpoint_leave, which others watch as well */
    cas(claim[e], mine, WITH(DEAD, mine));
    assert(ok);
    reap();
dead:
    atomic { gone[id] = true; word = 0; found = 0; e = 0; mine = 0; ok = false }
}

/* When no step is possible any more: the next process joins, and does not die. */
init {
    byte i;
    atomic {
#ifdef FORMATTED
        magic = MAGIC; mark = MARK; version = WORD; region_id = 1;
#endif
        for (i : 1 .. JOINERS) { run joiner(i, true) }
    }
    timeout;
    run joiner(JOINERS + 1, false);
    timeout;
    for (i : 0 .. ENTRIES - 1) { assert(STATE(claim[i]) == FREE && map[i] == 0) }
    assert(magic == MAGIC)
}
