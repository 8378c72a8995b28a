# SPDX-License-Identifier: mpich2
"""What ssh and mpiexec on this machine need to reach the guests."""
import shutil
from pathlib import Path

from . import commands
from .folder import Folder
from .messages import ME, Failure

WRAPPER = Path(__file__).with_name("host") / "ssh"

FOR_ALL = """Host *
    HostName 127.0.0.1
    User {user}
    IdentityFile {folder}/key
    IdentitiesOnly yes
    HostKeyAlias {me}
    UserKnownHostsFile {folder}/known_hosts
    GlobalKnownHostsFile /dev/null
    BatchMode yes
    ConnectTimeout 20
    # A guest that was reset says that it knows of no connection, if it is asked. Silence proves
    # nothing: a guest that is paused is waited for.
    ServerAliveInterval 5
    ServerAliveCountMax 1000000
    LogLevel ERROR
"""


def make_key(folder: Folder) -> None:
    made = commands.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", ME, "-f", str(folder / "key")])
    if made.status != 0:
        raise Failure("ssh-keygen failed to create a key for the guests")


def write_hosts(folder: Folder, vms: int, cpus: int) -> None:
    each = f":{cpus}" if cpus > 1 else ""
    (folder / "hosts").write_text("".join(f"vm{guest}{each}\n" for guest in range(vms)), encoding="ascii")


def write(folder: Folder, ports: list[int], user: str) -> None:
    guests = "".join(f"Host vm{guest}\n    Port {port}\n" for guest, port in enumerate(ports))
    (folder / "ssh_config").write_text(guests + FOR_ALL.format(folder=folder, me=ME, user=user), encoding="ascii")
    public = (folder / "key.pub").read_text(encoding="ascii")
    (folder / "known_hosts").write_text(f"{ME} {public}", encoding="ascii")
    shutil.copyfile(WRAPPER, folder / "ssh")
    (folder / "ssh").chmod(0o700)


def ssh(folder: Folder, *args: str) -> list[str]:
    return ["ssh", "-F", str(folder / "ssh_config"), *args]
