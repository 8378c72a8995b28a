#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# The command ivshmem-graft, on a tree with only those parts of MPICH that it checks. A real build tests MPICH's tree.

# shellcheck disable=SC2016 # make expands these, not the shell.

top=${IVSHM_SRC:-$BATS_TEST_DIRNAME/../..}
netmod_dir=src/mpid/ch3/channels/nemesis/netmod
# An installed graft. It has only some files of the netmod, as each file costs time in each run.
graft=$BATS_FILE_TMPDIR/prefix/bin/ivshmem-graft

# The installed graft, and the trees before and after it, are made once: each test works on copies.
setup_file() {
    local tree=$BATS_FILE_TMPDIR/before share=$BATS_FILE_TMPDIR/prefix/share/mpich-ivshmem edits i n
    mkdir -p "${graft%/*}" "$share/netmod/ivshmem/core"
    cp "$top/tools/ivshmem-graft" "${graft%/*}"
    cp "$top/tools/ivshmem-graft.edits" "$share"
    cp "$top/$netmod_dir"/ivshmem/*.{mk,m4,txt} "$share/netmod/ivshmem"
    cp "$top/$netmod_dir"/ivshmem/core/*.c "$share/netmod/ivshmem/core"
    mkdir -p "$tree/$netmod_dir/tcp" "$tree/maint"
    touch "$tree/autogen.sh"
    echo 'm4_define([MPICH_VERSION_m4],[4.0.2])dnl' >"$tree/maint/version.m4"
    # A line that only resembles ours must stay.
    printf '%s\n' '## comment' "include \$(top_srcdir)/$netmod_dir/ivshmem/MakefileXmk" >"$tree/$netmod_dir/Makefile.mk"
    # For each edit: the group, the file, how often the text occurs in it, the text, and its replacement.
    "$graft" --edits 4.0.2 >"$BATS_FILE_TMPDIR/edits"
    mapfile -d '' edits <"$BATS_FILE_TMPDIR/edits"
    for ((i = 0; i < ${#edits[@]}; i += 5)); do
        [ -d "$tree/${edits[i + 1]%/*}" ] || mkdir -p "$tree/${edits[i + 1]%/*}"
        for ((n = 0; n < edits[i + 2]; n++)); do
            printf 'before %s\n%s\nafter\n' "$n" "${edits[i + 3]}"
        done >>"$tree/${edits[i + 1]}"
    done
    chmod 600 "$tree/${edits[1]}"
    cp -a "$tree" "$BATS_FILE_TMPDIR/after"
    "$graft" --quiet "$BATS_FILE_TMPDIR/after"
}

setup() {
    before=$BATS_FILE_TMPDIR/before after=$BATS_FILE_TMPDIR/after
    tree=$BATS_TEST_TMPDIR/mpich
    parent=$tree/$netmod_dir
    netmod=$parent/ivshmem
    mapfile -d '' edits <"$BATS_FILE_TMPDIR/edits"
    cp -a "$before" "$tree"
}

# start_from TREE: makes $tree a copy of it.
start_from() {
    rm -rf "$tree"
    cp -a "$1" "$tree"
}

files() { # [GROUP...]: the files of these groups' edits
    local i
    for ((i = 0; i < ${#edits[@]}; i += 5)); do
        (($# > 0)) && [[ " $* " != *" ${edits[i]} "* ]] || echo "${edits[i + 1]}"
    done | sort -u
}

groups_of() { # FILE: the groups that edit it
    local i
    for ((i = 0; i < ${#edits[@]}; i += 5)); do
        [ "${edits[i + 1]}" != "$1" ] || echo "${edits[i]}"
    done | sort -u
}

# expect [GROUP...]: makes $expected the tree before, with all edits but those of these groups; without graft's own
# code.
expect() {
    expected=$BATS_TEST_TMPDIR/expected
    rm -rf "$expected"
    cp -a "$before" "$expected"
    python3 - "$BATS_FILE_TMPDIR/edits" "$expected" "$@" <<'END'
import sys

fields = open(sys.argv[1]).read().split("\0")[:-1]
for group, file, _, text, new in zip(*[iter(fields)] * 5):
    if group not in sys.argv[3:]:
        with open(f"{sys.argv[2]}/{file}", "r+") as f:
            changed = f.read().replace(text, new)
            f.seek(0)
            f.truncate()
            f.write(changed)
END
}

as_before() {
    diff -r -x ivshmem "$before" "$tree"
}

@test "each group of edits has a subject and a reason, and no edit depends on another, in each release" {
    for release in 4.0 4.1 4.2 4.3 5.0 5.1; do
        "$graft" --edits "$release" >"$BATS_TEST_TMPDIR/edits"
        python3 - "$BATS_TEST_TMPDIR/edits" "$top/tools/ivshmem-graft.edits" "$release" <<'END'
import re
import sys

fields = open(sys.argv[1]).read().split("\0")[:-1]
edits = list(zip(*[iter(fields)] * 5))
assert len(edits) > 150
for i, (group, file, count, text, new) in enumerate(edits):
    assert text != new and text not in ("", "\n"), (group, text)
    assert not re.search(r"@\w+@|mpich-ivshmem|graft", text + new), (group, text, new)
    # An edited text must not look unedited, nor an unedited text edited.
    assert new not in text, (group, text)
    for j, (other, same, _, before, after) in enumerate(edits):
        if i != j and file == same:
            assert text not in before and text not in after, (group, other, text)
            assert new not in before and new not in after, (group, other, new)
lines = open(sys.argv[2]).read().splitlines()
groups = [i for i, line in enumerate(lines) if line.startswith("group ")]
names = [lines[i].split()[1] for i in groups]
made = list(dict.fromkeys(edit[0] for edit in edits))  # a release may not need all
assert made == [name for name in names if name in made]
if sys.argv[3] == "4.0 4.1 4.2 4.3 5.0 5.1":
    assert set(made) == set(names)
for i in groups:
    assert len(lines[i].split()) > 4 and lines[i + 2].startswith("# "), lines[i]
    assert re.fullmatch(r"subject (?=.{1,72}$)[a-z0-9/]+: [a-z].*[^.]", lines[i + 1]), lines[i + 1]
END
    done
}

# with_table: the table is what is on standard input, and the tree has one file, with the lines A to E.
with_table() {
    cp -r "$BATS_FILE_TMPDIR/prefix" "$BATS_TEST_TMPDIR"
    graft=$BATS_TEST_TMPDIR/prefix/bin/ivshmem-graft
    sed -i 's/^tried=.*/tried="4.0.2 4.0.3 4.1.3 4.3.2 5.0.1"/' "$graft"
    cat >"$BATS_TEST_TMPDIR/prefix/share/mpich-ivshmem/ivshmem-graft.edits"
    printf '%s\n' A B C D E >"$tree/file"
}

