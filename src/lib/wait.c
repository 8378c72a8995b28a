/* SPDX-License-Identifier: mpich2 */
/*
 * How a handle waits for what another process does: it looks, gives its processor away, and sleeps
 * where everybody can wake it (core/wait.h, core/sleep.h). Whoever changes a lock wakes those whose
 * names are in it. All of that saves time only: a sleep ends by itself, and deaths are looked for.
 */
#include "lib.h"

#include <errno.h>
#include <sched.h>
#include <time.h>

#define MS UINT64_C(1000000)
/* Between two looks for the dead: a quarter of the time waited, within these. */
#define WATCH_MIN (1 * MS)
#define WATCH_MAX (250 * MS)
#define MESSAGES_MAX 64

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000000 + (uint64_t) t.tv_nsec;
}

static uint64_t min_time(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

int lib_wait_begin(struct lib_wait *wait, ivshm_a64 *waiters, int count, int timeout_ms)
{
    if (timeout_ms < 0)
        return lib_fail(EINVAL, "a timeout of %d ms: expected 0 or more, as every wait has an end",
                        timeout_ms);
    *wait = (struct lib_wait){.waiters = waiters, .count = count, .place = -1, .began = now_ns()};
    wait->watched = wait->began;
    wait->deadline = wait->began + (uint64_t) timeout_ms * MS;
    return 0;
}

static uint64_t watch_at(const struct lib_wait *wait)
{
    uint64_t step = (wait->watched - wait->began) / 4;
    return wait->watched + (step < WATCH_MIN ? WATCH_MIN : min_time(step, WATCH_MAX));
}

/* Nobody sends a handle messages; if somebody does, they would keep it awake. */
static void drop_messages(struct ivshmem *handle)
{
    struct ivshm_incoming in;
    int got = 1;
    for (int i = 0; i < MESSAGES_MAX && got; i++) {
        got = ivshm_transport_receive(&handle->transport, &in, NULL);
        if (got > 0)
            ivshm_message_release(&in);
    }
}

static void watch(struct ivshmem *handle, struct lib_wait *wait, uint64_t now)
{
    drop_messages(handle);
    ivshm_transport_watch(&handle->transport);
    handle->sleep = ivshm_transport_crowd(&handle->transport).sleep;
    wait->watched = now;
}

static void announce(struct ivshmem *handle, struct lib_wait *wait)
{
    if (wait->place == -1) {
        wait->place = ivshm_waiters_add(wait->waiters, wait->count, lib_self(handle));
        if (wait->place < 0)
            wait->place = -2;
    }
    ivshm_transport_announce_sleep(&handle->transport, handle->sleep);
}

int lib_wait_more(struct ivshmem *handle, struct lib_wait *wait)
{
    uint64_t nap, now;
    ivshm_cpu_pause();
    if (wait->dozes) { /* the look since then was the last one before a sleep */
        wait->dozes = false;
        ivshm_transport_sleep(&handle->transport, wait->doze_ns, NULL, 0);
    } else if (++wait->looks < handle->wait.looks)
        return 0;
    wait->looks = 0;
    now = now_ns();
    if (now >= wait->deadline)
        return -ETIMEDOUT;
    if (now >= watch_at(wait))
        watch(handle, wait, now);
    const struct ivshm_wait_for what = {.can_be_woken = wait->waiters && wait->place != -2 &&
                                                        handle->sleep != IVSHM_SLEEP_NOT,
                                        /* Whoever holds a lock may need this processor to go on. */
                                        .sharers = 2,
                                        .looks = 1};
    const enum ivshm_wait_step step = ivshm_wait_next(&handle->wait, now, &what, &nap);
    ivshm_transport_tell_wait(&handle->transport, &handle->wait, step);
    switch (step) {
    case IVSHM_WAIT_LOOK:
        break;
    case IVSHM_WAIT_GIVE:
        sched_yield();
        break;
    case IVSHM_WAIT_ANNOUNCE:
        announce(handle, wait);
        break;
    case IVSHM_WAIT_DOZE:
        wait->dozes = true;
        nap = min_time(nap, watch_at(wait) - now);
        wait->doze_ns = min_time(nap, wait->deadline - now);
        break;
    case IVSHM_WAIT_NAP:
        nap = min_time(nap, wait->deadline - now);
        nanosleep(&(struct timespec){.tv_nsec = (long) nap}, NULL);
        break;
    }
    return 0;
}

void lib_wait_end(struct ivshmem *handle, struct lib_wait *wait)
{
    ivshm_transport_tell_work(&handle->transport);
    if (ivshm_wait_end(&handle->wait) || wait->dozes)
        ivshm_transport_withdraw_sleep(&handle->transport);
    if (wait->place >= 0)
        ivshm_waiters_remove(wait->waiters, wait->place, lib_self(handle));
}

void lib_wake(struct ivshmem *handle, ivshm_a64 *waiters, int count)
{
    const struct ivshm_owner me = lib_self(handle);
    struct ivshm_owner owner;
    struct ivshm_channel *channel;
    for (int i = 0; i < count; i++) {
        if (!ivshm_waiters_get(waiters, i, &owner) || owner.endpoint == me.endpoint)
            continue;
        if (ivshm_channel_open(&handle->transport, owner, &channel, NULL) != 0) {
            ivshm_waiters_remove(waiters, i, owner); /* it has died, or never was */
            continue;
        }
        ivshm_channel_wake(&handle->transport, channel);
        ivshm_channel_end(&handle->transport, channel);
    }
}
