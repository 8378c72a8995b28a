#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and vm.bash share variables and functions.
# shellcheck disable=SC2154
#
# Pipes and files between guests and the host: everything arrives as it was, and nobody waits for a guest that is gone.

load vm

setup_file() { boot_guests 2 --size 16M; }

teardown_file() { end_guests; }

# begin NAME COMMAND...: in the background, its output and what it says in these files.
begin() { "${@:2}" >"$1" 2>"$1.err" </dev/null 3>&- & }

@test "bytes go from the host to a guest, to the other one, and back" {
    head -c 4M /dev/urandom >bytes
    # shellcheck disable=SC2016 # for the shell there
    begin pass0 vms exec 0 sh -c 'ivshmem recv one "$0" | ivshmem send two "$0"' "$region"
    # shellcheck disable=SC2016
    begin pass1 vms exec 1 sh -c 'ivshmem recv two "$0" | ivshmem send three "$0"' "$region"
    begin back ivshmem recv three "$region"
    ivshmem send one "$region" <bytes
    wait
    cat pass0.err pass1.err back.err
    cmp bytes back
    until_true region_is_empty
}

@test "a tree goes into a guest, by that one's server to the other, and to a server of the host" {
    mkdir -p tree/deep/er served
    seq 1000 >tree/deep/file
    printf '#!/bin/sh\n' >tree/deep/er/script
    chmod 754 tree/deep/er/script
    ln -s ../file tree/deep/er/link
    truncate -s 3M tree/hole
    begin get vms exec 0 ivshmem get --region "$region" tree /tmp/got
    ivshmem put --checksum --region "$region" tree tree
    wait
    begin guest vms exec 0 ivshmem serve --name guest --region "$region" /tmp/got
    begin host ivshmem serve --write --name host --region "$region" served
    server=$!
    until_true grep -q . guest
    until_true grep -q . host
    vms exec 1 ivshmem get --region "$region" guest:tree /tmp/here
    vms exec 1 ivshmem put --region "$region" host: /tmp/here/tree
    # It asks for what is not there, and for what is not to be had.
    run -1 vms exec 1 ivshmem get --region "$region" host:no /tmp/no
    run -1 vms exec 1 ivshmem get --region "$region" host:../bytes /tmp/no
    run -1 vms exec 1 ivshmem put --region "$region" guest: /tmp/here/tree
    vms exec 0 killall -INT ivshmem || : # its children may have ended first
    kill -INT $server
    wait || :
    for folder in . served; do (cd $folder && find tree -printf '%P %y %m %s %T@ %l\n' | grep -v ' d ' | sort); done >lists
    cat lists
    [ "$(head -n 4 lists)" = "$(tail -n +5 lists)" ]
    diff -r tree served/tree
    [ "$(du -k served/tree/hole | cut -f 1)" -lt 1024 ]
    until_true region_is_empty
}

@test "a guest is killed while it sends, and while it receives: the other side says so, and has what came before" {
    begin sends vms exec 0 sh -c "seq 1000000000 | ivshmem send out '$region'"
    begin out ivshmem recv --timeout 20 out "$region"
    begin receives vms exec 0 sh -c "ivshmem recv into '$region' | { sleep 2; cat; } >/dev/null"
    seq 1000000000 | ivshmem send --timeout 20 into "$region" 2>into.err 3>&- &
    until_true has_size out 1000000
    vms kill 0
    wait || :
    cat out.err into.err
    grep -q "^ivshmem: .*no sign of life" out.err
    grep -q "^ivshmem: .*no sign of life" into.err
    cmp -n "$(stat -c %s out)" out <(seq 1000000000 2>/dev/null)
    vms boot 0
    vms exec 0 ivshmem reap "$region"
    until_true region_is_empty
}

has_size() { [ "$(stat -c %s "$1")" -gt "$2" ]; }
