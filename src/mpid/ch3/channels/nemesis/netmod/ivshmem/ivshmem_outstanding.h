/* SPDX-License-Identifier: mpich2 */
/*
 * Requests that wait for an answer from a peer:
 *   add       before `pkt` is sent; harmless if repeated, and for packets that need no answer
 *   find      the request if it is outstanding at this peer; else NULL
 *   awaits    whether an answer of this packet type is still due
 *   answered  an answer of this type has arrived: it is due no more
 *   withdraw  no answer is due any more
 *   replace   an answer of this type is due instead
 *   fail      completes all requests that are outstanding at the peer with `req_errno`
 */
#ifndef IVSHMEM_OUTSTANDING_H
#define IVSHMEM_OUTSTANDING_H

#include "ivshmem_netmod.h"

int MPID_nem_ivshmem_outstanding_add(MPIDI_VC_t *vc, const MPIDI_CH3_Pkt_t *pkt);
MPIR_Request *MPID_nem_ivshmem_outstanding_find(MPIDI_VC_t *vc, MPI_Request handle);
bool MPID_nem_ivshmem_outstanding_awaits(MPIDI_VC_t *vc, MPI_Request handle, int type);
void MPID_nem_ivshmem_outstanding_answered(MPIDI_VC_t *vc, MPI_Request handle, int type);
void MPID_nem_ivshmem_outstanding_withdraw(MPIDI_VC_t *vc, MPI_Request handle);
void MPID_nem_ivshmem_outstanding_replace(MPIDI_VC_t *vc, MPI_Request handle, int type);
int MPID_nem_ivshmem_outstanding_fail(MPIDI_VC_t *vc, int req_errno);

#endif
