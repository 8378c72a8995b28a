/* SPDX-License-Identifier: mpich2 */
/*
 * Source of the algorithm: M. Masmano, I. Ripoll, A. Crespo, J. Real, "TLSF: a new dynamic memory
 * allocator for real-time systems", 2004. Here the boundary tags lie in a table of their own.
 */
#include "runs.h"

#include <stddef.h>

#define STEPS_BITS 2 /* four bins for each power of two */
#define TRIES 4      /* runs to try in a bin whose runs may be too short */

/* The bin for runs of this length. */
static unsigned bin_of(uint32_t units)
{
    if (units < 1u << STEPS_BITS)
        return units;
    unsigned shift = 31 - STEPS_BITS - (unsigned) __builtin_clz(units);
    return ((shift + 1) << STEPS_BITS) + (units >> shift & ((1u << STEPS_BITS) - 1));
}

/* The greatest length of a run in that bin. */
static uint32_t largest_in_bin(unsigned bin)
{
    if (bin < 1u << STEPS_BITS)
        return bin;
    unsigned shift = (bin >> STEPS_BITS) - 1;
    return (((1u << STEPS_BITS) + (bin & ((1u << STEPS_BITS) - 1)) + 1) << shift) - 1;
}

static void link_free(struct ivshm_runs *runs, uint32_t first)
{
    struct ivshm_run *run = &runs->table[first];
    unsigned bin = bin_of(run->units);

    run->prev = IVSHM_RUN_NONE;
    run->next = runs->heads[bin];
    if (run->next != IVSHM_RUN_NONE)
        runs->table[run->next].prev = first;
    runs->heads[bin] = first;
    runs->bins[bin / 64] |= UINT64_C(1) << bin % 64;
}

static void unlink_free(struct ivshm_runs *runs, uint32_t first)
{
    struct ivshm_run *run = &runs->table[first];
    unsigned bin = bin_of(run->units);

    if (run->next != IVSHM_RUN_NONE)
        runs->table[run->next].prev = run->prev;
    if (run->prev != IVSHM_RUN_NONE)
        runs->table[run->prev].next = run->next;
    else
        runs->heads[bin] = run->next;
    if (runs->heads[bin] == IVSHM_RUN_NONE)
        runs->bins[bin / 64] &= ~(UINT64_C(1) << bin % 64);
}

/* Records at both ends of a run what it is. */
static void mark_run(struct ivshm_runs *runs, uint32_t first, uint32_t units, uint32_t state)
{
    struct ivshm_run *last = &runs->table[first + units - 1];

    *last = (struct ivshm_run){.units = units, .state = IVSHM_RUN_LAST};
    runs->table[first] = (struct ivshm_run){.units = units, .state = state};
}

/*
 * Records within a run where it begins, at the first multiple of each power of two. From any unit,
 * clearing the lowest bits one after the other leads to one of these signs, or to the first unit.
 * Signs stay when the run is freed: whoever meets one checks where it leads.
 */
static void post_signs(struct ivshm_runs *runs, uint32_t first, uint32_t units)
{
    for (uint32_t step = 2, at; (at = (first & ~(step - 1)) + step) < first + units; step *= 2)
        runs->table[at].next = first;
}

static void clear_run(struct ivshm_runs *runs, uint32_t first, uint32_t units)
{
    runs->table[first] = runs->table[first + units - 1] = (struct ivshm_run){0};
}

/* A free run of bin `bin` or a later one. */
static uint32_t find_from(const struct ivshm_runs *runs, unsigned bin)
{
    for (unsigned word = bin / 64; word < IVSHM_RUN_BINS / 64; word++) {
        uint64_t some = runs->bins[word] & (word == bin / 64 ? UINT64_MAX << bin % 64 : UINT64_MAX);
        if (some)
            return runs->heads[word * 64 + (unsigned) __builtin_ctzll(some)];
    }
    return IVSHM_RUN_NONE;
}

/* All runs in the bins after that of `units` are long enough; in its own, some may be. */
static uint32_t find_run(const struct ivshm_runs *runs, uint32_t units)
{
    uint32_t first = runs->heads[bin_of(units)];

    for (int i = 0; i < TRIES && first != IVSHM_RUN_NONE; i++, first = runs->table[first].next)
        if (runs->table[first].units >= units)
            return first;
    return find_from(runs, bin_of(units) + 1);
}

