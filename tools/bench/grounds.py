# SPDX-License-Identifier: mpich2
"""Where jobs run. A ground offers transports, and says how mpiexec starts a job in a layout over one of them.

host         no VMs: MPICH's own shared memory, other MPIs
namespaces   each VM of a layout is a network namespace of the host, at the speed of its processors: tcp goes through
             the kernel, from one veth to the other, and ivshmem through a region file
guests       each is a guest of ivshmem-vms, under KVM or emulated
"""
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Optional

from . import jobs
from .codes import Code
from .layouts import Layout
from .messages import Failure

TRANSPORTS = {
    "ivshmem": "the region",
    "ivshmem-malloc": "the region, with malloc in it (libivshmem-malloc)",
    "tcp": "tcp over the network of the VMs",
    "shm": "no VMs: shared memory of MPICH's nemesis, the same library",
    "mpich": "no VMs: Debian's MPICH (ch4:ucx)",
    "openmpi": "no VMs: Open MPI",
}
OURS = ("ivshmem", "ivshmem-malloc", "tcp", "shm")
HUB = "10.77.0.254"
SSH = """#!/bin/sh
while [ "${{1#-}}" != "$1" ]; do shift; done
case $1 in
{}
    *) echo "no namespace for $1" >&2; exit 255 ;;
esac
shift
exec nsenter "--net=/proc/$pid/ns/net" sh -c "$*"
"""


def address(node: int) -> str:
    return f"10.77.0.{node + 1}"


class Installation:
    """The MPI that this program belongs to."""

    def __init__(self, bindir: Path):
        self.bin = bindir
        for program in ("mpiexec", "mpicc", "ivshmem", "ivshmem-env", "ivshmem-vms"):
            if not os.access(bindir / program, os.X_OK):
                raise Failure(f"no {program} in {bindir}: run the ivshmem-bench of an installation with MPICH, or "
                              "build one with make stage")
        told = subprocess.run([str(bindir / "ivshmem-env"), "--malloc", "sh", "-c", 'echo "$LD_LIBRARY_PATH:"; echo '
                              '"$LD_PRELOAD"'], env=jobs.clean_environment(), text=True, capture_output=True)
        if told.returncode != 0:
            raise Failure(told.stderr.strip())
        self.lib, self.malloc = (line.split(":")[0] for line in told.stdout.splitlines())

    def command(self, program: str) -> str:
        return str(self.bin / program)

    def version(self) -> str:
        told = subprocess.run([self.command("mpichversion")], text=True, capture_output=True).stdout
        found = re.search("^MPICH Version:\\s*(\\S+)", told, re.M)
        return f"MPICH {found[1] if found else '?'}"


class Ground:
    name = ""
    transports: tuple[str, ...] = ()

    def __init__(self, installation: Installation, folder: Path):
        """`folder` is for what the ground needs while it is up."""
        self.mpi = installation
        self.folder = folder

    def up(self, layouts: list[Layout], codes: list[Code], folders: list[Path], profile: Optional[Path]) -> None:
        """Makes all that the layouts need."""

    def down(self) -> None:
        """Removes it; may be called at any time."""

    def about(self) -> dict:
        """What the page says of it."""
        return {}

    def missing(self, transport: str) -> Optional[str]:
        """Why a transport cannot be had on this machine."""

    def forget(self, folder: Path, names: list[str]) -> None:
        for name in names:
            (folder / name).unlink(missing_ok=True)

    def fetch(self, folder: Path, name: str) -> str:
        """The file's bytes, as characters."""
        return (folder / name).read_bytes().decode("latin-1")

    def program(self, code: Code, transport: str) -> Optional[list[str]]:
        return code.openmpi if transport == "openmpi" else code.command

    def job(self, code: Code, layout: Layout, transport: str, profile: Optional[Path]) -> tuple[list[str], dict[str,
                                                                                                                str]]:
        """The command and its environment."""
        raise NotImplementedError

    def _environment(self, code: Code, transport: str, profile: Optional[Path]) -> dict[str, str]:
        """What the ranks of our own MPI need."""
        environment = {"LD_LIBRARY_PATH": ":".join([self.mpi.lib, *map(str, code.libraries)])}
        if transport != "shm":
            environment["MPIR_CVAR_NEMESIS_IVSHMEM_STATS"] = "1"
        if transport == "tcp":
            environment["MPIR_CVAR_NEMESIS_NETMOD"] = "tcp"
        preload = [str(profile)] if profile else []
        if transport == "ivshmem-malloc":
            preload.append(self.mpi.malloc)
        if preload:
            environment["LD_PRELOAD"] = ":".join(preload)
        return {**environment, **code.environment}


def _genv(environment: dict[str, str]) -> list[str]:
    """For the ranks only: mpiexec itself is not to be preloaded."""
    return [word for name, value in environment.items() for word in ("-genv", name, value)]


