/* SPDX-License-Identifier: mpich2 */
/*
 * The netmod's part of MPICH's progress engine. Each call checks one inbox, whatever the number of
 * peers. Everything else is on lists that are usually empty. There are no system calls, with three
 * exceptions: tcp's, where a path by tcp exists; the liveness check that an idle rank makes now and
 * then; and those by which a rank that waits gives its processor away. Called under MPICH's global
 * lock.
 */
#include "ivshmem_poll.h"

#include "ivshmem_path.h"
#include "ivshmem_port.h"
#include "ivshmem_teardown.h"
#include "ivshmem_wait.h"
#include "ivshmem_relation.h"
#include "ivshmem_validate.h"
#include "ivshmem_send.h"
#include "ivshmem_lmt.h"
#include "ivshmem_local.h"
#include "ivshmem_vc.h"
#include "ivshmem_packet.h"
#include "ivshmem_memory.h"
#include "ivshmem_error.h"
#include "ivshmem_stats.h"

#include <time.h>

/* Checks of the inbox in each progress call, while the caller waits for a message. */
#define POLLS_OF_WAITER 4
#define MESSAGES_PER_POLL 16
/* Progress calls between two reads of the clock; a power of two. */
#define POLLS_PER_CLOCK 4096
#define WATCH_SECONDS 1

static __typeof__(MPID_nem_ivshmem.progress) *const progress = &MPID_nem_ivshmem.progress;

/*
 * CH3 could not do what a packet asks for. Perhaps a connection has failed in the meantime: this
 * one, or one to another peer to which something had to be sent. Then the current call may be
 * waiting for that peer. Otherwise the packet is to blame.
 */
static void handle_refusal(MPIDI_VC_t *vc, int mpi_errno)
{
    char text[2 * MPI_MAX_ERROR_STRING] = "", why[MPI_MAX_ERROR_STRING];

    if (!VC_IVSHMEM(vc)->channel || MPIR_ERR_GET_CLASS(mpi_errno) == MPIX_ERR_PROC_FAILED) {
        MPID_nem_ivshmem.failure = mpi_errno;
        return;
    }
    MPIR_Err_get_string(mpi_errno, text, MPI_MAX_ERROR_STRING, NULL);
    snprintf(why, sizeof(why), "sent a packet that MPICH could not handle: %.200s", text);
    MPID_nem_ivshmem_vc_mark_failed(vc, why);
}

