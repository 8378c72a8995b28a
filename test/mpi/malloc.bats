#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154
#
# Programs whose large blocks libivshmem-malloc takes from the region.

load mpi

setup() {
    use_region 32M
    all_remote
    malloc=(ivshmem-env --malloc "$programs/malloc")
}

teardown() { at_end; }

@test "blocks of every function that makes some, and messages between them, copied once" {
    passes 2 "${malloc[@]}" kinds
    [ "$(counted job direct)" -gt 300 ]
    [ "$(counted job joint)" -gt 10 ]
}

@test "blocks that are made, moved and freed keep what they hold" { passes 2 "${malloc[@]}" changes; }

@test "other threads use malloc while one sends" { passes 2 "${malloc[@]}" threads; }

@test "a child of fork has memory of its own" { passes 2 "${malloc[@]}" forks; }

@test "the region has no more: malloc's own memory, and others still join" {
    passes 2 "${malloc[@]}" full
    reclaimed
}

@test "a sender that does not help to copy keeps nobody waiting" { passes 2 "${malloc[@]}" alone; }

@test "a window of malloc's memory is shared" {
    passes 2 "${malloc[@]}" window
    [ "$(counted job windows)" -eq 2 ]
}

@test "what malloc has given outlives MPI_Finalize, and the region" {
    mpi job -n 2 "${malloc[@]}" finalize || { say job; false; }
    [ "$(grep -c '^done$' "$BATS_TEST_TMPDIR/job.out")" -eq 2 ]
}

@test "memory of the region is not wanted, or there is no region" {
    export MPIR_CVAR_NEMESIS_IVSHMEM_USER_MEMORY=0
    mpi job -n 2 "${malloc[@]}" changes || { say job; false; }
    [ "$(counted job direct)" -eq 0 ]
    unset "${!MPIR_CVAR_NEMESIS_IVSHMEM_@}"
    mpi job -n 2 "${malloc[@]}" changes || { say job; false; }
}

@test "what was not allocated is not freed" {
    ! mpi job -n 2 "${malloc[@]}" wrong || { say job; false; }
    grep -qF 'free(): invalid pointer' "$BATS_TEST_TMPDIR/job.err"
}

@test "a killed rank's blocks are taken back" {
    ! mpi job -n 2 "${malloc[@]}" killed || { say job; false; }
    [ "$(ivshmem info --json "$region" | jq .usage.user_blocks)" -gt 0 ] || { ivshmem info "$region"; false; }
    reclaimed
}

@test "programs of all kinds" {
    use_region 128M
    export MPIR_CVAR_NEMESIS_IVSHMEM_EAGER_LIMIT=32768 # by which they count their messages
    for program in coll types; do
        passes 4 ivshmem-env --malloc "$programs/$program"
    done
    unset MPIR_CVAR_NEMESIS_IVSHMEM_EAGER_LIMIT
    passes 4 ivshmem-env --malloc "$programs/memory"
    [ "$(counted job direct)" -gt 100 ] || { say job; false; }
}

@test "programs without MPI" {
    [ "$(ivshmem-env --malloc sh -c 'ls / >/dev/null && echo 2')" = 2 ]
    [ "$(ivshmem-env --malloc awk 'BEGIN { s = "x"; while (length(s) < 1e6) s = s s; print length(s) }')" = 1048576 ]
}

@test "ivshmem-env --malloc: once, and only if there is one" {
    lib=$IVSHM_INST/lib/libivshmem-malloc.so
    # shellcheck disable=SC2016
    run env -u LD_PRELOAD "$IVSHM_INST/bin/ivshmem-env" --malloc sh -c 'eval "$(ivshmem-env --malloc)"; echo "$LD_PRELOAD"'
    [ "$output" = "$lib" ] || { echo "$output"; false; }
    mkdir -p "$BATS_TEST_TMPDIR/a b/bin" "$BATS_TEST_TMPDIR/a b/lib"
    cp "$IVSHM_INST/bin/ivshmem-env" "$BATS_TEST_TMPDIR/a b/bin"
    touch "$BATS_TEST_TMPDIR/a b/lib/libmpi.so.12"
    run "$BATS_TEST_TMPDIR/a b/bin/ivshmem-env" --malloc true
    [[ $status -eq 1 && $output == *"has a space"* ]]
    mv "$BATS_TEST_TMPDIR/a b" "$BATS_TEST_TMPDIR/ab"
    run "$BATS_TEST_TMPDIR/ab/bin/ivshmem-env" --malloc true
    [[ $status -eq 1 && $output == *"no lib/libivshmem-malloc.so"* ]]
}
