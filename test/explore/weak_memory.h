/* SPDX-License-Identifier: mpich2 */
/*
 * What a load may find where memory is weakly ordered; part of explore.h, for programs that are
 * compiled with weak.h. The memory model is that of C11 without sequences of stores that begin with
 * another actor's future (RC11): each word that actors share has a history of stores. An actor has
 * a view, that is, how much of each history it must not ignore. A load returns the newest store, or
 * an older one that is not below the view. A release attaches the view of the actor to the store,
 * and an acquire adds what is attached to the view of the loader. A sequentially consistent load
 * does not ignore a sequentially consistent store that was made before. A read-modify-write finds
 * the newest store, and passes on what is attached to it; a swap may fail because it finds an older
 * one.
 *
 * Compilers translate C11 for ARMv8 correctly, so what holds here also holds there, but for what is
 * left out:
 *   - A store becomes the newest of its word at once. Words that two actors store without a
 *     read-modify-write are hints, or the words of a region that is formatted anew (S3).
 *   - No load returns a store that comes later, although processors may delay a load beyond a
 * store. What a case reads and writes with explore_plain_load and explore_plain_store is checked
 * for that: each store must be ordered behind all accesses of others (as in C11, where anything
 * else is a data race), and each load behind the last store.
 *   - The number of old stores that are found in a schedule is bounded.
 * An actor that sees another's end or death (explore_fate) sees all that this one has stored: the
 * proof of a death passes through the kernel, or through a claim.
 */
#ifndef WEAK_MEMORY_H
#define WEAK_MEMORY_H

#define WEAK_PLACES 512  /* histories: for each conflicting word one, or two if it is halved */
#define WEAK_STORES 256  /* of a word */
#define WEAK_VIEWS 16384 /* of a schedule */
#define WEAK_PLAIN 64    /* words of plain memory */
#define WEAK_CHANGED 64  /* orders that -w has changed */
#define WEAK_OLDER 7     /* how many older stores a load chooses from */

struct weak_view {
    uint16_t seen[WEAK_PLACES];      /* index of a store in the history */
    uint32_t clocks[EXPLORE_ACTORS]; /* how often each actor had released; its own plus one */
};

/* When each actor last accessed a word of plain memory: its clock. */
struct weak_plain {
    uint32_t word, loads[EXPLORE_ACTORS], stores[EXPLORE_ACTORS];
};

struct weak_message {
    uint64_t value;
    const struct weak_view *attached; /* or NULL */
};

struct weak_history {
    uint32_t count; /* 0: no store yet but the initial one, which is in memory */
    struct weak_message stores[WEAK_STORES];
};

static struct {
    struct weak_history histories[WEAK_PLACES];
    struct weak_view views[EXPLORE_ACTORS],
        order; /* of actors; of sequentially consistent stores */
    struct weak_view attached[WEAK_VIEWS];
    uint32_t attached_count;
    uint64_t hashes[EXPLORE_ACTORS], order_hash, stores_hash;
    bool behind[EXPLORE_ACTORS]; /* found an old store since it was idle */
    unsigned bound, found;       /* old stores that a schedule may find, and has found */
    bool halved[EXPLORE_MEMORY / 8 + EXPLORE_ACTORS];
    uint16_t index[EXPLORE_MEMORY / 8 + EXPLORE_ACTORS]; /* of a conflicting word */
    struct weak_plain plain[WEAK_PLAIN];
    uint32_t plain_count;
    struct weak_change_of_order {
        const char *file;
        int first, last; /* lines */
        enum weak_order order;
        bool met;
    } changed[WEAK_CHANGED];
    int changed_count;
} weak;

static void weak_reset(void)
{
    for (uint32_t i = 0; i < WEAK_PLACES; i++)
        weak.histories[i].count = 0;
    memset(weak.views, 0, sizeof(weak.views));
    memset(&weak.order, 0, sizeof(weak.order));
    memset(weak.hashes, 0, sizeof(weak.hashes));
    memset(weak.behind, 0, sizeof(weak.behind));
    weak.order_hash = weak.stores_hash = 0;
    weak.attached_count = weak.found = 0;
    for (uint32_t i = 0; i < weak.plain_count; i++)
        weak.plain[i] = (struct weak_plain){.word = weak.plain[i].word};
    for (int i = 0; i < EXPLORE_ACTORS; i++)
        weak.views[i].clocks[i] = 1;
}

