# SPDX-License-Identifier: mpich2
"""The guests' kernel and modules: this machine's own if it has them, else Debian's, unpacked in the cache."""
import glob
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from typing import NamedTuple, Optional

from . import commands, interrupts
from .messages import Failure, say

# In this order. The last but one shows the generation id, if QEMU has -device vmgenid; the last is for ivshmem net.
MODULES = ("virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci",
           "failover", "net_failover", "virtio_net", "qemu_fw_cfg", "tun")
# For guests with an NVDIMM or a folder of the host, which load them by hand. Kernels of this machine may lack them.
NVDIMM = ("libnvdimm", "nfit", "nd_btt", "nd_pmem", "dax_pmem", "device_dax")
VIRTIOFS = ("fuse", "virtiofs")
ALL = MODULES + NVDIMM + VIRTIOFS
META_PACKAGE = "linux-image-cloud-amd64"
# What is kept of the package.
KEPT = re.compile(r"\./boot/vmlinuz-.*|.*/(virtio[^/]*|failover|net_failover|qemu_fw_cfg|tun|" +
                  "|".join(NVDIMM + VIRTIOFS) + r")\.ko|.*/modules\.builtin")


class Kernel(NamedTuple):
    image: str
    modules: list[str]  # files, in the order of loading
    nvdimm: list[str]  # the same of NVDIMM, or empty
    virtiofs: list[str]  # and of VIRTIOFS


def _builtin(folder: str) -> str:
    try:
        with open(os.path.join(folder, "modules.builtin"), encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def _find_modules(folder: str, wanted: tuple[str, ...] = MODULES) -> Optional[list[str]]:
    """Uncompressed files below the folder; none for modules built into the kernel. None if one is missing."""
    files = {name: os.path.join(at, name) for at, _folders, names in os.walk(folder) for name in names}
    builtin = _builtin(folder)
    modules = []
    for module in wanted:
        if f"{module}.ko" in files:
            modules.append(files[f"{module}.ko"])
        elif f"/{module}.ko" not in builtin:
            return None
    return modules


def _find(cache: str) -> Optional[Kernel]:
    of_this_machine = sorted(glob.glob("/boot/vmlinuz-*"))
    for image in of_this_machine + sorted(glob.glob(f"{glob.escape(cache)}/linux-image-*/vmlinuz")):
        folder = os.path.dirname(image)
        if image in of_this_machine:
            folder = "/lib/modules/" + image[len("/boot/vmlinuz-"):]
        modules = _find_modules(folder) if os.access(image, os.R_OK) else None
        if modules is not None:
            nvdimm, virtiofs = _find_modules(folder, NVDIMM), _find_modules(folder, VIRTIOFS)
            if None not in (nvdimm, virtiofs) or image in of_this_machine:
                return Kernel(image, modules, nvdimm or [], virtiofs or [])
    return None


def _package() -> str:
    """The full name of the current one."""
    try:
        depends = commands.run(["apt-cache", "depends", META_PACKAGE], stderr=subprocess.DEVNULL).output
    except FileNotFoundError:
        depends = b""
    found = re.search(r"Depends: (linux-image-[0-9].*)", depends.decode())
    if not found:
        raise Failure(f"there is no usable kernel in /boot, and apt does not know {META_PACKAGE}: "
                      "run apt-get update, or install a kernel package")
    return found[1]


def _download(package: str, folder: str) -> str:
    # The output of apt-get is not ours.
    status = commands.run(["apt-get", "-qq", "-o", "APT::Sandbox::User=", "download", package],
                          cwd=folder, stdout=2).status
    debs = glob.glob(f"{glob.escape(folder)}/*.deb")
    if status != 0 or not debs:
        raise Failure(f"apt-get download {package} failed: run apt-get update and try again")
    return debs[0]


def _unpack(deb: str, folder: str) -> None:
    """Puts the files that are kept into the folder, without the directories of the package."""
    archive = os.path.join(folder, "files.tar")
    with open(archive, "wb") as file:
        if commands.run(["dpkg-deb", "--fsys-tarfile", deb], stdout=file).status != 0:
            raise Failure(f"dpkg-deb failed to unpack {os.path.basename(deb)}")
    with tarfile.open(archive) as tar:
        for member in tar:
            interrupts.check()
            if member.isfile() and KEPT.fullmatch(member.name):
                name = os.path.basename(member.name)
                target = "vmlinuz" if name.startswith("vmlinuz-") else name
                with open(os.path.join(folder, target), "wb") as file:
                    shutil.copyfileobj(tar.extractfile(member), file)
    os.unlink(archive)
    os.unlink(deb)


def _fetch(cache: str) -> None:
    package = _package()
    say(f"fetching the guests' kernel, {package}")
    os.makedirs(cache, exist_ok=True)
    kept = os.path.join(cache, package)
    with tempfile.TemporaryDirectory(prefix=".fetch.", dir=cache) as fetched:
        inside = os.path.join(fetched, package)
        os.mkdir(inside)
        _unpack(_download(package, fetched), inside)
        # A cache of an earlier release of this tool may lack a module.
        if os.path.isdir(kept) and _find_modules(kept, ALL) is None:
            shutil.rmtree(kept)
        try:
            os.rename(inside, kept)
        except OSError:
            pass  # another process was faster
    if _find_modules(kept, ALL) is None:
        raise Failure(f"the kernel package {package} lacks one of the modules {' '.join(ALL)}")


def find() -> Kernel:
    cache = os.environ.get("MPICH_IVSHMEM_CACHE")
    if not cache:
        above = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        cache = os.path.join(above, "mpich-ivshmem")
    cache = os.path.join(cache, "guest")
    kernel = _find(cache)
    if kernel is None:
        _fetch(cache)
        kernel = _find(cache)
    if kernel is None:
        raise Failure(f"the downloaded kernel is no longer in {cache}: try again")
    return kernel
