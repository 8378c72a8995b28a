/* SPDX-License-Identifier: mpich2 */
/*
 * rma [atomics|apart|windows]
 *
 * One-sided communication: every call, with every synchronization, on every kind of window; with
 * derived datatypes on both sides, large, and atomics counted exactly. Any number of ranks from 2.
 * Windows in memory of the region are shared: no message moves what is put or got there. "apart" is
 * for ranks that have no region in common; "windows" is the short part.
 */
#include "mpitest.h"

enum { WORDS = 1 << 18 }; /* 2 MiB: of a window, and of a large transfer */

static uint64_t *window, *a, *b;
static MPI_Win win;
static int next, before;

/* What the netmod has counted; 0 where there is no netmod. */
static unsigned long long counter(const char *name)
{
    static MPI_T_pvar_session session = MPI_T_PVAR_SESSION_NULL;
    MPI_T_pvar_handle handle;
    unsigned long long value = 0;
    int provided, index, count;

    MPI_T_init_thread(MPI_THREAD_SINGLE, &provided);
    if (session == MPI_T_PVAR_SESSION_NULL)
        MPI_T_pvar_session_create(&session);
    if (MPI_T_pvar_get_index(name, MPI_T_PVAR_CLASS_COUNTER, &index) == MPI_SUCCESS) {
        MPI_T_pvar_handle_alloc(session, index, NULL, &handle, &count);
        MPI_T_pvar_read(session, handle, &value);
        MPI_T_pvar_handle_free(session, &handle);
    }
    return value;
}

/* Whether the window that was created last is shared: then no message moves anything. */
static int is_shared(void)
{
    static unsigned long long before;
    unsigned long long now = counter("ivshmem_windows");
    int more = now > before;
    before = now;
    return more;
}

static int shared_now;

/* Bytes between us and a neighbour, either way. */
static void moved(int peer, long long len)
{
    if (is_remote(peer) && !shared_now)
        expected.bytes += len;
}

static void barrier(void)
{
    MPI_Barrier(MPI_COMM_WORLD);
}

/* --- synchronization --- */

/* An epoch between us and both neighbours: `begin` opens it, `end` closes it. */
struct sync {
    const char *name;
    void (*begin)(void), (*end)(void);
};

static MPI_Group neighbours;

static void fence_begin(void)
{
    MPI_Win_fence(MPI_MODE_NOPRECEDE, win);
}

static void fence_end(void)
{
    MPI_Win_fence(MPI_MODE_NOSUCCEED | MPI_MODE_NOSTORE, win);
}

static void pscw_begin(void)
{
    MPI_Win_post(neighbours, 0, win);
    MPI_Win_start(neighbours, 0, win);
}

static void pscw_end(void)
{
    MPI_Win_complete(win);
    MPI_Win_wait(win);
}

static void pscw_test_end(void)
{
    int done = 0;
    MPI_Win_complete(win);
    while (!done)
        MPI_Win_test(win, &done);
}

static void lock_begin(void)
{
    barrier();
    MPI_Win_lock(MPI_LOCK_SHARED, next, 0, win);
}

static void lock_end(void)
{
    MPI_Win_unlock(next, win);
    barrier();
}

static void exclusive_begin(void)
{
    barrier();
    MPI_Win_lock(MPI_LOCK_EXCLUSIVE, next, 0, win);
}

static void lock_all_begin(void)
{
    barrier();
    MPI_Win_lock_all(0, win);
}

static void lock_all_end(void)
{
    MPI_Win_unlock_all(win);
    barrier();
}

static void flush_end(void)
{
    MPI_Win_flush(next, win);
    barrier();
    MPI_Win_sync(win);
    MPI_Win_unlock_all(win);
    barrier();
}

static void flush_all_end(void)
{
    MPI_Win_flush_local(next, win);
    MPI_Win_flush_local_all(win);
    MPI_Win_flush_all(win);
    barrier();
    MPI_Win_sync(win);
    MPI_Win_unlock_all(win);
    barrier();
}

