/* SPDX-License-Identifier: mpich2 */
/*
 * Channels: all that this process keeps for each of its peers, and how it sends. What its channels
 * share is its transport, which transport.h opens and closes, and through which it receives.
 * Messages on a channel arrive in order.
 *
 * Nothing here waits: what cannot proceed returns at once, for the caller to try again later. A
 * transport and its channels are used by one thread at a time. Errors are negative errnos; outputs
 * are set only on success. Lengths are in bytes. Costs that are not stated are constant. Messages
 * travel by edges Q1 or R1; their memory is reused by C1 or R2.
 */
#ifndef IVSHM_CHANNEL_H
#define IVSHM_CHANNEL_H

#include "endpoint.h"
#include "poll_set.h"
#include "pool.h"
#include "queue.h"
#include "ring.h"
#include "sleep.h"

#include <string.h>

/* The fields of the two structures below are core's; use the functions. */
struct ivshm_channel {
    struct ivshm_poll_entry in; /* the peer's ring, if it has announced one; what comes next */
    struct ivshm_owner peer;
    void *base; /* the peer's base extent, while attached */
    uint32_t users;
    uint32_t sent; /* messages: the next sequence number */
    bool pending;  /* the peer's inbox was full: pending_ref waits for it */
    struct ivshm_ref pending_ref;
    struct ivshm_queue_producer inbox;
    struct ivshm_ring_producer ring_out; /* once there is one, every message takes it */
    bool ring_tried;
    bool broken; /* the peer has sent invalid data; nothing more is received from it */
    bool paused; /* its ring is not checked for now */
    struct ivshm_choice choice;     /* how to write what is sent to the peer */
    ivshm_plan plan;                /* of the message that is being sent */
    struct ivshm_bell_address bell; /* the peer's */
    uint64_t sample_began;          /* ticks: when the first piece of the peer's sample came */
};

/* What the channels of this process share: its own side of all of them. */
struct ivshm_transport {
    struct ivshm_region *region;
    struct ivshm_endpoint endpoint;
    struct ivshm_queue_consumer inbox;
    struct ivshm_pool small, large;
    struct ivshm_channel **channels; /* by endpoint; NULL where not attached */
    uint32_t pending;                /* number of channels with a pending cell */
    uint32_t ring_after;             /* messages until a channel gets a ring */
    int way, piece;                  /* what is pinned of the choices: see choice.h */
    struct ivshm_poll_set poll_set;  /* of channels that have a ring to receive from */
    bool ring_was_last;              /* the last message came through a ring */
    enum ivshm_sleep sleep;          /* that this process has announced last */
    enum ivshm_doing doing;          /* that it has told last */
    unsigned long long wakes;        /* peers that this process has woken */
};

/* Bytes. What is longer goes better through a pipeline; so much takes about two large cells. */
#define IVSHM_EAGER_MAX (32 << 10)

/* A message to send: reserve, fill `payload`, then publish or discard. */
struct ivshm_outgoing {
    unsigned char *payload;
    uint32_t capacity; /* bytes of payload */
    uint32_t stream;
    uint32_t cell; /* core's: the cell, small ones first; or one of the two below */
    /* Core's, if it is not in a slot. */
    struct ivshm_how how;
    uint64_t ticks; /* to write it, if it begins a sample */
};

#define IVSHM_IN_SLOT UINT32_MAX
#define IVSHM_IN_BUFFER (UINT32_MAX - 1)

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

/*
 * As ivshm_channel_close, for a process that exchanges no messages: without another user the
 * channel ends at once, so that the peer's memory is not kept for it.
 */
void ivshm_channel_end(struct ivshm_transport *t, struct ivshm_channel *channel);

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
 * Core's own, parts of ivshm_message_reserve and _publish: whatever is not in a slot of the ring.
 */
int ivshm_message_reserve_elsewhere(struct ivshm_transport *t, struct ivshm_channel *channel,
                                    size_t want, uint32_t stream, bool begins,
                                    struct ivshm_outgoing *out);
void ivshm_message_publish_elsewhere(struct ivshm_transport *t, struct ivshm_channel *channel,
                                     const struct ivshm_outgoing *out, uint32_t len);

/* Core's own: tells a peer for which our ring is idle to check it. Dropped if its inbox is full. */
void ivshm_channel_ring_doorbell(struct ivshm_transport *t, struct ivshm_channel *channel);

/* How the peer sleeps, 0 if it does not: valid until the channel is closed. */
static inline const ivshm_a64 *ivshm_channel_sleeper(const struct ivshm_channel *channel)
{
    return &channel->inbox.shm->sleeper;
}

/*
 * Wakes the peer if it sleeps where we can (W1). Core does so after each publication; others do
 * after they have told the peer something by other means, such as chunks of a pipeline.
 */
void ivshm_channel_wake_sleeper(struct ivshm_transport *t, struct ivshm_channel *channel);
static inline void ivshm_channel_wake(struct ivshm_transport *t, struct ivshm_channel *channel)
{
    if (__builtin_expect(ivshm_sleep_announced(channel->inbox.shm) != IVSHM_SLEEP_NOT, 0))
        ivshm_channel_wake_sleeper(t, channel);
}

