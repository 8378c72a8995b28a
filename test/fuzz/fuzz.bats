#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# Fuzzes core with hostile memory: first the inputs in corpus/, then new ones, for FUZZ_SECONDS (60 if unset) over all
# targets. An input that fails is kept in logs/fuzz; obj/fuzz/libfuzzer/TARGET FILE runs it again.

# A transport has the most states, so it gets the most time.
fuzz() {
    "$BATS_TEST_DIRNAME/fuzz" libfuzzer "$1" "$BATS_TEST_TMPDIR" -max_total_time=$((${FUZZ_SECONDS:-60} * $2 / 10))
}

@test "hostile memory: region" { fuzz region 1; }
@test "hostile memory: transport" { fuzz transport 3; }
@test "hostile memory: endpoint" { fuzz endpoint 2; }
@test "hostile memory: pipeline" { fuzz pipeline 1; }
@test "hostile memory: cooperative copy" { fuzz coop 1; }
@test "hostile memory: rounds" { fuzz rounds 1; }
@test "hostile memory: the command ivshmem" { fuzz tool 2; }
@test "hostile memory: the network" { fuzz net 2; }
@test "hostile memory: pipes" { fuzz pipe 2; }
@test "hostile memory: libivshmem" { fuzz library 2; }

@test "the corpus covers the lines that read peers' memory" { "$BATS_TEST_DIRNAME/fuzz" coverage; }

@test "every fuzz target has a test in this suite" {
    for file in "$BATS_TEST_DIRNAME"/target_*.c; do
        name=${file##*/target_}
        grep -q "fuzz ${name%.c} " "$BATS_TEST_FILENAME"
    done
}
