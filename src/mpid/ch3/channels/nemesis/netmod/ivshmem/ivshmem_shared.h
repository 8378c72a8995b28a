/* SPDX-License-Identifier: mpich2 */
/*
 * What CH3's code for windows in shared memory asks the netmod, in the places where ivshmem-graft
 * has put it: whether all ranks share a window through the region. Included by MPICH's own headers,
 * before any of its types is defined, and whatever the device.
 */
#ifndef IVSHMEM_SHARED_H
#define IVSHMEM_SHARED_H

#include "core/atomic.h"

struct MPIR_Comm;
struct MPIR_Group;
struct MPIR_Win;

/*
 * A window that is shared through the region has this; in any other window the pointer is NULL. All
 * but unlock return an MPI error.
 */
struct MPID_nem_ivshmem_window {
    int (*fence)(int mode, struct MPIR_Win *win);
    int (*lock)(struct MPIR_Win *win); /* around each accumulate */
    void (*unlock)(struct MPIR_Win *win);
    /* for each operation: whether it stays inside the rank's part */
    int (*check)(struct MPIR_Win *win, int rank, MPI_Aint disp, MPI_Aint count, MPI_Datatype type);
};

/* Called when memory is attached to a dynamic window, or detached. NULL without the netmod. */
extern int (*MPID_nem_ivshmem_attach)(struct MPIR_Win *win, const void *start, MPI_Aint bytes);
extern void (*MPID_nem_ivshmem_detach)(struct MPIR_Win *win, const void *start);

/*
 * Called when the group, or all ranks if NULL, may access the window: each rank ends that access
 * once. Returns an MPI error. NULL without the netmod.
 */
extern int (*MPID_nem_ivshmem_expose)(struct MPIR_Win *win, struct MPIR_Group *group);

/*
 * Called when CH3 has read the process manager's list of dead ranks of MPI_COMM_WORLD, separated by
 * commas: the netmod may put a longer one in its place, by MPICH's allocator. NULL without the
 * netmod.
 */
extern void (*MPID_nem_ivshmem_complete_deaths)(char **list);

/* Called with the flags that answer a requested lock. NULL without the netmod. */
extern void (*MPID_nem_ivshmem_lock_answered)(struct MPIDI_VC *vc, struct MPIR_Win *win, int flags);

/*
 * Called for a window that could not be created, or could not be freed and whose memory is the
 * program's. NULL without the netmod.
 */
extern void (*MPID_nem_ivshmem_unmade)(struct MPIR_Win *win);

/*
 * Called for a message to a rank of this node, once it can be found there: by local rank, whether
 * the receiver sleeps, and what wakes it. NULL without the netmod. The receiver looks on for a
 * while after it has said so (edge W1).
 */
extern const ivshm_a64 **MPID_nem_ivshmem_sleepers;
extern void (*MPID_nem_ivshmem_wake_local_rank)(int local_rank);
#define MPID_nem_ivshmem_wake_local(vc)                                                            \
    do {                                                                                           \
        if (MPID_nem_ivshmem_sleepers) {                                                           \
            int local_rank_ = MPID_nem_mem_region.local_ranks[(vc)->lpid];                         \
            if (unlikely(ivshm_a64_load_relaxed(MPID_nem_ivshmem_sleepers[local_rank_]) != 0))     \
                MPID_nem_ivshmem_wake_local_rank(local_rank_);                                     \
        }                                                                                          \
    } while (0)

/* The sockets of the tcp netmod, and their number. They may change whenever tcp is polled. */
struct pollfd;
int MPID_nem_ivshmem_tcp_sockets(struct pollfd **sockets);

/* Whether a port of ours with that tag is open. */
int MPID_nem_ivshmem_port_is_open(int tag);

/*
 * Collectives that go through the region, under CH3's own: each returns whether it did, and then
 * *mpi_errno. `failed`: this rank has met an error, and tells the others by it. NULL without the
 * netmod.
 */
