/* SPDX-License-Identifier: mpich2 */
/*
 * windows free [ROUNDS] | fenced | shared | full | range | split COUNT | lock REGION | stuck REGION
 * | liar REGION
 *
 *   free     windows that are created, locked once, and freed at once, so that unlocks are in
 *            flight when all have come to MPI_Win_free
 *   fenced   MPI_Win_start while a fence is still in progress
 *   shared   where the parts of MPI_Win_allocate_shared are, as on one node
 *   full     such windows in a region that is nearly full, and the error in a full one
 *   range    operations outside a shared window
 *   split    COUNT ranks, this one among them, that MPI_COMM_TYPE_SHARED returns: in the order of
 *            their keys, with a window; and without rank 0, which gives MPI_UNDEFINED
 *   lock     words in its lock that no rank has written
 *   stuck    a lock that never becomes free; for a minute and more, by a clock that runs faster
 *   liar     a rank that names an impossible part as its own
 */
#include "mpitest.h"

#include <sys/syscall.h>
#include <time.h>

static void free_at_once(int rounds)
{
    for (int i = 0; i < rounds; i++) {
        int *mine, x = i, to = (rank + 1 + i % (size - 1)) % size, mode = i % 5;
        int lock = i % 3 ? MPI_LOCK_EXCLUSIVE : MPI_LOCK_SHARED;
        int *own = malloc(4096);
        MPI_Info info;
        MPI_Win win, other;
        MPI_Info_create(&info);
        MPI_Info_set(info, "alloc_shm", i % 2 ? "true" : "false");
        if (i % 4 == 0)
            MPI_Win_create(own, 4096, 4, info, MPI_COMM_WORLD, &win);
        else
            MPI_Win_allocate(4096, 4, info, MPI_COMM_WORLD, &mine, &win);
        /* Beside it, one that gets the next one's handle. */
        MPI_Win_create(own, 4096, 4, MPI_INFO_NULL, MPI_COMM_WORLD, &other);
        if (mode == 0) { /* nothing put: an unlock without an answer */
            MPI_Win_lock(lock, to, 0, win);
            MPI_Win_unlock(to, win);
        } else if (mode == 1) {
            MPI_Win_lock(lock, to, 0, win);
            MPI_Get(&x, 1, MPI_INT, to, 3, 1, MPI_INT, win);
            MPI_Win_flush(to, win);
            MPI_Win_unlock(to, win);
        } else if (mode == 2) {
            MPI_Win_lock_all(0, win);
            MPI_Put(&x, 1, MPI_INT, to, 3, 1, MPI_INT, win);
            MPI_Win_unlock_all(win);
        } else if (mode == 3) {
            MPI_Win_lock(lock, to, 0, win);
            MPI_Accumulate(&x, 1, MPI_INT, to, 3, 1, MPI_INT, MPI_REPLACE, win);
            MPI_Win_flush_local(to, win);
            MPI_Win_unlock(to, win);
        } else {
            MPI_Win_lock(lock, to, 0, win);
            MPI_Put(&x, 1, MPI_INT, to, 3, 1, MPI_INT, win);
            MPI_Win_unlock(to, win);
        }
        MPI_Win_free(&win);
        MPI_Win_free(&other);
        MPI_Info_free(&info);
        free(own);
    }
}

