#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# shellcheck disable=SC2016 # what another shell is to expand
#
# ivshmem send and recv: every byte arrives, in order, or both sides say why not; and nothing is left behind.

load ivshmem

setup() {
    dir=$BATS_TEST_TMPDIR # bats removes it, in any case
    r=$(mktemp -u /dev/shm/ivshmem-pipes.XXXXXX)
    jobs=()
    ivshmem format --size 16M "$r" >/dev/null
}

teardown() {
    end_jobs
    [ -z "${mounted:-}" ] || umount "$mounted"
    rm -f "$r" "$r".*
}

# begin NAME COMMAND...: in the background, its input from $in; its pid is in $pid, its output in $dir/NAME and what it
# says in $dir/NAME.err.
begin() {
    # Not 3, the descriptor on which bats would wait for it, nor our ends of its fifos.
    "${@:2}" <"${in:-/dev/null}" >"${out:-$dir/$1}" 2>"$dir/$1.err" 3>&- 7>&- 8>&- &
    pid=$!
    jobs+=("$pid")
}

# ends PID STATUS NAME [TEXT]: it ends with that status, and has said that, or nothing.
ends() {
    local status=0
    wait "$1" || status=$?
    cat "$dir/$3.err"
    [ "$status" -eq "$2" ]
    if [ -n "${4:-}" ]; then
        [ "$(wc -l <"$dir/$3.err")" -eq "${lines_said:-1}" ]
        grep -qF -- "$4" "$dir/$3.err"
    else
        [ ! -s "$dir/$3.err" ]
    fi
}

# Nobody is on the region, nothing is allocated, and it is sound.
is_empty() {
    run -0 ivshmem check "$r"
    says "0 endpoints in use, 0 blocks in use"
}

# So many sides are on the region.
are_on() { [ "$(ivshmem ps --json "$r" | jq '[.endpoints[] | select(.state == "live")] | length')" -eq "$1" ]; }

# Something has arrived in that file.
has_some() { [ -s "$1" ]; }

# random FILE SIZE: that many bytes.
random() { head -c "$2" /dev/urandom >"$1"; }

# new_fifo: $dir/fifo, which is open here, as 7, so that it neither ends nor blocks whoever opens it.
new_fifo() {
    rm -f "$dir/fifo"
    mkfifo "$dir/fifo"
    exec 7<>"$dir/fifo"
}

@test "wrong usage is one line and status 2" {
    for c in send recv; do
        says_usage "$c needs a name" $c
        says_usage "'' is no name for a pipe: expected 1 to 64 bytes" $c "" "$r"
        says_usage "is no name" $c "$(printf %065d 0)" "$r"
        says_usage "'a?b' is no name" $c $'a\nb' "$r"
        says_usage "is no name" $c $'a\177' "$r"
        says_usage "is no name" $c "$r"
        says_usage "takes one region" $c x "$r" "$r"
        says_usage "not a number of seconds" $c --timeout 0 x "$r"
        says_usage "unknown option --json" $c --json x "$r"
    done
    for n in "" 0 -1 65 2x x; do says_usage "is not a number of receivers from 1 to 64" send --tee "$n" x "$r"; done
    says_usage "unknown option --tee" recv --tee 2 x "$r"
    is_empty
}

@test "all sizes arrive, whoever comes first, in the smallest region, too" {
    for size in 16M 4M; do
        rm -f "$r"
        ivshmem format --size $size "$r" >/dev/null
        for n in 0 1 4095 8192 16383 16384 16385 65536 262144 262145 10000000; do
            random "$dir/in" $n
            if [ $((n % 2)) -eq 0 ]; then
                in=$dir/in begin s ivshmem send x "$r"
                until_true are_on 1
                begin r ivshmem recv x "$r"
            else
                begin r ivshmem recv x "$r"
                until_true are_on 1
                in=$dir/in begin s ivshmem send x "$r"
            fi
            ends "${jobs[-1]}" 0 "$([ $((n % 2)) -eq 0 ] && echo r || echo s)"
            ends "${jobs[-2]}" 0 "$([ $((n % 2)) -eq 0 ] && echo s || echo r)"
            cmp "$dir/in" "$dir/r"
        done
    done
    is_empty
}

