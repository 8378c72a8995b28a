#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154
#
# One-sided communication through the region.

load mpi

setup() { use_region 32M; }

teardown() { at_end; }

@test "every call under every synchronisation, 2 ranks" { passes_both 2 "$programs/rma"; }

@test "every call under every synchronisation, 3 ranks" { passes_both 3 "$programs/rma"; }

@test "every call under every synchronisation, 4 ranks in 4 MiB" {
    use_region 4M
    all_remote
    passes 4 "$programs/rma"
}

@test "atomics are exact, a target computes; 4 ranks" { passes_both 4 "$programs/rma" atomics; }

@test "atomics are exact, a target computes; 8 ranks" { passes_both 8 "$programs/rma" atomics; }
