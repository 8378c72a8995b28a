# SPDX-License-Identifier: mpich2
"""`up`: boots guests and checks that they work, or removes everything again."""
import signal
import time

from . import (access, booting, guestfiles, image, interrupts, kernel, machine, options, regions, removal, servers,
               settings, verbs)
from .folder import Folder
from .messages import quoted, say


def _names(vms: int) -> str:
    return "vm0" if vms == 1 else f"vm0 to vm{vms - 1}"


def _parts(folder: Folder, given: options.Options, prefix: str, paths: list[str]) -> machine.Parts:
    if given.image:
        for guest in range(given.vms):
            settings.write(folder, guest, given.vms)
        return machine.Parts(*image.prepare(given.image, folder, given.vms), paths, given.image)
    found = kernel.find()
    return machine.Parts(found.image, guestfiles.build(folder, given, prefix, found.modules), paths)


def _bring_up(folder: Folder, given: options.Options, prefix: str, began: float) -> None:
    folder.add_note("vms", str(given.vms))
    folder.add_note("prefix", prefix)
    user = image.USER if given.image else "root"
    folder.add_note("user", user)
    regions.check_room(given.size, given.regions, given.memory, given.vms)
    paths = regions.make(folder, given.size, given.regions)
    if given.server:
        servers.start(folder, prefix, paths, given.vectors)
    access.make_key(folder)
    access.write_hosts(folder, given.vms, given.cpus)
    parts = _parts(folder, given, prefix, paths)
    say(f"booting {_names(given.vms)} ({given.acceleration}, {given.size // options.MIB} MiB shared)")
    guests = list(range(given.vms))
    access.write(folder, [machine.first_start(folder, given, parts, guest) for guest in guests], user)
    booting.until_ready(folder, guests, given.timeout)
    end = max(began + given.timeout, time.monotonic() + 1)
    booting.preflight(folder, given.vms, given.timeout, end)
    if given.image and given.add:
        verbs.add(folder, given.add)
    # Ranks on this machine and in guests find the region by the same path, where all have it.
    if given.regions == 1 and not given.no_device:
        folder.add_note("region", paths[0])
        if given.server:
            folder.add_note("server", str(servers.socket(folder, 0)))
    folder.add_note("ready", "1")
    interrupts.check()


def _clean_up(folder: Folder) -> None:
    interrupts.ignore()
    try:
        removal.remove(folder)
    except OSError as error:
        say(f"cannot remove {error.filename or folder}: {error.strerror}")


def up(folder: Folder, given: options.Options, launcher: str, here: str) -> int:
    began = time.monotonic()
    interrupts.note()
    options.check_programs(options.OF_IMAGES if given.image else options.PROGRAMS)
    prefix = options.find_prefix(given.prefix, here)
    if given.image is not None:
        image.check(given.image, prefix)
    given.add = options.existing(given.add)
    given.driver = options.module(given.driver)
    # A message to a pipe that nobody reads any more is an error, which does not leave half a set.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    interrupts.check()
    folder.make()
    try:
        interrupts.check()
        _bring_up(folder, given, prefix, began)
    except BaseException:
        _clean_up(folder)
        raise
    interrupts.restore()
    print(f"""up after {int(time.monotonic() - began)} s: {_names(given.vms)}. To use mpiexec in this shell:
  eval "$({quoted(launcher)} --dir {folder} env)"
  mpiexec -f {folder}/hosts -n {given.vms * given.cpus} hostname""")
    return 0
