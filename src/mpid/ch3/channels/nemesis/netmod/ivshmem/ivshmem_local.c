/* SPDX-License-Identifier: mpich2 */
#include "ivshmem_local.h"

static __typeof__(MPID_nem_ivshmem.local) *const self = &MPID_nem_ivshmem.local;

/*
 * In place of the word of a rank that was not found: it never sleeps, or, before we have looked, it
 * does, so that the first message to it lets us look.
 */
static const ivshm_a64 awake, unknown = {1};

static void wake(int local_rank)
{
    if (self->sleepers[local_rank] == &unknown)
        MPID_nem_ivshmem_local_look();
    if (self->channels[local_rank])
        ivshm_channel_wake(&MPID_nem_ivshmem.transport, self->channels[local_rank]);
}

int MPID_nem_ivshmem_local_init(void)
{
    int mpi_errno = MPI_SUCCESS, n = MPID_nem_mem_region.num_local;

    if (n == 1)
        goto fn_exit;
    self->channels = MPL_calloc(n, sizeof(self->channels[0]), MPL_MEM_OTHER);
    self->sleepers = MPL_calloc(n, sizeof(self->sleepers[0]), MPL_MEM_OTHER);
    MPIR_ERR_CHKANDJUMP(!self->channels || !self->sleepers, mpi_errno, MPI_ERR_OTHER, "**nomem");
    for (int i = 0; i < n; i++)
        self->sleepers[i] = &unknown;
    self->missing = n - 1;
    MPID_nem_ivshmem_wake_local_rank = wake;
    MPID_nem_ivshmem_sleepers = self->sleepers;

fn_exit:
    return mpi_errno;
fn_fail:
    goto fn_exit;
}

static void forget(int local_rank)
{
    self->sleepers[local_rank] = &awake;
    ivshm_channel_close(&MPID_nem_ivshmem.transport, self->channels[local_rank]);
    self->channels[local_rank] = NULL;
}

/* The local rank of that process of this job, if it is one that we do not have yet; or -1. */
static int missing_rank(const struct ivshm_endpoint_info *info)
{
    if (info->claim.state != IVSHM_CLAIM_LIVE ||
        info->rank >= (uint32_t) MPIDI_Process.my_pg->size ||
        (int) info->rank == MPIDI_Process.my_pg_rank ||
        strcmp(info->job, (const char *) MPIDI_Process.my_pg->id) != 0)
        return -1;
    int local_rank = MPID_nem_mem_region.local_ranks[info->rank];
    return local_rank == MPID_NEM_NON_LOCAL || self->channels[local_rank] ? -1 : local_rank;
}

/* What it says of itself is not proved: whoever lies is woken in another one's place. */
static void find_missing(void)
{
    const struct ivshm_region *region = &MPID_nem_ivshmem.region;
    struct ivshm_endpoint_info info;

    for (uint32_t i = 0; i < ivshm_region_endpoints(region) && self->missing > 0; i++) {
        if (ivshm_endpoint_read(region, i, &info) != 0)
            continue;
        int local_rank = missing_rank(&info);
        struct ivshm_owner owner = {i, info.claim.generation};
        if (local_rank < 0 || ivshm_channel_open(&MPID_nem_ivshmem.transport, owner,
                                                 &self->channels[local_rank], NULL) != 0)
            continue;
        self->sleepers[local_rank] = ivshm_channel_sleeper(self->channels[local_rank]);
        self->missing--;
    }
}

void MPID_nem_ivshmem_local_look(void)
{
    int n = MPID_nem_mem_region.num_local;

    if (!MPID_nem_ivshmem_sleepers)
        return;
    for (int i = 0; i < n; i++) {
        if (self->sleepers[i] == &unknown)
            self->sleepers[i] = &awake;
        if (self->channels[i] &&
            !ivshm_channel_is_live(&MPID_nem_ivshmem.transport, self->channels[i]))
            forget(i);
    }
    if (self->missing > 0)
        find_missing();
}

bool MPID_nem_ivshmem_local_is_complete(void)
{
    return self->missing == 0;
}

bool MPID_nem_ivshmem_local_is_empty(void)
{
    if (!MPID_nem_queue_empty(MPID_nem_mem_region.my_recvQ))
        return false;
    for (int i = 0; i < MPID_nem_mem_region.num_local; i++)
        if (i != MPID_nem_mem_region.local_rank &&
            MPL_atomic_acquire_load_int(&MPID_nem_mem_region.mailboxes.in[i]->flag) != 0)
            return false;
    return true;
}

void MPID_nem_ivshmem_local_finalize(void)
{
    for (int i = 0; i < MPID_nem_mem_region.num_local && MPID_nem_ivshmem_sleepers; i++)
        if (self->channels[i])
            forget(i);
    MPID_nem_ivshmem_sleepers = NULL;
    MPL_free(self->channels);
    MPL_free(self->sleepers);
    self->channels = NULL;
    self->sleepers = NULL;
}