release() {
    echo "m4_define([MPICH_VERSION_m4],[$1])dnl" >"$tree/maint/version.m4"
}

@test "makes the edits of the tree's release, in the words of that release" {
    with_table <<'END'
word @LETTER@ -4.0 A
word @LETTER@ 4.1-4.3 B
word @LETTER@ 5.0- C & D
word @nothing@ 4.1-
word @nothing@ -4.0 !

group one file letters
# Why.

edit file 4.0
-@LETTER@
+in @LETTER@@nothing@

edit file 1 4.1-4.3
-@LETTER@
+between @LETTER@@nothing@

edit file 5.0-
-C
+@LETTER@@nothing@

edit file
-E
+all

group two file what no later release needs
# Why.

edit file -4.1
-D
+old
END
    while read -r release expected; do
        printf '%s\n' A B C D E >"$tree/file"
        release "$release"
        run "$graft" "$tree"
        [ "$status" -eq 0 ] || { echo "$release: $output" && false; }
        [ "$(paste -sd , "$tree/file")" = "$expected" ]
        if [[ $expected == *old* ]]; then [[ $output == *"what no later"* ]]; else [[ $output != *"what no later"* ]]; fi
        run "$graft" "$tree"
        [ "$output" = "nothing to change" ]
        "$graft" --quiet --undo "$tree"
        [ "$(paste -sd , "$tree/file")" = A,B,C,D,E ]
    done <<'END'
4.0.2 in A!,B,C,old,all
4.0.3 in A!,B,C,old,all
4.1.3 A,between B,C,old,all
4.3.2 A,between B,C,D,all
5.0.1 A,B,C & D,D,all
END
    # An edit of the release that does not fit is an error. One of another release is not.
    release 4.1.3
    printf '%s\n' A C D E >"$tree/file"
    run "$graft" "$tree"
    [ "$status" -eq 1 ]
    [[ $output == "ivshmem-graft: file is neither as in MPICH 4.1.3 nor"*letters* ]]
    printf '%s\n' B D E >"$tree/file"
    "$graft" --quiet "$tree"
    # A release that is not known has the edits of the newest one below it.
    "$graft" --quiet --undo "$tree"
    printf '%s\n' A B C D E >"$tree/file"
    release 6.2b1
    "$graft" --force --quiet "$tree"
    [ "$(paste -sd , "$tree/file")" = "A,B,C & D,D,all" ]
}

