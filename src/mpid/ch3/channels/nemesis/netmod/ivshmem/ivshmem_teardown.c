/* SPDX-License-Identifier: mpich2 */
/*
 * How connections through the region end: closed by CH3's protocol once all is sent, failed, or,
 * if no call has accepted them, called off. Who finds that a connection cannot go on records it
 * with MPID_nem_ivshmem_vc_mark_failed; it is carried out here, when no packet is being handled.
 */
#include "ivshmem_netmod.h"

/* Lets go of the channel, if there is one. */
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

/* The connection is closed, but what it has to send may not be gone yet. Ends it once that is. */
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
 * The rest of what is being received will not come. A message that no receive has met is dropped
 * from CH3's queue, as one that was not sent. One that MPI_Mprobe has given out is the program's:
 * its receive ends with the error.
 */
static int fail_receive(MPIDI_VC_t *vc, int req_errno)
{
    MPIR_Request *rreq = vc->ch.recv_active, *queued = NULL;

    if (!rreq)
        return MPI_SUCCESS;
    vc->ch.recv_active = NULL;
    rreq->status.MPI_ERROR = req_errno;
    if (rreq->dev.OnDataAvail == MPIDI_CH3_ReqHandler_UnpackUEBufComplete) {
        bool is_unmatched = rreq->dev.recv_pending_count > 1;
        MPL_free(rreq->dev.tmpbuf);
        rreq->dev.recv_data_sz = 0; /* whoever receives it finds nothing to unpack, */
        MPIDI_Request_set_sync_send_flag(rreq, FALSE); /* and nobody to tell */
        MPIR_STATUS_SET_COUNT(rreq->status, 0);
        rreq->dev.recv_pending_count = is_unmatched;
        /* NULL if its communicator was revoked meanwhile. */
        if (is_unmatched && rreq->kind != MPIR_REQUEST_KIND__MPROBE)
            queued = MPIDI_CH3U_Recvq_FDU(rreq->dev.sender_req_id, &rreq->dev.match);
    }
    int mpi_errno = MPID_Request_complete(rreq);
    if (queued)
        MPIR_Request_free(queued);
    return mpi_errno;
}

/* Completes all that waits on the connection with an error. */
int MPID_nem_ivshmem_teardown_requests(MPIDI_VC_t *vc, int req_errno)
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

/* By CH3's close protocol, or because the process manager says that the peer's process has failed.
 */