@test "a long stream through pipes of the shell, with pieces of all sizes" {
    begin r bash -c 'ivshmem recv x "$1" | sha256sum' - "$r"
    # dd cuts the stream into pieces that fit nothing.
    head -c 400M /dev/urandom | tee >(sha256sum >"$dir/sum") | dd bs=37813 status=none | ivshmem send x "$r"
    ends "$pid" 0 r
    until_true cmp "$dir/sum" "$dir/r"
    is_empty
}

@test "what is written now arrives now" {
    mkfifo "$dir/fifo"
    in=$dir/fifo begin s ivshmem send x "$r"
    begin r ivshmem recv x "$r"
    exec 8>"$dir/fifo"
    for i in 1 2 3; do
        echo "line $i" >&8
        until_true grep -q "line $i" "$dir/r"
    done
    exec 8>&-
    ends "${jobs[0]}" 0 s
    ends "${jobs[1]}" 0 r
    [ "$(wc -l <"$dir/r")" -eq 3 ]
    is_empty
}

@test "many pairs at once, and ps shows them" {
    for i in 1 2 3 4; do
        random "$dir/in$i" 5M
        in=$dir/in$i begin "s$i" ivshmem send "name $i" "$r"
    done
    until_true are_on 4
    ivshmem ps "$r" | grep -q "ivshmem-pipe-name 3"
    for i in 1 2 3 4; do begin "r$i" ivshmem recv "name $i" "$r"; done
    for pid in "${jobs[@]}"; do wait "$pid" || { cat "$dir"/*.err; return 1; }; done
    for i in 1 2 3 4; do cmp "$dir/in$i" "$dir/r$i"; done
    is_empty
}

@test "back pressure: a sender reads no more than its receiver can take" {
    truncate -s 100M "$dir/in"
    new_fifo
    in=$dir/in begin s ivshmem send x "$r"
    out=$dir/fifo begin r ivshmem recv x "$r"
    position() { sed -n 's/^pos:\s*//p' "/proc/${jobs[0]}/fdinfo/0"; }
    moves() { [ "$(position)" -gt 0 ]; }
    until_true moves
    sleep 1
    [ "$(position)" -lt 2000000 ]
    head -c 100M <&7 | cmp - "$dir/in"
    ends "${jobs[0]}" 0 s
    ends "${jobs[1]}" 0 r
    is_empty
}

@test "one to many: each gets everything" {
    random "$dir/in" 20M
    for i in 1 2 3; do begin "r$i" ivshmem recv x "$r"; done
    until_true are_on 3
    in=$dir/in run -0 ivshmem send --tee 3 x "$r" <"$dir/in"
    for i in 1 2 3; do
        ends "${jobs[i - 1]}" 0 "r$i"
        cmp "$dir/in" "$dir/r$i"
    done
    is_empty
}

@test "one to many: if one is killed, the others get everything, and the sender says who does not" {
    for victim in 0 1 2; do
        jobs=()
        mkfifo "$dir/fifo"
        for i in 0 1 2; do begin "r$i" ivshmem recv x "$r"; done
        in=$dir/fifo begin s ivshmem send --tee 3 x "$r"
        exec 8>"$dir/fifo"
        random "$dir/in" 3M
        cat "$dir/in" >&8
        until_true cmp "$dir/in" "$dir/r$victim"
        kill -KILL "${jobs[victim]}"
        random "$dir/in2" 3M
        cat "$dir/in2" >&8
        exec 8>&-
        lines_said=2 ends "${jobs[3]}" 1 s "1 of 3 receivers do not have everything"
        grep -q "the receiver (endpoint .* pid ${jobs[victim]}) left before the end" "$dir/s.err"
        for i in 0 1 2; do
            [ "$i" -ne "$victim" ] || continue
            ends "${jobs[i]}" 0 "r$i"
            cat "$dir/in" "$dir/in2" | cmp - "$dir/r$i"
        done
        rm "$dir/fifo"
        is_empty
    done
}

@test "the other side is killed, while data flow, while none do, and while they cannot" {
    for victim in 0 1; do
        for how in flow idle full; do
            jobs=()
            new_fifo
            case $how in
            flow)
                in=/dev/zero begin s ivshmem send x "$r"
                out=/dev/null begin r ivshmem recv x "$r" ;;
            idle)
                in=$dir/fifo begin s ivshmem send x "$r"
                out=/dev/null begin r ivshmem recv x "$r" ;;
            full)
                in=/dev/zero begin s ivshmem send x "$r"
                out=$dir/fifo begin r ivshmem recv x "$r" ;;
            esac
            until_true are_on 2
            sleep 0.3
            kill -KILL "${jobs[victim]}"
            if [ $victim -eq 0 ]; then
                # What came before the death is still written.
                if [ $how = full ]; then
                    cat <&7 >/dev/null 3>&- &
                    jobs+=("$!")
                fi
                ends "${jobs[1]}" 1 r "the sender (endpoint "
                [ $how != full ] || kill "${jobs[2]}"
                grep -q "pid ${jobs[0]}) left before the end: its own output says why, unless it was killed" "$dir/r.err"
            else
                ends "${jobs[0]}" 1 s "the receiver (endpoint "
                grep -q "pid ${jobs[1]}) left before the end" "$dir/s.err"
            fi
            exec 7>&-
            is_empty
        done
    done
}

