/* SPDX-License-Identifier: mpich2 */
/*
 * within [-p PACKETS] [-t SECONDS] [-s SEED] [-j WORKERS] [-n ONE-SEED] [-d DIR]
 *
 * An MPI job whose rank 0 is attacked from within. The others bring rank 0 into as many states as
 * possible (sends that wait for an answer, receives, all kinds of windows in all kinds of epochs,
 * other jobs, an open port, collectives in progress) and then sleep. Rank 0 forks children. Each
 * child has a private copy of the region. While it makes MPI calls, a double of
 * ivshm_transport_receive delivers packets that nobody has sent. So each child tries some packets
 * in a state that real communication has led to, with the real netmod and CH3.
 *
 * A child must end without a signal, a report of AddressSanitizer, an assertion or an endless loop.
 * What does not concern the child's attackers must not have changed: requests that wait for others,
 * and the memory of windows that the attackers do not belong to. Strangers, who belong to no job,
 * must not have changed anything.
 *
 * Everything is made from a seed: -n runs one child again, and prints what it received.
 */
#define _GNU_SOURCE
#include "packets.h"
#include "ivshmem_outstanding.h"
#include "ivshmem_poll.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    SPAWNED = 2,
    STRANGERS = 4,
    ATTACKERS_MAX = 40,
    LARGE = 100000, /* bytes of a rendezvous */
    ATTACHED = 512,
    BIG = 400000, /* a window for accumulates that come in parts */
    SMALL = 64,
    PATIENCE = 40, /* progress calls without a packet: then a call waits lawfully */
    EXIT_VIOLATION = 97,
    EXIT_LOOP = 98,
    CPU_SECONDS = 6, /* of a child that makes no progress call */
};

enum relation { RANK, CONNECTED, STRANGER };

static struct attacker {
    enum relation relation;
    MPIDI_VC_t *vc;
    struct ivshm_channel *channel;
    char name[80];
} attackers[ATTACKERS_MAX];
static int attacker_count, first_stranger, first_connected;
static struct known known;
static char *attached; /* to the dynamic window */

static struct {
    MPI_Comm world, dup, sub, inter, merged;
    int rank, size;
    char port[MPI_MAX_PORT_NAME];
    int port_tag;
    MPI_Message message;
} job;

/* What must change only because of the attacker that it depends on. */
static struct {
    MPIR_Request *req;
    MPI_Request handle;
    int attacker;
    char what[40];
} watched[400];
static int watched_count;
static char *window_copy[16];

/* Shared by all children. */
static struct shared {
    atomic_ullong packets, taken, children, waiting, sent[PACKET_TYPES + 1],
        accepted[PACKET_TYPES + 1];
} * shared;

/* Of one child. */
static struct {
    bool active;
    struct random r;
    bool by[ATTACKERS_MAX]; /* who attacks */
    bool ended[ATTACKERS_MAX];
    int lawful, left, idle;
    const int *script;
    int script_attacker, script_window;
    MPI_Request script_request;
    struct packet packet;
    int attacker, at; /* who sends, and how much of it has been delivered */
    bool partly;
    uint32_t stream;
    /* Of a recorded call to a port: the next message, or -1; the changed one; the caller. */
    int replay, changed, caller;
    unsigned char *payload;
    int len;
    bool fickle; /* what it has sent changes while it is read */
    bool closes; /* it ends connections itself */
} child = {.replay = -1};
static char *log_text; /* of the child, shared with its parent */
enum { LOG_MAX = 1 << 16 };
static size_t log_len;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (log_len < LOG_MAX - 1) {
        log_len += (size_t) vsnprintf(log_text + log_len, LOG_MAX - log_len, format, args);
        log_len = MPL_MIN(log_len, LOG_MAX - 1);
    }
    va_end(args);
}

static void end_child(int code)
{
    fflush(NULL);
    /* The line counters are written at exit. */
    if (getenv("HOSTILE_COVERAGE") && code == 0 && rnd(&child.r, 16) == 0)
        exit(0);
    _exit(code);
}

