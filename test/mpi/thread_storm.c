/* SPDX-License-Identifier: mpich2 */
/*
 * MPI_THREAD_MULTIPLE, all at once: the threads of all ranks send, probe, wait, reduce, create
 * communicators, access windows and spawn. The argument says which of these.
 */
#include "mpitest.h"

#include <pthread.h>

enum { THREADS = 5, LARGE = 300000 };

static MPI_Comm comms[THREADS]; /* one for each thread */
static int next, before;

static const int lengths[] = {8, 3000, 100000, 0, 40000, 200, LARGE, 16};
enum { LENGTHS = sizeof(lengths) / sizeof(lengths[0]) };

static uint64_t seed_of(int from, int thread, int i)
{
    return ((uint64_t) from * THREADS + thread) * 1000 + i;
}

/* Around the ring of ranks, a message of each length. */
static void ring(MPI_Comm comm, int thread, int tag, int turns)
{
    char *out = malloc(LARGE), *in = malloc(LARGE);
    for (int i = 0; i < turns; i++) {
        int len = lengths[(i + thread) % LENGTHS], count;
        MPI_Status status;
        fill(out, len, seed_of(rank, thread, i));
        MPI_Sendrecv(out, len, MPI_BYTE, next, tag, in, LARGE, MPI_BYTE, before, tag, comm,
                     &status);
        MPI_Get_count(&status, MPI_BYTE, &count);
        CHECK(count == len, "thread %d round %d: %d bytes, sent %d", thread, i, count, len);
        CHECK_PATTERN(in, len, seed_of(before, thread, i), "thread %d round %d", thread, i);
    }
    free(out);
    free(in);
}

static void sent_around(int rings, int turns)
{
    /* Each ring sends all lengths, whatever it begins with. */
    CHECK(turns % LENGTHS == 0, "%d rounds", turns);
    for (int i = 0; i < LENGTHS; i++)
        expect_sent(next, (long long) rings * turns / LENGTHS, lengths[i]);
}

static void own_communicators(int thread)
{
    for (int i = 0; i < 4; i++) {
        int sum;
        ring(comms[thread], thread, 0, LENGTHS);
        MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, comms[thread]);
        CHECK(sum == size * (size - 1) / 2, "sum %d", sum);
    }
}

static void one_communicator(int thread)
{
    ring(MPI_COMM_WORLD, thread, thread, 4 * LENGTHS);
}

/* Threads that send to all, and threads that receive whatever is there, from any rank. */
static void probes(int thread)
{
    enum { EACH = 60, SENDERS = 2, TAKERS = THREADS - SENDERS, STOP = 1, MESSAGE = 2 };
    static int left = -1; /* messages that nobody has taken yet */
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static char *seen;
    char *buf = malloc(LARGE + 8);

    pthread_mutex_lock(&mutex);
    if (left < 0) {
        left = size * SENDERS * EACH;
        seen = calloc(1, left);
    }
    pthread_mutex_unlock(&mutex);
    if (thread < SENDERS) {
        for (int i = 0; i < EACH; i++)
            for (int to = 0; to < size; to++) {
                int len = lengths[i % LENGTHS], id = (rank * SENDERS + thread) * EACH + i;
                memcpy(buf, &id, sizeof(id));
                fill(buf + 8, len, id);
                MPI_Send(buf, len + 8, MPI_BYTE, to, MESSAGE, MPI_COMM_WORLD);
            }
        free(buf);
        return;
    }
    for (;;) {
        MPI_Status status;
        MPI_Message message;
        int len, id, done, found = 0;
        pthread_mutex_lock(&mutex);
        done = left == 0;
        if (!done)
            left--; /* ours */
        pthread_mutex_unlock(&mutex);
        if (done)
            break;
        if (thread % 2)
            MPI_Mprobe(MPI_ANY_SOURCE, MESSAGE, MPI_COMM_WORLD, &message, &status);
        else
            while (!found)
                MPI_Improbe(MPI_ANY_SOURCE, MESSAGE, MPI_COMM_WORLD, &found, &message, &status);
        MPI_Get_count(&status, MPI_BYTE, &len);
        CHECK(len >= 8 && len <= LARGE + 8, "%d bytes", len);
        MPI_Mrecv(buf, len, MPI_BYTE, &message, &status);
        memcpy(&id, buf, sizeof(id));
        CHECK(id >= 0 && id / EACH / SENDERS == status.MPI_SOURCE, "%d from %d", id,
              status.MPI_SOURCE);
        CHECK(len == lengths[id % EACH % LENGTHS] + 8, "%d bytes of message %d", len, id);
        CHECK_PATTERN(buf + 8, len - 8, id, "message %d", id);
        CHECK(!__atomic_test_and_set(&seen[id], __ATOMIC_RELAXED), "message %d came twice", id);
    }
    free(buf);
}

static void sent_probes(void)
{
    for (int to = 0; to < size; to++)
        for (int i = 0; i < 60; i++)
            expect_sent(to, 2, lengths[i % LENGTHS] + 8);
}

