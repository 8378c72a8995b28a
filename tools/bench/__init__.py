# SPDX-License-Identifier: mpich2
"""The parts of ivshmem-bench. Each uses only those before it:

messages       errors, the progress bar
layouts        VMs and ranks
profile        the library that measures time in MPI; profile.h is its part that is written by hand
codes          a program, and how its result is judged
grounds        where jobs run: on the host, in network namespaces, in guests
jobs           runs one job, and reads what its ranks print
results        the records of a folder, medians
runner         the plan, and going through it
figures        what the records say: tables and the points of plots
page           writes figures as Markdown and HTML; plots.gp draws them
cli            the command line of ivshmem-bench

bench/apps in the sources uses them for codes of its own (`make bench-apps`).
"""
