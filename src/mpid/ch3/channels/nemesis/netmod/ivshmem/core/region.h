/* SPDX-License-Identifier: mpich2 */
/*
 * A region: mapped memory whose superblock has been checked, with a local handle. Formats memory
 * that is unformatted. The fields of the handle are private copies, checked against the mapped
 * size: a peer that changes the superblock later changes nothing here.
 *
 * Any number of processes may open and format one region at once. Within a process, one thread
 * opens and closes a handle; in between it is constant, and any thread may use it. Its fields are
 * for the rest of core; others use the functions. Functions return 0 or a negative errno. Opening
 * costs a mapping, and reading the superblock.
 */
#ifndef IVSHM_REGION_H
#define IVSHM_REGION_H

#include "backing.h"
#include "bell.h"
#include "diag.h"
#include "layout.h"
#include "map.h"

/* The geometry, a function of the region's size alone: counts, and sizes and offsets in bytes. */
struct ivshm_geometry {
    uint64_t size;
    uint32_t endpoints;
    uint64_t endpoint_table;
    uint64_t blocks;
    uint64_t block_size;
    uint64_t block_map;
    uint64_t data;
    uint32_t inbox_slots;
    uint32_t small_cells, small_size;
    uint32_t large_cells, large_size;
    uint32_t pipeline_chunks, chunk_size;
    uint32_t ring_slots, slot_size, ring_buffers, buffer_size;
    /* Derived: offsets within a base extent and its size; of a pipeline; of a ring. */
    uint64_t attached, small, told, large, base_bytes; /* the inbox is at 0 */
    uint64_t chunk_data, pipeline_bytes;
    uint64_t ring_bytes;
};

struct ivshm_region {
    struct ivshm_map map;
    struct ivshm_geometry geo;
    uint64_t id[2];
    ivshm_a64 *block_map;
    struct ivshm_endpoint_shm *endpoints;
    struct ivshm_bell bell; /* of this process */
};

enum ivshm_found {
    IVSHM_FOUND_REGION,      /* ours, this version */
    IVSHM_FOUND_UNFORMATTED, /* first page zero, or a partial format of ours */
    IVSHM_FOUND_FOREIGN      /* other data, or another version of ours: never written */
};

/*
 * Computes the geometry of a region of `size` bytes. Errors: -ENOSPC too small, -EFBIG too large.
 * Any thread; constant cost.
 */
int ivshm_geometry_compute(uint64_t size, struct ivshm_geometry *geo, struct ivshm_diag *diag);

/*
 * Requests the memory of superblock and tables if the file is sparse; without it, an access may
 * raise SIGBUS. Errors as ivshm_backing_reserve.
 */
int ivshm_region_reserve(const struct ivshm_map *map, enum ivshm_access access,
                         struct ivshm_diag *diag);

/*
 * Tells what the mapped memory contains, and in diag why it is foreign. Only reads; the caller has
 * reserved the memory. Acquires S1 and S2. Cost: one page, and all tables if that page is empty.
 */
enum ivshm_found ivshm_region_probe(const struct ivshm_map *map, struct ivshm_diag *diag);

/*
 * Opens `name` (see ivshm_map_open) or, if it is NULL, the first device that holds a region, or is
 * an unformatted ivshmem PCI device, and formats that if necessary. Several processes may do so at
 * once, and any of them may die. Edges S1, S2, S3. The caller ends *region with ivshm_region_close,
 * and leaves it in place until then, as endpoints point to it; after an error its contents are
 * undefined. Errors, besides those of the map: -ENODEV no device; -EMEDIUMTYPE other contents;
 * -EPROTONOSUPPORT another layout version; -ENOSPC too small, or no memory; -EFBIG too large;
 * -EBADMSG damaged superblock; -EAGAIN it is being formatted anew.
 */
int ivshm_region_open(const char *name, struct ivshm_region *region, struct ivshm_diag *diag);

/*
 * Opens only an existing region, and only for reading: for tools. Edges S1 to S3. Errors as above;
 * -EMEDIUMTYPE also if it is unformatted.
 */
int ivshm_region_inspect(const char *name, struct ivshm_region *region, struct ivshm_diag *diag);

