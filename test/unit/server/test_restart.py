# SPDX-License-Identifier: mpich2
"""A server's death harms nobody who has joined, and ids stay unique: the kernel knows who has which."""
import fcntl
import mmap
import os
import select
import signal
import socket
import struct
import subprocess

from scratch import LIMIT, SERVER, SIZE, Case, Server, ring, rings

ID_LOCKS = 1 << 62  # where the locks of ids begin in the region's file


class Restart(Case):
    def test_who_has_joined_goes_on(self):
        for number in signal.SIGKILL, signal.SIGTERM:
            server = self.serve()
            a, b = self.join(), self.join()
            peer, bells = a.arrival()
            self.assertEqual(peer, b.id)
            server.end(number)
            self.assertEqual(os.path.exists(self.path), number == signal.SIGKILL)
            with self.assertRaises((ConnectionRefusedError, FileNotFoundError)):
                self.join()
            ring(bells[0])
            self.assertEqual(rings(b.bells[0]), 1)
            ring(b.peers[a.id][0])
            self.assertEqual(rings(a.bells[0]), 1)
            self.assertTrue(a.has_lost_the_server())
            self.serve().end()
            a.leave()
            b.leave()

    def test_ids_of_survivors_are_not_given_again(self):
        running = []
        for _ in range(4):
            server = self.serve()
            running += [self.join() for _ in range(3)]
            server.end(signal.SIGKILL)
        ids = [client.id for client in running]
        self.assertEqual(ids, list(range(12)))
        for client in running[3:5]:
            client.leave()
        self.serve()
        self.assertEqual([self.join().id for _ in range(3)], [3, 4, 12])

    def test_a_mapping_or_a_descriptor_is_enough_to_keep_an_id(self):
        server = self.serve()
        mapped, kept, gone = self.join(), self.join(), self.join()
        memory = mmap.mmap(mapped.memory, SIZE)  # duplicates the descriptor
        copy = os.dup(kept.memory)
        for client in mapped, kept, gone:
            client.leave()
        server.end()
        self.serve()
        self.assertEqual([self.join().id for _ in range(2)], [2, 3])
        memory.close()
        os.close(copy)

    def test_a_child_of_a_client_keeps_its_id(self):
        server = self.serve()
        client = self.join()
        child = subprocess.Popen(["sleep", "600"], pass_fds=[client.memory])
        try:
            client.leave()
            server.end()
            server = self.serve()
            self.assertEqual(self.join().id, 1)
            server.end()
        finally:
            child.kill()
            child.wait()
        self.serve()
        self.assertEqual(self.join().id, 0)

    def test_two_servers_of_one_region(self):
        other = self.path + "-other"
        self.serve()
        self.serve(socket_path=other)
        ids = [self.join(path=path).id for path in [self.path, other] * 5]
        self.assertEqual(sorted(ids), list(range(10)))

    def test_all_ids_are_locked(self):
        server = self.serve()
        good = self.join()
        lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, ID_LOCKS + 1, 65536, 0)
        with open(self.region, "rb+") as file:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)
            self.assertTrue(self.connect().is_refused())
            server.wait_for("processes have locked all ids")
        self.assertEqual(self.join().id, good.arrival()[0])

    def test_the_file_was_replaced(self):
        server = self.serve()
        good = self.join()
        os.rename(self.region, self.region + "-away")
        self.assertTrue(self.connect().is_refused())
        server.wait_for("file was removed: start the server again")
        with open(self.region, "wb") as file:
            file.write(bytes(SIZE))
        self.assertTrue(self.connect().is_refused())
        server.wait_for("file was replaced: start the server again")
        os.rename(self.region + "-away", self.region)
        self.assertEqual(self.join().id, good.arrival()[0])


