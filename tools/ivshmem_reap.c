/* SPDX-License-Identifier: mpich2 */
/*
 * ivshmem reap: frees by hand what every join frees, and what has leaked, and says what it left and
 * why.
 */
#include "ivshmem_tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The live endpoints that are attached to entry `index`, as text; empty if none is. */
static void name_attached(const struct ivshm_region *region, uint32_t index, char *text,
                          size_t size)
{
    const struct ivshm_geometry *geo = ivshm_region_geometry(region);
    size_t len = 0;
    text[0] = 0;
    for (uint32_t i = 0; i < geo->endpoints && len < size; i++) {
        struct ivshm_endpoint_info info;
        if (i == index || ivshm_endpoint_read(region, i, &info) != 0 ||
            info.claim.state != IVSHM_CLAIM_LIVE ||
            !ivshm_extent_owned(region, (struct ivshm_owner){i, info.claim.generation},
                                IVSHM_KIND_BASE, info.base, geo->base_bytes))
            continue;
        const char *base = ivshm_region_resolve(region, info.base, geo->base_bytes);
        const ivshm_a64 *bits = (const ivshm_a64 *) (base + geo->attached);
        if (ivshm_a64_load_relaxed(&bits[index / 64]) >> (index % 64) & 1)
            len += (size_t) snprintf(text + len, size - len, "%s%u", len ? ", " : "", i);
    }
}

/* Prints what happened to `e`; returns whether it was freed. */
static bool report_entry(const struct ivshm_region *region, const struct tool_entry *e)
{
    struct ivshm_claim now = ivshm_endpoint_claim(region, e->index);
    char attached[64];
    if (now.generation != e->info.claim.generation || now.state == IVSHM_CLAIM_FREE) {
        printf("freed %s: %s\n", tool_describe(e), tool_size(e->held));
        return true;
    }
    if (now.state == IVSHM_CLAIM_DEAD) {
        name_attached(region, e->index, attached, sizeof(attached));
        printf("left  %s: dead, but endpoint %s is still attached; its %s will be freed when that "
               "endpoint leaves\n",
               tool_describe(e), attached[0] ? attached : "(unknown)", tool_size(e->held));
    } else if (tool_why_unknown(e))
        printf("left  %s: %s\n", tool_describe(e), tool_why_unknown(e));
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
    return *id && e->known &&
           (is_endpoint(e, id) || strcmp(id, e->info.process.host) == 0 ||
            strcasecmp(id, tool_uuid(e->info.process.vm_uuid)) == 0);
}

/* Whether `id` is an endpoint that has recorded neither a VM nor a container. */
static bool is_nowhere(const struct tool_entry *list, int n, const char *id)
{
    int i = 0;
    while (i < n && (list[i].known || !is_endpoint(&list[i], id)))
        i++;
    return i < n;
}

/* Marks those that `id` names; returns the first of them, or NULL. */
static const struct tool_entry *mark_named(struct tool_entry *list, int n, const char *id)
{
    const struct tool_entry *first = NULL;
    for (int i = n - 1; i >= 0; i--)
        if ((list[i].named = is_of(&list[i], id)))
            first = &list[i];
    return first;
}

/* A declaration that processes have ended is refused if one of them is seen alive. */
static int declare_marked(struct ivshm_region *region, const struct tool_entry *list, int n)
{
    for (int i = 0; i < n; i++)
        if (list[i].gone && list[i].liveness == IVSHM_LIVENESS_ALIVE)
            return tool_error("%s is alive and uses its memory: end it first",
                              tool_describe(&list[i]));
    for (int i = 0; i < n; i++)
        if (list[i].gone)
            ivshm_endpoint_declare_dead(region, list[i].index, list[i].info.claim);
    return TOOL_OK;
}

/* Whether the two may be of one boot of one VM; an entry without an identity is alone. */
static bool may_be_one(const struct tool_entry *a, const struct tool_entry *b)
{
    return a == b || (a->known && b->known &&
                      ivshm_process_may_share_boot(&a->info.process, &b->info.process));
}

/* Whether it runs, or would run, on this machine. */
static bool is_here(const struct tool_entry *e)
{
    return e->locality == IVSHM_LOCALITY_HERE || e->locality == IVSHM_LOCALITY_CONTAINER;
}

/* Lists, of those that are marked, one endpoint of each VM and boot, by which to name it. */
static int report_which(const struct tool_entry *list, int n, const char *id)
{
    enum { MAX = 8 };
    const struct tool_entry *found[MAX];
    int count = 0;
    char text[MAX * 160];
    size_t len = 0;
    for (int i = 0; i < n && count < MAX; i++) {
        bool is_new = false; /* an entry that may be of all of them says nothing */
        for (int j = 0; j < n && list[i].gone && !is_new; j++)
            is_new = list[j].gone && !may_be_one(&list[i], &list[j]);
        for (int j = 0; j < count; j++)
            is_new = is_new && !may_be_one(&list[i], found[j]);
        if (!is_new)
            continue;
        const struct ivshm_process *p = &list[i].info.process;
        const char *uuid = tool_uuid(p->vm_uuid);
        len += (size_t) snprintf(text + len, sizeof(text) - len, "%s%u.%u (uuid %s,",
                                 count ? ", " : "", list[i].index, list[i].info.claim.generation,
                                 *uuid ? uuid : "unknown");
        const char *boot = tool_uuid(p->boot_id);
        len += (size_t) snprintf(text + len, sizeof(text) - len, " boot %s%s)",
                                 *boot ? boot : "unknown",
                                 is_here(&list[i]) ? ", on this machine" : "");
        found[count++] = &list[i];
    }
    return tool_error(
        "%s matches several VMs, or several boots of one VM: name the one that is gone "
        "by one of these endpoints: %s%s",
        id, text, count == MAX ? ", ..." : "");
}

