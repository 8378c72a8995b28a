/* SPDX-License-Identifier: mpich2 */
/*
 * Collectives through the region, without messages: see core/rounds.h. What MPICH makes of messages
 * takes a rank several of them, one after the other, and with fewer processors than ranks the
 * processor changes hands for each. Here each rank stores what it provides, and has its result once
 * all others have, too.
 *
 * The ranks of a communicator agree on this at one of its first collectives, all at the same one.
 * From then on what decides is the same in all ranks: the kind of the collective, and its size.
 *
 * A rank that dies is found while the others wait for it. They revoke the communicator then, as
 * they do after a collective of messages: see ivshmem_coll.h.
 *
 * MPICH calls in through MPID_nem_ivshmem_collectives, under its global lock.
 */
#include "ivshmem_collective.h"

#include "ivshmem_memory.h"
#include "ivshmem_part.h"
#include "ivshmem_wait.h"

#include "core/rounds.h"

#include <sched.h>
#include <time.h>

#ifdef IVSHMEM_SHARED_H /* MPICH's headers include it: the graft has succeeded */

#define SLOT_MAX (64u << 10)
#define BYTES_OF_COMM (2560u << 10) /* at most, for a communicator */
#define SHARE_OF_COMM 32            /* of the region, at most, for a communicator */
#define SHARE_OF_ALL 16             /* for those in which this rank is rank 0 */
#define POLL_EVERY 4
#define LOOKS_PER_POLL 8 /* by a rank that need not give its processor away */
/* Up to so many bytes of all ranks, each reduces all; of more, each reduces a part. */
#define REDUCED_ALONE (16 << 10)
#define BYTES_MAX ((MPI_Aint) 1 << 31)
#define LEAVING_LIMIT_S 2 /* s: how long MPI_Finalize waits for others to leave a communicator */

/* What a rank says about the collective that it has called; all must say the same. */
enum kind { BARRIER, BCAST, ALLREDUCE, ALLGATHER, ALLTOALL, KINDS };
#define WHAT_FAILED (UINT64_C(1) << 63)
#define WHAT_BYTES UINT64_C(0xffffffff)
static uint64_t what_of(enum kind kind, MPI_Aint bytes, int root)
{
    return (uint64_t) (kind + 1) << 48 | (uint64_t) root << 32 | (uint64_t) bytes;
}

/* What the ranks vote for when they agree: what all have voted for counts. */
#define VOTE_TOGETHER 1
#define VOTE_ROOM 2   /* there are as many processors as ranks here */
#define VOTE_MEMORY 4 /* the program has memory in the region */

/*
 * Up to so many bytes that a rank provides or gets, a collective goes through the region. Longer
 * ones take less time by messages, which are copied by both sides at once, or only once if the
 * memory is in the region. But with fewer processors than ranks, each message waits for a turn:
 * these limits are for 4 ranks, and as many times higher for more. doc/performance.md has
 * measurements. By what was not voted for: room, memory.
 */
#define ANY BYTES_MAX
static const MPI_Aint limits[KINDS][2][2] = {
    [BARRIER] = {{ANY, ANY}, {ANY, ANY}},
    [BCAST] = {{16 << 10, 32 << 10}, {ANY, ANY}},
    [ALLREDUCE] = {{128 << 10, 128 << 10}, {ANY, ANY}},
    [ALLGATHER] = {{32 << 10, 128 << 10}, {ANY, ANY}},
    [ALLTOALL] = {{16 << 10, 64 << 10}, {256 << 10, 1 << 20}},
};

/* Of a communicator. */
typedef struct MPID_nem_ivshmem_comm {
    enum { COUNTS, AGREES, TOGETHER, APART } state;
    int calls;
    int votes;
    bool failed; /* this rank has met an error in the present collective, and tells the others */
    int error;   /* that the present collective returns in the end */
    MPIR_Comm *comm;
    void *memory; /* ours: of rank 0 */
    struct ivshm_rounds rounds;
    unsigned polls;
    time_t watched_at; /* seconds: when liveness was last checked */
    struct MPID_nem_ivshmem_comm *next;
    int count;
    struct ivshm_channel *channels[]; /* to each other rank */
} group_t;

static __typeof__(MPID_nem_ivshmem.collective) *const collective = &MPID_nem_ivshmem.collective;

/* Coming and going */

