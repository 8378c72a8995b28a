/* SPDX-License-Identifier: mpich2 */
/*
 * ivshmem format: makes a file or a device a region. What was there is changed by --force only.
 */
#define _GNU_SOURCE
#include "ivshmem_tool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * All memory of the file, its contents as they are; 0 or -errno. Where the file system cannot do
 * that, the file has its size, and memory as it is touched.
 */
static int allocate_file(int fd, uint64_t size)
{
    int err;
    do
        err = fallocate(fd, 0, 0, (off_t) size) == 0 ? 0 : errno;
    while (err == EINTR);
    if (err == EOPNOTSUPP || err == ENOSYS) {
        struct stat st;
        err = fstat(fd, &st) == 0 && ((uint64_t) st.st_size >= size || !ftruncate(fd, (off_t) size))
                  ? 0
                  : errno;
    }
    return -err;
}

static int tell_no_memory(const char *path, uint64_t size, int err)
{
    return tool_error("cannot allocate %s for %s: %s%s", tool_exact_size(size), path,
                      strerror(-err),
                      err == -ENOSPC  ? ": free space on its file system, or enlarge it"
                      : err == -EFBIG ? ": raise the limit on file sizes (ulimit -f), or use a "
                                        "file system that supports files of this size"
                                      : "");
}

/* The path of an open file that leads to it whatever becomes of its name. */
static const char *path_of(int fd)
{
    static char path[32];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return path;
}

/*
 * A new file, which has its name only once it has its memory: whoever finds it finds all of it, and
 * an interrupt leaves nothing. -EEXIST if there is anything of that name, also a link to nowhere.
 */
static int create_whole(int folder, const char *name, uint64_t size)
{
    struct stat st;
    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return -EEXIST;
    int fd = openat(folder, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int err = allocate_file(fd, size);
    if (!err && linkat(AT_FDCWD, path_of(fd), folder, name, AT_SYMLINK_FOLLOW) != 0)
        err = errno == EEXIST ? -EEXIST : -EOPNOTSUPP;
    close(fd);
    return err;
}

/* The same where file systems, or a missing /proc, do not let a file get its name later. */
static int create_empty(int folder, const char *name, uint64_t size)
{
    int fd = openat(folder, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int err = allocate_file(fd, size);
    if (err)
        unlinkat(folder, name, 0);
    close(fd);
    return err;
}

/*
 * A file that is there already, which --size takes for the one that it would make. So it must be as
 * if this user had just made it: in /dev/shm anybody can put a file, or a link, in its place.
 */
static int use_existing(const char *path, int folder, const char *name, uint64_t size)
{
    struct stat st;
    /* Of some devices the mere opening has an effect. */
    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode) &&
        !S_ISLNK(st.st_mode) && !S_ISDIR(st.st_mode))
        return tool_error("%s is not a regular file, and --size creates files: leave --size out",
                          path);
    int fd = openat(folder, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 && errno == ELOOP)
        return tool_error("%s is a symbolic link, which --size does not follow: name the file "
                          "itself, or remove the link",
                          path);
    if (fd < 0)
        return tool_error("cannot create %s: it already exists and cannot be opened: %s", path,
                          strerror(errno));

    int status = TOOL_OK, err = fstat(fd, &st) == 0 ? 0 : -errno;
    if (err)
        status = tool_error("cannot stat %s: %s", path, strerror(-err));
    else if (!S_ISREG(st.st_mode))
        status = tool_error("%s is not a regular file, and --size creates files: leave --size out",
                            path);
    else if (st.st_uid != geteuid())
        status = tool_error("%s already exists and belongs to %s, who can read and change all data "
                            "in it: remove it or choose another name; if that user should own the "
                            "region, leave --size out",
                            path, tool_user(st.st_uid));
    else if (st.st_nlink != 1)
        status = tool_error("%s already exists and has %lu names (hard links): remove it or choose "
                            "another name",
                            path, (unsigned long) st.st_nlink);
    else if (st.st_size != 0 && (uint64_t) st.st_size != size)
        status =
            tool_error("%s already exists and has %s, not %s: leave --size out to format it as "
                       "it is, or remove it first",
                       path, tool_exact_size((uint64_t) st.st_size), tool_exact_size(size));
    else if (st.st_size == 0 && (err = allocate_file(fd, size)) != 0) {
        if (ftruncate(fd, 0) != 0)
            tool_warn("%s may keep part of the memory allocated for it", path);
        status = tell_no_memory(path, size, err);
    }
    close(fd);
    return status;
}

