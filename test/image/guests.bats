#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# Two guests that boot from an image of `ivshmem-vms image`: Debian, systemd, the packages, an ordinary user. Run by
# test/image/check, with the packages in $DEBS. By hand, $IMAGE may name an image that was made before.

. "$BATS_TEST_DIRNAME/../vm/vm.bash"

setup_file() {
    export IMAGE=${IMAGE:-$BATS_FILE_TMPDIR/debian}
    [ -e "$IMAGE" ] || "$inst/bin/ivshmem-vms" image "$IMAGE" --packages "$DEBS" >"$BATS_FILE_TMPDIR/log" 2>&1 3>&- ||
        { cat "$BATS_FILE_TMPDIR/log"; return 1; }
    boot_guests 2 --image "$IMAGE" --size 16M
}

teardown_file() { end_guests; }

# as_root GUEST COMMAND: a line of shell.
as_root() { ssh -F "$set_dir/ssh_config" -n "root@$1" "$2" 3>&-; }

# refused TEXT OPTION...: `up` with these options ends with that message, and leaves nothing.
refused() {
    run -1 vms up 1 --dir "$BATS_TEST_TMPDIR/set" --prefix "$inst" "${@:2}"
    echo "$output"
    [[ $output == *"$1"* && $(wc -l <<<"$output") -eq 1 ]]
    [ ! -e "$BATS_TEST_TMPDIR/set" ]
}

# changed COMMAND...: prints the name of a copy of the image, after these commands of debugfs.
changed() {
    cp --sparse=always --reflink=auto "$IMAGE" "$BATS_TEST_TMPDIR/image"
    printf '%s\n' "$@" >"$BATS_TEST_TMPDIR/commands"
    debugfs -w -f "$BATS_TEST_TMPDIR/commands" "$BATS_TEST_TMPDIR/image" >/dev/null 2>&1
    echo "$BATS_TEST_TMPDIR/image"
}

@test "images that cannot be used are refused, with what to do" {
    refused "no such file, or no permission" --image /none
    refused "not an image that ivshmem-vms can boot: make one by" --image "$WORK/exchange"
    refused "it has no ssh server" --image "$(changed 'rm /usr/sbin/sshd')"
    refused "mpich-ivshmem is not installed in it" --image "$(changed 'rm /var/lib/dpkg/status')"
    debugfs -R "cat /var/lib/dpkg/status" "$IMAGE" 2>/dev/null |
        sed '/^Package: mpich-ivshmem$/,/^$/s/^Version: .*/Version: 0.1.7-1/' >"$BATS_TEST_TMPDIR/status"
    image=$(changed 'rm /var/lib/dpkg/status' "write $BATS_TEST_TMPDIR/status /var/lib/dpkg/status")
    refused "has mpich-ivshmem 0.1.7, and $inst on this machine $(ivshmem --version | grep -o ' [0-9.]*,' | tr -d ' ,'): jobs on both need the same release" \
        --image "$image"
    refused "it has no MPI in $inst" --image "$(changed "rm $inst/bin/hydra_pmi_proxy")"
}

@test "image says what it needs" {
    mkdir "$BATS_TEST_TMPDIR/debs"
    run -1 vms image "$BATS_TEST_TMPDIR/image" --packages "$BATS_TEST_TMPDIR/debs"
    [[ $output == *"there is no package mpich-ivshmem: make deb makes it" ]]
    touch "$BATS_TEST_TMPDIR"/debs/mpich-ivshmem_{1,2}_amd64.deb
    run -1 vms image "$BATS_TEST_TMPDIR/image" --packages "$BATS_TEST_TMPDIR/debs"
    [[ $output == *"there are 2 packages mpich-ivshmem, of several versions: leave one" ]]
    run -1 setpriv --reuid=nobody --regid=nogroup --clear-groups ivshmem-vms image /tmp/image
    [[ $output == *"only root can make an image"* ]]
    run -1 vms image /none/image
    [[ $output == *"/none: no such directory" ]]
    run -2 vms image
    run -2 vms up 1 --image "$IMAGE" --driver "$WORK/exchange"
    [ "$(find "$BATS_TEST_TMPDIR" -name '*image*')" = "" ]
}

@test "an ordinary user's job in guests and on the host goes through the region" {
    [ "$(vms exec all id -un)" = $'vm0: mpi\nvm1: mpi' ]
    [ "$(vms exec all hostname)" = $'vm0: vm0\nvm1: vm1' ]
    job -hosts localhost,vm0,vm1 -n 3 "$WORK/exchange" 3 </dev/null >out 2>&1
    through_region out 3
    region_is_empty
}

@test "so does one that is started in a guest" {
    vms exec 0 MPIR_CVAR_NEMESIS_IVSHMEM_STATS=1 mpiexec -f /etc/mpi-hosts -n 2 "$WORK/exchange" 4 </dev/null >out 2>&1
    through_region out 2
}

@test "the device is for the group ivshmem alone" {
    device=$(vms exec 1 'readlink -f '"$region")
    [ "$(vms exec 1 stat -c '%a %G' "$device")" = "660 ivshmem" ]
    vms exec 1 ivshmem info
    as_root vm1 "useradd outsider"
    run as_root vm1 "runuser -u outsider ivshmem info 2>&1"
    echo "$output"
    [[ $status -ne 0 && $output == *"no permission to open /sys/"*": this process is not in its group, which has the ID"* ]]
}

@test "a group without members: a job says so" {
    as_root vm1 "gpasswd -d mpi ivshmem"
    run job -hosts vm0,vm1 -n 2 "$WORK/exchange" 5 </dev/null
    as_root vm1 "usermod -aG ivshmem mpi"
    echo "$output"
    [ "$status" -ne 0 ]
    grep '^ivshmem: rank 1: no permission to open .*: this process is not in its group.* usermod -aG' <<<"$output"
}

@test "after a reset, what the guest held is free before anybody logs in" {
    begin reset vm0,vm1 2 -disable-auto-cleanup
    vms reset vm1
    as_root vm1 "journalctl -b -o cat -u ivshmem-reap" | tee log
    # Unless rank 0 has not noticed yet: what is attached to it is freed when it leaves.
    grep -qE "freed 1 of|endpoint 1 .*: dead, but endpoint 0 is still attached" log
    ended_with_an_error reset
    vms exec 0 ivshmem reap # of the rank that has aborted there
    until_true region_is_empty
}

@test "a guest that has ended boots again as the same machine, with its disk" {
    vms exec 1 'cat /etc/machine-id >id; sync'
    vms kill 1
    vms boot 1
    [ "$(vms exec 1 'cat id')" = "$(vms exec 1 'cat /etc/machine-id')" ]
    job -hosts vm0,vm1 -n 2 "$WORK/exchange" 6 </dev/null >out 2>&1
    through_region out 2
}
