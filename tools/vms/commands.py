# SPDX-License-Identifier: mpich2
"""Other programs: finding them, and running them so that a signal ends them as well."""
import os
import shutil
import subprocess
from typing import NamedTuple, Optional

from . import interrupts


class Result(NamedTuple):
    status: int
    output: bytes


def find(program: str) -> Optional[str]:
    return shutil.which(program)


def scratch(content: bytes = b""):
    """A file in memory, read from its start: unlike a pipe, it needs no reader while it is written."""
    file = os.fdopen(os.memfd_create("ivshmem-vms"), "w+b")
    file.write(content)
    file.seek(0)
    return file


def end(child: subprocess.Popen) -> None:
    if child.poll() is None:
        child.kill()
        child.wait()


def run(command: list, given: bytes = b"", both: bool = False, **options) -> Result:
    """Runs a command with the standard input `given`; its output, with `both` also the error output,
    is in the result, unless `stdout` sends it elsewhere."""
    with scratch(given) as stdin, scratch() as stdout:
        options.setdefault("stdout", stdout)
        if both:
            options["stderr"] = subprocess.STDOUT
        child = subprocess.Popen(command, stdin=stdin, **options)
        try:
            status = interrupts.wait(child)
        finally:
            end(child)
        stdout.seek(0)
        return Result(status, stdout.read())
