/* SPDX-License-Identifier: mpich2 */
#include "endpoint.h"
#include "tracepoint.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define PID_SHIFT IVSHM_CLAIM_STATE_BITS
#define HOST_SHIFT (PID_SHIFT + IVSHM_CLAIM_PID_BITS)
#define GEN_SHIFT (HOST_SHIFT + IVSHM_CLAIM_HOST_BITS)
#define LOW_BITS(n) ((UINT64_C(1) << (n)) - 1)

_Static_assert(GEN_SHIFT + IVSHM_CLAIM_GEN_BITS == 64, "the claim fills its word");

static uint64_t pack_claim(struct ivshm_claim c)
{
    return (uint64_t) c.state | (uint64_t) c.pid << PID_SHIFT |
           (uint64_t) c.host_hash << HOST_SHIFT | (uint64_t) c.generation << GEN_SHIFT;
}

static struct ivshm_claim unpack_claim(uint64_t word)
{
    return (struct ivshm_claim){
        .state = (enum ivshm_claim_state)(word & LOW_BITS(IVSHM_CLAIM_STATE_BITS)),
        .pid = (uint32_t) (word >> PID_SHIFT & LOW_BITS(IVSHM_CLAIM_PID_BITS)),
        .host_hash = (uint32_t) (word >> HOST_SHIFT & LOW_BITS(IVSHM_CLAIM_HOST_BITS)),
        .generation = (uint32_t) (word >> GEN_SHIFT),
    };
}

static uint64_t with_state(uint64_t word, enum ivshm_claim_state state)
{
    return (word & ~LOW_BITS(IVSHM_CLAIM_STATE_BITS)) | (uint64_t) state;
}

static ivshm_a64 *claim_word(const struct ivshm_region *region, uint32_t index)
{
    return &region->endpoints[index].claim;
}

/* An index may come from anywhere: a business card, a word in the region. */
static bool is_in_table(const struct ivshm_region *region, uint32_t index)
{
    return index < region->geo.endpoints;
}

struct ivshm_claim ivshm_endpoint_claim(const struct ivshm_region *region, uint32_t index)
{
    if (!is_in_table(region, index))
        return (struct ivshm_claim){.state = IVSHM_CLAIM_FREE};
    return unpack_claim(ivshm_a64_load_acquire(claim_word(region, index)));
}

bool ivshm_endpoint_is_live(const struct ivshm_region *region, struct ivshm_owner peer)
{
    if (!is_in_table(region, peer.endpoint))
        return false;
    /* Acquire E2: what a peer sent before it left is in our inbox or in its ring. */
    struct ivshm_claim c = unpack_claim(ivshm_a64_load_acquire(claim_word(region, peer.endpoint)));
    return c.state == IVSHM_CLAIM_LIVE && c.generation == peer.generation;
}

/* Text is stored as words, so a reader never races with a plain byte. */
static void store_text(ivshm_a64 *words, size_t count, const char *text)
{
    char bytes[128] = {0};
    size_t len = strnlen(text, count * 8 - 1);
    memcpy(bytes, text, len);
    for (size_t i = 0; i < count; i++) {
        uint64_t w;
        memcpy(&w, bytes + i * 8, 8);
        ivshm_a64_store_release(&words[i], w);
    }
}

static void load_text(const ivshm_a64 *words, size_t count, char *text)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t w = ivshm_a64_load_acquire(&words[i]);
        memcpy(text + i * 8, &w, 8);
    }
    text[count * 8 - 1] = 0;
}

/*
 * Distinguishes an identity that one process has written from one that two have written, or none.
 */
