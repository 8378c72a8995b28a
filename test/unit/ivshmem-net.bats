#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# shellcheck disable=SC2154 # bats sets its variables
#
# ivshmem net: interfaces in network namespaces of this machine, which the region alone connects. The namespaces are
# those of processes, and end with them.

load ivshmem

setup() {
    dir=$BATS_TEST_TMPDIR # bats removes it, in any case
    jobs=() holders=() pids=()
    r=$(mktemp -u /dev/shm/ivshmem-net.XXXXXX)
    [ "$(id -u)" -eq 0 ] || skip "only root makes network namespaces and interfaces"
    [ -c /dev/net/tun ] || skip "there is no /dev/net/tun: the kernel has no module tun"
    unshare -n true || skip "there are no network namespaces here"
    command -v ping >/dev/null || skip "ping is missing (iputils-ping)"
    ivshmem format --size 64M "$r" >/dev/null
}

teardown() {
    end_jobs
    rm -f "$r"
}

# begin NAME COMMAND...: in the background; its pid is in $pid, its output in $dir/NAME.
begin() { in_background "$dir/$1" "${@:2}"; }

# in_ns N COMMAND...: in namespace N. hold N makes it, with a process that only sleeps.
in_ns() {
    nsenter -t "${holders[$1]}" -n "${@:2}"
}
hold() {
    unshare -n sleep 3000 >/dev/null 2>&1 3>&- &
    holders[$1]=$!
    jobs+=("$!")
    until_true is_apart "$!"
    nsenter -t "$!" -n ip link set lo up
}
is_apart() { [ "$(readlink "/proc/$1/ns/net")" != "$(readlink /proc/self/ns/net)" ]; }

# up N ADDRESS ARG...: an interface in namespace N, ready; its output is in $dir/N, its pid in ${pids[N]}.
up() {
    [ -n "${holders[$1]:-}" ] || hold "$1"
    begin "$1" nsenter -t "${holders[$1]}" -n "${program:-ivshmem}" net up "${@:2}" "$r"
    pids[$1]=$pid
    until_true grep -q . "$dir/$1"
    grep -q "^[^ ]*: $2 on network" "$dir/$1" || { cat "$dir/$1"; return 1; }
}

# three: namespaces 1 to 3 are on the network.
three() { for i in 1 2 3; do up "$i" "10.77.0.$i/24"; done; }

# reaches N ADDRESS ARG...: ping, until there is an answer.
reaches() { until_true in_ns "$1" ping -c 1 -W 2 "${@:3}" "$2"; }

# counter N NAME: of the interface in namespace N.
counter() {
    in_ns "$1" ivshmem net status --json "$r" | jq "[.[] | select(has(\"peers\"))][${which:-0}].$2"
}
counter_is() { [ "$(counter "$1" "$2")" -ge "$3" ]; }

# ends PID STATUS NAME [TEXT]: it ends with that status, after it has said that.
ends() {
    local status=0
    wait "$1" || status=$?
    cat "$dir/$3"
    [ "$status" -eq "$2" ]
    [ -z "${4:-}" ] || grep -qF -- "$4" "$dir/$3"
}

# Nobody is on the region, nothing is allocated, and it is sound.
is_empty() {
    run -0 ivshmem check "$r"
    says "0 endpoints in use, 0 blocks in use"
}

# serve N ADDRESS: a server of net_transfer.py in namespace N; its output is in $dir/served.N.
serve() {
    begin "served.$1" nsenter -t "${holders[$1]}" -n "$BATS_TEST_DIRNAME/net_transfer.py" serve "$2"
    until_true grep -q ready "$dir/served.$1"
}
transfer() { in_ns "$1" "$BATS_TEST_DIRNAME/net_transfer.py" "${@:2}"; }
begin_transfer() {
    begin "transfer.$1.${#jobs[@]}" nsenter -t "${holders[$1]}" -n "$BATS_TEST_DIRNAME/net_transfer.py" "${@:2}"
}

