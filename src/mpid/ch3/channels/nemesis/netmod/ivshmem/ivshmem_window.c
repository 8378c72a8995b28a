/* SPDX-License-Identifier: mpich2 */
/*
 * Windows in the region. If the parts of all ranks lie in the region, one-sided operations are
 * loads and stores, by CH3's own code for windows in shared memory, which consults
 * ivshmem_shared.h. To that end, MPI_Win_allocate allocates memory of the region, and
 * MPI_Win_create recognises memory from MPI_Alloc_mem. All ranks decide alike; otherwise operations
 * are messages.
 *
 * Ranks that are all on one node share memory there, and are left to CH3.
 *
 * Other ranks' statements about their parts are checked against the block map when the window is
 * made. Only a rank itself can tell the displacement unit of its part, so each operation is checked
 * against the part's bounds.
 *
 * Freeing a window of any kind waits for packets that may still arrive: see win_free.
 *
 * Called by MPICH through its tables of window functions, under its global lock.
 */
#include "ivshmem_window.h"

#include "ivshmem_part.h"
#include "ivshmem_relation.h"
#include "ivshmem_memory.h"

#include "core/lock.h"

#include "mpid_rma_types.h"

#include <sched.h>
#include <time.h>

#ifdef IVSHMEM_SHARED_H /* MPICH's headers include it: the graft has succeeded */

#define SPINS_PER_YIELD 64
#define SPINS_PER_CHECK 4096 /* between two checks of the lock's holder */
#define KEPT_LIMIT_S 60      /* s: how long one holder may keep a lock, see wait_for_holder */
#define WAIT_LIMIT_S 600     /* s: how long a lock may go to others */

typedef struct {
    struct MPID_nem_ivshmem_window calls;
    struct ivshm_lock_shm *lock;
    bool lock_lost;             /* its holder did not release it */
    void *lock_memory, *memory; /* memory of ours, to be freed; or NULL */
    void **bases;               /* by rank; the window's shm_base_addrs */
    int count;
    struct {
        struct ivshm_owner owner;
        MPI_Aint bytes;
        /* To the owner of that memory, or NULL. While it is open, the owner stays the same. */
        struct ivshm_channel *channel;
    } ranks[];
} window_t;

typedef MPID_nem_ivshmem_part_t part_t;

static __typeof__(MPID_nem_ivshmem.windows) *const windows = &MPID_nem_ivshmem.windows;

static window_t *window_of(MPIR_Win *win)
{
    return (window_t *) win->ivshmem;
}

static int window_error(const char *text)
{
    int mpi_errno = MPI_SUCCESS;
    MPIR_ERR_SET1(mpi_errno, MPI_ERR_RMA_SYNC, "**ivshmem", "**ivshmem %s", text);
    return mpi_errno;
}

/* Locking */

/* The rank that holds the window's lock; -1 if it is no rank other than `self`, which waits. */
static int rank_of(const window_t *w, struct ivshm_owner holder, int self)
{
    for (int i = 0; i < w->count; i++)
        if (i != self && w->ranks[i].owner.endpoint == holder.endpoint &&
            w->ranks[i].owner.generation == holder.generation)
            return i;
    return -1;
}

/*
 * At most once a second: which processes of this VM have died, and which does the process manager
 * report dead?
 */
static void check_for_deaths(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    if (now.tv_sec == windows->checked_at)
        return;
    windows->checked_at = now.tv_sec;
    ivshm_transport_mark_dead(&MPID_nem_ivshmem.transport);
    if (MPIR_CVAR_ENABLE_FT)
        MPIDI_CH3U_Check_for_failed_procs();
}

/*
 * Somebody holds the lock for longer than usual. *mine is set if this rank has taken it over: from
 * a holder that is dead, or from a word that names nobody who can hold it, and that nobody would
 * ever clear.
 *
 * A living holder is waited for, even if our connection to it has failed, because it may be about
 * to store. It needs nothing from us to continue: it makes no MPI call between taking and releasing
 * the lock. But other ranks may need us in the meantime, so we call the progress engine.
 *
 * The holder needs the lock for a single accumulate. If the same accumulate takes a minute, the
 * lock's word was forged, unless the holder's machine was paused at that point. Either way the lock
 * is lost for good, with an error: it is not taken from a holder that may continue. The lock has no
 * queue, so others may get it many times before us. But that does not take ten minutes, unless
 * somebody keeps forging the word.
 */
