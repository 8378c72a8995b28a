#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# The command graft, on a tree that has of MPICH what it looks at.

# shellcheck disable=SC2016 # make expands these, not the shell.

setup() {
    graft=${IVSHM_SRC:-$BATS_TEST_DIRNAME/../..}/tools/graft
    tree=$BATS_TEST_TMPDIR/mpich
    parent=$tree/src/mpid/ch3/channels/nemesis/netmod
    netmod=$parent/ivshmem
    mkdir -p "$parent/tcp" "$tree/maint"
    touch "$tree/autogen.sh"
    echo 'm4_define([MPICH_VERSION_m4],[4.0.2])dnl' >"$tree/maint/version.m4"
    # As in MPICH; a line that only looks like ours must stay.
    printf '%s\n' '## comment' '' 'include $(top_srcdir)/src/mpid/ch3/channels/nemesis/netmod/tcp/Makefile.mk' \
        'include $(top_srcdir)/src/mpid/ch3/channels/nemesis/netmod/ivshmem/MakefileXmk' '' >"$parent/Makefile.mk"
    errors=$tree/src/mpi/errhan/errutil.c
    mkdir -p "${errors%/*}"
    printf '%s\n' 'static void CombineSpecificCodes(int error1_code, int error2_code, int error2_class)' '{' '}' \
        'static void CombineSpecificCodes(int error1_code, int error2_code, int error2_class)' '{' \
        '                ErrorRing[ring_idx].prev_error = error2_code;' '}' >"$errors"
    lines() { # FILE LINE...
        mkdir -p "$tree/src/mpid/ch3/$(dirname "$1")"
        printf '%s\n' "${@:2}" >"$tree/src/mpid/ch3/$1"
    }
    same='    if (orig_vc->node_id == target_vc->node_id) {'
    index='    int local = win_ptr->comm_ptr->intranode_table[target_rank];'
    lines include/mpidpre.h '#define MPIDI_DEV_WIN_DECL ' '    int shm_allocated; '
    lines src/mpid_rma.c '    (*win_ptr)->shm_allocated = FALSE;'
    lines include/mpidrma.h "$same"
    lines src/ch3u_rma_ops.c "$same" "$same" "$same" "$same" "$same" "$same"
    lines src/ch3u_rma_sync.c '    /* Judge if we should switch to scalable FENCE algorithm */' "$same" "$same" "$same" "$same" "$same" \
        "$same" "$same" '    int node_comm_size = comm_ptr->node_comm->local_size;' '    win_ptr->comm_ptr->node_comm->rank;'
    lines src/ch3u_rma_progress.c '    if (orig_vc->node_id != target_vc->node_id) {'
    unit='        disp_unit = win_ptr->basic_info_table[target_rank].disp_unit;'
    lines include/mpid_rma_shm.h "$index" "$unit" "$index" "$unit" "$index" "$unit" "$index" "$unit" '    MPI_Aint len;' \
        "$index" "$unit" '    MPI_Aint len;' "$index" "$unit"
    lines src/mpidi_rma.c '        mpi_errno = wait_progress_engine();' \
        '    mpi_errno = MPIR_Barrier((*win_ptr)->comm_ptr, &errflag);' '    MPIR_ERR_CHECK(mpi_errno);'
    lines channels/nemesis/include/mpidi_ch3_impl.h 'pt_err = pthread_mutex_lock((win_ptr)->shm_mutex);' \
        'pt_err = pthread_mutex_unlock((win_ptr)->shm_mutex);'
    cp -a "$tree" "$tree.before"
}

