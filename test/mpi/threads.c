/* SPDX-License-Identifier: mpich2 */
/*
 * MPI_THREAD_MULTIPLE: the threads of neighbours talk in pairs, and at the same time in a
 * collective.
 */
#include "mpitest.h"

#include <pthread.h>

enum { THREADS = 4, TURNS = 60 };

static MPI_Comm comms[THREADS];

static void *talk(void *arg)
{
    int me = (int) (intptr_t) arg, peer = rank ^ 1, sum;
    static const int lengths[] = {8, 3000, 100000, 0, 40000, 200};
    char *out = malloc(100000), *in = malloc(100000);
    MPI_Comm comm = me % 2 ? comms[me] : MPI_COMM_WORLD;

    for (int i = 0; i < TURNS; i++) {
        int len = lengths[(i + me) % 6], count;
        MPI_Request request;
        MPI_Status status;
        fill(out, len, (rank * THREADS + me) * TURNS + i);
        if (i % 3 == 0) {
            MPI_Sendrecv(out, len, MPI_BYTE, peer, me, in, 100000, MPI_BYTE, peer, me, comm,
                         &status);
        } else if (i % 3 == 1) {
            MPI_Isend(out, len, MPI_BYTE, peer, me, comm, &request);
            MPI_Recv(in, 100000, MPI_BYTE, MPI_ANY_SOURCE, me, comm, &status);
            MPI_Wait(&request, MPI_STATUS_IGNORE);
        } else {
            MPI_Irecv(in, 100000, MPI_BYTE, peer, me, comm, &request);
            MPI_Ssend(out, len, MPI_BYTE, peer, me, comm);
            MPI_Wait(&request, &status);
        }
        MPI_Get_count(&status, MPI_BYTE, &count);
        CHECK(count == len, "thread %d round %d: %d bytes, sent %d", me, i, count, len);
        CHECK_PATTERN(in, len, (peer * THREADS + me) * TURNS + i, "thread %d round %d", me, i);
        if (me % 2 && i % 10 == 0) {
            MPI_Allreduce(&i, &sum, 1, MPI_INT, MPI_SUM, comm);
            CHECK(sum == i * size, "sum %d", sum);
        }
    }
    free(out);
    free(in);
    return NULL;
}

int main(int argc, char **argv)
{
    int provided;
    pthread_t threads[THREADS];
    MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    CHECK(provided == MPI_THREAD_MULTIPLE, "thread level %d", provided);
    CHECK(size % 2 == 0, "an even number of ranks is needed");
    for (int i = 0; i < THREADS; i++)
        MPI_Comm_dup(MPI_COMM_WORLD, &comms[i]);
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, talk, (void *) (intptr_t) i) == 0, "no thread");
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    /* Each thread goes through the lengths ten times. */
    expect_sent(rank ^ 1, THREADS * 10, 100000);
    expect_sent(rank ^ 1, THREADS * 10, 40000);
    expect_sent(rank ^ 1, THREADS * 40, 0);
    for (int i = 0; i < THREADS; i++)
        MPI_Comm_free(&comms[i]);
    finish();
    return 0;
}