static void violation(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void violation(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "VIOLATION: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    end_child(EXIT_VIOLATION);
    _exit(EXIT_VIOLATION);
}

/* What was received on streams during setup: calls to ports, as they are. */
static struct {
    uint32_t len;
    int tag;
    unsigned char bytes[1600];
} calls[64];
static int call_count;

static bool attacks(enum relation relation)
{
    for (int i = 0; i < attacker_count; i++)
        if (child.by[i] && attackers[i].relation == relation)
            return true;
    return false;
}

static bool strangers_only(void)
{
    return !attacks(RANK) && !attacks(CONNECTED);
}

/* All that can be checked after any packet. */
static void check(void)
{
    if (child.closes)
        return;
    for (int i = 0; i < watched_count; i++) {
        MPIR_Request *req = watched[i].req;
        if (child.by[watched[i].attacker])
            continue;
        if (MPIR_Object_get_ref(req) <= 0 || req->handle != watched[i].handle)
            violation("%s with %s was freed", watched[i].what, attackers[watched[i].attacker].name);
        if (MPIR_Request_is_complete(req) &&
            (strangers_only() || req->status.MPI_ERROR == MPI_SUCCESS))
            violation("%s with %s is complete", watched[i].what,
                      attackers[watched[i].attacker].name);
    }
    for (int w = 0; w < known.windows; w++) {
        bool member = false;
        for (int i = 0; i < attacker_count; i++)
            member |= child.by[i] && known.window[w].members[i];
        if (!member &&
            memcmp(known.window[w].base, window_copy[w], (size_t) known.window[w].size) != 0)
            violation("window %d was changed by none of its ranks", w);
    }
    if (strangers_only())
        for (int i = 0; i < first_stranger; i++)
            if (attackers[i].vc->state != MPIDI_VC_STATE_ACTIVE ||
                VC_IVSHMEM(attackers[i].vc)->channel != attackers[i].channel)
                violation("strangers have ended the connection with %s", attackers[i].name);
}

static bool is_ended(int i)
{
    if (attackers[i].relation == STRANGER)
        return false;
    return !VC_IVSHMEM(attackers[i].vc)->channel || VC_IVSHMEM(attackers[i].vc)->failure;
}

static int some_attacker(void)
{
    int first = (int) rnd(&child.r, (uint64_t) attacker_count);
    for (int n = 0; n < attacker_count; n++) {
        int i = (first + n) % attacker_count;
        if (child.by[i] && !is_ended(i))
            return i;
    }
    return -1;
}

static const int sequences[][8] = {
    {MPIDI_CH3_PKT_LOCK, MPIDI_CH3_PKT_PUT, MPIDI_CH3_PKT_UNLOCK, MPIDI_CH3_PKT_UNLOCK, -1},
    {MPIDI_CH3_PKT_LOCK, MPIDI_CH3_PKT_LOCK, MPIDI_CH3_PKT_UNLOCK, MPIDI_CH3_PKT_UNLOCK,
     MPIDI_CH3_PKT_FLUSH, -1},
    {MPIDI_CH3_PKT_LOCK_ACK, MPIDI_CH3_PKT_LOCK_ACK, MPIDI_CH3_PKT_ACK, MPIDI_CH3_PKT_ACK, -1},
    {MPIDI_CH3_PKT_LOCK_OP_ACK, MPIDI_CH3_PKT_ACK, MPIDI_CH3_PKT_ACK, -1},
    {MPIDI_CH3_PKT_ACK, MPIDI_CH3_PKT_ACK, MPIDI_CH3_PKT_ACK, -1},
    {MPIDI_CH3_PKT_DECR_AT_COUNTER, MPIDI_CH3_PKT_DECR_AT_COUNTER, MPIDI_CH3_PKT_PUT, -1},
    {MPIDI_NEM_PKT_LMT_RTS, MPIDI_NEM_PKT_LMT_DONE, MPIDI_NEM_PKT_LMT_DONE, -1},
    {MPIDI_NEM_PKT_LMT_CTS, MPIDI_NEM_PKT_LMT_DONE, MPIDI_NEM_PKT_LMT_DONE, -1},
    {MPIDI_NEM_PKT_LMT_CTS, MPIDI_NEM_PKT_LMT_CTS, MPIDI_NEM_PKT_LMT_DONE, -1},
    {MPIDI_NEM_PKT_LMT_DONE, MPIDI_NEM_PKT_LMT_CTS, -1},
    {MPIDI_NEM_PKT_LMT_RTS, MPIDI_CH3_PKT_CANCEL_SEND_REQ, MPIDI_NEM_PKT_LMT_DONE, -1},
    {MPIDI_CH3_PKT_EAGER_SYNC_ACK, MPIDI_CH3_PKT_EAGER_SYNC_ACK, MPIDI_CH3_PKT_CANCEL_SEND_RESP,
     -1},
    {MPIDI_CH3_PKT_CANCEL_SEND_RESP, MPIDI_CH3_PKT_EAGER_SYNC_ACK, MPIDI_CH3_PKT_CANCEL_SEND_RESP,
     -1},
    {MPIDI_CH3_PKT_CANCEL_SEND_RESP, MPIDI_NEM_PKT_LMT_CTS, MPIDI_NEM_PKT_LMT_DONE, -1},
    {MPIDI_CH3_PKT_EAGER_SYNC_SEND, MPIDI_CH3_PKT_CANCEL_SEND_REQ, MPIDI_CH3_PKT_CANCEL_SEND_REQ,
     -1},
    {MPIDI_CH3_PKT_CLOSE, MPIDI_CH3_PKT_EAGER_SEND, MPIDI_CH3_PKT_CLOSE, MPIDI_CH3_PKT_CLOSE, -1},
    {MPIDI_CH3_PKT_CLOSE, MPIDI_CH3_PKT_CLOSE, MPIDI_CH3_PKT_PUT, -1},
    {MPIDI_CH3_PKT_GET_RESP, MPIDI_CH3_PKT_GET_RESP, MPIDI_CH3_PKT_GET_RESP_IMMED, -1},
    {MPIDI_CH3_PKT_GET_ACCUM_RESP, MPIDI_CH3_PKT_GET_ACCUM_RESP_IMMED, MPIDI_CH3_PKT_FOP_RESP, -1},
    {MPIDI_CH3_PKT_ACCUMULATE, MPIDI_CH3_PKT_ACCUMULATE, MPIDI_CH3_PKT_FLUSH, -1},
    {MPIDI_CH3_PKT_GET_ACCUM, MPIDI_CH3_PKT_GET, MPIDI_CH3_PKT_FLUSH, MPIDI_CH3_PKT_UNLOCK, -1},
    {MPIDI_CH3_PKT_LOCK, MPIDI_CH3_PKT_GET, MPIDI_CH3_PKT_ACCUMULATE, MPIDI_CH3_PKT_UNLOCK,
     MPIDI_CH3_PKT_PUT, -1},
    {MPIDI_CH3_PKT_REVOKE, MPIDI_CH3_PKT_EAGER_SEND, MPIDI_CH3_PKT_REVOKE, -1},
    {MPIDI_CH3_PKT_CONN_ACK, MPIDI_CH3_PKT_ACCEPT_ACK, -1},
    {MPIDI_CH3_PKT_ACCEPT_ACK, MPIDI_CH3_PKT_EAGER_SEND, MPIDI_CH3_PKT_CLOSE, -1},
};

static bool answers(const char *what, int type)
{
    switch (type) {
    case MPIDI_CH3_PKT_EAGER_SYNC_ACK:
        return strcmp(what, "a synchronous send") == 0 || strcmp(what, "a cancelled send") == 0;
    case MPIDI_CH3_PKT_CANCEL_SEND_RESP:
        return strcmp(what, "a cancelled send") == 0;
    case MPIDI_NEM_PKT_LMT_CTS:
    case MPIDI_NEM_PKT_LMT_DONE:
        return strcmp(what, "a large send") == 0;
    default:
        return false;
    }
}

/* What this attacker might answer with that packet, most of the time, and about which window. */
static MPI_Request request_of(int attacker, int type, int *window)
{
    struct random *r = &child.r;
    int first = (int) rnd(r, (uint64_t) watched_count);
    MPIDI_VC_t *vc = attackers[attacker].vc;

    for (int tries = 0; tries < 200 && vc && rnd(r, 100); tries++) {
        MPI_Request handle = some_request(r, -1);
        if (!MPID_nem_ivshmem_outstanding_awaits(vc, handle, type))
            continue;
        MPIR_Request *req;
        MPIR_Request_get_ptr(handle, req);
        for (int w = 0; w < known.windows; w++)
            if (known.window[w].win->handle == req->dev.source_win_handle)
                *window = w + 1;
        return handle;
    }
    bool fits = rnd(r, 4) != 0;
    for (int n = 0; n < watched_count; n++) {
        int i = (first + n) % watched_count;
        MPIR_Request *req = watched[i].req;
        if (watched[i].attacker == attacker && MPIR_Object_get_ref(req) > 0 &&
            (!fits || answers(watched[i].what, type)))
            return req->handle;
    }
    return some_request(r, -1);
}

static void next_packet(void)
{
    struct random *r = &child.r;
    int type;

    if (child.script && (*child.script < 0 || is_ended(child.script_attacker)))
        child.script = NULL;
    if (!child.script && rnd(r, 4) == 0) {
        child.script = sequences[rnd(r, sizeof(sequences) / sizeof(sequences[0]))];
        child.script_attacker = child.attacker;
        child.script_window = 1 + (int) rnd(r, (uint64_t) known.windows);
        child.script_request = request_of(child.attacker, *child.script, &child.script_window);
    }
    int window = 0;
    MPI_Request request = 0;
    if (child.script) {
        child.attacker = child.script_attacker;
        type = *child.script++;
        window = child.script_window;
        request = child.script_request;
    } else {
        type = rnd(r, 50) ? (int) rnd(r, PACKET_TYPES) : (int) rnd(r, 0);
        if ((type == MPIDI_CH3_PKT_CLOSE || type == MPIDI_CH3_PKT_REVOKE) && rnd(r, 4))
            type = (int) rnd(r, PACKET_TYPES); /* little comes after these */
        if ((int) rnd(r, 100) < child.lawful)
            request = request_of(child.attacker, type, &window);
    }
    packet_make(r, &known, child.attacker, type, child.lawful, window, request, &child.packet);
}

/* Where nothing may be trusted: a number in what follows the header, or any bytes. */
static void change(unsigned char *bytes, int len)
{
    static const int edges[] = {0, -1, 1, 2, 3, 1 << 24, 1 << 29, INT_MAX, INT_MIN};
    struct random *r = &child.r;
    int value = edges[rnd(r, sizeof(edges) / sizeof(edges[0]))];
    int header = (int) MPL_MIN(sizeof(MPIDI_CH3_Pkt_send_t), (size_t) len);

    if (rnd(r, 2) && len - header >= 4) {
        memcpy(bytes + header + rnd(r, (uint64_t) (len - header) / 4) * 4, &value, 4);
        return;
    }
    for (uint64_t i = 1 + rnd(r, 3); i > 0; i--)
        bytes[rnd(r, (uint64_t) len)] = (unsigned char) (rnd(r, 2)   ? rnd(r, 256)
                                                         : rnd(r, 2) ? 0
                                                                     : 0xff);
}

/*
 * A recorded call to a port of ours, by another caller, and with one of its messages changed. The
 * other messages lead to where that one is used.
 */
static int next_of_call(unsigned char *bytes)
{
    struct random *r = &child.r;
    int n = child.replay++, len = (int) calls[n].len;

    if (child.replay >= call_count)
        child.replay = -1;
    memcpy(bytes, calls[n].bytes, (size_t) len);
    if (len >= (int) sizeof(MPIDI_CH3_Pkt_send_t)) {
        MPIDI_CH3_Pkt_send_t send;
        memcpy(&send, bytes, sizeof(send));
        if (send.type == MPIDI_CH3_PKT_EAGERSHORT_SEND || send.type == MPIDI_CH3_PKT_EAGER_SEND) {
            /* The context is derived from the port's tag. */
            int offset = (int) send.match.parts.context_id -
                         MPIR_CONTEXT_SET_FIELD(DYNAMIC_PROC, calls[n].tag, 1);
            send.match.parts.context_id =
                (MPIR_Context_id_t) (MPIR_CONTEXT_SET_FIELD(DYNAMIC_PROC, job.port_tag, 1) +
                                     offset);
            memcpy(bytes, &send, sizeof(send));
        }
    }
    if (len > 0 && (n == child.changed || rnd(r, 20) == 0))
        change(bytes, len);
    return len;
}

/* A rank's own connection, or a call to a port, which may be open. */
static uint32_t some_stream(void)
{
    struct random *r = &child.r;
    bool is_stranger = attackers[child.attacker].relation == STRANGER;

    if (is_stranger ? rnd(r, 4) == 0 : rnd(r, 30) != 0)
        return 0;
    uint32_t tag = rnd(r, 4) ? (uint32_t) job.port_tag : (uint32_t) rnd(r, 0x8000);
    uint32_t stream = tag << 16 | (uint32_t) rnd(r, 4);
    if (rnd(r, 10) == 0)
        stream |= UINT32_C(1) << 31;
    return stream == IVSHM_STREAM_RING || stream == 0 ? 5 : stream;
}

/* Replaces core's, once the attack is on. */
int ivshm_transport_receive(struct ivshm_transport *t, struct ivshm_incoming *in,
                            struct ivshm_diag *diag)
{
    static int (*real)(struct ivshm_transport *, struct ivshm_incoming *, struct ivshm_diag *);
    static unsigned char bytes[1600];

    if (!real)
        real = (int (*)(struct ivshm_transport *, struct ivshm_incoming *,
                        struct ivshm_diag *)) dlsym(RTLD_NEXT, "ivshm_transport_receive");
    if (!child.active) {
        int got = real(t, in, diag);
        if (got == 1 && in->stream && !(in->stream >> 31) && call_count < 64 &&
            in->len <= sizeof(calls[0].bytes)) {
            calls[call_count].len = in->len;
            calls[call_count].tag = (int) (in->stream >> 16 & 0x7fff);
            memcpy(calls[call_count++].bytes, in->payload, in->len);
        }
        if (got == 1 && !in->stream && in->len >= sizeof(MPID_nem_pkt_lmt_cts_t) &&
            known.cookies < 64) {
            MPIDI_CH3_Pkt_type_t type;
            memcpy(&type, in->payload, sizeof(type));
            if ((type == MPIDI_NEM_PKT_LMT_RTS || type == MPIDI_NEM_PKT_LMT_CTS) &&
                in->len >= sizeof(MPIDI_CH3_Pkt_t) + sizeof(MPID_nem_ivshmem_cookie_t)) {
                known.cookie[known.cookies].attacker =
                    (int) in->channel->peer.endpoint; /* for now */
                memcpy(&known.cookie[known.cookies++].cookie, in->payload + sizeof(MPIDI_CH3_Pkt_t),
                       sizeof(MPID_nem_ivshmem_cookie_t));
            }
        }
        return got;
    }

    child.payload = NULL;
    if (child.packet.header_len > 0 && !child.partly) {
        if (child.stream == 0 && attackers[child.attacker].relation != STRANGER &&
            !is_ended(child.attacker))
            atomic_fetch_add(
                &shared->accepted[child.packet.type >= 0 && child.packet.type < PACKET_TYPES
                                      ? child.packet.type
                                      : PACKET_TYPES],
                1);
        child.packet.header_len = 0;
    }
    if (child.idle == 0)
        check();
    if (child.left <= 0) {
        if (++child.idle > PATIENCE) {
            atomic_fetch_add(&shared->waiting, 1);
            end_child(0);
        }
        return 0;
    }
    /* A call may do something of its own between two packets. */
    if (child.idle < 3 && rnd(&child.r, 3) == 0) {
        child.idle++;
        return 0;
    }
    child.idle = 0;

    int len;
    const unsigned char *from;
    if (child.partly && is_ended(child.attacker)) {
        child.partly = false;
        child.packet.header_len = 0;
    }
    bool of_call = false;
    if (!child.partly) {
        of_call = child.replay >= 0 && rnd(&child.r, 8) != 0;
        child.attacker = of_call ? child.caller : some_attacker();
        if (child.attacker < 0) {
            child.left = 0;
            return 0;
        }
        child.left--;
        atomic_fetch_add(&shared->packets, 1);
        child.stream = of_call ? (uint32_t) job.port_tag << 16 | 1 : some_stream();
        if (child.stream && child.replay < 0 && call_count && rnd(&child.r, 3) == 0) {
            child.replay = 0;
            child.changed = (int) rnd(&child.r, (uint64_t) call_count);
            child.caller = child.attacker;
        }
    }
    if (of_call) {
        len = next_of_call(bytes);
        from = bytes;
        child.packet.header_len = 0;
        say("%s, stream %#x: message of a call, %d bytes\n", attackers[child.attacker].name,
            child.stream, len);
    } else {
        static unsigned char whole[sizeof(MPIDI_CH3_Pkt_t) + TRAILING_MAX];
        if (!child.partly) {
            next_packet();
            char text[1000];
            packet_print(&child.packet, text, sizeof(text));
            say("%s, stream %#x: %s\n", attackers[child.attacker].name, child.stream, text);
            memcpy(whole, &child.packet.header, sizeof(MPIDI_CH3_Pkt_t));
            memcpy(whole + child.packet.header_len, child.packet.trailing,
                   (size_t) child.packet.trailing_len);
            child.at = 0;
            atomic_fetch_add(
                &shared->sent[child.packet.type >= 0 && child.packet.type < PACKET_TYPES
                                  ? child.packet.type
                                  : PACKET_TYPES],
                1);
        }
        int all = child.packet.header_len + child.packet.trailing_len;
        len = all - child.at;
        int most = (int) MPID_nem_ivshmem.region.geo.buffer_size;
        if (len > most)
            len = most;
        if (len > child.packet.header_len && rnd(&child.r, 6) == 0)
            len = child.packet.header_len +
                  (int) rnd(&child.r, (uint64_t) (len - child.packet.header_len));
        from = whole + child.at;
        child.at += len;
        child.partly = child.at < all && len > 0;
    }
    /* Of exactly that size, so that reading beyond it is noticed. */
    child.payload = malloc((size_t) MPL_MAX(len, 1));
    memcpy(child.payload, from, (size_t) len);
    child.len = len;
    *in = (struct ivshm_incoming){.channel = attackers[child.attacker].channel,
                                  .payload = child.payload,
                                  .len = (uint32_t) len,
                                  .stream = child.stream};
    return 1;
}

/* A peer can change what it has sent at any time, even between the check and the use. */
const char *MPID_nem_ivshmem_packet_check_all(MPIDI_VC_t *vc, MPIDI_CH3_Pkt_t *pkt, size_t len,
                                              bool *hold)
{
    static const char *(*real)(MPIDI_VC_t *, MPIDI_CH3_Pkt_t *, size_t, bool *);

    if (!real)
        real = (const char *(*) (MPIDI_VC_t *, MPIDI_CH3_Pkt_t *, size_t, bool *) ) dlsym(
            RTLD_NEXT, "MPID_nem_ivshmem_packet_check_all");
    const char *why = real(vc, pkt, len, hold);
    if (child.active && child.fickle && !why)
        for (uint64_t n = rnd(&child.r, 4); n > 0 && child.len >= 4; n--) {
            int value = (int) rnd(&child.r, 2) ? (int) rnd(&child.r, 0) : -(int) rnd(&child.r, 2);
            memcpy(child.payload + rnd(&child.r, (uint64_t) child.len / 4) * 4, &value, 4);
        }
    return why;
}

void ivshm_message_release(struct ivshm_incoming *in)
{
    static void (*real)(struct ivshm_incoming *);

    if (child.active) {
        free((void *) in->payload);
        return;
    }
    if (!real)
        real = (void (*)(struct ivshm_incoming *)) dlsym(RTLD_NEXT, "ivshm_message_release");
    real(in);
}

/*
 * The calls that children make; some of them wait. Whether they fail matters only with strangers.
 */

static void must(int err, const char *what)
{
    char text[2 * MPI_MAX_ERROR_STRING]; /* MPICH reads beyond what it may fill */
    int len;

    if (err == MPI_SUCCESS || !strangers_only())
        return;
    MPI_Error_string(err, text, &len);
    violation("strangers made %s fail: %s", what, text);
}

static void make_progress(void)
{
    int flag;
    MPI_Status status;
    for (int i = 0; i < 60 && child.left > 0; i++)
        must(MPI_Iprobe(MPI_ANY_SOURCE, 7777, MPI_COMM_SELF, &flag, &status), "MPI_Iprobe");
}

static int some_rank(void)
{
    return 1 + (int) rnd(&child.r, (uint64_t) job.size - 1);
}

static MPI_Win window_of(int w)
{
    return known.window[w].win->handle;
}

static char buffer[1 << 18];

static void act(void)
{
    struct random *r = &child.r;
    MPI_Request req = MPI_REQUEST_NULL;
    MPI_Comm comm;
    MPI_Message message;
    MPI_Status status;
    int value = 1, sum = 0, w = (int) rnd(r, (uint64_t) known.windows), rank = some_rank();

    int what = (int) rnd(r, 40);
    say("call %d, window %d, rank %d\n", what, w, rank);
    switch (what) {
    case 0:
        MPI_Recv(buffer, 64, MPI_BYTE, MPI_ANY_SOURCE, MPI_ANY_TAG, job.world, &status);
        break;
    case 1:
        MPI_Recv(buffer, sizeof(buffer), MPI_BYTE, rank, MPI_ANY_TAG, job.dup, &status);
        break;
    case 2:
        MPI_Ssend(buffer, 100, MPI_BYTE, rank, 3, job.world);
        break;
    case 3:
        MPI_Send(buffer, LARGE, MPI_BYTE, rank, 3, job.world);
        break;
    case 4:
        MPI_Barrier(rnd(r, 2) ? job.dup : job.sub);
        break;
    case 5:
        MPI_Allreduce(&value, &sum, 1, MPI_INT, MPI_SUM, rnd(r, 2) ? job.dup : job.sub);
        break;
    case 6:
        MPI_Win_flush_all(window_of(0));
        break;
    case 7:
        MPI_Win_unlock_all(window_of(0));
        break;
    case 8:
        MPI_Win_fence(0, window_of(1));
        break;
    case 9:
        MPI_Win_complete(window_of(2));
        break;
    case 10:
        MPI_Win_wait(window_of(2));
        break;
    case 11:
        MPI_Win_unlock(1 + (int) rnd(r, 3), window_of(3));
        break;
    case 12:
        MPI_Win_flush(rank, window_of(4));
        break;
    case 13:
        MPI_Win_free(&(MPI_Win){window_of(w)});
        break;
    case 14:
        MPI_Win_lock(rnd(r, 2) ? MPI_LOCK_SHARED : MPI_LOCK_EXCLUSIVE, 1, 0, window_of(7));
        MPI_Put(buffer, 8, MPI_BYTE, 1, 0, 8, MPI_BYTE, window_of(7));
        MPI_Win_unlock(1, window_of(7));
        break;
    case 15:
    case 16:
        if (job.port[0])
            MPI_Comm_accept(job.port, MPI_INFO_NULL, 0, MPI_COMM_SELF, &comm);
        break;
    case 17:
        if (job.port[0])
            must(MPI_Close_port(job.port), "MPI_Close_port");
        job.port[0] = 0;
        break;
    case 18:
        child.closes = true;
        MPI_Comm_disconnect(&(MPI_Comm){job.inter});
        break;
    case 19:
        child.closes = true;
        MPI_Finalize();
        end_child(0);
        break;
    case 20:
        MPI_Comm_dup(job.dup, &comm);
        break;
    case 21:
        MPI_Mprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, job.world, &message, &status);
        MPI_Mrecv(buffer, 1000, MPI_BYTE, &message, &status);
        break;
    case 22:
        if (job.message != MPI_MESSAGE_NULL)
            MPI_Mrecv(buffer, sizeof(buffer), MPI_BYTE, &(MPI_Message){job.message}, &status);
        break;
    case 23:
        MPI_Issend(buffer, 10, MPI_BYTE, rank, 4, job.world, &req);
        make_progress();
        MPI_Cancel(&req);
        MPI_Wait(&req, &status);
        break;
    case 24:
        MPI_Isend(buffer, LARGE, MPI_BYTE, rank, 4, job.world, &req);
        make_progress();
        MPI_Cancel(&req);
        MPI_Wait(&req, &status);
        break;
    case 25:
        MPI_Irecv(buffer, 1000, MPI_BYTE, rank, MPI_ANY_TAG, job.world, &req);
        make_progress();
        MPI_Cancel(&req);
        MPI_Wait(&req, &status);
        break;
    case 26:
        MPI_Rget(buffer, 16, MPI_INT, rank, 0, 16, MPI_INT, window_of(0), &req);
        make_progress();
        MPI_Wait(&req, &status);
        break;
    case 27:
        MPI_Rget_accumulate(buffer, 16, MPI_INT, buffer + 4096, 16, MPI_INT, rank, 0, 16, MPI_INT,
                            MPI_SUM, window_of(0), &req);
        make_progress();
        MPI_Wait(&req, &status);
        break;
    case 28:
        child.closes = true;
        MPIX_Comm_revoke(job.dup);
        break;
    case 30:
        MPI_Recv(buffer, sizeof(buffer), MPI_BYTE, 0, MPI_ANY_TAG, job.inter, &status);
        break;
    case 31:
        MPI_Bcast(buffer, 1000, MPI_BYTE, 1, job.dup);
        break;
    case 32:
        if (job.port[0])
            MPI_Comm_connect(job.port, MPI_INFO_NULL, 0, MPI_COMM_SELF, &comm);
        break;
    default:
        make_progress();
    }
}

