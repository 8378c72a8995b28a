# SPDX-License-Identifier: mpich2
import json
import socket
import threading
from pathlib import Path
from unittest import mock

from scratch import ScratchTest
from vms import qmp
from vms.messages import Failure

GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\r\n'
DONE = b'{"return": {}}\r\n'


class Monitor(ScratchTest):
    def serve(self, *answers) -> Path:
        """A QEMU that greets and then gives these answers, one for each command, and notes the commands."""
        self.asked = []
        path = Path(self.path("qmp"))
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        server = threading.Thread(target=self._serve, args=(listener, answers))
        server.start()
        self.addCleanup(server.join)
        return path

    def _serve(self, listener, answers):
        with listener, listener.accept()[0] as connection, connection.makefile("rb") as commands:
            connection.sendall(GREETING)
            for answer in answers:
                self.asked.append(json.loads(commands.readline())["execute"])
                for byte in answer:  # in as many pieces as there can be
                    connection.sendall(bytes([byte]))
            if not answers:
                commands.readline()
            elif answers[-1] == b"":
                commands.readline()  # says nothing until the other side times out

    def test_the_answer_among_events(self):
        event = b'{"timestamp": {}, "event": "STOP"}\r\n'
        path = self.serve(event + DONE, event + b'{"return": {"status": "paused"}}\r\n')
        self.assertEqual(qmp.ask(path, 0, "query-status"), {"status": "paused"})
        self.assertEqual(self.asked, ["qmp_capabilities", "query-status"])

    def test_a_refusal(self):
        path = self.serve(DONE, b'{"error": {"class": "GenericError", "desc": "not now"}}\r\n')
        with self.assertRaisesRegex(Failure, "vm3: QEMU did not carry out the command cont: not now"):
            qmp.ask(path, 3, "cont")

    def test_one_that_goes(self):
        path = self.serve(DONE)
        with self.assertRaisesRegex(Failure, "did not carry out the command quit: "):
            qmp.ask(path, 0, "quit")

    def test_one_that_says_nothing(self):
        path = self.serve(DONE, b"")
        with mock.patch.object(qmp, "LIMIT", 0.5), self.assertRaisesRegex(Failure, "no answer within"):
            qmp.ask(path, 0, "stop")

    def test_one_that_talks_nonsense(self):
        path = self.serve(b"what?\r\n")
        with self.assertRaisesRegex(Failure, "did not carry out the command stop"):
            qmp.ask(path, 0, "stop")

    def test_none(self):
        with self.assertRaisesRegex(Failure, "No such file"):
            qmp.ask(Path(self.path("none")), 0, "stop")
