/* SPDX-License-Identifier: mpich2 */
#include "channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int ivshm_transport_open(struct ivshm_transport *t, struct ivshm_region *region, const char *job,
                         uint32_t rank, uint32_t job_size, struct ivshm_diag *diag)
{
    const struct ivshm_geometry *geo = &region->geo;
    struct ivshm_transport r = {.region = region};
    int err = ivshm_endpoint_join(region, job, rank, job_size, &r.endpoint, diag);
    if (err)
        return err;

    char *base = r.endpoint.base;
    r.channels = calloc(geo->endpoints, sizeof(*r.channels));
    if (!r.channels ||
        ivshm_pool_init(&r.small, base + geo->small, geo->small_cells, geo->small_size) ||
        ivshm_pool_init(&r.large, base + geo->large, geo->large_cells, geo->large_size)) {
        err =
            ivshm_fail(diag, ENOMEM, "out of memory for the pools of region %s", region->map.name);
        goto leave;
    }
    ivshm_queue_consumer_init(&r.inbox, (struct ivshm_inbox_shm *) base, geo->inbox_slots);
    ivshm_endpoint_publish(&r.endpoint);
    *t = r;
    return 0;

leave:
    ivshm_pool_destroy(&r.small);
    free(r.channels);
    ivshm_endpoint_leave(&r.endpoint);
    return err;
}

void ivshm_transport_close(struct ivshm_transport *t)
{
    ivshm_endpoint_leave(&t->endpoint);
    for (uint32_t i = 0; i < t->region->geo.endpoints; i++)
        free(t->channels[i]);
    free(t->channels);
    ivshm_pool_destroy(&t->small);
    ivshm_pool_destroy(&t->large);
}

/* Attaches to `peer`, without a user yet. */
static int attach(struct ivshm_transport *t, struct ivshm_owner peer,
                  struct ivshm_channel **channel, struct ivshm_diag *diag)
{
    struct ivshm_channel *ch = calloc(1, sizeof(*ch));
    if (!ch)
        return ivshm_fail(diag, ENOMEM, "out of memory for a channel");
    ch->peer = peer;
    int err = ivshm_endpoint_attach(&t->endpoint, peer, &ch->base, diag);
    if (err) {
        free(ch);
        return err;
    }
    ivshm_queue_producer_init(&ch->inbox, ch->base, t->region->geo.inbox_slots);
    t->channels[peer.endpoint] = ch;
    *channel = ch;
    return 0;
}

static void detach(struct ivshm_transport *t, struct ivshm_channel *ch)
{
    /* Cells that a dead peer held are ours again; a live one hands them back, here or not. */
    if (!ivshm_channel_is_live(t, ch)) {
        ivshm_pool_recall(&t->small, ch->peer.endpoint);
        ivshm_pool_recall(&t->large, ch->peer.endpoint);
    }
    t->pending -= ch->pending;
    ivshm_endpoint_detach(&t->endpoint, ch->peer.endpoint);
    t->channels[ch->peer.endpoint] = NULL;
    free(ch);
}

/* Gone, and all that it had sent is received: the inbox is seen empty after the death, edge E2. */
static bool is_forgettable(const struct ivshm_transport *t, const struct ivshm_channel *ch)
{
    return !ivshm_channel_is_live(t, ch) && ivshm_queue_is_empty_mpsc(&t->inbox);
}

int ivshm_channel_open(struct ivshm_transport *t, struct ivshm_owner peer,
                       struct ivshm_channel **channel, struct ivshm_diag *diag)
{
    struct ivshm_channel *ch =
        peer.endpoint < t->region->geo.endpoints ? t->channels[peer.endpoint] : NULL;
    if (ch && ch->peer.generation != peer.generation) {
        /* We are attached to another generation of that entry, so yours cannot exist, or no more.
         */
        if (ch->users || ivshm_channel_is_live(t, ch))
            return ivshm_fail(diag, ESHUTDOWN, "endpoint %u generation %u of region %s has left",
                              peer.endpoint, peer.generation, t->region->map.name);
        detach(t, ch);
        ch = NULL;
    }
    if (!ch) {
        int err = attach(t, peer, &ch, diag);
        if (err)
            return err;
    }
    ch->users++;
    *channel = ch;
    return 0;
}

void ivshm_channel_close(struct ivshm_transport *t, struct ivshm_channel *channel)
{
    /* A cell may wait still, and the peer send on: while it lives, both count on the sequence. */
    if (--channel->users == 0 && is_forgettable(t, channel))
        detach(t, channel);
}

/*
 * What goes into a slot. A sender may leave, and another process take its entry and its memory,
 * before the receiver has looked: by the generation it knows that this message is lost, and not the
 * other's.
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

/* Sends the waiting cell; true if none waits any more. */
static bool flush(struct ivshm_transport *t, struct ivshm_channel *ch)
{
    if (ch->pending && ivshm_queue_push_mpsc(&ch->inbox, ch->pending_ref) == 0) {
        ch->pending = false;
        t->pending--;
    }
    return !ch->pending;
}

