/* SPDX-License-Identifier: mpich2 */
/* Transports, channels and messages whose contents tell which they are. */
#ifndef MESSAGES_H
#define MESSAGES_H

#include "unit.h"

static inline struct ivshm_transport transport_new(struct ivshm_region *r, uint32_t rank)
{
    struct ivshm_transport t;
    struct ivshm_diag diag = {""};
    if (ivshm_transport_open(&t, r, "job", rank, 4, &diag) != 0) {
        fprintf(stderr, "%s\n", diag.text);
        abort();
    }
    ivshm_transport_choose(&t, IVSHM_COPY_AHEAD, 1); /* long messages go whole, in cells */
    return t;
}

/* A transport that knows only inboxes and cells. */
static inline struct ivshm_transport transport_without_rings(struct ivshm_region *r, uint32_t rank)
{
    struct ivshm_transport t = transport_new(r, rank);
    t.ring_after = UINT32_MAX;
    return t;
}

static inline struct ivshm_channel *channel_to(struct ivshm_transport *t,
                                               const struct ivshm_transport *peer)
{
    struct ivshm_channel *ch;
    must(ivshm_channel_open(t, peer->endpoint.owner, &ch, NULL) == 0);
    return ch;
}

/* Sends `len` bytes that count from `n`; false if it cannot now. */
static inline bool send_numbered(struct ivshm_transport *t, struct ivshm_channel *ch, uint32_t len,
                                 uint32_t n)
{
    struct ivshm_outgoing out;
    if (ivshm_message_reserve(t, ch, len, n, &out) != 0)
        return false;
    must(out.capacity >= len);
    for (uint32_t i = 0; i < len; i++)
        out.payload[i] = (unsigned char) (n + i);
    ivshm_message_publish(t, ch, &out, len);
    return true;
}

static inline bool is_numbered(const struct ivshm_incoming *in, uint32_t len, uint32_t n)
{
    if (in->len != len || in->stream != n)
        return false;
    for (uint32_t i = 0; i < len; i++)
        if (in->payload[i] != (unsigned char) (n + i))
            return false;
    return true;
}

static inline void receive_numbered(struct ivshm_transport *t, const struct ivshm_transport *from,
                                    uint32_t len, uint32_t n)
{
    struct ivshm_incoming in;
    struct ivshm_diag diag = {""};
    if (ivshm_transport_receive(t, &in, &diag) != 1)
        fail_msg("message %u has not come: %s", n, diag.text);
    assert_true(is_numbered(&in, len, n));
    assert_int_equal(in.channel->peer.endpoint, from->endpoint.owner.endpoint);
    assert_int_equal(in.channel->peer.generation, from->endpoint.owner.generation);
    ivshm_message_release(&in);
}

static inline void assert_nothing_comes(struct ivshm_transport *t)
{
    struct ivshm_incoming in;
    struct ivshm_diag diag = {""};
    assert_int_equal(ivshm_transport_receive(t, &in, &diag), 0);
}

/* Like send_numbered, but on the job's own stream, the only one that uses slots. */
static inline bool send_plain(struct ivshm_transport *t, struct ivshm_channel *ch, uint32_t len,
                              uint32_t n)
{
    struct ivshm_outgoing out;
    if (ivshm_message_reserve(t, ch, len, 0, &out) != 0)
        return false;
    must(out.capacity >= len);
    memset(out.payload, (int) n, len);
    ivshm_message_publish(t, ch, &out, len);
    return true;
}

static inline bool receive_plain(struct ivshm_transport *t, uint32_t len, uint32_t n)
{
    struct ivshm_incoming in;
    struct ivshm_diag diag = {""};
    int got = ivshm_transport_receive(t, &in, &diag);
    if (got < 0)
        fail_msg("%s", diag.text);
    if (got == 0)
        return false;
    must(in.len == len && in.stream == 0);
    for (uint32_t i = 0; i < len; i++)
        must(in.payload[i] == (unsigned char) n);
    ivshm_message_release(&in);
    return true;
}

#endif