/* A rank that makes no MPI call for a while delays the barrier at the end of a fence. */
static void fenced(void)
{
    static char memory[64];
    MPI_Win win;

    MPI_Win_create(memory, sizeof(memory), 1, MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    for (int i = 0; i < 4 * size; i++) {
        MPI_Win_fence(0, win);
        if (rank == i % size)
            usleep(20000);
        MPI_Win_start(MPI_GROUP_EMPTY, 0, win);
        MPI_Win_complete(win);
    }
    MPI_Win_free(&win);
}

/* --- MPI_Win_allocate_shared --- */

/* What `bytes` in each rank amount to: where each part begins in the segment, or -1: nowhere. */
static void check_parts(const MPI_Aint *bytes, int noncontig)
{
    MPI_Aint found, begin = 0, total = 0;
    MPI_Info info;
    MPI_Win win;
    char *mine, *base, *first = NULL;
    int unit;

    for (int r = 0; r < size; r++)
        total += bytes[r];
    MPI_Info_create(&info);
    MPI_Info_set(info, "alloc_shared_noncontig", noncontig ? "true" : "false");
    MPI_Win_allocate_shared(bytes[rank], 1 + rank, info, MPI_COMM_WORLD, &mine, &win);
    MPI_Info_free(&info);
    MPI_Win_shared_query(win, 0, &found, &unit, &first);
    CHECK((first != NULL) == (total > 0), "segment of %ld bytes at %p", (long) total,
          (void *) first);
    for (int r = 0; r < size; r++) {
        MPI_Win_shared_query(win, r, &found, &unit, &base);
        char *expected = total > 0 && (r == 0 || bytes[r] > 0) ? first + begin : NULL;
        CHECK(found == bytes[r] && unit == 1 + r && base == expected,
              "rank %d: %ld bytes at %p, unit %d, expected %ld at %p, %d", r, (long) found,
              (void *) base, unit, (long) bytes[r], (void *) expected, 1 + r);
        CHECK(r != rank || base == mine, "own part at %p, was made at %p", (void *) base,
              (void *) mine);
        begin += noncontig ? (bytes[r] + 4095) / 4096 * 4096 : bytes[r];
    }
    int some = 0;
    while (some < size && bytes[some] == 0)
        some++;
    MPI_Win_shared_query(win, MPI_PROC_NULL, &found, &unit, &base);
    if (some == size)
        CHECK(found == 0 && unit == 0 && base == NULL, "%ld bytes at %p, unit %d, expected none",
              (long) found, (void *) base, unit);
    else
        CHECK(found == bytes[some] && unit == 1 + some && base, "%ld bytes at %p, unit %d",
              (long) found, (void *) base, unit);
    /* Each writes its part, and reads all. */
    MPI_Win_fence(0, win);
    if (bytes[rank] > 0)
        fill(mine, (size_t) bytes[rank], (uint64_t) rank);
    MPI_Win_fence(0, win);
    for (int r = 0; r < size; r++) {
        MPI_Win_shared_query(win, r, &found, &unit, &base);
        if (found > 0)
            CHECK_PATTERN(base, (size_t) found, (uint64_t) r, "part of rank %d", r);
    }
    MPI_Win_fence(0, win);
    MPI_Win_free(&win);
}

static void shared_parts(void)
{
    MPI_Aint bytes[64];

    for (int noncontig = 0; noncontig < 2; noncontig++)
        for (int which = 0; which < 5; which++) {
            for (int r = 0; r < size; r++)
                bytes[r] = which == 0   ? 0                          /* none */
                           : which == 1 ? (r == 0 ? 0 : 40)          /* all but the first, */
                           : which == 2 ? (r == 1 ? 0 : 3000)        /* the second, */
                           : which == 3 ? (r == size - 1 ? 0 : 4097) /* or the last */
                                        : 1 + 100 * r;
            check_parts(bytes, noncontig);
        }
}

/* The ranks of `comm` are in the reverse order, and load what the next one has stored. */
static void check_split(MPI_Comm comm, int count)
{
    int n, me, ranks[64];
    char *mine, *next;
    MPI_Aint bytes;
    int unit;
    MPI_Win win;

    MPI_Comm_size(comm, &n);
    MPI_Comm_rank(comm, &me);
    CHECK(n == count, "%d ranks share memory, %d were expected", n, count);
    MPI_Allgather(&rank, 1, MPI_INT, ranks, 1, MPI_INT, comm);
    for (int i = 1; i < n; i++)
        CHECK(ranks[i - 1] > ranks[i], "rank %d is before rank %d", ranks[i - 1], ranks[i]);
    MPI_Win_allocate_shared(3000, 1, MPI_INFO_NULL, comm, &mine, &win);
    MPI_Win_fence(0, win);
    fill(mine, 3000, (uint64_t) rank);
    MPI_Win_fence(0, win);
    MPI_Win_shared_query(win, (me + 1) % n, &bytes, &unit, &next);
    CHECK_PATTERN(next, 3000, (uint64_t) ranks[(me + 1) % n], "part of rank %d",
                  ranks[(me + 1) % n]);
    MPI_Win_free(&win);
}

static void split(int count)
{
    MPI_Comm comm;
    int with_0 = rank, type = rank == 0 ? MPI_UNDEFINED : MPI_COMM_TYPE_SHARED;

    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, -rank, MPI_INFO_NULL, &comm);
    check_split(comm, count);
    MPI_Allreduce(MPI_IN_PLACE, &with_0, 1, MPI_INT, MPI_MIN, comm);
    MPI_Comm_free(&comm);
    MPI_Comm_split_type(MPI_COMM_WORLD, type, -rank, MPI_INFO_NULL, &comm);
    CHECK((comm == MPI_COMM_NULL) == (rank == 0), "MPI_UNDEFINED");
    if (rank != 0) {
        check_split(comm, with_0 == 0 ? count - 1 : count);
        MPI_Comm_free(&comm);
    }
}

