/* SPDX-License-Identifier: mpich2 */
/*
 * What a packet may be: for each type that CH3 or Nemesis knows, from whom it is taken, and which
 * of its fields are followed, each with the check that it must pass before CH3 sees it. A type
 * without a row is refused. doc/trust.md shows the table.
 *
 * The packet is a private copy. What arrives behind its header, and is followed, is checked when it
 * is there, again in a private copy.
 */
#include "ivshmem_netmod.h"

#include "mpid_port.h"
#include "mpidrma.h"
#include "mpir_op_util.h"

typedef enum {
    END,
    SENDER,       /* context and rank: of a communicator in which the peer has that rank */
    LENGTH,       /* length of the data: not negative; what comes at once has room in memory */
    SHORT_LENGTH, /* length of the data: fits into the header */
    OFFER,        /* cookie: as long as an offer, and all there */
    MAYBE_OFFER,  /* cookie: an offer, or none */
    AWAITS_CTS,   /* request: a transfer with this peer, which waits for its CTS */
    AWAITS_DONE,  /* request: a transfer with this peer, which is not over */
    ANSWERS,      /* request: the peer was asked, and such an answer is still to come */
    CANCELLABLE,  /* request: the peer is not transferring its data, and has not */
    WINDOW,       /* target's window: one of ours, of which the peer is a member */
    EXPOSED,      /* access that is ended: the peer's, which has begun, or was taken back */
    HELD,        /* lock: the peer does not wait for what it asks for, and has what it gives back */
    MEMORY,      /* address, count, datatype: each byte touched is the window's, and that is none of
                  * which all ranks load and store; the data fits into its packet, or the answer
                  * into its own; a datatype's description, and the offset of a part, are checked
                  * once they are here */
    OPERATION,   /* operation: predefined, and defined for the datatype */
    ORIGIN,      /* origin's window and rank: one of ours, in which the peer has that rank */
    LOCK_FLAGS,  /* flags: shared or exclusive, and who asks is named once */
    LOCK_ACK,    /* flags: one word; we have asked that rank for a lock, and wait */
    LOCK_OP_ACK, /* flags: the same, by an operation that is not done */
    ACK,         /* an acknowledgement by that rank is due */
    MAYBE_ACK,   /* flags: LOCK_OP_ACK and ACK, for what they say */
    MEMBER,      /* context: ignored, if the peer is no member of such a communicator */
    CLOSE_STATE, /* the connection is in a state in which this can come */
    HANDSHAKE,   /* a call that waits for this word, and has not had it */
} check_t;

enum { CHECKS_MAX = 6 }; /* of a type, and an END */

typedef enum {
    FROM_NOBODY,
    FROM_RANK = 1,   /* of our job, or of one that we are connected to */
    FROM_CALLER = 2, /* a process at the other end of a new connection, from a port on */
    FROM_BOTH = 3
} from_t;

typedef struct {
    const char *name;
    unsigned short bytes; /* of the header, as it travels */
    unsigned char from;   /* from_t */
    unsigned char checks[CHECKS_MAX];
} rule_t;

/* All that have one have it at the same place. */
_Static_assert(offsetof(MPIDI_CH3_Pkt_cancel_send_req_t, match) ==
                       offsetof(MPIDI_CH3_Pkt_send_t, match) &&
                   offsetof(MPID_nem_pkt_lmt_rts_t, match) == offsetof(MPIDI_CH3_Pkt_send_t, match),
               "SENDER");

/* Without what the compiler adds behind the last field. */
#define UP_TO(type, last) (offsetof(type, last) + sizeof(((type *) 0)->last))