static uint64_t seal_of(const struct ivshm_process *p, uint32_t generation)
{
    const uint64_t words[IVSHM_SEAL_WORDS] = {
        p->boot_id[0],
        p->boot_id[1],
        p->vm_uuid[0],
        p->vm_uuid[1],
        p->vm_generation[0],
        p->vm_generation[1],
        p->traits,
        p->pid_ns,
        p->pid,
        p->start_time,
        p->bell,
    };
    uint64_t h = generation;
    for (size_t i = 0; i < IVSHM_SEAL_WORDS; i++) {
        h = (h ^ words[i]) * IVSHM_SEAL_MIX;
        h ^= h >> 32;
    }
    return h;
}

#define BELL_LISTENS (UINT64_C(1) << 48)
#define BELL_RINGS (UINT64_C(1) << 49)

static uint64_t pack_bell(const struct ivshm_region *region)
{
    const struct ivshm_bell_address *bell = &region->bell.self;
    if (!region->map.has_bell)
        return 0;
    return ((uint64_t) region->map.peer + 1) | (uint64_t) bell->vector << 32 |
           (bell->listens ? BELL_LISTENS : 0) | (bell->rings ? BELL_RINGS : 0);
}

/* False if there is none, or the word has an ID that no device can have. */
static bool unpack_bell(uint64_t word, struct ivshm_bell_address *bell)
{
    uint64_t number = word & LOW_BITS(32);
    if (number == 0 || number - 1 > IVSHM_PEER_MAX)
        return false;
    *bell = (struct ivshm_bell_address){.id = (uint16_t) (number - 1),
                                        .vector = (uint16_t) (word >> 32),
                                        .listens = word & BELL_LISTENS,
                                        .rings = word & BELL_RINGS};
    return true;
}

/* `hash` is the caller's own. */
static bool is_here(uint32_t hash, struct ivshm_claim claim)
{
    return hash && claim.host_hash == hash;
}

bool ivshm_endpoint_can_wake(const struct ivshm_endpoint *ep, struct ivshm_owner peer)
{
    return !ivshm_map_is_device(&ep->region->map) &&
           is_here(ivshm_process_host_hash(&ep->process),
                   ivshm_endpoint_claim(ep->region, peer.endpoint));
}

struct ivshm_bell_address ivshm_endpoint_bell(const struct ivshm_region *region, uint32_t index)
{
    struct ivshm_bell_address bell = {0};
    /* Acquire E3, after that of the claim. */
    unpack_bell(ivshm_a64_load_acquire(&region->endpoints[index].bell), &bell);
    return bell;
}

struct ivshm_crowd ivshm_endpoint_crowd(const struct ivshm_endpoint *ep)
{
    struct ivshm_crowd crowd = {0};
    uint32_t hash = ivshm_process_host_hash(&ep->process);
    bool can_ring = ep->region->bell.self.listens;
    for (uint32_t i = 0; i < ep->region->geo.endpoints; i++) {
        struct ivshm_claim claim = ivshm_endpoint_claim(ep->region, i);
        if (claim.state != IVSHM_CLAIM_LIVE)
            continue;
        if (is_here(hash, claim))
            crowd.here++;
        else
            crowd.elsewhere++;
        can_ring = can_ring && ivshm_endpoint_bell(ep->region, i).rings;
    }
    if (crowd.elsewhere == 0 && !ivshm_map_is_device(&ep->region->map))
        crowd.sleep = IVSHM_SLEEP_ON_FUTEX;
    else if (can_ring)
        crowd.sleep = IVSHM_SLEEP_ON_BELL;
    return crowd;
}

