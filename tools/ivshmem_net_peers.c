/* SPDX-License-Identifier: mpich2 */
/*
 * The network itself, a switch without a middle: each interface knows all others, sends a frame to
 * the one that has its address, or to all, and passes nothing on. A peer is an endpoint whose job
 * says that it is of the same network.
 *
 * A frame is one message, or several, each of which begins with struct head. It is written into the
 * region by the thread that has read it; if the peer has no room for it, a copy waits in private
 * memory, and if there are too many, it is dropped, as by any switch. Nothing that a peer writes is
 * used before it is checked; a peer that sends anything else than frames is not listened to any
 * more.
 */
#include "ivshmem_net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define RECEIVE_BATCH 64 /* messages, before others have their turn */
#define SEND_BATCH 16    /* frames */
#define FLUSH_BATCH 16   /* frames, to one peer */

/* What may wait for a peer, and for all together. */
#define QUEUE_FRAMES 1024
#define QUEUE_BYTES (4 << 20) /* about what one connection of TCP has on its way at most */
#define QUEUES_BYTES (64 << 20)
/* So long nothing is read from the interface when so much waits for a peer: then it is too slow. */
#define HOLD_NS 5000000
/* A peer that takes nothing for so long gets what it has room for at once, and nothing waits. */
#define STALLED_NS UINT64_C(1000000000)

enum kind {
    HELLO = 1, /* this interface has come; no payload */
    FRAME,     /* value: its bytes, of which the first follow */
    MORE,      /* value: how many came before; the next ones follow */
};

struct head {
    uint32_t kind, value;
};

struct waiting {
    struct waiting *next;
    size_t bytes, sent;
    unsigned char data[];
};

struct net_peer {
    struct ivshm_owner owner;
    struct ivshm_channel *channel; /* NULL if it is not of this network */
    struct net_name name;
    bool is_broken, has_conflict;
    uint32_t place; /* among the members */
    /* Frames to it. */
    struct waiting *first, **last;
    uint32_t queue_frames;
    uint64_t queue_bytes;
    bool is_slow;        /* what it has no room for is not waited for */
    bool is_stalled;     /* nor kept */
    uint64_t full_since; /* 0 if it took something since */
    /* The frame that comes from it. */
    unsigned char *frame;
    uint32_t bytes, got;
};

/* Addresses */

static struct net_mac_entry *entry_of(struct net *net, const unsigned char *mac)
{
    uint32_t hash = 0;
    for (int i = 0; i < NET_MAC_BYTES; i++)
        hash = (hash ^ mac[i]) * 16777619u;
    return &net->macs[(hash ^ hash >> 16) % NET_MACS];
}

/* Whoever has the same place is forgotten: frames to it go to all. */
static void learn(struct net *net, const unsigned char *mac, struct ivshm_owner owner)
{
    struct net_mac_entry *e = entry_of(net, mac);
    memcpy(e->mac, mac, NET_MAC_BYTES);
    e->owner = owner;
    e->is_used = true;
}

/* NULL if it is not known. */
static struct net_peer *find_mac(struct net *net, const unsigned char *mac)
{
    const struct net_mac_entry *e = entry_of(net, mac);
    if (!e->is_used || memcmp(e->mac, mac, NET_MAC_BYTES) != 0)
        return NULL;
    struct net_peer *peer = net->peers[e->owner.endpoint];
    return peer && peer->channel && peer->owner.generation == e->owner.generation ? peer : NULL;
}

/* Sending */

/* Takes its first frame off the queue. */
static void drop_first(struct net *net, struct net_peer *peer)
{
    struct waiting *w = peer->first;
    peer->first = w->next;
    if (!peer->first)
        peer->last = &peer->first;
    peer->queue_frames--;
    peer->queue_bytes -= w->bytes;
    net->queued -= w->bytes;
    free(w);
}

static void empty_queue(struct net *net, struct net_peer *peer)
{
    while (peer->first) {
        drop_first(net, peer);
        net->counters.dropped++;
    }
}

