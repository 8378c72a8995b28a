/* SPDX-License-Identifier: mpich2 */
#include "unit.h"

#include <sys/syscall.h>
#include <time.h>

static struct ivshm_process self_of(void)
{
    struct ivshm_process self;
    struct ivshm_diag diag;
    must(ivshm_process_self(&self, &diag) == 0);
    return self;
}

TEST(test_self)
{
    struct ivshm_process self = self_of(), again = self_of();
    struct stat ns;
    char host[64] = "";
    gethostname(host, sizeof(host) - 1);
    assert_int_equal(self.pid, getpid());
    assert_true(self.start_time > 0);
    assert_true((self.boot_id[0] | self.boot_id[1]) != 0);
    assert_int_equal(stat("/proc/self/ns/pid", &ns), 0);
    assert_int_equal(self.pid_ns, ns.st_ino);
    assert_string_equal(self.host, host);
    assert_memory_equal(&self, &again, sizeof(self));
}

TEST(test_host_hash)
{
    struct ivshm_process p = self_of(), q = p;
    uint32_t hash = ivshm_process_host_hash(&p);
    assert_true(hash < 1u << IVSHM_CLAIM_HOST_BITS);
    q.pid++;
    q.start_time++;
    assert_int_equal(ivshm_process_host_hash(&q),
                     hash); /* a property of the host, not of the process */
    q.boot_id[0] ^= 1;
    assert_int_not_equal(ivshm_process_host_hash(&q), hash);
    q = p;
    q.pid_ns++;
    assert_int_not_equal(ivshm_process_host_hash(&q), hash);
    /* The bits are spread: few of 1000 boots have the same ones. */
    int same = 0;
    for (uint64_t i = 1; i <= 1000; i++) {
        q.boot_id[1] = p.boot_id[1] ^ i * UINT64_C(0x9e3779b9);
        same += ivshm_process_host_hash(&q) == hash;
    }
    assert_true(same <= 1);
}

TEST(test_liveness_of_self)
{
    struct ivshm_process self = self_of(), other = self;
    assert_int_equal(ivshm_process_liveness(&self, &self, NULL), IVSHM_LIVENESS_ALIVE);
    /* The pid is in use again, by a process that started at another time. */
    for (int ticks = -3; ticks <= 3; ticks++) {
        other.start_time = self.start_time + (uint64_t) ticks;
        assert_int_equal(ivshm_process_liveness(&self, &other, NULL),
                         abs(ticks) <= 1 ? IVSHM_LIVENESS_ALIVE : IVSHM_LIVENESS_DEAD);
    }
    assert_int_equal(ivshm_pid_liveness(self.pid, 0), IVSHM_LIVENESS_ALIVE);
}

TEST(test_host_hash_of_the_unknown)
{
    struct ivshm_process p = self_of();
    assert_int_not_equal(ivshm_process_host_hash(&p), 0);
    p.boot_id[0] = p.boot_id[1] = 0;
    assert_int_equal(ivshm_process_host_hash(&p), 0);
    p.traits = IVSHM_TRAIT_MEMORY;
    assert_int_not_equal(ivshm_process_host_hash(&p), 0);
}

