/* SPDX-License-Identifier: mpich2 */
/*
 * Every byte of the region. doc/layout.md is the normative description; it, this file,
 * IVSHM_VERSION and the golden image in test/unit change together.
 *
 * Rules: little-endian words of fixed width, offsets from the region's first byte and never
 * pointers, no pid that is compared across VMs, no lock. All-zero is the valid empty state of
 * everything but the superblock, so that formatting writes one page.
 */
#ifndef IVSHM_LAYOUT_H
#define IVSHM_LAYOUT_H

#include "atomic.h"

#include <stddef.h>
#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the region is little-endian and accessed in place"
#endif

#define IVSHM_MAGIC UINT64_C(0x0049504d48535649) /* "IVSHMPI" */
#define IVSHM_MARK UINT64_C(0x2e2e74616d726f66)  /* "format..": a format has begun */
#define IVSHM_VERSION 7

#define IVSHM_PAGE 4096
#define IVSHM_SIZE_MIN (UINT64_C(4) << 20)
#define IVSHM_SIZE_MAX (UINT64_C(1) << 40)
#define IVSHM_ENDPOINTS_MAX 4096

/* An offset into the region is a type of its own: the compiler catches a mix-up with a length. */
typedef struct {
    uint64_t bytes;
} ivshm_off;

/*
 * Superblock, at offset 0. Written once, by CAS from zero, and by any number of formatters at once:
 * all of them write the same values (id excepted: the first wins). Constant once magic is set.
 */
struct ivshm_superblock_shm {
    ivshm_a64 magic;          /* IVSHM_MAGIC; stored last (release S1), read first (acquire S1) */
    ivshm_a64 mark;           /* IVSHM_MARK, stored first: tells half a format from foreign data */
    ivshm_a64 version;        /* IVSHM_VERSION */
    ivshm_a64 size;           /* of the region in bytes, superblock included */
    ivshm_a64 id[2];          /* random; two ranks share a region if they see the same id */
    ivshm_a64 endpoints;      /* number of entries in the endpoint table */
    ivshm_a64 endpoint_table; /* offset of struct ivshm_endpoint_shm[endpoints] */
    ivshm_a64 blocks;         /* number of blocks */
    ivshm_a64 block_size;     /* in bytes, a power of two */
    ivshm_a64 block_map;      /* offset of ivshm_a64[blocks], the owner of each */
    ivshm_a64 data;           /* offset of block 0 */
    ivshm_a64 inbox_slots;    /* of each endpoint, a power of two */
    ivshm_a64 small_cells;    /* of each endpoint */
    ivshm_a64 small_size;     /* bytes of a small cell, header included */
    ivshm_a64 large_cells;
    ivshm_a64 large_size;
    ivshm_a64 pipeline_chunks; /* of a bulk pipeline */
    ivshm_a64 chunk_size;      /* bytes of a chunk */
    ivshm_a64 ring_slots;      /* of a ring */
    ivshm_a64 slot_size;       /* bytes of a slot, its word included */
    ivshm_a64 ring_buffers;
    ivshm_a64 buffer_size; /* bytes */
};

#define IVSHM_SUPERBLOCK_WORDS (sizeof(struct ivshm_superblock_shm) / 8)
_Static_assert(sizeof(struct ivshm_superblock_shm) == 23 * 8, "layout version 7");

/*
 * The claim word of an endpoint: one CAS takes the entry and says who took it, so that the death of
 * a joiner can be proved at any instruction.
 */
#define IVSHM_CLAIM_STATE_BITS 3
#define IVSHM_CLAIM_PID_BITS 22  /* PID_MAX_LIMIT of 64-bit Linux */
#define IVSHM_CLAIM_HOST_BITS 20 /* hash of boot id and pid namespace: whose pid it is */
#define IVSHM_CLAIM_GEN_BITS 19

enum ivshm_claim_state {
    IVSHM_FREE = 0,
    IVSHM_JOINING = 1, /* writes its identity, and holds nothing but the entry */
    IVSHM_LIVE = 2,
    IVSHM_DEAD = 3, /* has left, or is proved dead; its blocks return once nobody is attached */
    IVSHM_NAMED = 4 /* between JOINING and LIVE: holds blocks perhaps, is attached to nobody */
};

