/* SPDX-License-Identifier: mpich2 */
/*
 * What CH3 believes of a packet, and would crash or write anywhere for if it were wrong: checked
 * here, before it sees it. The packet is a private copy. doc/trust.md says what cannot be checked.
 */
#include "ivshmem_netmod.h"

#define FLATTENED_MAX (1 << 20) /* bytes of a datatype's description */

/* A request of ours, in use, by its handle; NULL if there is none. */
static MPIR_Request *find_request(MPI_Request handle)
{
    const MPIR_Object_alloc_t *mem = &MPIR_Request_mem[0];
    MPIR_Request *req = NULL;
    int block = (handle & REQUEST_BLOCK_MASK) >> REQUEST_BLOCK_SHIFT;

    if (HANDLE_GET_MPI_KIND(handle) != MPIR_REQUEST || (handle & REQUEST_POOL_MASK) != 0)
        return NULL;
    if (HANDLE_GET_KIND(handle) == HANDLE_KIND_DIRECT && HANDLE_INDEX(handle) < mem->direct_size)
        req = MPIR_Request_direct + HANDLE_INDEX(handle);
    else if (HANDLE_GET_KIND(handle) == HANDLE_KIND_INDIRECT && block < mem->indirect_size &&
             (handle & REQUEST_OBJECT_MASK) < REQUEST_NUM_INDICES)
        req = (MPIR_Request *) mem->indirect[block] + (handle & REQUEST_OBJECT_MASK);
    return req && req->handle == handle && MPIR_Object_get_ref(req) > 0 ? req : NULL;
}

/* A transfer with that peer, by its request. */
static const MPID_nem_ivshmem_transfer_t *find_transfer(const MPIDI_VC_t *vc, MPI_Request handle)
{
    for (const MPID_nem_ivshmem_transfer_t *t = MPID_nem_ivshmem.transfers; t; t = t->next)
        if (t->vc == vc && t->req->handle == handle)
            return t;
    return NULL;
}

static MPIR_Win *find_win(MPI_Win handle)
{
    for (MPIR_Win *win = MPIDI_RMA_Win_active_list_head; win; win = win->next)
        if (win->handle == handle)
            return win;
    for (MPIR_Win *win = MPIDI_RMA_Win_inactive_list_head; win; win = win->next)
        if (win->handle == handle)
            return win;
    return NULL;
}

/* Bytes of an element, or -1 if that is no predefined type. */
static MPI_Aint size_of(MPI_Datatype type)
{
    MPI_Aint size;

    if (HANDLE_GET_MPI_KIND(type) != MPIR_DATATYPE || !MPIR_DATATYPE_IS_PREDEFINED(type))
        return -1;
    if (HANDLE_IS_BUILTIN(type) && ((type & 0xff) >= MPIR_DATATYPE_N_BUILTIN ||
                                    MPIR_Datatype_builtin[type & 0xff].handle != type))
        return -1;
    MPIR_Datatype_get_size_macro(type, size);
    return size;
}

static bool is_op(MPI_Op op)
{
    return HANDLE_GET_MPI_KIND(op) == MPIR_OP && HANDLE_IS_BUILTIN(op) &&
           (op & 0xff) < MPIR_OP_N_BUILTIN;
}

/* Whether the memory is of the window. Of a dynamic one only MPI_Win_attach knows. */
static bool is_in_window(const MPIR_Win *win, const void *start, MPI_Aint bytes)
{
    const char *from = start, *base = win->base;

    if (win->create_flavor == MPI_WIN_FLAVOR_DYNAMIC)
        return true;
    return from >= base && bytes <= win->size && from - base <= win->size - bytes;
}

/*
 * An operation on a window of ours. `flattened` is the size of the description that follows, if the
 * type is a derived one; `limit` is what the packet itself holds of the data, or -1.
 */