def _crowded(ranks: int) -> dict[str, str]:
    """More ranks than processors must yield, whatever the transport; ivshmem and Open MPI see that by themselves."""
    return {"MPIR_CVAR_POLLS_BEFORE_YIELD": "1"} if ranks > len(os.sched_getaffinity(0)) else {}


class Host(Ground):
    name = "host"
    transports = ("shm", "mpich", "openmpi")

    def missing(self, transport: str) -> Optional[str]:
        program, package = {"mpich": ("mpiexec.mpich", "mpich"), "openmpi": ("mpiexec.openmpi", "openmpi-bin")}.get(
            transport, ("sh", ""))
        return None if shutil.which(program) else f"no {program}: Debian's package {package}"

    def _debian(self) -> Path:
        """A folder in which Debian's libraries have the names that programs of our own mpicc ask for."""
        folder = self.folder / "debian"
        if not folder.exists():
            folder.mkdir(parents=True)
            linker = subprocess.run(["/sbin/ldconfig", "-p"], text=True, capture_output=True).stdout
            for theirs, ours in (("mpich", "mpi"), ("mpichfort", "mpifort"), ("mpichcxx", "mpicxx")):
                for line in linker.splitlines():
                    if line.split()[:1] == [f"lib{theirs}.so.12"]:
                        (folder / f"lib{ours}.so.12").symlink_to(line.split()[-1])
                        break
        return folder

    def job(self, code, layout, transport, profile):
        environment = {**jobs.clean_environment(), **_crowded(layout.ranks)}
        program = self.program(code, transport)
        ranks = str(layout.ranks)
        if transport == "openmpi":
            return ["mpiexec.openmpi", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", ranks,
                    *program], {**environment, **code.environment}
        if transport == "mpich":
            environment["LD_LIBRARY_PATH"] = ":".join([str(self._debian()), *map(str, code.libraries)])
            return ["mpiexec.mpich", "-n", ranks, *program], {**environment, **code.environment}
        return [self.mpi.command("mpiexec"), *_genv(self._environment(code, transport, profile)), "-n", ranks,
                *program], environment


class Namespaces(Ground):
    """Processes that read from us hold the namespaces and the region, so that nothing outlives us, however we end."""
    name = "namespaces"
    transports = ("ivshmem", "ivshmem-malloc", "tcp")

    def __init__(self, installation: Installation, folder: Path, size: str):
        super().__init__(installation, folder)
        self.size = size
        self.holders: list[subprocess.Popen] = []
        self.region: Optional[str] = None

    def _hold(self, *command: str) -> subprocess.Popen:
        holder = subprocess.Popen([*command, "sh", "-c", 'echo ready && cat; rm -f "$0"', self.region], text=True,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  start_new_session=True)
        self.holders.append(holder)
        if holder.stdout.readline() != "ready\n":
            raise Failure(f"cannot make a network namespace ({holder.stderr.read().strip()}): run this as root, or "
                          "pass --ground host or guests")
        return holder

    def _inside(self, *command: str) -> list[str]:
        """In the hub's namespaces, where mpiexec runs."""
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return ["nsenter", "-t", str(self.holders[0].pid), *user, "--net", *command]

    def _ip(self, *words: str) -> None:
        done = subprocess.run(self._inside("ip", *words), text=True, capture_output=True)
        if done.returncode != 0:
            raise Failure(f"ip {' '.join(words)} failed in a network namespace: {done.stderr.strip()}")

    def up(self, layouts, codes, folders, profile):
        for program in ("unshare", "nsenter", "ip"):
            if not shutil.which(program):
                raise Failure(f"{program} not found: install util-linux and iproute2, or pass --ground host or guests")
        handle, self.region = tempfile.mkstemp(prefix="ivshmem-bench.", dir="/dev/shm")
        os.close(handle)
        os.unlink(self.region)
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        self._hold("unshare", *user, "--net")
        done = subprocess.run([self.mpi.command("ivshmem"), "format", "--size", self.size, self.region], text=True,
                              capture_output=True)
        if done.returncode != 0:
            raise Failure(done.stderr.strip())
        # ssh for mpiexec: the address is that of the namespace.
        self.ssh = self.folder / "namespace-ssh"
        lines = []
        self._ip("link", "set", "lo", "up")
        self._ip("link", "add", "hub", "type", "bridge")
        self._ip("addr", "add", f"{HUB}/24", "dev", "hub")
        self._ip("link", "set", "hub", "up")
        for node in range(max(layout.vms for layout in layouts)):
            pid = self._hold(*self._inside("unshare", "--net")).pid
            lines.append(f"    {address(node)}) pid={pid} ;;")
            self._ip("link", "add", f"to{node}", "type", "veth", "peer", "name", "eth0", "netns", str(pid))
            self._ip("link", "set", f"to{node}", "master", "hub", "up")
            for words in (["link", "set", "lo", "up"], ["addr", "add", f"{address(node)}/24", "dev", "eth0"],
                          ["link", "set", "eth0", "up"]):
                done = subprocess.run(self._inside("nsenter", f"--net=/proc/{pid}/ns/net", "ip", *words), text=True,
                                      capture_output=True)
                if done.returncode != 0:
                    raise Failure(f"ip {' '.join(words)} failed in a network namespace: {done.stderr.strip()}")
        self.ssh.write_text(SSH.format("\n".join(lines)), encoding="ascii")
        self.ssh.chmod(0o700)

    def down(self):
        for holder in self.holders[::-1]:
            holder.stdin.close()
        for holder in self.holders[::-1]:
            holder.wait()
            holder.stdout.close()
            holder.stderr.close()
        self.holders = []

    def job(self, code, layout, transport, profile):
        environment = self._environment(code, transport, profile)
        if transport != "tcp":
            environment["MPIR_CVAR_NEMESIS_IVSHMEM_REGION"] = self.region
        hosts = ",".join(f"{address(node)}:{layout.each}" for node in range(layout.vms))
        return self._inside(self.mpi.command("mpiexec"), "-launcher", "ssh", "-launcher-exec", str(self.ssh),
                            "-localhost",
                            HUB, *_genv({**environment, **_crowded(layout.ranks)}), "-hosts", hosts, "-n",
                            str(layout.ranks), *self.program(code, transport)), jobs.clean_environment()


