/* SPDX-License-Identifier: mpich2 */
#include "backing.h"

#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Linux 5.14; older C libraries do not know them. */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

#define SPARE_LEAVES 8 /* one part in so many of the file system stays free */

/*
 * Has the kernel fault in [start, start+bytes), which are whole pages. Returns a negative errno
 * where a store would raise a signal.
 */
static int fault_in(char *start, uint64_t bytes, bool write)
{
    if (madvise(start, bytes, write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) == 0)
        return 0;
    if (errno != EINVAL)
        return -errno;
    /*
     * Before Linux 5.14. To find the waiters for a word of shared memory, the kernel faults in the
     * word's page, for writing if it may. There are no waiters.
     */
    uint64_t page = (uint64_t) sysconf(_SC_PAGESIZE);
    for (uint64_t off = 0; off < bytes; off += page)
        if (syscall(SYS_futex, start + off, FUTEX_WAKE, 0, NULL, NULL, 0) < 0)
            return -errno;
    return 0;
}

/* The pages of [off, off+bytes) or, if `inside`, those that lie wholly within it. */
static char *page_range(const struct ivshm_map *map, uint64_t off, uint64_t *bytes, bool inside)
{
    uint64_t page = (uint64_t) sysconf(_SC_PAGESIZE), end = off + *bytes;
    off = (inside ? off + page - 1 : off) / page * page;
    end = (inside ? end : end + page - 1) / page * page;
    *bytes = end > off ? end - off : 0;
    return (char *) map->base + off;
}

int ivshm_backing_reserve(const struct ivshm_map *map, uint64_t off, uint64_t bytes,
                          enum ivshm_access access, struct ivshm_diag *diag)
{
    if (!map->sparse)
        return 0;
    char *start = page_range(map, off, &bytes, false);
    int err = fault_in(start, bytes, access == IVSHM_ACCESS_WRITE && !map->readonly);
    if (err == -EFAULT)
        return ivshm_backing_describe_no_memory(map, diag);
    return err ? ivshm_diag_fail(diag, -err, "cannot allocate memory of %s: %s", map->name,
                                 strerror(-err))
               : 0;
}

void ivshm_backing_discard(const struct ivshm_map *map, uint64_t off, uint64_t bytes)
{
    char *start = page_range(map, off, &bytes, true);
    if (map->sparse)
        madvise(start, bytes, MADV_REMOVE); /* if that fails, the file keeps the memory */
}

bool ivshm_backing_can_spare(const struct ivshm_map *map, uint64_t bytes)
{
    struct statfs fs;
    /* That of a memfd has no limit of its own, and says that it has no blocks. */
    if (!map->sparse || statfs(map->path, &fs) != 0 || fs.f_blocks == 0)
        return true;
    uint64_t leave = fs.f_blocks / SPARE_LEAVES;
    return fs.f_bavail > leave && (fs.f_bavail - leave) * (uint64_t) fs.f_bsize >= bytes;
}

/* The file as it is now, if its path still leads to it. */
static bool find_again(const struct ivshm_map *map, struct stat *st)
{
    return stat(map->path, st) == 0 && st->st_dev == map->file_system && st->st_ino == map->id;
}

int ivshm_backing_describe_no_memory(const struct ivshm_map *map, struct ivshm_diag *diag)
{
    struct stat st;
    struct statfs fs;
    bool found = find_again(map, &st);
    if (found && (uint64_t) st.st_size < map->size)
        return ivshm_diag_fail(
            diag, ENOSPC,
            "%s was truncated to %llu KiB while in use, it had %llu KiB: end all "
            "processes that use it, then create it again",
            map->name, (unsigned long long) st.st_size >> 10, (unsigned long long) map->size >> 10);
    if (!found || statfs(map->path, &fs) != 0)
        return ivshm_diag_fail(
            diag, ENOSPC,
            "%s has %llu MiB, but not all of them have memory: its file system is full; "
            "free some of it, or create a smaller region",
            map->name, (unsigned long long) map->size >> 20);
    return ivshm_diag_fail(
        diag, ENOSPC,
        "%s has %llu MiB, but only %llu KiB of them have memory, and of its file system of %llu "
        "MiB only %llu KiB are free: free some more, enlarge it (mount -o remount,size=... for a "
        "tmpfs such as /dev/shm), or create a smaller region; `ivshmem format`, and prealloc=on "
        "in QEMU, allocate all memory of a region at once",
        map->name, (unsigned long long) map->size >> 20, (unsigned long long) st.st_blocks / 2,
        (unsigned long long) (fs.f_blocks * (uint64_t) fs.f_bsize) >> 20,
        (unsigned long long) (fs.f_bavail * (uint64_t) fs.f_bsize) >> 10);
}

/* Builds text without stdio, which a signal handler must not use. */
struct text {
    char *next, *end;
};

static void append_text(struct text *t, const char *words)
{
    while (*words && t->next < t->end)
        *t->next++ = *words++;
}

static void add_number(struct text *t, uint64_t n)
{
    char digits[24], *first = &digits[sizeof(digits) - 1];
    *first = 0;
    do
        *--first = (char) ('0' + n % 10);
    while (n /= 10);
    append_text(t, first);
}

size_t ivshm_backing_describe_fault(const struct ivshm_map *map, const void *base, const void *addr,
                                    char *text, size_t size)
{
    struct text t = {text, text + size};
    struct stat st;
    uint64_t off = (uint64_t) ((const char *) addr - (const char *) base);
    if (!base || off >= map->size)
        return 0;
    append_text(&t, "the memory of region ");
    append_text(&t, map->name);
    append_text(&t, " at offset ");
    add_number(&t, off);
    if (find_again(map, &st) && (uint64_t) st.st_size < map->size) {
        append_text(&t, " is gone: the file was truncated to ");
        add_number(&t, (uint64_t) st.st_size);
        append_text(&t, " bytes while this process used it, it had ");
        add_number(&t, map->size);
        append_text(&t, "; end all processes that use it, then create it again");
    } else if (map->is_device) {
        append_text(&t, " is gone: the device was unplugged or unbound from its driver, or its "
                        "memory is faulty");
    } else {
        append_text(
            &t,
            " is not available: the file system is full, or the memory is faulty; `ivshmem format` "
            "allocates all memory of a region before a job needs it");
    }
    return (size_t) (t.next - text);
}
