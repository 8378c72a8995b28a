#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and vm.bash share variables and functions.
# shellcheck disable=SC2154
#
# A guest is saved and restored as two guests with the same boot id, uuid and pid namespace. Only the hypervisor's
# generation id distinguishes them. Neither takes the other's processes for its own dead ones.

load vm

setup_file() {
    local arg args=()
    fallocate -l 32M "$BATS_FILE_TMPDIR/memory"
    # A device that is not the master of its memory cannot be saved.
    for arg in -object "memory-backend-file,id=shared,share=on,mem-path=$BATS_FILE_TMPDIR/memory,size=32M" \
        -device ivshmem-plain,memdev=shared,master=on -device vmgenid,guid=auto; do
        args+=(--qemu-arg "$arg")
    done
    boot_guests 1 --no-device 0 "${args[@]}"
    "$inst/bin/ivshmem" format "$BATS_FILE_TMPDIR/memory"
}

teardown_file() { end_guests; }

migrated() { qmp "$1" query-migrate | grep -q '"status": "completed"'; }

# save_and_restore: saves vm0, together with the region, which nobody uses meanwhile. Then vm0 continues, and so does
# its twin; `in_twin` runs commands there.
save_and_restore() {
    local tries
    vms exec 0 cat /proc/sys/kernel/random/boot_id </dev/null # which is generated when it is first read
    # An emulated guest that ran meanwhile would write pages without QEMU's notice.
    qmp vm0 stop
    qmp vm0 migrate "{\"uri\": \"exec:cat >$WORK/state\"}"
    until_true migrated vm0
    for ((tries = 0; tries < 20; tries++)); do
        port=$((RANDOM % 12000 + 20000))
        # What two QEMUs cannot share gets other names, from the same set, so that `down` ends the twin with vm0.
        sed -z -e "s|$set_dir/vm0\\.|$set_dir/vm1.|g" -e "s|hostfwd=tcp:127.0.0.1:[0-9]*-|hostfwd=tcp:127.0.0.1:$port-|" \
            "$set_dir/vm0.qemu" >twin.qemu
        printf '%s\0' -incoming "exec:cat $WORK/state" >>twin.qemu
        ! xargs -0 -a twin.qemu setsid -w >twin.says 2>&1 </dev/null 3>&- || break
        grep "host forwarding rule" twin.says || { cat twin.says; return 1; }
    done
    until_true migrated vm1
    qmp vm1 cont
    until_true in_twin true
    vms resume 0
}

in_twin() { timeout 300 ssh -F "$set_dir/ssh_config" -p "$port" vm0 "$@" </dev/null; }

live() { ivshmem ps --json "$region" | jq '[.endpoints[] | select(.state == "live")] | length'; }

@test "two guests from one snapshot: neither takes the other's processes for its own dead ones" {
    region=$WORK/memory
    save_and_restore
    # They look like one machine.
    for file in /proc/sys/kernel/random/boot_id /sys/class/dmi/id/product_uuid; do
        vms exec 0 cat $file </dev/null >one
        in_twin cat $file >two
        diff one two
    done
    generation="cat /sys/firmware/qemu_fw_cfg/by_name/etc/vmgenid_guid/raw"
    [ "$(vms exec 0 "$generation" | md5sum)" != "$(in_twin "$generation" | md5sum)" ]
    MPIR_CVAR_NOLOCAL=1 begin job vm0 2
    in_twin ivshmem reap
    [ "$(live)" -eq 2 ]
    in_twin MPIR_CVAR_NOLOCAL=1 MPIR_CVAR_NEMESIS_IVSHMEM_STATS=1 MPIR_CVAR_POLLS_BEFORE_YIELD=1 \
        mpiexec -n 2 "$WORK/exchange" >twin.out 2>&1 || { cat twin.out; return 1; }
    [ "$(grep -c "^exchange: .* good$" twin.out)" -eq 2 ]
    [ "$(live)" -eq 2 ]
    rm job.goes-on
    wait "${pid_of[job]}" || { cat job; return 1; }
    [ "$(grep -c "^exchange: .* good$" job)" -eq 2 ]
    region_is_empty

    # Only vm0 can reap its own dead ranks.
    MPIR_CVAR_NOLOCAL=1 begin dead vm0 2
    mapfile -t pids < <(ivshmem ps --json "$region" | jq '.endpoints[].pid')
    # The process manager may end the second one before kill does.
    vms exec 0 "kill -KILL ${pids[*]} || :"
    ended_with_an_error dead
    in_twin ivshmem reap
    [ "$(ivshmem info --json "$region" | jq .usage.endpoints)" -ge 1 ]
    vms exec 0 ivshmem reap
    region_is_empty
}
