# SPDX-License-Identifier: mpich2
"""A program, and how its result is judged."""
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional, Union

from .layouts import Layout

# What a run found, to be compared with what the reference run did: numbers, or text that has to be equal.
Result = Union[None, str, list]


class Wrong(Exception):
    """The result is not right."""


@dataclass
class Output:
    """What a job has left: standard output, and the files that were asked for."""
    text: str
    files: dict[str, str] = field(default_factory=dict)


@dataclass
class Code:
    name: str
    # Of a program for the binary interface of MPICH, and of the same one for Open MPI.
    command: list[str]
    # Raises Wrong; returns the seconds that the program measured, or None for those that the job took, and what is to
    # be compared with the reference.
    judge: Callable[[Output], tuple[Optional[float], Result]]
    openmpi: Optional[list[str]] = None
    compare: bool = False  # with a reference run; otherwise the program, or `judge`, verifies by itself
    tolerance: float = 1e-6  # relative, of numbers
    about: str = ""  # a line for the page
    add: list[Path] = field(default_factory=list)  # what guests need besides the program
    environment: dict[str, str] = field(default_factory=dict)
    libraries: list[Path] = field(default_factory=list)  # folders, in front of the system's
    files: Callable[[Layout], dict[str, str]] = lambda layout: {}  # in the working folder, by name
    outputs: list[str] = field(default_factory=list)  # files there that rank 0 writes, for `judge`
    fits: Callable[[Layout], Optional[str]] = lambda layout: None  # why it cannot run in a layout


def check_same(found: Result, reference: Result, tolerance: float) -> None:
    """Raises Wrong if a result is not that of the reference run."""
    if isinstance(found, list) and isinstance(reference, list):
        same = len(found) == len(reference) and all(
            math.isclose(a, b, rel_tol=tolerance, abs_tol=1e-300) for a, b in zip(found, reference))
    else:
        same = found == reference
    if not same:
        raise Wrong(f"the result differs from the reference run's: {_short(found)}, expected {_short(reference)}")


def _short(result: Result) -> str:
    text = str(result).strip()
    return text if len(text) <= 200 else text[:200] + "..."


def by_patterns(verify: Optional[re.Pattern], seconds: Optional[re.Pattern], ignore: Optional[re.Pattern],
                compare: bool):
    """A judge for programs that are told by regular expressions."""
    def judge(output: Output):
        if verify and not verify.search(output.text):
            raise Wrong(f"the output has no line that matches {verify.pattern}")
        took = None
        if seconds:
            found = seconds.search(output.text)
            try:
                took = float(found[1])
            except (TypeError, ValueError, IndexError):
                raise Wrong(f"the output has no number where {seconds.pattern} looks for the time")
        if not compare:
            return took, None
        # Ranks may print in any order.
        text = ignore.sub("", output.text) if ignore else output.text
        return took, "\n".join(sorted(text.splitlines()))
    return judge
