/* SPDX-License-Identifier: mpich2 */
/*
 * Who is dead, and what may be taken back. Memory is taken back on proof only, never on silence: a
 * stopped process may still write. Proof is
 *   - in the same boot and pid namespace, the process is gone, or its pid has another start time;
 *   - the same VM, by its firmware's uuid, runs another boot.
 */
#ifndef IVSHM_ALIVE_H
#define IVSHM_ALIVE_H

#include "region.h"

/* Who runs: what an endpoint's entry says of its process. */
struct ivshm_process {
    uint64_t boot_id[2];
    uint64_t vm_uuid[2]; /* 0 if unknown */
    uint64_t pid_ns;
    uint64_t pid;
    uint64_t start_time; /* clock ticks since boot */
    char host[64];
};

/* The calling process. Errors: what reading /proc said. */
int ivshm_process_self(struct ivshm_process *self, struct ivshm_diag *diag);

/* 20 bits of boot id and pid namespace, for the claim word. */
uint32_t ivshm_process_host_hash(const struct ivshm_process *process);

enum ivshm_verdict { IVSHM_ALIVE, IVSHM_UNKNOWN, IVSHM_PROVED_DEAD };

/* What `self` can prove of `other`. UNKNOWN is of another VM or container: only it can tell. */
enum ivshm_verdict ivshm_process_verdict(const struct ivshm_process *self,
                                         const struct ivshm_process *other);

/* The same of a pid in the caller's own boot and pid namespace; start_time 0 if unknown. */
enum ivshm_verdict ivshm_pid_verdict(uint64_t pid, uint64_t start_time);

#endif
