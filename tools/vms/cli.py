# SPDX-License-Identifier: mpich2
"""The command line: verbs, options, exit status."""
import contextlib
import os
import signal
import sys

from . import folder
from .messages import Failure, Interrupted, Misuse, say

USAGE = """\
usage: ivshmem-vms up N [option]...     boot N guests that share a region
       ivshmem-vms add PATH...          copy files or folders, and their libraries, into all guests
       ivshmem-vms exec VM|all [CMD...] run a command (a shell) in a guest, or in all
       eval "$(ivshmem-vms env)"        make mpiexec in this shell reach the guests
       ivshmem-vms hosts                print the path of the host file for mpiexec -f
       ivshmem-vms status               show each guest
       ivshmem-vms pause|resume VM      stop a guest's processors; let them go on
       ivshmem-vms reset VM             press a guest's reset button, wait until it has booted
       ivshmem-vms off|kill VM          cut a guest's power; kill its QEMU
       ivshmem-vms boot VM              boot a guest that has ended, as the same machine
       ivshmem-vms down                 end the guests and remove all that they left
every verb:  --name NAME | --dir DIR    which set of guests (default: --name default)
up:          --size 64M  --memory 512M  --cpus 1  --prefix DIR  --add PATH  --regions 1
             --no-device LIST  --accel auto|kvm|tcg  --qemu-arg ARG
up, reset, boot: --timeout 180
"""

ONCE = ("--name", "--dir", "--size", "--memory", "--cpus", "--prefix", "--regions", "--no-device", "--accel",
        "--timeout")
REPEATED = ("--add", "--qemu-arg")
ALONE = ("env", "hosts", "status", "down")
TO_GUESTS = ("pause", "resume", "reset", "off", "kill", "boot")


class Request:
    """What the command line says; what was read before a mistake is kept."""

    def __init__(self):
        self.verb = ""
        self.args: list[str] = []
        self.given: dict[str, str] = {}
        self.repeated: dict[str, list[str]] = {option: [] for option in REPEATED}
        self.help = False

    def read(self, words: list[str]) -> None:
        words = list(words)
        while words and not self.help:
            word = words.pop(0)
            if word in ONCE or word in REPEATED:
                self._take_option(word, words)
            elif word in ("-h", "--help"):
                self.help = True
            elif word == "--":
                self.args += words
                return
            elif word.startswith("-"):
                raise Misuse(f"{word}: no such option")
            elif not self.verb:
                self.verb = word
            elif self.verb == "exec":  # all that follows is the guest's
                self.args = [word, *words]
                return
            else:
                self.args.append(word)

    def _take_option(self, option: str, words: list[str]) -> None:
        if not words:
            raise Misuse(f"{option} needs a value")
        if option in ONCE:
            self.given[option] = words.pop(0)
        else:
            self.repeated[option].append(words.pop(0))

    def find_folder(self) -> folder.Folder:
        name, path = self.given.get("--name", ""), self.given.get("--dir", "")
        if name and path:
            raise Misuse("--name and --dir exclude each other")
        if not name and not path and self.verb != "up":
            path = os.environ.get("IVSHMEM_VMS_DIR", "")
        return folder.find(name, path)


# Each verb's parts are loaded when it is asked for: a shell that evaluates `env` does not wait for the others.


def _up(request: Request, where: folder.Folder, launcher: str, here: str) -> int:
    from . import options, up
    if len(request.args) > 1:
        raise Misuse("up takes one number of guests")
    given = options.Options("".join(request.args), request.given, request.repeated["--add"],
                            request.repeated["--qemu-arg"])
    return up.up(where, given, launcher, here)


def _run(request: Request, launcher: str, here: str) -> int:
    if request.help:
        print(USAGE, end="")
        return 0
    where, verb, args = request.find_folder(), request.verb, request.args
    if verb in ALONE and args:
        raise Misuse(f"{verb} takes no argument, not {args[0]}: it is for a whole set; --name and --dir say which")
    if verb == "up":
        return _up(request, where, launcher, here)
    if verb in ("env", "hosts"):
        from . import shell
        return shell.env(where) if verb == "env" else shell.hosts(where)
    from . import options, verbs
    if verb == "add":
        return verbs.add(where, args)
    if verb == "exec":
        return verbs.execute(where, args)
    if verb in TO_GUESTS:
        return verbs.do_to(where, verb, args, options.seconds(request.given.get("--timeout", options.DEFAULT_TIMEOUT)))
    if verb == "status":
        return verbs.status(where)
    if verb == "down":
        return verbs.down(where)
    raise Misuse(f"{verb}: no such verb" if verb else "what to do?")


def _set_up_process() -> None:
    os.umask(0o077)
    os.environ["PATH"] = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    # As for any program; Python ignores them.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(errors="surrogateescape")  # names of files are bytes, whatever the locale


def _report(error: BaseException) -> int:
    """Says what was wrong, and returns the exit status."""
    if isinstance(error, Interrupted):
        return error.status
    with contextlib.suppress(OSError):  # nobody may be there to read it
        if isinstance(error, Failure):
            say(str(error), error.detail)
        elif isinstance(error, OSError):
            say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    return error.status if isinstance(error, Failure) else 1


def _flush() -> None:
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError as error:
        raise Failure(f"the output cannot be written: {error.strerror}") from None


def main(argv: list[str], here: str) -> int:
    """`here` is the folder of the program that was called. Whoever calls this then ends the process at
    once: what could not be written is not to be tried again."""
    _set_up_process()
    request = Request()
    result = 1
    try:
        request.read(argv[1:])
        result = _run(request, argv[0], here)
        _flush()
    except (Failure, Interrupted, OSError) as error:
        result = _report(error)
    finally:
        # The status of a command is lost in eval "$(...)": let what it evaluates fail.
        if result != 0 and request.verb == "env":
            print("false", flush=True)
    return result
