/* SPDX-License-Identifier: mpich2 */
/*
 * collectives [CASE [COUNT]]
 *
 * Collectives that may go through the region, of all kinds, sizes and types, on several
 * communicators, with messages of other kinds between them. Every byte is checked.
 *   mixed COUNT    so many, chosen at random, by all ranks alike
 *   burst COUNT    so many small broadcasts from one root, which nobody waits for, from another ...
 *   pauses COUNT   with pauses of all lengths before, in one rank or in several
 *   threads COUNT  two threads, each with a communicator of its own
 *   freed COUNT    communicators that live for a few collectives
 *   greedy COUNT   as mixed, after the program has taken all memory that it gets of the region
 *   wrong-kinds, wrong-broadcasts, wrong-sizes COUNT
 *                  after so many barriers, one rank is mistaken
 */
#include "mpitest.h"

#include <pthread.h>

#define BYTES_MAX 300000

typedef struct {
    MPI_Comm comm;
    int rank, size;
    uint64_t state;          /* of the random numbers, the same in all ranks */
    unsigned char *in, *out; /* of BYTES_MAX for each rank */
} player_t;

static uint64_t draw(player_t *p, uint64_t below)
{
    p->state = pattern_word(p->state, 1);
    return (p->state >> 16) % below;
}

/* Bytes: many small ones, and those around the limits. */
static size_t draw_bytes(player_t *p, size_t most)
{
    static const size_t around[] = {8, 16, 56, 64, 1024, 16384, 32768, 65536};
    size_t bytes;

    switch (draw(p, 4)) {
    case 0:
        bytes = 1 + draw(p, 64);
        break;
    case 1:
        bytes = around[draw(p, 8)] + draw(p, 3) - 1;
        break;
    case 2:
        bytes = 1 + draw(p, 5000);
        break;
    default:
        bytes = 1 + draw(p, BYTES_MAX);
    }
    return bytes < most ? bytes : most;
}

/* A type of `bytes` bytes, in one piece or not; and what it spans. */
static MPI_Datatype draw_type(player_t *p, size_t bytes, size_t *extent)
{
    MPI_Datatype type;

    *extent = bytes;
    if (bytes % 2 == 0 && bytes * 2 <= BYTES_MAX && draw(p, 3) == 0) {
        MPI_Type_vector((int) bytes / 2, 2, 4, MPI_BYTE, &type);
        *extent = bytes * 2 - 2;
    } else {
        MPI_Type_contiguous((int) bytes, MPI_BYTE, &type);
    }
    MPI_Type_commit(&type);
    return type;
}

/* Fills, or checks, what a type of that extent touches. */
static void put(unsigned char *at, size_t bytes, size_t extent, uint64_t seed)
{
    static __thread unsigned char flat[BYTES_MAX];
    fill(flat, bytes, seed);
    if (extent == bytes)
        memcpy(at, flat, bytes);
    else
        for (size_t i = 0; i < bytes; i += 2)
            memcpy(at + i * 2, flat + i, 2);
}

static void check_put(const unsigned char *at, size_t bytes, size_t extent, uint64_t seed,
                      const char *what, int from)
{
    static __thread unsigned char flat[BYTES_MAX];
    if (extent == bytes)
        memcpy(flat, at, bytes);
    else
        for (size_t i = 0; i < bytes; i += 2)
            memcpy(flat + i, at + i * 2, 2);
    CHECK_PATTERN(flat, bytes, seed, "%s of %zu bytes, from %d", what, bytes, from);
}

static void broadcast(player_t *p, uint64_t seed)
{
    size_t extent, bytes = draw_bytes(p, BYTES_MAX);
    int root = (int) draw(p, (uint64_t) p->size);
    MPI_Datatype type = draw_type(p, bytes, &extent);

    if (p->rank == root)
        put(p->in, bytes, extent, seed);
    else
        memset(p->in, 0, extent);
    MPI_Bcast(p->in, 1, type, root, p->comm);
    check_put(p->in, bytes, extent, seed, "broadcast", root);
    MPI_Type_free(&type);
}

