/* SPDX-License-Identifier: mpich2 */
/*
 * Messages between this process and its peers. A transport is the process' own side: its endpoint,
 * inbox, pools and channels. A channel is all that it keeps for one peer. Messages on a channel
 * arrive in order.
 *
 * Nothing here waits: what cannot proceed returns at once, for the caller to try again later. A
 * transport and its channels are used by one thread at a time. Errors are negative errnos; outputs
 * are set only on success. Lengths are in bytes. Costs that are not stated are constant. Messages
 * travel by edges Q1 or R1; their memory is reused by C1 or R2.
 */
#ifndef IVSHM_CHANNEL_H
#define IVSHM_CHANNEL_H

#include "endpoint.h"
#include "pool.h"
#include "queue.h"
#include "ring.h"

/*
 * At most so many rings are checked in every receive, and one of the others, the idle rings, in
 * turn.
 */
#define IVSHM_RINGS_POLLED 16

/* The fields of the two structures below are core's; use the functions. */
struct ivshm_channel {
    struct ivshm_owner peer;
    void *base; /* the peer's base extent, while attached */
    uint32_t users;
    uint32_t sent, received; /* messages: the next sequence numbers */
    bool pending;            /* the peer's inbox was full: pending_ref waits for it */
    struct ivshm_ref pending_ref;
    struct ivshm_queue_producer inbox;
    struct ivshm_ring_producer ring_out; /* once there is one, every message takes it */
    struct ivshm_ring_consumer ring_in;
    bool ring_tried;
    bool broken;         /* the peer has sent invalid data; nothing more is received from it */
    bool paused;         /* its ring is not checked for now */
    uint32_t poll_index; /* in the transport's `rings`, if it has a ring_in and is not paused */
};

struct ivshm_transport {
    struct ivshm_region *region;
    struct ivshm_endpoint endpoint;
    struct ivshm_queue_consumer inbox;
    struct ivshm_pool small, large;
    struct ivshm_channel **channels; /* by endpoint; NULL where not attached */
    uint32_t pending;                /* number of channels with a pending cell */
    uint32_t ring_after;             /* messages until a channel gets a ring */
    uint32_t piece;                  /* bytes: longer messages are cut into such pieces */
    struct ivshm_channel **rings;    /* channels with a ring_in, the polled ones first */
    uint32_t ring_count, polled_count;
    uint32_t next_polled, next_idle; /* where to continue */
    bool ring_was_last;              /* the last message came through a ring */
};

/* A message to send: reserve, fill `payload`, then publish or discard. */
struct ivshm_outgoing {
    unsigned char *payload;
    uint32_t capacity; /* bytes of payload */
    uint32_t stream;
    uint32_t cell; /* core's: the cell, small ones first; or one of the two below */
};

#define IVSHM_IN_SLOT UINT32_MAX
#define IVSHM_IN_BUFFER (UINT32_MAX - 1)

/* A received message: use it in place, then release it. */
struct ivshm_incoming {
    struct ivshm_channel *channel;
    const unsigned char *payload; /* in the region: read it once, as the peer can change it */
    uint32_t len;                 /* bytes; checked against the memory that holds them */
    uint32_t stream;
    struct ivshm_cell_shm *cell; /* core's; NULL if the payload is in the ring */
};

/*
 * Joins the region, which outlives the transport. `job` is copied. Ends with ivshm_transport_close.
 * Errors as ivshm_endpoint_join, and -ENOMEM. Cost: that of a join. Release E1.
 */
int ivshm_transport_open(struct ivshm_transport *t, struct ivshm_region *region, const char *job,
                         uint32_t rank, uint32_t job_size, struct ivshm_diag *diag);

/*
 * Leaves the region (release E2). All channels, payloads and reservations become invalid. Cost:
 * that of ivshm_endpoint_leave.
 */
void ivshm_transport_close(struct ivshm_transport *t);

/* The caller's endpoint, as peers know it. */
static inline struct ivshm_owner ivshm_transport_self(const struct ivshm_transport *t)
{
    return t->endpoint.owner;
}

/* The checksum of the caller's identity, for ivshm_endpoint_find. */
static inline uint64_t ivshm_transport_seal(const struct ivshm_transport *t)
{
    return ivshm_endpoint_seal(&t->endpoint);
}

/* Where the process of an entry runs, as seen by the caller. */
static inline enum ivshm_locality ivshm_transport_locality(const struct ivshm_transport *t,
                                                           const struct ivshm_endpoint_info *info)
{
    return ivshm_endpoint_locality(t->region, &t->endpoint.process, info);
}

/* The caller's base extent, of *bytes bytes, into which others write and from which it receives. */
static inline const void *ivshm_transport_memory(const struct ivshm_transport *t, size_t *bytes)
{
    *bytes = t->region->geo.base_bytes;
    return t->endpoint.base;
}

