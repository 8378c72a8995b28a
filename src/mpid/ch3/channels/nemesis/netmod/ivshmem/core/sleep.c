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
__attribute__((weak)) void ivshm_sleep_futex_wait(ivshm_a64 *word, uint64_t ns)
{
    const struct timespec timeout = {.tv_nsec = (long) ns};
    syscall(SYS_futex, &word->word, FUTEX_WAIT, IVSHM_SLEEP_ON_FUTEX, &timeout, NULL, 0);
}

__attribute__((weak)) void ivshm_sleep_futex_wake(ivshm_a64 *word)
{
    syscall(SYS_futex, &word->word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

void ivshm_sleep_announce(struct ivshm_inbox_shm *own, enum ivshm_sleep kind)
{
    ivshm_a64_or_seqcst(&own->sleeper, kind);
    IVSHM_TRACEPOINT(sleep_announced);
}

void ivshm_sleep_withdraw(struct ivshm_inbox_shm *own)
{
    ivshm_a64_store_relaxed(&own->sleeper, 0);
}

void ivshm_sleep_until_woken(struct ivshm_inbox_shm *own, uint64_t ns)
{
    ivshm_sleep_futex_wait(&own->sleeper, ns);
}

bool ivshm_sleep_wake(struct ivshm_inbox_shm *inbox, enum ivshm_sleep kind)
{
    IVSHM_TRACEPOINT(sleep_seen);
    if (!ivshm_a64_cas_seqcst(&inbox->sleeper, kind, 0))
        return false;
    IVSHM_TRACEPOINT(sleep_ended);
    if (kind == IVSHM_SLEEP_ON_FUTEX)
        ivshm_sleep_futex_wake(&inbox->sleeper);
    return true;
}