static const rule_t rules[MPIDI_CH3_PKT_END_ALL] = {
    [MPIDI_CH3_PKT_EAGER_SEND] = {"EAGER_SEND",
                                  sizeof(MPIDI_CH3_Pkt_send_t),
                                  FROM_BOTH,
                                  {SENDER, LENGTH}},
#ifdef USE_EAGER_SHORT
    [MPIDI_CH3_PKT_EAGERSHORT_SEND] = {"EAGERSHORT_SEND",
                                       sizeof(MPIDI_CH3_Pkt_eagershort_send_t),
                                       FROM_BOTH,
                                       {SENDER, SHORT_LENGTH}},
#endif
    [MPIDI_CH3_PKT_READY_SEND] = {"READY_SEND",
                                  sizeof(MPIDI_CH3_Pkt_send_t),
                                  FROM_RANK,
                                  {SENDER, LENGTH}},
    [MPIDI_CH3_PKT_EAGER_SYNC_SEND] = {"EAGER_SYNC_SEND",
                                       sizeof(MPIDI_CH3_Pkt_send_t),
                                       FROM_RANK,
                                       {SENDER, LENGTH}},
    [MPIDI_CH3_PKT_EAGER_SYNC_ACK] = {"EAGER_SYNC_ACK",
                                      sizeof(MPIDI_CH3_Pkt_eager_sync_ack_t),
                                      FROM_RANK,
                                      {ANSWERS}},
    [MPIDI_CH3_PKT_CANCEL_SEND_REQ] = {"CANCEL_SEND_REQ",
                                       sizeof(MPIDI_CH3_Pkt_cancel_send_req_t),
                                       FROM_BOTH,
                                       {SENDER}},
    [MPIDI_CH3_PKT_CANCEL_SEND_RESP] = {"CANCEL_SEND_RESP",
                                        sizeof(MPIDI_CH3_Pkt_cancel_send_resp_t),
                                        FROM_BOTH,
                                        {ANSWERS, CANCELLABLE}},

    [MPIDI_NEM_PKT_LMT_RTS] = {"LMT_RTS",
                               sizeof(MPID_nem_pkt_lmt_rts_t),
                               FROM_BOTH,
                               {SENDER, LENGTH, OFFER}},
    [MPIDI_NEM_PKT_LMT_CTS] = {"LMT_CTS",
                               sizeof(MPID_nem_pkt_lmt_cts_t),
                               FROM_BOTH,
                               {AWAITS_CTS, LENGTH, MAYBE_OFFER}},
    [MPIDI_NEM_PKT_LMT_DONE] = {"LMT_DONE",
                                sizeof(MPID_nem_pkt_lmt_done_t),
                                FROM_BOTH,
                                {AWAITS_DONE}},

    [MPIDI_CH3_PKT_PUT] = {"PUT",
                           sizeof(MPIDI_CH3_Pkt_put_t),
                           FROM_RANK,
                           {WINDOW, EXPOSED, MEMORY, HELD}},
    [MPIDI_CH3_PKT_PUT_IMMED] = {"PUT_IMMED",
                                 sizeof(MPIDI_CH3_Pkt_put_t),
                                 FROM_RANK,
                                 {WINDOW, EXPOSED, MEMORY, HELD}},
    [MPIDI_CH3_PKT_GET] = {"GET",
                           UP_TO(MPIDI_CH3_Pkt_get_t, target_win_handle),
                           FROM_RANK,
                           {WINDOW, EXPOSED, MEMORY, HELD}},
    [MPIDI_CH3_PKT_ACCUMULATE] = {"ACCUMULATE",
                                  UP_TO(MPIDI_CH3_Pkt_accum_t, info),
                                  FROM_RANK,
                                  {WINDOW, EXPOSED, MEMORY, OPERATION, HELD}},
    [MPIDI_CH3_PKT_ACCUMULATE_IMMED] = {"ACCUMULATE_IMMED",
                                        UP_TO(MPIDI_CH3_Pkt_accum_t, info),
                                        FROM_RANK,
                                        {WINDOW, EXPOSED, MEMORY, OPERATION, HELD}},
    [MPIDI_CH3_PKT_GET_ACCUM] = {"GET_ACCUM",
                                 UP_TO(MPIDI_CH3_Pkt_get_accum_t, info),
                                 FROM_RANK,
                                 {WINDOW, EXPOSED, MEMORY, OPERATION, HELD}},
    [MPIDI_CH3_PKT_GET_ACCUM_IMMED] = {"GET_ACCUM_IMMED",
                                       UP_TO(MPIDI_CH3_Pkt_get_accum_t, info),
                                       FROM_RANK,
                                       {WINDOW, EXPOSED, MEMORY, OPERATION, HELD}},
    [MPIDI_CH3_PKT_FOP] = {"FOP",
                           UP_TO(MPIDI_CH3_Pkt_fop_t, info),
                           FROM_RANK,
                           {WINDOW, EXPOSED, MEMORY, OPERATION, HELD}},
    [MPIDI_CH3_PKT_FOP_IMMED] = {"FOP_IMMED",
                                 UP_TO(MPIDI_CH3_Pkt_fop_t, info),
                                 FROM_RANK,
                                 {WINDOW, EXPOSED, MEMORY, OPERATION, HELD}},
    [MPIDI_CH3_PKT_CAS_IMMED] = {"CAS_IMMED",
                                 UP_TO(MPIDI_CH3_Pkt_cas_t, compare_data),
                                 FROM_RANK,
                                 {WINDOW, EXPOSED, MEMORY, HELD}},

    [MPIDI_CH3_PKT_GET_RESP] = {"GET_RESP",
                                sizeof(MPIDI_CH3_Pkt_get_resp_t),
                                FROM_RANK,
                                {ANSWERS, ORIGIN, MAYBE_ACK}},
    [MPIDI_CH3_PKT_GET_RESP_IMMED] = {"GET_RESP_IMMED",
                                      sizeof(MPIDI_CH3_Pkt_get_resp_t),
                                      FROM_RANK,
                                      {ANSWERS, ORIGIN, MAYBE_ACK}},
    [MPIDI_CH3_PKT_GET_ACCUM_RESP] = {"GET_ACCUM_RESP",
                                      sizeof(MPIDI_CH3_Pkt_get_accum_resp_t),
                                      FROM_RANK,
                                      {ANSWERS, ORIGIN, MAYBE_ACK}},
    [MPIDI_CH3_PKT_GET_ACCUM_RESP_IMMED] = {"GET_ACCUM_RESP_IMMED",
                                            sizeof(MPIDI_CH3_Pkt_get_accum_resp_t),
                                            FROM_RANK,
                                            {ANSWERS, ORIGIN, MAYBE_ACK}},
    [MPIDI_CH3_PKT_FOP_RESP] = {"FOP_RESP",
                                sizeof(MPIDI_CH3_Pkt_fop_resp_t),
                                FROM_RANK,
                                {ANSWERS, ORIGIN, MAYBE_ACK}},
    [MPIDI_CH3_PKT_FOP_RESP_IMMED] = {"FOP_RESP_IMMED",
                                      sizeof(MPIDI_CH3_Pkt_fop_resp_t),
                                      FROM_RANK,
                                      {ANSWERS, ORIGIN, MAYBE_ACK}},
    [MPIDI_CH3_PKT_CAS_RESP_IMMED] = {"CAS_RESP_IMMED",
                                      sizeof(MPIDI_CH3_Pkt_cas_resp_t),
                                      FROM_RANK,
                                      {ANSWERS, ORIGIN, MAYBE_ACK}},

    [MPIDI_CH3_PKT_LOCK] = {"LOCK",
                            sizeof(MPIDI_CH3_Pkt_lock_t),
                            FROM_RANK,
                            {WINDOW, LOCK_FLAGS, HELD}},
    [MPIDI_CH3_PKT_UNLOCK] = {"UNLOCK", sizeof(MPIDI_CH3_Pkt_unlock_t), FROM_RANK, {WINDOW, HELD}},
    [MPIDI_CH3_PKT_FLUSH] = {"FLUSH", sizeof(MPIDI_CH3_Pkt_flush_t), FROM_RANK, {WINDOW}},
    [MPIDI_CH3_PKT_DECR_AT_COUNTER] = {"DECR_AT_COUNTER",
                                       sizeof(MPIDI_CH3_Pkt_decr_at_counter_t),
                                       FROM_RANK,
                                       {WINDOW, EXPOSED}},
    [MPIDI_CH3_PKT_LOCK_ACK] = {"LOCK_ACK",
                                sizeof(MPIDI_CH3_Pkt_lock_ack_t),
                                FROM_RANK,
                                {ORIGIN, LOCK_ACK}},
    [MPIDI_CH3_PKT_LOCK_OP_ACK] = {"LOCK_OP_ACK",
                                   sizeof(MPIDI_CH3_Pkt_lock_op_ack_t),
                                   FROM_RANK,
                                   {ORIGIN, LOCK_OP_ACK}},
    [MPIDI_CH3_PKT_ACK] = {"ACK", sizeof(MPIDI_CH3_Pkt_ack_t), FROM_RANK, {ORIGIN, ACK}},

    [MPIDI_CH3_PKT_CLOSE] = {"CLOSE", sizeof(MPIDI_CH3_Pkt_close_t), FROM_BOTH, {CLOSE_STATE}},
    [MPIDI_CH3_PKT_REVOKE] = {"REVOKE", sizeof(MPIDI_CH3_Pkt_revoke_t), FROM_BOTH, {MEMBER}},
#ifndef MPIDI_CH3_HAS_NO_DYNAMIC_PROCESS
    [MPIDI_CH3_PKT_CONN_ACK] = {"CONN_ACK",
                                sizeof(MPIDI_CH3_Pkt_conn_ack_t),
                                FROM_CALLER,
                                {HANDSHAKE}},
    [MPIDI_CH3_PKT_ACCEPT_ACK] = {"ACCEPT_ACK",
                                  sizeof(MPIDI_CH3_Pkt_accept_ack_t),
                                  FROM_CALLER,
                                  {HANDSHAKE}},
#endif
};

