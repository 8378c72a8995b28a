#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# libivshmem as a program uses it: found by pkg-config, from C, C++ and Python; its locks while processes are killed; and
# what `ivshmem ps` and `reap` say of its blocks.

load ivshmem

eval "$(declare -f setup_file | sed '1s/.*/setup_command()/')"

# An installation of the library alone, and programs with it.
setup_file() {
    setup_command
    local core=$IVSHM_SRC/src/mpid/ch3/channels/nemesis/netmod/ivshmem/core inst=$BATS_FILE_TMPDIR/inst
    mkdir -p "$inst/include" "$inst/lib/pkgconfig"
    cp "$IVSHM_SRC/src/lib/ivshmem.h" "$inst/include"
    sed -e 's|=up$|../..|; s|=includedir|include|; s|=libdir|lib|; s|=version|0|' "$IVSHM_SRC/src/lib/ivshmem.pc.in" \
        >"$inst/lib/pkgconfig/ivshmem.pc"
    ${CC:-gcc} -std=gnu11 -O2 -g -Wall -Wextra -Werror -fPIC -shared -I"$core" -o "$inst/lib/libivshmem.so.0" \
        "$IVSHM_SRC"/src/lib/*.c "$core"/*.c -Wl,-soname,libivshmem.so.0 -Wl,-z,defs \
        -Wl,--version-script="$IVSHM_SRC/src/lib/ivshmem.map"
    ln -s libivshmem.so.0 "$inst/lib/libivshmem.so"
    export PKG_CONFIG_PATH=$inst/lib/pkgconfig LD_LIBRARY_PATH=$inst/lib
    cp -r "$IVSHM_SRC/examples" "$BATS_FILE_TMPDIR"
    make -C "$BATS_FILE_TMPDIR/examples" CFLAGS='-O2 -g -Wall -Wextra -Werror'
    for program in check kills; do
        # shellcheck disable=SC2046 # words of pkg-config
        ${CC:-gcc} -O2 -g -Wall -Wextra -Werror $(pkg-config --cflags ivshmem) -o "$BATS_FILE_TMPDIR/$program" \
            "$IVSHM_SRC/test/lib/$program.c" $(pkg-config --libs ivshmem)
    done
}

setup() {
    cd "$BATS_FILE_TMPDIR" || exit
    r=$(mktemp -u /dev/shm/ivshmem-lib.XXXXXX)
    jobs=()
    ivshmem format --size 16M "$r" >/dev/null
}

teardown() {
    end_jobs
    rm -f "$r"
    [ -z "${other:-}" ] || rm -rf "$other"
}

# begin COMMAND...: in the background, its output in $BATS_TEST_TMPDIR/NUMBER, from 0.
begin() {
    "$@" <&0 >"$BATS_TEST_TMPDIR/${#jobs[@]}" 2>&1 3>&- 8>&- &
    jobs+=("$!")
}

# Nobody is on the region, and nothing is allocated.
is_empty() {
    ivshmem reap "$r" >/dev/null
    run -0 ivshmem check "$r"
    says "0 endpoints in use, 0 blocks in use"
}

# has_block NAME STATE HOLDERS
has_block() {
    [ "$(ivshmem ps --json "$r" | jq -c --arg name "$1" '[.blocks[] | select(.name == $name) | .state, (.holders | length)]')" = \
        "[\"$2\",$3]" ]
}

@test "exports ivshmem_* alone, all that the header declares, with a version" {
    nm -D --defined-only inst/lib/libivshmem.so.0 | sed -n 's/.* T //p' | sort >exported
    run ! grep -vE '^ivshmem_[a-z_]+@@IVSHMEM_0$' exported
    sed 's/ivshmem[a-z_]*(3)//g' inst/include/ivshmem.h | grep -oE '\bivshmem_[a-z_]+\(' | tr -d '(' | sort -u >declared
    diff declared <(sed 's/@.*//' exported)
    while read -r name; do
        grep -qw "$name" "$IVSHM_SRC"/doc/ivshmem*.3.scd || { echo "no manual page has $name"; return 1; }
    done <declared
}

@test "the header is C, and C++, and complete" {
    printf '#include <ivshmem.h>\nivshmem_mutex m;\nint main(void) { return ivshmem_open(0, 0, 0) > (int) sizeof(m); }\n' >header.c
    cp header.c header.cpp
    for how in 'gcc -std=c99 -pedantic' 'clang -std=c11' 'g++ -std=c++11 -pedantic' 'clang++ -std=c++17'; do
        command -v "${how%% *}" || continue
        file=header.c
        [[ $how != *++* ]] || file=header.cpp
        # shellcheck disable=SC2046,SC2086 # words
        $how -Wall -Wextra -Werror $(pkg-config --cflags ivshmem) -o header $file $(pkg-config --libs ivshmem)
    done
}

@test "every call does what it promises, and says what was wrong" {
    timeout 300 ./check "$r"
    is_empty
}

