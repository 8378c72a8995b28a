/* SPDX-License-Identifier: mpich2 */
#include "channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

int ivshm_channel_attach(struct ivshm_transport *t, struct ivshm_owner peer,
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
    ch->bell = ivshm_endpoint_bell(t->region, peer.endpoint);
    ivshm_queue_producer_init(&ch->inbox, ch->base, t->region->geo.inbox_slots);
    const struct ivshm_geometry *geo = &t->region->geo;
    uint32_t cell = geo->large_size - (uint32_t) sizeof(struct ivshm_cell_shm);
    /* As a buffer of a ring, so that the receiver empties one while the next is filled. */
    const uint32_t eager[] = {geo->buffer_size ? geo->buffer_size : cell, cell},
                   pipeline[] = {geo->chunk_size / 4, geo->chunk_size};
    ivshm_choice_init(&ch->choice, eager, pipeline, t->way, t->piece);
    t->channels[peer.endpoint] = ch;
    *channel = ch;
    return 0;
}

void ivshm_channel_reclaim_cells(struct ivshm_transport *t, const struct ivshm_channel *ch)
{
    ivshm_pool_reclaim(&t->small, ch->peer.endpoint);
    ivshm_pool_reclaim(&t->large, ch->peer.endpoint);
}

void ivshm_channel_detach(struct ivshm_transport *t, struct ivshm_channel *ch)
{
    IVSHM_TRACEPOINT(channel_detach);
    /* The peer has gone, or has never known of the ring. */
    if (ch->ring_out.shm)
        ivshm_ring_free(t->region, t->endpoint.owner, &ch->ring_out);
    if (ivshm_channel_is_in_poll_set(ch))
        ivshm_poll_set_remove(&t->poll_set, &ch->in);
    /* A live peer frees its cells itself, whether we are attached or not. */
    if (!ivshm_channel_is_live(t, ch))
        ivshm_channel_reclaim_cells(t, ch);
    t->pending -= ch->pending;
    ivshm_endpoint_detach(&t->endpoint, ch->peer.endpoint);
    IVSHM_TRACEPOINT(channel_detached);
    t->channels[ch->peer.endpoint] = NULL;
    free(ch);
}

bool ivshm_channel_has_more(struct ivshm_transport *t, struct ivshm_channel *ch, uint32_t position)
{
    struct ivshm_record record;
    if (ivshm_channel_is_in_poll_set(ch) && ivshm_poll_entry_peek(&ch->in, &record)) {
        ivshm_poll_set_promote(&t->poll_set, &ch->in);
        return true;
    }
    return (uint32_t) t->inbox.head - position < t->inbox.slots &&
           !ivshm_queue_is_empty_mpsc(&t->inbox);
}

void ivshm_channel_pause(struct ivshm_transport *t, struct ivshm_channel *ch)
{
    if (ivshm_channel_is_in_poll_set(ch))
        ivshm_poll_set_remove(&t->poll_set, &ch->in);
    ch->paused = true;
}

void ivshm_channel_resume(struct ivshm_transport *t, struct ivshm_channel *ch)
{
    if (ch->in.ring.shm && ch->paused)
        ivshm_poll_set_add(&t->poll_set, &ch->in);
    ch->paused = false;
}

bool ivshm_channel_is_forgettable(struct ivshm_transport *t, struct ivshm_channel *ch)
{
    return !ivshm_channel_is_live(t, ch) &&
           !ivshm_channel_has_more(t, ch, (uint32_t) t->inbox.head);
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
        ivshm_channel_detach(t, ch);
        ch = NULL;
    }
    if (!ch) {
        int err = ivshm_channel_attach(t, peer, &ch, diag);
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
    if (--channel->users == 0 && ivshm_channel_is_forgettable(t, channel))
        ivshm_channel_detach(t, channel);
}

void ivshm_channel_end(struct ivshm_transport *t, struct ivshm_channel *channel)
{
    if (--channel->users == 0)
        ivshm_channel_detach(t, channel);
}

/* What goes into the peer's inbox. */
static struct ivshm_ref make_ref(const struct ivshm_transport *t, uint32_t cell)
{
    const struct ivshm_owner *self = &t->endpoint.owner;
    return ivshm_ref_make(self->endpoint, self->generation, cell);
}

static struct ivshm_pool *pool_of(struct ivshm_transport *t, uint32_t *index)
{
    if (*index < t->small.count)
        return &t->small;
    *index -= t->small.count;
    return &t->large;
}

