/* SPDX-License-Identifier: mpich2 */
/*
 * survive CASE DIR
 *
 * A rank dies. The others know it, or will learn it, and continue. Each prints that it is done. It
 * would wait for ever, or find its memory overwritten, if an error had left something behind.
 * "list" lists the cases, with the number of ranks of each.
 */
#include "../mpi/mpitest.h"

#include <pthread.h>
#include <signal.h>

#define LARGE 400000

static const char *dir;
static char *in, *out;

static int class_of(int err)
{
    int class = MPI_SUCCESS;
    if (err)
        MPI_Error_class(err, &class);
    return class;
}

/*
 * The ranks meet by files, as no message may help them. Meanwhile they make progress, for what the
 * others ask.
 */
static void meet(const char *what, int ranks, const int *who)
{
    char path[1000];
    int flag, here = 0;

    snprintf(path, sizeof(path), "%s/%s.%d", dir, what, rank);
    write_line(path, "here");
    for (int i = 0; here < ranks && i < 12000; i++) {
        here = 0;
        for (int r = 0; r < ranks; r++) {
            snprintf(path, sizeof(path), "%s/%s.%d", dir, what, who[r]);
            here += access(path, F_OK) == 0;
        }
        MPI_Iprobe(MPI_ANY_SOURCE, 99, MPI_COMM_SELF, &flag, MPI_STATUS_IGNORE);
        usleep(10000);
    }
    CHECK(here == ranks, "not all are %s", what);
}

/* Records what this rank has done, for await(). */
static void mark(const char *what)
{
    char path[1000];

    snprintf(path, sizeof(path), "%s/%s.%d", dir, what, rank);
    write_line(path, "here");
}

/* Waits, without any MPI call, until rank r has recorded this. */
static void await(const char *what, int r)
{
    char path[1000], line[MPI_MAX_PORT_NAME];

    snprintf(path, sizeof(path), "%s/%s.%d", dir, what, r);
    read_line(path, line);
}

static void *receive_from_the_dead(void *arg)
{
    char byte;
    int err = MPI_Recv(&byte, 1, MPI_BYTE, 1, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);

    (void) arg;
    CHECK(class_of(err) == MPIX_ERR_PROC_FAILED, "class %d", class_of(err));
    return NULL; /* it makes no further MPI call */
}

