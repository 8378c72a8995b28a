/* SPDX-License-Identifier: mpich2 */
/*
 * Extents: runs of blocks, allocated without a lock. The block map holds only each block's owner.
 * So whatever a dead process held can be found and reclaimed, at whichever instruction it died, and
 * two processes that reclaim at once do no harm.
 *
 * Ordering: the block map's edge. A block is freed by a CAS to 0 (release) and allocated by a CAS
 * from 0 (acquire), so the accesses of the old owner are over before those of the new one begin.
 * Any thread of any process may call these functions at any time. They are not for the path of a
 * message: where no other cost is stated, it is a word of the map for each block of the extent.
 */
#ifndef IVSHM_EXTENT_H
#define IVSHM_EXTENT_H

#include "region.h"

/* An owner: an endpoint's index and the generation of its claim. */
struct ivshm_owner {
    uint32_t endpoint;
    uint32_t generation;
};

/*
 * Allocates `bytes` > 0, rounded up to blocks, for `owner`, whose claim is NAMED or LIVE. The
 * contents are undefined. -ENOSPC if no run of free blocks is long enough, or the file system has
 * no memory for it. Cost: one CAS for each block of the extent, and one load for each other extent
 * on the way; more if others allocate at the same time.
 */
int ivshm_extent_alloc(struct ivshm_region *region, struct ivshm_owner owner,
                       enum ivshm_block_kind kind, uint64_t bytes, ivshm_off *off);

/*
 * Frees the `bytes` at `off`, as allocated by `owner`. Skips blocks that are no longer the owner's.
 * Nobody else may access the extent any more.
 */
void ivshm_extent_free(struct ivshm_region *region, struct ivshm_owner owner, ivshm_off off,
                       uint64_t bytes);

/*
 * Whether `owner` holds an extent of this kind that begins at `off` and has at least `bytes`. `off`
 * may have any value. Relaxed: the answer stays true only while the extent cannot be freed: the
 * caller is the owner or attached to it, and the owner keeps the extent.
 */
bool ivshm_extent_owned(const struct ivshm_region *region, struct ivshm_owner owner,
                        enum ivshm_block_kind kind, ivshm_off off, uint64_t bytes);

/*
 * Whether `owner` holds all blocks of [off, off+bytes) for this kind, as part of one extent or of
 * several. Otherwise as ivshm_extent_owned.
 */
bool ivshm_extent_covers(const struct ivshm_region *region, struct ivshm_owner owner,
                         enum ivshm_block_kind kind, ivshm_off off, uint64_t bytes);

/*
 * Whether `bytes` can be allocated for something that a job can do without: a quarter of the blocks
 * stays free for processes that join. A hint, as others allocate at the same time. Cost: up to the
 * whole map.
 */
bool ivshm_extent_can_spare(const struct ivshm_region *region, uint64_t bytes);

/*
 * Frees all blocks of `owner`, whose claim must be over, with nobody attached to it. Returns their
 * number. Cost: the whole map.
 */
uint64_t ivshm_extent_reclaim(struct ivshm_region *region, struct ivshm_owner owner);

/* Blocks by use; others may allocate while they are counted. */
struct ivshm_extent_usage {
    uint64_t free_blocks, base_blocks, pipeline_blocks, ring_blocks, user_blocks;
    uint64_t longest_free; /* blocks of the longest free run */
};

/* Cost: the whole map. */
void ivshm_extent_usage(const struct ivshm_region *region, struct ivshm_extent_usage *usage);

/* The number of blocks that `owner` holds. Cost: the whole map. */
uint64_t ivshm_extent_held(const struct ivshm_region *region, struct ivshm_owner owner);

/*
 * The word of block `index`, which is below ivshm_region_blocks (acquire, block map's edge).
 * Constant cost.
 */
static inline uint64_t ivshm_block_load(const struct ivshm_region *region, uint64_t index)
{
    return ivshm_a64_load_acquire(&region->block_map[index]);
}

/*
 * Frees that block if its word is still `word` (release, block map's edge), whose owner is over;
 * see doc/design.md, "Leaked blocks". Returns whether it did. Constant cost.
 */
static inline bool ivshm_block_free(struct ivshm_region *region, uint64_t index, uint64_t word)
{
    return ivshm_a64_cas_seqcst(&region->block_map[index], word, 0);
}

/* A word of the block map, unpacked. */
struct ivshm_block {
    struct ivshm_owner owner;
    enum ivshm_block_kind kind;
    bool first;     /* whether it is the first block of its extent */
    uint64_t count; /* blocks of the extent, 0 if not first */
};

/*
 * Unpacks a word. False if the block is free, or if no allocation in this region can have written
 * the word. Constant cost.
 */
bool ivshm_block_decode(const struct ivshm_region *region, uint64_t word,
                        struct ivshm_block *block);

#endif
