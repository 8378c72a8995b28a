/* SPDX-License-Identifier: mpich2 */
/*
 * A region: mapped memory whose superblock was checked, turned once into a local handle. Formats
 * what is unformatted. The handle's fields are private copies, checked against the mapped size: a
 * peer that changes the superblock later changes nothing here.
 */
#ifndef IVSHM_REGION_H
#define IVSHM_REGION_H

#include "backing.h"
#include "diag.h"
#include "layout.h"
#include "map.h"

/* The geometry, in bytes unless the name says otherwise; a function of the region's size alone. */
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
    /* Derived: within an endpoint's base extent, of a pipeline, of a ring. */
    uint64_t attached, small, large, base_bytes; /* the inbox is at 0 */
    uint64_t chunk_data, pipeline_bytes;
    uint64_t ring_bytes;
};

struct ivshm_region {
    struct ivshm_map map;
    struct ivshm_geometry geo;
    uint64_t id[2];
    ivshm_a64 *block_map;
    struct ivshm_endpoint_shm *endpoints;
};

enum ivshm_found {
    IVSHM_FOUND_REGION,      /* ours, this version */
    IVSHM_FOUND_UNFORMATTED, /* first page zero, or half a format of ours */
    IVSHM_FOUND_FOREIGN      /* somebody else's, or another version of ours: never written */
};

/* The geometry of a region of `size` bytes. -ENOSPC if that is too small, -EFBIG if too large. */
int ivshm_geometry_compute(uint64_t size, struct ivshm_geometry *geo, struct ivshm_diag *diag);

/*
 * Gets the memory of superblock and tables, if the file is sparse; without it whoever reads or
 * writes them may get a SIGBUS. -ENOSPC if there is none.
 */
int ivshm_region_reserve(const struct ivshm_map *map, enum ivshm_access access,
                         struct ivshm_diag *diag);

/* What the mapped memory carries, and in diag why it is foreign. Reads only. */
enum ivshm_found ivshm_region_probe(const struct ivshm_map *map, struct ivshm_diag *diag);

/*
 * Opens `name` (see ivshm_map_open), or, if NULL, the first ivshmem device that carries a region or
 * is unformatted; formats it if need be. Several processes may do so at once, and any of them may
 * die. Errors, besides those of the map: -ENODEV no device, -EMEDIUMTYPE foreign contents,
 * -EPROTONOSUPPORT another layout version, -ENOSPC too small, -EBADMSG damaged superblock.
 */
int ivshm_region_open(const char *name, struct ivshm_region *region, struct ivshm_diag *diag);

/* Opens for reading only what is a region already; for tools. Errors as above. */
int ivshm_region_inspect(const char *name, struct ivshm_region *region, struct ivshm_diag *diag);

void ivshm_region_close(struct ivshm_region *region);

/*
 * Formats the mapped memory anew, whatever it carries: zeroes the tables and writes a superblock
 * with another id. The caller has made sure that nobody uses it.
 */
int ivshm_region_format(struct ivshm_map *map, struct ivshm_diag *diag);

/* What others know of a region. None costs more than a load or two; none changes while it is open.
 */

/* What a person calls it: a PCI address or a path. */
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

/* A BAR, else a file. */
static inline bool ivshm_region_is_device(const struct ivshm_region *region)
{
    return region->map.is_device;
}

/* Bytes. */
static inline uint64_t ivshm_region_size(const struct ivshm_region *region)
{
    return region->geo.size;
}

/* How many processes it has room for; all their numbers are below that. */
static inline uint32_t ivshm_region_endpoints(const struct ivshm_region *region)
{
    return region->geo.endpoints;
}

/* The blocks that extents are made of: how many, of how many bytes, and where the first one is. */
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

/* Of each endpoint: its cells, and the bytes of a large one. */
static inline uint32_t ivshm_region_cells(const struct ivshm_region *region)
{
    return region->geo.small_cells + region->geo.large_cells;
}

static inline uint32_t ivshm_region_cell_size(const struct ivshm_region *region)
{
    return region->geo.large_size;
}

/* The address of an offset that was checked before, and the offset of such an address. */
static inline void *ivshm_region_address(const struct ivshm_region *region, ivshm_off off)
{
    return (char *) region->map.base + off.bytes;
}

static inline ivshm_off ivshm_region_offset(const struct ivshm_region *region, const void *address)
{
    return (ivshm_off){(uintptr_t) address - (uintptr_t) region->map.base};
}

/* The address of [off, off+len), or NULL if that is not inside the data blocks or not line-aligned.
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
