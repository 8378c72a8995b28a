#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
# shellcheck disable=SC2154 # bats sets its variables
#
# build-aux/check-release: what it says of an MPICH that it cannot use, and the line that it writes. Instead of make, and
# of MPICH's own tests, a stand-in leaves results.

top=${IVSHM_SRC:-$BATS_TEST_DIRNAME/../..}
netmod=src/mpid/ch3/channels/nemesis/netmod

setup() {
    project=$BATS_TEST_TMPDIR/project mpich=$BATS_TEST_TMPDIR/mpich build=$BATS_TEST_TMPDIR/build
    mkdir -p "$project"/{build-aux,doc,tools,test/mpi,test/fault,"$netmod/ivshmem"} "$build" "$mpich"/{maint,"$netmod"}
    cp "$top"/build-aux/{check-release,common.sh} "$project/build-aux"
    sed 's/^tried=.*/tried="4.0.2 5.0.1"/' "$top/tools/ivshmem-graft" >"$project/tools/ivshmem-graft"
    chmod +x "$project/tools/ivshmem-graft"
    echo 'BUILD_NEMESIS_NETMOD_IVSHMEM' >"$project/$netmod/ivshmem/Makefile.mk"
    touch "$project/test/mpi/one.bats" "$project/test/fault/two.bats"
    cat >"$project/tools/ivshmem-graft.edits" <<'EOF'
group netmod Makefile.mk include line added
# Why.

edit src/mpid/ch3/channels/nemesis/netmod/Makefile.mk
 include tcp
+include ivshmem
EOF
    cat >"$project/doc/releases.md" <<'EOF'
Above.

| release | compiler |
|---|---|
| 4.0.2 | an older line |
| 4.2.3 | a line |

Below.
EOF
    cp "$project/doc/releases.md" "$BATS_TEST_TMPDIR/page"
    cat >"$BATS_TEST_TMPDIR/make" <<'EOF'
#!/bin/bash
for word; do [[ $word != logs=* ]] || logs=${word#logs=}; done
echo "$*" >>"$logs.called"
mkdir -p "$logs/test"
case " $* " in
    *" stage "*) echo "${WARNING-}" >"$logs/mpich-make.log" ;;
    *) cat >"$logs/test/mpi-one.log"; echo "${SUMMARY-}" >"$logs/test/summary" ;;
esac
EOF
    chmod +x "$BATS_TEST_TMPDIR/make"
    export MAKE=$BATS_TEST_TMPDIR/make SUITE='' CC=gcc
    touch "$mpich/autogen.sh"
    echo "include tcp" >"$mpich/$netmod/Makefile.mk"
    release 5.0.1
}

release() { echo "m4_define([MPICH_VERSION_m4],[$1])dnl" >"$mpich/maint/version.m4"; }

# refuses PATTERN [MPICH]: one line, which says this; nothing is built, and MPICH and the page stay as they were.
refuses() {
    rm -rf "$mpich.before"
    cp -a "$mpich" "$mpich.before"
    run "$project/build-aux/check-release" "${2-$mpich}" "$build"
    [ "$status" -eq 1 ]
    [ "${#lines[@]}" -eq 1 ] || { echo "$output" && false; }
    # shellcheck disable=SC2053
    [[ $output == $1 ]] || { echo "$output" && false; }
    [ -z "$(ls -A "$build")" ]
    diff -r "$mpich.before" "$mpich"
    diff "$BATS_TEST_TMPDIR/page" "$project/doc/releases.md"
}

@test "refuses what is no MPICH" {
    refuses "*which MPICH? make check-release MPICH=*" ""
    refuses "*/nothing does not exist" "$BATS_TEST_TMPDIR/nothing"
    refuses "*/page is neither a folder nor an archive that tar can unpack: *" "$BATS_TEST_TMPDIR/page"
    refuses "*is not an MPICH source tree with ch3:nemesis*" "$project/doc"
    tar -C "$project" -cf "$BATS_TEST_TMPDIR/other.tar" doc
    refuses "*/other.tar is not an MPICH source tree with ch3:nemesis*" "$BATS_TEST_TMPDIR/other.tar"
}

@test "refuses an MPICH that is not ready" {
    touch "$mpich/config.status"
    refuses "*/mpich was configured in place: run 'make distclean' there*"
    rm "$mpich/config.status"
    mkdir -p "$mpich/modules/hwloc"
    refuses "*/modules/hwloc is empty*git submodule update --init*"
    # An archive of MPICH's repository, in which they are missing.
    tar -C "$BATS_TEST_TMPDIR" -czf "$BATS_TEST_TMPDIR/v5.0.1.tar.gz" mpich
    refuses "*/v5.0.1.tar.gz/modules/hwloc is empty*" "$BATS_TEST_TMPDIR/v5.0.1.tar.gz"
    rmdir "$mpich/modules/hwloc"
    rm "$mpich/autogen.sh"
    refuses "*has no autogen.sh*"
}

@test "refuses a release in between" {
    for release in 4.2.1 4.3.0 5.0.0 5.1.0a1; do
        release "$release"
        refuses "*is MPICH $release, but the netmod was built and tested with 4.0.2 *"
    done
}

@test "refuses a tree that was edited, or grafted by another version" {
    echo "include ftp" >"$mpich/$netmod/Makefile.mk"
    refuses "*Makefile.mk is neither as in MPICH 5.0.1 nor*Nothing was changed; use a fresh tree"
    echo "include tcp" >"$mpich/$netmod/Makefile.mk"
    "$project/tools/ivshmem-graft" --quiet "$mpich"
    sed -i "s/^+include ivshmem/+include our ivshmem/" "$project/tools/ivshmem-graft.edits"
    refuses "*/mpich was grafted by another version of ivshmem-graft: run --undo of that version, or use a fresh tree"
}

