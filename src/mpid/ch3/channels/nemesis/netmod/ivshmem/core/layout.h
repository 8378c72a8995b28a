/* SPDX-License-Identifier: mpich2 */
/*
 * Every byte of the region. doc/layout.md is the normative description. That page, this file,
 * IVSHM_VERSION and the golden image in test/unit change together.
 *
 * Rules: little-endian words of fixed width, offsets from the first byte of the region instead of
 * pointers, no pid that is compared across VMs, no lock except that of a shared window, whose word
 * names its holder. All-zero is the valid empty state of everything except the superblock, so
 * formatting writes one page.
 *
 * Each field says who stores it and who loads it. Labels such as S1 are edges of doc/ordering.md.
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
#define IVSHM_MARK UINT64_C(0x2e2e74616d726f66)  /* "format..": formatting has begun */
#define IVSHM_VERSION 9

#define IVSHM_PAGE 4096
#define IVSHM_SIZE_MIN (UINT64_C(4) << 20)
#define IVSHM_SIZE_MAX (UINT64_C(1) << 40)
#define IVSHM_ENDPOINTS_MAX 4096

/*
 * An offset into the region, in bytes. A type of its own, so that the compiler catches a mix-up
 * with a length.
 */
typedef struct {
    uint64_t bytes;
} ivshm_off;

/*
 * Superblock, at offset 0. Each word is written once, by CAS from zero, by any number of formatters
 * at once. All of them write the same values; of the id, the first value wins. Constant once the
 * magic is there.
 */
struct ivshm_superblock_shm {
    ivshm_a64 magic;     /* IVSHM_MAGIC; stored last (release S1), read first (acquire S1) */
    ivshm_a64 mark;      /* IVSHM_MARK; stored first (S2): tells a partial format from other data */
    ivshm_a64 version;   /* IVSHM_VERSION */
    ivshm_a64 size;      /* bytes of the region, superblock included */
    ivshm_a64 id[2];     /* random; two ranks share a region if they see the same id */
    ivshm_a64 endpoints; /* number of entries in the endpoint table */
    ivshm_a64 endpoint_table; /* offset of struct ivshm_endpoint_shm[endpoints] */
    ivshm_a64 blocks;         /* number of blocks */
    ivshm_a64 block_size;     /* in bytes, a power of two */
    ivshm_a64 block_map;      /* offset of ivshm_a64[blocks], which name the owners */
    ivshm_a64 data;           /* offset of block 0 */
    ivshm_a64 inbox_slots;    /* for each endpoint, a power of two */
    ivshm_a64 small_cells;    /* for each endpoint */
    ivshm_a64 small_size;     /* bytes of a small cell, header included */
    ivshm_a64 large_cells;
    ivshm_a64 large_size;
    ivshm_a64 pipeline_chunks; /* chunks of a pipeline */
    ivshm_a64 chunk_size;      /* bytes of a chunk */
    ivshm_a64 ring_slots;      /* slots of a ring */
    ivshm_a64 slot_size;       /* bytes of a slot, its word included */
    ivshm_a64 ring_buffers;
    ivshm_a64 buffer_size; /* bytes */
};

#define IVSHM_SUPERBLOCK_WORDS (sizeof(struct ivshm_superblock_shm) / 8)
_Static_assert(sizeof(struct ivshm_superblock_shm) == 23 * 8, "layout version 9");

/*
 * The claim word of an endpoint. One CAS takes the entry and records who took it, so the death of a
 * joiner can be proved at any instruction.
 */
#define IVSHM_CLAIM_STATE_BITS 3
#define IVSHM_CLAIM_PID_BITS 22  /* PID_MAX_LIMIT of 64-bit Linux */
#define IVSHM_CLAIM_HOST_BITS 20 /* hash of boot id and pid namespace: whose pid it is */
#define IVSHM_CLAIM_GEN_BITS 19

