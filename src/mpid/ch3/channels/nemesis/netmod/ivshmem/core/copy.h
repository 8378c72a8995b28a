/* SPDX-License-Identifier: mpich2 */
/*
 * The copy of a payload into memory of the region, which another processor has read before and will
 * read next. What that costs depends on the processor, and on how far the two processors are apart:
 * before a line can be written, the other side's copy of it has to go. There are several ways, of
 * which choice.h picks one.
 *
 * Any thread; nothing fails or waits. Cost: that of the copy.
 */
#ifndef IVSHM_COPY_H
#define IVSHM_COPY_H

#include "atomic.h"

/* The ways. Their numbers go into slots and chunk words: see layout.h. */
enum ivshm_copy {
    IVSHM_COPY_PLAIN = 0, /* memcpy */
    IVSHM_COPY_AHEAD = 1, /* memcpy behind prefetches for writing; the reader prefetches, too */
    IVSHM_COPY_STREAM = 2 /* whole lines by non-temporal stores, which need no old contents */
};

#define IVSHM_COPIES 3

/*
 * Copies `bytes` bytes from private memory into the region. The next release store of this thread
 * publishes them (R1, Q1 or L1), in each of the ways: non-temporal stores are not ordered by it, so
 * this ends with a fence after them. Where the processor has none, STREAM is as PLAIN.
 */
void ivshm_copy_in(void *to, const void *from, size_t bytes, enum ivshm_copy way);

/*
 * The time, in ticks of a counter of this processor, which need not agree with those of other
 * machines. Of a few nanoseconds' resolution where STREAM is any different from PLAIN.
 */
static inline uint64_t ivshm_ticks(void)
{
#if defined(__x86_64__)
    __builtin_ia32_lfence(); /* the counter may be read out of order */
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t ticks;
    __asm__ volatile("isb; mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
    return 0;
#endif
}

/* The time when all that this thread has stored can be seen: until then, it waits for its lines. */
static inline uint64_t ivshm_ticks_of_stores(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return ivshm_ticks();
}

#endif
