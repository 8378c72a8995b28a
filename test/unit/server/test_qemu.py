# SPDX-License-Identifier: mpich2
"""Real QEMUs, which run no guest: their devices are used by qtest, QEMU's protocol for tests of devices."""
import os
import shutil
import signal
import socket
import subprocess

from scratch import LIMIT, Case, Client, is_silent, ring, rings, until
from test_reaper import CaseInMemory

QEMU = shutil.which("qemu-system-x86_64")
DEVICE = 4  # its slot on the PCI bus
REGISTERS = 0xe0000000  # where the test maps them
POSITION, DOORBELL = 8, 12


class Qemu:
    def __init__(self, path: str, vectors: int):
        ours, its = socket.socketpair()
        ours.settimeout(LIMIT)
        args = ["-M", "pc", "-accel", "tcg", "-S", "-m", "16M", "-nodefaults", "-no-user-config", "-display", "none",
                "-chardev", f"socket,id=server,path={path}",
                "-device", f"ivshmem-doorbell,chardev=server,vectors={vectors},addr={DEVICE}",
                "-chardev", f"socket,id=qtest,fd={its.fileno()}", "-qtest", "chardev:qtest", "-qtest-log", "none"]
        self.process = subprocess.Popen([QEMU, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, pass_fds=[its.fileno()], text=True)
        its.close()
        self.channel = ours.makefile("rw")
        ours.close()

    def ask(self, command: str) -> int:
        self.channel.write(command + "\n")
        self.channel.flush()
        words = self.channel.readline().split()
        assert words and words[0] == "OK", words
        return int(words[1], 0) if len(words) > 1 else 0

    def map_registers(self) -> None:
        def configure(register: int, value: int) -> None:
            self.ask(f"outl 0xcf8 {0x80000000 | DEVICE << 11 | register:#x}")
            self.ask(f"outl 0xcfc {value:#x}")
        configure(0x10, REGISTERS)
        configure(0x04, 2)  # memory accesses are decoded

    def position(self) -> int:
        return self.ask(f"readl {REGISTERS + POSITION:#x}")

    def ring(self, peer: int, vector: int) -> None:
        self.ask(f"writel {REGISTERS + DOORBELL:#x} {peer << 16 | vector:#x}")

    def end(self, number=signal.SIGKILL) -> str:
        self.process.send_signal(number)
        try:
            return self.process.communicate(timeout=LIMIT)[0]
        finally:
            self.process.kill()
            self.channel.close()


def boot(case: Case, vectors: int) -> Qemu:
    qemu = Qemu(case.path, vectors)
    case.addCleanup(lambda: qemu.channel.closed or qemu.end())
    qemu.map_registers()
    return qemu


class Death(CaseInMemory):
    def test_what_it_leaves_is_freed(self):
        server = self.serve()
        qemus = [boot(self, 1) for _ in range(2)]
        for index, qemu in enumerate(qemus):
            self.table.add(index, qemu.position())
        qemus[0].end(signal.SIGKILL)
        self.becomes_free(0)
        self.assertNotEqual(self.table.state(1), 0)
        qemus[1].end(signal.SIGTERM)
        self.becomes_free(1)
        server.wait_for("has left 1 endpoint behind: declared dead", 2)


class WithQemu(Case):
    def assert_rings(self, qemu: Qemu, client: Client, vector: int = 0) -> None:
        """QEMU learns of a client some time after that has joined; until then, it rings nobody."""
        def has_rung() -> bool:
            qemu.ring(client.id, vector)
            return not is_silent(client.bells[vector])
        until(has_rung)
        self.assertTrue(all(is_silent(bell) for bell in client.bells if bell != client.bells[vector]))
        rings(client.bells[vector])

    def test_arrival_bells_and_death(self):
        self.serve("--vectors", "2")
        client = self.join(2)
        qemu = boot(self, 2)
        number, bells = client.arrival(2)
        self.assertEqual(qemu.position(), number)
        for vector in range(2):
            self.assert_rings(qemu, client, vector)
            ring(bells[vector])
            until(lambda: is_silent(bells[vector]))  # QEMU has read it
        other = self.join(2)
        self.assertEqual(set(other.peers), {client.id, number})
        self.assertEqual(client.arrival(2)[0], other.id)
        self.assert_rings(qemu, other, 1)
        qemu.end(signal.SIGKILL)
        self.assertEqual(client.departure(), number)
        self.assertEqual(other.departure(), number)

    def test_two_qemus_ring_each_other(self):
        self.serve()
        client = self.join()
        qemus = [boot(self, 1) for _ in range(2)]
        peers = dict(client.arrival() for _ in qemus)
        ids = [qemu.position() for qemu in qemus]
        self.assertEqual(set(ids), set(peers))
        self.assert_rings(qemus[0], client)
        # The memory of a QEMU that ends normally is no longer used, either.
        qemus[0].end(signal.SIGTERM)
        self.assertEqual(client.departure(), ids[0])
        self.assert_rings(qemus[1], client)
        qemus[1].ring(ids[0], 0)  # nobody is there any more
        self.assertEqual(qemus[1].position(), ids[1])

    def test_survives_the_server(self):
        server = self.serve()
        client, qemu = self.join(), boot(self, 1)
        number, bells = client.arrival()
        server.end(signal.SIGKILL)
        self.assert_rings(qemu, client)
        ring(bells[0])
        until(lambda: is_silent(bells[0]))
        self.assertEqual(qemu.position(), number)
        # The new server knows which ids are in use; this client holds another one.
        server = self.serve()
        new = [self.join() for _ in range(3)]
        self.assertEqual([other.id for other in new], [2, 3, 4])
        server.end(signal.SIGKILL)
        qemu.end()
        self.serve()
        self.assertEqual(self.join().id, number)

    def fails(self) -> str:
        """Starts a QEMU, which has to end by itself; returns what it says."""
        qemu = Qemu(self.path, 1)
        try:
            said = qemu.process.communicate(timeout=LIMIT)[0]
        except subprocess.TimeoutExpired:
            said = qemu.end()
        qemu.channel.close()
        self.assertEqual(qemu.process.returncode, 1, said)
        return said

    def test_says_why_it_does_not_start(self):
        self.assertIn(f"Failed to connect to '{self.path}'", self.fails())
        server = self.serve()
        os.rename(self.region, self.region + ".away")
        self.assertIn("server sent version -1, expecting 0", self.fails())
        server.wait_for("refused pid ")
