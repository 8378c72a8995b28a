/* SPDX-License-Identifier: mpich2 */
/*
=== BEGIN_MPI_T_CVAR_INFO_BLOCK ===

cvars:
    - name        : MPIR_CVAR_NEMESIS_IVSHMEM_REGION
      category    : NEMESIS
      type        : string
      default     : NULL
      class       : none
      verbosity   : MPI_T_VERBOSITY_USER_BASIC
      scope       : MPI_T_SCOPE_LOCAL
      description : >-
        The shared region: the PCI address of an ivshmem device
        (0000:00:04.0), or the path of a file or device that maps its memory.
        If unset, the first device that holds a region is used, or an ivshmem
        device that is unformatted.

    - name        : MPIR_CVAR_NEMESIS_IVSHMEM_EAGER_LIMIT
      category    : NEMESIS
      type        : int
      default     : -1
      class       : none
      verbosity   : MPI_T_VERBOSITY_USER_BASIC
      scope       : MPI_T_SCOPE_LOCAL
      description : >-
        Messages of more than this many bytes use the rendezvous protocol.
        -1 chooses a limit that suits the region's cells.

    - name        : MPIR_CVAR_NEMESIS_IVSHMEM_COPY
      category    : NEMESIS
      type        : enum
      default     : auto
      class       : none
      verbosity   : MPI_T_VERBOSITY_USER_DETAIL
      scope       : MPI_T_SCOPE_LOCAL
      description : |-
        How a sender writes messages of more than 248 bytes into the region.
        auto   - As measured while the program runs
        plain  - Without prefetching
        ahead  - Behind prefetches
        stream - By non-temporal stores

    - name        : MPIR_CVAR_NEMESIS_IVSHMEM_PIECE
      category    : NEMESIS
      type        : enum
      default     : auto
      class       : none
      verbosity   : MPI_T_VERBOSITY_USER_DETAIL
      scope       : MPI_T_SCOPE_LOCAL
      description : |-
        Into which pieces a sender cuts messages.
        auto  - As measured while the program runs
        small - Buffers of 2 KiB, and quarters of a chunk
        large - Cells and chunks of 16 KiB

    - name        : MPIR_CVAR_NEMESIS_IVSHMEM_WAIT
      category    : NEMESIS
      type        : enum
      default     : auto
      class       : none
      verbosity   : MPI_T_VERBOSITY_USER_BASIC
      scope       : MPI_T_SCOPE_LOCAL
      description : |-
        What a rank does while a call waits, besides looking.
        auto  - It looks for a while, or yields, and then sleeps
        spin  - It only looks
        yield - It gives its processor away again and again
        sleep - It sleeps at once

    - name        : MPIR_CVAR_NEMESIS_IVSHMEM_SERVER
      category    : NEMESIS
      type        : string
      default     : NULL
      class       : none
      verbosity   : MPI_T_VERBOSITY_USER_BASIC
      scope       : MPI_T_SCOPE_LOCAL
      description : >-
        The socket of the ivshmem-server that serves the region, for ranks
        on the host: by it, they and ranks in guests wake each other. If
        unset, it is /run/ivshmem/NAME for the region /dev/shm/NAME, if that
        is there. "none": ranks do not connect to a server.

    - name        : MPIR_CVAR_NEMESIS_IVSHMEM_FALLBACK
      category    : NEMESIS
      type        : int
      default     : -1
      class       : none
      verbosity   : MPI_T_VERBOSITY_USER_BASIC
      scope       : MPI_T_SCOPE_ALL_EQ
      description : >-
        Whether two ranks that do not share a region may use tcp. 0: no,
        that is an error; 1: yes; -1: yes, and each rank that finds no
        region at all reports that on standard error.

    - name        : MPIR_CVAR_NEMESIS_IVSHMEM_USER_MEMORY
      category    : NEMESIS
      type        : int
      default     : 1
      class       : none
      verbosity   : MPI_T_VERBOSITY_USER_BASIC
      scope       : MPI_T_SCOPE_LOCAL
      description : >-
        1 gives MPI_Alloc_mem and windows memory of the region: large
        messages from or to it are copied once, and one-sided operations
        in windows of it are loads and stores. 0 keeps the region for
        messages.

    - name        : MPIR_CVAR_NEMESIS_IVSHMEM_SHARED
      category    : NEMESIS
      type        : enum
      default     : node
      class       : none
      verbosity   : MPI_T_VERBOSITY_USER_BASIC
      scope       : MPI_T_SCOPE_ALL_EQ
      description : |-
        Which ranks MPI_Comm_split_type with MPI_COMM_TYPE_SHARED returns.
        node   - Those of the same VM or host
        region - Those that share the region, in any VM and on the host

    - name        : MPIR_CVAR_NEMESIS_IVSHMEM_COLLECTIVES
      category    : NEMESIS
      type        : int
      default     : 8
      class       : none
      verbosity   : MPI_T_VERBOSITY_USER_BASIC
      scope       : MPI_T_SCOPE_ALL_EQ
      description : >-
        From which call on the barriers, broadcasts, allreduces, allgathers
        and alltoalls of a communicator go through the region without
        messages, if all of its ranks share it. 0: they never do.

    - name        : MPIR_CVAR_NEMESIS_IVSHMEM_INFO
      category    : NEMESIS
      type        : int
      default     : 0
      class       : none
      verbosity   : MPI_T_VERBOSITY_USER_BASIC
      scope       : MPI_T_SCOPE_LOCAL
      description : >-
        1 prints to standard error, at start, the rank's region, how it is
        mapped, and its sizes in bytes; and, when the first message to a
        peer is sent, the path to it and up to which size messages are
        eager.

    - name        : MPIR_CVAR_NEMESIS_IVSHMEM_STATS
      category    : NEMESIS
      type        : int
      default     : 0
      class       : none
      verbosity   : MPI_T_VERBOSITY_USER_BASIC
      scope       : MPI_T_SCOPE_LOCAL
      description : >-
        1 prints the netmod's counters, messages and bytes by path, to
        standard error at finalize; 2 adds a line for each peer.

=== END_MPI_T_CVAR_INFO_BLOCK ===
*/