@test "what a receiver has written is the beginning of what its sender has read" {
    random "$dir/in" 60M
    for i in 1 2 3; do
        jobs=()
        rm -f "$dir/r"
        in=$dir/in begin s bash -c '(cat; exec sleep 100) | ivshmem send x "$1" & echo $! >"$2"; wait $!' - "$r" "$dir/pid"
        begin r ivshmem recv x "$r"
        until_true has_some "$dir/r"
        kill -KILL "$(cat "$dir/pid")"
        ends "${jobs[1]}" 1 r "the sender (endpoint "
        cmp -n "$(stat -c %s "$dir/r")" "$dir/in" "$dir/r"
        pkill -P "${jobs[0]}" || :
        wait "${jobs[0]}" || :
        is_empty
    done
}

@test "a disk that is full at the receiver is an error of both" {
    begin r bash -c 'ivshmem recv x "$1" >/dev/full' - "$r"
    run -1 ivshmem send x "$r" </dev/zero
    [ "${#lines[@]}" -eq 1 ]
    says "the receiver (endpoint "
    says ") failed after 0 bytes: cannot write standard output: No space left on device"
    ends "$pid" 1 r "cannot write standard output: No space left on device"
    [ "$(id -u)" -eq 0 ] || return 0
    mkdir "$dir/small"
    mount -t tmpfs -o size=1M tmpfs "$dir/small"
    mounted=$dir/small
    out=$dir/small/out begin r ivshmem recv x "$r"
    run -1 ivshmem send x "$r" </dev/zero
    says "failed after 1048576 bytes: cannot write standard output: No space left on device"
    ends "$pid" 1 r "No space left on device"
    is_empty
}

@test "as other filters: whoever reads the output ends first" {
    begin r bash -c 'ivshmem recv x "$1" | head -c 100; exit "${PIPESTATUS[0]}"' - "$r"
    run -1 ivshmem send x "$r" </dev/zero
    says "cannot write standard output: Broken pipe"
    ends "$pid" 141 r
    [ "$(stat -c %s "$dir/r")" -eq 100 ]
    is_empty
}

@test "an input that cannot be read is an error of both" {
    begin r ivshmem recv x "$r"
    run -1 ivshmem send x "$r" <"$dir"
    says "cannot read standard input: Is a directory"
    ends "$pid" 1 r "failed after 0 bytes: cannot read standard input: Is a directory"
    is_empty
}

