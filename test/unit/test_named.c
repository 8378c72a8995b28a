/* SPDX-License-Identifier: mpich2 */
#include "unit.h"

#include "core/named.h"

/* A process on the region. */
struct side {
    struct ivshm_region *region;
    struct ivshm_transport t;
    struct ivshm_names names;
};

static void side_open(struct side *s, struct ivshm_region *region)
{
    s->region = region;
    must(ivshm_transport_open(&s->t, region, "job", 0, 1, NULL) == 0);
    must(ivshm_names_open(&s->names, &s->t, NULL) == 0);
}

static void side_close(struct side *s)
{
    ivshm_names_close(&s->names);
    ivshm_transport_close(&s->t);
}

static char *bytes_of(struct side *s, struct ivshm_named *block)
{
    return ivshm_named_address(&s->names, block);
}

static int count_blocks(const struct ivshm_region *region)
{
    struct ivshm_named_info info;
    uint64_t index = 0;
    int n = 0;
    while (ivshm_named_next(region, &index, &info))
        n++;
    return n;
}

TEST(test_create_and_attach)
{
    struct ivshm_region region = region_new(16 * MIB);
    struct side a, b;
    struct ivshm_named mine, its, none;
    struct ivshm_diag diag = {""};
    side_open(&a, &region);
    side_open(&b, &region);
    assert_int_equal(ivshm_named_attach(&b.names, "x", &none, &diag), -ENOENT);
    assert_says(diag, "has no block x");
    assert_int_equal(ivshm_named_create(&a.names, "x", 100000, &mine, &diag), 0);
    for (int i = 0; i < 100000; i++)
        assert_int_equal(bytes_of(&a, &mine)[i], 0);
    assert_int_equal(ivshm_named_create(&b.names, "x", 1, &none, &diag), -EEXIST);
    assert_says(diag, "has a block x already");
    assert_int_equal(ivshm_named_create(&b.names, "y", 1, &none, &diag), 0);
    assert_int_equal(ivshm_named_attach(&b.names, "x", &its, &diag), 0);
    assert_int_equal(ivshm_named_bytes(&its), 100000);
    strcpy(bytes_of(&a, &mine), "hello");
    assert_string_equal(bytes_of(&b, &its), "hello");
    assert_true(ivshm_named_is_found(&b.names, &its));
    assert_int_equal(ivshm_named_holders(&region, its.off, NULL, 0), 2);
    side_close(&b);
    assert_int_equal(ivshm_named_holders(&region, mine.off, NULL, 0), 1);
    side_close(&a);
    assert_all_freed(&region);
    ivshm_region_close(&region);
}

/* A block that is removed is found by nobody, and freed once nobody holds it. */
TEST(test_remove)
{
    struct ivshm_region region = region_new(16 * MIB);
    struct side a, b;
    struct ivshm_named mine, its, next;
    side_open(&a, &region);
    side_open(&b, &region);
    uint64_t before = free_blocks(&region);
    assert_int_equal(ivshm_named_remove(&b.names, "x", NULL), -ENOENT);
    assert_int_equal(ivshm_named_create(&a.names, "x", 5000, &mine, NULL), 0);
    assert_int_equal(ivshm_named_attach(&b.names, "x", &its, NULL), 0);
    strcpy(bytes_of(&a, &mine), "hello");
    assert_int_equal(ivshm_named_remove(&b.names, "x", NULL), 0);
    assert_int_equal(ivshm_named_remove(&a.names, "x", NULL), -ENOENT);
    assert_int_equal(ivshm_named_attach(&b.names, "x", &next, NULL), -ENOENT);
    assert_false(ivshm_named_is_found(&b.names, &its));
    assert_int_equal(ivshm_named_create(&a.names, "x", 1, &next, NULL), 0);
    ivshm_named_detach(&a.names, &mine);
    assert_int_not_equal(next.off.bytes, its.off.bytes);
    assert_true(ivshm_extent_owned(&region, its.owner, IVSHM_KIND_USER, its.off, 5000));
    assert_string_equal(bytes_of(&b, &its), "hello");
    ivshm_named_detach(&b.names, &its);
    assert_int_equal(ivshm_named_remove(&a.names, "x", NULL), 0);
    ivshm_named_detach(&a.names, &next);
    assert_int_equal(free_blocks(&region), before);
    side_close(&a);
    side_close(&b);
    assert_all_freed(&region);
    ivshm_region_close(&region);
}

