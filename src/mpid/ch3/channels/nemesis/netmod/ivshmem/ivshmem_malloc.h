/* SPDX-License-Identifier: mpich2 */
/*
 * The interface between the netmod and libivshmem-malloc, which a program may have loaded. The
 * library makes malloc take large blocks from the region.
 */
#ifndef IVSHMEM_MALLOC_H
#define IVSHMEM_MALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>

/* A source of blocks. All its functions can be called from any thread, and none calls malloc. */
struct ivshmem_malloc_source {
    size_t min;       /* bytes; smaller blocks are not worth it */
    size_t alignment; /* of all blocks */
    const char *base; /* an address within [base, base+bytes) belongs to this source */
    size_t bytes;     /* and does so until the process ends */
    /* NULL if there is none to spare. Zeroed where it was not this process' own before, or all. */
    void *(*alloc_block)(size_t bytes, bool all_zero);
    void (*free_block)(void *start);
    size_t (*room)(const void *start); /* bytes of the block that begins there */
    void (*protected)(void);           /* some of its memory may be inaccessible from now on */
    void (*locked)(void);              /* some of its memory may be locked from now on */
    /*
     * The contents of these bytes, which are whole pages, are no longer needed. If `to_zero`, they
     * become zero, whether the pages are accessible or not. False if the pages are not part of one
     * block, or if the kernel can do this itself.
     */
    bool (*discard)(void *start, size_t bytes, bool to_zero);
    void (*before_fork)(void);
    void (*after_fork_in_parent)(void);
    void (*after_fork_in_child)(void);
};

/*
 * Defined in the library: from now on it uses `source`, which must stay valid. False if this
 * process' malloc is not the C library's: then the library serves nothing.
 */
__attribute__((weak)) bool ivshmem_malloc_serve(const struct ivshmem_malloc_source *source);

/*
 * Whether the caller's stack is within [base, base+bytes), because it is a coroutine's, or one for
 * signals. Code that replaces that memory by a copy must not run on such a stack.
 */
#define ivshmem_stack_is_in(base, bytes)                                                           \
    ((uintptr_t) __builtin_frame_address(0) - (uintptr_t) (base) < (bytes))

/* Calls `call` on a stack of its own. False if there is no memory for one. */
static inline bool ivshmem_call_elsewhere(void (*call)(void))
{
    enum { BYTES = 1 << 20 }; /* handlers of a fork run there too */
    ucontext_t here, there;
    void *stack = mmap(NULL, BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    bool is_called = stack != MAP_FAILED && getcontext(&there) == 0;

    if (is_called) {
        there.uc_stack.ss_sp = stack;
        there.uc_stack.ss_size = BYTES;
        there.uc_link = &here;
        makecontext(&there, call, 0);
        is_called = swapcontext(&here, &there) == 0;
    }
    if (stack != MAP_FAILED)
        munmap(stack, BYTES);
    return is_called;
}

#endif
