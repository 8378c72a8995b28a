/* SPDX-License-Identifier: mpich2 */
#include "ring.h"

#include <errno.h>

void ivshm_ring_producer_init(struct ivshm_ring_producer *ring, struct ivshm_ring_shm *shm,
                              const struct ivshm_geometry *geo)
{
    *ring = (struct ivshm_ring_producer){
        .shm = shm,
        .next = ivshm_ring_slot(shm, 0, geo->slot_size),
        .end = ivshm_ring_slot(shm, geo->ring_slots, geo->slot_size),
        .slots = geo->ring_slots,
        .slot_size = geo->slot_size,
        .buffers = geo->ring_buffers,
        .buffer_size = geo->buffer_size,
    };
}

void ivshm_ring_consumer_init(struct ivshm_ring_consumer *ring, struct ivshm_ring_shm *shm,
                              const struct ivshm_geometry *geo)
{
    *ring = (struct ivshm_ring_consumer){
        .shm = shm,
        .next = ivshm_ring_slot(shm, 0, geo->slot_size),
        .end = ivshm_ring_slot(shm, geo->ring_slots, geo->slot_size),
        .slots = geo->ring_slots,
        .slot_size = geo->slot_size,
        .buffers = geo->ring_buffers,
        .buffer_size = geo->buffer_size,
    };
}

int ivshm_ring_alloc(struct ivshm_region *region, struct ivshm_owner self,
                     struct ivshm_ring_producer *ring)
{
    const struct ivshm_geometry *geo = &region->geo;
    ivshm_off off;
    int err = ivshm_extent_alloc(region, self, IVSHM_KIND_RING, geo->ring_bytes, &off);
    if (err)
        return err;
    ivshm_ring_producer_init(ring, ivshm_region_resolve(region, off, geo->ring_bytes), geo);
    ring->off = off;
    /* Relaxed: the receiver learns of the ring by a message, which releases them (Q1). */
    ivshm_a64_store_relaxed(&ring->shm->head, 0);
    ivshm_a64_store_relaxed(&ring->shm->idle, 0);
    ivshm_a64_store_relaxed(&ring->shm->answer, 0);
    for (uint32_t i = 0; i < ring->slots; i++)
        ivshm_a64_store_relaxed(&ivshm_ring_slot(ring->shm, i, ring->slot_size)->word, 0);
    return 0;
}

void ivshm_ring_free(struct ivshm_region *region, struct ivshm_owner self,
                     struct ivshm_ring_producer *ring)
{
    ivshm_extent_free(region, self, ring->off, region->geo.ring_bytes);
    ring->shm = NULL;
}

int ivshm_ring_attach(struct ivshm_region *region, struct ivshm_owner sender, ivshm_off off,
                      struct ivshm_ring_consumer *ring, struct ivshm_diag *diag)
{
    const struct ivshm_geometry *geo = &region->geo;
    struct ivshm_ring_shm *shm = ivshm_region_resolve(region, off, geo->ring_bytes);
    if (!shm || !ivshm_extent_owned(region, sender, IVSHM_KIND_RING, off, geo->ring_bytes))
        return ivshm_diag_fail(diag, EBADMSG,
                               "endpoint %u announced a ring at offset %llu, but has no such ring",
                               sender.endpoint, (unsigned long long) off.bytes);
    ivshm_ring_consumer_init(ring, shm, geo);
    return 0;
}

unsigned char *ivshm_ring_buffer_spsc(struct ivshm_ring_producer *ring)
{
    if (ring->buffers == 0)
        return NULL;
    if (ring->head < ring->last_use[ring->next_buffer]) {
        uint64_t head = ivshm_a64_load_acquire(&ring->shm->head); /* acquire R2: it has been read */
        if (head > ring->tail || head < ring->last_use[ring->next_buffer])
            return NULL;
        ring->head = head;
    }
    return ivshm_ring_next_buffer(ring);
}

/* Where the payload of the next buffer lies. Prefetches it, if the way by which it came says so. */
static const unsigned char *fetch_buffer(const struct ivshm_ring_consumer *ring, uint32_t note,
                                         uint32_t len)
{
    const unsigned char *payload =
        ivshm_ring_buffer(ring->end, ring->next_buffer, ring->buffer_size);

    if ((note & IVSHM_NOTE_WAY) == IVSHM_COPY_AHEAD)
        ivshm_lines_prefetch(payload, len);
    return payload;
}

const unsigned char *ivshm_ring_payload(struct ivshm_ring_consumer *ring,
                                        struct ivshm_record record)
{
    const uint32_t here = IVSHM_LINE - (uint32_t) sizeof(struct ivshm_slot_shm);
    const unsigned char *payload = ring->next->payload;

    if (record.kind != IVSHM_RECORD_BUFFER) {
        if (record.value > here)
            ivshm_lines_prefetch(payload + here, record.value - here);
        return payload;
    }
    payload = fetch_buffer(ring, record.note, record.value);
    ring->next_buffer = ivshm_ring_buffer_after(ring->next_buffer, ring->buffers);
    ring->used_buffers++;
    IVSHM_TRACEPOINT(ring_buffer_used);
    /* A next buffer that is full arrives while the caller uses this one. Relaxed: a hint. */
    const struct ivshm_slot_shm *next =
        ivshm_ring_slot_after(ring->shm, ring->next, ring->slot_size, ring->end);
    uint64_t word = ivshm_a64_load_relaxed(&next->word);
    if ((uint32_t) word == record.sequence + 1 && (word >> 48 & 0xff) == IVSHM_RECORD_BUFFER)
        fetch_buffer(ring, (uint32_t) (word >> 56), (uint32_t) (word >> 32 & 0xffff));
    return payload;
}

void ivshm_ring_consume_spsc(struct ivshm_ring_consumer *ring)
{
    ring->next = ivshm_ring_slot_after(ring->shm, ring->next, ring->slot_size, ring->end);
    ring->head++;
    /* Rarely, so that the line stays in the producer's cache; often enough not to stop it. */
    if (ring->head - ring->published >= ring->slots / 4 || 2 * ring->used_buffers > ring->buffers) {
        IVSHM_TRACEPOINT(ring_head);
        ivshm_a64_store_release(&ring->shm->head, ring->head); /* release R2 */
        ring->published = ring->head;
        ring->used_buffers = 0;
    }
}

void ivshm_ring_answer(struct ivshm_ring_consumer *ring, uint64_t ticks)
{
    /* Relaxed: nobody else stores it, and it is a hint. */
    uint64_t before = ivshm_a64_load_relaxed(&ring->shm->answer);
    ivshm_a64_store_relaxed(&ring->shm->answer, ivshm_choice_answer(before, ticks));
}

/* A count, odd while the ring is idle: so the producer rings the doorbell once each time. */
void ivshm_ring_set_idle(struct ivshm_ring_consumer *ring, bool idle)
{
    uint64_t count = ivshm_a64_load_relaxed(&ring->shm->idle); /* relaxed: nobody else stores it */
    IVSHM_TRACEPOINT(ring_set_idle);
    if (count % 2 != idle)
        ivshm_a64_store_relaxed(&ring->shm->idle, count + 1);
}
