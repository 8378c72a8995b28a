/* SPDX-License-Identifier: mpich2 */
/*
 * ivshmem check --between: whether two places, on the host or in VMs, share a region as a job needs
 * it: stores arrive, and atomics are atomic, which an emulator may get wrong. Measures while it is
 * there.
 *
 * Each side joins as an endpoint of the job "ivshmem-check" and uses only the base extents of the
 * two, where the cells of an MPI rank would be: other jobs on the region are not touched. Each word
 * has one writer, except for the two counters, for which both sides compete.
 */
#include "ivshmem_tool.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#define JOB "ivshmem-check"
#define ROUNDS UINT64_C(1000000) /* additions of each side */
#define MEETINGS 1000            /* fewer prove little: the sides took turns */
#define MEETING_TIME 4           /* seconds in which that many must occur */
#define TRIPS 100                /* round trips a sample */
#define SAMPLES 200              /* at most */
#define HOP_TIME 0.3             /* seconds */
#define COPIES 64                /* samples */
#define BUFFER (256 << 10)       /* bytes, at most */
#define BALL_END UINT64_MAX      /* side 1 goes on */
#define HOP_SLOW 20000           /* ns: slower than emulators, so it is the scheduler */

struct line_shm {
    ivshm_a64 word;
    ivshm_a64 reserved[7];
};

/* At the beginning of each side's small cells. All zero after join. */
struct mailbox_shm {
    struct line_shm partner; /* which endpoint its owner wants to check with */
    struct line_shm step;    /* how far its owner is; 1: has agreed on the partner */
    struct line_shm ball;    /* of the ping-pong */
    struct line_shm report;  /* a number to exchange */
    struct line_shm sum;     /* in side 0's, both sides add to it: by fetch-and-add */
    struct line_shm swaps;   /* likewise, by compare-and-swap */
};

struct check {
    struct ivshm_region *region;
    struct ivshm_endpoint self;
    struct ivshm_owner peer;
    struct mailbox_shm *mine, *theirs;
    ivshm_a64 *my_buffer, *their_buffer;
    uint64_t *private_buffer;
    size_t buffer_bytes;
    int side;
    unsigned timeout;
    uint64_t step;
    double deadline, next_watch;
};

static double now_seconds(void)
{
    return (double) tool_now_ns() / 1e9;
}

static uint64_t word_of(struct ivshm_owner owner)
{
    return (uint64_t) (owner.endpoint + 1) | (uint64_t) owner.generation << 32;
}

static struct mailbox_shm *mailbox_of(const struct ivshm_region *region, void *base)
{
    return (struct mailbox_shm *) ((char *) base + ivshm_region_geometry(region)->small);
}

/* Whether `peer` still runs, as far as this side can tell. */
static bool is_there(struct check *c, struct ivshm_owner peer)
{
    if (now_seconds() >= c->next_watch) {
        ivshm_endpoint_watch(c->region, ivshm_endpoint_process(&c->self));
        c->next_watch = now_seconds() + 0.1;
    }
    return ivshm_endpoint_is_live(c->region, peer);
}

/* Waits until *word is at least `value`. */
static int await_value(struct check *c, const struct line_shm *line, uint64_t value,
                       const char *what, struct ivshm_diag *diag)
{
    for (unsigned spins = 1; ivshm_a64_load_acquire(&line->word) < value; spins++) {
        ivshm_cpu_pause();
        if (spins % 4096)
            continue;
        sched_yield();
        if (tool_was_interrupted())
            return ivshm_diag_fail(diag, EINTR, "interrupted");
        /* It stores for the last time before it leaves. */
        if (!is_there(c, c->peer) && ivshm_a64_load_acquire(&line->word) < value)
            return ivshm_diag_fail(diag, ESHUTDOWN,
                                   "the other side left during \"%s\": its own output says why",
                                   what);
        if (now_seconds() >= c->deadline)
            return ivshm_diag_fail(diag, ETIMEDOUT,
                                   "the other side did not answer within %u s during \"%s\": it is "
                                   "stopped or very slow, or its stores are not visible here",
                                   c->timeout, what);
    }
    return 0;
}

/* A barrier: both sides have come this far, and each sees what the other has written before. */
static int meet_peer(struct check *c, const char *what, struct ivshm_diag *diag)
{
    c->deadline = now_seconds() + c->timeout;
    ivshm_a64_store_release(&c->mine->step.word, ++c->step);
    return await_value(c, &c->theirs->step, c->step, what, diag);
}

