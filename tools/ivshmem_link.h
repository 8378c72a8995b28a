/* SPDX-License-Identifier: mpich2 */
/*
 * A link of `ivshmem send` and `ivshmem recv`: one sender and its receivers, who find each other by
 * a name. ivshmem_link.c connects them, notices deaths and waits; ivshmem_pipe.c moves the bytes,
 * through a pipeline of the sender for each receiver. A server has a link without peers, by which
 * clients ask it for a pipe. Nothing that the other side says is used before it is checked.
 */
#ifndef IVSHMEM_LINK_H
#define IVSHMEM_LINK_H

#include "ivshmem_tool.h"

#include "pipeline.h"
#include "transport.h"
#include "wait.h"

#define LINK_PEERS_MAX 64
#define LINK_NAME_MAX 100     /* bytes of a pipe's name, with a NUL */
#define LINK_TEXT_MAX 1024    /* bytes, with a NUL */
#define LINK_CHECKSUM_MAX 128 /* likewise */

/* What a client wants of a server, and its answers. */
enum link_request { LINK_PUT, LINK_GET };
enum link_answer { LINK_WELCOME, LINK_BUSY, LINK_REFUSED };

/* One of the other sides. */
struct link_peer {
    struct ivshm_channel *channel; /* NULL before it is found */
    struct ivshm_pipeline pipeline;
    uint64_t heard; /* when, in ns */
    bool ended;     /* it has said that it is finished, with so many bytes: */
    uint64_t bytes; /* of the whole stream, whose checksum is this, or empty: */
    char checksum[LINK_CHECKSUM_MAX];
    bool is_lost;            /* nothing comes from it any more: */
    struct ivshm_diag why;   /* for a person */
    bool was_seen_dead;      /* when the inbox was at: */
    uint32_t inbox_position; /* what it sent before may still be there */
    char who[160];
};

struct link {
    struct ivshm_region *region;
    const char *name;
    bool is_sender;
    unsigned count;   /* of receivers; 1 for a receiver itself */
    unsigned timeout; /* seconds */
    struct link_peer *peers;
    bool has_checksum; /* one side wants one; of the others, link_connect finds out */
    /* Of a client: whom to ask for its other side, and for which file; NULL elsewhere. */
    const char *server_name, *path;
    /* NULL, or the only one with whom to connect. It is there already. */
    const struct ivshm_owner *only;
    /* Of a server: whom to tell of requests. `path` is any text. */
    void (*on_request)(void *arg, struct ivshm_owner client, enum link_request what,
                       const char *path);
    void *arg;
    /* The rest is ivshmem_link.c's. */
    char job[128];
    struct ivshm_transport transport;
    struct ivshm_wait wait;
    unsigned found, looks;
    struct link_peer server; /* of a client */
    int answer;              /* of that: a note's kind, or 0 */
    enum ivshm_sleep sleep;  /* from which everybody can wake this side */
    bool has_ended;          /* this side has said its end */
    uint64_t next_alive;
    pid_t guardian;
    int guardian_end; /* of the pipe on which the guardian waits */
};

/*
 * Joins the region and connects with everybody else. `link` has its first fields; peers are count
 * zeroed structures. Each link that was opened ends with link_close.
 */
int link_open(struct link *link, struct ivshm_diag *diag);
void link_close(struct link *link);
int link_connect(struct link *link, struct ivshm_diag *diag);

/* Of a server: answers a request, in which `why` is for a person. */
void link_answer(struct link *link, struct ivshm_owner client, enum link_answer answer,
                 const char *why);

/* In a child of the process: the link is its parent's. */
void link_forget(struct link *link);

/*
 * Receives what the peers say, and sees who is gone. To be called whenever a system call was
 * interrupted, and whenever link_is_due.
 */
void link_serve(struct link *link);

/* For those who look at the region: so many bytes were read, or written. */
void link_tell(struct link *link, uint64_t bytes);

/* A few times a second. */
bool link_is_due(void);

/* After a look at a pipeline that found nothing: waits a little. */
void link_wait(struct link *link);
/* A look that found something. */
void link_found(struct link *link);
/* The pipeline has changed: the peer may go on. */
void link_wake(struct link *link, struct link_peer *peer);

/*
 * Tells the peer that all bytes are sent, or written, and their checksum, which may be empty. False
 * if it cannot be told now.
 */
bool link_end(struct link *link, struct link_peer *peer, uint64_t bytes, const char *checksum);

/* Tells all peers why this side gives up, and after how many bytes. */
void link_give_up(struct link *link, const char *why, uint64_t bytes);

/* "sender" or "receiver": what the other side is. */
const char *link_other(const struct link *link);

#endif