/*
 * Opens the bell by which peers in other kernels wake this process, before it joins: its endpoint
 * tells where to ring. It is closed with the region. Errors as ivshm_bell_open.
 */
int ivshm_region_open_bell(struct ivshm_region *region, const char *server,
                           struct ivshm_diag *diag);

/*
 * Takes the existing region in memory that the caller has mapped for writing, and goes on to own:
 * *region is valid as long as that, and is not closed. Never formats. Edges S1 to S3. Errors as
 * ivshm_region_inspect.
 */
int ivshm_region_of_map(const struct ivshm_map *map, struct ivshm_region *region,
                        struct ivshm_diag *diag);

/* Unmaps the memory. No endpoint or transport may use it any more. */
void ivshm_region_close(struct ivshm_region *region);

/*
 * Formats the mapped memory anew, whatever it contains: zeroes the tables (release S3) and writes a
 * superblock with another id (release S1, S2). The caller has made sure that nobody uses it.
 * Errors: -ENOSPC too small, or no memory; -EFBIG too large; else as ivshm_backing_reserve. Cost:
 * all tables.
 */
int ivshm_region_format(struct ivshm_map *map, struct ivshm_diag *diag);

/*
 * Properties of an open region. Each costs a load or two, and none changes while it is open.
 * Pointers are valid until it is closed.
 */

/* As the user gave it, or the device that was found: a PCI address or a path. */
static inline const char *ivshm_region_name(const struct ivshm_region *region)
{
    return region->map.name;
}

/* Two words, which no other region has. */
static inline const uint64_t *ivshm_region_id(const struct ivshm_region *region)
{
    return region->id;
}

static inline const struct ivshm_map *ivshm_region_map(const struct ivshm_region *region)
{
    return &region->map;
}

static inline void *ivshm_region_base(const struct ivshm_region *region)
{
    return region->map.base;
}

/* True for a BAR, false for a file. */
static inline bool ivshm_region_is_device(const struct ivshm_region *region)
{
    return region->map.is_device;
}

static inline const struct ivshm_geometry *ivshm_region_geometry(const struct ivshm_region *region)
{
    return &region->geo;
}

/* In bytes. */
static inline uint64_t ivshm_region_size(const struct ivshm_region *region)
{
    return region->geo.size;
}

/* The number of entries in the endpoint table: every endpoint's index is below it. */
static inline uint32_t ivshm_region_endpoints(const struct ivshm_region *region)
{
    return region->geo.endpoints;
}

/*
 * The blocks of which extents are made: their number, their size in bytes, the offset of the first.
 */
static inline uint64_t ivshm_region_blocks(const struct ivshm_region *region)
{
    return region->geo.blocks;
}

static inline uint64_t ivshm_region_block_size(const struct ivshm_region *region)
{
    return region->geo.block_size;
}

static inline ivshm_off ivshm_region_first_block(const struct ivshm_region *region)
{
    return (ivshm_off){region->geo.data};
}

/* For each endpoint: its number of cells. */
static inline uint32_t ivshm_region_cells(const struct ivshm_region *region)
{
    return region->geo.small_cells + region->geo.large_cells;
}

/* The address of an offset that has been checked, and the offset of such an address. */
static inline void *ivshm_region_address(const struct ivshm_region *region, ivshm_off off)
{
    return (char *) region->map.base + off.bytes;
}

static inline ivshm_off ivshm_region_offset(const struct ivshm_region *region, const void *address)
{
    return (ivshm_off){(uintptr_t) address - (uintptr_t) region->map.base};
}

/*
 * Checks an offset that came from elsewhere. Returns the address of [off, off+len), or NULL if that
 * is not within the data blocks, or `off` is not aligned to a cache line. Says nothing about the
 * owner: see ivshm_extent_owned.
 */
static inline void *ivshm_region_resolve(const struct ivshm_region *region, ivshm_off off,
                                         uint64_t len)
{
    if (off.bytes < region->geo.data || off.bytes >= region->geo.size ||
        len > region->geo.size - off.bytes || off.bytes % IVSHM_LINE)
        return NULL;
    return (char *) region->map.base + off.bytes;
}

#endif
