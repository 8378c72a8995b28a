/* SPDX-License-Identifier: mpich2 */
/*
 * What a rank does between two looks in a blocking call: see core/wait.h. open_bell before the
 * region is joined, init after it.
 */
#ifndef IVSHMEM_WAIT_H
#define IVSHMEM_WAIT_H

#include "ivshmem_netmod.h"

/* A bell that cannot be opened is no error, and reported only if that is a surprise. */
void MPID_nem_ivshmem_wait_open_bell(void);

void MPID_nem_ivshmem_wait_init(void);

/* How many of these processes share a processor of this machine, rounded up. */
static inline unsigned MPID_nem_ivshmem_wait_sharers(struct ivshm_crowd crowd)
{
    long processors = MPID_nem_ivshmem.wait.processors;
    return (unsigned) ((crowd.here + processors - 1) / processors);
}

/*
 * After as many polls of a blocking call in vain as core/wait.h has said. Releases MPICH's lock
 * while it gives the processor away. Sets wait.slept if it was for longer.
 */
void MPID_nem_ivshmem_wait(void);

/* After as many calls as this in a row, none of which blocks, and whose polls were in vain. */
#define IVSHMEM_VAIN_TESTS 32
void MPID_nem_ivshmem_wait_tested(void);

/* After a poll that ends a wait: it received something, or its call does not block. */
void MPID_nem_ivshmem_wait_end(void);

#endif
