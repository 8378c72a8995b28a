/* SPDX-License-Identifier: mpich2 */
/*
 * Who a peer is to us: which rank of a communicator, whether a member of a window, which memory a
 * window opens to its members. Called for each packet, so what was true for the last one is kept in
 * the VC.
 */
#include "ivshmem_netmod.h"

#include "mpidrma.h"

#ifdef IVSHMEM_SHARED_H
#define HAVE_ATTACH 1
#else
#define HAVE_ATTACH 0
#endif

/* Communicators by the context of their receives, of which the last bit tells collectives. */
static MPIR_Comm **comms;

/*
 * Messages on a communicator that we have not made yet: its other members may be faster. Whether
 * their sender is who it says is settled when we have.
 */
typedef struct claim {
    struct claim *next;
    MPIDI_VC_t *vc;
    MPIDI_Message_match match;
} claim_t;

#define CLAIMS_MAX 64 /* by one peer */

/* What a call at a port takes, of which nobody may ever receive: two messages a job, and some. */
#define CALL_MESSAGES_MAX (1 << 14)
#define CALL_BYTES_MAX (1 << 26)

static claim_t *claims;

/* Memory that the program has attached to its dynamic windows. */
typedef struct attached {
    struct attached *next;
    const MPIR_Win *win;
    const char *start;
    MPI_Aint bytes;
} attached_t;

static attached_t *attachments;

static void forget_known(MPIDI_VC_t *vc)
{
    VC_IVSHMEM(vc)->known_context = IVSHMEM_NO_CONTEXT;
    VC_IVSHMEM(vc)->known_window = NULL;
}

/* A communicator or a window is gone, whose place another one may take. */
static void forget_all_known(void)
{
    if (!MPID_nem_ivshmem.joined)
        return;
    for (uint32_t i = 0; i < MPID_nem_ivshmem.region.geo.endpoints; i++)
        if (MPID_nem_ivshmem.vcs[i])
            forget_known(MPID_nem_ivshmem.vcs[i]);
    for (MPIDI_VC_t *vc = MPID_nem_ivshmem.dynamic; vc; vc = VC_IVSHMEM(vc)->next_dynamic)
        forget_known(vc);
}

static MPIR_Comm *comm_of(MPIR_Context_id_t context)
{
    MPIR_Context_id_t own = context & ~MPIR_CONTEXT_SUFFIX_MASK;
    MPIR_Comm *comm = comms[own >> MPIR_CONTEXT_SUFFIX_WIDTH];

    if (comm)
        return comm;
    MPIR_Context_id_t parent = own & ~(MPIR_CONTEXT_SUBCOMM_MASK | MPIR_CONTEXT_IS_LOCALCOMM_MASK);
    comm = comms[parent >> MPIR_CONTEXT_SUFFIX_WIDTH];
    if (comm) {
        MPIR_Comm *parts[] = {comm->node_comm, comm->node_roots_comm, comm->local_comm};
        for (int i = 0; i < 3; i++)
            if (parts[i] && parts[i]->recvcontext_id == own)
                return parts[i];
    }
    return NULL;
}

static bool is_rank(MPIDI_VC_t *vc, MPIR_Comm *comm, int rank)
{
    MPIDI_VC_t *found;

    if (rank < 0 || rank >= comm->remote_size)
        return false;
    MPIDI_Comm_get_vc(comm, rank, &found);
    return found == vc;
}

bool MPID_nem_ivshmem_relation_is_member(MPIDI_VC_t *vc, MPIR_Comm *comm)
{
    for (int rank = 0; rank < comm->remote_size; rank++)
        if (is_rank(vc, comm, rank))
            return true;
    return false;
}

bool MPID_nem_ivshmem_relation_shares_comm(MPIDI_VC_t *vc)
{
    for (int i = 0; comms && i < 1 << (MPIR_CONTEXT_ID_BITS - MPIR_CONTEXT_SUFFIX_WIDTH); i++)
        if (comms[i] && MPID_nem_ivshmem_relation_is_member(vc, comms[i]))
            return true;
    return false;
}

