/* SPDX-License-Identifier: mpich2 */
/*
 * Memory in the region for the program: for MPI_Alloc_mem, and for windows. Large messages from or
 * to it are copied once. What the region cannot spare, and what is small and for messages, comes
 * from malloc.
 */
#include "ivshmem_netmod.h"

#define MESSAGE_MIN (32 << 10) /* bytes: nothing smaller is ever sent by rendezvous */

typedef struct piece {
    struct piece *next;
    void *start;
    uint64_t bytes;
    bool lost; /* a peer may still write into it */
} piece_t;

static piece_t *pieces;

static ivshm_off offset_of(const void *start)
{
    const char *base = MPID_nem_ivshmem.region.map.base;
    return (ivshm_off){(uint64_t) ((const char *) start - base)};
}

static bool is_in_region(const void *start)
{
    const char *base = MPID_nem_ivshmem.region.map.base;
    return MPID_nem_ivshmem.joined && (const char *) start >= base &&
           (const char *) start < base + MPID_nem_ivshmem.region.geo.size;
}

bool MPID_nem_ivshmem_memory_in_use(void)
{
    return MPID_nem_ivshmem.joined && MPIR_CVAR_NEMESIS_IVSHMEM_USER_MEMORY;
}

void *MPID_nem_ivshmem_memory_take(MPI_Aint bytes)
{
    struct ivshm_region *region = &MPID_nem_ivshmem.region;
    struct ivshm_owner self = MPID_nem_ivshmem.transport.endpoint.owner;
    ivshm_off off;

    if (!MPID_nem_ivshmem_memory_in_use() || bytes <= 0 ||
        !ivshm_extent_spare(region, (uint64_t) bytes))
        return NULL;
    piece_t *piece = MPL_malloc(sizeof(*piece), MPL_MEM_USER);
    if (!piece)
        return NULL;
    if (ivshm_extent_alloc(region, self, IVSHM_KIND_USER, (uint64_t) bytes, &off) != 0) {
        MPL_free(piece);
        return NULL;
    }
    IVSHM_POINT(user_allocated);
    *piece = (piece_t){pieces, (char *) region->map.base + off.bytes, (uint64_t) bytes, false};
    pieces = piece;
    return piece->start;
}

bool MPID_nem_ivshmem_memory_give_back(void *start)
{
    for (piece_t **link = &pieces; *link; link = &(*link)->next) {
        piece_t *piece = *link;
        if (piece->start != start)
            continue;
        if (!piece->lost)
            ivshm_extent_free(&MPID_nem_ivshmem.region, MPID_nem_ivshmem.transport.endpoint.owner,
                              offset_of(start), piece->bytes);
        *link = piece->next;
        MPL_free(piece);
        return true;
    }
    return false;
}

void *MPIDI_CH3I_Alloc_mem(MPI_Aint size, MPIR_Info *info_ptr ATTRIBUTE((unused)))
{
    void *start = size < MESSAGE_MIN ? NULL : MPID_nem_ivshmem_memory_take(size);
    return start ? start : MPL_malloc(size, MPL_MEM_USER);
}

int MPIDI_CH3I_Free_mem(void *start)
{
    if (is_in_region(start))
        MPID_nem_ivshmem_memory_give_back(start);
    else
        MPL_free(start);
    return MPI_SUCCESS;
}

bool MPID_nem_ivshmem_memory_find(const void *start, intptr_t bytes, ivshm_off *off)
{
    if (!is_in_region(start))
        return false;
    *off = offset_of(start);
    return ivshm_extent_covers(&MPID_nem_ivshmem.region, MPID_nem_ivshmem.transport.endpoint.owner,
                               IVSHM_KIND_USER, *off, (uint64_t) bytes);
}

/* Not given to anybody else any more: a peer was writing into it when we lost sight of it. */
void MPID_nem_ivshmem_memory_lose(const void *start)
{
    for (piece_t *piece = pieces; piece; piece = piece->next)
        if ((const char *) start >= (char *) piece->start &&
            (const char *) start < (char *) piece->start + piece->bytes)
            piece->lost = true;
}

/* What the program has not freed goes with the endpoint. */
void MPID_nem_ivshmem_memory_finalize(void)
{
    while (pieces) {
        piece_t *piece = pieces;
        pieces = piece->next;
        MPL_free(piece);
    }
}
