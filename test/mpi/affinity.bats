#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154
#
# The warning about NUMA affinity. hwloc gets a made-up topology with one node for each processor, while all pages of
# this machine are on node 0.

load mpi

setup() {
    [ "$(nproc)" -ge 2 ] || skip "a single processor"
    ! [ -e /sys/devices/system/node/node1 ] || skip "this machine has NUMA nodes of its own"
    export HWLOC_SYNTHETIC="node:2 pu:1" HWLOC_THISSYSTEM=1
    use_region 16M
}

# ranks CPUS: runs two ranks, bound to these processors; prints what they report about NUMA nodes.
ranks() {
    run mpiexec -n 2 ${1:+-bind-to "user:$1"} "$programs/init"
    echo "$output"
    [ "$status" -eq 0 ]
    said=$(grep NUMA <<<"$output" || :)
}

@test "the first rank of a machine reports that ranks are bound away from their memory" {
    ranks 1,1
    [ "$(wc -l <<<"$said")" -eq 1 ]
    [[ $said == *"rank 0: is bound to NUMA node 1, its memory in $region"*" on node 0: "*"bind ranks to node 0, or put the region on node 1" ]]
}

@test "nothing is reported for ranks near their memory, on both nodes, or not bound" {
    for cpus in 0,0 0,1 ""; do
        ranks "$cpus"
        [ -z "$said" ]
    done
}
