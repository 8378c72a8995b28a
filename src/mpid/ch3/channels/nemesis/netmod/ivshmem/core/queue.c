/* SPDX-License-Identifier: mpich2 */
#include "queue.h"
#include "tracepoint.h"

#include <errno.h>

static uint64_t pack_ref(struct ivshm_ref ref, uint32_t lap)
{
    return (uint64_t) ref.cell | (uint64_t) ref.endpoint << 16 | (uint64_t) lap << 32;
}

void ivshm_queue_consumer_init(struct ivshm_queue_consumer *c, struct ivshm_inbox_shm *shm,
                               uint64_t slots)
{
    uint64_t head = ivshm_a64_load_relaxed(&shm->head);
    *c = (struct ivshm_queue_consumer){.shm = shm, .slots = slots, .head = head, .published = head};
}

void ivshm_queue_producer_init(struct ivshm_queue_producer *p, struct ivshm_inbox_shm *shm,
                               uint64_t slots)
{
    uint64_t head = ivshm_a64_load_acquire(&shm->head);
    *p = (struct ivshm_queue_producer){.shm = shm, .slots = slots, .next = head, .head = head};
}

static bool is_taken(struct ivshm_inbox_shm *shm, uint64_t position, uint64_t slots)
{
    return ivshm_queue_laps_ahead(ivshm_a64_load_relaxed(ivshm_queue_slot(shm, position, slots)),
                                  position, slots) >= 0;
}

/* Learns how far the consumer has read (acquire Q2). Our messages go nowhere before that. */
static void refresh_head(struct ivshm_queue_producer *p)
{
    p->head = ivshm_a64_load_acquire(&p->shm->head);
    if ((int64_t) (p->head - p->next) > 0)
        p->next = p->head;
}

int ivshm_queue_push_mpsc(struct ivshm_queue_producer *p, struct ivshm_ref ref)
{
    struct ivshm_inbox_shm *shm = p->shm;
    uint64_t slots = p->slots;
    /*
     * Relaxed, and not trusted: a hint is good only if the position before it is filled. Otherwise
     * it could leave a gap, at which the consumer would stop.
     */
    uint64_t hint = ivshm_a64_load_relaxed(&shm->tail_hint);
    if (hint - p->next > slots)
        refresh_head(p);
    uint64_t position = p->next;
    if (hint - position <= slots && is_taken(shm, hint - 1, slots))
        position = hint;

    for (uint64_t step = 0; step <= slots; step++) {
        if (position - p->head >= slots) {
            refresh_head(p);
            if ((int64_t) (p->next - position) > 0) /* the hint was old: already read */
                position = p->next;
            if (position - p->head >= slots)
                return -EAGAIN;
        }
        ivshm_a64 *slot = ivshm_queue_slot(shm, position, slots);
        uint64_t found = ivshm_a64_load_relaxed(slot); /* relaxed: the CAS checks it */
        int32_t ahead = ivshm_queue_laps_ahead(found, position, slots);
        if (ahead > 0) { /* the queue has wrapped since the hint was stored */
            refresh_head(p);
            position = p->next;
            continue;
        }
        if (ahead == 0) {
            position++;
            continue;
        }
        if (ahead != -1) /* more than a lap behind: overwritten by a stray store */
            return -EAGAIN;
        IVSHM_TRACEPOINT(push_found);
        /* Release Q1: whoever sees the slot sees the cell, and everything before it. */
        if (ivshm_a64_cas_seqcst(slot, found, pack_ref(ref, ivshm_queue_lap(position, slots)))) {
            IVSHM_TRACEPOINT(push_done);
            p->next = position + 1;
            ivshm_a64_store_relaxed(&shm->tail_hint, position + 1);
            return 0;
        }
    }
    return -EAGAIN;
}

bool ivshm_queue_pop_mpsc(struct ivshm_queue_consumer *c, struct ivshm_ref *ref)
{
    uint64_t word = ivshm_a64_load_acquire(ivshm_queue_slot(c->shm, c->head, c->slots)); /* Q1 */
    if (ivshm_queue_laps_ahead(word, c->head, c->slots) != 0)
        return false;
    *ref = (struct ivshm_ref){.endpoint = (uint16_t) (word >> 16), .cell = (uint16_t) word};
    c->head++;
    /* Rarely, so that the line stays in the producers' caches. */
    if (c->head - c->published >= c->slots / 4) {
        IVSHM_TRACEPOINT(pop_head);
        ivshm_a64_store_release(&c->shm->head, c->head); /* release Q2 */
        c->published = c->head;
    }
    return true;
}
