/* SPDX-License-Identifier: mpich2 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* ppoll */
#endif
#include "bell.h"

#include "atomic.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* A guest's device, by its registers. */

static int open_registers(struct ivshm_bell *bell, const struct ivshm_map *map,
                          struct ivshm_diag *diag)
{
    int fd = ivshm_map_reopen(map);
    bell->registers = fd < 0 ? NULL : ivshm_device_map_registers(fd, true);
    int err = fd < 0 ? -fd : errno;
    if (fd >= 0)
        close(fd);
    if (!bell->registers)
        return ivshm_diag_fail(diag, err,
                               "this process cannot wake peers: cannot map the registers of %s, "
                               "resource0 in sysfs: %s; give it the permissions of resource2",
                               map->name, strerror(err));
    bell->self = (struct ivshm_bell_address){.rings = true, .id = (uint16_t) map->peer};
    ivshm_diag_fail(diag, ENODEV,
                    "peers cannot wake this process: interrupts of device %s need the driver "
                    "(doc/driver.md)",
                    map->name);
    return 0;
}

/* A guest's device, by our driver. */

static int open_driver(struct ivshm_bell *bell, const struct ivshm_map *map,
                       struct ivshm_diag *diag)
{
    struct ivshm_driver_info info = {0};
    bell->driver = ivshm_map_reopen(map);
    if (bell->driver < 0 || ioctl(bell->driver, IVSHM_DRIVER_INFO, &info) != 0)
        return ivshm_diag_fail(diag, bell->driver < 0 ? -bell->driver : errno,
                               "this process cannot wake peers: the driver's node %s cannot be "
                               "opened once more: %s",
                               map->path, strerror(bell->driver < 0 ? -bell->driver : errno));
    if (info.vectors == 0)
        return -ENODEV; /* after all */
    bell->self = (struct ivshm_bell_address){.rings = true, .id = (uint16_t) map->peer};
    /* The processes of a VM share its vectors; most of them follow each other. */
    struct ivshm_driver_bind bind = {.vector = (uint32_t) getpid() % info.vectors,
                                     .eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    bell->event = bind.eventfd;
    if (bell->event < 0 || ioctl(bell->driver, IVSHM_DRIVER_BIND, &bind) != 0) {
        ivshm_diag_fail(diag, errno,
                        "peers cannot wake this process: the driver does not pass on the "
                        "interrupts of %s: %s",
                        map->name, strerror(errno));
        return 0;
    }
    bell->self.listens = true;
    bell->self.vector = (uint16_t) bind.vector;
    return 0;
}

/* On the host, by the server: messages of 8 bytes, some with a descriptor. */

#define SERVER_VERSION 0
#define SERVER_PATIENCE 1 /* seconds */
#define VECTORS_MAX 64
#define CLIENTS_MAX 4096

struct ivshm_bell_client {
    uint16_t id;
    int vector_count, vectors[VECTORS_MAX];
};

/* Reads a message: 1, 0 if there is none now, or -errno. *fd is -1, or the caller's to close. */
static int hear_one(struct ivshm_bell *bell, int flags, int64_t *value, int *fd)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {value, sizeof(*value)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    *fd = -1;
    ssize_t got = recvmsg(bell->server, &msg, flags | MSG_CMSG_CLOEXEC);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    struct cmsghdr *header = CMSG_FIRSTHDR(&msg);
    if (got > 0 && header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
        header->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(fd, CMSG_DATA(header), sizeof(int));
    if (got == sizeof(*value))
        return 1;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    return got == 0 ? -EPIPE : -EPROTO;
}

static struct ivshm_bell_client *find_client(const struct ivshm_bell *bell, uint16_t id)
{
    for (size_t i = 0; i < bell->client_count; i++)
        if (bell->clients[i].id == id)
            return &bell->clients[i];
    return NULL;
}

static void forget_client(struct ivshm_bell *bell, struct ivshm_bell_client *client)
{
    while (client->vector_count > 0)
        close(client->vectors[--client->vector_count]);
    *client = bell->clients[--bell->client_count];
}

/* Another vector of a client. */
static void add_vector(struct ivshm_bell *bell, uint16_t id, int fd)
{
    struct ivshm_bell_client *client = find_client(bell, id);
    if (!client && bell->client_count < CLIENTS_MAX) {
        struct ivshm_bell_client *clients =
            realloc(bell->clients, (bell->client_count + 1) * sizeof(*clients));
        if (clients) {
            bell->clients = clients;
            client = &clients[bell->client_count++];
            *client = (struct ivshm_bell_client){.id = id};
        }
    }
    if (client && client->vector_count < VECTORS_MAX)
        client->vectors[client->vector_count++] = fd;
    else
        close(fd);
}

/* What the server says after its greeting: vectors of clients, ours among them, and departures. */
static bool take_news(struct ivshm_bell *bell, int64_t value, int fd)
{
    struct ivshm_bell_client *client;
    if (value < 0 || value > UINT16_MAX) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    if (fd < 0 && (client = find_client(bell, (uint16_t) value)))
        forget_client(bell, client);
    else if (fd >= 0 && value == bell->self.id && bell->event < 0)
        bell->event = fd;
    else if (fd >= 0 && value == bell->self.id)
        close(fd); /* a vector that nobody rings */
    else if (fd >= 0)
        add_vector(bell, (uint16_t) value, fd);
    return true;
}

/* Hears what the server has said since. Without it, everything goes on as it is. */
static void hear(struct ivshm_bell *bell)
{
    int64_t value = 0;
    int fd, got = 0;
    if (bell->server < 0)
        return;
    do {
        got = hear_one(bell, MSG_DONTWAIT, &value, &fd);
        if (got > 0 && !take_news(bell, value, fd))
            got = -EPROTO;
    } while (got > 0);
    if (got < 0) {
        close(bell->server);
        bell->server = -1;
    }
}

/* Version, ID, memory, then vectors up to our own first one. */
static int greet(struct ivshm_bell *bell, const struct ivshm_map *map, const char *server,
                 struct ivshm_diag *diag)
{
    int64_t version = -1, id = -1, mark = 0, value = -1;
    int fds[3] = {-1, -1, -1}, fd;
    struct stat st;
    if (hear_one(bell, 0, &version, &fds[0]) <= 0 || fds[0] >= 0 || version != SERVER_VERSION ||
        hear_one(bell, 0, &id, &fds[1]) <= 0 || fds[1] >= 0 || id < 0 || id > UINT16_MAX ||
        hear_one(bell, 0, &mark, &fds[2]) <= 0 || fds[2] < 0 || mark != -1) {
        for (int i = 0; i < 3; i++)
            if (fds[i] >= 0)
                close(fds[i]);
        return ivshm_diag_fail(diag, EPROTO,
                               "what listens at %s does not serve a region, or refuses this "
                               "process: see the log of ivshmem-server, or name its socket",
                               server);
    }
    bell->memory = fds[2];
    if (fstat(bell->memory, &st) != 0 || st.st_dev != map->file_system || st.st_ino != map->id)
        return ivshm_diag_fail(diag, ESTALE,
                               "the server at %s serves another file than region %s: name the "
                               "socket of the server of that one",
                               server, map->name);
    bell->self = (struct ivshm_bell_address){.rings = true, .id = (uint16_t) id};
    while (bell->event < 0)
        if (hear_one(bell, 0, &value, &fd) <= 0 || !take_news(bell, value, fd))
            return ivshm_diag_fail(diag, EPROTO,
                                   "the server at %s did not pass this process an eventfd: is the "
                                   "limit of descriptors (ulimit -n) too low?",
                                   server);
    bell->self.listens = true;
    return 0;
}

/* The socket that systemd has for the region's file. */
static bool has_socket(const struct ivshm_map *map, char *path, size_t size)
{
    static const char shm[] = "/dev/shm/";
    const char *name = map->path + strlen(shm);
    return strncmp(map->path, shm, strlen(shm)) == 0 && !strchr(name, '/') &&
           (size_t) snprintf(path, size, "/run/ivshmem/%s", name) < size && access(path, W_OK) == 0;
}

static int open_server(struct ivshm_bell *bell, const struct ivshm_map *map, const char *server,
                       struct ivshm_diag *diag)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval patience = {.tv_sec = SERVER_PATIENCE};
    if (strlen(server) >= sizeof(address.sun_path))
        return ivshm_diag_fail(diag, ENAMETOOLONG,
                               "the server's socket %s has a longer name than a socket can have: "
                               "%zu bytes",
                               server, sizeof(address.sun_path) - 1);
    strcpy(address.sun_path, server);
    bell->server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bell->server < 0 ||
        setsockopt(bell->server, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) != 0 ||
        connect(bell->server, (const struct sockaddr *) &address, sizeof(address)) != 0)
        return ivshm_diag_fail(diag, errno, "cannot connect to the server's socket %s: %s", server,
                               strerror(errno));
    return greet(bell, map, server, diag);
}