static bool weak_is_ordered(int actor, const uint32_t *clocks)
{
    for (int i = 0; i < explore.count; i++)
        if (i != actor && clocks[i] > weak.views[actor].clocks[i])
            return false;
    return true;
}

static uint64_t weak_state(uint64_t state)
{
    state = explore_mix(explore_mix(state, weak.found), weak.stores_hash);
    for (int i = 0; i < explore.count; i++)
        state = explore_mix(explore_mix(state, weak.hashes[i]), weak.behind[i]);
    for (uint32_t i = 0; i < weak.plain_count; i++)
        for (int actor = 0; actor < explore.count; actor++)
            state = explore_mix(state, weak_is_ordered(actor, weak.plain[i].loads) |
                                           weak_is_ordered(actor, weak.plain[i].stores) << 1);
    return explore_mix(state, weak.order_hash);
}

static void weak_raise(struct weak_view *view, uint64_t *hash, uint32_t place, uint32_t store)
{
    uint64_t key = (uint64_t) place << 32;
    if (view->seen[place] >= store)
        return;
    if (view->seen[place])
        *hash -= explore_mix(key | view->seen[place], 1);
    *hash += explore_mix(key | store, 1);
    view->seen[place] = (uint16_t) store;
}

static void weak_join_clocks(struct weak_view *view, const struct weak_view *from)
{
    for (int i = 0; from && i < explore.count; i++)
        if (from->clocks[i] > view->clocks[i])
            view->clocks[i] = from->clocks[i];
}

static void weak_join(int actor, const struct weak_view *from)
{
    for (uint32_t i = 0; from && i < 2 * explore.conflict_count; i++)
        if (from->seen[i])
            weak_raise(&weak.views[actor], &weak.hashes[actor], i, from->seen[i]);
    weak_join_clocks(&weak.views[actor], from);
}

static struct weak_view *weak_view_new(void)
{
    must(weak.attached_count < WEAK_VIEWS);
    return &weak.attached[weak.attached_count++];
}

static uint64_t weak_memory_value(const void *word, unsigned size)
{
    return size == 4 ? *(const volatile uint32_t *) word : *(const volatile uint64_t *) word;
}

static void weak_set_memory(void *word, unsigned size, uint64_t value)
{
    if (size == 4)
        *(volatile uint32_t *) word = (uint32_t) value;
    else
        *(volatile uint64_t *) word = value;
}

/* The order of an access: that of the source, unless it is changed by -w. */
static enum weak_order weak_order_at(struct weak_site site)
{
    for (int i = 0; i < weak.changed_count; i++) {
        struct weak_change_of_order *c = &weak.changed[i];
        size_t all = strlen(site.file), end = strlen(c->file);
        if (site.line >= c->first && site.line <= c->last && all >= end &&
            strcmp(site.file + all - end, c->file) == 0) {
            c->met = true;
            return c->order;
        }
    }
    return site.order;
}

/* The history of the word, or -1 if the access is not one of an actor to a word that is shared. */
static int weak_place(const void *word, unsigned size)
{
    uint64_t offset = (uintptr_t) word - (uintptr_t) explore_memory, i = offset / 8;
    if (explore.phase != RUNNING || offset >= explore_limit)
        return -1;
    if (size == 4 && !weak.halved[i]) {
        weak.halved[i] = true;
        explore.learnt = true;
    }
    bool of_one_size = size == 4 || !weak.halved[i];
    must(of_one_size);
    if (!explore.conflicts[i])
        return -1;
    uint32_t place = 2u * weak.index[i] + (offset / 4 & 1);
    struct weak_history *h = &weak.histories[place];
    if (h->count == 0)
        h->stores[h->count++] = (struct weak_message){weak_memory_value(word, size), NULL};
    return (int) place;
}

/* A choice among `can` that needs no look at the state: one has just been made in it. */
static uint32_t weak_decide(unsigned can)
{
    if (explore.depth == explore.node_count)
        explore_first_choice(can, (uint8_t) __builtin_ctz(can));
    return explore.nodes[explore.depth++].choice;
}

/*
 * The store that the actor finds: usually the newest, and never `not_this` value of an older one.
 */
