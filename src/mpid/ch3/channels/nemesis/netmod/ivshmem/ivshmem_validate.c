/* SPDX-License-Identifier: mpich2 */
/*
 * Packet validation: decides whether CH3 may see a packet, by the checks that its row in the table
 * of packets names. The packet is a private copy. Data behind the header that CH3 uses to find its
 * way is checked when it has arrived, again in a private copy. Called for each packet that is not
 * plain by ivshmem_poll.c, under MPICH's global lock.
 */
#include "ivshmem_validate.h"

#include "ivshmem_relation.h"
#include "ivshmem_flattened.h"
#include "ivshmem_way.h"
#include "ivshmem_packet.h"
#include "ivshmem_rules.h"
#include "ivshmem_outstanding.h"
#include "ivshmem_vc.h"

#include "mpid_port.h"
#include "mpir_op_util.h"

typedef MPID_nem_ivshmem_rule_t rule_t;
typedef MPID_nem_ivshmem_window_op_t operation_t;

/* How much of an operation's data CH3 processes at once. */
static MPI_Aint unit_bytes(MPI_Aint size, MPI_Aint extent)
{
    return MPIDI_CH3U_SRBuf_size / extent * size;
}

static const char *check_flattened(const operation_t *o)
{
    if (HANDLE_GET_MPI_KIND(o->type) != MPIR_DATATYPE || MPIR_DATATYPE_IS_PREDEFINED(o->type) ||
        o->flattened_bytes < 1)
        return "named a datatype that does not exist";
    if (o->room >= 0 || (o->flags & LOCKS))
        return "named a derived datatype where only a predefined one is allowed";
    return NULL;
}

/* *hold: CH3 must not see the data before all of it is in private memory, or has been discarded. */
static const char *check_memory(const MPIR_Win *win, const operation_t *o, bool *hold)
{
    MPI_Aint extent, size = MPID_nem_ivshmem_packet_type_size(o->type, &extent), total;
    bool streams = o->flags & MPIDI_CH3_PKT_FLAG_RMA_STREAM;

    if (o->flags & ~o->flags_allowed)
        return "sets flags that its packet cannot have";
    /* CH3 would wait here for that window's lock. */
    if (win->ivshmem)
        return "sent an operation on a window that its ranks access by loads and stores";
    if (o->count < 1)
        return "named an impossible count of elements";
    if ((o->flags & LOCKS) && o->writes && o->source == MPI_WIN_NULL)
        return "requested a lock without naming its own window";
    if (size < 0) {
        *hold = true;
        return check_flattened(o);
    }
    if (size < 1 || extent < size)
        return "named a datatype without data";
    if (o->count > BYTES_MAX / extent)
        return "named more elements than there can be";
    total = size * o->count;
    if (o->room >= 0 && total > o->room)
        return "named more data than fits its packet";
    if (streams && total <= unit_bytes(size, extent))
        return "sent in parts an operation that fits into one part";
    *hold = streams || ((o->flags & LOCKS) && extent != size);
    return MPID_nem_ivshmem_relation_opens(win, (intptr_t) o->addr,
                                           (o->count - 1) * extent +
                                               MPID_nem_ivshmem_packet_true_bytes(o->type, extent))
               ? NULL
               : "named memory outside its window";
}

static bool is_predefined_op(MPI_Op op)
{
    return HANDLE_GET_MPI_KIND(op) == MPIR_OP && HANDLE_IS_BUILTIN(op) && (op & 0xff) > 0 &&
           (op & 0xff) < MPIR_OP_N_BUILTIN;
}

static bool is_floating(MPI_Datatype type)
{
    switch (ivshmem_compat_raw_type(type)) {
#undef MPIR_OP_TYPE_MACRO
#define MPIR_OP_TYPE_MACRO(mpi_type_, ...) case (mpi_type_):
        IVSHMEM_COMPAT_FLOATING_POINT
#undef MPIR_OP_TYPE_MACRO
        return true;
    default:
        return false;
    }
}

/*
 * MPICH claims to allow floating point in logical operations, and fails an assertion when it
 * computes them.
 */
static bool op_takes(MPI_Op op, MPI_Datatype type)
{
    bool is_logical = op == MPI_LAND || op == MPI_LOR || op == MPI_LXOR;

    return !(is_logical && is_floating(type)) && ivshmem_compat_op_takes(op, type);
}

