/* SPDX-License-Identifier: mpich2 */
/*
 * What the netmod's files share. MPICH calls in through the table in ivshmem_init.c, always with
 * its global lock held, so that none of this is entered by two threads at once.
 */
#ifndef IVSHMEM_NETMOD_H
#define IVSHMEM_NETMOD_H

#include "mpidimpl.h"
#include "mpid_nem_impl.h"
#include "mpid_nem_nets.h"

#include "ivshmem_compat.h"

#include "../tcp/tcp_impl.h"
#include "core/channel.h"
#include "core/coop.h"
#include "core/pipeline.h"
#include "core/lock.h"

/* Messages and bytes by path, since MPI_Init. Exported as MPI_T performance variables. */
typedef struct {
    unsigned long long eager_sent,
        eager_sent_bytes; /* packets, with their headers, through cells */
    unsigned long long eager_received, eager_received_bytes;
    unsigned long long lmt_sent, lmt_sent_bytes; /* large messages, through pipelines or once */
    unsigned long long lmt_received, lmt_received_bytes;
    unsigned long long single_copy; /* of the large ones, those that this rank copied once */
    unsigned long long coop; /* and those in which, as their sender, it took a part of that */
    unsigned long long cells_sent, cells_received;
    unsigned long long windows; /* whose operations are loads and stores in the region */
    unsigned long long waits;   /* sends that found no cell or a full inbox, and were queued */
    unsigned long long tcp_sent, tcp_sent_bytes; /* packets, with their headers and data, by tcp */
} MPID_nem_ivshmem_stats_t;

/* What a side says in its RTS or CTS: where the data is, or is to go. */
typedef struct {
    enum {
        IVSHMEM_COOKIE_NOTHING,
        IVSHMEM_COOKIE_PIPELINE,
        IVSHMEM_COOKIE_BUFFER,
        IVSHMEM_COOKIE_COOP /* in answer to a buffer: ours, into which both sides copy */
    } what;
    uint32_t first; /* of a pipeline: the chunk to begin with; of a cooperative copy: its number */
    ivshm_off off;
    uint64_t bytes; /* of the message; in a CTS, of what is taken */
    ivshm_off coop; /* the cooperative copy's word */
} MPID_nem_ivshmem_cookie_t;

/* One large message, from RTS to its end. Lives in the request's netmod area. */
typedef struct MPID_nem_ivshmem_transfer {
    struct MPIR_Request *req;
    struct MPIDI_VC *vc;
    struct MPID_nem_ivshmem_transfer *next, *prev;
    enum {
        IVSHMEM_AWAIT_CTS, /* sender: the receiver has not matched it yet, or reads our buffer */
        IVSHMEM_AWAIT_PIPELINE, /* receiver: all our pipelines are lent */
        IVSHMEM_AWAIT_DONE,     /* receiver: the sender writes into our buffer */
        IVSHMEM_SENDING,        /* through a pipeline */
        IVSHMEM_RECEIVING,
        IVSHMEM_WRITING,        /* into the receiver's buffer */
        IVSHMEM_READING,        /* the sender's */
        IVSHMEM_COOP_RECEIVING, /* receiver: the same, and the sender may copy a part */
        IVSHMEM_COOP_SENDING    /* sender: does so */
    } state;
    bool active;          /* counted in the connection's transfers */
    bool own_pipeline;    /* which is not with the idle ones */
    bool is_part;         /* receiver: the sender has more, that is not wanted */
    uint32_t carry_len;   /* bytes that the last chunk held beyond a whole element */
    intptr_t moved, size; /* bytes */
    intptr_t counted;     /* bytes of the message, also if not all are taken */
    char *contig;         /* the user's buffer, or NULL if it needs packing */
    char *peer_buffer;    /* the other side's, in the region */
    union {
        struct ivshm_pipeline pipeline;
        struct {
            struct ivshm_coop coop;
            uint32_t taken; /* pieces, by the receiver */
        };
    };
    MPID_nem_ivshmem_cookie_t cookie; /* ours: a packet that has to wait refers to it */
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
    uint32_t gone_at;   /* where in the inbox, */
    bool gone;          /* if the peer's claim was seen no longer to say that it lives */
    bool takes_direct;  /* the peer's last large receive was into memory of the region */
    bool met, refused;  /* by MPI_Comm_connect: both sides have agreed; it was called off */
    bool failed;        /* to fail at the next safe point; until then nothing is taken from it */
    int known_rank;     /* that the peer has in this communicator, */
    ivshmem_compat_context known_context; /* or IVSHMEM_NO_CONTEXT */
    uint16_t said;                        /* messages in a call, which has a limit */
    MPIR_Win *known_window; /* of which the peer is a member, with this rank; or NULL */
    int known_member;
    struct {
        struct MPID_nem_ivshmem_outstanding *head, *tail;
    } outstanding; /* that the peer has not answered yet */
    unsigned long long received_bytes;
    struct MPIDI_VC *next_dynamic; /* list of those with stream != 0 */
} MPID_nem_ivshmem_vc_t;

