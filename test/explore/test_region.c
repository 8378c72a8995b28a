/* SPDX-License-Identifier: mpich2 */
/*
 * Two or three actors find a region unformatted, and open it at once; one may die anywhere. All
 * live actors get the same region, and none takes another's partial format for foreign data.
 *
 * Faults that this has been seen to find: a magic that is stored first; a mark that is stored last;
 * no second check of the mark where the tables are in use; an id that is stored instead of swapped.
 */
#include "explore.h"

#include <errno.h>
#include <sys/random.h>

#include "map.h"

static struct ivshm_region regions[EXPLORE_ACTORS];

/* A different number for each actor, but the same in each run of a schedule. */
ssize_t getrandom(void *bytes, size_t size, unsigned flags)
{
    (void) flags;
    memset(bytes, 0x10 + explore.self, size);
    return (ssize_t) size;
}

static void setup(const void *unused)
{
    (void) unused;
    memset(regions, 0, sizeof(regions));
}

static void open_region(void)
{
    struct ivshm_region *region = &regions[explore.self];
    must(ivshm_region_open("memory", region, NULL) == 0);
    ivshm_a64_store_release(&region->endpoints[explore.self].claim,
                            1); /* and continues to use it */
}

/* A later opener finds what all others have found. */
static void check(void)
{
    struct ivshm_region later;
    must(ivshm_region_open("memory", &later, NULL) == 0);
    for (int i = 0; i < explore.count; i++)
        if (explore_fate(i) == EXPLORE_ENDED)
            must(regions[i].id[0] == later.id[0] && regions[i].id[1] == later.id[1]);
}

int main(int argc, char **argv)
{
#define OPEN(name, preemptions, deep, ...)                                                         \
    {                                                                                              \
        name, setup, NULL, {__VA_ARGS__}, 1, check, preemptions, deep, false                       \
    }
    static const struct explore_case cases[] = {
        OPEN("two at once", 1, 2, open_region, open_region),
        OPEN("three at once", 0, 1, open_region, open_region, open_region),
    };
    return explore_main(argc, argv, cases, LENGTH(cases));
}
