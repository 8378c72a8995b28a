/* SPDX-License-Identifier: mpich2 */
/*
 * Windows of one instruction, which threads and luck do not hit. A child is single-stepped through
 * a function and stopped after each instruction. There the other side acts, or the child is killed.
 * Not built with clang, whose code takes twice as many steps, nor with ThreadSanitizer, which makes
 * thousands of steps of each access.
 */
#include "unit.h"

#include <sys/ptrace.h>

static pid_t step_start(void (*body)(void *), void *arg)
{
    fflush(NULL);
    pid_t pid = fork();
    must(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
            _exit(77);
        raise(SIGSTOP);
        body(arg);
        _exit(0);
    }
    int status;
    must(waitpid(pid, &status, 0) == pid);
    return WIFSTOPPED(status) ? pid : -1;
}

/* One instruction; false when the child has ended. */
static bool step(pid_t pid)
{
    int status;
    must(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0);
    must(waitpid(pid, &status, 0) == pid);
    return WIFSTOPPED(status);
}

static int step_finish(pid_t pid)
{
    int status;
    must(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
    must(waitpid(pid, &status, 0) == pid);
    must(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static bool can_step(void)
{
    pid_t pid = step_start(child_exits, NULL);
    if (pid > 0)
        step_finish(pid);
    return pid > 0;
}

struct pair {
    struct ivshm_region r;
    struct ivshm_endpoint a, b;
};

static void pair_new(struct pair *p)
{
    p->r = region_new(4 * MIB);
    must(ivshm_endpoint_join(&p->r, "job", 0, 2, &p->a, NULL) == 0);
    must(ivshm_endpoint_join(&p->r, "job", 1, 2, &p->b, NULL) == 0);
    ivshm_endpoint_publish(&p->a, NULL);
    ivshm_endpoint_publish(&p->b, NULL);
}

static bool is_announced(const struct pair *p)
{
    return ivshm_a64_load_relaxed(&p->a.attached[0]) >> p->b.owner.endpoint & 1;
}

static bool is_dead(const struct pair *p)
{
    return ivshm_endpoint_claim(&p->r, p->b.owner.endpoint).state != IVSHM_CLAIM_LIVE;
}

static bool has_memory(const struct pair *p)
{
    return ivshm_extent_owned(&p->r, p->b.owner, IVSHM_KIND_BASE, p->b.base_off,
                              p->r.geo.base_bytes);
}

static void attach(void *arg)
{
    struct pair *p = arg;
    void *base;
    _exit(ivshm_endpoint_attach(&p->a, p->b.owner, &base, NULL) == 0 ? 0 : 1);
}

static void leave(void *arg)
{
    struct pair *p = arg;
    ivshm_endpoint_leave(&p->b);
}

/* Steps until `reached`; returns the number of instructions. */
static uint32_t steps_until(void (*body)(void *), bool (*reached)(const struct pair *))
{
    struct pair p;
    uint32_t steps = 0;
    pair_new(&p);
    pid_t pid = step_start(body, &p);
    while (!reached(&p)) {
        must(step(pid));
        steps++;
    }
    step_finish(pid);
    ivshm_region_close(&p.r);
    return steps;
}

#define WINDOW 150

/*
 * Edge A1: after each instruction of attach, a reaper marks the peer dead and checks whether
 * somebody is attached. If not, it will free the memory, however late; then the attach must not
 * succeed.
 */
TEST(test_reap_inside_attach)
{
    uint32_t announced = steps_until(attach, is_announced);
    int failed = 0, succeeded = 0;
    for (uint32_t k = announced > WINDOW ? announced - WINDOW : 0; k < announced + WINDOW; k++) {
        struct pair p;
        pair_new(&p);
        ivshm_a64 *claim = &p.r.endpoints[p.b.owner.endpoint].claim;
        pid_t pid = step_start(attach, &p);
        for (uint32_t i = 0; i < k; i++)
            must(step(pid));
        uint64_t word = ivshm_a64_load_relaxed(claim);
        assert_true(ivshm_a64_cas_seqcst(claim, word, (word & ~UINT64_C(7)) | IVSHM_CLAIM_DEAD));
        bool seen = is_announced(&p);
        if (step_finish(pid) == 0) {
            if (!seen)
                fail_msg("attached unseen: %d instructions from the announcement",
                         (int) (k - announced));
            succeeded++;
        } else {
            assert_false(is_announced(&p));
            failed++;
        }
        ivshm_endpoint_leave(&p.a);
        assert_all_freed(&p.r);
        ivshm_region_close(&p.r);
    }
    assert_true(failed > 0 && succeeded > 0); /* the window holds the edge */
}

/*
 * The other way round: a peer attaches after each instruction of leave, around the change of the
 * claim.
 */
TEST(test_attach_inside_leave)
{
    uint32_t dead = steps_until(leave, is_dead);
    int failed = 0, succeeded = 0;
    for (uint32_t k = dead > WINDOW ? dead - WINDOW : 0; k < dead + WINDOW; k++) {
        struct pair p;
        void *base;
        pair_new(&p);
        pid_t pid = step_start(leave, &p);
        for (uint32_t i = 0; i < k; i++)
            must(step(pid));
        int err = ivshm_endpoint_attach(&p.a, p.b.owner, &base, NULL);
        step_finish(pid);
        if (err == 0) {
            assert_true(has_memory(&p));
            succeeded++;
        } else {
            assert_false(has_memory(&p));
            failed++;
        }
        ivshm_endpoint_leave(&p.a);
        assert_all_freed(&p.r);
        ivshm_region_close(&p.r);
    }
    assert_true(failed > 0 && succeeded > 0);
}

/*
 * A producer dies after each instruction of a push: it has published or not, and does not block
 * others.
 */

#define SLOTS 4

struct push {
    struct ivshm_inbox_shm *shm;
    struct ivshm_queue_producer out;
    ivshm_a64 *done; /* shared: the child has finished */
};

static void push(void *arg)
{
    struct push *p = arg;
    ivshm_queue_push_mpsc(&p->out, (struct ivshm_ref){1, 7});
    ivshm_a64_store_relaxed(p->done, 1);
}

TEST(test_death_inside_push)
{
    size_t size = sizeof(struct ivshm_inbox_shm) + (SLOTS + 1) * sizeof(ivshm_a64);
    struct push p = {
        .shm = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)};
    int published = 0, not_published = 0;
    assert_ptr_not_equal(p.shm, MAP_FAILED);
    p.done = &p.shm->slot[SLOTS];
    for (uint32_t k = 0; ivshm_a64_load_relaxed(p.done) == 0; k++) {
        struct ivshm_queue_producer other;
        struct ivshm_queue_consumer in;
        struct ivshm_ref ref;
        inbox_reset(p.shm, SLOTS, UINT64_MAX - 1);
        ivshm_queue_producer_init(&p.out, p.shm, SLOTS);
        ivshm_queue_producer_init(&other, p.shm, SLOTS);
        ivshm_queue_consumer_init(&in, p.shm, SLOTS);
        assert_int_equal(ivshm_queue_push_mpsc(&other, (struct ivshm_ref){2, 0}), 0);
        pid_t pid = step_start(push, &p);
        for (uint32_t i = 0; i < k; i++)
            must(step(pid));
        child_kill(pid);

        /* Three laps beyond it. */
        uint16_t sent = 1, got = 0;
        for (bool seen = false; got < 3 * SLOTS;) {
            sent += ivshm_queue_push_mpsc(&other, (struct ivshm_ref){2, sent}) == 0;
            if (!ivshm_queue_pop_mpsc(&in, &ref))
                fail_msg("the consumer is stuck behind a producer that died after %u instructions",
                         k);
            if (ref.endpoint == 1) {
                assert_int_equal(ref.cell, 7);
                assert_false(seen);
                seen = true;
                published++;
            } else {
                assert_int_equal(ref.cell, got++);
            }
            not_published += got == 3 * SLOTS && !seen;
        }
    }
    assert_true(published > 0 && not_published > 0);
    munmap(p.shm, size);
}

/*
 * Edge S3: the region is formatted again after every few instructions of an opener. The opener gets
 * the earlier region, the later one, or none; never an id that is half of each.
 */

#define STRIDE 13       /* less than what is between two reads */
#define LOOK_STEPS 1600 /* by then the superblock has been read */

struct opener {
    struct ivshm_region r; /* of the formatter */
    const char *name;
    struct {
        ivshm_a64 id[2], through;
    } * found; /* shared */
};

static void open_region(void *arg)
{
    struct opener *l = arg;
    struct ivshm_region r;
    int err = ivshm_region_inspect(l->name, &r, NULL);
    for (int i = 0; i < 2 && err == 0; i++)
        ivshm_a64_store_relaxed(&l->found->id[i], r.id[i]);
    ivshm_a64_store_relaxed(&l->found->through, 1);
    _exit(err ? 1 : 0);
}

/* Until the n-th system call begins or ends; false when the child has ended. */
static bool step_calls(pid_t pid, uint32_t n)
{
    int status;
    for (uint32_t i = 0; i < n; i++) {
        must(ptrace(PTRACE_SYSCALL, pid, NULL, NULL) == 0);
        must(waitpid(pid, &status, 0) == pid);
        if (!WIFSTOPPED(status))
            return false;
    }
    return true;
}

TEST(test_format_inside_open)
{
    int fd = file_new(4 * MIB), after = 0, none = 0;
    must(posix_fallocate(fd, 0, 4 * MIB) ==
         0); /* else the last calls of an opener ask for memory */
    struct opener l = {.r = region_of_file(fd), .name = file_name(fd)};
    struct ivshm_superblock_shm *sb = l.r.map.base;
    l.found = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(l.found != MAP_FAILED);

    /* The last system call of an opener closes the file, which is mapped by then. */
    uint32_t calls = 0;
    pid_t pid = step_start(open_region, &l);
    while (step_calls(pid, 1))
        calls += ivshm_a64_load_relaxed(&l.found->through) == 0;
    for (uint32_t k = 0; k < LOOK_STEPS; k += STRIDE) {
        uint64_t was[] = {ivshm_a64_load_relaxed(&sb->id[0]), ivshm_a64_load_relaxed(&sb->id[1])};
        ivshm_a64_store_relaxed(&l.found->through, 0);
        pid = step_start(open_region, &l);
        must(step_calls(pid, calls));
        for (uint32_t i = 0; i < k; i++)
            must(step(pid));
        assert_int_equal(ivshm_region_format(&l.r.map, NULL), 0);
        if (step_finish(pid) != 0) {
            none++;
            continue;
        }
        uint64_t id[] = {ivshm_a64_load_relaxed(&l.found->id[0]),
                         ivshm_a64_load_relaxed(&l.found->id[1])};
        if (id[0] == ivshm_a64_load_relaxed(&sb->id[0]) &&
            id[1] == ivshm_a64_load_relaxed(&sb->id[1]))
            after++;
        else if (id[0] != was[0] || id[1] != was[1])
            fail_msg("an id that is half of each, %u instructions behind the last call", k);
    }
    assert_true(after > 0 && none > 0); /* the window holds the edge */
    munmap(l.found, 4096);
    ivshm_region_close(&l.r);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reap_inside_attach),
        cmocka_unit_test(test_attach_inside_leave),
        cmocka_unit_test(test_death_inside_push),
        cmocka_unit_test(test_format_inside_open),
    };
    if (!can_step()) {
        fprintf(stderr, "single-stepping is not allowed here\n");
        return 77;
    }
    return RUN(tests);
}
