/* SPDX-License-Identifier: mpich2 */
#include "alive.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Reads a small file; returns its length or -errno. */
static int read_text(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, text, size - 1);
    int err = errno;
    close(fd);
    if (n < 0)
        return -err;
    text[n] = 0;
    return (int) n;
}

/* 32 hex digits, dashes ignored, as two words; both 0 if the file is missing or says something
 * else. */
static void read_uuid(const char *path, uint64_t uuid[2])
{
    char text[64];
    int digits = 0;
    uuid[0] = uuid[1] = 0;
    if (read_text(path, text, sizeof(text)) < 0)
        return;
    for (const char *c = text; *c && digits < 32; c++) {
        if (!isxdigit((unsigned char) *c))
            continue;
        unsigned value = isdigit((unsigned char) *c) ? (unsigned) (*c - '0')
                                                     : (unsigned) (tolower(*c) - 'a' + 10);
        uuid[digits / 16] = uuid[digits / 16] << 4 | value;
        digits++;
    }
    if (digits < 32)
        uuid[0] = uuid[1] = 0;
}

struct pid_stat {
    char state;
    uint64_t threads, start_time;
};

/* Fields 3, 20 and 22 of /proc/PID/stat, counted from behind the name, which may hold anything. */
static int read_pid_stat(uint64_t pid, struct pid_stat *out)
{
    char path[64], text[1024];
    snprintf(path, sizeof(path), "/proc/%llu/stat", (unsigned long long) pid);
    int n = read_text(path, text, sizeof(text));
    if (n < 0)
        return n;
    const char *rest = strrchr(text, ')');
    unsigned long long threads, start;
    if (!rest ||
        sscanf(rest + 1,
               " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu %*s %llu",
               &out->state, &threads, &start) != 3)
        return -EBADMSG;
    out->threads = threads;
    out->start_time = start;
    return 0;
}

int ivshm_process_self(struct ivshm_process *self, struct ivshm_diag *diag)
{
    struct ivshm_process p = {0};
    struct pid_stat pid_stat;
    struct stat ns;

    read_uuid("/proc/sys/kernel/random/boot_id", p.boot_id);
    read_uuid("/sys/class/dmi/id/product_uuid", p.vm_uuid);
    p.pid = (uint64_t) getpid();
    int err = read_pid_stat(p.pid, &pid_stat);
    if (err || (p.boot_id[0] | p.boot_id[1]) == 0)
        return ivshm_fail(diag, err ? -err : ENOENT,
                          "cannot read this process' start time and boot id in /proc: is /proc "
                          "mounted?");
    p.start_time = pid_stat.start_time;
    p.pid_ns = stat("/proc/self/ns/pid", &ns) == 0 ? ns.st_ino : 0;
    gethostname(p.host, sizeof(p.host) - 1);
    *self = p;
    return 0;
}

uint32_t ivshm_process_host_hash(const struct ivshm_process *process)
{
    uint64_t h = process->boot_id[0] ^ process->boot_id[1] ^ process->pid_ns;
    h *= UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t) (h >> (64 - IVSHM_CLAIM_HOST_BITS));
}

enum ivshm_verdict ivshm_pid_verdict(uint64_t pid, uint64_t start_time)
{
    struct pid_stat pid_stat;
    if (pid == 0 || pid >> IVSHM_CLAIM_PID_BITS)
        return IVSHM_UNKNOWN;
    if (kill((pid_t) pid, 0) != 0 && errno == ESRCH)
        return IVSHM_PROVED_DEAD;
    if (read_pid_stat(pid, &pid_stat) != 0)
        return IVSHM_ALIVE; /* hidden from us, or just gone: the next look will tell */
    if (start_time && pid_stat.start_time != start_time)
        return IVSHM_PROVED_DEAD;
    /* A zombie writes no more, unless only its first thread has ended. */
    if ((pid_stat.state == 'Z' || pid_stat.state == 'X') && pid_stat.threads <= 1)
        return IVSHM_PROVED_DEAD;
    return IVSHM_ALIVE;
}

enum ivshm_verdict ivshm_process_verdict(const struct ivshm_process *self,
                                         const struct ivshm_process *other)
{
    bool same_boot = memcmp(self->boot_id, other->boot_id, sizeof(self->boot_id)) == 0;
    bool same_vm = (self->vm_uuid[0] | self->vm_uuid[1]) != 0 &&
                   memcmp(self->vm_uuid, other->vm_uuid, sizeof(self->vm_uuid)) == 0;
    if (same_boot && self->pid_ns == other->pid_ns)
        return ivshm_pid_verdict(other->pid, other->start_time);
    if (same_vm && !same_boot)
        return IVSHM_PROVED_DEAD;
    return IVSHM_UNKNOWN;
}
