/* SPDX-License-Identifier: mpich2 */
/*
 * locks waiting | refused ROUNDS
 *
 * waiting: operations on pairs with a gap, by messages, that come to their target together with a
 * request for a lock that another rank has: all bytes are right once it is granted. Three ranks.
 * refused: more ranks want the lock than its target has room for; their number by
 * MPIR_CVAR_CH3_RMA_TARGET_LOCK_ENTRY_WIN_POOL_SIZE. Sums are exact.
 */
#include "mpitest.h"

#include <stddef.h>

enum { MOST = 8000, BYTES = MOST * 32 };

static char *window;
static MPI_Win win;

static const struct pair {
    const char *name;
    MPI_Datatype type;
    size_t bytes, second; /* of an element; where its int is */
} pairs[] = {
    {"MPI_DOUBLE_INT", MPI_DOUBLE_INT, 16, 8},
    {"MPI_LONG_INT", MPI_LONG_INT, 16, 8},
    {"MPI_SHORT_INT", MPI_SHORT_INT, 8, 4},
    {"MPI_LONG_DOUBLE_INT", MPI_LONG_DOUBLE_INT, 32, 16},
    {"MPI_2INT", MPI_2INT, 8, 4},
};
enum { PAIRS = sizeof(pairs) / sizeof(pairs[0]), CALLS = 3 };
static const char *const calls[] = {"MPI_Put", "MPI_Accumulate", "MPI_Get_accumulate"};

static void set(const struct pair *p, char *element, int n)
{
    switch (p->type) {
    case MPI_DOUBLE_INT:
        *(double *) element = n + 0.5;
        break;
    case MPI_LONG_INT:
        *(long *) element = n * 1000003L;
        break;
    case MPI_SHORT_INT:
        *(short *) element = (short) n;
        break;
    case MPI_LONG_DOUBLE_INT:
        *(long double *) element = n + 0.25L;
        break;
    default:
        *(int *) element = -n;
    }
    *(int *) (element + p->second) = n * 7 + 1;
}

/* The value of an element, without what lies between and behind its parts. */
static int is_set(const struct pair *p, const char *element, int n)
{
    char expected[32] __attribute__((aligned(16)));
    size_t first = p->type == MPI_SHORT_INT ? 2 : p->type == MPI_LONG_DOUBLE_INT ? 10 : p->second;

    set(p, expected, n);
    return memcmp(element, expected, first) == 0 &&
           memcmp(element + p->second, expected + p->second, sizeof(int)) == 0;
}

/* Rank 1 has the lock of rank 0 while rank 2 asks for it. */
static void wait_for_lock(const struct pair *p, int call, int count, int all)
{
    static char from[BYTES], into[BYTES];
    char word = 0;

    memset(window, 0, BYTES);
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 1) {
        MPI_Win_lock(MPI_LOCK_EXCLUSIVE, 0, 0, win);
        MPI_Get(&word, 1, MPI_BYTE, 0, 0, 1, MPI_BYTE, win);
        MPI_Win_flush(0, win);
        MPI_Send(&word, 1, MPI_BYTE, 2, 0, MPI_COMM_WORLD);
        MPI_Recv(&word, 1, MPI_BYTE, 2, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        usleep(20000); /* what rank 2 sends when it waits */
        MPI_Win_unlock(0, win);
    } else if (rank == 2) {
        for (int i = 0; i < count; i++)
            set(p, from + (size_t) i * p->bytes, i);
        MPI_Recv(&word, 1, MPI_BYTE, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        if (all)
            MPI_Win_lock_all(0, win);
        else
            MPI_Win_lock(MPI_LOCK_SHARED, 0, 0, win);
        if (call == 0)
            MPI_Put(from, count, p->type, 0, 0, count, p->type, win);
        else if (call == 1)
            MPI_Accumulate(from, count, p->type, 0, 0, count, p->type, MPI_REPLACE, win);
        else
            MPI_Get_accumulate(from, count, p->type, into, count, p->type, 0, 0, count, p->type,
                               MPI_REPLACE, win);
        MPI_Send(&word, 1, MPI_BYTE, 1, 0, MPI_COMM_WORLD);
        if (all)
            MPI_Win_unlock_all(win);
        else
            MPI_Win_unlock(0, win);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0) {
        MPI_Win_lock(MPI_LOCK_SHARED, 0, 0, win);
        for (int i = 0; i < count; i++)
            CHECK(is_set(p, window + (size_t) i * p->bytes, i), "%s of %d %s, %s: element %d",
                  calls[call], count, p->name, all ? "lock_all" : "lock", i);
        MPI_Win_unlock(0, win);
    }
}

static void waiting(void)
{
    static const int counts[] = {1, 16, 17, 1000, MOST};

    CHECK(size == 3, "%d ranks, expected 3", size);
    for (int p = 0; p < PAIRS; p++)
        for (int call = 0; call < CALLS; call++)
            for (int n = 0; n < 5; n++)
                wait_for_lock(&pairs[p], call, counts[n], (p + call + n) % 4 > 0);
}

static void refused(int rounds)
{
    long one = 1, got, *sum = (long *) window;

    for (int i = 0; rank > 0 && i < rounds; i++) {
        MPI_Win_lock(MPI_LOCK_EXCLUSIVE, 0, 0, win);
        switch (i % 4) {
        case 0: /* several operations */
            MPI_Accumulate(&one, 1, MPI_LONG, 0, 0, 1, MPI_LONG, MPI_SUM, win);
            MPI_Put(&one, 1, MPI_LONG, 0, 8 * rank, 1, MPI_LONG, win);
            break;
        case 1:
            MPI_Accumulate(&one, 1, MPI_LONG, 0, 0, 1, MPI_LONG, MPI_SUM, win);
            break;
        case 2: /* a flush in between */
            MPI_Get(&got, 1, MPI_LONG, 0, 0, 1, MPI_LONG, win);
            MPI_Win_flush(0, win);
            got++;
            MPI_Put(&got, 1, MPI_LONG, 0, 0, 1, MPI_LONG, win);
            break;
        default:
            MPI_Fetch_and_op(&one, &got, MPI_LONG, 0, 0, MPI_SUM, win);
        }
        MPI_Win_unlock(0, win);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0) {
        MPI_Win_lock(MPI_LOCK_SHARED, 0, 0, win);
        CHECK(sum[0] == (long) (size - 1) * rounds, "%ld, expected %ld", sum[0],
              (long) (size - 1) * rounds);
        MPI_Win_unlock(0, win);
    }
}

int main(int argc, char **argv)
{
    start(&argc, &argv);
    window = calloc(1, BYTES);
    MPI_Win_create(window, BYTES, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    if (argc > 2 && strcmp(argv[1], "refused") == 0)
        refused(atoi(argv[2]));
    else
        waiting();
    MPI_Win_free(&win);
    free(window);
    finish();
    return 0;
}