static const char *check_operation(const operation_t *o)
{
    if (!is_predefined_op(o->op))
        return "named an operation that does not exist";
    /* What a derived type is made of is known when its flattened datatype has arrived. */
    return MPID_nem_ivshmem_packet_type_size(o->type, NULL) < 0 || op_takes(o->op, o->type)
               ? NULL
               : "names an operation that its datatype does not have";
}

/* One operation may both request and release the lock. */
static const char *check_held(MPIDI_VC_t *vc, MPIR_Win *win, const operation_t *o)
{
    if ((o->flags & LOCKS) && !MPID_nem_ivshmem_relation_requests_lock(vc, win))
        return "requested a lock for which it is waiting already";
    return !(o->flags & MPIDI_CH3_PKT_FLAG_RMA_UNLOCK) ||
                   MPID_nem_ivshmem_relation_releases_lock(vc, win)
               ? NULL
               : "released a lock that it does not hold";
}

/* If an operation has requested the lock, its origin is named in one of two ways. */
static const char *check_lock_flags(const MPIDI_CH3_Pkt_lock_t *lock)
{
    if (!(lock->pkt_flags & LOCKS))
        return "requested a lock that is neither shared nor exclusive";
    return (lock->source_win_handle != MPI_WIN_NULL) != (lock->request_handle != MPI_REQUEST_NULL)
               ? NULL
               : "requested a lock without naming the origin exactly once";
}

/* Our side of a window, as the origin of operations */

typedef struct {
    MPIR_Win *win;
    int rank, flags;
    bool by_request; /* for an operation that reads */
} origin_t;

static MPIR_Win *window_of_request(MPIDI_VC_t *vc, MPI_Request handle)
{
    const MPIR_Request *req = MPID_nem_ivshmem_outstanding_find(vc, handle);
    return req ? MPID_nem_ivshmem_relation_find_window(vc, req->dev.source_win_handle) : NULL;
}

static const char *find_origin(MPIDI_VC_t *vc, const MPIDI_CH3_Pkt_t *pkt, origin_t *o)
{
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Win window = MPI_WIN_NULL;

#define TAKE(pkt_)                                                                                 \
    o->rank = (pkt_).target_rank;                                                                  \
    o->flags = (pkt_).pkt_flags
#define TAKE_ANSWER(pkt_)                                                                          \
    TAKE(pkt_);                                                                                    \
    request = (pkt_).request_handle

    switch ((int) pkt->type) {
    case MPIDI_CH3_PKT_GET_RESP:
    case MPIDI_CH3_PKT_GET_RESP_IMMED:
        TAKE_ANSWER(pkt->get_resp);
        break;
    case MPIDI_CH3_PKT_GET_ACCUM_RESP:
    case MPIDI_CH3_PKT_GET_ACCUM_RESP_IMMED:
        TAKE_ANSWER(pkt->get_accum_resp);
        break;
    case MPIDI_CH3_PKT_FOP_RESP:
    case MPIDI_CH3_PKT_FOP_RESP_IMMED:
        TAKE_ANSWER(pkt->fop_resp);
        break;
    case MPIDI_CH3_PKT_CAS_RESP_IMMED:
        TAKE_ANSWER(pkt->cas_resp);
        break;
    case MPIDI_CH3_PKT_LOCK_ACK:
        TAKE_ANSWER(pkt->lock_ack);
        window = pkt->lock_ack.source_win_handle;
        break;
    case MPIDI_CH3_PKT_LOCK_OP_ACK:
        TAKE_ANSWER(pkt->lock_op_ack);
        window = pkt->lock_op_ack.source_win_handle;
        break;
    default:
        TAKE(pkt->ack);
        window = pkt->ack.source_win_handle;
        break;
    }
#undef TAKE
#undef TAKE_ANSWER
    o->by_request = window == MPI_WIN_NULL;
    o->win = o->by_request ? window_of_request(vc, request)
                           : MPID_nem_ivshmem_relation_find_window(vc, window);
    if (!o->win)
        return "answered for a window that does not exist";
    return MPID_nem_ivshmem_relation_is_target(vc, o->win, o->rank)
               ? NULL
               : "answered for another rank of the window";
}

