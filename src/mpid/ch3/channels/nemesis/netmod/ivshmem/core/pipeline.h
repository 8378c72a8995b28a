/* SPDX-License-Identifier: mpich2 */
/*
 * A pipeline: a ring of chunks for one large message at a time, in memory of its owner: of the
 * sender, who offers it filled as far as it goes, or of the receiver, who lends it to a sender.
 * Single producer, single consumer; both copy at the same time, and neither ever waits. One thread
 * a handle.
 */
#ifndef IVSHM_PIPELINE_H
#define IVSHM_PIPELINE_H

#include "extent.h"

struct ivshm_pipeline {
    struct ivshm_chunk_word_shm *words;
    unsigned char *chunks;
    uint32_t count, size; /* chunks, bytes each */
    uint32_t next;        /* chunk to fill or to empty */
    ivshm_off off;
};

/* Where it is, for the other side, and the chunk that comes next. */
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

/* The region's memory that a pipeline takes, in bytes. */
static inline uint64_t ivshm_pipeline_bytes(const struct ivshm_region *region)
{
    return region->geo.pipeline_bytes;
}

/* The owner takes memory for a pipeline. -ENOSPC if the region has none. */
int ivshm_pipeline_alloc(struct ivshm_region *region, struct ivshm_owner self,
                         struct ivshm_pipeline *pipeline);

/* Gives it back; the other side must be done with it. */
void ivshm_pipeline_free(struct ivshm_region *region, struct ivshm_owner self,
                         struct ivshm_pipeline *pipeline);

/*
 * The other side's handle of the pipeline at `off`, which is `owner`'s and goes on with chunk
 * `first`, the owner's `next`. -EBADMSG if there is no such pipeline: nothing else is ever read or
 * written.
 */
int ivshm_pipeline_attach(struct ivshm_region *region, struct ivshm_owner owner, ivshm_off off,
                          uint32_t first, struct ivshm_pipeline *pipeline, struct ivshm_diag *diag);

/* The next chunk to fill, pipeline->size bytes, or NULL if the receiver has to empty one first. */
unsigned char *ivshm_pipeline_reserve_spsc(struct ivshm_pipeline *pipeline);

/* The chunk reserved holds `len` bytes, at least 1. */
void ivshm_pipeline_publish_spsc(struct ivshm_pipeline *pipeline, uint32_t len);

/* The next chunk's contents, or NULL if there is none. *len is 0 if the sender claims more than
 * fits. */
const unsigned char *ivshm_pipeline_peek_spsc(struct ivshm_pipeline *pipeline, uint32_t *len);

/* Consumer: how many bytes wait, at least, from the next chunk on. */
uint64_t ivshm_pipeline_waiting(const struct ivshm_pipeline *pipeline);

/* The chunk peeked at is empty again. */
void ivshm_pipeline_consume_spsc(struct ivshm_pipeline *pipeline);

/* Producer: whether all that was published has been emptied. */
bool ivshm_pipeline_is_drained(const struct ivshm_pipeline *pipeline);

/* Owner: empties the pipeline, which begins anew. The other side must be done with it. */
void ivshm_pipeline_reset(struct ivshm_pipeline *pipeline);

#endif
