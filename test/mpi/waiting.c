/* SPDX-License-Identifier: mpich2 */
/*
 * waiting idle SECONDS | naps SECONDS | pace ROUNDS | threads ROUNDS | wake ROUNDS
 *
 * Ranks that wait in a blocking call:
 * - idle: for so long, all but rank 0, which sleeps outside MPI; each prints what it took of a CPU
 * - naps: as idle, with MPI_THREAD_MULTIPLE, when nobody is woken
 * - pace: for messages of all kinds, after pauses in which they look, yield or sleep
 * - threads: one thread of each rank for the rank before, while another sends to the next
 * - wake: for 50 ms, on one machine; each prints how long after its sending the message came
 */
#include "mpitest.h"

#include <pthread.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <time.h>

#define BYTES_MAX 300000

static unsigned char data[BYTES_MAX];

static double seconds_of_processor(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double) (u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double) (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void wait_idly(double seconds)
{
    char token = 0;
    MPI_Barrier(MPI_COMM_WORLD);
    double took = seconds_of_processor(), began = MPI_Wtime();
    if (rank == 0)
        usleep((unsigned) (seconds * 1e6));
    /* Everybody from rank 0, so that nobody has to pass it on. */
    for (int to = 1; to < size && rank == 0; to++) {
        MPI_Send(&token, 1, MPI_CHAR, to, 0, MPI_COMM_WORLD);
        expect_sent(to, 1, 1);
    }
    if (rank == 0)
        return;
    MPI_Recv(&token, 1, MPI_CHAR, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    double waited = MPI_Wtime() - began;
    printf("waited: rank=%d seconds=%.2f percent=%.2f\n", rank, waited,
           (seconds_of_processor() - took) / waited * 100);
}

static unsigned pause_of(int round)
{
    static const unsigned us[] = {0, 0, 5, 50, 90, 110, 200, 1000, 3000, 25000};
    return us[pattern_word(1, (uint64_t) round) % (sizeof(us) / sizeof(us[0]))];
}

static size_t bytes_of(int round)
{
    static const size_t bytes[] = {0, 8, 200, 1000, 16000, 40000, BYTES_MAX};
    return bytes[pattern_word(2, (uint64_t) round) % (sizeof(bytes) / sizeof(bytes[0]))];
}

/* Each rank has its turn to pause, and to let all others wait: for it, or for what it sends. */
static void keep_pace(int rounds)
{
    for (int round = 0; round < rounds; round++) {
        int slow = round % size, next = (rank + 1) % size, last = (rank + size - 1) % size;
        size_t bytes = bytes_of(round);
        if (rank == slow) {
            usleep(pause_of(round));
            fill(data, bytes, (uint64_t) round);
        } else {
            MPI_Recv(data, BYTES_MAX, MPI_BYTE, last, round, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            CHECK_PATTERN(data, bytes, (uint64_t) round, "round %d", round);
        }
        if (next != slow) {
            MPI_Send(data, (int) bytes, MPI_BYTE, next, round, MPI_COMM_WORLD);
            expect_sent(next, 1, (long long) bytes);
        }
        if (round % 16 == 0)
            MPI_Barrier(MPI_COMM_WORLD);
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

static void wake(int rounds)
{
    struct timespec sent, now;
    double *us = calloc((size_t) rounds, sizeof(*us));
    CHECK(us && rounds > 0, "wake ROUNDS");
    for (int round = 0; round < rounds; round++) {
        if (rank == 0)
            usleep(50000);
        for (int to = 1; to < size && rank == 0; to++) {
            clock_gettime(CLOCK_MONOTONIC, &sent);
            MPI_Send(&sent, sizeof(sent), MPI_BYTE, to, round, MPI_COMM_WORLD);
            expect_sent(to, 1, sizeof(sent));
        }
        if (rank == 0)
            continue;
        MPI_Recv(&sent, sizeof(sent), MPI_BYTE, 0, round, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        clock_gettime(CLOCK_MONOTONIC, &now);
        us[round] =
            (double) (now.tv_sec - sent.tv_sec) * 1e6 + (double) (now.tv_nsec - sent.tv_nsec) / 1e3;
    }
    qsort(us, (size_t) rounds, sizeof(*us), compare);
    if (rank > 0)
        printf("woken: rank=%d median=%.1f most=%.1f us\n", rank, us[rounds / 2],
               us[rounds * 9 / 10]);
    free(us);
}

static int rounds;

static void *receive(void *unused)
{
    char byte;
    (void) unused;
    for (int round = 0; round < rounds; round++)
        MPI_Recv(&byte, 1, MPI_CHAR, (rank + size - 1) % size, round, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
    return NULL;
}

static void wait_in_a_thread(void)
{
    char byte = 1;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, receive, NULL) == 0, "no thread");
    for (int round = 0; round < rounds; round++) {
        usleep(pause_of(round));
        MPI_Send(&byte, 1, MPI_CHAR, (rank + 1) % size, round, MPI_COMM_WORLD);
    }
    expect_sent((rank + 1) % size, rounds, 1);
    pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
    int provided;
    const char *what = argc == 3 ? argv[1] : "";
    bool has_threads = strcmp(what, "threads") == 0 || strcmp(what, "naps") == 0;
    MPI_Init_thread(&argc, &argv, has_threads ? MPI_THREAD_MULTIPLE : MPI_THREAD_SINGLE, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    CHECK(argc == 3 && size > 1, "waiting idle|naps|pace|threads|wake NUMBER, 2 ranks or more");
    rounds = atoi(argv[2]);
    if (strcmp(what, "idle") == 0 || strcmp(what, "naps") == 0)
        wait_idly(atof(argv[2]));
    else if (strcmp(what, "pace") == 0)
        keep_pace(rounds);
    else if (strcmp(what, "wake") == 0)
        wake(rounds);
    else
        wait_in_a_thread();
    finish();
    return 0;
}
