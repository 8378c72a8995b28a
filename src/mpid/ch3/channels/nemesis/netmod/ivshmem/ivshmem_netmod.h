/* SPDX-License-Identifier: mpich2 */
/*
 * The types and functions that the netmod's files share. MPICH calls in through the function table
 * in ivshmem_init.c and through the hooks that the netmod sets, always with its global lock held.
 * So none of these functions is entered by two threads at once, unless its comment says otherwise.
 */
#ifndef IVSHMEM_NETMOD_H
#define IVSHMEM_NETMOD_H

#include "mpidimpl.h"
#include "mpid_nem_impl.h"
#include "mpid_nem_nets.h"

#include "ivshmem_compat.h"

#include "core/channel.h"
#include "core/coop.h"
#include "core/pipeline.h"
#include "core/lock.h"

/* Messages and bytes by path, since MPI_Init. Exported as MPI_T performance variables. */
typedef struct {
    /* Packets of CH3's through the region. Bytes include their headers. */
    unsigned long long eager_sent, eager_sent_bytes;
    unsigned long long eager_received, eager_received_bytes;
    /* Large messages, whether through pipelines or by a single copy. */
    unsigned long long lmt_sent, lmt_sent_bytes;
    unsigned long long lmt_received, lmt_received_bytes;
    unsigned long long single_copy; /* large messages that this rank copied in a single copy */
    unsigned long long coop; /* large messages of which this rank, the sender, copied a part */
    unsigned long long messages_sent, messages_received; /* a packet takes one or several */
    unsigned long long windows; /* windows whose operations are loads and stores in the region */
    unsigned long long waits;   /* times that a send found no room */
    unsigned long long tcp_sent, tcp_sent_bytes; /* packets by tcp; bytes with headers and data */
} MPID_nem_ivshmem_stats_t;

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

/*
 * A virtual connection through the region. Lives in the VC's netmod area, and leaves no room there.
 * What each message needs comes first.
 */
typedef struct {
    struct ivshm_channel *channel; /* NULL until the first message in either direction */
    struct ivshm_owner peer;
    struct {
        struct MPIR_Request *head, *tail;
    } sendq;
    uint32_t stream; /* 0: the job's own connection; otherwise a call */
    /*
     * If not MPI_SUCCESS, the connection fails at the next safe point, and its requests end with
     * this error, which was made when the failure was found. Until then drop what the peer sends.
     */
    int failure;
    unsigned long long received_bytes;
    int known_rank; /* the peer's rank in the communicator of `known_context` */
    ivshmem_compat_context known_context; /* of the last message checked, or IVSHMEM_NO_CONTEXT */
    uint16_t messages_received;           /* in a call, which may take only so many */
    bool busy;              /* on the list of VCs that have something to send, or are terminating */
    bool terminating;       /* terminate once everything is sent */
    bool gone;              /* the peer's claim was seen to be no longer live */
    bool takes_single_copy; /* the peer's last large receive was into memory of the region */
    bool met, refused;      /* of a call: both sides have agreed to it; it was called off */
    uint32_t gone_at;       /* our inbox position when `gone` was set */
    uint32_t transfers;     /* in which one side accesses the other's memory now */
    /* As `failure`, of a call that the other root is closing: only its requests end. */
    int left;
    int known_member;       /* the peer's rank in `known_window` */
    MPIR_Win *known_window; /* the last window found of which the peer is a member, or NULL */
    struct {
        struct MPID_nem_ivshmem_outstanding *head, *tail;
    } outstanding;                 /* requests that the peer has not answered yet */
    struct MPIDI_VC *next_dynamic; /* list of the connections with stream != 0 */
} MPID_nem_ivshmem_vc_t;

#define IVSHMEM_NO_CONTEXT ((ivshmem_compat_context) -1)

#define VC_IVSHMEM(vc) ((MPID_nem_ivshmem_vc_t *) (vc)->ch.netmod_area.padding)

