/* SPDX-License-Identifier: mpich2 */
/*
 * Which processes MPICH takes for failed: those that the process manager reports, and those that
 * the netmod has found dead. The process manager may learn of these much later, or never, as when
 * their VM is gone. Called under MPICH's global lock.
 */
#include "ivshmem_deaths.h"

/*
 * Ranks of MPI_COMM_WORLD, separated by commas, as in the process manager's list; NULL if there are
 * none. In the order in which they were learnt: CH3 tells by the order which are acknowledged.
 */
static char *dead = NULL;

static bool is_listed(int rank)
{
    char *c = dead;

    while (c && *c) {
        if (strtol(c, &c, 10) == rank)
            return true;
        c += *c == ',';
    }
    return false;
}

/* A rank that is not listed. */
static void add(int rank)
{
    char listed[32];
    size_t length = dead ? strlen(dead) : 0;
    char *longer;

    snprintf(listed, sizeof(listed), "%s%d", dead ? "," : "", rank);
    longer = MPL_realloc(dead, length + sizeof(listed), MPL_MEM_OTHER);
    if (!longer)
        return;
    strcpy(longer + length, listed);
    dead = longer;
}

/* Has *list, which MPICH's allocator has given, name all dead processes. */
static void replace(char **list)
{
    char *copy = dead ? MPL_strdup(dead) : NULL;

    if (!copy)
        return;
    MPL_free(*list);
    *list = copy;
}

/* CH3 has read the process manager's list. */
static void complete(char **list)
{
    char *c = *list, *end;

    for (long rank = strtol(c, &end, 10); end != c; rank = strtol(c, &end, 10)) {
        if (!is_listed((int) rank))
            add((int) rank);
        c = end + (*end == ',');
    }
    replace(list);
}

static int free_list(void *unused)
{
    (void) unused;
    MPL_free(dead);
    dead = NULL;
    return 0;
}

void MPID_nem_ivshmem_deaths_init(void)
{
    MPID_nem_ivshmem_complete_deaths = complete;
    MPIR_Add_finalize(free_list, NULL, MPIR_FINALIZE_CALLBACK_PRIO - 1);
}

int MPID_nem_ivshmem_deaths_found(int rank)
{
    int mpi_errno = MPI_SUCCESS;
    MPIR_Group *before = MPIDI_Failed_procs_group, *found;

    if (is_listed(rank) || !MPIR_Process.comm_world)
        return MPI_SUCCESS;
    add(rank);
    replace(&MPIDI_failed_procs_string);
    mpi_errno = MPIDI_CH3U_Get_failed_group(-2, &MPIDI_Failed_procs_group);
    MPIR_ERR_CHECK(mpi_errno);
    mpi_errno = MPIR_Group_difference_impl(MPIDI_Failed_procs_group, before, &found);
    MPIR_ERR_CHECK(mpi_errno);
    if (found != MPIR_Group_empty) {
        mpi_errno = MPIDI_CH3I_Comm_handle_failed_procs(found);
        MPIR_ERR_CHECK(mpi_errno);
        mpi_errno = MPIR_Group_release(found);
        MPIR_ERR_CHECK(mpi_errno);
    }
    if (before != MPIR_Group_empty)
        mpi_errno = MPIR_Group_release(before);

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}
