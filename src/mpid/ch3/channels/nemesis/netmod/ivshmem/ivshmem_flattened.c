/* SPDX-License-Identifier: mpich2 */
/*
 * Checks flattened datatypes, which a one-sided operation with a derived datatype carries. MPICH
 * would use one as its own data structure: a header and a chain of dataloops, which contain
 * addresses of the sender's memory. Here it is checked first, in our private copy. It must be a
 * chain inside the flattened datatype, made of loops that MPICH makes, and it must touch only
 * memory that the window opens. Fields that can be computed from the loops are computed, and
 * replace the peer's.
 *
 * The formats are those of MPIR_Typerep_flatten and MPIR_Dataloop_flatten, in MPICH's
 * src/mpi/datatype/typerep. Called by ivshmem_validate.c, under MPICH's global lock.
 */
#include "ivshmem_flattened.h"

#include "ivshmem_relation.h"
#include "ivshmem_packet.h"

#if MPICH_DATATYPE_ENGINE == MPICH_DATATYPE_ENGINE_DATALOOP

#include "dataloop_internal.h"

typedef struct {
    MPI_Aint size;
    MPI_Aint extent, ub, lb, true_ub, true_lb;
    int is_contig;
    int basic_type;
    MPI_Aint num_contig_blocks;
} header_t;

typedef struct {
    MPI_Aint bytes;
    MPII_Dataloop *origin; /* where the loops were in the sender's memory */
} loops_header_t;

#define DEPTH_MAX (MPII_DATALOOP_MAX_DATATYPE_DEPTH - 1) /* one more level is for the count */
#define PIECES_MAX (1 << 24) /* checked one by one, which takes some tens of milliseconds */
#define BYTES_MAX (MPIR_AINT_MAX / 64) /* so that MPICH's sums do not overflow */

typedef struct {
    const char *loops; /* all of them */
    MPI_Aint bytes;
    intptr_t origin;
    MPII_Dataloop *chain[DEPTH_MAX];
    const MPI_Aint *blocks[DEPTH_MAX], *offsets[DEPTH_MAX]; /* of indexed loops, or NULL */
    int depth;
} walk_t;

typedef MPID_nem_ivshmem_range_t range_t;

static int kind_of(const MPII_Dataloop *loop)
{
    return loop->kind & MPII_DATALOOP_KIND_MASK;
}

static bool is_final(const MPII_Dataloop *loop)
{
    return (loop->kind & MPII_DATALOOP_FINAL_MASK) != 0;
}

/*
 * Translates the sender's pointer to `words` words in our copy. NULL if they are not inside it, or
 * begin before `from`.
 */
static void *follow_pointer(const walk_t *w, const void *pointer, const void *from, MPI_Aint words)
{
    intptr_t at;

    if (!pointer || __builtin_sub_overflow((intptr_t) pointer, w->origin, &at) || at < 0 ||
        at % 8 != 0 || at > w->bytes || words > (w->bytes - at) / 8 ||
        w->loops + at < (const char *) from)
        return NULL;
    return (void *) (w->loops + at);
}

/*
 * Finds the arrays of the chain's next loop. What follows the loop must lie behind them, because
 * MPICH writes into the loop when it relocates the chain. NULL if the arrays are not there.
 */
static const void *find_arrays(walk_t *w, const MPII_Dataloop *loop)
{
    MPI_Aint count = loop->loop_params.count;
    const void *behind = loop + 1;
    int i = w->depth;

    w->blocks[i] = w->offsets[i] = NULL;
    switch (kind_of(loop)) {
    case MPII_DATALOOP_KIND_BLOCKINDEXED:
        w->offsets[i] = follow_pointer(w, loop->loop_params.bi_t.offset_array, behind, count);
        return w->offsets[i] ? w->offsets[i] + count : NULL;
    case MPII_DATALOOP_KIND_INDEXED:
        /* MPICH reads one word behind the last length. */
        w->blocks[i] = follow_pointer(w, loop->loop_params.i_t.blocksize_array, behind, count + 1);
        w->offsets[i] = follow_pointer(w, loop->loop_params.i_t.offset_array, behind, count);
        return w->blocks[i] && w->offsets[i] ? MPL_MAX(w->blocks[i], w->offsets[i]) + count : NULL;
    default:
        return behind;
    }
}

