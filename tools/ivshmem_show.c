/* SPDX-License-Identifier: mpich2 */
/*
 * ivshmem info and ps.
 */
#include "ivshmem_tool.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* info */

static const char *group_name(gid_t gid)
{
    static char number[16];
    const struct group *gr = getgrgid(gid);
    snprintf(number, sizeof(number), "%u", gid);
    return gr ? gr->gr_name : number;
}

struct ivshm_speed tool_speed(const struct ivshm_region *region)
{
    const struct ivshm_map *map = ivshm_region_map(region);
    struct ivshm_speed speed;
    char text[1200];
    ivshm_speed_measure(map, ivshm_region_base(region), false, &speed);
    if (speed.kind != IVSHM_SPEED_CACHED) {
        ivshm_speed_explain(map, &speed, text, sizeof(text));
        tool_warn("%s", text);
    }
    return speed;
}

static void times_json(const char *name, const struct ivshm_speed_times *times)
{
    printf("\"%s\": {\"load\": %.3f, \"stream\": %.3f, \"copy\": %.3f}", name,
           (double) times->load / 1000, (double) times->stream / 1000, (double) times->copy / 1000);
}

static void info_json(const struct ivshm_region *region, const struct stat *st,
                      const struct ivshm_extent_usage *usage, uint32_t in_use)
{
    const struct ivshm_geometry *g = ivshm_region_geometry(region);
    const struct ivshm_map *map = ivshm_region_map(region);
    printf("{\"region\": ");
    tool_print_json(ivshm_region_name(region));
    printf(", \"path\": ");
    tool_print_json(ivshm_map_path(map));
    printf(", \"kind\": \"%s\", \"mapping\": \"%s\", \"page\": %llu, \"size\": %llu, "
           "\"formatted_size\": %llu, \"mode\": \"%04o\",\n",
           ivshm_region_is_device(region) ? "device" : "file", ivshm_map_kind(map),
           (unsigned long long) ivshm_map_page(map), (unsigned long long) ivshm_map_size(map),
           (unsigned long long) g->size, st->st_mode & 07777);
    printf(" \"owner\": ");
    tool_print_json(tool_user(st->st_uid));
    printf(", \"group\": ");
    tool_print_json(group_name(st->st_gid));
    printf(", \"version\": %d, \"id\": \"%s\",\n", IVSHM_VERSION, tool_id(region));
    struct ivshm_speed speed = tool_speed(region);
    printf(" \"access\": {\"kind\": \"%s\", ", ivshm_speed_name(speed.kind));
    times_json("region", &speed.shared);
    printf(", ");
    times_json("own", &speed.own);
    printf("},\n \"geometry\": {\"endpoints\": %u, \"endpoint_table\": %llu, \"blocks\": %llu, "
           "\"block_size\": %llu, \"block_map\": %llu, \"data\": %llu, \"inbox_slots\": %u, "
           "\"small_cells\": %u, \"small_size\": %u, \"large_cells\": %u, \"large_size\": %u, "
           "\"pipeline_chunks\": %u, \"chunk_size\": %u, \"base_bytes\": %llu, \"attached\": %llu, "
           "\"pipeline_bytes\": %llu, \"ring_slots\": %u, \"slot_size\": %u, \"ring_buffers\": %u, "
           "\"buffer_size\": %u, \"ring_bytes\": %llu},\n",
           g->endpoints, (unsigned long long) g->endpoint_table, (unsigned long long) g->blocks,
           (unsigned long long) g->block_size, (unsigned long long) g->block_map,
           (unsigned long long) g->data, g->inbox_slots, g->small_cells, g->small_size,
           g->large_cells, g->large_size, g->pipeline_chunks, g->chunk_size,
           (unsigned long long) g->base_bytes, (unsigned long long) g->attached,
           (unsigned long long) g->pipeline_bytes, g->ring_slots, g->slot_size, g->ring_buffers,
           g->buffer_size, (unsigned long long) g->ring_bytes);
    printf(" \"usage\": {\"endpoints\": %u, \"base_blocks\": %llu, \"pipeline_blocks\": %llu, "
           "\"ring_blocks\": %llu, \"user_blocks\": %llu, "
           "\"free_blocks\": %llu, \"longest_free\": %llu, \"room_for_ranks\": %llu}}\n",
           in_use, (unsigned long long) usage->base_blocks,
           (unsigned long long) usage->pipeline_blocks, (unsigned long long) usage->ring_blocks,
           (unsigned long long) usage->user_blocks, (unsigned long long) usage->free_blocks,
           (unsigned long long) usage->longest_free, (unsigned long long) tool_room(region));
}