/* Of the roots' communicator: CH3 makes it of the port; several differ in their suffix alone. */
static MPIR_Context_id_t context_of_port(const MPIDI_VC_t *vc)
{
    return MPIR_CONTEXT_SET_FIELD(DYNAMIC_PROC, (MPIR_Context_id_t) vc->port_name_tag, 1);
}

static bool is_dynamic(const MPIDI_Message_match *match)
{
    return (match->parts.context_id & MPIR_CONTEXT_DYNAMIC_PROC_MASK) != 0;
}

const char MPID_nem_ivshmem_too_early[] = "speaks for a rank that another one speaks for, too";

/*
 * Who calls at a port speaks on its call's context alone, and nobody else does. Of two that say to
 * be the same rank, the second waits until it is known who is.
 */
static const char *make_claim(MPIDI_VC_t *vc, const MPIDI_Message_match *match)
{
    int own = 0;

    if (VC_IVSHMEM(vc)->stream != 0 || is_dynamic(match) || match->parts.rank < 0)
        return "sent a message on a communicator that it is no member of";
    for (claim_t *c = claims; c; c = c->next) {
        if (c->match.parts.rank == match->parts.rank &&
            c->match.parts.context_id == match->parts.context_id)
            return c->vc == vc ? NULL : MPID_nem_ivshmem_too_early;
        own += c->vc == vc;
    }
    if (own >= CLAIMS_MAX)
        return "sent messages on too many communicators that it is no member of";
    claim_t *claim = MPL_malloc(sizeof(*claim), MPL_MEM_OTHER);
    if (!claim)
        return "sent a message on an unknown communicator, and there is no memory to note that";
    *claim = (claim_t){.next = claims, .vc = vc, .match = *match};
    claims = claim;
    return NULL;
}

const char *MPID_nem_ivshmem_relation_check_sender(MPIDI_VC_t *vc, const MPIDI_Message_match *match)
{
    if (VC_IVSHMEM(vc)->stream != 0 && is_dynamic(match)) {
        /* There is one remote rank in it. */
        int of_port = match->parts.context_id - context_of_port(vc);
        if (++VC_IVSHMEM(vc)->said > CALL_MESSAGES_MAX ||
            VC_IVSHMEM(vc)->received_bytes > CALL_BYTES_MAX)
            return "says more than there is to say in a call";
        return match->parts.rank == 0 && of_port >= 0 && of_port <= MPIR_CONTEXT_INTER_COLL
                   ? NULL
                   : "sent a message on the communicator of another call";
    }
    MPIR_Comm *comm = comm_of(match->parts.context_id);
    if (!comm)
        return make_claim(vc, match);
    if (!is_rank(vc, comm, match->parts.rank))
        return "claims to be another rank of the communicator, or a member of one that it is not "
               "in";
    VC_IVSHMEM(vc)->known_context = match->parts.context_id & ~MPIR_CONTEXT_SUFFIX_MASK;
    VC_IVSHMEM(vc)->known_rank = match->parts.rank;
    return NULL;
}

/* Drops what nobody has received, nor may: messages of one who is not that rank. */
static void drop_unexpected(MPIR_Comm *comm, int rank, MPIR_Context_id_t context)
{
    MPIR_Request *rreq;
    int found;

    while ((rreq = MPIDI_CH3U_Recvq_FDU_matchonly(rank, MPI_ANY_TAG, context, comm, &found))) {
        if (MPIDI_Request_get_msg_type(rreq) == MPIDI_REQUEST_RNDV_MSG) {
            MPL_free(rreq->ch.lmt_tmp_cookie.iov_base);
            (void) MPID_Request_complete(rreq);
        } else if (MPIR_Request_is_complete(rreq)) {
            MPL_free(rreq->dev.tmpbuf); /* else more of it is under way, into that */
        }
        MPIR_Request_free(rreq);
    }
}