/* What a VC has on either path. At the end of its area, behind our part or tcp's: see path.c. */
typedef struct {
    enum { IVSHMEM_PATH_UNDECIDED, IVSHMEM_PATH_REGION, IVSHMEM_PATH_TCP } path;
    bool lost; /* the connection by tcp failed, and an MPI call has reported it */
    unsigned long long sent_bytes;
} MPID_nem_ivshmem_pair_t;

#define VC_PAIR(vc)                                                                                \
    ((MPID_nem_ivshmem_pair_t *) ((char *) (vc)->ch.netmod_area.padding +                          \
                                  MPIDI_NEM_VC_NETMOD_AREA_LEN - sizeof(MPID_nem_ivshmem_pair_t)))

/* Memory from `low` up to, but not including, `high`. Numbers, since a peer names the addresses. */
typedef struct {
    intptr_t low, high;
} MPID_nem_ivshmem_range_t;

/* The one-sided operation that is being received on a connection, if there is one. */
typedef struct {
    MPI_Win window;                   /* the target window, or MPI_WIN_NULL */
    MPI_Aint flattened_bytes;         /* bytes of its flattened datatype */
    MPID_nem_ivshmem_range_t touched; /* memory of the window; empty if not known yet */
} MPID_nem_ivshmem_operation_t;

/* The functions that CH3 calls to send on a connection. */
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

/* The netmod's state in this process. */
typedef struct {
    bool joined;   /* region and transport are open */
    bool tcp;      /* MPICH's tcp netmod is open */
    bool poll_tcp; /* a message may arrive by tcp */
    bool news;     /* a new job or communicator is known: messages may have waited for it */
    struct ivshm_region region;
    struct ivshm_transport transport;
    char *user;             /* the program's mapping of the region; NULL if it has none */
    struct ivshm_diag diag; /* if not joined: the reason */
    struct MPIDI_VC **vcs;  /* by endpoint: the job's own connection to it, or NULL */
    /* By endpoint: the operation being received on `vcs`. One more entry serves all calls. */
    MPID_nem_ivshmem_operation_t *operations;
    struct MPIDI_VC *dynamic; /* calls: connections made by MPI_Comm_connect */
    struct MPIDI_VC *busy; /* VCs that need attention in each progress call; by ch.next, ch.prev */
    MPID_nem_ivshmem_transfer_t *transfers;
    /* Which kinds of connections are marked: teardown_failed_vcs has something to do. */
    enum { IVSHMEM_FAILED_RANK = 1, IVSHMEM_FAILED_CALL = 2 } failed_vcs;
    const MPID_nem_ivshmem_ops_t *first_ops; /* of a VC without a channel: they open one */
    int sender_pipelines;                    /* of our pipelines, those that we send through */
    bool prefers_single_copy; /* the program has memory in the region: prefer a single copy */
    int failure;              /* an MPI error that the current call must return */
    MPID_nem_ivshmem_stats_t stats;

    /*
     * State of one file each, kept from call to call. Three files keep theirs apart, as it outlives
     * MPI_Finalize or is used without MPICH's lock: the program's memory (ivshmem_memory.c), the
     * SIGBUS handler (ivshmem_fault.c), and whether MPI_T has the counters (ivshmem_stats.c).
     */
    struct {
        bool some_apart; /* not every rank of the job has been seen in our region yet */
        bool undecided;  /* there are new connections to other jobs */
        bool port;       /* a port was opened, and anybody may connect to it */
        unsigned pairs;  /* connections by tcp */
        unsigned polls;  /* of tcp, while some rank is apart */
    } path;
    struct {
        bool inside;
        unsigned idle_calls, busy_calls;
        time_t watched_at; /* seconds: when liveness was last checked */
        bool seen_gone;    /* some peer is gone, and its connection has not been failed yet */
        struct MPID_nem_ivshmem_held *held, **held_end; /* messages that came too early */
        /*
         * CH3's packet handlers by type: a copy of the table that Nemesis keeps private. With it, a
         * packet's header can be a private copy while its data stays where it is.
         */
        MPIDI_CH3_PktHandler_Fcn *handlers[MPIDI_CH3_PKT_END_ALL + 1];
    } progress;
    struct {
        struct ivshm_pipeline free_pipelines[IVSHMEM_FREE_PIPELINES_MAX];
        int free_count;
        /* Progress calls until the region is asked for a pipeline again, which takes long. */
        unsigned calls_to_retry;
        struct MPID_nem_ivshmem_quarantined *quarantined;
        struct ivshm_coop_shm *words; /* for cooperative copies; NULL until the first one */
        uint64_t words_in_use;        /* a bit each; all set if the region had no memory for them */
    } lmt_pool;
    struct {
        uint32_t streams;     /* counter from which new streams are named */
        time_t patient_since; /* seconds: when the last wait for callers began */
    } port;
    struct {
        /* By context id for receiving, without its last bit, which marks collectives. */
        MPIR_Comm **comms;
        struct MPID_nem_ivshmem_membership *memberships;
        struct MPID_nem_ivshmem_opened *opened; /* dynamic windows */
        int failed_vcs;                         /* CH3's count of failed VCs when last looked at */
    } relation;
    struct {
        MPIDI_CH3U_Win_fns_t stock;
        int (*stock_free)(MPIR_Win **);
        time_t checked_at; /* seconds: when liveness was last checked */
    } windows;
    struct {
        struct MPID_nem_ivshmem_outstanding *buckets[IVSHMEM_OUTSTANDING_BUCKETS]; /* by handle */
    } outstanding;
} MPID_nem_ivshmem_t;

