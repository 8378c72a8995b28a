/* SPDX-License-Identifier: mpich2 */
/*
 * Large messages through a pipeline: the sender fills chunks while the receiver empties them.
 * Called by ivshmem_lmt.c, under MPICH's global lock.
 */
#include "ivshmem_netmod.h"

#define PIECE_BYTES_MIN (4 << 10)
/* Bytes. Prefetching more lines at once would displace the data that is read. */
#define TAKEN_BYTES_MAX (8 << 10)

void MPID_nem_ivshmem_pipeline_fill(MPID_nem_ivshmem_transfer_t *t)
{
    unsigned char *chunk;
    /*
     * Small enough that the receiver soon has something to do, large enough to be worth its
     * overhead.
     */
    intptr_t piece = MPL_MIN(MPL_MAX(t->size / 8, PIECE_BYTES_MIN),
                             (intptr_t) ivshm_pipeline_chunk_size(&t->pipeline));

    while (t->moved < t->size && (chunk = ivshm_pipeline_reserve_spsc(&t->pipeline))) {
        intptr_t before = t->moved;
        if (piece <= TAKEN_BYTES_MAX)
            ivshm_lines_prefetch_write(chunk, MPL_MIN(piece, t->size - t->moved));
        MPID_nem_ivshmem_copy_pack(t, chunk, piece);
        ivshm_pipeline_publish_spsc(&t->pipeline, (uint32_t) (t->moved - before));
    }
}

bool MPID_nem_ivshmem_pipeline_send(MPID_nem_ivshmem_transfer_t *t)
{
    MPID_nem_ivshmem_pipeline_fill(t);
    /* A pipeline of our own is free again, and the message matched, once the pipeline is empty. */
    return t->moved == t->size && (!t->own_pipeline || ivshm_pipeline_is_drained(&t->pipeline));
}

/*
 * Unpacks a chunk into a non-contiguous buffer. Only whole elements are unpacked: the incomplete
 * rest is carried over to the next chunk. False if that rest is larger than an element can be, or
 * if there is no memory.
 */
static bool unpack_chunk(MPID_nem_ivshmem_transfer_t *t, const unsigned char *chunk, uint32_t len)
{
    MPIR_Request *req = t->req;
    unsigned char *joined = NULL;
    MPI_Aint total = len, done = 0;
    const unsigned char *from = chunk;

    if (t->carry_len > 0) {
        total += t->carry_len;
        joined = MPL_malloc(total, MPL_MEM_BUFFER);
        if (!joined)
            return false;
        memcpy(joined, t->carry, t->carry_len);
        memcpy(joined + t->carry_len, chunk, len);
        from = joined;
    }
    ivshmem_compat_unpack(from, total, req->dev.user_buf, req->dev.user_count, req->dev.datatype,
                          t->moved, &done);
    t->moved += done;
    t->carry_len = (uint32_t) (total - done);
    bool fits = total - done <= (MPI_Aint) sizeof(t->carry);
    if (fits)
        memcpy(t->carry, from + done, t->carry_len);
    MPL_free(joined);
    return fits;
}

bool MPID_nem_ivshmem_pipeline_receive(MPID_nem_ivshmem_transfer_t *t, const char **why)
{
    const unsigned char *chunk;
    uint32_t len;

    while (t->moved + t->carry_len < t->size &&
           (chunk = ivshm_pipeline_peek_spsc(&t->pipeline, &len))) {
        intptr_t left = t->size - t->moved - (intptr_t) t->carry_len;
        if (t->is_part && left < (intptr_t) len)
            len = (uint32_t) left;
        if (len == 0 || (intptr_t) len > left) {
            *why = "sent a chunk of an impossible length";
            return false;
        }
        if (t->contig) {
            MPIR_Memcpy(t->contig + t->moved, chunk, len);
            t->moved += len;
        } else if (!unpack_chunk(t, chunk, len)) {
            *why = "sent a chunk that cannot be unpacked";
            return false;
        }
        if (t->is_part && t->moved + t->carry_len == t->size)
            break; /* the pipeline must not become empty, so that only our DONE ends the send */
        ivshm_pipeline_consume_spsc(&t->pipeline);
    }
    return t->moved + t->carry_len == t->size;
}
