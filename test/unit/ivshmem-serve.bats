#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# shellcheck disable=SC2154 # bats sets its variables
#
# ivshmem serve: clients put and get files of one folder, and nothing else; a client that fails costs itself alone.

load ivshmem

setup() {
    cd "$BATS_TEST_TMPDIR" || return # bats removes it, in any case
    r=$(mktemp -u /dev/shm/ivshmem-serve.XXXXXX)
    export MPIR_CVAR_NEMESIS_IVSHMEM_REGION=$r
    jobs=()
    ivshmem format --size 64M "$r" >/dev/null
    umask 022
    mkdir root src fake
    head -c 3M /dev/urandom >src/file
    echo small >src/small
}

teardown() {
    end_jobs
    [ -z "${mounted:-}" ] || umount "$mounted"
    rm -f "$r"
}

# begin NAME COMMAND...: in the background; its pid is in $pid, what it says in NAME.err.
begin() { in_background "$1.err" "${@:2}"; }

# serve ARG...: a server of that name; its pid is in $server, and what it says in server.err.
serve() {
    begin server "${program:-ivshmem}" serve --name srv "$@"
    server=$pid
    until_true grep -q "^serving " server.err
}

# end_server: it ends well, and leaves nothing behind.
end_server() {
    kill -TERM "$server"
    wait "$server" || { cat server.err; return 1; }
    run -0 ivshmem check "$r"
    says "0 endpoints in use, 0 blocks in use"
    no_rest
}
no_rest() { [ -z "$(find . -name '.ivshmem-*' -o -name '*.ivshmem-*')" ]; }

# fails TEXT COMMAND...: with one line.
fails() {
    run -1 "${@:2}"
    [ "${#lines[@]}" -eq 1 ] || { echo "$output"; return 1; }
    says "$1"
}

# works: the server serves whoever is no trouble.
works() {
    rm -rf well
    ivshmem put srv:well src
    diff -r src root/well/src
    rm -r root/well
}

# A tar that says what is in evil.tar, or never ends.
send_evil() { PATH=$PWD/fake:$PATH ivshmem put "$@" src; }
fake_tar() {
    printf '#!/bin/sh\n%s\n' "$1" >fake/tar
    chmod +x fake/tar
}

sessions() { ivshmem ps --json "$r" | jq '[.endpoints[] | select(.state == "live" and (.job | startswith("ivshmem-pipe-srv:")))] | length'; }
are_served() { [ "$(sessions)" -ge "$1" ]; }
are_gone() { [ "$(sessions)" -eq 0 ]; }
# exists: something is being unpacked.
exists() { compgen -G "root/.ivshmem-*/*" >/dev/null; }

@test "wrong usage is one line and status 2" {
    says_usage "serve needs the name of a folder to serve" serve
    says_usage "serve takes one folder" serve a b
    says_usage "is no name for a server" serve --name a:b root
    says_usage "is no name for a server" serve --name a/b root
    says_usage "is no name for a server" serve --name "" root
    for n in "" 0 65 x 1x -1; do says_usage "is not a number from 1 to 64" serve --clients "$n" root; done
    says_usage "is not a size" serve --max-size 0 root
    says_usage "unknown option --write" put --write srv: src
    says_usage "--tee is for a pipe" put --tee 2 srv: src
    says_usage "is no name for a pipe" put a/b:c src
    says_usage "is no name for a pipe" put :c src
    says_usage "is too long" get "srv:$(printf %01024d 0)" out
    fails "cannot serve none: No such file or directory" ivshmem serve none
    fails "cannot serve src/file: Not a directory" ivshmem serve src/file
    fails "no server srv came within 1 s: run \`ivshmem serve --name srv FOLDER\`" ivshmem get --timeout 1 srv:x out
    [ ! -e out ]
}

