#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2016,SC2086,SC2154
#
# Bad input: one message that says what was found, what was expected and what to do. The job ends in bounded time with a
# nonzero status, nothing is overwritten, and other jobs are not affected.

load mpi

setup() {
    all_remote
    file=$(mktemp /dev/shm/ivshm-test.XXXXXX)
    rm "$file"
}

teardown() {
    at_end
    rm -f "$file"
}

# ended STATUS NAME TEXT...: the job ended with an error, in time, and its output contains each text.
ended() {
    local status=$1 name=$2 text all=$BATS_TEST_TMPDIR/$2.all
    shift 2
    # Since 4.2, mpiexec itself asserts if a proxy ends before it has said so, which happens when a job aborts.
    grep -hv '^\[mpiexec@.*] control_cb .*assert (!closed) failed' "$BATS_TEST_TMPDIR/$name.out" \
        "$BATS_TEST_TMPDIR/$name.err" >"$all" || :
    if [ "$status" -eq 0 ] || [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
        echo "status $status, expected an error"
        say "$name"
        return 1
    fi
    if grep -iE 'assert|signal: (6|7|11)|signal (6|7|11)|internal error' "$all"; then
        echo "a crash rather than an error"
        return 1
    fi
    for text in "$@"; do
        grep -qF -- "$text" "$all" || { echo "expected: $text"; cat "$all"; return 1; }
    done
}

# refused TEXT...: a job of two ranks on $file fails with these texts.
refused() {
    local status=0
    MPIR_CVAR_NEMESIS_IVSHMEM_REGION=$file mpi job -n 2 ${wrapper:-} "$programs/coll" || status=$?
    ended "$status" job "$@"
}

# untouched TEXT...: refused, and the file is unchanged.
untouched() {
    local before
    before=$(sha256sum <"$file")
    refused "$@"
    [ "$before" = "$(sha256sum <"$file")" ] || { echo "$file was written"; return 1; }
}

# poke OFFSET BYTES: overwrites bytes of $file; they are given as to printf %b.
poke() { printf %b "$2" | dd of="$file" bs=1 seek="$1" conv=notrunc status=none; }

@test "no device, and no region named" {
    ivshmem info --all | grep -q "^no ivshmem device" || skip "this machine has an ivshmem device"
    local status=0
    export MPIR_CVAR_NEMESIS_IVSHMEM_FALLBACK=0
    mpi job -n 2 "$programs/coll" || status=$?
    ended "$status" job "no ivshmem device" "-device ivshmem-plain" "MPIR_CVAR_NEMESIS_IVSHMEM_REGION"
}

@test "a missing file" {
    refused "region file $file does not exist" "ivshmem format --size 64M $file"
    [ ! -e "$file" ]
}

@test "an empty file" {
    : >"$file"
    refused "$file is empty" "ivshmem format --size 64M $file"
    [ ! -s "$file" ]
}

@test "a file with foreign data" {
    head -c 8M /dev/urandom >"$file"
    poke 0 'PNG image'
    untouched "$file is neither a region nor empty" "belong to another program" "ivshmem format --force $file"
}

@test "a file with foreign data whose first page is zero" {
    truncate -s 8M "$file"
    poke 5000 x
    untouched "the first page of $file is empty, what follows is not" "ivshmem format --force $file"
}

@test "a text file" {
    echo "hello, world" >"$file"
    untouched "at least 4 MiB are needed"
}

@test "a file that is too small" {
    truncate -s 1M "$file"
    untouched "1024 KiB, at least 4 MiB are needed" "size=64M"
}

@test "not a file at all" {
    mkdir "$BATS_TEST_TMPDIR/dir"
    for file in "$BATS_TEST_TMPDIR/dir" /dev/null; do
        refused "$file"
    done
    file=$BATS_TEST_TMPDIR/none
}

@test "another layout version" {
    ivshmem format --size 8M "$file"
    poke 16 '\x63'
    untouched "layout version 99" "version 9" "use the same release everywhere" "ivshmem format --force $file"
}

@test "a damaged superblock" {
    ivshmem format --size 8M "$file"
    poke 136 '\x63'
    untouched "the superblock of $file is damaged: pipeline chunks is 99, expected 8" "ivshmem format --force $file"
}

@test "memory smaller than was formatted" {
    ivshmem format --size 8M "$file"
    truncate -s 6M "$file"
    untouched "$file has 6 MiB, but the region in it was formatted for 8 MiB" "restore its size"
}

@test "no permission" {
    ivshmem format --size 8M "$file"
    chmod 0 "$file"
    # Without these capabilities even root is refused.
    [ "$(id -u)" -ne 0 ] || wrapper="setpriv --bounding-set -dac_override,-dac_read_search"
    refused "no permission to open $file" "udev rule"
}

@test "a PCI address where nothing is" {
    file=ffff:7f:1f.7
    refused "there is no PCI device $file here" "lspci -nn -d 1af4:1110"
}

@test "a PCI device that is not ivshmem" {
    local device
    for device in /sys/bus/pci/devices/*; do
        [ -e "$device/vendor" ] || continue
        [ "$(cat "$device/vendor" "$device/device" | tr -d '\n')" != 0x1af40x1110 ] || continue
        file=${device##*/}
        refused "PCI device $file is" "not an ivshmem device (1af4:1110)" "lspci -nn -d 1af4:1110"
        return
    done
    skip "this machine has no PCI device"
}

