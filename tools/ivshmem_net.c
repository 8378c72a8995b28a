/* SPDX-License-Identifier: mpich2 */
/*
 * ivshmem net: an Ethernet between the VMs and processes of a region. `up` is a process that has a
 * network interface of this machine, and passes frames between it and the region; `down` and
 * `status` are in ivshmem_net_show.c.
 *
 * One thread does everything. It sleeps as a rank does (core/wait.h) if everybody on the region can
 * wake it: in a futex, where a signal of the interface ends the sleep, or by its bell, together
 * with the interface. Else it waits for the interface, for as long as a nap lasts.
 */
#define _GNU_SOURCE /* O_ASYNC */
#include "ivshmem_net.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#define WATCH_NS UINT64_C(1000000000) /* from a look for who came and went to the next */
#define SERVE_NS 50000000             /* the same for whoever asks for counters */
#define COUNT_NS 100000000            /* and for how one can wait */

struct waiter {
    struct ivshm_wait wait;
    struct ivshm_crowd crowd;
    long processors;
    uint64_t next_watch, next_serve, next_count;
};

/* For a signal of the interface. */
static struct ivshm_transport *asleep;

static void on_frame(int signal)
{
    int err = errno;
    (void) signal;
    if (asleep)
        ivshm_transport_end_sleep(asleep);
    errno = err;
}

/* Whether a frame that comes from this machine ends a sleep in the futex. */
static void set_signals(struct net *net, bool on)
{
    asleep = on ? &net->transport : NULL;
    if (fcntl(net->tap, F_SETFL, O_RDWR | O_NONBLOCK | (on ? O_ASYNC : 0)) != 0)
        net->tap_is_gone = true;
}

static void wait_for_more(struct net *net, struct waiter *w)
{
    struct ivshm_transport *t = &net->transport;
    const struct pollfd tap = {.fd = net->tap, .events = POLLIN};
    const uint64_t now = tool_now_ns();
    if (now >= w->next_count) {
        w->crowd = ivshm_transport_crowd(t);
        w->next_count = now + COUNT_NS;
    }
    const bool is_moving = net->queued || !ivshm_transport_is_flushed(t);
    const struct ivshm_wait_for what = {
        .can_be_woken = w->crowd.sleep != IVSHM_SLEEP_NOT,
        .is_moving = is_moving,
        /* Each interface works for a program that needs a processor as well. */
        .sharers = 2 * (long) w->crowd.here > w->processors ? 2 : 1,
        .looks = ivshm_transport_looks(t),
    };
    /* While the interface is held, its frames do not count. */
    switch (ivshm_transport_wait(t, &w->wait, &what, now, w->crowd.sleep, &tap,
                                 net->held_since ? 0 : 1)) {
    case IVSHM_WAIT_ANNOUNCE:
        /* The interface is looked at once more before the sleep. */
        set_signals(net, w->crowd.sleep == IVSHM_SLEEP_ON_FUTEX);
        break;
    case IVSHM_WAIT_DOZE:
        set_signals(net, false);
        break;
    default:
        break;
    }
}

static void end_wait(struct net *net, struct waiter *w)
{
    if (ivshm_transport_end_wait(&net->transport, &w->wait))
        set_signals(net, false);
}

/* Looks at the region, as often as that is worth it in a row. */
static bool look(struct net *net, const struct waiter *w)
{
    for (unsigned i = 0; i < w->wait.looks; i++) {
        if (net_receive(net))
            return true;
        ivshm_cpu_pause();
    }
    return false;
}

/* For `ivshmem top`. */
static void tell(struct net *net, const struct waiter *w, uint64_t now)
{
    const struct ivshm_counts counts = {
        .eager_sent = net->counters.sent,
        .eager_sent_bytes = net->counters.sent_bytes,
        .eager_received = net->counters.received,
        .eager_received_bytes = net->counters.received_bytes,
        .no_room = net->counters.dropped,
        .waited = ivshm_wait_total(&w->wait),
    };
    ivshm_transport_tell(&net->transport, now, &counts);
}

/* True if somebody wants the end. */
static bool do_rare_things(struct net *net, struct waiter *w)
{
    const uint64_t now = tool_now_ns();
    if (now >= w->next_watch) {
        net_peers_watch(net);
        tell(net, w, now);
        w->next_watch = now + WATCH_NS;
    }
    if (now < w->next_serve)
        return false;
    w->next_serve = now + SERVE_NS;
    return net_control_serve(net);
}

