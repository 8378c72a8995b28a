/* SPDX-License-Identifier: mpich2 */
/*
 * What this rank has in the region for large messages, and lends to its peers: lanes, and words for
 * joint copies.
 */
#include "ivshmem_netmod.h"

#define IDLE_LANES_MAX (1 + IVSHMEM_OFFERED_LANES_MAX) /* kept warm; more are given back */
#define JOINTS 64                                      /* at a time */
#define TURNS_UNASKED 64

static struct ivshm_lane idle_lanes[IDLE_LANES_MAX];
static int idle_count;

/*
 * A lane, or the word of a joint copy, in which a peer was at work when we lost sight of it. It may
 * still be: what it had is used again once its claim says that it has left, or is dead.
 */
struct lost {
    struct lost *next;
    struct ivshm_owner peer;
    struct ivshm_joint_shm *joint; /* NULL: a lane */
    struct ivshm_lane lane;
};
static struct lost *lost;

/* Before the region is asked for a lane again: that takes long, and there may be many who wait. */
static unsigned turns_unasked;

static struct ivshm_joint_shm *joints; /* words for our joint copies, once there was one */
static uint64_t joints_in_use;         /* a bit each; all, if the region had no memory for them */

void MPID_nem_ivshmem_lend_joint_back(const struct ivshm_joint_shm *joint)
{
    joints_in_use &= ~(UINT64_C(1) << (joint - joints));
}

static int keep_lane(struct ivshm_lane *lane)
{
    if (idle_count == IDLE_LANES_MAX)
        return 0;
    idle_lanes[idle_count++] = *lane;
    return 1;
}

void MPID_nem_ivshmem_lend_lane_back(struct ivshm_lane *lane)
{
    if (!keep_lane(lane))
        ivshm_lane_free(&MPID_nem_ivshmem.region, ivshm_transport_self(&MPID_nem_ivshmem.transport),
                        lane);
}

/* Takes back what belongs to nobody any more. */
static void find_lost(void)
{
    for (struct lost *l, **link = &lost; (l = *link);) {
        if (ivshm_endpoint_is_live(&MPID_nem_ivshmem.region, l->peer)) {
            link = &l->next;
            continue;
        }
        *link = l->next;
        if (l->joint) {
            MPID_nem_ivshmem_lend_joint_back(l->joint);
        } else {
            ivshm_lane_reset(&l->lane);
            MPID_nem_ivshmem_lend_lane_back(&l->lane);
        }
        MPL_free(l);
    }
}

/* A word for a joint copy, or NULL: then we copy alone. */
struct ivshm_joint_shm *MPID_nem_ivshmem_lend_joint(void)
{
    if (unlikely(lost))
        find_lost();
    if (joints_in_use == UINT64_MAX)
        return NULL;
    if (!joints && !(joints = MPID_nem_ivshmem_memory_take(JOINTS * sizeof(*joints)))) {
        joints_in_use = UINT64_MAX;
        return NULL;
    }
    int i = __builtin_ctzll(~joints_in_use);
    joints_in_use |= UINT64_C(1) << i;
    return &joints[i];
}

static bool allocate_lane(struct ivshm_lane *lane)
{
    return ivshm_lane_alloc(&MPID_nem_ivshmem.region,
                            ivshm_transport_self(&MPID_nem_ivshmem.transport), lane) == 0;
}

/* Of the progress engine, while there are transfers. */
void MPID_nem_ivshmem_lend_begin_turn(void)
{
    if (turns_unasked > 0)
        turns_unasked--;
}

/* Leaves `keep` idle ones alone, and in the region what is there for those who join. */
bool MPID_nem_ivshmem_lend_lane(struct ivshm_lane *lane, int keep)
{
    if (unlikely(lost))
        find_lost();
    if (idle_count > keep) {
        *lane = idle_lanes[--idle_count];
        return true;
    }
    if (turns_unasked > 0)
        return false;
    /* Without what is lost there may be none that comes back. */
    if (!lost &&
        !ivshm_extent_spare(&MPID_nem_ivshmem.region, ivshm_lane_bytes(&MPID_nem_ivshmem.region))) {
        turns_unasked = TURNS_UNASKED;
        return false;
    }
    return allocate_lane(lane);
}

int MPID_nem_ivshmem_lend_init(int job_size)
{
    struct ivshm_lane lane;
    struct ivshm_diag diag;

    idle_count = 0;
    turns_unasked = 0;
    lost = NULL;
    joints = NULL;
    joints_in_use = 0;
    if (!allocate_lane(&lane)) {
        ivshm_endpoint_no_memory(&MPID_nem_ivshmem.region, (uint32_t) job_size, &diag);
        return MPID_nem_ivshmem_error(diag.text);
    }
    keep_lane(&lane);
    return MPI_SUCCESS;
}

void MPID_nem_ivshmem_lend_finalize(void)
{
    /* Leaving the region gives back the memory. */
    idle_count = 0;
    for (struct lost *l; (l = lost);) {
        lost = l->next;
        MPL_free(l);
    }
}

void MPID_nem_ivshmem_lend_lose(struct ivshm_owner peer, struct ivshm_joint_shm *joint,
                                const struct ivshm_lane *lane)
{
    struct lost *l = MPL_malloc(sizeof(*l), MPL_MEM_OTHER);

    if (!l) /* not even once it is dead */
        return;
    *l = (struct lost){.next = lost, .peer = peer, .joint = joint};
    if (lane)
        l->lane = *lane;
    lost = l;
}
