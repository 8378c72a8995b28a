/* SPDX-License-Identifier: mpich2 */
/*
 * Endpoints: one entry of the table a process. Claim, publish, look up, attach, leave, reap.
 *
 * An endpoint's memory returns only when its process has left or is proved dead, and no live
 * endpoint is attached to it: whoever writes into another's memory attaches first, and detaches
 * after the last write. One thread a handle; any number of processes at once.
 */
#ifndef IVSHM_ENDPOINT_H
#define IVSHM_ENDPOINT_H

#include "liveness.h"
#include "extent.h"

struct ivshm_claim {
    enum ivshm_claim_state state;
    uint32_t generation;
    uint32_t pid;
    uint32_t host_hash;
};

/* What an entry says, copied out and consistent. */
struct ivshm_endpoint_info {
    struct ivshm_claim claim;
    struct ivshm_process process;
    bool named; /* `process` is of the claim: its seal is whole */
    ivshm_off base;
    uint64_t joined_at; /* seconds since 1970 */
    uint32_t rank, job_size;
    char job[128];
};

/* The caller's own entry. */
struct ivshm_endpoint {
    struct ivshm_region *region;
    struct ivshm_owner owner;
    struct ivshm_process process;
    ivshm_off base_off;
    void *base;          /* geo.base_bytes, all zero after join */
    ivshm_a64 *attached; /* a bit an endpoint */
};

/*
 * Takes an entry and its base extent, after taking back what can be proved dead. The entry is not
 * visible to peers before ivshm_endpoint_publish.
 * -ENOSPC if the table or the memory is full; diag says of what there is too little and what to do.
 * -ESHUTDOWN as ivshm_endpoint_publish.
 */
int ivshm_endpoint_join(struct ivshm_region *region, const char *job, uint32_t rank,
                        uint32_t job_size, struct ivshm_endpoint *ep, struct ivshm_diag *diag);

/* For who found no memory in another way: -ENOSPC, and in diag how large a region the job needs. */
int ivshm_endpoint_no_memory(const struct ivshm_region *region, uint32_t job_size,
                             struct ivshm_diag *diag);

/*
 * Makes the endpoint LIVE. What the caller has prepared in `base` is visible to whoever attaches.
 * -ESHUTDOWN if somebody has declared the caller dead meanwhile: all that it held has gone back,
 * and it must touch nothing of it, nor leave.
 */
int ivshm_endpoint_publish(struct ivshm_endpoint *ep, struct ivshm_diag *diag);

/* Detaches from all, gives the entry up, and takes back all that nobody is attached to. */
void ivshm_endpoint_leave(struct ivshm_endpoint *ep);

/*
 * Attaches to a live peer; *base is its base extent, valid until detach. Attaching twice is one
 * attachment. -ESHUTDOWN if it is not live in that generation, -EBADMSG if its entry makes no
 * sense.
 */
int ivshm_endpoint_attach(struct ivshm_endpoint *ep, struct ivshm_owner peer, void **base,
                          struct ivshm_diag *diag);

/* After the last write into the peer's memory. */
void ivshm_endpoint_detach(struct ivshm_endpoint *ep, uint32_t peer);

/* FREE also where the table has no such entry, as for all below. */
struct ivshm_claim ivshm_endpoint_claim(const struct ivshm_region *region, uint32_t index);

/* Whether that very claim is still LIVE. One load: for the progress engine. */
bool ivshm_endpoint_is_live(const struct ivshm_region *region, struct ivshm_owner peer);

/* -ENOENT if the entry is free, or there is none; -EAGAIN if it keeps changing. */
int ivshm_endpoint_read(const struct ivshm_region *region, uint32_t index,
                        struct ivshm_endpoint_info *info);

/*
 * What `self` can prove of the process that made a claim of which `info` is a copy, and where it
 * runs; a joiner that has not written its identity yet is elsewhere, or here. For the census see
 * ivshm_process_liveness.
 */
enum ivshm_liveness ivshm_endpoint_liveness(const struct ivshm_region *region,
                                            const struct ivshm_process *self,
                                            const struct ivshm_endpoint_info *info,
                                            struct ivshm_census *census);
enum ivshm_locality ivshm_endpoint_locality(const struct ivshm_region *region,
                                            const struct ivshm_process *self,
                                            const struct ivshm_endpoint_info *info);

struct ivshm_reaped {
    uint32_t endpoints; /* entries freed */
    uint64_t blocks;
    uint32_t waiting; /* dead, but somebody is attached still */
};

/*
 * Takes back what `self` can prove dead, and what others have. Any process, at any time. Looks at
 * all processes of the machine if some of the region are in containers of it.
 */
void ivshm_endpoint_reap(struct ivshm_region *region, const struct ivshm_process *self,
                         struct ivshm_reaped *reaped);

/*
 * Marks the entry as dead, if it still is of that claim: on the word of somebody who knows that its
 * process will never run again. Frees nothing.
 */
void ivshm_endpoint_declare_dead(struct ivshm_region *region, uint32_t index,
                                 struct ivshm_claim claim);

/* Marks as dead what `self` can prove dead, and frees nothing: cheap, for the progress engine. */
void ivshm_endpoint_watch(struct ivshm_region *region, const struct ivshm_process *self);

#endif
