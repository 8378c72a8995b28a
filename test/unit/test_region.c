/* SPDX-License-Identifier: mpich2 */
#include "unit.h"

#include "ring.h"

#define WORDS IVSHM_SUPERBLOCK_WORDS

/* The bytes of a memory file, to check that a refusal has left them alone. */
static unsigned char *copy_of(int fd, size_t size)
{
    unsigned char *copy = malloc(size);
    must(copy && pread(fd, copy, size, 0) == (ssize_t) size);
    return copy;
}

static void put_word(int fd, uint64_t offset, uint64_t word)
{
    must(pwrite(fd, &word, 8, (off_t) offset) == 8);
}

static uint64_t get_word(int fd, uint64_t offset)
{
    uint64_t word;
    must(pread(fd, &word, 8, (off_t) offset) == 8);
    return word;
}

/* Opening fails with `err`, the message contains `words`, and not a byte is changed. */
static void assert_refused(int fd, size_t size, int err, const char *words)
{
    struct ivshm_region region;
    struct ivshm_diag diag = {""};
    unsigned char *before = copy_of(fd, size);
    assert_int_equal(ivshm_region_open(file_name(fd), &region, &diag), -err);
    assert_says(diag, words);
    assert_says(diag, file_name(fd));
    assert_int_equal(ivshm_region_inspect(file_name(fd), &region, &diag), -err);
    unsigned char *after = copy_of(fd, size);
    assert_memory_equal(before, after, size);
    free(before);
    free(after);
}

TEST(test_geometry)
{
    static const uint64_t sizes[] = {
        4 * MIB,         4 * MIB + 1, 5 * MIB - 3,      16 * MIB - 1,  16 * MIB,
        17 * MIB + 4097, 64 * MIB,    256 * MIB,        256 * MIB + 1, 1024 * MIB,
        1024 * MIB + 1,  4096 * MIB,  1024 * 1024 * MIB};
    for (size_t i = 0; i < LENGTH(sizes); i++) {
        struct ivshm_geometry g, again;
        assert_int_equal(ivshm_geometry_compute(sizes[i], &g, NULL), 0);
        assert_int_equal(g.size, sizes[i]);
        assert_in_range(g.endpoints, 64, IVSHM_ENDPOINTS_MAX);
        assert_int_equal(g.endpoints % 64, 0); /* whole words of the attached bitmap */
        assert_int_equal(g.block_size & (g.block_size - 1), 0);
        assert_true(g.block_size >= IVSHM_PAGE);
        /* One after another, without overlap, to the end. */
        assert_true(g.endpoint_table >= IVSHM_PAGE);
        assert_true(g.block_map >=
                    g.endpoint_table + g.endpoints * sizeof(struct ivshm_endpoint_shm));
        assert_true(g.data >= g.block_map + g.blocks * 8);
        assert_int_equal(g.data % g.block_size, 0);
        assert_true(g.data + g.blocks * g.block_size <= g.size);
        assert_true(g.data + (g.blocks + 1) * g.block_size > g.size);
        assert_true(g.blocks < UINT64_C(1) << 20);
        /* The base extent. */
        assert_int_equal(g.inbox_slots & (g.inbox_slots - 1), 0);
        assert_true(g.attached >= sizeof(struct ivshm_inbox_shm) + g.inbox_slots * 8);
        assert_true(g.small >= g.attached + g.endpoints / 8);
        assert_true(g.large >= g.small + (uint64_t) g.small_cells * g.small_size);
        assert_int_equal(g.base_bytes, g.large + (uint64_t) g.large_cells * g.large_size);
        assert_int_equal(g.attached % IVSHM_LINE, 0);
        assert_int_equal(g.small % IVSHM_LINE, 0);
        assert_int_equal(g.large % IVSHM_PAGE, 0);
        assert_int_equal(g.small_size % IVSHM_LINE, 0);
        assert_int_equal(g.large_size % IVSHM_LINE, 0);
        assert_true(g.small_cells + g.large_cells <= 1 << 16);
        /* All cells of an endpoint fit into one inbox. */
        assert_true(g.small_cells + g.large_cells <= g.inbox_slots);
        /* The pipeline. */
        assert_true(g.chunk_data >= g.pipeline_chunks * sizeof(struct ivshm_chunk_word_shm));
        assert_int_equal(g.pipeline_bytes,
                         g.chunk_data + (uint64_t) g.pipeline_chunks * g.chunk_size);
        /* The ring uses nearly all of its blocks; a payload's length fits into a record. */
        assert_int_equal(g.slot_size % IVSHM_LINE, 0);
        assert_int_equal(g.buffer_size % IVSHM_LINE, 0);
        assert_int_equal(g.ring_bytes, 128 + (uint64_t) g.ring_slots * g.slot_size +
                                           (uint64_t) g.ring_buffers * g.buffer_size);
        assert_true(g.ring_bytes % IVSHM_PAGE > IVSHM_PAGE - g.slot_size);
        assert_true(g.ring_buffers <= IVSHM_RING_BUFFERS_MAX && g.buffer_size <= UINT16_MAX);
        assert_int_equal(g.ring_buffers == 0, g.buffer_size == 0);
        assert_true(g.small_cells + g.large_cells <= IVSHM_CELLS_MAX);
        /* Two ranks and a pipeline in each direction fit into every region. */
        assert_true(g.blocks * g.block_size >= 2 * (g.base_bytes + g.pipeline_bytes));
        /* A function of the size alone. */
        memset(&again, 0xa5, sizeof(again));
        assert_int_equal(ivshm_geometry_compute(sizes[i], &again, NULL), 0);
        assert_int_equal(again.data, g.data);
        assert_int_equal(again.pipeline_bytes, g.pipeline_bytes);
    }
}

