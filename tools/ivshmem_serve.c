/* SPDX-License-Identifier: mpich2 */
/*
 * ivshmem serve: puts and gets of a folder, by whoever asks for them. The process that waits for
 * requests only opens what a client has named, and has a child do the rest: that is one side of a
 * pipe, as put and get are, and connects with this client alone. So a client that says nonsense,
 * dies or stops costs its child.
 *
 * Clients are not trusted. A name is resolved by the kernel, which does not leave the folder. What
 * is put is unpacked in a new folder, in which nobody has made links before, and then renamed.
 * Whoever unpacks holds a lock on that folder: without it, it is left over, and removed.
 */
#define _GNU_SOURCE /* renameat2, O_PATH */
#include "ivshmem_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CLIENTS_DEFAULT 8
#define CLIENTS_MAX LINK_PEERS_MAX
#define SWEEPS 10 /* attempts to remove what is left over, one a second */

/* What one client wants, and the child that does it. */
struct session {
    pid_t child; /* 0 if there is none */
    struct ivshm_owner client;
    enum link_request what;
    char pipe[LINK_NAME_MAX];
    int parent;              /* the folder of what it has named */
    char name[NAME_MAX + 1]; /* there; empty for all that is in the folder */
    /* Of put. If `name` is not empty, it is a folder to make. */
    int root, fresh; /* the served folder; the new one in it, in which it is unpacked: */
    char fresh_name[32];
};

struct server {
    const struct tool_options *opt;
    struct link link;
    int root;
    struct session sessions[CLIENTS_MAX];
    unsigned clients_max, sweeps;
    uint64_t next_sweep;
    bool has_news;
};

static int open_beneath(int root, const char *path)
{
    const struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                                 .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    return (int) syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof(how));
}

/* put: what has arrived gets its name */

struct moved {
    char name[NAME_MAX + 1];
    bool has_replaced;
};

