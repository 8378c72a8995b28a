/* SPDX-License-Identifier: mpich2 */
#include "ivshmem_netmod.h"

/* MPICH cuts the text of an error at 256 bytes, header included. */
#define MPICH_KEEPS 200

/* Longer than Hydra needs to pass on a line. */
#define PASS_ON_US 300000

void MPID_nem_ivshmem_report(const char *what, const char *text)
{
    fprintf(stderr, "ivshmem: rank %d: %s%s\n", MPIDI_Process.my_pg_rank, what, text);
    fflush(stderr);
}

/*
 * The MPI error for what is wrong here: no job can run so. It is printed at once, and in full, and
 * has time to travel: the job is about to abort, and Hydra drops what its proxies have not passed
 * on by then, MPICH's own message often among it.
 */
int MPID_nem_ivshmem_error(const char *text)
{
    int mpi_errno = MPI_SUCCESS;
    MPID_nem_ivshmem_report("", text);
    usleep(PASS_ON_US);
    MPIR_ERR_SET1(mpi_errno, MPI_ERR_OTHER, "**ivshmem", "**ivshmem %s", text);
    return mpi_errno;
}

/* Once in full, so that what to do, the last words, reaches the user. */
static void report_if_cut(const char *text)
{
    if (strlen(text) > MPICH_KEEPS)
        MPID_nem_ivshmem_report("", text);
}

/*
 * The MPI error for a peer that is dead, or cannot be reached: a program may live with that.
 * Printed only if MPICH would cut it. (MPICH's scripts want the class literally: hence a function
 * for each.)
 */
int MPID_nem_ivshmem_peer_error(const char *text)
{
    int mpi_errno = MPI_SUCCESS;
    report_if_cut(text);
    MPIR_ERR_SET1(mpi_errno, MPIX_ERR_PROC_FAILED, "**ivshmem", "**ivshmem %s", text);
    return mpi_errno;
}

/* The same for the name of a port: made up, damaged, or of a process that is no more. */
int MPID_nem_ivshmem_port_error(const char *text)
{
    int mpi_errno = MPI_SUCCESS;
    report_if_cut(text);
    MPIR_ERR_SET1(mpi_errno, MPI_ERR_PORT, "**ivshmem", "**ivshmem %s", text);
    return mpi_errno;
}