TEST(test_geometry_limits)
{
    struct ivshm_geometry g;
    struct ivshm_diag diag;
    assert_int_equal(ivshm_geometry_compute(0, &g, &diag), -ENOSPC);
    assert_int_equal(ivshm_geometry_compute(4 * MIB - 1, &g, &diag), -ENOSPC);
    assert_says(diag, "4095 KiB");
    assert_says(diag, "4 MiB");
    assert_says(diag, "size=64M");
    assert_int_equal(ivshm_geometry_compute(IVSHM_SIZE_MAX + 1, &g, &diag), -EFBIG);
    assert_says(diag, "1024 GiB");
    assert_int_equal(ivshm_geometry_compute(UINT64_MAX, &g, &diag), -EFBIG);
}

TEST(test_format_and_open)
{
    int fd = file_new(4 * MIB);
    struct ivshm_region first = region_of_file(fd), second = region_of_file(fd), third;
    struct ivshm_diag diag;
    assert_int_equal(ivshm_region_probe(&first.map, &diag), IVSHM_FOUND_REGION);
    assert_true(first.id[0] != 0 && first.id[1] != 0);
    assert_memory_equal(first.id, second.id, sizeof(first.id));
    assert_ptr_equal(first.endpoints, (char *) first.map.base + first.geo.endpoint_table);
    assert_ptr_equal(first.block_map, (char *) first.map.base + first.geo.block_map);
    assert_all_freed(&first);

    struct ivshm_region other = region_new(4 * MIB);
    assert_memory_not_equal(first.id, other.id, sizeof(first.id));
    ivshm_region_close(&other);

    assert_int_equal(ivshm_region_inspect(file_name(fd), &third, &diag), 0);
    assert_memory_equal(first.id, third.id, sizeof(first.id));
    ivshm_region_close(&third);
    ivshm_region_close(&second);
    ivshm_region_close(&first);
    assert_null(first.map.base);
    close(fd);
}

TEST(test_inspect_does_not_format)
{
    struct ivshm_region region;
    struct ivshm_diag diag;
    int fd = file_new(4 * MIB);
    assert_int_equal(ivshm_region_inspect(file_name(fd), &region, &diag), -EMEDIUMTYPE);
    assert_says(diag, "unformatted");
    assert_says(diag, "ivshmem format");
    for (uint64_t off = 0; off < IVSHM_PAGE; off += 8)
        assert_int_equal(get_word(fd, off), 0);
    close(fd);
}

/*
 * A formatter that died after any number of words: the next opener completes the format, and keeps
 * what is there. The words are written in the order mark, version.., magic. A formatter that shared
 * the work with another one that died elsewhere may leave any subset; some of these are tried too.
 */
