/* SPDX-License-Identifier: mpich2 */
#include "named.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct ivshm_own_block {
    ivshm_off off;
    uint64_t extent_bytes;
};

static uint64_t owner_word(struct ivshm_owner owner)
{
    return (uint64_t) (owner.endpoint + 1) | (uint64_t) owner.generation << 16;
}

static struct ivshm_named_shm *header_at(const struct ivshm_region *region, ivshm_off off)
{
    return (struct ivshm_named_shm *) ivshm_region_address(region, off);
}

/* Names */

static bool is_name(const char *name)
{
    size_t len = strnlen(name, IVSHM_NAME_BYTES);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char) name[i] < ' ' || name[i] == 127 || name[i] == '/')
            return false;
    return len > 0 && len < IVSHM_NAME_BYTES;
}

int ivshm_name_check(const char *name, struct ivshm_diag *diag)
{
    size_t len = strlen(name);
    if (len >= IVSHM_NAME_BYTES)
        return ivshm_diag_fail(diag, ENAMETOOLONG,
                               "the name of a block has %zu bytes, at most %d are possible: it "
                               "begins with %.20s",
                               len, IVSHM_NAME_BYTES - 1, name);
    if (!is_name(name))
        return ivshm_diag_fail(diag, EINVAL,
                               "the name of a block is empty, or has a slash or control character: "
                               "give it a name of 1 to %d other bytes",
                               IVSHM_NAME_BYTES - 1);
    return 0;
}

/* Finding */

/* Reads the header of the extent whose first block has that word. False if it is no named block. */
static bool read_header(const struct ivshm_region *region, uint64_t index, uint64_t word,
                        const struct ivshm_block *first, struct ivshm_named_info *info)
{
    struct ivshm_named_info r = {
        .owner = first->owner,
        .off = {ivshm_region_first_block(region).bytes + index * ivshm_region_block_size(region)}};
    const struct ivshm_named_shm *header = header_at(region, r.off);
    uint64_t room = first->count * ivshm_region_block_size(region);
    /* Acquire N1. What the state does not publish is told by owner and magic. */
    uint64_t state = ivshm_a64_load_acquire(&header->state);
    if (state == IVSHM_NAMED_NONE || ivshm_a64_load_relaxed(&header->magic) != IVSHM_NAMED_MAGIC ||
        ivshm_a64_load_relaxed(&header->owner) != owner_word(first->owner))
        return false;
    r.state = state < IVSHM_NAMED_REMOVED ? (enum ivshm_named_state) state : IVSHM_NAMED_REMOVED;
    r.bytes = ivshm_a64_load_relaxed(&header->bytes);
    r.created = ivshm_a64_load_relaxed(&header->created);
    for (size_t i = 0; i < IVSHM_NAME_BYTES / 8; i++) {
        uint64_t text = ivshm_a64_load_relaxed(&header->name[i]);
        memcpy(r.name + 8 * i, &text, 8);
    }
    if (r.bytes == 0 || room <= IVSHM_NAMED_DATA || r.bytes > room - IVSHM_NAMED_DATA ||
        !is_name(r.name) ||
        !ivshm_extent_owned(region, r.owner, IVSHM_KIND_USER, r.off, IVSHM_NAMED_DATA + r.bytes) ||
        ivshm_block_load(region, index) != word)
        return false;
    r.has_owner = ivshm_endpoint_is_live(region, r.owner);
    *info = r;
    return true;
}

/* The extent of memory of a program that begins at that block of the region. */
static bool is_first(const struct ivshm_region *region, uint64_t index, uint64_t *word,
                     struct ivshm_block *block)
{
    *word = ivshm_block_load(region, index);
    return *word != 0 && ivshm_block_decode(region, *word, block) && block->first &&
           block->kind == IVSHM_KIND_USER;
}

bool ivshm_named_next(const struct ivshm_region *region, uint64_t *index,
                      struct ivshm_named_info *info)
{
    struct ivshm_block block;
    uint64_t word;
    while (*index < ivshm_region_blocks(region)) {
        uint64_t at = (*index)++;
        if (is_first(region, at, &word, &block) && read_header(region, at, word, &block, info))
            return true;
    }
    return false;
}

