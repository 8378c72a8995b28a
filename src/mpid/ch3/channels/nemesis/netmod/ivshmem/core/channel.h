/* SPDX-License-Identifier: mpich2 */
/*
 * Messages between this process and its peers: a transport is the process' own side (endpoint,
 * inbox, pools), a channel one peer's. What is sent on a channel arrives in order. Nothing here
 * waits. One thread a transport.
 */
#ifndef IVSHM_CHANNEL_H
#define IVSHM_CHANNEL_H

#include "endpoint.h"
#include "pool.h"
#include "queue.h"
#include "ring.h"

/* Rings that are looked at in every call; one of the others a call. */
#define IVSHM_RINGS_POLLED 16

struct ivshm_channel {
    struct ivshm_owner peer;
    void *base; /* the peer's base extent, while attached */
    uint32_t users;
    uint32_t sent, received; /* messages, for their sequence numbers */
    bool pending;            /* a cell that found the peer's inbox full waits in pending_ref */
    struct ivshm_ref pending_ref;
    struct ivshm_queue_producer inbox;
    struct ivshm_ring_producer ring_out; /* once there is one, all goes that way */
    struct ivshm_ring_consumer ring_in;
    bool ring_tried;
    bool broken;         /* the peer has sent nonsense; what it sends is not looked at any more */
    bool paused;         /* its ring is not looked at for now */
    uint32_t poll_index; /* in the transport's rings, if there is a ring_in, and it is not paused */
};

struct ivshm_transport {
    struct ivshm_region *region;
    struct ivshm_endpoint endpoint;
    struct ivshm_queue_consumer inbox;
    struct ivshm_pool small, large;
    struct ivshm_channel **channels; /* by endpoint; NULL where not attached */
    uint32_t pending;                /* channels whose cell waits */
    uint32_t ring_after;             /* messages, before a channel gets a ring */
    uint32_t piece;                  /* bytes: of more, so many are reserved at a time */
    struct ivshm_channel **rings;    /* those with a ring_in, the polled ones first */
    uint32_t ring_count, polled_count;
    uint32_t next_polled, next_idle; /* where to look next */
    bool ring_was_last;
};

/* A message to send: reserve, fill `payload`, then publish or discard. */
struct ivshm_outgoing {
    unsigned char *payload;
    uint32_t capacity; /* bytes */
    uint32_t stream;
    uint32_t cell; /* core's: small cells first, then large ones; or one of the two below */
};

#define IVSHM_IN_SLOT UINT32_MAX
#define IVSHM_IN_BUFFER (UINT32_MAX - 1)

/* A message that was received: use, then release. */
struct ivshm_incoming {
    struct ivshm_channel *channel;
    const unsigned char *payload; /* in the region: the peer can change it, read it once */
    uint32_t len;                 /* bytes; checked: all of them are there */
    uint32_t stream;
    struct ivshm_cell_shm *cell; /* core's; NULL: in a slot or a buffer of the ring */
};

/* Joins the region. Errors as ivshm_endpoint_join, and -ENOMEM. */
int ivshm_transport_open(struct ivshm_transport *t, struct ivshm_region *region, const char *job,
                         uint32_t rank, uint32_t job_size, struct ivshm_diag *diag);

/* Leaves it, and gives everything back. */
void ivshm_transport_close(struct ivshm_transport *t);

/* Which endpoint the caller is, to others. */
static inline struct ivshm_owner ivshm_transport_self(const struct ivshm_transport *t)
{
    return t->endpoint.owner;
}

/* The memory into which others write and from which the caller reads; *bytes of it. */
static inline const void *ivshm_transport_memory(const struct ivshm_transport *t, size_t *bytes)
{
    *bytes = t->region->geo.base_bytes;
    return t->endpoint.base;
}

/*
 * The channel to `peer`, opened if need be; each call counts as one user. Errors as
 * ivshm_endpoint_attach, and -ENOMEM.
 */
