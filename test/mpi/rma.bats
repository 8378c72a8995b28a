#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2034,SC2154
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

# Unlocks are under way while the barrier of MPI_Win_free goes by other paths.

@test "windows freed straight after an unlock, 4 ranks" { passes_both 4 "$programs/windows" free 100; }

@test "windows freed straight after an unlock, 5 ranks" { passes_both 5 "$programs/windows" free 100; }

@test "windows freed straight after an unlock, 8 ranks" { passes_both 8 "$programs/windows" free 60; }

@test "an access that begins while a fence is still under way" { passes_both 6 "$programs/windows" fenced; }

@test "windows freed straight after an unlock, ranks of which one goes by tcp" {
    half_remote
    unset MPIR_CVAR_NEMESIS_IVSHMEM_REGION
    export MPIR_CVAR_NEMESIS_IVSHMEM_FALLBACK=1
    mpi job -n 4 -env MPIR_CVAR_NEMESIS_IVSHMEM_REGION "$region" "$programs/windows" free 60 : \
        -n 1 "$programs/windows" free 60 || { say job; false; }
    grep -ix "no errors" "$BATS_TEST_TMPDIR/job.out"
    [ "$(counted job tcp_sent)" -gt 0 ]
    empty
}

@test "the parts of a shared window are where they are on one node, 2 and 3 ranks" {
    all_remote
    passes 2 "$programs/windows" shared
    passes 3 "$programs/windows" shared
}

@test "shared windows of 8 KiB in a region that is nearly full; the error in a full one says what is free" {
    use_region 8M
    all_remote
    passes 2 "$programs/windows" full
}

@test "operations outside of a shared window are errors, and touch nothing" {
    all_remote
    passes 3 "$programs/windows" range
}

@test "a window's lock that names nobody, or who waits for it, is taken over; one that names a live rank is not" {
    all_remote
    passes 2 "$programs/windows" lock "$(basename "$(readlink "/proc/$$/fd/$region_fd")" ' (deleted)')"
}

@test "a window's lock that is kept, or is never to be had, is an error; one of a job that was stopped is not" {
    all_remote
    passes 2 "$programs/windows" stuck "$(basename "$(readlink "/proc/$$/fd/$region_fd")" ' (deleted)')"
}

@test "a rank whose part of a window is of an endpoint that cannot be" {
    all_remote
    passes 2 "$programs/windows" liar "$(basename "$(readlink "/proc/$$/fd/$region_fd")" ' (deleted)')"
}

@test "accumulates of pairs with a gap: many, in parts, and of types made of them" {
    passes_both 2 "$programs/locks" parts
}

@test "pairs with a gap that wait for a lock, which another rank has" {
    all_remote
    passes 3 "$programs/locks" waiting
}

@test "a lock that is refused, as its target has room for one more only, is asked for again" {
    export MPIR_CVAR_CH3_RMA_TARGET_LOCK_ENTRY_WIN_POOL_SIZE=1
    all_remote
    passes 5 "$programs/locks" refused 40
}
