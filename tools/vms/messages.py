# SPDX-License-Identifier: mpich2
"""Output, and errors that end the program."""
import sys

ME = "ivshmem-vms"


class Failure(Exception):
    """Ends the program with one sentence: what was found, what was expected, what to do."""

    status = 1

    def __init__(self, text: str, detail: str = ""):
        """`detail` is printed unchanged below the sentence."""
        super().__init__(text)
        self.detail = detail


class Misuse(Failure):
    """A wrong option or argument."""

    status = 2

    def __init__(self, text: str):
        super().__init__(f"{text} ({ME} --help)")


class Interrupted(BaseException):
    """A signal has arrived. Not an error: only the clean-up may catch it."""

    def __init__(self, number: int):
        super().__init__(number)
        self.status = 128 + number


def say(text: str, detail: str = "") -> None:
    if sys.stderr:  # without it, print would take the output, which a shell may be about to evaluate
        print(f"{ME}: {text}\n{detail}", end="", file=sys.stderr, flush=True)


def quoted(text: str) -> str:
    """Quotes for a shell, always: a quoted word is never a keyword."""
    return "'" + text.replace("'", "'\\''") + "'"