/* The identities of two processes, and the locality of one as seen from the other. */
TEST(test_locality)
{
    enum { MEM = IVSHM_TRAIT_MEMORY, UUID = IVSHM_TRAIT_UUID, DEV = UUID | IVSHM_TRAIT_DEVICE };
    static const struct {
        struct {
            uint64_t boot, uuid, generation, traits, ns;
        } self, other;
        enum ivshm_locality locality;
    } rows[] = {
        /* One kernel. */
        {{1, 0, 0, 0, 7}, {1, 0, 0, 0, 7}, IVSHM_LOCALITY_HERE},
        {{1, 2, 3, UUID, 7}, {1, 2, 3, UUID, 7}, IVSHM_LOCALITY_HERE},
        {{1, 0, 0, 0, 7}, {1, 2, 3, UUID, 7}, IVSHM_LOCALITY_HERE}, /* root knows more */
        {{1, 0, 0, MEM, 7}, {1, 0, 0, MEM, 7}, IVSHM_LOCALITY_HERE},
        {{1, 0, 0, 0, 0}, {1, 0, 0, 0, 0}, IVSHM_LOCALITY_HERE}, /* a kernel without namespaces */
        {{1, 0, 0, 0, 7}, {1, 0, 0, 0, 8}, IVSHM_LOCALITY_CONTAINER},
        {{1, 2, 3, UUID, 7}, {1, 2, 3, UUID, 8}, IVSHM_LOCALITY_CONTAINER},
        /* A container that hides its boot id: only the memory is left to judge by. */
        {{0, 0, 0, 0, 7}, {0, 0, 0, 0, 7}, IVSHM_LOCALITY_ELSEWHERE},
        {{1, 0, 0, 0, 7}, {0, 0, 0, 0, 7}, IVSHM_LOCALITY_ELSEWHERE},
        {{0, 0, 0, 0, 7}, {1, 0, 0, 0, 7}, IVSHM_LOCALITY_ELSEWHERE},
        {{0, 0, 0, MEM, 7}, {0, 0, 0, MEM, 7}, IVSHM_LOCALITY_HERE},
        {{1, 0, 0, MEM, 7}, {0, 0, 0, MEM, 8}, IVSHM_LOCALITY_CONTAINER},
        {{0, 0, 0, MEM, 7}, {0, 0, 0, 0, 7}, IVSHM_LOCALITY_ELSEWHERE},
        {{1, 2, 0, UUID, 7}, {0, 2, 0, UUID, 7}, IVSHM_LOCALITY_ELSEWHERE},
        /* A snapshot that runs twice. */
        {{1, 2, 0, UUID, 7}, {1, 3, 0, UUID, 7}, IVSHM_LOCALITY_ELSEWHERE},
        {{1, 2, 0, 0, 7}, {1, 3, 0, 0, 7}, IVSHM_LOCALITY_ELSEWHERE},
        {{1, 2, 0, MEM, 7}, {1, 3, 0, MEM, 7}, IVSHM_LOCALITY_ELSEWHERE},
        {{1, 2, 4, UUID, 7}, {1, 2, 5, UUID, 7}, IVSHM_LOCALITY_ELSEWHERE},
        {{1, 2, 4, UUID, 7}, {9, 2, 5, UUID, 7}, IVSHM_LOCALITY_ELSEWHERE},
        /* This VM has booted again. */
        {{1, 2, 0, DEV, 7}, {9, 2, 0, DEV, 7}, IVSHM_LOCALITY_REBOOTED},
        {{1, 2, 0, DEV, 7}, {9, 2, 0, DEV, 8}, IVSHM_LOCALITY_REBOOTED},
        {{1, 2, 3, DEV, 7}, {9, 2, 3, DEV, 7}, IVSHM_LOCALITY_REBOOTED},
        /*
         * It has; or it is the host of another VM with the same uuid, or a guest: not both use
         * devices.
         */
        {{1, 2, 0, UUID, 7}, {9, 2, 0, DEV, 7}, IVSHM_LOCALITY_ELSEWHERE},
        {{1, 2, 0, DEV, 7}, {9, 2, 0, UUID, 7}, IVSHM_LOCALITY_ELSEWHERE},
        {{1, 2, 0, UUID, 7}, {9, 2, 0, UUID, 7}, IVSHM_LOCALITY_ELSEWHERE},
        {{1, 2, 0, IVSHM_TRAIT_DEVICE, 7}, {9, 2, 0, DEV, 7}, IVSHM_LOCALITY_ELSEWHERE},
        {{1, 2, 0, DEV, 7}, {9, 2, 0, IVSHM_TRAIT_DEVICE, 7}, IVSHM_LOCALITY_ELSEWHERE},
        /* Not so: other VMs, no uuid, a uuid that is not the firmware's, the host with a guest. */
        {{1, 2, 0, DEV, 7}, {9, 3, 0, DEV, 7}, IVSHM_LOCALITY_ELSEWHERE},
        {{1, 0, 0, DEV, 7}, {9, 0, 0, DEV, 7}, IVSHM_LOCALITY_ELSEWHERE},
        {{1, 2, 0, DEV, 7}, {9, 0, 0, 0, 7}, IVSHM_LOCALITY_ELSEWHERE},
        {{1, 2, 0, DEV, 7}, {9, 2, 0, 0, 7}, IVSHM_LOCALITY_ELSEWHERE},
        {{1, 2, 0, 0, 7}, {9, 2, 0, DEV, 7}, IVSHM_LOCALITY_ELSEWHERE},
        {{1, 2, 0, UUID | MEM, 7}, {9, 2, 0, DEV, 7}, IVSHM_LOCALITY_ELSEWHERE},
        {{1, 2, 0, DEV, 7}, {9, 2, 0, UUID | MEM, 7}, IVSHM_LOCALITY_ELSEWHERE},
        {{1, 0, 0, MEM, 7}, {9, 0, 0, MEM, 7}, IVSHM_LOCALITY_ELSEWHERE}, /* a copied file */
    };
    for (size_t i = 0; i < LENGTH(rows); i++)
        for (int half = 0; half < 2; half++) { /* of each id */
            struct ivshm_process self = {.traits = rows[i].self.traits, .pid_ns = rows[i].self.ns};
            struct ivshm_process other = {.traits = rows[i].other.traits,
                                          .pid_ns = rows[i].other.ns};
            self.boot_id[half] = rows[i].self.boot;
            self.vm_uuid[half] = rows[i].self.uuid;
            self.vm_generation[half] = rows[i].self.generation;
            other.boot_id[half] = rows[i].other.boot;
            other.vm_uuid[half] = rows[i].other.uuid;
            other.vm_generation[half] = rows[i].other.generation;
            if (ivshm_process_locality(&self, &other) != rows[i].locality)
                fail_msg("row %zu is locality %d, expected %d", i,
                         ivshm_process_locality(&self, &other), rows[i].locality);
            other.pid = 1; /* exists, and did not start at 1000000 */
            other.start_time = 1000000;
            if (rows[i].locality == IVSHM_LOCALITY_ELSEWHERE ||
                rows[i].locality == IVSHM_LOCALITY_CONTAINER)
                assert_int_equal(ivshm_process_liveness(&self, &other, NULL),
                                 IVSHM_LIVENESS_UNKNOWN);
            if (rows[i].locality == IVSHM_LOCALITY_REBOOTED)
                assert_int_equal(ivshm_process_liveness(&self, &other, NULL), IVSHM_LIVENESS_DEAD);
        }
}

