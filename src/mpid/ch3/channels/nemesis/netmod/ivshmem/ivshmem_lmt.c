/* SPDX-License-Identifier: mpich2 */
/*
 * Large messages, through Nemesis' LMT hooks. The first packet of each side may carry a cookie:
 *
 *   sender                                  receiver
 *
 *   RTS: a pipeline of the sender   ---->
 *   fills chunks                    ====>   matched: empties chunks at the same time
 *
 *   RTS: the sender's buffer        ---->   matched: copies from the buffer
 *                                   <----   DONE
 *
 *   RTS: nothing                    ---->   matched
 *                                   <----   CTS: a pipeline of the receiver, or its buffer
 *   fills chunks                    ====>   empties chunks at the same time
 *   or copies into the buffer       ====>
 *   DONE                            ---->
 *
 *   RTS: the sender's buffer        ---->   matched; its own buffer is in the region too, and large
 *                                   <----   CTS: its buffer, for a cooperative copy
 *   copies pieces                   ====>   copies pieces, until it has all of them
 *                                   <----   DONE
 *
 * A cookie can name a buffer if that is memory of the region: then there is a single copy.
 * Otherwise both sides copy through a pipeline. If the sender provides it, a trip is saved, but the
 * pipeline is in use until the receiver is done. So a rank sends through few of its pipelines at a
 * time, and always keeps one for receiving, so that one receive can make progress. When all are in
 * use and the region has no memory for another, receives wait for one. A peer whose last receive
 * went into memory of the region is sent no pipeline, because it will want a single copy again.
 *
 * Each way to copy a message is a table of operations (MPID_nem_ivshmem_way_t), next to its code in
 * ivshmem_pipeline.c or ivshmem_copy.c. This file has the hooks and the states, which all ways
 * share. A progress call does one step of each transfer. Called by CH3 through the hooks and by the
 * progress call, under MPICH's global lock.
 */
#include "ivshmem_lmt.h"

#include "ivshmem_copy.h"
#include "ivshmem_pipeline.h"
#include "ivshmem_way.h"
#include "ivshmem_vc.h"
#include "ivshmem_limit.h"
#include "ivshmem_lmt_pool.h"

/* All ways. The first one that can be used is preferred to those after it. */
static const MPID_nem_ivshmem_way_t *const ways[] = {
    &MPID_nem_ivshmem_way_coop,
    &MPID_nem_ivshmem_way_read,
    &MPID_nem_ivshmem_way_write,
    &MPID_nem_ivshmem_way_pipeline,
};

enum { WAYS = sizeof(ways) / sizeof(ways[0]) };

static void link_transfer(MPID_nem_ivshmem_transfer_t *t)
{
    t->prev = NULL;
    t->next = MPID_nem_ivshmem.transfers;
    if (t->next)
        t->next->prev = t;
    MPID_nem_ivshmem.transfers = t;
    /*
     * CH3 completes a request that it cancels before we hear of it, so the transfer holds a
     * reference.
     */
    MPIR_Request_add_ref(t->req);
}

static void unlink_transfer(MPID_nem_ivshmem_transfer_t *t)
{
    if (t->prev)
        t->prev->next = t->next;
    else
        MPID_nem_ivshmem.transfers = t->next;
    if (t->next)
        t->next->prev = t->prev;
    MPIR_Request_free(t->req);
}

static MPID_nem_ivshmem_transfer_t *new_transfer(MPIDI_VC_t *vc, MPIR_Request *req, bool sends)
{
    MPID_nem_ivshmem_transfer_t *t = REQ_TRANSFER(req);
    memset(t, 0, sizeof(*t));
    t->req = req;
    t->vc = vc;
    t->sends = sends;
    link_transfer(t);
    return t;
}

/* Finds the user's data, and returns its size in bytes. */
static intptr_t find_buffer(MPID_nem_ivshmem_transfer_t *t)
{
    MPIR_Request *req = t->req;
    int contig;
    intptr_t size;
    MPI_Aint true_lb;
    MPIR_Datatype *type ATTRIBUTE((unused));

    MPIDI_Datatype_get_info(req->dev.user_count, req->dev.datatype, contig, size, type, true_lb);
    t->contig = contig ? (char *) req->dev.user_buf + true_lb : NULL;
    return size;
}

