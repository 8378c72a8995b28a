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

#define OFFERED_LANES_MAX 4
#define IDLE_LANES_MAX (1 + OFFERED_LANES_MAX) /* kept warm; more are given back to the region */
#define PIECE_BYTES_MIN (4 << 10)
#define TAKEN_BYTES_MAX (8 << 10) /* more lines at once are in the way of what is read */
#define DIRECT_BYTES (256 << 10)  /* copied in one turn */
#define DIRECT_EAGER_LIMIT 12000  /* bytes */
#define JOINT_BYTES_MIN (12 << 10)
#define JOINTS 64 /* at a time */
#define REFUSALS 64

static struct ivshm_lane idle_lanes[IDLE_LANES_MAX];
static int idle_count, offered_count;
static bool prefers_direct; /* copies from and to memory of the region, also of smaller messages */

/*
 * A lane, or the word of a joint copy, in which a peer was at work when we lost sight of it. It may
 * still be: what it had is used again once its claim says that it has left, or is dead.
 */
struct lost {
    struct lost *next;
    struct ivshm_owner peer;
    struct ivshm_joint_shm *joint; /* NULL: a lane */
    struct ivshm_lane lane;
};
static struct lost *lost;

static struct ivshm_joint_shm *joints; /* words for our joint copies, once there was one */
static uint64_t joints_in_use;         /* a bit each; all, if the region had no memory for them */

static void find_lost(void);

/* A word for a joint copy, or NULL: then we copy alone. */
static struct ivshm_joint_shm *borrow_joint(void)
{
    if (unlikely(lost))
        find_lost();
    if (joints_in_use == UINT64_MAX)
        return NULL;
    if (!joints && !(joints = MPID_nem_ivshmem_memory_take(JOINTS * sizeof(*joints)))) {
        joints_in_use = UINT64_MAX;
        return NULL;
    }
    int i = __builtin_ctzll(~joints_in_use);
    joints_in_use |= UINT64_C(1) << i;
    return &joints[i];
}

static void give_back_joint(const struct ivshm_joint_shm *joint)
{
    joints_in_use &= ~(UINT64_C(1) << (joint - joints));
}

static int keep_lane(struct ivshm_lane *lane)
{
    if (idle_count == IDLE_LANES_MAX)
        return 0;
    idle_lanes[idle_count++] = *lane;
    return 1;
}

static void give_back_lane(struct ivshm_lane *lane)
{
    if (!keep_lane(lane))
        ivshm_lane_free(&MPID_nem_ivshmem.region, MPID_nem_ivshmem.transport.endpoint.owner, lane);
}

/* Takes back what belongs to nobody any more. */
static void find_lost(void)
{
    for (struct lost *l, **link = &lost; (l = *link);) {
        if (ivshm_endpoint_is_live(&MPID_nem_ivshmem.region, l->peer)) {
            link = &l->next;
            continue;
        }
        *link = l->next;
        if (l->joint) {
            give_back_joint(l->joint);
        } else {
            ivshm_lane_reset(&l->lane);
            give_back_lane(&l->lane);
        }
        MPL_free(l);
    }
}

static bool allocate_lane(struct ivshm_lane *lane)
{
    return ivshm_lane_alloc(&MPID_nem_ivshmem.region, MPID_nem_ivshmem.transport.endpoint.owner,
                            lane) == 0;
}

/* Leaves `keep` idle ones alone, and in the region what is there for those who join. */
static bool borrow_lane(struct ivshm_lane *lane, int keep)
{
    static unsigned refusals; /* to come before it is asked again, which takes longer */

    if (unlikely(lost))
        find_lost();
    if (idle_count > keep) {
        *lane = idle_lanes[--idle_count];
        return true;
    }
    if (refusals > 0) {
        refusals--;
        return false;
    }
    /* Without what is lost there may be none that comes back. */
    if (!lost &&
        !ivshm_extent_spare(&MPID_nem_ivshmem.region, MPID_nem_ivshmem.region.geo.lane_bytes)) {
        refusals = REFUSALS;
        return false;
    }
    return allocate_lane(lane);
}

int MPID_nem_ivshmem_lmt_init(int job_size)
{
    struct ivshm_lane lane;
    struct ivshm_diag diag;

    idle_count = offered_count = 0;
    lost = NULL;
    joints = NULL;
    joints_in_use = 0;
    if (!allocate_lane(&lane)) {
        ivshm_endpoint_no_memory(&MPID_nem_ivshmem.region, (uint32_t) job_size, &diag);
        return MPID_nem_ivshmem_error(diag.text);
    }
    keep_lane(&lane);
    return MPI_SUCCESS;
}