@test "trees go there and back, into folders that are there and new ones" {
    serve --write root
    mkdir -p src/deep src/empty
    ln -s ../file src/deep/link
    ln src/file src/deep/hard
    truncate -s 100M src/holes
    chmod 700 src/deep
    touch -d '2001-02-03 04:05:06' src/small
    run -0 ivshmem put srv: src
    [ -z "$output" ]
    diff -r --no-dereference src root/src
    [ root/src/file -ef root/src/deep/hard ]
    [ "$(stat -c %b root/src/holes)" -lt 1000 ]
    [ "$(stat -c '%a %Y' root/src/deep root/src/small)" = "$(stat -c '%a %Y' src/deep src/small)" ]
    ivshmem put srv:new/ src/small src/file
    [ "$(ls root/new)" = $'file\nsmall' ]
    [ "$(stat -c %a root/new)" = 755 ]
    ivshmem get --checksum srv:src/deep out
    [ "$(readlink out/deep/link)" = ../file ]
    ivshmem get srv: all
    diff -r --no-dereference root all
    ivshmem get srv:new/.././new/small one
    cmp one/small src/small
    # Files are replaced; folders are not, nor anything else then.
    echo other >src/small
    ivshmem put srv:new src/small
    [ "$(cat root/new/small)" = other ]
    mkdir root/new/deep
    cp -r root before
    echo third >src/small
    fails "deep exists there and is a folder" ivshmem put srv:new src/small src/deep src/empty
    diff -r root before
    fails "nothing/new: No such file or directory" ivshmem put srv:nothing/new src
    fails "new/small: Not a directory" ivshmem put srv:new/small src
    fails "nothing: No such file or directory" ivshmem get srv:nothing x
    end_server
}

