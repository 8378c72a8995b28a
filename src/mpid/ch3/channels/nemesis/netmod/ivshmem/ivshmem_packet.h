/* SPDX-License-Identifier: mpich2 */
/*
 * Properties of a packet that its type tells, and the header of a packet as it is sent. By these,
 * packets are sent, received and checked. No function here has side effects.
 */
#ifndef IVSHMEM_PACKET_H
#define IVSHMEM_PACKET_H

#include "ivshmem_netmod.h"

/* Memory from `low` up to, but not including, `high`. Numbers, since a peer names the addresses. */
typedef struct {
    intptr_t low, high;
} MPID_nem_ivshmem_range_t;

/* Bytes that a header of this type takes in a message; 0 for an unknown type. */
size_t MPID_nem_ivshmem_packet_header_bytes(int type);

/* Bytes of an element of a predefined type, and its extent unless NULL; -1 for any other type. */
MPI_Aint MPID_nem_ivshmem_packet_type_size(MPI_Datatype type, MPI_Aint *extent);

/* The memory that an operation on a window of ours touches, if its datatype is predefined. */
MPID_nem_ivshmem_range_t MPID_nem_ivshmem_packet_touches(const MPIDI_CH3_Pkt_t *pkt);

/* Plain eager messages: the usual packets. They need no answer, and little has to be checked. */
static inline bool MPID_nem_ivshmem_packet_is_plain(int type)
{
    return type == MPIDI_CH3_PKT_EAGER_SEND
#ifdef USE_EAGER_SHORT
           || type == MPIDI_CH3_PKT_EAGERSHORT_SEND
#endif
        ;
}

/* Bytes. For a larger eager message, the check first tries whether there is memory for it. */
#define IVSHMEM_EAGER_USUAL (1 << 20)

/*
 * A message begins with a packet's header: as much of MPIDI_CH3_Pkt_t as its type uses, so that a
 * small message fits into one cache line.
 */
#define HEADER_BYTES_MIN sizeof(MPIDI_CH3_Pkt_close_t)
_Static_assert(offsetof(MPIDI_CH3_Pkt_t, type) == 0, "its type tells how long a header is");

static inline size_t MPID_nem_ivshmem_header_bytes(int type)
{
    switch (type) {
#ifdef USE_EAGER_SHORT
    case MPIDI_CH3_PKT_EAGERSHORT_SEND:
        return sizeof(MPIDI_CH3_Pkt_eagershort_send_t);
#endif
    case MPIDI_CH3_PKT_EAGER_SEND:
        return sizeof(MPIDI_CH3_Pkt_send_t);
    default:
        return MPID_nem_ivshmem_packet_header_bytes(type);
    }
}

/* Copies the header's bytes from `begin` on; for the usual packets without a loop. */
static inline void MPID_nem_ivshmem_header_copy(void *to, const void *from, size_t begin,
                                                size_t bytes)
{
    char *out = (char *) to + begin;
    const char *in = (const char *) from + begin;
#ifdef USE_EAGER_SHORT
    if (likely(bytes == sizeof(MPIDI_CH3_Pkt_eagershort_send_t))) {
        memcpy(out, in, sizeof(MPIDI_CH3_Pkt_eagershort_send_t) - begin);
        return;
    }
#endif
    if (likely(bytes == sizeof(MPIDI_CH3_Pkt_send_t)))
        memcpy(out, in, sizeof(MPIDI_CH3_Pkt_send_t) - begin);
    else
        memcpy(out, in, bytes - begin);
}

#endif