int ivshm_channel_open(struct ivshm_transport *t, struct ivshm_owner peer,
                       struct ivshm_channel **channel, struct ivshm_diag *diag);

/*
 * One user less. What was sent before still arrives, and the peer may send on: without a user, a
 * channel ends with its peer, in ivshm_transport_watch.
 */
void ivshm_channel_close(struct ivshm_transport *t, struct ivshm_channel *channel);

/* One user more, of a channel that is open. */
static inline void ivshm_channel_hold(struct ivshm_channel *channel)
{
    channel->users++;
}

static inline struct ivshm_owner ivshm_channel_peer(const struct ivshm_channel *channel)
{
    return channel->peer;
}

/* Whether a message that was published waits for room in the peer's inbox. */
static inline bool ivshm_channel_is_pending(const struct ivshm_channel *channel)
{
    return channel->pending;
}

/* How many of our cells the peer holds. Cost: the number of cells. */
uint32_t ivshm_channel_cells_in_flight(struct ivshm_transport *t,
                                       const struct ivshm_channel *channel);

/* Whether the peer is still there; one load. */
static inline bool ivshm_channel_is_live(const struct ivshm_transport *t,
                                         const struct ivshm_channel *channel)
{
    return ivshm_endpoint_is_live(t->region, channel->peer);
}

/* Whether peers hold more than half of our small or large cells. Cost, if so: their number. */
bool ivshm_transport_is_half_in_flight(struct ivshm_transport *t);

/* The rest of the two below: what is not in a slot of the ring. */
int ivshm_message_reserve_elsewhere(struct ivshm_transport *t, struct ivshm_channel *channel,
                                    size_t want, uint32_t stream, struct ivshm_outgoing *out);
void ivshm_message_publish_elsewhere(struct ivshm_transport *t, struct ivshm_channel *channel,
                                     const struct ivshm_outgoing *out, uint32_t len);

/* Tells a peer that does not poll our ring to look at it. */
void ivshm_channel_ring_doorbell(struct ivshm_transport *t, struct ivshm_channel *channel);

/* Whether a message of `len` bytes on stream 0 could be reserved now, in a slot of the ring. */
static inline unsigned char *ivshm_channel_slot(struct ivshm_channel *channel, size_t len)
{
    struct ivshm_ring_producer *ring = &channel->ring_out;
    const uint32_t room = ring->slot_size - (uint32_t) sizeof(struct ivshm_slot_shm);
    if (!ring->shm || channel->pending || len > room)
        return NULL;
    return ivshm_ring_reserve_spsc(ring);
}

/*
 * Room for `want` bytes on `stream` (not IVSHM_STREAM_RING), or, if that is more than goes well in
 * one message, for a piece of them: out->capacity says how many, and may be more than `want`. One
 * message at a time. -EAGAIN if all cells are in flight, or the ring or the peer's inbox is full:
 * later, after peers have made progress.
 */
static inline __attribute__((always_inline)) int
ivshm_message_reserve(struct ivshm_transport *t, struct ivshm_channel *channel, size_t want,
                      uint32_t stream, struct ivshm_outgoing *out)
{
    unsigned char *slot = stream == 0 ? ivshm_channel_slot(channel, want) : NULL;
    if (__builtin_expect(slot != NULL, 1)) {
        *out = (struct ivshm_outgoing){slot, (uint32_t) want, 0, IVSHM_IN_SLOT};
        return 0;
    }
    /* By a copy, so that the caller's need not be in memory. */
    struct ivshm_outgoing elsewhere;
    int err = ivshm_message_reserve_elsewhere(t, channel, want, stream, &elsewhere);
    if (err == 0)
        *out = elsewhere;
    return err;
}