TEST(test_partial_formats)
{
    int whole_fd = file_new(4 * MIB);
    struct ivshm_region whole = region_of_file(whole_fd);
    uint64_t words[WORDS], seed = 7;
    memcpy(words, whole.map.base, sizeof(words));
    for (size_t round = 0; round <= WORDS + 200; round++) {
        int fd = file_new(4 * MIB);
        bool has_id[2] = {false, false};
        for (size_t w = 1; w < WORDS; w++)
            if (round <= WORDS ? w < round : w == 1 || random_next(&seed) % 2) {
                put_word(fd, w * 8, words[w]);
                if (w == 4 || w == 5)
                    has_id[w - 4] = true;
            }
        struct ivshm_region region = region_of_file(fd);
        for (size_t w = 0; w < WORDS; w++)
            if (w != 4 && w != 5)
                assert_int_equal(get_word(fd, w * 8), words[w]);
        for (int i = 0; i < 2; i++) {
            assert_int_not_equal(region.id[i], 0);
            if (has_id[i])
                assert_int_equal(region.id[i], whole.id[i]);
        }
        ivshm_region_close(&region);
        close(fd);
    }
    ivshm_region_close(&whole);
    close(whole_fd);
}

TEST(test_partial_format_counts_as_unformatted)
{
    struct ivshm_region region;
    struct ivshm_diag diag;
    int fd = file_new(4 * MIB);
    put_word(fd, 8, IVSHM_MARK);
    put_word(fd, 16, IVSHM_VERSION);
    assert_int_equal(ivshm_region_inspect(file_name(fd), &region, &diag), -EMEDIUMTYPE);
    assert_says(diag, "unformatted");
    close(fd);
}

TEST(test_foreign_first_page)
{
    static const uint64_t offsets[] = {0, 8, 16, 24, 32, 48, 144, 152, 512, 4080, 4088};
    static const uint64_t values[] = {1, UINT64_C(0xff00000000000000), UINT64_C(0x004c4d58)};
    for (size_t o = 0; o < LENGTH(offsets); o++)
        for (size_t v = 0; v < LENGTH(values); v++) {
            int fd = file_new(4 * MIB);
            put_word(fd, offsets[o], values[v]);
            assert_refused(fd, 4 * MIB, EMEDIUMTYPE, "was not changed");
            assert_refused(fd, 4 * MIB, EMEDIUMTYPE, "ivshmem format --force");
            close(fd);
        }
    /* A partial format in which one word is not what we would write. */
    for (uint64_t w = 2; w < IVSHM_PAGE / 8; w += w < WORDS ? 1 : 97) {
        int fd = file_new(4 * MIB);
        put_word(fd, 8, IVSHM_MARK);
        put_word(fd, w * 8, 0x5555);
        if (w != 4 && w != 5) /* an id may have any value */
            assert_refused(fd, 4 * MIB, EMEDIUMTYPE, "was not changed");
        close(fd);
    }
}

/* The first page is zero, but our tables would overwrite something, even in their last word. */
TEST(test_foreign_tables)
{
    struct ivshm_geometry g;
    assert_int_equal(ivshm_geometry_compute(4 * MIB, &g, NULL), 0);
    uint64_t offsets[] = {IVSHM_PAGE, IVSHM_PAGE + 512, g.block_map - 8, g.block_map, g.data - 8};
    for (size_t o = 0; o < LENGTH(offsets); o++) {
        int fd = file_new(4 * MIB);
        put_word(fd, offsets[o], 1);
        assert_refused(fd, 4 * MIB, EMEDIUMTYPE, "what follows is not");
        close(fd);
    }
    /* The data blocks may hold anything. */
    int fd = file_new(4 * MIB);
    put_word(fd, g.data, 1);
    struct ivshm_region region = region_of_file(fd);
    ivshm_region_close(&region);
    close(fd);
}

/* What is mapped already is taken if it is a region, and never formatted. */
TEST(test_region_of_map)
{
    int fd = file_new(4 * MIB);
    struct ivshm_map map;
    struct ivshm_region region;
    struct ivshm_diag diag = {""};
    assert_int_equal(ivshm_map_open(file_name(fd), false, &map, &diag), 0);
    assert_int_equal(ivshm_region_of_map(&map, &region, &diag), -EMEDIUMTYPE);
    assert_says(diag, "is unformatted");
    assert_int_equal(*(uint64_t *) ivshm_region_base(&region), 0);
    struct ivshm_region formatted = region_of_file(fd);
    assert_int_equal(ivshm_region_of_map(&map, &region, &diag), 0);
    assert_memory_equal(ivshm_region_id(&region), ivshm_region_id(&formatted), 16);
    assert_ptr_equal(ivshm_region_base(&region), map.base);
    ivshm_region_close(&formatted);
    ivshm_map_close(&map);
    close(fd);
}