/* Sends what there is room for of a frame, of which *sent bytes are sent. True if that is all. */
static bool send_pieces(struct net *net, struct net_peer *peer, const unsigned char *data,
                        size_t bytes, size_t *sent)
{
    struct ivshm_transport *t = &net->transport;
    while (*sent < bytes) {
        struct ivshm_outgoing out;
        const size_t want = sizeof(struct head) + bytes - *sent;
        if ((*sent == 0 ? ivshm_message_reserve(t, peer->channel, want, 0, &out)
                        : ivshm_message_reserve_rest(t, peer->channel, want, 0, &out)) != 0)
            return false;
        const uint32_t len = want < out.capacity ? (uint32_t) want : out.capacity;
        const struct head head = {*sent == 0 ? FRAME : MORE,
                                  (uint32_t) (*sent == 0 ? bytes : *sent)};
        ivshm_message_write(&out, 0, &head, sizeof(head));
        ivshm_message_write(&out, sizeof(head), data + *sent, len - sizeof(head));
        ivshm_message_publish(t, peer->channel, &out, len);
        *sent += len - sizeof(head);
        peer->full_since = 0;
        peer->is_stalled = false;
    }
    net->counters.sent++;
    net->counters.sent_bytes += bytes;
    return true;
}

static void enqueue(struct net *net, struct net_peer *peer, const unsigned char *data, size_t bytes,
                    size_t sent)
{
    struct waiting *w = NULL;
    const bool has_room = peer->queue_frames < QUEUE_FRAMES &&
                          peer->queue_bytes + bytes <= QUEUE_BYTES &&
                          net->queued + bytes <= QUEUES_BYTES;
    /* The rest of a frame that has begun is always kept, or the next one would not be told apart.
     */
    if (sent > 0 || (has_room && !peer->is_stalled))
        w = malloc(sizeof(*w) + bytes);
    if (!w) {
        net->counters.dropped++;
        return;
    }
    *w = (struct waiting){.bytes = bytes, .sent = sent};
    memcpy(w->data, data, bytes);
    *peer->last = w;
    peer->last = &w->next;
    peer->queue_frames++;
    peer->queue_bytes += bytes;
    net->queued += bytes;
    if (!peer->full_since)
        peer->full_since = tool_now_ns();
}

static void send_to(struct net *net, struct net_peer *peer, const unsigned char *data, size_t bytes)
{
    size_t sent = 0;
    if (peer->first || !send_pieces(net, peer, data, bytes, &sent))
        enqueue(net, peer, data, bytes, sent);
}

static void send_frame(struct net *net, size_t bytes)
{
    const unsigned char *to = net->frame + NET_VNET_BYTES;
    struct net_peer *peer = to[0] & 1 ? NULL : find_mac(net, to);
    if (peer) {
        send_to(net, peer, net->frame, bytes);
        return;
    }
    net->counters.flooded++;
    for (uint32_t i = 0; i < net->member_count; i++)
        send_to(net, net->members[i], net->frame, bytes);
}

static bool is_half_full(const struct net_peer *peer)
{
    return peer->queue_bytes >= QUEUE_BYTES / 2 || peer->queue_frames >= QUEUE_FRAMES / 2;
}

/*
 * Whether frames should stay where they are for a moment, because a peer cannot take them as fast
 * as they come. The kernel then makes their senders wait, which costs less than a loss.
 */
static bool is_held(struct net *net)
{
    bool is_full = false;
    if (!net->queued)
        return false;
    for (uint32_t i = 0; i < net->member_count; i++) {
        struct net_peer *peer = net->members[i];
        if (!is_half_full(peer))
            peer->is_slow = false;
        else if (!peer->is_slow && !peer->is_stalled)
            is_full = true;
    }
    if (!is_full) {
        net->held_since = 0;
        return false;
    }
    const uint64_t now = tool_now_ns();
    if (!net->held_since)
        net->held_since = now;
    if (now - net->held_since < HOLD_NS)
        return true;
    net->held_since = 0;
    for (uint32_t i = 0; i < net->member_count; i++)
        net->members[i]->is_slow |= is_half_full(net->members[i]);
    return false;
}

bool net_send(struct net *net)
{
    for (int i = 0; i < SEND_BATCH; i++) {
        if (is_held(net))
            return i > 0;
        ssize_t n = read(net->tap, net->frame, sizeof(net->frame));
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            net->tap_is_gone = true;
        if (n < 0)
            return i > 0;
        if ((size_t) n >= NET_HEAD_BYTES)
            send_frame(net, (size_t) n);
    }
    return true;
}