/*
 * Start and shutdown of the netmod, its control variables, and the function table through which
 * MPICH calls it, under its global lock.
 */
#include "ivshmem_netmod.h"

#include "ivshmem_poll.h"
#include "ivshmem_window.h"
#include "ivshmem_collective.h"
#include "ivshmem_split.h"
#include "ivshmem_path.h"
#include "ivshmem_port.h"
#include "ivshmem_relation.h"
#include "ivshmem_teardown.h"
#include "ivshmem_card.h"
#include "ivshmem_memory.h"
#include "ivshmem_lmt_pool.h"
#include "ivshmem_local.h"
#include "ivshmem_error.h"
#include "ivshmem_info.h"
#include "ivshmem_stats.h"
#include "ivshmem_fault.h"
#include "ivshmem_affinity.h"
#include "ivshmem_speed.h"
#include "ivshmem_wait.h"

MPID_nem_ivshmem_t MPID_nem_ivshmem;

/* What the user has pinned of the choices of core/choice.h, or -1. */
static int wanted_way(void)
{
    switch (MPIR_CVAR_NEMESIS_IVSHMEM_COPY) {
    case MPIR_CVAR_NEMESIS_IVSHMEM_COPY_plain:
        return IVSHM_COPY_PLAIN;
    case MPIR_CVAR_NEMESIS_IVSHMEM_COPY_ahead:
        return IVSHM_COPY_AHEAD;
    case MPIR_CVAR_NEMESIS_IVSHMEM_COPY_stream:
        return IVSHM_COPY_STREAM;
    default:
        return -1;
    }
}

static int wanted_piece(void)
{
    switch (MPIR_CVAR_NEMESIS_IVSHMEM_PIECE) {
    case MPIR_CVAR_NEMESIS_IVSHMEM_PIECE_small:
        return 0;
    case MPIR_CVAR_NEMESIS_IVSHMEM_PIECE_large:
        return 1;
    default:
        return -1;
    }
}

