#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# Those of the models that have the most states; `make check-explore` runs them.

load model
export optimised=-O2

@test "reclaim: 3 owners in turn, 2 reapers" { holds reclaim; }

@test "idle: 3 rings" { proves ltl idle -DRINGS=3 -DMESSAGES=1; }