/* In a region in which no more than a quarter is free. */
static void full(void)
{
    static MPI_Win wins[10000];
    char text[MPI_MAX_ERROR_STRING], *mine, *was = NULL;
    int count = 0, err = MPI_SUCCESS, class, len;

    /* The ranks allocate all that there is. */
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    for (int i = 0; i < 200; i++) {
        MPI_Alloc_mem(64 << 10, MPI_INFO_NULL, &was);
        (void) was;
    }
    MPI_Barrier(MPI_COMM_WORLD);
    while (count < 10000) {
        err = MPI_Win_allocate_shared(8192, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &mine, &wins[count]);
        if (err != MPI_SUCCESS)
            break;
        fill(mine, 8192, (uint64_t) (rank + count));
        count++;
    }
    CHECK(count >= 10, "only %d windows of 8 KiB", count);
    CHECK(err != MPI_SUCCESS, "the region is never full");
    MPI_Error_class(err, &class);
    MPI_Error_string(err, text, &len);
    CHECK(class == MPI_ERR_RMA_SHARED, "class %d: %s", class, text);
    CHECK(strstr(text, "needs") && strstr(text, "free"), "%s", text);
    while (count-- > 0)
        MPI_Win_free(&wins[count]);
}

/* --- operations outside of a window --- */

static void is_range_error(int err, const char *what)
{
    int class;
    MPI_Error_class(err, &class);
    CHECK(class == MPI_ERR_RMA_RANGE, "%s: error class %d", what, class);
}

static void is_right(int err, const char *what)
{
    char text[MPI_MAX_ERROR_STRING];
    int len;
    MPI_Error_string(err, text, &len);
    CHECK(err == MPI_SUCCESS, "%s: %s", what, text);
}

static void range(void)
{
    enum { N = 16 }; /* ints of a part */
    int data[2 * N] = {0}, out[2 * N], *mine, to = (rank + 1) % size;
    MPI_Datatype before, spread, empty;
    MPI_Win win;

    MPI_Win_allocate(N * sizeof(int), sizeof(int), MPI_INFO_NULL, MPI_COMM_WORLD, &mine, &win);
    memset(mine, 0, N * sizeof(int));
    MPI_Win_set_errhandler(win, MPI_ERRORS_RETURN);
    MPI_Type_create_indexed_block(2, 1, (int[]){-2, -1}, MPI_INT,
                                  &before);         /* ends where the window's part ends */
    MPI_Type_vector(2, 1, N - 1, MPI_INT, &spread); /* the first and the last */
    MPI_Type_contiguous(0, MPI_INT, &empty);
    MPI_Type_commit(&before);
    MPI_Type_commit(&spread);
    MPI_Type_commit(&empty);
    MPI_Win_fence(0, win);
    MPI_Win_lock_all(0, win);

    is_right(MPI_Put(data, N, MPI_INT, to, 0, N, MPI_INT, win), "all of it");
    is_right(MPI_Put(data, 2, MPI_INT, to, N, 1, before, win), "behind the end, and before it");
    is_right(MPI_Put(data, 2, MPI_INT, to, 0, 1, spread, win), "first and last");
    is_right(MPI_Put(data, 0, MPI_INT, to, 1000, 0, MPI_INT, win), "nothing, far away");
    is_right(MPI_Get(data, 5, empty, to, 1000, 7, empty, win), "seven times nothing");

    is_range_error(MPI_Put(data, N, MPI_INT, to, 1, N, MPI_INT, win), "put");
    is_range_error(MPI_Put(data, 1, MPI_INT, to, N, 1, MPI_INT, win), "put behind the end");
    is_range_error(MPI_Put(data, 2, MPI_INT, to, 1, 1, before, win), "put before the beginning");
    is_range_error(MPI_Put(data, 2, MPI_INT, to, 1, 1, spread, win), "put of a vector");
    is_range_error(MPI_Put(data, 1, MPI_INT, to, PTRDIFF_MAX / 2, 1, MPI_INT, win), "put far away");
    is_range_error(MPI_Get(out, N + 1, MPI_INT, to, 0, N + 1, MPI_INT, win), "get");
    is_range_error(MPI_Accumulate(data, 1, MPI_INT, to, N, 1, MPI_INT, MPI_SUM, win), "accumulate");
    is_range_error(
        MPI_Get_accumulate(data, 2, MPI_INT, out, 2, MPI_INT, to, N - 1, 2, MPI_INT, MPI_SUM, win),
        "get_accumulate");
    is_range_error(MPI_Fetch_and_op(data, out, MPI_INT, to, N, MPI_SUM, win), "fetch_and_op");
    is_range_error(MPI_Compare_and_swap(data, data, out, MPI_INT, to, N, win), "compare_and_swap");
    /* And none of them has left the lock taken. */
    is_right(MPI_Fetch_and_op(data, out, MPI_INT, to, N - 1, MPI_SUM, win), "fetch_and_op");

    MPI_Win_unlock_all(win);
    MPI_Win_free(&win);
    MPI_Type_free(&before);
    MPI_Type_free(&spread);
    MPI_Type_free(&empty);
}

