/* SPDX-License-Identifier: mpich2 */
/*
 * A cooperative copy: a message between two buffers that both lie in the region, of which each side
 * copies pieces. One word says which pieces have been taken. It lies in memory of the owner, the
 * receiver, which completes the copy, if need be alone. The helper, the sender, may come late or
 * never. Neither side waits.
 *
 * A handle is used by one thread at a time. Every call costs constant time. Edge J1: the helper's
 * add of a finished piece is the release, the owner's ivshm_coop_remaining the acquire.
 */
#ifndef IVSHM_COOP_H
#define IVSHM_COOP_H

#include "extent.h"

/* One side's handle. Points to the word, which outlives it. Its fields are core's. */
struct ivshm_coop {
    struct ivshm_coop_shm *shared;
    uint32_t number; /* of the copy, among those that use this word */
    uint32_t pieces;
    uint64_t bytes;
    uint64_t piece_bytes; /* bytes of each piece but the last one */
};

/* A part of the message: `bytes` bytes from byte `first` on. */
struct ivshm_piece {
    uint64_t first, bytes;
};

/* What the helper needs to attach: the number of this copy, and its word. */
static inline uint32_t ivshm_coop_number(const struct ivshm_coop *coop)
{
    return coop->number;
}

static inline struct ivshm_coop_shm *ivshm_coop_word(const struct ivshm_coop *coop)
{
    return coop->shared;
}

/*
 * Owner: begins a copy of `bytes` > 0 with a word of its own, on which no other copy is under way.
 * The helper learns of it by a message (Q1 or R1).
 */
void ivshm_coop_begin(struct ivshm_coop_shm *shared, uint64_t bytes, struct ivshm_coop *coop);

/*
 * Helper: takes part in copy `number`, whose word is at `off`, in memory of kind USER that belongs
 * to `owner`, to which the caller is attached. -EBADMSG if it is not, or `bytes` is 0: nothing else
 * is ever written.
 */
int ivshm_coop_attach(struct ivshm_region *region, struct ivshm_owner owner, ivshm_off off,
                      uint32_t number, uint64_t bytes, struct ivshm_coop *coop,
                      struct ivshm_diag *diag);

/*
 * Takes a piece, which the caller then copies. False if none is left, if the word belongs to
 * another copy by now, or if it changed too often meanwhile; calling it again does no harm. No
 * edge: whoever has taken a piece is alone with it.
 */
bool ivshm_coop_take_piece(struct ivshm_coop *coop, struct ivshm_piece *piece);

/* Helper: the piece that it took last is copied (release J1). */
void ivshm_coop_finish(struct ivshm_coop *coop);

/*
 * Owner, after it has copied `taken` pieces itself: how many pieces are still to be taken, or
 * with the helper. 0 means that the whole message is there (acquire J1); -1 that a peer has written
 * an invalid word.
 */
int64_t ivshm_coop_remaining(const struct ivshm_coop *coop, uint32_t taken);

#endif
