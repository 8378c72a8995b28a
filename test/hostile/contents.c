/* SPDX-License-Identifier: mpich2 */
/*
 * contents CASE
 *
 * What MPICH's own code sends to itself: sizes, ranks and lengths, in collectives and when
 * communicators are created. One rank takes part correctly, but one word of one of its messages, or
 * the length of that message, is changed. The packet is correct in every respect, so the receiver's
 * code has to check its contents. "list" lists the cases: name, ranks, and which of them lies.
 *
 * Each honest rank prints "unharmed". It may see an error, or wait for what does not come.
 */
#define _GNU_SOURCE
#include "packets.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RANKS_MAX = 16, PATIENCE = 10, ROOM = 1 << 20, BLOCK = 64, LONG = 16384 };

static int rank, size;
static char *from, *into;
static char done_names[RANKS_MAX][400];
static MPI_Comm made = MPI_COMM_NULL;

static bool lies;      /* this rank lies from now on */
static int sent_count; /* its messages with data since then */
static const struct lie *lie;

static MPI_Comm half(void)
{
    MPI_Comm comm;

    MPI_Comm_split(MPI_COMM_WORLD, rank % 2, rank, &comm);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    return comm;
}

static MPI_Comm halves(void)
{
    MPI_Comm comm;

    MPI_Intercomm_create(half(), 0, MPI_COMM_WORLD, rank % 2 ? 0 : 1, 7, &comm);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    return comm;
}

static void start_lying(void);

/* The new communicator works. */
static void use_made(int err)
{
    MPI_Request req;

    if (err != MPI_SUCCESS || made == MPI_COMM_NULL)
        return;
    MPI_Comm_set_errhandler(made, MPI_ERRORS_RETURN);
    (void) MPI_Isend(from, 4, MPI_BYTE, 0, 1, made, &req);
}

static void comm_create(void)
{
    MPI_Comm comm = halves();
    MPI_Group group;

    MPI_Comm_group(comm, &group);
    start_lying();
    use_made(MPI_Comm_create(comm, group, &made));
}

static void intercomm_create(void)
{
    MPI_Comm comm = half();

    start_lying();
    use_made(MPI_Intercomm_create(comm, 0, MPI_COMM_WORLD, rank % 2 ? 0 : 1, 7, &made));
}

static void dist_graph_create(void)
{
    int source = rank, degree = 1, destination = (rank + 1) % size, weight = 1;
    MPI_Request req;

    start_lying();
    if (MPI_Dist_graph_create(MPI_COMM_WORLD, 1, &source, &degree, &destination, &weight,
                              MPI_INFO_NULL, 0, &made) != MPI_SUCCESS)
        return;
    MPI_Comm_set_errhandler(made, MPI_ERRORS_RETURN);
    (void) MPI_Ineighbor_allgather(from, 1, MPI_INT, into, 1, MPI_INT, made, &req);
}

static void allgather(void)
{
    char *all = malloc((size_t) size * BLOCK);

    start_lying();
    (void) MPI_Allgather(from, BLOCK, MPI_BYTE, all, BLOCK, MPI_BYTE, MPI_COMM_WORLD);
}

static void iallgather(void)
{
    char *all = malloc((size_t) size * BLOCK);
    MPI_Request req;

    start_lying();
    if (MPI_Iallgather(from, BLOCK, MPI_BYTE, all, BLOCK, MPI_BYTE, MPI_COMM_WORLD, &req) ==
        MPI_SUCCESS)
        (void) MPI_Wait(&req, MPI_STATUS_IGNORE);
}

static void allgatherv(void)
{
    char *all = malloc((size_t) size * BLOCK);
    int counts[RANKS_MAX], places[RANKS_MAX];

    for (int i = 0; i < size; i++) {
        counts[i] = BLOCK;
        places[i] = i * BLOCK;
    }
    start_lying();
    (void) MPI_Allgatherv(from, BLOCK, MPI_BYTE, all, counts, places, MPI_BYTE, MPI_COMM_WORLD);
}

static void bcast(void)
{
    char *all = malloc(LONG);

    start_lying();
    (void) MPI_Bcast(all, LONG, MPI_BYTE, 0, MPI_COMM_WORLD);
}

static void scatter(void)
{
    char *own = malloc(BLOCK);

    start_lying();
    (void) MPI_Scatter(from, BLOCK, MPI_BYTE, own, BLOCK, MPI_BYTE, 0, MPI_COMM_WORLD);
}

/*
 * Of the liar's messages: the number of the one that is changed; its word, -1: none; its length,
 * -1: unchanged.
 */
