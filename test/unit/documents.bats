#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# Documents that show parts of the sources agree with the sources.

@test "doc/trust.md shows the current table of packets" {
    "$IVSHM_SRC/build-aux/packet-table" >"$BATS_TEST_TMPDIR/table"
    run diff "$BATS_TEST_TMPDIR/table" \
        <(sed -n '/<!-- packets: begin -->/,/<!-- packets: end -->/p' "$IVSHM_SRC/doc/trust.md" | sed '1d;$d')
    echo "$output"
    [ "$status" -eq 0 ] || { echo "mend: build-aux/packet-table doc/trust.md"; return 1; }
}

@test "files of the netmod call only files that doc/netmod.md shows below them" {
    run "$IVSHM_SRC/build-aux/layers"
    echo "$output"
    [ "$status" -eq 0 ]
}

# Each type that CH3 or Nemesis knows, except those that neither sends through a netmod.
@test "each row of the table of packets has a check" {
    run awk -F'|' '/^\| [A-Z_]+ \| (a rank|a caller|a rank or a caller) \|/ && $4 !~ /[A-Z]/ { print; bad = 1 } END { exit bad }' \
        "$IVSHM_SRC/doc/trust.md"
    echo "$output"
    [ "$status" -eq 0 ]
}

@test "doc/upstream.md lists each patch, in order, and tells which need the netmod" {
    "$IVSHM_SRC/tools/ivshmem-graft" --edits >"$BATS_TEST_TMPDIR/edits"
    run python3 - "$BATS_TEST_TMPDIR/edits" "$IVSHM_SRC/tools/ivshmem-graft.edits" "$IVSHM_SRC/doc/upstream.md" <<'END'
import re
import sys

edits, table, page = (open(name).read() for name in sys.argv[1:])
fields = edits.split("\0")[:-1]
using = {group for group, text in zip(fields[::5], fields[4::5]) if "ivshmem" in text}
subjects = re.findall(r"^group (\S+) .*\nsubject (.*)$", table, re.M)
expected = [subject for group, subject in subjects if group not in using], \
           [subject for group, subject in subjects if group in using]
for section, heading in zip(expected, ("## Repairs that", "## The netmod")):
    rows = page[page.index(heading):].split("\n## ")[0]
    found = re.findall(r"^\| (\S+: .*?) \|", rows, re.M)
    assert found == section, sorted(set(found) ^ set(section))
END
    echo "$output"
    [ "$status" -eq 0 ]
}

@test "doc/ordering.md and test/explore/orders name the same edges" {
    edges_in() { sed -n "/^#* *$1\$/,/^#* *$2\$/p" "$IVSHM_SRC/doc/ordering.md" | sed -nE 's/^\| ([A-Z][0-9]|blocks) \|.*/\1/p' | LC_ALL=C sort; }
    edges_in Edges 'Why S3 releases every word' >"$BATS_TEST_TMPDIR/argued"
    edges_in 'Weakly ordered memory' 'Other processors' >"$BATS_TEST_TMPDIR/covered"
    "$IVSHM_SRC/test/explore/orders" --edges | LC_ALL=C sort >"$BATS_TEST_TMPDIR/tested"
    [ -s "$BATS_TEST_TMPDIR/argued" ]
    diff "$BATS_TEST_TMPDIR/covered" "$BATS_TEST_TMPDIR/tested"
    # The block map has no label.
    diff <(cat "$BATS_TEST_TMPDIR/argued" - <<<blocks) "$BATS_TEST_TMPDIR/tested"
}
