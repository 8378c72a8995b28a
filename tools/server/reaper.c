/* SPDX-License-Identifier: mpich2 */
/*
 * Frees what VMs leave in the region. An endpoint tells by which id its VM has the memory, and the
 * lock of an id goes with the last process that has it (see clients.c). So an endpoint of an id
 * that is not locked is dead.
 *
 * All clients can write to the region, and truncate its file. So a process of its own looks at it:
 * if that ends by a signal, or what it has found takes too long, the server goes on, and starts it
 * anew when a client goes the next time. The server itself reads the table as a file, if at all.
 */
#define _GNU_SOURCE /* closefrom */
#include "server.h"

#include "endpoint.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    LONGEST_LOOK = 30, /* seconds */
    /* Milliseconds until the next look at an id whose client has gone and whose lock has not: a
     * process that is killed closes its connection just before that, or keeps the memory. */
    FIRST_PAUSE = 10,
    LONGEST_PAUSE = 1000,
    SERVER_FD = 3,
};

static void say_once(const char *text)
{
    static char said[sizeof(((struct ivshm_diag *) 0)->text)];
    if (strcmp(text, said) != 0)
        server_log("cannot free what VMs leave: %s", text);
    snprintf(said, sizeof(said), "%s", text);
}

/* Declares dead what is proved dead by its id; whether others may be soon. */
static bool declare_dead(struct ivshm_region *region, const struct ivshm_process *self,
                         const atomic_bool *connected)
{
    static unsigned left[SERVER_MAX_IDS];
    struct ivshm_locks locks = {0};
    bool may_be_soon = false;
    memset(left, 0, sizeof(left));
    for (uint32_t i = 0; i < ivshm_region_endpoints(region); i++) {
        struct ivshm_endpoint_info info;
        if (ivshm_endpoint_read(region, i, &info) != 0 || !info.has_bell ||
            info.claim.state == IVSHM_CLAIM_DEAD)
            continue;
        if (ivshm_endpoint_liveness(region, self, &info, NULL, &locks) == IVSHM_LIVENESS_DEAD) {
            ivshm_endpoint_declare_dead(region, i, info.claim);
            left[info.bell.id]++;
        } else if (info.process.traits & IVSHM_TRAIT_DEVICE && !connected[info.bell.id])
            may_be_soon = true;
    }
    ivshm_locks_close(&locks);
    for (unsigned id = 0; id < SERVER_MAX_IDS; id++)
        if (left[id])
            server_log("client %u has left %u endpoint%s behind: declared dead", id, left[id],
                       left[id] == 1 ? "" : "s");
    return may_be_soon;
}

/* Whether to look again soon. The region is opened each time: it may have been formatted anew. */
static bool look(const struct ivshm_map *map, const atomic_bool *connected)
{
    struct ivshm_diag diag = {""};
    struct ivshm_process self;
    struct ivshm_region region;
    bool again = false;
    if (strcmp(ivshm_map_kind(map), "file") == 0) {
        say_once("the region is not in memory, and elsewhere locks prove nothing: use a file in "
                 "/dev/shm, or on another tmpfs or hugetlbfs");
        return false;
    }
    alarm(LONGEST_LOOK);
    if (ivshm_process_self(&self, &diag) == 0 && ivshm_region_of_map(map, &region, &diag) == 0) {
        again = declare_dead(&region, &self, connected);
        ivshm_endpoint_reap(&region, NULL, NULL);
    }
    alarm(0);
    if (*diag.text)
        say_once(diag.text);
    return again;
}

/* Looks whenever the server asks for it, until the server ends. */
static _Noreturn void run(int server, const struct ivshm_map *map, const atomic_bool *connected)
{
    char asked[64];
    int pause = FIRST_PAUSE;
    signal(SIGALRM, SIG_DFL);
    /* Above all, no descriptor of a client, nor of a region's file with a lock. */
    dup2(server, SERVER_FD);
    closefrom(SERVER_FD + 1);
    for (;;) {
        struct pollfd p = {SERVER_FD, POLLIN, 0};
        bool again = look(map, connected);
        if (poll(&p, 1, again ? pause : -1) == 0) {
            pause = pause < LONGEST_PAUSE / 2 ? 2 * pause : LONGEST_PAUSE;
            continue;
        }
        ssize_t n = recv(SERVER_FD, asked, sizeof(asked), 0);
        if (n == 0 || (n < 0 && errno != EINTR))
            _exit(0);
        pause = FIRST_PAUSE;
    }
}

static bool start(struct server_reaper *r)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return false;
    r->pid = fork();
    if (r->pid == 0)
        run(ends[1], r->map, r->connected);
    close(ends[1]);
    if (r->pid > 0)
        r->fd = ends[0];
    else
        close(ends[0]);
    return r->pid > 0;
}

bool server_reaper_wake(struct server_reaper *r)
{
    if (r->fd >= 0) {
        /* If it does not take this, it has not begun to look since it was asked before. */
        send(r->fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        return false;
    }
    if (start(r))
        return true;
    server_log("cannot free what VMs leave for now: %s", strerror(errno));
    return false;
}

void server_reaper_read(struct server_reaper *r)
{
    char byte;
    int status;
    ssize_t n = recv(r->fd, &byte, 1, MSG_DONTWAIT);
    if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
        return;
    close(r->fd);
    r->fd = -1;
    if (waitpid(r->pid, &status, 0) != r->pid || status == 0)
        return;
    int number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    server_log("cannot free what VMs leave until the next client goes: %s",
               number == SIGBUS    ? "the region's file has lost memory"
               : number == SIGALRM ? "to look at the region takes too long"
               : number            ? strsignal(number)
                                   : "the process that does so has ended");
}

void server_reaper_end(struct server_reaper *r)
{
    if (r->fd < 0)
        return;
    close(r->fd);
    r->fd = -1;
    kill(r->pid, SIGKILL);
    waitpid(r->pid, NULL, 0);
}

/* The words of the superblock that tell whether there is a table, and how long it is. */
static uint32_t entries_in(int region)
{
    uint64_t words[offsetof(struct ivshm_superblock_shm, endpoint_table) / 8];
    if (pread(region, words, sizeof(words), 0) != sizeof(words) ||
        words[offsetof(struct ivshm_superblock_shm, magic) / 8] != IVSHM_MAGIC ||
        words[offsetof(struct ivshm_superblock_shm, version) / 8] != IVSHM_VERSION ||
        words[offsetof(struct ivshm_superblock_shm, endpoints) / 8] > IVSHM_ENDPOINTS_MAX)
        return 0;
    return (uint32_t) words[offsetof(struct ivshm_superblock_shm, endpoints) / 8];
}

bool server_is_named(int region, uint16_t id)
{
    static uint64_t entries[128][sizeof(struct ivshm_endpoint_shm) / 8];
    uint32_t count = entries_in(region);
    for (uint32_t i = 0; i < count; i++) {
        if (i % 128 == 0 && pread(region, entries, sizeof(entries),
                                  (off_t) (IVSHM_PAGE + i * sizeof(entries[0]))) != sizeof(entries))
            return false;
        const uint64_t *entry = entries[i % 128];
        unsigned state = entry[offsetof(struct ivshm_endpoint_shm, claim) / 8] &
                         ((1 << IVSHM_CLAIM_STATE_BITS) - 1);
        uint32_t number = (uint32_t) entry[offsetof(struct ivshm_endpoint_shm, bell) / 8];
        if (state != IVSHM_CLAIM_FREE && state != IVSHM_CLAIM_DEAD && number == id + 1u)
            return true;
    }
    return false;
}
