# SPDX-License-Identifier: mpich2
import os
import unittest
from pathlib import Path
from unittest import mock

from scratch import ScratchTest
from vms import guestfiles, options
from vms.messages import Failure, Misuse
from vms.options import MIB, Options


def given(vms="2", **named):
    return Options(vms, {"--" + name.replace("_", "-"): value for name, value in named.items()}, [], [])


class Numbers(unittest.TestCase):
    def test_defaults(self):
        found = given()
        self.assertEqual((found.vms, found.cpus, found.regions, found.timeout), (2, 1, 1, 180))
        self.assertEqual((found.size, found.memory, found.no_device), (64 * MIB, 512 * MIB, set()))

    def test_sizes(self):
        for text, size in (("4M", 4 * MIB), ("64MB", 64 * MIB), ("64Mi", 64 * MIB), ("0.5G", 512 * MIB),
                           (".5G", 512 * MIB), ("4194304", 4 * MIB), ("4096K", 4 * MIB), ("1T", MIB * MIB)):
            self.assertEqual(given(size=text).size, size)
        self.assertEqual(given(memory="200.0000001M").memory, 200 * MIB + 1)

    def test_wrong_ones(self):
        for name, value, said in (
                ("size", "3M", "power of two"), ("size", "512K", "power of two"),
                ("size", "2M", "4M or more"), ("size", "64Q", "not a size"),
                ("size", "", "not a size"), ("size", ".", "not a size"), ("size", "-64M", "not a size"),
                ("size", "64MiB", "not a size"), ("size", "6４M", "not a size"),
                ("memory", "64M", "128M or more"), ("cpus", "0", "from 1 to 64"), ("cpus", "01", "from 1 to 64"),
                ("regions", "3", "from 1 to 2"), ("no_device", "2", "from 0 to 1"), ("no_device", "0,x", "from 0"),
                ("timeout", "", r"\(nothing\): must be"), ("accel", "xen", "auto, kvm or tcg")):
            with self.assertRaisesRegex(Misuse, said):
                given(**{name: value})
        for wrong in ("", "0", "17", "x", "2\n", "٢"):
            with self.assertRaisesRegex(Misuse, "must be a number from 1 to 16"):
                given(wrong)

    def test_driver(self):
        self.assertIsNone(given().driver)
        self.assertEqual(given(driver="x.ko").driver, "x.ko")
        self.assertIsNone(options.module(None))
        self.assertEqual(options.module(__file__), __file__)
        for wrong in ("/none", os.path.dirname(__file__), ""):
            with self.assertRaisesRegex(Failure, f"--driver {wrong}: no such file"):
                options.module(wrong)

    def test_an_image(self):
        self.assertEqual((given(image="debian").image, given(image="debian").timeout), ("debian", 1200))
        self.assertEqual(given(image="debian", timeout="5").timeout, 5)
        with self.assertRaisesRegex(Misuse, "--driver and --image cannot be combined"):
            given(image="debian", driver="x.ko")

    def test_a_server_has_a_vector_for_each_rank(self):
        self.assertFalse(given().server)
        self.assertEqual((given(server="", cpus="4").server, given(server="", cpus="4").vectors), (True, 4))

    def test_guests_without_a_device(self):
        self.assertEqual(given("3", no_device="0,2").no_device, {0, 2})


