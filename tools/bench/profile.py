# SPDX-License-Identifier: mpich2
"""The library that measures time in MPI: written for an MPI's own mpi.h, compiled by its own mpicc, preloaded.

Every call of mpi.h has a wrapper, so that none is forgotten. What a call sends is told by the names of its parameters,
which are those of the standard.
"""
import re
import subprocess
from pathlib import Path

from .messages import Failure

HERE = Path(__file__).parent
# Without a wrapper: no call that communicates or waits, called very often, or of a variable number of arguments.
LEFT_OUT = re.compile("MPI_(Wtime|Wtick|Pcontrol|T_.*|.*_[cf]2[cf]|.*_f082.*|.*2f08|Status_.*|Aint_.*|DUP_FN|"
                      "Type_(?!.*create).*|Comm_(rank|size))|.*_FN$")
# These only receive, or describe what something else sends.
RECEIVES = re.compile("MPI_(M?I?m?recv|Recv|Imrecv|Mrecv|Irecv|Precv|Get_.*|Type_.*|.*ack.*|.*_init|.*_init_c|Op_.*|"
                      "File_.*|Reduce_local.*|Register.*|Buffer.*|Status.*|Win_.*|Comm_.*)(_c)?")
INIT = ("MPI_Init", "MPI_Init_thread")


def prototypes(text: str) -> list[tuple[str, list[str], list[str]]]:
    """Names, parameters and their names of what mpi.h declares."""
    found = []
    for name, inside in re.findall(r"\bint\s+(MPI_[A-Z]\w*)\s*\(([^()]*)\)", text):
        parameters = [" ".join(part.split()) for part in inside.split(",")]
        if parameters == ["void"]:
            parameters = []
        names = [match[0] if (match := re.search(r"\w+(?=(\[[^\]]*\])*$)", part)) else "" for part in parameters]
        if not LEFT_OUT.fullmatch(name) and all(names):
            found.append((name, parameters, names))
    return found


def sent(name: str, names: list[str]) -> str:
    """The expression for the bytes that this rank sends by a call; negative if none."""
    def has(*wanted: str) -> bool:
        return set(wanted) <= set(names)

    if RECEIVES.fullmatch(name) or name.endswith("_c"):
        return "-1"
    if has("origin_count", "origin_datatype", "target_rank"):
        return "-1" if name in ("MPI_Get", "MPI_Rget") else "one(origin_count, origin_datatype, target_rank)"
    if has("sendcounts", "sendtype", "comm"):
        text = "-1" if "neighbor" in name.lower() else "each(sendcounts, sendtype, comm)"
        return f"is_root(root, comm) ? {text} : -1" if has("root") else text
    if has("sendcount", "sendtype"):
        if name.lower().startswith(("mpi_scatter", "mpi_iscatter")):
            return "is_root(root, comm) ? one(sendcount, sendtype, 0) : -1"
        return f"one(sendcount, sendtype, {'dest' if has('dest') else '0'})"
    if has("count", "datatype", "comm"):
        text = f"one(count, datatype, {'dest' if has('dest') else '0'})"
        return f"is_root(root, comm) ? {text} : -1" if name in ("MPI_Bcast", "MPI_Ibcast") else text
    if has("recvcounts", "datatype", "comm"):
        return "each(recvcounts, datatype, comm)"
    if has("recvcount", "datatype"):
        return "one(recvcount, datatype, 0)"
    return "-1"


def source(header: str) -> str:
    """The library's C, for a preprocessed mpi.h."""
    calls = prototypes(header)
    lines = ["#define _GNU_SOURCE", "#include <dlfcn.h>", f"#define CALLS {len(calls)}", "static const char *const "
                                                                                         "names[CALLS] = {",
             *(f'    "{name}",' for name, _, _ in calls), "};", '#include "profile.h"']
    for number, (name, parameters, names) in enumerate(calls):
        given = ", ".join(names)
        # MPI_IN_PLACE sends something all the same; a root has no sendtype there.
        lines.append(f"int P{name}({', '.join(parameters) or 'void'})\n{{\n"
                     f"    static int (*real_)({', '.join(parameters) or 'void'});\n"
                     f"    if (!real_)\n        real_ = dlsym(RTLD_NEXT, \"P{name}\");\n"
                     "    unsigned long start_ = enter();")
        if name == "MPI_Finalize":
            lines.append("    print();")
        # Before the call, which may free the communicator or change what it is given. A root has no sendtype if it
        # sends in place.
        bytes_sent = sent(name, names)
        if "sendtype" in bytes_sent:
            bytes_sent = f"sendbuf == MPI_IN_PLACE ? -1 : ({bytes_sent})"
        lines.append(f"    long bytes_ = {bytes_sent};\n    int status_ = real_({given});\n"
                     f"    leave({number}, start_, bytes_);")
        if name in INIT:
            lines.append("    begin();")
        lines.append(f"    return status_;\n}}\n"
                     f"int {name}({', '.join(parameters) or 'void'}) __attribute__((alias(\"P{name}\")));")
    return "\n".join(lines) + "\n"


def build(compiler: str, folder: Path) -> Path:
    """Compiles the library for the MPI of `compiler`, its mpicc, in `folder`; returns its path."""
    options = ["-x", "c", "-I", str(HERE)]
    try:
        header = subprocess.run([compiler, "-E", *options, "-"], input="#include <mpi.h>\n", text=True,
                                capture_output=True, check=True).stdout
        library = folder / "libivshmem-profile.so"
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-w", *options, "-", "-o", str(library)],
                       input=source(header), text=True, capture_output=True, check=True)
    except FileNotFoundError:
        raise Failure(f"{compiler} not found: it builds what measures time in MPI; pass --no-profile to do without")
    except subprocess.CalledProcessError as error:
        raise Failure(f"{compiler} failed to build what measures time in MPI; pass --no-profile to do without",
                      error.stderr)
    return library
