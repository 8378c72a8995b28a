/* SPDX-License-Identifier: mpich2 */
/*
 * ivshmem put and ivshmem get: files and trees through a pipe of the region. tar(1) packs and
 * unpacks them. What arrives is unpacked in a folder of its own, which gets its name when all is
 * there: so the target is complete, or does not exist.
 *
 * The sender is not trusted. tar itself does not follow what an archive contains out of its folder.
 * Besides, the tar that unpacks may write nowhere else, as far as the kernel can see to that
 * (Landlock), and make no devices.
 */
#define _GNU_SOURCE /* pipe2, asprintf */
#include "ivshmem_files.h"

#include "ivshmem_pipe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__has_include) && !defined(__cppcheck__)
#if __has_include(<linux/landlock.h>)
#include <linux/landlock.h>
#endif
#endif

#define RECORD "64" /* half KiB that tar reads or writes at once, instead of 20 */

struct files {
    char **args;           /* tar's; NULL behind the last */
    int at;                /* the folder in which it works, or AT_FDCWD */
    const char *target;    /* of get: the folder that is to be made */
    char folder[PATH_MAX]; /* where it is unpacked; empty before it exists */
    int (*finish)(void *arg, int err, struct ivshm_diag *diag); /* a server's */
    void *arg;
    pid_t tar;
    int fd, says; /* the archive, and what tar says of it, which is shown when it has ended */
    char said[1024];
    size_t said_bytes;
    uint64_t began; /* ns */
    bool is_terminal;
};

/* The child that becomes tar. */
static void become_tar(const struct files *f, int fd, int says, bool reads)
{
    unsetenv("TAR_OPTIONS");
    signal(SIGPIPE, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (dup2(fd, reads ? STDIN_FILENO : STDOUT_FILENO) < 0 || dup2(says, STDERR_FILENO) < 0)
        _exit(127);
    execvp("tar", f->args);
    _exit(127);
}

/* This process and what it becomes write only into its folder, if the kernel has Landlock. */
static void confine(void)
{
#ifdef LANDLOCK_ACCESS_FS_REFER /* before, no hard links from one folder to another were possible  \
                                 */
    const uint64_t writing = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
                             LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
                             LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
                             LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
                             LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM |
                             LANDLOCK_ACCESS_FS_REFER;
    const struct landlock_ruleset_attr all = {.handled_access_fs = writing};
    struct landlock_path_beneath_attr beneath = {
        .allowed_access = writing & ~(LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK),
        .parent_fd = open(".", O_PATH | O_CLOEXEC)};
    long rules = syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);
    if (rules >= 0 &&
        syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) == 0)
        syscall(SYS_landlock_restrict_self, rules, 0);
#endif
}

