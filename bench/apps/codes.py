# SPDX-License-Identifier: mpich2
"""The codes of `make bench-apps`: where each comes from, its input, and how its result is judged."""
import hashlib
import math
import re
import subprocess
from pathlib import Path
from typing import Callable, Optional

from bench.codes import Code, Output, Wrong
from bench.layouts import Layout
from bench.messages import Failure

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PROXIES = {  # arguments, and those of --quick
    "ocean": (["384", "5"], ["128", "2"], "barotropic solver, 2D halos and a small allreduce in each iteration: the "
                                          "pattern of pop2"),
    "wavefront": (["128", "40"], ["48", "8"], "pipelined sweeps with small messages: the pattern of lu"),
    "stencil": (["112", "200"], ["48", "30"],
                "3D time steps with halos: the pattern of leslie3d, zeusmp2 and GemsFDTD"),
    "fft": (["256", "100"], ["64", "10"],
            "transforms and transposes, in which all ranks exchange with all: the pattern of plane-wave codes"),
    "lattice": (["16", "4"], ["8", "3"], "conjugate gradients with 4D halos: the pattern of milc"),
}
NOT_HAD = [
    "SPEC MPI2007 itself is sold, not in Debian. `ivshmem-bench run` takes its programs as any others.",
    "PETSc, Quantum ESPRESSO and CP2K: Debian's are built with Open MPI, whose binary interface is another.",
    "BAGEL: Debian's package, built with MPICH, finds its data in /usr only, so it cannot be used without being "
    "installed.",
]


def _judge_of_proxy(name: str) -> Callable[[Output], tuple[Optional[float], None]]:
    def judge(output: Output):
        if f"{name}: error" not in output.text or ": verified" not in output.text:
            raise Wrong("its own verification did not pass")
        return _number(output.text, rf"{name}: ([0-9.]+) seconds"), None

    return judge


