/* SPDX-License-Identifier: mpich2 */
/*
 * NUMA affinity: compares where a rank runs with where its part of the region lies, on a machine or
 * in a VM of several NUMA nodes. A rank that is bound away from its memory pays for the distance
 * with each message. Called once, at start.
 */
#include "ivshmem_affinity.h"

#include "ivshmem_error.h"

#ifdef HAVE_HWLOC
#include <hwloc.h>

/* NUMA nodes, and also PCI devices if `devices`. NULL if hwloc cannot tell. */
static hwloc_topology_t load_topology(bool devices)
{
    hwloc_topology_t topology;

    if (hwloc_topology_init(&topology) != 0)
        return NULL;
    hwloc_topology_set_all_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE);
    /* Without groups, a node would have all processors of the machine. */
    hwloc_topology_set_type_filter(topology, HWLOC_OBJ_GROUP, HWLOC_TYPE_FILTER_KEEP_STRUCTURE);
    if (devices)
        hwloc_topology_set_type_filter(topology, HWLOC_OBJ_PCI_DEVICE, HWLOC_TYPE_FILTER_KEEP_ALL);
    if (hwloc_topology_load(topology) == 0)
        return topology;
    hwloc_topology_destroy(topology);
    return NULL;
}

/* The nodes of the processors to which we are bound. False if unknown. */
static bool find_rank(hwloc_topology_t topology, hwloc_nodeset_t nodes)
{
    hwloc_cpuset_t cpus = hwloc_bitmap_alloc();
    bool found = cpus && hwloc_get_cpubind(topology, cpus, HWLOC_CPUBIND_THREAD) == 0;

    if (found)
        hwloc_cpuset_to_nodeset(topology, cpus, nodes);
    hwloc_bitmap_free(cpus);
    return found;
}

/*
 * The nodes of our part of the region, into which others write and from which we read. They are the
 * nodes of its pages. For a device it is the device's node, because the kernel of a VM does not
 * know where its pages are. False if unknown.
 */
static bool find_memory(hwloc_topology_t topology, hwloc_nodeset_t nodes)
{
    const struct ivshm_region *region = &MPID_nem_ivshmem.region;

    if (ivshm_region_is_device(region)) {
        hwloc_obj_t device = hwloc_get_pcidev_by_busidstring(topology, ivshm_region_name(region));
        if (device)
            hwloc_bitmap_copy(nodes, hwloc_get_non_io_ancestor_obj(topology, device)->nodeset);
        return device != NULL;
    }
    size_t bytes;
    const void *memory = ivshm_transport_memory(&MPID_nem_ivshmem.transport, &bytes);
    return hwloc_get_area_memlocation(topology, memory, bytes, nodes, HWLOC_MEMBIND_BYNODESET) == 0;
}

static void compare_nodes(hwloc_topology_t topology, hwloc_nodeset_t rank, hwloc_nodeset_t memory)
{
    char rank_nodes[64], memory_nodes[64], text[900];

    if (!find_rank(topology, rank) || !find_memory(topology, memory) || hwloc_bitmap_iszero(rank) ||
        hwloc_bitmap_iszero(memory) || hwloc_bitmap_intersects(rank, memory))
        return;
    hwloc_bitmap_list_snprintf(rank_nodes, sizeof(rank_nodes), rank);
    hwloc_bitmap_list_snprintf(memory_nodes, sizeof(memory_nodes), memory);
    snprintf(text, sizeof(text),
             "NUMA node %s, its memory in %s on node %s: each message crosses between them; bind "
             "ranks to node %s, or put the region on node %s",
             rank_nodes, ivshm_region_name(&MPID_nem_ivshmem.region), memory_nodes, memory_nodes,
             rank_nodes);
    MPID_nem_ivshmem_report("is bound to ", text);
}

/* Only the first rank of each VM warns, not all: a job may well span the nodes of a machine. */
void MPID_nem_ivshmem_affinity_check(void)
{
    hwloc_topology_t topology;

    if (MPID_nem_mem_region.local_rank != 0 || !(topology = load_topology(false)))
        return;
    bool several = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE) > 1;
    hwloc_topology_destroy(topology);
    if (!several || !(topology = load_topology(true)))
        return;
    hwloc_nodeset_t rank = hwloc_bitmap_alloc(), memory = hwloc_bitmap_alloc();
    if (rank && memory)
        compare_nodes(topology, rank, memory);
    hwloc_bitmap_free(rank);
    hwloc_bitmap_free(memory);
    hwloc_topology_destroy(topology);
}

#else

void MPID_nem_ivshmem_affinity_check(void)
{
}

#endif
