/* SPDX-License-Identifier: mpich2 */
/*
 * lively SECONDS [ROGUE SEED]
 *
 * A job of correct ranks that uses everything that packets are for, again and again, and checks
 * every byte: messages of all sizes and modes, cancelled messages, wildcards, windows of all kinds
 * with all ways of synchronization, communicators that are created and freed, an open port that
 * nobody is to call. Ends with status 0 only if everything was right.
 *
 * With ROGUE, that rank turns malicious after some rounds and sends raw packets on its connections.
 * The others may then see errors or wrong bytes, in which case they stop, but nothing worse.
 *
 * Ranks write what they know of themselves to HOSTILE_DIR/known.RANK, as if attackers could guess
 * all of it.
 */
#include "packets.h"
#include "ivshmem_poll.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LARGE = 120000, WINDOW = 4096 };

static int rank, size, rogue = -1;
static unsigned char *out, *in;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

/* Of a job with a rogue nothing can be expected, except that it ends. */
static void stop(const char *what)
{
    if (rogue >= 0) {
        printf("rank %d stops: %s\n", rank, what);
        fflush(NULL);
        _exit(0);
    }
    fprintf(stderr, "rank %d: %s is wrong\n", rank, what);
    MPI_Abort(MPI_COMM_WORLD, 3);
}

static void failed(const char *call, int err)
{
    char text[2 * MPI_MAX_ERROR_STRING + 200];
    int len = snprintf(text, sizeof(text), "%.100s: ", call);

    MPI_Error_string(err, text + len, &err);
    stop(text);
}

#define OK(call)                                                                                   \
    do {                                                                                           \
        int err_ = call;                                                                           \
        if (err_ != MPI_SUCCESS)                                                                   \
            failed(#call, err_);                                                                   \
    } while (0)
#define RIGHT(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            stop(#condition);                                                                      \
    } while (0)

static void fill(unsigned char *p, int len, int seed)
{
    for (int i = 0; i < len; i++)
        p[i] = (unsigned char) (seed * 31 + i * 7 + (i >> 8));
}

static bool is_filled(const unsigned char *p, int len, int seed)
{
    for (int i = 0; i < len; i++)
        if (p[i] != (unsigned char) (seed * 31 + i * 7 + (i >> 8)))
            return false;
    return true;
}

static void messages(MPI_Comm comm, int round)
{
    static const int lengths[] = {0, 4, 16, 24, 200, 2000, 20000, LARGE};
    int right = (rank + 1) % size, left = (rank + size - 1) % size;
    MPI_Request reqs[2];
    MPI_Status status;

    for (int i = 0; i < 8; i++) {
        int len = lengths[i];
        fill(out, len, rank + round + i);
        OK(MPI_Irecv(in, LARGE, MPI_BYTE, (round + i) % 3 ? left : MPI_ANY_SOURCE, i, comm,
                     &reqs[0]));
        OK(i % 2 ? MPI_Isend(out, len, MPI_BYTE, right, i, comm, &reqs[1])
                 : MPI_Issend(out, len, MPI_BYTE, right, i, comm, &reqs[1]));
        OK(MPI_Wait(&reqs[0], &status));
        OK(MPI_Wait(&reqs[1], MPI_STATUS_IGNORE));
        int got;
        MPI_Get_count(&status, MPI_BYTE, &got);
        RIGHT(got == len && status.MPI_SOURCE == left && is_filled(in, len, left + round + i));
    }
    /* A communicator that nobody needs. */
    int cancelled;
    OK(MPI_Issend(out, 10, MPI_BYTE, right, 77, comm, &reqs[0]));
    OK(MPI_Cancel(&reqs[0]));
    OK(MPI_Wait(&reqs[0], &status));
    MPI_Test_cancelled(&status, &cancelled);
    RIGHT(cancelled);
    int sum = 0;
    OK(MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, comm));
    RIGHT(sum == size * (size - 1) / 2);
}

static MPI_Win windows[3];
static unsigned char *memory[3];

