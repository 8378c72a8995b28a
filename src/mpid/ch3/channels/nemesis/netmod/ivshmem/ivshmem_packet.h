/* SPDX-License-Identifier: mpich2 */
/*
 * The table of packets, and what one says that operates on a window. For ivshmem_packet.c, which
 * has them, ivshmem_validate.c, which goes by them, and who asks what an operation touches.
 */
#ifndef IVSHMEM_PACKET_H
#define IVSHMEM_PACKET_H

#include "ivshmem_netmod.h"

#include "mpidrma.h"

typedef enum {
    END,
    SENDER,       /* context and rank: of a communicator in which the peer has that rank */
    CANCELLER,    /* the same, but that the communicator may be freed here */
    LENGTH,       /* length of the data: not negative; what comes at once has room in memory */
    SHORT_LENGTH, /* length of the data: fits into the header */
    COOKIE,       /* cookie: as long as a cookie, and all there */
    MAYBE_COOKIE, /* cookie: a cookie, or none */
    AWAITS_CTS,   /* request: a transfer with this peer, which waits for its CTS */
    AWAITS_DONE,  /* request: a transfer with this peer, which is not over */
    ANSWERS,      /* request: the peer was asked, and such an answer is still to come */
    CANCELLABLE,  /* request: the peer is not transferring its data, and has not */
    WINDOW,       /* target's window: one of ours, of which the peer is a member */
    EXPOSED,      /* access that is ended: the peer's, which has begun, or was taken back */
    HELD,        /* lock: the peer does not wait for what it asks for, and has what it gives back */
    MEMORY,      /* address, count, datatype: each byte touched is the window's, and that is none of
                  * which all ranks load and store; the data fits into its packet, or the answer
                  * into its own; a datatype's description, and the offset of a part, are checked
                  * once they are here */
    OPERATION,   /* operation: predefined, and defined for the datatype */
    ORIGIN,      /* origin's window and rank: one of ours, in which the peer has that rank */
    LOCK_FLAGS,  /* flags: shared or exclusive, and who asks is named once */
    LOCK_ACK,    /* flags: one word; we have asked that rank for a lock, and wait */
    LOCK_OP_ACK, /* flags: the same, by an operation that is not done */
    ACK,         /* an acknowledgement by that rank is due */
    MAYBE_ACK,   /* flags: LOCK_OP_ACK and ACK, for what they say */
    MEMBER,      /* context: ignored, if the peer is no member of such a communicator */
    CLOSE_STATE, /* the connection is in a state in which this can come */
    HANDSHAKE,   /* a call that waits for this word, and has not had it */
} check_t;

enum { CHECKS_MAX = 6 }; /* of a type, and an END */

typedef enum {
    FROM_NOBODY,
    FROM_RANK = 1,   /* of our job, or of one that we are connected to */
    FROM_CALLER = 2, /* a process at the other end of a new connection, from a port on */
    FROM_BOTH = 3
} from_t;

typedef struct {
    const char *name;
    unsigned short bytes; /* of the header, as it travels */
    unsigned char from;   /* from_t */
    unsigned char checks[CHECKS_MAX];
} MPID_nem_ivshmem_rule_t;

/* By type. */
extern const MPID_nem_ivshmem_rule_t MPID_nem_ivshmem_packet_rules[MPIDI_CH3_PKT_END_ALL];

enum {
    LOCKS = MPIDI_CH3_PKT_FLAG_RMA_LOCK_SHARED | MPIDI_CH3_PKT_FLAG_RMA_LOCK_EXCLUSIVE,
    DISCARDED =
        MPIDI_CH3_PKT_FLAG_RMA_LOCK_QUEUED_DATA_DISCARDED | MPIDI_CH3_PKT_FLAG_RMA_LOCK_DISCARDED,
    BYTES_MAX_SHIFT = 6
};

#define BYTES_MAX (MPIR_AINT_MAX >> BYTES_MAX_SHIFT)

/* An operation on a window of ours, whatever the packet's type. */
typedef struct {
    MPI_Win window, source;
    int flags, flags_allowed;
    bool writes; /* only: it is answered to a window, and not to a request */
    const void *addr;
    MPI_Aint count;
    MPI_Datatype type;
    MPI_Op op;
    MPI_Aint flattened_bytes; /* bytes of the datatype's description that follow */
    MPI_Aint room; /* bytes of data that the packet, or the answer, has room for; or -1 */
} MPID_nem_ivshmem_window_op_t;

/* The last byte of an element that is touched: a pair may have a gap at its end. */
MPI_Aint MPID_nem_ivshmem_packet_true_bytes(MPI_Datatype type, MPI_Aint extent);

MPID_nem_ivshmem_window_op_t MPID_nem_ivshmem_packet_window_op(const MPIDI_CH3_Pkt_t *pkt);

/* What it touches there; nothing, if that is not known yet, or can be no such thing. */
MPID_nem_ivshmem_span_t MPID_nem_ivshmem_packet_touched(const MPID_nem_ivshmem_window_op_t *o);

#endif
