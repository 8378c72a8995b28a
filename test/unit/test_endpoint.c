/* SPDX-License-Identifier: mpich2 */
#include "unit.h"

#include <sys/syscall.h>
#include <time.h>

static ivshm_a64 *claim_at(struct ivshm_region *r, uint32_t index)
{
    return &r->endpoints[index].claim;
}

static struct ivshm_endpoint joined(struct ivshm_region *r)
{
    struct ivshm_endpoint ep;
    struct ivshm_diag diag = {""};
    if (ivshm_endpoint_join(r, "job", 0, 1, &ep, &diag) != 0) {
        fprintf(stderr, "%s\n", diag.text);
        abort();
    }
    return ep;
}

static struct ivshm_endpoint live(struct ivshm_region *r)
{
    struct ivshm_endpoint ep = joined(r);
    ivshm_endpoint_publish(&ep, NULL);
    return ep;
}

static struct ivshm_reaped reap(struct ivshm_region *r)
{
    struct ivshm_process self;
    struct ivshm_reaped reaped;
    must(ivshm_process_self(&self, NULL) == 0);
    ivshm_endpoint_reap(r, &self, &reaped);
    return reaped;
}

static uint64_t blocks_of_base(const struct ivshm_region *r)
{
    return (r->geo.base_bytes + r->geo.block_size - 1) / r->geo.block_size;
}

TEST(test_join_publish_leave)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_endpoint ep;
    struct ivshm_endpoint_info info;
    struct ivshm_diag diag;
    char host[64] = "";
    gethostname(host, sizeof(host) - 1);

    assert_int_equal(ivshm_endpoint_read(&r, 0, &info), -ENOENT);
    assert_int_equal(ivshm_endpoint_join(&r, "solver", 3, 7, &ep, &diag), 0);
    assert_int_equal(ep.owner.endpoint, 0);
    assert_int_equal(ep.owner.generation, 1);
    assert_ptr_equal(ep.base, (char *) r.map.base + ep.base_off.bytes);
    assert_ptr_equal(ep.attached, (char *) ep.base + r.geo.attached);
    assert_true(ivshm_extent_owned(&r, ep.owner, IVSHM_KIND_BASE, ep.base_off, r.geo.base_bytes));
    assert_int_equal(ivshm_extent_held(&r, ep.owner), blocks_of_base(&r));
    assert_int_equal(ivshm_endpoint_claim(&r, 0).state, IVSHM_CLAIM_NAMED);
    assert_false(ivshm_endpoint_is_live(&r, ep.owner));
    /* The claim's word is as doc/layout.md defines it. */
    assert_int_equal(ivshm_a64_load_relaxed(claim_at(&r, 0)),
                     claim_word_of(IVSHM_CLAIM_NAMED, (uint32_t) getpid(),
                                   ivshm_process_host_hash(&ep.process), 1));
    assert_int_equal(ivshm_endpoint_read(&r, 0, &info), 0);
    assert_true(info.named);
    assert_memory_equal(&info.process, &ep.process, sizeof(info.process));
    assert_int_equal(ivshm_a64_load_relaxed(&r.endpoints[0].seal),
                     seal_of_entry(&r.endpoints[0], 1));
    assert_true(ep.process.traits & IVSHM_TRAIT_MEMORY); /* a memfd */

    assert_int_equal(ivshm_endpoint_publish(&ep, NULL), 0);
    assert_true(ivshm_endpoint_is_live(&r, ep.owner));
    assert_false(ivshm_endpoint_is_live(&r, (struct ivshm_owner){0, 2}));
    assert_false(ivshm_endpoint_is_live(&r, (struct ivshm_owner){1, 1}));
    assert_int_equal(ivshm_endpoint_read(&r, 0, &info), 0);
    assert_int_equal(info.claim.state, IVSHM_CLAIM_LIVE);
    assert_int_equal(info.claim.generation, 1);
    assert_int_equal(info.claim.pid, getpid());
    assert_memory_equal(&info.process, &ep.process, sizeof(info.process));
    assert_int_equal(info.base.bytes, ep.base_off.bytes);
    assert_int_equal(info.rank, 3);
    assert_int_equal(info.job_size, 7);
    assert_string_equal(info.job, "solver");
    assert_string_equal(info.process.host, host);
    assert_in_range(info.joined_at, (uint64_t) time(NULL) - 100, (uint64_t) time(NULL));

    ivshm_endpoint_leave(&ep);
    assert_false(ivshm_endpoint_is_live(&r, ep.owner));
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

TEST(test_long_job_name)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_endpoint ep;
    struct ivshm_endpoint_info info;
    char name[301];
    memset(name, 'j', 300);
    name[300] = 0;
    assert_int_equal(ivshm_endpoint_join(&r, name, 0, 1, &ep, NULL), 0);
    assert_int_equal(ivshm_endpoint_read(&r, ep.owner.endpoint, &info), 0);
    assert_int_equal(strlen(info.job), 127);
    assert_memory_equal(info.job, name, 127);
    /* A peer that omits the NUL. */
    for (int i = 0; i < 16; i++)
        ivshm_a64_store_relaxed(&r.endpoints[ep.owner.endpoint].job[i],
                                UINT64_C(0x6161616161616161));
    assert_int_equal(ivshm_endpoint_read(&r, ep.owner.endpoint, &info), 0);
    assert_int_equal(strlen(info.job), 127);
    ivshm_endpoint_leave(&ep);
    ivshm_region_close(&r);
}

/* The memory of a base extent is zero, whatever it held before. */
TEST(test_base_is_zero)
{
    struct ivshm_region r = region_new(4 * MIB);
    for (int i = 0; i < 2; i++) {
        struct ivshm_endpoint ep = joined(&r);
        for (uint64_t b = 0; b < r.geo.base_bytes; b++)
            if (((unsigned char *) ep.base)[b])
                fail_msg("byte %llu is not 0", (unsigned long long) b);
        memset(ep.base, 0xff, r.geo.base_bytes);
        ivshm_endpoint_leave(&ep); /* NAMED: its bitmap does not count yet */
        assert_all_freed(&r);
    }
    ivshm_region_close(&r);
}

/* The generation counts claims, and wraps after 19 bits. */
TEST(test_generation)
{
    struct ivshm_region r = region_new(4 * MIB);
    for (uint32_t g = 1; g <= 3; g++) {
        struct ivshm_endpoint ep = live(&r);
        assert_int_equal(ep.owner.endpoint, 0);
        assert_int_equal(ep.owner.generation, g);
        ivshm_endpoint_leave(&ep);
    }
    uint32_t last = (1u << IVSHM_CLAIM_GEN_BITS) - 1;
    ivshm_a64_store_relaxed(claim_at(&r, 0), claim_word_of(IVSHM_CLAIM_FREE, 0, 0, last - 1));
    struct ivshm_endpoint ep = live(&r), other = live(&r);
    void *base;
    assert_int_equal(ep.owner.generation, last);
    assert_true(ivshm_endpoint_is_live(&r, ep.owner));
    assert_int_equal(ivshm_endpoint_attach(&other, ep.owner, &base, NULL), 0);
    ivshm_endpoint_detach(&other, ep.owner.endpoint);
    ivshm_endpoint_leave(&ep);
    ep = live(&r);
    assert_int_equal(ep.owner.generation, 0);
    assert_true(ivshm_endpoint_is_live(&r, ep.owner));
    assert_int_equal(ivshm_endpoint_attach(&other, ep.owner, &base, NULL), 0);
    assert_ptr_equal(base, ep.base);
    ivshm_endpoint_leave(&other);
    ivshm_endpoint_leave(&ep);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* Whether a process has been in this region, or in a copy of it. */
TEST(test_find)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_endpoint ep = live(&r);
    struct ivshm_owner was = ep.owner, later = {was.endpoint, was.generation + 1};
    uint64_t seal = ivshm_endpoint_seal(&ep);
    assert_int_equal(ivshm_endpoint_find(&r, was, seal), 0);
    assert_int_equal(ivshm_endpoint_find(&r, was, seal + 1), -ENOENT);
    assert_int_equal(ivshm_endpoint_find(&r, later, seal), -ENOENT);
    assert_int_equal(ivshm_endpoint_find(&r, (struct ivshm_owner){1, was.generation}, seal),
                     -ENOENT);
    assert_int_equal(ivshm_endpoint_find(&r, (struct ivshm_owner){UINT32_MAX, 1}, seal), -ENOENT);
    ivshm_endpoint_leave(&ep);
    assert_int_equal(ivshm_endpoint_find(&r, was, seal), 0);
    ep = live(&r);
    assert_int_equal(ivshm_endpoint_find(&r, was, seal), -ESTALE);
    ivshm_endpoint_leave(&ep);
    ivshm_region_close(&r);
}

