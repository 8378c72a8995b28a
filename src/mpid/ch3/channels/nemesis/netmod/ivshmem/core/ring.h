/* SPDX-License-Identifier: mpich2 */
/*
 * A ring: the way of a pair that talks, from one sender to one receiver, in memory of the sender. A
 * record is a slot: one word that says what it is, stored last, and up to slot_size - 8 bytes, so
 * that a small message is one cache line, written by one side and read by the other. Larger ones
 * travel in the ring's buffers, which are used in turn, so that the receiver knows where before it
 * looks; or in a cell, and the record names it.
 *
 * Slots and buffers are apart on purpose: a processor that reads lines in a row is given the lines
 * behind them too, which the other one is about to write.
 *
 * A word carries the number of its record, which never comes twice in 2^32, so nobody has to empty
 * a slot. Neither side ever waits. One thread a handle.
 */
#ifndef IVSHM_RING_H
#define IVSHM_RING_H

#include "extent.h"
#include "tracepoint.h"

#define IVSHM_RING_BUFFERS_MAX 16 /* of any geometry */

struct ivshm_record {
    uint32_t sequence;
    enum ivshm_record_kind kind;
    uint32_t value; /* bytes, or the number of a cell */
};

struct ivshm_ring_producer {
    struct ivshm_ring_shm *shm;        /* NULL without a ring */
    struct ivshm_slot_shm *next, *end; /* of the slots */
    uint32_t slots, slot_size;
    uint64_t tail;          /* records sent */
    uint64_t head;          /* records that the consumer has read, as last seen */
    uint64_t doorbell_seen; /* `idle`, when it was last answered by a doorbell */
    ivshm_off off;
    uint32_t buffers, buffer_size;
    uint32_t next_buffer;
    uint64_t last_use[IVSHM_RING_BUFFERS_MAX]; /* `tail` behind it; free once `head` is there */
};

struct ivshm_ring_consumer {
    struct ivshm_ring_shm *shm;        /* NULL without a ring */
    struct ivshm_slot_shm *next, *end; /* of the slots */
    uint32_t slots, slot_size;
    uint64_t head; /* records done with */
    uint64_t published;
    uint32_t buffers, buffer_size;
    uint32_t next_buffer;
    uint32_t used_buffers; /* of the records since `published` */
};

/* Bytes that a slot holds. */
static inline uint32_t ivshm_ring_room(const struct ivshm_region *region)
{
    return region->geo.slot_size - (uint32_t) sizeof(struct ivshm_slot_shm);
}

/* The sender takes memory for a ring. -ENOSPC if the region has none. */
int ivshm_ring_alloc(struct ivshm_region *region, struct ivshm_owner self,
                     struct ivshm_ring_producer *ring);

/* Gives it back. The consumer must be dead, or have left: it could write into it otherwise. */
void ivshm_ring_free(struct ivshm_region *region, struct ivshm_owner self,
                     struct ivshm_ring_producer *ring);

/* The receiver's handle of the ring at `off`. -EBADMSG if that is not a ring of `sender`'s. */
int ivshm_ring_attach(struct ivshm_region *region, struct ivshm_owner sender, ivshm_off off,
                      struct ivshm_ring_consumer *ring, struct ivshm_diag *diag);

/* The next record's payload, slot_size - 8 bytes, or NULL if all slots are in use. */
static inline unsigned char *ivshm_ring_reserve_spsc(struct ivshm_ring_producer *ring);

/* In its stead, once it is reserved: the next buffer, or NULL if that is in use. */
unsigned char *ivshm_ring_buffer_spsc(struct ivshm_ring_producer *ring);

/* Sends the record reserved, and with it all that the caller wrote before. */
static inline void ivshm_ring_publish_spsc(struct ivshm_ring_producer *ring,
                                           struct ivshm_record record);

/*
 * Whether the consumer wants a doorbell at its inbox, because it looks at this ring but seldom.
 * True once each time that it is idle. May come too late to be seen: a doorbell only saves time.
 */
static inline bool ivshm_ring_wants_doorbell(struct ivshm_ring_producer *ring);

/* The next record, if it has that number; false if it is not there. */
static inline bool ivshm_ring_peek_spsc(const struct ivshm_ring_consumer *ring, uint32_t sequence,
                                        struct ivshm_record *record);

/* The payload of the record peeked at, if it is in the ring. Once a record. */
const unsigned char *ivshm_ring_payload(struct ivshm_ring_consumer *ring,
                                        struct ivshm_record record);

/* Done with the record peeked at. */
void ivshm_ring_consume_spsc(struct ivshm_ring_consumer *ring);

/* The consumer will look here seldom, or often again. */
void ivshm_ring_set_idle(struct ivshm_ring_consumer *ring, bool idle);

/* A slot by its number; the buffers begin where the one behind the last would be. */
static inline struct ivshm_slot_shm *ivshm_ring_slot(struct ivshm_ring_shm *shm, uint32_t number,
                                                     uint32_t slot_size)
{
    return (struct ivshm_slot_shm *) ((char *) (shm + 1) + (uint64_t) number * slot_size);
}

/* Slots are gone through by address, without a multiplication for each. */
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
        ring->head = ivshm_a64_load_acquire(&ring->shm->head); /* R2: they have been read */
        /* Also what only a broken consumer can say: it has read more than was sent. */
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
 * The next record will be like this one: takes the lines that it will be written to, so that they
 * need no trip then. Its first line is left to the consumer, who looks there until it comes.
 */
static inline void ivshm_ring_prepare(struct ivshm_ring_producer *ring, struct ivshm_record record)
{
    const uint32_t here = IVSHM_LINE - (uint32_t) sizeof(struct ivshm_slot_shm);
    if (record.kind == IVSHM_RECORD_BUFFER)
        ivshm_lines_prefetch_write(ivshm_ring_next_buffer(ring), record.value);
    else if (record.kind == IVSHM_RECORD_INLINE && record.value > here)
        ivshm_lines_prefetch_write(ring->next->payload + here, record.value - here);
}

/* Each in a register: a structure would go by the stack. */
static inline void ivshm_ring_publish_fields(struct ivshm_ring_producer *ring, uint32_t sequence,
                                             enum ivshm_record_kind kind, uint32_t value)
{
    const struct ivshm_record record = {sequence, kind, value};
    uint64_t word = (uint64_t) sequence | (uint64_t) value << 32 | (uint64_t) kind << 48;
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
    ivshm_ring_publish_fields(ring, record.sequence, record.kind, record.value);
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
    /* Acquire R1: the payload, and what the record names. */
    uint64_t word = ivshm_a64_load_acquire(&ring->next->word);
    *record = (struct ivshm_record){(uint32_t) word, (enum ivshm_record_kind)(word >> 48),
                                    (uint32_t) (word >> 32 & 0xffff)};
    return record->sequence == sequence && record->kind != IVSHM_RECORD_NONE;
}

#endif