int ivshm_endpoint_read(const struct ivshm_region *region, uint32_t index,
                        struct ivshm_endpoint_info *info)
{
    if (!is_in_table(region, index))
        return -ENOENT;
    const struct ivshm_endpoint_shm *e = &region->endpoints[index];
    for (int tries = 0; tries < 8; tries++) {
        uint64_t before = ivshm_a64_load_acquire(&e->claim); /* acquire E1 */
        struct ivshm_endpoint_info r = {.claim = unpack_claim(before)};
        if (r.claim.state == IVSHM_CLAIM_FREE)
            return -ENOENT;
        for (int i = 0; i < 2; i++) {
            r.process.boot_id[i] = ivshm_a64_load_acquire(&e->boot_id[i]);
            r.process.vm_uuid[i] = ivshm_a64_load_acquire(&e->vm_uuid[i]);
            r.process.vm_generation[i] = ivshm_a64_load_acquire(&e->vm_generation[i]);
        }
        r.process.traits = ivshm_a64_load_acquire(&e->traits);
        r.process.pid_ns = ivshm_a64_load_acquire(&e->pid_ns);
        r.process.pid = ivshm_a64_load_acquire(&e->pid);
        r.process.start_time = ivshm_a64_load_acquire(&e->start_time);
        r.process.bell = ivshm_a64_load_acquire(&e->bell);
        r.named = ivshm_a64_load_acquire(&e->seal) == seal_of(&r.process, r.claim.generation);
        r.has_bell = unpack_bell(r.process.bell, &r.bell) && r.named;
        r.base.bytes = ivshm_a64_load_acquire(&e->base);
        r.joined_at = ivshm_a64_load_acquire(&e->joined_at);
        r.rank = (uint32_t) ivshm_a64_load_acquire(&e->rank);
        r.job_size = (uint32_t) ivshm_a64_load_acquire(&e->job_size);
        load_text(e->host, 8, r.process.host);
        load_text(e->job, 16, r.job);
        /*
         * Each field above consists of whole words. The second look tells whether they belong to
         * one claim: whoever reads a word of the next claim sees that claim, too (E3).
         */
        if (ivshm_a64_load_seqcst(&e->claim) == before) {
            *info = r;
            return 0;
        }
    }
    return -EAGAIN;
}

bool ivshm_endpoint_told(const struct ivshm_region *region, uint32_t index,
                         const struct ivshm_endpoint_info *info, struct ivshm_told *told)
{
    const struct ivshm_owner owner = {index, info->claim.generation};
    const struct ivshm_geometry *geo = &region->geo;
    if (!ivshm_extent_owned(region, owner, IVSHM_KIND_BASE, info->base, geo->base_bytes))
        return false;
    const char *base = ivshm_region_resolve(region, info->base, geo->base_bytes);
    if (!base)
        return false;
    const struct ivshm_told_shm *shm = (const struct ivshm_told_shm *) (base + geo->told);
    const struct ivshm_told r = {.doing = ivshm_a64_load_relaxed(&shm->doing),
                                 .time = ivshm_a64_load_relaxed(&shm->time),
#define X(name) .counts.name = ivshm_a64_load_relaxed(&shm->name),
                                 IVSHM_COUNTS(X)
#undef X
    };
    /* The memory may be another's by now. */
    if (!ivshm_endpoint_is_live(region, owner))
        return false;
    *told = r;
    return true;
}

uint64_t ivshm_endpoint_seal(const struct ivshm_endpoint *ep)
{
    return seal_of(&ep->process, ep->owner.generation);
}

int ivshm_endpoint_find(const struct ivshm_region *region, struct ivshm_owner peer, uint64_t seal)
{
    if (!is_in_table(region, peer.endpoint))
        return -ENOENT;
    /* Acquire E1, E3, as in ivshm_endpoint_read. An entry that is free keeps its last seal. */
    uint64_t word = ivshm_a64_load_acquire(claim_word(region, peer.endpoint));
    uint64_t found = ivshm_a64_load_acquire(&region->endpoints[peer.endpoint].seal);
    uint64_t again = ivshm_a64_load_seqcst(claim_word(region, peer.endpoint));
    uint32_t since = (unpack_claim(again).generation - peer.generation) &
                     (uint32_t) LOW_BITS(IVSHM_CLAIM_GEN_BITS);
    if (since == 0)
        return found == seal && unpack_claim(word).generation == peer.generation ? 0 : -ENOENT;
    return since >> (IVSHM_CLAIM_GEN_BITS - 1) == 0 ? -ESTALE : -ENOENT;
}

