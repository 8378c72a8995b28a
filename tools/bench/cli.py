# SPDX-License-Identifier: mpich2
"""The command line of ivshmem-bench; what bench/apps shares with it."""
import argparse
import re
import shutil
import signal
import sys
from pathlib import Path

from . import layouts, page
from .codes import by_patterns, Code
from .figures import Figures
from .grounds import Installation
from .messages import ME, Failure
from .results import Results
from .runner import GROUNDS, TRANSPORTS, Runner, Settings, names


class Parser(argparse.ArgumentParser):
    """Mistakes are errors of ours, on one line."""

    def error(self, message):
        raise Failure(f"{message} ({ME} --help)")


def _number(least: float, kind=int):
    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value < 1e7:
            raise argparse.ArgumentTypeError(f"{text}: expected a number from {least}")
        return value
    return parse


def _pattern(text: str) -> re.Pattern:
    try:
        return re.compile(text, re.M)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text}: no regular expression: {error}")


def add_common(parser: argparse.ArgumentParser, layout: str, out: str) -> None:
    parser.add_argument("--layout", default=layout, metavar="VxR,...", help="VMs x ranks in each (default %(default)s)")
    parser.add_argument("--ground", metavar="G,...", default="namespaces,host",
                        help=f"of {', '.join(GROUNDS)} (default %(default)s)")
    parser.add_argument("--transport", metavar="T,...", help=f"of {', '.join(TRANSPORTS)} (default: all)")
    parser.add_argument("--rounds", type=_number(1), default=3, metavar="N", help="timed runs of each (default "
                                                                                  "%(default)s)")
    parser.add_argument("--timeout", type=_number(1), default=600, metavar="S", help="seconds for a run (default "
                                                                                     "%(default)s)")
    parser.add_argument("--size", default="256M", help="size of the region (default %(default)s)")
    parser.add_argument("--memory", default="1G", help="memory of a guest (default %(default)s)")
    parser.add_argument("--out", default=out, metavar="FOLDER", help="for the results (default %(default)s)")
    parser.add_argument("--again", action="store_true", help="drop what is there, instead of going on with it")
    parser.add_argument("--no-profile", action="store_true", help="do not measure time in MPI")


def settings_of(given: argparse.Namespace) -> Settings:
    return Settings(layouts.parse(given.layout), names(given.ground, GROUNDS, "--ground"),
                    names(given.transport, TRANSPORTS, "--transport"), given.rounds, given.timeout, given.size,
                    given.memory,
                    not given.no_profile, given.again)


def go(codes: list[Code], settings: Settings, installation: Installation, out: Path, about: dict, title: str,
       preface: list, closing: list) -> int:
    """Runs everything that is not done, writes the page, and returns the exit status."""
    results = Results(out)
    runner = Runner(codes, settings, installation, results)
    try:
        failed = runner.go(about)
    finally:
        if results.records:
            results.about["skipped"] = [*about.get("skipped", []), *runner.skipped]
            page.write(Figures(results), out, title, preface, closing)
    print(out / "applications.md")
    if failed:
        print(f"{ME}: {failed} runs failed; the page lists them, and the next call runs them again", file=sys.stderr)
    return 1 if failed else 0


def _code(given: argparse.Namespace) -> Code:
    program = given.program[0]
    path = shutil.which(program)
    if not path:
        raise Failure(f"{program}: no such program, or no permission to run it")
    openmpi = given.openmpi and shutil.which(given.openmpi)
    if given.openmpi and not openmpi:
        raise Failure(f"--openmpi {given.openmpi}: no such program, or no permission to run it")
    for extra in given.add:
        if not Path(extra).exists():
            raise Failure(f"--add {extra}: no such file or folder")
    if given.ignore and not given.compare:
        raise Failure("--ignore says what --compare leaves out: pass --compare as well")
    command = [str(Path(path).absolute()), *given.program[1:]]
    return Code(Path(program).name, command, by_patterns(given.verify, given.time, given.ignore, given.compare),
                openmpi=[str(Path(openmpi).absolute()), *given.program[1:]] if openmpi else None, compare=given.compare,
                add=[Path(extra).absolute() for extra in given.add])


def _run(given: argparse.Namespace, here: Path) -> int:
    settings, code = settings_of(given), _code(given)
    command = f"{ME} run --layout {given.layout} -- {' '.join(given.program)}"
    if given.compare:
        how = "The output of each run was compared with that of a run without VMs."
    elif given.verify:
        how = f"A run counts if its output has what `{given.verify.pattern}` matches."
    else:
        how = "**No result was verified**: a run counts if its exit status is 0 (`--verify`, `--compare`)."
    what = "that the program prints" if given.time else "from mpiexec's start to its end"
    return go([code], settings, Installation(here), Path(given.out).absolute(), {"command": command},
              f"{code.name} between VMs",
              [f"{how} Times are those {what}."], [])


def _report(given: argparse.Namespace, here: Path) -> int:
    results = Results(Path(given.out))
    results.read()
    if not results.records:
        raise Failure(f"{given.out} has no results of ivshmem-bench: pass the --out of a run")
    page.write(Figures(results), Path(given.out), "Results", [], [])
    print(Path(given.out) / "applications.md")
    return 0


def parse(words: list[str]) -> argparse.Namespace:
    parser = Parser(prog=ME, allow_abbrev=False, description="Runs an MPI program between VMs over each transport, in "
                                                             "turn, "
                    "checks its results, and shows times and time in MPI in tables and plots. See ivshmem-bench(1).")
    verbs = parser.add_subparsers(dest="verb", metavar="COMMAND", parser_class=Parser)
    run = verbs.add_parser("run", help="run a program", allow_abbrev=False)
    add_common(run, "2x1,4x1", "ivshmem-bench.out")
    run.add_argument("--time", type=_pattern, metavar="REGEX", help="where the program prints its time: the first "
                                                                    "group")
    run.add_argument("--verify", type=_pattern, metavar="REGEX", help="what the output of a right run has")
    run.add_argument("--compare", action="store_true", help="compare each output with that of a run without VMs")
    run.add_argument("--ignore", type=_pattern, metavar="REGEX", help="what --compare leaves out, such as times")
    run.add_argument("--openmpi", metavar="PROGRAM", help="the same program, built for Open MPI")
    run.add_argument("--add", action="append", default=[], metavar="PATH", help="what guests need besides the program")
    run.add_argument("program", nargs="+", metavar="-- PROGRAM", help="and its arguments")
    report = verbs.add_parser("report", help="write the page again", allow_abbrev=False)
    report.add_argument("--out", default="ivshmem-bench.out", metavar="FOLDER", help="of a run (default %(default)s)")
    given = parser.parse_args(words)
    if not given.verb:
        raise Failure(f"expected a command, run or report ({ME} --help)")
    return given


def guarded(work) -> int:
    """Runs `work`; prints what fails, cleans up when a signal comes, and returns the exit status."""
    def stop(number, _frame):
        for other in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(other, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        return work()
    except Failure as failure:
        print(f"{ME}: {failure}\n{failure.detail}", end="", file=sys.stderr)
        return failure.status
    except OSError as error:
        print(f"{ME}: {error.filename}: {error.strerror}" if error.filename else f"{ME}: {error}", file=sys.stderr)
        return 2


def main(words: list[str], here: str) -> int:
    def work() -> int:
        given = parse(words)
        return (_run if given.verb == "run" else _report)(given, Path(here))

    return guarded(work)
