/* SPDX-License-Identifier: mpich2 */
/*
 * Shared memory with names, and locks in it, between processes of this machine and of virtual
 * machines that share an ivshmem region: ivshmem(3), ivshmem_blocks(3), ivshmem_locks(3).
 *
 * Functions return 0, or a negative errno; ivshmem_error() tells what happened, in a sentence.
 * Every wait ends after `timeout_ms` milliseconds, 0 for none, with -ETIMEDOUT, and none waits for
 * the dead. A handle, and its blocks, are used by one thread at a time: threads that wait for each
 * other open a handle each, and so does a child after fork(2).
 */
#ifndef IVSHMEM_H
#define IVSHMEM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A process on a region; a block of which it has the memory. */
typedef struct ivshmem ivshmem;
typedef struct ivshmem_block ivshmem_block;

/* Names have so many bytes at most. */
#define IVSHMEM_NAME_MAX 63

/* ivshmem_open: a child process watches over this one, see there. */
#define IVSHMEM_GUARDIAN 1u
/* ivshmem_create: attach if there is such a block. */
#define IVSHMEM_OR_ATTACH 1u
/* ivshmem_attach: a store there is a SIGSEGV. */
#define IVSHMEM_READ_ONLY 1u

int ivshmem_open(const char *region, unsigned flags, ivshmem **handle);
void ivshmem_close(ivshmem *handle);
/* Of the last call in this thread that failed: valid until the next one fails. */
const char *ivshmem_error(void);

int ivshmem_create(ivshmem *handle, const char *name, size_t bytes, unsigned flags,
                   ivshmem_block **block);
int ivshmem_attach(ivshmem *handle, const char *name, size_t bytes, unsigned flags, int timeout_ms,
                   ivshmem_block **block);
void ivshmem_detach(ivshmem_block *block);
int ivshmem_remove(ivshmem *handle, const char *name);

void *ivshmem_data(const ivshmem_block *block);
size_t ivshmem_size(const ivshmem_block *block);
/* 1, or 0 if nobody else can find the block any more: it is removed, or its creator is gone. */
int ivshmem_is_found(const ivshmem_block *block);

/*
 * Pointers differ from process to process: blocks contain offsets. The first returns NULL unless
 * [offset, offset + bytes) lies in the block; the second, -EINVAL unless [pointer, pointer + bytes)
 * does.
 */
void *ivshmem_pointer(const ivshmem_block *block, uint64_t offset, size_t bytes);
int ivshmem_offset(const ivshmem_block *block, const void *pointer, size_t bytes, uint64_t *offset);

/*
 * What processes wait for each other by. They lie in blocks, at multiples of 64 bytes, and are
 * ready when they are all zero, as a new block is.
 */
typedef struct {
    uint64_t core[8];
} __attribute__((aligned(64))) ivshmem_mutex;

typedef struct {
    uint64_t core[8];
} __attribute__((aligned(64))) ivshmem_cond;

typedef struct {
    uint64_t core[64];
} __attribute__((aligned(64))) ivshmem_rwlock;

typedef struct {
    uint64_t core[64];
} __attribute__((aligned(64))) ivshmem_barrier;

/*
 * All that acquire return -EOWNERDEAD if they have acquired it, and a process has died that held it
 * for writing; so does each later one, until a holder calls ..._consistent.
 */
int ivshmem_mutex_lock(ivshmem *handle, ivshmem_mutex *mutex, int timeout_ms);
int ivshmem_mutex_unlock(ivshmem *handle, ivshmem_mutex *mutex);
int ivshmem_mutex_consistent(ivshmem *handle, ivshmem_mutex *mutex);

#define IVSHMEM_READERS_MAX 56 /* at a time */
int ivshmem_rwlock_rdlock(ivshmem *handle, ivshmem_rwlock *lock, int timeout_ms);
int ivshmem_rwlock_wrlock(ivshmem *handle, ivshmem_rwlock *lock, int timeout_ms);
int ivshmem_rwlock_unlock(ivshmem *handle, ivshmem_rwlock *lock);
int ivshmem_rwlock_consistent(ivshmem *handle, ivshmem_rwlock *lock);

int ivshmem_cond_wait(ivshmem *handle, ivshmem_cond *cond, ivshmem_mutex *mutex, int timeout_ms);
int ivshmem_cond_broadcast(ivshmem *handle, ivshmem_cond *cond);

#define IVSHMEM_MEMBERS_MAX 56
int ivshmem_barrier_wait(ivshmem *handle, ivshmem_barrier *barrier, unsigned members,
                         int timeout_ms);
int ivshmem_barrier_consistent(ivshmem *handle, ivshmem_barrier *barrier, unsigned members);

#ifdef __cplusplus
}
#endif

#endif