/* The caller, with the traits and the bell that come from how it maps this region. */
static struct ivshm_process on_region(const struct ivshm_region *region,
                                      const struct ivshm_process *self)
{
    struct ivshm_process me = *self;
    me.traits |= region->map.is_memory ? IVSHM_TRAIT_MEMORY : 0;
    me.traits |= region->map.is_device ? IVSHM_TRAIT_DEVICE : 0;
    me.bell = pack_bell(region);
    return me;
}

enum ivshm_locality ivshm_endpoint_locality(const struct ivshm_region *region,
                                            const struct ivshm_process *self,
                                            const struct ivshm_endpoint_info *info)
{
    struct ivshm_process me = on_region(region, self);
    uint32_t hash = ivshm_process_host_hash(&me);
    if (info->claim.state != IVSHM_CLAIM_JOINING)
        return info->named ? ivshm_process_locality(&me, &info->process) : IVSHM_LOCALITY_ELSEWHERE;
    return hash && info->claim.host_hash == hash ? IVSHM_LOCALITY_HERE : IVSHM_LOCALITY_ELSEWHERE;
}

/*
 * Whether the memory that the process has mapped is gone with its VM. A process of the host may
 * have mapped the file by another descriptor than the one that has the lock, so it is not judged by
 * that. *info was read before the lock is looked at: the ID may be given again at any time.
 */
static bool is_of_gone_vm(const struct ivshm_region *region, const struct ivshm_endpoint_info *info,
                          struct ivshm_locks *locks)
{
    return info->has_bell && info->process.traits & IVSHM_TRAIT_DEVICE &&
           ivshm_peer_is_gone(&region->map, info->bell.id, locks);
}

enum ivshm_liveness ivshm_endpoint_liveness(const struct ivshm_region *region,
                                            const struct ivshm_process *self,
                                            const struct ivshm_endpoint_info *info,
                                            struct ivshm_census *census, struct ivshm_locks *locks)
{
    struct ivshm_process me = on_region(region, self);
    enum ivshm_liveness liveness;
    switch (info->claim.state) {
    case IVSHM_CLAIM_DEAD:
        return IVSHM_LIVENESS_DEAD;
    case IVSHM_CLAIM_JOINING:
        /*
         * There is only the claim, and another host can have the same 20 bits of hash. If a joiner
         * is thus taken for dead by mistake, it finds on becoming NAMED that the entry is no longer
         * its own, and has lost nothing else. What it writes into the next owner's identity breaks
         * the seal.
         */
        return ivshm_endpoint_locality(region, self, info) == IVSHM_LOCALITY_HERE
                   ? ivshm_pid_liveness(info->claim.pid, 0)
                   : IVSHM_LIVENESS_UNKNOWN;
    default: /* also a state that does not exist: the seal tells whose entry it is */
        if (!info->named)
            return IVSHM_LIVENESS_UNKNOWN;
        liveness = ivshm_process_liveness(&me, &info->process, census);
        return liveness == IVSHM_LIVENESS_UNKNOWN && is_of_gone_vm(region, info, locks)
                   ? IVSHM_LIVENESS_DEAD
                   : liveness;
    }
}

/* The attachment bitmap of a live endpoint, or NULL if its entry is invalid. */
static const ivshm_a64 *attachment_bits(const struct ivshm_region *region, uint32_t index,
                                        uint64_t claim)
{
    ivshm_off base = {ivshm_a64_load_relaxed(&region->endpoints[index].base)};
    struct ivshm_owner owner = {index, unpack_claim(claim).generation};
    if (!ivshm_extent_owned(region, owner, IVSHM_KIND_BASE, base, region->geo.base_bytes))
        return NULL;
    const char *addr = ivshm_region_resolve(region, base, region->geo.base_bytes);
    return addr ? (const ivshm_a64 *) (addr + region->geo.attached) : NULL;
}

