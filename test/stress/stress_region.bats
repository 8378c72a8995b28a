#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# Stress test: many processes exchange messages in one region. STRESS_SECONDS is the length of the longest test, 12 if
# unset.

stress() {
    local program=$IVSHM_BUILD/obj/stress/$1/stress_region
    shift
    run "$program" "$@"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ $output == *"all freed"* ]]
}

@test "stress: 8 processes for ${STRESS_SECONDS:-12} s" {
    stress plain -t "${STRESS_SECONDS:-12}" -s $RANDOM
}

@test "stress: 8 processes with sanitizers" {
    stress gcc -t 5 -s $RANDOM
}

@test "stress: 3 processes in the smallest region" {
    stress plain -t 3 -p 3 -m 4 -s $RANDOM
}

@test "stress: 16 processes in a large region" {
    stress plain -t 3 -p 16 -m 256 -s $RANDOM
}

@test "stress: an interrupt leaves no process" {
    setsid "$IVSHM_BUILD/obj/stress/plain/stress_region" -t 60 3>&- &
    local pid=$!
    for _ in $(seq 1200); do
        [ "$(ps -o pid= -g "$pid" | wc -l)" -lt 2 ] || break
        sleep 0.1
    done
    [ "$(ps -o pid= -g "$pid" | wc -l)" -ge 2 ]
    kill -TERM "$pid"
    wait "$pid" || :
    for _ in $(seq 2400); do
        [ -n "$(ps -o stat= -g "$pid" | tr -d 'Zsl+ \n')" ] || return 0
        sleep 0.05
    done
    ps -g "$pid"
    false
}
