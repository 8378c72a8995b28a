/* SPDX-License-Identifier: mpich2 */
/*
 * All differences between the releases of MPICH onto which the netmod is grafted, and nothing else.
 * 4.0.2 is built and tested. The code for later releases follows their sources and was never
 * compiled, which is why ivshmem-graft asks before it continues with them.
 */
#ifndef IVSHMEM_COMPAT_H
#define IVSHMEM_COMPAT_H

#include "mpidimpl.h"
#include "mpid_nem_impl.h"
#include "mpid_nem_nets.h"

#define IVSHMEM_COMPAT_4_1 40100000 /* first pre-release of 4.1, as MPICH_NUMVERSION counts */

#if MPICH_NUMVERSION < IVSHMEM_COMPAT_4_1
#ifdef USE_PMI2_API
#include "pmi2.h"
#else
#include "pmi.h"
#endif
#endif

/* The longest value of the process manager's key-value space, in bytes. */
static inline int ivshmem_compat_max_val_size(void)
{
#if MPICH_NUMVERSION >= IVSHMEM_COMPAT_4_1
    return MPIR_pmi_max_val_size();
#elif defined(USE_PMI2_API)
    return PMI2_MAX_VALLEN;
#else
    int size = 0;
    return PMI_KVS_Get_value_length_max(&size) == PMI_SUCCESS ? size : 0;
#endif
}

#if MPICH_NUMVERSION >= IVSHMEM_COMPAT_4_1
#define IVSHMEM_COMPAT_TYPEREP_FLAGS , MPIR_TYPEREP_FLAG_NONE
#else
#define IVSHMEM_COMPAT_TYPEREP_FLAGS
#endif
#define ivshmem_compat_pack(buf, count, type, offset, out, max, actual)                            \
    MPIR_Typerep_pack(buf, count, type, offset, out, max, actual IVSHMEM_COMPAT_TYPEREP_FLAGS)
#define ivshmem_compat_unpack(in, size, buf, count, type, offset, actual)                          \
    MPIR_Typerep_unpack(in, size, buf, count, type, offset, actual IVSHMEM_COMPAT_TYPEREP_FLAGS)

#endif