/*
 * Marks what ran in the VM of those that are named. What may as well have run in another one, or
 * here, is not of it: a process may know less of its VM than another there.
 */
static bool mark_vm(struct tool_entry *list, int n, const struct tool_entry *target)
{
    for (int i = 0; i < n; i++) {
        list[i].gone = list[i].named;
        for (int j = 0; j < n && !list[i].gone; j++)
            list[i].gone = list[j].named && may_be_one(&list[i], &list[j]);
    }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++)
            if (list[i].gone && list[j].gone && !may_be_one(&list[i], &list[j]))
                return false;
    for (int i = 0; i < n; i++) {
        if (!list[i].gone || list[i].named)
            continue;
        bool is_other = is_here(&list[i]);
        for (int j = 0; j < n && !is_other; j++)
            is_other = may_be_one(&list[i], &list[j]) && !may_be_one(&list[j], target);
        list[i].gone = !is_other;
    }
    return true;
}

/*
 * Marks those that have recorded only a hash of where they run, if it is the hash of the marked
 * ones and of nobody else.
 */
static void mark_joiners(struct tool_entry *list, int n)
{
    for (int i = 0; i < n; i++) {
        uint32_t hash = list[i].info.claim.host_hash;
        if (list[i].gone || list[i].known || hash == 0 || is_here(&list[i]))
            continue;
        bool is_of_them = false, is_of_others = false;
        for (int j = 0; j < n; j++) {
            bool has_it = list[j].info.claim.host_hash == hash;
            is_of_them |= has_it && list[j].gone;
            is_of_others |= has_it && list[j].known && !list[j].gone;
        }
        list[i].gone = is_of_them && !is_of_others;
    }
}

/* Marks as dead all that ran in a VM that an administrator has declared gone. */
static int declare_vm(struct ivshm_region *region, struct tool_entry *list, int n, const char *id)
{
    const struct tool_entry *first = mark_named(list, n, id);
    if (!first)
        return tool_error(
            "region %s has no endpoint of a VM %s: name the VM by its host name, its uuid or one "
            "of its endpoints, as `ivshmem ps --json` shows them",
            ivshm_region_name(region), id);
    if (!mark_vm(list, n, first))
        return report_which(list, n, id);
    /* All that are named are of one boot: if one is here, it is this machine's. */
    for (int i = 0; i < n; i++) {
        if (list[i].named && list[i].locality == IVSHM_LOCALITY_CONTAINER)
            return tool_error("%s is a container of this machine, not a VM: if it has ended, run "
                              "`ivshmem reap --container-gone %s`",
                              id, id);
        if (list[i].named && list[i].locality == IVSHM_LOCALITY_HERE)
            return tool_error("%s is this machine, which is not gone: run `ivshmem reap` without "
                              "--vm-gone to free "
                              "what its dead processes held",
                              id);
    }
    mark_joiners(list, n);
    return declare_marked(region, list, n);
}

/*
 * Of those that are marked and may run, the ones with another host name than `first`, as text.
 * Containers can share a pid namespace; that one of them has ended says nothing about the others.
 */
static void name_others(const struct tool_entry *list, int n, const struct tool_entry *first,
                        char *text, size_t size)
{
    size_t len = 0;
    text[0] = 0;
    for (int i = 0; i < n && len < size; i++)
        if (list[i].gone && list[i].liveness != IVSHM_LIVENESS_DEAD &&
            strcmp(list[i].info.process.host, first->info.process.host) != 0)
            len += (size_t) snprintf(text + len, size - len, "%s%u.%u", len ? ", " : "",
                                     list[i].index, list[i].info.claim.generation);
}

/* The same of a container: all that ran in one pid namespace of this machine. */
static int declare_container(struct ivshm_region *region, struct tool_entry *list, int n,
                             const char *id)
{
    const struct tool_entry *first = NULL;
    char others[256];
    mark_named(list, n, id);
    for (int i = 0; i < n; i++) {
        if (!list[i].named || list[i].locality != IVSHM_LOCALITY_CONTAINER)
            continue;
        if (first && first->info.process.pid_ns != list[i].info.process.pid_ns)
            return tool_error("two containers are named %s: name one of its endpoints instead, as "
                              "`ivshmem ps %s` shows them",
                              id, ivshm_region_name(region));
        first = &list[i];
    }
    if (!first)
        return tool_error(
            "region %s has no endpoint of another container %s of this machine: name the "
            "container by its host name or one of its endpoints, as `ivshmem ps` shows them; for a "
            "single process use --endpoint",
            ivshm_region_name(region), id);
    for (int i = 0; i < n; i++)
        list[i].gone = list[i].locality == IVSHM_LOCALITY_CONTAINER &&
                       list[i].info.process.pid_ns == first->info.process.pid_ns;
    name_others(list, n, first, others, sizeof(others));
    if (*others)
        return tool_error(
            "%s shares its pid namespace with containers of other names, which may be "
            "running: endpoints %s; end them all, or name each process of %s that has "
            "ended with `ivshmem reap --endpoint`",
            id, others, id);
    mark_joiners(list, n);
    return declare_marked(region, list, n);
}

