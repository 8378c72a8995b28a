# SPDX-License-Identifier: mpich2
"""The set's QEMUs, as /proc shows them.

A QEMU is recognised by its command line, which names sockets in the folder of the set. Other users can
write anything into their command lines: only this user's processes are looked at.
"""
import os
import re
import signal
import time
from typing import Optional

from .folder import Folder


def _command_line(pid: int) -> bytes:
    """Empty if the process is not this user's, or has ended."""
    try:
        if os.stat(f"/proc/{pid}").st_uid != os.geteuid():
            return b""
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def pid_of(folder: Folder, guest: int) -> Optional[int]:
    """The QEMU of this guest, if it runs. Its pid may have been reused: its command line must name the socket."""
    try:
        noted = folder.of_guest(guest, "pid").read_bytes().split(b"\n")[0]
    except OSError:
        return None
    if not re.fullmatch(b"[1-9][0-9]*", noted):
        return None
    socket = os.fsencode(f"unix:{folder.of_guest(guest, 'qmp')},")
    return int(noted) if socket in _command_line(int(noted)) else None


def with_words(words: bytes) -> list[int]:
    """This user's other processes with these words in their command lines."""
    pids = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    return [pid for pid in pids if pid != os.getpid() and words in _command_line(pid)]


def running(folder: Folder) -> list[int]:
    """All of the set, including those that a killed launcher has left half started."""
    return with_words(os.fsencode(f"unix:{folder}/vm"))


def memory_files(pid: int) -> list[str]:
    """The files that this QEMU uses as memory, by itself or by a server beside the link to its region."""
    words = os.fsdecode(_command_line(pid))
    served = re.findall(r"id=server,path=([^,\0]*)/server([0-9]+)\0", words)
    return re.findall(r"mem-path=([^,\0]*),", words) + [os.readlink(f"{folder}/region{number}")
                                                        for folder, number in served
                                                        if os.path.islink(f"{folder}/region{number}")]


def end(pids_now) -> None:
    """Ends all that `pids_now` returns, and asks again until there is none: by SIGTERM first, then by SIGKILL."""
    for attempt in range(200):
        pids = pids_now()
        if not pids:
            return
        for pid in pids:
            try:
                os.kill(pid, signal.SIGTERM if attempt < 100 else signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.05)
