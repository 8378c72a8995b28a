#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154
#
# MPI programs that check their own results. Each covers one part of MPI.

load mpi

setup_file() {
    cd "$BATS_TEST_DIRNAME" || return
    # --with-mpich-options may have left out a language.
    [ ! -e "$IVSHM_INST/bin/mpicxx" ] || mpicxx -O2 -o "$BATS_FILE_TMPDIR/hello_cxx" hello.cxx
    [ -e "$IVSHM_INST/bin/mpifort" ] || return 0
    mpifort -O2 -o "$BATS_FILE_TMPDIR/hello_f08" hello.f90
    mpifort -O2 -o "$BATS_FILE_TMPDIR/hello_f77" hello.f
}

needs() { [ -e "$IVSHM_INST/bin/$1" ] || skip "MPICH was built without $1"; }

setup() { use_region 32M; }

teardown() { at_end; }

@test "point to point, 2 ranks" { passes_both 2 "$programs/pt2pt"; }

@test "point to point, 4 ranks" { passes_both 4 "$programs/pt2pt"; }

@test "every way to copy, in small and in large pieces" {
    local way piece
    export MPIR_CVAR_NEMESIS_IVSHMEM_STATS=2
    all_remote
    for way in plain ahead stream; do
        for piece in small large; do
            MPIR_CVAR_NEMESIS_IVSHMEM_COPY=$way MPIR_CVAR_NEMESIS_IVSHMEM_PIECE=$piece \
                mpi job -n 4 "$programs/pt2pt" || { say job; return 1; }
            grep -qix 'no errors' "$BATS_TEST_TMPDIR/job.out"
            empty
            # Each connection has used nothing else.
            grep "^ivshmem: rank=.* peer=.* copies=$way/$piece," "$BATS_TEST_TMPDIR/job.err"
            ! grep -o "\(plain\|ahead\|stream\)/\(small\|large\)" "$BATS_TEST_TMPDIR/job.err" | grep -v "$way/$piece" ||
                return 1
        done
    done
}

@test "every message by rendezvous" {
    export MPIR_CVAR_NEMESIS_IVSHMEM_EAGER_LIMIT=0
    all_remote
    mpi job -n 2 "$programs/types" || { say job; return 1; }
    empty
    awk '
        /^expected:/ { sub(".*messages>=", ""); expected = $1 }
        /^ivshmem:/ { sub(".* lmt_sent=", ""); found += $1 }
        END { print found " large messages of " expected; exit !(expected > 500 && found >= expected) }
    ' "$BATS_TEST_TMPDIR/job.out" "$BATS_TEST_TMPDIR/job.err"
}

@test "each large message from or to memory of the region is copied once, unless a pipeline holds it already" {
    use_region 64M
    passes_both 2 "$programs/memory" known
}

@test "large messages of all kinds with memory of the region, 2 ranks" {
    use_region 64M
    passes_both 2 "$programs/memory"
}

@test "large messages of all kinds with memory of the region, 3 ranks" {
    use_region 64M
    passes_both 3 "$programs/memory"
}

@test "derived datatypes" { passes_both 2 "$programs/types"; }

@test "derived datatypes, with the small chunks of a small region" {
    use_region 4M
    all_remote
    passes 2 "$programs/types"
}

@test "more messages than cells and pipelines, 4 ranks in 4 MiB" {
    use_region 4M
    passes_both 4 "$programs/flood"
}

@test "more messages than cells and pipelines, 8 ranks in 16 MiB" {
    use_region 16M
    passes_both 8 "$programs/flood"
}

@test "all pairs of 64 ranks, in 128 MiB" {
    use_region 128M
    all_remote
    passes 64 "$programs/all_pairs" 8 1000 20000 100000 8
}

@test "all pairs of 256 ranks, in 512 MiB" {
    use_region 512M
    all_remote
    limit=300 passes 256 "$programs/all_pairs" 100 3000
}

@test "collectives, communicators, one-sided; 2 ranks" { passes_both 2 "$programs/coll"; }

@test "collectives, communicators, one-sided; 3 ranks" { passes_both 3 "$programs/coll"; }

@test "collectives, communicators, one-sided; 8 ranks" { passes_both 8 "$programs/coll"; }

@test "MPI_THREAD_MULTIPLE" { passes_both 4 "$programs/threads"; }

@test "MPI-IO" { passes_both 4 "$programs/io" "$BATS_TEST_TMPDIR/file"; }

