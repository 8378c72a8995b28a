#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2015,SC2086,SC2154
#
# Ranks that do not all share a region: each pair uses the region if both ranks have it, else tcp. The netmod's line for
# each pair says which.

load mpi

setup() {
    ivshmem info --all | grep -q "^no ivshmem device" || skip "this machine has an ivshmem device"
    all_remote
    export MPIR_CVAR_NEMESIS_IVSHMEM_STATS=2 MPIR_CVAR_NEMESIS_IVSHMEM_FALLBACK=1
    use_region 32M
    a=$region
    use_region 32M
    b=$region
    unset MPIR_CVAR_NEMESIS_IVSHMEM_REGION
}

teardown() { at_end; }

# regions_of REGION...: sets ranks and args, the arguments of mpiexec for a job with a rank in each: a, b or none.
regions_of() {
    local name
    ranks=("$@") args=()
    shift "$#"
    for name in "${ranks[@]}"; do
        [ ${#args[@]} -eq 0 ] || args+=(:)
        args+=(-n 1)
        [ "$name" = none ] || args+=(-env MPIR_CVAR_NEMESIS_IVSHMEM_REGION "${!name}")
        args+=("${program[@]}")
    done
}

# by_the_right_path NAME: each pair of the job took the right path: see paths.awk.
by_the_right_path() {
    grep -qix 'no errors' "$BATS_TEST_TMPDIR/$1.out" || { say "$1"; return 1; }
    awk -f "$BATS_TEST_DIRNAME/paths.awk" "$BATS_TEST_TMPDIR/$1.err" >"$BATS_TEST_TMPDIR/$1.paths" ||
        { cat "$BATS_TEST_TMPDIR/$1.paths"; say "$1"; return 1; }
    cat "$BATS_TEST_TMPDIR/$1.paths"
}

# mix REGION...: runs the program with a rank in each region, and checks paths and regions.
mix() {
    regions_of "$@"
    mpi job "${args[@]}" || { echo "status $?: $*"; say job; return 1; }
    by_the_right_path job
    empty "$a"
    empty "$b"
}

for_each_program() {
    for program in pt2pt types coll threads; do
        program=("$programs/$program")
        "$@"
    done
}

@test "two regions of two ranks each in one job" { for_each_program mix a a b b; }

@test "one of four ranks has no region" { for_each_program mix a none a a; }

@test "windows of ranks that do not all share a region" {
    program=("$programs/rma" apart)
    mix a a b b
    mix a none a a
}

@test "no two ranks share a region" { for_each_program mix a none b none; }

@test "no rank has a region" { for_each_program mix none none; }

@test "more messages than there are cells, over both paths" {
    program=("$programs/flood")
    mix a b a none
}

@test "both paths carry the bytes that they should" {
    program=("$programs/coll")
    mix a a b b
    awk '{ exit !($3 > 100000 && $7 > 100000) }' "$BATS_TEST_TMPDIR/job.paths"
    mix a a a a
    awk '{ exit !($3 > 100000 && $7 == 0) }' "$BATS_TEST_TMPDIR/job.paths"
}

@test "Nemesis' shared memory, regions and tcp in one job" {
    half_remote
    for_each_program mix a b a b
    for_each_program mix a a b b
}

# polls REGION...: how often all ranks together polled sockets while they exchanged messages.
polls() {
    # shellcheck disable=SC2016
    program=(sh -c 'exec strace -qq -e trace=poll,ppoll,select,pselect6,epoll_wait,recvmsg,recvfrom -o "$0.$PMI_RANK" "$@"'
        "$BATS_TEST_TMPDIR/trace" "$programs/coll")
    rm -f "$BATS_TEST_TMPDIR"/trace.*
    mix "$@" >&2
    cat "$BATS_TEST_TMPDIR"/trace.* | awk '!/^\+\+\+/ { n++ } END { print n + 0 }'
}

@test "without pairs over tcp, no socket is polled" {
    none=$(polls a a a)
    some=$(polls a b a)
    echo "$none and $some polls"
    # Each rank polls a few times, until it has seen all others in the region.
    [ "$none" -le 60 ]
    [ "$some" -gt 200 ]
}

# meet REGION...: a server job in a and b, and a client job with a rank in each of these regions.
meet() {
    rm -f "$BATS_TEST_TMPDIR/port"
    program=("$programs/spawn" accept "$BATS_TEST_TMPDIR/port")
    regions_of a b
    launch server "${args[@]}"
    server=$pid
    program=("$programs/spawn" connect "$BATS_TEST_TMPDIR/port")
    regions_of "$@"
    mpi client "${args[@]}" || { say server; say client; return 1; }
    wait "$server" || { say server; say client; return 1; }
    for name in server client; do
        grep -qix 'no errors' "$BATS_TEST_TMPDIR/$name.out" || { say server; say client; return 1; }
    done
    empty "$a"
    empty "$b"
}

# by JOB PATH: whether a connection of the job used that path.
by() { grep -q "ivshmem: rank=[0-9]* peer=.* path=$2" "$BATS_TEST_TMPDIR/$1.err" || { say "$1"; return 1; }; }

@test "accept and connect between jobs that share a region or do not" {
    meet a b
    by client ivshmem
    by client tcp
    meet b none a
    by client ivshmem
    by client tcp
    meet none
    by client tcp
    run ! by client ivshmem
}

# copy_to_b: makes b a copy of a, as a file, with the same id.
copy_to_b() { cat "$a" 1<>"$b"; }

@test "ranks in copies of one region's file use tcp" {
    copy_to_b
    for program in pt2pt coll; do
        program=("$programs/$program")
        regions_of a b a b
        mpi job "${args[@]}" || { say job; return 1; }
        grep -qix 'no errors' "$BATS_TEST_TMPDIR/job.out" || { say job; return 1; }
        by job ivshmem
        by job tcp
    done
    program=("$programs/rma" apart)
    regions_of a b
    mpi job "${args[@]}" || { say job; return 1; }
    empty "$a"
    empty "$b"
    local status=0
    MPIR_CVAR_NEMESIS_IVSHMEM_FALLBACK=0 mpi job "${args[@]}" || status=$?
    [ "$status" -ne 0 ]
    [ "$status" -ne 124 ]
    grep "rank [01] is not in region .*, but in another one with the same id" "$BATS_TEST_TMPDIR/job.err" ||
        { say job; return 1; }
}

@test "a region's file is copied while a server is there: who comes to the copy reaches it by tcp" {
    program=("$programs/spawn" accept "$BATS_TEST_TMPDIR/port")
    regions_of a a
    launch server "${args[@]}"
    server=$pid
    until_true test -s "$BATS_TEST_TMPDIR/port"
    copy_to_b
    program=("$programs/spawn" connect "$BATS_TEST_TMPDIR/port")
    regions_of b
    mpi client "${args[@]}" || { say server; say client; return 1; }
    wait "$server" || { say server; say client; return 1; }
    by client tcp
    run ! by client ivshmem
    empty "$a"
}

# spawn_into REGION: parents in a spawn children in that region, or none.
spawn_into() {
    local how=(-u MPIR_CVAR_NEMESIS_IVSHMEM_REGION)
    [ "$1" = none ] || how=("MPIR_CVAR_NEMESIS_IVSHMEM_REGION=${!1}")
    program=("$programs/spawn" spawn env "${how[@]}")
    regions_of a a
    mpi job "${args[@]}" || { say job; return 1; }
    grep -qix 'no errors' "$BATS_TEST_TMPDIR/job.out" || { say job; return 1; }
    empty "$a"
    empty "$b"
}

@test "spawn into the same region, another, and none" {
    spawn_into a
    run ! by job tcp
    spawn_into b
    by job tcp
    by job ivshmem
    spawn_into none
    by job tcp
}

@test "a rank without a region reports that, unless told not to" {
    program=("$programs/coll")
    unset MPIR_CVAR_NEMESIS_IVSHMEM_FALLBACK
    mix a none a
    [ "$(grep -c "uses tcp: no ivshmem device" "$BATS_TEST_TMPDIR/job.err")" -eq 1 ]
    export MPIR_CVAR_NEMESIS_IVSHMEM_FALLBACK=1
    mix a none a
    run ! grep "uses tcp" "$BATS_TEST_TMPDIR/job.err"
}

# next_takes_all: the next jobs reclaim what killed ranks held.
next_takes_all() {
    for region in "$a" "$b"; do
        reclaimed
    done
}

@test "at start, INFO names each rank's region, and then the path to each peer" {
    export MPIR_CVAR_NEMESIS_IVSHMEM_INFO=1 MPIR_CVAR_NEMESIS_IVSHMEM_STATS=0
    program=("$programs/coll")
    regions_of a a none
    mpi job "${args[@]}" || { say job; return 1; }
    local rank peer
    for rank in 0 1; do
        grep -E "^ivshmem: rank=$rank host=\S+ region=$a id=[0-9a-f]{32} endpoint=[0-9]+ mapping=tmpfs page=[0-9]+ size=33554432 " \
            "$BATS_TEST_TMPDIR/job.err"
        for peer in $((1 - rank)) 2; do
            grep -E "^ivshmem: rank=$rank peer=$peer job=\S+ eager=[0-9]+ path=$([ $peer -eq 2 ] && echo tcp || echo 'ivshmem endpoint=[0-9]+')$" \
                "$BATS_TEST_TMPDIR/job.err"
        done
    done
    grep -E "^ivshmem: rank=2 host=\S+ region=none$" "$BATS_TEST_TMPDIR/job.err"
    [ "$(grep -c "^ivshmem: rank=.* peer=" "$BATS_TEST_TMPDIR/job.err")" -eq 6 ] || { say job; return 1; }
}

@test "a job that needs tcp fails where tcp is forbidden" {
    export MPIR_CVAR_NEMESIS_IVSHMEM_FALLBACK=0
    program=("$programs/coll")
    mix a a a
    local status=0
    regions_of a b
    mpi job "${args[@]}" || status=$?
    [[ $status -ne 0 && $status -ne 124 ]]
    grep "rank [01] is in region .*FALLBACK=0 forbids tcp: give every VM of the job the same memory backend" \
        "$BATS_TEST_TMPDIR/job.err" || { say job; return 1; }
    next_takes_all
}

@test "a rank that is reached over tcp dies: the others find out" {
    local log=$BATS_TEST_TMPDIR/rank rank
    by_rank rank "$programs/stream" 600 alone
    regions_of a b a
    launch job -disable-auto-cleanup -launcher fork -hosts "$(hostname),localhost,127.0.0.1" -ppn 1 "${args[@]}"
    until_true grep -qs running "$log.0"
    kill -KILL "$(ivshmem ps --json "$b" | jq '.endpoints[].pid')"
    for rank in 0 2; do
        until_true grep -q "rank $rank got an error" "$log.$rank" || { tail "$log".*; say job; return 1; }
    done
    grep "rank 1: its connection by tcp is lost" "$log.0" "$log.2"
    kill -TERM "$pid"
    wait "$pid" || :
    next_takes_all
}