#define IVSHMEM_NO_CONTEXT ((ivshmem_compat_context) -1)

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

/* Memory from `low` up to `high`; addresses as numbers, since a peer names them. */
typedef struct {
    intptr_t low, high;
} MPID_nem_ivshmem_span_t;

/* The one-sided operation that is being received, if it is one. */
typedef struct {
    MPI_Win window;                  /* or MPI_WIN_NULL */
    MPI_Aint flattened_bytes;        /* bytes of its datatype's description */
    MPID_nem_ivshmem_span_t touched; /* by it, in the window; empty if that is not known yet */
} MPID_nem_ivshmem_operation_t;

/* What CH3 calls to send on a connection. */
typedef struct {
    __typeof__(((MPIDI_VC_t *) 0)->sendNoncontig_fn) sendNoncontig;
    __typeof__(((MPIDI_VC_t *) 0)->rndvSend_fn) rndvSend;
    __typeof__(((MPIDI_VC_t *) 0)->ch.iStartContigMsg) iStartContigMsg;
    __typeof__(((MPIDI_VC_t *) 0)->ch.iSendContig) iSendContig;
    __typeof__(((MPIDI_VC_t *) 0)->ch.iSendIov) iSendIov;
} MPID_nem_ivshmem_ops_t;

#define IVSHMEM_SENDER_PIPELINES_MAX 4
#define IVSHMEM_FREE_PIPELINES_MAX (1 + IVSHMEM_SENDER_PIPELINES_MAX)
#define IVSHMEM_OUTSTANDING_BUCKETS 4096

