#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# shellcheck disable=SC2016,SC2046 # what another shell is to expand; what may be no word
#
# ivshmem put and get: files and trees arrive as they are, or not at all; and nothing comes out of the folder.

load ivshmem

setup() {
    cd "$BATS_TEST_TMPDIR" || return # bats removes it, in any case
    r=$(mktemp -u /dev/shm/ivshmem-files.XXXXXX)
    export MPIR_CVAR_NEMESIS_IVSHMEM_REGION=$r
    jobs=()
    ivshmem format --size 16M "$r" >/dev/null
    umask 022
}

teardown() {
    end_jobs
    [ -z "${mounted:-}" ] || umount "$mounted"
    rm -f "$r"
}

# begin NAME COMMAND...: in the background; its pid is in $pid, what it says in NAME.err.
begin() { in_background "$1.err" "${@:2}"; }

# ends PID STATUS NAME [TEXT]: it ends with that status, after it has said that, or nothing.
ends() {
    local status=0
    wait "$1" || status=$?
    cat "$3.err"
    [ "$status" -eq "$2" ]
    if [ -n "${4:-}" ]; then grep -qF -- "$4" "$3.err"; else [ ! -s "$3.err" ]; fi
}

# Nobody is on the region, nothing is allocated, and no half of a target is left here.
is_clean() {
    run -0 ivshmem check "$r"
    says "0 endpoints in use, 0 blocks in use"
    [ -z "$(compgen -G '*.ivshmem-*')" ]
}

# exists FOLDER: something is being unpacked for it.
exists() { compgen -G "$1.ivshmem-*/*" >/dev/null; }

# What find says of a tree: kinds, modes, sizes, times, targets of links.
tree_of() { (cd "$1" && find . -printf '%P %y %m %l %T@ ' \( -type f -printf '%s %n' -o -true \) -printf '\n' | sort); }

@test "wrong usage is one line and status 2" {
    for c in put get; do
        says_usage "$c needs a name" $c
        says_usage "is no name for a pipe" $c a/b x
        says_usage "unknown option --json" $c --json x x
        says_usage "the region's name is empty" $c --region "" x x
    done
    says_usage "put needs the name of a file or folder" put x
    says_usage "get needs the name of a folder to make" get x
    says_usage "get takes one folder, but b was given as well" get x a b
    says_usage "unknown option --tee" get --tee 2 x a
    says_usage "unknown option --region" send --region "$r" x
    run -1 ivshmem put x none
    says "none: No such file or directory"
    mkdir full a a/same b b/same
    touch full/file
    run -1 ivshmem get x full
    says "full exists: expected the name of a folder that is to be made, or an empty one"
    run -1 ivshmem get x full/file
    says "exists"
    run -1 ivshmem get x .
    says "exists"
    run -1 ivshmem put x a/same b/same
    says "a/same and b/same have the same name"
    is_clean
}

@test "trees arrive as they are: modes, times, links, holes, names" {
    mkdir -p 'src/deep/er' src/empty
    head -c 3M /dev/urandom >src/file
    ln src/file src/deep/hard
    ln -s /nowhere/at/all src/absolute
    ln -s ../.. src/deep/up
    truncate -s 300M src/holes
    echo end >>src/holes
    touch $'src/new\nline' 'src/-x' "src/$(printf 'long%.0s' {1..50})"
    chmod 600 src/file
    chmod 555 src/empty
    mkfifo src/fifo
    touch -h -d '2001-02-03 04:05:06.789' src/absolute src/holes src/deep
    echo plain >-plain
    begin get ivshmem get x out
    run -0 ivshmem put x src -- -plain
    [ -z "$output" ]
    ends "$pid" 0 get
    diff <(tree_of src) <(tree_of out/src)
    diff -r --no-dereference -x fifo src out/src
    [ out/src/file -ef out/src/deep/hard ]
    [ "$(stat -c %b out/src/holes)" -lt 1000 ]
    cmp ./-plain ./out/-plain
    [ "$(stat -c %a out)" = 755 ]
    # An empty folder is replaced; "." stands for what is in a folder.
    mkdir other
    begin get ivshmem get --region "$r" x other/
    (cd src/deep && ivshmem put x .)
    ends "$pid" 0 get
    [ "$(ls other)" = "$(ls src/deep)" ]
    is_clean
}

@test "to several, and to any other program" {
    mkdir src
    head -c 5M /dev/urandom >src/file
    begin g1 ivshmem get x out1
    begin g2 ivshmem get x out2
    run -0 ivshmem put --tee 2 x src
    ends "${jobs[0]}" 0 g1
    ends "${jobs[1]}" 0 g2
    diff -r src out1/src
    diff -r src out2/src
    begin put ivshmem put x src
    [ "$(ivshmem recv x "$r" | tar -t)" = $'./src/\n./src/file' ]
    ends "$pid" 0 put
    is_clean
}

@test "if either side is killed or interrupted, there is no target, and the other one fails" {
    mkdir src
    head -c 100K /dev/urandom >src/a
    for victim in put get; do
        for signal in KILL TERM INT; do
            jobs=()
            begin get ivshmem get x out
            # An archive of which more is to come.
            begin put bash -c 'exec ivshmem send x "$0" < <(tar -cf - src | head -c 60000; exec sleep 100)' "$r"
            until_true exists out
            [ $victim = put ] && pid=${jobs[1]} || pid=${jobs[0]}
            kill -s $signal "$pid"
            if [ $victim = put ]; then
                ends "${jobs[0]}" 1 get "the sender (endpoint "
                wait "${jobs[1]}" || :
            else
                ends "${jobs[1]}" 1 put "the receiver (endpoint "
                wait "${jobs[0]}" || :
            fi
            [ ! -e out ]
            [ $victim$signal != getKILL ] || rm -r out.ivshmem-* # whoever is killed cannot clean up
            is_clean
        done
    done
}

