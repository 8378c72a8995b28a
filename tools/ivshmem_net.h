/* SPDX-License-Identifier: mpich2 */
/*
 * What the files of `ivshmem net` share: ivshmem_net_name.c has addresses and names,
 * ivshmem_net_tap.c the network interface, ivshmem_net_peers.c the others on the network and the
 * frames to and from them, ivshmem_net_report.c what is said meanwhile, ivshmem_net_show.c what
 * goes on, for people, and ivshmem_net.c the commands.
 */
#ifndef IVSHMEM_NET_H
#define IVSHMEM_NET_H

#include "ivshmem_tool.h"

#include "transport.h"

#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/in.h>

#define NET_VERSION 1 /* of the names and messages below; all on a network have the same */

/* Names */

struct net_address {
    int family; /* AF_INET or AF_INET6 */
    unsigned prefix;
    unsigned char bytes[16]; /* 4 or 16 of them; the others are 0 */
    char text[INET6_ADDRSTRLEN];
};

#define NET_NAME_MAX 32 /* bytes of a network's name */
#define NET_MAC_BYTES 6

/* What the name of an endpoint's job says of an interface. From a peer, it may be a lie. */
struct net_name {
    unsigned version; /* if it is another one, nothing else is known */
    char network[NET_NAME_MAX + 1];
    char interface[IFNAMSIZ];
    struct net_address address;
};

/* ADDRESS/PREFIX. False if `text` is none. */
bool net_parse_address(const char *text, struct net_address *address);
static inline bool net_same_address(const struct net_address *a, const struct net_address *b)
{
    return a->family == b->family && memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

/* Whether `text` can name a network or an interface, of at most `max` bytes. */
bool net_name_is_valid(const char *text, size_t max);

void net_format_job(const struct net_name *name, char *job, size_t size);
/* False if it is not the job of an interface. */
bool net_parse_job(const char *job, struct net_name *name);

/*
 * The same for the same address: whoever returns with its address is known, and two interfaces
 * that have one address are noticed as such.
 */
void net_mac_of(const struct net_address *address, unsigned char mac[NET_MAC_BYTES]);

/* The interface */

/* Of a frame as it is read from the interface, passed on, and written to one. */
#define NET_VNET_BYTES sizeof(struct virtio_net_hdr)
#define NET_ETHER_BYTES 14
#define NET_HEAD_BYTES (NET_VNET_BYTES + NET_ETHER_BYTES)
#define NET_MTU_MAX 65521 /* that Linux gives a TAP interface */
#define NET_MTU_MIN 68
#define NET_MTU_DEFAULT 65000
#define NET_FRAME_MAX                                                                              \
    (NET_HEAD_BYTES + (64 << 10) + 64) /* with all headers of a segmented packet */

/* A TAP interface of that name, which ends with the descriptor: *fd. */
int net_tap_open(const char *name, int *fd, struct ivshm_diag *diag);
/* Gives it all that it needs, and turns it on. */
int net_tap_configure(const char *name, const struct net_address *address, unsigned mtu,
                      struct ivshm_diag *diag);
/* -EADDRINUSE if another interface of this machine has that address. */
int net_tap_check_address(const struct net_address *address, struct ivshm_diag *diag);

/* Counters, of frames unless they say otherwise. */
#define NET_COUNTERS(X)                                                                            \
    X(sent) /* to each peer */                                                                     \
    X(sent_bytes)                                                                                  \
    X(received)                                                                                    \
    X(received_bytes)                                                                              \
    X(flooded)   /* read, for more than one peer, or one that is not known */                      \
    X(dropped)   /* to a peer that had no room */                                                  \
    X(refused)   /* received, but not taken by the kernel */                                       \
    X(conflicts) /* received, with this interface's own address */                                 \
    X(broken)    /* peers that sent anything else than frames */

struct net_counters {
#define X(name) uint64_t name;
    NET_COUNTERS(X)
#undef X
};

/* The network */

struct net_peer;

#define NET_MACS 1024 /* entries of the table: a power of two */

struct net {
    struct ivshm_region *region;
    struct ivshm_transport transport;
    struct net_name name;
    unsigned char mac[NET_MAC_BYTES];
    unsigned mtu;
    int tap, control, asker; /* descriptors; the last is of who has connected to control, or -1 */
    unsigned asker_calls;
    bool is_detached; /* nobody reads standard error any more */
    bool tap_is_gone;
    struct net_counters counters;
    /* By endpoint; NULL if nothing is known of it. And those of this network. */
    struct net_peer **peers, **members;
    uint32_t member_count;
    struct net_mac_entry {
        unsigned char mac[NET_MAC_BYTES];
        bool is_used;
        struct ivshm_owner owner;
    } macs[NET_MACS];
    uint64_t queued;     /* bytes, to all peers */
    uint64_t held_since; /* no frames are taken from the interface, for the sake of a peer; or 0 */
    unsigned char frame[NET_FRAME_MAX]; /* the last one that was read */
};

/* Says it to a person, on standard error or in the system's log. */
__attribute__((format(printf, 2, 3))) void net_report(const struct net *net, const char *fmt, ...);

/*
 * Finds the others of the network. -EADDRINUSE if one of them has our address, -EPROTONOSUPPORT if
 * one is of another version. Ends with net_peers_close.
 */
int net_peers_open(struct net *net, struct ivshm_diag *diag);
void net_peers_close(struct net *net);

/* About once a second: who has come, and who has gone. */
void net_peers_watch(struct net *net);

/* Each of these does a bounded part of what there is to do, and returns whether there was any. */
bool net_receive(struct net *net);
bool net_send(struct net *net);  /* from the interface */
bool net_flush(struct net *net); /* what peers had no room for */

/* Show */

/* A name for the socket on which the process of an interface answers, in its network namespace. */
int net_control_open(const char *interface, struct ivshm_diag *diag);
/* Serves whoever asks, and waits for nobody. Whether somebody wants the interface to end. */
bool net_control_serve(struct net *net);

int net_show_status(const struct tool_options *opt);
int net_take_down(const char *interface);

#endif