void MPID_nem_ivshmem_lmt_finalize(void)
{
    /* Leaving the region gives back the memory. */
    idle_count = 0;
    for (struct lost *l; (l = lost);) {
        lost = l->next;
        MPL_free(l);
    }
}

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

/* Nothing of ours that the peer may still write is used for another transfer; see `lost`. */
static void lose(MPID_nem_ivshmem_transfer_t *t)
{
    bool is_joint = t->state == IVSHMEM_SHARING;
    struct lost *l = NULL;

    if (is_joint || t->own_lane)
        l = MPL_malloc(sizeof(*l), MPL_MEM_OTHER);
    if (!l) /* not even once it is dead */
        return;
    l->peer = VC_IVSHMEM(t->vc)->peer;
    l->joint = is_joint ? t->joint.shared : NULL;
    if (!is_joint)
        l->lane = t->lane;
    l->next = lost;
    lost = l;
}

/*
 * The transfer is over: takes it off the list and completes its request. The lane is given back,
 * unless it is lost.
 */
static int finish(MPID_nem_ivshmem_transfer_t *t, bool lane_is_idle)
{
    MPIR_Request *req = t->req, *entry;

    VC_IVSHMEM(t->vc)->transfers -= t->active;
    offered_count -= t->own_lane && t->state == IVSHMEM_SENDING;
    if (t->own_lane && lane_is_idle)
        give_back_lane(&t->lane);
    if (MPIR_CVAR_ENABLE_FT) /* what has had no CTS is still on CH3's list */
        MPID_nem_lmt_rtsq_search_remove(&t->vc->ch.lmt_rts_queue, req->handle, &entry);
    int mpi_errno = MPIR_Request_is_complete(req) ? MPI_SUCCESS : MPID_Request_complete(req);
    unlink_transfer(t);
    return mpi_errno;
}

static int sent(MPID_nem_ivshmem_transfer_t *t)
{
    MPID_nem_ivshmem.stats.bulk_sent++;
    MPID_nem_ivshmem.stats.bulk_sent_bytes += t->counted;
    VC_PAIR(t->vc)->sent_bytes += t->counted;
    return finish(t, true);
}

static int received(MPID_nem_ivshmem_transfer_t *t)
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

/* Up to `max` bytes of the user's, the next ones. */
static void pack(MPID_nem_ivshmem_transfer_t *t, void *to, intptr_t max)
{
    MPIR_Request *req = t->req;
    MPI_Aint len = MPL_MIN(t->size - t->moved, max);
    if (t->contig)
        MPIR_Memcpy(to, t->contig + t->moved, len);
    else
        ivshmem_compat_pack(req->dev.user_buf, req->dev.user_count, req->dev.datatype, t->moved, to,
                            len, &len);
    t->moved += len;
}

static void fill_chunks(MPID_nem_ivshmem_transfer_t *t)
{
    unsigned char *chunk;
    /* Small enough that the receiver soon has something to do, large enough to be worth a trip. */
    intptr_t piece = MPL_MIN(MPL_MAX(t->size / 8, PIECE_BYTES_MIN), (intptr_t) t->lane.size);

    while (t->moved < t->size && (chunk = ivshm_lane_reserve_spsc(&t->lane))) {
        intptr_t before = t->moved;
        if (piece <= TAKEN_BYTES_MAX)
            ivshm_prefetch_write(chunk, MPL_MIN(piece, t->size - t->moved));
        pack(t, chunk, piece);
        ivshm_lane_publish_spsc(&t->lane, (uint32_t) (t->moved - before));
    }
}