class Maker:
    """Gets the codes: each of its methods with a code's name returns that code, or raises Failure."""

    def __init__(self, inst: Path, folder: Path, logs: Path, quick: bool):
        self.inst, self.folder, self.logs, self.quick = inst, folder, logs, quick

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode != 0:
            last = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
            raise Failure(f"{Path(command[0]).name} failed: {last}")
        return done.stdout

    def _fetch(self, name: str) -> Path:
        return Path(self._run(str(HERE / "fetch"), name, str(self.inst), str(self.logs)).splitlines()[-1])

    def _usr(self, name: str) -> tuple[Path, Path]:
        """Of a binary package: its usr and its folder of libraries."""
        usr = self._fetch(name) / "usr"
        return usr, next(usr.glob("lib/*-linux-gnu"))

    def proxy(self, name: str) -> Code:
        long, quick, about = PROXIES[name]
        built: dict[str, Optional[str]] = {}
        for mpi, compiler in (("mpich", str(self.inst / "bin" / "mpicc")), ("openmpi", "mpicc.openmpi")):
            program = self.folder / f"{name}.{mpi}"
            try:
                self._run(compiler, "-O2", "-o", str(program), str(ROOT / "bench" / "proxies" / f"{name}.c"), "-lm")
                built[mpi] = str(program)
            except FileNotFoundError:
                built[mpi] = None
        arguments = quick if self.quick else long

        return Code(name, [built["mpich"], *arguments], _judge_of_proxy(name),
                    about=f"proxy: {about}; knows its solution",
                    openmpi=[built["openmpi"], *arguments] if built["openmpi"] else None)

    def coarray(self) -> Code:
        _, lib = self._usr("coarrays")
        caf = lib / "open-coarrays" / "mpich" / "lib"
        program = self.folder / "coarray"
        self._run(str(self.inst / "bin" / "mpifort"), "-O2", "-fcoarray=lib", "-o", str(program),
                  str(ROOT / "bench" / "proxies" / "coarray.f90"), f"-L{caf}", "-l:libcaf_mpich.so.3")

        return Code("coarray", [str(program), *(("200", "50") if self.quick else ("1024", "500"))],
                    _judge_of_proxy("coarray"), libraries=[caf],
                    about="proxy: Coarray Fortran by OpenCoarrays: one-sided halos, and a sum now and then; knows its "
                          "solution")

    def hpcc(self) -> Code:
        program = self.folder / "hpcc"
        self._run(str(ROOT / "demo" / "hpcc"), str(self.inst), str(program), str(self.logs))

        def files(layout: Layout) -> dict[str, str]:
            """The demo's input for this number of ranks, and a matrix of this size."""
            rows = _rows(layout.ranks)
            lines = (ROOT / "demo" / "hpccinf.txt").read_text(encoding="ascii").splitlines()
            changed = {"Ns": 400 if self.quick else 1600, "Ps": rows, "Qs": layout.ranks // rows}
            return {"hpccinf.txt": "\n".join(f"{changed[line.split()[1]]} {line.split()[1]}"
                                             if len(line.split()) == 2 and line.split()[1] in changed else line
                                             for line in lines) + "\n"}

        def judge(output: Output):
            text = output.files["hpccoutf.txt"]
            told = subprocess.run(["awk", "-f", str(ROOT / "demo" / "validate.awk")], input=text, text=True,
                                  capture_output=True)
            if told.returncode != 0:
                raise Wrong(next((line for line in told.stdout.splitlines() if "FAILED" in line), "its checks failed"))
            parts = ("HPL_time", "PTRANS_time", "MPIRandomAccess_time", "MPIRandomAccess_LCG_time",
                     *(f"MPIFFT_time{i}" for i in range(7)))
            return sum(float(match[1]) for part in parts
                       if (match := re.search(rf"^{part}=([-0-9.e+]+)", text, re.M)) and float(match[1]) > 0), None

        return Code("hpcc", [str(program)], judge, files=files, outputs=["hpccoutf.txt"],
                    fits=lambda layout: "HPCC's FFT wants 2^n ranks" if layout.ranks & layout.ranks - 1 else None,
                    about="HPC Challenge: the times of HPL, PTRANS, MPIRandomAccess and MPIFFT together; checks by "
                          "itself")

    def tachyon(self) -> Code:
        usr, lib = self._usr("tachyon")
        side = 200 if self.quick else 900

        def scene(_layout: Layout) -> dict[str, str]:
            lines = ["BEGIN_SCENE", f"RESOLUTION {side} {side}", "CAMERA", "ZOOM 1.0", "ASPECTRATIO 1.0",
                     "ANTIALIASING 1",
                     "RAYDEPTH 5", "CENTER 0.0 0.0 -12.0", "VIEWDIR 0.0 0.0 1.0", "UPDIR 0.0 1.0 0.0", "END_CAMERA",
                     "BACKGROUND 0.1 0.1 0.2", "LIGHT CENTER 8.0 9.0 -12.0 RAD 0.1 COLOR 1.0 1.0 1.0"]
            for i in range(400):
                angle, radius = 2.399963 * i, 0.2 * math.sqrt(i)
                lines.append(f"SPHERE CENTER {radius * math.cos(angle):.5f} {radius * math.sin(angle):.5f} "
                             f"{2 * math.sin(0.3 * i):.5f} RAD 0.3\n  TEXTURE AMBIENT 0.1 DIFFUSE 0.6 SPECULAR 0.4 "
                             f"OPACITY 1.0\n  COLOR {0.5 + 0.5 * math.sin(i):.3f} {0.5 + 0.5 * math.cos(i):.3f} 0.7 "
                             "TEXFUNC 0")
            return {"scene.dat": "\n".join([*lines, "END_SCENE"]) + "\n"}

        def judge(output: Output):
            image = output.files["image.ppm"]
            if len(image) < 3 * side * side:
                raise Wrong(f"the image has {len(image)} bytes, expected more than {3 * side * side}")
            return (_number(output.text, r"Ray Tracing Time:\s+([0-9.]+) seconds"),
                    hashlib.sha256(image.encode("latin-1")).hexdigest())

        return Code("tachyon", [str(usr / "bin" / "tachyon-nox"), "scene.dat", "-format", "PPM", "-o", "image.ppm"],
                    judge,
                    libraries=[lib], files=scene, outputs=["image.ppm"], compare=True,
                    about="a ray tracer, as SPEC's tachyon: 400 spheres; the image must be that of the reference run")

    def lammps(self, name: str, about: str, steps: int = 100) -> Code:
        folder = self._fetch("lammps")
        steps = steps // 5 if self.quick else steps

        def files(_layout: Layout) -> dict[str, str]:
            text = (folder / f"in.{name}").read_text(encoding="ascii")
            text = re.sub(r"^run\s+100$", f"run {steps}", text, flags=re.M)
            text = re.sub(r"^thermo_style\s+multi.*$", "thermo_style one", text, flags=re.M)
            return {f"in.{name}": re.sub(r"data\.chain|data\.rhodo|Cu_u3\.eam", lambda found: str(folder / found[0]),
                                         text)}

        def judge(output: Output):
            seconds = _number(output.text, r"Loop time of ([0-9.]+)")
            rows = re.findall(r"^\s*\d+(?:\s+[-+0-9.eE]+){5,6}\s*$", output.text, re.M)
            if len(rows) < 2:
                raise Wrong("the output has no thermodynamic state after the last step")
            # Columns: step, temperature, energies, pressure, volume. Sums over ranks differ in their last digits.
            return seconds, [float(word) for word in rows[-1].split()]

        return Code(f"lammps-{name}", [str(folder / "lmp_mpi"), "-in", f"in.{name}", "-log", "none"], judge,
                    files=files, add=[folder], compare=True, tolerance=1e-4,
                    about=f"molecular dynamics, bench/in.{name}: {about}; the last state must be that of the reference "
                          "run, to 1e-4")

    def mocassin(self) -> Code:
        usr = self._fetch("mocassin") / "usr"
        data = Path("/usr/share/mocassin/data")
        if not data.is_dir():
            raise Failure(f"no {data}: Debian's package mocassin-data")
        benchmark = usr / "share" / "mocassin" / "benchmarks" / "dust" / "1D" / "p0tau1"
        photons = "20000" if self.quick else "200000"

        def files(_layout: Layout) -> dict[str, str]:
            text = (benchmark / "input.in").read_text(encoding="latin-1")
            for key, value in (("autoPackets", ""), ("writeGrid", ""), ("nPhotons", f"nPhotons {photons}"),
                               ("maxIterateMC", "maxIterateMC 3 95.")):
                text = re.sub(rf"^{key}.*$", value, text, flags=re.M)
            return {"input/input.in": text.strip() + "\n" * 20, "output/README": "mocassin's\n",
                    **{f"input/{path.name}": path.read_text(encoding="latin-1") for path in benchmark.glob("p0tau1*")}}

        def judge(output: Output):
            if "clean exit" not in output.text:
                raise Wrong("it did not reach its end")
            rows = re.findall(r"^\s+([-+0-9.E]+)\s+[-+0-9.E]+\s+([-+0-9.E]+)\s*$", output.files["output/SED.out"], re.M)
            return None, [sum(float(frequency) * float(flux) for frequency, flux in rows)]

        return Code("mocassin", [str(usr / "bin" / "mocassin")], judge, files=files, outputs=["output/SED.out"],
                    add=[data.parent], compare=True, tolerance=0.1,
                    about="Monte Carlo of light in dust, its benchmark p0tau1; the spectrum's energy must be that of "
                          "the reference run, to a tenth")

    def nwchem(self) -> Code:
        usr, lib = self._usr("nwchem")
        basis = "6-31g*" if self.quick else "cc-pvtz"
        deck = ("start water\npermanent_dir .\nscratch_dir .\ngeometry units bohr\n O 0.0 0.0 0.0\n H 0.0 1.43 1.1\n"
                f" H 0.0 -1.43 1.1\nend\nbasis\n * library {basis}\nend\ntask scf\n")

        def judge(output: Output):
            energy = _number(output.text, r"Total SCF energy =\s+([-0-9.]+)")
            return _number(output.text, r"Total times\s+cpu:\s+[0-9.]+s\s+wall:\s+([0-9.]+)s"), [energy]

        return Code("nwchem", [str(usr / "bin" / "nwchem.mpich"), "water.nw"], judge, libraries=[lib], compare=True,
                    tolerance=1e-8, files=lambda layout: {"water.nw": deck}, add=[usr / "share" / "nwchem"],
                    environment={"NWCHEM_BASIS_LIBRARY": f"{usr}/share/nwchem/libraries/"},
                    about=f"quantum chemistry: the SCF energy of water, {basis}; it must be that of the reference run")

    def scalapack(self) -> Code:
        _, lib = self._usr("scalapack")
        problems = 1 if self.quick else 4
        size = "300" if self.quick else "four times 600, times the root of the number of ranks,"

        def files(layout: Layout) -> dict[str, str]:
            # The driver has 4 MB of memory in each rank.
            n = 300 if self.quick else 32 * round(600 * math.sqrt(layout.ranks) / 32)
            rows, sizes = _rows(layout.ranks), " ".join([str(n)] * problems)
            return {"LU.dat": f"'LU'\n'MPI'\n'LU.out'\n6\n{problems}\n{sizes}\n{sizes}\n"
                    f"1\n32\n1\n1\n1\n1\n1\n{rows}\n{layout.ranks // rows}\n3.0\nF\n"}

        def judge(output: Output):
            found = re.findall(r"^WALL(?:\s+\d+){7}\s+([0-9.]+)\s+([0-9.]+)\s+\S+\s+PASSED", output.text, re.M)
            if f" {problems} tests completed and passed residual checks" not in output.text or len(found) < problems:
                skipped = re.search(r"need TOTMEM of at least.*", output.text)
                raise Wrong(skipped[0] if skipped else "its residual checks did not pass")
            return sum(float(seconds) for row in found for seconds in row), None

        return Code("scalapack", [str(lib / "scalapack" / "mpich-tests" / "xdlu")], judge, libraries=[lib], files=files,
                    about=f"ScaLAPACK's LU driver, {size} equations; checks its residuals")

    def all(self) -> dict[str, Callable[[], Code]]:
        """By name; each is made only when it is called."""
        return {
            **{name: (lambda name=name: self.proxy(name)) for name in PROXIES},
            "coarray": self.coarray,
            "hpcc": self.hpcc,
            "tachyon": self.tachyon,
            "lammps-lj": lambda: self.lammps("lj", "32,000 atoms"),
            "lammps-chain": lambda: self.lammps("chain", "polymers"),
            "lammps-eam": lambda: self.lammps("eam", "copper"),
            "lammps-rhodo": lambda: self.lammps("rhodo", "a protein in water, with long-range forces by FFT", 20),
            "mocassin": self.mocassin,
            "nwchem": self.nwchem,
            "scalapack": self.scalapack,
        }


def _number(text: str, pattern: str) -> float:
    """The last one that the pattern finds."""
    found = re.findall(pattern, text)
    if not found:
        raise Wrong(f"the output has nothing that matches {pattern}")
    return float(found[-1])


def _rows(ranks: int) -> int:
    """The first of two factors, as near to each other as possible, and not the larger one."""
    return max(rows for rows in range(1, math.isqrt(ranks) + 1) if ranks % rows == 0)


def versions() -> str:
    def first(*command: str) -> str:
        try:
            told = subprocess.run(command, text=True, capture_output=True).stdout
        except OSError:
            return ""
        return re.sub(r"\s+", " ", told).strip()

    mpich = re.search(r"Version: (\S+)", first("mpiexec.mpich", "--version"))
    openmpi = re.search(r"\(Open MPI\) (\S+)", first("mpiexec.openmpi", "--version"))
    commit = first("git", "-C", str(ROOT), "describe", "--always", "--dirty")
    return ", ".join([f"commit {commit or 'unknown'}", *([f"Debian's MPICH {mpich[1]}"] if mpich else []),
                      *([f"Open MPI {openmpi[1]}"] if openmpi else [])])
