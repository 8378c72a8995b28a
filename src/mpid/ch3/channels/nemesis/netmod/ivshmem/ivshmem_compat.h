/* SPDX-License-Identifier: mpich2 */
/*
 * All that differs between the releases of MPICH that the netmod is grafted onto. Written against
 * 4.0.2; what later releases changed is in the design notes, and belongs here and nowhere else.
 */
#ifndef IVSHMEM_COMPAT_H
#define IVSHMEM_COMPAT_H

#include "mpidimpl.h"
#include "mpid_nem_impl.h"
#include "mpid_nem_nets.h"

#ifdef USE_PMI2_API
#include "pmi2.h"
#else
#include "pmi.h"
#endif

/* The longest value of the process manager's key-value space, in bytes. */
static inline int ivshmem_compat_max_val_size(void)
{
#ifdef USE_PMI2_API
    return PMI2_MAX_VALLEN;
#else
    int size = 0;
    return PMI_KVS_Get_value_length_max(&size) == PMI_SUCCESS ? size : 0;
#endif
}

#define ivshmem_compat_pack(buf, count, type, offset, out, max, actual)                            \
    MPIR_Typerep_pack(buf, count, type, offset, out, max, actual)
#define ivshmem_compat_unpack(in, size, buf, count, type, offset, actual)                          \
    MPIR_Typerep_unpack(in, size, buf, count, type, offset, actual)

#endif
