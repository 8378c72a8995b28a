/* SPDX-License-Identifier: mpich2 */
/*
 * finalizing revoke|cancel|spawn FILE
 *
 * A rank waits in MPI_Finalize, after it has closed all its connections. Meanwhile a rank that it
 * has never met revokes their communicator ("revoke"; another rank has left before that), sends it
 * a message and cancels it ("cancel"), or, as a spawned child, leaves ("spawn"). None of this is an
 * error. By FILE the ranks tell each other when that is done.
 */
#include "mpitest.h"

#include <stdbool.h>

enum { WAIT_US = 300000, LONGER_THAN_WATCH_US = 3000000 };

static void meet(int a, int b)
{
    if (rank == a)
        MPI_Send(NULL, 0, MPI_BYTE, b, 0, MPI_COMM_WORLD);
    else if (rank == b)
        MPI_Recv(NULL, 0, MPI_BYTE, a, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

static void cancel(void)
{
    MPI_Request req;
    MPI_Status status;
    int cancelled;

    MPI_Isend(NULL, 0, MPI_BYTE, 1, 0, MPI_COMM_WORLD, &req);
    MPI_Cancel(&req);
    MPI_Wait(&req, &status);
    MPI_Test_cancelled(&status, &cancelled);
    CHECK(cancelled, "a message that nobody receives was not cancelled");
}

/* Rank 1 waits for rank 2. It has not met rank 0. Rank 3 has met nobody, and has left. */
static void of_four(bool revokes, const char *file)
{
    char line[MPI_MAX_PORT_NAME];

    meet(1, 2);
    if (rank == 0) {
        usleep(WAIT_US);
        if (revokes)
            MPIX_Comm_revoke(MPI_COMM_WORLD);
        else
            cancel();
        write_line(file, "done");
    } else if (rank == 2) {
        read_line(file, line);
        usleep(WAIT_US);
    }
}

/* Rank 0 waits for rank 1. It has met the first of its children; the second one leaves. */
static void spawn_two(char *program)
{
    char *arguments[] = {"child", NULL};
    MPI_Comm children;

    meet(0, 1);
    if (rank == 0)
        MPI_Comm_spawn(program, arguments, 2, MPI_INFO_NULL, 0, MPI_COMM_SELF, &children,
                       MPI_ERRCODES_IGNORE);
    else
        usleep(LONGER_THAN_WATCH_US);
}

int main(int argc, char **argv)
{
    start(&argc, &argv);
    CHECK(argc == 3 || (argc == 2 && strcmp(argv[1], "child") == 0), "see the head of the source");
    bool revokes = strcmp(argv[1], "revoke") == 0;
    if (revokes || strcmp(argv[1], "cancel") == 0)
        of_four(revokes, argv[2]);
    else if (strcmp(argv[1], "spawn") == 0)
        spawn_two(argv[0]);
    MPI_Finalize();
    fputs("has left\n", stdout);
    return 0;
}
