#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154
#
# A rank dies while others are in a collective: they get an error, never MPI_SUCCESS with a wrong result.

load ../mpi/mpi

fault=$IVSHM_BUILD/obj/fault

setup() {
    use_region 32M
    all_remote
}

teardown() { at_end; }

# job RANKS SURVIVORS PROGRAM ARG...: each rank has a process manager proxy of its own, which tells the others nothing.
job() {
    local status=0 dir=$BATS_TEST_TMPDIR/done
    rm -rf "$BATS_TEST_TMPDIR"/rank.* "$dir"
    mkdir "$dir"
    by_rank rank "${@:3}" "$dir"
    mpi job -disable-auto-cleanup -launcher fork -hosts "$(hostname),localhost,127.0.0.1,127.0.0.2" -ppn 1 \
        -n "$1" "${program[@]}" || status=$?
    if [ "$status" -eq 124 ] || [ "$(cat "$BATS_TEST_TMPDIR"/rank.* | grep -c "ended with class [1-9]")" -ne "$2" ] ||
        grep -q "no right result\|Assertion\|INTERNAL" "$BATS_TEST_TMPDIR"/rank.*; then
        echo "status $status: ${*:3}"
        env | grep MPIR_CVAR
        tail "$BATS_TEST_TMPDIR"/rank.*
        return 1
    fi
}

# dies RANKS CALL MODE COUNT
runs=0
dies() {
    local victim=$((runs++ % $1))
    job "$1" $(($1 - 1)) "$fault/collectives" "$2" "$3" "$4" "$victim" $((2 + runs % 3))
}

@test "a rank dies in every collective" {
    local call
    for call in $("$fault/collectives" list); do
        dies 4 "$call" blocking 1
        dies 3 "$call" nonblocking 1
    done
}

@test "a rank dies in every collective, with fault tolerance and MPIX_Comm_revoke" {
    local call
    export MPIR_CVAR_ENABLE_FT=1
    for call in $("$fault/collectives" list); do
        dies 4 "$call" nonblocking 1
        dies 3 "$call" blocking 1
    done
}

@test "a rank dies in persistent collectives, and in collectives with much data" {
    local call
    for call in barrier bcast allreduce alltoallw neighbor_alltoall; do
        dies 4 "$call" persistent 1
    done
    # A rank that sends much data to one that has left the call waits for it. So only collectives in which no rank can
    # succeed alone.
    for call in allgather alltoall alltoall-in-place allreduce reduce_scatter_block; do
        dies 4 "$call" blocking 100000
    done
}

@test "a rank dies in a collective with half of the ranks on one node" {
    local call
    half_remote
    for call in barrier bcast allgather alltoall reduce allreduce; do
        dies 4 "$call" blocking 1
    done
}

# each ALGORITHM CALL MODE COUNT: dies, with that algorithm for the call
each() {
    local name=${2%%-*}
    [ "$3" = blocking ] || name=i$name
    export "MPIR_CVAR_${name^^}_INTRA_ALGORITHM=$1"
    MPIR_CVAR_COLLECTIVE_FALLBACK=error dies 4 "$2" "$3" "$4"
    unset "MPIR_CVAR_${name^^}_INTRA_ALGORITHM"
}

@test "a rank dies in a collective that goes through the region without messages" {
    local call count
    export MPIR_CVAR_NEMESIS_IVSHMEM_COLLECTIVES=1
    for MPIR_CVAR_ENABLE_FT in 0 1; do
        export MPIR_CVAR_ENABLE_FT
        for call in barrier bcast allreduce allgather alltoall; do
            for count in 1 5000; do
                dies 4 "$call" blocking "$count"
            done
        done
    done
    half_remote
    for call in barrier bcast allreduce allgather alltoall; do
        MPIR_CVAR_NEMESIS_IVSHMEM_WAIT='sleep' dies 3 "$call" blocking 1
    done
}

@test "a rank dies in collectives with other than the default algorithms" {
    local algorithm call
    export MPIR_CVAR_ENABLE_FT=1
    for call in barrier bcast gather scatter allgather alltoall reduce allreduce reduce_scatter scan exscan; do
        each nb "$call" blocking 1
    done
    for algorithm in recursive_doubling reduce_scatter_allgather; do
        each "$algorithm" allreduce blocking 8
    done
    for algorithm in tsp_recexch_single_buffer tsp_recexch_multiple_buffer tsp_tree tsp_ring \
        tsp_recexch_reduce_scatter_recexch_allgatherv; do
        each "$algorithm" allreduce nonblocking 64
    done
    for algorithm in tsp_tree tsp_ring; do
        each "$algorithm" bcast nonblocking 64
    done
    for algorithm in tsp_brucks tsp_recexch_doubling tsp_recexch_halving tsp_ring; do
        each "$algorithm" allgather nonblocking 64
    done
    for algorithm in tsp_brucks tsp_ring tsp_scattered; do
        each "$algorithm" alltoall nonblocking 64
    done
    for call in gather scatter reduce; do
        each tsp_tree "$call" nonblocking 64
    done
    each tsp_recexch reduce_scatter_block nonblocking 64
    each tsp_recursive_doubling scan nonblocking 64
    each tsp_linear neighbor_alltoall nonblocking 64
}

@test "when the other group of an intercommunicator is dead, the leader tells its own group" {
    local call
    for call in $("$fault/dead_group" list); do
        job 3 3 "$fault/dead_group" "$call"
    done
}

@test "a rank that comes late to a failed broadcast does not get later contents of the root's buffer" {
    job 4 3 "$fault/late_broadcast"
}
