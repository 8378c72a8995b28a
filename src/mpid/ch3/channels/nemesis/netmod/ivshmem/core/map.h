/* SPDX-License-Identifier: mpich2 */
/*
 * Obtains the memory: the BAR of an ivshmem PCI device, through sysfs, or a file that backs one.
 * Knows nothing of what is in it. Single-threaded, at start.
 */
#ifndef IVSHM_MAP_H
#define IVSHM_MAP_H

#include "diag.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ivshm_map {
    void *base;
    uint64_t size;  /* bytes */
    bool is_device; /* a BAR, else a file */
    bool is_memory; /* a file that is in this kernel's memory alone: tmpfs, hugetlbfs */
    bool readonly;
    bool sparse;              /* a file that had not all its memory when it was opened */
    uint64_t file_system, id; /* the file's, to know it again */
    char name[512];           /* what a person calls it: a PCI address or a path */
    char path[512];           /* what was opened */
};

struct ivshm_device {
    char address[32]; /* 0000:00:04.0 */
    char path[512];   /* of the memory BAR in sysfs */
    uint64_t size;    /* of the BAR in bytes, 0 if it has none */
};

/*
 * Maps the PCI address or path `name` shared, for reading and writing (or only reading, if
 * `readonly`). In a folder where everyone may make files, a symbolic link that somebody else made
 * is not followed, wherever on the way it is. Errors: -ENOENT no such device or file, -ENODEV not
 * an ivshmem device, -EACCES no permission, -EINVAL not something that can be mapped or an empty
 * file, else what the system said.
 */
int ivshm_map_open(const char *name, bool readonly, struct ivshm_map *map, struct ivshm_diag *diag);

void ivshm_map_close(struct ivshm_map *map);

/*
 * Opens the folder of the file `path`, for openat(2) and its like, by the same rule about links;
 * *name is the file's name there. A descriptor for the caller to close, or -errno.
 */
int ivshm_map_open_folder(const char *path, const char **name, struct ivshm_diag *diag);

/*
 * Opens the file once more, as it was: a descriptor for its owner to close, or -ESTALE if another
 * one has its name by now, or another size, else -errno.
 */
int ivshm_map_reopen(const struct ivshm_map *map);

/* Lists at most `max` ivshmem devices in the order of their addresses; returns how many there are.
 */
int ivshm_map_devices(struct ivshm_device *devices, int max);

/* The directory in which devices are looked for. Weak: a test's own names another. */
const char *ivshm_map_sysfs(void);

#endif
