/* SPDX-License-Identifier: mpich2 */
/*
 * forged CASE
 *
 * A job of three: rank 1 is hostile, and sends rank 0 one packet that is well-formed, at the very
 * moment at which no lawful peer could send it; rank 2 is there for what needs a third. Where
 * `within` finds such a moment by chance, this is it. "list" lists the cases. What they do not
 * know of each other they say through the file HOSTILE_DIR/forged.
 *
 * Rank 0 says "unharmed" at the end. It may have seen errors, and nothing worse.
 */
#define _GNU_SOURCE
#include "packets.h"

#include "dataloop_internal.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <sanitizer/asan_interface.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LARGE = 200000, CUT = 20000, PATIENCE = 15, TAG = 5, WINDOW = 1 << 20, SHORTS = 40000 };

static struct said {
    atomic_int stage;
    atomic_uint handle; /* of a request, or of rank 0's window */
    atomic_ullong base; /* of that */
    atomic_uint sent;   /* messages, by rank 1 to rank 0 */
} * said;
static int rank;
static unsigned char *buf;
static MPIDI_VC_t *peer; /* rank 0's connection with rank 1, or another's with rank 0 */
static MPI_Win win;

static void reach(int stage)
{
    atomic_store(&said->stage, stage);
}

/* Without a turn of the progress engine. */
static void await(int stage)
{
    for (int i = 0; atomic_load(&said->stage) < stage; i++) {
        if (i > PATIENCE * 1000) {
            printf("rank %d: stage %d was not reached\n", rank, stage);
            fflush(NULL);
            _exit(1);
        }
        usleep(1000);
    }
}

static void turn(void)
{
    int flag;
    (void) MPI_Iprobe(MPI_ANY_SOURCE, 7777, MPI_COMM_SELF, &flag, MPI_STATUS_IGNORE);
}

static void turns(double seconds)
{
    for (double end = MPI_Wtime() + seconds; MPI_Wtime() < end;)
        turn();
}

/* A header and some data, in as many cells as that takes. */
static void send_raw(void *packet, size_t len, const void *data, size_t more)
{
    struct ivshm_channel *channel = VC_IVSHMEM(peer)->channel;
    struct ivshm_outgoing out;

    for (size_t sent = 0, total = len + more, n; sent < total; sent += n) {
        while (ivshm_cell_reserve(&MPID_nem_ivshmem.transport, channel,
                                  sent == 0 && len + 4000 < total ? len + 4000 : total - sent, 0,
                                  &out) != 0)
            turn();
        n = MPL_MIN((size_t) out.capacity, total - sent);
        for (size_t i = 0; i < n; i++, sent++)
            out.payload[i] = sent < len ? ((unsigned char *) packet)[sent]
                                        : ((const unsigned char *) data)[sent - len];
        sent -= n;
        ivshm_cell_publish(&MPID_nem_ivshmem.transport, channel, &out, (uint32_t) n);
    }
    ivshm_transport_flush(&MPID_nem_ivshmem.transport);
}

static void send_header(MPIDI_CH3_Pkt_t *pkt)
{
    send_raw(pkt, MPID_nem_ivshmem_header_bytes((int) pkt->type), NULL, 0);
}

/* A message of several pieces, of which the first is sent, and then the sender dies. */
static void send_first_piece(void)
{
    MPIDI_CH3_Pkt_t pkt;
    MPIR_Comm *world;

    MPIR_Comm_get_ptr(MPI_COMM_WORLD, world);
    MPIDI_Pkt_init(&pkt.eager_send, MPIDI_CH3_PKT_EAGER_SEND);
    pkt.eager_send.match.parts.rank = rank;
    pkt.eager_send.match.parts.tag = TAG;
    pkt.eager_send.match.parts.context_id = world->context_id;
    pkt.eager_send.data_sz = CUT;
    pkt.eager_send.sender_req_id = MPI_REQUEST_NULL;
    send_raw(&pkt, sizeof(pkt.eager_send), buf, 1000);
}

/* What is left of CUT bytes behind those. */
static void send_rest(void)
{
    for (size_t sent = 1000, n; sent < CUT; sent += n)
        send_raw(buf, n = MPL_MIN(4000, CUT - sent), NULL, 0);
}

static void die(void)
{
    await(1);
    send_first_piece();
    await(2);
    kill(getpid(), SIGKILL);
}

/* Until the connection has failed. */
static void outlive(void)
{
    reach(2);
    for (double end = MPI_Wtime() + 10; VC_IVSHMEM(peer)->channel && MPI_Wtime() < end;)
        turn();
}

static void violation(const char *what)
{
    printf("VIOLATION: %s\n", what);
    fflush(NULL);
    _exit(1);
}

