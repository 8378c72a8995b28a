# SPDX-License-Identifier: mpich2
#
# gnuplot -c plot.gp POINTS.csv OUT.svg: a curve for each column, by message size. The first column's title is
# the unit.

set datafile separator ","
set datafile missing "NaN"
unit = system("head -n 1 '" . ARG1 . "' | cut -d, -f1")
columns = int(system("head -n 1 '" . ARG1 . "' | tr , '\\n' | wc -l"))
set terminal svg size 800,480 background "white"
header = '1a <!-- SPDX-License-Identifier: mpich2 -->'
shorter = 's/ stroke-line(cap|join)="[a-z]*"| xml:space="preserve"//g; s/<tspan [^>]*>/<tspan>/'
set output "| sed -E -e '" . header . "' -e '" . shorter . "' >'" . ARG2 . "'"
set logscale x 2
set logscale y
set format x "%.0b%B"
set xtics 4 scale 0
set ytics scale 0
unset mxtics
unset mytics
set grid
set linetype 5 linecolor rgb "#e51e10" # the default is too pale
set autoscale xfix
set key outside right reverse Left samplen 2 noenhanced
set xlabel "bytes"
set ylabel unit eq "us" ? "µs" : unit
plot for [i=2:columns] ARG1 using 1:i title columnheader(i) with linespoints
unset output # waits for sed