/*
 * Whether a live endpoint is attached to entry `index`. Its load of the bit pairs with the store in
 * ivshm_endpoint_attach (A1).
 */
static bool is_attached_to(const struct ivshm_region *region, uint32_t index)
{
    for (uint32_t i = 0; i < region->geo.endpoints; i++) {
        uint64_t claim = ivshm_a64_load_seqcst(claim_word(region, i));
        if (unpack_claim(claim).state != IVSHM_CLAIM_LIVE || i == index)
            continue;
        const ivshm_a64 *bits = attachment_bits(region, i, claim);
        if (bits && ivshm_a64_load_seqcst(&bits[index / 64]) >> (index % 64) & 1)
            return true;
    }
    return false;
}

/* Frees entry `index`, which is DEAD with claim `word`, unless somebody is attached to it. */
static bool reclaim_entry(struct ivshm_region *region, uint32_t index, uint64_t word,
                          uint64_t *blocks)
{
    struct ivshm_owner owner = {index, unpack_claim(word).generation};
    if (is_attached_to(region, index))
        return false;
    IVSHM_TRACEPOINT(reap_free);
    *blocks += ivshm_extent_reclaim(region, owner);
    IVSHM_TRACEPOINT(reap_freed);
    /* Keeps the generation, from which the next claim continues. */
    ivshm_a64_cas_seqcst(claim_word(region, index), word,
                         pack_claim((struct ivshm_claim){.state = IVSHM_CLAIM_FREE,
                                                         .generation = owner.generation}));
    return true;
}

/* Also true in a state that does not exist, which a stray store has left. */
static bool may_die(uint64_t word)
{
    enum ivshm_claim_state state = unpack_claim(word).state;
    return state != IVSHM_CLAIM_FREE && state != IVSHM_CLAIM_DEAD;
}

static void mark_the_dead(struct ivshm_region *region, const struct ivshm_process *self,
                          struct ivshm_census *census)
{
    struct ivshm_locks locks = {0};
    for (uint32_t i = 0; i < region->geo.endpoints; i++) {
        uint64_t word = ivshm_a64_load_acquire(claim_word(region, i));
        struct ivshm_endpoint_info info;
        if (may_die(word) && ivshm_endpoint_read(region, i, &info) == 0 &&
            pack_claim(info.claim) == word &&
            ivshm_endpoint_liveness(region, self, &info, census, &locks) == IVSHM_LIVENESS_DEAD)
            ivshm_a64_cas_seqcst(claim_word(region, i), word, with_state(word, IVSHM_CLAIM_DEAD));
    }
    ivshm_locks_close(&locks);
}

void ivshm_endpoint_watch(struct ivshm_region *region, const struct ivshm_process *self)
{
    mark_the_dead(region, self, NULL);
}

void ivshm_endpoint_declare_dead(struct ivshm_region *region, uint32_t index,
                                 struct ivshm_claim claim)
{
    if (is_in_table(region, index) && may_die(pack_claim(claim)))
        ivshm_a64_cas_seqcst(claim_word(region, index), pack_claim(claim),
                             with_state(pack_claim(claim), IVSHM_CLAIM_DEAD));
}

void ivshm_endpoint_reap(struct ivshm_region *region, const struct ivshm_process *self,
                         struct ivshm_reaped *reaped)
{
    struct ivshm_reaped r = {0};
    struct ivshm_census census = {0};
    if (self)
        mark_the_dead(region, self, &census);
    ivshm_census_free(&census);
    for (uint32_t i = 0; i < region->geo.endpoints; i++) {
        uint64_t word = ivshm_a64_load_seqcst(claim_word(region, i));
        if (unpack_claim(word).state != IVSHM_CLAIM_DEAD)
            continue;
        if (reclaim_entry(region, i, word, &r.blocks))
            r.endpoints++;
        else
            r.waiting++;
    }
    if (reaped)
        *reaped = r;
}

