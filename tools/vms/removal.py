# SPDX-License-Identifier: mpich2
"""Ends the set's QEMUs and servers, and removes its regions and its folder, even of an incomplete set."""
import os
import shutil

from . import qemus, regions, servers
from .folder import Folder


def _raise_unless_gone(_function, _path, raised) -> None:
    """A QEMU that ends removes some of its files itself."""
    if not isinstance(raised[1], FileNotFoundError):
        raise raised[1]


def remove(folder: Folder) -> None:
    files = regions.linked(folder)
    for pid in qemus.running(folder):  # including those whose folder no longer exists
        files += qemus.memory_files(pid)
    qemus.end(lambda: qemus.running(folder) + servers.running(folder))
    regions.remove(files)
    shutil.rmtree(folder.path, onerror=_raise_unless_gone)
    if folder.home:
        try:
            os.rmdir(folder.home)
        except OSError:
            pass  # it holds other sets, or does not exist
