/* SPDX-License-Identifier: mpich2 */
/*
 * The clients, QEMUs or processes of the host, and what they are told. This is the server's side of
 * QEMU's protocol for ivshmem-doorbell, version 0 (docs/specs/ivshmem-spec of QEMU): each message
 * is a number of eight bytes, little-endian, some with a descriptor. Clients say nothing.
 *
 * What a client has yet to be told is kept as news, one for each peer, not as messages. A peer that
 * comes and goes before a client has heard of it is no news. So a client that does not read costs a
 * bounded amount of memory, and is told the truth when it reads again.
 *
 * Each client gets its own open file description of the region's file, on which the server holds a
 * lock (F_OFD_SETLK) of the byte ID_LOCKS + id. The lock goes when the last process has neither a
 * descriptor nor a mapping of that description any more. So the kernel knows which ids are in use:
 * after the death of a server, too, and if several servers share a region. core/liveness.h has what
 * else that proves.
 */
#define _GNU_SOURCE
#include "server.h"

#include "../ivshmem_tool.h"
#include "liveness.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define PROTOCOL_VERSION 0
/* QEMU waits for ever if the connection just ends, but reports a version that it does not know. */
#define REFUSED (-1)
#define REGION_FOLLOWS (-1) /* in place of an id */

enum {
    MAX_CLIENTS = 1024,
    MAX_PER_PROCESS = 16, /* so that no process keeps others out */
    MAX_PASSED_OVER = 64,
    OWN_DESCRIPTORS = 32,
    /* Linux limits descriptors that were sent and not received, too. This many fit into a socket.
     */
    IN_FLIGHT = 8,
};

/* What a client has to be told of a peer. */
struct news {
    struct news *next;
    const struct client *peer; /* it has come; or NULL: the one of this id has gone */
    uint16_t id;
    unsigned told; /* vectors of that peer */
};

struct client {
    struct client *next;
    int fd;
    uint16_t id;
    pid_t pid; /* 0 if it is not visible from here */
    enum { TELL_VERSION, TELL_ID, TELL_REGION, TELL_NEWS } step;
    int region; /* for it alone; -1 once it was sent */
    struct news *first, **last;
    int bells[]; /* an eventfd for each vector */
};

static struct {
    const struct ivshm_map *map;
    unsigned vectors;
    int listener, epoll, signals, timer;
    struct client *clients;
    unsigned count, limit;
    uint16_t next_id;
    bool cannot_send;  /* to anybody, until it is tried again */
    atomic_bool *used; /* by id; shared with the reaper */
    struct server_reaper reaper;
} server;

/* Without it, what VMs leave is freed by others. */
static void wake_reaper(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &server.reaper};
    if (server_reaper_wake(&server.reaper) &&
        epoll_ctl(server.epoll, EPOLL_CTL_ADD, server.reaper.fd, &event) != 0)
        server_reaper_end(&server.reaper);
}

/* For what can go on only when others have given something back. */
static void try_again_later(void)
{
    const struct itimerspec second = {.it_value.tv_sec = 1};
    timerfd_settime(server.timer, 0, &second, NULL);
}

