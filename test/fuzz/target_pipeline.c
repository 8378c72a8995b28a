/* SPDX-License-Identifier: mpich2 */
/* A pipeline whose other side is hostile, as the sender or as the receiver. */
#include "fuzz.h"

static const struct world *world;
static struct ivshm_region *region;
static struct ivshm_pipeline pipeline; /* ours, or one that HOSTILE provides */

static void check_chunk(const unsigned char *chunk, uint32_t len)
{
    const struct ivshm_geometry *geo = &region->geo;
    uint64_t from = (uint64_t) (chunk - (const unsigned char *) pipeline.words);
    must(from >= geo->chunk_data && from % geo->chunk_size == geo->chunk_data % geo->chunk_size);
    must(len <= geo->chunk_size && from + geo->chunk_size <= geo->pipeline_bytes);
}

static void call(struct input *in, unsigned op)
{
    static unsigned char copy[64 << 10];
    struct ivshm_owner self = world->party[OWN].endpoint.owner;
    struct ivshm_diag diag = {""};
    struct ivshm_pipeline other;
    unsigned char *chunk;
    const unsigned char *filled;
    uint32_t len;

    allow(message_limit(region), false);
    switch (op % 8) {
    case 0:
    case 1:
        filled = ivshm_pipeline_peek_spsc(&pipeline, &len, NULL);
        if (!filled)
            break;
        check_chunk(filled, len);
        memcpy(copy, filled, len);
        /* Many chunks behind it, or few: as far as there are so many. */
        filled = ivshm_pipeline_peek_behind_spsc(&pipeline, 1U << op / 8 % 32, &len);
        if (filled) {
            check_chunk(filled, len);
            memcpy(copy, filled, len);
        }
        ivshm_pipeline_consume_spsc(&pipeline);
        break;
    case 2:
    case 3:
        chunk = ivshm_pipeline_reserve_spsc(&pipeline);
        if (!chunk)
            break;
        len = 1 + (uint32_t) take(in, 2) % pipeline.size;
        check_chunk(chunk, len);
        memset(chunk, 1, len);
        must(ivshm_pipeline_room_spsc(&pipeline, UINT32_MAX) <= pipeline.count - pipeline.next);
        ivshm_pipeline_publish_spsc(&pipeline, len, 0);
        break;
    case 4:
        ivshm_pipeline_is_drained(&pipeline);
        must(ivshm_pipeline_waiting(&pipeline) <= (uint64_t) pipeline.count * pipeline.size);
        break;
    case 5:
        ivshm_pipeline_reset(&pipeline);
        break;
    case 6: {
        enum party owner = (enum party)(op / 8 % PARTIES);
        ivshm_off off = take_offset(in);
        int err = ivshm_pipeline_attach(region, world->party[owner].endpoint.owner, off,
                                        op / 8 / PARTIES, &other, &diag);
        if (err)
            check_error(err, &diag);
        else {
            must(!is_quiet() ||
                 ivshm_extent_owned(region, world->party[owner].endpoint.owner, IVSHM_KIND_PIPELINE,
                                    off, region->geo.pipeline_bytes));
            pipeline = other;
        }
        break;
    }
    default:
        if (ivshm_pipeline_alloc(region, self, &other) == 0) {
            ivshm_pipeline_free(region, self, &pipeline); /* which may not be ours */
            pipeline = other;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    struct world *w = world_begin(PLAIN);
    world = w;
    region = &w->region;
    pipeline = w->pipeline[take(&in, 1) % PARTIES];
    play(&in, 64, call);
    return 0;
}