/* What a caller leaves is not the next one's at that port; what came too late is nobody's. */
static void drop_call(const MPIDI_VC_t *vc)
{
    MPIR_Comm *comm = MPIR_Process.comm_self;

    if (!comm)
        return;
    for (int i = 0; i <= MPIR_CONTEXT_INTER_COLL; i++)
        drop_unexpected(comm, MPI_ANY_SOURCE, (MPIR_Context_id_t) (context_of_port(vc) + i));
    drop_unexpected(comm, MPI_ANY_SOURCE, IVSHMEM_NO_CONTEXT);
}

static int comm_created(MPIR_Comm *comm, void *param ATTRIBUTE((unused)))
{
    comms[comm->recvcontext_id >> MPIR_CONTEXT_SUFFIX_WIDTH] = comm;
    MPID_nem_ivshmem.news = true;
    for (claim_t *claim, **link = &claims; (claim = *link);) {
        if (comm_of(claim->match.parts.context_id) != comm) {
            link = &claim->next;
            continue;
        }
        *link = claim->next;
        if (!is_rank(claim->vc, comm, claim->match.parts.rank)) {
            drop_unexpected(comm, claim->match.parts.rank, claim->match.parts.context_id);
            MPID_nem_ivshmem_vc_give_up(
                claim->vc, "claimed to be another rank of a communicator that was just made");
        }
        MPL_free(claim);
    }
    return MPI_SUCCESS;
}

static int comm_destroyed(MPIR_Comm *comm, void *param ATTRIBUTE((unused)))
{
    MPIR_Comm **entry = &comms[comm->recvcontext_id >> MPIR_CONTEXT_SUFFIX_WIDTH];

    if (*entry == comm)
        *entry = NULL;
    forget_all_known();
    return MPI_SUCCESS;
}

void MPID_nem_ivshmem_relation_forget_vc(MPIDI_VC_t *vc)
{
    forget_known(vc);
    if (VC_IVSHMEM(vc)->stream)
        drop_call(vc);
    for (claim_t *claim, **link = &claims; (claim = *link);) {
        if (claim->vc != vc) {
            link = &claim->next;
            continue;
        }
        *link = claim->next;
        MPL_free(claim);
        MPID_nem_ivshmem.news = true; /* for another one who says to be that rank */
    }
}

/* Windows */

static MPIR_Win *find_window(MPI_Win handle)
{
    for (MPIR_Win *win = MPIDI_RMA_Win_active_list_head; win; win = win->next)
        if (win->handle == handle)
            return win;
    for (MPIR_Win *win = MPIDI_RMA_Win_inactive_list_head; win; win = win->next)
        if (win->handle == handle)
            return win;
    return NULL;
}

MPIR_Win *MPID_nem_ivshmem_relation_find_window(MPIDI_VC_t *vc, MPI_Win handle)
{
    MPIR_Win *win = VC_IVSHMEM(vc)->known_window;

    if (win && win->handle == handle)
        return win;
    win = find_window(handle);
    if (!win || !MPID_nem_ivshmem_relation_is_member(vc, win->comm_ptr))
        return NULL;
    VC_IVSHMEM(vc)->known_window = win;
    return win;
}

bool MPID_nem_ivshmem_relation_is_target(MPIDI_VC_t *vc, const MPIR_Win *win, int rank)
{
    return is_rank(vc, win->comm_ptr, rank);
}

/* Whether all of [start, start+bytes) is attached, perhaps as several pieces. */
static bool is_attached(const MPIR_Win *win, uintptr_t start, MPI_Aint bytes)
{
    while (bytes > 0) {
        const attached_t *a = attachments;
        /* What is before it is far behind it, as unsigned numbers go. */
        while (a && !(a->win == win && start - (uintptr_t) a->start < (uintptr_t) a->bytes))
            a = a->next;
        if (!a)
            return false;
        MPI_Aint covered = a->bytes - (MPI_Aint) (start - (uintptr_t) a->start);
        start += (uintptr_t) MPL_MIN(covered, bytes);
        bytes -= MPL_MIN(covered, bytes);
    }
    return true;
}