static MPIDI_RMA_Target_t *find_target(const origin_t *o)
{
    MPIDI_RMA_Target_t *target;

    (void) MPIDI_CH3I_Win_find_target(o->win, o->rank, &target);
    return target;
}

/* Whether our operations on the rank's part of the window are loads and stores. */
static bool shares_memory(const MPIR_Win *win, int rank)
{
    MPIDI_VC_t *self, *target;

    if (win->shm_allocated != TRUE)
        return false;
    MPIDI_Comm_get_vc(win->comm_ptr, win->comm_ptr->rank, &self);
    MPIDI_Comm_get_vc(win->comm_ptr, rank, &target);
#ifdef IVSHMEM_SHARED_H /* MPICH's headers include it: CH3 shares windows between nodes */
    return MPID_nem_ivshmem_shares(win, self, target);
#else
    return self->node_id == target->node_id;
#endif
}

/*
 * With MPI_Win_lock_all, ranks that share the window's memory are asked at once, others when
 * needed.
 */
static const char *check_lock_asked(const origin_t *o)
{
    static const char none[] = "answered a lock request that was not sent";
    const MPIDI_RMA_Target_t *target = find_target(o);

    switch (o->win->states.access_state) {
    case MPIDI_RMA_LOCK_ALL_CALLED:
        if (!shares_memory(o->win, o->rank))
            break;
        /* fall through */
    case MPIDI_RMA_LOCK_ALL_ISSUED:
        return o->win->outstanding_locks > 0 &&
                       (!(o->flags & MPIDI_CH3_PKT_FLAG_RMA_LOCK_GRANTED) ||
                        MPID_nem_ivshmem_relation_grants_lock(o->win, o->rank))
                   ? NULL
                   : none;
    case MPIDI_RMA_PER_TARGET:
        break;
    default:
        return none;
    }
    return target && target->access_state == MPIDI_RMA_LOCK_ISSUED ? NULL : none;
}

/* The operation that requests the lock, if there is one; else NULL. */
static const MPIDI_RMA_Op_t *find_lock_op(const origin_t *o)
{
    const MPIDI_RMA_Target_t *target = find_target(o);
    const MPIDI_RMA_Op_t *op = target ? target->next_op_to_issue : NULL;
    int flags = 0, err ATTRIBUTE((unused));

    if (op)
        MPIDI_CH3_PKT_RMA_GET_FLAGS(op->pkt, flags, err);
fn_fail:
    return flags & LOCKS ? op : NULL;
}

/* A lock is granted, or refused, or will be granted later: exactly one of these. */
static const char *check_lock_answer(int flags, int answers)
{
    return (flags & answers) == flags && flags != 0 && (flags & (flags - 1)) == 0
               ? NULL
               : "sent an impossible answer to a lock request";
}

/* If an operation has requested the lock, the answer must be about both. */
static const char *check_lock_ack(const origin_t *o)
{
    const char *why = check_lock_answer(
        o->flags, MPIDI_CH3_PKT_FLAG_RMA_LOCK_GRANTED | MPIDI_CH3_PKT_FLAG_RMA_LOCK_DISCARDED |
                      MPIDI_CH3_PKT_FLAG_RMA_LOCK_QUEUED_DATA_QUEUED);

    if (!why && find_lock_op(o))
        why = "answered a lock request without the operation that sent it";
    return why ? why : check_lock_asked(o);
}

/*
 * The request of a discarded operation was kept for this answer. CH3 finds the lock by the window
 * instead.
 */
static void forget_request(MPIDI_VC_t *vc, const origin_t *o, MPIDI_CH3_Pkt_lock_ack_t *ack)
{
    MPID_nem_ivshmem_outstanding_withdraw(vc, ack->request_handle);
    ack->source_win_handle = o->win->handle;
    ack->request_handle = MPI_REQUEST_NULL;
}

static const char *check_ack(const origin_t *o)
{
    const MPIDI_RMA_Target_t *target = find_target(o);

    return target && target->sync.outstanding_acks > 0 && o->win->outstanding_acks > 0
               ? NULL
               : "sent an acknowledgement that nothing waits for";
}

/*
 * The operation is sent again, with another request, and requests its acknowledgement again. If the
 * lock is still awaited, the answer about it will name the old request.
 */
