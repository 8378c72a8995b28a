#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# The patches with which `make check-mutation` seeds faults apply to the current sources, and say what they break.

@test "each mutation patch applies, and says what it breaks" {
    local patch good=0
    for patch in "${IVSHM_SRC:-$BATS_TEST_DIRNAME/../..}"/test/mutation/*.patch; do
        [[ $(head -n 1 "$patch") == [A-Za-z\`]* ]]
        patch -d "${patch%/test/mutation/*}" -p1 --dry-run -s -f <"$patch" || { echo "$patch" && return 1; }
        good=$((good + 1))
    done
    [ "$good" -ge 24 ]
}