static const struct lie {
    const char *name;
    void (*run)(void);
    int ranks, liar, message, word, value, length;
} cases[] = {
    {"comm-create-size", comm_create, 4, 1, 2, 1, 1000000, -1},
    {"comm-create-negative-size", comm_create, 4, 1, 2, 1, -5, -1},
    {"comm-create-rank", comm_create, 4, 1, 3, 0, 77777777, -1},
    {"comm-create-negative-rank", comm_create, 4, 1, 3, 0, -1, -1},
    {"comm-create-leader", comm_create, 4, 1, 5, 0, 77777777, -1},
    {"intercomm-create-member", intercomm_create, 4, 3, 0, 0, 0, -1},
    {"intercomm-create-rank", intercomm_create, 4, 1, 1, 1, -1000000, -1},
    {"intercomm-create-rank-before", intercomm_create, 4, 1, 1, 1, -1, -1},
    {"dist-graph-count", dist_graph_create, 4, 1, 4, 0, -1, -1},
    {"dist-graph-count-out", dist_graph_create, 4, 1, 5, 1, 5, -1},
    {"dist-graph-rank", dist_graph_create, 4, 1, 6, 0, 1000, -1},
    {"dist-graph-last-rank", dist_graph_create, 4, 1, 6, 0, 0x7fffffff, -1},
    {"allgather-length", allgather, 4, 2, 0, -1, 0, 2 * BLOCK},
    {"iallgather-length", iallgather, 4, 2, 0, -1, 0, 2 * BLOCK},
    {"allgatherv-length", allgatherv, 4, 2, 0, -1, 0, 2 * BLOCK},
    {"bcast-length", bcast, 8, 1, 0, -1, 0, LONG - LONG / 8},
    {"scatter-length", scatter, 8, 4, 0, -1, 0, 0},
};

enum { CASES = sizeof(cases) / sizeof(cases[0]) };

static void start_lying(void)
{
    MPI_Barrier(MPI_COMM_WORLD);
    lies = rank == lie->liar;
}

/* Called before the library's own. */
void ivshm_message_publish_elsewhere(struct ivshm_transport *t, struct ivshm_channel *channel,
                                     const struct ivshm_outgoing *out, uint32_t len)
{
    MPIDI_CH3_Pkt_t *pkt = (MPIDI_CH3_Pkt_t *) out->payload;
    unsigned char *data, *begin = out->payload + sizeof(pkt->eager_send);
    intptr_t bytes;

    if (lies && (data = packet_data(out, len, &bytes)) && bytes > 0 &&
        sent_count++ == lie->message) {
        if (lie->word >= 0)
            memcpy(data + 4 * lie->word, &lie->value, 4);
        if (lie->length >= 0) {
            memmove(begin, data,
                    (size_t) MPL_MIN(bytes, BLOCK)); /* a short message has it earlier */
            pkt->type = MPIDI_CH3_PKT_EAGER_SEND;
            pkt->eager_send.data_sz = lie->length;
            len = (uint32_t) (sizeof(pkt->eager_send) + (size_t) lie->length);
        }
    }
    packet_publish(t, channel, out, len);
}

/*
 * Prints it, and ends when all have: the process manager may end a rank when others have left. The
 * ranks meet by files, as this is also called in a signal handler.
 */
static void say_unharmed(int sig)
{
    static const char text[] = "unharmed\n";
    int done = 0;

    (void) sig;
    (void) !write(STDOUT_FILENO, text, sizeof(text) - 1);
    close(open(done_names[rank], O_CREAT | O_WRONLY, 0600));
    for (int i = 0; done < size && i < 2 * PATIENCE * 100; i++) {
        done = 0;
        for (int other = 0; other < size; other++)
            done += access(done_names[other], F_OK) == 0;
        usleep(10000);
    }
    _exit(0);
}

int main(int argc, char **argv)
{
    int which = 0;

    if (argc > 1 && strcmp(argv[1], "list") == 0) {
        for (int i = 0; i < CASES; i++)
            printf("%s %d %d\n", cases[i].name, cases[i].ranks, cases[i].liar);
        return 0;
    }
    while (which < CASES && (argc < 2 || strcmp(argv[1], cases[which].name) != 0))
        which++;
    if (which == CASES)
        return 2;
    lie = &cases[which];
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    MPID_nem_ivshmem.transport.ring_after =
        UINT32_MAX; /* else messages in slots bypass the double */
    from = calloc(1, ROOM);
    into = calloc(1, ROOM);
    MPI_Alltoall(from, 1, MPI_INT, into, 1, MPI_INT, MPI_COMM_WORLD);
    for (int i = 0; i < size && i < RANKS_MAX; i++)
        snprintf(done_names[i], sizeof(done_names[i]), "%s/done.%d", getenv("HOSTILE_DIR"), i);
    signal(SIGALRM, say_unharmed);
    alarm(PATIENCE);
    lie->run();
    sleep(1); /* all that was sent has been received by then */
    alarm(0);
    say_unharmed(0);
}
