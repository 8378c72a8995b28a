/* SPDX-License-Identifier: mpich2 */
/*
 * The inbox: a bounded queue of 8-byte references, many producers, one consumer, lock-free on both
 * sides. After Vyukov's bounded queue, with one change: a producer publishes by a single CAS of the
 * slot, and the tail is only a hint, so that a producer that dies or stops at any instruction has
 * either published or not, and is in nobody's way. Order is kept per producer.
 */
#ifndef IVSHM_QUEUE_H
#define IVSHM_QUEUE_H

#include "layout.h"

struct ivshm_ref {
    uint16_t endpoint; /* of the sender */
    uint16_t cell;     /* and its sender's generation: see channel.c */
};

struct ivshm_queue_consumer {
    struct ivshm_inbox_shm *shm;
    uint64_t slots;
    uint64_t head;      /* next position to read */
    uint64_t published; /* the head that producers know */
};

struct ivshm_queue_producer {
    struct ivshm_inbox_shm *shm;
    uint64_t slots;
    uint64_t next; /* own last position + 1: an own message never goes before it */
    uint64_t head; /* the consumer's, as last seen */
};

/* Makes an empty queue of `slots`, a power of two, whose first position is `start` (0 in zeroed
 * memory needs no reset; tests begin near the wrap). */
void ivshm_queue_reset(struct ivshm_inbox_shm *shm, uint64_t slots, uint64_t start);

void ivshm_queue_consumer_init(struct ivshm_queue_consumer *c, struct ivshm_inbox_shm *shm,
                               uint64_t slots);
void ivshm_queue_producer_init(struct ivshm_queue_producer *p, struct ivshm_inbox_shm *shm,
                               uint64_t slots);

/*
 * Publishes `ref`, and with it all that the caller wrote before. 0, or -EAGAIN if the queue is full
 * or no place was found within `slots` steps: bounded, whatever others write into the queue.
 */
int ivshm_queue_push_mpsc(struct ivshm_queue_producer *p, struct ivshm_ref ref);

/* Whether nothing has been published that was not taken. */
static inline bool ivshm_queue_is_empty_mpsc(const struct ivshm_queue_consumer *c);

/* Takes the next reference; false if there is none. */
bool ivshm_queue_pop_mpsc(struct ivshm_queue_consumer *c, struct ivshm_ref *ref);

static inline ivshm_a64 *ivshm_queue_slot(struct ivshm_inbox_shm *shm, uint64_t position,
                                          uint64_t slots)
{
    return &shm->slot[position & (slots - 1)];
}

/* A shift: a division costs as much as all the rest of a look. */
static inline uint32_t ivshm_queue_lap(uint64_t position, uint64_t slots)
{
    return (uint32_t) (position >> __builtin_ctzll(slots)) + 1;
}

/* How many laps the slot's contents are ahead of `position`: -1 is empty, 0 is taken. Wraps. */
static inline int32_t ivshm_queue_laps_ahead(uint64_t word, uint64_t position, uint64_t slots)
{
    return (int32_t) ((uint32_t) (word >> 32) - ivshm_queue_lap(position, slots));
}

static inline bool ivshm_queue_is_empty_mpsc(const struct ivshm_queue_consumer *c)
{
    /* Relaxed: nothing is read. */
    uint64_t word = ivshm_a64_load_relaxed(ivshm_queue_slot(c->shm, c->head, c->slots));
    return ivshm_queue_laps_ahead(word, c->head, c->slots) != 0;
}

#endif
