/* SPDX-License-Identifier: mpich2 */
/*
 * Runs: hands out parts of memory that the process has already, in units, by index. Two-level
 * segregated fit: every call takes the same short time, however many runs there are. What it knows
 * of them lies in private memory, apart from the memory itself, which peers can write. Not
 * thread-safe; used by whoever takes extents for the program.
 *
 * Memory comes as spans. A run never reaches from one into the next, so that a span all of which is
 * free can be given back as it came.
 */
#ifndef IVSHM_RUNS_H
#define IVSHM_RUNS_H

#include <stdbool.h>
#include <stdint.h>

#define IVSHM_RUN_NONE UINT32_MAX
#define IVSHM_RUN_BINS 128

/* One for each unit. No state: not in any span, or in the middle of a run. */
struct ivshm_run {
    uint32_t units; /* at the first and the last unit of a run: how long that is */
    uint32_t state; /* enum ivshm_run_state */
    /*
     * At the first of a free run: its bin's list. At the first of one that was handed out: for
     * whoever has taken it; 0 at first. Further on, `next` may be where the run begins.
     */
    uint32_t next, prev;
};

enum ivshm_run_state {
    IVSHM_RUN_USED = 1, /* a run that was handed out begins here */
    IVSHM_RUN_FREE = 2, /* a free one begins here */
    IVSHM_RUN_LAST = 4, /* one of several units ends here */
    IVSHM_RUN_SPAN = 8, /* a span begins here, too */
    IVSHM_RUN_KEPT = 16 /* a run begins here that is not to be handed out again */
};

struct ivshm_runs {
    struct ivshm_run *table;
    uint64_t free_span_units; /* units in spans that are wholly free */
    uint64_t bins[IVSHM_RUN_BINS / 64];
    uint32_t heads[IVSHM_RUN_BINS];
};

/* `table` is all zero, and has one entry more than there are units. */
void ivshm_runs_init(struct ivshm_runs *runs, struct ivshm_run *table);

/* Adds a span of `units` > 0 at `first`, free. */
void ivshm_runs_add(struct ivshm_runs *runs, uint32_t first, uint32_t units);

/* Takes `units` > 0; IVSHM_RUN_NONE if there is no run that is long enough. */
uint32_t ivshm_runs_alloc(struct ivshm_runs *runs, uint32_t units);

/* No run that is free has more units; 0 if there is none. */
uint32_t ivshm_runs_largest(const struct ivshm_runs *runs);

/* The units of the run that was taken at `first`; 0 if none was. */
uint32_t ivshm_runs_used(const struct ivshm_runs *runs, uint32_t first);

/* Where the run begins that has been taken and has that unit; IVSHM_RUN_NONE if it is in none. */
uint32_t ivshm_runs_find(const struct ivshm_runs *runs, uint32_t unit);

/* What was taken at `first` is not to be handed out again when it is given back. */
void ivshm_runs_keep(struct ivshm_runs *runs, uint32_t first);

/* Gives back what was taken at `first`; returns where the free run that it is now part of begins.
 */
uint32_t ivshm_runs_free(struct ivshm_runs *runs, uint32_t first);

/* Whether the free run at `first` is a whole span, */
bool ivshm_runs_is_span(const struct ivshm_runs *runs, uint32_t first);

/* which this removes; returns its units. */
uint32_t ivshm_runs_remove(struct ivshm_runs *runs, uint32_t first);

#endif
