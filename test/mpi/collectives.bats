#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154
#
# Collectives through the region, without messages: every byte, whoever comes late, and whoever does not come.

load mpi

setup() {
    use_region 64M
    all_remote
    export MPIR_CVAR_NEMESIS_IVSHMEM_COLLECTIVES=2
}

teardown() { at_end; }

# plays RANKS ARG...: and collectives went through the region.
plays() {
    passes "$1" "$programs/collectives" "${@:2}"
    [ "$(counted job collectives)" -gt "$1" ] || { say job; return 1; }
}

@test "collectives of all kinds, sizes and types, chosen at random" {
    local ranks
    for ranks in 2 3 4 8; do
        plays "$ranks" mixed 600
    done
}

@test "the same between ranks of which some are on one node" {
    half_remote
    plays 5 mixed 400
}

@test "the same with the program's memory in the region" {
    passes 3 ivshmem-env --malloc "$programs/collectives" mixed 400
    [ "$(counted job collectives)" -gt 3 ]
}

@test "a root that nobody waits for is not too fast for the others" { plays 5 burst 3000; }

@test "ranks that come late, while the others spin, yield or sleep" {
    local wait
    for wait in auto spin sleep yield; do
        MPIR_CVAR_NEMESIS_IVSHMEM_WAIT=$wait plays 3 pauses 150
    done
}

@test "two threads, each with its communicator" {
    plays 2 threads 300
    plays 3 threads 100
}

@test "communicators that come and go leave nothing in the region" { plays 3 freed 300; }

@test "a small region, whose memory the program needs itself" {
    use_region 8M
    passes 3 "$programs/collectives" mixed 200
    passes 3 "$programs/collectives" freed 100
}

@test "they go by messages if a rank does not share the region, has no memory there, or the user says so" {
    local off
    for off in MPIR_CVAR_NEMESIS_IVSHMEM_COLLECTIVES=0 MPIR_CVAR_NEMESIS_IVSHMEM_USER_MEMORY=0 \
        MPIR_CVAR_DEVICE_COLLECTIVES=none; do
        mpi job -n 3 env "$off" "$programs/collectives" mixed 200 || { say job; return 1; }
        good job 3
        [ "$(counted job collectives)" -eq 0 ] || { echo "$off"; say job; return 1; }
    done
    # An algorithm that the user has chosen for one of them is used.
    plays 3 burst 100
    MPIR_CVAR_BCAST_INTRA_ALGORITHM=binomial passes 3 "$programs/collectives" burst 100
    [ "$(counted job collectives)" -eq 0 ]
    mpi job -n 2 "$programs/collectives" mixed 200 : \
        -n 1 env -u MPIR_CVAR_NEMESIS_IVSHMEM_REGION "$programs/collectives" mixed 200 || { say job; return 1; }
    grep -qx 'No errors' "$BATS_TEST_TMPDIR/job.out"
    [ "$(sed -n 's/.*rank=1 .* collectives=\([0-9]*\).*/\1/p' "$BATS_TEST_TMPDIR/job.err")" -eq 0 ]
}

@test "ranks that call different collectives, or of different sizes, learn of it" {
    local case
    for case in kinds broadcasts sizes; do
        mpi job -n 3 "$programs/collectives" "wrong-$case" 20 || { say job; return 1; }
        grep -qx 'No errors' "$BATS_TEST_TMPDIR/job.out"
    done
}

@test "a program that has taken all memory that the region can spare" {
    plays 3 greedy 300
}
