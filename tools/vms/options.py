# SPDX-License-Identifier: mpich2
"""The options of `up`, checked: numbers, sizes, the MPI installation, the programs that it needs."""
import glob
import os
import re
from typing import Optional

from . import commands
from .folder import MOST_VMS
from .messages import Failure, Misuse

MIB = 1 << 20
LEAST_MEMORY = 128 * MIB
LEAST_REGION = 4 * MIB
# Of the MPICH that build-aux/install-mpich has installed in a prefix. `make` puts configure's data directory here.
LIST = "share/mpich-ivshmem/mpich-files"
PROGRAMS = {  # and the packages that have them
    "qemu-system-x86_64": "qemu-system-x86",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "busybox": "busybox-static",
    "dropbear": "dropbear-bin",
    "dbclient": "dropbear-bin",
    "cpio": "cpio",
}
OF_IMAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "qemu-img": "qemu-utils",
    "debugfs": "e2fsprogs",
}


def number(text: str, what: str, least: int, most: int) -> int:
    if re.fullmatch("0|[1-9][0-9]{0,5}", text) and least <= int(text) <= most:
        return int(text)
    raise Misuse(f"{what} {text or '(nothing)'}: must be a number from {least} to {most}")


def seconds(text: str) -> int:
    return number(text, "--timeout", 1, 86400)


