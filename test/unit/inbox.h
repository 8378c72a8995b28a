/* SPDX-License-Identifier: mpich2 */
/* An inbox that begins at any position, for tests close to the wrap of its counters. */
#ifndef INBOX_H
#define INBOX_H

#include "core/queue.h"

/*
 * Makes an empty queue of `slots`, a power of two, whose first position is `start`. Nobody else may
 * use it meanwhile. Zeroed memory is such a queue with start 0.
 */
static inline void inbox_reset(struct ivshm_inbox_shm *shm, uint64_t slots, uint64_t start)
{
    for (uint64_t i = 0; i < slots; i++) {
        uint32_t lap = ivshm_queue_lap(start + i, slots) - 1;
        ivshm_a64_store_relaxed(ivshm_queue_slot(shm, start + i, slots), (uint64_t) lap << 32);
    }
    ivshm_a64_store_relaxed(&shm->tail_hint, start);
    ivshm_a64_store_release(&shm->head, start);
}

#endif
