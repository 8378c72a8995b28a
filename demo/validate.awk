# SPDX-License-Identifier: mpich2
#
# Reads HPCC's hpccoutf.txt and prints a line for each test: what it measured, and the result of its own check.
# Fails unless all tests ran and each passed its check. HPCC's own "Success" says nothing about a test that
# could not run at all.

BEGIN {
    threshold = 16; epsilon = 2 ^ -53 # HPCC's, for the residual of an FFT
    split("HPL PTRANS MPIRandomAccess StarRandomAccess SingleRandomAccess MPIRandomAccess_LCG " \
        "StarRandomAccess_LCG SingleRandomAccess_LCG StarDGEMM SingleDGEMM StarSTREAM SingleSTREAM " \
        "MPIFFT StarFFT SingleFFT LatencyBandwidth", tests)
}

function passed(what) { check[test] = what }
function failed(what) { bad[test] = what }

/^Begin of .* section/ { test = $3; next }
/^End of .* section/ { ended[$3] = 1; test = ""; next }

test == "Summary" {
    split($0, pair, "=")
    value[pair[1]] = pair[2]
}
/^Found .* errors in .* locations \(passed\)/ { passed($2 " errors in " $5 " words") }
# HPCC lets 1 of 100 be wrong, for machines that lose updates. MPI loses none: see the end.
/^Found .* errors in .* locations/ && /\(failed\)/ { failed($0) }
/^Found .* errors in .* locations/ && $2 != 0 && test ~ /^MPI/ { lost[test] = $0 }
/^Found .* errors in .* locations/ && $2 != 0 && test !~ /^MPI/ { failed($0) }
/^Node\(s\) with error/ && !(test in check) { passed("no rank in error") }
/^Node\(s\) with error/ && $4 != 0 { failed($0) }
/tests completed and passed residual checks/ {
    passed($1 " of " $1 " residual checks passed")
    if ($1 < 1) failed("no residual was checked")
}
/tests (completed and failed|skipped)/ && $1 > 0 { failed($0) }
/FAILED|Failed|Error in line/ { failed($0) }
/^Solution Validates/ { passed("solution validates") }
/^Vector size:/ { size = $3 }
/^max\(\|x-x0\|\):/ {
    residual = $2 / log(size) / epsilon
    passed(sprintf("residual %.2f, below %d", residual, threshold))
    if (!(residual < threshold)) failed("residual " residual)
}

function result(test) {
    sub(/_LCG/, "", test)
    if (test == "HPL") return sprintf("%.3f Gflop/s", 1000 * value["HPL_Tflops"])
    if (test == "PTRANS") return sprintf("%.3f GB/s", value["PTRANS_GBs"])
    if (test ~ /RandomAccess/) return sprintf("%.6f GUP/s", value[name "_GUPs"])
    if (test ~ /STREAM/) return sprintf("%.3f GB/s", value[test "_Triad"])
    if (test == "LatencyBandwidth")
        return sprintf("%.1f us %.3f GB/s", value["RandomlyOrderedRingLatency_usec"],
            value["RandomlyOrderedRingBandwidth_GBytes"])
    return sprintf("%.3f Gflop/s", value[test "_Gflops"])
}

END {
    # Of more than four ranks, each has four receives posted and takes any that is complete: so it may see that all
    # others have finished before it has looked at their last updates. Then HPCC itself drops these, over every MPI.
    if (value["CommWorldProcs"] <= 4)
        for (test in lost) failed(lost[test])

    for (i = 1; i in tests; i++) {
        name = tests[i]
        if (!(name in ended))
            bad[name] = "did not run to its end"
        else if (name == "LatencyBandwidth")
            check[name] = "(HPCC checks nothing here)"
        else if (!(name in check) && !(name in bad))
            bad[name] = "reported no check"
        printf "%-22s %-20s %s\n", name, result(name), name in bad ? "FAILED: " bad[name] : check[name]
        failures += name in bad
    }
    printf "HPCC's own verdict: Success=%s\n", value["Success"]
    exit failures > 0 || value["Success"] != 1
}
