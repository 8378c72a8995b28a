/* SPDX-License-Identifier: mpich2 */
/*
 * How the two sides of `ivshmem perf` find each other, and how a message gets across: as the netmod
 * sends it, by the channels and pipelines of core, but without a packet of MPI's around it.
 *
 * A server is an endpoint of rank 0, a client of rank 1, of one job. A client proposes to a server
 * by HELLO, and stays with it until it has an answer, so the two never disagree. Nothing that the
 * other side says is used before it is checked.
 */
#include "ivshmem_perf.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/wait.h>

#define SPINS 4096         /* looks in a row, before the slow part of waiting */
#define WATCH_NS 100000000 /* from a look for dead processes to the next */

#define SECOND UINT64_C(1000000000)

/* One wait for the other side. All zero at first. */
struct patience {
    unsigned spins;
    bool is_gone;
    uint64_t deadline;
};

static int report_interrupt(struct ivshm_diag *diag)
{
    return ivshm_diag_fail(diag, EINTR, "interrupted");
}

static void watch_region(struct perf_link *link)
{
    if (tool_now_ns() < link->next_watch)
        return;
    ivshm_transport_watch(&link->transport);
    link->next_watch = tool_now_ns() + WATCH_NS;
}

static int wait_slowly(struct perf_link *link, struct patience *p, struct ivshm_diag *diag)
{
    sched_yield();
    ivshm_transport_flush(&link->transport);
    if (tool_was_interrupted())
        return report_interrupt(diag);
    /* What it sent before it left is found by another round of looks. */
    if (p->is_gone)
        return ivshm_diag_fail(diag, ESHUTDOWN,
                               "the other side left during \"%s\": its own output says why",
                               link->activity);
    watch_region(link);
    p->is_gone = !ivshm_channel_is_live(&link->transport, link->channel);
    if (!p->deadline)
        p->deadline = tool_now_ns() + link->timeout * SECOND;
    if (tool_now_ns() >= p->deadline)
        return ivshm_diag_fail(diag, ETIMEDOUT,
                               "the other side did not answer within %u s during \"%s\": it is "
                               "stopped or very slow, or its stores are not visible here",
                               link->timeout, link->activity);
    return 0;
}

/* After a look that found nothing: 0 if another one is worth it. */
static inline int wait_more(struct perf_link *link, struct patience *p, struct ivshm_diag *diag)
{
    ivshm_cpu_pause();
    return ++p->spins % SPINS ? 0 : wait_slowly(link, p, diag);
}

int perf_await_word(struct perf_link *link, const ivshm_a64 *word, uint64_t value,
                    struct ivshm_diag *diag)
{
    struct patience p = {0};
    int err = 0;
    while (!err && ivshm_a64_load_acquire(word) < value)
        err = wait_more(link, &p, diag);
    return err;
}

/* Notes */

/* The note that a message is, and the place in it. False if it is not long enough. */
static bool read_note(struct ivshm_incoming *in, struct perf_note *note, struct perf_place *place)
{
    bool is_whole = in->len >= sizeof(*note) + (place ? sizeof(*place) : 0);
    if (is_whole)
        memcpy(note, in->payload, sizeof(*note));
    if (is_whole && place) {
        memcpy(place, in->payload + sizeof(*note), sizeof(*place));
        place->processor[sizeof(place->processor) - 1] = 0;
    }
    ivshm_message_release(in);
    return is_whole;
}

/* False if there is no room for it now. */
static bool try_note(struct perf_link *link, struct ivshm_channel *channel,
                     const struct perf_note *note)
{
    struct ivshm_outgoing out;
    const uint32_t len = sizeof(*note) + sizeof(link->here);
    if (ivshm_message_reserve(&link->transport, channel, len, 0, &out) != 0)
        return false;
    memcpy(out.payload, note, sizeof(*note));
    memcpy(out.payload + sizeof(*note), &link->here, sizeof(link->here));
    ivshm_message_publish(&link->transport, channel, &out, len);
    return true;
}

/* To somebody who is not the other side; only a proposal has an answer. */
static void refuse_note(struct perf_link *link, struct ivshm_owner peer,
                        const struct perf_note *note)
{
    struct ivshm_channel *channel;
    if (note->kind != PERF_HELLO || ivshm_channel_open(&link->transport, peer, &channel, NULL) != 0)
        return;
    try_note(link, channel, &(struct perf_note){.kind = PERF_BUSY, .arg = PERF_VERSION});
    ivshm_channel_close(&link->transport, channel);
}

