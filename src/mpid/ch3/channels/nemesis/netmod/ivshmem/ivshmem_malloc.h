/* SPDX-License-Identifier: mpich2 */
/*
 * Between the netmod and libivshmem-malloc, which a program may have loaded: that has malloc take
 * large blocks from the region.
 */
#ifndef IVSHMEM_MALLOC_H
#define IVSHMEM_MALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>

/* Where blocks come from. All its functions can be called from any thread, and call no malloc. */
struct ivshmem_malloc_source {
    size_t min;       /* bytes; smaller ones are not worth it */
    size_t alignment; /* of all */
    const char *base; /* within [base, base+bytes) an address is this source's */
    size_t bytes;     /* and stays so until the process ends */
    /* NULL if there is none to spare. Zero where it was not this process' before, or all. */
    void *(*alloc_block)(size_t bytes, bool all_zero);
    void (*free_block)(void *start);
    size_t (*room)(const void *start); /* bytes of the block that begins there */
    void (*protected)(void);           /* something there may not be accessible from now on, */
    void (*locked)(void);              /* or may be locked */
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

/*
 * Whether the caller's stack is within [base, base+bytes): a coroutine's, or one for signals. What
 * copies that memory and puts the copy in its place is not to run on it.
 */
#define ivshmem_stack_is_in(base, bytes)                                                           \
    ((uintptr_t) __builtin_frame_address(0) - (uintptr_t) (base) < (bytes))

/* Calls `call` on a stack of its own; false if there is no memory for one. */
static inline bool ivshmem_call_elsewhere(void (*call)(void))
{
    enum { BYTES = 1 << 20 }; /* handlers of a fork are called there, too */
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
