/* SPDX-License-Identifier: mpich2 */
/*
 * Cells: an owner with a pool of one or two cells sends to two receivers in turn. A cell is not
 * written while a receiver reads it. It is freed once, and is reclaimed only from a receiver that
 * died.
 *
 * Faults that this has been seen to find: a cell that is allocated without checking its state; a
 * state that is not set; a reclaim of all cells, or one that forgets those of others; a cell that
 * is counted as in flight when it is free.
 */
#include "explore.h"

#include "core/pool.h"
#include "core/queue.h"

#define RECEIVERS 2 /* actors 1 and 2 */
#define SLOTS 4
#define CELL_SIZE IVSHM_LINE
#define CELLS_MAX 2
#define EACH 2 /* messages */

/* In shared memory. */
struct stage {
    struct {
        struct ivshm_inbox_shm shm;
        ivshm_a64 slots[SLOTS];
    } inboxes[RECEIVERS + 1];
    unsigned char cells[CELLS_MAX][CELL_SIZE];
};

static struct stage *stage(void)
{
    return (struct stage *) explore_memory;
}

static struct {
    struct ivshm_pool pool;
    uint16_t of_pool[3 * CELLS_MAX]; /* what the pool points to */
    struct ivshm_queue_producer out[RECEIVERS + 1];
    uint32_t sent;
    bool reclaimed[RECEIVERS + 1];
} owner;

static struct receiver {
    struct ivshm_queue_consumer in;
    uint32_t got;
} receivers[RECEIVERS + 1];

static void setup(const void *cells)
{
    memset(&owner, 0, sizeof(owner));
    memset(receivers, 0, sizeof(receivers));
    uint32_t count = (uint32_t) (uintptr_t) cells;
    owner.pool = (struct ivshm_pool){
        .cells = stage()->cells[0], .count = count, .size = CELL_SIZE, .free_count = count};
    owner.pool.free = owner.of_pool;
    owner.pool.in_flight = owner.of_pool + count;
    owner.pool.holder = owner.pool.in_flight + count;
    for (uint32_t i = 0; i < count; i++)
        owner.of_pool[i] = (uint16_t) i;
    for (int i = 1; i <= RECEIVERS; i++) {
        ivshm_queue_producer_init(&owner.out[i], &stage()->inboxes[i].shm, SLOTS);
        ivshm_queue_consumer_init(&receivers[i].in, &stage()->inboxes[i].shm, SLOTS);
    }
}

/* The payload: one word. */
static ivshm_a64 *payload(uint32_t cell)
{
    return (ivshm_a64 *) ivshm_pool_cell(&owner.pool, cell)->payload;
}

static void reclaim_from_dead(void)
{
    for (uint32_t i = 1; i <= RECEIVERS; i++)
        if (!owner.reclaimed[i] && explore_fate((int) i) == EXPLORE_DIED) {
            ivshm_pool_reclaim(&owner.pool, i);
            owner.reclaimed[i] = true;
        }
}

/* One message to each receiver in turn; dead ones are skipped. */
static void send_all(void)
{
    while (owner.sent < RECEIVERS * EACH) {
        explore_knows(&owner);
        reclaim_from_dead();
        uint32_t to = 1 + owner.sent % RECEIVERS;
        if (owner.reclaimed[to]) {
            owner.sent++;
            continue;
        }
        int cell = ivshm_pool_alloc(&owner.pool);
        if (cell < 0) {
            explore_idle(&owner);
            continue;
        }
        explore_plain_store(payload((uint32_t) cell), owner.sent);
        ivshm_pool_set_in_flight(&owner.pool, (uint32_t) cell, to);
        must(ivshm_queue_push_mpsc(
                 &owner.out[to], (struct ivshm_ref){(uint16_t) owner.sent, (uint16_t) cell}) == 0);
        owner.sent++;
    }
}

static void receive(void)
{
    struct receiver *r = &receivers[explore.self];
    while (r->got < EACH) {
        struct ivshm_ref ref;
        explore_knows(r);
        if (!ivshm_queue_pop_mpsc(&r->in, &ref)) {
            explore_idle(r);
            continue;
        }
        must(ref.endpoint == r->got * RECEIVERS + (uint32_t) explore.self - 1);
        must(explore_plain_load(payload(ref.cell)) == ref.endpoint);
        must(explore_plain_load(payload(ref.cell)) == ref.endpoint);
        ivshm_a32_store_release(&ivshm_pool_cell(&owner.pool, ref.cell)->state, IVSHM_CELL_FREE);
        r->got++;
    }
}

/* All cells can be allocated, each once. */
static void check(void)
{
    bool taken[CELLS_MAX] = {false};
    reclaim_from_dead();
    for (uint32_t i = 0; i < owner.pool.count; i++) {
        int cell = ivshm_pool_alloc(&owner.pool);
        must(cell >= 0 && cell < (int) owner.pool.count && !taken[cell]);
        taken[cell] = true;
    }
    must(ivshm_pool_alloc(&owner.pool) < 0);
}

int main(int argc, char **argv)
{
#define ALL EXPLORE_ALL
    static const struct explore_case cases[] = {
        {"one cell", setup, (void *) 1, {send_all, receive, receive}, 6, check, ALL, ALL, false},
        {"two cells", setup, (void *) 2, {send_all, receive, receive}, 6, check, ALL, ALL, false},
    };
    return explore_main(argc, argv, cases, LENGTH(cases));
}
