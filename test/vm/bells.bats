#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and vm.bash share variables and functions.
# shellcheck disable=SC2154
#
# Guests whose regions come from ivshmem-server, with the driver: a rank that waits sleeps until it is rung, by ranks in
# its own guest, in another one and on the host.

load vm

setup_file() {
    local module
    module=$(build_driver)
    [ -n "$module" ] || skip "no headers of the guests' kernel"
    "$inst/bin/mpicc" -O2 -Wall -Wextra -Werror -I"$src/test/mpi" -o "$BATS_FILE_TMPDIR/waiting" \
        "$src/test/mpi/waiting.c" -lpthread
    boot_guests 2 --server --driver "$module" --cpus 2 --add "$BATS_FILE_TMPDIR/waiting"
}

teardown_file() { end_guests; }

guest() { timeout --foreground -k 10 "$limit" "$HYDRA_LAUNCHER_EXEC" "$@" 3>&-; }

# counted COUNTER [RANK]: the sum over all ranks of the job whose output is in `out`, or over one.
counted() { sed -n "s/^.*ivshmem: rank=${2:-[0-9]*} .* $1=\([0-9]*\).*/\1/p" out | awk '{ n += $1 } END { print n + 0 }'; }

# runs ARG...: the job is good.
runs() { job "$@" </dev/null >out 2>&1 || { cat out; return 1; }; }

@test "every rank has a bell" {
    runs -hosts localhost,vm0,vm1 -n 3 "$WORK/waiting" pace 20
    run ! grep "cannot wake" out
}

@test "ranks on the host and in both guests wake each other" {
    runs -hosts localhost,vm0,vm1 -n 3 "$WORK/waiting" wake 40
    # Rank 0 rings each of the others each time; a busy machine may not let them sleep.
    [ "$(counted wakes 0)" -gt 40 ] || { cat out; return 1; }
    [ "$(counted sleeps 1)" -gt 20 ]
    [ "$(counted sleeps 2)" -gt 20 ]
    region_is_empty
}

@test "guests wake a rank on the host" {
    runs -hosts vm0,localhost,vm1 -n 3 "$WORK/waiting" wake 40
    [ "$(counted wakes 0)" -gt 40 ] || { cat out; return 1; }
    [ "$(counted sleeps 1)" -gt 20 ]
}

@test "ranks of one guest wake each other, through Nemesis' own shared memory" {
    runs -hosts vm0:2,vm1:2 -n 4 "$WORK/waiting" wake 40
    [ "$(counted wakes 0)" -gt 60 ] || { cat out; return 1; }
}

@test "a rank that waits takes little of its guest's processor" {
    runs -hosts vm0,vm1,localhost -n 3 "$WORK/waiting" idle 20
    awk '/^waited: / { n++; split($4, kv, "="); if (kv[2] >= 5) bad = 1 } END { exit bad || n != 2 }' out || { cat out; return 1; }
}

@test "messages of all kinds after pauses of all lengths" {
    local mode
    for mode in auto sleep; do
        MPIR_CVAR_NEMESIS_IVSHMEM_WAIT=$mode runs -hosts localhost,vm0:2,vm1:2 -n 5 "$WORK/waiting" pace 200
    done
    region_is_empty
}

@test "a guest without the driver rings, too" {
    guest vm1 rmmod ivshmem
    runs -hosts vm1,vm0,localhost -n 3 "$WORK/waiting" wake 40
    [ "$(counted wakes 0)" -gt 40 ] || { cat out; return 1; }
    region_is_empty
}

@test "without the server, ranks that know each other go on, and new ones start" {
    local pid
    pid=$(pgrep -f -- "--socket $set_dir/server0" | head -n 1)
    job -hosts vm1,vm0,localhost -n 3 "$WORK/waiting" wake 200 </dev/null >out 2>&1 3>&- &
    local running=$!
    until grep -q . "$set_dir/server0.log"; do sleep 0.1; done
    sleep 3
    kill -KILL "$pid"
    wait "$running" || { cat out; return 1; }
    runs -hosts vm1,vm0,localhost -n 3 "$WORK/waiting" pace 40
    grep -q "cannot connect to the server's socket $set_dir/server0" out || { cat out; return 1; }
    region_is_empty
}