/* 0 or -errno; -EAGAIN if the client has to read first. fd -1 is none. */
static int send_message(int to, int64_t number, int fd)
{
    number = (int64_t) htole64((uint64_t) number);
    struct iovec iov = {&number, sizeof(number)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    if (fd >= 0) {
        msg.msg_control = &control;
        msg.msg_controllen = sizeof(control);
        control.header = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
        memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
    }
    ssize_t n = sendmsg(to, &msg, 0);
    /* A socket takes so few bytes as a whole. */
    return n == sizeof(number) ? 0 : n < 0 ? -errno : -EIO;
}

static int64_t next_message(const struct client *c, int *fd)
{
    const struct news *news = c->first;
    *fd = -1;
    switch (c->step) {
    case TELL_VERSION:
        return PROTOCOL_VERSION;
    case TELL_ID:
        return c->id;
    case TELL_REGION:
        *fd = c->region;
        return REGION_FOLLOWS;
    case TELL_NEWS:
        break;
    }
    if (news->peer)
        *fd = news->peer->bells[news->told];
    return news->id;
}

static void forget(struct client *c, struct news **at)
{
    struct news *news = *at;
    *at = news->next;
    if (c->last == &news->next)
        c->last = at;
    free(news);
}

static void message_was_sent(struct client *c)
{
    if (c->step == TELL_REGION) {
        close(c->region);
        c->region = -1;
    }
    if (c->step != TELL_NEWS)
        c->step++;
    else if (!c->first->peer || ++c->first->told == server.vectors)
        forget(c, &c->first);
}

/* The connection is closed here; the event that it has ended removes the client. */
static void give_up(const struct client *c, const char *why, int err)
{
    server_log("client %u: %s: %s", c->id, why, strerror(err));
    shutdown(c->fd, SHUT_RDWR);
}

/* Sends what the socket takes. epoll tells when it takes more. */
static void tell(struct client *c)
{
    while (!server.cannot_send && (c->step != TELL_NEWS || c->first)) {
        int fd;
        int64_t number = next_message(c, &fd);
        int err = -send_message(c->fd, number, fd);
        if (err == EAGAIN || err == EINTR)
            return;
        if (err == ETOOMANYREFS || err == ENOBUFS || err == ENOMEM) {
            server_log("client %u: cannot send for now: %s", c->id, strerror(err));
            server.cannot_send = true; /* also as each attempt makes epoll ask for the next one */
            try_again_later();
            return;
        }
        if (err == EPIPE || err == ECONNRESET) {
            shutdown(c->fd, SHUT_RDWR); /* it may have closed one half only */
            return;
        }
        if (err) {
            give_up(c, "cannot send", err);
            return;
        }
        message_was_sent(c);
    }
}

static void add_news(struct client *c, const struct client *peer, uint16_t id)
{
    struct news *news = malloc(sizeof(*news));
    if (!news) {
        give_up(c, "no memory for its news", ENOMEM);
        return;
    }
    *news = (struct news){.peer = peer, .id = id};
    *c->last = news;
    c->last = &news->next;
}

static void add_departure(struct client *c, const struct client *peer)
{
    for (struct news **at = &c->first; *at; at = &(*at)->next) {
        if ((*at)->peer != peer)
            continue;
        if ((*at)->told == 0)
            forget(c, at);
        else
            (*at)->peer = NULL; /* part of its arrival was told */
        return;
    }
    add_news(c, NULL, peer->id);
}

/* All but the connection. */
static void release(struct client *c)
{
    while (c->first)
        forget(c, &c->first);
    for (unsigned v = 0; v < server.vectors; v++)
        if (c->bells[v] >= 0)
            close(c->bells[v]);
    if (c->region >= 0)
        close(c->region);
    free(c);
}

static void remove_client(struct client *c)
{
    struct client **at = &server.clients;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    server.count--;
    server.used[c->id] = false;
    for (struct client *other = server.clients; other; other = other->next) {
        add_departure(other, c);
        tell(other);
    }
    close(c->fd);
    release(c);
    wake_reaper();
}

/*
 * Locks an id that no running client has, of this server or another one. The id, or -errno. One
 * that endpoints still name is passed over until they are freed, as they could be taken for those
 * of the new client, and live as long. But clients can write such endpoints.
 */
static int take_id(int region)
{
    int passed_over = 0;
    for (int i = 0; i < SERVER_MAX_IDS; i++) {
        uint16_t id = server.next_id++;
        struct flock lock = {.l_type = F_WRLCK, .l_start = IVSHM_PEER_LOCKS + id, .l_len = 1};
        if (server.used[id])
            continue;
        if (fcntl(region, F_OFD_SETLK, &lock) == 0) {
            if (passed_over == MAX_PASSED_OVER || !server_is_named(region, id))
                return id;
            passed_over++;
            lock.l_type = F_UNLCK;
            if (fcntl(region, F_OFD_SETLK, &lock) != 0)
                return -errno;
            wake_reaper();
        } else if (errno != EAGAIN && errno != EACCES)
            return -errno;
    }
    return -EADDRNOTAVAIL;
}

/* Opens what a new client needs, and gives it an id; 0 or -errno. */
static int equip(struct client *c)
{
    c->region = ivshm_map_reopen(server.map);
    if (c->region < 0)
        return c->region;
    for (unsigned v = 0; v < server.vectors; v++) {
        c->bells[v] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (c->bells[v] < 0)
            return -errno;
    }
    int id = take_id(c->region);
    if (id < 0)
        return id;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    if (epoll_ctl(server.epoll, EPOLL_CTL_ADD, c->fd, &event) != 0)
        return -errno;
    c->id = (uint16_t) id;
    server.used[id] = true;
    return 0;
}

static unsigned clients_of(pid_t pid)
{
    unsigned n = 0;
    for (const struct client *c = server.clients; c; c = c->next)
        n += c->pid == pid;
    return n;
}

static const char *why_not(int err)
{
    return err == -ESTALE          ? "the region's file was replaced: start the server again"
           : err == -ENOENT        ? "the region's file was removed: start the server again"
           : err == -EADDRNOTAVAIL ? "processes have locked all ids in the region's file"
                                   : strerror(-err);
}

/* NULL, and *why, if the connection cannot become a client. */
static struct client *create(int fd, pid_t pid, const char **why)
{
    struct client *c = malloc(sizeof(*c) + server.vectors * sizeof(c->bells[0]));
    if (!c) {
        *why = strerror(ENOMEM);
        return NULL;
    }
    *c = (struct client){.fd = fd, .pid = pid, .region = -1, .last = &c->first};
    for (unsigned v = 0; v < server.vectors; v++)
        c->bells[v] = -1;
    int err = equip(c);
    if (!err)
        return c;
    *why = why_not(err);
    release(c);
    return NULL;
}

/* Tells the others of the client, and the client of the others and, last, of its own eventfds. */
static void introduce(struct client *c)
{
    for (struct client *other = server.clients; other; other = other->next) {
        add_news(other, c, c->id);
        tell(other);
        add_news(c, other, other->id);
    }
    add_news(c, c, c->id);
    c->next = server.clients;
    server.clients = c;
    server.count++;
    tell(c);
}

/* The connection becomes a client, or is closed. */
static void admit(int fd)
{
    struct ucred who = {0};
    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &(socklen_t){sizeof(who)});
    /* As little as possible, so that few descriptors are on the way to whom does not read. */
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){1}, sizeof(int));

    struct client *c = NULL;
    const char *why;
    if (server.count >= server.limit)
        why = "there are as many clients as this server can have";
    else if (who.pid && clients_of(who.pid) >= MAX_PER_PROCESS)
        why = "this process has as many connections as one can have";
    else
        c = create(fd, who.pid, &why);
    if (c) {
        server_log("client %u: pid %d of uid %u has come", c->id, who.pid, who.uid);
        introduce(c);
    } else {
        server_log("refused pid %d of uid %u: %s", who.pid, who.uid, why);
        send_message(fd, REFUSED, -1);
        close(fd);
    }
}

