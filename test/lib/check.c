/* SPDX-License-Identifier: mpich2 */
/*
 * What libivshmem promises, call by call, in two handles of one process and a child.
 *
 *   check REGION
 */
#include <ivshmem.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 120000 /* far longer than any correct run takes */

#define must(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #cond, ivshmem_error());        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* The call fails like that, and says so. */
#define fails(call, err, text)                                                                     \
    do {                                                                                           \
        must((call) == -(err));                                                                    \
        must(strstr(ivshmem_error(), text));                                                       \
    } while (0)

struct stage {
    ivshmem_mutex mutex;
    ivshmem_cond cond;
    ivshmem_rwlock rwlock;
    ivshmem_barrier barrier;
    char text[64];
};

static const char *region;
static ivshmem *a, *b;
static ivshmem_block *ours, *theirs;
static struct stage *stage, *other;

static void test_blocks(void)
{
    ivshmem_block *block;
    char name[80];
    uint64_t offset = 0;
    fails(ivshmem_attach(b, "stage", 0, 0, 0, &block), ENOENT, "has no block stage");
    fails(ivshmem_attach(b, "stage", 0, 0, 50, &block), ENOENT, "has no block stage");
    must(ivshmem_create(a, "stage", sizeof(*stage), 0, &ours) == 0);
    fails(ivshmem_create(b, "stage", 1, 0, &block), EEXIST, "has a block stage already");
    fails(ivshmem_create(b, "stage", 1, IVSHMEM_OR_ATTACH, &block), EMSGSIZE, "expected 1");
    fails(ivshmem_attach(b, "stage", 1, 0, 0, &block), EMSGSIZE, "expected 1");
    must(ivshmem_create(b, "stage", sizeof(*stage), IVSHMEM_OR_ATTACH, &theirs) == 0);
    stage = ivshmem_data(ours);
    other = ivshmem_data(theirs);
    must(ivshmem_size(theirs) == sizeof(*stage));
    strcpy(stage->text, "hello");
    must(strcmp(other->text, "hello") == 0);

    memset(name, 'n', sizeof(name));
    name[IVSHMEM_NAME_MAX + 1] = 0;
    fails(ivshmem_create(a, name, 1, 0, &block), ENAMETOOLONG, "at most 63");
    fails(ivshmem_attach(a, "a/b", 1, 0, 0, &block), EINVAL, "slash");
    fails(ivshmem_create(a, "x", 0, 0, &block), EINVAL, "0 bytes");
    fails(ivshmem_create(a, "x", (size_t) 1 << 40, 0, &block), ENOSPC, "no room for block x");
    fails(ivshmem_create(a, "x", 1, 2, &block), EINVAL, "flags");
    fails(ivshmem_attach(a, "x", 1, 2, 0, &block), EINVAL, "flags");
    fails(ivshmem_attach(a, "x", 1, 0, -1, &block), EINVAL, "timeout");
    fails(ivshmem_remove(a, "x"), ENOENT, "has no block x");

    must(ivshmem_pointer(ours, 0, sizeof(*stage)) == (void *) stage);
    must(ivshmem_pointer(ours, sizeof(*stage), 0) == (char *) stage + sizeof(*stage));
    must(!ivshmem_pointer(ours, 1, sizeof(*stage)));
    must(!ivshmem_pointer(ours, UINT64_MAX, 2));
    must(!ivshmem_pointer(ours, 2, SIZE_MAX));
    must(ivshmem_offset(ours, stage->text, 64, &offset) == 0);
    must(offset == offsetof(struct stage, text));
    fails(ivshmem_offset(ours, stage->text, 65, &offset), EINVAL, "not in a block");
    fails(ivshmem_offset(ours, (char *) stage - 1, 1, &offset), EINVAL, "not in a block");
    fails(ivshmem_offset(ours, &offset, 1, &offset), EINVAL, "not in a block");
}

