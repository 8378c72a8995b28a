#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154
#
# Programs built for the standard ABI of MPI 5, with MPICH's mpicc_abi, run over the region. Only an MPICH from 4.3 on that
# was configured with --enable-mpi-abi has its library.

load mpi

names=(coll pt2pt types windows memory threads onesided)

setup_file() {
    [ -e "$IVSHM_INST/bin/mpicc_abi" ] || return 0 # each test reports that
    local name
    for name in "${names[@]}"; do
        mpicc_abi -O2 -o "$BATS_FILE_TMPDIR/$name" "$BATS_TEST_DIRNAME/$name.c" -lm -lpthread || return
    done
}

setup() {
    [ -e "$IVSHM_INST/bin/mpicc_abi" ] || skip "MPICH was built without --enable-mpi-abi"
    bin=$BATS_FILE_TMPDIR
    use_region 64M
}

teardown() { at_end; }

@test "the programs need libmpi_abi alone, and ivshmem-which finds this installation's" {
    for name in "${names[@]}"; do
        readelf -d "$bin/$name" >"$BATS_TEST_TMPDIR/needed"
        grep -F '[libmpi_abi.so.' "$BATS_TEST_TMPDIR/needed"
        ! grep -F '[libmpi.so.' "$BATS_TEST_TMPDIR/needed" || return 1
    done
    run ivshmem-which "$bin/coll"
    echo "$output"
    [[ $status -eq 0 && $output == *"libmpi_abi.so."*": $(realpath "$libdir")/libmpi_abi.so."*", of this installation"* ]]
}

@test "collectives" { passes_both 3 "$bin/coll"; }

@test "point to point" { passes_both 2 "$bin/pt2pt"; }

@test "derived datatypes" { passes_both 2 "$bin/types"; }

@test "windows" { passes_both 4 "$bin/windows" free 20; }

@test "large messages with memory of the region" { passes_both 2 "$bin/memory"; }

@test "MPI_THREAD_MULTIPLE" { passes_both 4 "$bin/threads"; }

@test "one-sided operations, checked against a model" { passes_both 4 "$bin/onesided" -s 7 -n 4; }
