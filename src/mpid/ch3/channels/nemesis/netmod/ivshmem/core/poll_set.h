/* SPDX-License-Identifier: mpich2 */
/*
 * A poll set: the rings from which a process receives, and the order in which it checks them. At
 * most IVSHM_RINGS_POLLED rings are polled, that is checked in every call of ivshm_poll_set_next;
 * the others are idle, and one of them is checked in turn. The sender of an idle ring asks for it
 * by a doorbell, upon which the caller promotes the ring.
 *
 * Used by channel.c and transport.c, by one thread at a time. Knows nothing of channels: each has
 * an entry, which stays in place while it is in the set. Nothing here waits. Costs that are not
 * stated are constant. Edge R1.
 */
#ifndef IVSHM_POLL_SET_H
#define IVSHM_POLL_SET_H

#include "ring.h"

#define IVSHM_RINGS_POLLED 16

/* A ring and its place in the set. */
struct ivshm_poll_entry {
    struct ivshm_ring_consumer ring;
    uint32_t received; /* the sequence number that its next record has */
    uint32_t index;    /* in `entries`, while it is in the set */
};

struct ivshm_poll_set {
    struct ivshm_poll_entry **entries; /* the polled ones first */
    uint32_t count, polled_count;
    uint32_t next_polled, next_idle; /* where to continue */
};

/* An empty set, with room for `max` rings. -ENOMEM. Ends with ivshm_poll_set_destroy. */
int ivshm_poll_set_init(struct ivshm_poll_set *set, uint32_t max);

/* Frees the set, not its entries; an all-zero set may be destroyed, too. */
void ivshm_poll_set_destroy(struct ivshm_poll_set *set);

/* Adds a ring that is not in the set, and promotes it. */
void ivshm_poll_set_add(struct ivshm_poll_set *set, struct ivshm_poll_entry *entry);

/* Polls a ring of the set from now on and, if that makes too many, makes another one idle. */
void ivshm_poll_set_promote(struct ivshm_poll_set *set, struct ivshm_poll_entry *entry);

/* Removes a ring of the set. Its sender is not told: it still takes the ring for what it was. */
void ivshm_poll_set_remove(struct ivshm_poll_set *set, struct ivshm_poll_entry *entry);

/* Whether the next record of that ring is there, and if so, which (acquire R1). */
static inline bool ivshm_poll_entry_peek(const struct ivshm_poll_entry *entry,
                                         struct ivshm_record *record)
{
    return ivshm_ring_peek_spsc(&entry->ring, entry->received, record);
}

/*
 * Whether no polled ring has a record and no ring is idle: idle rings are not checked. Cost: a load
 * for each polled ring.
 */
static inline bool ivshm_poll_set_is_empty(const struct ivshm_poll_set *set)
{
    struct ivshm_record record;
    for (uint32_t i = 0; i < set->polled_count; i++)
        if (ivshm_poll_entry_peek(set->entries[i], &record))
            return false;
    return set->count == set->polled_count;
}

/*
 * Whether any ring has a record. If it is an idle one, that becomes polled. Cost: a load for each
 * ring.
 */
bool ivshm_poll_set_find(struct ivshm_poll_set *set);

/*
 * The next ring with a record, and that record (acquire R1): one of the polled rings, beginning
 * behind the last one checked, or the next idle one, which becomes polled. NULL if they have none;
 * *record is undefined then. Cost: a load for each polled ring and one more.
 */
static inline __attribute__((always_inline)) struct ivshm_poll_entry *
ivshm_poll_set_next(struct ivshm_poll_set *set, struct ivshm_record *record)
{
    for (uint32_t n = set->polled_count; n > 0; n--) {
        if (set->next_polled >= set->polled_count)
            set->next_polled = 0;
        struct ivshm_poll_entry *entry = set->entries[set->next_polled++];
        if (ivshm_poll_entry_peek(entry, record))
            return entry;
    }
    if (set->count > set->polled_count) {
        if (set->next_idle < set->polled_count || set->next_idle >= set->count)
            set->next_idle = set->polled_count;
        struct ivshm_poll_entry *entry = set->entries[set->next_idle++];
        if (ivshm_poll_entry_peek(entry, record)) {
            ivshm_poll_set_promote(set, entry);
            return entry;
        }
    }
    return NULL;
}

#endif