/* One process. Entry 0 of the table exists like any other. */
struct ivshm_endpoint_shm {
    /* Line 0: everybody reads; changed by CAS only. */
    ivshm_a64 claim; /* the owner stores NAMED after its identity, LIVE after all (release E1) */
    ivshm_a64 reserved0[7];
    /* Lines 1 to 7: the owner writes while JOINING, base while NAMED (release E3); others read
     * (acquire E3) after acquire E1 of claim, and look at the claim again. */
    ivshm_a64 base;       /* offset of the endpoint's base extent */
    ivshm_a64 boot_id[2]; /* /proc/sys/kernel/random/boot_id, 0 if unknown */
    ivshm_a64 vm_uuid[2]; /* of the VM's firmware, 0 if unknown: survives a reboot */
    ivshm_a64 pid_ns;     /* inode of /proc/self/ns/pid, 0 if there are no namespaces */
    ivshm_a64 pid;        /* in pid_ns of that boot */
    ivshm_a64 start_time; /* of the process, in clock ticks since that boot; 0 if unknown */
    ivshm_a64 joined_at;  /* seconds since 1970, by the owner's clock: for people only */
    ivshm_a64 rank;       /* in the job */
    ivshm_a64 job_size;
    ivshm_a64
        vm_generation[2]; /* of the hypervisor, 0 if unknown: a restored snapshot has another */
    ivshm_a64 traits;     /* IVSHM_TRAIT_* */
    ivshm_a64 seal; /* of boot_id, vm_uuid, vm_generation, traits, pid_ns, pid, start_time and the
                       claim's generation: they are one process' */
    ivshm_a64 reserved1;
    ivshm_a64 host[8]; /* host name, NUL-terminated */
    ivshm_a64 job[16]; /* job name, NUL-terminated: MPICH's process group id */
    ivshm_a64 reserved2[16];
};

_Static_assert(sizeof(struct ivshm_endpoint_shm) == 512, "layout version 7");
_Static_assert(offsetof(struct ivshm_endpoint_shm, base) == 64, "claim has a line of its own");
_Static_assert(offsetof(struct ivshm_endpoint_shm, seal) == 176, "layout version 7");

/* Of the seal: h = generation, then for each word h = (h ^ word) * IVSHM_SEAL_MIX, h ^= h >> 32. */
#define IVSHM_SEAL_MIX UINT64_C(0x9e3779b97f4a7c15)
#define IVSHM_SEAL_WORDS 10

/* Bits of traits. */
#define IVSHM_TRAIT_MEMORY 1 /* the owner has the region as a file in its kernel's own memory */
#define IVSHM_TRAIT_UUID 2   /* vm_uuid is the kernel's word, not of a file that covers it */
#define IVSHM_TRAIT_DEVICE 4 /* the owner has the region as a PCI device */

/*
 * Block map: one word a block, 0 if free, else its owner. A process that dies leaves words that
 * name it, and nothing else: no free list can be cut. bits 0-15 endpoint index + 1 | 16-34
 * generation | 35-39 kind | 40 first block of its extent | 41-63 number of blocks of the extent, in
 * its first block, else 0
 */
enum ivshm_block_kind {
    IVSHM_KIND_BASE = 1,
    IVSHM_KIND_PIPELINE = 2,
    IVSHM_KIND_RING = 3,
    IVSHM_KIND_USER = 4, /* memory that the program asked for */
};

/*
 * Inbox: a bounded multi-producer ring of references. A producer publishes with one CAS of the
 * slot, so there is no state in which a dead producer blocks the others. Position p lives in slot
 * p % slots, and a slot's lap tells which position it holds: p / slots + 1. Consumers never write
 * slots. slot: bits 0-7 cell | 8-15 low bits of the sender's generation | 16-31 its endpoint |
 * 32-63 lap
 */
struct ivshm_inbox_shm {
    ivshm_a64 head; /* consumer stores (release Q2): positions below it may be overwritten */
    ivshm_a64 reserved0[7];
    ivshm_a64 tail_hint; /* producers store, relaxed: where to begin to look for an empty slot */
    ivshm_a64 reserved1[7];
    ivshm_a64 slot[]; /* CAS by producers (release Q1), consumer loads (acquire Q1) */
};