typedef struct {
    bool joined;   /* region and transport are open */
    bool tcp;      /* MPICH's tcp netmod is open */
    bool poll_tcp; /* a message may come by it */
    bool news;     /* a job or a communicator is known that was not: messages may wait for it */
    struct ivshm_region region;
    struct ivshm_transport transport;
    char *user;             /* the region again, as the program sees it; NULL if it does not */
    struct ivshm_diag diag; /* why not, if not joined */
    struct MPIDI_VC **vcs;  /* by endpoint: the job's own connection to it, */
    MPID_nem_ivshmem_operation_t *operations; /* what comes by that, and one for all others */
    struct MPIDI_VC *dynamic;                 /* connections made by MPI_Comm_connect */
    struct MPIDI_VC *busy; /* VCs to look at in each turn, linked by ch.next and ch.prev */
    MPID_nem_ivshmem_transfer_t *transfers;
    struct {
        bool some, calls;       /* connections; calls among them */
        struct MPIDI_VC *first; /* since the last safe point, */
        char why[300];          /* and its reason */
    } failed_vcs;
    const MPID_nem_ivshmem_ops_t *first_ops; /* of a connection without a channel: they open one */
    int sender_pipelines;
    bool prefers_direct; /* copies from and to memory of the region, also of smaller messages */
    int failure;         /* an MPI error that the current call is to end with */
    MPID_nem_ivshmem_stats_t stats;

    /*
     * What one file alone keeps from call to call. Apart from it are only what outlives
     * MPI_Finalize or is used without MPICH's lock: the program's memory (ivshmem_memory.c) and the
     * handler of SIGBUS (ivshmem_fault.c).
     */
    struct {
        bool inside;
        unsigned idle_calls, busy_calls;
        time_t watched_at; /* for deaths, in seconds */
        bool seen_gone;    /* some peer, that has not been failed yet */
        struct MPID_nem_ivshmem_held *held, **held_end; /* messages that came too early */
        /*
         * CH3's handlers of packets, by type: the table that Nemesis keeps to itself. With it a
         * packet's header can be a private copy while its data stays where it is.
         */
        MPIDI_CH3_PktHandler_Fcn *handlers[MPIDI_CH3_PKT_END_ALL + 1];
    } progress;
    struct {
        struct ivshm_pipeline free_pipelines[IVSHMEM_FREE_PIPELINES_MAX];
        int free_count;
        unsigned calls_to_retry; /* before the region is asked for a pipeline again: that takes
                                    long, and many may wait */
        struct MPID_nem_ivshmem_quarantined *quarantined;
        struct ivshm_coop_shm *words; /* for cooperative copies, once there was one */
        uint64_t words_in_use;        /* a bit each; all, if the region had no memory for them */
    } lmt_pool;
    struct {
        uint32_t streams;     /* named so far */
        time_t patient_since; /* in seconds */
    } port;
    struct {
        MPIR_Comm **comms; /* by the context of their receives, but for its last bit, which tells
                              collectives */
        struct MPID_nem_ivshmem_claim *claims;
        struct MPID_nem_ivshmem_opened *opened; /* dynamic windows */
        int failed_vcs;                         /* CH3's count, as last seen */
    } relation;
    struct {
        MPIDI_CH3U_Win_fns_t stock;
        int (*stock_free)(MPIR_Win **);
        time_t checked_at; /* for deaths, in seconds */
    } windows;
    struct {
        struct MPID_nem_ivshmem_outstanding *buckets[IVSHMEM_OUTSTANDING_BUCKETS]; /* by handle */
    } outstanding;
} MPID_nem_ivshmem_t;

extern MPID_nem_ivshmem_t MPID_nem_ivshmem;

/* Of a connection that is bound to a channel. */
static inline MPID_nem_ivshmem_operation_t *MPID_nem_ivshmem_receiving(MPIDI_VC_t *vc)
{
    return &MPID_nem_ivshmem.operations[VC_IVSHMEM(vc)->stream
                                            ? ivshm_region_endpoints(&MPID_nem_ivshmem.region)
                                            : ivshm_channel_peer(VC_IVSHMEM(vc)->channel).endpoint];
}

/*
 * A stream is named by who connects: the port's tag, by which the other side knows who is meant,
 * and a count. The other direction sets the reply bit.
 */
#define IVSHMEM_STREAM_REPLY UINT32_C(0x80000000)

/* Where that is in the region, for others: memory of the program's, or of ours. */
static inline ivshm_off MPID_nem_ivshmem_offset_of(const void *start)
{
    uint64_t off = (uintptr_t) start - (uintptr_t) MPID_nem_ivshmem.user;
    if (MPID_nem_ivshmem.user && off < ivshm_region_size(&MPID_nem_ivshmem.region))
        return (ivshm_off){off};
    return ivshm_region_offset(&MPID_nem_ivshmem.region, start);
}

/* ivshmem_packet.c: what a packet says. A type without a name is none. */
size_t MPID_nem_ivshmem_packet_header_bytes(int type);
const char *MPID_nem_ivshmem_packet_name(int type);

/* Bytes of an element of a predefined type, and, unless NULL, from one to the next; -1: none. */
MPI_Aint MPID_nem_ivshmem_packet_type_size(MPI_Datatype type, MPI_Aint *extent);

/*
 * ivshmem_validate.c: why CH3 must not see the packet, which `len` bytes follow; NULL if it may,
 * and that if not yet. `pkt` is a private copy. *hold is set if the bytes must be in private memory
 * before CH3 goes on with them.
 */
const char *MPID_nem_ivshmem_packet_check_all(MPIDI_VC_t *vc, MPIDI_CH3_Pkt_t *pkt, size_t len,
                                              bool *hold);

