/* SPDX-License-Identifier: mpich2 */
/* Rounds of which the other members are hostile, seen by one member. */
#include "fuzz.h"

#include "rounds.h"

enum { MEMBERS = 3, SELF = 1, SLOT = 4096 };

static struct image image;
static struct ivshm_rounds rounds;
static uint32_t bytes; /* of the exchange that has begun, or 0 */

static void check_place(const void *place, uint32_t size)
{
    const uint64_t from = (uint64_t) ((const char *) place - (const char *) image.base);
    must(from >= sizeof(struct ivshm_rounds_shm));
    must(from + size <= ivshm_rounds_bytes(MEMBERS, SLOT));
}

static bool is_over(void)
{
    const bool over = ivshm_rounds_is_over(&rounds);
    must(over || ivshm_rounds_missing(&rounds) < MEMBERS);
    return over;
}

static void arrive(struct input *in)
{
    unsigned char *slot = ivshm_rounds_slot(&rounds, SELF, bytes);
    check_place(slot, bytes);
    memset(slot, 1, bytes);
    ivshm_rounds_arrive(&rounds, take(in, 1));
}

/* What others provide, which may be anything. */
static void read_slots(void)
{
    static unsigned char copy[SLOT];
    for (uint32_t i = 0; i < MEMBERS; i++) {
        const unsigned char *slot = ivshm_rounds_slot(&rounds, i, bytes);
        check_place(slot, bytes);
        memcpy(copy, slot, bytes);
        ivshm_rounds_what(&rounds, i);
    }
}

static void broadcast(struct input *in, bool is_root)
{
    static unsigned char copy[IVSHM_ROUNDS_CHUNK];
    const uint32_t size = 1 + (uint32_t) take(in, 2) % IVSHM_ROUNDS_CHUNK;
    if (is_root)
        ivshm_rounds_reserve(&rounds, size);
    else
        ivshm_rounds_expect(&rounds, SELF ^ 1);
    if (!is_over())
        return;
    unsigned char *chunk = ivshm_rounds_chunk(&rounds, size);
    check_place(chunk, size);
    check_place(ivshm_rounds_chunk_what(&rounds, size), sizeof(ivshm_a64));
    if (is_root) {
        memset(chunk, 2, size);
        ivshm_rounds_publish(&rounds, size, 3);
    } else {
        ivshm_a64_load_relaxed(ivshm_rounds_chunk_what(&rounds, size));
        memcpy(copy, chunk, size);
        ivshm_rounds_take(&rounds, size);
    }
}

/* The others do as they should. */
static void follow(void)
{
    for (uint32_t i = 0; i < MEMBERS; i++)
        if (i != SELF)
            memcpy(&rounds.shm->members[i].at, &rounds.wanted, sizeof(rounds.wanted));
}

static void call(struct input *in, unsigned op)
{
    allow(4 * MEMBERS, false);
    allow_below(ivshm_rounds_bytes(MEMBERS, SLOT));
    switch (op % 8) {
    case 0:
    case 1: /* an exchange, if none has begun; else its end, or its second half */
        if (bytes == 0) {
            bytes = 1 + (uint32_t) take(in, 2) % SLOT;
            arrive(in);
        } else if (is_over()) {
            read_slots();
            if (op & 8) {
                ivshm_rounds_again(&rounds);
                arrive(in);
            } else {
                ivshm_rounds_pass(&rounds);
                bytes = 0;
            }
        }
        break;
    case 2:
    case 3:
        if (bytes == 0)
            broadcast(in, op & 1);
        break;
    case 4:
        follow();
        break;
    case 5:
        for (uint32_t i = 0; i < MEMBERS; i++)
            ivshm_rounds_has_left(&rounds, i);
        break;
    case 6:
        if (op & 8)
            ivshm_rounds_note_sleeper(&rounds);
        else
            ivshm_rounds_take_sleepers(&rounds);
        break;
    default: /* in new rounds, of which the memory need not be zero */
        ivshm_rounds_leave(&rounds);
        ivshm_rounds_init(&rounds, image.base, MEMBERS, SELF, SLOT);
        bytes = 0;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    if (!image.base) {
        image = image_new((ivshm_rounds_bytes(MEMBERS, SLOT) + IVSHM_PAGE - 1) & -IVSHM_PAGE);
        image_seal(&image);
    }
    image_restore(&image);
    watch_image(&image);
    ivshm_rounds_init(&rounds, image.base, MEMBERS, SELF, SLOT);
    bytes = 0;
    play(&in, 64, call);
    return 0;
}