class TwoServers(Case):
    def test_the_second_one_says_so_and_ends(self):
        self.serve()
        good = self.join()
        for _ in range(3):
            second = self.start()
            self.assertEqual(second.finish(), 1)
            self.assertIn(f"another server listens at {self.path}\n", second.log)
            number, _ = good.arrival()  # it has tried whether somebody listens
            self.assertEqual(good.departure(), number)
        self.assertEqual(self.join().id, good.arrival()[0])

    def test_of_many_that_start_at_once_one_serves(self):
        for _ in range(5):
            self.serve().end(signal.SIGKILL)  # leaves its socket
            servers = [self.start() for _ in range(6)]
            losers = []
            while len(losers) < 5:
                pid, status = os.waitpid(-1, 0)
                losers.append(pid)
                self.assertEqual(os.waitstatus_to_exitcode(status), 1)
            winner, = (server for server in servers if server.process.pid not in losers)
            winner.wait_for("serves ")
            self.join().leave()
            for server in servers:
                server.process.returncode = 1 if server is not winner else None
                server.end(signal.SIGKILL) if server is winner else server.pipe.close()

    def test_they_wait_for_each_other_to_look(self):
        folder = os.open(self.folder, os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_EX)
        server = self.start()
        self.assertFalse(select.select([server.pipe], [], [], 0.5)[0])
        self.assertFalse(os.path.exists(self.path))
        os.close(folder)
        server.wait_for("serves ")
        server.end()
        folder = os.open(self.folder, os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_EX)
        server = self.start()
        self.assertEqual(server.finish(), 1)
        self.assertIn("another process has locked the directory", server.log)
        os.close(folder)

    def test_one_that_is_being_killed_is_waited_for(self):
        with socket.socket(socket.AF_UNIX) as dying:
            dying.bind(self.path)
            dying.listen()
            server = self.start()
            dying.accept()[0].close()
        server.wait_for("serves ")
        self.join()

    def test_a_server_removes_its_own_socket_only(self):
        server = self.serve()
        os.rename(self.path, self.path + "-away")
        other = self.serve()
        self.assertEqual(server.end(), 0)
        self.join().leave()
        self.assertEqual(other.end(), 0)
        self.assertFalse(os.path.exists(self.path))


class Activation(Case):
    """A service manager keeps the socket while the server is away."""

    def test_clients_wait_for_the_next_server(self):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.path)
            listener.listen()
            shell = f'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@" 3<&{listener.fileno()}'

            def activate(*args) -> Server:
                server = Server("-c", shell, "sh", SERVER, *args, self.region, program="/bin/sh",
                                pass_fds=[listener.fileno()])
                self.addCleanup(self._end, server)
                return server

            usage = activate("--socket", self.path)
            self.assertEqual(usage.finish(), 2)
            waiting = self.connect()
            server = activate()
            first = waiting.greet()
            server.end(signal.SIGKILL)
            waiting = self.connect()
            server = activate()
            self.assertNotEqual(waiting.greet().id, first.id)
            self.assertEqual(server.end(), 0)
            self.assertTrue(os.path.exists(self.path))

    def test_what_is_passed_is_not_a_listening_socket(self):
        with socket.socket(socket.AF_UNIX) as deaf, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams, \
                open("/dev/null") as null:
            for thing in deaf, datagrams, null:
                shell = f'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@" 3<&{thing.fileno()}'
                result = subprocess.run(["/bin/sh", "-c", shell, "sh", SERVER, self.region], pass_fds=[thing.fileno()],
                                        stderr=subprocess.PIPE, timeout=LIMIT)
                self.assertEqual(result.returncode, 1)
                self.assertIn(b"is not a listening unix stream socket", result.stderr)

    def test_it_tells_when_it_is_ready(self):
        for name in f"{self.folder}/notify", f"\0ivshmem-server-{os.getpid()}":
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                manager.bind(name)
                manager.settimeout(LIMIT)
                server = self.start(env={**os.environ, "NOTIFY_SOCKET": name.replace("\0", "@")})
                self.assertEqual(manager.recv(100), b"READY=1")
                self.join().leave()
                server.end()
