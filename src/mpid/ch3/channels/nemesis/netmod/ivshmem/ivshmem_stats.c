/* SPDX-License-Identifier: mpich2 */
/*
 * The counters: MPI_T performance variables, and a line at finalize if
 * MPIR_CVAR_NEMESIS_IVSHMEM_STATS is set. They prove which path a run took, so they always exist,
 * even where MPICH's own are compiled out. Now and then they are copied into the region, for
 * `ivshmem top`. Not called for a message; under MPICH's global lock.
 */
#include "ivshmem_stats.h"

#include <time.h>

/* MPICH's macro for variables that may be compiled out ends in this one, which never is. */
#define REGISTER(name, counter, desc)                                                              \
    MPIR_T_PVAR_COUNTER_REGISTER_DYNAMIC_impl(                                                     \
        MPI_UNSIGNED_LONG_LONG, name, &MPID_nem_ivshmem.counter, 1, MPI_T_VERBOSITY_USER_BASIC,    \
        MPI_T_BIND_NO_OBJECT, MPIR_T_PVAR_FLAG_READONLY | MPIR_T_PVAR_FLAG_CONTINUOUS, NULL, NULL, \
        "NEMESIS", desc)

void MPID_nem_ivshmem_stats_register(void)
{
    static bool registered;
    if (registered)
        return;
    registered = true;
    REGISTER(ivshmem_eager_sent, stats.eager_sent, "packets sent through an ivshmem region");
    REGISTER(ivshmem_eager_sent_bytes, stats.eager_sent_bytes,
             "bytes of packets sent, with headers");
    REGISTER(ivshmem_eager_received, stats.eager_received,
             "packets received through an ivshmem region");
    REGISTER(ivshmem_eager_received_bytes, stats.eager_received_bytes,
             "bytes of packets received, with headers");
    REGISTER(ivshmem_lmt_sent, stats.lmt_sent, "large messages sent through an ivshmem region");
    REGISTER(ivshmem_lmt_sent_bytes, stats.lmt_sent_bytes, "bytes of large messages sent");
    REGISTER(ivshmem_lmt_received, stats.lmt_received, "large messages received");
    REGISTER(ivshmem_lmt_received_bytes, stats.lmt_received_bytes,
             "bytes of large messages received");
    REGISTER(ivshmem_single_copy, stats.single_copy,
             "large messages that this rank copied in a single copy, from or to memory of "
             "MPI_Alloc_mem");
    REGISTER(
        ivshmem_coop, stats.coop,
        "large messages sent by a cooperative copy: this rank and the receiver copied a part each");
    REGISTER(
        ivshmem_windows, stats.windows,
        "windows created whose one-sided operations are loads and stores in an ivshmem region");
    REGISTER(ivshmem_collectives, stats.collectives,
             "collectives that went through an ivshmem region without messages");
    REGISTER(ivshmem_collective_bytes, stats.collective_bytes, "bytes of their results");
    REGISTER(ivshmem_messages_sent, stats.messages_sent,
             "messages sent through an ivshmem region; a packet takes one or several");
    REGISTER(ivshmem_messages_received, stats.messages_received,
             "messages received through an ivshmem region");
    REGISTER(ivshmem_waits, stats.waits, "times that a send found no room");
    REGISTER(ivshmem_sleeps, stats.sleeps, "times that this rank slept in a blocking call");
    REGISTER(ivshmem_wakes, transport.wakes, "sleeping ranks that this rank has woken");
    REGISTER(ivshmem_tcp_sent, stats.tcp_sent,
             "messages sent by tcp, to ranks without a common region");
    REGISTER(ivshmem_tcp_sent_bytes, stats.tcp_sent_bytes, "bytes sent by tcp, with headers");
}

void MPID_nem_ivshmem_stats_tell(void)
{
    const MPID_nem_ivshmem_stats_t *s = &MPID_nem_ivshmem.stats;
    const struct ivshm_counts counts = {
        .eager_sent = s->eager_sent,
        .eager_sent_bytes = s->eager_sent_bytes,
        .eager_received = s->eager_received,
        .eager_received_bytes = s->eager_received_bytes,
        .large_sent = s->lmt_sent,
        .large_sent_bytes = s->lmt_sent_bytes,
        .large_received = s->lmt_received,
        .large_received_bytes = s->lmt_received_bytes,
        .copied_once = s->single_copy,
        .tcp_sent = s->tcp_sent,
        .tcp_sent_bytes = s->tcp_sent_bytes,
        .no_room = s->waits,
        .sleeps = s->sleeps,
        .waited = ivshm_wait_total(&MPID_nem_ivshmem.wait.wait),
    };
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    ivshm_transport_tell(&MPID_nem_ivshmem.transport,
                         (uint64_t) now.tv_sec * 1000000000 + (uint64_t) now.tv_nsec, &counts);
}

