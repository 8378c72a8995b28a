/* SPDX-License-Identifier: mpich2 */
/*
 * Extents: runs of blocks, handed out without a lock. The block map holds nothing but each block's
 * owner, so that whatever a dead process held can be found and taken back, at any instruction of
 * its death, and two processes that take back at once do no harm. Any process, any time; slow path
 * only.
 */
#ifndef IVSHM_EXTENT_H
#define IVSHM_EXTENT_H

#include "region.h"

/* Who owns: an endpoint and the generation of its claim. */
struct ivshm_owner {
    uint32_t endpoint;
    uint32_t generation;
};

/*
 * Takes `bytes`, rounded up to blocks, for `owner`. The contents are whatever they were.
 * -ENOSPC if no run of free blocks is long enough, or a sparse file gets no memory for it.
 */
int ivshm_extent_alloc(struct ivshm_region *region, struct ivshm_owner owner,
                       enum ivshm_block_kind kind, uint64_t bytes, ivshm_off *off);

/* Gives back the extent at `off`, of which `owner` holds `bytes`. */
void ivshm_extent_free(struct ivshm_region *region, struct ivshm_owner owner, ivshm_off off,
                       uint64_t bytes);

/* Whether `owner` holds an extent of this kind that begins at `off` and has at least `bytes`. */
bool ivshm_extent_owned(const struct ivshm_region *region, struct ivshm_owner owner,
                        enum ivshm_block_kind kind, ivshm_off off, uint64_t bytes);

/*
 * Whether `owner` holds all blocks of [off, off+bytes) for this kind: a part of an extent, or of
 * several.
 */
bool ivshm_extent_covers(const struct ivshm_region *region, struct ivshm_owner owner,
                         enum ivshm_block_kind kind, ivshm_off off, uint64_t bytes);

/*
 * Whether `bytes` can be taken for what a job can do without: a part of the region stays free for
 * those who join.
 */
bool ivshm_extent_can_spare(const struct ivshm_region *region, uint64_t bytes);

/* Gives back all that `owner` holds; returns the number of blocks. The owner must be proved dead.
 */
uint64_t ivshm_extent_reclaim(struct ivshm_region *region, struct ivshm_owner owner);

struct ivshm_extent_usage {
    uint64_t free_blocks, base_blocks, pipeline_blocks, ring_blocks, user_blocks;
    uint64_t longest_free; /* blocks in a row */
};

void ivshm_extent_usage(const struct ivshm_region *region, struct ivshm_extent_usage *usage);

/* The number of blocks that `owner` holds. */
uint64_t ivshm_extent_held(const struct ivshm_region *region, struct ivshm_owner owner);

/* What a word of the block map says. */
struct ivshm_block {
    struct ivshm_owner owner;
    enum ivshm_block_kind kind;
    bool first;     /* of its extent, */
    uint64_t count; /* which has so many blocks; 0 if not first */
};

/* Takes the word apart; false if it is free, or no allocation in this region can have written it.
 */
bool ivshm_block_decode(const struct ivshm_region *region, uint64_t word,
                        struct ivshm_block *block);

#endif
