# SPDX-License-Identifier: mpich2
#
# Lines of class, test, ranks, bytes, mpi, value, unit, sorted: medians and quartiles of the values.

function finish() {
    if (n)
        print key "," value[int((n + 1) / 2)] "," value[int((n + 3) / 4)] "," value[int((3 * n + 3) / 4)] "," n "," unit
    n = 0
}

BEGIN { print "class_ns,test,ranks,bytes,mpi,median,lower,upper,samples,unit" }
{
    k = $1 "," $2 "," $3 "," $4 "," $5
    if (k != key)
        finish()
    key = k
    value[++n] = $6
    unit = $7
}
END { finish() }
