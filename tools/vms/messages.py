# SPDX-License-Identifier: mpich2
"""How the program speaks, and how it ends before its time."""
import sys

ME = "ivshmem-vms"


class Failure(Exception):
    """Ends the program with one sentence: what was found, what was expected, what to do."""

    status = 1

    def __init__(self, text: str, detail: str = ""):
        """`detail` is printed below the sentence, as it is."""
        super().__init__(text)
        self.detail = detail


class Misuse(Failure):
    """A wrong option or argument."""

    status = 2

    def __init__(self, text: str):
        super().__init__(f"{text} ({ME} --help)")


class Interrupted(BaseException):
    """A signal has come. Not an error: nothing but the clean-up is to catch it."""

    def __init__(self, number: int):
        super().__init__(number)
        self.status = 128 + number


def say(text: str, detail: str = "") -> None:
    if sys.stderr:  # without it, print would take the output, which a shell may be about to evaluate
        print(f"{ME}: {text}\n{detail}", end="", file=sys.stderr, flush=True)


def quoted(text: str) -> str:
    """For a shell, in quotes even where it could do without: a quoted word is never a keyword."""
    return "'" + text.replace("'", "'\\''") + "'"
