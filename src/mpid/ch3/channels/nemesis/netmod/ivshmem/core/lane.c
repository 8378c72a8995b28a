/* SPDX-License-Identifier: mpich2 */
#include "lane.h"
#include "point.h"

#include <errno.h>
#include <string.h>

static bool bind(struct ivshm_region *region, ivshm_off off, struct ivshm_lane *lane)
{
    const struct ivshm_geometry *geo = &region->geo;
    char *base = ivshm_resolve(region, off, geo->lane_bytes);
    if (!base)
        return false;
    *lane = (struct ivshm_lane){
        .words = (struct ivshm_chunk_word_shm *) base,
        .chunks = (unsigned char *) base + geo->chunk_data,
        .count = geo->lane_chunks,
        .size = geo->chunk_size,
        .off = off,
    };
    return true;
}

int ivshm_lane_alloc(struct ivshm_region *region, struct ivshm_owner self, struct ivshm_lane *lane)
{
    ivshm_off off;
    int err = ivshm_extent_alloc(region, self, IVSHM_KIND_LANE, region->geo.lane_bytes, &off);
    if (err)
        return err;
    IVSHM_POINT(lane_allocated);
    bind(region, off, lane);
    ivshm_lane_reset(lane);
    return 0;
}

void ivshm_lane_free(struct ivshm_region *region, struct ivshm_owner self, struct ivshm_lane *lane)
{
    ivshm_extent_free(region, self, lane->off, region->geo.lane_bytes);
}

int ivshm_lane_attach(struct ivshm_region *region, struct ivshm_owner owner, ivshm_off off,
                      uint32_t first, struct ivshm_lane *lane, struct ivshm_diag *diag)
{
    if (first >= region->geo.lane_chunks ||
        !ivshm_extent_owned(region, owner, IVSHM_KIND_LANE, off, region->geo.lane_bytes) ||
        !bind(region, off, lane))
        return ivshm_fail(diag, EBADMSG,
                          "endpoint %u lent a lane at %llu, from chunk %u, that is not its own",
                          owner.endpoint, (unsigned long long) off.bytes, first);
    lane->next = first;
    return 0;
}

unsigned char *ivshm_lane_reserve_spsc(struct ivshm_lane *lane)
{
    if (ivshm_load64_acquire(&lane->words[lane->next].len) != 0) /* L2: it has been read */
        return NULL;
    return lane->chunks + (uint64_t) lane->next * lane->size;
}

static uint32_t after(const struct ivshm_lane *lane, uint32_t chunk)
{
    return chunk + 1 == lane->count ? 0 : chunk + 1;
}

static void advance(struct ivshm_lane *lane)
{
    lane->next = after(lane, lane->next);
}

void ivshm_lane_publish_spsc(struct ivshm_lane *lane, uint32_t len)
{
    IVSHM_POINT(lane_publish);
    ivshm_store64_release(&lane->words[lane->next].len, len); /* L1 */
    advance(lane);
}

const unsigned char *ivshm_lane_peek_spsc(struct ivshm_lane *lane, uint32_t *len)
{
    uint64_t found = ivshm_load64_acquire(&lane->words[lane->next].len); /* L1 */
    if (found == 0)
        return NULL;
    *len = found <= lane->size ? (uint32_t) found : 0;
    return lane->chunks + (uint64_t) lane->next * lane->size;
}

uint64_t ivshm_lane_waiting(const struct ivshm_lane *lane)
{
    uint64_t bytes = 0, len;
    for (uint32_t n = 0, i = lane->next; n < lane->count; n++, i = after(lane, i)) {
        len = ivshm_load64_relaxed(&lane->words[i].len); /* nothing is read yet */
        if (len == 0 || len > lane->size)
            break;
        bytes += len;
    }
    return bytes;
}

void ivshm_lane_consume_spsc(struct ivshm_lane *lane)
{
    IVSHM_POINT(lane_consume);
    ivshm_store64_release(&lane->words[lane->next].len, 0); /* L2 */
    advance(lane);
}

bool ivshm_lane_is_drained(const struct ivshm_lane *lane)
{
    uint32_t last = (lane->next == 0 ? lane->count : lane->next) - 1;
    return ivshm_load64_acquire(&lane->words[last].len) == 0; /* L2: read, and those before it */
}

void ivshm_lane_reset(struct ivshm_lane *lane)
{
    /* Relaxed: the other side learns of the lane through a message, which releases them. */
    for (uint32_t i = 0; i < lane->count; i++)
        ivshm_store64_relaxed(&lane->words[i].len, 0);
    lane->next = 0;
}
