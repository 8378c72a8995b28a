# SPDX-License-Identifier: mpich2
"""A shared-memory server for ivshmem-doorbell, which is peer 0 itself: a thread of the test."""
import os
import select
import socket
import struct
import threading

VERSION = 0
MEMORY = -1  # in place of a peer
HOST = 0


class Server(threading.Thread):
    """`bells[peer][vector]` is the eventfd by which that peer is rung; those of HOST are for the test to read."""

    def __init__(self, path: str, memory: int, vectors: int):
        super().__init__(daemon=True)
        self.memory, self.vectors = memory, vectors
        self.bells = {HOST: self._new_bells()}
        self.connections: dict[int, socket.socket] = {}
        self.next = HOST + 1
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.start()

    def _new_bells(self) -> list[int]:
        return [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(self.vectors)]

    def _introduce(self, peer: int, to: int) -> None:
        for bell in self.bells[peer]:
            _send(self.connections[to], peer, bell)

    def _welcome(self) -> None:
        peer = self.next
        self.next += 1
        connection, _ = self.listener.accept()
        self.bells[peer], self.connections[peer] = self._new_bells(), connection
        _send(connection, VERSION)
        _send(connection, peer)
        _send(connection, MEMORY, self.memory)
        for other in list(self.bells):
            if other in self.connections and other != peer:
                self._introduce(peer, other)
            if other != peer:
                self._introduce(other, peer)
        self._introduce(peer, peer)

    def _take_leave(self, peer: int) -> None:
        self.connections.pop(peer).close()
        for bell in self.bells.pop(peer):
            os.close(bell)
        for other in self.connections.values():
            _send(other, peer)

    def run(self) -> None:
        while True:
            ready, _, _ = select.select([self.listener, *self.connections.values()], [], [])
            gone = [peer for peer, connection in self.connections.items() if connection in ready]
            for peer in gone:
                self._take_leave(peer)
            if self.listener in ready:
                self._welcome()


def _send(connection: socket.socket, number: int, *descriptors: int) -> None:
    try:
        socket.send_fds(connection, [struct.pack("<q", number)], list(descriptors))
    except BrokenPipeError:
        pass  # it is about to be noticed as gone