/* The same of one process. */
static int declare_endpoint(struct ivshm_region *region, struct tool_entry *list, int n,
                            const char *id)
{
    bool found = false;
    for (int i = 0; i < n; i++)
        found |= list[i].gone = is_endpoint(&list[i], id);
    if (!found)
        return tool_error("region %s has no endpoint %s: name it with its generation, as `ivshmem "
                          "ps` shows it",
                          ivshm_region_name(region), id);
    return declare_marked(region, list, n);
}

/*
 * Frees blocks of claims that are over, and returns their number: somebody's who was declared
 * dead, took more, and ended since; or what a stray store left. Who takes a block has its claim
 * already, and the acquire of the block shows it. So an owner that is over after that has freed the
 * block meanwhile, and the CAS fails, or has no right to it.
 */
static uint64_t reap_leaked(struct ivshm_region *region)
{
    uint64_t freed = 0;
    for (uint64_t i = ivshm_region_blocks(region); i-- > 0;) { /* the last first, as in extent.c */
        uint64_t word = ivshm_block_load(region, i);
        struct ivshm_block b;
        if (word != 0 && ivshm_block_decode(region, word, &b) && tool_is_over(region, b.owner))
            freed += ivshm_block_free(region, i, word);
    }
    return freed;
}

static int reap_region(const struct tool_options *opt, const char *name)
{
    const char *id = opt->vm_gone ? opt->vm_gone : opt->container_gone;
    struct ivshm_diag diag = {""};
    struct ivshm_region seen, region;
    struct ivshm_process self;
    struct ivshm_reaped reaped;
    struct tool_entry *before = NULL;
    struct ivshm_named_info *blocks = NULL;
    /* First for reading: reap must not format memory that is not a region yet. */
    int err = ivshm_region_inspect(name, &seen, &diag);
    if (err == -EMEDIUMTYPE && opt->all) {
        printf("%s holds no region\n", name);
        return TOOL_OK;
    }
    if (err)
        return tool_error("%s", diag.text);
    err = ivshm_region_open(ivshm_region_name(&seen), &region, &diag);
    ivshm_region_close(&seen);
    if (err)
        return tool_error("%s", diag.text);

    int status = TOOL_OK, freed = 0, n = tool_entries(&region, &before, &diag);
    int block_count = n < 0 ? n : tool_blocks(&region, &blocks, &diag);
    if (block_count < 0 || ivshm_process_self(&self, &diag) != 0) {
        status = tool_error("%s", diag.text);
        goto close;
    }
    if (id && is_nowhere(before, n, id))
        status = tool_error("endpoint %s does not say in which VM or container it runs: if its "
                            "process has ended, `ivshmem reap --endpoint %s` frees it",
                            id, id);
    else if (opt->vm_gone)
        status = declare_vm(&region, before, n, opt->vm_gone);
    else if (opt->container_gone)
        status = declare_container(&region, before, n, opt->container_gone);
    else if (opt->endpoint)
        status = declare_endpoint(&region, before, n, opt->endpoint);
    if (status != TOOL_OK)
        goto close;
    ivshm_endpoint_reap(&region, &self, &reaped);
    uint64_t leaked = reap_leaked(&region);
    for (int i = 0; i < n; i++) {
        bool is_freed = report_entry(&region, &before[i]);
        freed += is_freed;
        if (opt->endpoint && before[i].gone && !is_freed)
            status =
                tool_error("endpoint %s was not freed: its line above says why", opt->endpoint);
    }
    tool_blocks_report(&region, blocks, block_count);
    if (leaked)
        printf("freed %s of leaked memory\n", tool_size(leaked * ivshm_region_block_size(&region)));
    printf("%s: freed %d of %d endpoints and %s\n", ivshm_region_name(&region), freed, n,
           tool_size((reaped.blocks + leaked) * ivshm_region_block_size(&region)));
close:
    free(before);
    free(blocks);
    ivshm_region_close(&region);
    return status;
}

int tool_reap(const struct tool_options *opt)
{
    const struct ivshm_device *devices;
    if (!opt->all)
        return reap_region(opt, opt->region);
    int status = TOOL_OK, n = tool_devices(&devices);
    if (n == 0)
        printf("no ivshmem device (PCI 1af4:1110) on this machine\n");
    for (int i = 0; i < n; i++)
        if (reap_region(opt, devices[i].name) != TOOL_OK)
            status = TOOL_FAILED;
    return status;
}
