/* SPDX-License-Identifier: mpich2 */
/*
 * How connections through the region end. They are closed by CH3's protocol once everything is
 * sent, they fail, or, if no call has accepted them, they are called off. Code that finds that a
 * connection cannot continue marks it with MPID_nem_ivshmem_vc_mark_failed. The teardown is carried
 * out here, when no packet is being handled. Called by the progress call and by CH3, under MPICH's
 * global lock.
 */
#include "ivshmem_teardown.h"

#include "ivshmem_deaths.h"
#include "ivshmem_relation.h"
#include "ivshmem_send.h"
#include "ivshmem_lmt.h"
#include "ivshmem_vc.h"
#include "ivshmem_outstanding.h"
#include "ivshmem_stats.h"

/* Closes the channel, if there is one. */
static void unbind_channel(MPIDI_VC_t *vc)
{
    struct ivshm_channel *channel = VC_IVSHMEM(vc)->channel;

    MPID_nem_ivshmem_vc_unlink_busy(vc);
    if (!channel)
        return;
    if (MPIR_CVAR_NEMESIS_IVSHMEM_STATS > 1)
        MPID_nem_ivshmem_stats_print_vc(vc);
    if (VC_IVSHMEM(vc)->stream) {
        MPID_nem_ivshmem_vc_remove_call(vc);
    } else {
        MPID_nem_ivshmem.vcs[ivshm_channel_peer(channel).endpoint] = NULL;
        MPID_nem_ivshmem_vc_set_ops(vc, MPID_nem_ivshmem.first_ops);
    }
    VC_IVSHMEM(vc)->channel = NULL;
    MPID_nem_ivshmem_relation_forget_vc(vc);
    ivshm_channel_close(&MPID_nem_ivshmem.transport, channel);
}

int MPID_nem_ivshmem_teardown_destroy(MPIDI_VC_t *vc)
{
    if (MPID_nem_ivshmem.joined)
        unbind_channel(vc);
    return MPI_SUCCESS;
}

static bool is_drained(MPIDI_VC_t *vc)
{
    MPID_nem_ivshmem_vc_t *area = VC_IVSHMEM(vc);
    return !area->sendq.head && area->transfers == 0 &&
           (area->gone || !(area->channel && ivshm_channel_is_pending(area->channel)));
}

/*
 * CH3 has closed the connection, but some of its data may still be unsent. Terminates it once that
 * is sent.
 */
int MPID_nem_ivshmem_teardown_drained(MPIDI_VC_t *vc)
{
    if (!is_drained(vc)) {
        VC_IVSHMEM(vc)->terminating = true;
        MPID_nem_ivshmem_vc_link_busy(vc);
        return MPI_SUCCESS;
    }
    VC_IVSHMEM(vc)->terminating = false;
    unbind_channel(vc);
    return MPIDI_CH3U_Handle_connection(vc, MPIDI_VC_EVENT_TERMINATED);
}

/*
 * The rest of the message that is being received will not arrive. If no receive has matched the
 * message, it is removed from CH3's queue, as if it had not been sent. If MPI_Mprobe has returned
 * it, it belongs to the program: its receive ends with the error.
 */
static int fail_receive(MPIDI_VC_t *vc, int req_errno)
{
    MPIR_Request *rreq = vc->ch.recv_active, *queued = NULL;

    if (!rreq)
        return MPI_SUCCESS;
    vc->ch.recv_active = NULL;
    MPID_nem_ivshmem_relation_keeps_lock(vc, rreq);
    rreq->status.MPI_ERROR = req_errno;
    if (rreq->dev.OnDataAvail == MPIDI_CH3_ReqHandler_UnpackUEBufComplete) {
        bool is_unmatched = rreq->dev.recv_pending_count > 1;
        MPL_free(rreq->dev.tmpbuf);
        rreq->dev.recv_data_sz = 0;                    /* a receive finds nothing to unpack, */
        MPIDI_Request_set_sync_send_flag(rreq, FALSE); /* and sends no acknowledgement */
        MPIR_STATUS_SET_COUNT(rreq->status, 0);
        rreq->dev.recv_pending_count = is_unmatched;
        /* NULL if its communicator has been revoked in the meantime. */
        if (is_unmatched && rreq->kind != MPIR_REQUEST_KIND__MPROBE)
            queued = MPIDI_CH3U_Recvq_FDU(rreq->dev.sender_req_id, &rreq->dev.match);
    }
    int mpi_errno = MPID_Request_complete(rreq);
    if (queued)
        MPIR_Request_free(queued);
    return mpi_errno;
}