enum {
    LOCKS = MPIDI_CH3_PKT_FLAG_RMA_LOCK_SHARED | MPIDI_CH3_PKT_FLAG_RMA_LOCK_EXCLUSIVE,
    DISCARDED =
        MPIDI_CH3_PKT_FLAG_RMA_LOCK_QUEUED_DATA_DISCARDED | MPIDI_CH3_PKT_FLAG_RMA_LOCK_DISCARDED,
    BYTES_MAX_SHIFT = 6
};

#define BYTES_MAX (MPIR_AINT_MAX >> BYTES_MAX_SHIFT)

size_t MPID_nem_ivshmem_packet_header_bytes(int type)
{
    return type >= 0 && type < MPIDI_CH3_PKT_END_ALL ? rules[type].bytes : 0;
}

const char *MPID_nem_ivshmem_packet_name(int type)
{
    return type >= 0 && type < MPIDI_CH3_PKT_END_ALL ? rules[type].name : NULL;
}

MPI_Aint MPID_nem_ivshmem_packet_type_size(MPI_Datatype type, MPI_Aint *extent)
{
    MPI_Aint size, unused;

    if (HANDLE_GET_MPI_KIND(type) != MPIR_DATATYPE || !MPIR_DATATYPE_IS_PREDEFINED(type))
        return -1;
    if (HANDLE_IS_BUILTIN(type) ? (type & 0xff) >= MPIR_DATATYPE_N_BUILTIN ||
                                      MPIR_Datatype_builtin[type & 0xff].handle != type
                                : HANDLE_GET_KIND(type) != HANDLE_KIND_DIRECT ||
                                      HANDLE_INDEX(type) >= MPIR_DATATYPE_PAIRTYPE)
        return -1;
    MPIR_Datatype_get_size_macro(type, size);
    MPIR_Datatype_get_extent_macro(type, *(extent ? extent : &unused));
    return size;
}

