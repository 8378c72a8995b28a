/* SPDX-License-Identifier: mpich2 */
#include "joint.h"
#include "point.h"

#include <errno.h>

#define NUMBER_SHIFT 32
#define FINISHED_SHIFT 16
#define COUNT_MASK UINT64_C(0xffff)
#define PIECES_MAX 32768u /* so that no count reaches into the next */
#define PIECE_BYTES_MIN (UINT64_C(8) << 10)
#define PIECE_BYTES_MAX (UINT64_C(256) << 10)
#define PARTS 4 /* of a message, at least, so that neither waits long for the last one */
#define TRIES 4 /* the other side takes the word away once, and then it copies */

/* Both sides cut alike. */
static void cut(struct ivshm_joint *joint, uint64_t bytes)
{
    uint64_t piece = bytes / PARTS;
    if (piece < PIECE_BYTES_MIN)
        piece = PIECE_BYTES_MIN;
    if (piece > PIECE_BYTES_MAX)
        piece = PIECE_BYTES_MAX;
    if (piece < bytes / PIECES_MAX + 1)
        piece = bytes / PIECES_MAX + 1;
    joint->bytes = bytes;
    joint->piece_bytes = piece;
    joint->pieces = (uint32_t) ((bytes - 1) / piece + 1);
}

static uint32_t number_of(uint64_t word)
{
    return (uint32_t) (word >> NUMBER_SHIFT);
}

void ivshm_joint_begin(struct ivshm_joint_shm *shared, uint64_t bytes, struct ivshm_joint *joint)
{
    joint->shared = shared;
    joint->number = number_of(ivshm_load64_relaxed(&shared->word)) + 1;
    cut(joint, bytes);
    /* Relaxed: the helper learns of it through a message. */
    ivshm_store64_relaxed(&shared->word, (uint64_t) joint->number << NUMBER_SHIFT);
}

int ivshm_joint_attach(struct ivshm_region *region, struct ivshm_owner owner, ivshm_off off,
                       uint32_t number, uint64_t bytes, struct ivshm_joint *joint,
                       struct ivshm_diag *diag)
{
    struct ivshm_joint_shm *shared = ivshm_resolve(region, off, sizeof(*shared));
    if (!shared || off.bytes % sizeof(*shared) != 0 || bytes == 0 ||
        !ivshm_extent_covers(region, owner, IVSHM_KIND_USER, off, sizeof(*shared)))
        return ivshm_fail(diag, EBADMSG, "endpoint %u asks for help at %llu, which is not its own",
                          owner.endpoint, (unsigned long long) off.bytes);
    joint->shared = shared;
    joint->number = number;
    cut(joint, bytes);
    return 0;
}

bool ivshm_joint_take(struct ivshm_joint *joint, struct ivshm_piece *piece)
{
    for (int tries = 0; tries < TRIES; tries++) {
        uint64_t word = ivshm_load64_relaxed(&joint->shared->word); /* the CAS looks again */
        uint64_t next = word & COUNT_MASK;
        if (number_of(word) != joint->number || next >= joint->pieces)
            return false;
        if (!ivshm_cas64(&joint->shared->word, word, word + 1))
            continue;
        IVSHM_POINT(joint_taken);
        piece->first = next * joint->piece_bytes;
        piece->bytes = joint->bytes - piece->first < joint->piece_bytes
                           ? joint->bytes - piece->first
                           : joint->piece_bytes;
        return true;
    }
    return false;
}

void ivshm_joint_finish(struct ivshm_joint *joint)
{
    IVSHM_POINT(joint_finish);
    ivshm_add64(&joint->shared->word, UINT64_C(1) << FINISHED_SHIFT); /* release J1 */
}

int64_t ivshm_joint_left(const struct ivshm_joint *joint, uint32_t taken)
{
    uint64_t word = ivshm_load64_acquire(&joint->shared->word); /* J1 */
    uint64_t next = word & COUNT_MASK, finished = word >> FINISHED_SHIFT & COUNT_MASK;
    if (number_of(word) != joint->number || next > joint->pieces || taken > next ||
        finished > next - taken)
        return -1;
    return (int64_t) (joint->pieces - taken - finished);
}
