/* SPDX-License-Identifier: mpich2 */
/*
 * forged CASE
 *
 * Rank 1 is hostile. It sends rank 0 one packet that is well-formed, exactly when no correct peer
 * could send it. Rank 2 takes part in cases that need a third rank. `within` finds such moments by
 * chance; these cases reach them for certain. "list" lists the cases: name, ranks, and which one is
 * hostile. What the ranks cannot know of each other they exchange through the file
 * HOSTILE_DIR/forged.
 *
 * Rank 0 prints "unharmed" at the end. It may have seen errors, but nothing worse.
 */
#define _GNU_SOURCE
#include "packets.h"

#include "dataloop_internal.h"
#include "mpidrma.h"

#include <fcntl.h>
#include <sanitizer/asan_interface.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    LARGE = 200000,
    CUT = 20000,
    PATIENCE = 120,
    LAWFUL_WAIT = 15,
    TAG = 5,
    WINDOW = 1 << 20,
    SHORTS = 40000
};
enum { RANKS_MAX = 4, OVER = 99 }; /* the last stage of rank 0 */

static struct said {
    atomic_int stage;
    atomic_uint handle;          /* of a request, or of rank 0's window */
    atomic_ullong base;          /* of that */
    atomic_int answers;          /* that rank 0 has begun to send */
    atomic_uint sent[RANKS_MAX]; /* messages to rank 0, up to the last forged one */
} * said;
static int rank;
static bool deaf; /* receives whatever comes, without processing it */
static unsigned char *buf;
static MPIDI_VC_t *peer; /* rank 0's connection with rank 1, or another rank's with rank 0 */
static MPI_Win win;

static void reach(int stage)
{
    atomic_store(&said->stage, stage);
}

/* Without MPI progress. */
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

static void progress_once(void)
{
    struct ivshm_incoming in;
    struct ivshm_diag diag;
    int flag;

    if (!deaf)
        (void) MPI_Iprobe(MPI_ANY_SOURCE, 7777, MPI_COMM_SELF, &flag, MPI_STATUS_IGNORE);
    else if (ivshm_transport_receive(&MPID_nem_ivshmem.transport, &in, &diag) == 1)
        ivshm_message_release(&in);
}

static void progress_for(double seconds)
{
    for (double end = MPI_Wtime() + seconds; MPI_Wtime() < end;)
        progress_once();
}

static void progress_until(int stage)
{
    while (atomic_load(&said->stage) < stage)
        progress_once();
}

static MPIDI_VC_t *vc_of(int other)
{
    MPIR_Comm *world;
    MPIDI_VC_t *vc;

    MPIR_Comm_get_ptr(MPI_COMM_WORLD, world);
    MPIDI_Comm_get_vc(world, other, &vc);
    return vc;
}

static bool is_lost(int other)
{
    const MPID_nem_ivshmem_vc_t *area = VC_IVSHMEM(vc_of(other));
    return area->failure || !area->channel;
}

/* Until rank 0 has received all that `from` has forged up to that stage, or has refused it. */
static void take(int from, int stage)
{
    progress_until(stage);
    while (!is_lost(from) && (int) (VC_IVSHMEM(vc_of(from))->channel->in.received -
                                    atomic_load(&said->sent[from])) < 0)
        progress_once();
}

/* A header and some data, in as many cells as they need. */
static void send_raw(void *packet, size_t len, const void *data, size_t more)
{
    struct ivshm_channel *channel;
    struct ivshm_outgoing out;

    for (size_t sent = 0, total = len + more, n; sent < total; sent += n) {
        while ((channel = VC_IVSHMEM(peer)->channel) &&
               ivshm_message_reserve(&MPID_nem_ivshmem.transport, channel,
                                     sent == 0 && len + 4000 < total ? len + 4000 : total - sent, 0,
                                     &out) != 0)
            progress_once();
        if (!channel) /* rank 0 has failed it by then */
            return;
        n = MPL_MIN((size_t) out.capacity, total - sent);
        for (size_t i = 0; i < n; i++, sent++)
            out.payload[i] = sent < len ? ((unsigned char *) packet)[sent]
                                        : ((const unsigned char *) data)[sent - len];
        sent -= n;
        ivshm_message_publish(&MPID_nem_ivshmem.transport, channel, &out, (uint32_t) n);
        atomic_store(&said->sent[rank], channel->sent);
    }
    ivshm_transport_flush(&MPID_nem_ivshmem.transport);
}

static void send_header(MPIDI_CH3_Pkt_t *pkt)
{
    send_raw(pkt, MPID_nem_ivshmem_header_bytes((int) pkt->type), NULL, 0);
}

/* In one cell. Unlike send_raw, without progress, in which the answers would come. */
static void say_on(uint32_t stream, const void *bytes, size_t len)
{
    struct ivshm_transport *t = &MPID_nem_ivshmem.transport;
    struct ivshm_channel *channel = VC_IVSHMEM(peer)->channel;
    struct ivshm_outgoing out;

    while (ivshm_message_reserve(t, channel, len, stream, &out) != 0)
        usleep(100);
    memcpy(out.payload, bytes, len);
    ivshm_message_publish(t, channel, &out, (uint32_t) len);
    ivshm_transport_flush(t);
    atomic_store(&said->sent[rank], channel->sent);
}

/* A message of several pieces: the first is sent, then the sender dies. */
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

/* The rest of a message of that many bytes, after the first 1000. */
static void send_rest(size_t bytes)
{
    for (size_t sent = 1000, n; sent < bytes; sent += n)
        send_raw(buf, n = MPL_MIN(4000, bytes - sent), NULL, 0);
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
    for (double end = MPI_Wtime() + 100; VC_IVSHMEM(peer)->channel && MPI_Wtime() < end;)
        progress_once();
}

