/* SPDX-License-Identifier: mpich2 */
/*
 * The memory behind the map. A file can be larger than that: sparse, as truncate makes it, or QEMU
 * without prealloc=on; and it can be cut while it is in use. Whoever touches a page that the file
 * system cannot give gets a SIGBUS. So memory is asked for before it is touched, by a call that
 * fails instead, and for what is lost later there are words. Any thread; slow path only.
 */
#ifndef IVSHM_BACKING_H
#define IVSHM_BACKING_H

#include "map.h"

enum ivshm_access { IVSHM_TO_READ, IVSHM_TO_WRITE };

/*
 * Gets the memory for [off, off+bytes), whose contents stay as they are; else -errno, and why. A
 * file that had all its memory when it was opened, or a device, costs no system call.
 */
int ivshm_backing_reserve(const struct ivshm_map *map, uint64_t off, uint64_t bytes,
                          enum ivshm_access access, struct ivshm_diag *diag);

/* Gives memory of a sparse file back to the file system. It is zero if it is touched again. */
void ivshm_backing_discard(const struct ivshm_map *map, uint64_t off, uint64_t bytes);

/*
 * Whether a sparse file may grow by `bytes` for what can be done without: a part of the file system
 * stays free for others, who may not ask before they touch.
 */
bool ivshm_backing_can_spare(const struct ivshm_map *map, uint64_t bytes);

/* Why memory of the file cannot be had; -ENOSPC. */
int ivshm_backing_no_memory(const struct ivshm_map *map, struct ivshm_diag *diag);

/*
 * For a handler of SIGBUS, which may call it: writes one sentence about why the memory at `addr`
 * cannot be touched, without a newline, and returns its length; 0 if that is not in the map, which
 * the caller has at `base`.
 */
size_t ivshm_backing_describe_fault(const struct ivshm_map *map, const void *base, const void *addr,
                                    char *text, size_t size);

#endif
