/* SPDX-License-Identifier: mpich2 */
/*
 * Who is dead, and what may be taken back. Memory is taken back on proof only, never on silence: a
 * stopped process may still write. Proof is
 *   - in the same kernel and pid namespace, the process is gone, or its pid has another start time;
 *   - in another pid namespace of that kernel, no process that the machine's own root can see is
 * it;
 *   - the same VM, by its firmware's uuid, runs another boot; both have the region as a device.
 * Who cannot be sure says unknown. doc/design.md, "Who is dead", argues each.
 */
#ifndef IVSHM_LIVENESS_H
#define IVSHM_LIVENESS_H

#include "region.h"

/*
 * Who runs: what an endpoint's entry says of its process. 0 is unknown: /proc or /sys does not
 * tell, or what lies there is not the kernel's.
 */
struct ivshm_process {
    uint64_t boot_id[2];
    uint64_t vm_uuid[2];
    uint64_t vm_generation[2]; /* changes when a snapshot is restored; of QEMU's vmgenid device */
    uint64_t traits;           /* IVSHM_TRAIT_* */
    uint64_t pid_ns;           /* 0 if the kernel has no namespaces */
    uint64_t pid;
    uint64_t start_time; /* clock ticks since boot, of no time namespace */
    char host[64];
};

/* The calling process, without what its mapping of the region adds to traits. Errors: what reading
 * /proc said. */
int ivshm_process_self(struct ivshm_process *self, struct ivshm_diag *diag);

/* 20 bits of boot id and pid namespace, for the claim word; 0 if they are not known. */
uint32_t ivshm_process_host_hash(const struct ivshm_process *process);

/* Where another process runs, as far as `self` can know. */
enum ivshm_locality {
    IVSHM_LOCALITY_HERE,      /* in the same kernel and pid namespace */
    IVSHM_LOCALITY_CONTAINER, /* in the same kernel, in another pid namespace */
    IVSHM_LOCALITY_REBOOTED,  /* nowhere: in a boot of this VM that is over */
    IVSHM_LOCALITY_ELSEWHERE, /* in another VM, or there is no telling */
};
enum ivshm_locality ivshm_process_locality(const struct ivshm_process *self,
                                           const struct ivshm_process *other);

/*
 * Whether two processes may run in the same boot of the same machine: what both know is equal, and
 * the boot id or the uuid is among that. False if there is no telling.
 */
bool ivshm_process_may_share_boot(const struct ivshm_process *a, const struct ivshm_process *b);

enum ivshm_liveness { IVSHM_LIVENESS_ALIVE, IVSHM_LIVENESS_UNKNOWN, IVSHM_LIVENESS_DEAD };

/* Who runs in the containers of this kernel. All zero is one that has not been taken. */
struct ivshm_census {
    int state;
    uint64_t began; /* as a start time */
    size_t count;
    struct ivshm_inner *inner;
};
void ivshm_census_free(struct ivshm_census *census);

/*
 * What `self` can prove of `other`. With a census, which is taken when it is first needed and may
 * serve many calls, also of processes in containers: reads all of /proc. NULL is cheap.
 */
enum ivshm_liveness ivshm_process_liveness(const struct ivshm_process *self,
                                           const struct ivshm_process *other,
                                           struct ivshm_census *census);

/* The same of a pid in the caller's own kernel and pid namespace; start_time 0 if unknown. */
enum ivshm_liveness ivshm_pid_liveness(uint64_t pid, uint64_t start_time);

/* What stands before "/proc" and "/sys": nothing. Weak: a test's own names a folder of its own. */
const char *ivshm_liveness_root(void);

#endif
