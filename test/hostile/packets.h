/* SPDX-License-Identifier: mpich2 */
/*
 * Packets of a hostile peer: every type that CH3 and Nemesis know, each field by what it means, so
 * that a packet can be quite lawful, or lawful but for a field, or nonsense. What follows the
 * header as well. From a seed, so that a packet can be made again.
 */
#ifndef HOSTILE_PACKETS_H
#define HOSTILE_PACKETS_H

#include "ivshmem_netmod.h"

#define PACKET_TYPES (MPIDI_CH3_PKT_END_ALL + 1)
#define TRAILING_MAX 70000

/* What the victim has told of itself, so that the attack is as strong as can be. */
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
    int types; /* derived ones, as a peer describes them */
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
 * Makes a packet of that type, as `attacker` would send it. Each field is what a lawful peer could
 * say with a chance of `lawful` in 100. `window` and `request` are taken where a field names one,
 * if they are not 0: so a sequence is about the same thing.
 */
void packet_make(struct random *r, const struct known *k, int attacker, int type, int lawful,
                 int window, MPI_Request request, struct packet *p);

/* In words, for a report. */
void packet_print(const struct packet *p, char *text, size_t size);

/* A request of the victim's that is in use, or one that was; `kind` -1: any. */
MPI_Request some_request(struct random *r, int kind);

/* Where an eager message that goes out in `len` bytes has its data, and how much; NULL: it is none.
 */
unsigned char *packet_data(const struct ivshm_outgoing *out, uint32_t len, intptr_t *bytes);

/* The library's own ivshm_message_publish_elsewhere, for a double of it. */
void packet_publish(struct ivshm_transport *t, struct ivshm_channel *channel,
                    const struct ivshm_outgoing *out, uint32_t len);

#endif