@test "descriptors that do not block" {
    random "$dir/in" 3M
    begin r python3 -c '
import os, subprocess, sys, time
r, w = os.pipe()
os.set_blocking(w, False)
p = subprocess.Popen(["ivshmem", "recv", "x", sys.argv[1]], stdout=w)
os.close(w)
while data := os.read(r, 4096):
    sys.stdout.buffer.write(data)
sys.exit(p.wait())' "$r"
    begin s python3 -c '
import os, subprocess, sys, time
r, w = os.pipe()
os.set_blocking(r, False)
p = subprocess.Popen(["ivshmem", "send", "x", sys.argv[1]], stdin=r)
os.close(r)
time.sleep(0.5)
with open(sys.argv[2], "rb") as file, os.fdopen(w, "wb") as out:
    out.write(file.read())
sys.exit(p.wait())' "$r" "$dir/in"
    ends "${jobs[1]}" 0 s
    ends "${jobs[0]}" 0 r
    cmp "$dir/in" "$dir/r"
    is_empty
}

@test "a side that nobody comes to says what to do" {
    id=$(ivshmem info --json "$r" | jq -r .id)
    run -1 ivshmem send --timeout 1 x "$r" </dev/null
    says "0 of 1 receivers came within 1 s: run \`ivshmem recv x\` on the other side"
    says "the id here is $id"
    run -1 ivshmem recv --timeout 1 x "$r"
    says "no sender came within 1 s: run \`ivshmem send x\` on the other side"
    says "the id here is $id"
    begin r ivshmem recv x "$r"
    run -1 ivshmem send --timeout 2 --tee 2 x "$r" </dev/null
    says "1 of 2 receivers came within 2 s"
    ends "$pid" 1 r "failed after 0 bytes: 1 of 2 receivers came"
    # Names are compared whole.
    begin s ivshmem send --timeout 1 xy "$r"
    run -1 ivshmem recv --timeout 1 x "$r"
    ends "$pid" 1 s "receivers came within"
    is_empty
}

@test "two senders, and two receivers, of one name" {
    new_fifo
    in=$dir/fifo begin s ivshmem send x "$r"
    until_true are_on 1
    run -1 ivshmem send x "$r" </dev/null
    says "endpoint 0 of region $r is already sending as x: give each pair a name of its own"
    begin r ivshmem recv x "$r"
    until_true are_on 2
    sleep 0.2
    run -1 ivshmem recv x "$r"
    says "has all its receivers: give each pair a name of its own, or start the sender with --tee"
    exec 7>&-
    ends "${jobs[0]}" 0 s
    ends "${jobs[1]}" 0 r
    is_empty
}

@test "an interrupt of either side leaves nothing behind, and is told the other" {
    for signal in INT TERM HUP; do
        for who in 0 1; do
            jobs=()
            new_fifo
            in=$dir/fifo begin s ivshmem send x "$r"
            out=/dev/null begin r ivshmem recv x "$r"
            until_true are_on 2
            sleep 0.3
            kill -s $signal "${jobs[who]}"
            names=(s r)
            ends "${jobs[who]}" 1 "${names[who]}" interrupted
            ends "${jobs[1 - who]}" 1 "${names[1 - who]}" "failed after 0 bytes: interrupted"
            exec 7>&-
            is_empty
        done
        for c in send recv; do
            begin s ivshmem $c x "$r"
            until_true are_on 1
            kill -s $signal "$pid"
            ends "$pid" 1 s interrupted
            is_empty
        done
    done
}

@test "the other side is stopped: an error after the timeout" {
    for victim in 0 1; do
        jobs=()
        new_fifo
        in=$dir/fifo begin s ivshmem send --timeout 2 x "$r"
        out=/dev/null begin r ivshmem recv --timeout 2 x "$r"
        until_true are_on 2
        sleep 0.3
        kill -STOP "${jobs[victim]}"
        names=(s r)
        ends "${jobs[1 - victim]}" 1 "${names[1 - victim]}" "has given no sign of life for 2 s"
        kill -CONT "${jobs[victim]}"
        wait "${jobs[victim]}" || :
        exec 7>&-
        is_empty
    done
}

