/* SPDX-License-Identifier: mpich2 */
/*
 * ivshmem perf: what the region, its mapping and two processors can do, without MPI. A server does
 * what a client says; the client measures.
 *
 * For each message size there are batches, which grow until the clock says something of them. What
 * comes before that warms up, and does not count. The two read and write each other's lines in an
 * extent of the client: one line each for the ping-pong, an area to copy from, one to copy to.
 */
#define _GNU_SOURCE /* sched_setaffinity */
#include "ivshmem_perf.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZES_MAX 64
#define BYTES_MAX (UINT64_C(1) << 30) /* of a message */
#define SAMPLES_MAX (1 << 20)
#define BATCH_NS 1000000 /* shorter batches are too short to measure */
#define WARM_UP 16       /* messages, where the number of iterations is given */
#define HOP_TIME 0.1     /* seconds */
#define HOP_TRIPS 100    /* round trips of a sample */
#define RATE_BYTES 8
#define COPY_MIN 4096 /* bytes: fewer may still be on their way when the clock is read */
#define NAME_MAX_BYTES 64

/* In the client's extent. As far apart as no prefetch of neighbours reaches. */
#define BALL_OF_CLIENT 0
#define BALL_OF_SERVER 1024
#define COPY_AREAS 4096

const char *const perf_test_names[PERF_TESTS] = {"hop", "latency", "bandwidth", "rate", "copy"};

struct side {
    struct perf_link link;
    char *extent;                      /* the client's */
    uint64_t extent_bytes, area_bytes; /* of all, and of each of the two areas in it */
    char *out, *in;                    /* private buffers, of buffer_bytes bytes */
    uint64_t buffer_bytes;
    uint64_t ball;
    struct ivshm_diag diag;
};

/* Of more than SAMPLES_MAX, the last ones. */
struct samples {
    double *ns;
    size_t count; /* all that were taken */
};

struct client {
    struct side side;
    bool tests[PERF_TESTS];
    uint64_t sizes[SIZES_MAX];
    size_t size_count;
    double seconds;
    uint64_t iterations; /* 0: as many as go into `seconds` */
    bool json, both;
    int cpus[2]; /* of this side, and of the other one of --both; -1: any */
    double clock_ns;
    struct samples samples, into; /* the second of copy only */
    struct perf_figures hops[2];
    struct perf_result results[3 * SIZES_MAX + 1];
    size_t result_count;
};

static ivshm_a64 *ball_at(const struct side *s, uint64_t off)
{
    return (ivshm_a64 *) (s->extent + off);
}

/* From the server to the client, and back. */
static char *area_at(const struct side *s, int which)
{
    return s->extent + COPY_AREAS + (which ? s->area_bytes : 0);
}

static void set_extent(struct side *s, void *extent, uint64_t bytes)
{
    s->extent = extent;
    s->extent_bytes = bytes;
    s->area_bytes = (bytes - COPY_AREAS) / 2 / IVSHM_PAGE * IVSHM_PAGE;
}

/* Both buffers, of at least that size. */
static int need_buffers(struct side *s, uint64_t bytes)
{
    if (bytes <= s->buffer_bytes)
        return 0;
    free(s->out);
    free(s->in);
    s->out = calloc(1, bytes);
    s->in = calloc(1, bytes);
    s->buffer_bytes = s->out && s->in ? bytes : 0;
    return s->buffer_bytes ? 0
                           : ivshm_diag_fail(&s->diag, ENOMEM, "out of memory for messages of %s",
                                             tool_size(bytes));
}

static int bind_to(int cpu)
{
    cpu_set_t set;
    if (cpu < 0)
        return TOOL_OK;
    CPU_ZERO(&set);
    CPU_SET((unsigned) cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set) == 0)
        return TOOL_OK;
    return tool_error("cannot run on CPU %d: %s; `taskset -p $$` shows which CPUs are allowed", cpu,
                      strerror(errno));
}

static void describe_place(struct perf_place *here, int cpu)
{
    perf_describe_processor(here->processor, sizeof(here->processor));
    here->cpu = cpu;
}