static const char *check_discarded(MPIDI_VC_t *vc, const origin_t *o, const MPIDI_RMA_Op_t *op)
{
    const MPIR_Request *req = op->reqs_size == 1  ? op->single_req
                              : op->reqs_size > 1 ? op->multi_reqs[0]
                                                  : NULL;
    int flags = 0, err ATTRIBUTE((unused));

    MPIDI_CH3_PKT_RMA_GET_FLAGS(op->pkt, flags, err);
    if (req && (o->flags & MPIDI_CH3_PKT_FLAG_RMA_LOCK_DISCARDED))
        MPID_nem_ivshmem_outstanding_withdraw(vc, req->handle);
    else if (req)
        MPID_nem_ivshmem_outstanding_replace(vc, req->handle, MPIDI_CH3_PKT_LOCK_ACK);
fn_fail:
    return flags & (MPIDI_CH3_PKT_FLAG_RMA_FLUSH | MPIDI_CH3_PKT_FLAG_RMA_UNLOCK) ? check_ack(o)
                                                                                  : NULL;
}

/* The operation that requested the lock has been sent, and its requests exist. */
static const char *check_lock_op_ack(MPIDI_VC_t *vc, const origin_t *o)
{
    const MPIDI_RMA_Op_t *op = find_lock_op(o);
    static const char none[] = "answered for an operation that requested no lock";

    if (!op)
        return none;
    if (op->reqs_size == 1 ? !op->single_req && (o->flags & DISCARDED)
                           : op->reqs_size > 1 && (!op->multi_reqs || !op->multi_reqs[0]))
        return none;
    const char *why = check_lock_asked(o);
    if (!why && (o->flags & DISCARDED))
        why = check_discarded(vc, o, op);
    return why;
}

static const char *check_maybe_ack(MPIDI_VC_t *vc, const origin_t *o)
{
    const char *why = NULL;

    if (o->flags & ~(MPIDI_CH3_PKT_FLAG_RMA_LOCK_GRANTED | MPIDI_CH3_PKT_FLAG_RMA_ACK))
        return "sets flags that its packet cannot have";
    if (o->flags & MPIDI_CH3_PKT_FLAG_RMA_LOCK_GRANTED)
        why = check_lock_op_ack(vc, o);
    if (!why && (o->flags & MPIDI_CH3_PKT_FLAG_RMA_ACK))
        why = check_ack(o);
    return why;
}

static const char *check_lock_op(MPIDI_VC_t *vc, const origin_t *o)
{
    const char *why = check_lock_answer(o->flags & ~MPIDI_CH3_PKT_FLAG_RMA_ACK,
                                        MPIDI_CH3_PKT_FLAG_RMA_LOCK_GRANTED | DISCARDED |
                                            MPIDI_CH3_PKT_FLAG_RMA_LOCK_QUEUED_DATA_QUEUED);

    if (!why)
        why = check_lock_op_ack(vc, o);
    if (!why && (o->flags & MPIDI_CH3_PKT_FLAG_RMA_ACK))
        why = o->flags & MPIDI_CH3_PKT_FLAG_RMA_LOCK_GRANTED
                  ? check_ack(o)
                  : "acknowledged an operation without granting its lock";
    return why;
}

/* Rendezvous */

static const MPID_nem_ivshmem_transfer_t *find_transfer(const MPIDI_VC_t *vc, MPI_Request handle)
{
    for (const MPID_nem_ivshmem_transfer_t *t = MPID_nem_ivshmem.transfers; t; t = t->next)
        if (t->vc == vc && t->req->handle == handle)
            return t;
    return NULL;
}

static const char *check_awaits_cts(const MPIDI_VC_t *vc, MPI_Request handle)
{
    const MPID_nem_ivshmem_transfer_t *t = find_transfer(vc, handle);

    return t && t->sends && !t->active && !MPIR_Request_is_complete(t->req)
               ? NULL
               : "sent CTS for a transfer that was never offered";
}

static const char *check_awaits_done(const MPIDI_VC_t *vc, MPI_Request handle)
{
    const MPID_nem_ivshmem_transfer_t *t = find_transfer(vc, handle);

    return t && !MPIR_Request_is_complete(t->req)
               ? NULL
               : "sent DONE for a transfer that was never offered";
}

