#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# Messages between many processes over one region; STRESS_SECONDS for the longest of the tests, 12 if unset.

stress() {
    local program=$IVSHM_BUILD/obj/stress/$1/stress_region
    shift
    run "$program" "$@"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ $output == *"all given back"* ]]
}

@test "8 processes for ${STRESS_SECONDS:-12} s" {
    stress plain -t "${STRESS_SECONDS:-12}" -s $RANDOM
}

@test "8 processes under sanitizers" {
    stress gcc -t 5 -s $RANDOM
}

@test "3 processes in the smallest region" {
    stress plain -t 3 -p 3 -m 4 -s $RANDOM
}

@test "16 processes in a large region" {
    stress plain -t 3 -p 16 -m 256 -s $RANDOM
}

@test "an interrupt leaves no process" {
    setsid "$IVSHM_BUILD/obj/stress/plain/stress_region" -t 60 3>&- &
    local pid=$!
    sleep 0.5
    [ -n "$(ps -o pid= -g "$pid")" ]
    kill -TERM "$pid"
    wait "$pid" || :
    for _ in $(seq 100); do
        [ -n "$(ps -o stat= -g "$pid" | tr -d 'Zsl+ \n')" ] || return 0
        sleep 0.05
    done
    ps -g "$pid"
    false
}
