/* SPDX-License-Identifier: mpich2 */
#include "unit.h"

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
    assert_int_equal(ivshm_process_host_hash(&q), hash); /* of the host, not the process */
    q.boot_id[0] ^= 1;
    assert_int_not_equal(ivshm_process_host_hash(&q), hash);
    q = p;
    q.pid_ns++;
    assert_int_not_equal(ivshm_process_host_hash(&q), hash);
    /* The bits spread: few of 1000 boots look alike. */
    int same = 0;
    for (uint64_t i = 1; i <= 1000; i++) {
        q.boot_id[1] = p.boot_id[1] ^ i * UINT64_C(0x9e3779b9);
        same += ivshm_process_host_hash(&q) == hash;
    }
    assert_true(same <= 1);
}

TEST(test_verdict_of_self)
{
    struct ivshm_process self = self_of(), other = self;
    assert_int_equal(ivshm_process_verdict(&self, &self), IVSHM_ALIVE);
    /* The pid is in use again, by a process that started at another time. */
    other.start_time--;
    assert_int_equal(ivshm_process_verdict(&self, &other), IVSHM_PROVED_DEAD);
    other.start_time += 2;
    assert_int_equal(ivshm_process_verdict(&self, &other), IVSHM_PROVED_DEAD);
    assert_int_equal(ivshm_pid_verdict(self.pid, 0), IVSHM_ALIVE);
}

TEST(test_verdict_elsewhere)
{
    struct ivshm_process self = self_of(), other;
    self.vm_uuid[0] = 1;
    self.vm_uuid[1] = 2;
    other = self;

    /* Another container of this boot: its pids mean nothing here. */
    other.pid_ns++;
    other.pid = 1u << 21;
    assert_int_equal(ivshm_process_verdict(&self, &other), IVSHM_UNKNOWN);

    /* This VM has booted again. */
    other = self;
    other.boot_id[0] ^= 1;
    assert_int_equal(ivshm_process_verdict(&self, &other), IVSHM_PROVED_DEAD);
    other = self;
    other.boot_id[1] ^= 1;
    assert_int_equal(ivshm_process_verdict(&self, &other), IVSHM_PROVED_DEAD);

    /* Another VM. */
    other.vm_uuid[1]++;
    assert_int_equal(ivshm_process_verdict(&self, &other), IVSHM_UNKNOWN);
    other.vm_uuid[1]--;
    other.vm_uuid[0]++;
    assert_int_equal(ivshm_process_verdict(&self, &other), IVSHM_UNKNOWN);

    /* VMs without a uuid are not the same VM. */
    memset(self.vm_uuid, 0, sizeof(self.vm_uuid));
    memset(other.vm_uuid, 0, sizeof(other.vm_uuid));
    assert_int_equal(ivshm_process_verdict(&self, &other), IVSHM_UNKNOWN);
}

TEST(test_impossible_pids)
{
    assert_int_equal(ivshm_pid_verdict(0, 0), IVSHM_UNKNOWN);
    assert_int_equal(ivshm_pid_verdict(UINT64_C(1) << IVSHM_CLAIM_PID_BITS, 0), IVSHM_UNKNOWN);
    assert_int_equal(ivshm_pid_verdict(UINT64_MAX, 0), IVSHM_UNKNOWN); /* kill(-1) asks everybody */
    assert_int_equal(ivshm_pid_verdict((UINT64_C(1) << 32) + 1, 0), IVSHM_UNKNOWN);
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
    assert_int_equal(ivshm_pid_verdict((uint64_t) pid, 0), IVSHM_ALIVE);
    child_kill(pid);
    assert_int_equal(ivshm_pid_verdict((uint64_t) pid, 0), IVSHM_PROVED_DEAD);
}

TEST(test_zombie)
{
    pid_t pid = child_start(child_exits, NULL);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t) pid, &info, WEXITED | WNOWAIT),
                     0); /* leaves the zombie */
    assert_int_equal(state_of(pid), 'Z');
    assert_int_equal(ivshm_pid_verdict((uint64_t) pid, 0), IVSHM_PROVED_DEAD);
    child_wait(pid);
}

/* Silence is no proof. */
TEST(test_stopped)
{
    pid_t pid = child_start(wait_for_ever, NULL);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    await_state(pid, 'T');
    assert_int_equal(ivshm_pid_verdict((uint64_t) pid, 0), IVSHM_ALIVE);
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
    assert_int_equal(ivshm_pid_verdict((uint64_t) pid, 0), IVSHM_ALIVE);
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

/* The first thread has ended, another may still write. */
TEST(test_zombie_leader)
{
    pid_t pid = child_start(end_first_thread, NULL);
    await_state(pid, 'Z');
    assert_int_equal(ivshm_pid_verdict((uint64_t) pid, 0), IVSHM_ALIVE);
    child_kill(pid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_self),
        cmocka_unit_test(test_host_hash),
        cmocka_unit_test(test_verdict_of_self),
        cmocka_unit_test(test_verdict_elsewhere),
        cmocka_unit_test(test_impossible_pids),
        cmocka_unit_test(test_gone),
        cmocka_unit_test(test_zombie),
        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_odd_name),
        cmocka_unit_test(test_zombie_leader),
    };
    return RUN(tests);
}
