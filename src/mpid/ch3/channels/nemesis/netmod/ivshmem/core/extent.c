/* SPDX-License-Identifier: mpich2 */
#include "extent.h"
#include "tracepoint.h"

#include <errno.h>

#define SPARE_LEAVES 4 /* one part in so many of the region stays free */

#define OWNER_BITS 35
#define OWNER_MASK ((UINT64_C(1) << OWNER_BITS) - 1)
#define KIND_MASK UINT64_C(31)
#define FIRST_BIT (UINT64_C(1) << 40)
#define COUNT_SHIFT 41
#define NAME_MASK ((UINT64_C(1) << COUNT_SHIFT) - 1) /* all but the count */

static uint64_t owner_bits(struct ivshm_owner owner)
{
    return (uint64_t) (owner.endpoint + 1) | (uint64_t) owner.generation << 16;
}

/* `first_of` is the number of blocks of the extent if this is its first block, else 0. */
static uint64_t block_word(struct ivshm_owner owner, enum ivshm_block_kind kind, uint64_t first_of)
{
    return owner_bits(owner) | (uint64_t) kind << OWNER_BITS |
           (first_of ? FIRST_BIT | first_of << COUNT_SHIFT : 0);
}

static uint64_t block_count(const struct ivshm_region *region, uint64_t bytes)
{
    return bytes / region->geo.block_size + (bytes % region->geo.block_size != 0);
}

/* -1 if `off` is not the first byte of a block. */
static int64_t block_index(const struct ivshm_region *region, ivshm_off off)
{
    if (off.bytes < region->geo.data || (off.bytes - region->geo.data) % region->geo.block_size)
        return -1;
    uint64_t index = (off.bytes - region->geo.data) / region->geo.block_size;
    return index < region->geo.blocks ? (int64_t) index : -1;
}

/*
 * Frees `count` blocks of ours, the last one first: until the end, the first one tells where the
 * extent begins. Only blocks that are still ours: a joiner that was declared dead by mistake may
 * have lost some. The CAS is the block map's release.
 */
static void clear_blocks(ivshm_a64 *words, uint64_t count, struct ivshm_owner owner)
{
    while (count-- > 0) {
        uint64_t found = ivshm_a64_load_relaxed(&words[count]);
        if ((found & OWNER_MASK) == owner_bits(owner))
            ivshm_a64_cas_seqcst(&words[count], found, 0);
    }
}

int ivshm_extent_alloc(struct ivshm_region *region, struct ivshm_owner owner,
                       enum ivshm_block_kind kind, uint64_t bytes, ivshm_off *off)
{
    ivshm_a64 *map = region->block_map;
    uint64_t want = block_count(region, bytes), start = 0, run = 0;

    /*
     * Claims block by block. On meeting another owner, frees what it has and continues behind that
     * owner's extent. The extent's first block tells how long it is, or will be once its owner has
     * the rest: so simultaneous allocations neither go on colliding nor leave holes. Every step is
     * one CAS (the block map's acquire), so a death in here leaves blocks that name their owner.
     */
    while (run < want) {
        if (want > region->geo.blocks ||
            start > region->geo.blocks - want) /* nothing is held now */
            return -ENOSPC;
        ivshm_a64 *word = &map[start + run];
        if (ivshm_a64_load_relaxed(word) == 0 &&
            ivshm_a64_cas_seqcst(word, 0, block_word(owner, kind, run == 0 ? want : 0))) {
            IVSHM_TRACEPOINT(extent_taken_one);
            run++;
            continue;
        }
        uint64_t found = ivshm_a64_load_relaxed(word);
        IVSHM_TRACEPOINT(extent_collided);
        clear_blocks(&map[start], run, owner);
        start += run + (found & FIRST_BIT && found >> COUNT_SHIFT ? found >> COUNT_SHIFT : 1);
        run = 0;
    }
    IVSHM_TRACEPOINT(extent_taken);
    uint64_t at = region->geo.data + start * region->geo.block_size;
    if (ivshm_backing_reserve(&region->map, at, want * region->geo.block_size, IVSHM_ACCESS_WRITE,
                              NULL) != 0) {
        /* What memory it got is of more use to others. */
        ivshm_backing_discard(&region->map, at, want * region->geo.block_size);
        ivshm_extent_free(region, owner, (ivshm_off){at}, want * region->geo.block_size);
        return -ENOSPC;
    }
    off->bytes = at;
    return 0;
}

void ivshm_extent_free(struct ivshm_region *region, struct ivshm_owner owner, ivshm_off off,
                       uint64_t bytes)
{
    int64_t first = block_index(region, off);
    uint64_t count = block_count(region, bytes);
    if (first < 0 || count > region->geo.blocks - (uint64_t) first)
        return;
    for (uint64_t i = count; i-- > 0;) {
        ivshm_a64 *word = &region->block_map[(uint64_t) first + i];
        uint64_t found = ivshm_a64_load_relaxed(word);
        IVSHM_TRACEPOINT(extent_free_one);
        if ((found & OWNER_MASK) == owner_bits(owner))
            ivshm_a64_cas_seqcst(word, found, 0);
    }
}

