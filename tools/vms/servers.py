# SPDX-License-Identifier: mpich2
"""The ivshmem-servers of a set with --server, one for each region: starting them, and finding them again."""
import os
import subprocess
import time
from pathlib import Path

from . import commands, interrupts, qemus
from .folder import Folder
from .messages import Failure

PATIENCE = 30  # seconds until a server listens, on a busy machine


def socket(folder: Folder, number: int) -> Path:
    return folder / f"server{number}"


def running(folder: Folder) -> list[int]:
    """All of the set, by their command lines, as its QEMUs."""
    return qemus.with_words(os.fsencode(f"\0--socket\0{folder}/server"))


def _start(folder: Folder, prefix: str, number: int, region: str, vectors: int) -> None:
    at, log = socket(folder, number), folder / f"server{number}.log"
    with open(log, "wb") as said:
        # In a session of its own, as QEMU.
        child = subprocess.Popen([f"{prefix}/bin/ivshmem-server", "--socket", str(at), "--vectors", str(vectors),
                                  region], stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True)
    end = time.monotonic() + PATIENCE
    while not at.is_socket():
        if interrupts.wait(child, time.monotonic() + 0.02) is not None or time.monotonic() > end:
            commands.end(child)
            raise Failure(f"ivshmem-server did not start for {region}", log.read_text(errors="replace"))


def start(folder: Folder, prefix: str, regions: list[str], vectors: int) -> None:
    for number, region in enumerate(regions):
        _start(folder, prefix, number, region, vectors)
