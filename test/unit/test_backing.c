/* SPDX-License-Identifier: mpich2 */
/*
 * Files that have less memory than bytes. The full file system is one of our own: a tmpfs in the
 * mount namespace of a child, which needs permission to mount.
 */
#include "unit.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "core/backing.h"

#define KIB UINT64_C(1024)

static uint64_t memory_of(int fd)
{
    struct stat st;
    must(fstat(fd, &st) == 0);
    return (uint64_t) st.st_blocks * 512;
}

static struct ivshm_map map_of(int fd, bool readonly)
{
    struct ivshm_map map;
    struct ivshm_diag diag = {""};
    if (ivshm_map_open(file_name(fd), readonly, &map, &diag) != 0) {
        fprintf(stderr, "%s\n", diag.text);
        abort();
    }
    return map;
}

TEST(test_reserve)
{
    int fd = file_new(4 * MIB);
    struct ivshm_map map = map_of(fd, false);
    struct ivshm_diag diag = {""};
    assert_true(map.sparse);
    memset(map.base, 7, 1);
    assert_int_equal(ivshm_backing_reserve(&map, 1, 16 * KIB, IVSHM_ACCESS_WRITE, &diag), 0);
    assert_int_equal(memory_of(fd), 20 * KIB); /* of whole pages */
    assert_int_equal(*(char *) map.base, 7);   /* contents stay */
    assert_int_equal(ivshm_backing_reserve(&map, 4 * MIB - 1, 1, IVSHM_ACCESS_READ, &diag), 0);
    assert_int_equal(memory_of(fd), 24 * KIB);

    /* Only pages that hold nothing else are freed. */
    ivshm_backing_discard(&map, 1, 16 * KIB);
    assert_int_equal(memory_of(fd), 24 * KIB - 12 * KIB);
    assert_int_equal(*(char *) map.base, 7);
    assert_true(ivshm_backing_can_spare(&map, MIB)); /* the file system of memfds has no limit */
    ivshm_map_close(&map);

    /* Read-only: it has memory all the same. */
    map = map_of(fd, true);
    assert_int_equal(ivshm_backing_reserve(&map, MIB, 8 * KIB, IVSHM_ACCESS_WRITE, &diag), 0);
    assert_int_equal(memory_of(fd), 20 * KIB);
    ivshm_map_close(&map);

    /* A file that has all its memory is not checked. */
    must(fallocate(fd, 0, 0, 4 * MIB) == 0);
    map = map_of(fd, false);
    assert_false(map.sparse);
    assert_int_equal(ivshm_backing_reserve(&map, 0, UINT64_MAX, IVSHM_ACCESS_WRITE, &diag), 0);
    ivshm_backing_discard(&map, 0, 4 * MIB);
    assert_int_equal(memory_of(fd), 4 * MIB);
    ivshm_map_close(&map);
    close(fd);
}

TEST(test_cut)
{
    int fd = file_new(4 * MIB);
    struct ivshm_map map = map_of(fd, false);
    struct ivshm_diag diag = {""};
    must(ftruncate(fd, MIB) == 0);
    assert_int_equal(ivshm_backing_reserve(&map, 0, MIB, IVSHM_ACCESS_WRITE, &diag), 0);
    assert_int_equal(ivshm_backing_reserve(&map, 0, MIB + 1, IVSHM_ACCESS_WRITE, &diag), -ENOSPC);
    assert_says(diag, "was truncated to 1024 KiB while in use, it had 4096 KiB");
    ivshm_map_close(&map);
    close(fd);
}

/* A tmpfs of `kib` KiB on our own /dev/shm; false where mounting is forbidden. */
static bool small_file_system(unsigned kib)
{
    char options[32];
    snprintf(options, sizeof(options), "size=%uk", kib);
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", "/dev/shm", "tmpfs", 0, options) == 0;
}