@test "a mistake in the table is told with its line" {
    while IFS='|' read -r line message; do
        rm -rf "$BATS_TEST_TMPDIR/prefix"
        with_table < <(printf 'group one file letters\n\n%s\n' "$line")
        run "$graft" "$tree"
        [ "$status" -eq 1 ]
        [[ $output == *"ivshmem-graft.edits:3: $message"* ]]
    done <<'END'
edit file 4.x|4.x is neither a number nor a range of releases
word LETTER 4.0 a|expected word @NAME@ RELEASES TEXT
word @LETTER@ often a|expected word @NAME@ RELEASES TEXT
-text|a text without an edit
delete file|neither word, group, subject nor edit
subject hydra: stay|a subject without a group
END
    run "$graft" --edits five
    [ "$status" -eq 2 ]
    [[ $output == *"five is not a release"* ]]
}

@test "adds the netmod's folder, makes the edits, and changes nothing else" {
    graft=$top/tools/ivshmem-graft
    run "$graft" "$tree"
    [ "$status" -eq 0 ]
    [[ $output == *"include line added"* && $output == *"./autogen.sh"* ]]
    [ "$(cd "$netmod" && find . -type f ! -name .edits | sed 's,^./,,' | LC_ALL=C sort)" = "$("$graft" --list)" ]
    [ "$(files | wc -l)" -gt 20 ]
    expect
    diff -r -x ivshmem "$expected" "$tree"
    [ "$(diff -rq -x ivshmem "$before" "$tree" | wc -l)" -eq "$(files | wc -l)" ]
    [ "$(stat -c %a "$tree/${edits[1]}")" = 600 ]
    grep -qxF 'include $(top_srcdir)/src/mpid/ch3/channels/nemesis/netmod/ivshmem/Makefile.mk' "$parent/Makefile.mk"
    # Files of ours that are included exist.
    local included found=
    for file in $(files); do
        while read -r included; do
            found=1
            [ -e "$(dirname "$tree/$file")/$included" ]
        done < <(sed -n 's/^#include "\(.*ivshmem.*\)"$/\1/p' "$tree/$file")
    done
    [ "$found" ]
}

@test "a text that is missing, or found too often, is an error, and nothing is changed" {
    local twice=
    for file in $(files); do
        # One kind of damage for each file, as the same code checks them all.
        if [ "$twice" ]; then
            cat "$before/$file" >>"$tree/$file"
            twice=
        else
            : >"$tree/$file"
            twice=1
        fi
        cp "$tree/$file" "$BATS_TEST_TMPDIR/broken"
        run "$graft" --quiet "$tree"
        [ "$status" -eq 1 ]
        [[ $output == "ivshmem-graft: $file is neither as in MPICH 4.0.2 nor as ivshmem-graft left it"* ]]
        cmp "$BATS_TEST_TMPDIR/broken" "$tree/$file"
        [ ! -e "$netmod" ]
        cp "$before/$file" "$tree/$file"
    done
    as_before
    rm "$tree/${edits[6]}"
    run "$graft" --quiet "$tree"
    [ "$status" -eq 1 ]
    [[ $output == "ivshmem-graft: ${edits[6]} is neither"* ]]
}

@test "--force skips a whole group that does not fit, and reports that" {
    for group in errors windows collectives revoke leaders; do
        last=$(files "$group" | tail -n 1)
        echo "something else" >"$tree/$last"
        run "$graft" --quiet --force "$tree"
        [ "$status" -eq 0 ]
        [[ $output == "ivshmem-graft: $last is neither"*"this edit is left out: "* ]]
        mapfile -t out < <(groups_of "$last")
        expect "${out[@]}"
        cp "$tree/$last" "$expected/$last"
        diff -r -x ivshmem "$expected" "$tree"
        diff -r "$after/$netmod_dir/ivshmem" "$netmod"
        run "$graft" --quiet --force "$tree"
        [ "$status" -eq 0 ]
        [[ $output == "ivshmem-graft: $last is neither"* ]]
        "$graft" --quiet --undo "$tree"
        [ "$(cat "$tree/$last")" = "something else" ]
        cp "$before/$last" "$tree/$last"
        as_before
    done
    echo >"$parent/Makefile.mk"
    run "$graft" --quiet --force "$tree"
    [ "$status" -eq 1 ]
}