TEST(test_other_version)
{
    static const uint64_t versions[] = {0, 1, IVSHM_VERSION - 1, IVSHM_VERSION + 1, UINT64_MAX};
    for (size_t i = 0; i < LENGTH(versions); i++) {
        char text[64];
        int fd = file_new(4 * MIB);
        struct ivshm_region region = region_of_file(fd);
        put_word(fd, 16, versions[i]);
        snprintf(text, sizeof(text), "layout version %llu", (unsigned long long) versions[i]);
        assert_refused(fd, 4 * MIB, EPROTONOSUPPORT, text);
        assert_refused(fd, 4 * MIB, EPROTONOSUPPORT, "needs version 9");
        ivshm_region_close(&region);
        close(fd);
    }
}

TEST(test_other_sizes)
{
    int fd = file_new(8 * MIB);
    struct ivshm_region region = region_of_file(fd);
    ivshm_region_close(&region);
    assert_int_equal(ftruncate(fd, 7 * MIB), 0);
    assert_refused(fd, 7 * MIB, ENOSPC, "formatted for 8 MiB");
    assert_refused(fd, 7 * MIB, ENOSPC, "has 7 MiB");
    assert_int_equal(ftruncate(fd, IVSHM_PAGE), 0);
    assert_refused(fd, IVSHM_PAGE, ENOSPC, "formatted for 8 MiB");
    /* A file that is larger than formatted does no harm; the formatted size counts. */
    assert_int_equal(ftruncate(fd, 32 * MIB), 0);
    region = region_of_file(fd);
    assert_int_equal(region.geo.size, 8 * MIB);
    assert_int_equal(region.map.size, 32 * MIB);
    ivshm_region_close(&region);
    close(fd);
}

TEST(test_too_small)
{
    static const uint64_t sizes[] = {1, 100, 4095, 4096, 4097, 1 << 20, (4 << 20) - 1};
    for (size_t i = 0; i < LENGTH(sizes); i++) {
        struct ivshm_region region;
        struct ivshm_diag diag = {""};
        int fd = file_new(sizes[i]);
        assert_int_equal(ivshm_region_open(file_name(fd), &region, &diag), -ENOSPC);
        assert_says(diag, "at least 4 MiB are needed");
        close(fd);
    }
}

/* Too small, and foreign data: still refused with a reason. */
TEST(test_too_small_and_foreign)
{
    static const uint64_t sizes[] = {100, 4096, 8192, 1 << 20};
    for (size_t i = 0; i < LENGTH(sizes); i++) {
        struct ivshm_region region;
        struct ivshm_diag diag = {""};
        int fd = file_new(sizes[i]);
        put_word(fd, 16, 1);
        int err = ivshm_region_open(file_name(fd), &region, &diag);
        assert_true(err == -ENOSPC || err == -EMEDIUMTYPE);
        assert_says(diag, "at least 4 MiB are needed");
        assert_int_equal(get_word(fd, 16), 1);
        close(fd);
    }
}

TEST(test_damaged_superblock)
{
    for (size_t w = 1; w < WORDS; w++) {
        static const uint64_t bad[] = {0, 3, UINT64_MAX};
        for (size_t b = 0; b < LENGTH(bad); b++) {
            struct ivshm_region region;
            struct ivshm_diag diag = {""};
            int fd = file_new(4 * MIB);
            region = region_of_file(fd);
            ivshm_region_close(&region);
            uint64_t good;
            must(pread(fd, &good, sizeof(good), (off_t) w * 8) == sizeof(good));
            if (w == 2 || ((w == 4 || w == 5) && bad[b] != 0) || bad[b] == good) {
                close(fd);
                continue; /* another version; an id may have any value but 0; no damage */
            }
            put_word(fd, w * 8, bad[b]);
            unsigned char *before = copy_of(fd, 4 * MIB), *after;
            int err = ivshm_region_open(file_name(fd), &region, &diag);
            if (w == 3 && bad[b] >= IVSHM_SIZE_MIN && bad[b] <= IVSHM_SIZE_MAX)
                assert_int_equal(err, -ENOSPC); /* the size: more than there is */
            else {
                assert_int_equal(err, -EBADMSG);
                assert_says(diag, "is damaged");
                assert_says(diag, "ivshmem format --force");
            }
            after = copy_of(fd, 4 * MIB);
            assert_memory_equal(before, after, 4 * MIB);
            free(before);
            free(after);
            close(fd);
        }
    }
}