static const char *doubt_operation(MPI_Win handle, const void *addr, MPI_Aint count,
                                   MPI_Datatype type, int flattened, MPI_Aint limit)
{
    const MPIR_Win *win = find_win(handle);
    MPI_Aint size = size_of(type);

    if (!win)
        return "names a window that is not there";
    if (count < 0)
        return "names a negative count of elements";
    if (size < 0) {
        if (HANDLE_GET_MPI_KIND(type) == MPIR_DATATYPE && !MPIR_DATATYPE_IS_PREDEFINED(type) &&
            limit < 0 && flattened > 0 && flattened <= FLATTENED_MAX && is_in_window(win, addr, 0))
            return NULL;
        return "names a datatype that is not there";
    }
    if (size > 0 && count > MPIR_AINT_MAX / size)
        return "names more elements than there can be";
    if (limit >= 0 && count * size > limit)
        return "names more data than it holds";
    return is_in_window(win, addr, count * size) ? NULL : "names memory outside of its window";
}

enum { ALL, ONE }; /* of the elements that the request tells of */

/* An answer to an operation of ours; `limit` as above. */
static const char *doubt_answer(MPI_Request handle, int target, int elements, MPI_Aint limit)
{
    const MPIR_Request *req = find_request(handle);
    const MPIR_Win *win = req ? find_win(req->dev.source_win_handle) : NULL;

    if (!win || MPIR_Request_is_complete(req))
        return "answers what it was not asked";
    if (target < 0 || target >= win->comm_ptr->local_size)
        return "answers for a rank that is not there";
    MPI_Aint count = elements == ONE ? 1 : req->dev.user_count;
    if (limit >= 0 && size_of(req->dev.datatype) * count > limit)
        return "answers with less than it was asked for";
    return NULL;
}

/* A message of our side about a window of the peer's, whose handle it has. */
static const char *doubt_window(MPI_Win handle, int target)
{
    const MPIR_Win *win = find_win(handle);

    if (!win)
        return "names a window that is not there";
    return target >= 0 && target < win->comm_ptr->local_size ? NULL
                                                             : "names a rank that is not there";
}

/* The rank that says to have sent it must be the peer, where the communicator is known yet. */
static bool is_sender(MPIDI_VC_t *vc, const MPIDI_Message_match *match)
{
    MPIR_Comm *comm = NULL;
    MPIDI_VC_t *sender;
    int rank = match->parts.rank;

    if (rank < 0)
        return false;
    MPIDI_CH3I_Comm_find(match->parts.context_id, &comm);
    if (!comm || comm->context_id != match->parts.context_id ||
        comm->recvcontext_id != match->parts.context_id)
        return true;
    if (rank >= comm->remote_size)
        return false;
    MPIDI_Comm_get_vc(comm, rank, &sender);
    return sender == vc;
}

static const char *doubt_close(const MPIDI_VC_t *vc, bool ack)
{
    bool closing = vc->state == MPIDI_VC_STATE_LOCAL_CLOSE;

    return closing || vc->state == (ack ? MPIDI_VC_STATE_CLOSE_ACKED : MPIDI_VC_STATE_ACTIVE)
               ? NULL
               : "closes what is not open";
}

static const char *doubt_rts(MPIDI_VC_t *vc, const MPID_nem_pkt_lmt_rts_t *rts, size_t len)
{
    if (rts->data_sz < 0)
        return "names a negative length";
    if (rts->cookie_len != sizeof(MPID_nem_ivshmem_offer_t) ||
        len < sizeof(MPID_nem_ivshmem_offer_t))
        return "offers what is unknown";
    return is_sender(vc, &rts->match) ? NULL : "says to be another rank";
}

static const char *doubt_cts(const MPIDI_VC_t *vc, const MPID_nem_pkt_lmt_cts_t *cts, size_t len)
{
    const MPID_nem_ivshmem_transfer_t *t = find_transfer(vc, cts->sender_req_id);

    if (!t || t->active || (t->state != IVSHMEM_AWAIT_CTS && t->state != IVSHMEM_SENDING))
        return "asks for data that it was not offered";
    if (cts->cookie_len != 0 && (cts->cookie_len != sizeof(MPID_nem_ivshmem_offer_t) ||
                                 len < sizeof(MPID_nem_ivshmem_offer_t)))
        return "offers what is unknown";
    return NULL;
}