static int send_chunks(MPID_nem_ivshmem_transfer_t *t)
{
    fill_chunks(t);
    /* Our own lane is ours again, and the message matched, once it is empty. */
    if (t->moved < t->size || (t->own_lane && !ivshm_lane_is_drained(&t->lane)))
        return MPI_SUCCESS;
    return sent(t);
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

/* One turn's copy into the receiver's buffer. */
static int write_direct(MPID_nem_ivshmem_transfer_t *t)
{
    pack(t, t->direct + t->moved, DIRECT_BYTES);
    IVSHM_POINT(write_direct);
    return t->moved < t->size ? MPI_SUCCESS : end_direct(t, sent);
}

/* One turn's copy out of the sender's buffer. *why is set if that does not fit the receive. */
static int read_direct(MPID_nem_ivshmem_transfer_t *t, const char **why)
{
    MPIR_Request *req = t->req;
    MPI_Aint len = MPL_MIN(t->size - t->moved, DIRECT_BYTES), done = len;

    if (t->contig)
        MPIR_Memcpy(t->contig + t->moved, t->direct + t->moved, len);
    else
        ivshmem_compat_unpack(t->direct + t->moved, len, req->dev.user_buf, req->dev.user_count,
                              req->dev.datatype, t->moved, &done);
    IVSHM_POINT(read_direct);
    /* Only whole elements are unpacked. What is left of the last one is no element. */
    t->moved += t->moved + len == t->size ? len : done;
    if (t->moved == t->size)
        return end_direct(t, received);
    if (done == 0)
        *why = "sent data that cannot be unpacked";
    return MPI_SUCCESS;
}

/* Receiver: copies one piece, and when all are there, ends. */
static int read_jointly(MPID_nem_ivshmem_transfer_t *t, const char **why)
{
    struct ivshm_piece piece;

    if (ivshm_joint_take(&t->joint, &piece)) {
        MPIR_Memcpy(t->contig + piece.first, t->direct + piece.first, piece.bytes);
        t->taken++;
        IVSHM_POINT(read_direct);
    }
    int64_t left = ivshm_joint_left(&t->joint, t->taken);
    if (left < 0)
        *why = "changed what says who copies what";
    if (left != 0)
        return MPI_SUCCESS;
    give_back_joint(t->joint.shared);
    return end_direct(t, received);
}

/*
 * Sender: copies one piece, if there is one. Only then is the receiver's buffer what it said: when
 * the copy is over, that may be anything. After the last one, we wait for the receiver's DONE.
 */
static int help(MPID_nem_ivshmem_transfer_t *t, const char **why)
{
    const struct ivshm_region *region = &MPID_nem_ivshmem.region;
    struct ivshm_piece piece;

    if (!ivshm_joint_take(&t->joint, &piece)) {
        t->state = IVSHMEM_AWAIT_CTS;
        return MPI_SUCCESS;
    }
    if (t->moved == 0 &&
        !ivshm_extent_covers(region, VC_IVSHMEM(t->vc)->channel->peer, IVSHM_KIND_USER,
                             MPID_nem_ivshmem_offset_of(t->direct), (uint64_t) t->size)) {
        *why = "asks for help with a buffer that is not its own";
        return MPI_SUCCESS;
    }
    MPID_nem_ivshmem.stats.joint += t->moved == 0;
    MPIR_Memcpy(t->direct + piece.first, t->contig + piece.first, piece.bytes);
    t->moved += piece.bytes;
    IVSHM_POINT(write_direct);
    ivshm_joint_finish(&t->joint);
    return MPI_SUCCESS;
}

/*
 * Unpacks a chunk into a non-contiguous buffer. Only whole elements are unpacked: the rest of one
 * is carried to the next chunk. False if the carry is not less than an element can have.
 */
static bool unpack_chunk(MPID_nem_ivshmem_transfer_t *t, const unsigned char *chunk, uint32_t len)
{
    MPIR_Request *req = t->req;
    unsigned char *joined = NULL;
    MPI_Aint total = len, done = 0;
    const unsigned char *from = chunk;

    if (t->carry_len > 0) {
        total += t->carry_len;
        joined = MPL_malloc(total, MPL_MEM_BUFFER);
        if (!joined)
            return false;
        memcpy(joined, t->carry, t->carry_len);
        memcpy(joined + t->carry_len, chunk, len);
        from = joined;
    }
    ivshmem_compat_unpack(from, total, req->dev.user_buf, req->dev.user_count, req->dev.datatype,
                          t->moved, &done);
    t->moved += done;
    t->carry_len = (uint32_t) (total - done);
    bool fits = total - done <= (MPI_Aint) sizeof(t->carry);
    if (fits)
        memcpy(t->carry, from + done, t->carry_len);
    MPL_free(joined);
    return fits;
}

/* *why is set if the sender sends nonsense. */
static int receive_chunks(MPID_nem_ivshmem_transfer_t *t, const char **why)
{
    int mpi_errno = MPI_SUCCESS;
    const unsigned char *chunk;
    uint32_t len;

    while (t->moved + t->carry_len < t->size && (chunk = ivshm_lane_peek_spsc(&t->lane, &len))) {
        intptr_t left = t->size - t->moved - (intptr_t) t->carry_len;
        if (t->is_part && left < (intptr_t) len)
            len = (uint32_t) left;
        if (len == 0 || (intptr_t) len > left) {
            *why = "sent a chunk of a length that is not possible";
            goto fn_exit;
        }
        if (t->contig) {
            MPIR_Memcpy(t->contig + t->moved, chunk, len);
            t->moved += len;
        } else if (!unpack_chunk(t, chunk, len)) {
            *why = "sent a chunk that cannot be unpacked";
            goto fn_exit;
        }
        if (t->is_part && t->moved + t->carry_len == t->size)
            break; /* never empty: what ends the send is our DONE, and nothing else */
        ivshm_lane_consume_spsc(&t->lane);
    }
    if (t->moved + t->carry_len < t->size)
        goto fn_exit;
    if (t->is_part) {
        mpi_errno = send_done(t);
        MPIR_ERR_CHECK(mpi_errno);
    }
    mpi_errno = received(t);
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
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
                                          .first = t->lane.next,
                                          .off = t->lane.off,
                                          .bytes = (uint64_t) t->size};
}