static void info_text(const struct ivshm_region *region, const struct stat *st,
                      const struct ivshm_extent_usage *usage, uint32_t in_use)
{
    const struct ivshm_geometry *g = ivshm_region_geometry(region);
    const struct ivshm_map *map = ivshm_region_map(region);
    uint64_t mapped = ivshm_map_size(map);
    uint64_t used = (g->blocks - usage->free_blocks) * g->block_size;
    printf("region     %s (%s, mode %04o, %s:%s)\n", ivshm_region_name(region),
           ivshm_region_is_device(region) ? "device" : "file", st->st_mode & 07777,
           tool_user(st->st_uid), group_name(st->st_gid));
    printf("mapping    %s, pages of %s\n", ivshm_map_kind(map), tool_size(ivshm_map_page(map)));
    struct ivshm_speed speed = tool_speed(region);
    printf("access     %s: %.2f ns for a load, %.2f ns for each of many, %.2f ns for 8 bytes of a "
           "copy; other memory %.2f, %.2f, %.2f ns\n",
           ivshm_speed_name(speed.kind), (double) speed.shared.load / 1000,
           (double) speed.shared.stream / 1000, (double) speed.shared.copy / 1000,
           (double) speed.own.load / 1000, (double) speed.own.stream / 1000,
           (double) speed.own.copy / 1000);
    printf("size       %s", tool_size(mapped));
    if (g->size < mapped)
        printf(", formatted for %s", tool_size(g->size));
    printf("\nid         %s\nlayout     version %d\n", tool_id(region), IVSHM_VERSION);
    printf("endpoints  %u of %u in use\n", in_use, g->endpoints);
    printf("memory     %llu blocks of %s: %s in use (%s in pipelines, %s in rings, %s by "
           "programs), %s free (the largest piece %s)\n",
           (unsigned long long) g->blocks, tool_size(g->block_size), tool_size(used),
           tool_size(usage->pipeline_blocks * g->block_size),
           tool_size(usage->ring_blocks * g->block_size),
           tool_size(usage->user_blocks * g->block_size),
           tool_size(usage->free_blocks * g->block_size),
           tool_size(usage->longest_free * g->block_size));
    printf("a rank     %s: inbox of %u slots, %u cells of %u bytes, %u cells of %s\n",
           tool_size(g->base_bytes), g->inbox_slots, g->small_cells, g->small_size, g->large_cells,
           tool_size(g->large_size));
    printf("a pipeline %s: %u chunks of %s, for one large message at a time\n",
           tool_size(g->pipeline_bytes), g->pipeline_chunks, tool_size(g->chunk_size));
    printf("a ring     %s: %u slots of %u bytes and %u buffers of %u bytes, for each sender and "
           "receiver while there is memory\n",
           tool_size(g->ring_bytes), g->ring_slots, g->slot_size, g->ring_buffers, g->buffer_size);
    printf("room       for %llu more ranks, each with a pipeline\n",
           (unsigned long long) tool_room(region));
}

/* What the device holds, in one word, and in diag in a sentence. */
static const char *device_state(const struct ivshm_device *dev, struct ivshm_region *region,
                                struct ivshm_diag *diag)
{
    int err = ivshm_region_inspect(dev->name, region, diag);
    if (err == 0)
        return "region";
    struct ivshm_map map;
    if (err == -EMEDIUMTYPE && ivshm_map_open(dev->name, true, &map, NULL) == 0) {
        enum ivshm_found found = ivshm_region_probe(&map, NULL);
        ivshm_map_close(&map);
        return found == IVSHM_FOUND_UNFORMATTED ? "unformatted" : "foreign";
    }
    return err == -EACCES ? "forbidden" : "unusable";
}

int tool_devices(const struct ivshm_device **devices)
{
    enum { MAX = 256 };
    static struct ivshm_device list[MAX];
    int n = ivshm_device_list(list, MAX);
    if (n > MAX) {
        tool_warn("this machine has %d devices, and only the first %d are used", n, MAX);
        n = MAX;
    }
    *devices = list;
    return n;
}

