# SPDX-License-Identifier: mpich2
"""The records of a folder: a line of JSON for each run that has ended, so that a run that was killed goes on."""
import fcntl
import json
import os
import statistics
from pathlib import Path
from typing import NamedTuple

from .messages import Failure


class Summary(NamedTuple):
    median: float
    spread: float  # in percent of the median: half the distance of the quartiles, of few samples that of the extremes
    samples: int


def summary(samples: list[float]) -> Summary:
    middle = statistics.median(samples)
    low, high = min(samples), max(samples)
    if len(samples) >= 4:
        low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Summary(middle, (high - low) / 2 / middle * 100 if middle > 0 else 0.0, len(samples))


class Results:
    """The folder. Only one process at a time writes it."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "runs.jsonl"
        self.records: dict[str, dict] = {}  # by run; the last one counts
        self.about: dict = {}

    def lock(self) -> None:
        self.held = open(self.folder / "lock", "w")
        try:
            fcntl.flock(self.held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(f"another ivshmem-bench writes to {self.folder}: wait for it, or pass another --out")

    def read(self) -> None:
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            self.about = json.loads((self.folder / "about.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                self.records[record["run"]] = record
            except (ValueError, KeyError, TypeError):
                if line.endswith("\n"):
                    raise Failure(f"{self.path}, line {number}, is no record of a run: remove that line, or pass "
                                  "another --out")
                os.truncate(self.path, self.path.stat().st_size - len(line.encode()))  # killed while it was written

    def begin(self, about: dict, settings: dict, again: bool) -> None:
        """Goes on with what is there, if it was made with the same settings."""
        self.read()
        old = {} if again else self.about.get("settings", {})
        changed = [name for name in settings if name in old and old[name] != settings[name]]
        if self.records and changed:
            raise Failure(f"{self.folder} has results of another {', another '.join(changed)}: pass another --out, or "
                          "--again to drop them")
        if again:
            self.records = {}
            self.path.unlink(missing_ok=True)
        settings = {**old, **settings}
        self.about = {**{name: value for name, value in self.about.items() if name == "guests"}, **about,
                      "settings": settings}
        self.save_about()
        self.path.touch()

    def save_about(self) -> None:
        new = self.folder / "about.json.new"
        new.write_text(json.dumps(self.about, indent=1) + "\n", encoding="utf-8")
        new.rename(self.folder / "about.json")

    def add(self, record: dict) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.records[record["run"]] = record
