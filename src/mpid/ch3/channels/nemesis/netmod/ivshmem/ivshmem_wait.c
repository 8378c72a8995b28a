/* SPDX-License-Identifier: mpich2 */
/*
 * Waiting in blocking calls. MPICH polls until what a call waits for is done; here, between two
 * polls, the processor is given away, or the rank sleeps until a peer wakes it. Called under
 * MPICH's global lock.
 */
#include "ivshmem_wait.h"

#include "ivshmem_error.h"
#include "ivshmem_local.h"
#include "ivshmem_stats.h"
#include "ivshmem_way.h"
#include "mpid_nem_inline.h"

#include "core/sleep.h"

#include <sched.h>
#include <time.h>
#include <unistd.h>

/* The processes of the region are counted again after so many ns. */
#define COUNT_AGAIN UINT64_C(100000000)
/*
 * A program waits if it has done nothing but test for that long, in ns, and so fast. One that works
 * between its tests does something else sooner.
 */
#define TESTS_FOR UINT64_C(300000)
#define TESTS_IN_A_ROW UINT64_C(100000)
/* Those who look on are told again after so many ns, if the rank waits; ivshmem_poll.c has the
 * rest. */
#define TELL_AGAIN UINT64_C(100000000)

static __typeof__(MPID_nem_ivshmem.wait) *const self = &MPID_nem_ivshmem.wait;

static enum ivshm_wait_mode wanted_mode(void)
{
    switch (MPIR_CVAR_NEMESIS_IVSHMEM_WAIT) {
    case MPIR_CVAR_NEMESIS_IVSHMEM_WAIT_spin:
        return IVSHM_WAIT_SPIN;
    case MPIR_CVAR_NEMESIS_IVSHMEM_WAIT_yield:
        return IVSHM_WAIT_YIELD;
    case MPIR_CVAR_NEMESIS_IVSHMEM_WAIT_sleep:
        return IVSHM_WAIT_SLEEP;
    default:
        return IVSHM_WAIT_AUTO;
    }
}

void MPID_nem_ivshmem_wait_open_bell(void)
{
    struct ivshm_diag diag = {""};
    int err =
        ivshm_region_open_bell(&MPID_nem_ivshmem.region, MPIR_CVAR_NEMESIS_IVSHMEM_SERVER, &diag);

    if (err && err != -ENODEV && MPID_nem_mem_region.local_rank == 0)
        MPID_nem_ivshmem_report("", diag.text);
}

void MPID_nem_ivshmem_wait_init(void)
{
    ivshm_wait_init(&self->wait, wanted_mode());
    self->processors = sysconf(_SC_NPROCESSORS_ONLN);
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000000 + (uint64_t) t.tv_nsec;
}

/* Changes whenever this rank gets on by other means than a message through the region. */
static uint64_t progress_so_far(void)
{
    uint64_t sum = (uint64_t) MPL_atomic_relaxed_load_int(&MPIDI_CH3I_progress_completion_count) +
                   MPID_nem_ivshmem.stats.messages_sent;

    for (MPID_nem_ivshmem_transfer_t *t = MPID_nem_ivshmem.transfers; t; t = t->next)
        sum += (uint64_t) t->moved + 1;
    return sum;
}

/*
 * Whether everything that this call may wait for is a message of a process that can wake us, or
 * comes by tcp, whose sockets can only be looked at together with a bell. What other threads begin,
 * or is not sent yet, needs polls.
 */
static bool can_be_woken(void)
{
    return self->crowd.sleep != IVSHM_SLEEP_NOT && !MPIR_IS_THREADED &&
           (!MPID_nem_ivshmem.poll_tcp || self->crowd.sleep == IVSHM_SLEEP_ON_BELL) &&
           MPID_nem_ivshmem_local_is_complete() && !MPID_nem_ivshmem.busy &&
           !MPID_nem_ivshmem.dynamic && ivshm_transport_is_flushed(&MPID_nem_ivshmem.transport) &&
           MPID_nem_safe_to_block_recv();
}

/* The sockets by which a message may come; other threads change them. */
static size_t tcp_sockets(struct pollfd **sockets)
{
    *sockets = NULL;
    return MPID_nem_ivshmem.poll_tcp && !MPIR_IS_THREADED
               ? (size_t) MPID_nem_ivshmem_tcp_sockets(sockets)
               : 0;
}

