# SPDX-License-Identifier: mpich2
# shellcheck shell=bash disable=SC2154 # bats sets its variables
#
# Sourced by the suites of this folder. The tests of a suite share one set of guests. Their jobs check what they
# receive, and the netmod's counters must show that it came through the region.

bats_require_minimum_version 1.5.0
src=${IVSHM_SRC:-$BATS_TEST_DIRNAME/../..}
inst=$(realpath -m "${IVSHM_INST:-$src/inst}")
libdir=$(realpath -m "${IVSHM_LIBDIR:-$inst/lib}")
limit=300 # seconds; a job usually takes a twentieth of that
# Not in the folder for temporary files, which an interrupted run removes at once.
name=$(basename "$BATS_TEST_FILENAME" .bats)-$BATS_ROOT_PID

# boot_guests N OPTION...: boots guests that have `exchange`.
boot_guests() {
    [ -x "$inst/bin/mpiexec" ] || { echo "no MPI installation in $inst: build it with make stage" >&2; return 1; }
    export WORK=$BATS_FILE_TMPDIR
    "$inst/bin/mpicc" -O2 -g -Wall -Wextra -Werror -o "$WORK/exchange" "$src/test/vm/exchange.c"
    "$inst/bin/ivshmem-vms" up "$1" --name "$name" --prefix "$inst" --add "$WORK/exchange" "${@:2}" \
        >"$WORK/up" 2>&1 3>&- || { cat "$WORK/up"; return 1; }
}

# build_driver: builds the driver for the guests' kernel, and prints its path; nothing without the headers of that.
build_driver() {
    PYTHONPATH=$src/tools:$src/test/driver /usr/bin/python3 -B -c 'import kernel, os, pathlib, sys
build = kernel.find()[1]
if os.path.exists(build):
    print(kernel.build_driver(pathlib.Path(sys.argv[1]), build))' "$BATS_FILE_TMPDIR" 3>&-
}

end_guests() { "$inst/bin/ivshmem-vms" down --name "$name" 2>&1; }

setup() {
    unset "${!MPIR_CVAR_@}" "${!HYDRA_@}"
    eval "$("$inst/bin/ivshmem-vms" env --name "$name")"
    set_dir=$IVSHMEM_VMS_DIR
    region=$(readlink "$set_dir/region0")
    export MPIR_CVAR_NEMESIS_IVSHMEM_STATS=1
    export MPIR_CVAR_POLLS_BEFORE_YIELD=1 # ranks share a processor
    cd "$WORK" || return
}