@test "several clients at once, as ps shows, and no more than are allowed" {
    serve --write --clients 3 root
    for i in 1 2 3 4 5 6; do begin "put$i" ivshmem put "srv:$i" src; done
    for pid in "${jobs[@]:1}"; do wait "$pid" || { cat ./*.err; return 1; }; done
    for i in 1 2 3 4 5 6; do diff -r src "root/$i/src"; done
    fake_tar "exec sleep 1000"
    jobs=("$server")
    for i in 1 2 3; do begin "slow$i" send_evil "srv:slow$i"; done
    until_true are_served 6
    ivshmem ps "$r" | grep -q "^ivshmem-serve-srv "
    fails "the server srv had no room for this client for 1 s" ivshmem get --timeout 1 srv:1 x
    begin get ivshmem get srv:1 x
    kill -KILL "${jobs[1]}"
    wait "$pid" || { cat get.err; return 1; }
    diff -r src x/1/src
    kill -KILL "${jobs[@]:2:2}"
    until_true are_gone
    until_true no_rest
    end_server
}

@test "to read only, and two of one name" {
    cp src/small root
    serve root
    fails "the folder can only be read: start the server with --write" ivshmem put srv: src
    ivshmem get srv:small out
    cmp src/small out/small
    fails "is already serving as srv: give each server a name of its own" ivshmem serve --name srv src
    ivshmem put other src/small &
    ivshmem get other pair # pipes go on beside it
    wait $!
    begin host ivshmem serve src
    until_true grep -q "^serving " host.err
    ivshmem get "$(hostname | cut -d. -f1 | cut -c1-64):small" again
    kill "$pid"
    wait "$pid"
    end_server
}

@test "no name leads out of the folder" {
    mkdir -p root/in outside
    echo secret >outside/secret
    ln -s "$PWD/outside" root/absolute
    ln -s ../outside root/relative
    ln -s in root/inside
    ln -s / root/slash
    echo ok >root/in/file
    serve --write root
    for path in .. ../ ../outside ../outside/secret /etc/passwd "$PWD/outside/secret" in/../../outside/secret \
        absolute/secret relative/secret slash/etc/passwd absolute/. relative/../outside/secret inside/../../outside; do
        fails "leads out of the folder that is served" ivshmem get "srv:$path" x
    done
    for path in .. ../new ../outside /tmp /new "$PWD/outside" absolute absolute/new relative relative/new slash/tmp \
        slash/new in/../../new; do
        fails "leads out of the folder that is served" ivshmem put "srv:$path" src
    done
    [ "$(ls outside)" = secret ]
    [ ! -e x ] && [ ! -e new ] && [ ! -e /new ] && [ ! -e /tmp/src ]
    # Links inside are followed, but for the last one, which is copied itself.
    ivshmem get srv:inside/file a
    cmp root/in/file a/file
    ivshmem get srv:absolute b
    [ "$(readlink b/absolute)" = "$PWD/outside" ]
    ivshmem put srv:inside src/small
    cmp root/in/small src/small
    for name in "$(printf %0300d 0)" "a/$(printf %0300d 0)"; do
        fails "File name too long" ivshmem put "srv:$name" src
        fails "o" ivshmem get "srv:$name" x
    done
    fails "No such file" ivshmem get "srv:"$'bad\033[2J' x
    run ! grep -q $'\033' <<<"$output"
    end_server
}

@test "folders that become links meanwhile lead nowhere" {
    mkdir root/swapped outside
    echo inside >root/swapped/file
    echo secret >outside/file
    ln -s ../outside root/other
    serve --write root
    begin swaps python3 -c 'if True:
        import os, time
        while os.path.exists("src"):
            os.rename("root/swapped", "root/third")
            os.rename("root/other", "root/swapped")
            os.rename("root/third", "root/other")
            time.sleep(0.0005)'
    for i in {1..10}; do
        # Each may succeed or fail, as it comes in time or not.
        ivshmem get srv:swapped/file "got$i" || :
        ivshmem get srv:swapped/ "tree$i" || :
        ivshmem put srv:swapped src/small || :
        ivshmem put srv:swapped/new src/small || :
    done
    mv src moved
    wait "$pid"
    mv moved src
    grep -x secret outside/file
    [ "$(ls outside)" = file ]
    run ! grep -rl secret got* tree*
    works
    end_server
}

@test "no archive leads out, makes devices, or sets a user" {
    serve --write root
    echo safe >victim
    echo evil >evil
    mkdir outside
    fake_tar "exec cat '$PWD/evil.tar'"
    try() { # NAME: puts evil.tar there, which may fail, and changes nothing outside.
        send_evil "srv:$1" >said 2>&1 || :
        cat said
        [ "$(cat victim)" = safe ]
        [ -z "$(ls outside)" ]
        [ "$(stat -c %h victim)" = 1 ]
        until_true no_rest
    }
    for how in "../victim" "../../victim" "a/../../../victim" "$PWD/victim"; do
        tar -P -cf evil.tar --transform="s,evil,$how," evil
        try names
        rm -rf root/names
    done
    # A link that leads out, and a file behind it: in one archive, and in the next put.
    mkdir tree
    ln -s "$PWD/outside" tree/link
    tar -cf evil.tar -C tree link
    rm tree/link
    mkdir tree/link
    echo evil >tree/link/file
    tar -rf evil.tar -C tree link/file
    try links
    rm -rf tree root/links
    mkdir tree
    ln -s "$PWD/outside" tree/link
    tar -cf evil.tar -C tree link
    try earlier
    [ -L root/earlier/link ]
    fails "leads out" ivshmem put srv:earlier/link src/small
    fails "leads out" ivshmem put srv:earlier/link/new src/small
    mkdir t2
    mkdir t2/link
    echo evil >t2/link/file
    tar -cf evil.tar -C t2 link/file
    try earlier # replaces the link, and does not follow it
    [ -z "$(ls outside)" ]
    # A hard link to what is outside, and then what is written to it.
    python3 - "$PWD/victim" <<'END'
import io, sys, tarfile
for n, target in enumerate((sys.argv[1], "../../victim", "../victim", "/etc/passwd")):
    with tarfile.open(f"hard{n}.tar", "w") as t:
        link = tarfile.TarInfo("hard")
        link.type, link.linkname = tarfile.LNKTYPE, target
        t.addfile(link)
        file = tarfile.TarInfo("hard")
        file.size = 5
        t.addfile(file, io.BytesIO(b"evil\n"))
END
    for n in 0 1 2 3; do
        cp hard$n.tar evil.tar
        try "hard$n"
    done
    # Names that are too long, and folders that are too deep.
    python3 - <<'END'
import tarfile
with tarfile.open("long.tar", "w", format=tarfile.PAX_FORMAT) as t:
    t.addfile(tarfile.TarInfo("x" * 4096))
with tarfile.open("deep.tar", "w", format=tarfile.PAX_FORMAT) as t:
    for depth in range(1, 12):
        folder = tarfile.TarInfo("/".join(["d" * 200] * depth))
        folder.type, folder.mode = tarfile.DIRTYPE, 0
        t.addfile(folder)
    t.addfile(tarfile.TarInfo("/".join(["d" * 200] * 30)))
END
    for how in long deep; do
        cp $how.tar evil.tar
        fails "tar failed" send_evil srv:$how
        [ ! -e root/$how ]
        until_true no_rest
    done
    # Garbage, and what is cut.
    head -c 100K /dev/urandom >evil.tar
    fails "tar failed: This does not look like a tar archive" send_evil srv:noise
    tar -cf - src | head -c 1M >evil.tar
    fails "tar failed: Unexpected EOF in archive" send_evil srv:cut
    [ ! -e root/noise ] && [ ! -e root/cut ]
    if [ "$(id -u)" -eq 0 ]; then
        echo x >src/setuid
        chmod 6755 src/setuid
        chown 1234:1234 src/setuid
        ivshmem put srv:setuid src/setuid
        [ "$(stat -c '%a %u %g' root/setuid/setuid)" = "755 0 0" ]
        if mknod src/device c 1 3; then
            fails "Cannot mknod" ivshmem put srv:device src/device
            [ ! -e root/device ]
        fi
        rm -f src/device src/setuid
    fi
    works
    end_server
}

@test "no more arrives than --max-size" {
    serve --write --max-size 4M root
    works
    head -c 5M /dev/urandom >big
    fails "more than the 4 MiB that this server takes" ivshmem put srv:big big
    truncate -s 1G holes
    [ -z "$(ls -A root)" ]
    ivshmem put srv:holes holes # which take no room
    [ "$(stat -c %b root/holes/holes)" -lt 1000 ]
    end_server
}

@test "if a side is killed, nothing is left, and the other one fails" {
    fake_tar "tar() { $(command -v tar) \"\$@\"; }; tar -cf - src; exec sleep 1000"
    serve --write root
    session() { pgrep -P "$server" | while read -r pid; do ! pgrep -P "$pid" -x tar >/dev/null || echo "$pid"; done; }
    for victim in client session; do
        begin put env PATH="$PWD/fake:$PATH" ivshmem put srv:new src
        until_true exists
        if [ $victim = client ]; then
            kill -KILL "$pid"
            wait "$pid" || :
            until_true are_gone
        else
            kill -KILL "$(session)"
            wait "$pid" && return 1
            cat put.err
            grep -q "left before the end" put.err
        fi
        until_true no_rest
        [ -z "$(ls root)" ]
        works
    done
    grep -q "the sender (endpoint .*) left before the end" server.err
    # A get: the folder that it makes is its own matter.
    head -c 20M /dev/urandom >root/file
    begin get env PATH="$PWD/fake:$PATH" ivshmem get srv:file out
    until_true are_served 2
    kill -KILL "$pid"
    wait "$pid" || :
    until_true are_gone
    rm -rf out.ivshmem-* root/file
    # The server itself: the next one removes what it has left.
    begin put env PATH="$PWD/fake:$PATH" ivshmem put srv:new src
    until_true exists
    kill -STOP "$(session)" # so that it cannot clean up
    stopped=$(session)
    kill -KILL "$server" "$stopped"
    wait "$server" || :
    wait "$pid" && return 1
    exists
    ivshmem reap "$r"
    serve --write root
    until_true no_rest
    works
    end_server
}

@test "clients that stop, or take or give nothing, are given up" {
    head -c 20M /dev/urandom >root/file
    serve --write --timeout 2 root
    fake_tar "exec sleep 1000"
    begin give env PATH="$PWD/fake:$PATH" ivshmem put srv:new src
    begin take env PATH="$PWD/fake:$PATH" ivshmem get srv:file out
    given_up() { [ "$(grep -c "nothing has moved for 2 s" server.err)" -eq 2 ]; }
    until_true given_up
    wait "${jobs[1]}" && return 1
    grep -q "failed after [0-9]* bytes: nothing has moved for 2 s" give.err
    kill -KILL "$pid" # it still has something to write
    wait "$pid" && return 1
    rm -rf out.ivshmem-*
    begin stop env PATH="$PWD/fake:$PATH" ivshmem put srv:new src
    until_true are_served 2
    kill -STOP "$pid"
    given_up() { [ "$(wc -l <server.err)" -eq 4 ]; }
    until_true given_up
    kill -CONT "$pid"
    wait "$pid" && return 1
    until_true are_gone
    works
    end_server
}

@test "a full disk, and a folder that cannot be written, are one message on both sides" {
    [ "$(id -u)" -eq 0 ] || skip "only root can mount"
    mkdir small
    mount -t tmpfs -o size=1M tmpfs small
    mounted=$PWD/small
    serve --write small
    fails "tar failed: ./src/file: " ivshmem put srv:new src
    until_true grep -q "^ivshmem: tar failed: ./src/file: " server.err
    [ -z "$(ls -A small)" ]
    end_server
    command -v setpriv >/dev/null || skip "setpriv is missing (util-linux)"
    mkdir root/closed
    chmod 555 root/closed
    begin server setpriv --bounding-set -dac_override,-dac_read_search "$(command -v ivshmem)" serve --write --name srv root
    server=$pid
    until_true grep -q "^serving " server.err
    fails "closed: Permission denied" ivshmem put srv:closed src
    fails "closed/new: Permission denied" ivshmem put srv:closed/new src
    end_server
    fails "cannot write into root/closed: Permission denied" \
        setpriv --bounding-set -dac_override,-dac_read_search "$(command -v ivshmem)" serve --write root/closed
}

make_evil() {
    sed -i -e 's/note\.version = LINK_VERSION;/note.version = LINK_VERSION + is_evil("version");/' \
        -e 's/(uint32_t) len);/is_evil("short") ? 8 : (uint32_t) len);/' \
        -e 's/link->is_sender ? NOTE_PUT : NOTE_GET}/is_evil("kind") ? 99 : link->is_sender ? NOTE_PUT : NOTE_GET}/' \
        -e 's/    snprintf(note.text, sizeof(note.text), "%s", link->path);/&\n    if (is_evil("text")) memset(note.text, 033, sizeof(note.text) - 1);/' \
        -e 's/^    const size_t len = offsetof.*/    size_t len = offsetof(struct note, text) + strlen(note.text) + 1;\n    if (is_evil("open")) { len = sizeof(note); memset(note.text, 65, sizeof(note.text)); }/' \
        -e 's/link->on_request ? SERVER_JOB : LINK_JOB/link->on_request ? SERVER_JOB : is_evil("job") ? "other-" : LINK_JOB/' \
        "$1/ivshmem_link.c"
    [ "$(grep -o is_evil "$1/ivshmem_link.c" | wc -l)" -eq 6 ] || { grep is_evil "$1"/*.c; return 1; }
}

@test "a client that says nonsense costs itself alone" {
    compile_evil
    program=checked serve --write root
    for evil in "version refuses: it speaks version 1, this client speaks version 2" "short did not answer" \
        "kind did not answer" "text refuses: ????????" "open refuses: " "job refuses: the client's job has no name of a pipe"; do
        EVIL=${evil%% *} run -1 evil put --timeout 2 srv:new src
        says "${evil#* }"
        run ! grep -P '[^\x20-\x7e]' <<<"$output"
        [ ! -e root/new ]
        works
    done
    run ! grep -q "Sanitizer\|runtime error" server.err
    end_server
}
