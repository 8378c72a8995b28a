/* SPDX-License-Identifier: mpich2 */
/*
 * What all commands know of endpoints, and the words in which they speak of regions. Peers can
 * write any byte into the names in a region: nothing of theirs is printed as it is.
 */
#include "ivshmem_tool.h"

#include <ctype.h>
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

static const char *size_text(double n, int unit, int digits)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    static char buffers[8][32];
    static unsigned next;
    char *buf = buffers[next++ % 8];
    snprintf(buf, sizeof(buffers[0]), "%.*g %s", digits, n, units[unit]);
    return buf;
}

const char *tool_size(uint64_t bytes)
{
    double n = (double) bytes;
    int unit = 0;
    for (; n >= 1024 && unit < 4; n /= 1024)
        unit++;
    return size_text(n, unit, 4);
}

const char *tool_exact_size(uint64_t bytes)
{
    int unit = 0;
    for (; bytes >= 1024 && bytes % 1024 == 0 && unit < 4; bytes /= 1024)
        unit++;
    return size_text((double) bytes, unit, 20);
}

const char *tool_id(const struct ivshm_region *region)
{
    static char id[33];
    const uint64_t *words = ivshm_region_id(region);
    snprintf(id, sizeof(id), "%016llx%016llx", (unsigned long long) words[0],
             (unsigned long long) words[1]);
    return id;
}

const char *tool_uuid(const uint64_t uuid[2])
{
    static char text[37];
    snprintf(text, sizeof(text), "%08x-%04x-%04x-%04x-%012llx", (unsigned) (uuid[0] >> 32),
             (unsigned) (uuid[0] >> 16 & 0xffff), (unsigned) (uuid[0] & 0xffff),
             (unsigned) (uuid[1] >> 48), (unsigned long long) (uuid[1] & 0xffffffffffff));
    return uuid[0] | uuid[1] ? text : "";
}

uint64_t tool_room(const struct ivshm_region *region)
{
    const struct ivshm_geometry *geo = ivshm_region_geometry(region);
    struct ivshm_extent_usage usage;
    uint64_t entries = 0;
    ivshm_extent_usage(region, &usage);
    if (usage.longest_free * geo->block_size < geo->base_bytes)
        return 0;
    for (uint32_t i = 0; i < geo->endpoints; i++)
        entries += ivshm_endpoint_claim(region, i).state == IVSHM_CLAIM_FREE;
    uint64_t memory = usage.free_blocks * geo->block_size / (geo->base_bytes + geo->pipeline_bytes);
    return memory < entries ? memory : entries;
}

const char *tool_why_unknown(const struct tool_entry *e)
{
    if (e->liveness != IVSHM_LIVENESS_UNKNOWN)
        return NULL;
    if (!e->known && e->info.claim.state != IVSHM_CLAIM_JOINING)
        return "its entry is damaged, so its process is unknown; if that process has ended, run "
               "`ivshmem reap --endpoint`";
    if (e->locality == IVSHM_LOCALITY_HERE)
        return "its pid is in use, but /proc does not show whether by the same process; run "
               "`ivshmem reap` as root where /proc shows its pid namespace";
    if (!e->known)
        return "it started to join in another VM or container, and has not recorded which one; run "
               "`ivshmem reap` there, or `ivshmem reap --endpoint` if its process has ended";
    switch (e->locality) {
    case IVSHM_LOCALITY_CONTAINER:
        return "it belongs to another container of this machine; run `ivshmem reap` in that "
               "container, or as root on the machine itself, or `ivshmem reap --container-gone` "
               "if that container has ended";
    default:
        return "it belongs to another VM or container; run `ivshmem reap` there, or `ivshmem reap "
               "--vm-gone` if that VM will never run again";
    }
}

