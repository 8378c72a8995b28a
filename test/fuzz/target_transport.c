/* SPDX-License-Identifier: mpich2 */
/*
 * A transport with two peers, one hostile and one sound, and all calls that it has. In a confined
 * run the hostile peer writes only its own memory, and the sound one must not notice.
 */
#include "fuzz.h"

#define MESSAGES_MAX 256
#define PAYLOAD_MAX (64 << 10)

static struct ivshm_transport *party;
static const struct ivshm_geometry *geo;
static bool confined;

/* What one party has sent to another, and what the other one has received of it. */
struct stream {
    uint32_t len[MESSAGES_MAX];
    unsigned sent, received;
};
static struct stream to_sound, to_own;

/* The bytes of a message; as many as the largest may have. */
static const unsigned char *pattern(const struct stream *s, unsigned message)
{
    static unsigned char bytes[PAYLOAD_MAX + 256];
    if (bytes[1] == 0) {
        for (uint32_t i = 0; i < sizeof(bytes); i++)
            bytes[i] = (unsigned char) (i * 7);
    }
    return bytes + (message * 31 + (s == &to_own ? 1 : 128)) % 256;
}

static bool lies_in(const void *start, uint64_t len, const void *area, uint64_t size)
{
    uint64_t from = (uint64_t) ((const char *) start - (const char *) area);
    return from <= size && len <= size - from;
}

/* The whole payload is in one cell, slot or buffer of the sender's, as the contract says. */
static void check_bounds(const struct ivshm_incoming *in)
{
    const struct ivshm_channel *channel = in->channel;
    const struct ivshm_ring_consumer *ring = &channel->in.ring;
    const char *cells = (const char *) channel->base + geo->small;
    uint64_t cell_bytes = geo->base_bytes - geo->small;
    uint64_t slots = sizeof(struct ivshm_ring_shm) + (uint64_t) geo->ring_slots * geo->slot_size;
    if (in->cell) {
        must(in->payload == in->cell->payload && lies_in(in->payload, in->len, cells, cell_bytes));
        bool is_small = (const char *) in->cell < (const char *) channel->base + geo->large;
        must(in->len + sizeof(*in->cell) <= (is_small ? geo->small_size : geo->large_size));
    } else if (lies_in(in->payload, in->len, ring->shm, slots)) {
        must(in->len + sizeof(struct ivshm_slot_shm) <= geo->slot_size);
    } else {
        must(lies_in(in->payload, in->len, ring->shm, geo->ring_bytes));
        must(in->len <= geo->buffer_size);
    }
}

/* Receives for `who`. What the sound parties send to each other must arrive unchanged. */
static int receive(enum party who)
{
    struct ivshm_incoming in;
    struct ivshm_diag diag = {""};
    struct stream *s = who == OWN ? &to_own : &to_sound;
    static unsigned char copy[PAYLOAD_MAX];

    allow(message_limit(&party[who].region[0]), false);
    int got = ivshm_transport_receive(&party[who], &in, &diag);
    if (got < 0) {
        check_error(got, &diag);
        must(!confined || who == HOSTILE || !in.channel || in.channel == channel_of(who, HOSTILE));
    }
    if (got != 1)
        return got;
    check_bounds(&in);
    memcpy(copy, in.payload, in.len);
    if (confined && who != HOSTILE && in.channel != channel_of(who, HOSTILE)) {
        must(s->received < s->sent && in.len == s->len[s->received]);
        must(memcmp(copy, pattern(s, s->received), in.len) == 0);
        s->received++;
    }
    ivshm_message_release(&in);
    return 1;
}

/* 0, or -EAGAIN. */
static int send(enum party from, enum party to, uint32_t len, uint32_t stream, bool discard)
{
    struct ivshm_channel *channel = channel_of(from, to);
    struct ivshm_outgoing out;
    struct stream *s = from == SOUND && to == OWN   ? &to_own
                       : from == OWN && to == SOUND ? &to_sound
                                                    : NULL;

    if (!channel || (s && s->sent == MESSAGES_MAX))
        return -EAGAIN;
    allow(message_limit(party[from].region) + table_limit(party[from].region), false);
    int err = ivshm_message_reserve(&party[from], channel, len, stream, &out);
    if (err) {
        must(err == -EAGAIN);
        return err;
    }
    must(len <= out.capacity);
    must(lies_in(out.payload, out.capacity, party[from].endpoint.base, geo->base_bytes) ||
         lies_in(out.payload, out.capacity, channel->ring_out.shm, geo->ring_bytes));
    if (discard) {
        ivshm_message_discard(&party[from], &out);
        return 0;
    }
    memcpy(out.payload, s ? pattern(s, s->sent) : pattern(&to_own, 0), len);
    if (s)
        s->len[s->sent++] = len;
    ivshm_message_publish(&party[from], channel, &out, len);
    return 0;
}

static void send_slot(enum party from, enum party to, uint32_t len)
{
    struct ivshm_channel *channel = channel_of(from, to);
    struct ivshm_outgoing out;
    if (!channel || !ivshm_message_fits_now(channel, len) ||
        ivshm_message_reserve(&party[from], channel, len, 0, &out) != 0)
        return;
    memset(out.payload, 0, len);
    ivshm_message_publish(&party[from], channel, &out, len);
}