/* Lends a lane to the sender, if there is one, and tells it. */
static int lend_lane(MPID_nem_ivshmem_transfer_t *t)
{
    if (!borrow_lane(&t->lane, 0))
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
        return t->own_lane && MPIR_Request_is_complete(t->req) ? forget(t) : send_chunks(t);
    case IVSHMEM_RECEIVING:
        return receive_chunks(t, why);
    case IVSHMEM_WRITING:
        return write_direct(t);
    case IVSHMEM_READING:
        return read_direct(t, why);
    case IVSHMEM_SHARING:
        return read_jointly(t, why);
    case IVSHMEM_HELPING:
        return help(t, why);
    case IVSHMEM_AWAIT_LANE:
        return lend_lane(t);
    case IVSHMEM_AWAIT_CTS:
        return MPIR_Request_is_complete(t->req) ? forget(t) : MPI_SUCCESS;
    case IVSHMEM_AWAIT_DONE:
        break;
    }
    return MPI_SUCCESS;
}

/* `t` ends here, if the peer has done what it must not. */
static int fail_if(MPID_nem_ivshmem_transfer_t *t, const char *why)
{
    return why ? MPID_nem_ivshmem_vc_fail(t->vc, why) : MPI_SUCCESS;
}

int MPID_nem_ivshmem_lmt_progress(void)
{
    int mpi_errno = MPI_SUCCESS;

    for (MPID_nem_ivshmem_transfer_t *next, *t = MPID_nem_ivshmem.transfers; t; t = next) {
        const char *why = NULL;
        next = t->next;
        mpi_errno = advance(t, &why);
        MPIR_ERR_CHECK(mpi_errno);
        if (why) { /* ends other transfers too: the rest waits for the next turn */
            mpi_errno = MPID_nem_ivshmem_vc_fail(t->vc, why);
            MPIR_ERR_CHECK(mpi_errno);
            break;
        }
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
        lose(t);
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

    /* If the peer is dead, that is known before there is anything to undo. */
    if (unlikely(!VC_IVSHMEM(vc)->channel)) {
        mpi_errno = MPID_nem_ivshmem_connect(vc);
        MPIR_ERR_CHECK(mpi_errno);
    }
    t = new_transfer(vc, req, IVSHMEM_AWAIT_CTS);
    t->size = t->counted = req->ch.lmt_data_sz = find_buffer(t);
    t->offer.bytes = (uint64_t) t->size;
    if (!offer_buffer(t) && !VC_IVSHMEM(vc)->takes_direct && offered_count < OFFERED_LANES_MAX &&
        borrow_lane(&t->lane, 1)) {
        offered_count++;
        offer_lane(t);
    }
    IVSHM_POINT(rts);
    MPID_nem_lmt_send_RTS(vc, rts_pkt, &t->offer, sizeof(t->offer));
    IVSHM_POINT(rts_sent);
    if (t->own_lane) {
        t->state = IVSHMEM_SENDING;
        fill_chunks(t);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    if (t) {
        if (t->own_lane) {
            offered_count--;
            give_back_lane(&t->lane);
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
        t->direct = (char *) region->map.base + offer->off.bytes;
        activate(t, sends ? IVSHMEM_WRITING : IVSHMEM_READING, size);
        return NULL;
    case IVSHMEM_OFFER_JOINT:
        if (!sends || t->offer.what != IVSHMEM_OFFER_BUFFER || offer->bytes != (uint64_t) size)
            return "asks for help with what it was not offered";
        if (ivshm_joint_attach(region, peer, offer->joint, offer->first, (uint64_t) size, &t->joint,
                               diag) != 0)
            return diag->text;
        t->direct = (char *) region->map.base + offer->off.bytes; /* checked when it is used */
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
           ivshm_slot_reserve(area->channel,
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
        !can_send_cts(t->vc) || !offer_buffer(t) || !(word = borrow_joint()))
        return MPI_SUCCESS;
    ivshm_joint_begin(word, (uint64_t) t->size, &t->joint);
    t->taken = 0;
    t->state = IVSHMEM_SHARING;
    t->offer.what = IVSHMEM_OFFER_JOINT;
    t->offer.first = t->joint.number;
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
    if (offer.what == IVSHMEM_OFFER_NOTHING || prefer_buffer(t, &offer, channel->peer))
        return false;
    t->is_part = offer.what == IVSHMEM_OFFER_LANE && offer.bytes > (uint64_t) size;
    *why = use_offer(t, &offer, size, channel->peer, diag);
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
        if (!why) {
            mpi_errno = ask_for_help(t);
            MPIR_ERR_CHECK(mpi_errno);
            mpi_errno = advance(t, &why);
        }
        MPIR_ERR_CHECK(mpi_errno);
        mpi_errno = fail_if(t, why);
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
    give_back_lane(&t->lane);
    t->own_lane = false;
    t->moved = 0;
    offered_count--;
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
        why = use_offer(t, &offer, size, VC_IVSHMEM(vc)->channel->peer, &diag);
    if (!why)
        mpi_errno = advance(t, &why);
    MPIR_ERR_CHECK(mpi_errno);
    mpi_errno = fail_if(t, why);
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

/* Sender: the receiver has copied our buffer, or wants no more of our lane. */
static int done_send(MPIDI_VC_t *vc, MPIR_Request *req)
{
    MPID_nem_ivshmem_transfer_t *t = REQ_TRANSFER(req);

    if (t->offer.what == IVSHMEM_OFFER_NOTHING)
        return MPID_nem_ivshmem_vc_fail(vc, "says that it is done with what it was not offered");
    if (t->own_lane)
        ivshm_lane_reset(&t->lane);
    return sent(t);
}

/* Receiver: the sender has filled our buffer. */
static int done_recv(MPIDI_VC_t *vc, MPIR_Request *req)
{
    MPID_nem_ivshmem_transfer_t *t = REQ_TRANSFER(req);

    if (t->state != IVSHMEM_AWAIT_DONE)
        return MPID_nem_ivshmem_vc_fail(vc, "says that it is done with what it was not offered");
    return received(t);
}

/*
 * As long as a message fits into a few cells, one trip beats the three of a rendezvous; where
 * buffers are in the region, one copy beats both.
 */
static intptr_t eager_limit(void)
{
    if (MPIR_CVAR_NEMESIS_IVSHMEM_EAGER_LIMIT >= 0)
        return MPIR_CVAR_NEMESIS_IVSHMEM_EAGER_LIMIT;
    return prefers_direct ? DIRECT_EAGER_LIMIT
                          : 2 * (intptr_t) MPID_nem_ivshmem.region.geo.large_size;
}

void MPID_nem_ivshmem_set_eager_limit(MPIDI_VC_t *vc)
{
    vc->eager_max_msg_sz = eager_limit();
    vc->ready_eager_max_msg_sz = vc->eager_max_msg_sz;
}

/* The program has memory in the region, from or to which it will send. */
void MPID_nem_ivshmem_lmt_prefer_direct(void)
{
    if (prefers_direct)
        return;
    prefers_direct = true;
    for (uint32_t i = 0; i < MPID_nem_ivshmem.region.geo.endpoints; i++)
        if (MPID_nem_ivshmem.vcs[i])
            MPID_nem_ivshmem_set_eager_limit(MPID_nem_ivshmem.vcs[i]);
    for (MPIDI_VC_t *vc = MPID_nem_ivshmem.dynamic; vc; vc = VC_IVSHMEM(vc)->next_dynamic)
        MPID_nem_ivshmem_set_eager_limit(vc);
}

void MPID_nem_ivshmem_lmt_vc_init(MPIDI_VC_t *vc)
{
    MPID_nem_ivshmem_set_eager_limit(vc);
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