/* Follows the chain; each loop must lie behind the one before. */
static bool find_chain(walk_t *w)
{
    const MPI_Aint words = sizeof(MPII_Dataloop) / 8;
    MPII_Dataloop *loop = w->bytes >= (MPI_Aint) sizeof(*loop) ? (MPII_Dataloop *) w->loops : NULL;

    for (w->depth = 0; loop && w->depth < DEPTH_MAX; w->depth++) {
        MPI_Aint count = loop->loop_params.count;
        const void *behind;
        int kind = kind_of(loop);
        if ((loop->kind & ~(MPII_DATALOOP_KIND_MASK | MPII_DATALOOP_FINAL_MASK)) != 0 ||
            kind < MPII_DATALOOP_KIND_CONTIG || kind > MPII_DATALOOP_KIND_INDEXED || count < 1 ||
            count > BYTES_MAX || !(behind = find_arrays(w, loop)))
            return false;
        w->chain[w->depth] = loop;
        if (is_final(loop)) {
            w->depth++;
            return true;
        }
        loop = follow_pointer(w, loop->loop_params.cm_t.dataloop, behind, words);
    }
    return false;
}

/* The number of elements in a block, and the offset at which it begins. */
static MPI_Aint block_at(const walk_t *w, int i, MPI_Aint n, MPI_Aint *offset)
{
    const MPII_Dataloop *loop = w->chain[i];

    switch (kind_of(loop)) {
    case MPII_DATALOOP_KIND_VECTOR:
        *offset = n * loop->loop_params.v_t.stride;
        return loop->loop_params.v_t.blocksize;
    case MPII_DATALOOP_KIND_BLOCKINDEXED:
        *offset = w->offsets[i][n];
        return loop->loop_params.bi_t.blocksize;
    case MPII_DATALOOP_KIND_INDEXED:
        *offset = w->offsets[i][n];
        return w->blocks[i][n];
    default:
        *offset = 0;
        return loop->loop_params.c_t.count;
    }
}

/* The blocks of a loop. The elements of a contiguous loop are one block. */
static MPI_Aint block_count(const MPII_Dataloop *loop)
{
    return kind_of(loop) == MPII_DATALOOP_KIND_CONTIG ? 1 : loop->loop_params.count;
}

/* Bytes from one element of a block to the next. */
static MPI_Aint stride_of(const MPII_Dataloop *loop)
{
    return is_final(loop) ? loop->el_size : loop->el_extent;
}

/*
 * Extends `all` by `elements` of `inner`, `stride` apart, the first at `offset`. False if out of
 * bounds.
 */
static bool add_block(range_t *all, range_t inner, MPI_Aint offset, MPI_Aint elements,
                      MPI_Aint stride)
{
    MPI_Aint reach, low, high;

    if (__builtin_mul_overflow(elements - 1, stride, &reach) ||
        __builtin_add_overflow(inner.low, offset, &low) ||
        __builtin_add_overflow(inner.high, offset, &high))
        return false;
    if (__builtin_add_overflow(reach < 0 ? low : high, reach, reach < 0 ? &low : &high))
        return false;
    all->low = MPL_MIN(all->low, low);
    all->high = MPL_MAX(all->high, high);
    return low > -BYTES_MAX && high < BYTES_MAX;
}

