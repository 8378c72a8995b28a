/* SPDX-License-Identifier: mpich2 */
/*
 * The program's memory in the region: large messages between all kinds of buffers, truncated,
 * cancelled, never received. The counters must show how many of them were copied once.
 */
#define EAGER_LIMIT 12000 /* of a program that has memory in the region */
#include "mpitest.h"

#define LEN_MAX 3000000
#define PIPELINE_BYTES                                                                             \
    262144 /* what fits into a sender's pipeline is received from it                               \
            */
#define COMBINATIONS 16

static char *heap, *shared; /* two buffers for the same use, from malloc and from MPI_Alloc_mem */
static MPI_Datatype pairs;  /* of 4 bytes, and 4 that are skipped */
static long long single_copies;
static int asks; /* rank 0 lets rank 1 choose how, as rank 1 has received directly */

static char *buffer(int is_shared)
{
    return is_shared ? shared : heap;
}

/*
 * From rank 0 to rank 1, between buffers of each kind, contiguous or in pieces. When the message is
 * received, all of it that can be in flight is: the pipeline holds it if it has room.
 */
static void exchange(int len, int combination)
{
    int out_shared = combination & 1, in_shared = combination & 2;
    int out_pieces = combination & 4, in_pieces = combination & 8;
    static char whole[LEN_MAX];
    char *buf = buffer(rank == 0 ? out_shared : in_shared);
    uint64_t seed = (uint64_t) len << 8 | combination;
    MPI_Request request;

    if (rank == 0) {
        fill(whole, len, seed);
        for (int i = 0; i < len / 4; i++)
            memcpy(buf + (out_pieces ? 8 * i : 4 * i), whole + 4 * i, 4);
        MPI_Isend(buf, len / 4, out_pieces ? pairs : MPI_INT, 1, 5, MPI_COMM_WORLD, &request);
        MPI_Send(NULL, 0, MPI_INT, 1, 4, MPI_COMM_WORLD);
        MPI_Wait(&request, MPI_STATUS_IGNORE);
        expect_sent(1, 1, len);
        expect_sent(1, 1, 0);
        if (out_shared && !out_pieces)
            single_copies++;
        else
            single_copies += asks = in_shared && !in_pieces && (len > PIPELINE_BYTES || asks);
    } else if (rank == 1) {
        memset(buf, 0x77, 2 * LEN_MAX + 1);
        MPI_Recv(NULL, 0, MPI_INT, 0, 4, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Recv(buf, len / 4, in_pieces ? pairs : MPI_INT, 0, 5, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
        for (int i = 0; i < len / 4; i++) {
            memcpy(whole + 4 * i, buf + (in_pieces ? 8 * i : 4 * i), 4);
            for (int k = 4; in_pieces && k < 8; k++)
                CHECK(buf[8 * i + k] == 0x77, "combination %d wrote between pieces", combination);
        }
        CHECK(buf[in_pieces ? 2 * len : len] == 0x77, "combination %d wrote too much", combination);
        CHECK_PATTERN(whole, len, seed, "%d bytes, combination %d", len, combination);
    }
}

/* The receive takes a part, or nothing. */
static void cut_off(int len, int room, int out_shared, int in_shared)
{
    MPI_Comm comm;
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    if (rank == 0) {
        fill(buffer(out_shared), len, 7);
        MPI_Ssend(buffer(out_shared), len, MPI_BYTE, 1, 6, comm);
        if (room > 0)
            expect_sent(1, 1, len);
    } else if (rank == 1) {
        int class = 0;
        memset(buffer(in_shared), 0x77, room + 1);
        int err = MPI_Recv(buffer(in_shared), room, MPI_BYTE, 0, 6, comm, MPI_STATUS_IGNORE);
        MPI_Error_class(err, &class);
        CHECK(class == MPI_ERR_TRUNCATE, "class %d for %d bytes in %d", class, len, room);
        CHECK_PATTERN(buffer(in_shared), room, 7, "cut off at %d of %d", room, len);
        CHECK(buffer(in_shared)[room] == 0x77, "cut off at %d of %d: one more", room, len);
    }
    MPI_Comm_free(&comm);
}

/* Sends that nobody receives; each frees what it held. */
static void cancel(int is_shared)
{
    for (int i = 0; rank == 0 && i < 20; i++) {
        MPI_Request request;
        MPI_Status status;
        int cancelled;
        MPI_Isend(buffer(is_shared), 100000 * (1 + i % 20), MPI_BYTE, 1, 8, MPI_COMM_WORLD,
                  &request);
        MPI_Cancel(&request);
        MPI_Wait(&request, &status);
        MPI_Test_cancelled(&status, &cancelled);
        CHECK(cancelled, "send %d was not cancelled", i);
    }
    MPI_Barrier(MPI_COMM_WORLD);
}

/* More at once than there are pipelines, received in another order. */
static void many(void)
{
    enum { MANY = 24, LEN = 90000 };
    MPI_Request requests[MANY];
    for (int i = 0; i < MANY; i++) {
        char *buf = (i % 3 ? heap : shared) + i * LEN;
        int tag = rank == 0 ? i : MANY - 1 - i;
        if (rank == 0) {
            fill(buf, LEN, i);
            MPI_Isend(buf, LEN, MPI_BYTE, 1, tag, MPI_COMM_WORLD, &requests[i]);
            expect_sent(1, 1, LEN);
        } else if (rank == 1) {
            MPI_Irecv(buf, LEN, MPI_BYTE, 0, tag, MPI_COMM_WORLD, &requests[i]);
        }
    }
    if (rank < 2)
        MPI_Waitall(MANY, requests, MPI_STATUSES_IGNORE);
    for (int i = 0; rank == 1 && i < MANY; i++)
        CHECK_PATTERN((i % 3 ? heap : shared) + i * LEN, LEN, MANY - 1 - i, "message %d of many",
                      i);
}

/* More than the region has: the rest comes from malloc, and nobody sees the difference. */
static void allocate(void)
{
    enum { MANY = 60 };
    static char *p[MANY];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < MANY; i++) {
            MPI_Alloc_mem(1000 + i * 30000, MPI_INFO_NULL, &p[i]);
            fill(p[i], 1000 + i * 30000, i);
        }
        for (int i = 0; i < MANY; i++) {
            int k = (i * 7 + round) % MANY;
            CHECK_PATTERN(p[k], 1000 + k * 30000, k, "allocation %d", k);
            MPI_Free_mem(p[k]);
        }
    }
}

