/* SPDX-License-Identifier: mpich2 */
/*
 * What the netmod's files share. MPICH calls in through the table in ivshmem_init.c, always with
 * its global lock held, so that none of this is entered by two threads at once.
 */
#ifndef IVSHMEM_NETMOD_H
#define IVSHMEM_NETMOD_H

#include "ivshmem_compat.h"

#include "../tcp/tcp_impl.h"
#include "core/channel.h"
#include "core/joint.h"
#include "core/lane.h"
#include "core/lock.h"

/* Messages and bytes by path, since MPI_Init. Exported as MPI_T performance variables. */
typedef struct {
    unsigned long long eager_sent,
        eager_sent_bytes; /* packets, with their headers, through cells */
    unsigned long long eager_received, eager_received_bytes;
    unsigned long long bulk_sent, bulk_sent_bytes; /* large messages, through lanes or once */
    unsigned long long bulk_received, bulk_received_bytes;
    unsigned long long direct; /* of the large ones, those that this rank copied once */
    unsigned long long joint;  /* and those in which, as their sender, it took a part of that */
    unsigned long long cells_sent, cells_received;
    unsigned long long windows; /* whose operations are loads and stores in the region */
    unsigned long long waits;   /* sends that found no cell or a full inbox, and were queued */
    unsigned long long tcp_sent, tcp_sent_bytes; /* packets, with their headers and data, by tcp */
} MPID_nem_ivshmem_stats_t;

/* What a side says in its RTS or CTS: where the data is, or is to go. */
typedef struct {
    enum {
        IVSHMEM_OFFER_NOTHING,
        IVSHMEM_OFFER_LANE,
        IVSHMEM_OFFER_BUFFER,
        IVSHMEM_OFFER_JOINT /* in answer to a buffer: ours, into which both sides copy */
    } what;
    uint32_t first; /* of a lane: the chunk to begin with; of a joint copy: its number */
    ivshm_off off;
    uint64_t bytes;  /* of the message; in a CTS, of what is taken */
    ivshm_off joint; /* the joint copy's word */
} MPID_nem_ivshmem_offer_t;

/* One large message, from RTS to its end. Lives in the request's netmod area. */
typedef struct MPID_nem_ivshmem_transfer {
    struct MPIR_Request *req;
    struct MPIDI_VC *vc;
    struct MPID_nem_ivshmem_transfer *next, *prev;
    enum {
        IVSHMEM_AWAIT_CTS,  /* sender: the receiver has not matched it yet, or reads our buffer */
        IVSHMEM_AWAIT_LANE, /* receiver: all our lanes are lent */
        IVSHMEM_AWAIT_DONE, /* receiver: the sender writes into our buffer */
        IVSHMEM_SENDING,    /* through a lane */
        IVSHMEM_RECEIVING,
        IVSHMEM_WRITING, /* into the receiver's buffer */
        IVSHMEM_READING, /* the sender's */
        IVSHMEM_SHARING, /* receiver: the same, and the sender may copy a part */
        IVSHMEM_HELPING  /* sender: does so */
    } state;
    bool active;          /* counted in the connection's transfers */
    bool own_lane;        /* which is not with the idle ones */
    bool is_part;         /* receiver: the sender has more, that is not wanted */
    uint32_t carry_len;   /* bytes that the last chunk held beyond a whole element */
    intptr_t moved, size; /* bytes */
    intptr_t counted;     /* bytes of the message, also if not all are taken */
    char *contig;         /* the user's buffer, or NULL if it needs packing */
    char *direct;         /* the other side's, in the region */
    union {
        struct ivshm_lane lane;
        struct {
            struct ivshm_joint joint;
            uint32_t taken; /* pieces, by the receiver */
        };
    };
    MPID_nem_ivshmem_offer_t offer; /* ours: a packet that has to wait refers to it */
    unsigned char carry[32];
} MPID_nem_ivshmem_transfer_t;

#define REQ_TRANSFER(req) ((MPID_nem_ivshmem_transfer_t *) (req)->ch.netmod_area.padding)
_Static_assert(sizeof(MPID_nem_ivshmem_transfer_t) <= MPIDI_NEM_REQ_NETMOD_AREA_LEN,
               "a transfer lives in the request's netmod area");

/* A virtual connection through the region. Lives in the VC's netmod area. */
typedef struct {
    struct ivshm_channel *channel; /* NULL until the first message either way */
    struct ivshm_owner peer;
    struct {
        struct MPIR_Request *head, *tail;
    } sendq;
    uint32_t stream;    /* 0 is the job's own connection */
    uint32_t transfers; /* that one side works at in the other's memory */
    bool busy;          /* on the list of VCs that have something to send, or to end */
    bool terminating;   /* to end once all is sent */
    bool gone;          /* the peer's claim no longer says that it lives */
    bool takes_direct;  /* the peer's last large receive was into memory of the region */
    bool met, refused;  /* by MPI_Comm_connect: both sides have agreed; it was called off */
    unsigned long long received_bytes;
    struct MPIDI_VC *next_dynamic; /* list of those with stream != 0 */
} MPID_nem_ivshmem_vc_t;

