/* SPDX-License-Identifier: mpich2 */
/* Memory with any contents, which may change meanwhile: probe, inspect, open and format. */
#include "fuzz.h"

/* An image of `size` bytes, with a region of `formatted_for` bytes in it, or none. */
static struct {
    uint64_t size, formatted_for;
    struct image image;
} images[] = {
    {.size = 4 * MIB, .formatted_for = 4 * MIB},
    {.size = 4 * MIB},
    {.size = 6 * MIB, .formatted_for = 4 * MIB},
    {.size = 2 * MIB, .formatted_for = 4 * MIB},
    {.size = IVSHM_PAGE},
};

static const struct image *begin_image(unsigned which)
{
    struct image *image = &images[which].image;
    if (!image->base) {
        *image = image_new(images[which].size);
        struct ivshm_map map = {.base = image->base, .size = images[which].formatted_for};
        watch_image(image);
        allow(UINT64_MAX, false);
        must(!map.size || ivshm_region_format(&map, NULL) == 0);
        image_seal(image);
    }
    image_restore(image);
    watch_image(image);
    mapped_image = image;
    return image;
}

static uint64_t limit(void)
{
    return 4 * mapped_image->size / 8;
}

/* Inside the memory, and a function of its size. */
static void check_region(struct ivshm_region *region)
{
    struct ivshm_geometry expected;
    struct ivshm_extent_usage usage;
    must(region->geo.size <= mapped_image->size && region->id[0] && region->id[1]);
    must(ivshm_geometry_compute(region->geo.size, &expected, NULL) == 0);
    must(memcmp(&region->geo, &expected, sizeof(expected)) == 0);
    allow(limit(), true);
    ivshm_extent_usage(region, &usage);
    must(usage.longest_free <= usage.free_blocks && usage.free_blocks <= region->geo.blocks);
    ivshm_region_close(region);
}

static void call(struct input *in, unsigned op)
{
    struct ivshm_diag diag = {""};
    struct ivshm_region region;
    struct ivshm_map map;
    const char *name = op & 64 ? NULL : "region";
    const bool is_still = is_quiet(); /* nobody changes it meanwhile */
    int err = 0;

    ivshm_map_open("region", false, &map, NULL);
    allow(limit(), false);
    switch (op % 8) {
    case 0:
    case 1:
        err = ivshm_region_open(name, &region, &diag);
        if (err == 0)
            check_region(&region);
        else if (is_still) /* foreign data is left alone */
            must((err != -EMEDIUMTYPE && err != -EPROTONOSUPPORT) || writes_made() == 0);
        break;
    case 2:
    case 3:
        allow(limit(), true);
        err = ivshm_region_inspect(name, &region, &diag);
        if (err == 0)
            check_region(&region);
        break;
    case 4:
        allow(limit(), true);
        must(ivshm_region_probe(&map, &diag) != IVSHM_FOUND_FOREIGN || diag.text[0]);
        break;
    case 5:
        err = ivshm_region_format(&map, &diag);
        break;
    default: /* bytes of the input, one after the other */
        for (uint64_t off = take(in, 2) % mapped_image->size, n = take(in, 1); n > 0; n--, off++)
            ((unsigned char *) mapped_image->base)[off % mapped_image->size] =
                (unsigned char) take(in, 1);
    }
    if (err)
        check_error(err, &diag);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    begin_image(take(&in, 1) % LENGTH(images));
    play(&in, 16, call);
    return 0;
}
