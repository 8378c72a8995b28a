# SPDX-License-Identifier: mpich2
#
# summary.csv as Markdown: for each class of the processors' distance a table for each test, with the ratio
# of ours to the best of the others over shared memory, and the ratios' means over bands of sizes. In a
# latency less is better, and a ratio below 1 is ours ahead; in a bandwidth or rate more, and above 1.

function pretty(bytes) {
    return bytes >= 1048576 ? bytes / 1048576 " MiB" : bytes >= 1024 ? bytes / 1024 " KiB" : bytes " B"
}

function number(x) { return x == "" ? "" : x >= 1000 ? sprintf("%.0f", x) : sprintf("%.3g", x) }

# The best of the rivals, or "".
function best(prefix, unit,   r, v, i) {
    r = ""
    for (i = 1; i <= rivals; i++) {
        v = median[prefix, rival[i]]
        if (v != "" && (r == "" || (unit == "us" ? v < r : v > r)))
            r = v
    }
    return r
}

# Adds what `own` takes at one size over what the others take.
function compare(own, other) {
    if (own == "" || other == "" || own <= 0 || other <= 0)
        return
    n++
    sum += log(own / other)
}

# A row of the marks: a ratio for each of ours that was measured.
function row(name, mark, test, ranks, low, high, over, as,   i, k, prefix, line, any) {
    line = "| " name " |"
    for (k = 1; k <= ours; k++) {
        n = sum = 0
        for (i = 1; i <= sizes; i++) {
            if (size[i] < low || size[i] > high)
                continue
            prefix = class SUBSEP as SUBSEP ranks SUBSEP size[i]
            compare(median[class, test, ranks, size[i], our[k]],
                over == "own" ? median[prefix, our[k]] : over ? median[prefix, over] : best(prefix, unit[as]))
        }
        any += n
        line = line (n ? sprintf(" %.2f |", exp(sum / n)) : " |")
    }
    if (any)
        print line " " mark " |"
}

function band(name, mark, test, ranks, low, high, over) {
    row(name, mark, test, ranks, low, high, over, test)
}

# Our latency in another test over that of the best, or over our own.
function beside(name, mark, test, low, own) {
    row(name, mark, test, 2, low, HUGE, own ? "own" : "", "latency")
}

function table(test, ranks,   i, j, k, prefix, line, any, other, value) {
    for (i = 1; i <= sizes; i++) {
        prefix = class SUBSEP test SUBSEP ranks SUBSEP size[i]
        line = "| " pretty(size[i]) " |"
        any = 0
        for (j = 1; j <= mpis; j++) {
            line = line " " number(median[prefix, mpi[j]]) " |"
            any += median[prefix, mpi[j]] != ""
        }
        if (!any)
            continue
        other = best(prefix, unit[test])
        if (!titled[class, test, ranks]++) {
            printf "\n%s, %d ranks, %s:\n\n| bytes |", test, ranks, unit[test]
            for (j = 1; j <= mpis; j++)
                printf " %s |", mpi[j]
            for (k = 1; k <= ours; k++)
                printf " %s/best |", our[k]
            printf "\n|---|"
            for (j = 1; j <= mpis + ours; j++)
                printf "---|"
            print ""
        }
        for (k = 1; k <= ours; k++) {
            value = median[prefix, our[k]]
            line = line (value != "" && other != "" && other > 0 ? sprintf(" %.2f |", value / other) : " |")
        }
        print line
    }
}

BEGIN {
    SAMPLES_MIN = 20 # the processors were there by chance
    HUGE = 2 ^ 40
}
NR == 1 { next }
{
    median[$1, $2, $3, $4, $5] = $6
    unit[$2] = $10
    samples[$1] += $9
    seen[$5] = 1
    if (!known["s", $4]++) size[++sizes] = $4 + 0
    if (!known["t", $2, $3]++) { test_of[++tests] = $2; ranks_of[tests] = $3 }
}
END {
    split("ivshmem ivshmem-malloc shm tcp ucx openmpi", order, " ")
    for (i = 1; i in order; i++)
        if (seen[order[i]]) {
            mpi[++mpis] = order[i]
            if (order[i] ~ /^ivshmem/)
                our[++ours] = order[i]
            else if (order[i] != "tcp")
                rival[++rivals] = order[i]
        }
    if (!rivals)
        rival[++rivals] = "tcp"
    for (i = 2; i <= sizes; i++)
        for (j = i; j > 1 && size[j - 1] > size[j]; j--) {
            swap = size[j]; size[j] = size[j - 1]; size[j - 1] = swap
        }
    split("0 20 55 130 225", classes, " ")
    for (c = 1; c in classes; c++) {
        class = classes[c]
        if (samples[class] < SAMPLES_MIN)
            continue
        if (class)
            printf "\n## About %d ns a hop, %d samples\n\n", class, samples[class]
        else
            printf "\n## %d samples\n\n", samples[class]
        printf "| over the best of the others |"
        for (k = 1; k <= ours; k++)
            printf " %s |", our[k]
        printf " mark |\n|---|"
        for (k = 1; k <= ours; k++)
            printf "---|"
        print "---|"
        band("latency, 0 to 64 B", "at most 1.0", "latency", 2, 0, 64)
        band("latency, 128 B to 2 KiB", "at most 1.0", "latency", 2, 128, 2048)
        band("latency, 4 to 32 KiB", "at most 0.8", "latency", 2, 4096, 32768)
        band("latency, 64 to 256 KiB", "at most 1.0", "latency", 2, 65536, 262144)
        band("latency, 512 KiB to 16 MiB", "at most 0.9", "latency", 2, 524288, 16777216)
        band("messages a second, 8 B", "at least 1.2", "rate", 2, 8, 8)
        band("both directions, 64 KiB to 4 MiB", "at least 1.1", "bidirectional", 2, 65536, 4194304)
        band("latency over that of tcp, to 4 KiB", "at most 0.08", "latency", 2, 0, 4096, "tcp")
        beside("either buffer in the region, 64 KiB and up", "at most 0.6", "inregion", 65536)
        beside("1000 idle endpoints, over none of them", "at most 1.05", "crowd", 0, 1)
        for (t = 1; t <= tests; t++)
            table(test_of[t], ranks_of[t])
    }
}
