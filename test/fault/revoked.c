/* SPDX-License-Identifier: mpich2 */
/*
 * Rank 0 sends messages on a communicator before and after rank 1, which has not received them,
 * revokes it. Each of rank 0's sends ends, whatever becomes of its message, and other communication
 * between the two works as before.
 */
#include "../mpi/mpitest.h"

static const int lengths[] = {8, 3000, 60000, 400000, 4000000};
enum { LENGTHS = sizeof(lengths) / sizeof(lengths[0]), LARGEST = 4000000 };

static void send_all(MPI_Comm comm, char *buf, MPI_Request *reqs)
{
    for (int i = 0; i < LENGTHS; i++) {
        reqs[2 * i] = reqs[2 * i + 1] =
            MPI_REQUEST_NULL; /* if it already knows of the revocation */
        MPI_Isend(buf, lengths[i], MPI_BYTE, 1, i, comm, &reqs[2 * i]);
        MPI_Issend(buf, lengths[i], MPI_BYTE, 1, i, comm, &reqs[2 * i + 1]);
    }
}

int main(int argc, char **argv)
{
    MPI_Request reqs[2 * LENGTHS];
    MPI_Comm comm, other;
    char *buf = malloc(LARGEST);
    int flag;

    start(&argc, &argv);
    CHECK(size == 2, "two ranks are needed");
    for (int early = 0; early < 2; early++) {
        MPI_Comm_dup(MPI_COMM_WORLD, &comm);
        MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
        MPI_Comm_dup(MPI_COMM_WORLD, &other);
        MPI_Barrier(MPI_COMM_WORLD);
        if (rank == 0) {
            fill(buf, LARGEST, 1);
            send_all(comm, buf, reqs);
            /* before rank 1 revokes it, or after that, but before rank 0 knows */
            MPI_Send(buf, 8, MPI_BYTE, 1, 0, other);
            MPI_Waitall(2 * LENGTHS, reqs, MPI_STATUSES_IGNORE);
            fill(buf, LARGEST, 2);
            MPI_Send(buf, LARGEST, MPI_BYTE, 1, 0, other);
        } else {
            if (early) {
                MPIX_Comm_revoke(comm);
                MPI_Recv(buf, 8, MPI_BYTE, 0, 0, other, MPI_STATUS_IGNORE);
            } else {
                MPI_Recv(buf, 8, MPI_BYTE, 0, 0, other, MPI_STATUS_IGNORE);
                MPI_Iprobe(0, 99, other, &flag, MPI_STATUS_IGNORE);
                MPIX_Comm_revoke(comm);
            }
            MPI_Recv(buf, LARGEST, MPI_BYTE, 0, 0, other, MPI_STATUS_IGNORE);
            CHECK_PATTERN(buf, LARGEST, 2, "on another communicator");
        }
        MPI_Comm_free(&comm);
        MPI_Comm_free(&other);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0)
        fputs("all have ended\n", stdout);
    MPI_Finalize();
    return 0;
}
