/* SPDX-License-Identifier: mpich2 */
/*
 * A ring: a sender and a receiver, a few slots, two buffers, sequence numbers that wrap. Records
 * arrive in order and whole. None is overwritten before it is read. An idle ring asks for one
 * doorbell. If one side dies, the other one ends.
 *
 * Faults that this has been seen to find: a slot, or a buffer, that is reserved without checking
 * the head; a head that is published before the record is read, or not, or too late for the
 * buffers; a doorbell that is asked for again.
 */
#include "explore.h"

#include "core/ring.h"

#define SLOTS_MAX 12
#define SLOT_SIZE 16
#define BUFFERS 2
#define BUFFER_SIZE 8
#define RECORDS 5
#define FIRST (UINT32_MAX - 2)
#define SENDER 0
#define RECEIVER 1

/* In shared memory. */
struct stage {
    struct ivshm_ring_shm shm;
    unsigned char slots_and_buffers[SLOTS_MAX * SLOT_SIZE + BUFFERS * BUFFER_SIZE];
};

static const struct {
    enum ivshm_record_kind kinds[RECORDS];
    uint32_t slots;
    bool goes_idle; /* between any two records */
} * shape;

static struct {
    struct ivshm_ring_producer ring;
    uint32_t sent, doorbells;
} sender;

static struct {
    struct ivshm_ring_consumer ring;
    uint32_t got, idle;
} receiver;

static void setup(const void *arg)
{
    struct stage *stage = (struct stage *) explore_memory;
    shape = arg;
    const struct ivshm_geometry geo = {.ring_slots = shape->slots,
                                       .slot_size = SLOT_SIZE,
                                       .ring_buffers = BUFFERS,
                                       .buffer_size = BUFFER_SIZE};
    memset(&sender, 0, sizeof(sender));
    memset(&receiver, 0, sizeof(receiver));
    ivshm_ring_producer_init(&sender.ring, &stage->shm, &geo);
    ivshm_ring_consumer_init(&receiver.ring, &stage->shm, &geo);
}

static unsigned char *reserve(enum ivshm_record_kind kind)
{
    unsigned char *payload = ivshm_ring_reserve_spsc(&sender.ring);
    return payload && kind == IVSHM_RECORD_BUFFER ? ivshm_ring_buffer_spsc(&sender.ring) : payload;
}

static void send(void)
{
    while (sender.sent < RECORDS) {
        explore_knows(&sender);
        enum ivshm_record_kind kind = shape->kinds[sender.sent];
        unsigned char *payload = reserve(kind);
        if (!payload) {
            if (explore_fate(RECEIVER) != EXPLORE_RUNS)
                return;
            explore_idle(&sender);
            continue;
        }
        explore_plain_store((ivshm_a64 *) payload, sender.sent + 1);
        ivshm_ring_publish_spsc(
            &sender.ring, (struct ivshm_record){FIRST + sender.sent, kind, 1 + sender.sent, 0});
        sender.sent++;
        sender.doorbells += ivshm_ring_wants_doorbell(&sender.ring);
    }
}

static void receive(void)
{
    while (receiver.got < RECORDS) {
        struct ivshm_record record;
        explore_knows(&receiver);
        bool over = explore_fate(SENDER) != EXPLORE_RUNS;
        if (!ivshm_ring_peek_spsc(&receiver.ring, FIRST + receiver.got, &record)) {
            if (over)
                return;
            explore_idle(&receiver);
            continue;
        }
        must(record.kind == shape->kinds[receiver.got] && record.value == 1 + receiver.got);
        const ivshm_a64 *payload = (const void *) ivshm_ring_payload(&receiver.ring, record);
        must(explore_plain_load(payload) == receiver.got + 1);
        must(explore_plain_load(payload) == receiver.got + 1);
        ivshm_ring_consume_spsc(&receiver.ring);
        receiver.got++;
        if (shape->goes_idle) {
            ivshm_ring_set_idle(&receiver.ring, receiver.got % 2);
            receiver.idle += receiver.got % 2;
        }
    }
}

static void check(void)
{
    must(sender.doorbells <= receiver.idle);
    if (explore_fate(RECEIVER) == EXPLORE_DIED)
        return;
    bool died = explore_fate(SENDER) == EXPLORE_DIED;
    must(receiver.got == sender.sent || (died && receiver.got == sender.sent + 1));
    must(died || sender.sent == RECORDS);
}

int main(int argc, char **argv)
{
#define ALL EXPLORE_ALL
#define INLINE IVSHM_RECORD_INLINE
#define BUFFER IVSHM_RECORD_BUFFER
    static const __typeof__(*shape) in_slots = {{INLINE, INLINE, INLINE, INLINE, INLINE}, 3, false},
                                    in_buffers = {{BUFFER, BUFFER, BUFFER, BUFFER, BUFFER},
                                                  3,
                                                  false},
                                    mixed = {{BUFFER, INLINE, BUFFER, BUFFER, INLINE}, 3, true},
                                    more_slots = {
                                        {BUFFER, BUFFER, BUFFER, BUFFER, BUFFER}, SLOTS_MAX, false};
    static const struct explore_case cases[] = {
        {"in slots", setup, &in_slots, {send, receive}, 3, check, ALL, ALL, false},
        {"in buffers", setup, &in_buffers, {send, receive}, 3, check, ALL, ALL, false},
        {"more slots than buffers", setup, &more_slots, {send, receive}, 3, check, ALL, ALL, false},
        {"mixed and idle", setup, &mixed, {send, receive}, 3, check, ALL, ALL, false},
    };
    return explore_main(argc, argv, cases, LENGTH(cases));
}
