/* SPDX-License-Identifier: mpich2 */
/*
 * The virtual connections through the region: the lists of them, how they are found, and the mark
 * on one that is about to fail. Nothing here opens a connection, sends on it or closes it. Called
 * by the netmod's other files, under MPICH's global lock.
 */
#include "ivshmem_vc.h"

#include "ivshmem_error.h"

void MPID_nem_ivshmem_vc_set_ops(MPIDI_VC_t *vc, const MPID_nem_ivshmem_ops_t *ops)
{
    vc->sendNoncontig_fn = ops->sendNoncontig;
    vc->rndvSend_fn = ops->rndvSend;
    vc->ch.iStartContigMsg = ops->iStartContigMsg;
    vc->ch.iSendContig = ops->iSendContig;
    vc->ch.iSendIov = ops->iSendIov;
}

void MPID_nem_ivshmem_vc_link_busy(MPIDI_VC_t *vc)
{
    if (VC_IVSHMEM(vc)->busy)
        return;
    VC_IVSHMEM(vc)->busy = true;
    vc->ch.next = MPID_nem_ivshmem.busy;
    vc->ch.prev = NULL;
    if (vc->ch.next)
        vc->ch.next->ch.prev = vc;
    MPID_nem_ivshmem.busy = vc;
}

void MPID_nem_ivshmem_vc_unlink_busy(MPIDI_VC_t *vc)
{
    if (!VC_IVSHMEM(vc)->busy)
        return;
    VC_IVSHMEM(vc)->busy = false;
    if (vc->ch.prev)
        vc->ch.prev->ch.next = vc->ch.next;
    else
        MPID_nem_ivshmem.busy = vc->ch.next;
    if (vc->ch.next)
        vc->ch.next->ch.prev = vc->ch.prev;
    vc->ch.next = vc->ch.prev = NULL;
}

void MPID_nem_ivshmem_vc_add_call(MPIDI_VC_t *vc, struct ivshm_channel *channel, uint32_t stream)
{
    VC_IVSHMEM(vc)->channel = channel;
    VC_IVSHMEM(vc)->stream = stream;
    VC_IVSHMEM(vc)->next_dynamic = MPID_nem_ivshmem.dynamic;
    MPID_nem_ivshmem.dynamic = vc;
}

void MPID_nem_ivshmem_vc_remove_call(MPIDI_VC_t *vc)
{
    MPIDI_VC_t **link = &MPID_nem_ivshmem.dynamic;
    while (*link && *link != vc)
        link = &VC_IVSHMEM(*link)->next_dynamic;
    if (*link)
        *link = VC_IVSHMEM(vc)->next_dynamic;
}

MPIDI_VC_t *MPID_nem_ivshmem_vc_find_call(const struct ivshm_channel *channel, uint32_t stream)
{
    MPIDI_VC_t *vc = MPID_nem_ivshmem.dynamic;

    while (vc && (VC_IVSHMEM(vc)->channel != channel || VC_IVSHMEM(vc)->stream != stream))
        vc = VC_IVSHMEM(vc)->next_dynamic;
    return vc;
}

MPIDI_VC_t *MPID_nem_ivshmem_vc_next(MPID_nem_ivshmem_ranks_t *at)
{
    MPIDI_VC_t *vc = NULL;

    if (!at->pg)
        MPIDI_PG_Get_iterator(&at->pgs);
    do {
        while (!at->pg || at->rank == at->pg->size) {
            if (!MPIDI_PG_Has_next(&at->pgs))
                return NULL;
            MPIDI_PG_Get_next(&at->pgs, &at->pg);
            at->rank = 0;
        }
        MPIDI_PG_Get_vc(at->pg, at->rank++, &vc);
    } while (vc->ch.is_local);
    return vc;
}

const char *MPID_nem_ivshmem_vc_name(const MPIDI_VC_t *vc, char name[IVSHMEM_NAME_MAX])
{
    if (!vc || !vc->pg)
        snprintf(name, IVSHMEM_NAME_MAX, "the process at the other end of a new connection");
    else if (vc->pg == MPIDI_Process.my_pg)
        snprintf(name, IVSHMEM_NAME_MAX, "rank %d", vc->pg_rank);
    else
        snprintf(name, IVSHMEM_NAME_MAX, "rank %d of job %.150s", vc->pg_rank, (char *) vc->pg->id);
    return name;
}

int MPID_nem_ivshmem_vc_error(const MPIDI_VC_t *vc, const char *why)
{
    char text[600], name[IVSHMEM_NAME_MAX];

    snprintf(text, sizeof(text), "%s: %.300s", MPID_nem_ivshmem_vc_name(vc, name), why);
    return MPID_nem_ivshmem_peer_error(text);
}

void MPID_nem_ivshmem_vc_mark_failed(MPIDI_VC_t *vc, const char *why)
{
    MPID_nem_ivshmem_vc_t *area = VC_IVSHMEM(vc);

    if (area->failure || !area->channel)
        return;
    area->failure = MPID_nem_ivshmem_vc_error(vc, why);
    area->gone |= area->stream != 0; /* nothing is pending for a call any more */
    MPID_nem_ivshmem.failed_vcs |= area->stream ? IVSHMEM_FAILED_CALL : IVSHMEM_FAILED_RANK;
}

void MPID_nem_ivshmem_vc_mark_left(MPIDI_VC_t *vc, const char *why)
{
    VC_IVSHMEM(vc)->left = MPID_nem_ivshmem_vc_error(vc, why);
    MPID_nem_ivshmem.failed_vcs |= IVSHMEM_FAILED_CALL;
}
