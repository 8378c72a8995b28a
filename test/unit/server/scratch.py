# SPDX-License-Identifier: mpich2
"""What the tests of ivshmem-server share: a server, and a client that speaks QEMU's protocol."""
import os
import select
import signal
import socket
import struct
import subprocess
import tempfile
import time
import unittest

SERVER = os.environ.get("IVSHMEM_SERVER", "ivshmem-server")
LIMIT = 120.0  # seconds; nothing here takes more than one on an idle machine
SIZE = 4 << 20
NOBODY = 65534


def root_only(test):
    return unittest.skipIf(os.geteuid() != 0, "only root can act as several users")(test)


class Server:
    """A server in the background. Its log is read as it comes."""

    def __init__(self, *args, program=SERVER, **options):
        read, write = os.pipe()
        self.process = subprocess.Popen([program, *args], stdin=subprocess.DEVNULL, stdout=write, stderr=write,
                                        **options)
        os.close(write)
        self.pipe = open(read, "rb", buffering=0)
        self.log = ""

    def wait_for(self, text: str, times: int = 1) -> None:
        end = time.monotonic() + LIMIT
        while self.log.count(text) < times:
            if not select.select([self.pipe], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"the server has not said {text!r} {times} times:\n{self.log}")
            more = self.pipe.read(65536)
            if not more:
                raise AssertionError(f"the server ended, and has not said {text!r} {times} times:\n{self.log}")
            self.log += more.decode()

    def finish(self) -> int:
        """Waits for its end; returns the status."""
        try:
            status = self.process.wait(LIMIT)
        finally:
            self.process.kill()
        while more := self.pipe.read(65536):
            self.log += more.decode()
        self.pipe.close()
        return status

    def end(self, number=signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.finish()


class Client:
    """Reads messages, and keeps each descriptor that came with one."""

    def __init__(self, path: str):
        self.fds: list[int] = []
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LIMIT)
        try:
            self.socket.connect(path)
        except OSError:
            self.socket.close()
            raise

    def message(self) -> tuple[int, int]:
        """The number, and the descriptor or -1. EOFError if the server has closed the connection."""
        data = b""
        fds: list[int] = []
        while len(data) < 8:
            more, new, _, _ = socket.recv_fds(self.socket, 8 - len(data), 4)
            if not more:
                raise EOFError
            data += more
            fds += new
        assert len(fds) <= 1, fds
        self.fds += fds
        return struct.unpack("<q", data)[0], fds[0] if fds else -1

    def is_refused(self) -> bool:
        """Whether it is told a version that no client knows, and nothing else."""
        return self.message() == (-1, -1) and self.has_lost_the_server()

    def has_lost_the_server(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def greet(self, vectors: int = 1) -> "Client":
        """Reads all up to its own eventfds, which come last; peers have that many as well."""
        assert self.message() == (0, -1)
        self.id, fd = self.message()
        assert fd == -1 and 0 <= self.id <= 65535, (self.id, fd)
        number, self.memory = self.message()
        assert number == -1 and self.memory >= 0
        self.peers: dict[int, list[int]] = {}
        while True:
            number, bells = self.arrival(vectors)
            if number == self.id:
                self.bells = bells
                return self
            assert number not in self.peers
            self.peers[number] = bells

    def arrival(self, vectors: int = 1) -> tuple[int, list[int]]:
        number, fd = self.message()
        bells = [fd]
        for _ in range(vectors - 1):
            again, fd = self.message()
            assert again == number
            bells.append(fd)
        assert min(bells) >= 0, "a departure instead of an arrival"
        return number, bells

    def departure(self) -> int:
        number, fd = self.message()
        assert fd == -1, "an arrival instead of a departure"
        return number

    def hears_nothing(self) -> bool:
        return not select.select([self.socket], [], [], 0.2)[0]

    def leave(self) -> None:
        self.socket.close()
        for fd in self.fds:
            os.close(fd)
        self.fds = []


def ring(bell: int) -> None:
    os.write(bell, struct.pack("=Q", 1))


def rings(bell: int) -> int:
    """How often it was rung since the last time; waits until it is."""
    assert select.select([bell], [], [], LIMIT)[0]
    return struct.unpack("=Q", os.read(bell, 8))[0]


def is_silent(bell: int) -> bool:
    return not select.select([bell], [], [], 0)[0]


def until(condition) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class Case(unittest.TestCase):
    """Has a folder, a region and a path for a socket, and leaves nothing behind."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.path = f"{self.folder}/socket"
        self.region = f"{self.folder}/region"
        with open(self.region, "wb") as file:
            file.write(bytes(SIZE))

    def start(self, *args, socket_path=None, region=None, **options) -> Server:
        path = socket_path or self.path
        server = Server("--socket", path, *args, region or self.region, **options)
        self.addCleanup(self._end, server)
        return server

    def serve(self, *args, **options) -> Server:
        server = self.start(*args, **options)
        server.wait_for("serves ")
        return server

    @staticmethod
    def _end(server):
        if not server.pipe.closed:
            server.end(signal.SIGKILL)

    def connect(self, path=None) -> Client:
        client = Client(path or self.path)
        self.addCleanup(client.leave)
        return client

    def join(self, vectors: int = 1, path=None) -> Client:
        return self.connect(path).greet(vectors)