#define VC_IVSHMEM(vc) ((MPID_nem_ivshmem_vc_t *) (vc)->ch.netmod_area.padding)

/* What a VC has on either path. At the end of the area, behind our part or tcp's. */
typedef struct {
    enum { IVSHMEM_PATH_UNDECIDED, IVSHMEM_PATH_REGION, IVSHMEM_PATH_TCP } path;
    bool lost; /* by tcp; an MPI call has said so */
    unsigned long long sent_bytes;
} MPID_nem_ivshmem_pair_t;

#define VC_PAIR(vc)                                                                                \
    ((MPID_nem_ivshmem_pair_t *) ((char *) (vc)->ch.netmod_area.padding +                          \
                                  MPIDI_NEM_VC_NETMOD_AREA_LEN - sizeof(MPID_nem_ivshmem_pair_t)))
_Static_assert(MPL_MAX(sizeof(MPID_nem_ivshmem_vc_t), sizeof(MPID_nem_tcp_vc_area)) +
                       sizeof(MPID_nem_ivshmem_pair_t) <=
                   MPIDI_NEM_VC_NETMOD_AREA_LEN,
               "our part of a VC lives in its netmod area");

typedef struct {
    bool joined;   /* region and transport are open */
    bool tcp;      /* MPICH's tcp netmod is open */
    bool poll_tcp; /* a message may come by it */
    struct ivshm_region region;
    struct ivshm_transport transport;
    char *user;               /* the region again, as the program sees it; NULL if it does not */
    struct ivshm_diag diag;   /* why not, if not joined */
    struct MPIDI_VC **vcs;    /* by endpoint: the job's own connection to it */
    struct MPIDI_VC *dynamic; /* connections made by MPI_Comm_connect */
    struct MPIDI_VC *busy;    /* VCs to look at in each turn, linked by ch.next and ch.prev */
    MPID_nem_ivshmem_transfer_t *transfers;
    int failure; /* an MPI error that the current call is to end with */
    MPID_nem_ivshmem_stats_t stats;
} MPID_nem_ivshmem_t;

extern MPID_nem_ivshmem_t MPID_nem_ivshmem;

/* Where that is in the region, for others: memory of the program's, or of ours. */
static inline ivshm_off MPID_nem_ivshmem_offset_of(const void *start)
{
    uint64_t off = (uintptr_t) start - (uintptr_t) MPID_nem_ivshmem.user;
    if (MPID_nem_ivshmem.user && off < MPID_nem_ivshmem.region.map.size)
        return (ivshm_off){off};
    return (ivshm_off){(uintptr_t) start - (uintptr_t) MPID_nem_ivshmem.region.map.base};
}

/*
 * A message begins with a packet's header: as much of MPIDI_CH3_Pkt_t as its type uses, where that
 * is worth it, so that a small message is one cache line.
 */
#define HEADER_BYTES_MIN sizeof(MPIDI_CH3_Pkt_send_t)
_Static_assert(offsetof(MPIDI_CH3_Pkt_t, type) == 0, "its type tells how long a header is");

static inline size_t MPID_nem_ivshmem_header_bytes(int type)
{
    switch (type) {
#ifdef USE_EAGER_SHORT
    case MPIDI_CH3_PKT_EAGERSHORT_SEND:
        return MPL_MAX(sizeof(MPIDI_CH3_Pkt_eagershort_send_t), HEADER_BYTES_MIN);
#endif
    case MPIDI_CH3_PKT_EAGER_SEND:
    case MPIDI_CH3_PKT_EAGER_SYNC_SEND:
    case MPIDI_CH3_PKT_READY_SEND:
        return sizeof(MPIDI_CH3_Pkt_send_t);
    default:
        return sizeof(MPIDI_CH3_Pkt_t);
    }
}

/* Copies the header's bytes from `begin` on: of the usual ones, without a loop. */
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
    if (bytes == HEADER_BYTES_MIN)
        memcpy(out, in, HEADER_BYTES_MIN - begin);
    else
        memcpy(out, in, sizeof(MPIDI_CH3_Pkt_t) - begin);
}

