# SPDX-License-Identifier: mpich2
#
# Samples of bench/run, in; out, each with the class of its two readings, if they agree. A class is named by
# what a hop costs in it, about: hyperthreads of a core, cores that share a cache, and two kinds that do not.
# Class 0 is for samples that the reading says nothing about: there was none, the sample is of one processor
# alone, or of more ranks than the two that took the reading.

{
    before = $9
    after = $10
    hop = (before + after) / 2
    if ($6 > 2 || $4 == "init" || $4 == "copy" || hop == 0)
        class = 0
    else if (before > after * 1.25 || after > before * 1.25)
        next
    else
        class = hop < 35 ? 20 : hop < 90 ? 55 : hop < 175 ? 130 : 225
    print class "," $4 "," $6 "," $5 "," $2 "," $7 "," $8
}