/* --- a window's lock --- */

struct lock {
    volatile uint64_t holder, turns;
};

/* The lock of the only window, in our mapping of the region. Its second word is `turns`. */
static struct lock *find_lock(const char *region, uint64_t turns)
{
    char line[600], name[500];
    unsigned long long begin, end, off, where = 0;
    struct lock *found = NULL;
    FILE *maps = fopen("/proc/self/maps", "r");

    while (fgets(line, sizeof(line), maps)) {
        if (sscanf(line, "%llx-%llx rw-s %llx %*s %*s %499s", &begin, &end, &off, name) != 4 ||
            !strstr(name, region))
            continue;
        for (unsigned long long at = begin; at < end; at += 4096) {
            struct lock *lock = (struct lock *) (uintptr_t) at;
            if (lock->holder == 0 && lock->turns == turns) {
                CHECK(!found || where == off + (at - begin), "two locks"); /* mapped twice is one */
                found = lock;
                where = off + (at - begin);
            }
        }
    }
    fclose(maps);
    CHECK(found, "no lock in %s", region);
    return found;
}

/* The region's first byte, in our mapping. */
static const void *map_of(const char *region)
{
    char line[600], name[500];
    unsigned long long begin, off;
    const void *found = NULL;
    FILE *maps = fopen("/proc/self/maps", "r");

    while (fgets(line, sizeof(line), maps))
        if (sscanf(line, "%llx-%*x rw-s %llx %*s %*s %499s", &begin, &off, name) == 3 && off == 0 &&
            strstr(name, region))
            found = (const void *) (uintptr_t) begin;
    fclose(maps);
    CHECK(found, "no region %s", region);
    return found;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

enum { TURNS = 71993, PATIENCE = 10, LONG_PATIENCE = 120 };

/* At rank 0; rank 1 watches. Two ranks, alone on a new region: endpoints 0 and 1. */
static MPI_Win win;
static long *counters;

static struct lock *make_lock(const char *region)
{
    long one = 1;

    CHECK(size == 2, "2 ranks are needed");
    MPI_Win_allocate(2 * sizeof(long), sizeof(long), MPI_INFO_NULL, MPI_COMM_WORLD, &counters,
                     &win);
    counters[0] = counters[1] = 0;
    MPI_Win_set_errhandler(win, MPI_ERRORS_RETURN);
    MPI_Win_lock_all(0, win);
    MPI_Barrier(MPI_COMM_WORLD);
    for (int i = 0; i < TURNS && rank == 0; i++)
        MPI_Accumulate(&one, 1, MPI_LONG, 1, 0, 1, MPI_LONG, MPI_SUM, win);
    MPI_Barrier(MPI_COMM_WORLD);
    struct lock *lock = find_lock(region, TURNS);
    MPI_Barrier(MPI_COMM_WORLD);
    return lock;
}

static void free_lock(void)
{
    MPI_Win_unlock_all(win);
    MPI_Win_free(&win);
}

/*
 * Words that name rank 0 itself, or nobody: it continues. The word that names rank 1 makes it wait,
 * until rank 1 releases the lock.
 */
static void forged(const char *region)
{
    struct lock *lock = make_lock(region);
    uint64_t words[64];
    int count = 0, waited = 0;
    long one = 1;

    for (uint64_t generation = 0; generation < 4; generation++)
        for (uint64_t endpoint = 1; endpoint <= 3; endpoint++)
            words[count++] = generation << 32 | endpoint;
    words[count++] = UINT64_MAX;
    words[count++] = UINT32_MAX;
    words[count++] = UINT64_C(1) << 63;
    words[count++] = UINT64_C(5) << 32;
    for (int i = 0; i < count; i++) {
        MPI_Barrier(MPI_COMM_WORLD);
        if (rank == 0)
            lock->holder = words[i];
        MPI_Barrier(MPI_COMM_WORLD);
        if (rank == 0) {
            CHECK(MPI_Accumulate(&one, 1, MPI_LONG, 1, 0, 1, MPI_LONG, MPI_SUM, win) == MPI_SUCCESS,
                  "word %llx", (unsigned long long) words[i]);
        } else {
            /* One of these two words names rank 1. Rank 0 may be slow to take over the others. */
            int may_be_ours = words[i] == (1ULL << 32 | 1) || words[i] == (1ULL << 32 | 2);
            double begun = now();
            while (lock->holder == words[i] &&
                   now() - begun < (may_be_ours ? PATIENCE : LONG_PATIENCE))
                usleep(1000);
            if (lock->holder == words[i]) {
                waited++;
                lock->holder = 0;
            }
        }
    }
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 1) {
        CHECK(waited == 1, "%d words were waited for, expected 1: that of rank 1", waited);
        CHECK(*counters == TURNS + count, "counted %ld", *counters);
    }
    free_lock();
}

