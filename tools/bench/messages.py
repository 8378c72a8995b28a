# SPDX-License-Identifier: mpich2
"""Errors that end the program, and how far it has come."""
import sys

ME = "ivshmem-bench"
WIDTH = 24


class Failure(Exception):
    """Ends the program with one sentence: what was found, what was expected, what to do."""

    status = 2

    def __init__(self, text: str, detail: str = ""):
        """`detail` is printed unchanged below the sentence."""
        super().__init__(text)
        self.detail = detail


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Progress:
    """A bar on a terminal, lines elsewhere."""

    def __init__(self, total: int):
        self.total, self.done = total, 0
        self.live = sys.stderr.isatty()

    def _clear(self) -> str:
        return "\r\033[K" if self.live else ""

    def show(self, what: str, left: str) -> None:
        """Before a run: what comes, and the estimated time left."""
        if self.live:
            filled = WIDTH * self.done // max(1, self.total)
            print(f"\r\033[K[{'#' * filled}{'.' * (WIDTH - filled)}] {self.done}/{self.total} {left} {what}", end="",
                  file=sys.stderr, flush=True)

    def end_of_run(self, what: str, result: str, left: str) -> None:
        self.done += 1
        if not self.live:
            print(f"{self.done}/{self.total} {what}: {result}; {left}", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        print(f"{self._clear()}{ME}: {text}", file=sys.stderr, flush=True)

    def end(self) -> None:
        print(self._clear(), end="", file=sys.stderr, flush=True)
