#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and vm.bash share variables and functions.
# shellcheck disable=SC2154
#
# MPI between real guests: vm0 and vm1 share a region, vm2 has no device. All tests use one set of guests.

load vm

setup_file() {
    for program in rma malloc windows onesided; do
        "$inst/bin/mpicc" -O2 -g -o "$BATS_FILE_TMPDIR/$program" "$src/test/mpi/$program.c"
    done
    boot_guests 3 --no-device 2 --add "$BATS_FILE_TMPDIR/rma" --add "$BATS_FILE_TMPDIR/malloc" \
        --add "$BATS_FILE_TMPDIR/windows" --add "$BATS_FILE_TMPDIR/onesided"
}

teardown_file() { end_guests; }

@test "ivshmem check finds that both guests can run jobs on the region" {
    check_between "vms exec 0" "vms exec 1"
    region_is_empty
}

@test "ivshmem perf measures between the host and a guest" {
    ivshmem perf --serve --timeout 300 "$region" >side0 2>&1 3>&- &
    vms exec 0 ivshmem perf --timeout 300 --iterations 10 --sizes 0,8,1K,64K --json >side1 || { cat side0 side1; return 1; }
    wait $! || { cat side0 side1; return 1; }
    jq -e '.mapping.kind == "BAR" and .this_side.host != .other_side.host and (.results | length == 10) and
        ([.results[] | select(.test == "latency") | .bytes] == [0, 8, 1024, 65536])' side1 || { cat side1; return 1; }
    region_is_empty
}

@test "two ranks in each of two guests exchange messages of all kinds" {
    job -hosts vm0,vm1 -n 4 "$WORK/exchange" </dev/null >out 2>&1 || { cat out; return 1; }
    through_region out 4
    region_is_empty
}

# windows FILE: how many shared windows all ranks of that job have created.
windows() { grep -o ' windows=[0-9]*' "$1" | awk -F= '{ n += $2 } END { print n + 0 }'; }

@test "ranks in two guests and on the host access each other's windows by loads and stores" {
    MPIR_CVAR_NEMESIS_IVSHMEM_REGION=$region job -hosts localhost,vm0,vm1 -n 3 "$WORK/rma" windows </dev/null >out 2>&1 ||
        { cat out; return 1; }
    grep -x "No errors" out
    [ "$(windows out)" -ge 72 ] || { cat out; return 1; }
    region_is_empty
}

# both_direct FILE: each of the two ranks has sent or received at least three messages with a single copy.
both_direct() { [ "$(grep -o ' single_copy=[0-9]*' "$1" | awk -F= '$2 >= 3 { n++ } END { print n }')" -eq 2 ]; }

@test "large blocks of malloc are in the region, and a child of fork has its own" {
    for what in kinds forks changes; do
        job -hosts vm0,vm1 -n 2 ivshmem-env --malloc "$WORK/malloc" $what </dev/null >out 2>&1 || { cat out; return 1; }
        grep -x "No errors" out
        [ $what = changes ] || both_direct out || { cat out; return 1; }
    done
    region_is_empty
}

@test "atomics on windows of two guests are exact" {
    job -hosts vm0,vm1 -n 4 "$WORK/rma" atomics </dev/null >out 2>&1 || { cat out; return 1; }
    grep -x "No errors" out
    [ "$(windows out)" -eq 8 ] || { cat out; return 1; }
    region_is_empty
}

# Nemesis' shared memory within a guest, the region between guests. With these seeds some windows are in the region.
@test "random one-sided communication, two and three ranks in each of two guests" {
    for ranks in 2 3; do
        job -hosts vm0,vm1 -n $((2 * ranks)) -ppn $ranks "$WORK/onesided" -a -s "$((ranks + 20))" -n 3 </dev/null >out 2>&1 ||
            { cat out; return 1; }
        grep -x "No errors" out
    done
    [ "$(windows out)" -gt 0 ] || { cat out; return 1; }
    region_is_empty
}

