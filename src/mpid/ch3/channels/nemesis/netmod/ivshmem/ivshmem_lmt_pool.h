/* SPDX-License-Identifier: mpich2 */
/*
 * Our pipelines, and our words for cooperative copies. The alloc functions return false or NULL if
 * there is none; `keep` free pipelines stay in the pool. Call begin_progress in each progress call
 * while there are transfers. The quarantine functions take what a live peer may still
 * write: it is not used again before that peer has gone.
 */
#ifndef IVSHMEM_LMT_POOL_H
#define IVSHMEM_LMT_POOL_H

#include "ivshmem_netmod.h"

int MPID_nem_ivshmem_lmt_pool_init(int job_size);
void MPID_nem_ivshmem_lmt_pool_finalize(void);
void MPID_nem_ivshmem_lmt_pool_begin_progress(void);
bool MPID_nem_ivshmem_lmt_pool_alloc_pipeline(struct ivshm_pipeline *pipeline, int keep);
void MPID_nem_ivshmem_lmt_pool_free_pipeline(struct ivshm_pipeline *pipeline);
struct ivshm_coop_shm *MPID_nem_ivshmem_lmt_pool_alloc_coop(void);
void MPID_nem_ivshmem_lmt_pool_free_coop(const struct ivshm_coop_shm *coop);
void MPID_nem_ivshmem_lmt_pool_quarantine_pipeline(struct ivshm_owner peer,
                                                   const struct ivshm_pipeline *pipeline);
void MPID_nem_ivshmem_lmt_pool_quarantine_coop(struct ivshm_owner peer,
                                               struct ivshm_coop_shm *coop);

#endif
