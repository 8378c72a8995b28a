/* SPDX-License-Identifier: mpich2 */
/*
 * pingpong [MAX-BYTES [SECONDS]]: half round trip and bandwidth between ranks 0 and 1, by message
 * size.
 *
 * For each size, batches of round trips run for SECONDS (default 0.5). The output is the best
 * batch, in which nobody else used the processors, the median, and the bandwidth (MB is 10^6 bytes)
 * of the best. Both sides write a message before it is sent and check one that has arrived, before
 * and after the batches. Ranks beyond the first two wait.
 */
#include <mpi.h>

#include <stdio.h>
#include <stdlib.h>

#define BYTES_MAX (1 << 28)
#define BATCHES_MIN 3
#define BATCHES_MAX 1000
#define BATCH_SECONDS 0.002

static MPI_Comm pair; /* of the two that take part */
static unsigned char *buf;
static int rank;

static void fill(int bytes, int salt)
{
    for (int i = 0; i < bytes; i++)
        buf[i] = (unsigned char) (i * 7 + i / 251 + salt);
}

static void check(int bytes, int salt)
{
    for (int i = 0; i < bytes; i++)
        if (buf[i] != (unsigned char) (i * 7 + i / 251 + salt)) {
            fprintf(stderr, "pingpong: byte %d of %d is wrong\n", i, bytes);
            MPI_Abort(MPI_COMM_WORLD, 1);
        }
}

static void ping(int bytes)
{
    MPI_Send(buf, bytes, MPI_BYTE, 1, 0, pair);
    MPI_Recv(buf, bytes, MPI_BYTE, 1, 0, pair, MPI_STATUS_IGNORE);
}

static void pong(int bytes)
{
    MPI_Recv(buf, bytes, MPI_BYTE, 0, 0, pair, MPI_STATUS_IGNORE);
    MPI_Send(buf, bytes, MPI_BYTE, 0, 0, pair);
}

/* Half a round trip in seconds, the mean of n. */
static double batch(int bytes, int n)
{
    double start = MPI_Wtime();
    for (int i = 0; i < n; i++) {
        if (rank == 0)
            ping(bytes);
        else
            pong(bytes);
    }
    return (MPI_Wtime() - start) / n / 2;
}

/* One message each way, the second unlike the first. */
static void verify(int bytes)
{
    if (rank == 0) {
        fill(bytes, 1);
        ping(bytes);
        check(bytes, 2);
    } else {
        MPI_Recv(buf, bytes, MPI_BYTE, 0, 0, pair, MPI_STATUS_IGNORE);
        check(bytes, 1);
        fill(bytes, 2);
        MPI_Send(buf, bytes, MPI_BYTE, 0, 0, pair);
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

/* Rank 0 tells rank 1 how many round trips the next batch has; 0 is the end. */
static void lead(int bytes, double seconds)
{
    double half[BATCHES_MAX], start = MPI_Wtime();
    int count = 0, trips = 1, end = 0;
    long total = 0;

    while (count < BATCHES_MIN || (count < BATCHES_MAX && MPI_Wtime() - start < seconds)) {
        MPI_Send(&trips, 1, MPI_INT, 1, 0, pair);
        double time = batch(bytes, trips);
        if (2 * time * trips < BATCH_SECONDS) { /* too short to measure */
            trips *= 2;
            continue;
        }
        half[count++] = time;
        total += trips;
    }
    MPI_Send(&end, 1, MPI_INT, 1, 0, pair);
    qsort(half, (size_t) count, sizeof(half[0]), compare);
    printf("%10d %12.2f %12.2f %12.2f %11ld\n", bytes, half[0] * 1e6, half[count / 2] * 1e6,
           bytes / half[0] / 1e6, total);
    fflush(stdout);
}

static void follow(int bytes)
{
    for (;;) {
        int trips;
        MPI_Recv(&trips, 1, MPI_INT, 0, 0, pair, MPI_STATUS_IGNORE);
        if (trips == 0)
            break;
        batch(bytes, trips);
    }
}

static void measure(int bytes, double seconds)
{
    verify(bytes);
    if (rank == 0)
        lead(bytes, seconds);
    else
        follow(bytes);
    verify(bytes);
}

int main(int argc, char **argv)
{
    int size, last = argc > 1 ? atoi(argv[1]) : 4 << 20;
    double seconds = argc > 2 ? atof(argv[2]) : 0.5;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (last > 0 && last <= BYTES_MAX)
        buf = calloc((size_t) last, 1);
    if (size < 2 || !buf) {
        fprintf(stderr, "usage: mpiexec -n 2 pingpong [MAX-BYTES [SECONDS]]\n");
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    if (rank == 0)
        printf("#    bytes    best usec  median usec    best MB/s round-trips\n");
    MPI_Comm_split(MPI_COMM_WORLD, rank / 2, rank, &pair);
    if (rank < 2)
        for (int bytes = 0; bytes <= last; bytes = bytes ? bytes * 4 : 4)
            measure(bytes, seconds);
    free(buf);
    MPI_Comm_free(&pair);
    MPI_Finalize();
    return 0;
}
