#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# The command ivshmem: what it does, what it prints, and what it leaves alone. An `ivshmem check --between` that waits
# for its other side serves as a process on a region.

load ivshmem

setup() {
    dir=$BATS_TEST_TMPDIR # bats removes it, in any case
    r=$dir/region
    jobs=()
}

teardown() { end_jobs; }

format() { ivshmem format --size "${1:-4M}" "$r" >/dev/null; }

number() { ivshmem info --json "$r" | jq "$1"; }

# checker SIDE [ARG...]: a process that joins in the background; its pid is in $pid, its output in $dir/out.
checker() {
    # Not 3, the descriptor on which bats would wait for it.
    ivshmem check --between "$1" --timeout 600 "${@:2}" "$r" >"$dir/out" 2>&1 3>&- &
    pid=$!
    jobs+=("$pid")
    for _ in $(seq 12000); do
        ! ivshmem ps --json "$r" | jq -e ".endpoints[] | select(.pid == $pid and .state == \"live\")" >/dev/null || return 0
        sleep 0.01
    done
    cat "$dir/out"
    return 1
}

# poke OFFSET WORD: stores a little-endian 64-bit word.
poke() {
    local hex i bytes=
    hex=$(printf %016x "$2")
    for i in 14 12 10 8 6 4 2 0; do bytes+="\\x${hex:i:2}"; done
    printf %b "$bytes" | dd of="$r" bs=1 seek="$1" conv=notrunc status=none
}

peek() { od -An -t u8 -j "$1" -N 8 "$r" | tr -d ' '; }

# The offset of endpoint $1's claim, of word $2 of its entry, of block $1's word.
entry_at() { echo $((4096 + $1 * 512 + 8 * ${2:-0})); }
block_at() { echo $(($(number .geometry.block_map) + 8 * $1)); }

# seal INDEX: the seal of the entry's identity, as doc/layout.md defines it.
seal() {
    local word h=$(($(peek "$(entry_at "$1")") >> 45 & 0x7ffff))
    for word in 9 10 11 12 19 20 21 13 14 15 23; do
        h=$(((h ^ $(peek "$(entry_at "$1" "$word")")) * 0x9e3779b97f4a7c15))
        h=$((h ^ h >> 32 & 0xffffffff))
    done
    poke "$(entry_at "$1" 22)" "$h"
}

# moved INDEX BOOT [UUID]: makes endpoint INDEX look like one of another VM, in its boot BOOT. The VM's uuid ends in the
# digit UUID (BOOT if not given), and is unknown if that is 0.
moved() {
    local ids claim hash uuid=${3:-$2}
    poke "$(entry_at "$1" 9)" "$2"
    poke "$(entry_at "$1" 11)" $((uuid ? 0x1111222233334444 : 0))
    poke "$(entry_at "$1" 12)" $((uuid ? 0x5555666677778880 + uuid : 0))
    ids=$(($(peek "$(entry_at "$1" 9)") ^ $(peek "$(entry_at "$1" 10)") ^ $(peek "$(entry_at "$1" 13)")))
    hash=$(((ids * 0x9e3779b97f4a7c15) >> 44 & 0xfffff))
    claim=$(peek "$(entry_at "$1")")
    poke "$(entry_at "$1")" $((claim & ~(0xfffff << 25) | hash << 25))
    seal "$1"
}

@test "help and version" {
    run -0 ivshmem --help
    says "usage: ivshmem COMMAND"
    run -0 ivshmem ps --help
    says "usage: ivshmem COMMAND"
    run -0 ivshmem --version
    [[ $output =~ ^ivshmem\ .*layout\ version\ 9$ ]]
    [ "$(ivshmem check --version)" = "$output" ]
}

@test "wrong usage is one line and status 2" {
    says_usage "no command given"
    says_usage "'frobnicate' is not a command" frobnicate
    says_usage "info: unknown option --frobnicate" info --frobnicate
    says_usage "info: unknown option -x" info -x
    says_usage "format: unknown option -z" format --size=4M -zq
    says_usage "format: unknown option -f" format -f "$r"
    says_usage "--force=x takes no value" format --force=x "$r"
    says_usage "ps: unknown option --size" ps --size 64M "$r"
    says_usage "reap: unknown option --json" reap --json
    says_usage "--size needs a value" format --size
    says_usage "cannot be combined" reap --endpoint 0.1 --vm-gone x "$r"
    says_usage "cannot be combined" reap --endpoint 0.1 --container-gone x "$r"
    for size in 0 -1 64X 64MB M 1.5G 99999999999G ""; do
        says_usage "is not a size such as 64M" format --size "$size" "$r"
    done
    says_usage "takes one region, but b was given as well" ps a b
    says_usage "name of the file" format --size 64M
    says_usage "must be 0 on one side and 1 on the other" check --between 2 "$r"
    for t in 0 -1 x 1s 100000 4294967297; do
        says_usage "not a number of seconds" check --between 0 --timeout "$t" "$r"
    done
    says_usage "only with --between" check --timeout 3 "$r"
    says_usage "name is empty" info ""
    says_usage "info --all is for all devices and takes no region" info --all "$r"
    says_usage "reap --all is for all devices and takes no region" reap --all "$r"
    says_usage "cannot be combined" reap --all --vm-gone x
    [ ! -e "$r" ]
}

@test "ivshmem-env: usage" {
    mkdir -p "$dir/inst/bin" "$dir/inst/lib"
    cp "$IVSHM_SRC/tools/ivshmem-env" "$dir/inst/bin"
    : >"$dir/inst/lib/libmpi.so.12"
    env=$dir/inst/bin/ivshmem-env
    run -0 "$env" --malloc --help
    says "usage: ivshmem-env"
    # shellcheck disable=SC2016
    run -0 "$env" -- sh -c 'echo "$1"' - --help
    [ "$output" = --help ]
    for wrong in --mallocx "--malloc --mallocx" -x; do
        # shellcheck disable=SC2086
        run -2 --separate-stderr "$env" $wrong true
        [[ $stderr == "ivshmem-env: unknown option ${wrong##* }"*usage* ]]
    done
}

@test "messages never go into a file when a standard descriptor is closed" {
    echo "of somebody else" >"$r"
    for closed in "2>&-" ">&- 2>&-" "<&- >&- 2>&-" "<&- 2>&-"; do
        run -1 bash -c "ivshmem format --size 4M '$r' $closed"
        [ "$(<"$r")" = "of somebody else" ]
    done
    rm "$r"
    format
    run -1 bash -c "ivshmem info '$r' >&-"
    says "cannot write the output: Bad file descriptor"
}

@test "resource limits of the process are reported, with advice" {
    run -1 bash -c "ulimit -f 100 && ivshmem format --size 4M '$r'"
    says "cannot allocate 4 MiB for $r: File too large: raise the limit on file sizes (ulimit -f)"
    [ ! -e "$r" ]
    format 256M
    run -1 bash -c "ulimit -v 100000 && ivshmem info '$r'"
    says "cannot map $r (file, 268435456 bytes): Cannot allocate memory: raise this process' limit of address space (ulimit -v)"
}

