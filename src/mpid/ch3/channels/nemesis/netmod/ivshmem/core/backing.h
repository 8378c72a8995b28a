/* SPDX-License-Identifier: mpich2 */
/*
 * The memory behind the map. A file can be larger than its memory: sparse, as truncate creates it,
 * or QEMU without prealloc=on. It can also be truncated while in use. The first touch of a page for
 * which the file system has no memory raises SIGBUS. So memory is requested before it is touched,
 * by a call that fails instead, and memory that is lost later is explained. Offsets and lengths are
 * bytes within the map. Any thread; never on the path of a message. No ordering edge.
 */
#ifndef IVSHM_BACKING_H
#define IVSHM_BACKING_H

#include "map.h"

enum ivshm_access { IVSHM_ACCESS_READ, IVSHM_ACCESS_WRITE };

/*
 * Requests the memory of all pages of [off, off+bytes); their contents stay. Returns 0, -ENOSPC if
 * the file system has no more, or another negative errno. Costs no system call for a device, nor
 * for a file that had all its memory when it was opened; else one, or one for each page before
 * Linux 5.14.
 */
int ivshm_backing_reserve(const struct ivshm_map *map, uint64_t off, uint64_t bytes,
                          enum ivshm_access access, struct ivshm_diag *diag);

/*
 * Returns the whole pages within [off, off+bytes) to the file system, if the file is sparse; they
 * read as zero afterwards. If that is not possible, the file keeps them. Nobody uses these pages.
 * Cost: at most one system call.
 */
void ivshm_backing_discard(const struct ivshm_map *map, uint64_t off, uint64_t bytes);

/*
 * Whether a sparse file may grow by `bytes` for something that a job can do without. An eighth of
 * the file system stays free for others, which may not ask before they touch memory. True if that
 * cannot be told, and for any other map. Cost: at most one system call.
 */
bool ivshm_backing_can_spare(const struct ivshm_map *map, uint64_t bytes);

/* Explains in diag why the file has no more memory. Returns -ENOSPC. Cost: two system calls. */
int ivshm_backing_describe_no_memory(const struct ivshm_map *map, struct ivshm_diag *diag);

/*
 * Explains why the memory at `addr` cannot be touched, in one sentence without a newline or a final
 * 0, cut off at `size` bytes. Returns its length, or 0 if `addr` is not in the map, which the
 * caller has at `base`. Safe in a signal handler. Cost: at most one system call.
 */
size_t ivshm_backing_describe_fault(const struct ivshm_map *map, const void *base, const void *addr,
                                    char *text, size_t size);

#endif