/* The next message of the other side; its end is the caller's release. */
static inline int next_message(struct perf_link *link, struct ivshm_incoming *in,
                               struct ivshm_diag *diag)
{
    struct patience p = {0};
    if (tool_was_interrupted())
        return report_interrupt(diag);
    for (;;) {
        int got = ivshm_transport_receive(&link->transport, in, diag);
        if (got != 0 && in->channel == link->channel)
            return got < 0 ? got : 0;
        if (got > 0) {
            struct ivshm_owner peer = ivshm_channel_peer(in->channel);
            struct perf_note note;
            if (read_note(in, &note, NULL))
                refuse_note(link, peer, &note);
        }
        int err = wait_more(link, &p, diag);
        if (err)
            return err;
    }
}

/* Room for a message, or for a piece of it; `begins`: the first one. */
static inline int reserve_room(struct perf_link *link, size_t want, bool begins,
                               struct ivshm_outgoing *out, struct ivshm_diag *diag)
{
    struct patience p = {0};
    int err = tool_was_interrupted() ? report_interrupt(diag) : 0;
    while (!err && (begins ? ivshm_message_reserve(&link->transport, link->channel, want, 0, out)
                           : ivshm_message_reserve_rest(&link->transport, link->channel, want, 0,
                                                        out)) != 0)
        err = wait_more(link, &p, diag);
    return err;
}

int perf_send_note(struct perf_link *link, struct perf_note note, struct ivshm_diag *diag)
{
    struct ivshm_outgoing out;
    int err = reserve_room(link, sizeof(note), true, &out, diag);
    if (err)
        return err;
    memcpy(out.payload, &note, sizeof(note));
    ivshm_message_publish(&link->transport, link->channel, &out, sizeof(note));
    return 0;
}

static int report_nonsense(const struct perf_link *link, struct ivshm_diag *diag)
{
    return ivshm_diag_fail(diag, EBADMSG,
                           "the other side sent something unexpected during \"%s\": run the same "
                           "release of ivshmem on both sides",
                           link->activity);
}

int perf_receive_note(struct perf_link *link, uint32_t kind, struct perf_note *note,
                      struct ivshm_diag *diag)
{
    struct ivshm_incoming in;
    int err = next_message(link, &in, diag);
    if (err)
        return err;
    return read_note(&in, note, NULL) && (!kind || note->kind == kind)
               ? 0
               : report_nonsense(link, diag);
}

/* Messages that are measured */

static int send_eager(struct perf_link *link, const char *from, size_t bytes,
                      struct ivshm_diag *diag)
{
    size_t sent = 0;
    do {
        struct ivshm_outgoing out;
        int err = reserve_room(link, bytes - sent, sent == 0, &out, diag);
        if (err)
            return err;
        uint32_t len = bytes - sent < out.capacity ? (uint32_t) (bytes - sent) : out.capacity;
        ivshm_message_write(&out, 0, from + sent, len);
        ivshm_message_publish(&link->transport, link->channel, &out, len);
        link->path = out.cell == IVSHM_IN_SLOT     ? "slot"
                     : out.cell == IVSHM_IN_BUFFER ? "buffer"
                                                   : "cell";
        sent += len;
    } while (sent < bytes);
    return 0;
}

static int receive_eager(struct perf_link *link, char *to, size_t bytes, struct ivshm_diag *diag)
{
    size_t got = 0;
    do {
        struct ivshm_incoming in;
        int err = next_message(link, &in, diag);
        if (err)
            return err;
        bool fits = in.len <= bytes - got && (in.len > 0 || bytes == 0);
        if (fits)
            memcpy(to + got, in.payload, in.len);
        got += in.len;
        ivshm_message_release(&in);
        if (!fits)
            return report_nonsense(link, diag);
    } while (got < bytes);
    return 0;
}