/* In the place of a cell's number: the sender's ring, which was idle, has a record. */
#define IVSHM_REF_DOORBELL 255

_Static_assert(offsetof(struct ivshm_inbox_shm, tail_hint) == IVSHM_LINE, "consumer's line");
_Static_assert(offsetof(struct ivshm_inbox_shm, slot) == 2 * IVSHM_LINE, "producers' line");

#define IVSHM_CELLS_MAX 255 /* of an endpoint, small and large together */

/*
 * Cell: payload on its way from its owner, the sender, to one receiver. It changes hands as a
 * whole: the sender fills it while FREE and publishes it through an inbox; the receiver hands it
 * back.
 */
enum ivshm_cell_state { IVSHM_CELL_FREE = 0, IVSHM_CELL_IN_FLIGHT = 1 };

struct ivshm_cell_shm {
    ivshm_a32 state;    /* sender stores IN_FLIGHT; receiver stores FREE when done (release C1) */
    ivshm_a32 len;      /* bytes of payload */
    ivshm_a32 stream;   /* which connection between the two endpoints; 0 is the job's own, or
                           IVSHM_STREAM_RING */
    ivshm_a32 sequence; /* counts the cells from this sender to this receiver */
    unsigned char payload[];
};

_Static_assert(sizeof(struct ivshm_cell_shm) == 16, "48 bytes of payload share the header's line");

/* The payload is the offset of a ring of the sender's, by which all comes from now on. */
#define IVSHM_STREAM_RING UINT32_MAX

/*
 * Ring: records from its owner, the sender, to one receiver. Slots follow, and behind them buffers,
 * which are used in turn. A slot's word is stored last and says all of the record: bits 0-31 number
 * of the record among all that this sender has sent to this receiver | 32-47 bytes of payload, or a
 * cell | 48-63 kind
 */
struct ivshm_ring_shm {
    ivshm_a64 head; /* receiver stores (release R2): records that it has read */
    ivshm_a64 reserved0[7];
    ivshm_a64 idle; /* receiver stores, relaxed: odd while it looks here but seldom */
    ivshm_a64 reserved1[7];
};

enum ivshm_record_kind {
    IVSHM_RECORD_NONE = 0,
    IVSHM_RECORD_INLINE = 1, /* the payload is in the slot, and its stream is 0 */
    IVSHM_RECORD_CELL = 2,   /* it is in a cell of the sender's */
    IVSHM_RECORD_BUFFER = 3  /* it is in the next buffer, and its stream is 0 */
};

struct ivshm_slot_shm {
    ivshm_a64 word; /* sender stores (release R1), receiver loads (acquire R1) */
    unsigned char payload[];
};

_Static_assert(sizeof(struct ivshm_ring_shm) == 2 * IVSHM_LINE, "slots begin with a line");

/*
 * Pipeline: a ring of chunks through which one large message at a time flows, from its owner or to
 * it. Each chunk's word has a line of its own: 0 is empty, else the bytes in it. Chunks follow the
 * words at the next page.
 */
struct ivshm_chunk_word_shm {
    ivshm_a64 len; /* sender stores > 0 (release L1); receiver stores 0 (release L2) */
    ivshm_a64 reserved[7];
};

_Static_assert(sizeof(struct ivshm_chunk_word_shm) == IVSHM_LINE, "a line a chunk");

/*
 * Lock of a window, in memory of one of its ranks. Taken by CAS from 0, or from a dead holder
 * (acquire K1); given up by a store of 0 (release K1). bits 0-31 the holder's endpoint index + 1 |
 * 32-63 its generation
 */
struct ivshm_lock_shm {
    ivshm_a64 holder;
    ivshm_a64 turns; /* times that it was given up; the holder stores, who waits looks */
};

/*
 * Cooperative copy of a large message, in memory of its receiver. bits 0-15 pieces that were taken
 * | 16-31 those of the sender's that are copied (release and acquire J1) | 32-63 number of the copy
 */
struct ivshm_coop_shm {
    ivshm_a64 word; /* receiver stores to begin; both take by CAS; sender finishes by add */
    ivshm_a64 reserved[7];
};

_Static_assert(sizeof(struct ivshm_coop_shm) == IVSHM_LINE, "a line each");

#endif
