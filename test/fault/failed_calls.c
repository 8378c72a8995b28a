/* SPDX-License-Identifier: mpich2 */
/*
 * failed_calls plain|sendrecv|replace DIR
 *
 * Rank 1 dies while ranks 0 and 2 wait for each other in blocking calls that nobody matches. The
 * calls end with errors and leave nothing behind: no receive that writes into the program's memory
 * later, and no message that a later receive would take. The ranks meet by files in DIR.
 */
#include "../mpi/mpitest.h"

#include <signal.h>

#define LARGE 400000
enum { OUT, IN, OTHER, LATER };

static char *out, *in;
static const char *dir;

/*
 * The ranks meet by files, as no message may help them. Meanwhile they make progress, for the
 * cancellations of the other side.
 */
static void meet(const char *what)
{
    char path[1000];
    int flag, found = 0;
    snprintf(path, sizeof(path), "%s/%s.%d", dir, what, rank);
    write_line(path, "here");
    snprintf(path, sizeof(path), "%s/%s.%d", dir, what, 2 - rank);
    for (int i = 0; !(found = access(path, F_OK) == 0) && i < 12000; i++) {
        MPI_Iprobe(2 - rank, 99, MPI_COMM_WORLD, &flag, MPI_STATUS_IGNORE);
        usleep(10000);
    }
    CHECK(found, "rank %d has not %s", 2 - rank, what);
}

static int call(const char *what)
{
    int peer = 2 - rank;
    if (strcmp(what, "sendrecv") == 0)
        return MPI_Sendrecv(out, LARGE, MPI_BYTE, peer, 10 + rank, in, LARGE, MPI_BYTE, peer, 1,
                            MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    if (strcmp(what, "replace") == 0)
        return MPI_Sendrecv_replace(in, LARGE, MPI_BYTE, peer, 10 + rank, peer, 1, MPI_COMM_WORLD,
                                    MPI_STATUS_IGNORE);
    if (rank == 0)
        return MPI_Recv(in, LARGE, MPI_BYTE, peer, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    return MPI_Ssend(out, LARGE, MPI_BYTE, peer, 12, MPI_COMM_WORLD);
}

int main(int argc, char **argv)
{
    MPI_Request reqs[2];
    char all[3] = {0};
    int class;

    start(&argc, &argv);
    CHECK(argc == 3 && size == 3, "CALL, DIR and three ranks are expected");
    signal(SIGUSR1, SIG_IGN); /* the process manager's signal that a rank has died */
    dir = argv[2];
    out = malloc(LARGE);
    in = malloc(LARGE);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Alltoall(MPI_IN_PLACE, 1, MPI_BYTE, all, 1, MPI_BYTE, MPI_COMM_WORLD);
    if (rank == 1) {
        usleep(500000);
        raise(SIGKILL);
    }
    fill(out, LARGE, OUT);
    int err = call(argv[1]);
    CHECK(err != MPI_SUCCESS, "%s has succeeded, with nobody", argv[1]);
    MPI_Error_class(err, &class);
    CHECK(class == MPIX_ERR_PROC_FAILED, "class %d", class);

    /* Both buffers belong to the program again. */
    fill(in, LARGE, IN);
    fill(out, LARGE, LATER);
    meet("ended");
    char *buf = malloc(LARGE);
    MPI_Irecv(buf, LARGE, MPI_BYTE, 2 - rank, 12 - rank, MPI_COMM_WORLD, &reqs[0]);
    MPI_Isend(out, LARGE, MPI_BYTE, 2 - rank, 10 + rank, MPI_COMM_WORLD, &reqs[1]);
    err = MPI_Waitall(2, reqs, MPI_STATUSES_IGNORE);
    CHECK(err == MPI_SUCCESS, "error %d afterwards", err);
    CHECK_PATTERN(buf, LARGE, LATER, "what was called back has come");
    /* Another call receives what the failed call would have received. */
    fill(out, LARGE, OTHER);
    MPI_Irecv(buf, LARGE, MPI_BYTE, 2 - rank, 1, MPI_COMM_WORLD, &reqs[0]);
    MPI_Isend(out, LARGE, MPI_BYTE, 2 - rank, 1, MPI_COMM_WORLD, &reqs[1]);
    err = MPI_Waitall(2, reqs, MPI_STATUSES_IGNORE);
    CHECK(err == MPI_SUCCESS, "error %d afterwards", err);
    CHECK_PATTERN(buf, LARGE, OTHER, "of the next call");
    CHECK_PATTERN(in, LARGE, IN, "written by a call that had ended");
    printf("rank %d: nothing is left\n", rank);
    fflush(stdout);
    meet("done");
    _exit(0);
}