static int run(struct net *net, struct ivshm_diag *diag)
{
    struct waiter w = {.processors = sysconf(_SC_NPROCESSORS_ONLN)};
    ivshm_wait_init(&w.wait, IVSHM_WAIT_AUTO);
    while (!tool_was_interrupted() && !net->tap_is_gone) {
        bool any = look(net, &w);
        any |= net_send(net);
        any |= net_flush(net);
        if (do_rare_things(net, &w))
            return 0;
        if (any)
            end_wait(net, &w);
        else
            wait_for_more(net, &w);
    }
    if (tool_was_interrupted())
        return 0;
    return ivshm_diag_fail(diag, ENODEV, "the network interface %s has been removed by somebody",
                           net->name.interface);
}

/* Standard output and error are others' from now on, and whoever started this may end. */
static void detach(struct net *net, int ready)
{
    int null = open("/dev/null", O_RDWR);
    net->is_detached = true;
    openlog("ivshmem-net", LOG_PID, LOG_DAEMON);
    setsid();
    for (int fd = STDIN_FILENO; null >= 0 && fd <= STDERR_FILENO; fd++)
        dup2(null, fd);
    if (null > STDERR_FILENO)
        close(null);
    if (chdir("/") != 0 || write(ready, "", 1) != 1)
        net_report(net, "the command that started this interface has ended before it was ready");
    close(ready);
}

static void say_ready(struct net *net, int ready)
{
    printf("%s: %s/%u on network %s, endpoint %u of region %s, %u peers\n", net->name.interface,
           net->name.address.text, net->name.address.prefix, net->name.network,
           ivshm_transport_self(&net->transport).endpoint, ivshm_region_name(net->region),
           net->member_count);
    fflush(stdout);
    if (ready >= 0)
        detach(net, ready);
}

static int run_joined(struct net *net, int ready, struct ivshm_diag *diag)
{
    int err = net_peers_open(net, diag);
    if (err)
        return err;
    net->control = net_control_open(net->name.interface, diag);
    err = net->control < 0
              ? net->control
              : net_tap_configure(net->name.interface, &net->name.address, net->mtu, diag);
    if (!err) {
        say_ready(net, ready);
        err = run(net, diag);
        set_signals(net, false);
    }
    net_peers_close(net);
    return err;
}

/* `ready`: a pipe to the command that waits until this is ready, or -1. */
static int up(struct net *net, const char *region_name, int ready)
{
    struct ivshm_diag diag = {""};
    static struct ivshm_region region; /* as long as the net */
    struct sigaction act = {.sa_handler = on_frame};
    char job[128];
    tool_catch_signals();
    sigaction(SIGIO, &act, NULL);
    int err = ivshm_region_open(region_name, &region, &diag);
    if (err)
        return tool_error("%s", diag.text);
    tool_open_bell(&region);
    net->region = &region;
    net_format_job(&net->name, job, sizeof(job));
    net_mac_of(&net->name.address, net->mac);
    err = net_tap_check_address(&net->name.address, &diag);
    if (!err)
        err = net_tap_open(net->name.interface, &net->tap, &diag);
    if (!err && fcntl(net->tap, F_SETOWN, getpid()) != 0)
        err = ivshm_diag_fail(&diag, errno, "cannot have signals of the interface %s: %s",
                              net->name.interface, strerror(errno));
    if (!err)
        err = ivshm_transport_open(&net->transport, &region, job, 0, 1, &diag);
    if (!err) {
        ivshm_transport_choose(&net->transport, -1, -1);
        err = run_joined(net, ready, &diag);
        ivshm_transport_close(&net->transport);
    }
    ivshm_region_close(&region);
    if (net->tap >= 0)
        close(net->tap); /* the interface goes with it */
    if (net->control >= 0)
        close(net->control);
    if (err && net->is_detached)
        net_report(net, "%s", diag.text);
    else if (err)
        tool_error("%s", diag.text);
    return err ? TOOL_FAILED : TOOL_OK;
}

/* Returns when the interface is ready, or cannot be. */
static int up_in_background(struct net *net, const char *region_name)
{
    int ready[2], status;
    char byte;
    if (pipe2(ready, O_CLOEXEC) != 0)
        return tool_error("cannot start in the background: %s", strerror(errno));
    fflush(stdout);
    pid_t child = fork();
    if (child < 0)
        return tool_error("cannot start in the background: %s", strerror(errno));
    if (child == 0) {
        close(ready[0]);
        status = up(net, region_name, ready[1]);
        _exit(status);
    }
    close(ready[1]);
    ssize_t n;
    while ((n = read(ready[0], &byte, 1)) < 0 && errno == EINTR)
        ;
    close(ready[0]);
    if (n == 1)
        return TOOL_OK;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) && WEXITSTATUS(status) != TOOL_OK
               ? WEXITSTATUS(status)
               : tool_error("the process of the interface ended before it was ready");
}

