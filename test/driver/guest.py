# SPDX-License-Identifier: mpich2
"""A guest that runs commands: a kernel, busybox and a few files, under QEMU's emulator; a shell on a serial port."""
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from vms import archive

LIMIT = 300.0  # seconds; most that is waited for takes less than one


class Failure(Exception):
    pass


def initramfs(folder: Path, programs: list[Path]) -> Path:
    """With busybox, and these programs in /; all are linked statically."""
    tree, image = folder / "tree", folder / "initramfs"
    for name in ("bin", "proc", "sys", "dev", "tmp"):
        (tree / name).mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("init"), tree)
    for program in programs:
        shutil.copy(program, tree)
    shutil.copy(shutil.which("busybox"), tree / "bin")
    with open(image, "wb") as file:
        archive.write_tree(file, str(tree))
    return image


class Lines:
    """What a unix socket says, line by line."""

    def __init__(self, path: Path, what: str):
        self.what, self.unread = what, b""
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))

    def send(self, text: str) -> None:
        self.socket.sendall(text.encode() + b"\n")

    def read(self, end: float) -> str:
        while b"\n" not in self.unread:
            self.socket.settimeout(max(0.001, end - time.monotonic()))
            try:
                more = self.socket.recv(65536)
            except TimeoutError:
                raise Failure(f"{self.what}: no answer in time") from None
            if not more:
                raise Failure(f"{self.what} has ended")
            self.unread += more
        line, self.unread = self.unread.split(b"\n", 1)
        return line.decode(errors="replace").rstrip("\r")


class Guest:
    def __init__(self, name: str, folder: Path, kernel: str, image: Path, args: list[str]):
        self.name, self.console = name, folder / f"{name}.console"
        shell, monitor = folder / f"{name}.shell", folder / f"{name}.qmp"
        self.qemu = subprocess.Popen(
            ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,-erms,-fsrm", "-m", "384M",
             "-smp", "2", "-nodefaults", "-display", "none", "-no-reboot",
             "-chardev", f"file,id=console,path={self.console}", "-serial", "chardev:console",
             "-chardev", f"socket,id=shell,server=on,wait=off,path={shell}", "-serial", "chardev:shell",
             "-qmp", f"unix:{monitor},server=on,wait=off", "-kernel", kernel, "-initrd", str(image), "-append",
             # What is used after it was freed is noticed; that a busy host does not run QEMU is not.
             "console=ttyS0 quiet panic=-1 tsc=reliable no_timer_check slub_debug=FZPU nowatchdog "
             "rcupdate.rcu_cpu_stall_suppress=1", *args],
            stdin=subprocess.DEVNULL)
        self.events: list[str] = []
        try:
            wait_for(lambda: self.qemu.poll() is not None or (shell.exists() and monitor.exists()))
            self.shell, self.monitor = Lines(shell, name), Lines(monitor, f"{name}'s QEMU")
            self.ask("qmp_capabilities")
            self.await_boot()
        except BaseException:
            self.end()
            print("\n".join(self.said()[-60:]), file=sys.stderr)
            raise

    def await_boot(self) -> None:
        while self.shell.read(time.monotonic() + LIMIT) != "[ready]":
            pass

    def ask(self, command: str, **arguments):
        """A command for QEMU; its answer."""
        self.monitor.send(json.dumps({"execute": command, "arguments": arguments}))
        while True:
            answer = self._answer()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise Failure(f"{self.name}: {command}: {answer['error']['desc']}")

    def _answer(self) -> dict:
        answer = json.loads(self.monitor.read(time.monotonic() + LIMIT))
        if "event" in answer:
            self.events.append(answer["event"])
        return answer

    def await_event(self, event: str) -> None:
        """One that has come since the last call, or comes."""
        while event not in self.events:
            self._answer()
        self.events.clear()

    def hmp(self, line: str) -> str:
        return self.ask("human-monitor-command", **{"command-line": line})

    def try_(self, command: str) -> tuple[int, str]:
        """Runs a line of shell; its exit status and output."""
        self.shell.send(command)
        end, output = time.monotonic() + LIMIT, []
        while True:
            line = self.shell.read(end)
            if found := re.search(r"\[status ([0-9]+)\]$", line):
                return int(found[1]), "\n".join([*output, line[:found.start()]]).strip()
            output.append(line)

    def run(self, command: str) -> str:
        """The output of a line of shell, which must succeed."""
        status, output = self.try_(command)
        if status != 0:
            raise Failure(f"{self.name}: {command}: exit status {status}: {output}")
        return output

    def until(self, command: str) -> None:
        """Runs a line of shell until it succeeds."""
        wait_for(lambda: self.try_(command)[0] == 0, f"{self.name}: {command}")

    def said(self) -> list[str]:
        """The lines of the kernel, since it booted."""
        return self.console.read_text(errors="replace").split("\n")

    def end(self) -> None:
        self.qemu.kill()
        self.qemu.wait()


def wait_for(is_so, what: str = "QEMU") -> None:
    end = time.monotonic() + LIMIT
    while not is_so():
        if time.monotonic() > end:
            raise Failure(f"{what}: not in time")
        time.sleep(0.1)


def page_table_entry(guest: Guest, address: int) -> int:
    """The entry for an address of the program that the first processor runs now, 0 if there is none."""
    def word(at: int) -> int:
        return int(guest.hmp(f"xp /1gx {at:#x}").split(":")[1], 16)

    registers = guest.hmp("info registers")
    cr3, cr4 = (int(re.search(f"{name}=([0-9a-f]+)", registers)[1], 16) for name in ("CR3", "CR4"))
    entry, frame = cr3, 0x000ffffffffff000
    for level in range(5 if cr4 & 1 << 12 else 4, 0, -1):
        entry = word((entry & frame) + 8 * (address >> (3 + 9 * level) & 511))
        if not entry & 1 or (level > 1 and entry & 1 << 7):
            return 0
    return entry
