/* SPDX-License-Identifier: mpich2 */
#include "region.h"
#include "tracepoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define MIB (UINT64_C(1) << 20)

static uint64_t round_up(uint64_t n, uint64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/*
 * Bytes. Large blocks of malloc begin 16 bytes behind a page. A copy from the beginning of a page
 * to there takes nearly twice as long: loads whose address ends like that of a store just before,
 * in its last 12 bits, wait for that store.
 */
#define CHUNK_SHIFT (33 * IVSHM_LINE)

int ivshm_geometry_compute(uint64_t size, struct ivshm_geometry *geo, struct ivshm_diag *diag)
{
    if (size < IVSHM_SIZE_MIN)
        return ivshm_diag_fail(diag, ENOSPC,
                               "the region has %llu KiB, at least %llu MiB are needed: pass "
                               "size=64M to QEMU's memory backend, or make the file larger",
                               (unsigned long long) (size >> 10),
                               (unsigned long long) (IVSHM_SIZE_MIN >> 20));
    if (size > IVSHM_SIZE_MAX)
        return ivshm_diag_fail(
            diag, EFBIG, "the region has %llu GiB, at most %llu GiB are possible: make it smaller",
            (unsigned long long) (size >> 30), (unsigned long long) (IVSHM_SIZE_MAX >> 30));

    struct ivshm_geometry g = {.size = size};
    g.endpoints = (uint32_t) (size / (64 << 10));
    if (g.endpoints > IVSHM_ENDPOINTS_MAX)
        g.endpoints = IVSHM_ENDPOINTS_MAX;
    g.endpoints = g.endpoints / 64 * 64;
    g.block_size = IVSHM_PAGE;
    while (size / g.block_size > 1 << 18)
        g.block_size *= 2;

    g.endpoint_table = IVSHM_PAGE;
    g.block_map =
        round_up(g.endpoint_table + g.endpoints * sizeof(struct ivshm_endpoint_shm), IVSHM_PAGE);
    /* The map has words for its own pages, too: simple, and only a little too large. */
    g.data = round_up(g.block_map + size / g.block_size * sizeof(ivshm_a64), g.block_size);
    g.blocks = (size - g.data) / g.block_size;

    g.inbox_slots = 1024;
    g.small_cells = 128;
    g.small_size = 256;
    g.large_cells = 32;
    g.large_size = (16 << 10) + 256; /* with room for the headers of a cell and of an MPI packet */
    g.pipeline_chunks = 16;
    g.chunk_size = 16 << 10;
    g.ring_slots = 71;
    g.slot_size = 256;
    g.ring_buffers = 16;
    g.buffer_size = 2048 + 128; /* with room for the header of an MPI packet */
    if (size < 16 * MIB) { /* less of everything, so that a job of a few ranks fits into 4 MiB */
        g.large_cells = 8;
        g.large_size = 16 << 10;
        g.pipeline_chunks = 8;
        g.chunk_size = 8 << 10;
        g.ring_slots = 15;
        g.ring_buffers = g.buffer_size = 0;
    }

    g.attached =
        round_up(sizeof(struct ivshm_inbox_shm) + g.inbox_slots * sizeof(ivshm_a64), IVSHM_LINE);
    g.small = round_up(g.attached + g.endpoints / 8, IVSHM_LINE);
    g.large = round_up(g.small + (uint64_t) g.small_cells * g.small_size, IVSHM_PAGE);
    g.told = g.large - sizeof(struct ivshm_told_shm); /* the small cells end before that */
    g.base_bytes = g.large + (uint64_t) g.large_cells * g.large_size;
    g.chunk_data =
        round_up(g.pipeline_chunks * sizeof(struct ivshm_chunk_word_shm), IVSHM_PAGE) + CHUNK_SHIFT;
    g.pipeline_bytes = g.chunk_data + (uint64_t) g.pipeline_chunks * g.chunk_size;
    g.ring_bytes = sizeof(struct ivshm_ring_shm) + (uint64_t) g.ring_slots * g.slot_size +
                   (uint64_t) g.ring_buffers * g.buffer_size;
    *geo = g;
    return 0;
}

/* The words of the superblock for `geo`; magic and id are left 0. */
static void superblock_words(const struct ivshm_geometry *geo, uint64_t *words)
{
    const struct ivshm_superblock_shm sb = {
        .mark = {IVSHM_MARK},
        .version = {IVSHM_VERSION},
        .size = {geo->size},
        .endpoints = {geo->endpoints},
        .endpoint_table = {geo->endpoint_table},
        .blocks = {geo->blocks},
        .block_size = {geo->block_size},
        .block_map = {geo->block_map},
        .data = {geo->data},
        .inbox_slots = {geo->inbox_slots},
        .small_cells = {geo->small_cells},
        .small_size = {geo->small_size},
        .large_cells = {geo->large_cells},
        .large_size = {geo->large_size},
        .pipeline_chunks = {geo->pipeline_chunks},
        .chunk_size = {geo->chunk_size},
        .ring_slots = {geo->ring_slots},
        .slot_size = {geo->slot_size},
        .ring_buffers = {geo->ring_buffers},
        .buffer_size = {geo->buffer_size},
    };
    memcpy(words, &sb, sizeof(sb));
}

#define WORD_OF(field) (offsetof(struct ivshm_superblock_shm, field) / 8)

static bool is_id_word(size_t i)
{
    return i == WORD_OF(id) || i == WORD_OF(id) + 1;
}

static ivshm_a64 *word_at(const struct ivshm_map *map, uint64_t off)
{
    return (ivshm_a64 *) ((char *) map->base + off);
}

static bool is_zero(const struct ivshm_map *map, uint64_t from, uint64_t to)
{
    for (uint64_t off = from; off < to; off += 8)
        if (ivshm_a64_load_acquire(word_at(map, off)) != 0)
            return false;
    return true;
}

/*
 * Whether formatting has begun. Another process may begin at any moment. So what was found in the
 * memory is judged by the mark as it is afterwards: the mark is stored before everything else (S2).
 */
static bool is_marked(const struct ivshm_map *map)
{
    return ivshm_a64_load_acquire(word_at(map, WORD_OF(mark) * 8)) == IVSHM_MARK;
}

int ivshm_region_reserve(const struct ivshm_map *map, enum ivshm_access access,
                         struct ivshm_diag *diag)
{
    struct ivshm_geometry geo;
    bool fits = ivshm_geometry_compute(map->size, &geo, NULL) == 0;
    return ivshm_backing_reserve(map, 0, fits ? geo.data : 1, access, diag);
}

enum ivshm_found ivshm_region_probe(const struct ivshm_map *map, struct ivshm_diag *diag)
{
    struct ivshm_superblock_shm *sb = map->base;
    uint64_t expected[IVSHM_SUPERBLOCK_WORDS];
    struct ivshm_geometry geo;

    /* Acquire S1: whoever sees the magic sees the whole superblock. */
    if (map->size >= IVSHM_PAGE && ivshm_a64_load_acquire(&sb->magic) == IVSHM_MAGIC) {
        uint64_t version = ivshm_a64_load_acquire(&sb->version);
        /*
         * 0: perhaps the region is being wiped. Then its magic is gone (S3), which load_superblock
         * tells, or it is the next format's, which has a version (S1).
         */
        if (version == 0 && ivshm_a64_load_acquire(&sb->magic) != IVSHM_MAGIC)
            return IVSHM_FOUND_REGION;
        if (version == 0)
            version = ivshm_a64_load_relaxed(&sb->version);
        if (version == IVSHM_VERSION)
            return IVSHM_FOUND_REGION;
        ivshm_diag_fail(
            diag, 0,
            "%s contains a region of layout version %llu, this program needs version %d: use the "
            "same release everywhere, or run `ivshmem format --force %s` once nobody uses it",
            map->name, (unsigned long long) version, IVSHM_VERSION, map->name);
        return IVSHM_FOUND_FOREIGN;
    }
    if (ivshm_geometry_compute(map->size, &geo, diag) != 0)
        /* Too small or too large for a region; it may still belong to another program. */
        return map->size >= IVSHM_PAGE && is_zero(map, 0, IVSHM_PAGE) ? IVSHM_FOUND_UNFORMATTED
                                                                      : IVSHM_FOUND_FOREIGN;

    /* Unformatted if each word is zero, or what a formatter of ours may have written so far. */
    superblock_words(&geo, expected);
    for (size_t i = 0; i < IVSHM_PAGE / 8; i++) {
        uint64_t found = ivshm_a64_load_acquire(word_at(map, i * 8)); /* S2, as in is_zero */
        if (found == 0 || (i == 0 && found == IVSHM_MAGIC))
            continue;
        if (i < IVSHM_SUPERBLOCK_WORDS && (is_id_word(i) || found == expected[i]) && is_marked(map))
            continue;
        ivshm_diag_fail(
            diag, 0,
            "%s is neither a region nor empty: the 8 bytes at offset %zu are %016llx. It may "
            "belong to another program and was not changed: if nobody needs it, run `ivshmem "
            "format --force %s`",
            map->name, i * 8, (unsigned long long) found, map->name);
        return IVSHM_FOUND_FOREIGN;
    }
    /* The tables may already be in use if another process has formatted it meanwhile. */
    if (!is_marked(map) && !is_zero(map, IVSHM_PAGE, geo.data) && !is_marked(map)) {
        ivshm_diag_fail(
            diag, 0,
            "the first page of %s is empty, what follows is not: it may belong to another "
            "program and was not changed: if nobody needs it, run `ivshmem format --force %s`",
            map->name, map->name);
        return IVSHM_FOUND_FOREIGN;
    }
    return IVSHM_FOUND_UNFORMATTED;
}

/* Not a secret: it only has to differ between regions, and must not be 0. */
static uint64_t random_word(void)
{
    uint64_t word = 0;
    while (word == 0) {
        if (getrandom(&word, sizeof(word), GRND_NONBLOCK) != sizeof(word)) {
            struct timespec now;
            clock_gettime(CLOCK_REALTIME, &now);
            word = ((uint64_t) now.tv_nsec << 32) ^ (uint64_t) now.tv_sec ^ (uintptr_t) &word;
        }
    }
    return word;
}

/*
 * Lock-free and idempotent: a process that dies in here leaves words that the next formatter finds
 * correct. The mark comes before everything else (S2). The magic is a CAS, and so a release, after
 * every word is in place (S1).
 */
static void write_superblock(struct ivshm_map *map, const struct ivshm_geometry *geo)
{
    uint64_t words[IVSHM_SUPERBLOCK_WORDS];
    superblock_words(geo, words);
    IVSHM_TRACEPOINT(format_mark);
    ivshm_a64_cas_seqcst(word_at(map, WORD_OF(mark) * 8), 0, IVSHM_MARK);
    IVSHM_TRACEPOINT(format_words);
    for (size_t i = WORD_OF(version); i < IVSHM_SUPERBLOCK_WORDS; i++)
        ivshm_a64_cas_seqcst(word_at(map, i * 8), 0, is_id_word(i) ? random_word() : words[i]);
    IVSHM_TRACEPOINT(format_magic);
    ivshm_a64_cas_seqcst(word_at(map, WORD_OF(magic) * 8), 0, IVSHM_MAGIC);
}

int ivshm_region_format(struct ivshm_map *map, struct ivshm_diag *diag)
{
    struct ivshm_geometry geo;
    int err = ivshm_geometry_compute(map->size, &geo, diag);
    if (!err)
        err = ivshm_region_reserve(map, IVSHM_ACCESS_WRITE, diag);
    if (err)
        return err;
    /*
     * Each store is a release (S3): whoever finds one of the words 0 also finds the magic gone, or
     * the next format's. A release of the magic alone would order nothing that follows it.
     */
    for (uint64_t off = 0; off < geo.data; off += 8)
        ivshm_a64_store_release(word_at(map, off), 0);
    write_superblock(map, &geo);
    return 0;
}

static int fail_formatted_meanwhile(const struct ivshm_map *map, struct ivshm_diag *diag)
{
    return ivshm_diag_fail(
        diag, EAGAIN, "%s is being formatted anew at this moment: start again when that is done",
        map->name);
}

/* Checks the superblock and fills the handle from it. */
static int load_superblock(struct ivshm_region *region, struct ivshm_diag *diag)
{
    struct ivshm_map *map = &region->map;
    uint64_t expected[IVSHM_SUPERBLOCK_WORDS], found[IVSHM_SUPERBLOCK_WORDS] = {0}, size;
    bool changed = false;
    static const char *const names[] = {
        "magic",       "mark",         "version",         "size",        "id",
        "id",          "endpoints",    "endpoint table",  "blocks",      "block size",
        "block map",   "data",         "inbox slots",     "small cells", "small size",
        "large cells", "large size",   "pipeline chunks", "chunk size",  "ring slots",
        "slot size",   "ring buffers", "buffer size"};
    _Static_assert(sizeof(names) / sizeof(names[0]) == IVSHM_SUPERBLOCK_WORDS, "a name a word");

    /*
     * Only these copies are used. Acquire S3: a format that began meanwhile shows below. The id
     * comes first: read after the magic, it could be the next region's already, and would not
     * differ in the second look.
     */
    for (size_t i = WORD_OF(id); i <= WORD_OF(id) + 1; i++)
        found[i] = ivshm_a64_load_acquire(word_at(map, i * 8));
    for (size_t i = 0; i < IVSHM_SUPERBLOCK_WORDS; i++)
        if (!is_id_word(i))
            found[i] = ivshm_a64_load_acquire(word_at(map, i * 8));
    for (size_t i = 0; i < IVSHM_SUPERBLOCK_WORDS; i++)
        if (i == WORD_OF(magic) || is_id_word(i))
            changed |= found[i] != ivshm_a64_load_acquire(word_at(map, i * 8));
    if (changed || found[WORD_OF(magic)] != IVSHM_MAGIC)
        return fail_formatted_meanwhile(map, diag);
    size = found[WORD_OF(size)];
    if (ivshm_geometry_compute(size, &region->geo, NULL) != 0)
        return ivshm_diag_fail(
            diag, EBADMSG,
            "the superblock of %s is damaged: size is %llu, expected %llu to %llu; run `ivshmem "
            "format --force %s` once nobody uses it",
            map->name, (unsigned long long) size, (unsigned long long) IVSHM_SIZE_MIN,
            (unsigned long long) IVSHM_SIZE_MAX, map->name);
    /* More memory than was formatted does no harm: the file may have grown since. */
    if (size > map->size)
        return ivshm_diag_fail(
            diag, ENOSPC,
            "%s has %llu MiB, but the region in it was formatted for %llu MiB: restore its "
            "size, or run `ivshmem format --force %s` once nobody uses it",
            map->name, (unsigned long long) (map->size >> 20), (unsigned long long) (size >> 20),
            map->name);
    if (found[WORD_OF(id)] == 0 || found[WORD_OF(id) + 1] == 0)
        return ivshm_diag_fail(
            diag, EBADMSG,
            "the superblock of %s is damaged: half of its id is 0, which no formatter "
            "writes; run `ivshmem format --force %s` once nobody uses it",
            map->name, map->name);
    superblock_words(&region->geo, expected);
    for (size_t i = WORD_OF(mark); i < IVSHM_SUPERBLOCK_WORDS; i++)
        if (!is_id_word(i) && found[i] != expected[i])
            return ivshm_diag_fail(
                diag, EBADMSG,
                "the superblock of %s is damaged: %s is %llu, expected %llu; run `ivshmem "
                "format --force %s` once nobody uses it",
                map->name, names[i], (unsigned long long) found[i],
                (unsigned long long) expected[i], map->name);
    memcpy(region->id, &found[WORD_OF(id)], sizeof(region->id));
    region->block_map = word_at(map, region->geo.block_map);
    region->endpoints = (void *) word_at(map, region->geo.endpoint_table);
    return ivshm_region_reserve(map, IVSHM_ACCESS_WRITE, diag);
}

static int open_mapped(struct ivshm_region *region, bool format, struct ivshm_diag *diag)
{
    struct ivshm_map *map = &region->map;
    struct ivshm_geometry geo;
    int err = ivshm_region_reserve(map, IVSHM_ACCESS_READ, diag);
    if (err)
        return err;
    switch (ivshm_region_probe(map, diag)) {
    case IVSHM_FOUND_REGION:
        return load_superblock(region, diag);
    case IVSHM_FOUND_UNFORMATTED:
        err = ivshm_geometry_compute(map->size, &geo, diag);
        if (err)
            return err;
        if (!format)
            return ivshm_diag_fail(
                diag, EMEDIUMTYPE,
                "%s (%llu MiB) is unformatted: the first job formats it, or run `ivshmem "
                "format %s`",
                map->name, (unsigned long long) (map->size >> 20), map->name);
        err = ivshm_region_reserve(map, IVSHM_ACCESS_WRITE, diag);
        if (err)
            return err;
        write_superblock(map, &geo);
        return load_superblock(region, diag);
    case IVSHM_FOUND_FOREIGN:
        break;
    }
    if (map->size < IVSHM_PAGE)
        return ivshm_geometry_compute(map->size, &geo, diag);
    struct ivshm_superblock_shm *sb = map->base;
    if (ivshm_a64_load_acquire(&sb->magic) != IVSHM_MAGIC)
        return -EMEDIUMTYPE;
    /* What was foreign was a region that was being wiped, and is the next one by now. */
    return ivshm_a64_load_relaxed(&sb->version) == IVSHM_VERSION
               ? fail_formatted_meanwhile(map, diag)
               : -EPROTONOSUPPORT;
}

static int open_named(const char *name, bool write, struct ivshm_region *region,
                      struct ivshm_diag *diag)
{
    region->bell = (struct ivshm_bell){0};
    int err = ivshm_map_open(name, !write, &region->map, diag);
    if (err)
        return err;
    err = open_mapped(region, write, diag);
    if (err)
        ivshm_map_close(&region->map);
    return err;
}

/* Memory that may be there for another purpose is used only if it holds a region. */
static int open_device(const struct ivshm_device *device, bool write, struct ivshm_region *region,
                       struct ivshm_diag *diag)
{
    if (!device->is_pci) {
        int err = open_named(device->name, false, region, diag);
        if (err)
            return err;
        ivshm_map_close(&region->map);
    }
    return open_named(device->name, write, region, diag);
}

static int open_first_device(bool write, struct ivshm_region *region, struct ivshm_diag *diag)
{
    enum { MAX = 64 };
    struct ivshm_device devices[MAX];
    struct ivshm_diag first = {""};
    int first_err = 0, failed = 0, n = ivshm_device_list(devices, MAX);
    for (int i = 0; i < n && i < MAX; i++) {
        struct ivshm_diag why = {""};
        int err = open_device(&devices[i], write, region, &why);
        if (err == 0)
            return 0;
        if (devices[i].is_pci && failed++ == 0) {
            first = why;
            first_err = err;
        }
    }
    if (failed == 0)
        return ivshm_diag_fail(
            diag, ENODEV,
            "no ivshmem device (PCI 1af4:1110) on this machine and no region named: "
            "start the VM with `-object memory-backend-file,id=r,share=on,mem-path="
            "/dev/shm/region,size=64M -device ivshmem-plain,memdev=r`, or set "
            "MPIR_CVAR_NEMESIS_IVSHMEM_REGION to a PCI address, a device or a file");
    if (failed > 1)
        return ivshm_diag_fail(diag, -first_err,
                               "none of the %d ivshmem devices can be used; the first one: %.*s",
                               failed, 600, first.text);
    if (diag)
        *diag = first;
    return first_err;
}

int ivshm_region_open(const char *name, struct ivshm_region *region, struct ivshm_diag *diag)
{
    return name ? open_named(name, true, region, diag) : open_first_device(true, region, diag);
}

int ivshm_region_inspect(const char *name, struct ivshm_region *region, struct ivshm_diag *diag)
{
    return name ? open_named(name, false, region, diag) : open_first_device(false, region, diag);
}

int ivshm_region_open_bell(struct ivshm_region *region, const char *server, struct ivshm_diag *diag)
{
    int err = ivshm_bell_open(&region->bell, &region->map, server, diag);
    if (!err) {
        region->map.has_bell = true;
        region->map.peer = region->bell.self.id;
    }
    return err;
}

int ivshm_region_of_map(const struct ivshm_map *map, struct ivshm_region *region,
                        struct ivshm_diag *diag)
{
    *region = (struct ivshm_region){.map = *map};
    return open_mapped(region, false, diag);
}

void ivshm_region_close(struct ivshm_region *region)
{
    ivshm_bell_close(&region->bell);
    ivshm_map_close(&region->map);
}