/* Compared as numbers: a peer names the address. */
bool MPID_nem_ivshmem_relation_opens(const MPIR_Win *win, intptr_t start, MPI_Aint bytes)
{
    intptr_t base = (intptr_t) win->base, from;

    if (win->create_flavor == MPI_WIN_FLAVOR_DYNAMIC)
        return !HAVE_ATTACH || is_attached(win, (uintptr_t) start, bytes);
    return !__builtin_sub_overflow(start, base, &from) && from >= 0 && bytes <= win->size &&
           from <= win->size - bytes;
}

static const MPID_nem_ivshmem_span_t everything = {INTPTR_MIN, INTPTR_MAX};

static bool overlap(MPID_nem_ivshmem_span_t a, MPID_nem_ivshmem_span_t b)
{
    return a.low < b.high && b.low < a.high;
}

/* Whether that is being sent from there: the answer to a get is sent from the window itself. */
static bool reads_from(const MPIR_Request *sreq, const MPIR_Win *win,
                       MPID_nem_ivshmem_span_t memory)
{
    MPI_Aint lower, extent, true_lower, true_extent, last;

    if (MPIDI_Request_get_type((MPIR_Request *) sreq) != MPIDI_REQUEST_TYPE_GET_RESP ||
        sreq->dev.target_win_handle != win->handle)
        return false;
    for (int i = sreq->dev.iov_offset; i < sreq->dev.iov_offset + sreq->dev.iov_count; i++) {
        intptr_t start = (intptr_t) sreq->dev.iov[i].iov_base;
        if (overlap((MPID_nem_ivshmem_span_t){start, start + (intptr_t) sreq->dev.iov[i].iov_len},
                    memory))
            return true;
    }
    if (sreq->dev.OnDataAvail != MPIDI_CH3_ReqHandler_SendReloadIOV)
        return false;
    /* There is more than that list holds. */
    MPIR_Type_get_extent_impl(sreq->dev.datatype, &lower, &extent);
    MPIR_Type_get_true_extent_impl(sreq->dev.datatype, &true_lower, &true_extent);
    last = (sreq->dev.user_count - 1) * extent;
    intptr_t start = (intptr_t) sreq->dev.user_buf + true_lower;
    return overlap(
        (MPID_nem_ivshmem_span_t){start + MPL_MIN(last, 0), start + MPL_MAX(last, 0) + true_extent},
        memory);
}

/*
 * The memory of a window is the program's again. What is still under way to it or from it, its
 * peers have begun against all rules.
 */
static void stop_operations(const MPIR_Win *win, MPID_nem_ivshmem_span_t memory)
{
    static const char why[] = "did not end an operation before its window gave back the memory";

    for (uint32_t i = 0; MPID_nem_ivshmem.joined && i < MPID_nem_ivshmem.region.geo.endpoints;
         i++) {
        MPIDI_VC_t *vc = MPID_nem_ivshmem.vcs[i];
        if (!vc)
            continue;
        if (vc->ch.recv_active && MPID_nem_ivshmem.operations[i].window == win->handle &&
            overlap(MPID_nem_ivshmem.operations[i].touched, memory))
            MPID_nem_ivshmem_vc_give_up(vc, why);
        for (MPIR_Request *sreq = VC_IVSHMEM(vc)->sendq.head; sreq; sreq = sreq->next) {
            if (reads_from(sreq, win, memory)) {
                MPID_nem_ivshmem_vc_give_up(vc, why);
                (void) MPID_nem_ivshmem_sendq_fail(vc, MPID_nem_ivshmem_vc_error(vc, why));
                break;
            }
        }
    }
}

#if HAVE_ATTACH

