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
