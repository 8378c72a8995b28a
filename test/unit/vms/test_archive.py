# SPDX-License-Identifier: mpich2
import contextlib
import io
import os
import shutil
import subprocess
import unittest
import unittest.mock

from scratch import ScratchTest
from vms import archive
from vms.messages import Failure


class Trace(ScratchTest):
    def below(self, path: str) -> list[str]:
        """What is found of it in the test's folder."""
        return [found[len(self.scratch) + 1:] for found in archive.trace(self.path(path)) if
                found.startswith(self.scratch + "/")]

    def test_folders_above_come_first(self):
        self.assertEqual(list(archive.trace("/usr//share/./doc")), ["/usr", "/usr/share", "/usr/share/doc"])

    def test_links_are_followed_on_the_way_and_at_the_end(self):
        self.write("real/deep/file")
        os.symlink("real/deep", self.path("way"))
        os.symlink("../way/../deep/file", self.path("real/link"))
        os.symlink(self.path("real/link"), self.path("end"))
        self.assertEqual(self.below("way/file"), ["way", "real", "real/deep", "real/deep/file"])
        self.assertEqual(self.below("end"), ["end", "real", "real/link", "way", "real", "real/deep", "real/deep",
                                             "real/deep/file"])

    def test_a_circle_ends(self):
        os.symlink("b", self.path("a"))
        os.symlink("a", self.path("b"))
        with self.assertRaisesRegex(Failure, "form a loop"):
            self.below("a")


class Closure(ScratchTest):
    def test_libraries_and_their_links(self):
        found = archive.closure(["/bin/ls"])
        self.assertEqual(found, sorted(set(found)))
        real = os.path.realpath("/lib/x86_64-linux-gnu/libc.so.6")
        self.assertIn(real, found)
        self.assertIn(os.path.realpath("/lib64/ld-linux-x86-64.so.2"), found)
        for path in found:
            self.assertTrue(os.path.dirname(path) == "/" or os.path.dirname(path) in found, path)

    def test_programs_in_folders_and_what_is_none(self):
        shutil.copy("/bin/ls", self.path("program"))
        self.write("text", "#!/bin/sh\n")
        os.symlink("none", self.path("dangling"))
        os.mkfifo(self.path("fifo"))  # opening it would wait for ever
        os.chmod(self.path("fifo"), 0o755)
        found = archive.closure([self.scratch])
        for name in ("program", "text", "dangling", "fifo"):
            self.assertIn(self.path(name), found)
        self.assertNotIn(self.path("none"), found)
        self.assertIn(os.path.realpath("/lib/x86_64-linux-gnu/libc.so.6"), found)

    def test_a_missing_library_is_said(self):
        with contextlib.redirect_stderr(io.StringIO()) as said, \
                unittest.mock.patch.object(archive.commands, "run") as run:
            run.return_value.output = b"/x:\n\tlibnone.so.1 => not found\n/y:\n\tlibc.so.6 => /a b/libc.so.6 (0x7f)\n"
            self.assertEqual(archive._libraries(["/x", "/y"]), {"/a b/libc.so.6"})
        self.assertEqual(said.getvalue(),
                         "ivshmem-vms: /x: its library libnone.so.1 is not on this machine, so the guests lack it "
                         "too\n")


@unittest.skipUnless(shutil.which("cpio"), "cpio is not installed")
class Archive(ScratchTest):
    def unpacked(self) -> str:
        os.mkdir(self.path("there"))
        with open(self.path("archive"), "rb") as file:
            subprocess.run(["cpio", "-idm", "--quiet", "--no-absolute-filenames"], cwd=self.path("there"), stdin=file,
                           check=True)
        return self.path("there")

    def test_any_name_and_the_modes(self):
        odd = "new\nline \udcff"
        self.write("here/plain", "text")
        with open(os.fsencode(self.path(f"here/{odd}")), "wb"):
            pass
        os.chmod(self.path("here/plain"), 0o4751)
        os.symlink("plain", self.path("here/link"))
        with open(self.path("archive"), "wb") as file:
            archive.write_tree(file, self.path("here"))
        there = self.unpacked()
        self.assertEqual(sorted(os.listdir(there)), sorted(["link", odd, "plain"]))
        self.assertEqual(os.readlink(f"{there}/link"), "plain")
        self.assertEqual(os.stat(f"{there}/plain").st_mode & 0o777, 0o751)

    def test_what_is_needed_at_the_same_path(self):
        with open(self.path("archive"), "wb") as file:
            archive.write_closure(file, ["/bin/true"])
        there = self.unpacked()
        self.assertTrue(os.path.isfile(there + os.path.realpath("/bin/true")))
        self.assertTrue(os.path.isfile(there + os.path.realpath("/lib64/ld-linux-x86-64.so.2")))

    def test_what_cannot_be_archived_is_an_error(self):
        with open(self.path("archive"), "wb") as file, self.assertRaisesRegex(Failure, "cpio failed"):
            archive.write(file, self.scratch, ["none"])
