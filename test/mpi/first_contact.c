/* SPDX-License-Identifier: mpich2 */
/*
 * first_contact: rank 1 dies before anybody has communicated with it. Rank 0 learns that, and still
 * sends it large messages. Each ends with an error, and then holds no memory of the region.
 * Afterwards rank 0 continues with rank 2.
 */
#include "mpitest.h"

#include <signal.h>

#define LARGE 200000
#define MESSAGES 50

/* Blocks of the region that are used for large messages. */
static long pipeline_blocks(void)
{
    FILE *out = popen("ivshmem info --json \"$MPIR_CVAR_NEMESIS_IVSHMEM_REGION\" | jq "
                      ".usage.pipeline_blocks",
                      "r");
    long blocks = -1;
    CHECK(out && fscanf(out, "%ld", &blocks) == 1, "ivshmem info says nothing of its pipelines");
    pclose(out);
    return blocks;
}

static void send_to_the_dead(char *buf)
{
    long before = pipeline_blocks();

    for (int i = 0; i < MESSAGES; i++) {
        MPI_Request req = MPI_REQUEST_NULL;
        int err = MPI_Isend(buf, LARGE, MPI_BYTE, 1, i, MPI_COMM_WORLD, &req);
        if (err == MPI_SUCCESS)
            err = MPI_Wait(&req, MPI_STATUS_IGNORE);
        CHECK(err != MPI_SUCCESS, "message %d to a dead rank was sent", i);
    }
    CHECK(pipeline_blocks() <= before, "%ld blocks for large messages, %ld before",
          pipeline_blocks(), before);
}

int main(int argc, char **argv)
{
    MPI_Status status;
    char *buf;
    int flag;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    CHECK(size == 3, "three ranks are expected");
    buf = calloc(1, LARGE);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    if (rank == 1)
        raise(SIGKILL);
    if (rank == 0) {
        /* Rank 0 can learn of the death only from the region. */
        for (double end = MPI_Wtime() + 3; MPI_Wtime() < end;)
            MPI_Iprobe(2, 99, MPI_COMM_WORLD, &flag, &status);
        send_to_the_dead(buf);
        memset(buf, 7, LARGE);
        CHECK(MPI_Send(buf, LARGE, MPI_BYTE, 2, 0, MPI_COMM_WORLD) == MPI_SUCCESS,
              "rank 2 was not reached");
    } else {
        CHECK(MPI_Recv(buf, LARGE, MPI_BYTE, 0, 0, MPI_COMM_WORLD, &status) == MPI_SUCCESS &&
                  buf[0] == 7 && buf[LARGE - 1] == 7,
              "rank 0's message did not arrive");
        printf("rank 2 has the message\n");
        fflush(stdout);
    }
    /* No MPI_Finalize with a dead rank: it could only fail. */
    _exit(0);
}
