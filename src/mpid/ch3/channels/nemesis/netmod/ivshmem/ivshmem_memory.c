/* SPDX-License-Identifier: mpich2 */
/*
 * Memory in the region for the program: for MPI_Alloc_mem, for windows, and for malloc where
 * libivshmem-malloc is loaded. Large messages from or to it are copied once. What the region cannot
 * spare, and what is small and for messages, comes from the C library.
 *
 * malloc is called by any thread at any time, also without MPICH's lock, and malloc's blocks
 * outlive MPI, and a fork: so there is a lock here, and, when the process leaves the region or is
 * the child of a fork, what it has becomes its own, at the same addresses.
 */
#include "ivshmem_netmod.h"

#include "ivshmem_malloc.h"

#include <pthread.h>
#include <sys/mman.h>

#define MESSAGE_MIN (12 << 10) /* bytes: nothing smaller is sent by rendezvous */
#define MALLOC_MIN (16 << 10)  /* worth a system of its own */
#define MALLOC_LEAVES 4        /* one part in so many, beside what nobody takes */
#define CREDITS 256            /* in the region, so that those of many ranks are not much of it */
#define CREDITS_KEPT 64        /* of one rank */
#define REFUSALS_PER_LOOK 64

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* of all that follows */
static uint32_t *extents; /* by their first block: the number of blocks; NULL outside the region */
static char *blocks;      /* the first one */
static uint64_t block_size, block_count, extent_count;
static uint64_t credit; /* bytes that malloc may take before it looks again what can be spared */
static bool is_private; /* we have left: what there is is not the region's any more */

#define LOST UINT32_C(0x80000000) /* a peer may still write into the extent */

static bool is_in_region(const void *start)
{
    const char *base = MPID_nem_ivshmem.region.map.base;
    return MPID_nem_ivshmem.joined && (const char *) start >= base &&
           (const char *) start < base + MPID_nem_ivshmem.region.geo.size;
}

bool MPID_nem_ivshmem_memory_in_use(void)
{
    return MPID_nem_ivshmem.joined && MPIR_CVAR_NEMESIS_IVSHMEM_USER_MEMORY;
}

/* The entry of the extent that begins at `start`, or NULL. */
static uint32_t *extent_at(const void *start)
{
    uint64_t off = (uint64_t) ((const char *) start - blocks);
    return extents && start && off % block_size == 0 && off / block_size < block_count &&
                   extents[off / block_size]
               ? &extents[off / block_size]
               : NULL;
}

static char *start_of(const uint32_t *extent)
{
    return blocks + (uint64_t) (extent - extents) * block_size;
}

static uint64_t bytes_of(const uint32_t *extent)
{
    return (*extent & ~LOST) * block_size;
}

static void *take(uint64_t bytes)
{
    struct ivshm_owner self = MPID_nem_ivshmem.transport.endpoint.owner;
    ivshm_off off;

    if (is_private ||
        ivshm_extent_alloc(&MPID_nem_ivshmem.region, self, IVSHM_KIND_USER, bytes, &off) != 0)
        return NULL;
    IVSHM_POINT(user_allocated);
    char *start = (char *) MPID_nem_ivshmem.region.map.base + off.bytes;
    extents[(uint64_t) (start - blocks) / block_size] =
        (uint32_t) ((bytes + block_size - 1) / block_size);
    extent_count++;
    return start;
}

static bool give_back(void *start)
{
    uint32_t *extent = extent_at(start);

    if (!extent)
        return false;
    if (is_private) /* the addresses stay ours, by which a block is told from the C library's */
        madvise(start, bytes_of(extent), MADV_DONTNEED);
    else if (!(*extent & LOST))
        ivshm_extent_free(&MPID_nem_ivshmem.region, MPID_nem_ivshmem.transport.endpoint.owner,
                          MPID_nem_ivshmem_offset_of(start), bytes_of(extent));
    *extent = 0;
    extent_count--;
    return true;
}

