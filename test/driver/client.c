/* SPDX-License-Identifier: mpich2 */
/*
 * client DEVICE COMMAND [ARGUMENT...]
 *
 * Uses the driver in a guest, as `check` tells it to. It prints what it did in words that `check`
 * expects, and its exit status is 1 if the driver did something else.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ivshmem_uapi.h"

static int device; /* descriptor */
static struct ivshmem_info info;
static int wrong;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

/* Prints what was expected if it is not so. */
static void expect(bool is_so, const char *what)
{
    if (is_so)
        return;
    printf("expected: %s (errno %d)\n", what, errno);
    wrong = 1;
}

static char *map(void)
{
    char *base = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, 0);
    if (base == MAP_FAILED)
        fail("mmap");
    return base;
}

static int bind_vector(unsigned vector)
{
    struct ivshmem_bind bind = {vector, eventfd(0, EFD_NONBLOCK)};
    if (ioctl(device, IVSHMEM_BIND, &bind) != 0)
        fail("IVSHMEM_BIND");
    return bind.eventfd;
}

/* The eventfd's count, once it is not 0; 0 after so many seconds. */
static uint64_t await(int fd, int seconds)
{
    struct pollfd ready = {fd, POLLIN, 0};
    uint64_t count = 0;
    if (poll(&ready, 1, seconds * 1000) == 1 && read(fd, &count, sizeof(count)) < 0)
        fail("read of an eventfd");
    return count;
}

static void say(const char *what)
{
    puts(what);
    fflush(stdout);
}

/* wait VECTOR SECONDS: whether it is rung. */
static void wait_command(char **args)
{
    int fd = bind_vector((unsigned) atoi(args[0]));
    say("bound");
    say(await(fd, atoi(args[1])) ? "rung" : "silence");
}

static void ring_command(char **args)
{
    struct ivshmem_ring ring = {(unsigned) atoi(args[0]), (unsigned) atoi(args[1])};
    if (ioctl(device, IVSHMEM_RING, &ring) != 0)
        fail("IVSHMEM_RING");
}

/*
 * Rings this device's own vector 0 until the eventfd is signalled: QEMU loses a ring until the
 * server has told it of all vectors, and that goes on after the device is there.
 */
static bool rings(int fd)
{
    struct ivshmem_ring ring = {(unsigned) info.peer, 0};
    for (int i = 0; i < 300; i++) {
        expect(ioctl(device, IVSHMEM_RING, &ring) == 0, "ring");
        if (await(fd, 1))
            return true;
    }
    return false;
}

/* Two descriptors bind vector 0, and one lets go. */
static void share_command(char **args)
{
    (void) args;
    char name[64];
    unsigned vector = 0;
    int mine = bind_vector(0);
    snprintf(name, sizeof(name), "/proc/self/fd/%d", device);
    int second = open(name, O_RDWR);
    struct ivshmem_bind bind = {0, eventfd(0, EFD_NONBLOCK)};
    expect(ioctl(device, IVSHMEM_BIND, &bind) == -1 && errno == EBUSY, "EBUSY at a second bind");
    expect(ioctl(second, IVSHMEM_BIND, &bind) == 0, "another descriptor binds");

    expect(rings(mine) && await(bind.eventfd, 60), "both are signalled");
    expect(ioctl(device, IVSHMEM_UNBIND, &vector) == 0, "unbind");
    expect(ioctl(device, IVSHMEM_UNBIND, &vector) == -1 && errno == ENOENT, "ENOENT at another");
    await(mine, 0);
    expect(rings(bind.eventfd), "the other is signalled");
    expect(await(mine, 0) == 0, "who has unbound is not");
    close(second);
    await(bind.eventfd, 0);
    mine = bind_vector(0);
    expect(rings(mine), "signalled");
    expect(await(bind.eventfd, 0) == 0, "a closed descriptor has unbound");
}

static bool fails(unsigned long request, void *argument, int with)
{
    return ioctl(device, request, argument) == -1 && errno == with;
}

static bool cannot_map(size_t size, int flags, off_t offset)
{
    return mmap(NULL, size, PROT_READ, flags, device, offset) == MAP_FAILED && errno == EINVAL;
}

