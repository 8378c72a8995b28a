/* SPDX-License-Identifier: mpich2 */
/*
 * ivshmem net, of which one peer is hostile: it sends anything as a frame, and lies about who it
 * is. The interface is here: the frames that it gives come from the input, those that it takes are
 * checked. So is the clock.
 */
#include "tool_double.h"

#include "ivshmem_net.h"

#include <sys/uio.h>

static struct net net;
static struct ivshm_transport *party;
static struct input *frames; /* NULL: the interface has none */

/* One frame: to all, to one of the parties, or to nobody; of any size. */
ssize_t fuzz_read(int fd, void *to, size_t size);
ssize_t fuzz_read(int fd, void *to, size_t size)
{
    static const uint8_t base[] = {2, 0x69, 10, 0, 0, 0};
    must(fd == net.tap && size == NET_FRAME_MAX);
    if (!frames) {
        errno = EAGAIN;
        return -1;
    }
    const unsigned kind = (unsigned) take(frames, 1);
    size_t bytes = (size_t) take(frames, 2) << (kind >> 6);
    bytes = bytes > size ? size : bytes;
    frames = NULL;
    errno = kind % 32 == 31 ? EBADFD : EAGAIN;
    if (kind % 32 >= 30)
        return -1;
    memset(to, 0, bytes);
    if (bytes >= NET_HEAD_BYTES) {
        unsigned char *mac = (unsigned char *) to + NET_VNET_BYTES;
        memcpy(mac, base, sizeof(base));
        memcpy(mac + 6, net.mac, 6);
        mac[5] = (unsigned char) (kind % 8);
        mac[0] |= kind >> 3 & 1;
    }
    return (ssize_t) bytes;
}

/* Whatever a peer has sent, the kernel gets a header that it can take, and memory that is there. */
ssize_t fuzz_writev(int fd, const struct iovec *parts, int count);
ssize_t fuzz_writev(int fd, const struct iovec *parts, int count)
{
    static unsigned char copy[NET_FRAME_MAX];
    struct virtio_net_hdr head;
    must(fd == net.tap && count == 2 && parts[0].iov_len == NET_HEAD_BYTES);
    must(parts[1].iov_len <= sizeof(copy) - NET_HEAD_BYTES);
    memcpy(copy, parts[0].iov_base, NET_HEAD_BYTES);
    memcpy(copy + NET_HEAD_BYTES, parts[1].iov_base, parts[1].iov_len);
    memcpy(&head, copy, sizeof(head));
    const size_t frame = NET_ETHER_BYTES + parts[1].iov_len;
    must(head.hdr_len <= frame || head.gso_type == VIRTIO_NET_HDR_GSO_NONE);
    must(!(head.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) ||
         (size_t) head.csum_start + head.csum_offset + 2 <= frame);
    must(head.gso_type == VIRTIO_NET_HDR_GSO_NONE || head.gso_size > 0);
    must(!(copy[NET_VNET_BYTES + NET_MAC_BYTES] & 1));
    must(memcmp(copy + NET_VNET_BYTES + NET_MAC_BYTES, net.mac, NET_MAC_BYTES) != 0);
    if (frame % 64 != 63)
        return (ssize_t) (NET_VNET_BYTES + frame);
    errno = frame % 128 == 127 ? EINVAL : EBADFD;
    return -1;
}

/* Replaces that of ivshmem_net_report.c. */
void net_report(const struct net *n, const char *fmt, ...)
{
    va_list ap;
    (void) n;
    va_start(ap, fmt);
    check_message(fmt, ap);
    va_end(ap);
}

/* The hostile peer is of another interface now, or of none. */
static void rename_hostile(struct input *in)
{
    static const char *const jobs[] = {"ivshmem-net/v1/net/10.0.0.1/24/mpi0",
                                       "ivshmem-net/v1/net/fd00::1/64/mpi0",
                                       "ivshmem-net/v1/net/10.0.0.3/24/mpi0",
                                       "ivshmem-net/v1/other/10.0.0.1/24/mpi0",
                                       "ivshmem-net/v2/something",
                                       "ivshmem-pipe-name"};
    const unsigned which = (unsigned) take(in, 1), place = (unsigned) take(in, 1);
    struct net_name name, again;
    char job[128] = "";
    snprintf(job, sizeof(job), "%s", jobs[which % LENGTH(jobs)]);
    if (place < strlen(job))
        job[place] = (char) take(in, 1);
    party_name(HOSTILE, job, 0);
    if (!net_parse_job(job, &name) || name.version != NET_VERSION)
        return;
    net_format_job(&name, job, sizeof(job));
    must(net_parse_job(job, &again) && net_same_address(&name.address, &again.address));
}

