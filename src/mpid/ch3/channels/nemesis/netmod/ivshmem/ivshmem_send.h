/* SPDX-License-Identifier: mpich2 */
/* Packets, on a connection that has a channel. */
#ifndef IVSHMEM_SEND_H
#define IVSHMEM_SEND_H

#include "ivshmem_netmod.h"

/* The functions that CH3 calls. */
int MPID_nem_ivshmem_iStartContigMsg(MPIDI_VC_t *vc, void *hdr, intptr_t hdr_sz, void *data,
                                     intptr_t data_sz, MPIR_Request **sreq_ptr);
int MPID_nem_ivshmem_iSendContig(MPIDI_VC_t *vc, MPIR_Request *sreq, void *hdr, intptr_t hdr_sz,
                                 void *data, intptr_t data_sz);
int MPID_nem_ivshmem_iSendIov(MPIDI_VC_t *vc, MPIR_Request *sreq, void *hdr, intptr_t hdr_sz,
                              struct iovec *iov, int n_iov);
int MPID_nem_ivshmem_SendNoncontig(MPIDI_VC_t *vc, MPIR_Request *sreq, void *hdr, intptr_t hdr_sz,
                                   struct iovec *hdr_iov, int n_hdr_iov);

/* Bytes of all pieces. */
size_t MPID_nem_ivshmem_iov_bytes(const struct iovec *iov, int n);

/* Sends what is queued on the connection, as far as there is room. */
int MPID_nem_ivshmem_send_drain(MPIDI_VC_t *vc);

/* Completes everything queued on the connection with `req_errno`, unsent. */
int MPID_nem_ivshmem_sendq_fail(MPIDI_VC_t *vc, int req_errno);

/* Whether an answer to an operation on this window is queued on the connection. */
bool MPID_nem_ivshmem_sendq_answers(MPIDI_VC_t *vc, const MPIR_Win *win);

#endif
