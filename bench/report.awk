# SPDX-License-Identifier: mpich2
#
# awk -v folder=OUT -v about=TEXT [-v guests=1] -f report.awk questions summary.csv: for each question, the table
# (OUT/tables/NAME.md, also printed) and the points of the plot (OUT/plots/NAME.csv). A table is of the one
# placement of the processors that has most samples; medians of fewer than ENOUGH are left out. The best of a
# row is bold. Its spread is half the distance of the quartiles, in percent of the median, where it is largest.

function pretty(bytes) {
    return bytes >= 1048576 ? bytes / 1048576 " MiB" : bytes >= 1024 ? bytes / 1024 " KiB" : bytes " B"
}

function number(x) { return x >= 1000 ? sprintf("%.0f", x) : sprintf("%.3g", x) }

# The placement in which the most cells of this question have enough samples, or "".
function placement(   c, t, s, m, n, sum, most, found) {
    found = ""
    for (c = most = 0; c++ < classes;) {
        sum = 0
        for (t in test) for (s in bytes) for (m in mpi) {
            n = samples[class[c], test[t], ranks, bytes[s], mpi[m]]
            sum += n < ENOUGH ? 0 : 1 + n / 1e6
        }
        if (sum > most) { most = sum; found = class[c] }
    }
    return found
}

# The columns for which there are figures, in shown.
function columns(where,   t, s, m, used) {
    split("", shown)
    for (m = 1; m <= mpis; m++) {
        used = 0
        for (t in test) for (s in bytes)
            used += (where, test[t], ranks, bytes[s], mpi[m]) in median
        if (used)
            shown[++used_mpis] = mpi[m]
    }
}

function row(where, what, size,   m, k, x, best, line, filled, wide) {
    best = ""
    for (m = 1; m <= used_mpis; m++)
        if ((k = where SUBSEP what SUBSEP ranks SUBSEP size SUBSEP shown[m]) in median) {
            x = median[k]
            best = best == "" || (unit[what] == "us" ? x < best : x > best) ? x : best
            filled++
            least = least == "" || samples[k] < least ? samples[k] : least
            if (spread[k] > wide)
                wide = spread[k]
        }
    if (!filled)
        return ""
    line = "| " (tests == 1 ? pretty(size) : size > 0 ? what ", " pretty(size) : what) " |"
    for (m = 1; m <= used_mpis; m++) {
        k = where SUBSEP what SUBSEP ranks SUBSEP size SUBSEP shown[m]
        x = k in median ? number(median[k]) : ""
        line = line " " (x != "" && filled > 1 && x == number(best) ? "**" x "**" : x) " |"
    }
    return line sprintf(" %.0f %% |\n", wide)
}

function table(   where, t, s, m, head, body, file) {
    used_mpis = 0
    least = ""
    if ((where = placement()) == "")
        return
    columns(where)
    for (t = 1; t <= tests; t++) for (s = 1; s <= sizes; s++)
        body = body row(where, test[t], bytes[s])
    if (body == "")
        return
    head = "| " (tests > 1 ? "operation" : "bytes") " |"
    for (m = 1; m <= used_mpis; m++)
        head = head " " (shown[m] in called ? called[shown[m]] : shown[m]) " |"
    head = head " spread |\n|---|"
    for (m = 1; m <= used_mpis; m++)
        head = head "---|"
    file = folder "/tables/" name ".md"
    printf "%s; %s, at least %d samples; %s:\n\n%s---|\n%s", about,
        where ? where " ns a hop" : "any placement", least,
        unit[test[1]] == "us" ? "µs" : unit[test[1]], head, body >file
    close(file)
    tables++
    print "## " title "\n"
    while ((getline line <file) > 0)
        print line
    print ""
    points(where)
}

function points(where,   i, m, k, file, line, any) {
    file = folder "/plots/" name ".csv"
    line = unit[test[1]]
    for (m = 1; m <= used_mpis; m++)
        line = line "," (shown[m] in called ? called[shown[m]] : shown[m])
    print line >file
    for (i = 1; i <= all; i++) {
        if (size[i] < bytes[1] || size[i] > bytes[sizes] || !size[i])
            continue
        line = size[i]
        any = 0
        for (m = 1; m <= used_mpis; m++) {
            k = where SUBSEP test[1] SUBSEP ranks SUBSEP size[i] SUBSEP shown[m]
            line = line "," (k in median ? median[k] : "NaN")
            any += k in median
        }
        if (any)
            print line >file
    }
    close(file)
}

BEGIN {
    ENOUGH = 5
    classes = split("0 20 55 130 225", class, " ")
    called["ivshmem-malloc"] = "with malloc"
    called["ivshmem+alloc"] = "one buffer in region"
    called["ivshmem+1000"] = "1000 idle"
    called["shm"] = "Nemesis shm"
    called["ucx"] = "ch4:ucx"
    called["openmpi"] = "Open MPI"
}
FNR == NR {
    if (/^[^#]/ && (guests ? /^guests/ : !/^guests/))
        question[++questions] = $0
    next
}
FNR == 1 { FS = ","; next }
{
    unit[$2] = $10
    if ($9 < ENOUGH)
        next
    k = $1 SUBSEP $2 SUBSEP $3 SUBSEP $4 SUBSEP $5
    median[k] = $6
    samples[k] = $9
    spread[k] = $6 > 0 ? ($8 - $7) / 2 / $6 * 100 : 0
    if (!known[$4]++)
        for (i = ++all; i > 0; i--) {
            if (i == 1 || size[i - 1] < $4 + 0) { size[i] = $4 + 0; break }
            size[i] = size[i - 1]
        }
}
END {
    for (q = 1; q <= questions; q++) {
        split(question[q], field, "|")
        name = field[1]
        split("", test); split("", mpi); split("", bytes)
        tests = split(field[2], test, " ")
        ranks = field[3]
        mpis = split(field[4], mpi, " ")
        sizes = split(field[5], bytes, " ")
        title = field[6]
        table()
    }
    if (!tables)
        print "No test has " ENOUGH " samples in one placement: take more (--rounds)."
}
