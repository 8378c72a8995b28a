/* SPDX-License-Identifier: mpich2 */
/* Windows in the region. Call init in every rank, even in one without a region. */
#ifndef IVSHMEM_WINDOW_H
#define IVSHMEM_WINDOW_H

#include "ivshmem_netmod.h"

void MPID_nem_ivshmem_window_init(void);

#endif
