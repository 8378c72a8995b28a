/* SPDX-License-Identifier: mpich2 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* F_OFD_GETLK */
#endif
#include "liveness.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define INITIAL_PID_NS UINT64_C(0xeffffffc) /* its inode number in every kernel */

__attribute__((weak)) const char *ivshm_liveness_root(void)
{
    return "";
}

static void root_path(char *path, size_t size, const char *name)
{
    snprintf(path, size, "%s%s", ivshm_liveness_root(), name);
}

/*
 * Reads a small file; returns its length or a negative errno. With `magic`, *is_kernels tells
 * whether it lies in that file system, and not in one mounted over it.
 */
static int read_text(const char *name, char *text, size_t size, long magic, bool *is_kernels)
{
    char path[256];
    struct statfs fs;
    root_path(path, sizeof(path), name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, text, size - 1);
    int err = errno;
    if (is_kernels)
        *is_kernels = *ivshm_liveness_root() || (fstatfs(fd, &fs) == 0 && fs.f_type == magic);
    close(fd);
    if (n < 0)
        return -err;
    text[n] = 0;
    return (int) n;
}

/*
 * Reads what follows `key`, which begins with a newline, on its line. The file may have any length:
 * the list of a process' groups alone may have half a megabyte. Returns the length, 0 if there is
 * no such line or it is empty, or a negative errno, -EBADMSG if the line does not fit into `text`.
 */
static int read_line(const char *name, const char *key, char *text, size_t size)
{
    char path[256];
    size_t len = strlen(key), held = 0;
    ssize_t n;
    root_path(path, sizeof(path), name);
    int fd = open(path, O_RDONLY | O_CLOEXEC), err = 0;
    if (fd < 0)
        return -errno;
    char *at = NULL, *end = NULL;
    while (!end && held < size - 1 && (n = read(fd, text + held, size - 1 - held)) != 0) {
        if (n < 0) {
            err = -errno;
            break;
        }
        held += (size_t) n;
        text[held] = 0;
        at = strstr(text, key);
        end = at ? strchr(at + len, '\n') : NULL;
        /* Keeps what may be the beginning of the key, and everything from the key on. */
        size_t done = at ? (size_t) (at - text) : held < len ? 0 : held - (len - 1);
        held -= done;
        memmove(text, text + done, held + 1);
        end = end ? end - done : NULL;
    }
    close(fd);
    if (err || !at)
        return err;
    if (!end && held == size - 1)
        return -EBADMSG;
    if (end)
        *end = 0;
    memmove(text, text + len, strlen(text + len) + 1);
    return (int) strlen(text);
}

/*
 * Parses 32 hex digits, ignoring dashes, into two words. False if it is not a uuid, or one that
 * says nothing: all zeros or all ones.
 */
static bool parse_uuid(const char *text, uint64_t uuid[2])
{
    int digits = 0;
    uuid[0] = uuid[1] = 0;
    for (const char *c = text; *c && *c != '\n'; c++) {
        if (*c == '-')
            continue;
        if (!isxdigit((unsigned char) *c) || digits == 32)
            return false;
        unsigned value = isdigit((unsigned char) *c) ? (unsigned) (*c - '0')
                                                     : (unsigned) (tolower(*c) - 'a' + 10);
        uuid[digits / 16] = uuid[digits / 16] << 4 | value;
        digits++;
    }
    return digits == 32 && (uuid[0] | uuid[1]) != 0 && (uuid[0] & uuid[1]) != UINT64_MAX;
}

static bool is_known(const uint64_t id[2])
{
    return (id[0] | id[1]) != 0;
}

static bool ids_equal(const uint64_t a[2], const uint64_t b[2])
{
    return a[0] == b[0] && a[1] == b[1];
}

/* Whether both are known and they differ. */
static bool ids_differ(const uint64_t a[2], const uint64_t b[2])
{
    return is_known(a) && is_known(b) && !ids_equal(a, b);
}

/*
 * Containers may mount a file of their own there, or /proc/sys/kernel/random/uuid, which differs at
 * each read. Neither is the kernel's boot id.
 */