static void gather(player_t *p, uint64_t seed)
{
    size_t extent, bytes = draw_bytes(p, BYTES_MAX / 2);
    MPI_Datatype type = draw_type(p, bytes, &extent);
    MPI_Aint lower, apart;
    int in_place = (int) draw(p, 2);

    MPI_Type_get_extent(type, &lower, &apart);
    memset(p->out, 0, (size_t) apart * (size_t) p->size);
    put(in_place ? p->out + apart * p->rank : p->in, bytes, extent, seed + (uint64_t) p->rank);
    MPI_Allgather(in_place ? MPI_IN_PLACE : p->in, 1, type, p->out, 1, type, p->comm);
    for (int i = 0; i < p->size; i++)
        check_put(p->out + apart * i, bytes, extent, seed + (uint64_t) i, "allgather", i);
    MPI_Type_free(&type);
}

static void all_to_all(player_t *p, uint64_t seed)
{
    size_t extent, bytes = draw_bytes(p, 40000);
    MPI_Datatype type = draw_type(p, bytes, &extent);
    MPI_Aint lower, apart;
    int in_place = (int) draw(p, 2);
    unsigned char *from = in_place ? p->out : p->in;

    MPI_Type_get_extent(type, &lower, &apart);
    memset(p->out, 0, (size_t) apart * (size_t) p->size);
    for (int i = 0; i < p->size; i++)
        put(from + apart * i, bytes, extent, seed + (uint64_t) (p->rank * p->size + i));
    MPI_Alltoall(in_place ? MPI_IN_PLACE : from, 1, type, p->out, 1, type, p->comm);
    for (int i = 0; i < p->size; i++)
        check_put(p->out + apart * i, bytes, extent, seed + (uint64_t) (i * p->size + p->rank),
                  "alltoall", i);
    MPI_Type_free(&type);
}

static void reduce(player_t *p, uint64_t seed)
{
    int in_place = (int) draw(p, 2), kind = (int) draw(p, 4), size = p->size;
    int n = (int) (draw_bytes(p, BYTES_MAX) / 8) + 1;
    int offset = (int) (seed % 1000);
    const void *from = in_place ? MPI_IN_PLACE : p->in;
    void *to = in_place ? p->out : p->in;
    int *ints = to, *sums = (int *) p->out;
    double *doubles = to, *results = (double *) p->out;

    if (kind == 0) {
        for (int i = 0; i < n; i++)
            ints[i] = (p->rank + 1) * (i % 1000 + offset);
        MPI_Allreduce(from, p->out, n, MPI_INT, MPI_SUM, p->comm);
        for (int i = 0; i < n; i++)
            CHECK(sums[i] == size * (size + 1) / 2 * (i % 1000 + offset), "%d of %d ints: %d", i, n,
                  sums[i]);
    } else if (kind == 1) {
        for (int i = 0; i < n; i++)
            doubles[i] = i % 7 == p->rank % 7 ? offset + i : -1.0 - p->rank;
        MPI_Allreduce(from, p->out, n, MPI_DOUBLE, MPI_MAX, p->comm);
        for (int i = 0; i < n; i++)
            CHECK(results[i] == (i % 7 < size ? offset + i : -1.0), "%d of %d doubles: %g", i, n,
                  results[i]);
    } else if (kind == 2) {
        for (int i = 0; i < n; i++) {
            ints[2 * i] = (p->rank + i) % size;
            ints[2 * i + 1] = p->rank;
        }
        MPI_Allreduce(from, p->out, n, MPI_2INT, MPI_MAXLOC, p->comm);
        for (int i = 0; i < n; i++)
            CHECK(sums[2 * i] == size - 1 && (sums[2 * i + 1] + i) % size == size - 1,
                  "%d of %d pairs: %d %d", i, n, sums[2 * i], sums[2 * i + 1]);
    } else {
        unsigned char *bytes = to, *ors = p->out;
        for (int i = 0; i < n; i++)
            bytes[i] = (unsigned char) (1 << (p->rank + i) % 8);
        MPI_Allreduce(from, p->out, n, MPI_BYTE, MPI_BOR, p->comm);
        for (int i = 0; i < n; i++) {
            int all = 0;
            for (int k = 0; k < size; k++)
                all |= 1 << (k + i) % 8;
            CHECK(ors[i] == all, "%d of %d bytes: %02x", i, n, ors[i]);
        }
    }
}

