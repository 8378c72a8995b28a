/* SPDX-License-Identifier: mpich2 */
/*
 * How a process comes to be an endpoint, of core/region.c and core/endpoint.c: it opens the region, formats it if
 * nobody has, takes back what the dead hold, claims an entry, writes into it who it is, becomes NAMED, takes memory and
 * becomes LIVE. It may die at any step. Each access to shared memory is one step. Checked:
 *   - nobody takes a region, or half a format, for somebody else's data, nor finds a wrong word in it;
 *   - all who open it see the same id;
 *   - an entry, and the memory that it names, is written by its owner alone; who is alive is never marked dead;
 *   - who reads an entry gets what one owner wrote;
 *   - in the end, whoever comes next takes everything back.
 *
 *   -DFORMATTED      the region is there already
 * Broken on purpose, and expected to fail:
 *   -DMAGIC_FIRST    the magic is written before the rest
 *   -DMARK_LAST      the mark is written behind the words
 *   -DMARK_ONCE      what follows the first page is judged by the mark as it was before
 *   -DBLIND_FORMAT   words are stored, and not by compare-and-swap
 *   -DBLIND_CLAIM    the claim is stored, and not by compare-and-swap
 *   -DNO_PID         the claim does not say who joins: only a LIVE one can be proved dead
 *   -DENTRY_PID      a joiner is judged by the pid in its entry
 *   -DBLOCKS_FIRST   memory is taken before the entry says whose it is: its pid may be another's by then
 *   -DLIVE_FIRST     LIVE is stored before the entry is complete
 *   -DONE_LOOK       the entry is read without a second look at the claim
 */
#ifndef JOINERS
#define JOINERS 2
#endif
#ifndef ENTRIES
#define ENTRIES 1
#endif

/* The superblock: 0 is what memory is at first. One word stands for all that are constant. */
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

/* For the checks alone: pids begin at 1. */
bool gone[JOINERS + 2];
byte id_seen;

inline cas(place, was, wanted)
{
    atomic { if :: place == was -> place = wanted; ok = true :: else -> ok = false fi }
}

#ifdef BLIND_FORMAT
#define WRITE(place, wanted) place = wanted
#else
#define WRITE(place, wanted) cas(place, 0, wanted)
#endif

#define MAY_DIE if :: mortal -> goto dead :: true fi

/* ivshm_region_probe: `mine` becomes whether the region is there. Each word is empty, or as ours would be. */
#define LOOK(place, wanted) \
    word = place; \
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
        word = magic; /* the loop over the page begins with it, and takes it as it is */
        LOOK(mark, word == MARK);
        LOOK(version, word == WORD);
        LOOK(region_id, true);
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
    WRITE(region_id, id); /* at random: another one for each */
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

/* ivshm_endpoint_read, as proved_dead needs it: `found` is the pid, 0 if the entry has changed. */
inline read_entry()
{
    found = entry_pid[e];
    base = entry_base[e];
#ifndef ONE_LOOK
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

/* ivshm_endpoint_reap: marks who is dead, and takes back what they had. */
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
                /* Of whom the claim alone tells: a pid that may be in use again. */
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
    /* ivshm_endpoint_leave, which is watched by others as well */
    cas(claim[e], mine, WITH(DEAD, mine));
    assert(ok);
    reap();
dead:
    atomic { gone[id] = true; word = 0; found = 0; e = 0; mine = 0; ok = false }
}

/* When nothing moves any more: whoever comes next, and does not die. */
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
