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

static bool is_dynamic(const MPIDI_Message_match *match)
{
    return (match->parts.context_id & MPIR_CONTEXT_DYNAMIC_PROC_MASK) != 0;
}

/* Who calls at a port speaks on its call's context alone, and nobody else does. */
static const char *make_claim(MPIDI_VC_t *vc, const MPIDI_Message_match *match)
{
    int own = 0;

    if (VC_IVSHMEM(vc)->stream != 0 || is_dynamic(match) || match->parts.rank < 0)
        return "sent a message on a communicator that it is no member of";
    for (claim_t *c = claims; c; c = c->next) {
        if (c->vc != vc)
            continue;
        if (c->match.parts.rank == match->parts.rank &&
            c->match.parts.context_id == match->parts.context_id)
            return NULL;
        if (++own == CLAIMS_MAX)
            return "sent messages on too many communicators that it is no member of";
    }
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
        /* The roots' communicator, whose context CH3 makes of the port, so that several differ in
         * their suffix alone. There is one remote rank in it. */
        MPIR_Context_id_t port =
            MPIR_CONTEXT_SET_FIELD(DYNAMIC_PROC, (MPIR_Context_id_t) vc->port_name_tag, 1);
        int of_port = match->parts.context_id - port;
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

/* The message is in nobody's way: on a communicator that did not exist, nobody can receive. */
static void drop_unexpected(MPIR_Comm *comm, const MPIDI_Message_match *match)
{
    int found = TRUE;

    while (found)
        (void) MPIDI_CH3U_Recvq_FDU_matchonly(match->parts.rank, MPI_ANY_TAG,
                                              match->parts.context_id, comm, &found);
}

static int comm_created(MPIR_Comm *comm, void *param ATTRIBUTE((unused)))
{
    comms[comm->recvcontext_id >> MPIR_CONTEXT_SUFFIX_WIDTH] = comm;
    for (claim_t *claim, **link = &claims; (claim = *link);) {
        if (comm_of(claim->match.parts.context_id) != comm) {
            link = &claim->next;
            continue;
        }
        *link = claim->next;
        if (!is_rank(claim->vc, comm, claim->match.parts.rank)) {
            drop_unexpected(comm, &claim->match);
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
    for (claim_t *claim, **link = &claims; (claim = *link);) {
        if (claim->vc != vc) {
            link = &claim->next;
            continue;
        }
        *link = claim->next;
        MPL_free(claim);
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

#if HAVE_ATTACH

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
            *link = a->next;
            MPL_free(a);
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

/* What a peer is still sending into the window would be written into memory that is no more. */
void MPID_nem_ivshmem_relation_forget_window(const MPIR_Win *win)
{
    detach_all(win);
    forget_all_known();
    for (uint32_t i = 0; MPID_nem_ivshmem.joined && i < MPID_nem_ivshmem.region.geo.endpoints;
         i++) {
        MPIDI_VC_t *vc = MPID_nem_ivshmem.vcs[i];
        if (vc && vc->ch.recv_active && VC_IVSHMEM(vc)->receives_into == win->handle)
            MPID_nem_ivshmem_vc_give_up(vc, "did not end an operation before its window was freed");
    }
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
