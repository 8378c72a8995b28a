/* SPDX-License-Identifier: mpich2 */
#include "poll_set.h"

#include <errno.h>
#include <stdlib.h>

int ivshm_poll_set_init(struct ivshm_poll_set *set, uint32_t max)
{
    *set = (struct ivshm_poll_set){.entries = calloc(max, sizeof(struct ivshm_poll_entry *))};
    return set->entries ? 0 : -ENOMEM;
}

void ivshm_poll_set_destroy(struct ivshm_poll_set *set)
{
    free(set->entries);
}

static void put(struct ivshm_poll_set *set, struct ivshm_poll_entry *entry, uint32_t index)
{
    set->entries[index] = entry;
    entry->index = index;
}

static void swap(struct ivshm_poll_set *set, uint32_t a, uint32_t b)
{
    struct ivshm_poll_entry *was = set->entries[a];
    put(set, set->entries[b], a);
    put(set, was, b);
}

void ivshm_poll_set_promote(struct ivshm_poll_set *set, struct ivshm_poll_entry *entry)
{
    if (entry->index < set->polled_count)
        return;
    if (set->polled_count < IVSHM_RINGS_POLLED) {
        swap(set, entry->index, set->polled_count++);
    } else {
        uint32_t victim = set->next_polled % IVSHM_RINGS_POLLED;
        ivshm_ring_set_idle(&set->entries[victim]->ring, true);
        swap(set, entry->index, victim);
    }
    ivshm_ring_set_idle(&entry->ring, false);
}

void ivshm_poll_set_add(struct ivshm_poll_set *set, struct ivshm_poll_entry *entry)
{
    put(set, entry, set->count++);
    ivshm_poll_set_promote(set, entry);
}

void ivshm_poll_set_remove(struct ivshm_poll_set *set, struct ivshm_poll_entry *entry)
{
    uint32_t hole = entry->index;
    if (hole < set->polled_count) {
        swap(set, hole, --set->polled_count);
        hole = set->polled_count;
    }
    swap(set, hole, --set->count);
}

bool ivshm_poll_set_find(struct ivshm_poll_set *set)
{
    struct ivshm_record record;
    for (uint32_t i = 0; i < set->count; i++) {
        if (ivshm_poll_entry_peek(set->entries[i], &record)) {
            ivshm_poll_set_promote(set, set->entries[i]);
            return true;
        }
    }
    return false;
}
