#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# The launcher ivshmem-vms itself: its messages, and that it leaves nothing behind, whatever ends it. Two scripts
# replace the MPI installation that guests get, so that no MPI is needed here.

bats_require_minimum_version 1.5.0
tool=$BATS_TEST_DIRNAME/../../tools/ivshmem-vms

setup_file() {
    for program in qemu-system-x86_64 ssh busybox dropbear cpio; do
        PATH=$PATH:/usr/sbin command -v "$program" >/dev/null || skip "$program is not installed"
    done
}

setup() {
    name=test-$BATS_ROOT_PID
    dir=$("$tool" hosts --name "$name" 2>&1 | sed -n 's/.*no guests are up in \(.*\): boot some with ivshmem-vms up.*/\1/p')
    prefix=$BATS_TEST_TMPDIR/mpi
    mkdir -p "$prefix/bin" "$prefix/lib"
    for program in mpiexec hydra_pmi_proxy; do
        printf '#!/bin/sh\necho %s "$@"\n' "$program" >"$prefix/bin/$program"
        chmod +x "$prefix/bin/$program"
    done
}

teardown() {
    [ -z "${pid:-}" ] || kill -KILL "$pid" 2>/dev/null || :
    "$tool" down --name "$name" 2>/dev/null
}

vms() { "$tool" "$1" --name "$name" "${@:2}"; }
up() { vms up "$@" --prefix "$prefix"; }

# refused PATTERN COMMAND...: the command fails with a message of one or two lines that matches.
refused() {
    run "${@:2}"
    echo "$output"
    [ "$status" -ne 0 ] && [[ $output =~ $1 ]] && [ "${#lines[@]}" -le 2 ] && nothing_left
}

nothing_left() {
    [ ! -e "$dir" ] || { echo "left: $dir"; return 1; }
    [ -z "${region:-}" ] || [ ! -e "$region" ] || { echo "left: $region"; return 1; }
    ! grep -lsF "$dir/" /proc/[0-9]*/cmdline || { echo "left running"; return 1; }
}

# interrupt SIGNAL: sends it to `up`, which must end with the matching status and leave nothing.
interrupt() {
    local code=0
    kill "-$1" "$pid"
    wait "$pid" || code=$?
    [ "$code" = "$((128 + $(kill -l "$1")))" ] || { echo "status $code"; cat "$BATS_TEST_TMPDIR/out"; return 1; }
    nothing_left
}

# start_up: starts `up` in the background, with signals as a terminal's shell would set them.
start_up() {
    env --default-signal "$tool" up 2 --name "$name" --prefix "$prefix" \
        >"$BATS_TEST_TMPDIR/out" 2>&1 3>&- &
    pid=$!
}

until_said() {
    for _ in $(seq 1800); do
        ! grep -qs "$1" "$2" || return 0
        sleep 0.1
    done
    echo "$2 never said $1" && return 1
}

@test "a wrong number of guests is refused" {
    refused "from 1 to 16" up
    refused "up 0: must be a number from 1 to 16" up 0
    refused "up x: must be" up x
    refused "up 17: must be" up 17
    refused "the number of guests" up 2 3
}

@test "wrong options are refused" {
    refused "--size 3M: must be a power of two" up 2 --size 3M
    refused "--size 64Q: not a size" up 2 --size 64Q
    refused "--size needs a value" vms up 2 --size
    refused "--memory 64M: a guest needs" up 2 --memory 64M
    refused "--no-device 2: must be a number from 0 to 1" up 2 --no-device 2
    refused "--regions 3: must be" up 2 --regions 3
    refused "--accel xen: must be" up 2 --accel xen
    refused "--bogus: no such option" up 2 --bogus
    refused "a/b: use only letters" "$tool" up 2 --name a/b
    refused "cannot be combined" vms up 2 --dir /tmp/x
    refused "too long for the sockets" "$tool" up 2 --dir "/tmp/$(printf %0100d 0)"
    refused "may contain only letters" "$tool" up 2 --dir "/tmp/a b"
    refused "no such command" vms bogus
}

