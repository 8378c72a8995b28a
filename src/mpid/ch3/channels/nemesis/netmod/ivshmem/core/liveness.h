/* SPDX-License-Identifier: mpich2 */
/*
 * Decides which processes are dead, so that their memory may be reclaimed. Memory is reclaimed on
 * proof, never on silence, as a stopped process may still write. Proof is one of:
 *   - in the same kernel and pid namespace, the process is gone, or its pid belongs to a process
 *     that started at another time;
 *   - in another pid namespace of that kernel, none of the processes, all of which root sees in the
 *     initial pid namespace, is this one;
 *   - the same VM, by its firmware's uuid, runs another boot, and both processes map the region as
 *     a device;
 *   - nobody has the memory any more that ivshmem-server gave to the VM, by a lock in the region's
 *     file.
 * Whoever cannot be sure answers unknown. doc/design.md, "Liveness: who is dead", argues for each.
 *
 * Knows nothing of endpoints. Any thread; a census is used by one thread at a time. No ordering
 * edge: nothing here is in the region. Costs that are not stated are constant.
 */
#ifndef IVSHM_LIVENESS_H
#define IVSHM_LIVENESS_H

#include "region.h"

/*
 * A process, as an endpoint's entry describes it. 0 means unknown: /proc or /sys does not tell, or
 * what is mounted there does not come from the kernel.
 */
struct ivshm_process {
    uint64_t boot_id[2];
    uint64_t vm_uuid[2];
    uint64_t vm_generation[2]; /* QEMU's vmgenid device: changes when a snapshot is restored */
    uint64_t traits;           /* IVSHM_TRAIT_* */
    uint64_t bell;             /* as the entry's word of that name */
    uint64_t pid_ns;           /* 0 if the kernel has no namespaces */
    uint64_t pid;
    uint64_t start_time; /* clock ticks since boot, without the offset of a time namespace */
    char host[64];
};

/*
 * Describes the calling process, without the traits and the bell that depend on how it maps the
 * region. Errors: that of reading /proc/self, or -EBADMSG if /proc is not the kernel's. Cost: some
 * small files in /proc and /sys.
 */
int ivshm_process_self(struct ivshm_process *self, struct ivshm_diag *diag);

/*
 * A hash of boot id and pid namespace for the claim word, in IVSHM_CLAIM_HOST_BITS bits; 0 if they
 * are unknown.
 */
uint32_t ivshm_process_host_hash(const struct ivshm_process *process);

/* Where another process runs, as far as `self` can know. */
enum ivshm_locality {
    IVSHM_LOCALITY_HERE,      /* in the same kernel and pid namespace */
    IVSHM_LOCALITY_CONTAINER, /* in the same kernel, in another pid namespace */
    IVSHM_LOCALITY_REBOOTED,  /* nowhere: in a boot of this VM that is over */
    IVSHM_LOCALITY_ELSEWHERE, /* in another VM, or unknown */
};
enum ivshm_locality ivshm_process_locality(const struct ivshm_process *self,
                                           const struct ivshm_process *other);

/*
 * Whether two processes may run in the same boot of the same machine: whatever both know is equal,
 * and that includes the boot id or the uuid. False if both know neither.
 */
bool ivshm_process_may_share_boot(const struct ivshm_process *a, const struct ivshm_process *b);

enum ivshm_liveness { IVSHM_LIVENESS_ALIVE, IVSHM_LIVENESS_UNKNOWN, IVSHM_LIVENESS_DEAD };

/* The processes in the containers of this kernel. All-zero is a census that has not been taken. */
struct ivshm_census {
    int state;
    uint64_t began; /* in the unit of start_time */
    size_t count;
    struct ivshm_inner *inner;
};
/* Frees the census, which may then be taken anew. Cost: that of free. */
void ivshm_census_free(struct ivshm_census *census);

/*
 * What `self` can prove about `other`. With a census, it can also prove the death of processes in
 * containers. The census is taken when it is first needed and may serve many calls; the caller
 * frees it. Cost: without a census, a few system calls; taking one reads all of /proc.
 */
enum ivshm_liveness ivshm_process_liveness(const struct ivshm_process *self,
                                           const struct ivshm_process *other,
                                           struct ivshm_census *census);

/*
 * The same for a pid in the caller's own kernel and pid namespace; start_time, in clock ticks, is 0
 * if unknown. Cost: a few system calls.
 */
enum ivshm_liveness ivshm_pid_liveness(uint64_t pid, uint64_t start_time);

/*
 * ivshmem-server gives each client the region's file with a write lock (F_OFD_SETLK) of the byte at
 * IVSHM_PEER_LOCKS + its ID, behind any file's end. The kernel keeps the lock until no process has
 * a descriptor or a mapping of what came with it.
 */
#define IVSHM_PEER_LOCKS (INT64_C(1) << 62)

/* What one pass over the endpoints has learned of these locks. All-zero at first. */
struct ivshm_locks {
    bool is_open, cannot_open;
    int fd;        /* of the region's file */
    bool has_held; /* a lock is held, and was when it was last looked at */
    uint32_t held; /* whose */
};
/* Ends the pass. Constant cost. */
void ivshm_locks_close(struct ivshm_locks *locks);

/*
 * Whether all that had the memory of peer `peer` is gone, with the memory that came with its ID. An
 * ID can be given again, so this holds for those of whom the caller had read already that they came
 * with it. False if it is not known: `map` is not a file in the memory of this kernel, as only
 * there are the locks those that the server of a file with this name takes. Cost: opening the file,
 * once for *locks, and a system call.
 */
bool ivshm_peer_is_gone(const struct ivshm_map *map, uint32_t peer, struct ivshm_locks *locks);

/* The prefix of "/proc" and "/sys": empty. Weak, so that a test can name a directory of its own. */
const char *ivshm_liveness_root(void);

#endif
