/* SPDX-License-Identifier: mpich2 */
#include "pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int ivshm_pool_init(struct ivshm_pool *pool, void *cells, uint32_t count, uint32_t size)
{
    struct ivshm_pool p = {.cells = cells, .count = count, .size = size, .home_count = count};
    p.home = malloc(3 * count * sizeof(*p.home));
    if (!p.home)
        return -ENOMEM;
    p.out = p.home + count;
    p.holder = p.out + count;
    for (uint32_t i = 0; i < count; i++)
        p.home[i] = (uint16_t) (count - 1 - i);
    *pool = p;
    return 0;
}

void ivshm_pool_destroy(struct ivshm_pool *pool)
{
    free(pool->home);
    memset(pool, 0, sizeof(*pool));
}

/* Moves what has come home from `out` to `home`; stops at the first that has not, unless `all`. */
static void collect(struct ivshm_pool *pool, bool all)
{
    uint32_t kept = 0, i;
    for (i = 0; i < pool->out_count; i++) {
        uint16_t index = pool->out[i];
        /* Acquire C1: the holder's reads of the payload are over before we write it again. */
        uint32_t state = ivshm_load32_acquire(&ivshm_pool_cell(pool, index)->state);
        if (state == IVSHM_CELL_HOME)
            pool->home[pool->home_count++] = index;
        else if (all)
            pool->out[kept++] = index;
        else
            break;
    }
    if (!all) {
        kept = pool->out_count - i;
        memmove(pool->out, pool->out + i, kept * sizeof(*pool->out));
    }
    pool->out_count = kept;
}

int ivshm_pool_take(struct ivshm_pool *pool)
{
    if (pool->home_count == 0)
        collect(pool, false);
    if (pool->home_count == 0)
        collect(pool, true);
    return pool->home_count ? pool->home[--pool->home_count] : -1;
}

void ivshm_pool_put(struct ivshm_pool *pool, uint32_t index)
{
    pool->home[pool->home_count++] = (uint16_t) index;
}

void ivshm_pool_sent(struct ivshm_pool *pool, uint32_t index, uint32_t holder)
{
    /* Relaxed: published with the rest of the cell by the queue's release, edge Q1. */
    ivshm_store32_relaxed(&ivshm_pool_cell(pool, index)->state, IVSHM_CELL_OUT);
    pool->holder[index] = (uint16_t) holder;
    pool->out[pool->out_count++] = (uint16_t) index;
}

void ivshm_pool_recall(struct ivshm_pool *pool, uint32_t holder)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < pool->out_count; i++) {
        uint16_t index = pool->out[i];
        if (pool->holder[index] == holder)
            pool->home[pool->home_count++] = index;
        else
            pool->out[kept++] = index;
    }
    pool->out_count = kept;
}

bool ivshm_pool_is_half_out(struct ivshm_pool *pool)
{
    if (pool->out_count > pool->count / 2)
        collect(pool, true);
    return pool->out_count > pool->count / 2;
}

uint32_t ivshm_pool_out(struct ivshm_pool *pool, uint32_t holder)
{
    uint32_t n = 0;
    collect(pool, true);
    for (uint32_t i = 0; i < pool->out_count; i++)
        n += pool->holder[pool->out[i]] == holder;
    return n;
}
