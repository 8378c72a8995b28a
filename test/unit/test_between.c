/* SPDX-License-Identifier: mpich2 */
/*
 * What others see while a process is in the middle of something: code of core is built in here,
 * with a hook that looks before each store.
 */
#define IVSHM_STEPS
#include "unit.h"

#include "core/region.c"

static struct ivshm_map *watched;
static uint32_t unformatted, formatted; /* how often the region was found so */

void ivshm_step(const void *word, bool writes)
{
    struct ivshm_map *map = watched;
    (void) word;
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_format)};
    return RUN(tests);
}
