# SPDX-License-Identifier: mpich2
#
# The table of bench/guests: medians of what,way,value,unit, a line for each thing. The last column compares the first way
# with the best of the others, and with what is aimed at. With csv=1: the runs of files for a plot.

function median(list,   v, n, i, k, t) {
    n = split(list, v, " ")
    for (i = 2; i <= n; i++)
        for (k = i; k > 1 && v[k - 1] + 0 > v[k] + 0; k--) {
            t = v[k]
            v[k] = v[k - 1]
            v[k - 1] = t
        }
    return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
}

NR > 1 {
    if (!($1 in unit))
        things[++count] = $1
    unit[$1] = $4
    values[$1, $2] = values[$1, $2] " " $3
}

END {
    names["net"] = "ivshmem net"
    names["virtio"] = "virtio-net"
    names["put"] = "ivshmem put"
    names["region"] = "cache in the region"
    names["memcached-net"] = "memcached, ivshmem net"
    names["loopback"] = "within a guest"
    sets[1] = "net virtio loopback"
    sets[2] = "put rsync scp virtiofs"
    sets[3] = "region memcached memcached-net"
    if (csv)
        print "what,ivshmem put,rsync,scp,virtiofs"
    for (set = 1; set <= 3; set++) {
        ways = split(sets[set], way, " ")
        begun = 0
        for (i = 1; i <= count; i++) {
            thing = things[i]
            if (!((thing, way[1]) in values) || (csv && set != 2))
                continue
            if (!begun && !csv) {
                line = "\n| |"
                rule = "|---|"
                for (w = 1; w <= ways; w++) {
                    line = line " " (way[w] in names ? names[way[w]] : way[w]) " |"
                    rule = rule "---|"
                }
                print line " first to best other |" (set == 1 ? " aim | |" : "") "\n" rule "---|" (set == 1 ? "---|---|" : "")
            }
            begun = 1
            line = csv ? thing : "| " thing ", " unit[thing] " |"
            for (w = 1; w <= ways; w++) {
                figure[w] = (thing, way[w]) in values ? median(values[thing, way[w]]) : 0
                line = line (csv ? "," : " ") (figure[w] ? sprintf("%.4g", figure[w]) : csv ? "" : "-") (csv ? "" : " |")
            }
            if (csv) {
                print line
                continue
            }
            faster = unit[thing] ~ /bit/
            best = 0
            for (w = 2; w <= (set == 1 ? 2 : ways); w++) # within a guest is no rival
                if (figure[w] && (!best || (faster ? figure[w] > best : figure[w] < best)))
                    best = figure[w]
            if (!best) {
                print line " - |" (set == 1 ? " - | - |" : "")
                continue
            }
            ratio = figure[1] / best
            line = line sprintf(" %.2f |", ratio)
            if (set == 1) {
                line = line (faster ? " at least 2 | " : " at most 0.5 | ") \
                    ((faster ? ratio >= 2 : ratio <= 0.5) ? "reached |" : "not reached |")
            }
            print line
        }
    }
}