/* `path` is `name` in `folder`. */
static int create_file(const char *path, int folder, const char *name, uint64_t size, bool *created)
{
    struct ivshm_geometry geo;
    struct ivshm_diag diag;
    if (ivshm_geometry_compute(size, &geo, &diag) != 0)
        return tool_error("--size %llu: %s", (unsigned long long) size, diag.text);

    int status = TOOL_OK, err = create_whole(folder, name, size);
    if (err == -EOPNOTSUPP || err == -EISDIR || err == -EINVAL)
        err = create_empty(folder, name, size);
    *created = err == 0;
    if (err == -EEXIST)
        status = use_existing(path, folder, name, size);
    else if (err == -ENOSPC || err == -EFBIG)
        status = tell_no_memory(path, size, err);
    else if (err)
        status = tool_error("cannot create %s: %s", path, strerror(-err));
    if (status == TOOL_OK && size & (size - 1))
        tool_warn("%s is not a power of two: processes can share it, but QEMU cannot use it as the "
                  "BAR of "
                  "a device",
                  tool_exact_size(size));
    return status;
}

/*
 * All memory of the file that is mapped, if it is sparse; or of a region that somebody may have
 * made by truncate, or QEMU without prealloc=on. Sets *gave if it had not all.
 */
static int allocate_mapped(const struct ivshm_map *map, bool *gave, struct ivshm_diag *diag)
{
    if (!ivshm_map_is_sparse(map))
        return 0;
    int fd = ivshm_map_reopen(map), err = 0;
    if (fd == -ESTALE)
        return ivshm_diag_fail(diag, EAGAIN,
                               "%s was replaced or changed its size in the meantime: try again",
                               ivshm_map_path(map));
    if (fd < 0)
        return ivshm_diag_fail(diag, -fd, "cannot open %s: %s", ivshm_map_path(map), strerror(-fd));
    if (allocate_file(fd, ivshm_map_size(map)) != 0)
        err = ivshm_backing_describe_no_memory(map, diag);
    else
        *gave = true;
    close(fd);
    return err;
}

/* The owner of a region's file can do anything with it, now and later. */
static void warn_of_owner(const struct ivshm_map *map)
{
    struct stat st;
    if (!ivshm_map_is_device(map) && stat(ivshm_map_path(map), &st) == 0 &&
        st.st_uid != geteuid() && st.st_uid != 0)
        tool_warn("%s belongs to %s, who can read and change all data in it", ivshm_map_name(map),
                  tool_user(st.st_uid));
}

/* Lists who is on the region, dead ones excepted; returns their number, or -errno. */
static int list_users(const struct ivshm_region *region, struct ivshm_diag *diag)
{
    struct tool_entry *list;
    int users = 0, n = tool_entries(region, &list, diag);
    if (n < 0)
        return n;
    for (int i = 0; i < n; i++) {
        if (list[i].liveness == IVSHM_LIVENESS_DEAD)
            continue;
        fprintf(stderr, "  %s\n", tool_describe(&list[i]));
        users++;
    }
    free(list);
    return users;
}

static int format_anew(const char *name, struct ivshm_map *map, struct ivshm_diag *diag)
{
    struct ivshm_region before;
    struct ivshm_diag why;
    int users = 0;
    if (ivshm_region_inspect(name, &before, NULL) == 0) {
        users = list_users(&before, &why);
        ivshm_region_close(&before);
    }
    int err = ivshm_region_format(map, diag);
    if (users < 0 && !err)
        tool_warn("region %s may have been in use, and its processes have lost it now: %s", name,
                  why.text);
    if (users > 0 && !err)
        tool_warn("region %s was in use, and the processes above (%d) have lost it now", name,
                  users);
    return err;
}

/* What a format has found and done. */
struct outcome {
    enum ivshm_found was;
    bool gave; /* memory to a file that had not all */
};

