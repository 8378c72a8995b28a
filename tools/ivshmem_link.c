/* SPDX-License-Identifier: mpich2 */
/*
 * How `ivshmem send` and `ivshmem recv` find each other and stay in touch.
 *
 * The sender is an endpoint of rank 0, a receiver of rank 1, of a job that has their name. A
 * receiver proposes to the sender by HELLO, and stays with it until it has an answer. From then on
 * each side says every second that it is alive: data may not come for hours, but these do. A
 * periodic signal interrupts whatever system call a side is in, so that it serves its link.
 *
 * A death is proved in the kernel of whoever died. If that is not the peer's, nobody may be there
 * to prove it. So each side has a guardian: a child that does nothing but wait for its end.
 */
#define _GNU_SOURCE /* pipe2, close_range */
#include "ivshmem_link.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINK_VERSION 1 /* of the notes; both sides must have the same */

#define LINK_JOB "ivshmem-pipe-"
#define SERVER_JOB "ivshmem-serve-"

#define SECOND UINT64_C(1000000000)
#define TICK_US 200000   /* from a signal to the next */
#define MESSAGES_MAX 64  /* in one go */
#define LAST_WORDS 1000  /* milliseconds to get rid of them */
#define ASK_AGAIN SECOND /* from a request that is not answered to the next */

enum note_kind {
    NOTE_HELLO = 1, /* to a sender; bytes is 1 for a checksum */
    NOTE_WELCOME,   /* its data come through the pipeline at off, with a checksum if bytes is 1 */
    NOTE_BUSY,      /* it has all its receivers, or clients */
    NOTE_ALIVE,
    NOTE_END,    /* all is sent, or written: so many bytes, with that checksum */
    NOTE_FAILED, /* the text says why */
    NOTE_PUT,    /* to a server, which answers by one of the above: the text is a path */
    NOTE_GET
};

/* What the two sides tell each other. */
struct note {
    uint32_t version, kind;
    uint64_t bytes;
    ivshm_off off;
    char text[LINK_TEXT_MAX]; /* as far as the message goes */
};

static volatile sig_atomic_t is_due;

static void on_tick(int sig)
{
    (void) sig;
    is_due = 1;
}

bool link_is_due(void)
{
    return is_due;
}

const char *link_other(const struct link *link)
{
    return link->is_sender ? "receiver" : "sender";
}

/* The guardian */

static void guard(struct ivshm_region *region, struct ivshm_owner owner, int fd)
{
    struct ivshm_process self;
    const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    char byte;
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        signal(ignored[i], SIG_IGN); /* they are for its parent, which says when it ends */
    /* Whoever waits for the end of the parent's output must not wait for this process. */
    if (dup2(fd, 0) < 0 || close_range(1, ~0U, 0) != 0)
        return;
    while (read(0, &byte, 1) < 0 && errno == EINTR)
        ;
    if (ivshm_process_self(&self, NULL) != 0)
        return;
    /* The descriptors of a process are closed before it is gone. */
    for (int i = 0; i < 1000 && ivshm_endpoint_is_live(region, owner); i++) {
        ivshm_endpoint_watch(region, &self);
        tool_short_nap();
    }
    ivshm_endpoint_reap(region, &self, NULL);
}

/* Without one, a death may be noticed late, no more. */
static void start_guardian(struct link *link)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return;
    link->guardian = fork();
    if (link->guardian == 0) {
        close(ends[1]);
        guard(link->region, ivshm_transport_self(&link->transport), ends[0]);
        _exit(0);
    }
    close(ends[0]);
    if (link->guardian > 0)
        link->guardian_end = ends[1];
    else
        close(ends[1]);
}

static void end_guardian(struct link *link)
{
    if (link->guardian <= 0)
        return;
    kill(link->guardian, SIGKILL);
    while (waitpid(link->guardian, NULL, 0) < 0 && errno == EINTR)
        ;
    close(link->guardian_end);
}

/* Notes */

/* False if there is no room for it now. */
static bool try_note(struct link *link, struct ivshm_channel *channel, struct note note)
{
    struct ivshm_outgoing out;
    const size_t len = offsetof(struct note, text) + strlen(note.text) + 1;
    note.version = LINK_VERSION;
    if (ivshm_message_reserve(&link->transport, channel, len, 0, &out) != 0)
        return false;
    if (out.capacity < len) {
        ivshm_message_discard(&link->transport, &out);
        return false;
    }
    memcpy(out.payload, &note, len);
    ivshm_message_publish(&link->transport, channel, &out, (uint32_t) len);
    return true;
}

