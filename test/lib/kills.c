/* SPDX-License-Identifier: mpich2 */
/*
 * Processes use locks of libivshmem while some of them are killed at random, and others come in
 * their place. Nobody is ever where another one is, nobody waits for the dead, and whoever comes
 * after a holder that died is told.
 *
 *   kills REGION mutex|rwlock|cond|barrier KILLS [SEED]
 *
 * Prints what was done. Exit status 0 if all was right.
 */
#include <ivshmem.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORKERS 6
#define LIMIT_MS 120000 /* far longer than any correct run takes */
#define ITEMS 8

#define must(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #cond, ivshmem_error());        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* The block. */
struct stage {
    ivshmem_mutex mutex;
    ivshmem_cond filled, emptied;
    ivshmem_rwlock rwlock;
    ivshmem_barrier barrier;
    volatile uint64_t first, second; /* equal, unless a process died between the two */
    volatile uint64_t inside;        /* pid of who is inside for writing */
    volatile uint64_t written, read; /* of the items */
    volatile uint64_t item[ITEMS];
};

/* Not in the region: what the workers tell their parent. */
struct score {
    volatile uint64_t done[WORKERS], told[WORKERS], stop;
};

static struct score *score;
static ivshmem *handle;
static struct stage *stage;
static const char *region;
static int self;

static void begin(int worker)
{
    ivshmem_block *block;
    self = worker;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    must(ivshmem_open(region, 0, &handle) == 0);
    must(ivshmem_attach(handle, "stage", sizeof(struct stage), 0, LIMIT_MS, &block) == 0);
    stage = ivshmem_data(block);
}

/* Long enough to be killed in it, now and then. */
static void dwell(void)
{
    for (volatile int i = rand() % 2000; i > 0; i--)
        ;
    if (rand() % 64 == 0)
        usleep(500);
}

/* Inside for writing: `err` is what the lock said. Returns whether it is to be made consistent. */
static int enter(int err)
{
    must(err == 0 || err == -EOWNERDEAD);
    if (err == 0) {
        must(stage->inside == 0);
        must(stage->first == stage->second);
    } else {
        stage->second = stage->first;
        score->told[self]++;
    }
    stage->inside = (uint64_t) getpid();
    return err != 0;
}

static void change(void)
{
    uint64_t value = stage->first + 1;
    stage->first = value;
    dwell();
    must(stage->inside == (uint64_t) getpid());
    stage->second = value;
}

static void leave(void)
{
    must(stage->first == stage->second);
    must(stage->inside == (uint64_t) getpid());
    stage->inside = 0;
}

static void use_mutex(void)
{
    if (enter(ivshmem_mutex_lock(handle, &stage->mutex, LIMIT_MS)))
        must(ivshmem_mutex_consistent(handle, &stage->mutex) == 0);
    change();
    leave();
    must(ivshmem_mutex_unlock(handle, &stage->mutex) == 0);
}

static void use_rwlock(void)
{
    if (rand() % 4 == 0) {
        if (enter(ivshmem_rwlock_wrlock(handle, &stage->rwlock, LIMIT_MS)))
            must(ivshmem_rwlock_consistent(handle, &stage->rwlock) == 0);
        change();
        leave();
    } else {
        int err = ivshmem_rwlock_rdlock(handle, &stage->rwlock, LIMIT_MS);
        must(err == 0 || err == -EOWNERDEAD);
        uint64_t first = stage->first, inside = stage->inside;
        dwell();
        must(stage->first == first && stage->inside == inside);
        must(err || (inside == 0 && stage->second == first));
    }
    must(ivshmem_rwlock_unlock(handle, &stage->rwlock) == 0);
}

static void get_mutex(void)
{
    if (enter(ivshmem_mutex_lock(handle, &stage->mutex, LIMIT_MS)))
        must(ivshmem_mutex_consistent(handle, &stage->mutex) == 0);
}

