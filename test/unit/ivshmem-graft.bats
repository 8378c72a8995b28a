#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# The command ivshmem-graft, on a tree that has of MPICH what it looks at. That MPICH's own has it, a build tells.

# shellcheck disable=SC2016 # make expands these, not the shell.

setup() {
    graft=${IVSHM_SRC:-$BATS_TEST_DIRNAME/../..}/tools/ivshmem-graft
    tree=$BATS_TEST_TMPDIR/mpich
    parent=$tree/src/mpid/ch3/channels/nemesis/netmod
    netmod=$parent/ivshmem
    mkdir -p "$parent/tcp" "$tree/maint"
    touch "$tree/autogen.sh"
    echo 'm4_define([MPICH_VERSION_m4],[4.0.2])dnl' >"$tree/maint/version.m4"
    # A line that only looks like ours must stay.
    printf '%s\n' '## comment' 'include $(top_srcdir)/src/mpid/ch3/channels/nemesis/netmod/ivshmem/MakefileXmk' >"$parent/Makefile.mk"
    # The repair, the file, how often a text is in it, the text, and what becomes of it.
    mapfile -d '' edits < <("$graft" --edits)
    local i n
    for ((i = 0; i < ${#edits[@]}; i += 5)); do
        mkdir -p "$(dirname "$tree/${edits[i + 1]}")"
        for ((n = 0; n < edits[i + 2]; n++)); do
            printf 'before %s\n%s\nafter\n' "$n" "${edits[i + 3]}"
        done >>"$tree/${edits[i + 1]}"
    done
    chmod 600 "$tree/${edits[1]}"
    cp -a "$tree" "$tree.before"
}

files() { # [REPAIR...]: that the edits are of
    local i
    for ((i = 0; i < ${#edits[@]}; i += 5)); do
        (($# > 0)) && [[ " $* " != *" ${edits[i]} "* ]] || echo "${edits[i + 1]}"
    done | sort -u
}

repairs() { # FILE: that have edits in it
    local i
    for ((i = 0; i < ${#edits[@]}; i += 5)); do
        [ "${edits[i + 1]}" != "$1" ] || echo "${edits[i]}"
    done | sort -u
}

# edited FILE [REPAIR...]: what becomes of it, but for those repairs.
edited() {
    local i text
    text=$(cat "$tree.before/$1"; echo .)
    for ((i = 0; i < ${#edits[@]}; i += 5)); do
        [[ ${edits[i + 1]} != "$1" || " ${*:2} " == *" ${edits[i]} "* ]] || text=${text//"${edits[i + 3]}"/"${edits[i + 4]}"}
    done
    printf '%s' "${text%.}"
}

as_before() {
    diff -r -x ivshmem "$tree.before" "$tree"
}

@test "adds the folder, makes the edits, and changes nothing else" {
    run "$graft" "$tree"
    [ "$status" -eq 0 ]
    [[ $output == *"include line added"* && $output == *"./autogen.sh"* ]]
    [ "$(cd "$netmod" && find . -type f | sed 's,^./,,' | LC_ALL=C sort)" = "$("$graft" --list)" ]
    [ "$(files | wc -l)" -gt 20 ]
    for file in $(files); do
        edited "$file" | cmp - "$tree/$file"
    done
    [ "$(diff -rq -x ivshmem "$tree.before" "$tree" | wc -l)" -eq "$(files | wc -l)" ]
    [ "$(stat -c %a "$tree/${edits[1]}")" = 600 ]
    grep -qxF 'include $(top_srcdir)/src/mpid/ch3/channels/nemesis/netmod/ivshmem/Makefile.mk' "$parent/Makefile.mk"
    # What is included of ours is there.
    for file in $(files); do
        while read -r included; do
            [ -e "$(dirname "$tree/$file")/$included" ]
        done < <(sed -n 's/^#include "\(.*ivshmem.*\)"$/\1/p' "$tree/$file")
    done
}

@test "a text that is not there, or too often, is an error, and nothing is changed" {
    for ((i = 0; i < ${#edits[@]}; i += 5)); do
        file=${edits[i + 1]}
        if ((i % 2)); then
            : >"$tree/$file"
        else
            cat "$tree.before/$file" >>"$tree/$file"
        fi
        cp "$tree/$file" "$BATS_TEST_TMPDIR/broken"
        run "$graft" --quiet "$tree"
        [ "$status" -eq 1 ]
        [[ $output == "ivshmem-graft: $file is neither as in MPICH 4.0.2 nor as ivshmem-graft left it"* ]]
        cmp "$BATS_TEST_TMPDIR/broken" "$tree/$file"
        [ ! -e "$netmod" ]
        cp "$tree.before/$file" "$tree/$file"
        as_before
    done
    rm "$tree/${edits[6]}"
    run "$graft" --quiet "$tree"
    [ "$status" -eq 1 ]
    [[ $output == "ivshmem-graft: ${edits[6]} is neither"* ]]
}

@test "--force leaves a repair out that does not fit, all of it, and says so" {
    "$graft" --quiet "$tree"
    cp -a "$tree" "$tree.after"
    "$graft" --quiet --undo "$tree"
    for repair in errors windows collectives revoke leaders; do
        last=$(files "$repair" | tail -n 1)
        echo "something else" >"$tree/$last"
        run "$graft" --quiet --force "$tree"
        [ "$status" -eq 0 ]
        [[ $output == "ivshmem-graft: $last is neither"*"this edit is left out: "* ]]
        mapfile -t out < <(repairs "$last")
        for file in $(files "${out[@]}"); do
            [ "$file" = "$last" ] || edited "$file" "${out[@]}" | cmp - "$tree/$file"
        done
        [ "$(diff -rq "$tree.after" "$tree" | sed "s,.* $tree/\(.*\) differ$,\1," | sort)" = "$(files "${out[@]}")" ]
        run "$graft" --quiet --force "$tree"
        [ "$status" -eq 0 ]
        [[ $output == "ivshmem-graft: $last is neither"* ]]
        "$graft" --quiet --undo "$tree"
        [ "$(cat "$tree/$last")" = "something else" ]
        cp "$tree.before/$last" "$tree/$last"
        as_before
    done
    echo >"$parent/Makefile.mk"
    run "$graft" --quiet --force "$tree"
    [ "$status" -eq 1 ]
}

@test "a tree that somebody else has edited since is left alone" {
    "$graft" --quiet "$tree"
    file=$(files collectives | tail -n 1)
    echo "something else" >"$tree/$file"
    cp -a "$tree" "$tree.half"
    for option in --quiet --undo; do
        run "$graft" $option "$tree"
        [ "$status" -eq 1 ]
        [[ $output == "ivshmem-graft: $file is neither"* ]]
        diff -r "$tree.half" "$tree"
    done
}

# repaired: a run of graft completes what is in $tree.half, and --undo takes it back.
repaired() {
    local option
    for option in --quiet --undo; do
        rm -rf "$tree"
        cp -a "$tree.half" "$tree"
        run "$graft" $option "$tree"
        [ "$status" -eq 0 ] || { echo "$option: $output" && return 1; }
        if [ $option = --undo ]; then diff -r "$tree.before" "$tree"; else diff -r "$tree.after" "$tree"; fi || return 1
    done
}

@test "what an interrupted run has left is completed by the next one, or taken back" {
    cp -a "$tree" "$tree.half"
    "$graft" --quiet "$tree"
    cp -a "$tree" "$tree.after"
    # Half of the files, of each repair.
    for odd in 0 1; do
        i=$odd
        cp -a "$tree.after/." "$tree.half"
        for file in $(files); do
            ((i++ % 2)) || cp "$tree.before/$file" "$tree.half/$file"
        done
        echo half >"$tree.half/$file.graft"
        echo half >"$tree.half/${netmod#"$tree"/}/core/map.c.graft"
        repaired
    done
    # Half of the edits of a file.
    cp -a "$tree.after/." "$tree.half"
    for ((i = 0; i < ${#edits[@]}; i += 10)); do
        [ "${edits[i]}" = ports ] || [ "${edits[i]}" = netmod ] || continue
        text=$(cat "$tree.half/${edits[i + 1]}"; echo .)
        text=${text//"${edits[i + 4]}"/"${edits[i + 3]}"}
        printf '%s' "${text%.}" >"$tree.half/${edits[i + 1]}"
    done
    repaired
}

@test "graft is killed at any step" {
    # perl at any rename, the shell at any file of the folder.
    mkdir "$BATS_TEST_TMPDIR/double"
    cat >"$BATS_TEST_TMPDIR/double/Killed.pm" <<'END'
package Killed;
my $n = 0;
BEGIN { *CORE::GLOBAL::rename = sub { kill 9, $$ if ++$n == $ENV{KILL_AT}; CORE::rename($_[0], $_[1]) } }
1;
END
    cat >"$BATS_TEST_TMPDIR/double/mv" <<END
#!/bin/sh
echo >>"$BATS_TEST_TMPDIR/moved"
[ "\$(wc -l <"$BATS_TEST_TMPDIR/moved")" -ne "\$KILL_AT" ] || kill -KILL \$PPID
exec "$(command -v mv)" "\$@"
END
    chmod +x "$BATS_TEST_TMPDIR/double/mv"
    killed() { # AT OPTION VARIABLE=...
        rm -f "$BATS_TEST_TMPDIR/moved"
        run env KILL_AT="$1" "${@:3}" "$graft" "$2" "$tree"
    }
    cp -a "$tree" "$tree.plain"
    "$graft" --quiet "$tree"
    cp -a "$tree" "$tree.after"
    for option in --quiet --undo; do
        if [ $option = --undo ]; then start=$tree.after; else start=$tree.plain; fi
        for at in 2 23; do
            rm -rf "$tree" "$tree.half"
            cp -a "$start" "$tree"
            killed $at $option PERL5LIB="$BATS_TEST_TMPDIR/double" PERL5OPT=-MKilled
            [ "$status" -eq 1 ]
            [[ $output == *"run it again, or with --undo"* ]]
            [ -z "$(find "$tree" -name '*.graft')" ]
            cp -a "$tree" "$tree.half"
            repaired
        done
        for at in 1 11; do
            rm -rf "$tree" "$tree.half"
            cp -a "$start" "$tree"
            killed $at $option PATH="$BATS_TEST_TMPDIR/double:$PATH"
            [ "$status" -ne 0 ] || [ $option = --undo ] # which moves but once
            cp -a "$tree" "$tree.half"
            repaired
        done
    done
}

@test "a file that cannot be written is told, and the next run goes on" {
    cp -a "$tree" "$tree.half"
    "$graft" --quiet "$tree"
    cp -a "$tree" "$tree.after"
    for kilobytes in 1 20; do
        rm -rf "$tree"
        cp -a "$tree.half" "$tree"
        run bash -c 'ulimit -f "$1" && exec "$2" --quiet "$3"' - "$kilobytes" "$graft" "$tree"
        [ "$status" -eq 1 ]
        [[ $output == *"ivshmem-graft: cannot write $netmod"* ]]
        [ -z "$(find "$tree" -name '*.graft')" ]
        "$graft" --quiet "$tree"
        diff -r "$tree.after" "$tree"
    done
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
    run "$BATS_TEST_TMPDIR/prefix/bin/ivshmem-graft" "$tree"
    [ "$status" -eq 1 ]
    [[ $output == *"is not in $BATS_TEST_TMPDIR/prefix/bin/../share/mpich-ivshmem"* ]]
    cp -r "$(dirname "$graft")/../src/mpid/ch3/channels/nemesis/netmod/ivshmem" \
        "$BATS_TEST_TMPDIR/prefix/share/mpich-ivshmem/netmod"
    ln -s ../prefix/bin/ivshmem-graft "$BATS_TEST_TMPDIR/mpich/link"
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
    for wrong in "" "--frobnicate $tree" "$tree $tree"; do
        # shellcheck disable=SC2086
        run "$graft" $wrong
        [ "$status" -eq 2 ]
        [[ $output == "ivshmem-graft: "*usage* ]]
    done
    as_before
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
        [[ $output == *"is MPICH $version, but the netmod was built and tested with 4.0.2"*"--force"* ]]
        [ ! -e "$netmod" ]
    done
    "$graft" --force "$tree"
    [ -e "$netmod" ]
    "$graft" --undo "$tree"
    [ ! -e "$netmod" ]
    rm "$tree/maint/version.m4"
    run "$graft" "$tree"
    [ "$status" -eq 1 ]
    [[ $output == *"maint/version.m4 does not say"* ]]
}

@test "refuses a folder of that name that is not ours" {
    mkdir "$netmod"
    touch "$netmod/precious.c"
    for option in --quiet --undo; do
        run "$graft" $option "$tree"
        [ "$status" -eq 1 ]
        [[ $output == *"does not hold the ivshmem netmod"* ]]
    done
    [ -e "$netmod/precious.c" ]
}