/* Whoever holds a block of a process that is gone keeps it; the name is free. */
TEST(test_creator_leaves)
{
    struct ivshm_region region = region_new(16 * MIB);
    struct side a, b;
    struct ivshm_named mine, its, next;
    side_open(&a, &region);
    side_open(&b, &region);
    assert_int_equal(ivshm_named_create(&a.names, "x", 5000, &mine, NULL), 0);
    assert_int_equal(ivshm_named_attach(&b.names, "x", &its, NULL), 0);
    strcpy(bytes_of(&a, &mine), "hello");
    side_close(&a);
    assert_string_equal(bytes_of(&b, &its), "hello");
    assert_false(ivshm_named_is_found(&b.names, &its));
    assert_int_equal(ivshm_named_attach(&b.names, "x", &next, NULL), -ENOENT);
    assert_int_equal(ivshm_named_create(&b.names, "x", 1, &next, NULL), 0);
    assert_int_equal(count_blocks(&region), 2);
    ivshm_named_detach(&b.names, &its); /* the last one: it is freed at once */
    assert_int_equal(count_blocks(&region), 1);
    assert_int_equal(ivshm_endpoint_claim(&region, mine.owner.endpoint).state, IVSHM_CLAIM_FREE);
    side_close(&b);
    assert_all_freed(&region);
    ivshm_region_close(&region);
}

TEST(test_bad_input)
{
    struct ivshm_region region = region_new(16 * MIB);
    struct side a;
    struct ivshm_named block, many[IVSHM_HOLDS_MAX];
    struct ivshm_diag diag = {""};
    char name[80];
    side_open(&a, &region);
    memset(name, 'n', sizeof(name));
    name[64] = 0;
    assert_int_equal(ivshm_named_create(&a.names, name, 1, &block, &diag), -ENAMETOOLONG);
    assert_says(diag, "has 64 bytes, at most 63 are possible");
    name[63] = 0;
    assert_int_equal(ivshm_named_create(&a.names, name, 1, &block, &diag), 0);
    assert_int_equal(ivshm_named_remove(&a.names, name, NULL), 0);
    ivshm_named_detach(&a.names, &block);
    const char *const bad[] = {"", "a/b", "a\nb", "\x7f"};
    for (size_t i = 0; i < LENGTH(bad); i++) {
        assert_int_equal(ivshm_named_create(&a.names, bad[i], 1, &block, &diag), -EINVAL);
        assert_int_equal(ivshm_named_attach(&a.names, bad[i], &block, &diag), -EINVAL);
        assert_int_equal(ivshm_named_remove(&a.names, bad[i], &diag), -EINVAL);
    }
    assert_int_equal(ivshm_named_create(&a.names, "x", 0, &block, &diag), -EINVAL);
    const uint64_t large[] = {16 * MIB, UINT64_MAX, UINT64_MAX - IVSHM_NAMED_DATA};
    for (size_t i = 0; i < LENGTH(large); i++) {
        assert_int_equal(ivshm_named_create(&a.names, "x", large[i], &block, &diag), -ENOSPC);
        assert_says(diag, "has no room for block x");
    }
    assert_int_equal(ivshm_named_create(&a.names, "x", 1, &block, NULL), 0);
    for (int i = 0; i < IVSHM_HOLDS_MAX - 1; i++)
        assert_int_equal(ivshm_named_attach(&a.names, "x", &many[i], NULL), 0);
    assert_int_equal(ivshm_named_attach(&a.names, "x", &many[0], &diag), -EMFILE);
    side_close(&a);
    assert_all_freed(&region);
    ivshm_region_close(&region);
}

