#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154,SC2119
#
# MPI_T and sessions: beginnings and ends other than MPI_Init and MPI_Finalize.

load mpi

setup() { use_region 16M; }

teardown() { at_end; }

@test "MPI_T control and performance variables before, during and after MPI" { passes_both 2 "$programs/mpi_t_sessions" variables; }

@test "two sessions at once, inside and around MPI_Init and MPI_Finalize" { passes_both 2 "$programs/mpi_t_sessions" sessions; }

@test "a session that continues after MPI_Finalize" { passes_both 2 "$programs/mpi_t_sessions" after; }

# MPICH 4.0.2 crashes here, with every netmod. Later releases should support it.
@test "a session after the last one has ended works, or leaves the region clean" {
    local status=0
    all_remote
    mpi job -n 2 "$programs/mpi_t_sessions" again || status=$?
    [ "$status" -ne 124 ] || { echo "a hang"; say job; return 1; }
    if [ "$status" -eq 0 ]; then
        good job 4
        empty
    fi
    reclaimed
}