/*
 * The clock by which rank 0 waits. While `what` is set it runs faster: a second for each reading.
 * Whatever happens to the lock happens then.
 */
static enum { RIGHT, STAYS, IS_TAKEN_ANEW, IS_OVERWRITTEN, STOPPED_WITH_US } what;
static struct lock *watched;
static long readings;

int clock_gettime(clockid_t id, struct timespec *t)
{
    static time_t ahead;

    if (what && id == CLOCK_MONOTONIC_COARSE) {
        readings++;
        ahead += what == STOPPED_WITH_US ? 3600 : 1;
        if (what == IS_TAKEN_ANEW)
            watched->turns++;
        else if (what == IS_OVERWRITTEN)
            watched->holder = UINT64_C(7) << 32 | (uint64_t) (readings % 1000 + 3);
        else if (what == STOPPED_WITH_US && readings == 40)
            watched->holder = 0;
    }
    int err = (int) syscall(SYS_clock_gettime, id, t);
    if (id == CLOCK_MONOTONIC_COARSE)
        t->tv_sec += ahead;
    return err;
}

/* Rank 0 accumulates while the lock's word names rank 1. */
static void never_ours(const char *region, int how, const char *said)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    volatile long *over;
    long one = 1, two;
    int errors = 0;

    watched = make_lock(region);
    over = counters + 1;
    if (rank == 1) { /* asleep, as the other rank has much to do */
        while (!*over)
            usleep(1000);
    } else {
        for (uint64_t endpoint = 1; endpoint <= 2 && !errors; endpoint++) { /* one of us */
            watched->holder = UINT64_C(1) << 32 | endpoint;
            readings = 0;
            what = how;
            int err = MPI_Accumulate(&one, 1, MPI_LONG, 1, 0, 1, MPI_LONG, MPI_SUM, win);
            what = RIGHT;
            if (err == MPI_SUCCESS)
                continue;
            errors++;
            error_line(err, text);
        }
        CHECK(said ? strstr(text, said) != NULL : !errors, "way %d, after %ld readings: %s", how,
              readings, text);
        if (errors) {
            /* From now on without waiting. */
            CHECK(MPI_Fetch_and_op(&one, &two, MPI_LONG, 1, 0, MPI_SUM, win) != MPI_SUCCESS,
                  "no error");
            printf("%s\n", text);
        }
        CHECK(MPI_Put(&one, 1, MPI_LONG, 1, 1, 1, MPI_LONG, win) == MPI_SUCCESS, "error of a put");
    }
    free_lock();
}