static void run_child(uint64_t seed)
{
    struct random *r = &child.r;
    MPI_Status status;
    int flag;

    r->state = seed * UINT64_C(0x9e3779b97f4a7c15) + 0x1234567;
    for (int i = 0; i < 4; i++)
        rnd(r, 0);
    log_len = 0;
    child.lawful = ((int[]){100, 100, 97, 90, 70, 40})[rnd(r, 6)];
    child.left = 1 + (int) rnd(r, UINT64_C(16) << rnd(r, 5)); /* some continue for long */
    child.fickle = rnd(r, 4) == 0;
    uint64_t who = rnd(r, 8);
    for (int i = 0; i < attacker_count; i++)
        child.by[i] = who < 4 || (who < 6 && i >= first_stranger);
    if (who >= 6)
        child
            .by[who == 6 ? rnd(r, (uint64_t) first_connected) : rnd(r, (uint64_t) first_stranger)] =
            true;
    MPIR_CVAR_ENABLE_FT = (int) rnd(r, 2);
    say("seed %llu, %d %% lawful,%s %s\n", (unsigned long long) seed, child.lawful,
        child.fickle ? " changing," : "",
        who < 4   ? "from all"
        : who < 6 ? "from strangers"
                  : "from one");
    child.active = true;
    for (uint64_t n = rnd(r, 4); n > 0; n--) {
        make_progress();
        act();
    }
    while (child.left > 0)
        make_progress();
    for (int n = 0; n < 4; n++) { /* a call that fails may do so later */
        child.idle = 0;
        MPI_Iprobe(MPI_ANY_SOURCE, 7777, MPI_COMM_SELF, &flag, &status);
    }
    check();
    end_child(0);
}