@test "a missing or unsuitable MPI installation is refused" {
    refused "is not an MPICH installation" vms up 2 --prefix /nonexistent
    mkdir -p "$BATS_TEST_TMPDIR/tools"
    cp -r "$tool" "${tool%/*}/vms" "$BATS_TEST_TMPDIR/tools"
    refused "no MPI installation in $BATS_TEST_TMPDIR/inst: build it" \
        "$BATS_TEST_TMPDIR/tools/ivshmem-vms" up 2 --name "$name"
}

@test "missing programs are named with their packages" {
    mkdir "$BATS_TEST_TMPDIR/bin"
    for program in dropbear dbclient busybox cpio; do
        ln -s "$(PATH=$PATH:/usr/sbin command -v "$program")" "$BATS_TEST_TMPDIR/bin"
    done
    refused "missing: qemu-system-x86_64 ssh ssh-keygen; on Debian, as root: apt-get install qemu-system-x86 openssh-client" \
        env PATH="$BATS_TEST_TMPDIR/bin" "$tool" up 2 --name "$name"
}

@test "files that cannot be copied, or do not fit, are refused" {
    refused "/nonexistent: no such file" up 2 --add /nonexistent
    refused "pass a smaller --size" up 2 --size 1024G
    refused "pass a smaller --memory" up 16 --memory 1024G
    truncate -s 50M "$BATS_TEST_TMPDIR/large"
    refused "pass --memory [0-9]+M" up 1 --memory 128M --add "$BATS_TEST_TMPDIR/large"
}

@test "all commands report that no guests are up" {
    for verb in status hosts "exec 0 true" "add /bin/sh" "pause 0" "boot 0"; do
        # shellcheck disable=SC2086
        refused "no guests are up in $dir" "$tool" --name "$name" $verb
    done
    run -0 vms down
    [[ $output == *"nothing is up"* ]]
}

@test "a folder that holds something else is not touched" {
    mkdir "$BATS_TEST_TMPDIR/mine"
    touch "$BATS_TEST_TMPDIR/mine/file"
    refused "contains something else" "$tool" up 1 --prefix "$prefix" --dir "$BATS_TEST_TMPDIR/mine"
    refused "was not made by" "$tool" down --dir "$BATS_TEST_TMPDIR/mine"
    [ -e "$BATS_TEST_TMPDIR/mine/file" ]
}

# as_another COMMAND...: runs it as a user who is neither root nor this one.
as_another() {
    [ "$(id -u)" -eq 0 ] || skip "only root can be another user"
    setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
}

# trap_in FOLDER: a trap that another user could set for this one: a set whose file `set` is also a script.
# shellcheck disable=SC2016
trap_in() {
    as_another bash -c 'umask 0; mkdir -p "$1" && echo "vms=1; touch $2/sprung" | tee "$1/set" >"$1/env" &&
        echo 1 >"$1/vm0.pid" && ln -s /dev/shm/ivshmem-vms-none "$1/region0"' - "$1" "$public"
}

# Runs each command with the options $@, which lead to a folder that others can change: all must refuse it.
all_refuse() {
    local verb
    for verb in "up 1" env hosts status "exec 0 true" "add /bin/sh" "pause 0" "kill 0" "boot 0" down; do
        # shellcheck disable=SC2086
        run "$tool" --prefix "$prefix" "${@:2}" $verb
        echo "$verb: $output"
        [ "$status" -eq 1 ] && [[ $output =~ $1 ]] || return 1
        [ "$verb" != env ] || [ "$("$tool" "${@:2}" env 2>/dev/null)" = false ] || return 1
    done
    [ ! -e "$public/sprung" ] || { echo "what another user had written was run"; return 1; }
}