static int wait_for_holder(MPIR_Win *win, struct ivshm_lock_watch *watch, struct ivshm_owner holder,
                           bool *mine)
{
    int mpi_errno = MPI_SUCCESS;
    window_t *w = window_of(win);
    struct ivshm_owner self = ivshm_transport_self(&MPID_nem_ivshmem.transport);
    int who = rank_of(w, holder, win->comm_ptr->rank);
    struct timespec now;
    char text[200];

    check_for_deaths();
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    ivshm_lock_watch_update(w->lock, watch, holder, (uint64_t) now.tv_sec);
    if (watch->waited >= WAIT_LIMIT_S) {
        w->lock_lost = true;
        mpi_errno = window_error("could not get the lock of a window for ten minutes: other ranks "
                                 "keep taking it, or a process overwrites it. Free the window");
        MPIR_ERR_POP(mpi_errno);
    }
    if (who < 0 || !ivshm_endpoint_is_live(&MPID_nem_ivshmem.region, holder)) {
        *mine = ivshm_lock_inherit(w->lock, self, holder);
        goto fn_exit;
    }
    if (watch->kept >= KEPT_LIMIT_S) {
        w->lock_lost = true;
        snprintf(text, sizeof(text),
                 "rank %d of a window has held its lock for a minute, and is not known to be dead. "
                 "Check whether its machine is paused, and free the window",
                 who);
        mpi_errno = window_error(text);
        MPIR_ERR_POP(mpi_errno);
    }
    mpi_errno = MPID_Progress_poke();
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

static int lock_window(MPIR_Win *win)
{
    int mpi_errno = MPI_SUCCESS;
    window_t *w = window_of(win);
    struct ivshm_owner self = ivshm_transport_self(&MPID_nem_ivshmem.transport), holder;
    struct ivshm_lock_watch watch = {0};
    bool mine = false;

    if (unlikely(w->lock_lost)) {
        mpi_errno = window_error("the lock of this window was lost before. Free the window");
        MPIR_ERR_POP(mpi_errno);
    }
    for (unsigned spins = 1; !mine && !ivshm_lock_try(w->lock, self, &holder); spins++) {
        ivshm_cpu_pause();
        if (spins % SPINS_PER_YIELD == 0)
            sched_yield(); /* to the holder, if it waits for this processor */
        if (spins % SPINS_PER_CHECK != 0)
            continue;
        mpi_errno = wait_for_holder(win, &watch, holder, &mine);
        MPIR_ERR_CHECK(mpi_errno);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

static void unlock_window(MPIR_Win *win)
{
    ivshm_lock_release(window_of(win)->lock);
}

/*
 * Whether `count` elements lie in the rank's part, at its displacement. What counts is the bytes
 * that they touch: with a negative lower bound, these begin before the displacement.
 */
static int check_bounds(MPIR_Win *win, int rank, MPI_Aint disp, MPI_Aint count, MPI_Datatype type)
{
    int mpi_errno = MPI_SUCCESS;
    MPI_Aint lower = 0, upper, extent, size, at, span;

    MPIR_Datatype_get_size_macro(type, size);
    if (count <= 0 || size == 0)
        goto fn_exit;
    upper = extent = size;
    if (!HANDLE_IS_BUILTIN(type)) {
        MPIR_Datatype *t;
        MPIR_Datatype_get_ptr(type, t);
        lower = t->true_lb;
        upper = t->true_ub;
        extent = t->extent;
    }
    bool is_inside = !__builtin_mul_overflow(disp, win->basic_info_table[rank].disp_unit, &at) &&
                     !__builtin_mul_overflow(count - 1, extent, &span) &&
                     !__builtin_add_overflow(lower, MPL_MIN(span, 0), &lower) &&
                     !__builtin_add_overflow(upper, MPL_MAX(span, 0), &upper) &&
                     !__builtin_add_overflow(at, lower, &lower) && lower >= 0 &&
                     !__builtin_add_overflow(at, upper, &upper) &&
                     upper <= window_of(win)->ranks[rank].bytes;
    MPIR_ERR_CHKANDJUMP(unlikely(!is_inside), mpi_errno, MPI_ERR_RMA_RANGE, "**rmarange");

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* An operation is complete when its call has returned, so a barrier is enough. */
static int fence_window(int mode, MPIR_Win *win)
{
    int mpi_errno = MPI_SUCCESS;

    if ((mode & MPI_MODE_NOPRECEDE) && (mode & MPI_MODE_NOSUCCEED))
        goto fn_exit;
    MPL_atomic_read_write_barrier();
    mpi_errno = ivshmem_compat_collective(IVSHMEM_COMPAT_ERR_NONE, Barrier, win->comm_ptr);
    MPIR_ERR_CHECK(mpi_errno);
    MPL_atomic_read_write_barrier();
    win->states.access_state = mode & MPI_MODE_NOSUCCEED ? MPIDI_RMA_NONE : MPIDI_RMA_FENCE_GRANTED;

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Agreement */

static void close_window(window_t *w)
{
    for (int i = 0; i < w->count; i++)
        if (w->ranks[i].channel)
            ivshm_channel_close(&MPID_nem_ivshmem.transport, w->ranks[i].channel);
    MPID_nem_ivshmem_memory_free(w->lock_memory);
    MPID_nem_ivshmem_memory_free(w->memory);
    MPL_free(w->bases);
    MPL_free(w);
}

/* The bytes that a part takes in a window that lies in one piece. */
static MPI_Aint part_room(const MPIR_Win *win, MPI_Aint bytes)
{
    return win->info_args.alloc_shared_noncontig ? MPL_ROUND_UP_ALIGN(bytes, IVSHM_PAGE) : bytes;
}

/* Bytes of all parts, or -1 if the ranks named invalid sizes. */
static MPI_Aint total_of(const MPIR_Win *win, const MPI_Aint *sizes, int count)
{
    MPI_Aint total = 0;

    for (int i = 0; i < count; i++)
        if (sizes[i] < 0 || sizes[i] > MPIR_AINT_MAX - IVSHM_PAGE ||
            __builtin_add_overflow(total, part_room(win, sizes[i]), &total))
            return -1;
    return total;
}

static bool open_parts(MPIR_Win *win, window_t *w, const part_t *parts, const MPI_Aint *sizes)
{
    int rank = win->comm_ptr->rank;

    if (!w->bases)
        return false;
    /* All parts are in rank 0's memory, laid out as CH3 does on one node. */
    if (sizes) {
        MPI_Aint begin = 0, total = total_of(win, sizes, w->count);
        if (total < 0 || parts[0].bytes != (uint64_t) total ||
            !MPID_nem_ivshmem_part_open(&parts[0], rank == 0, &w->ranks[0].channel))
            return false;
        for (int i = 0; i < w->count; begin += part_room(win, sizes[i]), i++) {
            w->ranks[i].bytes = sizes[i];
            w->bases[i] = total > 0 && (i == 0 || sizes[i] > 0)
                              ? MPID_nem_ivshmem_part_address(parts[0].off) + begin
                              : NULL;
        }
        return true;
    }
    for (int i = 0; i < w->count; i++) {
        if (!MPID_nem_ivshmem_part_open(&parts[i], i == rank, &w->ranks[i].channel))
            return false;
        w->ranks[i].bytes = (MPI_Aint) parts[i].bytes;
        w->bases[i] = parts[i].bytes > 0 ? MPID_nem_ivshmem_part_address(parts[i].off) : NULL;
    }
    return true;
}

/* The error, on every rank, if the window cannot be shared and must be. */
static int why_not_shared(const MPIR_Win *win, const part_t *parts, const MPI_Aint *sizes)
{
    int mpi_errno = MPI_SUCCESS, count = win->comm_ptr->local_size;
    int who = MPID_nem_ivshmem_part_missing(parts, count);
    MPI_Aint total = total_of(win, sizes, count);
    const struct ivshm_region *region = &MPID_nem_ivshmem.region;
    char text[300];

    if (who < count && !MPID_nem_ivshmem_part_is_there(&parts[who])) {
        snprintf(text, sizeof(text),
                 "MPI_Win_allocate_shared over several nodes needs one region, and rank %d has no "
                 "memory in a region: start it with the region of the others, and without "
                 "MPIR_CVAR_NEMESIS_IVSHMEM_USER_MEMORY=0",
                 who);
    } else if (who < count && MPID_nem_ivshmem_part_is_near(&parts[who], &parts[0])) {
        snprintf(text, sizeof(text),
                 "rank %d of MPI_Win_allocate_shared claims endpoint %u, generation %u, which a "
                 "region of %u endpoints cannot have: that process is broken or hostile",
                 who, parts[who].owner.endpoint, parts[who].owner.generation,
                 ivshm_region_endpoints(region));
    } else if (who < count) {
        snprintf(text, sizeof(text),
                 "MPI_Win_allocate_shared over several nodes needs one region, and rank %d is in "
                 "another region than rank 0: start all ranks with the same region",
                 who);
    } else if (parts[0].bytes == (uint64_t) total && parts[0].lock.bytes) {
        snprintf(text, sizeof(text),
                 "MPI_Win_allocate_shared: the region's block map does not show rank 0 as the "
                 "owner of the %lld bytes: run `ivshmem check`",
                 (long long) total);
    } else {
        struct ivshm_extent_usage usage;
        ivshm_extent_usage(region, &usage);
        snprintf(
            text, sizeof(text),
            "MPI_Win_allocate_shared needs %lld bytes in one piece and a block of %llu bytes for a "
            "lock; the region has %llu bytes free, %llu in one piece: format a larger region",
            (long long) total, (unsigned long long) ivshm_region_block_size(region),
            (unsigned long long) (usage.free_blocks * ivshm_region_block_size(region)),
            (unsigned long long) (usage.longest_free * ivshm_region_block_size(region)));
    }
    MPIR_ERR_SET1(mpi_errno, MPI_ERR_RMA_SHARED, "**ivshmem", "**ivshmem %s", text);
    return mpi_errno;
}

/*
 * Rank 0 provides the lock. If the window cannot exist without it, any memory that is left may be
 * used.
 */
static void alloc_window_lock(window_t *w, part_t *mine, bool needed)
{
    w->lock_memory = needed ? MPID_nem_ivshmem_memory_alloc_required(sizeof(struct ivshm_lock_shm))
                            : MPID_nem_ivshmem_memory_alloc(sizeof(struct ivshm_lock_shm));
    if (w->lock_memory) {
        ivshm_lock_init(w->lock_memory);
        mine->lock = MPID_nem_ivshmem_part_of(w->lock_memory, 0).off;
    }
}

/*
 * Collective: shares the window through the region if all ranks have a part in it. `mine` is this
 * rank's part. win->ivshmem tells whether it succeeded. For a window in one piece, `sizes` has the
 * sizes of all ranks; else it is NULL.
 */
static int share_window(MPIR_Win *win, part_t mine, const MPI_Aint *sizes)
{
    int mpi_errno = MPI_SUCCESS, opened = 0;
    int rank = win->comm_ptr->rank, count = win->comm_ptr->local_size;
    bool is_agreed = false;
    window_t *w = MPL_calloc(1, sizeof(*w) + count * sizeof(w->ranks[0]), MPL_MEM_RMA);
    part_t *parts = MPL_malloc(count * sizeof(*parts), MPL_MEM_RMA);

    MPIR_ERR_CHKANDJUMP(!w || !parts, mpi_errno, MPI_ERR_OTHER, "**nomem");
    w->calls =
        (struct MPID_nem_ivshmem_window){fence_window, lock_window, unlock_window, check_bounds};
    w->count = count;
    if (rank == 0 && MPID_nem_ivshmem_part_is_there(&mine))
        alloc_window_lock(w, &mine, sizes != NULL);
    parts[rank] = mine;
    mpi_errno = ivshmem_compat_collective(IVSHMEM_COMPAT_ERR_NONE, Allgather, MPI_IN_PLACE, 0,
                                          MPI_DATATYPE_NULL, parts, sizeof(*parts),
                                          IVSHMEM_COMPAT_BYTE, win->comm_ptr);
    MPIR_ERR_CHECK(mpi_errno);
    for (int i = 0; i < count; i++)
        w->ranks[i].owner = parts[i].owner;
    if (MPID_nem_ivshmem_part_missing(parts, count) == count && parts[0].lock.bytes != 0) {
        w->bases = MPL_malloc(count * sizeof(void *), MPL_MEM_SHM);
        opened = open_parts(win, w, parts, sizes);
        mpi_errno =
            ivshmem_compat_collective(IVSHMEM_COMPAT_ERR_NONE, Allreduce, MPI_IN_PLACE, &opened, 1,
                                      IVSHMEM_COMPAT_INT, MPI_MIN, win->comm_ptr);
        MPIR_ERR_CHECK(mpi_errno);
    }
    is_agreed = true;
    if (!opened) {
        if (sizes)
            mpi_errno = why_not_shared(win, parts, sizes);
        goto fn_fail;
    }
    w->lock = (struct ivshm_lock_shm *) MPID_nem_ivshmem_part_address(parts[0].lock);
    win->ivshmem = &w->calls;
    win->shm_base_addrs = w->bases;
    win->shm_allocated = TRUE;
    MPID_nem_ivshmem.stats.windows++;

fn_exit:
    MPL_free(parts);
    return mpi_errno;
fn_fail:                   /* or the window is not shared */
    if (!is_agreed && w) { /* a rank that has seen no error may store there later */
        MPID_nem_ivshmem_memory_quarantine(w->lock_memory);
        if (MPID_nem_ivshmem_part_is_there(&mine))
            MPID_nem_ivshmem_memory_quarantine(MPID_nem_ivshmem_part_address(mine.off));
    }
    if (w)
        close_window(w);
    goto fn_exit;
}

/* What CH3 calls */

static int win_create(void *base, MPI_Aint size, int disp_unit, MPIR_Info *info, MPIR_Comm *comm,
                      MPIR_Win **win)
{
    int mpi_errno = MPI_SUCCESS;

    mpi_errno = windows->stock.create(base, size, disp_unit, info, comm, win);
    MPIR_ERR_CHECK(mpi_errno);
    if (!MPID_nem_ivshmem_part_is_on_one_node((*win)->comm_ptr)) {
        /* If CH3 has found that a node shares the window, leave it at that. */
        mpi_errno = share_window(
            *win, (*win)->shm_allocated ? (part_t){0} : MPID_nem_ivshmem_part_own(base, size),
            NULL);
        MPIR_ERR_CHECK(mpi_errno);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Our part is at `base`, in memory of the region. */
static int set_window_base(MPIR_Win *win, void *base, MPI_Aint size, int disp_unit, MPIR_Info *info,
                           MPIR_Comm *comm, void *baseptr)
{
    *(void **) baseptr = win->base = base;
    return MPIDI_CH3U_Win_fns.gather_info(base, size, disp_unit, info, comm, &win);
}

/*
 * Even if the window cannot be shared, memory of the region saves a copy, where CH3 would use
 * malloc.
 */
static int win_allocate(MPI_Aint size, int disp_unit, MPIR_Info *info, MPIR_Comm *comm,
                        void *baseptr, MPIR_Win **win)
{
    int mpi_errno = MPI_SUCCESS;
    bool may_share = (*win)->info_args.alloc_shm;
    bool is_shared_by_stock = may_share && (*win)->comm_ptr->node_comm;
    bool on_one_node = MPID_nem_ivshmem_part_is_on_one_node((*win)->comm_ptr);
    void *base = on_one_node && is_shared_by_stock ? NULL : MPID_nem_ivshmem_memory_alloc(size);

    if (may_share && !on_one_node) {
        mpi_errno = share_window(*win, MPID_nem_ivshmem_part_own(base, size), NULL);
        MPIR_ERR_CHECK(mpi_errno);
    }
    if (!(*win)->ivshmem && is_shared_by_stock) {
        MPID_nem_ivshmem_memory_free(base);
        base = NULL;
    }
    if ((*win)->ivshmem)
        window_of(*win)->memory = base;
    mpi_errno = (*win)->ivshmem || base
                    ? set_window_base(*win, base, size, disp_unit, info, comm, baseptr)
                    : windows->stock.allocate(size, disp_unit, info, comm, baseptr, win);
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    MPID_nem_ivshmem_memory_free(base);
    goto fn_exit;
}

/*
 * Memory, in one piece at rank 0, that all ranks in any VM load and store. Such a window cannot be
 * made of anything else, so it may use what the region has left.
 */
static int win_allocate_shared(MPI_Aint size, int disp_unit, MPIR_Info *info, MPIR_Comm *comm,
                               void *baseptr, MPIR_Win **win)
{
    int mpi_errno = MPI_SUCCESS, rank = (*win)->comm_ptr->rank;
    int count = (*win)->comm_ptr->local_size;
    void *memory = NULL;
    MPI_Aint *sizes = NULL;

    if (MPID_nem_ivshmem_part_is_on_one_node((*win)->comm_ptr)) {
        mpi_errno = windows->stock.allocate_shared(size, disp_unit, info, comm, baseptr, win);
        goto fn_exit;
    }
    sizes = MPL_malloc(count * sizeof(*sizes), MPL_MEM_RMA);
    MPIR_ERR_CHKANDJUMP(!sizes, mpi_errno, MPI_ERR_OTHER, "**nomem");
    sizes[rank] = size;
    mpi_errno = ivshmem_compat_collective(IVSHMEM_COMPAT_ERR_NONE, Allgather, MPI_IN_PLACE, 0,
                                          MPI_DATATYPE_NULL, sizes, 1, IVSHMEM_COMPAT_AINT,
                                          (*win)->comm_ptr);
    MPIR_ERR_CHECK(mpi_errno);
    part_t mine = MPID_nem_ivshmem_part_own(NULL, 0);
    if (rank == 0 && MPID_nem_ivshmem_part_is_there(&mine)) {
        MPI_Aint total = total_of(*win, sizes, count);
        memory = total > 0 ? MPID_nem_ivshmem_memory_alloc_required(total) : NULL;
        if (memory)
            mine = MPID_nem_ivshmem_part_of(memory, total);
    }
    mpi_errno = share_window(*win, mine, sizes);
    MPIR_ERR_CHECK(mpi_errno);
    window_of(*win)->memory = memory;
    memory = NULL;
    mpi_errno =
        set_window_base(*win, (*win)->shm_base_addrs[rank], size, disp_unit, info, comm, baseptr);
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    MPL_free(sizes);
    return mpi_errno;
fn_fail:
    MPID_nem_ivshmem_memory_free(memory);
    goto fn_exit;
}

/* As CH3 does on one node. The sizes are those that were checked. */
static int win_shared_query(MPIR_Win *win, int target_rank, MPI_Aint *size, int *disp_unit,
                            void *baseptr)
{
    const window_t *w = window_of(win);
    int rank = target_rank;

    if (!w)
        return windows->stock.shared_query(win, target_rank, size, disp_unit, baseptr);
    if (rank == MPI_PROC_NULL) /* the first that has any memory */
        for (rank = 0; rank < w->count && w->ranks[rank].bytes == 0;)
            rank++;
    bool is_none = rank == w->count;
    *size = is_none ? 0 : w->ranks[rank].bytes;
    *disp_unit = is_none ? 0 : win->basic_info_table[rank].disp_unit;
    *(void **) baseptr = is_none ? NULL : w->bases[rank];
    return MPI_SUCCESS;
}

/* Whether a packet that names this window may still arrive. */
static bool is_owed(const MPIR_Win *win)
{
    return win->current_lock_type != MPID_LOCK_NONE || win->target_lock_queue_head != NULL ||
           win->at_completion_counter != 0 || win->current_target_lock_data_bytes != 0 ||
           win->sync_request_cnt != 0;
}

/*
 * Waits for packets to this window that are still under way when all ranks have reached
 * MPI_Win_free. Each pair of ranks has its own path, and the barrier in MPI_Win_free uses only a
 * few of them. doc/netmod.md says, for each kind of packet, who waits for it. What remains is
 * unlocks that need no answer: a lock that was granted and not released shows that one will arrive.
 * A barrier follows. It keeps a rank from leaving while its unlock is still in its own queue, from
 * which only its MPI calls would send it. And by it all ranks learn if one has waited in vain.
 */
static int settle_window(MPIR_Win *win)
{
    int mpi_errno = MPI_SUCCESS, barrier_errno = MPI_SUCCESS;
    ivshmem_compat_errflag errflag = IVSHMEM_COMPAT_ERR_NONE;
    MPID_Progress_state state;

    while (is_owed(win) && mpi_errno == MPI_SUCCESS) {
        MPID_nem_ivshmem_check_ranks(win, mpi_errno);
        if (mpi_errno != MPI_SUCCESS)
            break;
        MPID_Progress_start(&state);
        mpi_errno = MPID_Progress_wait(&state);
        MPID_Progress_end(&state);
    }
    if (mpi_errno != MPI_SUCCESS)
        errflag = MPIR_ERR_PROC_FAILED;
    barrier_errno = ivshmem_compat_collective(errflag, Barrier, win->comm_ptr);
    MPIR_ERR_CHECK(mpi_errno);
    mpi_errno = barrier_errno;
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/*
 * CH3 calls this after a barrier. If a rank is lost in the meantime, the window stays, with its
 * handle, for packets from the others, but opens no memory that the program may free. CH3 frees the
 * memory of windows that it allocated: it finds none here.
 */
static int win_free(MPIR_Win **win)
{
    int mpi_errno = MPI_SUCCESS;
    bool is_own = (*win)->create_flavor == MPI_WIN_FLAVOR_ALLOCATE ||
                  (*win)->create_flavor == MPI_WIN_FLAVOR_SHARED;

    mpi_errno = settle_window(*win);
    MPIR_ERR_CHECK(mpi_errno);
    MPID_nem_ivshmem_relation_forget_window(*win);
    if ((*win)->ivshmem) {
        close_window(window_of(*win));
        (*win)->shm_base_addrs = NULL;
        (*win)->shm_allocated = FALSE;
        (*win)->ivshmem = NULL;
        if (is_own)
            (*win)->base = NULL;
    } else if (is_own && MPID_nem_ivshmem_memory_free((*win)->base)) {
        (*win)->base = NULL;
    }
    if (windows->stock_free) {
        mpi_errno = windows->stock_free(win);
        MPIR_ERR_CHECK(mpi_errno);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    if (!is_own && MPID_nem_ivshmem_unmade)
        MPID_nem_ivshmem_unmade(*win);
    goto fn_exit;
}

/* In every rank, even in one that has no region: the others ask it. */
void MPID_nem_ivshmem_window_init(void)
{
    windows->stock = MPIDI_CH3U_Win_fns;
    if (MPIDI_CH3U_Win_hooks.win_free != win_free) /* as it is if MPI was initialised before */
        windows->stock_free = MPIDI_CH3U_Win_hooks.win_free;
    MPIDI_CH3U_Win_fns.create = win_create;
    MPIDI_CH3U_Win_fns.allocate = win_allocate;
    MPIDI_CH3U_Win_fns.allocate_shared = win_allocate_shared;
    MPIDI_CH3U_Win_fns.shared_query = win_shared_query;
    MPIDI_CH3U_Win_hooks.win_free = win_free;
}

#else

void MPID_nem_ivshmem_window_init(void)
{
}

#endif
