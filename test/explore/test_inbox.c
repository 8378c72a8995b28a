/* SPDX-License-Identifier: mpich2 */
/*
 * The inbox: two producers and a consumer, in any order; a producer may die anywhere. The others go
 * on, and each producer's messages arrive once, in order, with what was written before them.
 *
 * Faults that this has been seen to find: a slot that is stored instead of swapped; a push that
 * does not check whether the queue is full; a hint that is believed without checking the slot
 * before it; a head that is published before the slot is read; laps that are compared as if they
 * did not wrap.
 */
#include "explore.h"

#include "../unit/inbox.h"
#include "core/queue.h"

#define PRODUCERS 2
#define CONSUMER 2
#define MESSAGES_MAX 3

/* In shared memory. */
struct stage {
    ivshm_a64 payload[PRODUCERS][MESSAGES_MAX];
    _Alignas(IVSHM_LINE) struct ivshm_inbox_shm inbox;
};

static struct stage *stage(void)
{
    return (struct stage *) explore_memory;
}

struct shape {
    uint64_t slots, start;
    uint16_t messages;
};

static const struct shape *shape;

static struct producer {
    struct ivshm_queue_producer out;
    uint16_t sent;
} producers[PRODUCERS];

static struct {
    struct ivshm_queue_consumer in;
    uint16_t got[PRODUCERS];
} consumer;

static void setup(const void *arg)
{
    shape = arg;
    struct ivshm_inbox_shm *shm = &stage()->inbox;
    inbox_reset(shm, shape->slots, shape->start);
    for (int i = 0; i < PRODUCERS; i++) {
        producers[i].sent = 0;
        ivshm_queue_producer_init(&producers[i].out, shm, shape->slots);
    }
    memset(&consumer, 0, sizeof(consumer));
    ivshm_queue_consumer_init(&consumer.in, shm, shape->slots);
}

static void produce(void)
{
    uint16_t self = (uint16_t) explore.self;
    struct producer *p = &producers[self];
    while (p->sent < shape->messages) {
        explore_plain_store(&stage()->payload[self][p->sent], 1);
        while (ivshm_queue_push_mpsc(&p->out, (struct ivshm_ref){self, p->sent}) != 0)
            explore_idle(p);
        p->sent++;
        explore_knows(p);
    }
}

/* Acts as a producer that stores any hint: it is only a hint. */
static void lie(void)
{
    ivshm_a64_store_relaxed(&stage()->inbox.tail_hint, shape->start + 2);
}

static void consume(void)
{
    for (;;) {
        struct ivshm_ref ref;
        explore_knows(&consumer);
        bool over = explore_fate(0) != EXPLORE_RUNS && explore_fate(1) != EXPLORE_RUNS;
        if (ivshm_queue_pop_mpsc(&consumer.in, &ref)) {
            must(ref.endpoint < PRODUCERS);
            must(ref.cell == consumer.got[ref.endpoint]++);
            must(explore_plain_load(&stage()->payload[ref.endpoint][ref.cell]) == 1);
        } else if (over) {
            return;
        } else {
            explore_idle(&consumer);
        }
    }
}

static void check(void)
{
    must(ivshm_queue_is_empty_mpsc(&consumer.in));
    for (int i = 0; i < PRODUCERS; i++)
        must(consumer.got[i] == producers[i].sent ||
             (explore_fate(i) == EXPLORE_DIED && consumer.got[i] == producers[i].sent + 1));
}

int main(int argc, char **argv)
{
#define ALL EXPLORE_ALL
#define LAPS(n) (UINT64_C(1) << (n))
    static const struct shape first = {4, 0, 2}, two_slots = {2, 0, 2},
                              lap = {4, 4 * LAPS(32) - 5, 2}, position = {2, UINT64_C(0) - 2, 2},
                              negative = {2, 2 * LAPS(31) - 3, 2},
                              longer = {2, 2 * LAPS(32) - 4, 3};
#define INBOX(name, shape, preemptions, deep)                                                      \
    {                                                                                              \
        name, setup, &shape, {produce, produce, consume}, 1, check, preemptions, deep, false       \
    }
    static const struct explore_case cases[] = {
        {"a false hint", setup, &first, {produce, lie, consume}, 1, check, ALL, ALL, false},
        INBOX("4 slots", first, ALL, ALL),
        INBOX("2 slots", two_slots, 2, ALL),
        INBOX("4 slots, the lap wraps", lap, 2, ALL),
        INBOX("2 slots, the position wraps", position, 2, ALL),
        INBOX("2 slots, the lap becomes negative", negative, 2, ALL),
        INBOX("2 slots, 3 messages each, the lap wraps", longer, 1, 3),
    };
    explore_slow = 1u << (LENGTH(cases) - 1);
    return explore_main(argc, argv, cases, LENGTH(cases));
}