/* A store is refused by the processor. */
static void test_read_only(void)
{
    ivshmem_block *block;
    must(ivshmem_attach(b, "stage", 0, IVSHMEM_READ_ONLY, 0, &block) == 0);
    struct stage *seen = ivshmem_data(block);
    must(seen != other && strcmp(seen->text, "hello") == 0);
    stage->text[0] = 'H';
    must(seen->text[0] == 'H');
    fails(ivshmem_mutex_lock(b, &seen->mutex, 0), EACCES, "for reading only");
    pid_t pid = fork();
    if (pid == 0) {
        seen->text[0] = 'x';
        _exit(0);
    }
    int status;
    must(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    must(seen->text[0] == 'H');
    ivshmem_detach(block);
}

static void test_mutex(void)
{
    ivshmem_mutex outside;
    fails(ivshmem_mutex_unlock(a, &stage->mutex), EPERM, "does not have the mutex");
    must(ivshmem_mutex_lock(a, &stage->mutex, 0) == 0);
    fails(ivshmem_mutex_lock(a, &stage->mutex, 0), EDEADLK, "has the mutex already");
    fails(ivshmem_mutex_lock(b, &other->mutex, 0), ETIMEDOUT, "not free in time");
    fails(ivshmem_mutex_lock(b, &other->mutex, 60), ETIMEDOUT, "not free in time");
    fails(ivshmem_mutex_unlock(b, &other->mutex), EPERM, "does not have");
    fails(ivshmem_mutex_consistent(b, &other->mutex), EPERM, "does not have");
    must(ivshmem_mutex_unlock(a, &stage->mutex) == 0);
    must(ivshmem_mutex_lock(b, &other->mutex, 0) == 0);
    must(ivshmem_mutex_unlock(b, &other->mutex) == 0);
    fails(ivshmem_mutex_lock(a, &outside, 0), EINVAL, "not at a multiple");
    fails(ivshmem_mutex_lock(a, (ivshmem_mutex *) (void *) ((char *) stage + 8), 0), EINVAL,
          "not at a multiple");
}

static void test_rwlock(void)
{
    must(ivshmem_rwlock_rdlock(a, &stage->rwlock, 0) == 0);
    must(ivshmem_rwlock_rdlock(b, &other->rwlock, 0) == 0);
    fails(ivshmem_rwlock_rdlock(b, &other->rwlock, 0), EDEADLK, "already");
    fails(ivshmem_rwlock_wrlock(b, &other->rwlock, 0), EDEADLK, "already");
    must(ivshmem_rwlock_unlock(b, &other->rwlock) == 0);
    fails(ivshmem_rwlock_unlock(b, &other->rwlock), EPERM, "does not have");
    fails(ivshmem_rwlock_wrlock(b, &other->rwlock, 20), ETIMEDOUT, "it has readers");
    must(ivshmem_rwlock_unlock(a, &stage->rwlock) == 0);
    must(ivshmem_rwlock_wrlock(b, &other->rwlock, 0) == 0);
    fails(ivshmem_rwlock_rdlock(a, &stage->rwlock, 20), ETIMEDOUT, "not free in time");
    fails(ivshmem_rwlock_rdlock(b, &other->rwlock, 0), EDEADLK, "already");
    must(ivshmem_rwlock_unlock(b, &other->rwlock) == 0);
}

static void test_cond(void)
{
    fails(ivshmem_cond_wait(a, &stage->cond, &stage->mutex, 0), EPERM, "does not have the mutex");
    must(ivshmem_mutex_lock(a, &stage->mutex, 0) == 0);
    fails(ivshmem_cond_wait(a, &stage->cond, &stage->mutex, 20), ETIMEDOUT, "nobody has notified");
    must(ivshmem_mutex_unlock(a, &stage->mutex) == 0); /* it has it again */
    must(ivshmem_cond_broadcast(b, &other->cond) == 0);
}

/* A process of its own, with a handle of its own. */
static pid_t start(void (*body)(ivshmem *handle, struct stage *stage))
{
    pid_t pid = fork();
    must(pid >= 0);
    if (pid == 0) {
        ivshmem *handle;
        ivshmem_block *block;
        must(ivshmem_open(region, 0, &handle) == 0);
        must(ivshmem_attach(handle, "stage", sizeof(struct stage), 0, 0, &block) == 0);
        body(handle, ivshmem_data(block));
        _exit(0); /* without a word: as if it had been killed */
    }
    return pid;
}

static void end(pid_t pid)
{
    int status;
    must(waitpid(pid, &status, 0) == pid && status == 0);
}

static void take_mutex(ivshmem *handle, struct stage *s)
{
    must(ivshmem_mutex_lock(handle, &s->mutex, PATIENCE_MS) == 0);
}

static void take_to_read(ivshmem *handle, struct stage *s)
{
    must(ivshmem_rwlock_rdlock(handle, &s->rwlock, PATIENCE_MS) == 0);
}

static void take_to_write(ivshmem *handle, struct stage *s)
{
    must(ivshmem_rwlock_wrlock(handle, &s->rwlock, PATIENCE_MS) == 0);
}

static void pass_barrier(ivshmem *handle, struct stage *s)
{
    must(ivshmem_barrier_wait(handle, &s->barrier, 2, PATIENCE_MS) == 0);
}

static void notify(ivshmem *handle, struct stage *s)
{
    take_mutex(handle, s);
    strcpy(s->text, "done");
    must(ivshmem_mutex_unlock(handle, &s->mutex) == 0);
    must(ivshmem_cond_broadcast(handle, &s->cond) == 0);
}

static void test_dead_holders(void)
{
    end(start(take_mutex));
    fails(ivshmem_mutex_lock(a, &stage->mutex, PATIENCE_MS), EOWNERDEAD, "died");
    must(ivshmem_mutex_unlock(a, &stage->mutex) == 0);
    fails(ivshmem_mutex_lock(b, &other->mutex, 0), EOWNERDEAD, "ivshmem_mutex_consistent");
    must(ivshmem_mutex_consistent(b, &other->mutex) == 0);
    must(ivshmem_mutex_unlock(b, &other->mutex) == 0);
    must(ivshmem_mutex_lock(a, &stage->mutex, 0) == 0);
    must(ivshmem_mutex_unlock(a, &stage->mutex) == 0);

    end(start(take_to_read));
    must(ivshmem_rwlock_wrlock(a, &stage->rwlock, PATIENCE_MS) == 0);
    must(ivshmem_rwlock_unlock(a, &stage->rwlock) == 0);
    end(start(take_to_write));
    fails(ivshmem_rwlock_rdlock(a, &stage->rwlock, PATIENCE_MS), EOWNERDEAD, "died");
    fails(ivshmem_rwlock_rdlock(b, &other->rwlock, PATIENCE_MS), EOWNERDEAD, "died");
    fails(ivshmem_rwlock_consistent(b, &other->rwlock), EPERM, "for writing");
    must(ivshmem_rwlock_unlock(a, &stage->rwlock) == 0);
    must(ivshmem_rwlock_unlock(b, &other->rwlock) == 0);
    fails(ivshmem_rwlock_wrlock(b, &other->rwlock, 0), EOWNERDEAD, "ivshmem_rwlock_consistent");
    must(ivshmem_rwlock_consistent(b, &other->rwlock) == 0);
    must(ivshmem_rwlock_unlock(b, &other->rwlock) == 0);
    must(ivshmem_rwlock_rdlock(a, &stage->rwlock, 0) == 0);
    must(ivshmem_rwlock_unlock(a, &stage->rwlock) == 0);
}

static void test_waits(void)
{
    stage->text[0] = 0;
    must(ivshmem_mutex_lock(a, &stage->mutex, 0) == 0);
    pid_t pid = start(notify);
    while (strcmp(stage->text, "done") != 0)
        must(ivshmem_cond_wait(a, &stage->cond, &stage->mutex, PATIENCE_MS) == 0);
    must(ivshmem_mutex_unlock(a, &stage->mutex) == 0);
    end(pid);

    fails(ivshmem_barrier_wait(a, &stage->barrier, 0, 0), EINVAL, "1 to 56");
    fails(ivshmem_barrier_wait(a, &stage->barrier, 2, 20), ETIMEDOUT, "not all 2 members");
    pid = start(pass_barrier);
    must(ivshmem_barrier_wait(a, &stage->barrier, 2, PATIENCE_MS) == 0);
    end(pid);
    /* It has died meanwhile. */
    fails(ivshmem_barrier_wait(a, &stage->barrier, 2, PATIENCE_MS), EOWNERDEAD, "has died or left");
    pid = start(pass_barrier); /* in its place, which it may not have taken yet */
    int err;
    while ((err = ivshmem_barrier_wait(a, &stage->barrier, 2, PATIENCE_MS)) == -EOWNERDEAD)
        usleep(1000);
    must(err == 0);
    end(pid);
    fails(ivshmem_barrier_wait(a, &stage->barrier, 2, PATIENCE_MS), EOWNERDEAD, "has died or left");
    must(ivshmem_barrier_consistent(a, &stage->barrier, 2) == 0);
    must(ivshmem_barrier_wait(a, &stage->barrier, 2, 0) == 0);
    must(ivshmem_barrier_wait(a, &stage->barrier, 2, 0) == 0);
    fails(ivshmem_barrier_wait(b, &other->barrier, 2, 0), ENOSPC, "has its 2 members");
}

/* The block ends with its creator; who has it keeps it. */
static void test_end(void)
{
    ivshmem_block *block;
    must(ivshmem_is_found(theirs) == 1);
    ivshmem_close(a);
    must(ivshmem_is_found(theirs) == 0);
    fails(ivshmem_attach(b, "stage", 0, 0, 0, &block), ENOENT, "has no block stage");
    must(strcmp(other->text, "done") == 0);
    must(ivshmem_create(b, "stage", 1, 0, &block) == 0);
    ivshmem_detach(theirs);
    must(ivshmem_remove(b, "stage") == 0);
    must(ivshmem_is_found(block) == 0);
    ivshmem_close(b);
}

int main(int argc, char **argv)
{
    ivshmem *none;
    (void) argc;
    region = argv[1];
    fails(ivshmem_open("/dev/shm/no-such-region", 0, &none), ENOENT, "does not exist");
    fails(ivshmem_open(region, 2, &none), EINVAL, "flags");
    must(ivshmem_open(region, 0, &a) == 0 && ivshmem_open(region, IVSHMEM_GUARDIAN, &b) == 0);
    test_blocks();
    test_read_only();
    test_mutex();
    test_rwlock();
    test_cond();
    test_dead_holders();
    test_waits();
    test_end();
    ivshmem_close(NULL);
    ivshmem_detach(NULL);
    return 0;
}