TEST(test_forced_format)
{
    struct ivshm_map map;
    struct ivshm_diag diag;
    int fd = file_new(4 * MIB);
    unsigned char *junk = malloc(4 * MIB);
    memset(junk, 0xee, 4 * MIB);
    assert_int_equal(pwrite(fd, junk, 4 * MIB, 0), 4 * MIB);
    free(junk);
    assert_int_equal(ivshm_map_open(file_name(fd), false, &map, &diag), 0);
    assert_int_equal(ivshm_region_probe(&map, &diag), IVSHM_FOUND_FOREIGN);
    assert_int_equal(ivshm_region_format(&map, &diag), 0);
    struct ivshm_region region = region_of_file(fd), again;
    assert_all_freed(&region);

    /* Formatted again: another id, and all that was held is free. */
    struct ivshm_endpoint ep;
    assert_int_equal(ivshm_endpoint_join(&region, "job", 0, 1, &ep, &diag), 0);
    assert_int_equal(ivshm_region_format(&map, &diag), 0);
    again = region_of_file(fd);
    assert_memory_not_equal(region.id, again.id, sizeof(again.id));
    assert_all_freed(&again);
    ivshm_region_close(&again);
    ivshm_region_close(&region);
    ivshm_map_close(&map);
    close(fd);

    fd = file_new(8192);
    assert_int_equal(ivshm_map_open(file_name(fd), false, &map, &diag), 0);
    assert_int_equal(ivshm_region_format(&map, &diag), -ENOSPC);
    ivshm_map_close(&map);
    close(fd);
}

TEST(test_resolve)
{
    struct ivshm_region r = region_new(4 * MIB);
    uint64_t data = r.geo.data, size = r.geo.size;
    char *base = r.map.base;
#define RESOLVE(off, len) ivshm_region_resolve(&r, (ivshm_off){off}, len)
    assert_ptr_equal(RESOLVE(data, 0), base + data);
    assert_ptr_equal(RESOLVE(data, size - data), base + data);
    assert_null(RESOLVE(data, size - data + 1));
    assert_null(RESOLVE(data - IVSHM_LINE, 8));
    assert_null(RESOLVE(0, 8));
    assert_null(RESOLVE(data + 1, 8));
    assert_null(RESOLVE(data + 63, 8));
    assert_ptr_equal(RESOLVE(data + 64, 8), base + data + 64);
    assert_ptr_equal(RESOLVE(size - 64, 64), base + size - 64);
    assert_null(RESOLVE(size - 64, 65));
    assert_null(RESOLVE(size, 0));
    assert_null(RESOLVE(size + 64, 0));
    assert_null(RESOLVE(data, UINT64_MAX));
    assert_null(RESOLVE(data + 64, UINT64_MAX - data - 63)); /* the sum wraps to 0 */
    assert_null(RESOLVE(UINT64_MAX - 63, 64));
    assert_null(RESOLVE(UINT64_C(1) << 63, UINT64_C(1) << 63));
    ivshm_region_close(&r);
}

/* Threads that open at once: all see one id. */

#define OPENERS 8

struct opener {
    int fd;
    pthread_barrier_t *barrier;
    uint64_t id[2];
};

static void *open_at_once(void *arg)
{
    struct opener *o = arg;
    struct ivshm_region region;
    struct ivshm_diag diag = {""};
    char name[32];
    snprintf(name, sizeof(name), "/proc/self/fd/%d", o->fd);
    pthread_barrier_wait(o->barrier);
    int err = ivshm_region_open(name, &region, &diag);
    if (err)
        fprintf(stderr, "%s\n", diag.text);
    must(err == 0);
    memcpy(o->id, region.id, sizeof(o->id));
    ivshm_region_close(&region);
    return NULL;
}