/*
 * The size in MiB, a power of two and not less than the region's, at which a job of this size has
 * room: with a pipeline for each rank, and a quarter to spare.
 */
static unsigned long long size_for(uint32_t ranks, uint64_t at_least)
{
    struct ivshm_geometry geo;
    uint64_t size = IVSHM_SIZE_MIN;
    for (; size < IVSHM_SIZE_MAX; size *= 2) {
        if (size >= at_least && ivshm_geometry_compute(size, &geo, NULL) == 0 &&
            ranks <= geo.endpoints &&
            geo.blocks >=
                ranks * ((geo.base_bytes + geo.pipeline_bytes) / geo.block_size + 2) * 5 / 4)
            break;
    }
    return size >> 20;
}

/* Returns -ENOSPC, and in diag whether the table or the memory is full. */
static int explain_full(const struct ivshm_region *region, bool table, uint32_t job_size,
                        struct ivshm_diag *diag)
{
    struct ivshm_extent_usage usage;
    uint32_t used = 0;
    uint64_t need = region->geo.base_bytes + region->geo.pipeline_bytes;
    unsigned long long megabytes = size_for(job_size, region->geo.size);
    for (uint32_t i = 0; i < region->geo.endpoints; i++)
        used += ivshm_endpoint_claim(region, i).state != IVSHM_CLAIM_FREE;
    ivshm_extent_usage(region, &usage);
    if (!table && usage.longest_free * region->geo.block_size >= need)
        return ivshm_backing_describe_no_memory(&region->map,
                                                diag); /* blocks are free, but have no memory */
    return ivshm_diag_fail(
        diag, ENOSPC,
        "region %s (%llu MiB) is full: %s; %u of %u endpoints are in use, %llu KiB are "
        "free, a rank needs %llu KiB. A job of %u ranks needs %lluM: pass size=%lluM to "
        "QEMU, or run `ivshmem ps` to see which processes hold the memory",
        region->map.name, (unsigned long long) (region->geo.size >> 20),
        table ? "no endpoint is left" : "no memory is left", used, region->geo.endpoints,
        (unsigned long long) (usage.free_blocks * region->geo.block_size >> 10),
        (unsigned long long) (need >> 10), job_size, megabytes, megabytes);
}

int ivshm_endpoint_describe_no_memory(const struct ivshm_region *region, uint32_t job_size,
                                      struct ivshm_diag *diag)
{
    return explain_full(region, false, job_size, diag);
}

/* Changes a FREE entry to JOINING by a CAS. From here on the claim tells who holds the entry. */
static bool claim_entry(struct ivshm_region *region, const struct ivshm_process *self,
                        struct ivshm_owner *owner)
{
    for (uint32_t i = 0; i < region->geo.endpoints; i++) {
        uint64_t word = ivshm_a64_load_relaxed(claim_word(region, i));
        struct ivshm_claim c = unpack_claim(word);
        if (c.state != IVSHM_CLAIM_FREE)
            continue;
        c = (struct ivshm_claim){
            .state = IVSHM_CLAIM_JOINING,
            .generation = (uint32_t) ((c.generation + 1) & LOW_BITS(IVSHM_CLAIM_GEN_BITS)),
            .pid = (uint32_t) self->pid,
            .host_hash = ivshm_process_host_hash(self),
        };
        if (ivshm_a64_cas_seqcst(claim_word(region, i), word, pack_claim(c))) {
            *owner = (struct ivshm_owner){i, c.generation};
            return true;
        }
    }
    return false;
}

