#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154
#
# What an error leaves behind for those who go on after it, and for the others who wait for them.

load ../mpi/mpi

fault=$IVSHM_BUILD/obj/fault

setup() {
    use_region 32M
    all_remote
}

teardown() { at_end; }

# survives CASE: each rank through a proxy of its own, which says nothing to the others.
survives() {
    local ranks status=0 dir=$BATS_TEST_TMPDIR/meet.$1
    ranks=$("$fault/survive" list | sed -n "s/^$1 //p")
    mkdir -p "$dir"
    rm -f "$dir"/* "$BATS_TEST_TMPDIR"/rank.*
    by_rank rank "$fault/survive" "$1" "$dir"
    mpi job -disable-auto-cleanup -launcher fork -hosts "$(hostname),localhost,127.0.0.1,127.0.0.2" -ppn 1 \
        -n "$ranks" "${program[@]}" || status=$?
    if [ "$status" -eq 124 ] || [ "$(cat "$BATS_TEST_TMPDIR"/rank.* | grep -c ": done$")" -ne $((ranks - 1)) ]; then
        echo "$1: status $status"
        tail "$BATS_TEST_TMPDIR"/rank.*
        return 1
    fi
}

@test "a thread that sleeps while another polls learns of its error" {
    survives threads
}

@test "after a fence that has failed, and an epoch that could not begin, nobody waits" {
    survives fence
    survives exposure
}

@test "MPI_Buffer_detach ends all that it waits for, once" {
    survives detach
}

@test "the text of each error fits into its room, and tells the innermost reason" {
    survives texts
}

@test "an error that a call does not return is the next one's" {
    survives told-later
}

@test "who leaves a collective tells those who are ahead of it" {
    survives barrier
    survives alltoall
    survives allgather
}

@test "who leaves a collective of a schedule ends that, and waits for none that never ends" {
    local algorithm
    export MPIR_CVAR_ALLGATHER_INTRA_ALGORITHM=nb MPIR_CVAR_COLLECTIVE_FALLBACK=error
    for algorithm in sched_ring tsp_ring; do
        MPIR_CVAR_IALLGATHER_INTRA_ALGORITHM=$algorithm survives schedule
        MPIR_CVAR_IALLGATHER_INTRA_ALGORITHM=$algorithm survives schedule-alone
    done
}

revoked() {
    mpi job -n 2 "$fault/revoked" || { say job; return 1; }
    grep -qx "all have ended" "$BATS_TEST_TMPDIR/job.out" || { say job; return 1; }
}

@test "sends to a rank that has revoked their communicator end" {
    revoked
    empty
    unset MPIR_CVAR_NOLOCAL
    revoked
}

@test "sends to a rank that has revoked their communicator end, by tcp as well" {
    unset MPIR_CVAR_NEMESIS_IVSHMEM_REGION
    export MPIR_CVAR_NEMESIS_IVSHMEM_FALLBACK=1
    revoked
}

# talk SIDE N: two jobs meet, and one is struck at the Nth message that it gets from the call on: the root of SIDE (connect, accept), or
# the companion that it has (connect+, accept+). Sets `over` if the call was over by then.
talk() {
    local accept side struck=${1%+} strike=("$fault/strike" -a called -p message_release -n "$2")
    declare -A before=() behind=()
    if [ "$struck" = "$1" ]; then
        before[$1]="${strike[*]}"
    else
        behind[$struck]="${strike[*]} $fault/roots $struck $BATS_TEST_TMPDIR/port"
    fi
    rm -f "$BATS_TEST_TMPDIR/port"
    # shellcheck disable=SC2086
    by_rank accept ${before[accept]-} "$fault/roots" accept "$BATS_TEST_TMPDIR/port" ${behind[accept]-}
    launch accept -disable-auto-cleanup -n 1 "${program[@]}"
    accept=$pid
    # shellcheck disable=SC2086
    by_rank connect ${before[connect]-} "$fault/roots" connect "$BATS_TEST_TMPDIR/port" ${behind[connect]-}
    mpi connect -disable-auto-cleanup -n 1 "${program[@]}" || :
    wait "$accept" || :
    for side in accept connect; do
        [ "$side" != "$1" ] || continue
        # If a companion dies after the call, MPI_Finalize says so.
        if ! cat "$BATS_TEST_TMPDIR/$side".* | grep -q "^$side finalized\|^Fatal error in internal_Finalize" ||
            ! grep -q "^$side ended" "$BATS_TEST_TMPDIR/$side.0" || grep -q "Assertion\|signal 11" "$BATS_TEST_TMPDIR/$side".*; then
            echo "$*"
            say accept
            say connect
            tail "$BATS_TEST_TMPDIR"/{accept,connect}.0
            return 1
        fi
    done
    over=1
    if grep -q "class [1-9]\|signal 9\|Fatal" "$BATS_TEST_TMPDIR"/{accept,connect}.*; then
        over=
    fi
}

# talks SIDE [N]: at each message from the first, or the Nth, on: before, nobody calls, and nobody else is waited for.
talks() {
    local n first=${2:-1}
    for ((n = first; n <= 30; n++)); do
        talk "$1" "$n"
        until_true reaped
        [ ! "$over" ] || break
    done
    echo "# $1: $((n - first)) messages" >&3
    [ "$n" -gt $((first + 3)) ]
    empty
}

# Ranks may still be dying when mpiexec has ended.
reaped() {
    ivshmem reap "$region" >/dev/null
    [ "$(ivshmem info --json "$region" | jq .usage.endpoints)" -eq 0 ]
}

@test "the root of MPI_Comm_connect dies: that of MPI_Comm_accept does not wait for it" {
    talks connect 2
}

@test "the root of MPI_Comm_accept dies: that of MPI_Comm_connect does not wait for it" {
    talks accept
}

@test "a rank dies in MPI_Comm_accept: its root, and that of MPI_Comm_connect, do not wait for each other" {
    talks accept+
}

@test "a rank dies in MPI_Comm_connect: its root, and that of MPI_Comm_accept, do not wait for each other" {
    talks connect+ 3
}
