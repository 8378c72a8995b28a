#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# ivshmem perf: what it prints, how it ends when anything is wrong, and that it leaves nothing behind. How fast it is is
# no matter here.

load ivshmem

setup() {
    dir=$BATS_TEST_TMPDIR # bats removes it, in any case
    r=$(mktemp -u /dev/shm/ivshmem-perf.XXXXXX)
    jobs=()
    ivshmem format --size 16M "$r" >/dev/null
}

teardown() {
    end_jobs
    rm -f "$r"
}

# begin NAME ARG...: `$program perf ARG... $r` in the background; its pid is in $pid, its output in $dir/NAME.
begin() { in_background "$dir/$1" "${program:-ivshmem}" perf "${@:2}" "$r"; }

# server NAME ARG...: one that waits for its client.
server() {
    begin "$1" --serve "${@:2}"
    until_true grep -qE "^(waiting as endpoint|ivshmem: )|not found" "$dir/$1"
    grep -q "^waiting as endpoint" "$dir/$1" || { cat "$dir/$1"; return 1; }
}

# ends PID STATUS NAME [TEXT]: it ends with that status, after it has said that.
ends() {
    local status=0
    wait "$1" || status=$?
    cat "$dir/$3"
    [ "$status" -eq "$2" ]
    [ -z "${4:-}" ] || grep -qF -- "$4" "$dir/$3"
}

# A process is on the region.
is_on() { ivshmem ps "$r" | grep -q "ivshmem-perf.* live"; }

# Nobody is on the region, nothing is allocated, and it is sound.
is_empty() {
    run -0 ivshmem check "$r"
    says "0 endpoints in use, 0 blocks in use"
}

@test "wrong usage is one line and status 2" {
    says_usage "--serve and --both cannot be combined" perf --serve --both "$r"
    says_usage "--both and --name cannot be combined" perf --both --name x "$r"
    says_usage "--name needs 1 to 64 bytes" perf --name "" "$r"
    says_usage "--name needs 1 to 64 bytes" perf --name "$(printf %065d 0)" "$r"
    says_usage "for the side that measures" perf --serve --json "$r"
    says_usage "for the side that measures" perf --serve --sizes 8 "$r"
    says_usage "--time and --iterations cannot be combined" perf --time 1 --iterations 1 "$r"
    for list in "" latencies "latency," "hop" "latency bandwidth"; do
        says_usage "is not a list of latency, bandwidth, rate and copy" perf --tests "$list" "$r"
    done
    for list in "" -1 8- 8-4 8-8 1-2-4 x "8," 2G 1.5K "8 16" "$(seq -s , 65)" "$(seq -s , 2000)"; do
        says_usage "is not a list of at most 64 sizes" perf --sizes "$list" "$r"
    done
    for time in "" 0 -1 x 1s nan inf 3601; do
        says_usage "is not a number of seconds from 0.001 to 3600" perf --time "$time" "$r"
    done
    for count in "" 0 -1 x 1K 1048577 99999999999999999999; do
        says_usage "is not a number from 1 to 1048576" perf --iterations "$count" "$r"
    done
    for cpu in "" -1 x 0,1 1024 "0,"; do
        says_usage "is not the number of a CPU" perf --cpu "$cpu" "$r"
    done
    says_usage "neither the number of a CPU nor two" perf --both --cpu 0,1,2 "$r"
    says_usage "perf: unknown option --between" perf --between 0 "$r"
    for t in 0 x 86401; do says_usage "not a number of seconds" perf --timeout "$t" "$r"; done
    is_empty
}

@test "both sides here: all tests and sizes, for a person" {
    run -0 --separate-stderr ivshmem perf --both --iterations 20 --sizes 0,8,300,4K-128K "$r"
    [ -z "$stderr" ]
    says "region     $r, 16 MiB, id "
    says "mapping    tmpfs, pages of "
    [[ $output =~ this\ side\ +endpoint\ [0-9]+\ on\ .*,\ any\ CPU ]]
    [[ $output =~ other\ side\ +endpoint\ [0-9]+\ on\ .*,\ any\ CPU ]]
    [[ $output =~ hop\ +[0-9.]+\ ns\ before,\ [0-9.]+\ ns\ after:\  ]]
    for size in 0 8 300 4096 8192 16384 32768 65536 131072; do
        # In latency and bandwidth, and from 4 KiB on in copy.
        lines_of=$(grep -cE "^ +$size " <<<"$output")
        case $size in
        8) [ "$lines_of" -eq 3 ] ;; # rate
        0 | 300) [ "$lines_of" -eq 2 ] ;;
        *) [ "$lines_of" -eq 3 ] ;;
        esac || { echo "$size: $lines_of lines"; echo "$output"; return 1; }
    done
    is_empty
}