static void must_fail(const char *call, int err)
{
    if (err == MPI_SUCCESS) {
        printf("%s succeeds\n", call);
        violation("a message that is not there is received");
    }
}

static void probe(void)
{
    int flag = 0;

    reach(1);
    while (!flag)
        MPI_Iprobe(1, TAG, MPI_COMM_WORLD, &flag, MPI_STATUS_IGNORE);
}

static void cut_recv(void)
{
    if (rank == 1)
        die();
    probe();
    outlive();
    must_fail("MPI_Recv", MPI_Recv(buf, CUT, MPI_BYTE, 1, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE));
}

static void cut_irecv(void)
{
    MPI_Request req = MPI_REQUEST_NULL;

    if (rank == 1)
        die();
    probe();
    outlive();
    int err = MPI_Irecv(buf, CUT, MPI_BYTE, 1, TAG, MPI_COMM_WORLD, &req);
    must_fail("MPI_Irecv", err ? err : MPI_Wait(&req, MPI_STATUS_IGNORE));
}

/* Met by its receive before the sender dies. */
static void cut_met(void)
{
    MPI_Request req = MPI_REQUEST_NULL;

    if (rank == 1)
        die();
    probe();
    MPI_Irecv(buf, CUT, MPI_BYTE, 1, TAG, MPI_COMM_WORLD, &req);
    outlive();
    must_fail("MPI_Wait", MPI_Wait(&req, MPI_STATUS_IGNORE));
}

static void cut_matched(bool blocking)
{
    MPI_Request req = MPI_REQUEST_NULL;
    MPI_Message message;
    int flag = 0, err;

    if (rank == 1)
        die();
    reach(1);
    while (!flag)
        MPI_Improbe(1, TAG, MPI_COMM_WORLD, &flag, &message, MPI_STATUS_IGNORE);
    outlive();
    if (blocking) {
        err = MPI_Mrecv(buf, CUT, MPI_BYTE, &message, MPI_STATUS_IGNORE);
    } else {
        err = MPI_Imrecv(buf, CUT, MPI_BYTE, &message, &req);
        err = err ? err : MPI_Wait(&req, MPI_STATUS_IGNORE);
    }
    must_fail("receiving a matched message", err);
}

static void cut_mrecv(void)
{
    cut_matched(true);
}

static void cut_imrecv(void)
{
    cut_matched(false);
}

/* An earlier message that is all there is not the one that is dropped. */
static void cut_behind(void)
{
    if (rank == 1) {
        MPI_Send(buf, CUT, MPI_BYTE, 0, TAG, MPI_COMM_WORLD);
        die();
    }
    probe();
    outlive();
    if (MPI_Recv(buf, CUT, MPI_BYTE, 1, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE) != MPI_SUCCESS)
        violation("MPI_Recv of a message that was all there fails");
    must_fail("MPI_Recv", MPI_Recv(buf, CUT, MPI_BYTE, 1, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE));
}