/* ivshmem_connect.c: finding peers */
int MPID_nem_ivshmem_add_to_card(char **bc_val_p, int *val_max_sz_p);
int MPID_nem_ivshmem_get_business_card(int my_rank, char **bc_val_p, int *val_max_sz_p);
int MPID_nem_ivshmem_connect_to_root(const char *business_card, MPIDI_VC_t *new_vc);
int MPID_nem_ivshmem_find_peer(MPIDI_VC_t *vc, struct ivshm_owner *peer, bool *shared);
int MPID_nem_ivshmem_connect(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_find_vc(const struct ivshm_incoming *in, MPIDI_VC_t **vc_p);
int MPID_nem_ivshmem_call_off(MPIDI_VC_t *vc);

/* ivshmem_path.c: through the region, or by tcp */
int MPID_nem_ivshmem_path_init(MPIDI_PG_t *pg, int pg_rank, char **bc_val_p, int *val_max_sz_p);
int MPID_nem_ivshmem_path_finalize(void);
int MPID_nem_ivshmem_path_get_card(int my_rank, char **bc_val_p, int *val_max_sz_p);
int MPID_nem_ivshmem_path_vc_init(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_path_vc_destroy(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_path_vc_terminate(MPIDI_VC_t *vc);
void MPID_nem_ivshmem_take_tcp(MPIDI_VC_t *vc);
void MPID_nem_ivshmem_take_region(MPIDI_VC_t *vc, struct ivshm_owner peer);
int MPID_nem_ivshmem_tcp_connect_to_root(const char *business_card, MPIDI_VC_t *vc);
int MPID_nem_ivshmem_tcp_poll(int in_blocking_poll);

/* ivshmem_vc.c: life of a virtual connection through the region */
int MPID_nem_ivshmem_vc_destroy(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_vc_terminate(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_vc_end(MPIDI_VC_t *vc);
void MPID_nem_ivshmem_vc_link_busy(MPIDI_VC_t *vc);
void MPID_nem_ivshmem_vc_unlink_busy(MPIDI_VC_t *vc);
const char *MPID_nem_ivshmem_vc_name(const MPIDI_VC_t *vc);
int MPID_nem_ivshmem_vc_error(const MPIDI_VC_t *vc, const char *why);
int MPID_nem_ivshmem_vc_fail(MPIDI_VC_t *vc, const char *why);
int MPID_nem_ivshmem_vc_fail_requests(MPIDI_VC_t *vc, int req_errno);

/* ivshmem_send.c */
int MPID_nem_ivshmem_iStartContigMsg(MPIDI_VC_t *vc, void *hdr, intptr_t hdr_sz, void *data,
                                     intptr_t data_sz, MPIR_Request **sreq_ptr);
int MPID_nem_ivshmem_iSendContig(MPIDI_VC_t *vc, MPIR_Request *sreq, void *hdr, intptr_t hdr_sz,
                                 void *data, intptr_t data_sz);
int MPID_nem_ivshmem_iSendIov(MPIDI_VC_t *vc, MPIR_Request *sreq, void *hdr, intptr_t hdr_sz,
                              struct iovec *iov, int n_iov);
int MPID_nem_ivshmem_SendNoncontig(MPIDI_VC_t *vc, MPIR_Request *sreq, void *hdr, intptr_t hdr_sz,
                                   struct iovec *hdr_iov, int n_hdr_iov);
size_t MPID_nem_ivshmem_iov_bytes(const struct iovec *iov, int n);
int MPID_nem_ivshmem_send_progress(void);
int MPID_nem_ivshmem_sendq_fail(MPIDI_VC_t *vc, int req_errno);

/* ivshmem_poll.c */
int MPID_nem_ivshmem_poll_init(void);
int MPID_nem_ivshmem_poll(int in_blocking_poll);

/*
 * ivshmem_trust.c: why CH3 must not see the packet, which `len` bytes follow; NULL if it may. `pkt`
 * is a private copy.
 */
const char *MPID_nem_ivshmem_doubt(MPIDI_VC_t *vc, const MPIDI_CH3_Pkt_t *pkt, size_t len);

/* ivshmem_lmt.c: large messages */
int MPID_nem_ivshmem_lmt_init(int job_size);
void MPID_nem_ivshmem_lmt_finalize(void);
void MPID_nem_ivshmem_set_eager_limit(MPIDI_VC_t *vc);
void MPID_nem_ivshmem_lmt_prefer_direct(void);
void MPID_nem_ivshmem_lmt_vc_init(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_lmt_progress(void);
int MPID_nem_ivshmem_lmt_fail(MPIDI_VC_t *vc, int req_errno);

/* ivshmem_memory.c: what the program has in the region. take: all zero, NULL if the region has none
 * to spare; give_back: false if it was not taken there; finalize: false if the region cannot be
 * left before the process ends */
int MPID_nem_ivshmem_memory_init(void);
bool MPID_nem_ivshmem_memory_in_use(void);
void *MPID_nem_ivshmem_memory_take(MPI_Aint bytes);
bool MPID_nem_ivshmem_memory_give_back(void *start);
bool MPID_nem_ivshmem_memory_finalize(void);
bool MPID_nem_ivshmem_memory_find(const void *start, intptr_t bytes, ivshm_off *off);
void MPID_nem_ivshmem_memory_lose(const void *start);

/* ivshmem_window.c: windows in the region */
void MPID_nem_ivshmem_window_init(void);

/* ivshmem_stats.c */
void MPID_nem_ivshmem_stats_register(void);
void MPID_nem_ivshmem_stats_print(void);
void MPID_nem_ivshmem_stats_print_vc(MPIDI_VC_t *vc);

/* ivshmem_error.c: the one place where core's errors become MPI's */
void MPID_nem_ivshmem_say(const char *what, const char *text);
int MPID_nem_ivshmem_error(const char *text);
int MPID_nem_ivshmem_peer_error(const char *text);
int MPID_nem_ivshmem_port_error(const char *text);

/* ivshmem_place.c */
void MPID_nem_ivshmem_check_place(void);

#endif
