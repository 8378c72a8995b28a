/* SPDX-License-Identifier: mpich2 */
/*
 * The table of packets, and the fields of a packet that operates on a window: the part of
 * ivshmem_packet.c that only packet validation needs. ivshmem_validate.c checks packets by it, and
 * build-aux/packet-table prints it.
 */
#ifndef IVSHMEM_RULES_H
#define IVSHMEM_RULES_H

#include "ivshmem_packet.h"

#include "mpidrma.h"

/* The checks. The comments are the text of the table in doc/trust.md. */
typedef enum {
    END,
    SENDER,       /* context and rank: a communicator in which the peer has that rank; one that
                   * does not exist here yet is checked when it does */
    CANCELLER,    /* as SENDER, but the communicator may already be freed here */
    LENGTH,       /* length of the data: not negative; there is memory for an eager message */
    SHORT_LENGTH, /* length of the data: fits into the header */
    COOKIE,       /* cookie: of the right length, and complete */
    MAYBE_COOKIE, /* cookie: as COOKIE, or none */
    AWAITS_CTS,   /* request: a transfer with this peer that waits for its CTS */
    AWAITS_DONE,  /* request: a transfer with this peer that is not complete */
    ANSWERS,      /* request: outstanding at this peer, and waiting for this type of answer */
    CANCELLABLE,  /* request: the peer is not receiving its data, and has not received it */
    WINDOW,       /* target window: one of ours, of which the peer is a member */
    EXPOSED,      /* the access that ends: one that was opened to the peer, or whose epoch failed
                   * to begin */
    HELD,         /* lock: the peer is not already waiting for the lock that it requests, and
                   * holds the lock that it releases */
    MEMORY,       /* address, count, datatype: every byte lies in the window, which is not shared
                   * by loads and stores; the data fits its packet, or the answer its own; a
                   * flattened datatype and the offset of a part are checked when they arrive */
    OPERATION,    /* operation: predefined, and defined for the datatype */
    ORIGIN,       /* origin's window and rank: one of ours, in which the peer has that rank */
    LOCK_FLAGS,   /* flags: shared or exclusive; the origin is named exactly once */
    LOCK_ACK,     /* flags: exactly one result; we have requested a lock from that rank and wait
                   * for it */
    LOCK_OP_ACK,  /* flags: as LOCK_ACK, for an operation that has requested the lock and is not
                   * complete */
    ACK,          /* we wait for an acknowledgement from that rank */
    MAYBE_ACK,    /* flags: LOCK_OP_ACK or ACK, for each flag that is set */
    MEMBER,       /* context: ignored unless the peer is a member of that communicator */
    CLOSE_STATE,  /* the connection is in a state in which a CLOSE can arrive */
    HANDSHAKE,    /* a call that waits for this packet and has not received it */
} check_t;

enum { CHECKS_MAX = 6 }; /* for one type, including END */

typedef enum {
    FROM_NOBODY,
    FROM_RANK = 1,   /* of our job, or of one to which we are connected */
    FROM_CALLER = 2, /* a process at the other end of a new connection, made at a port */
    FROM_BOTH = 3
} from_t;

typedef struct {
    const char *name;
    unsigned short bytes; /* of the header, as it is sent */
    unsigned char from;   /* from_t */
    unsigned char checks[CHECKS_MAX];
} MPID_nem_ivshmem_rule_t;

/* By packet type. A type without a name is unknown. */
extern const MPID_nem_ivshmem_rule_t MPID_nem_ivshmem_packet_rules[MPIDI_CH3_PKT_END_ALL];

enum {
    LOCKS = MPIDI_CH3_PKT_FLAG_RMA_LOCK_SHARED | MPIDI_CH3_PKT_FLAG_RMA_LOCK_EXCLUSIVE,
    DISCARDED =
        MPIDI_CH3_PKT_FLAG_RMA_LOCK_QUEUED_DATA_DISCARDED | MPIDI_CH3_PKT_FLAG_RMA_LOCK_DISCARDED,
    BYTES_MAX_SHIFT = 6
};

#define BYTES_MAX (MPIR_AINT_MAX >> BYTES_MAX_SHIFT)

/* The fields of an operation on a window of ours, whatever the packet's type. */
typedef struct {
    MPI_Win window, source;
    int flags, flags_allowed;
    bool writes; /* only writes: the answer goes to a window, not to a request */
    const void *addr;
    MPI_Aint count;
    MPI_Datatype type;
    MPI_Op op;
    MPI_Aint flattened_bytes; /* bytes of the flattened datatype that follows */
    MPI_Aint room; /* bytes of data for which the packet, or its answer, has room; or -1 */
} MPID_nem_ivshmem_window_op_t;

/* Bytes of an element up to the last one that is touched: a pair may have a gap at its end. */
MPI_Aint MPID_nem_ivshmem_packet_true_bytes(MPI_Datatype type, MPI_Aint extent);

/* The fields of an operation, from any packet type that has WINDOW among its checks. */
MPID_nem_ivshmem_window_op_t MPID_nem_ivshmem_packet_window_op(const MPIDI_CH3_Pkt_t *pkt);

/* The memory that it touches; empty if that is not known yet, or is impossible. */
MPID_nem_ivshmem_range_t MPID_nem_ivshmem_packet_touched(const MPID_nem_ivshmem_window_op_t *o);

#endif
