/* SPDX-License-Identifier: mpich2 */
/*
 * The transport: this process' own side, with its endpoint, inbox, pools and channels. Joins and
 * leaves the region, receives from all channels, by the inbox or a ring, and handles deaths.
 *
 * Nothing here waits: what cannot proceed returns at once, for the caller to try again later. A
 * transport and its channels are used by one thread at a time. Errors are negative errnos; outputs
 * are set only on success. Lengths are in bytes. Costs that are not stated are constant. Messages
 * come by edges Q1 or R1, and are released by C1 or R2.
 */
#ifndef IVSHM_TRANSPORT_H
#define IVSHM_TRANSPORT_H

#include "channel.h"
#include "wait.h"

/* A received message: use it in place, then release it. */
struct ivshm_incoming {
    struct ivshm_channel *channel;
    const unsigned char *payload; /* in the region: read it once, as the peer can change it */
    uint32_t len;                 /* bytes; checked against the memory that holds them */
    uint32_t stream;
    struct ivshm_cell_shm *cell; /* core's; NULL if the payload is in the ring */
    uint32_t note;               /* core's: how it was written */
};

/*
 * Joins the region, which outlives the transport. `job` is copied. Ends with ivshm_transport_close.
 * Errors as ivshm_endpoint_join, and -ENOMEM. Cost: that of a join. Release E1.
 */
int ivshm_transport_open(struct ivshm_transport *t, struct ivshm_region *region, const char *job,
                         uint32_t rank, uint32_t job_size, struct ivshm_diag *diag);

/*
 * Before the first channel is opened: how messages are written, as ivshm_choice_init has it. Unless
 * this is called, everything is pinned.
 */
static inline void ivshm_transport_choose(struct ivshm_transport *t, int way, int piece)
{
    t->way = way;
    t->piece = piece;
}

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
 * Whether more than half of our small or of our large cells are in flight. Cost: constant if not,
 * else a load for each of them (acquire C1).
 */
bool ivshm_transport_is_half_in_flight(struct ivshm_transport *t);

/*
 * Whether there is nothing to receive as far as a short look can tell: false also if there are idle
 * rings, which it does not check. Cost: a load for each polled ring.
 */
static inline bool ivshm_transport_is_empty(const struct ivshm_transport *t)
{
    return ivshm_poll_set_is_empty(&t->poll_set) && ivshm_queue_is_empty_mpsc(&t->inbox);
}

/* After how many vain receives nothing had come before the first: more than one with idle rings. */
static inline uint32_t ivshm_transport_looks(const struct ivshm_transport *t)
{
    return 1 + t->poll_set.count - t->poll_set.polled_count;
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

/* The inbox position at which the next message is expected. */
static inline uint32_t ivshm_transport_inbox_position(const struct ivshm_transport *t)
{
    return (uint32_t) t->inbox.head;
}

/* Which processes are on the region, in view of waking. Cost: a load for each entry. */
static inline struct ivshm_crowd ivshm_transport_crowd(const struct ivshm_transport *t)
{
    return ivshm_endpoint_crowd(&t->endpoint);
}

/*
 * To sleep until a message comes, in the way that ivshm_transport_crowd tells: announce it, look
 * for at least IVSHM_SLEEP_GRACE_NS, then sleep, which withdraws it in the end. Whoever does not
 * sleep after all withdraws it. The sleep lasts at most `ns`, less than a second, and does not
 * begin if there is something to receive. With a bell it also ends when one of the `count`
 * descriptors is ready as poll(2) has it; a futex has none. Edge W1. Cost of sleeping: a load for
 * each ring, and a system call or two.
 */
void ivshm_transport_announce_sleep(struct ivshm_transport *t, enum ivshm_sleep kind);
void ivshm_transport_withdraw_sleep(struct ivshm_transport *t);
void ivshm_transport_sleep(struct ivshm_transport *t, uint64_t ns, const struct pollfd *fds,
                           size_t count);

/*
 * The next step of a wait at the time `now` (ns), as ivshm_wait_next says, to sleep in the way
 * `kind` if that is its turn: does and returns it. A doze with a bell, and a nap, also end when one
 * of the `count` descriptors is ready. When the wait is over, ivshm_transport_end_wait; whether a
 * sleep was announced.
 */
enum ivshm_wait_step ivshm_transport_wait(struct ivshm_transport *t, struct ivshm_wait *wait,
                                          const struct ivshm_wait_for *what, uint64_t now,
                                          enum ivshm_sleep kind, const struct pollfd *fds,
                                          size_t count);
bool ivshm_transport_end_wait(struct ivshm_transport *t, struct ivshm_wait *wait);

/*
 * For people who look on, as layout.h has it. Where a wait is after ivshm_wait_next has said that
 * step; that it is over; and what this process has done so far, at the time `now` in ns. None of it
 * is needed. Costs: a store or none; 15 stores.
 */
void ivshm_transport_tell_wait(struct ivshm_transport *t, const struct ivshm_wait *wait,
                               enum ivshm_wait_step step);
void ivshm_transport_tell_doing(struct ivshm_transport *t, enum ivshm_doing doing);
static inline void ivshm_transport_tell_work(struct ivshm_transport *t)
{
    if (t->doing != IVSHM_DOING_WORK)
        ivshm_transport_tell_doing(t, IVSHM_DOING_WORK);
}
void ivshm_transport_tell(struct ivshm_transport *t, uint64_t now,
                          const struct ivshm_counts *counts);

/*
 * Ends that sleep in the futex, if it was announced, because of something else than a message. Any
 * thread, and signal handlers. Cost: a system call if it was.
 */
void ivshm_transport_end_sleep(struct ivshm_transport *t);

/*
 * Sends messages that found a full inbox. Call it in every progress call. Cost: nothing if there is
 * none, else a look at every channel.
 */
void ivshm_transport_flush_pending(struct ivshm_transport *t);
static inline bool ivshm_transport_is_flushed(const struct ivshm_transport *t)
{
    return t->pending == 0;
}

static inline void ivshm_transport_flush(struct ivshm_transport *t)
{
    if (!ivshm_transport_is_flushed(t))
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