/* CH3 allocates memory for an unexpected message, and cannot continue without it. */
static const char *check_length(intptr_t bytes, bool eager)
{
    if (bytes < 0)
        return "named a negative length";
    if (!eager || bytes <= IVSHMEM_EAGER_USUAL)
        return NULL;
    void *memory = MPL_malloc(bytes, MPL_MEM_OTHER);
    MPL_free(memory);
    return memory ? NULL : "sent an eager message for which there is not enough memory";
}

static const char *check_cookie(intptr_t cookie_len, size_t len, bool maybe)
{
    return (maybe && cookie_len == 0) || (cookie_len == sizeof(MPID_nem_ivshmem_cookie_t) &&
                                          len >= sizeof(MPID_nem_ivshmem_cookie_t))
               ? NULL
               : "sent a cookie of an unknown form";
}

/* Connections */

static const char *check_close(const MPIDI_VC_t *vc, bool ack)
{
    bool closing = vc->state == MPIDI_VC_STATE_LOCAL_CLOSE;

    return closing || vc->state == (ack ? MPIDI_VC_STATE_CLOSE_ACKED : MPIDI_VC_STATE_ACTIVE)
               ? NULL
               : "closed a connection that is not open";
}

#ifndef MPIDI_CH3_HAS_NO_DYNAMIC_PROCESS
static const char *check_handshake(const MPIDI_VC_t *vc, int type)
{
    const MPIDI_CH3I_Port_connreq_t *call = vc->connreq_obj;

    bool called = VC_IVSHMEM(vc)->stream & IVSHMEM_STREAM_REPLY;

    if (called == (type == MPIDI_CH3_PKT_ACCEPT_ACK) && !VC_IVSHMEM(vc)->met &&
        vc->state == MPIDI_VC_STATE_ACTIVE && call &&
        (type == MPIDI_CH3_PKT_CONN_ACK ? call->stat == MPIDI_CH3I_PORT_CONNREQ_INITED ||
                                              call->stat == MPIDI_CH3I_PORT_CONNREQ_REVOKE
                                        : call->stat == MPIDI_CH3I_PORT_CONNREQ_ACCEPT))
        return NULL;
    return "agreed to a connection that was not requested";
}
#endif

static MPI_Request answered_request(const MPIDI_CH3_Pkt_t *pkt)
{
    switch ((int) pkt->type) {
    case MPIDI_CH3_PKT_EAGER_SYNC_ACK:
        return pkt->eager_sync_ack.sender_req_id;
    case MPIDI_CH3_PKT_CANCEL_SEND_RESP:
        return pkt->cancel_send_resp.sender_req_id;
    case MPIDI_CH3_PKT_GET_ACCUM_RESP:
    case MPIDI_CH3_PKT_GET_ACCUM_RESP_IMMED:
        return pkt->get_accum_resp.request_handle;
    case MPIDI_CH3_PKT_FOP_RESP:
    case MPIDI_CH3_PKT_FOP_RESP_IMMED:
        return pkt->fop_resp.request_handle;
    case MPIDI_CH3_PKT_CAS_RESP_IMMED:
        return pkt->cas_resp.request_handle;
    default:
        return pkt->get_resp.request_handle;
    }
}

/*
 * A send that the peer reports as cancelled must not continue in its memory or in ours. Nor may the
 * peer have received it, as far as we have been told.
 */
static const char *check_cancellable(MPIDI_VC_t *vc, const MPIDI_CH3_Pkt_cancel_send_resp_t *resp)
{
    const MPID_nem_ivshmem_transfer_t *t = find_transfer(vc, resp->sender_req_id);
    const MPIR_Request *req = MPID_nem_ivshmem_outstanding_find(vc, resp->sender_req_id);

    if (!resp->ack)
        return NULL;
    if (t)
        return t->active ? "cancelled a message that it is receiving" : NULL;
    bool was_transfer = req && MPIDI_Request_get_msg_type(req) == MPIDI_REQUEST_RNDV_MSG;
    bool was_synchronous =
        req && MPIDI_Request_get_type(req) == MPIDI_REQUEST_TYPE_SSEND &&
        !MPID_nem_ivshmem_outstanding_awaits(vc, req->handle, MPIDI_CH3_PKT_EAGER_SYNC_ACK);
    return was_transfer || was_synchronous ? "cancelled a message that it has received" : NULL;
}

