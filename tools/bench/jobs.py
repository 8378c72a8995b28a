# SPDX-License-Identifier: mpich2
"""Runs one job, and reads what its ranks print: the profile, the netmod's counters."""
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

GRACE = 10  # seconds that a job has to end when it is told to
COUNTED = ("eager_sent", "eager_sent_bytes", "lmt_sent", "lmt_sent_bytes", "single_copy", "tcp_sent", "tcp_sent_bytes")
PROFILE = re.compile(r"ivshmem-profile: (rank=.*)")
COUNTERS = re.compile(r"ivshmem: (rank=.*)")
STALE = ("MPIR_CVAR_", "HYDRA_", "OMPI_", "MPIEXEC_", "MPICH_", "LD_PRELOAD")


class Ended(NamedTuple):
    status: int  # negative for a signal, None if the time was over
    seconds: float
    out: str
    err: str


def clean_environment() -> dict[str, str]:
    """This one's, without what would change a job."""
    return {name: value for name, value in os.environ.items() if not name.startswith(STALE)}


def end(child: subprocess.Popen) -> None:
    """Ends a job with all that it has started here; mpiexec's proxies end by themselves."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
            child.wait(GRACE)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            pass


def run(command: list[str], environment: dict[str, str], folder: Path, log: Path, timeout: float) -> Ended:
    """Runs a job in `folder`; its output stays in `log`.out and `log`.err."""
    paths = [log.with_name(log.name + end) for end in (".out", ".err")]
    with open(paths[0], "wb") as out, open(paths[1], "wb") as err:
        start = time.monotonic()
        # mpiexec ends if this program is killed, and with it the ranks.
        child = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command], stdin=subprocess.DEVNULL, stdout=out,
                                 stderr=err, env=environment, cwd=folder,
                                 start_new_session=True)
        try:
            status = child.wait(timeout)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            seconds = time.monotonic() - start
            end(child)
    return Ended(status, seconds, *(path.read_text(encoding="utf-8", errors="replace") for path in paths))


def _pairs(line: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def counters(err: str) -> dict:
    """Sums over all ranks, and how many ranks there were on a region; Hydra may have put lines together."""
    sums = dict.fromkeys(COUNTED, 0)
    ranks = 0
    for found in COUNTERS.findall(err):
        fields = _pairs(found)
        ranks += fields.get("region", "none") != "none"
        for name in COUNTED:
            sums[name] += int(fields[name]) if fields.get(name, "").isdigit() else 0
    return {"ranks": ranks, **sums}


def profile(err: str) -> dict:
    """Of each rank the time and that in MPI; calls and sizes of messages of all ranks together."""
    ranks: dict[str, dict] = {}
    calls: dict[str, dict] = {}
    sizes: dict[str, int] = {}
    for found in PROFILE.findall(err):
        fields = _pairs(found)
        if "call" in fields:
            sums = calls.setdefault(fields["call"], {"count": 0, "ns": 0, "bytes": 0})
            for name in sums:
                sums[name] += int(fields[name])
        elif "mpi_ns" in fields:
            ranks[fields["rank"]] = {"ns": int(fields["ns"]), "mpi_ns": int(fields["mpi_ns"])}
            for size, count in (pair.split(":") for pair in fields["sizes"].split(",") if pair):
                sizes[size] = sizes.get(size, 0) + int(count)
    return {"ranks": ranks, "calls": calls, "sizes": sizes}
