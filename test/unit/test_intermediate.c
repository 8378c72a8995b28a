/* SPDX-License-Identifier: mpich2 */
/*
 * What other processes see in the middle of an operation. The code of core is compiled into this
 * file, with a hook that checks the state before each store, or changes what is about to be loaded.
 */
#define IVSHM_STEPS
#include "unit.h"

#include "core/channel.c"
#include "core/endpoint.c"
#include "core/region.c"
#include "core/transport.c"

static struct ivshm_map *watched;
static uint32_t unformatted, formatted; /* how often the region was found in this state */

static struct ivshm_endpoint_shm *entry; /* changes owner after this many loads: */
static uint32_t loads_left;

static void take_entry(uint32_t generation)
{
    ivshm_a64_store_relaxed(&entry->claim, claim_word_of(IVSHM_CLAIM_LIVE, 1, 1, generation));
    ivshm_a64_store_relaxed(&entry->pid, generation);
    ivshm_a64_store_relaxed(&entry->base, generation);
    ivshm_a64_store_relaxed(&entry->rank, generation);
}

static struct ivshm_transport *leaver; /* sends and leaves after this many loads of its claim */

static void send_and_leave(void)
{
    struct ivshm_transport *t = leaver;
    struct ivshm_outgoing out;
    struct ivshm_channel *channel = NULL;
    leaver = NULL;
    for (uint32_t i = 0; i < t->region->geo.endpoints; i++)
        channel = t->channels[i] ? t->channels[i] : channel;
    must(ivshm_message_reserve(t, channel, 1, 0, &out) == 0);
    out.payload[0] = 2;
    ivshm_message_publish(t, channel, &out, 1);
    ivshm_transport_close(t);
}

void ivshm_access_step(const void *word, bool writes)
{
    struct ivshm_map *map = watched;
    if (!writes && leaver && word == claim_word(leaver->region, leaver->endpoint.owner.endpoint) &&
        loads_left-- == 0)
        send_and_leave();
    if (!writes && entry && loads_left-- == 0)
        take_entry(2);
    if (!writes || !map)
        return;
    watched = NULL; /* not while the test itself reads */
    struct ivshm_region seen = {.map = *map};
    if (ivshm_region_probe(map, NULL) == IVSHM_FOUND_REGION) {
        must(load_superblock(&seen, NULL) == 0);
        formatted++;
    } else {
        must(ivshm_region_probe(map, NULL) == IVSHM_FOUND_UNFORMATTED);
        unformatted++;
    }
    watched = map;
}

/* Edges S1 and S2: a partial format is never taken for a region, nor for foreign data. */
TEST(test_format)
{
    struct ivshm_map map;
    struct ivshm_geometry geo;
    int fd = file_new(4 * MIB);
    assert_int_equal(ivshm_map_open(file_name(fd), false, &map, NULL), 0);
    assert_int_equal(ivshm_geometry_compute(map.size, &geo, NULL), 0);
    for (int again = 0; again < 2; again++) { /* the second time by an opener that comes late */
        watched = &map;
        write_superblock(&map, &geo);
        watched = NULL;
        assert_int_equal(unformatted, IVSHM_SUPERBLOCK_WORDS);
        assert_int_equal(formatted, again * IVSHM_SUPERBLOCK_WORDS);
    }
    ivshm_map_close(&map);
    close(fd);
}

/* Edge E3: whatever is read of an entry belongs to one owner, even if the entry changes hands. */
TEST(test_read)
{
    struct ivshm_region r = region_new(4 * MIB);
    uint32_t of_first = 0, of_second = 0;
    for (uint32_t k = 0; of_first == 0; k++) {
        struct ivshm_endpoint_info info;
        loads_left = UINT32_MAX;
        entry = &r.endpoints[5];
        take_entry(1);
        loads_left = k;
        assert_int_equal(ivshm_endpoint_read(&r, 5, &info), 0);
        entry = NULL;
        assert_int_equal(info.process.pid, info.claim.generation);
        assert_int_equal(info.base.bytes, info.claim.generation);
        assert_int_equal(info.rank, info.claim.generation);
        of_second += info.claim.generation == 2;
        of_first += info.claim.generation == 1;
    }
    assert_true(of_second > 3);
    ivshm_region_close(&r);
}

/* Edge E2: a peer that is forgotten has nothing left in our inbox, whenever it sends and leaves. */
TEST(test_forget)
{
    bool left = true;
    uint32_t k;
    for (k = 0; left; k++) {
        struct ivshm_region r = region_new(4 * MIB);
        struct ivshm_transport a, b;
        struct ivshm_channel *channel;
        struct ivshm_incoming in;
        struct ivshm_outgoing out;
        assert_int_equal(ivshm_transport_open(&a, &r, "job", 0, 2, NULL), 0);
        assert_int_equal(ivshm_transport_open(&b, &r, "job", 1, 2, NULL), 0);
        assert_int_equal(ivshm_channel_open(&a, b.endpoint.owner, &channel, NULL), 0);
        assert_int_equal(ivshm_message_reserve(&a, channel, 1, 0, &out), 0);
        out.payload[0] = 1;
        ivshm_message_publish(&a, channel, &out, 1);
        assert_int_equal(ivshm_transport_receive(&b, &in, NULL), 1);
        ivshm_message_release(&in);

        loads_left = k;
        leaver = &a;
        ivshm_transport_watch(&b);
        left = !leaver;
        leaver = NULL;
        if (left) {
            assert_int_equal(ivshm_transport_receive(&b, &in, NULL), 1);
            assert_int_equal(in.payload[0], 2);
            ivshm_message_release(&in);
        } else {
            ivshm_transport_close(&a);
        }
        ivshm_transport_close(&b);
        assert_all_freed(&r);
        ivshm_region_close(&r);
    }
    assert_true(k > 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_format), cmocka_unit_test(test_read),
                                       cmocka_unit_test(test_forget)};
    return RUN(tests);
}
