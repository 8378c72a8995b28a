#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154,SC2034
#
# Processes of one machine that see different parts of it: other time, pid, mount and user namespaces, another user.
# None of them takes a live process for dead, and a dead one is reclaimed as soon as somebody can know. An `ivshmem
# check --between` that waits for its other side serves as a process on the region.

load mpi

# Ranks in other pid namespaces cannot use a file without a name, as other suites do.
setup() {
    region=$(mktemp -u /dev/shm/ivshm-test.XXXXXX)
    ivshmem format --size 16M "$region" >/dev/null
    export MPIR_CVAR_NEMESIS_IVSHMEM_REGION=$region
    work=$BATS_TEST_TMPDIR
    as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(--map-root-user --user)
}

teardown() {
    # unshare --fork does not hear SIGTERM.
    [ "${#background[@]}" -eq 0 ] || kill -KILL "${background[@]}" 2>/dev/null || :
    at_end
    rm -f "$region"
}

# need UNSHARE-ARG...: skips the test where such a namespace cannot be created.
need() {
    unshare "${as_root[@]}" "$@" true 2>"$work/unshare" || skip "unshare $*: $(<"$work/unshare")"
}

need_initial_pid_ns() {
    [ "$(id -u)" -eq 0 ] || skip "needs root: only the machine's own sees all processes"
    [ "$(readlink /proc/self/ns/pid)" = "pid:[4026531836]" ] ||
        skip "this is a container: only the machine itself sees all processes"
}

ns() { $replace unshare "${as_root[@]}" "$@"; }
replace= # exec: it replaces the calling shell

# Dies with its parent, and is the namespace's first process, so the whole namespace ends.
container() { ns --pid --fork --kill-child --mount-proc "$@"; }

endpoints() { ivshmem info --json "$region" | jq .usage.endpoints; }
in_use() { [ "$(endpoints)" -eq "$1" ]; }

# joins COMMAND...: starts a process that joins the region in the background; $joiner is the pid to kill.
joins() {
    local before
    before=$(endpoints)
    if [ "$(type -t "$1")" = function ]; then
        (replace="exec" && "$@") >"$work/joins.out" 2>&1 </dev/null 3>&- &
    else
        "$@" >"$work/joins.out" 2>&1 </dev/null 3>&- &
    fi
    joiner=$!
    background+=("$joiner")
    until_true in_use $((before + 1)) || { cat "$work/joins.out"; return 1; }
}

member() { joins "$@" ivshmem check --between "${side:-0}" --timeout 600 "$region"; }

ends() {
    kill -KILL "$joiner"
    wait "$joiner" 2>/dev/null || :
}

# frees N COMMAND...: `ivshmem reap`, run through the command, frees N endpoints. A process that was killed with its
# namespace takes a moment to end.
reaps() { "${@:2}" ivshmem reap "$region" >"$work/reap" 2>&1 && grep -q "freed $1 of" "$work/reap"; }
frees() { until_true reaps "$@" || { cat "$work/reap"; return 1; }; }

# leaves COMMAND...: a process run through the command does not free the one endpoint, neither by reaping nor by
# joining.
leaves() {
    "$@" ivshmem reap "$region" >"$work/reap" 2>&1 || { cat "$work/reap"; return 1; }
    grep -q "freed 0 of 1 endpoints" "$work/reap" || { cat "$work/reap"; return 1; }
    # The same side again: it joins, finds nobody on the other side, and leaves.
    ! "$@" ivshmem check --between "${side:-0}" --timeout 1 "$region" >"$work/out" 2>&1 || return 1
    in_use 1
}

tells() { # PROCESS COMMAND...: what ps reports of the only process
    "${@:2}" ivshmem ps --json "$region" >"$work/ps"
    jq -e --arg process "$1" '.endpoints | length == 1 and .[0].process == $process' "$work/ps" >/dev/null ||
        { cat "$work/ps"; return 1; }
}

# covered FILE TEXT COMMAND...: runs it in a mount namespace where that file contains TEXT.
covered() {
    printf '%s\n' "$2" >"$work/cover"
    # shellcheck disable=SC2016
    ns --mount sh -c 'mount --bind "$1" "$2" && shift 2 && exec "$@"' sh "$work/cover" "$1" "${@:3}"
}

# firmware UUID COMMAND...: runs it where the firmware has that uuid.
firmware() {
    # shellcheck disable=SC2016
    ns --mount sh -c 'mount -t tmpfs none /sys/class && mkdir -p /sys/class/dmi/id &&
        echo "$1" >/sys/class/dmi/id/product_uuid && shift && exec "$@"' sh "$@"
}

@test "a job with a rank in another time namespace" {
    local offset other status
    need --time --boottime 100000 --fork
    all_remote
    other=$((-$(cut -d. -f1 /proc/uptime) + 1))
    for offset in 100000 "$other"; do
        status=0
        mpi time -n 2 "$programs/idle_ranks" 1.5 : -n 1 unshare "${as_root[@]}" --time --boottime "$offset" --fork \
            "$programs/idle_ranks" 1.5 || status=$?
        [ "$status" -eq 0 ] || { say time; return 1; }
        good time 3
        empty
    done
}