/* The next block that can be found by that name. */
static bool find_next(const struct ivshm_region *region, const char *name, uint64_t *index,
                      struct ivshm_named_info *info)
{
    while (ivshm_named_next(region, index, info))
        if (info->has_owner && info->state != IVSHM_NAMED_REMOVED && strcmp(info->name, name) == 0)
            return true;
    return false;
}

/* Holding */

bool ivshm_hold_enter(ivshm_a64 *hold, ivshm_off off, const ivshm_a64 *state,
                      enum ivshm_named_state wanted)
{
    if (!ivshm_a64_cas_seqcst(hold, 0, off.bytes)) /* N2 */
        return false;
    IVSHM_TRACEPOINT(hold_entered);
    if (ivshm_a64_load_seqcst(state) == wanted) /* N2 */
        return true;
    ivshm_hold_leave(hold);
    return false;
}

void ivshm_hold_leave(ivshm_a64 *hold)
{
    ivshm_a64_store_release(hold, 0); /* release N2 */
}

bool ivshm_hold_is_of(const ivshm_a64 *hold, ivshm_off off)
{
    return ivshm_a64_load_seqcst(hold) == off.bytes; /* N2, and acquire N2 */
}

bool ivshm_named_change(ivshm_a64 *state, enum ivshm_named_state from, enum ivshm_named_state to)
{
    return ivshm_a64_cas_seqcst(state, from, to); /* release N1; N2 */
}

/* The table of holds that begins at that block, if its process is there; or NULL. */
static const struct ivshm_holds_shm *read_holds(const struct ivshm_region *region, uint64_t index,
                                                const struct ivshm_block *first)
{
    ivshm_off off = {ivshm_region_first_block(region).bytes +
                     index * ivshm_region_block_size(region)};
    const struct ivshm_holds_shm *holds =
        (const struct ivshm_holds_shm *) ivshm_region_address(region, off);
    if (ivshm_a64_load_acquire(&holds->magic) != IVSHM_HOLDS_MAGIC ||
        ivshm_a64_load_relaxed(&holds->owner) != owner_word(first->owner) ||
        !ivshm_endpoint_is_live(region, first->owner))
        return NULL;
    return holds;
}

size_t ivshm_named_holders(const struct ivshm_region *region, ivshm_off off,
                           struct ivshm_owner *owners, size_t max)
{
    size_t count = 0;
    for (uint64_t i = 0; i < ivshm_region_blocks(region); i++) {
        struct ivshm_block block;
        uint64_t word;
        const struct ivshm_holds_shm *holds =
            is_first(region, i, &word, &block) ? read_holds(region, i, &block) : NULL;
        for (size_t k = 0; holds && k < IVSHM_HOLDS_MAX; k++) {
            if (!ivshm_hold_is_of(&holds->block[k], off))
                continue;
            if (count < max)
                owners[count] = block.owner;
            count++;
            break; /* the others are not needed */
        }
    }
    return count;
}

static ivshm_a64 *free_hold(struct ivshm_names *names)
{
    for (size_t k = 0; k < IVSHM_HOLDS_MAX; k++)
        if (ivshm_a64_load_relaxed(&names->holds->block[k]) == 0) /* relaxed: our own */
            return &names->holds->block[k];
    return NULL;
}

static void let_go(struct ivshm_names *names, struct ivshm_named *block)
{
    ivshm_hold_leave(block->hold);
    if (!block->channel)
        return;
    ivshm_channel_end(names->transport, block->channel);
    /* Perhaps nobody else is attached to what a creator has left. */
    if (!ivshm_endpoint_is_live(names->transport->region, block->owner))
        ivshm_endpoint_reap(names->transport->region, NULL, NULL);
}

/*
 * Holds what was found, if it is still that and in that state. False if not, or if it cannot be
 * held: then errno tells.
 */
