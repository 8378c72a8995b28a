# SPDX-License-Identifier: mpich2
"""What VMs leave is freed when they are gone: endpoints that name the id of a client that has no memory any more."""
import fcntl
import mmap
import os
import signal
import struct
import subprocess

from scratch import SIZE, Case, Server, until

FREE, JOINING, LIVE, DEAD, NAMED = range(5)
DEVICE = 4  # of traits
FIELDS = {"boot_id": 72, "boot_id_2": 80, "vm_uuid": 88, "vm_uuid_2": 96, "vm_generation": 152, "vm_generation_2": 160,
          "traits": 168, "pid_ns": 104, "pid": 112, "start_time": 120, "bell": 184}  # in the order of the seal
SEAL = 176
GENERATION = 7


class Region:
    """The endpoint table, as doc/layout.md defines it."""

    def __init__(self, path: str):
        self.file = open(path, "rb+")
        self.memory = mmap.mmap(self.file.fileno(), SIZE)

    def word(self, offset: int) -> int:
        return struct.unpack_from("=Q", self.memory, offset)[0]

    def put(self, offset: int, value: int) -> None:
        struct.pack_into("=Q", self.memory, offset, value)

    def add(self, index: int, peer: int | None, state=LIVE, sealed=True, traits=DEVICE, number=None) -> None:
        """An endpoint of another machine, which came by the id `peer`."""
        bell = number if number is not None else 0 if peer is None else peer + 1
        identity = {"boot_id": 0x1234, "boot_id_2": index + 1, "pid": 99, "traits": traits, "bell": bell}
        seal = GENERATION
        for name, offset in FIELDS.items():
            self.put(at(index) + offset, identity.get(name, 0))
            seal = (seal ^ identity.get(name, 0)) * 0x9e3779b97f4a7c15 & (1 << 64) - 1
            seal ^= seal >> 32
        self.put(at(index) + SEAL, seal if sealed else seal ^ 1)
        self.put(at(index), state | 99 << 3 | 1 << 25 | GENERATION << 45)

    def state(self, index: int) -> int:
        return self.word(at(index)) & 7

    def close(self) -> None:
        self.memory.close()
        self.file.close()


def at(index: int) -> int:
    return 4096 + 512 * index


class CaseInMemory(Case):
    """The server believes in the locks of files in memory only. This one is gone with this process."""

    def setUp(self):
        super().setUp()
        self.serve("--size", str(SIZE)).end()
        memory = os.memfd_create("region")
        self.addCleanup(os.close, memory)
        with open(self.region, "rb") as file:
            os.write(memory, file.read())
        self.region = f"/proc/{os.getpid()}/fd/{memory}"
        self.table = Region(self.region)
        self.addCleanup(self.table.close)

    def becomes_free(self, *indexes: int) -> None:
        for index in indexes:
            until(lambda: self.table.state(index) == FREE)


