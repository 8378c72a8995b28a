/* SPDX-License-Identifier: mpich2 */
/*
 * Large messages, by Nemesis' LMT hooks:
 *
 *   sender                      receiver
 *   RTS            ---->        matched: lends a lane of its own
 *                  <----        CTS with the lane's offset
 *   fills chunks   ====>        empties chunks, at the same time
 *
 * Each turn of the progress engine moves what it can and goes on. A lane serves one transfer at a
 * time; where all are lent and the region has no memory for another, receives wait their turn. Each
 * rank has a lane from the start, so that one receive can always go on.
 */
#include "ivshmem_netmod.h"

#define IDLE_LANES_MAX 4 /* kept warm; more are given back to the region */

static struct ivshm_lane idle_lanes[IDLE_LANES_MAX];
static int idle_count;

static int keep_lane(struct ivshm_lane *lane)
{
    if (idle_count == IDLE_LANES_MAX)
        return 0;
    lane->next = 0;
    idle_lanes[idle_count++] = *lane;
    return 1;
}

static void give_back_lane(struct ivshm_lane *lane)
{
    if (!keep_lane(lane))
        ivshm_lane_free(&MPID_nem_ivshmem.region, MPID_nem_ivshmem.transport.endpoint.owner, lane);
}

static bool borrow_lane(struct ivshm_lane *lane)
{
    if (idle_count > 0) {
        *lane = idle_lanes[--idle_count];
        return true;
    }
    return ivshm_lane_alloc(&MPID_nem_ivshmem.region, MPID_nem_ivshmem.transport.endpoint.owner,
                            lane) == 0;
}

