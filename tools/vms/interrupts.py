# SPDX-License-Identifier: mpich2
"""Signals, and waits that a signal ends.

A set of guests must not be left half made. So while `up` makes one, signals are noted when they
arrive and acted on only here: between two calls of this module nothing is interrupted. Whatever may
take long waits here, or calls `check` now and then. Before `note`, a signal ends the program at once.
"""
import signal
import subprocess
import time
from typing import Optional

from .messages import Interrupted

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
STEP = 0.1  # seconds until a signal takes effect

_noted: list[int] = []


def _set_all(action) -> None:
    for number in SIGNALS:
        # What was ignored when the program began, by nohup or a shell, stays so.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, action)


def note() -> None:
    """From now on signals are noted."""
    _set_all(lambda number, _frame: _noted.append(number))


def ignore() -> None:
    """From now on signals do nothing; those already noted are dropped."""
    _set_all(signal.SIG_IGN)
    _noted.clear()


def restore() -> None:
    """From now on a signal ends the program again."""
    _set_all(signal.SIG_DFL)
    _noted.clear()


def check() -> None:
    if _noted:
        raise Interrupted(_noted[0])


def sleep(seconds: float) -> None:
    end = time.monotonic() + seconds
    check()
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(STEP, left))
        check()


def wait(child: subprocess.Popen, end: Optional[float] = None) -> Optional[int]:
    """The child's status; None if it is still running at the time `end` (of time.monotonic)."""
    while True:
        left = STEP if end is None else min(STEP, max(0.0, end - time.monotonic()))
        try:
            status = child.wait(left)
        except subprocess.TimeoutExpired:
            status = None
        check()
        if status is not None or (end is not None and time.monotonic() >= end):
            return status