static void give_processor(uint64_t ns)
{
    const struct timespec time = {.tv_nsec = (long) ns};
    struct pollfd *sockets;
    size_t count = tcp_sockets(&sockets);

    MPID_THREAD_CS_EXIT(GLOBAL, MPIR_THREAD_GLOBAL_ALLFUNC_MUTEX);
    if (!ns)
        sched_yield();
    else if (count)
        ppoll(sockets, (nfds_t) count, &time, NULL);
    else
        nanosleep(&time, NULL);
    MPID_THREAD_CS_ENTER(GLOBAL, MPIR_THREAD_GLOBAL_ALLFUNC_MUTEX);
}

static void count_crowd(uint64_t time)
{
    if (time - self->counted_at <= COUNT_AGAIN)
        return;
    self->counted_at = time;
    self->crowd = ivshm_transport_crowd(&MPID_nem_ivshmem.transport);
    MPID_nem_ivshmem_local_look();
}

/*
 * A loop of MPI_Test, or of a probe, is a wait by other means. It cannot sleep, as the program may
 * wait for something else as well; but it keeps the processor from peers that share it. Other
 * threads of this process may work meanwhile, and MPICH does not expect that a test lets them in.
 */
void MPID_nem_ivshmem_wait_tested(void)
{
    if (self->wait.mode == IVSHM_WAIT_SPIN || MPIR_IS_THREADED)
        return;
    const uint64_t time = now(), so_far = progress_so_far();
    if (so_far != self->tested || time - self->tested_at > TESTS_IN_A_ROW)
        self->tests_since = time;
    self->tested = so_far;
    self->tested_at = time;
    if (time - self->tests_since < TESTS_FOR)
        return;
    count_crowd(time);
    if (MPID_nem_ivshmem_wait_sharers(self->crowd) > 1) {
        sched_yield();
        self->tested_at = now();
    }
}

void MPID_nem_ivshmem_wait(void)
{
    struct ivshm_transport *t = &MPID_nem_ivshmem.transport;
    struct pollfd *sockets;
    size_t count;
    uint64_t time = now(), progress = progress_so_far(), nap = 0;

    if (progress != self->progress) {
        self->progress = progress;
        MPID_nem_ivshmem_wait_end();
        return;
    }
    count_crowd(time);
    const struct ivshm_wait_for what = {
        .can_be_woken = can_be_woken(),
        .is_moving = MPID_nem_ivshmem.transfers != NULL,
        .sharers = MPID_nem_ivshmem_wait_sharers(self->crowd),
        /* Nemesis looks at one of its fast boxes in each poll, and so do we at our idle rings. */
        .looks = ivshm_transport_looks(t) + (unsigned) MPID_nem_mem_region.num_local,
    };
    enum ivshm_wait_step step = ivshm_wait_next(&self->wait, time, &what, &nap);
    ivshm_transport_tell_wait(t, &self->wait, step);
    if (time - self->told_at > TELL_AGAIN) {
        self->told_at = time;
        MPID_nem_ivshmem_stats_tell();
    }
    switch (step) {
    case IVSHM_WAIT_LOOK:
        break;
    case IVSHM_WAIT_GIVE:
        give_processor(0);
        break;
    case IVSHM_WAIT_ANNOUNCE:
        ivshm_transport_announce_sleep(t, self->crowd.sleep);
        break;
    case IVSHM_WAIT_DOZE:
    case IVSHM_WAIT_NAP:
        if (step == IVSHM_WAIT_NAP) {
            give_processor(nap);
        } else if (MPID_nem_ivshmem_local_is_empty()) {
            count = tcp_sockets(&sockets);
            ivshm_transport_sleep(t, nap, sockets, count);
        } else {
            ivshm_transport_withdraw_sleep(t);
        }
        MPID_nem_ivshmem.stats.sleeps++;
        ivshm_wait_woke(&self->wait, now());
        self->slept = true;
        break;
    }
}

void MPID_nem_ivshmem_wait_end(void)
{
    self->slept = false;
    ivshm_transport_tell_work(&MPID_nem_ivshmem.transport);
    if (ivshm_wait_end(&self->wait))
        ivshm_transport_withdraw_sleep(&MPID_nem_ivshmem.transport);
}