/* The server */

static int serve_hop(struct side *s, uint64_t trips)
{
    int err = 0;
    for (uint64_t i = 0; i < trips && !err; i++) {
        err = perf_await_word(&s->link, ball_at(s, BALL_OF_CLIENT), ++s->ball, &s->diag);
        ivshm_a64_store_release(ball_at(s, BALL_OF_SERVER), s->ball);
    }
    return err;
}

static int serve_latency(struct side *s, uint64_t bytes, uint64_t count)
{
    int err = 0;
    for (uint64_t i = 0; i < count && !err; i++) {
        err = perf_receive(&s->link, s->in, bytes, &s->diag);
        if (!err)
            err = perf_send(&s->link, s->in, bytes, &s->diag);
    }
    return err;
}

static int send_ready(struct side *s)
{
    return perf_send_note(&s->link, (struct perf_note){.kind = PERF_READY}, &s->diag);
}

static int await_ready(struct side *s)
{
    struct perf_note note;
    return perf_receive_note(&s->link, PERF_READY, &note, &s->diag);
}

static int serve_stream(struct side *s, uint64_t bytes, uint64_t count)
{
    int err = 0;
    for (uint64_t i = 0; i < count && !err; i++)
        err = perf_receive(&s->link, s->in, bytes, &s->diag);
    return err ? err : send_ready(s);
}

/* Before the client reads one area and writes the other, this side does the contrary. */
static int serve_copies(struct side *s, uint64_t bytes, uint64_t count)
{
    int err = 0;
    for (uint64_t i = 0; i < count && !err; i++) {
        memcpy(s->in, area_at(s, 1), bytes);
        memcpy(area_at(s, 0), s->out, bytes);
        err = send_ready(s);
        if (!err)
            err = await_ready(s);
    }
    return err;
}

static int serve_run(struct side *s, const struct perf_note *run)
{
    if (run->kind != PERF_RUN || run->arg >= PERF_TESTS || run->bytes > BYTES_MAX ||
        (run->arg == PERF_COPY && run->bytes > s->area_bytes))
        return ivshm_diag_fail(&s->diag, EBADMSG,
                               "the other side asked for something unknown (%u, test %u of %llu "
                               "bytes): run the same release of ivshmem on both sides",
                               run->kind, run->arg, (unsigned long long) run->bytes);
    s->link.activity = perf_test_names[run->arg];
    int err = need_buffers(s, run->bytes);
    if (!err)
        err = send_ready(s);
    if (err)
        return err;
    switch (run->arg) {
    case PERF_HOP:
        return serve_hop(s, run->count);
    case PERF_LATENCY:
        return serve_latency(s, run->bytes, run->count);
    case PERF_COPY:
        return serve_copies(s, run->bytes, run->count);
    default:
        return serve_stream(s, run->bytes, run->count);
    }
}

static int serve(struct side *s, bool is_quiet)
{
    struct perf_note note;
    void *extent;
    uint64_t bytes;
    int err = perf_link_accept(&s->link, &extent, &bytes, &s->diag);
    if (err)
        return err;
    if (bytes < COPY_AREAS)
        return ivshm_diag_fail(&s->diag, EBADMSG, "the other side has only %llu bytes for the test",
                               (unsigned long long) bytes);
    set_extent(s, extent, bytes);
    if (!is_quiet) {
        perf_print_sides(&s->link);
        fflush(stdout);
    }
    for (;;) {
        s->link.activity = "wait";
        err = perf_receive_note(&s->link, 0, &note, &s->diag);
        if (err || note.kind == PERF_END)
            return err;
        err = serve_run(s, &note);
        if (err)
            return err;
    }
}

