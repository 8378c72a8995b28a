/* SPDX-License-Identifier: mpich2 */
/*
 * What the files of libivshmem share: a handle, and how it waits. One thread at a time.
 */
#ifndef LIB_H
#define LIB_H

#include "ivshmem.h"

#include "named.h"
#include "lock.h"
#include "wait.h"

#include <sys/types.h>

struct ivshmem {
    struct ivshm_region region;
    struct ivshm_transport transport;
    struct ivshm_names names;
    struct ivshm_wait wait;
    enum ivshm_sleep sleep; /* from which everybody could wake this process lately */
    struct ivshmem_block *blocks;
    int guardian; /* end of the socket on which it waits; or -1 */
};

struct ivshmem_block {
    struct ivshmem *handle;
    struct ivshmem_block *next;
    struct ivshm_named named;
    struct ivshm_map_view view; /* if it is read-only; else all zero */
    char *data;
    size_t bytes;
};

/* error.c */

/* Where the text of an error goes: this thread's. */
struct ivshm_diag *lib_diag(void);
#define lib_fail(err, ...) ivshm_diag_fail(lib_diag(), err, __VA_ARGS__)

/* Of a handle. */
static inline struct ivshm_owner lib_self(const struct ivshmem *handle)
{
    return ivshm_transport_self(&handle->transport);
}

/* wait.c */

/* A wait: looks, and lib_wait_more after each vain one, until that fails. */
struct lib_wait {
    ivshm_a64 *waiters; /* in which to ask to be woken; or NULL */
    int count, place;   /* -1: not entered; -2: there was no room */
    uint64_t began, deadline, watched;
    unsigned looks;
    bool dozes;
    uint64_t doze_ns;
};

/* -EINVAL if the timeout is negative. */
int lib_wait_begin(struct lib_wait *wait, ivshm_a64 *waiters, int count, int timeout_ms);

/* 0, or -ETIMEDOUT; the caller writes the text. */
int lib_wait_more(struct ivshmem *handle, struct lib_wait *wait);
void lib_wait_end(struct ivshmem *handle, struct lib_wait *wait);

/* Wakes those that have asked for it. */
void lib_wake(struct ivshmem *handle, ivshm_a64 *waiters, int count);

/* guardian.c */

/* Returns the descriptor by which the guardian learns of an orderly end; or -1. */
int lib_guardian_start(struct ivshm_region *region, struct ivshm_owner owner);
void lib_guardian_end(int fd);

#endif