static int info_all(bool json)
{
    const struct ivshm_device *devices;
    int n = tool_devices(&devices);
    if (json)
        printf("[");
    else if (n == 0)
        printf("no ivshmem device (PCI 1af4:1110) on this machine\n");
    for (int i = 0; i < n; i++) {
        struct ivshm_diag diag = {""};
        struct ivshm_region region;
        const char *state = device_state(&devices[i], &region, &diag);
        bool is_region = strcmp(state, "region") == 0;
        /* Some devices tell their size only when they are open. */
        uint64_t size = is_region ? ivshm_map_size(ivshm_region_map(&region)) : devices[i].size;
        if (json) {
            printf("%s{\"device\": ", i ? ",\n " : "");
            tool_print_json(devices[i].name);
            printf(", \"kind\": \"%s\", \"size\": %llu, \"state\": \"%s\", ", devices[i].kind,
                   (unsigned long long) size, state);
            if (is_region)
                printf("\"id\": \"%s\"}", tool_id(&region));
            else {
                printf("\"why\": ");
                tool_print_json(diag.text);
                printf("}");
            }
        } else {
            printf("%s  %s  %s  %s", devices[i].name, devices[i].kind, tool_size(size), state);
            if (is_region)
                printf("  id %s, room for %llu more ranks\n", tool_id(&region),
                       (unsigned long long) tool_room(&region));
            else
                printf(": %s\n", diag.text);
        }
        if (is_region)
            ivshm_region_close(&region);
    }
    if (json)
        printf("]\n");
    return TOOL_OK;
}

int tool_info(const struct tool_options *opt)
{
    if (opt->all)
        return info_all(opt->json);
    struct ivshm_diag diag = {""};
    struct ivshm_region region;
    struct ivshm_extent_usage usage;
    struct stat st;
    uint32_t in_use = 0;
    if (ivshm_region_inspect(opt->region, &region, &diag) != 0)
        return tool_error("%s", diag.text);
    const struct ivshm_map *map = ivshm_region_map(&region);
    if (stat(ivshm_map_path(map), &st) != 0) {
        int status = tool_error("cannot stat %s: %s", ivshm_map_path(map), strerror(errno));
        ivshm_region_close(&region);
        return status;
    }
    for (uint32_t i = 0; i < ivshm_region_endpoints(&region); i++)
        in_use += ivshm_endpoint_claim(&region, i).state != IVSHM_CLAIM_FREE;
    ivshm_extent_usage(&region, &usage);
    if (opt->json)
        info_json(&region, &st, &usage, in_use);
    else
        info_text(&region, &st, &usage, in_use);

    if (st.st_mode & S_IWOTH)
        tool_warn(
            "every user of this machine can write to %s, and so to the memory of every job on it: "
            "run chmod o-rwx, and give it to the user or group that runs the jobs",
            ivshm_map_path(map));
    if (ivshm_region_size(&region) < ivshm_map_size(map))
        tool_warn(
            "%s has grown since it was formatted for %s: to use all of it, run `ivshmem format "
            "--force %s` when no job is on it",
            ivshm_region_name(&region), tool_size(ivshm_region_size(&region)),
            ivshm_region_name(&region));
    int devices = opt->region ? 0 : ivshm_device_list(NULL, 0);
    if (devices > 1 && !opt->json)
        printf("this machine has %d devices whose memory can be a region, and this is the first "
               "that holds one; `ivshmem info --all` lists them\n",
               devices);
    ivshm_region_close(&region);
    return TOOL_OK;
}

/* ps */

static const char *state_name(enum ivshm_claim_state state)
{
    static const char *const names[] = {"free", "joining", "live", "dead", "joining"};
    return (unsigned) state <= IVSHM_CLAIM_NAMED ? names[state] : "damaged";
}

