/* SPDX-License-Identifier: mpich2 */
/*
 * collectives CALL MODE COUNT VICTIM DEATH DIR
 *
 * Repeats that collective, with COUNT ints a rank. The rank VICTIM dies before the round DEATH. The
 * others learn of it by an error. A call that returns MPI_SUCCESS has the whole correct result, and
 * no call has what the dead rank never sent. MODE is "blocking", "nonblocking" or "persistent".
 * "list" lists the calls.
 *
 * After its first error a rank takes no further part. It stays until all have an error; each
 * creates a file in DIR then. With fault tolerance (MPIR_CVAR_ENABLE_FT) it tells the others by
 * MPIX_Comm_revoke.
 */
#include "../mpi/mpitest.h"

#include <signal.h>
#include <stdbool.h>

static enum { BLOCKING, NONBLOCKING, PERSISTENT } mode;
static int count, round_, root, left, right;
static int *in, *out;                      /* of size * count ints each */
static int *counts, *places, *byte_places; /* of size ints each */
static MPI_Datatype *types;
static MPI_Comm world, ring;
static bool needs_all; /* of the call: it cannot succeed without every rank */

/* What a rank sends to another, or to all (`to` is 0). */
static int value(int from, int to, int i)
{
    return from * 1000003 + to * 10007 + round_ * 101 + i;
}

static int sum(int first, int last, int to, int i)
{
    int all = 0;
    for (int from = first; from <= last; from++)
        all += value(from, to, i);
    return all;
}

static void give(int to, int *block)
{
    for (int i = 0; i < count; i++)
        block[i] = value(rank, to, i);
}

static void give_each(void)
{
    for (int to = 0; to < size; to++)
        give(to, in + to * count);
}

static bool has(const int *block, int from, int to)
{
    for (int i = 0; i < count; i++)
        if (block[i] != value(from, to, i))
            return false;
    return true;
}

static bool has_each(int to)
{
    for (int from = 0; from < size; from++)
        if (!has(out + from * count, from, to))
            return false;
    return true;
}

static bool has_sum(int first, int last, int to)
{
    for (int i = 0; i < count; i++)
        if (out[i] != sum(first, last, to, i))
            return false;
    return true;
}

