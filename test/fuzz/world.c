/* SPDX-License-Identifier: mpich2 */
#include "fuzz.h"
#include "speed.h"
#include "../no_bell.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#define GUARD (64 * MIB)
#define LATER_MAX 16 /* pending changes at once */

uint64_t take(struct input *in, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes && in->next < in->end; i++)
        value |= (uint64_t) *in->next++ << (8 * i);
    return value;
}

/* Memory */

struct image image_new(uint64_t size)
{
    struct image image = {.fd = memfd_create("ivshm-fuzz", MFD_CLOEXEC), .size = size};
    char *area = mmap(NULL, size + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(image.fd >= 0 && ftruncate(image.fd, (off_t) size) == 0 && area != MAP_FAILED);
    image.base = area + GUARD;
    must(mmap(image.base, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, image.fd, 0) ==
         image.base);
    return image;
}

void image_seal(struct image *image)
{
    must(mmap(image->base, image->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, image->fd,
              0) == image->base);
}

void image_restore(const struct image *image)
{
    must(madvise(image->base, image->size, MADV_DONTNEED) == 0);
}

/* Replaces core/map.c, core/device.c and core/bell.c: every name leads to this image. */

/* fuzz_open's files are real files. */
const char *ivshm_liveness_root(void)
{
    return "/fuzz";
}

const struct image *mapped_image;

int ivshm_map_open(const char *name, bool readonly, struct ivshm_map *map, struct ivshm_diag *diag)
{
    (void) readonly;
    (void) diag;
    *map = (struct ivshm_map){
        .base = mapped_image->base, .size = mapped_image->size, .path = "/dev/null"};
    snprintf(map->name, sizeof(map->name), "%s", name);
    return 0;
}

int ivshm_map_reopen(const struct ivshm_map *map)
{
    (void) map;
    return -ENOENT; /* no file of a kernel that has locks */
}

void ivshm_map_close(struct ivshm_map *map)
{
    map->base = NULL;
}

int ivshm_device_list(struct ivshm_device *devices, int max)
{
    for (int i = 0; i < 2 && i < max; i++)
        devices[i] =
            (struct ivshm_device){.name = "device", .size = mapped_image->size, .is_pci = true};
    return 2;
}

/* A clock's answers differ in each run, and nothing follows from what is loaded meanwhile. */
void ivshm_speed_time(void *memory, bool may_store, struct ivshm_speed_times *times)
{
    (void) memory;
    (void) may_store;
    *times = (struct ivshm_speed_times){1, 1, 1, 1};
}

/*
 * The system that core/liveness.c asks, as it is compiled here: only one process exists, PID, so
 * that the answers are the same in each run.
 */

#define PID 42

static int text_file(const char *text)
{
    int fd = memfd_create("ivshm-fuzz", MFD_CLOEXEC);
    must(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t) strlen(text));
    return fd;
}

pid_t fuzz_getpid(void);
pid_t fuzz_getpid(void)
{
    return PID;
}

int fuzz_kill(pid_t pid, int signal);
int fuzz_kill(pid_t pid, int signal)
{
    must(pid > 0 && signal == 0);
    errno = ESRCH;
    return pid == PID ? 0 : -1;
}

int fuzz_open(const char *path, int flags, ...);
int fuzz_open(const char *path, int flags, ...)
{
    static int uuid = -1, stat, status;
    bool is_own = strstr(path, "/42/") || strstr(path, "/self/");
    (void) flags;
    if (uuid < 0) {
        uuid = text_file("00112233-4455-6677-8899-aabbccddeeff\n");
        stat = text_file("42 (fuzz) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1234 0\n");
        status = text_file("Name:\tfuzz\nNSpid:\t42\n");
    }
    int fd = strstr(path, "_id") || strstr(path, "_uuid") ? uuid
             : is_own && strstr(path, "/status")          ? status
             : is_own && strstr(path, "/stat")            ? stat
                                                          : -1;
    return fd >= 0 && lseek(fd, 0, SEEK_SET) == 0 ? dup(fd) : -1;
}

/* Parties */

static struct {
    const struct world *world; /* NULL: there is only an image */
    struct ivshm_transport party[PARTIES];
    bool confined;
} now;

uint64_t message_limit(const struct ivshm_region *region)
{
    return 8 * (region->geo.inbox_slots + region->geo.blocks);
}

