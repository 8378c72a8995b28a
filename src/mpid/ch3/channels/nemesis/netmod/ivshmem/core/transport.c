/* SPDX-License-Identifier: mpich2 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* ppoll */
#endif
#include "transport.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RING_AFTER 4 /* messages: for fewer, a ring is not worth its memory */

#define TOLD_AFTER 50000 /* ns: of a wait */

/* References in a row that lead to no message, before a receive returns. */
#define DROPS_MAX 64

int ivshm_transport_open(struct ivshm_transport *t, struct ivshm_region *region, const char *job,
                         uint32_t rank, uint32_t job_size, struct ivshm_diag *diag)
{
    const struct ivshm_geometry *geo = &region->geo;
    /* As long as nobody wants the choices to be free. */
    struct ivshm_transport r = {
        .region = region, .ring_after = RING_AFTER, .way = IVSHM_COPY_AHEAD, .piece = 0};
    int err = ivshm_endpoint_join(region, job, rank, job_size, &r.endpoint, diag);
    if (err)
        return err;

    char *base = r.endpoint.base;
    r.channels = calloc(geo->endpoints, sizeof(*r.channels));
    if (!r.channels || ivshm_poll_set_init(&r.poll_set, geo->endpoints) ||
        ivshm_pool_init(&r.small, base + geo->small, geo->small_cells, geo->small_size) ||
        ivshm_pool_init(&r.large, base + geo->large, geo->large_cells, geo->large_size)) {
        err = ivshm_diag_fail(diag, ENOMEM, "out of memory for this process' tables of region %s",
                              region->map.name);
        goto leave;
    }
    ivshm_queue_consumer_init(&r.inbox, (struct ivshm_inbox_shm *) base, geo->inbox_slots);
    err = ivshm_endpoint_publish(&r.endpoint, diag);
    if (err)
        goto free_all; /* the endpoint has been reclaimed */
    *t = r;
    return 0;

leave:
    ivshm_endpoint_leave(&r.endpoint);
free_all:
    ivshm_pool_destroy(&r.small);
    ivshm_pool_destroy(&r.large);
    ivshm_poll_set_destroy(&r.poll_set);
    free(r.channels);
    return err;
}

void ivshm_transport_close(struct ivshm_transport *t)
{
    ivshm_endpoint_leave(&t->endpoint);
    for (uint32_t i = 0; i < t->region->geo.endpoints; i++)
        free(t->channels[i]);
    free(t->channels);
    ivshm_poll_set_destroy(&t->poll_set);
    ivshm_pool_destroy(&t->small);
    ivshm_pool_destroy(&t->large);
}

void ivshm_transport_announce_sleep(struct ivshm_transport *t, enum ivshm_sleep kind)
{
    t->sleep = kind;
    ivshm_sleep_announce(t->inbox.shm, kind);
}

void ivshm_transport_withdraw_sleep(struct ivshm_transport *t)
{
    ivshm_sleep_withdraw(t->inbox.shm);
}

void ivshm_transport_sleep(struct ivshm_transport *t, uint64_t ns, const struct pollfd *fds,
                           size_t count)
{
    if (ivshm_queue_is_empty_mpsc(&t->inbox) && !ivshm_poll_set_find(&t->poll_set)) {
        IVSHM_TRACEPOINT(sleep_begins);
        if (t->sleep == IVSHM_SLEEP_ON_BELL)
            ivshm_bell_wait(&t->region->bell, ns, fds, count);
        else
            ivshm_sleep_until_woken(t->inbox.shm, ns);
    }
    ivshm_sleep_withdraw(t->inbox.shm);
}

static struct ivshm_told_shm *told(const struct ivshm_transport *t)
{
    return (struct ivshm_told_shm *) ((char *) t->endpoint.base + t->region->geo.told);
}

void ivshm_transport_tell_doing(struct ivshm_transport *t, enum ivshm_doing doing)
{
    t->doing = doing;
    ivshm_a64_store_relaxed(&told(t)->doing, doing);
}

void ivshm_transport_tell_wait(struct ivshm_transport *t, const struct ivshm_wait *wait,
                               enum ivshm_wait_step step)
{
    enum ivshm_doing doing = step == IVSHM_WAIT_DOZE || wait->announced ? IVSHM_DOING_SLEEP
                             : step == IVSHM_WAIT_NAP                   ? IVSHM_DOING_NAP
                             : step == IVSHM_WAIT_GIVE                  ? IVSHM_DOING_YIELD
                                                                        : IVSHM_DOING_SPIN;
    bool is_asleep = step == IVSHM_WAIT_DOZE || step == IVSHM_WAIT_NAP;
    /* Where messages come and go, most waits are over before that. */
    if (doing != t->doing && (is_asleep || ivshm_wait_lasted(wait) >= TOLD_AFTER))
        ivshm_transport_tell_doing(t, doing);
}

