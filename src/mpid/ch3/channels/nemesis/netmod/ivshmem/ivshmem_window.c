/* SPDX-License-Identifier: mpich2 */
/*
 * Windows in the region. Where all ranks of a window have their part of it there, one-sided
 * operations are loads and stores, by CH3's own code for windows in shared memory: it asks
 * ivshmem_shared.h. So MPI_Win_allocate takes memory of the region, and MPI_Win_create finds it if
 * the program has it of MPI_Alloc_mem. All ranks decide alike, or operations are messages.
 *
 * Ranks that are all on one node share memory there, and are not asked.
 */
#include "ivshmem_netmod.h"

#include <sched.h>
#include <time.h>

#ifdef IVSHMEM_SHARED_H /* MPICH's headers know of it: the graft has succeeded */

#define SPINS_PER_YIELD 64
#define SPINS_PER_LOOK 4096 /* whether the holder of a lock is dead */

typedef struct {
    struct MPID_nem_ivshmem_window calls;
    struct ivshm_lock_shm *lock;
    void *lock_memory, *memory; /* of ours, to give back; or NULL */
    void **parts;               /* by rank; the window's shm_base_addrs */
    int opened;                 /* channels, to the owners of that memory: while they are open, */
    struct ivshm_channel *channels[]; /* it does not change hands */
} window_t;

/* What a rank tells the others of its part. */
typedef struct {
    uint64_t region_id[2]; /* 0 if it has no part in a region */
    struct ivshm_owner owner;
    ivshm_off off;
    uint64_t bytes;
    ivshm_off lock; /* of rank 0 */
} part_t;

static MPIDI_CH3U_Win_fns_t stock;
static int (*stock_free)(MPIR_Win **);

static window_t *window_of(MPIR_Win *win)
{
    return (window_t *) win->ivshmem;
}

/* Locking */

static bool is_dead(struct ivshm_owner holder)
{
    if (holder.endpoint >= MPID_nem_ivshmem.region.geo.endpoints)
        return true; /* there was none, or a peer writes nonsense */
    MPIDI_VC_t *vc = MPID_nem_ivshmem.vcs[holder.endpoint];
    return !ivshm_endpoint_is_live(&MPID_nem_ivshmem.region, holder) ||
           (vc && vc->state == MPIDI_VC_STATE_MORIBUND);
}

/* Once a second at most: who of this VM has died, and of whom the process manager says so? */
static void look_for_deaths(void)
{
    static time_t last;
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    if (now.tv_sec == last)
        return;
    last = now.tv_sec;
    ivshm_endpoint_watch(&MPID_nem_ivshmem.region, &MPID_nem_ivshmem.transport.endpoint.process);
    if (MPIR_CVAR_ENABLE_FT)
        MPIDI_CH3U_Check_for_failed_procs();
}

static void lock(MPIR_Win *win)
{
    struct ivshm_lock_shm *shared = window_of(win)->lock;
    struct ivshm_owner self = MPID_nem_ivshmem.transport.endpoint.owner, holder;

    for (unsigned spins = 1; !ivshm_lock_try(shared, self, &holder); spins++) {
        ivshm_pause();
        if (spins % SPINS_PER_YIELD == 0)
            sched_yield(); /* to the holder, if it waits for this processor */
        if (spins % SPINS_PER_LOOK != 0)
            continue;
        look_for_deaths();
        if (is_dead(holder) && ivshm_lock_inherit(shared, self, holder))
            break;
    }
}

static void unlock(MPIR_Win *win)
{
    ivshm_lock_release(window_of(win)->lock);
}