bool net_flush(struct net *net)
{
    bool any = false;
    ivshm_transport_flush(&net->transport);
    for (uint32_t i = 0; i < net->member_count && net->queued; i++) {
        struct net_peer *peer = net->members[i];
        for (int n = 0; n < FLUSH_BATCH && peer->first; n++) {
            struct waiting *w = peer->first;
            const size_t before = w->sent;
            const bool is_all = send_pieces(net, peer, w->data, w->bytes, &w->sent);
            any |= w->sent > before;
            if (!is_all)
                break;
            drop_first(net, peer);
        }
        if (!peer->first)
            continue;
        if (!peer->full_since) {
            peer->full_since = tool_now_ns();
        } else if (tool_now_ns() - peer->full_since > STALLED_NS) {
            empty_queue(net, peer);
            peer->is_stalled = true;
        }
    }
    return any;
}

/* Who is there */

static const char *describe(const struct net *net, const struct net_peer *peer)
{
    static char text[256];
    struct ivshm_endpoint_info info;
    const char *host = "unknown";
    if (ivshm_endpoint_read(net->region, peer->owner.endpoint, &info) == 0 && info.named &&
        info.claim.generation == peer->owner.generation)
        host = tool_printable(info.process.host);
    snprintf(text, sizeof(text), "%s (endpoint %u.%u on %s)", peer->name.address.text,
             peer->owner.endpoint, peer->owner.generation, host);
    return text;
}

static void remove_peer(struct net *net, uint32_t endpoint)
{
    struct net_peer *peer = net->peers[endpoint];
    if (peer->channel) {
        empty_queue(net, peer);
        net->members[peer->place] = net->members[--net->member_count];
        net->members[peer->place]->place = peer->place;
        ivshm_channel_close(&net->transport, peer->channel);
    }
    free(peer->frame);
    free(peer);
    net->peers[endpoint] = NULL;
}

static bool is_of_network(const struct net *net, const struct net_name *name)
{
    return name->version == NET_VERSION && strcmp(name->network, net->name.network) == 0;
}

static bool is_self(const struct net *net, uint32_t endpoint)
{
    return endpoint == ivshm_transport_self(&net->transport).endpoint;
}

/*
 * The peer of that claim, which is noticed if it is new; NULL if it has gone, or there is no memory
 * for it. Whoever is not of this network is noticed as such.
 */
static struct net_peer *notice(struct net *net, struct ivshm_owner owner)
{
    struct ivshm_endpoint_info info;
    struct net_peer *peer = net->peers[owner.endpoint];
    if (peer && peer->owner.generation == owner.generation)
        return peer;
    if (peer)
        remove_peer(net, owner.endpoint);
    if (is_self(net, owner.endpoint) ||
        ivshm_endpoint_read(net->region, owner.endpoint, &info) != 0 ||
        info.claim.state != IVSHM_CLAIM_LIVE || info.claim.generation != owner.generation ||
        !(peer = calloc(1, sizeof(*peer))))
        return NULL;
    peer->owner = owner;
    peer->last = &peer->first;
    if (net_parse_job(info.job, &peer->name) && is_of_network(net, &peer->name)) {
        if (ivshm_channel_open(&net->transport, owner, &peer->channel, NULL) != 0) {
            free(peer);
            return NULL;
        }
        unsigned char mac[NET_MAC_BYTES];
        net_mac_of(&peer->name.address, mac);
        learn(net, mac, owner);
        peer->place = net->member_count;
        net->members[net->member_count++] = peer;
    }
    net->peers[owner.endpoint] = peer;
    return peer;
}

/* So that it need not look for us. It does, some time, if there is no room for this. */
static void greet(struct net *net, struct net_peer *peer)
{
    const struct head hello = {HELLO, 0};
    struct ivshm_outgoing out;
    if (ivshm_message_reserve(&net->transport, peer->channel, sizeof(hello), 0, &out) != 0)
        return;
    memcpy(out.payload, &hello, sizeof(hello));
    ivshm_message_publish(&net->transport, peer->channel, &out, sizeof(hello));
}

