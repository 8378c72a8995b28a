/* SPDX-License-Identifier: mpich2 */
/*
 * The program's memory in the region: for MPI_Alloc_mem, for windows, and for malloc where
 * libivshmem-malloc is loaded. Large messages from or to this memory need only a single copy. The C
 * library serves what the region cannot spare, and what is too small for a large message.
 *
 * The program sees this memory in a second mapping of the region, which is used for nothing else.
 * When the process leaves the region, or in the child of a fork, private memory replaces that whole
 * mapping and holds what the program had there. The first mapping, which MPICH uses, never exists
 * in a child. The program may use mprotect on its mapping; that does not affect the first one, so
 * everything done here to blocks in use goes through the first mapping.
 *
 * malloc may be called by any thread at any time, without MPICH's lock, so there is a mutex here. A
 * thread that calls malloc may hold any lock of the C library, such as a stream's, and fork takes
 * these after our handler has run. So no thread in malloc or free waits for a fork. While a fork is
 * under way, the tables stay as the child must find them: the C library serves malloc, and freed
 * blocks are only noted.
 */
#include "ivshmem_memory.h"

#include "ivshmem_limit.h"
#include "ivshmem_malloc.h"

#include "core/runs.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MESSAGE_MIN (12 << 10) /* bytes: no smaller message is sent by rendezvous */
#define MALLOC_MIN (16 << 10)  /* bytes: smaller blocks are not worth the effort */
/* malloc leaves a quarter of the region free, beside the memory that nobody takes. */
#define MALLOC_LEAVES 4
/* At least 1/SHARES of the region is allocated at once, and serves many blocks. */
#define SHARES 256
#define SHARE_MAX (UINT64_C(16) << 20) /* bytes */
/* malloc keeps up to 1/KEPT_SHARES of the region in free extents. */
#define KEPT_SHARES 16
#define RETRY_MS 100 /* ms after a refusal */
/* Bytes that are zeroed before the mutex is released for a moment. */
#define DISCARD_PART (UINT64_C(1) << 20)
#define UNITS_MAX (UINT64_C(1) << 24)
#define RESERVE 8 /* mappings that are unmapped when others are needed */

/* By which one kind of memory is allocated. */
struct alloc_policy {
    bool can_wait;   /* until a fork is over */
    bool is_needed;  /* may take what stays free for ranks that join */
    uint64_t leaves; /* bytes that stay free beside that */
    /* At least `refused` bytes were refused, and are `until` then: a search takes long. */
    _Atomic uint64_t refused, until;
};

/*
 * The program's memory. Not in MPID_nem_ivshmem: with libivshmem-malloc it outlives MPI_Finalize,
 * and threads use it without MPICH's lock.
 */
static struct {
    /* Set by MPID_nem_ivshmem_memory_init. */
    char *base;          /* the second mapping, or what has replaced it; NULL if there is none */
    uint64_t size;       /* bytes of the second mapping */
    char *first_block;   /* the region's first block, in the second mapping */
    uint64_t block_size; /* bytes */
    uint64_t unit_bytes; /* of the runs' units */
    struct ivshm_run *run_table;
    _Atomic uint64_t *foreign_bits; /* a bit for each unit: others have left data there */
    /* This process has the first mapping. In a page that the kernel zeroes in a child. */
    bool *owns_mapping;
    bool is_mallocs; /* libivshmem-malloc serves blocks of it */
    bool has_mutex, has_handlers;

    /* What the mutex guards. It is held only for a short time. */
    pthread_mutex_t mutex;
    pthread_cond_t fork_done;
    bool is_forking;
    uint32_t freed_meanwhile; /* a list of runs */
    /* The beginning of a free extent that has not been returned to the region yet. */
    uint32_t spared_run;
    struct ivshm_runs runs;
    /* By block: how many blocks its extent has, if it is the first of them. */
    uint32_t *extent_blocks;
    /* The same file mapped privately, to replace the second mapping; NULL if that is impossible. */
    void *private_view;
    /* During a fork: private memory with what the child will have. */
    char *fork_copy;
    /* `size`, or less: then the extents follow each other without gaps. */
    uint64_t fork_copy_bytes;
    bool is_private; /* private memory has replaced the second mapping */
    bool is_of_file; /* that private memory is a private mapping of the file */
    void *reserve_mappings[RESERVE];

    /* Read without the mutex: on cache lines of their own, as each call writes the others. */
    _Alignas(IVSHM_LINE) _Atomic uint64_t largest_free; /* bytes: no free run is larger */
    _Atomic bool is_protected; /* the program may have made some pages inaccessible */
    _Atomic bool is_locked;    /* the program may have locked some pages in memory */
    struct alloc_policy for_malloc, for_messages;
    /* The thread that holds the mutex and was interrupted by a signal handler that forks; or 0. */
    pthread_t interrupted_thread;
} user_memory = {.mutex = PTHREAD_MUTEX_INITIALIZER,
                 .fork_done = PTHREAD_COND_INITIALIZER,
                 .freed_meanwhile = IVSHM_RUN_NONE,
                 .spared_run = IVSHM_RUN_NONE};