uint64_t table_limit(const struct ivshm_region *region)
{
    const struct ivshm_geometry *geo = &region->geo;
    uint64_t attachments = geo->base_bytes / geo->block_size + 8;
    const unsigned entry = 8 * sizeof(struct ivshm_endpoint_shm) / 8; /* if it keeps changing */
    return 4 * geo->endpoints * (geo->endpoints * attachments + geo->blocks + entry);
}

/* A sends to B, which receives; enough of that makes a ring. */
static void talk(struct ivshm_transport *a, struct ivshm_transport *b)
{
    struct ivshm_outgoing out;
    struct ivshm_incoming in;
    for (unsigned i = 0; i < 8; i++) {
        struct ivshm_channel *channel = a->channels[b->endpoint.owner.endpoint];
        must(ivshm_message_reserve(a, channel, 8, 0, &out) == 0);
        memset(out.payload, 0, 8);
        ivshm_message_publish(a, channel, &out, 8);
        must(ivshm_transport_receive(b, &in, NULL) == 1);
        ivshm_message_release(&in);
    }
}

/* What the functions of handles answer, whatever a peer has made of the superblock by then. */
static void check_handles(const struct world *w)
{
    const struct ivshm_region *r = &w->region;
    const struct ivshm_transport *t = &w->party[OWN];
    const struct ivshm_channel *channel =
        w->party[OWN].channels[ivshm_transport_self(&w->party[HOSTILE]).endpoint];
    size_t bytes;

    must(strcmp(ivshm_region_name(r), "region") == 0 && !ivshm_region_is_device(r));
    must(ivshm_region_map(r)->base == ivshm_region_base(r));
    must(ivshm_region_size(r) == w->image.size && (ivshm_region_id(r)[0] | ivshm_region_id(r)[1]));
    must(ivshm_transport_self(t).endpoint < ivshm_region_endpoints(r));
    must(ivshm_region_first_block(r).bytes + ivshm_region_blocks(r) * ivshm_region_block_size(r) <=
         ivshm_region_size(r));
    must(ivshm_region_address(r, w->memory) == ivshm_region_resolve(r, w->memory, 64));
    must(ivshm_region_offset(r, ivshm_region_address(r, w->memory)).bytes == w->memory.bytes);
    must(ivshm_transport_memory(t, &bytes) && bytes >= r->geo.large_size);
    must(ivshm_region_cells(r) > 0);
    must(ivshm_channel_peer(channel).endpoint == ivshm_transport_self(&w->party[HOSTILE]).endpoint);
    must(!ivshm_channel_is_pending(channel) && !ivshm_channel_is_paused(channel));
    must(ivshm_pipeline_chunk_size(&w->pipeline[OWN]) < ivshm_pipeline_bytes(r));
    must(ivshm_pipeline_offset(&w->pipeline[OWN]).bytes != 0 &&
         ivshm_pipeline_next(&w->pipeline[OWN]) == 0);
}

static void world_build(struct world *w, enum world_kind kind)
{
    static const char *const jobs[PARTIES] = {"hostile", "job", "job"};
    struct ivshm_channel *channel;
    w->image = image_new((kind == BUFFERS ? 16 : 4) * MIB);
    watch_image(&w->image);
    mapped_image = &w->image;
    allow(UINT64_MAX, false);
    must(ivshm_region_open("region", &w->region, NULL) == 0);
    for (enum party p = 0; p < PARTIES; p++) {
        struct ivshm_transport *t = &w->party[p];
        must(ivshm_transport_open(t, &w->region, jobs[p], p, PARTIES, NULL) == 0);
        ivshm_transport_choose(t, IVSHM_COPY_AHEAD, 1); /* long messages go whole */
        if (kind == PLAIN)
            t->ring_after = UINT32_MAX;
        must(ivshm_pipeline_alloc(&w->region, t->endpoint.owner, &w->pipeline[p]) == 0);
    }
    must(ivshm_extent_alloc(&w->region, w->party[HOSTILE].endpoint.owner, IVSHM_KIND_USER,
                            w->region.geo.pipeline_bytes, &w->memory) == 0);
    for (enum party p = 0; p < PARTIES; p++)
        for (enum party q = 0; q < PARTIES; q++)
            if (p != q)
                must(ivshm_channel_open(&w->party[p], w->party[q].endpoint.owner, &channel, NULL) ==
                     0);
    for (enum party p = 0; p < PARTIES; p++)
        for (enum party q = 0; q < PARTIES; q++)
            if (p != q)
                talk(&w->party[p], &w->party[q]);
    check_handles(w);
    image_seal(&w->image);
}

