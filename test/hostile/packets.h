/* SPDX-License-Identifier: mpich2 */
/*
 * Packets of a hostile peer: every type that CH3 and Nemesis know, each field according to its
 * meaning. So a packet can be correct, correct but for one field, or nonsense; so can what follows
 * the header. Packets are made from a seed, so that they can be made again.
 */
#ifndef HOSTILE_PACKETS_H
#define HOSTILE_PACKETS_H

#include "ivshmem_packet.h"
#include "ivshmem_way.h"

#define PACKET_TYPES (MPIDI_CH3_PKT_END_ALL + 1)
#define TRAILING_MAX 70000

/* What the victim has revealed of itself, so that the attack is as strong as possible. */
struct known {
    int windows;
    struct {
        MPIR_Win *win;
        char *base;
        long size;
        bool members[64]; /* by attacker */
        int ranks[64];    /* of the attacker in the window's communicator */
    } window[16];
    int comms;
    struct {
        int context;
        int ranks[64]; /* of the attacker there, or -1 */
    } comm[16];
    int types; /* derived ones, as a peer flattens them */
    struct {
        MPI_Datatype type;
        long bytes; /* of one element */
        int len;
        unsigned char *flattened;
    } type[8];
    int cookies;
    struct {
        int attacker;
        MPID_nem_ivshmem_cookie_t cookie;
    } cookie[64];
    int tags[8];
    char *heap, *stack, *text;
};

struct packet {
    int type;
    MPIDI_CH3_Pkt_t header;
    int header_len;
    int trailing_len;
    unsigned char trailing[TRAILING_MAX];
};

struct random {
    uint64_t state;
};

uint64_t rnd(struct random *r, uint64_t below);

const char *packet_name(int type);

/*
 * Makes a packet of that type, as `attacker` would send it. Each field is what a correct peer could
 * send, with a probability of `lawful` percent. `window` and `request`, if not 0, are used where a
 * field names one, so that a sequence of packets is about the same thing.
 */
void packet_make(struct random *r, const struct known *k, int attacker, int type, int lawful,
                 int window, MPI_Request request, struct packet *p);

/* In words, for a report. */
void packet_print(const struct packet *p, char *text, size_t size);

/* A request of the victim's that is or was in use; `kind` -1: any. */
MPI_Request some_request(struct random *r, int kind);

/* Where the data of an eager message of `len` bytes is, and how much; NULL: it is none. */
unsigned char *packet_data(const struct ivshm_outgoing *out, uint32_t len, intptr_t *bytes);

/* The library's own ivshm_message_publish_elsewhere, for a double of it. */
void packet_publish(struct ivshm_transport *t, struct ivshm_channel *channel,
                    const struct ivshm_outgoing *out, uint32_t len);

#endif
