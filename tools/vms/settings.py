# SPDX-License-Identifier: mpich2
"""What a guest that boots from an image is told of its set: files, in an archive that it unpacks at each boot."""
import io
import tarfile
from pathlib import Path
from typing import Iterator

from . import image, machine
from .folder import Folder

SCRIPTS = Path(__file__).with_name("guest")


def _network(guest: int, vms: int) -> Iterator[tuple[str, str]]:
    """The cards are told apart by their addresses, as in guest/init."""
    mine = f"10.77.0.{guest + 1}/32"
    yield "lo", f"[Match]\nName=lo\n[Network]\nAddress={mine}\n"
    yield "host", (f"[Match]\nMACAddress={machine.mac(guest)}:ff\n"
                   "[Network]\nLinkLocalAddressing=no\nAddress=10.0.2.15/24\n")
    for peer in (peer for peer in range(vms) if peer != guest):
        yield f"vm{peer}", (f"[Match]\nMACAddress={machine.mac(guest)}:{peer:02x}\n[Network]\nLinkLocalAddressing=no\n"
                            f"[Address]\nAddress={mine}\nPeer=10.77.0.{peer + 1}/32\n")


def _files(folder: Folder, guest: int, vms: int) -> Iterator[tuple[str, str, int]]:
    """Names, contents and modes."""
    private = (folder / "key").read_text(encoding="ascii")
    public = (folder / "key.pub").read_text(encoding="ascii")
    yield "etc/hostname", f"vm{guest}\n", 0o644
    yield "etc/hosts", "127.0.0.1 localhost\n10.0.2.2 host\n" + "".join(
        f"10.77.0.{peer + 1} vm{peer}\n" for peer in range(vms)), 0o644
    yield "etc/mpi-hosts", (folder / "hosts").read_text(encoding="ascii"), 0o644
    yield "etc/ssh/ssh_host_ed25519_key", private, 0o600
    yield "etc/ssh/ssh_known_hosts", "".join(f"vm{peer} {public}" for peer in range(vms)), 0o644
    yield "root/.ssh/authorized_keys", public, 0o600
    yield f"home/{image.USER}/.ssh/authorized_keys", public, 0o600
    yield f"home/{image.USER}/.ssh/id_ed25519", private, 0o600
    for name, text in _network(guest, vms):
        yield f"etc/systemd/network/{name}.network", text, 0o644
    for script, place in (("ready", "lib/ivshmem-vms/ready"), ("region", "lib/ivshmem-vms/region"),
                          ("preflight", "bin/preflight")):
        yield f"usr/local/{place}", (SCRIPTS / script).read_text(encoding="utf-8"), 0o755


def write(folder: Folder, guest: int, vms: int) -> None:
    with tarfile.open(folder.of_guest(guest, "settings"), "w") as tar:
        made = set()
        for name, text, mode in _files(folder, guest, vms):
            owner = image.USER if name.startswith("home/") else "root"
            above = Path(name).parent
            if above.name in (".ssh", "ivshmem-vms") and above not in made:  # the others are there
                made.add(above)
                _add(tar, str(above), None, 0o755 if owner == "root" and above.name != ".ssh" else 0o700, owner)
            _add(tar, name, text, mode, owner)


def _add(tar: tarfile.TarFile, name: str, text, mode: int, owner: str) -> None:
    """A file, or without text a folder."""
    member = tarfile.TarInfo(name)
    member.type = tarfile.REGTYPE if text is not None else tarfile.DIRTYPE
    member.mode, member.uname, member.gname = mode, owner, owner
    content = (text or "").encode()
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