@test "too many ranks for the region, beside another job" {
    local status=0 bystander
    use_region 4M
    launch bystander -n 2 "$programs/stream" "$BATS_TEST_TMPDIR/enough"
    bystander=$pid
    until_true grep -q running "$BATS_TEST_TMPDIR/bystander.out"
    mpi job -n 24 "$programs/init" || status=$?
    touch "$BATS_TEST_TMPDIR/enough"
    ended "$status" job "$region (4 MiB) is full" "A job of 24 ranks needs 8M" "ivshmem ps"
    wait "$bystander" || { say bystander; return 1; }
    good bystander 2
    reclaimed
    # And 8 MiB are enough.
    use_region 8M
    mpi job -n 24 "$programs/init" || { say job; return 1; }
    empty
}

@test "ranks of one job on two regions" {
    local status=0 one two
    use_region 8M
    one=$region
    use_region 8M
    two=$region
    export MPIR_CVAR_NEMESIS_IVSHMEM_FALLBACK=0
    mpi job -n 1 -env MPIR_CVAR_NEMESIS_IVSHMEM_REGION "$one" "$programs/coll" : \
        -n 1 -env MPIR_CVAR_NEMESIS_IVSHMEM_REGION "$two" "$programs/coll" || status=$?
    ended "$status" job "is in region" "$(ivshmem info --json "$one" | jq -r .id[:16])" \
        "$(ivshmem info --json "$two" | jq -r .id[:16])" "give every VM of the job the same memory backend"
    for region in "$one" "$two"; do
        reclaimed
    done
}

@test "one rank whose region does not exist" {
    local status=0
    use_region 8M
    mpi job -n 2 "$programs/coll" : \
        -n 1 -env MPIR_CVAR_NEMESIS_IVSHMEM_REGION "$file" "$programs/coll" || status=$?
    ended "$status" job "region file $file does not exist"
    reclaimed
}

# cards_cut: runs jobs with the business card cut at every seventh byte.
cards_cut() {
    local keep status whole=
    ! since 4.1 || skip "since MPICH 4.1, Hydra itself refuses a card that is cut"
    for ((keep = 0; keep < 1000; keep += 7)); do
        status=0
        mpi job -n 2 "$programs/cut_card" "$keep" || status=$?
        if grep -qx whole "$BATS_TEST_TMPDIR/job.out"; then
            whole=$status
            break
        fi
        ended "$status" job "the business card of rank 1 was cut short" || { echo "after $keep bytes"; return 1; }
    done
    if [ "$keep" -le 50 ] || [ "$whole" != 0 ]; then
        say job
        return 1
    fi
}

@test "a truncated business card" {
    use_region 8M
    cards_cut
    reclaimed
}

@test "a business card of an endpoint that the region does not have" {
    local endpoint status
    use_region 8M
    for endpoint in 4294967295.1 4294967296.1 128.1 -1.1 99999999999999999999.1 1.524288 1.4294967297; do
        status=0
        mpi job -n 2 "$programs/cut_card" endpoint $endpoint || status=$?
        ended "$status" job "the business card of rank 1 names endpoint" \
            "which has 128 endpoints" || { echo "$endpoint"; return 1; }
    done
    reclaimed
}

@test "a rank of another release" {
    local status=0
    use_region 8M
    mpi job -n 2 "$programs/cut_card" release 3_4_1-7 || status=$?
    ended "$status" job "rank 1 runs release 3.4.1-7 " "install the same mpich-ivshmem in all VMs"
    reclaimed
}

@test "a truncated business card, among ranks without a region" {
    ivshmem info --all | grep -q "^no ivshmem device" || skip "this machine has an ivshmem device"
    MPIR_CVAR_NEMESIS_IVSHMEM_FALLBACK=1 cards_cut
}