/* Even workers write items, odd ones read them. */
static void use_cond(void)
{
    ivshmem_cond *mine = self % 2 ? &stage->filled : &stage->emptied;
    ivshmem_cond *others = self % 2 ? &stage->emptied : &stage->filled;
    get_mutex();
    while (self % 2 ? stage->written == stage->read : stage->written - stage->read == ITEMS) {
        leave();
        int err = ivshmem_cond_wait(handle, mine, &stage->mutex, score->stop ? 0 : 200);
        if (enter(err == -ETIMEDOUT ? 0 : err))
            must(ivshmem_mutex_consistent(handle, &stage->mutex) == 0);
        if (err == -ETIMEDOUT && score->stop)
            goto out;
    }
    if (self % 2) {
        must(stage->item[stage->read % ITEMS] == stage->read);
        stage->read = stage->read + 1;
    } else {
        stage->item[stage->written % ITEMS] = stage->written;
        dwell();
        stage->written = stage->written + 1;
    }
    must(ivshmem_cond_broadcast(handle, others) == 0);
out:
    leave();
    must(ivshmem_mutex_unlock(handle, &stage->mutex) == 0);
}

static void use_barrier(void)
{
    int err;
    do {
        err = ivshmem_barrier_wait(handle, &stage->barrier, WORKERS, score->stop ? 0 : 1000);
        must(err == 0 || err == -EOWNERDEAD || err == -ETIMEDOUT || err == -ENOSPC);
        if (err == -EOWNERDEAD) {
            score->told[self]++;
            usleep(2000); /* until somebody comes in its place */
        }
    } while (err && !score->stop);
}

static const struct mode {
    const char *name;
    void (*use)(void);
} modes[] = {
    {"mutex", use_mutex}, {"rwlock", use_rwlock}, {"cond", use_cond}, {"barrier", use_barrier}};

static void work(const struct mode *mode, int worker)
{
    begin(worker);
    srand((unsigned) getpid());
    while (!score->stop) {
        mode->use();
        score->done[worker]++;
    }
    ivshmem_close(handle);
    exit(0);
}

static pid_t start(const struct mode *mode, int worker)
{
    pid_t pid = fork();
    must(pid >= 0);
    if (pid == 0)
        work(mode, worker);
    return pid;
}

/* Nobody is stuck: whoever is not killed gets on. */
static void await_progress(const uint64_t *before)
{
    time_t end = time(NULL) + LIMIT_MS / 1000;
    for (int i = 0; i < WORKERS; i++)
        while (score->done[i] == before[i]) {
            int status;
            pid_t pid = waitpid(-1, &status, WNOHANG);
            if (pid > 0 || time(NULL) > end) {
                fprintf(stderr, "worker %d %s\n", i, pid > 0 ? "failed" : "is stuck");
                exit(1);
            }
            usleep(1000);
        }
}

int main(int argc, char **argv)
{
    const struct mode *mode = modes;
    ivshmem_block *block;
    pid_t pids[WORKERS];
    uint64_t before[WORKERS], told = 0, done = 0;
    int kills, status, failed = 0;
    must(argc >= 4);
    while (strcmp(mode->name, argv[2]) != 0)
        mode++;
    region = argv[1];
    kills = atoi(argv[3]);
    srand(argc > 4 ? (unsigned) atoi(argv[4]) : (unsigned) getpid());
    score = mmap(NULL, sizeof(*score), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(ivshmem_open(region, 0, &handle) == 0);
    must(ivshmem_create(handle, "stage", sizeof(struct stage), 0, &block) == 0);
    for (int i = 0; i < WORKERS; i++)
        pids[i] = start(mode, i);
    for (int k = 0; k < kills; k++) {
        int victim = rand() % WORKERS;
        usleep((useconds_t) (rand() % 4000));
        if (k % 16 == 0) {
            for (int i = 0; i < WORKERS; i++)
                before[i] = score->done[i];
            await_progress(before);
        }
        kill(pids[victim], SIGKILL);
        must(waitpid(pids[victim], &status, 0) == pids[victim]);
        must(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        pids[victim] = start(mode, victim);
    }
    for (int i = 0; i < WORKERS; i++)
        before[i] = score->done[i];
    await_progress(before);
    score->stop = 1;
    for (int i = 0; i < WORKERS; i++) {
        must(waitpid(pids[i], &status, 0) == pids[i]);
        failed |= status;
        told += score->told[i];
        done += score->done[i];
    }
    ivshmem_close(handle);
    printf("%s: %llu turns, %d kills, %llu times told\n", mode->name, (unsigned long long) done,
           kills, (unsigned long long) told);
    return failed ? 1 : 0;
}