/* No operation is under way when its call has returned: that all have come here is enough. */
static int fence(int mode, MPIR_Win *win)
{
    int mpi_errno = MPI_SUCCESS;
    MPIR_Errflag_t errflag = MPIR_ERR_NONE;

    if ((mode & MPI_MODE_NOPRECEDE) && (mode & MPI_MODE_NOSUCCEED))
        goto fn_exit;
    MPL_atomic_read_write_barrier();
    mpi_errno = MPIR_Barrier(win->comm_ptr, &errflag);
    MPIR_ERR_CHECK(mpi_errno);
    MPIR_ERR_CHKANDJUMP(errflag, mpi_errno, MPI_ERR_OTHER, "**coll_fail");
    MPL_atomic_read_write_barrier();
    win->states.access_state = mode & MPI_MODE_NOSUCCEED ? MPIDI_RMA_NONE : MPIDI_RMA_FENCE_GRANTED;

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Agreement */

static bool is_on_one_node(const MPIR_Comm *comm)
{
    return comm->local_size == 1 ||
           (comm->node_comm && comm->node_comm->local_size == comm->local_size);
}

static part_t part_of(struct ivshm_owner owner, const void *base, MPI_Aint bytes)
{
    struct ivshm_region *region = &MPID_nem_ivshmem.region;
    return (part_t){.region_id = {region->id[0], region->id[1]},
                    .owner = owner,
                    .off = base ? MPID_nem_ivshmem_offset_of(base) : (ivshm_off){0},
                    .bytes = (uint64_t) bytes};
}

/* Whether all have a part, of the same region: known to all from what all have been told. */
static bool all_in_one_region(const part_t *parts, int count)
{
    for (int i = 0; i < count; i++)
        if ((parts[i].region_id[0] | parts[i].region_id[1]) == 0 ||
            parts[i].region_id[0] != parts[0].region_id[0] ||
            parts[i].region_id[1] != parts[0].region_id[1])
            return false;
    return parts[0].lock.bytes != 0;
}

static bool is_theirs(const part_t *part, ivshm_off off, uint64_t bytes)
{
    return ivshm_extent_covers(&MPID_nem_ivshmem.region, part->owner, IVSHM_KIND_USER, off, bytes);
}

/* Attaches to whose memory it is, and looks that it is. */
static bool open_part(window_t *w, const part_t *part)
{
    struct ivshm_owner self = MPID_nem_ivshmem.transport.endpoint.owner;
    struct ivshm_diag diag;

    if (part->owner.endpoint != self.endpoint || part->owner.generation != self.generation) {
        if (ivshm_channel_open(&MPID_nem_ivshmem.transport, part->owner, &w->channels[w->opened],
                               &diag) != 0)
            return false;
        w->opened++;
    }
    return (part->bytes == 0 || is_theirs(part, part->off, part->bytes)) &&
           (part->lock.bytes == 0 || (part->lock.bytes % sizeof(struct ivshm_lock_shm) == 0 &&
                                      is_theirs(part, part->lock, sizeof(struct ivshm_lock_shm))));
}

static void close_window(window_t *w)
{
    while (w->opened > 0)
        ivshm_channel_close(&MPID_nem_ivshmem.transport, w->channels[--w->opened]);
    MPID_nem_ivshmem_memory_give_back(w->lock_memory);
    MPID_nem_ivshmem_memory_give_back(w->memory);
    MPL_free(w->parts);
    MPL_free(w);
}

static int open_parts(MPIR_Win *win, window_t *w, const part_t *parts, int *opened)
{
    int mpi_errno = MPI_SUCCESS, count = win->comm_ptr->local_size;
    MPIR_Errflag_t errflag = MPIR_ERR_NONE;
    char *base = MPID_nem_ivshmem.user;

    w->parts = MPL_malloc(count * sizeof(void *), MPL_MEM_SHM);
    *opened = w->parts != NULL;
    for (int i = 0; i < count && *opened; i++) {
        w->parts[i] = parts[i].off.bytes ? base + parts[i].off.bytes : NULL;
        *opened = open_part(w, &parts[i]);
    }
    mpi_errno = MPIR_Allreduce(MPI_IN_PLACE, opened, 1, MPI_INT, MPI_MIN, win->comm_ptr, &errflag);
    MPIR_ERR_CHECK(mpi_errno);
    MPIR_ERR_CHKANDJUMP(errflag, mpi_errno, MPI_ERR_OTHER, "**coll_fail");

fn_exit:
    return mpi_errno;
fn_fail:
    *opened = 0;
    goto fn_exit;
}

/*
 * Collective: shares the window through the region, if all ranks have a part in it. `mine` is this
 * rank's; win->ivshmem says what came of it.
 */
static int share(MPIR_Win *win, part_t mine)
{
    int mpi_errno = MPI_SUCCESS, opened = 0;
    int rank = win->comm_ptr->rank, count = win->comm_ptr->local_size;
    MPIR_Errflag_t errflag = MPIR_ERR_NONE;
    window_t *w = MPL_calloc(1, sizeof(*w) + count * sizeof(w->channels[0]), MPL_MEM_RMA);
    part_t *parts = MPL_malloc(count * sizeof(*parts), MPL_MEM_RMA);

    MPIR_ERR_CHKANDJUMP(!w || !parts, mpi_errno, MPI_ERR_OTHER, "**nomem");
    w->calls = (struct MPID_nem_ivshmem_window){fence, lock, unlock};
    if (rank == 0 && (mine.region_id[0] | mine.region_id[1])) {
        w->lock_memory = MPID_nem_ivshmem_memory_take(sizeof(struct ivshm_lock_shm));
        if (w->lock_memory) {
            ivshm_lock_release(w->lock_memory);
            mine.lock = part_of(mine.owner, w->lock_memory, 0).off;
        }
    }
    parts[rank] = mine;
    mpi_errno = MPIR_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, parts, sizeof(*parts), MPI_BYTE,
                               win->comm_ptr, &errflag);
    MPIR_ERR_CHECK(mpi_errno);
    MPIR_ERR_CHKANDJUMP(errflag, mpi_errno, MPI_ERR_OTHER, "**coll_fail");
    if (!all_in_one_region(parts, count))
        goto fn_fail;
    mpi_errno = open_parts(win, w, parts, &opened);
    MPIR_ERR_CHECK(mpi_errno);
    if (!opened)
        goto fn_fail;
    w->lock =
        (struct ivshm_lock_shm *) ((char *) MPID_nem_ivshmem.region.map.base + parts[0].lock.bytes);
    win->ivshmem = &w->calls;
    win->shm_base_addrs = w->parts;
    win->shm_allocated = TRUE;
    MPID_nem_ivshmem.stats.windows++;

fn_exit:
    MPL_free(parts);
    return mpi_errno;
fn_fail: /* or not shared */
    if (w)
        close_window(w);
    goto fn_exit;
}

