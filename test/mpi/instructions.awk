# SPDX-License-Identifier: mpich2
#
# Reads callgrind_annotate's list of functions; prints the instructions of a message, by layer.

BEGIN { split("mpich netmod core libc", order, " ") }
/^ *[0-9,]+ \(/ && /:/ && !/PROGRAM TOTALS/ {
    n = $1
    gsub(",", "", n)
    name = $0
    sub(/ \[.*/, "", name)
    sub(/.*:/, "", name)
    sub(/\..*/, "", name)
    if ($0 !~ /libmpi/)
        layer = "libc"
    else if (name ~ /^MPID_nem_ivshmem_|^(receive_message|process_message|deliver_message|begin_packet|publish_message|send_whole|watch_peers)$/)
        layer = "netmod"
    else if (name ~ /^ivshm_|^(open_record|from_inbox)$/)
        layer = "core"
    else
        layer = "mpich"
    if (name !~ /^counted_/)
        sum[layer] += n
}
END {
    for (i = 1; i in order; i++)
        printf "%s %s %.0f\n", side, order[i], sum[order[i]] / messages
}