static const struct sync syncs[] = {
    {"fence", fence_begin, fence_end},
    {"post, start, complete, wait", pscw_begin, pscw_end},
    {"post, start, complete, test", pscw_begin, pscw_test_end},
    {"lock", lock_begin, lock_end},
    {"exclusive lock", exclusive_begin, lock_end},
    {"lock_all", lock_all_begin, lock_all_end},
    {"flush", lock_all_begin, flush_end},
    {"flush_all", lock_all_begin, flush_all_end},
};
enum { SYNCS = sizeof(syncs) / sizeof(syncs[0]), FIRST_PASSIVE = 3 };

/* --- the calls --- */

static uint64_t word(int from, uint64_t i)
{
    return pattern_word(from, i);
}

/* What our window holds before each call: our own pattern. */
static void fresh(int n)
{
    barrier();
    MPI_Win_lock(MPI_LOCK_EXCLUSIVE, rank, 0, win); /* before others may read */
    for (int i = 0; i < n; i++)
        window[i] = word(rank, i);
    MPI_Win_unlock(rank, win);
    for (int i = 0; i < n; i++) {
        a[i] = word(rank + 100, i);
        b[i] = 0;
    }
    barrier();
}

#define CHECK_WORDS(what, words, n, value)                                                         \
    for (int i = 0; i < (n); i++) {                                                                \
        uint64_t v_ = (value);                                                                     \
        CHECK((words)[i] == v_, "%s, %s, %d words: at %d %016llx, expected %016llx", what,         \
              s->name, n, i, (unsigned long long) (words)[i], (unsigned long long) v_);            \
    }

/* Plain and with a request; those are for passive targets only. */
static void all_calls(const struct sync *s, int with_requests, int n)
{
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Request *r = &request;

    fresh(n);
    s->begin();
    if (with_requests)
        MPI_Rput(a, n, MPI_UINT64_T, next, 0, n, MPI_UINT64_T, win, r);
    else
        MPI_Put(a, n, MPI_UINT64_T, next, 0, n, MPI_UINT64_T, win);
    MPI_Wait(r, MPI_STATUS_IGNORE);
    s->end();
    CHECK_WORDS("put", window, n, word(before + 100, i));
    moved(next, n * 8LL);

    fresh(n);
    s->begin();
    if (with_requests) {
        MPI_Rget(b, n, MPI_UINT64_T, next, 0, n, MPI_UINT64_T, win, r);
        MPI_Wait(r, MPI_STATUS_IGNORE);
        CHECK_WORDS("a finished rget", b, n, word(next, i));
    } else {
        MPI_Get(b, n, MPI_UINT64_T, next, 0, n, MPI_UINT64_T, win);
    }
    s->end();
    CHECK_WORDS("get", b, n, word(next, i));
    moved(before, n * 8LL);

    fresh(n);
    s->begin();
    if (with_requests)
        MPI_Raccumulate(a, n, MPI_UINT64_T, next, 0, n, MPI_UINT64_T, MPI_SUM, win, r);
    else
        MPI_Accumulate(a, n, MPI_UINT64_T, next, 0, n, MPI_UINT64_T, MPI_SUM, win);
    MPI_Wait(r, MPI_STATUS_IGNORE);
    s->end();
    CHECK_WORDS("accumulate", window, n, word(rank, i) + word(before + 100, i));
    moved(next, n * 8LL);

    fresh(n);
    s->begin();
    if (with_requests) {
        MPI_Rget_accumulate(a, n, MPI_UINT64_T, b, n, MPI_UINT64_T, next, 0, n, MPI_UINT64_T,
                            MPI_BXOR, win, r);
        MPI_Wait(r, MPI_STATUS_IGNORE);
        CHECK_WORDS("a finished rget_accumulate", b, n, word(next, i));
    } else {
        MPI_Get_accumulate(a, n, MPI_UINT64_T, b, n, MPI_UINT64_T, next, 0, n, MPI_UINT64_T,
                           MPI_BXOR, win);
    }
    s->end();
    CHECK_WORDS("get_accumulate, what was", b, n, word(next, i));
    CHECK_WORDS("get_accumulate, what is", window, n, word(rank, i) ^ word(before + 100, i));
    moved(next, n * 8LL);
    moved(before, n * 8LL);

    /* MPICH 4.0.2 never completes more than 256 KiB of it. */
    if (n <= 20000) {
        fresh(n);
        s->begin();
        MPI_Get_accumulate(NULL, 0, MPI_UINT64_T, b, n, MPI_UINT64_T, next, 0, n, MPI_UINT64_T,
                           MPI_NO_OP, win);
        s->end();
        CHECK_WORDS("get_accumulate without change", b, n, word(next, i));
        CHECK_WORDS("what was not changed", window, n, word(rank, i));
        moved(before, n * 8LL);
    }

    fresh(n);
    s->begin();
    MPI_Accumulate(a, n, MPI_UINT64_T, next, 0, n, MPI_UINT64_T, MPI_REPLACE, win);
    s->end();
    CHECK_WORDS("replace", window, n, word(before + 100, i));
    moved(next, n * 8LL);

    fresh(n);
    s->begin();
    MPI_Fetch_and_op(a, b, MPI_UINT64_T, next, 0, MPI_SUM, win);
    s->end();
    CHECK_WORDS("fetch_and_op, what was", b, 1, word(next, i));
    CHECK_WORDS("fetch_and_op, what is", window, 1, word(rank, i) + word(before + 100, i));

    fresh(n);
    uint64_t guess = word(next, 0), wrong = 5;
    s->begin();
    MPI_Compare_and_swap(a, &guess, b, MPI_UINT64_T, next, 0, win);
    MPI_Compare_and_swap(a, &wrong, b + 1, MPI_UINT64_T, next, n > 1, win);
    s->end();
    CHECK_WORDS("compare_and_swap, what was", b, 1, word(next, i));
    CHECK_WORDS("compare_and_swap, what is", window, 1, word(before + 100, i));
    if (n > 1) {
        CHECK(b[1] == word(next, 1) && window[1] == word(rank, 1), "swapped with a wrong guess, %s",
              s->name);
    }
}

