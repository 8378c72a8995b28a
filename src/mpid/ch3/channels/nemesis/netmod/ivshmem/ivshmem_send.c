/* SPDX-License-Identifier: mpich2 */
/*
 * Sends CH3's packets in messages of core/channel.h. Header and data are gathered into as many
 * messages as can be reserved now. What finds no room waits in the connection's send queue, as a
 * request whose iov describes the rest.
 *
 * A packet begins in a message of its own and may continue in further ones. To the receiver, the
 * messages of a connection are a stream of bytes.
 *
 * Called by CH3 through the connection's functions, and by the progress call, under MPICH's global
 * lock.
 */
#include "ivshmem_send.h"

#include "ivshmem_vc.h"
#include "ivshmem_packet.h"
#include "ivshmem_outstanding.h"

static inline void count_message(MPIDI_VC_t *vc, size_t len)
{
    MPID_nem_ivshmem.stats.messages_sent++;
    MPID_nem_ivshmem.stats.eager_sent_bytes += len;
    VC_PAIR(vc)->sent_bytes += len;
}

static inline ATTRIBUTE((always_inline)) void publish_message(MPIDI_VC_t *vc,
                                                              const struct ivshm_outgoing *out,
                                                              size_t len)
{
    ivshm_message_publish(&MPID_nem_ivshmem.transport, VC_IVSHMEM(vc)->channel, out,
                          (uint32_t) len);
    count_message(vc, len);
}

/*
 * A caller at a port that is not accepted yet may hold on to our cells, so it gets at most half of
 * them.
 */
static inline bool must_leave_cells(const MPID_nem_ivshmem_vc_t *area)
{
    return area->stream && !area->met &&
           ivshm_transport_is_half_in_flight(&MPID_nem_ivshmem.transport);
}

/*
 * Sends from the front of iov in as many pieces as can be reserved now, a message each. Returns how
 * many of the `total` bytes were sent, or dropped. `begins`: nothing of the packet is sent yet.
 */
static size_t send_pieces(MPIDI_VC_t *vc, const struct iovec *iov, size_t total, bool begins)
{
    MPID_nem_ivshmem_vc_t *area = VC_IVSHMEM(vc);
    struct ivshm_transport *transport = &MPID_nem_ivshmem.transport;
    size_t sent = 0, offset = 0;

    /*
     * The connection is about to fail: nothing sent to it is waited for. But the other side of a
     * call may wait for what CH3 says at its end, which is sent if there is room.
     */
    if (unlikely(area->failure && area->stream == 0))
        return total;
    while (sent < total) {
        struct ivshm_outgoing out;
        if (unlikely(must_leave_cells(area)) ||
            (begins
                 ? ivshm_message_reserve(transport, area->channel, total - sent, area->stream, &out)
                 : ivshm_message_reserve_rest(transport, area->channel, total - sent, area->stream,
                                              &out)) != 0) {
            if (unlikely(area->failure))
                return total;
            MPID_nem_ivshmem.stats.waits++;
            break;
        }
        size_t room = MPL_MIN(out.capacity, total - sent);
        for (size_t filled = 0; filled < room;) {
            size_t len = MPL_MIN(iov->iov_len - offset, room - filled);
            ivshm_message_write(&out, filled, (char *) iov->iov_base + offset, len);
            filled += len;
            offset += len;
            if (offset == iov->iov_len) {
                iov++;
                offset = 0;
            }
        }
        publish_message(vc, &out, room);
        MPID_nem_ivshmem.stats.eager_sent += begins;
        begins = false;
        sent += room;
    }
    return sent;
}

static inline size_t header_bytes(const void *hdr)
{
    return MPID_nem_ivshmem_header_bytes((int) ((const MPIDI_CH3_Pkt_t *) hdr)->type);
}

/* Plain packets need no answer. Adding a request twice is the same as adding it once. */
static inline int add_outstanding(MPIDI_VC_t *vc, const MPIDI_CH3_Pkt_t *pkt)
{
    return likely(MPID_nem_ivshmem_packet_is_plain((int) pkt->type))
               ? MPI_SUCCESS
               : MPID_nem_ivshmem_outstanding_add(vc, pkt);
}