static bool hold(struct ivshm_names *names, const struct ivshm_named_info *info,
                 struct ivshm_named *block)
{
    struct ivshm_transport *t = names->transport;
    const struct ivshm_region *region = t->region;
    struct ivshm_owner self = ivshm_transport_self(t);
    struct ivshm_named_info again;
    uint64_t index = (info->off.bytes - ivshm_region_first_block(region).bytes) /
                     ivshm_region_block_size(region);
    *block = (struct ivshm_named){.owner = info->owner, .off = info->off, .bytes = info->bytes};
    block->hold = free_hold(names);
    errno = EMFILE;
    if (!block->hold)
        return false;
    errno = ENOENT;
    if (info->owner.endpoint != self.endpoint &&
        ivshm_channel_open(t, info->owner, &block->channel, NULL) != 0)
        return false;
    if (!ivshm_hold_enter(block->hold, info->off, &header_at(region, info->off)->state,
                          info->state)) {
        if (block->channel)
            ivshm_channel_end(t, block->channel);
        return false;
    }
    /* It may have become another one in between: from now on it stays what it is. */
    uint64_t word;
    struct ivshm_block first;
    if (is_first(region, index, &word, &first) &&
        read_header(region, index, word, &first, &again) &&
        again.owner.endpoint == info->owner.endpoint &&
        again.owner.generation == info->owner.generation && again.bytes == info->bytes &&
        strcmp(again.name, info->name) == 0)
        return true;
    let_go(names, block);
    return false;
}

/* Those of this process */

static int add_own(struct ivshm_names *names, ivshm_off off, uint64_t extent_bytes)
{
    struct ivshm_own_block *own = realloc(names->own, (names->own_count + 1) * sizeof(*own));
    if (!own)
        return -ENOMEM;
    names->own = own;
    own[names->own_count++] = (struct ivshm_own_block){.off = off, .extent_bytes = extent_bytes};
    return 0;
}

void ivshm_named_sweep(struct ivshm_names *names)
{
    struct ivshm_region *region = names->transport->region;
    for (size_t i = names->own_count; i-- > 0;) {
        struct ivshm_own_block *own = &names->own[i];
        ivshm_a64 *state = &header_at(region, own->off)->state;
        uint64_t found = ivshm_a64_load_seqcst(state);
        if (found == IVSHM_NAMED_LIVE || found == IVSHM_NAMED_PROPOSED ||
            ivshm_named_holders(region, own->off, NULL, 0) > 0)
            continue;
        IVSHM_TRACEPOINT(named_free);
        ivshm_extent_free(region, ivshm_transport_self(names->transport), own->off,
                          own->extent_bytes);
        *own = names->own[--names->own_count];
    }
}

int ivshm_names_open(struct ivshm_names *names, struct ivshm_transport *t, struct ivshm_diag *diag)
{
    ivshm_off off;
    struct ivshm_owner self = ivshm_transport_self(t);
    if (ivshm_extent_alloc(t->region, self, IVSHM_KIND_USER, sizeof(struct ivshm_holds_shm),
                           &off) != 0)
        return ivshm_endpoint_describe_no_memory(t->region, 1, diag);
    struct ivshm_holds_shm *holds = (struct ivshm_holds_shm *) ivshm_region_address(t->region, off);
    for (size_t i = 0; i < sizeof(*holds) / sizeof(ivshm_a64); i++)
        ivshm_a64_store_relaxed((ivshm_a64 *) holds + i, 0);
    ivshm_a64_store_relaxed(&holds->owner, owner_word(self));
    ivshm_a64_store_release(&holds->magic, IVSHM_HOLDS_MAGIC);
    *names = (struct ivshm_names){.transport = t, .holds = holds};
    return 0;
}

void ivshm_names_close(struct ivshm_names *names)
{
    free(names->own);
    *names = (struct ivshm_names){0};
}

/* Creating */

static void write_header(struct ivshm_named_shm *header, struct ivshm_owner self, const char *name,
                         uint64_t bytes)
{
    char text[IVSHM_NAME_BYTES] = {0};
    strncpy(text, name, sizeof(text) - 1);
    ivshm_a64_store_relaxed(&header->magic, IVSHM_NAMED_MAGIC);
    ivshm_a64_store_relaxed(&header->owner, owner_word(self));
    ivshm_a64_store_relaxed(&header->bytes, bytes);
    ivshm_a64_store_relaxed(&header->created, (uint64_t) time(NULL));
    for (size_t i = 0; i < IVSHM_NAME_BYTES / 8; i++) {
        uint64_t word;
        memcpy(&word, text + 8 * i, 8);
        ivshm_a64_store_relaxed(&header->name[i], word);
    }
}

#define RIVALS_MAX 64 /* looks at rivals that change: more only if somebody writes nonsense */

/*
 * Looks for others with the name of a block that is proposed. Of several that are proposed at once,
 * each sees the others, or is seen by them: the one that comes first in the region withdraws the
 * others, unless they have become live meanwhile, and those that see it withdraw themselves.
 */
