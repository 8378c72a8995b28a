/* SPDX-License-Identifier: mpich2 */
/*
 * cache OPERATIONS [VICTIM]
 *
 * A hash table of keys and values that all ranks read and write: nine reads to a write, a lock for
 * each bucket. A value tells its key, so each read is checked. Rank VICTIM dies in the middle of a
 * write: whoever finds the bucket's lock left behind drops what was half written.
 */
#include <stddef.h>

#include "shared.h"

enum { BUCKETS = 64, ENTRIES = 8, WORDS = 12, KEYS = 1000 };

struct entry {
    int is_valid; /* 0 while it is written */
    unsigned key;
    uint64_t value[WORDS];
};

struct bucket {
    int lock;
    unsigned next; /* to be replaced */
    struct entry entries[ENTRIES];
};

static struct bucket *buckets;
static int victim = -1;
static long operations;

static struct entry *find(struct bucket *bucket, unsigned key)
{
    for (int i = 0; i < ENTRIES; i++)
        if (bucket->entries[i].is_valid && bucket->entries[i].key == key)
            return &bucket->entries[i];
    return NULL;
}

static void write_entry(struct bucket *bucket, unsigned key, uint64_t version, bool dies)
{
    struct entry *entry = find(bucket, key);
    if (!entry)
        entry = &bucket->entries[bucket->next++ % ENTRIES];
    entry->is_valid = 0;
    entry->key = key;
    for (int i = 0; i < WORDS; i++) {
        entry->value[i] = version * KEYS + key;
        if (dies && i == WORDS / 2)
            die();
    }
    entry->is_valid = 1;
}

/* Whether there is a value. */
static bool read_entry(struct bucket *bucket, unsigned key)
{
    struct entry *entry = find(bucket, key);
    for (int i = 0; entry && i < WORDS; i++)
        if (entry->value[i] % KEYS != key || entry->value[i] != entry->value[0]) {
            fprintf(stderr, "the value of key %u is wrong\n", key);
            MPI_Abort(MPI_COMM_WORLD, 1);
        }
    return entry;
}

int main(int argc, char **argv)
{
    long hits = 0;
    double begin;
    buckets = shared_begin(&argc, &argv, BUCKETS * sizeof(*buckets));
    operations = argc > 1 ? atol(argv[1]) : 10000;
    victim = argc > 2 ? atoi(argv[2]) : -1;
    if (operations < 1 || victim == 0) {
        if (rank == 0)
            fprintf(stderr, "cache OPERATIONS [VICTIM]; rank 0 has the memory, and must not die\n");
        shared_end();
        return 2;
    }
    srand((unsigned) rank);
    begin = MPI_Wtime();
    for (long i = 0; i < operations; i++) {
        unsigned key = (unsigned) rand() % KEYS, at = key % BUCKETS;
        bool dies = rank == victim && i == operations / 2, writes = i % 10 == 0 || dies;
        struct bucket *bucket = &buckets[at];
        MPI_Aint lock = (MPI_Aint) (at * sizeof(*bucket) + offsetof(struct bucket, lock));
        /* What a rank that has died was writing stays invalid: nothing else is to be done. */
        acquire(lock);
        if (writes)
            write_entry(bucket, key, (uint64_t) i, dies);
        else
            hits += read_entry(bucket, key);
        release(lock);
    }
    double rate = (double) operations / (MPI_Wtime() - begin);
    hits = living_sum(hits);
    /* A lock that the dead has left is free for the living, if nobody has asked for it yet. */
    for (unsigned at = 0; rank == 0 && at < BUCKETS; at++) {
        MPI_Aint lock = (MPI_Aint) (at * sizeof(*buckets) + offsetof(struct bucket, lock));
        acquire(lock);
        release(lock);
    }
    inherited = living_sum(inherited);
    if (rank == 0)
        printf("%ld reads found a value; %ld locks taken over from the dead; rank 0 made %.0f "
               "operations a second\n",
               hits, inherited, rate);
    shared_end();
    return 0;
}
