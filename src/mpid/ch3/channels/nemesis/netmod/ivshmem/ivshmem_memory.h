/* SPDX-License-Identifier: mpich2 */
/*
 * The program's memory in the region:
 *   init            maps the region for the program, if it may have memory there
 *   in_use          whether the program has that mapping
 *   alloc           zeroed memory; NULL if the region has none to spare
 *   alloc_required  the same, and also from the memory that stays free for ranks that join
 *   free            false if `start` is not a block from here
 *   trim            returns to the region a free extent that was kept for reuse
 *   find            the offset of the program's memory; false if any of it is not in the region
 *   quarantine      never reuses the block: a peer may still write into it
 *   finalize        false if the region must stay open until the process ends
 *   is_of_file      after finalize: whether the program's memory is still backed by the file
 */
#ifndef IVSHMEM_MEMORY_H
#define IVSHMEM_MEMORY_H

#include "ivshmem_netmod.h"

int MPID_nem_ivshmem_memory_init(void);
bool MPID_nem_ivshmem_memory_in_use(void);
void *MPID_nem_ivshmem_memory_alloc(MPI_Aint bytes);
void *MPID_nem_ivshmem_memory_alloc_required(MPI_Aint bytes);
bool MPID_nem_ivshmem_memory_free(void *start);
void MPID_nem_ivshmem_memory_trim(void);
bool MPID_nem_ivshmem_memory_finalize(void);
bool MPID_nem_ivshmem_memory_is_of_file(void);
bool MPID_nem_ivshmem_memory_find(const void *start, intptr_t bytes, ivshm_off *off);
void MPID_nem_ivshmem_memory_quarantine(const void *start);

/* The offset of `start` in the region; the address may be in the program's mapping or in ours. */
static inline ivshm_off MPID_nem_ivshmem_offset_of(const void *start)
{
    uint64_t off = (uintptr_t) start - (uintptr_t) MPID_nem_ivshmem.user;
    if (MPID_nem_ivshmem.user && off < ivshm_region_size(&MPID_nem_ivshmem.region))
        return (ivshm_off){off};
    return ivshm_region_offset(&MPID_nem_ivshmem.region, start);
}

#endif
