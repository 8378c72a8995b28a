/* SPDX-License-Identifier: mpich2 */
/*
 * locks parts | waiting | refused ROUNDS
 *
 * parts: accumulates of pairs with a gap, in one part and in several, of predefined types and of
 * types made of them, by a message and in the rank's own window. Two ranks.
 *
 * waiting: operations on pairs with a gap, by messages that reach their target together with a
 * request for a lock that another rank holds: all bytes are right once the lock is granted. Three
 * ranks.
 *
 * refused: more ranks want the lock than its target has room for, which is set by
 * MPIR_CVAR_CH3_RMA_TARGET_LOCK_ENTRY_WIN_POOL_SIZE. Sums are exact.
 */
#include "mpitest.h"

#include <stddef.h>

enum { MOST = 20000, BYTES = MOST * 2 * 32 };

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
static const char *const calls[] = {"MPI_Put", "MPI_Accumulate", "MPI_Get_accumulate",
                                    "MPI_Fetch_and_op"};

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

/* The value of an element, without what lies between and after its parts. */
static int is_set(const struct pair *p, const char *element, int n)
{
    char expected[32] __attribute__((aligned(16)));
    size_t first = p->type == MPI_SHORT_INT ? 2 : p->type == MPI_LONG_DOUBLE_INT ? 10 : p->second;

    set(p, expected, n);
    return memcmp(element, expected, first) == 0 &&
           memcmp(element + p->second, expected + p->second, sizeof(int)) == 0;
}

static char from[BYTES], into[BYTES];

/* `count` pairs as one type: one after the other, or in every second position. */
enum shape { PLAIN, CONTIGUOUS, SPREAD, SHAPES };

static MPI_Datatype shaped(const struct pair *p, enum shape shape, int count)
{
    MPI_Datatype type = p->type;

    if (shape == PLAIN)
        return type;
    if (shape == CONTIGUOUS)
        MPI_Type_contiguous(count, p->type, &type);
    else
        MPI_Type_vector(count, 1, 2, p->type, &type);
    MPI_Type_commit(&type);
    return type;
}

static char *address_of_pair(const struct pair *p, char *start, enum shape shape, int i)
{
    return start + (size_t) i * p->bytes * (shape == SPREAD ? 2 : 1);
}

/* The greater of two pairs is the window's in every second position, else the origin's. */
static int in_window(int i)
{
    return i + 1;
}

static int of_origin(int i)
{
    return i + 2 * (i % 2);
}

static int greater(const struct pair *p, int i)
{
    int descends = p->type == MPI_2INT; /* as set() makes them */
    return (of_origin(i) > in_window(i)) != descends ? of_origin(i) : in_window(i);
}

/* Rank `origin` changes the window of rank 0. */
static void accumulate(const struct pair *p, int call, MPI_Op op, int count, int origin,
                       enum shape at, enum shape by)
{
    MPI_Datatype target = shaped(p, at, count), mine = shaped(p, by, count);
    int at_count = at == PLAIN ? count : 1, by_count = by == PLAIN ? count : 1;
    char what[200];

    snprintf(what, sizeof what, "%s of %d %s, %s, shapes %d and %d, by rank %d", calls[call], count,
             p->name, op == MPI_REPLACE ? "MPI_REPLACE" : "MPI_MAXLOC", at, by, origin);
    memset(window, 0, BYTES);
    memset(into, 0, BYTES);
    for (int i = 0; i < count; i++) {
        set(p, address_of_pair(p, window, at, i), in_window(i));
        set(p, address_of_pair(p, from, by, i), of_origin(i));
        if (at == SPREAD) /* what is left alone */
            set(p, address_of_pair(p, window, at, i) + p->bytes, 1);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == origin) {
        MPI_Win_lock(MPI_LOCK_EXCLUSIVE, 0, 0, win);
        if (call == 1)
            MPI_Accumulate(from, by_count, mine, 0, 0, at_count, target, op, win);
        else if (call == 2)
            MPI_Get_accumulate(from, by_count, mine, into, by_count, mine, 0, 0, at_count, target,
                               op, win);
        else
            MPI_Fetch_and_op(from, into, p->type, 0, 0, op, win);
        MPI_Win_unlock(0, win);
        for (int i = 0; call != 1 && i < count; i++)
            CHECK(is_set(p, address_of_pair(p, into, by, i), in_window(i)), "%s: result %d", what,
                  i);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    for (int i = 0; rank == 0 && i < count; i++) {
        CHECK(is_set(p, address_of_pair(p, window, at, i),
                     op == MPI_REPLACE ? of_origin(i) : greater(p, i)),
              "%s: element %d", what, i);
        CHECK(at != SPREAD || is_set(p, address_of_pair(p, window, at, i) + p->bytes, 1),
              "%s: behind element %d", what, i);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    if (at != PLAIN)
        MPI_Type_free(&target);
    if (by != PLAIN)
        MPI_Type_free(&mine);
}

static void parts(void)
{
    static const int counts[] = {1, 17, 1000, MOST};
    static const MPI_Op ops[] = {MPI_REPLACE, MPI_MAXLOC};

    for (int p = 0; p < PAIRS; p++)
        for (int origin = 0; origin < 2; origin++)
            for (int o = 0; o < 2; o++) {
                for (int call = 1; call < CALLS; call++)
                    for (int n = 0; n < 4; n++)
                        for (int shapes = 0; shapes < SHAPES * SHAPES; shapes++)
                            accumulate(&pairs[p], call, ops[o], counts[n], origin, shapes / SHAPES,
                                       shapes % SHAPES);
                accumulate(&pairs[p], CALLS, ops[o], 1, origin, PLAIN, PLAIN);
            }
}

/* Rank 1 holds the lock of rank 0 while rank 2 asks for it. */
static void wait_for_lock(const struct pair *p, int call, int count, int all)
{
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
    else if (argc > 1 && strcmp(argv[1], "parts") == 0)
        parts();
    else
        waiting();
    MPI_Win_free(&win);
    free(window);
    finish();
    return 0;
}
