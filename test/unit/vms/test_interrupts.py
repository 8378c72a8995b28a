# SPDX-License-Identifier: mpich2
"""Each test forks: signals are the whole process's."""
import os
import select
import signal
import subprocess
import time
import unittest

from vms import commands, interrupts


def status_of(what) -> int:
    """The exit status of a child that does this, as a shell tells it."""
    child = os.fork()
    if child == 0:
        try:
            what()
        except interrupts.Interrupted as interrupted:
            os._exit(interrupted.status)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


def strike(number: int) -> None:
    os.kill(os.getpid(), number)


class Signals(unittest.TestCase):
    def test_noted_until_the_program_looks(self):
        for number in interrupts.SIGNALS:

            def struck():
                interrupts.note()
                strike(number)
                strike(signal.SIGTERM)  # the first one counts
                interrupts.check()
            self.assertEqual(status_of(struck), 128 + number)

    def test_what_was_ignored_stays_so(self):
        def struck():
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            interrupts.note()
            strike(signal.SIGHUP)
            interrupts.check()
            interrupts.restore()
            strike(signal.SIGHUP)
        self.assertEqual(status_of(struck), 0)

    def test_ignored_while_all_is_removed_and_then_as_ever(self):
        def struck():
            interrupts.note()
            strike(signal.SIGINT)
            interrupts.ignore()
            strike(signal.SIGTERM)
            interrupts.check()
        self.assertEqual(status_of(struck), 0)

        def restored():
            interrupts.note()
            interrupts.restore()
            strike(signal.SIGTERM)
        self.assertEqual(status_of(restored), 143)

    def later(self, number: int):
        """Sends this process a signal in a moment."""
        return subprocess.Popen(["sh", "-c", f"sleep 0.2; kill -{number} {os.getpid()}"])

    def test_sleeping_ends(self):
        def struck():
            interrupts.note()
            with self.later(signal.SIGTERM):
                interrupts.sleep(60)
        self.assertEqual(status_of(struck), 143)

    def test_a_command_ends_with_it(self):
        reading, writing = os.pipe()

        def struck():
            interrupts.note()
            os.close(reading)
            with self.later(signal.SIGINT):
                commands.run(["sleep", "60"], pass_fds=[writing])
        self.assertEqual(status_of(struck), 130)
        os.close(writing)
        # Its end: sleep, which would hold it, has gone.
        self.assertEqual(select.select([reading], [], [], 120)[0], [reading])
        os.close(reading)


class Commands(unittest.TestCase):
    def test_input_and_output(self):
        self.assertEqual(commands.run(["cat"], b"x" * 200000), (0, b"x" * 200000))
        self.assertEqual(commands.run(["sh", "-c", "echo out; echo err >&2; exit 3"], both=True), (3, b"out\nerr\n"))

    def test_a_deadline(self):
        with subprocess.Popen(["sleep", "60"]) as child:
            self.assertIsNone(interrupts.wait(child, time.monotonic() + 0.1))
            commands.end(child)
            self.assertEqual(interrupts.wait(child, time.monotonic()), -9)
