/* SPDX-License-Identifier: mpich2 */
/*
 * What goes on in a network, for people: who is on it, as the region's endpoints say, and what the
 * interfaces of this network namespace have counted. Each has a socket for that, under a name in
 * the namespace: whoever connects sends one letter and reads an answer.
 */
#define _GNU_SOURCE /* struct ucred */
#include "ivshmem_net.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define ASK_COUNTERS 'c'
#define ASK_END 'e'
#define ANSWER_BYTES 1024
#define PATIENCE 20   /* calls of net_control_serve, for a letter */
#define DOWN_MS 20000 /* an interface ends in less, unless it is stopped */

static const char *const counter_names[] = {
#define X(name) #name,
    NET_COUNTERS(X)
#undef X
};
#define COUNTERS (sizeof(counter_names) / sizeof(counter_names[0]))

/* Abstract: it belongs to the network namespace, and ends with its process. */
static socklen_t control_name(const char *interface, struct sockaddr_un *name)
{
    *name = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n = snprintf(name->sun_path + 1, sizeof(name->sun_path) - 1, "ivshmem-net/%s", interface);
    return (socklen_t) (offsetof(struct sockaddr_un, sun_path) + 1 + (size_t) n);
}

int net_control_open(const char *interface, struct ivshm_diag *diag)
{
    struct sockaddr_un name;
    const socklen_t bytes = control_name(interface, &name);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *) &name, bytes) == 0 && listen(fd, 8) == 0)
        return fd;
    int err = errno;
    if (fd >= 0)
        close(fd);
    return ivshm_diag_fail(diag, err,
                           "cannot listen at the socket @%s: %s; `ss -xlp` shows who does",
                           name.sun_path + 1, strerror(err));
}

static void answer_counters(const struct net *net, int fd)
{
    char text[ANSWER_BYTES];
    const struct ivshm_owner own = ivshm_transport_self(&net->transport);
    int n = snprintf(text, sizeof(text), "%u.%u peers %u", own.endpoint, own.generation,
                     net->member_count);
#define X(name)                                                                                    \
    n += snprintf(text + n, sizeof(text) - (size_t) n, " " #name " %llu",                          \
                  (unsigned long long) net->counters.name);
    NET_COUNTERS(X)
#undef X
    if (send(fd, text, (size_t) n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        return; /* it has not waited for the answer */
}

static bool may_end(int fd)
{
    struct ucred who;
    socklen_t bytes = sizeof(who);
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &bytes) == 0 &&
           (who.uid == 0 || who.uid == geteuid());
}

bool net_control_serve(struct net *net)
{
    char letter = 0;
    if (net->asker < 0) {
        net->asker = accept4(net->control, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        net->asker_calls = 0;
    }
    if (net->asker < 0)
        return false;
    /* Who has connected sends its letter at once, unless it is stopped in between. */
    if (recv(net->asker, &letter, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN &&
        ++net->asker_calls < PATIENCE)
        return false;
    if (letter == ASK_COUNTERS)
        answer_counters(net, net->asker);
    if (letter == ASK_END && may_end(net->asker))
        return true; /* that it is done is told by the end of this process, and so of the socket */
    close(net->asker);
    net->asker = -1;
    return false;
}

/* The other side */

/* -1 if there is none: then errno says why. */
static int ask(const char *interface, char letter, int ms)
{
    struct sockaddr_un name;
    const socklen_t bytes = control_name(interface, &name);
    const struct timeval most = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof(most));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof(most));
    if (connect(fd, (struct sockaddr *) &name, bytes) == 0 &&
        send(fd, &letter, 1, MSG_NOSIGNAL) == 1)
        return fd;
    int err = errno;
    close(fd);
    errno = err;
    return -1;
}

/* The counters of that interface, if it answers and is that endpoint; *peers, too. */
static bool read_counters(const char *interface, const struct tool_entry *entry, uint64_t *peers,
                          uint64_t counters[COUNTERS])
{
    char text[ANSWER_BYTES];
    unsigned endpoint, generation;
    int end = 0, fd = ask(interface, ASK_COUNTERS, 2000);
    if (fd < 0)
        return false;
    ssize_t n = recv(fd, text, sizeof(text) - 1, 0);
    close(fd);
    if (n <= 0)
        return false;
    text[n] = 0;
    unsigned long long value;
    if (sscanf(text, "%u.%u peers %llu%n", &endpoint, &generation, &value, &end) != 3 ||
        endpoint != entry->index || generation != entry->info.claim.generation)
        return false;
    *peers = value;
    memset(counters, 0, COUNTERS * sizeof(*counters));
    char name[32];
    for (const char *at = text + end; sscanf(at, " %31s %llu%n", name, &value, &end) == 2;
         at += end)
        for (size_t i = 0; i < COUNTERS; i++)
            if (strcmp(name, counter_names[i]) == 0)
                counters[i] = value;
    return true;
}

int net_take_down(const char *interface)
{
    char byte;
    int fd = ask(interface, ASK_END, DOWN_MS);
    if (fd < 0)
        return errno == ECONNREFUSED
                   ? tool_error("no `ivshmem net up` has the interface %s in this network "
                                "namespace: `ivshmem net status` shows those on a region",
                                interface)
                   : tool_error("cannot ask for the end of the interface %s: %s", interface,
                                strerror(errno));
    ssize_t n = recv(fd, &byte, 1, 0);
    int err = errno;
    close(fd);
    if (n < 0)
        return tool_error("the interface %s did not end within %d s: %s; its process may be "
                          "stopped, find it by `ivshmem net status`",
                          interface, DOWN_MS / 1000, strerror(err));
    fd = ask(interface, ASK_COUNTERS, DOWN_MS);
    if (fd < 0)
        return TOOL_OK;
    close(fd);
    return tool_error("no permission to end the interface %s: only root and the user who runs "
                      "its `ivshmem net up` may",
                      interface);
}

/* Status */

static const char *mac_text(const struct net_address *address)
{
    static char text[18];
    unsigned char mac[NET_MAC_BYTES];
    net_mac_of(address, mac);
    snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
             mac[4], mac[5]);
    return text;
}

