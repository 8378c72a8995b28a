# SPDX-License-Identifier: mpich2
import os
import tarfile
from unittest import mock

from scratch import ScratchTest
from vms import image, settings
from vms.messages import Failure

STATUS = """Package: libmpich12
Status: install ok installed
Version: 4.0.2-3

Package: mpich-ivshmem
Status: {status}
Description: MPI
 Version: 7
Version: {version}

Package: zlib1g
Status: install ok installed
Version: 1:1.2.13
"""
INSTALLED = "install ok installed"


class Image(ScratchTest):
    def debs(self, *names: str) -> str:
        for name in names:
            self.write(f"debs/{name}.deb")
        return self.path("debs")

    def test_packages_that_guests_need(self):
        said = f"--packages {self.path('debs')}: there is no package mpich-ivshmem: make deb"
        with self.assertRaisesRegex(Failure, said):
            image._chosen(self.debs())
        some = self.debs("mpich-ivshmem_1_amd64", "mpich-ivshmem-doc_1_all", "ivshmem-tools_1_amd64",
                         "ivshmem-dkms_1_all", "ivshmem-guest_1_all", "libivshmem0_1_amd64", "libivshmem-dev_1_amd64")
        self.assertEqual([os.path.basename(path).split("_")[0] for path in image._chosen(some)],
                         ["mpich-ivshmem", "ivshmem-tools", "ivshmem-guest", "libivshmem0"])
        with self.assertRaisesRegex(Failure, "there are 2 packages ivshmem-tools, of several versions: leave one"):
            image._chosen(self.debs("ivshmem-tools_2_amd64"))

    def test_version_of_what_is_installed(self):
        for version, expected in (("0.2.0-0local1", "0.2.0"), ("1:0.2.0~rc1-1+b2", "0.2.0~rc1"), ("0.2.0", "0.2.0")):
            self.assertEqual(image._version(STATUS.format(status=INSTALLED, version=version)), expected)
        self.assertEqual(image._version(STATUS.format(status="deinstall ok config-files", version="1-1")), "")
        self.assertEqual(image._version(""), "")

    def check(self, lacks: str = "", version: str = "0.2.0-1") -> None:
        def ask(_file, command):
            if command.startswith("cat"):
                return STATUS.format(status=INSTALLED, version=version).encode()
            return b"" if lacks and lacks in command else b"Inode: 1   Type: regular"

        said = mock.Mock(output=b"ivshmem (mpich-ivshmem) 0.2.0, region layout version 9\n")
        with mock.patch.object(image, "_ask", ask), mock.patch.object(image.commands, "run", lambda _command: said):
            image.check(self.write("image"), "/prefix")

    def test_what_is_not_usable_says_why(self):
        self.check()
        for lacks, said in (("/boot/vmlinuz", "not an image that"), ("ready.service", "not an image that"),
                            ("sshd", "no ssh server"), ("/prefix/bin/hydra_pmi_proxy", "it has no MPI in /prefix")):
            with self.assertRaisesRegex(Failure, said):
                self.check(lacks)
        said = "has mpich-ivshmem 0.1.9, and /prefix on this machine 0.2.0: .*same release"
        with self.assertRaisesRegex(Failure, said):
            self.check(version="0.1.9-1")

    def test_only_root_makes_one(self):
        with mock.patch.object(image.os, "geteuid", return_value=1000), self.assertRaisesRegex(Failure, "only root"):
            image.make(self.path("image"), None, "")
        self.assertEqual(os.listdir(self.scratch), [])


class Settings(ScratchTest):
    def test_secrets_are_their_users(self):
        folder = self.folder()
        for name in ("key", "key.pub", "hosts"):
            self.write(f"set/{name}", name + "\n")
        settings.write(folder, 1, 3)
        with tarfile.open(folder.of_guest(1, "settings")) as tar:
            found = {member.name: (member.uname, member.mode) for member in tar}
            links = tar.extractfile("etc/systemd/network/vm2.network").read().decode()
        self.assertEqual([found[f"home/mpi/.ssh{name}"] for name in ("", "/id_ed25519", "/authorized_keys")],
                         [("mpi", 0o700), ("mpi", 0o600), ("mpi", 0o600)])
        self.assertEqual(found["root/.ssh"], ("root", 0o700))
        self.assertEqual(found["etc/ssh/ssh_host_ed25519_key"], ("root", 0o600))
        self.assertEqual(found["usr/local/bin/preflight"], ("root", 0o755))
        self.assertEqual([name for name in ("vm0", "vm1", "vm2") if f"etc/systemd/network/{name}.network" in found],
                         ["vm0", "vm2"])
        self.assertIn("MACAddress=52:54:00:4d:01:02\n", links)
        self.assertIn("Address=10.77.0.2/32\nPeer=10.77.0.3/32\n", links)
