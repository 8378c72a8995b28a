# SPDX-License-Identifier: mpich2
"""The files of a guest when it boots: this machine's programs, and a few of its own."""
import contextlib
import glob
import os
import shutil
import subprocess
from pathlib import Path
from typing import Optional

from . import archive, commands
from .folder import Folder
from .messages import Failure
from .options import MIB, Options, is_shared, own_files

SCRIPTS = Path(__file__).with_name("guest")
FOLDERS = ("dev", "proc", "sys", "tmp", "run", "var/run", "modules", "root/.ssh", "usr/bin", "etc/dropbear")


@contextlib.contextmanager
def _readable():
    """Files created meanwhile are readable by all users of the guest."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


def _write(path: Path, *lines: str) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _copy_scripts(tree: Path) -> None:
    for script, place in (("init", "init"), ("ssh", "usr/bin/ssh"), ("preflight", "usr/bin/preflight"),
                          ("region", "usr/bin/region")):
        shutil.copyfile(SCRIPTS / script, tree / place)
        (tree / place).chmod(0o755)


def _copy_modules(tree: Path, modules: list[str], driver: Optional[str]) -> None:
    named = {os.path.basename(module): module for module in modules}
    if driver:  # whatever it is called here
        named["driver.ko"] = driver
    for name, module in named.items():
        shutil.copy(module, tree / "modules" / name)
    _write(tree / "modules/order", *named)


def _name_hosts(tree: Path, folder: Folder, vms: int) -> None:
    shutil.copyfile(folder / "hosts", tree / "etc/mpi-hosts")
    _write(tree / "etc/hosts", "127.0.0.1 localhost",
           *(f"10.77.0.{guest + 1} vm{guest}" for guest in range(vms)), "10.0.2.2 host")


def _hand_out_keys(tree: Path, folder: Folder, vms: int) -> None:
    key = tree / "etc/dropbear/key"
    converted = commands.run(["dropbearconvert", "openssh", "dropbear", str(folder / "key"), str(key)],
                             stderr=subprocess.DEVNULL)
    if converted.status != 0:
        raise Failure("dropbearconvert failed to convert the key that ssh-keygen created")
    public = (folder / "key.pub").read_text(encoding="ascii")
    # dbclient mistakes a comment for a part of the key.
    bare = " ".join(public.split()[:2])
    _write(tree / "root/.ssh/known_hosts", *(f"vm{guest} {bare}" for guest in range(vms)))
    authorized = tree / "root/.ssh/authorized_keys"
    authorized.write_text(public, encoding="ascii")
    for secret in (key, authorized):
        secret.chmod(0o600)
    for private in (tree / "root", tree / "root/.ssh"):
        private.chmod(0o700)


def _link_programs(tree: Path, prefix: str) -> None:
    """Links to the installation's programs, so that they are in the guest's PATH; /usr/bin/ssh is the guest's own."""
    programs = glob.glob(f"{glob.escape(prefix)}/bin/*")
    if is_shared(prefix):
        programs = [path for path in own_files(prefix) if os.access(path, os.X_OK) and ".so" not in path]
    for program in programs:
        if os.path.basename(program) != "ssh" and os.path.realpath(os.path.dirname(program)) != "/usr/bin":
            (tree / "usr/bin" / os.path.basename(program)).symlink_to(program)
    for top in ("bin", "sbin", "lib", "lib64"):
        if os.path.islink(f"/{top}"):
            (tree / top).symlink_to(os.readlink(f"/{top}"))


def _make_tree(tree: Path, folder: Folder, options: Options, prefix: str, modules: list[str]) -> None:
    for name in FOLDERS:
        (tree / name).mkdir(parents=True)
    _write(tree / "etc/passwd", "root:x:0:0:root:/root:/bin/sh")
    _write(tree / "etc/group", "root:x:0:")
    _write(tree / "etc/nsswitch.conf", "passwd: files", "group: files", "hosts: files")
    _write(tree / "etc/inittab", "::ctrlaltdel:/sbin/reboot")
    _copy_modules(tree, modules, options.driver)
    _name_hosts(tree, folder, options.vms)
    _hand_out_keys(tree, folder, options.vms)
    _link_programs(tree, prefix)
    _copy_scripts(tree)


def _installation(prefix: str) -> list[str]:
    """All of the installation's bin and lib; of a prefix that it shares with others, only its own files."""
    own = own_files(prefix)
    if is_shared(prefix):
        return own
    return [f"{prefix}/bin", *glob.glob(f"{glob.escape(prefix)}/lib/*.so*"), *own]


def _programs(prefix: str) -> list[str]:
    system = [commands.find(program) for program in ("busybox", "bash", "dropbear", "dbclient", "tar")]
    return [*filter(None, system), "/etc/ld.so.cache", *_installation(prefix)]


def build(folder: Folder, options: Options, prefix: str, modules: list[str]) -> Path:
    """Makes the archive with which all guests of the set boot."""
    tree, image = folder / "guest", folder / "initramfs"
    with _readable():
        _make_tree(tree, folder, options, prefix, modules)
    with open(image, "wb") as file:
        archive.write_closure(file, _programs(prefix) + options.add)
        archive.write_tree(file, str(tree))
    shutil.rmtree(tree)
    size = image.stat().st_size
    # The guest holds the archive and the files at once while it boots.
    if options.memory <= 3 * size + 64 * MIB:
        raise Failure(f"the guests' files need {size // MIB} MiB, too much for guests with {options.memory // MIB} MiB "
                      f"of memory: pass --memory {4 * size // MIB + 128}M")
    return image
