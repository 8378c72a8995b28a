/* SPDX-License-Identifier: mpich2 */
/*
 * The layout to the byte, as doc/layout.md defines it. A failure here means another layout version.
 */
#include "unit.h"

#define AT(type, field, offset)                                                                    \
    {                                                                                              \
#type "." #field, offsetof(struct type, field), offset                                     \
    }
#define SIZE(type, size)                                                                           \
    {                                                                                              \
        "size of " #type, sizeof(struct type), size                                                \
    }

TEST(test_offsets)
{
    static const struct {
        const char *what;
        size_t found, expected;
    } rows[] = {
        AT(ivshm_superblock_shm, magic, 0),
        AT(ivshm_superblock_shm, mark, 8),
        AT(ivshm_superblock_shm, version, 16),
        AT(ivshm_superblock_shm, size, 24),
        AT(ivshm_superblock_shm, id, 32),
        AT(ivshm_superblock_shm, endpoints, 48),
        AT(ivshm_superblock_shm, endpoint_table, 56),
        AT(ivshm_superblock_shm, blocks, 64),
        AT(ivshm_superblock_shm, block_size, 72),
        AT(ivshm_superblock_shm, block_map, 80),
        AT(ivshm_superblock_shm, data, 88),
        AT(ivshm_superblock_shm, inbox_slots, 96),
        AT(ivshm_superblock_shm, small_cells, 104),
        AT(ivshm_superblock_shm, small_size, 112),
        AT(ivshm_superblock_shm, large_cells, 120),
        AT(ivshm_superblock_shm, large_size, 128),
        AT(ivshm_superblock_shm, pipeline_chunks, 136),
        AT(ivshm_superblock_shm, chunk_size, 144),
        AT(ivshm_superblock_shm, ring_slots, 152),
        AT(ivshm_superblock_shm, slot_size, 160),
        AT(ivshm_superblock_shm, ring_buffers, 168),
        AT(ivshm_superblock_shm, buffer_size, 176),
        SIZE(ivshm_superblock_shm, 184),

        AT(ivshm_endpoint_shm, claim, 0),
        AT(ivshm_endpoint_shm, base, 64),
        AT(ivshm_endpoint_shm, boot_id, 72),
        AT(ivshm_endpoint_shm, vm_uuid, 88),
        AT(ivshm_endpoint_shm, pid_ns, 104),
        AT(ivshm_endpoint_shm, pid, 112),
        AT(ivshm_endpoint_shm, start_time, 120),
        AT(ivshm_endpoint_shm, joined_at, 128),
        AT(ivshm_endpoint_shm, rank, 136),
        AT(ivshm_endpoint_shm, job_size, 144),
        AT(ivshm_endpoint_shm, vm_generation, 152),
        AT(ivshm_endpoint_shm, traits, 168),
        AT(ivshm_endpoint_shm, seal, 176),
        AT(ivshm_endpoint_shm, bell, 184),
        AT(ivshm_endpoint_shm, host, 192),
        AT(ivshm_endpoint_shm, job, 256),
        SIZE(ivshm_endpoint_shm, 512),

        AT(ivshm_inbox_shm, head, 0),
        AT(ivshm_inbox_shm, sleeper, 8),
        AT(ivshm_inbox_shm, tail_hint, 64),
        AT(ivshm_inbox_shm, slot, 128),

        AT(ivshm_cell_shm, state, 0),
        AT(ivshm_cell_shm, len, 4),
        AT(ivshm_cell_shm, stream, 8),
        AT(ivshm_cell_shm, sequence, 12),
        AT(ivshm_cell_shm, payload, 16),

        AT(ivshm_ring_shm, head, 0),
        AT(ivshm_ring_shm, idle, 64),
        AT(ivshm_ring_shm, answer, 72),
        SIZE(ivshm_ring_shm, 128),
        AT(ivshm_slot_shm, word, 0),
        AT(ivshm_slot_shm, payload, 8),

        AT(ivshm_chunk_word_shm, len, 0),
        SIZE(ivshm_chunk_word_shm, 64),

        AT(ivshm_told_shm, doing, 0),
        AT(ivshm_told_shm, time, 8),
        AT(ivshm_told_shm, eager_sent, 16),
        AT(ivshm_told_shm, large_sent, 48),
        AT(ivshm_told_shm, copied_once, 80),
        AT(ivshm_told_shm, tcp_sent, 88),
        AT(ivshm_told_shm, no_room, 104),
        AT(ivshm_told_shm, sleeps, 112),
        AT(ivshm_told_shm, waited, 120),
        SIZE(ivshm_told_shm, 128),

        AT(ivshm_coop_shm, word, 0),
        SIZE(ivshm_coop_shm, 64),
    };
    for (size_t i = 0; i < LENGTH(rows); i++)
        if (rows[i].found != rows[i].expected)
            fail_msg("%s is %zu, version 9 has %zu", rows[i].what, rows[i].found, rows[i].expected);
}