# A folder like /tmp, for tests that need another user, who cannot enter the tests' own folder.
in_public() {
    local result=0 # not status, which is run's
    public=$(mktemp -d /tmp/ivshm-public.XXXXXX)
    chmod 1777 "$public"
    "$@" || result=$?
    rm -rf "$public"
    return "$result"
}

@test "a set that another user has created, or can change, is not used" {
    [ "$(id -u)" -eq 0 ] || skip "only root can be another user"
    in_public others_sets
}

others_sets() {
    local here=$public/here
    # Created by another user; reached through that user's link, or one of ours; ours, but writable for others.
    trap_in "$public/his"
    all_refuse "$public/his belongs to $(id -nu 65534): " --dir "$public/his" || return 1
    IVSHMEM_VMS_DIR=$public/his run -1 "$tool" status || return 1
    [[ $output == *"belongs to"* ]] || return 1
    mkdir "$here"
    echo vms=1 >"$here/set"
    as_another ln -s "$here" "$public/link"
    all_refuse "$public/link is not a directory" --dir "$public/link" || return 1
    chmod 770 "$here"
    all_refuse "other users can write to $here" --dir "$here" || return 1
    chmod 700 "$here"
    [ "$("$tool" hosts --dir "$here")" = "$here/hosts" ] || return 1
    # A folder of ours in one of theirs, or in one that everybody can write.
    mkdir "$public/his/ours" "$public/open"
    chmod 777 "$public/open"
    mkdir "$public/open/ours"
    all_refuse "$public/his belongs to" --dir "$public/his/ours" || return 1
    all_refuse "other users can write to $public/open" --dir "$public/open/ours" || return 1
    [ -e "$here/set" ] && [ -L "$public/his/region0" ]
}

@test "sets without --dir are where no other user can create any" {
    [ "$(id -u)" -eq 0 ] || skip "only root can be another user"
    in_public where_sets_are
}

# where VARIABLE...: prints the folder of the default set with these variables set.
where() {
    env -u IVSHMEM_VMS_DIR "$@" "$tool" hosts 2>&1 | sed -n 's/.*no guests are up in \(.*\): boot some with ivshmem-vms up.*/\1/p'
}

where_sets_are() {
    local run=$public/run home=$public/home
    mkdir "$run" "$home"
    [ "$(where "XDG_RUNTIME_DIR=$run")" = "$run/ivshmem-vms/default" ] || return 1
    # A runtime folder that others can write is ignored.
    chmod 755 "$run"
    [ "$(where "XDG_RUNTIME_DIR=$run")" = "$run/ivshmem-vms/default" ] || return 1
    chmod 777 "$run"
    [ "$(where "XDG_RUNTIME_DIR=$run" "HOME=$home" XDG_STATE_HOME=)" = "$home/.local/state/ivshmem-vms/default" ] || return 1
    chmod 700 "$run"
    chown 65534 "$run"
    [ "$(where "XDG_RUNTIME_DIR=$run" "HOME=$home" "XDG_STATE_HOME=$home/state")" = "$home/state/ivshmem-vms/default" ] ||
        return 1
    [ "$(where XDG_RUNTIME_DIR=run "HOME=$home" XDG_STATE_HOME=)" = "$home/.local/state/ivshmem-vms/default" ] || return 1
    # No home, or another user's, as sudo may leave it.
    run -1 env XDG_RUNTIME_DIR="$run" HOME= XDG_STATE_HOME= "$tool" status || return 1
    [[ $output == *"neither XDG_RUNTIME_DIR nor HOME"*"--dir"* ]] || return 1
    chown 65534 "$home"
    run -1 env XDG_RUNTIME_DIR="$run" HOME="$home" XDG_STATE_HOME= "$tool" up 1 --prefix "$prefix" || return 1
    [[ $output == *"$home belongs to $(id -nu 65534): "*"--dir"* ]] && [ ! -e "$home/.local" ] || return 1
    # The old folder is not used, as another user may have taken it.
    run -1 env XDG_RUNTIME_DIR="$run" HOME="/$(printf %0100d 1)" XDG_STATE_HOME= "$tool" env || return 1
    [[ $output == *"too long for the sockets"*"--dir"*false ]]
}