@test "without /proc it is unknown who uses a region, and format reports that" {
    unshare -m true 2>/dev/null || skip "no mount namespaces here"
    format
    without_proc() {
        # shellcheck disable=SC2016
        unshare -m sh -c 'mount -t tmpfs none /proc && exec "$@"' - "$@"
    }
    before=$(number .id)
    run -1 without_proc ivshmem format "$r"
    says "$r is already a region, id "
    says "but whether it is in use is unknown: nothing changed; cannot read this process' start time"
    [ "$before" = "$(number .id)" ]
    run -0 without_proc ivshmem format --force "$r"
    says "warning: region $r may have been in use, and its processes have lost it now"
    rm "$r"
    run -0 without_proc ivshmem format --size 4M "$r"
    says "created $r"
}

@test "an output that cannot be written is an error" {
    format
    run -1 bash -c "ivshmem info '$r' >/dev/full"
    says "cannot write the output"
}

@test "format creates a file that only its user can access, with sizes in any unit" {
    run -0 ivshmem format --size 4M "$r"
    says "created $r, 4 MiB, room for 1"
    [ "$(stat -c '%a %s' "$r")" = "600 4194304" ]
    run -0 ivshmem format --size 8192k "$dir/k"
    [ "$(stat -c %s "$dir/k")" -eq $((8 << 20)) ]
    run -0 ivshmem format --size 4194304 "$dir/b"
    # All of the file has memory: nothing can fail later.
    [ $(($(stat -c '%b * %B' "$r"))) -ge 4194304 ]
}

@test "format a second time changes nothing, and reports that" {
    format
    sum=$(cksum <"$r")
    for args in "" "--size 4M"; do
        # shellcheck disable=SC2086
        run -0 ivshmem format $args "$r"
        says "$r is already a region, id $(number .id | tr -d '"'), in use by 0: nothing changed"
    done
    [ "$sum" = "$(cksum <"$r")" ]
}

@test "format of an empty or zeroed file, with the name from the environment" {
    : >"$r"
    run -1 ivshmem format "$r"
    says "is empty: run \`ivshmem format --size 64M"
    run -0 ivshmem format --size 4M "$r"
    says "formatted $r"
    truncate -s 4M "$dir/zero"
    MPIR_CVAR_NEMESIS_IVSHMEM_REGION=$dir/zero run -0 ivshmem format
    says "formatted $dir/zero, 4 MiB"
    MPIR_CVAR_NEMESIS_IVSHMEM_REGION=$dir/zero run -0 ivshmem info
}

# memory_of FILE: how many bytes of memory it has.
memory_of() { echo $(($(stat -c '%b * %B' "$1"))); }

# as_another COMMAND...: runs it as a user who is neither root nor this one.
as_another() {
    [ "$(id -u)" -eq 0 ] || skip "only root can be another user"
    setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
}

# A folder like /dev/shm: everyone may create files there, and remove only their own.
public_folder() {
    public=$(mktemp -d /dev/shm/ivshm-tool.XXXXXX)
    chmod 1777 "$public"
    r=$public/region
}

@test "format allocates a sparse file's memory, with and without --size, even in use" {
    for args in "" "--size 4M" "--force"; do
        rm -f "$r"
        truncate -s 4M "$r"
        # shellcheck disable=SC2086
        run -0 ivshmem format $args "$r"
        says "formatted $r"
        [ "$(memory_of "$r")" -ge 4194304 ]
    done
    rm "$r"
    truncate -s 4M "$r"
    ivshmem check --between 0 --timeout 600 "$r" >"$dir/out" 2>&1 3>&- &
    jobs+=($!)
    until [ "$(number .usage.endpoints 2>/dev/null)" = 1 ]; do sleep 0.01; done
    [ "$(memory_of "$r")" -lt 4194304 ]
    run -0 ivshmem format "$r"
    says "in use by 1: all its memory is allocated now"
    [ "$(memory_of "$r")" -ge 4194304 ]
    run -0 ivshmem format "$r"
    says "in use by 1: nothing changed"
    # A file with foreign data gets no memory.
    rm "$r"
    truncate -s 4M "$r"
    poke 0 12345
    run -1 ivshmem format "$r"
    says "neither a region nor empty"
    [ "$(memory_of "$r")" -lt 4194304 ]
}

@test "format gives a new region its name only after it has its memory" {
    command -v strace >/dev/null || skip "strace is not installed"
    run -0 strace -f -o "$dir/trace" -e trace=openat,fallocate,linkat,link ivshmem format --size 4M "$r"
    grep -q 'fallocate(.* = 0' "$dir/trace" || skip "the file system of $dir cannot allocate"
    grep -q "O_TMPFILE.* = [0-9]" "$dir/trace" || skip "the file system of $dir has no nameless files"
    awk '/fallocate/ { whole = NR } /linkat.*region"/ { named = NR }
         END { exit !(whole && named && whole < named) }' "$dir/trace"
    run ! grep -E 'openat.*region".*O_CREAT' "$dir/trace"
}

@test "format --size follows no link, and leaves its target alone" {
    ln -s "$dir/target" "$r"
    run -1 ivshmem format --size 4M "$r"
    says "$r is a symbolic link, which --size does not follow"
    [ ! -e "$dir/target" ]
    truncate -s 4M "$dir/target"
    for force in "" --force; do
        # shellcheck disable=SC2086
        run -1 ivshmem format --size 4M $force "$r"
        says "$r is a symbolic link"
    done
    cmp -n 4194304 "$dir/target" /dev/zero
    # For a command that creates no file, one's own link is a name like any other.
    run -0 ivshmem format "$r"
    says "formatted $r"

    rm "$r"
    ln "$dir/target" "$r"
    run -1 ivshmem format --size 4M --force "$r"
    says "has 2 names (hard links)"
}

@test "format --size refuses another user's file" {
    public_folder
    # shellcheck disable=SC2016
    as_another sh -c 'umask 0; head -c 4194304 /dev/zero >"$1"' - "$r" || { rm -r "$public"; return 1; }
    for force in "" --force; do
        # shellcheck disable=SC2086
        run ivshmem format --size 4M $force "$r"
        [ "$status" -eq 1 ] && says "already exists and belongs to $(id -nu 65534), who can read and change" || {
            rm -r "$public"
            return 1
        }
    done
    cmp -n 4194304 "$r" /dev/zero || { rm -r "$public"; return 1; }
    # Without --size, that file was asked for explicitly; a message says so.
    run --separate-stderr ivshmem format "$r"
    rm -r "$public"
    [ "$status" -eq 0 ]
    [[ $stderr == *"warning: $r belongs to $(id -nu 65534), who can read and change"* ]]
}

@test "no command follows a link that another user has planted" {
    public_folder
    truncate -s 4M "$dir/target"
    as_another ln -s "$dir/target" "$r" || { rm -r "$public"; return 1; }
    for cmd in "format --size 4M" format "format --force" info ps check reap "check --between 0"; do
        # shellcheck disable=SC2086
        run ivshmem $cmd "$r"
        [ "$status" -eq 1 ] && says "$r is a symbolic link" || { rm -r "$public"; return 1; }
    done
    rm -r "$public"
    cmp -n 4194304 "$dir/target" /dev/zero
}

@test "format --size creates nothing through a link to a folder that another user has planted" {
    public_folder
    mkdir "$dir/private"
    as_another ln -s "$dir/private" "$public/link" || { rm -r "$public"; return 1; }
    for name in "$public/link/new" "$public/link/../private/new" "$public/link/empty"; do
        : >"$dir/private/empty" # which --size would let grow
        for force in "" --force; do
            # shellcheck disable=SC2086
            run ivshmem format --size 4M $force "$name"
            [ "$status" -eq 1 ] && says "a symbolic link that another user made" &&
                [ "$(ls -A "$dir/private")" = empty ] && [ ! -s "$dir/private/empty" ] || {
                ls -l "$dir/private"
                rm -r "$public"
                return 1
            }
        done
    done
    # One's own link, or another user's in that user's own folder, is a path like any other.
    ln -s "$dir/private" "$public/ours"
    run ivshmem format --size 4M "$public/ours/new"
    rm -r "$public"
    [ "$status" -eq 0 ]
    says "/ours/new, 4 MiB"
    [ "$(stat -c '%a %s' "$dir/private/new")" = "600 4194304" ]
}