/* A thread that sleeps while another one polls continues when that one's call fails. */
static void threads(void)
{
    pthread_t polls;
    char byte = 0;
    int err;

    if (rank == 2) {
        sleep(4);
        MPI_Send(&byte, 1, MPI_BYTE, 0, 2, MPI_COMM_WORLD);
        return;
    }
    pthread_create(&polls, NULL, receive_from_the_dead, NULL);
    usleep(200000);
    do { /* for all that MPI knows, it may be waiting for the dead rank too */
        err = MPI_Recv(&byte, 1, MPI_BYTE, 2, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        CHECK(!err || class_of(err) == MPIX_ERR_PROC_FAILED, "class %d", class_of(err));
    } while (err);
    pthread_join(polls, NULL);
}

static void (*at_init)(int); /* MPICH's handler of SIGUSR1 */
static MPI_Comm living;
static MPI_Win win;

static void prepare_window(void)
{
    MPI_Comm_split(MPI_COMM_WORLD, rank == 1 ? 1 : 0, rank, &living);
    if (rank == 1)
        return;
    MPI_Comm_set_errhandler(living, MPI_ERRORS_RETURN);
    MPI_Win_create(in, LARGE, 1, MPI_INFO_NULL, living, &win);
    MPI_Win_set_errhandler(win, MPI_ERRORS_RETURN);
    MPI_Win_fence(0, win);
}

/* The dead rank is not in the window. Yet a fence ends because of it, if a member is late. */
static void fence(void)
{
    int err, last;

    if (rank == 2) {
        sleep(6);
        await("fence", 0);
    }
    MPI_Put(out, 1000, MPI_BYTE, rank == 0, 0, 1000, MPI_BYTE, win);
    err = MPI_Win_fence(0, win);
    CHECK(rank == 2 || err, "a fence without a rank");
    mark("fence");
    last = MPI_Win_fence(0, win);
    CHECK(last, "a fence after one that has failed");
    MPI_Win_free(&win);
}

static void prepare_exposure(void)
{
    MPI_Win_create(in, LARGE, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &win);
    MPI_Win_set_errhandler(win, MPI_ERRORS_RETURN);
}

/*
 * A rank that was told that an exposure epoch begins, before the epoch failed, may end its access.
 */
static void exposure(void)
{
    MPI_Group all, others;
    char byte = 0;
    int err;

    err = MPI_Recv(&byte, 1, MPI_BYTE, 1, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    CHECK(class_of(err) == MPIX_ERR_PROC_FAILED, "class %d", class_of(err));
    MPI_Comm_group(MPI_COMM_WORLD, &all);
    if (rank == 0) {
        MPI_Group_incl(all, 2, (int[]){2, 1}, &others);
        err = MPI_Win_post(others, 0, win);
        CHECK(err, "an epoch with the dead has begun");
        err = MPI_Win_post(others, 0, win);
        CHECK(class_of(err) != MPI_ERR_RMA_SYNC, "an epoch that has not begun is open");
        CHECK(err, "an epoch with the dead has begun");
        err = MPI_Recv(&byte, 1, MPI_BYTE, 2, 3, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        CHECK(!err, "class %d, from who has ended its access", class_of(err));
    } else {
        MPI_Group_incl(all, 1, (int[]){0}, &others);
        err = MPI_Win_start(others, 0, win);
        CHECK(!err, "class %d", class_of(err));
        MPI_Put(out, 8, MPI_BYTE, 0, 0, 8, MPI_BYTE, win);
        err = MPI_Win_complete(win);
        CHECK(!err, "class %d", class_of(err));
        err = MPI_Send(&byte, 1, MPI_BYTE, 0, 3, MPI_COMM_WORLD);
        CHECK(!err, "class %d", class_of(err));
    }
    err = MPI_Win_free(&win);
    CHECK(class_of(err) != MPI_ERR_RMA_SYNC, "an epoch that has not begun is open");
}

/*
 * The dead rank holds the lock of rank 0's part, alone or with rank 0, of a window of each kind.
 * Who waits for that lock gets it. Who asks the dead rank for its own lock gets an error.
 */
enum { KINDS = 2 };
static MPI_Win locked[2 * KINDS];
static void prepare_locked(void)
{
    char *part;

    for (int i = 0; i < 2 * KINDS; i++) {
        if (i % KINDS == 0)
            MPI_Win_create(in, LARGE, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &locked[i]);
        else
            MPI_Win_allocate(LARGE, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &part, &locked[i]);
        MPI_Win_set_errhandler(locked[i], MPI_ERRORS_RETURN);
        if (rank != 1)
            continue;
        MPI_Win_lock(i < KINDS ? MPI_LOCK_EXCLUSIVE : MPI_LOCK_SHARED, 0, 0, locked[i]);
        MPI_Put(out, 1000, MPI_BYTE, 0, 0, 1000, MPI_BYTE, locked[i]);
        MPI_Win_flush(0, locked[i]);
    }
}

static int put_under_lock(int target, MPI_Win w)
{
    int err = MPI_Win_lock(MPI_LOCK_EXCLUSIVE, target, 0, w);
    if (!err)
        err = MPI_Put(out, 1000, MPI_BYTE, target, 0, 1000, MPI_BYTE, w);
    return err ? err : MPI_Win_unlock(target, w);
}

static void lock_of_the_dead(void)
{
    for (int i = 0; i < 2 * KINDS; i++) {
        int err = put_under_lock(0, locked[i]);
        CHECK(!err, "window %d: class %d, from who is alive", i, class_of(err));
    }
    meet("locked", 2, (int[]){0, 2});
    for (int i = 0; i < KINDS; i++)
        CHECK(put_under_lock(1, locked[i]), "window %d: a lock from the dead", i);
}

/*
 * The dead rank lives when these calls begin to wait for it: for a lock, for what it has to apply
 * or to answer, and for the beginning and the end of its access.
 */

static void prepare_shared(void)
{
    char *part;

    MPI_Win_allocate(LARGE, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &part, &win);
    MPI_Win_set_errhandler(win, MPI_ERRORS_RETURN);
}

/* From here on, the victim answers nothing. */
static void leave(void)
{
    mark("leaving");
}

static void expect_loss(const char *call, int begun, int err)
{
    err = begun ? begun : err;
    CHECK(class_of(err) == MPIX_ERR_PROC_FAILED, "%s: class %d", call, class_of(err));
}

static int put_to_victim(void)
{
    return MPI_Put(out, 1000, MPI_BYTE, 1, 0, 1000, MPI_BYTE, win);
}

static int get_from_victim(void)
{
    return MPI_Get(in, LARGE, MPI_BYTE, 1, 0, LARGE, MPI_BYTE, win);
}

static int lock_victim(int type)
{
    await("leaving", 1);
    return MPI_Win_lock(type, 1, 0, win);
}

static int lock_all(void)
{
    await("leaving", 1);
    return MPI_Win_lock_all(0, win);
}

static void wait_lock(void)
{
    expect_loss("MPI_Win_lock", MPI_SUCCESS, lock_victim(MPI_LOCK_EXCLUSIVE));
}

static void wait_unlock(void)
{
    lock_victim(MPI_LOCK_EXCLUSIVE);
    int begun = put_to_victim();
    expect_loss("MPI_Win_unlock", begun, MPI_Win_unlock(1, win));
}

static void wait_flush(void)
{
    lock_victim(MPI_LOCK_SHARED);
    int begun = put_to_victim();
    expect_loss("MPI_Win_flush", begun, MPI_Win_flush(1, win));
}

static void wait_flush_local(void)
{
    lock_victim(MPI_LOCK_SHARED);
    int begun = get_from_victim();
    expect_loss("MPI_Win_flush_local", begun, MPI_Win_flush_local(1, win));
}

static void wait_flush_local_all(void)
{
    lock_all();
    int begun = get_from_victim();
    expect_loss("MPI_Win_flush_local_all", begun, MPI_Win_flush_local_all(win));
}

static void wait_flush_all(void)
{
    lock_all();
    int begun = put_to_victim();
    expect_loss("MPI_Win_flush_all", begun, MPI_Win_flush_all(win));
}

static void wait_lock_all(void)
{
    expect_loss("MPI_Win_lock_all", MPI_SUCCESS, lock_all());
}

static void wait_unlock_all(void)
{
    lock_all();
    int begun = put_to_victim();
    expect_loss("MPI_Win_unlock_all", begun, MPI_Win_unlock_all(win));
}

static MPI_Group victim_alone(void)
{
    MPI_Group all, alone;

    MPI_Comm_group(MPI_COMM_WORLD, &all);
    MPI_Group_incl(all, 1, (int[]){1}, &alone);
    return alone;
}

static void wait_complete(void)
{
    await("leaving", 1);
    int begun = MPI_Win_start(victim_alone(), 0, win);
    if (!begun)
        begun = put_to_victim();
    CHECK(begun || MPI_Win_complete(win), "an access to the dead has ended");
}

static void wait_wait(void)
{
    await("leaving", 1);
    int begun = MPI_Win_post(victim_alone(), 0, win);
    expect_loss("MPI_Win_wait", begun, MPI_Win_wait(win));
}

/*
 * Rank 0 is of the same node. It does not receive, and dies when the call already has the error of
 * another death, and waits for its message only.
 */
static void neighbour(void)
{
    int err;

    if (rank == 0) {
        printf("rank 0: done\n");
        fflush(stdout);
        mark("done");
        sleep(4);
        _exit(1);
    }
    signal(SIGUSR1, at_init);
    err = MPI_Send(out, LARGE, MPI_BYTE, 0, 1, MPI_COMM_WORLD);
    CHECK(err, "a message to the dead has been sent");
}

/*
 * All ranks ask the process manager who is dead, and go on, also those of the dead rank's node.
 * They end while others may still ask.
 */
static void node(void)
{
    char byte;
    int err;

    signal(SIGUSR1, at_init);
    err = MPI_Recv(&byte, 1, MPI_BYTE, 1, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    CHECK(err, "a message from the dead");
    printf("rank %d: goes on\n", rank);
    fflush(stdout);
    usleep(rank == 0 ? 2000000 : 500000);
    _exit(rank);
}

/*
 * A detached buffer belongs to the program: nothing is sent from it, and it is not freed a second
 * time.
 */
static void detach(void)
{
    int size_of = 2 * LARGE + 3 * MPI_BSEND_OVERHEAD;
    char *buf = malloc(size_of), *got;
    int err, bytes;

    if (rank == 2) {
        sleep(4);
        MPI_Recv(in, LARGE, MPI_BYTE, 0, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        CHECK_PATTERN(in, LARGE, 1, "of the buffer");
        do {
            err = MPI_Recv(in, LARGE, MPI_BYTE, 0, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
            CHECK(!err || class_of(err) == MPIX_ERR_PROC_FAILED, "class %d", class_of(err));
        } while (err);
        CHECK_PATTERN(in, LARGE, 2, "of the second buffer");
        return;
    }
    fill(out, LARGE, 1);
    MPI_Buffer_attach(buf, size_of);
    MPI_Bsend(out, LARGE, MPI_BYTE, 1, 1, MPI_COMM_WORLD);
    MPI_Bsend(out, LARGE, MPI_BYTE, 2, 1, MPI_COMM_WORLD);
    err = MPI_Buffer_detach(&got, &bytes);
    CHECK(class_of(err) == MPIX_ERR_PROC_FAILED, "class %d", class_of(err));
    memset(buf, 0, size_of);
    err = MPI_Buffer_detach(&got, &bytes);
    CHECK(!err && bytes == 0, "class %d, %d bytes are attached", class_of(err), bytes);
    MPI_Buffer_attach(buf, size_of);
    fill(out, LARGE, 2);
    MPI_Bsend(out, LARGE, MPI_BYTE, 2, 2, MPI_COMM_WORLD);
    err = MPI_Buffer_detach(&got, &bytes);
    CHECK(!err && got == buf && bytes == size_of, "class %d, %d bytes were attached", class_of(err),
          bytes);
}

/*
 * If all that a call waits for has ended well, the call does not return the error; the next one
 * does.
 */
static void told_later(void)
{
    char byte = 0;

    if (rank == 2) {
        sleep(4);
        MPI_Recv(&byte, 1, MPI_BYTE, 0, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        return;
    }
    int err = MPI_Ssend(&byte, 1, MPI_BYTE, 2, 1, MPI_COMM_WORLD);
    CHECK(!err, "class %d, but the message was received", class_of(err));
    err = MPI_Recv(&byte, 1, MPI_BYTE, MPI_ANY_SOURCE, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    CHECK(class_of(err) == MPIX_ERR_PROC_FAILED, "class %d", class_of(err));
}

/*
 * A receive or probe of any source does not wait for a message that a dead rank may owe, until the
 * death is acknowledged. A message that has come is found. The process manager reports nothing.
 */
static void probes(void)
{
    const int other = 2 - rank;
    int found, err;
    char byte = 0;
    MPI_Message message;

    err = MPI_Recv(&byte, 1, MPI_BYTE, MPI_ANY_SOURCE, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    CHECK(class_of(err) == MPIX_ERR_PROC_FAILED, "MPI_Recv: class %d", class_of(err));
    err = MPI_Probe(MPI_ANY_SOURCE, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    CHECK(class_of(err) == MPIX_ERR_PROC_FAILED, "MPI_Probe: class %d", class_of(err));
    err = MPI_Mprobe(MPI_ANY_SOURCE, 2, MPI_COMM_WORLD, &message, MPI_STATUS_IGNORE);
    CHECK(class_of(err) == MPIX_ERR_PROC_FAILED, "MPI_Mprobe: class %d", class_of(err));
    err = MPI_Iprobe(MPI_ANY_SOURCE, 2, MPI_COMM_WORLD, &found, MPI_STATUS_IGNORE);
    CHECK(class_of(err) == MPIX_ERR_PROC_FAILED, "MPI_Iprobe: class %d", class_of(err));
    err = MPI_Improbe(MPI_ANY_SOURCE, 2, MPI_COMM_WORLD, &found, &message, MPI_STATUS_IGNORE);
    CHECK(class_of(err) == MPIX_ERR_PROC_FAILED, "MPI_Improbe: class %d", class_of(err));

    err = MPI_Send(&byte, 1, MPI_BYTE, other, 3, MPI_COMM_WORLD);
    CHECK(!err, "class %d", class_of(err));
    while ((err = MPI_Probe(MPI_ANY_SOURCE, 3, MPI_COMM_WORLD, MPI_STATUS_IGNORE)) != MPI_SUCCESS)
        CHECK(class_of(err) == MPIX_ERR_PROC_FAILED, "MPI_Probe: class %d", class_of(err));
    err = MPI_Recv(&byte, 1, MPI_BYTE, other, 3, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    CHECK(!err, "class %d", class_of(err));

    MPI_Group dead;
    MPIX_Comm_failure_ack(MPI_COMM_WORLD);
    MPIX_Comm_failure_get_acked(MPI_COMM_WORLD, &dead);
    MPI_Group_size(dead, &found);
    CHECK(found == 1, "%d deaths are acknowledged", found);
    MPI_Group_free(&dead);
    if (rank == 2) {
        sleep(1);
        MPI_Send(&byte, 1, MPI_BYTE, other, 4, MPI_COMM_WORLD);
        return;
    }
    err = MPI_Mprobe(MPI_ANY_SOURCE, 4, MPI_COMM_WORLD, &message, MPI_STATUS_IGNORE);
    CHECK(!err, "class %d", class_of(err));
    MPI_Mrecv(&byte, 1, MPI_BYTE, &message, MPI_STATUS_IGNORE);
}

static int ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), wanted = strlen(end);
    return length >= wanted && strcmp(text + length - wanted, end) == 0;
}

/*
 * The text of an error fits into MPI_MAX_ERROR_STRING, however deep its stack. It begins with the
 * call and ends with the innermost reason.
 */
static void check_text(const char *call, int err)
{
    static const char *const reasons[] = {"its process is dead", "Communication error with rank 1",
                                          "Failure during collective"};
    int reason_told = 0;
    struct {
        char text[MPI_MAX_ERROR_STRING], behind[64];
    } said;
    int len = -1;

    CHECK(err, "%s without a rank", call);
    memset(&said, 'z', sizeof(said));
    MPI_Error_string(err, said.text, &len);
    CHECK(len >= 0 && len < MPI_MAX_ERROR_STRING && (int) strlen(said.text) == len,
          "%s: %d characters", call, len);
    for (size_t i = 0; i < sizeof(said.behind); i++)
        CHECK(said.behind[i] == 'z', "%s: byte %zu behind the text is changed", call, i);
    CHECK(strstr(said.text, call), "the text of %s does not tell the call: %s", call, said.text);
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        reason_told |= ends_with(said.text, reasons[i]);
    CHECK(reason_told, "the text of %s does not end with a reason: %s", call, said.text);
}

static void texts(void)
{
    int source = rank, degree = 1, destination = (rank + 1) % size;
    MPI_Comm comm;
    MPI_Win made;
    void *base;

    check_text("MPI_Allreduce",
               MPI_Allreduce(out, in, LARGE / 4, MPI_INT, MPI_SUM, MPI_COMM_WORLD));
    check_text("MPI_Comm_split", MPI_Comm_split(MPI_COMM_WORLD, 0, rank, &comm));
    check_text("MPI_Win_create", MPI_Win_create(in, 100, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &made));
    check_text("MPI_Win_allocate",
               MPI_Win_allocate(100, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &base, &made));
    check_text("MPI_Dist_graph_create",
               MPI_Dist_graph_create(MPI_COMM_WORLD, 1, &source, &degree, &destination,
                                     MPI_UNWEIGHTED, MPI_INFO_NULL, 0, &comm));
}

/*
 * Rank 1 is late. Rank 0 learns of the death in its first round. In a later round it waits for rank
 * 2, which waits for rank 1, fails, and never sends what rank 0 waits for.
 */
static void barrier(void)
{
    if (rank == 1)
        sleep(8);
    int err = MPI_Barrier(MPI_COMM_WORLD);
    CHECK(err, "a barrier without a rank");
}
static void alltoall(void)
{
    if (rank == 1)
        sleep(8);
    int err = MPI_Alltoall(out, LARGE / 4, MPI_BYTE, in, LARGE / 4, MPI_BYTE, MPI_COMM_WORLD);
    CHECK(err, "all of a rank that is dead");
}
static void allgather(void)
{
    if (rank == 1)
        sleep(8);
    int err = MPI_Allgather(out, LARGE / 4, MPI_BYTE, in, LARGE / 4, MPI_BYTE, MPI_COMM_WORLD);
    CHECK(err, "all of a rank that is dead");
}

/*
 * The schedule of a failed collective writes nothing any more, even if a rank that has left it
 * never comes.
 */
static void leave_schedule(int comes_late)
{
    MPI_Request req;
    int err;
    char byte;

    if (rank == 2) {
        if (comes_late) {
            sleep(5);
            MPI_Allgather(out, LARGE / 4, MPI_BYTE, in, LARGE / 4, MPI_BYTE, MPI_COMM_WORLD);
        }
        meet("late", 2, (int[]){0, 2});
        return;
    }
    /* The next request finds, at the same address, what this request has left of its message. */
    MPI_Irecv(&byte, 1, MPI_BYTE, 1, 1, MPI_COMM_WORLD, &req);
    MPI_Wait(&req, MPI_STATUS_IGNORE);
    err = MPI_Allgather(out, LARGE / 4, MPI_BYTE, in, LARGE / 4, MPI_BYTE, MPI_COMM_WORLD);
    CHECK(err, "all of a rank that is dead");
    fill(in, LARGE, 5);
    meet("late", 2, (int[]){0, 2});
    CHECK_PATTERN(in, LARGE, 5, "written by a collective that had ended");
}
static void schedule(void)
{
    leave_schedule(1);
}
static void schedule_alone(void)
{
    leave_schedule(0);
}
static void last_word(void)
{
    char byte = 0;
    if (rank == 1)
        MPI_Send(&byte, 1, MPI_BYTE, 0, 1, MPI_COMM_WORLD);
}

static const struct {
    const char *name;
    int ranks, victim;
    void (*survivors_call)(void), (*prepare)(void), (*last_word)(void);
} cases[] = {
    {"threads", 3, 1, threads, NULL, NULL},
    {"fence", 3, 1, fence, prepare_window, NULL},
    {"exposure", 3, 1, exposure, prepare_exposure, NULL},
    {"lock", 3, 1, lock_of_the_dead, prepare_locked, NULL},
    {"wait-lock", 3, 1, wait_lock, prepare_shared, leave},
    {"wait-unlock", 3, 1, wait_unlock, prepare_exposure, leave},
    {"wait-flush", 3, 1, wait_flush, prepare_exposure, leave},
    {"wait-flush-local", 3, 1, wait_flush_local, prepare_exposure, leave},
    {"wait-flush-local-all", 3, 1, wait_flush_local_all, prepare_exposure, leave},
    {"wait-flush-all", 3, 1, wait_flush_all, prepare_exposure, leave},
    {"wait-lock-all", 3, 1, wait_lock_all, prepare_shared, leave},
    {"wait-unlock-all", 3, 1, wait_unlock_all, prepare_exposure, leave},
    {"wait-complete", 3, 1, wait_complete, prepare_exposure, leave},
    {"wait-wait", 3, 1, wait_wait, prepare_exposure, leave},
    {"neighbour", 3, 2, neighbour, NULL, NULL},
    {"node", 7, 1, node, NULL, NULL},
    {"detach", 3, 1, detach, NULL, NULL},
    {"told-later", 3, 1, told_later, NULL, NULL},
    {"probes", 3, 1, probes, NULL, NULL},
    {"texts", 4, 1, texts, NULL, NULL},
    {"barrier", 4, 3, barrier, NULL, NULL},
    {"alltoall", 4, 3, alltoall, NULL, NULL},
    {"allgather", 4, 3, allgather, NULL, NULL},
    {"schedule", 3, 1, schedule, NULL, last_word},
    {"schedule-alone", 3, 1, schedule_alone, NULL, last_word},
};
enum { CASES = sizeof(cases) / sizeof(cases[0]) };

int main(int argc, char **argv)
{
    int at = 0, level, others[3], n = 0;

    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        for (int i = 0; i < CASES; i++)
            printf("%s %d\n", cases[i].name, cases[i].ranks);
        return 0;
    }
    CHECK(argc == 3, "CASE and DIR are expected");
    while (at < CASES && strcmp(argv[1], cases[at].name) != 0)
        at++;
    CHECK(at < CASES, "no case %s", argv[1]);
    MPI_Init_thread(&argc, &argv,
                    cases[at].survivors_call == threads ? MPI_THREAD_MULTIPLE : MPI_THREAD_SINGLE,
                    &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    CHECK(size == cases[at].ranks, "%d ranks are expected", cases[at].ranks);
    at_init = signal(SIGUSR1, SIG_IGN); /* the process manager's signal that a rank has died */
    dir = argv[2];
    in = calloc(1, LARGE);
    out = calloc(1, LARGE);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
    if (cases[at].prepare)
        cases[at].prepare();
    /* All have met, and will find out about the dead rank. */
    MPI_Alltoall(out, 8, MPI_BYTE, in, 8, MPI_BYTE, MPI_COMM_WORLD);
    if (rank == cases[at].victim) {
        if (cases[at].last_word)
            cases[at].last_word();
        usleep(500000);
        raise(SIGKILL);
    }
    cases[at].survivors_call();
    for (int r = 0; r < size; r++)
        if (r != cases[at].victim)
            others[n++] = r;
    printf("rank %d: done\n", rank);
    fflush(stdout);
    meet("done", n, others);
    _exit(0);
}