@test "a C++ program" {
    needs mpicxx
    passes_both 3 "$BATS_FILE_TMPDIR/hello_cxx"
}

@test "a Fortran program with mpi_f08" {
    needs mpifort
    passes_both 3 "$BATS_FILE_TMPDIR/hello_f08"
}

@test "a Fortran program with mpif.h" {
    needs mpifort
    passes_both 3 "$BATS_FILE_TMPDIR/hello_f77"
}

@test "MPI_T performance variables agree with the counters" {
    passes_both 2 "$programs/counters"
    # Counters that do not change in MPI_Finalize agree exactly with the line that it prints.
    for rank in 0 1; do
        for name in lmt_sent lmt_sent_bytes lmt_received lmt_received_bytes waits; do
            pvar=$(sed -n "s/^pvar: rank=$rank .*\b$name=\([0-9]*\).*/\1/p" "$BATS_TEST_TMPDIR/job.out")
            line=$(sed -n "s/^.*ivshmem: rank=$rank .*\b$name=\([0-9]*\).*/\1/p" "$BATS_TEST_TMPDIR/job.err")
            [ -n "$pvar" ] && [ "$pvar" = "$line" ] || { echo "$name: $pvar, at finalize $line"; say job; return 1; }
        done
    done
}

# quiet RANKS ARG...: a job that begins and ends; it needs no message.
quiet() {
    mpi job -n "$1" "$programs/init" "${@:2}" || { say job; return 1; }
    [ "$(grep -cF " region=$region " "$BATS_TEST_TMPDIR/job.err")" -eq "$1" ] || { say job; return 1; }
    empty
}

@test "MPI_Init and MPI_Finalize with nothing in between" {
    for how in all_remote half_remote; do
        $how
        quiet 1 init
        quiet 4 init
        quiet 2 thread
        quiet 3 late
    done
}

@test "sessions" { passes_both 3 "$programs/init" session; }

# alone COMMAND...: runs it without a region.
alone() {
    unset MPIR_CVAR_NEMESIS_IVSHMEM_REGION
    run timeout 240 "$@"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ $output == *"No errors"* && $output == *"ivshmem: rank=0 "*" region=none"* ]]
}

@test "without mpiexec and without a region" {
    alone "$programs/init"
    alone "$programs/init" session
}

@test "without mpiexec, on a region" {
    run timeout 240 "$programs/init"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ $output == *"ivshmem: rank=0 "*" region=$region "* ]]
    empty
}

@test "without mpiexec, as one of several that a launcher without PMI has started" {
    local warning="started by srun without PMI-2: its 3 processes are a job of one rank each"
    export SLURM_STEP_NUM_TASKS=3 SLURM_PROCID=0
    alone "$programs/init"
    [[ $output == *"ivshmem: rank 0: $warning"*"use srun --mpi=pmi2"* ]]
    SLURM_PROCID=1 alone "$programs/init"
    [[ $output != *"started by"* ]]
    SLURM_STEP_NUM_TASKS=1 alone "$programs/init"
    [[ $output != *"started by"* ]]
    # mpiexec was started by srun itself, or in the script of sbatch.
    alone mpiexec -n 1 "$programs/init"
    [[ $output != *"started by"* ]]
    unset SLURM_STEP_NUM_TASKS SLURM_PROCID
    OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=0 alone "$programs/init"
    [[ $output == *"ivshmem: rank 0: started by Open MPI's mpiexec: its 2 processes"* ]]
}

@test "on one machine, without a region" {
    alone mpiexec -n 3 "$programs/coll"
}

@test "spawn" {
    # Two parents, and three times two children.
    total=8 passes_both 2 "$programs/spawn" spawn
}

@test "accept and connect between two jobs" {
    for how in all_remote half_remote; do
        $how
        rm -f "$BATS_TEST_TMPDIR/port"
        launch server -n 2 "$programs/spawn" accept "$BATS_TEST_TMPDIR/port"
        server=$pid
        mpi client -n 3 "$programs/spawn" connect "$BATS_TEST_TMPDIR/port" || { say server; say client; return 1; }
        wait "$server" || { say server; say client; return 1; }
        for part in out err; do
            cat "$BATS_TEST_TMPDIR/client.$part" "$BATS_TEST_TMPDIR/server.$part" >"$BATS_TEST_TMPDIR/both.$part"
        done
        good both 5
        empty
    done
}