/* What the packet says instead, if it is to be asked again after news of jobs or communicators. */
extern const char MPID_nem_ivshmem_too_early[];

/* What an operation on a window of ours touches there, if its datatype is a predefined one. */
MPID_nem_ivshmem_span_t MPID_nem_ivshmem_packet_touches(const MPIDI_CH3_Pkt_t *pkt);

/* The same of what CH3 has received since, before it follows that. */
const char *MPID_nem_ivshmem_packet_check_metadata(MPIDI_VC_t *vc, const MPIR_Request *rreq);

/*
 * ivshmem_flattened.c: the same of a derived datatype's description, of `bytes`, in our memory.
 * What a peer need not be believed is replaced. *total is the size of `count` elements, *basic what
 * they are made of, or MPI_DATATYPE_NULL; by_elements: it must be made of such. *touched holds all
 * bytes that they touch.
 */
const char *MPID_nem_ivshmem_flattened_check(const MPIR_Win *win, const void *addr, MPI_Aint count,
                                             void *flattened, MPI_Aint bytes, bool by_elements,
                                             MPI_Aint *total, MPI_Datatype *basic,
                                             MPID_nem_ivshmem_span_t *touched);

/* ivshmem_relation.c: who a peer is to us */
int MPID_nem_ivshmem_relation_init(void);
const char *MPID_nem_ivshmem_relation_check_sender(MPIDI_VC_t *vc,
                                                   const MPIDI_Message_match *match);
const char *MPID_nem_ivshmem_relation_check_canceller(MPIDI_VC_t *vc,
                                                      const MPIDI_Message_match *match);
bool MPID_nem_ivshmem_relation_shares_comm(MPIDI_VC_t *vc);
void MPID_nem_ivshmem_relation_forget_vc(MPIDI_VC_t *vc);
void MPID_nem_ivshmem_relation_forget_window(MPIR_Win *win);

/* Nobody whose connection has failed waits for our locks any more. No packet is being handled. */
int MPID_nem_ivshmem_relation_forget_locks(void);

/* A window of ours of which the peer is a member; NULL if there is none with that handle. */
MPIR_Win *MPID_nem_ivshmem_relation_find_window(MPIDI_VC_t *vc, MPI_Win handle);
bool MPID_nem_ivshmem_relation_is_target(MPIDI_VC_t *vc, const MPIR_Win *win, int rank);

/*
 * Of an access, a lock, or an MPI_Win_lock_all: whether the peer ends what has begun for it; asks
 * for a lock that it does not wait for, or gives back one that it was granted; and whether the rank
 * grants its lock once. Each notes that it does.
 */
bool MPID_nem_ivshmem_relation_ends_access(MPIDI_VC_t *vc, MPIR_Win *win);
bool MPID_nem_ivshmem_relation_asks_lock(MPIDI_VC_t *vc, MPIR_Win *win);
bool MPID_nem_ivshmem_relation_returns_lock(MPIDI_VC_t *vc, MPIR_Win *win);
bool MPID_nem_ivshmem_relation_grants_lock(MPIR_Win *win, int rank);

/* Whether all of [start, start+bytes) is memory that the window opens to its members. */
bool MPID_nem_ivshmem_relation_opens(const MPIR_Win *win, intptr_t start, MPI_Aint bytes);

/* ivshmem_outstanding.c: what we have asked a peer. Asked by the packet that is about to be sent.
 */
int MPID_nem_ivshmem_outstanding_add(MPIDI_VC_t *vc, const MPIDI_CH3_Pkt_t *pkt);
MPIR_Request *MPID_nem_ivshmem_outstanding_find(MPIDI_VC_t *vc, MPI_Request handle);
bool MPID_nem_ivshmem_outstanding_awaits(MPIDI_VC_t *vc, MPI_Request handle, int type);
void MPID_nem_ivshmem_outstanding_answered(MPIDI_VC_t *vc, MPI_Request handle, int type);
void MPID_nem_ivshmem_outstanding_withdraw(MPIDI_VC_t *vc, MPI_Request handle);
void MPID_nem_ivshmem_outstanding_replace(MPIDI_VC_t *vc, MPI_Request handle, int type);
int MPID_nem_ivshmem_outstanding_fail(MPIDI_VC_t *vc, int req_errno);