class Reaper(CaseInMemory):
    def stay(self, *indexes: int) -> None:
        """Are left alone in a look that frees another one, as entries are looked at in turn."""
        client = self.join()
        self.table.add(63, client.id)
        client.leave()
        self.becomes_free(63)
        for index in indexes:
            self.assertNotIn(self.table.state(index), (FREE, DEAD))

    def test_what_a_client_leaves_is_freed(self):
        server = self.serve()
        stays, goes = self.join(), self.join()
        for index in 0, 2, 3:
            self.table.add(index, goes.id, state=NAMED if index == 2 else LIVE)
        self.table.add(1, stays.id)
        goes.leave()
        self.becomes_free(0, 2, 3)
        server.wait_for(f"client {goes.id} has left 3 endpoints behind: declared dead\n")
        self.stay(1)
        stays.leave()
        self.becomes_free(1)
        server.wait_for(f"client {stays.id} has left 1 endpoint behind: declared dead\n")

    def test_what_is_not_known_to_be_of_it_stays(self):
        self.serve()
        client = self.join()
        self.table.add(0, None)
        self.table.add(1, client.id, sealed=False)
        self.table.add(2, client.id, state=JOINING)
        self.table.add(3, client.id, traits=0)  # has not mapped a device: a process of the host
        self.table.add(4, None, number=1 << 32)
        self.table.add(5, None, number=65537)
        self.table.add(6, None, number=(1 << 32) - 1)
        self.table.add(7, client.id + 1, sealed=False)  # or the first look, which may be late, frees it
        other = self.join()
        self.assertEqual(other.id, client.id + 2)  # as 7 names the one before
        self.table.add(7, other.id)
        client.leave()
        self.stay(*range(8))

    def test_whoever_has_the_memory_keeps_them(self):
        self.serve()
        mapped, kept = self.join(), self.join()
        memory = mmap.mmap(mapped.memory, SIZE)
        copy = os.dup(kept.memory)
        self.table.add(0, mapped.id)
        self.table.add(1, kept.id)
        mapped.leave()
        kept.leave()
        self.stay(0, 1)
        memory.close()
        self.becomes_free(0)
        self.stay(1)
        os.close(copy)
        self.becomes_free(1)

    def test_after_the_death_of_a_server(self):
        server = self.serve()
        before, after = self.join(), self.join()
        self.table.add(0, before.id)
        self.table.add(1, after.id)
        server.end(signal.SIGKILL)
        before.leave()
        self.assertEqual(self.table.state(0), LIVE)
        self.serve()
        self.becomes_free(0)
        self.assertEqual(self.table.state(1), LIVE)
        after.leave()  # of which the new server does not hear
        self.becomes_free(1)

    def test_an_id_that_endpoints_name_is_not_given(self):
        self.table.add(0, 0, traits=0)  # nobody is proved dead by that
        self.table.add(1, 2, state=JOINING)
        self.table.add(2, 3, state=DEAD)
        self.serve()
        self.assertEqual([self.join().id for _ in range(3)], [1, 3, 4])

    def test_each_endpoint_names_another_id(self):
        for index in range(64):
            self.table.add(index, index, traits=0)
        self.serve()
        self.assertEqual(self.join().id, 64)

    def test_memory_that_is_no_region(self):
        server = self.serve()
        for offset, value, text in (16, 77, "layout version 77"), (64, 1, "is damaged: blocks is 1,"):
            right = self.table.word(offset)
            self.table.put(offset, value)
            client = self.join()
            self.table.add(0, client.id)
            client.leave()
            server.wait_for(text)
            self.assertEqual(self.table.state(0), LIVE)
            self.table.put(offset, right)
            self.join().leave()
            self.becomes_free(0)
        self.assertEqual(server.log.count("cannot free what VMs leave: "), 2, server.log)

    def test_unformatted_memory_that_is_formatted_later(self):
        page = self.table.memory[:4096]
        self.table.memory[:4096] = bytes(4096)
        server = self.serve()
        for _ in range(3):
            self.join().leave()
        server.wait_for("cannot free what VMs leave: ")
        self.assertEqual(self.table.memory[:4096], bytes(4096))
        client = self.join()
        self.table.memory[:4096] = page
        self.table.add(0, client.id)
        client.leave()
        self.becomes_free(0)
        self.assertEqual(server.log.count("cannot free"), 1, server.log)

    def test_a_file_that_is_truncated(self):
        # AddressSanitizer makes the signal an exit status.
        server = self.serve(env={**os.environ, "ASAN_OPTIONS": "handle_sigbus=0"})
        good, bad = self.join(), self.join()
        os.truncate(self.region, 4096)
        bad.leave()
        server.wait_for("cannot free what VMs leave until the next client goes: the region's file has lost memory")
        os.truncate(self.region, SIZE)  # what was cut off is 0 now
        self.assertEqual(good.arrival()[0], bad.id)
        self.assertEqual(good.departure(), bad.id)
        client = self.join()
        self.table.add(0, client.id)
        client.leave()
        self.becomes_free(0)
        # The process that was started for that has not kept the other client's connection.
        good.arrival()
        self.assertEqual(good.departure(), client.id)
        good.socket.send(b"x")
        self.assertTrue(good.has_lost_the_server())

    def test_a_lock_that_somebody_else_has_taken(self):
        """Whoever can write the region can keep what VMs leave, and nothing else."""
        self.serve()
        client = self.join()
        self.table.add(0, client.id)
        client.leave()
        self.becomes_free(0)
        lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, (1 << 62) + 9, 1, 0)
        with open(self.region, "rb+") as file:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)
            self.table.add(0, 9)
            self.stay(0)
        self.becomes_free(0)

    def test_the_server_leaves_no_process(self):
        for number in signal.SIGTERM, signal.SIGKILL:
            server = self.serve()
            child, = children(server)
            server.end(number)
            until(lambda: not os.path.exists(f"/proc/{child}"))


class NotInMemory(Case):
    def test_the_server_says_so(self):
        server = self.serve()
        kind = subprocess.run(["stat", "-f", "-c", "%T", self.region], check=True, stdout=subprocess.PIPE, text=True)
        if kind.stdout.strip() in ("tmpfs", "hugetlbfs"):
            self.skipTest("the folder for temporary files is in memory")
        server.wait_for("the region is not in memory, and elsewhere locks prove nothing")


def children(server: Server) -> list[int]:
    pids = []

    def found() -> bool:
        with open(f"/proc/{server.process.pid}/task/{server.process.pid}/children") as file:
            pids[:] = [int(pid) for pid in file.read().split()]
        return bool(pids)
    until(found)
    return pids
