# SPDX-License-Identifier: mpich2
"""The plan, and going through it: rounds in which all transports take turns, first a round that is profiled."""
import hashlib
import os
import shutil
import statistics
import time
from pathlib import Path
from typing import NamedTuple, Optional

from . import jobs, profile
from .codes import Code, Output, Wrong, check_same
from .grounds import OURS, TRANSPORTS, Ground, Guests, Host, Installation, Namespaces
from .layouts import Layout
from .messages import Failure, Progress, duration
from .results import Results

REFERENCE = "reference"  # in place of the round's number
PROFILED = 0


class Settings(NamedTuple):
    """What is to be run."""
    layouts: list[Layout]
    grounds: list[str]
    transports: list[str]
    rounds: int
    timeout: float
    size: str  # of the region
    memory: str  # of a guest
    profiled: bool
    again: bool


class Run(NamedTuple):
    ground: str
    transport: str
    code: Code
    layout: Layout
    round: object

    def __str__(self) -> str:
        return f"{self.code.name} {self.layout} {self.ground} {self.transport} {self.round}"


def _digest(path: Optional[str]) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    except (OSError, TypeError):
        return ""


def machine() -> dict:
    def first(path: str, word: str) -> str:
        with open(path, encoding="utf-8", errors="replace") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith(word)), "unknown")

    return {"date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "cpu": first("/proc/cpuinfo", "model name"),
            "processors": len(os.sched_getaffinity(0)), "system": " ".join(os.uname()[i] for i in (0, 2)),
            "load": round(os.getloadavg()[0], 1)}


