/* SPDX-License-Identifier: mpich2 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_PATH */
#endif
#include "map.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define IVSHMEM_VENDOR 0x1af4
#define IVSHMEM_DEVICE 0x1110

__attribute__((weak)) const char *ivshm_map_sysfs(void)
{
    return "/sys/bus/pci/devices";
}

static unsigned read_hex(const char *address, const char *attribute)
{
    char path[600], text[32] = "";
    snprintf(path, sizeof(path), "%s/%s/%s", ivshm_map_sysfs(), address, attribute);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    if (read(fd, text, sizeof(text) - 1) < 0)
        text[0] = 0;
    close(fd);
    return (unsigned) strtoul(text, NULL, 16);
}

static bool is_ivshmem(const char *address)
{
    return read_hex(address, "vendor") == IVSHMEM_VENDOR &&
           read_hex(address, "device") == IVSHMEM_DEVICE;
}

static int not_hidden(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

int ivshm_map_devices(struct ivshm_device *devices, int max)
{
    struct dirent **entries;
    int total = 0, n = scandir(ivshm_map_sysfs(), &entries, not_hidden, alphasort);
    for (int i = 0; i < n; i++) {
        const char *address = entries[i]->d_name;
        if (strlen(address) < sizeof(devices->address) && is_ivshmem(address)) {
            if (total < max) {
                struct ivshm_device *dev = &devices[total];
                struct stat st;
                snprintf(dev->address, sizeof(dev->address), "%.31s", address);
                snprintf(dev->path, sizeof(dev->path), "%s/%s/" IVSHM_MAP_BAR, ivshm_map_sysfs(),
                         address);
                dev->size = stat(dev->path, &st) == 0 ? (uint64_t) st.st_size : 0;
            }
            total++;
        }
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    return total;
}

/* A PCI address as sysfs writes it: domain:bus:device.function */
static bool is_pci_address(const char *name)
{
    unsigned domain, bus, device, function;
    char rest;
    return sscanf(name, "%x:%x:%x.%x%c", &domain, &bus, &device, &function, &rest) == 4;
}

static int find_path(const char *name, struct ivshm_map *map, struct ivshm_diag *diag)
{
    if (strlen(name) >= sizeof(map->name))
        return ivshm_diag_fail(
            diag, ENAMETOOLONG,
            "the region's name has %zu bytes, at most %zu are possible: use a relative path "
            "or a symbolic link; it begins with %.60s",
            strlen(name), sizeof(map->name) - 1, name);
    snprintf(map->name, sizeof(map->name), "%s", name);
    if (!is_pci_address(name)) {
        snprintf(map->path, sizeof(map->path), "%s", name);
        map->is_device = false;
        return 0;
    }
    snprintf(map->path, sizeof(map->path), "%s/%s", ivshm_map_sysfs(), name);
    if (access(map->path, F_OK) != 0)
        return ivshm_diag_fail(diag, ENOENT,
                               "there is no PCI device %s here: `lspci -nn -d 1af4:1110` lists the "
                               "ivshmem devices of this machine",
                               name);
    if (!is_ivshmem(name))
        return ivshm_diag_fail(
            diag, ENODEV,
            "PCI device %s is %04x:%04x, not an ivshmem device (1af4:1110): `lspci "
            "-nn -d 1af4:1110` lists the ivshmem devices of this machine",
            name, read_hex(name, "vendor"), read_hex(name, "device"));
    snprintf(map->path, sizeof(map->path), "%s/%s/" IVSHM_MAP_BAR, ivshm_map_sysfs(), name);
    map->is_device = true;
    return 0;
}

#define PCI_COMMAND 4 /* offset in the configuration space */
#define PCI_COMMAND_MEMORY 2

/*
 * A device that no driver has touched may not answer yet: some firmware leaves its memory disabled,
 * and reads then return all ones. Enables it, for which one must be root.
 */
static int enable_memory(const char *address, struct ivshm_diag *diag)
{
    char path[600];
    unsigned char command[2] = {PCI_COMMAND_MEMORY};
    snprintf(path, sizeof(path), "%s/%s/config", ivshm_map_sysfs(), address);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || pread(fd, command, sizeof(command), PCI_COMMAND) < 1)
        command[0] = PCI_COMMAND_MEMORY; /* unknown: the contents will tell */
    if (fd >= 0)
        close(fd);
    if (command[0] & PCI_COMMAND_MEMORY)
        return 0;
    snprintf(path, sizeof(path), "%s/%s/enable", ivshm_map_sysfs(), address);
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

/*
 * Reads the symbolic link `name`. A link may be a trap if somebody who is neither this user nor the
 * directory's owner made it, in a directory where everyone may create files but only their owners
 * may remove them. Linux has the same rule, but it is not enabled everywhere. Returns the length of
 * the target, 0 if there is no link (any more), or a negative errno, -ELOOP if it may be a trap.
 */
static ssize_t read_link(int folder, const char *name, char *target, size_t size, bool *is_procs)
{
    struct stat link, in;
    struct statfs fs;
    ssize_t len = 0;
    int fd = openat(folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &link) != 0 || fstat(folder, &in) != 0 || fstatfs(fd, &fs) != 0) {
        len = -errno;
    } else if (S_ISLNK(link.st_mode)) {
        bool is_public = in.st_mode & S_ISVTX && in.st_mode & S_IWOTH;
        *is_procs = fs.f_type == PROC_SUPER_MAGIC;
        if (is_public && link.st_uid != geteuid() && link.st_uid != in.st_uid)
            len = -ELOOP;
        else if ((len = readlinkat(fd, "", target, size)) < 0)
            len = -errno;
    }
    close(fd);
    return len;
}

/*
 * Opens a name without directories in it. For anything but a file, a directory or a link it returns
 * a descriptor for inspection only: opening a device or a pipe can have an effect.
 */
static int open_name(int folder, const char *name, int flags)
{
    struct stat st;
    int fd = openat(folder, name, flags | O_PATH);
    if (fd < 0 || flags & O_PATH)
        return fd;
    if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode) && !S_ISLNK(st.st_mode))
        return fd;
    close(fd);
    return openat(folder, name, flags);
}