/* Every third word of ours into, or out of, their pairs with gaps. */
static void derived(const struct sync *s)
{
    enum { N = 6000 };
    MPI_Datatype thirds, pairs;
    MPI_Type_vector(N, 1, 3, MPI_UINT64_T, &thirds);
    MPI_Type_vector(N / 2, 2, 5, MPI_UINT64_T, &pairs);
    MPI_Type_commit(&thirds);
    MPI_Type_commit(&pairs);

    for (int way = 0; way < 4; way++) {
        int n = 3 * N;
        fresh(n);
        s->begin();
        if (way == 0)
            MPI_Put(a, 1, thirds, next, 0, 1, pairs, win);
        else if (way == 1)
            MPI_Get(b, 1, thirds, next, 0, 1, pairs, win);
        else if (way == 2)
            MPI_Accumulate(a, 1, thirds, next, 0, 1, pairs, MPI_SUM, win);
        else
            MPI_Get_accumulate(a, 1, thirds, b, 1, thirds, next, 0, 1, pairs, MPI_SUM, win);
        s->end();
        if (way == 0 || way == 2)
            moved(next, N * 8LL);
        if (way == 1 || way == 3)
            moved(before, N * 8LL);
        /* Word k is a[3 * k] here and window[k / 2 * 5 + k % 2] there. */
        CHECK_WORDS("derived, ours", b, n,
                    (way == 1 || way == 3) && i % 3 == 0 ? word(next, i / 6 * 5 + i / 3 % 2) : 0);
        CHECK_WORDS("derived, theirs", window, n,
                    way != 1 && i % 5 < 2 && i < N / 2 * 5
                        ? word(before + 100, (i / 5 * 2 + i % 5) * 3) +
                              (way == 0 ? 0 : word(rank, i))
                        : word(rank, i));
    }
    MPI_Type_free(&thirds);
    MPI_Type_free(&pairs);
}