static void close_channels(group_t *g)
{
    for (int i = 0; i < g->count; i++) {
        if (g->channels[i])
            ivshm_channel_close(&MPID_nem_ivshmem.transport, g->channels[i]);
        g->channels[i] = NULL;
    }
}

/* Whether no other rank will access the memory, which is ours, any more. */
static bool is_left(const group_t *g)
{
    for (int i = 0; i < g->count; i++)
        if (g->channels[i] && !ivshm_rounds_has_left(&g->rounds, (uint32_t) i) &&
            ivshm_channel_is_live(&MPID_nem_ivshmem.transport, g->channels[i]))
            return false;
    return true;
}

/* Ends what communicators had that are freed; memory of ours when all ranks have freed them. */
static void free_left(void)
{
    for (group_t *g, **link = &collective->groups; (g = *link);) {
        if (g->comm || (g->memory && !is_left(g))) {
            link = &g->next;
            continue;
        }
        *link = g->next;
        MPID_nem_ivshmem_memory_free(g->memory);
        close_channels(g);
        MPL_free(g);
    }
}

static void leave_rounds(group_t *g)
{
    if (g->rounds.shm)
        ivshm_rounds_leave(&g->rounds);
    g->comm->dev.ivshmem = NULL;
    g->comm = NULL;
}

static int comm_destroyed(MPIR_Comm *comm, void *unused)
{
    (void) unused;
    if (comm->dev.ivshmem) {
        leave_rounds(comm->dev.ivshmem);
        free_left();
    }
    return MPI_SUCCESS;
}

/* The memory stays if a rank does not get here in time: it may be stopped in a collective. */
void MPID_nem_ivshmem_collective_finalize(void)
{
    struct timespec now;
    time_t begun = 0;

    MPID_nem_ivshmem_collectives = NULL;
    for (group_t *g = collective->groups; g; g = g->next)
        if (g->comm)
            leave_rounds(g);
    for (free_left(); collective->groups; free_left()) {
        clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
        if (begun == 0)
            begun = now.tv_sec;
        if (now.tv_sec - begun > LEAVING_LIMIT_S)
            break;
        ivshm_transport_mark_dead(&MPID_nem_ivshmem.transport);
        sched_yield();
    }
    for (group_t *g; (g = collective->groups);) {
        collective->groups = g->next;
        MPID_nem_ivshmem_memory_quarantine(g->memory);
        close_channels(g);
        MPL_free(g);
    }
}

/* The same for all ranks of one region. 0: there is no room for slots. */
static uint32_t slot_bytes(int count)
{
    size_t region = ivshm_region_size(&MPID_nem_ivshmem.region);
    size_t most = MPL_MIN(region / SHARE_OF_COMM, BYTES_OF_COMM);
    size_t least = ivshm_rounds_bytes((uint32_t) count, 0), slot;

    if (most <= least)
        return 0;
    slot = MPL_MIN((most - least) / (2 * (size_t) count), SLOT_MAX);
    return (uint32_t) (slot & ~(size_t) (IVSHM_LINE - 1));
}

/*
 * Memory for the rounds, or NULL. A little of it may be what stays free for processes that join:
 * the program may have taken all else.
 */
static void *alloc_rounds(size_t bytes)
{
    size_t total = bytes, region = ivshm_region_size(&MPID_nem_ivshmem.region);
    void *memory;

    for (const group_t *g = collective->groups; g; g = g->next)
        if (g->memory)
            total += ivshm_rounds_bytes(g->rounds.count, g->rounds.slot_bytes);
    if (total > region / SHARE_OF_ALL)
        return NULL;
    memory = MPID_nem_ivshmem_memory_alloc((MPI_Aint) bytes);
    return memory || total > region / SHARE_OF_COMM
               ? memory
               : MPID_nem_ivshmem_memory_alloc_required((MPI_Aint) bytes);
}

static bool is_crowded(void)
{
    return MPID_nem_ivshmem_wait_sharers(ivshm_transport_crowd(&MPID_nem_ivshmem.transport)) > 1;
}

