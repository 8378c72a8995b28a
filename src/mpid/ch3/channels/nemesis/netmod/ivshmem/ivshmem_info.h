/* SPDX-License-Identifier: mpich2 */
/*
 * Lines on standard error that say how messages will go, if MPIR_CVAR_NEMESIS_IVSHMEM_INFO is set:
 * this rank's region and its sizes, and the path to one peer.
 */
#ifndef IVSHMEM_INFO_H
#define IVSHMEM_INFO_H

#include "ivshmem_netmod.h"

void MPID_nem_ivshmem_info_print(void);
void MPID_nem_ivshmem_info_print_vc(MPIDI_VC_t *vc);

#endif