static void read_boot_id(uint64_t id[2])
{
    static const char name[] = "/proc/sys/kernel/random/boot_id";
    char text[64];
    uint64_t again[2];
    bool is_kernels = false;
    if (read_text(name, text, sizeof(text), PROC_SUPER_MAGIC, &is_kernels) < 0 || !is_kernels ||
        !parse_uuid(text, id) || read_text(name, text, sizeof(text), 0, NULL) < 0 ||
        !parse_uuid(text, again) || !ids_equal(id, again))
        id[0] = id[1] = 0;
}

/* Only root may read these. */
static void read_vm(struct ivshm_process *p)
{
    char text[64];
    bool is_kernels = false;
    if (read_text("/sys/class/dmi/id/product_uuid", text, sizeof(text), SYSFS_MAGIC, &is_kernels) <
            0 ||
        !parse_uuid(text, p->vm_uuid))
        p->vm_uuid[0] = p->vm_uuid[1] = 0;
    else if (is_kernels)
        p->traits |= IVSHM_TRAIT_UUID;
    /* Each read asks the hypervisor, so a value in the memory of a snapshot does not count. */
    int n = read_text("/sys/firmware/qemu_fw_cfg/by_name/etc/vmgenid_guid/raw", text, sizeof(text),
                      SYSFS_MAGIC, &is_kernels);
    if (n >= 56)
        memcpy(p->vm_generation, text + 40, 16);
}

struct pid_stat {
    char state;
    uint64_t threads, start_time;
};

/*
 * Fields 3, 20 and 22 of /proc/PID/stat, counted from behind the name, which may contain anything.
 */
static int read_pid_stat(const char *pid, struct pid_stat *out)
{
    char name[64], text[1024];
    bool is_kernels = false;
    snprintf(name, sizeof(name), "/proc/%s/stat", pid);
    int n = read_text(name, text, sizeof(text), PROC_SUPER_MAGIC, &is_kernels);
    if (n < 0)
        return n;
    const char *rest = strrchr(text, ')');
    unsigned long long threads, start;
    if (!is_kernels || !rest ||
        sscanf(rest + 1,
               " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu %*s %llu",
               &out->state, &threads, &start) != 3)
        return -EBADMSG;
    out->threads = threads;
    out->start_time = start;
    return 0;
}

/* A zombie does not write any more, unless only its first thread has ended. */
static bool is_over(const struct pid_stat *stat)
{
    return (stat->state == 'Z' || stat->state == 'X') && stat->threads <= 1;
}

/* The inode number of a process' namespace; returns 0 or a negative errno. */
static int read_namespace(const char *pid, const char *which, uint64_t *inode)
{
    char name[64], path[256];
    struct stat st;
    snprintf(name, sizeof(name), "/proc/%s/ns/%s", pid, which);
    root_path(path, sizeof(path), name);
    if (stat(path, &st) != 0)
        return -errno;
    *inode = st.st_ino;
    return 0;
}

/*
 * Returns how many pid namespaces a process is in, from that of /proc down to its own, and its pid
 * in the innermost one. 0 if the kernel has no pid namespaces; a negative errno, -EBADMSG if it
 * cannot be told.
 */
static int read_pids(const char *pid, uint64_t *innermost)
{
    char name[64], text[8192];
    snprintf(name, sizeof(name), "/proc/%s/status", pid);
    int levels = 0, n = read_line(name, "\nNSpid:", text, sizeof(text));
    if (n < 0)
        return n;
    char *end, *at = text;
    if (n == 0) {
        uint64_t ns;
        return read_namespace("self", "pid", &ns) == -ENOENT ? 0 : -EBADMSG;
    }
    for (; *at == '\t' || *at == ' '; at = end, levels++) {
        *innermost = strtoull(at, &end, 10);
        if (end == at)
            return -EBADMSG;
    }
    return levels ? levels : -EBADMSG;
}

/*
 * Whether /proc belongs to the caller's pid namespace. In a /proc that an outer namespace has left
 * mounted, the same number is another process.
 */
static bool proc_is_own(void)
{
    uint64_t pid = 0;
    int levels = read_pids("self", &pid);
    return levels == 0 || (levels == 1 && pid == (uint64_t) getpid());
}

