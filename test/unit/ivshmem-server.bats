#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# ivshmem-server: what it tells its clients, and that bad clients, its own death and a second server harm nobody. The
# tests are in Python, in server/. The server is built here, with sanitizers.

setup_file() {
    IVSHM_SRC=${IVSHM_SRC:-$(cd "$BATS_TEST_DIRNAME/../.." && pwd)}
    local core=$IVSHM_SRC/src/mpid/ch3/channels/nemesis/netmod/ivshmem/core
    export IVSHMEM_SERVER=$BATS_FILE_TMPDIR/ivshmem-server
    ${CC:-gcc} -std=gnu11 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -I"$core" \
        -o "$IVSHMEM_SERVER" "$IVSHM_SRC"/tools/server/*.c "$IVSHM_SRC"/tools/ivshmem_{format,text,tool}.c "$core"/*.c
}

# parts FILE: runs the tests in server/FILE.py. Not with descriptor 3, on which bats would wait for a child.
parts() {
    cd "$BATS_TEST_DIRNAME/server" || return
    /usr/bin/python3 -B -W error -m unittest "$1" 3>&-
}

@test "clients are told of each other, and ring each other's bells" { parts test_protocol; }

@test "bad clients cost nothing but themselves, also where descriptors run out" { parts test_bad_clients; }

@test "a server dies, is restarted, or is one of several: ids stay unique, and who has joined goes on" { parts test_restart; }

@test "what VMs leave in the region is freed when they are gone, and nothing else" { parts test_reaper; }

@test "who can connect, how the socket and the region are made, and what is refused" { parts test_socket; }

@test "QEMU joins, rings, is rung, dies, and survives the server" {
    command -v qemu-system-x86_64 >/dev/null || skip "no qemu-system-x86_64"
    parts test_qemu
}
