#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and vm.bash share variables and functions.
# shellcheck disable=SC2154
#
# libivshmem between guests and the host: blocks are shared, and locks go on when a holder is killed in another kernel.

load vm

setup_file() {
    build=$BATS_FILE_TMPDIR/library
    mkdir "$build"
    cp "$src"/examples/{Makefile,*.c} "$build"
    export PKG_CONFIG_PATH=$libdir/pkgconfig
    make -C "$build" LDLIBS="-Wl,-rpath,$libdir" CFLAGS="-O2 -g -Wall -Wextra -Werror -Wl,-rpath,$libdir"
    for program in kills taker; do
        # shellcheck disable=SC2046 # words of pkg-config
        gcc -O2 -g -Wall -Wextra -Werror -Wl,-rpath,"$libdir" $(pkg-config --cflags ivshmem) -o "$build/$program" \
            "$src/test/lib/$program.c" $(pkg-config --libs ivshmem)
    done
    boot_guests 2 --size 16M --add "$build"
}

teardown_file() { end_guests; }

# in_guest N PROGRAM ARGUMENT...
in_guest() { vms exec "$1" "$WORK/library/$2" "${@:3}"; }

# begin COMMAND...: in the background; prints into the file `said`.
begin() { "$@" >said 2>&1 </dev/null 3>&- & }

# What the killed have left is freed by their guardians, soon.
is_free() { ivshmem check "$region" | grep "0 endpoints in use, 0 blocks in use"; }

@test "a cache of the host is read and written in guests" {
    begin library/cache serve "$region"
    in_guest 0 cache set key 'a value' "$region"
    [ "$(in_guest 1 cache get key "$region")" = 'a value' ]
    [ "$(library/cache get key "$region")" = 'a value' ]
    kill %1
    wait
}

@test "a buffer leads from one guest to another" {
    seq 200 >lines
    begin in_guest 1 buffer read "$region"
    in_guest 0 buffer write "$region" <lines
    wait
    cmp lines said
}

@test "a mutex that a guest's process held when it was killed goes to another guest, and to the host" {
    library/taker "$region" own >owner 3>&- &
    until_true grep -qx 0 owner
    for holder in 0 1; do
        begin in_guest $holder taker "$region" hold
        # The mutex was damaged the second time.
        until_true grep -qE '^(0|-130)$' said
        until_true grep -qE '^[0-9]{2,}$' said
        vms exec $holder kill -KILL "$(tail -n 1 said)"
        [ "$(in_guest $((1 - holder)) taker "$region" take)" = -130 ]
        [ "$(library/taker "$region" take)" = -130 ]
    done
    kill %1
    wait
    until_true is_free
}

@test "locks in a guest, with killed processes" {
    for mode in mutex barrier; do
        in_guest 0 kills "$region" $mode 20
    done
    until_true is_free
}