/* Offsets have nanoseconds, so a sum may round up by a tick. */
static bool ticks_near(uint64_t a, uint64_t b)
{
    return a - b + 1 <= 2;
}

static int64_t ticks_of(long long seconds, long long nanoseconds)
{
    long hz = sysconf(_SC_CLK_TCK);
    return seconds * hz + nanoseconds / (1000000000 / hz);
}

/*
 * What the kernel adds to the start times that this process reads: the offset of its time
 * namespace. False if it cannot be told.
 */
static bool start_offset(int64_t *offset)
{
    char text[256];
    uint64_t own, children;
    long long seconds, nanoseconds;
    struct timespec now;
    struct pid_stat self;
    *offset = 0;
    int err = read_namespace("self", "time", &own);
    if (err)
        return err == -ENOENT; /* a kernel without time namespaces */
    /* The file shows the offsets of the namespace that children will have. */
    if (read_namespace("self", "time_for_children", &children) != 0 || own != children ||
        read_text("/proc/self/timens_offsets", text, sizeof(text), 0, NULL) < 0)
        return false;
    const char *boottime = strstr(text, "boottime");
    if (!boottime || sscanf(boottime, "boottime %lld %lld", &seconds, &nanoseconds) != 2)
        return false;
    if (seconds == 0 && nanoseconds == 0)
        return true;
    /* Not every kernel with time namespaces adds the offset: see which reading is possible. */
    if (read_pid_stat("self", &self) != 0 || clock_gettime(CLOCK_BOOTTIME, &now) != 0)
        return false;
    int64_t ticks = ticks_of(seconds, nanoseconds), start = (int64_t) self.start_time;
    int64_t uptime = ticks_of(now.tv_sec, now.tv_nsec) - ticks + 1;
    bool may_be_added = start >= ticks && start - ticks <= uptime, may_be_not = start <= uptime;
    if (may_be_added == may_be_not)
        return false;
    *offset = may_be_added ? ticks : 0;
    return true;
}

int ivshm_process_self(struct ivshm_process *self, struct ivshm_diag *diag)
{
    struct ivshm_process p = {0};
    struct pid_stat stat;
    int64_t offset;
    int err = read_pid_stat("self", &stat), no_ns = read_namespace("self", "pid", &p.pid_ns);

    if (err || (no_ns && no_ns != -ENOENT))
        return ivshm_diag_fail(
            diag, err ? -err : -no_ns,
            "cannot read this process' start time and pid namespace in /proc/self: is "
            "/proc mounted, and is it that of this pid namespace?");
    read_boot_id(p.boot_id);
    read_vm(&p);
    p.pid = (uint64_t) getpid();
    if (start_offset(&offset))
        p.start_time = stat.start_time - (uint64_t) offset;
    gethostname(p.host, sizeof(p.host) - 1);
    *self = p;
    return 0;
}

uint32_t ivshm_process_host_hash(const struct ivshm_process *process)
{
    uint64_t h = process->boot_id[0] ^ process->boot_id[1] ^ process->pid_ns;
    if (!is_known(process->boot_id) && !(process->traits & IVSHM_TRAIT_MEMORY))
        return 0;
    h *= UINT64_C(0x9e3779b97f4a7c15);
    h >>= 64 - IVSHM_CLAIM_HOST_BITS;
    return h ? (uint32_t) h : 1;
}

bool ivshm_process_may_share_boot(const struct ivshm_process *a, const struct ivshm_process *b)
{
    return !ids_differ(a->boot_id, b->boot_id) && !ids_differ(a->vm_uuid, b->vm_uuid) &&
           !ids_differ(a->vm_generation, b->vm_generation) &&
           ((is_known(a->boot_id) && is_known(b->boot_id)) ||
            (is_known(a->vm_uuid) && is_known(b->vm_uuid)));
}

