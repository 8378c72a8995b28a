/* SPDX-License-Identifier: mpich2 */
/*
 * What the files of `ivshmem top` share: ivshmem_top.c looks at the region and has the terminal,
 * ivshmem_top_print.c prints a look. Whatever peers have written is a figure here, and no more: it
 * may be wrong, and is never used as an address or an index.
 */
#ifndef IVSHMEM_TOP_H
#define IVSHMEM_TOP_H

#include "ivshmem_tool.h"

/* What a process has done in each second, since it told that before. */
struct top_rates {
#define X(name) double name;
    IVSHM_COUNTS(X)
#undef X
};

/* A process, as it was found. */
struct top_row {
    struct tool_entry entry;
    bool tells; /* what it does, and its counts, if told.time is not 0 */
    struct ivshm_told told;
    uint64_t heard; /* ns: when it told something new; and whether that is long ago */
    bool is_away;
    bool has_rates;
    struct top_rates rates;
    uint32_t cells; /* of its own, in flight */
    uint32_t rings; /* of its own; and the records in the fullest of them */
    uint32_t ring_used;
    unsigned processes; /* that this row is of: 1 unless rows were put together */
};

struct top_look {
    uint64_t at;    /* ns */
    double seconds; /* since the look before; 0 if there was none */
    struct ivshm_extent_usage usage;
    struct top_row *rows;
    int count;
};

/*
 * Prints a look in lines of less than `width` bytes, at most `height` of them, or as many as it
 * takes if that is 0; where there are fewer than the rows need, those of a job on a machine become
 * one. With `is_screen`, for a terminal: over what is there.
 */
void top_print(const struct ivshm_region *region, const struct top_look *look, int width,
               int height, bool is_screen);

/* Prints it as a JSON object. */
void top_print_json(const struct ivshm_region *region, const struct top_look *look);

#endif
