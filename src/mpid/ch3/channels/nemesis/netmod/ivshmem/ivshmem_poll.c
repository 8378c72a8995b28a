/* SPDX-License-Identifier: mpich2 */
/*
 * The netmod's turn in MPICH's progress engine. One look at one inbox, whatever the number of
 * peers; what else there is to do is on lists that are mostly empty. No system call, but for tcp's
 * where there is a path by tcp, and for the look for deaths, now and then, of a rank that has
 * nothing to do.
 */
#include "ivshmem_netmod.h"

#include <time.h>

#define LOOKS 4 /* for a message, of who waits for one, in each turn */
#define CELLS_PER_POLL 16
#define POLLS_PER_CLOCK 4096 /* a power of two: idle turns between two looks at the clock */
#define WATCH_SECONDS 1

/*
 * CH3's handlers of packets, by type: the table that Nemesis keeps to itself. With it a packet's
 * header can be a private copy while its data stays where it is.
 */
static MPIDI_CH3_PktHandler_Fcn *handlers[MPIDI_CH3_PKT_END_ALL + 1];

/*
 * CH3 could not do what the packet asks for. Either the connection has failed meanwhile, or that
 * with another peer, to which something was to be sent: the current call may wait for it. Or it is
 * the packet's fault.
 */
static void refused(MPIDI_VC_t *vc, int mpi_errno)
{
    char text[2 * MPI_MAX_ERROR_STRING] = "", why[MPI_MAX_ERROR_STRING];

    if (!VC_IVSHMEM(vc)->channel || MPIR_ERR_GET_CLASS(mpi_errno) == MPIX_ERR_PROC_FAILED) {
        MPID_nem_ivshmem.failure = mpi_errno;
        return;
    }
    MPIR_Err_get_string(mpi_errno, text, MPI_MAX_ERROR_STRING, NULL);
    snprintf(why, sizeof(why), "sent a packet that MPICH could not serve: %.200s", text);
    MPID_nem_ivshmem_vc_give_up(vc, why);
}

int MPID_nem_ivshmem_poll_init(void)
{
    int mpi_errno = MPI_SUCCESS;

    mpi_errno = MPIDI_CH3_PktHandler_Init(handlers, MPIDI_CH3_PKT_END_ALL + 1);
    MPIR_ERR_CHECK(mpi_errno);
    mpi_errno = MPID_nem_lmt_pkthandler_init(handlers, MPIDI_CH3_PKT_END_ALL + 1);
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/*
 * A new packet: gives CH3 its header, checked, and as much of its data as came with it. An error of
 * CH3's is about this packet, and ends the connection it came by.
 */
static void begin_packet(MPIDI_VC_t *vc, const unsigned char **data, size_t *len)
{
    MPIDI_CH3_Pkt_t pkt;
    MPIR_Request *rreq = NULL;
    bool hold = false;

    /* Each byte is read once: the type, which tells the length, is not read again. */
    if (unlikely(*len < HEADER_BYTES_MIN)) {
        MPID_nem_ivshmem_vc_give_up(vc, "sent a message without a header");
        return;
    }
    memcpy(&pkt, *data, HEADER_BYTES_MIN);
    size_t header = MPID_nem_ivshmem_header_bytes((int) pkt.type);
    if (unlikely(header == 0 || *len < header)) {
        MPID_nem_ivshmem_vc_give_up(vc, header ? "sent a message with half a header"
                                               : "sent a packet of an unknown type");
        return;
    }
    MPID_nem_ivshmem_header_copy(&pkt, *data, HEADER_BYTES_MIN, header);
    const char *why = MPID_nem_ivshmem_packet_check(vc, &pkt, *len - header, &hold);
    if (unlikely(why)) {
        MPID_nem_ivshmem_vc_give_up(vc, why);
        return;
    }
    MPID_nem_ivshmem.stats.eager_received++;
    if (unlikely(VC_IVSHMEM(vc)->stream) &&
        (pkt.type == MPIDI_CH3_PKT_CONN_ACK || pkt.type == MPIDI_CH3_PKT_ACCEPT_ACK))
        VC_IVSHMEM(vc)->met = pkt.conn_ack.ack;
    /* MPI allows it, and CH3 cannot keep one that was not waited for. */
    if (unlikely(pkt.type == MPIDI_CH3_PKT_READY_SEND))
        pkt.type = MPIDI_CH3_PKT_EAGER_SEND;
    *data += header;
    *len -= header;
    intptr_t taken = hold ? 0 : (intptr_t) *len;
    int mpi_errno = handlers[pkt.type](vc, &pkt, (void *) *data, &taken, &rreq);
    if (unlikely(mpi_errno)) {
        refused(vc, mpi_errno);
        return;
    }
    *data += taken;
    *len -= (size_t) taken;
    if (rreq) { /* it wants more */
        rreq->dev.iov_offset = 0;
        vc->ch.recv_active = rreq;
        if (MPID_nem_ivshmem_packet_is_plain((int) pkt.type))
            VC_IVSHMEM(vc)->receives_into = MPI_WIN_NULL;
    }
}

/* More of the packet before: copies it to where CH3 wants it. */
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
            MPID_nem_ivshmem_vc_give_up(vc, why);
            return;
        }
        if (unlikely(MPIR_Request_is_complete(rreq))) /* its communicator was revoked meanwhile */
            mpi_errno = MPI_SUCCESS;
        else if (rreq->dev.OnDataAvail)
            mpi_errno = rreq->dev.OnDataAvail(vc, rreq, &complete);
        else
            mpi_errno = MPID_Request_complete(rreq);
        if (unlikely(mpi_errno)) {
            refused(vc, mpi_errno);
            return;
        }
        if (complete)
            vc->ch.recv_active = rreq = NULL;
        else
            rreq->dev.iov_offset = 0; /* it has loaded more */
    }
}

