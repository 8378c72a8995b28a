#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2154
#
# ivshmem-bench: that it runs a program in namespaces and on the host, judges it, goes on after it was killed, and counts
# its calls; and the proxies of bench/proxies.

load mpi

setup_file() {
    mkdir "$BATS_FILE_TMPDIR/bin"
    cd "$BATS_FILE_TMPDIR/bin" || return
    for proxy in ocean wavefront stencil fft lattice; do
        mpicc -O2 -Wall -Wextra -Werror -Wno-stringop-overflow -o $proxy "$IVSHM_SRC/bench/proxies/$proxy.c" -lm
    done
    [ -e "$IVSHM_INST/bin/mpifort" ] || return 0
    mpifort -o f08 "$BATS_TEST_DIRNAME/counted.f90"
    mpifort -o mpif "$BATS_TEST_DIRNAME/counted_mpif.f90"
}

setup() {
    cd "$BATS_TEST_TMPDIR" || return
    bin=$BATS_FILE_TMPDIR/bin
    out=$BATS_TEST_TMPDIR/out
}

teardown() { at_end; }

needs_namespaces() {
    local as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(--map-root-user --user)
    unshare "${as_root[@]}" --net true 2>unshared || skip "unshare --net: $(<unshared)"
    command -v ip >/dev/null || skip "no ip: package iproute2"
}

# bench STATUS OPTION...: ivshmem-bench run, with that status; its output is in the file told.
bench() {
    local status=0
    timeout -k 20 600 ivshmem-bench run --out out --size 32M --timeout 240 "${@:2}" >told 2>&1 3>&- || status=$?
    [ "$status" -eq "$1" ] || { echo "status $status"; cat told; return 1; }
}

records() { jq -r "$1" "$out/runs.jsonl"; }

# Processes that hold something know the folder or the region, which is newer than the lock.
nothing_left() { ! grep -q "$out" /proc/[0-9]*/cmdline 2>/dev/null && [ -z "$(find /dev/shm -name 'ivshmem-bench.*' -newer "$out/lock")" ]; }

@test "runs a program over each transport, and shows it" {
    needs_namespaces
    bench 0 --layout 2x1,2x2 --rounds 1 --transport ivshmem,ivshmem-malloc,tcp,shm --verify '^ranks: [24]$' -- "$programs/counted"
    [ "$(records .ok | sort | uniq -c | tr -s ' ')" = " 16 true" ] # with a profiled run of each
    diff <(records 'select(.round == 1) | "\(.layout) \(.ground) \(.transport)"') - <<'END_OF_RUNS'
2x1 namespaces ivshmem
2x1 namespaces ivshmem-malloc
2x1 namespaces tcp
2x1 host shm
2x2 namespaces ivshmem
2x2 namespaces ivshmem-malloc
2x2 namespaces tcp
2x2 host shm
END_OF_RUNS
    # Between the namespaces by the region or by tcp, and never by both.
    records 'select(.transport | startswith("ivshmem")) | .counters | .ranks >= 2 and .eager_sent > 0 and .tcp_sent == 0' | (! grep -v true)
    records 'select(.transport == "tcp") | .counters | .ranks == 0 and .eager_sent == 0' | (! grep -v true)
    grep -qE '^\| counted \| [0-9]+ % \| [0-9.e-]+ \| [0-9.e-]+ \|' "$out/applications.md"
    grep -qF '| geometric mean, of tcp |' "$out/applications.md"
    grep -qF '<table>' "$out/applications.html"
    [ "$(grep -c '^[nh].*,counted,2x[12],' "$out/summary.csv")" -eq 8 ]
    jq -e '.runs | length == 16' "$out/results.json"
    cp "$out/applications.md" first
    ivshmem-bench report --out "$out"
    diff <(grep '^| counted' first) <(grep '^| counted' "$out/applications.md")
    until_true nothing_left
}

@test "goes on where it was killed, and leaves nothing behind" {
    needs_namespaces
    # shellcheck disable=SC2016
    printf '%s\n' '#!/bin/sh' "cd '$PWD'" '[ "$PMI_RANK" != 0 ] || echo x >>calls' \
        '[ "$(wc -l <calls)" -lt 3 ] || [ -e go ] || exec sleep 1000' "exec '$programs/counted'" >program
    chmod +x program
    : >calls # both ranks read it, whichever is first
    local options=(--layout 2x1 --rounds 2 --transport 'ivshmem,tcp' --no-profile)
    ivshmem-bench run --out "$out" --size 32M "${options[@]}" -- ./program >first 2>&1 3>&- &
    local pid=$!
    background+=("$pid")
    until_true test -s calls
    third_began() { [ "$(wc -l <calls)" -ge 3 ]; }
    until_true third_began || until_true third_began || until_true third_began # the machine may be very busy
    # Meanwhile, nobody else may use that folder.
    bench 2 "${options[@]}" -- ./program
    grep -q '^ivshmem-bench: another ivshmem-bench writes to ' told
    kill -KILL "$pid"
    wait "$pid" || :
    until_true nothing_left
    [ "$(records .ok)" = $'true\ntrue' ]
    printf '{"run": "half' >>"$out/runs.jsonl" # what the kill may have cut off
    touch go
    bench 0 "${options[@]}" -- ./program
    grep -q '^ivshmem-bench: 2 of 4 runs are done already' told
    [ "$(records .ok | grep -c true)" -eq 4 ]
    [ "$(wc -l <calls)" -eq 5 ] # the third began twice
    # Of another program, nothing is taken.
    bench 2 "${options[@]}" -- "$PWD/program" argument
    grep -q "^ivshmem-bench: .* has results of another program program: pass another --out, or --again to drop them$" told
}