extern MPID_nem_ivshmem_t MPID_nem_ivshmem;

/* The operation being received on a connection that is bound to a channel. */
static inline MPID_nem_ivshmem_operation_t *MPID_nem_ivshmem_receiving(MPIDI_VC_t *vc)
{
    return &MPID_nem_ivshmem.operations[VC_IVSHMEM(vc)->stream
                                            ? ivshm_region_endpoints(&MPID_nem_ivshmem.region)
                                            : ivshm_channel_peer(VC_IVSHMEM(vc)->channel).endpoint];
}

/*
 * The connector names a stream: by the port's tag, which tells the other side which port is meant,
 * and a count. The other direction is the same stream with the reply bit set.
 */
#define IVSHMEM_STREAM_REPLY UINT32_C(0x80000000)

/* The offset of `start` in the region; the address may be in the program's mapping or in ours. */
static inline ivshm_off MPID_nem_ivshmem_offset_of(const void *start)
{
    uint64_t off = (uintptr_t) start - (uintptr_t) MPID_nem_ivshmem.user;
    if (MPID_nem_ivshmem.user && off < ivshm_region_size(&MPID_nem_ivshmem.region))
        return (ivshm_off){off};
    return ivshm_region_offset(&MPID_nem_ivshmem.region, start);
}

/*
 * ivshmem_packet.c: properties of a packet. Bytes that a header of this type takes in a message; 0
 * for an unknown type.
 */
size_t MPID_nem_ivshmem_packet_header_bytes(int type);

/* Bytes of an element of a predefined type, and its extent unless NULL; -1 for any other type. */
MPI_Aint MPID_nem_ivshmem_packet_type_size(MPI_Datatype type, MPI_Aint *extent);

/*
 * ivshmem_validate.c: decides whether CH3 may see a packet. `pkt` is a private copy, `len` the
 * bytes that follow its header. Returns NULL if CH3 may, MPID_nem_ivshmem_too_early if the packet
 * must wait, and otherwise what is wrong with it. Sets *hold if the data must be in private memory
 * before CH3 uses it. Call it once for each packet, and pass the packet on if it may: it notes
 * which answers have arrived, and may correct `pkt`.
 */