/* A reference in our inbox from HOSTILE, or from whomever it pretends to be. */
static void push_reference(struct input *in)
{
    uint64_t word = take(in, 3);
    struct ivshm_owner self = party[HOSTILE].endpoint.owner;
    struct ivshm_ref ref = {(uint16_t) self.endpoint, (uint16_t) (word & 0xffff)};
    struct ivshm_channel *channel = channel_of(HOSTILE, OWN);
    if (word >> 16 & 1)
        ref.cell = (uint16_t) ((word & 255) | (self.generation & 255) << 8);
    if (word >> 17 & 1)
        ref.endpoint = (uint16_t) (geo->endpoints + (word >> 18));
    else if (word >> 18 && !confined)
        ref.endpoint = (uint16_t) ((word >> 18) - 1);
    if (channel)
        ivshm_queue_push_mpsc(&channel->inbox, ref);
}

/* A message that announces a ring at that offset. */
static void announce_ring(struct input *in)
{
    ivshm_off off = take_offset(in);
    struct ivshm_channel *channel = channel_of(HOSTILE, OWN);
    struct ivshm_outgoing out;
    if (!channel ||
        ivshm_message_reserve(&party[HOSTILE], channel, sizeof(off), IVSHM_STREAM_RING, &out) != 0)
        return;
    memcpy(out.payload, &off, sizeof(off));
    ivshm_message_publish(&party[HOSTILE], channel, &out, sizeof(off));
}

/* Closes the channel to the peer, or opens it again: one user at most. */
static void open_or_close(enum party peer, uint32_t generation_off)
{
    struct ivshm_channel *channel = channel_of(OWN, peer);
    struct ivshm_owner owner = party[peer].endpoint.owner;
    struct ivshm_diag diag = {""};
    if (channel && channel->users) {
        ivshm_channel_close(&party[OWN], channel);
        return;
    }
    owner.generation += generation_off;
    int err = ivshm_channel_open(&party[OWN], owner, &channel, &diag);
    if (err)
        check_error(err, &diag);
}

static void call(struct input *in, unsigned op)
{
    struct ivshm_transport *own = &party[OWN];
    struct ivshm_channel *channel;
    uint32_t len;

    allow(message_limit(own->region), false);
    switch (op % 16) {
    case 0:
    case 1:
    case 2:
        receive(OWN);
        break;
    case 3:
        for (unsigned i = 0; i < 64 && receive(OWN) != 0; i++)
            ;
        break;
    case 4:
        channel = channel_of(OWN, HOSTILE);
        if (channel && !ivshm_channel_has_more(own, channel, ivshm_transport_inbox_position(own)) &&
            ivshm_transport_is_empty(own))
            ivshm_transport_flush(own);
        ivshm_transport_is_half_in_flight(own);
        break;
    case 5:
        allow(table_limit(own->region), false);
        ivshm_transport_watch(own);
        break;
    case 6:
    case 7:
        len = (uint32_t) take(in, 2);
        send(OWN, op & 32 ? SOUND : HOSTILE, len % (geo->large_size - 15), len >> 14, op & 64);
        break;
    case 8:
        send_slot(OWN, HOSTILE, (uint32_t) take(in, 1));
        break;
    case 9:
        len = (uint32_t) take(in, 1);
        open_or_close(HOSTILE, len > 250 ? len : 0);
        break;
    case 10:
        len = (uint32_t) take(in, 2);
        send(HOSTILE, OWN, len % (geo->large_size - 15), len >> 14, false);
        break;
    case 11:
        send_slot(HOSTILE, OWN, (uint32_t) take(in, 1));
        break;
    case 12:
        push_reference(in);
        break;
    case 13:
        announce_ring(in);
        break;
    case 14:
        len = (uint32_t) take(in, 2);
        send(SOUND, OWN, len % (geo->large_size - 15), len >> 15, false);
        break;
    default:
        receive(op & 64 ? HOSTILE : SOUND);
    }
}

/* We and the sound peer receive each other's messages bit for bit. */
static void check_sound(void)
{
    bool sent = false, answered = false;
    for (unsigned i = 0; i < 8 * geo->inbox_slots; i++) {
        sent = sent || send(SOUND, OWN, 40, 0, false) == 0;
        answered = answered || send(OWN, SOUND, 100, 0, false) == 0;
        allow(message_limit(party[OWN].region), false);
        ivshm_transport_flush(&party[OWN]);
        ivshm_transport_flush(&party[SOUND]);
        receive(OWN);
        receive(SOUND);
        if (sent && answered && to_own.received == to_own.sent &&
            to_sound.received == to_sound.sent)
            return;
    }
    must(!"the sound peer is not heard");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    unsigned form = (unsigned) take(&in, 1);
    struct world *w = world_begin(form / 2 % WORLDS);
    geo = &w->region.geo;
    party = parties_begin();
    memset(&to_own, 0, sizeof(to_own));
    memset(&to_sound, 0, sizeof(to_sound));
    confined = form % 2;
    if (confined)
        world_confine();
    play(&in, 128, call);
    if (confined)
        check_sound();
    parties_end();
    return 0;
}
