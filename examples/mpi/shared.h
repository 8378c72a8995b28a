/* SPDX-License-Identifier: mpich2 */
/*
 * Memory that all ranks of a job load and store, in any virtual machine, with locks and conditions
 * that outlive a rank: MPI's own windows, and its error class for dead processes, nothing else. All
 * of it lies at rank 0, which has to live.
 */
#ifndef SHARED_H
#define SHARED_H

#include <mpi.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int rank, size;
static MPI_Win win;
static bool *is_dead;  /* by rank, as far as this one knows */
static long inherited; /* locks taken over from the dead */

/* Ends the job unless `err` is MPI_SUCCESS, or tells of a dead rank: returns whether it does. */
static inline bool has_died(int err, const char *call)
{
    int class = MPI_SUCCESS, len;
    char text[MPI_MAX_ERROR_STRING];
    if (err != MPI_SUCCESS)
        MPI_Error_class(err, &class);
    if (class == MPI_SUCCESS)
        return false;
    if (class == MPIX_ERR_PROC_FAILED || class == MPIX_ERR_PROC_FAILED_PENDING)
        return true;
    MPI_Error_string(err, text, &len);
    fprintf(stderr, "%s: %s\n", call, text);
    MPI_Abort(MPI_COMM_WORLD, 1);
    return false;
}

/* Looks who has died. From then on, receives from any rank work again. */
static inline void look_for_deaths(void)
{
    MPI_Group world, dead;
    int count;
    MPIX_Comm_failure_ack(MPI_COMM_WORLD);
    MPIX_Comm_failure_get_acked(MPI_COMM_WORLD, &dead);
    MPI_Comm_group(MPI_COMM_WORLD, &world);
    MPI_Group_size(dead, &count);
    for (int i = 0; i < count; i++) {
        int who;
        MPI_Group_translate_ranks(dead, 1, &i, world, &who);
        is_dead[who] = true;
    }
    MPI_Group_free(&world);
    if (dead != MPI_GROUP_EMPTY)
        MPI_Group_free(&dead);
}

/* Collective: starts MPI; all ranks have the memory, which is 0 at first. */
static inline void *shared_begin(int *argc, char ***argv, size_t bytes)
{
    void *memory;
    MPI_Aint got;
    int unit;

    MPI_Init(argc, argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    is_dead = calloc((size_t) size, sizeof(*is_dead));
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    has_died(MPI_Win_allocate_shared(rank == 0 ? (MPI_Aint) bytes : 0, 1, MPI_INFO_NULL,
                                     MPI_COMM_WORLD, &memory, &win),
             "MPI_Win_allocate_shared");
    MPI_Win_set_errhandler(win, MPI_ERRORS_RETURN);
    MPI_Win_shared_query(win, 0, &got, &unit, &memory);
    if (rank == 0)
        memset(memory, 0, bytes);
    MPI_Win_lock_all(0, win);
    MPI_Win_sync(win);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Win_sync(win);
    return memory;
}

/*
 * Collective among those that live: the sum of what each gives. Those that have died are not in the
 * communicator that it is made with.
 */
static inline long living_sum(long mine)
{
    MPI_Comm living = MPI_COMM_NULL;
    long sum = 0;
    while (has_died(MPIX_Comm_shrink(MPI_COMM_WORLD, &living), "MPIX_Comm_shrink") ||
           has_died(MPI_Allreduce(&mine, &sum, 1, MPI_LONG, MPI_SUM, living), "MPI_Allreduce"))
        look_for_deaths();
    MPI_Comm_free(&living);
    return sum;
}

/* Collective among those that live. The window goes with the job: to free it, the dead are missing.
 */
static inline void shared_end(void)
{
    MPI_Win_unlock_all(win);
    MPI_Finalize();
}

/*
 * A lock: 0, or 1 + the rank that has it, at that place of the memory. A waiter takes it over from
 * a rank that has died; then it returns true: what the lock protects may be half changed.
 */
static inline bool acquire(MPI_Aint lock)
{
    const int self = rank + 1, nobody = 0;
    int found, expected = nobody;
    for (unsigned tries = 1;; tries++) {
        MPI_Compare_and_swap(&self, &expected, &found, MPI_INT, 0, lock, win);
        MPI_Win_flush(0, win);
        if (found == expected)
            break;
        expected = nobody;
        if (tries % 64 == 0)
            look_for_deaths();
        if (found > 0 && found <= size && is_dead[found - 1])
            expected = found;
        else
            sched_yield();
    }
    MPI_Win_sync(win);
    inherited += expected != nobody;
    return expected != nobody;
}

static inline void release(MPI_Aint lock)
{
    const int nobody = 0;
    int found;
    MPI_Win_sync(win);
    MPI_Fetch_and_op(&nobody, &found, MPI_INT, 0, lock, MPI_REPLACE, win);
    MPI_Win_flush(0, win);
}

/*
 * A condition: which ranks wait for it, in the memory, protected by a lock. MPI's own messages wake
 * them, so a rank that waits sleeps as it does in any receive.
 */
#define RANKS_MAX 64
struct condition {
    unsigned char waits[RANKS_MAX];
};

/* With the lock held: releases it, waits, and acquires it again. Look again: it may be untrue. */
static inline bool wait_for(struct condition *condition, MPI_Aint lock)
{
    condition->waits[rank] = 1;
    release(lock);
    if (has_died(MPI_Recv(NULL, 0, MPI_BYTE, MPI_ANY_SOURCE, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE),
                 "MPI_Recv"))
        look_for_deaths();
    return acquire(lock);
}

/* With the lock held: wakes all that wait. */
static inline void notify(struct condition *condition)
{
    for (int i = 0; i < size; i++) {
        if (!condition->waits[i])
            continue;
        condition->waits[i] = 0;
        has_died(MPI_Send(NULL, 0, MPI_BYTE, i, 1, MPI_COMM_WORLD), "MPI_Send");
    }
}

/* A rank that is to show what its death does. */
static inline void die(void)
{
    raise(SIGKILL);
}

#endif