/*
 * Two processes that are both elsewhere: whether they are of one boot of one VM, as far as they
 * know.
 */
TEST(test_may_share_boot)
{
    static const struct {
        struct {
            uint64_t boot, uuid, generation;
        } a, b;
        bool may;
    } rows[] = {
        {{1, 2, 3}, {1, 2, 3}, true},  {{1, 0, 0}, {1, 2, 3}, true},  {{1, 0, 0}, {1, 0, 0}, true},
        {{0, 2, 0}, {1, 2, 3}, true},  {{0, 2, 0}, {0, 2, 0}, true},  {{1, 2, 0}, {1, 0, 3}, true},
        {{1, 2, 0}, {9, 2, 0}, false}, {{1, 2, 0}, {1, 9, 0}, false}, {{1, 2, 3}, {1, 2, 9}, false},
        {{1, 0, 0}, {9, 0, 0}, false}, {{1, 0, 0}, {0, 2, 0}, false}, {{0, 0, 0}, {0, 0, 0}, false},
        {{0, 0, 3}, {0, 0, 3}, false}, {{1, 0, 3}, {1, 0, 9}, false}, {{0, 2, 0}, {0, 9, 0}, false},
    };
    for (size_t i = 0; i < LENGTH(rows); i++)
        for (int half = 0; half < 2; half++) {
            struct ivshm_process a = {0}, b = {0};
            a.boot_id[half] = rows[i].a.boot;
            a.vm_uuid[half] = rows[i].a.uuid;
            a.vm_generation[half] = rows[i].a.generation;
            b.boot_id[half] = rows[i].b.boot;
            b.vm_uuid[half] = rows[i].b.uuid;
            b.vm_generation[half] = rows[i].b.generation;
            if (ivshm_process_may_share_boot(&a, &b) != rows[i].may ||
                ivshm_process_may_share_boot(&b, &a) != rows[i].may)
                fail_msg("row %zu", i);
        }
}

/* A /proc and a /sys of files that the test writes. */

static char fake[64];

/* Replaces core's: a fake root between fake_setup and fake_teardown. */
static const char *root = "";
const char *ivshm_liveness_root(void)
{
    return root;
}