const char *MPID_nem_ivshmem_packet_check_all(MPIDI_VC_t *vc, MPIDI_CH3_Pkt_t *pkt, size_t len,
                                              bool *hold);

/* Returned for a packet that must be checked again after news of a job or a communicator. */
extern const char MPID_nem_ivshmem_too_early[];

/* The memory that an operation on a window of ours touches, if its datatype is predefined. */
MPID_nem_ivshmem_range_t MPID_nem_ivshmem_packet_touches(const MPIDI_CH3_Pkt_t *pkt);

/*
 * Checks what CH3 has received behind the header, before it uses it: flattened datatypes and
 * offsets of parts. Returns NULL, or what is wrong.
 */
const char *MPID_nem_ivshmem_packet_check_metadata(MPIDI_VC_t *vc, const MPIR_Request *rreq);

/*
 * ivshmem_flattened.c: checks a flattened datatype of `bytes` in private memory, for `count`
 * elements at `addr` in the window. Returns NULL, or what is wrong. Replaces the fields that can be
 * computed. *total is the size of all elements, *basic the predefined type that they are made of,
 * or MPI_DATATYPE_NULL; with `by_elements` they must be made of one. *touched holds all bytes
 * touched.
 */
const char *MPID_nem_ivshmem_flattened_check(const MPIR_Win *win, const void *addr, MPI_Aint count,
                                             void *flattened, MPI_Aint bytes, bool by_elements,
                                             MPI_Aint *total, MPI_Datatype *basic,
                                             MPID_nem_ivshmem_range_t *touched);

/*
 * ivshmem_relation.c: what a peer is to this process. Call relation_init after the region was
 * joined. The two checks return NULL, MPID_nem_ivshmem_too_early, or what is wrong.
 */
int MPID_nem_ivshmem_relation_init(void);
const char *MPID_nem_ivshmem_relation_check_sender(MPIDI_VC_t *vc,
                                                   const MPIDI_Message_match *match);
const char *MPID_nem_ivshmem_relation_check_canceller(MPIDI_VC_t *vc,
                                                      const MPIDI_Message_match *match);

/* Whether the peer is in any communicator of this process. Slow: it searches them all. */
bool MPID_nem_ivshmem_relation_shares_comm(MPIDI_VC_t *vc);

/* Forgets a connection that ends, or a window that is freed. */
void MPID_nem_ivshmem_relation_forget_vc(MPIDI_VC_t *vc);
void MPID_nem_ivshmem_relation_forget_window(MPIR_Win *win);

/*
 * Removes from the lock queues of our windows all peers whose connection has failed. Call it only
 * while no packet is being handled, or before CH3 handles one.
 */
int MPID_nem_ivshmem_relation_forget_locks(void);

/* The window of ours with this handle, if the peer is a member of it; else NULL. */
MPIR_Win *MPID_nem_ivshmem_relation_find_window(MPIDI_VC_t *vc, MPI_Win handle);

/* Whether the peer has this rank in the window. */
bool MPID_nem_ivshmem_relation_is_target(MPIDI_VC_t *vc, const MPIR_Win *win, int rank);

/*
 * Whether the peer may end an access now; may request a lock, for which it does not wait already;
 * may release a lock, which it holds; and whether the rank grants its lock for the first time in
 * this MPI_Win_lock_all. Each also notes that it happens, so ask once, about a window just found.
 */
bool MPID_nem_ivshmem_relation_ends_access(MPIDI_VC_t *vc, MPIR_Win *win);
bool MPID_nem_ivshmem_relation_requests_lock(MPIDI_VC_t *vc, MPIR_Win *win);
bool MPID_nem_ivshmem_relation_releases_lock(MPIDI_VC_t *vc, MPIR_Win *win);
bool MPID_nem_ivshmem_relation_grants_lock(MPIR_Win *win, int rank);

