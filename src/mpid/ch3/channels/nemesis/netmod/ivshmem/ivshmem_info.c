/* SPDX-License-Identifier: mpich2 */
/*
 * What a run uses: the region, how it is mapped, the path to each peer, and which protocol carries
 * messages of which size. Printed once at start, and once for each peer when its path is decided,
 * under MPICH's global lock. Each line is one call, so that the lines of many ranks do not mix.
 */
#include "ivshmem_info.h"

void MPID_nem_ivshmem_info_print(void)
{
    const struct ivshm_region *region = &MPID_nem_ivshmem.region;

    if (!MPIR_CVAR_NEMESIS_IVSHMEM_INFO)
        return;
    if (!MPID_nem_ivshmem.joined) {
        fprintf(stderr, "ivshmem: rank=%d host=%s region=none\n", MPIDI_Process.my_pg_rank,
                MPID_nem_hostname);
        return;
    }
    const struct ivshm_geometry *g = ivshm_region_geometry(region);
    const struct ivshm_map *map = ivshm_region_map(region);
    fprintf(stderr,
            "ivshmem: rank=%d host=%s region=%s id=%016llx%016llx endpoint=%u mapping=%s page=%llu "
            "size=%llu slot=%u buffer=%u cell=%u chunk=%u pipeline=%llu\n",
            MPIDI_Process.my_pg_rank, MPID_nem_hostname, ivshm_region_name(region),
            (unsigned long long) ivshm_region_id(region)[0],
            (unsigned long long) ivshm_region_id(region)[1],
            ivshm_transport_self(&MPID_nem_ivshmem.transport).endpoint, ivshm_map_kind(map),
            (unsigned long long) ivshm_map_page(map), (unsigned long long) g->size,
            ivshm_slot_room(g->slot_size), g->buffer_size, g->large_size, g->chunk_size,
            (unsigned long long) g->pipeline_chunks * g->chunk_size);
}

void MPID_nem_ivshmem_info_print_vc(MPIDI_VC_t *vc)
{
    char how[80] = "tcp";

    if (!MPIR_CVAR_NEMESIS_IVSHMEM_INFO)
        return;
    if (VC_PAIR(vc)->path == IVSHMEM_PATH_REGION)
        snprintf(how, sizeof(how), "ivshmem endpoint=%u", VC_IVSHMEM(vc)->peer.endpoint);
    fprintf(stderr, "ivshmem: rank=%d peer=%d job=%s eager=%lld path=%s\n",
            MPIDI_Process.my_pg_rank, vc->pg_rank, vc->pg ? (char *) vc->pg->id : "connecting",
            (long long) vc->eager_max_msg_sz, how);
}