/* A message round the communicator, which nobody waits for before the next collective. */
static void round_trip(player_t *p, uint64_t seed)
{
    static __thread unsigned char data[2][60000];
    int to = (p->rank + 1) % p->size, from = (p->rank + p->size - 1) % p->size;
    size_t bytes = draw_bytes(p, sizeof(data[0]));
    MPI_Request request[2];

    fill(data[0], bytes, seed + (uint64_t) p->rank);
    MPI_Irecv(data[1], (int) bytes, MPI_BYTE, from, 3, p->comm, &request[0]);
    MPI_Isend(data[0], (int) bytes, MPI_BYTE, to, 3, p->comm, &request[1]);
    MPI_Barrier(p->comm);
    MPI_Waitall(2, request, MPI_STATUSES_IGNORE);
    CHECK_PATTERN(data[1], bytes, seed + (uint64_t) from, "message from %d", from);
}

static void play(player_t *p, int count)
{
    for (int i = 0; i < count; i++) {
        uint64_t seed = draw(p, 1 << 20);
        switch (draw(p, 6)) {
        case 0:
            broadcast(p, seed);
            break;
        case 1:
            gather(p, seed);
            break;
        case 2:
            all_to_all(p, seed);
            break;
        case 3:
            reduce(p, seed);
            break;
        case 4:
            round_trip(p, seed);
            break;
        default:
            MPI_Barrier(p->comm);
        }
    }
}

static player_t player(MPI_Comm comm, uint64_t seed)
{
    player_t p = {.comm = comm, .state = seed};

    MPI_Comm_rank(comm, &p.rank);
    MPI_Comm_size(comm, &p.size);
    p.in = malloc((size_t) BYTES_MAX * (size_t) p.size);
    p.out = malloc((size_t) BYTES_MAX * (size_t) p.size);
    return p;
}

static void end(player_t *p)
{
    free(p->in);
    free(p->out);
    if (p->comm != MPI_COMM_WORLD)
        MPI_Comm_free(&p->comm);
}

static void mixed(int count)
{
    MPI_Comm comms[4] = {MPI_COMM_WORLD};
    player_t players[4];

    MPI_Comm_dup(MPI_COMM_WORLD, &comms[1]);
    MPI_Comm_split(MPI_COMM_WORLD, 0, size - rank, &comms[2]);
    MPI_Comm_split(MPI_COMM_WORLD, rank % 2, rank, &comms[3]);
    for (int i = 0; i < 4; i++)
        players[i] = player(comms[i], (uint64_t) i);
    for (int i = 0; i < count; i += 10)
        play(&players[i / 10 % 4], 10);
    for (int i = 0; i < 4; i++)
        end(&players[i]);
}

static void burst(int count)
{
    unsigned char data[100];

    for (int root = 0; root < size; root++) {
        for (int i = 0; i < count; i++) {
            size_t bytes = (size_t) (i % 97 + 1);
            if (rank == root)
                fill(data, bytes, (uint64_t) i);
            MPI_Bcast(data, (int) bytes, MPI_BYTE, root, MPI_COMM_WORLD);
            CHECK_PATTERN(data, bytes, (uint64_t) i, "broadcast %d from %d", i, root);
        }
    }
}

static void pauses(int count)
{
    player_t p = player(MPI_COMM_WORLD, 1);

    for (int i = 0; i < count; i++) {
        uint64_t mask = draw(&p, 1u << size), us = (uint64_t) 1 << draw(&p, 18);
        if (mask >> rank & 1)
            usleep((unsigned) us);
        play(&p, 1);
    }
    end(&p);
}

static int thread_count;

static void *play_thread(void *arg)
{
    play(arg, thread_count);
    return NULL;
}