/* Hands to CH3 what a message of the channel holds: a packet, or more of the one before. */
static void deliver(MPIDI_VC_t *vc, const unsigned char *data, size_t len)
{
    if (unlikely(VC_IVSHMEM(vc)->given_up))
        return;
    MPID_nem_ivshmem.stats.eager_received_bytes += len;
    VC_IVSHMEM(vc)->received_bytes += len;
    if (likely(!vc->ch.recv_active))
        begin_packet(vc, &data, &len);
    if (unlikely(len > 0) && !VC_IVSHMEM(vc)->given_up)
        continue_packet(vc, &data, &len);
    if (unlikely(len > 0) && VC_IVSHMEM(vc)->channel)
        MPID_nem_ivshmem_vc_give_up(vc, "sent more than its header says");
}

/*
 * Messages of ranks of a job that is not known here yet: what tells us of it is on its way, by
 * another rank, and theirs was faster. They wait, in order; a stranger's wait in vain, and so are
 * few.
 */
typedef struct held {
    struct held *next;
    struct ivshm_owner peer;
    size_t len;
    unsigned char data[];
} held_t;

#define HELD_BYTES_MAX (1 << 20)

static held_t *held, **held_end = &held;
static size_t held_bytes;

static void hold(const struct ivshm_incoming *in)
{
    held_t *h = held_bytes + in->len <= HELD_BYTES_MAX
                    ? MPL_malloc(sizeof(*h) + in->len, MPL_MEM_OTHER)
                    : NULL;

    if (!h)
        return;
    h->next = NULL;
    h->peer = in->channel->peer;
    h->len = in->len;
    memcpy(h->data, in->payload, in->len);
    held_bytes += in->len;
    *held_end = h;
    held_end = &h->next;
}

/* Those whose sender is known now; those whose sender has left are dropped. */
static void deliver_held(void)
{
    for (held_t *h, **link = &held; (h = *link);) {
        struct ivshm_channel *channel = MPID_nem_ivshmem.transport.channels[h->peer.endpoint];
        bool here = channel && channel->peer.generation == h->peer.generation;
        MPIDI_VC_t *vc = here ? MPID_nem_ivshmem_find_rank(channel) : NULL;
        if (here && !vc) {
            link = &h->next;
            continue;
        }
        *link = h->next;
        if (!h->next)
            held_end = link;
        held_bytes -= h->len;
        if (vc)
            deliver(vc, h->data, h->len);
        MPL_free(h);
    }
}

