# SPDX-License-Identifier: mpich2
#
# gnuplot -c plot.gp FOLDER CLASS: latency and bandwidth by size, of one class, from summary.csv.

folder = ARG1
class = ARG2
set datafile separator ","
set terminal svg size 900,600 background "white"
set logscale xy
set format x "%.0b%B"
set xtics 4
set grid
set key left top
set datafile missing NaN
mpis = "ivshmem ivshmem-malloc shm tcp ucx openmpi"
select(test) = sprintf("awk -F, '$1 == %s && $2 == \"%s\" && $4 > 0' %s/summary.csv | sort -t, -k4,4g", class, test, folder)

do for [test in "latency bandwidth"] {
    if (system(select(test)) eq "") { continue }
    set output sprintf("%s/%s-%s.svg", folder, test, class)
    if (test eq "bandwidth") { set key right bottom }
    set title sprintf("%s between two ranks, about %s ns a hop", test, class)
    set xlabel "bytes"
    set ylabel test eq "latency" ? "half a round trip, us" : "MB/s"
    plot for [m in mpis] "< " . select(test) using (strcol(5) eq m ? $4 : NaN):6 title m with linespoints
}
