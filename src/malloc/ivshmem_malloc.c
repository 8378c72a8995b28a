/* SPDX-License-Identifier: mpich2 */
/*
 * libivshmem-malloc, to be preloaded, or linked before libc. Once MPI is initialised, large blocks
 * of malloc are memory of the region, so that messages between such blocks need only a single copy.
 * See libivshmem-malloc(7).
 *
 * Everything else goes to the next definition of the same function, normally the C library's. If
 * any of these definitions is somebody else's (jemalloc, a sanitizer, the program itself), no block
 * is allocated in the region, and each function does what it would do without this library. All
 * functions that allocate, resize, measure or free a block are here; others that return blocks
 * (strdup, getline, ...) call these.
 *
 * Called by any thread at any time, before main too.
 */
#define _GNU_SOURCE
#include "ivshmem_malloc.h"

#include <dlfcn.h>
#include <errno.h>
#include <gnu/libc-version.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Other definitions */

#define FOR_EACH(what)                                                                             \
    what(malloc) what(free) what(calloc) what(realloc) what(reallocarray) what(memalign)           \
        what(aligned_alloc) what(posix_memalign) what(valloc) what(pvalloc)                        \
            what(malloc_usable_size) what(madvise) what(mprotect) what(pkey_mprotect) what(mlock)  \
                what(mlock2)

/* Used until the next definitions are known: these find them, and call them. */
static void *first_malloc(size_t bytes);
static void first_free(void *start);
static void *first_calloc(size_t count, size_t size);
static void *first_realloc(void *start, size_t bytes);
static void *first_reallocarray(void *start, size_t count, size_t size);
static void *first_memalign(size_t alignment, size_t bytes);
static void *first_aligned_alloc(size_t alignment, size_t bytes);
static int first_posix_memalign(void **start, size_t alignment, size_t bytes);
static void *first_valloc(size_t bytes);
static void *first_pvalloc(size_t bytes);
static size_t first_malloc_usable_size(void *start);
static int first_madvise(void *start, size_t bytes, int advice);
static int first_mprotect(void *start, size_t bytes, int protection);
static int first_pkey_mprotect(void *start, size_t bytes, int protection, int key);
static int first_mlock(const void *start, size_t bytes);
static int first_mlock2(const void *start, size_t bytes, unsigned flags);

#define POINTER(name) _Atomic(__typeof__(&first_##name)) name;
#define FIRST(name) .name = first_##name,
static struct {
    FOR_EACH(POINTER)
} next_definitions = {FOR_EACH(FIRST)};
#define next(name) atomic_load_explicit(&next_definitions.name, memory_order_relaxed)

/*
 * Finds the next definitions. False if dlsym itself makes this call. The C library has all of them.
 * Several threads may do this at once.
 */
