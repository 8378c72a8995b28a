#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154
#
# Ranks that wait: they leave their processor to others, and whatever they wait for is found.

load mpi

setup() {
    use_region 64M
    all_remote
    unset MPIR_CVAR_POLLS_BEFORE_YIELD
}

teardown() { at_end; }

# took_less_than PERCENT RANKS: of a processor, each of the ranks that waited.
took_less_than() {
    awk -v most="$1" -v ranks="$2" '
        /^waited: / { n++; split($4, kv, "="); if (kv[2] >= most) { print; bad = 1 } }
        END { exit bad || n != ranks }' "$BATS_TEST_TMPDIR/job.out" || { say job; return 1; }
}

@test "a rank that waits takes less than a fiftieth of a processor" {
    passes 3 "$programs/waiting" idle 8
    took_less_than 2 2
    [ "$(counted job sleeps)" -gt 100 ]
    [ "$(counted job wakes)" -gt 0 ]
}

@test "so does a rank that waits for any of several requests" {
    passes 3 "$programs/waiting" any 8
    took_less_than 2 2
    [ "$(counted job sleeps)" -gt 100 ]
    half_remote
    passes 4 "$programs/waiting" any 8
    took_less_than 2 3
}

# MPICH's own yields, after so many polls of a call that waits, must not count.
# shellcheck disable=SC2016 # the inner shell's
@test "ranks that only test give the processor to peers that share it, unless they are told to spin" {
    local ranks=$(($(getconf _NPROCESSORS_ONLN) + 1)) mode yields
    for mode in auto spin; do
        MPIR_CVAR_NEMESIS_IVSHMEM_WAIT=$mode MPIR_CVAR_POLLS_BEFORE_YIELD=100000000 passes "$ranks" \
            sh -c 'exec strace -qq -e trace=sched_yield -o "$0.$PMI_RANK" "$@"' "$BATS_TEST_TMPDIR/$mode" "$programs/waiting" tests 2
        yields=$(cat "$BATS_TEST_TMPDIR/$mode".[1-9]* | grep -c sched_yield || true)
        echo "$mode: $yields"
        if [ "$mode" = auto ]; then [ "$yields" -gt 10 ]; else [ "$yields" -eq 0 ]; fi
    done
}

@test "ranks of one node, which use Nemesis' own shared memory, wake each other as well" {
    half_remote
    passes 4 "$programs/waiting" idle 8
    took_less_than 2 3
    unset MPIR_CVAR_ODD_EVEN_CLIQUES
    mpi job -n 3 "$programs/waiting" wake 40 || { say job; return 1; }
    [ "$(counted job eager_sent)" -eq 0 ]
    [ "$(counted job wakes)" -gt 20 ] || { say job; return 1; }
    empty
}

@test "where nobody can be woken, a rank takes less than a twentieth" {
    passes 4 "$programs/waiting" naps 8
    took_less_than 5 3
    [ "$(counted job sleeps)" -gt 300 ]
    # 120 messages came to ranks that had waited for long. In MPI_Init, before there are threads, some are woken.
    [ "$(counted job wakes)" -lt 60 ]
}

@test "a rank that is told to spin or to yield never sleeps" {
    local mode
    for mode in spin yield; do
        MPIR_CVAR_NEMESIS_IVSHMEM_WAIT=$mode passes 2 "$programs/waiting" idle 1
        [ "$(counted job sleeps)" -eq 0 ]
        [ "$(counted job wakes)" -eq 0 ]
    done
}

@test "messages of all kinds after pauses of all lengths" {
    local mode ranks
    for mode in auto sleep yield; do
        for ranks in 2 5; do
            MPIR_CVAR_NEMESIS_IVSHMEM_WAIT=$mode passes_both "$ranks" "$programs/waiting" pace 500
        done
    done
}

@test "a thread that waits holds no lock: others send meanwhile" {
    local mode
    for mode in auto sleep; do
        MPIR_CVAR_NEMESIS_IVSHMEM_WAIT=$mode passes_both 2 "$programs/waiting" threads 300
    done
}
