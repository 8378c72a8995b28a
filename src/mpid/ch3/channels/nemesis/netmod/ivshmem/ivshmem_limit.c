/* SPDX-License-Identifier: mpich2 */
/*
 * The size up to which a message is sent eagerly. While it fits into a few cells, one trip beats
 * the three of a rendezvous. Where buffers are in the region, a single copy beats both. Called by
 * the netmod's other files, under MPICH's global lock.
 */
#include "ivshmem_limit.h"

#define SINGLE_COPY_EAGER_LIMIT 12000 /* bytes */

static intptr_t eager_limit(void)
{
    if (MPIR_CVAR_NEMESIS_IVSHMEM_EAGER_LIMIT >= 0)
        return MPIR_CVAR_NEMESIS_IVSHMEM_EAGER_LIMIT;
    return MPID_nem_ivshmem.prefers_single_copy ? SINGLE_COPY_EAGER_LIMIT : IVSHM_EAGER_MAX;
}

void MPID_nem_ivshmem_limit_set(MPIDI_VC_t *vc)
{
    vc->eager_max_msg_sz = eager_limit();
    vc->ready_eager_max_msg_sz = vc->eager_max_msg_sz;
}

/* The program has memory in the region, and will send from it or receive into it. */
void MPID_nem_ivshmem_limit_prefer_single_copy(void)
{
    if (MPID_nem_ivshmem.prefers_single_copy)
        return;
    MPID_nem_ivshmem.prefers_single_copy = true;
    for (uint32_t i = 0; i < ivshm_region_endpoints(&MPID_nem_ivshmem.region); i++)
        if (MPID_nem_ivshmem.vcs[i])
            MPID_nem_ivshmem_limit_set(MPID_nem_ivshmem.vcs[i]);
    for (MPIDI_VC_t *vc = MPID_nem_ivshmem.dynamic; vc; vc = VC_IVSHMEM(vc)->next_dynamic)
        MPID_nem_ivshmem_limit_set(vc);
}
