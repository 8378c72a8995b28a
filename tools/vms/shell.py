# SPDX-License-Identifier: mpich2
"""What is printed for a shell. Each function returns the exit status."""
import shlex

from .folder import Folder
from .messages import Failure


def hosts(folder: Folder) -> int:
    folder.open()
    print(folder / "hosts")
    return 0


def env(folder: Folder) -> int:
    """Prints what a shell evaluates. Every value is quoted, whatever it contains."""
    noted = folder.open()
    if not noted.ready:
        raise Failure(f"the guests in {folder} are not up yet")
    print(f"export IVSHMEM_VMS_DIR={folder}",
          "export HYDRA_LAUNCHER=ssh",
          f"export HYDRA_LAUNCHER_EXEC={folder}/ssh",
          f'export PATH={shlex.quote(noted.prefix + "/bin")}:"$PATH"', sep="\n")
    if noted.region:
        print(f"export MPIR_CVAR_NEMESIS_IVSHMEM_REGION={shlex.quote(noted.region)}")
    if noted.server:
        print(f"export MPIR_CVAR_NEMESIS_IVSHMEM_SERVER={shlex.quote(noted.server)}")
    return 0
