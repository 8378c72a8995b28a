# SPDX-License-Identifier: mpich2
"""A guest's QEMU: its command line, which is kept in the set's folder, and starting it, also again."""
import os
import random
from pathlib import Path
from typing import NamedTuple

from . import commands, servers
from .folder import Folder
from .messages import ME, Failure
from .options import MIB, Options

PORTS = range(20000, 32000)
TRIES = 20
SETTINGS = "opt/ivshmem-vms"  # for a guest with an image: their name in QEMU's fw_cfg


class Parts(NamedTuple):
    """What all guests of a set are made of."""

    kernel: str
    initramfs: Path
    regions: list[str]
    image: str = ""  # of a disk, if they have one


def _processor(options: Options) -> list[str]:
    if options.acceleration == "kvm":
        return ["-accel", "kvm", "-cpu", "max"]
    # With erms, glibc copies by rep movsb, which TCG executes byte by byte.
    return ["-accel", "tcg,thread=multi", "-cpu", "max,-erms,-fsrm"]


def mac(guest: int) -> str:
    """All but the last part, which tells what is at the other end."""
    return f"52:54:00:4d:{guest:02x}"


def _links(folder: Folder, guest: int, vms: int) -> list[str]:
    """A network card for each other guest, over a socket at which the guest with the lower number listens."""
    args = []
    for peer in (peer for peer in range(vms) if peer != guest):
        server = "on" if guest < peer else "off"
        path = folder / f"link-{min(guest, peer)}-{max(guest, peer)}"
        args += ["-netdev", f"stream,id=vm{peer},server={server},addr.type=unix,addr.path={path}",
                 "-device", f"virtio-net-pci,romfile=,netdev=vm{peer},mac={mac(guest)}:{peer:02x}"]
    return args


def _kernel_args(options: Options, guest: int, region: str, uuid: str) -> str:
    args = ["console=ttyS0", "quiet", "panic=0"]
    if options.image:
        args += ["root=/dev/vda", "rw", f"systemd.hostname=vm{guest}", f"systemd.machine_id={uuid.replace('-', '')}",
                 "systemd.mask=serial-getty@ttyS0.service", "systemd.default_timeout_start_sec=1200"]
    if options.acceleration != "kvm":
        # Kernels distrust TCG's time stamp counter, and then each look at the clock leaves the guest.
        args.append("tsc=reliable")
        # And they count the timer's ticks for some milliseconds, when a busy host may not run QEMU: then they panic.
        args.append("no_timer_check")
        if options.image:  # what else they say of a busy host would be at the end of the console
            args += ["nowatchdog", "rcupdate.rcu_cpu_stall_suppress=1"]
    return " ".join([*args, f"vm={guest}", f"region={region}", f"region_size={options.size}"])


def command_line(folder: Folder, options: Options, parts: Parts, guest: int, uuid: str) -> list[str]:
    """All but the port from which ssh is forwarded."""
    number = guest % len(parts.regions)
    region = "" if guest in options.no_device else parts.regions[number]
    disk = []
    if parts.image:
        disk = ["-drive", f"if=virtio,format=qcow2,cache=unsafe,file={folder.of_guest(guest, 'disk')}",
                "-fw_cfg", f"name={SETTINGS},file={folder.of_guest(guest, 'settings')}"]
    args = ["qemu-system-x86_64", "-name", f"{ME}-{guest}", "-M", "q35", *_processor(options),
            "-m", f"{options.memory // MIB}M",
            # With one possible CPU, TCG's atomic operations are not atomic.
            "-smp", f"{options.cpus},maxcpus={max(options.cpus, 2)}",
            "-uuid", uuid,  # with it, a reboot proves that the processes before it are dead
            "-nodefaults", "-display", "none", "-daemonize", "-pidfile", str(folder.of_guest(guest, "pid")),
            "-chardev", f"file,id=console,append=on,path={folder.of_guest(guest, 'console')}",
            "-serial", "chardev:console", "-qmp", f"unix:{folder.of_guest(guest, 'qmp')},server=on,wait=off",
            *_links(folder, guest, options.vms), *disk]
    if region and options.server:
        args += ["-chardev", f"socket,id=server,path={servers.socket(folder, number)}",
                 "-device", f"ivshmem-doorbell,chardev=server,vectors={options.vectors}"]
    elif region:
        args += ["-object", f"memory-backend-file,id=region,share=on,mem-path={region},size={options.size}",
                 "-device", "ivshmem-plain,memdev=region"]
    return [*args, "-kernel", parts.kernel, "-initrd", str(parts.initramfs),
            "-append", _kernel_args(options, guest, region, uuid),
            "-device", f"virtio-net-pci,romfile=,netdev=host,mac={mac(guest)}:ff", *options.qemu_args]


def start(folder: Folder, guest: int) -> str:
    """Starts the guest with the command line that is kept; returns what QEMU says if it does not start."""
    folder.of_guest(guest, "console").write_bytes(b"")
    args = folder.of_guest(guest, "qemu").read_bytes().split(b"\0")[:-1]
    try:
        # In a session of its own: a Ctrl-C is for this program, which ends it if need be.
        status, said = commands.run(args, both=True, start_new_session=True)
    except FileNotFoundError as error:
        return f"{os.fsdecode(args[0])}: {error.strerror}"
    text = os.fsdecode(said).strip()
    return (text or f"its exit status is {status}") if status != 0 else ""


def _random_uuid() -> str:
    return Path("/proc/sys/kernel/random/uuid").read_text(encoding="ascii").strip()


def first_start(folder: Folder, options: Options, parts: Parts, guest: int) -> int:
    """Starts the guest, and returns the port for ssh. If another process takes that port first, QEMU says so."""
    args = command_line(folder, options, parts, guest, _random_uuid())
    said = ""
    for _ in range(TRIES):
        port = random.choice(PORTS)
        forward = f"user,id=host,ipv6=off,hostfwd=tcp:127.0.0.1:{port}-:22"
        kept = "".join(f"{arg}\0" for arg in [*args, "-netdev", forward])
        folder.of_guest(guest, "qemu").write_bytes(os.fsencode(kept))
        said = start(folder, guest)
        if not said:
            return port
        if "host forwarding rule" not in said:
            break
    raise Failure(f"QEMU did not start vm{guest}: {said}")
