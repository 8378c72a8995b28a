/* SPDX-License-Identifier: mpich2 */
/*
 * Endpoints join, attach, leave, die and are reaped, in a region with memory for two or three. No
 * entry and no memory is given to two endpoints. Attached memory is written only by its owner and
 * the attached peer (edge A1). Whoever reads an entry finds what belongs to one claim (E1, E3), and
 * what one that is dead has sent (E2). Once all have left or are proved dead, everything has been
 * freed.
 *
 * Faults that this has been seen to find: an attach that sets its bit only after it has checked the
 * claim; a reaper that does not check the bits, or only some; an entry that is freed before its
 * blocks; a claim, or a death, that is stored instead of swapped; a claim with the generation of
 * the last one; a base extent that is not cleared; a publish that marks whatever claim it finds as
 * LIVE, or keeps its blocks when it has failed; blocks that are allocated before the entry names
 * their owner.
 */
#include "liveness_double.h"

#include <errno.h>

#include "core/endpoint.h"

#define BLOCK_SIZE IVSHM_LINE
#define BASE_BLOCKS 2
#define BLOCKS_MAX (4 * BASE_BLOCKS)
#define ENDPOINTS 64 /* the minimum: one word of attachments */

/* The bitmap comes first, then a line for the owner of the memory and a line for its peer. */
struct base {
    ivshm_a64 attached;
    ivshm_a64 owner;
    ivshm_a64 reserved[IVSHM_LINE / 8 - 2];
    ivshm_a64 from_peer;
    ivshm_a64 reserved_of_peer[IVSHM_LINE / 8 - 1];
};

_Static_assert(sizeof(struct base) == BASE_BLOCKS * BLOCK_SIZE, "a base extent");

/* In shared memory. */
struct stage {
    struct base blocks[BLOCKS_MAX / BASE_BLOCKS];
    ivshm_a64 map[BLOCKS_MAX];
    struct ivshm_endpoint_shm endpoints[ENDPOINTS];
    ivshm_a64 sent;
};

struct shape {
    uint32_t bases;      /* memory for this many */
    uint32_t generation; /* number of free entries */
    unsigned live;       /* actors that have joined and published already: a bit for each */
    unsigned long_dead; /* other endpoints that died after and before they published, alternating */
};

static const struct shape *shape;
static struct ivshm_region region;
static struct ivshm_endpoint endpoints[EXPLORE_ACTORS];
static bool joined[EXPLORE_ACTORS], left[EXPLORE_ACTORS];

static void setup(const void *arg)
{
    struct stage *stage = (struct stage *) explore_memory;
    shape = arg;
    memset(joined, 0, sizeof(joined));
    dead_now = false;
    memset(left, 0, sizeof(left));
    region = (struct ivshm_region){.map = {.base = stage},
                                   .block_map = stage->map,
                                   .endpoints = stage->endpoints,
                                   .geo = {.size = sizeof(*stage),
                                           .endpoints = ENDPOINTS,
                                           .blocks = shape->bases * BASE_BLOCKS,
                                           .block_size = BLOCK_SIZE,
                                           .base_bytes = sizeof(struct base)}};
    for (int i = 0; i < ENDPOINTS; i++)
        ivshm_a64_store_relaxed(&stage->endpoints[i].claim, (uint64_t) shape->generation << 45);
    for (unsigned i = 0; i < EXPLORE_ACTORS; i++) {
        if (!(shape->live >> i & 1))
            continue;
        case_pid = PID_OF_ACTOR + i;
        must(ivshm_endpoint_join(&region, "", 0, 1, &endpoints[i], NULL) == 0);
        must(ivshm_endpoint_publish(&endpoints[i], NULL) == 0);
        joined[i] = true;
    }
    for (unsigned i = 0; i < shape->long_dead; i++) {
        struct ivshm_endpoint ep;
        case_pid = PID_LONG_DEAD;
        must(ivshm_endpoint_join(&region, "", 0, 1, &ep, NULL) == 0);
        if (i % 2 == 0)
            must(ivshm_endpoint_publish(&ep, NULL) == 0);
    }
    dead_now = true;
    case_pid = PID_OF_CASE;
}

/* An actor that has joined has its memory to itself, and finds it zeroed. */
static void use(const struct ivshm_endpoint *ep)
{
    struct base *base = ep->base;
    uint64_t self = (uint64_t) explore.self + 1;
    must(explore_plain_load(&base->owner) == 0);
    explore_plain_store(&base->owner, self);
    must(explore_plain_load(&base->owner) == self);
    must(explore_plain_load(&base->from_peer) == 0);
}