class Prefix(ScratchTest):
    def install(self, where: str) -> str:
        for program in ("mpiexec", "hydra_pmi_proxy"):
            os.chmod(self.write(f"{where}/bin/{program}"), 0o755)
        return self.path(where)

    def test_ours_beside_the_tools_or_around_them(self):
        with self.assertRaisesRegex(Failure, f"no MPI installation in {self.scratch}/inst: build it"):
            options.find_prefix("", self.path("bin"))
        self.install("./")
        self.assertEqual(options.find_prefix("", self.path("bin")), self.scratch)
        beside = self.install("inst")
        self.assertEqual(options.find_prefix("", self.path("tools")), beside)

    def test_unsuitable_ones(self):
        with self.assertRaisesRegex(Failure, "is not an MPICH installation"):
            options.find_prefix(self.scratch, "/bin")
        with (mock.patch.object(options, "_is_installation", return_value=True),
              mock.patch.object(options, "own_files", return_value=[])):
            for wrong in ("/", "/usr", "/usr/local/"):
                with self.assertRaisesRegex(Failure, "more than an MPI installation"):
                    options.find_prefix(wrong, "/bin")

    def test_a_shared_one_with_a_list_of_its_files(self):
        self.install("./")
        for name in ("bin/ivshmem", "bin/other", "lib/x/libmpi.so.12", "lib/x/libivshmem-malloc.so.0",
                     "lib/x/libother.so", "include/mpi.h", "share/man/man1/mpiexec.1"):
            self.write(name)
        with mock.patch.object(options, "is_shared", return_value=True):
            with self.assertRaisesRegex(Failure, f"{self.scratch}/share/mpich-ivshmem/mpich-files does not say"):
                options.find_prefix(self.scratch, "/bin")
            self.write("share/mpich-ivshmem/mpich-files", "./bin/mpiexec\n./bin/hydra_pmi_proxy\n./lib/x/libmpi.so.12\n"
                       "./include/mpi.h\n./share/man/man1/mpiexec.1\n./bin/removed\n")
            self.assertEqual(options.find_prefix("", self.path("bin")), self.scratch)
        own = [self.path(name) for name in ("bin/mpiexec", "bin/hydra_pmi_proxy", "lib/x/libmpi.so.12", "bin/ivshmem",
                                            "lib/x/libivshmem-malloc.so.0")]
        self.assertEqual(options.own_files(self.scratch), own)
        with mock.patch.object(guestfiles, "is_shared", return_value=True):
            self.assertEqual(guestfiles._installation(self.scratch), own)
            self.assertEqual(self.linked("shared"), ["hydra_pmi_proxy", "mpiexec"])
            # They are where the guest has its own programs.
            with mock.patch.object(guestfiles.os.path, "realpath", return_value="/usr/bin"):
                self.assertEqual(self.linked("usr"), [])
        # Of its own prefix a guest gets all; the list says where the libraries are.
        self.assertEqual(guestfiles._installation(self.scratch), [self.path("bin"), *own])
        self.assertEqual(self.linked("own"), ["hydra_pmi_proxy", "ivshmem", "mpiexec", "other"])

    def linked(self, tree: str) -> list[str]:
        os.makedirs(self.path(f"{tree}/usr/bin"))
        guestfiles._link_programs(Path(self.path(tree)), self.scratch)
        return sorted(os.listdir(self.path(f"{tree}/usr/bin")))

    def test_paths_to_add_keep_their_links(self):
        os.symlink("file", self.path("link"))
        with self.assertRaisesRegex(Failure, "no such file"):
            options.existing([self.path("link")])
        self.write("file")
        self.assertEqual(options.existing([self.path("link"), "//etc/."]), [self.path("link"), "/etc"])


class Modules(ScratchTest):
    def test_the_driver_is_the_last_whatever_it_is_called(self):
        os.mkdir(self.path("modules"))
        kernels = [self.write("virtio.ko", "virtio"), self.write("virtio_net.ko")]
        for driver, named in ((None, []), (self.write("mine/virtio.ko", "driver"), ["driver.ko"])):
            guestfiles._copy_modules(Path(self.scratch), kernels, driver)
            order = Path(self.path("modules/order")).read_text(encoding="utf-8").split()
            self.assertEqual(order, ["virtio.ko", "virtio_net.ko", *named])
        self.assertEqual([Path(self.path(f"modules/{name}.ko")).read_text(encoding="utf-8")
                          for name in ("virtio", "driver")], ["virtio", "driver"])


class Programs(unittest.TestCase):
    def test_missing_ones_are_named_once_with_their_packages(self):
        with mock.patch.object(options.commands, "find", side_effect=lambda program: program == "cpio"):
            said = ("missing: qemu-system-x86_64 ssh ssh-keygen busybox dropbear dbclient; "
                    "on Debian, as root: apt-get install qemu-system-x86 openssh-client busybox-static dropbear-bin$")
            with self.assertRaisesRegex(Failure, said):
                options.check_programs(options.PROGRAMS)
