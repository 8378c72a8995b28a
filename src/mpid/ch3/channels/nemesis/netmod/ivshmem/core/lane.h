/* SPDX-License-Identifier: mpich2 */
/*
 * A lane: a ring of chunks for one large message at a time, in memory of its owner: of the sender,
 * who offers it filled as far as it goes, or of the receiver, who lends it to a sender. Single
 * producer, single consumer; both copy at the same time, and neither ever waits. One thread a
 * handle.
 */
#ifndef IVSHM_LANE_H
#define IVSHM_LANE_H

#include "extent.h"

struct ivshm_lane {
    struct ivshm_chunk_word_shm *words;
    unsigned char *chunks;
    uint32_t count, size; /* chunks, bytes each */
    uint32_t next;        /* chunk to fill or to empty */
    ivshm_off off;
};

/* Where it is, for the other side, and the chunk that comes next. */
static inline ivshm_off ivshm_lane_offset(const struct ivshm_lane *lane)
{
    return lane->off;
}

static inline uint32_t ivshm_lane_next(const struct ivshm_lane *lane)
{
    return lane->next;
}

/* Bytes of a chunk. */
static inline uint32_t ivshm_lane_chunk_size(const struct ivshm_lane *lane)
{
    return lane->size;
}

/* The region's memory that a lane takes, in bytes. */
static inline uint64_t ivshm_lane_bytes(const struct ivshm_region *region)
{
    return region->geo.lane_bytes;
}

/* The owner takes memory for a lane. -ENOSPC if the region has none. */
int ivshm_lane_alloc(struct ivshm_region *region, struct ivshm_owner self, struct ivshm_lane *lane);

/* Gives it back; the other side must be done with it. */
void ivshm_lane_free(struct ivshm_region *region, struct ivshm_owner self, struct ivshm_lane *lane);

/*
 * The other side's handle of the lane at `off`, which is `owner`'s and goes on with chunk `first`,
 * the owner's `next`. -EBADMSG if there is no such lane: nothing else is ever read or written.
 */
int ivshm_lane_attach(struct ivshm_region *region, struct ivshm_owner owner, ivshm_off off,
                      uint32_t first, struct ivshm_lane *lane, struct ivshm_diag *diag);

/* The next chunk to fill, lane->size bytes, or NULL if the receiver has to empty one first. */
unsigned char *ivshm_lane_reserve_spsc(struct ivshm_lane *lane);

/* The chunk reserved holds `len` bytes, at least 1. */
void ivshm_lane_publish_spsc(struct ivshm_lane *lane, uint32_t len);

/* The next chunk's contents, or NULL if there is none. *len is 0 if the sender claims more than
 * fits. */
const unsigned char *ivshm_lane_peek_spsc(struct ivshm_lane *lane, uint32_t *len);

/* Consumer: how many bytes wait, at least, from the next chunk on. */
uint64_t ivshm_lane_waiting(const struct ivshm_lane *lane);

/* The chunk peeked at is empty again. */
void ivshm_lane_consume_spsc(struct ivshm_lane *lane);

/* Producer: whether all that was published has been emptied. */
bool ivshm_lane_is_drained(const struct ivshm_lane *lane);

/* Owner: empties the lane, which begins anew. The other side must be done with it. */
void ivshm_lane_reset(struct ivshm_lane *lane);

#endif