@test "a program that fails, one that hangs and a wrong result are failures, and the rest goes on" {
    local host=(--ground host --transport shm --layout '1x2,2x1' --no-profile --rounds 1)
    bench 1 "${host[@]}" -- "$programs/counted" fails
    [ "$(grep -c ' shm 1: exit status 3' told)" -eq 2 ]
    grep -qF '## Failed runs' "$out/applications.md"
    # What has failed runs again.
    bench 1 "${host[@]}" -- "$programs/counted" fails
    [ "$(records .ok | grep -c false)" -eq 4 ]
    bench 1 "${host[@]}" --again --layout 1x2 --timeout 1 -- sleep 1000
    grep -q ' shm 1: did not end within 1 s' told
    bench 1 "${host[@]}" --again --verify '^ranks: 3$' -- "$programs/counted"
    grep -q ' shm 1: the output has no line that matches ' told
    [ "$(records .seconds)" = $'null\nnull' ]
}

@test "a result that is not the reference run's is wrong" {
    needs_namespaces
    local options=(--layout 2x1 --rounds 1 --transport 'ivshmem,tcp' --no-profile --compare --ignore 'took: .*')
    bench 0 "${options[@]}" -- "$programs/counted"
    bench 1 --again "${options[@]}" -- "$programs/counted" differs
    grep -q " tcp 1: the result differs from the reference run's: .*netmod: tcp" told
    [ "$(records '"\(.transport) \(.ok)"')" = $'shm true\nivshmem true\ntcp false' ]
}

@test "a program of another MPI is told, not measured" {
    needs_namespaces
    bench 1 --layout 2x1 --rounds 1 --transport ivshmem --no-profile -- true
    grep -q '0 of 2 ranks say that they were on the region' told
}

# refuses TEXT OPTION...: one line, which has that text, and status 2.
refuses() {
    bench 2 "${@:2}"
    [ "$(wc -l <told)" -eq 1 ] || { cat told; return 1; }
    grep -qF -- "$1" told || { cat told; return 1; }
    [ ! -e "$out/runs.jsonl" ]
}

@test "wrong options are refused with one line each" {
    local layout program=(-- "$programs/counted")
    for layout in 4 4y2 0x1 4x '2x1,' 2x-1 x; do
        refuses 'expected VMs x ranks in each, such as 4x2' --layout "$layout" "${program[@]}"
    done
    refuses 'at most 16 VMs with 64 ranks each' --layout 17x1 "${program[@]}"
    refuses 'at most 16 VMs with 64 ranks each' --layout 2x65 "${program[@]}"
    refuses '2x1 is there twice' --layout 2x1,2x1 "${program[@]}"
    refuses '--ground moon: expected some of namespaces, host, guests' --ground moon "${program[@]}"
    refuses '--transport udp: expected some of ivshmem' --transport udp "${program[@]}"
    refuses 'nothing to run: these grounds have none of these transports' --ground host --transport tcp --no-profile "${program[@]}"
    refuses '--rounds: 0: expected a number from 1' --rounds 0 "${program[@]}"
    refuses 'no regular expression' --verify '(' "${program[@]}"
    refuses '--ignore says what --compare leaves out' --ignore x "${program[@]}"
    refuses './nothing: no such program' -- ./nothing
    refuses 'required: -- PROGRAM' --layout 2x1
    refuses '--add ./nothing: no such file' --add ./nothing "${program[@]}"
    run -2 ivshmem-bench
    [[ $output == "ivshmem-bench: expected a command, run or report"* ]]
    run -2 ivshmem-bench report --out ./nothing
    [[ $output == "ivshmem-bench: ./nothing has no results"* ]]
    run -0 ivshmem-bench --help
    [[ $output == "usage: ivshmem-bench"* ]]
}

# profiled PROGRAM: the calls of its profiled run on two ranks, summed.
profiled() {
    rm -rf "$out"
    bench 0 --layout 1x2 --rounds 1 --ground host --transport shm -- "$1"
    records 'select(.round == 0) | .profile | [.calls | to_entries | sort_by(.key)[] | "\(.key) \(.value.count) \(.value.bytes)"],
        [.sizes | to_entries | sort_by(.key | tonumber)[] | "\(.key): \(.value)"] | join(", ")'
    records 'select(.round == 0) | .profile.ranks | length == 2 and all(.[]; .mpi_ns > 0 and .mpi_ns <= .ns)' | grep -qx true
}