/* The command line */

/* What is wrong with it as the address of an interface, or NULL. */
static const char *address_fault(const struct net_address *a)
{
    uint32_t host, v4;
    if (a->family == AF_INET6) {
        static const unsigned char loopback[16] = {[15] = 1}, zero[16] = {0};
        if (a->bytes[0] == 0xff)
            return "is a multicast address";
        return memcmp(a->bytes, loopback, 16) == 0 ? "is the loopback address"
               : memcmp(a->bytes, zero, 16) == 0   ? "is no address"
                                                   : NULL;
    }
    memcpy(&v4, a->bytes, sizeof(v4));
    v4 = ntohl(v4);
    host = a->prefix == 32 ? 0 : v4 & UINT32_MAX >> a->prefix;
    if (a->bytes[0] == 0)
        return "is no address";
    if (a->bytes[0] == 127)
        return "is a loopback address";
    if (a->bytes[0] >= 224)
        return "is a multicast or reserved address";
    if (a->prefix < 31 && host == 0)
        return "is the address of the network itself";
    if (a->prefix < 31 && host == UINT32_MAX >> a->prefix)
        return "is the network's broadcast address";
    return NULL;
}

static int parse_mtu(const char *text, unsigned *mtu)
{
    char *end;
    errno = 0;
    unsigned long n = strtoul(text, &end, 10);
    if (errno || end == text || *end || text[0] < '0' || text[0] > '9' || n < NET_MTU_MIN ||
        n > NET_MTU_MAX)
        return tool_usage_error("--mtu %s is not a number of bytes from %d to %d", text,
                                NET_MTU_MIN, NET_MTU_MAX);
    *mtu = (unsigned) n;
    return TOOL_OK;
}

static int parse_up(struct net *net, const struct tool_options *opt)
{
    const char *network = opt->network ? opt->network : "default";
    if (!opt->address)
        return tool_usage_error("net up needs the address of this machine on the network, such as "
                                "10.77.0.1/24");
    if (!net_parse_address(opt->address, &net->name.address))
        return tool_usage_error("%s is not an address with the length of its network, such as "
                                "10.77.0.1/24 or fd77::1/64",
                                opt->address);
    if (address_fault(&net->name.address))
        return tool_usage_error("%s %s: expected the address of one machine, such as 10.77.0.1/24",
                                opt->address, address_fault(&net->name.address));
    if (!net_name_is_valid(network, NET_NAME_MAX))
        return tool_usage_error("--network %s is no name of 1 to %d letters, digits and the like",
                                network, NET_NAME_MAX);
    strcpy(net->name.network, network);
    return opt->mtu ? parse_mtu(opt->mtu, &net->mtu) : TOOL_OK;
}

int tool_net(const struct tool_options *opt)
{
    static struct net net;
    const char *interface = opt->name ? opt->name : "mpi0";
    net = (struct net){
        .name.version = NET_VERSION, .mtu = NET_MTU_DEFAULT, .tap = -1, .control = -1, .asker = -1};
    const bool is_up = opt->verb && strcmp(opt->verb, "up") == 0,
               is_down = opt->verb && strcmp(opt->verb, "down") == 0,
               is_status = opt->verb && strcmp(opt->verb, "status") == 0;
    if (!is_up && !is_down && !is_status)
        return tool_usage_error(opt->verb ? "net %s: expected net up, net down or net status"
                                          : "net%s: expected net up, net down or net status",
                                opt->verb ? opt->verb : "");
    if (!is_up && (opt->network || opt->mtu || opt->background))
        return tool_usage_error("--network, --mtu and --background are for net up");
    if (!is_status && opt->json)
        return tool_usage_error("--json is for net status");
    if (is_status && opt->name)
        return tool_usage_error("--name is for net up and net down");
    if (is_status)
        return net_show_status(opt);
    if (!net_name_is_valid(interface, IFNAMSIZ - 1))
        return tool_usage_error("--name %s is no name of an interface: expected 1 to %d letters, "
                                "digits and the like",
                                interface, IFNAMSIZ - 1);
    if (is_down)
        return net_take_down(interface);
    strcpy(net.name.interface, interface);
    int status = parse_up(&net, opt);
    if (status != TOOL_OK)
        return status;
    return opt->background ? up_in_background(&net, opt->region) : up(&net, opt->region, -1);
}