# ordered FILE: the figures of each result there, of hops too, are in order, and there are some.
ordered() {
    jq -e '[.. | objects | select(has("p50"))] | length > 3 and
        all(.samples > 0 and 0 <= .min and .min <= .p50 and .p50 <= .p90 and .p90 <= .p99 and .p99 <= .max and
            .min <= .mean + 0.01 and .mean <= .max + 0.01)' "$1" || { cat "$1"; return 1; }
}

@test "JSON has all tests and sizes, and percentiles in order" {
    for how in "--iterations 1" "--iterations 2" "--iterations 101" "--time 0.002"; do
        # shellcheck disable=SC2086
        ivshmem perf --both $how --sizes 0-8,4K,1M --json "$r" >"$dir/json"
        python3 -m json.tool "$dir/json" >/dev/null
        sizes() { jq -c "[.results[] | select(.test == \"$1\") | .bytes]" "$dir/json"; }
        [ "$(sizes latency)" = "[0,1,2,4,8,4096,1048576]" ]
        [ "$(sizes bandwidth)" = "[0,1,2,4,8,4096,1048576]" ]
        [ "$(sizes rate)" = "[8]" ]
        [ "$(sizes copy)" = "[4096,1048576]" ]
        ordered "$dir/json"
        # One sample of each trip, one of each batch.
        [[ $how == *time* ]] || jq -e --argjson n "${how#* }" \
            'all(.results[]; (.into_ns // .ns).samples == (if .test == "latency" or .test == "copy" then $n else 1 end))' \
            "$dir/json"
        jq -e --arg r "$r" --arg id "$(ivshmem info --json "$r" | jq -r .id)" \
            '.region == $r and .id == $id and .size == 16777216 and .mapping.kind == "tmpfs" and .mapping.page >= 4096 and
             .this_side.cpu == null and .this_side.endpoint != .other_side.endpoint and
             (.hop_class | . == null or . > 0) and (.results[] | select(.bytes == 1048576 and .path) | .path == "pipeline")' \
            "$dir/json"
    done
    is_empty
}

@test "the paths of messages: a slot, a buffer or cells, a pipeline; in the smallest region, too" {
    for size in 16M 4M; do
        rm "$r"
        ivshmem format --size $size "$r"
        ivshmem perf --both --iterations 30 --tests latency --sizes 8,2000,32K,33K,100K --json "$r" >"$dir/json"
        jq -e '[.results[].path] | .[0] == "slot" and (.[1] == "buffer" or .[1] == "cell") and .[3:] == ["pipeline", "pipeline"]' \
            "$dir/json" || { cat "$dir/json"; return 1; }
        is_empty
    done
}

@test "copies for which the region has no memory are left out, and that is said" {
    rm "$r"
    ivshmem format --size 4M "$r"
    run -0 --separate-stderr ivshmem perf --both --iterations 3 --tests copy --sizes 4K,1K,8M --json "$r"
    [[ $stderr == *"copies of more than 1 MiB are left out"* ]] || { echo "$stderr"; return 1; }
    [ "$(jq -c '[.results[].bytes]' <<<"$output")" = "[4096]" ]
    is_empty
}

@test "two sides that were started apart, on CPUs of their own" {
    cpus=$(taskset -pc $$ | sed 's/.*: //')
    cpu=${cpus%%[-,]*}
    server 0 --cpu "$cpu"
    ivshmem perf --iterations 20 --sizes 8,64K --cpu "$cpu" --json "$r" >"$dir/json"
    ends "$pid" 0 0 "other side endpoint"
    ordered "$dir/json"
    jq -e --argjson cpu "$cpu" '.this_side.cpu == $cpu and .other_side.cpu == $cpu' "$dir/json"
    # The client may come first.
    begin 1 --iterations 20 --sizes 8
    until_true is_on
    run -0 ivshmem perf --serve "$r"
    ends "$pid" 0 1
    # With --both, a CPU is for this side; the other one runs anywhere.
    begin 2 --both --time 60 --tests latency --sizes 0 --cpu "$cpu"
    until_true grep -q ^hop "$dir/2"
    [ "$(taskset -pc "$pid" | sed 's/.*: //')" = "$cpu" ]
    [ "$(taskset -pc "$(pgrep -P "$pid")" | sed 's/.*: //')" = "$cpus" ]
    kill -TERM "$pid"
    ends "$pid" 1 2
    for which in --both --serve ""; do
        # shellcheck disable=SC2086
        run -1 ivshmem perf $which --cpu 1023 "$r"
        says "cannot run on CPU 1023: "
    done
    is_empty
}

