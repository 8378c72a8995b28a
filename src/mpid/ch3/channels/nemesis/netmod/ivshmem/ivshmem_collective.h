/* SPDX-License-Identifier: mpich2 */
/*
 * Collectives through the region: MPI_Barrier, MPI_Bcast, MPI_Allreduce, MPI_Allgather and
 * MPI_Alltoall of communicators whose ranks all share it. Call init in every rank, even in one
 * without a region, and finalize before the region is left.
 */
#ifndef IVSHMEM_COLLECTIVE_H
#define IVSHMEM_COLLECTIVE_H

#include "ivshmem_netmod.h"

int MPID_nem_ivshmem_collective_init(void);
void MPID_nem_ivshmem_collective_finalize(void);

#endif
