# SPDX-License-Identifier: mpich2
#
# Reads the counters of a job with MPIR_CVAR_NEMESIS_IVSHMEM_STATS=2, and checks that each connected pair uses the
# region if both ranks are in the same one, else tcp. Prints the number of connections, and the bytes.

{
    for (i = 2; i <= NF; i++) {
        split($i, kv, "=")
        is[kv[1]] = kv[2]
    }
}

/^ivshmem: rank=[0-9]+ host=/ { region[is["rank"]] = is["region"] == "none" ? "none" : is["id"] }

/^ivshmem: rank=[0-9]+ peer=/ {
    from[++n] = is["rank"]
    to[n] = is["peer"]
    path[n] = is["path"]
    sent[n] = is["sent_bytes"]
}

END {
    for (i = 1; i <= n; i++) {
        same = region[from[i]] == region[to[i]] && region[from[i]] != "none"
        if (path[i] != (same ? "ivshmem" : "tcp")) {
            print from[i] " to " to[i] " by " path[i]
            wrong = 1
        }
        bytes[path[i]] += sent[i]
    }
    printf "%d connections, %.0f bytes through regions, %.0f by tcp\n", n, bytes["ivshmem"], bytes["tcp"]
    exit wrong || n < 2
}
