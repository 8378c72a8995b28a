# SPDX-License-Identifier: mpich2
"""A folder for a test, that only this user can enter."""
import os
import shutil
import tempfile
import unittest

from vms.folder import Folder


class ScratchTest(unittest.TestCase):
    def setUp(self):
        self.addCleanup(os.umask, os.umask(0o077))
        self.scratch = os.path.realpath(tempfile.mkdtemp(prefix="ivshm-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.scratch)

    def path(self, name: str) -> str:
        path = os.path.join(self.scratch, name)
        # An absolute name would lead out of here, to files of this machine.
        self.assertTrue(path.startswith(self.scratch + "/"), path)
        return path

    def write(self, name: str, content: str = "") -> str:
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(content)
        return self.path(name)

    def folder(self, name: str = "set") -> Folder:
        """That of a set, which is there."""
        os.makedirs(self.path(name), exist_ok=True)
        return Folder(self.path(name))
