/* SPDX-License-Identifier: mpich2 */
/*
 * Large messages, from their beginning to their end. vc_init sets a connection's LMT hooks,
 * progress advances all transfers, and fail completes those of a connection with `req_errno`.
 */
#ifndef IVSHMEM_LMT_H
#define IVSHMEM_LMT_H

#include "ivshmem_netmod.h"

void MPID_nem_ivshmem_lmt_vc_init(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_lmt_progress(void);
int MPID_nem_ivshmem_lmt_fail(MPIDI_VC_t *vc, int req_errno);

#endif