static int by_job(const void *a, const void *b)
{
    const struct tool_entry *x = a, *y = b;
    int order = strcmp(x->info.job, y->info.job);
    if (order)
        return order;
    if (x->info.rank != y->info.rank)
        return x->info.rank < y->info.rank ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

/* A process that is elsewhere is proved dead from here only if its VM is. */
static bool is_vm_gone(const struct tool_entry *e)
{
    return e->liveness == IVSHM_LIVENESS_DEAD && e->info.claim.state != IVSHM_CLAIM_DEAD &&
           e->locality == IVSHM_LOCALITY_ELSEWHERE;
}

static int by_index(const void *index, const void *entry)
{
    const uint32_t a = *(const uint32_t *) index, b = ((const struct tool_entry *) entry)->index;
    return a < b ? -1 : a > b;
}

/* What each entry holds, in one walk over the block map; they are still in order of their index. */
static void count_held(const struct ivshm_region *region, struct tool_entry *list, int n)
{
    for (uint64_t i = 0; i < ivshm_region_blocks(region); i++) {
        const uint64_t word = ivshm_block_load(region, i);
        struct ivshm_block block;
        if (word == 0 || !ivshm_block_decode(region, word, &block))
            continue;
        struct tool_entry *e =
            bsearch(&block.owner.endpoint, list, (size_t) n, sizeof(*list), by_index);
        if (e && e->info.claim.generation == block.owner.generation)
            e->held += ivshm_region_block_size(region);
    }
}

int tool_entries(const struct ivshm_region *region, struct tool_entry **entries,
                 struct ivshm_diag *diag)
{
    struct ivshm_process self;
    struct ivshm_census census = {0};
    struct ivshm_locks locks = {0};
    int err = ivshm_process_self(&self, diag), n = 0;
    if (err)
        return err;
    struct tool_entry *list = calloc(ivshm_region_endpoints(region), sizeof(*list));
    if (!list)
        return ivshm_diag_fail(diag, ENOMEM, "out of memory for %u endpoints",
                               ivshm_region_endpoints(region));
    for (uint32_t i = 0; i < ivshm_region_endpoints(region); i++) {
        struct tool_entry *e = &list[n];
        err = ivshm_endpoint_read(region, i, &e->info);
        if (err == -ENOENT)
            continue;
        if (err) /* it keeps changing: only the claim is certain */
            e->info = (struct ivshm_endpoint_info){.claim = ivshm_endpoint_claim(region, i)};
        e->index = i;
        e->known = !err && e->info.claim.state != IVSHM_CLAIM_JOINING && e->info.named;
        if (!e->known)
            e->info.job[0] = 0;
        e->locality = ivshm_endpoint_locality(region, &self, &e->info);
        e->liveness = ivshm_endpoint_liveness(region, &self, &e->info, &census, &locks);
        e->vm_gone = is_vm_gone(e);
        n++;
    }
    ivshm_census_free(&census);
    ivshm_locks_close(&locks);
    count_held(region, list, n);
    qsort(list, (size_t) n, sizeof(*list), by_job);
    *entries = list;
    return n;
}

const char *tool_printable(const char *text)
{
    static char buffers[2][128];
    static unsigned next;
    char *copy = buffers[next++ % 2];
    snprintf(copy, sizeof(buffers[0]), "%s", text);
    for (char *c = copy; *c; c++)
        if (!isprint((unsigned char) *c))
            *c = '?';
    return copy;
}

const char *tool_describe(const struct tool_entry *e)
{
    static char text[400];
    if (e->known)
        snprintf(text, sizeof(text), "endpoint %u (job %s, rank %u of %u, %s pid %u)", e->index,
                 tool_printable(e->info.job), e->info.rank, e->info.job_size,
                 tool_printable(e->info.process.host), e->info.claim.pid);
    else
        snprintf(text, sizeof(text), "endpoint %u (pid %u)", e->index, e->info.claim.pid);
    return text;
}

void tool_print_json(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        unsigned char c = (unsigned char) *text;
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20 || c > 0x7e) /* one byte a character: valid, whatever the bytes are */
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

const char *tool_user(uid_t uid)
{
    static char number[16];
    const struct passwd *pw = getpwuid(uid);
    snprintf(number, sizeof(number), "%u", uid);
    return pw ? pw->pw_name : number;
}

const char *tool_liveness_name(enum ivshm_liveness liveness)
{
    return liveness == IVSHM_LIVENESS_ALIVE  ? "alive"
           : liveness == IVSHM_LIVENESS_DEAD ? "dead"
                                             : "unknown";
}
