#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and vm.bash share variables and functions.
# shellcheck disable=SC2154
#
# Two guests with devices ivshmem-doorbell, of ivshmem-server on this machine. When the QEMU of one is killed, nobody has
# to declare its processes dead: the server finds that out, and so do processes of this machine. Ranks in vm0 learn their
# number from the driver, if it can be built, those in vm1 from the device's registers.

load vm

setup_file() {
    "$inst/bin/mpicc" -O2 -g -Wall -Wextra -Werror -o "$BATS_FILE_TMPDIR/waiting" "$BATS_TEST_DIRNAME/waiting.c"
    export FILE
    FILE=$(mktemp -u /dev/shm/ivshm-test.XXXXXX)
    cd "$BATS_FILE_TMPDIR" || return
    serve
    local arg args=()
    for arg in -chardev "socket,id=server,path=$PWD/socket" -device ivshmem-doorbell,chardev=server; do
        args+=(--qemu-arg "$arg")
    done
    arg=$(build_driver)
    [ -z "$arg" ] || args+=(--driver "$arg")
    boot_guests 2 --no-device 0,1 --add "$BATS_FILE_TMPDIR/waiting" "${args[@]}"
    eval "$("$inst/bin/ivshmem-vms" env --name "$name")"
    ln -s "$FILE" region
    name_region 0
    name_region 1
}

teardown_file() {
    end_guests
    cd "$BATS_FILE_TMPDIR" || return
    [ ! -e server ] || kill_server
    rm -f "$FILE"
}

# serve: starts the server, whose pid is in the file `server` from then on. No job of the shell, it outlives the test.
serve() {
    "$inst/bin/ivshmem-server" --socket "$BATS_FILE_TMPDIR/socket" --size 64M "$FILE" >>log 2>&1 </dev/null 3>&- &
    echo $! >server
    disown
    until_true test -S socket
}

kill_server() {
    kill -KILL "$(cat server)"
    rm -f server socket
}

# The region has one name on all machines, which leads to the file here, and to the device in guests.
name_region() { # VM
    [ "$1" -ne 1 ] || vms exec 1 '! [ -e /dev/ivshmem0 ] || rmmod ivshmem'
    vms exec "$1" "for device in /sys/bus/pci/devices/*; do
        [ \"\$(cat \$device/device)\" != 0x1110 ] || ln -sf \$device/resource2 $WORK/region; done"
}

eval "vm_$(declare -f setup)" # that of vm.bash

setup() {
    vm_setup
    region=$WORK/region
    export MPIR_CVAR_NEMESIS_IVSHMEM_REGION=$region
    stopped=
}

eval "vm_$(declare -f teardown)"

teardown() {
    [ -z "$stopped" ] || kill -CONT "$stopped" || :
    vm_teardown
}

# stop: the rank on this machine learns nothing until it goes on.
stop() {
    stopped=$(endpoints 2 | jq '.[] | select(.rank == 0).pid')
    kill -STOP "$stopped"
}

go_on() {
    kill -CONT "$stopped"
    stopped=
}

# peer_of VM: the number by which the server knows the guest. All its ranks know that.
peer_of() {
    ivshmem ps --json "$region" | jq -e "[.endpoints[] | select(.host == \"vm$1\") | .peer] | unique |
        if length == 1 then .[0] else error(\"not one number\") end"
}

ps_says() { ivshmem ps "$region" | grep "$1"; }

# server_freed TIMES: says the server, of one endpoint each time.
server_freed() {
    [ "$(grep -c "^ivshmem-server: client .* has left 1 endpoint behind: declared dead$" log)" -eq "$1" ]
}

# keeps_waiting VM: ranks here and in vm0 wait for one in that guest. Returns when they do.
keeps_waiting() {
    : >accepts
    job -hosts localhost,vm0 -n 2 "$WORK/waiting" >accepts 2>&1 </dev/null 3>&- &
    pid_of[accepts]=$!
    until_true grep -q ^port= accepts
    job -hosts "$1" -n 1 "$WORK/waiting" "$(sed -n 's/^port=//p' accepts)" >connects 2>&1 </dev/null 3>&- &
    pid_of[connects]=$!
    until_true both_wait
}

both_wait() { [ "$(grep -c '^waiting: rank [01]$' accepts)" -eq 2 ]; }

# got_an_error: both ranks, from a peer whose process is dead.
got_an_error() {
    wait "${pid_of[accepts]}" || :
    wait "${pid_of[connects]}" || :
    cat accepts connects
    [ "$(grep -c '^waiting: rank [01] got an error after' accepts)" -eq 2 ]
    grep -q "its process is dead" accepts
}

@test "each guest has a number, and ranks on this machine have none" {
    begin first localhost,vm0,vm1 3
    local a b
    a=$(peer_of 0)
    b=$(peer_of 1)
    [ "$a" != "$b" ]
    ivshmem ps --json "$region" | jq -e --arg here "$(uname -n)" '[.endpoints[] | select(.host == $here)] ==
        [.endpoints[] | select(has("peer") | not)] and (.endpoints | length == 3)'
    end first 3
    region_is_empty
}

@test "the QEMU of a guest is killed: who waits for it gets an error, and nothing is left of it" {
    keeps_waiting vm1
    stop # or it might be first
    vms kill 1
    until_true server_freed 1
    go_on
    got_an_error
    region_is_empty
}

@test "it boots again, and is given another number" {
    vms boot 1
    name_region 1
    begin again localhost,vm0,vm1 3
    [ "$(peer_of 1)" -gt 1 ]
    end again 3
    region_is_empty
}

@test "without the server, processes of this machine find out" {
    keeps_waiting vm1
    kill_server
    stop
    vms kill 1
    until_true ps_says "live  *VM gone  *vm1 "
    ivshmem ps --json "$region" | jq -e '.endpoints[] | select(.host == "vm1") | .vm_gone and .process == "dead"'
    run -0 ivshmem reap "$region"
    go_on
    got_an_error
    region_is_empty
}

@test "a server that starts again frees what was left meanwhile" {
    serve
    vms boot 1
    name_region 1
    keeps_waiting vm1
    kill_server
    stop
    vms kill 1
    [ "$(endpoints 1 | jq length)" -eq 1 ]
    serve
    until_true server_freed 2
    go_on
    got_an_error
    region_is_empty
}
