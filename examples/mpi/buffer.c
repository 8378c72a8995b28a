/* SPDX-License-Identifier: mpich2 */
/*
 * buffer ITEMS [VICTIM]
 *
 * A bounded buffer: ranks with odd numbers produce ITEMS items each, the others consume them, and
 * check that each is whole and comes once. Rank VICTIM dies in the middle, while it holds the lock.
 */
#include <stddef.h>

#include "shared.h"

enum { SLOTS = 8, WORDS = 100 };

struct item {
    int producer, number;
    uint64_t words[WORDS];
};

struct buffer {
    int lock;
    long put, got; /* how many there were; the last store of each change */
    struct condition not_empty, not_full;
    struct item slots[SLOTS];
};

static struct buffer *buffer;
static const MPI_Aint lock = offsetof(struct buffer, lock);
static int items, victim = -1;

/* Whether no producer that lives has something left. */
static bool is_over(const int *done)
{
    for (int i = 1; i < size; i += 2)
        if (done[i] < items && !is_dead[i])
            return false;
    return true;
}

static void produce(int number)
{
    acquire(lock);
    while (buffer->put - buffer->got == SLOTS)
        wait_for(&buffer->not_full, lock);
    struct item *item = &buffer->slots[buffer->put % SLOTS];
    item->producer = rank;
    item->number = number;
    for (int i = 0; i < WORDS; i++) {
        item->words[i] = (uint64_t) rank * 1000003 + (uint64_t) number * 97 + (uint64_t) i;
        if (rank == victim && number == items / 2 && i == WORDS / 2)
            die(); /* the item was not put */
    }
    buffer->put++;
    notify(&buffer->not_empty);
    release(lock);
}

static void check(const struct item *item, const int *done)
{
    bool is_whole = item->number == done[item->producer];
    for (int i = 0; i < WORDS; i++)
        is_whole &= item->words[i] == (uint64_t) item->producer * 1000003 +
                                          (uint64_t) item->number * 97 + (uint64_t) i;
    if (is_whole)
        return;
    fprintf(stderr, "item %d of rank %d is wrong, or not the next\n", item->number, item->producer);
    MPI_Abort(MPI_COMM_WORLD, 1);
}

/* Returns whether there was something. */
static bool consume(int *done, long mine)
{
    bool is_there;
    acquire(lock);
    while (buffer->put == buffer->got && !is_over(done))
        wait_for(&buffer->not_empty, lock);
    is_there = buffer->put > buffer->got;
    if (is_there) {
        const struct item *item = &buffer->slots[buffer->got % SLOTS];
        check(item, done);
        if (rank == victim && mine == items / 4)
            die(); /* the item was not got: another one gets it */
        done[item->producer]++;
        buffer->got++;
        notify(&buffer->not_full);
        if (is_over(done))
            notify(&buffer->not_empty);
    }
    release(lock);
    return is_there;
}

int main(int argc, char **argv)
{
    long mine = 0;
    /* How many items of each rank were consumed: behind the buffer, so all consumers see it. */
    buffer = shared_begin(&argc, &argv, sizeof(*buffer) + RANKS_MAX * sizeof(int));
    items = argc > 1 ? atoi(argv[1]) : 1000;
    victim = argc > 2 ? atoi(argv[2]) : -1;
    if (size < 2 || size > RANKS_MAX || items < 1 || victim == 0) {
        if (rank == 0)
            fprintf(stderr,
                    "buffer ITEMS [VICTIM] on 2 to %d ranks; rank 0 has the memory, and must "
                    "not die\n",
                    RANKS_MAX);
        shared_end();
        return 2;
    }
    if (rank % 2)
        for (; mine < items; mine++)
            produce((int) mine);
    else
        while (consume((int *) (buffer + 1), mine))
            mine++;
    mine = living_sum(inherited);
    if (rank == 0)
        printf("%ld items were put, %ld got; %ld locks taken over from the dead\n", buffer->put,
               buffer->got, mine);
    shared_end();
    return 0;
}