teardown() {
    rm -f ./*.goes-on # lets jobs come to their end
    # shellcheck disable=SC2046
    [ -z "$(jobs -p)" ] || { sleep 2; kill $(jobs -p) 2>/dev/null || :; wait; }
}

vms() { ivshmem-vms "$@" 3>&-; }
job() { timeout --foreground -k 10 "$limit" mpiexec "$@"; }

# qmp VM COMMAND [ARGUMENTS]: prints the answer.
qmp() {
    # shellcheck disable=SC2016
    timeout 120 perl -MIO::Socket::UNIX -e '
        my ($path, $command, $arguments) = @ARGV;
        my $qemu = IO::Socket::UNIX->new($path) or die "$path: $!\n";
        for ("\"qmp_capabilities\"", "\"$command\"" . ($arguments ? ", \"arguments\": $arguments" : "")) {
            print $qemu "{\"execute\": $_}\n";
            do { defined($answer = <$qemu>) or die "no answer\n" } until $answer =~ /^\{"(return|error)"/;
        }
        print $answer;
        exit $answer =~ /^\{"error/;' "$set_dir/$1.qmp" "${@:2}"
}

# check_between RUN0 RUN1: both sides, which these commands run something on, find that they can run jobs on the region.
# On a busy machine they may run in turn, which proves nothing: then it tries again.
check_between() {
    # shellcheck disable=SC2086 # commands with arguments
    for _ in {1..10}; do
        $1 ivshmem check --between 0 >side0 2>&1 3>&- &
        $2 ivshmem check --between 1 >side1 2>&1 || :
        wait
        cat side0 side1
        grep -q "in turns" side0 side1 || break
    done
    grep "the two sides can run jobs on this region" side0
    grep "the two sides can run jobs on this region" side1
}

# through_region FILE RANKS: the job with that output was good. Its counters show that each rank sent at least as many
# bytes through the region as the program sent to other machines, and that all arrived.
through_region() {
    awk -v ranks="$2" '
        match($0, /rank=[0-9]+/) { rank = substr($0, RSTART + 5, RLENGTH - 5) }
        /^exchange: rank=.* good$/ { split($3, pair, "="); said[rank] = pair[2]; good++ }
        sub(/^.*ivshmem: rank=/, "ivshmem: rank=") { # the program may have begun a line
            for (i = 2; i <= NF; i++) { split($i, pair, "="); field[pair[1]] = pair[2] }
            sent[rank] = field["eager_sent_bytes"] + field["lmt_sent_bytes"]
            balance += sent[rank] - field["eager_received_bytes"] - field["lmt_received_bytes"]
            if (field["lmt_sent"] > 0 && field["eager_sent"] > 0) both++
            ids[field["id"]] = 1
        }
        END {
            if (good != ranks) { print good + 0, "of", ranks, "ranks were good"; wrong = 1 }
            for (rank = 0; rank < ranks; rank++)
                if (!(said[rank] > 0) || sent[rank] < said[rank]) {
                    print "rank", rank, "sent", said[rank] + 0, "bytes,", sent[rank] + 0, "through the region"
                    wrong = 1
                }
            if (both != ranks) { print both + 0, "of", ranks, "ranks sent small and large messages"; wrong = 1 }
            if (balance != 0) { print balance, "bytes were not received"; wrong = 1 }
            if (length(ids) != 1) { print length(ids), "regions"; wrong = 1 }
            exit wrong
        }' "$1" || { cat "$1"; return 1; }
}

# region_is_empty: nobody is on the region, and all of its memory is free.
region_is_empty() {
    ivshmem check "$region"
    ivshmem info --json "$region" >state
    jq -e '.usage.endpoints == 0 and .usage.free_blocks == .geometry.blocks' state || {
        cat state
        ivshmem ps "$region"
        return 1
    }
}

# Waits for a command to succeed, for three minutes at most: guests may be emulated.
until_true() {
    local deadline=$((SECONDS + 180))
    while ((SECONDS < deadline)); do
        ! "$@" || return 0
        sleep 0.1
    done
    echo "still not after three minutes: $*"
    return 1
}

declare -gA pid_of

# begin NAME HOSTS RANKS [OPTION...]: starts `exchange` in the background, with its output in the file NAME. It runs
# until `end`. Returns when its ranks have heard from each other.
begin() {
    touch "$1.goes-on"
    : >"$1" # an earlier job of that name may have left its output, and the new one's shell may be late to empty it
    limit=600 job -hosts "$2" -n "$3" "${@:4}" "$WORK/exchange" $((${#pid_of[@]} + 5)) >"$1" 2>&1 3>&- \
        < <(while [ -e "$1.goes-on" ]; do sleep 0.1; done 3>&-) &
    pid_of[$1]=$!
    { until_true has_begun "$1" && is_running "$1"; } || { cat "$1"; return 1; }
}

has_begun() { ! is_running "$1" || grep -q "^exchange: .* running" "$1"; }
is_running() { kill -0 "${pid_of[$1]}"; }

# end NAME RANKS: the job has run until now, and was good.
end() {
    is_running "$1" || { cat "$1"; return 1; }
    rm "$1.goes-on"
    wait "${pid_of[$1]}" || { cat "$1"; return 1; }
    through_region "$1" "$2"
}

# ended_with_an_error NAME: the job has ended by itself, with an error, without a crash.
ended_with_an_error() {
    local status=0
    wait "${pid_of[$1]}" || status=$?
    rm -f "$1.goes-on"
    cat "$1"
    [[ $status -ne 0 && $status -ne 124 && $status -ne 137 ]]
    run ! grep -iE 'assertion failed|signal: (6|7|11)|signal (6|7|11)' "$1"
}

# endpoints RANKS: prints the endpoints of the job with that many ranks, as JSON.
endpoints() { ivshmem ps --json "$region" | jq "[.endpoints[] | select(.job_size == $1)]"; }