enum ivshm_claim_state {
    IVSHM_CLAIM_FREE = 0,
    IVSHM_CLAIM_JOINING = 1, /* writes its identity; holds only the entry */
    IVSHM_CLAIM_LIVE = 2,
    IVSHM_CLAIM_DEAD = 3, /* has left or is proved dead; blocks are freed once nobody is attached */
    IVSHM_CLAIM_NAMED = 4 /* between JOINING and LIVE: may hold blocks; is attached to nobody */
};

/* One process on the region. Entry 0 of the table exists like any other. */
struct ivshm_endpoint_shm {
    /* Line 0: read by every process, changed only by CAS. */
    ivshm_a64 claim; /* owner stores NAMED after its identity, LIVE after all else (release E1) */
    ivshm_a64 reserved0[7];
    /*
     * Lines 1 to 7: the owner stores them while JOINING, and base while NAMED (release E3). Others
     * load them (acquire E3) after the claim (acquire E1), then check the claim again.
     */
    ivshm_a64 base;       /* offset of the endpoint's base extent */
    ivshm_a64 boot_id[2]; /* /proc/sys/kernel/random/boot_id, 0 if unknown */
    ivshm_a64 vm_uuid[2]; /* uuid of the VM's firmware, 0 if unknown; survives a reboot */
    ivshm_a64 pid_ns;     /* inode of /proc/self/ns/pid, 0 if there are no namespaces */
    ivshm_a64 pid;        /* in pid_ns of that boot */
    ivshm_a64 start_time; /* of the process, in clock ticks since that boot; 0 if unknown */
    ivshm_a64 joined_at;  /* seconds since 1970 by the owner's clock; only shown */
    ivshm_a64 rank;       /* in the job */
    ivshm_a64 job_size;
    ivshm_a64
        vm_generation[2]; /* of the hypervisor, 0 if unknown; a restored snapshot has another */
    ivshm_a64 traits;     /* IVSHM_TRAIT_* */
    ivshm_a64 seal; /* checksum of boot_id, vm_uuid, vm_generation, traits, pid_ns, pid, start_time,
                       bell and the claim's generation: fits if one process wrote all of them */
    ivshm_a64 bell; /* of the ivshmem-doorbell device, or connection to its server, by which the
                       owner has the region: bits 0-31 its peer ID + 1 | 32-47 a vector | 48 the
                       owner can be rung there | 49 it rings others; 0 if there is none */
    ivshm_a64 host[8]; /* host name, NUL-terminated */
    ivshm_a64 job[16]; /* job name, NUL-terminated: MPICH's process group id */
    ivshm_a64 reserved2[16];
};

_Static_assert(sizeof(struct ivshm_endpoint_shm) == 512, "layout version 9");
_Static_assert(offsetof(struct ivshm_endpoint_shm, base) == 64, "claim has a line of its own");
_Static_assert(offsetof(struct ivshm_endpoint_shm, seal) == 176, "layout version 9");

/* The seal: h = generation, then for each word h = (h ^ word) * IVSHM_SEAL_MIX, h ^= h >> 32. */
#define IVSHM_SEAL_MIX UINT64_C(0x9e3779b97f4a7c15)
#define IVSHM_SEAL_WORDS 11

#define IVSHM_PEER_MAX 65535 /* of peer IDs and vectors: the device's doorbell has 16 bits each */

/* Bits of traits. */
#define IVSHM_TRAIT_MEMORY 1 /* the owner maps the region as a file in its kernel's own memory */
#define IVSHM_TRAIT_UUID 2   /* vm_uuid comes from the kernel, not from a file mounted over it */
#define IVSHM_TRAIT_DEVICE 4 /* the owner maps the region as a device */

/*
 * Block map: one word for each block, 0 if the block is free. A process that dies leaves words that
 * name it, and nothing else: there is no free list that a death could corrupt. Changed only by CAS
 * (block map's edge).
 * bits 0-15 endpoint index + 1 | 16-34 generation | 35-39 kind | 40 set in the first block of an
 * extent | 41-63 number of blocks of the extent in its first block, else 0
 */
enum ivshm_block_kind {
    IVSHM_KIND_BASE = 1,
    IVSHM_KIND_PIPELINE = 2,
    IVSHM_KIND_RING = 3,
    IVSHM_KIND_USER = 4, /* memory of the program; also locks and words of cooperative copies */
};