/* A window's memory serves as well. */
static void window(void)
{
    char *base;
    MPI_Win win;
    MPI_Win_allocate(rank < 2 ? 1000000 : rank * 100, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &base,
                     &win);
    MPI_Win_fence(0, win);
    fill(heap, 1000000, rank);
    if (rank < 2)
        MPI_Put(heap, 1000000, MPI_BYTE, 1 - rank, 0, 1000000, MPI_BYTE, win);
    MPI_Win_fence(0, win);
    if (rank < 2)
        CHECK_PATTERN(base, 1000000, 1 - rank, "what was put");
    if (rank == 0) {
        MPI_Send(base, 1000000, MPI_BYTE, 1, 9, MPI_COMM_WORLD);
        expect_sent(1, 1, 1000000);
        single_copies += size == 2 || is_remote(2); /* else it is Nemesis' window */
    } else if (rank == 1) {
        MPI_Recv(heap, 1000000, MPI_BYTE, 0, 9, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        CHECK_PATTERN(heap, 1000000, 1, "what was sent from a window");
    }
    MPI_Win_free(&win);
}

int main(int argc, char **argv)
{
    static const int lengths[] = {LEN_MAX, 1000000, PIPELINE_BYTES + 4, PIPELINE_BYTES, 100000,
                                  32800,   13000};

    start(&argc, &argv);
    CHECK(size >= 2, "two ranks or more");
    heap = malloc(2 * LEN_MAX + 1);
    MPI_Alloc_mem(2 * LEN_MAX + 1, MPI_INFO_NULL, &shared);
    MPI_Type_create_resized(MPI_INT, 0, 8, &pairs);
    MPI_Type_commit(&pairs);
    for (int combination = 0; combination < COMBINATIONS; combination++)
        for (unsigned i = 0; i < sizeof(lengths) / sizeof(*lengths); i++)
            exchange(lengths[i], combination);
    if (argc > 1) { /* nothing else, so that it is known how many messages are copied once */
        if (rank == 0)
            printf("expected: single_copy>=%lld single_copy<=%lld\n", single_copies, single_copies);
        goto end;
    }
    many();
    for (int kinds = 0; kinds < 4; kinds++) {
        cut_off(300000, 40000, kinds & 1, kinds & 2);
        cut_off(100000, 99999, kinds & 1, kinds & 2);
        cut_off(100000, 0, kinds & 1, kinds & 2);
    }
    cancel(0);
    cancel(1);
    allocate();
    window();
    for (unsigned i = 0; i < sizeof(lengths) / sizeof(*lengths); i++)
        exchange(lengths[i], 0);
    if (rank == 0)
        printf("expected: single_copy>=%lld\n", single_copies);
end:
    MPI_Type_free(&pairs);
    MPI_Free_mem(shared);
    free(heap);
    finish();
    return 0;
}
