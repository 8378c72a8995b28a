/* SPDX-License-Identifier: mpich2 */
/* Warns if the region is mapped so that each access is slow. */
#ifndef IVSHMEM_SPEED_H
#define IVSHMEM_SPEED_H

#include "ivshmem_netmod.h"

void MPID_nem_ivshmem_speed_check(void);

#endif
