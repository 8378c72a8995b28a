/* SPDX-License-Identifier: mpich2 */
/*
 * Agreement on memory of the region. Ranks that are about to share some tell each other which part
 * of it is theirs; what others say is checked against the table and the block map, so that all
 * accesses stay inside of memory of the rank that provides it.
 */
#ifndef IVSHMEM_PART_H
#define IVSHMEM_PART_H

#include "ivshmem_netmod.h"

/* What a rank tells the others about itself and its part. */
typedef struct {
    uint64_t region_id[2]; /* 0 if it has no part in a region */
    struct ivshm_owner owner;
    uint64_t seal; /* of the owner's entry, which a copy of the region does not have */
    ivshm_off off;
    uint64_t bytes;
    ivshm_off lock; /* of a window: only from rank 0 */
} MPID_nem_ivshmem_part_t;

/* A part of ours, in memory of the region; NULL for none. */
MPID_nem_ivshmem_part_t MPID_nem_ivshmem_part_of(const void *base, MPI_Aint bytes);

/* The part in memory of our own. None if that memory is not in the region. */
MPID_nem_ivshmem_part_t MPID_nem_ivshmem_part_own(const void *base, MPI_Aint bytes);

static inline bool MPID_nem_ivshmem_part_is_there(const MPID_nem_ivshmem_part_t *part)
{
    return part->region_id[0] | part->region_id[1];
}

static inline bool MPID_nem_ivshmem_part_is_near(const MPID_nem_ivshmem_part_t *a,
                                                 const MPID_nem_ivshmem_part_t *b)
{
    return a->region_id[0] == b->region_id[0] && a->region_id[1] == b->region_id[1];
}

/* Whether the ranks of a communicator share memory without a region. */
static inline bool MPID_nem_ivshmem_part_is_on_one_node(const MPIR_Comm *comm)
{
    return comm->local_size == 1 ||
           (comm->node_comm && comm->node_comm->local_size == comm->local_size);
}

/*
 * The first rank that has no part in rank 0's region, or an impossible one; `count` if there is
 * none. All ranks find the same: they have been told the same, and all in one region know its
 * number of endpoints.
 */
int MPID_nem_ivshmem_part_missing(const MPID_nem_ivshmem_part_t *parts, int count);

/* Whether all of that memory is the owner's. True for ever while a channel to it is open. */
bool MPID_nem_ivshmem_part_covers(const MPID_nem_ivshmem_part_t *part, ivshm_off off,
                                  uint64_t bytes);

/*
 * Attaches to the owner of the memory, and checks that it is the owner. If the part is not ours, it
 * must not name our memory. *channel is the channel to it, which the caller closes, also after a
 * failure; NULL for our own part.
 */
bool MPID_nem_ivshmem_part_open(const MPID_nem_ivshmem_part_t *part, bool is_own,
                                struct ivshm_channel **channel);

/* Where an offset lies in the program's mapping. */
static inline char *MPID_nem_ivshmem_part_address(ivshm_off off)
{
    return (char *) MPID_nem_ivshmem.user + off.bytes;
}

#endif
