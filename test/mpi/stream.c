/* SPDX-License-Identifier: mpich2 */
/*
 * stream SECONDS|FILE [told|alone]
 *
 * A job that runs beside others. Every rank sends numbered patterns to every other rank, for that
 * many seconds or until FILE exists (a name with a slash). Prints "running" once all ranks have
 * heard from all others. With "told" or "alone", each rank prints the first error that it gets, and
 * ends. With "alone", ranks ignore the process manager's signal that a rank has died.
 */
#include "mpitest.h"

#include <signal.h>

#define LEN_MAX 300000

static void on_error(MPI_Comm *comm, int *err, ...)
{
    char text[MPI_MAX_ERROR_STRING];
    (void) comm;
    error_line(*err, text);
    fprintf(stderr, "rank %d got an error: %s\n", rank, text);
    fflush(stderr);
    /* Stay for a while, so that the others get an error about the rank that died, not about us. */
    sleep(4);
    _exit(7);
}

int main(int argc, char **argv)
{
    static const int lengths[] = {8, 200000, 100, 16000, 4, 60000, 33000, 2000, LEN_MAX, 0};
    static char out[LEN_MAX], in[LEN_MAX];
    int go = 1;

    start(&argc, &argv);
    CHECK(argc > 1 && size > 1, "how long, with two ranks or more?");
    if (argc > 2) {
        MPI_Errhandler handler;
        MPI_Comm_create_errhandler(on_error, &handler);
        MPI_Comm_set_errhandler(MPI_COMM_WORLD, handler);
        if (strcmp(argv[2], "alone") == 0)
            signal(SIGUSR1, SIG_IGN);
    }
    const char *file = strchr(argv[1], '/') ? argv[1] : NULL;
    double end = MPI_Wtime() + atof(argv[1]);
    for (int i = 0; go; i++) {
        int d = 1 + i % (size - 1), to = (rank + d) % size, from = (rank + size - d) % size;
        int len = lengths[i % 10], count;
        MPI_Status status;
        fill(out, len, (uint64_t) rank << 32 | i);
        MPI_Sendrecv(out, len, MPI_BYTE, to, i & 0x7fff, in, LEN_MAX, MPI_BYTE, from, i & 0x7fff,
                     MPI_COMM_WORLD, &status);
        MPI_Get_count(&status, MPI_BYTE, &count);
        CHECK(count == len, "round %d: %d bytes, sent %d", i, count, len);
        CHECK_PATTERN(in, len, (uint64_t) from << 32 | i, "round %d from %d", i, from);
        expect_sent(to, 1, len);
        if (i % 20 == 19) {
            go = file ? access(file, F_OK) != 0 : MPI_Wtime() < end;
            MPI_Bcast(&go, 1, MPI_INT, 0, MPI_COMM_WORLD);
            if (i == 19 && rank == 0) {
                printf("running\n");
                fflush(stdout);
            }
        }
    }
    finish();
    return 0;
}
