/* SPDX-License-Identifier: mpich2 */
/*
 * A death is proved in the kernel of whoever died, and nobody else may be there. So a handle can
 * have a guardian: a process that does nothing but wait for its end, and then marks it dead. It is
 * no child of the program, whose wait(2) does not find it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* close_range, syscall */
#endif
#include "lib.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOOKS 1000 /* a millisecond apart: the descriptors of a process close before it is gone */

/* In the guardian. Its parent may have had threads: it goes by system calls, and what core does. */
static void guard(struct ivshm_region *region, struct ivshm_owner owner, bool has_pidfd)
{
    struct pollfd ends[] = {{.fd = 0, .events = POLLIN}, {.fd = 1, .events = POLLIN}};
    struct ivshm_process self;
    sigset_t all;
    sigfillset(&all); /* what a terminal sends is for the program */
    sigprocmask(SIG_BLOCK, &all, NULL);
    prctl(PR_SET_NAME, "ivshm-guardian");
    if (ivshm_process_self(&self, NULL) != 0)
        return;
    while (poll(ends, has_pidfd ? 2 : 1, -1) < 0 && errno == EINTR)
        ;
    for (int i = 0; i < LOOKS && ivshm_endpoint_is_live(region, owner); i++) {
        ivshm_endpoint_watch(region, &self);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    ivshm_endpoint_reap(region, &self, NULL);
}

/*
 * Keeps two descriptors, as 0 and 1: whoever waits for the end of the program's output must not
 * wait for the guardian. The second may be -1.
 */
static bool keep_only(const int fds[2])
{
    int high[2] = {fcntl(fds[0], F_DUPFD, 2), fds[1] < 0 ? -1 : fcntl(fds[1], F_DUPFD, 2)};
    if (high[0] < 0 || dup2(high[0], 0) < 0)
        return false;
    close(1);
    return (high[1] < 0 || dup2(high[1], 1) >= 0) && syscall(SYS_close_range, 2, ~0U, 0) == 0;
}

int lib_guardian_start(struct ivshm_region *region, struct ivshm_owner owner)
{
    int ends[2], status;
    pid_t program = getpid();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return -1;
    pid_t child = fork();
    if (child == 0) {
        int fds[] = {ends[1], (int) syscall(SYS_pidfd_open, program, 0)};
        pid_t guardian = fork();
        if (guardian == 0 && keep_only(fds))
            guard(region, owner, fds[1] >= 0);
        _exit(guardian < 0);
    }
    close(ends[1]);
    if (child > 0)
        while (waitpid(child, &status, 0) < 0 && errno == EINTR)
            ;
    if (child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return ends[0];
    close(ends[0]);
    return -1;
}

void lib_guardian_end(int fd)
{
    /* A byte, as children of the program may have the descriptor, too. It finds a claim that is
     * over. */
    if (fd >= 0 && send(fd, "", 1, MSG_NOSIGNAL) < 0)
        errno = 0; /* it is gone */
    if (fd >= 0)
        close(fd);
}
