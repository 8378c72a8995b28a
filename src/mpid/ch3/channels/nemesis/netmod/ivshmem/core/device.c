/* SPDX-License-Identifier: mpich2 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "device.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define IVSHMEM_VENDOR 0x1af4
#define IVSHMEM_DEVICE 0x1110
#define NUMBER_MAX 0xffff /* of peers: the register in which a number is written has 16 bits */

__attribute__((weak)) const char *ivshm_device_sysfs(void)
{
    return "/sys";
}

__attribute__((weak)) const char *ivshm_device_dev(void)
{
    return "/dev";
}

/* What a file in sysfs begins with, as text; empty if there is none. */
static void read_attribute(const char *folder, const char *attribute, char *text, size_t size)
{
    char path[PATH_MAX];
    text[0] = 0;
    if ((size_t) snprintf(path, sizeof(path), "%s/%s", folder, attribute) >= sizeof(path))
        return;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t len = read(fd, text, size - 1);
    text[len > 0 ? len : 0] = 0;
    close(fd);
}

/* A number in sysfs, decimal or with 0x; 0 if there is none. */
static uint64_t read_number(const char *folder, const char *attribute)
{
    char text[32];
    read_attribute(folder, attribute, text, sizeof(text));
    return strtoull(text, NULL, 0);
}

static bool is_ivshmem(const char *folder)
{
    return read_number(folder, "vendor") == IVSHMEM_VENDOR &&
           read_number(folder, "device") == IVSHMEM_DEVICE;
}

/*
 * The kinds of character devices. `is_one` tells which devices of the subsystem are of this kind.
 * `measure` sets the memory's size, 0 if there is none, from the device's folder in sysfs or by its
 * open descriptor, which is -1 when devices are listed; the rest has defaults. Without `may_try`, a
 * device in the folder `listed_in` is used only if it is named: what its memory is for is unknown,
 * and reading it may have an effect.
 */
struct ivshm_device_kind {
    const char *subsystem, *listed_in; /* in sysfs; not listed: NULL */
    const char *name;
    const char *access; /* as ivshm_device_access returns */
    bool (*is_one)(const char *folder);
    bool (*may_try)(const char *folder);
    void (*measure)(const char *folder, int fd, struct ivshm_device_memory *memory);
};

static bool always(const char *folder)
{
    (void) folder;
    return true;
}

/* Its length is not told by sysfs. The module returns it as an int, which is enough below 4 GiB. */
static void measure_kvmfr(const char *folder, int fd, struct ivshm_device_memory *memory)
{
    (void) folder;
    memory->size = fd < 0 ? 0 : (uint32_t) ioctl(fd, _IO('u', 0x44));
    if (memory->size == UINT32_MAX)
        memory->size = 0;
}

static void measure_dax(const char *folder, int fd, struct ivshm_device_memory *memory)
{
    (void) fd;
    uint64_t align = read_number(folder, "align");
    memory->size = read_number(folder, "size");
    memory->page = align ? align : memory->page;
}

static bool is_of_ivshmem(const char *folder)
{
    char path[PATH_MAX];
    return (size_t) snprintf(path, sizeof(path), "%s/device", folder) < sizeof(path) &&
           is_ivshmem(path);
}

#define UIO_MAPS 5 /* Linux has no more */

/* The largest of its memories: others are registers. The one numbered i is at page i of the file.
 */
static void measure_uio(const char *folder, int fd, struct ivshm_device_memory *memory)
{
    (void) fd;
    char name[32];
    for (unsigned i = 0; i < UIO_MAPS; i++) {
        snprintf(name, sizeof(name), "maps/map%u/size", i);
        uint64_t size = read_number(folder, name);
        snprintf(name, sizeof(name), "maps/map%u/offset", i);
        if (size <= memory->size || read_number(folder, name) != 0)
            continue;
        memory->size = size;
        memory->offset = i * (uint64_t) sysconf(_SC_PAGESIZE);
    }
}

static uint64_t bar_size(const char *folder)
{
    char path[PATH_MAX];
    struct stat st;
    return (size_t) snprintf(path, sizeof(path), "%s/" IVSHM_DEVICE_BAR, folder) < sizeof(path) &&
                   stat(path, &st) == 0
               ? (uint64_t) st.st_size
               : 0;
}