@test "a tree that somebody else has edited afterwards is left alone" {
    start_from "$after"
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

# repaired: graft completes the tree in $tree.half, and --undo undoes it.
repaired() {
    local option
    for option in --quiet --undo; do
        start_from "$tree.half"
        run "$graft" $option "$tree"
        [ "$status" -eq 0 ] || { echo "$option: $output" && return 1; }
        if [ $option = --undo ]; then diff -r "$before" "$tree"; else diff -r "$after" "$tree"; fi || return 1
    done
}

@test "the next run completes an interrupted one, or undoes it" {
    # Half of the files, of each group.
    for odd in 0 1; do
        i=$odd
        rm -rf "$tree.half"
        cp -a "$after" "$tree.half"
        for file in $(files); do
            ((i++ % 2)) || cp "$before/$file" "$tree.half/$file"
        done
        echo half >"$tree.half/$file.graft"
        echo half >"$tree.half/${netmod#"$tree"/}/core/map.c.graft"
        repaired
    done
    # Half of the edits of a file.
    rm -rf "$tree.half"
    cp -a "$after" "$tree.half"
    for ((i = 0; i < ${#edits[@]}; i += 10)); do
        [ "${edits[i]}" = hooks ] || [ "${edits[i]}" = netmod ] || continue
        text=$(cat "$tree.half/${edits[i + 1]}"; echo .)
        text=${text//"${edits[i + 4]}"/"${edits[i + 3]}"}
        printf '%s' "${text%.}" >"$tree.half/${edits[i + 1]}"
    done
    repaired
}

@test "graft can be killed at any step, and the next run completes its work" {
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
    for option in --quiet --undo; do
        if [ $option = --undo ]; then start=$after; else start=$before; fi
        for at in 2 23; do
            start_from "$start"
            killed $at $option PERL5LIB="$BATS_TEST_TMPDIR/double" PERL5OPT=-MKilled
            [ "$status" -eq 1 ]
            [[ $output == *"run it again, or with --undo"* ]]
            [ -z "$(find "$tree" -name '*.graft')" ]
            rm -rf "$tree.half"
            mv "$tree" "$tree.half"
            repaired
        done
        for at in 1 11; do
            start_from "$start"
            killed $at $option PATH="$BATS_TEST_TMPDIR/double:$PATH"
            [ "$status" -ne 0 ] || [ $option = --undo ] # which makes only one rename
            rm -rf "$tree.half"
            mv "$tree" "$tree.half"
            repaired
        done
    done
}

@test "a file that cannot be written is an error, and the next run completes the work" {
    for kilobytes in 1 20; do
        start_from "$before"
        run bash -c 'ulimit -f "$1" && exec "$2" --quiet "$3"' - "$kilobytes" "$graft" "$tree"
        [ "$status" -eq 1 ]
        [[ $output == *"ivshmem-graft: cannot write $netmod"* ]]
        [ -z "$(find "$tree" -name '*.graft')" ]
        "$graft" --quiet "$tree"
        diff -r "$after" "$tree"
    done
}

@test "reports that there is nothing to change" {
    start_from "$after"
    run "$graft" "$tree"
    [ "$status" -eq 0 ]
    [ "$output" = "nothing to change" ]
}

@test "updates files that differ, removes those that are gone, and leaves make's files alone" {
    start_from "$after"
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
    start_from "$after"
    touch "$netmod/core/map.o"
    run "$graft" --undo "$tree"
    [ "$status" -eq 0 ]
    diff -r "$before" "$tree"
    run "$graft" --undo "$tree"
    [ "$output" = "nothing to change" ]
}

@test "finds the netmod and the table of edits where they are installed" {
    local prefix=$BATS_TEST_TMPDIR/prefix part
    ln -s ../prefix/bin/ivshmem-graft "$tree/link"
    for part in netmod ivshmem-graft.edits; do
        cp -r "$BATS_FILE_TMPDIR/prefix" "$prefix"
        "$tree/link" --quiet "$tree"
        run "$prefix/bin/ivshmem-graft" "$tree"
        [ "$output" = "nothing to change" ]
        rm -r "$prefix/share/mpich-ivshmem/$part"
        run "$prefix/bin/ivshmem-graft" "$tree"
        [ "$status" -eq 1 ]
        [[ $output == *"/../share/mpich-ivshmem"*"install it again"* ]]
        rm -r "$prefix"
    done
}

@test "refuses a folder that is not an MPICH tree, and says why" {
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

@test "refuses an untested release, unless told to continue" {
    [[ $("$graft" --releases) == "4.0.2"* ]]
    for version in 4.0 4.0.20 9.9; do
        release "$version"
        run "$graft" "$tree"
        [ "$status" -eq 1 ]
        [[ $output == *"is MPICH $version, but the netmod was built and tested with 4.0.2"*"--force"* ]]
        [ ! -e "$netmod" ]
    done
    # What differs is left out.
    "$graft" --force "$tree"
    [ -e "$netmod" ]
    "$graft" --undo "$tree"
    [ ! -e "$netmod" ]
    rm "$tree/maint/version.m4"
    run "$graft" "$tree"
    [ "$status" -eq 1 ]
    [[ $output == *"maint/version.m4 does not say"* ]]
}

@test "refuses a tree that another version has grafted, whose edits it does not know" {
    start_from "$after"
    for record in "echo other >" "rm "; do
        eval "$record$netmod/.edits"
        cp -a "$tree" "$tree.before"
        for option in --quiet --undo --check; do
            run "$graft" $option "$tree"
            [ "$status" -eq 1 ]
            [ "$output" = "ivshmem-graft: $tree was grafted by another version of ivshmem-graft: run --undo of that version, or use a fresh tree" ]
            diff -r "$tree.before" "$tree"
        done
        rm -rf "$tree.before"
    done
}

@test "--check says which release it is, or what is wrong, and changes nothing" {
    run "$graft" --check "$tree"
    [ "$status" -eq 0 ]
    [ "$output" = 4.0.2 ]
    as_before
    [ ! -e "$netmod" ]
    echo >"$tree/${edits[1]}"
    run "$graft" --check "$tree"
    [ "$status" -eq 1 ]
    [[ $output == *"is neither as in MPICH 4.0.2 nor as ivshmem-graft left it"* ]]
}

@test "refuses a clone without its submodules" {
    mkdir -p "$tree/modules/hwloc" "$tree/modules/yaksa"
    run "$graft" "$tree"
    [ "$status" -eq 1 ]
    [[ $output == "ivshmem-graft: $tree/modules/hwloc is empty"*"git submodule update --init"* ]]
    [ ! -e "$netmod" ]
    # They are in an archive, packed.
    touch "$tree/modules.tar.gz"
    "$graft" --quiet "$tree"
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

# apply_series TREE: makes $tree a clone of it to which the patches of $series were applied, in $tree/.git.
apply_series() {
    start_from "$1"
    git -C "$tree" init -q
    git -C "$tree" add -A -f .
    git -C "$tree" commit -q -m base
    git -C "$tree" am -q --whitespace=error-all "$series"/*.patch
}

# What a user may have set, and a name.
git_is_set_up() {
    export GIT_CONFIG_GLOBAL=$BATS_TEST_TMPDIR/gitconfig GIT_CONFIG_NOSYSTEM=1
    git config --global user.name 'A. Contributor'
    git config --global user.email a@example.org
    series=$BATS_TEST_TMPDIR/series
}

@test "--series writes patches that git am turns into what graft makes of the tree" {
    git_is_set_up
    run "$graft" --series "$series" "$tree"
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = "$(printf '%s\n' "$series"/0001-*.patch)" ]
    [[ ${lines[-1]} == "next, in a clone of MPICH 4.0.2:  git am $series/*.patch" ]]
    diff -r "$before" "$tree"
    apply_series "$before"
    diff -r -x .git -x .edits "$after" "$tree"
    [ ! -e "$netmod/.edits" ]
    # Of each patch the files, and the subject; those that need no netmod come first.
    python3 - "$BATS_FILE_TMPDIR/edits" "$tree" "$top/tools/ivshmem-graft.edits" <<'END'
import re
import subprocess
import sys

fields = open(sys.argv[1]).read().split("\0")[:-1]
edits = list(zip(*[iter(fields)] * 5))
names = list(dict.fromkeys(edit[0] for edit in edits))
uses = {name: any("ivshmem" in edit[4] for edit in edits if edit[0] == name) for name in names}
subjects = dict(re.findall(r"^group (\S+) .*\nsubject (.*)$", open(sys.argv[3]).read(), re.M))
git = ["git", "-C", sys.argv[2]]
log = subprocess.run(git + ["log", "--reverse", "--format=%H%x00%an <%ae>%x00%s%x00%b%x01"], check=True, text=True,
                     capture_output=True).stdout.split("\1\n")[1:-1]
assert len(log) == len(names) > 30
for commit, name in zip(log, sorted(names, key=lambda name: uses[name])):
    id, author, subject, body = commit.split("\0")
    assert subject == subjects[name] and len(subject) <= 72, (name, subject)
    assert author == "A. Contributor <a@example.org>"
    assert body.strip() and all(len(line) <= 72 for line in body.splitlines()), (name, body)
    files = set(subprocess.run(git + ["diff-tree", "--no-commit-id", "--name-only", "-r", id], check=True, text=True,
                               capture_output=True).stdout.split())
    ours = {file for file in files if "netmod/ivshmem/" in file}
    assert files - ours == {edit[1] for edit in edits if edit[0] == name} and bool(ours) == (name == "netmod"), (name, files)
    if not uses[name]:
        whole = subprocess.run(git + ["show", "-U0", id], check=True, text=True, capture_output=True).stdout
        added = [line for line in whole.splitlines() if not line.startswith("-") and not line.startswith("@")]
        assert not any("ivshmem" in line for line in added), name
END
}

@test "--series does not depend on what the user has set for git" {
    git_is_set_up
    "$graft" --quiet --series "$series" "$tree"
    mv "$series" "$series.plain"
    while read -r name value; do
        git config --global "$name" "$value"
    done <<'END'
commit.gpgSign true
color.ui always
core.autocrlf true
core.hooksPath /nonexistent
diff.noprefix true
diff.renames copies
diff.context 0
format.coverLetter true
format.outputDirectory /nonexistent
format.signOff true
format.suffix .txt
format.useAutoBase true
END
    mkdir "$series"
    run env GIT_DIR=/nonexistent GIT_INDEX_FILE=/nonexistent "$graft" --quiet --series "$series" "$tree"
    [ "$status" -eq 0 ]
    [ -z "$output" ]
    # Except for what a user expects to find.
    diff -r -B -I '^From ' -I '^Date: ' -I '^Signed-off-by: A. Contributor <a@example.org>$' "$series.plain" "$series"
    [ "$(grep -l '^Signed-off-by: A. Contributor' "$series"/* | wc -l)" = "$(find "$series" -type f | wc -l)" ]
    diff -r "$before" "$tree"
}

@test "a message of a series is made of the comments whose edits the release has" {
    git_is_set_up
    with_table <<'END'
# Of the table.
word @LETTER@ 4.0- A
# Of no group.

group netmod file letters
subject nemesis: add a letter
# Why, in a comment of more than one line, which is longer than a line of a message may be,
# and has two
#
# paragraphs.

edit file
-E
+ivshmem
# Of another release.
edit file 4.1
-@LETTER@
+in

# Of two
# lines.
edit file 4.1
-B
+never
edit file 4.0
-B
+b

group letters file what needs no netmod
subject letters: make D a small one
# Why.
edit file
-D
+d
END
    release 4.0.3
    "$graft" --quiet --series "$series" "$tree"
    [ "$(cd "$series" && echo *)" = "0001-letters-make-D-a-small-one.patch 0002-nemesis-add-a-letter.patch" ]
    [ "$(sed '1,/^$/d;/^---$/,$d' "$series"/0002*)" = "Why, in a comment of more than one line, which is longer than a line of
a message may be, and has two

paragraphs.

Of two lines." ]
    [ "$(paste -sd , "$tree/file")" = A,B,C,D,E ]
    # What the tree has already is left out.
    sed -i s/D/d/ "$tree/file"
    rm -r "$series"
    "$graft" --quiet --series "$series" "$tree"
    [ "$(ls "$series")" = 0001-nemesis-add-a-letter.patch ]
    # What does not fit is an error, or left out.
    sed -i s/d/x/ "$tree/file"
    rm -r "$series"
    refuses "file is neither as in MPICH 4.0.3 nor as ivshmem-graft left it, so this edit cannot be made: what needs no netmod. Nothing was changed; use a fresh tree"
    run "$graft" --quiet --force --series "$series" "$tree"
    [ "$status" -eq 0 ]
    [[ $output == *"left out: what needs no netmod" ]]
    [ "$(ls "$series")" = 0001-nemesis-add-a-letter.patch ]
    rm -r "$series"
    sed -i s/x/D/ "$tree/file"
    sed -i '/^subject letters/d' "$BATS_TEST_TMPDIR/prefix/share/mpich-ivshmem/ivshmem-graft.edits"
    run "$graft" --series "$series" "$tree"
    [ "$status" -eq 1 ]
    [[ $output == *"the group letters has no subject" ]]
    [ ! -e "$series" ]
}

# refuses MESSAGE: --series fails with that message alone, and leaves nothing behind.
refuses() {
    local there=''
    [ ! -e "$series" ] || there=1
    cp -a "$tree" "$tree.as_was"
    run "$graft" --series "$series" "$tree"
    [ "$status" -eq 1 ]
    [ "$output" = "ivshmem-graft: $1" ] || { echo "$output" && return 1; }
    diff -r "$tree.as_was" "$tree"
    rm -r "$tree.as_was"
    [ "$there" ] || [ ! -e "$series" ]
    [ -z "$(find "$BATS_TEST_TMPDIR" -maxdepth 1 -name 'series.*')" ]
}

@test "--series refuses what it cannot use, and leaves nothing behind" {
    git_is_set_up
    mkdir "$series"
    echo mine >"$series/precious"
    refuses "$series is not an empty directory: name a new one"
    [ "$(cat "$series/precious")" = mine ]
    rm -r "$series"
    echo mine >"$series"
    refuses "$series is not an empty directory: name a new one"
    rm "$series"
    series=$BATS_TEST_TMPDIR/nothing/series
    refuses "$BATS_TEST_TMPDIR/nothing is not a directory"
    series=$BATS_TEST_TMPDIR/series
    for version in 3.4.3 4.5 6.0; do
        release $version
        refuses "$tree is MPICH $version, but the edits are written for 4.0 4.1 4.2 4.3 5.0 5.1: use one of these releases, or try this one with --force"
    done
    rm "$tree/maint/version.m4"
    refuses "$tree is MPICH unknown, but the edits are written for 4.0 4.1 4.2 4.3 5.0 5.1: use one of these releases, or try this one with --force"
    start_from "$after"
    refuses "$tree has the netmod already: --series needs a tree as MPICH has it"
    start_from "$before"
    rm -r "$tree/src/mpid"
    refuses "$tree is not an MPICH source tree with ch3:nemesis: it has no src/mpid/ch3/channels/nemesis"
    start_from "$before"
    git config --global --unset user.email
    git config --global user.useConfigOnly true
    refuses "git does not know who you are: set user.name and user.email by git config --global"
    git config --global user.email a@example.org
    # All that it runs before it needs git.
    mkdir "$BATS_TEST_TMPDIR/bin"
    for command in bash readlink dirname realpath ls sed cat; do
        ln -s "$(command -v $command)" "$BATS_TEST_TMPDIR/bin"
    done
    run env PATH="$BATS_TEST_TMPDIR/bin" "$graft" --series "$series" "$tree"
    [ "$status" -eq 1 ]
    [ "$output" = "ivshmem-graft: --series needs git, which is not installed" ]
    [ ! -e "$series" ]
    for wrong in "--series" "--series $series" "--undo --series $series $tree" "--check --series $series $tree"; do
        # shellcheck disable=SC2086
        run "$graft" $wrong
        [ "$status" -eq 2 ]
    done
    # A full file system, or git that fails half-way.
    run bash -c 'ulimit -f 20 && exec "$1" --quiet --series "$2" "$3"' - "$graft" "$series" "$tree"
    [ "$status" -eq 1 ]
    [[ $output == *"cannot write the patches"* ]]
    [ ! -e "$series" ]
    [ -z "$(find "$BATS_TEST_TMPDIR" -maxdepth 1 -name 'series.*')" ]
    diff -r "$before" "$tree"
}