static bool find_next(void)
{
    static _Thread_local bool is_finding;

    if (is_finding)
        return false;
    is_finding = true;
#define FIND(name)                                                                                 \
    __typeof__(&first_##name) found_##name = (__typeof__(&first_##name)) dlsym(RTLD_NEXT, #name);  \
    if (found_##name)                                                                              \
        atomic_store_explicit(&next_definitions.name, found_##name, memory_order_relaxed);
    FOR_EACH(FIND)
    is_finding = false;
    return true;
}

/* What dlsym allocates: little, if anything. It is never freed. */
#define EARLY_ALIGNMENT 16
static _Alignas(EARLY_ALIGNMENT) char early_buffer[8192];

static bool is_early(const void *start)
{
    return (uintptr_t) start - (uintptr_t) early_buffer < sizeof(early_buffer);
}

static void *early_malloc(size_t bytes)
{
    static _Atomic size_t used;

    if (bytes > sizeof(early_buffer) - EARLY_ALIGNMENT)
        return NULL;
    size_t room = (bytes + 2 * EARLY_ALIGNMENT - 1) & ~(size_t) (EARLY_ALIGNMENT - 1);
    size_t at = atomic_fetch_add(&used, room);
    if (at > sizeof(early_buffer) - room)
        return NULL;
    *(size_t *) (early_buffer + at) = bytes;
    return early_buffer + at + EARLY_ALIGNMENT;
}

static size_t early_room(const void *start)
{
    return *(const size_t *) ((const char *) start - EARLY_ALIGNMENT);
}

static void *first_malloc(size_t bytes)
{
    return find_next() ? next(malloc)(bytes) : early_malloc(bytes);
}

static void first_free(void *start)
{
    if (find_next())
        next(free)(start);
}

static void *first_calloc(size_t count, size_t size)
{
    size_t bytes;

    if (find_next())
        return next(calloc)(count, size);
    return __builtin_mul_overflow(count, size, &bytes) ? NULL : early_malloc(bytes);
}

static void *first_realloc(void *start, size_t bytes)
{
    if (find_next())
        return next(realloc)(start, bytes);
    return start ? NULL : early_malloc(bytes);
}

static void *first_reallocarray(void *start, size_t count, size_t size)
{
    return find_next() ? next(reallocarray)(start, count, size) : NULL;
}

static void *first_memalign(size_t alignment, size_t bytes)
{
    return find_next() ? next(memalign)(alignment, bytes) : NULL;
}

static void *first_aligned_alloc(size_t alignment, size_t bytes)
{
    return find_next() ? next(aligned_alloc)(alignment, bytes) : NULL;
}

static int first_posix_memalign(void **start, size_t alignment, size_t bytes)
{
    return find_next() ? next(posix_memalign)(start, alignment, bytes) : ENOMEM;
}

static void *first_valloc(size_t bytes)
{
    return find_next() ? next(valloc)(bytes) : NULL;
}

static void *first_pvalloc(size_t bytes)
{
    return find_next() ? next(pvalloc)(bytes) : NULL;
}

static size_t first_malloc_usable_size(void *start)
{
    return find_next() ? next(malloc_usable_size)(start) : 0;
}

static int first_madvise(void *start, size_t bytes, int advice)
{
    return find_next() ? next(madvise)(start, bytes, advice) : 0;
}

static int first_mprotect(void *start, size_t bytes, int protection)
{
    return find_next() ? next(mprotect)(start, bytes, protection) : -1;
}

static int first_pkey_mprotect(void *start, size_t bytes, int protection, int key)
{
    return find_next() ? next(pkey_mprotect)(start, bytes, protection, key) : -1;
}

static int first_mlock(const void *start, size_t bytes)
{
    return find_next() ? next(mlock)(start, bytes) : -1;
}

static int first_mlock2(const void *start, size_t bytes, unsigned flags)
{
    return find_next() ? next(mlock2)(start, bytes, flags) : -1;
}

static const void *object_of(const void *address)
{
    Dl_info info;
    return dladdr(address, &info) ? info.dli_fbase : NULL;
}

/*
 * Whether calls of a function come here. A program that takes a function's address may have a
 * symbol for it that stands for the function everywhere, but does not define it; such a symbol does
 * not count.
 */
static bool comes_here(const char *name)
{
    Dl_info info;
    const ElfW(Sym) *symbol = NULL;
    void *address = dlsym(RTLD_DEFAULT, name);

    if (!address || !dladdr1(address, &info, (void **) &symbol, RTLD_DL_SYMENT))
        return false;
    return info.dli_fbase == object_of(early_buffer) || (symbol && symbol->st_shndx == SHN_UNDEF);
}

/* Whether only this library stands between the program and the C library. */
static bool is_all_the_c_librarys(void)
{
    const void *libc = object_of((const void *) gnu_get_libc_version);

    find_next();
#define IS_THE_C_LIBRARYS(name) &&comes_here(#name) && object_of((const void *) next(name)) == libc
    return libc FOR_EACH(IS_THE_C_LIBRARYS);
}

/* The region */

static const struct ivshmem_malloc_source *_Atomic used_source;

/*
 * Keeps the library that contains `address` from being unloaded: its blocks, and their addresses,
 * outlive a dlclose(3) by whoever needed it. Nothing is needed if the program itself contains it.
 */
static bool keep_loaded(const void *address)
{
    Dl_info info;
    struct link_map *map = NULL;

    return dladdr1(address, &info, (void **) &map, RTLD_DL_LINKMAP) && map &&
           (!*map->l_name || dlopen(map->l_name, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE));
}

bool ivshmem_malloc_serve(const struct ivshmem_malloc_source *source)
{
    if (!is_all_the_c_librarys() || !keep_loaded(source))
        return false;
    atomic_store_explicit(&used_source, source, memory_order_release);
    return true;
}

static const struct ivshmem_malloc_source *current_source(void)
{
    return atomic_load_explicit(&used_source, memory_order_acquire);
}

/* NULL: let the C library allocate it. */
static void *alloc_from_source(size_t alignment, size_t bytes, bool all_zero)
{
    const struct ivshmem_malloc_source *s = current_source();
    return s && bytes >= s->min && bytes <= PTRDIFF_MAX && alignment > 0 &&
                   alignment <= s->alignment && (alignment & (alignment - 1)) == 0
               ? s->alloc_block(bytes, all_zero)
               : NULL;
}

/* The source whose block this is; NULL if it is the C library's. */
static const struct ivshmem_malloc_source *source_of(const void *start)
{
    const struct ivshmem_malloc_source *s = current_source();
    return s && (uintptr_t) start - (uintptr_t) s->base < s->bytes ? s : NULL;
}

/*
 * This library is initialised before all others. So these handlers run last before a fork and first
 * after it, when no other handler uses malloc, or memory from it.
 */
static _Thread_local const struct ivshmem_malloc_source *forked_with;

static void before_fork(void)
{
    forked_with = current_source();
    if (forked_with)
        forked_with->before_fork();
}

static void after_fork_in_parent(void)
{
    if (forked_with)
        forked_with->after_fork_in_parent();
}

static void after_fork_in_child(void)
{
    if (forked_with)
        forked_with->after_fork_in_child();
}

static pid_t (*_Atomic next_fork)(void);

static void find_fork(void)
{
    atomic_store_explicit(&next_fork, (pid_t(*)(void)) dlsym(RTLD_NEXT, "fork"),
                          memory_order_relaxed);
}

__attribute__((constructor)) static void install_fork_handlers(void)
{
    find_fork();
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* What programs call */

void *malloc(size_t bytes)
{
    void *start = alloc_from_source(1, bytes, false);
    return start ? start : next(malloc)(bytes);
}

void free(void *start)
{
    const struct ivshmem_malloc_source *s = source_of(start);
    if (s)
        s->free_block(start);
    else if (!is_early(start))
        next(free)(start);
}

void *calloc(size_t count, size_t size)
{
    size_t bytes;
    void *start =
        __builtin_mul_overflow(count, size, &bytes) ? NULL : alloc_from_source(1, bytes, true);
    return start ? start : next(calloc)(count, size);
}

size_t malloc_usable_size(void *start)
{
    const struct ivshmem_malloc_source *s = source_of(start);
    if (s)
        return s->room(start);
    return is_early(start) ? early_room(start) : next(malloc_usable_size)(start);
}

/*
 * When a block of the C library's grows, it moves into the region: this is how programs build up
 * buffers that they send. There it gets some spare room, so that a block that keeps growing is not
 * copied each time.
 */
static void *alloc_to_grow(size_t bytes)
{
    return bytes < PTRDIFF_MAX / 2 ? alloc_from_source(1, bytes + bytes / 4, false) : NULL;
}

void *realloc(void *start, size_t bytes)
{
    const struct ivshmem_malloc_source *s = source_of(start);
    size_t room;
    void *moved;

    if (!s && !is_early(start)) {
        moved = start ? alloc_to_grow(bytes) : NULL;
        if (!moved)
            return start ? next(realloc)(start, bytes) : malloc(bytes);
        room = malloc_usable_size(start);
    } else {
        if (bytes == 0) {
            free(start);
            return NULL;
        }
        room = malloc_usable_size(start);
        if (s && bytes <= room && bytes >= room / 2)
            return start;
        /*
         * A growing block for which the region has no space leaves the region, where it would be in
         * its own way.
         */
        if (s && bytes > room) {
            moved = alloc_to_grow(bytes);
            if (!moved)
                moved = next(malloc)(bytes);
        } else {
            moved = malloc(bytes);
        }
        if (!moved)
            return NULL;
    }
    memcpy(moved, start, bytes < room ? bytes : room);
    free(start);
    return moved;
}

void *reallocarray(void *start, size_t count, size_t size)
{
    size_t bytes;
    if (!current_source() || __builtin_mul_overflow(count, size, &bytes))
        return next(reallocarray)(start, count, size);
    return realloc(start, bytes);
}

void *memalign(size_t alignment, size_t bytes)
{
    void *start = alloc_from_source(alignment, bytes, false);
    return start ? start : next(memalign)(alignment, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    void *start = alloc_from_source(alignment, bytes, false);
    return start ? start : next(aligned_alloc)(alignment, bytes);
}

int posix_memalign(void **start, size_t alignment, size_t bytes)
{
    void *found =
        alignment % sizeof(void *) == 0 ? alloc_from_source(alignment, bytes, false) : NULL;
    if (!found)
        return next(posix_memalign)(start, alignment, bytes);
    *start = found;
    return 0;
}

void *valloc(size_t bytes)
{
    void *start = alloc_from_source((size_t) getpagesize(), bytes, false);
    return start ? start : next(valloc)(bytes);
}

void *pvalloc(size_t bytes)
{
    size_t page = (size_t) getpagesize(), rounded = (bytes + page - 1) & ~(page - 1);
    void *start = rounded >= bytes ? alloc_from_source(page, rounded, false) : NULL;
    return start ? start : next(pvalloc)(bytes);
}

/*
 * In a child, copies take the place of the blocks at once. The stack on which that is done must not
 * be among them, because the parent continues to use it.
 */
static _Thread_local struct {
    pid_t pid;
    int error;
} fork_frame;

static void fork_here(void)
{
    fork_frame.pid = next_fork();
    fork_frame.error = errno;
}

pid_t fork(void)
{
    const struct ivshmem_malloc_source *s = current_source();

    if (!next_fork)
        find_fork();
    if (!s || !ivshmem_stack_is_in(s->base, s->bytes))
        return next_fork();
    if (!ivshmem_call_elsewhere(fork_here)) {
        errno = ENOMEM;
        return -1;
    }
    errno = fork_frame.error;
    return fork_frame.pid;
}

/* For programs that were built long ago. */
void cfree(void *start);
void cfree(void *start)
{
    free(start);
}

/*
 * Memory of a file keeps its contents when they are not needed, and the kernel refuses to free it.
 * A program that calls madvise on its own block finds zeroes instead, as it would in the C
 * library's.
 */
int madvise(void *start, size_t bytes, int advice)
{
    const struct ivshmem_malloc_source *s = source_of(start);
    size_t page = (size_t) getpagesize(), rounded = (bytes + page - 1) & ~(page - 1);
    bool to_zero = advice == MADV_DONTNEED || advice == MADV_DONTNEED_LOCKED;

    if (s && (to_zero || advice == MADV_FREE) && (uintptr_t) start % page == 0 && rounded > 0 &&
        rounded >= bytes && s->discard(start, rounded, to_zero))
        return 0;
    return next(madvise)(start, bytes, advice);
}

/*
 * A block that is freed while part of it is inaccessible or locked must not be reused in that
 * state.
 */
int mprotect(void *start, size_t bytes, int protection)
{
    const struct ivshmem_malloc_source *s = source_of(start);

    if (s)
        s->protected();
    return next(mprotect)(start, bytes, protection);
}

int pkey_mprotect(void *start, size_t bytes, int protection, int key)
{
    const struct ivshmem_malloc_source *s = source_of(start);

    if (s)
        s->protected();
    return next(pkey_mprotect)(start, bytes, protection, key);
}

int mlock(const void *start, size_t bytes)
{
    const struct ivshmem_malloc_source *s = source_of(start);

    if (s)
        s->locked();
    return next(mlock)(start, bytes);
}

int mlock2(const void *start, size_t bytes, unsigned flags)
{
    const struct ivshmem_malloc_source *s = source_of(start);

    if (s)
        s->locked();
    return next(mlock2)(start, bytes, flags);
}