static void measure_driver(const char *folder, int fd, struct ivshm_device_memory *memory)
{
    static const enum ivshm_cache caches[] = {IVSHM_CACHE_WRITE_BACK, IVSHM_CACHE_WRITE_COMBINING,
                                              IVSHM_CACHE_UNCACHED};
    struct ivshm_driver_info info = {0};
    char pci[PATH_MAX];
    if (ioctl(fd, IVSHM_DRIVER_INFO, &info) != 0) {
        snprintf(memory->why, sizeof(memory->why),
                 "belongs to an ivshmem device, but not to the driver of mpich-ivshmem: asked for "
                 "its size (IVSHMEM_INFO), it says: %s; unbind the driver that has the device, or "
                 "load ivshmem.ko instead of it (doc/driver.md)",
                 strerror(errno));
        return;
    }
    uint64_t bar =
        (size_t) snprintf(pci, sizeof(pci), "%s/device", folder) < sizeof(pci) ? bar_size(pci) : 0;
    if (info.abi == 0 || info.size == 0 || info.size % memory->page || (bar && info.size > bar)) {
        snprintf(memory->why, sizeof(memory->why),
                 "tells version %u of the driver's interface and %llu bytes of memory; expected "
                 "were version 1 or higher, and whole pages of at most %llu bytes: load the "
                 "ivshmem.ko that belongs to this version (doc/driver.md)",
                 info.abi, (unsigned long long) info.size, (unsigned long long) bar);
        return;
    }
    memory->size = info.size;
    memory->peer = info.vectors > 0 && info.peer <= NUMBER_MAX ? info.peer : -1;
    if (info.cache < sizeof(caches) / sizeof(caches[0]))
        memory->cache = caches[info.cache];
}