bool MPID_nem_ivshmem_memory_in_use(void)
{
    return MPID_nem_ivshmem.joined && MPID_nem_ivshmem.user;
}

static bool is_in_region(const void *start)
{
    return MPID_nem_ivshmem_memory_in_use() &&
           (uintptr_t) start - (uintptr_t) user_memory.base < user_memory.size;
}

static uint64_t table_bytes(void)
{
    uint64_t units = ivshm_region_blocks(&MPID_nem_ivshmem.region) *
                     (user_memory.block_size / user_memory.unit_bytes);
    return (units + 1) * sizeof(struct ivshm_run) +
           (units / 64 + 1) * sizeof(*user_memory.foreign_bits);
}

/*
 * A signal handler may interrupt a thread that holds the mutex, and fork. So the mutex is of a kind
 * that tells, at any instruction, whether this thread holds it.
 */
static void make_mutex(void)
{
    pthread_mutexattr_t attr;

    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&user_memory.mutex, &attr);
    pthread_mutexattr_destroy(&attr);
}

/* False if this thread holds it already. */
static bool lock_tables(void)
{
    return pthread_mutex_lock(&user_memory.mutex) != EDEADLK;
}

static void unlock_tables(void)
{
    pthread_mutex_unlock(&user_memory.mutex);
}

static bool lock_when_forked(void)
{
    int was;

    if (!lock_tables())
        return false;
    /* a thread cancelled there would keep the mutex */
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &was);
    while (user_memory.is_forking)
        pthread_cond_wait(&user_memory.fork_done, &user_memory.mutex);
    pthread_setcancelstate(was, NULL);
    return true;
}

/*
 * Whether this is a child of _Fork(3) or clone(2), which ran no handler. It has the second mapping
 * alone. If it allocated or freed there, that would change its parent's memory.
 */
static bool is_stranger(void)
{
    return user_memory.owns_mapping && !*user_memory.owns_mapping && !user_memory.is_private;
}

/* What corresponds to `user_memory.base` in the first mapping. */
static char *first_base(void)
{
    return is_stranger() ? user_memory.base : ivshm_region_base(&MPID_nem_ivshmem.region);
}

/* The unit at which a block begins; IVSHM_RUN_NONE if `start` is not the beginning of a block. */
static uint32_t run_at(const void *start)
{
    uint64_t off = (uintptr_t) start - (uintptr_t) user_memory.first_block;

    if (!user_memory.base || (uintptr_t) start - (uintptr_t) user_memory.base >= user_memory.size ||
        (const char *) start < user_memory.first_block || off % user_memory.unit_bytes != 0 ||
        !ivshm_runs_used(&user_memory.runs, (uint32_t) (off / user_memory.unit_bytes)))
        return IVSHM_RUN_NONE;
    return (uint32_t) (off / user_memory.unit_bytes);
}

static uint64_t bytes_of(uint32_t run)
{
    return ivshm_runs_used(&user_memory.runs, run) * user_memory.unit_bytes;
}

/* Allocating and freeing */

/* In `user_memory.extent_blocks`: a block that is not the first of its extent. */
#define FURTHER UINT32_MAX

static void note_extent(uint64_t block, uint64_t count)
{
    for (uint64_t i = 1; i < count; i++)
        user_memory.extent_blocks[block + i] = FURTHER;
    user_memory.extent_blocks[block] = (uint32_t) count;
}

/*
 * Whether we have any of these blocks already. Then the block map is wrong: anybody can write
 * there.
 */
static bool is_held(uint64_t block, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (user_memory.extent_blocks[block + i])
            return true;
    return false;
}

/* Allocates an extent. False if the region has none, or returns one that we have already. */
static bool add_extent(uint64_t bytes, const struct alloc_policy *policy)
{
    struct ivshm_region *region = &MPID_nem_ivshmem.region;
    struct ivshm_owner self = ivshm_transport_self(&MPID_nem_ivshmem.transport);
    ivshm_off off;

    if ((!policy->is_needed && !ivshm_extent_can_spare(region, bytes + policy->leaves)) ||
        ivshm_extent_alloc(region, self, IVSHM_KIND_USER, bytes, &off) != 0)
        return false;
    IVSHM_TRACEPOINT(user_allocated);
    uint64_t block = (off.bytes - ivshm_region_first_block(region).bytes) / user_memory.block_size;
    uint64_t count = (bytes + user_memory.block_size - 1) / user_memory.block_size;
    if (is_held(block, count))
        return false;
    note_extent(block, count);
    uint64_t first = block * (user_memory.block_size / user_memory.unit_bytes),
             end = first + count * (user_memory.block_size / user_memory.unit_bytes);
    for (uint64_t i = first; i < end; i++)
        atomic_fetch_or_explicit(&user_memory.foreign_bits[i / 64], UINT64_C(1) << i % 64,
                                 memory_order_relaxed);
    ivshm_runs_add(&user_memory.runs, (uint32_t) first, (uint32_t) (end - first));
    return true;
}