/* 0 or -errno; the region is open then. */
static int format_named(const char *name, bool force, struct ivshm_region *region,
                        struct outcome *outcome, struct ivshm_diag *diag)
{
    struct ivshm_map map;
    struct ivshm_geometry geo;
    int err = ivshm_map_open(name, false, &map, diag);
    if (err)
        return err;
    /* What cannot be a region gets no memory. */
    err = ivshm_geometry_compute(ivshm_map_size(&map), &geo, diag);
    if (!err)
        err = ivshm_region_reserve(&map, IVSHM_ACCESS_READ, diag);
    if (!err) {
        outcome->was = ivshm_region_probe(&map, NULL);
        if (outcome->was != IVSHM_FOUND_FOREIGN || force) { /* else it stays as it is */
            warn_of_owner(&map);
            err = allocate_mapped(&map, &outcome->gave, diag);
        }
    }
    if (force && !err)
        err = format_anew(name, &map, diag);
    ivshm_map_close(&map);
    return err ? err : ivshm_region_open(name, region, diag);
}

/*
 * The first ivshmem PCI device that is a region or can become one; what the memory of others is for
 * is unknown. --force asks for more than a guess.
 */
static int format_first_device(bool force, struct ivshm_region *region, struct outcome *outcome,
                               struct ivshm_diag *diag)
{
    enum { MAX = 64 };
    struct ivshm_device devices[MAX];
    struct ivshm_diag why;
    int n = ivshm_device_list(devices, MAX), pci = 0, err = -ENODEV;
    for (int i = 0; i < n && i < MAX; i++)
        if (devices[i].is_pci)
            devices[pci++] = devices[i];
    if (force && pci > 1)
        return ivshm_diag_fail(
            diag, EINVAL,
            "this machine has %d ivshmem devices: name the one to format with --force; "
            "`ivshmem info --all` lists them",
            pci);
    if (pci == 0)
        return ivshm_region_inspect(NULL, region, diag);
    for (int i = 0; i < pci && err; i++) {
        int this_err = format_named(devices[i].name, force, region, outcome, &why);
        if (this_err == 0 || i == 0) {
            *diag = why;
            err = this_err;
        }
    }
    return err;
}

int tool_format(const struct tool_options *opt)
{
    struct ivshm_diag diag = {""};
    struct ivshm_region region;
    struct outcome outcome = {.was = IVSHM_FOUND_UNFORMATTED};
    const char *name = NULL;
    bool created = false;
    int folder = -1;
    if (opt->size) {
        if (strchr(opt->region, ':') && !strchr(opt->region, '/'))
            return tool_error(
                "--size creates files, but %s is a device, whose size QEMU sets: leave --size out",
                opt->region);
        folder = ivshm_map_open_folder(opt->region, &name, &diag);
        if (folder < 0)
            return tool_error("cannot create %s: %s", opt->region, diag.text);
        int status = create_file(opt->region, folder, name, opt->size, &created);
        if (status)
            return status;
    }
    int err = opt->region ? format_named(opt->region, opt->force, &region, &outcome, &diag)
                          : format_first_device(opt->force, &region, &outcome, &diag);
    if (err) {
        if (created)
            unlinkat(folder, name, 0);
        return tool_error("%s", diag.text);
    }
    int status = TOOL_OK;
    if (outcome.was == IVSHM_FOUND_REGION && !opt->force) {
        const char *done = outcome.gave ? "all its memory is allocated now" : "nothing changed";
        int users = list_users(&region, &diag);
        if (users < 0)
            status = tool_error(
                "%s is already a region, id %s, but whether it is in use is unknown: %s; "
                "%s",
                ivshm_region_name(&region), tool_id(&region), done, diag.text);
        else
            printf("%s is already a region, id %s, in use by %d: %s\n", ivshm_region_name(&region),
                   tool_id(&region), users, done);
    } else
        printf("%s %s, %s, room for %llu ranks, id %s\n", created ? "created" : "formatted",
               ivshm_region_name(&region), tool_exact_size(ivshm_region_size(&region)),
               (unsigned long long) tool_room(&region), tool_id(&region));
    ivshm_region_close(&region);
    return status;
}
