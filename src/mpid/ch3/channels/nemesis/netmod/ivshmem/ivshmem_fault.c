/* SPDX-License-Identifier: mpich2 */
/*
 * Reports a SIGBUS in memory that the region's file has lost, because the file was truncated or its
 * file system is full. The report comes first; then the signal has the effect that it would have
 * had without us: the program's own handler, or the end of the process. A handler that the program
 * installs later replaces ours. The handler may run in any thread, and calls only functions that
 * are safe in a signal handler.
 */
#include "ivshmem_fault.h"

#include <signal.h>

/* The action that was installed before ours, with which ours continues. */
static struct sigaction previous_action;
static struct ivshm_map watched_map;
/* Where the region is mapped; NULL while it is not. */
static const void *watched_base;
static char message_prefix[32];

static void report_fault(const void *addr)
{
    char line[768];
    size_t used = strlen(message_prefix);
    memcpy(line, message_prefix, used);
    size_t said = 0;
    const void *const at[] = {watched_base, MPID_nem_ivshmem.user};
    for (int i = 0; watched_base && !said && i < 2; i++)
        if (at[i])
            said = ivshm_backing_describe_fault(&watched_map, at[i], addr, line + used,
                                                sizeof(line) - used - 1);
    if (said) {
        line[used + said] = '\n';
        /* nobody can be told */
        if (write(STDERR_FILENO, line, used + said + 1) < 0)
            return;
    }
}

static void on_bus_error(int sig, siginfo_t *info, void *context)
{
    struct sigaction next = previous_action;
    bool is_fault = info->si_code > 0; /* raised by the kernel, not sent by kill(2) */

    if (is_fault)
        report_fault(info->si_addr);
    if (next.sa_flags & SA_RESETHAND)
        previous_action = (struct sigaction){.sa_handler = SIG_DFL};
    if (next.sa_flags & SA_SIGINFO) {
        next.sa_sigaction(sig, info, context);
    } else if (next.sa_handler == SIG_DFL || (next.sa_handler == SIG_IGN && is_fault)) {
        signal(sig, SIG_DFL);
        raise(sig); /* delivered when this handler returns */
    } else if (next.sa_handler != SIG_IGN) {
        next.sa_handler(sig);
    }
}

void MPID_nem_ivshmem_fault_watch(void)
{
    struct sigaction ours;

    watched_map = *ivshm_region_map(&MPID_nem_ivshmem.region);
    watched_base = ivshm_region_base(&MPID_nem_ivshmem.region);
    snprintf(message_prefix, sizeof(message_prefix),
             "ivshmem: rank %d: ", MPIDI_Process.my_pg_rank);
    if (sigaction(SIGBUS, NULL, &previous_action) != 0)
        return;
    /* The program's own handler keeps the mask and the stack that it asked for. */
    ours = previous_action;
    ours.sa_flags = (previous_action.sa_flags & ~SA_RESETHAND) | SA_SIGINFO;
    ours.sa_sigaction = on_bus_error;
    sigaction(SIGBUS, &ours, NULL);
}

/* If the program still has memory of the file, its mapping stays watched. */
void MPID_nem_ivshmem_fault_unwatch(bool program_has_it)
{
    struct sigaction now;

    if (program_has_it) {
        watched_base = MPID_nem_ivshmem.user;
        return;
    }
    /* A handler installed after ours may call ours, which then still passes the signal on. */
    if (sigaction(SIGBUS, NULL, &now) == 0 && now.sa_flags & SA_SIGINFO &&
        now.sa_sigaction == on_bus_error)
        sigaction(SIGBUS, &previous_action, NULL);
    watched_base = NULL;
}