__attribute__((format(printf, 2, 3))) static void lose(struct link_peer *peer, const char *fmt, ...)
{
    va_list ap;
    if (peer->is_lost)
        return;
    peer->is_lost = true;
    va_start(ap, fmt);
    vsnprintf(peer->why.text, sizeof(peer->why.text), fmt, ap);
    va_end(ap);
}

static void lose_by_nonsense(const struct link *link, struct link_peer *peer)
{
    lose(peer,
         "the %s (%s) sent something unexpected: run the same release of ivshmem on both "
         "sides",
         link_other(link), peer->who);
}

static void describe_peer(struct link *link, struct link_peer *peer)
{
    struct ivshm_endpoint_info info = {0};
    uint32_t index = ivshm_channel_peer(peer->channel).endpoint;
    bool is_known = ivshm_endpoint_read(link->region, index, &info) == 0 && info.named;
    snprintf(peer->who, sizeof(peer->who), "endpoint %u, %s pid %llu", index,
             is_known ? tool_printable(info.process.host) : "unknown",
             (unsigned long long) info.process.pid);
}

static bool is_same(struct ivshm_owner a, struct ivshm_owner b)
{
    return a.endpoint == b.endpoint && a.generation == b.generation;
}

/* Makes a receiver one of ours; the channel has a user then. */
static void accept_receiver(struct link *link, struct ivshm_owner owner, const struct note *hello)
{
    const uint32_t version = hello->version;
    struct ivshm_channel *channel;
    if (link->only && !is_same(owner, *link->only))
        return;
    if (ivshm_channel_open(&link->transport, owner, &channel, NULL) != 0)
        return;
    struct link_peer *peer = link->found < link->count ? &link->peers[link->found] : NULL;
    bool is_taken = peer && version == LINK_VERSION &&
                    try_note(link, channel,
                             (struct note){.kind = NOTE_WELCOME,
                                           .bytes = link->has_checksum,
                                           .off = ivshm_pipeline_offset(&peer->pipeline)});
    if (is_taken) {
        peer->channel = channel;
        peer->heard = tool_now_ns();
        describe_peer(link, peer);
        link->has_checksum |= hello->bytes == 1;
        link->found++;
        return;
    }
    if (version != LINK_VERSION)
        tool_warn("a receiver came (endpoint %u) that speaks version %u, this sender speaks "
                  "version %d: run the same release of ivshmem on both sides",
                  owner.endpoint, version, LINK_VERSION);
    try_note(link, channel, (struct note){.kind = NOTE_BUSY});
    ivshm_channel_close(&link->transport, channel);
}

/* The answer to HELLO. */
static void take_welcome(struct link *link, struct link_peer *peer, const struct note *note)
{
    if (note->version != LINK_VERSION)
        lose(peer,
             "the sender (%s) speaks version %u, this receiver speaks version %d: run the same "
             "release of ivshmem on both sides",
             peer->who, note->version, LINK_VERSION);
    else if (note->kind == NOTE_BUSY)
        lose(peer,
             "the sender (%s) has all its receivers: give each pair a name of its own, or start "
             "the sender with --tee and their number",
             peer->who);
    else if (note->kind != NOTE_WELCOME)
        lose_by_nonsense(link, peer);
    else if (ivshm_pipeline_attach(link->region, ivshm_channel_peer(peer->channel), note->off, 0,
                                   &peer->pipeline, &peer->why) != 0)
        peer->is_lost = true;
    else {
        link->has_checksum |= note->bytes == 1;
        link->found = 1;
    }
}