/*
 * One step along `rest`, which begins in `folder`: into the next directory, to the target of a
 * link, or to the end, *fd. Returns 0 or a negative errno, -ELOOP if a link may be a trap. The text
 * of a link in /proc need not name anything that can be opened, so the kernel follows that one.
 */
static int walk_step(int *folder, char rest[PATH_MAX], int flags, int *fd)
{
    char name[NAME_MAX + 1], target[PATH_MAX];
    size_t len = *rest == '/' ? 1 : strcspn(rest, "/");
    const char *behind = rest + len + strspn(rest + len, "/");
    bool is_last = !*behind, is_procs = false;
    int how = (is_last ? flags : O_PATH | O_DIRECTORY) | O_CLOEXEC;
    if (len > NAME_MAX)
        return -ENAMETOOLONG;
    snprintf(name, sizeof(name), "%.*s", (int) len, rest);

    int next = open_name(*folder, name, how | O_NOFOLLOW);
    if (next < 0 && errno == (is_last ? ELOOP : ENOTDIR)) {
        ssize_t n = read_link(*folder, name, target, sizeof(target), &is_procs);
        if (n < 0 || (n == 0 && !is_last))
            return n < 0 ? (int) n : -ENOTDIR;
        if (!is_procs) {
            if (n == 0) /* it was one a moment ago: try again */
                return 0;
            size_t room = sizeof(target) - (size_t) n;
            if ((size_t) snprintf(target + n, room, "%s%s", is_last ? "" : "/", behind) >= room)
                return -ENAMETOOLONG;
            memcpy(rest, target, strlen(target) + 1);
            return 0;
        }
        next = open_name(*folder, name, how);
    }
    if (next < 0)
        return -errno;
    if (is_last) {
        *fd = next;
        return 0;
    }
    close(*folder);
    *folder = next;
    memmove(rest, behind, strlen(behind) + 1);
    return 0;
}

