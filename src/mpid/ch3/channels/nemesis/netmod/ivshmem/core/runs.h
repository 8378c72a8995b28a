/* SPDX-License-Identifier: mpich2 */
/*
 * Runs: allocates parts of memory that the process already has, in units, by index. The algorithm
 * is two-level segregated fit (TLSF) by Masmano et al.: every call takes the same short time,
 * however many runs there are. The state lies in private memory, apart from the memory itself,
 * which peers can write.
 *
 * Memory comes as spans. A run never extends from one span into the next, so a span that is wholly
 * free can be returned as it came. One thread at a time. All arguments are trusted: they come from
 * this process. No ordering edge: all of this is private.
 */
#ifndef IVSHM_RUNS_H
#define IVSHM_RUNS_H

#include <stdbool.h>
#include <stdint.h>

#define IVSHM_RUN_NONE UINT32_MAX
#define IVSHM_RUN_BINS 128

/*
 * The fields of the structures below are core's; use the functions. One for each unit. State 0: in
 * no span, or in the middle of a run.
 */
struct ivshm_run {
    uint32_t units; /* in the first and the last unit of a run: its length */
    uint32_t state; /* enum ivshm_run_state */
    /*
     * In the first unit of a free run: the list of its bin. In the first unit of an allocated
     * run: the caller's list, if `prev` is IVSHM_RUN_NONE. In other units, `next` may be where the
     * run begins.
     */
    uint32_t next, prev;
};

enum ivshm_run_state {
    IVSHM_RUN_USED = 1, /* an allocated run begins here */
    IVSHM_RUN_FREE = 2, /* a free run begins here */
    IVSHM_RUN_LAST = 4, /* a run of several units ends here */
    IVSHM_RUN_SPAN = 8, /* a span begins here as well */
    IVSHM_RUN_KEPT = 16 /* a run begins here that must not be allocated again */
};

struct ivshm_runs {
    struct ivshm_run *table;
    uint64_t free_span_units; /* units of spans that are wholly free */
    uint64_t bins[IVSHM_RUN_BINS / 64];
    uint32_t heads[IVSHM_RUN_BINS];
};

/*
 * Without any span yet. `table` is all zero, has one entry more than there are units, and outlives
 * `runs`.
 */
void ivshm_runs_init(struct ivshm_runs *runs, struct ivshm_run *table);

/* Adds a free span of `units` > 0 at unit `first`. */
void ivshm_runs_add(struct ivshm_runs *runs, uint32_t first, uint32_t units);

/*
 * Allocates `units` > 0; returns the first unit, or IVSHM_RUN_NONE if it finds no free run that is
 * long enough. Of the runs of about that length, it tries only a few.
 */
uint32_t ivshm_runs_alloc(struct ivshm_runs *runs, uint32_t units);

/* An upper bound of the units of every free run; 0 if there is none. */
uint32_t ivshm_runs_largest(const struct ivshm_runs *runs);

/* The units of the run that was allocated at `first`; 0 if there is none. */
uint32_t ivshm_runs_used(const struct ivshm_runs *runs, uint32_t first);

/*
 * The first unit of the allocated run that contains `unit`; IVSHM_RUN_NONE if none does. At most 32
 * steps.
 */
uint32_t ivshm_runs_find(const struct ivshm_runs *runs, uint32_t unit);

/* The run that was allocated at `first` will not be allocated again when it is freed. */
void ivshm_runs_keep(struct ivshm_runs *runs, uint32_t first);

/*
 * Frees what was allocated at `first`. Returns the first unit of the free run that it is now part
 * of; `first`, if it was kept.
 */
uint32_t ivshm_runs_free(struct ivshm_runs *runs, uint32_t first);

/*
 * Where the run at `first`, which is allocated, free or kept, ends: the first unit behind it. If
 * spans follow each other without a gap, the next run begins there.
 */
static inline uint32_t ivshm_runs_next(const struct ivshm_runs *runs, uint32_t first)
{
    return first + runs->table[first].units;
}

/*
 * Lists of allocated runs that a caller keeps. A list is the first of its runs, or IVSHM_RUN_NONE
 * if it is empty. A run is on at most one list, and is taken off it before it is freed. push puts
 * the run at the front, and returns false if it is on a list already; pop takes the run at the
 * front, and returns IVSHM_RUN_NONE if there is none.
 */
static inline bool ivshm_runs_push(struct ivshm_runs *runs, uint32_t *list, uint32_t first)
{
    struct ivshm_run *run = &runs->table[first];

    if (run->prev == IVSHM_RUN_NONE)
        return false;
    run->prev = IVSHM_RUN_NONE;
    run->next = *list;
    *list = first;
    return true;
}

static inline uint32_t ivshm_runs_pop(struct ivshm_runs *runs, uint32_t *list)
{
    uint32_t first = *list;

    if (first != IVSHM_RUN_NONE) {
        *list = runs->table[first].next;
        runs->table[first].prev = 0;
    }
    return first;
}

/* How many units the spans have that are wholly free. */
static inline uint64_t ivshm_runs_free_span_units(const struct ivshm_runs *runs)
{
    return runs->free_span_units;
}

/* Whether the free run at `first` is a whole span. */
bool ivshm_runs_is_span(const struct ivshm_runs *runs, uint32_t first);

/* Removes that span; returns its units. */
uint32_t ivshm_runs_remove(struct ivshm_runs *runs, uint32_t first);

#endif