void *MPID_nem_ivshmem_memory_take(MPI_Aint bytes)
{
    void *start = NULL;

    if (extents && bytes > 0 && ivshm_extent_spare(&MPID_nem_ivshmem.region, (uint64_t) bytes)) {
        pthread_mutex_lock(&mutex);
        start = take((uint64_t) bytes);
        pthread_mutex_unlock(&mutex);
    }
    return start;
}

/* For what there is no way without: also what stays free for those who join. */
void *MPID_nem_ivshmem_memory_need(MPI_Aint bytes)
{
    void *start = NULL;

    if (extents && bytes > 0) {
        pthread_mutex_lock(&mutex);
        start = take((uint64_t) bytes);
        pthread_mutex_unlock(&mutex);
    }
    return start;
}

bool MPID_nem_ivshmem_memory_give_back(void *start)
{
    pthread_mutex_lock(&mutex);
    bool found = give_back(start);
    pthread_mutex_unlock(&mutex);
    return found;
}

void *MPIDI_CH3I_Alloc_mem(MPI_Aint size, MPIR_Info *info_ptr ATTRIBUTE((unused)))
{
    void *start = size < MESSAGE_MIN ? NULL : MPID_nem_ivshmem_memory_take(size);
    if (start)
        MPID_nem_ivshmem_lmt_prefer_direct();
    return start ? start : MPL_malloc(size, MPL_MEM_USER);
}

int MPIDI_CH3I_Free_mem(void *start)
{
    if (is_in_region(start))
        MPID_nem_ivshmem_memory_give_back(start);
    else
        MPL_free(start);
    return MPI_SUCCESS;
}

bool MPID_nem_ivshmem_memory_find(const void *start, intptr_t bytes, ivshm_off *off)
{
    if (!is_in_region(start))
        return false;
    *off = MPID_nem_ivshmem_offset_of(start);
    return ivshm_extent_covers(&MPID_nem_ivshmem.region, MPID_nem_ivshmem.transport.endpoint.owner,
                               IVSHM_KIND_USER, *off, (uint64_t) bytes);
}

/* Not given to anybody else any more: a peer was writing into it when we lost sight of it. */
void MPID_nem_ivshmem_memory_lose(const void *start)
{
    const char *block = (const char *) start;

    pthread_mutex_lock(&mutex);
    for (block -= (uint64_t) (block - blocks) % block_size; block >= blocks; block -= block_size) {
        uint32_t *extent = extent_at(block);
        if (!extent)
            continue;
        if ((const char *) start < block + bytes_of(extent))
            *extent |= LOST;
        break;
    }
    pthread_mutex_unlock(&mutex);
}

/* For libivshmem-malloc */

/* Looks at the block map now and then, as that takes many microseconds. */
static bool is_spare(uint64_t bytes)
{
    static unsigned refusals;
    const struct ivshm_region *region = &MPID_nem_ivshmem.region;
    uint64_t ahead = region->geo.size / CREDITS;

    if (bytes <= credit) {
        credit -= bytes;
        return true;
    }
    if (refusals > 0 && refusals++ % REFUSALS_PER_LOOK != 0)
        return false;
    bool found = ivshm_extent_spare(region, bytes + ahead + region->geo.size / MALLOC_LEAVES);
    credit = found ? ahead : 0;
    refusals = found ? 0 : 1;
    return found;
}

static void *malloc_take(size_t bytes)
{
    pthread_mutex_lock(&mutex);
    void *start = !is_private && is_spare(bytes) ? take(bytes) : NULL;
    pthread_mutex_unlock(&mutex);
    return start;
}

static void malloc_give_back(void *start)
{
    pthread_mutex_lock(&mutex);
    uint32_t *extent = extent_at(start);
    if (!extent) {
        fputs("free(): invalid pointer\n", stderr);
        abort();
    }
    /* What is made and freed again and again is not worth a look. */
    credit += bytes_of(extent);
    credit = MPL_MIN(credit, MPID_nem_ivshmem.region.geo.size / CREDITS_KEPT);
    give_back(start);
    pthread_mutex_unlock(&mutex);
}