/* Opens the region and joins it. Returns 0 or -errno, with the reason in MPID_nem_ivshmem.diag. */
static int join_region(MPIDI_PG_t *pg_p, int pg_rank)
{
    MPID_nem_ivshmem_t *self = &MPID_nem_ivshmem;
    int err = ivshm_region_open(MPIR_CVAR_NEMESIS_IVSHMEM_REGION, &self->region, &self->diag);
    if (err)
        return err;
    MPID_nem_ivshmem_fault_watch();
    self->vcs =
        MPL_calloc(ivshm_region_endpoints(&self->region), sizeof(self->vcs[0]), MPL_MEM_OTHER);
    self->operations = MPL_calloc(ivshm_region_endpoints(&self->region) + 1,
                                  sizeof(self->operations[0]), MPL_MEM_OTHER);
    if (!self->vcs || !self->operations) {
        err = ivshm_diag_fail(&self->diag, ENOMEM, "out of memory for the tables of connections");
        goto free_tables;
    }
    MPID_nem_ivshmem_wait_open_bell();
    err = ivshm_transport_open(&self->transport, &self->region, (const char *) pg_p->id,
                               (uint32_t) pg_rank, (uint32_t) pg_p->size, &self->diag);
    if (err)
        goto free_tables;
    ivshm_transport_choose(&self->transport, wanted_way(), wanted_piece());
    self->joined = true;
    return 0;

free_tables:
    MPL_free(self->operations);
    MPL_free(self->vcs);
    MPID_nem_ivshmem_fault_unwatch(false);
    ivshm_region_close(&self->region);
    return err;
}

static void leave_region(void)
{
    MPID_nem_ivshmem_t *self = &MPID_nem_ivshmem;

    MPID_nem_ivshmem_collective_finalize();
    if (!self->joined)
        return;
    IVSHM_TRACEPOINT(leave);
    MPID_nem_ivshmem_poll_finalize();
    MPID_nem_ivshmem_local_finalize();
    MPID_nem_ivshmem_lmt_pool_finalize();
    /* The region stays as it is: a process that joins later finds this one dead, and reaps it. */
    if (!MPID_nem_ivshmem_memory_finalize())
        return;
    ivshm_transport_close(&self->transport);
    MPID_nem_ivshmem_fault_unwatch(MPID_nem_ivshmem_memory_is_of_file());
    ivshm_region_close(&self->region);
    MPL_free(self->operations);
    MPL_free(self->vcs);
    self->joined = false;
}

/*
 * Whether the job can run without a region here, which could not be joined because of `err`: all
 * ranks are in this VM, or tcp is allowed. A user who named a region, or whose device cannot be
 * used, expects an error instead.
 */
static bool can_do_without(int err)
{
    if (MPIR_CVAR_NEMESIS_IVSHMEM_REGION)
        return false;
    if (MPID_nem_mem_region.ext_procs == 0)
        return true;
    return MPIR_CVAR_NEMESIS_IVSHMEM_FALLBACK != 0 && err == -ENODEV;
}

/*
 * MPICH takes a process to which nobody speaks PMI for a job of one rank. If a launcher has started
 * several, they are that many jobs, and nothing else tells the user. The first one does.
 */
static void warn_of_other_launcher(const MPIDI_PG_t *pg_p)
{
    static const struct {
        const char *rank, *size, *what, *advice;
    } launchers[] = {
        {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "srun without PMI-2", "use srun --mpi=pmi2"},
        {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "Open MPI's mpiexec",
         "use the mpiexec of this MPI's installation"},
    };
    char text[300];

    if (strncmp(pg_p->id, "singinit", strlen("singinit")) != 0)
        return;
    for (size_t i = 0; i < sizeof(launchers) / sizeof(launchers[0]); i++) {
        const char *rank = getenv(launchers[i].rank), *size = getenv(launchers[i].size);
        if (!rank || !size || atoi(rank) != 0 || atoi(size) < 2)
            continue;
        snprintf(
            text, sizeof(text),
            "started by %s: its %d processes are a job of one rank each; for one job of all, %s",
            launchers[i].what, atoi(size), launchers[i].advice);
        MPID_nem_ivshmem_report("", text);
    }
}

