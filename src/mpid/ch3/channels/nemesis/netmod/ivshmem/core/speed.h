/* SPDX-License-Identifier: mpich2 */
/*
 * How fast the mapped memory is to this process: cached, write-combining or uncached. What the
 * kernel and the hypervisor make of a mapping is nowhere told reliably, so it is measured, and
 * compared with private memory of the process: on a busy machine or in an emulator both are slow.
 * Only our driver can tell that it has asked for a mapping that is not cached. Any thread; at start
 * only. No ordering edge.
 */
#ifndef IVSHM_SPEED_H
#define IVSHM_SPEED_H

#include "map.h"

#define IVSHM_SPEED_BYTES 1024 /* that are measured */

/* Picoseconds for each word of 8 bytes; 0 if not measured. */
struct ivshm_speed_times {
    uint64_t load;   /* that needs the result of the one before */
    uint64_t stream; /* loads that need nothing */
    uint64_t store;
    uint64_t copy; /* out of the memory */
};

enum ivshm_speed_kind {
    IVSHM_SPEED_CACHED,
    IVSHM_SPEED_WRITE_COMBINING,
    IVSHM_SPEED_UNCACHED,
    IVSHM_SPEED_NOT_CACHED /* one of the two: no store was timed */
};

struct ivshm_speed {
    enum ivshm_speed_kind kind;
    struct ivshm_speed_times shared, own; /* the mapped memory; private memory */
};

/*
 * Measures IVSHM_SPEED_BYTES at `memory`, within the map and aligned to a cache line. With
 * `may_store`, zero is also stored there: the words are zero, and nobody else uses them meanwhile.
 * In doubt the memory is cached, unless its driver tells otherwise; that of a file always is. Cost:
 * some microseconds if it is; else about half a millisecond.
 */
void ivshm_speed_measure(const struct ivshm_map *map, void *memory, bool may_store,
                         struct ivshm_speed *speed);

/* "cached", "write-combining", "uncached", "not cached". */
const char *ivshm_speed_name(enum ivshm_speed_kind kind);

/*
 * For memory that is not cached: writes what it is, what Linux tells about the reason, and what to
 * do. `size` is that of text, in bytes; 1200 suffice. Cost: some small files.
 */
void ivshm_speed_explain(const struct ivshm_map *map, const struct ivshm_speed *speed, char *text,
                         size_t size);

/* Times the memory. Weak, so that a test can tell recorded times. */
void ivshm_speed_time(void *memory, bool may_store, struct ivshm_speed_times *times);

/* The directory above /proc and /sys. Weak, for tests. */
const char *ivshm_speed_root(void);

#endif
