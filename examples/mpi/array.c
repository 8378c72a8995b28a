/* SPDX-License-Identifier: mpich2 */
/*
 * array BLOCKS [VICTIM]
 *
 * A distributed array as GAMESS uses one: C = A * B of BLOCKS by BLOCKS blocks in memory that all
 * ranks share. A counter deals the blocks of C out, so a fast rank does more of them. Rank VICTIM
 * dies in the middle of a block; when the counter has come to its end, the living do again what the
 * dead have not finished. All of C is checked.
 */
#include <stddef.h>

#include "shared.h"

enum { ROWS = 16 }; /* of a block, and its columns */

struct head {
    int counter;
    int lock; /* of the list of blocks, which follows */
};

static struct head *head;
static int *owner; /* of each block: 0 nobody yet, 1 + rank, or DONE */
enum { DONE = -1 };
static double *a, *b, *c;
static int blocks, rows, victim = -1;

static double element_of_a(int i, int k)
{
    return (i * 7 + k * 3) % 11 - 5;
}
static double element_of_b(int k, int j)
{
    return (k * 5 + j * 2) % 13 - 6;
}

/* The next block, or -1: first what nobody has begun, then what the dead have left. */
static int next_block(void)
{
    const int one = 1;
    int block;
    MPI_Fetch_and_op(&one, &block, MPI_INT, 0, offsetof(struct head, counter), MPI_SUM, win);
    MPI_Win_flush(0, win);
    if (block < blocks * blocks) {
        owner[block] = rank + 1;
        return block;
    }
    /* A rank that has died before it wrote its name has left a block without one. */
    look_for_deaths();
    bool is_someone_dead = false;
    for (int i = 0; i < size; i++)
        is_someone_dead |= is_dead[i];
    acquire(offsetof(struct head, lock));
    for (block = 0; block < blocks * blocks; block++) {
        int who = owner[block];
        if ((who > 0 && is_dead[who - 1]) || (who == 0 && is_someone_dead))
            break;
    }
    if (block < blocks * blocks)
        owner[block] = rank + 1;
    release(offsetof(struct head, lock));
    return block < blocks * blocks ? block : -1;
}

/* Any number of times, by any rank: the result is the same. */
static void multiply(int block, bool dies)
{
    const int i0 = block / blocks * ROWS, j0 = block % blocks * ROWS;
    for (int i = i0; i < i0 + ROWS; i++) {
        if (dies && i == i0 + ROWS / 2)
            die();
        for (int j = j0; j < j0 + ROWS; j++) {
            double sum = 0;
            for (int k = 0; k < rows; k++)
                sum += a[i * rows + k] * b[k * rows + j];
            c[i * rows + j] = sum;
        }
    }
    MPI_Win_sync(win);
    owner[block] = DONE;
}

static bool is_done(void)
{
    for (int i = 0; i < blocks * blocks; i++)
        if (*(volatile int *) &owner[i] != DONE)
            return false;
    return true;
}

static bool is_right(void)
{
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < rows; j++) {
            double sum = 0;
            for (int k = 0; k < rows; k++)
                sum += element_of_a(i, k) * element_of_b(k, j);
            if (c[i * rows + j] != sum)
                return false;
        }
    return true;
}

int main(int argc, char **argv)
{
    long mine = 0;
    blocks = argc > 1 ? atoi(argv[1]) : 8;
    victim = argc > 2 ? atoi(argv[2]) : -1;
    rows = blocks * ROWS;
    if (blocks < 1 || blocks > 64 || victim == 0) {
        fprintf(stderr, "array BLOCKS [VICTIM], with 1 to 64 blocks; rank 0 has the memory, and "
                        "must not die\n");
        return 2;
    }
    const size_t elements = (size_t) rows * (size_t) rows;
    const size_t list = (sizeof(int) * (size_t) (blocks * blocks) + sizeof(*head) + 63) / 64 * 64;
    head = shared_begin(&argc, &argv, list + 3 * elements * sizeof(double));
    owner = (int *) (head + 1);
    a = (double *) ((char *) head + list);
    b = a + elements;
    c = b + elements;
    for (int i = rank; i < rows; i += size)
        for (int k = 0; k < rows; k++) {
            a[i * rows + k] = element_of_a(i, k);
            b[i * rows + k] = element_of_b(i, k);
        }
    MPI_Win_sync(win);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Win_sync(win);
    while (!is_done()) {
        int block = next_block();
        if (block < 0) {
            sched_yield(); /* others are at theirs */
            continue;
        }
        multiply(block, rank == victim && mine == 0);
        mine++;
    }
    mine = living_sum(mine);
    if (rank == 0)
        printf("%ld blocks of %d were multiplied by those that live: %s\n", mine, blocks * blocks,
               is_right() ? "the product is right" : "the product is WRONG");
    shared_end();
    return 0;
}
