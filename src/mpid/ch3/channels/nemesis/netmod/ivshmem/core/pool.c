/* SPDX-License-Identifier: mpich2 */
#include "pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int ivshm_pool_init(struct ivshm_pool *pool, void *cells, uint32_t count, uint32_t size)
{
    struct ivshm_pool p = {.cells = cells, .count = count, .size = size, .free_count = count};
    p.free = malloc(3 * count * sizeof(*p.free));
    if (!p.free)
        return -ENOMEM;
    p.in_flight = p.free + count;
    p.holder = p.in_flight + count;
    for (uint32_t i = 0; i < count; i++)
        p.free[i] = (uint16_t) (count - 1 - i);
    *pool = p;
    return 0;
}

void ivshm_pool_destroy(struct ivshm_pool *pool)
{
    free(pool->free);
    memset(pool, 0, sizeof(*pool));
}

/*
 * Moves freed cells from `in_flight` to `free`. Stops at the first one that is not free, unless
 * `all`.
 */
static void collect_freed(struct ivshm_pool *pool, bool all)
{
    uint32_t kept = 0, i;
    for (i = 0; i < pool->in_flight_count; i++) {
        uint16_t index = pool->in_flight[i];
        /* Acquire C1: the holder has finished reading the payload before we write it again. */
        uint32_t state = ivshm_a32_load_acquire(&ivshm_pool_cell(pool, index)->state);
        if (state == IVSHM_CELL_FREE)
            pool->free[pool->free_count++] = index;
        else if (all)
            pool->in_flight[kept++] = index;
        else
            break;
    }
    if (!all) {
        kept = pool->in_flight_count - i;
        memmove(pool->in_flight, pool->in_flight + i, kept * sizeof(*pool->in_flight));
    }
    pool->in_flight_count = kept;
}

int ivshm_pool_alloc(struct ivshm_pool *pool)
{
    if (pool->free_count == 0)
        collect_freed(pool, false);
    if (pool->free_count == 0)
        collect_freed(pool, true);
    return pool->free_count ? pool->free[--pool->free_count] : -1;
}

void ivshm_pool_free(struct ivshm_pool *pool, uint32_t index)
{
    pool->free[pool->free_count++] = (uint16_t) index;
}

void ivshm_pool_set_in_flight(struct ivshm_pool *pool, uint32_t index, uint32_t holder)
{
    /* Relaxed: published with the rest of the cell by Q1 or R1. */
    ivshm_a32_store_relaxed(&ivshm_pool_cell(pool, index)->state, IVSHM_CELL_IN_FLIGHT);
    pool->holder[index] = (uint16_t) holder;
    pool->in_flight[pool->in_flight_count++] = (uint16_t) index;
}

void ivshm_pool_reclaim(struct ivshm_pool *pool, uint32_t holder)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < pool->in_flight_count; i++) {
        uint16_t index = pool->in_flight[i];
        if (pool->holder[index] == holder)
            pool->free[pool->free_count++] = index;
        else
            pool->in_flight[kept++] = index;
    }
    pool->in_flight_count = kept;
}

bool ivshm_pool_is_half_in_flight(struct ivshm_pool *pool)
{
    if (pool->in_flight_count > pool->count / 2)
        collect_freed(pool, true);
    return pool->in_flight_count > pool->count / 2;
}

uint32_t ivshm_pool_in_flight(struct ivshm_pool *pool, uint32_t holder)
{
    uint32_t n = 0;
    collect_freed(pool, true);
    for (uint32_t i = 0; i < pool->in_flight_count; i++)
        n += pool->holder[pool->in_flight[i]] == holder;
    return n;
}
