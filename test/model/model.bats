#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# The models of the inbox, of the ring and of attach against reap, checked by spin: whole, and broken on purpose, to
# see that the check would tell.

setup() {
    for tool in spin gcc; do
        command -v $tool >/dev/null || skip "$tool is not installed"
    done
    cd "$BATS_TEST_TMPDIR" || return
}

# check model [-Dswitch..]: prints pan's report.
check() {
    local model=$BATS_TEST_DIRNAME/$1.pml
    shift
    spin "$@" -a "$model" >spin.log || {
        cat spin.log
        return 1
    }
    gcc -O1 -w -DSAFETY -DMEMLIM=2000 -o pan pan.c
    ./pan -m100000 >report
    cat report
}

# A run that ended early, for want of memory or depth, is no proof.
holds() {
    check "$@"
    grep -q 'errors: 0' report
    ! grep -qE 'MEMLIM|max search depth too small|out of memory' report
}

breaks() {
    check "$@"
    grep -q 'assertion violated' report
}

@test "inbox: 2 producers" { holds inbox -DMESSAGES=3; }
@test "inbox: 2 producers, the head lags" { holds inbox -DMESSAGES=3 -DLAG=2; }
@test "inbox: 2 producers, 4 slots" { holds inbox -DMESSAGES=2 -DSLOTS=4 -DLAG=1; }
@test "inbox: 3 producers" { holds inbox -DPRODUCERS=3 -DMESSAGES=1; }
@test "inbox: 1 producer, a false hint" { holds inbox -DPRODUCERS=1 -DMESSAGES=6 -DLIAR; }
@test "inbox: 2 producers, a false hint" { holds inbox -DMESSAGES=1 -DLIAR; }
@test "inbox without the look at the slot before fails" { breaks inbox -DMESSAGES=1 -DLIAR -DNO_PREDECESSOR; }
@test "inbox without the check for room fails" { breaks inbox -DNO_FULL_CHECK; }
@test "inbox with the head published too early fails" { breaks inbox -DHEAD_EARLY; }
@test "inbox with a store for the compare-and-swap fails" { breaks inbox -DBLIND_STORE; }
@test "inbox with tickets fails" { breaks inbox -DTICKET; }

@test "ring: 2 slots" { holds ring; }
@test "ring: 3 slots" { holds ring -DSLOTS=3 -DMESSAGES=12; }
@test "ring: 4 slots, the head lags" { holds ring -DSLOTS=4 -DLAG=2 -DMESSAGES=12; }
@test "ring with the word before the payload fails" { breaks ring -DWORD_FIRST; }
@test "ring without the check for room fails" { breaks ring -DNO_FULL_CHECK; }
@test "ring with the head published too early fails" { breaks ring -DHEAD_EARLY; }
@test "ring without numbers fails" { breaks ring -DNO_NUMBER; }
@test "ring: 4 slots, 3 buffers" { holds ring -DSLOTS=4 -DLAG=3 -DBUFFERS=3 -DMESSAGES=12; }
@test "ring that was not offered fails" { breaks ring -DNO_OFFER; }
@test "ring without the check for a free buffer fails" { breaks ring -DSLOTS=4 -DNO_BUFFER_CHECK; }

@test "attach: 2 attachers, 2 reapers" { holds attach; }
@test "attach: 2 attachers that come again" { holds attach -DREAPERS=1 -DTURNS=2; }
@test "attach: 2 reapers that come again" { holds attach -DATTACHERS=1 -DTURNS=2; }
@test "attach: 3 attachers" { holds attach -DATTACHERS=3 -DREAPERS=1; }
@test "attach that looks before it announces fails" { breaks attach -DLOOK_FIRST; }
@test "attach against a reaper that does not look fails" { breaks attach -DBLIND_REAP; }
@test "attach where silence counts as death fails" { breaks attach -DSILENCE; }
@test "attach with a reaper of any generation fails" { breaks attach -DANY_GENERATION; }
