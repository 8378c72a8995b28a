/* SPDX-License-Identifier: mpich2 */
/*
 * Large messages through a pipeline: the sender fills chunks while the receiver empties them. The
 * pipeline is the sender's, offered in the RTS, or the receiver's, sent in the CTS. Called by
 * ivshmem_lmt.c through MPID_nem_ivshmem_way_pipeline, under MPICH's global lock.
 */
#include "ivshmem_pipeline.h"

#include "ivshmem_copy.h"
#include "ivshmem_lmt_pool.h"

/*
 * Into about so many small pieces a message is cut: so all of a message of up to 256 KiB lies in
 * the pipeline, and the receiver can go on without the sender.
 */
#define PIECES 8

static void set_pipeline_cookie(MPID_nem_ivshmem_transfer_t *t)
{
    t->own_pipeline = true;
    t->cookie = (MPID_nem_ivshmem_cookie_t){.what = IVSHMEM_COOKIE_PIPELINE,
                                            .first = ivshm_pipeline_next(&t->pipeline),
                                            .off = ivshm_pipeline_offset(&t->pipeline),
                                            .bytes = (uint64_t) t->size};
}

static bool pipeline_offer(MPID_nem_ivshmem_transfer_t *t)
{
    if (VC_IVSHMEM(t->vc)->takes_single_copy ||
        MPID_nem_ivshmem.sender_pipelines >= IVSHMEM_SENDER_PIPELINES_MAX ||
        !MPID_nem_ivshmem_lmt_pool_alloc_pipeline(&t->pipeline, 1))
        return false;
    MPID_nem_ivshmem.sender_pipelines++;
    set_pipeline_cookie(t);
    return true;
}

static MPID_nem_ivshmem_answer_t pipeline_answer(MPID_nem_ivshmem_transfer_t *t)
{
    if (!MPID_nem_ivshmem_lmt_pool_alloc_pipeline(&t->pipeline, 0))
        return IVSHMEM_ANSWER_LATER;
    set_pipeline_cookie(t);
    return IVSHMEM_ANSWER_CTS;
}

static const char *pipeline_attach(MPID_nem_ivshmem_transfer_t *t,
                                   const MPID_nem_ivshmem_cookie_t *cookie, struct ivshm_owner peer,
                                   struct ivshm_diag *diag)
{
    t->is_part = !t->sends && cookie->bytes > (uint64_t) t->size;
    return ivshm_pipeline_attach(&MPID_nem_ivshmem.region, peer, cookie->off, cookie->first,
                                 &t->pipeline, diag) == 0
               ? NULL
               : diag->text;
}

static void forget_own_pipeline(MPID_nem_ivshmem_transfer_t *t)
{
    t->own_pipeline = false;
    MPID_nem_ivshmem.sender_pipelines -= t->sends;
}

static void free_own_pipeline(MPID_nem_ivshmem_transfer_t *t)
{
    if (!t->own_pipeline)
        return;
    MPID_nem_ivshmem_lmt_pool_free_pipeline(&t->pipeline);
    forget_own_pipeline(t);
}

static void pipeline_withdraw(MPID_nem_ivshmem_transfer_t *t)
{
    if (!t->own_pipeline)
        return;
    ivshm_pipeline_reset(&t->pipeline);
    free_own_pipeline(t);
    t->moved = 0;
}

static void pipeline_quarantine(MPID_nem_ivshmem_transfer_t *t,
                                bool peer_is_gone ATTRIBUTE((unused)))
{
    if (!t->own_pipeline)
        return;
    MPID_nem_ivshmem_lmt_pool_quarantine_pipeline(VC_IVSHMEM(t->vc)->peer, &t->pipeline);
    forget_own_pipeline(t);
}