@test "windows freed right after an unlock, three ranks in each of two guests" {
    job -hosts vm0,vm1 -n 6 -ppn 3 "$WORK/windows" free 50 </dev/null >out 2>&1 || { cat out; return 1; }
    grep -x "No errors" out
    region_is_empty
}

@test "with a guest without the device, windows are not shared, and correct" {
    job -hosts vm0,vm2 -n 2 "$WORK/rma" apart </dev/null >out 2>&1 || { cat out; return 1; }
    grep -x "No errors" out
    [ "$(windows out)" -eq 0 ] || { cat out; return 1; }
    region_is_empty
}

@test "counters show if messages do not go through the region" {
    MPIR_CVAR_NEMESIS_NETMOD=tcp job -hosts vm0,vm1 -n 2 "$WORK/exchange" </dev/null >out 2>&1 || { cat out; return 1; }
    grep -c "good$" out | grep -x 2
    run ! through_region out 2
}

@test "ranks on the host and in guests are one job" {
    MPIR_CVAR_NEMESIS_IVSHMEM_REGION=$region job -hosts localhost,vm0,vm1 -n 5 "$WORK/exchange" </dev/null >out 2>&1 ||
        { cat out; return 1; }
    through_region out 5
    [ "$(grep -o 'ivshmem: rank=[0-9]* host=[^ ]*' out | grep -o 'host=.*' | sort -u | wc -l)" = 3 ]
    region_is_empty
}

@test "mpiexec runs in a guest" {
    timeout --foreground -k 10 "$limit" ivshmem-vms exec 1 MPIR_CVAR_NEMESIS_IVSHMEM_STATS=1 \
        MPIR_CVAR_POLLS_BEFORE_YIELD=1 mpiexec -hosts vm0,vm1 -n 4 "$WORK/exchange" </dev/null >out 2>&1 ||
        { cat out; return 1; }
    through_region out 4
    region_is_empty
}

# counted FILE BYTES: each of the 2 ranks with that output sent more than BYTES through one region, and all arrived.
counted() {
    awk -v least="$2" '
        sub(/^.*ivshmem: rank=/, "ivshmem: rank=") { # the program may have begun a line
            for (i = 2; i <= NF; i++) { split($i, pair, "="); field[pair[1]] = pair[2] }
            sent = field["eager_sent_bytes"] + field["lmt_sent_bytes"]
            balance += sent - field["eager_received_bytes"] - field["lmt_received_bytes"]
            if (sent > least) ranks++
            ids[field["id"]] = hosts[field["host"]] = 1
        }
        END { exit !(ranks == 2 && balance == 0 && length(ids) == 1 && length(hosts) == 2) }' "$1" || { cat "$1"; return 1; }
}

@test "programs that were built with Debian's MPICH run unchanged between guests" {
    for tool in NPmpich2 mpifort.mpich; do
        command -v $tool >/dev/null || skip "no $tool: packages netpipe-mpich2, mpich, libmpich-dev"
    done
    mpifort.mpich -O2 -o "$WORK/fortran" "$BATS_TEST_DIRNAME/../mpi/hello.f90"
    eval "$(ivshmem-env)" # first, so that the guests get our libraries and not Debian's
    vms add "$(command -v NPmpich2)" "$WORK/fortran"
    vms exec all find / -xdev -name 'libmpich.so*' >out
    [ "$(grep -c ": $libdir/libmpich.so.12" out)" -eq 3 ] || { cat out; return 1; }
    run ! grep -v ": $libdir/" out
    for program in NPmpich2 "$WORK/fortran"; do
        job -hosts vm0,vm1 -n 2 ivshmem-which "$program" </dev/null >out 2>&1 || { cat out; return 1; }
        [ "$(grep -c ", of this installation" out)" -eq 2 ] || { cat out; return 1; }
    done

    job -hosts vm0,vm1 -n 2 NPmpich2 -i -u 70000 -n 5 -o /dev/null </dev/null >out 2>&1 || { cat out; return 1; }
    [ "$(grep -c "Integrity check passed" out)" -ge 20 ] || { cat out; return 1; }
    run ! grep -i "check failed" out
    counted out 500000
    job -hosts vm0,vm1 -n 2 ivshmem-env --malloc NPmpich2 -i -l 50000 -u 70000 -n 5 -o /dev/null </dev/null >out 2>&1 || { cat out; return 1; }
    run ! grep -i "check failed" out
    both_direct out || { cat out; return 1; }
    job -hosts vm0,vm1 -n 2 "$WORK/fortran" </dev/null >out 2>&1 || { cat out; return 1; }
    grep -x "No errors" out
    counted out 160000
    region_is_empty
}