static void on_alarm(int sig)
{
    static const char text[] = "VIOLATION: it runs and runs\n";
    (void) sig;
    if (write(2, text, sizeof(text) - 1) > 0)
        __sanitizer_print_stack_trace();
    _exit(EXIT_LOOP);
}

/* What was found, by location. */
static struct finding {
    char where[300];
    unsigned long long count, seed;
} findings[200];
static int finding_count;

static void signature(const char *text, int status, char *where, size_t size)
{
    const char *at, *keys[] = {"VIOLATION: ", "Assertion failed in ",
                               "ERROR: AddressSanitizer: ", "Abort(", "Fatal error"};
    char what[160] = "";

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]) && !what[0]; i++)
        if ((at = strstr(text, keys[i])))
            snprintf(what, sizeof(what), "%.*s", (int) MPL_MIN(strcspn(at, "\n"), sizeof(what) - 1),
                     at);
    char *address = strstr(what, " 0x"); /* not twice the same */
    if (address)
        *address = 0;
    /* The location: the first frames in libmpi. */
    char frames[128] = "";
    int n = 0;
    for (at = text; (at = strstr(at, "\n    #")) && n < 3; at++) {
        const char *in = strstr(at, " in ");
        const char *end = in ? strchr(in + 1, '\n') : NULL;
        if (!end || strncmp(in + 4, "__", 2) == 0)
            continue;
        int len = (int) strcspn(in + 4, " \n");
        size_t used = strlen(frames);
        snprintf(frames + used, sizeof(frames) - used, " < %.*s", len, in + 4);
        n++;
    }
    if (!what[0])
        snprintf(what, sizeof(what), WIFSIGNALED(status) ? "signal %d" : "exit status %d",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    snprintf(where, size, "%s%s", what, frames);
}

