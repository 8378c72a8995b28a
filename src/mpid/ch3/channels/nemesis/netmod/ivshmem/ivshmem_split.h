/* SPDX-License-Identifier: mpich2 */
/*
 * Which ranks MPI_COMM_TYPE_SHARED means: those of a VM, as MPICH has it, or those of a region.
 * Call init in every rank, even in one without a region, after MPIR_CVAR_NEMESIS_IVSHMEM_SHARED is
 * set.
 */
#ifndef IVSHMEM_SPLIT_H
#define IVSHMEM_SPLIT_H

#include "ivshmem_netmod.h"

void MPID_nem_ivshmem_split_init(void);

#endif