static void look_around(struct net *net)
{
    for (uint32_t i = 0; i < ivshm_region_endpoints(net->region); i++) {
        const struct ivshm_claim claim = ivshm_endpoint_claim(net->region, i);
        struct net_peer *peer = net->peers[i];
        const bool is_live = claim.state == IVSHM_CLAIM_LIVE;
        if (peer && (!is_live || claim.generation != peer->owner.generation))
            remove_peer(net, i);
        if (!is_live || net->peers[i])
            continue;
        peer = notice(net, (struct ivshm_owner){i, claim.generation});
        if (peer && peer->channel)
            greet(net, peer);
    }
}

void net_peers_watch(struct net *net)
{
    ivshm_transport_watch(&net->transport);
    look_around(net);
}

int net_peers_open(struct net *net, struct ivshm_diag *diag)
{
    const uint32_t count = ivshm_region_endpoints(net->region);
    net->peers = calloc(count, sizeof(struct net_peer *));
    net->members = calloc(count, sizeof(struct net_peer *));
    if (!net->peers || !net->members) {
        net_peers_close(net);
        return ivshm_diag_fail(diag, ENOMEM, "out of memory for %u peers", count);
    }
    look_around(net);
    for (uint32_t i = 0; i < count; i++) {
        struct net_peer *peer = net->peers[i];
        int err = 0;
        if (peer && peer->name.version && peer->name.version != NET_VERSION)
            err = ivshm_diag_fail(diag, EPROTONOSUPPORT,
                                  "endpoint %u.%u of region %s is a network interface of version "
                                  "%u, this is version %d: run the same release of ivshmem "
                                  "everywhere",
                                  i, peer->owner.generation, ivshm_region_name(net->region),
                                  peer->name.version, NET_VERSION);
        else if (peer && peer->channel && net_same_address(&peer->name.address, &net->name.address))
            err = ivshm_diag_fail(diag, EADDRINUSE,
                                  "the address %s is in use: choose another one; if it is another "
                                  "VM's that will never run again, run `ivshmem reap --vm-gone`",
                                  describe(net, peer));
        if (err) {
            net_peers_close(net);
            return err;
        }
    }
    return 0;
}

void net_peers_close(struct net *net)
{
    for (uint32_t i = 0; net->peers && i < ivshm_region_endpoints(net->region); i++)
        if (net->peers[i])
            remove_peer(net, i);
    free(net->peers);
    free(net->members);
    net->peers = net->members = NULL;
}

/* Receiving */

/* Nothing more comes from it, as far as that can be prevented. */
static void stop_listening(struct net *net, struct net_peer *peer, struct ivshm_channel *channel)
{
    if (peer->is_broken)
        return;
    peer->is_broken = true;
    ivshm_channel_pause(&net->transport, channel);
    if (peer->channel)
        net->counters.broken++;
}

static void break_peer(struct net *net, struct net_peer *peer, struct ivshm_channel *channel,
                       const char *fault)
{
    if (!peer->is_broken)
        net_report(net, "%s sent %s: nothing more is received from it, until it is started again",
                   describe(net, peer), fault);
    stop_listening(net, peer, channel);
}