@test "counts the calls of a C program, and the sizes of its messages" {
    run -0 profiled "$programs/counted"
    # Only the root of a broadcast sends; a class is named by its upper limit's power of two.
    [ "${lines[0]}" = "MPI_Allreduce 10 40, MPI_Barrier 2 0, MPI_Bcast 6 300, MPI_Irecv 8 0, MPI_Isend 8 24000, MPI_Sendrecv 14 1120, MPI_Waitall 8 0" ]
    [ "${lines[1]}" = "3: 10, 7: 17, 12: 8" ]
}

@test "counts the calls of Fortran programs, with mpi_f08 and with mpif.h" {
    [ -e "$IVSHM_INST/bin/mpifort" ] || skip "MPICH was built without mpifort"
    for program in f08 mpif; do
        run -0 profiled "$bin/$program"
        [ "${lines[0]}" = "MPI_Allreduce 4 16, MPI_Barrier 2 0, MPI_Sendrecv 12 192" ]
        [ "${lines[1]}" = "3: 4, 5: 12" ]
    done
}

@test "the proxies are right over the region and over tcp" {
    needs_namespaces
    local proxy
    while read -r proxy arguments; do
        # shellcheck disable=SC2086
        bench 0 --again --layout 3x1 --rounds 1 --no-profile --transport ivshmem,tcp --verify ': verified$' \
            --time "$proxy: ([0-9.]+) seconds" -- "$bin/$proxy" $arguments
        [ "$(records .ok | grep -c true)" -eq 2 ]
    done <<'END_OF_PROXIES'
ocean 40 1
wavefront 24 2
stencil 24 5
fft 64 3
lattice 6 1
END_OF_PROXIES
}

@test "Coarray Fortran by OpenCoarrays is right over the region and over tcp" {
    needs_namespaces
    command -v apt-get >/dev/null || skip "OpenCoarrays is taken from Debian's packages"
    [ -e "$IVSHM_INST/bin/mpifort" ] || skip "MPICH was built without mpifort"
    local caf
    caf=$(dirname "$("$IVSHM_SRC/bench/apps/fetch" coarrays "$IVSHM_INST" "$PWD" | xargs -I{} find {} -name libcaf_mpich.so.3 -type f)")
    mpifort -O2 -fcoarray=lib -o coarray "$IVSHM_SRC/bench/proxies/coarray.f90" -L"$caf" -l:libcaf_mpich.so.3 -Wl,-rpath,"$caf"
    for images in 1 3; do
        bench 0 --again --layout ${images}x1 --rounds 1 --no-profile --transport ivshmem,tcp --verify ': verified$' \
            --time 'coarray: ([0-9.]+) seconds' -- ./coarray 40 30
        [ "$(records .ok | grep -c true)" -eq 2 ]
    done
    [ "$(records 'select(.transport == "ivshmem").counters.tcp_sent')" -eq 0 ]
    bench 1 --again --layout 3x1 --rounds 1 --no-profile --transport ivshmem -- ./coarray 2 1
    grep -q 'coarray: wants N, at least the number of images, and STEPS' out/logs/*.err
}

@test "the proxies refuse nonsense" {
    for proxy in ocean wavefront stencil fft lattice; do
        run -2 "$bin/$proxy" none
        [[ $output == *"argument 1 is none, expected a number from 1"* ]]
    done
}

# HPCC's output up to its summary, with that many updates lost by RandomAccess over MPI, and over none.
hpcc_output() { # RANKS LOST LOST_ALONE
    echo 'Begin of MPIRandomAccess section.'
    echo "Found $2 errors in 2097152 locations (passed)."
    echo 'End of MPIRandomAccess section.'
    echo 'Begin of StarRandomAccess section.'
    echo "Found $3 errors in 262144 locations (passed)."
    echo 'End of StarRandomAccess section.'
    printf '%s\n' 'Begin of Summary section.' "CommWorldProcs=$1" Success=1
}

@test "updates that HPCC itself may drop, of more than four ranks, are no failure; any other is" {
    judged() { hpcc_output "$@" | awk -f "$IVSHM_SRC/demo/validate.awk" >"$BATS_TEST_TMPDIR/judged" || true; }

    judged 4 0 0
    grep -q '^MPIRandomAccess .* 0 errors in 2097152 words' "$BATS_TEST_TMPDIR/judged"
    judged 4 503 0
    grep -q '^MPIRandomAccess .* FAILED: Found 503 errors' "$BATS_TEST_TMPDIR/judged"
    judged 8 503 7
    grep -q '^MPIRandomAccess .* 503 errors in 2097152 words' "$BATS_TEST_TMPDIR/judged"
    grep -q '^StarRandomAccess .* FAILED: Found 7 errors' "$BATS_TEST_TMPDIR/judged"
}