def _bytes(text: str, option: str) -> int:
    """64M is 64 * 2^20, and so is 64Mi or 64MB; a fraction of a byte is rounded up."""
    found = re.fullmatch(r"([0-9]*)(?:\.([0-9]+))?([KMGTPE]?)[iB]?", text)
    if not found or not (found[1] or found[2]):
        raise Misuse(f"{option} {text}: not a size such as 64M")
    decimals = found[2] or ""
    unit = 1 << 10 * (" KMGTPE".index(found[3]) if found[3] else 0)
    return -(-int(found[1] + decimals) * unit // 10 ** len(decimals))


def _region_size(text: str) -> int:
    size = _bytes(text, "--size")
    if size < LEAST_REGION or size & (size - 1):
        raise Misuse(f"--size {text}: must be a power of two, as PCI requires, and 4M or more")
    return size


def _memory_size(text: str) -> int:
    memory = _bytes(text, "--memory")
    if memory < LEAST_MEMORY:
        raise Misuse(f"--memory {memory // MIB}M: a guest needs {LEAST_MEMORY // MIB}M or more")
    return memory


def _processor_can_kvm() -> bool:
    """/dev/kvm can exist on a processor without virtualisation."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        return bool(re.search(r"\b(vmx|svm)\b", file.read())) and os.access("/dev/kvm", os.R_OK | os.W_OK)


def _acceleration(text: str) -> str:
    if text == "auto":
        return "kvm" if _processor_can_kvm() else "tcg"
    if text not in ("kvm", "tcg"):
        raise Misuse(f"--accel {text}: must be auto, kvm or tcg")
    return text


def check_programs(needed: dict[str, str]) -> None:
    missing = [program for program in needed if not commands.find(program)]
    if missing:
        packages = dict.fromkeys(needed[program] for program in missing)
        raise Failure(f"programs are missing: {' '.join(missing)}; on Debian, as root: "
                      f"apt-get install {' '.join(packages)}")


def _is_installation(prefix: str) -> bool:
    return all(os.access(f"{prefix}/bin/{program}", os.X_OK) for program in ("mpiexec", "hydra_pmi_proxy"))


def is_shared(prefix: str) -> bool:
    """Whether it holds more than an MPI installation."""
    return prefix in ("/", "/usr", "/usr/local")


def own_files(prefix: str) -> list[str]:
    """The programs and libraries that `make install` has put there, by the list that it leaves; none without a list."""
    try:
        with open(os.path.join(prefix, LIST), encoding="utf-8", errors="surrogateescape") as file:
            listed = [os.path.normpath(os.path.join(prefix, line)) for line in file.read().split("\n") if line]
    except OSError:
        return []
    # The list has only what was MPICH's.
    folders = {os.path.basename(path): os.path.dirname(path) for path in listed}
    programs, libraries = folders.get("hydra_pmi_proxy"), folders.get("libmpi.so.12")
    listed += [f"{programs}/{tool}" for tool in ("ivshmem", "ivshmem-env", "ivshmem-which")]
    listed += glob.glob(f"{glob.escape(str(libraries))}/libivshmem-malloc.so*")
    return [path for path in listed if os.path.lexists(path)
            and (os.path.dirname(path) == programs or ".so" in os.path.basename(path))]


def find_prefix(given: str, here: str) -> str:
    """The MPI installation: the given one, else the one of ivshmem-vms, whose folder is `here`."""
    above = os.path.dirname(here)
    built = os.path.join(above, "inst")
    prefix = given
    for candidate in (built, above):
        if not prefix and os.access(f"{candidate}/bin/hydra_pmi_proxy", os.X_OK):
            prefix = candidate
    if not prefix:
        raise Failure(f"no MPI installation in {built}: build it with make stage, or pass --prefix DIR")
    if not _is_installation(prefix):
        raise Failure(f"{prefix} is not an MPICH installation: it lacks bin/mpiexec or bin/hydra_pmi_proxy")
    prefix = os.path.realpath(prefix)
    if "\n" in prefix:
        raise Failure(f"the path {prefix} contains a line break: pass another --prefix")
    if is_shared(prefix) and not own_files(prefix):
        raise Failure(f"{prefix} holds more than an MPI installation, and {os.path.join(prefix, LIST)} does not say "
                      "which files are MPICH's: use the ivshmem-vms that is installed there, install mpich-ivshmem "
                      "there again, or pass a --prefix that holds only MPICH")
    return prefix


def existing(paths: list[str]) -> list[str]:
    """Absolute paths of files that exist; links are not followed."""
    for path in paths:
        if not os.access(path, os.R_OK):
            raise Failure(f"{path}: no such file or directory, or no permission to read it")
    return ["/" + os.path.abspath(path).lstrip("/") for path in paths]


def module(path: Optional[str]) -> Optional[str]:
    """The file of a kernel module; whether it is one for the guests' kernel is seen when they boot."""
    if path is not None and not (os.path.isfile(path) and os.access(path, os.R_OK)):
        raise Failure(f"--driver {path}: no such file, or no permission to read it")
    return path


class Options:
    def __init__(self, vms: str, given: dict, add: list[str], qemu_args: list[str]):
        """`given` has the text of each option that may be given once."""
        def text(option: str, default: str) -> str:
            return given.get(option, default)

        self.vms = number(vms, "up", 1, MOST_VMS)
        self.cpus = number(text("--cpus", "1"), "--cpus", 1, 64)
        self.regions = number(text("--regions", "1"), "--regions", 1, self.vms)
        self.image: Optional[str] = given.get("--image")
        self.timeout = seconds(text("--timeout", default_timeout(self.image is not None)))
        self.size = _region_size(text("--size", "64M"))
        self.memory = _memory_size(text("--memory", "512M"))
        self.no_device = {number(guest, "--no-device", 0, self.vms - 1)
                          for guest in text("--no-device", "").replace(",", " ").split()}
        self.acceleration = _acceleration(text("--accel", "auto"))
        self.prefix: Optional[str] = given.get("--prefix")
        self.driver: Optional[str] = given.get("--driver")
        self.server = "--server" in given
        self.vectors = self.cpus  # of a server's device: one for each rank
        self.add = add
        self.qemu_args = qemu_args
        if self.image is not None and self.driver is not None:
            raise Misuse("--driver and --image cannot be combined: an image has its own modules, by DKMS for example")
        machine = os.uname().machine
        if machine != "x86_64":
            raise Failure("guests are built from this machine's files and must be x86_64, but this machine is "
                          f"{machine}")


def default_timeout(has_image: bool) -> str:
    """A system of its own takes minutes to boot if it is emulated."""
    return "1200" if has_image else "180"
