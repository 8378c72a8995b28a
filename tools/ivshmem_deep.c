/* SPDX-License-Identifier: mpich2 */
/*
 * ivshmem check --deep: whether what live endpoints share, their inboxes, cells, rings and
 * pipelines, could have been written by correct processes. These continue meanwhile. So a finding
 * counts only if it is still there after a while, in words that did not change.
 */
#include "ivshmem_tool.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define READS_MAX 5
#ifndef PAUSE_NS
#define PAUSE_NS 2000000
#endif
#define RING_SLOTS_MAX 128 /* of any geometry */

struct scan {
    const struct ivshm_region *region;
    const char *base;
    char text[160]; /* what is wrong */
};

static void pause_a_little(void)
{
    nanosleep(&(struct timespec){0, PAUSE_NS}, NULL);
}

/*
 * Positions from `head` on, `slots` of them, are taken or empty, and no empty one is before one
 * that is taken: at a gap the consumer would wait forever.
 */
static bool inbox_is_sound(struct scan *p)
{
    const struct ivshm_geometry *geo = ivshm_region_geometry(p->region);
    const struct ivshm_inbox_shm *inbox = (const struct ivshm_inbox_shm *) p->base;
    uint64_t head = ivshm_a64_load_acquire(&inbox->head), slots = geo->inbox_slots;
    uint64_t gap = UINT64_MAX;

    for (uint64_t at = head; at < head + slots; at++) {
        uint64_t word = ivshm_a64_load_acquire(&inbox->slot[at & (slots - 1)]);
        uint32_t lap = (uint32_t) (word >> 32), due = (uint32_t) (at / slots + 1);
        uint32_t sender = (uint32_t) (word >> 16 & 0xffff), cell = (uint32_t) (word & 0xff);
        if (lap == due - 1) {
            gap = gap == UINT64_MAX ? at : gap;
            continue;
        }
        if (lap != due)
            snprintf(p->text, sizeof(p->text),
                     "has lap %u at position %llu of its inbox, expected %u or %u", lap,
                     (unsigned long long) at, due - 1, due);
        else if (gap != UINT64_MAX)
            snprintf(p->text, sizeof(p->text),
                     "has a message at position %llu of its inbox, but none at %llu",
                     (unsigned long long) at, (unsigned long long) gap);
        else if (sender >= geo->endpoints ||
                 (cell >= geo->small_cells + geo->large_cells && cell != IVSHM_REF_DOORBELL))
            snprintf(p->text, sizeof(p->text),
                     "has a message in its inbox in cell %u of endpoint %u, which does not exist",
                     cell, sender);
        else
            continue;
        return ivshm_a64_load_acquire(&inbox->head) != head; /* it changed while it was read */
    }
    return true;
}

static bool cells_are_sound(struct scan *p)
{
    const struct ivshm_geometry *geo = ivshm_region_geometry(p->region);
    for (uint32_t i = 0; i < geo->small_cells + geo->large_cells; i++) {
        bool is_small = i < geo->small_cells;
        uint32_t size = is_small ? geo->small_size : geo->large_size;
        uint64_t off = is_small ? geo->small + (uint64_t) i * size
                                : geo->large + (uint64_t) (i - geo->small_cells) * size;
        const struct ivshm_cell_shm *cell = (const struct ivshm_cell_shm *) (p->base + off);
        uint32_t state = ivshm_a32_load_acquire(&cell->state),
                 len = ivshm_a32_load_relaxed(&cell->len);
        if (state <= IVSHM_CELL_IN_FLIGHT && len <= size - sizeof(*cell))
            continue;
        snprintf(p->text, sizeof(p->text),
                 "has cell %u in state %u with a length of %u bytes, at most %zu fit", i, state,
                 len, size - sizeof(*cell));
        return false;
    }
    return true;
}

