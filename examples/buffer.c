/* SPDX-License-Identifier: mpich2 */
/*
 * A bounded buffer between virtual machines: one side writes lines, the other one prints them, and
 * whoever is faster waits.
 *
 *   buffer write [REGION] <FILE        buffer read [REGION]
 *
 * Either may be started first, and there may be several of each. If one is killed, the others go
 * on: a line is whole in the buffer, or not in it.
 */
#include <ivshmem.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 16
#define LINE 256
#define PATIENCE_MS 60000 /* for the other side to come */
#define MUTEX_MS 10000

/* The block: all zero is an empty buffer. */
struct buffer {
    ivshmem_mutex mutex;
    ivshmem_cond filled, emptied;
    uint64_t written, read; /* lines so far; changed in the mutex, and by one store each */
    uint64_t ended;         /* there will be no more */
    char slot[SLOTS][LINE];
};

static ivshmem *handle;
static struct buffer *buffer;

static void give_up(const char *what)
{
    fprintf(stderr, "buffer: %s: %s\n", what, ivshmem_error());
    exit(1);
}

/* `err` is what the library said when it gave us the mutex. */
static void check_mutex(int err)
{
    /* Whoever died in it has filled a slot without counting it, or counted it: both are right. */
    if (err == -EOWNERDEAD)
        err = ivshmem_mutex_consistent(handle, &buffer->mutex);
    if (err)
        give_up("cannot have the buffer");
}

static void wait_for(ivshmem_cond *cond)
{
    check_mutex(ivshmem_cond_wait(handle, cond, &buffer->mutex, PATIENCE_MS));
}

static void put(const char *line)
{
    check_mutex(ivshmem_mutex_lock(handle, &buffer->mutex, MUTEX_MS));
    while (buffer->written - buffer->read >= SLOTS)
        wait_for(&buffer->emptied);
    snprintf(buffer->slot[buffer->written % SLOTS], LINE, "%s", line);
    buffer->written++;
    ivshmem_mutex_unlock(handle, &buffer->mutex);
    ivshmem_cond_broadcast(handle, &buffer->filled);
}

/* 0 at the end. */
static int get(char *line)
{
    check_mutex(ivshmem_mutex_lock(handle, &buffer->mutex, MUTEX_MS));
    while (buffer->written == buffer->read && !buffer->ended)
        wait_for(&buffer->filled);
    int found = buffer->written != buffer->read;
    if (found) {
        memcpy(line, buffer->slot[buffer->read % SLOTS], LINE);
        line[LINE - 1] = 0; /* others can write to the block, too */
        buffer->read++;
    }
    ivshmem_mutex_unlock(handle, &buffer->mutex);
    ivshmem_cond_broadcast(handle, &buffer->emptied);
    return found;
}

static void say_end(void)
{
    check_mutex(ivshmem_mutex_lock(handle, &buffer->mutex, MUTEX_MS));
    buffer->ended = 1;
    ivshmem_cond_broadcast(handle, &buffer->filled);
    /* The block ends with its creator, which may be this process. */
    while (buffer->written != buffer->read)
        wait_for(&buffer->emptied);
    ivshmem_mutex_unlock(handle, &buffer->mutex);
}

int main(int argc, char **argv)
{
    char line[LINE];
    ivshmem_block *block;
    if (argc < 2 || (strcmp(argv[1], "write") != 0 && strcmp(argv[1], "read") != 0)) {
        fprintf(stderr, "usage: buffer write|read [REGION]\n");
        return 2;
    }
    if (ivshmem_open(argv[2], IVSHMEM_GUARDIAN, &handle) != 0)
        give_up("cannot open the region");
    if (ivshmem_create(handle, "example-buffer", sizeof(struct buffer), IVSHMEM_OR_ATTACH,
                       &block) != 0)
        give_up("cannot have the block");
    buffer = ivshmem_data(block);
    if (strcmp(argv[1], "write") == 0) {
        while (fgets(line, sizeof(line), stdin))
            put(line);
        say_end();
    } else {
        while (get(line))
            fputs(line, stdout);
    }
    ivshmem_close(handle);
    return 0;
}