/* Of several that create a name at once, one at most succeeds; and somebody does, in the end. */

#define RACERS 3
#define ROUNDS 60

static pthread_barrier_t line;
static int winners[ROUNDS];

static void *race(void *arg)
{
    struct side s;
    side_open(&s, *(struct ivshm_region **) arg);
    for (int i = 0; i < ROUNDS; i++) {
        struct ivshm_named block;
        pthread_barrier_wait(&line);
        int err = ivshm_named_create(&s.names, "x", 1, &block, NULL);
        must(err == 0 || err == -EEXIST || err == -EAGAIN);
        if (err == 0)
            __atomic_add_fetch(&winners[i], 1, __ATOMIC_RELAXED);
        pthread_barrier_wait(&line);
        if (err == 0) {
            must(ivshm_named_remove(&s.names, "x", NULL) == 0);
            ivshm_named_detach(&s.names, &block);
        }
    }
    side_close(&s);
    return NULL;
}

TEST(test_create_at_once)
{
    struct ivshm_region region = region_new(16 * MIB);
    struct ivshm_region *regions[RACERS] = {&region, &region, &region};
    pthread_barrier_init(&line, NULL, RACERS);
    threads_run(RACERS, race, regions, sizeof(*regions));
    int sum = 0;
    for (int i = 0; i < ROUNDS; i++) {
        assert_in_range(winners[i], 0, 1);
        sum += winners[i];
    }
    assert_true(sum > 0);
    assert_int_equal(count_blocks(&region), 0);
    assert_all_freed(&region);
    ivshm_region_close(&region);
}

/*
 * One creates, removes and frees again and again; others attach, and find what belongs to a block
 * as long as they hold it.
 */
static void *attach_often(void *arg)
{
    struct side s;
    struct ivshm_named block;
    side_open(&s, *(struct ivshm_region **) arg);
    for (int i = 0; i < 300; i++) {
        if (ivshm_named_attach(&s.names, "x", &block, NULL) != 0)
            continue;
        ivshm_a64 *words = (ivshm_a64 *) bytes_of(&s, &block);
        for (int k = 0; k < 8; k++)
            must(ivshm_a64_load_relaxed(&words[k]) == 0);
        ivshm_named_detach(&s.names, &block);
    }
    side_close(&s);
    return NULL;
}

