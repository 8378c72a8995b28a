# SPDX-License-Identifier: mpich2
import os
import signal
import subprocess
import time
import unittest

from scratch import ScratchTest
from vms import qemus, regions, removal
from vms.folder import Folder


class Processes(ScratchTest):
    """A process that sleeps plays a QEMU: only its command line matters."""

    def start(self, *args: str) -> subprocess.Popen:
        return self.started([" ".join(args), "600"])

    def started(self, args, **options) -> subprocess.Popen:
        child = subprocess.Popen(args, executable="/bin/sleep", **options)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        while not self.command_line(child.pid):  # which it has a moment after it has begun
            time.sleep(0.01)
        return child

    def command_line(self, pid: int) -> bytes:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()

    def socket(self, folder: Folder, guest: int) -> str:
        return f"unix:{folder.of_guest(guest, 'qmp')},server=on"

    def note_pid(self, folder: Folder, guest: int, pid) -> None:
        folder.of_guest(guest, "pid").write_text(f"{pid}\n", encoding="ascii")

    def test_a_pid_is_believed_with_its_socket_alone(self):
        folder = self.folder("a.b")
        child = self.start(self.socket(folder, 1))
        self.assertIsNone(qemus.pid_of(folder, 1))
        for guest in (0, 1, 11):
            self.note_pid(folder, guest, child.pid)
        self.assertEqual(qemus.running(folder), [child.pid])
        self.assertEqual([qemus.pid_of(folder, guest) for guest in (0, 1, 11)], [None, child.pid, None])
        for wrong in ("", "0", "-1", "x", os.getpid()):
            self.note_pid(folder, 1, wrong)
            self.assertIsNone(qemus.pid_of(folder, 1))

    def test_a_process_that_ended_does_not_run(self):
        folder = self.folder()
        child = self.start(self.socket(folder, 0))
        self.note_pid(folder, 0, child.pid)
        self.assertEqual(qemus.running(folder), [child.pid])
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # still a zombie
        self.assertIsNone(qemus.pid_of(folder, 0))
        self.assertEqual(qemus.running(folder), [])

    def test_a_dot_stands_for_itself(self):
        other = self.start(self.socket(self.folder("axb"), 0))
        own = self.start(self.socket(self.folder("a.b"), 0))
        self.assertEqual(qemus.running(self.folder("a.b")), [own.pid])
        self.assertIsNone(other.poll())

    @unittest.skipIf(os.geteuid() != 0, "only root can be another user")
    def test_another_users_is_left_alone(self):
        folder = self.folder()
        child = self.started([self.socket(folder, 0), "600"], user=65534)
        self.note_pid(folder, 0, child.pid)
        self.assertEqual((qemus.pid_of(folder, 0), qemus.running(folder)), (None, []))

    def test_memory_files(self):
        child = self.start("mem-path=/dev/shm/x,size=1", "mem-path=/tmp/y z,share=on", "mem-path=/none")
        self.assertEqual(qemus.memory_files(child.pid), ["/dev/shm/x", "/tmp/y z"])

    def test_ended_kindly_first(self):
        folder = self.folder()
        child = self.start(self.socket(folder, 0))
        stopper = self.start(self.socket(folder, 1))
        asked = []

        def running():
            asked.append(time.monotonic())
            return [process.pid for process in (child, stopper) if process.poll() is None]
        qemus.end(running)
        self.assertEqual((child.returncode, stopper.returncode), (-signal.SIGTERM, -signal.SIGTERM))
        self.assertLess(len(asked), 100)

    def region(self) -> str:
        path = f"/dev/shm/ivshmem-vms-Test{os.getpid()}"
        with open(path, "xb"):
            self.addCleanup(regions.remove, [path])
        return path

    def test_half_a_set_is_removed_and_nothing_that_its_links_name(self):
        folder, region = self.folder(), self.region()
        kept = self.write("kept")
        os.symlink(region, folder / "region0")
        for number, target in enumerate((kept, "/dev/shm/ivshmem-vms-x/../../../" + kept, "/dev/shm/other"), 1):
            os.symlink(target, folder / f"region{number}")
        self.write("set/region-that-is-no-link")
        removal.remove(folder)
        self.assertEqual((os.path.exists(region), os.path.exists(kept), folder.is_there()), (False, True, False))

    def test_a_set_whose_folder_has_gone(self):
        folder, region = self.folder(), self.region()
        child = self.start(self.socket(folder, 0), f"mem-path={region},size=1")
        folder.path.rmdir()
        removal.remove(folder)
        self.assertEqual((child.wait(), os.path.exists(region)), (-signal.SIGTERM, False))
