/* SPDX-License-Identifier: mpich2 */
/* Point to point, between neighbours (0 and 1, 2 and 3, ...) and from all to rank 0. */
#include "mpitest.h"

#define MAX (4 << 20)

static char *out, *in; /* of MAX bytes and some */
static int peer;

enum mode { SEND, SSEND, RSEND, BSEND, ISEND, ISSEND, IRSEND, IBSEND, MODES };

static void send_in_mode(enum mode mode, const void *buf, int len, int tag)
{
    MPI_Request request = MPI_REQUEST_NULL;
    switch (mode) {
    case SEND:
        MPI_Send(buf, len, MPI_BYTE, peer, tag, MPI_COMM_WORLD);
        break;
    case SSEND:
        MPI_Ssend(buf, len, MPI_BYTE, peer, tag, MPI_COMM_WORLD);
        break;
    case RSEND:
        MPI_Rsend(buf, len, MPI_BYTE, peer, tag, MPI_COMM_WORLD);
        break;
    case BSEND:
        MPI_Bsend(buf, len, MPI_BYTE, peer, tag, MPI_COMM_WORLD);
        break;
    case ISEND:
        MPI_Isend(buf, len, MPI_BYTE, peer, tag, MPI_COMM_WORLD, &request);
        break;
    case ISSEND:
        MPI_Issend(buf, len, MPI_BYTE, peer, tag, MPI_COMM_WORLD, &request);
        break;
    case IRSEND:
        MPI_Irsend(buf, len, MPI_BYTE, peer, tag, MPI_COMM_WORLD, &request);
        break;
    case IBSEND:
        MPI_Ibsend(buf, len, MPI_BYTE, peer, tag, MPI_COMM_WORLD, &request);
        break;
    default:
        break;
    }
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    expect_sent(peer, 1, len);
}

/* One message there and, a byte longer or shorter, back; misaligned in turn; in any mode. */
static void bounce(int len, enum mode mode)
{
    static int turn;
    int shift = turn % 9, ready = mode == RSEND || mode == IRSEND, count;
    MPI_Request request;
    MPI_Status status;

    turn++;
    for (int side = 0; side < 2; side++) {
        if (side == (rank & 1)) {
            fill(out + shift, len, turn * 2 + side);
            if (ready)
                MPI_Recv(NULL, 0, MPI_BYTE, peer, 99, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            send_in_mode(mode, out + shift, len, turn & 0xff);
            continue;
        }
        memset(in, 0x5a, shift + len + 8);
        MPI_Irecv(in + shift, MAX, MPI_BYTE, peer, turn & 0xff, MPI_COMM_WORLD, &request);
        if (ready) {
            MPI_Send(NULL, 0, MPI_BYTE, peer, 99, MPI_COMM_WORLD);
            expect_sent(peer, 1, 0);
        }
        MPI_Wait(&request, &status);
        MPI_Get_count(&status, MPI_BYTE, &count);
        CHECK(count == len && status.MPI_SOURCE == peer && status.MPI_TAG == (turn & 0xff),
              "%d bytes from rank %d, sent %d", count, status.MPI_SOURCE, len);
        CHECK_PATTERN(in + shift, len, turn * 2 + side, "mode %d", mode);
        for (int i = 0; i < shift; i++)
            CHECK(in[i] == 0x5a, "byte before the buffer overwritten, length %d", len);
        for (int i = 0; i < 8; i++)
            CHECK(in[shift + len + i] == 0x5a, "byte behind the message overwritten, length %d",
                  len);
    }
}

/* All sizes around which something changes, with and without the packet's header. */
static void sizes(void)
{
    static const int edges[] = {8,           64,        240 - 48,       240,
                                16368 - 48,  16368,     2 * 16368 - 48, EAGER_LIMIT - 48,
                                EAGER_LIMIT, 2 * 32768, 8 * 32768,      1 << 20};
    for (int mode = 0; mode < MODES; mode++) {
        bounce(0, mode);
        for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++)
            for (int d = -1; d <= 1; d++)
                bounce(edges[i] + d, mode);
    }
    for (int len = 0; len < 600; len++)
        bounce(len, SEND);
    for (int len = EAGER_LIMIT - HEADER_MAX; len <= EAGER_LIMIT + 8; len++)
        bounce(len, ISEND);
    bounce(MAX, SEND);
    bounce(3 * 1000 * 1000 + 7, ISSEND);
}