void ivshm_transport_tell(struct ivshm_transport *t, uint64_t now,
                          const struct ivshm_counts *counts)
{
    struct ivshm_told_shm *shm = told(t);
#define X(name) ivshm_a64_store_relaxed(&shm->name, counts->name);
    IVSHM_COUNTS(X)
#undef X
    ivshm_a64_store_relaxed(&shm->time, now);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000000 + (uint64_t) t.tv_nsec;
}

enum ivshm_wait_step ivshm_transport_wait(struct ivshm_transport *t, struct ivshm_wait *wait,
                                          const struct ivshm_wait_for *what, uint64_t now,
                                          enum ivshm_sleep kind, const struct pollfd *fds,
                                          size_t count)
{
    uint64_t ns;
    const enum ivshm_wait_step step = ivshm_wait_next(wait, now, what, &ns);
    ivshm_transport_tell_wait(t, wait, step);
    switch (step) {
    case IVSHM_WAIT_LOOK:
        break;
    case IVSHM_WAIT_GIVE:
        sched_yield();
        break;
    case IVSHM_WAIT_ANNOUNCE:
        ivshm_transport_announce_sleep(t, kind);
        break;
    case IVSHM_WAIT_DOZE:
        ivshm_transport_sleep(t, ns, fds, count);
        ivshm_wait_woke(wait, now_ns());
        break;
    case IVSHM_WAIT_NAP:
        ppoll((struct pollfd *) (uintptr_t) fds, (nfds_t) count,
              &(struct timespec){.tv_nsec = (long) ns}, NULL);
        ivshm_wait_woke(wait, now_ns());
        break;
    }
    return step;
}

bool ivshm_transport_end_wait(struct ivshm_transport *t, struct ivshm_wait *wait)
{
    const bool was_announced = ivshm_wait_end(wait);
    ivshm_transport_tell_work(t);
    if (was_announced)
        ivshm_transport_withdraw_sleep(t);
    return was_announced;
}

void ivshm_transport_end_sleep(struct ivshm_transport *t)
{
    ivshm_sleep_wake(t->inbox.shm, IVSHM_SLEEP_ON_FUTEX);
}

void ivshm_transport_flush_pending(struct ivshm_transport *t)
{
    for (uint32_t i = 0; i < t->region->geo.endpoints && t->pending; i++)
        if (t->channels[i] && t->channels[i]->pending)
            ivshm_channel_flush(t, t->channels[i]);
}

bool ivshm_transport_is_half_in_flight(struct ivshm_transport *t)
{
    return ivshm_pool_is_half_in_flight(&t->small) || ivshm_pool_is_half_in_flight(&t->large);
}

/*
 * The channel of the sender of `ref`; attaches on its first message. NULL if that fails. *stale if
 * the sender has left since, or its channel is broken: the message is dropped.
 */
static struct ivshm_channel *channel_of_sender(struct ivshm_transport *t, struct ivshm_ref ref,
                                               bool *stale, struct ivshm_diag *diag)
{
    *stale = false;
    if (ref.endpoint >= t->region->geo.endpoints) {
        ivshm_diag_fail(diag, EBADMSG,
                        "a message in region %s names endpoint %u as its sender, there are only %u",
                        t->region->map.name, ref.endpoint, t->region->geo.endpoints);
        return NULL;
    }
    struct ivshm_channel *ch = t->channels[ref.endpoint];
    struct ivshm_owner peer = {ref.endpoint, 0};
    peer.generation =
        ch ? ch->peer.generation : ivshm_endpoint_claim(t->region, ref.endpoint).generation;
    *stale = !ivshm_ref_is_of(ref, peer.generation) || (ch && ch->broken);
    if (ch || *stale)
        return ch;
    return ivshm_channel_attach(t, peer, &ch, diag) == 0 ? ch : NULL;
}

/* The channel whose ring that is. */
static struct ivshm_channel *channel_of(struct ivshm_poll_entry *entry)
{
    return (struct ivshm_channel *) ((char *) entry - offsetof(struct ivshm_channel, in));
}

