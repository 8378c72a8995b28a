/* SPDX-License-Identifier: mpich2 */
/*
 * Decides which path the messages of two ranks take: the region if both map the same one, otherwise
 * MPICH's tcp netmod. Both ends compare the same two business cards, so they decide alike. Each
 * decides when it sends its first message to the other, or when the other's first message arrives;
 * the sender's entry in the endpoint table then names its job and rank.
 *
 * Until then, a connection uses the functions in this file. They decide, open the channel through
 * the region, and continue with the functions of the chosen path, which therefore never connect.
 * The connection's netmod area is tcp's until then, because a peer that has already decided may
 * connect by tcp.
 *
 * tcp is polled only where a message may arrive by it: in a rank that does not know all its peers
 * to share its region, or that has opened a port.
 *
 * Called by MPICH through the function table, and by the other files, always under MPICH's global
 * lock.
 */
#include "ivshmem_path.h"

#include "ivshmem_teardown.h"
#include "ivshmem_send.h"
#include "ivshmem_lmt.h"
#include "ivshmem_vc.h"
#include "ivshmem_card.h"
#include "ivshmem_limit.h"
#include "ivshmem_error.h"
#include "ivshmem_info.h"
#include "ivshmem_stats.h"

#include "../tcp/tcp_impl.h"

_Static_assert(MPL_MAX(sizeof(MPID_nem_ivshmem_vc_t), sizeof(MPID_nem_tcp_vc_area)) +
                       sizeof(MPID_nem_ivshmem_pair_t) <=
                   MPIDI_NEM_VC_NETMOD_AREA_LEN,
               "either path's part of a VC lives in its netmod area, and the pair's behind it");

static __typeof__(MPID_nem_ivshmem.path) *const path = &MPID_nem_ivshmem.path;

static const MPID_nem_ivshmem_ops_t first_ops;

/* Turns polling of tcp on or off for the next progress call. */
static void update_polling(void)
{
    MPID_nem_ivshmem.poll_tcp = MPID_nem_ivshmem.tcp && (path->some_apart || path->undecided ||
                                                         path->port || path->pairs > 0);
}

/*
 * Whether a request waits for a lost rank. MPICH's tcp does not complete all of these, see
 * poll_socket.
 */
static int is_lost(const MPIR_Request *req)
{
    MPIDI_VC_t *vc;
    int rank = req->dev.match.parts.rank;

    /* A request of a collective does not belong to one rank. */
    if (req->kind != MPIR_REQUEST_KIND__SEND && req->kind != MPIR_REQUEST_KIND__RECV)
        return 0;
    if (rank == MPI_ANY_SOURCE)
        rank = req->status.MPI_SOURCE;
    if (!req->comm || rank < 0 || rank >= req->comm->remote_size)
        return 0;
    MPIDI_Comm_get_vc(req->comm, rank, &vc);
    return vc->state == MPIDI_VC_STATE_MORIBUND;
}

static void keep_failure(int mpi_errno)
{
    MPID_nem_ivshmem.failure = mpi_errno;
}

int MPID_nem_ivshmem_path_init(MPIDI_PG_t *pg, int pg_rank, char **bc_val_p, int *val_max_sz_p)
{
    int mpi_errno = MPI_SUCCESS;
    char *card = *bc_val_p;
    int room = *val_max_sz_p;

    MPID_nem_ivshmem.first_ops = &first_ops;
    ivshmem_pt2pt_is_lost = is_lost;
    ivshmem_pt2pt_keep = keep_failure;
    if (MPIR_CVAR_NEMESIS_IVSHMEM_FALLBACK == 0)
        goto fn_exit;
    mpi_errno = MPID_nem_tcp_init(pg, pg_rank, bc_val_p, val_max_sz_p);
    /* It would treat every connection as its own. */
    MPID_nem_net_module_vc_dbg_print_sendq = NULL;
    MPIR_ERR_CHECK(mpi_errno);
    MPID_nem_ivshmem.tcp = true;
    path->some_apart = MPID_nem_mem_region.ext_procs > 0;
    update_polling();

fn_exit:
    return mpi_errno;
fn_fail:
    /* A truncated card would mislead others. */
    *bc_val_p = card;
    *val_max_sz_p = room;
    *card = '\0';
    goto fn_exit;
}