static int run_server(const struct tool_options *opt, const char *job, int cpu, bool is_quiet)
{
    struct side s = {.link.timeout = opt->timeout};
    struct ivshm_region region;
    if (bind_to(cpu) != TOOL_OK)
        return TOOL_FAILED;
    if (ivshm_region_open(opt->region, &region, &s.diag) != 0)
        return tool_error("%s", s.diag.text);
    s.link.region = &region;
    snprintf(s.link.job, sizeof(s.link.job), "%s", job);
    describe_place(&s.link.here, cpu);
    int err = perf_link_open(&s.link, true, &s.diag);
    if (!err) {
        if (!is_quiet) {
            printf("waiting as endpoint %u of region %s: run `ivshmem perf` on the other side\n",
                   ivshm_transport_self(&s.link.transport).endpoint, ivshm_region_name(&region));
            fflush(stdout);
        }
        err = serve(&s, is_quiet);
        perf_link_close(&s.link);
    }
    free(s.out);
    free(s.in);
    ivshm_region_close(&region);
    if (err && !(is_quiet && err == -EINTR))
        tool_error("%s", s.diag.text);
    return err ? TOOL_FAILED : TOOL_OK;
}

/* The client. Each of its batches adds samples, in nanoseconds. */

static void add_sample(struct samples *samples, double ns)
{
    samples->ns[samples->count++ % SAMPLES_MAX] = ns > 0 ? ns : 0;
}

static int hop_batch(struct client *c, uint64_t bytes, uint64_t count)
{
    struct side *s = &c->side;
    int err = 0;
    (void) bytes;
    for (uint64_t i = 0; i < count && !err; i++) {
        uint64_t start = tool_now_ns();
        for (int n = 0; n < HOP_TRIPS && !err; n++) {
            ivshm_a64_store_release(ball_at(s, BALL_OF_CLIENT), ++s->ball);
            err = perf_await_word(&s->link, ball_at(s, BALL_OF_SERVER), s->ball, &s->diag);
        }
        add_sample(&c->samples, (double) (tool_now_ns() - start) / (2 * HOP_TRIPS));
    }
    return err;
}

/* Half round trips. Each has one reading of the clock, which is taken off. */
static int latency_batch(struct client *c, uint64_t bytes, uint64_t count)
{
    struct side *s = &c->side;
    uint64_t last = tool_now_ns();
    for (uint64_t i = 0; i < count; i++) {
        int err = perf_send(&s->link, s->out, bytes, &s->diag);
        if (!err)
            err = perf_receive(&s->link, s->in, bytes, &s->diag);
        if (err)
            return err;
        uint64_t now = tool_now_ns();
        add_sample(&c->samples, ((double) (now - last) - c->clock_ns) / 2);
        last = now;
    }
    return 0;
}

/* The time of a message, from the first to the answer to the last. */
static int stream_batch(struct client *c, uint64_t bytes, uint64_t count)
{
    struct side *s = &c->side;
    uint64_t start = tool_now_ns();
    int err = 0;
    for (uint64_t i = 0; i < count && !err; i++)
        err = perf_send(&s->link, s->out, bytes, &s->diag);
    if (!err)
        err = await_ready(s);
    add_sample(&c->samples, (double) (tool_now_ns() - start) / (double) count);
    return err;
}

static int copy_batch(struct client *c, uint64_t bytes, uint64_t count)
{
    struct side *s = &c->side;
    for (uint64_t i = 0; i < count; i++) {
        int err = await_ready(s);
        if (err)
            return err;
        uint64_t start = tool_now_ns();
        memcpy(s->in, area_at(s, 0), bytes);
        uint64_t middle = tool_now_ns();
        memcpy(area_at(s, 1), s->out, bytes);
        uint64_t end = tool_now_ns();
        add_sample(&c->samples, (double) (middle - start) - c->clock_ns);
        add_sample(&c->into, (double) (end - middle) - c->clock_ns);
        err = send_ready(s);
        if (err)
            return err;
    }
    return 0;
}

typedef int batch_fn(struct client *c, uint64_t bytes, uint64_t count);
static batch_fn *const batches[PERF_TESTS] = {hop_batch, latency_batch, stream_batch, stream_batch,
                                              copy_batch};

