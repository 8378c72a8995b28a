/* SPDX-License-Identifier: mpich2 */
/*
 * A cooperative copy: of a message between two buffers that both lie in the region, each side
 * copies pieces, as fast as it gets to it. One word says which have been taken. It is in memory of
 * the owner, who sees it through, if need be alone; the helper may come late, or never. Neither
 * waits. One thread a handle.
 */
#ifndef IVSHM_COOP_H
#define IVSHM_COOP_H

#include "extent.h"

struct ivshm_coop {
    struct ivshm_coop_shm *shared;
    uint32_t number; /* of the copy, among those by this word */
    uint32_t pieces;
    uint64_t bytes;
    uint64_t piece_bytes; /* of all but the last one */
};

/* A part of the message: `bytes` from `first` on. */
struct ivshm_piece {
    uint64_t first, bytes;
};

/* By which the helper knows this copy among those by the same word. */
static inline uint32_t ivshm_coop_number(const struct ivshm_coop *coop)
{
    return coop->number;
}

static inline struct ivshm_coop_shm *ivshm_coop_word(const struct ivshm_coop *coop)
{
    return coop->shared;
}

/* Owner: begins a copy of `bytes`, at least 1, by a word of its own that no other copy uses. */
void ivshm_coop_begin(struct ivshm_coop_shm *shared, uint64_t bytes, struct ivshm_coop *coop);

/*
 * Helper: takes part in copy `number` by the word at `off`, which is in memory that `owner` has of
 * kind USER. -EBADMSG if it is not: nothing else is ever written.
 */
int ivshm_coop_attach(struct ivshm_region *region, struct ivshm_owner owner, ivshm_off off,
                      uint32_t number, uint64_t bytes, struct ivshm_coop *coop,
                      struct ivshm_diag *diag);

/* Takes a piece, which the caller is to copy. False if there is none, or the copy is over. */
bool ivshm_coop_claim(struct ivshm_coop *coop, struct ivshm_piece *piece);

/* Helper: the piece that it took is copied. */
void ivshm_coop_finish(struct ivshm_coop *coop);

/*
 * Owner, when it has copied `taken` pieces: how many are left, with the helper or to be taken. 0
 * means that all of the message is there; -1 that a peer has written nonsense.
 */
int64_t ivshm_coop_remaining(const struct ivshm_coop *coop, uint32_t taken);

#endif