/* Every call, from the first of the synchronizations on; large ones with two of them. */
static void everything(int first)
{
    static const int counts[] = {1, 20, 2000, 20000};
    for (int k = first; k < SYNCS; k++) {
        const struct sync *s = &syncs[k];
        for (int i = 0; i < (k == 0 || k == SYNCS - 1 ? 4 : 3); i++) {
            all_calls(s, 0, counts[i]);
            if (k >= FIRST_PASSIVE)
                all_calls(s, 1, counts[i]);
        }
        derived(s);
    }
    all_calls(&syncs[first], 0, WORDS);
}

/* --- windows --- */

static void created(void)
{
    window = malloc(WORDS * 8);
    MPI_Win_create(window, WORDS * 8, 8, MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    shared_now = is_shared();
    CHECK(!shared_now, "memory of malloc is shared");
    everything(0);
    MPI_Win_free(&win);
    free(window);
}

/* In the middle of memory from MPI_Alloc_mem. */
static void created_there(void)
{
    char *memory;
    MPI_Alloc_mem(WORDS * 8 + 4096, MPI_INFO_NULL, &memory);
    window = (uint64_t *) (memory + 64);
    MPI_Win_create(window, WORDS * 8, 8, MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    shared_now = is_shared();
    everything(SYNCS - 2);
    MPI_Win_free(&win);
    MPI_Free_mem(memory);
}

static void allocated(void)
{
    MPI_Win_allocate(WORDS * 8, 8, MPI_INFO_NULL, MPI_COMM_WORLD, &window, &win);
    shared_now = is_shared();
    everything(shared_now ? 0 : SYNCS - 1);
    MPI_Win_free(&win);
}

/* Each rank has another size and unit; one has nothing. */
static void uneven(void)
{
    int unit = 1 << rank % 4, bytes = rank == 1 ? 0 : 8 * (rank + 1), theirs = 8 * (next + 1);
    uint64_t there = word(next, 0), here = word(rank, 0);
    char *base;
    MPI_Win_allocate(bytes, unit, MPI_INFO_NULL, MPI_COMM_WORLD, &base, &win);
    shared_now = is_shared();
    MPI_Win_fence(0, win);
    if (next != 1)
        MPI_Put(&there, 8, MPI_BYTE, next, (theirs - 8) >> next % 4, 8, MPI_BYTE, win);
    MPI_Win_fence(0, win);
    CHECK(rank == 1 || memcmp(base + bytes - 8, &here, 8) == 0, "rank %d", rank);
    MPI_Win_free(&win);
}

/* One rank's memory is not in the region. */
static void mixed(void)
{
    uint64_t outside = 0, seven = 7;
    void *base = &outside;
    if (rank != 0)
        MPI_Alloc_mem(WORDS * 8, MPI_INFO_NULL, &base);
    MPI_Win_create(base, 8, 8, MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    shared_now = is_shared();
    CHECK(!shared_now, "memory that is not the region's is shared");
    MPI_Win_fence(0, win);
    if (rank == 1)
        MPI_Put(&seven, 8, MPI_BYTE, 0, 0, 8, MPI_BYTE, win);
    MPI_Win_fence(0, win);
    CHECK(rank != 0 || outside == 7, "%llu was put", (unsigned long long) outside);
    MPI_Win_free(&win);
    if (rank != 0)
        MPI_Free_mem(base);
}

/* Many windows at once, freed in another order: nothing of them is left, or mixed up. */
static void many(void)
{
    enum { N = 20 };
    MPI_Win wins[N];
    int *bases[N];
    for (int i = 0; i < N; i++) {
        MPI_Win_allocate(sizeof(int), sizeof(int), MPI_INFO_NULL, MPI_COMM_WORLD, &bases[i],
                         &wins[i]);
        MPI_Win_lock_all(0, wins[i]);
        *bases[i] = 0;
        MPI_Win_sync(wins[i]);
    }
    barrier();
    for (int i = 0; i < N; i++) {
        for (int to = 0; to < size; to++)
            MPI_Accumulate(&i, 1, MPI_INT, to, 0, 1, MPI_INT, MPI_SUM, wins[i]);
        MPI_Win_flush_all(wins[i]);
    }
    barrier();
    for (int i = 0; i < N; i++) {
        int w = i * 7 % N;
        MPI_Win_sync(wins[w]);
        CHECK(*bases[w] == w * size, "window %d holds %d", w, *bases[w]);
        MPI_Win_unlock_all(wins[w]);
        MPI_Win_free(&wins[w]);
    }
    shared_now = is_shared();
}

/* Memory is attached and detached; addresses are absolute, and each rank has its own. */
static void dynamic(void)
{
    MPI_Aint mine, theirs;
    const struct sync *s = &syncs[SYNCS - 1];
    MPI_Win_create_dynamic(MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    for (int turn = 0; turn < 3; turn++) {
        int n = 1000 << 3 * turn;
        window = malloc(n * 8);
        MPI_Win_attach(win, window, n * 8);
        MPI_Get_address(window, &mine);
        MPI_Sendrecv(&mine, 1, MPI_AINT, before, 0, &theirs, 1, MPI_AINT, next, 0, MPI_COMM_WORLD,
                     MPI_STATUS_IGNORE);
        for (int i = 0; i < n; i++)
            window[i] = word(rank, i);
        s->begin();
        MPI_Get(b, n, MPI_UINT64_T, next, theirs, n, MPI_UINT64_T, win);
        s->end();
        CHECK_WORDS("get from attached memory", b, n, word(next, i));
        for (int i = 0; i < n; i++)
            a[i] = word(rank + 100, i);
        s->begin();
        MPI_Put(a, n, MPI_UINT64_T, next, theirs, n, MPI_UINT64_T, win);
        s->end();
        CHECK_WORDS("put to attached memory", window, n, word(before + 100, i));
        moved(next, n * 8LL);
        moved(before, n * 8LL);
        MPI_Win_detach(win, window);
        free(window);
    }
    MPI_Win_free(&win);
}

/*
 * Ranks that share memory see each other's words without a call. In `comm`, the last rank has none.
 */
static void shared(MPI_Comm comm, int is_contiguous)
{
    int n, r, unit, other;
    uint64_t *mine, *theirs, *first;
    MPI_Aint len;
    MPI_Info info;
    MPI_Comm_size(comm, &n);
    MPI_Comm_rank(comm, &r);
    other = (r + 1) % n;
    MPI_Info_create(&info);
    MPI_Info_set(info, "alloc_shared_noncontig", is_contiguous ? "false" : "true");
    MPI_Win_allocate_shared(n > 1 && r == n - 1 ? 0 : 101 * 8, 8, info, comm, &mine, &win);
    MPI_Info_free(&info);
    MPI_Win_lock_all(0, win);
    for (int i = 0; i < 101 && (n == 1 || r < n - 1); i++)
        mine[i] = word(r, i);
    MPI_Win_sync(win);
    MPI_Barrier(comm);
    MPI_Win_sync(win);
    MPI_Win_shared_query(win, MPI_PROC_NULL, &len, &unit, &first);
    CHECK(len == 808 && unit == 8 && first[7] == word(0, 7), "the first has %lld bytes",
          (long long) len);
    MPI_Win_shared_query(win, other, &len, &unit, &theirs);
    CHECK(len == (n > 1 && other == n - 1 ? 0 : 808) && unit == 8, "%lld bytes", (long long) len);
    for (int i = 0; i * 8 < len; i++)
        CHECK(theirs[i] == word(other, i), "word %d of %d", i, other);
    CHECK(!is_contiguous || len == 0 || theirs == first + 101 * other, "not in one piece");
    MPI_Barrier(comm);
    if (n > 2) { /* calls are possible, too */
        uint64_t five = 5, old = 0;
        MPI_Fetch_and_op(&five, &old, MPI_UINT64_T, 0, 1, MPI_SUM, win);
        MPI_Win_flush_all(win);
        MPI_Barrier(comm);
        MPI_Win_sync(win);
        CHECK(first[1] == word(0, 1) + 5 * (uint64_t) n, "a sum by all");
    }
    MPI_Win_unlock_all(win);
    MPI_Win_free(&win);
}

/* The ranks of a node; and all ranks, where the region counts as a node. */
static void shared_windows(void)
{
    MPI_Comm node;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node);
    shared(node, 1);
    MPI_Comm_free(&node);
    shared(MPI_COMM_WORLD, 1);
    shared(MPI_COMM_WORLD, 0);
}

/* Ranks that have no region in common cannot have such a window. */
static void not_shared(void)
{
    int class, err;
    char *base;
    MPI_Comm comm;
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    err = MPI_Win_allocate_shared(100, 1, MPI_INFO_NULL, comm, &base, &win);
    MPI_Error_class(err, &class);
    CHECK(class == MPI_ERR_RMA_SHARED, "class %d", class);
    MPI_Comm_free(&comm);
}

/* --- atomics, counted exactly --- */

static void atomics(void)
{
    enum { TURNS = 200 };
    /*
     * A counter of each kind, a lock and the word that it guards, at rank 0; and a sum at every
     * rank.
     */
    enum { DRAWN, SWAPPED, LOCK, GUARDED, SUM, N };
    long long *w, one = 1, old, zero = 0;
    char *seen = calloc(1, size * TURNS), *all = calloc(1, size * TURNS);
    MPI_Win_allocate(N * 8, 8, MPI_INFO_NULL, MPI_COMM_WORLD, &w, &win);
    MPI_Win_lock(MPI_LOCK_EXCLUSIVE, rank, 0, win);
    memset(w, 0, N * 8);
    MPI_Win_unlock(rank, win);
    barrier();
    MPI_Win_lock_all(0, win);
    for (int i = 0; i < TURNS; i++) {
        /* Every number is drawn once. */
        MPI_Fetch_and_op(&one, &old, MPI_LONG_LONG, 0, DRAWN, MPI_SUM, win);
        MPI_Win_flush(0, win);
        CHECK(old >= 0 && old < size * TURNS && !seen[old], "drew %lld", old);
        seen[old] = 1;
        for (int to = 0; to < size; to++)
            MPI_Accumulate(&one, 1, MPI_LONG_LONG, to, SUM, 1, MPI_LONG_LONG, MPI_SUM, win);
        if (i % 10)
            continue;
        /* Adding with compare-and-swap. */
        long long guess, value = 0;
        do {
            guess = value;
            long long more = guess + 1;
            MPI_Compare_and_swap(&more, &guess, &value, MPI_LONG_LONG, 0, SWAPPED, win);
            MPI_Win_flush(0, win);
        } while (value != guess);
        /* Adding under a lock of our own making. */
        do {
            MPI_Compare_and_swap(&one, &zero, &old, MPI_LONG_LONG, 0, LOCK, win);
            MPI_Win_flush(0, win);
        } while (old != 0);
        MPI_Get(&value, 1, MPI_LONG_LONG, 0, GUARDED, 1, MPI_LONG_LONG, win);
        MPI_Win_flush(0, win);
        value++;
        MPI_Put(&value, 1, MPI_LONG_LONG, 0, GUARDED, 1, MPI_LONG_LONG, win);
        MPI_Win_flush(0, win);
        MPI_Accumulate(&zero, 1, MPI_LONG_LONG, 0, LOCK, 1, MPI_LONG_LONG, MPI_REPLACE, win);
        MPI_Win_flush(0, win);
    }
    MPI_Win_unlock_all(win);
    /* And with MPI's exclusive lock. */
    for (int i = 0; i < TURNS / 10; i++) {
        long long value;
        MPI_Win_lock(MPI_LOCK_EXCLUSIVE, size - 1, 0, win);
        MPI_Get(&value, 1, MPI_LONG_LONG, size - 1, LOCK, 1, MPI_LONG_LONG, win);
        MPI_Win_flush(size - 1, win);
        value++;
        MPI_Put(&value, 1, MPI_LONG_LONG, size - 1, LOCK, 1, MPI_LONG_LONG, win);
        MPI_Win_unlock(size - 1, win);
    }
    barrier();
    MPI_Win_lock(MPI_LOCK_SHARED, rank, 0, win);
    CHECK(w[SUM] == size * TURNS, "sum %lld, expected %d", w[SUM], size * TURNS);
    if (rank == 0)
        CHECK(w[DRAWN] == size * TURNS && w[SWAPPED] == size * TURNS / 10 &&
                  w[GUARDED] == size * TURNS / 10,
              "drawn %lld, swapped %lld, guarded %lld", w[DRAWN], w[SWAPPED], w[GUARDED]);
    if (rank == size - 1)
        CHECK(w[LOCK] == size * TURNS / 10, "locked %lld", w[LOCK]);
    MPI_Win_unlock(rank, win);
    MPI_Reduce(seen, all, size * TURNS, MPI_CHAR, MPI_SUM, 0, MPI_COMM_WORLD);
    for (int i = 0; i < size * TURNS && rank == 0; i++)
        CHECK(all[i] == 1, "number %d was drawn %d times", i, all[i]);
    MPI_Win_free(&win);
    free(seen);
    free(all);
}

/*
 * The target computes, and calls MPI only now and then. What was put is complete when it is told.
 */
static void busy_target(void)
{
    long long *w, arrived = 0, one = 1, zero = 0;
    MPI_Win_allocate(8 + WORDS * 8, 8, MPI_INFO_NULL, MPI_COMM_WORLD, &w, &win);
    shared_now = is_shared();
    MPI_Win_lock_all(0, win);
    w[0] = 0;
    MPI_Win_sync(win);
    barrier();
    if (rank == 0) {
        uint64_t sum = 0;
        while (arrived < size - 1) {
            for (int i = 0; i < 1000000; i++)
                sum = sum * 31 + pattern_word(1, i % 64);
            MPI_Fetch_and_op(&zero, &arrived, MPI_LONG_LONG, 0, 0, MPI_NO_OP, win);
            MPI_Win_flush(0, win);
        }
        CHECK(sum != 0, "no computing was done");
        for (int from = 1; from < size; from++)
            CHECK_PATTERN((char *) (w + 1) + (from - 1) * 100000, 100000, from, "put by %d", from);
    } else {
        fill(a, 100000, rank);
        MPI_Put(a, 100000, MPI_BYTE, 0, 1 + (rank - 1) * 12500, 100000, MPI_BYTE, win);
        MPI_Win_flush(0, win);
        MPI_Accumulate(&one, 1, MPI_LONG_LONG, 0, 0, 1, MPI_LONG_LONG, MPI_SUM, win);
        MPI_Win_flush(0, win);
        moved(0, 100000);
    }
    MPI_Win_unlock_all(win);
    MPI_Win_free(&win);
}

int main(int argc, char **argv)
{
    MPI_Group world;
    start(&argc, &argv);
    CHECK(size >= 2, "two ranks are needed");
    next = (rank + 1) % size;
    before = (rank + size - 1) % size;
    MPI_Comm_group(MPI_COMM_WORLD, &world);
    MPI_Group_incl(world, size > 2 ? 2 : 1, (int[]){next, before}, &neighbours);
    a = malloc(WORDS * 8);
    b = malloc(WORDS * 8);
    if (argc > 1 && strcmp(argv[1], "atomics") == 0) {
        atomics();
        busy_target();
    } else {
        int apart = argc > 1 && strcmp(argv[1], "apart") == 0, all = argc == 1;
        if (all)
            created();
        created_there();
        if (all || apart)
            allocated();
        uneven();
        mixed();
        many();
        shared_now = 0;
        if (all)
            dynamic();
        if (apart)
            not_shared();
        else
            shared_windows();
    }
    free(a);
    free(b);
    MPI_Group_free(&neighbours);
    MPI_Group_free(&world);
    expected.lmt_max = 1LL << 40; /* MPICH chooses */
    finish();
    return 0;
}
