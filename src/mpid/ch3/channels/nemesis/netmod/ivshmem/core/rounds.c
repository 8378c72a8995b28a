/* SPDX-License-Identifier: mpich2 */
#include "rounds.h"

#define LEFT UINT64_MAX

static size_t head_bytes(uint32_t count)
{
    return sizeof(struct ivshm_rounds_shm) + count * sizeof(struct ivshm_rounds_member_shm);
}

size_t ivshm_rounds_bytes(uint32_t count, uint32_t slot_bytes)
{
    return head_bytes(count) + (size_t) 2 * count * slot_bytes +
           (size_t) IVSHM_ROUNDS_SEGMENTS * IVSHM_ROUNDS_SEGMENT;
}

void ivshm_rounds_init(struct ivshm_rounds *r, void *memory, uint32_t count, uint32_t self,
                       uint32_t slot_bytes)
{
    *r = (struct ivshm_rounds){.shm = memory, .count = count, .self = self};
    r->slot_bytes = slot_bytes;
    r->slots = (unsigned char *) memory + head_bytes(count);
    r->ring = r->slots + (size_t) 2 * count * slot_bytes;
}

void ivshm_rounds_leave(struct ivshm_rounds *r)
{
    ivshm_a64_store_release(&r->shm->members[r->self].at, LEFT);
}

bool ivshm_rounds_has_left(const struct ivshm_rounds *r, uint32_t member)
{
    return ivshm_a64_load_acquire(&r->shm->members[member].at) == LEFT;
}

/* A chunk begins with its word, in the same line as the bytes if they fit. */
static uint32_t chunk_head(uint32_t bytes)
{
    return bytes <= IVSHM_LINE - sizeof(ivshm_a64) ? sizeof(ivshm_a64) : IVSHM_LINE;
}

static uint32_t chunk_bytes(uint32_t bytes)
{
    return (chunk_head(bytes) + bytes + IVSHM_LINE - 1) & ~(uint32_t) (IVSHM_LINE - 1);
}

/* No broadcast lies in two segments. */
static uint32_t chunk_offset(const struct ivshm_rounds *r, uint32_t bytes)
{
    uint32_t left = IVSHM_ROUNDS_SEGMENT - r->ring_offset % IVSHM_ROUNDS_SEGMENT;

    if (chunk_bytes(bytes) <= left)
        return r->ring_offset;
    return (r->ring_offset + left) % (IVSHM_ROUNDS_SEGMENTS * IVSHM_ROUNDS_SEGMENT);
}

ivshm_a64 *ivshm_rounds_chunk_what(const struct ivshm_rounds *r, uint32_t bytes)
{
    return (ivshm_a64 *) (r->ring + chunk_offset(r, bytes));
}

unsigned char *ivshm_rounds_chunk(const struct ivshm_rounds *r, uint32_t bytes)
{
    return r->ring + chunk_offset(r, bytes) + chunk_head(bytes);
}

void ivshm_rounds_reserve(struct ivshm_rounds *r, uint32_t bytes)
{
    uint32_t offset = chunk_offset(r, bytes);

    r->next = 0;
    r->end = offset % IVSHM_ROUNDS_SEGMENT == 0 ? r->count : 0;
    r->wanted = r->reusable[offset / IVSHM_ROUNDS_SEGMENT];
}

/* The round is over for this member; its own word, too, says so. */
static void end_broadcast(struct ivshm_rounds *r, uint32_t bytes)
{
    uint32_t offset = chunk_offset(r, bytes);
    uint64_t at = 2 * r->round + 2;

    ivshm_a64_store_release(&r->shm->members[r->self].at, at);
    r->reusable[offset / IVSHM_ROUNDS_SEGMENT] = at;
    r->ring_offset = (offset + chunk_bytes(bytes)) % (IVSHM_ROUNDS_SEGMENTS * IVSHM_ROUNDS_SEGMENT);
    r->round++;
}

void ivshm_rounds_publish(struct ivshm_rounds *r, uint32_t bytes, uint64_t what)
{
    ivshm_a64_store_relaxed(ivshm_rounds_chunk_what(r, bytes), what);
    IVSHM_TRACEPOINT(rounds_publish);
    end_broadcast(r, bytes);
}

void ivshm_rounds_take(struct ivshm_rounds *r, uint32_t bytes)
{
    IVSHM_TRACEPOINT(rounds_take);
    end_broadcast(r, bytes);
}

void ivshm_rounds_note_sleeper(struct ivshm_rounds *r)
{
    if (ivshm_a64_load_relaxed(&r->shm->sleepers) == 0)
        ivshm_a64_or_seqcst(&r->shm->sleepers, 1);
}

bool ivshm_rounds_take_sleepers(struct ivshm_rounds *r)
{
    return ivshm_a64_load_relaxed(&r->shm->sleepers) != 0 &&
           ivshm_a64_and_seqcst(&r->shm->sleepers, 0) != 0;
}