int MPID_nem_ivshmem_path_finalize(void)
{
    int mpi_errno = MPI_SUCCESS;

    if (MPID_nem_ivshmem.tcp)
        mpi_errno = MPID_nem_tcp_finalize();
    MPID_nem_ivshmem.tcp = false;
    return mpi_errno;
}

/* Writes tcp's part of the card. */
int MPID_nem_ivshmem_path_get_card(int my_rank, char **bc_val_p, int *val_max_sz_p)
{
    if (!MPID_nem_ivshmem.tcp)
        return MPI_SUCCESS;
    path->port = true;
    update_polling();
    return MPID_nem_tcp_get_business_card(my_rank, bc_val_p, val_max_sz_p);
}

static void count_sent(MPIDI_VC_t *vc, intptr_t bytes)
{
    VC_PAIR(vc)->sent_bytes += bytes;
    MPID_nem_ivshmem.stats.tcp_sent++;
    MPID_nem_ivshmem.stats.tcp_sent_bytes += bytes;
}

static int tcp_iStartContigMsg(MPIDI_VC_t *vc, void *hdr, intptr_t hdr_sz, void *data,
                               intptr_t data_sz, MPIR_Request **sreq_ptr)
{
    count_sent(vc, sizeof(MPIDI_CH3_Pkt_t) + data_sz);
    return MPID_nem_tcp_iStartContigMsg(vc, hdr, hdr_sz, data, data_sz, sreq_ptr);
}

static int tcp_iSendContig(MPIDI_VC_t *vc, MPIR_Request *sreq, void *hdr, intptr_t hdr_sz,
                           void *data, intptr_t data_sz)
{
    count_sent(vc, sizeof(MPIDI_CH3_Pkt_t) + data_sz);
    return MPID_nem_tcp_iSendContig(vc, sreq, hdr, hdr_sz, data, data_sz);
}

static int tcp_iSendIov(MPIDI_VC_t *vc, MPIR_Request *sreq, void *hdr, intptr_t hdr_sz,
                        struct iovec *iov, int n_iov)
{
    count_sent(vc, sizeof(MPIDI_CH3_Pkt_t) + MPID_nem_ivshmem_iov_bytes(iov, n_iov));
    return MPID_nem_tcp_iSendIov(vc, sreq, hdr, hdr_sz, iov, n_iov);
}

static int tcp_SendNoncontig(MPIDI_VC_t *vc, MPIR_Request *sreq, void *hdr, intptr_t hdr_sz,
                             struct iovec *hdr_iov, int n_hdr_iov)
{
    count_sent(vc, sizeof(MPIDI_CH3_Pkt_t) + MPID_nem_ivshmem_iov_bytes(hdr_iov, n_hdr_iov) +
                       sreq->dev.msgsize - sreq->dev.msg_offset);
    return MPID_nem_tcp_SendNoncontig(vc, sreq, hdr, hdr_sz, hdr_iov, n_hdr_iov);
}

static const MPID_nem_ivshmem_ops_t tcp_ops = {
    .sendNoncontig = tcp_SendNoncontig,
    .rndvSend = MPID_nem_lmt_RndvSend,
    .iStartContigMsg = tcp_iStartContigMsg,
    .iSendContig = tcp_iSendContig,
    .iSendIov = tcp_iSendIov,
};

static const MPID_nem_ivshmem_ops_t region_ops = {
    .sendNoncontig = MPID_nem_ivshmem_SendNoncontig,
    .rndvSend = MPID_nem_lmt_RndvSend,
    .iStartContigMsg = MPID_nem_ivshmem_iStartContigMsg,
    .iSendContig = MPID_nem_ivshmem_iSendContig,
    .iSendIov = MPID_nem_ivshmem_iSendIov,
};