/*
 * Inbox: a bounded ring of references with many producers and one consumer. A producer publishes by
 * one CAS of the slot, so a producer that dies cannot block the others. Position p lies in slot p %
 * slots; the slot's lap, p / slots + 1, tells which position it holds. The consumer never writes
 * slots.
 * slot: bits 0-7 cell | 8-15 low bits of the sender's generation | 16-31 its endpoint | 32-63 lap
 */
struct ivshm_inbox_shm {
    ivshm_a64 head;    /* consumer stores (release Q2), producers load (acquire Q2): positions
                          below it may be overwritten */
    ivshm_a64 sleeper; /* enum ivshm_sleep: owner stores (W1), producers change it to 0 */
    ivshm_a64 reserved0[6];
    ivshm_a64 tail_hint; /* producers store and load, relaxed: where to look for an empty slot */
    ivshm_a64 reserved1[7];
    ivshm_a64 slot[]; /* producers CAS (release Q1), consumer loads (acquire Q1) */
};

/* How an inbox' owner sleeps, or is about to. */
enum ivshm_sleep { IVSHM_SLEEP_NOT = 0, IVSHM_SLEEP_ON_FUTEX = 1, IVSHM_SLEEP_ON_BELL = 2 };

/* In place of a cell's number: the sender's ring, which was idle, has a record. */
#define IVSHM_REF_DOORBELL 255

_Static_assert(offsetof(struct ivshm_inbox_shm, tail_hint) == IVSHM_LINE, "consumer's line");
_Static_assert(offsetof(struct ivshm_inbox_shm, slot) == 2 * IVSHM_LINE, "producers' line");

#define IVSHM_CELLS_MAX 255 /* small and large cells of an endpoint together */

/*
 * Cell: a message, or a piece of one, on its way from its owner, the sender, to one receiver. A
 * cell changes hands as a whole: the sender fills it while it is free and publishes it through an
 * inbox or a ring; the receiver frees it.
 */
enum ivshm_cell_state { IVSHM_CELL_FREE = 0, IVSHM_CELL_IN_FLIGHT = 1 };

struct ivshm_cell_shm {
    ivshm_a32 state;    /* sender stores IN_FLIGHT; receiver stores FREE (release C1), sender loads
                           it (acquire C1) */
    ivshm_a32 len;      /* bytes of payload */
    ivshm_a32 stream;   /* connection between the two endpoints: 0 is the job's own; or
                           IVSHM_STREAM_RING */
    ivshm_a32 sequence; /* number of the message among those from this sender to this receiver */
    unsigned char payload[];
};

_Static_assert(sizeof(struct ivshm_cell_shm) == 16, "48 bytes of payload share the header's line");

/* The payload is the offset of a ring of the sender, through which all later messages come. */
#define IVSHM_STREAM_RING UINT32_MAX

/*
 * What a process tells of itself, in the lines before its large cells: for people who look on, and
 * nothing is decided by it. All of it is stored by the owner, whenever that costs no message
 * anything, and loaded by whoever is interested, relaxed: a look that mixes two tellings is wrong
 * by less than what was done between them. All-zero until something is told.
 */
#define IVSHM_COUNTS(X)                                                                            \
    X(eager_sent)       /* messages: packets, or frames */                                         \
    X(eager_sent_bytes) /* with their headers */                                                   \
    X(eager_received)                                                                              \
    X(eager_received_bytes)                                                                        \
    X(large_sent)       /* messages */                                                             \
    X(large_sent_bytes) /* also those of a pipe */                                                 \
    X(large_received)                                                                              \
    X(large_received_bytes)                                                                        \
    X(copied_once) /* large messages, by the process that copied */                                \
    X(tcp_sent)    /* messages that did not take the region */                                     \
    X(tcp_sent_bytes)                                                                              \
    X(no_room) /* times that a send found no room */                                               \
    X(sleeps)                                                                                      \
    X(waited) /* ns, in waits of more than a few looks */