@test "what cannot be packed or unpacked fails on both sides, and leaves nothing" {
    mkdir src
    head -c 2M /dev/urandom >src/file
    # The disk of the receiver is full.
    if [ "$(id -u)" -eq 0 ]; then
        mkdir small
        mount -t tmpfs -o size=1M tmpfs small
        mounted=$PWD/small
        begin get ivshmem get x small/out
        run -1 ivshmem put x src
        says "the receiver (endpoint "
        says "tar failed"
        ends "$pid" 1 get "tar failed: ./src/file: "
        [ -z "$(ls small)" ]
    fi
    # Its folder cannot be written, or does not exist.
    begin get ivshmem get x none/out
    run -1 ivshmem put x src
    says "failed after 0 bytes: cannot make a folder beside none/out: No such file or directory"
    ends "$pid" 1 get "cannot make a folder beside none/out"
    # What arrives is no archive.
    begin get ivshmem get x out
    head -c 100K /dev/urandom >noise
    run -1 ivshmem send x "$r" <noise
    says "tar failed"
    ends "$pid" 1 get "ivshmem: tar failed: This does not look like a tar archive"
    # No tar.
    begin get env PATH="$BATS_FILE_TMPDIR" "$BATS_FILE_TMPDIR/ivshmem" get x out
    run -1 ivshmem put x src
    ends "$pid" 1 get "cannot run tar: install it"
    [ ! -e out ]
    is_clean
}

@test "an archive writes nothing outside, makes no devices, and sets no user" {
    echo safe >victim
    mkdir -p outside src
    # Names that lead out.
    echo evil >evil
    for how in "../victim" "$PWD/victim"; do
        tar -P -cf evil.tar --transform="s,evil,$how," evil
        begin get ivshmem get x out
        ivshmem send x "$r" <evil.tar || :
        wait "$pid" || :
        [ "$(cat victim)" = safe ]
        rm -rf out
    done
    # A link that leads out, and a file behind it.
    ln -s "$PWD/outside" src/link
    tar -cf evil.tar -C src link
    rm src/link
    mkdir src/link
    echo evil >src/link/file
    tar -rf evil.tar -C src link/file
    begin get ivshmem get x out
    ivshmem send x "$r" <evil.tar || :
    wait "$pid" || :
    [ -z "$(ls outside)" ]
    rm -rf out
    [ "$(id -u)" -eq 0 ] || skip "devices and other users need root"
    echo x >src/setuid
    chmod 6755 src/setuid
    chown 1234:1234 src/setuid
    begin get ivshmem get x out
    run -0 ivshmem put x src/setuid
    ends "$pid" 0 get
    [ "$(stat -c '%a %u %g' out/setuid)" = "755 0 0" ]
    rm -r out
    mknod src/device c 1 3 || skip "no devices here"
    begin get ivshmem get x out
    run -1 ivshmem put x src
    says "tar failed"
    ends "$pid" 1 get "Cannot mknod"
    [ ! -e out ]
    is_clean
}

make_evil() {
    sed -i 's/^    publish(link, first, (size_t) got);/    if (is_evil("flip") \&\& p->bytes > 0) chunk[5] ^= 1;\n&/' "$1/ivshmem_pipe.c"
    [ "$(grep -o is_evil "$1/ivshmem_pipe.c" | wc -l)" -eq 1 ]
}

@test "with a checksum, bytes that change on their way are noticed" {
    mkdir src
    head -c 5M /dev/urandom >src/file
    touch src/last
    for sides in put get putget; do
        begin get ivshmem get --timeout 60 $([[ $sides != *get ]] || echo --checksum) x out
        run -0 ivshmem put $([[ $sides != put* ]] || echo --checksum) x src
        [ -z "$output" ]
        ends "$pid" 0 get
        diff -r src out/src
        rm -r out
    done
    begin g1 ivshmem get x out1
    begin g2 ivshmem get --checksum x out2
    run -0 ivshmem put --tee 2 x src
    ends "${jobs[-2]}" 0 g1
    ends "$pid" 0 g2
    compile_evil
    for side in put get; do
        begin get ivshmem get $([ $side != get ] || echo --checksum) x out
        EVIL=flip run -1 evil put $([ $side != put ] || echo --checksum) x src
        says "the checksums differ"
        ends "$pid" 1 get "something changed the data on their way"
        [ ! -e out ]
    done
    mkdir bin
    for program in tar ls; do ln -s "$(command -v $program)" bin; done
    begin get ivshmem get --checksum x out
    PATH=$PWD/bin run -1 "$BATS_FILE_TMPDIR/ivshmem" put x src
    ends "$pid" 1 get "cannot run sha256sum; install it"
    is_clean
}

@test "on a terminal, progress is shown; elsewhere, nothing" {
    head -c 1M /dev/urandom >file
    begin get ivshmem get x out
    script -qec "ivshmem put x file" /dev/null >shown 3>&-
    ends "$pid" 0 get
    grep -q "MB/s" shown
    is_clean
}