@test "adds the folder, one line, one mended function, and what shares windows, and nothing else" {
    run "$graft" "$tree"
    [ "$status" -eq 0 ]
    [[ $output == *"include line added"* && $output == *"./autogen.sh"* ]]
    [ "$(diff "$tree.before${parent#"$tree"}/Makefile.mk" "$parent/Makefile.mk")" = \
        $'5a6\n> include $(top_srcdir)/src/mpid/ch3/channels/nemesis/netmod/ivshmem/Makefile.mk' ]
    [ "$(cd "$netmod" && find . -type f | sed 's,^./,,' | LC_ALL=C sort)" = "$("$graft" --list)" ]
    diff "$tree.before${errors#"$tree"}" "$errors" >"$tree.diff" || :
    [ "$(grep -c '^[0-9]' "$tree.diff")" -eq 2 ]
    grep -q '^3a' "$tree.diff"
    grep -xF '>                 if (!is_in_stack(ring_idx, error2_code)) /* mpich-ivshmem */' "$tree.diff"
    include=$tree/src/mpid/ch3/include
    [ -e "$include/$(sed -n 's/^#include "\(.*\)"$/\1/p' "$include/mpidpre.h")" ]
    rm -r "$netmod"
    run diff -rq "$tree.before" "$tree"
    [ "${#lines[@]}" -eq 11 ]
    [ "$(grep -c 'ivshmem->check(' "$tree/src/mpid/ch3/include/mpid_rma_shm.h")" -eq 6 ]
    # Nobody asks for nodes any more, and what defines the macros is included.
    run grep -rE 'orig_vc->node_id|intranode_table|[^>]comm_ptr->node_comm' "$tree/src/mpid/ch3"
    [ "$status" -eq 1 ]
    diff "$tree.before/src/mpid/ch3/src/ch3u_rma_sync.c" "$tree/src/mpid/ch3/src/ch3u_rma_sync.c" >"$tree.diff" || :
    [ "$(grep -c '^>' "$tree.diff")" -eq 9 ]
}

@test "a file that is not as expected is told, and left alone" {
    echo "int other;" >"$errors"
    cp "$errors" "$tree.before${errors#"$tree"}"
    run "$graft" --quiet "$tree"
    [ "$status" -eq 0 ]
    [[ $output == "graft: src/mpi/errhan/errutil.c is not as expected"* ]]
    cmp "$errors" "$tree.before${errors#"$tree"}"
    "$graft" --quiet --undo "$tree"
    rm "$errors"
    run "$graft" --quiet "$tree"
    [ "$status" -eq 0 ]
    [[ $output == "graft: src/mpi/errhan/errutil.c is not as expected"* ]]
}

@test "windows are shared in all places or in none" {
    sed -i 's/FALSE/0/' "$tree/src/mpid/ch3/src/mpid_rma.c"
    cp -a "$tree/src/mpid/ch3" "$tree.ch3"
    run "$graft" --quiet "$tree"
    [ "$status" -eq 0 ]
    [[ $output == "graft: src/mpid/ch3/src/mpid_rma.c is not as expected: windows are not shared"* ]]
    rm -r "$netmod" "$tree.ch3"/channels/nemesis/netmod
    diff -r -x netmod "$tree.ch3" "$tree/src/mpid/ch3"
}

@test "says that there is nothing to change" {
    "$graft" "$tree"
    run "$graft" "$tree"
    [ "$status" -eq 0 ]
    [ "$output" = "nothing to change" ]
}

@test "updates what differs, removes what is gone, leaves alone what make put there" {
    "$graft" "$tree"
    find "$netmod" -type f -exec touch -d 2001-01-01 {} +
    echo >>"$netmod/core/map.c"
    touch "$netmod/core/gone.c" "$netmod/core/map.o"
    run "$graft" "$tree"
    [ "$status" -eq 0 ]
    [ "${#lines[@]}" -eq 3 ]
    [[ $output == *updated*core/map.c* && $output == *removed*core/gone.c* ]]
    [ -e "$netmod/core/map.o" ]
    [ "$(find "$netmod" -name '*.[ch]' -newermt 2002-01-01)" = "$netmod/core/map.c" ]
}

@test "--undo restores the tree" {
    "$graft" "$tree"
    touch "$netmod/core/map.o"
    run "$graft" --undo "$tree"
    [ "$status" -eq 0 ]
    diff -r "$tree.before" "$tree"
    run "$graft" --undo "$tree"
    [ "$output" = "nothing to change" ]
}

@test "finds the netmod where it is installed" {
    mkdir -p "$BATS_TEST_TMPDIR"/prefix/{bin,share/mpich-ivshmem/netmod}
    cp "$graft" "$BATS_TEST_TMPDIR/prefix/bin"
    run "$BATS_TEST_TMPDIR/prefix/bin/graft" "$tree"
    [ "$status" -eq 1 ]
    [[ $output == *"not where it was installed"* ]]
    cp -r "$(dirname "$graft")/../src/mpid/ch3/channels/nemesis/netmod/ivshmem" \
        "$BATS_TEST_TMPDIR/prefix/share/mpich-ivshmem/netmod"
    ln -s ../prefix/bin/graft "$BATS_TEST_TMPDIR/mpich/link"
    "$BATS_TEST_TMPDIR/mpich/link" "$tree"
    run "$graft" "$tree"
    [ "$output" = "nothing to change" ]
}

@test "refuses what is no MPICH tree, and says why" {
    mkdir "$BATS_TEST_TMPDIR/empty"
    run "$graft" "$BATS_TEST_TMPDIR/empty"
    [ "$status" -eq 1 ]
    [[ $output == *"not an MPICH source tree with ch3:nemesis"* ]]
    run "$graft" "$BATS_TEST_TMPDIR/nothing"
    [ "$status" -eq 1 ]
    [[ $output == *"is not a directory"* ]]
    run "$graft"
    [ "$status" -eq 1 ]
    [[ $output == *usage* ]]
    rm "$tree/autogen.sh"
    run "$graft" "$tree"
    [ "$status" -eq 1 ]
    [[ $output == *"no autogen.sh"* ]]
}

@test "refuses a release that was not tried, unless told to go on" {
    [ "$("$graft" --releases)" = 4.0.2 ]
    for version in 4.0 4.0.20 9.9; do
        echo "m4_define([MPICH_VERSION_m4],[$version])dnl" >"$tree/maint/version.m4"
        run "$graft" "$tree"
        [ "$status" -eq 1 ]
        [[ $output == *"is MPICH $version; the netmod was built and tested with 4.0.2"*"--force"* ]]
        [ ! -e "$netmod" ]
    done
    "$graft" --force "$tree"
    [ -e "$netmod" ]
    "$graft" --undo "$tree"
    [ ! -e "$netmod" ]
    rm "$tree/maint/version.m4"
    run "$graft" "$tree"
    [ "$status" -eq 1 ]
    [[ $output == *"maint/version.m4 does not tell"* ]]
}

@test "refuses a folder of that name that is not ours" {
    mkdir "$netmod"
    touch "$netmod/precious.c"
    for option in --quiet --undo; do
        run "$graft" $option "$tree"
        [ "$status" -eq 1 ]
        [[ $output == *"not ours"* ]]
    done
    [ -e "$netmod/precious.c" ]
}
