# SPDX-License-Identifier: mpich2
"""The regions: files in /dev/shm that guests share, and links to them in the set's folder."""
import os
import random
import re
import string

from . import interrupts
from .folder import Folder
from .messages import ME, Failure

SHM = "/dev/shm"
MIB = 1 << 20
PIECE = 256 * MIB  # allocated at once, between two checks for a signal


def _memory_available() -> int:
    with open("/proc/meminfo", encoding="ascii") as file:
        return int(re.search(r"^MemAvailable: *(\d+) kB", file.read(), re.M)[1]) << 10


def check_room(size: int, count: int, memory: int, vms: int) -> None:
    shm = os.statvfs(SHM)
    available = shm.f_bavail * shm.f_frsize
    if available < size * count:
        raise Failure(f"{SHM} has {available // MIB} MiB left, but "
                      f"the shared memory needs {size * count // MIB} MiB: pass a smaller --size")
    available, needed = _memory_available(), size * count + memory * vms
    if available < needed:
        raise Failure(f"this machine has {available // MIB} MiB of memory available, but "
                      f"the guests need {needed // MIB} MiB: pass a smaller --memory")


def _make(path: str, size: int) -> None:
    with open(path, "xb") as file:
        # All of its memory: a guest that touches memory which cannot be allocated ends, with its QEMU.
        for offset in range(0, size, PIECE):
            interrupts.check()
            try:
                os.posix_fallocate(file.fileno(), offset, min(PIECE, size - offset))
            except OSError as error:
                raise Failure(f"cannot allocate {size // MIB} MiB for {path} ({error.strerror}): "
                              "pass a smaller --size") from None


def make(folder: Folder, size: int, count: int) -> list[str]:
    """Creates `count` of them, with names that nobody can guess; returns their paths."""
    paths = []
    for number in range(count):
        name = "".join(random.SystemRandom().choices(string.ascii_letters + string.digits, k=8))
        paths.append(f"{SHM}/{ME}-{name}")
        # The link first, so that no file is left without a link to it.
        (folder / f"region{number}").symlink_to(paths[number])
        _make(paths[number], size)
    (folder / "region").symlink_to("region0")
    return paths


def linked(folder: Folder) -> list[str]:
    """The targets of the links in the folder, which may not be regions."""
    return [os.readlink(link) for link in folder.path.glob("region*") if link.is_symlink()]


def remove(paths) -> None:
    """Removes those of them that are regions."""
    for path in paths:
        if re.fullmatch(f"{SHM}/{ME}-[A-Za-z0-9]+", path):
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