/* Numbered messages of mixed sizes stay in order, whether the receive or the message is first. */
static void order(void)
{
    enum { N = 400, WINDOW = 40 };
    static const int lengths[] = {4, 100, 4, 5000, 40000, 4, 20000, 4, 100000, 239};
    MPI_Request requests[2 * WINDOW];
    char *base = in;
    int n_lengths = sizeof(lengths) / sizeof(lengths[0]);

    for (int first = 0; first < N; first += WINDOW) {
        int n = 0, late = first / WINDOW % 2;
        size_t at = 0;
        if (!late)
            for (int i = 0; i < WINDOW; i++, at += 100000)
                MPI_Irecv(base + at, 100000, MPI_BYTE, peer, 5, MPI_COMM_WORLD, &requests[n++]);
        at = 0;
        for (int i = 0; i < WINDOW; i++, at += 100000) {
            int number = first + i, len = lengths[number % n_lengths];
            fill(out + at, len, number);
            memcpy(out + at, &number, 4);
            MPI_Isend(out + at, len, MPI_BYTE, peer, 5, MPI_COMM_WORLD, &requests[n++]);
            expect_sent(peer, 1, len);
        }
        at = 0;
        if (late) {
            usleep(2000);
            for (int i = 0; i < WINDOW; i++, at += 100000)
                MPI_Irecv(base + at, 100000, MPI_BYTE, i % 2 ? peer : MPI_ANY_SOURCE,
                          i % 3 ? 5 : MPI_ANY_TAG, MPI_COMM_WORLD, &requests[n++]);
        }
        MPI_Waitall(n, requests, MPI_STATUSES_IGNORE);
        for (int i = 0; i < WINDOW; i++) {
            int number, len = lengths[(first + i) % n_lengths];
            unsigned char whole[4];
            memcpy(&number, base + i * 100000, 4);
            CHECK(number == first + i, "message %d came where %d was due", number, first + i);
            uint64_t w = pattern_word(number, 0);
            memcpy(whole, &w, 4);
            memcpy(base + i * 100000, whole, 4);
            CHECK_PATTERN(base + i * 100000, len, number, "message %d", number);
        }
    }
    /* Of two tags, the later one is received first. */
    int two[2] = {rank, rank + 1000}, got[2];
    MPI_Request request[2];
    for (int i = 0; i < 2; i++)
        MPI_Isend(&two[i], 1, MPI_INT, peer, 10 + i, MPI_COMM_WORLD, &request[i]);
    expect_sent(peer, 2, 4);
    for (int i = 1; i >= 0; i--)
        MPI_Recv(&got[i], 1, MPI_INT, peer, 10 + i, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Waitall(2, request, MPI_STATUSES_IGNORE);
    CHECK(got[0] == peer && got[1] == peer + 1000, "%d %d", got[0], got[1]);
}

/* All send to rank 0, which receives from any; in order from each. */
static void any_source(void)
{
    enum { N = 60 };
    if (rank != 0) {
        for (int i = 0; i < N; i++) {
            int len = i % 7 == 0 ? 70000 : 8 + i;
            fill(out, len, rank * 1000 + i);
            MPI_Send(out, len, MPI_BYTE, 0, i, MPI_COMM_WORLD);
            expect_sent(0, 1, len);
        }
        return;
    }
    int *next = calloc(size, sizeof(*next));
    for (int i = 0; i < N * (size - 1); i++) {
        MPI_Status status;
        int count;
        MPI_Recv(in, 70000, MPI_BYTE, MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &status);
        MPI_Get_count(&status, MPI_BYTE, &count);
        int from = status.MPI_SOURCE, number = next[from]++;
        CHECK(status.MPI_TAG == number, "%d from %d where %d was due", status.MPI_TAG, from,
              number);
        CHECK(count == (number % 7 == 0 ? 70000 : 8 + number), "%d bytes", count);
        CHECK_PATTERN(in, count, from * 1000 + number, "from %d", from);
    }
    free(next);
}

static void probes(void)
{
    static const int lengths[] = {0, 10, 30000, 500000};
    for (int i = 0; i < 4; i++)
        for (int kind = 0; kind < 4; kind++) {
            MPI_Request request;
            MPI_Status status;
            MPI_Message message;
            int count, there = 0, tag = 20 + kind, len = lengths[i];
            fill(out, len, tag);
            MPI_Isend(out, len, MPI_BYTE, peer, tag, MPI_COMM_WORLD, &request);
            expect_sent(peer, 1, len);
            if (kind == 0)
                MPI_Probe(peer, tag, MPI_COMM_WORLD, &status);
            else if (kind == 1)
                while (!there)
                    MPI_Iprobe(MPI_ANY_SOURCE, tag, MPI_COMM_WORLD, &there, &status);
            else if (kind == 2)
                MPI_Mprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &message, &status);
            else
                while (!there)
                    MPI_Improbe(peer, tag, MPI_COMM_WORLD, &there, &message, &status);
            MPI_Get_count(&status, MPI_BYTE, &count);
            CHECK(count == len && status.MPI_SOURCE == peer && status.MPI_TAG == tag,
                  "probe %d of %d bytes tells %d", kind, len, count);
            if (kind < 2)
                MPI_Recv(in, count, MPI_BYTE, peer, tag, MPI_COMM_WORLD, &status);
            else
                MPI_Mrecv(in, count, MPI_BYTE, &message, &status);
            CHECK_PATTERN(in, len, tag, "probe %d", kind);
            MPI_Wait(&request, MPI_STATUS_IGNORE);
        }
}