bool ivshm_extent_owned(const struct ivshm_region *region, struct ivshm_owner owner,
                        enum ivshm_block_kind kind, ivshm_off off, uint64_t bytes)
{
    int64_t first = block_index(region, off);
    uint64_t count = block_count(region, bytes);
    if (first < 0 || count == 0 || count > region->geo.blocks - (uint64_t) first)
        return false;
    for (uint64_t i = 0; i < count; i++)
        if ((ivshm_a64_load_relaxed(&region->block_map[(uint64_t) first + i]) & NAME_MASK) !=
            (block_word(owner, kind, i == 0) & NAME_MASK))
            return false;
    return true;
}

bool ivshm_extent_covers(const struct ivshm_region *region, struct ivshm_owner owner,
                         enum ivshm_block_kind kind, ivshm_off off, uint64_t bytes)
{
    const struct ivshm_geometry *geo = &region->geo;
    uint64_t end = geo->data + geo->blocks * geo->block_size, wanted = block_word(owner, kind, 0);

    if (bytes == 0 || off.bytes < geo->data || off.bytes >= end || bytes > end - off.bytes)
        return false;
    for (uint64_t i = (off.bytes - geo->data) / geo->block_size;
         i <= (off.bytes + bytes - 1 - geo->data) / geo->block_size; i++)
        if ((ivshm_a64_load_relaxed(&region->block_map[i]) & NAME_MASK & ~FIRST_BIT) != wanted)
            return false;
    return true;
}

bool ivshm_extent_can_spare(const struct ivshm_region *region, uint64_t bytes)
{
    uint64_t wanted = block_count(region, bytes) + region->geo.blocks / SPARE_LEAVES, found = 0;
    for (uint64_t i = region->geo.blocks; i-- > 0 && found < wanted;) /* most free ones are last */
        found += ivshm_a64_load_relaxed(&region->block_map[i]) == 0;
    return found >= wanted && ivshm_backing_can_spare(&region->map, bytes);
}

uint64_t ivshm_extent_reclaim(struct ivshm_region *region, struct ivshm_owner owner)
{
    uint64_t freed = 0;
    /* The last block first, as in clear_blocks. */
    for (uint64_t i = region->geo.blocks; i-- > 0;) {
        uint64_t found = ivshm_a64_load_relaxed(&region->block_map[i]);
        if ((found & OWNER_MASK) == owner_bits(owner) &&
            ivshm_a64_cas_seqcst(&region->block_map[i], found, 0))
            freed++;
    }
    return freed;
}

void ivshm_extent_usage(const struct ivshm_region *region, struct ivshm_extent_usage *usage)
{
    struct ivshm_extent_usage u = {0};
    uint64_t run = 0;
    for (uint64_t i = 0; i < region->geo.blocks; i++) {
        uint64_t found = ivshm_a64_load_relaxed(&region->block_map[i]);
        if (found == 0) {
            u.free_blocks++;
            if (++run > u.longest_free)
                u.longest_free = run;
            continue;
        }
        run = 0;
        switch (found >> OWNER_BITS & KIND_MASK) {
        case IVSHM_KIND_PIPELINE:
            u.pipeline_blocks++;
            break;
        case IVSHM_KIND_RING:
            u.ring_blocks++;
            break;
        case IVSHM_KIND_USER:
            u.user_blocks++;
            break;
        default:
            u.base_blocks++;
        }
    }
    *usage = u;
}

uint64_t ivshm_extent_held(const struct ivshm_region *region, struct ivshm_owner owner)
{
    uint64_t held = 0;
    for (uint64_t i = 0; i < region->geo.blocks; i++)
        if ((ivshm_a64_load_relaxed(&region->block_map[i]) & OWNER_MASK) == owner_bits(owner))
            held++;
    return held;
}

bool ivshm_block_decode(const struct ivshm_region *region, uint64_t word, struct ivshm_block *block)
{
    struct ivshm_owner owner = {(uint32_t) (word & 0xffff) - 1, (uint32_t) (word >> 16 & 0x7ffff)};
    uint64_t count = word >> COUNT_SHIFT;
    uint64_t kind = word >> OWNER_BITS & KIND_MASK;
    bool first = word & FIRST_BIT;
    if (owner.endpoint >= region->geo.endpoints || kind < IVSHM_KIND_BASE ||
        kind > IVSHM_KIND_USER || first != (count > 0) || count > region->geo.blocks)
        return false;
    *block = (struct ivshm_block){owner, (enum ivshm_block_kind) kind, first, count};
    return true;
}
