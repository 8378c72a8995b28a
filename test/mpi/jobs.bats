#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154,SC2119,SC2120,SC2016
#
# Several jobs on one region: whatever becomes of one, the others do not notice, and everything that it held is
# reclaimed. The tests tell jobs apart by their number of ranks.

load mpi

setup() {
    use_region 16M
    all_remote
}

teardown() { at_end; }

# bystander: a job of two ranks, which runs until still_good.
bystander() {
    rm -f "$BATS_TEST_TMPDIR/enough"
    launch bystander -n 2 "$programs/stream" "$BATS_TEST_TMPDIR/enough"
    bystander=$pid
    until_true grep -q running "$BATS_TEST_TMPDIR/bystander.out"
}

still_good() {
    touch "$BATS_TEST_TMPDIR/enough"
    wait "$bystander" || { echo "status $?"; say bystander; return 1; }
    good bystander 2
}

# victim: a job of three ranks, which runs until it is killed.
victim() {
    launch victim "$@" -n 3 "$programs/stream" 600
    victim=$pid
    until_true grep -q running "$BATS_TEST_TMPDIR/victim.out"
}

# pids [CONDITION]: the pids of the victim's ranks, or of those that jq selects by the condition.
pids() { ivshmem ps --json "$region" | jq ".endpoints[] | select(.job_size == 3 and (${1:-true})) | .pid"; }

none_alive() { [ -z "$(pids '.process == "alive"')" ]; }

in_use() { ivshmem info --json "$region" | jq .usage.endpoints; }

@test "two jobs at once on one region" {
    for how in all_remote half_remote; do
        $how
        bystander
        mpi other -n 3 "$programs/stream" 2 || { say other; return 1; }
        good other 3
        still_good
        empty
    done
}

@test "a job finds room beside another one whose large messages need more than there is" {
    local i over=$BATS_TEST_TMPDIR/over crowded
    launch crowded -n 4 "$programs/crowded" "$over"
    crowded=$pid
    for i in 1 2 3 4 5 6 7 8; do
        mpi job -n 2 "$programs/windows" free 3 || { say job; return 1; }
        good job 2
    done
    touch "$over"
    wait "$crowded" || { echo "status $?"; say crowded; return 1; }
    good crowded 4
    empty
}

@test "jobs that start and end at the same time" {
    local jobs=() i k
    for i in 1 2 3; do
        launch "loop$i" -n 1 true # creates its output files
        wait "$pid"
        (
            for k in 1 2 3 4 5 6; do
                mpiexec -n $((1 + (i + k) % 3)) "$programs/coll" >"$BATS_TEST_TMPDIR/$i.$k.out" 2>"$BATS_TEST_TMPDIR/$i.$k.err" 3>&-
            done
        ) &
        jobs+=($!)
        background+=($!)
    done
    for i in "${jobs[@]}"; do
        wait "$i"
    done
    for i in 1 2 3; do
        for k in 1 2 3 4 5 6; do
            grep -q "No errors" "$BATS_TEST_TMPDIR/$i.$k.out" || { say "$i.$k"; return 1; }
            [ "$(grep -c " region=$region " "$BATS_TEST_TMPDIR/$i.$k.err")" -eq $((1 + (i + k) % 3)) ]
        done
    done
    empty
}

@test "a rank is killed beside another job" {
    bystander
    victim
    kill -KILL "$(pids '.rank == 1')"
    wait "$victim" && { say victim; return 1; }
    still_good
    reclaimed
}

@test "all ranks of a job are killed beside another" {
    bystander
    victim
    # shellcheck disable=SC2046
    kill -KILL $(pids)
    wait "$victim" && { say victim; return 1; }
    still_good
    reclaimed
}

@test "the next job reclaims what a killed job held" {
    local held ranks
    victim
    mapfile -t ranks < <(pids)
    kill -STOP "${ranks[@]}" # so that none of them sees another one die, and cleans up
    kill -KILL "${ranks[@]}"
    wait "$victim" && { say victim; return 1; }
    held=$(ivshmem info --json "$region" | jq '.geometry.blocks - .usage.free_blocks')
    [ "$(in_use)" -eq 3 ]
    [ "$held" -gt 400 ] || { echo "only $held blocks were held: this tests nothing"; return 1; }
    reclaimed
}

@test "mpiexec is killed beside another job" {
    local mpiexec
    bystander
    victim
    mpiexec=$(ps -o pid= --ppid "$victim")
    kill -KILL "$mpiexec"
    wait "$victim" && { say victim; return 1; }
    until_true none_alive
    still_good
    reclaimed
}

@test "a job is interrupted" {
    victim
    kill -INT "$(ps -o pid= --ppid "$victim")"
    wait "$victim" || : # Hydra's status, which is sometimes 0
    run ! grep -i 'no errors' "$BATS_TEST_TMPDIR/victim.out"
    until_true none_alive
    reclaimed
}

@test "a stopped rank is not dead" {
    local stopped
    launch victim -n 3 "$programs/stream" "$BATS_TEST_TMPDIR/enough"
    victim=$pid
    until_true grep -q running "$BATS_TEST_TMPDIR/victim.out"
    stopped=$(pids '.rank == 2')
    kill -STOP "$stopped"
    for _ in 1 2 3; do
        mpi other -n 2 "$programs/coll" || { say other; break; }
    done
    ivshmem reap "$region" >/dev/null
    sleep 2
    touch "$BATS_TEST_TMPDIR/enough"
    kill -CONT "$stopped"
    good other 2
    wait "$victim" || { echo "status $?"; say victim; return 1; }
    good victim 3
    empty
}
