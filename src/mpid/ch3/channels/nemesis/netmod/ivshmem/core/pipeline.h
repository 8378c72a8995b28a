/* SPDX-License-Identifier: mpich2 */
/*
 * A pipeline: a ring of chunks through which one large message at a time flows, in memory of its
 * owner. The owner is the sender, which fills it before the receiver has answered, or the receiver,
 * which provides it to a sender. Both sides copy at the same time, and neither ever waits.
 *
 * One producer and one consumer; a handle is used by one thread at a time. Every call costs
 * constant time, except for alloc, free, attach, reset and waiting. Edges L1 and L2. As in
 * FastForward, a chunk's word tells both sides whether it is full; there are no shared indexes.
 */
#ifndef IVSHM_PIPELINE_H
#define IVSHM_PIPELINE_H

#include "extent.h"

/* One side's handle. Its fields are core's; use the functions. */
struct ivshm_pipeline {
    struct ivshm_chunk_word_shm *words;
    unsigned char *chunks;
    uint32_t count, size; /* number of chunks; bytes of each */
    uint32_t next;        /* index of the chunk to fill or to empty next */
    ivshm_off off;
};

/* What the other side needs to attach: the offset, and the index of the next chunk. */
static inline ivshm_off ivshm_pipeline_offset(const struct ivshm_pipeline *pipeline)
{
    return pipeline->off;
}

static inline uint32_t ivshm_pipeline_next(const struct ivshm_pipeline *pipeline)
{
    return pipeline->next;
}

/* Bytes of a chunk. */
static inline uint32_t ivshm_pipeline_chunk_size(const struct ivshm_pipeline *pipeline)
{
    return pipeline->size;
}

/* Bytes of the region that a pipeline occupies. */
static inline uint64_t ivshm_pipeline_bytes(const struct ivshm_region *region)
{
    return region->geo.pipeline_bytes;
}

/*
 * Owner: allocates an empty pipeline, which ends with ivshm_pipeline_free (block map's edge).
 * -ENOSPC if the region has no memory. Cost: that of ivshm_extent_alloc.
 */
int ivshm_pipeline_alloc(struct ivshm_region *region, struct ivshm_owner self,
                         struct ivshm_pipeline *pipeline);

/*
 * Owner: frees it (block map's edge). The other side must have finished with it, or be gone. Cost:
 * that of ivshm_extent_free.
 */
void ivshm_pipeline_free(struct ivshm_region *region, struct ivshm_owner self,
                         struct ivshm_pipeline *pipeline);

/*
 * The other side's handle of the pipeline at `off`, which belongs to `owner` and continues with
 * chunk `first`, the owner's next one. The caller is attached to the owner, and learned of the
 * pipeline by a message (Q1 or R1). -EBADMSG if there is no such pipeline: nothing outside it is
 * ever read or written. Cost: a load for each block of it.
 */
int ivshm_pipeline_attach(struct ivshm_region *region, struct ivshm_owner owner, ivshm_off off,
                          uint32_t first, struct ivshm_pipeline *pipeline, struct ivshm_diag *diag);

/*
 * Producer: the next chunk to fill, ivshm_pipeline_chunk_size bytes, or NULL if the receiver has to
 * empty one first (acquire L2).
 */
unsigned char *ivshm_pipeline_reserve_spsc(struct ivshm_pipeline *pipeline);

/*
 * Producer: how many chunks can be filled now, from the next one on, at most `most`, of those that
 * lie behind each other in memory: reserve returns the first (acquire L2). Cost: a load for each.
 */
uint32_t ivshm_pipeline_room_spsc(const struct ivshm_pipeline *pipeline, uint32_t most);

/*
 * Producer: the reserved chunk holds `len` bytes, at least 1 and at most its size (release L1).
 * `note` says how they were written: see IVSHM_NOTE_WAY.
 */
void ivshm_pipeline_publish_spsc(struct ivshm_pipeline *pipeline, uint32_t len, uint32_t note);

/*
 * Consumer: the contents of the next chunk, or NULL if it is empty (acquire L1). *len is at most
 * its size; 0 if the sender claims more than that. *note is the sender's, any
 * number; NULL if it is not wanted.
 */
const unsigned char *ivshm_pipeline_peek_spsc(struct ivshm_pipeline *pipeline, uint32_t *len,
                                              uint32_t *note);

/*
 * Consumer: likewise the chunk that comes `behind` so many others, which have contents. NULL also
 * if there are not as many chunks.
 */
const unsigned char *ivshm_pipeline_peek_behind_spsc(const struct ivshm_pipeline *pipeline,
                                                     uint32_t behind, uint32_t *len);

/*
 * Consumer: how many bytes are there, at least, from the next chunk on. A hint: nothing may be read
 * on its account. Cost: a load for each of these chunks.
 */
uint64_t ivshm_pipeline_waiting(const struct ivshm_pipeline *pipeline);

/* Consumer: the peeked chunk is empty again (release L2). */
void ivshm_pipeline_consume_spsc(struct ivshm_pipeline *pipeline);

/* Producer: whether all that was published has been read (acquire L2). */
bool ivshm_pipeline_is_drained(const struct ivshm_pipeline *pipeline);

/*
 * Owner: empties the pipeline, which begins again with chunk 0. The other side must have finished
 * with it, and learns of it by the next message (Q1 or R1). Cost: a store for each chunk.
 */
void ivshm_pipeline_reset(struct ivshm_pipeline *pipeline);

#endif