/* Collective: whether all ranks can be together. */
static int agree(group_t *g)
{
    int mpi_errno = MPI_SUCCESS, count = g->count, rank = g->comm->rank;
    int votes = 0;
    uint32_t slot = MPID_nem_ivshmem.joined ? slot_bytes(count) : 0;
    size_t bytes = ivshm_rounds_bytes((uint32_t) count, slot);
    MPID_nem_ivshmem_part_t mine = {0}, *parts;

    g->state = AGREES;
    parts = MPL_malloc(count * sizeof(*parts), MPL_MEM_COMM);
    MPIR_ERR_CHKANDJUMP(!parts, mpi_errno, MPI_ERR_OTHER, "**nomem");
    free_left();
    /* Within a node there is faster memory than that. */
    if (MPID_nem_ivshmem.joined &&
        !(MPID_nem_ivshmem.is_slow && MPID_nem_ivshmem_part_is_on_one_node(g->comm)))
        mine = MPID_nem_ivshmem_part_own(NULL, 0);
    if (rank == 0 && MPID_nem_ivshmem_part_is_there(&mine)) {
        g->memory = slot > 0 ? alloc_rounds(bytes) : NULL;
        mine = g->memory ? MPID_nem_ivshmem_part_of(g->memory, (MPI_Aint) bytes)
                         : (MPID_nem_ivshmem_part_t){0};
    }
    parts[rank] = mine;
    mpi_errno = ivshmem_compat_collective(IVSHMEM_COMPAT_ERR_NONE, Allgather, MPI_IN_PLACE, 0,
                                          MPI_DATATYPE_NULL, parts, sizeof(*parts),
                                          IVSHMEM_COMPAT_BYTE, g->comm);
    MPIR_ERR_CHECK(mpi_errno);
    IVSHM_TRACEPOINT(collective_agree);
    if (MPID_nem_ivshmem_part_missing(parts, count) == count && parts[0].bytes == bytes) {
        votes = VOTE_TOGETHER | (is_crowded() ? 0 : VOTE_ROOM) |
                (MPID_nem_ivshmem.prefers_single_copy ? VOTE_MEMORY : 0);
        for (int i = 0; i < count; i++)
            if (!MPID_nem_ivshmem_part_open(&parts[i], i == rank, &g->channels[i]))
                votes = 0;
        mpi_errno = ivshmem_compat_collective(IVSHMEM_COMPAT_ERR_NONE, Allreduce, MPI_IN_PLACE,
                                              &votes, 1, IVSHMEM_COMPAT_INT, MPI_BAND, g->comm);
        MPIR_ERR_CHECK(mpi_errno);
    }
    g->votes = votes;
    if (votes) {
        ivshm_rounds_init(&g->rounds, MPID_nem_ivshmem_part_address(parts[0].off), (uint32_t) count,
                          (uint32_t) rank, slot);
    } else {
        close_channels(g);
        MPID_nem_ivshmem_memory_free(g->memory);
        g->memory = NULL;
    }
    g->state = votes ? TOGETHER : APART;

fn_exit:
    MPL_free(parts);
    return mpi_errno;
fn_fail: /* a rank that has seen no error may store there later */
    g->state = APART;
    MPID_nem_ivshmem_memory_quarantine(g->memory);
    g->memory = NULL;
    goto fn_exit;
}

/* Whether the user leaves it open how it is done; all ranks must have the same settings. */
static bool is_left_to_us(enum kind kind)
{
    switch (kind) {
    case BARRIER:
        return MPIR_CVAR_BARRIER_INTRA_ALGORITHM == MPIR_CVAR_BARRIER_INTRA_ALGORITHM_auto;
    case BCAST:
        return MPIR_CVAR_BCAST_INTRA_ALGORITHM == MPIR_CVAR_BCAST_INTRA_ALGORITHM_auto;
    case ALLREDUCE:
        return MPIR_CVAR_ALLREDUCE_INTRA_ALGORITHM == MPIR_CVAR_ALLREDUCE_INTRA_ALGORITHM_auto;
    case ALLGATHER:
        return MPIR_CVAR_ALLGATHER_INTRA_ALGORITHM == MPIR_CVAR_ALLGATHER_INTRA_ALGORITHM_auto;
    default:
        return MPIR_CVAR_ALLTOALL_INTRA_ALGORITHM == MPIR_CVAR_ALLTOALL_INTRA_ALGORITHM_auto;
    }
}

static bool is_worth_it(const group_t *g, enum kind kind, MPI_Aint bytes)
{
    bool crowded = !(g->votes & VOTE_ROOM);
    MPI_Aint limit = limits[kind][crowded][!(g->votes & VOTE_MEMORY)];

    return bytes <= (crowded ? limit * g->count / 4 : limit);
}