static void listen_for_clients(bool on)
{
    struct epoll_event event = {.events = on ? EPOLLIN : 0, .data.ptr = &server.listener};
    epoll_ctl(server.epoll, EPOLL_CTL_MOD, server.listener, &event);
}

static void accept_client(void)
{
    int fd = accept4(server.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
        admit(fd);
    else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
        /* It stays in the queue, and so would the event. */
        server_log("cannot accept clients for now: %s", strerror(errno));
        listen_for_clients(false);
        try_again_later();
    }
}

static void try_again(void)
{
    uint64_t expired;
    if (read(server.timer, &expired, sizeof(expired)) < 0)
        return;
    listen_for_clients(true);
    server.cannot_send = false;
    for (struct client *c = server.clients; c; c = c->next)
        tell(c);
}

static void serve_client(struct client *c, uint32_t events)
{
    char byte;
    if (events & ~(uint32_t) EPOLLOUT) {
        ssize_t n = recv(c->fd, &byte, 1, 0);
        if (n >= 0 || (errno != EAGAIN && errno != EINTR)) {
            server_log("client %u: %s", c->id,
                       n > 0 ? "removed, since it sent data: clients have to be silent"
                             : "has gone");
            remove_client(c);
            return;
        }
    }
    tell(c);
}

static bool add_source(int *fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = fd};
    return *fd >= 0 && epoll_ctl(server.epoll, EPOLL_CTL_ADD, *fd, &event) == 0;
}

/* As many as descriptors suffice for, those in flight included. */
static unsigned most_clients(void)
{
    struct rlimit nofile;
    if (getrlimit(RLIMIT_NOFILE, &nofile) != 0)
        return 0;
    nofile.rlim_cur = nofile.rlim_max;
    setrlimit(RLIMIT_NOFILE, &nofile);
    getrlimit(RLIMIT_NOFILE, &nofile);
    if (nofile.rlim_cur < OWN_DESCRIPTORS)
        return 0;
    /* The connection, the region and the eventfds. */
    rlim_t n = (nofile.rlim_cur - OWN_DESCRIPTORS) / (2 + server.vectors + IN_FLIGHT);
    return n < MAX_CLIENTS ? (unsigned) n : MAX_CLIENTS;
}

int server_run(const struct ivshm_map *map, unsigned vectors, int listener, void (*ready)(void))
{
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGHUP);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    signal(SIGPIPE, SIG_IGN);

    server.map = map;
    server.used = mmap(NULL, SERVER_MAX_IDS * sizeof(*server.used), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (server.used == MAP_FAILED)
        return tool_error("out of memory for %d ids: %s", SERVER_MAX_IDS, strerror(errno));
    server.reaper = (struct server_reaper){.map = map, .connected = server.used, .fd = -1};
    server.vectors = vectors;
    server.listener = listener;
    server.limit = most_clients();
    if (server.limit < 2)
        return tool_error("too few descriptors for two clients: raise the limit (ulimit -n)");
    server.epoll = epoll_create1(EPOLL_CLOEXEC);
    server.signals = signalfd(-1, &ends, SFD_NONBLOCK | SFD_CLOEXEC);
    server.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (server.epoll < 0 || !add_source(&server.listener) || !add_source(&server.signals) ||
        !add_source(&server.timer))
        return tool_error("cannot watch for events: %s", strerror(errno));

    server_log("serves %s to at most %u clients, with %u vector%s each", ivshm_map_name(map),
               server.limit, vectors, vectors == 1 ? "" : "s");
    ready();
    wake_reaper();
    for (;;) {
        /* One at a time, as a client's event can remove it. */
        struct epoll_event event;
        if (epoll_wait(server.epoll, &event, 1, -1) != 1)
            continue;
        if (event.data.ptr == &server.signals)
            break;
        if (event.data.ptr == &server.listener)
            accept_client();
        else if (event.data.ptr == &server.timer)
            try_again();
        else if (event.data.ptr == &server.reaper)
            server_reaper_read(&server.reaper);
        else
            serve_client(event.data.ptr, event.events);
    }
    server_reaper_end(&server.reaper);
    server_log("ends; %u client%s on", server.count, server.count == 1 ? " goes" : "s go");
    return TOOL_OK;
}