int ivshm_cell_reserve(struct ivshm_transport *t, struct ivshm_channel *channel, size_t want,
                       struct ivshm_outgoing *out)
{
    if (channel->pending && !flush(t, channel))
        return -EAGAIN;
    bool is_small = want <= t->small.size - sizeof(struct ivshm_cell_shm);
    int index = is_small ? ivshm_pool_take(&t->small) : -1;
    struct ivshm_pool *pool = &t->small;
    uint32_t first = 0;
    if (index < 0) {
        pool = &t->large;
        first = t->small.count;
        index = ivshm_pool_take(pool);
    }
    if (index < 0)
        return -EAGAIN;
    out->payload = ivshm_pool_cell(pool, (uint32_t) index)->payload;
    out->capacity = pool->size - (uint32_t) sizeof(struct ivshm_cell_shm);
    out->cell = first + (uint32_t) index;
    return 0;
}

void ivshm_cell_publish(struct ivshm_transport *t, struct ivshm_channel *channel,
                        const struct ivshm_outgoing *out, uint32_t len, uint32_t stream)
{
    uint32_t index = out->cell;
    struct ivshm_pool *pool = pool_of(t, &index);
    struct ivshm_cell_shm *cell = ivshm_pool_cell(pool, index);
    /* Relaxed: the push releases them, edge Q1. */
    ivshm_store32_relaxed(&cell->len, len);
    ivshm_store32_relaxed(&cell->stream, stream);
    ivshm_store32_relaxed(&cell->sequence, channel->sent++);
    ivshm_pool_sent(pool, index, channel->peer.endpoint);
    struct ivshm_ref ref = make_ref(t, out->cell);
    if (ivshm_queue_push_mpsc(&channel->inbox, ref) != 0) {
        channel->pending_ref = ref;
        channel->pending = true;
        t->pending++;
    }
}

void ivshm_cell_discard(struct ivshm_transport *t, const struct ivshm_outgoing *out)
{
    uint32_t index = out->cell;
    struct ivshm_pool *pool = pool_of(t, &index);
    ivshm_pool_put(pool, index);
}

void ivshm_transport_flush(struct ivshm_transport *t)
{
    for (uint32_t i = 0; i < t->region->geo.endpoints && t->pending; i++)
        if (t->channels[i] && t->channels[i]->pending)
            flush(t, t->channels[i]);
}

/* Who sent `ref`: attaches on its first message. *stale if that one has left since. */
static struct ivshm_channel *sender(struct ivshm_transport *t, struct ivshm_ref ref, bool *stale,
                                    struct ivshm_diag *diag)
{
    *stale = false;
    if (ref.endpoint >= t->region->geo.endpoints) {
        ivshm_fail(diag, EBADMSG, "a message in region %s names endpoint %u of %u",
                   t->region->map.name, ref.endpoint, t->region->geo.endpoints);
        return NULL;
    }
    struct ivshm_channel *ch = t->channels[ref.endpoint];
    struct ivshm_owner peer = {ref.endpoint, 0};
    peer.generation =
        ch ? ch->peer.generation : ivshm_endpoint_claim(t->region, ref.endpoint).generation;
    *stale = !is_of_generation(ref, peer.generation);
    if (ch || *stale)
        return ch;
    return attach(t, peer, &ch, diag) == 0 ? ch : NULL;
}

int ivshm_receive(struct ivshm_transport *t, struct ivshm_incoming *in, struct ivshm_diag *diag)
{
    const struct ivshm_geometry *geo = &t->region->geo;
    struct ivshm_ref ref;
    bool stale;
    do {
        if (!ivshm_queue_pop_mpsc(&t->inbox, &ref))
            return 0;
        in->channel = sender(t, ref, &stale, diag);
    } while (stale);
    if (!in->channel)
        return -EBADMSG;

    uint32_t number = ref.cell & 255;
    bool is_small = number < geo->small_cells;
    uint32_t index = is_small ? number : number - geo->small_cells;
    uint32_t size = is_small ? geo->small_size : geo->large_size;
    if (!is_small && index >= geo->large_cells)
        return ivshm_fail(diag, EBADMSG, "endpoint %u sent cell %u of %u", ref.endpoint, number,
                          geo->small_cells + geo->large_cells);
    char *cells = (char *) in->channel->base + (is_small ? geo->small : geo->large);
    in->cell = (struct ivshm_cell_shm *) (cells + (uint64_t) index * size);
    in->payload = in->cell->payload;
    /* Each read once, into a private copy that is checked and then used. */
    in->len = ivshm_load32_relaxed(&in->cell->len);
    in->stream = ivshm_load32_relaxed(&in->cell->stream);
    uint32_t sequence = ivshm_load32_relaxed(&in->cell->sequence);
    if (in->len > size - sizeof(struct ivshm_cell_shm))
        return ivshm_fail(diag, EBADMSG, "endpoint %u sent %u bytes in a cell of %u", ref.endpoint,
                          in->len, size);
    if (sequence != in->channel->received)
        return ivshm_fail(diag, EBADMSG,
                          "endpoint %u sent cell number %u where %u was due: one is lost",
                          ref.endpoint, sequence, in->channel->received);
    in->channel->received++;
    return 1;
}

void ivshm_hand_back(struct ivshm_incoming *in)
{
    ivshm_store32_release(&in->cell->state, IVSHM_CELL_HOME); /* C1 */
}

void ivshm_transport_watch(struct ivshm_transport *t)
{
    ivshm_endpoint_watch(t->region, &t->endpoint.process);
    for (uint32_t i = 0; i < t->region->geo.endpoints; i++) {
        struct ivshm_channel *ch = t->channels[i];
        if (ch && ch->users == 0 && is_forgettable(t, ch))
            detach(t, ch);
    }
}