/* From now on the connection uses tcp. Its area is tcp's already. */
static void use_tcp(MPIDI_VC_t *vc)
{
    VC_PAIR(vc)->path = IVSHMEM_PATH_TCP;
    path->pairs++;
    update_polling();
    MPID_nem_ivshmem_vc_set_ops(vc, &tcp_ops);
    vc->eager_max_msg_sz = MPIR_CVAR_CH3_EAGER_MAX_MSG_SIZE;
    vc->ready_eager_max_msg_sz = -1; /* no limit, as in CH3 */
    MPID_nem_ivshmem_info_print_vc(vc);
}

/* From now on the connection goes through the region, to that endpoint. It has no channel yet. */
static void use_region(MPIDI_VC_t *vc, struct ivshm_owner peer)
{
    memset(VC_IVSHMEM(vc), 0, sizeof(*VC_IVSHMEM(vc)));
    VC_IVSHMEM(vc)->peer = peer;
    VC_IVSHMEM(vc)->known_context = IVSHMEM_NO_CONTEXT;
    VC_PAIR(vc)->path = IVSHMEM_PATH_REGION;
    MPID_nem_ivshmem_limit_set(vc);
    MPID_nem_ivshmem_lmt_vc_init(vc);
    MPID_nem_ivshmem_info_print_vc(vc);
}

static bool is_same(struct ivshm_owner a, struct ivshm_owner b)
{
    return a.endpoint == b.endpoint && a.generation == b.generation;
}

/*
 * Whether the rank is at that endpoint, according to its business card. The endpoint table also
 * names jobs and ranks, but anybody could have written that.
 */
static bool is_at(MPIDI_VC_t *vc, struct ivshm_owner peer)
{
    if (vc->ch.is_local ||
        (vc->pg == MPIDI_Process.my_pg && vc->pg_rank == MPIDI_Process.my_pg_rank))
        return false;
    return MPID_nem_ivshmem_path_is_in_region(vc) &&
           VC_IVSHMEM(vc)->peer.endpoint == peer.endpoint &&
           VC_IVSHMEM(vc)->peer.generation == peer.generation;
}

/*
 * Whether this rank, or another rank that we knew before, is at that endpoint. Then the card of
 * `vc`, which came from the other end of a call, is forged, and would divert the other rank's
 * messages.
 */
static bool is_taken(const MPIDI_VC_t *vc, struct ivshm_owner peer)
{
    MPID_nem_ivshmem_ranks_t at = {0};
    bool found = is_same(ivshm_transport_self(&MPID_nem_ivshmem.transport), peer);

    if (vc->pg == MPIDI_Process.my_pg)
        return false;
    for (MPIDI_VC_t *other; !found && (other = MPID_nem_ivshmem_vc_next(&at));)
        found = other != vc &&
                (other->pg == MPIDI_Process.my_pg || VC_PAIR(other)->path == IVSHMEM_PATH_REGION) &&
                is_at(other, peer);
    return found;
}

