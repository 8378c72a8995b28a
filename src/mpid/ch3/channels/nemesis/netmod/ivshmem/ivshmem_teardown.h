/* SPDX-License-Identifier: mpich2 */
/*
 * How connections through the region end. All but destroy may complete requests, so call them only
 * while no packet is being handled.
 *   init        before the first connection; also for a process that joins no region
 *   destroy     closes the channel, if it is open
 *   terminate   CH3's close protocol has ended, or the process manager reports the peer's failure
 *   drained     terminates the connection, now or as soon as everything is sent
 *   failed_vcs  ends what is marked; returns the error for the current call
 */
#ifndef IVSHMEM_TEARDOWN_H
#define IVSHMEM_TEARDOWN_H

#include "ivshmem_netmod.h"

void MPID_nem_ivshmem_teardown_init(void);
int MPID_nem_ivshmem_teardown_destroy(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_teardown_terminate(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_teardown_drained(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_teardown_failed_vcs(void);

#endif