@test "env fails, and so does the shell that evaluates it, unless up has succeeded" {
    # shellcheck disable=SC2016
    in_shell=(bash -c 'eval "$("$@")" || exit 9; echo "$IVSHMEM_VMS_DIR"' - "$tool")
    run -9 --separate-stderr "${in_shell[@]}" env --name "$name"
    # shellcheck disable=SC2154 # bats sets it
    [[ $stderr == *"no guests are up in $dir"* ]]
    run -9 "${in_shell[@]}" env --name a/b
    run -9 "${in_shell[@]}" env --bogus
    (umask 077 && mkdir -p "$dir")
    echo vms=2 >"$dir/set"
    run -9 --separate-stderr "${in_shell[@]}" env --name "$name"
    [[ $stderr == *"the guests in $dir are not up yet"* ]]
    for wrong in "" vms= vms=0 vms=99 'vms=1;id'; do
        echo "$wrong" >"$dir/set"
        run -1 "$tool" env --name "$name"
        [[ $output == *"was not written by ivshmem-vms up"* ]]
    done
    # Every value is one word, whatever is in it.
    # shellcheck disable=SC2016
    printf '%s\n' vms=2 'prefix=/x y=$(id)' region=/dev/shm/x ready=1 >"$dir/set"
    run -0 "$tool" env --name "$name"
    eval "$output"
    [ "$IVSHMEM_VMS_DIR" = "$dir" ]
    # shellcheck disable=SC2016
    [[ $PATH == '/x y=$(id)/bin:'* ]]
    [ "$MPIR_CVAR_NEMESIS_IVSHMEM_REGION" = /dev/shm/x ]
}

@test "QEMU's own error message is passed on" {
    run -1 up 1 --qemu-arg -bogus
    [[ $output == *"QEMU did not start vm0"*"-bogus: invalid option"* ]]
    nothing_left
}

@test "a guest that panics is an error, with the end of its console" {
    run -1 up 1 --qemu-arg -append --qemu-arg "console=ttyS0 quiet rdinit=/none root=/dev/none"
    echo "$output"
    [[ $output == *"vm0 failed to boot"*"Kernel panic"* ]]
    nothing_left
}

@test "a guest without its device is an error, with the end of its console" {
    run -1 up 1 --no-device 0 --qemu-arg -append \
        --qemu-arg "console=ttyS0 quiet vm=0 region=/dev/shm/none region_size=67108864"
    echo "$output"
    [[ $output == *"vm0 failed to boot"*"no ivshmem device (1af4:1110)"* ]]
    nothing_left
}

@test "a driver that is no module for the guests' kernel is an error, with what the guest says" {
    refused "--driver /none: no such file" up 1 --driver /none
    refused "--driver /: no such file" up 1 --driver /
    run -1 up 1 --driver /bin/true
    echo "$output"
    [[ $output == *"vm0 failed to boot"*"can't insert '/modules/driver.ko': "*"FAILED: insmod driver.ko"* ]]
    nothing_left
}

@test "a guest that is not up in time is an error" {
    run -1 up 1 --timeout 1
    [[ $output == *"vm0 did not boot within 1 s"* ]]
    nothing_left
}

@test "an interrupt while guests are prepared leaves nothing behind" {
    start_up
    sleep 0.2
    interrupt INT
}

@test "an interrupt while guests boot leaves nothing behind" {
    for signal in INT TERM HUP; do
        start_up
        until_said booting "$BATS_TEST_TMPDIR/out"
        region=$(readlink "$dir/region0")
        [ -e "$region" ]
        case $signal in TERM) until_said . "$dir/vm0.console" ;; HUP) sleep 0.3 ;; esac
        interrupt "$signal"
    done
}

