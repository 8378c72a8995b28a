# SPDX-License-Identifier: mpich2
"""`up` with doubles for all that needs a guest or takes long, interrupted wherever possible."""
import contextlib
import io
import os
from unittest import mock

from scratch import ScratchTest
from vms import booting, interrupts, machine, up
from vms.folder import Folder
from vms.kernel import Kernel
from vms.messages import Failure
from vms.options import Options


class Up(ScratchTest):
    def setUp(self):
        super().setUp()
        self.checks = 0
        self.strike_at = None
        self.paths = []
        doubles = contextlib.ExitStack()
        self.addCleanup(doubles.close)

        def double(where, name, what):
            doubles.enter_context(mock.patch.object(where, name, what))

        for name in ("note", "ignore", "restore"):
            double(interrupts, name, lambda: None)
        double(up.signal, "signal", lambda *_args: None)
        double(interrupts, "check", self.check)
        double(up.options, "check_programs", lambda _needed: None)
        double(up.options, "find_prefix", lambda _given, _here: "/prefix")
        double(up.kernel, "find", lambda: Kernel("/vmlinuz", [], [], []))
        double(up.access, "make_key", self.make_key)
        double(up.guestfiles, "build", self.build)
        double(machine, "start", self.start)
        double(booting, "until_ready", self.until_ready)
        double(booting, "preflight", self.until_ready)
        doubles.enter_context(contextlib.redirect_stderr(io.StringIO()))
        self.said = doubles.enter_context(contextlib.redirect_stdout(io.StringIO()))

    def check(self):
        self.checks += 1
        if self.checks == self.strike_at:
            raise interrupts.Interrupted(2)

    def make_key(self, folder):
        self.write("home/set/key.pub", "ssh-ed25519 AAAA")
        interrupts.check()
        self.paths += [os.readlink(folder / "region0")]

    def build(self, folder, *_args):
        for _ in range(3):
            interrupts.check()
        return folder / "initramfs"

    def start(self, folder, guest):
        interrupts.check()
        folder.of_guest(guest, "pid").write_text("1\n", encoding="ascii")
        return ""

    def until_ready(self, *_args):
        interrupts.sleep(0.001)

    def up(self) -> Folder:
        self.checks = 0
        folder = Folder(self.path("home/set"), "set", self.path("home"))
        self.assertEqual(up.up(folder, Options("2", {"--size": "4M", "--memory": "128M"}, [], []), "vms", "/bin"), 0)
        return folder

    def nothing_is_left(self):
        self.assertEqual(os.listdir(self.scratch), [])
        self.assertFalse([path for path in self.paths if os.path.exists(path)])

    def test_done(self):
        folder = self.up()
        self.addCleanup(up.removal.remove, folder)
        noted = folder.open()
        self.assertEqual((noted.vms, noted.prefix, noted.region, noted.ready), (2, "/prefix", self.paths[0], True))
        self.assertEqual(os.stat(self.paths[0]).st_mode & 0o777, 0o600)
        for line in (f"""  eval "$('vms' --dir {folder} env)"\n""", f"  mpiexec -f {folder}/hosts -n 2 hostname\n"):
            self.assertIn(line, self.said.getvalue())
        with self.assertRaisesRegex(Failure, "guests are already up"):
            self.up()
        self.assertTrue(folder.open().ready)

    def test_interrupted(self):
        for self.strike_at in range(1, 1000):
            try:
                up.removal.remove(self.up())
            except interrupts.Interrupted:
                self.nothing_is_left()
            else:
                break
        self.assertGreater(self.strike_at, 10)
        self.nothing_is_left()

    def test_nobody_listens(self):
        with mock.patch.object(up, "say", side_effect=BrokenPipeError), self.assertRaises(BrokenPipeError):
            self.up()
        self.nothing_is_left()

    def test_no_room(self):
        with mock.patch.object(up.regions, "_memory_available", return_value=0):
            with self.assertRaisesRegex(Failure, "this machine has 0 MiB of memory available, but the guests need 260"):
                self.up()
        self.nothing_is_left()