/* This side copies, or waits for a packet of the other side. */
static void set_state(MPID_nem_ivshmem_transfer_t *t)
{
    bool copies = t->way && (t->sends ? t->way->send : t->way->receive);
    t->state = copies ? IVSHMEM_COPYING : IVSHMEM_AWAIT_PEER;
}

/* From now on one side accesses the other's memory. */
static void activate_transfer(MPID_nem_ivshmem_transfer_t *t)
{
    set_state(t);
    t->active = true;
    VC_IVSHMEM(t->vc)->transfers++;
}

/* The transfer has ended: unlinks it and completes its request. */
static int finish_transfer(MPID_nem_ivshmem_transfer_t *t)
{
    MPIR_Request *req = t->req, *entry;

    VC_IVSHMEM(t->vc)->transfers -= t->active;
    /* A request that has had no CTS is still on CH3's list. */
    if (MPIR_CVAR_ENABLE_FT)
        MPID_nem_lmt_rtsq_search_remove(&t->vc->ch.lmt_rts_queue, req->handle, &entry);
    int mpi_errno = MPIR_Request_is_complete(req) ? MPI_SUCCESS : MPID_Request_complete(req);
    unlink_transfer(t);
    return mpi_errno;
}

static int end_sent(MPID_nem_ivshmem_transfer_t *t)
{
    MPID_nem_ivshmem.stats.lmt_sent++;
    MPID_nem_ivshmem.stats.lmt_sent_bytes += t->counted;
    VC_PAIR(t->vc)->sent_bytes += t->counted;
    return finish_transfer(t);
}

static int end_received(MPID_nem_ivshmem_transfer_t *t)
{
    MPID_nem_ivshmem.stats.lmt_received++;
    MPID_nem_ivshmem.stats.lmt_received_bytes += t->counted;
    VC_IVSHMEM(t->vc)->received_bytes += t->counted;
    return finish_transfer(t);
}