static uint64_t now_ms(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
    return (uint64_t) time.tv_sec * 1000 + (uint64_t) time.tv_nsec / 1000000;
}

static bool is_refused(const struct alloc_policy *policy, uint64_t bytes)
{
    return bytes >= policy->refused && now_ms() < policy->until;
}

/* For readers that do not hold the mutex. */
static void update_largest_free(void)
{
    user_memory.largest_free = ivshm_runs_largest(&user_memory.runs) * user_memory.unit_bytes;
}

/* Returns the extent at `run`, all of which is free, to the region. */
static void release_extent(uint32_t run)
{
    uint64_t bytes = ivshm_runs_remove(&user_memory.runs, run) * user_memory.unit_bytes;
    char *start = user_memory.first_block + run * user_memory.unit_bytes;
    ivshm_extent_free(&MPID_nem_ivshmem.region, ivshm_transport_self(&MPID_nem_ivshmem.transport),
                      MPID_nem_ivshmem_offset_of(start), bytes);
    memset(&user_memory.extent_blocks[(uint64_t) (start - user_memory.first_block) /
                                      user_memory.block_size],
           0, bytes / user_memory.block_size * sizeof(*user_memory.extent_blocks));
    user_memory.for_malloc.refused = user_memory.for_messages.refused = UINT64_MAX;
}

/* Returns the extent that release_later has spared. False if there is none, or if it is in use. */
static bool release_spared(void)
{
    uint32_t run = user_memory.spared_run;

    user_memory.spared_run = IVSHM_RUN_NONE;
    if (run == IVSHM_RUN_NONE || user_memory.is_private ||
        !ivshm_runs_is_span(&user_memory.runs, run))
        return false;
    release_extent(run);
    return true;
}

/*
 * Returns a free extent to the region, except for some that are kept. The last one is spared for
 * now: a program that frees a large block may want another at once, and memory from the region must
 * be zeroed first.
 */
static void release_later(uint32_t run)
{
    uint64_t kept = ivshm_region_size(&MPID_nem_ivshmem.region) /
                    (user_memory.is_mallocs ? KEPT_SHARES : SHARES);

    if (user_memory.is_private || !ivshm_runs_is_span(&user_memory.runs, run) ||
        ivshm_runs_free_span_units(&user_memory.runs) * user_memory.unit_bytes <= kept)
        return;
    if (user_memory.spared_run != run)
        release_spared();
    user_memory.spared_run = run;
}

/* Allocates an extent with room for `bytes`, and for more blocks if the region has enough. */
static bool acquire_extent(uint64_t bytes, struct alloc_policy *policy)
{
    uint64_t share = MPL_MIN(ivshm_region_size(&MPID_nem_ivshmem.region) / SHARES, SHARE_MAX);

    if (bytes > user_memory.size)
        return false;
    bool found = (bytes < share && add_extent(share, policy)) || add_extent(bytes, policy) ||
                 (release_spared() && add_extent(bytes, policy));
    policy->refused = found ? UINT64_MAX : MPL_MIN(bytes, policy->refused);
    policy->until = now_ms() + RETRY_MS;
    return found;
}

/* Zeroes the parts of a newly allocated block that hold data of others, or all of it. */
static void clean_units(char *start, uint64_t bytes, bool all)
{
    uint64_t first = (uint64_t) (start - user_memory.first_block) / user_memory.unit_bytes,
             end = first + bytes / user_memory.unit_bytes;

    for (uint64_t i = first, next; i < end; i = next) {
        next = MPL_MIN((i / 64 + 1) * 64, end);
        uint64_t mask = UINT64_MAX >> (64 - (next - i)) << i % 64;
        uint64_t dirty =
            mask & atomic_load_explicit(&user_memory.foreign_bits[i / 64], memory_order_relaxed);
        if (!dirty)
            continue;
        atomic_fetch_and_explicit(&user_memory.foreign_bits[i / 64], ~mask, memory_order_relaxed);
        if (all)
            continue;
        if (dirty == mask)
            memset(user_memory.first_block + i * user_memory.unit_bytes, 0,
                   (next - i) * user_memory.unit_bytes);
        else
            for (; dirty; dirty &= dirty - 1)
                memset(user_memory.first_block + (i / 64 * 64 + (uint64_t) __builtin_ctzll(dirty)) *
                                                     user_memory.unit_bytes,
                       0, user_memory.unit_bytes);
    }
    if (all)
        memset(start, 0, bytes);
}

