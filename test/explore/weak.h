/* SPDX-License-Identifier: mpich2 */
/*
 * Weakly ordered memory for the explorer. The compiler includes this file first (flavour `weak`).
 * It puts calls of explore.h in place of core/atomic.h's accesses, with their order and where they
 * are in the source, so that one of them can be weakened. core/ is compiled without a change.
 */
#ifndef WEAK_H
#define WEAK_H

#define _GNU_SOURCE /* before the first header, as the files that follow expect */

#include "core/atomic.h"

enum weak_order { WEAK_RELAXED, WEAK_ACQUIRE, WEAK_RELEASE, WEAK_ACQ_REL, WEAK_SEQ_CST };
enum weak_change { WEAK_SWAP, WEAK_OR, WEAK_AND, WEAK_ADD };

struct weak_site {
    const char *file;
    int line;
    enum weak_order order;
};

uint64_t weak_load(struct weak_site site, const void *word, unsigned size);
void weak_store(struct weak_site site, void *word, unsigned size, uint64_t value);
/* Returns the value before the change. A swap of `expected` changes nothing if that is another. */
uint64_t weak_change(struct weak_site site, ivshm_a64 *word, enum weak_change change,
                     uint64_t expected, uint64_t operand);

#define WEAK_SITE(order) ((struct weak_site){__FILE__, __LINE__, WEAK_##order})

static inline bool weak_swap(struct weak_site site, ivshm_a64 *word, uint64_t expected,
                             uint64_t desired)
{
    return weak_change(site, word, WEAK_SWAP, expected, desired) == expected;
}

#define ivshm_a32_load_relaxed(a) ((uint32_t) weak_load(WEAK_SITE(RELAXED), a, 4))
#define ivshm_a32_load_acquire(a) ((uint32_t) weak_load(WEAK_SITE(ACQUIRE), a, 4))
#define ivshm_a32_store_relaxed(a, v) weak_store(WEAK_SITE(RELAXED), a, 4, v)
#define ivshm_a32_store_release(a, v) weak_store(WEAK_SITE(RELEASE), a, 4, v)
#define ivshm_a64_load_relaxed(a) weak_load(WEAK_SITE(RELAXED), a, 8)
#define ivshm_a64_load_acquire(a) weak_load(WEAK_SITE(ACQUIRE), a, 8)
#define ivshm_a64_load_seqcst(a) weak_load(WEAK_SITE(SEQ_CST), a, 8)
#define ivshm_a64_store_relaxed(a, v) weak_store(WEAK_SITE(RELAXED), a, 8, v)
#define ivshm_a64_store_release(a, v) weak_store(WEAK_SITE(RELEASE), a, 8, v)
#define ivshm_a64_cas_seqcst(a, from, to) weak_swap(WEAK_SITE(SEQ_CST), a, from, to)
#define ivshm_a64_or_seqcst(a, v) weak_change(WEAK_SITE(SEQ_CST), a, WEAK_OR, 0, v)
#define ivshm_a64_and_seqcst(a, v) weak_change(WEAK_SITE(SEQ_CST), a, WEAK_AND, 0, v)
#define ivshm_a64_add_seqcst(a, v) weak_change(WEAK_SITE(SEQ_CST), a, WEAK_ADD, 0, v)

#endif
