#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and vm.bash share variables and functions.
# shellcheck disable=SC2154
#
# The region is an NVDIMM on one file, which each guest sees as a device-DAX. The guests have an ivshmem device as well:
# a region on the NVDIMM comes first.

load vm

setup_file() {
    local module arg args=()
    export MODULES=$BATS_FILE_TMPDIR/modules
    mkdir "$MODULES"
    PYTHONPATH=$src/tools python3 -c 'from vms import kernel; print(*kernel.find().nvdimm, sep="\n")' >"$MODULES/paths"
    grep -q . "$MODULES/paths" || skip "the guests' kernel has no device-DAX as a module"
    while read -r module; do
        cp "$module" "$MODULES"
        basename "$module" >>"$MODULES/order"
    done <"$MODULES/paths"
    truncate -s 64M "$BATS_FILE_TMPDIR/nvdimm"
    for arg in \
        -machine nvdimm=on -m slots=1,maxmem=2G \
        -object "memory-backend-file,id=nvdimm,share=on,mem-path=$BATS_FILE_TMPDIR/nvdimm,size=64M" \
        -device nvdimm,memdev=nvdimm; do
        args+=(--qemu-arg "$arg")
    done
    boot_guests 2 --add "$MODULES" "${args[@]}"
}

teardown_file() { end_guests; }

guest() { timeout --foreground -k 10 "$limit" "$HYDRA_LAUNCHER_EXEC" "$@" 3>&-; }

# load_modules GUEST
load_modules() {
    guest "$1" "cd '$MODULES' && while read -r module; do insmod \"\$module\" || exit; done <order"
}

@test "a device-DAX that one guest makes and formats is found by all, without being named" {
    unset MPIR_CVAR_NEMESIS_IVSHMEM_REGION
    load_modules vm0
    # As `ndctl create-namespace --mode devdax --map mem` does.
    guest vm0 "cd /sys/bus/n[d] && echo namespace0.0 >drivers/nd_pmem/unbind &&
        cat /proc/sys/kernel/random/uuid >devices/dax0.0/uuid && echo 2097152 >devices/dax0.0/align &&
        echo ram >devices/dax0.0/mode && echo namespace0.0 >devices/dax0.0/namespace &&
        echo dax0.0 >drivers/dax_pmem/bind"
    # It is not formatted unasked: its memory may be there for another purpose.
    run -0 guest vm0 'ivshmem reap; ivshmem info --all'
    [[ $output == *"/dev/dax0.0  device-DAX  62 MiB  unformatted: "*"  BAR  64 MiB  unformatted: "* ]]
    run -0 guest vm0 'ivshmem format && ivshmem info'
    [[ $output == *"region     0000:"* ]]
    run -0 guest vm0 ivshmem format /dev/dax0.0
    load_modules vm1
    run -0 guest vm1 ivshmem info --json
    jq -e '.region == "/dev/dax0.0" and .kind == "device" and .mapping == "device-DAX" and .page == 2097152' <<<"$output"

    MPIR_CVAR_NEMESIS_IVSHMEM_INFO=1 job -hosts vm0,vm1 -n 4 "$WORK/exchange" </dev/null >out 2>&1 ||
        { cat out; return 1; }
    [ "$(grep -c 'ivshmem: rank=.* region=/dev/dax0.0 .* mapping=device-DAX page=2097152' out)" -eq 4 ]
    grep -v "mapping=\|peer=" out >counters
    through_region counters 4
    run -0 guest vm1 ivshmem info --json
    jq -e '.usage.endpoints == 0 and .usage.free_blocks == .geometry.blocks' <<<"$output"
}

@test "blocks of malloc on a device-DAX" {
    unset MPIR_CVAR_NEMESIS_IVSHMEM_REGION
    timeout --foreground -k 10 "$limit" ivshmem-env --malloc mpiexec -hosts vm0,vm1 -n 2 "$WORK/exchange" \
        </dev/null >out 2>&1 || { cat out; return 1; }
    [ "$(grep -c "good$" out)" -eq 2 ] && [ "$(grep -c "single_copy=[1-9]" out)" -eq 2 ] || { cat out; return 1; }
}

@test "ivshmem check --between on a device-DAX" {
    guest vm1 ivshmem check --between 1 --timeout 120 /dev/dax0.0 >one 2>&1 &
    run -0 guest vm0 ivshmem check --between 0 --timeout 120 /dev/dax0.0
    wait $! || { cat one; return 1; }
}