/* Both sides do the same number of iterations. */
static int run_batch(struct client *c, enum perf_test test, uint64_t bytes, uint64_t count)
{
    struct side *s = &c->side;
    struct perf_note run = {.kind = PERF_RUN,
                            .arg = test,
                            .bytes = bytes,
                            .count = test == PERF_HOP ? count * HOP_TRIPS : count};
    int err = perf_send_note(&s->link, run, &s->diag);
    if (!err)
        err = await_ready(s);
    return err ? err : batches[test](c, bytes, count);
}

static void forget_samples(struct client *c)
{
    c->samples.count = c->into.count = 0;
}

static int run_counted(struct client *c, enum perf_test test, uint64_t bytes)
{
    uint64_t warm_up = c->iterations < WARM_UP ? c->iterations : WARM_UP;
    int err = run_batch(c, test, bytes, warm_up);
    forget_samples(c);
    return err ? err : run_batch(c, test, bytes, c->iterations);
}

static int run_timed(struct client *c, enum perf_test test, uint64_t bytes, double seconds)
{
    uint64_t count = 1, begin = tool_now_ns();
    bool is_warm = false;
    for (;;) {
        uint64_t start = tool_now_ns();
        int err = run_batch(c, test, bytes, count);
        uint64_t end = tool_now_ns();
        if (err || (is_warm && (double) (end - begin) >= seconds * 1e9))
            return err;
        if (is_warm)
            continue;
        forget_samples(c);
        is_warm = end - start >= BATCH_NS;
        if (!is_warm)
            count *= 2;
        begin = end;
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

/* The least sample that at least so many percent do not exceed. */
static double percentile(const double *sorted, size_t n, unsigned percent)
{
    return sorted[(n * percent + 99) / 100 - 1];
}

static struct perf_figures figures_of(struct samples *samples)
{
    const size_t n = samples->count < SAMPLES_MAX ? samples->count : SAMPLES_MAX;
    const double *ns = samples->ns;
    struct perf_figures f = {.samples = n};
    if (n == 0)
        return f;
    qsort(samples->ns, n, sizeof(*ns), by_value);
    for (size_t i = 0; i < n; i++)
        f.mean += ns[i] / (double) n;
    f.min = ns[0];
    f.median = percentile(ns, n, 50);
    f.p90 = percentile(ns, n, 90);
    f.p99 = percentile(ns, n, 99);
    f.max = ns[n - 1];
    return f;
}

static int measure(struct client *c, enum perf_test test, uint64_t bytes, struct perf_result *r)
{
    c->side.link.activity = perf_test_names[test];
    c->side.link.path = "none";
    forget_samples(c);
    int err = test == PERF_HOP || !c->iterations
                  ? run_timed(c, test, bytes, test == PERF_HOP ? HOP_TIME : c->seconds)
                  : run_counted(c, test, bytes);
    if (!err)
        *r = (struct perf_result){
            .test = test,
            .bytes = bytes,
            .path = c->side.link.path,
            .option = perf_option(&c->side.link, bytes),
            .figures = figures_of(&c->samples),
            .into = figures_of(&c->into),
        };
    return err;
}

static int measure_hop(struct client *c, int which)
{
    struct perf_result r;
    int err = measure(c, PERF_HOP, 0, &r);
    if (!err)
        c->hops[which] = r.figures;
    if (!err && which == 0 && !c->json)
        perf_print_result(&r, true);
    fflush(stdout);
    return err;
}

/* What came back last must be what was sent. */
static int check_echo(struct client *c, uint64_t bytes)
{
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < bytes; i++)
        wrong += c->side.in[i] != c->side.out[i];
    return wrong == 0 ? 0
                      : ivshm_diag_fail(&c->side.diag, EIO,
                                        "%llu of %llu bytes came back wrong: the memory is not "
                                        "coherent between the two sides; `ivshmem check --between` "
                                        "may find out more",
                                        (unsigned long long) wrong, (unsigned long long) bytes);
}

static int measure_size(struct client *c, enum perf_test test, uint64_t bytes)
{
    struct side *s = &c->side;
    struct perf_result *r = &c->results[c->result_count];
    for (uint64_t i = 0; i < bytes; i++) {
        s->out[i] = (char) (i * 7 + i / 251 + bytes);
        s->in[i] = (char) ~s->out[i];
    }
    int err = measure(c, test, bytes, r);
    if (!err && test == PERF_LATENCY)
        err = check_echo(c, bytes);
    if (err)
        return err;
    c->result_count++;
    if (!c->json)
        perf_print_result(r, r == c->results || r[-1].test != test);
    fflush(stdout);
    return 0;
}

static int measure_all(struct client *c)
{
    int err = measure_hop(c, 0);
    for (enum perf_test test = PERF_LATENCY; test < PERF_TESTS && !err; test++) {
        if (!c->tests[test])
            continue;
        if (test == PERF_RATE) {
            err = measure_size(c, test, RATE_BYTES);
            continue;
        }
        for (size_t i = 0; i < c->size_count && !err; i++)
            if (test != PERF_COPY || (c->sizes[i] >= COPY_MIN && c->sizes[i] <= c->side.area_bytes))
                err = measure_size(c, test, c->sizes[i]);
    }
    if (!err)
        err = measure_hop(c, 1);
    if (!err)
        err = perf_send_note(&c->side.link, (struct perf_note){.kind = PERF_END}, &c->side.diag);
    return err;
}

/* The fastest of some readings. */
static double clock_time(void)
{
    double best = 1e9;
    for (int i = 0; i < 100; i++) {
        uint64_t start = tool_now_ns(), end = start;
        for (int n = 0; n < 100; n++)
            end = tool_now_ns();
        if ((double) (end - start) / 100 < best)
            best = (double) (end - start) / 100;
    }
    return best;
}

static uint64_t largest_size(const struct client *c)
{
    uint64_t largest = 0;
    for (size_t i = 0; i < c->size_count; i++)
        largest = c->sizes[i] > largest ? c->sizes[i] : largest;
    return largest;
}

/* The client's extent, as large as there is memory for, without what later processes need. */
static int alloc_extent(struct client *c, ivshm_off *off)
{
    struct side *s = &c->side;
    struct ivshm_owner self = ivshm_transport_self(&s->link.transport);
    const uint64_t largest = c->tests[PERF_COPY] ? largest_size(c) : 0;
    uint64_t area, bytes;
    for (area = largest;; area /= 2) {
        if (area < COPY_MIN)
            area = 0;
        bytes = COPY_AREAS + 2 * (area + IVSHM_PAGE);
        if ((area == 0 || ivshm_extent_can_spare(s->link.region, bytes)) &&
            ivshm_extent_alloc(s->link.region, self, IVSHM_KIND_USER, bytes, off) == 0)
            break;
        if (area == 0)
            return ivshm_endpoint_describe_no_memory(s->link.region, 2, &s->diag);
    }
    if (area < largest && largest >= COPY_MIN)
        tool_warn("copies of more than %s are left out: region %s has no memory to spare for them",
                  tool_size(area), ivshm_region_name(s->link.region));
    set_extent(s, ivshm_region_address(s->link.region, *off), bytes);
    /* The server learns of the extent by a message (Q1). */
    ivshm_a64_store_relaxed(ball_at(s, BALL_OF_CLIENT), 0);
    ivshm_a64_store_relaxed(ball_at(s, BALL_OF_SERVER), 0);
    return 0;
}

static int run_joined(struct client *c, pid_t child)
{
    struct side *s = &c->side;
    const uint64_t largest = largest_size(c);
    ivshm_off off = {0};
    c->samples.ns = calloc(SAMPLES_MAX, sizeof(double));
    c->into.ns = calloc(SAMPLES_MAX, sizeof(double));
    if (!c->samples.ns || !c->into.ns)
        return ivshm_diag_fail(&s->diag, ENOMEM, "out of memory for the samples");
    int err = need_buffers(s, largest > RATE_BYTES ? largest : RATE_BYTES);
    if (!err)
        err = alloc_extent(c, &off);
    if (!err)
        err = perf_link_connect(&s->link, off, s->extent_bytes, child, &s->diag);
    if (err)
        return err;
    c->clock_ns = clock_time();
    if (!c->json)
        perf_print_sides(&s->link);
    fflush(stdout);
    err = measure_all(c);
    if (!err && c->json)
        perf_print_json(&s->link, c->hops, c->results, c->result_count, c->clock_ns);
    else if (!err)
        perf_print_hops(c->hops);
    return err;
}

static int run_client(struct client *c, struct ivshm_region *region, const char *job, pid_t child)
{
    struct side *s = &c->side;
    if (bind_to(c->cpus[0]) != TOOL_OK) /* not before the child, which would inherit it */
        return TOOL_FAILED;
    s->link.region = region;
    snprintf(s->link.job, sizeof(s->link.job), "%s", job);
    describe_place(&s->link.here, c->cpus[0]);
    int err = perf_link_open(&s->link, false, &s->diag);
    if (!err) {
        err = run_joined(c, child);
        if (err && child) /* before it sees that this side has left, which would be no news */
            kill(child, SIGTERM);
        perf_link_close(&s->link);
    }
    free(c->samples.ns);
    free(c->into.ns);
    free(s->out);
    free(s->in);
    return err ? tool_error("%s", s->diag.text) : TOOL_OK;
}

/* The other side of --both, which ends with this process. Returns its pid. */
static pid_t start_child(const struct tool_options *opt, const char *job, int cpu)
{
    pid_t parent = getpid();
    fflush(stdout);
    pid_t child = fork();
    if (child != 0)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    _exit(getppid() == parent ? run_server(opt, job, cpu, true) : TOOL_FAILED);
}

static int end_child(pid_t child, int status)
{
    int ended;
    if (status != TOOL_OK)
        kill(child, SIGTERM);
    while (waitpid(child, &ended, 0) < 0 && errno == EINTR)
        ;
    return status;
}

/* The command line */

/* Cuts the next item off a list; NULL after the last one. */
static char *next_item(char **list)
{
    return *list ? strsep(list, ",") : NULL;
}

static bool parse_tests(struct client *c, const char *text)
{
    char copy[256], *list = copy, *item;
    if (strlen(text) >= sizeof(copy))
        return false;
    strcpy(copy, text);
    while ((item = next_item(&list))) {
        enum perf_test test = PERF_LATENCY;
        while (test < PERF_TESTS && strcmp(item, perf_test_names[test]) != 0)
            test++;
        if (test == PERF_TESTS)
            return false;
        c->tests[test] = true;
    }
    return true;
}

static bool parse_bytes(const char *text, uint64_t *bytes)
{
    *bytes = 0;
    return strcmp(text, "0") == 0 || (tool_parse_size(text, bytes) && *bytes <= BYTES_MAX);
}

static bool add_size(struct client *c, uint64_t bytes)
{
    if (c->size_count == SIZES_MAX)
        return false;
    c->sizes[c->size_count++] = bytes;
    return true;
}

/* Sizes, and ranges of them in which each is twice the one before. */
static bool parse_sizes(struct client *c, const char *text)
{
    char copy[1024], *list = copy, *item;
    if (strlen(text) >= sizeof(copy))
        return false;
    strcpy(copy, text);
    while ((item = next_item(&list))) {
        char *last = item;
        const char *first = strsep(&last, "-");
        uint64_t from, to;
        if (!parse_bytes(first, &from))
            return false;
        to = from;
        if (last && (!parse_bytes(last, &to) || to <= from))
            return false;
        for (; from < to; from = from ? 2 * from : 1)
            if (!add_size(c, from))
                return false;
        if (!add_size(c, to))
            return false;
    }
    return true;
}

/* A number from 1 to `max`; false also if anything follows. */
static bool parse_count(const char *text, uint64_t max, uint64_t *count)
{
    char *end;
    errno = 0;
    *count = strtoull(text, &end, 10);
    return !errno && end != text && !*end && text[0] >= '0' && text[0] <= '9' && *count >= 1 &&
           *count <= max;
}

static bool parse_cpus(struct client *c, const char *text)
{
    char copy[32], *list = copy, *item;
    int n = 0;
    if (strlen(text) >= sizeof(copy))
        return false;
    strcpy(copy, text);
    while ((item = next_item(&list))) {
        uint64_t cpu = 0;
        if (n == (c->both ? 2 : 1) ||
            (strcmp(item, "0") != 0 && !parse_count(item, CPU_SETSIZE - 1, &cpu)))
            return false;
        c->cpus[n++] = (int) cpu;
    }
    return true;
}

/* TOOL_OK, or says what is wrong. */
static int parse_options(struct client *c, const struct tool_options *opt)
{
    char *end;
    if (opt->serve && opt->both)
        return tool_usage_error("--serve and --both cannot be combined");
    if (opt->both && opt->name)
        return tool_usage_error("--both and --name cannot be combined: its two sides find only "
                                "each other");
    if (opt->serve && (opt->tests || opt->sizes || opt->time || opt->iterations || opt->json))
        return tool_usage_error("--tests, --sizes, --time, --iterations and --json are for the "
                                "side that measures, not for --serve");
    if (opt->time && opt->iterations)
        return tool_usage_error("--time and --iterations cannot be combined");
    if (opt->name && (!*opt->name || strlen(opt->name) > NAME_MAX_BYTES))
        return tool_usage_error("--name needs 1 to %d bytes", NAME_MAX_BYTES);
    if (!parse_tests(c, opt->tests ? opt->tests : "latency,bandwidth,rate,copy"))
        return tool_usage_error("--tests %s is not a list of latency, bandwidth, rate and copy",
                                opt->tests);
    if (!parse_sizes(c, opt->sizes ? opt->sizes : "0,8,64,256,1K,4K,16K,64K,256K,1M,4M"))
        return tool_usage_error("--sizes %s is not a list of at most %d sizes and ranges up to 1G, "
                                "such as 0,8,1K-64K",
                                opt->sizes, SIZES_MAX);
    if (opt->time) {
        c->seconds = strtod(opt->time, &end);
        if (end == opt->time || *end || !(c->seconds >= 0.001 && c->seconds <= 3600))
            return tool_usage_error("--time %s is not a number of seconds from 0.001 to 3600",
                                    opt->time);
    }
    if (opt->iterations && !parse_count(opt->iterations, SAMPLES_MAX, &c->iterations))
        return tool_usage_error("--iterations %s is not a number from 1 to %d", opt->iterations,
                                SAMPLES_MAX);
    if (opt->cpus && !parse_cpus(c, opt->cpus))
        return tool_usage_error(c->both ? "--cpu %s is neither the number of a CPU nor two of them"
                                        : "--cpu %s is not the number of a CPU",
                                opt->cpus);
    return TOOL_OK;
}

int tool_perf(const struct tool_options *opt)
{
    static struct client c;
    struct ivshm_diag diag = {""};
    struct ivshm_region region;
    char job[128];
    uint64_t nonce = 0;
    c = (struct client){.side.link.timeout = opt->timeout,
                        .seconds = 0.2,
                        .json = opt->json,
                        .both = opt->both,
                        .cpus = {-1, -1}};
    int status = parse_options(&c, opt);
    if (status != TOOL_OK)
        return status;
    tool_catch_signals();
    snprintf(job, sizeof(job), "ivshmem-perf%s%s", opt->name ? "-" : "",
             opt->name ? opt->name : "");
    if (opt->serve)
        return run_server(opt, job, c.cpus[0], false);
    if (ivshm_region_open(opt->region, &region, &diag) != 0)
        return tool_error("%s", diag.text);
    if (!opt->both) {
        status = run_client(&c, &region, job, 0);
        ivshm_region_close(&region);
        return status;
    }
    if (getrandom(&nonce, sizeof(nonce), 0) < 0)
        nonce = tool_now_ns();
    /* No name that is given can be the same. */
    snprintf(job, sizeof(job), "ivshmem-perf/%d.%016llx", (int) getpid(),
             (unsigned long long) nonce);
    pid_t child = start_child(opt, job, c.cpus[1]);
    status = child < 0 ? tool_error("cannot start the other side: %s", strerror(errno))
                       : end_child(child, run_client(&c, &region, job, child));
    ivshm_region_close(&region);
    return status;
}
