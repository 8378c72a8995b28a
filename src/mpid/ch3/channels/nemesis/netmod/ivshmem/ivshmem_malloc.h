/* SPDX-License-Identifier: mpich2 */
/*
 * Between the netmod and libivshmem-malloc, which a program may have loaded: that has malloc take
 * large blocks from the region.
 */
#ifndef IVSHMEM_MALLOC_H
#define IVSHMEM_MALLOC_H

#include <stdbool.h>
#include <stddef.h>

/* Where blocks come from. All its functions can be called from any thread, and call no malloc. */
struct ivshmem_malloc_source {
    size_t min;       /* bytes; smaller ones are not worth it */
    size_t alignment; /* of all */
    const char *base; /* within [base, base+bytes) an address is this source's */
    size_t bytes;     /* and stays so until the process ends */
    /* NULL if there is none to spare. Zero where it was not this process' before, or all. */
    void *(*take)(size_t bytes, bool all_zero);
    void (*give_back)(void *start);
    size_t (*room)(const void *start); /* bytes of the block that begins there */
    void (*protected)(void);           /* something there may not be accessible from now on */
    /*
     * What these bytes, whole pages, hold is not needed any more, and is zero if `to_zero`, whether
     * they are accessible or not. False if they are not part of one block, or the kernel does that.
     */
    bool (*discard)(void *start, size_t bytes, bool to_zero);
    void (*before_fork)(void);
    void (*after_fork_in_parent)(void);
    void (*after_fork_in_child)(void);
};

/*
 * In the library: from now on it uses `source`, which must not go away. False if this process'
 * malloc is not the C library's: then all is left to that.
 */
__attribute__((weak)) bool ivshmem_malloc_serve(const struct ivshmem_malloc_source *source);

#endif
