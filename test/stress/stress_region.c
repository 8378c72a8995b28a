/* SPDX-License-Identifier: mpich2 */
/*
 * Many processes use one region. Each sends numbered messages of mixed sizes to all others, through
 * small cells, large cells and pipelines. Every byte is a function of the sender and the message's
 * number, so that the receiver knows what to expect. Between rounds some processes leave and join
 * again, and some die and are replaced. Meanwhile bystanders of another job are killed at random,
 * and workers are stopped for a while. In the end, everything must have been freed.
 *
 *   stress_region [-t seconds] [-p processes] [-m MiB] [-s seed]
 *
 * The region is a memory file, and children die with their parent, so nothing is left behind.
 */
#define _GNU_SOURCE
#include "transport.h"
#include "pipeline.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROCESSES_MAX 32
#define BYSTANDERS 2
#define LARGE_MAX 400000
#define PATIENCE_SECONDS 120
#define EXIT_REPLACE 3 /* a worker died on purpose */

/* Streams */
enum { EAGER, REQUEST, LMT_POOL, THANKS };

struct message {
    uint32_t round, number, len, unused;
    uint64_t pipeline;
};

/* What the processes know of each other outside the region; in anonymous shared memory. */
static struct shared {
    ivshm_a64 ready[PROCESSES_MAX]; /* the round that a rank has reached */
    ivshm_a64 pid[PROCESSES_MAX];
    ivshm_a64 stop_at; /* the first round that is not run */
    ivshm_a64 messages, bytes, pipelines, rejoins, deaths;
} * shared;

static struct {
    unsigned seconds, processes;
    uint64_t size, seed;
    char region[64];
} options = {.seconds = 20, .processes = 8, .size = UINT64_C(16) << 20, .seed = 1};

#define FAIL(...)                                                                                  \
    do {                                                                                           \
        fprintf(stderr, "stress_region[%d]: ", (int) getpid());                                    \
        fprintf(stderr, __VA_ARGS__);                                                              \
        fputc('\n', stderr);                                                                       \
        exit(1);                                                                                   \
    } while (0)

