# SPDX-License-Identifier: mpich2
# The suites and mpi.bash share variables and functions.
# shellcheck disable=SC2034,SC2119,SC2120
# shellcheck shell=bash disable=SC2154 # bats sets its variables
#
# Sourced by the suites of this folder. All run on one machine, with a region in a file. They check by the netmod's own
# counters that the messages went through the region: a mistake in the environment must not pass as success.

bats_require_minimum_version 1.5.0
PATH=$IVSHM_INST/bin:$PATH
libdir=${IVSHM_LIBDIR:-$IVSHM_INST/lib}
programs=$IVSHM_BUILD/obj/mpi

# Only a test's own settings count.
unset "${!MPIR_CVAR_@}" "${!HYDRA_@}" "${!MPIEXEC_@}" "${!MPICH_@}" total
# Ranks outnumber the cores.
export MPIR_CVAR_POLLS_BEFORE_YIELD=1
export MPIR_CVAR_NEMESIS_IVSHMEM_STATS=1

# new_region SIZE: sets $region. The file is unlinked, so nothing of it outlives the test, however that ends.
new_region() {
    local file
    file=$(mktemp -u /dev/shm/ivshm-test.XXXXXX)
    ivshmem format --size "$1" "$file" >/dev/null
    exec {region_fd}<>"$file"
    rm "$file"
    region=/proc/$$/fd/$region_fd
}

use_region() {
    new_region "$1"
    export MPIR_CVAR_NEMESIS_IVSHMEM_REGION=$region
}

# all_remote, half_remote: which messages go through the netmod.
all_remote() {
    unset MPIR_CVAR_ODD_EVEN_CLIQUES
    export MPIR_CVAR_NOLOCAL=1
}

half_remote() {
    unset MPIR_CVAR_NOLOCAL
    export MPIR_CVAR_ODD_EVEN_CLIQUES=1
}

background=()

# at_end: for teardown. Ends all that was started in the background.
at_end() {
    local pid
    for pid in "${background[@]}"; do
        kill -TERM "$pid" 2>/dev/null || :
        wait "$pid" 2>/dev/null || :
    done
}

# launch NAME ARG...: mpiexec in the background, output in $BATS_TEST_TMPDIR/NAME.{out,err}; its pid is in $pid.
launch() {
    local name=$BATS_TEST_TMPDIR/$1
    shift
    rm -f "$name.out" "$name.err" # what a former job of this name wrote must not be taken for this one's
    # Not 3, the descriptor on which bats would wait for it.
    timeout --foreground -k 5 "${limit:-240}" mpiexec "$@" >"$name.out" 2>"$name.err" </dev/null 3>&- &
    pid=$!
    background+=("$pid")
}

# mpi NAME ARG...: mpiexec, and its status.
mpi() {
    local status=0
    launch "$@"
    wait "$pid" || status=$?
    return "$status"
}

# by_rank NAME PROGRAM ARG...: sets `program` to a command whose ranks write their output to
# $BATS_TEST_TMPDIR/NAME.RANK, as Hydra loses some of it when a rank dies.
by_rank() {
    # shellcheck disable=SC2016
    program=(sh -c 'exec "$@" >"$0.$PMI_RANK" 2>&1' "$BATS_TEST_TMPDIR/$1" "${@:2}")
}

say() {
    local part
    for part in out err; do
        echo "--- $1.$part"
        tail -n 30 "$BATS_TEST_TMPDIR/$1.$part"
    done
}

# until_true COMMAND...: waits until it succeeds, for two minutes at most.
until_true() {
    local tries
    for ((tries = 0; tries < 6000; tries++)); do
        ! "$@" || return 0
        sleep 0.02
    done
    echo "still not after two minutes: $*"
    return 1
}

# since RELEASE: whether MPICH is of that line of releases, or a later one.
since() { mpichversion | awk -v from="$1" '/^MPICH Version:/ { exit !($3 + 0 >= from + 0) }'; }

