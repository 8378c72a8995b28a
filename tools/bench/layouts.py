# SPDX-License-Identifier: mpich2
"""Layouts: VxR is V virtual machines with R ranks in each, V * R ranks in all."""
import re
from typing import NamedTuple

from .messages import Failure

MOST_VMS = 16  # as ivshmem-vms
MOST_RANKS = 64


class Layout(NamedTuple):
    vms: int
    each: int

    @property
    def ranks(self) -> int:
        return self.vms * self.each

    def __str__(self) -> str:
        return f"{self.vms}x{self.each}"


def parse(text: str) -> list[Layout]:
    """A list such as 4x1,4x2."""
    layouts = []
    for part in text.split(","):
        found = re.fullmatch("([1-9][0-9]{0,3})x([1-9][0-9]{0,3})", part)
        if not found:
            raise Failure(f"--layout {part or '(nothing)'}: expected VMs x ranks in each, such as 4x2 for 4 VMs with 2 "
                          "ranks each")
        layout = Layout(int(found[1]), int(found[2]))
        if layout.vms > MOST_VMS or layout.each > MOST_RANKS:
            raise Failure(f"--layout {part}: at most {MOST_VMS} VMs with {MOST_RANKS} ranks each are possible")
        if layout in layouts:
            raise Failure(f"--layout {text}: {part} is there twice, name each once")
        layouts.append(layout)
    return layouts