static void *copy_of(const void *bytes, size_t size)
{
    void *copy = malloc(size);
    must(copy);
    return memcpy(copy, bytes, size);
}

static void pool_copy(struct ivshm_pool *pool)
{
    pool->free = copy_of(pool->free, 3 * pool->count * sizeof(*pool->free));
    pool->in_flight = pool->free + pool->count;
    pool->holder = pool->in_flight + pool->count;
}

/* Another copy of all that a transport keeps outside the region. */
static struct ivshm_transport transport_copy(const struct ivshm_transport *t)
{
    uint32_t entries = t->region->geo.endpoints;
    struct ivshm_transport copy = *t;
    pool_copy(&copy.small);
    pool_copy(&copy.large);
    copy.channels = copy_of(t->channels, entries * sizeof(struct ivshm_channel *));
    copy.poll_set.entries =
        copy_of(t->poll_set.entries, entries * sizeof(struct ivshm_poll_entry *));
    for (uint32_t i = 0; i < entries; i++) {
        if (!t->channels[i])
            continue;
        copy.channels[i] = copy_of(t->channels[i], sizeof(struct ivshm_channel));
        struct ivshm_poll_entry *in = &copy.channels[i]->in;
        if (in->ring.shm)
            copy.poll_set.entries[in->index] = in;
    }
    return copy;
}

struct world *world_begin(enum world_kind kind)
{
    static struct world worlds[WORLDS];
    struct world *w = &worlds[kind];
    if (!w->image.base)
        world_build(w, kind);
    image_restore(&w->image);
    watch_image(&w->image);
    mapped_image = &w->image;
    now.world = w;
    now.confined = false;
    memcpy(now.party, w->party, sizeof(now.party));
    return w;
}

const struct world *world_now(void)
{
    return now.world;
}

struct ivshm_transport *parties_begin(void)
{
    for (enum party p = 0; p < PARTIES; p++)
        now.party[p] = transport_copy(&now.world->party[p]);
    return now.party;
}

void parties_end(void)
{
    allow(table_limit(&now.world->region), false);
    ivshm_transport_close(&now.party[OWN]);
    now.party[OWN].channels = NULL;
    for (enum party p = 0; p < OWN; p++) { /* whatever these two could do, others have done */
        struct ivshm_transport *t = &now.party[p];
        for (uint32_t i = 0; i < t->region->geo.endpoints; i++)
            free(t->channels[i]);
        free(t->channels);
        ivshm_poll_set_destroy(&t->poll_set);
        ivshm_pool_destroy(&t->small);
        ivshm_pool_destroy(&t->large);
    }
}

void party_name(enum party who, const char *job, uint32_t rank)
{
    struct ivshm_endpoint_shm *entry =
        &now.world->region.endpoints[now.party[who].endpoint.owner.endpoint];
    const uint64_t word = rank;
    char text[sizeof(entry->job)] = "";
    snprintf(text, sizeof(text), "%s", job);
    memcpy(entry->job, text, sizeof(text));
    memcpy(&entry->rank, &word, sizeof(word));
}

void world_confine(void)
{
    now.confined = true;
}

struct ivshm_channel *channel_of(enum party who, enum party peer)
{
    struct ivshm_channel **channels = now.party[who].channels;
    return channels ? channels[now.party[peer].endpoint.owner.endpoint] : NULL;
}

/* Changes */

enum location {
    AT_THIS, /* the word that is about to be accessed */
    AT_SUPERBLOCK,
    AT_CLAIM,
    AT_ENTRY,
    AT_BLOCK,
    AT_EXTENT, /* the block words at the beginning of an extent */
    AT_INBOX,  /* the slots from the next one on */
    AT_INBOX_END,
    AT_ATTACHED,
    AT_CELL,
    AT_CELL_PAYLOAD,
    AT_RING, /* the slots from the next one on */
    AT_RING_END,
    AT_PIPELINE,
    AT_ANY,
    LOCATIONS
};

