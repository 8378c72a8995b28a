/* SPDX-License-Identifier: mpich2 */
/*
 * Large messages from or to memory of the region: a single copy, made by the sender, by the
 * receiver, or by both. Called by ivshmem_lmt.c through MPID_nem_ivshmem_way_write, _read and
 * _coop, under MPICH's global lock. And copy_pack, which reads the user's buffer, of any datatype,
 * for all ways.
 */
#include "ivshmem_copy.h"

#include "ivshmem_lmt_pool.h"
#include "ivshmem_memory.h"

#define SINGLE_COPY_BYTES (256 << 10) /* copied in one progress call */
#define COOP_BYTES_MIN (12 << 10)

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

/* Puts our buffer into the cookie, if it is memory of the region. */
static bool set_buffer_cookie(MPID_nem_ivshmem_transfer_t *t)
{
    if (!t->contig || !MPID_nem_ivshmem_memory_find(t->contig, t->size, &t->cookie.off))
        return false;
    t->cookie.what = IVSHMEM_COOKIE_BUFFER;
    t->cookie.bytes = (uint64_t) t->size;
    return true;
}

/* This side has copied all of the message. */
static MPID_nem_ivshmem_step_t end_single_copy(void)
{
    MPID_nem_ivshmem.stats.single_copy++;
    return IVSHMEM_STEP_DONE;
}

/* Reading and writing: the peer's buffer, of which the whole message is accessed. */
static const char *attach_buffer(MPID_nem_ivshmem_transfer_t *t,
                                 const MPID_nem_ivshmem_cookie_t *cookie, struct ivshm_owner peer,
                                 struct ivshm_diag *diag ATTRIBUTE((unused)))
{
    if (!ivshm_extent_covers(&MPID_nem_ivshmem.region, peer, IVSHM_KIND_USER, cookie->off,
                             (uint64_t) t->size))
        return "sent a cookie for a buffer that it does not own";
    t->peer_buffer = ivshm_region_address(&MPID_nem_ivshmem.region, cookie->off);
    return NULL;
}

/*
 * Writing. A pipeline that the sender offers is used only if it holds the whole message already:
 * otherwise we would have to copy out of it what the sender can copy into our buffer.
 */
static MPID_nem_ivshmem_answer_t write_answer(MPID_nem_ivshmem_transfer_t *t)
{
    return set_buffer_cookie(t) &&
                   (!t->way || ivshm_pipeline_waiting(&t->pipeline) < (uint64_t) t->counted)
               ? IVSHMEM_ANSWER_CTS
               : IVSHMEM_ANSWER_NO;
}

static MPID_nem_ivshmem_step_t write_send(MPID_nem_ivshmem_transfer_t *t,
                                          const char **why ATTRIBUTE((unused)))
{
    MPID_nem_ivshmem_copy_pack(t, t->peer_buffer + t->moved, SINGLE_COPY_BYTES);
    IVSHM_TRACEPOINT(single_copy_write);
    return t->moved == t->size ? end_single_copy() : IVSHMEM_STEP_MORE;
}

static void write_quarantine(MPID_nem_ivshmem_transfer_t *t, bool peer_is_gone)
{
    if (!t->sends && !peer_is_gone)
        MPID_nem_ivshmem_memory_quarantine(t->contig);
}

const MPID_nem_ivshmem_way_t MPID_nem_ivshmem_way_write = {
    .cookie = IVSHMEM_COOKIE_BUFFER,
    .answers = 1u << IVSHMEM_COOKIE_NOTHING | 1u << IVSHMEM_COOKIE_PIPELINE,
    .answer = write_answer,
    .attach = attach_buffer,
    .send = write_send,
    .quarantine = write_quarantine,
};

/* Reading */

static MPID_nem_ivshmem_step_t read_receive(MPID_nem_ivshmem_transfer_t *t, const char **why)
{
    MPIR_Request *req = t->req;
    MPI_Aint len = MPL_MIN(t->size - t->moved, SINGLE_COPY_BYTES), done = len;

    if (t->contig)
        MPIR_Memcpy(t->contig + t->moved, t->peer_buffer + t->moved, len);
    else
        ivshmem_compat_unpack(t->peer_buffer + t->moved, len, req->dev.user_buf,
                              req->dev.user_count, req->dev.datatype, t->moved, &done);
    IVSHM_TRACEPOINT(single_copy_read);
    /* Only whole elements are unpacked. The rest after the last one is not an element. */
    t->moved += t->moved + len == t->size ? len : done;
    if (t->moved < t->size && done == 0)
        *why = "sent data that cannot be unpacked";
    return t->moved == t->size ? end_single_copy() : IVSHMEM_STEP_MORE;
}

const MPID_nem_ivshmem_way_t MPID_nem_ivshmem_way_read = {
    .cookie = IVSHMEM_COOKIE_BUFFER,
    .offer = set_buffer_cookie,
    .attach = attach_buffer,
    .receive = read_receive,
};

/* Cooperative copies */