@test "refuses what is no region, one of another version, and one that it may not open" {
    rm "$r"
    head -c 4M /dev/zero >"$r"
    printf 'other data' | dd of="$r" conv=notrunc status=none
    run -1 env LIBIVSHMEM=inst/lib/libivshmem.so.0 python3 examples/counter.py 1 1 "$r"
    says "is neither a region nor empty"
    rm "$r"
    head -c 1M /dev/zero >"$r"
    run -1 python3 examples/counter.py 1 1 "$r"
    says "at least 4 MiB are needed"
    rm "$r"
    ivshmem format --size 4M "$r"
    printf '\1' | dd of="$r" bs=1 seek=16 conv=notrunc status=none
    run -1 python3 examples/counter.py 1 1 "$r"
    says "layout version 1, this program needs"
    [ "$(id -u)" -eq 0 ] || skip "only root can become somebody else"
    other=$(mktemp -d /tmp/ivshmem-lib.XXXXXX)
    cp examples/cache inst/lib/libivshmem.so.0 "$other"
    chmod -R go+rX "$other" && chmod 600 "$r"
    run -1 setpriv --reuid 65534 --clear-groups env LD_LIBRARY_PATH="$other" "$other/cache" get x "$r"
    says "no permission to open"
}

# Many more are killed by hand: kills REGION MODE 10000
@test "locks go on while processes that hold them or wait for them are killed" {
    for mode in mutex rwlock cond barrier; do
        timeout 600 ./kills "$r" $mode 40
        is_empty
    done
}

@test "a buffer: a writer and readers, either first, and after a killed reader" {
    seq 500 >lines
    begin examples/buffer read "$r"
    until_true has_block example-buffer live 1
    examples/buffer write "$r" <lines
    wait "${jobs[0]}"
    cmp lines "$BATS_TEST_TMPDIR/0"
    # More lines than there is room for, so that somebody waits.
    begin examples/buffer write "$r" <lines
    until_true has_block example-buffer live 1
    begin examples/buffer read "$r"
    wait "${jobs[1]}" "${jobs[2]}"
    cmp lines "$BATS_TEST_TMPDIR/2"
    is_empty
}

@test "a cache: set, get, and what a killed writer leaves" {
    begin examples/cache serve "$r"
    until_true has_block example-cache live 1
    run -1 examples/cache get one "$r"
    examples/cache set one 'the value' "$r"
    run -0 examples/cache get one "$r"
    [ "$output" = 'the value' ]
    run -0 examples/cache bench 2000 "$r"
    says "get: 2000 in"
    [[ $output != *missing* ]]
    begin examples/cache bench 1000000000 "$r"
    until_true has_block example-cache live 2
    kill -KILL "${jobs[1]}"
    until_true has_block example-cache live 1 # its guardian has seen it
    examples/cache bench 2000 "$r"
    kill "${jobs[0]}"
    wait "${jobs[0]}"
    is_empty
}

@test "the cache's benchmark of a memcached" {
    command -v memcached >/dev/null || skip "no memcached: apt-get install memcached"
    # A port that is free now; the kernel gives others to those who ask for none.
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    begin memcached -l 127.0.0.1 -p "$port" -u nobody -U 0
    until_true bash -c ": </dev/tcp/127.0.0.1/$port"
    run -0 examples/cache bench 500 127.0.0.1:"$port"
    says "get: 500 in"
    [[ $output != *missing* ]]
}

@test "Python adds up with Python" {
    for _ in 1 2 3; do
        begin env PYTHONDONTWRITEBYTECODE=1 python3 examples/counter.py 300 3 "$r"
    done
    wait "${jobs[0]}" "${jobs[1]}" "${jobs[2]}"
    for i in 0 1 2; do
        [ "$(cat "$BATS_TEST_TMPDIR/$i")" = 900 ]
    done
    is_empty
}

@test "ps shows blocks and who holds them, and reap frees those of the dead" {
    begin examples/cache serve "$r"
    until_true has_block example-cache live 1
    run -0 ivshmem ps "$r"
    says "BLOCK "
    [[ $output =~ example-cache\ +[0-9.]+\ MiB\ +live\ +0\.[0-9]+\ +0\.[0-9]+ ]]
    # Without a guardian, nobody marks it.
    kill -KILL "${jobs[0]}"
    wait "${jobs[0]}" || :
    until_true is_empty
    cat >keep.py <<'END'
import os, sys
sys.path.insert(0, "examples")
sys.dont_write_bytecode = True
import ivshmem
region = ivshmem.Region(sys.argv[1])
block = region.create("kept", 5000) if len(sys.argv) < 3 else region.attach("kept")
print("ready", flush=True)
os.read(0, 1)
END
    mkfifo end
    exec 8<>end
    begin python3 keep.py "$r" <end
    until_true grep -q ready "$BATS_TEST_TMPDIR/1"
    begin python3 keep.py "$r" attach <end
    until_true grep -q ready "$BATS_TEST_TMPDIR/2"
    kill -KILL "${jobs[1]}"
    wait "${jobs[1]}" || :
    run -0 ivshmem reap "$r"
    says "is still attached"
    has_block kept orphan 1
    run -0 ivshmem ps "$r"
    says 'kept '
    kill -KILL "${jobs[2]}"
    wait "${jobs[2]}" || :
    exec 8>&-
    run -0 ivshmem reap "$r"
    says 'freed block kept of endpoint'
    is_empty
}