/* The last byte of an element that is touched: a pair may have a gap at its end. */
static MPI_Aint true_bytes(MPI_Datatype type, MPI_Aint extent)
{
    MPIR_Datatype *pair;

    if (HANDLE_IS_BUILTIN(type))
        return extent;
    MPIR_Datatype_get_ptr(type, pair);
    return pair->true_ub;
}

/* An operation on a window of ours, whatever the packet's type. */
typedef struct {
    MPI_Win window, source;
    int flags, flags_allowed;
    bool writes; /* only: it is answered to a window, and not to a request */
    const void *addr;
    MPI_Aint count;
    MPI_Datatype type;
    MPI_Op op;
    MPI_Aint described; /* bytes of the datatype's description that follow */
    MPI_Aint room;      /* bytes of data that the packet, or the answer, has room for; or -1 */
} operation_t;

static operation_t operation_of(const MPIDI_CH3_Pkt_t *pkt)
{
    enum {
        ALL = LOCKS | MPIDI_CH3_PKT_FLAG_RMA_UNLOCK | MPIDI_CH3_PKT_FLAG_RMA_FLUSH |
              MPIDI_CH3_PKT_FLAG_RMA_REQ_ACK | MPIDI_CH3_PKT_FLAG_RMA_DECR_AT_COUNTER |
              MPIDI_CH3_PKT_FLAG_RMA_NOCHECK
    };
    const MPI_Aint immediate = sizeof(MPIDI_CH3_RMA_Immed_u);
    operation_t o = {.source = MPI_WIN_NULL, .op = MPI_OP_NULL, .room = -1, .flags_allowed = ALL};

#define TAKE(pkt_)                                                                                 \
    o.window = (pkt_).target_win_handle;                                                           \
    o.flags = (pkt_).pkt_flags
#define TAKE_MEMORY(pkt_, count_)                                                                  \
    TAKE(pkt_);                                                                                    \
    o.addr = (pkt_).addr;                                                                          \
    o.type = (pkt_).datatype;                                                                      \
    o.count = (count_)

    switch ((int) pkt->type) {
    case MPIDI_CH3_PKT_PUT:
    case MPIDI_CH3_PKT_PUT_IMMED:
        TAKE_MEMORY(pkt->put, pkt->put.count);
        o.source = pkt->put.source_win_handle;
        o.writes = true;
        o.room = pkt->type == MPIDI_CH3_PKT_PUT_IMMED ? immediate : -1;
        o.described = pkt->put.info.flattened_type_size;
        break;
    case MPIDI_CH3_PKT_GET:
        TAKE_MEMORY(pkt->get, pkt->get.count);
        o.room = o.flags & MPIDI_CH3_PKT_FLAG_RMA_IMMED_RESP ? immediate : -1;
        o.flags_allowed |= MPIDI_CH3_PKT_FLAG_RMA_IMMED_RESP;
        o.described = pkt->get.info.flattened_type_size;
        break;
    case MPIDI_CH3_PKT_ACCUMULATE:
    case MPIDI_CH3_PKT_ACCUMULATE_IMMED:
        TAKE_MEMORY(pkt->accum, pkt->accum.count);
        o.source = pkt->accum.source_win_handle;
        o.writes = true;
        o.op = pkt->accum.op;
        o.room = pkt->type == MPIDI_CH3_PKT_ACCUMULATE_IMMED ? immediate : -1;
        o.flags_allowed |= o.room < 0 ? MPIDI_CH3_PKT_FLAG_RMA_STREAM : 0;
        o.described = pkt->accum.info.flattened_type_size;
        break;
    case MPIDI_CH3_PKT_GET_ACCUM:
    case MPIDI_CH3_PKT_GET_ACCUM_IMMED:
        TAKE_MEMORY(pkt->get_accum, pkt->get_accum.count);
        o.op = pkt->get_accum.op;
        o.room = pkt->type == MPIDI_CH3_PKT_GET_ACCUM_IMMED ? immediate : -1;
        o.flags_allowed |= o.room < 0 ? MPIDI_CH3_PKT_FLAG_RMA_STREAM : 0;
        o.described = pkt->get_accum.info.flattened_type_size;
        break;
    case MPIDI_CH3_PKT_FOP:
    case MPIDI_CH3_PKT_FOP_IMMED:
        TAKE_MEMORY(pkt->fop, 1);
        o.op = pkt->fop.op;
        o.room = pkt->type == MPIDI_CH3_PKT_FOP_IMMED ? immediate : -1;
        break;
    case MPIDI_CH3_PKT_CAS_IMMED:
        TAKE_MEMORY(pkt->cas, 1);
        o.room = sizeof(pkt->cas.origin_data);
        break;
    case MPIDI_CH3_PKT_LOCK:
        TAKE(pkt->lock);
        o.source = pkt->lock.source_win_handle;
        break;
    case MPIDI_CH3_PKT_UNLOCK:
        TAKE(pkt->unlock);
        o.flags |= MPIDI_CH3_PKT_FLAG_RMA_UNLOCK;
        break;
    case MPIDI_CH3_PKT_DECR_AT_COUNTER:
        TAKE(pkt->decr_at_cnt);
        o.flags |= MPIDI_CH3_PKT_FLAG_RMA_DECR_AT_COUNTER;
        break;
    default:
        o.window = pkt->flush.target_win_handle;
        break;
    }
    return o;
#undef TAKE
#undef TAKE_MEMORY
}