/*
 * The channel to `peer`, opened if necessary. Each call adds a user, and ends with
 * ivshm_channel_close. Errors as ivshm_endpoint_attach, and -ENOMEM. Cost of opening: that of an
 * attach (A1).
 */
int ivshm_channel_open(struct ivshm_transport *t, struct ivshm_owner peer,
                       struct ivshm_channel **channel, struct ivshm_diag *diag);

/*
 * Removes a user; the caller must not use the channel any more. What was sent before still arrives,
 * and the peer may still send: a channel without users ends when its peer has gone, here or in
 * ivshm_transport_watch. Cost: constant until it ends, then that of freeing its ring and cells.
 */
void ivshm_channel_close(struct ivshm_transport *t, struct ivshm_channel *channel);

/* Adds a user to an open channel, which ends with ivshm_channel_close. */
static inline void ivshm_channel_hold(struct ivshm_channel *channel)
{
    channel->users++;
}

/* The peer that it leads to. */
static inline struct ivshm_owner ivshm_channel_peer(const struct ivshm_channel *channel)
{
    return channel->peer;
}

/* Whether a published message still waits for room in the peer's inbox. */
static inline bool ivshm_channel_is_pending(const struct ivshm_channel *channel)
{
    return channel->pending;
}

/* How many of our cells the peer holds. Cost: a load for each cell in flight (acquire C1). */
uint32_t ivshm_channel_cells_in_flight(struct ivshm_transport *t,
                                       const struct ivshm_channel *channel);

/* Whether the peer is still there; false is final (acquire E2). One load. */
static inline bool ivshm_channel_is_live(const struct ivshm_transport *t,
                                         const struct ivshm_channel *channel)
{
    return ivshm_endpoint_is_live(t->region, channel->peer);
}

/*
 * Whether more than half of our small or of our large cells are in flight. Cost: constant if not,
 * else a load for each of them (acquire C1).
 */
bool ivshm_transport_is_half_in_flight(struct ivshm_transport *t);

/*
 * Core's own, parts of ivshm_message_reserve and _publish: whatever is not in a slot of the ring.
 */
int ivshm_message_reserve_elsewhere(struct ivshm_transport *t, struct ivshm_channel *channel,
                                    size_t want, uint32_t stream, struct ivshm_outgoing *out);
void ivshm_message_publish_elsewhere(struct ivshm_transport *t, struct ivshm_channel *channel,
                                     const struct ivshm_outgoing *out, uint32_t len);

/* Core's own: tells a peer for which our ring is idle to check it. Dropped if its inbox is full. */
void ivshm_channel_ring_doorbell(struct ivshm_transport *t, struct ivshm_channel *channel);

/* Core's own: sends a record of the channel's ring, with a doorbell if the ring is idle. */
static inline __attribute__((always_inline)) void
ivshm_channel_publish_record(struct ivshm_transport *t, struct ivshm_channel *channel,
                             enum ivshm_record_kind kind, uint32_t value)
{
    ivshm_ring_publish_spsc(&channel->ring_out,
                            (struct ivshm_record){channel->sent++, kind, value});
    if (ivshm_ring_wants_doorbell(&channel->ring_out))
        ivshm_channel_ring_doorbell(t, channel);
}

/*
 * Core's own: the payload of the ring's next slot if a message of `len` bytes on stream 0 can be
 * reserved there now, else NULL. The slot stays free until it is published.
 */
static inline unsigned char *ivshm_channel_reserve_slot(struct ivshm_channel *channel, size_t len)
{
    struct ivshm_ring_producer *ring = &channel->ring_out;
    if (!ring->shm || channel->pending || len > ivshm_slot_room(ring->slot_size))
        return NULL;
    return ivshm_ring_reserve_spsc(ring);
}

/*
 * Whether a message of `len` bytes on stream 0 is certain to be reserved and sent in one piece, if
 * it is the next one on the channel. False also where that would take a buffer or a cell. Cost: a
 * few loads.
 */
static inline bool ivshm_message_fits_now(struct ivshm_channel *channel, size_t len)
{
    return ivshm_channel_reserve_slot(channel, len) != NULL;
}

/*
 * Reserves room for `want` bytes on `stream` (not IVSHM_STREAM_RING). If that is more than goes
 * well in one message, the room is for a piece: out->capacity says how many bytes fit, and may
 * exceed `want`. One reservation at a time on a channel; it ends in publish or discard. -EAGAIN if
 * all cells are in flight, the ring is full, or an earlier message waits for the peer's inbox: try
 * again after peers have made progress. Cost: constant, but for the call that allocates the
 * channel's ring, and a load for each cell in flight if no free cell is known.
 */
