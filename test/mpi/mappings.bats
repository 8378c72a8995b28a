#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154
#
# Kinds of files other than those that the other suites use: huge pages, and a memfd of another process.

load mpi

setup() {
    all_remote
    pages=/proc/sys/vm/nr_hugepages
    pages_before=$(cat "$pages")
}

teardown() {
    at_end
    [ "$(cat "$pages")" = "$pages_before" ] || echo "$pages_before" >"$pages"
}

# with_huge_pages COMMAND...: runs it where $folder has a file of huge pages, `region`.
with_huge_pages() {
    [ "$(id -u)" -eq 0 ] || skip "needs root: huge pages are set aside for the test"
    unshare -m true 2>/dev/null || skip "no mount namespaces here"
    echo $((pages_before + 24)) >"$pages"
    [ "$(cat "$pages")" -eq $((pages_before + 24)) ] || skip "this machine has no huge pages to spare"
    folder=$BATS_TEST_TMPDIR
    export MPIR_CVAR_NEMESIS_IVSHMEM_REGION=$folder/region
    # shellcheck disable=SC2016
    run -0 unshare -m bash -c 'mount -t hugetlbfs -o pagesize=2M none "$1" && "${@:2}"' - "$folder" "$@" 3>&-
    echo "$output"
}

# shellcheck disable=SC2016
run_job='timeout 240 mpiexec -n 2 "$1" && ivshmem check "$0" &&
    ivshmem info --json "$0" | jq -e ".mapping == \"hugetlbfs\" and .page == 2097152 and .usage.endpoints == 0"'

@test "huge pages" {
    local make
    # What the command makes, and what others make: the pages come when the file is mapped.
    # shellcheck disable=SC2016
    for make in 'ivshmem format --size 32M "$0"' 'truncate -s 32M "$0"'; do
        with_huge_pages bash -c "$make && $run_job" "$BATS_TEST_TMPDIR/region" "$programs/memory"
        grep -qix 'no errors' <<<"$output"
        [ "$(grep -c 'ivshmem: rank=.* single_copy=[1-9]' <<<"$output")" -eq 2 ]
    done
}

@test "huge pages that the system does not have: one message" {
    with_huge_pages true
    echo "$pages_before" >"$pages"
    # shellcheck disable=SC2016
    run unshare -m bash -c 'mount -t hugetlbfs -o pagesize=2M none "$1" && truncate -s 64M "$1/region" &&
        ivshmem format "$1/region"' - "$BATS_TEST_TMPDIR" 3>&-
    echo "$output"
    [ "$status" -eq 1 ]
    [[ $output == *"cannot map "*"/region (hugetlbfs, 67108864 bytes): "*"sysctl vm.nr_hugepages"* ]]
}

@test "a memfd of another process" {
    python3 -c 'import os, time; fd = os.memfd_create("region"); os.fchmod(fd, 0o600); os.ftruncate(fd, 64 << 20); print(fd, flush=True)
time.sleep(600)' >"$BATS_TEST_TMPDIR/fd" 3>&- &
    background+=("$!")
    until_true [ -s "$BATS_TEST_TMPDIR/fd" ]
    region=/proc/$!/fd/$(<"$BATS_TEST_TMPDIR/fd")
    export MPIR_CVAR_NEMESIS_IVSHMEM_REGION=$region
    passes 2 "$programs/memory"
    ivshmem info --json "$region" | jq -e '.mapping == "memfd" and .kind == "file"'
}
