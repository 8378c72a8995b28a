#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154
#
# One-sided communication through the region.

load mpi

setup() { use_region 32M; }

teardown() { at_end; }

# windows NAME: how many windows all its ranks have shared.
windows() { counted "$1" windows; }

@test "every call under every synchronisation, 2 ranks" {
    passes_both 2 "$programs/rma"
    [ "$(windows job)" -ge 50 ]
}

@test "every call under every synchronisation, 3 ranks" {
    passes_both 3 "$programs/rma"
    [ "$(windows job)" -ge 75 ]
}

@test "every call under every synchronisation, without memory of the region" {
    export MPIR_CVAR_NEMESIS_IVSHMEM_USER_MEMORY=0
    all_remote
    passes 3 "$programs/rma" apart
    [ "$(windows job)" -eq 0 ]
}

@test "windows of ranks of which one has no memory of the region" {
    all_remote
    mpi job -n 2 "$programs/rma" apart : -n 1 -env MPIR_CVAR_NEMESIS_IVSHMEM_USER_MEMORY 0 "$programs/rma" apart || { say job; false; }
    good job 3
    empty
    [ "$(windows job)" -eq 0 ]
}

@test "every call under every synchronisation, 4 ranks in 4 MiB" {
    use_region 4M
    all_remote
    passes 4 "$programs/rma"
}

@test "atomics are exact, a target computes; 4 ranks" { passes_both 4 "$programs/rma" atomics; }

@test "atomics are exact, a target computes; 8 ranks" { passes_both 8 "$programs/rma" atomics; }
