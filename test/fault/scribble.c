/* SPDX-License-Identifier: mpich2 */
/*
 * scribble REGION SECONDS SEED [KIND...]
 *
 * A peer that writes what it must not, everywhere in a region in use. Into tables, inboxes, cells,
 * rings and pipelines it writes values that are random, extreme, close to what was there, or copied
 * from elsewhere, and MPI packets that are nearly right. It also erases what the block map says of
 * the program's memory. Kinds: tables, queues, packets, anywhere, blocks; without any, all of
 * these. Two more kinds write only what they may, but as fast as they can: joins, which join and
 * leave, and doorbells, which fill all inboxes.
 */
#include "transport.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct ivshm_region region;
static uint64_t state;

static uint64_t rnd(uint64_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return below ? state % below : state;
}

static void store(uint64_t off, uint64_t value)
{
    if (off + 8 <= region.geo.size)
        ivshm_a64_store_relaxed((ivshm_a64 *) ((char *) region.map.base + off / 8 * 8), value);
}

static uint64_t load(uint64_t off)
{
    if (off + 8 > region.geo.size)
        return 0;
    return ivshm_a64_load_relaxed((ivshm_a64 *) ((char *) region.map.base + off / 8 * 8));
}

static uint64_t value_near(uint64_t was)
{
    switch (rnd(8)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return was + 1;
    case 3:
        return was - 1;
    case 4:
        return was ^ UINT64_C(1) << rnd(64);
    case 5:
        return rnd(1 << 16);
    case 6:
        return load(rnd(region.geo.size));
    default:
        return rnd(0);
    }
}

static void spoil(uint64_t off)
{
    store(off, value_near(load(off)));
}

/* The base extent of some endpoint in use, or 0. */
static uint64_t some_base(void)
{
    uint32_t first = (uint32_t) rnd(region.geo.endpoints);
    for (uint32_t i = 0; i < region.geo.endpoints; i++) {
        struct ivshm_endpoint_info info;
        uint32_t index = (first + i) % region.geo.endpoints;
        if (ivshm_endpoint_read(&region, index, &info) == 0 &&
            info.claim.state == IVSHM_CLAIM_LIVE && info.base.bytes < region.geo.size)
            return info.base.bytes;
    }
    return 0;
}

/* The beginning of some extent of that kind, or 0. */
static uint64_t some_extent(enum ivshm_block_kind kind)
{
    uint64_t first = rnd(region.geo.blocks);
    for (uint64_t i = 0; i < region.geo.blocks; i++) {
        struct ivshm_block b;
        uint64_t index = (first + i) % region.geo.blocks;
        uint64_t word = ivshm_a64_load_relaxed(&region.block_map[index]);
        if (word && ivshm_block_decode(&region, word, &b) && b.first && b.kind == kind)
            return region.geo.data + index * region.geo.block_size;
    }
    return 0;
}

static void tables(void)
{
    const struct ivshm_geometry *geo = &region.geo;
    switch (rnd(4)) {
    case 0:
        spoil(rnd(IVSHM_SUPERBLOCK_WORDS * 8));
        break;
    case 1:
        spoil(geo->endpoint_table + rnd(8) * sizeof(struct ivshm_endpoint_shm) + rnd(40) * 8);
        break;
    case 2:
        spoil(geo->block_map + rnd(geo->blocks) * 8);
        break;
    default:
        spoil(some_base() + geo->attached + rnd(geo->endpoints / 8));
    }
}

static void queues(void)
{
    const struct ivshm_geometry *geo = &region.geo;
    uint64_t base = some_base(), ring = some_extent(IVSHM_KIND_RING),
             pipeline = some_extent(IVSHM_KIND_PIPELINE);
    switch (rnd(6)) {
    case 0: /* head, hint, slots */
        spoil(base + rnd(2 * IVSHM_LINE + 64 * 8));
        break;
    case 1:
        spoil(base + geo->small + rnd(geo->small_cells) * geo->small_size + rnd(2) * 8);
        break;
    case 2:
        spoil(base + geo->large + rnd(geo->large_cells) * geo->large_size + rnd(2) * 8);
        break;
    case 3: /* head, idle */
        if (ring)
            spoil(ring + rnd(2) * IVSHM_LINE);
        break;
    case 4:
        if (ring)
            spoil(ring + sizeof(struct ivshm_ring_shm) + rnd(geo->ring_slots) * geo->slot_size);
        break;
    default:
        if (pipeline)
            spoil(pipeline + rnd(geo->pipeline_chunks) * IVSHM_LINE);
    }
}

