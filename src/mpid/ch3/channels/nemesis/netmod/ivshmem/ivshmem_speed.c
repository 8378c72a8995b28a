/* SPDX-License-Identifier: mpich2 */
/*
 * Measures whether the region is mapped as cached memory. If it is not, messages are correct, but
 * take many times longer, which nobody would look for in a guest's memory types. Called once, at
 * start, when this rank has joined and nobody has heard of it.
 */
#include "ivshmem_speed.h"

#include "ivshmem_error.h"

#include "core/speed.h"

/* Only the first rank of each machine warns: the others map the same memory. */
void MPID_nem_ivshmem_speed_check(void)
{
    const struct ivshm_map *map = ivshm_region_map(&MPID_nem_ivshmem.region);
    struct ivshm_speed speed;
    char text[1200];
    size_t bytes;

    /* The end of our own part, which is all zero, is a cell's and not used yet. */
    const char *memory = ivshm_transport_memory(&MPID_nem_ivshmem.transport, &bytes);
    ivshm_speed_measure(map, (void *) (memory + bytes - IVSHM_SPEED_BYTES), true, &speed);
    MPID_nem_ivshmem.is_slow = speed.kind != IVSHM_SPEED_CACHED;
    if (!MPID_nem_ivshmem.is_slow || MPID_nem_mem_region.local_rank != 0)
        return;
    ivshm_speed_explain(map, &speed, text, sizeof(text));
    MPID_nem_ivshmem_report("", text);
}
