#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and vm.bash share variables and functions.
# shellcheck disable=SC2154
#
# Faults in the middle of a job between guests: a rank is killed, a guest loses power, is reset or is paused, mpiexec is
# killed. All the while another job, the neighbour, runs on the same region, between this machine and vm0, and checks
# each byte. Afterwards the region is empty.

load vm

setup_file() {
    "$inst/bin/mpicc" -O2 -g -Wall -Wextra -Werror -o "$BATS_FILE_TMPDIR/stream" "$src/test/mpi/stream.c"
    boot_guests 3 --add "$BATS_FILE_TMPDIR/stream"
}

teardown_file() { end_guests; }

begin_neighbour() { begin neighbour localhost,vm0 2; }

# all_is_well: the neighbour has noticed nothing. Each machine reaps what it can prove dead, and nothing is left.
all_is_well() {
    local k
    end neighbour 2
    until_true no_rank_runs_in vm0 vm1 vm2
    for k in 0 1 2; do vms exec "$k" ivshmem reap; done
    ivshmem reap "$region"
    region_is_empty
}

no_rank_runs_in() {
    local vm
    for vm; do
        vms exec "$vm" ps >processes || return 1
        ! grep "$WORK/" processes || return 1
    done
}

# owned_by GUESTS: lists the blocks that the job of 4 ranks owns there, according to the block map (doc/layout.md).
# GUESTS is a regular expression.
owned_by() {
    ivshmem ps --json "$region" | jq -r ".endpoints[] | select(.job_size == 4 and (.host | test(\"$1\"))).endpoint" >owners
    od -An -v -t u2 -w8 -j "$(od -An -t u8 -j 80 -N 8 "$region" | tr -d ' ')" \
        -N $((8 * $(ivshmem info --json "$region" | jq .geometry.blocks))) "$region" |
        awk 'NR == FNR { owners[$1 + 1]; next } $1 in owners { print FNR - 1 ":", $0 }' owners -
}

# note GUESTS, still_owned GUESTS: between the two, none of these blocks has changed its owner.
note() {
    owned_by "$1" >owned
    # Until nothing changes any more: guests that are not paused may still be busy.
    until sleep 1; owned_by "$1" | cmp -s owned -; do owned_by "$1" >owned; done
    [ "$(wc -l <owned)" -gt 300 ] # two ranks' base extents and more
}

still_owned() {
    owned_by "$1" | diff owned -
    ivshmem check --deep "$region"
}

# another_job HOSTS: runs a job of two ranks on the same region.
another_job() {
    job -hosts "$1" -n 2 "$WORK/exchange" </dev/null >out 2>&1 || { cat out; return 1; }
    through_region out 2
}

@test "a rank is killed: the others get an error that names it, and its guest reclaims its memory" {
    begin_neighbour
    # The process manager lets the others go on, and tells them.
    job -disable-auto-cleanup -hosts vm1,vm2 -n 4 "$WORK/stream" 600 told >killed 2>&1 </dev/null 3>&- &
    pid_of[killed]=$!
    until_true grep -q running killed
    vms exec 2 kill -KILL "$(endpoints 4 | jq '.[] | select(.rank == 3).pid')"
    ended_with_an_error killed
    grep -q "rank [13]: its process is dead" killed
    grep -q "rank 0 got an error" killed
    another_job vm1,vm2
    all_is_well
}

# power_fails VERB: ends vm2 in the middle of a job. The job ends, and vm2 keeps its blocks.
power_fails() {
    begin_neighbour
    begin cut vm1,vm2 4
    vms pause 2 # so that nothing changes between the note and the end
    note vm2
    vms "$1" 2
    ended_with_an_error cut
    # Either of the two may come first.
    grep -q "the connection to vm2 is lost\|control_cb.*assert (!closed) failed" cut

    # A silent guest's memory is not freed, whoever joins and reaps.
    another_job vm1,localhost
    vms exec 1 ivshmem reap
    ivshmem reap "$region"
    still_owned vm2
    run -1 vms exec 2 true
    [[ $output == *"vm2 is not running"* ]]
}

@test "a guest is switched off: its memory is freed when it has booted again" {
    power_fails off
    vms boot 2
    [ -z "$(owned_by vm2)" ]
    another_job vm1,vm2
    all_is_well
}

@test "a guest's QEMU is killed: its memory is freed when the administrator declares it gone" {
    power_fails kill
    ivshmem reap --vm-gone vm2 "$region"
    [ -z "$(owned_by vm2)" ]
    vms boot 2
    another_job vm1,vm2
    all_is_well
}

@test "a guest is reset: its jobs end, and it can join again" {
    begin_neighbour
    begin reset vm1,vm2 4
    # Ranks that never call MPI: only ssh can tell that this job is broken.
    job -hosts vm1,vm2 -n 2 sleep 600 >sleeping 2>&1 </dev/null 3>&- &
    pid_of[sleeping]=$!
    until_true is_asleep
    vms reset 2
    ended_with_an_error reset
    ended_with_an_error sleeping
    grep -q "the connection to vm2 is lost" sleeping
    another_job vm1,vm2
    all_is_well
}

is_asleep() { vms exec 2 ps | grep -q "sleep 600"; }

@test "a guest is paused: its job waits, and continues with the guest" {
    begin_neighbour
    begin paused vm1,vm2 4
    vms pause 2
    note vm2
    # Others join and leave meanwhile, for longer than any time limit of ours; the longest is ssh's keepalive.
    for _ in 1 2; do
        another_job vm1,localhost
        vms exec 1 ivshmem reap
        ivshmem reap "$region"
        still_owned vm2
        sleep 8
    done
    vms resume 2
    end paused 4
    all_is_well
}

@test "a rank is killed while its peers are paused: its memory is kept, as they may write into it" {
    begin_neighbour
    begin orphans vm1,vm2 4
    vms pause 2
    note 'vm[12]'
    vms exec 1 kill -KILL "$(endpoints 4 | jq '.[] | select(.rank == 0).pid')"
    until_true vm1_is_dead
    another_job vm1,localhost
    still_owned 'vm[12]'
    vms resume 2
    ended_with_an_error orphans
    another_job vm1,vm2
    all_is_well
}

vm1_is_dead() {
    vms exec 1 ivshmem reap >/dev/null
    [ "$(endpoints 4 | jq -c '[.[] | select(.host == "vm1").state]')" = '["dead","dead"]' ]
}

@test "mpiexec is killed: no rank outlives it" {
    begin_neighbour
    begin headless vm1,vm2 4
    kill -KILL "$(pgrep -P "$(pgrep -P "${pid_of[headless]}" -x timeout)" -x mpiexec)"
    wait "${pid_of[headless]}" || :
    until_true no_rank_runs_in vm1 vm2
    another_job vm1,vm2
    all_is_well
}