@test "a name that is too long is an error" {
    local cmd long deep parts=
    for _ in 1 2 3; do parts+=$(printf %0200d 0)/; done
    deep=$dir/$parts
    long=$(printf '%04200d' 0)
    mkdir -p "$deep"
    for cmd in format "format --size 4M" "format --force" info ps check reap "check --between 0"; do
        # shellcheck disable=SC2086
        run -1 ivshmem $cmd "${deep}region"
        says "the region's name has $((${#deep} + 6)) bytes, at most 511 are possible: use a relative path"
        # shellcheck disable=SC2086
        run -1 ivshmem $cmd "$long"
        says "name has 4200 bytes" >/dev/null || says "too long"
    done
    [ -z "$(ls -A "$deep")" ]
    # As the message says.
    cd "$deep"
    run -0 ivshmem format --size 4M region
    run -0 ivshmem info region
}

# on_small_shm SIZE COMMAND...: runs it with a /dev/shm of its own, of that size.
on_small_shm() {
    unshare -m true 2>/dev/null || skip "no mount namespaces here"
    # shellcheck disable=SC2016
    unshare -m sh -c 'mount -t tmpfs -o "size=$1" none /dev/shm && shift && "$@"' - "$@"
}

@test "a sparse file on a full file system: an error from each command" {
    # shellcheck disable=SC2016
    run -0 on_small_shm 3m bash -c '
        r=/dev/shm/region
        truncate -s 64M $r
        ivshmem format $r && exit 1
        [ "$(($(stat -c "%b * %B" $r)))" -lt 1048576 ] || { echo "it has taken all there was"; exit 1; }
        ivshmem format --size 64M /dev/shm/other && exit 1
        [ ! -e /dev/shm/other ] || exit 1
        rm $r
        head -c 4M /dev/zero >/dev/shm/fill 2>/dev/null
        truncate -s 64M $r
        for cmd in info ps check reap format "format --force" "check --between 0"; do
            ivshmem $cmd $r
            [ $? = 1 ] || { echo "$cmd: not status 1"; exit 1; }
        done
        exit 0'
    [ "$(grep -c "region has 64 MiB, but only .* KiB of them have memory, and of its file system of 3 MiB only" \
        <<<"$output")" -eq 8 ] || { echo "$output"; return 1; }
    says "cannot allocate 64 MiB for /dev/shm/other: No space left on device"
}

@test "a file that is truncated while a command uses it: a message, not a signal" {
    format 8M
    checker 0
    truncate -s 4096 "$r"
    local status=0
    wait "$pid" || status=$?
    cat "$dir/out"
    [ "$status" -eq 1 ]
    [[ $(cat "$dir/out") == *"its file was truncated while this command used it"* ]]
}

@test "format refuses what it cannot do" {
    run -1 ivshmem format "$r"
    says "does not exist: \`ivshmem format --size 64M $r\` creates it"
    run -1 ivshmem format --size 1M "$r"
    says "at least 4 MiB are needed"
    run -1 ivshmem format --size 2T "$r"
    says "at most 1024 GiB are possible"
    [ ! -e "$r" ]
    run -1 ivshmem format --size 4M "$dir/none/region"
    says "cannot create $dir/none/region: cannot open its directory: No such file"
    run -1 ivshmem format --size 4M "$dir"
    says "cannot create $dir"
    run -1 ivshmem format --size 4M 0000:00:04.0
    says "0000:00:04.0 is a device, whose size QEMU sets"
    format
    run -1 ivshmem format --size 8M "$r"
    says "already exists and has 4 MiB, not 8 MiB"
    mkfifo "$dir/fifo"
    exec 5<>"$dir/fifo"
    run -1 ivshmem format --size 4M "$dir/fifo"
    says "not a regular file"
    exec 5>&-
    # What is not a file is not even opened: for a socket, the system would refuse that with its own message.
    perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => $ARGV[0], Listen => 1) or die' "$dir/socket"
    for size in "" "--size 4M"; do
        # shellcheck disable=SC2086
        run -1 ivshmem format $size "$dir/socket"
        says "$dir/socket is not a regular file"
    done
    ln -s "$dir/nowhere" "$dir/link"
    for cmd in format info; do
        run -1 ivshmem $cmd "$dir/link"
        says "$dir/link is a symbolic link to $dir/nowhere, which does not exist: remove the link, or create that file"
    done
}

@test "format on a full file system is an error, and leaves no file" {
    # More than its total size, so that no memory is taken from others meanwhile.
    total=$(($(stat -f -c '%b * %S' /dev/shm)))
    [ "$total" -gt 0 ] && [ $((total >> 30)) -lt 1000 ] || skip "/dev/shm is too large to be full"
    full=$(mktemp -u /dev/shm/ivshm-tool.XXXXXX)
    run -1 ivshmem format --size $(((total >> 30) + 2))G "$full"
    says "No space left on device"
    [ ! -e "$full" ]
}

@test "format warns of sizes that QEMU does not accept" {
    run -0 ivshmem format --size 5M "$r"
    says "warning: 5 MiB is not a power of two"
    run -0 ivshmem format --size 4194305 "$dir/odd"
    says "warning: 4194305 bytes is not a power of two"
    says "created $dir/odd, 4194305 bytes"
    run -1 ivshmem format --size 4M "$dir/odd"
    says "already exists and has 4194305 bytes, not 4 MiB"
}

@test "foreign data is left alone, byte for byte, except with --force" {
    head -c 4M /dev/urandom >"$r"
    sum=$(cksum <"$r")
    for cmd in format info ps check reap "check --between 0" perf; do
        # shellcheck disable=SC2086
        run -1 ivshmem $cmd "$r"
        says "neither a region nor empty"
        says "run \`ivshmem format --force $r\`"
    done
    [ "$sum" = "$(cksum <"$r")" ]
    run -0 ivshmem format --force "$r"
    says "formatted $r"
    run -0 ivshmem check "$r"
}

@test "only format writes to an unformatted file" {
    truncate -s 4M "$r"
    for cmd in info ps check reap; do
        run -1 ivshmem $cmd "$r"
        says "is unformatted"
    done
    cmp -n 4194304 "$r" /dev/zero
}