/* Tells the other side that its memory is no longer used. */
static int send_done(MPID_nem_ivshmem_transfer_t *t)
{
    int mpi_errno = MPI_SUCCESS;

    IVSHM_TRACEPOINT(done);
    MPID_nem_lmt_send_DONE(t->vc, t->req);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Receiver: sends our cookie in a CTS. */
static int send_cts(MPID_nem_ivshmem_transfer_t *t)
{
    int mpi_errno = MPI_SUCCESS;

    IVSHM_TRACEPOINT(cts);
    MPID_nem_lmt_send_CTS(t->vc, t->req, &t->cookie, sizeof(t->cookie));

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Receiver: answers the RTS by this way, or tries again in the next progress call. */
static int send_answer(MPID_nem_ivshmem_transfer_t *t, const MPID_nem_ivshmem_way_t *way,
                       MPID_nem_ivshmem_answer_t answer)
{
    t->way = way;
    if (answer == IVSHMEM_ANSWER_LATER) {
        t->state = IVSHMEM_AWAIT_MEMORY;
        return MPI_SUCCESS;
    }
    activate_transfer(t);
    return send_cts(t);
}

/* Sender: withdraws what the RTS offered. */
static void withdraw_offer(MPID_nem_ivshmem_transfer_t *t)
{
    if (t->way && t->way->withdraw)
        t->way->withdraw(t);
}

/* Sender: the receiver no longer knows of the send, which CH3 has cancelled, or takes no data. */
static int forget_transfer(MPID_nem_ivshmem_transfer_t *t)
{
    withdraw_offer(t);
    return finish_transfer(t);
}

static bool is_cancelled(const MPID_nem_ivshmem_transfer_t *t)
{
    return t->sends && (!t->active || t->state == IVSHMEM_AWAIT_PEER) &&
           MPIR_Request_is_complete(t->req);
}

/* Does a step of a transfer that this side copies. */
static int copy_step(MPID_nem_ivshmem_transfer_t *t, const char **why)
{
    int mpi_errno = MPI_SUCCESS;
    MPID_nem_ivshmem_step_t step = t->sends ? t->way->send(t, why) : t->way->receive(t, why);

    if (step == IVSHMEM_STEP_MORE)
        goto fn_exit;
    if (step == IVSHMEM_STEP_WAIT) {
        t->state = IVSHMEM_AWAIT_PEER;
        goto fn_exit;
    }
    if (step == IVSHMEM_STEP_DONE) {
        mpi_errno = send_done(t);
        MPIR_ERR_CHECK(mpi_errno);
    }
    mpi_errno = t->sends ? end_sent(t) : end_received(t);
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

static int advance_transfer(MPID_nem_ivshmem_transfer_t *t, const char **why)
{
    if (is_cancelled(t))
        return forget_transfer(t);
    switch (t->state) {
    case IVSHMEM_COPYING:
        return copy_step(t, why);
    case IVSHMEM_AWAIT_MEMORY:
        return send_answer(t, t->way, t->way->answer(t));
    case IVSHMEM_AWAIT_PEER:
        break;
    }
    return MPI_SUCCESS;
}

/* Advances the transfer. If the peer breaks the protocol, its connection is marked as failed. */
static int advance_or_mark_failed(MPID_nem_ivshmem_transfer_t *t)
{
    const char *why = NULL;
    int mpi_errno = advance_transfer(t, &why);

    if (unlikely(why))
        MPID_nem_ivshmem_vc_mark_failed(t->vc, why);
    return mpi_errno;
}

int MPID_nem_ivshmem_lmt_progress(void)
{
    int mpi_errno = MPI_SUCCESS;

    MPID_nem_ivshmem_lmt_pool_begin_progress();
    for (MPID_nem_ivshmem_transfer_t *next, *t = MPID_nem_ivshmem.transfers; t; t = next) {
        next = t->next;
        if (unlikely(VC_IVSHMEM(t->vc)->failure))
            continue;
        mpi_errno = advance_or_mark_failed(t);
        MPIR_ERR_CHECK(mpi_errno);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

int MPID_nem_ivshmem_lmt_fail(MPIDI_VC_t *vc, int req_errno)
{
    int mpi_errno = MPI_SUCCESS;
    bool is_gone = !ivshm_endpoint_is_live(&MPID_nem_ivshmem.region, VC_IVSHMEM(vc)->peer);

    for (MPID_nem_ivshmem_transfer_t *next, *t = MPID_nem_ivshmem.transfers; t; t = next) {
        next = t->next;
        if (t->vc != vc)
            continue;
        /* Memory that the peer may still write is not used again until the peer has gone. */
        if (t->way && t->way->quarantine)
            t->way->quarantine(t, is_gone);
        t->req->status.MPI_ERROR = req_errno;
        mpi_errno = finish_transfer(t);
        MPIR_ERR_CHECK(mpi_errno);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Sender: the first way that has something to offer in the RTS. NULL: the receiver has to offer. */
static const MPID_nem_ivshmem_way_t *choose_offer(MPID_nem_ivshmem_transfer_t *t)
{
    for (int i = 0; i < WAYS; i++)
        if (ways[i]->offer && ways[i]->offer(t))
            return ways[i];
    return NULL;
}

/*
 * Sender: begins a large message. The RTS is sent before anything is copied, so that the receiver
 * can start early. Nothing completes before CH3 has entered the request into its lists.
 */
static int initiate_lmt(MPIDI_VC_t *vc, MPIDI_CH3_Pkt_t *pkt, MPIR_Request *req)
{
    int mpi_errno = MPI_SUCCESS;
    MPID_nem_pkt_lmt_rts_t *rts_pkt = (MPID_nem_pkt_lmt_rts_t *) pkt;
    MPID_nem_ivshmem_transfer_t *t = NULL;

    if (unlikely(!VC_IVSHMEM(vc)->channel)) {
        mpi_errno = MPID_nem_ivshmem_vc_error(vc, "its call has ended");
        goto fn_fail;
    }
    t = new_transfer(vc, req, true);
    t->size = t->counted = req->ch.lmt_data_sz = find_buffer(t);
    t->cookie.bytes = (uint64_t) t->size;
    t->way = choose_offer(t);
    IVSHM_TRACEPOINT(rts);
    MPID_nem_lmt_send_RTS(vc, rts_pkt, &t->cookie, sizeof(t->cookie));
    IVSHM_TRACEPOINT(rts_sent);
    set_state(t);
    if (t->way && t->way->rts_sent)
        t->way->rts_sent(t);

fn_exit:
    return mpi_errno;
fn_fail:
    if (t) {
        withdraw_offer(t);
        unlink_transfer(t);
    }
    goto fn_exit;
}

/* The way to which a kind of cookie belongs, in an RTS or in a CTS; NULL if there is none. */
static const MPID_nem_ivshmem_way_t *find_way(int kind, bool in_rts)
{
    for (int i = 0; i < WAYS; i++)
        if (ways[i]->cookie == kind && (in_rts ? ways[i]->offer != NULL : ways[i]->answers != 0))
            return ways[i];
    return NULL;
}

/* Begins the way that the peer's cookie names. Returns NULL, or what is wrong with the cookie. */
static const char *use_cookie(MPID_nem_ivshmem_transfer_t *t,
                              const MPID_nem_ivshmem_cookie_t *cookie, struct ivshm_owner peer,
                              struct ivshm_diag *diag)
{
    const MPID_nem_ivshmem_way_t *way = find_way((int) cookie->what, !t->sends);

    if (!way)
        return "sent an LMT cookie of an unknown kind";
    if (t->sends && !(way->answers & 1u << t->cookie.what))
        return "sent a CTS with a cookie that cannot answer our RTS";
    t->way = way;
    return way->attach(t, cookie, peer, diag);
}

/*
 * Receiver: answers the RTS by the first way that can. If none does, the sender's cookie is enough:
 * there is a way that answers an RTS without one.
 */
static int answer_rts(MPID_nem_ivshmem_transfer_t *t)
{
    unsigned offered = 1u << (t->way ? t->way->cookie : IVSHMEM_COOKIE_NOTHING);

    for (int i = 0; i < WAYS; i++) {
        MPID_nem_ivshmem_answer_t answer = IVSHMEM_ANSWER_NO;
        if (ways[i]->answers & offered)
            answer = ways[i]->answer(t);
        if (answer != IVSHMEM_ANSWER_NO)
            return send_answer(t, ways[i], answer);
    }
    activate_transfer(t);
    return MPI_SUCCESS;
}

/* Receiver: a large message has matched a receive. */
static int start_recv(MPIDI_VC_t *vc, MPIR_Request *req, struct iovec s_cookie)
{
    int mpi_errno = MPI_SUCCESS;
    MPID_nem_ivshmem_cookie_t cookie = {0};
    struct ivshm_channel *channel = VC_IVSHMEM(vc)->channel; /* NULL after a failure */
    struct ivshm_diag diag;

    if (vc->state == MPIDI_VC_STATE_MORIBUND) { /* the peer died before the message was received */
        req->status.MPI_ERROR =
            MPID_nem_ivshmem_vc_error(vc, "its process died before its message was received");
        mpi_errno = MPID_Request_complete(req);
        goto fn_exit;
    }
    if (req->ch.lmt_data_sz == 0) { /* the receive takes no data */
        MPID_nem_lmt_send_CTS(vc, req, NULL, 0);
        mpi_errno = MPID_Request_complete(req);
        MPIR_ERR_CHECK(mpi_errno);
        goto fn_exit;
    }

    MPID_nem_ivshmem_transfer_t *t = new_transfer(vc, req, false);
    t->size = req->ch.lmt_data_sz;
    find_buffer(t);
    if (channel && s_cookie.iov_len == sizeof(cookie))
        memcpy(&cookie, s_cookie.iov_base, sizeof(cookie));
    t->counted = (intptr_t) cookie.bytes;
    if (cookie.what != IVSHMEM_COOKIE_NOTHING) {
        const char *why = use_cookie(t, &cookie, ivshm_channel_peer(channel), &diag);
        if (why) {
            MPID_nem_ivshmem_vc_mark_failed(vc, why);
            goto fn_exit;
        }
    }
    mpi_errno = answer_rts(t);
    MPIR_ERR_CHECK(mpi_errno);
    if (cookie.what != IVSHMEM_COOKIE_NOTHING) { /* there may be something to copy already */
        mpi_errno = advance_or_mark_failed(t);
        MPIR_ERR_CHECK(mpi_errno);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Sender: the receiver has answered with a cookie of its own, or takes no data. */
static int start_send(MPIDI_VC_t *vc, MPIR_Request *req, struct iovec r_cookie)
{
    int mpi_errno = MPI_SUCCESS;
    MPID_nem_ivshmem_transfer_t *t = REQ_TRANSFER(req);
    MPID_nem_ivshmem_cookie_t cookie = {0};
    struct ivshm_diag diag;

    intptr_t size = MPL_MIN(t->size, req->ch.lmt_data_sz);
    if (r_cookie.iov_len == sizeof(cookie))
        memcpy(&cookie, r_cookie.iov_base, sizeof(cookie));
    VC_IVSHMEM(vc)->takes_single_copy = cookie.what == IVSHMEM_COOKIE_BUFFER;
    if (cookie.what == IVSHMEM_COOKIE_NOTHING || size <= 0) { /* the receive takes no data */
        mpi_errno = forget_transfer(t);
        MPIR_ERR_CHECK(mpi_errno);
        goto fn_exit;
    }
    withdraw_offer(t);
    t->size = size;
    const char *why = use_cookie(t, &cookie, ivshm_channel_peer(VC_IVSHMEM(vc)->channel), &diag);
    if (why) {
        MPID_nem_ivshmem_vc_mark_failed(vc, why);
        goto fn_exit;
    }
    activate_transfer(t);
    mpi_errno = advance_or_mark_failed(t);
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

static int handle_cookie(MPIDI_VC_t *vc ATTRIBUTE((unused)), MPIR_Request *req ATTRIBUTE((unused)),
                         struct iovec cookie ATTRIBUTE((unused)))
{
    return MPI_SUCCESS;
}

static int refuse_done(MPIDI_VC_t *vc)
{
    MPID_nem_ivshmem_vc_mark_failed(vc, "sent DONE for a transfer that does not wait for it");
    return MPI_SUCCESS;
}

/* Sender: the receiver has copied, or needs no more of what the RTS offered. */
static int done_send(MPIDI_VC_t *vc, MPIR_Request *req)
{
    MPID_nem_ivshmem_transfer_t *t = REQ_TRANSFER(req);

    if (t->cookie.what == IVSHMEM_COOKIE_NOTHING)
        return refuse_done(vc);
    withdraw_offer(t);
    return end_sent(t);
}

/* Receiver: the sender has filled our buffer. */
static int done_recv(MPIDI_VC_t *vc, MPIR_Request *req)
{
    MPID_nem_ivshmem_transfer_t *t = REQ_TRANSFER(req);

    if (!t->active || t->state != IVSHMEM_AWAIT_PEER)
        return refuse_done(vc);
    return end_received(t);
}

void MPID_nem_ivshmem_lmt_vc_init(MPIDI_VC_t *vc)
{
    MPID_nem_ivshmem_limit_set(vc);
    vc->ch.lmt_initiate_lmt = initiate_lmt;
    vc->ch.lmt_start_recv = start_recv;
    vc->ch.lmt_start_send = start_send;
    vc->ch.lmt_handle_cookie = handle_cookie;
    vc->ch.lmt_done_send = done_send;
    vc->ch.lmt_done_recv = done_recv;
    vc->ch.lmt_vc_terminated = NULL;
    vc->ch.lmt_rts_queue.head = NULL;
    vc->ch.lmt_rts_queue.tail = NULL;
}
