/* SPDX-License-Identifier: mpich2 */
/*
 * The only place where atomic operations, prefetches and pauses are made. A word that processes
 * share has one of the types below, so a plain load or store of it does not compile. Each access
 * states its memory order in its name. The partner of each release and acquire is named where it is
 * used, and listed in doc/ordering.md. Any thread; no function fails, and none waits.
 */
#ifndef IVSHM_ATOMIC_H
#define IVSHM_ATOMIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint32_t word;
} ivshm_a32;

typedef struct {
    uint64_t word;
} ivshm_a64;

_Static_assert(sizeof(ivshm_a32) == 4 && sizeof(ivshm_a64) == 8, "shared words have no padding");
_Static_assert(__atomic_always_lock_free(4, 0) && __atomic_always_lock_free(8, 0),
               "a lock of the compiler's library would not be shared between VMs");

/*
 * Tests define IVSHM_STEPS to act between any two accesses: an explorer lets other actors run or
 * this one die; a fuzzer changes the word that is about to be read.
 */
#ifdef IVSHM_STEPS
void ivshm_access_step(const void *word, bool writes);
#else
static inline void ivshm_access_step(const void *word, bool writes)
{
    (void) word;
    (void) writes;
}
#endif

/* Loads and stores of one word. */
static inline uint32_t ivshm_a32_load_relaxed(const ivshm_a32 *a)
{
    ivshm_access_step(a, false);
    return __atomic_load_n(&a->word, __ATOMIC_RELAXED);
}

static inline uint32_t ivshm_a32_load_acquire(const ivshm_a32 *a)
{
    ivshm_access_step(a, false);
    return __atomic_load_n(&a->word, __ATOMIC_ACQUIRE);
}

static inline void ivshm_a32_store_relaxed(ivshm_a32 *a, uint32_t v)
{
    ivshm_access_step(a, true);
    __atomic_store_n(&a->word, v, __ATOMIC_RELAXED);
}

static inline void ivshm_a32_store_release(ivshm_a32 *a, uint32_t v)
{
    ivshm_access_step(a, true);
    __atomic_store_n(&a->word, v, __ATOMIC_RELEASE);
}

static inline uint64_t ivshm_a64_load_relaxed(const ivshm_a64 *a)
{
    ivshm_access_step(a, false);
    return __atomic_load_n(&a->word, __ATOMIC_RELAXED);
}

static inline uint64_t ivshm_a64_load_acquire(const ivshm_a64 *a)
{
    ivshm_access_step(a, false);
    return __atomic_load_n(&a->word, __ATOMIC_ACQUIRE);
}

static inline uint64_t ivshm_a64_load_seqcst(const ivshm_a64 *a)
{
    ivshm_access_step(a, false);
    return __atomic_load_n(&a->word, __ATOMIC_SEQ_CST);
}

static inline void ivshm_a64_store_relaxed(ivshm_a64 *a, uint64_t v)
{
    ivshm_access_step(a, true);
    __atomic_store_n(&a->word, v, __ATOMIC_RELAXED);
}

static inline void ivshm_a64_store_release(ivshm_a64 *a, uint64_t v)
{
    ivshm_access_step(a, true);
    __atomic_store_n(&a->word, v, __ATOMIC_RELEASE);
}

/*
 * Changes *a from `expected` to `desired`; returns whether it did. Sequentially consistent in both
 * cases.
 */
static inline bool ivshm_a64_cas_seqcst(ivshm_a64 *a, uint64_t expected, uint64_t desired)
{
    ivshm_access_step(a, true);
    return __atomic_compare_exchange_n(&a->word, &expected, desired, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}

/* These three return the value before the change. */
static inline uint64_t ivshm_a64_or_seqcst(ivshm_a64 *a, uint64_t bits)
{
    ivshm_access_step(a, true);
    return __atomic_fetch_or(&a->word, bits, __ATOMIC_SEQ_CST);
}

static inline uint64_t ivshm_a64_and_seqcst(ivshm_a64 *a, uint64_t bits)
{
    ivshm_access_step(a, true);
    return __atomic_fetch_and(&a->word, bits, __ATOMIC_SEQ_CST);
}

static inline uint64_t ivshm_a64_add_seqcst(ivshm_a64 *a, uint64_t n)
{
    ivshm_access_step(a, true);
    return __atomic_fetch_add(&a->word, n, __ATOMIC_SEQ_CST);
}

/* Bytes of a cache line, the unit in which processors exchange memory. */
#define IVSHM_LINE 64

/* About as many bytes as a processor fetches at once: a request for more gains nothing. */
#define IVSHM_PREFETCH_MAX 1024

/*
 * Prefetches what will be read soon: the lines of [start, start+bytes), or the first
 * IVSHM_PREFETCH_MAX bytes of them. A hint: any address is allowed.
 */
static inline void ivshm_lines_prefetch(const void *start, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes && i < IVSHM_PREFETCH_MAX; i += IVSHM_LINE)
        __builtin_prefetch((const char *) start + i);
}

/*
 * Prefetches the lines of [start, start+bytes) for writing. Requested together, they arrive sooner
 * than if each store fetched its own. A hint: any address is allowed.
 */
static inline void ivshm_lines_prefetch_write(const void *start, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += IVSHM_LINE) {
        const char *line = (const char *) start + i;
#if defined(__x86_64__) || defined(__i386__)
        __asm__ volatile("prefetchw %0" : : "m"(*line)); /* gcc emits none for a generic CPU */
#else
        __builtin_prefetch(line, 1);
#endif
    }
}

/* For loops that wait for a store of another process. */
static inline void ivshm_cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
