# SPDX-License-Identifier: mpich2
# shellcheck shell=bash disable=SC2154 # bats sets its variables, and a suite's setup the array of jobs
#
# Sourced by the suites of the command ivshmem: it is the first one in PATH, built here if it is not built yet.

bats_require_minimum_version 1.5.0

# compile NAME FLAG...: builds the command with these flags, as NAME, from the sources in $sources.
compile() {
    local core=$IVSHM_SRC/src/mpid/ch3/channels/nemesis/netmod/ivshmem/core
    ${CC:-gcc} -std=gnu11 -O2 -I"$core" -I"$IVSHM_SRC/tools" -o "$BATS_FILE_TMPDIR/$1" "${@:2}" \
        "${sources:-$IVSHM_SRC/tools}"/ivshmem*.c "$core"/*.c
}

setup_file() {
    IVSHM_SRC=${IVSHM_SRC:-$(cd "$BATS_TEST_DIRNAME/../.." && pwd)}
    export IVSHM_SRC
    if [ -x "${IVSHM_BUILD:-}/tools/ivshmem" ]; then
        ln -s "$IVSHM_BUILD/tools/ivshmem" "$BATS_FILE_TMPDIR/ivshmem"
    else
        compile ivshmem
    fi
    export PATH=$BATS_FILE_TMPDIR:$PATH
    unset MPIR_CVAR_NEMESIS_IVSHMEM_REGION
}

# end_jobs: for teardown. Ends the processes of the array `jobs`.
end_jobs() {
    for pid in "${jobs[@]}"; do
        kill -KILL "$pid" 2>/dev/null || :
        wait "$pid" 2>/dev/null || :
    done
}

# in_background FILE COMMAND...: its output is in that file, its pid in $pid and in the array `jobs`.
in_background() {
    rm -f "$1" # what an earlier one has said must not be taken for this one's
    # Not 3, the descriptor on which bats would wait for it.
    "${@:2}" </dev/null >"$1" 2>&1 3>&- &
    pid=$!
    jobs+=("$pid")
}

# compile_evil: builds `evil`, a command that says in one respect what no correct one would, which $EVIL names; and
# `checked`, one that notices if it touches memory that is not its own. The suite's make_evil changes the sources.
compile_evil() {
    sources=$BATS_FILE_TMPDIR/evil-sources
    [ ! -x "$BATS_FILE_TMPDIR/checked" ] || return 0
    mkdir -p "$sources"
    cp "$IVSHM_SRC"/tools/ivshmem*.[ch] "$sources"
    cat >"$sources/evil.h" <<'END_OF_HEADER'
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
static inline bool is_evil(const char *how)
{
    return strcmp(getenv("EVIL"), how) == 0;
}
END_OF_HEADER
    make_evil "$sources"
    compile evil -D_GNU_SOURCE= -include "$sources/evil.h"
    unset sources # again those of the repository
    compile checked -fsanitize=address,undefined -fno-sanitize-recover=all
}

# until_true COMMAND...: waits for it to succeed, for two minutes at most.
until_true() {
    local deadline=$((SECONDS + 120))
    while ((SECONDS < deadline)) && [ -z "${BATS_INTERRUPTED:-}" ]; do
        ! "$@" >/dev/null 2>&1 || return 0
        sleep 0.02
    done
    echo "still not: $*"
    return 1
}

# says TEXT: the command that was run last has printed it.
says() { [[ $output == *"$1"* ]] || { echo "expected: $1"; echo "found: $output"; return 1; }; }

# says_usage TEXT COMMAND...: prints one line on stderr, with the text, and ends with status 2.
says_usage() {
    run -2 --separate-stderr ivshmem "${@:2}"
    [ "${#stderr_lines[@]}" -eq 1 ]
    [ -z "$output" ]
    [[ $stderr == "ivshmem: "*"$1"*"; see ivshmem --help" ]] || { echo "$stderr"; return 1; }
}
