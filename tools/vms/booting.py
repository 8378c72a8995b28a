# SPDX-License-Identifier: mpich2
"""Waits for guests: until they are ready, and until they have reached each other."""
import re
import subprocess
import time
from pathlib import Path

from . import access, commands, interrupts, qemus
from .folder import Folder
from .messages import ME, Failure

LAST_LINES = 20
READY = re.compile(f"^{ME}: ready", re.M)
FAILED = re.compile(f"^{ME}: FAILED|Kernel panic|You are in emergency mode", re.M)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def broken(folder: Folder, guest: int, what: str) -> Failure:
    """An error that shows the end of the guest's console."""
    lines = _text(folder.of_guest(guest, "console")).replace("\r", "").splitlines()[-LAST_LINES:]
    indented = "".join(f"    {line}\n" for line in lines)
    return Failure(f"vm{guest} {what}",
                   f"{ME}: the end of vm{guest}'s console:\n{indented}" if lines else "")


def until_ready(folder: Folder, guests: list[int], timeout: int) -> None:
    end = time.monotonic() + timeout

    def console(guest: int) -> str:
        return _text(folder.of_guest(guest, "console"))

    for guest in guests:
        while not READY.search(console(guest)):
            for other in guests:
                if qemus.pid_of(folder, other) is None or FAILED.search(console(other)):
                    raise broken(folder, other, "failed to boot")
            if time.monotonic() >= end:
                raise broken(folder, guest, f"did not boot within {timeout} s (--timeout sets this limit)")
            interrupts.sleep(0.2)


def _begin_check(folder: Folder, guest: int, vms: int) -> subprocess.Popen:
    with open(folder.of_guest(guest, "check"), "wb") as file:
        return subprocess.Popen(access.ssh(folder, f"vm{guest}", "preflight", str(guest), str(vms)),
                                stdin=subprocess.DEVNULL, stdout=file, stderr=file)


def preflight(folder: Folder, vms: int, timeout: int, end: float) -> None:
    """Waits, until `end` at most, until each guest has reached the others."""
    checks = []
    try:
        for guest in range(vms):
            checks.append(_begin_check(folder, guest, vms))
        for guest, check in enumerate(checks):
            status = interrupts.wait(check, end)
            found = folder.of_guest(guest, "check")
            if status != 0:
                raise broken(folder, guest, _text(found).rstrip("\n")
                             or f"did not answer ssh within {timeout} s (--timeout sets this limit)")
            found.unlink()
    finally:
        for check in checks:
            commands.end(check)
