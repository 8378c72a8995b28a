# SPDX-License-Identifier: mpich2
"""Files and folders with all that they need, as an archive that a guest unpacks at /.

Each path is the same there as here, so what a link leads to, and the folders above, are needed as well.
"""
import os
import re
import stat
import subprocess
from typing import Iterable, Iterator

from . import commands, interrupts
from .messages import Failure, say

ELF = b"\x7fELF"
AT_ONCE = 500  # files that ldd is given
MOST_LINKS = 40  # as in the kernel


def trace(path: str) -> Iterator[str]:
    """An absolute path, the folders above it, and the targets of links among them."""
    at, links = "", 0
    ahead = path.split("/")[::-1]
    while ahead:
        part = ahead.pop()
        if part == "..":
            at = os.path.dirname(at).rstrip("/")
        elif part not in ("", "."):
            at = f"{at}/{part}"
            yield at
            if os.path.islink(at):
                links += 1
                if links > MOST_LINKS:
                    raise Failure(f"cannot add {path}: its symbolic links form a loop")
                target = os.readlink(at)
                ahead += target.split("/")[::-1]
                at = "" if target.startswith("/") else os.path.dirname(at).rstrip("/")


def _below(folder: str) -> Iterator[str]:
    """All paths in a folder; links in it are not followed."""
    for at, folders, files in os.walk(folder, onerror=_fail):
        interrupts.check()
        for name in folders + files:
            yield os.path.join(at, name)


def _fail(error: OSError) -> None:
    raise error


def _may_need_libraries(path: str) -> bool:
    """Whether it is a program or a shared library, not a link: the target of a link is a path of its own."""
    mode = os.lstat(path).st_mode if os.path.lexists(path) else 0
    if not stat.S_ISREG(mode) or not (mode & 0o111 or ".so" in os.path.basename(path)):
        return False
    with open(path, "rb") as file:
        return file.read(len(ELF)) == ELF


def _libraries(files: list[str]) -> set[str]:
    """All that the dynamic linker would load for these."""
    libraries = set()
    for first in range(0, len(files), AT_ONCE):
        some = files[first:first + AT_ONCE]
        # It fails if one of them is linked statically.
        said = commands.run(["ldd", *some], stderr=subprocess.DEVNULL).output
        file = some[0]  # ldd names each file if there are several
        for line in os.fsdecode(said).split("\n"):
            if line.endswith(":"):
                file = line[:-1]
            elif "not found" in line:
                say(f"{file}: its library {line.split()[0]} is not on this machine, so the guests lack it too")
            elif found := re.search(r"/.*(?= \(0x)", line):
                libraries.add(found[0])
    return libraries


def closure(paths: Iterable[str]) -> list[str]:
    """Every path that a guest needs for these files and folders, parents first."""
    needed: set[str] = set()
    for path in paths:
        needed.update(trace(path))
        if os.path.isdir(path):
            needed.update(_below(os.path.realpath(path)))
    for library in _libraries(sorted(filter(_may_need_libraries, needed))):
        needed.update(trace(library))
    return sorted(filter(os.path.lexists, needed))


def write(out, root: str, names: Iterable[str]) -> None:
    """Appends an archive of these names below the folder `root` to the open file `out`."""
    cpio = ["cpio", "-0", "-o", "-H", "newc", "-R", "0:0", "--renumber-inodes", "--quiet"]
    given = b"".join(os.fsencode(name) + b"\0" for name in names)
    if commands.run(cpio, given, cwd=root, stdout=out).status != 0:
        raise Failure("cpio failed to archive the files for the guests")


def write_bare(out, paths: Iterable[str], user: str) -> None:
    """Appends an archive, by tar, of these files and folders alone, as this user's."""
    tar = ["tar", "-C", "/", "-c", "--hard-dereference", f"--owner={user}", f"--group={user}", "--"]
    targets = dict.fromkeys(place for path in paths for place in (path, os.path.realpath(path)))
    if commands.run([*tar, *(f".{path}" for path in targets)], stdout=out).status != 0:
        raise Failure("tar failed to archive the files for the guests")


def write_tree(out, root: str) -> None:
    """Appends an archive of all that is in the folder `root`."""
    write(out, root, [".", *sorted(os.path.relpath(path, root) for path in _below(root))])


def write_closure(out, paths: Iterable[str]) -> None:
    """Appends an archive of these files and folders and of what they need."""
    write(out, "/", (path[1:] for path in closure(paths)))
