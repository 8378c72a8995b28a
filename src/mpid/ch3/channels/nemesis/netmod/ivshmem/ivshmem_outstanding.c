/* SPDX-License-Identifier: mpich2 */
/*
 * Outstanding requests: each request that waits for an answer from a peer, and the packet types
 * that can answer it. An answer is accepted only from the peer that was asked, for a request that
 * waits for it, and once. While a request is outstanding it is kept, so that no other request can
 * get its handle. Called before packets are sent and by packet validation, under MPICH's global
 * lock.
 */
#include "ivshmem_outstanding.h"

struct MPID_nem_ivshmem_outstanding {
    struct MPID_nem_ivshmem_outstanding *next, *prev; /* of the same connection */
    struct MPID_nem_ivshmem_outstanding *chain;       /* in the same hash bucket */
    MPIDI_VC_t *vc;
    MPIR_Request *req;
    int answers[2]; /* packet types, or NO_ANSWER */
};

typedef struct MPID_nem_ivshmem_outstanding outstanding_t;

enum { NO_ANSWER = -1 };

/* The type of the packet that answers this one, and the handle of the request concerned. */
static int answer_to(const MPIDI_CH3_Pkt_t *pkt, MPI_Request *handle)
{
    switch ((int) pkt->type) {
    case MPIDI_CH3_PKT_EAGER_SYNC_SEND:
        *handle = pkt->eager_sync_send.sender_req_id;
        return MPIDI_CH3_PKT_EAGER_SYNC_ACK;
    case MPIDI_CH3_PKT_CANCEL_SEND_REQ:
        *handle = pkt->cancel_send_req.sender_req_id;
        return MPIDI_CH3_PKT_CANCEL_SEND_RESP;
    case MPIDI_CH3_PKT_GET:
        *handle = pkt->get.request_handle;
        return pkt->get.pkt_flags & MPIDI_CH3_PKT_FLAG_RMA_IMMED_RESP ? MPIDI_CH3_PKT_GET_RESP_IMMED
                                                                      : MPIDI_CH3_PKT_GET_RESP;
    case MPIDI_CH3_PKT_GET_ACCUM:
        *handle = pkt->get_accum.request_handle;
        return MPIDI_CH3_PKT_GET_ACCUM_RESP;
    case MPIDI_CH3_PKT_GET_ACCUM_IMMED:
        *handle = pkt->get_accum.request_handle;
        return MPIDI_CH3_PKT_GET_ACCUM_RESP_IMMED;
    case MPIDI_CH3_PKT_FOP:
        *handle = pkt->fop.request_handle;
        return MPIDI_CH3_PKT_FOP_RESP;
    case MPIDI_CH3_PKT_FOP_IMMED:
        *handle = pkt->fop.request_handle;
        return MPIDI_CH3_PKT_FOP_RESP_IMMED;
    case MPIDI_CH3_PKT_CAS_IMMED:
        *handle = pkt->cas.request_handle;
        return MPIDI_CH3_PKT_CAS_RESP_IMMED;
    default:
        return NO_ANSWER;
    }
}

/* By handle: answers may arrive in any order, and there may be very many. */
static outstanding_t **bucket_of(MPI_Request handle)
{
    return &MPID_nem_ivshmem.outstanding.buckets[(unsigned) handle % IVSHMEM_OUTSTANDING_BUCKETS];
}

static outstanding_t *find_outstanding(MPIDI_VC_t *vc, MPI_Request handle)
{
    outstanding_t *q = *bucket_of(handle);

    while (q && (q->req->handle != handle || q->vc != vc))
        q = q->chain;
    return q;
}

static void append_outstanding(MPIDI_VC_t *vc, outstanding_t *q)
{
    MPID_nem_ivshmem_vc_t *area = VC_IVSHMEM(vc);
    outstanding_t **bucket = bucket_of(q->req->handle);

    q->chain = *bucket;
    *bucket = q;
    q->next = NULL;
    q->prev = area->outstanding.tail;
    *(q->prev ? &q->prev->next : &area->outstanding.head) = q;
    area->outstanding.tail = q;
}

