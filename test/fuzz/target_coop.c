/* SPDX-License-Identifier: mpich2 */
/* A cooperative copy whose word a hostile peer writes, seen by its owner and by its helper. */
#include "fuzz.h"

#include "coop.h"

#define BYTES_MAX (UINT64_C(1) << 32) /* of a message */

static const struct world *world;
static struct ivshm_region *region;
static struct ivshm_coop coop;
static uint32_t copied; /* pieces, as the owner */

static void begin_copy(uint64_t bytes)
{
    struct ivshm_coop_shm *word = ivshm_region_resolve(region, world->memory, sizeof(*word));
    allow(message_limit(region), false);
    ivshm_coop_begin(word, bytes, &coop);
    must(ivshm_coop_word(&coop) == word && ivshm_coop_number(&coop) == coop.number);
    copied = 0;
}

static void call(struct input *in, unsigned op)
{
    struct ivshm_diag diag = {""};
    struct ivshm_piece piece;

    allow(message_limit(region), false);
    switch (op % 8) {
    case 0:
    case 1:
    case 2:
        if (!ivshm_coop_take_piece(&coop, &piece))
            break;
        must(piece.bytes > 0 && piece.bytes <= coop.bytes);
        must(piece.first <= coop.bytes - piece.bytes);
        copied++;
        break;
    case 3:
        ivshm_coop_finish(&coop);
        break;
    case 4:
    case 5: {
        int64_t left = ivshm_coop_remaining(&coop, copied);
        must(left >= -1 && left <= (int64_t) coop.pieces);
        break;
    }
    case 6: {
        enum party owner = (enum party)(op / 8 % PARTIES);
        ivshm_off off = op / 8 / PARTIES % 2 ? world->memory : take_offset(in);
        struct ivshm_coop other;
        int err = ivshm_coop_attach(region, world->party[owner].endpoint.owner, off,
                                    (uint32_t) take(in, 1), take(in, 4), &other, &diag);
        if (err) {
            check_error(err, &diag);
        } else {
            must(!is_quiet() ||
                 ivshm_extent_covers(region, world->party[owner].endpoint.owner, IVSHM_KIND_USER,
                                     off, sizeof(struct ivshm_coop_shm)));
            coop = other;
        }
        break;
    }
    default:
        begin_copy(1 + take(in, 4) % BYTES_MAX);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    struct world *w = world_begin(PLAIN);
    world = w;
    region = &w->region;
    begin_copy(1 + take(&in, 3));
    play(&in, 64, call);
    return 0;
}
