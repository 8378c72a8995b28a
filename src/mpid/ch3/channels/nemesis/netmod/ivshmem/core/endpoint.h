/* SPDX-License-Identifier: mpich2 */
/*
 * Endpoints: processes on the region, each with an entry in the table. Join, publish, look up,
 * attach, leave, reap.
 *
 * The memory of an endpoint is reclaimed only when its process has left or is proved dead and no
 * live endpoint is attached to it. Whoever writes into another endpoint's memory attaches first,
 * and detaches after the last write.
 *
 * Any number of processes at once. A struct ivshm_endpoint is used by one thread at a time;
 * functions that take only a region may be called by any thread. Errors are negative errnos;
 * outputs are set only on success. Any index is allowed, unless stated otherwise: one outside the
 * table is an entry that is free. Costs that are not stated are constant. Edges E1 to E3 and A1.
 */
#ifndef IVSHM_ENDPOINT_H
#define IVSHM_ENDPOINT_H

#include "liveness.h"
#include "extent.h"

/* A claim word, unpacked. */
struct ivshm_claim {
    enum ivshm_claim_state state;
    uint32_t generation;
    uint32_t pid;
    uint32_t host_hash;
};

/* A consistent copy of an entry. */
struct ivshm_endpoint_info {
    struct ivshm_claim claim;
    struct ivshm_process process;
    bool named; /* the seal fits: `process` is the one that made the claim */
    /* Its device, or connection to ivshmem-server, as it says. False unless the seal fits. */
    bool has_bell;
    struct ivshm_bell_address bell;
    ivshm_off base;
    uint64_t joined_at; /* seconds since 1970 */
    uint32_t rank, job_size;
    char job[128];
};

/*
 * The caller's own entry. Points to the region's handle, which must stay in place. Its fields are
 * core's; use the functions.
 */
struct ivshm_endpoint {
    struct ivshm_region *region;
    struct ivshm_owner owner;
    struct ivshm_process process;
    ivshm_off base_off;
    void *base;          /* geo.base_bytes bytes; all zero after join */
    ivshm_a64 *attached; /* one bit for each endpoint */
};

/*
 * Claims an entry and a base extent, after reaping. Peers cannot attach before
 * ivshm_endpoint_publish. `job` is copied, up to 127 bytes. *ep ends in ivshm_endpoint_leave, even
 * if it was never published. E1 (NAMED) and E3. Errors: -ENOSPC the table or the memory is full,
 * with the size that the job needs in diag; -ESHUTDOWN as ivshm_endpoint_publish; else as
 * ivshm_process_self. Cost: that of a reap, and zeroing the base extent.
 */
int ivshm_endpoint_join(struct ivshm_region *region, const char *job, uint32_t rank,
                        uint32_t job_size, struct ivshm_endpoint *ep, struct ivshm_diag *diag);

/*
 * For a caller that found no memory in another way: returns -ENOSPC, and in diag how large a region
 * the job needs. Cost: a walk over the table and the block map.
 */
int ivshm_endpoint_describe_no_memory(const struct ivshm_region *region, uint32_t job_size,
                                      struct ivshm_diag *diag);

/*
 * Makes the endpoint LIVE (release E1): whoever attaches sees what the caller has prepared in
 * `base`. -ESHUTDOWN if the caller was declared dead meanwhile. Then all that it held has been
 * reclaimed; it must not touch any of it, nor leave.
 */
int ivshm_endpoint_publish(struct ivshm_endpoint *ep, struct ivshm_diag *diag);

/*
 * Detaches from all peers, marks the claim DEAD (release E2) and reaps. *ep is invalid afterwards;
 * its memory is freed when nobody is attached to it any more. Cost: that of a reap.
 */
void ivshm_endpoint_leave(struct ivshm_endpoint *ep);

/* Of an endpoint that has joined: as peers know it; its process; its base extent. */
static inline struct ivshm_owner ivshm_endpoint_owner(const struct ivshm_endpoint *ep)
{
    return ep->owner;
}

static inline const struct ivshm_process *ivshm_endpoint_process(const struct ivshm_endpoint *ep)
{
    return &ep->process;
}

static inline void *ivshm_endpoint_base(const struct ivshm_endpoint *ep)
{
    return ep->base;
}

/*
 * Attaches to a live peer. *base is its base extent, of geo.base_bytes bytes, valid until detach;
 * peers can change it at any time. Attaching twice is one attachment. Stores the bit, then loads
 * the peer's claim, both seq_cst (A1): a store-load handshake as in Dekker's algorithm, which keeps
 * memory from being freed like a hazard pointer. Errors: -ESHUTDOWN not live in that generation;
 * -EBADMSG no such index, or a damaged entry. Cost: a load for each block of the base extent.
 */
int ivshm_endpoint_attach(struct ivshm_endpoint *ep, struct ivshm_owner peer, void **base,
                          struct ivshm_diag *diag);

/*
 * Ends the attachment to entry `peer`, an index in the table, after the last access to its memory:
 * a reaper that finds the bit clear frees nothing that is still accessed (A1). Does nothing without
 * an attachment.
 */
void ivshm_endpoint_detach(struct ivshm_endpoint *ep, uint32_t peer);