static uint64_t mix(uint64_t a, uint64_t b)
{
    a = (a ^ b) * UINT64_C(0x9e3779b97f4a7c15);
    a ^= a >> 29;
    a *= UINT64_C(0xbf58476d1ce4e5b9);
    return a ^ a >> 32;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

/* The plan, a function of the seed, which all know: how many messages, how long, which bytes. */

static uint64_t plan(uint32_t round, uint32_t from, uint32_t to)
{
    return mix(mix(options.seed, round), (uint64_t) from << 32 | to);
}

static uint32_t count_of(uint32_t round, uint32_t from, uint32_t to)
{
    return 20 + (uint32_t) (plan(round, from, to) % 200);
}

static uint32_t len_of(uint64_t stream, uint32_t number)
{
    uint64_t h = mix(stream, number), kind = h % 64;
    h >>= 8;
    return (uint32_t) (kind < 40 ? h % 220 : kind < 63 ? h % 16000 : 16384 + h % LARGE_MAX);
}

static void fill(unsigned char *bytes, uint32_t len, uint64_t stream, uint32_t number,
                 uint32_t from)
{
    uint64_t key = mix(stream + 1, number);
    for (uint32_t i = 0; i < len; i++)
        bytes[i] = (unsigned char) ((key >> (from + i) % 8 * 8) + (from + i) / 8);
}

static bool is_filled(const unsigned char *bytes, uint32_t len, uint64_t stream, uint32_t number,
                      uint32_t from)
{
    uint64_t key = mix(stream + 1, number);
    for (uint32_t i = 0; i < len; i++)
        if (bytes[i] != (unsigned char) ((key >> (from + i) % 8 * 8) + (from + i) / 8))
            return false;
    return true;
}

/* A peer, in one round. */
struct peer {
    struct ivshm_channel *channel;
    uint64_t out_plan, in_plan;
    uint32_t out_count, in_count, sent, received;
    /* One large message at a time in each direction. */
    enum { IDLE, ASKED, SENDING, SENT } out_state;
    struct ivshm_pipeline out_pipeline, in_pipeline;
    uint32_t out_number, out_done, out_len;
    bool in_wanted, in_open, in_finished;
    uint32_t in_number, in_done, in_len;
};

struct worker {
    uint32_t rank, round;
    struct ivshm_region region;
    struct ivshm_transport t;
    struct peer peers[PROCESSES_MAX];
    uint64_t random;
};

static bool chance(struct worker *w, uint32_t one_in)
{
    w->random = mix(w->random, 1);
    return w->random % one_in == 0;
}

static bool send_message(struct worker *w, struct peer *p, uint32_t stream, const struct message *m,
                         uint32_t payload)
{
    struct ivshm_outgoing out;
    size_t want = sizeof(*m) + payload;
    if (ivshm_message_reserve(&w->t, p->channel, want, stream, &out) != 0)
        return false;
    if (out.capacity < want)
        FAIL("a cell for %zu bytes has %u", want, out.capacity);
    if (chance(w, 50)) { /* changed its mind */
        ivshm_message_discard(&w->t, &out);
        return false;
    }
    memcpy(out.payload, m, sizeof(*m));
    fill(out.payload + sizeof(*m), payload, p->out_plan, m->number, 0);
    ivshm_message_publish(&w->t, p->channel, &out, (uint32_t) want);
    return true;
}

static bool send_some(struct worker *w, struct peer *p)
{
    bool busy = false;
    if (p->sent < p->out_count) {
        struct message m = {
            .round = w->round, .number = p->sent, .len = len_of(p->out_plan, p->sent)};
        bool is_large = m.len >= 16384;
        if (is_large ? p->out_state == IDLE && send_message(w, p, REQUEST, &m, 0)
                     : send_message(w, p, EAGER, &m, m.len)) {
            if (is_large) {
                p->out_state = ASKED;
                p->out_number = m.number;
                p->out_len = m.len;
                p->out_done = 0;
            }
            p->sent++;
            busy = true;
        }
    }
    if (p->out_state == SENDING) {
        unsigned char *chunk = ivshm_pipeline_reserve_spsc(&p->out_pipeline);
        if (chunk) {
            uint32_t left = p->out_len - p->out_done;
            uint32_t len = left < p->out_pipeline.size ? left : p->out_pipeline.size;
            fill(chunk, len, p->out_plan, p->out_number, p->out_done);
            ivshm_pipeline_publish_spsc(&p->out_pipeline, len, 0);
            p->out_done += len;
            if (p->out_done == p->out_len)
                p->out_state = SENT;
            busy = true;
        }
    }
    return busy;
}

/* The receiver's side of a large message: provide a pipeline, empty its chunks. */
static bool receive_large(struct worker *w, struct peer *p)
{
    uint32_t len;
    if (p->in_wanted && !p->in_open) {
        if (ivshm_pipeline_alloc(&w->region, w->t.endpoint.owner, &p->in_pipeline) != 0)
            return false; /* no memory is free: later */
        p->in_open = true;
        p->in_done = 0;
    }
    if (p->in_wanted) {
        struct message m = {
            .round = w->round, .number = p->in_number, .pipeline = p->in_pipeline.off.bytes};
        p->in_wanted = !send_message(w, p, LMT_POOL, &m, 0);
        return !p->in_wanted;
    }
    if (p->in_finished) {
        struct message m = {.round = w->round, .number = p->in_number};
        p->in_finished = !send_message(w, p, THANKS, &m, 0);
        return !p->in_finished;
    }
    if (!p->in_open)
        return false;
    const unsigned char *chunk = ivshm_pipeline_peek_spsc(&p->in_pipeline, &len, NULL);
    if (!chunk)
        return false;
    if (len == 0 || len > p->in_len - p->in_done ||
        !is_filled(chunk, len, p->in_plan, p->in_number, p->in_done))
        FAIL("rank %u round %u: %u bytes at %u of large message %u are wrong", w->rank, w->round,
             len, p->in_done, p->in_number);
    ivshm_pipeline_consume_spsc(&p->in_pipeline);
    p->in_done += len;
    if (p->in_done == p->in_len) {
        ivshm_pipeline_free(&w->region, w->t.endpoint.owner, &p->in_pipeline);
        p->in_open = false;
        p->in_finished = true;
        ivshm_a64_add_seqcst(&shared->pipelines, 1);
        ivshm_a64_add_seqcst(&shared->bytes, p->in_len);
    }
    return true;
}

static struct peer *peer_of(struct worker *w, const struct ivshm_channel *channel)
{
    for (uint32_t i = 0; i < options.processes; i++)
        if (w->peers[i].channel == channel)
            return &w->peers[i];
    FAIL("rank %u round %u: a message from endpoint %u, which is nobody in this round", w->rank,
         w->round, channel->peer.endpoint);
}

static bool receive_some(struct worker *w)
{
    struct ivshm_incoming in;
    struct ivshm_diag diag = {""};
    struct message m;
    int err = ivshm_transport_receive(&w->t, &in, &diag);
    if (err < 0)
        FAIL("rank %u round %u: %s", w->rank, w->round, diag.text);
    if (err == 0)
        return false;
    struct peer *p = peer_of(w, in.channel);
    uint32_t from = (uint32_t) (p - w->peers);
    if (in.len < sizeof(m))
        FAIL("rank %u round %u: %u bytes from rank %u", w->rank, w->round, in.len, from);
    memcpy(&m, in.payload, sizeof(m));
    if (m.round != w->round)
        FAIL("rank %u round %u: a message of round %u from rank %u", w->rank, w->round, m.round,
             from);
    if (in.stream == LMT_POOL) {
        if (p->out_state != ASKED || m.number != p->out_number)
            FAIL("rank %u round %u: a pipeline that was not asked for", w->rank, w->round);
        if (ivshm_pipeline_attach(&w->region, p->channel->peer, (ivshm_off){m.pipeline}, 0,
                                  &p->out_pipeline, &diag))
            FAIL("rank %u round %u: %s", w->rank, w->round, diag.text);
        p->out_state = SENDING;
    } else if (in.stream == THANKS) {
        if (p->out_state != SENT || m.number != p->out_number)
            FAIL("rank %u round %u: thanks for nothing", w->rank, w->round);
        p->out_state = IDLE;
    } else {
        if (m.number != p->received || m.number >= p->in_count)
            FAIL("rank %u round %u: message %u of %u from rank %u, where %u was due", w->rank,
                 w->round, m.number, p->in_count, from, p->received);
        if (m.len != len_of(p->in_plan, m.number))
            FAIL("rank %u round %u: message %u has %u bytes", w->rank, w->round, m.number, m.len);
        p->received++;
        if (in.stream == REQUEST) {
            if (p->in_wanted || p->in_open || p->in_finished)
                FAIL("rank %u round %u: two large messages at once", w->rank, w->round);
            p->in_wanted = true;
            p->in_number = m.number;
            p->in_len = m.len;
        } else if (in.len != sizeof(m) + m.len ||
                   !is_filled(in.payload + sizeof(m), m.len, p->in_plan, m.number, 0)) {
            FAIL("rank %u round %u: message %u from rank %u is wrong", w->rank, w->round, m.number,
                 from);
        }
        ivshm_a64_add_seqcst(&shared->messages, 1);
        ivshm_a64_add_seqcst(&shared->bytes, in.len);
    }
    ivshm_message_release(&in);
    return true;
}

static bool is_all_free(struct ivshm_pool *pool)
{
    int cells[1024], n = 0;
    while ((cells[n] = ivshm_pool_alloc(pool)) >= 0)
        n++;
    for (int i = n; i-- > 0;)
        ivshm_pool_free(pool, (uint32_t) cells[i]);
    return (uint32_t) n == pool->count;
}

static bool is_done(struct worker *w)
{
    for (uint32_t i = 0; i < options.processes; i++) {
        const struct peer *p = &w->peers[i];
        if (p->sent < p->out_count || p->received < p->in_count || p->out_state != IDLE ||
            p->in_wanted || p->in_open || p->in_finished)
            return false;
    }
    return w->t.pending == 0 && is_all_free(&w->t.small) && is_all_free(&w->t.large);
}

/* In a full region a joiner tries again: those who hold the memory may be about to leave. */
static void join(struct worker *w)
{
    struct ivshm_diag diag = {""};
    double limit = now() + PATIENCE_SECONDS;
    while (ivshm_transport_open(&w->t, &w->region, "stress", w->rank, options.processes, &diag) !=
           0) {
        if (now() > limit)
            FAIL("rank %u cannot join: %s", w->rank, diag.text);
        usleep(1000);
    }
    ivshm_transport_choose(&w->t, -1, 1); /* messages go whole */
    ivshm_a64_store_release(&shared->pid[w->rank], (uint64_t) getpid());
}

/* The live endpoint of `rank`, as a new process finds it. */
static struct ivshm_owner find(struct worker *w, uint32_t rank)
{
    uint64_t pid = ivshm_a64_load_acquire(&shared->pid[rank]);
    for (uint32_t i = 0; i < w->region.geo.endpoints; i++) {
        struct ivshm_endpoint_info info;
        if (ivshm_endpoint_read(&w->region, i, &info) == 0 &&
            info.claim.state == IVSHM_CLAIM_LIVE && info.rank == rank && info.process.pid == pid &&
            strcmp(info.job, "stress") == 0)
            return (struct ivshm_owner){i, info.claim.generation};
    }
    FAIL("rank %u round %u: rank %u is not in the table", w->rank, w->round, rank);
}

static void wait_for_all(struct worker *w)
{
    ivshm_a64_store_release(&shared->ready[w->rank], w->round);
    for (uint32_t i = 0; i < options.processes; i++)
        for (double limit = now() + PATIENCE_SECONDS;
             ivshm_a64_load_acquire(&shared->ready[i]) < w->round;) {
            if (now() > limit)
                FAIL("rank %u waits for rank %u in round %u for %d s", w->rank, i, w->round,
                     PATIENCE_SECONDS);
            usleep(50);
        }
}

static void talk(struct worker *w)
{
    double limit = now() + PATIENCE_SECONDS;
    struct ivshm_diag diag = {""};
    for (uint32_t i = 0; i < options.processes; i++) {
        struct peer *p = &w->peers[i];
        *p = (struct peer){.out_plan = plan(w->round, w->rank, i),
                           .in_plan = plan(w->round, i, w->rank),
                           .out_count = count_of(w->round, w->rank, i),
                           .in_count = count_of(w->round, i, w->rank)};
        if (ivshm_channel_open(&w->t, find(w, i), &p->channel, &diag) != 0)
            FAIL("rank %u round %u: %s", w->rank, w->round, diag.text);
    }
    for (uint32_t turn = 0; !is_done(w); turn++) {
        bool busy = receive_some(w);
        for (uint32_t i = 0; i < options.processes; i++) {
            struct peer *p = &w->peers[(i + turn) % options.processes];
            busy |= receive_large(w, p);
            if (!chance(w, 4))
                busy |= send_some(w, p);
        }
        if (w->t.pending)
            ivshm_transport_flush(&w->t);
        if (chance(w, 2000))
            usleep(w->random >> 40 & 511);
        if (!busy) {
            if (chance(w, 100))
                ivshm_transport_watch(&w->t);
            sched_yield();
            if (now() > limit)
                FAIL("rank %u round %u: nothing moves for %d s", w->rank, w->round,
                     PATIENCE_SECONDS);
        }
    }
    for (uint32_t i = 0; i < options.processes; i++)
        ivshm_channel_close(&w->t, w->peers[i].channel);
    ivshm_transport_watch(&w->t);
}

/* Runs rounds, from `round` on, until the end or until it dies on purpose. */
static int work(uint32_t rank, uint32_t round, double end)
{
    struct worker w = {
        .rank = rank, .round = round, .random = mix(options.seed, (uint64_t) getpid())};
    struct ivshm_diag diag = {""};
    if (ivshm_region_open(options.region, &w.region, &diag) != 0)
        FAIL("%s", diag.text);
    join(&w);
    for (;; w.round++) {
        if (rank == 0 && now() > end)
            ivshm_a64_store_release(&shared->stop_at, w.round);
        wait_for_all(&w);
        if (ivshm_a64_load_acquire(&shared->stop_at) == w.round)
            break;
        talk(&w);
        if (chance(&w, 4)) {
            ivshm_transport_close(&w.t);
            join(&w);
            ivshm_a64_add_seqcst(&shared->rejoins, 1);
        } else if (rank != 0 && chance(&w, 8)) {
            ivshm_a64_add_seqcst(&shared->deaths, 1);
            _exit(EXIT_REPLACE);
        }
    }
    ivshm_transport_close(&w.t);
    ivshm_region_close(&w.region);
    return 0;
}

/*
 * Another job, which nobody depends on: it joins, sends to its own ranks, allocates pipelines, and
 * is killed.
 */
static int stand_by(void)
{
    struct ivshm_region region;
    uint64_t random = mix(options.seed, (uint64_t) getpid());
    if (ivshm_region_open(options.region, &region, NULL) != 0)
        return 1;
    for (;; random = mix(random, 2)) {
        struct ivshm_transport t;
        struct ivshm_pipeline pipeline;
        if (ivshm_transport_open(&t, &region, "bystander", 0, 1, NULL) != 0) {
            usleep(1000);
            continue;
        }
        for (uint32_t i = 0; i < region.geo.endpoints; i++) {
            struct ivshm_endpoint_info info;
            struct ivshm_channel *ch;
            struct ivshm_outgoing out;
            struct ivshm_incoming in;
            if (ivshm_endpoint_read(&region, i, &info) == 0 && strcmp(info.job, "bystander") == 0 &&
                ivshm_channel_open(&t, (struct ivshm_owner){i, info.claim.generation}, &ch, NULL) ==
                    0 &&
                ivshm_message_reserve(&t, ch, 100, 0, &out) == 0)
                ivshm_message_publish(&t, ch, &out, 100);
            if (ivshm_transport_receive(&t, &in, NULL) == 1)
                ivshm_message_release(&in);
        }
        if (random % 3 == 0)
            (void) !ivshm_pipeline_alloc(&region, t.endpoint.owner, &pipeline);
        usleep(random >> 50);
        ivshm_transport_close(&t);
    }
}

static pid_t start(uint32_t rank, uint32_t round, double end)
{
    fflush(NULL);
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        FAIL("fork: %s", strerror(errno));
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) /* it died before that */
            _exit(1);
        exit(rank < options.processes ? work(rank, round, end) : stand_by());
    }
    return pid;
}