@test "several pairs at once, with and without names" {
    all=()
    for i in 1 2; do
        begin "s$i" --serve --name "n$i"
        all+=("$pid")
        begin "t$i" --serve
        all+=("$pid")
        begin "b$i" --both --iterations 30 --sizes 0,8,64K
        all+=("$pid")
    done
    for i in 1 2; do
        begin "c$i" --name "n$i" --iterations 30 --sizes 0,8,64K
        all+=("$pid")
        begin "d$i" --iterations 30 --sizes 0,8,64K
        all+=("$pid")
    done
    for pid in "${all[@]}"; do wait "$pid" || { tail "$dir"/[stbcd][12]; return 1; }; done
    [ "$(grep -l "^hop .* after: " "$dir"/[bcd][12] | wc -l)" -eq 6 ]
    # Who is named is found by the name.
    server x --name x
    run -1 ivshmem perf --timeout 1 "$r"
    says "no \`ivshmem perf --serve\` came within 1 s"
    run -0 ivshmem perf --name x --tests rate "$r"
    ends "$pid" 0 x
    is_empty
}

@test "a side that nobody comes to says what to do" {
    id=$(ivshmem info --json "$r" | jq -r .id)
    run -1 ivshmem perf --timeout 1 "$r"
    says "no \`ivshmem perf --serve\` came within 1 s: run it on the other side"
    says "the id here is $id"
    run -1 ivshmem perf --serve --timeout 1 "$r"
    says "the other side did not come within 1 s: run \`ivshmem perf\` there"
    says "the id here is $id"
    # Nor does one come to a server that has somebody.
    server 0
    begin 1 --time 60 --tests latency --sizes 0
    until_true grep -q ^hop "$dir/1"
    run -1 ivshmem perf --timeout 1 "$r"
    says "served somebody else for 1 s: run one more"
    kill -INT "$pid"
    ends "$pid" 1 1 "interrupted"
    ends "${jobs[0]}" 1 0 "the other side left"
    is_empty
}

# measuring ARG...: a server, ${jobs[0]}, and a client, ${jobs[1]}, that measures for a minute.
measuring() {
    jobs=()
    server 0 "$@"
    begin 1 --time 60 --tests latency --sizes 0 "$@"
    until_true grep -q ^hop "$dir/1" || { cat "$dir/1"; return 1; }
    sleep 0.1
}

@test "the other side dies: an error, and all of its memory is free again" {
    for what in "--tests latency --sizes 0" "--tests bandwidth --sizes 1M" "--tests copy --sizes 64K"; do
        for victim in 0 1; do
            jobs=()
            server 0
            # shellcheck disable=SC2086
            begin 1 --time 60 $what
            until_true grep -q ^hop "$dir/1" || { cat "$dir/1"; return 1; }
            sleep 0.1
            kill -KILL "${jobs[victim]}"
            ends "${jobs[1 - victim]}" 1 $((1 - victim)) "the other side left during"
            is_empty
        done
    done
}

@test "the other side is stopped: an error after the timeout" {
    measuring --timeout 2
    kill -STOP "${jobs[0]}"
    ends "${jobs[1]}" 1 1 "the other side did not answer within 2 s"
    kill -CONT "${jobs[0]}"
    ends "${jobs[0]}" 1 0 "the other side"
    is_empty
}

@test "an interrupt of either side leaves nothing behind" {
    for signal in INT TERM HUP; do
        measuring
        kill -s $signal "${jobs[1]}"
        ends "${jobs[1]}" 1 1 "interrupted"
        ends "${jobs[0]}" 1 0 "the other side left during"
        is_empty
        measuring
        kill -s $signal "${jobs[0]}"
        ends "${jobs[0]}" 1 0 "interrupted"
        ends "${jobs[1]}" 1 1 "the other side left during"
        is_empty
        server 0
        kill -s $signal "$pid"
        ends "$pid" 1 0 "interrupted"
        begin 1
        until_true is_on
        kill -s $signal "$pid"
        ends "$pid" 1 1 "interrupted"
        is_empty
    done
}

