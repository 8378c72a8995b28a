#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154
#
# MPI_THREAD_MULTIPLE: five threads in each of three ranks.

load mpi

setup() { use_region 32M; }

teardown() { at_end; }

@test "threads: a communicator for each" { passes_both 3 "$programs/thread_storm" "own communicators"; }

@test "threads: one communicator, a tag for each" { passes_both 3 "$programs/thread_storm" "one communicator"; }

@test "threads: one probes messages that another one receives" { passes_both 3 "$programs/thread_storm" probes; }

@test "threads: one in a collective, the others send" { passes_both 3 "$programs/thread_storm" collective; }

@test "threads: create, use and free communicators" { passes_both 3 "$programs/thread_storm" communicators; }

@test "threads: Waitany, Testsome, Waitsome, Testany" { passes_both 3 "$programs/thread_storm" completions; }

@test "threads: one-sided communication" { passes_both 3 "$programs/thread_storm" one-sided; }

@test "threads: one spawns, the others send" { total=7 passes_both 3 "$programs/thread_storm" spawn; }

@test "threads: a port for each" { passes_both 3 "$programs/thread_storm" ports; }

@test "threads: in 4 MiB, where cells and pipelines are exhausted" {
    use_region 4M
    all_remote
    for part in "one communicator" completions probes; do
        passes 3 "$programs/thread_storm" "$part"
    done
}