static void release(struct ivshm_bell *bell)
{
    const int fds[] = {bell->event, bell->driver, bell->server, bell->memory};
    while (bell->client_count > 0)
        forget_client(bell, bell->clients);
    free(bell->clients);
    if (bell->registers)
        ivshm_device_unmap_registers(bell->registers);
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

int ivshm_bell_open(struct ivshm_bell *bell, const struct ivshm_map *map, const char *server,
                    struct ivshm_diag *diag)
{
    char usual[PATH_MAX];
    struct ivshm_bell b = {.event = -1, .driver = -1, .server = -1, .memory = -1};
    int err;
    if (!map->is_device && !server) {
        err = has_socket(map, usual, sizeof(usual)) ? open_server(&b, map, usual, diag) : -ENODEV;
        if (err == -ECONNREFUSED) /* left by a server that has ended */
            err = -ENODEV;
    } else if (!map->is_device)
        err = strcmp(server, "none") == 0 ? -ENODEV : open_server(&b, map, server, diag);
    else if (!map->has_bell)
        err = -ENODEV;
    else if (strcmp(map->kind, "driver") == 0)
        err = open_driver(&b, map, diag);
    else
        err = open_registers(&b, map, diag);
    if (err)
        release(&b);
    else
        *bell = b;
    return err;
}

void ivshm_bell_close(struct ivshm_bell *bell)
{
    if (bell->self.rings)
        release(bell);
    *bell = (struct ivshm_bell){0};
}

static void ring_eventfd(struct ivshm_bell *bell, struct ivshm_bell_address peer)
{
    const uint64_t one = 1;
    struct ivshm_bell_client *client = find_client(bell, peer.id);
    if (!client || peer.vector >= client->vector_count) {
        hear(bell);
        client = find_client(bell, peer.id);
    }
    if (client && peer.vector < client->vector_count &&
        write(client->vectors[peer.vector], &one, sizeof(one)) < 0)
        return; /* it has been rung so often that it cannot but hear */
}

void ivshm_bell_ring(struct ivshm_bell *bell, struct ivshm_bell_address peer)
{
    if (!peer.listens)
        return;
    if (bell->driver >= 0) {
        const struct ivshm_driver_ring ring = {peer.id, peer.vector};
        ioctl(bell->driver, IVSHM_DRIVER_RING, &ring);
    } else if (bell->registers) {
        /* A store to a device does not pass those to memory. */
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        bell->registers[IVSHM_REGISTER_DOORBELL] = (uint32_t) peer.id << 16 | peer.vector;
    } else {
        ring_eventfd(bell, peer);
    }
}

void ivshm_bell_wait(struct ivshm_bell *bell, uint64_t ns, const struct pollfd *fds, size_t count)
{
    const struct timespec timeout = {(time_t) (ns / 1000000000), (long) (ns % 1000000000)};
    struct pollfd alone = {0}, *all = count ? malloc((count + 1) * sizeof(*all)) : &alone;
    uint64_t rings;
    if (!all)
        return; /* it looks again */
    all[0] = (struct pollfd){.fd = bell->event, .events = POLLIN};
    if (count)
        memcpy(all + 1, fds, count * sizeof(*fds));
    if (ppoll(all, (nfds_t) count + 1, &timeout, NULL) > 0 && all[0].revents &&
        read(bell->event, &rings, sizeof(rings)) < 0)
        all[0].revents = 0; /* somebody else has read it: then we have looked */
    if (count)
        free(all);
}
