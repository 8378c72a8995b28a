/* SPDX-License-Identifier: mpich2 */
/*
 * Rounds of collective operations, in memory that a few processes share. All members take part in
 * the same rounds, in the same order, of two kinds. In an exchange each provides something, and
 * finds what the others provide once all have arrived. In a broadcast one member provides, and goes
 * on at once; the others find it once it is there.
 *
 * Each member has one word that it alone writes, and the others read: how far it is. So there is no
 * read-modify-write, and no place that a member could leave half done when it dies: the others wait
 * for its word, and can ask whether it lives.
 *
 * What is provided lies in one of two slots of the member, in turn: nobody is in the exchange
 * before last any more when a slot is written again, as all have arrived in the last one.
 * Broadcasts lie one behind the other in a ring of segments; a root waits until all have taken what
 * was in a segment before.
 *
 * Nothing here waits. One thread at a time in each process; constant costs where nothing else is
 * said. Edges G1 and G2. Peers may write anything: what a member reads there is as untrusted as a
 * message, but always inside of the memory.
 */
#ifndef IVSHM_ROUNDS_H
#define IVSHM_ROUNDS_H

#include "atomic.h"
#include "tracepoint.h"

#define IVSHM_ROUNDS_MEMBERS 64 /* at most */
#define IVSHM_ROUNDS_SMALL 16   /* bytes that need no slot */
#define IVSHM_ROUNDS_SEGMENTS 8
#define IVSHM_ROUNDS_CHUNK (16 << 10) /* bytes of a broadcast, at most */
#define IVSHM_ROUNDS_SEGMENT (IVSHM_ROUNDS_CHUNK + IVSHM_LINE)

/* A line for each member, which it alone writes. All-zero is the valid first state. */
struct ivshm_rounds_member_shm {
    /* 2 * round + 1: has provided in that round; + 2: has also taken what others provided. */
    ivshm_a64 at;
    struct {
        ivshm_a64 what; /* the operation, of whatever meaning; relaxed, ordered by G1 */
        unsigned char small[IVSHM_ROUNDS_SMALL];
    } part[2];
    unsigned char unused[IVSHM_LINE - 56];
};
_Static_assert(sizeof(struct ivshm_rounds_member_shm) == IVSHM_LINE, "a line each");

struct ivshm_rounds_shm {
    ivshm_a64 sleepers; /* a hint: some member sleeps, or is about to */
    unsigned char unused[IVSHM_LINE - 8];
    struct ivshm_rounds_member_shm members[];
    /* Behind it: two slots for each member, and the ring. */
};

/* A member's side. The fields are core's; `count`, `slot_bytes` and `end` may be read. */
struct ivshm_rounds {
    struct ivshm_rounds_shm *shm;
    unsigned char *slots, *ring;
    uint32_t count, self;
    uint32_t slot_bytes;
    uint64_t round;
    uint32_t part; /* which slot is next, and which `what` */
    uint32_t ring_offset;
    uint64_t reusable[IVSHM_ROUNDS_SEGMENTS]; /* once all are so far */
    /* What is waited for: that members `next` and following, up to `end`, are so far. */
    uint32_t next, end;
    uint64_t wanted;
};

/* Bytes that the rounds of `count` members take. */
size_t ivshm_rounds_bytes(uint32_t count, uint32_t slot_bytes);

/*
 * The side of member `self`. The memory begins at a line, is zero when the first member begins, and
 * stays until all have left. `slot_bytes` is a multiple of a line, and the same for all.
 */
void ivshm_rounds_init(struct ivshm_rounds *r, void *memory, uint32_t count, uint32_t self,
                       uint32_t slot_bytes);

/* Leaves the rounds for ever: the memory is not accessed any more (release G2). */
void ivshm_rounds_leave(struct ivshm_rounds *r);

/* Whether a member has left (acquire G2). */
bool ivshm_rounds_has_left(const struct ivshm_rounds *r, uint32_t member);

/*
 * Whether what was last begun is over: all have arrived, the root has published, or there is room
 * (acquire G1 or G2). If not, ivshm_rounds_missing is a member that is waited for. Cost: a load for
 * each member, all calls together, and one for each call.
 */
static inline bool ivshm_rounds_is_over(struct ivshm_rounds *r)
{
    for (; r->next < r->end; r->next++)
        if (ivshm_a64_load_acquire(&r->shm->members[r->next].at) < r->wanted)
            return false;
    return true;
}

static inline uint32_t ivshm_rounds_missing(const struct ivshm_rounds *r)
{
    return r->next;
}

/* Exchange: a slot of `bytes`, to be filled by its member, and to be read when all have arrived. */
static inline unsigned char *ivshm_rounds_slot(const struct ivshm_rounds *r, uint32_t member,
                                               uint32_t bytes)
{
    return bytes <= IVSHM_ROUNDS_SMALL ? r->shm->members[member].part[r->part].small
                                       : r->slots + (size_t) (2 * member + r->part) * r->slot_bytes;
}

/* Provides what is in the slot (release G1); is_over tells whether all have. */
static inline void ivshm_rounds_arrive(struct ivshm_rounds *r, uint64_t what)
{
    struct ivshm_rounds_member_shm *self = &r->shm->members[r->self];

    ivshm_a64_store_relaxed(&self->part[r->part].what, what);
    IVSHM_TRACEPOINT(rounds_arrive);
    ivshm_a64_store_release(&self->at, 2 * r->round + 1);
    r->next = 0;
    r->end = r->count;
    r->wanted = 2 * r->round + 1;
}

static inline uint64_t ivshm_rounds_what(const struct ivshm_rounds *r, uint32_t member)
{
    return ivshm_a64_load_relaxed(&r->shm->members[member].part[r->part].what);
}

/* Ends an exchange. The slots of others are not read any more. */
static inline void ivshm_rounds_pass(struct ivshm_rounds *r)
{
    r->round++;
    r->part ^= 1;
}

/*
 * A second exchange in one, of what all have written into their slots since: again arrive, with the
 * same slots, and is_over. Before, each may read all slots, and write to the part of its own slot
 * that is its part of all others.
 */
static inline void ivshm_rounds_again(struct ivshm_rounds *r)
{
    r->round++;
}

/* Broadcast of at most IVSHM_ROUNDS_CHUNK bytes. Root: begins; is_over tells whether there is room.
 */
void ivshm_rounds_reserve(struct ivshm_rounds *r, uint32_t bytes);

/* The others: begin; is_over tells whether the root has published. */
static inline void ivshm_rounds_expect(struct ivshm_rounds *r, uint32_t root)
{
    r->next = root;
    r->end = root + 1;
    r->wanted = 2 * r->round + 1;
}

/* Where those bytes are. */
unsigned char *ivshm_rounds_chunk(const struct ivshm_rounds *r, uint32_t bytes);

/* Where the next broadcast says what it is. */
ivshm_a64 *ivshm_rounds_chunk_what(const struct ivshm_rounds *r, uint32_t bytes);

/* Root: publishes it (release G1). The others: end it (release G2). */
void ivshm_rounds_publish(struct ivshm_rounds *r, uint32_t bytes, uint64_t what);
void ivshm_rounds_take(struct ivshm_rounds *r, uint32_t bytes);

/*
 * The sleep of members, as in sleep.h (W1). A member that has announced its sleep notes it, and
 * looks on. Whoever has arrived last, published or taken asks whether some sleep, and wakes them:
 * of several only one is told so.
 */
void ivshm_rounds_note_sleeper(struct ivshm_rounds *r);
bool ivshm_rounds_take_sleepers(struct ivshm_rounds *r);

#endif
