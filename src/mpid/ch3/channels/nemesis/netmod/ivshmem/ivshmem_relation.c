/* SPDX-License-Identifier: mpich2 */
/*
 * Relations: what a peer is to this process. Which rank of a communicator it has, whether it is a
 * member of a window, and which memory a window opens to its members. Called for each packet, so
 * the last answers are kept in the VC. Called by packet validation and by MPICH's hooks, under
 * MPICH's global lock.
 */
#include "ivshmem_relation.h"

#include "ivshmem_send.h"
#include "ivshmem_vc.h"
#include "ivshmem_packet.h"

#include <search.h>

#include "mpidrma.h"

#ifdef IVSHMEM_SHARED_H
#define HAVE_ATTACH 1
#else
#define HAVE_ATTACH 0
#endif

static __typeof__(MPID_nem_ivshmem.relation) *const relation = &MPID_nem_ivshmem.relation;

/*
 * A message on a communicator that this process has not made yet, because other members may be
 * faster. Whether its sender has the rank that it claims is checked when the communicator exists.
 */
typedef struct MPID_nem_ivshmem_membership {
    struct MPID_nem_ivshmem_membership *next;
    MPIDI_VC_t *vc;
    MPIDI_Message_match match;
} membership_t;

#define MEMBERSHIPS_MAX 4096 /* by one peer, which makes at most one with each message */

/*
 * What a call at a port may send. Perhaps nobody ever receives it: two messages for each job, and a
 * few.
 */
#define CALL_MESSAGES_MAX (1 << 14)
#define CALL_BYTES_MAX (1 << 26)

/* Memory that the program has attached to its dynamic windows. */
typedef struct attached {
    struct attached *next; /* of pieces that overlap with one in the tree */
    uintptr_t start, bytes;
} attached_t;

typedef struct MPID_nem_ivshmem_opened {
    struct MPID_nem_ivshmem_opened *next;
    const MPIR_Win *win;
    void *tree; /* by address, of tsearch */
    attached_t *others;
} opened_t;

/* What a member of a window of ours may do once. CH3 counts that for all members together. */
struct MPID_nem_ivshmem_member {
    bool posted;        /* by MPI_Win_post: it must end its access */
    unsigned fenced;    /* by MPI_Win_fence: it may end an access, if it has made one */
    bool locked;        /* it has requested the lock, and not released it */
    unsigned lock_alls; /* the last MPI_Win_lock_all in which it granted its own */
};

typedef struct MPID_nem_ivshmem_member member_t;

static void forget_known(MPIDI_VC_t *vc)
{
    VC_IVSHMEM(vc)->known_context = IVSHMEM_NO_CONTEXT;
    VC_IVSHMEM(vc)->known_window = NULL;
}

/* A communicator or a window is gone, and another one may get its handle. */
static void forget_all_known(void)
{
    if (!MPID_nem_ivshmem.joined)
        return;
    for (uint32_t i = 0; i < ivshm_region_endpoints(&MPID_nem_ivshmem.region); i++)
        if (MPID_nem_ivshmem.vcs[i])
            forget_known(MPID_nem_ivshmem.vcs[i]);
    for (MPIDI_VC_t *vc = MPID_nem_ivshmem.dynamic; vc; vc = VC_IVSHMEM(vc)->next_dynamic)
        forget_known(vc);
}

