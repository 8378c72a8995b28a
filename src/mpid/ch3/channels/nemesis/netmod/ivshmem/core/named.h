/* SPDX-License-Identifier: mpich2 */
/*
 * Named blocks: extents of a process, by whose names others find them. A block lies in memory of
 * its creator: it has a name as long as that process is on the region and nobody removes it, and is
 * there as long as somebody holds it. So nothing is left of processes that are gone, and there is
 * no table that a death could damage: the block map leads to every block.
 *
 * Who uses a block holds it: it writes the block's place into its own table of holds, then checks
 * that the block is still there. The creator marks a block as removed, then looks at all tables,
 * and frees it if nobody holds it (N2). It alone frees it, in its calls. Whoever holds a block has
 * a channel to its creator as well, which keeps the memory if that one dies (A1).
 *
 * One thread at a time for each struct ivshm_names. Nothing waits. Errors are negative errnos;
 * outputs are set only on success. Cost, where no other is stated: a load for each block of the
 * region.
 */
#ifndef IVSHM_NAMED_H
#define IVSHM_NAMED_H

#include "transport.h"

#define IVSHM_NAMED_MAGIC UINT64_C(0x31424e4d48535649) /* "IVSHMNB1": the last is the version */
#define IVSHM_HOLDS_MAGIC UINT64_C(0x3144484d48535649) /* "IVSHMHD1" */
#define IVSHM_NAME_BYTES 64                            /* with the final 0 */

enum ivshm_named_state {
    IVSHM_NAMED_NONE = 0,
    IVSHM_NAMED_PROPOSED = 1, /* its creator looks whether another block has that name */
    IVSHM_NAMED_LIVE = 2,
    IVSHM_NAMED_REMOVED = 3, /* and so is any other value */
};

/* The first bytes of the extent. The program's begin at IVSHM_NAMED_DATA. */
struct ivshm_named_shm {
    ivshm_a64 state; /* changed by CAS only (N1, N2) */
    /* The creator stores the rest while the state is 0, relaxed: published by N1. */
    ivshm_a64 magic;   /* IVSHM_NAMED_MAGIC */
    ivshm_a64 owner;   /* bits 0-15 the creator's endpoint + 1 | 16-34 generation */
    ivshm_a64 bytes;   /* of the program */
    ivshm_a64 created; /* seconds since 1970 by the creator's clock; only shown */
    ivshm_a64 reserved[3];
    ivshm_a64 name[IVSHM_NAME_BYTES / 8];
};

#define IVSHM_NAMED_DATA IVSHM_PAGE /* so that a process can map it without the header */

/* An extent of each process that has blocks: which ones it holds. */
#define IVSHM_HOLDS_MAX 504
struct ivshm_holds_shm {
    ivshm_a64 magic; /* IVSHM_HOLDS_MAGIC, stored last (release N2) */
    ivshm_a64 owner; /* as above */
    ivshm_a64 reserved[6];
    ivshm_a64 block[IVSHM_HOLDS_MAX]; /* offset of a block, or 0; N2 */
};

_Static_assert(sizeof(struct ivshm_named_shm) == 128, "version 1 of named blocks");
_Static_assert(sizeof(struct ivshm_holds_shm) == IVSHM_PAGE, "version 1 of named blocks");

/* What is known of a block, as far as it can be checked. */
struct ivshm_named_info {
    struct ivshm_owner owner; /* who created it */
    bool has_owner;           /* its claim is live */
    ivshm_off off;            /* of its extent */
    uint64_t bytes;           /* of the program; they lie in the extent */
    uint64_t created;
    enum ivshm_named_state state;
    char name[IVSHM_NAME_BYTES]; /* any bytes, none of them a slash or control character */
};

/* A block that the caller holds. The fields are core's. */
struct ivshm_named {
    struct ivshm_owner owner;
    ivshm_off off;
    uint64_t bytes;
    struct ivshm_channel *channel; /* NULL if it is the caller's own */
    ivshm_a64 *hold;
};