/* Messages follow each other in one pipeline: whoever fills it does not wait for its end. */
static int send_large(struct perf_link *link, const char *from, size_t bytes,
                      struct ivshm_diag *diag)
{
    struct ivshm_pipeline *pipeline = &link->pipeline;
    if (!pipeline->words &&
        ivshm_pipeline_alloc(link->region, ivshm_transport_self(&link->transport), pipeline) != 0)
        return ivshm_endpoint_describe_no_memory(link->region, 2, diag);
    int err = perf_send_note(link,
                             (struct perf_note){.kind = PERF_LARGE,
                                                .arg = ivshm_pipeline_next(pipeline),
                                                .bytes = bytes,
                                                .off = ivshm_pipeline_offset(pipeline)},
                             diag);
    ivshm_plan plan;
    for (size_t sent = 0; !err && sent < bytes;) {
        struct patience p = {0};
        unsigned char *chunk;
        while (!err && !(chunk = ivshm_pipeline_reserve_spsc(pipeline)))
            err = wait_more(link, &p, diag);
        if (err)
            break;
        uint32_t note, len = ivshm_channel_fill_chunk(link->channel, &plan, sent == 0, chunk,
                                                      from + sent, bytes - sent, bytes / 8, &note);
        ivshm_pipeline_publish_spsc(pipeline, len, note);
        sent += len;
    }
    link->path = "pipeline";
    return err;
}

static int receive_large(struct perf_link *link, char *to, size_t bytes, struct ivshm_diag *diag)
{
    struct ivshm_pipeline pipeline;
    struct perf_note note;
    int err = perf_receive_note(link, PERF_LARGE, &note, diag);
    if (!err && note.bytes != bytes)
        err = report_nonsense(link, diag);
    if (!err)
        err = ivshm_pipeline_attach(link->region, ivshm_channel_peer(link->channel), note.off,
                                    note.arg, &pipeline, diag);
    for (size_t got = 0; !err && got < bytes;) {
        struct patience p = {0};
        const unsigned char *chunk;
        uint32_t len, note;
        while (!err && !(chunk = ivshm_pipeline_peek_spsc(&pipeline, &len, &note)))
            err = wait_more(link, &p, diag);
        if (err)
            break;
        if (len == 0 || len > bytes - got)
            return report_nonsense(link, diag);
        ivshm_channel_begin_reading(link->channel, note);
        memcpy(to + got, chunk, len);
        ivshm_channel_end_reading(link->channel, note);
        ivshm_pipeline_consume_spsc(&pipeline);
        got += len;
    }
    return err;
}

int perf_send(struct perf_link *link, const void *from, size_t bytes, struct ivshm_diag *diag)
{
    return bytes > IVSHM_EAGER_MAX ? send_large(link, from, bytes, diag)
                                   : send_eager(link, from, bytes, diag);
}

int perf_receive(struct perf_link *link, void *to, size_t bytes, struct ivshm_diag *diag)
{
    return bytes > IVSHM_EAGER_MAX ? receive_large(link, to, bytes, diag)
                                   : receive_eager(link, to, bytes, diag);
}

/* Finding each other */

int perf_link_open(struct perf_link *link, bool is_server, struct ivshm_diag *diag)
{
    link->activity = "start";
    int err =
        ivshm_transport_open(&link->transport, link->region, link->job, is_server ? 0 : 1, 2, diag);
    if (!err)
        ivshm_transport_choose(&link->transport, -1, -1);
    return err;
}

const char *perf_option(const struct perf_link *link, uint64_t bytes)
{
    enum ivshm_choice_kind kind =
        bytes > IVSHM_EAGER_MAX ? IVSHM_CHOICE_PIPELINE : IVSHM_CHOICE_EAGER;
    return strcmp(link->path, "slot") == 0
               ? "-"
               : ivshm_choice_name(ivshm_channel_usual(link->channel, kind, bytes));
}

void perf_link_close(struct perf_link *link)
{
    /* With the endpoint goes all that it holds. */
    ivshm_transport_close(&link->transport);
}

/* Makes `in`'s sender the other side, if it is a client whose extent exists. */
static bool accept_client(struct perf_link *link, struct ivshm_incoming *in, void **extent,
                          uint64_t *bytes)
{
    struct ivshm_owner peer = ivshm_channel_peer(in->channel);
    struct perf_note note, welcome = {.kind = PERF_WELCOME, .arg = PERF_VERSION};
    void *address;
    if (!read_note(in, &note, &link->there) || note.kind != PERF_HELLO)
        return false;
    if (note.arg != PERF_VERSION ||
        !(address = ivshm_region_resolve(link->region, note.off, note.bytes)) ||
        !ivshm_extent_owned(link->region, peer, IVSHM_KIND_USER, note.off, note.bytes)) {
        refuse_note(link, peer, &note);
        return false;
    }
    if (ivshm_channel_open(&link->transport, peer, &link->channel, NULL) != 0)
        return false;
    if (!try_note(link, link->channel, &welcome)) {
        ivshm_channel_close(&link->transport, link->channel);
        link->channel = NULL;
        return false;
    }
    *extent = address;
    *bytes = note.bytes;
    return true;
}

