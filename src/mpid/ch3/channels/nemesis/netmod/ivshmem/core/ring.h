/* SPDX-License-Identifier: mpich2 */
/*
 * A ring: the direct path from one sender to one receiver, in memory of the sender. A record is a
 * slot: a word that describes it, stored last, and up to slot_size - 8 bytes. So a small message is
 * one cache line, written by one side and read by the other. A larger payload lies in the ring's
 * next buffer, so the receiver knows where before it reads the slot; or in a cell, which the slot
 * names.
 *
 * Slots and buffers lie apart on purpose: a processor that reads consecutive lines also prefetches
 * the lines behind them, and these must not be lines that the other side is about to write.
 *
 * Source: L. Lamport's queue for one producer and one consumer. As in FastForward (Giacomoni,
 * Moseley, Vachharajani, 2008), the slot itself tells the consumer that it is full, so there is no
 * shared tail. Here a slot's word carries the sequence number of its message, which repeats only
 * after 2^32 messages, so nobody has to clear slots.
 *
 * Neither side ever waits. A handle is used by one thread at a time. Every call costs constant
 * time, except for alloc, free and attach. Edges R1 and R2.
 */
#ifndef IVSHM_RING_H
#define IVSHM_RING_H

#include "choice.h"
#include "extent.h"
#include "tracepoint.h"

#define IVSHM_RING_BUFFERS_MAX 16 /* in any geometry */

/* A slot's word, unpacked. */
struct ivshm_record {
    uint32_t sequence;
    enum ivshm_record_kind kind;
    uint32_t value; /* bytes of payload, or the number of a cell */
    uint32_t note;  /* how the payload was written: see choice.h */
};

struct ivshm_ring_producer {
    struct ivshm_ring_shm *shm;        /* NULL if there is no ring */
    struct ivshm_slot_shm *next, *end; /* next slot; end of the slots */
    uint32_t slots, slot_size;
    uint64_t tail;          /* records sent */
    uint64_t head;          /* records that the consumer has released, as last seen */
    uint64_t doorbell_seen; /* value of `idle` that was last answered by a doorbell */
    ivshm_off off;
    uint32_t buffers, buffer_size;
    uint32_t next_buffer;
    uint64_t last_use[IVSHM_RING_BUFFERS_MAX]; /* `tail` after use; free once `head` is there */
};

struct ivshm_ring_consumer {
    struct ivshm_ring_shm *shm;        /* NULL if there is no ring */
    struct ivshm_slot_shm *next, *end; /* next slot; end of the slots */
    uint32_t slots, slot_size;
    uint64_t head;      /* records consumed */
    uint64_t published; /* the head that the producer can see */
    uint32_t buffers, buffer_size;
    uint32_t next_buffer;
    uint32_t used_buffers; /* used by the records since `published` */
};

/* Bytes of payload that fit into a slot of that size. */
static inline uint32_t ivshm_slot_room(uint32_t slot_size)
{
    return slot_size - (uint32_t) sizeof(struct ivshm_slot_shm);
}

/*
 * Sender: allocates an empty ring, owned by `self`, and ended by ivshm_ring_free. -ENOSPC if the
 * region has no memory. Cost: that of ivshm_extent_alloc, and a store for each slot. The receiver
 * must learn of the ring through a message (Q1).
 */
int ivshm_ring_alloc(struct ivshm_region *region, struct ivshm_owner self,
                     struct ivshm_ring_producer *ring);

/*
 * Frees the ring (block map's edge). The consumer must be dead or have left, or never have known of
 * the ring; else it could still write into it. Cost: that of ivshm_extent_free.
 */
void ivshm_ring_free(struct ivshm_region *region, struct ivshm_owner self,
                     struct ivshm_ring_producer *ring);

/*
 * Receiver: makes the handle of the ring at `off`, to whose owner the caller is attached. -EBADMSG
 * if `sender` has no such ring. Cost: a load for each block of the ring.
 */
int ivshm_ring_attach(struct ivshm_region *region, struct ivshm_owner sender, ivshm_off off,
                      struct ivshm_ring_consumer *ring, struct ivshm_diag *diag);

