/* SPDX-License-Identifier: mpich2 */
/*
 * Large messages from or to memory of the region: a single copy, made by the sender, by the
 * receiver, or by both. And copy_pack, which reads the user's buffer, of any datatype, for all
 * kinds of transfer. Called by ivshmem_lmt.c and ivshmem_pipeline.c, under MPICH's global lock.
 */
#include "ivshmem_netmod.h"

#define DIRECT_BYTES (256 << 10) /* copied in one progress call */

void MPID_nem_ivshmem_copy_pack(MPID_nem_ivshmem_transfer_t *t, void *to, intptr_t max)
{
    MPIR_Request *req = t->req;
    MPI_Aint len = MPL_MIN(t->size - t->moved, max);
    if (t->contig)
        MPIR_Memcpy(to, t->contig + t->moved, len);
    else
        ivshmem_compat_pack(req->dev.user_buf, req->dev.user_count, req->dev.datatype, t->moved, to,
                            len, &len);
    t->moved += len;
}

bool MPID_nem_ivshmem_copy_write(MPID_nem_ivshmem_transfer_t *t)
{
    MPID_nem_ivshmem_copy_pack(t, t->peer_buffer + t->moved, DIRECT_BYTES);
    IVSHM_TRACEPOINT(write_direct);
    return t->moved == t->size;
}

bool MPID_nem_ivshmem_copy_read(MPID_nem_ivshmem_transfer_t *t, const char **why)
{
    MPIR_Request *req = t->req;
    MPI_Aint len = MPL_MIN(t->size - t->moved, DIRECT_BYTES), done = len;

    if (t->contig)
        MPIR_Memcpy(t->contig + t->moved, t->peer_buffer + t->moved, len);
    else
        ivshmem_compat_unpack(t->peer_buffer + t->moved, len, req->dev.user_buf,
                              req->dev.user_count, req->dev.datatype, t->moved, &done);
    IVSHM_TRACEPOINT(read_direct);
    /* Only whole elements are unpacked. The rest after the last one is not an element. */
    t->moved += t->moved + len == t->size ? len : done;
    if (t->moved < t->size && done == 0)
        *why = "sent data that cannot be unpacked";
    return t->moved == t->size;
}

bool MPID_nem_ivshmem_copy_coop_receive(MPID_nem_ivshmem_transfer_t *t, const char **why)
{
    struct ivshm_piece piece;

    if (ivshm_coop_claim(&t->coop, &piece)) {
        MPIR_Memcpy(t->contig + piece.first, t->peer_buffer + piece.first, piece.bytes);
        t->taken++;
        IVSHM_TRACEPOINT(read_direct);
    }
    int64_t left = ivshm_coop_remaining(&t->coop, t->taken);
    if (left < 0)
        *why = "overwrote the state of a cooperative copy";
    return left == 0;
}

bool MPID_nem_ivshmem_copy_coop_send(MPID_nem_ivshmem_transfer_t *t, const char **why)
{
    const struct ivshm_region *region = &MPID_nem_ivshmem.region;
    struct ivshm_piece piece;

    if (!ivshm_coop_claim(&t->coop, &piece))
        return true;
    if (t->moved == 0 &&
        !ivshm_extent_covers(region, ivshm_channel_peer(VC_IVSHMEM(t->vc)->channel),
                             IVSHM_KIND_USER, MPID_nem_ivshmem_offset_of(t->peer_buffer),
                             (uint64_t) t->size)) {
        *why = "asked for a cooperative copy into a buffer that it does not own";
        return false;
    }
    MPID_nem_ivshmem.stats.coop += t->moved == 0;
    MPIR_Memcpy(t->peer_buffer + piece.first, t->contig + piece.first, piece.bytes);
    t->moved += piece.bytes;
    IVSHM_TRACEPOINT(write_direct);
    ivshm_coop_finish(&t->coop);
    return false;
}
