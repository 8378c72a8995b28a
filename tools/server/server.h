/* SPDX-License-Identifier: mpich2 */
/*
 * What the files of ivshmem-server share. Single-threaded: one loop over epoll, in which nothing
 * waits for a client, nor for whoever reads the log.
 */
#ifndef IVSHMEM_SERVER_H
#define IVSHMEM_SERVER_H

#include "map.h"

#include <stdatomic.h>
#include <sys/types.h>

enum { SERVER_MAX_VECTORS = 64, SERVER_MAX_IDS = 65536 };

/*
 * Writes a line on stderr: what happened to a client, or to the server. Never waits; a flood of
 * lines is cut off, and their number is told later.
 */
__attribute__((format(printf, 1, 2))) void server_log(const char *fmt, ...);

/* A listening socket. One that was inherited has no name here: name is NULL. */
struct server_socket {
    int fd;
    const char *name; /* in the working directory */
    dev_t file_system;
    ino_t id;
};

/*
 * Makes the socket `path`, which must stay valid, for this user and, unless `group` is -1, for that
 * group; the directory of `path` becomes the working directory. A socket that no process listens at
 * is replaced. Returns TOOL_OK, or TOOL_FAILED once it has said why.
 */
int server_socket_create(const char *path, gid_t group, struct server_socket *s);

/* Whether a service manager has passed sockets to this process, by LISTEN_FDS. */
bool server_socket_is_inherited(void);

/* Takes the socket that a service manager has passed. Returns as server_socket_create. */
int server_socket_inherit(struct server_socket *s);

/* Closes the socket, and removes its name, if that is still its own. */
void server_socket_close(struct server_socket *s);

/* The process that frees what VMs leave in the region. */
struct server_reaper {
    const struct ivshm_map *map;
    const atomic_bool *connected; /* whether the client of each id is; in memory that forks share */
    int fd;                       /* tells when the process has ended; -1 if there is none */
    pid_t pid;
};

/*
 * Has it look at the region, soon and without waiting for it. Returns whether the process was
 * started for that, so that fd is a new one.
 */
bool server_reaper_wake(struct server_reaper *r);

/* To be called when fd is readable: if the process has ended, fd is -1 from then on. */
void server_reaper_read(struct server_reaper *r);

void server_reaper_end(struct server_reaper *r);

/*
 * Whether an endpoint that is not known to be dead says that it has this id, in the region whose
 * file is open as `region`. Reads the file, and so survives whatever is done to it.
 */
bool server_is_named(int region, uint16_t id);

/*
 * Serves the region's file `map`, with `vectors` eventfds for each client, at the socket `listener`
 * until SIGTERM, SIGINT or SIGHUP comes. Calls `ready` when clients can come. Returns TOOL_OK, or
 * TOOL_FAILED once it has said why it cannot serve.
 */
int server_run(const struct ivshm_map *map, unsigned vectors, int listener, void (*ready)(void));

#endif