/*
 * One thread waits in a collective that does not end before rank 0's other threads have finished.
 */
static void collective(int thread)
{
    static int through;
    if (thread > 0) {
        ring(comms[thread], thread, 0, 2 * LENGTHS);
        __atomic_add_fetch(&through, 1, __ATOMIC_SEQ_CST);
        return;
    }
    while (rank == 0 && __atomic_load_n(&through, __ATOMIC_SEQ_CST) < THREADS - 1)
        usleep(1000);
    MPI_Barrier(comms[0]);
}

/* All threads create, use and free communicators at once. */
static void communicators(int thread)
{
    for (int i = 0; i < 10; i++) {
        MPI_Comm dup, half;
        int sum, n;
        MPI_Comm_dup(comms[thread], &dup);
        MPI_Comm_split(dup, rank % 2, -rank, &half);
        MPI_Comm_size(half, &n);
        CHECK(n == (size + 1 - rank % 2) / 2, "%d of %d", n, size);
        MPI_Allreduce(&thread, &sum, 1, MPI_INT, MPI_SUM, half);
        CHECK(sum == thread * n, "sum %d, thread %d of %d", sum, thread, n);
        MPI_Comm_free(&half);
        ring(dup, thread, 5, 4);
        MPI_Comm_free(&dup);
    }
}

/* Every thread has many requests, and completes them in its own way as they come. */
static void completions(int thread)
{
    enum { N = 2 * LENGTHS, TURNS = 4 };
    char *out[LENGTHS], *in[LENGTHS];
    for (int i = 0; i < LENGTHS; i++) {
        out[i] = malloc(LARGE);
        in[i] = malloc(LARGE);
    }
    for (int turn = 0; turn < TURNS; turn++) {
        MPI_Request requests[N];
        MPI_Status statuses[N];
        int which[N], done = 0, n;
        for (int i = 0; i < LENGTHS; i++) {
            fill(out[i], lengths[i], seed_of(rank, thread, turn * LENGTHS + i));
            memset(in[i], 0, lengths[i]);
            int tag = thread * LENGTHS + i;
            MPI_Irecv(in[i], LARGE, MPI_BYTE, before, tag, MPI_COMM_WORLD, &requests[i]);
            MPI_Isend(out[i], lengths[i], MPI_BYTE, next, tag, MPI_COMM_WORLD,
                      &requests[LENGTHS + i]);
        }
        while (done < N) {
            switch ((thread + turn) % 4) {
            case 0:
                MPI_Waitany(N, requests, &which[0], &statuses[0]);
                n = 1;
                break;
            case 1:
                MPI_Testsome(N, requests, &n, which, statuses);
                break;
            case 2:
                MPI_Waitsome(N, requests, &n, which, statuses);
                break;
            default:
                MPI_Testany(N, requests, &which[0], &n, &statuses[0]);
            }
            for (int k = 0; k < n; k++) {
                int i = which[k], count;
                CHECK(i >= 0 && i < N, "request %d", i);
                done++;
                if (i >= LENGTHS)
                    continue;
                MPI_Get_count(&statuses[k], MPI_BYTE, &count);
                CHECK(count == lengths[i] && statuses[k].MPI_TAG == thread * LENGTHS + i,
                      "%d bytes, tag %d", count, statuses[k].MPI_TAG);
                CHECK_PATTERN(in[i], count, seed_of(before, thread, turn * LENGTHS + i),
                              "thread %d round %d", thread, turn);
            }
        }
    }
    for (int i = 0; i < LENGTHS; i++) {
        free(out[i]);
        free(in[i]);
    }
}

/* Each thread has a window; half of the threads send meanwhile. */
static MPI_Win windows[THREADS];
static long long *counters[THREADS];

static void one_sided(int thread)
{
    enum { TURNS = 100 };
    long long one = 1, old, last = -1;
    if (thread % 2) {
        ring(comms[thread], thread, 0, 2 * LENGTHS);
        return;
    }
    MPI_Win_lock_all(0, windows[thread]);
    for (int i = 0; i < TURNS; i++) {
        MPI_Fetch_and_op(&one, &old, MPI_LONG_LONG, i % size, 0, MPI_SUM, windows[thread]);
        MPI_Win_flush(i % size, windows[thread]);
        CHECK(old >= 0 && old < TURNS * size, "drew %lld", old);
        if (i % size == 0) {
            CHECK(old > last, "drew %lld after %lld", old, last);
            last = old;
        }
    }
    MPI_Win_unlock_all(windows[thread]);
    MPI_Barrier(comms[thread]);
    int mine = 0;
    for (int i = 0; i < TURNS; i++)
        mine += i % size == rank;
    MPI_Win_lock(MPI_LOCK_SHARED, rank, 0, windows[thread]);
    CHECK(*counters[thread] == (long long) mine * size, "counted %lld, expected %d",
          *counters[thread], mine * size);
    MPI_Win_unlock(rank, windows[thread]);
}

/* One thread spawns, the others continue. */
static char *program;