/*
 * Where the header of an MPI packet may be: its type, two words further on, handles, lengths,
 * addresses.
 */
static void packets(void)
{
    const struct ivshm_geometry *geo = &region.geo;
    uint64_t ring = some_extent(IVSHM_KIND_RING), base = some_base(), at;
    if (ring && rnd(4))
        at = ring + sizeof(struct ivshm_ring_shm) + rnd(geo->ring_slots) * geo->slot_size +
             sizeof(struct ivshm_slot_shm);
    else
        at = base + geo->small + rnd(geo->small_cells) * geo->small_size +
             sizeof(struct ivshm_cell_shm);
    if (rnd(2))
        store(at, (load(at) & ~UINT64_C(0xffffffff)) | rnd(48));
    for (uint64_t n = rnd(3); n > 0; n--) {
        static const uint64_t handles[] = {0x2c000000, 0x6c000000, 0xac000000, 0xa0000000,
                                           0x4c000405, 0x8c000000, 0x58000003};
        uint64_t handle = handles[rnd(7)] + rnd(4);
        spoil(at + rnd(6) * 8);
        if (rnd(2))
            store(at + rnd(6) * 8, handle | handle << 32);
    }
}

static void anywhere(void)
{
    spoil(rnd(region.geo.size));
}

static void blocks(void)
{
    for (uint64_t i = 0; i < region.geo.blocks; i++) {
        struct ivshm_block b;
        uint64_t word = ivshm_a64_load_relaxed(&region.block_map[i]);
        if (word && ivshm_block_decode(&region, word, &b) && b.kind == IVSHM_KIND_USER)
            ivshm_a64_store_relaxed(&region.block_map[i], 0);
    }
}

static void joins(void)
{
    struct ivshm_transport t;
    for (int i = 0; i < 20; i++)
        if (ivshm_transport_open(&t, &region, "storm", 0, 1, NULL) == 0)
            ivshm_transport_close(&t);
}

static void doorbells(void)
{
    static struct ivshm_transport t;
    static bool joined;
    struct ivshm_channel *channel;

    if (!joined)
        joined = ivshm_transport_open(&t, &region, "storm", 0, 1, NULL) == 0;
    for (uint32_t i = 0; joined && i < region.geo.endpoints; i++) {
        struct ivshm_claim c = ivshm_endpoint_claim(&region, i);
        struct ivshm_owner peer = {i, c.generation};
        if (c.state != IVSHM_CLAIM_LIVE || i == t.endpoint.owner.endpoint ||
            ivshm_channel_open(&t, peer, &channel, NULL) != 0)
            continue;
        for (int n = 0; n < 200; n++)
            ivshm_channel_ring_doorbell(&t, channel);
        ivshm_channel_close(&t, channel);
    }
}

static const struct {
    const char *name;
    void (*run)(void);
} kinds[] = {{"tables", tables},      {"queues", queues}, {"packets", packets},
             {"anywhere", anywhere},  {"blocks", blocks}, {"joins", joins},
             {"doorbells", doorbells}};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]), SPOILERS = 5 };

int main(int argc, char **argv)
{
    struct ivshm_diag diag = {""};
    struct timespec now, end;
    void (*chosen[KINDS])(void);
    int count = 0;
    uint64_t writes = 0;

    if (argc < 4) {
        fprintf(stderr, "usage: scribble REGION SECONDS SEED [KIND...]\n");
        return 2;
    }
    for (int i = 0; i < KINDS; i++) {
        int named = argc == 4 && i < SPOILERS;
        for (int a = 4; a < argc; a++)
            named |= strcmp(argv[a], kinds[i].name) == 0;
        if (named)
            chosen[count++] = kinds[i].run;
    }
    if (count == 0 || ivshm_region_open(argv[1], &region, &diag) != 0) {
        fprintf(stderr, "scribble: %s\n", count ? diag.text : "no such kind");
        return 1;
    }
    state = strtoull(argv[3], NULL, 10) * UINT64_C(0x9e3779b97f4a7c15) + 1;
    clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = atof(argv[2]);
    end.tv_sec += (time_t) seconds;
    end.tv_nsec += (long) ((seconds - (double) (time_t) seconds) * 1e9);
    do {
        chosen[rnd((uint64_t) count)]();
        writes++;
        nanosleep(&(struct timespec){0, (long) rnd(200000)}, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec < end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec < end.tv_nsec));
    printf("%llu writes\n", (unsigned long long) writes);
    ivshm_region_close(&region);
    return 0;
}