/*
 * The group, if the collective goes through the region; otherwise NULL, and *mpi_errno if it has
 * failed. All ranks count the same calls, so they agree in the same one.
 */
static group_t *enter(MPIR_Comm *comm, enum kind kind, MPI_Aint bytes, bool failed, int *mpi_errno)
{
    group_t *g = comm->dev.ivshmem;

    *mpi_errno = MPI_SUCCESS;
    if (unlikely(!g)) {
        if (comm->comm_kind != MPIR_COMM_KIND__INTRACOMM || comm->local_size < 2 ||
            comm->local_size > IVSHM_ROUNDS_MEMBERS)
            return NULL;
        g = MPL_calloc(1, sizeof(*g) + comm->local_size * sizeof(g->channels[0]), MPL_MEM_COMM);
        if (!g) {
            MPIR_ERR_SET(*mpi_errno, MPI_ERR_OTHER, "**nomem");
            return NULL;
        }
        g->comm = comm;
        g->count = comm->local_size;
        g->next = collective->groups;
        collective->groups = g;
        comm->dev.ivshmem = g;
    }
    if (unlikely(g->state == COUNTS && ++g->calls >= MPIR_CVAR_NEMESIS_IVSHMEM_COLLECTIVES))
        *mpi_errno = agree(g);
    if (unlikely(g->state != TOGETHER || comm->revoked) || !is_left_to_us(kind) ||
        !is_worth_it(g, kind, bytes))
        return NULL;
    g->failed = failed || ivshmem_coll_state.mpi_errno != MPI_SUCCESS;
    g->error = MPI_SUCCESS;
    MPID_nem_ivshmem.stats.collectives++;
    MPID_nem_ivshmem.stats.collective_bytes += (unsigned long long) bytes;
    return g;
}

/* Waiting */

static void note(group_t *g, int mpi_errno)
{
    if (g->error == MPI_SUCCESS)
        g->error = mpi_errno;
}

/* An error for the first rank that we wait for, and that is dead. */
static int find_dead(group_t *g)
{
    int mpi_errno = MPI_SUCCESS;

    ivshm_transport_mark_dead(&MPID_nem_ivshmem.transport);
    for (uint32_t i = ivshm_rounds_missing(&g->rounds); i < g->rounds.end; i++) {
        if (!g->channels[i] || ivshm_channel_is_live(&MPID_nem_ivshmem.transport, g->channels[i]))
            continue;
        /* What it has done before it left, or died, counts. */
        if (!ivshm_rounds_is_over(&g->rounds) && ivshm_rounds_missing(&g->rounds) <= i) {
            MPIR_ERR_SET1(mpi_errno, MPIX_ERR_PROC_FAILED, "**comm_fail", "**comm_fail %d",
                          (int) i);
            break;
        }
    }
    return mpi_errno;
}

/*
 * Whether to look for messages, which takes longer than to look at a word: not each time, if a rank
 * does nothing else before it gives its processor away.
 */
static bool is_to_poll(unsigned looks)
{
    return MPID_nem_ivshmem.wait.wait.looks > 1 || looks % POLL_EVERY == 0;
}

/* Between two looks. An error if the others will not come. */
static int look_after(group_t *g, unsigned *vain)
{
    int mpi_errno = MPI_SUCCESS;
    struct timespec now;

    /* What fails may have nothing to do with these ranks. */
    if (is_to_poll(++g->polls))
        note(g, MPID_Progress_poke());
    if (MPIR_IS_THREADED)
        MPID_THREAD_CS_YIELD(GLOBAL, MPIR_THREAD_GLOBAL_ALLFUNC_MUTEX);
    if (g->comm->revoked) {
        MPIR_ERR_SET(mpi_errno, MPIX_ERR_REVOKED, "**revoked");
        return mpi_errno;
    }
    if (++*vain < MPID_nem_ivshmem.wait.wait.looks)
        return MPI_SUCCESS;
    *vain = 0;
    MPID_nem_ivshmem_wait();
    if (MPID_nem_ivshmem.wait.wait.announced)
        ivshm_rounds_note_sleeper(&g->rounds);
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    if (now.tv_sec != g->watched_at) {
        g->watched_at = now.tv_sec;
        mpi_errno = find_dead(g);
    }
    return mpi_errno;
}