class Guests(Ground):
    name = "guests"
    transports = ("ivshmem", "ivshmem-malloc", "tcp")
    libraries: list[str] = []

    def __init__(self, installation: Installation, folder: Path, size: str, memory: str, set_name: str):
        super().__init__(installation, folder)
        self.size, self.memory, self.set_name = size, memory, set_name
        self.environment: dict[str, str] = {}
        self.booted = False
        self.accel = ""

    def _vms(self, verb: str, *words: str, encoding: str = "utf-8") -> subprocess.CompletedProcess:
        environment = {**jobs.clean_environment(), "LD_LIBRARY_PATH": ":".join([self.mpi.lib, *self.libraries])}
        return subprocess.run([self.mpi.command("ivshmem-vms"), verb, "--name", self.set_name, *words],
                              encoding=encoding, errors="replace", capture_output=True, env=environment)

    def up(self, layouts, codes, folders, profile):
        self._vms("down")  # those of one that was killed
        paths = {str(Path(word).absolute()) for code in codes for word in [shutil.which(code.command[0])] if word}
        paths |= {str(path) for code in codes for path in [*code.add, *code.libraries]} | set(map(str, folders))
        paths |= {str(profile)} if profile else set()
        self.libraries = [str(folder) for code in codes for folder in code.libraries]
        self.booted = True
        done = self._vms("up", str(max(layout.vms for layout in layouts)), "--prefix", str(self.mpi.bin.parent),
                         "--size",
                         self.size, "--memory", self.memory, "--cpus", str(max(layout.each for layout in layouts)),
                         "--timeout", "900", *(word for path in sorted(paths) for word in ("--add", path)))
        if done.returncode != 0:
            raise Failure(f"the guests did not boot: {done.stderr.strip()}")
        self.accel = "emulated" if "(tcg," in done.stderr else "under KVM"
        script = 'eval "$("$0" env --name "$1")" && exec env -0'
        told = subprocess.run(["sh", "-c", script, self.mpi.command("ivshmem-vms"), self.set_name],
                              env=jobs.clean_environment(), capture_output=True)
        self.environment = dict(word.split("=", 1) for word in os.fsdecode(told.stdout).split("\0") if "=" in word)
        if "HYDRA_LAUNCHER" not in self.environment:
            raise Failure(f"ivshmem-vms env failed: {os.fsdecode(told.stderr).strip()}")

    def about(self):
        return {"guests": self.accel}

    def down(self):
        if self.booted:
            self._vms("down")
        self.booted = False

    def forget(self, folder, names):
        if names:
            self._vms("exec", "0", "sh", "-c", f"cd {shlex.quote(str(folder))} && rm -f {shlex.join(names)}")

    def fetch(self, folder, name):
        return self._vms("exec", "0", "cat", f"{folder}/{name}", encoding="latin-1").stdout

    def job(self, code, layout, transport, profile):
        hosts = ",".join(f"vm{guest}" for guest in range(layout.vms))
        return [self.mpi.command("mpiexec"), *_genv(self._environment(code, transport, profile)), "-hosts", hosts,
                "-ppn",
                str(layout.each), "-n", str(layout.ranks), *self.program(code, transport)], self.environment
