/* SPDX-License-Identifier: mpich2 */
/*
 * Replaces core/map.c, core/device.c and core/bell.c: the shared memory of a case is the file. For
 * one file of a program.
 */
#ifndef EXPLORE_MAP_H
#define EXPLORE_MAP_H

#include "core/region.h"
#include "explore.h"
#include "../no_bell.h"

int ivshm_map_open(const char *name, bool readonly, struct ivshm_map *map, struct ivshm_diag *diag)
{
    (void) readonly;
    (void) diag;
    *map = (struct ivshm_map){.base = explore_memory, .size = EXPLORE_MEMORY};
    snprintf(map->name, sizeof(map->name), "%s", name);
    return 0;
}

void ivshm_map_close(struct ivshm_map *map)
{
    map->base = NULL;
}

int ivshm_device_list(struct ivshm_device *devices, int max)
{
    (void) devices;
    (void) max;
    return 0;
}

#endif