TEST(test_attach)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_endpoint a = live(&r), b = live(&r);
    void *base;
    assert_int_equal(ivshm_endpoint_attach(&a, b.owner, &base, NULL), 0);
    assert_ptr_equal(base, b.base);
    assert_int_equal(ivshm_a64_load_relaxed(&a.attached[0]), UINT64_C(1) << b.owner.endpoint);
    /* Twice is the same as once. */
    assert_int_equal(ivshm_endpoint_attach(&a, b.owner, &base, NULL), 0);
    ivshm_endpoint_detach(&a, b.owner.endpoint);
    assert_int_equal(ivshm_a64_load_relaxed(&a.attached[0]), 0);
    /* To oneself. */
    assert_int_equal(ivshm_endpoint_attach(&a, a.owner, &base, NULL), 0);
    assert_ptr_equal(base, a.base);
    ivshm_endpoint_leave(&a);
    ivshm_endpoint_leave(&b);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

TEST(test_attach_errors)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_endpoint a = live(&r), joining = joined(&r), b = live(&r);
    struct ivshm_diag diag;
    void *base = &r;
    struct ivshm_owner beyond = {r.geo.endpoints, 1}, far = {UINT32_MAX, 1};

    assert_int_equal(ivshm_endpoint_attach(&a, beyond, &base, &diag), -EBADMSG);
    assert_says(diag, "beyond the table of 64");
    assert_int_equal(ivshm_endpoint_attach(&a, far, &base, &diag), -EBADMSG);
    assert_int_equal(ivshm_endpoint_attach(&a, joining.owner, &base, &diag), -ESHUTDOWN);
    assert_int_equal(ivshm_endpoint_attach(&a, (struct ivshm_owner){10, 0}, &base, &diag),
                     -ESHUTDOWN);
    assert_int_equal(
        ivshm_endpoint_attach(&a, (struct ivshm_owner){b.owner.endpoint, 2}, &base, &diag),
        -ESHUTDOWN);
    assert_says(diag, "endpoint 2 (generation 2)");
    assert_says(diag, "has left or is dead");

    /* An entry whose base is not its own memory, or is none. */
    ivshm_a64 *word = &r.endpoints[b.owner.endpoint].base;
    uint64_t good = ivshm_a64_load_relaxed(word);
    uint64_t bad[] = {0,
                      good + 64,
                      good + r.geo.block_size,
                      a.base_off.bytes,
                      r.geo.data - r.geo.block_size,
                      r.geo.size,
                      UINT64_MAX,
                      UINT64_MAX - r.geo.block_size + 1};
    for (size_t i = 0; i < LENGTH(bad); i++) {
        ivshm_a64_store_relaxed(word, bad[i]);
        assert_int_equal(ivshm_endpoint_attach(&a, b.owner, &base, &diag), -EBADMSG);
        assert_says(diag, "is not its own");
    }
    ivshm_a64_store_relaxed(word, good);
    assert_ptr_equal(base, &r);
    assert_int_equal(ivshm_a64_load_relaxed(&a.attached[0]), 0); /* no attachment remains */
    assert_int_equal(ivshm_endpoint_attach(&a, b.owner, &base, &diag), 0);

    ivshm_endpoint_leave(&joining);
    ivshm_endpoint_leave(&a);
    ivshm_endpoint_leave(&b);
    assert_int_equal(ivshm_endpoint_attach(&a, b.owner, &base, &diag), -ESHUTDOWN);
    ivshm_region_close(&r);
}

/* Indexes named by others: what lies beyond the table looks like an entry, but is none. */
TEST(test_beyond_the_table)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_endpoint_info info;
    const uint64_t live_word = claim_word_of(IVSHM_CLAIM_LIVE, 1, 0, 5);
    const uint32_t beyond[] = {r.geo.endpoints, r.geo.endpoints + 1, 1 << 20, UINT32_MAX};
    for (size_t i = 0; i < LENGTH(beyond); i++) {
        if (i < 2)
            ivshm_a64_store_relaxed(claim_at(&r, beyond[i]), live_word);
        assert_false(ivshm_endpoint_is_live(&r, (struct ivshm_owner){beyond[i], 5}));
        assert_int_equal(ivshm_endpoint_claim(&r, beyond[i]).state, IVSHM_CLAIM_FREE);
        assert_int_equal(ivshm_endpoint_read(&r, beyond[i], &info), -ENOENT);
        ivshm_endpoint_declare_dead(
            &r, beyond[i],
            (struct ivshm_claim){
                .state = IVSHM_CLAIM_LIVE, .generation = 5, .pid = 1, .host_hash = 0});
        if (i < 2)
            assert_int_equal(ivshm_a64_load_relaxed(claim_at(&r, beyond[i])), live_word);
    }
    ivshm_region_close(&r);
}

/*
 * A state that a peer has scribbled: nobody attaches, and the entry is freed by proof or by an
 * administrator's word.
 */
TEST(test_states_that_do_not_exist)
{
    for (uint64_t state = IVSHM_CLAIM_NAMED + 1; state < 1 << IVSHM_CLAIM_STATE_BITS; state++) {
        struct ivshm_region r = region_new(4 * MIB);
        struct ivshm_endpoint a = live(&r), b = live(&r);
        uint32_t index = a.owner.endpoint;
        void *base;
        uint64_t word = (ivshm_a64_load_relaxed(claim_at(&r, index)) & ~UINT64_C(7)) | state;
        ivshm_a64_store_relaxed(claim_at(&r, index), word);
        assert_false(ivshm_endpoint_is_live(&r, a.owner));
        assert_int_equal(ivshm_endpoint_attach(&b, a.owner, &base, NULL), -ESHUTDOWN);
        /* Its process is this one. */
        assert_int_equal(reap(&r).endpoints, 0);
        assert_int_equal(ivshm_a64_load_relaxed(claim_at(&r, index)), word);
        ivshm_endpoint_declare_dead(&r, index, ivshm_endpoint_claim(&r, index));
        assert_int_equal(ivshm_endpoint_claim(&r, index).state, IVSHM_CLAIM_DEAD);
        assert_int_equal(reap(&r).endpoints, 1);
        ivshm_endpoint_declare_dead(&r, index, ivshm_endpoint_claim(&r, index));
        assert_int_equal(ivshm_endpoint_claim(&r, index).state, IVSHM_CLAIM_FREE);
        ivshm_endpoint_leave(&b);
        assert_all_freed(&r);
        ivshm_region_close(&r);
    }
}

/* A call that fails keeps an earlier attachment: its memory is still being written. */
TEST(test_failed_attach_keeps_attachment)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_endpoint a = live(&r), b = live(&r);
    void *base;
    assert_int_equal(ivshm_endpoint_attach(&a, b.owner, &base, NULL), 0);
    assert_int_equal(
        ivshm_endpoint_attach(&a, (struct ivshm_owner){b.owner.endpoint, 9}, &base, NULL),
        -ESHUTDOWN);
    ivshm_endpoint_leave(&b);
    assert_int_equal(ivshm_endpoint_claim(&r, b.owner.endpoint).state, IVSHM_CLAIM_DEAD);
    assert_true(ivshm_extent_owned(&r, b.owner, IVSHM_KIND_BASE, b.base_off, r.geo.base_bytes));
    ivshm_endpoint_leave(&a);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/*
 * An endpoint that leaves while others are attached keeps its memory until the last has detached.
 */
