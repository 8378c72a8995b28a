#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites, vm.bash and mpi.bash share variables and functions.
# shellcheck disable=SC2034,SC2154
#
# What needs both of the emulated arm64 guests, which build-aux/check-arm64 has booted: their programs are in /test.
# mpiexec, ivshmem, vm0 and vm1 are links to in-guest.

load ../vm/vm
load ../mpi/mpi

programs=/test/mpi
limit=1200

setup_file() { ivshmem format; }

setup() {
    region=$(ivshmem info --json | jq -r .region)
    cd "$BATS_TEST_TMPDIR" || return
}

teardown() { at_end; }

@test "ivshmem check finds that both guests can run jobs on the region" {
    check_between vm0 vm1
    empty
}

@test "a region is mapped as normal memory" { [[ $(ivshmem info --json "$region" | jq -r .path) == */resource2_wc ]]; }

@test "stress: 4 processes in each guest" {
    local vm
    for vm in vm0 vm1; do
        $vm /test/stress/stress_region -t 20 -p 4 -s $RANDOM >"stress-$vm" 2>&1 </dev/null 3>&- &
    done
    wait
    cat stress-*
    [ "$(cat stress-* | grep -c "all freed")" -eq 2 ]
}

# between RANKS PROGRAM ARG...: passes, with ranks in both guests. Even ranks are in vm0, odd ones in vm1: with two, all
# messages go through the region, with four, two thirds.
between() {
    half_remote
    passes "$@"
    [ "$(grep -o 'ivshmem: rank=[0-9]* host=[^ ]*' "$BATS_TEST_TMPDIR/job.err" | grep -o 'host=.*' | sort -u | wc -l)" -eq 2 ]
}

@test "point to point, 2 and 4 ranks" {
    between 2 "$programs/pt2pt"
    between 4 "$programs/pt2pt"
}

@test "derived datatypes" { between 2 "$programs/types"; }

@test "collectives, communicators, one-sided; 2 and 4 ranks" {
    between 2 "$programs/coll"
    between 4 "$programs/coll"
}

@test "large messages of all kinds with memory of the region" { between 2 "$programs/memory"; }

@test "more messages than cells and pipelines, 4 ranks" { between 4 "$programs/flood"; }

@test "large blocks of malloc are in the region, and are copied once" {
    between 2 ivshmem-env --malloc "$programs/malloc" kinds
    [ "$(counted job single_copy)" -gt 300 ]
}

@test "every one-sided call with every synchronization" {
    between 2 "$programs/rma"
    [ "$(counted job windows)" -ge 50 ]
}

@test "atomics are exact, 4 ranks" { between 4 "$programs/rma" atomics; }

@test "windows freed right after an unlock, 4 ranks" { between 4 "$programs/windows" free 50; }

@test "random one-sided communication, 4 ranks" { between 4 "$programs/onesided" -a -s 21 -n 3; }

@test "half a minute of messages of all kinds at once, 4 ranks" {
    mpiexec -n 4 /test/vm/exchange < <(sleep 30 3>&-) >out 2>&1 3>&- || { cat out; return 1; }
    through_region out 4
    empty
}