static void report(uint64_t seed, int status, int err_fd, const char *dir)
{
    static char text[1 << 16];
    char where[300], name[300];

    ssize_t len = pread(err_fd, text, sizeof(text) - 1, 0);
    text[len > 0 ? len : 0] = 0;
    signature(text, status, where, sizeof(where));
    int i = 0;
    while (i < finding_count && strcmp(findings[i].where, where) != 0)
        i++;
    if (i == finding_count) {
        if (finding_count == sizeof(findings) / sizeof(findings[0]))
            return;
        snprintf(findings[finding_count].where, sizeof(findings[0].where), "%s", where);
        findings[finding_count++].seed = seed;
        snprintf(name, sizeof(name), "%s/seed-%llu", dir, (unsigned long long) seed);
        FILE *f = fopen(name, "w");
        if (f) {
            fprintf(f, "%s\n\n%s\n%s", where, log_text, text);
            fclose(f);
        }
    }
    findings[i].count++;
}

/*
 * When MPICH merges several errors, the result may end the process whatever the error handler; that
 * is still an orderly end.
 */
static bool is_fatal_error(int err_fd)
{
    static const char warning[] = "WARNING: AddressSanitizer failed to allocate";
    static char text[1 << 16];
    ssize_t len = pread(err_fd, text, sizeof(text) - 1, 0);

    text[len > 0 ? len : 0] = 0;
    const char *first = text, *line_end;
    /* It warns of requests that malloc may refuse. */
    while (strncmp(first, "==", 2) == 0 && (line_end = strchr(first, '\n')) &&
           memmem(first, (size_t) (line_end - first), warning, strlen(warning)))
        first = line_end + 1;
    return strncmp(first, "Fatal error in ", 15) == 0 && !strstr(first, "Assertion failed") &&
           !strstr(first, "AddressSanitizer");
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

/* A socket that listens, and that nobody can find. */
static int unknown_port(void)
{
    struct sockaddr_un any = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *) &any, sizeof(any.sun_family)) != 0 ||
        listen(fd, 1) != 0)
        abort();
    return fd;
}

/*
 * Whatever a child sends to the process manager or by tcp goes nowhere; nothing reaches it by tcp.
 */
static void cut_off(int null, int port, int kept)
{
    for (int fd = 3; fd < 64; fd++) {
        int listens = 0;
        socklen_t len = sizeof(listens);
        if (fd == kept || fcntl(fd, F_GETFD) == -1)
            continue;
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len);
        dup2(listens ? port : null, fd);
    }
}

