/* SPDX-License-Identifier: mpich2 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "speed.h"

#include "atomic.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define WORDS (IVSHM_SPEED_BYTES / 8)
#define RUNS 7           /* of which the fastest counts: others were interrupted */
#define ENOUGH_NS 100000 /* for all runs of one operation */
#define CACHED_BELOW 12  /* times what private memory takes; uncached memory takes a hundred */
#define COMBINED_BELOW 6 /* a load takes so much longer than a store: eight are one transfer */

__attribute__((weak)) const char *ivshm_speed_root(void)
{
    return "";
}

const char *ivshm_speed_name(enum ivshm_speed_kind kind)
{
    static const char *const names[] = {"cached", "write-combining", "uncached", "not cached"};
    return names[kind];
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000000 + (uint64_t) t.tv_nsec;
}

/* A line further each time, so that neighbours are not fetched on the way; but all words. */
static uint64_t word_number(uint64_t i)
{
    return (i * (IVSHM_LINE / 8) + i / (WORDS / (IVSHM_LINE / 8))) % WORDS;
}

static void load_in_turn(ivshm_a64 *words)
{
    uint64_t zero = 0, at = 0;
    __asm__ volatile("" : "+r"(zero)); /* unknown to the compiler */
    for (uint64_t i = 0; i < WORDS; i++)
        at = ivshm_a64_load_relaxed(&words[word_number(i) + at]) & zero;
    __asm__ volatile("" : : "r"(at));
}

static void load_at_once(ivshm_a64 *words)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < WORDS; i++)
        sum += ivshm_a64_load_relaxed(&words[i]);
    __asm__ volatile("" : : "r"(sum));
}

/* The words are zero. The last operation makes the stores leave the processor. */
static void store(ivshm_a64 *words)
{
    ivshm_a64 own = {0};
    for (uint64_t i = 0; i < WORDS; i++)
        ivshm_a64_store_relaxed(&words[i], 0);
    ivshm_a64_add_seqcst(&own, 1);
}

static void copy_out(ivshm_a64 *words)
{
    char copy[IVSHM_SPEED_BYTES];
    memcpy(copy, (const void *) words, sizeof(copy));
    __asm__ volatile("" : : "r"(copy) : "memory");
}

/* Picoseconds for each word, of the fastest run. */
static uint64_t time_of(void (*operation)(ivshm_a64 *), ivshm_a64 *words)
{
    uint64_t best = UINT64_MAX, begin = now_ns();
    for (int i = 0; i < RUNS; i++) {
        uint64_t start = now_ns();
        operation(words);
        uint64_t end = now_ns();
        best = end - start < best ? end - start : best;
        if (end - begin > ENOUGH_NS)
            break;
    }
    return best * 1000 / WORDS + 1;
}

__attribute__((weak)) void ivshm_speed_time(void *memory, bool may_store,
                                            struct ivshm_speed_times *times)
{
    *times = (struct ivshm_speed_times){
        .load = time_of(load_in_turn, memory),
        .stream = time_of(load_at_once, memory),
        .store = may_store ? time_of(store, memory) : 0,
        .copy = time_of(copy_out, memory),
    };
}

static enum ivshm_speed_kind judge(const struct ivshm_map *map,
                                   const struct ivshm_speed_times *shared,
                                   const struct ivshm_speed_times *own)
{
    /* A file's memory is the kernel's own; if it is slow, the machine is busy. */
    if (!map->is_device)
        return IVSHM_SPEED_CACHED;
    /* An emulator, and KVM on Intel, make it cached all the same; another host would not. */
    if (map->cache == IVSHM_CACHE_WRITE_COMBINING)
        return IVSHM_SPEED_WRITE_COMBINING;
    if (map->cache == IVSHM_CACHE_UNCACHED)
        return IVSHM_SPEED_UNCACHED;
    /* Both kinds of loads: what takes the lines of a cached region away slows down only the one. */
    if (shared->load < CACHED_BELOW * own->load || shared->stream < CACHED_BELOW * own->stream)
        return IVSHM_SPEED_CACHED;
    if (!shared->store)
        return IVSHM_SPEED_NOT_CACHED;
    return shared->store * COMBINED_BELOW < shared->load ? IVSHM_SPEED_WRITE_COMBINING
                                                         : IVSHM_SPEED_UNCACHED;
}

void ivshm_speed_measure(const struct ivshm_map *map, void *memory, bool may_store,
                         struct ivshm_speed *speed)
{
    _Alignas(IVSHM_LINE) ivshm_a64 own[WORDS];
    memset(own, 0, sizeof(own));
    ivshm_speed_time(own, true, &speed->own);
    ivshm_speed_time(memory, may_store, &speed->shared);
    speed->kind = judge(map, &speed->shared, &speed->own);
}

/* Why: what Linux shows of it. */

static FILE *open_text(const char *path)
{
    char name[PATH_MAX];
    return (size_t) snprintf(name, sizeof(name), "%s%s", ivshm_speed_root(), path) < sizeof(name)
               ? fopen(name, "re")
               : NULL;
}