/* Until the step of the rounds that was begun is over. After an error they are at an end. */
static int wait_until_over(group_t *g)
{
    int mpi_errno = MPI_SUCCESS;
    unsigned vain = 0;
    bool has_waited = false;

    for (unsigned looks = 1; !ivshm_rounds_is_over(&g->rounds); looks++) {
        if (MPID_nem_ivshmem.wait.wait.looks > 1 && looks % LOOKS_PER_POLL != 0) {
            ivshm_cpu_pause();
            continue;
        }
        has_waited = true;
        mpi_errno = look_after(g, &vain);
        if (unlikely(mpi_errno != MPI_SUCCESS)) {
            g->state = APART;
            (void) MPID_Comm_revoke(g->comm, 0);
            break;
        }
    }
    if (has_waited)
        MPID_nem_ivshmem_wait_end();
    return mpi_errno;
}

static void wake_sleepers(group_t *g)
{
    if (likely(!ivshm_rounds_take_sleepers(&g->rounds)))
        return;
    for (int i = 0; i < g->count; i++)
        if (g->channels[i])
            ivshm_channel_wake(&MPID_nem_ivshmem.transport, g->channels[i]);
}

/* Whether a rank has called the same collective, of the same size. It may tell an error. */
static int check(group_t *g, int rank, uint64_t theirs, uint64_t ours)
{
    int mpi_errno = MPI_SUCCESS;
    char text[200];

    if (likely(theirs == ours))
        return MPI_SUCCESS;
    if ((theirs & ~WHAT_FAILED) == (ours & ~WHAT_FAILED)) {
        if (theirs & WHAT_FAILED)
            MPIR_ERR_SET(mpi_errno, MPIX_ERR_PROC_FAILED, "**coll_fail");
        note(g, mpi_errno);
        return MPI_SUCCESS;
    }
    g->state = APART;
    if (((theirs ^ ours) & ~(WHAT_FAILED | WHAT_BYTES)) == 0) {
        MPIR_ERR_SET2(mpi_errno, MPI_ERR_OTHER, "**collective_size_mismatch",
                      "**collective_size_mismatch %d %d", (int) (theirs & WHAT_BYTES),
                      (int) (ours & WHAT_BYTES));
        return mpi_errno;
    }
    snprintf(text, sizeof(text),
             "rank %d of a communicator has called another collective than rank %d, or with "
             "another root",
             rank, g->comm->rank);
    MPIR_ERR_SET1(mpi_errno, MPI_ERR_OTHER, "**ivshmem", "**ivshmem %s", text);
    return mpi_errno;
}