int MPID_nem_ivshmem_lmt_init(int job_size)
{
    struct ivshm_lane lane;
    struct ivshm_diag diag;

    idle_count = 0;
    if (!borrow_lane(&lane)) {
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

/* Sets where the user's data is, and returns how much that is. */
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

static void activate(MPID_nem_ivshmem_transfer_t *t, int state, intptr_t size)
{
    t->state = state;
    t->size = size;
    VC_IVSHMEM(t->vc)->transfers++;
}

/* The transfer is over: takes it off the list and completes its request. */
static int finish(MPID_nem_ivshmem_transfer_t *t)
{
    MPIR_Request *req = t->req;
    if (t->state == IVSHMEM_SENDING || t->state == IVSHMEM_RECEIVING)
        VC_IVSHMEM(t->vc)->transfers--;
    /* A sender that failed may still write into its lane: that one is not used again. */
    if (t->state == IVSHMEM_RECEIVING && t->moved + t->carry_len == t->size)
        give_back_lane(&t->lane);
    int mpi_errno = MPIR_Request_is_complete(req) ? MPI_SUCCESS : MPID_Request_complete(req);
    unlink_transfer(t);
    return mpi_errno;
}

static int send_chunks(MPID_nem_ivshmem_transfer_t *t)
{
    MPIR_Request *req = t->req;
    unsigned char *chunk;

    while (t->moved < t->size && (chunk = ivshm_lane_reserve_spsc(&t->lane))) {
        MPI_Aint len = MPL_MIN(t->size - t->moved, (intptr_t) t->lane.size);
        if (t->contig)
            MPIR_Memcpy(chunk, t->contig + t->moved, len);
        else
            ivshmem_compat_pack(req->dev.user_buf, req->dev.user_count, req->dev.datatype, t->moved,
                                chunk, len, &len);
        ivshm_lane_publish_spsc(&t->lane, (uint32_t) len);
        t->moved += len;
    }
    if (t->moved < t->size)
        return MPI_SUCCESS;
    MPID_nem_ivshmem.stats.bulk_sent++;
    MPID_nem_ivshmem.stats.bulk_sent_bytes += t->size;
    VC_PAIR(t->vc)->sent_bytes += t->size;
    return finish(t);
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
    const unsigned char *chunk;
    uint32_t len;

    while (t->moved + t->carry_len < t->size && (chunk = ivshm_lane_peek_spsc(&t->lane, &len))) {
        if (len == 0 || (intptr_t) len > t->size - t->moved - (intptr_t) t->carry_len) {
            *why = "sent a chunk of a length that is not possible";
            return MPI_SUCCESS;
        }
        if (t->contig) {
            MPIR_Memcpy(t->contig + t->moved, chunk, len);
            t->moved += len;
        } else if (!unpack_chunk(t, chunk, len)) {
            *why = "sent a chunk that cannot be unpacked";
            return MPI_SUCCESS;
        }
        ivshm_lane_consume_spsc(&t->lane);
    }
    if (t->moved + t->carry_len < t->size)
        return MPI_SUCCESS;
    MPID_nem_ivshmem.stats.bulk_received++;
    MPID_nem_ivshmem.stats.bulk_received_bytes += t->size;
    VC_IVSHMEM(t->vc)->received_bytes += t->size;
    return finish(t);
}

/* Lends a lane to the sender, if there is one, and tells it. */
static int lend_lane(MPID_nem_ivshmem_transfer_t *t)
{
    int mpi_errno = MPI_SUCCESS;
    MPIDI_VC_t *vc = t->vc;
    MPIR_Request *req = t->req;

    if (!borrow_lane(&t->lane))
        goto fn_exit;
    activate(t, IVSHMEM_RECEIVING, req->ch.lmt_data_sz);
    find_buffer(t);
    /* From the transfer, which outlives the call: the packet may have to wait for a cell. */
    MPID_nem_lmt_send_CTS(vc, req, &t->lane.off, sizeof(t->lane.off));

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

static int advance(MPID_nem_ivshmem_transfer_t *t, const char **why)
{
    switch (t->state) {
    case IVSHMEM_SENDING:
        return send_chunks(t);
    case IVSHMEM_RECEIVING:
        return receive_chunks(t, why);
    case IVSHMEM_AWAIT_LANE:
        return lend_lane(t);
    case IVSHMEM_AWAIT_CTS:
        break;
    }
    /* CH3 has cancelled it: no CTS will come. */
    return MPIR_Request_is_complete(t->req) ? finish(t) : MPI_SUCCESS;
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

    for (MPID_nem_ivshmem_transfer_t *next, *t = MPID_nem_ivshmem.transfers; t; t = next) {
        next = t->next;
        if (t->vc != vc)
            continue;
        t->req->status.MPI_ERROR = req_errno;
        mpi_errno = finish(t);
        MPIR_ERR_CHECK(mpi_errno);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Sender: a large message begins. */
static int initiate_lmt(MPIDI_VC_t *vc, MPIDI_CH3_Pkt_t *pkt, MPIR_Request *req)
{
    int mpi_errno = MPI_SUCCESS;
    MPID_nem_pkt_lmt_rts_t *rts_pkt = (MPID_nem_pkt_lmt_rts_t *) pkt;

    MPID_nem_ivshmem_transfer_t *t = new_transfer(vc, req, IVSHMEM_AWAIT_CTS);
    MPID_nem_lmt_send_RTS(vc, rts_pkt, NULL, 0);
    req->ch.lmt_data_sz = find_buffer(t);

fn_exit:
    return mpi_errno;
fn_fail:
    unlink_transfer(t);
    goto fn_exit;
}

/* Receiver: a large message has met its receive. */
static int start_recv(MPIDI_VC_t *vc, MPIR_Request *req, struct iovec s_cookie ATTRIBUTE((unused)))
{
    int mpi_errno = MPI_SUCCESS;

    if (req->ch.lmt_data_sz == 0) { /* the receive takes nothing */
        MPID_nem_lmt_send_CTS(vc, req, NULL, 0);
        mpi_errno = MPID_Request_complete(req);
        MPIR_ERR_CHECK(mpi_errno);
        goto fn_exit;
    }
    mpi_errno = lend_lane(new_transfer(vc, req, IVSHMEM_AWAIT_LANE));
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Sender: the receiver has lent us a lane. */
static int start_send(MPIDI_VC_t *vc, MPIR_Request *req, struct iovec r_cookie)
{
    int mpi_errno = MPI_SUCCESS;
    MPID_nem_ivshmem_transfer_t *t = REQ_TRANSFER(req);
    struct ivshm_diag diag;
    ivshm_off lane;

    intptr_t size = MPL_MIN(find_buffer(t), req->ch.lmt_data_sz);
    if (r_cookie.iov_len < sizeof(lane) || size <= 0) { /* the receive takes nothing */
        mpi_errno = finish(t);
        MPIR_ERR_CHECK(mpi_errno);
        goto fn_exit;
    }
    memcpy(&lane, r_cookie.iov_base, sizeof(lane));
    if (ivshm_lane_attach(&MPID_nem_ivshmem.region, VC_IVSHMEM(vc)->channel->peer, lane, &t->lane,
                          &diag) != 0) {
        mpi_errno = MPID_nem_ivshmem_vc_fail(vc, diag.text);
        MPIR_ERR_CHECK(mpi_errno);
        goto fn_exit;
    }
    activate(t, IVSHMEM_SENDING, size);
    mpi_errno = send_chunks(t);
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

/* The protocol has no DONE: each side knows by itself. */
static int done(MPIDI_VC_t *vc ATTRIBUTE((unused)), MPIR_Request *req ATTRIBUTE((unused)))
{
    return MPI_SUCCESS;
}

/* As long as a message fits into a few cells, one trip beats the three of a rendezvous. */
intptr_t MPID_nem_ivshmem_eager_limit(void)
{
    return MPIR_CVAR_NEMESIS_IVSHMEM_EAGER_LIMIT >= 0
               ? MPIR_CVAR_NEMESIS_IVSHMEM_EAGER_LIMIT
               : 2 * (intptr_t) MPID_nem_ivshmem.region.geo.large_size;
}

void MPID_nem_ivshmem_lmt_vc_init(MPIDI_VC_t *vc)
{
    vc->eager_max_msg_sz = MPID_nem_ivshmem_eager_limit();
    vc->ready_eager_max_msg_sz = vc->eager_max_msg_sz;
    vc->ch.lmt_initiate_lmt = initiate_lmt;
    vc->ch.lmt_start_recv = start_recv;
    vc->ch.lmt_start_send = start_send;
    vc->ch.lmt_handle_cookie = handle_cookie;
    vc->ch.lmt_done_send = done;
    vc->ch.lmt_done_recv = done;
    vc->ch.lmt_vc_terminated = NULL;
    vc->ch.lmt_rts_queue.head = NULL;
    vc->ch.lmt_rts_queue.tail = NULL;
}