static MPIR_Comm *comm_of(ivshmem_compat_context context)
{
    ivshmem_compat_context own = context & ~MPIR_CONTEXT_SUFFIX_MASK;
    MPIR_Comm *comm = relation->comms[own >> MPIR_CONTEXT_SUFFIX_WIDTH];

    if (comm)
        return comm;
    ivshmem_compat_context parent =
        own & ~(MPIR_CONTEXT_SUBCOMM_MASK | MPIR_CONTEXT_IS_LOCALCOMM_MASK);
    comm = relation->comms[parent >> MPIR_CONTEXT_SUFFIX_WIDTH];
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

/* The peer's rank in the communicator; -1 if it has none. */
static int rank_of(MPIDI_VC_t *vc, MPIR_Comm *comm)
{
    for (int rank = 0; rank < comm->remote_size; rank++)
        if (is_rank(vc, comm, rank))
            return rank;
    return -1;
}

bool MPID_nem_ivshmem_relation_shares_comm(MPIDI_VC_t *vc)
{
    for (int i = 0; relation->comms && i < 1 << (MPIR_CONTEXT_ID_BITS - MPIR_CONTEXT_SUFFIX_WIDTH);
         i++)
        if (relation->comms[i] && rank_of(vc, relation->comms[i]) >= 0)
            return true;
    return false;
}

/*
 * The context on which the roots of a call talk. CH3 derives their communicator's context from the
 * port, and they talk as in its collectives.
 */
static ivshmem_compat_context context_of_port(const MPIDI_VC_t *vc)
{
    return ivshmem_compat_port_context(vc->port_name_tag);
}

static bool is_dynamic(const MPIDI_Message_match *match)
{
    return (match->parts.context_id & MPIR_CONTEXT_DYNAMIC_PROC_MASK) != 0;
}

const char MPID_nem_ivshmem_too_early[] = "claimed a rank that another process also claims";

/* There is at most one. */
static const membership_t *find_membership(const MPIDI_Message_match *match)
{
    const membership_t *c = relation->memberships;

    while (c && (c->match.parts.rank != match->parts.rank ||
                 c->match.parts.context_id != match->parts.context_id))
        c = c->next;
    return c;
}

/*
 * A caller at a port may use only its call's context, and nobody else may use that. If two peers
 * claim the same rank, the second waits until it is known who has it.
 */
static const char *note_membership(MPIDI_VC_t *vc, const MPIDI_Message_match *match)
{
    int own = 0;

    if (VC_IVSHMEM(vc)->stream != 0 || is_dynamic(match) || match->parts.rank < 0)
        return "sent a message on a communicator of which it is not a member";
    const membership_t *other = find_membership(match);
    if (other)
        return other->vc == vc ? NULL : MPID_nem_ivshmem_too_early;
    for (const membership_t *c = relation->memberships; c; c = c->next)
        own += c->vc == vc;
    if (own >= MEMBERSHIPS_MAX)
        return "sent messages on too many unknown communicators";
    membership_t *m = MPL_malloc(sizeof(*m), MPL_MEM_OTHER);
    if (!m)
        return "sent a message on an unknown communicator, and there is no memory to note it";
    *m = (membership_t){.next = relation->memberships, .vc = vc, .match = *match};
    relation->memberships = m;
    return NULL;
}

const char *MPID_nem_ivshmem_relation_check_sender(MPIDI_VC_t *vc, const MPIDI_Message_match *match)
{
    if (VC_IVSHMEM(vc)->stream != 0 && is_dynamic(match)) {
        /* There is one remote rank in it. */
        if (++VC_IVSHMEM(vc)->messages_received > CALL_MESSAGES_MAX ||
            VC_IVSHMEM(vc)->received_bytes > CALL_BYTES_MAX)
            return "sent more than a call needs";
        return match->parts.rank == 0 &&
                       (ivshmem_compat_context) match->parts.context_id == context_of_port(vc)
                   ? NULL
                   : "sent a message on the communicator of another call";
    }
    MPIR_Comm *comm = comm_of(match->parts.context_id);
    if (!comm)
        return note_membership(vc, match);
    if (!is_rank(vc, comm, match->parts.rank))
        return "claimed another rank of the communicator, or a communicator of which it is not a "
               "member";
    VC_IVSHMEM(vc)->known_context = match->parts.context_id & ~MPIR_CONTEXT_SUFFIX_MASK;
    VC_IVSHMEM(vc)->known_rank = match->parts.rank;
    return NULL;
}

/*
 * For a peer that cancels a message. The message's communicator may be freed here by now. Then the
 * message is taken for this peer's, unless another peer is known to have claimed that rank.
 */
const char *MPID_nem_ivshmem_relation_check_canceller(MPIDI_VC_t *vc,
                                                      const MPIDI_Message_match *match)
{
    if (comm_of(match->parts.context_id) || VC_IVSHMEM(vc)->stream != 0 || is_dynamic(match))
        return MPID_nem_ivshmem_relation_check_sender(vc, match);
    const membership_t *m = find_membership(match);
    return m && m->vc != vc ? MPID_nem_ivshmem_too_early : NULL;
}

/* Drops messages that nobody has received or may receive: their sender does not have that rank. */
static void drop_unexpected(MPIR_Comm *comm, int rank, ivshmem_compat_context context)
{
    MPIR_Request *rreq;
    int found;

    while ((rreq = MPIDI_CH3U_Recvq_FDU_matchonly(rank, MPI_ANY_TAG, context, comm, &found))) {
        if (MPIDI_Request_get_msg_type(rreq) == MPIDI_REQUEST_RNDV_MSG) {
            MPL_free(rreq->ch.lmt_tmp_cookie.iov_base);
            (void) MPID_Request_complete(rreq);
        } else if (MPIR_Request_is_complete(rreq)) {
            MPL_free(rreq->dev.tmpbuf); /* otherwise more of the message is arriving there */
        }
        MPIR_Request_free(rreq);
    }
}

/* Whether there is another call at that port. CH3 uses the same context for it. */
static bool has_other_call(const MPIDI_VC_t *vc)
{
    const MPIDI_VC_t *other = MPID_nem_ivshmem.dynamic;

    while (other &&
           (other == vc || !VC_IVSHMEM(other)->met || other->port_name_tag != vc->port_name_tag))
        other = VC_IVSHMEM(other)->next_dynamic;
    return other != NULL;
}

/*
 * What a caller leaves behind must not reach the next caller at that port. What came too late is
 * for nobody.
 */
static void drop_call(const MPIDI_VC_t *vc)
{
    MPIR_Comm *comm = MPIR_Process.comm_self;

    if (!comm)
        return;
    if (!has_other_call(vc))
        drop_unexpected(comm, MPI_ANY_SOURCE, context_of_port(vc));
    drop_unexpected(comm, MPI_ANY_SOURCE, IVSHMEM_NO_CONTEXT);
}

static int comm_created(MPIR_Comm *comm, void *param ATTRIBUTE((unused)))
{
    relation->comms[comm->recvcontext_id >> MPIR_CONTEXT_SUFFIX_WIDTH] = comm;
    MPID_nem_ivshmem.news = true;
    for (membership_t *m, **link = &relation->memberships; (m = *link);) {
        if (comm_of(m->match.parts.context_id) != comm) {
            link = &m->next;
            continue;
        }
        *link = m->next;
        /*
         * The message may be a late one, of another communicator that had this context and is freed
         * here.
         */
        if (!is_rank(m->vc, comm, m->match.parts.rank))
            drop_unexpected(comm, m->match.parts.rank, m->match.parts.context_id);
        MPL_free(m);
    }
    return MPI_SUCCESS;
}

static int comm_destroyed(MPIR_Comm *comm, void *param ATTRIBUTE((unused)))
{
    MPIR_Comm **entry = &relation->comms[comm->recvcontext_id >> MPIR_CONTEXT_SUFFIX_WIDTH];

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
    for (membership_t *m, **link = &relation->memberships; (m = *link);) {
        if (m->vc != vc) {
            link = &m->next;
            continue;
        }
        *link = m->next;
        MPL_free(m);
        MPID_nem_ivshmem.news = true; /* for another peer that claims that rank */
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
    int rank;

    if (win && win->handle == handle)
        return win;
    win = find_window(handle);
    if (!win || (rank = rank_of(vc, win->comm_ptr)) < 0)
        return NULL;
    VC_IVSHMEM(vc)->known_window = win;
    VC_IVSHMEM(vc)->known_member = rank;
    return win;
}

#if HAVE_ATTACH

/* NULL if there is no memory. */
static member_t *members_of(MPIR_Win *win)
{
    if (!win->ivshmem_members)
        win->ivshmem_members = MPL_calloc((size_t) win->comm_ptr->local_size,
                                          sizeof(*win->ivshmem_members), MPL_MEM_RMA);
    return win->ivshmem_members;
}

/* For a peer for which this window was found last. */
static member_t *member_of(const MPIDI_VC_t *vc, MPIR_Win *win)
{
    member_t *members = members_of(win);
    return members ? &members[VC_IVSHMEM(vc)->known_member] : NULL;
}

/* For a peer for which any window was found last. NULL if nothing is recorded. */
static member_t *recorded_member(MPIDI_VC_t *vc, const MPIR_Win *win)
{
    int rank = rank_of(vc, win->comm_ptr);
    return rank >= 0 && win->ivshmem_members ? &win->ivshmem_members[rank] : NULL;
}

/*
 * After MPI_Win_post, each rank of the group ends its access, and nobody else does. In a fence, the
 * ranks have told each other how many accesses will end. A rank that lies makes the fence end too
 * early; then the end of another rank's access comes too late. That one is accepted, and not
 * counted.
 */
static int expose_window(MPIR_Win *win, MPIR_Group *group)
{
    int mpi_errno = MPI_SUCCESS, size = win->comm_ptr->local_size;
    int *ranks = NULL;
    member_t *members = members_of(win);

    MPIR_ERR_CHKANDJUMP(!members, mpi_errno, MPI_ERR_OTHER, "**nomem");
    if (!group) {
        win->ivshmem_fencing = 1;
        for (int i = 0; i < size; i++)
            members[i].fenced = MPL_MIN(members[i].fenced + 1, 2);
        goto fn_exit;
    }
    ranks = MPL_malloc((size_t) MPL_MAX(group->size, 1) * sizeof(*ranks), MPL_MEM_RMA);
    MPIR_ERR_CHKANDJUMP(!ranks, mpi_errno, MPI_ERR_OTHER, "**nomem");
    mpi_errno = fill_ranks_in_win_grp(win, group, ranks);
    MPIR_ERR_CHECK(mpi_errno);
    for (int i = 0; i < size; i++)
        members[i].posted = false;
    for (int i = 0; i < group->size; i++)
        members[ranks[i]].posted = true;

fn_exit:
    MPL_free(ranks);
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

static int check_posted(MPIR_Win *win)
{
    int mpi_errno = MPI_SUCCESS;

    for (int i = 0; win->ivshmem_members && i < win->comm_ptr->local_size; i++)
        if (win->ivshmem_members[i].posted)
            MPID_nem_ivshmem_check_target(win, i, mpi_errno);
    return mpi_errno;
}

bool MPID_nem_ivshmem_relation_ends_access(MPIDI_VC_t *vc, MPIR_Win *win)
{
    member_t *m = member_of(vc, win);

    /* A rank that had not heard of the failure ends an access that the others did not begin. */
    if (win->ivshmem_broken)
        return true;
    if (m && m->posted) {
        m->posted = false;
        return true;
    }
    if (!m || m->fenced == 0)
        return false;
    m->fenced--;
    if (!win->ivshmem_fencing)
        win->at_completion_counter++;
    return true;
}

static bool waits_for_lock(const MPIDI_VC_t *vc, const MPIR_Win *win)
{
    const MPIDI_RMA_Target_lock_entry_t *entry = (const void *) win->target_lock_queue_head;

    while (entry && entry->vc != vc)
        entry = entry->next;
    return entry != NULL;
}

bool MPID_nem_ivshmem_relation_requests_lock(MPIDI_VC_t *vc, MPIR_Win *win)
{
    member_t *m = member_of(vc, win);

    if (!m || waits_for_lock(vc, win))
        return false;
    return m->locked = true;
}

bool MPID_nem_ivshmem_relation_releases_lock(MPIDI_VC_t *vc, MPIR_Win *win)
{
    member_t *m = member_of(vc, win);

    if (!m || !m->locked || waits_for_lock(vc, win))
        return false;
    m->locked = false;
    return true;
}

/*
 * An operation that both requests and releases a lock may be told that its place in the queue is
 * kept, but its data is not. It is sent again, and releases the lock then.
 */
static void lock_answered(MPIDI_VC_t *vc, MPIR_Win *win, int flags)
{
    member_t *m = recorded_member(vc, win);

    if (!m)
        return;
    if (flags & MPIDI_CH3_PKT_FLAG_RMA_LOCK_DISCARDED)
        m->locked = false;
    else if (flags & MPIDI_CH3_PKT_FLAG_RMA_LOCK_QUEUED_DATA_DISCARDED)
        m->locked = true;
}

/*
 * Half an operation that was to release the lock has arrived, and the rest never will: the peer
 * holds the lock until it is known to be lost. Not if the operation still waits for the lock, or
 * was refused.
 */
void MPID_nem_ivshmem_relation_keeps_lock(MPIDI_VC_t *vc, const MPIR_Request *rreq)
{
    MPIR_Win *win = find_window(MPID_nem_ivshmem_receiving(vc)->window);
    member_t *m = win ? recorded_member(vc, win) : NULL;

    if (m && (rreq->dev.pkt_flags & MPIDI_CH3_PKT_FLAG_RMA_UNLOCK) && !rreq->dev.drop_data &&
        !rreq->dev.target_lock_queue_entry)
        m->locked = true;
}

/*
 * How many locks of this window lost ranks hold, which nobody else would release. Not those that
 * they wait for. A rank that lives keeps its lock of a window that is shared through the region,
 * even if its connection has failed: it may go on to load and store.
 */
static int take_locks(MPIR_Win *win)
{
    int held = 0;

    for (int rank = 0; win->ivshmem_members && rank < win->comm_ptr->local_size; rank++) {
        member_t *m = &win->ivshmem_members[rank];
        MPIDI_VC_t *vc;
        MPIDI_Comm_get_vc(win->comm_ptr, rank, &vc);
        if (!m->locked || vc->state != MPIDI_VC_STATE_MORIBUND ||
            (win->ivshmem &&
             ivshm_endpoint_is_live(&MPID_nem_ivshmem.region, VC_IVSHMEM(vc)->peer)))
            continue;
        m->locked = false;
        held += !waits_for_lock(vc, win);
    }
    return held;
}

bool MPID_nem_ivshmem_relation_grants_lock(MPIR_Win *win, int rank)
{
    member_t *members = members_of(win);

    if (!members || members[rank].lock_alls == win->ivshmem_lock_alls)
        return false;
    members[rank].lock_alls = win->ivshmem_lock_alls;
    return true;
}

#else

bool MPID_nem_ivshmem_relation_ends_access(MPIDI_VC_t *vc ATTRIBUTE((unused)), MPIR_Win *win)
{
    return win->at_completion_counter > 0;
}

bool MPID_nem_ivshmem_relation_requests_lock(MPIDI_VC_t *vc ATTRIBUTE((unused)),
                                             MPIR_Win *win ATTRIBUTE((unused)))
{
    return true;
}

bool MPID_nem_ivshmem_relation_releases_lock(MPIDI_VC_t *vc ATTRIBUTE((unused)),
                                             MPIR_Win *win ATTRIBUTE((unused)))
{
    return true;
}

void MPID_nem_ivshmem_relation_keeps_lock(MPIDI_VC_t *vc ATTRIBUTE((unused)),
                                          const MPIR_Request *rreq ATTRIBUTE((unused)))
{
}

static int take_locks(MPIR_Win *win ATTRIBUTE((unused)))
{
    return 0;
}

bool MPID_nem_ivshmem_relation_grants_lock(MPIR_Win *win ATTRIBUTE((unused)),
                                           int rank ATTRIBUTE((unused)))
{
    return true;
}

#endif

bool MPID_nem_ivshmem_relation_is_target(MPIDI_VC_t *vc, const MPIR_Win *win, int rank)
{
    return is_rank(vc, win->comm_ptr, rank);
}

/* The window's entry, or the link at which it would be inserted. */
static opened_t **find_opened(const MPIR_Win *win)
{
    opened_t **link = &relation->opened;

    while (*link && (*link)->win != win)
        link = &(*link)->next;
    return link;
}

/*
 * The tree takes pieces that overlap for equal. In unsigned arithmetic, an address before another
 * is far behind it.
 */
static int compare_attached(const void *left, const void *right)
{
    const attached_t *a = left, *b = right;

    if (a->start - b->start < b->bytes || b->start - a->start < a->bytes)
        return 0;
    return a->start < b->start ? -1 : 1;
}

static const attached_t *find_attached(const opened_t *opened, uintptr_t address)
{
    const attached_t key = {.start = address, .bytes = 1};
    void *node = tfind(&key, &opened->tree, compare_attached);
    const attached_t *a = node ? *(attached_t **) node : opened->others;

    while (a && address - a->start >= a->bytes)
        a = a->next;
    return a;
}

/* Whether all of [start, start+bytes) is attached, perhaps as several pieces. */
static bool is_attached(const MPIR_Win *win, uintptr_t start, MPI_Aint bytes)
{
    const opened_t *opened = *find_opened(win);

    while (bytes > 0) {
        const attached_t *a = opened ? find_attached(opened, start) : NULL;
        if (!a)
            return false;
        MPI_Aint covered = (MPI_Aint) (a->bytes - (start - a->start));
        start += (uintptr_t) MPL_MIN(covered, bytes);
        bytes -= MPL_MIN(covered, bytes);
    }
    return true;
}

/* Addresses are compared as numbers, because a peer names them. */
bool MPID_nem_ivshmem_relation_opens(const MPIR_Win *win, intptr_t start, MPI_Aint bytes)
{
    intptr_t base = (intptr_t) win->base, from;

    if (win->create_flavor == MPI_WIN_FLAVOR_DYNAMIC)
        return !HAVE_ATTACH || is_attached(win, (uintptr_t) start, bytes);
    /* Without a base, the window is still being made, or could not be made. */
    return win->base && !__builtin_sub_overflow(start, base, &from) && from >= 0 &&
           bytes <= win->size && from <= win->size - bytes;
}

static const MPID_nem_ivshmem_range_t all_memory = {INTPTR_MIN, INTPTR_MAX};

static bool ranges_overlap(MPID_nem_ivshmem_range_t a, MPID_nem_ivshmem_range_t b)
{
    return a.low < b.high && b.low < a.high;
}

/* Whether the request sends from that memory: a get is answered from the window itself. */
static bool reads_from(const MPIR_Request *sreq, const MPIR_Win *win,
                       MPID_nem_ivshmem_range_t memory)
{
    MPI_Aint lower, extent, true_lower, true_extent, last;

    if (MPIDI_Request_get_type((MPIR_Request *) sreq) != MPIDI_REQUEST_TYPE_GET_RESP ||
        sreq->dev.target_win_handle != win->handle)
        return false;
    for (int i = sreq->dev.iov_offset; i < sreq->dev.iov_offset + sreq->dev.iov_count; i++) {
        intptr_t start = (intptr_t) sreq->dev.iov[i].iov_base;
        if (ranges_overlap(
                (MPID_nem_ivshmem_range_t){start, start + (intptr_t) sreq->dev.iov[i].iov_len},
                memory))
            return true;
    }
    if (sreq->dev.OnDataAvail != MPIDI_CH3_ReqHandler_SendReloadIOV)
        return false;
    /* There is more data than that list holds. */
    MPIR_Type_get_extent_impl(sreq->dev.datatype, &lower, &extent);
    MPIR_Type_get_true_extent_impl(sreq->dev.datatype, &true_lower, &true_extent);
    last = (sreq->dev.user_count - 1) * extent;
    intptr_t start = (intptr_t) sreq->dev.user_buf + true_lower;
    return ranges_overlap((MPID_nem_ivshmem_range_t){start + MPL_MIN(last, 0),
                                                     start + MPL_MAX(last, 0) + true_extent},
                          memory);
}

/*
 * Whether an answer still has data to send from that memory; for all memory, from the window at
 * all.
 */
static bool waits_to_answer(MPIDI_VC_t *vc, const MPIR_Win *win, MPID_nem_ivshmem_range_t memory)
{
    if (memory.low == all_memory.low)
        return MPID_nem_ivshmem_sendq_answers(vc, win);
    for (MPIR_Request *sreq = VC_IVSHMEM(vc)->sendq.head; sreq; sreq = sreq->next)
        if (reads_from(sreq, win, memory))
            return true;
    return false;
}

/*
 * The window's memory belongs to the program again. Operations on it that are still under way break
 * the rules of MPI, so the connections of the peers that began them fail.
 */
static void stop_operations(const MPIR_Win *win, MPID_nem_ivshmem_range_t memory)
{
    static const char why[] =
        "did not end an operation before the memory of its window was detached or freed";

    for (uint32_t i = 0;
         MPID_nem_ivshmem.joined && i < ivshm_region_endpoints(&MPID_nem_ivshmem.region); i++) {
        MPIDI_VC_t *vc = MPID_nem_ivshmem.vcs[i];
        if (!vc)
            continue;
        if (vc->ch.recv_active && MPID_nem_ivshmem.operations[i].window == win->handle &&
            ranges_overlap(MPID_nem_ivshmem.operations[i].touched, memory))
            MPID_nem_ivshmem_vc_mark_failed(vc, why);
        if (waits_to_answer(vc, win, memory)) {
            MPID_nem_ivshmem_vc_mark_failed(vc, why);
            (void) MPID_nem_ivshmem_sendq_fail(vc, VC_IVSHMEM(vc)->failure);
        }
    }
}

#if HAVE_ATTACH

/* The same for operations that wait for a lock. */
static void stop_queued(MPIR_Win *win, MPID_nem_ivshmem_range_t memory)
{
    MPIDI_RMA_Target_lock_entry_t *next, *entry = (void *) win->target_lock_queue_head;

    for (; entry; entry = next) {
        next = entry->next;
        if (!ranges_overlap(MPID_nem_ivshmem_packet_touches(&entry->pkt), memory))
            continue;
        MPID_nem_ivshmem_vc_mark_failed(entry->vc,
                                        "waited for a lock to use memory that was detached");
        member_t *m = recorded_member(entry->vc, win);
        if (m)
            m->locked = false; /* it never got it */
        DL_DELETE(win->target_lock_queue_head, entry);
        (void) MPIDI_CH3I_Win_target_lock_entry_free(win, entry);
    }
}

static int note_attached(MPIR_Win *win, const void *start, MPI_Aint bytes)
{
    int mpi_errno = MPI_SUCCESS;
    opened_t **link = find_opened(win);
    attached_t *a = NULL;

    if (bytes <= 0)
        goto fn_exit;
    a = MPL_malloc(sizeof(*a), MPL_MEM_RMA);
    MPIR_ERR_CHKANDJUMP(!a, mpi_errno, MPI_ERR_OTHER, "**nomem");
    *a = (attached_t){.start = (uintptr_t) start, .bytes = (uintptr_t) bytes};
    if (!*link) {
        *link = MPL_calloc(1, sizeof(**link), MPL_MEM_RMA);
        MPIR_ERR_CHKANDJUMP(!*link, mpi_errno, MPI_ERR_OTHER, "**nomem");
        (*link)->win = win;
    }
    void *node = tsearch(a, &(*link)->tree, compare_attached);
    MPIR_ERR_CHKANDJUMP(!node, mpi_errno, MPI_ERR_OTHER, "**nomem");
    /* it overlaps with another piece, which no program should do */
    if (*(attached_t **) node != a) {
        a->next = (*link)->others;
        (*link)->others = a;
    }

fn_exit:
    return mpi_errno;
fn_fail:
    MPL_free(a);
    goto fn_exit;
}

static void note_detached(MPIR_Win *win, const void *start)
{
    opened_t *opened = *find_opened(win);
    const attached_t key = {.start = (uintptr_t) start, .bytes = 1};

    if (!opened)
        return;
    void *node = tfind(&key, &opened->tree, compare_attached);
    attached_t *a = node ? *(attached_t **) node : NULL;
    if (a && a->start == key.start) {
        tdelete(a, &opened->tree, compare_attached);
    } else {
        attached_t **link = &opened->others;
        while ((a = *link) && a->start != key.start)
            link = &a->next;
        if (!a)
            return;
        *link = a->next;
    }
    const MPID_nem_ivshmem_range_t memory = {(intptr_t) start,
                                             (intptr_t) start + (intptr_t) a->bytes};
    MPL_free(a);
    stop_operations(win, memory);
    stop_queued(win, memory);
}

#endif

static void free_attached(void *attached)
{
    MPL_free(attached);
}

static void detach_all(const MPIR_Win *win)
{
    opened_t **link = find_opened(win), *opened = *link;

    if (!opened)
        return;
    *link = opened->next;
    tdestroy(opened->tree, free_attached);
    for (attached_t *a; (a = opened->others);) {
        opened->others = a->next;
        MPL_free(a);
    }
    MPL_free(opened);
}

/* The window opens no memory any more, whether it is freed or stays. */
static void close_window(MPIR_Win *win)
{
    win->base = NULL;
    detach_all(win);
    stop_operations(win, all_memory);
}

void MPID_nem_ivshmem_relation_forget_window(MPIR_Win *win)
{
    forget_all_known();
    detach_all(win);
    stop_operations(win, all_memory);
#if HAVE_ATTACH
    MPL_free(win->ivshmem_members);
    win->ivshmem_members = NULL;
#endif
}

/*
 * What lost ranks wait for is forgotten, and what they hold goes to those who wait. To release a
 * lock may move its window to the other list.
 */
static int forget_locks(MPIR_Win *first)
{
    int mpi_errno = MPI_SUCCESS;

    for (MPIR_Win *after, *win = first; win; win = after) {
        MPIDI_RMA_Target_lock_entry_t *next, *entry = (void *) win->target_lock_queue_head;
        int held = take_locks(win);
        after = win->next;
        for (; entry; entry = next) {
            next = entry->next;
            if (entry->vc->state != MPIDI_VC_STATE_MORIBUND)
                continue;
            DL_DELETE(win->target_lock_queue_head, entry);
            mpi_errno = MPIDI_CH3I_Win_target_lock_entry_free(win, entry);
            MPIR_ERR_CHECK(mpi_errno);
        }
        for (; held > 0 && win->current_lock_type != MPID_LOCK_NONE; held--) {
            mpi_errno = MPIDI_CH3I_Release_lock(win);
            MPIR_ERR_CHECK(mpi_errno);
        }
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Only does something if a rank was lost since the last call. */
int MPID_nem_ivshmem_relation_forget_locks(void)
{
    int mpi_errno = MPI_SUCCESS;

    if (likely(MPIDI_Failed_vc_count == relation->failed_vcs))
        goto fn_exit;
    relation->failed_vcs = MPIDI_Failed_vc_count;
    MPIDI_CH3_Progress_signal_completion(); /* calls on windows see whom they wait for */
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

    /* 256 KiB, of which unused pages are never touched. */
    relation->comms = MPL_calloc((size_t) 1 << (MPIR_CONTEXT_ID_BITS - MPIR_CONTEXT_SUFFIX_WIDTH),
                                 sizeof(*relation->comms), MPL_MEM_COMM);
    MPIR_ERR_CHKANDJUMP(!relation->comms, mpi_errno, MPI_ERR_OTHER, "**nomem");
    mpi_errno = MPIDI_CH3U_Comm_register_create_hook(comm_created, NULL);
    MPIR_ERR_CHECK(mpi_errno);
    mpi_errno = MPIDI_CH3U_Comm_register_destroy_hook(comm_destroyed, NULL);
    MPIR_ERR_CHECK(mpi_errno);
#if HAVE_ATTACH
    MPID_nem_ivshmem_attach = note_attached;
    MPID_nem_ivshmem_detach = note_detached;
    MPID_nem_ivshmem_expose = expose_window;
    MPID_nem_ivshmem_check_posted = check_posted;
    MPID_nem_ivshmem_lock_answered = lock_answered;
    MPID_nem_ivshmem_unmade = close_window;
#endif

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}
