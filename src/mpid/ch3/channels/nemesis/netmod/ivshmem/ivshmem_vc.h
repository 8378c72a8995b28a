/* SPDX-License-Identifier: mpich2 */
/*
 * The virtual connections through the region: the lists of them, how they are found, and the mark
 * on one that is about to fail.
 */
#ifndef IVSHMEM_VC_H
#define IVSHMEM_VC_H

#include "ivshmem_netmod.h"

/* The functions that CH3 calls to send on a connection. */
typedef struct MPID_nem_ivshmem_ops {
    __typeof__(((MPIDI_VC_t *) 0)->sendNoncontig_fn) sendNoncontig;
    __typeof__(((MPIDI_VC_t *) 0)->rndvSend_fn) rndvSend;
    __typeof__(((MPIDI_VC_t *) 0)->ch.iStartContigMsg) iStartContigMsg;
    __typeof__(((MPIDI_VC_t *) 0)->ch.iSendContig) iSendContig;
    __typeof__(((MPIDI_VC_t *) 0)->ch.iSendIov) iSendIov;
} MPID_nem_ivshmem_ops_t;

/*
 * set_ops sets the functions that CH3 calls to send. A busy VC is looked after by each progress
 * call; linking it twice is harmless.
 */
void MPID_nem_ivshmem_vc_set_ops(MPIDI_VC_t *vc, const MPID_nem_ivshmem_ops_t *ops);
void MPID_nem_ivshmem_vc_link_busy(MPIDI_VC_t *vc);
void MPID_nem_ivshmem_vc_unlink_busy(MPIDI_VC_t *vc);

/*
 * The connector names a stream: by the port's tag, which tells the other side which port is meant,
 * and a count. The other direction is the same stream with the reply bit set.
 */
#define IVSHMEM_STREAM_REPLY UINT32_C(0x80000000)

/* Calls by MPI_Comm_connect, in either direction. They are found by channel and stream. */
void MPID_nem_ivshmem_vc_add_call(MPIDI_VC_t *vc, struct ivshm_channel *channel, uint32_t stream);
void MPID_nem_ivshmem_vc_remove_call(MPIDI_VC_t *vc);
MPIDI_VC_t *MPID_nem_ivshmem_vc_find_call(const struct ivshm_channel *channel, uint32_t stream);

/* Iterates over the ranks of all known jobs, except those on this node. Initialise with {0}. */
typedef struct {
    MPIDI_PG_iterator pgs;
    MPIDI_PG_t *pg;
    int rank;
} MPID_nem_ivshmem_ranks_t;

/* The connection to the next rank; NULL after the last. */
MPIDI_VC_t *MPID_nem_ivshmem_vc_next(MPID_nem_ivshmem_ranks_t *at);

/* Writes the peer's name, for messages, and returns it. `vc` may be NULL: no job known yet. */
enum { IVSHMEM_NAME_MAX = 200 };
const char *MPID_nem_ivshmem_vc_name(const MPIDI_VC_t *vc, char name[IVSHMEM_NAME_MAX]);

/* The MPI error (class MPIX_ERR_PROC_FAILED) that names the peer and says what is wrong with it. */
int MPID_nem_ivshmem_vc_error(const MPIDI_VC_t *vc, const char *why);

/*
 * Has the connection fail at the next safe point, with this reason; from now on, what the peer
 * sends is dropped. Does nothing if it is marked already, or has no channel.
 */
void MPID_nem_ivshmem_vc_mark_failed(MPIDI_VC_t *vc, const char *why);

/* Has only the requests of a call end at the next safe point: the other root closes it. */
void MPID_nem_ivshmem_vc_mark_left(MPIDI_VC_t *vc, const char *why);

#endif
