# SPDX-License-Identifier: mpich2
#
# gnuplot -c plots.gp KIND POINTS.csv OUT.svg TITLE: bars (a group for each line, a bar for each column), scatter (one point
# a line, a series for each transport), or scaling (a curve for each column).

set datafile separator ","
set datafile missing "NaN"
kind = ARG1
columns = int(system("head -n 1 '" . ARG2 . "' | tr , '\\n' | wc -l"))
set terminal svg size 800,420 background "white"
header = '1a <!-- SPDX-License-Identifier: mpich2 -->'
shorter = 's/ stroke-line(cap|join)="[a-z]*"| xml:space="preserve"//g; s/<tspan [^>]*>/<tspan>/'
set output "| sed -E -e '" . header . "' -e '" . shorter . "' >'" . ARG3 . "'"
set title ARG4 noenhanced
set grid
set linetype 5 linecolor rgb "#e51e10" # the default is too pale
set key outside right reverse Left samplen 2 noenhanced
if (kind eq "bars") {
    set style data histogram
    set style histogram clustered gap 1
    set style fill solid 0.8 noborder
    set boxwidth 0.9
    set grid noxtics
    set xtics noenhanced rotate by -20
    set yrange [0:*]
    set ylabel "run time, s"
    plot for [i=2:columns] ARG2 using i:xtic(1) title columnheader(i)
}
if (kind eq "scatter") {
    set xrange [0:100]
    set xlabel "time in MPI over tcp, % of run time"
    set ylabel "reduction of run time, %"
    names = "ivshmem ivshmem-malloc"
    plot x with lines linecolor "#c0c0c0" title "all time in MPI gone", \
        for [i=1:2] ARG2 using (strcol(3) eq word(names, i) ? $4 : NaN):5 with points pointtype 5 + 2 * i \
        linecolor i title word(names, i), \
        ARG2 using (strcol(3) eq "ivshmem" ? $4 : NaN):5:1 with labels offset 0,0.8 font ",9" noenhanced notitle
}
if (kind eq "scaling") {
    set xlabel "VMs, one rank each"
    set ylabel "times as fast as one"
    set xrange [1:*]
    set yrange [0:*]
    set xtics 1
    plot x with lines linecolor "#c0c0c0" title "ideal", \
        for [i=2:columns] ARG2 using 1:i with linespoints linecolor i - 1 title columnheader(i)
}
unset output # waits for sed
