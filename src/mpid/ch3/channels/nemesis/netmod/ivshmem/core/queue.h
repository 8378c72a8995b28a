/* SPDX-License-Identifier: mpich2 */
/*
 * The inbox: a bounded queue of 8-byte references with many producers and one consumer, lock-free
 * on both sides. The algorithm is D. Vyukov's bounded MPMC queue with one change: a producer
 * publishes by a single CAS of the slot, and the tail is only a hint. So a producer that dies or
 * stops at any instruction has either published or not, and blocks nobody. Order is kept per
 * producer.
 *
 * A consumer or producer handle is used by one thread at a time. Both point to the inbox, which
 * outlives them. Costs that are not stated are constant. Edges Q1 and Q2.
 */
#ifndef IVSHM_QUEUE_H
#define IVSHM_QUEUE_H

#include "layout.h"

/*
 * What a slot carries, besides the lap. A sender may leave, and another process may take its entry
 * and its memory, before the receiver sees the message. By the generation the receiver knows that
 * this message is lost, and not the other process'.
 */
struct ivshm_ref {
    uint16_t endpoint; /* index of the sender */
    uint16_t cell;     /* the cell, and the low bits of the sender's generation */
};

struct ivshm_queue_consumer {
    struct ivshm_inbox_shm *shm;
    uint64_t slots;
    uint64_t head;      /* next position to read */
    uint64_t published; /* the head that producers can see */
};

struct ivshm_queue_producer {
    struct ivshm_inbox_shm *shm;
    uint64_t slots;
    uint64_t next; /* own last position + 1; no later message goes before it */
    uint64_t head; /* the consumer's head, as last seen */
};

/* `cell` may be IVSHM_REF_DOORBELL. */
static inline struct ivshm_ref ivshm_ref_make(uint32_t endpoint, uint32_t generation, uint32_t cell)
{
    return (struct ivshm_ref){.endpoint = (uint16_t) endpoint,
                              .cell = (uint16_t) (cell | (generation & 255) << 8)};
}

/* The number of the cell, or IVSHM_REF_DOORBELL. */
static inline uint32_t ivshm_ref_cell(struct ivshm_ref ref)
{
    return ref.cell & 255;
}

/* Whether the sender was of that generation, as far as the low bits tell. */
static inline bool ivshm_ref_is_of(struct ivshm_ref ref, uint32_t generation)
{
    return ref.cell >> 8 == (generation & 255);
}

/*
 * Handles for a queue of `slots`, a power of two, in memory that is in use, or zeroed: that is an
 * empty queue. The consumer's must be the only one. The producer's acquires Q2.
 */
void ivshm_queue_consumer_init(struct ivshm_queue_consumer *c, struct ivshm_inbox_shm *shm,
                               uint64_t slots);
void ivshm_queue_producer_init(struct ivshm_queue_producer *p, struct ivshm_inbox_shm *shm,
                               uint64_t slots);

/*
 * Publishes `ref`, and with it all that the caller wrote before (release Q1). Returns 0, or -EAGAIN
 * if the queue is full (acquire Q2) or no free slot was found within `slots` steps. Usually one
 * step; never more than `slots`, whatever others write into the queue.
 */
int ivshm_queue_push_mpsc(struct ivshm_queue_producer *p, struct ivshm_ref ref);

/* Whether no reference is there to pop. A relaxed load: nothing may be read on its account. */
static inline bool ivshm_queue_is_empty_mpsc(const struct ivshm_queue_consumer *c);

/*
 * Takes the next reference (acquire Q1); false if there is none. What it names must be checked: any
 * process can write a slot. Publishes the position after each quarter of the slots (release Q2).
 */
bool ivshm_queue_pop_mpsc(struct ivshm_queue_consumer *c, struct ivshm_ref *ref);

/* The slot in which a position lies. */
static inline ivshm_a64 *ivshm_queue_slot(struct ivshm_inbox_shm *shm, uint64_t position,
                                          uint64_t slots)
{
    return &shm->slot[position & (slots - 1)];
}

/* A shift, as a division would cost as much as all the rest of a poll. */
static inline uint32_t ivshm_queue_lap(uint64_t position, uint64_t slots)
{
    return (uint32_t) (position >> __builtin_ctzll(slots)) + 1;
}

/* How many laps the slot's contents are ahead of `position`: -1 is empty, 0 is filled. Wraps. */
static inline int32_t ivshm_queue_laps_ahead(uint64_t word, uint64_t position, uint64_t slots)
{
    return (int32_t) ((uint32_t) (word >> 32) - ivshm_queue_lap(position, slots));
}

static inline bool ivshm_queue_is_empty_mpsc(const struct ivshm_queue_consumer *c)
{
    /* Relaxed: nothing is read through it. */
    uint64_t word = ivshm_a64_load_relaxed(ivshm_queue_slot(c->shm, c->head, c->slots));
    return ivshm_queue_laps_ahead(word, c->head, c->slots) != 0;
}

#endif