/* Runs children, one after another; returns the number of findings. */
static int work(int worker, int workers, uint64_t seed, bool one, unsigned long long packets,
                double until, const char *dir)
{
    char name[] = "/tmp/hostile-stderr.XXXXXX";
    int err_fd = mkstemp(name);
    unlink(name);
    int null = open("/dev/null", O_RDWR), port = unknown_port();

    log_text = mmap(NULL, LOG_MAX, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (uint64_t n = seed + (uint64_t) worker;; n += (uint64_t) workers) {
        if (!one && (atomic_load(&shared->packets) >= packets || now() > until))
            break;
        log_text[0] = 0;
        if (ftruncate(err_fd, 0) != 0)
            break;
        lseek(err_fd, 0, SEEK_SET);
        pid_t pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            struct itimerval limit = {.it_value = {.tv_sec = CPU_SECONDS}};
            signal(SIGPROF, on_alarm);
            signal(SIGALRM, on_alarm);
            setitimer(ITIMER_PROF, &limit, NULL);
            alarm(180);
            if (!one)
                dup2(err_fd, 2);
            dup2(null, 1);
            cut_off(null, port, err_fd);
            run_child(n);
        }
        int status;
        while (waitpid(pid, &status, 0) == -1 && errno == EINTR)
            ;
        atomic_fetch_add(&shared->children, 1);
        if (one) {
            fprintf(stderr, "%s\nstatus %#x\n", log_text, status);
            return status != 0;
        }
        if (status != 0 && !(is_fatal_error(err_fd) && !strstr(log_text, "from strangers")))
            report(n, status, err_fd, dir);
    }
    if (finding_count) {
        char path[300];
        snprintf(path, sizeof(path), "%s/findings.%d", dir, worker);
        FILE *f = fopen(path, "w");
        for (int i = 0; f && i < finding_count; i++)
            fprintf(f, "%llu times, first by seed %llu: %s\n", findings[i].count, findings[i].seed,
                    findings[i].where);
        if (f)
            fclose(f);
    }
    return finding_count;
}

/* The job */

static void watch_request(MPI_Request handle, int attacker, const char *what)
{
    MPIR_Request *req;
    MPIR_Request_get_ptr(handle, req);
    if (MPIR_Request_is_complete(req))
        return;
    watched[watched_count].req = req;
    watched[watched_count].handle = handle;
    watched[watched_count].attacker = attacker;
    snprintf(watched[watched_count++].what, sizeof(watched[0].what), "%s", what);
}

static void know_window(MPI_Win handle, MPI_Comm comm)
{
    int w = known.windows++, size;
    MPIR_Win *win;
    MPIR_Comm *ptr;

    MPIR_Win_get_ptr(handle, win);
    MPIR_Comm_get_ptr(comm, ptr);
    known.window[w].win = win;
    known.window[w].base = win->base;
    known.window[w].size = win->size;
    MPI_Comm_size(comm, &size);
    for (int rank = 0; rank < size; rank++) {
        MPIDI_VC_t *vc;
        MPIDI_Comm_get_vc(ptr, rank, &vc);
        for (int i = 0; i < attacker_count; i++)
            if (attackers[i].vc && attackers[i].vc == vc) {
                known.window[w].members[i] = true;
                known.window[w].ranks[i] = rank;
            }
    }
    MPI_Win_set_errhandler(handle, MPI_ERRORS_RETURN);
}

static void know_comm(MPI_Comm comm)
{
    int c = known.comms++, size, is_inter;
    MPIR_Comm *ptr;

    MPIR_Comm_get_ptr(comm, ptr);
    known.comm[c].context = ptr->recvcontext_id;
    for (int i = 0; i < ATTACKERS_MAX; i++)
        known.comm[c].ranks[i] = -1;
    MPI_Comm_test_inter(comm, &is_inter);
    if (is_inter)
        MPI_Comm_remote_size(comm, &size);
    else
        MPI_Comm_size(comm, &size);
    for (int rank = 0; rank < size; rank++) {
        MPIDI_VC_t *vc;
        MPIDI_Comm_get_vc(ptr, rank, &vc);
        for (int i = 0; i < attacker_count; i++)
            if (attackers[i].vc == vc)
                known.comm[c].ranks[i] = rank;
    }
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
}

static void know_type(MPI_Datatype type)
{
    MPIR_Datatype *ptr;
    int n = known.types++, len;

    MPI_Type_commit(&type);
    MPIR_Datatype_get_ptr(type, ptr);
    MPIR_Typerep_flatten_size(ptr, &len);
    known.type[n].type = type;
    known.type[n].bytes = ptr->size;
    known.type[n].len = len;
    known.type[n].flattened = calloc(1, (size_t) len);
    MPIR_Typerep_flatten(ptr, known.type[n].flattened);
}

static void know_types(void)
{
    MPI_Datatype type, inner;

    MPI_Type_contiguous(4, MPI_INT, &type);
    know_type(type);
    MPI_Type_vector(3, 2, 4, MPI_INT, &type);
    know_type(type);
    inner = type;
    MPI_Type_create_hvector(2, 1, 64, inner, &type);
    know_type(type);
    MPI_Type_indexed(3, (int[]){1, 2, 1}, (int[]){5, 0, 9}, MPI_SHORT, &type);
    know_type(type);
    MPI_Type_create_struct(2, (int[]){1, 2}, (MPI_Aint[]){0, 16},
                           (MPI_Datatype[]){MPI_CHAR, MPI_DOUBLE}, &type);
    know_type(type);
    MPI_Type_create_resized(MPI_INT, -8, 24, &type);
    know_type(type);
}

/* Attackers are the job's ranks in order, then the spawned ones, then strangers. */
static void know_ranks(void)
{
    MPIR_Comm *ptr;

    for (int part = 0; part < 2; part++) {
        MPIR_Comm_get_ptr(part == 0 ? job.world : job.inter, ptr);
        for (int rank = part == 0; rank < (part == 0 ? job.size : SPAWNED); rank++) {
            struct attacker *a = &attackers[attacker_count++];
            MPIDI_Comm_get_vc(ptr, rank, &a->vc);
            a->relation = part == 0 ? RANK : CONNECTED;
            a->channel = VC_IVSHMEM(a->vc)->channel;
            snprintf(a->name, sizeof(a->name), "%srank %d", part ? "the other job's " : "", rank);
            if (!a->channel) {
                fprintf(stderr, "within: %s has no connection through the region\n", a->name);
                MPI_Abort(MPI_COMM_WORLD, 3);
            }
        }
        if (part == 0)
            first_connected = attacker_count;
    }
    first_stranger = attacker_count;
}

/* Records by endpoint who has sent which cookie. */
static void know_cookies(void)
{
    for (int c = 0; c < known.cookies; c++)
        for (int i = 0; i < attacker_count; i++)
            if ((int) attackers[i].channel->peer.endpoint == known.cookie[c].attacker) {
                known.cookie[c].attacker = i;
                break;
            }
}

/* Processes that join the region, under any name, and are of no job that rank 0 knows. */
static void know_strangers(void)
{
    static struct ivshm_transport transports[STRANGERS];
    static const char *const names[] = {"elsewhere", NULL, NULL, ""};
    MPID_nem_ivshmem_t *self = &MPID_nem_ivshmem;
    struct ivshm_diag diag = {""};

    for (int i = 0; i < STRANGERS; i++) {
        struct attacker *a = &attackers[attacker_count++];
        const char *name = names[i] ? names[i] : (const char *) MPIDI_Process.my_pg->id;
        if (ivshm_transport_open(&transports[i], &self->region, name, (uint32_t) (i < 2 ? 1 : 7000),
                                 (uint32_t) job.size, &diag) != 0 ||
            ivshm_channel_open(&self->transport, transports[i].endpoint.owner, &a->channel,
                               &diag) != 0) {
            fprintf(stderr, "within: a stranger cannot join: %s\n", diag.text);
            MPI_Abort(MPI_COMM_WORLD, 3);
        }
        a->relation = STRANGER;
        snprintf(a->name, sizeof(a->name), "a stranger under the name of '%.40s'", name);
    }
}

