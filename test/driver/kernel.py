# SPDX-License-Identifier: mpich2
"""The guests' kernel, as ivshmem-vms finds it, and the driver, built for it."""
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from vms import kernel as guests


SOURCE = Path(__file__).resolve().parents[2] / "kmod"


def _run(*command, **options) -> None:
    subprocess.run(command, check=True, **options)


def _unpack(package: str, root: Path) -> None:
    _run("apt-get", "-qq", "-o", "APT::Sandbox::User=", "download", package, cwd=root, stdout=2)
    for deb in root.glob("*.deb"):
        _run("dpkg-deb", "-x", str(deb), str(root))
        deb.unlink()


def _fetch(release: str, root: Path) -> None:
    """Debian's headers, without installing them: what names their place is changed."""
    package = f"linux-headers-{release}"
    depends = subprocess.run(["apt-cache", "depends", package], check=True, capture_output=True, text=True).stdout
    with tempfile.TemporaryDirectory(prefix=".fetch.", dir=root.parent) as folder:
        fetched = Path(folder) / root.name
        fetched.mkdir()
        for needed in [package, *re.findall(r"Depends: (linux-headers-.*-common|linux-kbuild-\S*)", depends)]:
            print(f"# fetching {needed}", file=sys.stderr, flush=True)
            _unpack(needed, fetched)
        makefile = fetched / f"usr/src/{package}/Makefile"
        makefile.write_text(makefile.read_text().replace("/usr/src/", f"{root}/usr/src/"))
        fetched.rename(root)


def find() -> tuple[str, str]:
    """The kernel's image and its build folder; both are downloaded if need be."""
    image = Path(guests.find().image)
    if image.name != "vmlinuz":  # this machine's
        return str(image), f"/lib/modules/{image.name[len('vmlinuz-'):]}/build"
    release = image.parent.name[len("linux-image-"):]
    root = image.parent.parent / f"linux-headers-{release}"
    build = root / f"usr/src/linux-headers-{release}"
    if not build.exists():
        _fetch(release, root)
    return str(image), str(build)


def build_driver(folder: Path, build: str) -> Path:
    """Builds it in the folder, with all warnings as errors, and returns the module."""
    source = folder / "kmod"
    shutil.copytree(SOURCE, source)
    made = subprocess.run(["make", "-C", str(source), f"KDIR={build}", "W=1", "KCFLAGS=-Werror",
                           "CONFIG_DEBUG_INFO_BTF_MODULES="],  # which would need pahole
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if made.returncode != 0:
        raise OSError(f"the driver does not build:\n{made.stdout}")
    return source / "ivshmem.ko"
