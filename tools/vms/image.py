# SPDX-License-Identifier: mpich2
"""Images of disks, for guests that have a Debian of their own: making one, looking into one.

An image is a file system, ext4, with nothing around it: debugfs reads it, without root and without mounting it.
"""
import glob
import os
import re
import shutil
import subprocess
import tempfile
from typing import Optional

from . import commands, interrupts, options
from .folder import Folder
from .messages import ME, Failure, quoted, say

SIZE = "8G"  # of the disk; the file has holes
USER = "mpi"
MAKERS = {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs"}
DEBIAN = "systemd-sysv,udev,kmod,linux-image-cloud-amd64,initramfs-tools,zstd,openssh-server,openssh-client," \
         "iputils-ping"
# What a guest needs of the packages of a release, and what it takes as well if it is there.
NEEDED = ("mpich-ivshmem", "ivshmem-tools", "ivshmem-guest")
WELCOME = ("libivshmem0", "libivshmem-malloc", "mpich-ivshmem-dbgsym")
SETTINGS = """[Unit]
Description=Settings of ivshmem-vms for this machine
DefaultDependencies=no
After=systemd-remount-fs.service systemd-modules-load.service
Before=sysinit.target systemd-sysctl.service systemd-networkd.service ssh.service network-pre.target
Wants=network-pre.target

[Service]
Type=oneshot
ExecStart=sh -c '\\
    modprobe -q qemu_fw_cfg; cd /sys/firmware/qemu_fw_cfg/by_name/opt/ivshmem-vms || exit 0; cat raw | tar -C / -x'

[Install]
WantedBy=sysinit.target
"""
READY = """[Unit]
Description=Tell ivshmem-vms that this machine is ready
After=ivshmem-vms-settings.service ivshmem-reap.service ssh.service network-online.target systemd-user-sessions.service
Wants=network-online.target
ConditionPathExists=/usr/local/lib/ivshmem-vms/ready

[Service]
Type=oneshot
ExecStart=/usr/local/lib/ivshmem-vms/ready
StandardOutput=file:/dev/console
StandardError=inherit

[Install]
WantedBy=multi-user.target
"""
# In the new system: $1 is the user. Whatever tells systems apart is made at boot.
SET_UP = """set -eu
systemctl -q enable systemd-networkd ivshmem-vms-settings ivshmem-vms-ready
systemctl -q mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap
useradd -m -s /bin/bash "$1"
! getent group ivshmem >/dev/null || usermod -aG ivshmem "$1"
# What was added there stays when a guest boots again.
echo 'q /tmp 1777 root root' >/etc/tmpfiles.d/tmp.conf
# An emulated guest on a busy host takes its time.
mkdir /etc/systemd/system/ivshmem-reap.service.d
printf '[Service]\\nTimeoutStartSec=1200\\n' >/etc/systemd/system/ivshmem-reap.service.d/slow.conf
ln -f /boot/vmlinuz-* /boot/vmlinuz
ln -f /boot/initrd.img-* /boot/initrd.img
rm -f /etc/ssh/ssh_host_* /etc/hostname /etc/resolv.conf
: >/etc/machine-id
"""


def _chosen(folder: str) -> list[str]:
    """The packages in this folder that a guest needs."""
    chosen = []
    for name in NEEDED + WELCOME:
        found = glob.glob(f"{glob.escape(folder)}/{name}_*.deb")
        if len(found) > 1:
            raise Failure(f"--packages {folder}: there are {len(found)} packages {name}, of several versions: "
                          "leave one")
        if not found and name in NEEDED:
            raise Failure(f"--packages {folder}: there is no package {name}: make deb makes it")
        chosen += found
    return chosen


def _release() -> str:
    with open("/etc/os-release", encoding="utf-8") as file:
        found = re.search(r"^VERSION_CODENAME=(\w+)", file.read(), re.M)
    if not found:
        raise Failure("an image has the Debian release of this machine, and /etc/os-release names none")
    return found[1]


def _debian(work: str, packages: list[str], include: str) -> str:
    """A folder with a new system."""
    tree, inside = f"{work}/tree", f"{work}/packages"
    os.mkdir(inside)
    os.chmod(work, 0o755)  # _apt reads it
    for package in packages:
        shutil.copy(package, inside)
    for name, text in (("settings", SETTINGS), ("ready", READY)):
        with open(f"{work}/{ME}-{name}.service", "w", encoding="ascii") as file:
            file.write(text)
    units = " ".join(quoted(f"{work}/{ME}-{name}.service") for name in ("settings", "ready"))
    hooks = [f"copy-in {units} /etc/systemd/system"]
    if packages:
        hooks += [f"copy-in {quoted(inside)} /tmp",
                  'chroot "$1" sh -c "DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install '
                  '/tmp/packages/*.deb >/tmp/log || { cat /tmp/log; exit 1; }; rm -r /tmp/log /tmp/packages"']
    hooks.append(f'chroot "$1" sh -c {quoted(SET_UP)} sh {USER}')
    # Whatever ends mmdebstrap ends all that it has started, before the folder is removed.
    made = commands.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "mmdebstrap",
                         "--quiet", "--mode=root", "--variant=minbase",
                         f"--include={','.join(filter(None, (DEBIAN, include)))}",
                         *(f"--customize-hook={hook}" for hook in hooks), _release(), tree], stdout=2)
    if made.status != 0:
        raise Failure("mmdebstrap failed; what it said is above")
    return tree


