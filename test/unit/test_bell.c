/* SPDX-License-Identifier: mpich2 */
/*
 * The bell of a process of the host, by a server that each test plays. In guests,
 * test/vm/bells.bats has bells of devices and of the driver.
 */
#include "unit.h"

#include "core/bell.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#define PATIENCE_NS ((uint64_t) PATIENCE_SECONDS * 1000000000)

static char folder[] = "/tmp/ivshm-bell.XXXXXX", path[64];
static int listener;

/* A word of the server, and the descriptor that goes with it, or -1. */
static ssize_t say(int to, int64_t value, int fd)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {&value, sizeof(value)};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        msg.msg_control = &control;
        msg.msg_controllen = sizeof(control);
        struct cmsghdr *header = CMSG_FIRSTHDR(&msg);
        *header = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    }
    return sendmsg(to, &msg, MSG_NOSIGNAL); /* less if the client has gone */
}

/* What the server says to whoever connects, in this order; it keeps the connection. */
struct greeting {
    struct {
        int64_t value;
        int fd;
    } words[8];
    int count, connection;
    bool ends; /* it closes the connection */
};

static void *greet(void *arg)
{
    struct greeting *g = arg;
    g->connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    must(g->connection >= 0);
    for (int i = 0; i < g->count; i++)
        say(g->connection, g->words[i].value, g->words[i].fd);
    if (g->ends)
        close(g->connection);
    return NULL;
}

static int open_bell(struct ivshm_bell *bell, const struct ivshm_map *map, struct greeting *g,
                     struct ivshm_diag *diag)
{
    pthread_t server;
    must(pthread_create(&server, NULL, greet, g) == 0);
    int err = ivshm_bell_open(bell, map, path, diag);
    pthread_join(server, NULL);
    return err;
}