static int receive(struct ivshm_incoming *in)
{
    int mpi_errno = MPI_SUCCESS;
    MPIDI_VC_t *vc;

    /* A CLOSE packet may end the connection while we still hold its cell. */
    in->channel->users++;
    if (unlikely(held))
        deliver_held();
    mpi_errno = MPID_nem_ivshmem_find_vc(in, &vc);
    MPIR_ERR_CHECK(mpi_errno);
    MPID_nem_ivshmem.stats.cells_received++;
    if (unlikely(!vc && in->len > 0) && MPID_nem_ivshmem_is_of_unknown_job(in))
        hold(in);
    if (likely(vc && in->len > 0))
        deliver(vc, in->payload, in->len);

fn_exit:
    ivshm_hand_back(in);
    ivshm_channel_close(&MPID_nem_ivshmem.transport, in->channel);
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/*
 * Whether the peer is gone for good, and *again if that is to be asked in the next turn. What a
 * peer sent before it left is in our inbox before its claim says that it has left, so whoever was
 * seen gone and still is connected once the inbox was empty after that did not say goodbye.
 */
static bool is_gone(MPIDI_VC_t *vc, bool *again)
{
    if (VC_IVSHMEM(vc)->gone && !VC_IVSHMEM(vc)->given_up) {
        bool more = ivshm_channel_has_more(&MPID_nem_ivshmem.transport, VC_IVSHMEM(vc)->channel);
        *again |= more;
        return !more;
    }
    if (!VC_IVSHMEM(vc)->given_up &&
        !ivshm_channel_is_live(&MPID_nem_ivshmem.transport, VC_IVSHMEM(vc)->channel))
        *again = VC_IVSHMEM(vc)->gone = true;
    return false;
}

/* Fails the connections whose peer is gone. */
static int fail_the_gone(bool *again)
{
    int mpi_errno = MPI_SUCCESS;

    *again = false;
    for (uint32_t i = 0; i < MPID_nem_ivshmem.region.geo.endpoints; i++) {
        MPIDI_VC_t *vc = MPID_nem_ivshmem.vcs[i];
        if (vc && is_gone(vc, again)) {
            mpi_errno = MPID_nem_ivshmem_vc_fail(vc, "its process is dead");
            MPIR_ERR_CHECK(mpi_errno);
        }
    }
    for (MPIDI_VC_t *next, *vc = MPID_nem_ivshmem.dynamic; vc; vc = next) {
        next = VC_IVSHMEM(vc)->next_dynamic;
        if (is_gone(vc, again)) {
            *again = true; /* it has several steps */
            mpi_errno = MPID_nem_ivshmem_call_off(vc, "is dead");
            MPIR_ERR_CHECK(mpi_errno);
        }
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/*
 * Whether that is a rank in our region, and in a communicator, with which no message has made a
 * channel yet. Of its own job a rank hears from the process manager.
 */
static bool is_unmet(MPIDI_VC_t *vc)
{
    if (vc->pg == MPIDI_Process.my_pg || vc->state == MPIDI_VC_STATE_MORIBUND ||
        MPIR_Object_get_ref(vc) == 0)
        return false;
    return MPID_nem_ivshmem_is_in_region(vc) && !VC_IVSHMEM(vc)->channel;
}

/*
 * Ends the receives from ranks of other jobs that are gone before a message was exchanged. They may
 * have left as they should, so the current call does not end: it may be none of theirs.
 */
static int fail_the_unmet(bool *again)
{
    int mpi_errno = MPI_SUCCESS;
    MPID_nem_ivshmem_ranks_t at = {0};

    for (MPIDI_VC_t *vc; (vc = MPID_nem_ivshmem_vc_next(&at));) {
        if (!is_unmet(vc) || ivshm_endpoint_is_live(&MPID_nem_ivshmem.region, VC_IVSHMEM(vc)->peer))
            continue;
        if (VC_IVSHMEM(vc)->gone) /* the inbox was empty after that, as in is_gone */
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

/* In a rank whose inbox is empty: once a second at most, who of our peers has died? */
static int watch(void)
{
    static time_t last;
    static bool seen_gone;
    static unsigned idle;
    int mpi_errno = MPI_SUCCESS;
    struct timespec now;

    if (unlikely(MPID_nem_ivshmem.failure)) {
        mpi_errno = MPIR_CVAR_ENABLE_FT ? MPI_SUCCESS : MPID_nem_ivshmem.failure;
        MPID_nem_ivshmem.failure = MPI_SUCCESS;
        MPIR_ERR_CHECK(mpi_errno);
    }
    mpi_errno = MPID_nem_ivshmem_relation_forget_locks();
    MPIR_ERR_CHECK(mpi_errno);
    if (likely(!seen_gone)) {
        if ((++idle & (POLLS_PER_CLOCK - 1)) != 0)
            goto fn_exit;
        clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
        if (now.tv_sec - last < WATCH_SECONDS)
            goto fn_exit;
        last = now.tv_sec;
        ivshm_transport_watch(&MPID_nem_ivshmem.transport);
    }
    mpi_errno = fail_the_gone(&seen_gone);
    MPIR_ERR_CHECK(mpi_errno);
    mpi_errno = fail_the_unmet(&seen_gone);
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* The peer has sent what is no message: nothing more is taken from it, on any connection. */
static void give_up_channel(struct ivshm_channel *channel, const char *why)
{
    MPIDI_VC_t *vc = MPID_nem_ivshmem.vcs[channel->peer.endpoint];

    if (vc)
        MPID_nem_ivshmem_vc_give_up(vc, why);
    for (vc = MPID_nem_ivshmem.dynamic; vc; vc = VC_IVSHMEM(vc)->next_dynamic)
        if (VC_IVSHMEM(vc)->channel == channel)
            MPID_nem_ivshmem_vc_give_up(vc, why);
}

/* Whether nothing is to be received, after so many looks. */
static inline bool is_idle(int looks)
{
    while (looks-- > 0)
        if (!ivshm_transport_is_idle(&MPID_nem_ivshmem.transport))
            return false;
    return true;
}

int MPID_nem_ivshmem_poll(int in_blocking_poll)
{
    static bool inside;
    int mpi_errno = MPI_SUCCESS;
    struct ivshm_incoming in;
    struct ivshm_diag diag;
    int got = 0, n;

    /* Packet handlers may poll again; cells must reach CH3 in order, so the inner turn does
     * nothing. */
    if (inside)
        return MPI_SUCCESS;
    inside = true;

    if (unlikely(MPID_nem_ivshmem.poll_tcp)) {
        mpi_errno = MPID_nem_ivshmem_tcp_poll(in_blocking_poll);
        MPIR_ERR_CHECK(mpi_errno);
    }
    if (unlikely(!MPID_nem_ivshmem.joined))
        goto fn_exit;
    /* Who waits looks here more often than the rest of a turn would let it. */
    for (n = 0; n < CELLS_PER_POLL && !is_idle(n == 0 && in_blocking_poll ? LOOKS : 1); n++) {
        got = ivshm_receive(&MPID_nem_ivshmem.transport, &in, &diag);
        if (got <= 0)
            break;
        mpi_errno = receive(&in);
        MPIR_ERR_CHECK(mpi_errno);
    }
    if (unlikely(got < 0) && in.channel)
        give_up_channel(in.channel, diag.text);
    if (unlikely(MPID_nem_ivshmem.some_given_up)) {
        mpi_errno = MPID_nem_ivshmem_vc_fail_given_up();
        MPIR_ERR_CHECK(mpi_errno);
    }
    if (MPID_nem_ivshmem.transport.pending)
        ivshm_transport_flush(&MPID_nem_ivshmem.transport);
    if (MPID_nem_ivshmem.busy) {
        mpi_errno = MPID_nem_ivshmem_send_progress();
        MPIR_ERR_CHECK(mpi_errno);
    }
    if (MPID_nem_ivshmem.transfers) {
        mpi_errno = MPID_nem_ivshmem_lmt_progress();
        MPIR_ERR_CHECK(mpi_errno);
    }
    if (n == 0) {
        if (unlikely(held))
            deliver_held();
        if (unlikely(MPID_nem_ivshmem.dynamic)) {
            mpi_errno = MPID_nem_ivshmem_end_unanswered_calls();
            MPIR_ERR_CHECK(mpi_errno);
        }
        mpi_errno = watch();
        MPIR_ERR_CHECK(mpi_errno);
    }

fn_exit:
    inside = false;
    return mpi_errno;
fn_fail:
    goto fn_exit;
}