def make(file: str, packages: Optional[str], include: str) -> int:
    """Makes the image in place of whatever is there, once it is complete."""
    if os.geteuid() != 0:
        raise Failure("only root can make an image, as it owns the files in it; `up` needs no root")
    options.check_programs(MAKERS)
    chosen = [] if packages is None else _chosen(packages)
    where = os.path.dirname(os.path.abspath(file))
    if not os.path.isdir(where):
        raise Failure(f"{where}: no such directory")
    interrupts.note()
    os.umask(0o022)  # also for the new system
    with tempfile.TemporaryDirectory(prefix=f".{ME}.", dir=where) as work:
        say(f"making {file}, which takes some minutes")
        tree = _debian(work, chosen, include)
        formatted = commands.run(["mke2fs", "-q", "-t", "ext4", "-L", ME, "-d", tree, f"{work}/image", SIZE], both=True)
        if formatted.status != 0:
            raise Failure(f"mke2fs failed: {os.fsdecode(formatted.output).strip()}")
        os.rename(f"{work}/image", file)
    return 0


# --- using one ---

def _ask(file: str, command: str) -> bytes:
    return commands.run(["debugfs", "-R", command, file], stderr=subprocess.DEVNULL).output


def _has(file: str, path: str) -> bool:
    return b"Type: " in _ask(file, f'stat "{path}"')


def _version(status: str) -> str:
    """Of MPI, without the revision of the package; "" if dpkg's records say that it is not installed."""
    for stanza in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Package") == "mpich-ivshmem" and fields.get("Status") == "install ok installed":
            return re.sub("-[^-]*$", "", fields.get("Version", "").split(":")[-1])
    return ""


def check(file: str, prefix: str) -> None:
    """Whether guests with this image can run jobs together with the MPI that is installed here in `prefix`."""
    if not (os.path.isfile(file) and os.access(file, os.R_OK)):
        raise Failure(f"--image {file}: no such file, or no permission to read it")
    again = f"make one by {ME} image {file} --packages DIR"
    if not (_has(file, "/boot/vmlinuz") and _has(file, f"/etc/systemd/system/{ME}-ready.service")):
        raise Failure(f"--image {file}: not an image that {ME} can boot: {again}")
    if not _has(file, "/usr/sbin/sshd"):
        raise Failure(f"--image {file}: it has no ssh server, without which nothing can be started in guests: install "
                      f"openssh-server in it, or {again}")
    version = _version(_ask(file, "cat /var/lib/dpkg/status").decode(errors="replace"))
    if not version:
        raise Failure(f"--image {file}: mpich-ivshmem is not installed in it: {again}")
    said = commands.run([f"{prefix}/bin/ivshmem", "--version"]).output.decode(errors="replace")
    here = re.search(r"\) ([^ ,]+)", said)
    if not here or here[1] != version:
        raise Failure(f"--image {file} has mpich-ivshmem {version}, and {prefix} on this machine "
                      f"{here[1] if here else 'no version'}: jobs on both need the same release. Pass another "
                      f"--prefix, or {again}, with the packages of that release")
    if not _has(file, f"{prefix}/bin/hydra_pmi_proxy"):
        raise Failure(f"--image {file}: it has no MPI in {prefix}, where mpiexec on this machine looks for it in "
                      "guests: install the same packages here, or pass the --prefix of those that are installed")


def prepare(file: str, folder: Folder, guests: int) -> tuple[str, str]:
    """Makes the guests' disks, which record what differs from the image. Returns the image's kernel and initramfs."""
    for guest in range(guests):
        made = commands.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", os.path.abspath(file),
                             str(folder.of_guest(guest, "disk"))], both=True)
        if made.status != 0:
            raise Failure(f"qemu-img failed to create a disk on {file}: {os.fsdecode(made.output).strip()}")
    for name, inside in (("kernel", "/boot/vmlinuz"), ("initramfs", "/boot/initrd.img")):
        _ask(file, f'dump "{inside}" "{folder / name}"')
        if not (folder / name).exists():
            raise Failure(f"--image {file}: debugfs cannot read {inside} in it")
    return str(folder / "kernel"), str(folder / "initramfs")
