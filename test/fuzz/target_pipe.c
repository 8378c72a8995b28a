/* SPDX-License-Identifier: mpich2 */
/*
 * ivshmem send, recv, put, get and serve, of which the other side is hostile: it sends anything as
 * a note, and fills and empties pipelines as it likes. It goes on whenever the command waits, and
 * then time passes. What the command reads and writes, and its checksum, are here as well.
 */
#include "tool_double.h"

#include "ivshmem_pipe.h"

#include <poll.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#define PIPE "ivshmem-pipe-p"
#define STEP_NS 50000000 /* from one wait to the next */
#define WAITS_MAX 2000   /* all waits have a limit of seconds */
enum { DATA = STDIN_FILENO, SUM_IN = 1000, SUM_OUT };

static struct world *world;
static struct input *input;
static struct ivshm_transport *party, *mine; /* the command's, or NULL */
static struct ivshm_pipeline theirs;         /* HOSTILE's, or what it has of the command's */
static uint64_t their_bytes;
static unsigned waits, ticks;
static bool is_summed;
static void (*on_tick)(int);

/* The system */

int fuzz_sigaction(int sig, const struct sigaction *act, struct sigaction *old);
int fuzz_sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
    (void) old;
    must(sig == SIGALRM);
    on_tick = act->sa_handler;
    return 0;
}

int fuzz_setitimer(int which, const struct itimerval *to, struct itimerval *old);
int fuzz_setitimer(int which, const struct itimerval *to, struct itimerval *old)
{
    (void) which;
    (void) to;
    (void) old;
    return 0;
}

pid_t fuzz_no_fork(void);
pid_t fuzz_no_fork(void)
{
    return -1; /* no guardian */
}

/* sha256sum */
pid_t fuzz_fork(void);
pid_t fuzz_fork(void)
{
    is_summed = false;
    return 42;
}

pid_t fuzz_waitpid(pid_t pid, int *status, int options);
pid_t fuzz_waitpid(pid_t pid, int *status, int options)
{
    (void) status;
    (void) options;
    return pid;
}

int fuzz_pipe2(int ends[2], int flags);
int fuzz_pipe2(int ends[2], int flags)
{
    (void) flags;
    ends[0] = SUM_OUT;
    ends[1] = SUM_IN;
    return 0;
}

int fuzz_close(int fd);
int fuzz_close(int fd)
{
    (void) fd;
    return 0;
}

int fuzz_poll(struct pollfd *fds, nfds_t count, int timeout);
int fuzz_poll(struct pollfd *fds, nfds_t count, int timeout)
{
    (void) fds;
    (void) count;
    clock_ns += (uint64_t) timeout * 1000000;
    return 0;
}

ssize_t fuzz_getrandom(void *to, size_t size, unsigned flags);
ssize_t fuzz_getrandom(void *to, size_t size, unsigned flags)
{
    (void) flags;
    memset(to, 0, size);
    return (ssize_t) size;
}

ssize_t fuzz_write(int fd, const void *from, size_t size);
ssize_t fuzz_write(int fd, const void *from, size_t size)
{
    must(fd == SUM_IN && (size == 0 || memchr(from, 0, size) != from + size));
    return (ssize_t) size;
}

ssize_t fuzz_read(int fd, void *to, size_t size);
ssize_t fuzz_read(int fd, void *to, size_t size)
{
    if (fd == SUM_OUT) {
        memset(to, 'a', 64);
        is_summed = !is_summed;
        return is_summed ? 64 : 0;
    }
    must(fd == DATA);
    const unsigned how = (unsigned) take(input, 1); /* 0: the end */
    if (how % 16 == 15) {
        errno = how > 127 ? EIO : how > 64 ? EFAULT : EAGAIN;
        return -1;
    }
    size = how * 1024 < size ? how * 1024 : size;
    memset(to, 1, size);
    return (ssize_t) size;
}

ssize_t fuzz_writev(int fd, const struct iovec *parts, int count);
ssize_t fuzz_writev(int fd, const struct iovec *parts, int count)
{
    static char copy[256 << 10];
    size_t all = 0;
    must((fd == DATA || fd == STDOUT_FILENO) && count > 0 && count <= 8);
    for (int i = 0; i < count; i++) {
        must(parts[i].iov_len > 0 && parts[i].iov_len <= sizeof(copy));
        memcpy(copy, parts[i].iov_base, parts[i].iov_len);
        all += parts[i].iov_len;
    }
    const unsigned how = (unsigned) take(input, 1);
    if (how % 16 == 15) {
        errno = how > 127 ? ENOSPC : how > 64 ? EFAULT : EAGAIN;
        return -1;
    }
    return (ssize_t) (how % 16 == 14 ? 1 + all / 2 : all);
}