static const struct ivshm_device_kind kinds[] = {
    {"kvmfr", "class/kvmfr", "kvmfr", NULL, always, always, measure_kvmfr},
    {"dax", "bus/dax/devices", "device-DAX", NULL, always, always, measure_dax},
    {"uio", "class/uio", "UIO", NULL, always, is_of_ivshmem, measure_uio},
    /* Listed as the PCI device that it is. The subsystem has devices of all sorts. */
    {"misc", NULL, "driver",
     "add this user to the group that has it, ivshmem if the driver's udev rule is installed "
     "(doc/driver.md)",
     is_of_ivshmem, NULL, measure_driver},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static struct ivshm_device_memory measure(const struct ivshm_device_kind *kind, const char *folder,
                                          int fd)
{
    struct ivshm_device_memory memory = {
        .kind = kind->name, .page = (uint64_t) sysconf(_SC_PAGESIZE), .peer = -1};
    snprintf(memory.why, sizeof(memory.why),
             "has no memory that can be mapped, or does not tell its size: see %.200s, or name "
             "another device",
             folder);
    kind->measure(folder, fd, &memory);
    return memory;
}

/* The path of our driver's node, if it has the PCI device in that folder. */
static bool find_node(const char *folder, char *path, size_t size)
{
    char misc[PATH_MAX];
    const struct dirent *entry;
    bool found = false;
    DIR *dir = (size_t) snprintf(misc, sizeof(misc), "%s/misc", folder) < sizeof(misc)
                   ? opendir(misc)
                   : NULL;
    while (dir && !found && (entry = readdir(dir)))
        found = strncmp(entry->d_name, "ivshmem", 7) == 0 &&
                (size_t) snprintf(path, size, "%s/%s", ivshm_device_dev(), entry->d_name) < size;
    if (dir)
        closedir(dir);
    return found;
}

/* Devices found so far: all are counted, and as many as fit are listed. */
struct list {
    struct ivshm_device *devices;
    int max, total;
};

static void add_device(struct list *list, struct ivshm_device device)
{
    if (list->total < list->max)
        list->devices[list->total] = device;
    list->total++;
}

static void add_character(struct list *list, const struct ivshm_device_kind *kind,
                          const char *folder, const char *name)
{
    if (!kind->may_try(folder))
        return;
    struct ivshm_device_memory memory = measure(kind, folder, -1);
    struct ivshm_device device = {.kind = kind->name, .size = memory.size};
    int len = snprintf(device.name, sizeof(device.name), "%s/%s", ivshm_device_dev(), name);
    if ((size_t) len < sizeof(device.name) && access(device.name, F_OK) == 0)
        add_device(list, device);
}

static void add_pci(struct list *list, const struct ivshm_device_kind *kind, const char *folder,
                    const char *name)
{
    (void) kind;
    char path[PATH_MAX];
    struct ivshm_device device = {.is_pci = true};
    if (!is_ivshmem(folder) ||
        (size_t) snprintf(device.name, sizeof(device.name), "%s", name) >= sizeof(device.name))
        return;
    device.kind = find_node(folder, path, sizeof(path)) ? "driver" : "BAR";
    device.size = bar_size(folder);
    add_device(list, device);
}

static int not_hidden(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* Calls `add` for all that is in a folder of sysfs, in the order of the names. */
static void scan(struct list *list, const char *listed_in, const struct ivshm_device_kind *kind,
                 void (*add)(struct list *, const struct ivshm_device_kind *, const char *,
                             const char *))
{
    char folder[PATH_MAX], path[PATH_MAX];
    struct dirent **entries;
    if ((size_t) snprintf(folder, sizeof(folder), "%s/%s", ivshm_device_sysfs(), listed_in) >=
        sizeof(folder))
        return;
    int n = scandir(folder, &entries, not_hidden, alphasort);
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        if ((size_t) snprintf(path, sizeof(path), "%s/%s", folder, name) < sizeof(path))
            add(list, kind, path, name);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
}

int ivshm_device_list(struct ivshm_device *devices, int max)
{
    struct list list = {devices, max, 0};
    for (size_t i = 0; i < KINDS; i++)
        if (kinds[i].listed_in)
            scan(&list, kinds[i].listed_in, &kinds[i], add_character);
    scan(&list, "bus/pci/devices", NULL, add_pci);
    return list.total;
}

bool ivshm_device_is_address(const char *name)
{
    unsigned domain, bus, device, function;
    char rest;
    return sscanf(name, "%x:%x:%x.%x%c", &domain, &bus, &device, &function, &rest) == 4;
}

#define PCI_COMMAND 4 /* offset in the configuration space */
#define PCI_COMMAND_MEMORY 2

/*
 * A device that no driver has touched may not answer yet: some firmware leaves its memory disabled,
 * and reads then return all ones. Enables it, for which one must be root.
 */
static int enable_memory(const char *address, const char *folder, struct ivshm_diag *diag)
{
    char path[600];
    unsigned char command[2] = {PCI_COMMAND_MEMORY};
    snprintf(path, sizeof(path), "%s/config", folder);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || pread(fd, command, sizeof(command), PCI_COMMAND) < 1)
        command[0] = PCI_COMMAND_MEMORY; /* unknown: the contents will tell */
    if (fd >= 0)
        close(fd);
    if (command[0] & PCI_COMMAND_MEMORY)
        return 0;
    snprintf(path, sizeof(path), "%s/enable", folder);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    bool enabled = fd >= 0 && write(fd, "1", 1) == 1;
    if (fd >= 0)
        close(fd);
    if (!enabled)
        return ivshm_diag_fail(
            diag, EACCES,
            "the memory of ivshmem device %s is disabled, and only root can enable it: run "
            "`echo 1 >%s` as root",
            address, path);
    return 0;
}

int ivshm_device_find_bar(const char *address, char *path, size_t size, struct ivshm_diag *diag)
{
    char folder[512];
    snprintf(folder, sizeof(folder), "%s/bus/pci/devices/%s", ivshm_device_sysfs(), address);
    if (access(folder, F_OK) != 0)
        return ivshm_diag_fail(diag, ENOENT,
                               "there is no PCI device %s here: `lspci -nn -d 1af4:1110` lists the "
                               "ivshmem devices of this machine",
                               address);
    if (!is_ivshmem(folder))
        return ivshm_diag_fail(
            diag, ENODEV,
            "PCI device %s is %04x:%04x, not an ivshmem device (1af4:1110): `lspci "
            "-nn -d 1af4:1110` lists the ivshmem devices of this machine",
            address, (unsigned) read_number(folder, "vendor"),
            (unsigned) read_number(folder, "device"));
    snprintf(path, size, "%s/" IVSHM_DEVICE_BAR, folder);
    return enable_memory(address, folder, diag);
}

/* The folder in sysfs of the ivshmem device whose BAR is open as `fd`; false if it is no such. */
static bool folder_of_bar(int fd, char *folder, size_t size)
{
    char link[32];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, folder, size - 1);
    folder[len > 0 ? len : 0] = 0;
    char *slash = strrchr(folder, '/');
    if (!slash || strncmp(slash, "/resource2", 10) != 0 ||
        strncmp(folder, ivshm_device_sysfs(), strlen(ivshm_device_sysfs())) != 0)
        return false;
    *slash = 0;
    return is_ivshmem(folder);
}

