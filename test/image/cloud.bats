#!/usr/bin/env bats
# SPDX-License-Identifier: mpich2
#
# A guest that cloud-init sets up, by tools/boot/cloud-init.yaml, when it first boots: the packages come from the disk
# with the user data. Run by test/image/check, with the packages in $DEBS.

. "$BATS_TEST_DIRNAME/../vm/vm.bash"

# What the packages need is in the image: a test does not depend on a network.
debian=cloud-init,adduser,libgfortran5,libhwloc15,libquadmath0

setup_file() {
    . "$src/build-aux/common.sh"
    cd "$BATS_FILE_TMPDIR" || return
    base=$cache/guest/cloud-$(echo "$debian" | cat - "$src/tools/vms/image.py" | sha256sum | cut -c 1-20)
    mkdir -p "$cache/guest"
    [ -e "$base" ] || "$inst/bin/ivshmem-vms" image "$base" --include "$debian" >log 2>&1 3>&- || { cat log; return 1; }
    ssh-keygen -q -t ed25519 -N '' -f key
    sed "s|ssh-ed25519 PUBLIC-KEY|$(cat key.pub)|" "$src/tools/boot/cloud-init.yaml" >user-data
    printf 'instance-id: node0\nlocal-hostname: node0\n' >meta-data
    genisoimage -quiet -J -r -V cidata -o seed.iso user-data meta-data \
        "$DEBS"/mpich-ivshmem_*.deb "$DEBS"/ivshmem-tools_*.deb "$DEBS"/ivshmem-guest_*.deb
    "$inst/bin/mpicc" -O2 -o exchange "$src/test/vm/exchange.c"
    "$inst/bin/ivshmem" format --size 16M region
    for file in vmlinuz initrd.img; do debugfs -R "dump /boot/$file $file" "$base" 2>/dev/null; done
    boot_cloud
}

# Boots the guest; its ssh is forwarded from a free port, which is in the file port.
boot_cloud() {
    for _ in 1 2 3 4 5; do
        echo $((20000 + RANDOM % 12000)) >port
        ! qemu-system-x86_64 -M q35 -accel tcg,thread=multi -cpu max,-erms,-fsrm -m 1G -smp 2 -uuid "$(cat /proc/sys/kernel/random/uuid)" \
            -nodefaults -display none -daemonize -pidfile pid -chardev file,id=console,path=console -serial chardev:console \
            -drive "if=virtio,format=raw,snapshot=on,file=$base" -drive if=virtio,format=raw,readonly=on,file=seed.iso \
            -object memory-backend-file,id=region,share=on,mem-path=region,size=16M -device ivshmem-plain,memdev=region \
            -netdev "user,id=net,hostfwd=tcp:127.0.0.1:$(cat port)-:22" -device virtio-net-pci,romfile=,netdev=net \
            -kernel vmlinuz -initrd initrd.img \
            -append "console=ttyS0 root=/dev/vda rw tsc=reliable no_timer_check systemd.mask=serial-getty@ttyS0.service" \
            >qemu 2>&1 3>&- || return 0
    done
    cat qemu
    return 1
}

teardown_file() { [ ! -e "$BATS_FILE_TMPDIR/pid" ] || kill "$(cat "$BATS_FILE_TMPDIR/pid")"; }

setup() { cd "$BATS_FILE_TMPDIR" || return; }

on_guest() {
    ssh -n -F none -i key -p "$(cat port)" -o StrictHostKeyChecking=no -o UserKnownHostsFile=known -o LogLevel=ERROR \
        -o BatchMode=yes -o ConnectTimeout=20 mpi@127.0.0.1 "$@" 3>&-
}

@test "cloud-init installs and configures a guest when it first boots" {
    local deadline=$((SECONDS + 1500))
    until on_guest true 2>/dev/null; do
        ((SECONDS < deadline)) || { tail -n 40 console; return 1; }
        sleep 3
    done
    run timeout 1500 ssh -n -F none -i key -p "$(cat port)" -o StrictHostKeyChecking=no -o UserKnownHostsFile=known \
        -o LogLevel=ERROR mpi@127.0.0.1 cloud-init status --wait --long
    echo "$output"
    [[ $output == *"status: done"* ]] || { tail -n 60 console; return 1; }
    [ "$(on_guest hostname)" = node0 ]
    [[ " $(on_guest id -nG) " == *" ivshmem "* ]]
    [ "$(on_guest "stat -Lc '%a %G' /sys/bus/pci/devices/*/resource2 | sort -u | grep ivshmem")" = "660 ivshmem" ]
    on_guest test -e /etc/systemd/system/multi-user.target.wants/ivshmem-reap.service
}

@test "its user runs a job through the region" {
    ssh -F none -i key -p "$(cat port)" -o StrictHostKeyChecking=no -o UserKnownHostsFile=known -o LogLevel=ERROR \
        mpi@127.0.0.1 "cat >exchange && chmod +x exchange" <exchange 3>&-
    on_guest ivshmem info
    on_guest "MPIR_CVAR_NOLOCAL=1 MPIR_CVAR_NEMESIS_IVSHMEM_STATS=1 mpiexec -n 2 ./exchange 7" >out 2>&1
    awk '/messages_sent=/ { ranks++; sub(/.*messages_sent=/, ""); few += $1 + 0 < 10 } END { exit few || ranks != 2 }' out ||
        { cat out; return 1; }
    [ "$(grep -c '^exchange: rank=.* good$' out)" -eq 2 ] || { cat out; return 1; }
    ivshmem check region
}