static void garbage_command(char **args)
{
    (void) args;
    long page = sysconf(_SC_PAGESIZE);
    struct ivshmem_bind bind = {0, eventfd(0, 0)};
    struct ivshmem_ring ring = {0, 0};
    unsigned vector;

    for (unsigned number = 0; number < 256; number++)
        expect(fails(_IO(0xb5, number), NULL, ENOTTY), "ENOTTY without an argument");
    expect(fails(IVSHMEM_INFO + 4, &bind, ENOTTY), "ENOTTY for a number too high");
    expect(fails(_IOR(0xb5, 0, char[4096]), &bind, ENOTTY), "ENOTTY for another size");
    expect(fails(IVSHMEM_INFO, NULL, EFAULT), "EFAULT");
    expect(fails(IVSHMEM_BIND, (void *) 1, EFAULT), "EFAULT");
    expect(fails(IVSHMEM_UNBIND, (void *) -1L, EFAULT), "EFAULT");
    expect(fails(IVSHMEM_RING, (void *) (UINT64_C(1) << 63), EFAULT), "EFAULT");

    for (int bit = 0; bit < 32; bit++) {
        bind.vector = vector = info.vectors + (1u << bit) - 1;
        expect(fails(IVSHMEM_BIND, &bind, EINVAL), "EINVAL at bind");
        expect(fails(IVSHMEM_UNBIND, &vector, EINVAL), "EINVAL at unbind");
    }
    ring.peer = 65536;
    expect(fails(IVSHMEM_RING, &ring, EINVAL), "EINVAL for a peer too high");
    ring = (struct ivshmem_ring){0, 65536};
    expect(fails(IVSHMEM_RING, &ring, EINVAL), "EINVAL for a vector too high");
    ring.vector = 0;
    if (info.vectors == 0) {
        expect(fails(IVSHMEM_RING, &ring, EOPNOTSUPP), "EOPNOTSUPP without vectors");
    } else {
        bind = (struct ivshmem_bind){0, -1};
        expect(fails(IVSHMEM_BIND, &bind, EBADF), "EBADF");
        bind.eventfd = device;
        expect(fails(IVSHMEM_BIND, &bind, EINVAL), "EINVAL for what is no eventfd");
        expect(fails(IVSHMEM_UNBIND, &bind.vector, ENOENT), "ENOENT");
        ring = (struct ivshmem_ring){65535, 65535};
        expect(ioctl(device, IVSHMEM_RING, &ring) == 0, "a ring for nobody");
    }

    expect(cannot_map(info.size, MAP_PRIVATE, 0), "no private mapping");
    expect(cannot_map(info.size + 1, MAP_SHARED, 0), "no mapping beyond the end");
    expect(cannot_map((size_t) page, MAP_SHARED, (off_t) info.size), "none behind it");
    expect(cannot_map((size_t) page * 2, MAP_SHARED, (off_t) info.size - page), "none across it");
    expect(cannot_map((size_t) page, MAP_SHARED, INT64_MAX & -page), "none far away");

    char *base = map();
    struct iovec mine = {&bind, 1}, theirs = {base, 1};
    expect(mremap(base, info.size, info.size * 2, MREMAP_MAYMOVE) == MAP_FAILED, "does not grow");
    expect(process_vm_readv(getpid(), &mine, 1, &theirs, 1, 0) == -1, "nobody pins it");
    expect(write(device, base, 1) == -1 && read(device, base, 1) == -1, "no read and write");
    /* A part, with other rights: its pages are those of the same offsets. */
    base[page] = 7;
    char *second = mmap(NULL, (size_t) page, PROT_READ, MAP_SHARED, device, page);
    expect(second != MAP_FAILED && *second == 7, "a mapping from the second page on");
    munmap(base, (size_t) page);
    expect(mprotect(base + page, (size_t) page, PROT_READ) == 0, "mprotect");
    expect(mprotect(base + page, (size_t) page, PROT_READ | PROT_WRITE) == 0, "mprotect");
    char *moved =
        mremap(base + page, (size_t) page, (size_t) page, MREMAP_MAYMOVE | MREMAP_FIXED, base);
    expect(moved == base && *moved == 7, "the page after a move");
    pid_t child = fork();
    if (child == 0) {
        moved[1] = 8;
        _exit(moved[0] != 7);
    }
    int status;
    waitpid(child, &status, 0);
    expect(status == 0 && moved[1] == 8, "a child shares the mapping");
}

/* Says where it has mapped, and stores there until it is killed. On the first processor. */
static void spin_command(char **args)
{
    (void) args;
    cpu_set_t first;
    volatile char *base = map();
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    sched_setaffinity(0, sizeof(first), &first);
    base[0] = 0;
    printf("at 0x%lx\n", (unsigned long) base);
    fflush(stdout);
    for (;;)
        base[0]++;
}