/* What loop i touches, and its size, from the range and size of one of its elements. */
static bool measure_loop(const walk_t *w, int i, range_t *range, MPI_Aint *size)
{
    const MPII_Dataloop *loop = w->chain[i];
    range_t all = {MPIR_AINT_MAX, -BYTES_MAX};
    MPI_Aint elements = 0, offset, last;

    if (kind_of(loop) == MPII_DATALOOP_KIND_VECTOR) { /* the first and the last block are enough */
        MPI_Aint per_block = loop->loop_params.v_t.blocksize;
        if (per_block < 1 || per_block > BYTES_MAX ||
            __builtin_mul_overflow(loop->loop_params.count, per_block, &elements) ||
            __builtin_mul_overflow(loop->loop_params.count - 1, loop->loop_params.v_t.stride,
                                   &last) ||
            !add_block(&all, *range, 0, per_block, stride_of(loop)) ||
            !add_block(&all, *range, last, per_block, stride_of(loop)))
            return false;
    } else {
        for (MPI_Aint n = 0; n < block_count(loop); n++) {
            MPI_Aint in_block = block_at(w, i, n, &offset);
            if (in_block < 1 || in_block > BYTES_MAX ||
                __builtin_add_overflow(elements, in_block, &elements) ||
                !add_block(&all, *range, offset, in_block, stride_of(loop)))
                return false;
        }
    }
    if (kind_of(loop) == MPII_DATALOOP_KIND_INDEXED &&
        loop->loop_params.i_t.total_blocks != elements)
        return false;
    *range = all;
    return !__builtin_mul_overflow(*size, elements, size) && *size <= BYTES_MAX;
}

/*
 * Measures all loops, from the innermost on: whether they fit together, what they touch, and their
 * size.
 */
static bool measure_all(const walk_t *w, range_t *range, MPI_Aint *size)
{
    MPI_Aint pieces = 1; /* of what the loop repeats */
    bool contig = true;

    for (int i = w->depth - 1; i >= 0; i--) {
        MPII_Dataloop *loop = w->chain[i];
        if (is_final(loop)) {
            MPI_Aint extent;
            *size = MPID_nem_ivshmem_packet_type_size(loop->el_type, &extent);
            if (!HANDLE_IS_BUILTIN(loop->el_type) || *size < 1)
                return false;
            *range = (range_t){0, *size};
            loop->el_extent = *size; /* MPICH seeks by it */
            ivshmem_compat_end_loops(loop);
        } else {
            /* The sender's is a handle there; MPICH does not need it. */
            loop->el_type = IVSHMEM_COMPAT_BYTE;
            contig = contig && loop->el_extent == *size;
            ivshmem_compat_set_pieces(w->chain[i + 1], contig, pieces);
        }
        if (loop->el_size != *size || !measure_loop(w, i, range, size))
            return false;
        pieces = contig ? block_count(loop) : *size / loop->el_size * pieces;
        contig = contig && kind_of(loop) == MPII_DATALOOP_KIND_CONTIG;
        ivshmem_compat_set_pieces(loop, contig, pieces);
    }
    return true;
}

/* Visits each piece of memory. False as soon as the window does not open one. */
static bool each_piece(const walk_t *w, int i, intptr_t at, const MPIR_Win *win, int *left)
{
    const MPII_Dataloop *loop = w->chain[i];

    for (MPI_Aint n = 0; n < block_count(loop); n++) {
        MPI_Aint offset, elements = block_at(w, i, n, &offset);
        if (is_final(loop)) {
            if (--*left < 0 ||
                !MPID_nem_ivshmem_relation_opens(win, at + offset, elements * loop->el_size))
                return false;
            continue;
        }
        for (MPI_Aint e = 0; e < elements; e++)
            if (!each_piece(w, i + 1, at + offset + e * loop->el_extent, win, left))
                return false;
    }
    return true;
}

/*
 * A dynamic window may open several pieces of memory with gaps between them. *all reaches from the
 * first byte touched to the last. *whole is set if the window opens all of that.
 */
static bool is_opened(const walk_t *w, const header_t *header, const MPIR_Win *win, intptr_t addr,
                      MPI_Aint count, range_t range, range_t *all, bool *whole)
{
    range_t from_addr = {MPIR_AINT_MAX, -BYTES_MAX};
    int left = PIECES_MAX;

    if (!add_block(&from_addr, range, 0, count, header->extent) ||
        __builtin_add_overflow(addr, from_addr.low, &all->low) ||
        __builtin_add_overflow(addr, from_addr.high, &all->high))
        return false;
    *whole = MPID_nem_ivshmem_relation_opens(win, all->low, all->high - all->low);
    if (*whole)
        return true;
    if (win->create_flavor != MPI_WIN_FLAVOR_DYNAMIC)
        return false;
    for (MPI_Aint i = 0; i < count; i++)
        if (!each_piece(w, 0, addr + i * header->extent, win, &left))
            return false;
    return true;
}

