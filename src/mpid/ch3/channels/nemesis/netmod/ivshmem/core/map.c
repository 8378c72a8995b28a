/* SPDX-License-Identifier: mpich2 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_PATH */
#endif
#include "map.h"

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

static int find_path(const char *name, struct ivshm_map *map, struct ivshm_diag *diag)
{
    if (strlen(name) >= sizeof(map->name))
        return ivshm_diag_fail(
            diag, ENAMETOOLONG,
            "the region's name has %zu bytes, at most %zu are possible: use a relative path "
            "or a symbolic link; it begins with %.60s",
            strlen(name), sizeof(map->name) - 1, name);
    snprintf(map->name, sizeof(map->name), "%s", name);
    map->is_device = ivshm_device_is_address(name);
    if (map->is_device)
        return ivshm_device_find_bar(name, map->path, sizeof(map->path), diag);
    snprintf(map->path, sizeof(map->path), "%s", name);
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
 * Opens a name without directories in it. For anything but a file or a directory it returns a
 * descriptor for inspection only: opening a device or a pipe can have an effect. ELOOP for a link.
 */
static int open_name(int folder, const char *name, int flags)
{
    struct stat st;
    int fd = openat(folder, name, flags | O_PATH);
    if (fd < 0 || flags & O_DIRECTORY)
        return fd;
    int err = fstat(fd, &st) != 0 ? errno : S_ISLNK(st.st_mode) ? ELOOP : 0;
    if (!err && (flags & O_PATH || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))))
        return fd;
    close(fd);
    errno = err;
    return err ? -1 : openat(folder, name, flags);
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