/* Only the mapping keeps the device in use. */
static void hold_command(char **args)
{
    (void) args;
    map();
    close(device);
    say("held");
    pause();
}

static sigjmp_buf out;
static volatile sig_atomic_t last_signal;

static void on_signal(int number)
{
    last_signal = number;
    siglongjmp(out, 1);
}

static void *ring_until_gone(void *peer)
{
    struct ivshmem_ring ring = {*(unsigned *) peer, 0};
    while (ioctl(device, IVSHMEM_RING, &ring) == 0)
        ;
    return (void *) (intptr_t) errno;
}

/* A store there raises SIGBUS. */
static bool is_gone(volatile char *at)
{
    last_signal = 0;
    if (sigsetjmp(out, 1) == 0)
        *at = 1;
    return last_signal == SIGBUS;
}

/*
 * The same, in the end: once the device is gone, the driver takes mappings back, one page after the
 * other. A first access fails at once, and so can be the first to fail.
 */
static bool goes_away(volatile char *at)
{
    for (int i = 0; i < 30000 && !is_gone(at); i++)
        usleep(10000);
    return is_gone(at);
}

static void *map_until_gone(void *unused)
{
    (void) unused;
    while (ioctl(device, IVSHMEM_INFO, &info) == 0)
        munmap(map(), info.size);
    return (void *) (intptr_t) errno;
}

/* Stores, maps and, if the device has vectors, rings and waits until it goes away. */
static void outlive_command(char **args)
{
    (void) args;
    pthread_t ringer, mapper;
    void *error;
    uint64_t size = info.size;
    volatile char *base = map(), *late = map();
    unsigned vectors = info.vectors, peer = (unsigned) info.peer, vector = 0;
    int fd = vectors > 0 ? bind_vector(vectors - 1) : eventfd(0, 0);
    struct ivshmem_bind bind = {0, fd};

    signal(SIGBUS, on_signal);
    signal(SIGSEGV, on_signal);
    pthread_create(&mapper, NULL, map_until_gone, NULL);
    if (vectors > 0)
        pthread_create(&ringer, NULL, ring_until_gone, &peer);
    base[0] = 1;
    say("busy");
    if (sigsetjmp(out, 1) == 0)
        for (uint64_t i = 0;; i += 64)
            base[i % size] = 1;
    expect(goes_away(base), "SIGBUS at the first page, which was mapped");
    expect(is_gone(late + size - 1), "SIGBUS at a first access");
    pthread_join(mapper, &error);
    expect((intptr_t) error == ENODEV, "ENODEV from IVSHMEM_INFO");
    if (vectors > 0) {
        expect(await(fd, 300) == 1, "the last vector, which nobody rings, is signalled once");
        pthread_join(ringer, &error);
        expect((intptr_t) error == ENODEV, "ENODEV from IVSHMEM_RING");
    }
    expect(fails(IVSHMEM_BIND, &bind, ENODEV), "ENODEV from IVSHMEM_BIND");
    expect(fails(IVSHMEM_UNBIND, &vector, ENODEV), "ENODEV from IVSHMEM_UNBIND");
    say("outlived");
}

static void info_command(char **args)
{
    (void) args;
    printf("abi=%u vectors=%u size=%llu peer=%d cache=%u\n", info.abi, info.vectors,
           (unsigned long long) info.size, info.peer, info.cache);
}

/* store OFFSET TEXT, load OFFSET LENGTH */
static void store_command(char **args)
{
    memcpy(map() + strtoull(args[0], NULL, 0), args[1], strlen(args[1]));
}

static void load_command(char **args)
{
    printf("%.*s\n", atoi(args[1]), map() + strtoull(args[0], NULL, 0));
}

static const struct {
    const char *name;
    int arguments;
    void (*run)(char **args);
} commands[] = {
    {"info", 0, info_command},       {"store", 2, store_command},     {"load", 2, load_command},
    {"wait", 2, wait_command},       {"ring", 2, ring_command},       {"share", 0, share_command},
    {"spin", 0, spin_command},       {"garbage", 0, garbage_command}, {"hold", 0, hold_command},
    {"outlive", 0, outlive_command},
};

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    device = open(argv[1], O_RDWR | O_CLOEXEC);
    if (device < 0)
        fail(argv[1]);
    if (ioctl(device, IVSHMEM_INFO, &info) != 0)
        fail("IVSHMEM_INFO");
    for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
        if (strcmp(argv[2], commands[i].name) == 0 && argc == 3 + commands[i].arguments) {
            commands[i].run(argv + 3);
            return wrong;
        }
    }
    return 2;
}
