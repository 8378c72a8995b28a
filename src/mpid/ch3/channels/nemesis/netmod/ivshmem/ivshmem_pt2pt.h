/* SPDX-License-Identifier: mpich2 */
/*
 * What MPICH's blocking sends and receives do when the progress engine fails under them. `graft`
 * lets mpiimpl.h include it, see ivshmem_coll.h.
 */
#ifndef IVSHMEM_PT2PT_H
#define IVSHMEM_PT2PT_H

/*
 * Set by the netmod: whether a request waits for a rank that is lost. MPICH's tcp completes not all
 * that do.
 */
extern int (*ivshmem_pt2pt_is_lost)(const MPIR_Request *);

/* Whether there is nothing to wait for any more. */
static inline int ivshmem_pt2pt_is_over(const MPIR_Request *req)
{
    return MPIR_Request_is_complete(req) || (ivshmem_pt2pt_is_lost && ivshmem_pt2pt_is_lost(req));
}

/* Calls back a receive that nothing has matched, or a send; the latter if its receiver agrees. */
static inline void ivshmem_pt2pt_cancel(MPIR_Request *req)
{
    if (req->kind == MPIR_REQUEST_KIND__RECV)
        (void) MPID_Cancel_recv(req);
    else if (req->kind == MPIR_REQUEST_KIND__SEND)
        (void) MPID_Cancel_send(req);
}

/*
 * After an error: calls back what can be, and waits for the rest, never less, since their memory is
 * the program's again after the call. Returns whether any has not ended as it should.
 */
static inline int ivshmem_pt2pt_withdraw(int n, MPIR_Request *reqs[])
{
    int failed = 0;

    for (int i = 0; i < n; i++)
        if (!MPIR_Request_is_complete(reqs[i]))
            ivshmem_pt2pt_cancel(reqs[i]);
    for (int i = 0; i < n; i++) {
        while (!ivshmem_pt2pt_is_over(reqs[i]))
            (void) MPID_Wait(reqs[i], MPI_STATUS_IGNORE); /* one error is enough */
        failed |= !MPIR_Request_is_complete(reqs[i]) ||
                  MPIR_STATUS_GET_CANCEL_BIT(reqs[i]->status) ||
                  reqs[i]->status.MPI_ERROR != MPI_SUCCESS;
    }
    return failed;
}

/*
 * Waits until all are complete. The progress engine may fail meanwhile, because of a connection
 * that these have nothing to do with: then its error, with all requests freed. But if all were
 * under way and end as they should, nothing has failed.
 */
static inline int ivshmem_pt2pt_complete(int n, MPIR_Request *reqs[])
{
    int mpi_errno = MPI_SUCCESS;

    for (int i = 0; i < n && mpi_errno == MPI_SUCCESS; i++)
        mpi_errno = MPID_Wait(reqs[i], MPI_STATUS_IGNORE);
    if (likely(mpi_errno == MPI_SUCCESS) || !ivshmem_pt2pt_withdraw(n, reqs))
        return MPI_SUCCESS;
    for (int i = 0; i < n; i++)
        MPIR_Request_free(reqs[i]);
    return mpi_errno;
}

#endif
