/* SPDX-License-Identifier: mpich2 */
#include "ivshmem_netmod.h"

/* MPICH cuts the text of an error at 256 bytes, header included. */
#define MPICH_KEEPS 200

/*
 * A text that MPICH would cut is printed in full as well, so that what to do, its last words,
 * reaches the user.
 */
static void print_if_long(const char *text)
{
    if (strlen(text) > MPICH_KEEPS) {
        fprintf(stderr, "ivshmem: rank %d: %s\n", MPIDI_Process.my_pg_rank, text);
        fflush(stderr);
    }
}

/* The MPI error for what went wrong here. */
int MPID_nem_ivshmem_error(const char *text)
{
    int mpi_errno = MPI_SUCCESS;
    print_if_long(text);
    MPIR_ERR_SET1(mpi_errno, MPI_ERR_OTHER, "**ivshmem", "**ivshmem %s", text);
    return mpi_errno;
}

/* The MPI error for a peer that is dead, or cannot be reached. (MPICH wants the class literally.)
 */
int MPID_nem_ivshmem_peer_error(const char *text)
{
    int mpi_errno = MPI_SUCCESS;
    print_if_long(text);
    MPIR_ERR_SET1(mpi_errno, MPIX_ERR_PROC_FAILED, "**ivshmem", "**ivshmem %s", text);
    return mpi_errno;
}
