# SPDX-License-Identifier: mpich2
# shellcheck shell=bash disable=SC2154 # bats sets its variables
#
# Sourced by the suites of this folder: checks a model with spin.

setup() {
    for tool in spin gcc; do
        command -v $tool >/dev/null || skip "$tool is not installed"
    done
    cd "$BATS_TEST_TMPDIR" || return
}

# check PROPERTY MODEL [-Dswitch..]: prints pan's report.
check() {
    local model=$BATS_TEST_DIRNAME/$2.pml how search
    case $1 in
    safety) how='-DSAFETY -DNOCLAIM' search= ;;
    progress) how=-DNP search='-l -f' ;; # no cycle without progress, if all may go on
    ltl) how='' search='-a -f' ;;
    esac
    shift 2
    spin "$@" -a "$model" >spin.log || {
        cat spin.log
        return 1
    }
    # Most searches take less time than compiling them with optimization.
    # shellcheck disable=SC2086
    gcc "${optimised:--O0}" -w $how -DCOLLAPSE -DMEMLIM=2000 -o pan pan.c
    # shellcheck disable=SC2086
    ./pan -m100000 $search >report
    cat report
}

# A run that ended early, because memory or depth was exhausted, is no proof.
proves() {
    check "$@"
    grep -q 'errors: 0' report
    ! grep -qE 'MEMLIM|max search depth too small|out of memory' report
}
holds() { proves safety "$@"; }

breaks() {
    check safety "$@"
    grep -q 'assertion violated' report
}

# hangs PROPERTY MODEL [-Dswitch..]
hangs() {
    check "$@"
    grep -qE '(non-progress|acceptance) cycle \(' report
}