enum ivshm_doing {
    IVSHM_DOING_WORK = 0,  /* it does not wait, or not for long yet; or tells nothing */
    IVSHM_DOING_SPIN = 1,  /* it waits for a message: looks for it, */
    IVSHM_DOING_YIELD = 2, /* gives its processor away in between, */
    IVSHM_DOING_SLEEP = 3, /* sleeps until it is woken, */
    IVSHM_DOING_NAP = 4,   /* or sleeps for a while, as nobody can wake it */
};

struct ivshm_told_shm {
    ivshm_a64 doing; /* enum ivshm_doing */
    ivshm_a64 time;  /* ns by the owner's monotonic clock, when it told the counts; 0: never */
#define X(name) ivshm_a64 name;
    IVSHM_COUNTS(X) /* since it joined */
#undef X
};

_Static_assert(sizeof(struct ivshm_told_shm) == 2 * IVSHM_LINE, "the two lines before large cells");

/*
 * Ring: records from its owner, the sender, to one receiver. The slots follow, then the buffers,
 * which are used in turn. A slot's word is stored last and describes the whole record.
 * word: bits 0-31 sequence number of the message among those from this sender to this receiver |
 * 32-47 bytes of payload, or the number of a cell | 48-55 kind | 56-63 note: see choice.h
 */
struct ivshm_ring_shm {
    ivshm_a64 head; /* receiver stores (release R2), sender loads (acquire R2): records read */
    ivshm_a64 reserved0[7];
    ivshm_a64 idle;   /* receiver stores, sender loads, relaxed: odd while the ring is idle */
    ivshm_a64 answer; /* receiver stores, sender loads, relaxed: bits 0-47 the ticks that the last
                         sample took | 48-63 number of answers */
    ivshm_a64 reserved1[6];
};

enum ivshm_record_kind {
    IVSHM_RECORD_NONE = 0,
    IVSHM_RECORD_INLINE = 1, /* the payload is in the slot, and its stream is 0 */
    IVSHM_RECORD_CELL = 2,   /* the payload is in a cell of the sender */
    IVSHM_RECORD_BUFFER = 3  /* the payload is in the next buffer, and its stream is 0 */
};

struct ivshm_slot_shm {
    ivshm_a64 word; /* sender stores (release R1), receiver loads (acquire R1) */
    unsigned char payload[];
};

_Static_assert(sizeof(struct ivshm_ring_shm) == 2 * IVSHM_LINE, "slots begin with a line");

/*
 * Pipeline: a ring of chunks through which one large message at a time flows, from its owner or to
 * it. Each chunk's word has a cache line of its own: 0 if the chunk is empty, else the bytes in it.
 * The chunks follow the words on the next page.
 */
struct ivshm_chunk_word_shm {
    ivshm_a64 len; /* sender stores > 0 (release L1), receiver loads (acquire L1); receiver stores 0
                      (release L2), sender loads (acquire L2); bits 0-31 bytes | 32-39 note */
    ivshm_a64 reserved[7];
};

_Static_assert(sizeof(struct ivshm_chunk_word_shm) == IVSHM_LINE, "a line a chunk");

/*
 * Lock of a shared window, in memory of one of its ranks. Acquired by CAS from 0, or from a dead
 * holder (acquire K1); released by a store of 0 (release K1).
 * holder: bits 0-31 the holder's endpoint index + 1 | 32-63 its generation
 */
struct ivshm_lock_shm {
    ivshm_a64 holder;
    ivshm_a64 turns; /* number of releases; the holder stores, waiters load, relaxed */
};

/*
 * Cooperative copy of a large message, in memory of its receiver.
 * word: bits 0-15 pieces that were taken | 16-31 pieces that the sender has finished (release J1,
 * acquire J1) | 32-63 number of the copy
 */
struct ivshm_coop_shm {
    ivshm_a64 word; /* receiver stores it to begin; both take by CAS; sender finishes by add */
    ivshm_a64 reserved[7];
};

_Static_assert(sizeof(struct ivshm_coop_shm) == IVSHM_LINE, "a line each");

#endif
