/* SPDX-License-Identifier: mpich2 */
/*
 * The netmod's progress call. init after the region was joined; finalize before the transport is
 * closed.
 */
#ifndef IVSHMEM_POLL_H
#define IVSHMEM_POLL_H

#include "ivshmem_netmod.h"

int MPID_nem_ivshmem_poll_init(void);
void MPID_nem_ivshmem_poll_finalize(void);
int MPID_nem_ivshmem_poll(int in_blocking_poll);

#endif
