# SPDX-License-Identifier: mpich2
import os
import unittest
from unittest import mock

from scratch import ScratchTest
from vms import folder
from vms.folder import Folder, why_not_private
from vms.messages import Failure, Misuse

OTHER = 65534


class Privacy(ScratchTest):
    def test_a_folder_of_this_user_alone(self):
        self.assertEqual(why_not_private(self.scratch), "")
        os.chmod(self.scratch, 0o755)
        self.assertEqual(why_not_private(self.scratch), "")

    def test_what_is_not_there_or_no_folder(self):
        self.assertIn("does not exist", why_not_private(self.path("none")))
        self.assertIn("is not a directory", why_not_private(self.write("file")))
        os.symlink(self.scratch, self.path("link"))
        self.assertIn("is not a directory", why_not_private(self.path("link")))

    def test_others_may_write(self):
        inside = self.path("inside")
        os.mkdir(inside)
        for mode in (0o720, 0o702, 0o1777):
            os.chmod(inside, mode)
            self.assertEqual(why_not_private(inside), f"other users can write to {inside}")
        os.mkdir(self.path("inside/deep"))
        self.assertEqual(why_not_private(self.path("inside/deep")), "")  # like /tmp
        os.chmod(inside, 0o777)
        self.assertEqual(why_not_private(self.path("inside/deep")), f"other users can write to {inside}")

    @unittest.skipIf(os.geteuid() != 0, "only root can give files away")
    def test_somebody_elses(self):
        os.mkdir(self.path("inside"))
        os.chown(self.scratch, OTHER, OTHER)
        self.assertIn(f"{self.scratch} belongs to", why_not_private(self.path("inside")))

    @unittest.skipIf(os.geteuid() == 0, "root's folders are this user's")
    def test_roots(self):
        self.assertIn("belongs to root", why_not_private("/usr"))


class Where(ScratchTest):
    def test_a_link_in_the_place_of_the_folder_is_not_followed(self):
        os.mkdir(self.path("real"))
        os.symlink("real", self.path("link"))
        for given, found in (("link", "link"), ("link/", "link"), ("link/x", "real/x"), ("link/.", "real"),
                             ("real/../link", "link"), ("real/..", "")):
            self.assertEqual(str(folder.find("", self.path(given))), self.path(found).rstrip("/"))
        self.assertEqual(str(folder.find("", "/x")), "/x")

    def test_what_sockets_and_qemu_cannot_take(self):
        for wrong in ("a b", "a,b", "a\nb", "ä", "x" * 100):
            with self.assertRaises(Failure):
                folder.find("", self.path(wrong))
        with self.assertRaises(Misuse):
            folder.find("a/b", "")

    def test_the_state_folder_if_the_runtime_folder_is_not_private(self):
        runtime = self.path("run")
        os.mkdir(runtime)
        for mode, found in ((0o700, "run/ivshmem-vms/x"), (0o777, "state/ivshmem-vms/x")):
            os.chmod(runtime, mode)
            with mock.patch.dict(os.environ, XDG_RUNTIME_DIR=runtime, XDG_STATE_HOME=self.path("state")):
                self.assertEqual(str(folder.find("x", "")), self.path(found))


class Making(ScratchTest):
    def test_made_once(self):
        made = Folder(self.path("home/set"), "set", self.path("home"))
        made.make()
        self.assertEqual(os.stat(self.path("home")).st_mode & 0o777, 0o700)
        with self.assertRaisesRegex(Failure, "guests are already up"):
            made.make()
        self.assertTrue((made / "set").is_file())

    def test_an_empty_folder_is_taken_and_no_other(self):
        taken = self.folder()
        taken.make()
        self.write("other/file")
        with self.assertRaisesRegex(Failure, "contains something else"):
            self.folder("other").make()
        self.assertEqual(os.listdir(self.path("other")), ["file"])

    def test_a_dangling_link_is_not_written_through(self):
        taken = self.folder()
        os.symlink(self.path("target"), taken / "set")
        with self.assertRaises(Failure):
            taken.make()
        self.assertFalse(os.path.exists(self.path("target")))

    def test_a_folder_in_anothers_is_refused_and_not_left(self):
        os.chmod(self.scratch, 0o777)
        with self.assertRaisesRegex(Failure, "other users can write"):
            Folder(self.path("set")).make()
        self.assertFalse(os.path.exists(self.path("set")))


class State(ScratchTest):
    def test_what_was_noted_is_read(self):
        made = Folder(self.path("set"))
        made.make()
        for name, value in (("vms", "12"), ("prefix", "/x y=$(id)\udcff"), ("region", "/dev/shm/x"),
                            ("server", "/s/server0")):
            made.add_note(name, value)
        self.assertEqual(made.open(), (12, "/x y=$(id)\udcff", "/dev/shm/x", "/s/server0", False, "root"))
        made.add_note("ready", "1")
        self.assertTrue(made.open().ready)

    def test_what_up_does_not_write(self):
        made = self.folder()
        for wrong in ("", "vms=", "vms=0", "vms=17", "vms=99", "vms=1;id", "vms=١"):
            self.write("set/set", f"{wrong}\n")
            with self.assertRaisesRegex(Failure, "was not written by ivshmem-vms up"):
                made.open()

    def test_no_set(self):
        with self.assertRaisesRegex(Failure, "no guests are up in .*: boot some with ivshmem-vms up N --name x$"):
            Folder(self.path("none"), "x").open()
        with self.assertRaisesRegex(Failure, "no guests are up"):
            self.folder().open()

    def test_which_may_be_removed(self):
        self.assertTrue(self.folder("empty").may_be_removed())
        self.write("half/set")
        self.assertTrue(self.folder("half").may_be_removed())
        self.write("other/file")
        self.assertFalse(self.folder("other").may_be_removed())