/* The hostile side */

/* As ivshmem_link.c has it. */
struct note {
    uint32_t version, kind;
    uint64_t bytes, off;
    char text[1024];
};
enum { WELCOME = 2, KINDS = 9 };

/* A channel to the command, or NULL. */
static struct ivshm_channel *to_command(void)
{
    struct ivshm_channel *channel;
    return mine && ivshm_channel_open(&party[HOSTILE], ivshm_transport_self(mine), &channel,
                                      NULL) == 0
               ? channel
               : NULL;
}

static void send_note(struct input *in)
{
    const unsigned what = (unsigned) take(in, 1), more = (unsigned) take(in, 1);
    struct note note = {.version = what & 64 ? 2 : 1,
                        .kind = what % 16 % (KINDS + 1),
                        .bytes = more & 1 ? their_bytes : more >> 1 & 3,
                        .off = world->pipeline[HOSTILE].off.bytes};
    struct ivshm_channel *channel = to_command();
    struct ivshm_outgoing out;
    if (more & 8)
        note.off = take_offset(in).bytes;
    memset(note.text, what & 16 ? 'a' : more & 16 ? '\033' : '/', more & 32 ? 64 : more >> 6);
    if (what & 32) /* all of it, without an end */
        memset(note.text, '.', sizeof(note.text));
    size_t len = sizeof(note) - sizeof(note.text) + strnlen(note.text, sizeof(note.text) - 1) + 1;
    if (what & 128)
        len = (size_t) take(in, 2) % (sizeof(note) + 8);
    if (!channel || ivshm_message_reserve(&party[HOSTILE], channel, len, 0, &out) != 0)
        return;
    len = len < out.capacity ? len : out.capacity;
    memset(out.payload, 0, len);
    memcpy(out.payload, &note, len < sizeof(note) ? len : sizeof(note));
    ivshm_message_publish(&party[HOSTILE], channel, &out, (uint32_t) len);
}

/* What the command has said. */
static void receive(void)
{
    struct ivshm_incoming in;
    struct ivshm_pipeline other;
    struct note note = {0};
    if (ivshm_transport_receive(&party[HOSTILE], &in, NULL) != 1)
        return;
    memcpy(&note, in.payload, in.len < sizeof(note) ? in.len : sizeof(note));
    const struct ivshm_owner owner = ivshm_channel_peer(in.channel);
    ivshm_message_release(&in);
    if (note.kind == WELCOME &&
        ivshm_pipeline_attach(&world->region, owner, (ivshm_off){note.off}, 0, &other, NULL) == 0)
        theirs = other;
}

static void move_chunks(struct input *in, bool fills)
{
    uint32_t len;
    for (unsigned i = (unsigned) take(in, 1) % 16; i > 0; i--) {
        if (fills && ivshm_pipeline_reserve_spsc(&theirs)) {
            len = ivshm_pipeline_chunk_size(&theirs);
            len = i % 4 == 1 ? 1 + (uint32_t) take(in, 2) % len : len;
            ivshm_pipeline_publish_spsc(&theirs, len, 0);
            their_bytes += len;
        } else if (!fills && ivshm_pipeline_peek_spsc(&theirs, &len, NULL)) {
            ivshm_pipeline_consume_spsc(&theirs);
            their_bytes += len;
        }
    }
}

/* A sender, a receiver, or a server. */
static void become(unsigned what)
{
    static const char *const jobs[] = {PIPE, PIPE ":0000000000000000", "ivshmem-serve-p"};
    party_name(HOSTILE, jobs[what / 2 % LENGTH(jobs)], what & 1);
}

static void call(struct input *in, unsigned op)
{
    allow(100 * table_limit(&world->region), false);
    switch (op % 8) {
    case 0:
    case 1:
        send_note(in);
        break;
    case 2:
        move_chunks(in, true);
        break;
    case 3:
        receive();
        break;
    case 4:
        move_chunks(in, false);
        break;
    case 5:
        become(op / 8);
        break;
    case 6:
        theirs = world->pipeline[HOSTILE];
        break;
    default:
        was_interrupted |= op == 127;
    }
}

/* While the command waits. Without more of the input, time passes faster. */
static void go_on(void)
{
    const uint64_t limit = 100 * table_limit(&world->region);
    must(waits++ < WAITS_MAX);
    clock_ns += input->next < input->end ? STEP_NS : 20 * STEP_NS;
    size_t bytes = 1 + (size_t) take(input, 1) % 32;
    const size_t rest = (size_t) (input->end - input->next);
    struct input part = {input->next, input->next + (bytes < rest ? bytes : rest)};
    allow(limit, false);
    play(&part, 8, call);
    input->next = part.next;
    allow(limit, false);
    if (ticks++ % 4 == 0)
        on_tick(SIGALRM);
}

