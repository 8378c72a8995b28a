/* SPDX-License-Identifier: mpich2 */
/*
 * What the files of the command `ivshmem` share. Single-threaded; results go to stdout, all that a
 * person has to act on goes to stderr.
 */
#ifndef IVSHMEM_TOOL_H
#define IVSHMEM_TOOL_H

#include "device.h"
#include "endpoint.h"
#include "named.h"
#include "speed.h"

#include <sys/types.h>
#include <time.h>

/* What a fault in the region's memory, or of a system call there, means. */
#define TOOL_MEMORY_IS_GONE                                                                        \
    "part of the region's memory is gone: its file was truncated while this command used it, its " \
    "device was unplugged, or its file system is full; run `ivshmem format` to find out which"

enum { TOOL_OK = 0, TOOL_FAILED = 1, TOOL_USAGE = 2 };

struct tool_options {
    const char *region; /* PCI address or path; NULL is the first device */
    uint64_t size;      /* bytes, 0 if not given */
    bool force, json, all, deep;
    const char *vm_gone, *container_gone, *endpoint; /* of reap; NULL if not given */
    int side;                                        /* of check --between; -1 if not given */
    unsigned timeout;                                /* seconds */
    /* Of perf, which reads them itself; NULL if not given. */
    const char *name, *tests, *sizes, *time, *iterations, *cpus;
    bool serve, both;
    const char *tee;  /* of send; the pipe's name is `name`, or the server's: */
    const char *path; /* there; NULL if it is the name of a pipe */
    char **files;     /* of put, and the folder of get and serve; NULL behind the last */
    bool checksum;
    bool write; /* of serve, and two numbers: */
    const char *clients;
    uint64_t max_size; /* bytes, 0 if not given */
    /* Of net, likewise. */
    const char *verb, *address, *network, *mtu;
    bool background;
    bool once; /* of top, and: */
    const char *interval;
};

int tool_format(const struct tool_options *opt);
int tool_info(const struct tool_options *opt);
int tool_ps(const struct tool_options *opt);
int tool_top(const struct tool_options *opt);
int tool_check(const struct tool_options *opt);
int tool_between(const struct tool_options *opt);
/* What is wrong with what live endpoints share, a line each; their number, or -errno. */
int tool_deep(const struct ivshm_region *region, struct ivshm_diag *diag);
int tool_reap(const struct tool_options *opt);
int tool_perf(const struct tool_options *opt);
int tool_send(const struct tool_options *opt);
int tool_recv(const struct tool_options *opt);
int tool_put(const struct tool_options *opt);
int tool_get(const struct tool_options *opt);
int tool_serve(const struct tool_options *opt);
int tool_net(const struct tool_options *opt);

/* Prints "ivshmem: " and the text; returns TOOL_FAILED. */
__attribute__((format(printf, 1, 2))) int tool_error(const char *fmt, ...);
__attribute__((format(printf, 1, 2))) void tool_warn(const char *fmt, ...);

/* Says on one line what is wrong with the command line; returns TOOL_USAGE. */
__attribute__((format(printf, 1, 2))) int tool_usage_error(const char *fmt, ...);

/* Digits and one of K, M, G, T, as QEMU takes them. False also for 0. */
bool tool_parse_size(const char *text, uint64_t *size);

/*
 * A descriptor of these that is closed would be that of the next file which is opened, and what is
 * said to a person be written into it. This opens them, so that writing fails as if they
 * were closed. False if that is not possible, and nobody can be told.
 */
bool tool_fill_standard_descriptors(void);

/*
 * For commands that join: SIGINT, SIGTERM and SIGHUP are noted from now on, and SIGPIPE is ignored,
 * so that they leave nothing behind that only this VM could prove dead.
 */
void tool_catch_signals(void);
bool tool_was_interrupted(void);

/* Opens the region's bell, by which whoever waits is woken, if there is one. */
void tool_open_bell(struct ivshm_region *region);

static inline uint64_t tool_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000000 + (uint64_t) t.tv_nsec;
}

/* While a command waits and nothing is urgent. */
static inline void tool_short_nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* "64 MiB", in one of a few static buffers; with four digits, or with all of them. */
const char *tool_size(uint64_t bytes);
const char *tool_exact_size(uint64_t bytes);

/* The region's id as 32 hex digits, in a static buffer. */
const char *tool_id(const struct ivshm_region *region);

/* A uuid as it is written, in a static buffer; empty if it is not known. */
const char *tool_uuid(const uint64_t uuid[2]);

/* The user's name, or number, in a static buffer. */
const char *tool_user(uid_t uid);

/* How many more ranks fit: each needs its base extent, and a pipeline for large messages. */
uint64_t tool_room(const struct ivshm_region *region);

/* All devices whose memory can be a region, in a static array; returns their number. */
int tool_devices(const struct ivshm_device **devices);

/* An entry of the endpoint table that is not free. */
struct tool_entry {
    uint32_t index;
    struct ivshm_endpoint_info info;
    bool known; /* info's identity is of the claim: a joiner may not have written it yet */
    enum ivshm_liveness liveness;
    enum ivshm_locality locality;
    bool vm_gone;     /* it is dead because its VM is */
    uint64_t held;    /* bytes */
    bool named, gone; /* of reap: by the administrator's word; false at first */
};

/* All entries in use, to be freed by the caller; returns their number, or -errno. */
int tool_entries(const struct ivshm_region *region, struct tool_entry **entries,
                 struct ivshm_diag *diag);

/* The members of a JSON object that ps and top have of each. */
void tool_entry_json(const struct tool_entry *entry);

/* The named blocks, as ps lists them behind the processes; nothing if there are none. */
void tool_blocks_text(const struct ivshm_region *region);
void tool_blocks_json(const struct ivshm_region *region);

/* All named blocks, to be freed by the caller; returns their number, or -errno. */
int tool_blocks(const struct ivshm_region *region, struct ivshm_named_info **blocks,
                struct ivshm_diag *diag);

/* Says which of these are not there any more. */
void tool_blocks_report(const struct ivshm_region *region, const struct ivshm_named_info *blocks,
                        int count);

/* Whether entry `index` is live and has that rank in that job, whose name is what tools find each
 * other by; *owner is its process then. */
bool tool_is_side(const struct ivshm_region *region, uint32_t index, const char *job, uint32_t rank,
                  struct ivshm_owner *owner);

/* Whether a claim that owns blocks is over: nobody who may use them is left. */
bool tool_is_over(const struct ivshm_region *region, struct ivshm_owner owner);

/*
 * Measures how fast the region is to this process, by loads only, as others use it; and warns if it
 * is not cached.
 */
struct ivshm_speed tool_speed(const struct ivshm_region *region);

/* Why nothing can be proved of an entry from here, and who can; NULL if something can. */
const char *tool_why_unknown(const struct tool_entry *e);

/*
 * A copy in which whatever could confuse a terminal is a question mark, in one of two static
 * buffers; and a JSON string on stdout.
 */
const char *tool_printable(const char *text);

/* In a word, as `ivshmem ps` has it; a constant. */
const char *tool_liveness_name(enum ivshm_liveness liveness);
void tool_print_json(const char *text);

/* "endpoint 3 (job j, rank 0 of 4, vm0 pid 123)", printable in any case; static buffer. */
const char *tool_describe(const struct tool_entry *e);

#endif
