/* SPDX-License-Identifier: mpich2 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* syscall */
#endif
#include "sleep.h"

#include "tracepoint.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* A futex is an int: the word's lower half, which is the first on all machines of this layout. */
__attribute__((weak)) void ivshm_sleep_futex_wait(ivshm_a64 *word)
{
    const struct timespec timeout = {.tv_nsec = IVSHM_SLEEP_MAX_NS};
    syscall(SYS_futex, &word->word, FUTEX_WAIT, 1, &timeout, NULL, 0);
}

__attribute__((weak)) void ivshm_sleep_futex_wake(ivshm_a64 *word)
{
    syscall(SYS_futex, &word->word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

void ivshm_sleep_announce(struct ivshm_inbox_shm *own)
{
    ivshm_a64_or_seqcst(&own->sleeper, 1);
    IVSHM_TRACEPOINT(sleep_announced);
}

void ivshm_sleep_withdraw(struct ivshm_inbox_shm *own)
{
    ivshm_a64_store_relaxed(&own->sleeper, 0);
}

void ivshm_sleep_until_woken(struct ivshm_inbox_shm *own)
{
    IVSHM_TRACEPOINT(sleep_begins);
    ivshm_sleep_futex_wait(&own->sleeper);
}

bool ivshm_sleep_wake(struct ivshm_inbox_shm *inbox)
{
    IVSHM_TRACEPOINT(sleep_seen);
    /* Of several senders only one makes the call. */
    if (!ivshm_a64_cas_seqcst(&inbox->sleeper, 1, 0))
        return false;
    IVSHM_TRACEPOINT(sleep_ended);
    ivshm_sleep_futex_wake(&inbox->sleeper);
    return true;
}
