#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and vm.bash share variables and functions.
# shellcheck disable=SC2154
#
# A guest with two NUMA nodes of a processor each, and an ivshmem device near the second one.

load vm

setup_file() {
    local arg args=()
    truncate -s 32M "$BATS_FILE_TMPDIR/memory"
    for arg in \
        -object memory-backend-ram,id=node0,size=256M -numa node,nodeid=0,cpus=0,memdev=node0 \
        -object memory-backend-ram,id=node1,size=256M -numa node,nodeid=1,cpus=1,memdev=node1 \
        -object "memory-backend-file,id=far,share=on,mem-path=$BATS_FILE_TMPDIR/memory,size=32M" \
        -device pxb-pcie,id=bridge,bus_nr=64,numa_node=1 -device pcie-root-port,id=far-port,bus=bridge,chassis=1 \
        -device ivshmem-plain,memdev=far,bus=far-port; do
        args+=(--qemu-arg "$arg")
    done
    boot_guests 1 --cpus 2 --memory 512M --no-device 0 "${args[@]}"
}

teardown_file() { end_guests; }

@test "nothing is reported for ranks near their device, or not bound" {
    job -hosts vm0 -n 2 -bind-to user:1,1 "$WORK/exchange" </dev/null >near 2>&1 || { cat near; return 1; }
    job -hosts vm0 -n 2 "$WORK/exchange" </dev/null >free 2>&1 || { cat free; return 1; }
    cat near free
    [ "$(cat near free | grep -c "good$")" -eq 4 ]
    run ! grep NUMA near free
}

@test "the first rank reports that ranks are on another node than their device" {
    job -hosts vm0 -n 2 -bind-to user:0,0 "$WORK/exchange" </dev/null >away 2>&1 || { cat away; return 1; }
    cat away
    [ "$(grep -c "good$" away)" -eq 2 ]
    [ "$(grep -c NUMA away)" -eq 1 ]
    grep -q "^ivshmem: rank 0: is bound to NUMA node 0, its memory in 0000:.* on node 1: .* bind ranks to node 1" away
}