static const char *check_from(const MPIDI_VC_t *vc, const rule_t *rule)
{
    bool is_caller = VC_IVSHMEM(vc)->stream != 0;

    if (!rule->name)
        return "sent a packet of an unknown type";
    if (!(rule->from & (is_caller ? FROM_CALLER : FROM_RANK)))
        return "sent a packet that its relation to this process does not allow";
    /* Until both sides have agreed, nothing else may be sent. */
    if (is_caller && rule->checks[0] != HANDSHAKE && rule->checks[0] != CLOSE_STATE &&
        !VC_IVSHMEM(vc)->met)
        return "sent a message before its call was answered";
    return NULL;
}

const char *MPID_nem_ivshmem_packet_check_all(MPIDI_VC_t *vc, MPIDI_CH3_Pkt_t *pkt, size_t len,
                                              bool *hold)
{
    const rule_t *rule = &MPID_nem_ivshmem_packet_rules[pkt->type];
    const MPID_nem_pkt_lmt_rts_t *rts = (const MPID_nem_pkt_lmt_rts_t *) pkt;
    const MPID_nem_pkt_lmt_cts_t *cts = (const MPID_nem_pkt_lmt_cts_t *) pkt;
    const char *why = check_from(vc, rule);
    MPIR_Win *win = NULL;
    operation_t o;
    origin_t origin = {0};
    bool answers = false;

    MPID_nem_ivshmem_receiving(vc)->window = MPI_WIN_NULL;
    for (int i = 0; !why && rule->checks[i] != END; i++) {
        switch ((check_t) rule->checks[i]) {
        case SENDER:
            why = MPID_nem_ivshmem_relation_check_sender(vc, &pkt->eager_send.match);
            break;
        case CANCELLER:
            why = MPID_nem_ivshmem_relation_check_canceller(vc, &pkt->cancel_send_req.match);
            break;
        case LENGTH:
            why = pkt->type == MPIDI_NEM_PKT_LMT_CTS ? check_length(cts->data_sz, false)
                  : pkt->type == MPIDI_NEM_PKT_LMT_RTS
                      ? check_length(rts->data_sz, false)
                      : check_length(pkt->eager_send.data_sz, true);
            break;
        case SHORT_LENGTH:
#ifdef USE_EAGER_SHORT
            if (pkt->eagershort_send.data_sz < 0 ||
                pkt->eagershort_send.data_sz > (intptr_t) sizeof(pkt->eagershort_send.data))
                why = "sent a message with an impossible length";
#endif
            break;
        case COOKIE:
            why = check_cookie(rts->cookie_len, len, false);
            break;
        case MAYBE_COOKIE:
            why = check_cookie(cts->cookie_len, len, true);
            break;
        case AWAITS_CTS:
            why = check_awaits_cts(vc, cts->sender_req_id);
            break;
        case AWAITS_DONE:
            why = check_awaits_done(vc, ((const MPID_nem_pkt_lmt_done_t *) pkt)->req_id);
            break;
        case ANSWERS:
            answers = MPID_nem_ivshmem_outstanding_awaits(vc, answered_request(pkt), pkt->type);
            if (!answers)
                why = "answered a request that it was not sent";
            break;
        case CANCELLABLE:
            why = check_cancellable(vc, &pkt->cancel_send_resp);
            break;
        case WINDOW:
            o = MPID_nem_ivshmem_packet_window_op(pkt);
            win = MPID_nem_ivshmem_relation_find_window(vc, o.window);
            /* CH3 may grant a lock now, but must not grant it to a peer that it cannot answer. */
            (void) MPID_nem_ivshmem_relation_forget_locks();
            if (win)
                MPID_nem_ivshmem_receiving(vc)->window = o.window;
            else
                why = "named a window that does not exist, or of which it is not a member";
            break;
        case MEMORY:
            why = check_memory(win, &o, hold);
            MPID_nem_ivshmem_receiving(vc)->touched = MPID_nem_ivshmem_packet_touched(&o);
            MPID_nem_ivshmem_receiving(vc)->flattened_bytes = o.flattened_bytes;
            break;
        case OPERATION:
            why = check_operation(&o);
            break;
        case EXPOSED:
            if ((o.flags & MPIDI_CH3_PKT_FLAG_RMA_DECR_AT_COUNTER) &&
                !MPID_nem_ivshmem_relation_ends_access(vc, win))
                why = "ended an access that has not begun";
            break;
        case HELD:
            why = check_held(vc, win, &o);
            break;
        case LOCK_FLAGS:
            why = check_lock_flags(&pkt->lock);
            break;
        case ORIGIN:
            why = find_origin(vc, pkt, &origin);
            break;
        case LOCK_ACK:
            why = check_lock_ack(&origin);
            if (!why && origin.by_request)
                forget_request(vc, &origin, &pkt->lock_ack);
            break;
        case LOCK_OP_ACK:
            why = check_lock_op(vc, &origin);
            break;
        case ACK:
            why = check_ack(&origin);
            break;
        case MAYBE_ACK:
            why = check_maybe_ack(vc, &origin);
            break;
        case MEMBER:
            /* CH3 checks it, see ivshmem-graft: the communicator may be freed here already. */
            break;
        case CLOSE_STATE:
            why = check_close(vc, pkt->close.ack);
            break;
        case HANDSHAKE:
#ifndef MPIDI_CH3_HAS_NO_DYNAMIC_PROCESS
            why = check_handshake(vc, (int) pkt->type);
#endif
            break;
        case END:
            break;
        }
    }
    if (answers && !why) {
        MPID_nem_ivshmem_outstanding_answered(vc, answered_request(pkt), pkt->type);
        /* A cancelled message will not be acknowledged any more. */
        if (pkt->type == MPIDI_CH3_PKT_CANCEL_SEND_RESP && pkt->cancel_send_resp.ack)
            MPID_nem_ivshmem_outstanding_withdraw(vc, pkt->cancel_send_resp.sender_req_id);
    }
    return why;
}

