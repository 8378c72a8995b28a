/* SPDX-License-Identifier: mpich2 */
/*
 * A pool: the owner's private side of its cells of one size. Which cells are in flight, and with
 * whom, is known here alone, so that no peer can give back what was not out. A cell comes back by
 * one store of its holder, in its own header; nothing is queued, so nothing is cut when a holder
 * dies. One thread a pool.
 */
#ifndef IVSHM_POOL_H
#define IVSHM_POOL_H

#include "layout.h"

#include <stdbool.h>

struct ivshm_pool {
    unsigned char *cells; /* in the region */
    uint32_t count, size; /* cells, bytes each */
    uint32_t free_count, in_flight_count;
    uint16_t *free;      /* a stack: the cell that came back last is the warmest */
    uint16_t *in_flight; /* in the order of sending */
    uint16_t *holder;    /* endpoint that a cell went to, by cell */
};

/* 0 or -ENOMEM. All cells are free. */
int ivshm_pool_init(struct ivshm_pool *pool, void *cells, uint32_t count, uint32_t size);

void ivshm_pool_destroy(struct ivshm_pool *pool);

/* A cell that is free, or -1 if all are in flight. It ends in ivshm_pool_set_in_flight or
 * ivshm_pool_free. */
int ivshm_pool_alloc(struct ivshm_pool *pool);

/* The cell was not sent. */
void ivshm_pool_free(struct ivshm_pool *pool, uint32_t index);

/* The cell is about to be published to `holder`: it is in flight until that one releases it. */
void ivshm_pool_set_in_flight(struct ivshm_pool *pool, uint32_t index, uint32_t holder);

/* Takes back what `holder` has. It must be proved dead: it could write into the cells otherwise. */
void ivshm_pool_reclaim(struct ivshm_pool *pool, uint32_t holder);

/* Whether others hold more than half of the cells. Cost: the number of cells, if so. */
bool ivshm_pool_is_half_in_flight(struct ivshm_pool *pool);

/* How many `holder` has. */
uint32_t ivshm_pool_in_flight(struct ivshm_pool *pool, uint32_t holder);

static inline struct ivshm_cell_shm *ivshm_pool_cell(const struct ivshm_pool *pool, uint32_t index)
{
    return (struct ivshm_cell_shm *) (pool->cells + (uint64_t) index * pool->size);
}

#endif
