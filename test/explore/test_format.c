/* SPDX-License-Identifier: mpich2 */
/*
 * A region is formatted anew while another process opens it (edge S3), without changing it. The
 * opener gets the old region or the new one, or learns that it is being formatted. It takes it for
 * neither damaged nor a mixture of the two.
 *
 * Faults that this has been seen to find: an id that is read after the magic; a version of 0 that
 * is taken for another release's; words that are wiped in any order.
 *
 * Only the superblock is looked at: what is behind it is zeroed in the same way.
 */
#include "explore.h"

#include <errno.h>
#include <sys/random.h>

#include "map.h"

#define OLD_ID 0x70
#define NEW_ID 0x71

ssize_t getrandom(void *bytes, size_t size, unsigned flags)
{
    (void) flags;
    memset(bytes, explore.self == NOBODY ? OLD_ID : NEW_ID, size);
    return (ssize_t) size;
}

static void format_anew(void)
{
    struct ivshm_map map;
    ivshm_map_open("memory", false, &map, NULL);
    must(ivshm_region_format(&map, NULL) == 0);
}

static void setup(const void *unused)
{
    (void) unused;
    format_anew();
}

static void open_region(void)
{
    struct ivshm_region region;
    int err = ivshm_region_inspect("memory", &region, NULL);
    must(err == 0 || err == -EAGAIN || err == -EMEDIUMTYPE);
    if (err == 0)
        must(region.id[0] == region.id[1]);
}

static void check(void)
{
    struct ivshm_region region;
    must(ivshm_region_inspect("memory", &region, NULL) == 0);
    must((region.id[0] & 0xff) == NEW_ID);
}

int main(int argc, char **argv)
{
    static const struct explore_case cases[] = {
        {"opened while it is formatted anew",
         setup,
         NULL,
         {format_anew, open_region},
         0,
         check,
         3,
         4,
         false},
    };
    explore_limit = sizeof(struct ivshm_superblock_shm);
    return explore_main(argc, argv, cases, LENGTH(cases));
}