/* Sends the first `len` bytes of the payload, at most its capacity. */
static inline __attribute__((always_inline)) void
ivshm_message_publish(struct ivshm_transport *t, struct ivshm_channel *channel,
                      const struct ivshm_outgoing *out, uint32_t len)
{
    if (__builtin_expect(out->cell == IVSHM_IN_SLOT, 1)) {
        struct ivshm_record record = {channel->sent++, IVSHM_RECORD_INLINE, len};
        ivshm_ring_publish_spsc(&channel->ring_out, record);
        if (ivshm_ring_wants_doorbell(&channel->ring_out))
            ivshm_channel_ring_doorbell(t, channel);
        return;
    }
    const struct ivshm_outgoing elsewhere = *out;
    ivshm_message_publish_elsewhere(t, channel, &elsewhere, len);
}

/* Sends nothing of it: a slot or a buffer of the ring is the next message's. */
void ivshm_cell_discard(struct ivshm_transport *t, uint32_t cell);
static inline __attribute__((always_inline)) void
ivshm_message_discard(struct ivshm_transport *t, const struct ivshm_outgoing *out)
{
    if (out->cell != IVSHM_IN_SLOT && out->cell != IVSHM_IN_BUFFER)
        ivshm_cell_discard(t, out->cell);
}

/* Whether a short look finds nothing to receive, nor rings that it does not look at. */
static inline bool ivshm_transport_is_empty(const struct ivshm_transport *t)
{
    struct ivshm_record record;
    for (uint32_t i = 0; i < t->polled_count; i++)
        if (ivshm_ring_peek_spsc(&t->rings[i]->ring_in, t->rings[i]->received, &record))
            return false;
    return t->ring_count == t->polled_count && ivshm_queue_is_empty_mpsc(&t->inbox);
}

/*
 * The next message for us: 1, or 0 if none was found: idle rings are not looked at in every call.
 * -EBADMSG if a peer sent nonsense: diag says what, and in->channel is the peer's if it is known,
 * else NULL. Nothing more is received on that channel.
 */
int ivshm_transport_receive(struct ivshm_transport *t, struct ivshm_incoming *in,
                            struct ivshm_diag *diag);

/* Done with the message, before the next one is received from that peer's ring. */
void ivshm_message_release(struct ivshm_incoming *in);

/*
 * For a caller who can do nothing with a message yet, and does not release it: nothing more is
 * received from that peer's ring until the channel is resumed. Cells that come by the inbox, no
 * more than the peer has, are received all the same, and have to wait like the first.
 */
void ivshm_channel_pause(struct ivshm_transport *t, struct ivshm_channel *channel);
void ivshm_channel_resume(struct ivshm_transport *t, struct ivshm_channel *channel);

static inline bool ivshm_channel_is_paused(const struct ivshm_channel *channel)
{
    return channel->paused;
}

/* Where in the inbox the next message is looked for. */
static inline uint32_t ivshm_transport_inbox_position(const struct ivshm_transport *t)
{
    return (uint32_t) t->inbox.head;
}

/*
 * Whether a message of the peer's may be there, but in the ring of a paused channel; if so, the
 * next calls look for it. Once the peer was seen dead, at `position`, false is final: edge E2. What
 * it had sent by then lies within one lap of the inbox from there, whatever others send.
 */
bool ivshm_channel_has_more(struct ivshm_transport *t, struct ivshm_channel *channel,
                            uint32_t position);

/* Sends cells that found a full inbox. To be called now and then; costs nothing if there is none.
 */
void ivshm_transport_flush_pending(struct ivshm_transport *t);
static inline void ivshm_transport_flush(struct ivshm_transport *t)
{
    if (t->pending)
        ivshm_transport_flush_pending(t);
}

/* Marks as dead what can be proved of the processes of this VM, and frees nothing. */
static inline void ivshm_transport_mark_dead(struct ivshm_transport *t)
{
    ivshm_endpoint_watch(t->region, &t->endpoint.process);
}

/*
 * Looks for deaths: marks what can be proved of the processes of this VM, takes back cells that
 * the dead hold, and forgets peers that are gone and have no user. Some microseconds; to be called
 * now and then, when idle.
 */
void ivshm_transport_watch(struct ivshm_transport *t);

#endif
