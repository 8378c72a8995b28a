#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154,SC2016
#
# ivshmem top sees what the ranks of a job do, and what they send.

load mpi

setup() {
    use_region 64M
    all_remote
    unset MPIR_CVAR_POLLS_BEFORE_YIELD
}

teardown() { at_end; }

# sees FILTER: top has seen that, after a while; `ranks` are those of the job, in order. A look takes longer than ranks
# need to tell something new.
sees() {
    local tries
    for ((tries = 0; tries < 40; tries++)); do
        ivshmem top --once --json --interval 3 "$region" >"$BATS_TEST_TMPDIR/seen"
        ! jq -e "[.endpoints[] | select(.kind == \"rank\" and .state == \"live\")] as \$ranks | $1" "$BATS_TEST_TMPDIR/seen" >/dev/null ||
            return 0
    done
    cat "$BATS_TEST_TMPDIR/seen"
    say job
    return 1
}

@test "messages and bytes of a job that sends" {
    launch job -n 2 "$programs/stream" "$BATS_TEST_TMPDIR/stop"
    sees '($ranks | length) == 2 and .rates.eager_sent > 0 and .rates.large_sent > 0 and
        ([$ranks[] | .rates.eager_sent > 0 and .rates.eager_received_bytes > 0 and .rates.large_sent_bytes > 0 and
            .rates.large_received > 0 and .rings > 0] | all)'
    touch "$BATS_TEST_TMPDIR/stop"
    wait "$pid"
    good job 2
    # What it has told is what it has done.
    [ "$(jq '[.endpoints[].counts.eager_sent] | add' "$BATS_TEST_TMPDIR/seen")" -le "$(counted job eager_sent)" ]
    [ "$(jq '[.endpoints[].counts.large_sent_bytes] | add' "$BATS_TEST_TMPDIR/seen")" -le "$(counted job lmt_sent_bytes)" ]
    empty
}

@test "a rank that computes, and ranks that wait for it" {
    local mode word
    for mode in auto spin yield; do
        word=${mode/auto/sleep}s
        MPIR_CVAR_NEMESIS_IVSHMEM_WAIT=$mode launch job -n 3 "$programs/waiting" idle 3600
        sees '[$ranks[].does] == ["away", "'"$word"'", "'"$word"'"] and
            ([$ranks[1, 2].rates.waiting > 0.9] | all)'
        kill -TERM "$pid"
        wait "$pid" || :
        left() { ivshmem reap "$region" >/dev/null && empty >/dev/null; }
        until_true left
    done
}