/* The usual case: header and data go in one piece, now. False if they cannot. */
static inline ATTRIBUTE((always_inline)) bool send_whole(MPIDI_VC_t *vc, const void *hdr,
                                                         const void *data, intptr_t data_sz)
{
    MPID_nem_ivshmem_vc_t *area = VC_IVSHMEM(vc);
    struct ivshm_transport *transport = &MPID_nem_ivshmem.transport;
    size_t header = header_bytes(hdr), total = header + data_sz;
    struct ivshm_outgoing out;

    if (unlikely(area->sendq.head || area->stream != 0 ||
                 add_outstanding(vc, hdr) != MPI_SUCCESS) ||
        ivshm_message_reserve(transport, area->channel, total, 0, &out) != 0)
        return false;
    if (unlikely(out.capacity < total)) {
        ivshm_message_discard(transport, &out);
        return false;
    }
    MPID_nem_ivshmem_header_copy(out.payload, hdr, 0, header);
    ivshm_message_write(&out, header, data, (size_t) data_sz);
    publish_message(vc, &out, total);
    MPID_nem_ivshmem.stats.eager_sent++;
    return true;
}

size_t MPID_nem_ivshmem_iov_bytes(const struct iovec *iov, int n)
{
    size_t total = 0;
    for (int i = 0; i < n; i++)
        total += iov[i].iov_len;
    return total;
}

/* Sets the request's iov to what remains of `iov` after `sent` bytes. iov[0] is the header. */
static void save_rest(MPIR_Request *sreq, const struct iovec *iov, int n, size_t sent)
{
    int count = 0;
    for (int i = 0; i < n; i++) {
        if (sent >= iov[i].iov_len) {
            sent -= iov[i].iov_len;
            continue;
        }
        char *base = iov[i].iov_base;
        if (i == 0) { /* the caller's header does not outlive the call */
            MPIR_Memcpy(&sreq->dev.pending_pkt, base, iov[i].iov_len);
            base = (char *) &sreq->dev.pending_pkt;
        }
        sreq->dev.iov[count].iov_base = base + sent;
        sreq->dev.iov[count].iov_len = iov[i].iov_len - sent;
        sent = 0;
        count++;
    }
    sreq->dev.iov_count = count;
    sreq->dev.iov_offset = 0;
}

static void enqueue_request(MPIDI_VC_t *vc, MPIR_Request *sreq)
{
    sreq->ch.vc = vc;
    MPIDI_CH3I_Sendq_enqueue(&VC_IVSHMEM(vc)->sendq, sreq);
    MPID_nem_ivshmem_vc_link_busy(vc);
}

