/* SPDX-License-Identifier: mpich2 */
/*
 * Between the netmod and libivshmem-malloc, which a program may have loaded: that has malloc take
 * large blocks from the region.
 */
#ifndef IVSHMEM_MALLOC_H
#define IVSHMEM_MALLOC_H

#include <stddef.h>

/* Where blocks come from. All its functions can be called from any thread, and call no malloc. */
struct ivshmem_malloc_source {
    size_t min;                  /* bytes; smaller ones are not worth it */
    size_t alignment;            /* of all */
    const char *base;            /* within [base, base+bytes) an address is this source's */
    size_t bytes;                /* and stays so until the process ends */
    void *(*take)(size_t bytes); /* NULL if there is none to spare */
    void (*give_back)(void *start);
    size_t (*room)(const void *start); /* bytes of the block */
};

/* In the library: from now on it uses `source`, which must not go away. */
__attribute__((weak)) void ivshmem_malloc_use(const struct ivshmem_malloc_source *source);

#endif