#define DO(name, nonblocking, ...)                                                                 \
    MPI_Request req = MPI_REQUEST_NULL;                                                            \
    int err = MPI_SUCCESS, err2;                                                                   \
    if (mode == BLOCKING)                                                                          \
        return MPI_##name(__VA_ARGS__);                                                            \
    if (mode == NONBLOCKING)                                                                       \
        err = MPI_##nonblocking(__VA_ARGS__, &req);                                                \
    else if ((err = MPI_##name##_init(__VA_ARGS__, MPI_INFO_NULL, &req)) == MPI_SUCCESS)           \
        err = MPI_Start(&req);                                                                     \
    if (err == MPI_SUCCESS)                                                                        \
        err = MPI_Wait(&req, MPI_STATUS_IGNORE);                                                   \
    if (mode == PERSISTENT && err == MPI_SUCCESS && (err2 = MPI_Request_free(&req)))               \
        err = err2;                                                                                \
    return err

/* For each call: what it does, and whether its result is right. */
static int do_barrier(void)
{
    needs_all = true;
    DO(Barrier, Ibarrier, world);
}
static bool right_barrier(void)
{
    return true;
}
static int do_bcast(void)
{
    if (rank == root)
        give(0, out);
    DO(Bcast, Ibcast, out, count, MPI_INT, root, world);
}
static bool right_bcast(void)
{
    return has(out, root, 0);
}
static int do_gather(void)
{
    give(0, in);
    DO(Gather, Igather, in, count, MPI_INT, out, count, MPI_INT, root, world);
}
static bool right_gather(void)
{
    return rank != root || has_each(0);
}
static int do_gatherv(void)
{
    give(0, in);
    DO(Gatherv, Igatherv, in, count, MPI_INT, out, counts, places, MPI_INT, root, world);
}
static int do_scatter(void)
{
    give_each();
    DO(Scatter, Iscatter, in, count, MPI_INT, out, count, MPI_INT, root, world);
}
static bool right_scatter(void)
{
    return has(out, root, rank);
}
static int do_scatterv(void)
{
    give_each();
    DO(Scatterv, Iscatterv, in, counts, places, MPI_INT, out, count, MPI_INT, root, world);
}
static int do_allgather(void)
{
    needs_all = true;
    give(0, in);
    DO(Allgather, Iallgather, in, count, MPI_INT, out, count, MPI_INT, world);
}
static bool right_allgather(void)
{
    return has_each(0);
}
static int do_allgatherv(void)
{
    needs_all = true;
    give(0, in);
    DO(Allgatherv, Iallgatherv, in, count, MPI_INT, out, counts, places, MPI_INT, world);
}
static int do_alltoall(void)
{
    needs_all = true;
    give_each();
    DO(Alltoall, Ialltoall, in, count, MPI_INT, out, count, MPI_INT, world);
}
static bool right_alltoall(void)
{
    return has_each(rank);
}
static int do_alltoallv(void)
{
    needs_all = true;
    give_each();
    DO(Alltoallv, Ialltoallv, in, counts, places, MPI_INT, out, counts, places, MPI_INT, world);
}
static int do_alltoallw(void)
{
    needs_all = true;
    give_each();
    DO(Alltoallw, Ialltoallw, in, counts, byte_places, types, out, counts, byte_places, types,
       world);
}
static int do_alltoall_in_place(void)
{
    needs_all = true;
    for (int to = 0; to < size; to++)
        give(to, out + to * count);
    DO(Alltoall, Ialltoall, MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, out, count, MPI_INT, world);
}
static int do_reduce(void)
{
    give(0, in);
    DO(Reduce, Ireduce, in, out, count, MPI_INT, MPI_SUM, root, world);
}
static bool right_reduce(void)
{
    return rank != root || has_sum(0, size - 1, 0);
}
static int do_allreduce(void)
{
    needs_all = true;
    give(0, in);
    DO(Allreduce, Iallreduce, in, out, count, MPI_INT, MPI_SUM, world);
}
static bool right_allreduce(void)
{
    return has_sum(0, size - 1, 0);
}
static int do_reduce_scatter(void)
{
    needs_all = true;
    give_each();
    DO(Reduce_scatter, Ireduce_scatter, in, out, counts, MPI_INT, MPI_SUM, world);
}
static bool right_reduce_scatter(void)
{
    return has_sum(0, size - 1, rank);
}
static int do_reduce_scatter_block(void)
{
    needs_all = true;
    give_each();
    DO(Reduce_scatter_block, Ireduce_scatter_block, in, out, count, MPI_INT, MPI_SUM, world);
}
static int do_scan(void)
{
    give(0, in);
    DO(Scan, Iscan, in, out, count, MPI_INT, MPI_SUM, world);
}
static bool right_scan(void)
{
    return has_sum(0, rank, 0);
}
static int do_exscan(void)
{
    give(0, in);
    DO(Exscan, Iexscan, in, out, count, MPI_INT, MPI_SUM, world);
}
static bool right_exscan(void)
{
    return rank == 0 || has_sum(0, rank - 1, 0);
}
static int do_neighbor_allgather(void)
{
    give(0, in);
    DO(Neighbor_allgather, Ineighbor_allgather, in, count, MPI_INT, out, count, MPI_INT, ring);
}
static bool right_neighbor_allgather(void)
{
    return has(out, left, 0) && has(out + count, right, 0);
}
static int do_neighbor_allgatherv(void)
{
    give(0, in);
    DO(Neighbor_allgatherv, Ineighbor_allgatherv, in, count, MPI_INT, out, counts, places, MPI_INT,
       ring);
}
static void give_neighbors(void)
{
    give(left, in);
    give(right, in + count);
}
static int do_neighbor_alltoall(void)
{
    give_neighbors();
    DO(Neighbor_alltoall, Ineighbor_alltoall, in, count, MPI_INT, out, count, MPI_INT, ring);
}
static bool right_neighbor_alltoall(void)
{
    return has(out, left, rank) && has(out + count, right, rank);
}
static int do_neighbor_alltoallv(void)
{
    give_neighbors();
    DO(Neighbor_alltoallv, Ineighbor_alltoallv, in, counts, places, MPI_INT, out, counts, places,
       MPI_INT, ring);
}
static int do_neighbor_alltoallw(void)
{
    MPI_Aint at[2] = {0, count * (MPI_Aint) sizeof(int)};
    give_neighbors();
    DO(Neighbor_alltoallw, Ineighbor_alltoallw, in, counts, at, types, out, counts, at, types,
       ring);
}

static const struct {
    const char *name;
    int (*call)(void);
    bool (*right)(void);
} calls[] = {
    {"barrier", do_barrier, right_barrier},
    {"bcast", do_bcast, right_bcast},
    {"gather", do_gather, right_gather},
    {"gatherv", do_gatherv, right_gather},
    {"scatter", do_scatter, right_scatter},
    {"scatterv", do_scatterv, right_scatter},
    {"allgather", do_allgather, right_allgather},
    {"allgatherv", do_allgatherv, right_allgather},
    {"alltoall", do_alltoall, right_alltoall},
    {"alltoallv", do_alltoallv, right_alltoall},
    {"alltoallw", do_alltoallw, right_alltoall},
    {"alltoall-in-place", do_alltoall_in_place, right_alltoall},
    {"reduce", do_reduce, right_reduce},
    {"allreduce", do_allreduce, right_allreduce},
    {"reduce_scatter", do_reduce_scatter, right_reduce_scatter},
    {"reduce_scatter_block", do_reduce_scatter_block, right_reduce_scatter},
    {"scan", do_scan, right_scan},
    {"exscan", do_exscan, right_exscan},
    {"neighbor_allgather", do_neighbor_allgather, right_neighbor_allgather},
    {"neighbor_allgatherv", do_neighbor_allgatherv, right_neighbor_allgather},
    {"neighbor_alltoall", do_neighbor_alltoall, right_neighbor_alltoall},
    {"neighbor_alltoallv", do_neighbor_alltoallv, right_neighbor_alltoall},
    {"neighbor_alltoallw", do_neighbor_alltoallw, right_neighbor_alltoall},
};
enum { CALLS = sizeof(calls) / sizeof(calls[0]) };

static void make_ring(void)
{
    int periodic = 1;
    MPI_Cart_create(world, 1, &size, &periodic, 0, &ring);
    MPI_Comm_set_errhandler(ring, MPI_ERRORS_RETURN);
    MPI_Cart_shift(ring, 0, 1, &left, &right);
}

/*
 * Stays until all survivors are done: nobody may learn of this rank's end, or be ended by the
 * process manager because of it.
 */
static void stay(const char *dir, bool tolerant)
{
    char path[1000];
    int done = 0, ignored;

    snprintf(path, sizeof(path), "%s/%d", dir, rank);
    write_line(path, "done");
    if (tolerant) {
        MPIX_Comm_revoke(world);
        MPIX_Comm_revoke(ring);
    }
    for (int i = 0; done < size - 1 && i < 12000; i++) {
        usleep(10000);
        MPI_Iprobe(0, 0, MPI_COMM_SELF, &ignored, MPI_STATUS_IGNORE);
        for (int r = done = 0; r < size; r++) {
            snprintf(path, sizeof(path), "%s/%d", dir, r);
            done += access(path, F_OK) == 0;
        }
    }
    _exit(done < size - 1);
}

int main(int argc, char **argv)
{
    int at = 0;

    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        for (int i = 0; i < CALLS; i++)
            puts(calls[i].name);
        return 0;
    }
    start(&argc, &argv);
    CHECK(argc == 7, "CALL MODE COUNT VICTIM DEATH DIR are expected");
    while (at < CALLS && strcmp(argv[1], calls[at].name) != 0)
        at++;
    CHECK(at < CALLS, "no call %s", argv[1]);
    mode = strcmp(argv[2], "blocking") == 0     ? BLOCKING
           : strcmp(argv[2], "persistent") == 0 ? PERSISTENT
                                                : NONBLOCKING;
    count = atoi(argv[3]);
    int victim = atoi(argv[4]), death = atoi(argv[5]);
    const char *ft = getenv("MPIR_CVAR_ENABLE_FT");
    signal(SIGUSR1, SIG_IGN); /* the process manager's signal that a rank has died */
    size_t len = (size_t) size * (size_t) count * sizeof(int);
    in = calloc(1, len);
    out = malloc(len);
    counts = malloc((size_t) size * sizeof(int));
    places = malloc((size_t) size * sizeof(int));
    byte_places = malloc((size_t) size * sizeof(int));
    types = malloc((size_t) size * sizeof(MPI_Datatype));
    for (int i = 0; i < size; i++) {
        counts[i] = count;
        places[i] = i * count;
        byte_places[i] = places[i] * (int) sizeof(int);
        types[i] = MPI_INT;
    }
    world = MPI_COMM_WORLD;
    MPI_Comm_set_errhandler(world, MPI_ERRORS_RETURN);
    make_ring();
    /* All have met, and will find out about the victim. */
    MPI_Alltoall(in, count, MPI_INT, out, count, MPI_INT, world);
    for (;; round_++) {
        root = round_ % size;
        if (rank == victim && round_ == death)
            raise(SIGKILL);
        memset(out, 0xee, len);
        int err = calls[at].call();
        if (err) {
            char text[MPI_MAX_ERROR_STRING];
            int class;
            MPI_Error_class(err, &class);
            error_line(err, text);
            printf("rank %d: round %d ended with class %d: %s\n", rank, round_, class, text);
            break;
        }
        if (!calls[at].right() || (needs_all && round_ >= death)) {
            printf("rank %d: round %d returned MPI_SUCCESS and no right result\n", rank, round_);
            fflush(stdout);
            _exit(3);
        }
    }
    fflush(stdout);
    stay(argv[6], ft && atoi(ft));
}