static size_t malloc_room(const void *start)
{
    pthread_mutex_lock(&mutex);
    uint32_t *extent = extent_at(start);
    size_t room = extent ? bytes_of(extent) : 0;
    pthread_mutex_unlock(&mutex);
    return room;
}

/* What the program has in the region becomes memory of its own, where it is. */
static void make_private(void)
{
    is_private = true;
    for (uint64_t i = 0, left = extent_count; left > 0; i++) {
        if (!extents[i])
            continue;
        left--;
        size_t bytes = bytes_of(&extents[i]);
        void *start = start_of(&extents[i]);
        void *copy = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (copy == MAP_FAILED || mremap(memcpy(copy, start, bytes), bytes, bytes,
                                         MREMAP_MAYMOVE | MREMAP_FIXED, start) == MAP_FAILED) {
            fprintf(stderr,
                    "ivshmem: no memory for the %zu bytes of malloc that are to outlive "
                    "the region here: %s\n",
                    bytes, strerror(errno));
            _exit(1);
        }
    }
}

/* The child's copy is made by the child, while the parent waits: else it would change under it. */

static int child_is_ready[2] = {-1, -1}; /* a pipe: it ends when the child closes it, or dies */

static void before_fork(void)
{
    pthread_mutex_lock(&mutex);
    if (extent_count > 0 && !is_private && pipe2(child_is_ready, O_CLOEXEC) != 0)
        child_is_ready[0] = child_is_ready[1] = -1;
}

static void after_fork_in_parent(void)
{
    char none;

    if (child_is_ready[1] >= 0) {
        close(child_is_ready[1]);
        while (read(child_is_ready[0], &none, 1) < 0 && errno == EINTR)
            ;
        close(child_is_ready[0]);
        child_is_ready[0] = child_is_ready[1] = -1;
    }
    pthread_mutex_unlock(&mutex);
}

static void after_fork_in_child(void)
{
    if (!is_private)
        make_private();
    if (child_is_ready[1] >= 0) {
        close(child_is_ready[0]);
        close(child_is_ready[1]);
        child_is_ready[0] = child_is_ready[1] = -1;
    }
    pthread_mutex_unlock(&mutex);
}

static void serve_malloc(void)
{
    static struct ivshmem_malloc_source source = {
        .min = MALLOC_MIN, .take = malloc_take, .give_back = malloc_give_back, .room = malloc_room};

    source.alignment = IVSHM_PAGE;
    source.base = MPID_nem_ivshmem.region.map.base;
    source.bytes = MPID_nem_ivshmem.region.geo.size;
    if (pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) == 0) {
        ivshmem_malloc_use(&source);
        MPID_nem_ivshmem_lmt_prefer_direct();
    }
}

bool MPID_nem_ivshmem_memory_is_mallocs(void)
{
    return ivshmem_malloc_use && MPID_nem_ivshmem_memory_in_use();
}

int MPID_nem_ivshmem_memory_init(void)
{
    const struct ivshm_region *region = &MPID_nem_ivshmem.region;
    int mpi_errno = MPI_SUCCESS;

    if (!MPID_nem_ivshmem_memory_in_use())
        goto fn_exit;
    extents = MPL_calloc(region->geo.blocks, sizeof(*extents), MPL_MEM_USER);
    MPIR_ERR_CHKANDJUMP(!extents, mpi_errno, MPI_ERR_OTHER, "**nomem");
    blocks = (char *) region->map.base + region->geo.data;
    block_size = region->geo.block_size;
    block_count = region->geo.blocks;
    if (MPID_nem_ivshmem_memory_is_mallocs())
        serve_malloc();

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/* What the program has not freed goes with the endpoint; but malloc's blocks are there to stay. */
void MPID_nem_ivshmem_memory_finalize(void)
{
    pthread_mutex_lock(&mutex);
    if (!MPID_nem_ivshmem_memory_is_mallocs()) {
        MPL_free(extents);
        extents = NULL;
        extent_count = 0;
    } else if (extents) {
        make_private();
    }
    pthread_mutex_unlock(&mutex);
}
