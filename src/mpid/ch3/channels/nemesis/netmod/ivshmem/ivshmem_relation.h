/* SPDX-License-Identifier: mpich2 */
/*
 * What a peer is to this process: which rank of a communicator it has, whether it is a member of a
 * window, and which memory a window opens to its members.
 */
#ifndef IVSHMEM_RELATION_H
#define IVSHMEM_RELATION_H

#include "ivshmem_packet.h"

/* The one-sided operation that is being received on a connection, if there is one. */
typedef struct MPID_nem_ivshmem_operation {
    MPI_Win window;                   /* the target window, or MPI_WIN_NULL */
    MPI_Aint flattened_bytes;         /* bytes of its flattened datatype */
    MPID_nem_ivshmem_range_t touched; /* memory of the window; empty if not known yet */
} MPID_nem_ivshmem_operation_t;

/* The operation being received on a connection that is bound to a channel. */
static inline MPID_nem_ivshmem_operation_t *MPID_nem_ivshmem_receiving(MPIDI_VC_t *vc)
{
    return &MPID_nem_ivshmem.operations[VC_IVSHMEM(vc)->stream
                                            ? ivshm_region_endpoints(&MPID_nem_ivshmem.region)
                                            : ivshm_channel_peer(VC_IVSHMEM(vc)->channel).endpoint];
}

/* Returned for a packet that must be checked again after news of a job or a communicator. */
extern const char MPID_nem_ivshmem_too_early[];

/*
 * Call init after the region was joined. The two checks return NULL, MPID_nem_ivshmem_too_early, or
 * what is wrong.
 */
int MPID_nem_ivshmem_relation_init(void);
const char *MPID_nem_ivshmem_relation_check_sender(MPIDI_VC_t *vc,
                                                   const MPIDI_Message_match *match);
const char *MPID_nem_ivshmem_relation_check_canceller(MPIDI_VC_t *vc,
                                                      const MPIDI_Message_match *match);

/* Whether the peer is in any communicator of this process. Slow: it searches them all. */
bool MPID_nem_ivshmem_relation_shares_comm(MPIDI_VC_t *vc);

/* Forgets a connection that ends, or a window that is freed. */
void MPID_nem_ivshmem_relation_forget_vc(MPIDI_VC_t *vc);
void MPID_nem_ivshmem_relation_forget_window(MPIR_Win *win);

/*
 * Removes from the lock queues of our windows all peers whose connection has failed. Call it only
 * while no packet is being handled, or before CH3 handles one.
 */
int MPID_nem_ivshmem_relation_forget_locks(void);

/* The window of ours with this handle, if the peer is a member of it; else NULL. */
MPIR_Win *MPID_nem_ivshmem_relation_find_window(MPIDI_VC_t *vc, MPI_Win handle);

/* Whether the peer has this rank in the window. */
bool MPID_nem_ivshmem_relation_is_target(MPIDI_VC_t *vc, const MPIR_Win *win, int rank);

/*
 * Whether the peer may end an access now; may request a lock, for which it does not wait already;
 * may release a lock, which it holds; and whether the rank grants its lock for the first time in
 * this MPI_Win_lock_all. Each also notes that it happens, so ask once, about a window just found.
 */
bool MPID_nem_ivshmem_relation_ends_access(MPIDI_VC_t *vc, MPIR_Win *win);
bool MPID_nem_ivshmem_relation_requests_lock(MPIDI_VC_t *vc, MPIR_Win *win);
bool MPID_nem_ivshmem_relation_releases_lock(MPIDI_VC_t *vc, MPIR_Win *win);
bool MPID_nem_ivshmem_relation_grants_lock(MPIR_Win *win, int rank);

/* The peer is lost, and with it the rest of the operation that is being received. */
void MPID_nem_ivshmem_relation_keeps_lock(MPIDI_VC_t *vc, const MPIR_Request *rreq);

/* Whether all of [start, start+bytes) is memory that the window opens to its members. */
bool MPID_nem_ivshmem_relation_opens(const MPIR_Win *win, intptr_t start, MPI_Aint bytes);

#endif
