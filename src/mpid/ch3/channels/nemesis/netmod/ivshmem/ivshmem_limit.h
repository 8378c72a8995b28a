/* SPDX-License-Identifier: mpich2 */
/*
 * The largest message that is sent eagerly. limit_set sets it for a connection; prefer_single_copy
 * lowers it on all, once the program has memory in the region.
 */
#ifndef IVSHMEM_LIMIT_H
#define IVSHMEM_LIMIT_H

#include "ivshmem_netmod.h"

void MPID_nem_ivshmem_limit_set(MPIDI_VC_t *vc);
void MPID_nem_ivshmem_limit_prefer_single_copy(void);

#endif
