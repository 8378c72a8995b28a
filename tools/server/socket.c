/* SPDX-License-Identifier: mpich2 */
/*
 * The socket at which clients come: made here, or inherited from a service manager. Its permissions
 * decide who can use the region.
 */
#define _GNU_SOURCE
#include "server.h"

#include "../ivshmem_tool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { FIRST_INHERITED = 3, TRIES = 50, PAUSE = 100000 /* us */ };

static socklen_t address_of(const char *name, struct sockaddr_un *addr)
{
    *addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(addr->sun_path, name, strlen(name) + 1);
    return (socklen_t) (offsetof(struct sockaddr_un, sun_path) + strlen(name) + 1);
}

/* So that of servers that start at once, none takes another's new socket for a dead one. */
static int lock_folder(const char *path)
{
    int fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        tool_error("cannot read the directory of %s: %s", path, strerror(errno));
        return -1;
    }
    for (int i = 0; i < TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return fd;
        usleep(PAUSE);
    }
    tool_error("another process has locked the directory of %s for 5 seconds: %s", path,
               strerror(errno));
    close(fd);
    return -1;
}

/* Whether a server listens at the socket; or -errno if that cannot be told. */
static int is_served(const char *name)
{
    struct sockaddr_un addr;
    socklen_t len = address_of(name, &addr);
    for (int i = 0; i < TRIES; i++) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        int err = fd >= 0 && connect(fd, (struct sockaddr *) &addr, len) == 0 ? 0 : errno;
        bool ends = false;
        if (!err) {
            /* One that is being killed ends the connection without a word. */
            char byte;
            struct pollfd answer = {fd, POLLIN, 0};
            poll(&answer, 1, 1000);
            ssize_t n = recv(fd, &byte, 1, 0);
            ends = n == 0 || (n < 0 && errno == ECONNRESET);
        }
        if (fd >= 0)
            close(fd);
        if (err == ECONNREFUSED)
            return false;
        if (err && err != EAGAIN) /* which is a full queue */
            return -err;
        if (!ends)
            return true;
        usleep(PAUSE);
    }
    return true;
}

/* Removes the name of a socket that a server has left behind. */
static int remove_stale(const char *path, const char *name)
{
    struct stat st;
    if (fstatat(AT_FDCWD, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? TOOL_OK : tool_error("cannot stat %s: %s", path, strerror(errno));
    if (!S_ISSOCK(st.st_mode))
        return tool_error("%s exists and is not a socket: remove it or choose another name", path);
    if (st.st_uid != geteuid())
        return tool_error("%s exists and belongs to %s: remove it or choose another name", path,
                          tool_user(st.st_uid));
    int served = is_served(name);
    if (served < 0)
        return tool_error("cannot find out whether a server listens at %s: %s", path,
                          strerror(-served));
    if (served)
        return tool_error("another server listens at %s", path);
    return unlinkat(AT_FDCWD, name, 0) == 0
               ? TOOL_OK
               : tool_error("cannot remove %s, which a dead server left: %s", path,
                            strerror(errno));
}

/* Nobody can connect before listen, and only those who may from then on. */
static int bind_and_listen(const char *path, const char *name, gid_t group, int fd)
{
    struct sockaddr_un addr;
    socklen_t len = address_of(name, &addr);
    umask(group == (gid_t) -1 ? 0177 : 0117);
    if (bind(fd, (struct sockaddr *) &addr, len) != 0)
        return tool_error("cannot make the socket %s: %s", path, strerror(errno));
    int status = TOOL_OK;
    if (group != (gid_t) -1 &&
        fchownat(AT_FDCWD, name, (uid_t) -1, group, AT_SYMLINK_NOFOLLOW) != 0)
        status = tool_error("cannot give the socket %s to that group: %s", path, strerror(errno));
    else if (listen(fd, SOMAXCONN) != 0)
        status = tool_error("cannot listen at %s: %s", path, strerror(errno));
    if (status)
        unlinkat(AT_FDCWD, name, 0);
    return status;
}

int server_socket_create(const char *path, gid_t group, struct server_socket *s)
{
    struct ivshm_diag diag;
    struct sockaddr_un addr;
    struct stat st;
    const char *name;
    int folder = ivshm_map_open_folder(path, &name, &diag);
    if (folder < 0)
        return tool_error("cannot make the socket %s: %s", path, diag.text);
    /* bind takes a path only. */
    int err = fchdir(folder) == 0 ? 0 : errno;
    close(folder);
    if (err)
        return tool_error("cannot enter the directory of %s: %s", path, strerror(err));
    if (!*name || strlen(name) >= sizeof(addr.sun_path))
        return tool_error("cannot make the socket '%s': its name must have 1 to %zu bytes", path,
                          sizeof(addr.sun_path) - 1);

    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return tool_error("cannot make a socket: %s", strerror(errno));
    int lock = lock_folder(path);
    int status = lock < 0 ? TOOL_FAILED : remove_stale(path, name);
    if (!status)
        status = bind_and_listen(path, name, group, fd);
    if (!status && fstatat(AT_FDCWD, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        status = tool_error("%s is gone again: %s", path, strerror(errno));
    if (lock >= 0)
        close(lock);
    if (status) {
        close(fd);
        return status;
    }
    *s = (struct server_socket){fd, name, st.st_dev, st.st_ino};
    return TOOL_OK;
}

bool server_socket_is_inherited(void)
{
    const char *pid = getenv("LISTEN_PID");
    return pid && getenv("LISTEN_FDS") && strtol(pid, NULL, 10) == getpid();
}

int server_socket_inherit(struct server_socket *s)
{
    int fd = FIRST_INHERITED, domain = 0, type = 0, listens = 0;
    const char *number = getenv("LISTEN_FDS");
    if (strcmp(number, "1") != 0)
        return tool_error("%s sockets were passed by LISTEN_FDS: expected 1", number);
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &(socklen_t){sizeof(domain)}) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &(socklen_t){sizeof(type)}) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &(socklen_t){sizeof(listens)}) != 0 ||
        domain != AF_UNIX || type != SOCK_STREAM || !listens)
        return tool_error("what was passed by LISTEN_FDS is not a listening unix stream socket");
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
        return tool_error("cannot use the socket that was passed: %s", strerror(errno));
    *s = (struct server_socket){.fd = fd};
    return TOOL_OK;
}

void server_socket_close(struct server_socket *s)
{
    struct stat st;
    if (s->name && fstatat(AT_FDCWD, s->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        st.st_dev == s->file_system && st.st_ino == s->id)
        unlinkat(AT_FDCWD, s->name, 0);
    close(s->fd);
}