static uint32_t weak_choose(uint32_t place, enum weak_order order, const uint64_t *not_this)
{
    const struct weak_history *h = &weak.histories[place];
    int self = explore.self;
    uint32_t newest = h->count - 1, oldest = weak.views[self].seen[place], older = 0;
    if (order == WEAK_SEQ_CST && weak.order.seen[place] > oldest)
        oldest = weak.order.seen[place];
    if (explore.replay) {
        if (explore.replay_steps == 0 && *explore.replay == '~') {
            char *end;
            older = (uint32_t) strtoul(explore.replay + 1, &end, 10);
            explore.replay = end + (*end == ',');
            must(older <= newest);
            printf("#   finds an old store\n");
        }
    } else if (weak.found < weak.bound) {
        unsigned can = 1;
        for (uint32_t i = 1; i <= WEAK_OLDER && i <= newest - oldest; i++)
            if (!not_this || h->stores[newest - i].value != *not_this)
                can |= 1u << i;
        if (can != 1)
            older = weak_decide(can);
    }
    if (older) {
        weak.found++;
        weak.behind[self] = true;
        explore.trail[explore.trailed++] = (uint8_t) (OLD_STORE + older);
    }
    return newest - older;
}

static uint64_t weak_find(uint32_t place, uint32_t store, enum weak_order order)
{
    const struct weak_message *m = &weak.histories[place].stores[store];
    struct explore_actor *a = &explore.actors[explore.self];
    weak_raise(&weak.views[explore.self], &weak.hashes[explore.self], place, store);
    if (order == WEAK_ACQUIRE || order >= WEAK_ACQ_REL)
        weak_join(explore.self, m->attached);
    a->history = explore_mix(a->history, m->value);
    return m->value;
}

/* `from`: the store that a read-modify-write has found. */
static void weak_add(uint32_t place, void *word, unsigned size, uint64_t value,
                     enum weak_order order, const struct weak_message *from)
{
    struct weak_history *h = &weak.histories[place];
    int self = explore.self;
    uint32_t store = h->count;
    bool releases = order >= WEAK_RELEASE;
    must(store < WEAK_STORES);
    weak_raise(&weak.views[self], &weak.hashes[self], place, store);
    if (order == WEAK_SEQ_CST)
        weak_raise(&weak.order, &weak.order_hash, place, store);
    struct weak_view *attached = NULL;
    uint64_t hash = 0;
    if (releases) {
        attached = weak_view_new();
        *attached = weak.views[self];
        hash = weak.hashes[self];
        if (from && from->attached) /* included already if it was acquired, too */
            for (uint32_t i = 0; i < 2 * explore.conflict_count; i++)
                weak_raise(attached, &hash, i, from->attached->seen[i]);
        weak_join_clocks(attached, from ? from->attached : NULL);
        weak.views[self].clocks[self]++;
    } else if (from && from->attached) {
        attached = (struct weak_view *) from->attached;
        hash = 1; /* depends on what came before, which is in the hash of all stores */
    }
    h->stores[h->count++] = (struct weak_message){value, attached};
    weak.stores_hash +=
        explore_mix(explore_mix((uint64_t) place << 32 | store, value), hash ^ (uint64_t) self);
    weak_set_memory(word, size, value);
}

uint64_t weak_load(struct weak_site site, const void *word, unsigned size)
{
    enum weak_order order = weak_order_at(site);
    ivshm_access_step(word, false);
    int place = weak_place(word, size);
    if (place < 0)
        return weak_memory_value(word, size);
    uint32_t store = weak_choose((uint32_t) place, order, NULL);
    return weak_find((uint32_t) place, store, order);
}

void weak_store(struct weak_site site, void *word, unsigned size, uint64_t value)
{
    enum weak_order order = weak_order_at(site);
    ivshm_access_step(word, true);
    int place = weak_place(word, size);
    if (place < 0)
        weak_set_memory(word, size, value);
    else
        weak_add((uint32_t) place, word, size, value, order, NULL);
}

