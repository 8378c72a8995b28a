#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154
#
# The examples of shared structures by MPI, whole and with a rank that dies in the middle.

load mpi

setup_file() {
    cp -r "$IVSHM_SRC/examples/mpi" "$BATS_FILE_TMPDIR/examples"
    make -C "$BATS_FILE_TMPDIR/examples" CFLAGS='-O2 -Wall -Wextra -Werror'
}

setup() {
    examples=$BATS_FILE_TMPDIR/examples
    use_region 32M
    all_remote
}

teardown() { at_end; }

# works TEXT RANKS PROGRAM ARG...: it ends well, and prints TEXT.
works() {
    mpi job -n "$2" "$examples/$3" "${@:4}" || { say job; return 1; }
    grep -E "$1" "$BATS_TEST_TMPDIR/job.out" || { say job; return 1; }
    empty
}

# survives TEXT RANKS PROGRAM ARG...: the others end well, whatever mpiexec says of the one that dies.
survives() {
    local -x MPIR_CVAR_ENABLE_FT=1
    mpi job -n "$2" -disable-auto-cleanup "$examples/$3" "${@:4}" || :
    grep -E "$1" "$BATS_TEST_TMPDIR/job.out" || { say job; return 1; }
    ivshmem reap "$region" >/dev/null
    empty
}

@test "a bounded buffer" {
    works '^4000 items were put, 4000 got; 0 locks taken over' 4 buffer 2000
    works '^2000 items were put, 2000 got; 0 locks taken over' 3 buffer 2000
    half_remote
    works '^2000 items were put, 2000 got; 0 locks taken over' 4 buffer 1000
}

@test "a bounded buffer of which a producer dies, and one of which a consumer dies" {
    for _ in 1 2 3; do
        survives '^1500 items were put, 1500 got; 1 locks taken over' 4 buffer 1000 1
        survives '^2000 items were put, 2000 got; [01] locks taken over' 4 buffer 1000 2
    done
}

@test "a cache of keys and values, and one of whose ranks dies" {
    works '^[0-9]+ reads found a value; 0 locks taken over' 4 cache 10000
    for _ in 1 2 3; do
        survives '^[0-9]+ reads found a value; 1 locks taken over' 4 cache 10000 2
    done
}

@test "a distributed array, and one of whose ranks dies" {
    works '^64 blocks of 64 were multiplied by those that live: the product is right' 4 array 8
    for _ in 1 2 3; do
        survives '^6[34] blocks of 64 .*: the product is right' 4 array 8 3
    done
}

@test "nonsense is refused" {
    (! mpi job -n 2 "$examples/buffer" 0)
    grep '^buffer ITEMS' "$BATS_TEST_TMPDIR/job.err"
    (! mpi job -n 2 "$examples/cache" 10 0)
    grep '^cache OPERATIONS' "$BATS_TEST_TMPDIR/job.err"
    (! mpi job -n 2 "$examples/array" 65)
    grep '^array BLOCKS' "$BATS_TEST_TMPDIR/job.err"
}