static const char *doubt_send(MPIDI_VC_t *vc, const MPIDI_CH3_Pkt_send_t *send)
{
    if (send->data_sz < 0)
        return "names a negative length";
    return is_sender(vc, &send->match) ? NULL : "says to be another rank";
}

static const char *doubt_sent(MPI_Request handle)
{
    const MPIR_Request *req = find_request(handle);

    return req && req->kind == MPIR_REQUEST_KIND__SEND && !MPIR_Request_is_complete(req)
               ? NULL
               : "answers what it was not sent";
}

const char *MPID_nem_ivshmem_doubt(MPIDI_VC_t *vc, const MPIDI_CH3_Pkt_t *pkt, size_t len)
{
    const MPI_Aint immediate = sizeof(MPIDI_CH3_RMA_Immed_u);

    switch ((int) pkt->type) {
#ifdef USE_EAGER_SHORT
    case MPIDI_CH3_PKT_EAGERSHORT_SEND:
        return pkt->eagershort_send.data_sz < 0 ||
                       pkt->eagershort_send.data_sz > (intptr_t) sizeof(pkt->eagershort_send.data)
                   ? "names a length that cannot be"
                   : NULL;
#endif
    case MPIDI_CH3_PKT_EAGER_SEND:
    case MPIDI_CH3_PKT_READY_SEND:
        return pkt->eager_send.data_sz < 0 ? "names a negative length" : NULL;
    case MPIDI_CH3_PKT_EAGER_SYNC_SEND:
        return doubt_send(vc, &pkt->eager_sync_send);
    case MPIDI_NEM_PKT_LMT_RTS:
        return doubt_rts(vc, (const MPID_nem_pkt_lmt_rts_t *) pkt, len);
    case MPIDI_NEM_PKT_LMT_CTS:
        return doubt_cts(vc, (const MPID_nem_pkt_lmt_cts_t *) pkt, len);
    case MPIDI_NEM_PKT_LMT_DONE:
        return find_transfer(vc, ((const MPID_nem_pkt_lmt_done_t *) pkt)->req_id)
                   ? NULL
                   : "says that it is done with what it was not offered";
    case MPIDI_CH3_PKT_EAGER_SYNC_ACK:
        return doubt_sent(pkt->eager_sync_ack.sender_req_id);
    case MPIDI_CH3_PKT_CANCEL_SEND_RESP:
        return doubt_sent(pkt->cancel_send_resp.sender_req_id);
    case MPIDI_CH3_PKT_CANCEL_SEND_REQ:
        return is_sender(vc, &pkt->cancel_send_req.match) ? NULL : "says to be another rank";

    case MPIDI_CH3_PKT_PUT:
        return doubt_operation(pkt->put.target_win_handle, pkt->put.addr, pkt->put.count,
                               pkt->put.datatype, pkt->put.info.flattened_type_size, -1);
    case MPIDI_CH3_PKT_PUT_IMMED:
        return doubt_operation(pkt->put.target_win_handle, pkt->put.addr, pkt->put.count,
                               pkt->put.datatype, 0, immediate);
    case MPIDI_CH3_PKT_GET:
        return doubt_operation(pkt->get.target_win_handle, pkt->get.addr, pkt->get.count,
                               pkt->get.datatype, pkt->get.info.flattened_type_size, -1);
    case MPIDI_CH3_PKT_ACCUMULATE:
    case MPIDI_CH3_PKT_ACCUMULATE_IMMED:
        if (!is_op(pkt->accum.op))
            break;
        return doubt_operation(pkt->accum.target_win_handle, pkt->accum.addr, pkt->accum.count,
                               pkt->accum.datatype, pkt->accum.info.flattened_type_size,
                               pkt->type == MPIDI_CH3_PKT_ACCUMULATE_IMMED ? immediate : -1);
    case MPIDI_CH3_PKT_GET_ACCUM:
    case MPIDI_CH3_PKT_GET_ACCUM_IMMED:
        if (!is_op(pkt->get_accum.op))
            break;
        return doubt_operation(pkt->get_accum.target_win_handle, pkt->get_accum.addr,
                               pkt->get_accum.count, pkt->get_accum.datatype,
                               pkt->get_accum.info.flattened_type_size,
                               pkt->type == MPIDI_CH3_PKT_GET_ACCUM_IMMED ? immediate : -1);
    case MPIDI_CH3_PKT_FOP:
    case MPIDI_CH3_PKT_FOP_IMMED:
        if (!is_op(pkt->fop.op))
            break;
        return doubt_operation(pkt->fop.target_win_handle, pkt->fop.addr, 1, pkt->fop.datatype, 0,
                               pkt->type == MPIDI_CH3_PKT_FOP_IMMED ? immediate : -1);
    case MPIDI_CH3_PKT_CAS_IMMED:
        return doubt_operation(pkt->cas.target_win_handle, pkt->cas.addr, 1, pkt->cas.datatype, 0,
                               sizeof(pkt->cas.origin_data));

    case MPIDI_CH3_PKT_GET_RESP:
        return doubt_answer(pkt->get_resp.request_handle, pkt->get_resp.target_rank, ALL, -1);
    case MPIDI_CH3_PKT_GET_RESP_IMMED:
        return doubt_answer(pkt->get_resp.request_handle, pkt->get_resp.target_rank, ALL,
                            immediate);
    case MPIDI_CH3_PKT_GET_ACCUM_RESP:
        return doubt_answer(pkt->get_accum_resp.request_handle, pkt->get_accum_resp.target_rank,
                            ALL, -1);
    case MPIDI_CH3_PKT_GET_ACCUM_RESP_IMMED:
        return doubt_answer(pkt->get_accum_resp.request_handle, pkt->get_accum_resp.target_rank,
                            ALL, immediate);
    case MPIDI_CH3_PKT_FOP_RESP:
        return doubt_answer(pkt->fop_resp.request_handle, pkt->fop_resp.target_rank, ONE, -1);
    case MPIDI_CH3_PKT_FOP_RESP_IMMED:
        return doubt_answer(pkt->fop_resp.request_handle, pkt->fop_resp.target_rank, ONE,
                            immediate);
    case MPIDI_CH3_PKT_CAS_RESP_IMMED:
        return doubt_answer(pkt->cas_resp.request_handle, pkt->cas_resp.target_rank, ONE,
                            sizeof(pkt->cas_resp.info.data));

    case MPIDI_CH3_PKT_LOCK:
        return doubt_window(pkt->lock.target_win_handle, 0);
    case MPIDI_CH3_PKT_UNLOCK:
        return doubt_window(pkt->unlock.target_win_handle, 0);
    case MPIDI_CH3_PKT_FLUSH:
        return doubt_window(pkt->flush.target_win_handle, 0);
    case MPIDI_CH3_PKT_DECR_AT_COUNTER:
        return doubt_window(pkt->decr_at_cnt.target_win_handle, 0);
    case MPIDI_CH3_PKT_ACK:
        return doubt_window(pkt->ack.source_win_handle, pkt->ack.target_rank);
    case MPIDI_CH3_PKT_LOCK_ACK:
        return pkt->lock_ack.source_win_handle != MPI_WIN_NULL
                   ? doubt_window(pkt->lock_ack.source_win_handle, pkt->lock_ack.target_rank)
                   : doubt_answer(pkt->lock_ack.request_handle, pkt->lock_ack.target_rank, ALL, -1);
    case MPIDI_CH3_PKT_LOCK_OP_ACK:
        return pkt->lock_op_ack.source_win_handle != MPI_WIN_NULL
                   ? doubt_window(pkt->lock_op_ack.source_win_handle, pkt->lock_op_ack.target_rank)
                   : doubt_answer(pkt->lock_op_ack.request_handle, pkt->lock_op_ack.target_rank,
                                  ALL, -1);

    case MPIDI_CH3_PKT_CLOSE:
        return doubt_close(vc, pkt->close.ack);
    case MPIDI_CH3_PKT_CONN_ACK:
    case MPIDI_CH3_PKT_ACCEPT_ACK:
        return VC_IVSHMEM(vc)->stream ? NULL : "accepts what was not asked";
    case MPIDI_CH3_PKT_REVOKE:
        return NULL;
    default:
        return "sent a packet of an unknown type";
    }
    return "names an operation that is not there";
}