uint64_t weak_change(struct weak_site site, ivshm_a64 *word, enum weak_change change,
                     uint64_t expected, uint64_t operand)
{
    enum weak_order order = weak_order_at(site);
    ivshm_access_step(word, true);
    int place = weak_place(word, 8);
    uint64_t before;
    struct weak_message from = {0, NULL};
    if (place < 0) {
        before = weak_memory_value(word, 8);
    } else {
        uint32_t newest = weak.histories[place].count - 1, found = newest;
        if (change == WEAK_SWAP)
            found = weak_choose((uint32_t) place, order, &expected);
        from = weak.histories[place].stores[found];
        before = weak_find((uint32_t) place, found, order);
        if (found != newest)
            return before;
    }
    uint64_t after = change == WEAK_SWAP  ? operand
                     : change == WEAK_OR  ? before | operand
                     : change == WEAK_AND ? before & operand
                                          : before + operand;
    if (change == WEAK_SWAP && before != expected)
        return before;
    if (place < 0)
        weak_set_memory(word, 8, after);
    else
        weak_add((uint32_t) place, word, 8, after, order, &from);
    return before;
}

static struct weak_plain *weak_plain_find(uint32_t word)
{
    for (uint32_t i = 0; i < weak.plain_count; i++)
        if (weak.plain[i].word == word)
            return &weak.plain[i];
    return NULL;
}

/* Checks an access to plain memory. */
static void weak_plain_access(const void *address, bool writes)
{
    uint32_t word = (uint32_t) (((uintptr_t) address - (uintptr_t) explore_memory) / 8);
    struct weak_plain *p = weak_plain_find(word);
    int self = explore.self;
    if (!p) {
        must(weak.plain_count < WEAK_PLAIN);
        p = &weak.plain[weak.plain_count++];
        *p = (struct weak_plain){.word = word};
        explore.learnt = true;
    }
    if (writes && explore.used < (uint64_t) (word + 1) * 8)
        explore.used = (uint64_t) (word + 1) * 8;
    /* Nothing is attached to a word before it is known that actors share it. */
    if (explore.phase != RUNNING || explore.learnt)
        return;
    bool is_ordered_after_stores = weak_is_ordered(self, p->stores);
    must(is_ordered_after_stores);
    bool is_ordered_after_loads = !writes || weak_is_ordered(self, p->loads);
    must(is_ordered_after_loads);
    (writes ? p->stores : p->loads)[self] = weak.views[self].clocks[self];
}

static inline uint64_t weak_plain_load(const ivshm_a64 *word)
{
    weak_plain_access(word, false);
    return word->word;
}

static void weak_plain_store(ivshm_a64 *word, uint64_t value)
{
    weak_plain_access(word, true);
    word->word = value;
}

/* Plain stores of memset. */
static void weak_clear(void *start, int byte, size_t size)
{
    uint64_t i = ((uintptr_t) start - (uintptr_t) explore_memory) / 8, value = 0;
    memset(&value, byte, sizeof(value));
    unsigned unit = i < EXPLORE_MEMORY / 8 && weak.halved[i] ? 4 : 8;
    if (weak_plain_find((uint32_t) i)) {
        weak_plain_store(start, value);
        return;
    }
    for (size_t at = 0; at < size; at += unit)
        weak_store(WEAK_SITE(RELAXED), (char *) start + at, unit,
                   unit == 4 ? (uint32_t) value : value);
}

/* -w FILE:FIRST-LAST=ORDER */
static bool weak_parse(char *text)
{
    static const char *const names[] = {"relaxed", "acquire", "release", "acq_rel"};
    struct weak_change_of_order *c = &weak.changed[weak.changed_count];
    char *colon = strchr(text, ':'), order[16];
    if (weak.changed_count == WEAK_CHANGED || !colon ||
        sscanf(colon, ":%d-%d=%15s", &c->first, &c->last, order) != 3)
        return false;
    *colon = 0;
    c->file = text;
    for (size_t i = 0; i < LENGTH(names); i++)
        if (strcmp(order, names[i]) == 0) {
            c->order = (enum weak_order) i;
            weak.changed_count++;
            return true;
        }
    return false;
}

/* Whether each access that was to be changed was met. */
static bool weak_all_met(void)
{
    for (int i = 0; i < weak.changed_count; i++)
        if (!weak.changed[i].met) {
            printf("# %s:%d was not met\n", weak.changed[i].file, weak.changed[i].first);
            return false;
        }
    return true;
}

#endif