@test "a process in another time namespace judges others, and is judged, as anywhere else" {
    need --time --boottime 100000 --fork
    local shifted=(ns --time --boottime 100000 --fork --kill-child) back=(ns --time --boottime -1 --fork --kill-child)
    local owner
    for owner in env "${shifted[0]}"; do
        if [ "$owner" = env ]; then member env; else member "${shifted[@]}"; fi
        leaves env
        leaves "${shifted[@]}"
        leaves "${back[@]}"
        leaves ns --time --boottime 200000 # without --fork, exec may or may not change the namespace
        tells alive env
        tells alive "${shifted[@]}"
        ends
        if [ "$owner" = env ]; then frees 1 "${shifted[@]}"; else frees 1 env; fi
        empty
    done
}

@test "a container killed with its namespace is reclaimed by root of the machine" {
    need_initial_pid_ns
    need --pid --fork --mount-proc
    member container
    leaves env
    tells alive env
    # Another container cannot know, and reports who can.
    leaves container
    tells unknown container
    jq -e '.endpoints[0].why | contains("as root on the machine itself")' "$work/ps"
    # Nor can a visible process be declared dead.
    run -1 ivshmem reap --container-gone 0.1 "$region"
    [[ $output == *"is alive and uses its memory: end it"* ]]
    ends
    frees 1 env
    empty
    # A job reaps, too.
    member container
    ends
    until_true tells dead env
    all_remote
    mpi job -n 2 "$programs/idle_ranks" 0
    good job 2
    empty
}

@test "a container killed with its namespace is reclaimed in another container if an administrator declares it dead" {
    need --pid --fork --mount-proc
    member container
    member container
    run -1 container ivshmem reap --container-gone nobody "$region"
    ends
    # Each is a container of its own.
    run -1 container ivshmem reap --vm-gone 1.1 "$region"
    [[ $output == *"is a container of this machine"*"--container-gone 1.1"* ]]
    run -0 container ivshmem reap --container-gone 1.1 "$region"
    [[ $output == *"freed 1 of 2 endpoints"* ]]
    in_use 1
    run -0 container ivshmem reap --endpoint 0.1 "$region"
    [[ $output == *"freed 1 of 1 endpoints"* ]]
    empty
}

@test "declaring a container dead does not affect another one in the same pid namespace" {
    need --pid --fork --mount-proc --uts
    # shellcheck disable=SC2016
    joins container sh -c '
        box() { unshare --uts sh -c "hostname $1 && exec ivshmem check --between 0 --timeout 600 $2"; }
        box one "$1" & until [ -e "$2/joined" ]; do sleep 0.05; done; box other "$1" & wait' sh "$region" "$work"
    touch "$work/joined"
    until_true in_use 2
    other=$(ivshmem ps --json "$region" | jq -r '.endpoints[] | select(.host == "other") | "\(.endpoint).\(.generation)"')
    one=$(ivshmem ps --json "$region" | jq -r '.endpoints[] | select(.host == "one") | "\(.endpoint).\(.generation)"')
    for id in one "$one"; do
        run -1 container ivshmem reap --container-gone "$id" "$region"
        [[ $output == *"$id shares its pid namespace with containers of other names, which may be running: endpoints $other; "*"\`ivshmem reap --endpoint\`" ]]
        in_use 2
    done
    ends
    run -0 container ivshmem reap --endpoint "$one" "$region"
    # It is the only one now.
    run -0 container ivshmem reap --container-gone other "$region"
    empty
}

@test "declaring a container dead includes processes that were killed while they joined" {
    need --pid --fork --mount-proc
    member container
    local claim i bytes=
    claim=$(od -An -t u8 -j 4096 -N 8 "$region")
    claim=$((claim & ~7 | 1)) # joining, by the next entry
    for ((i = 0; i < 64; i += 8)); do bytes+=$(printf '\\x%02x' $((claim >> i & 255))); done
    printf %b "$bytes" | dd of="$region" bs=1 seek=$((4096 + 512)) conv=notrunc status=none
    in_use 2
    run -1 container ivshmem reap --vm-gone 1.1 "$region"
    [[ $output == *"endpoint 1.1 does not say in which VM or container it runs"* ]]
    ends
    run -0 container ivshmem reap --container-gone 0.1 "$region"
    [[ $output == *"freed 2 of 2 endpoints"* ]]
    empty
}

@test "within a container, deaths are recognised" {
    need --pid --fork --mount-proc
    # shellcheck disable=SC2016
    run -0 container sh -c '
        ivshmem check --between 0 --timeout 600 "$1" >/dev/null & pid=$!
        until ivshmem ps "$1" | grep -q live; do sleep 0.05; done
        ivshmem reap "$1"; kill -KILL $pid; wait $pid; ivshmem reap "$1"' sh "$region"
    [[ $output == *"freed 0 of 1"*"freed 1 of 1"* ]]
    empty
}