/* A receive that is too small is an error, and only that. */
static void truncation(void)
{
    static const int sent_len[] = {100, 20000, 30000, 300000, 300000, 300000};
    static const int room[] = {99, 10, 0, 299999, 5, 0};
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    for (int late = 0; late < 2; late++)
        for (int i = 0; i < 6; i++) {
            MPI_Request request[2];
            MPI_Status status;
            int class = MPI_SUCCESS, err;
            if (!late)
                MPI_Irecv(in, room[i], MPI_BYTE, peer, 30, MPI_COMM_WORLD, &request[1]);
            fill(out, sent_len[i], i);
            memset(in, 0x5a, sent_len[i] + 1);
            MPI_Isend(out, sent_len[i], MPI_BYTE, peer, 30, MPI_COMM_WORLD, &request[0]);
            expected.messages += is_remote(peer);
            if (late) {
                usleep(1000);
                err = MPI_Recv(in, room[i], MPI_BYTE, peer, 30, MPI_COMM_WORLD, &status);
            } else {
                err = MPI_Wait(&request[1], &status);
            }
            MPI_Error_class(err, &class);
            CHECK(class == MPI_ERR_TRUNCATE, "class %d for %d bytes into %d", class, sent_len[i],
                  room[i]);
            for (int k = room[i]; k <= sent_len[i]; k++)
                CHECK(in[k] == 0x5a, "byte %d behind the buffer of %d", k, room[i]);
            CHECK(MPI_Wait(&request[0], &status) == MPI_SUCCESS, "the sender does not mind");
            if (sent_len[i] > EAGER_LIMIT)
                expected.lmt_max += sent_len[i] * is_remote(peer);
            bounce(1000, SEND);
            bounce(100000, SEND);
        }
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_ARE_FATAL);
}

/*
 * Sends that nobody has received are cancelled, and never arrive. The peer must make progress, so
 * both do the same, then tell each other.
 */
