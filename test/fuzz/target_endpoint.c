/* SPDX-License-Identifier: mpich2 */
/* Tables that a peer may have written: endpoints, attachments, extents. */
#include "fuzz.h"

static struct ivshm_region *region;
static struct ivshm_endpoint self;
static struct ivshm_owner owners[PARTIES];

static struct ivshm_owner take_owner(struct input *in)
{
    unsigned which = (unsigned) take(in, 1);
    struct ivshm_owner owner = owners[which % PARTIES];
    if (which >= 128)
        owner.endpoint = which % (region->geo.endpoints + 1);
    owner.generation += which / 8 % 2;
    return owner;
}

/* The size of some extent, or any number. */
static uint64_t take_bytes(struct input *in)
{
    const uint64_t sizes[] = {1, region->geo.block_size, region->geo.pipeline_bytes,
                              region->geo.base_bytes, region->geo.size};
    uint64_t which = take(in, 1);
    return which < 128 ? sizes[which % LENGTH(sizes)] : take(in, 8);
}

static bool is_inside(ivshm_off off, uint64_t bytes)
{
    const struct ivshm_geometry *geo = &region->geo;
    return off.bytes >= geo->data && off.bytes <= geo->size && bytes <= geo->size - off.bytes;
}

static void check_info(uint32_t index)
{
    struct ivshm_endpoint_info info;
    struct ivshm_told told;
    int err = ivshm_endpoint_read(region, index, &info);
    must(err == 0 || err == -ENOENT || err == -EAGAIN);
    if (err == 0) {
        must(strnlen(info.job, sizeof(info.job)) < sizeof(info.job));
        must(strnlen(info.process.host, sizeof(info.process.host)) < sizeof(info.process.host));
        must(info.claim.state != IVSHM_CLAIM_FREE);
        ivshm_endpoint_told(region, index, &info, &told);
    }
}

static void call_extent(struct input *in, unsigned op)
{
    struct ivshm_owner owner = take_owner(in);
    enum ivshm_block_kind kind = (enum ivshm_block_kind)(1 + op / 16 % 4);
    struct ivshm_extent_usage usage;
    struct ivshm_block block;
    ivshm_off off;
    uint64_t bytes;

    allow_below(region->geo.data); /* the tables only */
    switch (op % 8) {
    case 0:
        bytes = take_bytes(in);
        if (bytes && ivshm_extent_alloc(region, owner, kind, bytes, &off) == 0)
            must(is_inside(off, bytes) && ivshm_region_resolve(region, off, bytes));
        break;
    case 1:
        off = take_offset(in);
        ivshm_extent_free(region, owner, off, take_bytes(in));
        break;
    case 2:
        off = take_offset(in);
        bytes = take_bytes(in);
        if (ivshm_extent_owned(region, owner, kind, off, bytes))
            must(is_inside(off, bytes) && ivshm_region_resolve(region, off, bytes));
        break;
    case 3:
        off = take_offset(in);
        bytes = take_bytes(in);
        if (ivshm_extent_covers(region, owner, kind, off, bytes))
            must(is_inside(off, bytes));
        break;
    case 4:
        ivshm_extent_can_spare(region, take_bytes(in));
        break;
    case 5:
        must(ivshm_extent_reclaim(region, owner) <= region->geo.blocks);
        break;
    case 6:
        ivshm_extent_usage(region, &usage);
        must(usage.free_blocks + usage.base_blocks + usage.pipeline_blocks + usage.ring_blocks +
                 usage.user_blocks ==
             region->geo.blocks);
        must(ivshm_extent_held(region, owner) <= region->geo.blocks);
        break;
    default:
        if (ivshm_block_decode(region, take(in, 8), &block))
            must(block.owner.endpoint < region->geo.endpoints && block.count <= region->geo.blocks);
    }
}

static void join(void)
{
    struct ivshm_endpoint other;
    struct ivshm_diag diag = {""};
    int err = ivshm_endpoint_join(region, "another", 7, 8, &other, &diag);
    if (err) {
        check_error(err, &diag);
        return;
    }
    must(is_inside(other.base_off, region->geo.base_bytes));
    ivshm_endpoint_publish(&other, NULL);
    ivshm_endpoint_leave(&other);
}

static void attach(struct input *in)
{
    struct ivshm_owner peer = take_owner(in);
    struct ivshm_diag diag = {""};
    void *base;
    int err = ivshm_endpoint_attach(&self, peer, &base, &diag);
    if (err)
        check_error(err, &diag);
    else
        must(is_inside((ivshm_off){(uint64_t) ((char *) base - (char *) region->map.base)},
                       region->geo.base_bytes));
}

static void call(struct input *in, unsigned op)
{
    struct ivshm_reaped reaped;
    struct ivshm_diag diag = {""};
    uint32_t entry;

    allow(2 * table_limit(region), false);
    if (op & 8) {
        call_extent(in, op);
        return;
    }
    switch (op % 8) {
    case 0:
        check_info((uint32_t) take(in, 1) % region->geo.endpoints);
        break;
    case 1:
    case 2:
        attach(in);
        break;
    case 3:
        ivshm_endpoint_reap(region, &self.process, &reaped);
        must(reaped.endpoints + reaped.waiting <= region->geo.endpoints);
        break;
    case 4:
        ivshm_endpoint_watch(region, &self.process);
        entry = ivshm_endpoint_crowd(&self).here;
        must(entry <= region->geo.endpoints);
        break;
    case 5:
        join();
        break;
    case 6:
        must(ivshm_endpoint_describe_no_memory(region, (uint32_t) take(in, 4), &diag) == -ENOSPC &&
             diag.text[0]);
        break;
    default:
        entry = (uint32_t) take(in, 1) % region->geo.endpoints;
        ivshm_endpoint_is_live(region, (struct ivshm_owner){entry, 1});
        ivshm_endpoint_find(region, (struct ivshm_owner){entry, 1}, ivshm_endpoint_seal(&self));
        ivshm_endpoint_detach(&self, entry);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    struct world *w = world_begin(PLAIN);
    region = &w->region;
    self = w->party[OWN].endpoint;
    for (enum party p = 0; p < PARTIES; p++)
        owners[p] = w->party[p].endpoint.owner;
    play(&in, 16, call);
    return 0;
}
