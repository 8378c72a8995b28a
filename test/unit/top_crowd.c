/* SPDX-License-Identifier: mpich2 */
/*
 * top_crowd REGION COUNT JOB
 *
 * As many endpoints of a job, in one process, that do what standard input says, a line each, and
 * leave at its end. It answers each line with "ok".
 * - tell SECONDS: that so much time has passed, and rank R has done R + 1 times so much a second
 * - doing NUMBER: what they do
 * - send COUNT: rank 0 sends so many messages to rank 1, which does not look; or as many as it can
 * - block NAME BYTES: rank 0 has a named block
 */
#include "named.h"

#include <stdio.h>
#include <stdlib.h>

static struct ivshm_transport *crowd;
static struct ivshm_names names;
static struct ivshm_diag diag;

static void must(bool is_true, const char *what)
{
    if (is_true)
        return;
    fprintf(stderr, "%s: %s\n", what, diag.text);
    exit(1);
}

static void tell(int count, unsigned long long seconds)
{
    for (int i = 0; i < count; i++) {
        const uint64_t n = seconds * (uint64_t) (i + 1);
        const struct ivshm_counts counts = {
            .eager_sent = 100 * n,
            .eager_sent_bytes = 10000 * n,
            .eager_received = 50 * n,
            .eager_received_bytes = 5000 * n,
            .large_sent = 2 * n,
            .large_sent_bytes = 3000000 * n,
            .copied_once = n,
            .tcp_sent = 7 * n,
            .tcp_sent_bytes = 700 * n,
            .waited = seconds * 250000000,
        };
        ivshm_transport_tell(&crowd[i], seconds * 1000000000, &counts);
    }
}

static void send_some(unsigned long long count)
{
    static struct ivshm_channel *channel;
    struct ivshm_outgoing out;
    must(channel ||
             ivshm_channel_open(&crowd[0], ivshm_transport_self(&crowd[1]), &channel, &diag) == 0,
         "open");
    for (; count > 0 && ivshm_message_reserve(&crowd[0], channel, 8, 0, &out) == 0; count--)
        ivshm_message_publish(&crowd[0], channel, &out, 8);
}

static void make_block(const char *name, unsigned long long bytes)
{
    struct ivshm_named block;
    must(ivshm_names_open(&names, &crowd[0], &diag) == 0, "names");
    must(ivshm_named_create(&names, name, bytes, &block, &diag) == 0, "block");
}

int main(int argc, char **argv)
{
    static struct ivshm_region region;
    char line[200], name[64];
    unsigned long long n;
    int count = argc == 4 ? atoi(argv[2]) : 0;
    must(count > 0 && (crowd = calloc((size_t) count, sizeof(*crowd))), "usage");
    must(ivshm_region_open(argv[1], &region, &diag) == 0, "region");
    for (int i = 0; i < count; i++)
        must(ivshm_transport_open(&crowd[i], &region, argv[3], (uint32_t) i, (uint32_t) count,
                                  &diag) == 0,
             "join");
    puts("ok");
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin)) {
        if (sscanf(line, "tell %llu", &n) == 1)
            tell(count, n);
        else if (sscanf(line, "doing %llu", &n) == 1)
            for (int i = 0; i < count; i++)
                ivshm_transport_tell_doing(&crowd[i], (enum ivshm_doing) n);
        else if (sscanf(line, "send %llu", &n) == 1)
            send_some(n);
        else if (sscanf(line, "block %63s %llu", name, &n) == 2)
            make_block(name, n);
        puts("ok");
        fflush(stdout);
    }
    for (int i = 0; i < count; i++)
        ivshm_transport_close(&crowd[i]);
    ivshm_region_close(&region);
    return 0;
}
