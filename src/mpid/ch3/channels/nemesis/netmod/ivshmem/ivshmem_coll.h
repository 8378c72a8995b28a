/* SPDX-License-Identifier: mpich2 */
/*
 * What MPICH's collectives do when a round fails. ivshmem-graft has mpiimpl.h include this header,
 * after all of MPICH's own types and functions. The collectives call these functions in place of
 * their own, whatever the device.
 *
 * A collective continues after an error, so that the ranks behind this one learn of it from the
 * tags of its messages instead of waiting. That is sound only if each error is kept until the end,
 * and if no message of a round is left under way, from or to memory that the algorithm or the
 * program uses for something else next.
 */
#ifndef IVSHMEM_COLL_H
#define IVSHMEM_COLL_H

#include "ivshmem_compat.h"
#include "ivshmem_pt2pt.h"

/* Seconds to wait, after an error, for the ranks that are still in the round. */
#define IVSHMEM_COLL_PATIENCE 1.0

/* Keeps an error until the end, and for the tags of the messages until then. */
static inline void ivshmem_coll_note(ivshmem_compat_errflag *errflag, int mpi_errno)
{
    if (mpi_errno != MPI_SUCCESS && *errflag == IVSHMEM_COMPAT_ERR_NONE)
        *errflag = MPIR_ERR_GET_CLASS(mpi_errno) == MPIX_ERR_PROC_FAILED ? MPIR_ERR_PROC_FAILED
                                                                         : MPIR_ERR_OTHER;
}

typedef int ivshmem_coll_bcast(void *buf, MPI_Aint count, MPI_Datatype type, int root,
                               MPIR_Comm *comm, ivshmem_compat_errflag_arg errflag);
typedef int ivshmem_coll_sync(MPIR_Comm *comm, ivshmem_compat_errflag_arg errflag);

/*
 * For the rank of a group that speaks to another group. If that has failed, this tells the others,
 * which wait for what it would have broadcast next. Returns the error.
 */
static inline int ivshmem_coll_tell(int mpi_errno, ivshmem_coll_bcast *bcast, void *buf,
                                    MPI_Aint count, MPI_Datatype type, int root, MPIR_Comm *comm)
{
    ivshmem_compat_errflag errflag = IVSHMEM_COMPAT_ERR_NONE;

    ivshmem_coll_note(&errflag, mpi_errno);
    if (mpi_errno != MPI_SUCCESS)
        (void) bcast(buf, count, type, root, comm, IVSHMEM_COMPAT_PASS(errflag));
    return mpi_errno;
}

/* A barrier that tells the others of an error. Returns that, or its own. */
static inline int ivshmem_coll_barrier(int mpi_errno, ivshmem_coll_sync *barrier, MPIR_Comm *comm)
{
    ivshmem_compat_errflag errflag = IVSHMEM_COMPAT_ERR_NONE;
    int failed;

    ivshmem_coll_note(&errflag, mpi_errno);
    failed = barrier(comm, IVSHMEM_COMPAT_PASS(errflag));
    return mpi_errno != MPI_SUCCESS ? mpi_errno : failed;
}

static inline int ivshmem_coll_refuse(const char *why)
{
    int mpi_errno = MPI_SUCCESS;

    MPIR_ERR_SET1(mpi_errno, MPI_ERR_OTHER, "**ivshmem", "**ivshmem %s", why);
    return mpi_errno;
}

/*
 * For releases whose algorithms leave at the first error of a round: the error of a thread's
 * collective is kept here until the end of it, with those that it is made of, and goes into the
 * tags of its messages. Messages of nonblocking collectives that the thread starts meanwhile get
 * it, too.
 */
typedef struct {
    int depth; /* collectives that are under way, one in another */
    int mpi_errno;
} ivshmem_coll_state_t;

extern MPL_TLS ivshmem_coll_state_t ivshmem_coll_state;

static inline void ivshmem_coll_begin(void)
{
    ivshmem_coll_state.depth++;
}

/* Outside of collectives it returns the error. */
static inline int ivshmem_coll_noted(int mpi_errno)
{
    if (likely(mpi_errno == MPI_SUCCESS) || ivshmem_coll_state.depth == 0)
        return mpi_errno;
    if (ivshmem_coll_state.mpi_errno == MPI_SUCCESS)
        ivshmem_coll_state.mpi_errno = mpi_errno;
    return MPI_SUCCESS;
}