static int find_rival(struct ivshm_names *names, const char *name, ivshm_off self)
{
    const struct ivshm_region *region = names->transport->region;
    struct ivshm_named_info rival;
    struct ivshm_named held;
    uint64_t index = 0;
    for (int again = 0; again < RIVALS_MAX && find_next(region, name, &index, &rival);) {
        if (rival.off.bytes == self.bytes)
            continue;
        if (rival.state == IVSHM_NAMED_LIVE)
            return -EEXIST;
        if (rival.off.bytes < self.bytes)
            return -EAGAIN;
        bool is_withdrawn = false;
        if (hold(names, &rival, &held)) {
            is_withdrawn = ivshm_named_change(&header_at(region, rival.off)->state,
                                              IVSHM_NAMED_PROPOSED, IVSHM_NAMED_REMOVED);
            let_go(names, &held);
        }
        if (!is_withdrawn) { /* it is live by now, or gone: look again */
            index--;
            again++;
        }
    }
    return find_next(region, name, &index, &rival) ? -EAGAIN : 0;
}

static int describe_rival(const struct ivshm_names *names, const char *name, int err,
                          struct ivshm_diag *diag)
{
    struct ivshm_named_info info;
    struct ivshm_endpoint_info creator = {0};
    uint64_t index = 0;
    if (err == -EAGAIN)
        return ivshm_diag_fail(diag, EAGAIN,
                               "another process is creating block %s in region %s at this moment: "
                               "try again, or attach to it",
                               name, ivshm_region_name(names->transport->region));
    bool is_known =
        find_next(names->transport->region, name, &index, &info) &&
        ivshm_endpoint_read(names->transport->region, info.owner.endpoint, &creator) == 0 &&
        creator.named;
    return ivshm_diag_fail(
        diag, EEXIST,
        "region %s has a block %s already, created by endpoint %u (%.63s, pid "
        "%llu): attach to it, remove it, or choose another name",
        ivshm_region_name(names->transport->region), name, is_known ? info.owner.endpoint : 0,
        is_known ? creator.process.host : "unknown", (unsigned long long) creator.process.pid);
}

static int describe_full(const struct ivshm_region *region, const char *name, uint64_t bytes,
                         struct ivshm_diag *diag)
{
    struct ivshm_extent_usage usage;
    ivshm_extent_usage(region, &usage);
    uint64_t longest = usage.longest_free * ivshm_region_block_size(region);
    if (longest >= IVSHM_NAMED_DATA && bytes <= longest - IVSHM_NAMED_DATA)
        return ivshm_backing_describe_no_memory(ivshm_region_map(region), diag);
    return ivshm_diag_fail(
        diag, ENOSPC,
        "region %s (%llu MiB) has no room for block %s of %llu KiB: the longest "
        "free part has %llu KiB; make the region larger, or run `ivshmem ps` to "
        "see who holds the memory",
        ivshm_region_name(region), (unsigned long long) (ivshm_region_size(region) >> 20), name,
        (unsigned long long) ((bytes + 1023) >> 10), (unsigned long long) (longest >> 10));
}

int ivshm_named_create(struct ivshm_names *names, const char *name, uint64_t bytes,
                       struct ivshm_named *block, struct ivshm_diag *diag)
{
    struct ivshm_transport *t = names->transport;
    struct ivshm_owner self = ivshm_transport_self(t);
    struct ivshm_named_info found;
    uint64_t index = 0, extent_bytes = IVSHM_NAMED_DATA + bytes;
    int err = ivshm_name_check(name, diag);
    if (err)
        return err;
    if (bytes == 0)
        return ivshm_diag_fail(diag, EINVAL, "block %s would have 0 bytes: give it at least one",
                               name);
    ivshm_transport_mark_dead(t); /* a dead creator's name is free */
    ivshm_named_sweep(names);
    if (find_next(t->region, name, &index, &found) && found.state == IVSHM_NAMED_LIVE)
        return describe_rival(names, name, -EEXIST, diag);
    struct ivshm_named b = {.owner = self, .bytes = bytes, .hold = free_hold(names)};
    if (!b.hold)
        return ivshm_diag_fail(diag, EMFILE, "this process holds %d blocks, more are not possible",
                               IVSHM_HOLDS_MAX);
    if (extent_bytes < bytes ||
        ivshm_extent_alloc(t->region, self, IVSHM_KIND_USER, extent_bytes, &b.off) != 0)
        return describe_full(t->region, name, bytes, diag);
    if (add_own(names, b.off, extent_bytes) != 0) {
        ivshm_extent_free(t->region, self, b.off, extent_bytes);
        return ivshm_diag_fail(diag, ENOMEM, "out of memory for the list of blocks");
    }

