/* SPDX-License-Identifier: mpich2 */
/*
 * Runs a program and strikes it at a tracepoint of core/tracepoint.h: kills it, or stops it for a
 * while. The tracepoints are found through the notes of their probes in all that the program has
 * mapped when it begins. They are breakpoints while they are awaited. So it is the library as
 * installed that is struck.
 *
 *   strike -l FILE
 *       lists the tracepoints in an ELF file
 *   strike -c FILE PROGRAM ARG...
 *       appends "TRACEPOINT HITS" to FILE for each tracepoint that was passed
 *   strike -p TRACEPOINT [-n N] [-s MS] PROGRAM ARG...
 *       kills (SIGKILL) at the Nth hit, the first by default, or stops for MS milliseconds
 *   strike ... -a TRACEPOINT
 *       counts from the first hit of TRACEPOINT on
 *   strike ... -o FILE
 *       appends "TRACEPOINT N" to FILE when it strikes
 *
 * Ends as the program does. Only one thread is watched.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROVIDER "ivshmem"
#define SITES_MAX 512 /* inlined tracepoints have many */
#define TRAP 0xcc
#define NOP 0x90

struct site {
    uint64_t address;
    char tracepoint[32];
    uint64_t hits;
};

static struct site sites[SITES_MAX];
static unsigned site_count;

static const char *wanted, *counts, *report, *awaited;
static uint64_t strike_at = 1;
static long stop_ms;

static void die(const char *what)
{
    perror(what);
    exit(126);
}

/* Adds the tracepoints of a mapped ELF file, whose first byte is in memory at `base`. */
static void add_tracepoints(const char *elf, size_t size, uint64_t base)
{
    const Elf64_Ehdr *eh = (const Elf64_Ehdr *) elf;
    if (size < sizeof(*eh) || memcmp(eh->e_ident, ELFMAG, SELFMAG) != 0 ||
        eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_shoff >= size)
        return;
    const Elf64_Shdr *sh = (const Elf64_Shdr *) (elf + eh->e_shoff);
    const char *names = elf + sh[eh->e_shstrndx].sh_offset;
    uint64_t moved = 0, stapbase = 0;
    for (int i = 0; i < eh->e_shnum; i++)
        if (strcmp(names + sh[i].sh_name, ".stapsdt.base") == 0)
            stapbase = sh[i].sh_addr;
    for (int i = 0; i < eh->e_shnum; i++) {
        if (strcmp(names + sh[i].sh_name, ".note.stapsdt") != 0)
            continue;
        const char *p = elf + sh[i].sh_offset, *end = p + sh[i].sh_size;
        while (p < end && site_count < SITES_MAX) {
            const Elf64_Nhdr *note = (const Elf64_Nhdr *) p;
            const char *desc = p + sizeof(*note) + (note->n_namesz + 3U) / 4 * 4;
            uint64_t at[3]; /* the tracepoint, where .stapsdt.base was when it was written, a
                               semaphore */
            memcpy(at, desc, sizeof(at));
            const char *provider = desc + sizeof(at), *name = provider + strlen(provider) + 1;
            moved = stapbase ? stapbase - at[1] : 0; /* by prelink */
            if (strcmp(provider, PROVIDER) == 0) {
                struct site *s = &sites[site_count++];
                *s = (struct site){.address = at[0] + moved + (eh->e_type == ET_DYN ? base : 0)};
                snprintf(s->tracepoint, sizeof(s->tracepoint), "%s", name);
            }
            p = desc + (note->n_descsz + 3U) / 4 * 4;
        }
    }
}

static void add_tracepoints_of_file(const char *path, uint64_t base)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
        char *elf = mmap(NULL, (size_t) st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (elf != MAP_FAILED) {
            add_tracepoints(elf, (size_t) st.st_size, base);
            munmap(elf, (size_t) st.st_size);
        }
    }
    close(fd);
}

static unsigned char poke(pid_t pid, uint64_t address, unsigned char byte)
{
    errno = 0;
    long word = ptrace(PTRACE_PEEKTEXT, pid, (void *) address, NULL);
    if (errno)
        die("strike: PTRACE_PEEKTEXT");
    unsigned char was = (unsigned char) word;
    if (ptrace(PTRACE_POKETEXT, pid, (void *) address, (void *) ((word & ~0xffL) | byte)) != 0)
        die("strike: PTRACE_POKETEXT");
    return was;
}

/* Where the program begins, once the dynamic linker has mapped all that it needs. */
static uint64_t entry_of(pid_t pid)
{
    char path[64];
    uint64_t pair[2];
    snprintf(path, sizeof(path), "/proc/%d/auxv", (int) pid);
    FILE *f = fopen(path, "re");
    if (!f)
        die(path);
    while (fread(pair, sizeof(pair), 1, f) == 1 && pair[0] != AT_NULL)
        if (pair[0] == AT_ENTRY) {
            fclose(f);
            return pair[1];
        }
    fclose(f);
    fprintf(stderr, "strike: no AT_ENTRY in %s\n", path);
    exit(126);
}

static void set_tracepoints(pid_t pid)
{
    char path[64], line[4400], file[4096];
    snprintf(path, sizeof(path), "/proc/%d/maps", (int) pid);
    FILE *f = fopen(path, "re");
    if (!f)
        die(path);
    site_count = 0;
    while (fgets(line, sizeof(line), f)) {
        unsigned long long start, offset;
        if (sscanf(line, "%llx-%*x %*s %llx %*s %*s %4095[^\n]", &start, &offset, file) == 3 &&
            offset == 0 && file[0] == '/')
            add_tracepoints_of_file(file, start);
    }
    fclose(f);
    bool found = false;
    for (unsigned i = 0; i < site_count; i++) {
        bool is_awaited = awaited && strcmp(sites[i].tracepoint, awaited) == 0;
        if (wanted && strcmp(sites[i].tracepoint, wanted) != 0 && !is_awaited)
            continue;
        found = true;
        if (poke(pid, sites[i].address, TRAP) != NOP) {
            fprintf(stderr, "strike: no probe at %llx\n", (unsigned long long) sites[i].address);
            exit(126);
        }
    }
    if (!found) {
        fprintf(stderr, "strike: no tracepoint %s in what the program has mapped\n",
                wanted ? wanted : "at all");
        kill(pid, SIGKILL);
        exit(125);
    }
}

