/* SPDX-License-Identifier: mpich2 */
/*
 * For ivshmem-net.bats: an endpoint of a job of any name, that sends to each interface on the
 * region what no interface would send.
 *
 *   net_peer REGION JOB stay         sends nothing
 *   net_peer REGION JOB fill         joins until the region is full
 *   net_peer REGION JOB send CASE    sends one message, or a few: see `cases`
 *   net_peer REGION JOB random SEED  many, from many endpoints
 *   net_peer REGION JOB noise SEED   frames whose head is right and whose rest is random
 *
 * It says that it has sent all, and stays until it is killed.
 */
#include "transport.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { HELLO = 1, FRAME, MORE, HEAD = 8, VNET = 10, ETHER = 14 };

static struct ivshm_region region;
static struct ivshm_transport transport;
static struct ivshm_channel *channel;

static void fail(const char *text)
{
    fprintf(stderr, "net_peer: %s\n", text);
    exit(1);
}

/* Where earlier ones were, there is room again once nobody is attached to them. */
static void join(const char *job)
{
    struct ivshm_diag diag = {""};
    for (int tries = 0; tries < 600; tries++) {
        int err = ivshm_transport_open(&transport, &region, job, 0, 1, &diag);
        if (err == 0)
            return;
        if (err != -ENOSPC)
            break;
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    fail(diag.text);
}

/* To the interface with that index among all. */
static bool find(int which)
{
    struct ivshm_endpoint_info info;
    for (uint32_t i = 0; i < ivshm_region_endpoints(&region); i++)
        if (i != ivshm_transport_self(&transport).endpoint &&
            ivshm_endpoint_read(&region, i, &info) == 0 && info.claim.state == IVSHM_CLAIM_LIVE &&
            strncmp(info.job, "ivshmem-net/", 12) == 0 && which-- == 0)
            return ivshm_channel_open(&transport, (struct ivshm_owner){i, info.claim.generation},
                                      &channel, NULL) == 0;
    return false;
}

/* False if there has been no room for some time. */
static bool send_bytes(const void *bytes, uint32_t len)
{
    struct ivshm_outgoing out;
    for (int tries = 0; tries < 1000; tries++) {
        ivshm_transport_flush(&transport);
        if (ivshm_message_reserve(&transport, channel, len, 0, &out) == 0) {
            if (out.capacity < len)
                len = out.capacity;
            memcpy(out.payload, bytes, len);
            ivshm_message_publish(&transport, channel, &out, len);
            return true;
        }
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    return false;
}

struct message {
    uint32_t kind, value;
    struct virtio_net_hdr vnet;
    unsigned char ether[ETHER], rest[2000];
};

static struct message frame(uint32_t bytes)
{
    struct message m = {.kind = FRAME, .value = VNET + bytes};
    memcpy(m.ether, "\xff\xff\xff\xff\xff\xff\x02\x69\x0a\x4d\x00\x42\x08\x00", ETHER);
    return m;
}

static void send_message(struct message m, uint32_t bytes)
{
    send_bytes(&m, HEAD + VNET + bytes);
}

static void send_case(int number)
{
    struct message m = frame(100);
    switch (number) {
    case 0:
        send_bytes("abc", 3);
        break;
    case 1:
        m.kind = 0;
        send_message(m, 100);
        break;
    case 2:
        m.kind = 77;
        send_message(m, 100);
        break;
    case 3:
        m.value = UINT32_MAX;
        send_message(m, 100);
        break;
    case 4: /* more than it says */
        m.value = VNET + 50;
        send_message(m, 100);
        break;
    case 5:
        m.value = 3;
        send_bytes(&m, HEAD + 3);
        break;
    case 6: /* a part of nothing */
        m.kind = MORE;
        send_message(m, 100);
        break;
    case 7: /* in two parts, of which the second is not where it should be */
        m.value = VNET + 200;
        send_message(m, 100);
        m.kind = MORE;
        m.value = 7;
        send_message(m, 100);
        break;
    case 8: /* and of which it is too long */
        m.value = VNET + 200;
        send_message(m, 100);
        m.kind = MORE;
        m.value = VNET + 100;
        send_message(m, 1000);
        break;
    case 9: /* and empty */
        m.value = VNET + 200;
        send_message(m, 100);
        m.kind = MORE;
        m.value = VNET + 100;
        send_bytes(&m, HEAD);
        break;
    case 10:
        m.vnet.flags = 0x80;
        send_message(m, 100);
        break;
    case 11:
        m.vnet.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        m.vnet.csum_start = 99;
        send_message(m, 100);
        break;
    case 12:
        m.vnet.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        m.vnet.csum_start = m.vnet.csum_offset = 0xffff;
        send_message(m, 100);
        break;
    case 13:
        m.vnet.gso_type = 99;
        send_message(m, 100);
        break;
    case 14: /* nothing to cut it by */
        m.vnet.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        m.vnet.csum_start = 34;
        m.vnet.csum_offset = 16;
        m.vnet.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
        send_message(m, 100);
        break;
    case 15:
        m.vnet.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
        m.vnet.gso_size = 1000;
        send_message(m, 100);
        break;
    case 16:
        m.vnet.hdr_len = 101;
        send_message(m, 100);
        break;
    case 17: /* from everybody */
        m.ether[6] = 0xff;
        send_message(m, 100);
        break;
    default:
        fail("there are cases 0 to 17");
    }
}

static unsigned next_random(unsigned below)
{
    return (unsigned) random() % below;
}

static void scramble(void *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ((unsigned char *) bytes)[i] = (unsigned char) next_random(256);
}

static void send_random(bool heads_are_right)
{
    uint32_t bytes = ETHER + next_random(1900);
    struct message m = frame(bytes);
    scramble(m.rest, sizeof(m.rest));
    if (next_random(2))
        scramble(m.ether + 12, 2);
    if (!heads_are_right && next_random(2))
        scramble(&m, HEAD + VNET);
    if (!heads_are_right && next_random(2))
        scramble((char *) &m + next_random(HEAD + VNET), 1);
    if (heads_are_right && next_random(2)) {
        m.vnet.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        m.vnet.csum_start = (uint16_t) next_random(bytes - 2);
        m.vnet.csum_offset = 0;
        m.vnet.gso_type = next_random(2) ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
        m.vnet.gso_size = (uint16_t) (1 + next_random(65535));
        m.vnet.hdr_len = (uint16_t) next_random(bytes);
    }
    send_message(m, bytes);
}

static void send_many(const char *job, bool heads_are_right)
{
    for (int i = 0; i < 300; i++) {
        if (!find(0))
            fail("there is no interface");
        for (int n = 0; n < (heads_are_right ? 10 : 4); n++)
            send_random(heads_are_right);
        if (heads_are_right)
            continue;
        ivshm_transport_close(&transport);
        join(job);
    }
}

static int fill(const char *job)
{
    static struct ivshm_transport all[4096];
    int n = 0;
    while (n < 4096 && ivshm_transport_open(&all[n], &region, job, 0, 1, NULL) == 0)
        n++;
    return n;
}

int main(int argc, char **argv)
{
    struct ivshm_diag diag = {""};
    if (argc < 4 || ivshm_region_open(argv[1], &region, &diag) != 0)
        fail(argc < 4 ? "see its source" : diag.text);
    const char *what = argv[3];
    const int number = argc > 4 ? atoi(argv[4]) : 0;
    srandom((unsigned) number);
    if (strcmp(what, "fill") == 0)
        fill(argv[2]);
    else
        join(argv[2]);
    if (strcmp(what, "send") == 0)
        for (int i = 0; find(i); i++)
            send_case(number);
    if (strcmp(what, "random") == 0 || strcmp(what, "noise") == 0)
        send_many(argv[2], strcmp(what, "noise") == 0);
    printf("done\n");
    fflush(stdout);
    for (;;)
        pause();
}