TEST(test_leave_while_attached)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_endpoint a = live(&r), b = live(&r), c = live(&r);
    void *base;
    assert_int_equal(ivshm_endpoint_attach(&b, a.owner, &base, NULL), 0);
    assert_int_equal(ivshm_endpoint_attach(&c, a.owner, &base, NULL), 0);
    ivshm_endpoint_leave(&a);
    assert_int_equal(ivshm_endpoint_claim(&r, a.owner.endpoint).state, IVSHM_CLAIM_DEAD);
    struct ivshm_reaped reaped = reap(&r);
    assert_int_equal(reaped.endpoints, 0);
    assert_int_equal(reaped.blocks, 0);
    assert_int_equal(reaped.waiting, 1);
    ivshm_endpoint_detach(&b, a.owner.endpoint);
    assert_int_equal(reap(&r).waiting, 1);
    assert_int_equal(ivshm_extent_held(&r, a.owner), blocks_of_base(&r));
    ivshm_endpoint_detach(&c, a.owner.endpoint);
    reaped = reap(&r);
    assert_int_equal(reaped.endpoints, 1);
    assert_int_equal(reaped.blocks, blocks_of_base(&r));
    assert_int_equal(reaped.waiting, 0);
    assert_int_equal(ivshm_endpoint_claim(&r, a.owner.endpoint).state, IVSHM_CLAIM_FREE);
    ivshm_endpoint_leave(&b);
    ivshm_endpoint_leave(&c);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* Two that are attached to each other, and leave one after the other. */
TEST(test_mutual_attachment)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_endpoint a = live(&r), b = live(&r);
    void *base;
    assert_int_equal(ivshm_endpoint_attach(&a, b.owner, &base, NULL), 0);
    assert_int_equal(ivshm_endpoint_attach(&b, a.owner, &base, NULL), 0);
    ivshm_endpoint_leave(&a);
    assert_int_equal(ivshm_endpoint_claim(&r, a.owner.endpoint).state, IVSHM_CLAIM_DEAD);
    ivshm_endpoint_leave(&b);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* All bits of the bitmap, and all entries of the table. */
TEST(test_attach_to_every_entry)
{
    struct ivshm_region r = region_new(16 * MIB);
    struct ivshm_endpoint a = live(&r);
    for (uint32_t i = 1; i < r.geo.endpoints; i++) {
        void *base;
        /* Only entry i is free. */
        for (uint32_t j = 1; j < r.geo.endpoints; j++)
            ivshm_a64_store_relaxed(
                claim_at(&r, j),
                claim_word_of(j == i ? IVSHM_CLAIM_FREE : IVSHM_CLAIM_LIVE, 1, 0, 5));
        struct ivshm_endpoint b = live(&r);
        assert_int_equal(b.owner.endpoint, i);
        assert_int_equal(ivshm_endpoint_attach(&a, b.owner, &base, NULL), 0);
        assert_int_equal(ivshm_a64_load_relaxed(&a.attached[i / 64]), UINT64_C(1) << (i % 64));
        ivshm_endpoint_leave(&b);
        assert_int_equal(ivshm_endpoint_claim(&r, i).state, IVSHM_CLAIM_DEAD);
        ivshm_endpoint_detach(&a, i);
        reap(&r);
        assert_int_equal(ivshm_endpoint_claim(&r, i).state, IVSHM_CLAIM_FREE);
    }
    ivshm_region_close(&r);
}

TEST(test_table_full)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_endpoint ep;
    struct ivshm_diag diag;
    for (uint32_t i = 0; i < r.geo.endpoints; i++) /* of another host: nothing can be proved */
        ivshm_a64_store_relaxed(claim_at(&r, i), claim_word_of(IVSHM_CLAIM_JOINING, 9, 0, 1));
    assert_int_equal(ivshm_endpoint_join(&r, "job", 0, 2, &ep, &diag), -ENOSPC);
    assert_says(diag, "no endpoint is left");
    assert_says(diag, "64 of 64 endpoints");
    assert_says(diag, "ivshmem ps");
    ivshm_region_close(&r);
}

TEST(test_memory_full)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_endpoint eps[64], ep;
    struct ivshm_diag diag;
    char need[64];
    uint32_t n = 0;
    while (ivshm_endpoint_join(&r, "job", n, 40, &eps[n], &diag) == 0)
        n++;
    assert_int_equal(n, r.geo.blocks / blocks_of_base(&r));
    assert_says(diag, "(4 MiB) is full: no memory is left");
    snprintf(need, sizeof(need), "%u of 64 endpoints", n);
    assert_says(diag, need);
    snprintf(need, sizeof(need), "a rank needs %llu KiB",
             (unsigned long long) ((r.geo.base_bytes + r.geo.pipeline_bytes) >> 10));
    assert_says(diag, need);
    assert_says(diag, "A job of 40 ranks needs 64M: pass size=64M to QEMU");
    /* The entry that was claimed in vain is free again, and others are unharmed. */
    assert_int_equal(ivshm_endpoint_claim(&r, n).state, IVSHM_CLAIM_FREE);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(ivshm_endpoint_claim(&r, i).state, IVSHM_CLAIM_NAMED);
    ivshm_endpoint_leave(&eps[n / 2]);
    assert_int_equal(ivshm_endpoint_join(&r, "job", 0, 40, &ep, &diag), 0);
    eps[n / 2] = ep;
    for (uint32_t i = 0; i < n; i++)
        ivshm_endpoint_leave(&eps[i]);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* The size that the message asks for is enough. */
TEST(test_advised_size_is_enough)
{
    static const uint32_t jobs[] = {1, 2, 3, 8, 13, 40, 64, 257};
    for (size_t j = 0; j < LENGTH(jobs); j++) {
        struct ivshm_region r = region_new(4 * MIB);
        struct ivshm_diag diag;
        struct ivshm_endpoint ep, *eps = calloc(jobs[j], sizeof(*eps));
        struct ivshm_pipeline *pipelines = calloc(jobs[j], sizeof(*pipelines));
        for (uint64_t i = 0; i < r.geo.blocks; i++)
            ivshm_a64_store_relaxed(&r.block_map[i],
                                    block_word_of((struct ivshm_owner){60, 1}, 1, 0));
        assert_int_equal(ivshm_endpoint_join(&r, "job", 0, jobs[j], &ep, &diag), -ENOSPC);
        unsigned long long mib = strtoull(strstr(diag.text, "size=") + 5, NULL, 10);
        ivshm_region_close(&r);
        r = region_new(mib * MIB);
        for (uint32_t i = 0; i < jobs[j]; i++)
            if (ivshm_endpoint_join(&r, "job", i, jobs[j], &eps[i], &diag) != 0 ||
                ivshm_pipeline_alloc(&r, eps[i].owner, &pipelines[i]) != 0)
                fail_msg("%u ranks do not fit into the %llu MiB that were asked for", jobs[j], mib);
        ivshm_region_close(&r);
        free(eps);
        free(pipelines);
    }
}

/* Deaths */

struct mortal {
    struct ivshm_region *r;
    struct ivshm_endpoint *survivor;
    int pipe[2];
    bool publish, attach, pipeline;
};

static void live_until_killed(void *arg)
{
    struct mortal *m = arg;
    struct ivshm_endpoint ep = joined(m->r);
    struct ivshm_pipeline pipeline;
    void *base;
    if (m->publish)
        ivshm_endpoint_publish(&ep, NULL);
    if (m->attach)
        must(ivshm_endpoint_attach(&ep, m->survivor->owner, &base, NULL) == 0);
    if (m->pipeline)
        must(ivshm_pipeline_alloc(m->r, ep.owner, &pipeline) == 0);
    must(write(m->pipe[1], &ep.owner, sizeof(ep.owner)) == sizeof(ep.owner));
    for (;;)
        pause();
}

static struct ivshm_owner mortal_start(struct mortal *m, pid_t *pid)
{
    struct ivshm_owner owner;
    must(pipe(m->pipe) == 0);
    *pid = child_start(live_until_killed, m);
    must(read(m->pipe[0], &owner, sizeof(owner)) == sizeof(owner));
    close(m->pipe[0]);
    close(m->pipe[1]);
    return owner;
}

