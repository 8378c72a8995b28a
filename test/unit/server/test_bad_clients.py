# SPDX-License-Identifier: mpich2
"""What a client does wrong costs that client only."""
import array
import fcntl
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import termios
import time

from scratch import LIMIT, NOBODY, SERVER, Case, Client, ring, rings, root_only, until

IN_ONE_PROCESS = 16  # connections
IN_FLIGHT = 8  # messages


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


class BadClients(Case):
    def setUp(self):
        super().setUp()
        self.server = self.serve()
        self.good = self.join()

    def start_again(self, **options) -> None:
        """With other limits."""
        self.good.leave()
        self.server.end()
        self.server = self.serve(**options)
        self.good = self.join()

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.server.process.pid}/fd"))

    def assert_is_well(self, client: Client) -> None:
        """Another process can join, is told of this client and rings its bell, and is missed when it has left."""
        program = ("import sys; from scratch import Client, ring;"
                   "ring(Client(sys.argv[1]).greet().peers[int(sys.argv[2])][0])")
        subprocess.run([sys.executable, "-B", "-c", program, self.path, str(client.id)], check=True, timeout=LIMIT,
                       cwd=os.path.dirname(__file__))
        number, _ = client.arrival()
        self.assertEqual(client.departure(), number)
        self.assertEqual(rings(client.bells[0]), 1)
        self.assertTrue(client.hears_nothing())

    def test_that_sends_data(self):
        for data in b"x", bytes(8), os.urandom(100000):
            bad = self.join()
            self.assertEqual(self.good.arrival()[0], bad.id)
            try:
                bad.socket.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass
            self.assertTrue(bad.has_lost_the_server())
            self.assertEqual(self.good.departure(), bad.id)
            self.server.wait_for(f"client {bad.id}: removed, since it sent data")
        self.assert_is_well(self.good)

    def test_that_sends_data_at_once_and_never_reads(self):
        bad = self.connect()
        bad.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
        number, _ = self.good.arrival()
        self.assertEqual(self.good.departure(), number)
        self.assert_is_well(self.good)

    def test_that_sends_descriptors(self):
        before = self.descriptors()
        bad = self.join()
        self.good.arrival()
        socket.send_fds(bad.socket, [b"x"], [0] * 100)
        self.assertTrue(bad.has_lost_the_server())
        self.good.departure()
        until(lambda: self.descriptors() == before)
        self.assert_is_well(self.good)

    def test_that_closes_one_half(self):
        for half in socket.SHUT_WR, socket.SHUT_RD:
            bad = self.join()
            self.assertEqual(self.good.arrival()[0], bad.id)
            bad.socket.shutdown(half)
            other = self.join()  # of which one that cannot be told anything is found out
            told = [self.good.message() for _ in range(2)]
            self.assertEqual({number for number, _ in told}, {bad.id, other.id})
            other.leave()
            self.assertEqual(self.good.departure(), other.id)
        self.assert_is_well(self.good)

    def test_that_never_reads(self):
        before = self.descriptors()
        bad = [self.connect() for _ in range(4)]
        ids = [self.good.arrival()[0] for _ in bad]
        for _ in range(300):
            other = self.join()
            self.assertEqual(self.good.arrival()[0], other.id)
            other.leave()
            self.assertEqual(self.good.departure(), other.id)
        for client in bad:
            unread = array.array("i", [0])
            fcntl.ioctl(client.socket, termios.FIONREAD, unread)
            self.assertLessEqual(unread[0], IN_FLIGHT * 8)
        # What it reads at last is the truth, and nothing that has passed.
        for i, client in enumerate(bad):
            client.greet()
            self.assertEqual(client.id, ids[i])
            self.assertTrue({self.good.id, *ids[:i]} <= set(client.peers))
            live = set(client.peers)
            while live != {self.good.id, *ids} - {client.id}:
                number, fd = client.message()
                (live.add if fd >= 0 else live.remove)(number)
            self.assertTrue(client.hears_nothing())
        for client, number in zip(bad, ids):
            client.leave()
            self.assertEqual(self.good.departure(), number)
        until(lambda: self.descriptors() == before)
        self.assert_is_well(self.good)

    def test_that_was_told_a_part_of_an_arrival(self):
        path = self.path + "-other"
        self.serve("--vectors", "64", socket_path=path)
        slow = self.join(64, path)
        gone = self.join(64, path)
        gone.leave()
        self.join(64, path)  # the server has seen that
        told = [slow.message()]
        while told[-1][1] >= 0:
            told.append(slow.message())
        self.assertEqual({number for number, _ in told}, {gone.id})
        self.assertTrue(1 < len(told) <= IN_FLIGHT + 1)

    def test_that_reads_slowly(self):
        slow = self.connect()
        self.good.arrival()
        number = 0
        while number != self.good.id:  # byte by byte, with what has come in between
            data = b"".join(socket.recv_fds(slow.socket, 1, 1)[0] for _ in range(8))
            number = struct.unpack("<q", data)[0]
            if number >= 0:
                self.assert_is_well(self.good)
        self.assert_is_well(self.good)

    def test_that_comes_and_goes(self):
        before = self.descriptors()
        for _ in range(1000):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(self.path)
        last = self.join()
        live: set[int] = set()
        while live != {last.id}:
            number, fd = self.good.message()
            (live.add if fd >= 0 else live.remove)(number)
            while self.good.fds[2:]:
                os.close(self.good.fds.pop())
        last.leave()
        self.assertEqual(self.good.departure(), last.id)
        self.assert_is_well(self.good)
        until(lambda: self.descriptors() == before)
        self.server.end()
        self.assertLess(self.server.log.count("\n"), 1000)

    def test_that_connects_too_often(self):
        flood = [self.connect() for _ in range(500)]
        self.assertTrue(all(client.is_refused() for client in flood[IN_ONE_PROCESS - 1:]))
        joined = flood[:IN_ONE_PROCESS - 1]
        for client in joined:
            client.greet()
            self.good.arrival()
        self.server.wait_for("as many connections as one can have")
        self.assert_is_well(self.good)
        joined[0].leave()
        self.good.departure()
        self.assertEqual(self.join().id, self.good.arrival()[0])

    def test_more_clients_than_descriptors_suffice_for(self):
        self.start_again(preexec_fn=few_descriptors)
        self.server.wait_for("at most 2 clients")
        other = self.join()
        self.good.arrival()
        for _ in range(50):
            self.assertTrue(self.connect().is_refused())
        self.server.wait_for("as many clients as this server can have")
        other.leave()
        self.good.departure()
        self.assert_is_well(self.good)

    def test_no_descriptors_are_left(self):
        def limit(number):
            resource.prlimit(self.server.process.pid, resource.RLIMIT_NOFILE, (number, hard))

        soft, hard = resource.prlimit(self.server.process.pid, resource.RLIMIT_NOFILE)
        other = self.join()
        self.good.arrival()
        used = self.descriptors()
        names = os.listdir(f"/proc/{self.server.process.pid}/fd")
        free = min(set(range(used + 1)) - set(map(int, names)))
        limit(free)  # not even one for a connection
        began = time.monotonic()
        waiting = self.connect()
        self.server.wait_for("cannot accept clients for now: Too many open files", 2)
        ring(other.peers[self.good.id][0])
        self.assertEqual(rings(self.good.bells[0]), 1)
        limit(free + 1)  # enough to accept it, but no more
        self.assertTrue(waiting.is_refused())
        self.server.wait_for("refused pid")
        # It has tried once a second.
        self.assertLessEqual(self.server.log.count("cannot accept"), time.monotonic() - began + 1)
        other.leave()
        self.assertEqual(self.good.departure(), other.id)
        until(lambda: self.descriptors() == used - 2)
        limit(soft)
        self.assert_is_well(self.good)

    @root_only
    def test_too_many_descriptors_are_on_the_way(self):
        """Linux limits how many a user has sent that were not received. Root is exempt."""
        for name in self.folder, self.region:
            os.chown(name, NOBODY, NOBODY)
        os.unlink(self.path)
        program = shutil.copy(SERVER, self.folder)  # where that user can run it
        server = self.serve(program=program, preexec_fn=few_descriptors, user=NOBODY, group=NOBODY, extra_groups=[])
        program = ("import socket, time; a, b = socket.socketpair(); socket.send_fds(a, [b'x'], [0] * 100);"
                   "print(flush=True); time.sleep(600)")
        with subprocess.Popen([sys.executable, "-c", program], user=NOBODY, group=NOBODY, extra_groups=[],
                              stdout=subprocess.PIPE) as other:
            try:
                other.stdout.readline()
                began = time.monotonic()
                client = self.connect()
                self.assertEqual([client.message(), client.message()], [(0, -1), (1, -1)])
                server.wait_for("client 1: cannot send for now: Too many references", 3)
                self.assertLessEqual(server.log.count("cannot send"), time.monotonic() - began + 1)
            finally:
                other.kill()
        self.assertEqual(client.message()[0], -1)
        self.assertEqual(client.arrival()[0], 1)
        self.assertTrue(client.hears_nothing())

    def listens(self, path):
        try:
            self.join(path=path).leave()
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    def test_nobody_reads_the_log(self):
        read, write = os.pipe()
        os.set_blocking(write, False)
        try:
            while os.write(write, bytes(4096)):
                pass
        except BlockingIOError:
            pass
        os.set_blocking(write, True)
        path = self.path + "-of-the-quiet"
        quiet = subprocess.Popen([*self.server.process.args[:1], "--socket", path, self.region], stderr=write)
        try:
            until(lambda: self.listens(path))
            for _ in range(100):
                self.join(path=path).leave()
            quiet.terminate()
            self.assertEqual(quiet.wait(LIMIT), 0)
        finally:
            quiet.kill()
            quiet.wait()
            os.close(read)
            os.close(write)