/* The claim of entry `index`. One load (acquire E1, E2). */
struct ivshm_claim ivshm_endpoint_claim(const struct ivshm_region *region, uint32_t index);

/*
 * Whether that claim is still LIVE. Once it was, false is final, and whatever the peer sent before
 * is in our inbox or in its ring (acquire E2). One load: for every progress call.
 */
bool ivshm_endpoint_is_live(const struct ivshm_region *region, struct ivshm_owner peer);

/*
 * Whether the caller can wake the process of that claim, and it the caller: in one kernel and pid
 * namespace, if both map the region from a file. False if that is not known. One load.
 */
bool ivshm_endpoint_can_wake(const struct ivshm_endpoint *ep, struct ivshm_owner peer);

/* The live processes of the region, the caller included. */
struct ivshm_crowd {
    uint32_t here, elsewhere; /* in its kernel and pid namespace; in others, or unknown */
    enum ivshm_sleep sleep;   /* from which each other one can wake the caller */
};
/* Cost: a load for each entry. */
struct ivshm_crowd ivshm_endpoint_crowd(const struct ivshm_endpoint *ep);

/* Where the process of that entry can be rung, as far as it says: nothing is proved. One load. */
struct ivshm_bell_address ivshm_endpoint_bell(const struct ivshm_region *region, uint32_t index);

/*
 * Copies an entry (acquire E1, E3). -ENOENT if it is free or does not exist; -EAGAIN if it kept
 * changing. Cost: at most eight readings of an entry.
 */
int ivshm_endpoint_read(const struct ivshm_region *region, uint32_t index,
                        struct ivshm_endpoint_info *info);

/* What a process tells of itself: see layout.h. Any values, if it is not honest. */
struct ivshm_told {
    uint64_t doing; /* enum ivshm_doing, or a value that does not exist */
    uint64_t time;  /* ns by its own clock; 0: there are no counts */
    struct ivshm_counts {
#define X(name) uint64_t name;
        IVSHM_COUNTS(X)
#undef X
    } counts;
};

/*
 * Reads that of the process whose entry *info is. False if it is not live any more, or its entry is
 * damaged. Relaxed, as nothing but figures is read. Cost: a load for each block of a base extent.
 */
bool ivshm_endpoint_told(const struct ivshm_region *region, uint32_t index,
                         const struct ivshm_endpoint_info *info, struct ivshm_told *told);

/* The checksum of the caller's own identity, as its entry holds it. */
uint64_t ivshm_endpoint_seal(const struct ivshm_endpoint *ep);

/*
 * Whether the process with that seal has made claim `peer` in this region, whether it is still live
 * or not. In a copy of its region's file, which has the same id, it has not. 0 if it has; -ESTALE
 * if that cannot be told, as a later process has taken the entry; -ENOENT if it has not. Acquire E1
 * and E3.
 */
int ivshm_endpoint_find(const struct ivshm_region *region, struct ivshm_owner peer, uint64_t seal);

/*
 * What `self` can prove about the process that made the claim in *info, and where that process
 * runs. A joiner that has not written its identity yet is here if the hash in its claim says so,
 * else elsewhere. `self` needs no traits of its mapping. For the census and the cost see
 * ivshm_process_liveness, for the locks ivshm_peer_is_gone.
 */
enum ivshm_liveness ivshm_endpoint_liveness(const struct ivshm_region *region,
                                            const struct ivshm_process *self,
                                            const struct ivshm_endpoint_info *info,
                                            struct ivshm_census *census, struct ivshm_locks *locks);
enum ivshm_locality ivshm_endpoint_locality(const struct ivshm_region *region,
                                            const struct ivshm_process *self,
                                            const struct ivshm_endpoint_info *info);

struct ivshm_reaped {
    uint32_t endpoints; /* entries freed */
    uint64_t blocks;    /* blocks freed */
    uint32_t waiting;   /* dead, but a live endpoint is still attached */
};

/*
 * Marks dead what `self` can prove dead (release E2), then frees the blocks and entries of all DEAD
 * endpoints to which nobody is attached (A1, block map's edge). With `self` NULL, nothing is
 * marked. `reaped` may be NULL. Cost: a few system calls for each process of this machine, and one
 * for each of a VM of ivshmem-server if the region is a file, a census if some are in containers,
 * and for each dead endpoint a walk over the table and the block map.
 */
void ivshm_endpoint_reap(struct ivshm_region *region, const struct ivshm_process *self,
                         struct ivshm_reaped *reaped);

/*
 * Marks the entry dead if it still has that claim: for somebody who knows that its process will
 * never run again. Frees nothing (release E2).
 */
void ivshm_endpoint_declare_dead(struct ivshm_region *region, uint32_t index,
                                 struct ivshm_claim claim);

/*
 * Marks dead what `self` can prove dead without a census (release E2), and frees nothing. Cheap
 * enough to call about once a second. Cost: a load for each entry, a few system calls for each
 * process of this machine; opening the region's file, if processes of VMs have bells, and at most
 * one system call for each of them.
 */
void ivshm_endpoint_watch(struct ivshm_region *region, const struct ivshm_process *self);

#endif
