#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# shellcheck disable=SC2154,SC2016 # bats sets its variables; jq has its own
#
# ivshmem top: its figures are those that processes have told, by their own clocks, and those that are in the region; it
# fits the terminal and leaves it as it was; and no contents of a region make it fail.

load ivshmem

eval "$(declare -f setup_file | sed '1s/.*/setup_command()/')"

setup_file() {
    setup_command
    local core=$IVSHM_SRC/src/mpid/ch3/channels/nemesis/netmod/ivshmem/core
    compile checked -g -fsanitize=address,undefined -fno-sanitize-recover=all
    ${CC:-gcc} -std=gnu11 -O2 -Wall -Wextra -Werror -I"$core" -o "$BATS_FILE_TMPDIR/top_crowd" \
        "$IVSHM_SRC/test/unit/top_crowd.c" "$core"/*.c
}

setup() {
    dir=$BATS_TEST_TMPDIR # bats removes it, in any case
    r=$(mktemp -u /dev/shm/ivshmem-top.XXXXXX)
    jobs=()
    ivshmem format --size 64M "$r" >/dev/null
}

teardown() {
    end_jobs
    rm -f "$r"
}

# crowd COUNT JOB: endpoints that do what do_it says.
crowd() {
    mkfifo "$dir/in" "$dir/out"
    top_crowd "$r" "$@" <"$dir/in" >"$dir/out" 2>"$dir/err" 3>&- &
    jobs+=("$!")
    exec {in}>"$dir/in" {out}<"$dir/out"
    answer
}
answer() {
    local line
    read -r -t 120 line <&"$out" || line=
    [ "$line" = ok ] || { cat "$dir/err"; return 1; }
}
# do_it COMMAND...: as top_crowd has it.
do_it() {
    echo "$@" >&"$in"
    answer
}

# watch: ivshmem top in the background, a JSON object for each look in $dir/looks.
watch() {
    ivshmem top --json --interval 0.1 "$r" >"$dir/looks" 2>"$dir/top.err" 3>&- &
    jobs+=("$!")
    until_true looked true
}
# looked FILTER: the last look is as the filter says.
looked() { jq -s '.[-1] // empty' "$dir/looks" 2>/dev/null | jq -e "$1" >/dev/null; }

@test "wrong usage is one line and status 2" {
    local interval
    for interval in 0 0.01 -1 x 1s 3601 nan inf ""; do
        says_usage "is not a number of seconds from 0.1 to 3600" top --interval "$interval" "$r"
    done
    says_usage "top: unknown option --all" top --all
    says_usage "top takes one region" top "$r" b
    says_usage "unknown option --once" ps --once
    run -1 ivshmem top --once "$dir/none"
    [ "${#lines[@]}" -eq 1 ]
    head -c 4M /dev/zero >"$dir/zero"
    run -1 ivshmem top --once "$dir/zero"
    [ "${#lines[@]}" -eq 1 ]
    says "ivshmem format"
}

@test "an empty region" {
    run -0 ivshmem top --once --interval 0.1 "$r"
    [ "${#lines[@]}" -eq 4 ]
    says "processes 0, jobs 0, machines 0"
    ivshmem top --once --json --interval 0.1 "$r" |
        jq -e '.endpoints == [] and .blocks == [] and .memory.free_blocks == .memory.blocks and .rates.eager_sent == 0'
}

# told_until FILTER: the crowd goes on telling, until the last look is as the filter says.
seconds=0
told_until() {
    tell_and_look() { do_it tell $((seconds += 3)) && looked "$filter"; }
    local filter=$1
    until_true tell_and_look
}

@test "rates are by the clocks of those who tell them" {
    crowd 2 pair
    do_it tell 1
    watch
    # It has told once: there is nothing to compare with.
    until_true looked '.seconds > 0 and (.endpoints | length) == 2 and ([.endpoints[] | has("rates")] | any | not) and
        .endpoints[1].counts.eager_sent == 200 and .endpoints[1].kind == "rank" and .rates.eager_sent == 0'
    # However long that takes here, and whatever they do.
    told_until '[.endpoints[].rates] == [1, 2 | {
        eager_sent: (100 * .), eager_sent_bytes: (10000 * .), eager_received: (50 * .), eager_received_bytes: (5000 * .),
        large_sent: (2 * .), large_sent_bytes: (3000000 * .), large_received: 0, large_received_bytes: 0, copied_once: .,
        tcp_sent: (7 * .), tcp_sent_bytes: (700 * .), no_room: 0, sleeps: 0, waited: 250000000, waiting: 0.25}] and
        .rates.eager_sent == 300 and [.endpoints[].does] == ["works", "works"]'
    do_it doing 3
    told_until '[.endpoints[].does] == ["sleeps", "sleeps"]'
    # Nothing is told for a while.
    until_true looked '[.endpoints[] | .does == "away" and .rates.eager_sent == 0] | all'
    # Nonsense is not taken for something.
    do_it doing 5
    until_true looked '[.endpoints[] | has("does")] | any | not'
    do_it tell 1
    until_true looked '.endpoints[0].counts.eager_sent == 100 and ([.endpoints[] | has("rates")] | any | not)'
    [ ! -s "$dir/top.err" ]
}

@test "how full cells and rings are, and what is named" {
    crowd 2 full
    do_it send 10
    # Four messages and the announcement of the ring are in cells.
    ivshmem top --once --json --interval 0.1 "$r" >"$dir/found"
    jq -e '[.endpoints[] | .cells_in_flight, .rings, .ring_slots_in_use] == [5, 1, 6, 0, 0, 0]' "$dir/found" ||
        { cat "$dir/found"; return 1; }
    do_it send 1000000
    do_it block board 300000
    ivshmem top --once --json --interval 0.1 "$r" >"$dir/found"
    jq -e '.endpoints[0].ring_slots_in_use == 71 and [.blocks[] | .name, .bytes] == ["board", 300000] and
        .memory.ring_blocks > 0 and .memory.user_blocks > 0' "$dir/found" || { cat "$dir/found"; return 1; }
    run -0 ivshmem top --once --interval 0.1 "$r"
    says "blocks  1 of 293K: board 293K"
    says "processes 2, jobs 1, machines 1"
    grep -qE '^full +0 .* 100% +[0-9.]+[KM]$' <<<"$output"
}

@test "pipes, and their bytes" {
    mkfifo "$dir/data"
    ivshmem recv p "$r" >"$dir/got" 2>"$dir/recv.err" 3>&- &
    jobs+=("$!")
    ivshmem send p "$r" <"$dir/data" 2>"$dir/send.err" 3>&- &
    jobs+=("$!")
    exec {data}>"$dir/data"
    head -c 1000000 /dev/zero >&"$data"
    watch
    until_true looked '[.endpoints[] | .kind, .counts.large_sent_bytes, .counts.large_received_bytes] ==
        ["pipe", 1000000, 0, "pipe", 0, 1000000]'
    until_true looked '.endpoints[1].does as $does | ["sleeps", "naps"] | index($does)'
    run -0 ivshmem top --once --interval 0.1 "$r"
    grep -qE '^pipe p +- ' <<<"$output"
}

@test "plain text where there is no terminal, again and again" {
    crowd 3 some
    ivshmem top --interval 0.1 "$r" >"$dir/text" 2>"$dir/top.err" 3>&- &
    jobs+=("$!")
    has_three() { [ "$(grep -c '^JOB ' "$dir/text")" -ge 3 ]; }
    until_true has_three
    kill -INT "${jobs[-1]}"
    wait "${jobs[-1]}"
    [ ! -s "$dir/top.err" ]
    run ! grep -qP '[^ -~]' "$dir/text"
    [ "$(grep -c '^some ' "$dir/text")" -ge 9 ]
    # Whoever reads no further ends it, without a word.
    run bash -c "ivshmem top --interval 0.1 '$r' | head -n 1"
    [ "${#lines[@]}" -eq 1 ]
    run ! env MPIR_CVAR_NEMESIS_IVSHMEM_REGION="$r" bash -c 'ivshmem top --once --interval 0.1 >/dev/full'
    says "cannot write the output"
}

@test "it fits a terminal of 80x24, and leaves it as it was" {
    local end
    crowd 40 'a-job-with-a-name-that-is-long-and-more'
    for end in q SIGINT SIGTERM; do
        run -0 --separate-stderr "$IVSHM_SRC/test/unit/top_screen.py" 80 24 $end ivshmem top --interval 0.1 "$r"
        [ "${#lines[@]}" -eq 5 ] || { echo "$output"; echo "$stderr"; return 1; }
        [[ ${lines[4]} =~ ^a-job-with-a-\ +x40\  ]]
        [ -z "$stderr" ]
    done
    run -0 "$IVSHM_SRC/test/unit/top_screen.py" 80 46 q ivshmem top --interval 0.1 "$r"
    [ "$(grep -c '^a-job' <<<"$output")" -eq 40 ]
    for end in 3 1; do
        run -0 "$IVSHM_SRC/test/unit/top_screen.py" 20 "$end" q ivshmem top --interval 0.1 "$r"
    done
}

@test "rows that do not fit are counted" {
    local i
    crowd 2 first
    exec {in}>&- {out}<&-
    rm "$dir/in" "$dir/out"
    for i in 1 2 3 4; do
        ivshmem recv "p$i" "$r" >"$dir/got" 2>&1 3>&- &
        jobs+=("$!")
    done
    joined() { [ "$(ivshmem ps --json "$r" | jq '[.endpoints[] | select(.state == "live")] | length')" -eq 4 ]; }
    until_true joined
    run -0 "$IVSHM_SRC/test/unit/top_screen.py" 80 7 q ivshmem top --interval 0.1 "$r"
    [[ ${lines[-1]} == "... and 2 more: "* ]] || { echo "$output"; return 1; }
}

@test "a file that is cut ends it, with a message on the terminal that was there before" {
    run -0 --separate-stderr "$IVSHM_SRC/test/unit/top_screen.py" 80 24 "truncate -s 0 $r" ivshmem top --interval 0.1 "$r"
    [[ $stderr == "ivshmem: part of the region's memory is gone"* ]] || { echo "$output"; echo "$stderr"; return 1; }
}

@test "only who may read the region sees it" {
    [ "$(id -u)" -eq 0 ] || skip "not root"
    crowd 2 secret
    run -1 setpriv --reuid 65534 --regid 65534 --clear-groups ivshmem top --once --interval 0.1 "$r"
    says "no permission"
    chmod 640 "$r"
    chgrp 65534 "$r"
    run -0 setpriv --reuid 65533 --regid 65534 --clear-groups ivshmem top --once --interval 0.1 "$r"
    says secret
}

@test "no contents of a region make it fail" {
    local i at
    crowd 3 victim
    do_it tell 1
    do_it send 40
    do_it block b 5000
    for i in $(seq 24); do
        # A few bytes in the tables, or in what the processes tell and send, which begins with the blocks.
        at=$((4096 + RANDOM * RANDOM % (i % 2 ? 800000 : 4000000)))
        head -c $((8 << i % 10)) /dev/urandom | dd of="$r" bs=1 seek="$at" conv=notrunc status=none
        run -0 --separate-stderr checked top --once --interval 0.1 "$r"
        [ -z "$stderr" ] || { echo "$stderr"; return 1; }
        run ! grep -qP '[^ -~]|.{80}' <<<"$output"
        checked top --once --json --interval 0.1 "$r" >"$dir/json"
        jq -e '.endpoints | type == "array"' "$dir/json" >/dev/null || { cat "$dir/json"; return 1; }
    done
    # All of it, except for the superblock: nothing there has an owner, or everything.
    head -c 8M /dev/urandom | dd of="$r" bs=4096 seek=1 conv=notrunc status=none
    checked top --once --json --interval 0.1 "$r" | jq -e '.endpoints | length > 0' >/dev/null
    run -0 checked top --once --interval 0.1 "$r"
}