@test "a region that is too small, of another version, damaged or shrunk: an error for each" {
    truncate -s 1M "$r"
    run -1 ivshmem format "$r"
    says "has 1024 KiB, at least 4 MiB are needed"
    [ "$(memory_of "$r")" -eq 0 ]
    head -c 100 /dev/zero >"$r"
    run -1 ivshmem format "$r"
    says "at least 4 MiB are needed"
    rm "$r"

    format 8M
    truncate -s 4M "$r"
    run -1 ivshmem info "$r"
    says "has 4 MiB, but the region in it was formatted for 8 MiB"
    truncate -s 8M "$r"
    poke 96 77 # inbox slots
    run -1 ivshmem check "$r"
    says "superblock of $r is damaged: inbox slots is 77, expected 1024"
    for size in 0 4096 $((1 << 40 | 4096)) -1; do
        poke 24 "$size"
        run -1 ivshmem info "$r"
        says "superblock of $r is damaged: size is $(printf %u "$size"), expected 4194304 to 1099511627776; run \`ivshmem format --force $r\`"
    done
    poke 24 $((8 << 20))
    id=$(peek 40)
    poke 40 0
    run -1 ivshmem info "$r"
    says "superblock of $r is damaged: half of its id is 0, which no formatter writes"
    poke 40 "$id"
    poke 16 10
    run -1 ivshmem format "$r"
    says "layout version 10, this program needs version 9"
    run -0 ivshmem format --force "$r"
    run -0 ivshmem check "$r"
}

@test "no permission is an error with advice" {
    format
    chmod 000 "$r"
    # Without these capabilities even root is refused.
    [ "$(id -u)" -ne 0 ] || unprivileged="setpriv --bounding-set=-dac_override,-dac_read_search"
    # shellcheck disable=SC2086
    run -1 ${unprivileged:-} ivshmem info "$r"
    says "no permission to open $r: run as root, or give this user access"
    # A group that may.
    [ "$(id -u)" -eq 0 ] || return 0
    chown 1235:1234 "$r"
    chmod 660 "$r"
    # shellcheck disable=SC2086
    run -1 $unprivileged ivshmem info "$r"
    says "no permission to open $r: this process is not in its group, which has the ID 1234 (\`getent group 1234\`): add this user"
    # shellcheck disable=SC2086
    run -0 $unprivileged --groups=1234 ivshmem info "$r"
}

@test "info, as text and as JSON" {
    format 16M
    run -0 --separate-stderr ivshmem info "$r"
    says "region     $r (file, mode 0600, $(id -un):$(id -gn))"
    says "size       16 MiB"
    says "endpoints  0 of 256 in use"
    [ -z "$stderr" ]
    ivshmem info --json "$r" >"$dir/json"
    jq -e '.kind == "file" and .size == 16777216 and .formatted_size == .size and .mode == "0600" and
        (.id | length) == 32 and .geometry.blocks == .usage.free_blocks and .usage.endpoints == 0 and
        .usage.room_for_ranks == 19' "$dir/json"
    checker 0
    ivshmem info --json "$r" | jq -e '.usage.endpoints == 1 and
        .usage.base_blocks * .geometry.block_size == .geometry.base_bytes'
}

@test "info warns of a file that everybody can access, and of one that has grown" {
    format
    chmod 666 "$r"
    truncate -s 8M "$r"
    run -0 --separate-stderr ivshmem info "$r"
    says "size       8 MiB, formatted for 4 MiB"
    [[ $stderr == *"every user of this machine can write to $r"* ]]
    [[ $stderr == *"has grown since it was formatted"* ]]
    run -0 ivshmem format --force "$r"
    [ "$(number .formatted_size)" -eq $((8 << 20)) ]
}

@test "info --json escapes a name" {
    odd="$dir/a \"b\" \\ é"
    ivshmem format --size 4M "$odd"
    [ "$(ivshmem info --json "$odd" | jq .kind)" = '"file"' ]
    [ "$(ivshmem ps --json "$odd" | jq '.endpoints | length')" -eq 0 ]
}

@test "ps lists who is on the region" {
    format
    run -0 ivshmem ps "$r"
    says "no process is on region $r"
    checker 1
    run -0 ivshmem ps "$r"
    [[ ${lines[0]} =~ ^JOB\ +RANK\ +ENDPOINT\ +STATE\ +PROCESS\ +HOST\ +PID\ +PEER\ +HELD\ +SINCE$ ]]
    [[ ${lines[1]} =~ ^ivshmem-check\ +"1 of 2"\ +0\.1\ +live\ +alive\ +"$(uname -n)"\ +$pid\ +-\ +"172 KiB"\ +20 ]]
    ivshmem ps --json "$r" | jq -e --argjson pid "$pid" --arg host "$(uname -n)" '.endpoints == [{
        endpoint: 0, generation: 1, state: "live", process: "alive", pid: $pid, held: 176128,
        job: "ivshmem-check", rank: 1, job_size: 2, since: .endpoints[0].since, host: $host, vm: .endpoints[0].vm}]'
}

@test "ps shows the number by which ivshmem-server knows a process" {
    format
    checker 1
    poke "$(entry_at 0 23)" $((12 + 1))
    run -0 ivshmem ps "$r" # an identity that another process has changed
    [[ ${lines[1]} =~ ^-\ +-\ +0\.1\ +live\ +unknown\ +-\ +$pid\ +-\ +"172 KiB" ]]
    seal 0
    run -0 ivshmem ps "$r"
    [[ ${lines[1]} =~ \ $pid\ +12\ +"172 KiB" ]]
    ivshmem ps --json "$r" | jq -e '.endpoints[0].peer == 12'
}

@test "names written by peers cannot harm a terminal or JSON" {
    format
    checker 0
    printf '\033[2Ja"b\\\n\xff\xfe' | dd of="$r" bs=1 seek="$(entry_at 0 32)" conv=notrunc status=none
    run -0 ivshmem ps "$r"
    says '?[2Ja"b\???'
    ivshmem ps --json "$r" | jq -e '.endpoints[0].job | startswith("\u001b[2Ja\"b\\\n")'
    run -0 ivshmem reap "$r"
    says '?[2Ja"b\???'
}

@test "reap frees the dead, and leaves the stopped" {
    format
    checker 0
    kill -STOP "$pid"
    run -0 ivshmem reap "$r"
    says "left  endpoint 0 (job ivshmem-check, rank 0 of 2, $(uname -n) pid $pid): alive"
    says "freed 0 of 1 endpoints and 0 bytes"
    kill -KILL "$pid"
    wait "$pid" || :
    ivshmem ps --json "$r" | jq -e '.endpoints[0] | .state == "live" and .process == "dead"'
    run -0 ivshmem reap "$r"
    says "freed endpoint 0 (job ivshmem-check, rank 0 of 2, $(uname -n) pid $pid): 172 KiB"
    says "freed 1 of 1 endpoints and 172 KiB"
    run -0 ivshmem check "$r"
    says "0 endpoints in use, 0 blocks in use"
}

@test "reap leaves memory that a live endpoint is attached to, and endpoints that it cannot judge" {
    format
    checker 0
    first=$pid
    checker 0
    # The first is attached to the second.
    poke $(($(peek "$(entry_at 0 8)") + $(number .geometry.attached))) 2
    kill -KILL "$pid"
    wait "$pid" || :
    run -0 ivshmem reap "$r"
    says "pid $pid): dead, but endpoint 0 is still attached; its 172 KiB will be freed when that endpoint leaves"
    kill -TERM "$first"
    wait "$first" || :
    run -0 ivshmem ps "$r"
    says "no process is on region"

    checker 0
    moved 0 1
    run -0 ivshmem reap "$r"
    says "left  endpoint 0 (job ivshmem-check, rank 0 of 2, $(uname -n) pid $pid): it belongs to another VM or container; run \`ivshmem reap\` there, or \`ivshmem reap --vm-gone\`"
    run -0 ivshmem ps "$r"
    says "unknown: 0.2: it belongs to another VM or container"
    ivshmem ps --json "$r" | jq -e '.endpoints[0] | .process == "unknown" and (.why | startswith("it belongs to another VM"))'
    # An entry that two processes have written.
    poke "$(entry_at 0 15)" 1
    run -0 ivshmem reap "$r"
    says "left  endpoint 0 (pid $pid): its entry is damaged"
}