/* Messages of the usual kind, which ask nothing, and of which little is to be checked. */
static inline bool MPID_nem_ivshmem_packet_is_plain(int type)
{
    return type == MPIDI_CH3_PKT_EAGER_SEND
#ifdef USE_EAGER_SHORT
           || type == MPIDI_CH3_PKT_EAGERSHORT_SEND
#endif
        ;
}

#define IVSHMEM_EAGER_USUAL                                                                        \
    (1 << 20) /* bytes; for more, it is asked first whether there is memory */

/*
 * A message begins with a packet's header: as much of MPIDI_CH3_Pkt_t as its type uses, so that a
 * small message is one cache line.
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
    if (likely(bytes == sizeof(MPIDI_CH3_Pkt_send_t)))
        memcpy(out, in, sizeof(MPIDI_CH3_Pkt_send_t) - begin);
    else
        memcpy(out, in, bytes - begin);
}

/* ivshmem_fault.c: words for who touches memory that the region has lost */
void MPID_nem_ivshmem_fault_watch(void);
void MPID_nem_ivshmem_fault_unwatch(bool program_has_it);

/* ivshmem_card.c: business cards, by which two ranks know whether they share a region */
enum { IVSHMEM_TEXT_MAX = 600 };
int MPID_nem_ivshmem_card_add(char **bc_val_p, int *val_max_sz_p);
bool MPID_nem_ivshmem_card_read(const char *card, const char *who, bool elsewhere,
                                struct ivshm_owner *peer, bool *shared,
                                char text[IVSHMEM_TEXT_MAX]);
int MPID_nem_ivshmem_card_find_peer(MPIDI_VC_t *vc, struct ivshm_owner *peer, bool *shared,
                                    char text[IVSHMEM_TEXT_MAX]);

/* ivshmem_port.c: MPI_Comm_connect, and the other side of it */
int MPID_nem_ivshmem_port_get_card(int my_rank, char **bc_val_p, int *val_max_sz_p);
int MPID_nem_ivshmem_port_connect(const char *business_card, MPIDI_VC_t *new_vc);
int MPID_nem_ivshmem_port_find_vc(const struct ivshm_incoming *in, MPIDI_VC_t **vc_p);
int MPID_nem_ivshmem_port_close_unanswered(void);