/* A large message has been received, and the answer to its cancellation says that it has not. */
static void cancel(void)
{
    MPI_Request req;
    int flag = 0;

    if (rank == 1) {
        MPIDI_CH3_Pkt_t pkt;
        MPI_Recv(buf, LARGE, MPI_BYTE, 0, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        turns(0.1);
        reach(1);
        await(2);
        MPIDI_Pkt_init(&pkt.cancel_send_resp, MPIDI_CH3_PKT_CANCEL_SEND_RESP);
        pkt.cancel_send_resp.sender_req_id = (MPI_Request) atomic_load(&said->handle);
        pkt.cancel_send_resp.ack = TRUE;
        send_header(&pkt);
        return;
    }
    MPI_Isend(buf, LARGE, MPI_BYTE, 1, TAG, MPI_COMM_WORLD, &req);
    while (!flag)
        MPI_Request_get_status(req, &flag, MPI_STATUS_IGNORE);
    await(1);
    MPI_Cancel(&req);
    atomic_store(&said->handle, (unsigned) req);
    reach(2);
    MPI_Wait(&req, MPI_STATUS_IGNORE);
}

/* The receiver is done with a message before it has heard of it: its RTS waits for a cell. */
static void done_early(void)
{
    enum { SMALL = 1000, MANY = 100000 };
    static MPI_Request small[MANY];
    MPI_Request req;
    int n = 0;

    if (rank == 1) {
        MPIDI_CH3_Pkt_t pkt;
        await(1);
        MPIDI_Pkt_init((MPID_nem_pkt_lmt_done_t *) &pkt, MPIDI_NEM_PKT_LMT_DONE);
        ((MPID_nem_pkt_lmt_done_t *) &pkt)->req_id = (MPI_Request) atomic_load(&said->handle);
        send_header(&pkt);
        await(2);
        turns(2);
        return;
    }
    while (n < MANY && !VC_IVSHMEM(peer)->sendq.head)
        MPI_Isend(buf, SMALL, MPI_BYTE, 1, TAG, MPI_COMM_WORLD, &small[n++]);
    MPI_Isend(buf, LARGE, MPI_BYTE, 1, TAG, MPI_COMM_WORLD, &req);
    atomic_store(&said->handle, (unsigned) req);
    reach(1);
    MPI_Wait(&req, MPI_STATUS_IGNORE);
    reach(2);
    for (double end = MPI_Wtime() + 4;
         VC_IVSHMEM(peer)->channel && VC_IVSHMEM(peer)->sendq.head && MPI_Wtime() < end;)
        turn();
}

static void make_window(void)
{
    static char *memory;

    memory = calloc(1, WINDOW);
    MPI_Win_create(memory, WINDOW, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    MPI_Win_set_errhandler(win, MPI_ERRORS_RETURN);
    if (rank == 0) {
        atomic_store(&said->handle, (unsigned) win);
        atomic_store(&said->base, (unsigned long long) (uintptr_t) memory);
    }
    MPI_Barrier(MPI_COMM_WORLD);
}

/* Answers to a request for a lock of rank 1's window, of those that no target gives. */
static void answer_lock(int type, int flags)
{
    MPIDI_CH3_Pkt_t pkt;

    await(1);
    if (type == MPIDI_CH3_PKT_LOCK_ACK) {
        MPIDI_Pkt_init(&pkt.lock_ack, MPIDI_CH3_PKT_LOCK_ACK);
        pkt.lock_ack.source_win_handle = (MPI_Win) atomic_load(&said->handle);
        pkt.lock_ack.request_handle = MPI_REQUEST_NULL;
        pkt.lock_ack.target_rank = 1;
        pkt.lock_ack.pkt_flags = flags;
    } else {
        MPIDI_Pkt_init(&pkt.lock_op_ack, MPIDI_CH3_PKT_LOCK_OP_ACK);
        pkt.lock_op_ack.source_win_handle = (MPI_Win) atomic_load(&said->handle);
        pkt.lock_op_ack.request_handle = MPI_REQUEST_NULL;
        pkt.lock_op_ack.target_rank = 1;
        pkt.lock_op_ack.pkt_flags = flags;
    }
    for (int i = 0; i < 100; i++) {
        send_header(&pkt);
        usleep(2000);
    }
    turns(3);
}

/* Rank 0 waits for a lock, with operations for two targets. */
static void want_lock(bool all)
{
    reach(1);
    if (all) {
        MPI_Win_lock_all(0, win);
    } else {
        MPI_Win_lock(MPI_LOCK_SHARED, 1, 0, win);
        MPI_Win_lock(MPI_LOCK_SHARED, 2, 0, win);
    }
    for (int i = 0; i < 3; i++)
        for (int to = 1; to < 3; to++)
            MPI_Put(buf, 8, MPI_BYTE, to, i * 8, 8, MPI_BYTE, win);
    if (all) {
        MPI_Win_unlock_all(win);
    } else {
        MPI_Win_unlock(1, win);
        MPI_Win_unlock(2, win);
    }
}

static void lock(int type, int flags, bool all)
{
    make_window();
    if (rank == 1)
        answer_lock(type, flags);
    else if (rank == 0)
        want_lock(all);
    else
        turns(3);
}

enum {
    GRANTED = MPIDI_CH3_PKT_FLAG_RMA_LOCK_GRANTED,
    DISCARDED = MPIDI_CH3_PKT_FLAG_RMA_LOCK_DISCARDED
};

static void lock_both(void)
{
    lock(MPIDI_CH3_PKT_LOCK_ACK, GRANTED | DISCARDED, false);
}

static void lock_all_both(void)
{
    lock(MPIDI_CH3_PKT_LOCK_ACK, GRANTED | DISCARDED, true);
}

static void lock_refused(void)
{
    lock(MPIDI_CH3_PKT_LOCK_ACK, DISCARDED, false);
}

static void lock_all_refused(void)
{
    lock(MPIDI_CH3_PKT_LOCK_ACK, DISCARDED, true);
}

static void lock_op_both(void)
{
    lock(MPIDI_CH3_PKT_LOCK_OP_ACK, GRANTED | DISCARDED, false);
}

static void lock_op_refused(void)
{
    lock(MPIDI_CH3_PKT_LOCK_OP_ACK, DISCARDED, true);
}

/* The first part of a large accumulate of pairs with a gap, which waits for a lock. */
static void lock_stream(void)
{
    make_window();
    if (rank == 1) {
        MPIDI_CH3_Pkt_t pkt;
        MPI_Aint size, extent;
        MPIDI_CH3_Ext_pkt_stream_t stream = {0};
        size = MPID_nem_ivshmem_packet_type_size(MPI_SHORT_INT, &extent);
        size_t bytes = (size_t) (MPIDI_CH3U_SRBuf_size / extent * size) + sizeof(stream);
        unsigned char *data = calloc(1, bytes);
        await(1);
        MPIDI_Pkt_init(&pkt.accum, MPIDI_CH3_PKT_ACCUMULATE);
        pkt.accum.pkt_flags = MPIDI_CH3_PKT_FLAG_RMA_LOCK_SHARED | MPIDI_CH3_PKT_FLAG_RMA_STREAM;
        pkt.accum.addr = (void *) (uintptr_t) atomic_load(&said->base);
        pkt.accum.count = SHORTS;
        pkt.accum.datatype = MPI_SHORT_INT;
        pkt.accum.op = MPI_REPLACE;
        pkt.accum.target_win_handle = (MPI_Win) atomic_load(&said->handle);
        pkt.accum.source_win_handle = win;
        send_raw(&pkt, MPID_nem_ivshmem_header_bytes(MPIDI_CH3_PKT_ACCUMULATE), data, bytes);
        free(data);
        turns(1);
        return;
    }
    if (rank == 2)
        return;
    MPI_Win_lock(MPI_LOCK_EXCLUSIVE, 0, 0, win);
    MPI_Put(buf, 8, MPI_BYTE, 0, 0, 8, MPI_BYTE, win);
    MPI_Win_flush(0, win);
    reach(1);
    turns(1);
    MPI_Win_unlock(0, win);
    turns(1);
}

/* Two say to be the same rank of a communicator that rank 0 has not made yet. */
static void claims(void)
{
    MPIDI_CH3_Pkt_t pkt;
    MPIR_Comm *world;

    MPIR_Comm_get_ptr(MPI_COMM_WORLD, world);
    MPIDI_Pkt_init(&pkt.eager_send, MPIDI_CH3_PKT_EAGER_SEND);
    pkt.eager_send.match.parts.rank = 2;
    pkt.eager_send.match.parts.tag = TAG;
    pkt.eager_send.match.parts.context_id = world->context_id + (20 << MPIR_CONTEXT_PREFIX_SHIFT);
    pkt.eager_send.data_sz = CUT;
    pkt.eager_send.sender_req_id = MPI_REQUEST_NULL;
    if (rank == 2) { /* half of it; its end, when the other has called it back */
        send_raw(&pkt, sizeof(pkt.eager_send), buf, 1000);
        turns(0.3);
        reach(1);
        await(2);
        send_rest();
        reach(3);
        turns(1);
    } else if (rank == 1) {
        await(1);
        MPIDI_CH3_Pkt_t cancelled;
        MPIDI_Pkt_init(&cancelled.cancel_send_req, MPIDI_CH3_PKT_CANCEL_SEND_REQ);
        cancelled.cancel_send_req.match = pkt.eager_send.match;
        cancelled.cancel_send_req.sender_req_id = MPI_REQUEST_NULL;
        send_header(&cancelled);
        turns(0.3);
        reach(2);
    } else {
        while (atomic_load(&said->stage) < 3)
            turn();
        turns(0.5);
        if (VC_IVSHMEM(peer)->given_up)
            violation("of two that say to be a rank, one was believed");
    }
}

/* Takes all that comes, as somebody would who does not look what it is. */
static void swallow(double seconds)
{
    struct ivshm_incoming in;
    struct ivshm_diag diag;

    for (double end = MPI_Wtime() + seconds; MPI_Wtime() < end;)
        if (ivshm_receive(&MPID_nem_ivshmem.transport, &in, &diag) == 1)
            ivshm_hand_back(&in);
}

/* A window over all memory that rank 0 attaches; with a gap, of that between nobody may read. */
static unsigned char *attached;
enum { ATTACHED = 1 << 16 };

static void make_dynamic_window(bool gap)
{
    MPI_Win_create_dynamic(MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    MPI_Win_set_errhandler(win, MPI_ERRORS_RETURN);
    if (rank == 0) {
        attached = calloc(1, 3 * ATTACHED);
        memset(attached + ATTACHED, 'x', ATTACHED);
        MPI_Win_attach(win, attached, gap ? ATTACHED : 3 * ATTACHED);
        if (gap) {
            MPI_Win_attach(win, attached + 2 * ATTACHED, ATTACHED);
            __asan_poison_memory_region(attached + ATTACHED, ATTACHED);
        }
        atomic_store(&said->handle, (unsigned) win);
        atomic_store(&said->base, (unsigned long long) (uintptr_t) attached);
    }
    MPI_Barrier(MPI_COMM_WORLD);
}

static void *target(MPI_Aint offset)
{
    return (void *) (uintptr_t) (atomic_load(&said->base) + (unsigned long long) offset);
}

/* MPICH's own, of which `change` makes another one. */
static void *describe(MPI_Datatype type, int *len)
{
    MPIR_Datatype *ptr;

    MPI_Type_commit(&type);
    MPIR_Datatype_get_ptr(type, ptr);
    MPIR_Typerep_flatten_size(ptr, len);
    void *description = calloc(1, (size_t) *len);
    MPIR_Typerep_flatten(ptr, description);
    return description;
}

/* The loops are behind the type's header and their own. */
static MPII_Dataloop *loop_of(void *description)
{
    return (MPII_Dataloop *) ((char *) description + 80);
}

static int *is_contig_of(void *description)
{
    return (int *) ((char *) description + 48);
}

/* A get-accumulate that changes nothing, into a request that rank 1 does not have. */
static void read_described(void *description, int len, bool streams)
{
    MPIDI_CH3_Pkt_t pkt;
    unsigned char behind[4000];
    size_t n = 0;

    MPIDI_Pkt_init(&pkt.get_accum, MPIDI_CH3_PKT_GET_ACCUM);
    pkt.get_accum.pkt_flags = streams ? MPIDI_CH3_PKT_FLAG_RMA_STREAM : MPIDI_CH3_PKT_FLAG_NONE;
    pkt.get_accum.addr = target(0);
    pkt.get_accum.count = 1;
    pkt.get_accum.datatype = MPI_DATATYPE_NULL;
    pkt.get_accum.info.flattened_type_size = len;
    pkt.get_accum.op = MPI_NO_OP;
    pkt.get_accum.request_handle = MPI_REQUEST_NULL;
    pkt.get_accum.target_win_handle = (MPI_Win) atomic_load(&said->handle);
    MPIR_Datatype *type;
    MPI_Datatype any;
    MPI_Type_vector(2, 1, 2, MPI_BYTE, &any); /* some handle of a derived type */
    MPI_Type_commit(&any);
    MPIR_Datatype_get_ptr(any, type);
    pkt.get_accum.datatype = type->handle;
    if (streams) {
        MPIDI_CH3_Ext_pkt_stream_t stream = {.stream_offset = 1};
        memcpy(behind, &stream, sizeof(stream));
        n = sizeof(stream);
    }
    memcpy(behind + n, description, (size_t) len);
    send_raw(&pkt, MPID_nem_ivshmem_header_bytes(MPIDI_CH3_PKT_GET_ACCUM), behind,
             n + (size_t) len);
    turns(1);
}

/* Elements that are said to be further apart than they are long. */
static void extent(void)
{
    MPI_Datatype type;
    int len;

    make_dynamic_window(false);
    if (rank == 1) {
        MPI_Type_contiguous(ATTACHED, MPI_BYTE, &type);
        char *description = describe(type, &len);
        loop_of(description)->el_extent = (MPI_Aint) 1 << 40;
        *is_contig_of(description) = 0;
        read_described(description, len, true);
        return;
    }
    turns(1);
}

/* Pieces that overlap, and make up for those that are missing. */
static void gap(void)
{
    MPI_Datatype type;
    int len;

    make_dynamic_window(true);
    if (rank == 1) {
        const int bytes[] = {ATTACHED, ATTACHED, ATTACHED};
        const int at[] = {0, 0, 2 * ATTACHED};
        MPI_Type_indexed(3, bytes, at, MPI_BYTE, &type);
        char *description = describe(type, &len);
        *is_contig_of(description) = 1;
        read_described(description, len, false);
        return;
    }
    turns(1);
}

static MPIDI_CH3_Pkt_t put_packet(int bytes, int flags)
{
    MPIDI_CH3_Pkt_t pkt;

    MPIDI_Pkt_init(&pkt.put, MPIDI_CH3_PKT_PUT);
    pkt.put.pkt_flags = flags;
    pkt.put.addr = target(0);
    pkt.put.count = bytes;
    pkt.put.datatype = MPI_BYTE;
    pkt.put.target_win_handle = (MPI_Win) atomic_load(&said->handle);
    pkt.put.source_win_handle = win;
    pkt.put.info.flattened_type_size = 0;
    return pkt;
}

static void detach(void)
{
    MPI_Win_detach(win, attached);
    __asan_poison_memory_region(attached, 3 * ATTACHED);
}

/* The memory is the program's again, and half of an operation on it has come. */
static void detached_put(void)
{
    make_dynamic_window(false);
    if (rank == 1) {
        MPIDI_CH3_Pkt_t pkt = put_packet(CUT, MPIDI_CH3_PKT_FLAG_NONE);
        send_raw(&pkt, MPID_nem_ivshmem_header_bytes(MPIDI_CH3_PKT_PUT), buf, 1000);
        turns(0.3);
        reach(1);
        await(2);
        send_rest();
        turns(0.5);
        reach(3);
        return;
    }
    while (rank == 0 && atomic_load(&said->stage) < 1)
        turn();
    if (rank == 0) {
        detach();
        reach(2);
    }
    while (atomic_load(&said->stage) < 3)
        turn();
}

/* The same, and an operation waits for a lock. */
static void detached_queued(void)
{
    make_dynamic_window(false);
    if (rank == 1) {
        await(1);
        MPIDI_CH3_Pkt_t pkt = put_packet(1000, MPIDI_CH3_PKT_FLAG_RMA_LOCK_SHARED);
        send_raw(&pkt, MPID_nem_ivshmem_header_bytes(MPIDI_CH3_PKT_PUT), buf, 1000);
        turns(0.3);
        reach(2);
        return;
    }
    if (rank == 2) {
        while (atomic_load(&said->stage) < 3)
            turn();
        return;
    }
    MPI_Win_lock(MPI_LOCK_EXCLUSIVE, 0, 0, win);
    MPI_Put(buf, 8, MPI_BYTE, 0, (MPI_Aint) (uintptr_t) attached, 8, MPI_BYTE, win);
    MPI_Win_flush(0, win);
    reach(1);
    while (atomic_load(&said->stage) < 2)
        turn();
    turns(0.3);
    detach();
    MPI_Win_unlock(0, win);
    turns(0.3);
    reach(3);
}

/* The same, and the answer to a get is still being sent from there. */
static void detached_answer(void)
{
    make_dynamic_window(false);
    if (rank == 1) {
        MPIDI_CH3_Pkt_t pkt;
        MPIDI_Pkt_init(&pkt.get, MPIDI_CH3_PKT_GET);
        pkt.get.pkt_flags = MPIDI_CH3_PKT_FLAG_NONE;
        pkt.get.addr = target(0);
        pkt.get.count = ATTACHED;
        pkt.get.datatype = MPI_BYTE;
        pkt.get.request_handle = MPI_REQUEST_NULL;
        pkt.get.target_win_handle = (MPI_Win) atomic_load(&said->handle);
        pkt.get.info.flattened_type_size = 0;
        for (int i = 0; i < 20; i++)
            send_header(&pkt);
        atomic_store(&said->sent, VC_IVSHMEM(peer)->channel->sent);
        reach(1);
        await(2); /* without a look at what comes */
        swallow(1);
        reach(3);
        return;
    }
    if (rank == 0) {
        /* Until all of them are taken: one that comes later names memory that is closed. */
        while (atomic_load(&said->stage) < 1 ||
               VC_IVSHMEM(peer)->channel->received != atomic_load(&said->sent))
            turn();
        if (VC_IVSHMEM(peer)->given_up || !VC_IVSHMEM(peer)->sendq.head)
            violation("no answer waits to be sent");
        detach();
        reach(2);
    }
    while (atomic_load(&said->stage) < 3)
        turn();
}

/*
 * Calls: rank 1 connects to a port of rank 0's by MPI_Comm_connect, and one of the messages in
 * which it says who it is is changed on its way out.
 */

enum { SIZES, JOB_LENGTH, JOB, RANKS, LAST };

static struct {
    bool active;
    int message, word, value; /* what is changed; the word -1: all that is no letter */
    bool again;               /* and, before the last one, the first comes again */
    int sent;
    unsigned char first[200];
    uint32_t first_len, ranks_at; /* in that, the number of ranks */
} forgery;

void ivshm_cell_publish(struct ivshm_transport *t, struct ivshm_channel *channel,
                        const struct ivshm_outgoing *out, uint32_t len)
{
    static void (*real)(struct ivshm_transport *, struct ivshm_channel *,
                        const struct ivshm_outgoing *, uint32_t);
    MPIDI_CH3_Pkt_t *pkt = (MPIDI_CH3_Pkt_t *) out->payload;
    bool is_short = len >= sizeof(pkt->eager_send) && pkt->type == MPIDI_CH3_PKT_EAGERSHORT_SEND;
    struct ivshm_outgoing extra;

    if (!real)
        real = (void (*)(struct ivshm_transport *, struct ivshm_channel *,
                         const struct ivshm_outgoing *, uint32_t)) dlsym(RTLD_NEXT,
                                                                         "ivshm_cell_publish");
    if (forgery.active && out->stream &&
        (is_short || (len >= sizeof(pkt->eager_send) && pkt->type == MPIDI_CH3_PKT_EAGER_SEND))) {
        unsigned char *data = is_short ? (unsigned char *) pkt->eagershort_send.data
                                       : out->payload + sizeof(pkt->eager_send);
        if (forgery.sent == SIZES) {
            forgery.first_len = MPL_MIN(len, sizeof(forgery.first));
            memcpy(forgery.first, out->payload, forgery.first_len);
            forgery.ranks_at = (uint32_t) (data - out->payload) + 4;
        }
        if (forgery.sent == forgery.message && forgery.word >= 0)
            memcpy(data + forgery.word * 4, &forgery.value, 4);
        for (unsigned char *at = data;
             forgery.sent == forgery.message && forgery.word < 0 && at < out->payload + len; at++)
            if (!*at)
                *at = 'x';
        if (forgery.sent++ == LAST && forgery.again) {
            forgery.active = false;
            real(t, channel, out, len);
            if (ivshm_cell_reserve(t, channel, forgery.first_len, out->stream, &extra) == 0) {
                memcpy(extra.payload, forgery.first, forgery.first_len);
                extra.payload[forgery.ranks_at] = 0xff;
                real(t, channel, &extra, forgery.first_len);
            }
            return;
        }
    }
    real(t, channel, out, len);
}

static bool call(void)
{
    static char port[MPI_MAX_PORT_NAME];
    MPI_Comm comm;
    int err;

    if (rank == 0) {
        if (!port[0])
            MPI_Open_port(MPI_INFO_NULL, port);
        MPI_Send(port, MPI_MAX_PORT_NAME, MPI_CHAR, 1, TAG, MPI_COMM_WORLD);
        err = MPI_Comm_accept(port, MPI_INFO_NULL, 0, MPI_COMM_SELF, &comm);
    } else {
        MPI_Recv(port, MPI_MAX_PORT_NAME, MPI_CHAR, 0, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        err = MPI_Comm_connect(port, MPI_INFO_NULL, 0, MPI_COMM_SELF, &comm);
    }
    return err == MPI_SUCCESS;
}

static void forge(int message, int word, int value)
{
    forgery.message = message;
    forgery.word = word;
    forgery.value = value;
    forgery.active = rank == 1;
    if (call() && rank == 0)
        violation("MPI_Comm_accept believes what cannot be");
}

static void call_no_jobs(void)
{
    forge(SIZES, 0, 0);
}

static void call_many_jobs(void)
{
    forge(SIZES, 0, 1 << 28);
}

static void call_many_ranks(void)
{
    forge(SIZES, 1, 1 << 29);
}

static void call_negative_job(void)
{
    forge(JOB_LENGTH, 0, -1);
}

static void call_long_job(void)
{
    forge(JOB_LENGTH, 0, 1 << 30);
}

static void call_job_without_end(void)
{
    forge(JOB, -1, 0);
}

static void call_unknown_job(void)
{
    forge(RANKS, 0, 1 << 24);
}

static void call_unknown_rank(void)
{
    forge(RANKS, 1, -(1 << 24));
}

/* Rank 0's own, of the job that both are of. */
static void call_own_rank(void)
{
    forge(RANKS, 1, 0);
}

/* What one caller leaves behind is not the next one's. */
static void call_leftover(void)
{
    forgery.message = -1;
    forgery.again = forgery.active = rank == 1;
    bool first = call(), second = call();
    if (rank == 0 && !(first && second))
        violation("a call fails for what an earlier one left behind");
}

/* In one cell; unlike send_raw without a turn, in which the answers would come. */
static void say_on(uint32_t stream, const void *bytes, size_t len)
{
    struct ivshm_transport *t = &MPID_nem_ivshmem.transport;
    struct ivshm_channel *channel = VC_IVSHMEM(peer)->channel;
    struct ivshm_outgoing out;

    while (ivshm_cell_reserve(t, channel, len, stream, &out) != 0)
        usleep(100);
    memcpy(out.payload, bytes, len);
    ivshm_cell_publish(t, channel, &out, (uint32_t) len);
    ivshm_transport_flush(t);
}

/* Who calls, hangs up, and then neither answers nor gives back a cell holds up nobody. */
static void call_and_keep(void)
{
    MPI_Status status;

    if (rank == 0) {
        char port[MPI_MAX_PORT_NAME];
        int tag;
        MPI_Open_port(MPI_INFO_NULL, port);
        MPIDI_GetTagFromPort(port, &tag);
        atomic_store(&said->handle, (unsigned) tag);
        reach(1);
        while (atomic_load(&said->stage) < 2)
            turn();
        MPI_Close_port(port);
        reach(3);
    } else if (rank == 1) {
        MPIDI_CH3_Pkt_t pkt;
        MPIDI_Pkt_init(&pkt.close, MPIDI_CH3_PKT_CLOSE);
        pkt.close.ack = FALSE;
        await(1);
        for (uint32_t n = 1; n <= 1000; n++) {
            uint32_t stream = (uint32_t) atomic_load(&said->handle) << 16 | n;
            say_on(stream, NULL, 0);
            say_on(stream, &pkt, sizeof(pkt.close));
        }
        reach(2);
        return;
    } else {
        await(3);
    }
    for (int n = 0; n < 100; n++)
        MPI_Sendrecv_replace(buf, CUT, MPI_BYTE, 2 - rank, TAG, 2 - rank, TAG, MPI_COMM_WORLD,
                             &status);
}

static const struct {
    const char *name;
    void (*run)(void);
    int ranks;
    bool waits; /* lawfully: for the lock of one that lies, or his part of a call */
} cases[] = {
    {"cut-recv", cut_recv, 2, false},
    {"cut-irecv", cut_irecv, 2, false},
    {"cut-met", cut_met, 2, false},
    {"cut-mrecv", cut_mrecv, 2, false},
    {"cut-imrecv", cut_imrecv, 2, false},
    {"cut-behind", cut_behind, 2, false},
    {"cancel", cancel, 2, false},
    {"claims", claims, 3, false},
    {"done-early", done_early, 2, false},
    {"lock-both", lock_both, 3, true},
    {"lock-all-both", lock_all_both, 3, true},
    {"lock-refused", lock_refused, 3, true},
    {"lock-all-refused", lock_all_refused, 3, true},
    {"lock-op-both", lock_op_both, 3, true},
    {"lock-op-refused", lock_op_refused, 3, true},
    {"lock-stream", lock_stream, 3, true},
    {"extent", extent, 3, false},
    {"gap", gap, 3, false},
    {"detached-put", detached_put, 3, false},
    {"detached-queued", detached_queued, 3, false},
    {"detached-answer", detached_answer, 3, false},
    {"call-no-jobs", call_no_jobs, 2, true},
    {"call-many-jobs", call_many_jobs, 2, true},
    {"call-many-ranks", call_many_ranks, 2, true},
    {"call-negative-job", call_negative_job, 2, true},
    {"call-long-job", call_long_job, 2, true},
    {"call-job-without-end", call_job_without_end, 2, true},
    {"call-unknown-job", call_unknown_job, 2, true},
    {"call-unknown-rank", call_unknown_rank, 2, true},
    {"call-own-rank", call_own_rank, 2, true},
    {"call-leftover", call_leftover, 2, false},
    {"call-and-keep", call_and_keep, 3, false},
};
enum { CASES = sizeof(cases) / sizeof(cases[0]) };

static bool may_wait;

static void too_late(int sig)
{
    const char *text = may_wait ? "unharmed\n" : "VIOLATION: no end\n";

    (void) sig;
    if (rank == 0)
        (void) !write(STDOUT_FILENO, text, strlen(text));
    _exit(0);
}

int main(int argc, char **argv)
{
    char name[400];
    MPIR_Comm *world;
    int which = 0;

    if (argc > 1 && strcmp(argv[1], "list") == 0) {
        for (int i = 0; i < CASES; i++)
            puts(cases[i].name);
        return 0;
    }
    while (which < CASES && (argc < 2 || strcmp(argv[1], cases[which].name) != 0))
        which++;
    if (which == CASES)
        return 2;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    snprintf(name, sizeof(name), "%s/forged", getenv("HOSTILE_DIR"));
    int fd = open(name, O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(*said)) != 0)
        return 1;
    said = mmap(NULL, sizeof(*said), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (said == MAP_FAILED)
        return 1;
    buf = calloc(1, LARGE);
    MPI_Barrier(MPI_COMM_WORLD);
    MPIR_Comm_get_ptr(MPI_COMM_WORLD, world);
    MPIDI_Comm_get_vc(world, rank == 0 ? 1 : 0, &peer);
    for (int i = 1; i < 3; i++)
        if (rank == 0 || rank == i)
            MPI_Sendrecv(buf, 1, MPI_BYTE, i - rank, 1, buf, 1, MPI_BYTE, i - rank, 1,
                         MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    may_wait = cases[which].waits;
    signal(SIGALRM, too_late);
    alarm(PATIENCE);
    if (rank < 2 || cases[which].ranks == 3)
        cases[which].run();
    if (rank == 0) {
        puts("unharmed");
        fflush(NULL);
        reach(99);
    } else {
        await(99);
    }
    _exit(0);
}
