#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154
#
# The memory behind the region's file: a sparse file in a file system without room for it, and a file that is truncated
# while a job runs. No rank ends by a signal without a message.

load mpi

setup() {
    all_remote
    folder=$(mktemp -d /dev/shm/ivshm-test.XXXXXX)
    file=$folder/region
    export MPIR_CVAR_NEMESIS_IVSHMEM_REGION=$file
    # A rank, whose status goes to the file `ends`: mpiexec returns the status of whichever rank it saw first.
    ends=$BATS_TEST_TMPDIR/ends
    # shellcheck disable=SC2016
    lost=(sh -c '"$@"; status=$?; echo $status >>"$0"; exit $status' "$ends" "$programs/lost_memory")
}

teardown() {
    at_end
    rm -rf "$folder"
}

# Small file systems

# with_room SIZE FOLDER COMMAND...: runs it where FOLDER is a file system of that size, with a sparse file of 64 MiB.
with_room() {
    unshare -m true 2>/dev/null || skip "no mount namespaces here"
    MPIR_CVAR_NEMESIS_IVSHMEM_REGION=$2/region
    # shellcheck disable=SC2016
    run unshare -m bash -c 'mount -t tmpfs -o "size=$1" none "$2" && truncate -s 64M "$2/region" && "${@:3}"' \
        - "$@" 3>&-
    echo "$output"
    if grep -iE 'assertion|signal' <<<"$output"; then return 1; fi
}

direct_copies() {
    sed -n 's/^.*ivshmem: rank=.* single_copy=\([0-9]*\).*/\1/p' <<<"$output" | awk '{ n += $1 } END { print n + 0 }'
}

# The region is empty again, and the file system still has room for others.
# shellcheck disable=SC2016
left_in_order='"${@:2}" && ivshmem check "$1/region" && ivshmem info --json "$1/region" |
    jq -e ".usage.endpoints == 0 and .usage.free_blocks == .geometry.blocks" && head -c 2M /dev/zero >"$1/other"'

@test "a sparse file: memory of the region as far as there is room, then the C library's" {
    # In a folder of its own, and in /dev/shm, where MPICH has its shared memory, too.
    for place in "$folder" /dev/shm; do
        with_room 48m "$place" bash -c "$left_in_order" - "$place" timeout 240 mpiexec -n 3 "$programs/lost_memory" fill 20
        [ "$status" -eq 0 ]
        grep -q 'No errors' <<<"$output"
        [ "$(direct_copies)" -gt 0 ]
    done
}

@test "a sparse file: the same for blocks of malloc" {
    with_room 48m "$folder" bash -c "$left_in_order" - "$folder" timeout 240 ivshmem-env --malloc \
        mpiexec -n 3 "$programs/lost_memory" heap 30
    [ "$status" -eq 0 ]
    grep -q 'No errors' <<<"$output"
    [ "$(direct_copies)" -gt 0 ]
}

@test "a sparse file: the file system fills up while a job runs" {
    with_room 24m "$folder" bash -c "$left_in_order" - "$folder" timeout 240 mpiexec -n 3 "$programs/lost_memory" starve
    [ "$status" -eq 0 ]
    grep -q 'No errors' <<<"$output"
}

@test "a file system without room for a rank: an error when it joins" {
    local size
    for size in 600k 1m 2m; do
        with_room $size "$folder" timeout 240 mpiexec -n 3 "$programs/lost_memory" fill 1
        [[ $status -ne 0 && $status -ne 124 ]]
        [[ $output == *"$file has 64 MiB, but only "*" KiB of them have memory, and of its file system of "*" free"* ]]
        [[ $output == *"mount -o remount,size="* ]]
        [[ $output != *"is full: no memory is left"* ]]
    done
}

# A file that is cut

# cut_under WHAT...: runs a job of three ranks, and truncates its file to $to. Its output is in $said.
cut_under() {
    local status=0
    ivshmem format --size 16M "$file" >/dev/null
    rm -f "$ends"
    launch job -n 3 "${lost[@]}" "$@"
    until_true grep -qs running "$BATS_TEST_TMPDIR/job.out"
    truncate -s "${to:-4M}" "$file"
    wait "$pid" || status=$?
    said=$(cat "$BATS_TEST_TMPDIR/job.out" "$BATS_TEST_TMPDIR/job.err")
    echo "$said"
    cat "$ends"
    [ "$status" -ne 0 ]
    [ "$status" -ne 124 ]
}

# ended STATUS: at least one rank has this status, and none crashed. mpiexec, or an MPI error, has ended the others.
ended() { grep -qx "$1" "$ends" && ! grep -x "134\|139" "$ends"; }
by_signal=135 # 128 and SIGBUS

words='ivshmem: rank [0-2]: the memory of region .* is gone: the file was truncated to '

@test "a file that is truncated: a message, then the process ends as it would have" {
    local to
    for to in 0 4096 1M; do
        cut_under run
        grep -qE "^${words}$(numfmt --from=iec "$to") bytes while this process used it, it had 16777216" <<<"$said"
        ended $by_signal
        rm "$file"
    done
}

@test "a file that is truncated: with a SIGBUS handler that the program installed before or after MPI_Init" {
    to=4096 cut_under run before
    grep -qE "^$words" <<<"$said"
    grep -q "the program's own handler" <<<"$said"
    ended 9
    rm "$file"

    to=4096 cut_under run once
    grep -qE "^$words" <<<"$said"
    grep -qx once <<<"$said"
    ended $by_signal
    rm "$file"

    to=4096 cut_under run ignore # which is impossible for SIGBUS
    grep -qE "^$words" <<<"$said"
    ended $by_signal
    rm "$file"

    to=4096 cut_under run after
    run ! grep -qE "$words" <<<"$said"
    grep -q "the program's own handler" <<<"$said"
    ended 9
}

@test "a SIGBUS that has nothing to do with the region goes to the program" {
    local what
    ivshmem format --size 16M "$file" >/dev/null
    for what in own sent; do
        rm -f "$ends"
        ! mpi job -n 1 "${lost[@]}" "$what" || { say job; false; }
        said=$(cat "$BATS_TEST_TMPDIR/job.out" "$BATS_TEST_TMPDIR/job.err")
        run ! grep -E "went on|memory of region" <<<"$said"
        ended $by_signal
        mpi job -n 1 "$programs/lost_memory" "$what" before && { say job; false; }
        grep -q "the program's own handler" "$BATS_TEST_TMPDIR/job.err"
    done
    mpi job -n 1 "$programs/lost_memory" sent ignore || { say job; false; }
    grep -q "went on" "$BATS_TEST_TMPDIR/job.out"
    for what in "" before once ignore; do
        mpi job -n 2 "$programs/lost_memory" ends "$what" || { say job; false; }
        grep -qx "No errors" "$BATS_TEST_TMPDIR/job.out"
    done
}
