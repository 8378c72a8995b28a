/* SPDX-License-Identifier: mpich2 */
/*
 * two_deaths wait|waitall|calls
 *
 * Rank 0 kills ranks 1 and 2 while it makes no MPI call. So it finds both deaths at once, when it
 * waits for what it receives from them and sends to them. Each request ends with an error that
 * names its own peer, and the connection to rank 3 goes on. "wait" and "waitall" need
 * MPIR_CVAR_ENABLE_FT=1; without it a death ends a call, which "calls" expects.
 */
#include "mpitest.h"

#include <signal.h>
#include <sys/types.h>
#include <time.h>

enum { LARGE = 8 << 20, DEAD = 2 };
enum { SEND, HALF, RECEIVE, KINDS, REQUESTS = KINDS * DEAD };

static char *buf[KINDS];

/* Process `pid` of this machine has ended; it may be a zombie. */
static int has_ended(pid_t pid)
{
    char path[64], state = 'X';
    snprintf(path, sizeof(path), "/proc/%d/stat", (int) pid);
    FILE *f = fopen(path, "r");
    if (f) {
        if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
            state = 'X';
        fclose(f);
    }
    return state == 'Z' || state == 'X';
}

static void kill_both(const pid_t *pids)
{
    for (int i = 0; i < DEAD; i++)
        CHECK(kill(pids[i], SIGKILL) == 0, "rank %d cannot be killed", i + 1);
    for (int i = 0; i < DEAD; i++)
        while (!has_ended(pids[i]))
            usleep(10000);
}

/* Which of the two the error names. */
static int named(int err, const char *what)
{
    char text[MPI_MAX_ERROR_STRING], name[64];
    int class, found = 0;

    CHECK(err != MPI_SUCCESS, "%s has succeeded", what);
    MPI_Error_class(err, &class);
    error_line(err, text);
    CHECK(class == MPIX_ERR_PROC_FAILED, "%s: class %d: %s", what, class, text);
    for (int peer = 0; peer < size; peer++) {
        snprintf(name, sizeof(name), "rank %d: its process is dead", peer);
        if (strstr(text, name))
            found = peer;
    }
    return found;
}

static void expect(int err, int i)
{
    static const char *const what[KINDS] = {"a send", "a receive of half a message", "a receive"};
    int kind = i / DEAD, peer = i % DEAD + 1, found = named(err, what[kind]);
    /* For a receive without a message, the error is MPICH's, and names nobody. */
    CHECK(found == peer || (kind == RECEIVE && found == 0), "%s, rank %d: the error names rank %d",
          what[kind], peer, found);
}

/* MPICH's MPI_Waitall reports one error in a call. */
static void wait_for_all(MPI_Request *reqs)
{
    MPI_Status statuses[REQUESTS];
    int class;

    for (int i = 0; i < REQUESTS; i++) {
        MPI_Error_class(MPI_Waitall(REQUESTS, reqs, statuses), &class);
        CHECK(class == MPI_ERR_IN_STATUS, "class %d", class);
        expect(statuses[i].MPI_ERROR, i);
        for (int k = i + 1; k < REQUESTS; k++) {
            MPI_Error_class(statuses[k].MPI_ERROR, &class);
            CHECK(class == MPIX_ERR_PROC_FAILED_PENDING, "class %d", class);
        }
    }
}

/* Each death ends a call, whatever that waits for. */
static void fail_calls(MPI_Request *reqs)
{
    int first = named(MPI_Waitall(REQUESTS, reqs, MPI_STATUSES_IGNORE), "the first call"),
        second = named(MPI_Waitall(REQUESTS, reqs, MPI_STATUSES_IGNORE), "the second call");
    CHECK(first && second && first != second, "the calls name ranks %d and %d", first, second);
}

static void survive(const char *how)
{
    pid_t pids[DEAD];
    MPI_Request reqs[REQUESTS];
    char word;

    for (int i = 0; i < DEAD; i++) {
        MPI_Recv(&pids[i], sizeof(pid_t), MPI_BYTE, i + 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Probe(i + 1, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }
    for (int i = 0; i < DEAD; i++) {
        MPI_Isend(buf[SEND], LARGE, MPI_BYTE, i + 1, 1, MPI_COMM_WORLD, &reqs[SEND * DEAD + i]);
        MPI_Irecv(buf[HALF] + i * LARGE, LARGE, MPI_BYTE, i + 1, 1, MPI_COMM_WORLD,
                  &reqs[HALF * DEAD + i]);
        MPI_Irecv(buf[RECEIVE] + i * LARGE, LARGE, MPI_BYTE, i + 1, 2, MPI_COMM_WORLD,
                  &reqs[RECEIVE * DEAD + i]);
    }
    kill_both(pids);
    if (strcmp(how, "waitall") == 0) {
        wait_for_all(reqs);
    } else {
        if (strcmp(how, "calls") == 0)
            fail_calls(reqs);
        for (int i = REQUESTS - 1; i >= 0; i--)
            expect(MPI_Wait(&reqs[i], MPI_STATUS_IGNORE), i);
    }
    for (int i = 0; i < REQUESTS; i++)
        CHECK(reqs[i] == MPI_REQUEST_NULL, "request %d is left", i);
    fill(buf[SEND], LARGE, 3);
    CHECK(MPI_Send(buf[SEND], LARGE, MPI_BYTE, 3, 1, MPI_COMM_WORLD) == MPI_SUCCESS,
          "to the living");
    CHECK(MPI_Recv(&word, 1, MPI_BYTE, 3, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE) == MPI_SUCCESS,
          "from the living");
}

int main(int argc, char **argv)
{
    pid_t self = getpid();
    MPI_Request request;

    start(&argc, &argv);
    CHECK(argc == 2 && size == DEAD + 2, "HOW and four ranks are expected");
    signal(SIGUSR1, SIG_IGN); /* the process manager's signal that a rank has died */
    for (int kind = 0; kind < KINDS; kind++)
        buf[kind] = calloc(DEAD, LARGE);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    if (rank == 0) {
        survive(argv[1]);
    } else if (rank <= DEAD) {
        MPI_Send(&self, sizeof(self), MPI_BYTE, 0, 0, MPI_COMM_WORLD);
        MPI_Isend(buf[SEND], LARGE, MPI_BYTE, 0, 1, MPI_COMM_WORLD, &request);
        for (;;)
            pause();
    } else {
        MPI_Recv(buf[SEND], LARGE, MPI_BYTE, 0, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        CHECK_PATTERN(buf[SEND], LARGE, 3, "from the survivor");
        MPI_Send(buf[SEND], 1, MPI_BYTE, 0, 1, MPI_COMM_WORLD);
    }
    printf("No errors\n");
    fflush(stdout);
    /* No MPI_Finalize with dead ranks: it could only fail. */
    _exit(0);
}
