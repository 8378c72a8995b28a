/* SPDX-License-Identifier: mpich2 */
/*
 * A cache of keys and values that processes of several virtual machines read and write.
 *
 *   cache serve [REGION]              has the cache, until it is interrupted
 *   cache set KEY VALUE [REGION]
 *   cache get KEY [REGION]
 *   cache bench COUNT [REGION]        times COUNT gets and sets of this cache
 *   cache bench COUNT HOST:PORT       and of a memcached
 *
 * The cache is a table of slots, and ends with `cache serve`. A key has eight slots where it can
 * be; if others have all of them, one of those is forgotten.
 */
#include <ivshmem.h>

#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 16384
#define WAYS 8
#define LOCKS 64 /* each for a part of the slots */
#define KEY_BYTES 64
#define VALUE_BYTES 184
#define PATIENCE_MS 5000

struct slot {
    char key[KEY_BYTES];
    char value[VALUE_BYTES];
    uint64_t when; /* of the last set */
};

struct cache {
    ivshmem_rwlock lock[LOCKS];
    struct slot slot[SLOTS];
};

static ivshmem *handle;
static struct cache *cache;

static void give_up(const char *what)
{
    fprintf(stderr, "cache: %s: %s\n", what, ivshmem_error());
    exit(1);
}

/* The first of the slots where a key can be; all of them have one lock. */
static uint32_t place_of(const char *key)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a, and mixed, as keys differ in their ends */
    while (*key)
        hash = (hash ^ (unsigned char) *key++) * 1099511628211u;
    hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccdu;
    return (uint32_t) (hash >> 32) % (SLOTS / WAYS) * WAYS;
}

static ivshmem_rwlock *lock_of(uint32_t place)
{
    return &cache->lock[place / WAYS % LOCKS];
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000000 + (uint64_t) t.tv_nsec;
}

/* 1 if it is there; value has VALUE_BYTES. */
static int cache_get(const char *key, char *value)
{
    uint32_t place = place_of(key), found = WAYS;
    int err = ivshmem_rwlock_rdlock(handle, lock_of(place), PATIENCE_MS);
    if (err && err != -EOWNERDEAD)
        give_up("cannot read");
    for (uint32_t i = 0; !err && i < WAYS && found == WAYS; i++)
        if (strncmp(cache->slot[place + i].key, key, KEY_BYTES) == 0)
            found = i;
    if (found < WAYS)
        memcpy(value, cache->slot[place + found].value, VALUE_BYTES);
    ivshmem_rwlock_unlock(handle, lock_of(place));
    value[VALUE_BYTES - 1] = 0; /* others can write to the block, too */
    return found < WAYS;
}

static void cache_set(const char *key, const char *value)
{
    uint32_t place = place_of(key), best = 0;
    struct slot *slots = &cache->slot[place];
    int err = ivshmem_rwlock_wrlock(handle, lock_of(place), PATIENCE_MS);
    if (err == -EOWNERDEAD) {
        /* A value may be half written: forget those of this lock. It is a cache. */
        for (uint32_t i = 0; i < SLOTS; i += WAYS)
            if (lock_of(i) == lock_of(place))
                memset(&cache->slot[i], 0, WAYS * sizeof(struct slot));
        err = ivshmem_rwlock_consistent(handle, lock_of(place));
    }
    if (err)
        give_up("cannot write");
    for (uint32_t i = 0; i < WAYS; i++) {
        if (strncmp(slots[i].key, key, KEY_BYTES) == 0) {
            best = i;
            break;
        }
        if (slots[i].when < slots[best].when)
            best = i;
    }
    memset(&slots[best], 0, sizeof(struct slot));
    snprintf(slots[best].key, KEY_BYTES, "%s", key);
    snprintf(slots[best].value, VALUE_BYTES, "%s", value);
    slots[best].when = now_ns();
    ivshmem_rwlock_unlock(handle, lock_of(place));
}

/* A memcached, by its text protocol. */

static int server = -1;

static void connect_to(const char *host, const char *port)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    if (getaddrinfo(host, port, &hints, &found) != 0 ||
        (server = socket(found->ai_family, SOCK_STREAM, 0)) < 0 ||
        connect(server, found->ai_addr, found->ai_addrlen) != 0) {
        fprintf(stderr, "cache: cannot connect to %s:%s\n", host, port);
        exit(1);
    }
    freeaddrinfo(found);
}