static inline __attribute__((always_inline)) int
ivshm_message_reserve(struct ivshm_transport *t, struct ivshm_channel *channel, size_t want,
                      uint32_t stream, struct ivshm_outgoing *out)
{
    unsigned char *slot = stream == 0 ? ivshm_channel_reserve_slot(channel, want) : NULL;
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

/*
 * Sends the first `len` bytes of the payload, at most its capacity (release R1 or Q1). Never fails:
 * if the peer's inbox is full, the message waits for ivshm_transport_flush.
 */
static inline __attribute__((always_inline)) void
ivshm_message_publish(struct ivshm_transport *t, struct ivshm_channel *channel,
                      const struct ivshm_outgoing *out, uint32_t len)
{
    if (__builtin_expect(out->cell == IVSHM_IN_SLOT, 1)) {
        ivshm_channel_publish_record(t, channel, IVSHM_RECORD_INLINE, len);
        return;
    }
    const struct ivshm_outgoing elsewhere = *out;
    ivshm_message_publish_elsewhere(t, channel, &elsewhere, len);
}

/* Core's own: frees a cell that was reserved and not sent. */
void ivshm_cell_discard(struct ivshm_transport *t, uint32_t cell);

/* Gives up a reservation and sends nothing: its slot or buffer serves the next message. */
static inline __attribute__((always_inline)) void
ivshm_message_discard(struct ivshm_transport *t, const struct ivshm_outgoing *out)
{
    if (out->cell != IVSHM_IN_SLOT && out->cell != IVSHM_IN_BUFFER)
        ivshm_cell_discard(t, out->cell);
}

/*
 * Whether there is nothing to receive as far as a short look can tell: false also if there are idle
 * rings, which it does not check. Cost: a load for each polled ring.
 */
static inline bool ivshm_transport_is_empty(const struct ivshm_transport *t)
{
    struct ivshm_record record;
    for (uint32_t i = 0; i < t->polled_count; i++)
        if (ivshm_ring_peek_spsc(&t->rings[i]->ring_in, t->rings[i]->received, &record))
            return false;
    return t->ring_count == t->polled_count && ivshm_queue_is_empty_mpsc(&t->inbox);
}

/*
 * Receives the next message (acquire Q1 or R1): returns 1, or 0 if none was found; idle rings are
 * checked in turn, not in every call. -EBADMSG if a peer sent invalid data: diag says what, and
 * in->channel is the peer's, or NULL if there is none. Nothing more is received on that channel.
 * Cost: bounded, whatever peers write; that of an attach for the first message of a peer.
 */
int ivshm_transport_receive(struct ivshm_transport *t, struct ivshm_incoming *in,
                            struct ivshm_diag *diag);

/*
 * Ends the use of a message (release C1 or R2). A message from a ring is released before the next
 * receive, unless its channel is paused; others in any order.
 */
void ivshm_message_release(struct ivshm_incoming *in);

/*
 * For a caller that cannot use a message yet and therefore does not release it: nothing more is
 * received from that peer's ring until the channel is resumed. Messages that come through the
 * inbox, at most as many as the peer has cells, are still received and have to wait like the first.
 */
void ivshm_channel_pause(struct ivshm_transport *t, struct ivshm_channel *channel);
void ivshm_channel_resume(struct ivshm_transport *t, struct ivshm_channel *channel);

/* Whether nothing is received from the peer's ring for now. */
static inline bool ivshm_channel_is_paused(const struct ivshm_channel *channel)
{
    return channel->paused;
}

/* The inbox position at which the next message is expected. */
static inline uint32_t ivshm_transport_inbox_position(const struct ivshm_transport *t)
{
    return (uint32_t) t->inbox.head;
}

/*
 * Whether a message of the peer may still be there, other than in the ring of a paused channel; if
 * so, the next calls will find it. Once the peer was seen dead, at `position`, false is final (E2):
 * what it had sent by then lies within one lap of the inbox from there, whatever others send.
 */
bool ivshm_channel_has_more(struct ivshm_transport *t, struct ivshm_channel *channel,
                            uint32_t position);

/*
 * Sends messages that found a full inbox. Call it in every progress call. Cost: nothing if there is
 * none, else a look at every channel.
 */
void ivshm_transport_flush_pending(struct ivshm_transport *t);
static inline void ivshm_transport_flush(struct ivshm_transport *t)
{
    if (t->pending)
        ivshm_transport_flush_pending(t);
}

/*
 * Marks dead what can be proved of the processes of this machine, and frees nothing. Cost as
 * ivshm_endpoint_watch.
 */
static inline void ivshm_transport_mark_dead(struct ivshm_transport *t)
{
    ivshm_endpoint_watch(t->region, &t->endpoint.process);
}

/*
 * Handles deaths: marks what can be proved of the processes of this machine, reclaims cells that
 * dead peers hold, and ends channels whose peer has gone and that have no user. Call it about once
 * a second, when idle and when busy. Cost: that of ivshm_endpoint_watch, and a look at every
 * channel.
 */
void ivshm_transport_watch(struct ivshm_transport *t);

#endif