static void ps_text(const struct tool_entry *list, int n)
{
    int job_width = 3, host_width = 4;
    for (int i = 0; i < n; i++) {
        int job = (int) strlen(list[i].info.job), host = (int) strlen(list[i].info.process.host);
        job_width = job > job_width ? job : job_width;
        host_width = list[i].known && host > host_width ? host : host_width;
    }
    printf("%-*s  %11s  %8s  %-7s  %-7s  %-*s %8s  %5s  %10s  %s\n", job_width, "JOB", "RANK",
           "ENDPOINT", "STATE", "PROCESS", host_width, "HOST", "PID", "PEER", "HELD", "SINCE");
    for (int i = 0; i < n; i++) {
        const struct tool_entry *e = &list[i];
        char rank[32] = "-", endpoint[32], peer[16] = "-", since[32] = "-";
        time_t joined = (time_t) e->info.joined_at;
        struct tm tm;
        if (e->known) {
            snprintf(rank, sizeof(rank), "%u of %u", e->info.rank, e->info.job_size);
            if (localtime_r(&joined, &tm))
                strftime(since, sizeof(since), "%Y-%m-%d %H:%M:%S", &tm);
        }
        snprintf(endpoint, sizeof(endpoint), "%u.%u", e->index, e->info.claim.generation);
        if (e->info.has_bell)
            snprintf(peer, sizeof(peer), "%u", e->info.bell.id);
        printf("%-*s  %11s  %8s  %-7s  %-7s  %-*s %8u  %5s  %10s  %s\n", job_width,
               e->known ? tool_printable(e->info.job) : "-", rank, endpoint,
               state_name(e->info.claim.state),
               e->vm_gone ? "VM gone" : tool_liveness_name(e->liveness), host_width,
               e->known ? tool_printable(e->info.process.host) : "-", e->info.claim.pid, peer,
               tool_size(e->held), since);
    }
    /* Why some are unknown: each reason once, with the endpoints that it concerns. */
    for (int i = 0; i < n; i++) {
        const char *why = tool_why_unknown(&list[i]);
        int j = 0;
        while (why && j < i && tool_why_unknown(&list[j]) != why)
            j++;
        if (!why || j < i)
            continue;
        printf("unknown:");
        for (j = i; j < n; j++)
            if (tool_why_unknown(&list[j]) == why)
                printf(" %u.%u", list[j].index, list[j].info.claim.generation);
        printf(": %s\n", why);
    }
}

void tool_entry_json(const struct tool_entry *e)
{
    printf("\"endpoint\": %u, \"generation\": %u, \"state\": \"%s\", \"process\": \"%s\", "
           "\"pid\": %u, \"held\": %llu",
           e->index, e->info.claim.generation, state_name(e->info.claim.state),
           tool_liveness_name(e->liveness), e->info.claim.pid, (unsigned long long) e->held);
    if (e->info.has_bell)
        printf(", \"peer\": %u", e->info.bell.id);
    if (e->vm_gone)
        printf(", \"vm_gone\": true");
    if (tool_why_unknown(e)) {
        printf(", \"why\": ");
        tool_print_json(tool_why_unknown(e));
    }
    if (e->known) {
        printf(", \"job\": ");
        tool_print_json(e->info.job);
        printf(", \"rank\": %u, \"job_size\": %u, \"since\": %llu, \"host\": ", e->info.rank,
               e->info.job_size, (unsigned long long) e->info.joined_at);
        tool_print_json(e->info.process.host);
        printf(", \"vm\": \"%s\"", tool_uuid(e->info.process.vm_uuid));
    }
}

static void ps_json(const struct ivshm_region *region, const struct tool_entry *list, int n)
{
    printf("{\"region\": ");
    tool_print_json(ivshm_region_name(region));
    printf(", \"id\": \"%s\", \"endpoints\": [", tool_id(region));
    for (int i = 0; i < n; i++) {
        printf("%s\n {", i ? "," : "");
        tool_entry_json(&list[i]);
        printf("}");
    }
    printf("], \"blocks\": [");
    tool_blocks_json(region);
    printf("]}\n");
}

int tool_ps(const struct tool_options *opt)
{
    struct ivshm_diag diag = {""};
    struct ivshm_region region;
    struct tool_entry *list;
    if (ivshm_region_inspect(opt->region, &region, &diag) != 0)
        return tool_error("%s", diag.text);
    int n = tool_entries(&region, &list, &diag);
    if (n < 0) {
        ivshm_region_close(&region);
        return tool_error("%s", diag.text);
    }
    if (opt->json)
        ps_json(&region, list, n);
    else if (n == 0)
        printf("no process is on region %s\n", ivshm_region_name(&region));
    else {
        ps_text(list, n);
        tool_blocks_text(&region);
    }
    free(list);
    ivshm_region_close(&region);
    return TOOL_OK;
}
