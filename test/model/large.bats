#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# The models with the most states, which `make check-explore` runs.

load model
export optimised=-O2

@test "model of reclaim: 3 owners in turn, 2 reapers" { holds reclaim; }

@test "model of idle rings: 3 rings" { proves ltl idle -DRINGS=3 -DMESSAGES=1; }
