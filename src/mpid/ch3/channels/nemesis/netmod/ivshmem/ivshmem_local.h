/* SPDX-License-Identifier: mpich2 */
/*
 * Ranks of this node that are reached by Nemesis' own shared memory, not by the region: a message
 * there tells the netmod nothing, so Nemesis asks, for each that it sends, whether the receiver
 * sleeps (ivshmem_shared.h). Under MPICH's global lock.
 */
#ifndef IVSHMEM_LOCAL_H
#define IVSHMEM_LOCAL_H

#include "ivshmem_netmod.h"

/* After the region was joined. Ended by finalize, also after an error. */
int MPID_nem_ivshmem_local_init(void);

/*
 * Looks for those that have joined the region since, and lets go of those that have died. Whoever
 * has been found here can be woken from then on. Called at the first message to one of them, and to
 * be called now and then. Cost: a load for each once all are there; before, a look at the table.
 */
void MPID_nem_ivshmem_local_look(void);

/* Whether all of them can wake this rank: they have its region. */
bool MPID_nem_ivshmem_local_is_complete(void);

/* Whether no message from them waits. Cost: a load for each. */
bool MPID_nem_ivshmem_local_is_empty(void);

/* Before the region is left. Does nothing if nobody was found. */
void MPID_nem_ivshmem_local_finalize(void);

#endif
