#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# The test runner build-aux/run-tests: what it counts, and that a suite that breaks in any way never counts as passed.

# shellcheck disable=SC2016 # the suites expand these.

setup() {
    runner=${IVSHM_SRC:-$BATS_TEST_DIRNAME/../..}/build-aux/run-tests
    cd "$BATS_TEST_TMPDIR" || exit
}

# suite NAME: creates a suite from the script on standard input
suite() {
    { echo '#!/bin/bash' && cat; } >"$1"
    chmod +x "$1"
}

# gone PID: waits until the process has ended; it may remain a zombie for a while.
gone() {
    for _ in $(seq 1200); do
        grep -qs '^State:[[:blank:]][^ZX]' "/proc/$1/status" || return 0
        sleep 0.1
    done
    return 1
}

# counts COUNTS STATUS SUITE...
counts() {
    local counts=$1 expected=$2
    shift 2
    run "$runner" "$BATS_TEST_TMPDIR/log" "$@"
    echo "$output"
    [ "${lines[-1]}" = "$counts" ]
    [ "$status" -eq "$expected" ]
}

@test "counts each line of TAP" {
    suite good <<<'echo 1..3; echo "ok 1 - a"; echo "ok 2 - b # skip why"; echo "ok 3"'
    suite bad <<<'echo "ok 1 - a"; echo "not ok 2 - b"; echo "not ok 3 # SKIP c"; echo 1..3; exit 1'
    counts "2 passed, 0 failed, 1 skipped" 0 "$PWD/good"
    counts "3 passed, 1 failed, 2 skipped" 1 "$PWD/good" "$PWD/bad"
    [[ $output == *"not ok 2 - b"* && $output == *"why"* ]]
}

@test "says at the end, and in the summary, what failed" {
    suite bad <<<'echo 1..2; echo "not ok 1 - a"; echo "# why"; echo "ok 2 - b"; exit 1'
    suite good <<<'echo 1..1; echo "ok 1 - c"'
    counts "2 passed, 1 failed, 0 skipped" 1 "$PWD/bad" "$PWD/good"
    tail=$(sed 1d "$BATS_TEST_TMPDIR/log/summary")
    grep -q 'bad: 1 failed' "$BATS_TEST_TMPDIR/log/summary"
    [[ $tail == *"not ok 1 - a"*"# why"* && $tail != *"ok 2 - b"* && $output == *"$tail" ]]
}

@test "counts a suite that breaks as failed" {
    suite silent <<<'exit 0'
    counts "0 passed, 1 failed, 0 skipped" 1 "$PWD/silent"
    suite dies <<<'echo 1..2; echo ok 1; kill -SEGV $$'
    counts "1 passed, 1 failed, 0 skipped" 1 "$PWD/dies"
    suite short <<<'echo 1..2; echo ok 1'
    counts "1 passed, 1 failed, 0 skipped" 1 "$PWD/short"
    suite late <<<'echo 1..1; echo ok 1; exit 3'
    counts "1 passed, 1 failed, 0 skipped" 1 "$PWD/late"
    counts "0 passed, 1 failed, 0 skipped" 1 "$PWD/absent"
    suite hangs <<<'echo 1..1; sleep 100'
    TEST_TIMEOUT=1 counts "0 passed, 1 failed, 0 skipped" 1 "$PWD/hangs"
}

@test "counts a suite that cannot run here as skipped" {
    suite skips <<<'exit 77'
    suite plan <<<'echo "1..0 # SKIP no reason"'
    counts "0 passed, 0 failed, 2 skipped" 0 "$PWD/skips" "$PWD/plan"
}

@test "leaves no process and no temporary file" {
    suite leaves <<<'echo "$TMPDIR" >where; mktemp; sleep 100 & echo $! >pid; echo 1..1; echo ok 1'
    counts "1 passed, 0 failed, 0 skipped" 0 "$PWD/leaves"
    [ ! -e "$(cat where)" ]
    gone "$(cat pid)"
}

@test "an interrupt ends the running suite" {
    suite long <<<'echo "$TMPDIR" >where; echo $$ >pid; sleep 100'
    "$runner" "$PWD/log" "$PWD/long" 3>&- &
    until [ -s pid ]; do sleep 0.1; done
    kill -TERM $!
    wait $! || [ $? -eq 143 ]
    [ ! -e "$(cat where)" ]
    gone "$(cat pid)"
}

@test "groups run at the same time" {
    suite first <<<'until [ -e second.here ]; do sleep 0.1; done; echo 1..1; echo ok 1'
    suite second <<<'touch second.here; echo 1..1; echo not ok 1'
    suite third <<<'echo 1..1; echo ok 1' # the second group may take it, once it has finished
    TEST_TIMEOUT=120 counts "2 passed, 1 failed, 0 skipped" 1 "$PWD/first" "$PWD/third" : "$PWD/second"
}

@test "a group that has finished takes suites from the end of another" {
    suite first <<<'until [ -e last.here ]; do sleep 0.1; done; echo 1..1; echo ok 1'
    suite middle <<<'[ -e last.here ] || exit; echo 1..1; echo ok 1'
    suite last <<<'touch last.here; echo 1..1; echo ok 1'
    suite other <<<'echo 1..1; echo ok 1'
    TEST_TIMEOUT=120 counts "4 passed, 0 failed, 0 skipped" 0 "$PWD/first" "$PWD/middle" "$PWD/last" : "$PWD/other"
}

@test "an interrupt ends the suites of all groups" {
    suite one <<<'echo $$ >one.pid; sleep 100'
    suite two <<<'echo $$ >two.pid; sleep 100'
    "$runner" "$PWD/log" "$PWD/one" : "$PWD/two" 3>&- &
    until [ -s one.pid ] && [ -s two.pid ]; do sleep 0.1; done
    kill -TERM $!
    wait $! || [ $? -eq 143 ]
    gone "$(cat one.pid)"
    gone "$(cat two.pid)"
}
