#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154
#
# The ranks that die have not communicated with the others yet, or are not involved in their calls.

load ../mpi/mpi

setup() {
    use_region 32M
    all_remote
}

teardown() { at_end; }

@test "large messages to a rank that died before any contact fail, and hold no memory" {
    by_rank rank "$programs/first_contact"
    mpi job -disable-auto-cleanup -launcher fork -hosts "$(hostname),localhost,127.0.0.1" -ppn 1 -n 3 "${program[@]}" || :
    grep -q "rank 2 has the message" "$BATS_TEST_TMPDIR/rank.2" || { cat "$BATS_TEST_TMPDIR"/rank.*; say job; return 1; }
    run ! grep "first_contact.c:" "$BATS_TEST_TMPDIR"/rank.*
    until_true reaped
    empty
}

# served HOW TRACEPOINT HIT: eight clients of a server die, one after the other, at that tracepoint of a large message,
# each while it uses a pipeline of the server's. The region must not lose memory from client to client.
served() {
    local n free=()
    launch server -n 1 "$IVSHM_BUILD/obj/fault/server" "$1" "$BATS_TEST_TMPDIR/port" 8 "$BATS_TEST_TMPDIR/done"
    for ((n = 1; n <= 8; n++)); do
        ! mpi client -n 1 "$IVSHM_BUILD/obj/fault/strike" -p "$2" -n "$3" "$IVSHM_BUILD/obj/fault/server" client "$1" "$BATS_TEST_TMPDIR/port" ||
            { echo "client $n lives"; say client; return 1; }
        until_true test -e "$BATS_TEST_TMPDIR/done.$n" || { say server; say client; return 1; }
        ivshmem reap "$region" >/dev/null
        free+=("$(ivshmem info --json "$region" | jq .usage.free_blocks)")
        rm "$BATS_TEST_TMPDIR/done.$n"
    done
    at_end
    echo "free: ${free[*]}"
    [ "${free[7]}" -eq "${free[3]}" ]
}

# Since 5.0, connecting takes some pipelines, too.
@test "clients that die while they receive from a server cost it no memory" { served send pipeline_consume 20; }

@test "clients that die while they send to a server cost it no memory" {
    # After the chunks of the client's own four pipelines: in one that the server provides.
    served receive pipeline_publish $((4 * $(ivshmem info --json "$region" | jq .geometry.pipeline_chunks) + 5))
}

# unmet HOW: two jobs; one loses a rank that the other job has not communicated with.
unmet() {
    # The server's rank 0 continues after the death of rank 1.
    launch server -disable-auto-cleanup -launcher fork -hosts "$(hostname),localhost" -ppn 1 -genv MPIR_CVAR_ENABLE_FT 1 \
        -n 2 "$IVSHM_BUILD/obj/fault/unmet_peer" accept "$BATS_TEST_TMPDIR/port" "$1"
    mpi client -n 1 "$IVSHM_BUILD/obj/fault/unmet_peer" connect "$BATS_TEST_TMPDIR/port" "$1" || :
    grep -q "the living have met" "$BATS_TEST_TMPDIR/client.out" || { say client; say server; return 1; }
    until_true reaped
    empty
}

@test "a rank of another job dies before any contact: a receive from it fails" {
    unmet wait
}

@test "a rank of another job dies before any contact: the jobs can still disconnect" {
    unmet part
}

@test "blocking calls between others that fail because a rank dies leave nothing behind" {
    local call dir
    for call in plain sendrecv replace; do
        dir=$BATS_TEST_TMPDIR/$call
        mkdir "$dir"
        by_rank "$call.rank" "$IVSHM_BUILD/obj/fault/failed_calls" "$call" "$dir"
        mpi job -disable-auto-cleanup -launcher fork -hosts "$(hostname),localhost,127.0.0.1" -ppn 1 -n 3 "${program[@]}" || :
        [ "$(cat "$BATS_TEST_TMPDIR/$call".rank.* | grep -c "nothing is left")" -eq 2 ] ||
            { echo "$call"; tail "$BATS_TEST_TMPDIR/$call".rank.*; say job; return 1; }
        until_true reaped
        empty
    done
}

# reaped: nobody is on the region. Ranks may still be dying when mpiexec has ended.
reaped() {
    ivshmem reap "$region" >/dev/null
    [ "$(ivshmem info --json "$region" | jq .usage.endpoints)" -eq 0 ]
}
