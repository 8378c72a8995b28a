/* SPDX-License-Identifier: mpich2 */
#include "coop.h"
#include "tracepoint.h"

#include <errno.h>

#define NUMBER_SHIFT 32
#define FINISHED_SHIFT 16
#define COUNT_MASK UINT64_C(0xffff)
#define PIECES_MAX 32768u /* so that no count overflows into the next one */
#define PIECE_BYTES_MIN (UINT64_C(8) << 10)
#define PIECE_BYTES_MAX (UINT64_C(256) << 10)
#define PARTS 4 /* of a message, at least: neither side waits long for the last one */
#define TRIES 4 /* the other side changes the word once, then it copies */

/* Both sides divide the message alike. */
static void cut_pieces(struct ivshm_coop *coop, uint64_t bytes)
{
    uint64_t piece = bytes / PARTS;
    if (piece < PIECE_BYTES_MIN)
        piece = PIECE_BYTES_MIN;
    if (piece > PIECE_BYTES_MAX)
        piece = PIECE_BYTES_MAX;
    if (piece < bytes / PIECES_MAX + 1)
        piece = bytes / PIECES_MAX + 1;
    coop->bytes = bytes;
    coop->piece_bytes = piece;
    coop->pieces = (uint32_t) ((bytes - 1) / piece + 1);
}

static uint32_t number_of(uint64_t word)
{
    return (uint32_t) (word >> NUMBER_SHIFT);
}

void ivshm_coop_begin(struct ivshm_coop_shm *shared, uint64_t bytes, struct ivshm_coop *coop)
{
    coop->shared = shared;
    coop->number = number_of(ivshm_a64_load_relaxed(&shared->word)) + 1;
    cut_pieces(coop, bytes);
    /* Relaxed: the helper learns of the copy by a message. */
    ivshm_a64_store_relaxed(&shared->word, (uint64_t) coop->number << NUMBER_SHIFT);
}

int ivshm_coop_attach(struct ivshm_region *region, struct ivshm_owner owner, ivshm_off off,
                      uint32_t number, uint64_t bytes, struct ivshm_coop *coop,
                      struct ivshm_diag *diag)
{
    struct ivshm_coop_shm *shared = ivshm_region_resolve(region, off, sizeof(*shared));
    if (!shared || off.bytes % sizeof(*shared) != 0 || bytes == 0 ||
        !ivshm_extent_covers(region, owner, IVSHM_KIND_USER, off, sizeof(*shared)))
        return ivshm_diag_fail(diag, EBADMSG,
                               "endpoint %u proposed a cooperative copy by a word at offset %llu, "
                               "which is not in memory of its own",
                               owner.endpoint, (unsigned long long) off.bytes);
    coop->shared = shared;
    coop->number = number;
    cut_pieces(coop, bytes);
    return 0;
}

bool ivshm_coop_take_piece(struct ivshm_coop *coop, struct ivshm_piece *piece)
{
    for (int tries = 0; tries < TRIES; tries++) {
        uint64_t word = ivshm_a64_load_relaxed(&coop->shared->word); /* the CAS checks it */
        uint64_t next = word & COUNT_MASK;
        if (number_of(word) != coop->number || next >= coop->pieces)
            return false;
        if (!ivshm_a64_cas_seqcst(&coop->shared->word, word, word + 1))
            continue;
        IVSHM_TRACEPOINT(coop_taken);
        piece->first = next * coop->piece_bytes;
        piece->bytes = coop->bytes - piece->first < coop->piece_bytes ? coop->bytes - piece->first
                                                                      : coop->piece_bytes;
        return true;
    }
    return false;
}

void ivshm_coop_finish(struct ivshm_coop *coop)
{
    IVSHM_TRACEPOINT(coop_finish);
    ivshm_a64_add_seqcst(&coop->shared->word, UINT64_C(1) << FINISHED_SHIFT); /* release J1 */
}

int64_t ivshm_coop_remaining(const struct ivshm_coop *coop, uint32_t taken)
{
    uint64_t word = ivshm_a64_load_acquire(&coop->shared->word); /* acquire J1 */
    uint64_t next = word & COUNT_MASK, finished = word >> FINISHED_SHIFT & COUNT_MASK;
    if (number_of(word) != coop->number || next > coop->pieces || taken > next ||
        finished > next - taken)
        return -1;
    return (int64_t) (coop->pieces - taken - finished);
}
