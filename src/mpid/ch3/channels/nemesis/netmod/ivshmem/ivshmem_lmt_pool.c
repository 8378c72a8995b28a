/* SPDX-License-Identifier: mpich2 */
/*
 * The LMT pool: the pipelines, and the words for cooperative copies, that this rank has in the
 * region for its large messages. Called by the ways for large messages (ivshmem_pipeline.c and
 * ivshmem_copy.c), and by ivshmem_lmt.c, under MPICH's global lock.
 */
#include "ivshmem_lmt_pool.h"

#include "ivshmem_memory.h"
#include "ivshmem_error.h"

#define COOP_WORDS 64 /* allocated together */
#define CALLS_TO_RETRY 64

/*
 * A pipeline, or the word of a cooperative copy, that a peer was using when its connection failed.
 * The peer may still be writing there, so the memory is used again only when its claim says that it
 * has left, or is dead.
 */
struct MPID_nem_ivshmem_quarantined {
    struct MPID_nem_ivshmem_quarantined *next;
    struct ivshm_owner peer;
    struct ivshm_coop_shm *coop; /* NULL for a pipeline */
    struct ivshm_pipeline pipeline;
};

typedef struct MPID_nem_ivshmem_quarantined quarantined_t;

static __typeof__(MPID_nem_ivshmem.lmt_pool) *const pool = &MPID_nem_ivshmem.lmt_pool;

void MPID_nem_ivshmem_lmt_pool_free_coop(const struct ivshm_coop_shm *coop)
{
    pool->words_in_use &= ~(UINT64_C(1) << (coop - pool->words));
}

static int keep_free_pipeline(struct ivshm_pipeline *pipeline)
{
    if (pool->free_count == IVSHMEM_FREE_PIPELINES_MAX)
        return 0;
    pool->free_pipelines[pool->free_count++] = *pipeline;
    return 1;
}

void MPID_nem_ivshmem_lmt_pool_free_pipeline(struct ivshm_pipeline *pipeline)
{
    if (!keep_free_pipeline(pipeline))
        ivshm_pipeline_free(&MPID_nem_ivshmem.region,
                            ivshm_transport_self(&MPID_nem_ivshmem.transport), pipeline);
}

/* Frees what belongs to peers that have gone. */
static void free_quarantined(void)
{
    for (quarantined_t *l, **link = &pool->quarantined; (l = *link);) {
        if (ivshm_endpoint_is_live(&MPID_nem_ivshmem.region, l->peer)) {
            link = &l->next;
            continue;
        }
        *link = l->next;
        if (l->coop) {
            MPID_nem_ivshmem_lmt_pool_free_coop(l->coop);
        } else {
            ivshm_pipeline_reset(&l->pipeline);
            MPID_nem_ivshmem_lmt_pool_free_pipeline(&l->pipeline);
        }
        MPL_free(l);
    }
}

/* A word for a cooperative copy. NULL: the receiver copies alone. */
struct ivshm_coop_shm *MPID_nem_ivshmem_lmt_pool_alloc_coop(void)
{
    if (unlikely(pool->quarantined))
        free_quarantined();
    if (pool->words_in_use == UINT64_MAX)
        return NULL;
    if (!pool->words &&
        !(pool->words = MPID_nem_ivshmem_memory_alloc(COOP_WORDS * sizeof(*pool->words)))) {
        pool->words_in_use = UINT64_MAX;
        return NULL;
    }
    int i = __builtin_ctzll(~pool->words_in_use);
    pool->words_in_use |= UINT64_C(1) << i;
    return &pool->words[i];
}

static bool alloc_new_pipeline(struct ivshm_pipeline *pipeline)
{
    return ivshm_pipeline_alloc(&MPID_nem_ivshmem.region,
                                ivshm_transport_self(&MPID_nem_ivshmem.transport), pipeline) == 0;
}

/*
 * Pipelines are used in turn, and there are as many as the pool keeps, if half of the region stays
 * free. So a chunk is written again only after some MiB of others, when the receiver's processor
 * has most probably dropped it from its cache. To take it from there would cost several times as
 * much (doc/design.md).
 */
static void grow(void)
{
    const struct ivshm_region *region = &MPID_nem_ivshmem.region;
    uint64_t quarter = ivshm_map_size(ivshm_region_map(region)) / 4;
    struct ivshm_pipeline pipeline;

    pool->has_grown = true;
    while (pool->free_count < IVSHMEM_FREE_PIPELINES_MAX &&
           ivshm_extent_can_spare(region, quarter + ivshm_pipeline_bytes(region)) &&
           alloc_new_pipeline(&pipeline))
        keep_free_pipeline(&pipeline);
}

void MPID_nem_ivshmem_lmt_pool_begin_progress(void)
{
    if (MPID_nem_ivshmem.wait.slept)
        pool->calls_to_retry = 0;
    else if (pool->calls_to_retry > 0)
        pool->calls_to_retry--;
}

/*
 * Leaves `keep` free pipelines in the pool, and leaves in the region what stays free for ranks that
 * join.
 */
bool MPID_nem_ivshmem_lmt_pool_alloc_pipeline(struct ivshm_pipeline *pipeline, int keep)
{
    if (unlikely(pool->quarantined))
        free_quarantined();
    if (!pool->has_grown)
        grow();
    if (pool->free_count > keep) {
        *pipeline = pool->free_pipelines[0];
        memmove(pool->free_pipelines, pool->free_pipelines + 1,
                (size_t) --pool->free_count * sizeof(*pipeline));
        return true;
    }
    if (pool->calls_to_retry > 0)
        return false;
    /*
     * With a pipeline in quarantine, the pool may have none left to wait for, so this allocation
     * must not be refused.
     */
    if (!pool->quarantined &&
        !ivshm_extent_can_spare(&MPID_nem_ivshmem.region,
                                ivshm_pipeline_bytes(&MPID_nem_ivshmem.region))) {
        pool->calls_to_retry = CALLS_TO_RETRY;
        return false;
    }
    return alloc_new_pipeline(pipeline);
}

int MPID_nem_ivshmem_lmt_pool_init(int job_size)
{
    struct ivshm_pipeline pipeline;
    struct ivshm_diag diag;

    if (!alloc_new_pipeline(&pipeline)) {
        ivshm_endpoint_describe_no_memory(&MPID_nem_ivshmem.region, (uint32_t) job_size, &diag);
        return MPID_nem_ivshmem_error(diag.text);
    }
    keep_free_pipeline(&pipeline);
    return MPI_SUCCESS;
}

void MPID_nem_ivshmem_lmt_pool_finalize(void)
{
    /* Leaving the region frees the memory. */
    pool->free_count = 0;
    for (quarantined_t *l; (l = pool->quarantined);) {
        pool->quarantined = l->next;
        MPL_free(l);
    }
}

/* `what` without the link to the next. If there is no memory to note it, it is never used again. */
static void quarantine_memory(quarantined_t what)
{
    quarantined_t *l = MPL_malloc(sizeof(*l), MPL_MEM_OTHER);

    if (!l)
        return;
    *l = what;
    l->next = pool->quarantined;
    pool->quarantined = l;
}

void MPID_nem_ivshmem_lmt_pool_quarantine_pipeline(struct ivshm_owner peer,
                                                   const struct ivshm_pipeline *pipeline)
{
    quarantine_memory((quarantined_t){.peer = peer, .pipeline = *pipeline});
}

void MPID_nem_ivshmem_lmt_pool_quarantine_coop(struct ivshm_owner peer, struct ivshm_coop_shm *coop)
{
    quarantine_memory((quarantined_t){.peer = peer, .coop = coop});
}
