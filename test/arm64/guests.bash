# SPDX-License-Identifier: mpich2
# shellcheck shell=bash disable=SC2154 # src and out are the script's
#
# Sourced by build-aux/check-arm64. Two emulated arm64 machines, vm0 and vm1, share a region through ivshmem-plain, and
# have a network between them, as the guests of ivshmem-vms do: their scripts are tools/vms/guest. Their programs are of
# Debian's packages for arm64, unpacked in the cache.

guests=$out/guests # what QEMU and ssh need
guest_packages=(busybox-static dropbear-bin libc6 libgcc-s1 libcmocka0 libcrypt1 libtomcrypt1 libtommath1 libgmp10 zlib1g)
guest_modules=(virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci failover net_failover virtio_net)
# One with atomic instructions, one without.
guest_cpus=("max,pauth-impdef=on" cortex-a57)

# fetch_guest: puts the packages' files into the folder root of $guest_files, and the kernel beside it.
fetch_guest() {
    local kernel file module new=$guest_files.new.$$
    mkdir -p "$new/debs" "$new/root"
    cd "$new/debs" || return
    kernel=$(apt-cache depends linux-image-cloud-arm64:arm64 | sed -n 's/.*Depends: \(linux-image-[0-9]\)/\1/p')
    apt-get -q -o APT::Sandbox::User= download "${guest_packages[@]/%/:arm64}" "${kernel:-linux-image-cloud-arm64:arm64}" || return
    for file in linux-image-*; do dpkg-deb -x "$file" ../kernel && rm "$file" || return; done
    for file in *; do dpkg-deb -x "$file" ../root || return; done
    cd "$new" || return
    rm -rf debs root/usr/share root/usr/lib/*/gconv
    mv kernel/boot/vmlinuz-* vmlinuz || return
    mkdir root/modules
    for module in "${guest_modules[@]}"; do
        find kernel -name "$module.ko" -exec mv {} root/modules \;
        [ -e "root/modules/$module.ko" ] || { echo "the kernel package has no $module.ko"; return 1; }
    done
    printf '%s.ko\n' "${guest_modules[@]}" >root/modules/order
    rm -rf kernel
    mv -T "$new" "$guest_files" 2>/dev/null || rm -rf "$new" # another process was faster
}
guest_files=$cache/arm64/guest-$({ declare -f fetch_guest && echo "${guest_packages[@]}" "${guest_modules[@]}"; } | sha256sum | cut -c 1-20)

# make_guest INSTALLATION FOLDER: the initramfs, with that installation of MPICH in /usr, and that folder as /test.
make_guest() {
    local tree=$guests/tree key public
    rm -rf "$guests"
    mkdir -p "$tree"
    cp -a "$guest_files/root/." "$tree"
    mkdir -p "$tree"/{dev,proc,sys,tmp,run,var/run,root/.ssh,usr/bin,etc/dropbear}
    cp -a "$1/bin" "$1/lib" "$tree/usr"
    cp -a "$2" "$tree/test"
    cp "$src/tools/vms/guest/init" "$tree/init"
    cp "$src/tools/vms/guest/ssh" "$tree/usr/bin"
    # Where test_layout looks for it.
    mkdir -p "$tree$src/test/unit"
    cp "$src"/test/unit/golden-*.hex "$tree$src/test/unit"

    echo "root:x:0:0:root:/root:/bin/sh" >"$tree/etc/passwd"
    echo "root:x:0:" >"$tree/etc/group"
    echo "hosts: files" >"$tree/etc/nsswitch.conf"
    echo "::ctrlaltdel:/sbin/reboot" >"$tree/etc/inittab"
    printf '%s\n' "127.0.0.1 localhost" "10.77.0.1 vm0" "10.77.0.2 vm1" >"$tree/etc/hosts"

    ssh-keygen -q -t ed25519 -N '' -C '' -f "$guests/key" || return
    dropbearconvert openssh dropbear "$guests/key" "$tree/etc/dropbear/key" || return
    read -r key public _ <"$guests/key.pub"
    printf '%s\n' "vm0 $key $public" "vm1 $key $public" | tee "$guests/known_hosts" >"$tree/root/.ssh/known_hosts"
    cp "$guests/key.pub" "$tree/root/.ssh/authorized_keys"
    chmod 700 "$tree/root" "$tree/root/.ssh"
    chmod 600 "$tree/root/.ssh/authorized_keys" "$tree/etc/dropbear/key"

    (cd "$tree" && find . | cpio -o -H newc -R 0:0 --quiet) >"$guests/initramfs" || return
    rm -rf "$tree"
}

# start_guest NUMBER: prints the port for ssh. QEMU fails if somebody else has it.
start_guest() {
    local port try server=(on off) mac=52:54:00:4d:0$1
    for try in {1..20}; do
        port=$((20000 + RANDOM % 12000))
        # With one possible CPU, the emulator's atomic operations are not atomic.
        ! qemu-system-aarch64 -name "ivshmem-arm64-$1" -M virt -accel tcg,thread=multi -cpu "${guest_cpus[$1]}" \
            -smp 2 -m 1G -nodefaults -display none -daemonize -pidfile "$guests/vm$1.pid" \
            -chardev "file,id=console,path=$guests/vm$1.console" -serial chardev:console \
            -netdev "stream,id=peer,server=${server[$1]},addr.type=unix,addr.path=$sockets/link" \
            -device "virtio-net-pci,romfile=,netdev=peer,mac=$mac:0$((1 - $1))" \
            -netdev "user,id=host,ipv6=off,restrict=on,hostfwd=tcp:127.0.0.1:$port-:22" \
            -device "virtio-net-pci,romfile=,netdev=host,mac=$mac:ff" \
            -object "memory-backend-file,id=region,share=on,mem-path=$region,size=$region_size" \
            -device ivshmem-plain,memdev=region \
            -kernel "$guest_files/vmlinuz" -initrd "$guests/initramfs" \
            -append "console=ttyAMA0 quiet panic=0 vm=$1 region=" || break
    done
    echo "vm$1 was started in attempt $try" >&2
    [ -e "$guests/vm$1.pid" ] && echo "$port"
}

# boot_guests: until both answer.
boot_guests() {
    local vm port console tries=0
    for vm in 0 1; do
        port=$(start_guest $vm) || return
        cat >>"$guests/ssh_config" <<END
Host vm$vm
    HostName 127.0.0.1
    HostKeyAlias vm$vm
    Port $port
    User root
    IdentityFile $guests/key
    IdentitiesOnly yes
    UserKnownHostsFile $guests/known_hosts
    BatchMode yes
    LogLevel ERROR
END
    done
    for vm in 0 1; do
        console=$guests/vm$vm.console
        until grep -q "^ivshmem-vms: ready" "$console"; do
            if grep "^ivshmem-vms: FAILED\|Kernel panic" "$console" || [ $((tries++)) -ge 600 ]; then
                echo "vm$vm does not come up; the end of its console:"
                tail -n 20 "$console"
                return 1
            fi
            sleep 1
        done
    done
    for vm in 0 1; do
        ssh -F "$guests/ssh_config" vm$vm "uname -a; grep -m 1 Features /proc/cpuinfo; ping -c 1 -W 20 vm$((1 - vm))" || return
    done
}

end_guests() {
    local file
    for file in "$guests"/vm?.pid; do
        [ ! -e "$file" ] || kill -KILL "$(cat "$file")" 2>/dev/null || :
    done
    rm -rf "$guests" "$sockets" "$region"
}
