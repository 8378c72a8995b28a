/* SPDX-License-Identifier: mpich2 */
/*
 * Large messages, by Nemesis' LMT hooks. Each side's first packet may carry an offer:
 *
 *   sender                            receiver
 *   RTS, offers a lane of its own     matched: empties chunks
 *   or fills chunks          ====>    at the same time
 *
 *   RTS, offers its buffer   ====>    matched: copies it
 *                            <----    DONE
 *
 *   RTS, offers nothing      ---->    matched: offers a lane, or its buffer
 *                            <----    CTS
 *   fills chunks, or copies  ====>    empties chunks
 *   DONE, if it has copied   ---->
 *
 *   RTS, offers its buffer   ---->    matched: its own is in the region as well, and it is large:
 *                            <----    CTS, asks for help; copies pieces
 *   copies pieces            ====>    has all of them
 *                            <----    DONE
 *
 * A buffer can be offered if it is memory of the region: then there is one copy. Otherwise both
 * sides copy through a lane. The sender's lanes spare a trip, but wait for the receiver; so they
 * are few, and each rank keeps one to lend, so that one receive can always go on. Where all are
 * lent and the region has no memory for another, receives wait their turn. A peer whose last
 * receive went into the region is offered none: it will want that copy alone again.
 *
 * Each turn of the progress engine moves what it can and goes on.
 */
#include "ivshmem_netmod.h"

#define JOINT_BYTES_MIN (12 << 10)

