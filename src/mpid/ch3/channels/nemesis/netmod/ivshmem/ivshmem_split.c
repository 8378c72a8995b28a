/* SPDX-License-Identifier: mpich2 */
#include "ivshmem_split.h"

#include "ivshmem_compat.h"

typedef struct {
    uint64_t word[2]; /* 0, 0: the rank has no region */
} region_id_t;

static MPIR_Commops stock, ours;

static region_id_t own_region(void)
{
    region_id_t id = {{0, 0}};
    if (MPID_nem_ivshmem.joined)
        memcpy(id.word, ivshm_region_id(&MPID_nem_ivshmem.region), sizeof(id.word));
    return id;
}

/* Collective: the ranks of each region, and those without one, each in the order of their keys. */
static int split_by_region(MPIR_Comm *comm, int key, MPIR_Comm **part)
{
    int mpi_errno = MPI_SUCCESS, first = 0;
    region_id_t mine = own_region();
    region_id_t *ids = MPL_malloc(comm->local_size * sizeof(*ids), MPL_MEM_COMM);

    MPIR_ERR_CHKANDJUMP(!ids, mpi_errno, MPI_ERR_OTHER, "**nomem");
    ids[comm->rank] = mine;
    mpi_errno =
        ivshmem_compat_collective(IVSHMEM_COMPAT_ERR_NONE, Allgather, MPI_IN_PLACE, 0,
                                  MPI_DATATYPE_NULL, ids, sizeof(*ids), IVSHMEM_COMPAT_BYTE, comm);
    MPIR_ERR_CHECK(mpi_errno);
    while (memcmp(&ids[first], &mine, sizeof(mine)) != 0)
        first++;
    mpi_errno = MPIR_Comm_split_impl(comm, first, key, part);
    MPIR_ERR_CHECK(mpi_errno);

fn_exit:
    MPL_free(ids);
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

/*
 * Instead of MPICH's own, which begins with the same split: other ranks may give MPI_UNDEFINED, and
 * take its way. Hints that cut a VM into smaller parts have no meaning for a region.
 */
static int split_type(MPIR_Comm *comm, int type, int key, MPIR_Info *info, MPIR_Comm **new_comm)
{
    int mpi_errno = MPI_SUCCESS;
    MPIR_Comm *all = NULL, *part = NULL;

    if (type != MPI_COMM_TYPE_SHARED)
        return stock.split_type(comm, type, key, info, new_comm);
    mpi_errno = MPIR_Comm_split_impl(comm, 0, key, &all);
    MPIR_ERR_CHECK(mpi_errno);
    mpi_errno = split_by_region(all, key, &part);
    MPIR_ERR_CHECK(mpi_errno);
    if (MPID_nem_ivshmem.joined) {
        *new_comm = part;
        part = NULL;
    } else {
        mpi_errno = stock.split_type(part, type, key, info, new_comm);
        MPIR_ERR_CHECK(mpi_errno);
    }

fn_exit:
    if (part)
        MPIR_Comm_free_impl(part);
    if (all)
        MPIR_Comm_free_impl(all);
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

void MPID_nem_ivshmem_split_init(void)
{
    if (MPIR_CVAR_NEMESIS_IVSHMEM_SHARED != MPIR_CVAR_NEMESIS_IVSHMEM_SHARED_region)
        return;
    stock = ours = *MPIR_Comm_fns;
    ours.split_type = split_type;
    MPIR_Comm_fns = &ours;
}