static void make_windows(MPI_Comm comm)
{
    memory[0] = calloc(1, WINDOW);
    OK(MPI_Win_create(memory[0], WINDOW, 1, MPI_INFO_NULL, comm, &windows[0]));
    OK(MPI_Win_allocate(WINDOW, 1, MPI_INFO_NULL, comm, &memory[1], &windows[1]));
    OK(MPI_Win_create_dynamic(MPI_INFO_NULL, comm, &windows[2]));
    memory[2] = calloc(1, WINDOW);
    OK(MPI_Win_attach(windows[2], memory[2], WINDOW));
    for (int w = 0; w < 3; w++)
        MPI_Win_set_errhandler(windows[w], MPI_ERRORS_RETURN);
    memset(memory[1], 0, WINDOW);

    char name[400];
    snprintf(name, sizeof(name), "%s/known.%d", getenv("HOSTILE_DIR"), rank);
    FILE *f = fopen(name, "w");
    for (int w = 0; f && w < 3; w++)
        fprintf(f, "%x %llx %d\n", (unsigned) windows[w],
                (unsigned long long) (uintptr_t) memory[w], WINDOW);
    if (f)
        fclose(f);
    OK(MPI_Barrier(comm));
}

static void free_windows(void)
{
    OK(MPI_Win_detach(windows[2], memory[2]));
    for (int w = 0; w < 3; w++)
        OK(MPI_Win_free(&windows[w]));
    free(memory[0]);
    free(memory[2]);
}

/* Rank r writes the r-th part of the next rank's window, by all ways of synchronization. */
static void one_sided(MPI_Comm comm, int round)
{
    int right = (rank + 1) % size, left = (rank + size - 1) % size, part = WINDOW / size / 8 * 8,
        sum = 1, old;
    MPI_Aint at[3] = {0, 0, 0}, mine, theirs;
    MPI_Group all, group;
    MPI_Datatype type;

    MPI_Get_address(memory[2], &mine);
    OK(MPI_Sendrecv(&mine, 1, MPI_AINT, left, 5, &theirs, 1, MPI_AINT, right, 5, comm,
                    MPI_STATUS_IGNORE));
    at[2] = theirs;
    MPI_Comm_group(comm, &all);
    for (int w = 0; w < 3; w++) {
        fill(out, part, rank + round + w);
        MPI_Aint disp = at[w] + rank * part;
        switch (round % 4) {
        case 0:
            OK(MPI_Win_fence(0, windows[w]));
            OK(MPI_Put(out, part, MPI_BYTE, right, disp, part, MPI_BYTE, windows[w]));
            OK(MPI_Win_fence(0, windows[w]));
            break;
        case 1:
            MPI_Group_incl(all, 1, &left, &group);
            OK(MPI_Win_post(group, 0, windows[w]));
            MPI_Group_free(&group);
            MPI_Group_incl(all, 1, &right, &group);
            OK(MPI_Win_start(group, 0, windows[w]));
            MPI_Group_free(&group);
            OK(MPI_Put(out, part, MPI_BYTE, right, disp, part, MPI_BYTE, windows[w]));
            OK(MPI_Win_complete(windows[w]));
            OK(MPI_Win_wait(windows[w]));
            break;
        case 2:
            OK(MPI_Win_lock(MPI_LOCK_EXCLUSIVE, right, 0, windows[w]));
            OK(MPI_Accumulate(out, part, MPI_BYTE, right, disp, part, MPI_BYTE, MPI_REPLACE,
                              windows[w]));
            OK(MPI_Win_unlock(right, windows[w]));
            break;
        default:
            MPI_Type_vector(part / 8, 4, 8, MPI_BYTE, &type);
            MPI_Type_commit(&type);
            OK(MPI_Win_lock_all(0, windows[w]));
            OK(MPI_Put(out, 1, type, right, disp, 1, type, windows[w]));
            OK(MPI_Win_flush(right, windows[w]));
            OK(MPI_Put(out + 4, 1, type, right, disp + 4, 1, type, windows[w]));
            MPI_Type_free(&type);
            OK(MPI_Fetch_and_op(&sum, &old, MPI_INT, right, at[w] + WINDOW - 8, MPI_SUM,
                                windows[w]));
            OK(MPI_Win_unlock_all(windows[w]));
        }
        OK(MPI_Barrier(comm));
        OK(MPI_Win_lock(MPI_LOCK_SHARED, right, 0, windows[w]));
        OK(MPI_Get(in, part, MPI_BYTE, right, disp, part, MPI_BYTE, windows[w]));
        OK(MPI_Win_unlock(right, windows[w]));
        RIGHT(is_filled(in, rank == size - 1 ? part - 8 : part, rank + round + w));
        OK(MPI_Barrier(comm));
    }
    MPI_Group_free(&all);
}