/* The same of what waits for a lock. */
static void stop_queued(MPIR_Win *win, MPID_nem_ivshmem_span_t memory)
{
    MPIDI_RMA_Target_lock_entry_t *next, *entry = (void *) win->target_lock_queue_head;

    for (; entry; entry = next) {
        next = entry->next;
        if (!overlap(MPID_nem_ivshmem_packet_touches(&entry->pkt), memory))
            continue;
        MPID_nem_ivshmem_vc_give_up(entry->vc, "waits for a lock to use memory that was detached");
        DL_DELETE(win->target_lock_queue_head, entry);
        (void) MPIDI_CH3I_Win_target_lock_entry_free(win, entry);
    }
}

static int attach(MPIR_Win *win, const void *start, MPI_Aint bytes)
{
    int mpi_errno = MPI_SUCCESS;
    attached_t *a = MPL_malloc(sizeof(*a), MPL_MEM_RMA);

    MPIR_ERR_CHKANDJUMP(!a, mpi_errno, MPI_ERR_OTHER, "**nomem");
    *a = (attached_t){.next = attachments, .win = win, .start = start, .bytes = bytes};
    attachments = a;

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

static void detach(MPIR_Win *win, const void *start)
{
    for (attached_t *a, **link = &attachments; (a = *link); link = &a->next) {
        if (a->win == win && a->start == (const char *) start) {
            const MPID_nem_ivshmem_span_t memory = {(intptr_t) start, (intptr_t) start + a->bytes};
            *link = a->next;
            MPL_free(a);
            stop_operations(win, memory);
            stop_queued(win, memory);
            break;
        }
    }
}

#endif

static void detach_all(const MPIR_Win *win)
{
    for (attached_t *a, **link = &attachments; (a = *link);) {
        if (a->win == win) {
            *link = a->next;
            MPL_free(a);
        } else {
            link = &a->next;
        }
    }
}

void MPID_nem_ivshmem_relation_forget_window(const MPIR_Win *win)
{
    detach_all(win);
    forget_all_known();
    stop_operations(win, everything);
}

static int forget_locks(MPIR_Win *win)
{
    int mpi_errno = MPI_SUCCESS;

    for (; win; win = win->next) {
        MPIDI_RMA_Target_lock_entry_t *next, *entry = (void *) win->target_lock_queue_head;
        for (; entry; entry = next) {
            next = entry->next;
            if (entry->vc->state != MPIDI_VC_STATE_MORIBUND)
                continue;
            DL_DELETE(win->target_lock_queue_head, entry);
            mpi_errno = MPIDI_CH3I_Win_target_lock_entry_free(win, entry);
            MPIR_ERR_CHECK(mpi_errno);
        }
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* What ranks wait for that were lost since the last call. */
int MPID_nem_ivshmem_relation_forget_locks(void)
{
    static int failed;
    int mpi_errno = MPI_SUCCESS;

    if (likely(MPIDI_Failed_vc_count == failed))
        goto fn_exit;
    failed = MPIDI_Failed_vc_count;
    mpi_errno = forget_locks(MPIDI_RMA_Win_active_list_head);
    MPIR_ERR_CHECK(mpi_errno);
    mpi_errno = forget_locks(MPIDI_RMA_Win_inactive_list_head);
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

int MPID_nem_ivshmem_relation_init(void)
{
    int mpi_errno = MPI_SUCCESS;

    claims = NULL;
    attachments = NULL;
    /* 256 KiB, of which what is not used is never touched. */
    comms = MPL_calloc((size_t) 1 << (MPIR_CONTEXT_ID_BITS - MPIR_CONTEXT_SUFFIX_WIDTH),
                       sizeof(*comms), MPL_MEM_COMM);
    MPIR_ERR_CHKANDJUMP(!comms, mpi_errno, MPI_ERR_OTHER, "**nomem");
    mpi_errno = MPIDI_CH3U_Comm_register_create_hook(comm_created, NULL);
    MPIR_ERR_CHECK(mpi_errno);
    mpi_errno = MPIDI_CH3U_Comm_register_destroy_hook(comm_destroyed, NULL);
    MPIR_ERR_CHECK(mpi_errno);
#if HAVE_ATTACH
    MPID_nem_ivshmem_attach = attach;
    MPID_nem_ivshmem_detach = detach;
#endif

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}