kill_launcher() {
    start_up
    until_said booting "$BATS_TEST_TMPDIR/out"
    until [ -e "$dir/vm0.pid" ]; do sleep 0.05; done
    region=$(readlink "$dir/region0")
    kill -KILL "$pid"
    wait "$pid" || :
}

@test "down cleans up after a launcher that was killed" {
    kill_launcher
    vms down
    nothing_left
}

@test "down ends QEMUs whose folder is gone" {
    kill_launcher
    # Without its files a QEMU that is still starting would end by itself, and nothing would name the region any more.
    until [ -s "$dir/vm0.console" ]; do sleep 0.05; done
    rm -r "$dir"
    run -0 vms down
    nothing_left
    run -0 vms down
    [[ $output == *"nothing is up"* ]]
}

@test "down ends only processes with exactly its folder, in which a dot matches only a dot" {
    # The names may be anywhere, as nothing is there. The process may take a moment to get its name.
    other=/tmp/ivshm-launcher.$name set=$other/vm1.qmp
    bash -c 'exec -a "x unix:$1," sleep 600' - "${set/launcher./launcherx}" 3>&- &
    pid=$!
    until_said launcherx "/proc/$pid/cmdline"
    run -0 "$tool" down --dir "$other"
    [[ $output == *"nothing is up"* ]]
    kill -0 "$pid"
    # A process of the set itself is ended.
    kill -KILL "$pid"
    wait "$pid" || :
    bash -c 'exec -a "x unix:$1," sleep 600' - "$set" 3>&- &
    pid=$!
    until_said 'launcher\.' "/proc/$pid/cmdline"
    run -0 "$tool" down --dir "$other"
    status=0
    wait "$pid" || status=$?
    pid=
    [ "$status" -eq 143 ]
}

