/* SPDX-License-Identifier: mpich2 */
/*
 * What MPICH's blocking sends and receives do when the progress engine fails while they wait.
 * ivshmem-graft has mpiimpl.h include this header, see ivshmem_coll.h.
 */
#ifndef IVSHMEM_PT2PT_H
#define IVSHMEM_PT2PT_H

/*
 * Set by the netmod: whether a request waits for a lost rank. MPICH's tcp does not complete all
 * such requests.
 */
extern int (*ivshmem_pt2pt_is_lost)(const MPIR_Request *);

/* Set by the netmod: makes the next call that waits return this error, which none has returned. */
extern void (*ivshmem_pt2pt_keep)(int mpi_errno);

/*
 * Set by the netmod: called when the process manager has reported the loss of a rank of this node,
 * whose connection is not the netmod's.
 */
extern void (*ivshmem_pt2pt_lost)(struct MPIDI_VC *vc);

/* Whether there is nothing left to wait for. */
static inline int ivshmem_pt2pt_is_over(const MPIR_Request *req)
{
    return MPIR_Request_is_complete(req) || (ivshmem_pt2pt_is_lost && ivshmem_pt2pt_is_lost(req));
}

/* Cancels a receive that nothing has matched, or a send if its receiver agrees. */
static inline void ivshmem_pt2pt_cancel(MPIR_Request *req)
{
    if (req->kind == MPIR_REQUEST_KIND__RECV)
        (void) MPID_Cancel_recv(req);
    else if (req->kind == MPIR_REQUEST_KIND__SEND)
        (void) MPID_Cancel_send(req);
}

/*
 * Waits until the request is over, whatever fails in the meantime. Returns whether the request has
 * failed. *mpi_errno is set to the last error of the progress engine, if there was one.
 */
static inline int ivshmem_pt2pt_outlast(MPIR_Request *req, int *mpi_errno)
{
    while (!ivshmem_pt2pt_is_over(req)) {
        int failed = MPID_Wait(req, MPI_STATUS_IGNORE);
        if (failed != MPI_SUCCESS)
            *mpi_errno = failed;
    }
    return !MPIR_Request_is_complete(req) || MPIR_STATUS_GET_CANCEL_BIT(req->status) ||
           req->status.MPI_ERROR != MPI_SUCCESS;
}

static inline void ivshmem_pt2pt_keep_error(int mpi_errno)
{
    if (mpi_errno != MPI_SUCCESS && ivshmem_pt2pt_keep)
        ivshmem_pt2pt_keep(mpi_errno);
}

/*
 * After the error mpi_errno: cancels what can be cancelled, and waits for the rest; never less,
 * because their memory belongs to the program again after the call. Returns whether any request has
 * failed. If none has, the next call returns the error, which may be all that the program hears of
 * a death.
 */
static inline int ivshmem_pt2pt_withdraw(int n, MPIR_Request *reqs[], int mpi_errno)
{
    int failed = 0;

    for (int i = 0; i < n; i++)
        if (!MPIR_Request_is_complete(reqs[i]))
            ivshmem_pt2pt_cancel(reqs[i]);
    for (int i = 0; i < n; i++)
        failed |= ivshmem_pt2pt_outlast(reqs[i], &mpi_errno);
    if (!failed)
        ivshmem_pt2pt_keep_error(mpi_errno);
    return failed;
}

/*
 * A receive from any rank of a communicator, of whose dead ranks the program has not acknowledged
 * all, ends with an error. MPID_Wait finds that out only when something has happened.
 */
static inline int ivshmem_pt2pt_wait_for(MPIR_Request *req)
{
    return unlikely(MPIR_Request_is_anysrc_mismatched(req)) ? MPIR_Request_handle_proc_failed(req)
                                                            : MPID_Wait(req, MPI_STATUS_IGNORE);
}

/*
 * Waits until all requests are complete. In the meantime the progress engine may fail, because of a
 * connection that has nothing to do with these requests: then its error is returned.
 * But if all were under way and complete normally, nothing has failed.
 */
static inline int ivshmem_pt2pt_wait(int n, MPIR_Request *reqs[])
{
    int mpi_errno = MPI_SUCCESS;

    for (int i = 0; i < n && mpi_errno == MPI_SUCCESS; i++)
        mpi_errno = ivshmem_pt2pt_wait_for(reqs[i]);
    if (likely(mpi_errno == MPI_SUCCESS) || !ivshmem_pt2pt_withdraw(n, reqs, mpi_errno))
        return MPI_SUCCESS;
    return mpi_errno;
}

/* As that, with all requests freed if it fails. */
static inline int ivshmem_pt2pt_complete(int n, MPIR_Request *reqs[])
{
    int mpi_errno = ivshmem_pt2pt_wait(n, reqs);

    for (int i = 0; i < n && mpi_errno != MPI_SUCCESS; i++)
        MPIR_Request_free(reqs[i]);
    return mpi_errno;
}

/*
 * Between two looks at requests of which any ends the call. MPICH itself only tests then, so that
 * the call keeps its processor from those whom it waits for. Generalized requests with a function
 * to poll them still need that.
 */
static inline int ivshmem_pt2pt_progress_any(int n, MPIR_Request *reqs[],
                                             MPID_Progress_state *state)
{
    for (int i = 0; i < n; i++)
        if (reqs[i] && MPIR_Request_has_poll_fn(reqs[i]))
            return MPID_Progress_test(state);
    return ivshmem_pt2pt_is_lost ? MPID_Progress_wait(state) : MPID_Progress_test(state);
}

/* Waits for a buffered message, which is sent whatever else fails. Returns its own error. */
static inline int ivshmem_pt2pt_finish(MPIR_Request *req)
{
    int mpi_errno = MPI_SUCCESS;

    if (!ivshmem_pt2pt_outlast(req, &mpi_errno)) {
        ivshmem_pt2pt_keep_error(mpi_errno);
        return MPI_SUCCESS;
    }
    if (MPIR_Request_is_complete(req))
        mpi_errno = req->status.MPI_ERROR;
    else
        MPIR_ERR_SET(mpi_errno, MPIX_ERR_PROC_FAILED, "**proc_failed");
    return mpi_errno;
}

#endif