static void take_note(struct link *link, struct link_peer *peer, struct note *note)
{
    peer->heard = tool_now_ns();
    note->text[sizeof(note->text) - 1] = 0;
    if (peer == &link->server) {
        link->answer = (int) note->kind;
        if (note->version != LINK_VERSION)
            lose(peer,
                 "the server (%s) speaks version %u, this client speaks version %d: run the same "
                 "release of ivshmem on both sides",
                 peer->who, note->version, LINK_VERSION);
        else if (note->kind == NOTE_FAILED)
            lose(peer, "the server (%s) refuses: %s", peer->who, tool_printable(note->text));
        else if (note->kind != NOTE_WELCOME && note->kind != NOTE_BUSY)
            lose(peer, "the server (%s) sent something unexpected", peer->who);
        return;
    }
    if (!link->is_sender && link->found == 0) {
        take_welcome(link, peer, note);
        return;
    }
    if (note->kind == NOTE_ALIVE)
        return;
    if (note->kind == NOTE_END && !peer->ended) {
        peer->ended = true;
        peer->bytes = note->bytes;
        snprintf(peer->checksum, sizeof(peer->checksum), "%.*s", LINK_CHECKSUM_MAX - 1, note->text);
    } else if (note->kind == NOTE_FAILED)
        lose(peer, "the %s (%s) failed after %llu bytes: %s", link_other(link), peer->who,
             (unsigned long long) note->bytes, tool_printable(note->text));
    else
        lose_by_nonsense(link, peer);
}

static struct link_peer *peer_of(struct link *link, const struct ivshm_channel *channel)
{
    for (unsigned i = 0; i < link->count; i++)
        if (channel && link->peers[i].channel == channel)
            return &link->peers[i];
    return channel && link->server.channel == channel ? &link->server : NULL;
}

/* From somebody who is no peer. */
static void take_request(struct link *link, struct ivshm_owner client, struct note *note)
{
    char text[128];
    snprintf(text, sizeof(text),
             "it speaks version %d, this client speaks version %u: run the same release of ivshmem "
             "on both sides",
             LINK_VERSION, note->version);
    note->text[sizeof(note->text) - 1] = 0;
    if (note->version != LINK_VERSION)
        link_answer(link, client, LINK_REFUSED, text);
    else if (note->kind == NOTE_PUT || note->kind == NOTE_GET)
        link->on_request(link->arg, client, note->kind == NOTE_PUT ? LINK_PUT : LINK_GET,
                         note->text);
}

/* False if nothing was found. */
static bool take_message(struct link *link)
{
    struct ivshm_incoming in;
    struct ivshm_diag diag;
    struct note note = {0};
    int got = ivshm_transport_receive(&link->transport, &in, &diag);
    if (got == 0)
        return false;
    struct link_peer *peer = peer_of(link, in.channel);
    if (got < 0) {
        if (peer)
            lose(peer, "%s", diag.text);
        return true;
    }
    struct ivshm_owner owner = ivshm_channel_peer(in.channel);
    bool is_whole = in.len >= offsetof(struct note, text) && in.len <= sizeof(note);
    if (is_whole)
        memcpy(&note, in.payload, in.len);
    ivshm_message_release(&in);
    if (peer && is_whole)
        take_note(link, peer, &note);
    else if (peer)
        lose_by_nonsense(link, peer);
    else if (is_whole && link->on_request)
        take_request(link, owner, &note);
    else if (is_whole && link->is_sender && note.kind == NOTE_HELLO)
        accept_receiver(link, owner, &note);
    return true;
}

/* Staying in touch */

/* Whether it has died or left, and all that it has sent is received. */
static bool has_left(struct link *link, struct link_peer *peer)
{
    if (ivshm_channel_is_live(&link->transport, peer->channel))
        return false;
    if (!peer->was_seen_dead) {
        peer->was_seen_dead = true;
        peer->inbox_position = ivshm_transport_inbox_position(&link->transport);
    }
    return !ivshm_channel_has_more(&link->transport, peer->channel, peer->inbox_position);
}

static void check_peer(struct link *link, struct link_peer *peer, bool say_alive)
{
    if (!peer->channel || peer->is_lost)
        return;
    if (has_left(link, peer)) {
        /* A receiver that has everything may go. */
        if (!(link->is_sender && link->has_ended && peer->ended))
            lose(peer,
                 "the %s (%s) left before the end: its own output says why, unless it was killed",
                 link_other(link), peer->who);
    } else if (tool_now_ns() - peer->heard > link->timeout * SECOND)
        lose(peer,
             "the %s (%s) has given no sign of life for %u s: it is stopped, or its machine is",
             link_other(link), peer->who, link->timeout);
    else if (say_alive)
        try_note(link, peer->channel, (struct note){.kind = NOTE_ALIVE});
}

