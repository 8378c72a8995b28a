/* SPDX-License-Identifier: mpich2 */
/* Agreement on memory of the region. Called under MPICH's global lock. */
#include "ivshmem_part.h"

#include "ivshmem_memory.h"

MPID_nem_ivshmem_part_t MPID_nem_ivshmem_part_of(const void *base, MPI_Aint bytes)
{
    const uint64_t *id = ivshm_region_id(&MPID_nem_ivshmem.region);
    return (MPID_nem_ivshmem_part_t){.region_id = {id[0], id[1]},
                                     .owner = ivshm_transport_self(&MPID_nem_ivshmem.transport),
                                     .seal = ivshm_transport_seal(&MPID_nem_ivshmem.transport),
                                     .off =
                                         base ? MPID_nem_ivshmem_offset_of(base) : (ivshm_off){0},
                                     .bytes = (uint64_t) bytes};
}

MPID_nem_ivshmem_part_t MPID_nem_ivshmem_part_own(const void *base, MPI_Aint bytes)
{
    ivshm_off off;

    if (!MPID_nem_ivshmem_memory_in_use() ||
        (bytes > 0 && !MPID_nem_ivshmem_memory_find(base, bytes, &off)))
        return (MPID_nem_ivshmem_part_t){0};
    return MPID_nem_ivshmem_part_of(bytes > 0 ? base : NULL, bytes);
}

/* Whether such an endpoint can exist in this rank's region. */
static bool is_endpoint(struct ivshm_owner owner)
{
    return owner.endpoint < ivshm_region_endpoints(&MPID_nem_ivshmem.region) &&
           owner.generation >> IVSHM_CLAIM_GEN_BITS == 0;
}

int MPID_nem_ivshmem_part_missing(const MPID_nem_ivshmem_part_t *parts, int count)
{
    int i = 0;

    while (i < count && MPID_nem_ivshmem_part_is_there(&parts[i]) &&
           MPID_nem_ivshmem_part_is_near(&parts[i], &parts[0]) && is_endpoint(parts[i].owner))
        i++;
    return i;
}

bool MPID_nem_ivshmem_part_covers(const MPID_nem_ivshmem_part_t *part, ivshm_off off,
                                  uint64_t bytes)
{
    return bytes <= MPIR_AINT_MAX &&
           ivshm_extent_covers(&MPID_nem_ivshmem.region, part->owner, IVSHM_KIND_USER, off, bytes);
}

bool MPID_nem_ivshmem_part_open(const MPID_nem_ivshmem_part_t *part, bool is_own,
                                struct ivshm_channel **channel)
{
    struct ivshm_owner self = ivshm_transport_self(&MPID_nem_ivshmem.transport);
    struct ivshm_diag diag;

    *channel = NULL;
    if ((part->owner.endpoint == self.endpoint) != is_own ||
        (is_own && part->owner.generation != self.generation) ||
        ivshm_endpoint_find(&MPID_nem_ivshmem.region, part->owner, part->seal) != 0)
        return false;
    if (!is_own &&
        ivshm_channel_open(&MPID_nem_ivshmem.transport, part->owner, channel, &diag) != 0) {
        *channel = NULL;
        return false;
    }
    return (part->bytes == 0 || MPID_nem_ivshmem_part_covers(part, part->off, part->bytes)) &&
           (part->lock.bytes == 0 ||
            (part->lock.bytes % sizeof(struct ivshm_lock_shm) == 0 &&
             MPID_nem_ivshmem_part_covers(part, part->lock, sizeof(struct ivshm_lock_shm))));
}
