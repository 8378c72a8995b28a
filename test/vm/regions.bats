#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# Two regions with two guests each: as on two hosts.

bats_require_minimum_version 1.5.0
src=${IVSHM_SRC:-$BATS_TEST_DIRNAME/../..}
inst=$(realpath -m "${IVSHM_INST:-$src/inst}")
name=regions-$BATS_ROOT_PID

setup_file() {
    export WORK=$BATS_FILE_TMPDIR
    "$inst/bin/mpicc" -O2 -g -Wall -Wextra -Werror -o "$WORK/exchange" "$BATS_TEST_DIRNAME/exchange.c"
    "$inst/bin/ivshmem-vms" up 4 --name "$name" --prefix "$inst" --add "$WORK/exchange" --regions 2 \
        >"$WORK/up" 2>&1 3>&- || { cat "$WORK/up"; return 1; }
}

teardown_file() {
    "$inst/bin/ivshmem-vms" down --name "$name" 2>&1
}

@test "within a region through it, to the other by tcp" {
    unset "${!MPIR_CVAR_@}" "${!HYDRA_@}"
    # shellcheck source=/dev/null
    . "/tmp/ivshmem-vms-$UID/$name/env"
    cd "$WORK"
    # Guest number i has region number i modulo 2.
    MPIR_CVAR_NEMESIS_IVSHMEM_STATS=2 MPIR_CVAR_POLLS_BEFORE_YIELD=1 timeout --foreground -k 10 180 \
        mpiexec -hosts vm0,vm1,vm2,vm3 -n 4 "$WORK/exchange" </dev/null >out 2>&1 || { cat out; return 1; }
    [ "$(grep -c "good$" out)" -eq 4 ] || { cat out; return 1; }
    awk -f "$BATS_TEST_DIRNAME/../mpi/paths.awk" out >paths || { cat out paths; return 1; }
    cat paths
    awk '{ exit !($1 >= 8 && $3 > 100000 && $7 > 100000) }' paths
    [ "$(grep -o 'ivshmem: rank=.* id=[0-9a-f]*' out | grep -o 'id=.*' | sort | uniq -c | awk '{ print $1 }' | xargs)" = "2 2" ]
    for region in "/tmp/ivshmem-vms-$UID/$name"/region[01]; do
        ivshmem info --json "$region" | jq -e '.usage.endpoints == 0 and .usage.free_blocks == .geometry.blocks'
    done
}