@test "two guests boot, run commands, lose one of them, and are shut down" {
    echo '#!/bin/sh' >"$BATS_TEST_TMPDIR/a program"
    chmod +x "$BATS_TEST_TMPDIR/a program"
    ln -s "a program" "$BATS_TEST_TMPDIR/a link"
    run -0 up 2 --add "$BATS_TEST_TMPDIR/a link"
    region=$(readlink "$dir/region0")
    [ "$(stat -c '%a %s' "$region")" = "600 67108864" ]

    [ $(($(stat -c '%b * %B' "$region"))) -ge 67108864 ]
    [ "$(eval "$(vms env)" && echo "$MPIR_CVAR_NEMESIS_IVSHMEM_REGION $(command -v mpiexec)")" = "$region $prefix/bin/mpiexec" ]

    refused "guests are up already" up 1 || [ -d "$dir" ]
    [ "$(cat "$(vms hosts)")" = $'vm0\nvm1' ]
    run -0 vms status
    [ "${#lines[@]}" = 2 ]

    # Commands: exit status, arguments as they are, standard input, both guests.
    run -7 vms exec 1 'exit 7'
    # shellcheck disable=SC2016
    [ "$(vms exec vm1 X=1 sh -c 'echo "$1  $X" $(hostname)' - "it's")" = "it's  1 vm1" ]
    [ "$(echo text | vms exec 0 cat)" = text ]
    [ "$(vms exec all hostname)" = $'vm0: vm0\nvm1: vm1' ]
    run -3 vms exec all 'exit 3'
    run -2 vms exec 2 true

    # The region by its path on this machine, the program by its own.
    [[ $(vms exec 0 readlink "$region") == /sys/bus/pci/devices/*/resource2 ]]
    vms exec 0 "'$BATS_TEST_TMPDIR/a link'"
    echo 'echo later' >>"$BATS_TEST_TMPDIR/a program"
    vms add "$BATS_TEST_TMPDIR/a program"
    [ "$(vms exec 1 "'$BATS_TEST_TMPDIR/a link'")" = later ]

    # What mpiexec runs: here, where the address is put right, and in a guest.
    cd "$BATS_TEST_TMPDIR"
    run -0 "$dir/ssh" -x vm1 "\"$prefix/bin/hydra_pmi_proxy\"" --control-port localhost:77 --x
    [ "$output" = "hydra_pmi_proxy --control-port 10.0.2.2:77 --x" ]
    vms exec 1 "cd '$BATS_TEST_TMPDIR'"
    [ "$(vms exec 0 ssh -x vm1 hostname)" = vm1 ]

    # A guest that has ended is reported, also to mpiexec, which would wait otherwise.
    vms exec 1 poweroff -f || :
    for _ in $(seq 1800); do vms status >/dev/null || break; sleep 0.1; done
    run -1 vms status
    [[ ${lines[0]} == *running* && ${lines[1]} == *ended* ]]
    run -1 vms exec 1 true
    [[ $output == *"vm1 is not running"* ]]
    # shellcheck disable=SC2016
    run -143 bash -c '"$1" -x vm1 true; echo not reached' - "$dir/ssh"
    [[ $output == *"vm1 is not running"* ]]

    run -0 vms down
    nothing_left
}

@test "two guests are paused, reset, switched off, killed, and boot again as the same machines" {
    run -0 up 2
    region=$(readlink "$dir/region0")
    machine=$(vms exec 1 cat /sys/class/dmi/id/product_uuid)
    [ -n "$machine" ]
    run -2 vms pause
    run -2 vms pause 2
    run -1 vms boot 1
    [[ $output == *"vm1 is running"* ]]

    vms pause vm1
    run -0 vms status
    [[ ${lines[0]} == *running* && ${lines[1]} == *paused* ]]
    run -124 timeout 5 "$tool" --name "$name" exec 1 true
    vms resume 1
    run -0 vms status
    [[ ${lines[1]} == *running* ]]
    vms exec 1 true

    for fault in reset "pause reset" "off boot" "kill boot"; do
        before=$(vms exec 1 cat /proc/sys/kernel/random/boot_id)
        for verb in $fault; do
            vms "$verb" 1
            [ "$verb" != off ] && [ "$verb" != kill ] && continue
            run -1 vms status
            [[ $output == *ended* ]]
            run -1 vms pause 1
            [[ $output == *"vm1 is not running"* ]]
        done
        after=$(vms exec 1 cat /proc/sys/kernel/random/boot_id)
        [[ $after && $before != "$after" ]]
        [ "$(vms exec 1 cat /sys/class/dmi/id/product_uuid)" = "$machine" ]
        [[ $(vms exec 1 readlink "$region") == /sys/bus/pci/devices/*/resource2 ]]
        vms exec 0 ping -q -c 1 -W 120 vm1
    done

    # What mpiexec runs ends it if the guest is reset under it, which ssh would not notice for hours.
    # shellcheck disable=SC2016
    timeout 300 bash -c '"$1" -x vm1 sleep 600; echo not reached' - "$dir/ssh" >"$BATS_TEST_TMPDIR/ssh" 2>&1 3>&- &
    pid=$!
    for _ in $(seq 1200); do
        vms exec 1 ps >"$BATS_TEST_TMPDIR/processes"
        ! grep -q "sleep 600" "$BATS_TEST_TMPDIR/processes" || break
        sleep 0.1
    done
    grep -q "sleep 600" "$BATS_TEST_TMPDIR/processes"
    vms reset 1
    status=0
    wait "$pid" || status=$?
    cat "$BATS_TEST_TMPDIR/ssh"
    [ "$status" = 143 ]
    [ "$(tail -n 1 "$BATS_TEST_TMPDIR/ssh")" = "ivshmem-vms: the connection to vm1 is lost: ivshmem-vms --dir $dir status" ]
    vms exec 0 true

    vms pause 0
    vms down
    nothing_left
}
