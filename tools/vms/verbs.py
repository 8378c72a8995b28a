# SPDX-License-Identifier: mpich2
"""The commands for an existing set. Each returns the exit status."""
import os
import signal
import subprocess
import sys
import time
from typing import Optional

from . import access, archive, booting, machine, options, qemus, qmp, removal
from .folder import Folder
from .messages import ME, Failure, Misuse, quoted, say


def add(folder: Folder, paths: list[str]) -> int:
    noted = folder.open()
    vms, user = noted.vms, noted.user
    if not paths:
        raise Misuse("add: no file or directory given")
    added, command = folder / "added", "cd / && cpio -idmu 2>/dev/null"
    with open(added, "wb") as file:
        if user == "root":
            archive.write_closure(file, options.existing(paths))
        else:  # a system of its own has its own libraries
            archive.write_bare(file, options.existing(paths), user)
            command = "tar -C / -x --no-overwrite-dir"
    for guest in range(vms):
        with open(added, "rb") as file:
            unpack = access.ssh(folder, f"root@vm{guest}", command)
            if subprocess.run(unpack, stdin=file, check=False).returncode != 0:
                raise Failure(f"vm{guest}: cannot copy {' '.join(paths)} into the guest")
    added.unlink()
    return 0


def _number(text: str, verb: str, vms: int) -> int:
    return options.number(text.removeprefix("vm"), verb, 0, vms - 1)


def _must_run(folder: Folder, guest: int) -> int:
    pid = qemus.pid_of(folder, guest)
    if pid is None:
        raise booting.broken(folder, guest, "is not running")
    return pid


def _for_guests_shell(command: list[str]) -> list[str]:
    """A single word is interpreted by the guest's shell; several are [VAR=value...] a command and its arguments."""
    if len(command) <= 1:
        return command
    if "=" in command[0]:
        command = ["env", *command]
    return [" ".join(map(quoted, command))]


def _status(returncode: int) -> int:
    return returncode if returncode >= 0 else 128 - returncode


def _execute_in_one(folder: Folder, guest: int, command: list[str]) -> int:
    with subprocess.Popen(access.ssh(folder, "-n", f"vm{guest}", *command),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as ssh:
        for line in ssh.stdout:
            sys.stdout.buffer.write(b"vm%d: %b" % (guest, line))
            sys.stdout.buffer.flush()
    return _status(ssh.returncode)


def execute(folder: Folder, args: list[str]) -> int:
    vms = folder.open().vms
    if not args:
        raise Misuse("exec: no guest given")
    command = _for_guests_shell(args[1:])
    if args[0] == "all":
        if not command:
            raise Misuse("exec all: no command given")
        results = [_execute_in_one(folder, guest, command) for guest in range(vms)]
        return next(filter(None, results), 0)
    guest = _number(args[0], "exec", vms)
    _must_run(folder, guest)
    shell = [] if command else ["-t"]
    ssh = access.ssh(folder, *shell, f"vm{guest}", *command)
    os.execvp(ssh[0], ssh)


def _state(folder: Folder, guest: int) -> str:
    try:
        state = qmp.ask(folder.of_guest(guest, "qmp"), guest, "query-status")["status"]
    except Failure as failure:
        say(str(failure))
        state = ""
    return "paused" if state == "paused" else "running"


def status(folder: Folder) -> int:
    result = 0
    for guest in range(folder.open().vms):
        console = f"console {folder.of_guest(guest, 'console')}"
        pid = qemus.pid_of(folder, guest)
        if pid is None:
            print(f"vm{guest}  ended  {console}")
            result = 1
        else:
            memory = " ".join(qemus.memory_files(pid)) or "no ivshmem device"
            print(f"vm{guest}  {_state(folder, guest)}  pid {pid}  {memory}  {console}")
    return result


def _boot(folder: Folder, guest: int, timeout: int) -> None:
    if qemus.pid_of(folder, guest) is not None:
        raise Failure(f"vm{guest} is running: to reboot it, run {ME} reset {guest}")
    said = machine.start(folder, guest)
    if said:
        raise Failure(f"QEMU did not start vm{guest}: {said}")
    booting.until_ready(folder, [guest], timeout)


def _reset(folder: Folder, guest: int, timeout: int) -> None:
    folder.of_guest(guest, "console").write_bytes(b"")
    _tell(folder, guest, "system_reset")
    _tell(folder, guest, "cont")  # it may have been paused
    booting.until_ready(folder, [guest], timeout)


def _tell(folder: Folder, guest: int, command: str) -> None:
    qmp.ask(folder.of_guest(guest, "qmp"), guest, command)


def _until_ended(folder: Folder, guest: int, pid: int) -> None:
    for _ in range(200):
        if qemus.pid_of(folder, guest) is None:
            return
        time.sleep(0.05)
    raise Failure(f"vm{guest}: its QEMU (pid {pid}) does not exit")


def do_to(folder: Folder, verb: str, args: list[str], timeout: Optional[str]) -> int:
    """Stops, resets, ends or boots a guest, like a real machine."""
    noted = folder.open()
    vms = noted.vms
    limit = options.seconds(timeout or options.default_timeout(noted.user != "root"))
    if len(args) != 1:
        raise Misuse(f"{verb} takes one guest")
    guest = _number(args[0], verb, vms)
    if verb == "boot":
        _boot(folder, guest, limit)
        return 0
    pid = _must_run(folder, guest)
    if verb == "reset":
        _reset(folder, guest, limit)
    elif verb == "kill":
        os.kill(pid, signal.SIGKILL)
    else:
        _tell(folder, guest, {"pause": "stop", "resume": "cont", "off": "quit"}[verb])
    if verb in ("off", "kill"):
        _until_ended(folder, guest, pid)
    return 0


def down(folder: Folder) -> int:
    # Without a folder QEMUs may be left: a runtime folder goes when its user logs out.
    if not folder.is_there():
        if not qemus.running(folder):
            say(f"nothing is up in {folder}")
            return 0
    else:
        folder.require_private(f"it was not made by {ME} up")
        if not folder.may_be_removed():
            raise Failure(f"{folder} was not made by {ME} up")
    removal.remove(folder)
    return 0