/* Nothing, if that is not known yet, or can be no such thing. */
static MPID_nem_ivshmem_span_t touched_by(const operation_t *o)
{
    MPI_Aint extent, size = MPID_nem_ivshmem_packet_type_size(o->type, &extent);
    intptr_t start = (intptr_t) o->addr, end = start;

    if (size > 0 && o->count > 0 && o->count <= BYTES_MAX / extent)
        (void) __builtin_add_overflow(start, (o->count - 1) * extent + true_bytes(o->type, extent),
                                      &end);
    return (MPID_nem_ivshmem_span_t){start, end};
}

MPID_nem_ivshmem_span_t MPID_nem_ivshmem_packet_touches(const MPIDI_CH3_Pkt_t *pkt)
{
    operation_t o = operation_of(pkt);
    return touched_by(&o);
}

/* What CH3 takes of an operation's data at once. */
static MPI_Aint unit_bytes(MPI_Aint size, MPI_Aint extent)
{
    return MPIDI_CH3U_SRBuf_size / extent * size;
}

static const char *check_described(const operation_t *o)
{
    if (HANDLE_GET_MPI_KIND(o->type) != MPIR_DATATYPE || MPIR_DATATYPE_IS_PREDEFINED(o->type) ||
        o->described < 1)
        return "names a datatype that is not there";
    if (o->room >= 0 || (o->flags & LOCKS))
        return "names a derived datatype where only a predefined one can be";
    return NULL;
}

/* *hold: the data is not to be seen by CH3 before all of it is in private memory, or thrown away.
 */
static const char *check_memory(const MPIR_Win *win, const operation_t *o, bool *hold)
{
    MPI_Aint extent, size = MPID_nem_ivshmem_packet_type_size(o->type, &extent), total;
    bool streams = o->flags & MPIDI_CH3_PKT_FLAG_RMA_STREAM;

    if (o->flags & ~o->flags_allowed)
        return "sets flags that its packet cannot have";
    if (win->ivshmem) /* for whose lock CH3 would wait here */
        return "sends an operation on a window whose ranks load and store";
    if (o->count < 1)
        return "names a count of elements that cannot be";
    if ((o->flags & LOCKS) && o->writes && o->source == MPI_WIN_NULL)
        return "asks for a lock and does not say for which window";
    if (size < 0) {
        *hold = true;
        return check_described(o);
    }
    if (size < 1 || extent < size)
        return "names a datatype that has no data";
    if (o->count > BYTES_MAX / extent)
        return "names more elements than there can be";
    total = size * o->count;
    if (o->room >= 0 && total > o->room)
        return "names more data than its packet has room for";
    if (streams && total <= unit_bytes(size, extent))
        return "sends in parts what is less than one part";
    *hold = streams || ((o->flags & LOCKS) && extent != size);
    return MPID_nem_ivshmem_relation_opens(win, (intptr_t) o->addr,
                                           (o->count - 1) * extent + true_bytes(o->type, extent))
               ? NULL
               : "names memory outside of its window";
}

