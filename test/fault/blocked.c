/* SPDX-License-Identifier: mpich2 */
/*
 * blocked CALL
 *
 * Rank 1 dies while the others are in that blocking call. The process manager does not tell them.
 * Each prints how long the call took, and its result. "list" lists the calls.
 */
#include "../mpi/mpitest.h"

#include <signal.h>

#define LARGE 4000000

static char *buf, *other;
static MPI_Status status;
static MPI_Win win;
static MPI_Comm comm;
static MPI_Request req[2];
static MPI_Message message;

/* What rank 1 sends before it dies. */
static void say_hello(void)
{
    for (int to = 0; to < size; to += 2)
        MPI_Isend(buf, LARGE, MPI_BYTE, to, 1, MPI_COMM_WORLD, &req[to / 2]);
}

/* A window must be created before a rank dies. */
static void prepare_win(void)
{
    MPI_Win_create(buf, LARGE, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    MPI_Win_set_errhandler(win, MPI_ERRORS_RETURN);
    MPI_Win_fence(0, win);
}

static void prepare_lock(void)
{
    MPI_Win_create(buf, LARGE, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    MPI_Win_set_errhandler(win, MPI_ERRORS_RETURN);
    MPI_Win_lock_all(0, win);
}

/* Rank 1 holds the locks of all. */
static void prepare_locked(void)
{
    MPI_Win_create(buf, LARGE, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    MPI_Win_set_errhandler(win, MPI_ERRORS_RETURN);
    if (rank == 1) {
        MPI_Win_lock_all(0, win);
        for (int to = 0; to < size; to++)
            MPI_Get(other, 8, MPI_BYTE, to, 0, 8, MPI_BYTE, win);
        MPI_Win_flush_all(win);
    }
}

static int call_recv(void)
{
    return MPI_Recv(buf, 8, MPI_BYTE, 1, 1, MPI_COMM_WORLD, &status);
}
/* The message is matched, and its sender is probably known to be dead, before it is received. */
static int call_mrecv_late(void)
{
    int found = 0, ignored, err = MPI_SUCCESS;
    while (!found && !err)
        err = MPI_Improbe(1, 1, MPI_COMM_WORLD, &found, &message, &status);
    if (err)
        return err;
    for (double end = MPI_Wtime() + 2.5; MPI_Wtime() < end;)
        MPI_Iprobe(1, 2, MPI_COMM_WORLD, &ignored, &status);
    return MPI_Mrecv(buf, LARGE, MPI_BYTE, &message, &status);
}
static int call_recv_any(void)
{
    return MPI_Recv(buf, 8, MPI_BYTE, MPI_ANY_SOURCE, 1, MPI_COMM_WORLD, &status);
}
static int call_send(void)
{
    return MPI_Send(buf, LARGE, MPI_BYTE, 1, 1, MPI_COMM_WORLD);
}
static int call_send_many(void)
{
    int err = MPI_SUCCESS;
    for (int i = 0; i < 100000 && err == MPI_SUCCESS; i++)
        err = MPI_Send(buf, 1000, MPI_BYTE, 1, 1, MPI_COMM_WORLD);
    return err;
}
static int call_ssend(void)
{
    return MPI_Ssend(buf, 8, MPI_BYTE, 1, 1, MPI_COMM_WORLD);
}
static int call_sendrecv(void)
{
    return MPI_Sendrecv(buf, LARGE, MPI_BYTE, 1, 1, other, LARGE, MPI_BYTE, 1, 1, MPI_COMM_WORLD,
                        &status);
}
static int call_waitall(void)
{
    MPI_Irecv(other, LARGE, MPI_BYTE, 1, 1, MPI_COMM_WORLD, &req[0]);
    MPI_Isend(buf, LARGE, MPI_BYTE, 1, 1, MPI_COMM_WORLD, &req[1]);
    return MPI_Waitall(2, req, MPI_STATUSES_IGNORE);
}
static int call_probe(void)
{
    return MPI_Probe(1, 1, MPI_COMM_WORLD, &status);
}
static int call_mprobe(void)
{
    return MPI_Mprobe(1, 1, MPI_COMM_WORLD, &message, &status);
}
static int call_barrier(void)
{
    return MPI_Barrier(MPI_COMM_WORLD);
}
static int call_bcast(void)
{
    return MPI_Bcast(buf, LARGE, MPI_BYTE, 1, MPI_COMM_WORLD);
}
static int call_allreduce(void)
{
    return MPI_Allreduce(buf, other, 1000, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
}
static int call_gather(void)
{
    return MPI_Allgather(buf, 1000, MPI_BYTE, other, 1000, MPI_BYTE, MPI_COMM_WORLD);
}
static int call_alltoall(void)
{
    return MPI_Alltoall(buf, LARGE / 4, MPI_BYTE, other, LARGE / 4, MPI_BYTE, MPI_COMM_WORLD);
}
static int call_ibarrier(void)
{
    MPI_Ibarrier(MPI_COMM_WORLD, &req[0]);
    return MPI_Wait(&req[0], &status);
}
static int call_comm_dup(void)
{
    return MPI_Comm_dup(MPI_COMM_WORLD, &comm);
}
static int call_comm_split(void)
{
    return MPI_Comm_split(MPI_COMM_WORLD, 0, 0, &comm);
}
static int call_win_create(void)
{
    return MPI_Win_create(buf, LARGE, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &win);
}
static int call_fence(void)
{
    MPI_Put(other, LARGE, MPI_BYTE, 1, 0, LARGE, MPI_BYTE, win);
    return MPI_Win_fence(0, win);
}
static int call_flush(void)
{
    MPI_Get(other, LARGE, MPI_BYTE, 1, 0, LARGE, MPI_BYTE, win);
    return MPI_Win_flush(1, win);
}
static int call_win_free(void)
{
    return MPI_Win_free(&win);
}
/* The receive has already reported the death. */
static int call_win_free_late(void)
{
    MPI_Recv(buf, 8, MPI_BYTE, 1, 1, MPI_COMM_WORLD, &status);
    return MPI_Win_free(&win);
}
static int call_finalize(void)
{
    return MPI_Finalize();
}

static const struct {
    const char *name;
    int (*call)(void);
    void (*prepare)(void);
    void (*last_words)(void);
} calls[] = {
    {"recv", call_recv, NULL, NULL},
    {"mrecv-late", call_mrecv_late, NULL, say_hello},
    {"recv-any", call_recv_any, NULL, NULL},
    {"send", call_send, NULL, NULL},
    {"send-many", call_send_many, NULL, NULL},
    {"ssend", call_ssend, NULL, NULL},
    {"sendrecv", call_sendrecv, NULL, NULL},
    {"waitall", call_waitall, NULL, NULL},
    {"probe", call_probe, NULL, NULL},
    {"mprobe", call_mprobe, NULL, NULL},
    {"barrier", call_barrier, NULL, NULL},
    {"bcast", call_bcast, NULL, NULL},
    {"allreduce", call_allreduce, NULL, NULL},
    {"allgather", call_gather, NULL, NULL},
    {"alltoall", call_alltoall, NULL, NULL},
    {"ibarrier", call_ibarrier, NULL, NULL},
    {"comm-dup", call_comm_dup, NULL, NULL},
    {"comm-split", call_comm_split, NULL, NULL},
    {"win-create", call_win_create, NULL, NULL},
    {"fence", call_fence, prepare_win, NULL},
    {"flush", call_flush, prepare_lock, NULL},
    {"win-free", call_win_free, prepare_locked, NULL},
    {"win-free-late", call_win_free_late, prepare_locked, NULL},
    {"finalize", call_finalize, NULL, NULL},
};
enum { CALLS = sizeof(calls) / sizeof(calls[0]) };

int main(int argc, char **argv)
{
    int at = 0;

    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        for (int i = 0; i < CALLS; i++)
            puts(calls[i].name);
        return 0;
    }
    start(&argc, &argv);
    CHECK(argc == 2 && size == 3, "which call, with three ranks?");
    while (at < CALLS && strcmp(argv[1], calls[at].name) != 0)
        at++;
    CHECK(at < CALLS, "no call %s", argv[1]);
    signal(SIGUSR1, SIG_IGN); /* the process manager's signal that a rank has died */
    buf = calloc(1, LARGE);
    other = calloc(1, LARGE);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    if (calls[at].prepare)
        calls[at].prepare();
    /* All have met, and this call is over for all before anybody dies. */
    MPI_Alltoall(buf, 8, MPI_BYTE, other, 8, MPI_BYTE, MPI_COMM_WORLD);
    if (rank == 1) {
        if (calls[at].last_words)
            calls[at].last_words();
        usleep(300000);
        raise(SIGKILL);
    }
    usleep(100000);
    double begin = MPI_Wtime();
    int err = calls[at].call(), class = MPI_SUCCESS;
    if (err)
        MPI_Error_class(err, &class);
    printf("rank %d: %s ended after %.1f s with class %d\n", rank, argv[1], MPI_Wtime() - begin,
           class);
    fflush(stdout);
    /* Stay for a while, so that the other rank learns of rank 1's death, not of this one's end. */
    usleep(1200000);
    _exit(0);
}