# holds_region: has a region in memory that goes with the process that has it, $pid, as descriptor 9.
holds_region() {
    /usr/bin/python3 -c 'import os, time
os.dup2(os.memfd_create("region"), 9)
os.truncate(9, 4 << 20)
time.sleep(6000)' 3>&- &
    pid=$!
    jobs+=("$pid")
    r=/proc/$pid/fd/9
    until ivshmem format "$r" >/dev/null 2>&1; do
        kill -0 "$pid"
        sleep 0.01
    done
}

# holds_id ID: is a client of ivshmem-server with that ID, $pid.
holds_id() {
    rm -f "$dir/holds"
    /usr/bin/python3 -c 'import fcntl, os, struct, sys, time
fcntl.fcntl(os.open(sys.argv[1], os.O_RDWR), fcntl.F_OFD_SETLK,
            struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, (1 << 62) + int(sys.argv[2]), 1, 0))
os.close(os.open(sys.argv[3], os.O_CREAT))
time.sleep(6000)' "$r" "$1" "$dir/holds" 3>&- &
    pid=$!
    jobs+=("$pid")
    until [ -e "$dir/holds" ]; do
        kill -0 "$pid"
        sleep 0.01
    done
}

@test "ps and reap on the host know that a VM of ivshmem-server is gone" {
    holds_region
    holds_id 12
    local qemu=$pid
    checker 0
    moved 0 1
    poke "$(entry_at 0 21)" 4 # it maps a device
    poke "$(entry_at 0 23)" $((12 + 1))
    seal 0
    run -0 ivshmem reap "$r"
    says "pid $pid): it belongs to another VM"
    run -0 ivshmem ps "$r"
    [[ ${lines[1]} =~ \ live\ +unknown\  ]]
    kill -KILL "$qemu"
    wait "$qemu" || :
    run -0 ivshmem ps "$r"
    [[ ${lines[1]} =~ \ live\ +"VM gone"\ .*\ 12\ +"172 KiB" ]]
    [ "${#lines[@]}" -eq 2 ]
    ivshmem ps --json "$r" | jq -e '.endpoints[0] | .process == "dead" and .vm_gone and .peer == 12'
    run -0 ivshmem reap "$r"
    says "freed 1 of 1 endpoints and 172 KiB"
}

@test "reap --endpoint lets an administrator declare one process dead that nobody can judge" {
    format
    checker 0
    for id in 0 0.2 1.1 "" x; do
        run -1 ivshmem reap --endpoint "$id" "$r"
        says "has no endpoint $id: name it with its generation"
    done
    run -1 ivshmem reap --endpoint 0.1 "$r"
    says "rank 0 of 2, $(uname -n) pid $pid) is alive and uses its memory"
    [ "$(number .usage.endpoints)" -eq 1 ]
    moved 0 1
    run -0 ivshmem reap --endpoint 0.1 "$r"
    says "freed 1 of 1 endpoints and 172 KiB"
    checker 1
    poke "$(entry_at 0 15)" 1 # damaged
    run -0 ivshmem reap "$r"
    run -0 ivshmem reap --endpoint 0.2 "$r"
    says "freed 1 of 1 endpoints and 172 KiB"
    run -1 ivshmem reap --container-gone nobody "$r"
    says "region $r has no endpoint of another container nobody"
}

@test "an entry in an invalid state: the dead are reaped, others if an administrator declares them dead" {
    local state
    format
    for state in 5 6 7; do
        checker 0
        poke "$(entry_at 0)" $(($(peek "$(entry_at 0)") & ~7 | state))
        run -0 ivshmem reap "$r"
        says ": alive"
        run -1 ivshmem reap --endpoint 0.$((2 * state - 9)) "$r"
        says "is alive and uses its memory"
        kill -KILL "$pid"
        wait "$pid" || :
        run -0 ivshmem reap "$r"
        says "freed 1 of 1 endpoints and 172 KiB"
        # What a stray store has left belongs to nobody.
        poke "$(entry_at 0)" $((state | 1234 << 3 | 77 << 25 | (2 * state - 8) << 45))
        run -0 ivshmem reap "$r"
        says "its entry is damaged, so its process is unknown; if that process has ended, run \`ivshmem reap --endpoint\`"
        run -0 ivshmem reap --endpoint 0.$((2 * state - 8)) "$r"
        says "freed 1 of 1 endpoints"
    done
    run -0 ivshmem check "$r"
}

@test "reap --endpoint that frees nothing is a failure" {
    format
    checker 0
    checker 0
    # The first is attached to the second.
    poke $(($(peek "$(entry_at 0 8)") + $(number .geometry.attached))) 2
    kill -KILL "$pid"
    wait "$pid" || :
    run -1 ivshmem reap --endpoint 1.1 "$r"
    says "dead, but endpoint 0 is still attached"
    says "ivshmem: endpoint 1.1 was not freed"
}

@test "reap reclaims leaked blocks, and nothing else" {
    format
    checker 0
    # Blocks of a free entry, of one that was never used, and of an earlier claim.
    poke "$(block_at 50)" $((6 | 1 << 16 | 1 << 35 | 1 << 40 | 2 << 41))
    poke "$(block_at 51)" $((6 | 1 << 16 | 1 << 35))
    poke "$(block_at 60)" $((1 | 4 << 35 | 1 << 40 | 1 << 41))
    run -1 ivshmem check "$r"
    says "bad: blocks 50 to 51 (0000050800010006, 8 KiB) belong to an endpoint that is gone: leaked"
    says "bad: blocks 60 to 60"
    says "region $r has leaked memory, owned by endpoints that are gone: \`ivshmem reap $r\` frees it"
    poke "$(block_at 70)" $((1 << 41)) # no sense
    run -1 ivshmem check "$r"
    says "region $r is damaged"
    run -0 ivshmem reap "$r"
    says "freed 12 KiB of leaked memory"
    says "freed 0 of 1 endpoints and 12 KiB"
    [ "$(peek "$(block_at 70)")" -ne 0 ]
    poke "$(block_at 70)" 0
    run -0 ivshmem check "$r"
    says "1 endpoints in use, 43 blocks in use"
}

@test "reap --vm-gone lets an administrator declare another VM gone, but not this one" {
    local uuid=11112222-3333-4444-5555-66667777888 vm
    format
    checker 0
    checker 0
    checker 0
    for vm in "$(uname -n)" 0.1; do
        run -1 ivshmem reap --vm-gone "$vm" "$r"
        says "$vm is this machine, which is not gone: run \`ivshmem reap\` without --vm-gone"
    done
    moved 0 1
    moved 1 2
    moved 2 2
    ivshmem ps --json "$r" | jq -e --arg vm "${uuid}2" '[.endpoints[] | select(.vm == $vm)] | length == 2'
    run -1 ivshmem reap --vm-gone nobody "$r"
    says "region $r has no endpoint of a VM nobody: name the VM by its host name, its uuid or one of its endpoints"
    run -1 ivshmem reap --vm-gone "" "$r"
    says "region $r has no endpoint of a VM"
    run -1 ivshmem reap --vm-gone "$(uname -n)" "$r"
    says "$(uname -n) matches several VMs, or several boots of one VM: name the one that is gone by one of these endpoints: 0.1 (uuid ${uuid}1, boot 00000000-0000-0001-"
    says ", 1.1 (uuid ${uuid}2, boot 00000000-0000-0002-"
    [ "$(number .usage.endpoints)" -eq 3 ]
    # A joining process has not written its identity yet: the hash in its claim identifies it.
    poke "$(entry_at 2)" $(($(peek "$(entry_at 2)") & ~7 | 1))
    run -0 ivshmem reap --vm-gone "${uuid}2" "$r"
    says "freed endpoint 1 "
    says "freed endpoint 2 "
    says "left  endpoint 0 "
    says "freed 2 of 3 endpoints and 344 KiB"
    run -0 ivshmem reap --vm-gone 0.1 "$r"
    says "freed 1 of 1 endpoints and 172 KiB"
    run -0 ivshmem check "$r"
    says "0 endpoints in use, 0 blocks in use"
}