/* Whether all of [start, start+bytes) is memory that the window opens to its members. */
bool MPID_nem_ivshmem_relation_opens(const MPIR_Win *win, intptr_t start, MPI_Aint bytes);

/*
 * ivshmem_outstanding.c: requests that wait for an answer from a peer.
 *   add       before `pkt` is sent; harmless if repeated, and for packets that need no answer
 *   find      the request if it is outstanding at this peer; else NULL
 *   awaits    whether an answer of this packet type is still due
 *   answered  an answer of this type has arrived: it is due no more
 *   withdraw  no answer is due any more
 *   replace   an answer of this type is due instead
 *   fail      completes all requests that are outstanding at the peer with `req_errno`
 */
int MPID_nem_ivshmem_outstanding_add(MPIDI_VC_t *vc, const MPIDI_CH3_Pkt_t *pkt);
MPIR_Request *MPID_nem_ivshmem_outstanding_find(MPIDI_VC_t *vc, MPI_Request handle);
bool MPID_nem_ivshmem_outstanding_awaits(MPIDI_VC_t *vc, MPI_Request handle, int type);
void MPID_nem_ivshmem_outstanding_answered(MPIDI_VC_t *vc, MPI_Request handle, int type);
void MPID_nem_ivshmem_outstanding_withdraw(MPIDI_VC_t *vc, MPI_Request handle);
void MPID_nem_ivshmem_outstanding_replace(MPIDI_VC_t *vc, MPI_Request handle, int type);
int MPID_nem_ivshmem_outstanding_fail(MPIDI_VC_t *vc, int req_errno);

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

/*
 * ivshmem_fault.c: reports a SIGBUS in memory that the region's file has lost. Watch after the
 * region is opened, unwatch before it is closed. `program_has_it`: keep watching the program's
 * mapping.
 */
void MPID_nem_ivshmem_fault_watch(void);
void MPID_nem_ivshmem_fault_unwatch(bool program_has_it);

/*
 * ivshmem_card.c: business cards, from which two ranks learn whether they share a region.
 * card_add appends our part to the card that is being written at *bc_val_p.
 */
enum { IVSHMEM_TEXT_MAX = 600 };
int MPID_nem_ivshmem_card_add(char **bc_val_p, int *val_max_sz_p);

/*
 * Sets *shared if the process with this card is in our region, and then *peer, its endpoint. False
 * if the card is damaged, or if the pair needs tcp and cannot use it: the reason is in `text`,
 * which calls the process `who`. Only a process of another job (`elsewhere`) may have a card
 * without our part: it uses MPICH's own tcp.
 */
bool MPID_nem_ivshmem_card_read(const char *card, const char *who, bool elsewhere,
                                struct ivshm_owner *peer, bool *shared,
                                char text[IVSHMEM_TEXT_MAX]);

/* The same for a rank of a known job. `text` is empty, or says why no path leads to it. */
int MPID_nem_ivshmem_card_find_peer(MPIDI_VC_t *vc, struct ivshm_owner *peer, bool *shared,
                                    char text[IVSHMEM_TEXT_MAX]);

/*
 * ivshmem_port.c: MPI_Comm_connect and the other side of it.
 *   get_card          writes the card that goes into a port's name; the netmod's get_business_card
 *   connect           begins a call to the process with this card; the netmod's connect_to_root
 *   find_vc           the call to which a message belongs; NULL in *vc_p: drop the message
 *   close_unanswered  marks calls at our ports that were never answered; when idle
 */
int MPID_nem_ivshmem_port_get_card(int my_rank, char **bc_val_p, int *val_max_sz_p);
int MPID_nem_ivshmem_port_connect(const char *business_card, MPIDI_VC_t *new_vc);
int MPID_nem_ivshmem_port_find_vc(const struct ivshm_incoming *in, MPIDI_VC_t **vc_p);
void MPID_nem_ivshmem_port_close_unanswered(void);

