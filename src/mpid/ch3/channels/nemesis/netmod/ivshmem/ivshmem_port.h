/* SPDX-License-Identifier: mpich2 */
/*
 * MPI_Comm_connect and the other side of it: ivshmem_port.c, and checks for MPICH's ch3u_port.c,
 * which ivshmem-graft has include this header.
 */
#ifndef IVSHMEM_PORT_H
#define IVSHMEM_PORT_H

struct ivshm_incoming;

/*
 *   get_card          writes the card that goes into a port's name; the netmod's get_business_card
 *   connect           begins a call to the process with this card; the netmod's connect_to_root
 *   find_vc           the call to which a message belongs; NULL in *vc_p: drop the message
 *   close_unanswered  marks calls at our ports that were never answered; when idle
 */
int MPID_nem_ivshmem_port_get_card(int my_rank, char **bc_val_p, int *val_max_sz_p);
int MPID_nem_ivshmem_port_connect(const char *business_card, MPIDI_VC_t *new_vc);
int MPID_nem_ivshmem_port_find_vc(const struct ivshm_incoming *in, MPIDI_VC_t **vc_p);
void MPID_nem_ivshmem_port_close_unanswered(void);

/*
 * Checks of what the root at the other end tells MPI_Comm_accept and MPI_Comm_connect: the sizes of
 * its group, each job with members in the group, and each rank's position in its job. CH3 uses all
 * of that as it arrives, and anybody who finds an open port may be at the other end. ch3u_port.c
 * calls the checks before it continues. Each returns an MPI error.
 */
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
               : ivshmem_port_refuse("named a group of processes of an impossible size");
}

static inline int ivshmem_port_check_length(int len)
{
    return len >= 1 && len <= IVSHMEM_PORT_JOB_MAX
               ? MPI_SUCCESS
               : ivshmem_port_refuse("described a job in an impossible number of bytes");
}

/*
 * A job's name, its size, and the business card of each rank, each terminated by NUL. A card of
 * length 0 is invalid: with such cards, a job of very many ranks would take only a few bytes.
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
                             : ivshmem_port_refuse("described a job in a form that is not MPICH's");
}

/*
 * Each rank is one of its job, and none is in our group. `ranks` is a list of pairs: an index of a
 * job in `all`, and a rank of that job.
 */
static inline int ivshmem_port_check_ranks(int count, const int ranks[][2], int jobs,
                                           MPIDI_PG_t *all[], const MPIR_Comm *comm)
{
    for (int i = 0; i < count; i++) {
        if (ranks[i][0] < 0 || ranks[i][0] >= jobs || ranks[i][1] < 0 ||
            ranks[i][1] >= all[ranks[i][0]]->size)
            return ivshmem_port_refuse("named a rank that its job does not have");
        for (int own = 0; own < comm->local_size; own++)
            if (comm->dev.vcrt->vcr_table[own] == &all[ranks[i][0]]->vct[ranks[i][1]])
                return ivshmem_port_refuse("named a rank that is at this end");
    }
    return MPI_SUCCESS;
}

#endif