/* One line in one call, so that the lines of many ranks do not mix. */
void MPID_nem_ivshmem_stats_print(void)
{
    const MPID_nem_ivshmem_stats_t *s = &MPID_nem_ivshmem.stats;
    char region[400] = "none";

    if (MPID_nem_ivshmem.joined)
        snprintf(region, sizeof(region), "%.256s id=%016llx%016llx endpoint=%u",
                 ivshm_region_name(&MPID_nem_ivshmem.region),
                 (unsigned long long) ivshm_region_id(&MPID_nem_ivshmem.region)[0],
                 (unsigned long long) ivshm_region_id(&MPID_nem_ivshmem.region)[1],
                 ivshm_transport_self(&MPID_nem_ivshmem.transport).endpoint);
    fprintf(stderr,
            "ivshmem: rank=%d host=%s region=%s eager_sent=%llu eager_sent_bytes=%llu "
            "eager_received=%llu eager_received_bytes=%llu lmt_sent=%llu lmt_sent_bytes=%llu "
            "lmt_received=%llu lmt_received_bytes=%llu single_copy=%llu coop=%llu windows=%llu "
            "collectives=%llu collective_bytes=%llu messages_sent=%llu "
            "messages_received=%llu waits=%llu sleeps=%llu wakes=%llu tcp_sent=%llu "
            "tcp_sent_bytes=%llu\n",
            MPIDI_Process.my_pg_rank, MPID_nem_hostname, region, s->eager_sent, s->eager_sent_bytes,
            s->eager_received, s->eager_received_bytes, s->lmt_sent, s->lmt_sent_bytes,
            s->lmt_received, s->lmt_received_bytes, s->single_copy, s->coop, s->windows,
            s->collectives, s->collective_bytes, s->messages_sent, s->messages_received, s->waits,
            s->sleeps, MPID_nem_ivshmem.transport.wakes, s->tcp_sent, s->tcp_sent_bytes);
}

/* Prints how messages of each class of sizes went in the end, the smallest first. */
static void print_copies(const struct ivshm_channel *channel, enum ivshm_choice_kind kind,
                         char *text, size_t size)
{
    for (int i = 0; i < IVSHM_CLASSES; i++) {
        const ivshm_plan plan = ivshm_channel_usual(channel, kind, (size_t) IVSHM_CLASS_MIN << i);
        int n = snprintf(text, size, "%s%s", i ? "," : "", ivshm_choice_name(plan));
        text += n;
        size -= (size_t) n;
    }
}

/* Messages by tcp are counted only where they are sent: tcp itself passes them to CH3. */
void MPID_nem_ivshmem_stats_print_vc(MPIDI_VC_t *vc)
{
    char how[80] = "path=tcp", eager[200], pipeline[200], copies[450] = "";

    if (VC_PAIR(vc)->path == IVSHMEM_PATH_REGION) {
        snprintf(how, sizeof(how), "path=ivshmem endpoint=%u received_bytes=%llu",
                 VC_IVSHMEM(vc)->peer.endpoint, VC_IVSHMEM(vc)->received_bytes);
        if (VC_IVSHMEM(vc)->channel) {
            print_copies(VC_IVSHMEM(vc)->channel, IVSHM_CHOICE_EAGER, eager, sizeof(eager));
            print_copies(VC_IVSHMEM(vc)->channel, IVSHM_CHOICE_PIPELINE, pipeline,
                         sizeof(pipeline));
            snprintf(copies, sizeof(copies), " copies=%s pipeline=%s", eager, pipeline);
        }
    }
    fprintf(stderr, "ivshmem: rank=%d peer=%d job=%s sent_bytes=%llu %s%s\n",
            MPIDI_Process.my_pg_rank, vc->pg_rank, vc->pg ? (char *) vc->pg->id : "connecting",
            VC_PAIR(vc)->sent_bytes, how, copies);
}