struct MPID_nem_ivshmem_collectives {
    int (*barrier)(struct MPIR_Comm *comm, int failed, int *mpi_errno);
    int (*bcast)(void *buf, MPI_Aint count, MPI_Datatype type, int root, struct MPIR_Comm *comm,
                 int failed, int *mpi_errno);
    int (*allreduce)(const void *sendbuf, void *recvbuf, MPI_Aint count, MPI_Datatype type,
                     MPI_Op op, struct MPIR_Comm *comm, int failed, int *mpi_errno);
    int (*allgather)(const void *sendbuf, MPI_Aint sendcount, MPI_Datatype sendtype, void *recvbuf,
                     MPI_Aint recvcount, MPI_Datatype recvtype, struct MPIR_Comm *comm, int failed,
                     int *mpi_errno);
    int (*alltoall)(const void *sendbuf, MPI_Aint sendcount, MPI_Datatype sendtype, void *recvbuf,
                    MPI_Aint recvcount, MPI_Datatype recvtype, struct MPIR_Comm *comm, int failed,
                    int *mpi_errno);
};
extern const struct MPID_nem_ivshmem_collectives *MPID_nem_ivshmem_collectives;

#define MPID_nem_ivshmem_collective(name, ...)                                                     \
    do {                                                                                           \
        int ivshmem_errno_;                                                                        \
        if (MPID_nem_ivshmem_collectives &&                                                        \
            MPID_nem_ivshmem_collectives->name(__VA_ARGS__, &ivshmem_errno_))                      \
            return ivshmem_errno_;                                                                 \
    } while (0)

/* Whether the two ranks can load and store in each other's part of the window. */
#define MPID_nem_ivshmem_shares(win, orig_vc, target_vc)                                           \
    ((win)->ivshmem || (orig_vc)->node_id == (target_vc)->node_id)

/* The index of the rank's part in the window's shm_base_addrs. */
#define MPID_nem_ivshmem_share_of(win, rank)                                                       \
    ((win)->ivshmem ? (rank) : ivshmem_compat_intranode_rank((win)->comm_ptr, rank))

/* The communicator of the ranks that share it. */
#define MPID_nem_ivshmem_sharers(win)                                                              \
    ((win)->ivshmem ? (win)->comm_ptr : (win)->comm_ptr->node_comm)

/*
 * Called while MPI_Win_wait waits. Returns an MPI error if a rank that has not ended its access is
 * lost. NULL without the netmod.
 */
extern int (*MPID_nem_ivshmem_check_posted)(struct MPIR_Win *win);

/*
 * Set `error` if a rank of the window is lost, or if another one has revoked the communicator: a
 * caller that waits would wait forever. For the calls that wait for one rank, for all targets of
 * the epoch, and for all ranks.
 */
#define MPID_nem_ivshmem_check_target(win, rank, error)                                            \
    do {                                                                                           \
        MPIDI_VC_t *vc_;                                                                           \
        MPIDI_Comm_get_vc((win)->comm_ptr, (rank), &vc_);                                          \
        if (vc_->state == MPIDI_VC_STATE_MORIBUND)                                                 \
            MPIR_ERR_SET1((error), MPIX_ERR_PROC_FAILED, "**comm_fail", "**comm_fail %d", (rank)); \
    } while (0)

#define MPID_nem_ivshmem_check_targets(win, error)                                                 \
    do {                                                                                           \
        for (int slot_ = 0; slot_ < (win)->num_slots; slot_++)                                     \
            for (MPIDI_RMA_Target_t *target_ = (win)->slots[slot_].target_list_head; target_;      \
                 target_ = target_->next)                                                          \
                MPID_nem_ivshmem_check_target(win, target_->target_rank, error);                   \
    } while (0)

#define MPID_nem_ivshmem_check_ranks(win, error)                                                   \
    do {                                                                                           \
        if ((win)->comm_ptr->revoked)                                                              \
            MPIR_ERR_SET((error), MPIX_ERR_REVOKED, "**revoked");                                  \
        for (int rank_ = 0; rank_ < (win)->comm_ptr->local_size; rank_++)                          \
            MPID_nem_ivshmem_check_target(win, rank_, error);                                      \
    } while (0)

#endif
