/* SPDX-License-Identifier: mpich2 */
/*
 * stranger REGION SECONDS SEED
 *
 * A process of no job. It joins the region under changing names, including a job and a rank that
 * exist, and sends packets of all kinds to everyone: as that rank, before and after that rank has
 * sent something; and on streams, as calls to ports, open or not. None may have any effect. It does
 * only what any process with access to the region can do.
 */
#include "packets.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct random r;
static struct known known;
static MPIR_Win wins[16];

/* What the victims know of their windows, as if all of it could be guessed. */
static void spy(void)
{
    char name[600];
    const char *dir = getenv("HOSTILE_DIR");

    known.windows = 0;
    for (int rank = 0; dir && rank < 8; rank++) {
        unsigned handle;
        unsigned long long base;
        int size;
        snprintf(name, sizeof(name), "%s/known.%d", dir, rank);
        FILE *f = fopen(name, "r");
        while (f && known.windows < 16 && fscanf(f, "%x %llx %d", &handle, &base, &size) == 3) {
            int w = known.windows++;
            wins[w].handle = (int) handle;
            known.window[w].win = &wins[w];
            known.window[w].base = (char *) (uintptr_t) base;
            known.window[w].size = size;
            known.window[w].members[0] = true;
        }
        if (f)
            fclose(f);
    }
    for (; known.windows < 4; known.windows++) {
        wins[known.windows].handle = (int) 0xa0000000 + known.windows;
        known.window[known.windows].win = &wins[known.windows];
        known.window[known.windows].members[0] = true;
    }
    known.comms = 4;
    for (int c = 0; c < 4; c++)
        known.comm[c].context = c * 4;
    for (int i = 0; i < 8; i++)
        known.tags[i] = i;
    known.heap = known.stack = known.text = (char *) &known;
}

/* To everyone else there. */
static bool open_some_channel(struct ivshm_transport *t, struct ivshm_channel **channel)
{
    const uint32_t endpoints = t->region->geo.endpoints;
    uint32_t first = (uint32_t) rnd(&r, endpoints);

    for (uint32_t i = 0; i < endpoints; i++) {
        uint32_t peer = (first + i) % endpoints;
        struct ivshm_claim claim = ivshm_endpoint_claim(t->region, peer);
        if (claim.state == IVSHM_CLAIM_LIVE && peer != t->endpoint.owner.endpoint &&
            ivshm_channel_open(t, (struct ivshm_owner){peer, claim.generation}, channel, NULL) == 0)
            return true;
    }
    return false;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    static struct packet p;
    struct ivshm_region *region = &MPID_nem_ivshmem.region;
    struct ivshm_diag diag = {""};
    struct ivshm_transport t;
    unsigned long long sent = 0, joined = 0;

    if (argc != 4 || ivshm_region_open(argv[1], region, &diag) != 0) {
        fprintf(stderr, "stranger: %s\n",
                argc == 4 ? diag.text : "usage: stranger REGION SECONDS SEED");
        return 2;
    }
    r.state = strtoull(argv[3], NULL, 10) * UINT64_C(0x9e3779b97f4a7c15) + 99;
    double end = now() + atof(argv[2]);
    while (now() < end) {
        /* The job and the rank to be this time. */
        struct ivshm_endpoint_info info = {.rank = (uint32_t) rnd(&r, 8), .job_size = 8};
        snprintf(info.job, sizeof(info.job), "elsewhere");
        if (rnd(&r, 4)) {
            uint32_t first = (uint32_t) rnd(&r, region->geo.endpoints);
            for (uint32_t i = 0; i < region->geo.endpoints; i++)
                if (ivshm_endpoint_read(region, (first + i) % region->geo.endpoints, &info) == 0 &&
                    info.claim.state == IVSHM_CLAIM_LIVE)
                    break;
            if (rnd(&r, 3) == 0)
                info.rank = (uint32_t) rnd(&r, 8);
        }
        if (ivshm_transport_open(&t, region, info.job, info.rank, info.job_size, &diag) != 0) {
            usleep(10000);
            continue;
        }
        joined++;
        spy();
        known.comm[0].ranks[0] = (int) info.rank;
        for (int c = 1; c < known.comms; c++)
            known.comm[c].ranks[0] = (int) rnd(&r, 4);
        for (int w = 0; w < known.windows; w++)
            known.window[w].ranks[0] = (int) info.rank;
        /* It receives nothing: while it stays, it keeps all cells that are sent to it. */
        int packets = rnd(&r, 8) ? 300 : 30000;
        for (int n = 0; n < packets && now() < end; n++) {
            struct ivshm_channel *channel;
            struct ivshm_outgoing cell;
            if (!open_some_channel(&t, &channel)) {
                usleep(1000);
                continue;
            }
            uint32_t stream = rnd(&r, 2) ? 0 : (uint32_t) (rnd(&r, 4) << 16 | rnd(&r, 2000));
            if (rnd(&r, 20) == 0)
                stream |= UINT32_C(1) << 31;
            if (stream == IVSHM_STREAM_RING)
                stream = 1;
            packet_make(&r, &known, 0, (int) rnd(&r, PACKET_TYPES), (int) rnd(&r, 2) ? 100 : 80, 0,
                        0, &p);
            size_t len = MPL_MIN((size_t) (p.header_len + p.trailing_len), 200);
            if (ivshm_message_reserve(&t, channel, len, stream, &cell) == 0) {
                len = MPL_MIN(len, cell.capacity);
                memcpy(cell.payload, &p.header, MPL_MIN(len, (size_t) p.header_len));
                if (len > (size_t) p.header_len)
                    memcpy(cell.payload + p.header_len, p.trailing, len - (size_t) p.header_len);
                ivshm_message_publish(&t, channel, &cell, (uint32_t) len);
                sent++;
            } else {
                usleep(50);
            }
            ivshm_channel_close(&t, channel);
            if (n % 16 == 0)
                usleep((useconds_t) rnd(&r, 500));
        }
        ivshm_transport_close(&t);
    }
    ivshm_region_close(region);
    printf("%llu packets under %llu names\n", sent, joined);
    return 0;
}