void link_serve(struct link *link)
{
    bool say_alive = false;
    ivshm_transport_flush(&link->transport);
    for (int i = 0; i < MESSAGES_MAX && take_message(link); i++)
        ;
    if (is_due) {
        is_due = 0;
        ivshm_transport_watch(&link->transport);
        link->sleep = ivshm_transport_crowd(&link->transport).sleep;
        say_alive = tool_now_ns() >= link->next_alive;
        if (say_alive)
            link->next_alive = tool_now_ns() + SECOND;
    }
    for (unsigned i = 0; i < link->count; i++)
        check_peer(link, &link->peers[i], say_alive);
}

void link_wait(struct link *link)
{
    struct ivshm_transport *t = &link->transport;
    /*
     * As where there are too few processors: a side works for many microseconds on what it has, so
     * that a call between two looks costs nothing, and the other one may need this processor.
     */
    const struct ivshm_wait_for what = {.can_be_woken = link->sleep != IVSHM_SLEEP_NOT,
                                        .sharers = 2,
                                        .looks = ivshm_transport_looks(t)};
    ivshm_cpu_pause();
    if (++link->looks < link->wait.looks)
        return;
    link->looks = 0;
    link_serve(link);
    ivshm_transport_wait(t, &link->wait, &what, tool_now_ns(), link->sleep, NULL, 0);
}

void link_found(struct link *link)
{
    link->looks = 0;
    ivshm_transport_end_wait(&link->transport, &link->wait);
}

void link_tell(struct link *link, uint64_t bytes)
{
    const struct ivshm_counts counts = {
        .large_sent_bytes = link->is_sender ? bytes : 0,
        .large_received_bytes = link->is_sender ? 0 : bytes,
        .waited = ivshm_wait_total(&link->wait),
    };
    ivshm_transport_tell(&link->transport, tool_now_ns(), &counts);
}

void link_wake(struct link *link, struct link_peer *peer)
{
    ivshm_channel_wake(&link->transport, peer->channel);
}

bool link_end(struct link *link, struct link_peer *peer, uint64_t bytes, const char *checksum)
{
    struct note note = {.kind = NOTE_END, .bytes = bytes};
    snprintf(note.text, sizeof(note.text), "%s", checksum);
    link->has_ended = true;
    return try_note(link, peer->channel, note);
}

void link_give_up(struct link *link, const char *why, uint64_t bytes)
{
    struct note note = {.kind = NOTE_FAILED, .bytes = bytes};
    snprintf(note.text, sizeof(note.text), "%s", why);
    for (unsigned i = 0; i < link->count; i++)
        if (link->peers[i].channel && !link->peers[i].is_lost)
            try_note(link, link->peers[i].channel, note);
}

/* Finding each other */