static int ivshmem_init(MPIDI_PG_t *pg_p, int pg_rank, char **bc_val_p, int *val_max_sz_p)
{
    int mpi_errno = MPI_SUCCESS;

    memset(&MPID_nem_ivshmem, 0, sizeof(MPID_nem_ivshmem));
    warn_of_other_launcher(pg_p);
    MPID_nem_ivshmem_stats_register();
    MPID_nem_ivshmem_teardown_init();
    int tcp_errno = MPID_nem_ivshmem_path_init(pg_p, pg_rank, bc_val_p, val_max_sz_p);
    int err = join_region(pg_p, pg_rank);
    if (err == 0) {
        mpi_errno = MPID_nem_ivshmem_poll_init();
        MPIR_ERR_CHECK(mpi_errno);
        MPID_nem_ivshmem_wait_init();
        MPID_nem_ivshmem_stats_tell();
        mpi_errno = MPID_nem_ivshmem_local_init();
        MPIR_ERR_CHECK(mpi_errno);
        mpi_errno = MPID_nem_ivshmem_relation_init();
        MPIR_ERR_CHECK(mpi_errno);
        mpi_errno = MPID_nem_ivshmem_lmt_pool_init(pg_p->size);
        MPIR_ERR_CHECK(mpi_errno);
        mpi_errno = MPID_nem_ivshmem_memory_init();
        MPIR_ERR_CHECK(mpi_errno);
        MPID_nem_ivshmem_affinity_check();
        MPID_nem_ivshmem_speed_check();
    } else if (!can_do_without(err)) {
        mpi_errno = MPID_nem_ivshmem_error(MPID_nem_ivshmem.diag.text);
        goto fn_fail;
    } else if (MPID_nem_mem_region.ext_procs > 0) {
        /* Without a region, tcp is the only path to other VMs. */
        mpi_errno = tcp_errno;
        MPIR_ERR_CHECK(mpi_errno);
        if (MPIR_CVAR_NEMESIS_IVSHMEM_FALLBACK < 0)
            MPID_nem_ivshmem_report("uses tcp: ", MPID_nem_ivshmem.diag.text);
    }
    MPID_nem_ivshmem_window_init();
    mpi_errno = MPID_nem_ivshmem_collective_init();
    MPIR_ERR_CHECK(mpi_errno);
    MPID_nem_ivshmem_split_init();
    mpi_errno = MPID_nem_ivshmem_card_add(bc_val_p, val_max_sz_p);
    MPIR_ERR_CHECK(mpi_errno);
    MPID_nem_ivshmem_info_print();

fn_exit:
    return mpi_errno;
fn_fail:
    leave_region();
    goto fn_exit;
}

static int ivshmem_finalize(void)
{
    int mpi_errno = MPID_nem_ivshmem_path_finalize();
    if (MPIR_CVAR_NEMESIS_IVSHMEM_STATS)
        MPID_nem_ivshmem_stats_print();
    leave_region();
    return mpi_errno;
}

/* Messages from one rank to another arrive in order. */
static int ivshmem_get_ordering(int *ordering)
{
    *ordering = 1;
    return MPI_SUCCESS;
}

MPID_nem_netmod_funcs_t MPIDI_nem_ivshmem_funcs = {
    .init = ivshmem_init,
    .finalize = ivshmem_finalize,
    .poll = MPID_nem_ivshmem_poll,
    .get_business_card = MPID_nem_ivshmem_port_get_card,
    .connect_to_root = MPID_nem_ivshmem_port_connect,
    .vc_init = MPID_nem_ivshmem_path_vc_init,
    .vc_destroy = MPID_nem_ivshmem_path_vc_destroy,
    .vc_terminate = MPID_nem_ivshmem_path_vc_terminate,
    .get_ordering = ivshmem_get_ordering,
};