/*
 * Whether a CTS can be sent at once. A CTS that had to wait might be sent after its transfer has
 * ended.
 */
static bool can_send_cts(MPIDI_VC_t *vc)
{
    const MPID_nem_ivshmem_vc_t *area = VC_IVSHMEM(vc);
    return area->stream == 0 && !area->sendq.head &&
           ivshm_message_fits_now(area->channel,
                                  sizeof(MPIDI_CH3_Pkt_t) + sizeof(MPID_nem_ivshmem_cookie_t));
}

/*
 * Asks the sender, whose buffer we would read, to copy a part, if that is worth it. If other
 * transfers are under way, both processors have enough to do, each with data that it will use
 * itself.
 */
static MPID_nem_ivshmem_answer_t coop_answer(MPID_nem_ivshmem_transfer_t *t)
{
    struct ivshm_coop_shm *word;

    if (t->size < COOP_BYTES_MIN || t->next || t->prev || !can_send_cts(t->vc) ||
        !set_buffer_cookie(t) || !(word = MPID_nem_ivshmem_lmt_pool_alloc_coop()))
        return IVSHMEM_ANSWER_NO;
    ivshm_coop_begin(word, (uint64_t) t->size, &t->coop);
    t->taken = 0;
    t->cookie.what = IVSHMEM_COOKIE_COOP;
    t->cookie.first = ivshm_coop_number(&t->coop);
    t->cookie.coop = MPID_nem_ivshmem_offset_of(word);
    return IVSHMEM_ANSWER_CTS;
}

static const char *coop_attach(MPID_nem_ivshmem_transfer_t *t,
                               const MPID_nem_ivshmem_cookie_t *cookie, struct ivshm_owner peer,
                               struct ivshm_diag *diag)
{
    struct ivshm_region *region = &MPID_nem_ivshmem.region;

    if (cookie->bytes != (uint64_t) t->size)
        return "asked for a cooperative copy that does not fit the transfer";
    if (ivshm_coop_attach(region, peer, cookie->coop, cookie->first, (uint64_t) t->size, &t->coop,
                          diag) != 0)
        return diag->text;
    t->peer_buffer = ivshm_region_address(region, cookie->off); /* coop_send checks it */
    return NULL;
}

static MPID_nem_ivshmem_step_t coop_receive(MPID_nem_ivshmem_transfer_t *t, const char **why)
{
    struct ivshm_piece piece;

    if (ivshm_coop_take_piece(&t->coop, &piece)) {
        MPIR_Memcpy(t->contig + piece.first, t->peer_buffer + piece.first, piece.bytes);
        t->taken++;
        IVSHM_TRACEPOINT(single_copy_read);
    }
    int64_t left = ivshm_coop_remaining(&t->coop, t->taken);
    if (left < 0)
        *why = "corrupted the word of a cooperative copy";
    if (left != 0)
        return IVSHMEM_STEP_MORE;
    MPID_nem_ivshmem_lmt_pool_free_coop(ivshm_coop_word(&t->coop));
    return end_single_copy();
}

static MPID_nem_ivshmem_step_t coop_send(MPID_nem_ivshmem_transfer_t *t, const char **why)
{
    const struct ivshm_region *region = &MPID_nem_ivshmem.region;
    struct ivshm_piece piece;

    if (!ivshm_coop_take_piece(&t->coop, &piece))
        return IVSHMEM_STEP_WAIT;
    if (t->moved == 0 &&
        !ivshm_extent_covers(region, ivshm_channel_peer(VC_IVSHMEM(t->vc)->channel),
                             IVSHM_KIND_USER, MPID_nem_ivshmem_offset_of(t->peer_buffer),
                             (uint64_t) t->size)) {
        *why = "asked for a cooperative copy into a buffer that it does not own";
        return IVSHMEM_STEP_MORE;
    }
    MPID_nem_ivshmem.stats.coop += t->moved == 0;
    MPIR_Memcpy(t->peer_buffer + piece.first, t->contig + piece.first, piece.bytes);
    t->moved += piece.bytes;
    IVSHM_TRACEPOINT(single_copy_write);
    ivshm_coop_finish(&t->coop);
    return IVSHMEM_STEP_MORE;
}

static void coop_quarantine(MPID_nem_ivshmem_transfer_t *t, bool peer_is_gone)
{
    if (t->sends)
        return;
    if (!peer_is_gone)
        MPID_nem_ivshmem_memory_quarantine(t->contig);
    MPID_nem_ivshmem_lmt_pool_quarantine_coop(VC_IVSHMEM(t->vc)->peer, ivshm_coop_word(&t->coop));
}

const MPID_nem_ivshmem_way_t MPID_nem_ivshmem_way_coop = {
    .cookie = IVSHMEM_COOKIE_COOP,
    .answers = 1u << IVSHMEM_COOKIE_BUFFER,
    .answer = coop_answer,
    .attach = coop_attach,
    .send = coop_send,
    .receive = coop_receive,
    .quarantine = coop_quarantine,
};