/* ivshmem_path.c: through the region, or by tcp; and the channels between ranks */
int MPID_nem_ivshmem_path_init(MPIDI_PG_t *pg, int pg_rank, char **bc_val_p, int *val_max_sz_p);
int MPID_nem_ivshmem_path_finalize(void);
int MPID_nem_ivshmem_path_get_card(int my_rank, char **bc_val_p, int *val_max_sz_p);
int MPID_nem_ivshmem_path_vc_init(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_path_vc_destroy(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_path_vc_terminate(MPIDI_VC_t *vc);
bool MPID_nem_ivshmem_path_is_in_region(MPIDI_VC_t *vc);
bool MPID_nem_ivshmem_path_open_channel(struct ivshm_owner peer, const char *who,
                                        struct ivshm_channel **channel,
                                        char text[IVSHMEM_TEXT_MAX]);
void MPID_nem_ivshmem_path_bind_call(MPIDI_VC_t *vc, struct ivshm_channel *channel,
                                     uint32_t stream);
int MPID_nem_ivshmem_path_adopt(struct ivshm_channel *channel, MPIDI_VC_t **vc_p);
bool MPID_nem_ivshmem_path_is_of_unknown_job(const struct ivshm_incoming *in);
int MPID_nem_ivshmem_path_tcp_connect(const char *business_card, MPIDI_VC_t *vc);
int MPID_nem_ivshmem_path_tcp_poll(int in_blocking_poll);

/*
 * ivshmem_teardown.c: how connections through the region end. All but vc_destroy may complete
 * requests: no packet is being handled then.
 */
int MPID_nem_ivshmem_teardown_destroy(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_teardown_terminate(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_teardown_drained(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_teardown_requests(MPIDI_VC_t *vc, int req_errno);
int MPID_nem_ivshmem_teardown_fail(MPIDI_VC_t *vc, const char *why);
int MPID_nem_ivshmem_teardown_abort_call(MPIDI_VC_t *vc, const char *why);
int MPID_nem_ivshmem_teardown_failed_vcs(void);

/* ivshmem_vc.c: the connections through the region */
void MPID_nem_ivshmem_vc_set_ops(MPIDI_VC_t *vc, const MPID_nem_ivshmem_ops_t *ops);
void MPID_nem_ivshmem_vc_link_busy(MPIDI_VC_t *vc);
void MPID_nem_ivshmem_vc_unlink_busy(MPIDI_VC_t *vc);

/* Calls by MPI_Comm_connect, either way: found by channel and stream. */
void MPID_nem_ivshmem_vc_add_call(MPIDI_VC_t *vc, struct ivshm_channel *channel, uint32_t stream);
void MPID_nem_ivshmem_vc_remove_call(MPIDI_VC_t *vc);
MPIDI_VC_t *MPID_nem_ivshmem_vc_find_call(const struct ivshm_channel *channel, uint32_t stream);

/* Goes through the ranks of all jobs that are known, but those on this node. Begins as zeros. */
typedef struct {
    MPIDI_PG_iterator pgs;
    MPIDI_PG_t *pg;
    int rank;
} MPID_nem_ivshmem_ranks_t;

/* The next one's connection; NULL after the last. */
MPIDI_VC_t *MPID_nem_ivshmem_vc_next(MPID_nem_ivshmem_ranks_t *at);
const char *MPID_nem_ivshmem_vc_name(const MPIDI_VC_t *vc);
int MPID_nem_ivshmem_vc_error(const MPIDI_VC_t *vc, const char *why);
void MPID_nem_ivshmem_vc_mark_failed(MPIDI_VC_t *vc, const char *why);

/* ivshmem_send.c: eager messages, on a connection that has a channel */
int MPID_nem_ivshmem_iStartContigMsg(MPIDI_VC_t *vc, void *hdr, intptr_t hdr_sz, void *data,
                                     intptr_t data_sz, MPIR_Request **sreq_ptr);
int MPID_nem_ivshmem_iSendContig(MPIDI_VC_t *vc, MPIR_Request *sreq, void *hdr, intptr_t hdr_sz,
                                 void *data, intptr_t data_sz);
int MPID_nem_ivshmem_iSendIov(MPIDI_VC_t *vc, MPIR_Request *sreq, void *hdr, intptr_t hdr_sz,
                              struct iovec *iov, int n_iov);
int MPID_nem_ivshmem_SendNoncontig(MPIDI_VC_t *vc, MPIR_Request *sreq, void *hdr, intptr_t hdr_sz,
                                   struct iovec *hdr_iov, int n_hdr_iov);
size_t MPID_nem_ivshmem_iov_bytes(const struct iovec *iov, int n);
int MPID_nem_ivshmem_send_drain(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_sendq_fail(MPIDI_VC_t *vc, int req_errno);
bool MPID_nem_ivshmem_sendq_answers(MPIDI_VC_t *vc, const MPIR_Win *win);

/* ivshmem_poll.c */
int MPID_nem_ivshmem_poll_init(void);
void MPID_nem_ivshmem_poll_finalize(void);
int MPID_nem_ivshmem_poll(int in_blocking_poll);

/* ivshmem_limit.c: the largest message that is sent at once */
void MPID_nem_ivshmem_limit_set(MPIDI_VC_t *vc);
void MPID_nem_ivshmem_limit_prefer_direct(void);

/* ivshmem_lmt.c: large messages, from their beginning to their end */
void MPID_nem_ivshmem_lmt_vc_init(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_lmt_progress(void);
int MPID_nem_ivshmem_lmt_fail(MPIDI_VC_t *vc, int req_errno);

/*
 * ivshmem_pipeline.c: through a pipeline. True once all is sent or received. *why is set if the
 * peer has sent nonsense.
 */
void MPID_nem_ivshmem_pipeline_fill(MPID_nem_ivshmem_transfer_t *t);
bool MPID_nem_ivshmem_pipeline_send(MPID_nem_ivshmem_transfer_t *t);
bool MPID_nem_ivshmem_pipeline_receive(MPID_nem_ivshmem_transfer_t *t, const char **why);

/*
 * ivshmem_copy.c: into the receiver's buffer, out of the sender's, or the latter by both, of whom
 * the sender helps. One turn's part: true once all is copied, or there is nothing to help with.
 * *why is set if the peer's memory is not what it said.
 */
void MPID_nem_ivshmem_copy_pack(MPID_nem_ivshmem_transfer_t *t, void *to, intptr_t max);
bool MPID_nem_ivshmem_copy_write(MPID_nem_ivshmem_transfer_t *t);
bool MPID_nem_ivshmem_copy_read(MPID_nem_ivshmem_transfer_t *t, const char **why);
bool MPID_nem_ivshmem_copy_coop_receive(MPID_nem_ivshmem_transfer_t *t, const char **why);
bool MPID_nem_ivshmem_copy_coop_send(MPID_nem_ivshmem_transfer_t *t, const char **why);

/*
 * ivshmem_lmt_pool.c: our pipelines and words for cooperative copies. Of pipelines, `keep` idle
 * ones are left alone. NULL or false if there is none. What a peer may still write, that was lost
 * sight of, is lost until that one has left, or is dead: lmt_pool_quarantine, of a word or a
 * pipeline.
 */
int MPID_nem_ivshmem_lmt_pool_init(int job_size);
void MPID_nem_ivshmem_lmt_pool_finalize(void);
void MPID_nem_ivshmem_lmt_pool_begin_progress(void);
bool MPID_nem_ivshmem_lmt_pool_alloc_pipeline(struct ivshm_pipeline *pipeline, int keep);
void MPID_nem_ivshmem_lmt_pool_free_pipeline(struct ivshm_pipeline *pipeline);
struct ivshm_coop_shm *MPID_nem_ivshmem_lmt_pool_alloc_coop(void);
void MPID_nem_ivshmem_lmt_pool_free_coop(const struct ivshm_coop_shm *coop);
void MPID_nem_ivshmem_lmt_pool_quarantine(struct ivshm_owner peer, struct ivshm_coop_shm *coop,
                                          const struct ivshm_pipeline *pipeline);

/* ivshmem_memory.c: what the program has in the region. take: all zero, NULL if the region has none
 * to spare; need: also of what others leave; give_back: false if it was not taken there; finalize:
 * false if the region cannot be left before the process ends */
int MPID_nem_ivshmem_memory_init(void);
bool MPID_nem_ivshmem_memory_in_use(void);
void *MPID_nem_ivshmem_memory_alloc(MPI_Aint bytes);
void *MPID_nem_ivshmem_memory_alloc_required(MPI_Aint bytes);
bool MPID_nem_ivshmem_memory_free(void *start);
void MPID_nem_ivshmem_memory_trim(void);
bool MPID_nem_ivshmem_memory_finalize(void);
bool MPID_nem_ivshmem_memory_is_of_file(void); /* still, after that */
bool MPID_nem_ivshmem_memory_find(const void *start, intptr_t bytes, ivshm_off *off);
void MPID_nem_ivshmem_memory_quarantine(const void *start);

/* ivshmem_window.c: windows in the region */
void MPID_nem_ivshmem_window_init(void);

/* ivshmem_stats.c */
void MPID_nem_ivshmem_stats_register(void);
void MPID_nem_ivshmem_stats_print(void);
void MPID_nem_ivshmem_stats_print_vc(MPIDI_VC_t *vc);

/* ivshmem_error.c: the one place where core's errors become MPI's */
void MPID_nem_ivshmem_report(const char *what, const char *text);
int MPID_nem_ivshmem_error(const char *text);
int MPID_nem_ivshmem_peer_error(const char *text);
int MPID_nem_ivshmem_port_error(const char *text);

/* ivshmem_affinity.c */
void MPID_nem_ivshmem_affinity_check(void);

#endif
