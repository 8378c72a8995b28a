#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# Some rounds of transfers with kills. `make check-transfers` does more of them, with gigabytes.

@test "transfers: what arrives is whole, or the beginning, when sides and servers are killed" {
    run "${IVSHM_SRC:-$BATS_TEST_DIRNAME/../..}/test/stress/transfers" -n 20 -s 16M -r $RANDOM
    echo "$output"
    [ "$status" -eq 0 ]
    [[ $output == *"20 rounds"* ]]
}
