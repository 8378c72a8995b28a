# SPDX-License-Identifier: mpich2
"""QEMU's monitor: one command over its unix socket, and the answer."""
import json
import socket
import time
from pathlib import Path

from .messages import Failure

LIMIT = 20.0  # seconds for the whole conversation


class _Conversation:
    def __init__(self, connection: socket.socket):
        self.connection = connection
        self.end = time.monotonic() + LIMIT
        self.unread = b""

    def _line(self) -> bytes:
        while b"\n" not in self.unread:
            self.connection.settimeout(max(0.001, self.end - time.monotonic()))
            more = self.connection.recv(65536)
            if not more:
                raise ConnectionError("it closed the connection")
            self.unread += more
        line, self.unread = self.unread.split(b"\n", 1)
        return line

    def ask(self, command: str):
        """Skips the greeting and events."""
        self.connection.sendall(json.dumps({"execute": command}).encode() + b"\n")
        while True:
            answer = json.loads(self._line())
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise ConnectionError(answer["error"].get("desc", "an error without a description"))


def ask(path: Path, guest: int, command: str):
    """Sends a command without arguments; returns QEMU's answer."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(LIMIT)
            connection.connect(str(path))
            conversation = _Conversation(connection)
            conversation.ask("qmp_capabilities")
            return conversation.ask(command)
    except TimeoutError:
        why = f"no answer within {LIMIT:.0f} s"
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
    raise Failure(f"vm{guest}: QEMU did not carry out the command {command}: {why}")