/* Marks the claim DEAD (release E2) and frees the entry if possible; else a later reap does. */
static void release_entry(struct ivshm_endpoint *ep)
{
    uint64_t word = ivshm_a64_load_relaxed(claim_word(ep->region, ep->owner.endpoint));
    if (unpack_claim(word).generation == ep->owner.generation &&
        unpack_claim(word).state != IVSHM_CLAIM_FREE)
        ivshm_a64_cas_seqcst(claim_word(ep->region, ep->owner.endpoint), word,
                             with_state(word, IVSHM_CLAIM_DEAD));
    IVSHM_TRACEPOINT(leave_dead);
    ivshm_endpoint_reap(ep->region, &ep->process, NULL);
}

/*
 * Takes our own claim from one state to the next (release E1). False if it was marked dead on a
 * wrong declaration: the entry may be another process' by now.
 */
static bool advance_claim(const struct ivshm_endpoint *ep, enum ivshm_claim_state from,
                          enum ivshm_claim_state to)
{
    struct ivshm_claim claim = {.state = from,
                                .generation = ep->owner.generation,
                                .pid = (uint32_t) ep->process.pid,
                                .host_hash = ivshm_process_host_hash(&ep->process)};
    uint64_t word = pack_claim(claim);
    return ivshm_a64_cas_seqcst(claim_word(ep->region, ep->owner.endpoint), word,
                                with_state(word, to));
}

static int explain_lost(const struct ivshm_endpoint *ep, struct ivshm_diag *diag)
{
    return ivshm_diag_fail(
        diag, ESHUTDOWN,
        "this process was declared dead while it joined region %s, and its endpoint %u was "
        "reclaimed: find out who runs `ivshmem reap` with --vm-gone, --container-gone or "
        "--endpoint, then start again",
        ep->region->map.name, ep->owner.endpoint);
}

int ivshm_endpoint_join(struct ivshm_region *region, const char *job, uint32_t rank,
                        uint32_t job_size, struct ivshm_endpoint *ep, struct ivshm_diag *diag)
{
    struct ivshm_endpoint r = {.region = region};
    int err = ivshm_process_self(&r.process, diag);
    if (err)
        return err;
    r.process = on_region(region, &r.process);
    ivshm_endpoint_reap(region, &r.process, NULL);
    IVSHM_TRACEPOINT(join_claim);
    if (!claim_entry(region, &r.process, &r.owner))
        return explain_full(region, true, job_size, diag);
    IVSHM_TRACEPOINT(join_claimed);

    struct ivshm_endpoint_shm *e = &region->endpoints[r.owner.endpoint];
    /* Release E3: after the claim, for a reader while the entry changes hands. */
    for (int i = 0; i < 2; i++) {
        ivshm_a64_store_release(&e->boot_id[i], r.process.boot_id[i]);
        ivshm_a64_store_release(&e->vm_uuid[i], r.process.vm_uuid[i]);
        ivshm_a64_store_release(&e->vm_generation[i], r.process.vm_generation[i]);
    }
    ivshm_a64_store_release(&e->traits, r.process.traits);
    ivshm_a64_store_release(&e->pid_ns, r.process.pid_ns);
    ivshm_a64_store_release(&e->pid, r.process.pid);
    IVSHM_TRACEPOINT(join_half_written);
    ivshm_a64_store_release(&e->start_time, r.process.start_time);
    ivshm_a64_store_release(&e->bell, r.process.bell);
    ivshm_a64_store_release(&e->joined_at, (uint64_t) time(NULL));
    ivshm_a64_store_release(&e->rank, rank);
    ivshm_a64_store_release(&e->job_size, job_size);
    store_text(e->host, 8, r.process.host);
    store_text(e->job, 16, job);
    ivshm_a64_store_release(&e->seal, seal_of(&r.process, r.owner.generation));
    IVSHM_TRACEPOINT(join_written);
    /* Only now may it allocate blocks: the entry fully identifies their owner. */
    if (!advance_claim(&r, IVSHM_CLAIM_JOINING, IVSHM_CLAIM_NAMED))
        return explain_lost(&r, diag);
    IVSHM_TRACEPOINT(join_named);
    if (ivshm_extent_alloc(region, r.owner, IVSHM_KIND_BASE, region->geo.base_bytes, &r.base_off)) {
        release_entry(&r);
        return explain_full(region, false, job_size, diag);
    }
    IVSHM_TRACEPOINT(join_allocated);
    r.base = ivshm_region_resolve(region, r.base_off, region->geo.base_bytes);
    r.attached = (ivshm_a64 *) ((char *) r.base + region->geo.attached);
    memset(r.base, 0, region->geo.base_bytes);
    IVSHM_TRACEPOINT(join_zeroed);
    ivshm_a64_store_release(&e->base, r.base_off.bytes);
    *ep = r;
    return 0;
}