    struct ivshm_named_shm *header = header_at(t->region, b.off);
    ivshm_a64_store_relaxed(&header->state, IVSHM_NAMED_NONE); /* whatever was there: see below */
    write_header(header, self, name, bytes);
    memset((char *) header + IVSHM_NAMED_DATA, 0, bytes);
    IVSHM_TRACEPOINT(named_written);
    /*
     * A header that an earlier process left names another owner; one that this process left is
     * REMOVED. So nobody takes it for a block before this (release N1).
     */
    ivshm_hold_enter(b.hold, b.off, &header->state, IVSHM_NAMED_NONE);
    ivshm_named_change(&header->state, IVSHM_NAMED_NONE, IVSHM_NAMED_PROPOSED);
    IVSHM_TRACEPOINT(named_proposed);
    err = find_rival(names, name, b.off);
    if (!err && !ivshm_named_change(&header->state, IVSHM_NAMED_PROPOSED, IVSHM_NAMED_LIVE))
        err = -EAGAIN;
    if (err) {
        ivshm_named_change(&header->state, IVSHM_NAMED_PROPOSED, IVSHM_NAMED_REMOVED);
        ivshm_hold_leave(b.hold);
        ivshm_named_sweep(names);
        return describe_rival(names, name, err, diag);
    }
    IVSHM_TRACEPOINT(named_live);
    *block = b;
    return 0;
}

/* Using */

static int describe_none(const struct ivshm_names *names, const char *name, struct ivshm_diag *diag)
{
    return ivshm_diag_fail(diag, ENOENT,
                           "region %s has no block %s: its creator has to be running; `ivshmem ps "
                           "%s` lists the blocks",
                           ivshm_region_name(names->transport->region), name,
                           ivshm_region_name(names->transport->region));
}

int ivshm_named_attach(struct ivshm_names *names, const char *name, struct ivshm_named *block,
                       struct ivshm_diag *diag)
{
    struct ivshm_named_info info;
    uint64_t index = 0;
    int err = ivshm_name_check(name, diag);
    if (err)
        return err;
    while (find_next(names->transport->region, name, &index, &info)) {
        if (info.state != IVSHM_NAMED_LIVE)
            continue;
        if (hold(names, &info, block))
            return 0;
        if (errno == EMFILE)
            return ivshm_diag_fail(diag, EMFILE,
                                   "this process holds %d blocks, more are not possible",
                                   IVSHM_HOLDS_MAX);
    }
    return describe_none(names, name, diag);
}

void ivshm_named_detach(struct ivshm_names *names, struct ivshm_named *block)
{
    let_go(names, block);
    ivshm_named_sweep(names);
}

int ivshm_named_remove(struct ivshm_names *names, const char *name, struct ivshm_diag *diag)
{
    const struct ivshm_region *region = names->transport->region;
    struct ivshm_named_info info;
    struct ivshm_named held;
    uint64_t index = 0;
    bool is_removed = false;
    int err = ivshm_name_check(name, diag);
    if (err)
        return err;
    while (!is_removed && find_next(region, name, &index, &info)) {
        if (info.state != IVSHM_NAMED_LIVE || !hold(names, &info, &held))
            continue;
        is_removed = ivshm_named_change(&header_at(region, info.off)->state, IVSHM_NAMED_LIVE,
                                        IVSHM_NAMED_REMOVED);
        let_go(names, &held);
    }
    ivshm_named_sweep(names);
    return is_removed ? 0 : describe_none(names, name, diag);
}

bool ivshm_named_is_found(const struct ivshm_names *names, const struct ivshm_named *block)
{
    return ivshm_endpoint_is_live(names->transport->region, block->owner) &&
           ivshm_a64_load_acquire(&header_at(names->transport->region, block->off)->state) ==
               IVSHM_NAMED_LIVE;
}