class Runner:
    def __init__(self, codes: list[Code], settings: Settings, installation: Installation, results: Results):
        self.codes, self.settings, self.mpi, self.results = codes, settings, installation, results
        self.work = results.folder / "work"
        self.logs = results.folder / "logs"
        self.library: Optional[Path] = None
        self.skipped: list[str] = []
        name = "bench-" + hashlib.sha256(str(results.folder.absolute()).encode()).hexdigest()[:8]
        self.grounds: dict[str, Ground] = {
            "host": Host(installation, self.work),
            "namespaces": Namespaces(installation, self.work, settings.size),
            "guests": Guests(installation, self.work, settings.size, settings.memory, name),
        }

    def _cells(self, phase: list[str]) -> list[tuple[str, str, Code, Layout]]:
        cells = []
        for code in self.codes:
            for layout in self.settings.layouts:
                why = code.fits(layout)
                if why:
                    self._skip(f"{code.name} {layout}: {why}")
                    continue
                for ground in phase:
                    for transport in self.grounds[ground].transports:
                        if transport not in self.settings.transports:
                            continue
                        missing = self.grounds[ground].missing(transport)
                        if not missing and transport == "openmpi" and not code.openmpi:
                            missing = f"no program of {code.name} for Open MPI"
                        if missing:
                            self._skip(f"{transport}: {missing}")
                        else:
                            cells.append((ground, transport, code, layout))
        return cells

    def _skip(self, why: str) -> None:
        if why not in self.skipped:
            self.skipped.append(why)

    def plan(self, phase: list[str]) -> list[Run]:
        """The runs on these grounds, which take turns."""
        cells = self._cells(phase)
        rounds = ([PROFILED] if self.settings.profiled else []) + list(range(1, self.settings.rounds + 1))
        return [Run(ground, transport, code, layout, number) for number in rounds
                for ground, transport, code, layout in cells if number or transport in OURS]

    def references(self) -> list[Run]:
        """Of codes whose results are compared: a run without VMs for each number of ranks."""
        found, seen = [], set()
        for code in self.codes:
            for layout in self.settings.layouts if code.compare else []:
                if not code.fits(layout) and (code.name, layout.ranks) not in seen:
                    seen.add((code.name, layout.ranks))
                    found.append(Run("host", "shm", code, Layout(1, layout.ranks), REFERENCE))
        return found

    def _folder(self, run: Run) -> Path:
        return self.work / f"{run.code.name}-{run.layout.ranks}"

    def _log(self, run: Run) -> Path:
        return self.logs / str(run).replace(" ", "-")

    def _lay_out(self, runs: list[Run]) -> list[Path]:
        """The working folders of the runs, with the files of the codes."""
        for run in runs:
            folder = self._folder(run)
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in run.code.files(run.layout).items():
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_text(text, encoding="utf-8")
        return sorted({self._folder(run) for run in runs})

    def _todo(self, runs: list[Run]) -> list[Run]:
        return [run for run in runs if not self.results.records.get(str(run), {}).get("ok")]

    def _left(self, todo: list[Run]) -> str:
        """An estimate by the runs that have ended: of the same cell, else of the same ground, else of all."""
        took: dict[tuple, list[float]] = {}
        for record in self.results.records.values():
            for key in ((record["ground"], record["transport"], record["code"], record["layout"]),
                        (record["ground"], record["code"]), (record["ground"],), ()):
                took.setdefault(key, []).append(record["wall"])
        if () not in took:
            return "no estimate yet"
        seconds = 0.0
        for run in todo:
            for key in ((run.ground, run.transport, run.code.name, str(run.layout)), (run.ground, run.code.name),
                        (run.ground,), ()):
                if key in took:
                    seconds += statistics.fmean(took[key])
                    break
        return f"about {duration(seconds)} left"

    def _judge(self, run: Run, ended: jobs.Ended, output: Output, record: dict) -> None:
        """Fills in the record, or raises Wrong."""
        if ended.status is None:
            raise Wrong(f"did not end within {duration(self.settings.timeout)} (--timeout sets this limit)")
        if ended.status != 0:
            last = next((line for line in reversed((ended.err + "\n" + ended.out).splitlines())
                         if line.strip() and "ivshmem-profile:" not in line), "")
            raise Wrong(f"exit status {ended.status}" + (f": {last.strip()[:200]}" if last else ""))
        counted = record["counters"] = jobs.counters(ended.err)
        if run.transport.startswith("ivshmem") and run.layout.vms > 1 and (
                counted["ranks"] != run.layout.ranks or not counted["eager_sent"]):
            raise Wrong(f"{counted['ranks']} of {run.layout.ranks} ranks say that they were on the region: is the "
                        "program linked with an MPICH? (ivshmem-which)")
        seconds, result = run.code.judge(output)
        record["seconds"] = ended.seconds if seconds is None else seconds
        if run.code.compare:
            if run.round == REFERENCE:
                record["result"] = result
                return
            reference = next((other for name, other in self.results.records.items() if other.get("ok")
                              and other["code"] == run.code.name and other["round"] == REFERENCE
                              and other["ranks"] == run.layout.ranks), None)
            if not reference:
                raise Wrong(f"there is no reference run of {run.layout.ranks} ranks to compare with")
            check_same(result, reference["result"], run.code.tolerance)

    def _run(self, run: Run) -> dict:
        ground, folder = self.grounds[run.ground], self._folder(run)
        library = self.library if run.round == PROFILED else None
        record = {"run": str(run), "ground": run.ground, "transport": run.transport, "code": run.code.name,
                  "layout": str(run.layout), "vms": run.layout.vms, "ranks": run.layout.ranks, "round": run.round,
                  "ok": False, "error": None}
        command, environment = ground.job(run.code, run.layout, run.transport, library)
        ground.forget(folder, run.code.outputs)
        try:
            ended = jobs.run(command, environment, folder, self._log(run), self.settings.timeout)
        except OSError as error:
            raise Failure(f"cannot run {command[0]}: {error.strerror}")
        record["wall"] = ended.seconds
        try:
            files = {}
            if ended.status == 0:
                for name in run.code.outputs:
                    try:
                        files[name] = ground.fetch(folder, name)
                    except OSError:
                        raise Wrong(f"wrote no {name}")
            self._judge(run, ended, Output(ended.out, files), record)
            record["ok"] = True
            if library:
                record["profile"] = jobs.profile(ended.err)
        except Wrong as wrong:
            record["error"] = str(wrong)
        return record

    def _go(self, runs: list[Run], progress: Progress, later: list[Run]) -> None:
        for number, run in enumerate(runs):
            progress.show(str(run), self._left(runs[number:] + later))
            record = self._run(run)
            self.results.add(record)
            result = f"{record['seconds']:.3g} s" if record["ok"] else "FAILED"
            if not record["ok"]:
                progress.say(f"{run}: {record['error']}; its output: {self._log(run)}.out, .err")
            progress.end_of_run(str(run), result, self._left(runs[number + 1:] + later))

    def settings_record(self) -> dict:
        """What must be the same for old runs to count. Others may be asked for: codes, layouts, transports, rounds."""
        programs = {f"program {code.name}": [" ".join(code.command), _digest(shutil.which(code.command[0])),
                                             _digest(code.openmpi and shutil.which(code.openmpi[0])), code.compare]
                    for code in self.codes}
        return {**programs, "libmpi": _digest(os.path.realpath(self.mpi.lib + "/libmpi.so.12")),
                "size of the region": self.settings.size}

    def go(self, about: dict) -> int:
        """Runs all that is not done; returns how many runs have failed."""
        phases = [[name for name in ("namespaces", "host") if name in self.settings.grounds],
                  [name for name in ("guests",) if name in self.settings.grounds]]
        plans = [self.references(), *(self.plan(phase) for phase in phases)]
        if not any(plans[1:]):
            raise Failure("nothing to run: " + ("; ".join(self.skipped) or "these grounds have none of these "
                                                                           "transports"))
        self.results.lock()
        self.results.begin({**machine(), "mpi": self.mpi.version(), **about}, self.settings_record(),
                           self.settings.again)
        shutil.rmtree(self.work, ignore_errors=True)
        for folder in (self.work, self.logs):
            folder.mkdir(exist_ok=True)
        if self.settings.profiled:
            self.library = profile.build(self.mpi.command("mpicc"), self.work)
        todo = [self._todo(plan) for plan in plans]
        progress = Progress(sum(map(len, plans)))
        progress.done = progress.total - sum(map(len, todo))
        for why in self.skipped:
            progress.say(f"left out: {why}")
        if progress.done:
            progress.say(f"{progress.done} of {progress.total} runs are done already in {self.results.folder}")
        try:
            for number, (runs, phase) in enumerate(zip(todo, [["host"], *phases])):
                later = [run for plan in todo[number + 1:] for run in plan]
                if not runs:
                    continue
                try:
                    folders = self._lay_out(runs)
                    for ground in phase:
                        if any(run.ground == ground for run in runs):
                            if ground == "guests":
                                progress.show("booting guests", self._left(runs + later))
                            self.grounds[ground].up([run.layout for run in runs if run.ground == ground],
                                                    list({run.code.name: run.code for run in runs}.values()), folders,
                                                    self.library)
                            self.results.about.update(self.grounds[ground].about())
                            self.results.save_about()
                    self._go(runs, progress, later)
                finally:
                    for ground in phase:
                        self.grounds[ground].down()
        finally:
            progress.end()
            shutil.rmtree(self.work, ignore_errors=True)
        wanted = {str(run) for plan in plans for run in plan}
        return sum(not record["ok"] for name, record in self.results.records.items() if name in wanted)


def names(text: Optional[str], known, option: str) -> list[str]:
    """A list of names, of those that are known."""
    if text is None:
        return list(known)
    chosen = text.split(",")
    for name in chosen:
        if name not in known:
            raise Failure(f"{option} {name or '(nothing)'}: expected some of {', '.join(known)}")
    return chosen


GROUNDS = ("namespaces", "host", "guests")
__all__ = ["GROUNDS", "TRANSPORTS", "Runner", "Settings", "names", "machine"]
