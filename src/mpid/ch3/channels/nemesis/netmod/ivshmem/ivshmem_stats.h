/* SPDX-License-Identifier: mpich2 */
/*
 * The counters: registers them with MPI_T; tells `ivshmem top` of them; prints them, or those of
 * one connection, to standard error.
 */
#ifndef IVSHMEM_STATS_H
#define IVSHMEM_STATS_H

#include "ivshmem_netmod.h"

void MPID_nem_ivshmem_stats_register(void);
/* Tells those who look at the region, about once a second. */
void MPID_nem_ivshmem_stats_tell(void);
void MPID_nem_ivshmem_stats_print(void);
void MPID_nem_ivshmem_stats_print_vc(MPIDI_VC_t *vc);

#endif
