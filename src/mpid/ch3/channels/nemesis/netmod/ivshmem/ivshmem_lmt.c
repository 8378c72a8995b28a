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
 * Each progress call copies as much as it can, and returns. Called by CH3 through the hooks and by
 * the progress call, under MPICH's global lock.
 */
#include "ivshmem_netmod.h"

#define COOP_BYTES_MIN (12 << 10)

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

static MPID_nem_ivshmem_transfer_t *new_transfer(MPIDI_VC_t *vc, MPIR_Request *req, int state)
{
    MPID_nem_ivshmem_transfer_t *t = REQ_TRANSFER(req);
    memset(t, 0, sizeof(*t));
    t->req = req;
    t->vc = vc;
    t->state = state;
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

/* From now on one side accesses the other's memory. */
static void activate_transfer(MPID_nem_ivshmem_transfer_t *t, int state, intptr_t size)
{
    t->state = state;
    t->size = size;
    t->active = true;
    VC_IVSHMEM(t->vc)->transfers++;
}

/*
 * The transfer has ended: unlinks it and completes its request. Its pipeline returns to the pool
 * unless it is in quarantine.
 */
static int finish_transfer(MPID_nem_ivshmem_transfer_t *t, bool pipeline_is_free)
{
    MPIR_Request *req = t->req, *entry;

    VC_IVSHMEM(t->vc)->transfers -= t->active;
    MPID_nem_ivshmem.sender_pipelines -= t->own_pipeline && t->state == IVSHMEM_SENDING;
    if (t->own_pipeline && pipeline_is_free)
        MPID_nem_ivshmem_lmt_pool_free_pipeline(&t->pipeline);
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
    return finish_transfer(t, true);
}

static int end_received(MPID_nem_ivshmem_transfer_t *t)
{
    MPID_nem_ivshmem.stats.lmt_received++;
    MPID_nem_ivshmem.stats.lmt_received_bytes += t->counted;
    VC_IVSHMEM(t->vc)->received_bytes += t->counted;
    return finish_transfer(t, true);
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

/* Receiver: all chunks are empty. */
static int end_pipeline(MPID_nem_ivshmem_transfer_t *t)
{
    int mpi_errno = MPI_SUCCESS;

    if (t->is_part) {
        mpi_errno = send_done(t);
        MPIR_ERR_CHECK(mpi_errno);
    }
    mpi_errno = end_received(t);
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* This side has copied everything, in a single copy. */
static int end_direct(MPID_nem_ivshmem_transfer_t *t, int (*end)(MPID_nem_ivshmem_transfer_t *))
{
    int mpi_errno = MPI_SUCCESS;

    MPID_nem_ivshmem.stats.single_copy++;
    mpi_errno = send_done(t);
    MPIR_ERR_CHECK(mpi_errno);
    mpi_errno = end(t);
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Receiver: both sides have copied all pieces. */
static int end_coop(MPID_nem_ivshmem_transfer_t *t)
{
    MPID_nem_ivshmem_lmt_pool_free_coop(ivshm_coop_word(&t->coop));
    return end_direct(t, end_received);
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

static void set_pipeline_cookie(MPID_nem_ivshmem_transfer_t *t)
{
    t->own_pipeline = true;
    t->cookie = (MPID_nem_ivshmem_cookie_t){.what = IVSHMEM_COOKIE_PIPELINE,
                                            .first = ivshm_pipeline_next(&t->pipeline),
                                            .off = ivshm_pipeline_offset(&t->pipeline),
                                            .bytes = (uint64_t) t->size};
}

/* Receiver: allocates a pipeline for the sender, if there is one, and tells the sender. */
static int start_pipeline_receive(MPID_nem_ivshmem_transfer_t *t)
{
    if (!MPID_nem_ivshmem_lmt_pool_alloc_pipeline(&t->pipeline, 0))
        return MPI_SUCCESS;
    activate_transfer(t, IVSHMEM_RECEIVING, t->req->ch.lmt_data_sz);
    set_pipeline_cookie(t);
    return send_cts(t);
}

/* CH3 has cancelled the send: the receiver no longer knows of it. */
static int forget_transfer(MPID_nem_ivshmem_transfer_t *t)
{
    if (t->own_pipeline)
        ivshm_pipeline_reset(&t->pipeline);
    return finish_transfer(t, true);
}

static int advance_transfer(MPID_nem_ivshmem_transfer_t *t, const char **why)
{
    switch (t->state) {
    case IVSHMEM_SENDING:
        if (t->own_pipeline && MPIR_Request_is_complete(t->req))
            return forget_transfer(t);
        return MPID_nem_ivshmem_pipeline_send(t) ? end_sent(t) : MPI_SUCCESS;
    case IVSHMEM_RECEIVING:
        return MPID_nem_ivshmem_pipeline_receive(t, why) ? end_pipeline(t) : MPI_SUCCESS;
    case IVSHMEM_WRITING:
        return MPID_nem_ivshmem_copy_write(t) ? end_direct(t, end_sent) : MPI_SUCCESS;
    case IVSHMEM_READING:
        return MPID_nem_ivshmem_copy_read(t, why) ? end_direct(t, end_received) : MPI_SUCCESS;
    case IVSHMEM_COOP_RECEIVING:
        return MPID_nem_ivshmem_copy_coop_receive(t, why) ? end_coop(t) : MPI_SUCCESS;
    case IVSHMEM_COOP_SENDING:
        if (MPID_nem_ivshmem_copy_coop_send(t, why))
            t->state = IVSHMEM_AWAIT_CTS; /* waits for the receiver's DONE */
        return MPI_SUCCESS;
    case IVSHMEM_AWAIT_PIPELINE:
        return start_pipeline_receive(t);
    case IVSHMEM_AWAIT_CTS:
        return MPIR_Request_is_complete(t->req) ? forget_transfer(t) : MPI_SUCCESS;
    case IVSHMEM_AWAIT_DONE:
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
        if (unlikely(VC_IVSHMEM(t->vc)->failed))
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
        if (!is_gone && (t->state == IVSHMEM_AWAIT_DONE || t->state == IVSHMEM_COOP_RECEIVING))
            MPID_nem_ivshmem_memory_quarantine(t->contig);
        /*
         * Memory that the peer may still write is used for no other transfer until the peer has
         * gone.
         */
        if (t->state == IVSHMEM_COOP_RECEIVING)
            MPID_nem_ivshmem_lmt_pool_quarantine(VC_IVSHMEM(vc)->peer, ivshm_coop_word(&t->coop),
                                                 NULL);
        else if (t->own_pipeline)
            MPID_nem_ivshmem_lmt_pool_quarantine(VC_IVSHMEM(vc)->peer, NULL, &t->pipeline);
        t->req->status.MPI_ERROR = req_errno;
        mpi_errno = finish_transfer(t, false);
        MPIR_ERR_CHECK(mpi_errno);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Puts our buffer into the cookie, if it is memory of the region. */
static bool set_buffer_cookie(MPID_nem_ivshmem_transfer_t *t)
{
    intptr_t size = t->req->ch.lmt_data_sz;

    if (!t->contig || !MPID_nem_ivshmem_memory_find(t->contig, size, &t->cookie.off))
        return false;
    t->cookie.what = IVSHMEM_COOKIE_BUFFER;
    t->cookie.bytes = (uint64_t) size;
    return true;
}

/*
 * Sender: begins a large message. The RTS is sent before the pipeline is filled, so that the
 * receiver can start early. Nothing completes before CH3 has entered the request into its lists.
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
    t = new_transfer(vc, req, IVSHMEM_AWAIT_CTS);
    t->size = t->counted = req->ch.lmt_data_sz = find_buffer(t);
    t->cookie.bytes = (uint64_t) t->size;
    if (!set_buffer_cookie(t) && !VC_IVSHMEM(vc)->takes_direct &&
        MPID_nem_ivshmem.sender_pipelines < IVSHMEM_SENDER_PIPELINES_MAX &&
        MPID_nem_ivshmem_lmt_pool_alloc_pipeline(&t->pipeline, 1)) {
        MPID_nem_ivshmem.sender_pipelines++;
        set_pipeline_cookie(t);
    }
    IVSHM_TRACEPOINT(rts);
    MPID_nem_lmt_send_RTS(vc, rts_pkt, &t->cookie, sizeof(t->cookie));
    IVSHM_TRACEPOINT(rts_sent);
    if (t->own_pipeline) {
        t->state = IVSHMEM_SENDING;
        MPID_nem_ivshmem_pipeline_fill(t);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    if (t) {
        if (t->own_pipeline) {
            MPID_nem_ivshmem.sender_pipelines--;
            MPID_nem_ivshmem_lmt_pool_free_pipeline(&t->pipeline);
        }
        unlink_transfer(t);
    }
    goto fn_exit;
}

/*
 * Begins the transfer that the peer's cookie describes, in the direction of our request. Returns
 * NULL, or what is wrong with the cookie.
 */
static const char *use_cookie(MPID_nem_ivshmem_transfer_t *t,
                              const MPID_nem_ivshmem_cookie_t *cookie, intptr_t size,
                              struct ivshm_owner peer, struct ivshm_diag *diag)
{
    struct ivshm_region *region = &MPID_nem_ivshmem.region;
    bool sends = t->state == IVSHMEM_AWAIT_CTS || t->state == IVSHMEM_SENDING;

    switch (cookie->what) {
    case IVSHMEM_COOKIE_PIPELINE:
        if (ivshm_pipeline_attach(region, peer, cookie->off, cookie->first, &t->pipeline, diag) !=
            0)
            return diag->text;
        activate_transfer(t, sends ? IVSHMEM_SENDING : IVSHMEM_RECEIVING, size);
        return NULL;
    case IVSHMEM_COOKIE_BUFFER:
        if (!ivshm_extent_covers(region, peer, IVSHM_KIND_USER, cookie->off, (uint64_t) size))
            return "sent a cookie for a buffer that it does not own";
        t->peer_buffer = ivshm_region_address(region, cookie->off);
        activate_transfer(t, sends ? IVSHMEM_WRITING : IVSHMEM_READING, size);
        return NULL;
    case IVSHMEM_COOKIE_COOP:
        if (!sends || t->cookie.what != IVSHMEM_COOKIE_BUFFER || cookie->bytes != (uint64_t) size)
            return "asked for a cooperative copy that does not fit the transfer";
        if (ivshm_coop_attach(region, peer, cookie->coop, cookie->first, (uint64_t) size, &t->coop,
                              diag) != 0)
            return diag->text;
        /* checked when it is first used */
        t->peer_buffer = ivshm_region_address(region, cookie->off);
        activate_transfer(t, IVSHMEM_COOP_SENDING, size);
        return NULL;
    default:
        return "sent a cookie of an unknown kind";
    }
}

/*
 * Whether a CTS can be sent at once. A CTS that had to wait might be sent after its transfer has
 * ended.
 */
static bool can_send_cts(MPIDI_VC_t *vc)
{
    const MPID_nem_ivshmem_vc_t *area = VC_IVSHMEM(vc);
    return area->stream == 0 && !area->sendq.head &&
           ivshm_channel_slot(area->channel,
                              sizeof(MPIDI_CH3_Pkt_t) + sizeof(MPID_nem_ivshmem_cookie_t));
}

/*
 * Receiver: asks the sender, whose buffer it reads, to copy a part, if that is worth it. If other
 * transfers are under way, both processors have enough to do, each with data that it will use
 * itself.
 */
static int start_coop_receive(MPID_nem_ivshmem_transfer_t *t)
{
    struct ivshm_coop_shm *word = NULL;

    if (t->state != IVSHMEM_READING || t->size < COOP_BYTES_MIN || t->next || t->prev ||
        !can_send_cts(t->vc) || !set_buffer_cookie(t) ||
        !(word = MPID_nem_ivshmem_lmt_pool_alloc_coop()))
        return MPI_SUCCESS;
    ivshm_coop_begin(word, (uint64_t) t->size, &t->coop);
    t->taken = 0;
    t->state = IVSHMEM_COOP_RECEIVING;
    t->cookie.what = IVSHMEM_COOKIE_COOP;
    t->cookie.first = ivshm_coop_number(&t->coop);
    t->cookie.coop = MPID_nem_ivshmem_offset_of(word);
    return send_cts(t);
}

/*
 * Receiver: whether to use our buffer rather than the sender's pipeline, out of which we would have
 * to copy as well.
 */
static bool prefer_buffer(MPID_nem_ivshmem_transfer_t *t, const MPID_nem_ivshmem_cookie_t *cookie,
                          struct ivshm_owner peer)
{
    struct ivshm_pipeline pipeline;

    if (cookie->what != IVSHMEM_COOKIE_PIPELINE || !set_buffer_cookie(t))
        return false;
    if (ivshm_pipeline_attach(&MPID_nem_ivshmem.region, peer, cookie->off, cookie->first, &pipeline,
                              NULL) == 0 &&
        ivshm_pipeline_waiting(&pipeline) < cookie->bytes)
        return true;
    /* The whole message is in the pipeline already. */
    t->cookie.what = IVSHMEM_COOKIE_NOTHING;
    return false;
}

/* Receiver: begins with what the sender's cookie names. False if it names nothing that we use. */
static bool accept_cookie(MPID_nem_ivshmem_transfer_t *t, struct iovec s_cookie, const char **why,
                          struct ivshm_diag *diag)
{
    struct ivshm_channel *channel = VC_IVSHMEM(t->vc)->channel; /* NULL after a failure */
    MPID_nem_ivshmem_cookie_t cookie = {0};
    intptr_t size = t->req->ch.lmt_data_sz;

    if (channel && s_cookie.iov_len == sizeof(cookie))
        memcpy(&cookie, s_cookie.iov_base, sizeof(cookie));
    t->counted = (intptr_t) cookie.bytes;
    if (cookie.what == IVSHMEM_COOKIE_NOTHING ||
        prefer_buffer(t, &cookie, ivshm_channel_peer(channel)))
        return false;
    t->is_part = cookie.what == IVSHMEM_COOKIE_PIPELINE && cookie.bytes > (uint64_t) size;
    *why = use_cookie(t, &cookie, size, ivshm_channel_peer(channel), diag);
    return true;
}

/* Receiver: a large message has matched a receive. */
static int start_recv(MPIDI_VC_t *vc, MPIR_Request *req, struct iovec s_cookie)
{
    int mpi_errno = MPI_SUCCESS;
    struct ivshm_diag diag;
    const char *why = NULL;

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

    MPID_nem_ivshmem_transfer_t *t = new_transfer(vc, req, IVSHMEM_AWAIT_PIPELINE);
    find_buffer(t);
    if (accept_cookie(t, s_cookie, &why, &diag)) {
        if (why) {
            MPID_nem_ivshmem_vc_mark_failed(vc, why);
            goto fn_exit;
        }
        mpi_errno = start_coop_receive(t);
        MPIR_ERR_CHECK(mpi_errno);
        mpi_errno = advance_or_mark_failed(t);
        MPIR_ERR_CHECK(mpi_errno);
    } else if (set_buffer_cookie(t)) {
        activate_transfer(t, IVSHMEM_AWAIT_DONE, req->ch.lmt_data_sz);
        mpi_errno = send_cts(t);
        MPIR_ERR_CHECK(mpi_errno);
    } else {
        mpi_errno = start_pipeline_receive(t);
        MPIR_ERR_CHECK(mpi_errno);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Sender: the receiver does not use our pipeline. */
static void withdraw_pipeline(MPID_nem_ivshmem_transfer_t *t)
{
    ivshm_pipeline_reset(&t->pipeline);
    MPID_nem_ivshmem_lmt_pool_free_pipeline(&t->pipeline);
    t->own_pipeline = false;
    t->moved = 0;
    MPID_nem_ivshmem.sender_pipelines--;
}

/* Sender: the receiver has answered with a cookie of its own, or takes no data. */
static int start_send(MPIDI_VC_t *vc, MPIR_Request *req, struct iovec r_cookie)
{
    int mpi_errno = MPI_SUCCESS;
    MPID_nem_ivshmem_transfer_t *t = REQ_TRANSFER(req);
    MPID_nem_ivshmem_cookie_t cookie = {0};
    struct ivshm_diag diag;
    const char *why = NULL;

    intptr_t size = MPL_MIN(t->size, req->ch.lmt_data_sz);
    if (r_cookie.iov_len == sizeof(cookie))
        memcpy(&cookie, r_cookie.iov_base, sizeof(cookie));
    VC_IVSHMEM(vc)->takes_direct = cookie.what == IVSHMEM_COOKIE_BUFFER;
    if (cookie.what == IVSHMEM_COOKIE_NOTHING || size <= 0) { /* the receive takes no data */
        mpi_errno = forget_transfer(t);
        MPIR_ERR_CHECK(mpi_errno);
        goto fn_exit;
    }
    if (t->cookie.what != IVSHMEM_COOKIE_NOTHING && cookie.what != IVSHMEM_COOKIE_COOP &&
        (t->cookie.what != IVSHMEM_COOKIE_PIPELINE || cookie.what != IVSHMEM_COOKIE_BUFFER))
        why = "answered a cookie with one that cannot replace it";
    if (t->own_pipeline)
        withdraw_pipeline(t);
    if (!why)
        why = use_cookie(t, &cookie, size, ivshm_channel_peer(VC_IVSHMEM(vc)->channel), &diag);
    if (why) {
        MPID_nem_ivshmem_vc_mark_failed(vc, why);
        goto fn_exit;
    }
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

/* Sender: the receiver has copied our buffer, or needs no more of our pipeline. */
static int done_send(MPIDI_VC_t *vc, MPIR_Request *req)
{
    MPID_nem_ivshmem_transfer_t *t = REQ_TRANSFER(req);

    if (t->cookie.what == IVSHMEM_COOKIE_NOTHING)
        return refuse_done(vc);
    if (t->own_pipeline)
        ivshm_pipeline_reset(&t->pipeline);
    return end_sent(t);
}

/* Receiver: the sender has filled our buffer. */
static int done_recv(MPIDI_VC_t *vc, MPIR_Request *req)
{
    MPID_nem_ivshmem_transfer_t *t = REQ_TRANSFER(req);

    if (t->state != IVSHMEM_AWAIT_DONE)
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
