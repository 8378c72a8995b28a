/* SPDX-License-Identifier: mpich2 */
#include "unit.h"

#include <ftw.h>
#include <limits.h>
#include <sys/syscall.h>

/* A folder of our own. */
static char dir[256], path_text[512];

static const char *path_of(const char *name)
{
    snprintf(path_text, sizeof(path_text), "%s/%s", dir, name);
    return path_text;
}

static void write_file(const char *name, const char *text, uint64_t size)
{
    int fd = open(path_of(name), O_CREAT | O_RDWR | O_TRUNC, 0600);
    must(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t) strlen(text));
    must(size == 0 || ftruncate(fd, (off_t) size) == 0);
    close(fd);
}

static int setup(void **state __attribute__((unused)))
{
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof(dir), "%s/ivshm-map.XXXXXX", tmp ? tmp : "/tmp");
    must(mkdtemp(dir));
    return 0;
}

static int remove_one(const char *path, const struct stat *st __attribute__((unused)),
                      int type __attribute__((unused)), struct FTW *ftw __attribute__((unused)))
{
    return remove(path);
}

static int teardown(void **state __attribute__((unused)))
{
    return nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

TEST(test_file)
{
    struct ivshm_map map;
    struct ivshm_diag diag;
    write_file("region", "hello", 8192);
    assert_int_equal(ivshm_map_open(path_of("region"), false, &map, &diag), 0);
    assert_int_equal(map.size, 8192);
    assert_false(map.is_device);
    assert_string_equal(map.name, path_of("region"));
    assert_string_equal(map.path, path_of("region"));
    assert_memory_equal(map.base, "hello", 5);

    /* Shared: the file sees it. */
    char text[5];
    memcpy(map.base, "there", 5);
    int fd = open(path_of("region"), O_RDONLY);
    assert_int_equal(read(fd, text, 5), 5);
    assert_memory_equal(text, "there", 5);
    close(fd);
    ivshm_map_close(&map);
    assert_null(map.base);
    ivshm_map_close(&map); /* twice is once */
}

TEST(test_readonly)
{
    struct ivshm_map map;
    struct ivshm_diag diag;
    write_file("region", "hello", 4096);
    assert_int_equal(ivshm_map_open(path_of("region"), true, &map, &diag), 0);
    /* The kernel refuses to write there on our behalf. */
    int zero = open("/dev/zero", O_RDONLY);
    assert_int_equal(read(zero, map.base, 1), -1);
    assert_int_equal(errno, EFAULT);
    close(zero);
    ivshm_map_close(&map);
}

TEST(test_bad_files)
{
    struct ivshm_map map, before;
    struct ivshm_diag diag;
    memset(&map, 0x5a, sizeof(map));
    before = map;

    assert_int_equal(ivshm_map_open(path_of("nothing"), false, &map, &diag), -ENOENT);
    assert_says(diag, path_of("nothing"));
    assert_says(diag, "ivshmem format");

    write_file("empty", "", 0);
    assert_int_equal(ivshm_map_open(path_of("empty"), false, &map, &diag), -EINVAL);
    assert_says(diag, "is empty");
    assert_says(diag, "ivshmem format");

    assert_int_equal(ivshm_map_open("/dev/null", false, &map, &diag), -EINVAL);
    assert_says(diag, "/dev/null is a character device of the subsystem mem");
    assert_int_equal(ivshm_map_open(dir, true, &map, &diag), -EINVAL);
    assert_says(diag, "not a regular file");
    assert_int_equal(ivshm_map_open(dir, false, &map, &diag), -EISDIR);
    assert_says(diag, dir);

    must(mkfifo(path_of("pipe"), 0600) == 0);
    assert_int_equal(ivshm_map_open(path_of("pipe"), true, &map, &diag), -EINVAL);
    assert_says(diag, "not a regular file");

    char name[600];
    memset(name, 'n', sizeof(name));
    name[sizeof(map.name)] = 0;
    assert_int_equal(ivshm_map_open(name, false, &map, &diag), -ENAMETOOLONG);
    assert_says(diag, "name has 512 bytes, at most 511 are possible");
    name[sizeof(map.name) - 1] = 0; /* longer than a file's name can be, but this is the system's */
    assert_int_equal(ivshm_map_open(name, false, &map, &diag), -ENAMETOOLONG);
    assert_null(strstr(diag.text, "are possible"));

    assert_int_equal(ivshm_map_open(path_of("nothing"), false, &map, NULL), -ENOENT);
    assert_memory_equal(&map, &before, sizeof(map)); /* outputs are set on success only */
}

/* In a folder where everyone may create files, another user's link is a trap. */
TEST(test_links)
{
    struct ivshm_map map;
    struct ivshm_diag diag;
    char link[512];
    write_file("target", "", 4096);
    must(mkdir(path_of("public"), 0700) == 0 && chmod(path_of("public"), 01777) == 0);
    snprintf(link, sizeof(link), "%s", path_of("public/link"));
    must(symlink(path_of("target"), link) == 0);
    assert_int_equal(ivshm_map_open(link, false, &map, &diag), 0);
    assert_int_equal(map.size, 4096);
    ivshm_map_close(&map);

    if (geteuid() != 0) {
        print_message("# links of another user: only root can make them\n");
        skip();
    }
    must(lchown(link, 65534, 65534) == 0);
    assert_int_equal(ivshm_map_open(link, false, &map, &diag), -EACCES);
    assert_says(diag, link);
    assert_says(diag, "is a symbolic link that another user made");
    assert_int_equal(ivshm_map_open(link, true, &map, &diag), -EACCES);
    /* The folder belongs to that user: whoever names a file there trusts that user. */
    must(chown(path_of("public"), 65534, 65534) == 0);
    assert_int_equal(ivshm_map_open(link, false, &map, &diag), 0);
    ivshm_map_close(&map);
    must(chown(path_of("public"), 0, 0) == 0 && chmod(path_of("public"), 0755) == 0);
    assert_int_equal(ivshm_map_open(link, false, &map, &diag), 0);
    ivshm_map_close(&map);
    /* A name without a folder, and one that no longer exists. */
    must(chmod(path_of("public"), 01777) == 0 && chdir(path_of("public")) == 0);
    assert_int_equal(ivshm_map_open("link", false, &map, &diag), -EACCES);
    must(chdir("/") == 0 && unlink(link) == 0);
    assert_int_equal(ivshm_map_open(link, false, &map, &diag), -ENOENT);
}

/* What was opened by a relative path is found again from any directory. */
TEST(test_relative)
{
    struct ivshm_map map;
    const char *slash;
    write_file("mapped", "it", 8192);
    slash = strrchr(path_of("mapped"), '/');
    char folder[512];
    snprintf(folder, sizeof(folder), "%.*s", (int) (slash - path_of("mapped")), path_of("mapped"));
    must(chdir(folder) == 0);
    assert_int_equal(ivshm_map_open("./mapped", false, &map, NULL), 0);
    assert_string_equal(map.name, "./mapped");
    must(chdir("/") == 0);
    int fd = ivshm_map_reopen(&map);
    assert_true(fd >= 0);
    close(fd);
    ivshm_map_close(&map);
}

/* A copy is another file, also under the same name. */
TEST(test_file_id)
{
    struct ivshm_map map, again, copy, device = {.is_device = true, .id = 1};
    write_file("mapped", "it", 8192);
    assert_int_equal(ivshm_map_open(path_of("mapped"), false, &map, NULL), 0);
    assert_int_equal(ivshm_map_open(path_of("mapped"), true, &again, NULL), 0);
    must(unlink(path_of("mapped")) == 0);
    write_file("mapped", "it", 8192);
    assert_int_equal(ivshm_map_open(path_of("mapped"), false, &copy, NULL), 0);
    assert_true(ivshm_map_file_id(&map) != 0);
    assert_true(ivshm_map_file_id(&map) == ivshm_map_file_id(&again));
    assert_true(ivshm_map_file_id(&map) != ivshm_map_file_id(&copy));
    assert_true(ivshm_map_file_id(&device) == 0);
    ivshm_map_close(&map);
    ivshm_map_close(&again);
    ivshm_map_close(&copy);
}

/* The file that was mapped, not another one that has its name by then. */
TEST(test_reopen)
{
    struct ivshm_map map, sealed;
    struct stat st, found;
    char was[512];

    write_file("mapped", "it", 8192);
    write_file("other", "not it", 8192);
    must(mkfifo(path_of("fifo"), 0600) == 0);
    snprintf(was, sizeof(was), "%s", path_of("was"));
    assert_int_equal(ivshm_map_open(path_of("mapped"), false, &map, NULL), 0);
    assert_int_equal(ivshm_map_open(path_of("mapped"), true, &sealed, NULL), 0);
    must(stat(map.path, &st) == 0);
    int next = dup(0); /* the least that is free */
    close(next);

    int fd = ivshm_map_reopen(&map);
    assert_true(fd >= 0);
    must(fstat(fd, &found) == 0);
    assert_int_equal(found.st_ino, st.st_ino);
    assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    close(fd);
    fd = ivshm_map_reopen(&sealed);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    close(fd);

    must(truncate(map.path, 4096) == 0);
    assert_int_equal(ivshm_map_reopen(&map), -ESTALE);
    must(truncate(map.path, 16384) == 0);
    assert_int_equal(ivshm_map_reopen(&map), -ESTALE);
    must(truncate(map.path, 8192) == 0);

    must(rename(map.path, was) == 0);
    assert_int_equal(ivshm_map_reopen(&map), -ENOENT);
    must(symlink(path_of("other"), map.path) == 0);
    assert_int_equal(ivshm_map_reopen(&map), -ESTALE);
    if (geteuid() == 0) { /* else nobody else can put one there */
        must(chmod(dir, 01777) == 0 && lchown(map.path, 65534, 65534) == 0);
        assert_int_equal(ivshm_map_reopen(&map), -ELOOP);
        must(chmod(dir, 0700) == 0);
    }
    must(rename(path_of("other"), map.path) == 0);
    assert_int_equal(ivshm_map_reopen(&map), -ESTALE);
    /* Without waiting for a process at its other end. */
    must(rename(path_of("fifo"), map.path) == 0);
    assert_int_equal(ivshm_map_reopen(&map), -ESTALE);
    assert_int_equal(ivshm_map_reopen(&sealed), -ESTALE);
    must(unlink(map.path) == 0 && mkdir(map.path, 0700) == 0);
    assert_true(ivshm_map_reopen(&map) < 0);
    assert_int_equal(ivshm_map_reopen(&sealed), -ESTALE);

    must(rmdir(map.path) == 0 && rename(was, map.path) == 0);
    assert_int_equal(dup(0), next); /* none of them was left open */
    close(next);
    fd = ivshm_map_reopen(&map);
    assert_true(fd >= 0);
    close(fd);
    ivshm_map_close(&map);
    ivshm_map_close(&sealed);
}

/* The folder in which a file is to be created: the same rule. */
TEST(test_open_folder)
{
    struct ivshm_diag diag;
    struct stat st, found;
    const char *name = NULL;
    char path[PATH_MAX + 100], link[512];

    must(mkdir(path_of("folder"), 0700) == 0 && stat(path_of("folder"), &st) == 0);
    must(mkdir(path_of("sticky"), 0700) == 0 && chmod(path_of("sticky"), 01777) == 0);
    write_file("plain", "", 0);
    snprintf(link, sizeof(link), "%s", path_of("sticky/link"));
    must(symlink("../folder", link) == 0);
    for (int i = 0; i < 3; i++) {
        static const char *const ways[] = {"folder/new", "sticky/link/new", "new"};
        if (i == 2)
            must(chdir(path_of("folder")) == 0);
        snprintf(path, sizeof(path), "%s", i == 2 ? ways[i] : path_of(ways[i]));
        int fd = ivshm_map_open_folder(path, &name, &diag);
        assert_true(fd >= 0);
        assert_string_equal(name, "new");
        must(fstat(fd, &found) == 0);
        assert_int_equal(found.st_ino, st.st_ino);
        close(fd);
    }
    must(chdir("/") == 0);
    assert_int_equal(ivshm_map_open_folder(path_of("nowhere/new"), &name, &diag), -ENOENT);
    assert_says(diag, "cannot open its directory");
    assert_int_equal(ivshm_map_open_folder(path_of("plain/new"), &name, &diag), -ENOTDIR);
    memset(path, '/', sizeof(path));
    snprintf(path + PATH_MAX - 2, 100, "new");
    int fd = ivshm_map_open_folder(path, &name, &diag);
    assert_true(fd >= 0);
    close(fd);
    snprintf(path + PATH_MAX - 2, 100, "/new");
    assert_int_equal(ivshm_map_open_folder(path, &name, &diag), -ENAMETOOLONG);
    assert_says(diag, "too long");
    if (geteuid() != 0) {
        print_message("# links of another user: only root can make them\n");
        skip();
    }
    must(lchown(link, 65534, 65534) == 0);
    snprintf(path, sizeof(path), "%s/new", link);
    assert_true(ivshm_map_open_folder(path, &name, &diag) < 0);
    assert_says(diag, "is a symbolic link that another user made");
}

/*
 * An attacker who changes what has the name `name`, between any two of our calls: before the i-th
 * call if bit i of `changes` is set. The C library's calls are intercepted here.
 */
static const char *name_of_his, *other_of_his;
static unsigned changes, calls;

static void maybe_change(void)
{
    if (name_of_his && calls < 32 && changes >> calls++ & 1)
        must(syscall(SYS_renameat2, AT_FDCWD, name_of_his, AT_FDCWD, other_of_his,
                     2 /* RENAME_EXCHANGE */) == 0);
}

int open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    maybe_change();
    return (int) syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...)
{
    maybe_change();
    return (int) syscall(SYS_openat, folder, path, flags, 0);
}

