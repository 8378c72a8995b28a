# SPDX-License-Identifier: mpich2
#
# Samples of bench/run, in: each with the class of its two readings, out. A class is named by what a hop
# costs in it, about: hyperthreads of a core, cores that share a cache, and two kinds that do not. Where
# the readings disagree, the processors moved meanwhile; 0 are no readings.

{
    before = $9
    after = $10
    if (before > after * 1.25 || after > before * 1.25)
        next
    hop = (before + after) / 2
    class = hop == 0 ? 0 : hop < 35 ? 20 : hop < 90 ? 55 : hop < 175 ? 130 : 225
    print class "," ($3 == "inregion" || $3 == "crowd" ? $3 : $4) "," $6 "," $5 "," $2 "," $7 "," $8
}