/*
 * ivshmem_path.c: whether a pair uses the region or tcp, and the channels between ranks. init opens
 * tcp and writes its part of the business card, get_card writes that part for a port, and finalize
 * closes tcp. The three vc functions are the netmod's.
 */
int MPID_nem_ivshmem_path_init(MPIDI_PG_t *pg, int pg_rank, char **bc_val_p, int *val_max_sz_p);
int MPID_nem_ivshmem_path_finalize(void);
int MPID_nem_ivshmem_path_get_card(int my_rank, char **bc_val_p, int *val_max_sz_p);
int MPID_nem_ivshmem_path_vc_init(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_path_vc_destroy(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_path_vc_terminate(MPIDI_VC_t *vc);

/* Whether the pair uses the region. An undecided path is decided only if it is the region. */
bool MPID_nem_ivshmem_path_is_in_region(MPIDI_VC_t *vc);

/* Opens a channel, which the caller closes. False if the peer has gone; the reason is in `text`. */
bool MPID_nem_ivshmem_path_open_channel(struct ivshm_owner peer, const char *who,
                                        struct ivshm_channel **channel,
                                        char text[IVSHMEM_TEXT_MAX]);

/* Makes `vc` a call on the stream. Takes over the caller's hold on the channel. */
void MPID_nem_ivshmem_path_bind_call(MPIDI_VC_t *vc, struct ivshm_channel *channel,
                                     uint32_t stream);

/*
 * The connection to the rank at the other end of a channel, bound to it now that its first message
 * has arrived. NULL in *vc_p: no rank that we know and still talk to; drop the message.
 */
int MPID_nem_ivshmem_path_adopt(struct ivshm_channel *channel, MPIDI_VC_t **vc_p);

/* Whether the sender claims to be of a job of which this process has not heard yet. */
bool MPID_nem_ivshmem_path_is_of_unknown_job(const struct ivshm_incoming *in);

/* The same as port_connect and poll, by tcp. */
int MPID_nem_ivshmem_path_tcp_connect(const char *business_card, MPIDI_VC_t *vc);
int MPID_nem_ivshmem_path_tcp_poll(int in_blocking_poll);

/*
 * ivshmem_teardown.c: how connections through the region end. All but destroy may complete
 * requests, so call them only while no packet is being handled.
 *   destroy     closes the channel, if it is open
 *   terminate   CH3's close protocol has ended, or the process manager reports the peer's failure
 *   drained     terminates the connection, now or as soon as everything is sent
 *   failed_vcs  ends what is marked; returns the error for the current call
 */
int MPID_nem_ivshmem_teardown_destroy(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_teardown_terminate(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_teardown_drained(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_teardown_failed_vcs(void);

/*
 * ivshmem_vc.c: the connections through the region. set_ops sets the functions that CH3 calls to
 * send. A busy VC is looked after by each progress call; linking it twice is harmless.
 */
void MPID_nem_ivshmem_vc_set_ops(MPIDI_VC_t *vc, const MPID_nem_ivshmem_ops_t *ops);
void MPID_nem_ivshmem_vc_link_busy(MPIDI_VC_t *vc);
void MPID_nem_ivshmem_vc_unlink_busy(MPIDI_VC_t *vc);

/* Calls by MPI_Comm_connect, in either direction. They are found by channel and stream. */
void MPID_nem_ivshmem_vc_add_call(MPIDI_VC_t *vc, struct ivshm_channel *channel, uint32_t stream);
void MPID_nem_ivshmem_vc_remove_call(MPIDI_VC_t *vc);
MPIDI_VC_t *MPID_nem_ivshmem_vc_find_call(const struct ivshm_channel *channel, uint32_t stream);

/* Iterates over the ranks of all known jobs, except those on this node. Initialise with {0}. */
typedef struct {
    MPIDI_PG_iterator pgs;
    MPIDI_PG_t *pg;
    int rank;
} MPID_nem_ivshmem_ranks_t;

/* The connection to the next rank; NULL after the last. */
MPIDI_VC_t *MPID_nem_ivshmem_vc_next(MPID_nem_ivshmem_ranks_t *at);

/* Writes the peer's name, for messages, and returns it. `vc` may be NULL: no job known yet. */
enum { IVSHMEM_NAME_MAX = 200 };
const char *MPID_nem_ivshmem_vc_name(const MPIDI_VC_t *vc, char name[IVSHMEM_NAME_MAX]);

/* The MPI error (class MPIX_ERR_PROC_FAILED) that names the peer and says what is wrong with it. */
int MPID_nem_ivshmem_vc_error(const MPIDI_VC_t *vc, const char *why);

/*
 * Has the connection fail at the next safe point, with this reason; from now on, what the peer
 * sends is dropped. Does nothing if it is marked already, or has no channel.
 */
void MPID_nem_ivshmem_vc_mark_failed(MPIDI_VC_t *vc, const char *why);

/* Has only the requests of a call end at the next safe point: the other root closes it. */
void MPID_nem_ivshmem_vc_mark_left(MPIDI_VC_t *vc, const char *why);

/*
 * ivshmem_send.c: packets, on a connection that has a channel. The first four are the
 * functions that CH3 calls.
 */
int MPID_nem_ivshmem_iStartContigMsg(MPIDI_VC_t *vc, void *hdr, intptr_t hdr_sz, void *data,
                                     intptr_t data_sz, MPIR_Request **sreq_ptr);
int MPID_nem_ivshmem_iSendContig(MPIDI_VC_t *vc, MPIR_Request *sreq, void *hdr, intptr_t hdr_sz,
                                 void *data, intptr_t data_sz);
int MPID_nem_ivshmem_iSendIov(MPIDI_VC_t *vc, MPIR_Request *sreq, void *hdr, intptr_t hdr_sz,
                              struct iovec *iov, int n_iov);
int MPID_nem_ivshmem_SendNoncontig(MPIDI_VC_t *vc, MPIR_Request *sreq, void *hdr, intptr_t hdr_sz,
                                   struct iovec *hdr_iov, int n_hdr_iov);
size_t MPID_nem_ivshmem_iov_bytes(const struct iovec *iov, int n);

/* Sends what is queued on the connection, as far as there is room. */
int MPID_nem_ivshmem_send_drain(MPIDI_VC_t *vc);

/* Completes everything queued on the connection with `req_errno`, unsent. */
int MPID_nem_ivshmem_sendq_fail(MPIDI_VC_t *vc, int req_errno);

/* Whether an answer to an operation on this window is queued on the connection. */
bool MPID_nem_ivshmem_sendq_answers(MPIDI_VC_t *vc, const MPIR_Win *win);

/*
 * ivshmem_poll.c: the netmod's progress call. init after the region was joined; finalize before the
 * transport is closed.
 */
int MPID_nem_ivshmem_poll_init(void);
void MPID_nem_ivshmem_poll_finalize(void);
int MPID_nem_ivshmem_poll(int in_blocking_poll);

/*
 * ivshmem_limit.c: the largest message that is sent eagerly. limit_set sets it for a connection;
 * prefer_single_copy lowers it on all, once the program has memory in the region.
 */
void MPID_nem_ivshmem_limit_set(MPIDI_VC_t *vc);
void MPID_nem_ivshmem_limit_prefer_single_copy(void);

/*
 * ivshmem_lmt.c: large messages, from their beginning to their end. vc_init sets a connection's LMT
 * hooks, progress advances all transfers, and fail completes those of a connection with
 * `req_errno`.
 */
void MPID_nem_ivshmem_lmt_vc_init(MPIDI_VC_t *vc);
int MPID_nem_ivshmem_lmt_progress(void);
int MPID_nem_ivshmem_lmt_fail(MPIDI_VC_t *vc, int req_errno);

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

/* ivshmem_pipeline.c: both sides copy through a pipeline, that of the sender or the receiver. */
extern const MPID_nem_ivshmem_way_t MPID_nem_ivshmem_way_pipeline;

/*
 * ivshmem_copy.c: a single copy, from or to memory of the region: the receiver reads the sender's
 * buffer, the sender writes into the receiver's, or both copy pieces. copy_pack, for all ways,
 * copies the next bytes of the user's buffer, at most `max`, to `to`.
 */
extern const MPID_nem_ivshmem_way_t MPID_nem_ivshmem_way_read;
extern const MPID_nem_ivshmem_way_t MPID_nem_ivshmem_way_write;
extern const MPID_nem_ivshmem_way_t MPID_nem_ivshmem_way_coop;
void MPID_nem_ivshmem_copy_pack(MPID_nem_ivshmem_transfer_t *t, void *to, intptr_t max);

/*
 * ivshmem_lmt_pool.c: our pipelines, and our words for cooperative copies. The alloc functions
 * return false or NULL if there is none; `keep` free pipelines stay in the pool. Call
 * begin_progress in each progress call while there are transfers. quarantine takes a word or a
 * pipeline that a live peer may still write: it is not used again before that peer has gone.
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

/*
 * ivshmem_memory.c: the program's memory in the region.
 *   init            maps the region for the program, if it may have memory there
 *   in_use          whether the program has that mapping
 *   alloc           zeroed memory; NULL if the region has none to spare
 *   alloc_required  the same, and also from the memory that stays free for ranks that join
 *   free            false if `start` is not a block from here
 *   trim            returns to the region a free extent that was kept for reuse
 *   find            the offset of the program's memory; false if any of it is not in the region
 *   quarantine      never reuses the block: a peer may still write into it
 *   finalize        false if the region must stay open until the process ends
 *   is_of_file      after finalize: whether the program's memory is still backed by the file
 */
int MPID_nem_ivshmem_memory_init(void);
bool MPID_nem_ivshmem_memory_in_use(void);
void *MPID_nem_ivshmem_memory_alloc(MPI_Aint bytes);
void *MPID_nem_ivshmem_memory_alloc_required(MPI_Aint bytes);
bool MPID_nem_ivshmem_memory_free(void *start);
void MPID_nem_ivshmem_memory_trim(void);
bool MPID_nem_ivshmem_memory_finalize(void);
bool MPID_nem_ivshmem_memory_is_of_file(void);
bool MPID_nem_ivshmem_memory_find(const void *start, intptr_t bytes, ivshm_off *off);
void MPID_nem_ivshmem_memory_quarantine(const void *start);

/* ivshmem_window.c: windows in the region. Call it in every rank, even in one without a region. */
void MPID_nem_ivshmem_window_init(void);

/*
 * ivshmem_stats.c: registers the counters with MPI_T; prints them, or those of one connection, to
 * standard error.
 */
void MPID_nem_ivshmem_stats_register(void);
void MPID_nem_ivshmem_stats_print(void);
void MPID_nem_ivshmem_stats_print_vc(MPIDI_VC_t *vc);

/*
 * ivshmem_error.c: makes MPI errors of core's. report prints `what` and `text` to standard error.
 * The others return an MPI error: error for what is wrong here and ends the job, peer_error for a
 * peer that is dead or cannot be reached, port_error for the name of a port.
 */
void MPID_nem_ivshmem_report(const char *what, const char *text);
int MPID_nem_ivshmem_error(const char *text);
int MPID_nem_ivshmem_peer_error(const char *text);
int MPID_nem_ivshmem_port_error(const char *text);

/* ivshmem_affinity.c: warns if this rank is bound away from the NUMA node of its memory. */
void MPID_nem_ivshmem_affinity_check(void);

#endif