/* The entry and the memory belong to that actor. */
static void must_be_there(int actor)
{
    const struct ivshm_endpoint *ep = &endpoints[actor];
    struct ivshm_claim claim = ivshm_endpoint_claim(&region, ep->owner.endpoint);
    must(claim.state == IVSHM_CLAIM_LIVE && claim.generation == ep->owner.generation);
    must(claim.pid == PID_OF_ACTOR + (uint32_t) actor);
    must(
        ivshm_extent_owned(&region, ep->owner, IVSHM_KIND_BASE, ep->base_off, sizeof(struct base)));
}

/* `named` runs between an endpoint's claim and its publication. */
static void join_and(void (*named)(const struct ivshm_endpoint *))
{
    struct ivshm_endpoint *ep = &endpoints[explore.self];
    int err = ivshm_endpoint_join(&region, "", 0, 1, ep, NULL);
    must(err == 0 || err == -ENOSPC);
    if (err)
        return;
    joined[explore.self] = true;
    named(ep);
    must(ivshm_endpoint_publish(ep, NULL) == 0);
    must_be_there(explore.self);
}

static void join(void)
{
    join_and(use);
}

static void leave(void)
{
    ivshm_endpoint_leave(&endpoints[explore.self]);
    left[explore.self] = true;
}

static void join_and_leave(void)
{
    join();
    if (joined[explore.self])
        leave();
}

/* The first actor writes into the second one's memory. */
static void attach(void)
{
    struct ivshm_endpoint *ep = &endpoints[explore.self], *peer = &endpoints[1];
    void *addr;
    int err = ivshm_endpoint_attach(ep, peer->owner, &addr, NULL);
    must(err == 0 || err == -ESHUTDOWN);
    if (err == 0) {
        struct base *base = addr;
        must(base == peer->base);
        explore_plain_store(&base->from_peer, 1);
        must(ivshm_extent_owned(&region, peer->owner, IVSHM_KIND_BASE, peer->base_off,
                                sizeof(*base)));
        must(explore_plain_load(&base->from_peer) == 1);
        ivshm_endpoint_detach(ep, peer->owner.endpoint);
    }
    must(ivshm_a64_load_relaxed(ep->attached) == 0);
}

static void reap(void)
{
    struct ivshm_process self;
    ivshm_process_self(&self, NULL);
    ivshm_endpoint_reap(&region, &self, NULL);
}

/* The first actor is declared dead by mistake, perhaps, and may be told so. */
static void join_doubted(void)
{
    struct ivshm_endpoint *ep = &endpoints[explore.self];
    int err = ivshm_endpoint_join(&region, "", 0, 1, ep, NULL);
    if (!err)
        err = ivshm_endpoint_publish(ep, NULL);
    must(err == 0 || err == -ESHUTDOWN || err == -ENOSPC);
    joined[explore.self] = err == 0;
    if (!err)
        must_be_there(explore.self);
}

static void declare(enum ivshm_claim_state state)
{
    for (uint32_t i = 0; i < 2; i++) {
        struct ivshm_claim claim = ivshm_endpoint_claim(&region, i);
        if (claim.pid == PID_OF_ACTOR && claim.state == state)
            ivshm_endpoint_declare_dead(&region, i, claim);
    }
    reap();
}

/* It holds nothing yet, and no other endpoint is affected. */
static void declare_joining(void)
{
    declare(IVSHM_CLAIM_JOINING);
}

/* It may write into the memory of the next owner, but the claim and the map stay correct. */
static void declare_named(void)
{
    declare(IVSHM_CLAIM_NAMED);
}

static void must_be_named(const struct ivshm_endpoint *ep)
{
    must(ivshm_endpoint_claim(&region, ep->owner.endpoint).state == IVSHM_CLAIM_NAMED);
}

static void join_only(void)
{
    join_and(must_be_named);
}

/* Joins, prepares its memory, and leaves; then takes the same entry again. */
static void join_twice(void)
{
    struct ivshm_endpoint *ep = &endpoints[explore.self];
    for (uint32_t rank = 1; rank <= 2; rank++) {
        must(ivshm_endpoint_join(&region, "", rank, 1, ep, NULL) == 0);
        explore_plain_store(&((struct base *) ep->base)->owner, rank);
        must(ivshm_endpoint_publish(ep, NULL) == 0);
        if (rank == 1)
            ivshm_endpoint_leave(ep);
    }
    joined[explore.self] = true;
}

