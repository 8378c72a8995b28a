/* SPDX-License-Identifier: mpich2 */
/* Whether a pair uses the region or tcp, and the channels between ranks. */
#ifndef IVSHMEM_PATH_H
#define IVSHMEM_PATH_H

#include "ivshmem_card.h"

/*
 * init opens tcp and writes its part of the business card, get_card writes that part for a port,
 * and finalize closes tcp. The three vc functions are the netmod's.
 */
int MPID_nem_ivshmem_path_init(MPIDI_PG_t *pg, int pg_rank, char **bc_val_p, int *val_max_sz_p);
int MPID_nem_ivshmem_path_finalize(void);
int MPID_nem_ivshmem_path_get_card(int my_rank, char **bc_val_p, int *val_max_sz_p);
int MPID_nem_ivshmem_path_vc_init(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_path_vc_destroy(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_path_vc_terminate(MPIDI_VC_t *vc);

/* Whether the pair uses the region. An undecided path is decided only if it is the region. */
bool MPID_nem_ivshmem_path_is_in_region(MPIDI_VC_t *vc);

/* Opens a channel, which the caller closes. False if the peer has gone; the reason is in `text`. */
bool MPID_nem_ivshmem_path_open_channel(struct ivshm_owner peer, const char *who,
                                        struct ivshm_channel **channel,
                                        char text[IVSHMEM_TEXT_MAX]);

/* Makes `vc` a call on the stream. Takes over the caller's hold on the channel. */
void MPID_nem_ivshmem_path_bind_call(MPIDI_VC_t *vc, struct ivshm_channel *channel,
                                     uint32_t stream);

/*
 * The connection to the rank at the other end of a channel, bound to it now that its first message
 * has arrived. NULL in *vc_p: no rank that we know and still talk to; drop the message.
 */
int MPID_nem_ivshmem_path_adopt(struct ivshm_channel *channel, MPIDI_VC_t **vc_p);

/* Whether the sender claims to be of a job of which this process has not heard yet. */
bool MPID_nem_ivshmem_path_is_of_unknown_job(const struct ivshm_incoming *in);

/* The same as port_connect and poll, by tcp. */
int MPID_nem_ivshmem_path_tcp_connect(const char *business_card, MPIDI_VC_t *vc);
int MPID_nem_ivshmem_path_tcp_poll(int in_blocking_poll);

#endif