TEST(test_constants)
{
    assert_memory_equal(&(uint64_t){IVSHM_MAGIC}, "IVSHMPI", 8);
    assert_memory_equal(&(uint64_t){IVSHM_MARK}, "format..", 8);
    assert_int_equal(IVSHM_VERSION, 9);
    assert_int_equal(IVSHM_CLAIM_STATE_BITS + IVSHM_CLAIM_PID_BITS + IVSHM_CLAIM_HOST_BITS +
                         IVSHM_CLAIM_GEN_BITS,
                     64);
    /* All-zero is a valid empty region. */
    assert_int_equal(IVSHM_CLAIM_FREE, 0);
    assert_int_equal(IVSHM_CELL_FREE, 0);
    assert_int_equal(IVSHM_RECORD_NONE, 0);
    assert_true(IVSHM_KIND_BASE > 0 && IVSHM_KIND_PIPELINE > 0 && IVSHM_KIND_RING > 0);
    /* The block word has 16 bits for the endpoint, from 1. */
    assert_true(IVSHM_ENDPOINTS_MAX < 1 << 16);
}

/* golden-v9.hex is the output of `od -A x -t x1`; lines of zeroes may be omitted. */
static void read_golden(unsigned char page[IVSHM_PAGE])
{
    char path[4096], line[256];
    snprintf(path, sizeof(path), "%s", __FILE__);
    snprintf(strrchr(path, '/'), 32, "/golden-v9.hex");
    FILE *file = fopen(path, "r");
    if (!file)
        fail_msg("cannot read %s", path);
    memset(page, 0, IVSHM_PAGE);
    while (fgets(line, sizeof(line), file)) {
        char *c;
        size_t offset = strtoul(line, &c, 16);
        if (line[0] == '#' || line[0] == '*')
            continue;
        for (char *next; offset < IVSHM_PAGE; offset++, c = next) {
            unsigned long byte = strtoul(c, &next, 16);
            if (next == c)
                break;
            page[offset] = (unsigned char) byte;
        }
    }
    fclose(file);
}

/* 16 MiB, with an id from an earlier formatter that died. */
TEST(test_golden_image)
{
    unsigned char golden[IVSHM_PAGE];
    static const uint64_t words[] = {
        0, IVSHM_MARK, 0, 0, UINT64_C(0x0123456789abcdef), UINT64_C(0xfedcba9876543210)};
    int fd = file_new(16 * MIB);
    assert_int_equal(pwrite(fd, words, sizeof(words), 0), sizeof(words));
    struct ivshm_region region = region_of_file(fd);
    read_golden(golden);
    for (size_t i = 0; i < IVSHM_PAGE; i++)
        if (((unsigned char *) region.map.base)[i] != golden[i])
            fail_msg("byte %zu is %02x, golden-v9.hex has %02x", i,
                     ((unsigned char *) region.map.base)[i], golden[i]);
    ivshm_region_close(&region);
    close(fd);
}

/* A program of this version opens the golden image as it is. */
TEST(test_golden_image_is_opened)
{
    unsigned char golden[IVSHM_PAGE];
    int fd = file_new(16 * MIB);
    read_golden(golden);
    assert_int_equal(pwrite(fd, golden, sizeof(golden), 0), sizeof(golden));
    struct ivshm_region region = region_of_file(fd);
    assert_int_equal(region.id[0], UINT64_C(0x0123456789abcdef));
    assert_int_equal(region.id[1], UINT64_C(0xfedcba9876543210));
    assert_memory_equal(region.map.base, golden, IVSHM_PAGE);
    ivshm_region_close(&region);
    close(fd);
}

/* What a process tells lies between its small and its large cells, which leave room for it. */
TEST(test_told)
{
    struct ivshm_geometry geo;
    for (uint64_t size = IVSHM_SIZE_MIN; size <= IVSHM_SIZE_MAX; size += size / 8) {
        assert_int_equal(ivshm_geometry_compute(size, &geo, NULL), 0);
        assert_true(geo.told >= geo.small + (uint64_t) geo.small_cells * geo.small_size);
        assert_int_equal(geo.told + sizeof(struct ivshm_told_shm), geo.large);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_told),
        cmocka_unit_test(test_offsets),
        cmocka_unit_test(test_constants),
        cmocka_unit_test(test_golden_image),
        cmocka_unit_test(test_golden_image_is_opened),
    };
    return RUN(tests);
}