int ivshm_device_find_node(int fd, char *path, size_t size, struct ivshm_diag *diag)
{
    char folder[PATH_MAX];
    if (!folder_of_bar(fd, folder, sizeof(folder)) || !find_node(folder, path, size) ||
        access(path, F_OK) == 0)
        return 0;
    return ivshm_diag_fail(diag, ENOENT,
                           "the driver has ivshmem device %s, but its node %s does not exist: "
                           "mount devtmpfs at /dev, or give this container the node",
                           strrchr(folder, '/') + 1, path);
}

volatile uint32_t *ivshm_device_map_registers(int fd, bool write)
{
    char folder[PATH_MAX], path[PATH_MAX], bars[256];
    unsigned long long registers, vectors;
    size_t page = (size_t) sysconf(_SC_PAGESIZE);
    errno = ENODEV;
    /*
     * Each line is a BAR: first and last address, and flags. The second is that of the interrupt
     * vectors, which an ivshmem-plain device does not have; its number reads as 0.
     */
    if (!folder_of_bar(fd, folder, sizeof(folder)))
        return NULL;
    read_attribute(folder, "resource", bars, sizeof(bars));
    errno = ENODEV;
    if (sscanf(bars, "%llx %*x %*x %llx", &registers, &vectors) != 2 || vectors == 0 ||
        (size_t) snprintf(path, sizeof(path), "%s/resource0", folder) >= sizeof(path))
        return NULL;
    int file = open(path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (file < 0)
        return NULL;
    /* The page is mapped in which the registers begin. */
    char *base = mmap(NULL, page, PROT_READ | (write ? PROT_WRITE : 0), MAP_SHARED, file, 0);
    int err = errno;
    close(file);
    errno = err;
    return base == MAP_FAILED ? NULL : (volatile uint32_t *) (base + registers % page);
}

void ivshm_device_unmap_registers(volatile uint32_t *registers)
{
    uintptr_t page = (uintptr_t) sysconf(_SC_PAGESIZE);
    munmap((void *) ((uintptr_t) registers & ~(page - 1)), page);
}

int32_t ivshm_device_peer(int fd)
{
    volatile uint32_t *registers = ivshm_device_map_registers(fd, false);
    if (!registers)
        return -1;
    uint32_t number = registers[IVSHM_REGISTER_ID];
    ivshm_device_unmap_registers(registers);
    return number <= NUMBER_MAX ? (int32_t) number
                                : -1; /* all ones before the server has told it */
}

/* The device's folder in sysfs. */
static void find_folder(dev_t number, char *folder, size_t size)
{
    snprintf(folder, size, "%s/dev/char/%u:%u", ivshm_device_sysfs(), major(number), minor(number));
}

const char *ivshm_device_access(const struct ivshm_device_kind *kind)
{
    return kind && kind->access
               ? kind->access
               : "give this user access (chown or a udev rule; guide, \"After a boot\")";
}

const struct ivshm_device_kind *ivshm_device_kind(dev_t number, const char *name,
                                                  struct ivshm_diag *diag)
{
    char folder[512], link[600], target[PATH_MAX];
    find_folder(number, folder, sizeof(folder));
    snprintf(link, sizeof(link), "%s/subsystem", folder);
    ssize_t len = readlink(link, target, sizeof(target) - 1);
    target[len > 0 ? len : 0] = 0;
    const char *slash = strrchr(target, '/'), *subsystem = slash ? slash + 1 : target;
    for (size_t i = 0; i < KINDS; i++)
        if (strcmp(subsystem, kinds[i].subsystem) == 0 && kinds[i].is_one(folder))
            return &kinds[i];
    ivshm_diag_fail(
        diag, EINVAL,
        "%s is a character device%s%s, whose memory cannot be a region: name a PCI address such "
        "as 0000:00:04.0, a device-DAX (/dev/dax0.0), kvmfr or UIO device, that of the driver for "
        "ivshmem devices (/dev/ivshmem0), or the file that backs the region; `ivshmem info --all` "
        "lists the devices of this machine",
        name, *subsystem ? " of the subsystem " : "", subsystem);
    return NULL;
}

int ivshm_device_measure(const struct ivshm_device_kind *kind, dev_t number, int fd,
                         const char *name, struct ivshm_device_memory *memory,
                         struct ivshm_diag *diag)
{
    char folder[512];
    find_folder(number, folder, sizeof(folder));
    struct ivshm_device_memory found = measure(kind, folder, fd);
    if (found.size == 0)
        return ivshm_diag_fail(diag, ENODEV, "%s (%s) %s", name, kind->name, found.why);
    *memory = found;
    return 0;
}