__attribute__((format(printf, 2, 3))) static void put(const char *name, const char *text, ...)
{
    char path[256];
    snprintf(path, sizeof(path), "%s%s", fake, name);
    for (char *slash = path + strlen(fake) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = 0;
        must(mkdir(path, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    va_list ap;
    va_start(ap, text);
    must(file != NULL && vfprintf(file, text, ap) >= 0 && fclose(file) == 0);
    va_end(ap);
}

static void take(const char *name)
{
    char path[256];
    snprintf(path, sizeof(path), "%s%s", fake, name);
    must(unlink(path) == 0);
}

static uint64_t inode(const char *name)
{
    char path[256];
    struct stat st;
    snprintf(path, sizeof(path), "%s%s", fake, name);
    must(stat(path, &st) == 0);
    return st.st_ino;
}

static void put_stat(const char *pid, char state, int threads, uint64_t start)
{
    char name[80];
    snprintf(name, sizeof(name), "/proc/%s/stat", pid);
    put(name, "1 (x) %c 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 %d 0 %llu 0 0\n", state, threads,
        (unsigned long long) start);
}

#define BOOT_ID "/proc/sys/kernel/random/boot_id"
#define UUID "/sys/class/dmi/id/product_uuid"
#define GENERATION "/sys/firmware/qemu_fw_cfg/by_name/etc/vmgenid_guid/raw"

/* One process, this one, in the namespaces of a host. */
static int fake_setup(void **state)
{
    (void) state;
    snprintf(fake, sizeof(fake), "/tmp/ivshm-alive.XXXXXX");
    must(mkdtemp(fake) != NULL);
    put_stat("self", 'R', 1, 5000);
    put("/proc/self/status", "Name:\tx\nNSpid:\t%d\nNSpgid:\t1\n", getpid());
    put("/proc/self/ns/pid", "%s", "");
    put("/proc/self/ns/time", "%s", "");
    char old[256], new[256];
    snprintf(old, sizeof(old), "%s/proc/self/ns/time", fake);
    snprintf(new, sizeof(new), "%s/proc/self/ns/time_for_children", fake);
    must(link(old, new) == 0);
    put("/proc/self/timens_offsets", "monotonic           0         0\nboottime            0  0\n");
    put(BOOT_ID, "00010203-0405-0607-0809-0a0b0c0d0e0f\n");
    root = fake;
    return 0;
}

static int fake_teardown(void **state)
{
    char command[128];
    (void) state;
    root = "";
    snprintf(command, sizeof(command), "rm -rf %s", fake);
    return system(command);
}

TEST(test_identity_that_is_told)
{
    static const char *const none[] = {"",
                                       "\n",
                                       "00000000-0000-0000-0000-000000000000\n",
                                       "ffffffff-ffff-ffff-ffff-ffffffffffff\n",
                                       "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF\n",
                                       "Not Settable\n",
                                       "00010203-0405-0607-0809-0a0b0c0d0e0\n",
                                       "00010203-0405-0607-0809-0a0b0c0d0e0f0\n",
                                       "00010203-0405-0607-0809-0a0b0c0d0e0g\n"};
    struct ivshm_process p = self_of();
    assert_int_equal(p.boot_id[0], UINT64_C(0x0001020304050607));
    assert_int_equal(p.boot_id[1], UINT64_C(0x08090a0b0c0d0e0f));
    assert_int_equal(p.pid_ns, inode("/proc/self/ns/pid"));
    assert_int_equal(p.start_time, 5000);
    assert_int_equal(p.vm_uuid[0] | p.vm_uuid[1] | p.vm_generation[0] | p.traits, 0);
    for (size_t i = 0; i < LENGTH(none); i++) {
        put(BOOT_ID, "%s", none[i]);
        put(UUID, "%s", none[i]);
        p = self_of();
        assert_int_equal(p.boot_id[0] | p.boot_id[1] | p.vm_uuid[0] | p.vm_uuid[1] | p.traits, 0);
    }
    take(BOOT_ID);
    put(UUID, "A0010203-0405-0607-0809-0a0b0c0d0e0f\n");
    put(GENERATION, "%40s%16s%8s", "", "ABCDEFGHIJKLMNOP", "");
    p = self_of();
    assert_int_equal(p.boot_id[0] | p.boot_id[1], 0);
    assert_int_equal(p.vm_uuid[0], UINT64_C(0xa001020304050607));
    assert_int_equal(p.traits, IVSHM_TRAIT_UUID);
    assert_memory_equal(p.vm_generation, "ABCDEFGHIJKLMNOP", 16);
}

/* A process that its /proc does not know cannot join. */
TEST(test_no_self)
{
    struct ivshm_process self;
    struct ivshm_diag diag;
    take("/proc/self/stat");
    assert_int_equal(ivshm_process_self(&self, &diag), -ENOENT);
    assert_says(diag, "is /proc mounted");
}

/* hidepid: only that a pid is in use is visible. */
TEST(test_hidden)
{
    pid_t gone = child_start(child_exits, NULL);
    child_wait(gone);
    assert_int_equal(ivshm_pid_liveness((uint64_t) getpid(), 5000), IVSHM_LIVENESS_UNKNOWN);
    assert_int_equal(ivshm_pid_liveness((uint64_t) getpid(), 0), IVSHM_LIVENESS_UNKNOWN);
    assert_int_equal(ivshm_pid_liveness((uint64_t) gone, 5000), IVSHM_LIVENESS_DEAD);
}

/* In the /proc of an outer pid namespace, the same number is another process. */
TEST(test_outer_proc)
{
    char pid[16];
    uint64_t me = (uint64_t) getpid();
    snprintf(pid, sizeof(pid), "%d", getpid());
    put_stat(pid, 'R', 1, 100);
    assert_int_equal(ivshm_pid_liveness(me, 5000), IVSHM_LIVENESS_DEAD);
    put_stat(pid, 'Z', 1, 5000);
    assert_int_equal(ivshm_pid_liveness(me, 5000), IVSHM_LIVENESS_DEAD);
    static const char *const before[] = {"NSpid:\t77\t",   "NSpid:\t1", "Pid:\t",
                                         "NSpid:\nPid:\t", "NSpid:\tx", "NSpid:\t"};
    for (size_t i = 0; i < LENGTH(before); i++) {
        put("/proc/self/status", "Name:\tx\n%s%d%s\n", before[i], getpid(),
            i == LENGTH(before) - 1 ? "\t77" : "");
        put_stat(pid, 'R', 1, 100);
        assert_int_equal(ivshm_pid_liveness(me, 5000), IVSHM_LIVENESS_UNKNOWN);
        put_stat(pid, 'Z', 1, 5000);
        assert_int_equal(ivshm_pid_liveness(me, 5000), IVSHM_LIVENESS_UNKNOWN);
        put_stat(pid, 'S', 1, 5000);
        assert_int_equal(ivshm_pid_liveness(me, 5000), IVSHM_LIVENESS_ALIVE);
    }
    take("/proc/self/status");
    put_stat(pid, 'R', 1, 100);
    assert_int_equal(ivshm_pid_liveness(me, 5000), IVSHM_LIVENESS_UNKNOWN);
}

/* The time namespace's offset of the clock, in seconds. */
static int64_t clock_offset;

int clock_gettime(clockid_t id, struct timespec *now)
{
    int err = (int) syscall(SYS_clock_gettime, id, now);
    if (id == CLOCK_BOOTTIME)
        now->tv_sec = clock_offset ? 1000 + clock_offset : now->tv_sec; /* booted 1000 s ago */
    return err;
}

/* Some kernels add the offset of the reader's time namespace to start times, others do not. */
TEST(test_time_namespace)
{
    uint64_t hz = (uint64_t) sysconf(_SC_CLK_TCK), me = (uint64_t) getpid();
    static const int64_t offsets[] = {100000, 2000, -2000, 500, -500, 900, -900};
    char pid[16];
    snprintf(pid, sizeof(pid), "%d", getpid());
    for (size_t i = 0; i < LENGTH(offsets); i++)
        for (int added = 0; added < 2; added++)
            for (uint64_t start = 50; start <= 1000; start += 50) {
                uint64_t other = start * hz + 3, told = added ? (uint64_t) offsets[i] * hz : 0;
                clock_offset = offsets[i];
                put("/proc/self/timens_offsets", "monotonic 5 5\nboottime %10lld %9d\n",
                    (long long) offsets[i], 4000000); /* less than a tick */
                put_stat("self", 'R', 1, start * hz + told);
                uint64_t found = self_of().start_time;
                if (found != 0 && found != start * hz)
                    fail_msg("offset %lld, start %llu", (long long) offsets[i],
                             (unsigned long long) start);
                if (offsets[i] > 1000)
                    assert_int_equal(found, start * hz);
                /* A live process is not dead; another process is not alive. */
                put_stat(pid, 'R', 1, other + told);
                assert_int_not_equal(ivshm_pid_liveness(me, other), IVSHM_LIVENESS_DEAD);
                assert_int_equal(ivshm_pid_liveness(me, other + 7),
                                 found ? IVSHM_LIVENESS_DEAD : IVSHM_LIVENESS_UNKNOWN);
            }
    clock_offset = 0;
    put_stat(pid, 'R', 1, 7000);

    /* The offset shown is that of the children's namespace, or there is none. */
    put("/proc/self/timens_offsets", "monotonic 0 0\nboottime 0 0\n");
    put_stat("self", 'R', 1, 5000);
    assert_int_equal(ivshm_pid_liveness(me, 7002), IVSHM_LIVENESS_DEAD);
    take("/proc/self/ns/time_for_children");
    put("/proc/self/ns/time_for_children", "%s", "");
    assert_int_equal(self_of().start_time, 0);
    assert_int_equal(ivshm_pid_liveness(me, 7002), IVSHM_LIVENESS_UNKNOWN);
    take("/proc/self/ns/time");
    assert_int_equal(self_of().start_time, 5000);
    assert_int_equal(ivshm_pid_liveness(me, 7002), IVSHM_LIVENESS_DEAD);
    /* A start time that its owner did not know proves nothing, whatever is found. */
    assert_int_equal(ivshm_pid_liveness(me, 0), IVSHM_LIVENESS_ALIVE);
}

#define INITIAL_PID_NS 0xeffffffc
#define LIVENESS() (ivshm_census_free(&census), ivshm_process_liveness(&self, &other, &census))

static void put_groups(const char *name, size_t bytes, const char *pids)
{
    char *groups = malloc(bytes + 1);
    must(groups != NULL);
    for (size_t i = 0; i < bytes; i++)
        groups[i] = "12345678 "[i % 9];
    groups[bytes] = 0;
    put(name, "Name:\tx\nNSpid\nGroups:\t%s\nNSpid:\t%s\nNSpgid:\t1\n", groups, pids);
    free(groups);
}

/* Processes with many groups: the line in their status may be far behind, anywhere. */
TEST(test_many_groups)
{
    struct ivshm_process self = self_of(), other;
    struct ivshm_census census = {0};
    char own[32];
    self.pid_ns = INITIAL_PID_NS;
    other = self;
    other.pid = 5;
    other.start_time = 50;
    put("/proc/1/status", "Name:\tx\nNSpid:\t1\n");
    put_stat("77", 'R', 1, 50);
    put("/proc/77/ns/pid", "%s", "");
    other.pid_ns = inode("/proc/77/ns/pid");
    snprintf(own, sizeof(own), "%d", getpid());
    put_stat(own, 'Z', 1, 5000);
    for (size_t bytes = 8000; bytes < 600000; bytes += bytes < 8300 ? 1 : 59981) {
        put_groups("/proc/77/status", bytes, "77\t5");
        put_groups("/proc/self/status", bytes, own);
        assert_int_equal(LIVENESS(), IVSHM_LIVENESS_ALIVE);
        assert_int_equal(ivshm_pid_liveness((uint64_t) getpid(), 5000), IVSHM_LIVENESS_DEAD);
    }
    put_groups("/proc/77/status", 9000, "77\t6");
    assert_int_equal(LIVENESS(), IVSHM_LIVENESS_DEAD);
    /* The last line of all, and a very long line. */
    put("/proc/77/status", "Name:\tx\nNSpid:\t77\t5");
    assert_int_equal(LIVENESS(), IVSHM_LIVENESS_ALIVE);
    put("/proc/77/status", "Name:\tx\nNSpid:\t77%9000s\n", "5");
    assert_int_equal(LIVENESS(), IVSHM_LIVENESS_UNKNOWN);
    ivshm_census_free(&census);
}

/* The root of a machine searches for processes in its containers. */
TEST(test_container)
{
    struct ivshm_process self = self_of(), other;
    struct ivshm_census census = {0};
    self.pid_ns = INITIAL_PID_NS;
    other = self;
    put("/proc/1/status", "Name:\tx\nNSpid:\t1\n");
    put("/proc/77/status", "Name:\tx\nNSpid:\t77\t5\n");
    put_stat("77", 'R', 1, 50);
    put("/proc/77/ns/pid", "%s", "");
    put("/proc/78/status", "Name:\tx\nNSpid:\t78\n"); /* in no container */
    put_stat("78", 'R', 1, 60);
    put("/proc/79/ns/pid", "%s", ""); /* has ended */
    for (int i = 100; i < 140; i++) {
        char name[64];
        snprintf(name, sizeof(name), "/proc/%d/status", i);
        put(name, "Name:\tx\nNSpid:\t%d\t200\t%d\n", i, i - 90);
        snprintf(name, sizeof(name), "%d", i);
        put_stat(name, 'S', 1, 70);
    }
    other.pid = 5;
    other.start_time = 50;
    other.pid_ns = inode("/proc/77/ns/pid");
    assert_int_equal(ivshm_process_liveness(&self, &other, NULL), IVSHM_LIVENESS_UNKNOWN);
    assert_int_equal(LIVENESS(), IVSHM_LIVENESS_ALIVE);
    other.start_time = 51;
    assert_int_equal(ivshm_process_liveness(&self, &other, &census),
                     IVSHM_LIVENESS_ALIVE); /* the same one */
    other.start_time = 52;
    assert_int_equal(ivshm_process_liveness(&self, &other, &census), IVSHM_LIVENESS_DEAD);
    other.start_time = 0;
    assert_int_equal(ivshm_process_liveness(&self, &other, &census), IVSHM_LIVENESS_UNKNOWN);
    other.start_time = census.began;
    assert_int_equal(ivshm_process_liveness(&self, &other, &census), IVSHM_LIVENESS_UNKNOWN);
    other.start_time = census.began - 2;
    assert_int_equal(ivshm_process_liveness(&self, &other, &census), IVSHM_LIVENESS_DEAD);
    /* In nested containers, whose namespaces may be unknown. */
    other.start_time = 70;
    for (uint64_t i = 10; i < 50; i++) {
        other.pid = i;
        assert_int_equal(ivshm_process_liveness(&self, &other, &census), IVSHM_LIVENESS_UNKNOWN);
    }
    other.pid = 200; /* in between: this is another process' view */
    assert_int_equal(ivshm_process_liveness(&self, &other, &census), IVSHM_LIVENESS_DEAD);
    /* The same pid and start time in another container, then nowhere. */
    other.pid = 5;
    other.start_time = 50;
    other.pid_ns++;
    assert_int_equal(LIVENESS(), IVSHM_LIVENESS_DEAD);
    other.pid_ns--;
    put_stat("77", 'Z', 2, 50);
    assert_int_equal(LIVENESS(), IVSHM_LIVENESS_ALIVE);
    put_stat("77", 'Z', 1, 50);
    assert_int_equal(LIVENESS(), IVSHM_LIVENESS_DEAD);
    take("/proc/77/stat");
    assert_int_equal(LIVENESS(), IVSHM_LIVENESS_DEAD);
    put("/proc/77/stat/status", "%s", ""); /* cannot be read */
    assert_int_equal(LIVENESS(), IVSHM_LIVENESS_UNKNOWN);
    take("/proc/77/status");
    assert_int_equal(LIVENESS(), IVSHM_LIVENESS_DEAD);

    /* Nothing is proved by a process that cannot see all others. */
    self.pid_ns = 4;
    assert_int_equal(LIVENESS(), IVSHM_LIVENESS_UNKNOWN);
    self.pid_ns = INITIAL_PID_NS;
    put("/proc/self/status", "Name:\tx\nNSpid:\t1\t%d\n", getpid());
    assert_int_equal(LIVENESS(), IVSHM_LIVENESS_UNKNOWN);
    put("/proc/self/status", "Name:\tx\nNSpid:\t%d\n", getpid());
    assert_int_equal(LIVENESS(), IVSHM_LIVENESS_DEAD);
    take("/proc/1/status");
    assert_int_equal(LIVENESS(), IVSHM_LIVENESS_UNKNOWN);
    ivshm_census_free(&census);
}

TEST(test_impossible_pids)
{
    assert_int_equal(ivshm_pid_liveness(0, 0), IVSHM_LIVENESS_UNKNOWN);
    assert_int_equal(ivshm_pid_liveness(UINT64_C(1) << IVSHM_CLAIM_PID_BITS, 0),
                     IVSHM_LIVENESS_UNKNOWN);
    assert_int_equal(ivshm_pid_liveness(UINT64_MAX, 0),
                     IVSHM_LIVENESS_UNKNOWN); /* kill(-1) signals everybody */
    assert_int_equal(ivshm_pid_liveness((UINT64_C(1) << 32) + 1, 0), IVSHM_LIVENESS_UNKNOWN);
}

static void wait_for_ever(void *arg __attribute__((unused)))
{
    for (;;)
        pause();
}

static char state_of(pid_t pid)
{
    char path[64], text[512] = "";
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY);
    must(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
    close(fd);
    return strrchr(text, ')')[2];
}

static void await_state(pid_t pid, char state)
{
    for (int i = 0; i < PATIENCE_SECONDS * 1000; i++) {
        if (state_of(pid) == state)
            return;
        usleep(1000);
    }
    fail_msg("process %d did not come to state %c", pid, state);
}

TEST(test_gone)
{
    pid_t pid = child_start(wait_for_ever, NULL);
    assert_int_equal(ivshm_pid_liveness((uint64_t) pid, 0), IVSHM_LIVENESS_ALIVE);
    child_kill(pid);
    assert_int_equal(ivshm_pid_liveness((uint64_t) pid, 0), IVSHM_LIVENESS_DEAD);
}

TEST(test_zombie)
{
    pid_t pid = child_start(child_exits, NULL);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t) pid, &info, WEXITED | WNOWAIT),
                     0); /* leaves the zombie */
    assert_int_equal(state_of(pid), 'Z');
    assert_int_equal(ivshm_pid_liveness((uint64_t) pid, 0), IVSHM_LIVENESS_DEAD);
    child_wait(pid);
}

