/* SPDX-License-Identifier: mpich2 */
/*
 * A pool: the owner's private side of its cells of one size. Only the pool knows which cells are in
 * flight, and to whom, so no peer can free a cell that was not in flight. The receiver frees a cell
 * by one store in the cell's header. Nothing is queued, so a receiver that dies leaves nothing half
 * done.
 *
 * One thread at a time. Cells are named by their index, below `count`. Costs that are not stated
 * are constant. Edge C1.
 */
#ifndef IVSHM_POOL_H
#define IVSHM_POOL_H

#include "layout.h"

#include <stdbool.h>

struct ivshm_pool {
    unsigned char *cells; /* in the region, not owned by the pool */
    uint32_t count, size; /* number of cells; bytes of each, header included */
    uint32_t free_count, in_flight_count;
    uint16_t *free;      /* a stack: the cell freed last is most likely still cached */
    uint16_t *in_flight; /* in the order in which they were sent */
    uint16_t *holder;    /* for each cell, the endpoint that it was sent to */
};

/*
 * All cells are free. `cells` has count * size bytes and outlives the pool; `count` is below 65536.
 * -ENOMEM. Ends with ivshm_pool_destroy. Cost: a step for each cell.
 */
int ivshm_pool_init(struct ivshm_pool *pool, void *cells, uint32_t count, uint32_t size);

/*
 * Frees the private memory. Leaves the cells as they are; an all-zero pool may be destroyed, too.
 */
void ivshm_pool_destroy(struct ivshm_pool *pool);

/*
 * A free cell, or -1 if all are in flight. The call ends in ivshm_pool_set_in_flight or
 * ivshm_pool_free. Cost: constant; if no free cell is known, up to two loads for each cell in
 * flight. Acquires C1: the receiver has finished reading.
 */
int ivshm_pool_alloc(struct ivshm_pool *pool);

/* Frees an allocated cell that was not sent. */
void ivshm_pool_free(struct ivshm_pool *pool, uint32_t index);

/*
 * Marks a cell that is about to be published to endpoint `holder`: it is in flight until that
 * endpoint frees it (C1). Ordered before the publication by Q1 or R1.
 */
void ivshm_pool_set_in_flight(struct ivshm_pool *pool, uint32_t index, uint32_t holder);

/*
 * Frees all cells that `holder` has. It must have left or be proved dead, else it could still use
 * them. Cost: the cells in flight.
 */
void ivshm_pool_reclaim(struct ivshm_pool *pool, uint32_t holder);

/*
 * Whether more than half of the cells are in flight. Cost: constant if fewer are known to be, else
 * a load for each cell in flight (acquire C1).
 */
bool ivshm_pool_is_half_in_flight(struct ivshm_pool *pool);

/* How many cells `holder` has (acquire C1). Cost: a load for each cell in flight. */
uint32_t ivshm_pool_in_flight(struct ivshm_pool *pool, uint32_t holder);

/* The address of a cell. */
static inline struct ivshm_cell_shm *ivshm_pool_cell(const struct ivshm_pool *pool, uint32_t index)
{
    return (struct ivshm_cell_shm *) (pool->cells + (uint64_t) index * pool->size);
}

#endif
