/* SPDX-License-Identifier: mpich2 */
/*
 * libivshmem: blocks that a hostile peer creates, removes and changes, and the locks in them.
 */
#include "tool_double.h"

#include "lib.h"

#define BLOCKS 4
#define LOCKS_OF(block) (ivshmem_size(block) / sizeof(ivshmem_rwlock))

static struct world *world;
static struct ivshm_transport *party;
static struct ivshm_names names; /* HOSTILE's */
static struct ivshm_named held;
static bool has_held;
static ivshmem *handle;
static ivshmem_block *blocks[BLOCKS];

/* Nobody goes on while it waits; only changes that are due happen then. */

int fuzz_nanosleep(const struct timespec *time, struct timespec *left);
int fuzz_nanosleep(const struct timespec *time, struct timespec *left)
{
    (void) left;
    clock_ns += (uint64_t) time->tv_nsec;
    return 0;
}

void fuzz_sleep(struct ivshm_transport *t, uint64_t ns, const struct pollfd *fds, size_t count);
void fuzz_sleep(struct ivshm_transport *t, uint64_t ns, const struct pollfd *fds, size_t count)
{
    (void) t;
    (void) fds;
    (void) count;
    clock_ns += ns;
}

/* Each look takes time. */
int fuzz_ticking_clock(clockid_t id, struct timespec *t);
int fuzz_ticking_clock(clockid_t id, struct timespec *t)
{
    clock_ns += 200000;
    return fuzz_clock(id, t);
}

int lib_guardian_start(struct ivshm_region *region, struct ivshm_owner owner)
{
    (void) region;
    (void) owner;
    return -1;
}

void lib_guardian_end(int fd)
{
    must(fd == -1);
}

/* The image is no file that can be mapped once more. */
int ivshm_map_view_open(const struct ivshm_map *map, uint64_t off, uint64_t bytes,
                        struct ivshm_map_view *view, struct ivshm_diag *diag)
{
    (void) diag;
    must(off < map->size && bytes <= map->size - off);
    *view = (struct ivshm_map_view){
        .address = (char *) map->base + off, .base = map->base, .size = map->size};
    return 0;
}

void ivshm_map_view_close(struct ivshm_map_view *view)
{
    (void) view;
}

/* What a call has returned. */
static void check(int err)
{
    if (err == 0)
        return;
    must(err < 0);
    must(ivshmem_error()[0]);
}

static void use_block(struct input *in, unsigned op, ivshmem_block **slot)
{
    static const char *const block_names[] = {"a", "b", "no/name", ""};
    const char *name = block_names[op / 32 % LENGTH(block_names)];
    uint64_t offset;
    if (*slot && op % 4 != 2) {
        const char *data = ivshmem_data(*slot);
        const size_t size = ivshmem_size(*slot);
        must(data >= (char *) world->image.base);
        must((uint64_t) (data - (char *) world->image.base) <= world->image.size - size);
        offset = take(in, 2);
        void *there = ivshmem_pointer(*slot, offset, 8);
        must((there != NULL) == (offset + 8 <= size));
        check(ivshmem_offset(*slot, data + offset, 8, &offset));
        ivshmem_is_found(*slot);
        if (op % 4 == 3) {
            ivshmem_detach(*slot);
            *slot = NULL;
        }
        return;
    }
    if (op % 4 == 0)
        check(ivshmem_create(handle, name, (size_t) take(in, 2) * 4,
                             op & 16 ? IVSHMEM_OR_ATTACH : 0, slot));
    else if (op % 4 == 1)
        check(ivshmem_attach(handle, name, op & 8 ? 4096 : 0, op & 16 ? IVSHMEM_READ_ONLY : 0, 10,
                             slot));
    else if (op % 4 == 2)
        check(ivshmem_remove(handle, name));
}

/* The hostile peer, by the same code. */
static void use_theirs(struct input *in, unsigned op)
{
    const char *name = op & 32 ? "b" : "a";
    if (op % 4 == 0)
        ivshm_named_create(&names, name, 1 + take(in, 2), &held, NULL);
    else if (op % 4 == 1)
        ivshm_named_remove(&names, name, NULL);
    else if (op % 4 == 2 && !has_held)
        has_held = ivshm_named_attach(&names, name, &held, NULL) == 0;
    else if (has_held) {
        ivshm_named_detach(&names, &held);
        has_held = false;
    }
}

static void use_lock(struct input *in, unsigned op, ivshmem_block *block)
{
    const unsigned which = (unsigned) take(in, 1);
    const int limit = which >> 4;
    if (!block)
        return;
    void *lock = (char *) ivshmem_data(block) + which % 4 * sizeof(ivshmem_rwlock);
    if (which % 16 == 15)
        lock = (char *) lock + 8;
    const unsigned members = 1 + which / 4 % 4 * 19; /* or more than can be */
    switch (op / 8 % 12) {
    case 0:
        check(ivshmem_mutex_lock(handle, lock, limit));
        break;
    case 1:
        check(ivshmem_mutex_unlock(handle, lock));
        break;
    case 2:
        check(ivshmem_mutex_consistent(handle, lock));
        break;
    case 3:
        check(ivshmem_rwlock_rdlock(handle, lock, limit));
        break;
    case 4:
        check(ivshmem_rwlock_wrlock(handle, lock, limit));
        break;
    case 5:
        check(ivshmem_rwlock_unlock(handle, lock));
        break;
    case 6:
        check(ivshmem_rwlock_consistent(handle, lock));
        break;
    case 7:
        check(ivshmem_cond_wait(handle, (ivshmem_cond *) lock + 2, lock, limit));
        break;
    case 8:
        check(ivshmem_cond_broadcast(handle, (ivshmem_cond *) lock + 2));
        break;
    case 9:
        check(ivshmem_barrier_wait(handle, lock, members, limit));
        break;
    case 10:
        check(ivshmem_barrier_consistent(handle, lock, members));
        break;
    default: { /* some word, which names a process that is or was there, or none */
        const unsigned place = (unsigned) take(in, 1);
        const struct ivshm_owner owner = party[place % PARTIES].endpoint.owner;
        const uint64_t word = (uint64_t) (owner.generation + (place >> 7))
                                  << (place & 64 ? 16 : 32) |
                              (owner.endpoint + 1);
        const uint64_t at = which % 4 * sizeof(ivshmem_rwlock) + place / 4 % 16 * 8;
        if (at + 8 <= ivshmem_size(block))
            memcpy((char *) ivshmem_data(block) + at, &word, sizeof(word));
    }
    }
}

static void call(struct input *in, unsigned op)
{
    allow(10000 * table_limit(&world->region), false);
    switch (op % 8) {
    case 0:
    case 1:
    case 2:
        use_block(in, op / 8 | (unsigned) take(in, 1) << 4, &blocks[op % 8]);
        break;
    case 3:
        use_theirs(in, op / 8 | (unsigned) take(in, 1) << 4);
        break;
    default:
        use_lock(in, op, blocks[op % 8 % 3]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    world = world_begin(PLAIN);
    party = parties_begin();
    clock_ns = 1;
    memset(blocks, 0, sizeof(blocks));
    has_held = false;
    allow(100 * table_limit(&world->region), false);
    must(ivshm_names_open(&names, &party[HOSTILE], NULL) == 0);
    must(ivshmem_open("region", 0, &handle) == 0);
    play(&in, 64, call);
    allow(10000 * table_limit(&world->region), false);
    ivshmem_close(handle);
    ivshm_names_close(&names);
    parties_end();
    return 0;
}