/* It leaves, and comes back. */
static void restart_hostile(struct input *in)
{
    void *claim = &net.region->endpoints[party[HOSTILE].endpoint.owner.endpoint].claim;
    const uint64_t left = IVSHM_CLAIM_DEAD;
    uint64_t word;
    memcpy(&word, claim, sizeof(word));
    memcpy(claim, &left, sizeof(left));
    net_peers_watch(&net);
    memcpy(claim, &word, sizeof(word));
    rename_hostile(in);
}

/* A message of a peer: the kind, the number, the length, and how the frame begins. */
static void send_message(struct input *in, enum party from)
{
    static unsigned char bytes[32 << 10];
    struct ivshm_channel *channel = channel_of(from, OWN);
    struct ivshm_outgoing out;
    const uint8_t what = (uint8_t) take(in, 1);
    uint32_t words[2] = {what % 5, (uint32_t) take(in, 2)};
    uint32_t len = what & 8 ? words[1] + 8 : (uint32_t) take(in, 2);
    len %= 16 << 10;
    if (what & 16) /* a frame of so many */
        words[1] += 1 << 15;
    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, words, sizeof(words));
    if (what & 32) /* virtio's header */
        for (unsigned i = 0; i < NET_VNET_BYTES; i++)
            bytes[8 + i] = (unsigned char) take(in, 1);
    unsigned char *mac = bytes + 8 + NET_VNET_BYTES + NET_MAC_BYTES;
    memcpy(mac, net.mac, NET_MAC_BYTES);
    if (what & 64)
        mac[5] ^= (unsigned char) take(in, 1);
    mac[0] ^= what >> 7;
    if (!channel || ivshm_message_reserve(&party[from], channel, len, 0, &out) != 0)
        return;
    len = len < out.capacity ? len : out.capacity;
    memcpy(out.payload, bytes, len);
    ivshm_message_publish(&party[from], channel, &out, len);
}

static void receive(enum party who)
{
    struct ivshm_incoming in;
    struct ivshm_diag diag;
    if (ivshm_transport_receive(&party[who], &in, &diag) == 1)
        ivshm_message_release(&in);
}

static void call(struct input *in, unsigned op)
{
    const uint64_t limit = table_limit(net.region);
    allow(100 * limit, false);
    switch (op % 8) {
    case 0:
    case 1:
        net_receive(&net);
        break;
    case 2:
        frames = in;
        for (unsigned i = 0; i <= op / 8; i++)
            net_send(&net);
        frames = NULL;
        break;
    case 3:
        net_flush(&net);
        break;
    case 4:
        if (op & 8)
            restart_hostile(in);
        net_peers_watch(&net);
        break;
    case 5:
        send_message(in, op & 8 ? SOUND : HOSTILE);
        break;
    case 6:
        clock_ns += UINT64_C(1) << (16 + op / 8); /* up to two seconds */
        break;
    default:
        receive(op & 8 ? SOUND : HOSTILE);
    }
    must(net.member_count < PARTIES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    struct ivshm_diag diag = {""};
    struct world *w = world_begin(RINGS);
    party = parties_begin();
    clock_ns = 1;
    net = (struct net){.region = &w->region, .transport = party[OWN], .tap = 1000};
    must(net_parse_job("ivshmem-net/v1/net/10.0.0.3/24/mpi0", &net.name));
    net_mac_of(&net.name.address, net.mac);
    party_name(SOUND, "ivshmem-net/v1/net/10.0.0.2/24/mpi0", 0);
    rename_hostile(&in);
    allow(100 * table_limit(&w->region), false);
    if (net_peers_open(&net, &diag) == 0) {
        play(&in, 64, call);
        allow(100 * table_limit(&w->region), false);
        net_peers_close(&net);
    } else
        check_text(diag.text, strlen(diag.text));
    party[OWN] = net.transport;
    parties_end();
    return 0;
}
