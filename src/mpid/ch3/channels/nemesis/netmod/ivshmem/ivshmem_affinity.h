/* SPDX-License-Identifier: mpich2 */
/* Warns if this rank is bound away from the NUMA node of its memory. */
#ifndef IVSHMEM_AFFINITY_H
#define IVSHMEM_AFFINITY_H

#include "ivshmem_netmod.h"

void MPID_nem_ivshmem_affinity_check(void);

#endif
