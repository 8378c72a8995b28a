#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154
#
# Blocking calls that wait for a rank that dies, and many jobs of which some die.

load ../mpi/mpi

fault=$IVSHM_BUILD/obj/fault

setup() {
    use_region 32M
    all_remote
}

teardown() { at_end; }

# ends CALL: rank 1 dies while the others are in it.
ends() {
    local status=0
    # The process manager neither reports the death nor ends the other ranks.
    by_rank "$1" "$fault/blocked" "$1"
    mpi "$1" -disable-auto-cleanup -launcher fork -hosts "$(hostname),localhost,127.0.0.1" -ppn 1 \
        -n 3 "${program[@]}" || status=$?
    [ "$status" -ne 124 ] || { echo "$1: no end"; say "$1"; return 1; }
    # The call returns an error, or MPICH treats it as fatal whatever the error handler, as in some collectives.
    if [ "$status" -eq 0 ] || ! grep -qE "$1 ended after .* class [1-9]|Fatal error in" "$BATS_TEST_TMPDIR/$1".[02] ||
        grep -q " class 0$" "$BATS_TEST_TMPDIR/$1".[02]; then
        tail "$BATS_TEST_TMPDIR/$1".*
        return 1
    fi
    grep -h "ended after" "$BATS_TEST_TMPDIR/$1".[02] | sed 's/^/# /' >&3 || :
}

@test "every blocking call that waits for a rank that dies returns an error" {
    local call
    for call in $("$fault/blocked" list); do
        ends "$call"
        until_true reaped
        empty
    done
}

@test "blocking calls that wait for a rank that dies return an error over tcp, too" {
    local call
    unset MPIR_CVAR_NEMESIS_IVSHMEM_REGION
    export MPIR_CVAR_NEMESIS_IVSHMEM_FALLBACK=1
    for call in recv-any send-many ssend sendrecv waitall alltoall; do
        ends "$call"
    done
}

@test "a rank dies while it holds a window's lock: the others get the lock" {
    local n
    by_rank rank
    for n in 1 77; do
        MPIR_CVAR_ENABLE_FT=1 mpi job -disable-auto-cleanup -launcher fork -hosts "$(hostname),localhost,127.0.0.1" \
            -ppn 1 -n 1 "${program[@]}" "$fault/lock_holder" : -n 1 "${program[@]}" "$fault/strike" -p locked -n "$n" "$fault/lock_holder" : \
            -n 1 "${program[@]}" "$fault/lock_holder" || :
        [ "$(cat "$BATS_TEST_TMPDIR"/rank.[02] | grep -c "rank [02] has added all")" -eq 2 ] || { say job; return 1; }
        until_true reaped
        empty
    done
}

@test "${FAULT_JOBS:-120} jobs, every third of which loses a rank, leave nothing behind" {
    local before i tracepoint tracepoints=(join_claimed join_written channel_attached ring_announced ring_publish message_release rts pipeline_publish leave leave_dead)
    before=$(ivshmem info --json "$region" | jq .usage)
    for ((i = 0; i < ${FAULT_JOBS:-120}; i++)); do
        if ((i % 3 == 2)); then
            tracepoint=${tracepoints[i / 3 % ${#tracepoints[@]}]}
            ! mpi job -n 1 "$fault/exchange" 2 100000 : -n 1 "$fault/strike" -p "$tracepoint" "$fault/exchange" 2 100000 ||
                { echo "no death at $tracepoint"; say job; return 1; }
        else
            mpi job -n 2 "$fault/exchange" 2 100000 || { say job; return 1; }
            [ "$(grep -c "every byte right" "$BATS_TEST_TMPDIR/job.out")" -eq 2 ]
        fi
    done
    until_true reaped
    [ "$(ivshmem info --json "$region" | jq .usage)" = "$before" ] || { ivshmem info "$region"; return 1; }
    ivshmem check --deep "$region"
}

# reaped: nobody is on the region. Ranks may still be dying when mpiexec has ended.
reaped() {
    ivshmem reap "$region" >/dev/null
    [ "$(ivshmem info --json "$region" | jq .usage.endpoints)" -eq 0 ]
}