bool ivshm_channel_flush(struct ivshm_transport *t, struct ivshm_channel *ch)
{
    if (ch->pending && ivshm_queue_push_mpsc(&ch->inbox, ch->pending_ref) == 0) {
        ch->pending = false;
        t->pending--;
        ivshm_channel_wake(t, ch);
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

void ivshm_message_write_elsewhere(struct ivshm_outgoing *out, size_t at, const void *from,
                                   size_t bytes)
{
    bool begins = out->how.note & IVSHM_NOTE_BEGINS;
    uint64_t began = begins ? ivshm_ticks() : 0;

    ivshm_copy_in(out->payload + at, from, bytes, out->how.way);
    if (begins)
        out->ticks += ivshm_ticks_of_stores() - began;
}

uint32_t ivshm_channel_fill_chunk(struct ivshm_channel *channel, ivshm_plan *plan, bool begins,
                                  unsigned char *chunk, const void *from, size_t bytes,
                                  size_t least, uint32_t *note)
{
    struct ivshm_choice *choice = &channel->choice;

    if (begins)
        *plan = ivshm_choice_plan(choice, IVSHM_CHOICE_PIPELINE, bytes,
                                  ivshm_ring_last_answer(&channel->ring_out));
    const struct ivshm_how how =
        ivshm_choice_next(choice, IVSHM_CHOICE_PIPELINE, *plan, bytes, least, begins);
    uint32_t len = (uint32_t) min_size(bytes, how.piece);
    bool is_timed = how.note & IVSHM_NOTE_BEGINS;
    uint64_t began = is_timed ? ivshm_ticks() : 0;
    ivshm_copy_in(chunk, from, len, how.way);
    ivshm_choice_sent(choice, how.note, is_timed ? ivshm_ticks_of_stores() - began : 0);
    *note = how.note;
    return len;
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
    ivshm_channel_wake(t, channel);
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
                                    size_t want, uint32_t stream, bool begins,
                                    struct ivshm_outgoing *out)
{
    struct ivshm_ring_producer *ring = &channel->ring_out;
    struct ivshm_choice *choice = &channel->choice;

    if (!ring->shm && channel->sent >= t->ring_after && !channel->ring_tried && !channel->pending)
        try_ring(t, channel);
    if (channel->pending && !ivshm_channel_flush(t, channel))
        return -EAGAIN;
    if (ring->shm && !ivshm_ring_reserve_spsc(ring))
        return -EAGAIN;
    bool in_ring = ring->shm && stream == 0;
    if (in_ring && want <= ivshm_slot_room(ring->slot_size) &&
        (begins || !channel->plan.is_sample)) {
        *out = (struct ivshm_outgoing){.payload = ivshm_ring_reserve_spsc(ring),
                                       .capacity = ivshm_slot_room(ring->slot_size),
                                       .cell = IVSHM_IN_SLOT};
        return 0;
    }
    if (begins)
        channel->plan = in_ring ? ivshm_choice_plan(choice, IVSHM_CHOICE_EAGER, want,
                                                    ivshm_ring_last_answer(ring))
                                : ivshm_choice_usual(choice, IVSHM_CHOICE_EAGER, want);
    const struct ivshm_how how =
        ivshm_choice_next(choice, IVSHM_CHOICE_EAGER, channel->plan, want, 0, begins);
    want = min_size(want, how.piece);
    /* If all buffers are in use, the receiver is busy: the message takes a cell. */
    unsigned char *buffer =
        in_ring && want <= ring->buffer_size ? ivshm_ring_buffer_spsc(ring) : NULL;
    if (buffer)
        *out = (struct ivshm_outgoing){
            .payload = buffer, .capacity = ring->buffer_size, .cell = IVSHM_IN_BUFFER};
    else if (reserve_cell(t, want, stream, out) != 0)
        return -EAGAIN;
    out->how = how;
    /* So that what ends the sample is sent as planned. */
    if (channel->plan.is_sample)
        out->capacity = (uint32_t) want;
    return 0;
}

void ivshm_channel_wake_sleeper(struct ivshm_transport *t, struct ivshm_channel *channel)
{
    /* If we cannot wake it, its announcement is for others. */
    switch (ivshm_sleep_announced(channel->inbox.shm)) {
    case IVSHM_SLEEP_ON_FUTEX:
        if (ivshm_endpoint_can_wake(&t->endpoint, channel->peer))
            t->wakes += ivshm_sleep_wake(channel->inbox.shm, IVSHM_SLEEP_ON_FUTEX);
        break;
    case IVSHM_SLEEP_ON_BELL:
        if (t->region->bell.self.rings && channel->bell.listens &&
            ivshm_sleep_wake(channel->inbox.shm, IVSHM_SLEEP_ON_BELL)) {
            ivshm_bell_ring(&t->region->bell, channel->bell);
            t->wakes++;
        }
        break;
    default:
        break;
    }
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
    const uint32_t note = out->how.note;

    if (note & (IVSHM_NOTE_BEGINS | IVSHM_NOTE_ENDS))
        ivshm_choice_sent(&channel->choice, note, out->ticks);
    if (!channel->ring_out.shm) {
        post_cell(t, channel, out, len);
    } else if (out->cell == IVSHM_IN_BUFFER) {
        ivshm_channel_publish_record(t, channel, IVSHM_RECORD_BUFFER, len, note);
    } else {
        seal_cell(t, channel, out, len);
        IVSHM_TRACEPOINT(cell_in_ring);
        ivshm_channel_publish_record(t, channel, IVSHM_RECORD_CELL, out->cell, note);
    }
}

void ivshm_cell_discard(struct ivshm_transport *t, uint32_t cell)
{
    struct ivshm_pool *pool = pool_of(t, &cell);
    ivshm_pool_free(pool, cell);
}

uint32_t ivshm_channel_cells_in_flight(struct ivshm_transport *t,
                                       const struct ivshm_channel *channel)
{
    return ivshm_pool_in_flight(&t->small, channel->peer.endpoint) +
           ivshm_pool_in_flight(&t->large, channel->peer.endpoint);
}