@test "ivshmem-which names the device that a process has mapped" {
    begin long vm0,vm1 4
    victim=$(ivshmem ps --json "$region" | jq -r '[.endpoints[] | select(.state == "live" and .rank == 0).pid][0]')
    vms exec 0 ivshmem-which --pid "$victim" >out || { cat out; return 1; }
    grep "libmpi.so.12.*, of this installation" out
    grep "region: /sys/.*/resource2" out
    end long 4
}

@test "two jobs at once on one region do not notice each other" {
    begin long vm0,vm1 4
    job -hosts vm1,vm0 -n 2 "$WORK/exchange" 6 </dev/null >short 2>&1 || { cat short; return 1; }
    through_region short 2
    end long 4
    region_is_empty
}

# by_the_right_path FILE RANKS: each pair of the job used the right path, and both paths were used.
by_the_right_path() {
    # shellcheck disable=SC2015
    [ "$(grep -c "good$" "$1")" -eq "$2" ] && awk -f "$BATS_TEST_DIRNAME/../mpi/paths.awk" "$1" >paths &&
        awk '{ exit !($3 > 100000 && $7 > 100000) }' paths || { cat "$1" paths; return 1; }
}

@test "a guest without the device is reached over tcp, the others through the region" {
    unset MPIR_CVAR_NEMESIS_IVSHMEM_REGION
    MPIR_CVAR_NEMESIS_IVSHMEM_STATS=2 job -hosts vm0,vm1,vm2 -n 4 "$WORK/exchange" </dev/null >out 2>&1 ||
        { cat out; return 1; }
    by_the_right_path out 4
    grep "rank 2: uses tcp: no ivshmem device" out
    region_is_empty
}

@test "a guest without the device is an MPI error if tcp is forbidden, and another job continues" {
    begin long vm0,vm1 4
    MPIR_CVAR_NEMESIS_IVSHMEM_FALLBACK=0 run job -hosts vm0,vm2 -n 2 "$WORK/exchange" </dev/null
    echo "$output"
    [[ $status -ne 0 && $status -ne 124 && $status -lt 128 ]]
    # The netmod's own line: mpiexec may lose the end of MPI's error stack when it ends the job.
    [[ $output == *"no ivshmem device (PCI 1af4:1110)"*"start the VM with"* ]]
    [[ $output != *Assertion* && $output != *"signal 11"* && $output != *"signal 6"* ]]
    end long 4
    region_is_empty
}

@test "a rank that dies ends its own job only, and its memory is reclaimed" {
    begin long vm0,vm1 4
    begin dying vm0,vm1 2
    victim=$(endpoints 2 | jq '.[] | select(.rank == 1).pid')
    vms exec 1 kill -KILL "$victim"
    ended_with_an_error dying
    grep -q "KILLED BY SIGNAL: 9\|EXIT CODE: 9" dying
    end long 4
    # Only its own guest can prove it dead; any job there reclaims its memory.
    job -hosts vm0,vm1 -n 2 "$WORK/exchange" </dev/null >out 2>&1 || { cat out; return 1; }
    through_region out 2
    region_is_empty
}