@test "a pipe that is idle for longer than the timeout goes on" {
    new_fifo
    in=$dir/fifo begin s ivshmem send --timeout 2 x "$r"
    begin r ivshmem recv --timeout 2 x "$r"
    until_true are_on 2
    sleep 5
    echo late >&7
    until_true grep -q late "$dir/r"
    exec 7>&-
    ends "${jobs[0]}" 0 s
    ends "${jobs[1]}" 0 r
    is_empty
}

@test "a death that only its own kernel can prove arrives" {
    unshare --user --map-root-user --pid --fork --mount-proc true 2>/dev/null || unshare --pid --fork --mount-proc true ||
        skip "no pid namespaces here"
    new_fifo
    in=$dir/fifo begin s ivshmem send x "$r"
    # The shell is process 1 there, and goes on; unshare passes no signal on.
    begin r unshare --pid --fork --mount-proc --kill-child bash -c '
        ivshmem recv x "$1" & echo started; sleep 0.1
        until ivshmem ps "$1" | grep -c live | grep -qx 2; do sleep 0.1; done
        sleep 0.5; kill -KILL $!; sleep 100' - "$r"
    ends "${jobs[0]}" 1 s "left before the end"
    kill -KILL "${jobs[1]}"
    wait "${jobs[1]}" || :
    exec 7>&-
    ivshmem reap "$r"
    is_empty
}

@test "after both were killed, with their guardians, reap frees everything" {
    out=/dev/null
    in=/dev/zero begin s ivshmem send x "$r"
    begin r ivshmem recv x "$r"
    until_true are_on 2
    sleep 0.3
    kill -STOP "${jobs[@]}"
    # shellcheck disable=SC2046
    kill -KILL $(pgrep -P "${jobs[0]}") $(pgrep -P "${jobs[1]}") "${jobs[@]}"
    for pid in "${jobs[@]}"; do wait "$pid" || :; done
    ivshmem reap "$r"
    is_empty
}

@test "with either side, its guardian ends" {
    new_fifo
    in=$dir/fifo begin s ivshmem send x "$r"
    out=/dev/null begin r ivshmem recv x "$r"
    until_true are_on 2
    sleep 0.3
    guardians=$(pgrep -P "${jobs[0]}" && pgrep -P "${jobs[1]}")
    [ "$(wc -w <<<"$guardians")" -eq 2 ]
    kill -KILL "${jobs[0]}"
    ends "${jobs[1]}" 1 r "left before the end"
    for pid in $guardians; do until_true run ! kill -0 "$pid"; done
    exec 7>&-
    is_empty
}

@test "no region, a foreign one, and a full one are errors with advice" {
    head -c 4M /dev/urandom >"$dir/foreign"
    for c in send recv; do
        run -1 ivshmem $c x "$dir/none" </dev/null
        says "$dir/none"
        run -1 ivshmem $c x "$dir/foreign" </dev/null
        says "neither a region nor empty"
    done
    rm "$r"
    ivshmem format --size 4M "$r" >/dev/null
    for i in $(seq 30); do
        begin "$i" ivshmem send "$i" "$r"
        has_begun() { are_on "$i" || has_some "$dir/$i.err"; }
        until_true has_begun
        [ ! -s "$dir/$i.err" ] || break
    done
    ends "$pid" 1 "$i" "is full"
    run -1 ivshmem send full "$r" </dev/null
    says "is full"
    for pid in "${jobs[@]}"; do
        kill -TERM "$pid" 2>/dev/null || : # the last one has ended
        wait "$pid" || :
    done
    is_empty
    run -1 ivshmem send --tee 64 full "$r" </dev/null
    says "is full"
    is_empty
}