static void *alloc_block(uint64_t bytes, struct alloc_policy *policy, bool all_zero)
{
    uint32_t run = IVSHM_RUN_NONE;
    uint64_t room = 0;

    if (bytes > user_memory.largest_free && is_refused(policy, bytes))
        return NULL;
    if (policy->can_wait)
        lock_when_forked();
    else
        lock_tables();
    if (user_memory.base && !user_memory.is_private && !user_memory.is_forking && !is_stranger() &&
        bytes > 0 && bytes <= user_memory.size) {
        uint32_t units = (uint32_t) ((bytes + user_memory.unit_bytes - 1) / user_memory.unit_bytes);
        run = ivshm_runs_alloc(&user_memory.runs, units);
        if (run == IVSHM_RUN_NONE && !is_refused(policy, bytes) && acquire_extent(bytes, policy))
            run = ivshm_runs_alloc(&user_memory.runs, units);
        update_largest_free();
        room = units * user_memory.unit_bytes;
    }
    unlock_tables();
    if (run == IVSHM_RUN_NONE)
        return NULL;
    char *start = user_memory.first_block + run * user_memory.unit_bytes;
    clean_units(start, room, all_zero);
    return start;
}

static void free_run(uint32_t run)
{
    char *start = user_memory.first_block + run * user_memory.unit_bytes;

    if (user_memory.is_protected)
        syscall(SYS_mprotect, start, bytes_of(run), PROT_READ | PROT_WRITE);
    if (user_memory.is_locked)
        munlock(start, bytes_of(run));
    /* The address range stays ours: it distinguishes our blocks from the C library's. */
    if (user_memory.is_private)
        syscall(SYS_madvise, start, bytes_of(run), MADV_DONTNEED);
    release_later(ivshm_runs_free(&user_memory.runs, run));
    update_largest_free();
}

static bool free_block(void *start)
{
    int saved = errno;

    lock_tables();
    uint32_t run = run_at(start);
    bool is_right = run != IVSHM_RUN_NONE &&
                    (!user_memory.is_forking ||
                     ivshm_runs_push(&user_memory.runs, &user_memory.freed_meanwhile, run));
    if (is_right && !user_memory.is_forking && !is_stranger())
        free_run(run);
    unlock_tables();
    errno = saved;
    return is_right;
}

/*
 * This memory is for others to see. They must not see what this process had there before either, so
 * all of it is zeroed.
 */
void *MPID_nem_ivshmem_memory_alloc(MPI_Aint bytes)
{
    struct alloc_policy policy = {.can_wait = true, .refused = UINT64_MAX};
    return alloc_block((uint64_t) bytes, &policy, true);
}

/* For what cannot work without it: may also take the memory that stays free for ranks that join. */
void *MPID_nem_ivshmem_memory_alloc_required(MPI_Aint bytes)
{
    struct alloc_policy policy = {.can_wait = true, .is_needed = true, .refused = UINT64_MAX};
    return alloc_block((uint64_t) bytes, &policy, true);
}

bool MPID_nem_ivshmem_memory_free(void *start)
{
    return free_block(start);
}

/* Called now and then: others may want the memory that was kept for reuse. */
void MPID_nem_ivshmem_memory_trim(void)
{
    lock_tables();
    if (user_memory.base && !user_memory.is_forking && !is_stranger() && release_spared())
        update_largest_free();
    unlock_tables();
}

void *MPIDI_CH3I_Alloc_mem(MPI_Aint bytes, MPIR_Info *info_ptr ATTRIBUTE((unused)))
{
    void *start = bytes < MESSAGE_MIN
                      ? NULL
                      : alloc_block((uint64_t) bytes, &user_memory.for_messages, false);
    if (start)
        MPID_nem_ivshmem_limit_prefer_single_copy();
    return start ? start : MPL_malloc(bytes, MPL_MEM_USER);
}

int MPIDI_CH3I_Free_mem(void *start)
{
    if (is_in_region(start))
        free_block(start);
    else
        MPL_free(start);
    return MPI_SUCCESS;
}

bool MPID_nem_ivshmem_memory_find(const void *start, intptr_t bytes, ivshm_off *off)
{
    if (!is_in_region(start))
        return false;
    *off = MPID_nem_ivshmem_offset_of(start);
    return ivshm_extent_covers(&MPID_nem_ivshmem.region,
                               ivshm_transport_self(&MPID_nem_ivshmem.transport), IVSHM_KIND_USER,
                               *off, (uint64_t) bytes);
}

/* The block is never allocated again: a peer was writing into it when its connection failed. */
void MPID_nem_ivshmem_memory_quarantine(const void *start)
{
    lock_tables();
    if (user_memory.base && (const char *) start >= user_memory.first_block) {
        uint32_t run = ivshm_runs_find(
            &user_memory.runs,
            (uint32_t) ((uint64_t) ((const char *) start - user_memory.first_block) /
                        user_memory.unit_bytes));
        if (run != IVSHM_RUN_NONE)
            ivshm_runs_keep(&user_memory.runs, run);
    }
    unlock_tables();
}