/* A process' own side. The fields are core's. */
struct ivshm_names {
    struct ivshm_transport *transport;
    struct ivshm_holds_shm *holds;
    struct ivshm_own_block *own; /* those that it has created, and not freed yet */
    size_t own_count;
};

/*
 * For a process with that transport, which goes on to own. Ends in ivshm_names_close, before the
 * transport is closed, with which all its blocks end. -ENOSPC the region is full.
 */
int ivshm_names_open(struct ivshm_names *names, struct ivshm_transport *t, struct ivshm_diag *diag);
void ivshm_names_close(struct ivshm_names *names);

/*
 * Whether that is a name: 1 to 63 bytes without slashes and control characters. -EINVAL or
 * -ENAMETOOLONG. Constant cost.
 */
int ivshm_name_check(const char *name, struct ivshm_diag *diag);

/*
 * Creates a block of `bytes` > 0, all of them 0 (release N1), and holds it. Of several that create
 * a name at once, at most one succeeds. -EEXIST there is one; -EAGAIN another process is about to
 * create it; -ENOSPC the region has no room; -EINVAL and -ENAMETOOLONG as ivshm_name_check. Cost:
 * also that of zeroing the block.
 */
int ivshm_named_create(struct ivshm_names *names, const char *name, uint64_t bytes,
                       struct ivshm_named *block, struct ivshm_diag *diag);

/*
 * Holds the block of that name (acquire N1). -ENOENT there is none; -EMFILE the caller holds as
 * many as it can.
 */
int ivshm_named_attach(struct ivshm_names *names, const char *name, struct ivshm_named *block,
                       struct ivshm_diag *diag);

/* Ends that hold (release N2). Nothing may access the block any more. */
void ivshm_named_detach(struct ivshm_names *names, struct ivshm_named *block);

/*
 * Takes the name from the block. Who holds it goes on to. -ENOENT there is none.
 */
int ivshm_named_remove(struct ivshm_names *names, const char *name, struct ivshm_diag *diag);

/* Frees the caller's own blocks that are removed, and that nobody holds (acquire N2). */
void ivshm_named_sweep(struct ivshm_names *names);

/* The address of the program's bytes, and their offset. Constant cost. */
static inline void *ivshm_named_address(const struct ivshm_names *names,
                                        const struct ivshm_named *block)
{
    return (char *) ivshm_region_address(names->transport->region, block->off) + IVSHM_NAMED_DATA;
}

static inline ivshm_off ivshm_named_offset(const struct ivshm_named *block)
{
    return (ivshm_off){block->off.bytes + IVSHM_NAMED_DATA};
}

static inline uint64_t ivshm_named_bytes(const struct ivshm_named *block)
{
    return block->bytes;
}

/* Whether the block still can be found: its creator is there, and nobody has removed it. */
bool ivshm_named_is_found(const struct ivshm_names *names, const struct ivshm_named *block);

/*
 * For tools: the block at or behind the region's block *index, which is 0 at first; false if there
 * is none. And the live processes that hold it, at most `max` of them; returns how many there are.
 * Any thread.
 */
bool ivshm_named_next(const struct ivshm_region *region, uint64_t *index,
                      struct ivshm_named_info *info);
size_t ivshm_named_holders(const struct ivshm_region *region, ivshm_off off,
                           struct ivshm_owner *owners, size_t max);

/*
 * Core's own, the two sides of N2. The first holds the block at `off`, if its state is `wanted`
 * then: stores, then loads, seq_cst both. The second takes it from one state to another; a load of
 * the holds, seq_cst, follows before it is freed.
 */
bool ivshm_hold_enter(ivshm_a64 *hold, ivshm_off off, const ivshm_a64 *state,
                      enum ivshm_named_state wanted);
void ivshm_hold_leave(ivshm_a64 *hold);
bool ivshm_hold_is_of(const ivshm_a64 *hold, ivshm_off off);
bool ivshm_named_change(ivshm_a64 *state, enum ivshm_named_state from, enum ivshm_named_state to);

#endif
