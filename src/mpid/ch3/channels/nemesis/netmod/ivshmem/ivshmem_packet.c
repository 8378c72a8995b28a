/* SPDX-License-Identifier: mpich2 */
/*
 * The table of packets: for each type that CH3 or Nemesis knows, from whom it is accepted, and
 * which checks it must pass before CH3 sees it, one for each of its fields that CH3 uses. A type
 * without a row is refused. doc/trust.md shows the table, and ivshmem_validate.c carries out the
 * checks. No function here has side effects.
 */
#include "ivshmem_packet.h"

#include "ivshmem_rules.h"

#include "mpid_port.h"

/* All packets with a match have it at the same offset. */
_Static_assert(offsetof(MPIDI_CH3_Pkt_cancel_send_req_t, match) ==
                       offsetof(MPIDI_CH3_Pkt_send_t, match) &&
                   offsetof(MPID_nem_pkt_lmt_rts_t, match) == offsetof(MPIDI_CH3_Pkt_send_t, match),
               "SENDER");

/* Without the padding that the compiler adds behind the last field. */
#define UP_TO(type, last) (offsetof(type, last) + sizeof(((type *) 0)->last))

const MPID_nem_ivshmem_rule_t MPID_nem_ivshmem_packet_rules[MPIDI_CH3_PKT_END_ALL] = {
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
                                       {CANCELLER}},
    [MPIDI_CH3_PKT_CANCEL_SEND_RESP] = {"CANCEL_SEND_RESP",
                                        sizeof(MPIDI_CH3_Pkt_cancel_send_resp_t),
                                        FROM_BOTH,
                                        {ANSWERS, CANCELLABLE}},

    [MPIDI_NEM_PKT_LMT_RTS] = {"LMT_RTS",
                               sizeof(MPID_nem_pkt_lmt_rts_t),
                               FROM_BOTH,
                               {SENDER, LENGTH, COOKIE}},
    [MPIDI_NEM_PKT_LMT_CTS] = {"LMT_CTS",
                               sizeof(MPID_nem_pkt_lmt_cts_t),
                               FROM_BOTH,
                               {AWAITS_CTS, LENGTH, MAYBE_COOKIE}},
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

size_t MPID_nem_ivshmem_packet_header_bytes(int type)
{
    return type >= 0 && type < MPIDI_CH3_PKT_END_ALL ? MPID_nem_ivshmem_packet_rules[type].bytes
                                                     : 0;
}

MPI_Aint MPID_nem_ivshmem_packet_type_size(MPI_Datatype type, MPI_Aint *extent)
{
    MPI_Aint size, unused;

    if (HANDLE_GET_MPI_KIND(type) != MPIR_DATATYPE || !MPIR_DATATYPE_IS_PREDEFINED(type))
        return -1;
    if (HANDLE_IS_BUILTIN(type) ? !ivshmem_compat_is_builtin(type)
                                : HANDLE_GET_KIND(type) != HANDLE_KIND_DIRECT ||
                                      HANDLE_INDEX(type) >= MPIR_DATATYPE_PAIRTYPE)
        return -1;
    MPIR_Datatype_get_size_macro(type, size);
    MPIR_Datatype_get_extent_macro(type, *(extent ? extent : &unused));
    return size;
}

MPI_Aint MPID_nem_ivshmem_packet_true_bytes(MPI_Datatype type, MPI_Aint extent)
{
    MPIR_Datatype *pair;

    if (HANDLE_IS_BUILTIN(type))
        return extent;
    MPIR_Datatype_get_ptr(type, pair);
    return pair->true_ub;
}

MPID_nem_ivshmem_window_op_t MPID_nem_ivshmem_packet_window_op(const MPIDI_CH3_Pkt_t *pkt)
{
    enum {
        ALL = LOCKS | MPIDI_CH3_PKT_FLAG_RMA_UNLOCK | MPIDI_CH3_PKT_FLAG_RMA_FLUSH |
              MPIDI_CH3_PKT_FLAG_RMA_REQ_ACK | MPIDI_CH3_PKT_FLAG_RMA_DECR_AT_COUNTER |
              MPIDI_CH3_PKT_FLAG_RMA_NOCHECK
    };
    const MPI_Aint immediate = sizeof(MPIDI_CH3_RMA_Immed_u);
    MPID_nem_ivshmem_window_op_t o = {
        .source = MPI_WIN_NULL, .op = MPI_OP_NULL, .room = -1, .flags_allowed = ALL};

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
        o.flattened_bytes = pkt->put.info.flattened_type_size;
        break;
    case MPIDI_CH3_PKT_GET:
        TAKE_MEMORY(pkt->get, pkt->get.count);
        o.room = o.flags & MPIDI_CH3_PKT_FLAG_RMA_IMMED_RESP ? immediate : -1;
        o.flags_allowed |= MPIDI_CH3_PKT_FLAG_RMA_IMMED_RESP;
        o.flattened_bytes = pkt->get.info.flattened_type_size;
        break;
    case MPIDI_CH3_PKT_ACCUMULATE:
    case MPIDI_CH3_PKT_ACCUMULATE_IMMED:
        TAKE_MEMORY(pkt->accum, pkt->accum.count);
        o.source = pkt->accum.source_win_handle;
        o.writes = true;
        o.op = pkt->accum.op;
        o.room = pkt->type == MPIDI_CH3_PKT_ACCUMULATE_IMMED ? immediate : -1;
        o.flags_allowed |= o.room < 0 ? MPIDI_CH3_PKT_FLAG_RMA_STREAM : 0;
        o.flattened_bytes = pkt->accum.info.flattened_type_size;
        break;
    case MPIDI_CH3_PKT_GET_ACCUM:
    case MPIDI_CH3_PKT_GET_ACCUM_IMMED:
        TAKE_MEMORY(pkt->get_accum, pkt->get_accum.count);
        o.op = pkt->get_accum.op;
        o.room = pkt->type == MPIDI_CH3_PKT_GET_ACCUM_IMMED ? immediate : -1;
        o.flags_allowed |= o.room < 0 ? MPIDI_CH3_PKT_FLAG_RMA_STREAM : 0;
        o.flattened_bytes = pkt->get_accum.info.flattened_type_size;
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

MPID_nem_ivshmem_range_t MPID_nem_ivshmem_packet_touched(const MPID_nem_ivshmem_window_op_t *o)
{
    MPI_Aint extent, size = MPID_nem_ivshmem_packet_type_size(o->type, &extent);
    intptr_t start = (intptr_t) o->addr, end = start;

    if (size > 0 && o->count > 0 && o->count <= BYTES_MAX / extent)
        (void) __builtin_add_overflow(
            start, (o->count - 1) * extent + MPID_nem_ivshmem_packet_true_bytes(o->type, extent),
            &end);
    return (MPID_nem_ivshmem_range_t){start, end};
}

MPID_nem_ivshmem_range_t MPID_nem_ivshmem_packet_touches(const MPIDI_CH3_Pkt_t *pkt)
{
    const MPID_nem_ivshmem_window_op_t o = MPID_nem_ivshmem_packet_window_op(pkt);
    return MPID_nem_ivshmem_packet_touched(&o);
}