/*
 * MPICH applies an operation to whole elements of the basic type, wherever a piece of memory
 * begins. So the bytes of the type, and those of each piece, must consist of whole elements. Pairs
 * with a gap are exempt: MPICH packs them first.
 */
static bool is_made_of(const walk_t *w, MPI_Aint all, MPI_Datatype basic)
{
    const int i = w->depth - 1;
    const MPII_Dataloop *loop = w->chain[i];
    MPI_Aint extent, offset, size = MPID_nem_ivshmem_packet_type_size(basic, &extent);

    if (size < 1 || all % size != 0)
        return false;
    if (size != extent)
        return true;
    for (MPI_Aint n = 0; n < (kind_of(loop) == MPII_DATALOOP_KIND_INDEXED ? block_count(loop) : 1);
         n++)
        if (block_at(w, i, n, &offset) * loop->el_size % size != 0)
            return false;
    return true;
}

const char *MPID_nem_ivshmem_flattened_check(const MPIR_Win *win, const void *addr, MPI_Aint count,
                                             void *flattened, MPI_Aint bytes, bool by_elements,
                                             MPI_Aint *total, MPI_Datatype *basic,
                                             MPID_nem_ivshmem_range_t *touched)
{
    header_t *header = flattened;
    const loops_header_t *loops = (const loops_header_t *) (header + 1);
    MPI_Aint size = 0, pieces;
    range_t range;
    bool whole;

    if (bytes < (MPI_Aint) (sizeof(*header) + sizeof(*loops)))
        return "sent a flattened datatype that is too short";
    walk_t w = {.loops = (const char *) (loops + 1),
                .bytes = bytes - (MPI_Aint) (sizeof(*header) + sizeof(*loops)),
                .origin = (intptr_t) loops->origin};
    if (loops->bytes != w.bytes || !find_chain(&w) || !measure_all(&w, &range, &size) ||
        size != header->size || __builtin_mul_overflow(size, count, total) || *total > BYTES_MAX)
        return "sent a flattened datatype that is not valid";
    if (!is_opened(&w, header, win, (intptr_t) addr, count, range, touched, &whole))
        return "named memory outside its window";
    if (by_elements && !is_made_of(&w, size, header->basic_type))
        return "sent a flattened datatype with elements of another type than it names";
    if (header->extent != size)
        ivshmem_compat_set_pieces(w.chain[0], false, ivshmem_compat_pieces(w.chain[0], 1));
    /* CH3 builds a list of that length. Pieces without bytes count too. */
    header->num_contig_blocks =
        MPL_MAX(ivshmem_compat_pieces(w.chain[0], header->num_contig_blocks), 1);
    if (header->num_contig_blocks > size &&
        (__builtin_mul_overflow(header->num_contig_blocks, count, &pieces) || pieces > PIECES_MAX))
        return "sent a flattened datatype with more pieces than bytes";
    header->true_lb = range.low;
    header->true_ub = range.high;
    /*
     * If blocks overlap, the size may equal the distance from the first byte to the last, although
     * there are gaps.
     */
    header->is_contig =
        whole && header->is_contig && header->extent == size && range.high - range.low == size;
    if (MPID_nem_ivshmem_packet_type_size(header->basic_type, NULL) < 1)
        header->basic_type = MPI_DATATYPE_NULL;
    *basic = header->basic_type;
    return NULL;
}

#else

/*
 * How another engine describes datatypes is not known here, so no peer's flattened datatype is
 * used.
 */
const char *MPID_nem_ivshmem_flattened_check(
    const MPIR_Win *win ATTRIBUTE((unused)), const void *addr ATTRIBUTE((unused)),
    MPI_Aint count ATTRIBUTE((unused)), void *flattened ATTRIBUTE((unused)),
    MPI_Aint bytes ATTRIBUTE((unused)), bool by_elements ATTRIBUTE((unused)),
    MPI_Aint *total ATTRIBUTE((unused)), MPI_Datatype *basic ATTRIBUTE((unused)),
    MPID_nem_ivshmem_range_t *touched ATTRIBUTE((unused)))
{
    return "named a derived datatype in a form that cannot be checked";
}

#endif