/* Sends anything, as fast as it can, on its connections. */
static void go_bad(MPI_Comm comm, uint64_t seed, double until)
{
    static struct known known;
    static struct packet p;
    struct random r = {seed * UINT64_C(0x9e3779b97f4a7c15) + 77};
    MPIR_Comm *ptr;
    unsigned long long sent = 0;

    MPIR_Comm_get_ptr(comm, ptr);
    known.comms = 1;
    known.comm[0].context = ptr->context_id;
    for (int i = 0; i < 8; i++)
        known.tags[i] = i;
    known.windows = 3;
    known.heap = (char *) out;
    known.stack = (char *) &seed;
    known.text = (char *) (intptr_t) &MPID_nem_ivshmem_poll;
    for (int i = 0; i < size; i++)
        known.comm[0].ranks[i] = rank;
    while (now() < until) {
        int peer = (int) rnd(&r, (uint64_t) size), flag;
        MPIDI_VC_t *vc;
        MPIDI_Comm_get_vc(ptr, peer, &vc);
        if (peer != rank && !vc->ch.is_local && VC_IVSHMEM(vc)->channel) {
            struct ivshm_outgoing cell;
            char name[400];
            snprintf(name, sizeof(name), "%s/known.%d", getenv("HOSTILE_DIR"), peer);
            FILE *f = fopen(name, "r");
            unsigned handle;
            unsigned long long base;
            int bytes;
            for (int w = 0; w < 3; w++) {
                MPIR_Win_get_ptr(windows[w], known.window[w].win);
                known.window[w].base = (char *) memory[w];
                known.window[w].size = WINDOW;
                if (f && fscanf(f, "%x %llx %d", &handle, &base, &bytes) == 3)
                    known.window[w].base = (char *) (uintptr_t) base;
                for (int i = 0; i < size; i++) {
                    known.window[w].members[i] = true;
                    known.window[w].ranks[i] = rank;
                }
            }
            if (f)
                fclose(f);
            packet_make(&r, &known, 0, (int) rnd(&r, PACKET_TYPES), 90, 0, 0, &p);
            size_t len = (size_t) (p.header_len + p.trailing_len);
            if (len > 200)
                len = 200;
            if (ivshm_message_reserve(&MPID_nem_ivshmem.transport, VC_IVSHMEM(vc)->channel, len, 0,
                                      &cell) == 0) {
                memcpy(cell.payload, &p.header, MPL_MIN(len, (size_t) p.header_len));
                if (len > (size_t) p.header_len)
                    memcpy(cell.payload + p.header_len, p.trailing, len - (size_t) p.header_len);
                ivshm_message_publish(&MPID_nem_ivshmem.transport, VC_IVSHMEM(vc)->channel, &cell,
                                      (uint32_t) len);
                sent++;
            }
        }
        if (MPI_Iprobe(MPI_ANY_SOURCE, 7777, comm, &flag, MPI_STATUS_IGNORE) != MPI_SUCCESS &&
            rnd(&r, 8) == 0)
            break;
    }
    printf("rank %d has sent %llu packets\n", rank, sent);
    fflush(NULL);
    _exit(0);
}

static void too_late(int sig)
{
    (void) sig;
    _exit(0);
}

int main(int argc, char **argv)
{
    MPI_Comm comm;
    char port[MPI_MAX_PORT_NAME];
    int more;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    double seconds = argc > 1 ? atof(argv[1]) : 2, end = now() + seconds;
    if (argc > 3)
        rogue = atoi(argv[2]);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    out = malloc(LARGE);
    in = malloc(LARGE);
    if (rogue >= 0) { /* a rank that waits for the rogue may wait for ever */
        signal(SIGALRM, too_late);
        alarm((unsigned) seconds + 8);
    }
    MPI_Open_port(MPI_INFO_NULL, port);
    for (int round = 0;; round++) {
        OK(MPI_Comm_dup(MPI_COMM_WORLD, &comm));
        make_windows(comm);
        messages(comm, round);
        if (rank == rogue && round == 2)
            go_bad(comm, strtoull(argv[3], NULL, 10), end);
        one_sided(comm, round);
        more = now() < end;
        OK(MPI_Bcast(&more, 1, MPI_INT, 0, comm));
        free_windows();
        OK(MPI_Comm_free(&comm));
        if (!more)
            break;
    }
    if (rogue < 0)
        OK(MPI_Close_port(port));
    if (rank == 0)
        printf("all right\n");
    MPI_Finalize();
    free(out);
    free(in);
    return 0;
}