/* The lock is kept, or is never free when we check: an error in the end. */
static void stuck(const char *region)
{
    never_ours(region, STAYS, "has held its lock for a minute");
    never_ours(region, IS_TAKEN_ANEW, "could not get the lock of a window for ten minutes");
    never_ours(region, IS_OVERWRITTEN, "could not get the lock of a window for ten minutes");
    never_ours(region, STOPPED_WITH_US, NULL);
}

/* --- a rank whose endpoint cannot be --- */

struct part {
    uint64_t region_id[2];
    uint32_t endpoint, generation;
    uint64_t seal, off, bytes, lock;
};

/* Rank 1 claims it, where MPI_Win_allocate_shared would have asked it. Rank 0 is told. */
static void liar(const char *name)
{
    static const struct {
        uint32_t endpoint, generation;
    } lies[] = {{UINT32_MAX, 1}, {1 << 20, 1}, {4096, 1}, {1, 1 << 19}, {UINT32_MAX, UINT32_MAX}};
    const uint64_t *superblock = map_of(name);
    char text[MPI_MAX_ERROR_STRING], said[100];
    MPI_Comm comm;
    void *memory;

    CHECK(size == 2, "2 ranks are needed");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        if (rank == 0) {
            int class, err = MPI_Win_allocate_shared(4096, 1, MPI_INFO_NULL, MPI_COMM_WORLD,
                                                     &memory, &win);
            CHECK(err != MPI_SUCCESS, "a window with endpoint %u", lies[i].endpoint);
            MPI_Error_class(err, &class);
            CHECK(class == MPI_ERR_RMA_SHARED, "class %d", class);
            error_line(err, text);
            snprintf(said, sizeof(said),
                     "rank 1 of MPI_Win_allocate_shared claims endpoint %u, generation %u",
                     lies[i].endpoint, lies[i].generation);
            CHECK(strstr(text, said), "%s", text);
        } else {
            MPI_Aint sizes[2] = {0, 4096};
            struct part parts[2] = {{.off = 0},
                                    {.region_id = {superblock[4], superblock[5]},
                                     .endpoint = lies[i].endpoint,
                                     .generation = lies[i].generation}};
            MPI_Comm_dup(MPI_COMM_WORLD, &comm);
            MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, sizes, 1, MPI_AINT, comm);
            int err = MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, parts, sizeof(parts[0]),
                                    MPI_BYTE, comm);
            CHECK(!err && parts[0].region_id[0] == superblock[4] && parts[0].lock,
                  "a part is not so any more");
            MPI_Comm_free(&comm);
        }
        MPI_Barrier(MPI_COMM_WORLD);
    }
}

int main(int argc, char **argv)
{
    start(&argc, &argv);
    CHECK(argc > 1 && size >= 2 && size <= 64, "2 to 64 ranks, and what to do, are expected");
    if (strcmp(argv[1], "free") == 0)
        free_at_once(argc > 2 ? atoi(argv[2]) : 300);
    else if (strcmp(argv[1], "fenced") == 0)
        fenced();
    else if (strcmp(argv[1], "shared") == 0)
        shared_parts();
    else if (strcmp(argv[1], "full") == 0)
        full();
    else if (strcmp(argv[1], "range") == 0)
        range();
    else if (strcmp(argv[1], "split") == 0 && argc > 2)
        split(atoi(argv[2]));
    else if (strcmp(argv[1], "lock") == 0 && argc > 2)
        forged(argv[2]);
    else if (strcmp(argv[1], "stuck") == 0 && argc > 2)
        stuck(argv[2]);
    else if (strcmp(argv[1], "liar") == 0 && argc > 2)
        liar(argv[2]);
    else
        CHECK(0, "unknown: %s", argv[1]);
    expected.lmt_max = 1LL << 50; /* MPICH chooses */
    finish();
    return 0;
}