/* Provides what is in our slot, and waits until the others have provided theirs. */
static int exchange(group_t *g, uint64_t what)
{
    int mpi_errno = MPI_SUCCESS;

    what |= g->failed ? WHAT_FAILED : 0;
    ivshm_rounds_arrive(&g->rounds, what);
    mpi_errno = wait_until_over(g);
    MPIR_ERR_CHECK(mpi_errno);
    wake_sleepers(g);
    for (int i = 0; i < g->count; i++) {
        int error = check(g, i, ivshm_rounds_what(&g->rounds, (uint32_t) i), what);
        if (mpi_errno == MPI_SUCCESS)
            mpi_errno = error;
    }
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* What a collective returns, through all levels of MPICH's own. */
static int result(const group_t *g, int mpi_errno)
{
    return ivshmem_coll_noted(mpi_errno != MPI_SUCCESS ? mpi_errno : g->error);
}

/* The program's memory */

/* `count` elements, at their first. */
typedef struct {
    char *start;
    MPI_Aint count, bytes;
    MPI_Datatype type;
    bool contiguous;
} data_t;

static data_t data_of(const void *buf, MPI_Aint count, MPI_Datatype type)
{
    MPIR_Datatype *t;
    MPI_Aint true_lb;
    int contiguous;
    data_t d = {.start = (char *) buf, .count = count, .type = type};

    MPIDI_Datatype_get_info(count, type, contiguous, d.bytes, t, true_lb);
    (void) t;
    d.contiguous = contiguous;
    if (contiguous)
        d.start += true_lb;
    return d;
}

/* Bytes [offset, offset + bytes) of elements that begin `distance` bytes behind the data's. */
static int copy_out(const data_t *d, MPI_Aint distance, MPI_Aint offset, MPI_Aint bytes, void *to)
{
    MPI_Aint actual;

    if (likely(d->contiguous)) {
        memcpy(to, d->start + distance + offset, (size_t) bytes);
        return MPI_SUCCESS;
    }
    return ivshmem_compat_pack(d->start + distance, d->count, d->type, offset, to, bytes, &actual);
}

static int copy_in(const data_t *d, MPI_Aint distance, MPI_Aint offset, MPI_Aint bytes,
                   const void *from)
{
    MPI_Aint actual;

    if (likely(d->contiguous)) {
        memcpy(d->start + distance + offset, from, (size_t) bytes);
        return MPI_SUCCESS;
    }
    return ivshmem_compat_unpack(from, bytes, d->start + distance, d->count, d->type, offset,
                                 &actual);
}

static MPI_Aint distance_of(MPI_Aint count, MPI_Datatype type)
{
    MPI_Aint extent;

    MPIR_Datatype_get_extent_macro(type, extent);
    return count * extent;
}

/* The collectives */

static int barrier(MPIR_Comm *comm, int failed, int *mpi_errno)
{
    group_t *g = enter(comm, BARRIER, 0, failed, mpi_errno);

    if (!g)
        return *mpi_errno != MPI_SUCCESS;
    *mpi_errno = exchange(g, what_of(BARRIER, 0, 0));
    ivshm_rounds_pass(&g->rounds);
    *mpi_errno = result(g, *mpi_errno);
    return 1;
}

static int send_chunks(group_t *g, const data_t *d, uint64_t what)
{
    int mpi_errno = MPI_SUCCESS;

    for (MPI_Aint done = 0; done < d->bytes; done += IVSHM_ROUNDS_CHUNK) {
        uint32_t bytes = (uint32_t) MPL_MIN(d->bytes - done, IVSHM_ROUNDS_CHUNK);
        ivshm_rounds_reserve(&g->rounds, bytes);
        mpi_errno = wait_until_over(g);
        MPIR_ERR_CHECK(mpi_errno);
        note(g, copy_out(d, 0, done, bytes, ivshm_rounds_chunk(&g->rounds, bytes)));
        ivshm_rounds_publish(&g->rounds, bytes, what | (g->failed || g->error ? WHAT_FAILED : 0));
        wake_sleepers(g);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

static int receive_chunks(group_t *g, const data_t *d, uint64_t what, int root)
{
    int mpi_errno = MPI_SUCCESS;

    for (MPI_Aint done = 0; done < d->bytes; done += IVSHM_ROUNDS_CHUNK) {
        uint32_t bytes = (uint32_t) MPL_MIN(d->bytes - done, IVSHM_ROUNDS_CHUNK);
        ivshm_rounds_expect(&g->rounds, (uint32_t) root);
        mpi_errno = wait_until_over(g);
        MPIR_ERR_CHECK(mpi_errno);
        mpi_errno = check(g, root,
                          ivshm_a64_load_relaxed(ivshm_rounds_chunk_what(&g->rounds, bytes)), what);
        MPIR_ERR_CHECK(mpi_errno);
        note(g, copy_in(d, 0, done, bytes, ivshm_rounds_chunk(&g->rounds, bytes)));
        ivshm_rounds_take(&g->rounds, bytes);
        wake_sleepers(g);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

static int bcast(void *buf, MPI_Aint count, MPI_Datatype type, int root, MPIR_Comm *comm,
                 int failed, int *mpi_errno)
{
    data_t d = data_of(buf, count, type);
    group_t *g;

    if (d.bytes == 0 || d.bytes >= BYTES_MAX)
        return 0;
    if (!(g = enter(comm, BCAST, d.bytes, failed, mpi_errno)))
        return *mpi_errno != MPI_SUCCESS;
    uint64_t what = what_of(BCAST, d.bytes, root);
    *mpi_errno = comm->rank == root ? send_chunks(g, &d, what) : receive_chunks(g, &d, what, root);
    *mpi_errno = result(g, *mpi_errno);
    return 1;
}

/* Reduces `n` elements, from number `first` on, of all slots, in the order of ranks. */
static void reduce_slots(group_t *g, uint32_t slot, size_t first, MPI_Aint n, size_t size,
                         MPI_Datatype type, MPI_Op op, char *to)
{
    for (int i = g->count - 1; i >= 0 && n > 0; i--) {
        const unsigned char *from =
            ivshm_rounds_slot(&g->rounds, (uint32_t) i, slot) + first * size;
        if (i == g->count - 1)
            memcpy(to, from, (size_t) n * size);
        else
            note(g, MPIR_Reduce_local(from, to, n, type, op));
    }
}

/* The first of `n` elements that are that rank's to reduce. */
static MPI_Aint part_begin(const group_t *g, MPI_Aint n, int rank)
{
    MPI_Aint part = (n + g->count - 1) / g->count;
    return MPL_MIN(rank * part, n);
}

/* Each rank reduces its part of what all have provided, and provides that in turn. */
static int reduce_parts(group_t *g, uint64_t what, uint32_t slot, MPI_Aint n, size_t size,
                        MPI_Datatype type, MPI_Op op, char *to)
{
    int mpi_errno = MPI_SUCCESS, rank = g->comm->rank;
    MPI_Aint begin = part_begin(g, n, rank), end = part_begin(g, n, rank + 1);
    size_t bytes = (size_t) (end - begin) * size;
    reduce_slots(g, slot, (size_t) begin, end - begin, size, type, op, to + begin * size);
    memcpy(ivshm_rounds_slot(&g->rounds, (uint32_t) rank, slot) + begin * size, to + begin * size,
           bytes);
    ivshm_rounds_again(&g->rounds);
    mpi_errno = exchange(g, what);
    MPIR_ERR_CHECK(mpi_errno);
    for (int i = 0; i < g->count; i++) {
        begin = part_begin(g, n, i);
        if (i != rank)
            memcpy(to + begin * size,
                   ivshm_rounds_slot(&g->rounds, (uint32_t) i, slot) + begin * size,
                   (size_t) (part_begin(g, n, i + 1) - begin) * size);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

static int allreduce(const void *sendbuf, void *recvbuf, MPI_Aint count, MPI_Datatype type,
                     MPI_Op op, MPIR_Comm *comm, int failed, int *mpi_errno)
{
    MPI_Aint size, extent;
    group_t *g;

    if (!HANDLE_IS_BUILTIN(op) || !HANDLE_IS_BUILTIN(type) || !ivshmem_compat_op_takes(op, type))
        return 0;
    MPIR_Datatype_get_size_macro(type, size);
    MPIR_Datatype_get_extent_macro(type, extent);
    if (count <= 0 || size != extent || count >= BYTES_MAX / size)
        return 0;
    if (!(g = enter(comm, ALLREDUCE, count * size, failed, mpi_errno)))
        return *mpi_errno != MPI_SUCCESS;
    const char *from = sendbuf == MPI_IN_PLACE ? recvbuf : sendbuf;
    MPI_Aint chunk = g->rounds.slot_bytes / size;
    uint64_t what = what_of(ALLREDUCE, count * size, 0);
    for (MPI_Aint done = 0; done < count && *mpi_errno == MPI_SUCCESS; done += chunk) {
        MPI_Aint n = MPL_MIN(chunk, count - done);
        uint32_t slot = (uint32_t) (n * size);
        char *to = (char *) recvbuf + done * size;
        memcpy(ivshm_rounds_slot(&g->rounds, (uint32_t) comm->rank, slot), from + done * size,
               slot);
        *mpi_errno = exchange(g, what);
        if (*mpi_errno == MPI_SUCCESS && n * size * g->count > REDUCED_ALONE)
            *mpi_errno = reduce_parts(g, what, slot, n, (size_t) size, type, op, to);
        else if (*mpi_errno == MPI_SUCCESS)
            reduce_slots(g, slot, 0, n, (size_t) size, type, op, to);
        ivshm_rounds_pass(&g->rounds);
    }
    *mpi_errno = result(g, *mpi_errno);
    return 1;
}

static int allgather(const void *sendbuf, MPI_Aint sendcount, MPI_Datatype sendtype, void *recvbuf,
                     MPI_Aint recvcount, MPI_Datatype recvtype, MPIR_Comm *comm, int failed,
                     int *mpi_errno)
{
    data_t out, in = data_of(recvbuf, recvcount, recvtype);
    MPI_Aint apart = distance_of(recvcount, recvtype);
    group_t *g;

    if (in.bytes == 0 || in.bytes >= BYTES_MAX / IVSHM_ROUNDS_MEMBERS)
        return 0;
    if (!(g = enter(comm, ALLGATHER, in.bytes * comm->local_size, failed, mpi_errno)))
        return *mpi_errno != MPI_SUCCESS;
    out = sendbuf == MPI_IN_PLACE
              ? data_of((char *) recvbuf + comm->rank * apart, recvcount, recvtype)
              : data_of(sendbuf, sendcount, sendtype);
    uint64_t what = what_of(ALLGATHER, out.bytes, 0);
    MPI_Aint chunk = g->rounds.slot_bytes;
    for (MPI_Aint done = 0; done < out.bytes && *mpi_errno == MPI_SUCCESS; done += chunk) {
        uint32_t slot = (uint32_t) MPL_MIN(chunk, out.bytes - done);
        note(g, copy_out(&out, 0, done, slot,
                         ivshm_rounds_slot(&g->rounds, (uint32_t) comm->rank, slot)));
        *mpi_errno = exchange(g, what);
        for (int i = 0; i < g->count && *mpi_errno == MPI_SUCCESS; i++)
            if (i != comm->rank || sendbuf != MPI_IN_PLACE)
                note(g, copy_in(&in, i * apart, done, MPL_MIN(slot, in.bytes - done),
                                ivshm_rounds_slot(&g->rounds, (uint32_t) i, slot)));
        ivshm_rounds_pass(&g->rounds);
    }
    *mpi_errno = result(g, *mpi_errno);
    return 1;
}

static int alltoall(const void *sendbuf, MPI_Aint sendcount, MPI_Datatype sendtype, void *recvbuf,
                    MPI_Aint recvcount, MPI_Datatype recvtype, MPIR_Comm *comm, int failed,
                    int *mpi_errno)
{
    bool in_place = sendbuf == MPI_IN_PLACE;
    data_t in = data_of(recvbuf, recvcount, recvtype);
    data_t out = in_place ? in : data_of(sendbuf, sendcount, sendtype);
    MPI_Aint in_apart = distance_of(recvcount, recvtype);
    MPI_Aint out_apart = in_place ? in_apart : distance_of(sendcount, sendtype);
    group_t *g;

    if (in.bytes == 0 || in.bytes >= BYTES_MAX / IVSHM_ROUNDS_MEMBERS)
        return 0;
    if (!(g = enter(comm, ALLTOALL, in.bytes * comm->local_size, failed, mpi_errno)))
        return *mpi_errno != MPI_SUCCESS;
    uint64_t what = what_of(ALLTOALL, out.bytes, 0);
    MPI_Aint chunk = MPL_MIN(out.bytes, g->rounds.slot_bytes / g->count);
    for (MPI_Aint done = 0; done < out.bytes && *mpi_errno == MPI_SUCCESS; done += chunk) {
        MPI_Aint n = MPL_MIN(chunk, out.bytes - done);
        uint32_t slot = (uint32_t) (n * g->count);
        unsigned char *own = ivshm_rounds_slot(&g->rounds, (uint32_t) comm->rank, slot);
        for (int i = 0; i < g->count; i++)
            note(g, copy_out(&out, i * out_apart, done, n, own + i * n));
        *mpi_errno = exchange(g, what);
        for (int i = 0; i < g->count && *mpi_errno == MPI_SUCCESS; i++)
            note(g, copy_in(&in, i * in_apart, done, MPL_MIN(n, in.bytes - done),
                            ivshm_rounds_slot(&g->rounds, (uint32_t) i, slot) + comm->rank * n));
        ivshm_rounds_pass(&g->rounds);
    }
    *mpi_errno = result(g, *mpi_errno);
    return 1;
}

int MPID_nem_ivshmem_collective_init(void)
{
    static const struct MPID_nem_ivshmem_collectives functions = {barrier, bcast, allreduce,
                                                                  allgather, alltoall};
    int mpi_errno = MPIDI_CH3U_Comm_register_destroy_hook(comm_destroyed, NULL);
    MPIR_ERR_CHECK(mpi_errno);
    if (MPIR_CVAR_NEMESIS_IVSHMEM_COLLECTIVES > 0)
        MPID_nem_ivshmem_collectives = &functions;

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

#else

int MPID_nem_ivshmem_collective_init(void)
{
    return MPI_SUCCESS;
}

void MPID_nem_ivshmem_collective_finalize(void)
{
}

#endif
