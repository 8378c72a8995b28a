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

@test "connecting to ports that are made up, truncated, too long, closed, not served, of another release, or of a job that has ended" {
    mpi ended -n 1 "$programs/errhandlers" port "$where"
    passes_both 2 "$programs/errhandlers" ports "$where"
    grep -q "names endpoint 4294967295, generation 1 of region" "$BATS_TEST_TMPDIR/job.err"
    grep -q "the process at that port runs release 3.1-1 " "$BATS_TEST_TMPDIR/job.err"
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

# both_found HOW FT: rank 0 finds two deaths in the same progress call. Each rank has a process manager proxy of its own,
# which tells the others nothing, and outlives its rank: mpiexec ends if it writes to a proxy that has just ended.
both_found() {
    local status=0
    # shellcheck disable=SC2016
    program=(sh -c '"$@" >"$0.$PMI_RANK" 2>&1; status=$?; [ "$PMI_RANK" != 0 ] || touch "$0.over"
        until [ -e "$0.over" ]; do sleep 0.1; done; exit $status' "$BATS_TEST_TMPDIR/$1" "$programs/two_deaths" "$1")
    mpi "$1" -disable-auto-cleanup -launcher fork -hosts "$(hostname),localhost,127.0.0.1,127.0.0.2" -ppn 1 \
        -genv MPIR_CVAR_ENABLE_FT "$2" -n 4 "${program[@]}" || status=$?
    if [ "$status" -eq 124 ] || [ "$(cat "$BATS_TEST_TMPDIR/$1".[03] | grep -cx "No errors")" -ne 2 ]; then
        echo "$1: status $status"
        cat "$BATS_TEST_TMPDIR/$1".[0-3]
        say "$1"
        return 1
    fi
    reclaimed
}

@test "two peers die at once: each request ends with the error of its own peer" {
    both_found wait 1
    both_found waitall 1
}

@test "two peers die at once: each death ends a call" { both_found calls 0; }