static void threads(int count)
{
    player_t players[2];
    pthread_t thread[2];
    MPI_Comm comm;

    thread_count = count;
    for (int i = 0; i < 2; i++) {
        MPI_Comm_dup(MPI_COMM_WORLD, &comm);
        players[i] = player(comm, (uint64_t) i);
    }
    for (int i = 0; i < 2; i++)
        pthread_create(&thread[i], NULL, play_thread, &players[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    for (int i = 0; i < 2; i++)
        end(&players[i]);
}

static void freed(int count)
{
    MPI_Comm comm;

    for (int i = 0; i < count; i++) {
        if (i % 2)
            MPI_Comm_split(MPI_COMM_WORLD, rank % (i % 3 + 1), rank, &comm);
        else
            MPI_Comm_dup(MPI_COMM_WORLD, &comm);
        player_t p = player(comm, (uint64_t) i);
        play(&p, i % 12);
        end(&p);
    }
}

/* Takes all memory before the first collective. */
static void greedy(int count)
{
    void *blocks[1000];
    int n = 0;

    for (size_t bytes = 32 << 20; bytes >= 4096 && n < 1000; bytes /= 2)
        for (int i = 0; i < 2; i++)
            MPI_Alloc_mem((MPI_Aint) bytes, MPI_INFO_NULL, &blocks[n++]);
    mixed(count);
    while (n > 0)
        MPI_Free_mem(blocks[--n]);
}

/*
 * A collective that is wrong in one rank: that rank gets an error, and so do all others, unless it
 * is a broadcast, which for them is right.
 */
static void wrong(int count, const char *what, int all, int (*call)(MPI_Comm comm, int is_wrong))
{
    MPI_Comm comm;
    char text[MPI_MAX_ERROR_STRING];

    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    for (int i = 0; i < count; i++)
        MPI_Barrier(comm);
    int err = call(comm, rank == size - 1);
    CHECK(err != MPI_SUCCESS || (rank != size - 1 && !all), "no error with wrong %s", what);
    error_line(err, text);
    CHECK(err == MPI_SUCCESS || strstr(text, what), "with wrong %s: %s", what, text);
    MPI_Comm_free(&comm);
}

static int wrong_kind(MPI_Comm comm, int is_wrong)
{
    int in = 1, out;
    return is_wrong ? MPI_Allreduce(&in, &out, 1, MPI_INT, MPI_SUM, comm) : MPI_Barrier(comm);
}

static int wrong_broadcast(MPI_Comm comm, int is_wrong)
{
    int data[2] = {0};
    return MPI_Bcast(data, 1 + is_wrong, MPI_INT, 0, comm);
}

static int wrong_size(MPI_Comm comm, int is_wrong)
{
    int in[2] = {0}, out[2];
    return MPI_Allreduce(in, out, 1 + is_wrong, MPI_INT, MPI_SUM, comm);
}

static void wrong_kinds(int count)
{
    wrong(count, "another collective", 1, wrong_kind);
}

static void wrong_broadcasts(int count)
{
    wrong(count, "sizes do not match", 0, wrong_broadcast);
}

static void wrong_sizes(int count)
{
    wrong(count, "sizes do not match", 1, wrong_size);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(int);
    } cases[] = {{"mixed", mixed},
                 {"burst", burst},
                 {"pauses", pauses},
                 {"threads", threads},
                 {"freed", freed},
                 {"greedy", greedy},
                 {"wrong-kinds", wrong_kinds},
                 {"wrong-broadcasts", wrong_broadcasts},
                 {"wrong-sizes", wrong_sizes}};
    const char *name = argc > 1 ? argv[1] : "mixed";
    int provided;

    MPI_Init_thread(&argc, &argv,
                    strcmp(name, "threads") == 0 ? MPI_THREAD_MULTIPLE : MPI_THREAD_SINGLE,
                    &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (strcmp(cases[i].name, name) == 0)
            cases[i].run(argc > 2 ? atoi(argv[2]) : 1000);
    expected.lmt_max = 1LL << 40; /* algorithms differ */
    finish();
    return 0;
}
