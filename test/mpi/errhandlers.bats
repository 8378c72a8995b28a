#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2034,SC2154,SC2119
#
# Errors that a program handles, and peers that die while they connect or exchange messages: the error has the right
# class and text and comes in time, and the program can continue.

load mpi

setup() {
    use_region 16M
    all_remote
    where=$BATS_TEST_TMPDIR/where
}

teardown() { at_end; }

@test "wrong arguments, truncation, user error handlers" { passes_both 2 "$programs/errhandlers" calls; }

@test "connecting to ports that are made up, truncated, too long, closed, not served, or of a job that has ended" {
    mpi ended -n 1 "$programs/errhandlers" port "$where"
    passes_both 2 "$programs/errhandlers" ports "$where"
    grep -q "names endpoint 4294967295, generation 1 of region" "$BATS_TEST_TMPDIR/job.err"
}

@test "looking up and unpublishing names that nobody has published" { passes_both 2 "$programs/errhandlers" names; }

# survives WHEN [guest]: the victim dies, the survivor does not, and the memory of both is freed.
survives() {
    local victim survivor guest=
    launch victim -n 1 "$programs/errhandlers" victim "$1" "$where"
    victim=$pid
    launch survivor -n 1 "$programs/errhandlers" survivor "$1" "$where"
    survivor=$pid
    if [ "${2:-}" ]; then
        launch guest -n 1 "$programs/errhandlers" guest "$where"
        guest=$pid
    fi
    wait "$survivor" || { echo "status $?"; say survivor; return 1; }
    ! wait "$victim" || { echo "the victim lives"; say victim; return 1; }
    [ -z "$guest" ] || wait "$guest" || { say guest; return 1; }
    grep -qx "No errors" "$BATS_TEST_TMPDIR/survivor.out"
    [[ $(cat "$BATS_TEST_TMPDIR/survivor.err") == *" region=$region "* ]] || { say survivor; return 1; }
    reclaimed
}

@test "a peer dies while messages pass" { survives talking; }

@test "a peer dies while it sends nothing" { survives silent; }

@test "a caller dies before it is accepted; the next one is served" { survives calling guest; }

@test "a caller dies while it is accepted; the next one is served" { survives answered guest; }

@test "a process with a port dies without accepting" { survives called; }
