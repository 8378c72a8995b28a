/* SPDX-License-Identifier: mpich2 */
/* A way to copy a large message: through a pipeline, that of the sender or the receiver. */
#ifndef IVSHMEM_PIPELINE_H
#define IVSHMEM_PIPELINE_H

#include "ivshmem_way.h"

extern const MPID_nem_ivshmem_way_t MPID_nem_ivshmem_way_pipeline;

#endif
