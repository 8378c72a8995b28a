/* SPDX-License-Identifier: mpich2 */
/*
 * Ways to copy a large message from or to memory of the region: the receiver reads the sender's
 * buffer, the sender writes into the receiver's, or both copy pieces.
 */
#ifndef IVSHMEM_COPY_H
#define IVSHMEM_COPY_H

#include "ivshmem_way.h"

extern const MPID_nem_ivshmem_way_t MPID_nem_ivshmem_way_read;
extern const MPID_nem_ivshmem_way_t MPID_nem_ivshmem_way_write;
extern const MPID_nem_ivshmem_way_t MPID_nem_ivshmem_way_coop;

/* For all ways: copies the next bytes of the user's buffer, at most `max`, to `to`. */
void MPID_nem_ivshmem_copy_pack(MPID_nem_ivshmem_transfer_t *t, void *to, intptr_t max);

#endif