/*
 * Whether CH3 will use what has arrived so far to find its way, and it was not checked with the
 * header.
 */
static bool is_metadata(const MPIR_Request *rreq)
{
    return rreq->dev.OnDataAvail == MPIDI_CH3_ReqHandler_PutDerivedDTRecvComplete ||
           rreq->dev.OnDataAvail == MPIDI_CH3_ReqHandler_GetDerivedDTRecvComplete ||
           rreq->dev.OnDataAvail == MPIDI_CH3_ReqHandler_AccumMetadataRecvComplete ||
           rreq->dev.OnDataAvail == MPIDI_CH3_ReqHandler_GaccumMetadataRecvComplete;
}

const char *MPID_nem_ivshmem_packet_check_metadata(MPIDI_VC_t *vc, const MPIR_Request *rreq)
{
    if (likely(!is_metadata(rreq)))
        return NULL;

    bool accumulates = rreq->dev.OnDataAvail != MPIDI_CH3_ReqHandler_PutDerivedDTRecvComplete &&
                       rreq->dev.OnDataAvail != MPIDI_CH3_ReqHandler_GetDerivedDTRecvComplete;
    bool streams = rreq->dev.pkt_flags & MPIDI_CH3_PKT_FLAG_RMA_STREAM;
    const MPIR_Win *win = MPID_nem_ivshmem_relation_find_window(vc, rreq->dev.target_win_handle);
    MPI_Datatype basic = rreq->dev.datatype;
    MPI_Aint total, offset = 0, size;

    if (!win)
        return "continued an operation on a window that no longer exists";
    if (basic == MPI_DATATYPE_NULL) {
        const char *why = MPID_nem_ivshmem_flattened_check(
            win, accumulates ? rreq->dev.real_user_buf : rreq->dev.user_buf, rreq->dev.user_count,
            rreq->dev.flattened_type, MPID_nem_ivshmem_receiving(vc)->flattened_bytes, accumulates,
            &total, &basic, &MPID_nem_ivshmem_receiving(vc)->touched);
        if (why)
            return why;
        if (accumulates && (basic == MPI_DATATYPE_NULL || !op_takes(rreq->dev.op, basic)))
            return "names an operation that its datatype does not have";
    } else {
        total = MPID_nem_ivshmem_packet_type_size(basic, NULL) * rreq->dev.user_count;
    }
    if (!streams)
        return NULL;
    size = MPID_nem_ivshmem_packet_type_size(basic, NULL);
    offset = ((const MPIDI_CH3_Ext_pkt_stream_t *) rreq->dev.ext_hdr_ptr)->stream_offset;
    return offset >= 0 && offset < total && offset % size == 0
               ? NULL
               : "sent a part that its operation does not have";
}