int link_open(struct link *link, struct ivshm_diag *diag)
{
    const struct itimerval tick = {{0, TICK_US}, {0, TICK_US}};
    sigset_t set;
    snprintf(link->job, sizeof(link->job), "%s%s", link->on_request ? SERVER_JOB : LINK_JOB,
             link->name);
    int err = ivshm_transport_open(&link->transport, link->region, link->job,
                                   link->is_sender ? 0 : 1, 1 + link->count, diag);
    if (err)
        return err;
    ivshm_wait_init(&link->wait, IVSHM_WAIT_AUTO);
    start_guardian(link);
    is_due = 1;
    /* Without SA_RESTART, as those of tool_catch_signals. */
    sigaction(SIGALRM, &(struct sigaction){.sa_handler = on_tick}, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    setitimer(ITIMER_REAL, &tick, NULL);
    return 0;
}

void link_close(struct link *link)
{
    for (int i = 0; i < LAST_WORDS && !ivshm_transport_is_flushed(&link->transport); i++) {
        ivshm_transport_flush(&link->transport);
        tool_short_nap();
    }
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    /* With the endpoint goes all that it holds. */
    ivshm_transport_close(&link->transport);
    end_guardian(link);
}

/* The sender of that name, but for `self`. */
static bool find_sender(const struct link *link, struct ivshm_owner *owner)
{
    uint32_t self = ivshm_transport_self(&link->transport).endpoint;
    for (uint32_t i = 0; i < ivshm_region_endpoints(link->region); i++)
        if (i != self && tool_is_side(link->region, i, link->job, 0, owner))
            return true;
    return false;
}

static int refuse_interrupt(struct ivshm_diag *diag)
{
    return ivshm_diag_fail(diag, EINTR, "interrupted");
}

/* While this side waits for the other one: whether that will not come. */
static int refuse_if_over(struct link *link, struct ivshm_diag *diag)
{
    if (tool_was_interrupted())
        return refuse_interrupt(diag);
    if (link->server.is_lost)
        return ivshm_diag_fail(diag, ECONNREFUSED, "%s", link->server.why.text);
    if (link->only && !ivshm_endpoint_is_live(link->region, *link->only))
        return ivshm_diag_fail(diag, ESHUTDOWN, "the client (endpoint %u) left before the start",
                               link->only->endpoint);
    return 0;
}

static bool find_server(const struct link *link, const char *name, struct ivshm_owner *owner)
{
    char job[sizeof(link->job)];
    snprintf(job, sizeof(job), SERVER_JOB "%s", name);
    for (uint32_t i = 0; i < ivshm_region_endpoints(link->region); i++)
        if (tool_is_side(link->region, i, job, 0, owner))
            return true;
    return false;
}

/* One request: waits for its answer, but not for long. 0 if it was accepted, or -EAGAIN. */
static int request(struct link *link, struct ivshm_owner owner, const struct note *note,
                   struct ivshm_diag *diag)
{
    struct link_peer *server = &link->server;
    if (ivshm_channel_open(&link->transport, owner, &server->channel, NULL) != 0)
        return -EAGAIN;
    describe_peer(link, server);
    link->answer = 0;
    if (try_note(link, server->channel, *note)) {
        const uint64_t until = tool_now_ns() + ASK_AGAIN;
        int err = 0;
        while (!err && !link->answer && tool_now_ns() < until &&
               ivshm_channel_is_live(&link->transport, server->channel)) {
            link_wait(link);
            err = refuse_if_over(link, diag);
        }
        link_found(link);
        if (err || link->answer == NOTE_WELCOME)
            return err;
    }
    ivshm_channel_close(&link->transport, server->channel);
    *server = (struct link_peer){0};
    return -EAGAIN;
}

/* Asks the server to be the other side. */
static int ask_server(struct link *link, struct ivshm_diag *diag)
{
    const char *name = link->server_name;
    const uint64_t deadline = tool_now_ns() + link->timeout * SECOND;
    struct note note = {.kind = link->is_sender ? NOTE_PUT : NOTE_GET};
    struct ivshm_owner server;
    bool was_there = false;
    snprintf(note.text, sizeof(note.text), "%s", link->path);
    while (tool_now_ns() < deadline) {
        int err = refuse_if_over(link, diag);
        if (!err && find_server(link, name, &server)) {
            was_there = true;
            err = request(link, server, &note, diag);
            if (err != -EAGAIN)
                return err;
        } else if (err)
            return err;
        link_serve(link);
        for (int i = 0; i < 50 && !tool_was_interrupted(); i++)
            tool_short_nap();
    }
    if (link->answer == NOTE_BUSY)
        return ivshm_diag_fail(diag, EBUSY, "the server %s had no room for this client for %u s",
                               name, link->timeout);
    if (was_there)
        return ivshm_diag_fail(diag, ETIMEDOUT,
                               "the server %s did not answer within %u s: it is stopped, or its "
                               "machine is",
                               name, link->timeout);
    return ivshm_diag_fail(
        diag, ETIMEDOUT,
        "no server %s came within %u s: run `ivshmem serve --name %s FOLDER` on the other side; if "
        "it is running there, the two sides use different regions: the id here is %s, compare it "
        "with `ivshmem info` there",
        name, link->timeout, name, tool_id(link->region));
}

static int gather_receivers(struct link *link, struct ivshm_diag *diag)
{
    struct ivshm_owner other;
    /* Of two that come at once, each sees the other, as both are live before they look. */
    if (find_sender(link, &other))
        return ivshm_diag_fail(diag, EEXIST,
                               "endpoint %u of region %s is already %s as %s: give each %s a name "
                               "of its own; `ivshmem ps` shows who it is",
                               other.endpoint, ivshm_region_name(link->region),
                               link->on_request ? "serving" : "sending", link->name,
                               link->on_request ? "server" : "pair");
    if (link->on_request)
        return 0;
    for (unsigned i = 0; i < link->count; i++)
        if (ivshm_pipeline_alloc(link->region, ivshm_transport_self(&link->transport),
                                 &link->peers[i].pipeline) != 0)
            return ivshm_endpoint_describe_no_memory(link->region, 1 + link->count, diag);
    int asked = link->server_name ? ask_server(link, diag) : 0;
    if (asked)
        return asked;
    uint64_t deadline = tool_now_ns() + link->timeout * SECOND;
    while (link->found < link->count && tool_now_ns() < deadline) {
        int err = refuse_if_over(link, diag);
        if (err)
            return err;
        link_wait(link);
    }
    link_found(link);
    if (link->found == link->count)
        return 0;
    return ivshm_diag_fail(
        diag, ETIMEDOUT,
        "%u of %u receivers came within %u s: run `ivshmem recv %s` on the other side; if it is "
        "waiting there, the two sides use different regions: the id here is %s, compare it with "
        "`ivshmem info` there",
        link->found, link->count, link->timeout, link->name, tool_id(link->region));
}

/* One proposal: 0, -EAGAIN if the sender has gone, or another error. */
static int propose_to(struct link *link, struct ivshm_owner sender, uint64_t deadline,
                      struct ivshm_diag *diag)
{
    struct link_peer *peer = link->peers;
    if (ivshm_channel_open(&link->transport, sender, &peer->channel, NULL) != 0)
        return -EAGAIN;
    peer->heard = tool_now_ns();
    describe_peer(link, peer);
    bool is_said = try_note(link, peer->channel,
                            (struct note){.kind = NOTE_HELLO, .bytes = link->has_checksum});
    while (is_said && link->found == 0 && !peer->is_lost && tool_now_ns() < deadline &&
           !tool_was_interrupted())
        link_wait(link);
    link_found(link);
    if (link->found)
        return 0;
    if (peer->is_lost && !peer->was_seen_dead)
        return ivshm_diag_fail(diag, EPROTO, "%s", peer->why.text);
    ivshm_channel_close(&link->transport, peer->channel);
    *peer = (struct link_peer){0};
    return -EAGAIN;
}

static int find_the_sender(struct link *link, struct ivshm_diag *diag)
{
    uint64_t deadline = tool_now_ns() + link->timeout * SECOND;
    struct ivshm_owner sender;
    bool was_there = false;
    while (tool_now_ns() < deadline) {
        int over = refuse_if_over(link, diag);
        if (over)
            return over;
        if (find_sender(link, &sender) && (!link->only || is_same(sender, *link->only))) {
            was_there = true;
            int err = propose_to(link, sender, deadline, diag);
            if (err != -EAGAIN)
                return err;
        }
        link_serve(link);
        for (int i = 0; i < 10 && !tool_was_interrupted(); i++)
            tool_short_nap();
    }
    if (was_there)
        return ivshm_diag_fail(diag, ETIMEDOUT,
                               "the sender did not answer within %u s: it is stopped, or it left "
                               "before this receiver came",
                               link->timeout);
    return ivshm_diag_fail(
        diag, ETIMEDOUT,
        "no sender came within %u s: run `ivshmem send %s` on the other side; if it is waiting "
        "there, the two sides use different regions: the id here is %s, compare it with `ivshmem "
        "info` there",
        link->timeout, link->name, tool_id(link->region));
}

int link_connect(struct link *link, struct ivshm_diag *diag)
{
    if (link->is_sender)
        return gather_receivers(link, diag);
    int err = link->server_name ? ask_server(link, diag) : 0;
    return err ? err : find_the_sender(link, diag);
}

/* Servers */

void link_answer(struct link *link, struct ivshm_owner client, enum link_answer answer,
                 const char *why)
{
    static const enum note_kind kinds[] = {
        [LINK_WELCOME] = NOTE_WELCOME, [LINK_BUSY] = NOTE_BUSY, [LINK_REFUSED] = NOTE_FAILED};
    struct note note = {.kind = kinds[answer]};
    struct ivshm_channel *channel;
    if (ivshm_channel_open(&link->transport, client, &channel, NULL) != 0)
        return; /* it has gone */
    snprintf(note.text, sizeof(note.text), "%s", why);
    try_note(link, channel, note); /* if there is no room for it, the client asks again */
    ivshm_channel_close(&link->transport, channel);
}

void link_forget(struct link *link)
{
    if (link->guardian > 0)
        close(link->guardian_end);
    link->guardian = 0;
}