/* Opens the character device for whose inspection `seen` was opened. */
static int open_device(int seen, const struct ivshm_map *map)
{
    char link[32];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", seen);
    int fd = open(link, open_flags(map) | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* Why the map's file, which is of that kind or of none, could not be opened. */
static int explain_open(const struct ivshm_map *map, const struct ivshm_device_kind *kind, int err,
                        struct ivshm_diag *diag)
{
    char target[256];
    struct stat found;
    if (err == EACCES && stat(map->path, &found) == 0 && found.st_gid != 0 &&
        (found.st_mode & 060) == 060 && !group_member(found.st_gid))
        return ivshm_diag_fail(diag, EACCES,
                               "no permission to open %s: this process is not in its group, which "
                               "has the ID %u (`getent group %u`): add this user by usermod -aG, "
                               "and log in again",
                               map->path, found.st_gid, found.st_gid);
    if (err == EACCES || err == EPERM)
        return ivshm_diag_fail(diag, EACCES, "no permission to open %s: run as root, or %s",
                               map->path, ivshm_device_access(kind));
    if (err == ENOENT && map->is_device)
        return ivshm_diag_fail(diag, ENODEV,
                               "ivshmem device %s has no memory BAR (%s is missing): start QEMU "
                               "with -device ivshmem-plain,memdev=... and a memory backend",
                               map->name, map->path);
    ssize_t len = err == ENOENT ? readlink(map->path, target, sizeof(target)) : -1;
    if (len >= 0)
        return ivshm_diag_fail(diag, ENOENT,
                               "%s is a symbolic link to %.*s, which does not exist: remove the "
                               "link, or create that file",
                               map->name, (int) len, target);
    if (err == ENOENT)
        return ivshm_diag_fail(diag, ENOENT,
                               "region file %s does not exist: `ivshmem format --size 64M %s` "
                               "creates it",
                               map->name, map->name);
    return ivshm_diag_fail(diag, err, "cannot open %s: %s", map->path, strerror(err));
}

/*
 * Opens the map's path, which is changed to the driver's node if it leads to the BAR of a device
 * that the driver has. Returns a descriptor; -errno is explained.
 */
static int open_path(struct ivshm_map *map, struct ivshm_diag *diag)
{
    bool is_trap;
    int fd = open_file(map->path, O_PATH, &is_trap); /* the BAR may be root's, the node not */
    if (fd >= 0) {
        int err = ivshm_device_find_node(fd, map->path, sizeof(map->path), diag);
        close(fd);
        if (err)
            return err;
        fd = open_file(map->path, open_flags(map), &is_trap);
    }
    if (fd < 0)
        return is_trap ? report_trap(map->name, diag) : explain_open(map, NULL, -fd, diag);
    return fd;
}

/* Opens the map's file, *fd, and tells what it is, *st; -errno is explained. */
static int open_memory(struct ivshm_map *map, int *fd, struct stat *st,
                       const struct ivshm_device_kind **kind, struct ivshm_diag *diag)
{
    int err = 0, found = open_path(map, diag);
    if (found < 0)
        return found;
    if (fstat(found, st) != 0) {
        err = ivshm_diag_fail(diag, errno, "cannot stat %s: %s", map->path, strerror(errno));
    } else if (S_ISCHR(st->st_mode)) {
        *kind = ivshm_device_kind(st->st_rdev, map->name, diag);
        int seen = found;
        found = *kind ? open_device(seen, map) : -EINVAL;
        err = *kind && found < 0 ? explain_open(map, *kind, -found, diag) : found < 0 ? found : 0;
        close(seen);
    } else if (!S_ISREG(st->st_mode)) {
        err = ivshm_diag_fail(diag, EINVAL,
                              "%s is not a regular file and not a device: name the file that backs "
                              "the region, a PCI address such as 0000:00:04.0, or a character "
                              "device such as /dev/dax0.0",
                              map->name);
    }
    if (!err)
        *fd = found;
    else if (found >= 0)
        close(found);
    return err;
}

/* `peer` is -1 if nobody can ring. */
static void set_bell(struct ivshm_map *map, int32_t peer)
{
    map->has_bell = peer >= 0;
    map->peer = map->has_bell ? (uint32_t) peer : 0;
}

/* Regular files, by their file system. */
static const struct {
    long file_system;
    const char *name;
    bool is_device, is_memory;
} file_kinds[] = {
    {SYSFS_MAGIC, "BAR", true, false}, /* also by its path, or by a link to it */
    {TMPFS_MAGIC, "tmpfs", false, true},
    {HUGETLBFS_MAGIC, "hugetlbfs", false, true},
};

static bool is_memfd(int fd)
{
    char link[32], target[8];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    return readlink(link, target, sizeof(target)) >= 7 && memcmp(target, "/memfd:", 7) == 0;
}

static int measure_file(int fd, const struct stat *st, struct ivshm_map *map,
                        struct ivshm_diag *diag)
{
    struct statfs fs = {0};
    if (fstatfs(fd, &fs) != 0)
        return ivshm_diag_fail(diag, errno, "cannot stat the file system of %s: %s", map->path,
                               strerror(errno));
    map->kind = "file";
    for (size_t i = 0; i < sizeof(file_kinds) / sizeof(file_kinds[0]); i++) {
        if (fs.f_type == file_kinds[i].file_system) {
            map->kind = file_kinds[i].name;
            map->is_device |= file_kinds[i].is_device;
            map->is_memory = file_kinds[i].is_memory;
        }
    }
    if (map->is_device)
        set_bell(map, ivshm_device_peer(fd));
    bool is_huge = fs.f_type == HUGETLBFS_MAGIC;
    if (fs.f_type == TMPFS_MAGIC && is_memfd(fd))
        map->kind = "memfd";
    map->page = (uint64_t) (is_huge ? fs.f_bsize : sysconf(_SC_PAGESIZE));
    map->size = (uint64_t) st->st_size;
    /* Huge pages are set aside when the file is mapped. */
    map->sparse = !map->is_device && !is_huge && (uint64_t) st->st_blocks * 512 < map->size;
    return map->size
               ? 0
               : ivshm_diag_fail(diag, EINVAL, "%s is empty: run `ivshmem format --size 64M %s`",
                                 map->name, map->name);
}

static int measure_device(const struct ivshm_device_kind *kind, int fd, const struct stat *st,
                          struct ivshm_map *map, struct ivshm_diag *diag)
{
    struct ivshm_device_memory memory;
    int err = ivshm_device_measure(kind, st->st_rdev, fd, map->name, &memory, diag);
    if (err)
        return err;
    map->is_device = true;
    map->kind = memory.kind;
    map->size = memory.size;
    map->offset = memory.offset;
    map->page = memory.page;
    map->cache = memory.cache;
    set_bell(map, memory.peer);
    return 0;
}

void *ivshm_map_again(const struct ivshm_map *map, int fd)
{
    return mmap(NULL, map->size, PROT_READ | (map->readonly ? 0 : PROT_WRITE), MAP_SHARED, fd,
                (off_t) map->offset);
}

static int map_memory(struct ivshm_map *map, int fd, struct ivshm_diag *diag)
{
    map->base = ivshm_map_again(map, fd);
    if (map->base != MAP_FAILED)
        return 0;
    const char *advice = errno != ENOMEM ? ""
                         : strcmp(map->kind, "hugetlbfs") == 0
                             ? ": give the system more huge pages (sysctl vm.nr_hugepages)"
                             : ": raise this process' limit of address space (ulimit -v)";
    return ivshm_diag_fail(diag, errno, "cannot map %s (%s, %llu bytes): %s%s", map->path,
                           map->kind, (unsigned long long) map->size, strerror(errno), advice);
}

int ivshm_map_open(const char *name, bool readonly, struct ivshm_map *map, struct ivshm_diag *diag)
{
    struct ivshm_map result = {.readonly = readonly};
    const struct ivshm_device_kind *kind = NULL;
    struct stat st;
    int fd = -1, err = find_path(name, &result, diag);
    if (!err)
        err = open_memory(&result, &fd, &st, &kind, diag);
    if (err)
        return err;
    err =
        kind ? measure_device(kind, fd, &st, &result, diag) : measure_file(fd, &st, &result, diag);
    if (!err)
        err = map_memory(&result, fd, diag);
    if (!err) {
        make_absolute(&result);
        result.file_system = st.st_dev;
        result.id = st.st_ino;
        *map = result;
    }
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
                      (S_ISREG(st.st_mode) && (uint64_t) st.st_size != map->size)
                  ? -ESTALE
                  : 0;
    if (!err && S_ISCHR(st.st_mode)) {
        int seen = fd;
        fd = open_device(seen, map);
        close(seen);
        return fd;
    }
    if (err)
        close(fd);
    return err ? err : fd;
}

int ivshm_map_view_open(const struct ivshm_map *map, uint64_t off, uint64_t bytes,
                        struct ivshm_map_view *view, struct ivshm_diag *diag)
{
    uint64_t begin = off / map->page * map->page;
    uint64_t end = (off + bytes + map->page - 1) / map->page * map->page;
    int fd = ivshm_map_reopen(map), err = fd < 0 ? -fd : 0;
    void *base = MAP_FAILED;
    if (!err) {
        base = mmap(NULL, end - begin, PROT_READ, MAP_SHARED, fd, (off_t) (map->offset + begin));
        err = base == MAP_FAILED ? errno : 0;
        close(fd);
    }
    if (err)
        return ivshm_diag_fail(diag, err, "cannot map a part of %s once more, for reading only: %s",
                               map->name, strerror(err));
    *view = (struct ivshm_map_view){(char *) base + (off - begin), base, end - begin};
    return 0;
}

void ivshm_map_view_close(struct ivshm_map_view *view)
{
    if (view->base)
        munmap(view->base, view->size);
    *view = (struct ivshm_map_view){0};
}

void ivshm_map_close(struct ivshm_map *map)
{
    if (map->base)
        munmap(map->base, map->size);
    map->base = NULL;
}