void ivshm_runs_init(struct ivshm_runs *runs, struct ivshm_run *table)
{
    *runs = (struct ivshm_runs){.table = table};
    for (unsigned bin = 0; bin < IVSHM_RUN_BINS; bin++)
        runs->heads[bin] = IVSHM_RUN_NONE;
}

void ivshm_runs_add(struct ivshm_runs *runs, uint32_t first, uint32_t units)
{
    mark_run(runs, first, units, IVSHM_RUN_FREE | IVSHM_RUN_SPAN);
    link_free(runs, first);
    runs->free_span_units += units;
}

uint32_t ivshm_runs_alloc(struct ivshm_runs *runs, uint32_t units)
{
    uint32_t first = find_run(runs, units), span, left;

    if (first == IVSHM_RUN_NONE)
        return IVSHM_RUN_NONE;
    if (ivshm_runs_is_span(runs, first))
        runs->free_span_units -= runs->table[first].units;
    unlink_free(runs, first);
    span = runs->table[first].state & IVSHM_RUN_SPAN;
    left = runs->table[first].units - units;
    mark_run(runs, first, units, IVSHM_RUN_USED | span);
    post_signs(runs, first, units);
    if (left > 0) {
        mark_run(runs, first + units, left, IVSHM_RUN_FREE);
        link_free(runs, first + units);
    }
    return first;
}

uint32_t ivshm_runs_largest(const struct ivshm_runs *runs)
{
    for (unsigned word = IVSHM_RUN_BINS / 64; word-- > 0;)
        if (runs->bins[word])
            return largest_in_bin(word * 64 + 63 - (unsigned) __builtin_clzll(runs->bins[word]));
    return 0;
}

uint32_t ivshm_runs_used(const struct ivshm_runs *runs, uint32_t first)
{
    return runs->table[first].state & IVSHM_RUN_USED ? runs->table[first].units : 0;
}

uint32_t ivshm_runs_find(const struct ivshm_runs *runs, uint32_t unit)
{
    const uint32_t begins = IVSHM_RUN_USED | IVSHM_RUN_FREE | IVSHM_RUN_KEPT;

    for (uint32_t step = 1; step > 0; step *= 2) {
        uint32_t at = unit & ~(step - 1);
        uint32_t first = runs->table[at].state & begins ? at : runs->table[at].next;
        if (first <= unit && unit - first < ivshm_runs_used(runs, first))
            return first;
    }
    return IVSHM_RUN_NONE;
}

void ivshm_runs_keep(struct ivshm_runs *runs, uint32_t first)
{
    runs->table[first].state |= IVSHM_RUN_KEPT;
}

uint32_t ivshm_runs_free(struct ivshm_runs *runs, uint32_t first)
{
    uint32_t units = runs->table[first].units, span = runs->table[first].state & IVSHM_RUN_SPAN;
    const struct ivshm_run *behind = &runs->table[first + units];

    if (runs->table[first].state & IVSHM_RUN_KEPT) {
        runs->table[first].state &= ~(uint32_t) IVSHM_RUN_USED;
        return first;
    }
    if (behind->state == IVSHM_RUN_FREE) { /* of the same span */
        uint32_t more = behind->units;
        unlink_free(runs, first + units);
        clear_run(runs, first + units, more);
        clear_run(runs, first, units);
        units += more;
    }
    if (!span) {
        uint32_t before = first - runs->table[first - 1].units;
        if (runs->table[before].state & IVSHM_RUN_FREE) {
            uint32_t more = runs->table[before].units;
            span = runs->table[before].state & IVSHM_RUN_SPAN;
            unlink_free(runs, before);
            clear_run(runs, before, more);
            clear_run(runs, first, units);
            first = before;
            units += more;
        }
    }
    mark_run(runs, first, units, IVSHM_RUN_FREE | span);
    link_free(runs, first);
    if (ivshm_runs_is_span(runs, first))
        runs->free_span_units += units;
    return first;
}

bool ivshm_runs_is_span(const struct ivshm_runs *runs, uint32_t first)
{
    const struct ivshm_run *run = &runs->table[first], *behind = run + run->units;
    return run->state == (IVSHM_RUN_FREE | IVSHM_RUN_SPAN) &&
           (behind->state == 0 || behind->state & IVSHM_RUN_SPAN);
}

uint32_t ivshm_runs_remove(struct ivshm_runs *runs, uint32_t first)
{
    uint32_t units = runs->table[first].units;

    unlink_free(runs, first);
    clear_run(runs, first, units);
    runs->free_span_units -= units;
    return units;
}