enum value { SMALL, RAW, ADD, FLIP, EXTREME, OFFSET, FITTING, VALUES };

struct change {
    uint8_t location, who, field, value;
    uint16_t index;
    uint64_t operand;
    bool on_word;    /* counts accesses to the target word, else all */
    bool is_lasting; /* made at each access from then on */
    uint32_t after;  /* this many accesses */
};

static struct {
    const struct image *image;
    uint64_t allowed, end, writes;
    bool readonly;
    struct change later[LATER_MAX];
    unsigned later_count;
} state;

void watch_image(const struct image *image)
{
    memset(&state, 0, sizeof(state));
    state.image = image;
    now.world = NULL;
}

void allow(uint64_t steps, bool readonly)
{
    state.allowed = steps;
    state.end = state.image->size;
    state.writes = 0;
    state.readonly = readonly;
}

void allow_below(uint64_t end)
{
    state.end = end;
}

bool is_quiet(void)
{
    return state.later_count == 0;
}

uint64_t writes_made(void)
{
    return state.writes;
}

void check_error(int err, const struct ivshm_diag *diag)
{
    static const int known[] = {EAGAIN, EBADMSG, EFBIG,           EMEDIUMTYPE, ENOENT,
                                ENOSPC, ENODEV,  EPROTONOSUPPORT, ESHUTDOWN};
    bool found = false;
    for (unsigned i = 0; i < LENGTH(known); i++)
        found |= err == -known[i];
    must(found && diag->text[0]);
}

static char *at(uint64_t off)
{
    return (char *) state.image->base + off;
}

/* The ring through which `who` sends to us, or we to HOSTILE. */
static struct ivshm_ring_shm *ring_of(enum party who, uint32_t *next)
{
    struct ivshm_channel *channel = channel_of(OWN, who == OWN ? HOSTILE : who);
    if (!channel)
        return NULL;
    struct ivshm_ring_shm *ring = who == OWN ? channel->ring_out.shm : channel->in.ring.shm;
    const struct ivshm_slot_shm *slot = who == OWN ? channel->ring_out.next : channel->in.ring.next;
    if (ring)
        *next = (uint32_t) ((const char *) slot - (const char *) (ring + 1)) /
                now.world->region.geo.slot_size;
    return ring;
}

static void *ring_word(const struct change *c)
{
    const struct ivshm_geometry *geo = &now.world->region.geo;
    uint32_t next = 0;
    struct ivshm_ring_shm *ring = ring_of(c->who, &next);
    if (!ring)
        return NULL;
    if (c->location == AT_RING_END)
        return c->index % 2 ? &ring->idle : &ring->head;
    return ivshm_ring_slot(ring, (next + c->index) % geo->ring_slots, geo->slot_size);
}

static ivshm_off extent_of(unsigned which, enum party who)
{
    uint32_t next;
    struct ivshm_ring_shm *ring = ring_of(who, &next);
    switch (which % 4) {
    case 0:
        return now.party[who].endpoint.base_off;
    case 1:
        return now.world->pipeline[who].off;
    case 2:
        return (ivshm_off){ring ? (uint64_t) ((char *) ring - (char *) state.image->base) : 0};
    default:
        return now.world->memory;
    }
}

/* The beginning of an extent, or beyond it. */
static uint64_t offset_near(uint64_t operand)
{
    return extent_of(operand & 3, (operand >> 2 & 3) % PARTIES).bytes + (operand >> 4 & 0xfff) * 64;
}

ivshm_off take_offset(struct input *in)
{
    uint64_t near = take(in, 2);
    return (ivshm_off){near == UINT16_MAX ? take(in, 8) : offset_near(near)};
}

static struct ivshm_inbox_shm *inbox_of(enum party who)
{
    return (struct ivshm_inbox_shm *) now.party[who].endpoint.base;
}

static uint64_t inbox_position(const struct change *c)
{
    return now.party[c->who].inbox.head + c->index;
}

static struct ivshm_cell_shm *cell_at(const struct change *c)
{
    const struct ivshm_geometry *geo = &now.world->region.geo;
    const struct ivshm_transport *t = &now.world->party[c->who];
    uint32_t index = c->index % (geo->small_cells + geo->large_cells);
    return index < geo->small_cells ? ivshm_pool_cell(&t->small, index)
                                    : ivshm_pool_cell(&t->large, index - geo->small_cells);
}