int main(int argc, char **argv)
{
    for (int c; (c = getopt(argc, argv, "t:p:m:s:")) != -1;) {
        unsigned long value = optarg ? strtoul(optarg, NULL, 0) : 0;
        switch (c) {
        case 't':
            options.seconds = (unsigned) value;
            break;
        case 'p':
            options.processes = (unsigned) value;
            break;
        case 'm':
            options.size = (uint64_t) value << 20;
            break;
        case 's':
            options.seed = value;
            break;
        default:
            options.processes = 0;
        }
    }
    if (options.processes < 1 || options.processes > PROCESSES_MAX) {
        fprintf(stderr,
                "usage: stress_region [-t seconds] [-p processes, up to %d] [-m MiB] [-s seed]\n",
                PROCESSES_MAX);
        return 2;
    }

    int fd = memfd_create("stress-region", 0);
    if (fd < 0 || ftruncate(fd, (off_t) options.size) != 0)
        FAIL("no memory file: %s", strerror(errno));
    snprintf(options.region, sizeof(options.region), "/proc/self/fd/%d", fd);
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        FAIL("mmap: %s", strerror(errno));

    uint32_t total = options.processes + BYSTANDERS, running = options.processes;
    pid_t pids[PROCESSES_MAX + BYSTANDERS];
    double end = now() + options.seconds, limit = end + PATIENCE_SECONDS;
    uint64_t random = options.seed;
    for (uint32_t i = 0; i < total; i++)
        pids[i] = start(i, 1, end);
    while (running > 0) {
        int status;
        pid_t pid;
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
            uint32_t rank = 0;
            while (rank < total && pids[rank] != pid)
                rank++;
            if (rank < options.processes && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
                pids[rank] = 0;
                running--;
            } else if (rank < options.processes && WIFEXITED(status) &&
                       WEXITSTATUS(status) == EXIT_REPLACE) {
                uint32_t round = (uint32_t) ivshm_a64_load_acquire(&shared->ready[rank]);
                pids[rank] = start(rank, round + 1, end);
            } else if (rank < options.processes) {
                FAIL("rank %u ended with status %#x", rank, (unsigned) status);
            } else if (WIFEXITED(status)) {
                FAIL("a bystander ended with status %#x", (unsigned) status);
            } else {
                pids[rank] = start(rank, 0, end);
            }
        }
        if (now() > limit)
            FAIL("not done %d s after the end", PATIENCE_SECONDS);
        usleep(2000);
        random = mix(random, 3);
        if (random % 16 == 0) /* a bystander dies; waitpid replaces it */
            kill(pids[options.processes + (random >> 8) % BYSTANDERS], SIGKILL);
        pid_t stopped = pids[(random >> 16) % options.processes];
        if (random % 16 == 1 && stopped) { /* a stopped process is not dead */
            kill(stopped, SIGSTOP);
            usleep((random >> 24) % 30000);
            kill(stopped, SIGCONT);
        }
    }
    for (uint32_t i = options.processes; i < total; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }

    /* What the dead held is freed by a reap; everything else has been freed already. */
    struct ivshm_region region;
    struct ivshm_process self;
    struct ivshm_reaped reaped;
    struct ivshm_extent_usage usage;
    struct ivshm_diag diag = {""};
    if (ivshm_region_open(options.region, &region, &diag) != 0 ||
        ivshm_process_self(&self, &diag) != 0)
        FAIL("%s", diag.text);
    ivshm_endpoint_reap(&region, &self, &reaped);
    ivshm_extent_usage(&region, &usage);
    uint32_t held = 0;
    for (uint32_t i = 0; i < region.geo.endpoints; i++)
        held += ivshm_endpoint_claim(&region, i).state != IVSHM_CLAIM_FREE;
    if (held || usage.free_blocks != region.geo.blocks)
        FAIL("%u endpoints and %llu blocks were not freed", held,
             (unsigned long long) (region.geo.blocks - usage.free_blocks));
    printf("%u processes, %llu rounds: %llu messages, %llu MB, %llu large; %llu rejoined, %llu "
           "died; "
           "all freed\n",
           options.processes, (unsigned long long) ivshm_a64_load_relaxed(&shared->stop_at) - 1,
           (unsigned long long) ivshm_a64_load_relaxed(&shared->messages),
           (unsigned long long) ivshm_a64_load_relaxed(&shared->bytes) / 1000000,
           (unsigned long long) ivshm_a64_load_relaxed(&shared->pipelines),
           (unsigned long long) ivshm_a64_load_relaxed(&shared->rejoins),
           (unsigned long long) ivshm_a64_load_relaxed(&shared->deaths));
    return 0;
}
