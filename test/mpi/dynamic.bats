#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154,SC2119
#
# Dynamic processes: jobs on one region that spawn others, connect and disconnect.

load mpi

setup() {
    use_region 32M
    all_remote
    where=$BATS_TEST_TMPDIR/where
    jobs=() pids=() total=0
    job_arguments=()
}

teardown() { at_end; }

# begin NAME RANKS ARG...: starts one of several jobs; finished waits for all of them.
begin() {
    launch "$1" "${job_arguments[@]}" -n "$2" "$programs/dynamic" "${@:3}"
    jobs+=("$1") pids+=("$pid") total=$((total + $2))
}

# finished: all jobs have ended well, and the counters are what they expect together.
finished() {
    local i name part bad=
    for i in "${!jobs[@]}"; do
        wait "${pids[i]}" || bad+=" ${jobs[i]}"
        grep -qx "No errors" "$BATS_TEST_TMPDIR/${jobs[i]}.out" || bad+=" ${jobs[i]}"
    done
    if [ "$bad" ]; then
        echo "failed:$bad"
        for name in "${jobs[@]}"; do say "$name"; done
        return 1
    fi
    for part in out err; do
        for name in "${jobs[@]}"; do cat "$BATS_TEST_TMPDIR/$name.$part"; done >"$BATS_TEST_TMPDIR/all.$part"
    done
    good all "$total"
    empty
    jobs=() pids=() total=0
    rm -f "$where"*
}

# name_server: starts one, so that a name is known to all jobs, not only within one.
name_server() {
    local port=$((20000 + RANDOM % 10000))
    hydra_nameserver -port "$port" >"$BATS_TEST_TMPDIR/names.out" 2>&1 </dev/null 3>&- &
    background+=($!)
    job_arguments=(-nameserver "localhost:$port")
    until_true eval "(: </dev/tcp/localhost/$port) 2>/dev/null"
}

@test "spawn: several programs at once, from each rank, children of children, from a merged communicator" {
    ln -s "$programs/dynamic" "$BATS_TEST_TMPDIR/other"
    # Two, four of many programs, one of each of two, three in a line, two and their two.
    total=15 passes_both 2 "$programs/dynamic" spawn "$BATS_TEST_TMPDIR/other"
}

@test "join over a socket, within a job" {
    for how in all_remote half_remote; do
        $how
        begin job 3 join within "$where"
        finished
    done
}

@test "join over a socket, two jobs" {
    begin one 1 join accept "$where"
    begin two 1 join connect "$where"
    finished
}

@test "names published and looked up within a job" {
    for how in all_remote half_remote; do
        $how
        begin job 4 halves meeting.place
        finished
    done
}

@test "names published and looked up between jobs" {
    name_server
    begin one 2 meet accept many 2 1
    begin two 1 meet connect many.0
    begin three 2 meet connect many.1
    finished
}

@test "two ports with two client jobs each at once" {
    begin server 2 meet accept "$where" 2 2
    begin one 1 meet connect "$where.0"
    begin two 2 meet connect "$where.0"
    begin three 2 meet connect "$where.1"
    begin four 1 meet connect "$where.1"
    finished
}

@test "one port with four client jobs at once" {
    begin server 1 meet accept "$where" 1 4
    for i in 1 2 3 4; do
        begin "client$i" 1 meet connect "$where.0"
    done
    finished
}

@test "two jobs connect and disconnect 100 times, and nothing is left over" {
    begin one 2 again accept "$where" 100
    begin two 2 again connect "$where" 100
    finished
}

@test "two jobs as one communicator: collectives, one-sided, a file" {
    for how in all_remote half_remote; do
        $how
        begin one 3 work accept "$where" "$BATS_TEST_TMPDIR/file"
        begin two 2 work connect "$where" "$BATS_TEST_TMPDIR/file"
        finished
    done
}

@test "disconnect while large messages are in flight" {
    begin one 2 pending accept "$where"
    begin two 2 pending connect "$where"
    finished
}

@test "a job connected to two others forwards their messages" {
    begin one 2 end accept "$where.one"
    begin two 1 end accept "$where.two"
    begin relay 2 relay connect "$where.one" "$where.two"
    finished
}

@test "a rank in MPI_Finalize is not disturbed by ranks that it has never communicated with" {
    local how ranks
    for how in revoke cancel spawn; do
        ranks=$([ "$how" = spawn ] && echo 2 || echo 4)
        rm -f "$where"
        mpi job -n "$ranks" "$programs/finalizing" "$how" "$where" || { say job; return 1; }
        [ "$(grep -o "has left" "$BATS_TEST_TMPDIR/job.out" | wc -l)" -eq 4 ] || { say job; return 1; }
        empty
    done
}

@test "a message of a communicator that its receiver has freed can be cancelled, and reaches no other communicator" {
    ! since 4.1 || skip "since MPICH 4.1, MPI_Comm_free fails if messages are left"
    local bytes ranks where
    for bytes in 4 100000; do
        for ranks in 2 3; do
            for where in all_remote half_remote; do
                $where
                mpi job -n "$ranks" "$programs/freed_comm" "$bytes" || { echo "$ranks ranks, $bytes bytes, $where"; say job; return 1; }
                empty
            done
        done
    done
}
