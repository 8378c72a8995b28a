/* SPDX-License-Identifier: mpich2 */
/*
 * ivshmem reap: takes back by hand what every join takes back, and says what it left and why.
 */
#include "ivshmem_tool.h"

#include <stdlib.h>

/* The live endpoints that are attached to entry `index`, as text; empty if none is. */
static void name_attached(const struct ivshm_region *region, uint32_t index, char *text,
                          size_t size)
{
    const struct ivshm_geometry *geo = &region->geo;
    size_t len = 0;
    text[0] = 0;
    for (uint32_t i = 0; i < geo->endpoints && len < size; i++) {
        struct ivshm_endpoint_info info;
        if (i == index || ivshm_endpoint_read(region, i, &info) != 0 ||
            info.claim.state != IVSHM_LIVE ||
            !ivshm_extent_owned(region, (struct ivshm_owner){i, info.claim.generation},
                                IVSHM_KIND_BASE, info.base, geo->base_bytes))
            continue;
        const char *base = ivshm_resolve(region, info.base, geo->base_bytes);
        const ivshm_a64 *bits = (const ivshm_a64 *) (base + geo->attached);
        if (ivshm_load64_relaxed(&bits[index / 64]) >> (index % 64) & 1)
            len += (size_t) snprintf(text + len, size - len, "%s%u", len ? ", " : "", i);
    }
}

/* Says what became of `e`; returns whether it was freed. */
static bool report(const struct ivshm_region *region, const struct tool_entry *e)
{
    struct ivshm_claim now = ivshm_endpoint_claim(region, e->index);
    char attached[64];
    if (now.generation != e->info.claim.generation || now.state == IVSHM_FREE) {
        printf("freed %s: %s\n", tool_describe(e), tool_size(e->held));
        return true;
    }
    if (now.state == IVSHM_DEAD) {
        name_attached(region, e->index, attached, sizeof(attached));
        printf(
            "left  %s: dead, but endpoint %s is attached to it; its %s return when that leaves\n",
            tool_describe(e), attached[0] ? attached : "another", tool_size(e->held));
    } else if (e->verdict == IVSHM_UNKNOWN)
        printf("left  %s: it runs in another VM or container, if it runs; `ivshmem reap` there can "
               "tell\n",
               tool_describe(e));
    else
        printf("left  %s: alive\n", tool_describe(e));
    return false;
}

int tool_reap(const struct tool_options *opt)
{
    struct ivshm_diag diag = {""};
    struct ivshm_region region;
    struct ivshm_process self;
    struct ivshm_reaped reaped;
    struct tool_entry *before = NULL;
    char name[sizeof(region.map.name)];
    /* Looked at first: what is no region yet is not made one here. */
    if (ivshm_region_inspect(opt->region, &region, &diag) != 0)
        return tool_error("%s", diag.text);
    snprintf(name, sizeof(name), "%s", region.map.name);
    ivshm_region_close(&region);
    if (ivshm_region_open(name, &region, &diag) != 0)
        return tool_error("%s", diag.text);

    int status = TOOL_OK, freed = 0, n = tool_entries(&region, &before, &diag);
    if (n < 0 || ivshm_process_self(&self, &diag) != 0) {
        status = tool_error("%s", diag.text);
        goto close;
    }
    ivshm_endpoint_reap(&region, &self, &reaped);
    for (int i = 0; i < n; i++)
        freed += report(&region, &before[i]);
    printf("%s: freed %d of %d endpoints and %s\n", region.map.name, freed, n,
           tool_size(reaped.blocks * region.geo.block_size));
close:
    free(before);
    ivshm_region_close(&region);
    return status;
}