enum ivshm_wait_step fuzz_wait(struct ivshm_transport *t, struct ivshm_wait *wait,
                               const struct ivshm_wait_for *what, uint64_t now,
                               enum ivshm_sleep kind, const struct pollfd *fds, size_t count);
enum ivshm_wait_step fuzz_wait(struct ivshm_transport *t, struct ivshm_wait *wait,
                               const struct ivshm_wait_for *what, uint64_t now,
                               enum ivshm_sleep kind, const struct pollfd *fds, size_t count)
{
    (void) t;
    (void) wait;
    (void) what;
    (void) now;
    (void) kind;
    (void) fds;
    (void) count;
    go_on();
    return IVSHM_WAIT_LOOK;
}

int fuzz_nanosleep(const struct timespec *time, struct timespec *left);
int fuzz_nanosleep(const struct timespec *time, struct timespec *left)
{
    (void) left;
    clock_ns += (uint64_t) time->tv_nsec;
    if (clock_ns / 1000000 % 16 == 0 && waits < WAITS_MAX / 2)
        go_on();
    return 0;
}

int fuzz_transport_open(struct ivshm_transport *t, struct ivshm_region *region, const char *job,
                        uint32_t rank, uint32_t job_size, struct ivshm_diag *diag);
int fuzz_transport_open(struct ivshm_transport *t, struct ivshm_region *region, const char *job,
                        uint32_t rank, uint32_t job_size, struct ivshm_diag *diag)
{
    int err = ivshm_transport_open(t, region, job, rank, job_size, diag);
    mine = err ? NULL : t;
    return err;
}

/* Of a server, and its clients. */

static int begin(void *arg, int *fd, struct ivshm_diag *diag)
{
    (void) arg;
    (void) diag;
    *fd = DATA;
    return 0;
}

static int finish(void *arg, int err, struct ivshm_diag *diag)
{
    (void) arg;
    check_text(diag->text, strlen(diag->text));
    return err;
}

static struct link link_of_server;

static void on_request(void *arg, struct ivshm_owner client, enum link_request what,
                       const char *path)
{
    (void) arg;
    must(what == LINK_PUT || what == LINK_GET);
    must(strnlen(path, LINK_TEXT_MAX) < LINK_TEXT_MAX);
    link_answer(&link_of_server, client, (enum link_answer)(strlen(path) % 3), path);
}

static void serve(void)
{
    struct ivshm_region region;
    struct ivshm_diag diag = {""};
    struct link *link = &link_of_server;
    if (ivshm_region_open("region", &region, &diag) != 0)
        return;
    *link = (struct link){
        .is_sender = true, .name = "p", .timeout = 1, .region = &region, .on_request = on_request};
    if (link_open(link, &diag) == 0) {
        if (link_connect(link, &diag) == 0)
            while (input->next < input->end)
                link_wait(link);
        link_close(link);
    }
    ivshm_region_close(&region);
}

static void run(unsigned how)
{
    const struct ivshm_owner client = party[HOSTILE].endpoint.owner;
    struct tool_options opt = {
        .region = "region", .name = "p", .timeout = 2, .checksum = how & 16, .side = -1};
    struct pipe_user user = {
        .is_sender = how & 1, .input_or_output = "data", .begin = begin, .finish = finish};
    switch (how / 2 % 4) {
    case 0:
        opt.tee = how & 32 ? "2" : NULL;
        must((how & 1 ? tool_send(&opt) : tool_recv(&opt)) != TOOL_USAGE);
        return;
    case 1: /* put and get of a server's */
        user.server = opt.name;
        user.path = "path";
        break;
    case 2: /* for a client */
        user.client = &client;
        user.limit = how & 1 ? 0 : 100000;
        break;
    default:
        serve();
        return;
    }
    const int status = pipe_run(&opt, &user);
    must(status == TOOL_OK || status == TOOL_FAILED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    world = world_begin(PLAIN);
    party = parties_begin();
    input = &in;
    theirs = world->pipeline[HOSTILE];
    their_bytes = 0;
    clock_ns = 1;
    waits = ticks = 0;
    was_interrupted = false;
    const unsigned how = (unsigned) take(&in, 1);
    become((unsigned) take(&in, 1));
    allow(100 * table_limit(&world->region), false);
    run(how);
    mine = NULL;
    parties_end();
    return 0;
}