@test "an output that nobody reads is an error, and leaves nothing behind" {
    # shellcheck disable=SC2016
    run bash -c 'set -o pipefail; ivshmem perf --both --iterations 20 "$1" | true' - "$r"
    [ "$status" -eq 1 ]
    says "cannot write the output: Broken pipe"
    # shellcheck disable=SC2016
    run -1 bash -c 'ivshmem perf --both --iterations 20 --json "$1" >/dev/full' - "$r"
    says "cannot write the output: No space left on device"
    is_empty
}

@test "--both: with either of the two, the other one ends" {
    for signal in INT TERM KILL; do
        begin 1 --both --time 60 --tests latency --sizes 0
        until_true grep -q ^hop "$dir/1"
        child=$(pgrep -P "$pid")
        kill -s $signal "$pid"
        status=0
        wait "$pid" || status=$?
        [ "$status" -eq "$([ $signal = KILL ] && echo 137 || echo 1)" ]
        until_true run ! kill -0 "$child"
        # One of the two says why, or none if that one was killed.
        [ "$(grep -c ^ivshmem: "$dir/1")" -eq "$([ $signal = KILL ] && echo 0 || echo 1)" ] || { cat "$dir/1"; return 1; }
        # A process that was killed may still be ending when the other one leaves: whoever comes next cleans up then.
        [ $signal != KILL ] || ivshmem reap "$r"
        is_empty
    done
    begin 1 --both --time 60 --tests latency --sizes 0
    until_true grep -q ^hop "$dir/1"
    kill -KILL "$(pgrep -P "$pid")"
    ends "$pid" 1 1 "the other side left during"
    is_empty
}

@test "no region, a read-only one, and a full one are errors with advice" {
    for side in --serve --both ""; do
        # shellcheck disable=SC2086
        run -1 ivshmem perf $side "$dir/none"
        says "$dir/none"
        head -c 4M /dev/urandom >"$dir/foreign"
        sum=$(cksum <"$dir/foreign")
        # shellcheck disable=SC2086
        run -1 ivshmem perf $side "$dir/foreign"
        says "neither a region nor empty"
        [ "$sum" = "$(cksum <"$dir/foreign")" ]
    done
    chmod 400 "$r"
    # Without these capabilities even root is refused.
    [ "$(id -u)" -ne 0 ] || unprivileged="setpriv --bounding-set=-dac_override,-dac_read_search"
    # shellcheck disable=SC2086
    run -1 ${unprivileged:-} ivshmem perf --both "$r"
    says "no permission"
    chmod 600 "$r"
    is_empty

    rm "$r"
    ivshmem format --size 4M "$r"
    for i in $(seq 30); do
        begin "$i" --serve --name "$i"
        until_true grep -qE "waiting|full|memory" "$dir/$i"
        ! grep -q "^ivshmem: " "$dir/$i" || break
    done
    ends "$pid" 1 "$i" "is full"
    run -1 ivshmem perf --both "$r"
    says "is full"
    for pid in "${jobs[@]}"; do
        kill -TERM "$pid" 2>/dev/null || : # the last one has ended
        wait "$pid" || :
    done
    is_empty
    run -0 ivshmem perf --both --iterations 3 --sizes 8 "$r"
}

