/* SPDX-License-Identifier: mpich2 */
/*
 * Which processes MPICH takes for failed, under MPIR_CVAR_ENABLE_FT.
 *   init   before the first connection
 *   found  a process of MPI_COMM_WORLD is dead: its communicators take no receive from
 *          MPI_ANY_SOURCE until that is acknowledged, and a call that waits looks again
 */
#ifndef IVSHMEM_DEATHS_H
#define IVSHMEM_DEATHS_H

#include "ivshmem_netmod.h"

void MPID_nem_ivshmem_deaths_init(void);
int MPID_nem_ivshmem_deaths_found(int rank);

#endif