static void fill_chunks(MPID_nem_ivshmem_transfer_t *t)
{
    struct ivshm_channel *channel = VC_IVSHMEM(t->vc)->channel;
    const intptr_t size = ivshm_pipeline_chunk_size(&t->pipeline);
    const intptr_t packed = MPL_MIN(size, MPL_MAX(size / 4, t->size / PIECES));
    unsigned char *chunk;

    while (t->moved < t->size && (chunk = ivshm_pipeline_reserve_spsc(&t->pipeline))) {
        uint32_t len, note = 0;
        if (t->contig) {
            len = ivshm_channel_fill_chunk(channel, &t->plan, t->moved == 0, chunk,
                                           t->contig + t->moved, (size_t) (t->size - t->moved),
                                           (size_t) t->size / PIECES, &note);
            t->moved += len;
        } else {
            intptr_t before = t->moved;
            MPID_nem_ivshmem_copy_pack(t, chunk, packed);
            len = (uint32_t) (t->moved - before);
        }
        ivshm_pipeline_publish_spsc(&t->pipeline, len, note);
    }
}

static MPID_nem_ivshmem_step_t pipeline_send(MPID_nem_ivshmem_transfer_t *t,
                                             const char **why ATTRIBUTE((unused)))
{
    fill_chunks(t);
    /* A pipeline of our own is free again, and the message matched, once the pipeline is empty. */
    if (t->moved < t->size || (t->own_pipeline && !ivshm_pipeline_is_drained(&t->pipeline)))
        return IVSHMEM_STEP_MORE;
    free_own_pipeline(t);
    return IVSHMEM_STEP_END;
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
    bool fits = total - done <= (MPI_Aint) sizeof(t->carry);
    if (fits) {
        t->carry_len = (uint8_t) (total - done);
        memcpy(t->carry, from + done, t->carry_len);
    }
    MPL_free(joined);
    return fits;
}

static MPID_nem_ivshmem_step_t pipeline_receive(MPID_nem_ivshmem_transfer_t *t, const char **why)
{
    struct ivshm_channel *channel = VC_IVSHMEM(t->vc)->channel;
    const unsigned char *chunk;
    uint32_t len, note;

    while (t->moved + t->carry_len < t->size &&
           (chunk = ivshm_pipeline_peek_spsc(&t->pipeline, &len, &note))) {
        intptr_t left = t->size - t->moved - (intptr_t) t->carry_len;
        if (t->is_part && left < (intptr_t) len)
            len = (uint32_t) left;
        if (len == 0 || (intptr_t) len > left) {
            *why = "sent a chunk of an impossible length";
            return IVSHMEM_STEP_MORE;
        }
        ivshm_channel_begin_reading(channel, note);
        if (t->contig) {
            MPIR_Memcpy(t->contig + t->moved, chunk, len);
            t->moved += len;
        } else if (!unpack_chunk(t, chunk, len)) {
            *why = "sent a chunk that cannot be unpacked";
            return IVSHMEM_STEP_MORE;
        }
        ivshm_channel_end_reading(channel, note);
        if (t->is_part && t->moved + t->carry_len == t->size)
            break; /* the pipeline must not become empty, so that only our DONE ends the send */
        ivshm_pipeline_consume_spsc(&t->pipeline);
    }
    if (t->moved + t->carry_len < t->size)
        return IVSHMEM_STEP_MORE;
    free_own_pipeline(t);
    return t->is_part ? IVSHMEM_STEP_DONE : IVSHMEM_STEP_END;
}

const MPID_nem_ivshmem_way_t MPID_nem_ivshmem_way_pipeline = {
    .cookie = IVSHMEM_COOKIE_PIPELINE,
    .answers = 1u << IVSHMEM_COOKIE_NOTHING,
    .offer = pipeline_offer,
    .rts_sent = fill_chunks,
    .answer = pipeline_answer,
    .attach = pipeline_attach,
    .send = pipeline_send,
    .receive = pipeline_receive,
    .withdraw = pipeline_withdraw,
    .quarantine = pipeline_quarantine,
};