TEST(test_attach_and_remove_at_once)
{
    struct ivshm_region region = region_new(16 * MIB), *arg = &region;
    struct ivshm_named block;
    struct side s;
    pthread_t threads[2];
    side_open(&s, &region);
    for (int i = 0; i < 2; i++)
        must(pthread_create(&threads[i], NULL, attach_often, &arg) == 0);
    for (int i = 0; i < 300; i++) {
        assert_int_equal(ivshm_named_create(&s.names, "x", 64, &block, NULL), 0);
        if (i % 4 == 0)
            sched_yield();
        assert_int_equal(ivshm_named_remove(&s.names, "x", NULL), 0);
        ivshm_named_detach(&s.names, &block);
        /* What is free again is another one's, who writes there what he likes. */
        ivshm_off off;
        struct ivshm_owner self = ivshm_transport_self(&s.t);
        if (ivshm_extent_alloc(&region, self, IVSHM_KIND_USER, 64, &off) == 0) {
            ivshm_a64 *words = ivshm_region_address(&region, off);
            for (int k = 0; k < IVSHM_NAMED_DATA / 8; k++)
                ivshm_a64_store_relaxed(&words[k], 0x5a5a5a5a5a5a5a5a);
            ivshm_extent_free(&region, self, off, 64);
        }
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    side_close(&s);
    assert_all_freed(&region);
    ivshm_region_close(&region);
}

/* Processes that create, attach and remove die at any moment: nothing is left of them. */
static void live_on(void *arg)
{
    struct side s;
    struct ivshm_named own, block;
    side_open(&s, arg);
    for (int i = 0;; i++) {
        const char *const names[] = {"a", "b"};
        bool has_own = ivshm_named_create(&s.names, names[i % 2], 5000, &own, NULL) == 0;
        bool has = ivshm_named_attach(&s.names, names[i / 2 % 2], &block, NULL) == 0;
        if (has)
            ivshm_named_detach(&s.names, &block);
        ivshm_named_remove(&s.names, names[i % 2], NULL);
        if (has_own)
            ivshm_named_detach(&s.names, &own);
    }
}

TEST(test_killed)
{
    int fd = file_new(16 * MIB);
    struct ivshm_region region = region_of_file(fd);
    struct ivshm_process self;
    uint64_t seed = 7;
    pid_t pids[3];
    must(ivshm_process_self(&self, NULL) == 0);
    for (int i = 0; i < 3; i++)
        pids[i] = child_start(live_on, &region);
    for (int k = 0; k < 40; k++) {
        int victim = (int) (random_next(&seed) % 3);
        usleep(random_next(&seed) % 8000);
        child_kill(pids[victim]);
        pids[victim] = child_start(live_on, &region);
    }
    for (int i = 0; i < 3; i++)
        child_kill(pids[i]);
    ivshm_endpoint_reap(&region, &self, NULL);
    assert_all_freed(&region);
    ivshm_region_close(&region);
    close(fd);
}

/* Whatever stands in headers and tables of holds, what is found lies in its extent. */
TEST(test_nonsense)
{
    struct ivshm_region region = region_new(16 * MIB);
    struct ivshm_named block, found;
    struct ivshm_named_info info;
    struct side a, b;
    uint64_t seed = 5;
    side_open(&a, &region);
    side_open(&b, &region);
    assert_int_equal(ivshm_named_create(&a.names, "x", 5000, &block, NULL), 0);
    ivshm_a64 *header = ivshm_region_address(&region, block.off);
    const size_t count = sizeof(struct ivshm_named_shm) / 8;
    uint64_t good[sizeof(struct ivshm_named_shm) / 8];
    for (size_t i = 0; i < count; i++)
        good[i] = header[i].word;
    for (int round = 0; round < 2000; round++) {
        const uint64_t values[] = {
            0,    1,    2,    3,       UINT64_MAX,
            5001, 8192, 8193, 1 << 30, (uint64_t) random_next(&seed) << 32 | random_next(&seed)};
        uint64_t index = 0;
        ivshm_a64_store_relaxed(&header[random_next(&seed) % count],
                                values[random_next(&seed) % LENGTH(values)]);
        while (ivshm_named_next(&region, &index, &info)) {
            assert_true(info.bytes <= 8192 && memchr(info.name, 0, sizeof(info.name)));
            assert_true(ivshm_extent_owned(&region, info.owner, IVSHM_KIND_USER, info.off,
                                           IVSHM_NAMED_DATA + info.bytes));
        }
        if (ivshm_named_attach(&b.names, "x", &found, NULL) == 0) {
            assert_true(found.bytes <= 8192);
            ivshm_named_detach(&b.names, &found);
        }
        ivshm_a64_store_relaxed(&a.names.holds->block[1 + random_next(&seed) % 8],
                                random_next(&seed));
        for (size_t i = 0; round % 4 == 0 && i < count; i++)
            header[i].word = good[i];
    }
    side_close(&a);
    side_close(&b);
    assert_all_freed(&region);
    ivshm_region_close(&region);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create_and_attach),
        cmocka_unit_test(test_remove),
        cmocka_unit_test(test_creator_leaves),
        cmocka_unit_test(test_bad_input),
        cmocka_unit_test(test_create_at_once),
        cmocka_unit_test(test_attach_and_remove_at_once),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_nonsense),
    };
    return RUN(tests);
}