static void append(const char *path, const char *tracepoint, uint64_t n)
{
    FILE *f = path ? fopen(path, "ae") : NULL;
    if (!f)
        return;
    fprintf(f, "%s %llu\n", tracepoint, (unsigned long long) n);
    fclose(f);
}

static uint64_t hits_of(const char *tracepoint)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < site_count; i++)
        if (strcmp(sites[i].tracepoint, tracepoint) == 0)
            n += sites[i].hits;
    return n;
}

static void strike(pid_t pid)
{
    append(report, wanted, strike_at);
    if (stop_ms == 0) {
        kill(pid, SIGKILL);
        return;
    }
    /*
     * Removes all breakpoints while the program is stopped, so that it runs unhindered afterwards.
     */
    for (unsigned i = 0; i < site_count; i++)
        if (strcmp(sites[i].tracepoint, wanted) == 0)
            poke(pid, sites[i].address, NOP);
    nanosleep(&(struct timespec){stop_ms / 1000, stop_ms % 1000 * 1000000}, NULL);
}

/* The program has hit a breakpoint; false if it is none of ours. */
static bool met(pid_t pid, uint64_t *entry, unsigned char entry_byte)
{
    struct user_regs_struct regs;
    if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) != 0)
        die("strike: PTRACE_GETREGS");
    uint64_t at = regs.rip - 1;
    if (at == *entry) {
        poke(pid, at, entry_byte);
        regs.rip = at;
        ptrace(PTRACE_SETREGS, pid, NULL, &regs);
        *entry = 0;
        set_tracepoints(pid);
        return true;
    }
    for (unsigned i = 0; i < site_count; i++) {
        if (sites[i].address != at)
            continue;
        if (awaited && strcmp(sites[i].tracepoint, awaited) == 0)
            awaited = NULL;
        if (awaited)
            return true;
        sites[i].hits++; /* and continues after the nop */
        if (wanted && hits_of(wanted) == strike_at)
            strike(pid);
        return true;
    }
    return false;
}

static void write_counts(void)
{
    for (unsigned i = 0; i < site_count; i++) {
        bool first = true;
        for (unsigned j = 0; j < i; j++)
            first &= strcmp(sites[j].tracepoint, sites[i].tracepoint) != 0;
        if (first && hits_of(sites[i].tracepoint))
            append(counts, sites[i].tracepoint, hits_of(sites[i].tracepoint));
    }
}

static int follow(pid_t pid)
{
    int status;
    uint64_t entry = 0;
    unsigned char entry_byte = 0;
    if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status)) {
        fprintf(stderr, "strike: cannot trace a child\n");
        return 77;
    }
    ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *) (PTRACE_O_EXITKILL | PTRACE_O_TRACEEXEC));
    for (int sig = 0;; sig = 0) {
        if (WSTOPSIG(status) != SIGTRAP)
            sig = WSTOPSIG(status) == SIGSTOP ? 0 : WSTOPSIG(status);
        else if (status >> 16 == PTRACE_EVENT_EXEC) {
            entry = entry_of(pid);
            entry_byte = poke(pid, entry, TRAP);
        } else if (!met(pid, &entry, entry_byte))
            sig = SIGTRAP;
        ptrace(PTRACE_CONT, pid, NULL,
               (void *) (intptr_t) sig); /* fails if it has been killed by now */
        if (waitpid(pid, &status, 0) != pid)
            die("strike: waitpid");
        if (WIFEXITED(status))
            return WEXITSTATUS(status);
        if (WIFSIGNALED(status)) {
            setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
            signal(WTERMSIG(status), SIG_DFL);
            raise(WTERMSIG(status));
            return 128 + WTERMSIG(status);
        }
    }
}

int main(int argc, char **argv)
{
#ifndef __x86_64__
    fprintf(stderr, "strike: knows x86-64 alone\n");
    return 77;
#endif
    const char *list = NULL;
    for (int opt; (opt = getopt(argc, argv, "+l:c:p:n:s:a:o:")) != -1;) {
        switch (opt) {
        case 'l':
            list = optarg;
            break;
        case 'c':
            counts = optarg;
            break;
        case 'p':
            wanted = optarg;
            break;
        case 'n':
            strike_at = strtoull(optarg, NULL, 10);
            break;
        case 's':
            stop_ms = strtol(optarg, NULL, 10);
            break;
        case 'a':
            awaited = optarg;
            break;
        case 'o':
            report = optarg;
            break;
        default:
            return 2;
        }
    }
    if (list) {
        add_tracepoints_of_file(list, 0);
        for (unsigned i = 0; i < site_count; i++)
            puts(sites[i].tracepoint);
        return site_count ? 0 : 1;
    }
    if (optind == argc || (!wanted && !counts)) {
        fprintf(stderr, "strike: a program, and -p TRACEPOINT or -c FILE\n");
        return 2;
    }
    pid_t pid = fork();
    if (pid < 0)
        die("strike: fork");
    if (pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
            _exit(77);
        raise(SIGSTOP);
        execvp(argv[optind], argv + optind);
        die(argv[optind]);
    }
    int code = follow(pid);
    if (counts)
        write_counts();
    return code;
}
