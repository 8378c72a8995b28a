/* SPDX-License-Identifier: mpich2 */
/*
 * Obtains the memory: that of a device (see device.h), or a file that backs one.
 * Knows nothing of its contents. Any thread, each with its own struct; at start only, as each call
 * costs some system calls. Functions return 0 or a negative errno, and set their outputs only on
 * success, unless they say otherwise. No ordering edge.
 */
#ifndef IVSHM_MAP_H
#define IVSHM_MAP_H

#include "device.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A mapping. The fields are for the rest of core to read; others use the functions below. */
struct ivshm_map {
    void *base;
    uint64_t size;          /* bytes */
    uint64_t offset;        /* in the file that is mapped, bytes */
    const char *kind;       /* what it is, in a word; a constant */
    enum ivshm_cache cache; /* of the mapping, if a driver tells */
    bool is_device;         /* of a VM or of this machine; else a file */
    bool is_memory;         /* a file that exists only in this kernel's memory: tmpfs, hugetlbfs */
    uint64_t page; /* bytes of a page of the mapping, unless the kernel makes them larger */
    bool readonly;
    bool has_bell; /* ivshmem-server knows whoever has this memory by the ID `peer` */
    uint32_t peer;
    bool sparse;              /* a file that did not have all its memory when it was opened */
    uint64_t file_system, id; /* device and inode number, to recognise the file */
    char name[512];           /* as the user gave it: a PCI address or a path */
    char path[PATH_MAX];      /* what was opened, from the root, so that it can be found again */
};

/*
 * Maps `name`, a PCI address or a path, shared, for reading and, unless `readonly`, for writing.
 * What it is and its size are found out. A symbolic link anywhere on the way is not followed if it
 * lies in a directory where everyone may create files, and belongs to neither this user nor the
 * directory's owner. The caller ends *map with ivshm_map_close. Errors: -ENOENT no such device or
 * file; -ENODEV not an ivshmem device, or one without a memory BAR; -EACCES no permission, a link
 * that is not followed, or a device that only root can enable; -EINVAL neither a regular file nor a
 * device of a known kind, or empty; -ENAMETOOLONG; else the error of the system call.
 */
int ivshm_map_open(const char *name, bool readonly, struct ivshm_map *map, struct ivshm_diag *diag);

/* Unmaps the memory. Does nothing if that has been done. */
void ivshm_map_close(struct ivshm_map *map);

/* Properties of an open mapping: constant, and valid until it is closed. */

/* As the user gave it: a PCI address or a path. */
static inline const char *ivshm_map_name(const struct ivshm_map *map)
{
    return map->name;
}

/* What was opened, as an absolute path. */
static inline const char *ivshm_map_path(const struct ivshm_map *map)
{
    return map->path;
}

/* In bytes. */
static inline uint64_t ivshm_map_size(const struct ivshm_map *map)
{
    return map->size;
}

/* True for a device, false for a file. */
static inline bool ivshm_map_is_device(const struct ivshm_map *map)
{
    return map->is_device;
}

/* What it is, in a word: "BAR", "driver", "device-DAX", "kvmfr", "UIO", "tmpfs", "memfd",
 * "hugetlbfs", "file". */
static inline const char *ivshm_map_kind(const struct ivshm_map *map)
{
    return map->kind;
}

/* The bytes of its pages. */
static inline uint64_t ivshm_map_page(const struct ivshm_map *map)
{
    return map->page;
}

/* Whether it is a file that did not have all its memory when it was opened. */
static inline bool ivshm_map_is_sparse(const struct ivshm_map *map)
{
    return map->sparse;
}

/*
 * Opens the directory of the file `path`, for openat(2) and the like, with the same rule about
 * links. Returns a descriptor, which the caller closes, or a negative errno: -EACCES for a link
 * that is not followed, else the error of the system call. *name, set in any case, points to the
 * last component within `path`.
 */
int ivshm_map_open_folder(const char *path, const char **name, struct ivshm_diag *diag);

/*
 * Opens the mapped file again, with the map's access. Returns a descriptor, which the caller
 * closes, or a negative errno: -ESTALE if the path now leads to another file, or the size has
 * changed; -ELOOP for a link that is not followed; else the error of the system call.
 */
int ivshm_map_reopen(const struct ivshm_map *map);

/*
 * Maps the same memory once more, at another address, by the descriptor that ivshm_map_reopen
 * returned. The caller unmaps ivshm_map_size bytes. MAP_FAILED with errno on failure.
 */
void *ivshm_map_again(const struct ivshm_map *map, int fd);

/* A part of the map at another address, where it can only be read. */
struct ivshm_map_view {
    const void *address;
    void *base; /* core's: of the whole pages, and their bytes */
    uint64_t size;
};

/*
 * Maps [off, off+bytes), which lies in the map, once more, for reading only: a store there is a
 * SIGSEGV. The caller ends *view with ivshm_map_view_close. Errors as ivshm_map_reopen, and those
 * of mmap.
 */
int ivshm_map_view_open(const struct ivshm_map *map, uint64_t off, uint64_t bytes,
                        struct ivshm_map_view *view, struct ivshm_diag *diag);
void ivshm_map_view_close(struct ivshm_map_view *view);

/* Tells files apart that processes of one kernel have mapped. 0 for a device. Constant cost. */
uint64_t ivshm_map_file_id(const struct ivshm_map *map);

#endif
