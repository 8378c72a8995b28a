/* SPDX-License-Identifier: mpich2 */
/*
 * The named blocks of libivshmem, as ivshmem ps and reap show them.
 */
#include "ivshmem_tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HOLDERS_SHOWN 8

static const char *block_state(const struct ivshm_named_info *block)
{
    return !block->has_owner                      ? "orphan"
           : block->state == IVSHM_NAMED_LIVE     ? "live"
           : block->state == IVSHM_NAMED_PROPOSED ? "new"
                                                  : "removed";
}

int tool_blocks(const struct ivshm_region *region, struct ivshm_named_info **blocks,
                struct ivshm_diag *diag)
{
    struct ivshm_named_info info, *list = NULL;
    uint64_t index = 0;
    int n = 0;
    while (ivshm_named_next(region, &index, &info)) {
        struct ivshm_named_info *more = realloc(list, (size_t) (n + 1) * sizeof(*list));
        if (!more) {
            free(list);
            return ivshm_diag_fail(diag, ENOMEM, "out of memory for the list of blocks");
        }
        list = more;
        list[n++] = info;
    }
    *blocks = list;
    return n;
}

/* The live processes that hold it, as text. */
static void name_holders(const struct ivshm_region *region, const struct ivshm_named_info *block,
                         char *text, size_t size)
{
    struct ivshm_owner owners[HOLDERS_SHOWN];
    size_t len = 0, count = ivshm_named_holders(region, block->off, owners, HOLDERS_SHOWN);
    snprintf(text, size, "-");
    for (size_t i = 0; i < count && i < HOLDERS_SHOWN; i++)
        len += (size_t) snprintf(text + len, size - len, "%s%u.%u", i ? " " : "",
                                 owners[i].endpoint, owners[i].generation);
    if (count > HOLDERS_SHOWN)
        snprintf(text + len, size - len, " and %zu more", count - HOLDERS_SHOWN);
}

void tool_blocks_text(const struct ivshm_region *region)
{
    struct ivshm_named_info info;
    uint64_t index = 0;
    bool is_first = true;
    while (ivshm_named_next(region, &index, &info)) {
        char creator[32], holders[256];
        if (is_first)
            printf("\n%-24s %10s  %-7s  %8s  %s\n", "BLOCK", "SIZE", "STATE", "CREATOR", "HELD BY");
        is_first = false;
        snprintf(creator, sizeof(creator), "%u.%u", info.owner.endpoint, info.owner.generation);
        name_holders(region, &info, holders, sizeof(holders));
        printf("%-24s %10s  %-7s  %8s  %s\n", tool_printable(info.name), tool_size(info.bytes),
               block_state(&info), creator, holders);
    }
}

void tool_blocks_json(const struct ivshm_region *region)
{
    struct ivshm_named_info info;
    uint64_t index = 0;
    bool is_first = true;
    struct ivshm_owner *owners = calloc(ivshm_region_endpoints(region), sizeof(*owners));
    size_t max = owners ? ivshm_region_endpoints(region) : 0;
    while (ivshm_named_next(region, &index, &info)) {
        size_t count = ivshm_named_holders(region, info.off, owners, max);
        printf("%s\n {\"name\": ", is_first ? "" : ",");
        is_first = false;
        tool_print_json(info.name);
        printf(", \"bytes\": %llu, \"state\": \"%s\", \"endpoint\": %u, \"generation\": %u, "
               "\"since\": %llu, \"holders\": [",
               (unsigned long long) info.bytes, block_state(&info), info.owner.endpoint,
               info.owner.generation, (unsigned long long) info.created);
        for (size_t i = 0; i < count && i < max; i++)
            printf("%s{\"endpoint\": %u, \"generation\": %u}", i ? ", " : "", owners[i].endpoint,
                   owners[i].generation);
        printf("]}");
    }
    free(owners);
}

static bool is_there(const struct ivshm_region *region, const struct ivshm_named_info *block)
{
    struct ivshm_named_info info;
    uint64_t index = 0;
    while (ivshm_named_next(region, &index, &info))
        if (info.off.bytes == block->off.bytes && info.owner.endpoint == block->owner.endpoint &&
            info.owner.generation == block->owner.generation)
            return true;
    return false;
}

void tool_blocks_report(const struct ivshm_region *region, const struct ivshm_named_info *blocks,
                        int count)
{
    for (int i = 0; i < count; i++)
        if (!is_there(region, &blocks[i]))
            printf("freed block %s of endpoint %u: %s\n", tool_printable(blocks[i].name),
                   blocks[i].owner.endpoint, tool_size(blocks[i].bytes));
}