/* Sends a request, and reads an answer up to that end. */
static void ask(const char *request, const char *end, char *answer, size_t size)
{
    size_t len = 0;
    if (write(server, request, strlen(request)) < 0)
        give_up("memcached");
    do {
        ssize_t got = read(server, answer + len, size - 1 - len);
        if (got <= 0) {
            fprintf(stderr, "cache: memcached has closed the connection\n");
            exit(1);
        }
        len += (size_t) got;
        answer[len] = 0;
    } while (len < strlen(end) || strcmp(answer + len - strlen(end), end) != 0);
}

static int memcached_get(const char *key, char *value)
{
    char request[128], answer[512];
    int bytes = 0, begin = 0;
    snprintf(request, sizeof(request), "get %s\r\n", key);
    ask(request, "END\r\n", answer, sizeof(answer));
    if (sscanf(answer, "VALUE %*s %*d %d\r\n%n", &bytes, &begin) < 1 || bytes >= VALUE_BYTES)
        return 0;
    snprintf(value, VALUE_BYTES, "%.*s", bytes, answer + begin);
    return 1;
}

static void memcached_set(const char *key, const char *value)
{
    char request[512], answer[64];
    snprintf(request, sizeof(request), "set %s 0 0 %zu\r\n%s\r\n", key, strlen(value), value);
    ask(request, "\r\n", answer, sizeof(answer));
}

/* Benchmark */

static void report(const char *what, int count, uint64_t began)
{
    double us = (double) (now_ns() - began) / 1000;
    printf("%s: %d in %.1f ms, %.2f us each\n", what, count, us / 1000, us / count);
}

static void bench(int count, int (*get)(const char *, char *),
                  void (*set)(const char *, const char *))
{
    char key[KEY_BYTES], value[VALUE_BYTES], expected[VALUE_BYTES];
    const int keys = count < 1000 ? count : 1000;
    int missing = 0;
    uint64_t began = now_ns();
    for (int i = 0; i < count; i++) {
        snprintf(key, sizeof(key), "key-%d", i % keys);
        snprintf(value, sizeof(value), "%0100d", i % keys);
        set(key, value);
    }
    report("set", count, began);
    began = now_ns();
    for (int i = 0; i < count; i++) {
        snprintf(key, sizeof(key), "key-%d", i % keys);
        snprintf(expected, sizeof(expected), "%0100d", i % keys);
        if (!get(key, value))
            missing++;
        else if (strcmp(value, expected) != 0) {
            fprintf(stderr, "cache: %s has another value: %s\n", key, value);
            exit(1);
        }
    }
    report("get", count, began);
    if (missing)
        printf("missing: %d\n", missing);
}

/* The command */

static void open_cache(const char *region, int serves)
{
    ivshmem_block *block;
    if (ivshmem_open(region, IVSHMEM_GUARDIAN, &handle) != 0)
        give_up("cannot open the region");
    int err = serves
                  ? ivshmem_create(handle, "example-cache", sizeof(*cache), 0, &block)
                  : ivshmem_attach(handle, "example-cache", sizeof(*cache), 0, PATIENCE_MS, &block);
    if (err)
        give_up("cannot have the block");
    cache = ivshmem_data(block);
}

static void serve(void)
{
    sigset_t ends;
    int which;
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    sigwait(&ends, &which);
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";
    char value[VALUE_BYTES], *port = NULL;
    if (strcmp(verb, "serve") == 0 && argc <= 3) {
        open_cache(argv[2], 1);
        serve();
    } else if (strcmp(verb, "set") == 0 && (argc == 4 || argc == 5)) {
        open_cache(argv[4], 0);
        cache_set(argv[2], argv[3]);
    } else if (strcmp(verb, "get") == 0 && (argc == 3 || argc == 4)) {
        open_cache(argv[3], 0);
        if (!cache_get(argv[2], value))
            return 1;
        puts(value);
    } else if (strcmp(verb, "bench") == 0 && (argc == 3 || argc == 4) && atoi(argv[2]) > 0) {
        port = argc == 4 ? strrchr(argv[3], ':') : NULL;
        if (port && !strchr(port, '/') && !strchr(argv[3], '/')) {
            *port++ = 0;
            connect_to(argv[3], port);
            bench(atoi(argv[2]), memcached_get, memcached_set);
            return 0;
        }
        open_cache(argv[3], 0);
        bench(atoi(argv[2]), cache_get, cache_set);
    } else {
        fprintf(stderr, "usage: cache serve|set KEY VALUE|get KEY|bench COUNT [REGION]\n");
        return 2;
    }
    ivshmem_close(handle);
    return 0;
}