/*
 * Producer: the next slot's payload, slot_size - 8 bytes, or NULL if all slots are in use (acquire
 * R2). Changes nothing that the consumer sees, so a reservation may also just be dropped.
 */
static inline unsigned char *ivshm_ring_reserve_spsc(struct ivshm_ring_producer *ring);

/*
 * Producer, after a reservation: the next buffer, buffer_size bytes, to use in place of the slot's
 * payload; NULL if it is in use (acquire R2), or the ring has none.
 */
unsigned char *ivshm_ring_buffer_spsc(struct ivshm_ring_producer *ring);

/*
 * Producer: sends the reserved record, and with it all that the caller wrote before (release R1).
 */
static inline void ivshm_ring_publish_spsc(struct ivshm_ring_producer *ring,
                                           struct ivshm_record record);

/*
 * Producer, after publishing: whether the consumer needs a doorbell at its inbox, because the ring
 * is idle. True once each time that the ring becomes idle. Relaxed: may miss that the ring has just
 * become idle, as a doorbell only saves time.
 */
static inline bool ivshm_ring_wants_doorbell(struct ivshm_ring_producer *ring);

/*
 * Consumer: the next record, if it has that sequence number (acquire R1). False if it is not there;
 * *record is undefined then. The record must be checked: the sender can write anything.
 */
static inline bool ivshm_ring_peek_spsc(const struct ivshm_ring_consumer *ring, uint32_t sequence,
                                        struct ivshm_record *record);

/*
 * Consumer: the payload of the peeked record, of kind INLINE or BUFFER, whose length the caller has
 * checked. Once for each record. Valid until it is consumed; the sender can change it meanwhile.
 * Ordered by the peek.
 */
const unsigned char *ivshm_ring_payload(struct ivshm_ring_consumer *ring,
                                        struct ivshm_record record);

/*
 * Consumer: ends the use of the peeked record. The sender learns of it after every quarter of the
 * slots or half of the buffers (release R2).
 */
void ivshm_ring_consume_spsc(struct ivshm_ring_consumer *ring);

/* Consumer: answers a sample, which took so many ticks. Relaxed: a hint. */
void ivshm_ring_answer(struct ivshm_ring_consumer *ring, uint64_t ticks);

/* Producer: the last answer, for ivshm_choice_plan; any number. Relaxed. */
static inline uint64_t ivshm_ring_last_answer(const struct ivshm_ring_producer *ring)
{
    return ring->shm ? ivshm_a64_load_relaxed(&ring->shm->answer) : 0; /* a hint */
}

/*
 * Consumer: whether it checks this ring only in turn (idle) or in every receive (polled). Relaxed:
 * a hint for doorbells.
 */
void ivshm_ring_set_idle(struct ivshm_ring_consumer *ring, bool idle);

/* Handles of the ring at `shm`, which has the geometry's slots and buffers, at its first slot. */
void ivshm_ring_producer_init(struct ivshm_ring_producer *ring, struct ivshm_ring_shm *shm,
                              const struct ivshm_geometry *geo);
void ivshm_ring_consumer_init(struct ivshm_ring_consumer *ring, struct ivshm_ring_shm *shm,
                              const struct ivshm_geometry *geo);

/* A slot by its number. The buffers begin where the slot after the last one would. */
static inline struct ivshm_slot_shm *ivshm_ring_slot(struct ivshm_ring_shm *shm, uint32_t number,
                                                     uint32_t slot_size)
{
    return (struct ivshm_slot_shm *) ((char *) (shm + 1) + (uint64_t) number * slot_size);
}

/* Slots are visited by address, which saves a multiplication for each. */
static inline struct ivshm_slot_shm *ivshm_ring_slot_after(struct ivshm_ring_shm *shm,
                                                           struct ivshm_slot_shm *slot,
                                                           uint32_t slot_size,
                                                           const struct ivshm_slot_shm *end)
{
    struct ivshm_slot_shm *after = (struct ivshm_slot_shm *) ((char *) slot + slot_size);
    return after == end ? (struct ivshm_slot_shm *) (shm + 1) : after;
}

