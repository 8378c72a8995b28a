#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2034,SC2154
#
# One-sided communication through the region.

load mpi

setup() { use_region 32M; }

teardown() { at_end; }

# windows NAME: how many shared windows all of its ranks have created.
windows() { counted "$1" windows; }

@test "every call with every synchronization, 2 ranks" {
    passes_both 2 "$programs/rma"
    [ "$(windows job)" -ge 50 ]
}

@test "every call with every synchronization, 3 ranks" {
    passes_both 3 "$programs/rma"
    [ "$(windows job)" -ge 75 ]
}

@test "every call with every synchronization, without memory of the region" {
    export MPIR_CVAR_NEMESIS_IVSHMEM_USER_MEMORY=0
    all_remote
    passes 3 "$programs/rma" apart
    [ "$(windows job)" -eq 0 ]
}

@test "windows of ranks, one of which has no memory of the region" {
    all_remote
    mpi job -n 2 "$programs/rma" apart : -n 1 -env MPIR_CVAR_NEMESIS_IVSHMEM_USER_MEMORY 0 "$programs/rma" apart || { say job; false; }
    good job 3
    empty
    [ "$(windows job)" -eq 0 ]
}

@test "every call with every synchronization, 4 ranks in 4 MiB" {
    use_region 4M
    all_remote
    passes 4 "$programs/rma"
}

@test "atomics are exact, and a target may compute meanwhile; 4 ranks" { passes_both 4 "$programs/rma" atomics; }

@test "atomics are exact, and a target may compute meanwhile; 8 ranks" { passes_both 8 "$programs/rma" atomics; }

# Here unlocks are in flight while the barrier of MPI_Win_free uses other paths.

@test "windows freed right after an unlock, 4 ranks" { passes_both 4 "$programs/windows" free 100; }

@test "windows freed right after an unlock, 5 ranks" { passes_both 5 "$programs/windows" free 100; }

@test "windows freed right after an unlock, 8 ranks" { passes_both 8 "$programs/windows" free 60; }

@test "an access that begins while a fence is still in progress" { passes_both 6 "$programs/windows" fenced; }

@test "windows freed right after an unlock, with one rank over tcp" {
    half_remote
    unset MPIR_CVAR_NEMESIS_IVSHMEM_REGION
    export MPIR_CVAR_NEMESIS_IVSHMEM_FALLBACK=1
    mpi job -n 4 -env MPIR_CVAR_NEMESIS_IVSHMEM_REGION "$region" "$programs/windows" free 60 : \
        -n 1 "$programs/windows" free 60 || { say job; false; }
    grep -ix "no errors" "$BATS_TEST_TMPDIR/job.out"
    [ "$(counted job tcp_sent)" -gt 0 ]
    empty
}

@test "the parts of a shared window lie as on one node, 2 and 3 ranks" {
    all_remote
    passes 2 "$programs/windows" shared
    passes 3 "$programs/windows" shared
}

@test "MPI_COMM_TYPE_SHARED returns the ranks of a node, or of a region if that is chosen" {
    all_remote
    passes 3 "$programs/windows" split 1
    export MPIR_CVAR_NEMESIS_IVSHMEM_SHARED=region
    passes_both 4 "$programs/windows" split 4
    # A rank without a region.
    half_remote
    unset MPIR_CVAR_NEMESIS_IVSHMEM_REGION
    export MPIR_CVAR_NEMESIS_IVSHMEM_FALLBACK=1
    mpi job -n 1 "$programs/windows" split 1 : \
        -n 3 -env MPIR_CVAR_NEMESIS_IVSHMEM_REGION "$region" "$programs/windows" split 3 || { say job; false; }
    grep -ix "no errors" "$BATS_TEST_TMPDIR/job.out"
    empty
}

@test "shared windows of 8 KiB in a nearly full region; in a full one, the error says what is free" {
    use_region 8M
    all_remote
    passes 2 "$programs/windows" full
}

@test "operations outside a shared window are errors, and change nothing" {
    all_remote
    passes 3 "$programs/windows" range
}

@test "a window's lock that names nobody, or the waiting rank, is taken over; one that names another live rank is not" {
    all_remote
    passes 2 "$programs/windows" lock "$(basename "$(readlink "/proc/$$/fd/$region_fd")" ' (deleted)')"
}

@test "a window's lock that is kept, or never free, is an error; not if the whole job was stopped" {
    all_remote
    passes 2 "$programs/windows" stuck "$(basename "$(readlink "/proc/$$/fd/$region_fd")" ' (deleted)')"
}

@test "a rank that names an impossible endpoint for its part of a shared window" {
    ! since 5.0 || skip "the program answers for MPICH's own calls, which have changed in 5.0"
    all_remote
    passes 2 "$programs/windows" liar "$(basename "$(readlink "/proc/$$/fd/$region_fd")" ' (deleted)')"
}

@test "accumulates of pairs with a gap: many, in parts, and of types made of them" {
    passes_both 2 "$programs/locks" parts
}

@test "operations on pairs with a gap that wait for a lock held by another rank" {
    all_remote
    passes 3 "$programs/locks" waiting
}

@test "a lock that is refused, as its target can queue only one more, is requested again" {
    export MPIR_CVAR_CH3_RMA_TARGET_LOCK_ENTRY_WIN_POOL_SIZE=1
    all_remote
    passes 5 "$programs/locks" refused 40
}
