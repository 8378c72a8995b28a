/* SPDX-License-Identifier: mpich2 */
/*
 * The only home of atomics, fences and pause. A word that two processes share has one of the types
 * below, so that no plain load or store of it compiles. Every access says its order in its name;
 * the partner of each release and acquire is named where it is used, and listed in doc/ordering.md.
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
 * Tests define IVSHM_STEPS, and then act between any two accesses: an explorer lets other actors go
 * on, or this one die; a fuzzer changes the word that is about to be read.
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

/* Returns whether *a was `expected` and is now `desired`. Sequentially consistent either way. */
static inline bool ivshm_a64_cas_seqcst(ivshm_a64 *a, uint64_t expected, uint64_t desired)
{
    ivshm_access_step(a, true);
    return __atomic_compare_exchange_n(&a->word, &expected, desired, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}

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

/* Processors exchange memory in lines of so many bytes. */
#define IVSHM_LINE 64

/* What processors have under way at once, about: asking for more brings nothing. */
#define IVSHM_PREFETCH_MAX 1024

/* Asks for what will be read soon, or the beginning of it. A hint: any address will do. */
static inline void ivshm_lines_prefetch(const void *start, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes && i < IVSHM_PREFETCH_MAX; i += IVSHM_LINE)
        __builtin_prefetch((const char *) start + i);
}

/*
 * Takes the lines that will be written at once: asked for together they come sooner than one store
 * after the other would fetch them.
 */
static inline void ivshm_lines_prefetch_write(const void *start, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += IVSHM_LINE) {
        const char *line = (const char *) start + i;
#if defined(__x86_64__) || defined(__i386__)
        __asm__ volatile("prefetchw %0" : : "m"(*line)); /* gcc's is none for a generic processor */
#else
        __builtin_prefetch(line, 1);
#endif
    }
}

/* In a loop that waits for another process' store. */
static inline void ivshm_cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