/*
 * Killed while joining, live, holding a pipeline, attached: everything is freed once its death is
 * proved.
 */
TEST(test_killed)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_endpoint me = live(&r);
    uint64_t free_before = free_blocks(&r);
    for (int kind = 0; kind < 8; kind++) {
        struct mortal m = {.r = &r,
                           .survivor = &me,
                           .publish = kind & 1,
                           .attach = (kind & 2) && (kind & 1),
                           .pipeline = kind & 4};
        pid_t pid;
        struct ivshm_owner owner = mortal_start(&m, &pid);
        uint64_t held = ivshm_extent_held(&r, owner);
        assert_int_equal(free_blocks(&r), free_before - held);
        assert_int_equal(reap(&r).endpoints, 0);
        assert_int_equal(ivshm_extent_held(&r, owner), held);
        child_kill(pid);
        struct ivshm_reaped reaped = reap(&r);
        assert_int_equal(reaped.endpoints, 1);
        assert_int_equal(reaped.blocks, held);
        assert_int_equal(reaped.waiting, 0);
        assert_int_equal(free_blocks(&r), free_before);
        assert_int_equal(ivshm_endpoint_claim(&r, owner.endpoint).state, IVSHM_CLAIM_FREE);
    }
    ivshm_endpoint_leave(&me);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/*
 * A peer dies while we are attached: it is dead at once, but its memory is freed only after we
 * detach.
 */
TEST(test_killed_while_we_are_attached)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_endpoint me = live(&r);
    struct ivshm_process self;
    struct mortal m = {.r = &r, .publish = true};
    pid_t pid;
    void *base;
    assert_int_equal(ivshm_process_self(&self, NULL), 0);
    struct ivshm_owner owner = mortal_start(&m, &pid);
    assert_int_equal(ivshm_endpoint_attach(&me, owner, &base, NULL), 0);
    ivshm_endpoint_watch(&r, &self);
    assert_true(ivshm_endpoint_is_live(&r, owner));
    child_kill(pid);
    ivshm_endpoint_watch(&r, &self);
    assert_false(ivshm_endpoint_is_live(&r, owner));
    assert_int_equal(ivshm_endpoint_claim(&r, owner.endpoint).state, IVSHM_CLAIM_DEAD);
    assert_int_equal(reap(&r).waiting, 1);
    assert_int_equal(ivshm_extent_held(&r, owner), blocks_of_base(&r));
    /* A new joiner does not get the entry. */
    struct ivshm_endpoint other = live(&r);
    assert_int_not_equal(other.owner.endpoint, owner.endpoint);
    ivshm_endpoint_detach(&me, owner.endpoint);
    assert_int_equal(reap(&r).endpoints, 1);
    ivshm_endpoint_leave(&other);
    ivshm_endpoint_leave(&me);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* Watching marks, and frees nothing. */
TEST(test_watch_frees_nothing)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_process self;
    struct mortal m = {.r = &r, .publish = true, .pipeline = true};
    pid_t pid;
    assert_int_equal(ivshm_process_self(&self, NULL), 0);
    struct ivshm_owner owner = mortal_start(&m, &pid);
    child_kill(pid);
    uint64_t held = ivshm_extent_held(&r, owner);
    ivshm_endpoint_watch(&r, &self);
    assert_int_equal(ivshm_endpoint_claim(&r, owner.endpoint).state, IVSHM_CLAIM_DEAD);
    assert_int_equal(ivshm_extent_held(&r, owner), held);
    /* The next join frees it, and gets that very entry with the next generation. */
    struct ivshm_endpoint ep = live(&r);
    assert_int_equal(ep.owner.endpoint, owner.endpoint);
    assert_int_equal(ep.owner.generation, owner.generation + 1);
    assert_int_equal(ivshm_extent_held(&r, owner), 0);
    ivshm_endpoint_leave(&ep);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* Without a judge, what is dead already is freed. */
TEST(test_reap_without_judging)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_reaped reaped;
    struct mortal m[2] = {{.r = &r, .publish = true}, {.r = &r, .publish = true}};
    struct ivshm_owner owner[2];
    pid_t pid[2];
    for (int i = 0; i < 2; i++)
        owner[i] = mortal_start(&m[i], &pid[i]);
    ivshm_endpoint_declare_dead(&r, owner[0].endpoint, ivshm_endpoint_claim(&r, owner[0].endpoint));
    child_kill(pid[0]);
    child_kill(pid[1]);
    ivshm_endpoint_reap(&r, NULL, &reaped);
    assert_int_equal(reaped.endpoints, 1);
    assert_true(ivshm_endpoint_is_live(&r, owner[1]));
    assert_int_equal(reap(&r).endpoints, 1);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* What is asked about locks, and what happens at that moment. */
static unsigned asked;
static void (*at_question)(void);

/* Replaces the C library's. */
int fcntl(int fd, int command, ...)
{
    va_list args;
    va_start(args, command);
    void *arg = va_arg(args, void *);
    va_end(args);
    if (command == F_OFD_GETLK) {
        asked++;
        if (at_question)
            at_question();
    }
    return (int) syscall(SYS_fcntl, fd, command, arg);
}

/* A descriptor of the region's file as ivshmem-server gives it to the client of that ID. */
static int peer_new(int fd, uint32_t peer)
{
    struct flock lock = {.l_type = F_WRLCK, .l_start = (INT64_C(1) << 62) + peer, .l_len = 1};
    int its = open(file_name(fd), O_RDWR | O_CLOEXEC);
    must(its >= 0 && fcntl(its, F_OFD_SETLK, &lock) == 0);
    return its;
}

/* An endpoint of another machine, which has mapped a device that has that ID. */
static struct ivshm_endpoint of_vm(struct ivshm_region *r, uint32_t peer)
{
    struct ivshm_endpoint ep = live(r);
    struct ivshm_endpoint_shm *e = &r->endpoints[ep.owner.endpoint];
    ivshm_a64_store_relaxed(&e->boot_id[0], 1000 + peer);
    ivshm_a64_store_relaxed(&e->traits, IVSHM_TRAIT_DEVICE);
    ivshm_a64_store_relaxed(&e->bell, peer + 1);
    seal(r, ep.owner.endpoint);
    return ep;
}

static void watch(struct ivshm_region *r)
{
    struct ivshm_process self;
    must(ivshm_process_self(&self, NULL) == 0);
    ivshm_endpoint_watch(r, &self);
}

TEST(test_vm_is_gone)
{
    int fd = file_new(4 * MIB);
    struct ivshm_region r = region_of_file(fd);
    int peers[2] = {peer_new(fd, 0), peer_new(fd, 65535)};
    struct ivshm_endpoint of_first[2] = {of_vm(&r, 0), of_vm(&r, 0)}, of_last = of_vm(&r, 65535),
                          own = live(&r);
    assert_int_equal(reap(&r).endpoints, 0);
    /* A mapping, as QEMU's, is enough. */
    void *mapped = mmap(NULL, 4096, PROT_READ, MAP_SHARED, peers[0], 0);
    assert_true(mapped != MAP_FAILED);
    close(peers[0]);
    close(peers[1]);
    watch(&r);
    assert_true(ivshm_endpoint_is_live(&r, of_first[0].owner));
    assert_int_equal(ivshm_endpoint_claim(&r, of_last.owner.endpoint).state, IVSHM_CLAIM_DEAD);
    munmap(mapped, 4096);
    watch(&r);
    for (int i = 0; i < 2; i++)
        assert_int_equal(ivshm_endpoint_claim(&r, of_first[i].owner.endpoint).state,
                         IVSHM_CLAIM_DEAD);
    struct ivshm_reaped reaped = reap(&r);
    assert_int_equal(reaped.endpoints, 3);
    assert_int_equal(reaped.blocks, 3 * blocks_of_base(&r));
    ivshm_endpoint_leave(&own);
    assert_all_freed(&r);
    ivshm_region_close(&r);
    close(fd);
}

