# SPDX-License-Identifier: mpich2
"""The guests' kernel, as ivshmem-vms finds it, and a folder in which to build modules for it."""
import os
import re
import subprocess
from pathlib import Path

from vms import kernel as guests


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
    for needed in [package, *re.findall(r"Depends: (linux-headers-.*-common|linux-kbuild-\S*)", depends)]:
        print(f"# fetching {needed}", flush=True)
        _unpack(needed, root)
    makefile = root / f"usr/src/{package}/Makefile"
    makefile.write_text(makefile.read_text().replace("/usr/src/", f"{root}/usr/src/"))


def find() -> tuple[str, str]:
    """The kernel's image and its build folder; both are downloaded if need be."""
    image = Path(guests.find().image)
    if image.name != "vmlinuz":  # this machine's
        return str(image), f"/lib/modules/{image.name[len('vmlinuz-'):]}/build"
    release = image.parent.name[len("linux-image-"):]
    root = image.parent.parent / f"linux-headers-{release}"
    build = root / f"usr/src/linux-headers-{release}"
    if not (build / "Makefile").exists():
        os.makedirs(root, exist_ok=True)
        _fetch(release, root)
    return str(image), str(build)
