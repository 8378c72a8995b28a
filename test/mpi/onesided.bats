#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154
#
# Random one-sided communication, with the same seeds each time. `make check-onesided` continues with other seeds.

load mpi

setup() { use_region 64M; }

teardown() { at_end; }

# The test program itself must pass with MPICH alone: over tcp, and in shared memory.

@test "random one-sided: the model agrees with MPICH's own tcp and shared memory" {
    export MPIR_CVAR_NEMESIS_NETMOD=tcp MPIR_CVAR_NOLOCAL=1
    mpi job -n 3 "$programs/onesided" -s 1 -n 4 || { say job; false; }
    unset MPIR_CVAR_NOLOCAL
    mpi job -n 3 "$programs/onesided" -a -s 1 -n 4 || { say job; false; }
}

@test "random one-sided: all ranks remote, 2 and 3 ranks" {
    all_remote
    passes 2 "$programs/onesided" -a -s 100 -n 8
    passes 3 "$programs/onesided" -a -s 200 -n 8
}

@test "random one-sided: half of the ranks remote, 3, 4 and 7 ranks" {
    half_remote
    passes 3 "$programs/onesided" -a -s 300 -n 6
    passes 4 "$programs/onesided" -a -s 400 -n 6
    passes 7 "$programs/onesided" -a -s 500 -n 3
}

@test "random one-sided: without memory of the region, all or half of the ranks remote" {
    export MPIR_CVAR_NEMESIS_IVSHMEM_USER_MEMORY=0
    all_remote
    passes 3 "$programs/onesided" -s 600 -n 5
    half_remote
    passes 4 "$programs/onesided" -s 700 -n 5
}

@test "random one-sided: half of the ranks remote, and one rank over tcp" {
    half_remote
    unset MPIR_CVAR_NEMESIS_IVSHMEM_REGION
    export MPIR_CVAR_NEMESIS_IVSHMEM_FALLBACK=1
    mpi job -n 3 -env MPIR_CVAR_NEMESIS_IVSHMEM_REGION "$region" "$programs/onesided" -s 800 -n 5 : \
        -n 1 "$programs/onesided" -s 800 -n 5 || { say job; false; }
    [ "$(counted job tcp_sent)" -gt 0 ]
    empty
}