int lstat(const char *path, struct stat *st)
{
    maybe_change();
    return fstatat(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}

ssize_t readlinkat(int folder, const char *path, char *text, size_t size)
{
    maybe_change();
    return (ssize_t) syscall(SYS_readlinkat, folder, path, text, size);
}

#define TRIES (1u << 10)

/* What is at `name` then: the file that it was possible to open there, or nothing. */
static void never_followed(const char *path, const char *name, const char *other)
{
    int opened = 0, refused = 0;
    for (unsigned i = 0; i < TRIES; i++) {
        struct ivshm_map map;
        struct ivshm_diag diag = {""};
        name_of_his = name;
        other_of_his = other;
        changes = i;
        calls = 0;
        int err = ivshm_map_open(path, false, &map, &diag);
        name_of_his = NULL;
        for (unsigned bit = 0; bit < calls; bit++) /* unchanged */
            if (i >> bit & 1)
                must(syscall(SYS_renameat2, AT_FDCWD, name, AT_FDCWD, other, 2) == 0);
        if (err == 0) {
            if (strcmp(map.base, "his own") != 0)
                fail_msg("changes %x: got %s", i, (char *) map.base);
            ivshm_map_close(&map);
            opened++;
        } else {
            refused++;
        }
    }
    assert_true(opened > 0 && refused > 0);
}

/* The file that was checked is the file that is opened, whatever has its name by then. */
TEST(test_links_that_change)
{
    struct ivshm_map map;
    struct ivshm_diag diag;
    if (geteuid() != 0) {
        print_message("# links of another user: only root can make them\n");
        skip();
    }
    must(mkdir(path_of("private"), 0700) == 0);
    write_file("private/region", "not his", 4096);
    must(mkdir(path_of("race"), 0700) == 0 && chmod(path_of("race"), 01777) == 0);
    must(chdir(path_of("race")) == 0);
    write_file("race/file", "his own", 4096);
    must(symlink("../private/region", "link") == 0);
    must(lchown("link", 65534, 65534) == 0 && lchown("file", 65534, 65534) == 0);
    never_followed("link", "link", "file");
    never_followed("file", "file", "link");

    /* The same with a folder on the path, and with a link of ours to the attacker's. */
    must(mkdir("folder", 0755) == 0);
    write_file("race/folder/region", "his own", 4096);
    must(symlink("../private", "detour") == 0);
    must(lchown("detour", 65534, 65534) == 0 && lchown("folder", 65534, 65534) == 0);
    never_followed("detour/region", "detour", "folder");
    must(symlink("link", "good") == 0);
    never_followed("good", "link", "file");
    assert_int_equal(ivshm_map_open("good", false, &map, &diag), -EACCES);
    assert_says(diag, "or leads to such a link");
    assert_int_equal(ivshm_map_open("detour/region", true, &map, &diag), -EACCES);
    must(chdir("/") == 0);
}

/* Every path to a file works: from the root, over links, folders and back. */
TEST(test_paths)
{
    static const char *const ways[] = {
        "way/file",   "./way//file",        "way/../way/./file", "way/link",     "way/absolute",
        "way/chain",  "way/folder/../file", "detour/file",       "detour/chain", "way/nothing",
        "way/file/x", "way/loop",           "way/dangling"};
    enum { GOOD = 9 };
    static const int errors[] = {-ENOENT, -ENOTDIR, -ELOOP, -ENOENT};
    struct ivshm_map map;
    struct ivshm_diag diag;
    char text[32];
    must(chdir(dir) == 0 && mkdir("way", 0700) == 0 && mkdir("way/folder", 0700) == 0);
    write_file("way/file", "it", 4096);
    must(symlink("file", "way/link") == 0 && symlink("folder/../link", "way/chain") == 0 &&
         symlink(path_of("way/file"), "way/absolute") == 0 && symlink("loop", "way/loop") == 0 &&
         symlink("nowhere", "way/dangling") == 0 && symlink("./way/", "detour") == 0);
    for (size_t i = 0; i < LENGTH(ways); i++) {
        int err = ivshm_map_open(ways[i], false, &map, &diag);
        if (err != (i < GOOD ? 0 : errors[i - GOOD]))
            fail_msg("%s: %d", ways[i], err);
        if (i < GOOD) {
            assert_string_equal(map.base, "it");
            ivshm_map_close(&map);
        }
    }
    assert_int_equal(ivshm_map_open(path_of("way/chain"), false, &map, &diag), 0);
    ivshm_map_close(&map);
    /* A file without a name, through a link whose text leads nowhere. */
    int fd = file_new(4096);
    snprintf(text, sizeof(text), "/proc/%d/fd/%d", getpid(), fd);
    assert_int_equal(ivshm_map_open(text, false, &map, &diag), 0);
    assert_true(map.is_memory);
    ivshm_map_close(&map);
    must(symlink(text, "way/to-fd") == 0);
    assert_int_equal(ivshm_map_open("way/to-fd", false, &map, &diag), 0);
    ivshm_map_close(&map);
    close(fd);
    must(chdir("/") == 0);
}

static void open_from_nowhere(void *arg)
{
    struct ivshm_map map;
    must(chdir(path_of("nowhere")) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
    must(prctl(PR_SET_DUMPABLE, 1) == 0); /* else its /proc/self is root's */
    must(access(".", X_OK) != 0);
    must(ivshm_map_open(arg, false, &map, NULL) == 0);
}

/* A working directory that may not be used does no harm to an absolute name. */
TEST(test_forbidden_working_directory)
{
    if (geteuid() != 0) {
        print_message("# a directory that one may not use: only root can become somebody else\n");
        skip();
    }
    int fd = file_new(4096);
    must(mkdir(path_of("nowhere"), 0700) == 0);
    assert_int_equal(child_wait(child_start(open_from_nowhere, (char *) file_name(fd))), 0);
    close(fd);
}

static void open_as_nobody(void *arg)
{
    struct ivshm_map map;
    struct ivshm_diag diag = {""};
    if (geteuid() == 0)
        must(setgid(65534) == 0 && setuid(65534) == 0);
    must(ivshm_map_open(arg, false, &map, &diag) == -EACCES);
    must(strstr(diag.text, "no permission to open") && strstr(diag.text, arg));
}

TEST(test_no_permission)
{
    write_file("forbidden", "", 4096);
    assert_int_equal(chmod(path_of("forbidden"), 0), 0);
    assert_int_equal(child_wait(child_start(open_as_nobody, (char *) path_of("forbidden"))), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_readonly),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_links),
        cmocka_unit_test(test_relative),
        cmocka_unit_test(test_file_id),
        cmocka_unit_test(test_reopen),
        cmocka_unit_test(test_open_folder),
        cmocka_unit_test(test_links_that_change),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_forbidden_working_directory),
        cmocka_unit_test(test_no_permission),
    };
    alarm(LIMIT_SECONDS);
    return cmocka_run_group_tests(tests, setup, teardown);
}