static bool is_by_driver(const struct ivshm_map *map)
{
    return strcmp(map->kind, "driver") == 0;
}

/* Where a BAR is in physical memory: the third line of the device's file `resource`. */
static bool find_address(const struct ivshm_map *map, unsigned long long *address)
{
    char path[PATH_MAX + 64], line[128];
    const char *slash = strrchr(map->path, '/');
    if (is_by_driver(map) && slash)
        snprintf(path, sizeof(path), "%s/sys/class/misc%s/device/resource", ivshm_speed_root(),
                 slash);
    else if (strcmp(map->kind, "BAR") == 0 && slash)
        snprintf(path, sizeof(path), "%.*s/resource", (int) (slash - map->path), map->path);
    else
        return false;
    FILE *file = fopen(path, "re");
    bool found = false;
    for (int i = 0; file && !found && i < 3 && fgets(line, sizeof(line), file); i++)
        found = i == 2 && sscanf(line, "%llx", address) == 1;
    if (file)
        fclose(file);
    return found && *address;
}

/* The kernel's type of the mapping; only root can read that. False if unknown. */
static bool find_memtype(unsigned long long address, char type[32])
{
    char line[160];
    unsigned long long start, end;
    bool found = false;
    FILE *file = open_text("/sys/kernel/debug/x86/pat_memtype_list");
    while (file && !found && fgets(line, sizeof(line), file))
        found = sscanf(line, "PAT: [mem 0x%llx-0x%llx] %31s", &start, &end, type) == 3 &&
                start <= address && address < end;
    if (file)
        fclose(file);
    return found;
}

/* Whether firmware has made the memory uncachable. */
static bool is_under_mtrr(unsigned long long address)
{
    char line[160];
    unsigned long long base, megabytes;
    bool found = false;
    FILE *file = open_text("/proc/mtrr");
    while (file && !found && fgets(line, sizeof(line), file))
        found = sscanf(line, "reg%*d: base=0x%llx (%*[^)]), size=%lluMB", &base, &megabytes) == 2 &&
                strstr(line, "uncachable") && base <= address && address < base + (megabytes << 20);
    if (file)
        fclose(file);
    return found;
}

/* Whether this is a VM, on a processor of AMD. */
static void find_processor(bool *is_vm, bool *is_amd)
{
    char line[4096];
    *is_vm = *is_amd = false;
    FILE *file = open_text("/proc/cpuinfo");
    while (file && fgets(line, sizeof(line), file) && *line != '\n') {
        *is_amd = *is_amd || (strncmp(line, "vendor_id", 9) == 0 && strstr(line, "AuthenticAMD"));
        *is_vm = *is_vm || (strncmp(line, "flags", 5) == 0 && strstr(line, " hypervisor"));
    }
    if (file)
        fclose(file);
}

void ivshm_speed_explain(const struct ivshm_map *map, const struct ivshm_speed *speed, char *text,
                         size_t size)
{
    char type[32], memtype[64] = "";
    unsigned long long address;
    if (map->cache == IVSHM_CACHE_WRITE_COMBINING || map->cache == IVSHM_CACHE_UNCACHED) {
        snprintf(text, size,
                 "%s (%s) is mapped as memory that is %s, because the driver's parameter says so: "
                 "messages can be slow; run `echo wb >/sys/module/ivshmem/parameters/cache` as "
                 "root, and start the job again; doc/driver.md",
                 map->name, map->kind, ivshm_speed_name(speed->kind));
        return;
    }
    bool is_vm, is_amd, has_address = find_address(map, &address);
    find_processor(&is_vm, &is_amd);
    if (has_address && find_memtype(address, type))
        snprintf(memtype, sizeof(memtype), "the kernel has mapped it as %s; ", type);
    const char *why =
        has_address && is_under_mtrr(address)
            ? "firmware has made that memory uncachable (/proc/mtrr): let QEMU place the BAR above "
              "4 GiB, or "
        : is_by_driver(map) ? "the reason is unknown, as its driver maps it cached: "
        : is_vm && is_amd
            ? "on AMD, KVM keeps to what the guest's kernel asks for, which is uncached for a BAR: "
        : is_vm
            ? "on Intel, KVM keeps to what the guest's kernel asks for, which is uncached for a "
              "BAR, if a device of the host is passed through to this VM: pass none through, or "
            : "the reason is unknown: ";
    snprintf(
        text, size,
        "%s (%s) is mapped as memory that is %s: a load takes %.1f ns, of other memory %.1f "
        "ns, so all messages are slow; %s%sgive the VM the region as an NVDIMM (/dev/dax0.0)%s; "
        "doc/guide.md, \"Devices\"",
        map->name, map->kind, ivshm_speed_name(speed->kind), (double) speed->shared.load / 1000,
        (double) speed->own.load / 1000, memtype, why,
        is_by_driver(map) ? "" : ", or load the driver, which maps it cached (doc/driver.md)");
}
