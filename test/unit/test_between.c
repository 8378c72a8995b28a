/* SPDX-License-Identifier: mpich2 */
/*
 * What others see while a process is in the middle of something: code of core is built in here,
 * with a hook that looks before each store, or changes what is about to be loaded.
 */
#define IVSHM_STEPS
#include "unit.h"

#include "core/endpoint.c"
#include "core/region.c"

static struct ivshm_map *watched;
static uint32_t unformatted, formatted; /* how often the region was found so */

static struct ivshm_endpoint_shm *entry; /* changes hands after so many loads: */
static uint32_t loads_left;

static void take_entry(uint32_t generation)
{
    ivshm_store64_relaxed(&entry->claim, claim_word_of(IVSHM_LIVE, 1, 1, generation));
    ivshm_store64_relaxed(&entry->pid, generation);
    ivshm_store64_relaxed(&entry->base, generation);
    ivshm_store64_relaxed(&entry->rank, generation);
}

void ivshm_step(const void *word, bool writes)
{
    struct ivshm_map *map = watched;
    (void) word;
    if (!writes && entry && loads_left-- == 0)
        take_entry(2);
    if (!writes || !map)
        return;
    watched = NULL; /* not while we look ourselves */
    struct ivshm_region seen = {.map = *map};
    if (ivshm_region_probe(map, NULL) == IVSHM_FOUND_REGION) {
        must(load(&seen, NULL) == 0);
        formatted++;
    } else {
        must(ivshm_region_probe(map, NULL) == IVSHM_FOUND_UNFORMATTED);
        unformatted++;
    }
    watched = map;
}

/* Edges S1 and S2: half a format is never a region, nor somebody else's. */
TEST(test_format)
{
    struct ivshm_map map;
    struct ivshm_geometry geo;
    int fd = file_new(4 * MIB);
    assert_int_equal(ivshm_map_open(file_name(fd), false, &map, NULL), 0);
    assert_int_equal(ivshm_geometry(map.size, &geo, NULL), 0);
    for (int again = 0; again < 2; again++) { /* the second time by who comes late */
        watched = &map;
        write_superblock(&map, &geo);
        watched = NULL;
        assert_int_equal(unformatted, IVSHM_SUPERBLOCK_WORDS);
        assert_int_equal(formatted, again * IVSHM_SUPERBLOCK_WORDS);
    }
    ivshm_map_close(&map);
    close(fd);
}

/* Edge E3: what is read of an entry is of one owner, whenever it changes hands. */
TEST(test_read)
{
    struct ivshm_region r = region_new(4 * MIB);
    uint32_t of_first = 0, of_second = 0;
    for (uint32_t k = 0; of_first == 0; k++) {
        struct ivshm_endpoint_info info;
        loads_left = UINT32_MAX;
        entry = &r.endpoints[5];
        take_entry(1);
        loads_left = k;
        assert_int_equal(ivshm_endpoint_read(&r, 5, &info), 0);
        entry = NULL;
        assert_int_equal(info.process.pid, info.claim.generation);
        assert_int_equal(info.base.bytes, info.claim.generation);
        assert_int_equal(info.rank, info.claim.generation);
        of_second += info.claim.generation == 2;
        of_first += info.claim.generation == 1;
    }
    assert_true(of_second > 3);
    ivshm_region_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_format), cmocka_unit_test(test_read)};
    return RUN(tests);
}