enum ivshm_locality ivshm_process_locality(const struct ivshm_process *self,
                                           const struct ivshm_process *other)
{
    bool memory[] = {self->traits & IVSHM_TRAIT_MEMORY, other->traits & IVSHM_TRAIT_MEMORY};
    /* Two VMs restored from one snapshot differ only in what the hypervisor tells. */
    if (ids_differ(self->vm_uuid, other->vm_uuid) ||
        ids_differ(self->vm_generation, other->vm_generation))
        return IVSHM_LOCALITY_ELSEWHERE;
    if (ids_differ(self->boot_id, other->boot_id))
        return is_known(self->vm_uuid) && ids_equal(self->vm_uuid, other->vm_uuid) &&
                       (self->traits & other->traits & IVSHM_TRAIT_UUID) &&
                       (self->traits & other->traits & IVSHM_TRAIT_DEVICE)
                   ? IVSHM_LOCALITY_REBOOTED
                   : IVSHM_LOCALITY_ELSEWHERE;
    /* Two processes that map the region as a file of their kernel's own memory share a kernel. */
    bool same_boot = is_known(self->boot_id) && is_known(other->boot_id);
    if (!same_boot && !(memory[0] && memory[1]))
        return IVSHM_LOCALITY_ELSEWHERE;
    return self->pid_ns == other->pid_ns ? IVSHM_LOCALITY_HERE : IVSHM_LOCALITY_CONTAINER;
}

enum ivshm_liveness ivshm_pid_liveness(uint64_t pid, uint64_t start_time)
{
    struct pid_stat stat;
    char text[24];
    int64_t offset;
    if (pid == 0 || pid >> IVSHM_CLAIM_PID_BITS)
        return IVSHM_LIVENESS_UNKNOWN;
    if (kill((pid_t) pid, 0) != 0 && errno == ESRCH)
        return IVSHM_LIVENESS_DEAD;
    snprintf(text, sizeof(text), "%llu", (unsigned long long) pid);
    if (read_pid_stat(text, &stat) != 0)
        return IVSHM_LIVENESS_UNKNOWN; /* hidden from us, or just gone: the next check will tell */
    bool is_it = !start_time || ticks_near(stat.start_time, start_time);
    if (!is_it) {
        if (!start_offset(&offset))
            return IVSHM_LIVENESS_UNKNOWN;
        is_it = ticks_near(stat.start_time - (uint64_t) offset, start_time);
    }
    if (is_it && !is_over(&stat))
        return IVSHM_LIVENESS_ALIVE;
    return proc_is_own() ? IVSHM_LIVENESS_DEAD : IVSHM_LIVENESS_UNKNOWN;
}

/* A process in a pid namespace below ours. */
struct ivshm_inner {
    uint64_t pid, pid_ns, start_time; /* pid_ns 0 if we may not read it */
};

enum { CENSUS_TAKEN = 1, CENSUS_IMPOSSIBLE };

/* Adds the process of one entry of /proc if it is in a container. Returns 0 or a negative errno. */
static int count_process(struct ivshm_census *census, const char *pid, int64_t offset)
{
    struct ivshm_inner p = {0};
    struct pid_stat stat;
    int levels = read_pids(pid, &p.pid);
    if (levels >= 0 && levels <= 1)
        return 0;
    if (levels > 1)
        levels = read_pid_stat(pid, &stat);
    if (levels < 0) /* gone, so not a process that lives throughout the census */
        return levels == -ENOENT || levels == -ESRCH ? 0 : levels;
    if (is_over(&stat))
        return 0;
    p.start_time = stat.start_time - (uint64_t) offset;
    if (read_namespace(pid, "pid", &p.pid_ns) != 0)
        p.pid_ns = 0;
    if ((census->count & (census->count - 1)) == 0) { /* full: sizes are powers of two */
        size_t size = census->count ? 2 * census->count : 1;
        struct ivshm_inner *larger = realloc(census->inner, size * sizeof(*larger));
        if (!larger)
            return -ENOMEM;
        census->inner = larger;
    }
    census->inner[census->count++] = p;
    return 0;
}

/*
 * Finds all processes in the containers of this kernel. Possible only where all processes can be
 * seen: in the initial pid namespace, with its own /proc, which hides nothing from us. A process
 * that lives throughout is found, as its pid does not change.
 */