static int setup(void **state)
{
    (void) state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    must(mkdtemp(folder) != NULL);
    snprintf(path, sizeof(path), "%s/socket", folder);
    strcpy(address.sun_path, path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(bind(listener, (struct sockaddr *) &address, sizeof(address)) == 0 &&
         listen(listener, 8) == 0);
    return 0;
}

static int teardown(void **state)
{
    (void) state;
    close(listener);
    unlink(path);
    rmdir(folder);
    return 0;
}

static int descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* Returns whether it has been rung; at once if so. */
static bool is_rung(struct ivshm_bell *bell)
{
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    uint64_t left;
    bool is_ready = read(bell->event, &left, sizeof(left)) == sizeof(left);
    if (is_ready)
        must(write(bell->event, &left, sizeof(left)) == sizeof(left));
    ivshm_bell_wait(bell, is_ready ? PATIENCE_NS : 1000000, NULL, 0);
    clock_gettime(CLOCK_MONOTONIC, &after);
    must(after.tv_sec - before.tv_sec < PATIENCE_SECONDS);
    must(read(bell->event, &left, sizeof(left)) < 0); /* a ring wakes once */
    return is_ready;
}

/* Two processes of the host ring each other, and a third one, which comes and goes. */
TEST(test_ring)
{
    int before = descriptors(), file = file_new(4 * MIB);
    struct ivshm_map map;
    assert_int_equal(ivshm_map_open(file_name(file), false, &map, NULL), 0);
    int a_event = eventfd(0, EFD_NONBLOCK), b_event = eventfd(0, EFD_NONBLOCK),
        c_events[] = {eventfd(0, EFD_NONBLOCK), eventfd(0, EFD_NONBLOCK)};
    uint64_t rings;
    struct greeting for_a = {.words = {{0, -1}, {7, -1}, {-1, file}, {7, a_event}}, .count = 4},
                    for_b = {
                        .words = {{0, -1}, {65535, -1}, {-1, file}, {7, a_event}, {65535, b_event}},
                        .count = 5};
    struct ivshm_bell a, b;
    struct ivshm_diag diag = {""};
    assert_int_equal(open_bell(&a, &map, &for_a, &diag), 0);
    assert_int_equal(open_bell(&b, &map, &for_b, &diag), 0);
    assert_true(a.self.listens && a.self.rings && a.self.id == 7 && a.self.vector == 0);
    assert_int_equal(b.self.id, 65535);

    assert_false(is_rung(&a));
    ivshm_bell_ring(&b, a.self);
    ivshm_bell_ring(&b, a.self);
    assert_true(is_rung(&a));
    assert_false(is_rung(&a));
    /* b is news to a, and so is what c has. */
    ivshm_bell_ring(&a, b.self);
    assert_false(is_rung(&b));
    say(for_a.connection, 65535, b_event);
    say(for_a.connection, 9, c_events[0]);
    say(for_a.connection, 9, c_events[1]);
    ivshm_bell_ring(&a, b.self);
    assert_true(is_rung(&b));
    const struct ivshm_bell_address c = {.rings = true, .listens = true, .id = 9, .vector = 1};
    ivshm_bell_ring(&a, c);
    assert_int_equal(read(c_events[0], &rings, sizeof(rings)), -1);
    assert_int_equal(read(c_events[1], &rings, sizeof(rings)), sizeof(rings));
    /* Vectors that are not there, and whoever does not listen. */
    ivshm_bell_ring(&a, (struct ivshm_bell_address){.listens = true, .id = 9, .vector = 2});
    ivshm_bell_ring(&a, (struct ivshm_bell_address){.listens = true, .id = 10});
    ivshm_bell_ring(&a, (struct ivshm_bell_address){.id = 9});
    say(for_a.connection, 9, -1);
    ivshm_bell_ring(&a, (struct ivshm_bell_address){.listens = true, .id = 11}); /* hears it */
    ivshm_bell_ring(&a, c);
    assert_int_equal(read(c_events[0], &rings, sizeof(rings)), -1);
    assert_int_equal(read(c_events[1], &rings, sizeof(rings)), -1);
    /* Whatever else is waited for ends the wait as well, and is not read. */
    struct pollfd others[] = {{.fd = -1}, {.fd = c_events[1], .events = POLLIN}};
    must(write(c_events[1], &(uint64_t){1}, sizeof(uint64_t)) == sizeof(uint64_t));
    ivshm_bell_wait(&a, PATIENCE_NS, others, 2);
    assert_int_equal(read(c_events[1], &rings, sizeof(rings)), sizeof(rings));
    assert_int_equal(others[1].revents, 0);
    ivshm_bell_ring(&b, a.self);
    ivshm_bell_wait(&a, PATIENCE_NS, others, 2);
    assert_false(is_rung(&a));
    /* Without the server, those that know each other go on. */
    close(for_a.connection);
    close(for_b.connection);
    ivshm_bell_ring(&a, c);
    ivshm_bell_ring(&a, b.self);
    assert_true(is_rung(&b));
    ivshm_bell_ring(&b, a.self);
    assert_true(is_rung(&a));

    ivshm_bell_close(&a);
    ivshm_bell_close(&a);
    ivshm_bell_close(&b);
    close(a_event);
    close(b_event);
    close(c_events[0]);
    close(c_events[1]);
    ivshm_map_close(&map);
    close(file);
    assert_int_equal(descriptors(), before);
}

/* What is no server of this region: an error that names it, and no descriptor is left. */
TEST(test_other_servers)
{
    int before = descriptors(), file = file_new(4 * MIB), other = file_new(4 * MIB),
        event = eventfd(0, EFD_NONBLOCK);
    struct ivshm_map map;
    assert_int_equal(ivshm_map_open(file_name(file), false, &map, NULL), 0);
    struct {
        struct greeting greeting;
        int err;
        const char *words;
    } cases[] = {
        {{.ends = true}, -EPROTO, "does not serve a region"},
        {{.count = 0}, -EPROTO, "does not serve a region"}, /* silent */
        {{.words = {{-1, -1}}, .count = 1, .ends = true}, -EPROTO, "does not serve a region"},
        {{.words = {{1, -1}}, .count = 1}, -EPROTO, "does not serve a region"},
        {{.words = {{0, event}}, .count = 1}, -EPROTO, "does not serve a region"},
        {{.words = {{0, -1}, {65536, -1}}, .count = 2}, -EPROTO, "does not serve a region"},
        {{.words = {{0, -1}, {-2, -1}}, .count = 2}, -EPROTO, "does not serve a region"},
        {{.words = {{0, -1}, {3, -1}, {-1, -1}}, .count = 3}, -EPROTO, "does not serve a region"},
        {{.words = {{0, -1}, {3, -1}, {3, file}}, .count = 3}, -EPROTO, "does not serve a region"},
        {{.words = {{0, -1}, {3, -1}, {-1, other}}, .count = 3}, -ESTALE, "serves another file"},
        {{.words = {{0, -1}, {3, -1}, {-1, file}}, .count = 3, .ends = true},
         -EPROTO,
         "did not pass this process an eventfd"},
        {{.words = {{0, -1}, {3, -1}, {-1, file}, {-5, event}}, .count = 4},
         -EPROTO,
         "did not pass this process an eventfd"},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct ivshm_bell bell = {0};
        struct ivshm_diag diag = {""};
        assert_int_equal(open_bell(&bell, &map, &cases[i].greeting, &diag), cases[i].err);
        assert_says(diag, cases[i].words);
        assert_says(diag, path);
        assert_false(bell.self.rings);
        if (!cases[i].greeting.ends)
            close(cases[i].greeting.connection);
    }
    close(event);
    close(other);
    close(file);
    ivshm_map_close(&map);
    assert_int_equal(descriptors(), before);
}

TEST(test_no_server)
{
    int file = file_new(4 * MIB);
    struct ivshm_map map;
    struct ivshm_bell bell = {0};
    struct ivshm_diag diag = {""};
    char name[200];
    assert_int_equal(ivshm_map_open(file_name(file), false, &map, NULL), 0);
    assert_int_equal(ivshm_bell_open(&bell, &map, NULL, &diag), -ENODEV);
    assert_int_equal(ivshm_bell_open(&bell, &map, "none", &diag), -ENODEV);
    snprintf(name, sizeof(name), "%s/none", folder);
    assert_int_equal(ivshm_bell_open(&bell, &map, name, &diag), -ENOENT);
    assert_says(diag, name);
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = 0;
    assert_int_equal(ivshm_bell_open(&bell, &map, name, &diag), -ENAMETOOLONG);
    ivshm_bell_close(&bell);
    close(file);
    ivshm_map_close(&map);
}

/* After its greeting, a server that talks nonsense is left; what is known stays. */
TEST(test_nonsense_later)
{
    int before = descriptors(), file = file_new(4 * MIB), event = eventfd(0, EFD_NONBLOCK);
    const struct ivshm_bell_address stranger = {.listens = true, .id = 5};
    const int64_t nonsense[] = {-1, 65536, INT64_MAX, INT64_MIN};
    struct ivshm_map map;
    assert_int_equal(ivshm_map_open(file_name(file), false, &map, NULL), 0);
    for (size_t i = 0; i < LENGTH(nonsense); i++) {
        struct greeting g = {.words = {{0, -1}, {7, -1}, {-1, file}, {7, event}}, .count = 4};
        struct ivshm_bell bell;
        assert_int_equal(open_bell(&bell, &map, &g, NULL), 0);
        say(g.connection, nonsense[i], i % 2 ? event : -1);
        ivshm_bell_ring(&bell, stranger);
        assert_int_equal(bell.server, -1);
        ivshm_bell_ring(&bell, stranger);
        ivshm_bell_close(&bell);
        close(g.connection);
    }
    ivshm_map_close(&map);
    close(event);
    close(file);
    assert_int_equal(descriptors(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ring),
        cmocka_unit_test(test_other_servers),
        cmocka_unit_test(test_no_server),
        cmocka_unit_test(test_nonsense_later),
    };
    alarm(LIMIT_SECONDS);
    return cmocka_run_group_tests(tests, setup, teardown);
}