static bool is_predefined_op(MPI_Op op)
{
    return HANDLE_GET_MPI_KIND(op) == MPIR_OP && HANDLE_IS_BUILTIN(op) && (op & 0xff) > 0 &&
           (op & 0xff) < MPIR_OP_N_BUILTIN;
}

static bool is_floating(MPI_Datatype type)
{
    switch (type) {
#undef MPIR_OP_TYPE_MACRO
#define MPIR_OP_TYPE_MACRO(mpi_type_, c_type_, type_name_) case (mpi_type_):
        MPIR_OP_TYPE_GROUP(FLOATING_POINT)
        MPIR_OP_TYPE_GROUP(FLOATING_POINT_EXTRA)
#undef MPIR_OP_TYPE_MACRO
        return true;
    default:
        return false;
    }
}

/* MPICH says yes to floating point in logical operations, and asserts no when it comes to them. */
static bool op_takes(MPI_Op op, MPI_Datatype type)
{
    bool is_logical = op == MPI_LAND || op == MPI_LOR || op == MPI_LXOR;

    return !(is_logical && is_floating(type)) &&
           (*MPIR_OP_HDL_TO_DTYPE_FN(op))(type) == MPI_SUCCESS;
}

static const char *check_operation(const operation_t *o)
{
    if (!is_predefined_op(o->op))
        return "names an operation that is not there";
    /* What a derived type is made of is known when its description is there. */
    return MPID_nem_ivshmem_packet_type_size(o->type, NULL) < 0 || op_takes(o->op, o->type)
               ? NULL
               : "names an operation that its datatype does not have";
}

/* An operation may do both. */
static const char *check_held(MPIDI_VC_t *vc, MPIR_Win *win, const operation_t *o)
{
    if ((o->flags & LOCKS) && !MPID_nem_ivshmem_relation_asks_lock(vc, win))
        return "asks for a lock that it waits for";
    return !(o->flags & MPIDI_CH3_PKT_FLAG_RMA_UNLOCK) ||
                   MPID_nem_ivshmem_relation_returns_lock(vc, win)
               ? NULL
               : "gives back a lock that it does not have";
}

/* Where it was asked for by an operation, its origin is said in one of two ways. */
static const char *check_lock_flags(const MPIDI_CH3_Pkt_lock_t *lock)
{
    if (!(lock->pkt_flags & LOCKS))
        return "asks for a lock of no kind";
    return (lock->source_win_handle != MPI_WIN_NULL) != (lock->request_handle != MPI_REQUEST_NULL)
               ? NULL
               : "does not say who asks for a lock";
}

/* Our side of a window, as the origin of operations */

typedef struct {
    MPIR_Win *win;
    int rank, flags;
    bool by_request; /* an operation that reads */
} origin_t;

static MPIR_Win *window_of_request(MPIDI_VC_t *vc, MPI_Request handle)
{
    const MPIR_Request *req = MPID_nem_ivshmem_question_find(vc, handle);
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
        return "answers for a window that is not there";
    return MPID_nem_ivshmem_relation_is_target(vc, o->win, o->rank)
               ? NULL
               : "answers for another rank of the window";
}

static MPIDI_RMA_Target_t *find_target(const origin_t *o)
{
    MPIDI_RMA_Target_t *target;

    (void) MPIDI_CH3I_Win_find_target(o->win, o->rank, &target);
    return target;
}

static bool shares_memory(const MPIR_Win *win, int rank)
{
    MPIDI_VC_t *self ATTRIBUTE((unused)), *target ATTRIBUTE((unused));

    if (win->shm_allocated != TRUE)
        return false;
    MPIDI_Comm_get_vc(win->comm_ptr, win->comm_ptr->rank, &self);
    MPIDI_Comm_get_vc(win->comm_ptr, rank, &target);
    return ivshmem_compat_shares(win, self, target);
}

/* Of MPI_Win_lock_all, those who share the window's memory are asked at once, others when needed.
 */