TEST(test_vm_is_not_known_to_be_gone)
{
    int fd = file_new(4 * MIB), count = 0;
    struct ivshm_region r = region_of_file(fd);
    struct ivshm_endpoint ep;
    ep = of_vm(&r, 3); /* a process of the host, which may have another descriptor of the file */
    ivshm_a64_store_relaxed(&r.endpoints[ep.owner.endpoint].traits, 0);
    seal(&r, ep.owner.endpoint);
    ep = of_vm(&r, 3);
    ivshm_a64_store_relaxed(&r.endpoints[ep.owner.endpoint].seal, 0);
    ep = of_vm(&r, 3);
    ivshm_a64_store_relaxed(&r.endpoints[ep.owner.endpoint].bell, UINT64_C(1) << 32);
    seal(&r, ep.owner.endpoint);
    ep = of_vm(&r, 3);
    uint64_t claim = ivshm_a64_load_relaxed(claim_at(&r, ep.owner.endpoint));
    ivshm_a64_store_relaxed(claim_at(&r, ep.owner.endpoint),
                            claim_word_of(IVSHM_CLAIM_JOINING, 5, 1, (uint32_t) (claim >> 45)));
    assert_int_equal(reap(&r).endpoints, 0);
    for (uint32_t i = 0; i < r.geo.endpoints; i++)
        count += ivshm_endpoint_claim(&r, i).state != IVSHM_CLAIM_FREE;
    assert_int_equal(count, 4);

    /* Where there are no locks, or not the server's. */
    ep = of_vm(&r, 3);
    r.map.is_memory = false;
    assert_int_equal(reap(&r).endpoints, 0);
    r.map.is_memory = r.map.is_device = true;
    assert_int_equal(reap(&r).endpoints, 0);
    r.map.is_device = false;
    int moved = dup(fd);
    close(fd); /* so that its name leads nowhere */
    assert_int_equal(reap(&r).endpoints, 0);
    assert_int_equal(dup2(file_new(4 * MIB), fd), fd); /* or to another file */
    assert_int_equal(reap(&r).endpoints, 0);
    assert_int_equal(dup2(moved, fd), fd);
    assert_int_equal(reap(&r).endpoints, 1);
    ivshm_region_close(&r);
    close(fd);
    close(moved);
}

static ivshm_a64 *claim_at_question;

/* A process of another VM, which was given the same ID, takes the entry. */
static void change_hands(void)
{
    uint64_t word = ivshm_a64_load_relaxed(claim_at_question);
    ivshm_a64_store_relaxed(claim_at_question, word + (UINT64_C(1) << 45));
}

TEST(test_id_is_given_again)
{
    int fd = file_new(4 * MIB);
    struct ivshm_region r = region_of_file(fd);
    struct ivshm_endpoint ep = of_vm(&r, 3);
    claim_at_question = claim_at(&r, ep.owner.endpoint);
    at_question = change_hands;
    watch(&r);
    at_question = NULL;
    struct ivshm_claim claim = ivshm_endpoint_claim(&r, ep.owner.endpoint);
    assert_int_equal(claim.state, IVSHM_CLAIM_LIVE);
    assert_int_equal(claim.generation, ep.owner.generation + 1);
    ivshm_region_close(&r);
    close(fd);
}

/* Looks at locks cost nothing without bells, and one question for the endpoints of a VM. */
TEST(test_cost_of_locks)
{
    int fd = file_new(4 * MIB), peer = peer_new(fd, 8);
    struct ivshm_region r = region_of_file(fd);
    struct ivshm_endpoint ep = live(&r);
    asked = 0;
    watch(&r);
    assert_int_equal(asked, 0);
    for (int i = 0; i < 5; i++)
        of_vm(&r, 8);
    asked = 0;
    watch(&r);
    assert_int_equal(asked, 1);
    close(peer);
    assert_int_equal(reap(&r).endpoints, 5);
    ivshm_endpoint_leave(&ep);
    assert_all_freed(&r);
    ivshm_region_close(&r);
    close(fd);
}

TEST(test_zombie_is_dead)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct mortal m = {.r = &r, .publish = true};
    pid_t pid;
    siginfo_t info;
    mortal_start(&m, &pid);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitid(P_PID, (id_t) pid, &info, WEXITED | WNOWAIT),
                     0); /* leaves the zombie */
    assert_int_equal(reap(&r).endpoints, 1);
    assert_all_freed(&r);
    child_wait(pid);
    ivshm_region_close(&r);
}