TEST(test_concurrent_format)
{
    for (int round = 0; round < 50; round++) {
        struct opener openers[OPENERS];
        pthread_barrier_t barrier;
        int fd = file_new(4 * MIB);
        pthread_barrier_init(&barrier, NULL, OPENERS);
        for (int i = 0; i < OPENERS; i++)
            openers[i] = (struct opener){.fd = fd, .barrier = &barrier};
        threads_run(OPENERS, open_at_once, openers, sizeof(openers[0]));
        for (int i = 0; i < OPENERS; i++)
            assert_memory_equal(openers[i].id, openers[0].id, sizeof(openers[0].id));
        pthread_barrier_destroy(&barrier);
        close(fd);
    }
}

/* Openers that join at once: nobody's claim is taken for foreign tables, or overwritten. */
static void *open_and_join(void *arg)
{
    struct opener *o = arg;
    struct ivshm_region region;
    struct ivshm_endpoint ep;
    struct ivshm_diag diag = {""};
    char name[32];
    snprintf(name, sizeof(name), "/proc/self/fd/%d", o->fd);
    pthread_barrier_wait(o->barrier);
    must(ivshm_region_open(name, &region, &diag) == 0);
    must(ivshm_endpoint_join(&region, "job", 0, 1, &ep, &diag) == 0);
    ivshm_endpoint_publish(&ep, NULL);
    must(ivshm_endpoint_is_live(&region, ep.owner));
    pthread_barrier_wait(o->barrier);
    must(ivshm_endpoint_is_live(&region, ep.owner));
    pthread_barrier_wait(o->barrier);
    ivshm_endpoint_leave(&ep);
    ivshm_region_close(&region);
    return NULL;
}

TEST(test_concurrent_format_and_join)
{
    for (int round = 0; round < 20; round++) {
        struct opener openers[OPENERS];
        pthread_barrier_t barrier;
        int fd = file_new(16 * MIB);
        pthread_barrier_init(&barrier, NULL, OPENERS);
        for (int i = 0; i < OPENERS; i++)
            openers[i] = (struct opener){.fd = fd, .barrier = &barrier};
        threads_run(OPENERS, open_and_join, openers, sizeof(openers[0]));
        struct ivshm_region region = region_of_file(fd);
        assert_all_freed(&region);
        ivshm_region_close(&region);
        pthread_barrier_destroy(&barrier);
        close(fd);
    }
}

static void format_and_die(void *arg)
{
    struct ivshm_region region;
    ivshm_region_open(arg, &region, NULL);
}

/* Several are killed while they format: the next opener finds or makes a whole region. */
TEST(test_killed_formatters)
{
    uint64_t seed = 3;
    for (int round = 0; round < 40; round++) {
        pid_t pids[3];
        int fd = file_new(4 * MIB);
        for (size_t i = 0; i < LENGTH(pids); i++)
            pids[i] = child_start(format_and_die, (char *) file_name(fd));
        usleep(random_next(&seed) % 1500);
        for (size_t i = 0; i < LENGTH(pids); i++)
            kill(pids[i], SIGKILL);
        struct ivshm_region region = region_of_file(fd);
        for (size_t i = 0; i < LENGTH(pids); i++)
            child_wait(pids[i]);
        struct ivshm_region again = region_of_file(fd);
        assert_memory_equal(region.id, again.id, sizeof(region.id));
        assert_all_freed(&region);
        ivshm_region_close(&again);
        ivshm_region_close(&region);
        close(fd);
    }
}

/* Without a name: the first device that has a region or is empty. */

#define PCI "bus/pci/devices/"
static char sysfs[256];
static bool is_faked;

/* The folders of the devices, innermost first. */
static const char *const folders[] = {"/bus/pci/devices", "/bus/pci", "/bus", ""};

/* Replaces core's. */
const char *ivshm_device_sysfs(void)
{
    return is_faked ? sysfs : "/sys";
}

static void add_device(const char *address, uint64_t size, uint64_t first_word)
{
    char path[600];
    static const char *const files[] = {"vendor", "device"}, *const texts[] = {"0x1af4\n",
                                                                               "0x1110\n"};
    snprintf(path, sizeof(path), "%s/" PCI "%s", sysfs, address);
    must(mkdir(path, 0700) == 0);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/" PCI "%s/%s", sysfs, address, files[i]);
        int fd = open(path, O_CREAT | O_WRONLY, 0600);
        must(fd >= 0 && write(fd, texts[i], 7) == 7);
        close(fd);
    }
    snprintf(path, sizeof(path), "%s/" PCI "%s/" IVSHM_DEVICE_BAR, sysfs, address);
    int fd = open(path, O_CREAT | O_RDWR, 0600);
    must(fd >= 0 && ftruncate(fd, (off_t) size) == 0);
    put_word(fd, 0, first_word);
    close(fd);
}