/* NULL if the sender has no such cell. */
static struct ivshm_cell_shm *cell_of(const struct ivshm_geometry *geo,
                                      const struct ivshm_channel *ch, uint32_t number,
                                      uint32_t *size)
{
    bool is_small = number < geo->small_cells;
    uint32_t index = is_small ? number : number - geo->small_cells;
    if (!is_small && index >= geo->large_cells)
        return NULL;
    *size = is_small ? geo->small_size : geo->large_size;
    return (struct ivshm_cell_shm *) ((char *) ch->base + (is_small ? geo->small : geo->large) +
                                      (uint64_t) index * *size);
}

/* Finds cell `number` of the sender and checks its header. */
static int open_cell(struct ivshm_transport *t, struct ivshm_channel *ch, uint32_t number,
                     struct ivshm_incoming *in, struct ivshm_diag *diag)
{
    const struct ivshm_geometry *geo = &t->region->geo;
    uint32_t size;
    in->cell = cell_of(geo, ch, number, &size);
    if (!in->cell)
        return ivshm_diag_fail(diag, EBADMSG, "endpoint %u sent cell %u, but has only %u cells",
                               ch->peer.endpoint, number, geo->small_cells + geo->large_cells);
    in->payload = in->cell->payload;
    /* Each is read once, into a private copy that is checked and used. Relaxed: after Q1 or R1. */
    in->note = 0;
    in->len = ivshm_a32_load_relaxed(&in->cell->len);
    in->stream = ivshm_a32_load_relaxed(&in->cell->stream);
    uint32_t sequence = ivshm_a32_load_relaxed(&in->cell->sequence);
    if (in->len > size - sizeof(struct ivshm_cell_shm))
        return ivshm_diag_fail(diag, EBADMSG, "endpoint %u sent %u bytes in a cell of %u bytes",
                               ch->peer.endpoint, in->len, size);
    if (sequence != ch->in.received)
        return ivshm_diag_fail(
            diag, EBADMSG, "endpoint %u sent message %u, but %u was expected: messages are lost",
            ch->peer.endpoint, sequence, ch->in.received);
    IVSHM_TRACEPOINT(cell_opened);
    ch->in.received++;
    return 1;
}

/* If the next record names a cell as well, that cell arrives while the caller uses this one. */
static void fetch_next_cell(const struct ivshm_transport *t, const struct ivshm_channel *ch)
{
    struct ivshm_record next;
    uint32_t size;
    if (!ivshm_ring_peek_spsc(&ch->in.ring, ch->in.received + 1, &next) ||
        next.kind != IVSHM_RECORD_CELL)
        return;
    const struct ivshm_cell_shm *cell = cell_of(&t->region->geo, ch, next.value, &size);
    if (cell && (next.note & IVSHM_NOTE_WAY) == IVSHM_COPY_AHEAD)
        ivshm_lines_prefetch(cell, size);
}

static int open_record(struct ivshm_transport *t, struct ivshm_channel *ch,
                       struct ivshm_record record, struct ivshm_incoming *in,
                       struct ivshm_diag *diag)
{
    struct ivshm_ring_consumer *ring = &ch->in.ring;
    int got;

    in->channel = ch;
    switch (record.kind) {
    case IVSHM_RECORD_INLINE:
    case IVSHM_RECORD_BUFFER:
        if (record.value > (record.kind == IVSHM_RECORD_INLINE ? ivshm_slot_room(ring->slot_size)
                                                               : ring->buffer_size))
            break;
        ch->in.received++;
        in->note = record.note;
        ivshm_channel_begin_reading(ch, record.note);
        in->payload = ivshm_ring_payload(ring, record);
        in->len = record.value;
        in->stream = 0;
        in->cell = NULL;
        return 1;
    case IVSHM_RECORD_CELL:
        ivshm_ring_consume_spsc(ring);
        fetch_next_cell(t, ch);
        got = open_cell(t, ch, record.value, in, diag);
        in->note = record.note;
        ivshm_channel_begin_reading(ch, record.note);
        return got;
    case IVSHM_RECORD_NONE:
        break;
    }
    ivshm_ring_consume_spsc(ring);
    return ivshm_diag_fail(diag, EBADMSG,
                           "endpoint %u sent an invalid record, of kind %u and %u bytes",
                           ch->peer.endpoint, (unsigned) record.kind, record.value);
}