/* What CH3 calls */

/* Of memory of our own. None, if that is not in the region. */
static part_t own_part(const void *base, MPI_Aint bytes)
{
    ivshm_off off;

    if (!MPID_nem_ivshmem_memory_in_use() ||
        (bytes > 0 && !MPID_nem_ivshmem_memory_find(base, bytes, &off)))
        return (part_t){0};
    return part_of(MPID_nem_ivshmem.transport.endpoint.owner, bytes > 0 ? base : NULL, bytes);
}

static int win_create(void *base, MPI_Aint size, int disp_unit, MPIR_Info *info, MPIR_Comm *comm,
                      MPIR_Win **win)
{
    int mpi_errno = MPI_SUCCESS;

    mpi_errno = stock.create(base, size, disp_unit, info, comm, win);
    MPIR_ERR_CHECK(mpi_errno);
    if (!is_on_one_node((*win)->comm_ptr)) {
        /* If CH3 has found out that a node shares it, let that be. */
        mpi_errno = share(*win, (*win)->shm_allocated ? (part_t){0} : own_part(base, size));
        MPIR_ERR_CHECK(mpi_errno);
    }

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Our part is at `base`, in memory of the region. */
static int place(MPIR_Win *win, void *base, MPI_Aint size, int disp_unit, MPIR_Info *info,
                 MPIR_Comm *comm, void *baseptr)
{
    *(void **) baseptr = win->base = base;
    return MPIDI_CH3U_Win_fns.gather_info(base, size, disp_unit, info, comm, &win);
}

/* Also where it cannot be shared, memory of the region spares a copy, if CH3 would use malloc. */
static int win_allocate(MPI_Aint size, int disp_unit, MPIR_Info *info, MPIR_Comm *comm,
                        void *baseptr, MPIR_Win **win)
{
    int mpi_errno = MPI_SUCCESS;
    bool may_share = (*win)->info_args.alloc_shm;
    bool is_shared_by_stock = may_share && (*win)->comm_ptr->node_comm;
    bool on_one_node = is_on_one_node((*win)->comm_ptr);
    void *base = on_one_node && is_shared_by_stock ? NULL : MPID_nem_ivshmem_memory_take(size);

    if (may_share && !on_one_node) {
        mpi_errno = share(*win, own_part(base, size));
        MPIR_ERR_CHECK(mpi_errno);
    }
    if (!(*win)->ivshmem && is_shared_by_stock) {
        MPID_nem_ivshmem_memory_give_back(base);
        base = NULL;
    }
    if ((*win)->ivshmem)
        window_of(*win)->memory = base;
    mpi_errno = (*win)->ivshmem || base ? place(*win, base, size, disp_unit, info, comm, baseptr)
                                        : stock.allocate(size, disp_unit, info, comm, baseptr, win);
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    MPID_nem_ivshmem_memory_give_back(base);
    goto fn_exit;
}

/* All of the window lies in one piece, of rank 0. *memory is that, in rank 0; *mine is our part. */
static int take_shared(MPIR_Win *win, MPI_Aint size, void **memory, part_t *mine)
{
    int mpi_errno = MPI_SUCCESS, rank = win->comm_ptr->rank, count = win->comm_ptr->local_size;
    MPIR_Errflag_t errflag = MPIR_ERR_NONE;
    MPI_Aint *sizes = MPL_malloc(count * sizeof(*sizes), MPL_MEM_RMA), begin = 0, total = 0;

    MPIR_ERR_CHKANDJUMP(!sizes, mpi_errno, MPI_ERR_OTHER, "**nomem");
    sizes[rank] =
        win->info_args.alloc_shared_noncontig ? MPL_ROUND_UP_ALIGN(size, IVSHM_PAGE) : size;
    mpi_errno = MPIR_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, sizes, 1, MPI_AINT,
                               win->comm_ptr, &errflag);
    MPIR_ERR_CHECK(mpi_errno);
    for (int i = 0; i < count; i++) {
        begin += i < rank ? sizes[i] : 0;
        total += sizes[i];
    }
    *mine = (part_t){0};
    if (rank == 0) {
        *memory = MPID_nem_ivshmem_memory_take(total);
        *mine = own_part(*memory, *memory ? total : 0);
    }
    mpi_errno = MPIR_Bcast(mine, sizeof(*mine), MPI_BYTE, 0, win->comm_ptr, &errflag);
    MPIR_ERR_CHECK(mpi_errno);
    MPIR_ERR_CHKANDJUMP(errflag, mpi_errno, MPI_ERR_OTHER, "**coll_fail");
    if (!MPID_nem_ivshmem_memory_in_use() || mine->bytes != (uint64_t) total ||
        mine->region_id[0] != MPID_nem_ivshmem.region.id[0] ||
        mine->region_id[1] != MPID_nem_ivshmem.region.id[1])
        *mine = (part_t){0};
    mine->off.bytes = size > 0 ? mine->off.bytes + (uint64_t) begin : 0;
    mine->bytes = (uint64_t) size;

fn_exit:
    MPL_free(sizes);
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* Memory that all ranks load and store, in any VM. */
static int win_allocate_shared(MPI_Aint size, int disp_unit, MPIR_Info *info, MPIR_Comm *comm,
                               void *baseptr, MPIR_Win **win)
{
    int mpi_errno = MPI_SUCCESS;
    void *memory = NULL;
    part_t mine;

    if (is_on_one_node((*win)->comm_ptr)) {
        mpi_errno = stock.allocate_shared(size, disp_unit, info, comm, baseptr, win);
        goto fn_exit;
    }
    mpi_errno = take_shared(*win, size, &memory, &mine);
    MPIR_ERR_CHECK(mpi_errno);
    mpi_errno = share(*win, mine);
    MPIR_ERR_CHECK(mpi_errno);
    MPIR_ERR_CHKANDJUMP(!(*win)->ivshmem, mpi_errno, MPI_ERR_RMA_SHARED, "**rmashared");
    window_of(*win)->memory = memory;
    mpi_errno = place(*win, (*win)->shm_base_addrs[(*win)->comm_ptr->rank], size, disp_unit, info,
                      comm, baseptr);
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    return mpi_errno;
fn_fail:
    MPID_nem_ivshmem_memory_give_back(memory);
    goto fn_exit;
}

static int win_shared_query(MPIR_Win *win, int target_rank, MPI_Aint *size, int *disp_unit,
                            void *baseptr)
{
    int rank = target_rank;

    if (!win->ivshmem)
        return stock.shared_query(win, target_rank, size, disp_unit, baseptr);
    if (rank == MPI_PROC_NULL) /* the first that has something */
        for (rank = 0; rank < win->comm_ptr->local_size - 1; rank++)
            if (win->basic_info_table[rank].size > 0)
                break;
    *size = win->basic_info_table[rank].size;
    *disp_unit = win->basic_info_table[rank].disp_unit;
    *(void **) baseptr = win->shm_base_addrs[rank];
    return MPI_SUCCESS;
}

/* After a barrier. CH3 frees the memory of a window that it takes for its own: it finds none. */
static int win_free(MPIR_Win **win)
{
    bool is_own = (*win)->create_flavor == MPI_WIN_FLAVOR_ALLOCATE ||
                  (*win)->create_flavor == MPI_WIN_FLAVOR_SHARED;

    if ((*win)->ivshmem) {
        close_window(window_of(*win));
        (*win)->shm_base_addrs = NULL;
        (*win)->shm_allocated = FALSE;
        (*win)->ivshmem = NULL;
        if (is_own)
            (*win)->base = NULL;
    } else if (is_own && MPID_nem_ivshmem_memory_give_back((*win)->base)) {
        (*win)->base = NULL;
    }
    return stock_free ? stock_free(win) : MPI_SUCCESS;
}

/* In every rank, also in one that has no region: the others ask it. */
void MPID_nem_ivshmem_window_init(void)
{
    stock = MPIDI_CH3U_Win_fns;
    stock_free = MPIDI_CH3U_Win_hooks.win_free;
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
