/* SPDX-License-Identifier: mpich2 */
#include "channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RING_AFTER 4 /* messages: for fewer, a ring is not worth its memory */

/* References in a row that lead to no message, before a receive returns. */
#define DROPS_MAX 64

int ivshm_transport_open(struct ivshm_transport *t, struct ivshm_region *region, const char *job,
                         uint32_t rank, uint32_t job_size, struct ivshm_diag *diag)
{
    const struct ivshm_geometry *geo = &region->geo;
    struct ivshm_transport r = {.region = region, .ring_after = RING_AFTER};
    /* As a buffer of a ring, so that the receiver empties one while the next is filled. */
    r.piece = geo->buffer_size ? geo->buffer_size : UINT32_MAX;
    int err = ivshm_endpoint_join(region, job, rank, job_size, &r.endpoint, diag);
    if (err)
        return err;

    char *base = r.endpoint.base;
    r.channels = calloc(geo->endpoints, sizeof(*r.channels));
    r.rings = calloc(geo->endpoints, sizeof(*r.rings));
    if (!r.channels || !r.rings ||
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
    free(r.rings);
    free(r.channels);
    return err;
}

void ivshm_transport_close(struct ivshm_transport *t)
{
    ivshm_endpoint_leave(&t->endpoint);
    for (uint32_t i = 0; i < t->region->geo.endpoints; i++)
        free(t->channels[i]);
    free(t->channels);
    free(t->rings);
    ivshm_pool_destroy(&t->small);
    ivshm_pool_destroy(&t->large);
}

/* Attaches to `peer`; the channel has no user yet. */
static int attach_channel(struct ivshm_transport *t, struct ivshm_owner peer,
                          struct ivshm_channel **channel, struct ivshm_diag *diag)
{
    struct ivshm_channel *ch = calloc(1, sizeof(*ch));
    if (!ch)
        return ivshm_diag_fail(diag, ENOMEM, "out of memory for a channel");
    ch->peer = peer;
    int err = ivshm_endpoint_attach(&t->endpoint, peer, &ch->base, diag);
    if (err) {
        free(ch);
        return err;
    }
    IVSHM_TRACEPOINT(channel_attached);
    ivshm_queue_producer_init(&ch->inbox, ch->base, t->region->geo.inbox_slots);
    t->channels[peer.endpoint] = ch;
    *channel = ch;
    return 0;
}

static void set_poll_index(struct ivshm_transport *t, struct ivshm_channel *ch, uint32_t index)
{
    t->rings[index] = ch;
    ch->poll_index = index;
}

static void swap_rings(struct ivshm_transport *t, uint32_t a, uint32_t b)
{
    struct ivshm_channel *was = t->rings[a];
    set_poll_index(t, t->rings[b], a);
    set_poll_index(t, was, b);
}

/* Polls the ring from now on and, if that makes too many, makes another one idle. */
static void promote_ring(struct ivshm_transport *t, struct ivshm_channel *ch)
{
    if (ch->poll_index < t->polled_count)
        return;
    if (t->polled_count < IVSHM_RINGS_POLLED) {
        swap_rings(t, ch->poll_index, t->polled_count++);
    } else {
        uint32_t victim = t->next_polled % IVSHM_RINGS_POLLED;
        ivshm_ring_set_idle(&t->rings[victim]->ring_in, true);
        swap_rings(t, ch->poll_index, victim);
    }
    ivshm_ring_set_idle(&ch->ring_in, false);
}

static void add_ring(struct ivshm_transport *t, struct ivshm_channel *ch)
{
    set_poll_index(t, ch, t->ring_count++);
    promote_ring(t, ch);
}

static void remove_ring(struct ivshm_transport *t, struct ivshm_channel *ch)
{
    uint32_t hole = ch->poll_index;
    if (hole < t->polled_count) {
        swap_rings(t, hole, --t->polled_count);
        hole = t->polled_count;
    }
    swap_rings(t, hole, --t->ring_count);
}

/* Cells that a dead peer held are ours again. */
static void reclaim_cells(struct ivshm_transport *t, const struct ivshm_channel *ch)
{
    ivshm_pool_reclaim(&t->small, ch->peer.endpoint);
    ivshm_pool_reclaim(&t->large, ch->peer.endpoint);
}

static void detach_channel(struct ivshm_transport *t, struct ivshm_channel *ch)
{
    IVSHM_TRACEPOINT(channel_detach);
    /* The peer has gone, or has never known of the ring. */
    if (ch->ring_out.shm)
        ivshm_ring_free(t->region, t->endpoint.owner, &ch->ring_out);
    if (ch->ring_in.shm && !ch->paused)
        remove_ring(t, ch);
    /* A live peer frees its cells itself, whether we are attached or not. */
    if (!ivshm_channel_is_live(t, ch))
        reclaim_cells(t, ch);
    t->pending -= ch->pending;
    ivshm_endpoint_detach(&t->endpoint, ch->peer.endpoint);
    IVSHM_TRACEPOINT(channel_detached);
    t->channels[ch->peer.endpoint] = NULL;
    free(ch);
}

bool ivshm_channel_has_more(struct ivshm_transport *t, struct ivshm_channel *ch, uint32_t position)
{
    struct ivshm_record record;
    if (ch->ring_in.shm && !ch->paused &&
        ivshm_ring_peek_spsc(&ch->ring_in, ch->received, &record)) {
        promote_ring(t, ch);
        return true;
    }
    return ivshm_transport_inbox_position(t) - position < t->inbox.slots &&
           !ivshm_queue_is_empty_mpsc(&t->inbox);
}

void ivshm_channel_pause(struct ivshm_transport *t, struct ivshm_channel *ch)
{
    if (ch->ring_in.shm && !ch->paused)
        remove_ring(t, ch);
    ch->paused = true;
}

void ivshm_channel_resume(struct ivshm_transport *t, struct ivshm_channel *ch)
{
    if (ch->ring_in.shm && ch->paused)
        add_ring(t, ch);
    ch->paused = false;
}

/*
 * Whether the peer has gone and everything that it had sent is received: the inbox and its ring are
 * seen empty after its death (E2).
 */
static bool is_forgettable(struct ivshm_transport *t, struct ivshm_channel *ch)
{
    return !ivshm_channel_is_live(t, ch) &&
           !ivshm_channel_has_more(t, ch, ivshm_transport_inbox_position(t));
}

int ivshm_channel_open(struct ivshm_transport *t, struct ivshm_owner peer,
                       struct ivshm_channel **channel, struct ivshm_diag *diag)
{
    struct ivshm_channel *ch =
        peer.endpoint < t->region->geo.endpoints ? t->channels[peer.endpoint] : NULL;
    if (ch && ch->peer.generation != peer.generation) {
        /* While we are attached to one generation of an entry, no other one exists. */
        if (ch->users || ivshm_channel_is_live(t, ch))
            return ivshm_diag_fail(diag, ESHUTDOWN,
                                   "endpoint %u (generation %u) of region %s has left",
                                   peer.endpoint, peer.generation, t->region->map.name);
        detach_channel(t, ch);
        ch = NULL;
    }
    if (!ch) {
        int err = attach_channel(t, peer, &ch, diag);
        if (err)
            return err;
    }
    ch->users++;
    *channel = ch;
    return 0;
}

void ivshm_channel_close(struct ivshm_transport *t, struct ivshm_channel *channel)
{
    /* A cell may still be pending, and the peer may still send: sequence numbers go on. */
    if (--channel->users == 0 && is_forgettable(t, channel))
        detach_channel(t, channel);
}

/*
 * What goes into an inbox slot. A sender may leave, and another process may take its entry and its
 * memory, before the receiver sees the message. By the generation the receiver knows that this
 * message is lost, and not the other process'.
 */
static struct ivshm_ref make_ref(const struct ivshm_transport *t, uint32_t cell)
{
    const struct ivshm_owner *self = &t->endpoint.owner;
    return (struct ivshm_ref){.endpoint = (uint16_t) self->endpoint,
                              .cell = (uint16_t) (cell | (self->generation & 255) << 8)};
}

static bool is_of_generation(struct ivshm_ref ref, uint32_t generation)
{
    return ref.cell >> 8 == (generation & 255);
}

static struct ivshm_pool *pool_of(struct ivshm_transport *t, uint32_t *index)
{
    if (*index < t->small.count)
        return &t->small;
    *index -= t->small.count;
    return &t->large;
}

/* Sends the pending cell; true if none is pending any more. */
static bool flush_pending(struct ivshm_transport *t, struct ivshm_channel *ch)
{
    if (ch->pending && ivshm_queue_push_mpsc(&ch->inbox, ch->pending_ref) == 0) {
        ch->pending = false;
        t->pending--;
    }
    return !ch->pending;
}

/* A small cell if it suffices and one is free, else a large one. */
static int reserve_cell(struct ivshm_transport *t, size_t want, uint32_t stream,
                        struct ivshm_outgoing *out)
{
    bool is_small = want <= t->small.size - sizeof(struct ivshm_cell_shm);
    int index = is_small ? ivshm_pool_alloc(&t->small) : -1;
    struct ivshm_pool *pool = &t->small;
    uint32_t first = 0;
    if (index < 0) {
        pool = &t->large;
        first = t->small.count;
        index = ivshm_pool_alloc(pool);
    }
    if (index < 0)
        return -EAGAIN;
    *out = (struct ivshm_outgoing){
        .payload = ivshm_pool_cell(pool, (uint32_t) index)->payload,
        .capacity = pool->size - (uint32_t) sizeof(struct ivshm_cell_shm),
        .stream = stream,
        .cell = first + (uint32_t) index,
    };
    return 0;
}

/* Fills in the cell's header. */
static void seal_cell(struct ivshm_transport *t, struct ivshm_channel *channel,
                      const struct ivshm_outgoing *out, uint32_t len)
{
    uint32_t index = out->cell;
    struct ivshm_pool *pool = pool_of(t, &index);
    struct ivshm_cell_shm *cell = ivshm_pool_cell(pool, index);
    IVSHM_TRACEPOINT(cell_filled);
    /* Relaxed: the publication of the cell releases them (Q1 or R1). */
    ivshm_a32_store_relaxed(&cell->len, len);
    ivshm_a32_store_relaxed(&cell->stream, out->stream);
    ivshm_a32_store_relaxed(&cell->sequence, channel->sent);
    ivshm_pool_set_in_flight(pool, index, channel->peer.endpoint);
}

static void post_cell(struct ivshm_transport *t, struct ivshm_channel *channel,
                      const struct ivshm_outgoing *out, uint32_t len)
{
    seal_cell(t, channel, out, len);
    IVSHM_TRACEPOINT(cell_sealed);
    channel->sent++;
    struct ivshm_ref ref = make_ref(t, out->cell);
    if (ivshm_queue_push_mpsc(&channel->inbox, ref) != 0) {
        channel->pending_ref = ref;
        channel->pending = true;
        t->pending++;
    }
}

/*
 * For a pair that exchanges messages: allocates a ring, if the region can spare the memory, and
 * announces it to the peer. Everything sent before is in the peer's inbox before the announcement.
 */
static void try_ring(struct ivshm_transport *t, struct ivshm_channel *channel)
{
    struct ivshm_outgoing out;

    if (reserve_cell(t, sizeof(ivshm_off), IVSHM_STREAM_RING, &out) != 0)
        return;
    channel->ring_tried = true;
    if (!ivshm_extent_can_spare(t->region, t->region->geo.ring_bytes) ||
        ivshm_ring_alloc(t->region, t->endpoint.owner, &channel->ring_out) != 0) {
        ivshm_message_discard(t, &out);
        return;
    }
    IVSHM_TRACEPOINT(ring_allocated);
    memcpy(out.payload, &channel->ring_out.off, sizeof(ivshm_off));
    post_cell(t, channel, &out, sizeof(ivshm_off));
    IVSHM_TRACEPOINT(ring_announced);
}

int ivshm_message_reserve_elsewhere(struct ivshm_transport *t, struct ivshm_channel *channel,
                                    size_t want, uint32_t stream, struct ivshm_outgoing *out)
{
    struct ivshm_ring_producer *ring = &channel->ring_out;

    if (!ring->shm && channel->sent >= t->ring_after && !channel->ring_tried && !channel->pending)
        try_ring(t, channel);
    if (channel->pending && !flush_pending(t, channel))
        return -EAGAIN;
    if (want > t->piece)
        want = t->piece;
    if (!ring->shm)
        return reserve_cell(t, want, stream, out);

    unsigned char *payload = ivshm_ring_reserve_spsc(ring);
    if (!payload)
        return -EAGAIN;
    if (stream != 0)
        return reserve_cell(t, want, stream, out);
    const uint32_t room = ivshm_slot_room(ring->slot_size), buffer = ring->buffer_size;
    if (want <= room) {
        *out = (struct ivshm_outgoing){payload, room, 0, IVSHM_IN_SLOT};
        return 0;
    }
    /* If all buffers are in use, the receiver is busy: the message takes a cell. */
    payload = want <= buffer ? ivshm_ring_buffer_spsc(ring) : NULL;
    if (!payload)
        return reserve_cell(t, want, stream, out);
    *out = (struct ivshm_outgoing){payload, buffer, 0, IVSHM_IN_BUFFER};
    return 0;
}

void ivshm_channel_ring_doorbell(struct ivshm_transport *t, struct ivshm_channel *channel)
{
    /* If the inbox is full, nothing is lost: a doorbell only saves time. */
    IVSHM_TRACEPOINT(doorbell);
    ivshm_queue_push_mpsc(&channel->inbox, make_ref(t, IVSHM_REF_DOORBELL));
}

void ivshm_message_publish_elsewhere(struct ivshm_transport *t, struct ivshm_channel *channel,
                                     const struct ivshm_outgoing *out, uint32_t len)
{
    if (!channel->ring_out.shm) {
        post_cell(t, channel, out, len);
    } else if (out->cell == IVSHM_IN_BUFFER) {
        ivshm_channel_publish_record(t, channel, IVSHM_RECORD_BUFFER, len);
    } else {
        seal_cell(t, channel, out, len);
        IVSHM_TRACEPOINT(cell_in_ring);
        ivshm_channel_publish_record(t, channel, IVSHM_RECORD_CELL, out->cell);
    }
}

void ivshm_cell_discard(struct ivshm_transport *t, uint32_t cell)
{
    struct ivshm_pool *pool = pool_of(t, &cell);
    ivshm_pool_free(pool, cell);
}

void ivshm_transport_flush_pending(struct ivshm_transport *t)
{
    for (uint32_t i = 0; i < t->region->geo.endpoints && t->pending; i++)
        if (t->channels[i] && t->channels[i]->pending)
            flush_pending(t, t->channels[i]);
}

uint32_t ivshm_channel_cells_in_flight(struct ivshm_transport *t,
                                       const struct ivshm_channel *channel)
{
    return ivshm_pool_in_flight(&t->small, channel->peer.endpoint) +
           ivshm_pool_in_flight(&t->large, channel->peer.endpoint);
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
    *stale = !is_of_generation(ref, peer.generation) || (ch && ch->broken);
    if (ch || *stale)
        return ch;
    return attach_channel(t, peer, &ch, diag) == 0 ? ch : NULL;
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
    in->len = ivshm_a32_load_relaxed(&in->cell->len);
    in->stream = ivshm_a32_load_relaxed(&in->cell->stream);
    uint32_t sequence = ivshm_a32_load_relaxed(&in->cell->sequence);
    if (in->len > size - sizeof(struct ivshm_cell_shm))
        return ivshm_diag_fail(diag, EBADMSG, "endpoint %u sent %u bytes in a cell of %u bytes",
                               ch->peer.endpoint, in->len, size);
    if (sequence != ch->received)
        return ivshm_diag_fail(
            diag, EBADMSG, "endpoint %u sent message %u, but %u was expected: messages are lost",
            ch->peer.endpoint, sequence, ch->received);
    IVSHM_TRACEPOINT(cell_opened);
    ch->received++;
    return 1;
}

/* If the next record names a cell as well, that cell arrives while the caller uses this one. */
static void fetch_next_cell(const struct ivshm_transport *t, const struct ivshm_channel *ch)
{
    struct ivshm_record next;
    uint32_t size;
    if (!ivshm_ring_peek_spsc(&ch->ring_in, ch->received + 1, &next) ||
        next.kind != IVSHM_RECORD_CELL)
        return;
    const struct ivshm_cell_shm *cell = cell_of(&t->region->geo, ch, next.value, &size);
    if (cell)
        ivshm_lines_prefetch(cell, size);
}

static int open_record(struct ivshm_transport *t, struct ivshm_channel *ch,
                       struct ivshm_record record, struct ivshm_incoming *in,
                       struct ivshm_diag *diag)
{
    struct ivshm_ring_consumer *ring = &ch->ring_in;

    in->channel = ch;
    switch (record.kind) {
    case IVSHM_RECORD_INLINE:
    case IVSHM_RECORD_BUFFER:
        if (record.value > (record.kind == IVSHM_RECORD_INLINE ? ivshm_slot_room(ring->slot_size)
                                                               : ring->buffer_size))
            break;
        ch->received++;
        in->payload = ivshm_ring_payload(ring, record);
        in->len = record.value;
        in->stream = 0;
        in->cell = NULL;
        return 1;
    case IVSHM_RECORD_CELL:
        ivshm_ring_consume_spsc(ring);
        fetch_next_cell(t, ch);
        return open_cell(t, ch, record.value, in, diag);
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

    if (in->len != sizeof(off) || ch->ring_in.shm)
        return ivshm_diag_fail(
            diag, EBADMSG, "endpoint %u announced a ring in a message of %u bytes%s",
            ch->peer.endpoint, in->len, ch->ring_in.shm ? ", but has one already" : "");
    memcpy(&off, in->payload, sizeof(off));
    int err = ivshm_ring_attach(t->region, ch->peer, off, &ch->ring_in, diag);
    if (err)
        return err;
    IVSHM_TRACEPOINT(ring_bound);
    if (!ch->paused)
        add_ring(t, ch);
    return 0;
}

/*
 * Receives from a ring: from one of the polled ones, beginning behind the last one checked, or from
 * the next idle one.
 */
static int from_rings(struct ivshm_transport *t, struct ivshm_incoming *in, struct ivshm_diag *diag)
{
    struct ivshm_record record;
    for (uint32_t n = t->polled_count; n > 0; n--) {
        if (t->next_polled >= t->polled_count)
            t->next_polled = 0;
        struct ivshm_channel *ch = t->rings[t->next_polled++];
        if (ivshm_ring_peek_spsc(&ch->ring_in, ch->received, &record))
            return open_record(t, ch, record, in, diag);
    }
    if (t->ring_count > t->polled_count) {
        if (t->next_idle < t->polled_count || t->next_idle >= t->ring_count)
            t->next_idle = t->polled_count;
        struct ivshm_channel *ch = t->rings[t->next_idle++];
        if (ivshm_ring_peek_spsc(&ch->ring_in, ch->received, &record)) {
            promote_ring(t, ch);
            return open_record(t, ch, record, in, diag);
        }
    }
    return 0;
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
        if ((ref.cell & 255) == IVSHM_REF_DOORBELL) {
            if (in->channel->ring_in.shm && !in->channel->paused)
                promote_ring(t, in->channel);
        } else {
            got = open_cell(t, in->channel, ref.cell & 255, in, diag);
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
    if (ch->ring_in.shm && !ch->paused)
        remove_ring(t, ch);
    ch->ring_in.shm = NULL;
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
    if (in->cell)
        ivshm_a32_store_release(&in->cell->state, IVSHM_CELL_FREE); /* release C1 */
    else if (!in->channel->broken)
        ivshm_ring_consume_spsc(&in->channel->ring_in);
}

void ivshm_transport_watch(struct ivshm_transport *t)
{
    ivshm_transport_mark_dead(t);
    for (uint32_t i = 0; i < t->region->geo.endpoints; i++) {
        struct ivshm_channel *ch = t->channels[i];
        if (ch && ch->users == 0 && is_forgettable(t, ch))
            detach_channel(t, ch);
        else if (ch && !ch->pending && !ivshm_channel_is_live(t, ch))
            reclaim_cells(t, ch); /* its users may need cells before they close it */
    }
}