/* What is wrong with a frame of `bytes` that begins with `head`, or NULL. */
static const char *head_fault(const unsigned char head[NET_HEAD_BYTES], size_t bytes)
{
    struct virtio_net_hdr h;
    if (bytes < NET_HEAD_BYTES || bytes > NET_FRAME_MAX)
        return "a frame of a size that none has";
    const size_t frame = bytes - NET_VNET_BYTES;
    memcpy(&h, head, sizeof(h));
    if (h.flags & ~(VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID))
        return "a frame with unknown flags";
    if (h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM && (size_t) h.csum_start + h.csum_offset + 2 > frame)
        return "a frame with its checksum behind its end";
    switch (h.gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
    case VIRTIO_NET_HDR_GSO_NONE:
        return h.gso_type || h.hdr_len > frame ? "a frame whose header is wrong" : NULL;
    case VIRTIO_NET_HDR_GSO_TCPV4:
    case VIRTIO_NET_HDR_GSO_TCPV6:
        return h.gso_size == 0 || h.hdr_len > frame || !(h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
                   ? "a frame that cannot be segmented as it says"
                   : NULL;
    default:
        return "a frame of an unknown type";
    }
}

/* Gives a frame to the kernel: a head that nobody else can change, and the rest. */
static void deliver(struct net *net, struct net_peer *peer, struct ivshm_channel *channel,
                    const unsigned char *head, const unsigned char *rest, size_t rest_bytes)
{
    const unsigned char *from = head + NET_VNET_BYTES + NET_MAC_BYTES;
    const char *fault = head_fault(head, NET_HEAD_BYTES + rest_bytes);
    if (!fault && from[0] & 1)
        fault = "a frame from an address of many";
    if (fault) {
        break_peer(net, peer, channel, fault);
        return;
    }
    if (memcmp(from, net->mac, NET_MAC_BYTES) == 0) {
        net->counters.conflicts++;
        if (!peer->has_conflict)
            net_report(net,
                       "%s sends from the hardware address of this interface: one of the two "
                       "needs another one",
                       describe(net, peer));
        peer->has_conflict = true;
        return;
    }
    if (find_mac(net, from) != peer)
        learn(net, from, peer->owner);
    const struct iovec parts[] = {{(void *) head, NET_HEAD_BYTES}, {(void *) rest, rest_bytes}};
    if (writev(net->tap, parts, 2) < 0) {
        net->tap_is_gone |= errno == EBADFD || errno == EBADF;
        net->counters.refused++;
        return;
    }
    net->counters.received++;
    net->counters.received_bytes += NET_HEAD_BYTES + rest_bytes;
}

/* What is wrong with a message, or NULL. Its payload can change at any time. */
static const char *take(struct net *net, struct net_peer *peer, const struct ivshm_incoming *in)
{
    unsigned char private_head[NET_HEAD_BYTES];
    struct head head;
    if (in->len < sizeof(head))
        return "a message that is too short";
    memcpy(&head, in->payload, sizeof(head));
    const unsigned char *data = in->payload + sizeof(head);
    const uint32_t n = in->len - (uint32_t) sizeof(head);
    switch (head.kind) {
    case HELLO:
        return NULL;
    case FRAME:
        if (head.value < NET_HEAD_BYTES || head.value > NET_FRAME_MAX || n > head.value)
            return "a frame of a size that none has";
        if (n == head.value) {
            peer->bytes = 0;
            memcpy(private_head, data, sizeof(private_head));
            deliver(net, peer, in->channel, private_head, data + NET_HEAD_BYTES,
                    n - NET_HEAD_BYTES);
            return NULL;
        }
        if (!peer->frame && !(peer->frame = malloc(NET_FRAME_MAX)))
            return "a frame for which there is no memory";
        peer->bytes = head.value;
        peer->got = 0;
        break;
    case MORE:
        if (!peer->bytes || head.value != peer->got || n == 0 || n > peer->bytes - peer->got)
            return "a part of a frame out of order";
        break;
    default:
        return "a message of an unknown kind";
    }
    memcpy(peer->frame + peer->got, data, n);
    peer->got += n;
    if (peer->got < peer->bytes)
        return NULL;
    deliver(net, peer, in->channel, peer->frame, peer->frame + NET_HEAD_BYTES,
            peer->bytes - NET_HEAD_BYTES);
    peer->bytes = 0;
    return NULL;
}

bool net_receive(struct net *net)
{
    struct ivshm_incoming in;
    struct ivshm_diag diag;
    for (int i = 0; i < RECEIVE_BATCH; i++) {
        const int got = ivshm_transport_receive(&net->transport, &in, &diag);
        if (got == 0)
            return i > 0;
        if (got < 0) {
            struct net_peer *peer = in.channel ? notice(net, ivshm_channel_peer(in.channel)) : NULL;
            /* Without a channel, it is no peer, or one that has left since. */
            if (peer && !peer->is_broken)
                net_report(net, "%s: nothing more is received from it", diag.text);
            if (peer)
                stop_listening(net, peer, in.channel);
            else
                net->counters.refused++;
            continue;
        }
        struct net_peer *peer = notice(net, ivshm_channel_peer(in.channel));
        const char *fault = NULL;
        if (peer && peer->channel && !peer->is_broken)
            fault = take(net, peer, &in);
        ivshm_message_release(&in);
        if (fault)
            break_peer(net, peer, in.channel, fault);
        else if (peer && !peer->channel)
            stop_listening(net, peer, in.channel); /* a stranger */
    }
    return true;
}