TEST(test_stopped_is_not_dead)
{
    struct ivshm_region r = region_new(4 * MIB);
    for (int publish = 0; publish < 2; publish++) {
        struct mortal m = {.r = &r, .publish = publish};
        pid_t pid;
        int status;
        struct ivshm_owner owner = mortal_start(&m, &pid);
        assert_int_equal(kill(pid, SIGSTOP), 0);
        assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
        struct ivshm_reaped reaped = reap(&r);
        assert_int_equal(reaped.endpoints + reaped.blocks + reaped.waiting, 0);
        assert_int_equal(ivshm_extent_held(&r, owner), blocks_of_base(&r));
        child_kill(pid);
        assert_int_equal(reap(&r).endpoints, 1);
    }
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/*
 * Entries as other processes would have left them: another kernel, a container, an earlier boot, a
 * pid that is in use again. test_liveness has all kinds.
 */
TEST(test_proof)
{
    struct ivshm_region r = region_new(4 * MIB);
    r.map.is_memory = false; /* as a file on a disk */
    struct ivshm_endpoint ep = live(&r);
    struct ivshm_endpoint_shm *e = &r.endpoints[ep.owner.endpoint];
    struct ivshm_process self = ep.process;
    struct ivshm_endpoint_info info;
    struct ivshm_reaped reaped;
    self.vm_uuid[0] = 5;
    self.vm_uuid[1] = 0;
    self.traits = IVSHM_TRAIT_UUID;
#define REAPED()                                                                                   \
    (seal(&r, ep.owner.endpoint), ivshm_endpoint_reap(&r, &self, &reaped), reaped.endpoints)
#define SET(field, value) ivshm_a64_store_relaxed(&e->field, value)
#define LOCALITY()                                                                                 \
    (seal(&r, ep.owner.endpoint), ivshm_endpoint_read(&r, ep.owner.endpoint, &info),               \
     ivshm_endpoint_locality(&r, &self, &info))
    assert_int_equal(REAPED(), 0);
    assert_int_equal(LOCALITY(), IVSHM_LOCALITY_HERE);
    SET(start_time, 1);
    SET(vm_uuid[1], 0);
    SET(vm_uuid[0], 6); /* of a snapshot that runs twice */
    assert_int_equal(REAPED(), 0);
    assert_int_equal(LOCALITY(), IVSHM_LOCALITY_ELSEWHERE);
    SET(vm_uuid[0], 0);
    SET(boot_id[0], 0); /* hidden by a container */
    SET(boot_id[1], 0);
    assert_int_equal(REAPED(), 0);
    assert_int_equal(LOCALITY(), IVSHM_LOCALITY_ELSEWHERE);
    SET(boot_id[0], ~self.boot_id[0]); /* another VM */
    assert_int_equal(REAPED(), 0);
    SET(boot_id[0], self.boot_id[0]);
    SET(boot_id[1], self.boot_id[1]);
    SET(pid_ns, self.pid_ns + 1); /* another container; and we, here, do not see all */
    self.pid_ns = 7;
    assert_int_equal(REAPED(), 0);
    assert_int_equal(LOCALITY(), IVSHM_LOCALITY_CONTAINER);
    assert_true(ivshm_endpoint_is_live(&r, ep.owner));
    SET(pid_ns, self.pid_ns);
    assert_int_equal(REAPED(), 1);
    assert_all_freed(&r);

    /*
     * Our VM in another boot; but only if both know that the uuid is the firmware's, and use a
     * device.
     */
    r.map.is_device = true;
    ep = live(&r);
    assert_int_equal(ep.process.traits & (IVSHM_TRAIT_DEVICE | IVSHM_TRAIT_MEMORY),
                     IVSHM_TRAIT_DEVICE);
    e = &r.endpoints[ep.owner.endpoint];
    SET(vm_uuid[0], 5);
    SET(vm_uuid[1], 0);
    SET(boot_id[1], ~self.boot_id[1]);
    SET(traits, IVSHM_TRAIT_DEVICE);
    assert_int_equal(REAPED(), 0);
    SET(traits, IVSHM_TRAIT_UUID);
    assert_int_equal(REAPED(), 0);
    SET(traits, IVSHM_TRAIT_UUID | IVSHM_TRAIT_DEVICE);
    r.map.is_device = false; /* we are the host, and have the file */
    assert_int_equal(REAPED(), 0);
    r.map.is_device = true;
    assert_int_equal(REAPED(), 1);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* What a peer says of its bell is believed if a device can have it, and the seal fits. */
TEST(test_bell)
{
    static const struct {
        uint64_t word;
        bool has_bell;
        struct ivshm_bell_address bell;
    } rows[] = {
        {0, false, {0}},
        {1, true, {0}},
        {UINT64_C(0x3000300000008), true, {true, true, 7, 3}},
        {UINT64_C(0x1ffff00010000), true, {false, true, 65535, 65535}},
        {UINT64_C(0x2000000000002), true, {true, false, 1, 0}},
        {65537, false, {0}},
        {UINT64_C(0x3000100000000), false, {0}},
        {UINT32_MAX, false, {0}},
        {UINT64_MAX, false, {0}},
    };
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_endpoint_info info;
    struct ivshm_endpoint ep = live(&r);
    ivshm_a64 *bell = &r.endpoints[ep.owner.endpoint].bell;
    assert_int_equal(ivshm_a64_load_relaxed(bell), 0);
    for (size_t i = 0; i < LENGTH(rows); i++) {
        ivshm_a64_store_relaxed(bell, rows[i].word);
        seal(&r, ep.owner.endpoint);
        assert_int_equal(ivshm_endpoint_read(&r, ep.owner.endpoint, &info), 0);
        assert_true(info.named);
        assert_int_equal(info.has_bell, rows[i].has_bell);
        const struct ivshm_bell_address found = ivshm_endpoint_bell(&r, ep.owner.endpoint);
        assert_memory_equal(&info.bell, &rows[i].bell, sizeof(found));
        assert_memory_equal(&found, &rows[i].bell, sizeof(found));
    }
    ivshm_a64_store_relaxed(bell, 1); /* not sealed */
    assert_int_equal(ivshm_endpoint_read(&r, ep.owner.endpoint, &info), 0);
    assert_false(info.has_bell);
    ivshm_endpoint_leave(&ep);

    /* The caller's own. */
    r.map.has_bell = true;
    r.map.peer = 12;
    r.bell.self = (struct ivshm_bell_address){.listens = true, .id = 12, .vector = 2};
    ep = live(&r);
    assert_int_equal(ivshm_a64_load_relaxed(&r.endpoints[ep.owner.endpoint].bell),
                     UINT64_C(0x100020000000d));
    assert_int_equal(ivshm_endpoint_read(&r, ep.owner.endpoint, &info), 0);
    assert_true(info.has_bell);
    assert_memory_equal(&info.bell, &r.bell.self, sizeof(info.bell));
    assert_int_equal(ivshm_a64_load_relaxed(&r.endpoints[ep.owner.endpoint].seal),
                     ivshm_endpoint_seal(&ep));
    ivshm_endpoint_leave(&ep);
    ivshm_region_close(&r);
}

/* An identity with a word that is not its owner's proves nothing, whatever it says. */
TEST(test_broken_seal)
{
    static const size_t words[] = {
        offsetof(struct ivshm_endpoint_shm, boot_id),
        offsetof(struct ivshm_endpoint_shm, boot_id) + 8,
        offsetof(struct ivshm_endpoint_shm, vm_uuid),
        offsetof(struct ivshm_endpoint_shm, vm_uuid) + 8,
        offsetof(struct ivshm_endpoint_shm, vm_generation),
        offsetof(struct ivshm_endpoint_shm, vm_generation) + 8,
        offsetof(struct ivshm_endpoint_shm, traits),
        offsetof(struct ivshm_endpoint_shm, pid_ns),
        offsetof(struct ivshm_endpoint_shm, pid),
        offsetof(struct ivshm_endpoint_shm, start_time),
        offsetof(struct ivshm_endpoint_shm, bell),
        offsetof(struct ivshm_endpoint_shm, seal),
    };
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_endpoint ep = live(&r);
    struct ivshm_endpoint_info info;
    ivshm_a64 *start = &r.endpoints[0].start_time;
    /* With its seal, it proves that a pid is in use again. */
    ivshm_a64_store_relaxed(start, ivshm_a64_load_relaxed(start) + 5);
    seal(&r, 0);
    for (size_t i = 0; i < LENGTH(words); i++) {
        ivshm_a64 *word = (ivshm_a64 *) ((char *) &r.endpoints[0] + words[i]);
        uint64_t was = ivshm_a64_load_relaxed(word);
        ivshm_a64_store_relaxed(word, was ^ UINT64_C(1) << (7 * i % 64));
        assert_int_equal(ivshm_endpoint_read(&r, 0, &info), 0);
        assert_false(info.named);
        assert_int_equal(reap(&r).endpoints, 0);
        ivshm_a64_store_relaxed(word, was);
    }
    /* With another generation, it belongs to another claim. */
    ivshm_a64_store_relaxed(claim_at(&r, 0),
                            ivshm_a64_load_relaxed(claim_at(&r, 0)) + (UINT64_C(1) << 45));
    assert_int_equal(reap(&r).endpoints, 0);
    ivshm_a64_store_relaxed(claim_at(&r, 0),
                            ivshm_a64_load_relaxed(claim_at(&r, 0)) - (UINT64_C(1) << 45));
    assert_int_equal(ep.owner.endpoint, 0);
    assert_int_equal(reap(&r).endpoints, 1);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/* It died before it was LIVE, and its pid is in use again: the entry tells which process it was. */
TEST(test_pid_of_a_joiner_is_used_again)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_endpoint ep = joined(&r);
    ivshm_a64 *start = &r.endpoints[ep.owner.endpoint].start_time;
    assert_int_equal(reap(&r).endpoints, 0);
    ivshm_a64_store_relaxed(start, ivshm_a64_load_relaxed(start) - 5);
    seal(&r, ep.owner.endpoint);
    struct ivshm_reaped reaped = reap(&r);
    assert_int_equal(reaped.endpoints, 1);
    assert_int_equal(reaped.blocks, blocks_of_base(&r));
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/*
 * A joiner is declared dead by mistake: it notices, and leaves the next claim and its blocks alone.
 */
TEST(test_declared_dead_while_joining)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_diag diag;
    for (int freed = 0; freed < 3; freed++) { /* marked, freed, another's */
        struct ivshm_endpoint ep = joined(&r), next;
        uint64_t word;
        ivshm_endpoint_declare_dead(&r, ep.owner.endpoint,
                                    ivshm_endpoint_claim(&r, ep.owner.endpoint));
        if (freed)
            assert_int_equal(reap(&r).endpoints, 1);
        if (freed > 1) {
            next = joined(&r);
            assert_int_equal(next.owner.endpoint, ep.owner.endpoint);
        }
        word = ivshm_a64_load_relaxed(claim_at(&r, ep.owner.endpoint));
        assert_int_equal(ivshm_endpoint_publish(&ep, &diag), -ESHUTDOWN);
        assert_says(diag, "this process was declared dead");
        assert_int_equal(ivshm_a64_load_relaxed(claim_at(&r, ep.owner.endpoint)), word);
        assert_int_equal(ivshm_extent_held(&r, ep.owner), 0);
        if (freed > 1) {
            assert_int_equal(ivshm_endpoint_publish(&next, &diag), 0);
            ivshm_endpoint_leave(&next);
        }
        reap(&r);
        assert_all_freed(&r);
    }
    ivshm_region_close(&r);
}

/*
 * A joiner that died at every step of joining, as its words show: only claimed, some blocks
 * allocated, some freed. On another host the same words prove nothing.
 */
TEST(test_half_joined)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_process self;
    assert_int_equal(ivshm_process_self(&self, NULL), 0);
    pid_t dead = child_start(child_exits, NULL);
    child_wait(dead);
    uint32_t hash = ivshm_process_host_hash(&self);
    uint64_t base = blocks_of_base(&r);
    uint64_t steps[] = {0, 1, 2, base - 1, base};
    for (size_t s = 0; s < LENGTH(steps); s++)
        for (int elsewhere = 0; elsewhere < 2; elsewhere++) {
            struct ivshm_owner owner = {7, 3};
            ivshm_a64_store_relaxed(claim_at(&r, 7),
                                    claim_word_of(IVSHM_CLAIM_JOINING, (uint32_t) dead,
                                                  elsewhere ? hash ^ 1 : hash, 3));
            for (uint64_t i = 0; i < steps[s]; i++)
                ivshm_a64_store_relaxed(&r.block_map[i],
                                        block_word_of(owner, IVSHM_KIND_BASE, i ? 0 : base));
            /* Even if the entry's stale fields name a live process. */
            ivshm_a64_store_relaxed(&r.endpoints[7].pid, (uint64_t) getpid());
            struct ivshm_reaped reaped = reap(&r);
            assert_int_equal(reaped.endpoints, !elsewhere);
            assert_int_equal(reaped.blocks, elsewhere ? 0 : steps[s]);
            assert_int_equal(ivshm_extent_held(&r, owner), elsewhere ? steps[s] : 0);
            ivshm_a64_store_relaxed(claim_at(&r, 7), 0);
            ivshm_extent_reclaim(&r, owner);
        }
    /* A live joiner, with the stale fields of a dead one. */
    ivshm_a64_store_relaxed(claim_at(&r, 7),
                            claim_word_of(IVSHM_CLAIM_JOINING, (uint32_t) getpid(), hash, 3));
    ivshm_a64_store_relaxed(&r.endpoints[7].pid, (uint64_t) dead);
    assert_int_equal(reap(&r).endpoints, 0);
    ivshm_region_close(&r);
}

/* Claims that are nonsense: nothing is reaped, nothing crashes. */
TEST(test_hostile_claims)
{
    struct ivshm_region r = region_new(4 * MIB);
    uint64_t seed = 5;
    for (int round = 0; round < 50; round++) {
        struct ivshm_endpoint_info info;
        struct ivshm_endpoint ep;
        for (uint32_t i = 0; i < r.geo.endpoints; i++) {
            uint64_t *words = (uint64_t *) &r.endpoints[i];
            for (size_t w = 0; w < sizeof(r.endpoints[0]) / 8; w++)
                words[w] = (uint64_t) random_next(&seed) << 33 | random_next(&seed);
        }
        for (uint32_t i = 0; i < r.geo.endpoints; i++)
            ivshm_endpoint_read(&r, i, &info);
        reap(&r);
        if (ivshm_endpoint_join(&r, "job", 0, 1, &ep, NULL) == 0)
            ivshm_endpoint_leave(&ep);
        memset(r.block_map, 0, r.geo.blocks * 8);
    }
    ivshm_region_close(&r);
}

/* Threads that act as processes */

#define WORKERS 8

struct worker {
    struct ivshm_region *r;
    uint32_t id;
    const bool *stop;
    ivshm_a64 *target; /* endpoint + 1 and generation that may be attached to */
};

static void *join_and_leave(void *arg)
{
    struct worker *w = arg;
    for (int round = 0; round < 60; round++) {
        struct ivshm_endpoint ep;
        if (ivshm_endpoint_join(w->r, "job", w->id, WORKERS, &ep, NULL) != 0)
            continue;
        /* Plain: the memory is ours alone. */
        memset(ep.base, (int) w->id + 1, 4096);
        memset((char *) ep.base + w->r->geo.attached, 0, w->r->geo.endpoints / 8);
        ivshm_endpoint_publish(&ep, NULL);
        sched_yield();
        struct ivshm_endpoint_info info;
        must(ivshm_endpoint_read(w->r, ep.owner.endpoint, &info) == 0);
        must(info.rank == w->id && info.claim.generation == ep.owner.generation);
        for (int i = 0; i < 4096; i += 64)
            must(((unsigned char *) ep.base)[i] == w->id + 1);
        ivshm_endpoint_leave(&ep);
    }
    return NULL;
}

TEST(test_concurrent_join_and_leave)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct worker workers[WORKERS];
    for (uint32_t i = 0; i < WORKERS; i++)
        workers[i] = (struct worker){.r = &r, .id = i};
    threads_run(WORKERS, join_and_leave, workers, sizeof(workers[0]));
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/*
 * Edge A1: one thread joins and leaves, others attach to it, a reaper reaps all the time. While a
 * thread is attached, the memory belongs to the generation that it attached to. The memory is
 * written with plain stores, so that ThreadSanitizer sees the next owner's stores if they come too
 * early.
 */
static void *come_and_go(void *arg)
{
    struct worker *w = arg;
    for (int round = 0; round < 400; round++) {
        struct ivshm_endpoint ep = joined(w->r);
        ivshm_endpoint_publish(&ep, NULL);
        /* Relaxed here and below: the claim alone orders, E1. */
        ivshm_a64_store_relaxed(w->target,
                                (uint64_t) (ep.owner.endpoint + 1) << 32 | ep.owner.generation);
        sched_yield();
        ivshm_endpoint_leave(&ep);
    }
    ivshm_a64_store_relaxed(w->target, 1);
    return NULL;
}

static void *attach_and_write(void *arg)
{
    struct worker *w = arg;
    struct ivshm_endpoint ep = live(w->r);
    size_t mine = 8192 + w->id * 1024;
    for (;;) {
        uint64_t target = ivshm_a64_load_relaxed(w->target);
        if (target == 1)
            break;
        struct ivshm_owner peer = {(uint32_t) (target >> 32) - 1, (uint32_t) target};
        char *base;
        if (target == 0 || ivshm_endpoint_attach(&ep, peer, (void **) &base, NULL) != 0) {
            sched_yield();
            continue;
        }
        memset(base + mine, (int) w->id, 512);
        if (target % 2)
            sched_yield();
        ivshm_off off = {(uint64_t) (base - (char *) w->r->map.base)};
        must(ivshm_extent_owned(w->r, peer, IVSHM_KIND_BASE, off, w->r->geo.base_bytes));
        for (size_t i = 0; i < 512; i++)
            must(base[mine + i] == (char) w->id);
        ivshm_endpoint_detach(&ep, peer.endpoint);
    }
    ivshm_endpoint_leave(&ep);
    return NULL;
}

static void *reap_on(void *arg)
{
    struct worker *w = arg;
    while (ivshm_a64_load_relaxed(w->target) != 1) {
        reap(w->r);
        sched_yield();
    }
    return NULL;
}

static void *attach_or_reap(void *arg)
{
    struct worker *w = arg;
    return w->id == 0 ? come_and_go(arg) : w->id < 4 ? attach_and_write(arg) : reap_on(arg);
}

TEST(test_attach_against_reap)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct worker workers[6];
    ivshm_a64 target = {0};
    for (uint32_t i = 0; i < LENGTH(workers); i++)
        workers[i] = (struct worker){.r = &r, .id = i, .target = &target};
    threads_run(LENGTH(workers), attach_or_reap, workers, sizeof(workers[0]));
    reap(&r);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/*
 * Edge A1, where a processor may let a load pass a store: again and again, one thread attaches
 * while the other marks the peer dead and checks the bit. At least one of the two must see the
 * other.
 */
#define MEETINGS 50000

struct meeting {
    struct ivshm_region *r;
    struct ivshm_endpoint *attacher;
    struct ivshm_owner peer;
    ivshm_a64 *came, *attached; /* how often both sides have met; result of the last meeting */
    bool is_reaper;
};

/* Returns once both are here, for the `n`th time. */
static void meet(const struct meeting *m, uint64_t n)
{
    ivshm_a64_add_seqcst(m->came, 1);
    for (uint32_t spins = 0; ivshm_a64_load_seqcst(m->came) < 2 * n; spins++)
        if (spins % 1024 == 1023)
            sched_yield();
}

static void *meet_often(void *arg)
{
    const struct meeting *m = arg;
    ivshm_a64 *claim = claim_at(m->r, m->peer.endpoint);
    const uint64_t live = ivshm_a64_load_relaxed(claim),
                   dead = (live & ~UINT64_C(7)) | IVSHM_CLAIM_DEAD;
    for (uint64_t n = 0; n < MEETINGS; n++) {
        void *base;
        bool seen = false;
        meet(m, 3 * n + 1);
        if (m->is_reaper) {
            must(ivshm_a64_cas_seqcst(claim, live, dead));
            seen = ivshm_a64_load_seqcst(m->attacher->attached) >> m->peer.endpoint & 1;
        } else {
            bool attached = ivshm_endpoint_attach(m->attacher, m->peer, &base, NULL) == 0;
            ivshm_a64_store_release(m->attached, attached);
        }
        meet(m, 3 * n + 2);
        if (m->is_reaper) {
            must(seen || !ivshm_a64_load_acquire(m->attached));
            must(ivshm_a64_cas_seqcst(claim, dead, live));
        } else {
            ivshm_endpoint_detach(m->attacher, m->peer.endpoint);
        }
        meet(m, 3 * n + 3);
    }
    return NULL;
}

TEST(test_attach_meets_death)
{
    struct ivshm_region r = region_new(4 * MIB);
    struct ivshm_endpoint a = live(&r), b = live(&r);
    ivshm_a64 came = {0}, attached = {0};
    struct meeting sides[2];
    for (int i = 0; i < 2; i++)
        sides[i] = (struct meeting){&r, &a, b.owner, &came, &attached, i == 1};
    threads_run(2, meet_often, sides, sizeof(sides[0]));
    ivshm_endpoint_leave(&a);
    ivshm_endpoint_leave(&b);
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/*
 * Detaching hands over what was written. Nothing else orders the memory's next owner after it, as
 * the two threads use relaxed accesses to talk.
 */
static void *write_and_detach(void *arg)
{
    struct worker *w = arg;
    struct ivshm_endpoint ep = live(w->r);
    struct ivshm_owner peer = {0, 1};
    void *base;
    must(ivshm_endpoint_attach(&ep, peer, &base, NULL) == 0);
    memset(base, 1, 512);
    ivshm_a64_store_relaxed(w->target, 1);
    while (ivshm_a64_load_relaxed(w->target) == 1)
        sched_yield();
    ivshm_endpoint_detach(&ep, peer.endpoint);
    while (ivshm_a64_load_relaxed(w->target) == 2)
        sched_yield();
    ivshm_endpoint_leave(&ep);
    return NULL;
}

static void *leave_and_wait(void *arg)
{
    struct worker *w = arg;
    struct ivshm_endpoint ep = {.region = w->r, .owner = {0, 1}};
    while (ivshm_a64_load_relaxed(w->target) == 0)
        sched_yield();
    must(ivshm_process_self(&ep.process, NULL) == 0);
    ivshm_off base = {ivshm_a64_load_relaxed(&w->r->endpoints[0].base)};
    ep.attached = (ivshm_a64 *) ((char *) w->r->map.base + base.bytes + w->r->geo.attached);
    ivshm_endpoint_leave(&ep);
    ivshm_a64_store_relaxed(w->target, 2);
    while (reap(w->r).endpoints == 0)
        sched_yield();
    ep = joined(w->r);
    must(ep.owner.endpoint == 0 && ep.base_off.bytes == base.bytes);
    ivshm_endpoint_leave(&ep);
    ivshm_a64_store_relaxed(w->target, 3);
    return NULL;
}

static void *detach_or_leave(void *arg)
{
    struct worker *w = arg;
    return w->id == 0 ? write_and_detach(arg) : leave_and_wait(arg);
}

TEST(test_detach_hands_over)
{
    struct ivshm_region r = region_new(4 * MIB);
    ivshm_a64 target = {0};
    live(&r); /* entry 0, which leave_and_wait acts for */
    struct worker workers[2];
    for (uint32_t i = 0; i < LENGTH(workers); i++)
        workers[i] = (struct worker){.r = &r, .id = i, .target = &target};
    threads_run(LENGTH(workers), detach_or_leave, workers, sizeof(workers[0]));
    assert_all_freed(&r);
    ivshm_region_close(&r);
}

/*
 * Children that join, attach to whom they find, allocate pipelines and leave. They are killed at
 * any instruction.
 */
static void live_at_random(void *arg)
{
    struct ivshm_region *r = arg;
    uint64_t seed = (uint64_t) getpid();
    for (;;) {
        struct ivshm_endpoint ep;
        struct ivshm_pipeline pipeline;
        if (ivshm_endpoint_join(r, "job", 0, 1, &ep, NULL) != 0)
            continue;
        ivshm_endpoint_publish(&ep, NULL);
        for (uint32_t i = 0; i < 8; i++) {
            struct ivshm_owner peer = {i, ivshm_endpoint_claim(r, i).generation};
            void *base;
            if (random_next(&seed) % 2 && ivshm_endpoint_attach(&ep, peer, &base, NULL) == 0) {
                memset((char *) base + 8192, 1, 64);
                if (random_next(&seed) % 2)
                    ivshm_endpoint_detach(&ep, i);
            }
        }
        if (random_next(&seed) % 2 && ivshm_pipeline_alloc(r, ep.owner, &pipeline) == 0 &&
            random_next(&seed) % 2)
            ivshm_pipeline_free(r, ep.owner, &pipeline);
        ivshm_endpoint_leave(&ep);
        ivshm_extent_reclaim(r, ep.owner);
    }
}

TEST(test_killed_at_random)
{
    struct ivshm_region r = region_new(4 * MIB);
    uint64_t seed = 9;
    for (int round = 0; round < 30; round++) {
        pid_t pids[3];
        for (size_t i = 0; i < LENGTH(pids); i++)
            pids[i] = child_start(live_at_random, &r);
        usleep(2000 + random_next(&seed) % 10000);
        for (size_t i = 0; i < LENGTH(pids); i++) {
            child_kill(pids[i]);
            reap(&r);
        }
        reap(&r);
        assert_all_freed(&r);
    }
    ivshm_region_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_join_publish_leave),
        cmocka_unit_test(test_long_job_name),
        cmocka_unit_test(test_base_is_zero),
        cmocka_unit_test(test_generation),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_attach),
        cmocka_unit_test(test_attach_errors),
        cmocka_unit_test(test_beyond_the_table),
        cmocka_unit_test(test_states_that_do_not_exist),
        cmocka_unit_test(test_failed_attach_keeps_attachment),
        cmocka_unit_test(test_leave_while_attached),
        cmocka_unit_test(test_mutual_attachment),
        cmocka_unit_test(test_attach_to_every_entry),
        cmocka_unit_test(test_table_full),
        cmocka_unit_test(test_memory_full),
        cmocka_unit_test(test_advised_size_is_enough),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_killed_while_we_are_attached),
        cmocka_unit_test(test_watch_frees_nothing),
        cmocka_unit_test(test_reap_without_judging),
        cmocka_unit_test(test_vm_is_gone),
        cmocka_unit_test(test_vm_is_not_known_to_be_gone),
        cmocka_unit_test(test_id_is_given_again),
        cmocka_unit_test(test_cost_of_locks),
        cmocka_unit_test(test_zombie_is_dead),
        cmocka_unit_test(test_stopped_is_not_dead),
        cmocka_unit_test(test_proof),
        cmocka_unit_test(test_bell),
        cmocka_unit_test(test_broken_seal),
        cmocka_unit_test(test_pid_of_a_joiner_is_used_again),
        cmocka_unit_test(test_declared_dead_while_joining),
        cmocka_unit_test(test_half_joined),
        cmocka_unit_test(test_hostile_claims),
        cmocka_unit_test(test_concurrent_join_and_leave),
        cmocka_unit_test(test_attach_against_reap),
        cmocka_unit_test(test_attach_meets_death),
        cmocka_unit_test(test_detach_hands_over),
        cmocka_unit_test(test_killed_at_random),
    };
    return RUN(tests);
}