/* What each rank does; rank 0 is the victim. The others sleep afterwards. */
static void set_up(MPI_Comm parent, char **argv)
{
    static char out[64 * SMALL], in[LARGE], large[LARGE];
    MPI_Request req;
    MPI_Status status;
    MPI_Win win[9];
    MPI_Aint shared_size = 2048;
    void *base;
    int i, flag, victim;

    if (parent == MPI_COMM_NULL) {
        MPI_Comm_dup(MPI_COMM_WORLD, &job.world);
        MPI_Comm_spawn(argv[0], (char *[]){"--spawned", NULL}, SPAWNED, MPI_INFO_NULL, 0, job.world,
                       &job.inter, MPI_ERRCODES_IGNORE);
        MPI_Comm_rank(job.world, &job.rank);
        MPI_Comm_size(job.world, &job.size);
        MPI_Intercomm_merge(job.inter, 0, &job.merged);
        MPI_Comm_dup(job.world, &job.dup);
        MPI_Comm_split(job.world, job.rank < 3 ? 0 : 1, job.rank, &job.sub);
    } else {
        job.inter = parent;
        job.rank = -1;
        MPI_Intercomm_merge(job.inter, 1, &job.merged);
    }
    MPI_Comm_rank(job.merged, &victim);
    bool is_victim = victim == 0;
    MPI_Barrier(job.merged);

    /*
     * Each has talked with rank 0, and sent it something large, so that there are rings and
     * pipelines.
     */
    if (is_victim) {
        int all;
        MPI_Comm_size(job.merged, &all);
        for (i = 1; i < all; i++) {
            MPI_Recv(in, LARGE, MPI_BYTE, i, 1, job.merged, &status);
            for (int n = 0; n < 10; n++) {
                MPI_Send(out, SMALL, MPI_BYTE, i, 1, job.merged);
                MPI_Recv(in, SMALL, MPI_BYTE, i, 1, job.merged, &status);
            }
            MPI_Send(large, LARGE, MPI_BYTE, i, 1, job.merged);
        }
    } else {
        MPI_Send(large, LARGE, MPI_BYTE, 0, 1, job.merged);
        for (int n = 0; n < 10; n++) {
            MPI_Recv(in, SMALL, MPI_BYTE, 0, 1, job.merged, &status);
            MPI_Send(out, SMALL, MPI_BYTE, 0, 1, job.merged);
        }
        MPI_Recv(in, LARGE, MPI_BYTE, 0, 1, job.merged, &status);
    }
    if (is_victim) {
        know_ranks();
        know_comm(job.world);
        know_comm(job.dup);
        know_comm(job.sub);
        know_comm(job.inter);
        know_comm(job.merged);
        know_types();
    }

    /* Windows. Each is in memory from malloc, so that AddressSanitizer knows its limits. */
    MPI_Comm of[9] = {job.world, job.world,  job.sub, job.world, job.world,
                      job.sub,   job.merged, job.sub, job.world};
    bool is_sub = parent == MPI_COMM_NULL && job.rank < 3;
    for (i = 0; i < 9; i++) {
        bool mine = i == 6 || (parent == MPI_COMM_NULL && (of[i] != job.sub || is_sub));
        if (!mine)
            continue;
        if (i == 4) {
            MPI_Win_create_dynamic(MPI_INFO_NULL, of[i], &win[i]);
            attached = calloc(1, ATTACHED);
            MPI_Win_attach(win[i], attached, ATTACHED);
        } else if (i == 5) {
            MPI_Win_allocate(shared_size, 1, MPI_INFO_NULL, of[i], &base, &win[i]);
        } else {
            long size = i == 6 ? BIG : 1000 + 8 * i;
            MPI_Win_create(calloc(1, (size_t) size), size, i % 2 ? 1 : 4, MPI_INFO_NULL, of[i],
                           &win[i]);
        }
        if (is_victim && i < 8)
            know_window(win[i], of[i]);
    }
    if (parent == MPI_COMM_NULL)
        MPI_Win_free(&win[8]); /* a handle of something freed */

    if (parent == MPI_COMM_NULL)
        MPI_Win_fence(0, win[1]);
    MPI_Group world_group, group;
    if (is_sub) {
        MPI_Comm_group(job.sub, &world_group);
        if (job.rank == 0) {
            MPI_Group_incl(world_group, 1, (int[]){1}, &group);
            MPI_Win_post(group, 0, win[2]);
            MPI_Group_incl(world_group, 1, (int[]){2}, &group);
            MPI_Win_start(group, 0, win[2]);
        } else {
            MPI_Group_incl(world_group, 1, (int[]){0}, &group);
            if (job.rank == 1)
                MPI_Win_start(group, 0, win[2]);
            else
                MPI_Win_post(group, 0, win[2]);
        }
    }
    if (is_victim) {
        MPI_Win_lock_all(0, win[0]);
        for (i = 1; i < job.size; i++)
            MPI_Put(out, 8, MPI_BYTE, i, 0, 8, MPI_BYTE, win[0]);
        MPI_Win_flush_all(win[0]);
        MPI_Win_lock(MPI_LOCK_SHARED, 3, 0, win[3]);
        MPI_Put(out, 8, MPI_BYTE, 3, 0, 8, MPI_BYTE, win[3]);
        MPI_Win_flush(3, win[3]);
        MPI_Win_lock_all(0, win[4]);
        MPI_Open_port(MPI_INFO_NULL, job.port);
        MPIDI_GetTagFromPort(job.port, &job.port_tag);
    }
    MPI_Barrier(job.merged);

    /* What arrives before rank 0 wants it. */
    if (!is_victim) {
        MPI_Request reqs[3];
        MPI_Isend(out, SMALL, MPI_BYTE, 0, 20, job.merged, &reqs[0]);
        MPI_Issend(out, SMALL, MPI_BYTE, 0, 21, job.merged, &reqs[1]);
        MPI_Isend(large, LARGE, MPI_BYTE, 0, 22, job.merged, &reqs[2]);
        for (i = 0; i < 100; i++)
            MPI_Iprobe(MPI_ANY_SOURCE, 7777, job.merged, &flag, &status);
        MPI_Send(out, 0, MPI_BYTE, 0, 99, job.merged);
        for (i = 0; i < 100; i++)
            MPI_Iprobe(MPI_ANY_SOURCE, 7777, job.merged, &flag, &status);
        return;
    }
    for (i = 0; i < job.size - 1 + SPAWNED; i++)
        MPI_Recv(in, 0, MPI_BYTE, MPI_ANY_SOURCE, 99, job.merged, &status);
    MPI_Mprobe(2, 22, job.merged, &job.message, &status);

    /* What rank 0 has in progress with those, which sleep by now or soon. */
    for (i = 0; i < first_stranger; i++) {
        bool world = i < first_connected;
        MPI_Comm comm = world ? job.world : job.inter;
        int rank = world ? i + 1 : i - first_connected;
        MPI_Issend(out, SMALL, MPI_BYTE, rank, 10, comm, &req);
        watch_request(req, i, "a synchronous send");
        MPI_Isend(large, LARGE, MPI_BYTE, rank, 11, comm, &req);
        watch_request(req, i, "a large send");
        MPI_Issend(out, SMALL, MPI_BYTE, rank, 12, comm, &req);
        MPI_Cancel(&req);
        watch_request(req, i, "a cancelled send");
        MPI_Irecv(malloc(SMALL), SMALL, MPI_BYTE, rank, 13, comm, &req);
        watch_request(req, i, "a receive");
        MPI_Irecv(malloc(LARGE), LARGE, MPI_BYTE, rank, 14, comm, &req);
        watch_request(req, i, "a large receive");
        MPI_Irecv(malloc(1024), 2, known.type[2].type, rank, 15, comm, &req);
        watch_request(req, i, "a receive of a derived type");
        if (!world)
            continue;
        MPI_Rget(malloc(SMALL), SMALL, MPI_BYTE, rank, 0, SMALL, MPI_BYTE, win[0], &req);
        watch_request(req, i, "a get");
        MPI_Rget_accumulate(out, 8, MPI_INT, malloc(32), 8, MPI_INT, rank, 0, 8, MPI_INT, MPI_SUM,
                            win[0], &req);
        watch_request(req, i, "a get-accumulate");
        MPI_Rput(out, 256, MPI_BYTE, rank, 0, 256, MPI_BYTE, win[0], &req);
        MPI_Fetch_and_op(out, malloc(4), MPI_INT, rank, 0, MPI_SUM, win[0]);
        MPI_Compare_and_swap(out, out, malloc(4), MPI_INT, rank, 0, win[0]);
        MPI_Get(malloc(64), 1, known.type[1].type, rank, 0, 1, known.type[1].type, win[0]);
    }
    MPI_Irecv(malloc(SMALL), SMALL, MPI_BYTE, MPI_ANY_SOURCE, 16, job.world, &req);
    MPI_Irecv(malloc(SMALL), SMALL, MPI_BYTE, MPI_ANY_SOURCE, MPI_ANY_TAG, job.sub, &req);
    MPI_Win_lock(MPI_LOCK_EXCLUSIVE, 1, 0, win[3]);
    MPI_Put(out, 8, MPI_BYTE, 1, 0, 8, MPI_BYTE, win[3]);
    MPI_Win_lock(MPI_LOCK_SHARED, 2, 0, win[3]);
    MPI_Rget(malloc(SMALL), SMALL, MPI_BYTE, 2, 0, SMALL, MPI_BYTE, win[3], &req);
    MPI_Rget(malloc(SMALL), SMALL, MPI_BYTE, 3, 0, SMALL, MPI_BYTE, win[3], &req);
    watch_request(req, 2, "a get under a lock");
    static int one = 1, sum;
    MPI_Iallreduce(&one, &sum, 1, MPI_INT, MPI_SUM, job.world, &req);
    MPI_Ibarrier(job.dup, &req);
    for (i = 0; i < 7; i++)
        known.tags[i] = 10 + i;
    known.tags[7] = 20;
    for (i = 0; i < 200; i++)
        MPI_Iprobe(MPI_ANY_SOURCE, 7777, job.merged, &flag, &status);
}

