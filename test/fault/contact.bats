#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154
#
# The first message to a rank finds it dead.

load ../mpi/mpi

setup() {
    use_region 32M
    all_remote
}

teardown() { at_end; }

@test "large messages to a rank that died before any contact end with errors, and hold no memory" {
    mpi job -disable-auto-cleanup -launcher fork -hosts "$(hostname),localhost,127.0.0.1" -ppn 1 \
        -n 3 "$programs/first_contact" || :
    grep -q "rank 2 has the message" "$BATS_TEST_TMPDIR/job.out" || { say job; return 1; }
    ! grep -q "first_contact.c:" "$BATS_TEST_TMPDIR/job.err" || { say job; return 1; }
    until_true reaped
    empty
}

# Ranks may still be dying when mpiexec has ended.
reaped() {
    ivshmem reap "$region" >/dev/null
    [ "$(ivshmem info --json "$region" | jq .usage.endpoints)" -eq 0 ]
}
