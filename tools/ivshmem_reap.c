/* SPDX-License-Identifier: mpich2 */
/*
 * ivshmem reap: takes back by hand what every join takes back, and says what it left and why.
 */
#include "ivshmem_tool.h"

#include <stdlib.h>
#include <string.h>

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
    } else if (tool_doubt(e))
        printf("left  %s: %s\n", tool_describe(e), tool_doubt(e));
    else
        printf("left  %s: alive\n", tool_describe(e));
    return false;
}

static bool is_endpoint(const struct tool_entry *e, const char *id)
{
    char endpoint[24];
    snprintf(endpoint, sizeof(endpoint), "%u.%u", e->index, e->info.claim.generation);
    return strcmp(id, endpoint) == 0;
}

/*
 * Whether `id` names the entry's VM or container: by its host name or uuid, or by the endpoint that
 * ran there.
 */
static bool is_of(const struct tool_entry *e, const char *id)
{
    return *id && (is_endpoint(e, id) ||
                   (e->known && (strcmp(id, e->info.process.host) == 0 ||
                                 strcasecmp(id, tool_uuid(e->info.process.vm_uuid)) == 0)));
}

/* An administrator's word that processes have ended does not count for those that are seen alive.
 */
static int declare(struct ivshm_region *region, const struct tool_entry *list, int n,
                   const bool *gone)
{
    for (int i = 0; i < n; i++)
        if (gone[i] && list[i].verdict == IVSHM_ALIVE)
            return tool_error("%s is alive, and uses its memory: end it, then say that it is gone",
                              tool_describe(&list[i]));
    for (int i = 0; i < n; i++)
        if (gone[i])
            ivshm_endpoint_declare_dead(region, list[i].index, list[i].info.claim);
    return TOOL_OK;
}

/* Marks as dead all that ran in a VM, of which an administrator says that it will not come back. */
static int declare_vm(struct ivshm_region *region, const struct tool_entry *list, int n,
                      const char *id, bool *gone)
{
    const struct tool_entry *first = NULL;
    for (int i = 0; i < n; i++) {
        if (!is_of(&list[i], id))
            continue;
        if (!first)
            first = &list[i];
        if (list[i].known && first->known &&
            memcmp(list[i].info.process.vm_uuid, first->info.process.vm_uuid,
                   sizeof(first->info.process.vm_uuid)) != 0)
            return tool_error("two VMs are named %s: say which by its uuid, see `ivshmem ps --json "
                              "%s`",
                              id, region->map.name);
    }
    if (!first)
        return tool_error(
            "no endpoint of region %s is of a VM %s: it is named by its host name, its "
            "uuid or one of its endpoints, as `ivshmem ps --json` shows them",
            region->map.name, id);
    if (first->place == IVSHM_PLACE_CONTAINER)
        return tool_error("%s is a container of this machine, which is here: if it has ended, "
                          "`ivshmem reap --container-gone %s`",
                          id, id);
    if (first->place == IVSHM_PLACE_HERE)
        return tool_error(
            "%s is this machine, which is here: `ivshmem reap` without --vm-gone tells "
            "who of its processes is dead",
            id);
    /* And those who had no time to say more than the hash of where they are. */
    for (int i = 0; i < n; i++)
        gone[i] =
            is_of(&list[i], id) || (!list[i].known && list[i].place == IVSHM_PLACE_ELSEWHERE &&
                                    list[i].info.claim.host_hash == first->info.claim.host_hash);
    return declare(region, list, n, gone);
}

/* The same of a container: all that ran in one pid namespace of this machine. */
static int declare_container(struct ivshm_region *region, const struct tool_entry *list, int n,
                             const char *id, bool *gone)
{
    const struct tool_entry *first = NULL;
    for (int i = 0; i < n; i++) {
        if (!is_of(&list[i], id) || list[i].place != IVSHM_PLACE_CONTAINER)
            continue;
        if (first && first->info.process.pid_ns != list[i].info.process.pid_ns)
            return tool_error("two containers are named %s: say which by one of its endpoints, see "
                              "`ivshmem ps %s`",
                              id, region->map.name);
        first = &list[i];
    }
    if (!first)
        return tool_error(
            "no endpoint of region %s is of another container %s of this machine: it "
            "is named by its host name or one of its endpoints, as `ivshmem ps` shows "
            "them; for a single process there is --endpoint",
            region->map.name, id);
    for (int i = 0; i < n; i++)
        gone[i] = list[i].place == IVSHM_PLACE_CONTAINER &&
                  list[i].info.process.pid_ns == first->info.process.pid_ns;
    return declare(region, list, n, gone);
}

/* The same of one process. */
static int declare_endpoint(struct ivshm_region *region, const struct tool_entry *list, int n,
                            const char *id, bool *gone)
{
    bool found = false;
    for (int i = 0; i < n; i++)
        found |= gone[i] = is_endpoint(&list[i], id);
    if (!found)
        return tool_error("region %s has no endpoint %s: name it with its generation, as `ivshmem "
                          "ps` shows it",
                          region->map.name, id);
    return declare(region, list, n, gone);
}

int tool_reap(const struct tool_options *opt)
{
    struct ivshm_diag diag = {""};
    struct ivshm_region region;
    struct ivshm_process self;
    struct ivshm_reaped reaped;
    struct tool_entry *before = NULL;
    bool *gone = NULL;
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
    gone = calloc((size_t) n + 1, sizeof(*gone));
    if (!gone)
        status = tool_error("out of memory");
    else if (opt->vm_gone)
        status = declare_vm(&region, before, n, opt->vm_gone, gone);
    else if (opt->container_gone)
        status = declare_container(&region, before, n, opt->container_gone, gone);
    else if (opt->endpoint)
        status = declare_endpoint(&region, before, n, opt->endpoint, gone);
    if (status != TOOL_OK)
        goto close;
    ivshm_endpoint_reap(&region, &self, &reaped);
    for (int i = 0; i < n; i++)
        freed += report(&region, &before[i]);
    printf("%s: freed %d of %d endpoints and %s\n", region.map.name, freed, n,
           tool_size(reaped.blocks * region.geo.block_size));
close:
    free(gone);
    free(before);
    ivshm_region_close(&region);
    return status;
}