static void cancel(void)
{
    static const int lengths[] = {16, 20000, 300000};
    for (int i = 0; i < 3; i++) {
        MPI_Request request;
        MPI_Status status;
        int cancelled, there;
        fill(out, lengths[i], 1);
        if (i == 2)
            MPI_Isend(out, lengths[i], MPI_BYTE, peer, 40 + i, MPI_COMM_WORLD, &request);
        else
            MPI_Issend(out, lengths[i], MPI_BYTE, peer, 40 + i, MPI_COMM_WORLD, &request);
        MPI_Cancel(&request);
        MPI_Wait(&request, &status);
        MPI_Test_cancelled(&status, &cancelled);
        CHECK(cancelled, "an unmatched send of %d bytes was not cancelled", lengths[i]);
        bounce(8, SEND);
        MPI_Iprobe(peer, 40 + i, MPI_COMM_WORLD, &there, MPI_STATUS_IGNORE);
        CHECK(!there, "a cancelled send of %d bytes arrived", lengths[i]);
        bounce(lengths[i], SEND);
        /* A send that may be matched meanwhile: both sides agree on what was decided. */
        fill(out, lengths[i], 1);
        if (rank & 1) {
            MPI_Isend(out, lengths[i], MPI_BYTE, peer, 50 + i, MPI_COMM_WORLD, &request);
            expected.lmt_max += lengths[i] > EAGER_LIMIT ? is_remote(peer) * lengths[i] : 0;
            MPI_Cancel(&request);
            MPI_Wait(&request, &status);
            MPI_Test_cancelled(&status, &cancelled);
            MPI_Send(&cancelled, 1, MPI_INT, peer, 60, MPI_COMM_WORLD);
        } else {
            MPI_Irecv(in, lengths[i], MPI_BYTE, peer, 50 + i, MPI_COMM_WORLD, &request);
            MPI_Recv(&cancelled, 1, MPI_INT, peer, 60, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            if (cancelled)
                MPI_Cancel(&request);
            MPI_Wait(&request, &status);
            int mine;
            MPI_Test_cancelled(&status, &mine);
            CHECK(!mine == !cancelled, "the sender says cancelled=%d, the receiver %d", cancelled,
                  mine);
            if (!cancelled)
                CHECK_PATTERN(in, lengths[i], 1, "not cancelled");
        }
    }
}

/* Thousands of small and some large messages that nobody has posted receives for yet. */
static void unexpected(void)
{
    enum { SMALL = 3000, LARGE = 20, LEN = 50000 };
    MPI_Request *requests = malloc((SMALL + LARGE) * sizeof(*requests));
    int value, *numbers = malloc(SMALL * sizeof(*numbers));

    for (int i = 0; i < SMALL; i++) {
        numbers[i] = rank << 16 | i;
        MPI_Isend(&numbers[i], 1, MPI_INT, peer, 70, MPI_COMM_WORLD, &requests[i]);
    }
    for (int i = 0; i < LARGE; i++) {
        fill(out + i * LEN, LEN, rank + i);
        MPI_Isend(out + i * LEN, LEN, MPI_BYTE, peer, 71, MPI_COMM_WORLD, &requests[SMALL + i]);
    }
    expect_sent(peer, SMALL, 4);
    expect_sent(peer, LARGE, LEN);
    MPI_Barrier(MPI_COMM_WORLD);
    for (int i = 0; i < LARGE; i++) {
        MPI_Recv(in, LEN, MPI_BYTE, peer, 71, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        CHECK_PATTERN(in, LEN, peer + i, "unexpected message %d", i);
    }
    for (int i = 0; i < SMALL; i++) {
        MPI_Recv(&value, 1, MPI_INT, peer, 70, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        CHECK(value == (peer << 16 | i), "%x where %x was due", value, peer << 16 | i);
    }
    MPI_Waitall(SMALL + LARGE, requests, MPI_STATUSES_IGNORE);
    free(requests);
    free(numbers);
}

int main(int argc, char **argv)
{
    start(&argc, &argv);
    CHECK(size % 2 == 0, "an even number of ranks is needed");
    peer = rank ^ 1;
    out = malloc(MAX + 64);
    in = malloc(MAX + 64);
    char *attached = malloc(2 * MAX);
    int dummy;
    MPI_Buffer_attach(attached, 2 * MAX);
    sizes();
    MPI_Buffer_detach(&attached, &dummy);
    /* Receives from any source must not match messages before or after. */
    MPI_Barrier(MPI_COMM_WORLD);
    order();
    MPI_Barrier(MPI_COMM_WORLD);
    any_source();
    MPI_Barrier(MPI_COMM_WORLD);
    probes();
    truncation();
    cancel();
    unexpected();
    finish();
    return 0;
}
