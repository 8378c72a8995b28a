#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154,SC2119
#
# MPI_T, sessions, and other beginnings and ends.

load mpi

setup() { use_region 16M; }

teardown() { at_end; }

@test "control and performance variables before, during and after MPI" { passes_both 2 "$programs/tools" variables; }

@test "two sessions at once, inside and around the world" { passes_both 2 "$programs/tools" sessions; }

@test "a session that goes on after MPI_Finalize" { passes_both 2 "$programs/tools" after; }

# MPICH 4.0.2 crashes, with every netmod. Later ones are said to do it.
@test "a session after the last one has ended: it works, or the region is clean afterwards" {
    local status=0
    all_remote
    mpi job -n 2 "$programs/tools" again || status=$?
    [ "$status" -ne 124 ] || { echo "a hang"; say job; return 1; }
    if [ "$status" -eq 0 ]; then
        good job 4
        empty
    fi
    reclaimed
}