static void collect_census(const struct ivshm_process *self, struct ivshm_census *census)
{
    char path[256];
    uint64_t pid;
    int64_t offset;
    struct timespec now;
    census->state = CENSUS_IMPOSSIBLE;
    /* Process 1 is root's and has all rights: whoever may see it may see every process. */
    if (self->pid_ns != INITIAL_PID_NS || !proc_is_own() || read_pids("1", &pid) != 1 ||
        !start_offset(&offset) || clock_gettime(CLOCK_BOOTTIME, &now) != 0)
        return;
    census->began = (uint64_t) (ticks_of(now.tv_sec, now.tv_nsec) - offset);
    root_path(path, sizeof(path), "/proc");
    DIR *dir = opendir(path);
    if (!dir)
        return;
    int err = 0;
    struct dirent *entry;
    errno = 0;
    while (!err && (entry = readdir(dir)) != NULL) {
        if (isdigit((unsigned char) entry->d_name[0]))
            err = count_process(census, entry->d_name, offset);
        errno = 0;
    }
    if (!err && errno == 0)
        census->state = CENSUS_TAKEN;
    closedir(dir);
}

void ivshm_census_free(struct ivshm_census *census)
{
    free(census->inner);
    *census = (struct ivshm_census){0};
}

static enum ivshm_liveness container_liveness(const struct ivshm_process *self,
                                              const struct ivshm_process *other,
                                              struct ivshm_census *census)
{
    enum ivshm_liveness liveness = IVSHM_LIVENESS_DEAD;
    if (census->state == 0)
        collect_census(self, census);
    /* Processes that started after it began may be missing. */
    if (census->state != CENSUS_TAKEN || other->start_time == 0 ||
        other->start_time + 2 > census->began)
        return IVSHM_LIVENESS_UNKNOWN;
    for (size_t i = 0; i < census->count; i++) {
        const struct ivshm_inner *p = &census->inner[i];
        if (p->pid != other->pid || !ticks_near(p->start_time, other->start_time))
            continue;
        if (p->pid_ns == other->pid_ns)
            return IVSHM_LIVENESS_ALIVE;
        if (p->pid_ns == 0)
            liveness = IVSHM_LIVENESS_UNKNOWN;
    }
    return liveness;
}

enum ivshm_liveness ivshm_process_liveness(const struct ivshm_process *self,
                                           const struct ivshm_process *other,
                                           struct ivshm_census *census)
{
    switch (ivshm_process_locality(self, other)) {
    case IVSHM_LOCALITY_HERE:
        return ivshm_pid_liveness(other->pid, other->start_time);
    case IVSHM_LOCALITY_CONTAINER:
        return census ? container_liveness(self, other, census) : IVSHM_LIVENESS_UNKNOWN;
    case IVSHM_LOCALITY_REBOOTED:
        return IVSHM_LIVENESS_DEAD;
    default:
        return IVSHM_LIVENESS_UNKNOWN;
    }
}

void ivshm_locks_close(struct ivshm_locks *locks)
{
    if (locks->is_open)
        close(locks->fd);
    *locks = (struct ivshm_locks){0};
}

/*
 * The file is opened for each pass, and is the one that was mapped: a descriptor that is kept may
 * be another file's by now, in a program that closes what it does not know.
 */
bool ivshm_peer_is_gone(const struct ivshm_map *map, uint32_t peer, struct ivshm_locks *locks)
{
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = IVSHM_PEER_LOCKS + peer, .l_len = 1};
    if (map->is_device || !map->is_memory || peer > IVSHM_PEER_MAX || locks->cannot_open)
        return false;
    /* That it is held may be old news, and proves nothing. Often several in a row have one peer. */
    if (locks->has_held && locks->held == peer)
        return false;
    if (!locks->is_open) {
        locks->fd = ivshm_map_reopen(map);
        locks->is_open = locks->fd >= 0;
        locks->cannot_open = !locks->is_open;
        if (locks->cannot_open)
            return false;
    }
    if (fcntl(locks->fd, F_OFD_GETLK, &lock) != 0)
        return false;
    locks->has_held = lock.l_type != F_UNLCK;
    locks->held = peer;
    return !locks->has_held;
}