static void remove_device(const char *address)
{
    static const char *const names[] = {"/vendor", "/device", ("/" IVSHM_DEVICE_BAR), ""};
    char path[600];
    for (size_t i = 0; i < LENGTH(names); i++) {
        snprintf(path, sizeof(path), "%s/" PCI "%s%s", sysfs, address, names[i]);
        must(remove(path) == 0);
    }
}

TEST(test_first_device)
{
    struct ivshm_region region, again;
    struct ivshm_diag diag = {""};
    const char *tmp = getenv("TMPDIR");
    snprintf(sysfs, sizeof(sysfs), "%s/ivshm-region.XXXXXX", tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(sysfs));
    for (int i = 2; i >= 0; i--) {
        char path[300];
        snprintf(path, sizeof(path), "%s%s", sysfs, folders[i]);
        must(mkdir(path, 0700) == 0);
    }
    is_faked = true;

    assert_int_equal(ivshm_region_open(NULL, &region, &diag), -ENODEV);
    assert_says(diag, "no ivshmem device");
    assert_says(diag, "-device ivshmem-plain");
    assert_says(diag, "MPIR_CVAR_NEMESIS_IVSHMEM_REGION");
    assert_int_equal(ivshm_region_inspect(NULL, &region, &diag), -ENODEV);

    /* Foreign data alone: its own reason. */
    add_device("0000:00:04.0", 4 * MIB, 0x1234);
    assert_int_equal(ivshm_region_open(NULL, &region, &diag), -EMEDIUMTYPE);
    assert_says(diag, "0000:00:04.0");
    assert_says(diag, "ivshmem format --force 0000:00:04.0");

    /* And one that is too small. */
    add_device("0000:00:03.0", MIB, 0);
    assert_int_equal(ivshm_region_open(NULL, &region, &diag), -ENOSPC);
    assert_says(diag, "none of the 2 ivshmem devices");
    assert_says(diag, "1024 KiB");

    /* Then an unformatted one: it is used, and the others are left alone. */
    add_device("0000:00:05.0", 4 * MIB, 0);
    assert_int_equal(ivshm_region_inspect(NULL, &region, &diag), -ENOSPC);
    assert_int_equal(ivshm_region_open(NULL, &region, &diag), 0);
    assert_string_equal(region.map.name, "0000:00:05.0");
    assert_true(region.map.is_device);
    assert_int_equal(ivshm_region_open(NULL, &again, &diag), 0);
    assert_memory_equal(region.id, again.id, sizeof(region.id));
    ivshm_region_close(&again);
    assert_int_equal(ivshm_region_inspect(NULL, &again, &diag), 0);
    ivshm_region_close(&again);
    ivshm_region_close(&region);
    assert_int_equal(ivshm_region_open("0000:00:04.0", &region, &diag), -EMEDIUMTYPE);

    remove_device("0000:00:03.0");
    remove_device("0000:00:04.0");
    remove_device("0000:00:05.0");
    for (size_t i = 0; i < LENGTH(folders); i++) {
        char path[300];
        snprintf(path, sizeof(path), "%s%s", sysfs, folders[i]);
        must(rmdir(path) == 0);
    }
    is_faked = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_geometry),
        cmocka_unit_test(test_geometry_limits),
        cmocka_unit_test(test_format_and_open),
        cmocka_unit_test(test_inspect_does_not_format),
        cmocka_unit_test(test_partial_formats),
        cmocka_unit_test(test_partial_format_counts_as_unformatted),
        cmocka_unit_test(test_foreign_first_page),
        cmocka_unit_test(test_foreign_tables),
        cmocka_unit_test(test_region_of_map),
        cmocka_unit_test(test_other_version),
        cmocka_unit_test(test_other_sizes),
        cmocka_unit_test(test_too_small),
        cmocka_unit_test(test_too_small_and_foreign),
        cmocka_unit_test(test_damaged_superblock),
        cmocka_unit_test(test_forced_format),
        cmocka_unit_test(test_resolve),
        cmocka_unit_test(test_concurrent_format),
        cmocka_unit_test(test_concurrent_format_and_join),
        cmocka_unit_test(test_killed_formatters),
        cmocka_unit_test(test_first_device),
    };
    return RUN(tests);
}
