/* SPDX-License-Identifier: mpich2 */
/*
 * ivshmem format: makes a file or a device a region. What was there is changed by --force only.
 */
#include "ivshmem_tool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * Makes the file with `size` bytes, or fills an empty one. Its memory is taken at once: a full
 * /dev/shm is an error here, and not a SIGBUS in some rank later.
 */
static int create(const char *path, uint64_t size, bool *created)
{
    struct ivshm_geometry geo;
    struct ivshm_diag diag;
    struct stat st;
    if (ivshm_geometry(size, &geo, &diag) != 0)
        return tool_error("--size %llu: %s", (unsigned long long) size, diag.text);

    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    *created = fd >= 0;
    if (fd < 0 && errno == EEXIST)
        fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return tool_error("cannot create %s: %s", path, strerror(errno));

    int status = TOOL_OK, err = fstat(fd, &st) == 0 ? 0 : errno;
    if (err)
        status = tool_error("cannot stat %s: %s", path, strerror(err));
    else if (!S_ISREG(st.st_mode))
        status = tool_error("%s is not a regular file: --size makes files; leave it out", path);
    else if (st.st_size == 0) {
        err = posix_fallocate(fd, 0, (off_t) size);
        if (err)
            status = tool_error("cannot give %s its %s: %s%s", path, tool_size(size), strerror(err),
                                err == ENOSPC ? ": free some of that file system, or make it larger"
                                              : "");
        if (err && *created)
            unlink(path);
        else if (err && ftruncate(fd, 0) != 0)
            tool_warn("%s may have a part of its memory", path);
    } else if ((uint64_t) st.st_size != size)
        status =
            tool_error("%s is there already and has %s, not %s: leave --size out to format it as "
                       "it is, or remove it first",
                       path, tool_size((uint64_t) st.st_size), tool_size(size));
    close(fd);
    if (status == TOOL_OK && size & (size - 1))
        tool_warn(
            "%s is not a power of two: processes can share it, but QEMU will not make it the BAR "
            "of a device",
            tool_size(size));
    return status;
}

/* Lists who is on the region, dead ones excepted; returns their number. */
static int list_users(const struct ivshm_region *region)
{
    struct tool_entry *list;
    struct ivshm_diag diag;
    int users = 0, n = tool_entries(region, &list, &diag);
    if (n < 0) {
        tool_warn("%s", diag.text);
        return 0;
    }
    for (int i = 0; i < n; i++) {
        if (list[i].verdict == IVSHM_PROVED_DEAD)
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
    int users = 0;
    if (ivshm_region_inspect(name, &before, NULL) == 0) {
        users = list_users(&before);
        ivshm_region_close(&before);
    }
    int err = ivshm_region_format(map, diag);
    if (users && !err)
        tool_warn("region %s was in use by the %d above: they have lost it now", name, users);
    return err;
}

/* 0 or -errno; the region is open then, and *was says what had been there. */
static int format(const char *name, bool force, struct ivshm_region *region, enum ivshm_found *was,
                  struct ivshm_diag *diag)
{
    struct ivshm_map map;
    int err = ivshm_map_open(name, false, &map, diag);
    if (err)
        return err;
    *was = ivshm_region_probe(&map, NULL);
    if (force)
        err = format_anew(name, &map, diag);
    ivshm_map_close(&map);
    return err ? err : ivshm_region_open(name, region, diag);
}

/* The first device that is a region or can become one; --force asks for more than a guess. */
static int format_first_device(bool force, struct ivshm_region *region, enum ivshm_found *was,
                               struct ivshm_diag *diag)
{
    struct ivshm_device devices[16];
    struct ivshm_diag why;
    int n = ivshm_map_devices(devices, 16), err = -ENODEV;
    if (force && n > 1)
        return ivshm_fail(diag, EINVAL,
                          "%d ivshmem devices are here: name the one to format anew; `ivshmem info "
                          "--all` lists them",
                          n);
    if (n == 0)
        return ivshm_region_inspect(NULL, region, diag);
    for (int i = 0; i < n && i < 16 && err; i++) {
        int this_err = format(devices[i].address, force, region, was, &why);
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
    enum ivshm_found was = IVSHM_FOUND_UNFORMATTED;
    bool created = false;
    if (opt->size) {
        if (strchr(opt->region, ':') && !strchr(opt->region, '/'))
            return tool_error("--size makes files; %s has the size that QEMU gave it", opt->region);
        int status = create(opt->region, opt->size, &created);
        if (status)
            return status;
    }
    int err = opt->region ? format(opt->region, opt->force, &region, &was, &diag)
                          : format_first_device(opt->force, &region, &was, &diag);
    if (err) {
        if (created)
            unlink(opt->region);
        return tool_error("%s", diag.text);
    }
    if (was == IVSHM_FOUND_REGION && !opt->force) {
        int users = list_users(&region);
        printf("%s is already a region, id %s, in use by %d: nothing changed\n", region.map.name,
               tool_id(&region), users);
    } else
        printf("%s %s, %s, room for %llu ranks, id %s\n", created ? "created" : "formatted",
               region.map.name, tool_size(region.geo.size), (unsigned long long) tool_room(&region),
               tool_id(&region));
    ivshm_region_close(&region);
    return TOOL_OK;
}
