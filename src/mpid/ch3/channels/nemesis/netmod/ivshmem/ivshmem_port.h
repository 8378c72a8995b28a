/* SPDX-License-Identifier: mpich2 */
/*
 * What MPI_Comm_accept and MPI_Comm_connect are told by the root at the other end: the sizes of its
 * group, each job that has a part in it, and where in its job each rank is. CH3 follows all that
 * as it comes, and whoever finds an open port may be at that end. ivshmem-graft lets ch3u_port.c
 * include it, and ask before it goes on; each returns an MPI error.
 */
#ifndef IVSHMEM_PORT_H
#define IVSHMEM_PORT_H

enum {
    IVSHMEM_PORT_RANKS_MAX = 1 << 20,
    IVSHMEM_PORT_JOB_MAX = 1 << 26, /* bytes of a job's description */
};

static inline int ivshmem_port_refuse(const char *why)
{
    int mpi_errno = MPI_SUCCESS;
    char text[120];

    snprintf(text, sizeof(text), "the other end of a new connection %s", why);
    MPIR_ERR_SET1(mpi_errno, MPI_ERR_OTHER, "**ivshmem", "**ivshmem %s", text);
    return mpi_errno;
}

static inline int ivshmem_port_check_sizes(int jobs, int ranks)
{
    return jobs >= 1 && ranks >= jobs && ranks <= IVSHMEM_PORT_RANKS_MAX
               ? MPI_SUCCESS
               : ivshmem_port_refuse("names a group of processes that cannot be");
}

static inline int ivshmem_port_check_length(int len)
{
    return len >= 1 && len <= IVSHMEM_PORT_JOB_MAX
               ? MPI_SUCCESS
               : ivshmem_port_refuse("describes a job in as many bytes as cannot be");
}

/*
 * Its name, its size, and the business card of each rank, each with a NUL behind it. A card of no
 * length is none; and it would make a job of very many ranks of few bytes.
 */
static inline int ivshmem_port_check_job(const char *job, int len)
{
    const char *end = job + len, *size = job + strnlen(job, len) + 1, *at;
    char *rest;
    long ranks = 0;

    if (size < end && memchr(size, '\0', end - size) && *size >= '1' && *size <= '9') {
        ranks = strtol(size, &rest, 10);
        if (*rest || ranks > IVSHMEM_PORT_RANKS_MAX)
            ranks = 0;
    }
    at = size;
    for (long n = 0; ranks > 0 && n <= ranks; n++) {
        at = at < end && *at ? memchr(at, '\0', end - at) : NULL;
        if (!at++)
            ranks = 0;
    }
    return *job && ranks > 0 ? MPI_SUCCESS
                             : ivshmem_port_refuse("describes a job in a form that is not MPICH's");
}

/*
 * Each rank is one of its job, and none of our group. `ranks` is a list of pairs: a job, by its
 * place in `all`, and a rank of it.
 */
static inline int ivshmem_port_check_ranks(int count, const int ranks[][2], int jobs,
                                           MPIDI_PG_t *all[], const MPIR_Comm *comm)
{
    for (int i = 0; i < count; i++) {
        if (ranks[i][0] < 0 || ranks[i][0] >= jobs || ranks[i][1] < 0 ||
            ranks[i][1] >= all[ranks[i][0]]->size)
            return ivshmem_port_refuse("names a rank that its job does not have");
        for (int own = 0; own < comm->local_size; own++)
            if (comm->dev.vcrt->vcr_table[own] == &all[ranks[i][0]]->vct[ranks[i][1]])
                return ivshmem_port_refuse("names a rank that is at this end");
    }
    return MPI_SUCCESS;
}

#endif
