/* SPDX-License-Identifier: mpich2 */
/*
 * libivshmem-malloc, to be preloaded, or linked before libc: large blocks of malloc, and of what
 * rests on it, are memory of the region, once MPI is initialised. Messages between such blocks are
 * copied once. All else is the C library's. See libivshmem-malloc(7).
 *
 * Replaces those functions of the C library that return memory which programs send; what is not
 * here (valloc, reallocarray, strdup, ...) is its own, and calls these or goes well with them.
 */
#define _GNU_SOURCE
#include "ivshmem_malloc.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);

static const struct ivshmem_malloc_source *_Atomic used;

void ivshmem_malloc_use(const struct ivshmem_malloc_source *source)
{
    atomic_store_explicit(&used, source, memory_order_release);
}

static const struct ivshmem_malloc_source *source(void)
{
    return atomic_load_explicit(&used, memory_order_acquire);
}

/* NULL if it is the C library's turn. */
static void *take(size_t alignment, size_t bytes)
{
    const struct ivshmem_malloc_source *s = source();
    return s && bytes >= s->min && bytes <= PTRDIFF_MAX && alignment <= s->alignment
               ? s->take(bytes)
               : NULL;
}

/* Whose block that is: NULL if the C library's. */
static const struct ivshmem_malloc_source *source_of(const void *start)
{
    const struct ivshmem_malloc_source *s = source();
    return s && (uintptr_t) start - (uintptr_t) s->base < s->bytes ? s : NULL;
}

void *malloc(size_t bytes)
{
    void *start = take(1, bytes);
    return start ? start : __libc_malloc(bytes);
}

void free(void *start)
{
    const struct ivshmem_malloc_source *s = source_of(start);
    if (s)
        s->give_back(start);
    else
        __libc_free(start);
}

void *calloc(size_t count, size_t size)
{
    size_t bytes;
    void *start = __builtin_mul_overflow(count, size, &bytes) ? NULL : take(1, bytes);
    return start ? memset(start, 0, bytes) : __libc_calloc(count, size);
}

size_t malloc_usable_size(void *start)
{
    static size_t (*_Atomic libc)(void *);
    const struct ivshmem_malloc_source *s = source_of(start);

    if (s)
        return s->room(start);
    if (!libc)
        libc = (size_t(*)(void *)) dlsym(RTLD_NEXT, "malloc_usable_size");
    return libc(start);
}

/* Large ones move into the region, once; there, a block is not moved for the sake of less room. */
void *realloc(void *start, size_t bytes)
{
    const struct ivshmem_malloc_source *s = source_of(start);
    size_t room;
    void *moved;

    if (!start)
        return malloc(bytes);
    if (!s && (!source() || bytes < source()->min))
        return __libc_realloc(start, bytes);
    room = malloc_usable_size(start);
    if (s && bytes == 0) {
        free(start);
        return NULL;
    }
    if (s && bytes <= room && bytes >= room / 2)
        return start;
    moved = s ? malloc(bytes) : take(1, bytes);
    if (!moved)
        return s ? NULL : __libc_realloc(start, bytes);
    memcpy(moved, start, bytes < room ? bytes : room);
    free(start);
    return moved;
}

void *memalign(size_t alignment, size_t bytes)
{
    void *start = take(alignment, bytes);
    return start ? start : __libc_memalign(alignment, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    return memalign(alignment, bytes);
}

int posix_memalign(void **start, size_t alignment, size_t bytes)
{
    int saved = errno;
    void *found;

    if (alignment % sizeof(void *) != 0 || alignment == 0 || (alignment & (alignment - 1)) != 0)
        return EINVAL;
    found = memalign(alignment, bytes);
    errno = saved;
    if (!found)
        return ENOMEM;
    *start = found;
    return 0;
}
