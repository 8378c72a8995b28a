#!/usr/bin/python3
# SPDX-License-Identifier: mpich2
"""
top_screen COLUMNS ROWS END COMMAND...: runs a command in a terminal of that size until it has drawn twice, then ends
it: by a key (END is one character), a signal (its name), or the command END. Prints the last screen. Fails if a line or
the screen was too large, the command did not end well within a minute (or at all, for a command END), or the terminal
is not as it was before.
"""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time


def main() -> None:
    columns, rows, end = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    before = termios.tcgetattr(theirs)
    process = subprocess.Popen(sys.argv[4:], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
                               env={**os.environ, "TERM": "xterm"})
    text, ended, deadline = "", False, time.monotonic() + 60
    try:
        while process.poll() is None or select.select([ours], [], [], 0)[0]:
            assert time.monotonic() < deadline, "it does not end"
            if select.select([ours], [], [], 0.1)[0]:
                text += os.read(ours, 65536).decode("ascii")
            if text.count("\033[J") < 2 or ended:
                continue
            ended = True
            if len(end) == 1:
                os.write(ours, end.encode())
            elif end.startswith("SIG"):
                process.send_signal(signal.Signals[end])
            else:
                subprocess.run(end, shell=True, check=True)
    finally:
        if process.poll() is None:
            process.kill()
    assert termios.tcgetattr(theirs) == before, "the terminal is not as it was"
    assert text.startswith("\033[?1049h\033[?25l"), text
    screens, left, rest = text.partition("\033[?25h\033[?1049l")
    assert left, "the screen is not left"
    for screen in screens.split("\033[H")[1:]:
        lines = re.sub("\033\\[[0-9]*[a-zA-Z]", "", screen).replace("\r", "").split("\n")
        assert len(lines) <= rows, f"{len(lines)} lines"
        assert all(len(line) < columns for line in lines), lines
        assert not re.search("[^ -~]", "".join(lines)), lines
    print("\n".join(lines))
    print(rest.strip(), file=sys.stderr)
    sys.exit(process.returncode if len(end) == 1 or end.startswith("SIG") else 0)


main()
