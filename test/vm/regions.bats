#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and vm.bash share variables and functions.
# shellcheck disable=SC2154
#
# Two regions with two guests each: as on two hosts.

load vm

setup_file() { boot_guests 4 --regions 2; }

teardown_file() { end_guests; }

@test "within a region through it, to the other by tcp" {
    # Guest number i has region number i modulo 2.
    MPIR_CVAR_NEMESIS_IVSHMEM_STATS=2 job -hosts vm0,vm1,vm2,vm3 -n 4 "$WORK/exchange" </dev/null >out 2>&1 ||
        { cat out; return 1; }
    [ "$(grep -c "good$" out)" -eq 4 ] || { cat out; return 1; }
    awk -f "$BATS_TEST_DIRNAME/../mpi/paths.awk" out >paths || { cat out paths; return 1; }
    cat paths
    awk '{ exit !($1 >= 8 && $3 > 100000 && $7 > 100000) }' paths
    [ "$(grep -o 'ivshmem: rank=.* id=[0-9a-f]*' out | grep -o 'id=.*' | sort | uniq -c | awk '{ print $1 }' | xargs)" = "2 2" ]
    for region in "$set_dir"/region[01]; do
        ivshmem info --json "$region" | jq -e '.usage.endpoints == 0 and .usage.free_blocks == .geometry.blocks'
    done
}
