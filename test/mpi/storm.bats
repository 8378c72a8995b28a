#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154
#
# MPI_THREAD_MULTIPLE: five threads in each of three ranks.

load mpi

setup() { use_region 32M; }

teardown() { at_end; }

@test "threads: a communicator for each" { passes_both 3 "$programs/storm" "own communicators"; }

@test "threads: one communicator, a tag for each" { passes_both 3 "$programs/storm" "one communicator"; }

@test "threads: one probes what another takes" { passes_both 3 "$programs/storm" probes; }

@test "threads: one in a collective, the others send" { passes_both 3 "$programs/storm" collective; }

@test "threads: make, use and free communicators" { passes_both 3 "$programs/storm" communicators; }

@test "threads: Waitany, Testsome, Waitsome, Testany" { passes_both 3 "$programs/storm" completions; }

@test "threads: one-sided" { passes_both 3 "$programs/storm" one-sided; }

@test "threads: one spawns, the others send" { total=7 passes_both 3 "$programs/storm" spawn; }

@test "threads: calls at a port for each" { passes_both 3 "$programs/storm" ports; }

@test "threads: in 4 MiB, where cells and pipelines run out" {
    use_region 4M
    all_remote
    for part in "one communicator" completions probes; do
        passes 3 "$programs/storm" "$part"
    done
}