/* The target word, or NULL if there is none now. Most have 8 bytes. */
static void *word_of(const struct change *c, const void *this, unsigned *bytes)
{
    const struct world *w = now.world;
    enum location location = (enum location) c->location;
    *bytes = 8;
    if (location == AT_THIS) {
        *bytes = (uintptr_t) this % 8 ? 4 : 8;
        return (void *) (uintptr_t) this;
    }
    if (location == AT_SUPERBLOCK)
        return at(c->index % (IVSHM_PAGE / 8) * 8);
    if (location == AT_ANY || !w)
        return at((c->index * UINT64_C(256) + c->field * UINT64_C(8)) % state.image->size);

    const struct ivshm_geometry *geo = &w->region.geo;
    uint32_t entry = c->who < PARTIES ? now.party[c->who].endpoint.owner.endpoint
                                      : (c->who + c->index) % geo->endpoints;
    switch (location) {
    case AT_CLAIM:
        return &w->region.endpoints[entry].claim;
    case AT_ENTRY:
        return at(geo->endpoint_table + entry * 512 + (8 + c->field % 36) * 8);
    case AT_BLOCK:
        return &w->region.block_map[c->index % geo->blocks];
    default:
        break;
    }
    if (c->who >= PARTIES)
        return NULL;
    switch (location) {
    case AT_EXTENT: {
        ivshm_off off = extent_of(c->field, c->who);
        return off.bytes
                   ? &w->region
                          .block_map[((off.bytes - geo->data) / geo->block_size + c->index % 256) %
                                     geo->blocks]
                   : NULL;
    }
    case AT_INBOX:
        return &inbox_of(c->who)->slot[inbox_position(c) % geo->inbox_slots];
    case AT_INBOX_END:
        return c->index % 2 ? &inbox_of(c->who)->tail_hint : &inbox_of(c->who)->head;
    case AT_ATTACHED:
        return &now.party[c->who].endpoint.attached[c->index % (geo->endpoints / 64)];
    case AT_CELL:
        *bytes = 4;
        return (uint32_t *) cell_at(c) + c->field % 4;
    case AT_CELL_PAYLOAD:
        return cell_at(c)->payload;
    case AT_RING:
    case AT_RING_END:
        return ring_word(c);
    case AT_PIPELINE:
        return &w->pipeline[c->who].words[c->index % geo->pipeline_chunks];
    default:
        return NULL;
    }
}

/* A value of the form that is expected there; the operand decides the rest. */
static uint64_t fitting(const struct change *c)
{
    uint64_t operand = c->operand;
    const struct ivshm_channel *channel;
    struct ivshm_owner owner;
    switch ((enum location) c->location) {
    case AT_CLAIM: /* a state, and the generation, or one near it */
        owner = now.party[c->who % PARTIES].endpoint.owner;
        return (operand & 7) | (operand >> 8 & 1 ? (uint64_t) PID << 3 : 0) |
               (uint64_t) (owner.generation + (operand >> 3 & 3)) << 45;
    case AT_BLOCK:
    case AT_EXTENT: /* an owner, a kind, and a count */
        owner = now.party[operand % PARTIES].endpoint.owner;
        return (uint64_t) (owner.endpoint + 1) | (uint64_t) owner.generation << 16 |
               (operand >> 2 & 7) << 35 | (operand >> 5 & 1) << 40 |
               (operand >> 8) % (2 * now.world->region.geo.blocks) << 41;
    case AT_INBOX: /* a reference of this lap */
        owner = now.party[operand % PARTIES].endpoint.owner;
        return (operand >> 8 & 255) | (uint64_t) (owner.generation & 255) << 8 |
               (uint64_t) owner.endpoint << 16 |
               (inbox_position(c) / now.world->region.geo.inbox_slots + 1) << 32;
    case AT_CELL:
    case AT_RING: /* the expected sequence number, and what comes with it */
        channel = c->who < PARTIES && c->who != OWN ? channel_of(OWN, c->who) : NULL;
        if (c->location == AT_CELL)
            return c->field % 4 == 3 && channel ? channel->in.received + operand : operand;
        return (uint32_t) ((channel ? channel->in.received : 0) + c->index) |
               (operand & 0xffff) << 32 | (operand >> 16 & 0xff) << 48;
    default:
        return operand;
    }
}