# peer NAME JOB WHAT...: net_peer.c, after it has sent what it sends.
peer() {
    local core=$IVSHM_SRC/src/mpid/ch3/channels/nemesis/netmod/ivshmem/core
    [ -x "$BATS_FILE_TMPDIR/net_peer" ] ||
        gcc -std=gnu11 -O2 -I"$core" -o "$BATS_FILE_TMPDIR/net_peer" "$BATS_TEST_DIRNAME/net_peer.c" "$core"/*.c
    begin "$1" "$BATS_FILE_TMPDIR/net_peer" "$r" "${@:2}"
    until_true grep -q . "$dir/$1"
    grep -q ^done "$dir/$1" || { cat "$dir/$1"; return 1; }
}

@test "wrong usage is one line and status 2" {
    says_usage "net: expected net up, net down or net status" net
    says_usage "net sideways: expected net up" net sideways
    says_usage "net up needs the address" net up
    for address in 10.77.0.1 10.77.0.1/ 10.77.0.1/0 10.77.0.1/33 10.77.0.1/x 10.77.0.1/-1 10.77.0/24 10.77.0.256/24 \
        fd77::1 fd77::1/129 fd77::1::2/64 host/24 /24 "" "10.77.0.1/24 " 10.77.0.1/24/3 "$(printf %0100d 1)/24"; do
        says_usage "is not an address with the length of its network" net up "$address" "$r"
    done
    says_usage "10.77.0.0/24 is the address of the network itself" net up 10.77.0.0/24 "$r"
    says_usage "10.77.0.255/24 is the network's broadcast address" net up 10.77.0.255/24 "$r"
    says_usage "is a multicast" net up 224.0.0.1/24 "$r"
    says_usage "is a multicast" net up ff02::1/64 "$r"
    says_usage "is a loopback address" net up 127.0.0.1/8 "$r"
    says_usage "is the loopback address" net up ::1/128 "$r"
    says_usage "is no address" net up 0.0.0.0/24 "$r"
    for name in "" sixteen-letters- a/b "a b" mpi%d . ..; do
        says_usage "is no name of an interface" net up 10.77.0.1/24 --name "$name" "$r"
        says_usage "is no name of an interface" net down --name "$name"
    done
    for name in "" a/b "a b" "$(printf %033d 0)"; do
        says_usage "--network $name is no name" net up 10.77.0.1/24 --network "$name" "$r"
    done
    for mtu in "" 0 67 65522 -1 x 1500x 99999999999999999999; do
        says_usage "is not a number of bytes from 68 to 65521" net up 10.77.0.1/24 --mtu "$mtu" "$r"
    done
    says_usage "--json is for net status" net up 10.77.0.1/24 --json "$r"
    says_usage "--network, --mtu and --background are for net up" net status --background "$r"
    says_usage "--name is for net up and net down" net status --name mpi0 "$r"
    says_usage "net down takes no region" net down mpi0
    says_usage "takes one region" net up 10.77.0.1/24 "$r" "$r"
    is_empty
}

@test "what is missing, forbidden or in use is one line with advice, and leaves nothing behind" {
    fails() { # TEXT COMMAND...
        run -1 --separate-stderr "${@:2}"
        [ -z "$output" ]
        [ "${#stderr_lines[@]}" -eq 1 ]
        [[ $stderr == "ivshmem: "*"$1"* ]] || { echo "$stderr"; return 1; }
    }
    for i in 1 2 3; do hold $i; done
    net_up=(nsenter -t "${holders[1]}" -n ivshmem net up 10.77.0.1/24)
    fails "$dir/none" "${net_up[@]}" "$dir/none"
    head -c 4M /dev/urandom >"$dir/foreign"
    fails "neither a region nor empty" "${net_up[@]}" "$dir/foreign"
    fails "cannot open /dev/net/tun: No such file or directory; load the kernel's module tun" \
        unshare -m sh -c "mount -t tmpfs none /dev/net && exec \"\$@\"" - "${net_up[@]}" "$r"
    fails "no permission to make the network interface mpi0: run" \
        nsenter -t "${holders[1]}" -n setpriv --bounding-set=-net_admin --inh-caps=-net_admin ivshmem net up 10.77.0.1/24 "$r"
    fails "no \`ivshmem net up\` has the interface mpi0 in this network namespace" in_ns 1 ivshmem net down
    is_empty
    # In use: by this machine, by a peer, by the same name.
    in_ns 1 ip addr add 10.77.0.1/24 dev lo
    fails "the address 10.77.0.1 is in use on this machine, by its interface lo" "${net_up[@]}" "$r"
    in_ns 1 ip addr del 10.77.0.1/24 dev lo
    up 1 10.77.0.1/24
    fails "the network interface mpi0 exists already" in_ns 1 ivshmem net up 10.77.0.2/24 "$r"
    fails "the address 10.77.0.1 (endpoint " in_ns 2 ivshmem net up 10.77.0.1/16 "$r"
    says_stderr_too "is in use: choose another one"
    up 2 fd77::1/64
    fails "the address fd77::1 (endpoint " in_ns 3 ivshmem net up fd77:0::0:1/64 "$r"
    # Another user may not end it.
    chmod 666 "$r"
    fails "no permission to end the interface mpi0" in_ns 1 setpriv --reuid 65534 --clear-groups ivshmem net down
    in_ns 1 ivshmem net down
    in_ns 2 ivshmem net down
    # Another version, and a region without room.
    peer other ivshmem-net/v2/anything stay
    fails "is a network interface of version 2, this is version 1: run the same release of ivshmem everywhere" \
        "${net_up[@]}" "$r"
    run -0 --separate-stderr ivshmem net status "$r"
    [[ $stderr == *"is a network interface of version 2"* ]]
    kill "$pid"
    rm "$r"
    ivshmem format --size 4M "$r"
    peer full other-job fill
    fails "$r" "${net_up[@]}" "$r"
    [[ $stderr == *"4 MiB"* ]] || { echo "$stderr"; return 1; }
    run ! in_ns 1 ip link show mpi0
}
says_stderr_too() { [[ $stderr == *"$1"* ]] || { echo "$stderr"; return 1; }; }

@test "three machines: every kind of packet, through the region" {
    three
    reaches 1 10.77.0.2
    reaches 3 10.77.0.2
    # Large, without fragments; IPv6 by neighbour discovery, and to all; broadcasts.
    reaches 1 10.77.0.3 -s 64000 -M "do"
    reaches 2 fe80::69:aff:fe4d:1%mpi0
    for i in 1 2 3; do reaches 2 ff02::1%mpi0 -c 3 -W 1; done
    serve 1 10.77.0.1
    serve 2 10.77.0.2
    for i in 1 2; do
        until_true eval "transfer 3 shout 10.77.0.255 'hello to $i' && sleep 0.2 && grep -q 'hello to $i' '$dir/served.$i'"
    done
    # Both directions at once, to both, and from both.
    local before after
    before=$(counter 3 sent_bytes)
    all=()
    for step in "3 echo 10.77.0.1 40" "3 echo 10.77.0.2 40" "2 echo 10.77.0.1 40" "1 echo 10.77.0.2 40"; do
        # shellcheck disable=SC2086
        begin_transfer $step
        all+=("$pid")
    done
    for pid in "${all[@]}"; do wait "$pid" || { cat "$dir"/transfer.*; return 1; }; done
    after=$(counter 3 sent_bytes)
    echo "sent $before to $after bytes"
    [ $((after - before)) -gt $((2 * 40 << 20)) ]
    [ "$(counter 3 refused)" -eq 0 ]
    [ "$(counter 3 broken)" -eq 0 ]
    [ "$(counter 3 peers)" -eq 2 ]
    run -0 ivshmem net status "$r"
    for i in 1 2 3; do [[ $output =~ default\ +10.77.0.$i/24\ +02:69:0a:4d:00:0$i\ +mpi0 ]]; done
    run -0 ivshmem ps "$r"
    says "ivshmem-net/v1/default/10.77.0.2/24/mpi0"
    for i in 1 2 3; do in_ns "$i" ivshmem net down; done
    for i in 1 2 3; do ends "${pids[i]}" 0 "$i"; done
    is_empty
}

@test "a small MTU, and a small region" {
    rm "$r"
    ivshmem format --size 4M "$r"
    up 1 10.77.0.1/24 --mtu 1500
    up 2 10.77.0.2/24 --mtu 1280
    up 3 10.77.0.3/24
    serve 2 10.77.0.2
    serve 3 10.77.0.3
    until_true transfer 1 echo 10.77.0.2 10
    until_true transfer 1 echo 10.77.0.3 10
    reaches 3 10.77.0.1 -s 60000
    in_ns 2 ip -j link show mpi0 | jq -e '.[0].mtu == 1280'
}

@test "one that is killed is forgotten, and returns with its address or another one" {
    three
    reaches 1 10.77.0.3
    kill -KILL "${pids[3]}"
    until_true eval "[ \"\$(counter 1 peers)\" -eq 1 ]"
    # Nobody holds on to its memory.
    until_true eval "ivshmem reap '$r'; [ \"\$(ivshmem ps --json '$r' | jq '.endpoints | length')\" -eq 2 ]"
    reaches 1 10.77.0.2
    up 3 10.77.0.3/24
    reaches 1 10.77.0.3
    kill -KILL "${pids[3]}"
    wait "${pids[3]}" || :
    up 3 10.77.0.33/24
    reaches 3 10.77.0.2
    reaches 1 10.77.0.33
    # In the midst of a transfer.
    serve 2 10.77.0.2
    begin_transfer 1 echo 10.77.0.2 2000
    local victim=$pid
    until_true counter_is 1 sent_bytes 20000000
    kill -KILL "${pids[2]}"
    # Until it has ended, the address is its own.
    wait "${pids[2]}" || :
    reaches 3 10.77.0.1
    up 2 10.77.0.2/24
    reaches 2 10.77.0.1
    kill -KILL "$victim" || :
    for i in 1 2 3; do in_ns "$i" ivshmem net down; done
    is_empty
}

@test "two networks on one region do not see each other" {
    up 1 10.77.0.1/24
    up 2 10.77.0.2/24
    up 3 10.77.0.1/24 --network other --name other0
    up 4 10.77.0.4/24 --network other
    up 5 10.77.0.5/24 --network oth
    reaches 1 10.77.0.2
    reaches 4 10.77.0.1
    run ! in_ns 1 ping -c 1 -W 2 10.77.0.4
    run ! in_ns 3 ping -c 1 -W 2 10.77.0.2
    run ! in_ns 5 ping -c 1 -W 2 10.77.0.1
    [ "$(counter 1 peers) $(counter 3 peers) $(counter 5 peers)" = "1 1 0" ]
    # The pings to 10.77.0.1 from 4 reached 3, not 1.
    in_ns 4 ping -c 2 -i 0.2 10.77.0.1
    # One machine may be on both.
    in_ns 1 ivshmem net up 10.78.0.1/24 --network other --name mpi1 --background "$r"
    up 6 10.78.0.6/24 --network other
    reaches 6 10.78.0.1
    in_ns 1 ivshmem net down --name mpi1
    [ "$(in_ns 1 ivshmem net status --json "$r" | jq -c '[.[].network] | sort')" = '["default","default","oth","other","other","other"]' ]
}

@test "a second machine with the same hardware address is noticed" {
    three
    in_ns 2 ip link set mpi0 address 02:69:0a:4d:00:01
    in_ns 2 ping -c 2 -i 0.2 -W 1 10.77.0.3 || :
    in_ns 2 ping -b -c 2 -i 0.2 -W 1 10.77.0.255 || :
    until_true counter_is 1 conflicts 1
    grep -q "^ivshmem: warning: mpi0: 10.77.0.2 (endpoint .* sends from the hardware address of this interface" "$dir/1"
    [ "$(grep -c warning "$dir/1")" -eq 1 ]
    reaches 1 10.77.0.3
}

@test "down, a signal, a removed interface: it ends and leaves nothing behind" {
    for signal in INT TERM HUP; do
        up 1 10.77.0.1/24
        kill -s $signal "${pids[1]}"
        ends "${pids[1]}" 0 1
        run ! in_ns 1 ip link show mpi0
        is_empty
    done
    up 1 10.77.0.1/24
    in_ns 1 ip link del mpi0
    ends "${pids[1]}" 1 1 "the network interface mpi0 has been removed by somebody"
    is_empty
    hold 2
    in_ns 1 ivshmem net up 10.77.0.1/24 --background "$r" >"$dir/out"
    grep -q "^mpi0: 10.77.0.1/24 on network default, endpoint 0 of region $r, 0 peers" "$dir/out"
    pid=$(ivshmem net status --json "$r" | jq '.[0].pid')
    [ "$(readlink "/proc/$pid/fd/2" "/proc/$pid/cwd")" = "/dev/null
/" ]
    # Its errors before that are as in the foreground.
    run -1 in_ns 2 ivshmem net up 10.77.0.1/24 --background "$r"
    says "is in use: choose another one"
    in_ns 1 ivshmem net down
    [ ! -d "/proc/$pid" ] || grep -q "^State:.Z" "/proc/$pid/status"
    run ! in_ns 1 ip link show mpi0
    is_empty
}

@test "one that is stopped loses what is sent to it, and holds up nobody" {
    three
    reaches 1 10.77.0.2
    reaches 1 10.77.0.3
    serve 2 10.77.0.2
    kill -STOP "${pids[3]}"
    # More than its ring, cells and queue hold: by UDP, which nobody resends.
    until_true eval "in_ns 1 ping -q -f -c 300 -s 60000 -W 1 10.77.0.3; counter_is 1 dropped 1"
    transfer 1 echo 10.77.0.2 10
    reaches 2 10.77.0.1
    kill -CONT "${pids[3]}"
    reaches 1 10.77.0.3
    reaches 3 10.77.0.2
    [ "$(counter 1 broken) $(counter 2 broken) $(counter 3 broken)" = "0 0 0" ]
}

@test "one that nobody here can wake: in another pid namespace" {
    up 1 10.77.0.1/24
    hold 2
    begin 2 nsenter -t "${holders[2]}" -n unshare -p -f --kill-child ivshmem net up 10.77.0.2/24 "$r"
    until_true grep -q "on network" "$dir/2"
    reaches 1 10.77.0.2
    reaches 2 10.77.0.1
    serve 2 10.77.0.2
    transfer 1 echo 10.77.0.2 20
}

# ticks PID: the processor's time that it has used, in hundredths of a second.
ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }

@test "an idle network leaves the processor to others" {
    three
    reaches 1 10.77.0.2
    sleep 1
    before=$(ticks "${pids[1]}")
    sleep 5
    used=$(($(ticks "${pids[1]}") - before))
    echo "$used ticks in 5 s"
    [ "$used" -lt 50 ]
    # Where it naps, too.
    hold 4
    begin 4 nsenter -t "${holders[4]}" -n unshare -p -f --kill-child ivshmem net up 10.77.0.4/24 "$r"
    until_true grep -q "on network" "$dir/4"
    reaches 1 10.77.0.4
    sleep 1
    before=$(ticks "${pids[1]}")
    sleep 5
    used=$(($(ticks "${pids[1]}") - before))
    echo "$used ticks in 5 s"
    [ "$used" -lt 50 ]
}

@test "a hostile peer costs its own connection only" {
    compile asan -g -fsanitize=address,undefined -fno-sanitize-recover=all
    export ASAN_OPTIONS=detect_leaks=1
    program=$BATS_FILE_TMPDIR/asan
    up 1 10.77.0.1/24
    up 2 10.77.0.2/24
    reaches 1 10.77.0.2
    local job=ivshmem-net/v1/default/10.77.0.66/24/evil n=0
    for case in $(seq 0 17); do
        peer evil "$job" send "$case"
        n=$((n + 1))
        until_true counter_is 1 broken "$n" || { echo "case $case"; return 1; }
        until_true counter_is 2 broken "$n"
        kill "$pid"
        wait "$pid" || :
    done
    grep "^ivshmem: warning: mpi0: 10.77.0.66 (endpoint .* sent .*: nothing more is received from it" "$dir/1" | sed 's/.*sent/sent/' | sort | uniq -c
    # Strangers are not heard at all, nor those of another network.
    for stranger in job ivshmem-net/v1/other/10.77.0.66/24/evil ivshmem-net/v1/default/evil ivshmem-net/v1/; do
        peer evil "$stranger" send 1
        kill "$pid"
    done
    for seed in 1 2; do
        peer evil "$job" random "$seed"
        peer noise ivshmem-net/v1/default/10.77.0.67/24/noise noise "$seed"
        reaches 1 10.77.0.2
        kill "$pid"
    done
    reaches 2 10.77.0.1
    serve 2 10.77.0.2
    transfer 1 echo 10.77.0.2 5
    in_ns 1 ivshmem net down
    in_ns 2 ivshmem net down
    ends "${pids[1]}" 0 1
    ends "${pids[2]}" 0 2
}
