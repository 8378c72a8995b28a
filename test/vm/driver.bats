#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and vm.bash share variables and functions.
# shellcheck disable=SC2154
#
# Two guests with the driver for the ivshmem device: the netmod maps the region by it. What the driver itself does,
# `make check-driver` tests.

load vm

setup_file() {
    local module
    module=$(build_driver)
    [ -n "$module" ] || skip "no headers of the guests' kernel"
    # The port is for a second device that is plugged in and out.
    boot_guests 2 --driver "$module" --qemu-arg -device --qemu-arg pcie-root-port,id=port1,chassis=1,pref64-reserve=128M
}

teardown_file() { end_guests; }

guest() { timeout --foreground -k 10 "$limit" "$HYDRA_LAUNCHER_EXEC" "$@" 3>&-; }

# by_driver FILE RANKS: so many ranks of the job with that output mapped the region by the driver.
by_driver() {
    [ "$(grep -c 'ivshmem: rank=.* mapping=driver page=4096' "$1")" -eq "$2" ] || { cat "$1"; return 1; }
    grep -v "mapping=\|peer=" "$1" >counters
}

@test "the device is listed once, and found by its address, by the driver's node, and by the path in sysfs" {
    run -0 guest vm0 ivshmem info --all
    [[ $output =~ ^(0000:[0-9a-f:.]*)\ \ driver\ \ 64\ MiB\ \ (unformatted|region) && ${#lines[@]} -eq 1 ]]
    local address=${BASH_REMATCH[1]} name
    ivshmem format "$region"
    for name in "" "$address" /dev/ivshmem0 "/sys/bus/pci/devices/$address/resource2" "$region"; do
        run -0 guest vm1 "ivshmem info --json $name"
        jq -e '.kind == "device" and .mapping == "driver" and .path == "/dev/ivshmem0" and .page == 4096 and
            .size == 67108864 and .mode == "0660" and .access.kind == "cached"' <<<"$output"
    done
}

@test "ranks in both guests and on the host exchange messages of all kinds" {
    MPIR_CVAR_NEMESIS_IVSHMEM_INFO=1 job -hosts localhost,vm0,vm1 -n 3 "$WORK/exchange" </dev/null >out 2>&1 ||
        { cat out; return 1; }
    by_driver out 2
    run ! grep "mapped as memory" out
    through_region counters 3
    region_is_empty
}

@test "ivshmem check finds that both guests can run jobs on the region" {
    check_between "vms exec 0" "vms exec 1"
    region_is_empty
}

@test "blocks of malloc are in the region" {
    timeout --foreground -k 10 "$limit" ivshmem-env --malloc mpiexec -hosts vm0,vm1 -n 2 "$WORK/exchange" \
        </dev/null >out 2>&1 || { cat out; return 1; }
    [ "$(grep -c "good$" out)" -eq 2 ] && [ "$(grep -c "single_copy=[1-9]" out)" -eq 2 ] || { cat out; return 1; }
    region_is_empty
}

@test "a guest with the driver and one without" {
    guest vm1 rmmod ivshmem
    MPIR_CVAR_NEMESIS_IVSHMEM_INFO=1 job -hosts vm0,vm1 -n 4 "$WORK/exchange" </dev/null >out 2>&1 ||
        { cat out; return 1; }
    by_driver out 2
    [ "$(grep -c ' mapping=BAR page=4096' out)" -eq 2 ]
    through_region counters 4
    guest vm1 insmod /modules/driver.ko
    region_is_empty
}

@test "a mapping that the driver has made uncached is told" {
    guest vm1 'echo uc >/sys/module/ivshmem/parameters/cache'
    local said="(driver) is mapped as memory that is uncached, because the driver's parameter says so"
    run -0 guest vm1 ivshmem info
    [[ $output == *"access     uncached: "* && $output == *"$said"*parameters/cache* ]]
    run -0 guest vm1 ivshmem check
    [[ $output == *"$said"* ]]
    job -hosts vm0,vm1 -n 4 "$WORK/exchange" </dev/null >out 2>&1 || { cat out; return 1; }
    # The first rank of that machine, and no other.
    [[ $(grep "mapped as memory" out) =~ ^ivshmem:\ rank\ 1:\ [^$'\n']*"$said"[^$'\n']*$ ]] || { cat out; return 1; }
    grep -v "mapped as memory" out >counters
    through_region counters 4
    guest vm1 'echo wb >/sys/module/ivshmem/parameters/cache'
    run -0 guest vm1 ivshmem info
    [[ $output == *"access     cached: "* && $output != *"$said"* ]]
    region_is_empty
}

@test "ranks whose device is unbound from the driver say so and end, others can go on" {
    begin first vm0,vm1 2
    guest vm1 'cd /sys/bus/pci/drivers/ivshmem && echo 0*:* >unbind'
    local status=0
    wait "${pid_of[first]}" || status=$?
    cat first
    [[ $status -ne 0 && $status -ne 124 && $status -ne 137 ]]
    grep "ivshmem: rank 1: the memory of region $region at .* is gone: the device was unplugged or unbound" first
    run -0 guest vm1 ivshmem info
    [[ $output == *"mapping    BAR,"* ]]
    guest vm1 'rmmod ivshmem && insmod /modules/driver.ko'
    job -hosts vm0,vm1 -n 2 "$WORK/exchange" </dev/null >out 2>&1 || { cat out; return 1; }
    through_region out 2
    region_is_empty
}

@test "ranks whose device is unplugged say so and end, others can go on" {
    local size bar
    size=$(stat -c %s "$region")
    ivshmem format "$region"
    # A second device of the same region, which becomes the one that jobs are told to use.
    qmp vm1 object-add "{\"qom-type\": \"memory-backend-file\", \"id\": \"again\", \"share\": true, \
        \"mem-path\": \"$region\", \"size\": $size}"
    qmp vm1 device_add '{"driver": "ivshmem-plain", "id": "again", "bus": "port1", "memdev": "again"}'
    until_true guest vm1 '[ -e /dev/ivshmem1 ]'
    bar=$(guest vm1 'readlink -f /sys/class/misc/ivshmem1/device/resource2')
    [ "$(guest vm1 "ln -sf $bar $region && ivshmem info --json $region" | jq -r .path)" = /dev/ivshmem1 ]

    begin first vm0,vm1 2
    qmp vm1 device_del '{"id": "again"}'
    local status=0
    wait "${pid_of[first]}" || status=$?
    cat first
    [[ $status -ne 0 && $status -ne 124 && $status -ne 137 ]]
    grep "ivshmem: rank 1: the memory of region $region at .* is gone: the device was unplugged or unbound" first
    until_true guest vm1 '[ ! -e /dev/ivshmem1 ]'
    run -1 guest vm1 ivshmem info "$region"
    [[ $output == *"ivshmem: $region is a symbolic link to $bar, which does not exist: remove the link"* ]]

    bar=$(guest vm1 'readlink -f /sys/class/misc/ivshmem0/device/resource2')
    guest vm1 "ln -sf $bar $region"
    job -hosts vm0,vm1 -n 2 "$WORK/exchange" </dev/null >out 2>&1 || { cat out; return 1; }
    through_region out 2
    region_is_empty
}
