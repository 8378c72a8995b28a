#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and vm.bash share variables and functions.
# shellcheck disable=SC2154
#
# ivshmem net: two guests and a network namespace of the host, which the region alone connects, when the other networks of
# the guests are down.

load vm

setup_file() {
    [ -c /dev/net/tun ] || skip "there is no /dev/net/tun: the kernel has no module tun"
    { [ "$(id -u)" -eq 0 ] && unshare -n true; } || skip "only root makes network namespaces and interfaces"
    boot_guests 2
}

teardown_file() { end_guests; }

# Ends all that is in the namespace.
teardown() {
    for pid in "${down[@]}"; do kill -KILL "$pid" || :; wait "$pid" || :; done
}

here() { nsenter -t "$namespace" -n "$@"; }
is_apart() { [ "$(readlink "/proc/$1/ns/net")" != "$(readlink /proc/self/ns/net)" ]; }

# on N COMMAND...: in guest N, over the region.
on() { here "$WORK/ssh" "10.9.0.$(($1 + 2))" "${@:2}"; }

@test "ssh and mpiexec need no other network" {
    down=()
    cat >"$WORK/ssh_config" <<END
Host 10.9.0.*
    User root
    IdentityFile $set_dir/key
    IdentitiesOnly yes
    HostKeyAlias $(cut -d ' ' -f 1 "$set_dir/known_hosts")
    UserKnownHostsFile $set_dir/known_hosts
    GlobalKnownHostsFile /dev/null
    BatchMode yes
    ConnectTimeout 60
    LogLevel ERROR
END
    printf '#!/bin/sh\nexec ssh -F "%s/ssh_config" "$@"\n' "$WORK" >"$WORK/ssh"
    chmod +x "$WORK/ssh"
    for guest in 0 1; do
        vms exec $guest ivshmem net up "10.9.0.$((guest + 2))/24" --background "$region"
    done
    unshare -n sleep 3000 >/dev/null 2>&1 3>&- &
    namespace=$!
    down+=("$namespace")
    until_true is_apart "$namespace"
    here ip link set lo up
    here ivshmem net up 10.9.0.1/24 "$region" >said 2>&1 3>&- &
    down+=("$!")
    until_true grep -q "on network default" said
    # Their virtual networks are turned off through the region.
    for guest in 0 1; do
        until_true on $guest true </dev/null
        # shellcheck disable=SC2016 # for the shell there
        on $guest 'for nic in /sys/class/net/eth*; do ip link set "${nic##*/}" down; done; ip route' </dev/null >routes
        cat routes
        [ "$(wc -l <routes)" -eq 1 ]
        grep -q "^10.9.0.0/24 dev mpi0" routes
    done
    # A file there and back, and between the guests.
    head -c 8M /dev/urandom >file
    on 0 "cat >/tmp/file" <file
    on 0 "ssh -y 10.9.0.3 'cat >/tmp/file' </tmp/file" </dev/null || on 0 "cat /tmp/file" </dev/null | on 1 "cat >/tmp/file"
    on 1 "cat /tmp/file" </dev/null | cmp - file
    here timeout --foreground -k 10 "$limit" mpiexec -localhost 10.9.0.1 -launcher ssh -launcher-exec "$WORK/ssh" \
        -wdir /tmp -hosts 10.9.0.2,10.9.0.3 -n 2 "$WORK/exchange" </dev/null >out 2>&1 || { cat out; return 1; }
    through_region out 2
    here ivshmem net status --json "$region" | jq -e '[.[] | select(has("sent_bytes"))] | length == 1 and
        .[0].peers == 2 and .[0].sent_bytes > 8000000 and .[0].received_bytes > 8000000 and .[0].refused == 0'
    # What ends the connection by which it was started goes on in the background.
    for guest in 0 1; do on $guest 'ivshmem net down >/dev/null 2>&1 &' </dev/null; done
    here ivshmem net down
    until_true region_is_empty
}