/* The peer announces a ring, through which all later messages come. */
static int bind_ring(struct ivshm_transport *t, const struct ivshm_incoming *in,
                     struct ivshm_diag *diag)
{
    struct ivshm_channel *ch = in->channel;
    ivshm_off off;

    if (in->len != sizeof(off) || ch->in.ring.shm)
        return ivshm_diag_fail(
            diag, EBADMSG, "endpoint %u announced a ring in a message of %u bytes%s",
            ch->peer.endpoint, in->len, ch->in.ring.shm ? ", but has one already" : "");
    memcpy(&off, in->payload, sizeof(off));
    int err = ivshm_ring_attach(t->region, ch->peer, off, &ch->in.ring, diag);
    if (err)
        return err;
    IVSHM_TRACEPOINT(ring_bound);
    if (!ch->paused)
        ivshm_poll_set_add(&t->poll_set, &ch->in);
    return 0;
}

/* Inlined, so that a look at empty rings costs no call. */
static inline __attribute__((always_inline)) int
from_rings(struct ivshm_transport *t, struct ivshm_incoming *in, struct ivshm_diag *diag)
{
    struct ivshm_record record;
    struct ivshm_poll_entry *from = ivshm_poll_set_next(&t->poll_set, &record);
    return from ? open_record(t, channel_of(from), record, in, diag) : 0;
}

static int from_inbox(struct ivshm_transport *t, struct ivshm_incoming *in, struct ivshm_diag *diag)
{
    struct ivshm_ref ref;
    for (int drops = 0; drops < DROPS_MAX && ivshm_queue_pop_mpsc(&t->inbox, &ref); drops++) {
        bool stale;
        in->channel = channel_of_sender(t, ref, &stale, diag);
        if (stale)
            continue;
        if (!in->channel)
            return -EBADMSG;
        int got = 0;
        if (ivshm_ref_cell(ref) == IVSHM_REF_DOORBELL) {
            if (ivshm_channel_is_in_poll_set(in->channel))
                ivshm_poll_set_promote(&t->poll_set, &in->channel->in);
        } else {
            got = open_cell(t, in->channel, ivshm_ref_cell(ref), in, diag);
            if (got != 1 || in->stream != IVSHM_STREAM_RING)
                return got;
            got = bind_ring(t, in, diag);
            ivshm_message_release(in);
        }
        if (got == 0)
            got = from_rings(t, in, diag);
        if (got != 0)
            return got;
    }
    return 0;
}

/* A message of the peer is lost, so the sequence numbers of all later ones are wrong. */
static void break_channel(struct ivshm_transport *t, struct ivshm_channel *ch)
{
    ch->broken = true;
    if (ivshm_channel_is_in_poll_set(ch))
        ivshm_poll_set_remove(&t->poll_set, &ch->in);
    ch->in.ring.shm = NULL;
}

int ivshm_transport_receive(struct ivshm_transport *t, struct ivshm_incoming *in,
                            struct ivshm_diag *diag)
{
    /* After a message from a ring, the inbox comes first, so that neither starves the other. */
    int got = 0;
    if (t->ring_was_last && !ivshm_queue_is_empty_mpsc(&t->inbox))
        got = from_inbox(t, in, diag);
    t->ring_was_last = false;
    if (got == 0) {
        got = from_rings(t, in, diag);
        t->ring_was_last = got != 0;
    }
    if (got == 0)
        got = from_inbox(t, in, diag);
    if (got < 0 && in->channel)
        break_channel(t, in->channel);
    return got;
}

void ivshm_message_release(struct ivshm_incoming *in)
{
    IVSHM_TRACEPOINT(message_release);
    ivshm_channel_end_reading(in->channel, in->note);
    if (in->cell)
        ivshm_a32_store_release(&in->cell->state, IVSHM_CELL_FREE); /* release C1 */
    else if (!in->channel->broken)
        ivshm_ring_consume_spsc(&in->channel->in.ring);
}

void ivshm_transport_watch(struct ivshm_transport *t)
{
    ivshm_transport_mark_dead(t);
    for (uint32_t i = 0; i < t->region->geo.endpoints; i++) {
        struct ivshm_channel *ch = t->channels[i];
        if (ch && ch->users == 0 && ivshm_channel_is_forgettable(t, ch))
            ivshm_channel_detach(t, ch);
        else if (ch && !ch->pending && !ivshm_channel_is_live(t, ch))
            ivshm_channel_reclaim_cells(t, ch); /* its users may need cells before they close it */
    }
}