/* Whether entry `index` is of a process that runs this check as side `side`. */
static bool is_checker(const struct check *c, uint32_t index, int side, struct ivshm_owner *owner)
{
    return index != ivshm_endpoint_owner(&c->self).endpoint &&
           tool_is_side(c->region, index, JOB, (uint32_t) side, owner);
}

/*
 * Proposes to `peer` for a while; true if the peer has proposed to us, too, and both have agreed. A
 * side that has agreed continues only if the other has, and looks elsewhere if the other has agreed
 * with somebody else. So pairs never overlap, however many sides are looking for one.
 */
static bool propose_to(struct check *c, struct ivshm_owner peer)
{
    double give_up = now_seconds() + 0.3;
    bool agreed = false;
    void *base;
    if (ivshm_endpoint_attach(&c->self, peer, &base, NULL) != 0)
        return false;
    c->theirs = mailbox_of(c->region, base);
    ivshm_a64_store_release(&c->mine->partner.word, word_of(peer));
    while (!tool_was_interrupted() && now_seconds() < c->deadline && is_there(c, peer)) {
        bool is_proposed = ivshm_a64_load_acquire(&c->theirs->partner.word) ==
                           word_of(ivshm_endpoint_owner(&c->self));
        /* After the partner: before, it could be a step that it made with an earlier one. */
        uint64_t step = ivshm_a64_load_acquire(&c->theirs->step.word);
        if (is_proposed) {
            ivshm_a64_store_release(&c->mine->step.word, 1);
            agreed = true;
            if (step >= 1) {
                c->peer = peer;
                c->step = 1;
                c->their_buffer =
                    (ivshm_a64 *) ((char *) base + ivshm_region_geometry(c->region)->large);
                return true;
            }
        } else if (step >= 1 || (!agreed && now_seconds() >= give_up))
            break;
        tool_short_nap();
    }
    ivshm_a64_store_release(&c->mine->step.word, 0);
    ivshm_a64_store_release(&c->mine->partner.word, 0);
    ivshm_endpoint_detach(&c->self, peer.endpoint);
    return false;
}

static int find_peer(struct check *c, struct ivshm_diag *diag)
{
    struct ivshm_owner owner;
    c->deadline = now_seconds() + c->timeout;
    while (!tool_was_interrupted() && now_seconds() < c->deadline) {
        for (uint32_t i = 0; i < ivshm_region_endpoints(c->region); i++)
            if (is_checker(c, i, 1 - c->side, &owner) && propose_to(c, owner))
                return 0;
        for (int i = 0; i < 10 && !tool_was_interrupted(); i++)
            tool_short_nap();
    }
    if (tool_was_interrupted())
        return ivshm_diag_fail(diag, EINTR, "interrupted");
    int others = 0;
    for (uint32_t i = 0; i < ivshm_region_endpoints(c->region); i++)
        others += is_checker(c, i, c->side, &owner);
    if (others)
        return ivshm_diag_fail(diag, ETIMEDOUT,
                               "found %d other `ivshmem check --between %d` on region %s, but no "
                               "`--between %d`: give the two sides different numbers",
                               others, c->side, ivshm_region_name(c->region), 1 - c->side);
    return ivshm_diag_fail(
        diag, ETIMEDOUT,
        "the other side did not join within %u s: run `ivshmem check --between %d` there; "
        "if it is waiting too, the two sides use different regions: the id here is %s, "
        "compare it with `ivshmem info` there",
        c->timeout, 1 - c->side, tool_id(c->region));
}

static uint64_t pattern_of(int side, size_t i)
{
    return (i + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t) side;
}

static int check_stores(struct check *c, struct ivshm_diag *diag)
{
    size_t words = c->buffer_bytes / 8, wrong = 0;
    for (size_t i = 0; i < words; i++)
        ivshm_a64_store_relaxed(&c->my_buffer[i], pattern_of(c->side, i));
    int err = meet_peer(c, "stores", diag);
    if (err)
        return err;
    for (size_t i = 0; i < words; i++)
        wrong += ivshm_a64_load_relaxed(&c->their_buffer[i]) != pattern_of(1 - c->side, i);
    if (wrong)
        return ivshm_diag_fail(
            diag, EIO,
            "%zu of %zu words that the other side stored have a wrong value here: the memory is "
            "not coherent between the two sides; do not run jobs on it",
            wrong, words);
    printf("stores     ok: %s arrived\n", tool_size(c->buffer_bytes));
    return 0;
}