# three: starts three processes, to be moved.
three() {
    checker 0
    checker 0
    checker 0
}

# left N.G...: only these endpoints are there, and live.
left() {
    local found
    found=$(ivshmem ps --json "$r" | jq -r '.endpoints | map("\(.endpoint).\(.generation)") | sort | join(" ")')
    [ "$found" = "$*" ] || { echo "expected: $*"; echo "found: $found"; return 1; }
}

@test "reap --vm-gone of two VMs with one host name, whose processes know no uuid" {
    format
    three
    moved 0 1 0
    moved 1 2 0
    moved 2 1 0
    run -1 ivshmem reap --vm-gone "$(uname -n)" "$r"
    says "$(uname -n) matches several VMs, or several boots of one VM"
    says "0.1 (uuid unknown, boot 00000000-0000-0001-"
    says "1.1 (uuid unknown, boot 00000000-0000-0002-"
    left 0.1 1.1 2.1
    # Naming one endpoint selects its whole VM.
    run -0 ivshmem reap --vm-gone 2.1 "$r"
    left 1.1
}

@test "reap --vm-gone of one VM, some of whose processes know its uuid and others do not" {
    local id
    for id in 0.1 1.1 11112222-3333-4444-5555-666677778881 "$(uname -n)"; do
        rm -f "$r"
        format
        three
        moved 0 1
        moved 1 1 0
        moved 2 1 0
        run -0 ivshmem reap --vm-gone "$id" "$r"
        says "freed 3 of 3 endpoints"
        for pid in "${jobs[@]}"; do
            kill -KILL "$pid"
            wait "$pid" || :
        done
        jobs=()
    done
}

@test "reap --vm-gone of a VM that has booted again: the given boot only" {
    format
    three
    moved 0 1 5
    moved 1 2 5
    moved 2 1 5
    run -1 ivshmem reap --vm-gone 11112222-3333-4444-5555-666677778885 "$r"
    says "matches several VMs, or several boots of one VM"
    left 0.1 1.1 2.1
    run -0 ivshmem reap --vm-gone 0.1 "$r"
    left 1.1
}

@test "reap --vm-gone of one of two VMs from a snapshot, and a process that may belong to either" {
    format
    three
    moved 0 1 5
    moved 1 1 6
    moved 2 1 0
    run -1 ivshmem reap --vm-gone 2.1 "$r"
    says "2.1 matches several VMs"
    says "0.1 (uuid 11112222-3333-4444-5555-666677778885"
    says "1.1 (uuid 11112222-3333-4444-5555-666677778886"
    left 0.1 1.1 2.1
    # In any order of the entries.
    moved 0 1 0
    moved 2 1 5
    run -1 ivshmem reap --vm-gone 0.1 "$r"
    says "endpoints: 1.1 (uuid 11112222-3333-4444-5555-666677778886"
    says ", 2.1 (uuid 11112222-3333-4444-5555-666677778885"
    moved 0 1 5
    moved 2 1 0
    run -0 ivshmem reap --vm-gone 1.1 "$r"
    says "left  endpoint 2 "
    left 0.1 2.1
}

@test "reap --vm-gone of a VM with the host name of this machine, or of a container here" {
    format
    three
    moved 0 1
    # In another pid namespace of this machine.
    poke "$(entry_at 1 13)" 77
    seal 1
    run -1 ivshmem reap --vm-gone "$(uname -n)" "$r"
    says "$(uname -n) matches several VMs"
    says "0.1 (uuid 1111"
    says ", on this machine)"
    left 0.1 1.1 2.1
    run -1 ivshmem reap --vm-gone 1.1 "$r"
    says "1.1 is a container of this machine, not a VM"
    run -1 ivshmem reap --vm-gone 2.1 "$r"
    says "2.1 is this machine, which is not gone"
    run -0 ivshmem reap --vm-gone 0.1 "$r"
    says "freed endpoint 0 "
    # It may be known here that the container is empty.
    says "left  endpoint 2 "
}

@test "reap --vm-gone and a process of which only the hash of its boot and namespace is known" {
    format
    three
    moved 0 1
    moved 1 1
    moved 2 2
    poke "$(entry_at 1)" $(($(peek "$(entry_at 1)") & ~7 | 1))
    # A hash of 0 identifies nobody.
    poke "$(entry_at 2)" $(($(peek "$(entry_at 2)") & ~(7 | 0xfffff << 25) | 1))
    # The hash alone does not tell whether it belongs to a VM or to a container here.
    for option in --vm-gone --container-gone; do
        run -1 ivshmem reap $option 2.1 "$r"
        says "endpoint 2.1 does not say in which VM or container it runs: if its process has ended, \`ivshmem reap --endpoint 2.1\` frees it"
        left 0.1 1.1 2.1
    done
    run -0 ivshmem ps "$r"
    says "it started to join in another VM or container, and has not recorded which one"
    run -0 ivshmem reap --endpoint 2.1 "$r"
    left 0.1 1.1
    checker 0
    poke "$(entry_at 2)" $(($(peek "$(entry_at 2)") & ~(7 | 0xfffff << 25) | 1))
    run -0 ivshmem reap --vm-gone 0.1 "$r"
    left 2.2
}

@test "check finds words of a region that were overwritten" {
    format
    run -0 ivshmem check "$r"
    says "is sound: superblock, 0 endpoints in use, 0 blocks in use"

    poke "$(block_at 7)" $((6 | 1 << 16 | 1 << 35 | 1 << 40 | 2 << 41))
    poke "$(block_at 8)" $((6 | 1 << 16 | 1 << 35))
    poke "$(block_at 50)" $((1 << 41))
    poke "$(block_at 60)" $((6 | 5 << 35))
    poke "$(block_at 70)" $((1 | 1 << 16 | 1 << 35 | 1 << 40 | 1 << 60))
    run -1 ivshmem check "$r"
    says "bad: blocks 70 to 70"
    says "bad: blocks 7 to 8 (0000050800010006, 8 KiB) belong to an endpoint that is gone: leaked"
    says "bad: blocks 50 to 50 (0000020000000000, 4 KiB) have an invalid block map word"
    says "bad: blocks 60 to 60 (0000002800000006, 4 KiB) have an invalid block map word"
    says "region $r is damaged"
    for _ in $(seq 31); do printf '\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'; done |
        dd of="$r" bs=1 seek="$(block_at 100)" conv=notrunc status=none
    run -1 ivshmem check "$r"
    says "bad: 15 more of this kind"
    [ "${#lines[@]}" -eq 22 ]
    run -0 ivshmem format --force "$r"
    run -0 ivshmem check "$r"
}