int MPID_nem_ivshmem_poll_init(void)
{
    int mpi_errno = MPI_SUCCESS;

    progress->held_end = &progress->held;
    progress->held_by = MPL_calloc(ivshm_region_endpoints(&MPID_nem_ivshmem.region),
                                   sizeof(*progress->held_by), MPL_MEM_OTHER);
    if (!progress->held_by)
        mpi_errno = MPID_nem_ivshmem_error("out of memory for the messages that come too early");
    MPIR_ERR_CHECK(mpi_errno);
    mpi_errno = MPIDI_CH3_PktHandler_Init(progress->handlers, MPIDI_CH3_PKT_END_ALL + 1);
    MPIR_ERR_CHECK(mpi_errno);
    mpi_errno = MPID_nem_lmt_pkthandler_init(progress->handlers, MPIDI_CH3_PKT_END_ALL + 1);
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

static void count_bytes(MPIDI_VC_t *vc, size_t len)
{
    MPID_nem_ivshmem.stats.eager_received_bytes += len;
    VC_IVSHMEM(vc)->received_bytes += len;
}

/*
 * A packet from the other root of MPI_Comm_connect and MPI_Comm_accept. The roots use a context
 * that all calls at the port share. A message that one root sent before it heard that the other has
 * left, with an error, must not be received by a later call. And a root that has left will answer
 * no more.
 */
static void hear_root(MPIDI_VC_t *vc, MPIDI_CH3_Pkt_t *pkt)
{
    bool is_open = vc->state == MPIDI_VC_STATE_ACTIVE;

    if (pkt->type == MPIDI_CH3_PKT_CONN_ACK || pkt->type == MPIDI_CH3_PKT_ACCEPT_ACK)
        VC_IVSHMEM(vc)->met = pkt->conn_ack.ack;
    else if (pkt->type == MPIDI_CH3_PKT_CLOSE && is_open && VC_IVSHMEM(vc)->met)
        MPID_nem_ivshmem_vc_mark_left(vc, "has left MPI_Comm_connect or MPI_Comm_accept");
    else if (!is_open && (MPID_nem_ivshmem_packet_is_plain((int) pkt->type) ||
                          pkt->type == MPIDI_NEM_PKT_LMT_RTS))
        pkt->eager_send.match.parts.context_id = IVSHMEM_NO_CONTEXT;
}

/* The fast path: the last message came from the same rank, on the same communicator. */
static inline const char *check_packet(MPIDI_VC_t *vc, MPIDI_CH3_Pkt_t *pkt, size_t len, bool *hold)
{
    const MPID_nem_ivshmem_vc_t *area = VC_IVSHMEM(vc);
    const MPIDI_Message_match *match = &pkt->eager_send.match;

    if (unlikely(!MPID_nem_ivshmem_packet_is_plain((int) pkt->type) ||
                 match->parts.rank != area->known_rank ||
                 (match->parts.context_id & ~MPIR_CONTEXT_SUFFIX_MASK) != area->known_context))
        return MPID_nem_ivshmem_packet_check_all(vc, pkt, len, hold);
#ifdef USE_EAGER_SHORT
    if (pkt->type == MPIDI_CH3_PKT_EAGERSHORT_SEND)
        return (size_t) pkt->eagershort_send.data_sz <= sizeof(pkt->eagershort_send.data)
                   ? NULL
                   : "sent a message with an impossible length";
#endif
    return (size_t) pkt->eager_send.data_sz <= IVSHMEM_EAGER_USUAL
               ? NULL
               : MPID_nem_ivshmem_packet_check_all(vc, pkt, len, hold);
}

/*
 * Begins a new packet: passes CH3 the checked header and as much of the data as came with it. An
 * error of CH3's concerns this packet, and ends the connection by which it came. False if the
 * packet must wait.
 */
static bool begin_packet(MPIDI_VC_t *vc, const unsigned char **data, size_t *len)
{
    MPIDI_CH3_Pkt_t pkt;
    MPIR_Request *rreq = NULL;
    bool hold = false;

    /* Each byte is read only once: the type, which determines the length, is not read again. */
    if (unlikely(*len < HEADER_BYTES_MIN)) {
        MPID_nem_ivshmem_vc_mark_failed(vc, "sent a message without a header");
        return true;
    }
    memcpy(&pkt, *data, HEADER_BYTES_MIN);
    size_t header = MPID_nem_ivshmem_header_bytes((int) pkt.type);
    if (unlikely(header == 0 || *len < header)) {
        MPID_nem_ivshmem_vc_mark_failed(vc, header ? "sent a message with an incomplete header"
                                                   : "sent a packet of an unknown type");
        return true;
    }
    MPID_nem_ivshmem_header_copy(&pkt, *data, HEADER_BYTES_MIN, header);
    const char *why = check_packet(vc, &pkt, *len - header, &hold);
    if (unlikely(why)) {
        if (why == MPID_nem_ivshmem_too_early)
            return false;
        MPID_nem_ivshmem_vc_mark_failed(vc, why);
        return true;
    }
    MPID_nem_ivshmem.stats.eager_received++;
    count_bytes(vc, *len);
    if (unlikely(VC_IVSHMEM(vc)->stream))
        hear_root(vc, &pkt);
    /* MPI allows this conversion, and CH3 cannot keep a ready send that no receive waits for. */
    if (unlikely(pkt.type == MPIDI_CH3_PKT_READY_SEND))
        pkt.type = MPIDI_CH3_PKT_EAGER_SEND;
    *data += header;
    *len -= header;
    intptr_t taken = hold ? 0 : (intptr_t) *len;
    int mpi_errno = progress->handlers[pkt.type](vc, &pkt, (void *) *data, &taken, &rreq);
    if (unlikely(mpi_errno)) {
        handle_refusal(vc, mpi_errno);
        return true;
    }
    *data += taken;
    *len -= (size_t) taken;
    if (rreq) { /* the packet has more data */
        rreq->dev.iov_offset = 0;
        vc->ch.recv_active = rreq;
        if (MPID_nem_ivshmem_packet_is_plain((int) pkt.type))
            MPID_nem_ivshmem_receiving(vc)->window = MPI_WIN_NULL;
    }
    return true;
}

/* Copies more of the previous packet's data to where CH3 wants it. */
static void continue_packet(MPIDI_VC_t *vc, const unsigned char **data, size_t *len)
{
    MPIR_Request *rreq = vc->ch.recv_active;

    while (*len > 0 && rreq) {
        struct iovec *iov = &rreq->dev.iov[rreq->dev.iov_offset];
        size_t n = MPL_MIN(*len, iov->iov_len);
        int mpi_errno, complete = 1;

        if (!rreq->dev.drop_data)
            MPIR_Memcpy(iov->iov_base, *data, n);
        *data += n;
        *len -= n;
        iov->iov_base = (char *) iov->iov_base + n;
        iov->iov_len -= n;
        if (iov->iov_len > 0)
            break;
        rreq->dev.iov_offset++;
        if (--rreq->dev.iov_count > 0)
            continue;
        const char *why = MPID_nem_ivshmem_packet_check_metadata(vc, rreq);
        if (unlikely(why)) {
            MPID_nem_ivshmem_vc_mark_failed(vc, why);
            return;
        }
        /* its communicator was revoked in the meantime */
        if (unlikely(MPIR_Request_is_complete(rreq)))
            mpi_errno = MPI_SUCCESS;
        else if (rreq->dev.OnDataAvail)
            mpi_errno = rreq->dev.OnDataAvail(vc, rreq, &complete);
        else
            mpi_errno = MPID_Request_complete(rreq);
        if (unlikely(mpi_errno)) {
            handle_refusal(vc, mpi_errno);
            return;
        }
        if (complete)
            vc->ch.recv_active = rreq = NULL;
        else
            rreq->dev.iov_offset = 0; /* the request has loaded more */
    }
}

/*
 * Passes CH3 the contents of one message of the channel: a packet, or more of the previous one.
 * False if it must wait; then nothing of it was consumed.
 */
static bool deliver_message(MPIDI_VC_t *vc, const unsigned char *data, size_t len)
{
    if (unlikely(VC_IVSHMEM(vc)->failure)) { /* dropped, but it has come */
        MPID_nem_ivshmem.stats.eager_received += !vc->ch.recv_active;
        count_bytes(vc, len);
        return true;
    }
    if (unlikely(vc->ch.recv_active))
        count_bytes(vc, len);
    else if (unlikely(!begin_packet(vc, &data, &len)))
        return false;
    if (unlikely(len > 0) && !VC_IVSHMEM(vc)->failure)
        continue_packet(vc, &data, &len);
    if (unlikely(len > 0) && VC_IVSHMEM(vc)->channel)
        MPID_nem_ivshmem_vc_mark_failed(vc, "sent more data than its header announced");
    return true;
}

/*
 * The peer has sent something that is not a message. Nothing more is accepted from it, on any
 * connection.
 */
static void mark_channel_failed(struct ivshm_channel *channel, const char *why)
{
    MPIDI_VC_t *vc = MPID_nem_ivshmem.vcs[ivshm_channel_peer(channel).endpoint];

    if (vc)
        MPID_nem_ivshmem_vc_mark_failed(vc, why);
    for (vc = MPID_nem_ivshmem.dynamic; vc; vc = VC_IVSHMEM(vc)->next_dynamic)
        if (VC_IVSHMEM(vc)->channel == channel)
            MPID_nem_ivshmem_vc_mark_failed(vc, why);
}

/*
 * Messages that came too early. The news about their sender's job, or about who has which rank in a
 * communicator, is still on its way from another rank. They are kept unreleased, with everything
 * that the same peer sends after them. So a stranger who waits in vain delays nobody else.
 */
typedef struct MPID_nem_ivshmem_held {
    struct MPID_nem_ivshmem_held *next;
    struct ivshm_incoming in;
} held_t;

/*
 * False if the message cannot be kept. No honest peer has more messages under way than there are
 * cells, plus a ring.
 */
static bool hold_message(const struct ivshm_incoming *in)
{
    uint32_t *count = &progress->held_by[ivshm_channel_peer(in->channel).endpoint];
    held_t *new;

    if (*count > ivshm_region_cells(&MPID_nem_ivshmem.region)) {
        mark_channel_failed(in->channel, "sent cells again that were not released");
        return false;
    }
    if (!(new = MPL_malloc(sizeof(*new), MPL_MEM_OTHER))) {
        mark_channel_failed(in->channel,
                            "sent a message too early, and there is no memory to hold it");
        return false;
    }
    *new = (held_t){.in = *in};
    *progress->held_end = new;
    progress->held_end = &new->next;
    ++*count;
    ivshm_channel_pause(&MPID_nem_ivshmem.transport, in->channel);
    return true;
}

/*
 * Finds the connection of a message. *vc_p is NULL if it belongs to nobody that we know; drop it
 * then.
 */
static inline int find_vc(const struct ivshm_incoming *in, MPIDI_VC_t **vc_p)
{
    if (unlikely(in->stream != 0))
        return MPID_nem_ivshmem_port_find_vc(in, vc_p);
    *vc_p = MPID_nem_ivshmem.vcs[ivshm_channel_peer(in->channel).endpoint];
    return likely(*vc_p) ? MPI_SUCCESS : MPID_nem_ivshmem_path_adopt(in->channel, vc_p);
}

/* Delivers a message, or holds it. The caller has taken a hold on the channel, which ends here. */
static int process_message(struct ivshm_incoming *in)
{
    int mpi_errno = MPI_SUCCESS;
    MPIDI_VC_t *vc;
    bool early = ivshm_channel_is_paused(in->channel);

    if (likely(!early)) {
        mpi_errno = find_vc(in, &vc);
        MPIR_ERR_CHECK(mpi_errno);
        if (likely(vc && in->len > 0))
            early = !deliver_message(vc, in->payload, in->len);
        else if (!vc && in->len > 0)
            early = MPID_nem_ivshmem_path_is_of_unknown_job(in);
    }
    if (unlikely(early) && hold_message(in))
        return MPI_SUCCESS;
    MPID_nem_ivshmem.stats.messages_received++;

fn_exit:
    ivshm_message_release(in);
    ivshm_channel_close(&MPID_nem_ivshmem.transport, in->channel);
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Processes the held messages, in order, after news. Some may have to wait again. */
static int process_held(void)
{
    int mpi_errno = MPI_SUCCESS, err;
    held_t *next, *h = progress->held;

    MPID_nem_ivshmem.news = false;
    progress->held = NULL;
    progress->held_end = &progress->held;
    if (h)
        memset(progress->held_by, 0,
               ivshm_region_endpoints(&MPID_nem_ivshmem.region) * sizeof(*progress->held_by));
    for (held_t *each = h; each; each = each->next)
        ivshm_channel_resume(&MPID_nem_ivshmem.transport, each->in.channel);
    for (; h; h = next) {
        next = h->next;
        if ((err = process_message(&h->in)) != MPI_SUCCESS)
            mpi_errno = err;
        MPL_free(h);
    }
    return mpi_errno;
}

/* Drops the held messages whose sender has left, or all. */
static void drop_held(bool all)
{
    struct ivshm_transport *t = &MPID_nem_ivshmem.transport;

    progress->held_end = &progress->held;
    for (held_t *h; (h = *progress->held_end);) {
        if (!all && ivshm_channel_is_live(t, h->in.channel)) {
            progress->held_end = &h->next;
            continue;
        }
        *progress->held_end = h->next;
        progress->held_by[ivshm_channel_peer(h->in.channel).endpoint]--;
        ivshm_message_release(&h->in);
        ivshm_channel_close(t, h->in.channel);
        MPL_free(h);
    }
}

void MPID_nem_ivshmem_poll_finalize(void)
{
    drop_held(true);
    MPL_free(progress->held_by);
    progress->held_by = NULL;
}

static int receive_message(struct ivshm_incoming *in)
{
    int mpi_errno, err = MPI_SUCCESS;

    /* A CLOSE packet may end the connection before we have released its message. */
    ivshm_channel_hold(in->channel);
    if (unlikely(MPID_nem_ivshmem.news))
        err = process_held();
    mpi_errno = process_message(in);
    return mpi_errno ? mpi_errno : err;
}

/*
 * Whether the peer is gone for good. *again is set if this must be checked again in the next
 * progress call. What a peer sent before it left is in our inbox before its claim says that it has
 * left. So a peer that was seen to be gone, and is still connected after the inbox has been emptied
 * once more, did not close the connection.
 */
static bool is_gone(MPIDI_VC_t *vc, bool *again)
{
    if (VC_IVSHMEM(vc)->gone && !VC_IVSHMEM(vc)->failure) {
        bool more = ivshm_channel_has_more(&MPID_nem_ivshmem.transport, VC_IVSHMEM(vc)->channel,
                                           VC_IVSHMEM(vc)->gone_at);
        *again |= more;
        return !more;
    }
    if (!VC_IVSHMEM(vc)->failure &&
        !ivshm_channel_is_live(&MPID_nem_ivshmem.transport, VC_IVSHMEM(vc)->channel)) {
        *again = VC_IVSHMEM(vc)->gone = true;
        VC_IVSHMEM(vc)->gone_at = ivshm_transport_inbox_position(&MPID_nem_ivshmem.transport);
    }
    return false;
}

/*
 * Marks the connections whose peer is gone. Of ranks, only one at a time, so that each loss ends a
 * call of its own, unless no call ends with such an error.
 */
static void mark_gone(bool *again)
{
    bool is_marked = false;

    *again = false;
    for (uint32_t i = 0; i < ivshm_region_endpoints(&MPID_nem_ivshmem.region) && !is_marked; i++) {
        MPIDI_VC_t *vc = MPID_nem_ivshmem.vcs[i];
        if (!vc || !is_gone(vc, again))
            continue;
        MPID_nem_ivshmem_vc_mark_failed(vc, "its process is dead");
        is_marked = !MPIR_CVAR_ENABLE_FT;
        *again |= is_marked; /* for the next one */
    }
    for (MPIDI_VC_t *vc = MPID_nem_ivshmem.dynamic; vc; vc = VC_IVSHMEM(vc)->next_dynamic)
        if (is_gone(vc, again))
            MPID_nem_ivshmem_vc_mark_failed(vc, "is dead");
}

/*
 * A safe point, after an error or none: no packet is being handled, so what is marked ends. Returns
 * the first error.
 */
static inline int end_marked(int mpi_errno)
{
    if (likely(!MPID_nem_ivshmem.failed_vcs))
        return mpi_errno;
    int err = MPID_nem_ivshmem_teardown_failed_vcs();
    return mpi_errno ? mpi_errno : err;
}

/*
 * Whether this is a rank in our region and in a communicator, but without a channel, as no message
 * has been exchanged. About ranks of our own job, the process manager tells us.
 */
static bool is_unmet(MPIDI_VC_t *vc)
{
    if (vc->pg == MPIDI_Process.my_pg || MPIR_Object_get_ref(vc) == 0 ||
        (vc->state != MPIDI_VC_STATE_INACTIVE && vc->state != MPIDI_VC_STATE_ACTIVE))
        return false;
    return MPID_nem_ivshmem_path_is_in_region(vc) && !VC_IVSHMEM(vc)->channel;
}

/*
 * Ends the receives from ranks of other jobs that have gone before a message was exchanged. Such a
 * rank may have finished normally, so the current call does not end: it may not concern that rank.
 * There is no channel that could be marked, nor any request but the receives, which CH3 completes:
 * so that is done here, at the safe point of watch_peers.
 */
static int fail_the_unmet(bool *again)
{
    int mpi_errno = MPI_SUCCESS;
    MPID_nem_ivshmem_ranks_t at = {0};

    for (MPIDI_VC_t *vc; (vc = MPID_nem_ivshmem_vc_next(&at));) {
        if (!is_unmet(vc) || ivshm_endpoint_is_live(&MPID_nem_ivshmem.region, VC_IVSHMEM(vc)->peer))
            continue;
        if (VC_IVSHMEM(vc)->gone) /* the inbox has been emptied since, as in is_gone */
            mpi_errno = MPIDI_CH3U_Handle_connection(vc, MPIDI_VC_EVENT_TERMINATED);
        else
            *again = VC_IVSHMEM(vc)->gone = true;
        MPIR_ERR_CHECK(mpi_errno);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Returns an error that no call has returned yet. */
static inline int pop_failure(void)
{
    int mpi_errno = MPID_nem_ivshmem.failure;

    if (likely(mpi_errno == MPI_SUCCESS))
        return MPI_SUCCESS;
    MPID_nem_ivshmem.failure = MPI_SUCCESS;
    return MPIR_CVAR_ENABLE_FT ? MPI_SUCCESS : mpi_errno;
}

/*
 * Checks which peers have died, at most once a second. `idle`: nothing was received in this
 * progress call. This function, its callers and the code that finds a loss by tcp do not add
 * themselves to the error's stack: MPI_Error_string returns 512 bytes, and the name of the lost
 * peer comes at their end.
 */
static int watch_peers(bool idle)
{
    int mpi_errno = MPI_SUCCESS;
    struct timespec now;

    mpi_errno = pop_failure();
    if (likely(!mpi_errno))
        mpi_errno = MPID_nem_ivshmem_relation_forget_locks();
    if (unlikely(mpi_errno))
        goto fn_exit;
    if (likely(!progress->seen_gone)) {
        if (idle && !MPID_nem_ivshmem.wait.slept &&
            (++progress->idle_calls & (POLLS_PER_CLOCK - 1)) != 0)
            goto fn_exit;
        clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
        if (now.tv_sec - progress->watched_at < WATCH_SECONDS)
            goto fn_exit;
        progress->watched_at = now.tv_sec;
        drop_held(false);
        MPID_nem_ivshmem_memory_trim();
        MPID_nem_ivshmem_local_look();
        ivshm_transport_watch(&MPID_nem_ivshmem.transport);
        MPID_nem_ivshmem_stats_tell();
    }
    mark_gone(&progress->seen_gone);
    mpi_errno = end_marked(MPI_SUCCESS);
    if (!mpi_errno && idle)
        mpi_errno = fail_the_unmet(&progress->seen_gone);

fn_exit:
    return mpi_errno;
}

/* Continues with what waits to be sent, on every connection: there may be room since. */
static int progress_busy(void)
{
    int mpi_errno = MPI_SUCCESS;

    for (MPIDI_VC_t *next, *vc = MPID_nem_ivshmem.busy; vc; vc = next) {
        next = vc->ch.next;
        mpi_errno = MPID_nem_ivshmem_send_drain(vc);
        MPIR_ERR_CHECK(mpi_errno);
        if (VC_IVSHMEM(vc)->terminating) {
            mpi_errno = MPID_nem_ivshmem_teardown_drained(vc);
            MPIR_ERR_CHECK(mpi_errno);
        } else if (!VC_IVSHMEM(vc)->sendq.head) {
            MPID_nem_ivshmem_vc_unlink_busy(vc);
        }
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Whether nothing has arrived, after that many checks. */
static inline bool finds_nothing(int polls)
{
    while (polls-- > 0)
        if (!ivshm_transport_is_empty(&MPID_nem_ivshmem.transport))
            return false;
    return true;
}

/* After a poll in vain. Other threads may poll meanwhile. */
static inline void wait_or_not(bool is_blocking)
{
    MPID_nem_ivshmem.wait.slept = false;
    if (unlikely(!is_blocking)) {
        progress->vain_looks = 0;
        if (likely(++progress->vain_tests < IVSHMEM_VAIN_TESTS))
            return;
        progress->vain_tests = 0;
        progress->inside = false;
        MPID_nem_ivshmem_wait_tested();
        return;
    }
    if (likely(++progress->vain_looks < MPID_nem_ivshmem.wait.wait.looks))
        return;
    progress->vain_looks = 0;
    progress->inside = false;
    MPID_nem_ivshmem_wait();
}

int MPID_nem_ivshmem_poll(int in_blocking_poll)
{
    int mpi_errno = MPI_SUCCESS;
    struct ivshm_incoming in;
    struct ivshm_diag diag;
    int got = 0, n;

    /*
     * Packet handlers may poll again. Messages must reach CH3 in order, so the inner call does
     * nothing.
     */
    if (progress->inside)
        return MPI_SUCCESS;
    progress->inside = true;

    if (unlikely(MPID_nem_ivshmem.poll_tcp)) {
        mpi_errno = MPID_nem_ivshmem_path_tcp_poll(in_blocking_poll);
        if (unlikely(mpi_errno))
            goto fn_exit;
    }
    if (unlikely(!MPID_nem_ivshmem.joined)) {
        mpi_errno = pop_failure();
        goto fn_exit;
    }
    /*
     * A caller that waits checks the inbox more often than the rest of a progress call would let
     * it.
     */
    for (n = 0;
         n < MESSAGES_PER_POLL && !finds_nothing(n == 0 && in_blocking_poll ? POLLS_OF_WAITER : 1);
         n++) {
        got = ivshm_transport_receive(&MPID_nem_ivshmem.transport, &in, &diag);
        if (got <= 0)
            break;
        mpi_errno = receive_message(&in);
        if (unlikely(mpi_errno))
            break;
    }
    if (unlikely(n > 0 && MPID_nem_ivshmem.wait.wait.waits))
        MPID_nem_ivshmem_wait_end();
    if (unlikely(got < 0) && in.channel)
        mark_channel_failed(in.channel, diag.text);
    mpi_errno = end_marked(mpi_errno);
    if (unlikely(mpi_errno))
        goto fn_exit;
    ivshm_transport_flush(&MPID_nem_ivshmem.transport);
    if (MPID_nem_ivshmem.busy) {
        mpi_errno = progress_busy();
        MPIR_ERR_CHECK(mpi_errno);
    }
    if (MPID_nem_ivshmem.transfers) {
        mpi_errno = MPID_nem_ivshmem_lmt_progress();
        MPIR_ERR_CHECK(mpi_errno);
    }
    if (n == 0) {
        if (unlikely(MPID_nem_ivshmem.news)) {
            mpi_errno = end_marked(process_held());
            if (unlikely(mpi_errno))
                goto fn_exit;
        }
        if (unlikely(MPID_nem_ivshmem.dynamic))
            MPID_nem_ivshmem_port_close_unanswered();
        mpi_errno = watch_peers(true);
        if (likely(!mpi_errno))
            wait_or_not(in_blocking_poll);
    } else if (unlikely((++progress->busy_calls & (POLLS_PER_CLOCK - 1)) == 0)) {
        mpi_errno = watch_peers(false);
    }

fn_exit:
    progress->inside = false;
    return mpi_errno;
fn_fail:
    goto fn_exit;
}
