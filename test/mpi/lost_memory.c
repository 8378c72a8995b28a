/* SPDX-License-Identifier: mpich2 */
/*
 * A region that has less memory than bytes, or loses some of it.
 *
 *   fill MIB    allocates that much by MPI_Alloc_mem, more than there is, and sends from and to it
 *   heap MIB    the same by malloc
 *   starve      once the job runs, somebody fills the file system of the region; then it sends
 *   run [HOW]   exchanges messages until the file is cut. HOW: `before` or `after` MPI_Init the
 *               program installs a handler, which ends it; `once`: before, one that is removed
 *               when it is called; `ignore`
 *   own         touches lost memory of a file of its own
 *   sent        is sent a SIGBUS
 *   ends        after MPI_Finalize, SIGBUS is handled as it was before MPI_Init
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB (1 << 20)

static int rank, size;

static void check(int good, const char *what)
{
    if (!good) {
        fprintf(stderr, "rank %d: %s\n", rank, what);
        MPI_Abort(MPI_COMM_WORLD, 3);
    }
}

static void exchange(char *out, char *in, int bytes)
{
    int next = (rank + 1) % size, previous = (rank + size - 1) % size;
    memset(out, rank + 1, (size_t) bytes);
    memset(in, 0, (size_t) bytes);
    int error = MPI_Sendrecv(out, bytes, MPI_BYTE, next, 1, in, bytes, MPI_BYTE, previous, 1,
                             MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    while (error != MPI_SUCCESS) /* only in run(): another rank has ended first */
        pause();
    for (int i = 0; i < bytes; i++)
        check(in[i] == (char) (previous + 1), "what was received is not what was sent");
}

static void fill(int mib, int by_malloc)
{
    char **blocks = malloc(sizeof(*blocks) * (size_t) mib);
    for (int i = 0; i < mib; i++) {
        if (by_malloc)
            blocks[i] = malloc(MIB);
        else
            MPI_Alloc_mem(MIB, MPI_INFO_NULL, &blocks[i]);
        check(blocks[i] != NULL, "no memory");
        memset(blocks[i], i, MIB);
    }
    for (int i = 0; i + 1 < mib; i += 2)
        for (int bytes = 1; bytes <= MIB; bytes *= 16)
            exchange(blocks[i], blocks[i + 1], bytes);
    for (int i = 0; i < mib; i++)
        if (by_malloc)
            free(blocks[i]);
        else
            MPI_Free_mem(blocks[i]);
    free(blocks);
}

static char other[512];

/* Fills the file system of the region. */
static void fill_file_system(void)
{
    static char zeros[4096];
    snprintf(other, sizeof(other), "%s.other", getenv("MPIR_CVAR_NEMESIS_IVSHMEM_REGION"));
    int fd = open(other, O_WRONLY | O_CREAT | O_EXCL, 0600);
    check(fd >= 0, "cannot make a file beside the region");
    while (write(fd, zeros, sizeof(zeros)) > 0)
        ;
    check(errno == ENOSPC, "the file system is not full");
    close(fd);
}

static void starve(void)
{
    static char out[MIB], in[MIB];
    if (rank == 0)
        fill_file_system();
    MPI_Barrier(MPI_COMM_WORLD);
    for (int turn = 0; turn < 100; turn++)
        for (int bytes = 1; bytes <= MIB; bytes *= 32)
            exchange(out, in, bytes);
    fill(2, 0);
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0)
        unlink(other);
}

static void run(void)
{
    static char out[100000], in[100000];
    /* If this rank ended the job because another is dead, the process manager might kill the shell
     * that is to record the other's status. */
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    for (int turn = 0;; turn++) {
        exchange(out, in, turn % 2 ? (int) sizeof(out) : 100);
        if (turn == 20 && rank == 0)
            puts("running");
        fflush(stdout);
    }
}

static void own_handler(int sig)
{
    static const char text[] = "the program's own handler\n";
    (void) sig;
    if (write(STDERR_FILENO, text, sizeof(text) - 1) > 0)
        _exit(9);
}

static void once(int sig)
{
    static const char text[] = "once\n";
    (void) sig;
    if (write(STDERR_FILENO, text, sizeof(text) - 1) > 0)
        return; /* to touch it again */
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "", *how = argc > 2 ? argv[2] : "";
    struct sigaction before, after, reset = {.sa_handler = once, .sa_flags = (int) SA_RESETHAND};

    if (strcmp(how, "before") == 0)
        signal(SIGBUS, own_handler);
    else if (strcmp(how, "ignore") == 0)
        signal(SIGBUS, SIG_IGN);
    else if (strcmp(how, "once") == 0)
        sigaction(SIGBUS, &reset, NULL);
    sigaction(SIGBUS, NULL, &before);
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (strcmp(how, "after") == 0)
        signal(SIGBUS, own_handler);

    if (strcmp(what, "fill") == 0 || strcmp(what, "heap") == 0) {
        fill(atoi(how), strcmp(what, "heap") == 0);
    } else if (strcmp(what, "starve") == 0) {
        starve();
    } else if (strcmp(what, "run") == 0) {
        run();
    } else if (strcmp(what, "own") == 0) {
        int fd = memfd_create("own", 0);
        char *own = ftruncate(fd, MIB) == 0
                        ? mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                        : MAP_FAILED;
        if (own != MAP_FAILED && ftruncate(fd, 0) == 0)
            *(volatile char *) own = 1;
        puts("went on");
    } else if (strcmp(what, "sent") == 0) {
        raise(SIGBUS);
        puts("went on");
    }
    MPI_Finalize();
    sigaction(SIGBUS, NULL, &after);
    if (after.sa_handler != before.sa_handler ||
        (after.sa_flags ^ before.sa_flags) & (SA_SIGINFO | SA_RESETHAND | SA_ONSTACK | SA_NODEFER))
        fprintf(stderr, "rank %d: MPI_Finalize has not put the handler of SIGBUS back\n", rank);
    else if (rank == 0)
        fputs("No errors\n", stdout); /* in one write */
    return 0;
}
