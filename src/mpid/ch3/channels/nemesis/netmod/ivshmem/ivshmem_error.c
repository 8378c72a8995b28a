/* SPDX-License-Identifier: mpich2 */
/*
 * Makes MPI errors, in one place, of core's errors and of the netmod's own, and prints those that
 * MPICH would lose or cut. Called by the netmod's other files, under MPICH's global lock.
 */
#include "ivshmem_error.h"

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
 * The error is for something wrong on this side, with which no job can run. It is printed at once
 * and in full, and given time to travel: the job is about to abort, and Hydra drops what its
 * proxies have not passed on by then, often including MPICH's own message.
 */
int MPID_nem_ivshmem_error(const char *text)
{
    int mpi_errno = MPI_SUCCESS;
    MPID_nem_ivshmem_report("", text);
    usleep(PASS_ON_US);
    MPIR_ERR_SET1(mpi_errno, MPI_ERR_OTHER, "**ivshmem", "**ivshmem %s", text);
    return mpi_errno;
}

/*
 * The program can handle this error, so it is printed only if MPICH would cut it: its end says what
 * to do. (MPICH's scripts want the class literally, hence a function for each.)
 */
int MPID_nem_ivshmem_peer_error(const char *text)
{
    int mpi_errno = MPI_SUCCESS;
    if (strlen(text) > MPICH_KEEPS)
        MPID_nem_ivshmem_report("", text);
    MPIR_ERR_SET1(mpi_errno, MPIX_ERR_PROC_FAILED, "**ivshmem", "**ivshmem %s", text);
    return mpi_errno;
}

/*
 * The port's name may be forged, damaged, or of a process that has gone. MPICH's text begins with
 * the name, and always ends before ours.
 */
int MPID_nem_ivshmem_port_error(const char *text)
{
    int mpi_errno = MPI_SUCCESS;
    MPID_nem_ivshmem_report("", text);
    MPIR_ERR_SET1(mpi_errno, MPI_ERR_PORT, "**ivshmem", "**ivshmem %s", text);
    return mpi_errno;
}
