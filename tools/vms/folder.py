# SPDX-License-Identifier: mpich2
"""The folder of a set of guests: its path, whether it can be trusted, its records.

What the folder says is trusted: what to kill, what to remove, which programs to run. So nobody but
this user and root may be able to make it, or to change it, or to put another in its place. Nothing in
it is ever executed here, nor read by a shell.
"""
import contextlib
import os
import pwd
import re
import stat
from pathlib import Path
from typing import NamedTuple

from .messages import ME, Failure, Misuse

MOST_VMS = 16
LONGEST_PATH = 90  # a unix socket's has at most 107 characters, those in the folder end in vm15.qmp and the like


def _owner(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def why_not_private(path: str) -> str:
    """Says why this folder, an absolute path without links, or a folder above it is not this user's
    alone; "" if all are. Where everyone may make folders, as in /tmp, nobody may remove this user's.
    """
    at, me = path, os.geteuid()
    while True:
        try:
            found = os.lstat(at)
        except OSError:
            return f"{at} does not exist"
        shared = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        sticky = found.st_mode & stat.S_ISVTX
        if not stat.S_ISDIR(found.st_mode):
            return f"{at} is not a directory"
        if found.st_uid != me and (found.st_uid != 0 or at == path):
            return f"{at} belongs to {_owner(found.st_uid)}"
        if shared and (not sticky or at == path):
            return f"other users can write to {at}"
        if at == "/":
            return ""
        at = os.path.dirname(at)


def _home() -> str:
    """The folder that holds the folders of all sets without a --dir; it may not exist yet."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    if runtime.startswith("/"):
        home = os.path.realpath(runtime)
        if not why_not_private(home):
            return os.path.join(home, ME)
    state = os.environ.get("XDG_STATE_HOME", "")
    if not state and os.environ.get("HOME"):
        state = os.path.join(os.environ["HOME"], ".local/state")
    if not state.startswith("/"):
        raise Failure("neither XDG_RUNTIME_DIR nor HOME names a directory of this user: pass --dir")
    return os.path.join(os.path.realpath(state), ME)


def _without_links_above(path: str) -> str:
    """Resolves links above the folder, but not the folder itself: such a link may be somebody else's."""
    above, last = os.path.split(path.rstrip("/"))
    if last in ("", ".", ".."):
        return os.path.realpath(path)
    return os.path.join(os.path.realpath(above), last)


class Set(NamedTuple):
    """What `up` has recorded about a set."""

    vms: int
    prefix: str
    region: str  # "" if it is not the same for all
    server: str  # the socket of that region's; "" if there is none
    ready: bool  # `up` has succeeded
    user: str = "root"  # who is logged in for this machine's user


class Folder:
    def __init__(self, path: str, name: str = "", home: str = ""):
        """`name` and `home` belong to a set that is not given a --dir."""
        self.path = Path(path)
        self.name = name
        self.home = home
        # QEMU and ssh give commas and blanks a meaning.
        if re.search("[^A-Za-z0-9._/-]", path):
            raise Failure(f"{path}: the path of a set may contain only letters, digits and . _ / -: pass another --dir")
        if len(path) > LONGEST_PATH:
            raise Failure(f"{path}: {len(path)} characters are too long for the sockets in this directory, "
                          f"at most {LONGEST_PATH} fit: pass a shorter --dir")

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, file: str) -> Path:
        return self.path / file

    def of_guest(self, guest: int, kind: str) -> Path:
        """The guest's file of that kind, such as its pid."""
        return self.path / f"vm{guest}.{kind}"

    # --- using an existing one ---

    def is_there(self) -> bool:
        return os.path.lexists(self.path)

    def require_private(self, advice: str) -> None:
        why = why_not_private(str(self))
        if why:
            raise Failure(f"{why}: {advice}")

    def open(self) -> Set:
        name = f" --name {self.name}" if self.name else ""
        nothing = f"no guests are up in {self}: boot some with {ME} up N{name}"
        if not self.path.exists():
            raise Failure(nothing)
        self.require_private("it is not safe to use; pass another --dir")
        if not (self / "set").is_file():
            raise Failure(nothing)
        noted = self._read()
        if not re.fullmatch("[1-9][0-9]?", noted.get("vms", "")) or int(noted["vms"]) > MOST_VMS:
            raise Failure(f"{self}/set was not written by {ME} up: run {ME} down --dir {self}")
        return Set(int(noted["vms"]), noted.get("prefix", ""), noted.get("region", ""), noted.get("server", ""),
                   bool(noted.get("ready")), noted.get("user", "root"))

    def _read(self) -> dict[str, str]:
        lines = os.fsdecode((self / "set").read_bytes()).split("\n")
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def may_be_removed(self) -> bool:
        """Whether it is empty, or holds a set, even an incomplete one."""
        return (self / "set").is_file() or not os.listdir(self.path)

    # --- making one ---

    def make(self) -> None:
        """Creates the folder for a new set; the umask makes it private to this user."""
        if self.home:
            self._make_home()
        made = self._make_folder()
        try:
            self._take()
        except (Failure, OSError):
            if made:
                with contextlib.suppress(OSError):
                    self.path.rmdir()
            raise

    def _make_home(self) -> None:
        above = self.home
        while not os.path.lexists(above):
            above = os.path.dirname(above)
        why = why_not_private(above)
        if not why:
            try:
                os.makedirs(self.home, exist_ok=True)
                why = why_not_private(self.home)
            except OSError as error:
                why = f"cannot create {self.home} ({error.strerror})"
        if why:
            raise Failure(f"{why}: pass --dir")

    def _make_folder(self) -> bool:
        try:
            self.path.mkdir()
            return True
        except OSError as error:
            if not self.path.exists():
                raise Failure(f"cannot create {self} ({error.strerror}): pass another --dir") from None
            return False

    def _take(self) -> None:
        self.require_private("it is not safe to use; pass another --dir")
        if not (self / "set").exists() and os.listdir(self.path):
            raise Failure(f"{self} contains something else: pass another --dir")
        try:
            (self / "set").touch(exist_ok=False)  # of two that try at the same time, only one succeeds
        except FileExistsError:
            raise Failure(f"guests are already up in {self}: end them with {ME} down --dir {self}") from None

    def add_note(self, name: str, value: str) -> None:
        with open(self / "set", "ab") as file:
            file.write(os.fsencode(f"{name}={value}\n"))


def find(name: str, path: str) -> Folder:
    """The folder of the set with that --name or --dir."""
    if path:
        return Folder(_without_links_above(path))
    name = name or "default"
    if not re.fullmatch("[A-Za-z0-9_-]+", name):
        raise Misuse(f"--name {name}: use only letters, digits, _ and -")
    home = _home()
    return Folder(os.path.join(home, name), name, home)
