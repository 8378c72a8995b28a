/* SPDX-License-Identifier: mpich2 */
/*
 * What ivshmem_lmt.c and the ways to copy a large message share: the transfer, the cookie, and the
 * operations of a way.
 */
#ifndef IVSHMEM_WAY_H
#define IVSHMEM_WAY_H

#include "ivshmem_netmod.h"

#include "core/choice.h"
#include "core/coop.h"
#include "core/pipeline.h"

/* The LMT cookie in an RTS or CTS: where the data is, or where it is to go. */
typedef struct {
    enum {
        IVSHMEM_COOKIE_NOTHING,
        IVSHMEM_COOKIE_PIPELINE,
        IVSHMEM_COOKIE_BUFFER,
        /* In a CTS that answers a BUFFER: the receiver's buffer, into which both sides copy. */
        IVSHMEM_COOKIE_COOP
    } what;
    uint32_t first; /* PIPELINE: the chunk to begin with. COOP: the cooperative copy's number */
    ivshm_off off;  /* of the pipeline or the buffer */
    uint64_t bytes; /* of the message; in a CTS, the bytes that the receiver takes */
    ivshm_off coop; /* the cooperative copy's word */
} MPID_nem_ivshmem_cookie_t;

/* One large message, from RTS to its end. Lives in the request's netmod area, and fills it. */
typedef struct MPID_nem_ivshmem_transfer {
    struct MPIR_Request *req;
    struct MPIDI_VC *vc;
    struct MPID_nem_ivshmem_transfer *next, *prev;
    /* How it is copied; NULL: not decided yet. The CTS may replace the way of the RTS. */
    const struct MPID_nem_ivshmem_way *way;
    enum {
        IVSHMEM_AWAIT_PEER,   /* the peer's CTS or DONE comes next */
        IVSHMEM_AWAIT_MEMORY, /* receiver: the way has no memory for a CTS yet */
        IVSHMEM_COPYING       /* each progress call does a step of the way */
    } state : 8;
    bool sends;        /* this rank is the sender */
    bool active;       /* counted in the connection's `transfers` */
    bool own_pipeline; /* `pipeline` was allocated from our LMT pool */
    bool is_part;      /* receiver: the receive takes only the first part of the message */
    ivshm_plan plan;   /* how it goes through the pipeline */
    uint8_t carry_len; /* bytes in `carry`: the incomplete element at the end of the last chunk */
    intptr_t moved, size; /* bytes copied so far, and in all */
    intptr_t counted;     /* bytes of the whole message, even if the receive takes fewer */
    char *contig;         /* the user's buffer, or NULL if it needs packing */
    char *peer_buffer;    /* the other side's buffer, in the region */
    union {
        struct ivshm_pipeline pipeline;
        struct {
            struct ivshm_coop coop;
            uint32_t taken; /* pieces that the receiver has copied */
        };
    };
    MPID_nem_ivshmem_cookie_t cookie; /* ours, as sent in the RTS or CTS */
    unsigned char carry[32];
} MPID_nem_ivshmem_transfer_t;

#define REQ_TRANSFER(req) ((MPID_nem_ivshmem_transfer_t *) (req)->ch.netmod_area.padding)
_Static_assert(sizeof(MPID_nem_ivshmem_transfer_t) <= MPIDI_NEM_REQ_NETMOD_AREA_LEN,
               "a transfer lives in the request's netmod area");

/* What follows a step. */
typedef enum {
    IVSHMEM_STEP_MORE, /* another step, in the next progress call */
    IVSHMEM_STEP_WAIT, /* this side has copied its part: the peer's DONE ends the transfer */
    IVSHMEM_STEP_DONE, /* everything is copied: our DONE tells the peer */
    IVSHMEM_STEP_END   /* everything is copied, and the peer knows */
} MPID_nem_ivshmem_step_t;

/* Whether a receiver answers the RTS by a way. */
typedef enum {
    IVSHMEM_ANSWER_NO,
    IVSHMEM_ANSWER_LATER, /* ask again in the next progress call; the answer is not NO then */
    IVSHMEM_ANSWER_CTS
} MPID_nem_ivshmem_answer_t;

/*
 * A way to copy a large message, as ivshmem_lmt.c sees it. A kind of cookie in an RTS belongs to
 * one way, and so does a kind of cookie in a CTS. The transfer's `sends`, `size` and `contig` are
 * set before any of the functions is called.
 */
typedef struct MPID_nem_ivshmem_way {
    int cookie;       /* the kind of its cookie */
    unsigned answers; /* in a CTS, to an RTS with these kinds: bits 1 << kind; 0: never in a CTS */

    /* Sender: sets our cookie for the RTS. False: not this way. NULL: never in an RTS. */
    bool (*offer)(MPID_nem_ivshmem_transfer_t *t);

    /* Sender, after the RTS: may copy, but must not end the transfer. NULL: copies nothing. */
    void (*rts_sent)(MPID_nem_ivshmem_transfer_t *t);

    /*
     * Receiver, if the kind of the RTS is in `answers`: sets our cookie for the CTS. The transfer's
     * way is that of the RTS, which is attached, or NULL.
     */
    MPID_nem_ivshmem_answer_t (*answer)(MPID_nem_ivshmem_transfer_t *t);

    /* Attaches to what the peer's cookie names. Returns NULL, or what is wrong with the cookie. */
    const char *(*attach)(MPID_nem_ivshmem_transfer_t *t, const MPID_nem_ivshmem_cookie_t *cookie,
                          struct ivshm_owner peer, struct ivshm_diag *diag);

    /*
     * One progress call's part of the copy. The last step frees what this side has allocated. If
     * the peer's memory is not what it said: sets *why, and returns MORE; the connection fails.
     * NULL: this side waits for the peer's packet.
     */
    MPID_nem_ivshmem_step_t (*send)(MPID_nem_ivshmem_transfer_t *t, const char **why);
    MPID_nem_ivshmem_step_t (*receive)(MPID_nem_ivshmem_transfer_t *t, const char **why);

    /*
     * Sender: the peer does not use what the RTS offers, or no longer: the send was cancelled, the
     * CTS names another way, or DONE has arrived. Frees what this side has allocated. NULL: it has
     * allocated nothing.
     */
    void (*withdraw)(MPID_nem_ivshmem_transfer_t *t);

    /*
     * The connection has failed: quarantines what this side has allocated, and the user's buffer if
     * a peer that is not gone may still write there. NULL: the peer writes nowhere.
     */
    void (*quarantine)(MPID_nem_ivshmem_transfer_t *t, bool peer_is_gone);
} MPID_nem_ivshmem_way_t;

#endif