static void spawns(int thread)
{
    if (thread > 0) {
        ring(comms[thread], thread, 0, 4 * LENGTHS);
        return;
    }
    for (int i = 0; i < 2; i++) {
        MPI_Comm inter;
        char *args[] = {"child", NULL};
        static char out[LARGE];
        MPI_Comm_spawn(program, args, 2, MPI_INFO_NULL, 0, comms[0], &inter, MPI_ERRCODES_IGNORE);
        fill(out, LARGE, rank);
        for (int child = 0; child < 2; child++)
            MPI_Send(out, LARGE, MPI_BYTE, child, 0, inter);
        MPI_Comm_disconnect(&inter);
    }
}

/* Ports that were opened one after the other: a message to one of them must not reach the next. */
static void ports(int thread)
{
    enum { CALLS = 20 };
    char port[MPI_MAX_PORT_NAME];

    if (rank > 1)
        return;
    if (rank == 0)
        MPI_Open_port(MPI_INFO_NULL, port);
    if (rank == 0)
        MPI_Send(port, MPI_MAX_PORT_NAME, MPI_CHAR, 1, 0, comms[thread]);
    else
        MPI_Recv(port, MPI_MAX_PORT_NAME, MPI_CHAR, 0, 0, comms[thread], MPI_STATUS_IGNORE);
    for (int i = 0; i < CALLS; i++) {
        MPI_Comm inter;
        int theirs = -1, ours = CALLS * thread + i;
        if (rank == 0)
            MPI_Comm_accept(port, MPI_INFO_NULL, 0, MPI_COMM_SELF, &inter);
        else
            MPI_Comm_connect(port, MPI_INFO_NULL, 0, MPI_COMM_SELF, &inter);
        MPI_Sendrecv(&ours, 1, MPI_INT, 0, 0, &theirs, 1, MPI_INT, 0, 0, inter, MPI_STATUS_IGNORE);
        CHECK(theirs == ours, "thread %d, call %d meets that of %d", thread, ours, theirs);
        MPI_Comm_disconnect(&inter);
    }
    if (rank == 0)
        MPI_Close_port(port);
}

static void child(void)
{
    MPI_Comm parent;
    int parents;
    char *in = malloc(LARGE);
    MPI_Comm_get_parent(&parent);
    MPI_Comm_remote_size(parent, &parents);
    for (int i = 0; i < parents; i++) {
        MPI_Recv(in, LARGE, MPI_BYTE, i, 0, parent, MPI_STATUS_IGNORE);
        CHECK_PATTERN(in, LARGE, i, "from parent %d", i);
        expected.lmt_min += LARGE; /* the parents' */
    }
    MPI_Comm_disconnect(&parent);
    free(in);
}

static const struct part {
    const char *name;
    void (*run)(int thread);
    int rings, turns; /* for the account */
} parts[] = {
    {"own communicators", own_communicators, THREADS * 4, LENGTHS},
    {"one communicator", one_communicator, THREADS, 4 * LENGTHS},
    {"probes", probes, 0, 0},
    {"collective", collective, THREADS - 1, 2 * LENGTHS},
    {"communicators", communicators, 0, 0},
    {"completions", completions, THREADS, 4 * LENGTHS},
    {"one-sided", one_sided, THREADS / 2, 2 * LENGTHS},
    {"spawn", spawns, THREADS - 1, 4 * LENGTHS},
    {"ports", ports, 0, 0},
};
enum { PARTS = sizeof(parts) / sizeof(parts[0]) };

static const struct part *part;

static void *thread_main(void *arg)
{
    part->run((int) (intptr_t) arg);
    return NULL;
}

static void storm(void)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        MPI_Comm_dup(MPI_COMM_WORLD, &comms[i]);
        MPI_Win_allocate(sizeof(long long), 8, MPI_INFO_NULL, MPI_COMM_WORLD, &counters[i],
                         &windows[i]);
        *counters[i] = 0;
    }
    MPI_Barrier(MPI_COMM_WORLD);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, thread_main, (void *) (intptr_t) i) == 0,
              "no thread");
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < THREADS; i++) {
        MPI_Win_free(&windows[i]);
        MPI_Comm_free(&comms[i]);
    }
    sent_around(part->rings, part->turns);
    if (part->run == probes)
        sent_probes();
}

int main(int argc, char **argv)
{
    int provided;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    CHECK(provided == MPI_THREAD_MULTIPLE, "thread level %d", provided);
    CHECK(argc == 2, "see the parts in the source");
    program = argv[0];
    next = (rank + 1) % size;
    before = (rank + size - 1) % size;
    if (strcmp(argv[1], "child") == 0) {
        child();
    } else {
        for (int i = 0; i < PARTS; i++)
            if (strcmp(argv[1], parts[i].name) == 0)
                part = &parts[i];
        CHECK(part, "unknown part %s", argv[1]);
        storm();
    }
    expected.lmt_max = 1LL << 40; /* what MPICH itself sends */
    finish();
    return 0;
}