/* Without MPI_Finalize, as nothing in progress will ever complete. */
static void leave(int code)
{
    extern int PMI_Finalize(void);
    PMI_Finalize();
    fflush(NULL);
    _exit(code);
}

int main(int argc, char **argv)
{
    unsigned long long packets = 100000;
    double seconds = 1e9;
    uint64_t seed = 1;
    bool one = false;
    int workers = (int) sysconf(_SC_NPROCESSORS_ONLN), opt;
    const char *dir = ".";
    MPI_Comm parent;

    MPI_Init(&argc, &argv);
    MPI_Comm_get_parent(&parent);
    while ((opt = getopt(argc, argv, "p:t:s:j:n:d:-:")) != -1)
        switch (opt) {
        case 'p':
            packets = strtoull(optarg, NULL, 10);
            break;
        case 't':
            seconds = atof(optarg);
            break;
        case 's':
            seed = strtoull(optarg, NULL, 10);
            break;
        case 'j':
            workers = atoi(optarg);
            break;
        case 'n':
            one = true;
            seed = strtoull(optarg, NULL, 10);
            break;
        case 'd':
            dir = optarg;
            break;
        case '-': /* spawned */
            break;
        default:
            fprintf(stderr, "usage: within [-p PACKETS] [-t SECONDS] [-s SEED] [-j WORKERS] [-n "
                            "ONE-SEED] [-d DIR]\n");
            MPI_Abort(MPI_COMM_WORLD, 2);
        }
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_ARE_FATAL);
    char end[400];
    snprintf(end, sizeof(end), "%s/end", getenv("HOSTILE_DIR"));
    set_up(parent, argv);
    if (parent != MPI_COMM_NULL || job.rank != 0) {
        while (access(end, F_OK) != 0)
            usleep(100000);
        leave(0);
    }

    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct ivshm_map *map = &MPID_nem_ivshmem.region.map;
    int fd = open(map->path, O_RDWR);
    /* From here on, nobody else sees what this process or its children write. */
    if (fd < 0 || mmap(map->base, map->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd,
                       0) != map->base) {
        perror("within: a private copy of the region");
        leave(1);
    }
    know_cookies();
    know_strangers();
    /* Never popped, so that the inbox never looks empty. */
    struct ivshm_queue_producer producer;
    ivshm_queue_producer_init(&producer, MPID_nem_ivshmem.transport.inbox.shm,
                              MPID_nem_ivshmem.region.geo.inbox_slots);
    ivshm_queue_push_mpsc(&producer, (struct ivshm_ref){0, IVSHM_REF_DOORBELL});
    int local;
    known.stack = (char *) &local;
    known.heap = calloc(1, 4096);
    known.text = (char *) (intptr_t) &MPID_nem_ivshmem_poll;
    for (int w = 0; w < known.windows; w++) {
        if (!known.window[w].base) { /* the dynamic one */
            known.window[w].base = attached;
            known.window[w].size = ATTACHED;
        }
        window_copy[w] = malloc((size_t) known.window[w].size);
        memcpy(window_copy[w], known.window[w].base, (size_t) known.window[w].size);
    }

    double begin = now();
    int found = 0;
    if (one) {
        log_text = NULL;
        found = work(0, 1, seed, true, packets, begin + seconds, dir);
    } else {
        for (int w = 0; w < workers; w++)
            if (fork() == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                _exit(MPL_MIN(work(w, workers, seed, false, packets, begin + seconds, dir), 100));
            }
        for (int w = 0; w < workers; w++) {
            int status;
            wait(&status);
            found += WIFEXITED(status) ? WEXITSTATUS(status) : 100;
        }
        printf(
            "%llu packets in %llu processes, %.0f s; %llu of these waited in a call at the end\n",
            atomic_load(&shared->packets), atomic_load(&shared->children), now() - begin,
            atomic_load(&shared->waiting));
        for (int t = 0; t <= PACKET_TYPES; t++)
            printf("%-36s %10llu sent %10llu taken\n", packet_name(t),
                   atomic_load(&shared->sent[t]), atomic_load(&shared->accepted[t]));
        printf("%d findings\n", found);
    }
    int ended = open(end, O_CREAT | O_WRONLY, 0600);
    close(ended);
    leave(found ? 1 : 0);
}
