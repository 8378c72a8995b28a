/* SPDX-License-Identifier: mpich2 */
/*
 * What this rank has in the region for large messages, and lends to its peers: pipelines, and words
 * for cooperative copies.
 */
#include "ivshmem_netmod.h"

#define FREE_PIPELINES_MAX (1 + IVSHMEM_SENDER_PIPELINES_MAX) /* kept warm; more are given back */
#define COOP_WORDS 64                                         /* at a time */
#define CALLS_TO_RETRY 64

static struct ivshm_pipeline free_pipelines[FREE_PIPELINES_MAX];
static int free_pipeline_count;

/*
 * A pipeline, or the word of a cooperative copy, in which a peer was at work when we lost sight of
 * it. It may still be: what it had is used again once its claim says that it has left, or is dead.
 */
struct quarantined {
    struct quarantined *next;
    struct ivshm_owner peer;
    struct ivshm_coop_shm *coop; /* NULL: a pipeline */
    struct ivshm_pipeline pipeline;
};
static struct quarantined *quarantine_list;

/* Before the region is asked for a pipeline again: that takes long, and there may be many who wait.
 */
static unsigned calls_to_retry;

static struct ivshm_coop_shm *coop_words; /* words for our cooperative copies, once there was one */
static uint64_t coop_words_in_use; /* a bit each; all, if the region had no memory for them */

void MPID_nem_ivshmem_lmt_pool_free_coop(const struct ivshm_coop_shm *coop)
{
    coop_words_in_use &= ~(UINT64_C(1) << (coop - coop_words));
}

static int keep_free_pipeline(struct ivshm_pipeline *pipeline)
{
    if (free_pipeline_count == FREE_PIPELINES_MAX)
        return 0;
    free_pipelines[free_pipeline_count++] = *pipeline;
    return 1;
}

void MPID_nem_ivshmem_lmt_pool_free_pipeline(struct ivshm_pipeline *pipeline)
{
    if (!keep_free_pipeline(pipeline))
        ivshm_pipeline_free(&MPID_nem_ivshmem.region,
                            ivshm_transport_self(&MPID_nem_ivshmem.transport), pipeline);
}

/* Takes back what belongs to nobody any more. */
static void free_quarantined(void)
{
    for (struct quarantined *l, **link = &quarantine_list; (l = *link);) {
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

/* A word for a cooperative copy, or NULL: then we copy alone. */
struct ivshm_coop_shm *MPID_nem_ivshmem_lmt_pool_alloc_coop(void)
{
    if (unlikely(quarantine_list))
        free_quarantined();
    if (coop_words_in_use == UINT64_MAX)
        return NULL;
    if (!coop_words &&
        !(coop_words = MPID_nem_ivshmem_memory_alloc(COOP_WORDS * sizeof(*coop_words)))) {
        coop_words_in_use = UINT64_MAX;
        return NULL;
    }
    int i = __builtin_ctzll(~coop_words_in_use);
    coop_words_in_use |= UINT64_C(1) << i;
    return &coop_words[i];
}

static bool alloc_new_pipeline(struct ivshm_pipeline *pipeline)
{
    return ivshm_pipeline_alloc(&MPID_nem_ivshmem.region,
                                ivshm_transport_self(&MPID_nem_ivshmem.transport), pipeline) == 0;
}

/* Of the progress engine, while there are transfers. */
void MPID_nem_ivshmem_lmt_pool_begin_progress(void)
{
    if (calls_to_retry > 0)
        calls_to_retry--;
}

/* Leaves `keep` idle ones alone, and in the region what is there for those who join. */
bool MPID_nem_ivshmem_lmt_pool_alloc_pipeline(struct ivshm_pipeline *pipeline, int keep)
{
    if (unlikely(quarantine_list))
        free_quarantined();
    if (free_pipeline_count > keep) {
        *pipeline = free_pipelines[--free_pipeline_count];
        return true;
    }
    if (calls_to_retry > 0)
        return false;
    /* Without what is lost there may be none that comes back. */
    if (!quarantine_list &&
        !ivshm_extent_can_spare(&MPID_nem_ivshmem.region,
                                ivshm_pipeline_bytes(&MPID_nem_ivshmem.region))) {
        calls_to_retry = CALLS_TO_RETRY;
        return false;
    }
    return alloc_new_pipeline(pipeline);
}

int MPID_nem_ivshmem_lmt_pool_init(int job_size)
{
    struct ivshm_pipeline pipeline;
    struct ivshm_diag diag;

    free_pipeline_count = 0;
    calls_to_retry = 0;
    quarantine_list = NULL;
    coop_words = NULL;
    coop_words_in_use = 0;
    if (!alloc_new_pipeline(&pipeline)) {
        ivshm_endpoint_no_memory(&MPID_nem_ivshmem.region, (uint32_t) job_size, &diag);
        return MPID_nem_ivshmem_error(diag.text);
    }
    keep_free_pipeline(&pipeline);
    return MPI_SUCCESS;
}

void MPID_nem_ivshmem_lmt_pool_finalize(void)
{
    /* Leaving the region gives back the memory. */
    free_pipeline_count = 0;
    for (struct quarantined *l; (l = quarantine_list);) {
        quarantine_list = l->next;
        MPL_free(l);
    }
}

void MPID_nem_ivshmem_lmt_pool_quarantine(struct ivshm_owner peer, struct ivshm_coop_shm *coop,
                                          const struct ivshm_pipeline *pipeline)
{
    struct quarantined *l = MPL_malloc(sizeof(*l), MPL_MEM_OTHER);

    if (!l) /* not even once it is dead */
        return;
    *l = (struct quarantined){.next = quarantine_list, .peer = peer, .coop = coop};
    if (pipeline)
        l->pipeline = *pipeline;
    quarantine_list = l;
}