#define STEPS_MAX 256 /* names, links, and times that a name changed meanwhile */

/*
 * Opens what `path` names. Follows the path here and not in the kernel, so the links that are
 * followed are those that were checked, and not what somebody has put in their place since.
 * *is_trap tells that a link was not followed.
 */
static int open_file(const char *path, int flags, bool *is_trap)
{
    char rest[PATH_MAX];
    int fd = -1, err = 0;
    int folder = open(*path == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    *is_trap = false;
    if (folder < 0)
        return -errno;
    snprintf(rest, sizeof(rest), "%s", path);
    for (int steps = 0; !err && fd < 0 && steps < STEPS_MAX; steps++)
        err = walk_step(&folder, rest, flags, &fd);
    close(folder);
    *is_trap = err == -ELOOP;
    return err ? err : fd >= 0 ? fd : -ELOOP;
}

static int report_trap(const char *name, struct ivshm_diag *diag)
{
    return ivshm_diag_fail(
        diag, EACCES,
        "%s is a symbolic link that another user made in a directory that everyone can "
        "write to, or leads to such a link, and was not followed: name the file itself",
        name);
}

int ivshm_map_open_folder(const char *path, const char **name, struct ivshm_diag *diag)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    bool is_trap;

    *name = slash ? slash + 1 : path;
    int len = slash ? (int) (*name - path) : 0;
    /* With the dot behind it, the last directory's name is followed like those before it. */
    if (len + 2 > PATH_MAX)
        return ivshm_diag_fail(diag, ENAMETOOLONG, "cannot open its directory: %s",
                               strerror(ENAMETOOLONG));
    snprintf(folder, sizeof(folder), "%.*s.", len, path);
    int fd = open_file(folder, O_PATH | O_DIRECTORY, &is_trap);
    if (fd >= 0)
        return fd;
    return is_trap ? report_trap(path, diag)
                   : ivshm_diag_fail(diag, -fd, "cannot open its directory: %s", strerror(-fd));
}

/* Does not wait for the other end, should somebody have put a pipe there. */
static int open_flags(const struct ivshm_map *map)
{
    return (map->readonly ? O_RDONLY : O_RDWR) | O_NONBLOCK | O_NOCTTY;
}

/*
 * A relative path would lead elsewhere after a chdir. If the working directory cannot be told, it
 * stays as it is, and the file is not found again.
 */
static void make_absolute(struct ivshm_map *map)
{
    char whole[2 * PATH_MAX];
    if (*map->path == '/' || !getcwd(whole, PATH_MAX) || *whole != '/')
        return;
    size_t len = strlen(whole);
    snprintf(whole + len, sizeof(whole) - len, "/%s", map->path);
    if (strlen(whole) < sizeof(map->path))
        memcpy(map->path, whole, strlen(whole) + 1);
}

uint64_t ivshm_map_file_id(const struct ivshm_map *map)
{
    return map->is_device ? 0 : map->file_system * UINT64_C(0x9e3779b97f4a7c15) ^ map->id;
}

