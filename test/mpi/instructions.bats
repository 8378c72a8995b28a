#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154
#
# The cost of a small message, in instructions, which are comparable between runs, while times are not.

load mpi

setup() {
    command -v callgrind_annotate >/dev/null || skip "no valgrind"
    use_region 32M
    all_remote
    # No samples.
    export MPIR_CVAR_NEMESIS_IVSHMEM_COPY=ahead MPIR_CVAR_NEMESIS_IVSHMEM_PIECE=small
}

teardown() { at_end; }

# count: prints the lines of instructions.expected.
count() {
    local rank
    head -c 4096 /dev/zero >"$BATS_TEST_TMPDIR/page"
    mpi job -n 2 valgrind --tool=callgrind --toggle-collect=counted_send --toggle-collect=counted_receive \
        --callgrind-out-file="$BATS_TEST_TMPDIR/callgrind.%q{PMI_RANK}" "$programs/instructions" "$BATS_TEST_TMPDIR/page" ||
        { say job; return 1; }
    good job 2 >&2
    for rank in 0 1; do
        callgrind_annotate --threshold=100 --auto=no "$BATS_TEST_TMPDIR/callgrind.$rank" |
            awk -v side="$([ "$rank" = 0 ] && echo send || echo receive)" -v messages=200 -f "$BATS_TEST_DIRNAME/instructions.awk"
    done
}

@test "a small message takes the expected number of instructions" {
    count >"$BATS_TEST_TMPDIR/found"
    cat "$BATS_TEST_TMPDIR/found"
    if [ "${INSTRUCTIONS_RECORD-}" ]; then
        sed -i '/^#/!d' "$BATS_TEST_DIRNAME/instructions.expected"
        cat "$BATS_TEST_TMPDIR/found" >>"$BATS_TEST_DIRNAME/instructions.expected"
    fi
    # A third more means a different path; a third less should be recorded.
    awk '/^#/ { next }
        NR == FNR { expected[$1 " " $2] = $3; next }
        { found++; e = expected[$1 " " $2]
          if (($2 == "mpich" && $3 == 0) || $3 > e * 4 / 3 + 10 || $3 < e * 2 / 3 - 10) { print $0 ", expected " e; bad = 1 } }
        END { exit bad || found != 8 }' "$BATS_TEST_DIRNAME/instructions.expected" "$BATS_TEST_TMPDIR/found"
    empty
}