# good NAME RANKS: the job has found no error itself, and the counters of its RANKS ranks are as it expects, add up, and
# belong to this region.
good() {
    local id own=''
    id=$(ivshmem info --json "$region" | jq -r .id)
    # Since 5.0, MPICH's own messages go by rendezvous, too, while it connects.
    ! since 5.0 || own=lmt_sent_bytes
    grep -qix 'no errors' "$BATS_TEST_TMPDIR/$1.out" || { say "$1"; return 1; }
    awk -v ranks="$2" -v region="$region" -v id="$id" -v own="$own" '
        function wrong(text) { print text; bad = 1 }
        sub(/^.*ivshmem: rank=/, "ivshmem: rank=") { # the program may have begun a line
            n++
            for (i = 2; i <= NF; i++) {
                split($i, kv, "=")
                sum[kv[1]] += kv[2]
                is[kv[1]] = kv[2]
            }
            if (is["region"] != region || is["id"] != id)
                wrong("expected to be on region " region " (" id "): " $0)
        }
        /^expected: / {
            for (i = 2; i <= NF; i++) {
                split($i, kv, "[<>]=")
                if ($i ~ /<=/) { max[kv[1]] += kv[2] } else { min[kv[1]] += kv[2] }
            }
        }
        END {
            sum["bytes"] = sum["eager_sent_bytes"] + sum["lmt_sent_bytes"] + sum["collective_bytes"]
            sum["messages"] = sum["eager_sent"]
            if (n != ranks)
                wrong(n " ranks printed their counters, expected " ranks)
            if (sum["eager_sent"] == 0)
                wrong("no message went through the region")
            for (name in min)
                if (sum[name] < min[name])
                    wrong(sum[name] " " name ", expected " min[name] " or more")
            for (name in max)
                if (name != own && sum[name] > max[name])
                    wrong(sum[name] " " name ", expected " max[name] " or less")
            split("eager_ eager__bytes lmt_ lmt__bytes messages_", kinds, " ")
            for (k in kinds) {
                out = kinds[k]; sub("_", "_sent", out)
                into = kinds[k]; sub("_", "_received", into)
                if (sum[out] != sum[into])
                    wrong(sum[out] " " out ", but " sum[into] " " into)
            }
            exit bad
        }' "$BATS_TEST_TMPDIR/$1.out" "$BATS_TEST_TMPDIR/$1.err" || { say "$1"; return 1; }
}

# counted NAME COUNTER: the sum over all ranks of the job.
counted() { sed -n "s/^.*ivshmem: rank=.* $2=\([0-9]*\).*/\1/p" "$BATS_TEST_TMPDIR/$1.err" | awk '{ n += $1 } END { printf "%.0f\n", n }'; }

# empty [REGION]: it has no endpoints, and all of it is free.
empty() {
    ivshmem info --json "${1:-$region}" | jq -e '.usage.endpoints == 0 and .usage.free_blocks == .geometry.blocks' >/dev/null ||
        { ivshmem info "${1:-$region}"; ivshmem ps "${1:-$region}"; return 1; }
    ivshmem check "${1:-$region}" >/dev/null
}

# reclaimed: the next job on the region reclaims what killed ranks held.
reclaimed() {
    MPIR_CVAR_NEMESIS_IVSHMEM_REGION=$region mpi next -n 1 "$programs/init" || { say next; return 1; }
    empty
}

# passes RANKS PROGRAM ARG...: the job is good. `total` says how many ranks there are in the end, if some are spawned.
passes() {
    mpi job -n "$@" || { echo "status $?: $*"; say job; return 1; }
    good job "${total:-$1}"
    empty
}

# passes_both RANKS PROGRAM ARG...: passes with all ranks remote to each other, and with half of them.
passes_both() {
    all_remote
    passes "$@"
    half_remote
    passes "$@"
}