int ivshm_map_open(const char *name, bool readonly, struct ivshm_map *map, struct ivshm_diag *diag)
{
    struct ivshm_map result = {.readonly = readonly};
    struct stat st;
    int err = find_path(name, &result, diag);
    if (!err && result.is_device)
        err = enable_memory(name, diag);
    if (err)
        return err;

    bool is_trap;
    char target[256];
    int fd = open_file(result.path, open_flags(&result), &is_trap);
    if (fd < 0) {
        err = -fd;
        if (is_trap)
            return report_trap(name, diag);
        if (err == EACCES || err == EPERM)
            return ivshm_diag_fail(
                diag, EACCES,
                "no permission to open %s: run as root, or give this user access "
                "(chown or a udev rule; README, \"Permissions\")",
                result.path);
        if (err == ENOENT && result.is_device)
            return ivshm_diag_fail(
                diag, ENODEV,
                "ivshmem device %s has no memory BAR (%s is missing): start QEMU with "
                "-device ivshmem-plain,memdev=... and a memory backend",
                name, result.path);
        ssize_t len = err == ENOENT ? readlink(result.path, target, sizeof(target)) : -1;
        if (len >= 0)
            return ivshm_diag_fail(
                diag, ENOENT,
                "%s is a symbolic link to %.*s, which does not exist: remove the "
                "link, or create that file",
                name, (int) len, target);
        if (err == ENOENT)
            return ivshm_diag_fail(diag, ENOENT,
                                   "region file %s does not exist: `ivshmem format --size 64M %s` "
                                   "creates it",
                                   name, name);
        return ivshm_diag_fail(diag, err, "cannot open %s: %s", result.path, strerror(err));
    }
    if (fstat(fd, &st) != 0) {
        err = ivshm_diag_fail(diag, errno, "cannot stat %s: %s", result.path, strerror(errno));
        goto close_fd;
    }
    if (!S_ISREG(st.st_mode)) {
        err = ivshm_diag_fail(diag, EINVAL,
                              "%s is not a regular file or an ivshmem device: name the file that "
                              "backs the region, or a PCI address such as 0000:00:04.0",
                              name);
        goto close_fd;
    }
    struct statfs fs = {0};
    if (fstatfs(fd, &fs) != 0) {
        err = ivshm_diag_fail(diag, errno, "cannot stat the file system of %s: %s", result.path,
                              strerror(errno));
        goto close_fd;
    }
    /* A BAR opened by its path in sysfs, or by a link to it, is a device as well. */
    result.is_device = result.is_device || fs.f_type == SYSFS_MAGIC;
    result.is_memory = fs.f_type == TMPFS_MAGIC || fs.f_type == HUGETLBFS_MAGIC;
    result.page = (uint64_t) (fs.f_type == HUGETLBFS_MAGIC ? fs.f_bsize : sysconf(_SC_PAGESIZE));
    result.size = (uint64_t) st.st_size;
    if (result.size == 0) {
        err = ivshm_diag_fail(diag, EINVAL, "%s is empty: run `ivshmem format --size 64M %s`", name,
                              name);
        goto close_fd;
    }
    result.base =
        mmap(NULL, result.size, PROT_READ | (readonly ? 0 : PROT_WRITE), MAP_SHARED, fd, 0);
    if (result.base == MAP_FAILED) {
        err = ivshm_diag_fail(diag, errno, "cannot map %s (%llu bytes): %s%s", result.path,
                              (unsigned long long) result.size, strerror(errno),
                              errno == ENOMEM
                                  ? ": raise this process' limit of address space (ulimit "
                                    "-v); for a file in hugetlbfs, give the system more huge "
                                    "pages (sysctl vm.nr_hugepages)"
                                  : "");
        goto close_fd;
    }
    make_absolute(&result);
    result.file_system = st.st_dev;
    result.id = st.st_ino;
    result.sparse = !result.is_device && (uint64_t) st.st_blocks * 512 < result.size;
    *map = result;
    err = 0;
close_fd:
    close(fd);
    return err;
}

int ivshm_map_reopen(const struct ivshm_map *map)
{
    bool is_trap;
    struct stat st;
    int fd = open_file(map->path, open_flags(map), &is_trap);

    if (fd < 0)
        return fd;
    int err = fstat(fd, &st) != 0 ? -errno
              : st.st_dev != map->file_system || st.st_ino != map->id ||
                      (uint64_t) st.st_size != map->size
                  ? -ESTALE
                  : 0;
    if (err)
        close(fd);
    return err ? err : fd;
}

void ivshm_map_close(struct ivshm_map *map)
{
    if (map->base)
        munmap(map->base, map->size);
    map->base = NULL;
}

const char *ivshm_map_kind(const struct ivshm_map *map)
{
    if (map->is_device)
        return "BAR";
    if (!map->is_memory)
        return "file";
    return map->page == (uint64_t) sysconf(_SC_PAGESIZE) ? "tmpfs" : "hugetlbfs";
}