int MPID_nem_ivshmem_teardown_terminate(MPIDI_VC_t *vc)
{
    int mpi_errno = MPI_SUCCESS;

    if (vc->state != MPIDI_VC_STATE_CLOSED) {
        int req_errno =
            MPID_nem_ivshmem_vc_error(vc, "its process is dead, says the process manager");
        /* Ends the current call, as in teardown_fail, but not before CH3 is done with all who
         * failed. */
        MPID_nem_ivshmem.failure = req_errno;
        mpi_errno = MPID_nem_ivshmem_teardown_requests(vc, req_errno);
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
 * Whether the current MPI call may wait for the peer in a way that no request tells
 * (MPI_ANY_SOURCE, a collective of which another member waits for it). For a process at the other
 * end of a new connection only MPI_Comm_accept and MPI_Comm_connect wait, which see how it ends.
 * One that is closed to a rank that never sent anything by it loses nothing: that rank may have
 * left as it should, before it heard of the connection.
 */
static bool concerns_current_call(MPIDI_VC_t *vc)
{
    if (vc->state == MPIDI_VC_STATE_LOCAL_CLOSE && VC_IVSHMEM(vc)->received_bytes == 0)
        return false;
    return !MPIR_CVAR_ENABLE_FT && vc->pg &&
           (vc->pg == MPIDI_Process.my_pg || MPID_nem_ivshmem_relation_shares_comm(vc));
}

/*
 * The peer is dead, or sent nonsense. All that waits on it ends with an error that says why, and so
 * does the current MPI call, if it may wait for it, unless the job asked for fault tolerance.
 */
int MPID_nem_ivshmem_teardown_fail(MPIDI_VC_t *vc, const char *why)
{
    int mpi_errno = MPI_SUCCESS;

    int req_errno = MPID_nem_ivshmem_vc_error(vc, why);
    mpi_errno = MPID_nem_ivshmem_teardown_requests(vc, req_errno);
    MPIR_ERR_CHECK(mpi_errno);
    bool concerned = concerns_current_call(vc);
    unbind_channel(vc);
    /* In MPI_Finalize CH3 knows nothing to end of those that were never met. */
    if (vc->state != MPIDI_VC_STATE_INACTIVE_CLOSED)
        mpi_errno = MPIDI_CH3U_Handle_connection(vc, MPIDI_VC_EVENT_TERMINATED);
    MPIR_ERR_CHECK(mpi_errno);
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
 * The other side of a connection by MPI_Comm_connect is gone, or sent nonsense. CH3 waits for it in
 * ways that no error ends: for its yes, and for its part of the closing. So we say what it would
 * have said, as CH3 comes to each of them: no, and that it has closed. Once both have agreed, and
 * before either closes, it is a connection like others, and fails like them.
 */
int MPID_nem_ivshmem_teardown_abort_call(MPIDI_VC_t *vc, const char *why)
{
    int mpi_errno = MPI_SUCCESS;
    MPID_nem_ivshmem_vc_t *area = VC_IVSHMEM(vc);
    MPIDI_CH3_Pkt_t pkt;

    if (vc->state == MPIDI_VC_STATE_ACTIVE && area->met)
        return MPID_nem_ivshmem_teardown_fail(vc, why);
    int req_errno = MPID_nem_ivshmem_vc_error(vc, why);
    mpi_errno = MPID_nem_ivshmem_teardown_requests(vc, req_errno);
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

static const char *reason_of(const MPIDI_VC_t *vc)
{
    return vc == MPID_nem_ivshmem.failed_vcs.first ? MPID_nem_ivshmem.failed_vcs.why
                                                   : "sent what is no message";
}

/* No packet is being handled. The error returned is that of the last one that failed. */
int MPID_nem_ivshmem_teardown_failed_vcs(void)
{
    int mpi_errno = MPI_SUCCESS, err;

    for (uint32_t i = 0;
         MPID_nem_ivshmem.failed_vcs.first && i < ivshm_region_endpoints(&MPID_nem_ivshmem.region);
         i++) {
        MPIDI_VC_t *vc = MPID_nem_ivshmem.vcs[i];
        if (vc && VC_IVSHMEM(vc)->failed &&
            (err = MPID_nem_ivshmem_teardown_fail(vc, reason_of(vc))) != MPI_SUCCESS)
            mpi_errno = err;
    }
    /* A new connection is called off in several steps, as CH3 comes to them. */
    MPID_nem_ivshmem.failed_vcs.some = false;
    for (MPIDI_VC_t *next,
         *vc = MPID_nem_ivshmem.failed_vcs.calls ? MPID_nem_ivshmem.dynamic : NULL;
         vc; vc = next) {
        next = VC_IVSHMEM(vc)->next_dynamic;
        if (!VC_IVSHMEM(vc)->failed)
            continue;
        MPID_nem_ivshmem.failed_vcs.some = true;
        if ((err = MPID_nem_ivshmem_teardown_abort_call(vc, reason_of(vc))) != MPI_SUCCESS)
            mpi_errno = err;
    }
    MPID_nem_ivshmem.failed_vcs.calls = MPID_nem_ivshmem.failed_vcs.some;
    MPID_nem_ivshmem.failed_vcs.first = NULL;
    err = MPID_nem_ivshmem_relation_forget_locks();
    return mpi_errno ? mpi_errno : err;
}
