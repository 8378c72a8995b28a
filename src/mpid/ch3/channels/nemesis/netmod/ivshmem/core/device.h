/* SPDX-License-Identifier: mpich2 */
/*
 * The devices whose memory can be a region, as sysfs describes them: ivshmem PCI devices, each a
 * file in sysfs or, if our driver has it, a character device; and character devices of other kinds:
 * see device.c's table. Used by map and region. Any thread; at start only, as each call costs some
 * system calls. No ordering edge.
 */
#ifndef IVSHM_DEVICE_H
#define IVSHM_DEVICE_H

#include "diag.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/types.h>

/*
 * Which of a PCI device's files in sysfs maps the region. On arm64, resource2 is Device memory: an
 * access that is not aligned, or `dc zva`, is a bus error there, and both are in memcpy and memset.
 * resource2_wc is normal memory. Linux has it there since 5.10.
 */
#ifdef __aarch64__
#define IVSHM_DEVICE_BAR "resource2_wc"
#else
#define IVSHM_DEVICE_BAR "resource2"
#endif

struct ivshm_device {
    char name[280];   /* what ivshm_map_open takes: 0000:00:04.0, /dev/dax0.0 */
    const char *kind; /* in a word: "BAR", "driver", "device-DAX"; a constant */
    uint64_t size;    /* bytes; 0 if it has no memory, or only an open device tells */
    bool is_pci;      /* made to be a region, and for nothing else */
};

/* How memory is mapped, if its driver tells. */
enum ivshm_cache {
    IVSHM_CACHE_UNKNOWN,
    IVSHM_CACHE_WRITE_BACK,
    IVSHM_CACHE_WRITE_COMBINING,
    IVSHM_CACHE_UNCACHED
};

/* How the memory of an open character device is mapped. */
struct ivshm_device_memory {
    const char *kind;
    uint64_t size, offset; /* bytes, for mmap */
    uint64_t page;         /* bytes, of which size and address are multiples */
    enum ivshm_cache cache;
    int32_t peer;  /* by which others ring the device, 0 to 65535; -1: they cannot */
    char why[400]; /* it has none: words that end what begins with the device's name */
};

/*
 * Lists the devices of this machine, at most `max` of them, in the order in which a region is
 * looked for: PCI devices come last, each once, under its address, by whatever of our driver and
 * sysfs it is mapped. Other drivers for them have devices of their own. Returns how many there are,
 * which may be more; 0 also without sysfs. Cost: two small files for each PCI device.
 */
int ivshm_device_list(struct ivshm_device *devices, int max);

/* Whether `name` is an address as sysfs writes it, such as 0000:00:04.0; and not a path. */
bool ivshm_device_is_address(const char *name);

/*
 * Writes the path of the file that maps the memory of the PCI device `address`, and enables that
 * memory if need be. Returns 0, or a negative errno: -ENOENT no such device; -ENODEV not an ivshmem
 * device; -EACCES only root can enable it.
 */
int ivshm_device_find_bar(const char *address, char *path, size_t size, struct ivshm_diag *diag);

/*
 * If `fd`, which need be for inspection only, is the BAR of a device that our driver has, and so
 * cannot be mapped: writes the path of the driver's node. Returns 0, or -ENOENT if that is missing.
 */
int ivshm_device_find_node(int fd, char *path, size_t size, struct ivshm_diag *diag);

/*
 * Maps the registers of the ivshmem-doorbell device whose BAR in sysfs is open as `fd`. The caller
 * unmaps them. NULL with errno: ENODEV it is no such device; EACCES this user may not; others.
 */
volatile uint32_t *ivshm_device_map_registers(int fd, bool write);
void ivshm_device_unmap_registers(volatile uint32_t *registers);

/*
 * Our driver's interface, kmod/ivshmem_uapi.h. An interface with a higher number has all of this.
 */
struct ivshm_driver_info {
    uint32_t abi, vectors;
    uint64_t size; /* bytes that can be mapped */
    int32_t peer;
    uint32_t cache;
};
struct ivshm_driver_bind {
    uint32_t vector;
    int32_t eventfd;
};
struct ivshm_driver_ring {
    uint32_t peer, vector;
};
#define IVSHM_DRIVER_INFO _IOR(0xb5, 0, struct ivshm_driver_info)
#define IVSHM_DRIVER_BIND _IOW(0xb5, 1, struct ivshm_driver_bind)
#define IVSHM_DRIVER_RING _IOW(0xb5, 3, struct ivshm_driver_ring)

/* Numbers of the registers, each of 32 bits. */
#define IVSHM_REGISTER_ID 2       /* by which others ring the device */
#define IVSHM_REGISTER_DOORBELL 3 /* bits 0-15 vector | 16-31 whose */

/*
 * By which number others ring the device, 0 to 65535, if `fd` is the BAR of an ivshmem-doorbell
 * device in sysfs. -1 if it is not, or this user may not open the device's registers, resource0.
 */
int32_t ivshm_device_peer(int fd);

/* A kind of character device whose memory can be a region. */
struct ivshm_device_kind;

/* What a user without permission for a device can do, except to be root; NULL is any file. */
const char *ivshm_device_access(const struct ivshm_device_kind *kind);

/*
 * The kind of the character device with this number, without opening it, as that can have an
 * effect. NULL if its memory cannot be a region; diag says so of `name`.
 */
const struct ivshm_device_kind *ivshm_device_kind(dev_t number, const char *name,
                                                  struct ivshm_diag *diag);

/*
 * How the memory of such a device is mapped, which is open as `fd`. Returns 0, or -ENODEV if it has
 * none, or its driver is not what it seems.
 */
int ivshm_device_measure(const struct ivshm_device_kind *kind, dev_t number, int fd,
                         const char *name, struct ivshm_device_memory *memory,
                         struct ivshm_diag *diag);

/* Where sysfs and the character devices are. Weak, so that a test can name other directories. */
const char *ivshm_device_sysfs(void);
const char *ivshm_device_dev(void);

#endif
