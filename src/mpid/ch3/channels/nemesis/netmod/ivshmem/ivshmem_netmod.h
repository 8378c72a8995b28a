/* SPDX-License-Identifier: mpich2 */
/*
 * What all of the netmod's files share: its state in this process, and what it keeps in a virtual
 * connection. The functions of ivshmem_x.c are declared in ivshmem_x.h.
 *
 * MPICH calls in through the function table in ivshmem_init.c and through the hooks that the netmod
 * sets, always with its global lock held. So none of the netmod's functions is entered by two
 * threads at once, unless its comment says otherwise.
 */
#ifndef IVSHMEM_NETMOD_H
#define IVSHMEM_NETMOD_H

#include "mpidimpl.h"
#include "mpid_nem_impl.h"
#include "mpid_nem_nets.h"

#include "ivshmem_compat.h"

#include "core/transport.h"
#include "core/pipeline.h"
#include "core/wait.h"

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
    unsigned long long collectives;              /* that went through the region without messages */
    unsigned long long collective_bytes;         /* of their results */
    unsigned long long waits;                    /* times that a send found no room */
    unsigned long long sleeps;                   /* times that this rank slept in a blocking call */
    unsigned long long tcp_sent, tcp_sent_bytes; /* packets by tcp; bytes with headers and data */
} MPID_nem_ivshmem_stats_t;

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

#define IVSHMEM_SENDER_PIPELINES_MAX 4
#define IVSHMEM_FREE_PIPELINES_MAX 8
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
    struct MPID_nem_ivshmem_operation *operations;
    struct MPIDI_VC *dynamic; /* calls: connections made by MPI_Comm_connect */
    struct MPIDI_VC *busy; /* VCs that need attention in each progress call; by ch.next, ch.prev */
    struct MPID_nem_ivshmem_transfer *transfers;
    /* Which kinds of connections are marked: teardown_failed_vcs has something to do. */
    enum { IVSHMEM_FAILED_RANK = 1, IVSHMEM_FAILED_CALL = 2 } failed_vcs;
    const struct MPID_nem_ivshmem_ops *first_ops; /* of a VC without a channel: they open one */
    int sender_pipelines;                         /* of our pipelines, those that we send through */
    bool prefers_single_copy; /* the program has memory in the region: prefer a single copy */
    bool is_slow;             /* the region is mapped as memory that is not cached */
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
        unsigned vain_looks; /* of a call that waits */
        unsigned vain_tests; /* of calls that do not, in a row */
        time_t watched_at;   /* seconds: when liveness was last checked */
        bool seen_gone;      /* some peer is gone, and its connection has not been failed yet */
        struct MPID_nem_ivshmem_held *held, **held_end; /* messages that came too early */
        uint32_t *held_by;                              /* by endpoint: how many of them */
        /*
         * CH3's packet handlers by type: a copy of the table that Nemesis keeps private. With it, a
         * packet's header can be a private copy while its data stays where it is.
         */
        MPIDI_CH3_PktHandler_Fcn *handlers[MPIDI_CH3_PKT_END_ALL + 1];
    } progress;
    struct {
        struct ivshm_wait wait;
        struct ivshm_crowd crowd;
        uint64_t counted_at; /* ns: when the crowd was */
        uint64_t told_at;    /* ns: when a wait told what was done so far */
        /* Tests in vain: ns, since when, and at the last look; and what was done until then. */
        uint64_t tests_since, tested_at, tested;
        uint64_t progress; /* at the last look */
        long processors;   /* of this machine */
        /* Since the last poll. What is done in one of so many polls only is due. */
        bool slept;
    } wait;
    /* The other ranks of this node: by local rank. */
    struct {
        struct ivshm_channel **channels; /* NULL: not found, or dead */
        const ivshm_a64 **sleepers;
        int missing; /* so many were not found yet */
    } local;
    struct {
        struct ivshm_pipeline free_pipelines[IVSHMEM_FREE_PIPELINES_MAX]; /* the oldest first */
        int free_count;
        bool has_grown; /* more than one was allocated, if the region had memory to spare */
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
        struct MPID_nem_ivshmem_comm *groups; /* communicators that count, or have memory */
    } collective;
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

#endif