/* Silence is no proof. */
TEST(test_stopped)
{
    pid_t pid = child_start(wait_for_ever, NULL);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    await_state(pid, 'T');
    assert_int_equal(ivshm_pid_liveness((uint64_t) pid, 0), IVSHM_LIVENESS_ALIVE);
    child_kill(pid);
}

static void take_an_odd_name(void *arg)
{
    prctl(PR_SET_NAME, "a) Z 1 (b");
    tell(*(int *) arg);
    wait_for_ever(NULL);
}

TEST(test_odd_name)
{
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t pid = child_start(take_an_odd_name, &pipe_fds[1]);
    await(pipe_fds[0]);
    assert_int_equal(ivshm_pid_liveness((uint64_t) pid, 0), IVSHM_LIVENESS_ALIVE);
    child_kill(pid);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void *write_on(void *arg)
{
    wait_for_ever(arg);
    return NULL;
}

static void end_first_thread(void *arg __attribute__((unused)))
{
    pthread_t thread;
    must(pthread_create(&thread, NULL, write_on, NULL) == 0);
    pthread_exit(NULL);
}

/* The first thread has ended, but another one may still write. */
TEST(test_zombie_leader)
{
    pid_t pid = child_start(end_first_thread, NULL);
    await_state(pid, 'Z');
    assert_int_equal(ivshm_pid_liveness((uint64_t) pid, 0), IVSHM_LIVENESS_ALIVE);
    child_kill(pid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_self),
        cmocka_unit_test(test_host_hash),
        cmocka_unit_test(test_liveness_of_self),
        cmocka_unit_test(test_host_hash_of_the_unknown),
        cmocka_unit_test(test_locality),
        cmocka_unit_test(test_may_share_boot),
#define WITH_FAKE(test) cmocka_unit_test_setup_teardown(test, fake_setup, fake_teardown)
        WITH_FAKE(test_identity_that_is_told),
        WITH_FAKE(test_no_self),
        WITH_FAKE(test_hidden),
        WITH_FAKE(test_outer_proc),
        WITH_FAKE(test_time_namespace),
        WITH_FAKE(test_many_groups),
        WITH_FAKE(test_container),
        cmocka_unit_test(test_impossible_pids),
        cmocka_unit_test(test_gone),
        cmocka_unit_test(test_zombie),
        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_odd_name),
        cmocka_unit_test(test_zombie_leader),
    };
    return RUN(tests);
}