static void violation(const char *what)
{
    printf("VIOLATION: %s\n", what);
    fflush(NULL);
    _exit(1);
}

/* Waits for a message from `from`, whatever calls return about others meanwhile. */
static int receive(int from)
{
    MPI_Request req;
    int flag = 0, err = MPI_Irecv(buf, 1, MPI_BYTE, from, TAG, MPI_COMM_WORLD, &req);

    while (!err && !flag)
        MPI_Request_get_status(req, &flag, MPI_STATUS_IGNORE);
    return err ? err : MPI_Wait(&req, MPI_STATUS_IGNORE);
}

/* From rank 2: after all that rank 0 has asked of it before. */
static void answer(void)
{
    receive(0);
    MPI_Send(buf, 1, MPI_BYTE, 0, TAG, MPI_COMM_WORLD);
    progress_until(OVER);
}

static void must_answer(int other)
{
    MPI_Send(buf, 1, MPI_BYTE, other, TAG, MPI_COMM_WORLD);
    if (receive(other) != MPI_SUCCESS || is_lost(other))
        violation("an honest rank is lost");
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

/* Matched by its receive before the sender dies. */
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

/* An earlier message that is complete is not the one that is dropped. */
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

/* A large message has been received, and the answer to its cancellation claims the contrary. */
static void cancel(void)
{
    MPI_Request req;
    int flag = 0;

    if (rank == 1) {
        MPIDI_CH3_Pkt_t pkt;
        MPI_Recv(buf, LARGE, MPI_BYTE, 0, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        progress_for(0.1);
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

/* The receiver is done with a message before it has heard of it: the RTS waits for a cell. */
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
        progress_for(2);
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
        progress_once();
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

static MPIR_Win *window(void)
{
    MPIR_Win *ptr;

    MPIR_Win_get_ptr(win, ptr);
    return ptr;
}

static void *target(MPI_Aint offset)
{
    return (void *) (uintptr_t) (atomic_load(&said->base) + (unsigned long long) offset);
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

static MPIDI_CH3_Pkt_t get_packet(int bytes)
{
    MPIDI_CH3_Pkt_t pkt;

    MPIDI_Pkt_init(&pkt.get, MPIDI_CH3_PKT_GET);
    pkt.get.pkt_flags = MPIDI_CH3_PKT_FLAG_NONE;
    pkt.get.addr = target(0);
    pkt.get.count = bytes;
    pkt.get.datatype = MPI_BYTE;
    pkt.get.request_handle = MPI_REQUEST_NULL;
    pkt.get.target_win_handle = (MPI_Win) atomic_load(&said->handle);
    pkt.get.info.flattened_type_size = 0;
    return pkt;
}

static MPIDI_CH3_Pkt_t end_packet(void)
{
    MPIDI_CH3_Pkt_t pkt;

    MPIDI_Pkt_init(&pkt.decr_at_cnt, MPIDI_CH3_PKT_DECR_AT_COUNTER);
    pkt.decr_at_cnt.pkt_flags = MPIDI_CH3_PKT_FLAG_NONE;
    pkt.decr_at_cnt.target_win_handle = (MPI_Win) atomic_load(&said->handle);
    pkt.decr_at_cnt.source_win_handle = win;
    return pkt;
}

static MPI_Group group(int count, const int *ranks)
{
    MPI_Group world, some;

    MPI_Comm_group(MPI_COMM_WORLD, &world);
    MPI_Group_incl(world, count, ranks, &some);
    return some;
}

/* Rank 2 ends its access not before that stage. */
static void access_rank_0(int stage)
{
    const int zero = 0;

    MPI_Win_start(group(1, &zero), 0, win);
    progress_until(stage);
    MPI_Put(buf, 8, MPI_BYTE, 0, 0, 8, MPI_BYTE, win);
    MPI_Win_complete(win);
}

/* An answer to a request for a lock of rank 1's window. */
static MPIDI_CH3_Pkt_t lock_answer(int type, int flags)
{
    MPIDI_CH3_Pkt_t pkt;

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
    return pkt;
}

/* An answer that no target gives. */
static void answer_lock(int type, int flags)
{
    MPIDI_CH3_Pkt_t pkt = lock_answer(type, flags);

    await(1);
    for (int i = 0; i < 100; i++) {
        send_header(&pkt);
        usleep(2000);
    }
    progress_for(3);
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

static void answer_wanted_lock(int type, int flags, bool all)
{
    make_window();
    if (rank == 1)
        answer_lock(type, flags);
    else if (rank == 0)
        want_lock(all);
    else
        progress_for(3);
}

enum {
    GRANTED = MPIDI_CH3_PKT_FLAG_RMA_LOCK_GRANTED,
    DISCARDED = MPIDI_CH3_PKT_FLAG_RMA_LOCK_DISCARDED
};

static void lock_both(void)
{
    answer_wanted_lock(MPIDI_CH3_PKT_LOCK_ACK, GRANTED | DISCARDED, false);
}

static void lock_all_both(void)
{
    answer_wanted_lock(MPIDI_CH3_PKT_LOCK_ACK, GRANTED | DISCARDED, true);
}

static void lock_refused(void)
{
    answer_wanted_lock(MPIDI_CH3_PKT_LOCK_ACK, DISCARDED, false);
}

static void lock_all_refused(void)
{
    answer_wanted_lock(MPIDI_CH3_PKT_LOCK_ACK, DISCARDED, true);
}

static void lock_op_both(void)
{
    answer_wanted_lock(MPIDI_CH3_PKT_LOCK_OP_ACK, GRANTED | DISCARDED, false);
}

static void lock_op_refused(void)
{
    answer_wanted_lock(MPIDI_CH3_PKT_LOCK_OP_ACK, DISCARDED, true);
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
        progress_for(1);
        return;
    }
    if (rank == 2)
        return;
    MPI_Win_lock(MPI_LOCK_EXCLUSIVE, 0, 0, win);
    MPI_Put(buf, 8, MPI_BYTE, 0, 0, 8, MPI_BYTE, win);
    MPI_Win_flush(0, win);
    reach(1);
    progress_for(1);
    MPI_Win_unlock(0, win);
    progress_for(1);
}

/*
 * Rank 1 asks for a lock with more data than the target keeps. While that data arrives, and is
 * dropped, its entry in the queue must not become free, and rank 2's after it.
 */
static void entry(void)
{
    enum { MUCH = 700000 };
    MPIDI_CH3_Pkt_t pkt;

    make_window();
    deaf = rank != 0; /* CH3 knows nothing of a raw packet, and objects to the answers */
    if (rank == 1) {
        await(1);
        pkt = put_packet(MUCH, MPIDI_CH3_PKT_FLAG_RMA_LOCK_SHARED);
        send_raw(&pkt, MPID_nem_ivshmem_header_bytes(MPIDI_CH3_PKT_PUT), buf, 1000);
        reach(2);
        progress_until(5);
        send_rest(MUCH);
        MPIDI_Pkt_init(&pkt.unlock, MPIDI_CH3_PKT_UNLOCK);
        pkt.unlock.pkt_flags = MPIDI_CH3_PKT_FLAG_RMA_UNLOCK_NO_ACK;
        pkt.unlock.target_win_handle = (MPI_Win) atomic_load(&said->handle);
        pkt.unlock.source_win_handle = win;
        send_header(&pkt);
        reach(6);
        progress_until(OVER);
    } else if (rank == 2) { /* what MPICH would send */
        memset(buf, 'x', CUT);
        pkt =
            put_packet(CUT, MPIDI_CH3_PKT_FLAG_RMA_LOCK_EXCLUSIVE | MPIDI_CH3_PKT_FLAG_RMA_UNLOCK);
        progress_until(3);
        send_raw(&pkt, MPID_nem_ivshmem_header_bytes(MPIDI_CH3_PKT_PUT), buf, 1000);
        reach(4);
        progress_until(7);
        send_rest(CUT);
        reach(8);
        progress_until(OVER);
    } else {
        MPI_Win_lock(MPI_LOCK_EXCLUSIVE, 0, 0, win);
        MPI_Put(buf, 8, MPI_BYTE, 0, 0, 8, MPI_BYTE, win);
        MPI_Win_flush(0, win);
        reach(1);
        take(1, 2);
        MPI_Win_unlock(0, win);
        reach(3);
        take(2, 4);
        reach(5);
        take(1, 6);
        reach(7);
        take(2, 8);
        if (is_lost(2) || *(unsigned char *) target(CUT - 1) != 'x')
            violation("what an honest rank puts is lost");
    }
}

/* The window is shared in the region. Rank 1 grants the lock of rank 2 as well. */
static void locks_of_others(void)
{
    void *base;

    MPI_Win_allocate(WINDOW, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &base, &win);
    MPI_Win_set_errhandler(win, MPI_ERRORS_RETURN);
    if (rank == 0)
        atomic_store(&said->handle, (unsigned) win);
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 1) {
        while (window()->current_lock_type != MPI_LOCK_SHARED) /* its own lock it may grant */
            progress_once();
        MPIDI_CH3_Pkt_t pkt = lock_answer(MPIDI_CH3_PKT_LOCK_ACK, GRANTED);
        send_header(&pkt);
        progress_for(0.3);
        reach(2);
    } else if (rank == 2) {
        MPI_Win_lock(MPI_LOCK_EXCLUSIVE, 2, 0, win);
        reach(1);
        progress_until(2);
        MPI_Win_unlock(2, win);
        answer();
    } else {
        progress_until(1);
        if (MPI_Win_lock_all(0, win) == MPI_SUCCESS && atomic_load(&said->stage) < 2)
            violation("MPI_Win_lock_all succeeds while another has the lock");
        take(1, 2);
        if (!is_lost(1))
            violation("a rank grants the lock of another");
        must_answer(2);
    }
}

/* Rank 1 ends the access of rank 2 as well. */
static void end_for_others(void)
{
    const int both[] = {1, 2};
    int flag = 0;

    make_window();
    if (rank == 1) {
        MPIDI_CH3_Pkt_t pkt = end_packet();
        await(1);
        send_header(&pkt);
        send_header(&pkt);
        reach(2);
    } else if (rank == 2) {
        access_rank_0(3);
        answer();
    } else {
        MPI_Win_post(group(2, both), 0, win);
        reach(1);
        take(1, 2);
        MPI_Win_test(win, &flag);
        if (flag)
            violation("an exposure ends before the access of another");
        reach(3);
        MPI_Win_wait(win);
        must_answer(2);
    }
}

/* Rank 1 acknowledges an operation, and then refuses it, which counts as another one's refusal. */
static void ack_and_refuse(void)
{
    static char got[8];

    make_window();
    if (rank == 1) {
        MPIDI_CH3_Pkt_t pkt;
        reach(1); /* from here on it does not answer */
        await(2);
        MPIDI_Pkt_init(&pkt.ack, MPIDI_CH3_PKT_ACK);
        pkt.ack.source_win_handle = (MPI_Win) atomic_load(&said->handle);
        pkt.ack.target_rank = 1;
        send_header(&pkt);
        pkt = lock_answer(MPIDI_CH3_PKT_LOCK_OP_ACK,
                          MPIDI_CH3_PKT_FLAG_RMA_LOCK_QUEUED_DATA_DISCARDED);
        send_header(&pkt);
        reach(3);
    } else if (rank == 2) {
        answer();
    } else {
        progress_until(1);
        MPI_Win_lock_all(0, win);
        MPI_Get(got, 8, MPI_BYTE, 1, 0, 8, MPI_BYTE, win);
        MPI_Put(buf, 8, MPI_BYTE, 2, 0, 8, MPI_BYTE, win);
        while (window()->outstanding_acks == 0)
            progress_once();
        reach(2);
        take(1, 3);
        MPI_Win_flush(2, win);
        must_answer(2);
    }
}

/*
 * All correct: there is no room for the data of an operation that waits for a lock. It is sent
 * again.
 */
static void lawful_discard(void)
{
    enum { BYTES = 1000 };
    static unsigned char got[BYTES], is[BYTES];

    make_window();
    if (rank == 1) {
        memset(buf, 'a', 8);
        MPI_Win_lock(MPI_LOCK_EXCLUSIVE, 1, 0, win);
        MPI_Put(buf, 8, MPI_BYTE, 1, 0, 8, MPI_BYTE, win);
        MPI_Win_flush(1, win);
        reach(1);
        while (!window()->target_lock_queue_head)
            progress_once();
        if (window()->current_target_lock_data_bytes != 0)
            violation("there is room for the data");
        MPI_Win_unlock(1, win);
        progress_until(OVER);
        return;
    }
    progress_until(1);
    memset(buf, 'b', BYTES);
    MPI_Win_lock_all(0, win);
    MPI_Get_accumulate(buf, BYTES, MPI_BYTE, got, BYTES, MPI_BYTE, 1, 0, BYTES, MPI_BYTE,
                       MPI_REPLACE, win);
    if (MPI_Win_unlock_all(win) != MPI_SUCCESS)
        violation("MPI_Win_unlock_all fails");
    MPI_Win_lock(MPI_LOCK_SHARED, 1, 0, win);
    MPI_Get(is, BYTES, MPI_BYTE, 1, 0, BYTES, MPI_BYTE, win);
    if (MPI_Win_unlock(1, win) != MPI_SUCCESS)
        violation("MPI_Win_unlock fails");
    for (int i = 0; i < BYTES; i++)
        if (got[i] != (i < 8 ? 'a' : 0) || is[i] != 'b')
            violation("data is wrong");
}

/* Two ranks claim to be the same rank of a communicator that rank 0 has not created yet. */
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
    if (rank == 2) { /* half of it; the rest when the other rank has cancelled it */
        send_raw(&pkt, sizeof(pkt.eager_send), buf, 1000);
        progress_for(0.3);
        reach(1);
        await(2);
        send_rest(CUT);
        reach(3);
        progress_for(1);
    } else if (rank == 1) {
        await(1);
        MPIDI_CH3_Pkt_t cancelled;
        MPIDI_Pkt_init(&cancelled.cancel_send_req, MPIDI_CH3_PKT_CANCEL_SEND_REQ);
        cancelled.cancel_send_req.match = pkt.eager_send.match;
        cancelled.cancel_send_req.sender_req_id = MPI_REQUEST_NULL;
        send_header(&cancelled);
        progress_for(0.3);
        reach(2);
    } else {
        progress_until(3);
        progress_for(0.5);
        if (VC_IVSHMEM(peer)->failure)
            violation("of two that say to be a rank, one was believed");
    }
}

/* A window over all memory that rank 0 attaches; with a gap, the memory in it must not be read. */
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

/* MPICH's own layout, which the case changes. */
static void *describe(MPI_Datatype type, int *len)
{
    MPIR_Datatype *ptr;

    MPI_Type_commit(&type);
    MPIR_Datatype_get_ptr(type, ptr);
    MPIR_Typerep_flatten_size(ptr, len);
    void *flattened = calloc(1, (size_t) *len);
    MPIR_Typerep_flatten(ptr, flattened);
    return flattened;
}

/* The loops are behind the type's header and their own. */
static MPII_Dataloop *loop_of(void *flattened)
{
    return (MPII_Dataloop *) ((char *) flattened + 80);
}

static int *is_contig_of(void *flattened)
{
    return (int *) ((char *) flattened + 48);
}

static int *basic_type_of(void *flattened)
{
    return (int *) ((char *) flattened + 52);
}

/* Some handle of a derived type, for which a flattened datatype is sent. */
static MPI_Datatype flattened_type(void)
{
    MPI_Datatype any;

    MPI_Type_vector(2, 1, 2, MPI_BYTE, &any);
    MPI_Type_commit(&any);
    return any;
}

/* A get-accumulate that changes nothing, into a request that rank 1 does not have. */
static void read_flattened(void *flattened, int len, bool streams)
{
    MPIDI_CH3_Pkt_t pkt;
    unsigned char behind[4000];
    size_t n = 0;

    MPIDI_Pkt_init(&pkt.get_accum, MPIDI_CH3_PKT_GET_ACCUM);
    pkt.get_accum.pkt_flags = streams ? MPIDI_CH3_PKT_FLAG_RMA_STREAM : MPIDI_CH3_PKT_FLAG_NONE;
    pkt.get_accum.addr = target(0);
    pkt.get_accum.count = 1;
    pkt.get_accum.datatype = flattened_type();
    pkt.get_accum.info.flattened_type_size = len;
    pkt.get_accum.op = MPI_NO_OP;
    pkt.get_accum.request_handle = MPI_REQUEST_NULL;
    pkt.get_accum.target_win_handle = (MPI_Win) atomic_load(&said->handle);
    if (streams) {
        MPIDI_CH3_Ext_pkt_stream_t stream = {.stream_offset = 1};
        memcpy(behind, &stream, sizeof(stream));
        n = sizeof(stream);
    }
    memcpy(behind + n, flattened, (size_t) len);
    send_raw(&pkt, MPID_nem_ivshmem_header_bytes(MPIDI_CH3_PKT_GET_ACCUM), behind,
             n + (size_t) len);
    progress_for(1);
}

/* Elements that are declared further apart than they are long. */
static void extent(void)
{
    MPI_Datatype type;
    int len;

    make_dynamic_window(false);
    if (rank == 1) {
        MPI_Type_contiguous(ATTACHED, MPI_BYTE, &type);
        char *flattened = describe(type, &len);
        loop_of(flattened)->el_extent = (MPI_Aint) 1 << 40;
        *is_contig_of(flattened) = 0;
        read_flattened(flattened, len, true);
        return;
    }
    progress_for(1);
}

/* Pieces that overlap, and thereby hide that others are missing. */
static void gap(void)
{
    MPI_Datatype type;
    int len;

    make_dynamic_window(true);
    if (rank == 1) {
        const int bytes[] = {ATTACHED, ATTACHED, ATTACHED};
        const int at[] = {0, 0, 2 * ATTACHED};
        MPI_Type_indexed(3, bytes, at, MPI_BYTE, &type);
        char *flattened = describe(type, &len);
        *is_contig_of(flattened) = 1;
        read_flattened(flattened, len, false);
        return;
    }
    progress_for(1);
}

/* The data is less than one of the pairs that it is declared to consist of. */
static void pairless(void)
{
    MPI_Datatype type;
    int len;

    make_dynamic_window(false);
    if (rank == 1) {
        MPIDI_CH3_Pkt_t pkt;
        unsigned char behind[4000] = {0};
        MPI_Type_vector(2, 2, 3, MPI_BYTE, &type);
        char *flattened = describe(type, &len);
        *basic_type_of(flattened) = MPI_DOUBLE_INT;
        MPIDI_Pkt_init(&pkt.accum, MPIDI_CH3_PKT_ACCUMULATE);
        pkt.accum.pkt_flags = MPIDI_CH3_PKT_FLAG_NONE;
        pkt.accum.addr = target(0);
        pkt.accum.count = 1;
        pkt.accum.datatype = flattened_type();
        pkt.accum.info.flattened_type_size = len;
        pkt.accum.op = MPI_MAXLOC;
        pkt.accum.target_win_handle = (MPI_Win) atomic_load(&said->handle);
        pkt.accum.source_win_handle = win;
        memcpy(behind, flattened, (size_t) len);
        send_raw(&pkt, MPID_nem_ivshmem_header_bytes(MPIDI_CH3_PKT_ACCUMULATE), behind,
                 (size_t) len + 4);
        reach(1);
    } else if (rank == 0) {
        take(1, 1);
    }
}

static void detach(void)
{
    MPI_Win_detach(win, attached);
    __asan_poison_memory_region(attached, 3 * ATTACHED);
}

/* The memory is detached while half of an operation on it has arrived. */
static void detached_put(void)
{
    make_dynamic_window(false);
    if (rank == 1) {
        MPIDI_CH3_Pkt_t pkt = put_packet(CUT, MPIDI_CH3_PKT_FLAG_NONE);
        send_raw(&pkt, MPID_nem_ivshmem_header_bytes(MPIDI_CH3_PKT_PUT), buf, 1000);
        progress_for(0.3);
        reach(1);
        await(2);
        send_rest(CUT);
        progress_for(0.5);
        reach(3);
        return;
    }
    if (rank == 0) {
        progress_until(1);
        detach();
        reach(2);
    }
    progress_until(3);
}

/* The same, and an operation waits for a lock. */
static void detached_queued(void)
{
    make_dynamic_window(false);
    if (rank == 1) {
        await(1);
        MPIDI_CH3_Pkt_t pkt = put_packet(1000, MPIDI_CH3_PKT_FLAG_RMA_LOCK_SHARED);
        send_raw(&pkt, MPID_nem_ivshmem_header_bytes(MPIDI_CH3_PKT_PUT), buf, 1000);
        progress_for(0.3);
        reach(2);
        return;
    }
    if (rank == 2) {
        progress_until(3);
        return;
    }
    MPI_Win_lock(MPI_LOCK_EXCLUSIVE, 0, 0, win);
    MPI_Put(buf, 8, MPI_BYTE, 0, (MPI_Aint) (uintptr_t) attached, 8, MPI_BYTE, win);
    MPI_Win_flush(0, win);
    reach(1);
    progress_until(2);
    progress_for(0.3);
    detach();
    MPI_Win_unlock(0, win);
    progress_for(0.3);
    reach(3);
}

/* Asks for more answers than there are cells. The asker releases none of them. */
static void ask(MPIDI_CH3_Pkt_t pkt)
{
    for (int i = 0; i < 20; i++)
        say_on(0, &pkt, MPID_nem_ivshmem_header_bytes((int) pkt.type));
}

/* Until all requests have been received: a later one is another case. */
static void begin_answers(int to)
{
    take(to, 1);
    if (is_lost(to) || !VC_IVSHMEM(vc_of(to))->sendq.head)
        violation("no answer waits to be sent");
}

/* The same, while the answer to a get is still being sent from the memory. */
static void detached_answer(void)
{
    make_dynamic_window(false);
    if (rank == 1) {
        ask(get_packet(ATTACHED));
        reach(1);
        await(2); /* without any progress */
        deaf = true;
        progress_for(1);
        reach(3);
        return;
    }
    if (rank == 0) {
        begin_answers(1);
        detach();
        reach(2);
    }
    progress_until(3);
}

/* Answers in flight when their window is freed; rank 3 asks. */
static void freed_answer(void)
{
    make_window();
    if (rank == 3) {
        MPIDI_CH3_Pkt_t pkt;
        ivshm_channel_pause(&MPID_nem_ivshmem.transport, VC_IVSHMEM(peer)->channel);
        MPIDI_Pkt_init(&pkt.get_accum, MPIDI_CH3_PKT_GET_ACCUM);
        pkt.get_accum.pkt_flags = MPIDI_CH3_PKT_FLAG_NONE;
        pkt.get_accum.addr = target(0);
        pkt.get_accum.count = LARGE;
        pkt.get_accum.datatype = MPI_BYTE;
        pkt.get_accum.info.flattened_type_size = 0;
        pkt.get_accum.op = MPI_NO_OP;
        pkt.get_accum.request_handle = MPI_REQUEST_NULL;
        pkt.get_accum.target_win_handle = (MPI_Win) atomic_load(&said->handle);
        ask(pkt);
        reach(1);
        await(2);
        /* So that none is counted any more. */
        pkt = end_packet();
        for (int n = atomic_load(&said->answers); n > 0; n--)
            send_header(&pkt);
        MPI_Win_free(&win); /* in which the last of four ranks waits for nothing from the first */
        await(3);
        MPID_nem_ivshmem.news = true; /* receives the answers, and continues */
        progress_until(OVER);
        return;
    }
    if (rank == 0) {
        begin_answers(3);
        atomic_store(&said->answers, window()->at_completion_counter);
        reach(2);
    } else {
        progress_until(2);
    }
    MPI_Win_free(&win);
    if (rank == 0) {
        reach(3);
        while (!is_lost(3) && VC_IVSHMEM(vc_of(3))->sendq.head)
            progress_once();
    }
}

/* Answers that can no longer be sent are not waited for. */
static void counted_answer(void)
{
    const int two = 2;

    make_window();
    if (rank == 1) {
        MPIDI_CH3_Pkt_t unknown = {.type = MPIDI_CH3_PKT_END_ALL};
        ask(get_packet(LARGE));
        reach(1);
        await(2);
        send_raw(&unknown, sizeof(unknown), NULL, 0);
        reach(3);
    } else if (rank == 2) {
        access_rank_0(4);
        progress_until(OVER);
    } else {
        begin_answers(1);
        reach(2);
        take(1, 3);
        if (!is_lost(1))
            violation("a packet of an unknown type is taken");
        if (MPI_Win_post(group(1, &two), 0, win) != MPI_SUCCESS)
            violation("MPI_Win_post for an honest rank alone fails");
        reach(4);
        if (MPI_Win_wait(win) != MPI_SUCCESS)
            violation("MPI_Win_wait for an honest rank alone fails");
    }
}

/* Until that many requests wait for rank 0's lock. */
static void progress_until_queued(int waiting)
{
    for (int n = 0; n < waiting;) {
        progress_once();
        n = 0;
        for (const MPIDI_RMA_Target_lock_entry_t *e = (void *) window()->target_lock_queue_head; e;
             e = e->next)
            n++;
    }
}

static void lock_rank_0(int type)
{
    MPI_Win_lock(type, 0, 0, win);
    MPI_Put(buf, 8, MPI_BYTE, 0, 0, 8, MPI_BYTE, win);
    MPI_Win_flush(0, win);
}

/* Rank 3 may not get what honest rank 2 holds meanwhile. */
static void lock_after_rank_2(void)
{
    lock_rank_0(MPI_LOCK_EXCLUSIVE);
    if (atomic_load(&said->answers) != 2)
        violation("two honest ranks have the exclusive lock");
    MPI_Win_unlock(0, win);
}

/*
 * Rank 1's operation, which also releases the shared lock that it asks for, waits first. An honest
 * shared lock and an honest exclusive one wait after it. No rank gets the lock twice.
 */
static void release_twice(void)
{
    make_window();
    if (rank == 1) {
        await(1);
        MPIDI_CH3_Pkt_t pkt =
            put_packet(8, MPIDI_CH3_PKT_FLAG_RMA_LOCK_SHARED | MPIDI_CH3_PKT_FLAG_RMA_UNLOCK);
        deaf = true;
        send_raw(&pkt, MPID_nem_ivshmem_header_bytes(MPIDI_CH3_PKT_PUT), buf, 8);
        reach(2);
    } else if (rank == 2) {
        progress_until(3);
        lock_rank_0(MPI_LOCK_SHARED);
        progress_for(1);
        atomic_store(&said->answers, 2);
        MPI_Win_unlock(0, win);
        progress_until(5);
        lock_rank_0(MPI_LOCK_SHARED);
        MPI_Win_unlock(0, win);
        reach(6);
    } else if (rank == 3) {
        progress_until(4);
        lock_after_rank_2();
        reach(5);
    } else {
        lock_rank_0(MPI_LOCK_EXCLUSIVE);
        reach(1);
        progress_until(2);
        progress_until_queued(1);
        reach(3);
        progress_until_queued(2);
        reach(4);
        progress_until_queued(3);
        MPI_Win_unlock(0, win);
        progress_until(6);
    }
    if (rank > 1)
        progress_until(OVER);
}

/* Rank 1's lock is refused, as there is no room in the queue, and rank 1 releases it. */
static void refused_unlock(void)
{
    make_window();
    if (rank == 1) {
        MPIDI_CH3_Pkt_t pkt;
        await(2);
        deaf = true;
        MPIDI_Pkt_init(&pkt.lock, MPIDI_CH3_PKT_LOCK);
        pkt.lock.pkt_flags = MPIDI_CH3_PKT_FLAG_RMA_LOCK_SHARED;
        pkt.lock.target_win_handle = (MPI_Win) atomic_load(&said->handle);
        pkt.lock.source_win_handle = win;
        pkt.lock.request_handle = MPI_REQUEST_NULL;
        send_header(&pkt);
        MPIDI_Pkt_init(&pkt.unlock, MPIDI_CH3_PKT_UNLOCK);
        pkt.unlock.pkt_flags = MPIDI_CH3_PKT_FLAG_RMA_UNLOCK_NO_ACK;
        pkt.unlock.target_win_handle = (MPI_Win) atomic_load(&said->handle);
        pkt.unlock.source_win_handle = win;
        send_header(&pkt);
        reach(3);
    } else if (rank == 2) {
        lock_rank_0(MPI_LOCK_EXCLUSIVE);
        reach(1);
        progress_until(3);
        progress_for(1);
        atomic_store(&said->answers, 2);
        MPI_Win_unlock(0, win);
    } else if (rank == 3) {
        progress_until(1);
        lock_after_rank_2();
        reach(4);
    } else {
        progress_until(1);
        progress_until_queued(1);
        reach(2);
        progress_until(4);
    }
    if (rank > 1)
        progress_until(OVER);
}

/* Not forged: a lock, its operation and its end in one packet, for whose data there is no room. */
static void lawful_again(void)
{
    make_window();
    if (rank == 0) {
        lock_rank_0(MPI_LOCK_EXCLUSIVE);
        reach(1);
        progress_until_queued(1);
        MPI_Win_unlock(0, win);
        progress_until(2);
    } else {
        progress_until(1);
        MPI_Win_lock(MPI_LOCK_EXCLUSIVE, 0, 0, win);
        MPI_Put(buf, 1000, MPI_BYTE, 0, 0, 1000, MPI_BYTE, win);
        MPI_Win_unlock(0, win);
        reach(2);
        progress_until(OVER);
    }
    if (is_lost(rank == 0 ? 1 : 0))
        violation("the connection with a lawful peer has failed");
}

/* A window of rank 0's: its first message after that has a handle tells rank 1 which. */
static bool making;

static void watch_making(void)
{
    making = rank == 0;
    MPID_nem_ivshmem.transport.ring_after =
        UINT32_MAX; /* else messages in slots bypass the double */
}

/* Rank 1 takes part in creating the communicator of rank 0's window, and in nothing after that. */
static MPI_Comm half_make(void)
{
    MPI_Comm comm;

    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    progress_until(1);
    return comm;
}

static void put_8(void)
{
    MPIDI_CH3_Pkt_t pkt = put_packet(8, MPIDI_CH3_PKT_FLAG_NONE);
    send_raw(&pkt, MPID_nem_ivshmem_header_bytes(MPIDI_CH3_PKT_PUT), buf, 8);
}

/* A window that is being created, and has no memory yet. */
static void unborn(void)
{
    void *base;

    watch_making();
    if (rank == 1) {
        half_make();
        put_8();
    } else if (MPI_Win_allocate(WINDOW, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &base, &win) ==
               MPI_SUCCESS) {
        violation("a window is made without one of its ranks");
    }
}

/* A window that could not be created: its memory belongs to the program again. */
static void stillborn(void)
{
    watch_making();
    if (rank == 1) {
        MPI_Comm comm = half_make();
        MPIX_Comm_revoke(comm);
        progress_until(2);
        put_8();
        reach(3);
        return;
    }
    char *memory = malloc(WINDOW);
    if (MPI_Win_create(memory, WINDOW, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &win) == MPI_SUCCESS)
        violation("a window is made of a communicator that is revoked");
    if (rank == 0)
        atomic_store(&said->base, (unsigned long long) (uintptr_t) memory);
    free(memory);
    if (rank == 0) {
        reach(2);
        take(1, 3);
    }
}

/*
 * Calls: rank 1 connects to a port of rank 0's by MPI_Comm_connect, and one of the messages in
 * which it identifies itself is changed on its way out.
 */

enum { SIZES, JOB_LENGTH, JOB, RANKS, LAST };

static struct {
    bool active;
    int message, word, value; /* what is changed; the word -1: everything but letters */
    bool again;               /* and, before the last one, the first one comes again */
    bool renames;             /* and its job is not rank 0's */
    int sent;
    unsigned char first[200];
    uint32_t first_len, ranks_at; /* the number of ranks in that */
} forgery;

void ivshm_message_publish_elsewhere(struct ivshm_transport *t, struct ivshm_channel *channel,
                                     const struct ivshm_outgoing *out, uint32_t len)
{
    intptr_t bytes;
    unsigned char *data = packet_data(out, len, &bytes);
    struct ivshm_outgoing extra;

    if (making && MPIDI_RMA_Win_inactive_list_head) {
        making = false;
        atomic_store(&said->handle, (unsigned) MPIDI_RMA_Win_inactive_list_head->handle);
        reach(1);
    }
    if (forgery.active && out->stream && data) {
        if (forgery.sent == SIZES) {
            forgery.first_len = MPL_MIN(len, sizeof(forgery.first));
            memcpy(forgery.first, out->payload, forgery.first_len);
            forgery.ranks_at = (uint32_t) (data - out->payload) + 4;
        }
        if (forgery.sent == forgery.message && forgery.word >= 0)
            memcpy(data + forgery.word * 4, &forgery.value, 4);
        if (forgery.sent == JOB && forgery.renames)
            data[0] ^= 1;
        for (unsigned char *at = data;
             forgery.sent == forgery.message && forgery.word < 0 && at < out->payload + len; at++)
            if (!*at)
                *at = 'x';
        if (forgery.sent++ == LAST && forgery.again) {
            forgery.active = false;
            packet_publish(t, channel, out, len);
            if (ivshm_message_reserve(t, channel, forgery.first_len, out->stream, &extra) == 0) {
                memcpy(extra.payload, forgery.first, forgery.first_len);
                extra.payload[forgery.ranks_at] = 0xff;
                packet_publish(t, channel, &extra, forgery.first_len);
            }
            return;
        }
    }
    packet_publish(t, channel, out, len);
}

static MPI_Comm across; /* what the last call has created */

static bool call(void)
{
    static char port[MPI_MAX_PORT_NAME];
    int err;

    if (rank == 0) {
        if (!port[0])
            MPI_Open_port(MPI_INFO_NULL, port);
        MPI_Send(port, MPI_MAX_PORT_NAME, MPI_CHAR, 1, TAG, MPI_COMM_WORLD);
        err = MPI_Comm_accept(port, MPI_INFO_NULL, 0, MPI_COMM_SELF, &across);
    } else {
        MPI_Recv(port, MPI_MAX_PORT_NAME, MPI_CHAR, 0, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        err = MPI_Comm_connect(port, MPI_INFO_NULL, 0, MPI_COMM_SELF, &across);
    }
    return err == MPI_SUCCESS;
}

static void change(int message, int word, int value)
{
    forgery.message = message;
    forgery.word = word;
    forgery.value = value;
    forgery.active = rank == 1;
}

static void forge(int message, int word, int value)
{
    change(message, word, value);
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

/* Rank 0's own job, which both belong to. */
static void call_own_rank(void)
{
    forge(RANKS, 1, 0);
}

/* A job of one rank, with the card of rank 2: what rank 2 sends is still its own. */
static void call_for_other(void)
{
    if (rank == 2) {
        answer();
        return;
    }
    forgery.renames = true;
    change(RANKS, 1, 2);
    bool accepted = call();
    if (rank == 0) {
        if (accepted) {
            MPI_Comm_set_errhandler(across, MPI_ERRORS_RETURN);
            MPI_Send(buf, 1, MPI_BYTE, 0, TAG, across);
        }
        must_answer(2);
    }
}

/* What one caller leaves behind does not reach the next one. */
static void call_leftover(void)
{
    forgery.message = -1;
    forgery.again = forgery.active = rank == 1;
    bool first = call(), second = call();
    if (rank == 0 && !(first && second))
        violation("a call fails for what an earlier one left behind");
}

/* A caller that hangs up, and then neither answers nor releases a cell, holds up nobody. */
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
        progress_until(2);
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
    int ranks;  /* of the job */
    bool waits; /* lawfully: for the lock of a liar, or a caller's part of a call */
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
    {"entry", entry, 3, false},
    {"locks-of-others", locks_of_others, 3, false},
    {"end-for-others", end_for_others, 3, false},
    {"ack-and-refuse", ack_and_refuse, 3, false},
    {"lawful-discard", lawful_discard, 2, false},
    {"lawful-again", lawful_again, 2, false},
    {"release-twice", release_twice, 4, false},
    {"refused-unlock", refused_unlock, 4, false},
    {"extent", extent, 3, false},
    {"gap", gap, 3, false},
    {"pairless", pairless, 3, false},
    {"detached-put", detached_put, 3, false},
    {"detached-queued", detached_queued, 3, false},
    {"detached-answer", detached_answer, 3, false},
    {"freed-answer", freed_answer, 4, false},
    {"counted-answer", counted_answer, 3, false},
    {"unborn", unborn, 3, false},
    {"stillborn", stillborn, 3, false},
    {"call-no-jobs", call_no_jobs, 2, true},
    {"call-many-jobs", call_many_jobs, 2, true},
    {"call-many-ranks", call_many_ranks, 2, true},
    {"call-negative-job", call_negative_job, 2, true},
    {"call-long-job", call_long_job, 2, true},
    {"call-job-without-end", call_job_without_end, 2, true},
    {"call-unknown-job", call_unknown_job, 2, true},
    {"call-unknown-rank", call_unknown_rank, 2, true},
    {"call-own-rank", call_own_rank, 2, true},
    {"call-for-other", call_for_other, 3, false},
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
    int which = 0, size;

    if (argc > 1 && strcmp(argv[1], "list") == 0) {
        for (int i = 0; i < CASES; i++)
            printf("%s %d 1\n", cases[i].name, cases[i].ranks);
        return 0;
    }
    while (which < CASES && (argc < 2 || strcmp(argv[1], cases[which].name) != 0))
        which++;
    if (which == CASES)
        return 2;
    if (cases[which].run == lawful_discard || cases[which].run == lawful_again)
        setenv("MPIR_CVAR_CH3_RMA_TARGET_LOCK_DATA_BYTES", "100", 1);
    if (cases[which].run == lawful_again)
        setenv("MPIR_CVAR_CH3_RMA_DELAY_ISSUING_FOR_PIGGYBACKING", "1", 1);
    if (cases[which].run == refused_unlock)
        setenv("MPIR_CVAR_CH3_RMA_TARGET_LOCK_ENTRY_WIN_POOL_SIZE", "1", 1);
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
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
    peer = vc_of(rank == 0 ? 1 : 0);
    for (int i = 1; i < size; i++)
        if (rank == 0 || rank == i)
            MPI_Sendrecv(buf, 1, MPI_BYTE, i - rank, 1, buf, 1, MPI_BYTE, i - rank, 1,
                         MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    may_wait = cases[which].waits;
    signal(SIGALRM, too_late);
    alarm(may_wait ? LAWFUL_WAIT : PATIENCE);
    cases[which].run();
    if (rank == 0) {
        puts("unharmed");
        fflush(NULL);
        reach(OVER);
    } else {
        await(OVER);
    }
    _exit(0);
}