static int start_tar(struct files *f, bool reads, struct ivshm_diag *diag)
{
    int ends[2], says[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return ivshm_diag_fail(diag, errno, "cannot make a pipe: %s", strerror(errno));
    if (pipe2(says, O_CLOEXEC) != 0) {
        int err = errno;
        close(ends[0]);
        close(ends[1]);
        return ivshm_diag_fail(diag, err, "cannot make a pipe: %s", strerror(err));
    }
    fcntl(ends[0], F_SETPIPE_SZ, 1 << 20); /* if it may */
    fcntl(says[0], F_SETFL, O_NONBLOCK);
    f->tar = fork();
    if (f->tar == 0) {
        if (f->at != AT_FDCWD && fchdir(f->at) != 0)
            _exit(127);
        if (reads) {
            umask(0); /* the modes of the archive */
            /* What is not available here is left to tar's own care. */
            prctl(PR_CAPBSET_DROP, CAP_MKNOD, 0, 0, 0);
            prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            confine();
        }
        become_tar(f, ends[reads ? 0 : 1], says[1], reads);
    }
    int err = errno;
    close(ends[reads ? 0 : 1]);
    close(says[1]);
    f->fd = ends[reads ? 1 : 0];
    f->says = says[0];
    f->began = tool_now_ns();
    if (f->tar > 0)
        return 0;
    close(f->fd);
    close(f->says);
    return ivshm_diag_fail(diag, err, "cannot start tar: %s", strerror(err));
}

/* Keeps the beginning of what tar says. It can go on; false when it says no more. */
static bool listen_to_tar(struct files *f)
{
    char more[4096];
    ssize_t n;
    while ((n = read(f->says, more, sizeof(more))) > 0) {
        size_t room = sizeof(f->said) - 1 - f->said_bytes;
        room = room < (size_t) n ? room : (size_t) n;
        memcpy(f->said + f->said_bytes, more, room);
        f->said_bytes += room;
    }
    return n < 0 && (errno == EAGAIN || errno == EINTR);
}

/* The first line that is no remark. */
static const char *why_tar_failed(struct files *f)
{
    char *line = strtok(f->said, "\n");
    while (line && strstr(line, ": Removing leading"))
        line = strtok(NULL, "\n");
    return !line ? "it says nothing" : tool_printable(line + 5 * (strncmp(line, "tar: ", 5) == 0));
}

/* Ends tar, and waits for it: whether it has done everything. */
static int end_tar(struct files *f, int err, struct ivshm_diag *diag)
{
    int status;
    close(f->fd);
    if (err && err != -EPIPE)
        kill(f->tar, SIGTERM);
    while (listen_to_tar(f)) {
        if (tool_was_interrupted())
            kill(f->tar, SIGTERM);
        tool_short_nap();
    }
    close(f->says);
    while (waitpid(f->tar, &status, 0) < 0) {
        if (errno != EINTR)
            return ivshm_diag_fail(diag, errno, "cannot wait for tar: %s", strerror(errno));
        if (tool_was_interrupted())
            kill(f->tar, SIGTERM);
    }
    if (f->is_terminal)
        fputc('\n', stderr);
    if (err && err != -EPIPE)
        return err;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return ivshm_diag_fail(diag, ENOENT, "cannot run tar: install it");
    if (err || status != 0)
        return ivshm_diag_fail(diag, EIO, "tar failed: %s", why_tar_failed(f));
    fputs(f->said, stderr);
    return 0;
}

static void show_progress(void *arg, uint64_t bytes)
{
    struct files *f = arg;
    double seconds = (double) (tool_now_ns() - f->began) / 1e9;
    listen_to_tar(f);
    if (f->is_terminal)
        fprintf(stderr, "\r%-12s %8.1f MB/s ", tool_size(bytes), (double) bytes / 1e6 / seconds);
}

/* put */

static int begin_give(void *arg, int *fd, struct ivshm_diag *diag)
{
    struct files *f = arg;
    int err = start_tar(f, false, diag);
    *fd = f->fd;
    return err;
}

static int finish_give(void *arg, int err, struct ivshm_diag *diag)
{
    return end_tar(arg, err, diag);
}

static int give(const struct tool_options *opt, const struct ivshm_owner *client, struct files *f)
{
    return pipe_run(opt, &(struct pipe_user){.is_sender = true,
                                             .input_or_output = "from tar",
                                             .arg = f,
                                             .begin = begin_give,
                                             .finish = finish_give,
                                             .show = show_progress,
                                             .server = opt->path ? opt->name : NULL,
                                             .path = opt->path,
                                             .client = client});
}

static const char *const give_first[] = {"tar", "-c", "-S", "-b", RECORD, "--format=posix",
                                         "-f",  "-"};
enum { FIRST = sizeof(give_first) / sizeof(give_first[0]) };

/* tar's arguments for one file: the folder that it is in, and its name there. False if it fails. */
static bool add_file(char **args, char *file)
{
    struct stat st;
    char *copy = strdup(file), *again = strdup(file);
    const char *base = copy ? basename(copy) : "";
    bool is_all = strcmp(base, ".") == 0 || strcmp(base, "..") == 0 || strcmp(base, "/") == 0;
    if (copy && again && lstat(file, &st) == 0)
        args[1] = realpath(is_all ? file : dirname(again), NULL);
    args[0] = (char *) (uintptr_t) "-C";
    if (!args[1])
        tool_error("%s: %s", file, strerror(errno));
    else if (asprintf(&args[2], "./%s", is_all ? "" : base) < 0)
        args[2] = NULL;
    free(copy);
    free(again);
    return args[1] && args[2];
}

int tool_put(const struct tool_options *opt)
{
    int count = 0, status = TOOL_FAILED;
    while (opt->files[count])
        count++;
    char **args = calloc(FIRST + 3 * (size_t) count + 1, sizeof(*args));
    struct files f = {.args = args, .at = AT_FDCWD, .is_terminal = isatty(STDERR_FILENO)};
    bool is_good = args != NULL;
    for (int i = 0; is_good && i < FIRST; i++)
        args[i] = (char *) (uintptr_t) give_first[i];
    for (int i = 0; is_good && i < count; i++) {
        is_good = add_file(args + FIRST + 3 * i, opt->files[i]);
        for (int k = 0; is_good && k < i; k++)
            if (strcmp(args[FIRST + 3 * i + 2], args[FIRST + 3 * k + 2]) == 0) {
                tool_error("%s and %s have the same name: put them one after the other",
                           opt->files[k], opt->files[i]);
                is_good = false;
            }
    }
    if (is_good)
        status = give(opt, NULL, &f);
    for (int i = 0; args && i < count; i++) {
        free(args[FIRST + 3 * i + 1]);
        free(args[FIRST + 3 * i + 2]);
    }
    free(args);
    return status;
}

int files_give(const struct tool_options *opt, const struct ivshm_owner *client, int at,
               const char *name)
{
    char *args[FIRST + 4] = {NULL}, *file;
    int count = 0;
    if (asprintf(&file, "./%s", name ? name : "") < 0)
        return tool_error("out of memory");
    for (; count < FIRST; count++)
        args[count] = (char *) (uintptr_t) give_first[count];
    if (!name) {
        args[count++] = (char *) (uintptr_t) "--anchored";
        args[count++] = (char *) (uintptr_t) "--exclude=./" FILES_HIDDEN "*";
    }
    args[count] = file;
    int status = give(opt, client, &(struct files){.args = args, .at = at});
    free(file);
    return status;
}

/* get */

void files_remove(int at, const char *name)
{
    if (unlinkat(at, name, AT_REMOVEDIR) == 0) /* it was empty */
        return;
    pid_t child = fork();
    if (child == 0) {
        /* A folder that its owner may not read is still to be removed. */
        static const char script[] = "chmod -R u+rwx -- \"$1\"; exec rm -rf -- \"$1\"";
        int null = open("/dev/null", O_RDWR);
        if ((at == AT_FDCWD || fchdir(at) == 0) && dup2(null, STDOUT_FILENO) >= 0 &&
            dup2(null, STDERR_FILENO) >= 0)
            execlp("sh", "sh", "-c", script, "-", name, (char *) NULL);
        _exit(127);
    }
    while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
}

static int begin_take(void *arg, int *fd, struct ivshm_diag *diag)
{
    struct files *f = arg;
    int err = start_tar(f, true, diag);
    *fd = f->fd;
    return err;
}

static int begin_get(void *arg, int *fd, struct ivshm_diag *diag)
{
    struct files *f = arg;
    char folder[PATH_MAX];
    size_t len = strlen(f->target);
    while (len > 1 && f->target[len - 1] == '/')
        len--;
    if (snprintf(folder, sizeof(folder), "%.*s.ivshmem-XXXXXX", (int) len, f->target) >=
        (int) sizeof(folder))
        return ivshm_diag_fail(diag, ENAMETOOLONG, "%.64s...: the name is too long", f->target);
    if (!mkdtemp(folder))
        return ivshm_diag_fail(diag, errno, "cannot make a folder beside %s: %s", f->target,
                               strerror(errno));
    strcpy(f->folder, folder);
    f->at = open(f->folder, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int err = f->at < 0 ? ivshm_diag_fail(diag, errno, "%s: %s", f->folder, strerror(errno))
                        : begin_take(f, fd, diag);
    if (err)
        rmdir(f->folder);
    return err;
}

static int finish_get(void *arg, int err, struct ivshm_diag *diag)
{
    struct files *f = arg;
    mode_t mask = umask(0);
    umask(mask);
    err = end_tar(f, err, diag);
    close(f->at);
    if (!err && (chmod(f->folder, 0777 & ~mask) != 0 || rename(f->folder, f->target) != 0))
        err = ivshm_diag_fail(diag, errno, "cannot name %s what has arrived: %s", f->target,
                              strerror(errno));
    if (err)
        files_remove(AT_FDCWD, f->folder);
    return err;
}

static int finish_take(void *arg, int err, struct ivshm_diag *diag)
{
    struct files *f = arg;
    return f->finish(f->arg, end_tar(f, err, diag), diag);
}

/* Whether it can be made: it does not exist, or is an empty folder that can be replaced. */
static bool is_free(const char *target)
{
    const char *slash = strrchr(target, '/'), *base = slash ? slash + 1 : target;
    struct stat st;
    if (strcmp(base, ".") == 0 || strcmp(base, "..") == 0)
        return false;
    if (lstat(target, &st) != 0)
        return errno == ENOENT;
    DIR *folder = S_ISDIR(st.st_mode) ? opendir(target) : NULL;
    if (!folder)
        return false;
    int entries = 0;
    while (readdir(folder))
        entries++;
    closedir(folder);
    return entries <= 2;
}

static char *const take_args[] = {(char *) (uintptr_t) "tar",
                                  (char *) (uintptr_t) "-x",
                                  (char *) (uintptr_t) "-b",
                                  (char *) (uintptr_t) RECORD,
                                  (char *) (uintptr_t) "-f",
                                  (char *) (uintptr_t) "-",
                                  (char *) (uintptr_t) "--no-same-owner",
                                  (char *) (uintptr_t) "--no-same-permissions",
                                  NULL};

int tool_get(const struct tool_options *opt)
{
    struct files f = {.args = (char **) (uintptr_t) take_args,
                      .target = opt->files[0],
                      .is_terminal = isatty(STDERR_FILENO)};
    if (!is_free(f.target))
        return tool_error("%s exists: expected the name of a folder that is to be made, or an "
                          "empty one",
                          f.target);
    return pipe_run(opt, &(struct pipe_user){.input_or_output = "to tar",
                                             .arg = &f,
                                             .begin = begin_get,
                                             .finish = finish_get,
                                             .show = show_progress,
                                             .server = opt->path ? opt->name : NULL,
                                             .path = opt->path});
}

int files_take(const struct tool_options *opt, const struct ivshm_owner *client, int at,
               int (*finish)(void *arg, int err, struct ivshm_diag *diag), void *arg)
{
    struct files f = {
        .args = (char **) (uintptr_t) take_args, .at = at, .finish = finish, .arg = arg};
    return pipe_run(opt, &(struct pipe_user){.input_or_output = "to tar",
                                             .arg = &f,
                                             .begin = begin_take,
                                             .finish = finish_take,
                                             .show = show_progress,
                                             .client = client,
                                             .limit = opt->max_size});
}