static void link_transfer(MPID_nem_ivshmem_transfer_t *t)
{
    t->prev = NULL;
    t->next = MPID_nem_ivshmem.transfers;
    if (t->next)
        t->next->prev = t;
    MPID_nem_ivshmem.transfers = t;
    /* A request that CH3 cancels is complete before we are told. */
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

/* Sets where the user's data is, and returns how many bytes that are. */
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

/* From now on one side works in the other's memory. */
static void activate(MPID_nem_ivshmem_transfer_t *t, int state, intptr_t size)
{
    t->state = state;
    t->size = size;
    t->active = true;
    VC_IVSHMEM(t->vc)->transfers++;
}

/*
 * The transfer is over: takes it off the list and completes its request. The lane is given back,
 * unless it is lost.
 */
static int finish(MPID_nem_ivshmem_transfer_t *t, bool lane_is_idle)
{
    MPIR_Request *req = t->req, *entry;

    VC_IVSHMEM(t->vc)->transfers -= t->active;
    MPID_nem_ivshmem.lanes_offered -= t->own_lane && t->state == IVSHMEM_SENDING;
    if (t->own_lane && lane_is_idle)
        MPID_nem_ivshmem_lend_lane_back(&t->lane);
    if (MPIR_CVAR_ENABLE_FT) /* what has had no CTS is still on CH3's list */
        MPID_nem_lmt_rtsq_search_remove(&t->vc->ch.lmt_rts_queue, req->handle, &entry);
    int mpi_errno = MPIR_Request_is_complete(req) ? MPI_SUCCESS : MPID_Request_complete(req);
    unlink_transfer(t);
    return mpi_errno;
}

static int end_sent(MPID_nem_ivshmem_transfer_t *t)
{
    MPID_nem_ivshmem.stats.bulk_sent++;
    MPID_nem_ivshmem.stats.bulk_sent_bytes += t->counted;
    VC_PAIR(t->vc)->sent_bytes += t->counted;
    return finish(t, true);
}

static int end_received(MPID_nem_ivshmem_transfer_t *t)
{
    MPID_nem_ivshmem.stats.bulk_received++;
    MPID_nem_ivshmem.stats.bulk_received_bytes += t->counted;
    VC_IVSHMEM(t->vc)->received_bytes += t->counted;
    return finish(t, true);
}

/* Tells the other side that its memory is no longer used. */
static int send_done(MPID_nem_ivshmem_transfer_t *t)
{
    int mpi_errno = MPI_SUCCESS;

    IVSHM_POINT(done);
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

/* All is copied, once, by this side. */
static int end_direct(MPID_nem_ivshmem_transfer_t *t, int (*end)(MPID_nem_ivshmem_transfer_t *))
{
    int mpi_errno = MPI_SUCCESS;

    MPID_nem_ivshmem.stats.direct++;
    mpi_errno = send_done(t);
    MPIR_ERR_CHECK(mpi_errno);
    mpi_errno = end(t);
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Receiver: both have copied all pieces. */
static int end_joint(MPID_nem_ivshmem_transfer_t *t)
{
    MPID_nem_ivshmem_lend_joint_back(ivshm_joint_word(&t->joint));
    return end_direct(t, end_received);
}

/* Receiver: sends our offer, from the transfer, which outlives the call: it may have to wait. */
static int send_cts(MPID_nem_ivshmem_transfer_t *t)
{
    int mpi_errno = MPI_SUCCESS;

    IVSHM_POINT(cts);
    MPID_nem_lmt_send_CTS(t->vc, t->req, &t->offer, sizeof(t->offer));

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

static void offer_lane(MPID_nem_ivshmem_transfer_t *t)
{
    t->own_lane = true;
    t->offer = (MPID_nem_ivshmem_offer_t){.what = IVSHMEM_OFFER_LANE,
                                          .first = ivshm_lane_next(&t->lane),
                                          .off = ivshm_lane_offset(&t->lane),
                                          .bytes = (uint64_t) t->size};
}

/* Lends a lane to the sender, if there is one, and tells it. */
static int lend_lane(MPID_nem_ivshmem_transfer_t *t)
{
    if (!MPID_nem_ivshmem_lend_lane(&t->lane, 0))
        return MPI_SUCCESS;
    activate(t, IVSHMEM_RECEIVING, t->req->ch.lmt_data_sz);
    offer_lane(t);
    return send_cts(t);
}

/* CH3 has cancelled the send: the receiver knows nothing of it any more. */
static int forget(MPID_nem_ivshmem_transfer_t *t)
{
    if (t->own_lane)
        ivshm_lane_reset(&t->lane);
    return finish(t, true);
}

static int advance(MPID_nem_ivshmem_transfer_t *t, const char **why)
{
    switch (t->state) {
    case IVSHMEM_SENDING:
        if (t->own_lane && MPIR_Request_is_complete(t->req))
            return forget(t);
        return MPID_nem_ivshmem_pipeline_send(t) ? end_sent(t) : MPI_SUCCESS;
    case IVSHMEM_RECEIVING:
        return MPID_nem_ivshmem_pipeline_receive(t, why) ? end_pipeline(t) : MPI_SUCCESS;
    case IVSHMEM_WRITING:
        return MPID_nem_ivshmem_copy_write(t) ? end_direct(t, end_sent) : MPI_SUCCESS;
    case IVSHMEM_READING:
        return MPID_nem_ivshmem_copy_read(t, why) ? end_direct(t, end_received) : MPI_SUCCESS;
    case IVSHMEM_SHARING:
        return MPID_nem_ivshmem_copy_read_jointly(t, why) ? end_joint(t) : MPI_SUCCESS;
    case IVSHMEM_HELPING:
        if (MPID_nem_ivshmem_copy_help(t, why))
            t->state = IVSHMEM_AWAIT_CTS; /* for the receiver's DONE */
        return MPI_SUCCESS;
    case IVSHMEM_AWAIT_LANE:
        return lend_lane(t);
    case IVSHMEM_AWAIT_CTS:
        return MPIR_Request_is_complete(t->req) ? forget(t) : MPI_SUCCESS;
    case IVSHMEM_AWAIT_DONE:
        break;
    }
    return MPI_SUCCESS;
}

/* Has the transfer moved on; if the peer has done what it must not, its connection is to fail. */
static int advance_or_give_up(MPID_nem_ivshmem_transfer_t *t)
{
    const char *why = NULL;
    int mpi_errno = advance(t, &why);

    if (unlikely(why))
        MPID_nem_ivshmem_vc_give_up(t->vc, why);
    return mpi_errno;
}

int MPID_nem_ivshmem_lmt_progress(void)
{
    int mpi_errno = MPI_SUCCESS;

    MPID_nem_ivshmem_lend_begin_turn();
    for (MPID_nem_ivshmem_transfer_t *next, *t = MPID_nem_ivshmem.transfers; t; t = next) {
        next = t->next;
        if (unlikely(VC_IVSHMEM(t->vc)->given_up))
            continue;
        mpi_errno = advance_or_give_up(t);
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
        if (!is_gone && (t->state == IVSHMEM_AWAIT_DONE || t->state == IVSHMEM_SHARING))
            MPID_nem_ivshmem_memory_lose(t->contig);
        /* What the peer may still write is used for no other transfer before it is gone. */
        if (t->state == IVSHMEM_SHARING)
            MPID_nem_ivshmem_lend_lose(VC_IVSHMEM(vc)->peer, ivshm_joint_word(&t->joint), NULL);
        else if (t->own_lane)
            MPID_nem_ivshmem_lend_lose(VC_IVSHMEM(vc)->peer, NULL, &t->lane);
        t->req->status.MPI_ERROR = req_errno;
        mpi_errno = finish(t, false);
        MPIR_ERR_CHECK(mpi_errno);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Makes our buffer the offer, if it is memory of the region. */
static bool offer_buffer(MPID_nem_ivshmem_transfer_t *t)
{
    intptr_t size = t->req->ch.lmt_data_sz;

    if (!t->contig || !MPID_nem_ivshmem_memory_find(t->contig, size, &t->offer.off))
        return false;
    t->offer.what = IVSHMEM_OFFER_BUFFER;
    t->offer.bytes = (uint64_t) size;
    return true;
}

/*
 * Sender: a large message begins. The RTS is on its way before the lane is filled; nothing is
 * complete before CH3 has entered the request into its lists.
 */
static int initiate_lmt(MPIDI_VC_t *vc, MPIDI_CH3_Pkt_t *pkt, MPIR_Request *req)
{
    int mpi_errno = MPI_SUCCESS;
    MPID_nem_pkt_lmt_rts_t *rts_pkt = (MPID_nem_pkt_lmt_rts_t *) pkt;
    MPID_nem_ivshmem_transfer_t *t = NULL;

    if (unlikely(!VC_IVSHMEM(vc)->channel)) {
        mpi_errno = MPID_nem_ivshmem_vc_error(vc, "its call is over");
        goto fn_fail;
    }
    t = new_transfer(vc, req, IVSHMEM_AWAIT_CTS);
    t->size = t->counted = req->ch.lmt_data_sz = find_buffer(t);
    t->offer.bytes = (uint64_t) t->size;
    if (!offer_buffer(t) && !VC_IVSHMEM(vc)->takes_direct &&
        MPID_nem_ivshmem.lanes_offered < IVSHMEM_OFFERED_LANES_MAX &&
        MPID_nem_ivshmem_lend_lane(&t->lane, 1)) {
        MPID_nem_ivshmem.lanes_offered++;
        offer_lane(t);
    }
    IVSHM_POINT(rts);
    MPID_nem_lmt_send_RTS(vc, rts_pkt, &t->offer, sizeof(t->offer));
    IVSHM_POINT(rts_sent);
    if (t->own_lane) {
        t->state = IVSHMEM_SENDING;
        MPID_nem_ivshmem_pipeline_fill(t);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    if (t) {
        if (t->own_lane) {
            MPID_nem_ivshmem.lanes_offered--;
            MPID_nem_ivshmem_lend_lane_back(&t->lane);
        }
        unlink_transfer(t);
    }
    goto fn_exit;
}

/* Begins to use what `peer` offers, in the direction of our request; or says why that cannot be. */
static const char *use_offer(MPID_nem_ivshmem_transfer_t *t, const MPID_nem_ivshmem_offer_t *offer,
                             intptr_t size, struct ivshm_owner peer, struct ivshm_diag *diag)
{
    struct ivshm_region *region = &MPID_nem_ivshmem.region;
    bool sends = t->state == IVSHMEM_AWAIT_CTS || t->state == IVSHMEM_SENDING;

    switch (offer->what) {
    case IVSHMEM_OFFER_LANE:
        if (ivshm_lane_attach(region, peer, offer->off, offer->first, &t->lane, diag) != 0)
            return diag->text;
        activate(t, sends ? IVSHMEM_SENDING : IVSHMEM_RECEIVING, size);
        return NULL;
    case IVSHMEM_OFFER_BUFFER:
        if (!ivshm_extent_covers(region, peer, IVSHM_KIND_USER, offer->off, (uint64_t) size))
            return "offers a buffer that is not its own";
        t->direct = ivshm_region_address(region, offer->off);
        activate(t, sends ? IVSHMEM_WRITING : IVSHMEM_READING, size);
        return NULL;
    case IVSHMEM_OFFER_JOINT:
        if (!sends || t->offer.what != IVSHMEM_OFFER_BUFFER || offer->bytes != (uint64_t) size)
            return "asks for help with what it was not offered";
        if (ivshm_joint_attach(region, peer, offer->joint, offer->first, (uint64_t) size, &t->joint,
                               diag) != 0)
            return diag->text;
        t->direct = ivshm_region_address(region, offer->off); /* checked when it is used */
        activate(t, IVSHMEM_HELPING, size);
        return NULL;
    default:
        return "offers what is unknown";
    }
}

/* Whether a CTS does not have to wait. One that did could be sent when its transfer is over. */
static bool can_send_cts(MPIDI_VC_t *vc)
{
    const MPID_nem_ivshmem_vc_t *area = VC_IVSHMEM(vc);
    return area->stream == 0 && !area->sendq.head &&
           ivshm_channel_slot(area->channel,
                              sizeof(MPIDI_CH3_Pkt_t) + sizeof(MPID_nem_ivshmem_offer_t));
}

/*
 * Receiver: asks the sender, whose buffer it reads, to copy a part, if that is worth it. Where more
 * is under way, both processors have enough to do, each with what it will use itself.
 */
static int ask_for_help(MPID_nem_ivshmem_transfer_t *t)
{
    struct ivshm_joint_shm *word = NULL;

    if (t->state != IVSHMEM_READING || t->size < JOINT_BYTES_MIN || t->next || t->prev ||
        !can_send_cts(t->vc) || !offer_buffer(t) || !(word = MPID_nem_ivshmem_lend_joint()))
        return MPI_SUCCESS;
    ivshm_joint_begin(word, (uint64_t) t->size, &t->joint);
    t->taken = 0;
    t->state = IVSHMEM_SHARING;
    t->offer.what = IVSHMEM_OFFER_JOINT;
    t->offer.first = ivshm_joint_number(&t->joint);
    t->offer.joint = MPID_nem_ivshmem_offset_of(word);
    return send_cts(t);
}

/* Receiver: whether our buffer is a better offer than the sender's lane, from which we copy too. */
static bool prefer_buffer(MPID_nem_ivshmem_transfer_t *t, const MPID_nem_ivshmem_offer_t *offer,
                          struct ivshm_owner peer)
{
    struct ivshm_lane lane;

    if (offer->what != IVSHMEM_OFFER_LANE || !offer_buffer(t))
        return false;
    if (ivshm_lane_attach(&MPID_nem_ivshmem.region, peer, offer->off, offer->first, &lane, NULL) ==
            0 &&
        ivshm_lane_waiting(&lane) < offer->bytes)
        return true;
    t->offer.what = IVSHMEM_OFFER_NOTHING; /* the message is there already */
    return false;
}

/* Receiver: goes on with what the sender offers. False if it offers nothing that is of use. */
static bool accept_offer(MPID_nem_ivshmem_transfer_t *t, struct iovec cookie, const char **why,
                         struct ivshm_diag *diag)
{
    struct ivshm_channel *channel = VC_IVSHMEM(t->vc)->channel; /* NULL after a failure */
    MPID_nem_ivshmem_offer_t offer = {0};
    intptr_t size = t->req->ch.lmt_data_sz;

    if (channel && cookie.iov_len == sizeof(offer))
        memcpy(&offer, cookie.iov_base, sizeof(offer));
    t->counted = (intptr_t) offer.bytes;
    if (offer.what == IVSHMEM_OFFER_NOTHING ||
        prefer_buffer(t, &offer, ivshm_channel_peer(channel)))
        return false;
    t->is_part = offer.what == IVSHMEM_OFFER_LANE && offer.bytes > (uint64_t) size;
    *why = use_offer(t, &offer, size, ivshm_channel_peer(channel), diag);
    return true;
}

/* Receiver: a large message has met its receive. */
static int start_recv(MPIDI_VC_t *vc, MPIR_Request *req, struct iovec s_cookie)
{
    int mpi_errno = MPI_SUCCESS;
    struct ivshm_diag diag;
    const char *why = NULL;

    if (vc->state == MPIDI_VC_STATE_MORIBUND) { /* the peer died before this was received */
        req->status.MPI_ERROR =
            MPID_nem_ivshmem_vc_error(vc, "its process died before its message was received");
        mpi_errno = MPID_Request_complete(req);
        goto fn_exit;
    }
    if (req->ch.lmt_data_sz == 0) { /* the receive takes nothing */
        MPID_nem_lmt_send_CTS(vc, req, NULL, 0);
        mpi_errno = MPID_Request_complete(req);
        MPIR_ERR_CHECK(mpi_errno);
        goto fn_exit;
    }

    MPID_nem_ivshmem_transfer_t *t = new_transfer(vc, req, IVSHMEM_AWAIT_LANE);
    find_buffer(t);
    if (accept_offer(t, s_cookie, &why, &diag)) {
        if (why) {
            MPID_nem_ivshmem_vc_give_up(vc, why);
            goto fn_exit;
        }
        mpi_errno = ask_for_help(t);
        MPIR_ERR_CHECK(mpi_errno);
        mpi_errno = advance_or_give_up(t);
        MPIR_ERR_CHECK(mpi_errno);
    } else if (offer_buffer(t)) {
        activate(t, IVSHMEM_AWAIT_DONE, req->ch.lmt_data_sz);
        mpi_errno = send_cts(t);
        MPIR_ERR_CHECK(mpi_errno);
    } else {
        mpi_errno = lend_lane(t);
        MPIR_ERR_CHECK(mpi_errno);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Sender: the receiver does without our lane. */
static void withdraw_lane(MPID_nem_ivshmem_transfer_t *t)
{
    ivshm_lane_reset(&t->lane);
    MPID_nem_ivshmem_lend_lane_back(&t->lane);
    t->own_lane = false;
    t->moved = 0;
    MPID_nem_ivshmem.lanes_offered--;
}

/* Sender: the receiver has an offer of its own, or takes nothing. */
static int start_send(MPIDI_VC_t *vc, MPIR_Request *req, struct iovec r_cookie)
{
    int mpi_errno = MPI_SUCCESS;
    MPID_nem_ivshmem_transfer_t *t = REQ_TRANSFER(req);
    MPID_nem_ivshmem_offer_t offer = {0};
    struct ivshm_diag diag;
    const char *why = NULL;

    intptr_t size = MPL_MIN(t->size, req->ch.lmt_data_sz);
    if (r_cookie.iov_len == sizeof(offer))
        memcpy(&offer, r_cookie.iov_base, sizeof(offer));
    VC_IVSHMEM(vc)->takes_direct = offer.what == IVSHMEM_OFFER_BUFFER;
    if (offer.what == IVSHMEM_OFFER_NOTHING || size <= 0) { /* the receive takes nothing */
        mpi_errno = forget(t);
        MPIR_ERR_CHECK(mpi_errno);
        goto fn_exit;
    }
    if (t->offer.what != IVSHMEM_OFFER_NOTHING && offer.what != IVSHMEM_OFFER_JOINT &&
        (t->offer.what != IVSHMEM_OFFER_LANE || offer.what != IVSHMEM_OFFER_BUFFER))
        why = "answers an offer with another that is no better";
    if (t->own_lane)
        withdraw_lane(t);
    if (!why)
        why = use_offer(t, &offer, size, ivshm_channel_peer(VC_IVSHMEM(vc)->channel), &diag);
    if (why) {
        MPID_nem_ivshmem_vc_give_up(vc, why);
        goto fn_exit;
    }
    mpi_errno = advance_or_give_up(t);
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

static int give_up_done(MPIDI_VC_t *vc)
{
    MPID_nem_ivshmem_vc_give_up(vc, "says that it is done with what it was not offered");
    return MPI_SUCCESS;
}

/* Sender: the receiver has copied our buffer, or wants no more of our lane. */
static int done_send(MPIDI_VC_t *vc, MPIR_Request *req)
{
    MPID_nem_ivshmem_transfer_t *t = REQ_TRANSFER(req);

    if (t->offer.what == IVSHMEM_OFFER_NOTHING)
        return give_up_done(vc);
    if (t->own_lane)
        ivshm_lane_reset(&t->lane);
    return end_sent(t);
}

/* Receiver: the sender has filled our buffer. */
static int done_recv(MPIDI_VC_t *vc, MPIR_Request *req)
{
    MPID_nem_ivshmem_transfer_t *t = REQ_TRANSFER(req);

    if (t->state != IVSHMEM_AWAIT_DONE)
        return give_up_done(vc);
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