/* Adds ROUNDS to *counter; returns how often the other side's additions were seen in between. */
static uint64_t add_to(ivshm_a64 *counter, bool by_cas)
{
    uint64_t met = 0, expected = 0;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        uint64_t found;
        if (by_cas)
            do
                found = ivshm_a64_load_relaxed(counter); /* the CAS checks it */
            while (!ivshm_a64_cas_seqcst(counter, found, found + 1));
        else
            found = ivshm_a64_add_seqcst(counter, 1);
        met += i > 0 && found != expected;
        expected = found + 1;
    }
    return met;
}

static int check_atomic(struct check *c, bool by_cas, struct ivshm_diag *diag)
{
    const char *name = by_cas ? "compare-and-swap" : "fetch-and-add";
    struct mailbox_shm *at = c->side == 0 ? c->mine : c->theirs;
    ivshm_a64 *counter = by_cas ? &at->swaps.word : &at->sum.word;
    uint64_t met = 0, due = 0, mine, theirs;
    double end = now_seconds() + MEETING_TIME;
    do {
        int err = meet_peer(c, name, diag);
        if (err)
            return err;
        mine = add_to(counter, by_cas) << 1 | (now_seconds() >= end);
        ivshm_a64_store_relaxed(&c->mine->report.word, mine);
        err = meet_peer(c, name, diag);
        if (err)
            return err;
        theirs = ivshm_a64_load_relaxed(&c->theirs->report.word);
        uint64_t sum = ivshm_a64_load_relaxed(counter);
        due += 2 * ROUNDS;
        if (sum != due)
            return ivshm_diag_fail(
                diag, EIO,
                "%s is not atomic between the two sides: of %llu additions, %lld were lost. An "
                "emulator that assumes a single CPU does this: start each VM with `-smp "
                "1,maxcpus=2 -accel tcg,thread=multi`, or use KVM",
                name, (unsigned long long) due, (long long) (due - sum));
        /* Both have the same two numbers, and so agree on whether to go on. */
        met += (mine >> 1) + (theirs >> 1);
    } while (met < MEETINGS && !((mine | theirs) & 1));
    printf("atomics    ok: %s, %llu additions, none lost\n", name, (unsigned long long) due);
    if (met < MEETINGS)
        tool_warn("the two sides ran in turns rather than at the same time (their additions "
                  "interleaved %llu times), which proves little about atomics: give each side its "
                  "own CPU and check again",
                  (unsigned long long) met);
    return 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

/* Hardly affected by a host that is busy now and then. */
static double median_of(double *samples, int n)
{
    qsort(samples, (size_t) n, sizeof(*samples), by_value);
    return samples[n / 2];
}

/* Side 1 returns the ball until it is told to stop, or until side 0 must have stopped. */
static int return_ball(struct check *c, struct ivshm_diag *diag)
{
    for (uint64_t ball = 1; ball <= SAMPLES * TRIPS + 1; ball++) {
        int err = await_value(c, &c->theirs->ball, ball, "hop", diag);
        if (err || ivshm_a64_load_relaxed(&c->theirs->ball.word) == BALL_END)
            return err;
        ivshm_a64_store_release(&c->mine->ball.word, ball);
    }
    return ivshm_diag_fail(diag, EBADMSG,
                           "the other side did not end the hop test when it should have");
}

/* Side 0 reports the time. */
static int play_ball(struct check *c, struct ivshm_diag *diag)
{
    double samples[SAMPLES], end = now_seconds() + HOP_TIME;
    uint64_t ball = 0;
    int n = 0, err = 0;
    while (!err && n < SAMPLES && (n == 0 || now_seconds() < end)) {
        double start = now_seconds();
        for (int i = 0; i < TRIPS && !err; i++) {
            ivshm_a64_store_release(&c->mine->ball.word, ++ball);
            err = await_value(c, &c->theirs->ball, ball, "hop", diag);
        }
        samples[n++] = now_seconds() - start;
    }
    double hop = median_of(samples, n) / (2 * TRIPS);
    ivshm_a64_store_relaxed(&c->mine->report.word, (uint64_t) (hop * 1e9));
    ivshm_a64_store_release(&c->mine->ball.word, BALL_END);
    return err;
}

static int measure_hop(struct check *c, struct ivshm_diag *diag)
{
    const struct line_shm *report = c->side == 0 ? &c->mine->report : &c->theirs->report;
    int err = meet_peer(c, "hop", diag);
    if (!err)
        err = c->side == 0 ? play_ball(c, diag) : return_ball(c, diag);
    if (err)
        return err;
    uint64_t ns = ivshm_a64_load_relaxed(&report->word);
    printf("hop        %llu ns: a cache line one way, half a round trip%s\n",
           (unsigned long long) ns,
           ns > HOP_SLOW ? " (slow because the two sides wait for a CPU)" : "");
    return 0;
}

/* As a message does: `writer` copies in, then the other copies out of the writer's memory. */
static int measure_copy(struct check *c, int writer, double *speed, struct ivshm_diag *diag)
{
    double samples[COPIES];
    for (int i = 0; i < COPIES; i++) {
        double start = now_seconds();
        if (c->side == writer) {
            memcpy(c->my_buffer, c->private_buffer, c->buffer_bytes);
            samples[i] = now_seconds() - start;
        }
        int err = meet_peer(c, "copy", diag);
        if (err)
            return err;
        start = now_seconds();
        if (c->side != writer) {
            memcpy(c->private_buffer, c->their_buffer, c->buffer_bytes);
            samples[i] = now_seconds() - start;
        }
        err = meet_peer(c, "copy", diag);
        if (err)
            return err;
    }
    *speed = (double) c->buffer_bytes / median_of(samples, COPIES) / 1e6;
    return 0;
}

static int check_all(struct check *c, struct ivshm_diag *diag)
{
    double in, out;
    int err = check_stores(c, diag);
    if (!err)
        err = check_atomic(c, false, diag);
    if (!err)
        err = check_atomic(c, true, diag);
    if (!err)
        err = measure_hop(c, diag);
    if (!err)
        err = measure_copy(c, 0, c->side == 0 ? &in : &out, diag);
    if (!err)
        err = measure_copy(c, 1, c->side == 1 ? &in : &out, diag);
    if (!err)
        printf("copy       %.0f MB/s into the region, %.0f MB/s out of it, %s at a time\n", in, out,
               tool_size(c->buffer_bytes));
    return err;
}

int tool_between(const struct tool_options *opt)
{
    struct ivshm_diag diag = {""};
    struct ivshm_region region;
    struct check c = {.region = &region, .side = opt->side, .timeout = opt->timeout};
    int status = TOOL_FAILED;

    if (ivshm_region_open(opt->region, &region, &diag) != 0)
        return tool_error("%s", diag.text);
    const struct ivshm_geometry *geo = ivshm_region_geometry(&region);
    c.buffer_bytes = (size_t) geo->large_cells * geo->large_size;
    if (c.buffer_bytes > BUFFER)
        c.buffer_bytes = BUFFER;
    c.private_buffer = calloc(1, c.buffer_bytes);
    if (!c.private_buffer) {
        tool_error("out of memory");
        goto close_region;
    }
    tool_catch_signals();
    if (ivshm_endpoint_join(&region, JOB, (uint32_t) opt->side, 2, &c.self, &diag) != 0) {
        tool_error("%s", diag.text);
        goto free_buffer;
    }
    c.mine = mailbox_of(&region, ivshm_endpoint_base(&c.self));
    c.my_buffer = (ivshm_a64 *) ((char *) ivshm_endpoint_base(&c.self) + geo->large);
    if (ivshm_endpoint_publish(&c.self, &diag) != 0) {
        tool_error("%s", diag.text);
        goto free_buffer;
    }

    printf("region     %s, %s, id %s\n", ivshm_region_name(&region), tool_size(geo->size),
           tool_id(&region));
    fflush(stdout);
    int err = find_peer(&c, &diag);
    if (!err) {
        printf("other side endpoint %u; this one is %u\n", c.peer.endpoint,
               ivshm_endpoint_owner(&c.self).endpoint);
        err = check_all(&c, &diag);
    }
    ivshm_endpoint_leave(&c.self);
    if (err)
        tool_error("%s", diag.text);
    else {
        printf("the two sides can run jobs on this region\n");
        status = TOOL_OK;
    }
free_buffer:
    free(c.private_buffer);
close_region:
    ivshm_region_close(&region);
    return status;
}