# make_evil FOLDER: in the sources there, calls is_evil at each such place.
make_evil() {
    local sources=$1
    sed -i -e 's/\.off = extent}/.off = is_evil("extent") ? (ivshm_off){UINT64_MAX - 63} : extent}/' \
        -e 's/\.arg = PERF_VERSION, \.bytes = bytes/.arg = PERF_VERSION, .bytes = is_evil("small") ? 64 : bytes/' \
        -e 's/\.kind = PERF_HELLO, \.arg = PERF_VERSION/.kind = PERF_HELLO, .arg = PERF_VERSION + is_evil("version")/' \
        -e 's/\.kind = PERF_WELCOME, \.arg = PERF_VERSION/.kind = PERF_WELCOME, .arg = PERF_VERSION + is_evil("welcome")/' \
        -e 's/\.off = ivshm_pipeline_offset(pipeline)/.off = {is_evil("pipeline") ? 64 : ivshm_pipeline_offset(pipeline).bytes}/' \
        -e 's/\.arg = ivshm_pipeline_next(pipeline)/.arg = is_evil("first") ? UINT32_MAX : ivshm_pipeline_next(pipeline)/' \
        -e 's/ivshm_pipeline_publish_spsc(pipeline, len, note)/ivshm_pipeline_publish_spsc(pipeline, is_evil("chunk") ? UINT32_MAX : len, note)/' \
        -e 's/link->channel, &out, len);/link->channel, \&out, is_evil("long") ? out.capacity : is_evil("empty") ? 0 : len);/' \
        -e 's/&link->here, sizeof(link->here));/(is_evil("text") ? memset(\&link->here, 033, sizeof(link->here)) : \&link->here), sizeof(link->here));/' \
        "$sources/ivshmem_perf_link.c"
    sed -i -e 's/\.kind = PERF_RUN,/.kind = PERF_RUN + (is_evil("kind") ? 99 : 0),/' \
        -e 's/\.arg = test,/.arg = is_evil("test") ? UINT32_MAX : test,/' \
        -e '/struct perf_note run/,/};/s/\.bytes = bytes,$/.bytes = bytes + (is_evil("huge") ? UINT64_MAX \/ 2 : is_evil("copy") \&\& test == PERF_COPY ? 1 << 24 : 0),/' \
        "$sources/ivshmem_perf.c"
    [ "$(grep -o is_evil "$sources"/ivshmem_perf*.c | wc -l)" -eq 14 ] || { grep is_evil "$sources"/*.c; return 1; }
}

@test "a client that says nonsense costs its connection, and no more" {
    compile_evil
    program=checked
    for evil in "small has only 64 bytes" "version " "extent " "kind unknown" "test unknown" "huge unknown" "copy unknown" \
        "pipeline provided a pipeline" "first provided a pipeline" "chunk unexpected" "long unexpected" "empty unexpected" "text "; do
        server 0 --timeout 20
        EVIL=${evil%% *} run timeout -k 1 100 evil perf --timeout 3 --iterations 3 --sizes 8K,100K "$r"
        [ "$status" -lt 124 ]
        case ${evil%% *} in
        version | extent) # refused: the server waits for another one
            [ "$status" -eq 1 ]
            run -0 ivshmem perf --iterations 3 --sizes 8 "$r"
            ends "$pid" 0 0 ;;
        text) ends "$pid" 0 0 ;;
        *) ends "$pid" 1 0 "${evil#* }" ;;
        esac
        run ! grep -qP '[^\x20-\x7e]|Sanitizer|runtime error' "$dir/0"
        is_empty
    done
}

@test "a server that says nonsense costs its connection, and no more" {
    compile_evil
    program=evil
    for evil in "welcome by version 2, this one by version 1" "pipeline provided a pipeline" "first provided a pipeline" \
        "chunk unexpected" "long unexpected" "empty unexpected"; do
        EVIL=${evil%% *} server 0
        run -1 timeout -k 1 100 checked perf --timeout 20 --iterations 3 --sizes 8K,100K "$r"
        says "${evil#* }"
        wait "$pid" || :
        is_empty
    done
    EVIL=text server 0
    checked perf --iterations 3 --sizes 8 "$r" >"$dir/text"
    wait "$pid"
    run ! grep -P '[^\x20-\x7e]' "$dir/text"
    EVIL=text server 0
    checked perf --iterations 3 --sizes 8 --json "$r" >"$dir/json"
    wait "$pid"
    run ! grep -P '[^\x20-\x7e]' "$dir/json"
    python3 -m json.tool "$dir/json" >/dev/null
    is_empty
}

@test "bytes that come back wrong are an error" {
    sources=$BATS_FILE_TMPDIR/wrong-sources
    mkdir "$sources"
    cp "$IVSHM_SRC"/tools/ivshmem*.[ch] "$sources"
    sed -i 's/err = perf_send(&s->link, s->in, bytes/s->in[bytes \/ 2] ^= 1, &/' "$sources/ivshmem_perf.c"
    run ! cmp -s "$sources/ivshmem_perf.c" "$IVSHM_SRC/tools/ivshmem_perf.c"
    compile wrong
    for size in 8 100K; do
        run -1 wrong perf --both --iterations 3 --sizes $size "$r"
        says "1 of $([ $size = 8 ] && echo 8 || echo 102400) bytes came back wrong"
    done
    is_empty
}