/* Reads the entry that changes hands: all that it finds belongs to one claim (edges E1, E3). */
static bool look(struct ivshm_endpoint_info *info)
{
    int err = ivshm_endpoint_read(&region, 1, info);
    must(err == 0 || err == -ENOENT);
    if (err || info->claim.state == IVSHM_CLAIM_JOINING || info->claim.state == IVSHM_CLAIM_DEAD)
        return false;
    must(info->named && info->process.pid == info->claim.pid);
    must(info->rank == info->claim.generation);
    return info->claim.state == IVSHM_CLAIM_LIVE;
}

static void look_only(void)
{
    struct ivshm_endpoint_info info;
    look(&info);
}

/* And if it is live, its memory is prepared. */
static void look_and_attach(void)
{
    struct ivshm_endpoint *ep = &endpoints[explore.self];
    struct ivshm_endpoint_info info;
    void *base;
    if (!look(&info))
        return;
    must(info.base.bytes != 0);
    const struct ivshm_owner peer = {1, info.claim.generation};
    if (ivshm_endpoint_attach(ep, peer, &base, NULL) == 0) {
        must(explore_plain_load(&((struct base *) base)->owner) == peer.generation);
        ivshm_endpoint_detach(ep, peer.endpoint);
    }
}

/* The last message of one that leaves is found by whoever sees it dead (edge E2). */
static void send_and_leave(void)
{
    ivshm_a64_store_relaxed(&((struct stage *) explore_memory)->sent, 1);
    leave();
}

static void receive_from_dead(void)
{
    if (!ivshm_endpoint_is_live(&region, endpoints[1].owner))
        must(ivshm_a64_load_relaxed(&((struct stage *) explore_memory)->sent) == 1);
}

/* All leave, the dead are reaped, and nothing is left. */
static void check(void)
{
    struct ivshm_extent_usage usage;
    if (!explore.death && shape->bases >= (uint32_t) explore.count)
        for (int i = 0; i < explore.count; i++)
            must(joined[i] || explore.now->actors[i] == reap);
    for (int i = 0; i < explore.count; i++)
        if (joined[i] && !left[i] && explore_fate(i) == EXPLORE_ENDED) {
            must_be_there(i);
            ivshm_endpoint_leave(&endpoints[i]);
        }
    reap();
    ivshm_extent_usage(&region, &usage);
    must(usage.free_blocks == region.geo.blocks);
    for (uint32_t i = 0; i < ENDPOINTS; i++)
        must(ivshm_endpoint_claim(&region, i).state == IVSHM_CLAIM_FREE);
}

int main(int argc, char **argv)
{
#define LAST_GENERATION ((1u << IVSHM_CLAIM_GEN_BITS) - 1)
#define ENDPOINT(name, shape, mortal, preemptions, deep, ...)                                      \
    {                                                                                              \
        name, setup, &shape, {__VA_ARGS__}, mortal, check, preemptions, deep, false                \
    }
    static const struct shape two = {2, LAST_GENERATION, 0, 0}, one = {1, 0, 0, 0},
                              first = {3, 0, 1, 0}, pair = {2, 0, 3, 0},
                              dead = {2, LAST_GENERATION - 1, 0, 2};
    static const struct explore_case cases[] = {
        ENDPOINT("two join and leave, one may die", two, 1, 1, 2, join_and_leave, join_and_leave),
        ENDPOINT("two join where there is memory for one", one, 1, 1, 2, join, join_and_leave),
        ENDPOINT("attach against leave and join", pair, 0, 2, 3, attach, leave, join),
        ENDPOINT("attach against death, reap and join", pair, 2, 1, 2, attach, leave, join),
        ENDPOINT("an attached one dies, its peer leaves", pair, 1, 1, 2, attach, leave, join),
        ENDPOINT("two reap", dead, 0, 2, 3, reap, reap),
        ENDPOINT("two join over the dead, one may die", dead, 1, 1, 2, join, join),
        ENDPOINT("a reaper dies, another one joins", dead, 1, 1, 2, reap, join),
        ENDPOINT("one is declared dead that joins", two, 0, 2, 2, join_doubted, declare_joining,
                 join),
        ENDPOINT("one is declared dead that is named", two, 0, 2, 2, join_doubted, declare_named,
                 join_only),
        ENDPOINT("one is found that joins twice", first, 0, 2, 3, look_and_attach, join_twice),
        ENDPOINT("one leaves after a message", pair, 0, 2, 3, receive_from_dead, send_and_leave),
        ENDPOINT("an entry that is read changes hands", first, 0, 2, 3, look_only, join_twice),
    };
    for (size_t i = 0; i < LENGTH(cases); i++)
        if (cases[i].mortal)
            explore_slow |= 1u << i;
    return explore_main(argc, argv, cases, LENGTH(cases));
}