static inline unsigned char *ivshm_ring_buffer(struct ivshm_slot_shm *end, uint32_t number,
                                               uint32_t buffer_size)
{
    return (unsigned char *) end + (uint64_t) number * buffer_size;
}

static inline uint32_t ivshm_ring_buffer_after(uint32_t number, uint32_t buffers)
{
    return number + 1 == buffers ? 0 : number + 1;
}

static inline unsigned char *ivshm_ring_reserve_spsc(struct ivshm_ring_producer *ring)
{
    if (ring->tail - ring->head >= ring->slots) {
        ring->head = ivshm_a64_load_acquire(&ring->shm->head); /* R2: these have been read */
        /* Also true if a broken consumer has stored more than was sent. */
        if (ring->tail - ring->head >= ring->slots)
            return NULL;
    }
    return ring->next->payload;
}

static inline unsigned char *ivshm_ring_next_buffer(const struct ivshm_ring_producer *ring)
{
    return ivshm_ring_buffer(ring->end, ring->next_buffer, ring->buffer_size);
}

/*
 * The next record will probably be like this one: prefetches the lines that it will be written to,
 * so the stores need not wait. Its first line is left to the consumer, which polls it until the
 * record comes.
 */
static inline void ivshm_ring_prepare(struct ivshm_ring_producer *ring, struct ivshm_record record)
{
    const uint32_t here = IVSHM_LINE - (uint32_t) sizeof(struct ivshm_slot_shm);
    if (record.kind == IVSHM_RECORD_BUFFER && (record.note & IVSHM_NOTE_WAY) == IVSHM_COPY_AHEAD)
        ivshm_lines_prefetch_write(ivshm_ring_next_buffer(ring), record.value);
    else if (record.kind == IVSHM_RECORD_INLINE && record.value > here)
        ivshm_lines_prefetch_write(ring->next->payload + here, record.value - here);
}

/* Each field in a register: a structure would be passed on the stack. */
static inline void ivshm_ring_publish_fields(struct ivshm_ring_producer *ring, uint32_t sequence,
                                             enum ivshm_record_kind kind, uint32_t value,
                                             uint32_t note)
{
    const struct ivshm_record record = {sequence, kind, value, note};
    uint64_t word = (uint64_t) sequence | (uint64_t) value << 32 | (uint64_t) kind << 48 |
                    (uint64_t) note << 56;
    IVSHM_TRACEPOINT(ring_publish);
    ivshm_a64_store_release(&ring->next->word, word); /* R1 */
    IVSHM_TRACEPOINT(ring_published);
    ring->next = ivshm_ring_slot_after(ring->shm, ring->next, ring->slot_size, ring->end);
    ring->tail++;
    if (record.kind == IVSHM_RECORD_BUFFER) {
        ring->last_use[ring->next_buffer] = ring->tail;
        ring->next_buffer = ivshm_ring_buffer_after(ring->next_buffer, ring->buffers);
    }
    ivshm_ring_prepare(ring, record);
}

static inline __attribute__((always_inline)) void
ivshm_ring_publish_spsc(struct ivshm_ring_producer *ring, struct ivshm_record record)
{
    ivshm_ring_publish_fields(ring, record.sequence, record.kind, record.value, record.note);
}

static inline bool ivshm_ring_wants_doorbell(struct ivshm_ring_producer *ring)
{
    uint64_t idle = ivshm_a64_load_relaxed(&ring->shm->idle); /* a hint */
    if (idle % 2 == 0 || idle == ring->doorbell_seen)
        return false;
    ring->doorbell_seen = idle;
    return true;
}

static inline bool ivshm_ring_peek_spsc(const struct ivshm_ring_consumer *ring, uint32_t sequence,
                                        struct ivshm_record *record)
{
    /* Acquire R1: the payload, and the cell that the record names. */
    uint64_t word = ivshm_a64_load_acquire(&ring->next->word);
    *record = (struct ivshm_record){(uint32_t) word, (enum ivshm_record_kind)(word >> 48 & 0xff),
                                    (uint32_t) (word >> 32 & 0xffff), (uint32_t) (word >> 56)};
    return record->sequence == sequence && record->kind != IVSHM_RECORD_NONE;
}

#endif