/* The request's iov is sent completely. *complete is false if the request has loaded more. */
static int iov_sent(MPIDI_VC_t *vc, MPIR_Request *sreq, int *complete)
{
    int mpi_errno = MPI_SUCCESS;

    if (sreq->dev.OnDataAvail) {
        *complete = 0;
        mpi_errno = sreq->dev.OnDataAvail(vc, sreq, complete);
        MPIR_ERR_CHECK(mpi_errno);
        if (!*complete)
            sreq->dev.iov_offset = 0;
    } else {
        *complete = 1;
        mpi_errno = MPID_Request_complete(sreq);
        MPIR_ERR_CHECK(mpi_errno);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Continues a queued request. *complete is false if there was no room for all. */
static int continue_request(MPIDI_VC_t *vc, MPIR_Request *sreq, int *complete)
{
    int mpi_errno = MPI_SUCCESS;

    do {
        struct iovec *iov = &sreq->dev.iov[sreq->dev.iov_offset];
        size_t left = MPID_nem_ivshmem_iov_bytes(iov, sreq->dev.iov_count);
        bool begins = iov->iov_base == &sreq->dev.pending_pkt; /* see save_rest */
        size_t sent = send_pieces(vc, iov, left, begins);
        if (sent < left) {
            while (sent >= iov->iov_len) {
                sent -= iov->iov_len;
                iov++;
                sreq->dev.iov_offset++;
                sreq->dev.iov_count--;
            }
            iov->iov_base = (char *) iov->iov_base + sent;
            iov->iov_len -= sent;
            *complete = 0;
            break;
        }
        mpi_errno = iov_sent(vc, sreq, complete);
        MPIR_ERR_CHECK(mpi_errno);
    } while (!*complete);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Sends as much of a new message as possible, or nothing if other messages are queued before it. */
static int begin_message(MPIDI_VC_t *vc, const struct iovec *iov, size_t total, size_t *sent)
{
    int mpi_errno = MPI_SUCCESS;

    *sent = 0;
    /* The call has ended, and nobody waits for an answer. */
    if (unlikely(!VC_IVSHMEM(vc)->channel)) {
        *sent = total;
        goto fn_exit;
    }
    mpi_errno = add_outstanding(vc, iov[0].iov_base);
    MPIR_ERR_CHECK(mpi_errno);
    if (likely(!VC_IVSHMEM(vc)->sendq.head))
        *sent = send_pieces(vc, iov, total, true);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/*
 * A message that goes in pieces, or has to wait: *sreq_ptr is then the request for the rest. A
 * small payload is copied into that request. It may be the cookie of an RTS or CTS, which lives in
 * its transfer's request, and that may complete and be freed before the payload is sent.
 */
static int start_message(MPIDI_VC_t *vc, const struct iovec iov[2], MPIR_Request **sreq_ptr)
{
    int mpi_errno = MPI_SUCCESS;
    size_t sent, total = MPID_nem_ivshmem_iov_bytes(iov, 2);

    mpi_errno = begin_message(vc, iov, total, &sent);
    MPIR_ERR_CHECK(mpi_errno);
    if (sent < total) {
        MPIR_Request *sreq = MPIR_Request_create(MPIR_REQUEST_KIND__SEND);
        MPIR_ERR_CHKANDJUMP(!sreq, mpi_errno, MPI_ERR_OTHER, "**nomemreq");
        MPIR_Object_set_ref(sreq, 2);
        sreq->dev.OnDataAvail = 0;
        struct iovec kept[2] = {iov[0], iov[1]};
        if (iov[1].iov_len <= sizeof(sreq->ch.netmod_area)) {
            kept[1].iov_base = &sreq->ch.netmod_area;
            MPIR_Memcpy(kept[1].iov_base, iov[1].iov_base, iov[1].iov_len);
        }
        save_rest(sreq, kept, 2, sent);
        enqueue_request(vc, sreq);
        *sreq_ptr = sreq;
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

int MPID_nem_ivshmem_iStartContigMsg(MPIDI_VC_t *vc, void *hdr, intptr_t hdr_sz, void *data,
                                     intptr_t data_sz, MPIR_Request **sreq_ptr)
{
    *sreq_ptr = NULL;
    if (likely(send_whole(vc, hdr, data, data_sz)))
        return MPI_SUCCESS;
    struct iovec iov[2] = {{hdr, header_bytes(hdr)}, {data, data_sz}};
    return start_message(vc, iov, sreq_ptr);
}

/*
 * The first part of the request is sent: continues with what the request loads next, and queues the
 * rest.
 */
static int continue_message(MPIDI_VC_t *vc, MPIR_Request *sreq)
{
    int mpi_errno = MPI_SUCCESS;
    int complete;

    mpi_errno = iov_sent(vc, sreq, &complete);
    MPIR_ERR_CHECK(mpi_errno);
    if (likely(complete))
        goto fn_exit;
    mpi_errno = continue_request(vc, sreq, &complete);
    MPIR_ERR_CHECK(mpi_errno);
    if (!complete)
        enqueue_request(vc, sreq);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Sends header and data of a request, and queues the rest. */
static int send_request(MPIDI_VC_t *vc, MPIR_Request *sreq, const struct iovec *iov, int n)
{
    int mpi_errno = MPI_SUCCESS;
    size_t sent, total = MPID_nem_ivshmem_iov_bytes(iov, n);

    mpi_errno = begin_message(vc, iov, total, &sent);
    MPIR_ERR_CHECK(mpi_errno);
    if (sent == total) {
        mpi_errno = continue_message(vc, sreq);
        MPIR_ERR_CHECK(mpi_errno);
    } else {
        save_rest(sreq, iov, n, sent);
        enqueue_request(vc, sreq);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

int MPID_nem_ivshmem_iSendContig(MPIDI_VC_t *vc, MPIR_Request *sreq, void *hdr, intptr_t hdr_sz,
                                 void *data, intptr_t data_sz)
{
    if (likely(send_whole(vc, hdr, data, data_sz)))
        return continue_message(vc, sreq);
    struct iovec iov[2] = {{hdr, header_bytes(hdr)}, {data, data_sz}};
    return send_request(vc, sreq, iov, 2);
}

int MPID_nem_ivshmem_iSendIov(MPIDI_VC_t *vc, MPIR_Request *sreq, void *hdr, intptr_t hdr_sz,
                              struct iovec *iov, int n_iov)
{
    struct iovec all[MPL_IOV_LIMIT];

    MPIR_Assert(n_iov < MPL_IOV_LIMIT);
    all[0] = (struct iovec){hdr, header_bytes(hdr)};
    memcpy(&all[1], iov, n_iov * sizeof(all[0]));
    return send_request(vc, sreq, all, n_iov + 1);
}

int MPID_nem_ivshmem_SendNoncontig(MPIDI_VC_t *vc, MPIR_Request *sreq, void *hdr, intptr_t hdr_sz,
                                   struct iovec *hdr_iov, int n_hdr_iov)
{
    int mpi_errno = MPI_SUCCESS;
    struct iovec iov[MPL_IOV_LIMIT];
    int n_data = MPL_IOV_LIMIT - 1 - n_hdr_iov;

    MPIR_Assert(n_data > 0);
    iov[0] = (struct iovec){hdr, header_bytes(hdr)};
    if (n_hdr_iov > 0)
        memcpy(&iov[1], hdr_iov, n_hdr_iov * sizeof(iov[0]));
    /* The first pieces of the data; OnDataAvail loads the others. */
    mpi_errno = MPIDI_CH3U_Request_load_send_iov(sreq, &iov[1 + n_hdr_iov], &n_data);
    MPIR_ERR_CHKANDJUMP(mpi_errno, mpi_errno, MPI_ERR_OTHER, "**ch3|loadsendiov");
    mpi_errno = send_request(vc, sreq, iov, 1 + n_hdr_iov + n_data);
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

int MPID_nem_ivshmem_send_drain(MPIDI_VC_t *vc)
{
    int mpi_errno = MPI_SUCCESS;
    MPID_nem_ivshmem_vc_t *area = VC_IVSHMEM(vc);
    int complete = 1;

    while (area->sendq.head && complete) {
        MPIR_Request *sreq = area->sendq.head;
        mpi_errno = continue_request(vc, sreq, &complete);
        MPIR_ERR_CHECK(mpi_errno);
        if (complete)
            MPIDI_CH3I_Sendq_dequeue(&area->sendq, &sreq);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

typedef int (*handler_t)(MPIDI_VC_t *vc, MPIR_Request *req, int *complete);

/*
 * The function that CH3 calls when an answer to an operation on a window of ours is sent; NULL if
 * the request is no such answer.
 */
static handler_t answer_sent(const MPIR_Request *sreq)
{
    handler_t sent = sreq->dev.OnDataAvail == MPIDI_CH3_ReqHandler_SendReloadIOV
                         ? sreq->dev.OnFinal
                         : sreq->dev.OnDataAvail;

    return sent == MPIDI_CH3_ReqHandler_GetSendComplete ||
                   sent == MPIDI_CH3_ReqHandler_GaccumSendComplete ||
                   sent == MPIDI_CH3_ReqHandler_FOPSendComplete ||
                   sent == MPIDI_CH3_ReqHandler_CASSendComplete
               ? sent
               : NULL;
}

bool MPID_nem_ivshmem_sendq_answers(MPIDI_VC_t *vc, const MPIR_Win *win)
{
    for (MPIR_Request *sreq = VC_IVSHMEM(vc)->sendq.head; sreq; sreq = sreq->next)
        if (sreq->dev.target_win_handle == win->handle && answer_sent(sreq))
            return true;
    return false;
}

/*
 * The answer to a one-sided operation must go through CH3's own completion: its window counts the
 * answer as under way, and may be locked until it is sent.
 */
int MPID_nem_ivshmem_sendq_fail(MPIDI_VC_t *vc, int req_errno)
{
    int mpi_errno = MPI_SUCCESS, complete;
    MPID_nem_ivshmem_vc_t *area = VC_IVSHMEM(vc);

    while (area->sendq.head) {
        MPIR_Request *sreq = area->sendq.head;
        handler_t sent = answer_sent(sreq);
        sreq->status.MPI_ERROR = req_errno;
        mpi_errno = sent ? sent(vc, sreq, &complete) : MPID_Request_complete(sreq);
        MPIR_ERR_CHECK(mpi_errno);
        MPIDI_CH3I_Sendq_dequeue(&area->sendq, &sreq);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}