static void print_text(const struct tool_entry *e, const struct net_name *name)
{
    char address[INET6_ADDRSTRLEN + 4], endpoint[32];
    snprintf(address, sizeof(address), "%s/%u", name->address.text, name->address.prefix);
    snprintf(endpoint, sizeof(endpoint), "%u.%u", e->index, e->info.claim.generation);
    printf("%-10s  %-18s  %s  %-10s  %8s  %-7s  %8u  %s\n", name->network, address,
           mac_text(&name->address), name->interface, endpoint, tool_liveness_name(e->liveness),
           e->info.claim.pid, tool_printable(e->info.process.host));
}

static void print_json(const struct tool_entry *e, const struct net_name *name)
{
    printf("{\"network\": ");
    tool_print_json(name->network);
    printf(", \"address\": \"%s\", \"prefix\": %u, \"mac\": \"%s\", \"interface\": ",
           name->address.text, name->address.prefix, mac_text(&name->address));
    tool_print_json(name->interface);
    printf(", \"endpoint\": %u, \"generation\": %u, \"process\": \"%s\", \"pid\": %u, \"host\": ",
           e->index, e->info.claim.generation, tool_liveness_name(e->liveness), e->info.claim.pid);
    tool_print_json(e->info.process.host);
}

static void print_counters(const struct net_name *name, uint64_t peers,
                           const uint64_t counters[COUNTERS], bool json)
{
    if (json)
        printf(", \"peers\": %llu", (unsigned long long) peers);
    else
        printf("%s: %llu peers", name->interface, (unsigned long long) peers);
    for (size_t i = 0; i < COUNTERS; i++)
        printf(json ? ", \"%s\": %llu" : ", %s %llu", counter_names[i],
               (unsigned long long) counters[i]);
    if (!json)
        printf("\n");
}

static bool is_interface(const struct tool_entry *e, struct net_name *name)
{
    return e->known && e->info.claim.state == IVSHM_CLAIM_LIVE && net_parse_job(e->info.job, name);
}

static void print_status(const struct tool_entry *list, int n, bool json)
{
    struct net_name name;
    uint64_t peers, counters[COUNTERS];
    bool is_first = true;
    if (json)
        printf("[");
    for (int i = 0; i < n; i++) {
        if (!is_interface(&list[i], &name))
            continue;
        if (name.version != NET_VERSION) {
            tool_warn("endpoint %u.%u is a network interface of version %u, this is version %d: "
                      "run the same release of ivshmem everywhere",
                      list[i].index, list[i].info.claim.generation, name.version, NET_VERSION);
            continue;
        }
        if (json) {
            printf(is_first ? "" : ",\n ");
            print_json(&list[i], &name);
            if (read_counters(name.interface, &list[i], &peers, counters))
                print_counters(&name, peers, counters, true);
            printf("}");
        } else {
            if (is_first)
                printf("%-10s  %-18s  %-17s  %-10s  %8s  %-7s  %8s  %s\n", "NETWORK", "ADDRESS",
                       "MAC", "INTERFACE", "ENDPOINT", "PROCESS", "PID", "HOST");
            print_text(&list[i], &name);
        }
        is_first = false;
    }
    if (json)
        printf("]\n");
    else if (is_first)
        printf("no network interface is on this region\n");
    for (int i = 0; i < n && !json; i++)
        if (is_interface(&list[i], &name) && name.version == NET_VERSION &&
            read_counters(name.interface, &list[i], &peers, counters))
            print_counters(&name, peers, counters, false);
}

int net_show_status(const struct tool_options *opt)
{
    struct ivshm_diag diag = {""};
    struct ivshm_region region;
    struct tool_entry *list;
    if (ivshm_region_inspect(opt->region, &region, &diag) != 0)
        return tool_error("%s", diag.text);
    int n = tool_entries(&region, &list, &diag);
    if (n >= 0) {
        print_status(list, n, opt->json);
        free(list);
    }
    ivshm_region_close(&region);
    return n < 0 ? tool_error("%s", diag.text) : TOOL_OK;
}