/* For libivshmem-malloc */

/* MPI_Init itself allocates some MiB, which are neither sent nor for others to see. */
static void *malloc_alloc_block(size_t bytes, bool all_zero)
{
    if (MPL_atomic_load_int(&MPIR_Process.mpich_state) != MPICH_MPI_STATE__INITIALIZED)
        return NULL;
    return alloc_block(bytes, &user_memory.for_malloc, all_zero);
}

static void malloc_free_block(void *start)
{
    if (!free_block(start)) {
        fputs("free(): invalid pointer\n", stderr);
        abort();
    }
}

static size_t malloc_room(const void *start)
{
    lock_tables();
    uint32_t run = run_at(start);
    size_t room = run == IVSHM_RUN_NONE ? 0 : bytes_of(run);
    unlock_tables();
    return room;
}

static void malloc_protected(void)
{
    user_memory.is_protected = true;
}

static void malloc_locked(void)
{
    user_memory.is_locked = true;
}

/* Zeroes this process' own memory, in a private mapping of the file. */
static void zero_private(char *start, size_t bytes)
{
    for (char *page = start; page < start + bytes; page += IVSHM_PAGE) {
        /* The kernel tells whether the page can be written, and whether it can be read. */
        if (!user_memory.is_protected || syscall(SYS_clock_getres, CLOCK_MONOTONIC, page) == 0) {
            memset(page, 0, IVSHM_PAGE);
        } else {
            bool is_readable = faccessat(AT_FDCWD, page, F_OK, 0) == 0 || errno != EFAULT;
            mmap(page, IVSHM_PAGE, is_readable ? PROT_READ : PROT_NONE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
        }
    }
}

/* Memory of a file keeps its contents when they are not needed; anonymous memory does not. */
static bool malloc_discard(void *start, size_t bytes, bool to_zero)
{
    uint64_t off = (uintptr_t) start - (uintptr_t) user_memory.first_block;

    lock_tables();
    uint32_t run =
        (const char *) start < user_memory.first_block
            ? IVSHM_RUN_NONE
            : ivshm_runs_find(&user_memory.runs, (uint32_t) (off / user_memory.unit_bytes));
    bool is_ours = run != IVSHM_RUN_NONE &&
                   bytes <= run * user_memory.unit_bytes + bytes_of(run) - off &&
                   (!user_memory.is_private || user_memory.is_of_file);
    char *at = start, *end = at + bytes;
    while (is_ours && to_zero && at < end && !user_memory.is_private) {
        size_t part = MPL_MIN((size_t) (end - at), DISCARD_PART);
        memset(first_base() + (at - user_memory.base), 0, part);
        at += part;
        unlock_tables(); /* others wait for the mutex */
        lock_tables();
    }
    bool was_private = user_memory.is_private;
    unlock_tables();
    if (!is_ours || !to_zero || at == end || !was_private)
        return is_ours;
    if (!user_memory.is_of_file) /* it has just been replaced */
        return syscall(SYS_madvise, start, bytes, MADV_DONTNEED) == 0;
    zero_private(at, (size_t) (end - at));
    return true;
}

/* Private memory in place of the second mapping */

/* Extents that follow each other without a gap. */
struct stretch {
    char *start; /* NULL: look for the first */
    uint64_t bytes;
};

/* The next stretch; false if there is none. */
static bool next_stretch(struct stretch *stretch)
{
    uint64_t count = ivshm_region_blocks(&MPID_nem_ivshmem.region), first = 0, end;

    if (stretch->start)
        first = ((uint64_t) (stretch->start - user_memory.first_block) + stretch->bytes) /
                user_memory.block_size;
    while (first < count && !user_memory.extent_blocks[first])
        first++;
    for (end = first; end < count && user_memory.extent_blocks[end];)
        end += user_memory.extent_blocks[end];
    *stretch = (struct stretch){user_memory.first_block + first * user_memory.block_size,
                                (end - first) * user_memory.block_size};
    return stretch->bytes > 0;
}

/* Calls `call` for each block of the program in the stretch. `to` advances with the blocks. */
static void for_each_block(struct stretch in, void (*call)(char *start, uint64_t bytes, char *to),
                           char *to)
{
    uint64_t first = (uint64_t) (in.start - user_memory.first_block) / user_memory.unit_bytes,
             end = first + in.bytes / user_memory.unit_bytes;

    for (uint64_t run = first; run < end; run = ivshm_runs_next(&user_memory.runs, (uint32_t) run))
        if (bytes_of((uint32_t) run) > 0)
            call(user_memory.first_block + run * user_memory.unit_bytes, bytes_of((uint32_t) run),
                 to + (run - first) * user_memory.unit_bytes);
}

static void copy_block(char *start, uint64_t bytes, char *to)
{
    memcpy(to, first_base() + (start - user_memory.base), bytes);
}

/* Makes each page of the block this process' own, whatever other threads are writing there. */
static void own_block(char *start, uint64_t bytes, char *to ATTRIBUTE((unused)))
{
    for (char *page = start; page < start + bytes; page += IVSHM_PAGE) {
        char found = __atomic_load_n(page, __ATOMIC_RELAXED);
        __atomic_compare_exchange_n(page, &found, found, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    }
}

/*
 * The kernel limits the number of a process' mappings, and replacing the second mapping must not
 * fail for that. Each reserve mapping has a file of its own, so that the kernel does not merge
 * them.
 */
static void map_reserve(void)
{
    for (int i = 0; i < RESERVE; i++)
        if (!user_memory.reserve_mappings[i]) {
            user_memory.reserve_mappings[i] = mmap(
                NULL, IVSHM_PAGE, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (user_memory.reserve_mappings[i] == MAP_FAILED)
                user_memory.reserve_mappings[i] = NULL;
        }
}

static void unmap_reserve(void)
{
    for (int i = 0; i < RESERVE; i++)
        if (user_memory.reserve_mappings[i]) {
            munmap(user_memory.reserve_mappings[i], IVSHM_PAGE);
            user_memory.reserve_mappings[i] = NULL;
        }
}

/*
 * The copy must not be locked, even after mlockall(MCL_FUTURE): that would take memory for all of
 * it at once.
 */
static bool map_copy(uint64_t bytes)
{
    user_memory.fork_copy =
        mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    user_memory.fork_copy_bytes = bytes;
    if (user_memory.fork_copy == MAP_FAILED) {
        user_memory.fork_copy = NULL;
    } else if (munlock(user_memory.fork_copy, bytes) != 0 ||
               mprotect(user_memory.fork_copy, bytes, PROT_READ | PROT_WRITE) != 0) {
        munmap(user_memory.fork_copy, bytes);
        user_memory.fork_copy = NULL;
    }
    return user_memory.fork_copy != NULL;
}

/*
 * Makes a copy, at another address, of all blocks that the program has. Its mapping is as large as
 * the region, but no more memory is used than the blocks need. If so much cannot be mapped and
 * `can_be_packed`, only the stretches are mapped, without gaps.
 */
static bool make_copy(bool can_be_packed)
{
    uint64_t used = 0, at = 0;

    if (!map_copy(user_memory.size)) {
        unmap_reserve();
        for (struct stretch s = {0}; next_stretch(&s);)
            used += s.bytes;
        if (!map_copy(user_memory.size) && (!can_be_packed || used == 0 || !map_copy(used)))
            return false;
    }
    for (struct stretch s = {0}; next_stretch(&s); at += s.bytes)
        for_each_block(s, copy_block,
                       user_memory.fork_copy + (user_memory.fork_copy_bytes < user_memory.size
                                                    ? at
                                                    : (uint64_t) (s.start - user_memory.base)));
    return true;
}

/* `with` replaces the second mapping, for other threads too in a single step. */
static bool replace_by(void *with)
{
    unmap_reserve();
    user_memory.is_private = mremap(with, user_memory.size, user_memory.size,
                                    MREMAP_MAYMOVE | MREMAP_FIXED, user_memory.base) != MAP_FAILED;
    return user_memory.is_private;
}

/*
 * The same stretch by stretch, in a child, which has no other threads. A stretch that cannot be
 * moved for lack of a mapping stays inaccessible.
 */
static bool replace_by_packed(void)
{
    char *from = user_memory.fork_copy;

    unmap_reserve();
    if (mmap(user_memory.base, user_memory.size, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
        return false;
    for (struct stretch s = {0}; next_stretch(&s); from += s.bytes)
        if (mremap(from, s.bytes, s.bytes, MREMAP_MAYMOVE | MREMAP_FIXED, s.start) == MAP_FAILED)
            break;
    return true;
}

static void copy_and_replace(void)
{
    if (make_copy(false) && !replace_by(user_memory.fork_copy))
        munmap(user_memory.fork_copy, user_memory.fork_copy_bytes);
}

static bool make_copy_private(void)
{
    if (ivshmem_stack_is_in(user_memory.base, user_memory.size))
        return ivshmem_call_elsewhere(copy_and_replace) && user_memory.is_private;
    copy_and_replace();
    return user_memory.is_private;
}

/* /proc/self/task has two links, and one for each thread. False also where there is no /proc. */
static bool has_one_thread(void)
{
    struct stat tasks;
    return stat("/proc/self/task", &tasks) == 0 && tasks.st_nlink == 3;
}

/*
 * At the end of MPI. The program gets a copy. If other threads may store in the meantime, a private
 * mapping of the file comes first, so that no store is lost. Page by page, that mapping becomes
 * this process' own. But if the file is truncated, the kernel takes those pages away too.
 */
static bool make_private(void)
{
    bool is_copied = has_one_thread() && make_copy_private();

    if (!is_copied && user_memory.private_view &&
        mprotect(user_memory.private_view, user_memory.size, PROT_READ | PROT_WRITE) == 0 &&
        madvise(user_memory.private_view, user_memory.size, MADV_DOFORK) == 0 &&
        replace_by(user_memory.private_view)) {
        user_memory.is_of_file = true;
        for (struct stretch s = {0}; next_stretch(&s);)
            for_each_block(s, own_block, s.start);
        return true;
    }
    if (user_memory.private_view)
        munmap(user_memory.private_view, user_memory.size);
    user_memory.private_view = NULL;
    return is_copied || make_copy_private();
}

bool MPID_nem_ivshmem_memory_is_of_file(void)
{
    return user_memory.is_of_file;
}

/* The child gets what there was before the fork. */

static void before_fork(void)
{
    /* This thread cannot wait for itself: its child gets no copy. */
    if (!lock_when_forked()) {
        user_memory.interrupted_thread = pthread_self();
        return;
    }
    user_memory.is_forking = true;
    unlock_tables();
    if (user_memory.base && !user_memory.is_private)
        make_copy(true);
}

static void after_fork_in_parent(void)
{
    if (user_memory.interrupted_thread == pthread_self()) {
        user_memory.interrupted_thread = 0;
        return;
    }
    if (user_memory.base && !user_memory.is_private) {
        if (user_memory.fork_copy)
            munmap(user_memory.fork_copy, user_memory.fork_copy_bytes);
        user_memory.fork_copy = NULL;
        map_reserve();
    }
    lock_tables();
    user_memory.is_forking = false;
    for (uint32_t run;
         (run = ivshm_runs_pop(&user_memory.runs, &user_memory.freed_meanwhile)) != IVSHM_RUN_NONE;)
        free_run(run);
    pthread_cond_broadcast(&user_memory.fork_done);
    unlock_tables();
}

/*
 * Blocks that other threads freed during the fork are not free here: their notes may be incomplete
 * here.
 */
static void after_fork_in_child(void)
{
    bool is_interrupted = user_memory.interrupted_thread == pthread_self();

    user_memory.interrupted_thread = 0;
    make_mutex(); /* other threads may have held it */
    if (is_interrupted)
        lock_tables(); /* for the code that the signal handler interrupted */
    user_memory.fork_done = (pthread_cond_t) PTHREAD_COND_INITIALIZER;
    user_memory.is_forking = false;
    user_memory.freed_meanwhile = IVSHM_RUN_NONE;
    if (user_memory.owns_mapping)
        *user_memory.owns_mapping = true;
    if (user_memory.base && !user_memory.is_private) {
        /*
         * Without a copy, the child can read, but not write into memory that may belong to another
         * process later.
         */
        if (is_interrupted || !user_memory.fork_copy ||
            !(user_memory.fork_copy_bytes == user_memory.size ? replace_by(user_memory.fork_copy)
                                                              : replace_by_packed()))
            mprotect(user_memory.base, user_memory.size, PROT_READ);
        user_memory.is_private = true;
    }
    user_memory.private_view = NULL; /* does not exist in a child */
}

static bool serve_malloc(void)
{
    static struct ivshmem_malloc_source source = {
        .min = MALLOC_MIN,
        .alignment = IVSHM_PAGE,
        .alloc_block = malloc_alloc_block,
        .free_block = malloc_free_block,
        .room = malloc_room,
        .protected = malloc_protected,
        .locked = malloc_locked,
        .discard = malloc_discard,
        .before_fork = before_fork,
        .after_fork_in_parent = after_fork_in_parent,
        .after_fork_in_child = after_fork_in_child,
    };

    source.base = user_memory.base;
    source.bytes = user_memory.size;
    return ivshmem_malloc_serve && ivshmem_malloc_serve(&source);
}

/* Start and shutdown */

/*
 * Maps the file privately. Impossible for memory of a device, and for huge pages when no spare ones
 * exist.
 */
static void map_view(int fd)
{
    struct statfs fs;

    user_memory.private_view = NULL;
    if (ivshm_region_is_device(&MPID_nem_ivshmem.region) || fstatfs(fd, &fs) != 0 ||
        fs.f_type == HUGETLBFS_MAGIC)
        return;
    user_memory.private_view =
        mmap(NULL, user_memory.size, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
    if (user_memory.private_view == MAP_FAILED)
        user_memory.private_view = NULL;
    else
        madvise(user_memory.private_view, user_memory.size, MADV_DONTFORK);
}

/* Maps the region again. False if that is impossible: then the program has no memory there. */
static bool map_again(bool is_limited)
{
    const struct ivshm_region *region = &MPID_nem_ivshmem.region;
    int fd = ivshm_map_reopen(ivshm_region_map(region));

    if (fd < 0)
        return false;
    user_memory.size = ivshm_map_size(ivshm_region_map(region));
    void *found = ivshm_map_again(ivshm_region_map(region), fd);
    if (found != MAP_FAILED && !is_limited)
        map_view(fd);
    close(fd);
    if (found == MAP_FAILED)
        return false;
    user_memory.base = found;
    user_memory.first_block = user_memory.base + ivshm_region_first_block(region).bytes;
    return true;
}

static void forget_memory(void)
{
    if (user_memory.private_view)
        munmap(user_memory.private_view, user_memory.size);
    if (user_memory.base)
        munmap(user_memory.base, user_memory.size);
    if (user_memory.run_table)
        munmap(user_memory.run_table, table_bytes());
    MPL_free(user_memory.extent_blocks);
    if (user_memory.owns_mapping)
        munmap(user_memory.owns_mapping, IVSHM_PAGE);
    unmap_reserve();
    user_memory.owns_mapping = NULL;
    user_memory.private_view = user_memory.base = NULL;
    user_memory.run_table = NULL;
    user_memory.extent_blocks = NULL;
    MPID_nem_ivshmem.user = NULL;
}

static bool make_tables(void)
{
    const uint64_t count = ivshm_region_blocks(&MPID_nem_ivshmem.region);

    user_memory.block_size = ivshm_region_block_size(&MPID_nem_ivshmem.region);
    for (user_memory.unit_bytes = IVSHM_PAGE;
         count * user_memory.block_size / user_memory.unit_bytes > UNITS_MAX;
         user_memory.unit_bytes *= 2)
        ;
    user_memory.extent_blocks = MPL_calloc(count, sizeof(*user_memory.extent_blocks), MPL_MEM_USER);
    struct ivshm_run *table = mmap(NULL, table_bytes(), PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (table == MAP_FAILED)
        return false;
    user_memory.run_table = table;
    ivshm_runs_init(&user_memory.runs, table);
    user_memory.foreign_bits =
        (_Atomic uint64_t *) (table + count * (user_memory.block_size / user_memory.unit_bytes) +
                              1);
    return user_memory.extent_blocks != NULL;
}

static bool know_owner(void)
{
    void *page = mmap(NULL, IVSHM_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED)
        return false;
    if (madvise(page, IVSHM_PAGE, MADV_WIPEONFORK) != 0) {
        munmap(page, IVSHM_PAGE);
        return false;
    }
    user_memory.owns_mapping = page;
    *user_memory.owns_mapping = true;
    return true;
}

static bool is_limited_by(int resource)
{
    struct rlimit limit;
    return getrlimit(resource, &limit) != 0 || limit.rlim_cur != RLIM_INFINITY;
}

int MPID_nem_ivshmem_memory_init(void)
{
    const struct ivshm_region *region = &MPID_nem_ivshmem.region;
    bool is_limited = is_limited_by(RLIMIT_AS) || is_limited_by(RLIMIT_DATA);

    /* What a child of a fork inherits of MPI's state must not lead it to the region. */
    madvise(ivshm_region_base(region), ivshm_region_size(region), MADV_DONTFORK);
    if (!MPIR_CVAR_NEMESIS_IVSHMEM_USER_MEMORY ||
        user_memory.is_mallocs /* in an earlier MPI_Init */)
        goto fn_exit;
    if (!user_memory.has_mutex)
        make_mutex();
    user_memory.has_mutex = true;
    lock_when_forked();
    if (map_again(is_limited) && make_tables() && know_owner()) {
        MPID_nem_ivshmem.user = user_memory.base;
        user_memory.for_malloc.leaves = ivshm_region_size(region) / MALLOC_LEAVES;
        user_memory.for_malloc.refused = user_memory.for_messages.refused = UINT64_MAX;
        map_reserve();
    } else {
        forget_memory();
    }
    unlock_tables();
    if (!user_memory.base)
        goto fn_exit;
    /*
     * malloc's address range stays reserved forever, which needs enough address space. Its blocks
     * are discarded, protected and copied by pages of the region. Where the processor's pages are
     * larger, as they may be on arm64, those of two blocks could share one.
     */
    user_memory.is_mallocs = !is_limited && sysconf(_SC_PAGESIZE) <= IVSHM_PAGE && serve_malloc();
    if (user_memory.is_mallocs)
        MPID_nem_ivshmem_limit_prefer_single_copy();
    else if (!user_memory.has_handlers)
        user_memory.has_handlers =
            pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) == 0;

fn_exit:
    return MPI_SUCCESS;
}

/*
 * What the program has not freed goes with the endpoint, but malloc's blocks must stay. False if
 * they cannot be made private: then the region must not be left before the process ends.
 */
bool MPID_nem_ivshmem_memory_finalize(void)
{
    bool can_leave = true;

    lock_when_forked();
    if (!user_memory.is_mallocs)
        forget_memory();
    else if (!user_memory.is_private)
        can_leave = make_private();
    unlock_tables();
    return can_leave;
}