int ivshm_endpoint_publish(struct ivshm_endpoint *ep, struct ivshm_diag *diag)
{
    if (!advance_claim(ep, IVSHM_CLAIM_NAMED, IVSHM_CLAIM_LIVE)) {
        /* What was allocated after the reaper had passed over the map. */
        ivshm_extent_reclaim(ep->region, ep->owner);
        return explain_lost(ep, diag);
    }
    IVSHM_TRACEPOINT(join_published);
    return 0;
}

void ivshm_endpoint_leave(struct ivshm_endpoint *ep)
{
    for (uint32_t i = 0; i < ep->region->geo.endpoints / 64; i++)
        ivshm_a64_store_release(&ep->attached[i], 0);
    IVSHM_TRACEPOINT(leave_detached);
    release_entry(ep);
}

int ivshm_endpoint_attach(struct ivshm_endpoint *ep, struct ivshm_owner peer, void **base,
                          struct ivshm_diag *diag)
{
    const struct ivshm_region *region = ep->region;
    if (!is_in_table(region, peer.endpoint))
        return ivshm_diag_fail(diag, EBADMSG,
                               "endpoint %u is beyond the table of %u endpoints in region %s",
                               peer.endpoint, region->geo.endpoints, region->map.name);

    /*
     * Store the bit, then load the claim. A reaper changes the claim to DEAD, then loads the bits
     * (A1). Both pairs are sequentially consistent, so at least one of us sees the other.
     */
    uint64_t bit = UINT64_C(1) << (peer.endpoint % 64);
    bool was_attached = ivshm_a64_or_seqcst(&ep->attached[peer.endpoint / 64], bit) & bit;
    uint64_t word = ivshm_a64_load_seqcst(claim_word(region, peer.endpoint));
    IVSHM_TRACEPOINT(attach_announced);
    struct ivshm_claim c = unpack_claim(word);
    if (c.state != IVSHM_CLAIM_LIVE || c.generation != peer.generation) {
        if (!was_attached)
            ivshm_endpoint_detach(ep, peer.endpoint);
        return ivshm_diag_fail(diag, ESHUTDOWN,
                               "endpoint %u (generation %u) of region %s has left or is dead",
                               peer.endpoint, peer.generation, region->map.name);
    }
    ivshm_off off = {ivshm_a64_load_relaxed(&region->endpoints[peer.endpoint].base)};
    void *addr = ivshm_region_resolve(region, off, region->geo.base_bytes);
    if (!addr || !ivshm_extent_owned(region, peer, IVSHM_KIND_BASE, off, region->geo.base_bytes)) {
        if (!was_attached)
            ivshm_endpoint_detach(ep, peer.endpoint);
        return ivshm_diag_fail(
            diag, EBADMSG,
            "endpoint %u of region %s names memory at offset %llu that is not its own: the "
            "region is damaged; `ivshmem check` tells more",
            peer.endpoint, region->map.name, (unsigned long long) off.bytes);
    }
    IVSHM_TRACEPOINT(attach_done);
    *base = addr;
    return 0;
}

void ivshm_endpoint_detach(struct ivshm_endpoint *ep, uint32_t peer)
{
    ivshm_a64_and_seqcst(&ep->attached[peer / 64], ~(UINT64_C(1) << (peer % 64)));
}