/* The first message decides. A connection that came by tcp from another job's port stays on tcp. */
static int decide_path(MPIDI_VC_t *vc)
{
    int mpi_errno = MPI_SUCCESS;
    char why_not[IVSHMEM_TEXT_MAX] = "", name[IVSHMEM_NAME_MAX];
    struct ivshm_owner peer;
    bool shared = false;

    if (vc->pg) {
        mpi_errno = MPID_nem_ivshmem_card_find_peer(vc, &peer, &shared, why_not);
        if (shared && is_taken(vc, peer))
            snprintf(why_not, sizeof(why_not),
                     "%s names the endpoint of another rank in its business card",
                     MPID_nem_ivshmem_vc_name(vc, name));
        if (mpi_errno == MPI_SUCCESS && *why_not)
            mpi_errno = MPID_nem_ivshmem_error(why_not);
        if (mpi_errno != MPI_SUCCESS && vc->state == MPIDI_VC_STATE_ACTIVE) {
            /* No path leads there, so receives from it must not wait either. */
            int failed = MPIDI_CH3U_Handle_connection(vc, MPIDI_VC_EVENT_TERMINATED);
            MPIR_ERR_ADD(mpi_errno, failed);
        }
        MPIR_ERR_CHECK(mpi_errno);
    }
    if (shared)
        use_region(vc, peer);
    else
        use_tcp(vc);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Decides only for the region: the caller has nothing to send, and need not know why not. */
bool MPID_nem_ivshmem_path_is_in_region(MPIDI_VC_t *vc)
{
    char why_not[IVSHMEM_TEXT_MAX];
    struct ivshm_owner peer;
    bool shared;

    if (VC_PAIR(vc)->path == IVSHMEM_PATH_UNDECIDED &&
        MPID_nem_ivshmem_card_find_peer(vc, &peer, &shared, why_not) == MPI_SUCCESS && shared &&
        !is_taken(vc, peer))
        use_region(vc, peer);
    return VC_PAIR(vc)->path == IVSHMEM_PATH_REGION;
}

bool MPID_nem_ivshmem_path_open_channel(struct ivshm_owner peer, const char *who,
                                        struct ivshm_channel **channel, char text[IVSHMEM_TEXT_MAX])
{
    struct ivshm_diag diag = {""};

    if (ivshm_channel_open(&MPID_nem_ivshmem.transport, peer, channel, &diag) == 0)
        return true;
    snprintf(text, IVSHMEM_TEXT_MAX, "%s cannot be reached: %.300s", who, diag.text);
    return false;
}

/*
 * Binds the job's own connection to a rank to the channel to its endpoint. In MPI_Finalize, CH3 has
 * already closed all connections that it knew. A new one is then closed as well, because the peer
 * that has sent there waits for that (MPIX_Comm_revoke sends to ranks that have not been in
 * contact).
 */
static int bind_rank(MPIDI_VC_t *vc, struct ivshm_channel *channel)
{
    bool is_late = vc->state == MPIDI_VC_STATE_INACTIVE_CLOSED;

    VC_IVSHMEM(vc)->channel = channel;
    MPID_nem_ivshmem_vc_set_ops(vc, &region_ops);
    MPID_nem_ivshmem.vcs[ivshm_channel_peer(channel).endpoint] = vc;
    if (is_late || vc->state == MPIDI_VC_STATE_INACTIVE)
        MPIDI_CHANGE_VC_STATE(vc, ACTIVE);
    return is_late ? MPIDI_CH3U_VC_SendClose(vc, vc->pg_rank) : MPI_SUCCESS;
}

void MPID_nem_ivshmem_path_bind_call(MPIDI_VC_t *vc, struct ivshm_channel *channel, uint32_t stream)
{
    use_region(vc, ivshm_channel_peer(channel));
    MPID_nem_ivshmem_vc_set_ops(vc, &region_ops);
    MPID_nem_ivshmem_vc_add_call(vc, channel, stream);
}

static int connect_rank(MPIDI_VC_t *vc)
{
    int mpi_errno = MPI_SUCCESS;
    struct ivshm_channel *channel;
    char text[IVSHMEM_TEXT_MAX], name[IVSHMEM_NAME_MAX];

    /* CH3 checks this before all messages except large ones. */
    if (vc->state == MPIDI_VC_STATE_MORIBUND) {
        mpi_errno = MPID_nem_ivshmem_vc_error(vc, "its process is dead");
        goto fn_exit;
    }
    if (MPID_nem_ivshmem.vcs[VC_IVSHMEM(vc)->peer.endpoint]) {
        mpi_errno = MPID_nem_ivshmem_vc_error(vc, "another rank is at the endpoint that its "
                                                  "business card names");
        goto fn_exit;
    }
    if (!MPID_nem_ivshmem_path_open_channel(VC_IVSHMEM(vc)->peer,
                                            MPID_nem_ivshmem_vc_name(vc, name), &channel, text)) {
        /*
         * There is no connection yet that could fail: only this call ends with the error. But
         * receives from the rank must not wait either.
         */
        mpi_errno = MPID_nem_ivshmem_peer_error(text);
        if (vc->state != MPIDI_VC_STATE_INACTIVE_CLOSED) {
            int failed = MPIDI_CH3U_Handle_connection(vc, MPIDI_VC_EVENT_TERMINATED);
            MPIR_ERR_ADD(mpi_errno, failed);
        }
    }
    MPIR_ERR_CHECK(mpi_errno);
    IVSHM_TRACEPOINT(connected);
    mpi_errno = bind_rank(vc, channel);
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Prepares for the first message: a path and, through the region, a channel. */
static int prepare_first(MPIDI_VC_t *vc)
{
    int mpi_errno = MPI_SUCCESS;

    if (VC_PAIR(vc)->path == IVSHMEM_PATH_UNDECIDED) {
        mpi_errno = decide_path(vc);
        MPIR_ERR_CHECK(mpi_errno);
    }
    if (VC_PAIR(vc)->path == IVSHMEM_PATH_REGION) {
        mpi_errno = connect_rank(vc);
        MPIR_ERR_CHECK(mpi_errno);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

static int first_iStartContigMsg(MPIDI_VC_t *vc, void *hdr, intptr_t hdr_sz, void *data,
                                 intptr_t data_sz, MPIR_Request **sreq_ptr)
{
    *sreq_ptr = NULL;
    int mpi_errno = prepare_first(vc);
    return mpi_errno ? mpi_errno : vc->ch.iStartContigMsg(vc, hdr, hdr_sz, data, data_sz, sreq_ptr);
}

static int first_iSendContig(MPIDI_VC_t *vc, MPIR_Request *sreq, void *hdr, intptr_t hdr_sz,
                             void *data, intptr_t data_sz)
{
    int mpi_errno = prepare_first(vc);
    return mpi_errno ? mpi_errno : vc->ch.iSendContig(vc, sreq, hdr, hdr_sz, data, data_sz);
}

static int first_iSendIov(MPIDI_VC_t *vc, MPIR_Request *sreq, void *hdr, intptr_t hdr_sz,
                          struct iovec *iov, int n_iov)
{
    int mpi_errno = prepare_first(vc);
    return mpi_errno ? mpi_errno : vc->ch.iSendIov(vc, sreq, hdr, hdr_sz, iov, n_iov);
}

static int first_SendNoncontig(MPIDI_VC_t *vc, MPIR_Request *sreq, void *hdr, intptr_t hdr_sz,
                               struct iovec *hdr_iov, int n_hdr_iov)
{
    int mpi_errno = prepare_first(vc);
    return mpi_errno ? mpi_errno : vc->sendNoncontig_fn(vc, sreq, hdr, hdr_sz, hdr_iov, n_hdr_iov);
}

static int first_RndvSend(MPIR_Request **sreq_p, const void *buf, MPI_Aint count,
                          MPI_Datatype datatype, int dt_contig, intptr_t data_sz,
                          MPI_Aint dt_true_lb, int rank, int tag, struct MPIR_Comm *comm,
                          int context_offset)
{
    MPIDI_VC_t *vc;
    MPIDI_Comm_get_vc_set_active(comm, rank, &vc);
    int mpi_errno = prepare_first(vc);
    return mpi_errno ? mpi_errno
                     : vc->rndvSend_fn(sreq_p, buf, count, datatype, dt_contig, data_sz, dt_true_lb,
                                       rank, tag, comm, context_offset);
}

static const MPID_nem_ivshmem_ops_t first_ops = {
    .sendNoncontig = first_SendNoncontig,
    .rndvSend = first_RndvSend,
    .iStartContigMsg = first_iStartContigMsg,
    .iSendContig = first_iSendContig,
    .iSendIov = first_iSendIov,
};

int MPID_nem_ivshmem_path_vc_init(MPIDI_VC_t *vc)
{
    int mpi_errno = MPI_SUCCESS;

    memset(VC_PAIR(vc), 0, sizeof(*VC_PAIR(vc)));
    if (MPID_nem_ivshmem.tcp) {
        mpi_errno = MPID_nem_tcp_vc_init(vc);
        MPIR_ERR_CHECK(mpi_errno);
    }
    MPID_nem_ivshmem_vc_set_ops(vc, &first_ops);
    MPID_nem_ivshmem_limit_set(vc);
    if (vc->pg && vc->pg != MPIDI_Process.my_pg) {
        MPID_nem_ivshmem.news = true;
        path->undecided = true;
        update_polling();
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

int MPID_nem_ivshmem_path_vc_destroy(MPIDI_VC_t *vc)
{
    if (vc->ch.is_local)
        return MPI_SUCCESS;
    if (VC_PAIR(vc)->path == IVSHMEM_PATH_REGION)
        return MPID_nem_ivshmem_teardown_destroy(vc);
    if (VC_PAIR(vc)->path == IVSHMEM_PATH_TCP) {
        if (MPIR_CVAR_NEMESIS_IVSHMEM_STATS > 1 && VC_PAIR(vc)->sent_bytes > 0)
            MPID_nem_ivshmem_stats_print_vc(vc);
        VC_PAIR(vc)->path = IVSHMEM_PATH_UNDECIDED;
        path->pairs--;
        update_polling();
    }
    return MPI_SUCCESS;
}

int MPID_nem_ivshmem_path_vc_terminate(MPIDI_VC_t *vc)
{
    if (VC_PAIR(vc)->path == IVSHMEM_PATH_REGION)
        return MPID_nem_ivshmem_teardown_terminate(vc);
    return MPID_nem_ivshmem.tcp ? MPID_nem_tcp_vc_terminate(vc)
                                : MPIDI_CH3U_Handle_connection(vc, MPIDI_VC_EVENT_TERMINATED);
}

int MPID_nem_ivshmem_path_tcp_connect(const char *business_card, MPIDI_VC_t *vc)
{
    use_tcp(vc);
    return MPID_nem_tcp_connect_to_root(business_card, vc);
}

/* Whether all ranks of our job are in our region now. */
static bool all_here(void)
{
    const MPIDI_PG_t *pg = MPIDI_Process.my_pg;
    struct ivshm_endpoint_info info;
    int here = 0;

    if (!MPID_nem_ivshmem.joined)
        return false;
    for (uint32_t i = 0; i < ivshm_region_endpoints(&MPID_nem_ivshmem.region); i++)
        if (ivshm_endpoint_read(&MPID_nem_ivshmem.region, i, &info) == 0 &&
            info.claim.state == IVSHM_CLAIM_LIVE &&
            strncmp(info.job, (const char *) pg->id, sizeof(info.job) - 1) == 0)
            here++;
    return here == pg->size;
}

/* Decides for all ranks of other jobs. Their cards came with the connection to their job. */
static int decide_new(void)
{
    int mpi_errno = MPI_SUCCESS;
    MPID_nem_ivshmem_ranks_t at = {0};

    path->undecided = false;
    for (MPIDI_VC_t *vc; (vc = MPID_nem_ivshmem_vc_next(&at));) {
        if (vc->pg == MPIDI_Process.my_pg || VC_PAIR(vc)->path != IVSHMEM_PATH_UNDECIDED)
            continue;
        mpi_errno = decide_path(vc);
        MPIR_ERR_CHECK(mpi_errno);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* The connection by tcp that has just failed; NULL if its peer is of no job that we know. */
static MPIDI_VC_t *find_lost(void)
{
    MPID_nem_ivshmem_ranks_t at = {0};

    for (MPIDI_VC_t *vc; (vc = MPID_nem_ivshmem_vc_next(&at));)
        if (vc->state == MPIDI_VC_STATE_MORIBUND && VC_PAIR(vc)->path != IVSHMEM_PATH_REGION &&
            !VC_PAIR(vc)->lost) {
            VC_PAIR(vc)->lost = true;
            return vc;
        }
    return NULL;
}

/*
 * MPICH's tcp completes only requests that it knows to wait for the peer. It misses a rendezvous
 * that waits for an answer, and a receive from any source. So the current call ends with an error,
 * as it does for a peer in the region.
 */
static int poll_socket(int in_blocking_poll)
{
    int failed = MPIDI_Failed_vc_count;
    int mpi_errno = MPID_nem_tcp_connpoll(in_blocking_poll);

    if (!mpi_errno && MPIDI_Failed_vc_count > failed && !MPIR_CVAR_ENABLE_FT) {
        char text[300], name[IVSHMEM_NAME_MAX];
        snprintf(text, sizeof(text), "%s: its connection by tcp is lost",
                 MPID_nem_ivshmem_vc_name(find_lost(), name));
        mpi_errno = MPID_nem_ivshmem_peer_error(text);
    }
    return mpi_errno;
}

int MPID_nem_ivshmem_path_tcp_poll(int in_blocking_poll)
{
    int mpi_errno = MPI_SUCCESS;

    if (path->undecided) {
        mpi_errno = decide_new();
        MPIR_ERR_CHECK(mpi_errno);
    }
    /*
     * All ranks have joined by the end of MPI_Init, so the first calls settle this, or it stays.
     * Checking at powers of two keeps the cost down.
     */
    if (path->some_apart) {
        ++path->polls;
        if ((path->polls & (path->polls - 1)) == 0)
            path->some_apart = !all_here();
    }
    update_polling();
    /* A rank that waits at a port is in a blocking call. There, tcp skips most polls. */
    if (path->some_apart || path->pairs > 0 || (path->port && in_blocking_poll))
        mpi_errno = poll_socket(in_blocking_poll && !MPID_nem_ivshmem.wait.slept);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* The endpoint table holds a truncated job name. */
static bool is_name_of(const struct ivshm_endpoint_info *info, const MPIDI_PG_t *pg)
{
    return strncmp(info->job, (const char *) pg->id, sizeof(info->job) - 1) == 0;
}

/* The connection to the rank at this endpoint; NULL if it is not of a job that we know. */
static MPIDI_VC_t *find_rank(const struct ivshm_channel *channel)
{
    struct ivshm_endpoint_info info;
    MPIDI_PG_iterator iter;
    MPIDI_PG_t *pg;
    MPIDI_VC_t *vc;

    if (ivshm_endpoint_read(&MPID_nem_ivshmem.region, ivshm_channel_peer(channel).endpoint,
                            &info) != 0)
        return NULL;
    MPIDI_PG_Get_iterator(&iter);
    while (MPIDI_PG_Has_next(&iter)) {
        MPIDI_PG_Get_next(&iter, &pg);
        if (!is_name_of(&info, pg) || info.rank >= (uint32_t) pg->size)
            continue;
        MPIDI_PG_Get_vc(pg, (int) info.rank, &vc);
        if (is_at(vc, ivshm_channel_peer(channel)))
            return vc;
    }
    return NULL;
}

int MPID_nem_ivshmem_path_adopt(struct ivshm_channel *channel, MPIDI_VC_t **vc_p)
{
    MPIDI_VC_t *vc = find_rank(channel);

    *vc_p = NULL;
    /*
     * The connection has failed already, or this process has left it: the peer's last messages come
     * too late.
     */
    if (!vc || VC_IVSHMEM(vc)->channel || vc->state == MPIDI_VC_STATE_MORIBUND ||
        (vc->state == MPIDI_VC_STATE_INACTIVE_CLOSED && MPIR_Object_get_ref(vc) == 0))
        return MPI_SUCCESS;
    IVSHM_TRACEPOINT(adopted);
    ivshm_channel_hold(channel);
    *vc_p = vc;
    return bind_rank(vc, channel);
}

bool MPID_nem_ivshmem_path_is_of_unknown_job(const struct ivshm_incoming *in)
{
    struct ivshm_endpoint_info info;
    MPIDI_PG_iterator iter;
    MPIDI_PG_t *pg;

    if (in->stream != 0 ||
        ivshm_endpoint_read(&MPID_nem_ivshmem.region, ivshm_channel_peer(in->channel).endpoint,
                            &info) != 0)
        return false;
    MPIDI_PG_Get_iterator(&iter);
    while (MPIDI_PG_Has_next(&iter)) {
        MPIDI_PG_Get_next(&iter, &pg);
        if (is_name_of(&info, pg))
            return false;
    }
    return true;
}
