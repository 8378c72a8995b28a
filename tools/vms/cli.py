# SPDX-License-Identifier: mpich2
"""The command line: verbs, options, exit status."""
import contextlib
import os
import signal
import sys

from . import folder
from .messages import Failure, Interrupted, Misuse, say

USAGE = """\
usage: ivshmem-vms COMMAND [OPTION]...

  up N                    boot N guests (1 to 16) that share a region
  add PATH...             copy files or directories, and the libraries they need, into all guests
  exec VM|all [CMD...]    run a command in one guest or in all; without one, a shell in the guest
  env                     print the environment with which mpiexec reaches the guests:
                          eval "$(ivshmem-vms env)"
  hosts                   print the path of the host file, for mpiexec -f
  status                  show the state of each guest
  pause VM, resume VM     stop a guest's processors, or let them continue
  reset VM                press a guest's reset button and wait until it has booted
  off VM, kill VM         cut a guest's power, or kill its QEMU
  boot VM                 boot a guest that has ended, as the same machine
  down                    end the guests and remove everything that belongs to them
  image FILE              make an image of a disk with a Debian, for guests of up --image; needs root

Options of every command:
  --name NAME | --dir DIR set of guests (default: the one whose env was evaluated, else --name default)
Options of up:
  --size SIZE             size of the region, a power of two from 4M (default 64M)
  --memory SIZE           memory of each guest, from 128M (default 512M)
  --cpus K                processors of each guest, 1 to 64 (default 1)
  --prefix DIR            MPI installation (default: the one that ivshmem-vms belongs to)
  --add PATH              copy a file or directory into all guests; can be repeated
  --regions K             number of regions; guest i gets region i modulo K (default 1)
  --no-device LIST        guests without an ivshmem device, such as 1,3
  --driver FILE           a driver for the ivshmem device, which the guests load when they boot
  --server                give guests the region by ivshmem-server, as device ivshmem-doorbell
  --accel auto|kvm|tcg    hardware virtualisation or emulation (default auto)
  --image FILE            boot from an image that `image` has made, as a Debian with systemd and a user mpi
  --qemu-arg ARG          one more argument for QEMU; can be repeated
Option of up, reset and boot:
  --timeout SECONDS       how long to wait until guests have booted, 1 to 86400
                          (default 180; 1200 with an image)
Options of image:
  --packages DIR          install the packages of mpich-ivshmem that are in this directory
  --include LIST          install these packages of Debian as well, separated by commas
"""

ONCE = ("--name", "--dir", "--size", "--memory", "--cpus", "--prefix", "--regions", "--no-device", "--driver",
        "--accel", "--timeout", "--image", "--packages", "--include")
REPEATED = ("--add", "--qemu-arg")
FLAGS = ("--server",)
ALONE = ("env", "hosts", "status", "down")
TO_GUESTS = ("pause", "resume", "reset", "off", "kill", "boot")


class Request:
    """The parsed command line; after a mistake, what was read before it."""

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
            elif word in FLAGS:
                self.given[word] = ""
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
            raise Misuse("--name and --dir cannot be combined")
        if not name and not path and self.verb != "up":
            path = os.environ.get("IVSHMEM_VMS_DIR", "")
        return folder.find(name, path)


# Each verb's parts are loaded when it is asked for: a shell that evaluates `env` does not wait for the others.


def _up(request: Request, where: folder.Folder, launcher: str, here: str) -> int:
    from . import options, up
    if len(request.args) > 1:
        raise Misuse("up takes one argument, the number of guests")
    given = options.Options("".join(request.args), request.given, request.repeated["--add"],
                            request.repeated["--qemu-arg"])
    return up.up(where, given, launcher, here)


def _run(request: Request, launcher: str, here: str) -> int:
    if request.help:
        print(USAGE, end="")
        return 0
    if request.verb == "image":
        from . import image
        if len(request.args) != 1:
            raise Misuse("image takes one argument, the file to make")
        return image.make(request.args[0], request.given.get("--packages"), request.given.get("--include", ""))
    where, verb, args = request.find_folder(), request.verb, request.args
    if verb in ALONE and args:
        raise Misuse(f"{verb} takes no argument, but {args[0]} was given: it acts on a whole set, which --name or "
                     "--dir selects")
    if verb == "up":
        return _up(request, where, launcher, here)
    if verb in ("env", "hosts"):
        from . import shell
        return shell.env(where) if verb == "env" else shell.hosts(where)
    from . import verbs
    if verb == "add":
        return verbs.add(where, args)
    if verb == "exec":
        return verbs.execute(where, args)
    if verb in TO_GUESTS:
        return verbs.do_to(where, verb, args, request.given.get("--timeout"))
    if verb == "status":
        return verbs.status(where)
    if verb == "down":
        return verbs.down(where)
    raise Misuse(f"{verb}: no such command" if verb else "no command given")


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
        raise Failure(f"cannot write the output: {error.strerror}") from None


def main(argv: list[str], here: str) -> int:
    """`here` is the folder of the program that was called. The caller then ends the process at once:
    output that could not be written is not tried again."""
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
