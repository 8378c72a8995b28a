/* SPDX-License-Identifier: mpich2 */
/*
 * Reports a SIGBUS in memory that the region's file has lost. Watch after the region is opened,
 * unwatch before it is closed. `program_has_it`: keep watching the program's mapping.
 */
#ifndef IVSHMEM_FAULT_H
#define IVSHMEM_FAULT_H

#include "ivshmem_netmod.h"

void MPID_nem_ivshmem_fault_watch(void);
void MPID_nem_ivshmem_fault_unwatch(bool program_has_it);

#endif