@test "check --deep checks inboxes, cells, rings and pipelines" {
    local base block data bytes
    format
    checker 0
    base=$(peek "$(entry_at 0 8)")
    run -0 ivshmem check --deep "$r"
    says "inboxes, cells, rings and pipelines"

    # deep TEXT OFFSET WORD: check --deep finds a wrong word, and nothing once it is right again.
    deep() {
        local was
        was=$(peek "$2")
        poke "$2" "$3"
        run -0 ivshmem check "$r"
        run -1 ivshmem check --deep "$r"
        says "bad: endpoint 0 (job ivshmem-check, rank 0 of 2, $(uname -n) pid $pid) $1"
        poke "$2" "$was"
        run -0 ivshmem check --deep "$r"
    }
    slot() { echo $((base + 128 + 8 * $1)); }
    deep "has lap 2 at position 5 of its inbox, expected 0 or 1" "$(slot 5)" $((2 << 32))
    deep "has a message at position 7 of its inbox, but none at 0" "$(slot 7)" $((1 << 32))
    deep "has a message in its inbox in cell 254 of endpoint 0, which does not exist" "$(slot 0)" $((1 << 32 | 254))
    deep "has cell 1 in state 2 with a length of 0 bytes, at most 240 fit" $((base + $(number .geometry.attached) + 64 + 256)) 2
    deep "has cell 0 in state 0 with a length of 241 bytes, at most 240 fit" $((base + $(number .geometry.attached) + 64)) $((241 << 32))

    # extent KIND BYTES: gives endpoint 0 an extent after its base extent; its offset is in $data.
    extent() {
        block=$(($(number .geometry.blocks) - $(number .usage.free_blocks)))
        local count=$((($2 + 4095) / 4096)) i
        for ((i = 0; i < count; i++)); do
            poke "$(block_at $((block + i)))" $((1 | 1 << 16 | $1 << 35 | (i == 0) << 40 | (i == 0 ? count : 0) << 41))
        done
        data=$(($(number .geometry.data) + block * 4096))
    }
    bytes=$(number .geometry.slot_size)
    extent 3 "$(number .geometry.ring_bytes)"
    deep "has an invalid record in a ring: kind 9, value 0" $((data + 128)) $((9 << 48))
    deep "has an invalid record in a ring: kind 1, value 249" $((data + 128)) $((1 << 48 | 249 << 32))
    poke $((data + 128)) $((1 << 48 | 5))
    poke $((data + 128 + bytes)) $((1 << 48 | 6))
    deep "has a ring whose records are out of sequence" $((data + 128 + 2 * bytes)) $((1 << 48 | 9))
    extent 2 "$(number .geometry.pipeline_bytes)"
    deep "has a chunk of 8193 bytes in a pipeline, at most 8192 fit" $((data + 64)) 8193

    # What a dead process has left unfinished is no error.
    poke "$(slot 7)" $((1 << 32))
    kill -KILL "$pid"
    wait "$pid" || :
    run -0 ivshmem check --deep "$r"
}

@test "check finds an impossible endpoint" {
    format
    checker 0
    run -0 ivshmem check "$r"
    says "1 endpoints in use, 43 blocks in use"
    word=$(peek "$(block_at 0)")
    poke "$(block_at 0)" $((word & (1 << 40) - 1))
    run -1 ivshmem check "$r"
    says "bad: endpoint 0 is live, but does not own its base extent"
    says "bad: blocks 0 to 0 (0000000800010001, 4 KiB) belong to an extent without a first block"
    poke "$(block_at 0)" "$word"
    run -0 ivshmem check "$r"
    poke "$(entry_at 0 12)" 1
    poke "$(entry_at 0 14)" 1
    run -1 ivshmem check "$r"
    says "bad: endpoint 0 is live, but names a process other than"
    poke "$(entry_at 3)" 5
    run -1 ivshmem check "$r"
    says "bad: endpoint 3 has an invalid state"
    run -0 ivshmem ps "$r"
    says "damaged"
}

@test "format --force on a region in use lists who used it" {
    format
    checker 0
    run -0 ivshmem format "$r"
    says "endpoint 0 (job ivshmem-check, rank 0 of 2, $(uname -n) pid $pid)"
    says "in use by 1: nothing changed"
    run -0 ivshmem format --force "$r"
    says "endpoint 0 (job ivshmem-check, rank 0 of 2, $(uname -n) pid $pid)"
    says "was in use, and the processes above (1) have lost it now"
}

# compile_between NAME SED: builds the command as NAME, with the source of `check --between` changed by the sed script.
compile_between() {
    local sources=$BATS_FILE_TMPDIR/between
    mkdir -p "$sources"
    cp "$IVSHM_SRC"/tools/ivshmem*.[ch] "$sources"
    sed -i "$2" "$sources/ivshmem_between.c"
    ! cmp -s "$IVSHM_SRC/tools/ivshmem_between.c" "$sources/ivshmem_between.c" || return 1
    compile "$1"
}

# pair [PROGRAM]: runs both sides of a check; their outputs are in $dir/0 and $dir/1, and $status counts failures.
pair() {
    "${1:-ivshmem}" check --between 0 "$r" >"$dir/0" 2>&1 3>&- &
    jobs+=($!)
    status=0
    "${1:-ivshmem}" check --between 1 "$r" >"$dir/1" 2>&1 || status=$((status + 1))
    wait "${jobs[-1]}" || status=$((status + 1))
    cat "$dir/0" "$dir/1"
}

@test "check --between two processes" {
    format
    pair
    [ "$status" -eq 0 ]
    for side in 0 1; do
        output=$(cat "$dir/$side")
        says "stores     ok: 128 KiB arrived"
        says "fetch-and-add"
        says "compare-and-swap"
        [[ $output =~ hop\ +[0-9]+\ ns ]]
        [[ $output =~ copy\ +[1-9][0-9]*\ MB/s\ into\ the\ region,\ [1-9][0-9]*\ MB/s\ out ]]
        says "the two sides can run jobs on this region"
    done
    run -0 ivshmem check "$r"
    says "0 endpoints in use, 0 blocks in use"
}

@test "check --between finds atomics that are not atomic" {
    cat >"$BATS_FILE_TMPDIR/lossy.h" <<'END'
#define __atomic_fetch_add(p, n, order) \
    ({ volatile uint64_t *p_ = (p); uint64_t v_ = *p_; *p_ = v_ + (n); v_; })
END
    compile lossy-add -D_GNU_SOURCE= -include stdint.h -include "$BATS_FILE_TMPDIR/lossy.h"
    # Only the swaps of the loop become plain stores, as the sides also find each other by compare-and-swap.
    compile_between lossy-swap \
        's/!ivshm_a64_cas_seqcst(counter, found, found + 1)/(ivshm_a64_store_relaxed(counter, found + 1), false)/'
    format
    for kind in "add fetch-and-add" "swap compare-and-swap"; do
        # On a busy machine the two sides may run in turn, and lose nothing: then try again.
        for _ in {1..10}; do
            pair "lossy-${kind%% *}"
            [ "$status" -eq 0 ] || break
        done
        [ "$status" -eq 2 ]
        for side in 0 1; do
            output=$(cat "$dir/$side")
            says "${kind#* } is not atomic between the two sides: of "
            says "start each VM with \`-smp 1,maxcpus=2 -accel tcg,thread=multi\`"
        done
    done
    run -0 ivshmem ps "$r"
    says "no process is on region"
}

