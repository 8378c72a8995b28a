/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR mpich2 */
/*
 * The interface of the driver for QEMU's ivshmem device, for programs.
 *
 * Each device is a character device /dev/ivshmemN:
 *
 *	mmap	maps the shared memory, from offset 0 to the size that
 *		IVSHMEM_INFO returns. MAP_SHARED only.
 *	ioctl	below. 0, or -1 and errno. Any number of threads may call them.
 *	close	undoes what IVSHMEM_BIND has done through this descriptor, once
 *		its duplicates and the mappings that it made are gone, too.
 *
 * When the device goes away (it is unplugged, or unbound from the driver), each
 * eventfd that is bound is signalled once more, the ioctls fail with ENODEV,
 * and an access to a mapping raises SIGBUS.
 */
#ifndef IVSHMEM_UAPI_H
#define IVSHMEM_UAPI_H

#include <linux/ioctl.h>
#include <linux/types.h>

/*
 * Grows by one when something is added: what is here stays as it is. A program
 * asks the driver for its number. If that is lower than what the program was
 * written for, later additions are missing.
 */
#define IVSHMEM_ABI 1

enum ivshmem_cache {
	IVSHMEM_CACHE_WB, /* cached, write-back */
	IVSHMEM_CACHE_WC, /* write-combining */
	IVSHMEM_CACHE_UC, /* uncached */
};

struct ivshmem_info {
	__u32 abi;     /* IVSHMEM_ABI of the driver */
	__u32 vectors; /* of this device; 0: it neither rings nor is rung */
	__u64 size;    /* of the shared memory, in bytes */
	__s32 peer;    /* by which others ring this device, -1: they cannot */
	__u32 cache;   /* enum ivshmem_cache, how this descriptor maps */
};

struct ivshmem_bind {
	__u32 vector;
	__s32 eventfd;
};

struct ivshmem_ring {
	__u32 peer;
	__u32 vector; /* of the peer's */
};

/* Errors of all: EFAULT; ENODEV if the device is gone; ENOTTY if not known. */

#define IVSHMEM_INFO _IOR(0xb5, 0, struct ivshmem_info)

/*
 * Signals the eventfd whenever a peer rings this vector. All descriptors,
 * of one process or several, can bind the same vector: all are signalled. A
 * descriptor binds a vector to one eventfd at a time. The eventfd may be
 * closed; it stays bound. Errors: EINVAL there is no such vector, or that is
 * not an eventfd; EBADF; EBUSY this descriptor has bound it already.
 */
#define IVSHMEM_BIND _IOW(0xb5, 1, struct ivshmem_bind)

/*
 * Undoes IVSHMEM_BIND, for the vector that the argument points to. On return
 * the eventfd is no longer signalled. Errors: EINVAL there is no such vector;
 * ENOENT this descriptor has not bound it.
 */
#define IVSHMEM_UNBIND _IOW(0xb5, 2, __u32)

/*
 * Rings a peer's vector. The peer sees all that this thread stored in the
 * shared memory before. Not an error: there is no such peer or vector. Errors:
 * EINVAL a number above 65535; EOPNOTSUPP this device has no vectors.
 */
#define IVSHMEM_RING _IOW(0xb5, 3, struct ivshmem_ring)

#endif
