/* SPDX-License-Identifier: mpich2 */
/*
 * counted [HOW]: makes calls whose number and sizes are known, for the tests of ivshmem-bench. HOW
 * is "fails", to end with status 3, or "differs", to print something that depends on the transport.
 */
#include <mpi.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    int rank, ranks, sum = 0, one = 1;
    double out[10] = {0}, in[10];
    static char bytes[2][3000];
    MPI_Request requests[2];
    MPI_Status statuses[2];
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    int next = (rank + 1) % ranks, last = (rank + ranks - 1) % ranks;
    for (int i = 0; i < 7; i++)
        MPI_Sendrecv(out, 10, MPI_DOUBLE, next, 0, in, 10, MPI_DOUBLE, last, 0, MPI_COMM_WORLD,
                     &statuses[0]);
    for (int i = 0; i < 4; i++) {
        MPI_Irecv(bytes[0], 3000, MPI_CHAR, last, 1, MPI_COMM_WORLD, &requests[0]);
        MPI_Isend(bytes[1], 3000, MPI_CHAR, next, 1, MPI_COMM_WORLD, &requests[1]);
        MPI_Waitall(2, requests, statuses);
    }
    for (int i = 0; i < 3; i++)
        MPI_Bcast(bytes[0], 100, MPI_CHAR, 0, MPI_COMM_WORLD);
    for (int i = 0; i < 5; i++)
        MPI_Allreduce(&one, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0) {
        const char *netmod = getenv("MPIR_CVAR_NEMESIS_NETMOD");
        printf("ranks: %d\ntook: %.3f s\n", sum, MPI_Wtime() / 1e6);
        if (argc > 1 && strcmp(argv[1], "differs") == 0)
            printf("netmod: %s\n", netmod ? netmod : "none");
    }
    MPI_Finalize();
    return argc > 1 && strcmp(argv[1], "fails") == 0 ? 3 : 0;
}