@test "check --between whose other side never ends the hop test" {
    compile_between endless \
        's/ball.word, ++ball)/ball.word, UINT64_MAX - 1), ball++/; /ball.word, BALL_END/d'
    format
    endless check --between 0 --timeout 120 "$r" >"$dir/0" 2>&1 3>&- &
    jobs+=($!)
    run -1 timeout -k 1 240 ivshmem check --between 1 "$r"
    says "the other side did not end the hop test when it should have"
}

@test "several check --between at once on a region do not disturb each other" {
    format 8M
    for i in 1 2 3; do
        for side in 0 1; do
            ivshmem check --between $side "$r" >"$dir/$i.$side" 2>&1 3>&- &
            jobs+=($!)
        done
    done
    for p in "${jobs[@]}"; do
        wait "$p" || { cat "$dir"/[123].*; return 1; }
    done
    grep -l "the two sides can run jobs" "$dir"/[123].* | wc -l | grep -qx 6
    run -0 ivshmem ps "$r"
    says "no process is on region"
}

@test "check --between whose other side never comes, has the same number, stops or dies" {
    format
    run -1 ivshmem check --between 0 --timeout 1 "$r"
    says "the other side did not join within 1 s: run \`ivshmem check --between 1\` there"
    says "the id here is $(number .id | tr -d '"')"
    checker 0
    run -1 ivshmem check --between 0 --timeout 1 "$r"
    says "found 1 other \`ivshmem check --between 0\` on region"
    kill -STOP "$pid"
    run -1 ivshmem check --between 1 --timeout 1 "$r"
    says "the other side did not join within 1 s" || says "the other side did not answer within 1 s"
    kill -KILL "$pid"
    wait "$pid" || :
    run -1 ivshmem check --between 1 --timeout 1 "$r"
    says "the other side did not join within 1 s"
    run -0 ivshmem ps "$r"
    says "no process is on region"
}

@test "check --between that is interrupted leaves nothing behind" {
    format
    for signal in INT TERM HUP; do
        checker 0
        kill -s $signal "$pid"
        status=0
        wait "$pid" || status=$?
        [ "$status" -eq 1 ]
        grep -q "interrupted" "$dir/out"
        [ "$(number .usage.endpoints)" -eq 0 ]
    done
}

@test "several devices: the first is used, all are listed" {
    cat >"$BATS_FILE_TMPDIR/sysfs.c" <<'END'
#include "map.h"
#include <stdlib.h>
const char *ivshm_device_sysfs(void)
{
    return getenv("FAKE_SYSFS");
}
END
    compile fake "$BATS_FILE_TMPDIR/sysfs.c"
    export FAKE_SYSFS=$dir
    pci=$dir/bus/pci/devices
    device() {
        mkdir -p "$pci/$1"
        echo 0x1af4 >"$pci/$1/vendor"
        echo "$2" >"$pci/$1/device"
        [ -z "${3:-}" ] || truncate -s "$3" "$pci/$1/resource2"
    }
    device 0000:00:02.0 0x1000 4M
    run -0 fake info --all
    says "no ivshmem device (PCI 1af4:1110) on this machine"
    [ "$(fake info --all --json | jq length)" -eq 0 ]
    run -0 fake reap --all
    says "no ivshmem device (PCI 1af4:1110) on this machine"
    for cmd in format info ps check reap; do
        run -1 fake $cmd
        says "no ivshmem device (PCI 1af4:1110) on this machine and no region named"
    done
    run -1 fake info 0000:00:02.0
    says "is 1af4:1000, not an ivshmem device"
    run -1 fake info 0000:00:09.0
    says "there is no PCI device 0000:00:09.0 here"

    device 0000:00:03.0 0x1110 8M
    head -c 8M /dev/urandom >"$pci/0000:00:03.0/resource2"
    run -1 fake format
    says "0000:00:03.0 is neither a region nor empty"
    device 0000:00:04.0 0x1110 4M
    device 0000:00:05.0 0x1110
    run -0 fake format
    says "formatted 0000:00:04.0, 4 MiB"
    run -0 fake format
    says "0000:00:04.0 is already a region"
    run -0 fake info
    says "region     0000:00:04.0 (device"
    says "this machine has 3 devices whose memory can be a region"
    run -1 fake format --force
    says "this machine has 3 ivshmem devices: name the one to format"
    run -0 fake info --all
    [[ ${lines[0]} == "0000:00:03.0  BAR  8 MiB  foreign: "* ]]
    [[ ${lines[1]} == "0000:00:04.0  BAR  4 MiB  region  id "* ]]
    [[ ${lines[2]} == "0000:00:05.0  BAR  0 bytes  unusable: "*"has no memory BAR"* ]]
    fake info --all --json | jq -e 'map(.state) == ["foreign", "region", "unusable"]'
    run -1 fake reap --all
    says "0000:00:03.0 holds no region"
    says "0000:00:04.0: freed 0 of 0 endpoints and 0 bytes"
    says "ivshmem: ivshmem device 0000:00:05.0 has no memory BAR"
    run -0 fake format --force 0000:00:03.0
    says "formatted 0000:00:03.0"
    r=$pci/0000:00:03.0/resource2
    rm -r "$pci/0000:00:05.0"
    checker 0
    kill -KILL "$pid"
    wait "$pid" || :
    run -0 fake reap --all
    says "0000:00:03.0: freed 1 of 1 endpoints and "
    says "0000:00:04.0: freed 0 of 0 endpoints and 0 bytes"
    run -0 fake check
    says "region 0000:00:03.0 is sound"
}

@test "memory that is not cached is reported, with the reason and what to do" {
    # The times are told: own memory is that which may be stored to.
    cat >"$BATS_FILE_TMPDIR/slow.c" <<'END'
#include "speed.h"
#include <stdlib.h>
const char *ivshm_device_sysfs(void)
{
    return getenv("FAKE_SYSFS");
}
void ivshm_speed_time(void *memory, bool may_store, struct ivshm_speed_times *times)
{
    (void) memory;
    *times = may_store ? (struct ivshm_speed_times){1000, 250, 250, 125}
                       : (struct ivshm_speed_times){250000, 240000, 0, 120000};
}
END
    compile slow "$BATS_FILE_TMPDIR/slow.c"
    export FAKE_SYSFS=$BATS_TEST_TMPDIR/sys
    local pci=$FAKE_SYSFS/bus/pci/devices/0000:00:04.0
    mkdir -p "$pci"
    echo 0x1af4 >"$pci/vendor"
    echo 0x1110 >"$pci/device"
    format
    ln -s "$r" "$pci/resource2"
    run -0 slow info 0000:00:04.0
    says "access     not cached: 250.00 ns for a load, 240.00 ns for each of many, 120.00 ns for 8 bytes of a copy; other"
    says "ivshmem: warning: 0000:00:04.0 ("
    says ") is mapped as memory that is not cached: a load takes 250.0 ns, of other memory 1.0 ns, so all messages are"
    says "/dev/dax0.0"
    slow info --json 0000:00:04.0 2>/dev/null |
        jq -e '.access == {"kind": "not cached", "region": {"load": 250, "stream": 240, "copy": 120},
            "own": {"load": 1, "stream": 0.25, "copy": 0.125}}'
    run -0 slow check 0000:00:04.0
    says "is mapped as memory that is not cached"
    says "its memory is not cached"
    run -0 slow info "$r" # a file
    says "access     cached: 250.00 ns for a load"
    [[ $output != *warning* ]]
}