static uint64_t value_of(const struct change *c, uint64_t before)
{
    static const uint64_t extremes[] = {UINT64_MAX,     UINT32_MAX,        INT64_MAX, INT32_MAX,
                                        IVSHM_SIZE_MAX, UINT64_C(1) << 63, 65535,     IVSHM_MAGIC};
    switch ((enum value) c->value) {
    case ADD:
        return before + (uint64_t) (int8_t) c->operand;
    case FLIP:
        return before ^ UINT64_C(1) << c->operand % 64;
    case EXTREME:
        return extremes[c->operand % LENGTH(extremes)];
    case OFFSET:
        return now.world ? offset_near(c->operand) : c->operand * 64;
    case FITTING:
        return now.world ? fitting(c) : c->operand;
    default:
        return c->operand;
    }
}

static bool is_hostile_memory(const char *word)
{
    const struct ivshm_region *region = &now.world->region;
    uint32_t endpoint = now.party[HOSTILE].endpoint.owner.endpoint, next;
    const char *ring = (const char *) ring_of(OWN, &next);
    uint64_t off = (uint64_t) (word - at(0));
    if (ring && word >= ring && word < ring + sizeof(struct ivshm_ring_shm))
        return true;
    if (off >= region->geo.data)
        return (region->block_map[(off - region->geo.data) / region->geo.block_size].word &
                0xffff) == endpoint + 1;
    return word >= (const char *) &region->endpoints[endpoint] &&
           word < (const char *) &region->endpoints[endpoint + 1];
}

static void apply(const struct change *c, const void *this)
{
    unsigned bytes;
    char *word = word_of(c, this, &bytes);
    uint64_t value = 0;
    if (!word || (now.confined && !is_hostile_memory(word)))
        return;
    memcpy(&value, word, bytes);
    value = value_of(c, value);
    memcpy(word, &value, bytes);
}

void ivshm_access_step(const void *word, bool writes)
{
    uint64_t off = (uint64_t) ((const char *) word - (const char *) state.image->base);
    unsigned kept = 0, bytes;
    must(off < state.end && off % 4 == 0);
    must(state.allowed-- > 0);
    must(!writes || !state.readonly);
    state.writes += writes;
    for (unsigned i = 0; i < state.later_count; i++) {
        struct change *c = &state.later[i];
        bool is_here = !c->on_word || word_of(c, NULL, &bytes) == word;
        bool is_due = is_here && c->after == 0;
        if (is_due)
            apply(c, word);
        else if (is_here)
            c->after--;
        if (is_due && !c->is_lasting)
            continue;
        if (kept != i)
            state.later[kept] = *c;
        kept++;
    }
    state.later_count = kept;
}

static struct change take_change(struct input *in)
{
    static const unsigned operand_bytes[VALUES] = {1, 8, 1, 1, 1, 2, 4};
    struct change c = {.location = (uint8_t) (take(in, 1) % LOCATIONS)};
    uint64_t form = take(in, 1);
    c.value = (uint8_t) (form % 8 % VALUES);
    c.who = (uint8_t) (form >> 3 & 3);
    c.field = (uint8_t) take(in, 1);
    c.index = (uint16_t) take(in, form & 32 ? 2 : 1);
    c.operand = take(in, operand_bytes[c.value]);
    return c;
}

#define IS_CHANGE 128
#define IS_LATER 64
#define IS_ON_WORD 32

void play(struct input *in, unsigned calls_max, void (*call)(struct input *in, unsigned op))
{
    unsigned calls = 0;
    while (in->next < in->end) {
        unsigned op = (unsigned) take(in, 1);
        if (!(op & IS_CHANGE)) {
            if (calls++ < calls_max)
                call(in, op);
            continue;
        }
        struct change c = take_change(in);
        if (!(op & IS_LATER)) {
            apply(&c, at(0));
        } else if (state.later_count < LATER_MAX) {
            c.on_word = op & IS_ON_WORD && c.location != AT_THIS;
            c.after = op & 31;
            c.is_lasting = c.on_word && op & 16;
            if (!c.on_word && op & 16)
                c.after = (op & 15) * 64;
            state.later[state.later_count++] = c;
        }
    }
}