static bool ring_is_sound(struct scan *p, const char *base)
{
    const struct ivshm_geometry *geo = ivshm_region_geometry(p->region);
    const uint32_t most[] = {
        [IVSHM_RECORD_INLINE] = geo->slot_size - (uint32_t) sizeof(struct ivshm_slot_shm),
        [IVSHM_RECORD_CELL] = geo->small_cells + geo->large_cells - 1,
        [IVSHM_RECORD_BUFFER] = geo->buffer_size,
    };
    uint64_t words[2][RING_SLOTS_MAX];
    uint32_t slots = geo->ring_slots, wraps = 0;

    for (int reading = 0; reading < 2; reading++)
        for (uint32_t i = 0; i < slots && i < RING_SLOTS_MAX; i++) {
            const char *slot = base + sizeof(struct ivshm_ring_shm) + (uint64_t) i * geo->slot_size;
            words[reading][i] =
                ivshm_a64_load_acquire(&((const struct ivshm_slot_shm *) slot)->word);
        }
    if (slots > RING_SLOTS_MAX || memcmp(words[0], words[1], slots * sizeof(words[0][0])) != 0)
        return true; /* it changed meanwhile */
    for (uint32_t i = 0; i < slots && words[0][i] != 0;
         i++) { /* 0: no record there, nor behind it */
        uint64_t word = words[0][i], kind = word >> 48 & 0xff, next = words[0][(i + 1) % slots];
        uint32_t value = (uint32_t) (word >> 32 & 0xffff);
        if (kind < IVSHM_RECORD_INLINE || kind > IVSHM_RECORD_BUFFER || value > most[kind]) {
            snprintf(p->text, sizeof(p->text),
                     "has an invalid record in a ring: kind %llu, value %u",
                     (unsigned long long) kind, value);
            return false;
        }
        /* In a ring that is full the newest record is followed by the oldest. */
        wraps += next != 0 && (uint32_t) next != (uint32_t) word + 1;
    }
    if (wraps > (words[0][slots - 1] != 0)) {
        snprintf(p->text, sizeof(p->text), "has a ring whose records are out of sequence");
        return false;
    }
    return true;
}

static bool pipeline_is_sound(struct scan *p, const char *base)
{
    const struct ivshm_geometry *geo = ivshm_region_geometry(p->region);
    const struct ivshm_chunk_word_shm *words = (const struct ivshm_chunk_word_shm *) base;
    for (uint32_t i = 0; i < geo->pipeline_chunks; i++) {
        uint32_t len = (uint32_t) ivshm_a64_load_acquire(&words[i].len);
        if (len <= geo->chunk_size)
            continue;
        snprintf(p->text, sizeof(p->text), "has a chunk of %u bytes in a pipeline, at most %u fit",
                 len, geo->chunk_size);
        return false;
    }
    return true;
}

/* The endpoint's rings and pipelines. */
static bool extents_are_sound(struct scan *p, struct ivshm_owner owner)
{
    const struct ivshm_region *region = p->region;
    const struct ivshm_geometry *geo = ivshm_region_geometry(region);
    for (uint64_t i = 0; i < geo->blocks; i++) {
        struct ivshm_block b;
        uint64_t word = ivshm_block_load(region, i);
        if (word == 0 || !ivshm_block_decode(region, word, &b) || !b.first ||
            b.owner.endpoint != owner.endpoint || b.owner.generation != owner.generation)
            continue;
        ivshm_off off = {geo->data + i * geo->block_size};
        bool is_ring = b.kind == IVSHM_KIND_RING, is_pipeline = b.kind == IVSHM_KIND_PIPELINE;
        uint64_t bytes = is_ring ? geo->ring_bytes : geo->pipeline_bytes;
        if ((!is_ring && !is_pipeline) || !ivshm_extent_owned(region, owner, b.kind, off, bytes))
            continue; /* growing or shrinking */
        const char *base = ivshm_region_resolve(region, off, bytes);
        if (is_ring ? !ring_is_sound(p, base) : !pipeline_is_sound(p, base))
            return false;
    }
    return true;
}

static bool is_sound(struct scan *p, const struct tool_entry *e)
{
    struct ivshm_owner owner = {e->index, e->info.claim.generation};
    struct ivshm_claim now;
    for (int reads = 0; reads < READS_MAX; reads++) {
        if (reads)
            pause_a_little();
        if (inbox_is_sound(p) && cells_are_sound(p) && extents_are_sound(p, owner))
            return true;
        now = ivshm_endpoint_claim(p->region, e->index);
        if (now.state != IVSHM_CLAIM_LIVE || now.generation != owner.generation)
            return true;
    }
    return false;
}

int tool_deep(const struct ivshm_region *region, struct ivshm_diag *diag)
{
    const uint64_t base_bytes = ivshm_region_geometry(region)->base_bytes;
    struct tool_entry *list;
    int found = 0, n = tool_entries(region, &list, diag);
    for (int i = 0; i < n; i++) {
        const struct tool_entry *e = &list[i];
        struct ivshm_owner owner = {e->index, e->info.claim.generation};
        struct scan p = {.region = region};
        /* What a dead process has left half done does no harm, and is freed with the rest. */
        if (e->info.claim.state != IVSHM_CLAIM_LIVE || e->liveness == IVSHM_LIVENESS_DEAD ||
            !e->known ||
            !ivshm_extent_owned(region, owner, IVSHM_KIND_BASE, e->info.base, base_bytes))
            continue;
        p.base = ivshm_region_resolve(region, e->info.base, base_bytes);
        if (is_sound(&p, e))
            continue;
        printf("bad: %s %s\n", tool_describe(e), p.text);
        found++;
    }
    if (n >= 0)
        free(list);
    return n < 0 ? n : found;
}
