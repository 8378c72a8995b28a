/* SPDX-License-Identifier: mpich2 */
/*
 * What CH3's code for windows in shared memory asks us, where `graft` has put it: whether a window
 * is shared through the region, by all of its ranks. Included by MPICH's own headers, before any of
 * its types is known, and whatever the device.
 */
#ifndef IVSHMEM_SHARED_H
#define IVSHMEM_SHARED_H

struct MPIR_Win;

/* Of a window that is shared through the region; NULL in any other window. */
struct MPID_nem_ivshmem_window {
    int (*fence)(int mode, struct MPIR_Win *win);
    void (*lock)(struct MPIR_Win *win); /* around each accumulate */
    void (*unlock)(struct MPIR_Win *win);
};

/* Told of the memory of dynamic windows; NULL where there is no netmod that wants to know. */
extern int (*MPID_nem_ivshmem_attach)(struct MPIR_Win *win, const void *start, MPI_Aint bytes);
extern void (*MPID_nem_ivshmem_detach)(struct MPIR_Win *win, const void *start);

/* Whether a port of ours with that tag is open. */
int MPID_nem_ivshmem_port_is_open(int tag);

/* Whether the two ranks can load and store in each other's part of the window. */
#define MPID_nem_ivshmem_shares(win, orig_vc, target_vc)                                           \
    ((win)->ivshmem || (orig_vc)->node_id == (target_vc)->node_id)

/* Where the rank's part is in the window's shm_base_addrs. */
#define MPID_nem_ivshmem_share_of(win, rank)                                                       \
    ((win)->ivshmem ? (rank) : (win)->comm_ptr->intranode_table[rank])

/* Those that share it. */
#define MPID_nem_ivshmem_sharers(win)                                                              \
    ((win)->ivshmem ? (win)->comm_ptr : (win)->comm_ptr->node_comm)

#endif
