/* SPDX-License-Identifier: mpich2 */
#include "pipeline.h"
#include "tracepoint.h"

#include <errno.h>
#include <string.h>

static bool bind_pipeline(struct ivshm_region *region, ivshm_off off,
                          struct ivshm_pipeline *pipeline)
{
    const struct ivshm_geometry *geo = &region->geo;
    char *base = ivshm_region_resolve(region, off, geo->pipeline_bytes);
    if (!base)
        return false;
    *pipeline = (struct ivshm_pipeline){
        .words = (struct ivshm_chunk_word_shm *) base,
        .chunks = (unsigned char *) base + geo->chunk_data,
        .count = geo->pipeline_chunks,
        .size = geo->chunk_size,
        .off = off,
    };
    return true;
}

int ivshm_pipeline_alloc(struct ivshm_region *region, struct ivshm_owner self,
                         struct ivshm_pipeline *pipeline)
{
    ivshm_off off;
    int err =
        ivshm_extent_alloc(region, self, IVSHM_KIND_PIPELINE, region->geo.pipeline_bytes, &off);
    if (err)
        return err;
    IVSHM_TRACEPOINT(pipeline_allocated);
    bind_pipeline(region, off, pipeline);
    ivshm_pipeline_reset(pipeline);
    return 0;
}

void ivshm_pipeline_free(struct ivshm_region *region, struct ivshm_owner self,
                         struct ivshm_pipeline *pipeline)
{
    ivshm_extent_free(region, self, pipeline->off, region->geo.pipeline_bytes);
}

int ivshm_pipeline_attach(struct ivshm_region *region, struct ivshm_owner owner, ivshm_off off,
                          uint32_t first, struct ivshm_pipeline *pipeline, struct ivshm_diag *diag)
{
    if (first >= region->geo.pipeline_chunks ||
        !ivshm_extent_owned(region, owner, IVSHM_KIND_PIPELINE, off, region->geo.pipeline_bytes) ||
        !bind_pipeline(region, off, pipeline))
        return ivshm_diag_fail(diag, EBADMSG,
                               "endpoint %u provided a pipeline at offset %llu, from chunk %u on, "
                               "but has no such pipeline",
                               owner.endpoint, (unsigned long long) off.bytes, first);
    pipeline->next = first;
    return 0;
}

/* Producer. */
static bool was_read(const struct ivshm_pipeline *pipeline, uint32_t chunk)
{
    return ivshm_a64_load_acquire(&pipeline->words[chunk].len) == 0; /* acquire L2 */
}

uint32_t ivshm_pipeline_room_spsc(const struct ivshm_pipeline *pipeline, uint32_t most)
{
    uint32_t n = 0;
    while (n < most && pipeline->next + n < pipeline->count &&
           was_read(pipeline, pipeline->next + n))
        n++;
    return n;
}

unsigned char *ivshm_pipeline_reserve_spsc(struct ivshm_pipeline *pipeline)
{
    return ivshm_pipeline_room_spsc(pipeline, 1)
               ? pipeline->chunks + (uint64_t) pipeline->next * pipeline->size
               : NULL;
}

static uint32_t chunk_after(const struct ivshm_pipeline *pipeline, uint32_t chunk)
{
    return chunk + 1 == pipeline->count ? 0 : chunk + 1;
}

static void advance_chunk(struct ivshm_pipeline *pipeline)
{
    pipeline->next = chunk_after(pipeline, pipeline->next);
}

void ivshm_pipeline_publish_spsc(struct ivshm_pipeline *pipeline, uint32_t len, uint32_t note)
{
    const uint64_t word = len | (uint64_t) note << 32;
    IVSHM_TRACEPOINT(pipeline_publish);
    ivshm_a64_store_release(&pipeline->words[pipeline->next].len, word); /* release L1 */
    advance_chunk(pipeline);
}

static const unsigned char *peek_at(const struct ivshm_pipeline *pipeline, uint32_t chunk,
                                    uint32_t *len, uint32_t *note)
{
    uint64_t found = ivshm_a64_load_acquire(&pipeline->words[chunk].len); /* acquire L1 */
    if (found == 0)
        return NULL;
    *len = (uint32_t) found <= pipeline->size ? (uint32_t) found : 0;
    if (note)
        *note = (uint32_t) (found >> 32 & 0xff);
    return pipeline->chunks + (uint64_t) chunk * pipeline->size;
}

const unsigned char *ivshm_pipeline_peek_spsc(struct ivshm_pipeline *pipeline, uint32_t *len,
                                              uint32_t *note)
{
    return peek_at(pipeline, pipeline->next, len, note);
}

const unsigned char *ivshm_pipeline_peek_behind_spsc(const struct ivshm_pipeline *pipeline,
                                                     uint32_t behind, uint32_t *len)
{
    return behind < pipeline->count
               ? peek_at(pipeline, (pipeline->next + behind) % pipeline->count, len, NULL)
               : NULL;
}

uint64_t ivshm_pipeline_waiting(const struct ivshm_pipeline *pipeline)
{
    uint64_t bytes = 0, len;
    for (uint32_t n = 0, i = pipeline->next; n < pipeline->count;
         n++, i = chunk_after(pipeline, i)) {
        /* Relaxed: nothing is read yet. */
        len = (uint32_t) ivshm_a64_load_relaxed(&pipeline->words[i].len);
        if (len == 0 || len > pipeline->size)
            break;
        bytes += len;
    }
    return bytes;
}

void ivshm_pipeline_consume_spsc(struct ivshm_pipeline *pipeline)
{
    IVSHM_TRACEPOINT(pipeline_consume);
    ivshm_a64_store_release(&pipeline->words[pipeline->next].len, 0); /* release L2 */
    advance_chunk(pipeline);
}

bool ivshm_pipeline_is_drained(const struct ivshm_pipeline *pipeline)
{
    uint32_t last = (pipeline->next == 0 ? pipeline->count : pipeline->next) - 1;
    return ivshm_a64_load_acquire(&pipeline->words[last].len) ==
           0; /* acquire L2: read, as are those before it */
}

void ivshm_pipeline_reset(struct ivshm_pipeline *pipeline)
{
    /* Relaxed: the other side learns of the pipeline by a message, which releases them. */
    for (uint32_t i = 0; i < pipeline->count; i++)
        ivshm_a64_store_relaxed(&pipeline->words[i].len, 0);
    pipeline->next = 0;
}