# rank_dies ARG...: kills rank 1 of three. Each rank has a proxy of its own, as in VMs; mpiexec lets the others
# continue.
rank_dies() {
    local status=0 start job
    by_rank job "$programs/stream" 600 "$@"
    launch job -disable-auto-cleanup -launcher fork -hosts "$(hostname),localhost,127.0.0.1" -ppn 1 \
        -n 3 "${program[@]}"
    job=$pid
    until_true grep -qs running "$BATS_TEST_TMPDIR/job.0"
    kill -KILL "$(ivshmem ps --json "$region" | jq '.endpoints[] | select(.job_size == 3 and .rank == 1) | .pid')"
    start=$SECONDS
    wait "$job" || status=$?
    [ $((SECONDS - start)) -le 120 ] || { echo "only after $((SECONDS - start)) s"; say job; return 1; }
    cat "$BATS_TEST_TMPDIR"/job.[0-2] >>"$BATS_TEST_TMPDIR/job.err"
    return "$status"
}

@test "a rank dies: the others find out by themselves, another job notices nothing" {
    local status=0 bystander
    use_region 8M
    launch bystander -n 2 "$programs/stream" "$BATS_TEST_TMPDIR/enough"
    bystander=$pid
    until_true grep -q running "$BATS_TEST_TMPDIR/bystander.out"
    rank_dies alone || status=$?
    touch "$BATS_TEST_TMPDIR/enough"
    ended "$status" job "rank 0 got an error" "rank 2 got an error"
    # At least one: MPICH cuts a long error stack before the reason, such as MPI_Bcast's.
    grep -q "rank 1: its process is dead" "$BATS_TEST_TMPDIR/job.err" || { say job; return 1; }
    wait "$bystander" || { say bystander; return 1; }
    good bystander 2
    reclaimed
}

@test "a rank dies: the others are told by the process manager" {
    local status=0
    use_region 8M
    rank_dies told || status=$?
    ended "$status" job "rank 0 got an error" "rank 2 got an error" "rank 1"
    reclaimed
}

@test "a rank dies: the job ends" {
    local status=0
    use_region 8M
    rank_dies || status=$?
    # No text is expected: when a job aborts, Hydra may end before it has forwarded the output.
    ended "$status" job
    reclaimed
}

# has_failed STATUS: the job has, in time.
has_failed() {
    case $1 in 0 | 124) echo "status $1"; say job; return 1 ;; esac
}

@test "a rank that aborts has printed why" {
    local status
    use_region 8M
    for _ in {1..20}; do
        status=0
        mpi job -launcher fork -hosts "$(hostname):2,localhost:2" -n 3 "$programs/waiting" nothing || status=$?
        has_failed "$status"
        grep -qF "waiting idle|any|tests|naps" "$BATS_TEST_TMPDIR"/job.{out,err} || { say job; return 1; }
    done
}

# missing TEXT HOSTS ARG...: the job ends with a failure although ranks wait for another, and TEXT is said.
missing() {
    local status=0
    mpi job -launcher fork -hosts "$2" "${@:3}" || status=$?
    has_failed "$status"
    grep "$1" "$BATS_TEST_TMPDIR/job.err" || { say job; return 1; }
}

@test "a program that is missing on one host, or fails before MPI_Init, ends the job" {
    local hosts
    use_region 8M
    for hosts in "$(hostname),localhost" "$(hostname)"; do
        missing "execvp error on file $BATS_TEST_TMPDIR/nothing" "$hosts" \
            -n 1 "$programs/coll" : -n 1 "$BATS_TEST_TMPDIR/nothing"
        missing "^mpiexec: a process on $(hostname) failed before MPI_Init" "$hosts" \
            -n 1 false : -n 1 "$programs/coll"
        missing "^mpiexec: a process on ${hosts#*,} failed before MPI_Init" "$hosts" \
            -n 1 "$programs/coll" : -n 1 sh -c 'sleep 2; exit 3'
    done
}

@test "programs that do not use MPI run to their ends, whatever their status" {
    local status=0
    mpi job -launcher fork -hosts "$(hostname):2,localhost:2" -n 4 \
        sh -c 'sleep $((PMI_RANK % 2)); echo "end $PMI_RANK"; exit $((PMI_RANK + 3))' || status=$?
    [ "$status" -ne 0 ]
    [ "$(sort "$BATS_TEST_TMPDIR/job.out")" = "$(printf 'end %s\n' 0 1 2 3)" ] || { say job; return 1; }
}

@test "messages of several pieces to a revoked communicator are dropped, and every call on it ends" {
    use_region 8M
    all_remote
    for ranks in 2 3; do
        passes "$ranks" "$programs/revoked" "$BATS_TEST_TMPDIR/revoked.$ranks"
    done
}