@test "writes the release's line, with what failed and why tests were skipped" {
    sed -i 's/^tried=.*/tried="4.0.2"/' "$project/tools/ivshmem-graft"
    refuses "*is MPICH 5.0.1, but the netmod was built and tested with 4.0.2: *"
    export UNTRIED=yes SUMMARY="120 passed, 1 failed, 3 skipped" MPICH_OPTIONS="--disable-cxx"
    export WARNING="src/mpid/ch3/channels/nemesis/netmod/ivshmem/ivshmem_card.c:1:2: warning: unused"
    run "$project/build-aux/check-release" "$mpich" "$build" <<'EOF'
1..5
ok 1 good
not ok 2 a | b
ok 3 one # skip too old
ok 4 two # skip too old
ok 5 three # skip no C++
EOF
    [ "$status" -eq 1 ]
    grep -q "MPICH_SOURCE=$mpich .*MPICH_OPTIONS=--disable-cxx MPICH_GRAFT_OPTIONS=--force stage mpi-programs" "$build/obj/releases/5.0.1/logs.called"
    grep -q "check-mpi mpi_suites=.*/test/mpi/one.bats .*/test/fault/two.bats" "$build/obj/releases/5.0.1/logs.called"
    line=$(grep '^| 5.0.1 | gcc [0-9.]* | 20..-..-.. | 120 | 1 | 3 |' "$project/doc/releases.md")
    [[ $line == *"| built with --disable-cxx; the netmod compiles with 1 warnings; failed: a \\| b; "* ]]
    [[ $line == *"; skipped: no C++; 2 skipped: too old; MPICH's own tests were not run |" ]]
    grep -v '^| 5.0.1' "$project/doc/releases.md" | diff "$BATS_TEST_TMPDIR/page" -

    # Again: the line is replaced, the others stay, in order.
    release 4.0.2
    export SUMMARY="130 passed, 0 failed, 0 skipped" WARNING='' MPICH_OPTIONS=''
    "$project/build-aux/check-release" "$mpich" "$build" <<<"1..0"
    [ "$(grep -o '^| [0-9][0-9.]*' "$project/doc/releases.md" | paste -sd ' ')" = "| 4.0.2 | 4.2.3 | 5.0.1" ]
    grep -q "^| 4.0.2 | gcc .* | 130 | 0 | 0 | MPICH's own tests were not run |" "$project/doc/releases.md"
    [ "$(head -n 1 "$project/doc/releases.md")" = Above. ] && [ "$(tail -n 1 "$project/doc/releases.md")" = Below. ]
}

# A stand-in for MPICH's own tests. One fails in all modes, and one over the region alone, if WORSE says so.
suite() {
    cat >"$project/test/mpi/mpich-suite" <<'EOF'
#!/bin/bash
results=$IVSHM_BUILD/logs/mpich-suite
mkdir -p "$results"
: >"$results/summary"
for mode; do
    [[ $mode != -* ]] || continue
    worse=0 todo=' # TODO fails with stock tcp too'
    [ "$mode" != tcp ] || worse=1 todo=''
    echo "not ok - $mode: coll/old 4$todo" >"$results/$mode.tap"
    [[ ! ${WORSE-} || $mode != half ]] || echo "not ok - half: $WORSE" >>"$results/half.tap"
    echo "# $mode: 9 passed, 1 failed ($worse of these pass with stock tcp), 0 skipped; counters" >>"$results/summary"
done
EOF
    chmod +x "$project/test/mpi/mpich-suite"
}

@test "names MPICH's tests that fail over the region alone, which is a failure" {
    suite
    export SUITE=--quick SUMMARY="120 passed, 0 failed, 0 skipped"
    "$project/build-aux/check-release" "$mpich" "$build" <<<"1..0"
    of_all="MPICH's tests, all: 9 passed, 1 failed (0 of these pass with stock tcp), 0 skipped"
    line="| MPICH's tests, tcp: 9 passed, 1 failed, 0 skipped; $of_all; ${of_all/all/half}; ${of_all/all/malloc} |"
    grep -F "| 120 | 0 | 0 $line" "$project/doc/releases.md"
    export WORSE="rma/new 2"
    run "$project/build-aux/check-release" "$mpich" "$build" <<<"1..0"
    [ "$status" -eq 1 ]
    grep -F "${line% |}; failed: half: rma/new 2 |" "$project/doc/releases.md"
}

@test "MPICH's tests in a language that it was built without are left out, even if another MPI has it" {
    local fakes=$BATS_TEST_TMPDIR/fakes tests=$BATS_TEST_TMPDIR/cache/tree-1/mpich/test/mpi
    mkdir -p "$build/inst/bin" "$build/logs" "$fakes" "$tests"/errors/{cxx,f77}/io
    touch "$fakes"/mpi{cxx,fort}
    chmod +x "$fakes"/*
    echo "uerrhandf errgetfilex:" | tee "$tests"/errors/{cxx,f77}/io/Makefile >/dev/null
    printf '#!/bin/sh\necho "$*" >configured\ntouch Makefile\n' >"$tests/configure"
    chmod +x "$tests/configure"
    echo "${tests%/test/mpi}" >"$build/logs/mpich-tree"
    run env PATH="$fakes:$PATH" IVSHM_BUILD="$build" IVSHM_INST="$build/inst" "$top/test/mpi/mpich-suite" --only ^errors/
    echo "$output"
    [ "$status" -eq 77 ]
    [ "$output" = "1..0 # skip no test matches ^errors/" ]
    grep -e "--disable-cxx --disable-fortran" "$BATS_TEST_TMPDIR"/cache/mpich-tests-*/configured
}
