/* SPDX-License-Identifier: mpich2 */
/*
 * What the files of `ivshmem perf` share: ivshmem_perf_link.c connects the two sides and carries
 * messages between them, ivshmem_perf.c measures, ivshmem_perf_print.c writes the figures.
 */
#ifndef IVSHMEM_PERF_H
#define IVSHMEM_PERF_H

#include "ivshmem_tool.h"

#include "transport.h"
#include "pipeline.h"

#define PERF_VERSION 1 /* of the notes; both sides must have the same */

enum perf_kind {
    PERF_HELLO = 1, /* to a server; arg: PERF_VERSION; bytes at off: the sender's extent */
    PERF_WELCOME,   /* the server is this client's; arg: PERF_VERSION */
    PERF_BUSY,      /* it is another one's */
    PERF_RUN,       /* arg: the test; bytes of a message; count of them */
    PERF_READY,     /* this side has done its part, or is prepared for it */
    PERF_LARGE,     /* bytes come through the pipeline at off, from chunk arg on */
    PERF_END        /* nothing else is measured */
};

/* What the two sides tell each other. HELLO and WELCOME also say on what they run. */
struct perf_note {
    uint32_t kind, arg;
    uint64_t bytes, count;
    ivshm_off off;
};

/* Describes a side to the other one. From there, it is any bytes, but ends with a 0. */
struct perf_place {
    char processor[64];
    int32_t cpu; /* that it is bound to, or -1 */
};

struct perf_link {
    struct ivshm_region *region;
    struct ivshm_transport transport;
    struct ivshm_channel *channel;  /* to the other side; NULL before it is found */
    struct ivshm_pipeline pipeline; /* ours, for large messages; without chunks before the first */
    struct perf_place here, there;
    char job[128];
    unsigned timeout;     /* seconds */
    const char *activity; /* what goes on, for messages to a person */
    const char *path;     /* on which the last message was sent */
    uint64_t next_watch;
};

/*
 * Joins the region as a server or as a client. `link` has its region, job, timeout and place. Ends
 * with perf_link_close.
 */
int perf_link_open(struct perf_link *link, bool is_server, struct ivshm_diag *diag);
void perf_link_close(struct perf_link *link);

/* Server: waits for a client. Sets *extent to its extent, of *bytes bytes. */
int perf_link_accept(struct perf_link *link, void **extent, uint64_t *bytes,
                     struct ivshm_diag *diag);

/* Client: finds a server that is free; `child`, if not 0, is the process that will be it. */
int perf_link_connect(struct perf_link *link, ivshm_off extent, uint64_t bytes, pid_t child,
                      struct ivshm_diag *diag);

/*
 * One message to or from the other side, as the netmod would carry it. A message that is received
 * must have just that size. They fail if the other side is gone, sends anything else, or does
 * nothing for `timeout` seconds, and if this process is interrupted (-EINTR).
 */
int perf_send(struct perf_link *link, const void *from, size_t bytes, struct ivshm_diag *diag);
int perf_receive(struct perf_link *link, void *to, size_t bytes, struct ivshm_diag *diag);

/* How messages of that many bytes are written after those that were sent; "-" if in slots. */
const char *perf_option(const struct perf_link *link, uint64_t bytes);

int perf_send_note(struct perf_link *link, struct perf_note note, struct ivshm_diag *diag);
/* Of that kind, or of any if it is 0. */
int perf_receive_note(struct perf_link *link, uint32_t kind, struct perf_note *note,
                      struct ivshm_diag *diag);

/* Waits, as the functions above, until the other side has stored at least `value`. */
int perf_await_word(struct perf_link *link, const ivshm_a64 *word, uint64_t value,
                    struct ivshm_diag *diag);

/* Figures */

enum perf_test { PERF_HOP, PERF_LATENCY, PERF_BANDWIDTH, PERF_RATE, PERF_COPY, PERF_TESTS };
extern const char *const perf_test_names[PERF_TESTS];

/* Of samples in nanoseconds. */
struct perf_figures {
    double min, median, p90, p99, max, mean;
    size_t samples;
};

struct perf_result {
    enum perf_test test;
    uint64_t bytes;
    const char *path, *option;
    struct perf_figures figures; /* of copy: out of the region */
    struct perf_figures into;    /* of copy only */
};

void perf_describe_processor(char *text, size_t size);
void perf_print_sides(const struct perf_link *link);
void perf_print_result(const struct perf_result *result, bool is_first);
/* After the last one: both hops, and whether the distance stayed the same. */
void perf_print_hops(const struct perf_figures hops[2]);
void perf_print_json(const struct perf_link *link, const struct perf_figures hops[2],
                     const struct perf_result *results, size_t count, double clock_ns);

#endif