static bool is_folder(int at, const char *name)
{
    struct stat st;
    return fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

/* One entry of the new folder. What it replaces, if it is no folder, comes there instead. */
static int move_entry(const struct session *s, struct moved *m, struct ivshm_diag *diag)
{
    if (renameat2(s->fresh, m->name, s->parent, m->name, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EEXIST)
        return ivshm_diag_fail(diag, errno, "cannot name %s what has arrived: %s",
                               tool_printable(m->name), strerror(errno));
    if (!is_folder(s->parent, m->name)) {
        if (renameat2(s->fresh, m->name, s->parent, m->name, RENAME_EXCHANGE) != 0)
            return ivshm_diag_fail(diag, errno, "cannot replace %s: %s", tool_printable(m->name),
                                   strerror(errno));
        m->has_replaced = true;
        if (!is_folder(s->fresh, m->name))
            return 0;
        /* One that somebody has made just now. */
        renameat2(s->fresh, m->name, s->parent, m->name, RENAME_EXCHANGE);
    }
    return ivshm_diag_fail(diag, EEXIST,
                           "%s exists there and is a folder: remove it, or name another folder",
                           tool_printable(m->name));
}

/* All of them, or none. */
static int move_entries(const struct session *s, struct ivshm_diag *diag)
{
    struct moved *moved = NULL;
    size_t count = 0;
    struct dirent *entry;
    int err = 0, fd = openat(s->fresh, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (!folder)
        err = ivshm_diag_fail(diag, errno, "cannot read what has arrived: %s", strerror(errno));
    /* First their names, as the folder changes then. */
    while (!err && (entry = readdir(folder))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        struct moved *more = realloc(moved, (count + 1) * sizeof(*moved));
        if (!more) {
            err = ivshm_diag_fail(diag, ENOMEM, "out of memory");
            break;
        }
        moved = more;
        moved[count] = (struct moved){.has_replaced = false};
        strcpy(moved[count++].name, entry->d_name);
    }
    size_t done = 0;
    while (!err && done < count && !(err = move_entry(s, &moved[done], diag)))
        done++;
    while (err && done-- > 0)
        renameat2(s->parent, moved[done].name, s->fresh, moved[done].name,
                  moved[done].has_replaced ? RENAME_EXCHANGE : RENAME_NOREPLACE);
    free(moved);
    if (folder)
        closedir(folder);
    return err;
}

static int finish_put(void *arg, int err, struct ivshm_diag *diag)
{
    const struct session *s = arg;
    const mode_t mask = umask(0);
    umask(mask);
    if (!err && !*s->name)
        err = move_entries(s, diag);
    else if (!err && (fchmod(s->fresh, 0777 & ~mask) != 0 ||
                      renameat2(s->root, s->fresh_name, s->parent, s->name, RENAME_NOREPLACE) != 0))
        err = ivshm_diag_fail(diag, errno, "cannot name %s what has arrived: %s",
                              tool_printable(s->name), strerror(errno));
    if (err || !*s->name)
        files_remove(s->root, s->fresh_name);
    return err;
}

/* What a put unpacks into: *s gets it, or diag says why not. */
static int make_fresh(struct session *s, struct ivshm_diag *diag)
{
    uint64_t random;
    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        return ivshm_diag_fail(diag, errno, "cannot get random bytes: %s", strerror(errno));
    snprintf(s->fresh_name, sizeof(s->fresh_name), FILES_HIDDEN "%016llx",
             (unsigned long long) random);
    if (mkdirat(s->root, s->fresh_name, 0700) != 0)
        return ivshm_diag_fail(diag, errno, "cannot make a folder there: %s", strerror(errno));
    s->fresh = openat(s->root, s->fresh_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (s->fresh < 0 || flock(s->fresh, LOCK_EX | LOCK_NB) != 0) {
        int err = errno;
        unlinkat(s->root, s->fresh_name, AT_REMOVEDIR);
        return ivshm_diag_fail(diag, err, "cannot use a new folder there: %s", strerror(err));
    }
    return 0;
}

/* Removes what processes have left that were killed. */
static void sweep(int root)
{
    struct dirent *entry;
    int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    while (folder && (entry = readdir(folder))) {
        if (strncmp(entry->d_name, FILES_HIDDEN, strlen(FILES_HIDDEN)) != 0)
            continue;
        fd = openat(root, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
            files_remove(root, entry->d_name);
        if (fd >= 0)
            close(fd);
    }
    if (folder)
        closedir(folder);
}

/* Requests */

static int refuse_path(int err, const char *path, struct ivshm_diag *diag)
{
    if (err == EXDEV)
        return ivshm_diag_fail(diag, err, "%.64s leads out of the folder that is served",
                               tool_printable(path));
    return ivshm_diag_fail(diag, err, "%.64s: %s", tool_printable(path), strerror(err));
}

/* Opens the folder of what is named, and finds its name there. */
static int find_path(struct session *s, const char *path, struct ivshm_diag *diag)
{
    char copy[LINK_TEXT_MAX];
    size_t len = strlen(path);
    while (len > 0 && path[len - 1] == '/' && len > 1)
        len--;
    snprintf(copy, sizeof(copy), "%.*s", (int) len, path);
    char *slash = strrchr(copy, '/'), *name = slash ? slash + 1 : copy;
    const bool is_all = !*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
    if (!is_all && strlen(name) > NAME_MAX)
        return refuse_path(ENAMETOOLONG, path, diag);
    if (!is_all)
        strcpy(s->name, name);
    if (s->what == LINK_PUT || is_all) {
        /* A folder that is there. */
        s->parent = open_beneath(s->root, copy);
        if (s->parent >= 0)
            *s->name = 0;
        if (s->parent >= 0 || is_all || errno != ENOENT)
            return s->parent >= 0 ? 0 : refuse_path(errno, path, diag);
    }
    if (slash)
        *slash = 0;
    s->parent = open_beneath(s->root, slash == copy ? "/" : slash ? copy : ".");
    struct stat st;
    if (s->parent < 0 ||
        (s->what == LINK_GET && fstatat(s->parent, s->name, &st, AT_SYMLINK_NOFOLLOW) != 0))
        return refuse_path(errno, path, diag);
    return 0;
}

/* Whose pipe it is: its name is that of the client's job. */
static int find_pipe(const struct server *server, struct session *s, struct ivshm_diag *diag)
{
    static const char prefix[] = "ivshmem-pipe-";
    struct ivshm_endpoint_info info;
    char own[LINK_NAME_MAX];
    snprintf(own, sizeof(own), "%s%s:", prefix, server->opt->name);
    if (ivshm_endpoint_read(server->link.region, s->client.endpoint, &info) != 0 ||
        info.claim.generation != s->client.generation || strncmp(info.job, own, strlen(own)) != 0 ||
        strlen(info.job) - strlen(prefix) >= sizeof(s->pipe))
        return ivshm_diag_fail(diag, EBADMSG, "the client's job has no name of a pipe");
    strcpy(s->pipe, info.job + strlen(prefix));
    return 0;
}

static int prepare(struct server *server, struct session *s, const char *path,
                   struct ivshm_diag *diag)
{
    int err = find_pipe(server, s, diag);
    if (err)
        return err;
    if (s->what == LINK_PUT && !server->opt->write)
        return ivshm_diag_fail(diag, EROFS,
                               "the folder can only be read: start the server with --write");
    err = find_path(s, path, diag);
    if (!err && s->what == LINK_PUT && faccessat(s->parent, ".", W_OK | X_OK, AT_EACCESS) != 0)
        err = refuse_path(errno, path, diag);
    return !err && s->what == LINK_PUT ? make_fresh(s, diag) : err;
}

/* The child. */
static int run_session(struct server *server, struct session *s)
{
    struct tool_options opt = *server->opt;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    link_forget(&server->link);
    opt.name = s->pipe;
    opt.path = NULL;
    if (s->what == LINK_GET)
        return files_give(&opt, &s->client, s->parent, *s->name ? s->name : NULL);
    int status = files_take(&opt, &s->client, s->fresh, finish_put, s);
    /* It has not begun. */
    if (status != TOOL_OK && faccessat(s->root, s->fresh_name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        files_remove(s->root, s->fresh_name);
    return status;
}

static struct session *session_of(struct server *server, struct ivshm_owner client)
{
    for (unsigned i = 0; i < server->clients_max; i++) {
        struct session *s = &server->sessions[i];
        if (s->child && s->client.endpoint == client.endpoint &&
            s->client.generation == client.generation)
            return s;
    }
    return NULL;
}

static void on_request(void *arg, struct ivshm_owner client, enum link_request what,
                       const char *path)
{
    struct server *server = arg;
    struct session *s = session_of(server, client);
    struct ivshm_diag diag = {""};
    server->has_news = true;
    if (s) { /* it has asked again */
        link_answer(&server->link, client, LINK_WELCOME, "");
        return;
    }
    for (unsigned i = 0; i < server->clients_max && !s; i++)
        if (!server->sessions[i].child)
            s = &server->sessions[i];
    if (!s) {
        link_answer(&server->link, client, LINK_BUSY, "");
        return;
    }
    *s = (struct session){
        .client = client, .what = what, .root = server->root, .parent = -1, .fresh = -1};
    int err = prepare(server, s, path, &diag);
    if (!err) {
        fflush(stdout);
        s->child = fork();
        if (s->child == 0)
            _exit(run_session(server, s));
        if (s->child < 0) {
            err = ivshm_diag_fail(&diag, errno, "cannot start a process: %s", strerror(errno));
            s->child = 0;
            if (s->fresh >= 0)
                unlinkat(s->root, s->fresh_name, AT_REMOVEDIR);
        }
    }
    if (s->parent >= 0)
        close(s->parent);
    if (s->fresh >= 0)
        close(s->fresh);
    link_answer(&server->link, client, err ? LINK_REFUSED : LINK_WELCOME, diag.text);
}

static void end_sessions(struct server *server, bool waits)
{
    pid_t child;
    int status;
    while ((child = waitpid(-1, &status, waits ? 0 : WNOHANG)) > 0 ||
           (waits && child < 0 && errno == EINTR))
        for (unsigned i = 0; i < server->clients_max; i++) {
            struct session *s = &server->sessions[i];
            if (child <= 0 || s->child != child)
                continue;
            s->child = 0;
            server->has_news = true;
            /* If it is still waiting. Otherwise, it knows better. */
            if (status != 0 && !waits)
                link_answer(&server->link, s->client, LINK_REFUSED,
                            "the server could not begin; what it has said there tells why");
            if (WIFSIGNALED(status) && server->opt->write)
                server->sweeps = SWEEPS;
        }
}

static int run(struct server *server, struct ivshm_diag *diag)
{
    struct link *link = &server->link;
    int err = link_connect(link, diag);
    if (err)
        return err;
    printf("serving %s as %s, %s, on region %s\n", server->opt->files[0], server->opt->name,
           server->opt->write ? "to read and write" : "to read", ivshm_region_name(link->region));
    fflush(stdout);
    server->sweeps = server->opt->write;
    while (!tool_was_interrupted()) {
        link_wait(link);
        end_sessions(server, false);
        if (server->sweeps && tool_now_ns() >= server->next_sweep) {
            server->sweeps--;
            server->next_sweep = tool_now_ns() + UINT64_C(1000000000);
            if (fork() == 0) {
                link_forget(link);
                sweep(server->root);
                _exit(0);
            }
        }
        if (server->has_news)
            link_found(link);
        server->has_news = false;
    }
    for (unsigned i = 0; i < server->clients_max; i++)
        if (server->sessions[i].child)
            kill(server->sessions[i].child, SIGTERM);
    return 0;
}

/* The command line */

static int open_root(struct server *server, struct ivshm_diag *diag)
{
    const char *name = server->opt->files[0];
    int fd = -1;
    server->root = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (server->root < 0)
        return ivshm_diag_fail(diag, errno, "cannot serve %s: %s", name, strerror(errno));
    if (server->opt->write && faccessat(server->root, ".", W_OK | X_OK, AT_EACCESS) != 0)
        return ivshm_diag_fail(diag, errno, "cannot write into %s: %s", name, strerror(errno));
    if ((fd = open_beneath(server->root, ".")) < 0)
        return ivshm_diag_fail(diag, errno,
                               "the kernel cannot keep clients inside %s: %s; Linux 5.6 or newer "
                               "is expected",
                               name, strerror(errno));
    close(fd);
    return 0;
}

int tool_serve(const struct tool_options *given)
{
    static struct server server;
    static char host[65]; /* as long as a name of a pipe may be */
    struct tool_options opt = *given;
    struct ivshm_region region;
    struct ivshm_diag diag = {""};
    if (!opt.name) {
        if (gethostname(host, sizeof(host)) != 0)
            return tool_error("this machine has no name: give one by --name");
        host[sizeof(host) - 1] = 0;
        host[strcspn(host, ".")] = 0;
        opt.name = host;
    }
    server = (struct server){.opt = &opt,
                             .link = {.is_sender = true,
                                      .name = opt.name,
                                      .timeout = opt.timeout,
                                      .region = &region,
                                      .on_request = on_request,
                                      .arg = &server},
                             .root = -1,
                             .clients_max = CLIENTS_DEFAULT};
    if (opt.clients) {
        char *end;
        unsigned long count = strtoul(opt.clients, &end, 10);
        if (*end || *opt.clients < '0' || *opt.clients > '9' || count < 1 || count > CLIENTS_MAX)
            return tool_usage_error("--clients %s is not a number from 1 to %d", opt.clients,
                                    CLIENTS_MAX);
        server.clients_max = (unsigned) count;
    }
    int err = open_root(&server, &diag);
    if (err)
        return tool_error("%s", diag.text);
    tool_catch_signals();
    err = ivshm_region_open(opt.region, &region, &diag);
    if (!err) {
        tool_open_bell(&region);
        err = link_open(&server.link, &diag);
        if (!err) {
            err = run(&server, &diag);
            link_close(&server.link); /* which ends its guardian, no child of a client */
            end_sessions(&server, true);
        }
        ivshm_region_close(&region);
    }
    close(server.root);
    return err ? tool_error("%s", diag.text) : TOOL_OK;
}