/* Core's own: sends a record of the channel's ring, with a doorbell if the ring is idle. */
static inline __attribute__((always_inline)) void
ivshm_channel_publish_record(struct ivshm_transport *t, struct ivshm_channel *channel,
                             enum ivshm_record_kind kind, uint32_t value, uint32_t note)
{
    ivshm_ring_publish_spsc(&channel->ring_out,
                            (struct ivshm_record){channel->sent++, kind, value, note});
    if (ivshm_ring_wants_doorbell(&channel->ring_out))
        ivshm_channel_ring_doorbell(t, channel);
    ivshm_channel_wake(t, channel);
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
        out->payload = slot;
        out->capacity = (uint32_t) want;
        out->stream = 0;
        out->cell = IVSHM_IN_SLOT;
        return 0;
    }
    /* By a copy, so that the caller's need not be in memory. */
    struct ivshm_outgoing elsewhere;
    int err = ivshm_message_reserve_elsewhere(t, channel, want, stream, true, &elsewhere);
    if (err == 0)
        *out = elsewhere;
    return err;
}

/*
 * The same, for what is left of a packet of which pieces are sent: the pieces of a packet go alike.
 */
static inline int ivshm_message_reserve_rest(struct ivshm_transport *t,
                                             struct ivshm_channel *channel, size_t want,
                                             uint32_t stream, struct ivshm_outgoing *out)
{
    return ivshm_message_reserve_elsewhere(t, channel, want, stream, false, out);
}

/* Core's own: ivshm_message_write of what is not in a slot. */
void ivshm_message_write_elsewhere(struct ivshm_outgoing *out, size_t at, const void *from,
                                   size_t bytes);

/*
 * Writes a part of a reserved payload, from byte `at` on, by the way that was chosen for it.
 * Callers may also store into the payload.
 */
static inline __attribute__((always_inline)) void
ivshm_message_write(struct ivshm_outgoing *out, size_t at, const void *from, size_t bytes)
{
    if (__builtin_expect(out->cell == IVSHM_IN_SLOT, 1))
        memcpy(out->payload + at, from, bytes);
    else
        ivshm_message_write_elsewhere(out, at, from, bytes);
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
        ivshm_channel_publish_record(t, channel, IVSHM_RECORD_INLINE, len, 0);
        return;
    }
    const struct ivshm_outgoing elsewhere = *out;
    ivshm_message_publish_elsewhere(t, channel, &elsewhere, len);
}

/* How messages of that many bytes go now, if they need more than a slot. */
static inline ivshm_plan ivshm_channel_usual(const struct ivshm_channel *channel,
                                             enum ivshm_choice_kind kind, size_t bytes)
{
    return ivshm_choice_usual(&channel->choice, kind, bytes);
}

/*
 * A chunk of a pipeline that leads to the channel's peer: copies the next piece of a message into
 * it, of which `bytes` are left, by the way that is best. *plan is the message's, which the piece
 * that `begins` it sets. The piece has at least `least` bytes, if there are as many and a chunk
 * holds them. Returns its length; *note is for ivshm_pipeline_publish_spsc.
 */
uint32_t ivshm_channel_fill_chunk(struct ivshm_channel *channel, ivshm_plan *plan, bool begins,
                                  unsigned char *chunk, const void *from, size_t bytes,
                                  size_t least, uint32_t *note);

/* Before and after a piece of the peer's, with that note, is read: the ends of a sample. */
static inline void ivshm_channel_begin_reading(struct ivshm_channel *channel, uint32_t note)
{
    if (__builtin_expect(note & IVSHM_NOTE_BEGINS, 0))
        channel->sample_began = ivshm_ticks();
}

static inline void ivshm_channel_end_reading(struct ivshm_channel *channel, uint32_t note)
{
    if (__builtin_expect(note & IVSHM_NOTE_ENDS, 0) && channel->in.ring.shm)
        ivshm_ring_answer(&channel->in.ring, ivshm_ticks() - channel->sample_began);
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

/*
 * Whether a message of the peer may still be there, other than in the ring of a paused channel; if
 * so, the next calls will find it. Once the peer was seen dead, at `position`, false is final (E2):
 * what it had sent by then lies within one lap of the inbox from there, whatever others send.
 */
bool ivshm_channel_has_more(struct ivshm_transport *t, struct ivshm_channel *channel,
                            uint32_t position);

/*
 * Core's own: attaches to `peer`, for which there is no channel yet. The new channel has no user.
 * Errors and cost as ivshm_channel_open.
 */
int ivshm_channel_attach(struct ivshm_transport *t, struct ivshm_owner peer,
                         struct ivshm_channel **channel, struct ivshm_diag *diag);

/*
 * Core's own: detaches (A1) and frees the channel, its ring, and the cells that the peer held if it
 * is dead. The peer must be dead, or never have known of the ring.
 */
void ivshm_channel_detach(struct ivshm_transport *t, struct ivshm_channel *channel);

/*
 * Core's own: whether the peer has gone and everything that it had sent is received: the inbox and
 * its ring are seen empty after its death (E2).
 */
bool ivshm_channel_is_forgettable(struct ivshm_transport *t, struct ivshm_channel *channel);

/* Core's own: cells that a dead peer held are ours again. Cost: the cells in flight. */
void ivshm_channel_reclaim_cells(struct ivshm_transport *t, const struct ivshm_channel *channel);

/* Core's own: sends the pending cell; true if none is pending any more. */
bool ivshm_channel_flush(struct ivshm_transport *t, struct ivshm_channel *channel);

/* Core's own: whether its ring is in the poll set. */
static inline bool ivshm_channel_is_in_poll_set(const struct ivshm_channel *channel)
{
    return channel->in.ring.shm && !channel->paused;
}

#endif