# make_evil FOLDER: in the sources there, calls is_evil at each such place.
make_evil() {
    local sources=$1
    sed -i -e 's/note\.version = LINK_VERSION;/note.version = LINK_VERSION + is_evil("version");/' \
        -e 's/\.off = ivshm_pipeline_offset(&peer->pipeline)/.off = {is_evil("pipeline") ? 64 : is_evil("far") ? UINT64_MAX - 63 : ivshm_pipeline_offset(\&peer->pipeline).bytes}/' \
        -e 's/channel, &out, (uint32_t) len);/channel, \&out, is_evil("short") ? 8 : (uint32_t) len);/' \
        -e 's/\.kind = NOTE_END, \.bytes = bytes/.kind = NOTE_END + (is_evil("kind") ? 99 : is_evil("text")), .bytes = bytes + is_evil("bytes")/' \
        -e 's/^    const size_t len = offsetof.*/    if (is_evil("text")) memset(note.text, 033, sizeof(note.text) - 1);\n&/' \
        "$sources/ivshmem_link.c"
    sed -i -e 's/bytes - at < size ? bytes - at : size), 0)/is_evil("long") ? 1000000 : bytes - at < size ? bytes - at : size), 0)/' \
        -e 's/^    int err = .*receive_all(p).*/    if (is_evil("early") || is_evil("quit")) { link_end(\&p->link, sender, 99, ""); if (is_evil("early")) pause(); return 0; }\n&/' "$sources/ivshmem_pipe.c"
    [ "$(grep -o is_evil "$sources"/ivshmem_{link,pipe}.c | wc -l)" -eq 12 ] || { grep is_evil "$sources"/*.c; return 1; }
}

@test "a sender that says nonsense costs its connection, and no more" {
    compile_evil
    random "$dir/in" 100000
    for evil in "version speaks version 2, this receiver speaks version 1" "pipeline provided a pipeline" \
        "far provided a pipeline" "short something unexpected" "kind something unexpected" "text failed after" \
        "bytes says that it sent 100001 bytes, but 100000 came" "long a piece of invalid length"; do
        begin r checked recv --timeout 20 x "$r"
        EVIL=${evil%% *} in=$dir/in begin s evil send --timeout 3 x "$r"
        ends "${jobs[-2]}" 1 r "${evil#* }"
        run ! grep -qP '[^\x20-\x7e]|Sanitizer|runtime error' "$dir/r.err"
        wait "$pid" || :
        is_empty
    done
}

@test "a receiver that says nonsense costs its connection, and no more" {
    compile_evil
    # One that claims to have everything, and goes, while there is more to send.
    in=/dev/zero begin s checked send --timeout 20 x "$r"
    EVIL=quit run -0 evil recv x "$r"
    ends "${jobs[-1]}" 1 s "left before the end"
    is_empty
    random "$dir/in" 100000
    for evil in "kind something unexpected" "text failed after" "bytes has written 100001 of 100000 bytes" \
        "early has written 99 of 100000 bytes"; do
        in=$dir/in begin s checked send --timeout 20 x "$r"
        EVIL=${evil%% *} begin r evil recv --timeout 3 x "$r"
        ends "${jobs[-2]}" 1 s "${evil#* }"
        run ! grep -qP '[^\x20-\x7e]|Sanitizer|runtime error' "$dir/s.err"
        kill -TERM "$pid" 2>/dev/null || :
        wait "$pid" || :
        is_empty
    done
    # Who is no receiver at all is refused: the sender waits for another one.
    for evil in version short; do
        in=$dir/in begin s checked send --timeout 60 x "$r"
        EVIL=$evil begin r evil recv --timeout 2 x "$r"
        wait "$pid" && return 1
        checked recv x "$r" | cmp - "$dir/in"
        wait "${jobs[-2]}"
        [ $evil = short ] || grep -q "speaks version 2, this sender speaks version 1" "$dir/s.err"
        is_empty
    done
}
