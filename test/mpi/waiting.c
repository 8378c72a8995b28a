/* SPDX-License-Identifier: mpich2 */
/*
 * waiting idle SECONDS | any SECONDS | tests SECONDS | naps SECONDS | pace ROUNDS | threads ROUNDS
 * | wake ROUNDS
 *
 * Ranks that wait in a blocking call:
 * - idle: for so long, all but rank 0, which sleeps outside MPI; each prints what it took of a CPU
 * - any: as idle, in MPI_Waitany and MPI_Waitsome
 * - tests: as idle, in loops of MPI_Test and MPI_Iprobe
 * - naps: as idle, with MPI_THREAD_MULTIPLE, when nobody is woken; then as wake
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

static int polls_left = 1000;

static int poll_late(void *request, MPI_Status *status)
{
    (void) status;
    if (polls_left > 0 && --polls_left == 0)
        MPI_Grequest_complete(*(MPI_Request *) request);
    return MPI_SUCCESS;
}

/* MPICH wants one, for MPI_Waitall. */
static int wait_late(int count, void **requests, double timeout, MPI_Status *status)
{
    (void) timeout;
    for (int i = 0; i < count; i++)
        while (polls_left > 0)
            poll_late(requests[i], status);
    return MPI_SUCCESS;
}

static int query(void *request, MPI_Status *status)
{
    (void) request;
    MPI_Status_set_elements(status, MPI_BYTE, 0);
    MPI_Status_set_cancelled(status, 0);
    status->MPI_SOURCE = status->MPI_TAG = MPI_UNDEFINED;
    return MPI_SUCCESS;
}

static int do_nothing(void *request)
{
    (void) request;
    return MPI_SUCCESS;
}

static int cancel_nothing(void *request, int is_complete)
{
    (void) request;
    (void) is_complete;
    return MPI_SUCCESS;
}

/* For a message with tag 0, and one with tag 1; before that for what only its polls complete. */
static void wait_for_any(void)
{
    char token[2];
    int index, count, indices[2];
    MPI_Status status, statuses[2];
    MPI_Request requests[2], polled;
    for (int tag = 0; tag < 2; tag++)
        MPI_Irecv(&token[tag], 1, MPI_CHAR, 0, tag, MPI_COMM_WORLD, &requests[tag]);
    MPIX_Grequest_start(query, do_nothing, cancel_nothing, poll_late, wait_late, &polled, &polled);
    MPI_Waitany(2, (MPI_Request[]){requests[1], polled}, &index, &status);
    CHECK(index == 1 && polls_left == 0, "index %d, %d polls left", index, polls_left);
    if (rank % 2) {
        MPI_Waitany(2, requests, &index, &status);
        MPI_Waitsome(2, requests, &count, indices, statuses);
        CHECK(index == 0 && count == 1 && indices[0] == 1, "%d %d %d", index, count, indices[0]);
    } else {
        MPI_Waitsome(2, requests, &count, indices, statuses);
        MPI_Waitany(2, requests, &index, &status);
        CHECK(index == 1 && count == 1 && indices[0] == 0, "%d %d %d", index, count, indices[0]);
    }
}

static void wait_by_tests(void)
{
    char token[2];
    int flag = 0;
    MPI_Request request;
    MPI_Irecv(&token[0], 1, MPI_CHAR, 0, 0, MPI_COMM_WORLD, &request);
    while (!flag)
        MPI_Test(&request, &flag, MPI_STATUS_IGNORE);
    for (flag = 0; !flag;)
        MPI_Iprobe(0, 1, MPI_COMM_WORLD, &flag, MPI_STATUS_IGNORE);
    MPI_Recv(&token[1], 1, MPI_CHAR, 0, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

/* By messages, each after half of the time; or by one, if there is no function for them. */
static void wait_idly(double seconds, void (*two)(void))
{
    char token = 0;
    MPI_Barrier(MPI_COMM_WORLD);
    double took = seconds_of_processor(), began = MPI_Wtime();
    /* Everybody from rank 0, so that nobody has to pass it on. */
    for (int tag = 0; tag < (two ? 2 : 1) && rank == 0; tag++) {
        usleep((unsigned) (seconds * 1e6) / (two ? 2 : 1));
        for (int to = 1; to < size; to++) {
            MPI_Send(&token, 1, MPI_CHAR, to, tag, MPI_COMM_WORLD);
            expect_sent(to, 1, 1);
        }
    }
    if (rank == 0)
        return;
    if (two)
        two();
    else
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
    CHECK(argc == 3 && size > 1,
          "waiting idle|any|tests|naps|pace|threads|wake NUMBER, 2 ranks or more");
    rounds = atoi(argv[2]);
    if (strcmp(what, "any") == 0)
        wait_idly(atof(argv[2]), wait_for_any);
    else if (strcmp(what, "tests") == 0)
        wait_idly(atof(argv[2]), wait_by_tests);
    else if (strcmp(what, "idle") == 0 || strcmp(what, "naps") == 0)
        wait_idly(atof(argv[2]), NULL);
    else if (strcmp(what, "pace") == 0)
        keep_pace(rounds);
    else if (strcmp(what, "wake") == 0)
        wake(rounds);
    else
        wait_in_a_thread();
    if (strcmp(what, "naps") == 0)
        wake(40);
    finish();
    return 0;
}