int perf_link_accept(struct perf_link *link, void **extent, uint64_t *bytes,
                     struct ivshm_diag *diag)
{
    uint64_t deadline = tool_now_ns() + link->timeout * SECOND;
    while (!tool_was_interrupted() && tool_now_ns() < deadline) {
        struct ivshm_incoming in;
        int got = ivshm_transport_receive(&link->transport, &in, NULL);
        if (got > 0 && accept_client(link, &in, extent, bytes))
            return 0;
        ivshm_transport_flush(&link->transport);
        watch_region(link);
        tool_short_nap();
    }
    if (tool_was_interrupted())
        return report_interrupt(diag);
    return ivshm_diag_fail(
        diag, ETIMEDOUT,
        "the other side did not come within %u s: run `ivshmem perf` there, with the same --name "
        "if there is one; if it is waiting too, the two sides use different regions: the id here "
        "is %s, compare it with `ivshmem info` there",
        link->timeout, tool_id(link->region));
}

static bool is_server(const struct perf_link *link, uint32_t index, struct ivshm_owner *owner)
{
    return tool_is_side(link->region, index, link->job, 0, owner);
}

/* Waits for the answer to a proposal; -EAGAIN if it is no, or the server has gone. */
static int await_welcome(struct perf_link *link, struct ivshm_diag *diag)
{
    struct ivshm_incoming in;
    struct perf_note note;
    int err = next_message(link, &in, diag);
    if (err)
        return err == -ESHUTDOWN ? -EAGAIN : err;
    if (!read_note(&in, &note, &link->there))
        return report_nonsense(link, diag);
    if (note.arg != PERF_VERSION)
        return ivshm_diag_fail(diag, EPROTONOSUPPORT,
                               "the other side's ivshmem measures by version %u, this one by "
                               "version %d: run the same release on both sides",
                               note.arg, PERF_VERSION);
    if (note.kind == PERF_BUSY)
        return -EAGAIN;
    return note.kind == PERF_WELCOME ? 0 : report_nonsense(link, diag);
}

static int propose_to(struct perf_link *link, struct ivshm_owner server,
                      const struct perf_note *hello, struct ivshm_diag *diag)
{
    if (ivshm_channel_open(&link->transport, server, &link->channel, NULL) != 0)
        return -EAGAIN;
    int err = try_note(link, link->channel, hello) ? await_welcome(link, diag) : -EAGAIN;
    if (err) {
        ivshm_channel_close(&link->transport, link->channel);
        link->channel = NULL;
    }
    return err;
}

int perf_link_connect(struct perf_link *link, ivshm_off extent, uint64_t bytes, pid_t child,
                      struct ivshm_diag *diag)
{
    const struct perf_note hello = {
        .kind = PERF_HELLO, .arg = PERF_VERSION, .bytes = bytes, .off = extent};
    uint64_t deadline = tool_now_ns() + link->timeout * SECOND;
    bool was_busy = false;
    while (!tool_was_interrupted() && tool_now_ns() < deadline) {
        struct ivshm_owner owner;
        for (uint32_t i = 0; i < ivshm_region_endpoints(link->region); i++) {
            int err = is_server(link, i, &owner) ? propose_to(link, owner, &hello, diag) : -EAGAIN;
            if (err != -EAGAIN)
                return err;
        }
        siginfo_t ended = {0};
        if (child && waitid(P_PID, (id_t) child, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
            ended.si_pid == child)
            return ivshm_diag_fail(diag, ESHUTDOWN, "the other side, process %d, has ended",
                                   (int) child);
        watch_region(link);
        for (int i = 0; i < 10 && !tool_was_interrupted(); i++)
            tool_short_nap();
    }
    if (tool_was_interrupted())
        return report_interrupt(diag);
    for (uint32_t i = 0; i < ivshm_region_endpoints(link->region); i++)
        was_busy |= is_server(link, i, &(struct ivshm_owner){0});
    if (was_busy)
        return ivshm_diag_fail(diag, ETIMEDOUT,
                               "each `ivshmem perf --serve` on region %s served somebody else for "
                               "%u s: run one more, and give the pairs different names by --name",
                               ivshm_region_name(link->region), link->timeout);
    return ivshm_diag_fail(
        diag, ETIMEDOUT,
        "no `ivshmem perf --serve` came within %u s: run it on the other side, with the same "
        "--name if there is one; if it is waiting there, the two sides use different regions: the "
        "id here is %s, compare it with `ivshmem info` there",
        link->timeout, tool_id(link->region));
}
