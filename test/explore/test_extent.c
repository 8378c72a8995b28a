/* SPDX-License-Identifier: mpich2 */
/*
 * Extents: two actors allocate, use and free, while a third reclaims what a dead owner held. One of
 * the two may die. No block is given to both. An actor whose request fits gets memory. In the end
 * the map names what the dead actor held, and nothing else.
 *
 * Faults that this has been seen to find: a block that is claimed by a store; a search that goes on
 * block by block where an extent says how far it reaches; blocks that are not freed when another
 * owner is met; a reclaim of any owner's blocks; a free that forgets a block.
 */
#include "explore.h"

#include "core/extent.h"

#define BLOCKS_MAX 8
#define BLOCK_SIZE IVSHM_LINE

struct shape {
    int8_t layout[BLOCKS_MAX]; /* runs of blocks: the dead owner's, or, if negative, a hole */
    uint8_t wants[2];          /* blocks that each of the two allocates */
    bool all_fit;              /* where the other one is, or was for a while */
};

struct block {
    ivshm_a64 user; /* the actor that writes here */
    char rest[BLOCK_SIZE - sizeof(ivshm_a64)];
};

/* In shared memory. */
struct stage {
    struct block blocks[BLOCKS_MAX];
    ivshm_a64 map[BLOCKS_MAX];
};

static const struct shape *shape;
static struct ivshm_region region;
static bool got[2];
static const struct ivshm_owner dead = {9, 3};

static struct stage *stage(void)
{
    return (struct stage *) explore_memory;
}

static struct ivshm_owner owner(int actor)
{
    return (struct ivshm_owner){(uint32_t) actor, 3};
}

static void setup(const void *arg)
{
    const struct ivshm_owner nobody = {8, 3};
    shape = arg;
    got[0] = got[1] = false;
    region = (struct ivshm_region){.map = {.base = explore_memory},
                                   .block_map = stage()->map,
                                   .geo = {.size = sizeof(stage()->blocks),
                                           .block_size = BLOCK_SIZE,
                                           .blocks = BLOCKS_MAX,
                                           .endpoints = 64}};
    for (int i = 0; i < BLOCKS_MAX && shape->layout[i]; i++) {
        ivshm_off off;
        must(ivshm_extent_alloc(&region, shape->layout[i] > 0 ? dead : nobody, IVSHM_KIND_USER,
                                (uint64_t) abs(shape->layout[i]) * BLOCK_SIZE, &off) == 0);
    }
    ivshm_extent_reclaim(&region, nobody);
}

/* An actor that has memory has it to itself. */
static void use(ivshm_off off, uint64_t count)
{
    uint64_t self = (uint64_t) explore.self + 1;
    struct block *block = ivshm_region_resolve(&region, off, count * BLOCK_SIZE);
    must(block);
    for (uint64_t i = 0; i < count; i++)
        explore_plain_store(&block[i].user, self);
    for (uint64_t i = 0; i < count; i++)
        must(explore_plain_load(&block[i].user) == self);
    must(
        ivshm_extent_owned(&region, owner(explore.self), IVSHM_KIND_USER, off, count * BLOCK_SIZE));
}

/* Allocates what the actor wants; false if there is no room. */
static bool alloc(ivshm_off *off)
{
    int self = explore.self;
    uint64_t count = shape->wants[self];
    if (ivshm_extent_alloc(&region, owner(self), IVSHM_KIND_USER, count * BLOCK_SIZE, off) != 0)
        return false;
    got[self] = true;
    use(*off, count);
    return true;
}

static void alloc_and_keep(void)
{
    ivshm_off off;
    alloc(&off);
}

static void alloc_and_free(void)
{
    int self = explore.self;
    ivshm_off off;
    if (!alloc(&off))
        return;
    ivshm_extent_free(&region, owner(self), off, shape->wants[self] * BLOCK_SIZE);
    must(ivshm_extent_held(&region, owner(self)) == 0);
}

static void reclaim(void)
{
    ivshm_extent_reclaim(&region, dead);
    must(ivshm_extent_held(&region, dead) == 0);
}

static void check(void)
{
    struct ivshm_extent_usage usage;
    if (!explore.death)
        must(shape->all_fit ? got[0] && got[1] : got[0] || got[1]);
    if (explore_fate(1) == EXPLORE_ENDED)
        must(ivshm_extent_held(&region, owner(1)) == (got[1] ? shape->wants[1] : 0));
    ivshm_extent_reclaim(&region, owner(0));
    ivshm_extent_reclaim(&region, owner(1));
    ivshm_extent_usage(&region, &usage);
    must(usage.free_blocks == BLOCKS_MAX);
}

int main(int argc, char **argv)
{
#define ALL EXPLORE_ALL
    static const struct shape exact = {{2, -4, 2}, {2, 2}, true},
                              holes = {{1, -2, 1, -3, 1}, {3, 2}, false},
                              full = {{3, -3, 2}, {2, 3}, false};
#define EXTENT(name, shape)                                                                        \
    {                                                                                              \
        name, setup, &shape, {alloc_and_free, alloc_and_keep, reclaim}, 3, check, 2, 3, false      \
    }
    static const struct explore_case cases[] = {
        EXTENT("a hole for two", exact),
        EXTENT("two holes", holes),
        EXTENT("a hole for one of two", full),
    };
    return explore_main(argc, argv, cases, LENGTH(cases));
}