static inline ivshmem_compat_errflag ivshmem_coll_errflag(ivshmem_compat_errflag errflag)
{
    ivshmem_coll_note(&errflag, ivshmem_coll_state.mpi_errno);
    return errflag;
}

static inline int ivshmem_coll_end(int mpi_errno)
{
    mpi_errno = ivshmem_coll_noted(mpi_errno);
    if (--ivshmem_coll_state.depth == 0) {
        mpi_errno = ivshmem_coll_state.mpi_errno;
        ivshmem_coll_state.mpi_errno = MPI_SUCCESS;
    }
    return mpi_errno;
}

/*
 * Check what another process says: a number of ranks, which cannot be more than `size`; and `count`
 * ranks, which lie `step` apart.
 */
static inline int ivshmem_coll_check_count(int count, int size)
{
    return count >= 0 && count <= size
               ? MPI_SUCCESS
               : ivshmem_coll_refuse("another process named more ranks than there are");
}

static inline int ivshmem_coll_check_ranks(const int *ranks, int count, int step, int size)
{
    for (int i = 0; i < count; i++)
        if (ranks[i * step] < 0 || ranks[i * step] >= size)
            return ivshmem_coll_refuse("another process named a rank that does not exist");
    return MPI_SUCCESS;
}

/*
 * Leaves a round that other ranks may have left too, as far as possible: cancels a receive that
 * nobody has answered, or a send that nobody has requested. For a nonblocking collective see
 * ivshmem_coll_is_complete. Messages that are under way are not touched.
 *
 * The communicator cannot be used after that: the next collective would take this one's late
 * messages for its own. So all ranks are told, as by MPIX_Comm_revoke. Some of them may be in a
 * later round already, past the error that would have made them leave too, and wait there for
 * messages that this rank no longer sends.
 */
static inline void ivshmem_coll_leave(MPIR_Request *req)
{
    if (req->comm)
        (void) MPID_Comm_revoke(req->comm, 0);
    ivshmem_pt2pt_cancel(req);
}

/* For schedules: whether a message is complete, or no longer matters. */
static inline int ivshmem_coll_is_complete(ivshmem_compat_errflag *errflag, MPIR_Request *req)
{
    if (MPIR_Request_is_complete(req))
        return 1;
    if (likely(!req->comm || !req->comm->revoked))
        return 0;
    if (req->kind == MPIR_REQUEST_KIND__RECV)
        (void) MPID_Cancel_recv(req);
    if (!ivshmem_pt2pt_is_over(req))
        return 0;
    *errflag = MPIR_ERR_OTHER;
    return 1;
}

/*
 * Waits until all requests are complete; never less, because their memory then belongs to somebody
 * else. In the meantime the progress engine may fail, because of a connection that has nothing to
 * do with these requests; its error is returned. Ranks that have left the collective because of the
 * same error will not answer any more, so after some time this rank leaves too.
 */
static inline int ivshmem_coll_complete(int n, MPIR_Request *reqs[])
{
    int mpi_errno = MPI_SUCCESS;
    MPL_time_t begin, now;
    double waited = 0;
    int i;

    for (i = 0; i < n && mpi_errno == MPI_SUCCESS; i++)
        mpi_errno = MPID_Wait(reqs[i], MPI_STATUS_IGNORE);
    if (likely(mpi_errno == MPI_SUCCESS))
        return MPI_SUCCESS;
    MPL_wtime(&begin);
    for (i = 0; i < n && waited < IVSHMEM_COLL_PATIENCE;) {
        if (ivshmem_pt2pt_is_over(reqs[i])) {
            i++;
            continue;
        }
        (void) MPID_Progress_test(NULL); /* one error is enough */
        MPID_THREAD_CS_YIELD(GLOBAL, MPIR_THREAD_GLOBAL_ALLFUNC_MUTEX);
        MPL_wtime(&now);
        MPL_wtime_diff(&begin, &now, &waited);
    }
    for (int k = i; k < n; k++)
        if (!MPIR_Request_is_complete(reqs[k]))
            ivshmem_coll_leave(reqs[k]);
    for (; i < n; i++)
        while (!ivshmem_pt2pt_is_over(reqs[i]))
            (void) MPID_Wait(reqs[i], MPI_STATUS_IGNORE);
    return mpi_errno;
}

