#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154
#
# After the death of a rank, survivors continue, and others do not wait for them in vain.

load ../mpi/mpi

fault=$IVSHM_BUILD/obj/fault

setup() {
    use_region 32M
    all_remote
}

teardown() { at_end; }

# survives CASE: each rank has a process manager proxy of its own, which tells the others nothing.
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

@test "a thread that sleeps while another one polls learns of the error" {
    survives threads
}

@test "after a failed fence, or an epoch that could not begin, nobody waits for ever" {
    survives fence
    survives exposure
}

@test "a lock of a window that the dead held goes to those who wait for it" {
    MPIR_CVAR_ENABLE_FT=1 survives lock
}

@test "a call on a window does not wait for a rank that dies in the meantime" {
    local call
    export MPIR_CVAR_ENABLE_FT=1
    for call in lock unlock flush flush-local flush-local-all flush-all lock-all unlock-all complete wait; do
        survives "wait-$call"
    done
}

@test "a message to a rank of the same node ends with the rank" {
    unset MPIR_CVAR_NOLOCAL
    # A proxy whose ranks write into files serves them no more.
    mkdir "$BATS_TEST_TMPDIR/meet"
    mpi job -disable-auto-cleanup -launcher fork -hosts "$(hostname),localhost" -ppn 2 -n 3 \
        "$fault/survive" neighbour "$BATS_TEST_TMPDIR/meet" || :
    grep -qx "rank 1: done" "$BATS_TEST_TMPDIR/job.out" || { say job; return 1; }
}

@test "with -disable-auto-cleanup, the other ranks of the node go on, and mpiexec outlives their proxy" {
    unset MPIR_CVAR_NOLOCAL
    for _ in {1..4}; do
        mpi job -disable-auto-cleanup -launcher fork -hosts "$(hostname):1,localhost:6" -n 7 \
            "$fault/survive" node . || :
        [ "$(grep -c "goes on$" "$BATS_TEST_TMPDIR/job.out")" -eq 6 ] || { say job; return 1; }
        ! grep "error" "$BATS_TEST_TMPDIR/job.err" || { say job; return 1; }
    done
}

@test "MPI_Buffer_detach fails once, and nothing is sent from the buffer afterwards" {
    survives detach
}

@test "a receive or probe of any source does not wait for the dead, and finds what the living have sent" {
    MPIR_CVAR_ENABLE_FT=1 survives probes
}

@test "the text of each error fits into MPI_MAX_ERROR_STRING, and names the innermost reason" {
    survives texts
}

@test "an error that one call does not return is returned by the next" {
    survives told-later
}

@test "a rank that leaves a failed collective tells ranks that are further on" {
    survives barrier
    survives alltoall
    survives allgather
}

@test "a rank that leaves a scheduled collective ends the schedule, and waits for none that never ends" {
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

@test "sends to a rank that has revoked the communicator end" {
    revoked
    empty
    unset MPIR_CVAR_NOLOCAL
    revoked
}

@test "sends to a rank that has revoked the communicator end over tcp, too" {
    unset MPIR_CVAR_NEMESIS_IVSHMEM_REGION
    export MPIR_CVAR_NEMESIS_IVSHMEM_FALLBACK=1
    revoked
}

# talk SIDE N: two jobs connect, and a process is killed at the Nth message that it receives after the call has begun:
# the root of SIDE (connect, accept), or its companion (connect+, accept+). Sets `over` if the call was over by then.
talk() {
    local accept side struck=${1%+} strike=("$fault/strike" -a called -p message_release -n "$2")
    declare -A before=() behind=()
    if [ "$struck" = "$1" ]; then
        before[$1]="${strike[*]}"
    else
        behind[$struck]="${strike[*]} $fault/connect_roots $struck $BATS_TEST_TMPDIR/port"
    fi
    rm -f "$BATS_TEST_TMPDIR/port"
    # shellcheck disable=SC2086
    by_rank accept ${before[accept]-} "$fault/connect_roots" accept "$BATS_TEST_TMPDIR/port" ${behind[accept]-}
    launch accept -disable-auto-cleanup -n 1 "${program[@]}"
    accept=$pid
    # shellcheck disable=SC2086
    by_rank connect ${before[connect]-} "$fault/connect_roots" connect "$BATS_TEST_TMPDIR/port" ${behind[connect]-}
    mpi connect -disable-auto-cleanup -n 1 "${program[@]}" || :
    wait "$accept" || :
    for side in accept connect; do
        [ "$side" != "$1" ] || continue
        # If a companion dies after the call, MPI_Finalize reports it.
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

# talks SIDE [N]: talk with each message from the first, or the Nth, on. Before the Nth, nobody waits for the process.
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

# reaped: nobody is on the region. Ranks may still be dying when mpiexec has ended.
reaped() {
    ivshmem reap "$region" >/dev/null
    [ "$(ivshmem info --json "$region" | jq .usage.endpoints)" -eq 0 ]
}

@test "the root of MPI_Comm_connect dies: the root of MPI_Comm_accept does not wait for it" {
    talks connect 2
}

@test "the root of MPI_Comm_accept dies: the root of MPI_Comm_connect does not wait for it" {
    talks accept
}

@test "a rank dies in MPI_Comm_accept: the two roots do not wait for each other" {
    talks accept+
}

@test "a rank dies in MPI_Comm_connect: the two roots do not wait for each other" {
    talks connect+ 3
}