static void drop_outstanding(MPIDI_VC_t *vc, outstanding_t *q)
{
    MPID_nem_ivshmem_vc_t *area = VC_IVSHMEM(vc);
    outstanding_t **link = bucket_of(q->req->handle);

    while (*link != q)
        link = &(*link)->chain;
    *link = q->chain;
    *(q->prev ? &q->prev->next : &area->outstanding.head) = q->next;
    *(q->next ? &q->next->prev : &area->outstanding.tail) = q->prev;
    MPIR_Request_free(q->req);
    MPL_free(q);
}

int MPID_nem_ivshmem_outstanding_add(MPIDI_VC_t *vc, const MPIDI_CH3_Pkt_t *pkt)
{
    int mpi_errno = MPI_SUCCESS;
    MPI_Request handle = MPI_REQUEST_NULL;
    int answer = answer_to(pkt, &handle);

    if (answer == NO_ANSWER)
        goto fn_exit;
    outstanding_t *q = find_outstanding(vc, handle);
    if (q) { /* to cancel it, or the same once more */
        if (q->answers[0] != answer)
            q->answers[1] = answer;
        goto fn_exit;
    }
    q = MPL_malloc(sizeof(*q), MPL_MEM_OTHER);
    MPIR_ERR_CHKANDJUMP(!q, mpi_errno, MPI_ERR_OTHER, "**nomem");
    q->vc = vc;
    q->answers[0] = answer;
    q->answers[1] = NO_ANSWER;
    MPIR_Request_get_ptr(handle, q->req);
    MPIR_Request_add_ref(q->req);
    append_outstanding(vc, q);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

MPIR_Request *MPID_nem_ivshmem_outstanding_find(MPIDI_VC_t *vc, MPI_Request handle)
{
    const outstanding_t *q = find_outstanding(vc, handle);
    return q ? q->req : NULL;
}

bool MPID_nem_ivshmem_outstanding_awaits(MPIDI_VC_t *vc, MPI_Request handle, int type)
{
    const outstanding_t *q = find_outstanding(vc, handle);
    return q && (q->answers[0] == type || q->answers[1] == type) &&
           !MPIR_Request_is_complete(q->req);
}

void MPID_nem_ivshmem_outstanding_answered(MPIDI_VC_t *vc, MPI_Request handle, int type)
{
    outstanding_t *q = find_outstanding(vc, handle);

    if (!q)
        return;
    if (q->answers[0] == type)
        q->answers[0] = NO_ANSWER;
    if (q->answers[1] == type)
        q->answers[1] = NO_ANSWER;
    if (q->answers[0] == NO_ANSWER && q->answers[1] == NO_ANSWER)
        drop_outstanding(vc, q);
}

void MPID_nem_ivshmem_outstanding_withdraw(MPIDI_VC_t *vc, MPI_Request handle)
{
    outstanding_t *q = find_outstanding(vc, handle);

    if (q)
        drop_outstanding(vc, q);
}

void MPID_nem_ivshmem_outstanding_replace(MPIDI_VC_t *vc, MPI_Request handle, int type)
{
    outstanding_t *q = find_outstanding(vc, handle);

    if (q) {
        q->answers[0] = type;
        q->answers[1] = NO_ANSWER;
    }
}

/* Each answer that will not arrive is one that the request waits for. */
int MPID_nem_ivshmem_outstanding_fail(MPIDI_VC_t *vc, int req_errno)
{
    int mpi_errno = MPI_SUCCESS;

    for (outstanding_t *q; (q = VC_IVSHMEM(vc)->outstanding.head);) {
        for (int i = 0; i < 2; i++) {
            if (q->answers[i] == NO_ANSWER || MPIR_Request_is_complete(q->req))
                continue;
            q->req->status.MPI_ERROR = req_errno;
            mpi_errno = MPID_Request_complete(q->req);
            MPIR_ERR_CHECK(mpi_errno);
        }
        drop_outstanding(vc, q);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}