/* Algorithms go on by the length of what they have received: of what failed, that is nothing. */
static inline void ivshmem_coll_empty_failed(MPIR_Request *req)
{
    if (req->kind == MPIR_REQUEST_KIND__RECV &&
        (!MPIR_Request_is_complete(req) || req->status.MPI_ERROR != MPI_SUCCESS))
        MPIR_STATUS_SET_COUNT(req->status, 0);
}

/* As MPID_Wait, but also returns the error of a request whose status nobody asks for. */
static inline int ivshmem_coll_wait(MPIR_Request *req)
{
    int mpi_errno = ivshmem_coll_complete(1, &req);

    ivshmem_coll_empty_failed(req);
    if (mpi_errno == MPI_SUCCESS && req->kind != MPIR_REQUEST_KIND__RECV)
        mpi_errno = req->status.MPI_ERROR;
    return mpi_errno;
}

/*
 * As MPIR_Waitall, for requests of collectives. Frees all requests, whatever fails. With statuses
 * of the caller's, it returns MPI_ERR_IN_STATUS itself, with which callers compare; otherwise the
 * first error.
 */
static inline int ivshmem_coll_waitall(int n, MPIR_Request *reqs[], MPI_Status statuses[],
                                       int has_statuses)
{
    int mpi_errno = ivshmem_coll_complete(n, reqs);
    int first = MPI_SUCCESS;

    for (int i = 0; i < n; i++) {
        int error = reqs[i]->status.MPI_ERROR;

        if (reqs[i]->kind == MPIR_REQUEST_KIND__RECV)
            statuses[i] = reqs[i]->status;
        statuses[i].MPI_ERROR = error;
        if (first == MPI_SUCCESS)
            first = error;
        MPIR_Request_free(reqs[i]);
    }
    if (mpi_errno == MPI_SUCCESS && first != MPI_SUCCESS)
        mpi_errno = has_statuses ? MPI_ERR_IN_STATUS : first;
    return mpi_errno;
}

/* As that, for releases whose MPIC_Waitall looks at each status: returns the first error. */
static inline int ivshmem_coll_finish_all(int n, MPIR_Request *reqs[], MPI_Status statuses[])
{
    ivshmem_compat_errflag unused = IVSHMEM_COMPAT_ERR_NONE;
    int mpi_errno = ivshmem_coll_complete(n, reqs);

    for (int i = 0; i < n; i++) {
        if (reqs[i]->kind == MPIR_REQUEST_KIND__RECV) {
            ivshmem_coll_empty_failed(reqs[i]);
            ivshmem_compat_process_status(&reqs[i]->status, &unused);
            statuses[i] = reqs[i]->status;
        }
        if (mpi_errno == MPI_SUCCESS)
            mpi_errno = reqs[i]->status.MPI_ERROR;
        MPIR_Request_free(reqs[i]);
    }
    return mpi_errno;
}

/* For schedules: keeps the error of a complete request, if it has one. */
static inline void ivshmem_coll_note_request(ivshmem_compat_errflag *errflag, MPIR_Request *req)
{
    if (req->kind == MPIR_REQUEST_KIND__RECV)
        ivshmem_compat_process_status(&req->status, errflag);
    ivshmem_coll_note(errflag, req->status.MPI_ERROR);
}

static inline void ivshmem_coll_free(ivshmem_compat_errflag *errflag, MPIR_Request *req)
{
    ivshmem_coll_note_request(errflag, req);
    MPIR_Request_free(req);
}

/*
 * Turns a message that cannot be started into one that has failed, so that code that starts several
 * waits for the others.
 */
static inline int ivshmem_coll_started(int mpi_errno, MPIR_Request_kind_t kind, MPIR_Request **req)
{
    MPIR_Request *failed;

    if (likely(mpi_errno == MPI_SUCCESS))
        return MPI_SUCCESS;
    failed = MPIR_Request_create(kind);
    if (!failed)
        return mpi_errno;
    if (*req)
        MPIR_Request_free(*req);
    MPIR_cc_set(&failed->cc, 0);
    failed->status.MPI_SOURCE = MPI_UNDEFINED;
    failed->status.MPI_TAG = 0;
    MPIR_STATUS_SET_COUNT(failed->status, 0);
    failed->status.MPI_ERROR = mpi_errno;
    *req = failed;
    return MPI_SUCCESS;
}

#endif