static int small_file(uint64_t size)
{
    int fd = open("/dev/shm/file", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    must(fd >= 0 && ftruncate(fd, (off_t) size) == 0);
    return fd;
}

#define CANNOT_MOUNT 77

static void child_or_skip(void (*body)(void *), void *arg)
{
    int status = child_wait(child_start(body, arg));
    if (WIFEXITED(status) && WEXITSTATUS(status) == CANNOT_MOUNT) {
        print_message("# mounting a small tmpfs is not permitted here\n");
        skip();
    }
    assert_int_equal(status, 0);
}

static void fill(void *arg)
{
    (void) arg;
    struct ivshm_diag diag = {""};
    if (!small_file_system(1024))
        _exit(CANNOT_MOUNT);
    int fd = small_file(8 * MIB);
    struct ivshm_map map;
    must(ivshm_map_open("/dev/shm/file", false, &map, &diag) == 0);
    must(ivshm_backing_can_spare(&map, 512 * KIB) && !ivshm_backing_can_spare(&map, 1000 * KIB));
    must(ivshm_backing_reserve(&map, 0, 512 * KIB, IVSHM_ACCESS_WRITE, &diag) == 0);
    must(ivshm_backing_can_spare(&map, 256 * KIB) && !ivshm_backing_can_spare(&map, 512 * KIB));
    must(ivshm_backing_reserve(&map, MIB, MIB, IVSHM_ACCESS_WRITE, &diag) == -ENOSPC);
    must(strstr(diag.text, "/dev/shm/file has 8 MiB, but only"));
    must(strstr(diag.text, "of its file system of 1 MiB"));
    must(strstr(diag.text, "mount -o remount,size="));
    must(strstr(diag.text, "ivshmem format"));
    ivshm_backing_discard(&map, MIB, MIB);
    must(memory_of(fd) == 512 * KIB);
}

TEST(test_full)
{
    child_or_skip(fill, NULL);
}

/* A system before Linux 5.14: madvise does not know MADV_POPULATE_WRITE. */
static void old_system(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 22, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 23, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {LENGTH(code), code};
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    must(madvise((void *) (uintptr_t) 4096, 4096, 23) == -1 && errno == EINVAL);
}

static void fill_old(void *arg)
{
    if (!small_file_system(1024))
        _exit(CANNOT_MOUNT);
    int fd = small_file(8 * MIB);
    struct ivshm_map map, reader;
    struct ivshm_diag diag = {""};
    (void) arg;
    must(ivshm_map_open("/dev/shm/file", false, &map, &diag) == 0 &&
         ivshm_map_open("/dev/shm/file", true, &reader, &diag) == 0);
    old_system();
    ((char *) map.base)[3] = 7;
    must(ivshm_backing_reserve(&map, 0, 256 * KIB, IVSHM_ACCESS_WRITE, &diag) == 0);
    must(memory_of(fd) == 256 * KIB && ((char *) map.base)[3] == 7);
    must(ivshm_backing_reserve(&reader, 0, 512 * KIB, IVSHM_ACCESS_READ, &diag) == 0);
    must(memory_of(fd) == 512 * KIB);
    must(ivshm_backing_reserve(&map, MIB, MIB, IVSHM_ACCESS_WRITE, &diag) == -ENOSPC);
    must(ivshm_backing_reserve(&reader, MIB, 2 * MIB, IVSHM_ACCESS_READ, &diag) == -ENOSPC);
}

TEST(test_old_system)
{
    child_or_skip(fill_old, NULL);
}

/* Extents: without memory the allocation fails, and what memory it had got is freed. */
static void fill_region(void *arg)
{
    (void) arg;
    struct ivshm_diag diag = {""};
    struct ivshm_region region;
    struct ivshm_endpoint ep[16];
    const struct ivshm_owner me = {0, 1};
    ivshm_off off, last = {0};
    int joined = 0, err;
    if (!small_file_system(4096))
        _exit(CANNOT_MOUNT);
    int fd = small_file(32 * MIB);
    must(ivshm_region_open("/dev/shm/file", &region, &diag) == 0);

    uint64_t tables = memory_of(fd), bs = region.geo.block_size, blocks = free_blocks(&region);
    must(tables >= region.geo.data && tables < region.geo.data + 64 * KIB);
    must(ivshm_extent_alloc(&region, me, IVSHM_KIND_PIPELINE, 64 * bs, &off) == 0);
    must(memory_of(fd) == tables + 64 * bs);
    must(ivshm_extent_alloc(&region, me, IVSHM_KIND_USER, 8 * MIB, &last) == -ENOSPC);
    must(last.bytes == 0 && memory_of(fd) == tables + 64 * bs);
    must(free_blocks(&region) == blocks - 64);
    must(!ivshm_extent_can_spare(&region, 4 * MIB) && ivshm_extent_can_spare(&region, MIB));
    ivshm_extent_free(&region, me, off, 64 * bs);

    /* A joiner is told what is missing, and leaves nothing behind. */
    while ((err = ivshm_endpoint_join(&region, "job", (uint32_t) joined, 16, &ep[joined], &diag)) ==
           0) {
        memset(ep[joined].base, 1, region.geo.base_bytes);
        must(++joined < 16);
    }
    must(err == -ENOSPC && joined >= 2 && strstr(diag.text, "of its file system of 4 MiB"));
    while (joined > 0)
        ivshm_endpoint_leave(&ep[--joined]);
    must(free_blocks(&region) == blocks);

    /* No memory at all: formatting does not even begin. */
    close(fd);
    ivshm_region_close(&region);
    must(unlink("/dev/shm/file") == 0);
    int other = open("/dev/shm/other", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    must(other >= 0 && fallocate(other, 0, 0, 4 * MIB) == 0);
    fd = small_file(32 * MIB);
    must(ivshm_region_open("/dev/shm/file", &region, &diag) == -ENOSPC);
    must(strstr(diag.text, "only 0 KiB are free"));
    must(ivshm_region_inspect("/dev/shm/file", &region, &diag) == -ENOSPC);
    must(memory_of(fd) == 0);
}

TEST(test_full_region)
{
    child_or_skip(fill_region, NULL);
}

static struct ivshm_map faulted;

static void on_bus_error(int sig, siginfo_t *info, void *context)
{
    char text[768];
    (void) sig;
    (void) context;
    size_t n =
        ivshm_backing_describe_fault(&faulted, faulted.base, info->si_addr, text, sizeof(text));
    must(write(STDOUT_FILENO, text, n) == (ssize_t) n);
    _exit(0);
}

static void touch_what_was_cut(void *arg)
{
    int *pipe_end = arg;
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
    must(sigaction(SIGBUS, &action, NULL) == 0 && dup2(*pipe_end, STDOUT_FILENO) >= 0);
    ((volatile char *) faulted.base)[2 * MIB] = 1;
}

TEST(test_fault)
{
    int fd = file_new(4 * MIB), ends[2];
    char text[768] = "", expected[256];
    faulted = map_of(fd, false);
    must(ftruncate(fd, 12 * KIB) == 0 && pipe(ends) == 0);
    assert_int_equal(child_wait(child_start(touch_what_was_cut, &ends[1])), 0);
    assert_true(read(ends[0], text, sizeof(text) - 1) > 0);
    snprintf(expected, sizeof(expected), "memory of region %s at offset 2097152 is gone",
             file_name(fd));
    assert_non_null(strstr(text, expected));
    assert_non_null(strstr(text, "truncated to 12288 bytes"));
    assert_non_null(strstr(text, "it had 4194304"));

    /* Not ours; ours, but whole; no room; closed. */
    char *base = faulted.base;
    assert_int_equal(
        ivshm_backing_describe_fault(&faulted, faulted.base, base - 1, text, sizeof(text)), 0);
    assert_int_equal(
        ivshm_backing_describe_fault(&faulted, faulted.base, base + 4 * MIB, text, sizeof(text)),
        0);
    must(ftruncate(fd, 4 * MIB) == 0);
    memset(text, 0, sizeof(text));
    assert_true(ivshm_backing_describe_fault(&faulted, faulted.base, base, text, sizeof(text) - 1) >
                0);
    assert_non_null(strstr(text, "at offset 0 is not available"));
    memset(text, 0, sizeof(text));
    faulted.is_device = true;
    assert_true(ivshm_backing_describe_fault(&faulted, faulted.base, base, text, sizeof(text) - 1) >
                0);
    assert_non_null(strstr(text, "at offset 0 is gone: the device was unplugged or unbound"));
    memset(text, 0, sizeof(text));
    assert_int_equal(ivshm_backing_describe_fault(&faulted, faulted.base, base, text, 5), 5);
    assert_string_equal(text, "the m");
    ivshm_map_close(&faulted);
    assert_int_equal(ivshm_backing_describe_fault(&faulted, faulted.base, base, text, sizeof(text)),
                     0);
    close(fd);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reserve),     cmocka_unit_test(test_cut),
        cmocka_unit_test(test_full),        cmocka_unit_test(test_old_system),
        cmocka_unit_test(test_full_region), cmocka_unit_test(test_fault),
    };
    return RUN(tests);
}