@test "the outer /proc, seen in an inner pid namespace, is not taken for its own" {
    need --pid --fork
    # In that /proc, the pid of the process in the container belongs to another process, or to none.
    # shellcheck disable=SC2016
    run -0 ns --pid --fork --kill-child sh -c '
        ivshmem check --between 0 --timeout 600 "$1" >/dev/null & pid=$!
        until ivshmem ps "$1" | grep -q live; do sleep 0.05; done
        for i in 1 2 3; do ivshmem reap "$1"; done; ivshmem ps --json "$1"
        kill -KILL $pid; wait $pid; ivshmem reap "$1"' sh "$region"
    [ "$(grep -c "freed 0 of 1" <<<"$output")" -eq 3 ]
    [[ $output != *'"process": "dead"'* ]]
    [[ ${lines[-1]} == *"freed 1 of 1"* ]]
    empty
}

@test "a boot id that a container hides proves nothing, and does not keep the dead alive" {
    need --mount
    local id=11112222-3333-4444-5555-666677778888 boot=/proc/sys/kernel/random/boot_id
    local cover=(covered "$boot" "$id") none=(covered "$boot" "")
    member "${cover[@]}"
    leaves env
    leaves "${cover[@]}"
    leaves covered "$boot" 99992222-3333-4444-5555-666677778888
    leaves "${none[@]}"
    ends
    frees 1 env
    empty
    member env
    leaves "${cover[@]}"
    leaves "${none[@]}"
    ends
    frees 1 "${cover[@]}"
    # The kernel's own file, which is different each time.
    # shellcheck disable=SC2016
    member ns --mount sh -c 'mount --bind /proc/sys/kernel/random/uuid "$0" && exec "$@"' "$boot"
    leaves env
    leaves "${cover[@]}"
    ends
    frees 1 env
    empty
}

@test "in a file on a disk, a hidden boot id makes a process unknown, and that is reported" {
    need --mount
    local id=11112222-3333-4444-5555-666677778888
    rm -f "$region"
    region=$work/region
    ivshmem format --size 16M "$region" >/dev/null
    case $(stat -f -c %T "$region") in
        tmpfs | hugetlbfs) skip "temporary files are in memory here" ;;
    esac
    member covered /proc/sys/kernel/random/boot_id "$id"
    leaves env
    tells unknown env
    leaves covered /proc/sys/kernel/random/boot_id "$id"
    ends
    leaves env
    run -0 ivshmem reap --endpoint 0.1 "$region"
    [[ $output == *"freed 1 of 1"* ]]
    empty
}

@test "two VMs restored from one snapshot do not judge each other's processes" {
    need --mount
    local one=11112222-3333-4444-5555-666677778881 two=11112222-3333-4444-5555-666677778882
    member firmware "$one"
    leaves firmware "$two"
    tells unknown firmware "$two"
    leaves firmware "$one"
    tells alive firmware "$one"
    leaves firmware 00000000-0000-0000-0000-000000000000
    ends
    leaves firmware "$two"
    frees 1 firmware "$one"
    empty
    # The same uuid, and a boot id that is hidden: no VM has booted again.
    member covered /proc/sys/kernel/random/boot_id 99992222-3333-4444-5555-666677778888
    leaves firmware "$one"
    ends
    frees 1 env
    member firmware "$one"
    # shellcheck disable=SC2016
    leaves ns --mount sh -c 'echo 99992222-3333-4444-5555-666677778888 >"$1/cover" &&
        mount --bind "$1/cover" /proc/sys/kernel/random/boot_id && mount -t tmpfs none /sys/class &&
        mkdir -p /sys/class/dmi/id && echo "$2" >/sys/class/dmi/id/product_uuid && shift 2 && exec "$@"' sh "$work" "$one"
    ends
    frees 1 env
    empty
}

@test "a user from whom /proc hides processes" {
    [ "$(id -u)" -eq 0 ] || skip "needs root, to be two users"
    need --mount
    chmod 666 "$region"
    # shellcheck disable=SC2016
    local other=(ns --mount sh -c 'mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"' sh)
    chmod 711 "$BATS_RUN_TMPDIR" 2>/dev/null || :
    setpriv --reuid 65534 --regid 65534 --clear-groups test -x "$IVSHM_INST/bin/ivshmem" || skip "the installation is not for other users"
    member env
    leaves "${other[@]}"
    tells unknown "${other[@]}"
    jq -e '.endpoints[0].why | contains("its pid is in use")' "$work/ps"
    # A user sees only processes of that user, root sees all; and everybody can see that a pid is not in use.
    tells alive env
    ends
    frees 1 "${other[@]}"
    member "${other[@]}"
    tells alive "${other[@]}"
    tells alive env
    leaves env
    ends
    frees 1 env
    empty
}

@test "a process in a user namespace" {
    local user=(unshare --user --map-root-user)
    "${user[@]}" true 2>"$work/unshare" || skip "$(<"$work/unshare")"
    # The file belongs to the user who is root in there.
    member env
    leaves "${user[@]}"
    tells alive "${user[@]}"
    ends
    frees 1 "${user[@]}"
    member "${user[@]}"
    leaves env
    tells alive env
    ends
    frees 1 env
    empty
}
