#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# Hostile memory: the inputs that are kept in corpus/, then new ones, for FUZZ_SECONDS (60 if unset) over all
# targets. An input that fails is in logs/fuzz; obj/fuzz/libfuzzer/TARGET FILE runs it again.

# Transports have the most to look at.
fuzz() {
    "$BATS_TEST_DIRNAME/fuzz" libfuzzer "$1" "$BATS_TEST_TMPDIR" -max_total_time=$((${FUZZ_SECONDS:-60} * $2 / 10))
}

@test "region" { fuzz region 1; }
@test "transport" { fuzz transport 4; }
@test "endpoint" { fuzz endpoint 2; }
@test "pipeline" { fuzz pipeline 1; }
@test "tool" { fuzz tool 2; }

@test "the corpus reaches the lines that read memory of peers" { "$BATS_TEST_DIRNAME/fuzz" coverage; }

@test "every target is here" {
    for file in "$BATS_TEST_DIRNAME"/target_*.c; do
        name=${file##*/target_}
        grep -q "fuzz ${name%.c} " "$BATS_TEST_FILENAME"
    done
}