static const char *check_lock_asked(const origin_t *o)
{
    static const char none[] = "answers for a lock that was not asked for";
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

/* The operation that asks for the lock, if it is one; else NULL. */
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

/* A lock is granted, or refused, or will be granted: one of these. */
static const char *check_verdict(int flags, int verdicts)
{
    return (flags & verdicts) == flags && flags != 0 && (flags & (flags - 1)) == 0
               ? NULL
               : "says of a lock what cannot be";
}

/* Once an operation has asked for the lock, the answer is about both. */
static const char *check_lock_ack(const origin_t *o)
{
    const char *why = check_verdict(o->flags, MPIDI_CH3_PKT_FLAG_RMA_LOCK_GRANTED |
                                                  MPIDI_CH3_PKT_FLAG_RMA_LOCK_DISCARDED |
                                                  MPIDI_CH3_PKT_FLAG_RMA_LOCK_QUEUED_DATA_QUEUED);

    if (!why && find_lock_op(o))
        why = "answers for a lock without the operation that asked for it";
    return why ? why : check_lock_asked(o);
}

/* Of an operation that was discarded: it is kept for this word, and told to CH3 by its window. */
static void forget_request(MPIDI_VC_t *vc, const origin_t *o, MPIDI_CH3_Pkt_lock_ack_t *ack)
{
    MPID_nem_ivshmem_question_withdraw(vc, ack->request_handle);
    ack->source_win_handle = o->win->handle;
    ack->request_handle = MPI_REQUEST_NULL;
}

static const char *check_ack(const origin_t *o)
{
    const MPIDI_RMA_Target_t *target = find_target(o);

    return target && target->sync.outstanding_acks > 0 && o->win->outstanding_acks > 0
               ? NULL
               : "acknowledges what does not wait for that";
}

/*
 * The operation is sent again, with another request. If it is to be acknowledged, that will be
 * asked for again. Where its lock is still waited for, a word of that will name its request.
 */
static const char *check_discarded(MPIDI_VC_t *vc, const origin_t *o, const MPIDI_RMA_Op_t *op)
{
    const MPIR_Request *req = op->reqs_size == 1  ? op->single_req
                              : op->reqs_size > 1 ? op->multi_reqs[0]
                                                  : NULL;
    int flags = 0, err ATTRIBUTE((unused));

    MPIDI_CH3_PKT_RMA_GET_FLAGS(op->pkt, flags, err);
    if (req && (o->flags & MPIDI_CH3_PKT_FLAG_RMA_LOCK_DISCARDED))
        MPID_nem_ivshmem_question_withdraw(vc, req->handle);
    else if (req)
        MPID_nem_ivshmem_question_replace(vc, req->handle, MPIDI_CH3_PKT_LOCK_ACK);
fn_fail:
    return flags & (MPIDI_CH3_PKT_FLAG_RMA_FLUSH | MPIDI_CH3_PKT_FLAG_RMA_UNLOCK) ? check_ack(o)
                                                                                  : NULL;
}

/* The operation that asked for the lock has been sent, and its requests are there. */
static const char *check_lock_op_ack(MPIDI_VC_t *vc, const origin_t *o)
{
    const MPIDI_RMA_Op_t *op = find_lock_op(o);
    static const char none[] = "answers for an operation that asked for no lock";

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
    const char *why = check_verdict(o->flags & ~MPIDI_CH3_PKT_FLAG_RMA_ACK,
                                    MPIDI_CH3_PKT_FLAG_RMA_LOCK_GRANTED | DISCARDED |
                                        MPIDI_CH3_PKT_FLAG_RMA_LOCK_QUEUED_DATA_QUEUED);

    if (!why)
        why = check_lock_op_ack(vc, o);
    if (!why && (o->flags & MPIDI_CH3_PKT_FLAG_RMA_ACK))
        why = o->flags & MPIDI_CH3_PKT_FLAG_RMA_LOCK_GRANTED
                  ? check_ack(o)
                  : "acknowledges an operation without its lock";
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

    return t && !t->active && (t->state == IVSHMEM_AWAIT_CTS || t->state == IVSHMEM_SENDING) &&
                   !MPIR_Request_is_complete(t->req)
               ? NULL
               : "asks for data that it was not offered";
}

static const char *check_awaits_done(const MPIDI_VC_t *vc, MPI_Request handle)
{
    const MPID_nem_ivshmem_transfer_t *t = find_transfer(vc, handle);

    return t && !MPIR_Request_is_complete(t->req)
               ? NULL
               : "sent DONE for a transfer that was never offered";
}

/* An unexpected message is put into memory that CH3 allocates, and cannot do without. */
static const char *check_length(intptr_t bytes, bool eager)
{
    if (bytes < 0)
        return "names a negative length";
    if (!eager || bytes <= IVSHMEM_EAGER_USUAL)
        return NULL;
    void *memory = MPL_malloc(bytes, MPL_MEM_OTHER);
    MPL_free(memory);
    return memory ? NULL : "sends at once more than there is memory for";
}

static const char *check_offer(intptr_t cookie_len, size_t len, bool maybe)
{
    return (maybe && cookie_len == 0) || (cookie_len == sizeof(MPID_nem_ivshmem_offer_t) &&
                                          len >= sizeof(MPID_nem_ivshmem_offer_t))
               ? NULL
               : "makes an offer of an unknown form";
}

/* Connections */

static const char *check_close(const MPIDI_VC_t *vc, bool ack)
{
    bool closing = vc->state == MPIDI_VC_STATE_LOCAL_CLOSE;

    return closing || vc->state == (ack ? MPIDI_VC_STATE_CLOSE_ACKED : MPIDI_VC_STATE_ACTIVE)
               ? NULL
               : "closes what is not open";
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
    return "agrees to a connection that was not asked for";
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

/* A send that the peer says to be cancelled must not go on in its memory, or in ours; nor has the
 * peer received it, as far as we have been told. */
static const char *check_cancellable(MPIDI_VC_t *vc, const MPIDI_CH3_Pkt_cancel_send_resp_t *resp)
{
    const MPID_nem_ivshmem_transfer_t *t = find_transfer(vc, resp->sender_req_id);
    const MPIR_Request *req = MPID_nem_ivshmem_question_find(vc, resp->sender_req_id);

    if (!resp->ack)
        return NULL;
    if (t)
        return t->active ? "cancels a message that it is receiving" : NULL;
    bool was_transfer = req && MPIDI_Request_get_msg_type(req) == MPIDI_REQUEST_RNDV_MSG;
    bool was_synchronous =
        req && MPIDI_Request_get_type(req) == MPIDI_REQUEST_TYPE_SSEND &&
        !MPID_nem_ivshmem_question_awaits(vc, req->handle, MPIDI_CH3_PKT_EAGER_SYNC_ACK);
    return was_transfer || was_synchronous ? "cancels a message that it has received" : NULL;
}

static const char *check_from(const MPIDI_VC_t *vc, const rule_t *rule)
{
    bool is_caller = VC_IVSHMEM(vc)->stream != 0;

    if (!rule->name)
        return "sent a packet of an unknown type";
    if (!(rule->from & (is_caller ? FROM_CALLER : FROM_RANK)))
        return "sent a packet that its relation to this process does not allow";
    /* Before both sides have agreed, there is nothing to talk about. */
    if (is_caller && rule->checks[0] != HANDSHAKE && rule->checks[0] != CLOSE_STATE &&
        !VC_IVSHMEM(vc)->met)
        return "sent a message before its call was answered";
    return NULL;
}

const char *MPID_nem_ivshmem_packet_check_all(MPIDI_VC_t *vc, MPIDI_CH3_Pkt_t *pkt, size_t len,
                                              bool *hold)
{
    const rule_t *rule = &rules[pkt->type];
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
                why = "names a length that cannot be";
#endif
            break;
        case OFFER:
            why = check_offer(rts->cookie_len, len, false);
            break;
        case MAYBE_OFFER:
            why = check_offer(cts->cookie_len, len, true);
            break;
        case AWAITS_CTS:
            why = check_awaits_cts(vc, cts->sender_req_id);
            break;
        case AWAITS_DONE:
            why = check_awaits_done(vc, ((const MPID_nem_pkt_lmt_done_t *) pkt)->req_id);
            break;
        case ANSWERS:
            answers = MPID_nem_ivshmem_question_awaits(vc, answered_request(pkt), pkt->type);
            if (!answers)
                why = "answers what it was not asked";
            break;
        case CANCELLABLE:
            why = check_cancellable(vc, &pkt->cancel_send_resp);
            break;
        case WINDOW:
            o = operation_of(pkt);
            win = MPID_nem_ivshmem_relation_find_window(vc, o.window);
            /* CH3 may grant a lock now, and must not to one that it cannot answer. */
            (void) MPID_nem_ivshmem_relation_forget_locks();
            if (win)
                MPID_nem_ivshmem_receiving(vc)->window = o.window;
            else
                why = "names a window that is not there, or of which it is no member";
            break;
        case MEMORY:
            why = check_memory(win, &o, hold);
            MPID_nem_ivshmem_receiving(vc)->touched = touched_by(&o);
            MPID_nem_ivshmem_receiving(vc)->described = o.described;
            break;
        case OPERATION:
            why = check_operation(&o);
            break;
        case EXPOSED:
            if ((o.flags & MPIDI_CH3_PKT_FLAG_RMA_DECR_AT_COUNTER) &&
                !MPID_nem_ivshmem_relation_ends_access(vc, win))
                why = "ends an access that has not begun";
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
        case MEMBER: /* it may be freed here already: CH3 looks, see graft */
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
        MPID_nem_ivshmem_question_answered(vc, answered_request(pkt), pkt->type);
        /* What is cancelled will not be acknowledged any more. */
        if (pkt->type == MPIDI_CH3_PKT_CANCEL_SEND_RESP && pkt->cancel_send_resp.ack)
            MPID_nem_ivshmem_question_withdraw(vc, pkt->cancel_send_resp.sender_req_id);
    }
    return why;
}

/* Whether what has come so far is followed when CH3 goes on, and was not checked with the header.
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
        return "goes on with an operation on a window that is gone";
    if (basic == MPI_DATATYPE_NULL) {
        const char *why = MPID_nem_ivshmem_described_check(
            win, accumulates ? rreq->dev.real_user_buf : rreq->dev.user_buf, rreq->dev.user_count,
            rreq->dev.flattened_type, MPID_nem_ivshmem_receiving(vc)->described, accumulates,
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
               : "goes on with a part of an operation that has no such part";
}