/* Completes all requests that wait on the connection, with this error. */
static int end_requests(MPIDI_VC_t *vc, int req_errno)
{
    int mpi_errno = MPI_SUCCESS;

    mpi_errno = MPID_nem_ivshmem_sendq_fail(vc, req_errno);
    MPIR_ERR_CHECK(mpi_errno);
    mpi_errno = MPID_nem_ivshmem_lmt_fail(vc, req_errno);
    MPIR_ERR_CHECK(mpi_errno);
    mpi_errno = MPID_nem_ivshmem_outstanding_fail(vc, req_errno);
    MPIR_ERR_CHECK(mpi_errno);
    mpi_errno = fail_receive(vc, req_errno);
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Ends the current call, as in fail_vc, but only after CH3 has dealt with all that failed. */
static int report_lost(const MPIDI_VC_t *vc)
{
    return MPID_nem_ivshmem.failure = MPID_nem_ivshmem_vc_error(
               vc, "its process is dead, according to the process manager");
}

/*
 * For a rank of the same node. A message to it may wait for its answer forever: nothing but the
 * error tells the caller.
 */
static void lost_neighbour(MPIDI_VC_t *vc)
{
    (void) report_lost(vc);
    MPIDI_CH3_Progress_signal_completion();
}

void MPID_nem_ivshmem_teardown_init(void)
{
    ivshmem_pt2pt_lost = lost_neighbour;
    MPID_nem_ivshmem_deaths_init();
}

/*
 * CH3's close protocol has ended, or the process manager has reported that the peer's process
 * failed. Then the requests end here, and the connection is not marked: CH3 takes it for terminated
 * when this returns, whether it has a channel or not, and only a connection with a channel can be
 * marked. CH3 reads the report when its own progress call begins, before it polls the netmod, or
 * when the program asks which processes have failed.
 */
int MPID_nem_ivshmem_teardown_terminate(MPIDI_VC_t *vc)
{
    int mpi_errno = MPI_SUCCESS;

    if (vc->state != MPIDI_VC_STATE_CLOSED) {
        mpi_errno = end_requests(vc, report_lost(vc));
        MPIR_ERR_CHECK(mpi_errno);
    }
    mpi_errno = MPID_nem_ivshmem_teardown_drained(vc);
    MPIR_ERR_CHECK(mpi_errno);
    mpi_errno = MPID_nem_ivshmem_relation_forget_locks();
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/*
 * Whether the current MPI call may wait for the peer without a request that shows it: a receive
 * from MPI_ANY_SOURCE, or a collective in which another member waits for the peer. Only
 * MPI_Comm_accept and MPI_Comm_connect wait for a process at the other end of a new connection, and
 * they see how it ends. A connection that is being closed, and by which the peer never sent
 * anything, loses nothing: the peer may have finished normally before it heard of the connection.
 */
static bool concerns_current_call(MPIDI_VC_t *vc)
{
    if (vc->state == MPIDI_VC_STATE_LOCAL_CLOSE && VC_IVSHMEM(vc)->received_bytes == 0)
        return false;
    return !MPIR_CVAR_ENABLE_FT && vc->pg &&
           (vc->pg == MPIDI_Process.my_pg || MPID_nem_ivshmem_relation_shares_comm(vc));
}

/*
 * The peer is dead, or sent something invalid. All requests that wait on the connection end with
 * this error, which says why. So does the current MPI call, if it may wait for the peer, unless the
 * job asked for fault tolerance.
 */
static int fail_vc(MPIDI_VC_t *vc, int req_errno)
{
    int mpi_errno = MPI_SUCCESS;

    mpi_errno = end_requests(vc, req_errno);
    MPIR_ERR_CHECK(mpi_errno);
    bool concerned = concerns_current_call(vc);
    unbind_channel(vc);
    /* In MPI_Finalize, CH3 has nothing to terminate for peers that were never in contact. */
    if (vc->state != MPIDI_VC_STATE_INACTIVE_CLOSED)
        mpi_errno = MPIDI_CH3U_Handle_connection(vc, MPIDI_VC_EVENT_TERMINATED);
    MPIR_ERR_CHECK(mpi_errno);
    if (MPIR_CVAR_ENABLE_FT && vc->pg == MPIDI_Process.my_pg) {
        mpi_errno = MPID_nem_ivshmem_deaths_found(vc->pg_rank);
        MPIR_ERR_CHECK(mpi_errno);
    }
    if (concerned)
        mpi_errno = req_errno;

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

static int tell_ch3(MPIDI_VC_t *vc, MPIDI_CH3_Pkt_t *pkt)
{
    return MPID_nem_handle_pkt(vc, (char *) pkt, sizeof(*pkt));
}

/*
 * The other side of a connection by MPI_Comm_connect is gone, or sent something invalid. CH3 waits
 * for it in two ways that no error ends: for its agreement, and for its part of the close protocol.
 * So we hand CH3 the packets that the peer would have sent, when CH3 reaches each of these points:
 * a refusal, and an acknowledged CLOSE. After both sides have agreed, and before either closes, the
 * connection is like any other, and fails like any other.
 */
static int abort_call(MPIDI_VC_t *vc, int req_errno)
{
    int mpi_errno = MPI_SUCCESS;
    MPID_nem_ivshmem_vc_t *area = VC_IVSHMEM(vc);
    MPIDI_CH3_Pkt_t pkt;

    if (vc->state == MPIDI_VC_STATE_ACTIVE && area->met)
        return fail_vc(vc, req_errno);
    mpi_errno = end_requests(vc, req_errno);
    MPIR_ERR_CHECK(mpi_errno);
    vc->ch.pending_pkt_len = 0;
    if (vc->state == MPIDI_VC_STATE_ACTIVE && !area->refused) {
        area->refused = true;
        MPIDI_Pkt_init(&pkt.conn_ack, area->stream & IVSHMEM_STREAM_REPLY ? MPIDI_CH3_PKT_ACCEPT_ACK
                                                                          : MPIDI_CH3_PKT_CONN_ACK);
        pkt.conn_ack.ack = FALSE;
        mpi_errno = tell_ch3(vc, &pkt);
    } else if (vc->state == MPIDI_VC_STATE_LOCAL_CLOSE || vc->state == MPIDI_VC_STATE_CLOSE_ACKED) {
        MPIDI_Pkt_init(&pkt.close, MPIDI_CH3_PKT_CLOSE);
        pkt.close.ack = TRUE;
        mpi_errno = tell_ch3(vc, &pkt);
    }
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* For a call that is marked. *again is set if more steps follow, as CH3 reaches them. */
static int end_call(MPIDI_VC_t *vc, bool *again)
{
    int mpi_errno = MPI_SUCCESS;
    MPID_nem_ivshmem_vc_t *area = VC_IVSHMEM(vc);
    int left = area->left;

    area->left = MPI_SUCCESS;
    if (area->failure) {
        *again = true;
        mpi_errno = abort_call(vc, area->failure);
    } else if (left) {
        mpi_errno = end_requests(vc, left);
    }
    return mpi_errno;
}

/* Returns the error of the last connection that failed. */
int MPID_nem_ivshmem_teardown_failed_vcs(void)
{
    int mpi_errno = MPI_SUCCESS, err, failed = MPID_nem_ivshmem.failed_vcs;
    bool again = false;

    MPID_nem_ivshmem.failed_vcs = 0; /* until another connection is marked */
    for (uint32_t i = 0;
         failed & IVSHMEM_FAILED_RANK && i < ivshm_region_endpoints(&MPID_nem_ivshmem.region);
         i++) {
        MPIDI_VC_t *vc = MPID_nem_ivshmem.vcs[i];
        if (vc && VC_IVSHMEM(vc)->failure &&
            (err = fail_vc(vc, VC_IVSHMEM(vc)->failure)) != MPI_SUCCESS)
            mpi_errno = err;
    }
    for (MPIDI_VC_t *next, *vc = failed & IVSHMEM_FAILED_CALL ? MPID_nem_ivshmem.dynamic : NULL; vc;
         vc = next) {
        next = VC_IVSHMEM(vc)->next_dynamic;
        if ((err = end_call(vc, &again)) != MPI_SUCCESS)
            mpi_errno = err;
    }
    if (again)
        MPID_nem_ivshmem.failed_vcs |= IVSHMEM_FAILED_CALL;
    err = MPID_nem_ivshmem_relation_forget_locks();
    return mpi_errno ? mpi_errno : err;
}
